//! What came of a measurement: counts, delays, the quality of the server's stamps,
//! all of it again by the time it happened.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use crate::load::stamps::Differences;

/// Delays are kept from 1 ns to 100 s, to three digits.
const DELAY_MAX_NS: u64 = 100_000_000_000;
/// Parts of a measurement's length for which delays and losses are kept apart.
pub const INTERVALS: usize = 50;
/// A request that left later than this after it was meant to is late.
pub const LATE_NS: i64 = 100_000;

/// More of its time at work, and the generator has no more to give.
const BUSY_MAX: f64 = 0.98;

/// Why a datagram is no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum Invalid {
    /// Shorter than a header.
    Short,
    /// Not of mode 4.
    Mode,
    /// Of another version than the request.
    Version,
    /// Its origin names no request of ours, or is no field that its request had.
    Origin,
    /// Signed wrongly, where a signature was wanted.
    Mac,
    /// Receive or transmit stamp zero.
    Stamps,
    /// Not signed, where that was wanted.
    Unsigned,
    /// A crypto-NAK instead of a signature (RFC 5905 section 9.2): the server does not
    /// have the key.
    Nak,
    /// A wrong IPv4 or UDP checksum, where answers are taken before the kernel looks at
    /// those.
    Checksum,
}

impl Invalid {
    /// All, with their names in JSON.
    pub const ALL: [(Self, &'static str); 9] = [
        (Self::Short, "short"),
        (Self::Mode, "mode"),
        (Self::Version, "version"),
        (Self::Origin, "origin"),
        (Self::Mac, "mac"),
        (Self::Stamps, "stamps"),
        (Self::Unsigned, "unsigned"),
        (Self::Nak, "crypto_nak"),
        (Self::Checksum, "checksum"),
    ];
}

/// One part of the measurement's time.
#[derive(Clone, Debug)]
pub struct Interval {
    /// Requests meant for this part that were sent.
    pub sent: u64,
    /// Answers to those.
    pub answered: u64,
    /// Delays of those.
    pub delays_ns: Histogram<u32>,
}

impl Interval {
    fn new() -> Self {
        Self {
            sent: 0,
            answered: 0,
            // Two digits suffice for a curve.
            delays_ns: histogram(2),
        }
    }
}

/// The book-keeping of one measurement.
#[derive(Clone, Debug)]
pub struct Tally {
    /// How long requests were sent.
    pub length_ns: i64,
    /// How many were meant to be sent; none in a closed loop.
    pub meant: Option<u64>,
    /// How many were.
    pub sent: u64,
    /// Of those meant, how many the kernel did not take (a full queue).
    pub refused: u64,
    /// Answers that came in and found no room on our side; among those lost.
    pub overrun: u64,
    /// How many left more than [`LATE_NS`] after they were meant to.
    pub sent_late: u64,
    /// The worst of them.
    pub lateness_max_ns: i64,
    /// Basic answers with the time.
    pub basic: u64,
    /// Interleaved answers with the time.
    pub interleaved: u64,
    /// Requests that asked for an interleaved answer, knowing enough to get one.
    pub asked_interleaved: u64,
    /// Answers of a server that has no time.
    pub unsynchronised: u64,
    /// Kisses of death, by code.
    pub kisses: BTreeMap<[u8; 4], u64>,
    /// Requests without an answer in time.
    pub lost: u64,
    /// Requests whose answers could still have come when the measurement was ended
    /// before its time.
    pub under_way: u64,
    /// Answers that came later than that; their requests are lost.
    pub late: u64,
    /// Second and further answers.
    pub duplicates: u64,
    /// Datagrams that are no answers, by [`Invalid`].
    pub invalid: [u64; Invalid::ALL.len()],
    /// From when a request was meant to leave until its answer's arrival stamp.
    pub delays_ns: Histogram<u64>,
    /// T2 − T1, our kernel's T1.
    pub receive: Differences,
    /// T4 − T3 of basic answers, our kernel's T4.
    pub transmit_basic: Differences,
    /// T4 − T3 where T3 came with the next, interleaved answer.
    pub transmit_interleaved: Differences,
    /// Of the time the generator spent, how much it worked; it waited the rest.
    pub busy_ns: i64,
    /// How long the generator took in all.
    pub spent_ns: i64,
    /// By time.
    pub intervals: Vec<Interval>,
}

impl Tally {
    /// Nothing yet of a measurement that is so long.
    pub fn new(length_ns: i64) -> Self {
        Self {
            length_ns,
            meant: None,
            sent: 0,
            refused: 0,
            overrun: 0,
            sent_late: 0,
            lateness_max_ns: 0,
            basic: 0,
            interleaved: 0,
            asked_interleaved: 0,
            unsynchronised: 0,
            kisses: BTreeMap::new(),
            lost: 0,
            under_way: 0,
            late: 0,
            duplicates: 0,
            invalid: [0; Invalid::ALL.len()],
            delays_ns: histogram(3),
            receive: Differences::default(),
            transmit_basic: Differences::default(),
            transmit_interleaved: Differences::default(),
            busy_ns: 0,
            spent_ns: 0,
            intervals: (0..INTERVALS).map(|_| Interval::new()).collect(),
        }
    }

    /// Adds what another thread did in the same time.
    pub fn merge(&mut self, other: &Self) {
        self.length_ns = self.length_ns.max(other.length_ns);
        self.meant = match (self.meant, other.meant) {
            (Some(a), Some(b)) => Some(a + b),
            _ => None,
        };
        self.sent += other.sent;
        self.refused += other.refused;
        self.overrun += other.overrun;
        self.sent_late += other.sent_late;
        self.lateness_max_ns = self.lateness_max_ns.max(other.lateness_max_ns);
        self.basic += other.basic;
        self.interleaved += other.interleaved;
        self.asked_interleaved += other.asked_interleaved;
        self.unsynchronised += other.unsynchronised;
        for (code, count) in &other.kisses {
            *self.kisses.entry(*code).or_default() += count;
        }
        self.lost += other.lost;
        self.under_way += other.under_way;
        self.late += other.late;
        self.duplicates += other.duplicates;
        for (mine, theirs) in self.invalid.iter_mut().zip(other.invalid) {
            *mine += theirs;
        }
        // Both have the same bounds.
        let _ = self.delays_ns.add(&other.delays_ns);
        self.receive.merge(&other.receive);
        self.transmit_basic.merge(&other.transmit_basic);
        self.transmit_interleaved.merge(&other.transmit_interleaved);
        self.busy_ns += other.busy_ns;
        self.spent_ns += other.spent_ns;
        for (mine, theirs) in self.intervals.iter_mut().zip(&other.intervals) {
            mine.sent += theirs.sent;
            mine.answered += theirs.answered;
            let _ = mine.delays_ns.add(&theirs.delays_ns);
        }
    }

    /// Answers with the time.
    pub fn served(&self) -> u64 {
        self.basic + self.interleaved
    }

    /// Answers of any kind, one for each request.
    pub fn answered(&self) -> u64 {
        self.served() + self.unsynchronised + self.kissed()
    }

    /// Kisses of death of all codes.
    pub fn kissed(&self) -> u64 {
        self.kisses.values().sum()
    }

    /// Datagrams that are no answers.
    pub fn invalid_sum(&self) -> u64 {
        self.invalid.iter().sum()
    }

    /// Requests that were meant to be sent and never were.
    pub fn unsent(&self) -> u64 {
        self.meant
            .map_or(0, |meant| meant.saturating_sub(self.sent))
    }

    /// Requests sent of which it is known what came of them.
    fn settled(&self) -> u64 {
        self.sent.saturating_sub(self.under_way)
    }

    /// Share of the requests sent that had no answer in time, 0 to 1; without those
    /// under way.
    pub fn loss(&self) -> f64 {
        share(self.lost, self.settled())
    }

    /// Share of the same that did not bring an answer worth a request: lost, or a kiss.
    /// 0 to 1.
    pub fn failure(&self) -> f64 {
        share(self.lost + self.kissed(), self.settled())
    }

    /// Requests sent in a second.
    pub fn sent_rate(&self) -> f64 {
        self.sent as f64 * 1e9 / self.length_ns.max(1) as f64
    }

    /// Answers in a second, of any kind.
    pub fn answer_rate(&self) -> f64 {
        self.answered() as f64 * 1e9 / self.length_ns.max(1) as f64
    }

    /// Share of the requests that were meant to be sent and left late or not at all.
    pub fn behind(&self) -> f64 {
        share(
            self.sent_late + self.unsent(),
            self.meant.unwrap_or(self.sent),
        )
    }

    /// Share of its time the generator worked.
    pub fn busy(&self) -> f64 {
        self.busy_ns as f64 / self.spent_ns.max(1) as f64
    }

    /// Did it work all the time? Then it may be why there were no more answers.
    pub fn is_busy(&self) -> bool {
        self.busy() > BUSY_MAX
    }

    /// A delay, in nanoseconds.
    pub fn delayed(&mut self, delay_ns: u64) {
        self.delays_ns.saturating_record(delay_ns.max(1));
    }
}

fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

fn histogram<C: hdrhistogram::Counter>(digits: u8) -> Histogram<C> {
    // Fails only for bounds that make no sense.
    Histogram::new_with_bounds(1, DELAY_MAX_NS, digits).expect("sensible bounds")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_add_up() {
        let mut one = Tally::new(1_000_000_000);
        one.meant = Some(100);
        (one.sent, one.basic, one.lost) = (100, 90, 5);
        one.kisses.insert(*b"RATE", 5);
        one.delayed(1000);
        let mut sum = one.clone();
        sum.merge(&one);
        assert_eq!((sum.sent, sum.meant, sum.answered()), (200, Some(200), 190));
        assert_eq!((sum.loss(), sum.failure()), (0.05, 0.1));
        assert_eq!(sum.delays_ns.len(), 2);
        assert_eq!(sum.sent_rate(), 200.0);
    }
}

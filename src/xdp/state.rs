//! What a reply is made from, apart from the request, as words of `answer.bpf.c`'s
//! state entry. It holds for a few seconds only: a daemon that hangs or died is not
//! answered for.
//!
//! Time is told from CLOCK_TAI, which no leap second touches, by a straight line that is
//! laid anew each time: from an anchor on it to the clock we serve. Whoever sets
//! CLOCK_REALTIME moves CLOCK_TAI with it, beyond the few seconds for which the line is
//! good or by as much as the clock we serve; so no reply tells a time that we did not mean.

use crate::server::rule::RateLimit;
use crate::system::SystemState;
use crate::time::instant::{MonoInstant, WallInstant};
use crate::time::map::ClockMap;
use crate::time::timestamp::{NtpShort, NtpTimestamp};
use crate::wire::packet::{Leap, STRATUM_MAX};
use crate::xdp::layout::{Word, Words};

/// For how long an entry holds: the daemon that renews it each second may be late twice.
pub const VALID_NS: u64 = 3_000_000_000;
/// The most that the rate of the clock we serve may differ from the kernel's, or the
/// product of time and scale would not fit 64 bits.
const RATE_MAX: f64 = 0.1;
/// One second in units of 2^-32 s.
const SECOND: i64 = 1 << 32;
/// ntpd's largest average headway, as in `server/rate`.
const AVERAGE_LOG2_MAX: u8 = 12;

/// The kernel's clocks at one moment, and what is to be made of them.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Clocks {
    /// CLOCK_REALTIME.
    pub real: WallInstant,
    /// CLOCK_TAI − CLOCK_REALTIME in the kernel, seconds; whatever the kernel believes.
    pub tai_offset_s: i32,
    /// CLOCK_MONOTONIC.
    pub mono: MonoInstant,
    /// From CLOCK_REALTIME to the clock we serve.
    pub map: ClockMap,
    /// The next leap of the kernel's, or of the clock we serve.
    pub leap: Option<LeapSecond>,
}

/// A second that is inserted or deleted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LeapSecond {
    /// The moment on CLOCK_REALTIME from which the count is another: midnight, or a
    /// second before it if that second is deleted.
    pub at: WallInstant,
    /// True if a second is inserted, so that the count goes back; false if it is skipped.
    pub inserted: bool,
}

/// How replies are wrapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Envelope {
    /// The host's `net.ipv4.ip_default_ttl`.
    pub ttl: u8,
    /// The host's `net.ipv6.conf.default.hop_limit`.
    pub hop_limit: u8,
    /// Type of service, or traffic class.
    pub tos: u8,
}

impl Default for Envelope {
    /// Linux's own defaults.
    fn default() -> Self {
        Self {
            ttl: 64,
            hop_limit: 64,
            tos: 0,
        }
    }
}

/// All that the program knows of us but its tables.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Entry {
    /// What we tell the world about our time.
    pub state: SystemState,
    /// Where it comes from.
    pub clocks: Clocks,
    /// What `limited` means.
    pub limit: RateLimit,
    /// How replies are wrapped.
    pub envelope: Envelope,
    /// The first row of the access table in force.
    pub table: u32,
}

impl Entry {
    /// As words. The sequence, the seed and the number of sets are for who publishes them.
    ///
    /// # Errors
    /// A sentence, if the clock we serve runs so differently that the program can't follow.
    pub fn words(&self) -> Result<Words, String> {
        let Self { state, clocks, .. } = self;
        let rate = clocks.map.rate.ratio();
        if rate.abs() > RATE_MAX {
            return Err(format!(
                "XDP can't serve a clock that runs {rate:+} faster than the system's"
            ));
        }
        let tai = |real: WallInstant| {
            let offset_ns = i64::from(clocks.tai_offset_s) * 1_000_000_000;
            real.unix_ns().wrapping_add(offset_ns) as u64
        };
        let (leap_tai, leap_units) = match clocks.leap {
            Some(leap) if leap.inserted => (tai(leap.at), -SECOND),
            Some(leap) => (tai(leap.at), SECOND),
            None => (u64::MAX, 0),
        };
        let per_gibi_ns = (1_u64 << 62) as f64 / 1e9;
        let mut words = Words::default();
        let mut set = |word: Word, value: u64| words[word as usize] = value;
        set(Word::AnchorTai, tai(clocks.real));
        set(
            Word::AnchorNtp,
            NtpTimestamp::from_wall(clocks.map.to_local(clocks.real)).bits(),
        );
        set(Word::Scale, (per_gibi_ns * (1.0 + rate)).round() as u64);
        set(Word::Valid, VALID_NS);
        set(Word::LeapTai, leap_tai);
        set(Word::LeapUnits, leap_units as u64);
        set(Word::AnchorMono, clocks.mono.nanos() as u64);
        set(Word::Head, head(state));
        set(
            Word::Refid,
            wire([[0; 4], state.refid.bytes()].as_flattened()),
        );
        let reference = if state.reference == WallInstant::default() {
            NtpTimestamp::ZERO
        } else {
            NtpTimestamp::from_wall(state.reference)
        };
        set(Word::Reference, wire(&reference.bits().to_be_bytes()));
        set(
            Word::Dispersion,
            state.root_dispersion.units().max(0) as u64,
        );
        set(Word::Updated, NtpTimestamp::from_wall(state.updated).bits());
        set(Word::DispersionRate, state.dispersion_rate_scaled());
        set(Word::Table, self.table.into());
        let (limit, interval_ns) = limit(self.limit);
        set(Word::Limit, limit);
        set(Word::Interval, interval_ns);
        set(Word::Drain, drain(self.limit));
        let Envelope {
            ttl,
            hop_limit,
            tos,
        } = self.envelope;
        set(Word::Envelope, word([ttl, hop_limit, tos, 0, 0, 0, 0, 0]));
        Ok(words)
    }
}

fn head(state: &SystemState) -> u64 {
    let leap = if state.is_synchronised() {
        state.leap
    } else {
        Leap::Unknown
    };
    let stratum = if state.stratum < STRATUM_MAX {
        state.stratum
    } else {
        0
    };
    let [a, b, c, d] = NtpShort::from_duration(state.root_delay)
        .bits()
        .to_be_bytes();
    let precision = state.precision.log2() as u8;
    word([leap.bits() << 6, stratum, 0, precision, a, b, c, d])
}

/// As the program, which reads them so, has them in a word.
fn limit(limit: RateLimit) -> (u64, u64) {
    let poll = limit.poll() as u8;
    match limit {
        RateLimit::Headway(headway) => {
            let average = headway.average_log2_s.min(AVERAGE_LOG2_MAX);
            let octets = [0, average, headway.minimum_s, 0, 0, 0, poll, 0];
            (word(octets), 1)
        }
        RateLimit::Bucket(bucket) => {
            let (leak, kod) = (bucket.leak_log2.min(16), bucket.kod_log2.min(16));
            let octets = [1, 0, 0, bucket.burst.max(1), leak, kod, poll, 0];
            let interval_ns = bucket.interval.as_nanos().max(1);
            (word(octets), interval_ns.unsigned_abs())
        }
    }
}

/// A headway's bucket holds seconds, the other's 256ths of a request. The product with
/// ticks of 24 bits fits 64; faster ones drain any bucket at once.
fn drain(limit: RateLimit) -> u64 {
    const TICK_NS: u128 = 15_625_000;
    let drained = match limit {
        RateLimit::Headway(_) => (1 << 32) / 64,
        RateLimit::Bucket(bucket) => {
            let interval_ns = bucket.interval.as_nanos().max(1).unsigned_abs();
            ((TICK_NS * 256) << 32) / u128::from(interval_ns)
        }
    };
    drained.min((1 << 40) - 1) as u64
}

/// Octets from the lowest on.
fn word(octets: [u8; 8]) -> u64 {
    u64::from_le_bytes(octets)
}

/// Eight octets of a packet as the program, which has them so in memory, writes them.
fn wire(octets: &[u8]) -> u64 {
    let octets = octets.first_chunk().expect("eight octets");
    u64::from_ne_bytes(*octets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::rule::{Bucket, Headway};
    use crate::time::duration::NtpDuration;
    use crate::time::units::{Ppm, Precision};
    use crate::wire::refid::RefId;

    const REAL: WallInstant = WallInstant::from_unix_ns(1_800_000_000_123_456_789);

    fn entry() -> Entry {
        Entry {
            state: SystemState {
                leap: Leap::Delete,
                stratum: 2,
                refid: RefId::from_bytes([1, 2, 3, 4]),
                ..SystemState::unsynchronised(Precision::new(-23))
            },
            clocks: Clocks {
                real: REAL,
                tai_offset_s: 37,
                mono: MonoInstant::from_nanos(5),
                map: ClockMap::IDENTITY,
                leap: None,
            },
            limit: RateLimit::default(),
            envelope: Envelope::default(),
            table: 9,
        }
    }

    /// As the program computes it.
    fn served(words: &Words, tai: i64) -> NtpTimestamp {
        let get = |word: Word| words[word as usize];
        let elapsed = (tai as u64).wrapping_sub(get(Word::AnchorTai));
        assert!(elapsed < get(Word::Valid));
        let gained = elapsed.checked_mul(get(Word::Scale)).expect("room") >> 30;
        let leap = if tai as u64 >= get(Word::LeapTai) {
            get(Word::LeapUnits)
        } else {
            0
        };
        let units = get(Word::AnchorNtp).wrapping_add(gained).wrapping_add(leap);
        NtpTimestamp::from_bits(units)
    }

    #[test]
    fn the_line_stays_within_a_nanosecond_of_the_clock_we_serve() {
        let mut entry = entry();
        for rate in [0.0, 100.0, -500.0, 99_999.0] {
            entry.clocks.map = ClockMap {
                anchor_real: REAL - NtpDuration::from_whole_seconds(50),
                anchor_local: REAL,
                rate: Ppm(rate),
            };
            let words = entry.words().expect("words");
            for after_ns in [0, 1, 1_000_000, 999_999_999, VALID_NS as i64 - 1] {
                let real = WallInstant::from_unix_ns(REAL.unix_ns() + after_ns);
                let told = served(&words, real.unix_ns() + 37_000_000_000);
                let exact = NtpTimestamp::from_wall(entry.clocks.map.to_local(real));
                let error = (told - exact).as_nanos();
                assert!(error.abs() <= 1, "{rate} {after_ns}: {error} ns");
            }
        }
        entry.clocks.map.rate = Ppm(200_000.0);
        assert!(entry.words().is_err());
    }

    #[test]
    fn a_leap_second_is_right_on_the_nanosecond() {
        let midnight = WallInstant::from_unix_ns(1_800_057_600_000_000_000);
        for (inserted, at) in [
            (true, midnight),
            (false, midnight - NtpDuration::from_whole_seconds(1)),
        ] {
            let mut entry = entry();
            entry.clocks.real = at - NtpDuration::from_nanos(500_000_000);
            entry.clocks.leap = Some(LeapSecond { at, inserted });
            let words = entry.words().expect("words");
            let tai = at.unix_ns() + 37_000_000_000;
            let second = NtpDuration::from_whole_seconds(if inserted { -1 } else { 1 });
            let exact = NtpTimestamp::from_wall(at);
            let before = served(&words, tai - 1) - exact;
            let from = served(&words, tai) - (exact + second);
            assert!(
                before.is_negative() && before.as_nanos() >= -2,
                "{before:?}"
            );
            assert!(from.as_nanos().abs() <= 1, "{from:?}");
        }
    }

    #[test]
    fn what_is_told_of_us_stands_as_in_a_packet() {
        let mut entry = entry();
        let words = entry.words().expect("words");
        let get = |words: &Words, word: Word| words[word as usize].to_le_bytes();
        assert_eq!(get(&words, Word::Head)[..4], [2 << 6, 2, 0, 0xe9]);
        assert_eq!(get(&words, Word::Refid), [0, 0, 0, 0, 1, 2, 3, 4]);
        assert_eq!(get(&words, Word::Envelope)[..3], [64, 64, 0]);
        assert_eq!(words[Word::Table as usize], 9);
        entry.state.leap = Leap::Unknown;
        entry.state.stratum = STRATUM_MAX;
        let words = entry.words().expect("words");
        assert_eq!(get(&words, Word::Head)[..2], [3 << 6, 0]);
    }

    #[test]
    fn both_kinds_of_limits_have_their_octets() {
        let mut entry = entry();
        let headway = Headway {
            average_log2_s: 40,
            minimum_s: 3,
        };
        let bucket = Bucket {
            interval: NtpDuration::from_whole_seconds(16),
            burst: 0,
            leak_log2: 2,
            kod_log2: 99,
        };
        // A second empties a bucket of seconds by one, and one of an interval of 16 s by 16.
        let drains = |limit| drain(limit) * 64;
        assert_eq!(drains(RateLimit::Headway(headway)), 1 << 32);
        assert_eq!(drains(RateLimit::Bucket(bucket)), 16 << 32);
        let mut limit_of = |limit| {
            entry.limit = limit;
            let words = entry.words().expect("words");
            let octets = words[Word::Limit as usize].to_le_bytes();
            (octets, words[Word::Interval as usize])
        };
        let headway = limit_of(RateLimit::Headway(headway));
        assert_eq!(headway, ([0, 12, 3, 0, 0, 0, 40, 0], 1));
        let bucket = limit_of(RateLimit::Bucket(bucket));
        assert_eq!(bucket, ([1, 0, 0, 1, 2, 16, 4, 0], 16_000_000_000));
    }
}

//! What workers count. Each counts in memory of its own that only it writes, so
//! that counting costs a load and a store; a scrape adds them up.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::daemon::distribution::Distribution;
use crate::daemon::status::ServerCounts;
use crate::linux::ring::Tallies;
use crate::server::verdict::Verdict;
use crate::time::instant::WallInstant;

/// Sub-buckets per power of two, as a power of two: values are known to 1 part in 32.
const FINE_BITS: u32 = 5;
/// Latencies from 2^36 ns (69 s) on share the last bucket.
const LATENCY_BITS: u32 = 36;
const LATENCY_BUCKETS: usize = ((LATENCY_BITS - FINE_BITS + 1) as usize) << FINE_BITS;

/// One worker's counters. Written by that worker alone. Aligned so that no two
/// workers share a cache line (two lines: adjacent ones are fetched in pairs).
#[derive(Debug)]
#[repr(align(128))]
pub struct WorkerCounters {
    verdicts: [AtomicU64; Verdict::COUNT],
    ring: [AtomicU64; RING_EVENTS],
    cards: [AtomicU64; CARD_EVENTS],
    latency: [AtomicU64; LATENCY_BUCKETS],
    latency_sum_ns: AtomicU64,
    control_dropped: AtomicU64,
}

impl Default for WorkerCounters {
    fn default() -> Self {
        Self {
            verdicts: [const { AtomicU64::new(0) }; _],
            ring: [const { AtomicU64::new(0) }; _],
            cards: [const { AtomicU64::new(0) }; _],
            latency: [const { AtomicU64::new(0) }; _],
            latency_sum_ns: AtomicU64::new(0),
            control_dropped: AtomicU64::new(0),
        }
    }
}

impl WorkerCounters {
    /// Counts a request's outcome.
    pub fn count(&self, verdict: &Verdict) {
        add(&self.verdicts[verdict.index()], 1);
    }

    /// Notes how long a request took from its receive stamp until its reply was
    /// handed to the kernel. Negative ones (the clock was stepped) count as zero.
    pub fn note_latency(&self, received: WallInstant, sent: WallInstant) {
        let ns = sent.unix_ns().saturating_sub(received.unix_ns()).max(0) as u64;
        add(&self.latency[bucket_of(ns)], 1);
        add(&self.latency_sum_ns, ns);
    }

    /// A control message found no room with who answers it.
    pub fn note_control_dropped(&self) {
        add(&self.control_dropped, 1);
    }

    /// Takes over what the worker's ring has counted since it was made.
    pub fn set_ring(&self, tallies: &Tallies) {
        for (counter, value) in self.ring.iter().zip(ring_values(tallies)) {
            counter.store(value, Ordering::Relaxed);
        }
    }

    /// Takes over what the worker has counted of cards since it was made.
    pub fn set_cards(&self, counts: &CardCounts) {
        let values = [counts.arrivals, counts.departures, counts.doubted];
        for (counter, value) in self.cards.iter().zip(values) {
            counter.store(value, Ordering::Relaxed);
        }
    }
}

/// What came of the stamps of network cards in a worker. Counts.
#[derive(Clone, Copy, Debug, Default)]
pub struct CardCounts {
    /// Arrivals.
    pub arrivals: u64,
    /// Departures.
    pub departures: u64,
    /// Either, not believed.
    pub doubted: u64,
}

const CARD_EVENT_NAMES: [&str; CARD_EVENTS] = ["arrival", "departure", "doubted"];
const CARD_EVENTS: usize = 3;

/// Names of what the rings count, for a metric's label.
const RING_EVENT_NAMES: [&str; RING_EVENTS] = [
    "rearmed_no_buffers",
    "rearmed_other",
    "send_error",
    "departure",
    "departure_unmatched",
    "send_no_room",
    "departure_lost",
    "overflow",
    "left_over",
    "submit_refused",
];

const RING_EVENTS: usize = 10;

fn ring_values(tallies: &Tallies) -> [u64; RING_EVENTS] {
    let Tallies {
        rearmed_no_buffers,
        rearmed_other,
        send_errors,
        departures,
        departures_unmatched,
        send_no_room,
        departures_lost,
        overflows,
        left_over,
        submit_refused,
    } = *tallies;
    [
        rearmed_no_buffers,
        rearmed_other,
        send_errors,
        departures,
        departures_unmatched,
        send_no_room,
        departures_lost,
        overflows,
        left_over,
        submit_refused,
    ]
}

/// The sum of all workers' counters since the start.
pub fn collect<'a>(workers: impl IntoIterator<Item = &'a WorkerCounters>) -> ServerCounts {
    let mut verdicts = [0; Verdict::COUNT];
    let mut ring = [0; RING_EVENTS];
    let mut cards = [0; CARD_EVENTS];
    let mut latency = [0; LATENCY_BUCKETS];
    let mut latency_sum_ns = 0;
    let mut control_dropped = 0;
    for worker in workers {
        sum(&mut verdicts, &worker.verdicts);
        sum(&mut ring, &worker.ring);
        sum(&mut cards, &worker.cards);
        sum(&mut latency, &worker.latency);
        control_dropped += worker.control_dropped.load(Ordering::Relaxed);
        latency_sum_ns += worker.latency_sum_ns.load(Ordering::Relaxed);
    }
    let latency = latency.into_iter().enumerate();
    ServerCounts {
        requests: Verdict::NAMES.into_iter().zip(verdicts).collect(),
        ring_events: RING_EVENT_NAMES
            .into_iter()
            .zip(ring)
            .chain([("control_dropped", control_dropped)])
            .collect(),
        card_stamps: CARD_EVENT_NAMES.into_iter().zip(cards).collect(),
        latency: Distribution::from_counts(
            latency.map(|(bucket, count)| (top_of(bucket), count)),
            latency_sum_ns,
        ),
        xdp: Vec::new(),
        xdp_passed: Vec::new(),
    }
}

fn sum(into: &mut [u64], counters: &[AtomicU64]) {
    for (total, counter) in into.iter_mut().zip(counters) {
        *total += counter.load(Ordering::Relaxed);
    }
}

/// There is one writer, so no other addition can come between.
fn add(counter: &AtomicU64, n: u64) {
    counter.store(
        counter.load(Ordering::Relaxed).wrapping_add(n),
        Ordering::Relaxed,
    );
}

/// Log-linear: below 2^FINE_BITS every value has a bucket, above every power of
/// two has 2^FINE_BITS.
fn bucket_of(ns: u64) -> usize {
    let ns = ns.min((1 << LATENCY_BITS) - 1);
    let power = (u64::BITS - ns.leading_zeros()).saturating_sub(FINE_BITS + 1);
    ((power as usize) << FINE_BITS) + (ns >> power) as usize
}

/// The longest of the values that fall into `bucket`: no latency is told shorter
/// than it was.
fn top_of(bucket: usize) -> u64 {
    let power = (bucket >> FINE_BITS).saturating_sub(1);
    let least = (bucket - (power << FINE_BITS)) as u64;
    ((least + 1) << power) - 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::verdict::Reason;

    #[test]
    fn buckets_are_narrow_and_in_order() {
        let mut last = 0;
        for ns in (0..64).chain((6..LATENCY_BITS).flat_map(|p| {
            let base = 1_u64 << p;
            [base - 1, base, base + base / 3, base + base / 2]
        })) {
            let bucket = bucket_of(ns);
            assert!(bucket >= last && bucket < LATENCY_BUCKETS, "{ns}");
            last = bucket;
            let told = top_of(bucket);
            assert!(told >= ns && (told - ns) * 32 <= ns, "{ns} reads as {told}");
        }
        assert_eq!(bucket_of(u64::MAX), LATENCY_BUCKETS - 1);
    }

    #[test]
    fn a_scrape_adds_up_the_workers() {
        let workers = [WorkerCounters::default(), WorkerCounters::default()];
        let verdict = Verdict::Drop(Reason::ALL[0]);
        let at_us = |us: i64| WallInstant::from_unix_ns(us * 1000);
        for worker in &workers {
            worker.count(&verdict);
            for us in 1..=100 {
                worker.note_latency(at_us(0), at_us(us));
            }
        }
        workers[1].set_ring(&Tallies {
            send_errors: 7,
            ..Tallies::default()
        });
        workers[0].note_latency(at_us(1), at_us(0));
        let counts = collect(&workers);
        assert_eq!(counts.requests[verdict.index()].1, 2);
        assert_eq!(counts.ring_events[2], ("send_error", 7));
        assert_eq!(counts.latency.count(), 201);
        let median_s = counts.latency.quantile_s(0.5).unwrap();
        assert!((median_s - 50e-6).abs() < 2.5e-6, "{median_s}");
        assert!((counts.latency.sum_s() - 10.1e-3).abs() < 1e-12);
    }
}

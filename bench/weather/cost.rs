//! What a sample costs: time of the processor, and memory for its source.

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use ptntp::client::association::Association;
use ptntp::client::options::SourceOptions;
use ptntp::measurement::Measurement;
use ptntp::mechanisms::Mechanisms;
use ptntp::node::engine::NodeConfig;
use ptntp::node::pool::SourceSpec;
use ptntp::sim::dice::{Dice, Stream};
use ptntp::sim::reference::Reference;
use ptntp::sync::filter::{Filter, Start};
use ptntp::sync::ledger::{Ledger, MonotonicClock};
use ptntp::sync::policy::{SelectPolicy, StepPolicy};
use ptntp::sync::poll::Poll;
use ptntp::time::duration::NtpDuration;
use ptntp::time::instant::{MonoInstant, Now, WallInstant};
use ptntp::time::stamp::StampOrigin;
use ptntp::time::units::{Ppm, Precision};
use ptntp::wire::packet::Leap;
use ptntp::wire::refid::RefId;

use crate::weather::report::{Table, time};
use crate::weather::runs::median;

const SAMPLES: usize = 2000;
/// The best counts: another program may have had the processor.
const ROUNDS: usize = 9;
/// What an update and a source may cost at most.
const UPDATE_MAX_S: f64 = 20e-6;
const SOURCE_MAX: usize = 16 * 1024;

/// Weather whose samples are measured.
struct Kind {
    name: &'static str,
    interval_s: f64,
    base_s: f64,
    /// Mean of the exponential queueing of each way.
    queue_s: f64,
    /// Each second, the clock's frequency takes a step of this standard deviation.
    wander: f64,
    /// The way back takes so much longer, for a hundred samples of every two hundred.
    detour_s: f64,
}

const KINDS: [Kind; 3] = [
    Kind {
        name: "lan",
        interval_s: 16.0,
        base_s: 100e-6,
        queue_s: 15e-6,
        wander: 1e-9,
        detour_s: 0.0,
    },
    Kind {
        name: "wan",
        interval_s: 64.0,
        base_s: 20e-3,
        queue_s: 1e-3,
        wander: 1e-9,
        detour_s: 0.0,
    },
    Kind {
        name: "wan, two routes",
        interval_s: 64.0,
        base_s: 20e-3,
        queue_s: 1e-3,
        wander: 1e-9,
        detour_s: 20e-3,
    },
];

/// Measures both.
pub fn table() -> Table {
    let mut worst_s: f64 = 0.0;
    let mut bytes = 0;
    let rows = KINDS.iter().map(|kind| {
        let samples = samples(kind);
        let rounds: Vec<Round> = (0..ROUNDS).map(|_| round(&samples)).collect();
        let best = |figure: fn(&Round) -> f64| rounds.iter().map(figure).fold(f64::MAX, f64::min);
        let (update_s, estimate_s) = (best(|r| r.update_s), best(|r| r.estimate_s));
        let reference_s = best(|r| r.reference_s);
        worst_s = worst_s.max(update_s + estimate_s);
        bytes = bytes.max(rounds[0].bytes);
        vec![
            kind.name.to_owned(),
            time(update_s),
            time(estimate_s),
            time(reference_s),
            format!("{:.1}", (update_s + estimate_s) / reference_s),
            format!("{} B", rounds[0].bytes),
        ]
    });
    let rows = rows.collect();
    let verdict = |fine: bool| if fine { "met" } else { "MISSED" };
    Table {
        title: "Cost of a sample and of a source".to_owned(),
        head: vec![
            "samples",
            "update",
            "estimate",
            "plain estimator",
            "times that",
            "source",
        ],
        rows,
        foot: vec![format!(
            "Medians of {SAMPLES} samples, the best of {ROUNDS} rounds, with the clock read before \
             and after each. Update and estimate take {} at most, of {}: {}. A source takes {bytes} \
             B, of {SOURCE_MAX} B: {}.",
            time(worst_s),
            time(UPDATE_MAX_S),
            verdict(worst_s < UPDATE_MAX_S),
            verdict(bytes < SOURCE_MAX),
        )],
    }
}

struct Round {
    update_s: f64,
    estimate_s: f64,
    reference_s: f64,
    bytes: usize,
}

fn round(samples: &[Measurement]) -> Round {
    let ledger = Ledger::new(MonoInstant::ZERO, Ppm::ZERO, MonotonicClock::Free);
    let mut filter = Filter::new(Start::default(), Mechanisms::default());
    let mut reference = reference();
    let (mut updates_s, mut estimates_s, mut references_s) = (vec![], vec![], vec![]);
    for sample in samples {
        updates_s.push(timed(|| filter.update(sample, &ledger)));
        estimates_s.push(timed(|| filter.estimate(sample.at, &ledger)));
        let now = Now {
            mono: sample.at,
            wall: WallInstant::from_unix_ns(0),
        };
        references_s.push(timed(|| reference.take(sample, now)));
    }
    Round {
        update_s: median(updates_s),
        estimate_s: median(estimates_s),
        reference_s: median(references_s),
        bytes: filter.bytes() + size_of::<Association>() + size_of::<Poll>(),
    }
}

fn timed<T>(work: impl FnOnce() -> T) -> f64 {
    let before = Instant::now();
    black_box(work());
    before.elapsed().as_secs_f64()
}

fn reference() -> Reference {
    let config = NodeConfig {
        sources: vec![SourceSpec {
            name: "a".to_owned(),
            pool: false,
            most: None,
            options: SourceOptions::default(),
        }],
        local_stratum: None,
        orphan: false,
        step: StepPolicy::default(),
        initial: None,
        select: SelectPolicy::default(),
        mechanisms: Mechanisms::default(),
        steer: true,
        once: false,
        kernel_leaps: true,
        frequency: None,
        frequency_in_force: Ppm::ZERO,
        monotonic: MonotonicClock::Free,
        precision: Precision::new(-29),
        seed: [0; 32],
    };
    let server = SocketAddr::from((Ipv4Addr::LOCALHOST, 123));
    let start = Now {
        mono: MonoInstant::ZERO,
        wall: WallInstant::from_unix_ns(0),
    };
    Reference::new(config, server, 20.0, start)
}

/// Of a clock that nobody corrects.
fn samples(kind: &Kind) -> Vec<Measurement> {
    let mut dice = Dice::new(1, Stream::Clock);
    let (mut offset_s, mut frequency) = (0.0, 0.0);
    let sample = |number: usize| {
        frequency += kind.wander * kind.interval_s.sqrt() * dice.normal();
        offset_s += frequency * kind.interval_s;
        let detour_s = if number / 100 % 2 == 1 {
            kind.detour_s
        } else {
            0.0
        };
        let up_s = kind.base_s + kind.queue_s * dice.exponential();
        let down_s = kind.base_s + kind.queue_s * dice.exponential() + detour_s;
        Measurement {
            offset: NtpDuration::from_seconds(offset_s + (up_s - down_s) / 2.0),
            delay: NtpDuration::from_seconds(up_s + down_s),
            dispersion: NtpDuration::from_nanos(100),
            precision: NtpDuration::from_nanos(60),
            at: MonoInstant::ZERO + NtpDuration::from_seconds(kind.interval_s * number as f64),
            origin: StampOrigin::Kernel,
            interleaved: true,
            leap: Leap::None,
            stratum: 1,
            refid: RefId::INIT,
            root_delay: NtpDuration::ZERO,
            root_dispersion: NtpDuration::ZERO,
        }
    };
    (1..=SAMPLES).map(sample).collect()
}

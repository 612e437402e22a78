//! Stories about the whole way from sample to clock, told in simulated weather: a
//! clock with an error, a walk of frequency and a kernel that rounds, paths with
//! exponential queueing both ways. The same seed gives the same story; it is named
//! when a story ends badly. What is asserted is always the true error.

use crate::measurement::{Measurement, PHI};
use crate::sync::combine::{Combined, combine};
use crate::sync::command::{Applied, ClockCommand};
use crate::sync::discipline::{Discipline, Outcome};
use crate::sync::filter::{Estimate, Filter, Start, Update};
use crate::sync::ledger::{Ledger, MonotonicClock};
use crate::sync::policy::{SelectPolicy, StepPolicy};
use crate::sync::poll::Poll;
use crate::sync::select::{Candidate, Selection, Tally, select};
use crate::time::duration::NtpDuration;
use crate::time::instant::{MonoInstant, Now, WallInstant};
use crate::time::stamp::StampOrigin;
use crate::time::units::{PollExponent, Ppm};
use crate::wire::packet::Leap;
use crate::wire::refid::RefId;

const SEEDS: std::ops::Range<u64> = 1..6;

/// SplitMix64: small, and good enough for weather.
struct Dice(u64);

impl Dice {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.uniform()).ln()
    }

    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }
}

/// A server and the way to it.
#[derive(Clone, Copy)]
struct Path {
    /// Least delay of each way.
    base_s: f64,
    /// Mean of the exponential queueing on each way.
    queueing_s: f64,
    /// Added to the way back alone.
    asymmetry_s: f64,
    /// When that begins.
    asymmetry_from_s: f64,
    /// Error of the server's clock.
    server_error_s: f64,
    minpoll: i8,
    maxpoll: i8,
    /// No replies from..to.
    outage_s: (f64, f64),
}

const LAN: Path = Path {
    base_s: 100e-6,
    queueing_s: 15e-6,
    asymmetry_s: 0.0,
    asymmetry_from_s: 0.0,
    server_error_s: 0.0,
    minpoll: 6,
    maxpoll: 6,
    outage_s: (f64::MAX, f64::MAX),
};

const WAN: Path = Path {
    base_s: 20e-3,
    queueing_s: 1e-3,
    minpoll: 6,
    maxpoll: 10,
    ..LAN
};

/// The machine whose clock is disciplined.
#[derive(Clone, Copy)]
struct Machine {
    /// True minus local at the start; positive: behind.
    offset_s: f64,
    /// How much too fast its oscillator runs.
    fast_ppm: f64,
    /// Random walk of its frequency, ratio per √s.
    wander: f64,
    /// Kernels count frequency in units of this.
    frequency_unit_ppm: f64,
    start: Start,
    steered: bool,
}

const MACHINE: Machine = Machine {
    offset_s: 0.01,
    fast_ppm: 50.0,
    wander: 1e-9,
    frequency_unit_ppm: 1.0 / 65536.0,
    start: Start {
        frequency: Ppm::ZERO,
        frequency_sigma: Ppm(100.0),
    },
    steered: true,
};

struct Source {
    path: Path,
    filter: Filter,
    poll: Poll,
    next_s: f64,
    burst: u32,
}

/// Everything, at the true time `now_s`.
struct World {
    dice: Dice,
    weather: Dice,
    machine: Machine,
    now_s: f64,
    /// Local minus true: negative while the clock is behind.
    error_s: f64,
    /// Monotonic minus true time: slewed with the clock, never stepped.
    mono_error_s: f64,
    /// Of the oscillator.
    fast: f64,
    applied: Ppm,
    sources: Vec<Source>,
    ledger: Ledger,
    discipline: Discipline,
    selection: Selection,
    combined: Option<Combined>,
    steps: u32,
    packets: u32,
    /// Squares of the true error, one a second.
    record: Vec<f64>,
    frequency_record: Vec<f64>,
    broken_bounds: u32,
    panicked: bool,
}

impl World {
    fn new(seed: u64, machine: Machine, paths: &[Path]) -> Self {
        let sources = paths
            .iter()
            .enumerate()
            .map(|(index, &path)| Source {
                path,
                filter: Filter::new(machine.start),
                poll: Poll::new(
                    PollExponent::new(path.minpoll),
                    PollExponent::new(path.maxpoll),
                ),
                next_s: 0.1 * (index + 1) as f64,
                burst: 8,
            })
            .collect();
        let frequency = machine.start.frequency;
        Self {
            dice: Dice(seed),
            weather: Dice(seed ^ 0xabcd_ef01),
            machine,
            now_s: 0.0,
            error_s: -machine.offset_s,
            mono_error_s: 0.0,
            fast: machine.fast_ppm * 1e-6,
            applied: frequency,
            sources,
            ledger: Ledger::new(MonoInstant::ZERO, frequency, MonotonicClock::Slewed),
            discipline: Discipline::new(StepPolicy::default(), frequency),
            selection: Selection::default(),
            combined: None,
            steps: 0,
            packets: 0,
            record: Vec::new(),
            frequency_record: Vec::new(),
            broken_bounds: 0,
            panicked: false,
        }
    }

    fn mono(&self) -> MonoInstant {
        MonoInstant::from_nanos(((self.now_s + self.mono_error_s) * 1e9).round() as i64)
    }

    /// How much too fast the corrected clock runs.
    fn frequency_error(&self) -> f64 {
        (1.0 + self.fast) * (1.0 + self.applied.ratio()) - 1.0
    }

    /// Lets the clock run until `until_s`, ending transients on the way.
    fn run_clock(&mut self, until_s: f64) {
        while self.now_s < until_s {
            let second = self.now_s.floor() + 1.0;
            let timer = self.discipline.deadline().map_or(f64::MAX, |deadline| {
                self.now_s + deadline.since(self.mono()).as_seconds().max(1e-6)
            });
            let next_s = until_s.min(second).min(timer);
            let elapsed_s = next_s - self.now_s;
            let gained_s = elapsed_s * self.frequency_error();
            self.error_s += gained_s;
            self.mono_error_s += gained_s;
            self.now_s = next_s;
            if next_s == second {
                self.fast += self.machine.wander * self.weather.normal();
                self.record.push(self.error_s);
                self.frequency_record.push(self.frequency_error());
                self.check_bound();
            }
            if let Some(command) = self.discipline.on_timer(self.mono()) {
                self.carry_out(command);
            }
        }
    }

    fn check_bound(&mut self) {
        let Some(combined) = &self.combined else {
            return;
        };
        let age_s = self.mono().since(combined.at).as_seconds();
        let bound_s = combined.error_bound.as_seconds() + age_s * combined.dispersion_rate.ratio();
        if self.error_s.abs() > bound_s {
            self.broken_bounds += 1;
        }
    }

    fn carry_out(&mut self, command: ClockCommand) {
        if !self.machine.steered {
            return;
        }
        let mut stepped = NtpDuration::ZERO;
        match command {
            ClockCommand::Step(offset) => {
                self.error_s += offset.as_seconds();
                stepped = offset;
                self.steps += 1;
            }
            ClockCommand::SetFrequency(frequency) => {
                let unit_ppm = self.machine.frequency_unit_ppm;
                self.applied = Ppm((frequency.0 / unit_ppm).round() * unit_ppm);
            }
            ClockCommand::SetStatus(_) => return,
        }
        let applied = Applied {
            now: Now {
                mono: self.mono(),
                wall: WallInstant::from_unix_ns(0),
            },
            stepped,
            frequency: self.applied,
        };
        self.ledger.applied(&applied);
        self.discipline.on_applied(&applied);
    }

    fn run_until(&mut self, until_s: f64) {
        loop {
            let next = (0..self.sources.len())
                .min_by(|&a, &b| self.sources[a].next_s.total_cmp(&self.sources[b].next_s))
                .expect("a world has sources");
            let next_s = self.sources[next].next_s;
            if next_s >= until_s {
                return self.run_clock(until_s);
            }
            self.run_clock(next_s);
            self.ask(next);
        }
    }

    fn ask(&mut self, index: usize) {
        self.packets += 1;
        let path = self.sources[index].path;
        let sent_s = self.now_s;
        let up_s = path.base_s + self.dice.exponential(path.queueing_s);
        let detour_s = if sent_s < path.asymmetry_from_s {
            0.0
        } else {
            path.asymmetry_s
        };
        let down_s = path.base_s + detour_s + self.dice.exponential(path.queueing_s);
        let answered = !(path.outage_s.0..path.outage_s.1).contains(&sent_s);
        if answered {
            let (sent_error_s, sent_mono) = (self.error_s, self.mono());
            self.run_clock(sent_s + up_s + down_s);
            let drift_s = self.error_s - sent_error_s;
            let sample = Measurement {
                offset: NtpDuration::from_seconds(
                    path.server_error_s + (up_s - down_s) / 2.0 - sent_error_s - drift_s / 2.0,
                ),
                delay: NtpDuration::from_seconds(up_s + down_s + drift_s),
                dispersion: NtpDuration::from_seconds(
                    2.0 / f64::from(1 << 24) + (up_s + down_s) * PHI.ratio(),
                ),
                at: sent_mono + self.mono().since(sent_mono).half(),
                origin: StampOrigin::Kernel,
                interleaved: false,
                leap: Leap::None,
                stratum: 1,
                refid: RefId::INIT,
                root_delay: NtpDuration::ZERO,
                root_dispersion: NtpDuration::ZERO,
            };
            self.take(index, &sample);
        }
        let mono = self.mono();
        let source = &mut self.sources[index];
        let interval_s = if source.burst > 1 && answered {
            source.burst -= 1;
            2.0
        } else if answered {
            let exponent = source.poll.update(&source.filter, mono);
            exponent.interval().as_seconds()
        } else {
            source.burst = 8;
            source.poll.restart().interval().as_seconds()
        };
        source.next_s = sent_s + interval_s * (1.0 + 0.01 * self.dice.uniform());
    }

    /// What the node does with a sample.
    fn take(&mut self, index: usize, sample: &Measurement) {
        let verdict = self.sources[index].filter.update(sample, &self.ledger);
        if matches!(verdict, Update::Outlier | Update::Stale) {
            return;
        }
        let now = self.mono();
        let candidates: Vec<Candidate> = (0..self.sources.len())
            .map(|index| Candidate {
                estimate: self.estimate(index),
                fit: true,
                prefer: false,
                noselect: false,
            })
            .collect();
        self.selection = select(&candidates, &SelectPolicy::default(), self.selection.system);
        let Some(combined) = combine(&candidates, &self.selection) else {
            return;
        };
        let outcome = self.discipline.update(&combined, now);
        self.panicked |= matches!(outcome, Outcome::Panic { .. });
        for command in outcome.commands() {
            self.carry_out(command);
        }
        // After a step it is another clock: the bound speaks of what is left.
        let stepped = matches!(outcome, Outcome::Step { .. });
        self.combined = (!stepped).then_some(combined);
    }

    fn estimate(&self, index: usize) -> Option<Estimate> {
        self.sources[index]
            .filter
            .estimate(self.mono(), &self.ledger)
    }

    fn tally(&self, index: usize) -> Tally {
        self.selection.tallies[index]
    }

    /// RMS of the true error from..to.
    fn rms_s(&self, from_s: usize, to_s: usize) -> f64 {
        rms(&self.record[from_s..to_s])
    }

    fn worst_s(&self, from_s: usize, to_s: usize) -> f64 {
        self.record[from_s..to_s]
            .iter()
            .fold(0.0, |worst, e| e.abs().max(worst))
    }

    /// A hand on the clock, and what the node does when it notices.
    fn foreign_step(&mut self, step_s: f64) {
        self.error_s += step_s;
        let now = self.mono();
        self.ledger.reset(now);
        self.sources.iter_mut().for_each(|s| {
            s.filter.reset();
            s.poll.restart();
            s.next_s = self.now_s + 0.1;
            s.burst = 8;
        });
        self.combined = None;
        if let Some(command) = self.discipline.on_foreign_step() {
            self.carry_out(command);
        }
    }
}

fn rms(values: &[f64]) -> f64 {
    (values.iter().map(|v| v * v).sum::<f64>() / values.len() as f64).sqrt()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Tells a story once for each seed, naming the seed if it fails.
fn with_seeds(story: impl Fn(u64) -> f64) -> Vec<f64> {
    SEEDS
        .map(|seed| {
            let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| story(seed)));
            told.unwrap_or_else(|_| panic!("seed {seed}"))
        })
        .collect()
}

/// Half a second and 50 ppm off on a LAN: within 100 µs after a minute, and to
/// stay there; then within 10 µs RMS.
#[test]
fn large_offset() {
    with_seeds(|seed| {
        let machine = Machine {
            offset_s: 0.5,
            ..MACHINE
        };
        let path = Path { minpoll: 4, ..LAN };
        let mut world = World::new(seed, machine, &[path]);
        world.run_until(7200.0);
        let reached = world
            .record
            .iter()
            .rposition(|e| e.abs() > 100e-6)
            .map_or(0, |last| last + 2);
        assert!(reached <= 60, "100 µs after {reached} s");
        assert_eq!(world.steps, 1);
        let rms_s = world.rms_s(600, 7200);
        assert!(rms_s < 10e-6, "RMS {rms_s:e} s");
        assert_eq!(world.broken_bounds, 0);
        rms_s
    });
}

/// The reference weather's row `lan`: the prototype has 3.6 µs at 64 s, chronyd 6.7.
#[test]
fn lan() {
    let told = with_seeds(|seed| {
        let machine = Machine {
            fast_ppm: 10.0,
            ..MACHINE
        };
        let mut world = World::new(seed, machine, &[LAN]);
        world.run_until(40_000.0);
        assert_eq!(world.broken_bounds, 0);
        let frequency = rms(&world.frequency_record[8000..]);
        println!(
            "lan: seed {seed}, {:.2} µs, frequency {frequency:.1e}",
            world.rms_s(8000, 40_000) * 1e6
        );
        world.rms_s(8000, 40_000)
    });
    let rms_s = median(told);
    assert!(rms_s < 5.4e-6, "median RMS {rms_s:e} s");
}

/// The row `wan`: the prototype has 241 µs, polling each 994 s;
/// ours spends about 1.7 times the packets, as its poll policy sees fit.
#[test]
fn wan() {
    let told = with_seeds(|seed| {
        let machine = Machine {
            fast_ppm: 10.0,
            ..MACHINE
        };
        let mut world = World::new(seed, machine, &[WAN]);
        world.run_until(200_000.0);
        assert_eq!(world.broken_bounds, 0);
        println!(
            "wan: seed {seed}, {:.1} µs, frequency {:.1e}, a packet each {:.0} s",
            world.rms_s(40_000, 200_000) * 1e6,
            rms(&world.frequency_record[40_000..]),
            200_000.0 / f64::from(world.packets)
        );
        world.rms_s(40_000, 200_000)
    });
    let rms_s = median(told);
    assert!(rms_s < 300e-6, "median RMS {rms_s:e} s");
}

/// One of four servers is 50 ms off: named a falseticker, never followed.
#[test]
fn falseticker_among_four() {
    with_seeds(|seed| {
        let liar = Path {
            server_error_s: 0.05,
            ..LAN
        };
        let mut world = World::new(seed, MACHINE, &[liar, LAN, LAN, LAN]);
        world.run_until(20_000.0);
        assert_eq!(world.tally(0), Tally::Falseticker);
        let system = (1..4).filter(|&i| world.tally(i) == Tally::System).count();
        assert_eq!(system, 1);
        // It answers first, and still never sets the clock.
        assert_eq!(world.steps, 0);
        assert!(world.worst_s(60, 20_000) < 100e-6);
        let rms_s = world.rms_s(4000, 20_000);
        assert!(rms_s < 4e-6, "RMS {rms_s:e} s");
        assert_eq!(world.broken_bounds, 0);
        rms_s
    });
}

/// One of four is 5 ms off, by less than its root distance: a truechimer to
/// Marzullo, and yet without much weight.
#[test]
fn wrong_within_its_distance() {
    let told = with_seeds(|seed| {
        let off = Path {
            server_error_s: 0.005,
            ..WAN
        };
        let paths = [off, WAN, WAN, WAN].map(|path| Path { maxpoll: 6, ..path });
        let mut world = World::new(seed, MACHINE, &paths);
        world.run_until(60_000.0);
        assert_eq!(world.broken_bounds, 0);
        println!(
            "one-5ms: seed {seed}, {:.0} µs",
            world.rms_s(20_000, 60_000) * 1e6
        );
        world.rms_s(20_000, 60_000)
    });
    let rms_s = median(told);
    assert!(rms_s < 300e-6, "median RMS {rms_s:e} s");
}

/// The row `freq-step`: 1 ppm up or down every two hours. The prototype has
/// 11.6 µs, chronyd 17.5, at 64 s.
#[test]
fn frequency_step() {
    let told = with_seeds(|seed| {
        let machine = Machine {
            fast_ppm: 10.0,
            wander: 1e-10,
            ..MACHINE
        };
        let mut world = World::new(seed, machine, &[LAN]);
        for (hours, step) in (1..)
            .map(|n| 2.0 * f64::from(n))
            .zip([1e-6, -1e-6, 1e-6, 1e-6])
        {
            world.run_until(hours * 3600.0);
            world.fast += step;
        }
        world.run_until(36_000.0);
        assert_eq!(world.steps, 0);
        let settled_s = world.rms_s(34_000, 36_000);
        assert!(
            settled_s < 10e-6,
            "{settled_s:e} s two hours after the last"
        );
        println!(
            "freq-step: seed {seed}, {:.1} µs",
            world.rms_s(6000, 36_000) * 1e6
        );
        world.rms_s(6000, 36_000)
    });
    let rms_s = median(told);
    assert!(rms_s < 15e-6, "median RMS {rms_s:e} s");
}

/// Somebody sets the clock 30 ms, then 5 s wrong: the first is slewed back, the
/// second stepped back at once, and the frequency is not learnt anew.
#[test]
fn foreign_step() {
    with_seeds(|seed| {
        let mut world = World::new(seed, MACHINE, &[LAN]);
        world.run_until(10_000.0);
        let frequency = world.discipline.frequency();
        world.foreign_step(0.03);
        world.run_until(10_120.0);
        assert!(world.error_s.abs() < 100e-6, "{:e} s left", world.error_s);
        let change = (world.discipline.frequency() - frequency).abs();
        assert!(change < Ppm(2.0), "frequency moved by {change}");
        world.run_until(15_000.0);
        world.foreign_step(-5.0);
        world.run_until(15_030.0);
        assert_eq!(world.steps, 1, "no stepout: it was not a source that moved");
        world.run_until(20_000.0);
        assert!(world.worst_s(16_000, 20_000) < 50e-6);
        0.0
    });
}

/// A server is set 20 ms wrong and nobody says so: after a few samples nobody
/// believes it is an outlier any more.
#[test]
fn the_only_server_is_stepped() {
    with_seeds(|seed| {
        let mut world = World::new(seed, MACHINE, &[LAN]);
        world.run_until(10_000.0);
        world.sources[0].path.server_error_s = 0.02;
        world.run_until(10_000.0 + 64.0 * 6.0 + 100.0);
        assert!(
            (world.error_s - 0.02).abs() < 50e-6,
            "{:e} s",
            world.error_s
        );
        0.0
    });
}

/// Three hours without an answer: the learnt frequency holds, the bound stays
/// true, and the return is smooth.
#[test]
fn outage_and_return() {
    with_seeds(|seed| {
        let path = Path {
            outage_s: (20_000.0, 30_800.0),
            ..LAN
        };
        let mut world = World::new(seed, MACHINE, &[path]);
        world.run_until(40_000.0);
        // A walk of 1e-9 alone gives 0.65 ms (one sigma) in three hours.
        assert!(world.worst_s(20_000, 30_800) < 3e-3);
        assert!(world.worst_s(31_000, 40_000) < 50e-6);
        let rms_s = world.rms_s(32_000, 40_000);
        assert!(rms_s < 8e-6, "RMS {rms_s:e} s");
        assert_eq!((world.steps, world.broken_bounds), (0, 0));
        rms_s
    });
}

/// The same noise with and without a hand on the clock: what is known of the
/// undisciplined clock is the same to some nanoseconds, though 0.1 s was slewed away.
#[test]
fn steering_does_not_disturb_the_estimate() {
    with_seeds(|seed| {
        let machine = Machine {
            offset_s: 0.1,
            fast_ppm: 20.0,
            ..MACHINE
        };
        let mut told = [true, false].map(|steered| {
            let mut world = World::new(seed, Machine { steered, ..machine }, &[LAN]);
            world.run_until(4000.0);
            let estimate = world.estimate(0).expect("it was heard");
            let z = estimate.offset + world.ledger.integral_at(estimate.at);
            (z, estimate.offset_sigma)
        });
        told.sort();
        let apart = told[1].0 - told[0].0;
        assert!(apart < NtpDuration::from_nanos(100), "{apart}");
        apart.as_seconds()
    });
}

/// A kernel that knows only tenths of a ppm (as those with coarse ticks do): what
/// was applied is what counts, so it costs no more than the rounding itself.
#[test]
fn quantised_kernel_frequency() {
    with_seeds(|seed| {
        let machine = Machine {
            frequency_unit_ppm: 0.1,
            ..MACHINE
        };
        let mut world = World::new(seed, machine, &[LAN]);
        world.run_until(20_000.0);
        // 0.05 ppm for 64 s is 3.2 µs more at the end of an interval.
        let rms_s = world.rms_s(4000, 20_000);
        assert!(rms_s < 8e-6, "RMS {rms_s:e} s");
        let estimate = world.estimate(0).expect("it was heard");
        let error = (estimate.frequency.ratio() + world.fast).abs();
        assert!(error < 0.1e-6, "frequency off by {error:e}");
        rms_s
    });
}

/// With a drift file the frequency is right before the first sample: the time up
/// to the first long interval's end costs less.
#[test]
fn warm_start() {
    let worst = |start| {
        median(with_seeds(|seed| {
            let mut world = World::new(seed, Machine { start, ..MACHINE }, &[LAN]);
            world.run_until(600.0);
            println!("start: seed {seed}, {:.1} µs", world.worst_s(60, 600) * 1e6);
            world.worst_s(60, 600)
        }))
    };
    let (cold_s, warm_s) = (
        worst(Start::default()),
        worst(Start::from_drift(Start {
            frequency: Ppm(-49.9),
            frequency_sigma: Ppm(0.1),
        })),
    );
    assert!(warm_s < 60e-6 && warm_s < cold_s, "{warm_s:e}, {cold_s:e}");
}

/// The whole round trip's difference hides on one way: no estimate can see it, but
/// the bound holds.
#[test]
fn hidden_asymmetry_stays_within_the_bound() {
    with_seeds(|seed| {
        let path = Path {
            base_s: 1e-6,
            asymmetry_s: 5e-3,
            ..LAN
        };
        let mut world = World::new(seed, MACHINE, &[path]);
        world.run_until(20_000.0);
        assert!(world.error_s.abs() > 2.4e-3);
        assert_eq!(world.broken_bounds, 0);
        0.0
    });
}

/// A way gets longer while the least round trip of before is still remembered: what
/// the samples rest on is what bounds their error.
#[test]
fn a_detour_stays_within_the_bound() {
    for (queueing_s, asymmetry_s) in [(15e-6, 5e-3), (15e-6, 60e-6), (1e-6, 5e-3)] {
        with_seeds(|seed| {
            let path = Path {
                asymmetry_s,
                asymmetry_from_s: 10_000.0,
                queueing_s,
                ..LAN
            };
            let mut world = World::new(seed, MACHINE, &[path]);
            world.run_until(20_000.0);
            assert!(world.worst_s(10_000, 20_000) > 0.4 * asymmetry_s);
            let broken = world.broken_bounds;
            assert_eq!(broken, 0, "seed {seed}, {asymmetry_s} s: seconds broken");
            0.0
        });
    }
}

/// Beyond the panic limit nothing is touched.
#[test]
fn panic_limit() {
    let machine = Machine {
        offset_s: 2000.0,
        ..MACHINE
    };
    let mut world = World::new(1, machine, &[LAN]);
    world.run_until(60.0);
    assert!(world.panicked);
    assert_eq!(world.steps, 0);
}

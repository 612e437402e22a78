//! The client's oscillator and the kernel's clock above it: what `daemon/clock` and
//! `linux/timex` do to the real one (adjtimex(2)), done to a simulated one, whose
//! true error is known.

use crate::sim::dice::{Dice, Stream};
use crate::sim::scenario::{ClockSpec, StampSpec};
use crate::sync::command::{Applied, ClockCommand};
use crate::time::duration::NtpDuration;
use crate::time::instant::{MonoInstant, Now, WallInstant};
use crate::time::stamp::Stamp;
use crate::time::units::Ppm;
use crate::wire::packet::Leap;

/// The kernel's resolution of frequencies: 2^-16 ppm.
const FREQUENCY_STEPS_PER_PPM: f64 = 65536.0;
/// The most it corrects.
const FREQUENCY_MAX: Ppm = Ppm(500.0);

/// However long it wanders, it goes forwards.
const NATURAL_MAX: f64 = 0.1;

const SECOND_NS: i64 = 1_000_000_000;
const DAY_NS: i64 = 86_400 * SECOND_NS;

/// A clock at the true time `at_ns` after the start.
#[derive(Debug)]
pub struct Clock {
    spec: ClockSpec,
    start: WallInstant,
    at_ns: i64,
    /// What it gained on true time by running fast, initial offset included.
    gained_s: f64,
    /// The same for CLOCK_MONOTONIC, which is slewed alike and never stepped.
    mono_gained_s: f64,
    /// Steps by whomever, leap seconds included.
    stepped_ns: i64,
    /// Of the bare oscillator: what walks and steps, without the sine.
    walk: f64,
    /// The same with the sine, for the second that runs.
    natural: f64,
    correction: Ppm,
    armed: Leap,
    dice: Dice,
    turns: u32,
}

impl Clock {
    /// As it is at the start.
    pub fn new(spec: ClockSpec, start: WallInstant, seed: u64) -> Self {
        let mut clock = Self {
            spec,
            start,
            at_ns: 0,
            gained_s: spec.offset_s,
            mono_gained_s: 0.0,
            stepped_ns: 0,
            walk: spec.frequency.ratio(),
            natural: 0.0,
            correction: Ppm::ZERO,
            armed: Leap::None,
            dice: Dice::new(seed, Stream::Clock),
            turns: 0,
        };
        clock.set_natural();
        clock
    }

    /// Lets it run until `to_ns`, which lies within the second that runs.
    pub fn advance(&mut self, to_ns: i64) {
        let elapsed_s = (to_ns - self.at_ns) as f64 * 1e-9;
        let gained_s = elapsed_s * self.rate();
        self.gained_s += gained_s;
        self.mono_gained_s += gained_s;
        self.at_ns = to_ns;
    }

    /// A second is over: the oscillator wanders.
    pub fn tick(&mut self) {
        self.walk += self.spec.wander * self.dice.normal();
        if let Some(steps) = self.spec.steps {
            let every = (steps.every_s.round() as i64).max(1);
            if (self.at_ns / SECOND_NS) % every == 0 {
                let up = if steps.random {
                    self.dice.uniform() <= 0.5
                } else {
                    self.turns.is_multiple_of(2)
                };
                self.turns += 1;
                self.walk += if up { 1.0 } else { -1.0 } * steps.by.ratio();
            }
        }
        self.set_natural();
    }

    /// The sine as it is in the middle of the second.
    fn set_natural(&mut self) {
        let middle_s = self.at_ns as f64 * 1e-9 + 0.5;
        let sine = self.spec.sine.map_or(0.0, |sine| sine.at(middle_s));
        self.walk = self.walk.clamp(-NATURAL_MAX, NATURAL_MAX);
        self.natural = self.walk + sine;
    }

    /// How much too fast it runs, corrections and slews included: the frequency error.
    pub fn rate(&self) -> f64 {
        (1.0 + self.natural) * (1.0 + self.correction.ratio()) - 1.0
    }

    /// Local minus true time, of which `utc_shift_ns` were leap seconds.
    pub fn error_s(&self, utc_shift_ns: i64) -> f64 {
        self.gained_s + (self.stepped_ns - utc_shift_ns) as f64 * 1e-9
    }

    /// Both clocks, now.
    pub fn now(&self) -> Now {
        Now {
            mono: MonoInstant::from_nanos(self.at_ns + to_ns(self.mono_gained_s)),
            wall: WallInstant::from_unix_ns(
                self.start.unix_ns() + self.at_ns + to_ns(self.gained_s) + self.stepped_ns,
            ),
        }
    }

    /// The true time at which the monotonic clock reads `at`, at today's rate; no
    /// earlier than now.
    pub fn when_mono(&self, at: MonoInstant) -> i64 {
        if at == MonoInstant::MAX {
            return i64::MAX;
        }
        self.after_local_ns(at.nanos() - self.now().mono.nanos())
    }

    /// The true time at which the clock takes the leap second it was told of, at
    /// today's rate.
    pub fn when_leap(&self) -> i64 {
        let early_ns = match self.armed {
            Leap::Insert => 0,
            // 23:59:59 does not happen.
            Leap::Delete => SECOND_NS,
            Leap::None | Leap::Unknown => return i64::MAX,
        };
        let wall_ns = self.now().wall.unix_ns();
        self.after_local_ns(DAY_NS - (wall_ns + early_ns).rem_euclid(DAY_NS))
    }

    /// The kernel's second_overflow(): takes the leap second, and is done with it.
    pub fn leap(&mut self) -> NtpDuration {
        let by_ns = match std::mem::replace(&mut self.armed, Leap::None) {
            Leap::Insert => -SECOND_NS,
            Leap::Delete => SECOND_NS,
            Leap::None | Leap::Unknown => 0,
        };
        self.stepped_ns += by_ns;
        NtpDuration::from_nanos(by_ns)
    }

    fn after_local_ns(&self, local_ns: i64) -> i64 {
        let ns = local_ns.max(0) as f64 / (1.0 + self.rate());
        self.at_ns.saturating_add(ns.ceil() as i64)
    }

    /// Another hand moves it.
    pub fn step(&mut self, by: NtpDuration) {
        self.stepped_ns += by.as_nanos();
    }

    /// The oscillator jumps.
    pub fn step_frequency(&mut self, by: Ppm) {
        self.walk += by.ratio();
        self.set_natural();
    }

    /// Does what the node asks; what was really done, unless it was only words.
    pub fn apply(&mut self, command: ClockCommand) -> Option<Applied> {
        let mut stepped = NtpDuration::ZERO;
        match command {
            ClockCommand::Step(by) => {
                // Kernels step by whole nanoseconds.
                stepped = NtpDuration::from_nanos(by.as_nanos());
                self.step(stepped);
            }
            ClockCommand::SetFrequency(to) => {
                let steps = to.clamp_to(FREQUENCY_MAX).0 * FREQUENCY_STEPS_PER_PPM;
                self.correction = Ppm(steps.round() / FREQUENCY_STEPS_PER_PPM);
            }
            ClockCommand::SetStatus(status) => {
                self.armed = status.leap;
                return None;
            }
        }
        Some(Applied {
            now: self.now(),
            stepped,
            frequency: self.correction,
        })
    }
}

fn to_ns(seconds: f64) -> i64 {
    (seconds * 1e9).round() as i64
}

/// Takes stamps of a clock, with their noise.
#[derive(Debug)]
pub struct Stamper {
    spec: StampSpec,
    dice: Dice,
}

impl Stamper {
    /// As the scenario says.
    pub fn new(spec: StampSpec, seed: u64) -> Self {
        Self {
            spec,
            dice: Dice::new(seed, Stream::Stamps),
        }
    }

    /// What the next stamp is off by: T1 too early, T4 too late.
    pub fn noise_s(&mut self, at_s: f64) -> f64 {
        self.spec.noise.draw(at_s, &mut self.dice)
    }

    /// A stamp `off_s` from `at`.
    pub fn stamp(&self, at: WallInstant, off_s: f64) -> Stamp {
        let ns = at.unix_ns() + to_ns(off_s);
        let read = WallInstant::from_unix_ns(ns - ns.rem_euclid(self.spec.quantum_ns));
        Stamp::exact(read, self.spec.origin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::scenario::Sine;
    use crate::sync::command::ClockStatus;

    const START: WallInstant = WallInstant::from_unix_ns(1_924_977_600 * SECOND_NS);

    fn run(clock: &mut Clock, seconds: i64) {
        for _ in 0..seconds {
            clock.advance(clock.at_ns + SECOND_NS);
            clock.tick();
        }
    }

    #[test]
    fn it_gains_by_its_frequency_and_obeys_as_kernels_do() {
        let spec = ClockSpec {
            offset_s: 0.01,
            frequency: Ppm(10.0),
            ..ClockSpec::default()
        };
        let mut clock = Clock::new(spec, START, 1);
        run(&mut clock, 100);
        assert!((clock.error_s(0) - 0.011).abs() < 1e-12);
        let applied = clock.apply(ClockCommand::SetFrequency(Ppm(-10.000_001)));
        assert_eq!(applied.map(|a| a.frequency), Some(Ppm(-10.0)));
        assert!(clock.rate().abs() < 1e-9);
        let applied = clock.apply(ClockCommand::SetFrequency(Ppm(900.0)));
        assert_eq!(applied.map(|a| a.frequency), Some(Ppm(500.0)));
        let mono = clock.now().mono;
        let step = NtpDuration::from_seconds(-0.011);
        clock.apply(ClockCommand::Step(step));
        assert!(clock.error_s(0).abs() < 1e-9);
        assert_eq!(clock.now().mono, mono, "never stepped");
    }

    #[test]
    fn a_deadline_is_met_and_not_missed() {
        let spec = ClockSpec {
            frequency: Ppm(-37.7),
            ..ClockSpec::default()
        };
        let mut clock = Clock::new(spec, START, 1);
        let deadline = MonoInstant::from_nanos(777_777_777);
        clock.advance(clock.when_mono(deadline));
        let late = clock.now().mono - deadline;
        assert!(!late.is_negative() && late < NtpDuration::from_nanos(3));
    }

    #[test]
    fn a_sine_comes_back_to_where_it_was() {
        let spec = ClockSpec {
            sine: Some(Sine {
                amplitude: 1e-6,
                period_s: 3600.0,
            }),
            ..ClockSpec::default()
        };
        let mut clock = Clock::new(spec, START, 1);
        run(&mut clock, 1800);
        let half = 1e-6 * 3600.0 / std::f64::consts::PI;
        assert!((clock.error_s(0) / half - 1.0).abs() < 1e-5);
        run(&mut clock, 1800);
        assert!(clock.error_s(0).abs() < 1e-12);
    }

    #[test]
    fn it_takes_the_leap_second_it_was_told_of() {
        let mut clock = Clock::new(ClockSpec::default(), START, 1);
        assert_eq!(clock.when_leap(), i64::MAX);
        clock.apply(ClockCommand::SetStatus(ClockStatus {
            synchronised: true,
            leap: Leap::Insert,
            error_max: NtpDuration::ZERO,
            error_estimate: NtpDuration::ZERO,
            tai_offset: None,
        }));
        assert_eq!(clock.when_leap(), 4 * 3600 * SECOND_NS);
        run(&mut clock, 4 * 3600);
        assert_eq!(clock.leap(), NtpDuration::from_whole_seconds(-1));
        assert_eq!(clock.error_s(-SECOND_NS), 0.0);
        assert_eq!(clock.when_leap(), i64::MAX);
    }
}

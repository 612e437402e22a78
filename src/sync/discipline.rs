//! From the combined estimate to commands for the clock (RFC 5905 section 11.3).
//! A departure: the RFC's feedback loop feels its way to the clock's frequency
//! through the offsets that are left over. Ours is told both by the filter, so it
//! sets the frequency outright and adds a transient that slews the whole offset
//! away in a fixed time.

use crate::sync::combine::Combined;
use crate::sync::command::{Applied, ClockCommand};
use crate::sync::policy::StepPolicy;
use crate::time::duration::NtpDuration;
use crate::time::instant::MonoInstant;
use crate::time::units::Ppm;

/// The most the kernel corrects (MAXFREQ in adjtimex(2)), transient included.
const FREQUENCY_MAX: Ppm = Ppm(500.0);

/// An offset is spread over this on a LAN: short enough to be done before the next
/// sample, long enough that the frequency stays as even as it can be known.
const SPREAD_USUAL_S: f64 = 16.0;

/// The least it is spread over, at the start and at very short polls.
const SPREAD_MIN_S: f64 = 4.0;

/// The most, at the longest polls, where haste gains nothing and costs frequency.
const SPREAD_MAX_S: f64 = 256.0;

/// Samples before the clock is first set. With several servers, all have answered
/// before the first of them gets this far, so a falseticker does not set the clock
/// by being first.
const FIRST_SAMPLES: u32 = 3;

/// Below this error a frequency is worth keeping over a restart.
const DRIFT_SIGMA_MAX: Ppm = Ppm(1.0);

/// What an update came to.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Outcome {
    /// Too early to touch the clock.
    Waiting,
    /// The offset is beyond the step threshold; if it stays there for `stepout`
    /// from `since` on, it is stepped. The clock runs on at its frequency.
    Spike {
        /// When it was first beyond.
        since: MonoInstant,
        /// The frequency without a transient, which aims at an offset nobody believes any more.
        frequency: Ppm,
    },
    /// Run at this frequency; it slews the offset away until the deadline.
    Slew {
        /// Base and transient in one.
        frequency: Ppm,
    },
    /// Set the clock, and run at this frequency.
    Step {
        /// To be added to the clock.
        offset: NtpDuration,
        /// Base alone.
        frequency: Ppm,
    },
    /// Beyond what the operator lets us correct: the daemon ends with an error.
    Panic {
        /// What the clock lacks.
        offset: NtpDuration,
    },
}

impl Outcome {
    /// The orders to the clock's driver, in the order in which to carry them out.
    pub fn commands(&self) -> impl Iterator<Item = ClockCommand> + use<> {
        let (step, frequency) = match *self {
            Self::Waiting | Self::Panic { .. } => (None, None),
            Self::Spike { frequency, .. } | Self::Slew { frequency } => (None, Some(frequency)),
            Self::Step { offset, frequency } => (Some(offset), Some(frequency)),
        };
        let step = step.map(ClockCommand::Step);
        step.into_iter()
            .chain(frequency.map(ClockCommand::SetFrequency))
    }
}

/// How far the clock has been brought.
#[derive(Clone, Copy, PartialEq, Debug)]
enum State {
    /// Never set.
    Unset,
    /// Followed closely.
    Sync,
    /// Far off since then, and not yet believed.
    Spike { since: MonoInstant },
}

/// An offset being slewed away.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Transient {
    /// What is to be slewed, from `since` on.
    offset_s: f64,
    since: MonoInstant,
    until: MonoInstant,
}

/// The loop that steers one clock.
#[derive(Clone, Debug)]
pub struct Discipline {
    policy: StepPolicy,
    state: State,
    /// The correction of the clock's own error, without transients.
    base: Ppm,
    base_sigma: Ppm,
    transient: Option<Transient>,
    updated: Option<MonoInstant>,
}

impl Discipline {
    /// Starts with a clock never set, running at `frequency` (the drift file's, or
    /// what the kernel has).
    pub fn new(policy: StepPolicy, frequency: Ppm) -> Self {
        let base = if frequency.0.is_finite() {
            frequency.clamp_to(FREQUENCY_MAX)
        } else {
            Ppm::ZERO
        };
        Self {
            policy,
            state: State::Unset,
            base,
            base_sigma: FREQUENCY_MAX,
            transient: None,
            updated: None,
        }
    }

    /// Decides what to do about `combined`, which speaks of `now`.
    pub fn update(&mut self, combined: &Combined, now: MonoInstant) -> Outcome {
        let (offset, frequency) = (combined.offset, combined.frequency);
        let sigma = combined.frequency_sigma;
        if !frequency.0.is_finite() || !sigma.0.is_finite() {
            return Outcome::Waiting;
        }
        if self.state == State::Unset && combined.samples < FIRST_SAMPLES {
            return Outcome::Waiting;
        }
        if self.is_panic(offset) {
            return Outcome::Panic { offset };
        }
        let elapsed_s = self.updated.map(|last| now.since(last).as_seconds());
        self.updated = Some(now);

        let far = self.policy.threshold.is_some_and(|t| offset.abs() > t);
        let since = match self.state {
            State::Spike { since } => since,
            State::Sync | State::Unset => now,
        };
        match self.state {
            State::Sync | State::Spike { .. } if far && now.since(since) < self.policy.stepout => {
                // Neither offset nor frequency is believed: keep the old ones.
                self.state = State::Spike { since };
                self.transient = None;
                return Outcome::Spike {
                    since,
                    frequency: self.base,
                };
            }
            State::Unset | State::Sync | State::Spike { .. } => self.state = State::Sync,
        }
        self.base = frequency.clamp_to(FREQUENCY_MAX);
        self.base_sigma = sigma;
        if far {
            self.transient = None;
            Outcome::Step {
                offset,
                frequency: self.base,
            }
        } else {
            self.slew(offset, spread_s(elapsed_s), now)
        }
    }

    /// When [`on_timer`](Self::on_timer) has to be called; none: no need.
    pub fn deadline(&self) -> Option<MonoInstant> {
        self.transient.map(|transient| transient.until)
    }

    /// Ends a transient whose time is over.
    pub fn on_timer(&mut self, now: MonoInstant) -> Option<ClockCommand> {
        self.transient.take_if(|transient| transient.until <= now)?;
        Some(ClockCommand::SetFrequency(self.base))
    }

    /// What the driver made of the last order. Kernels round and clamp: a slower
    /// slew gets more time.
    pub fn on_applied(&mut self, applied: &Applied) {
        let rate = (applied.frequency - self.base).ratio();
        if let Some(transient) = &mut self.transient
            && transient.since <= applied.now.mono
        {
            let needed_s = transient.offset_s / rate;
            // A rate that is no number or leads away leaves the plan as it was.
            if needed_s.is_finite() && needed_s > 0.0 {
                transient.until = transient.since + NtpDuration::from_seconds(needed_s);
            }
        }
    }

    /// Somebody else moved the clock: what was being slewed away is void.
    pub fn on_foreign_step(&mut self) -> Option<ClockCommand> {
        self.transient.take()?;
        Some(ClockCommand::SetFrequency(self.base))
    }

    /// The correction of the clock's own error in force, without transients.
    pub fn frequency(&self) -> Ppm {
        self.base
    }

    /// What to write to the drift file; none until it is known well enough.
    pub fn drift(&self) -> Option<Ppm> {
        (self.base_sigma.0 <= DRIFT_SIGMA_MAX.0).then_some(self.base)
    }

    /// Has the clock been set, and is it not far off now?
    pub fn is_settled(&self) -> bool {
        self.state == State::Sync
    }

    fn is_panic(&self, offset: NtpDuration) -> bool {
        let pardoned = self.state == State::Unset && self.policy.first_unlimited;
        !pardoned && self.policy.panic.is_some_and(|limit| offset.abs() > limit)
    }

    /// Base and what takes `offset` away in `spread_s`, or as fast as the kernel can.
    fn slew(&mut self, offset: NtpDuration, spread_s: f64, now: MonoInstant) -> Outcome {
        let offset_s = offset.as_seconds();
        let wanted = self.base + Ppm::from_ratio(offset_s / spread_s);
        let frequency = wanted.clamp_to(FREQUENCY_MAX);
        let needed_s = offset_s / (frequency - self.base).ratio();
        // No offset, or a base that leaves no room to slew in its direction.
        self.transient = (needed_s.is_finite() && needed_s > 0.0).then(|| Transient {
            offset_s,
            since: now,
            until: now + NtpDuration::from_seconds(needed_s),
        });
        Outcome::Slew { frequency }
    }
}

/// The time to spread an offset over, from the time since the last update: all of
/// a short interval (four of them at the shortest polls, which smooths), up to the
/// usual figure; a quarter of a long one.
fn spread_s(elapsed_s: Option<f64>) -> f64 {
    let elapsed_s = elapsed_s.unwrap_or(0.0);
    let short_s = (4.0 * elapsed_s).clamp(SPREAD_MIN_S, SPREAD_USUAL_S);
    short_s.max(elapsed_s / 4.0).min(SPREAD_MAX_S)
}

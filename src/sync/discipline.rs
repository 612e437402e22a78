//! From the combined estimate to commands for the clock (RFC 5905 section 11.3).
//! A departure: the RFC's feedback loop feels its way to the clock's frequency
//! through the offsets that are left over. Ours is told both by the filter, so it
//! sets the frequency outright and adds a transient that slews the whole offset
//! away in a fixed time.

use crate::sync::combine::Combined;
use crate::sync::command::{Applied, ClockCommand};
use crate::sync::filter::Start;
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

/// Below this error a frequency is worth keeping over a restart: it is better than
/// what is said of crystals in general.
const DRIFT_SIGMA_MAX: Ppm = Ppm(10.0);

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
    /// Not set since the start, or since somebody else moved the clock.
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

    /// Somebody else moved the clock: what was being slewed away is void, and the
    /// clock is set anew as at the start. That the sources may be wrong, which
    /// `stepout` guards against, is not the question here. The pardon of `-g` is
    /// for the start alone.
    pub fn on_foreign_step(&mut self) -> Option<ClockCommand> {
        if std::mem::replace(&mut self.state, State::Unset) != State::Unset {
            self.policy.first_unlimited = false;
        }
        self.transient.take()?;
        Some(ClockCommand::SetFrequency(self.base))
    }

    /// The correction of the clock's own error in force, without transients.
    pub fn frequency(&self) -> Ppm {
        self.base
    }

    /// What to write to the drift file; none until it is known well enough.
    pub fn drift(&self) -> Option<Start> {
        (self.base_sigma.0 <= DRIFT_SIGMA_MAX.0).then_some(Start {
            frequency: self.base,
            frequency_sigma: self.base_sigma,
        })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::instant::{Now, WallInstant};
    use crate::wire::packet::Leap;

    fn second(s: i64) -> MonoInstant {
        MonoInstant::from_nanos(s * 1_000_000_000)
    }

    fn combined(offset_s: f64, frequency: Ppm) -> Combined {
        Combined {
            at: MonoInstant::ZERO,
            offset: NtpDuration::from_seconds(offset_s),
            offset_sigma: NtpDuration::ZERO,
            frequency,
            frequency_sigma: Ppm(0.1),
            jitter: NtpDuration::ZERO,
            error_bound: NtpDuration::ZERO,
            error_likely: NtpDuration::ZERO,
            root_delay: NtpDuration::ZERO,
            root_dispersion: NtpDuration::ZERO,
            dispersion_rate: Ppm(1.0),
            stratum: 1,
            leap: Leap::None,
            samples: 8,
        }
    }

    /// A discipline whose clock was set a hundred seconds ago, and is right.
    fn settled(policy: StepPolicy) -> Discipline {
        let mut discipline = Discipline::new(policy, Ppm::ZERO);
        discipline.update(&combined(0.0, Ppm(10.0)), second(-100));
        discipline
    }

    fn slewed(outcome: Outcome) -> Ppm {
        match outcome {
            Outcome::Slew { frequency } => frequency,
            other => panic!("no slew: {other:?}"),
        }
    }

    #[test]
    fn the_first_setting_waits_for_company_and_then_steps() {
        let mut discipline = Discipline::new(StepPolicy::default(), Ppm(3.0));
        let mut early = combined(0.5, Ppm(10.0));
        early.samples = 2;
        assert_eq!(discipline.update(&early, second(0)), Outcome::Waiting);
        assert_eq!(discipline.frequency(), Ppm(3.0));
        assert_eq!(discipline.drift(), None);
        let outcome = discipline.update(&combined(0.5, Ppm(10.0)), second(4));
        let commands: Vec<_> = outcome.commands().collect();
        let expected = [
            ClockCommand::Step(NtpDuration::from_seconds(0.5)),
            ClockCommand::SetFrequency(Ppm(10.0)),
        ];
        assert_eq!(commands, expected);
        assert_eq!(
            discipline.drift().map(|kept| kept.frequency),
            Some(Ppm(10.0))
        );
    }

    #[test]
    fn a_slew_ends_in_time_at_the_base_frequency() {
        let mut discipline = settled(StepPolicy::default());
        // 100 s since the last: a quarter of that.
        let frequency = slewed(discipline.update(&combined(0.0005, Ppm(10.0)), second(0)));
        assert!((frequency.0 - 30.0).abs() < 1e-4, "{frequency}");
        let until = discipline.deadline().expect("a slew");
        assert!(until.since(second(25)).abs() < NtpDuration::from_nanos(10));
        assert_eq!(discipline.on_timer(second(24)), None);
        let end = Some(ClockCommand::SetFrequency(Ppm(10.0)));
        assert_eq!(discipline.on_timer(until), end);
        assert_eq!(discipline.on_timer(second(26)), None);
        assert_eq!(discipline.deadline(), None);
    }

    #[test]
    fn a_kernel_that_does_less_gets_more_time() {
        let mut discipline = settled(StepPolicy::default());
        discipline.update(&combined(0.0005, Ppm(10.0)), second(0));
        let applied = |frequency| Applied {
            now: Now {
                mono: second(0),
                wall: WallInstant::from_unix_ns(0),
            },
            stepped: NtpDuration::ZERO,
            frequency,
        };
        discipline.on_applied(&applied(Ppm(20.0)));
        let until = discipline.deadline().expect("a slew");
        assert!((until.since(second(50))).abs() < NtpDuration::from_seconds(1e-4));
        // Away from the goal, or nowhere: the plan stays.
        for frequency in [Ppm(0.0), Ppm(10.0), Ppm(f64::NAN)] {
            discipline.on_applied(&applied(frequency));
            assert_eq!(discipline.deadline(), Some(until));
        }
    }

    #[test]
    fn a_spike_is_believed_after_stepout() {
        let mut discipline = settled(StepPolicy::default());
        let far = combined(0.2, Ppm(99.0));
        for s in [0, 100, 299] {
            let expected = Outcome::Spike {
                since: second(0),
                frequency: Ppm(10.0),
            };
            assert_eq!(discipline.update(&far, second(s)), expected);
        }
        let outcome = discipline.update(&far, second(300));
        assert!(matches!(outcome, Outcome::Step { .. }), "{outcome:?}");
        // One that goes away by itself leaves no trace.
        discipline.update(&far, second(400));
        slewed(discipline.update(&combined(0.0, Ppm(10.0)), second(500)));
        let outcome = discipline.update(&far, second(700));
        assert!(matches!(outcome, Outcome::Spike { since, .. } if since == second(700)));
    }

    #[test]
    fn without_a_threshold_it_only_slews_at_what_the_kernel_can() {
        let policy = StepPolicy {
            threshold: None,
            ..StepPolicy::default()
        };
        let mut discipline = settled(policy);
        let frequency = slewed(discipline.update(&combined(-49.0, Ppm(10.0)), second(0)));
        assert_eq!(frequency, Ppm(-500.0));
        let needed_s = discipline.deadline().expect("a slew").since(second(0));
        assert!((needed_s.as_seconds() - 49.0 / 510e-6).abs() < 1e-3);
        // A clock at its limit has no room left that way.
        let frequency = slewed(discipline.update(&combined(49.0, Ppm(700.0)), second(1)));
        assert_eq!((frequency, discipline.deadline()), (Ppm(500.0), None));
    }

    #[test]
    fn panic_has_one_pardon() {
        let policy = StepPolicy::default();
        let late = combined(5000.0, Ppm::ZERO);
        let mut strict = Discipline::new(policy, Ppm::ZERO);
        let panic = Outcome::Panic {
            offset: late.offset,
        };
        assert_eq!(strict.update(&late, second(0)), panic);
        let mut pardoned = Discipline::new(
            StepPolicy {
                first_unlimited: true,
                ..policy
            },
            Ppm::ZERO,
        );
        let outcome = pardoned.update(&late, second(0));
        assert!(matches!(outcome, Outcome::Step { .. }));
        assert_eq!(pardoned.update(&late, second(9)), panic);
    }

    #[test]
    fn nonsense_moves_nothing() {
        let mut discipline = settled(StepPolicy::default());
        for nonsense in [f64::NAN, f64::INFINITY] {
            let outcome = discipline.update(&combined(0.0, Ppm(nonsense)), second(0));
            assert_eq!(outcome, Outcome::Waiting);
        }
        let mut endless = settled(StepPolicy {
            threshold: None,
            panic: None,
            ..StepPolicy::default()
        });
        let mut late = combined(0.0, Ppm(10.0));
        late.offset = NtpDuration::MIN;
        let frequency = slewed(endless.update(&late, second(0)));
        assert_eq!(frequency, Ppm(-500.0));
        assert_eq!(
            Discipline::new(StepPolicy::default(), Ppm(f64::NAN)).frequency(),
            Ppm::ZERO
        );
    }
}

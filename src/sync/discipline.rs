//! From the combined estimate to commands for the clock (RFC 5905 section 11.3).
//! A departure: the RFC's feedback loop feels its way to the clock's frequency
//! through the offsets that are left over. Ours is told both by the filter, so it
//! sets the frequency outright and adds a transient that slews the whole offset
//! away. It fades as an exponential does, in steps: of all shapes that one leaves the
//! least error of time for the error of frequency it costs.

use crate::mechanisms::{Mechanism, Mechanisms};
use crate::sync::combine::Combined;
use crate::sync::command::{Applied, ClockCommand};
use crate::sync::filter::Start;
use crate::sync::policy::StepPolicy;
use crate::time::duration::NtpDuration;
use crate::time::instant::MonoInstant;
use crate::time::units::Ppm;

/// The most the kernel corrects (MAXFREQ in adjtimex(2)), transient included.
const FREQUENCY_MAX: Ppm = Ppm(500.0);

/// The offset fades with this part of the time between updates: soon enough that
/// little of it is left at the next, late enough that the frequency stays even.
const FADE_SHARE: f64 = 0.15;

/// Several servers answer in bunches, so it is the mean that counts: the last update's
/// part in it.
const PACE_SHARE: f64 = 0.25;

/// The quickest it fades: at the start, and at the shortest polls, where it smooths.
const FADE_MIN_S: f64 = 2.0;

/// The slowest, at the longest polls.
const FADE_MAX_S: f64 = 256.0;

/// The fading is cut into steps of this part of its time constant...
const FADE_STEP: f64 = 0.5;

/// ...of which there are so many; the last takes all that is left.
const FADE_STEPS: u8 = 6;

/// A drift is not foretold for longer than this.
const DRIFT_AHEAD_MAX_S: f64 = 2048.0;

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
    /// What is left of it at `since`.
    offset_s: f64,
    /// How fast it goes from there on, as a ratio.
    rate: f64,
    /// Time constant of the fading.
    fade_s: f64,
    steps_left: u8,
    since: MonoInstant,
    /// End of this step.
    until: MonoInstant,
}

/// The loop that steers one clock.
#[derive(Clone, Debug)]
pub struct Discipline {
    policy: StepPolicy,
    /// The first setting is by servers of its own, with this threshold and no other limit
    /// (`initstepslew`).
    initial: Option<NtpDuration>,
    mechanisms: Mechanisms,
    state: State,
    /// The correction of the clock's own error, without transients.
    base: Ppm,
    base_sigma: Ppm,
    transient: Option<Transient>,
    updated: Option<MonoInstant>,
    /// Updates so far that had an offset to correct.
    updates: u32,
    /// Offsets beyond the panic limit that were passed over.
    ignored: u32,
    /// Mean time between the last updates.
    pace_s: f64,
}

impl Discipline {
    /// Starts with a clock never set, running at `frequency` (the drift file's, or
    /// what the kernel has).
    pub fn new(policy: StepPolicy, frequency: Ppm, mechanisms: Mechanisms) -> Self {
        let base = if frequency.0.is_finite() {
            frequency.clamp_to(FREQUENCY_MAX)
        } else {
            Ppm::ZERO
        };
        Self {
            policy,
            initial: None,
            mechanisms,
            state: State::Unset,
            base,
            base_sigma: FREQUENCY_MAX,
            transient: None,
            updated: None,
            updates: 0,
            ignored: 0,
            pace_s: 0.0,
        }
    }

    /// Decides what to do about `combined`, which speaks of `now`.
    pub fn update(&mut self, combined: &Combined, now: MonoInstant) -> Outcome {
        let (offset, frequency) = (combined.offset, combined.frequency);
        let sigma = combined.holdover.frequency_sigma;
        if !frequency.0.is_finite() || !sigma.0.is_finite() {
            return Outcome::Waiting;
        }
        if self.state == State::Unset && combined.samples < FIRST_SAMPLES {
            return Outcome::Waiting;
        }
        if self.initial.is_none() && self.is_panic(offset) {
            if self
                .policy
                .panic_ignored
                .is_some_and(|most| self.ignored >= most)
            {
                return Outcome::Panic { offset };
            }
            self.ignored = self.ignored.saturating_add(1);
            return Outcome::Waiting;
        }
        let may_step = self
            .policy
            .step_updates
            .is_none_or(|most| self.updates < most);
        if self.initial.is_none() {
            self.updates = self.updates.saturating_add(1);
        }
        if let Some(last) = self.updated {
            self.pace_s += PACE_SHARE * (now.since(last).as_seconds() - self.pace_s);
        }
        // What the frequency will be halfway to the next update.
        let ahead_s = self.pace_s.min(DRIFT_AHEAD_MAX_S) / 2.0;
        let frequency = frequency + Ppm::from_ratio(combined.drift * ahead_s);
        self.updated = Some(now);

        let far = match self.initial {
            Some(threshold) => offset.abs() >= threshold,
            None => may_step && self.policy.is_far(offset),
        };
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
            let (fade_s, steps) = if self.mechanisms.have(Mechanism::Fading) {
                (fade_s(self.pace_s), FADE_STEPS)
            } else {
                (FADE_MIN_S, 1)
            };
            let frequency = self.slew(offset.as_seconds(), fade_s, steps, now);
            Outcome::Slew { frequency }
        }
    }

    /// The first setting is by servers of its own, which may step an offset from this on,
    /// however large, or is over (none). As it teaches nothing of the servers that come
    /// after it, `stepout` and `panic` look at those alone.
    pub fn set_initial(&mut self, threshold: Option<NtpDuration>) {
        self.initial = threshold;
        self.state = State::Unset;
    }

    /// Other limits, from the next update on. The pardon of `-g` does not come back.
    pub fn set_policy(&mut self, policy: StepPolicy) {
        self.policy = StepPolicy {
            first_unlimited: policy.first_unlimited && self.policy.first_unlimited,
            ..policy
        };
    }

    /// When [`on_timer`](Self::on_timer) has to be called; none: no need.
    pub fn deadline(&self) -> Option<MonoInstant> {
        self.transient.map(|transient| transient.until)
    }

    /// Goes on with a transient, one step further, or ends it.
    pub fn on_timer(&mut self, now: MonoInstant) -> Option<ClockCommand> {
        let Transient {
            offset_s,
            rate,
            fade_s,
            steps_left,
            since,
            ..
        } = self.transient.take_if(|transient| transient.until <= now)?;
        let left_s = offset_s - rate * now.since(since).as_seconds();
        let frequency = if steps_left > 0 && left_s * offset_s > 0.0 {
            self.slew(left_s, fade_s, steps_left, now)
        } else {
            self.base
        };
        Some(ClockCommand::SetFrequency(frequency))
    }

    /// What the driver made of the last order: kernels round and clamp.
    pub fn on_applied(&mut self, applied: &Applied) {
        let rate = (applied.frequency - self.base).ratio();
        if let Some(transient) = &mut self.transient
            && transient.since <= applied.now.mono
            && rate.is_finite()
        {
            transient.rate = rate;
            if transient.steps_left == 0 {
                // The last step ends when all is done.
                transient.until = transient.end(transient.until);
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

    /// What is still being slewed away; positive: the clock is behind.
    pub fn pending(&self, now: MonoInstant) -> NtpDuration {
        self.transient.map_or(NtpDuration::ZERO, |transient| {
            let done_s = transient.rate * now.since(transient.since).as_seconds();
            NtpDuration::from_seconds(transient.offset_s - done_s)
        })
    }

    /// Somebody who knows better than the sources says what the clock lacks: slew it
    /// away, with what is still under way.
    pub fn accumulate(&mut self, offset: NtpDuration, now: MonoInstant) -> ClockCommand {
        let offset_s = (self.pending(now) + offset).as_seconds();
        ClockCommand::SetFrequency(self.slew(offset_s, FADE_MIN_S, FADE_STEPS, now))
    }

    /// Somebody who knows better than the sources says what the clock's own error takes.
    pub fn set_base(&mut self, frequency: Ppm, now: MonoInstant) -> ClockCommand {
        let pending = self.pending(now);
        self.base = frequency.clamp_to(FREQUENCY_MAX);
        self.transient = None;
        self.accumulate(pending, now)
    }

    /// The clock is going to be stepped: nothing is left to be slewed.
    pub fn abandon(&mut self) -> ClockCommand {
        self.transient = None;
        ClockCommand::SetFrequency(self.base)
    }

    /// Offsets beyond this are stepped from now on; none: all are slewed.
    pub fn set_threshold(&mut self, threshold: Option<NtpDuration>) {
        self.policy.set_threshold(threshold);
    }

    /// Is this too much to be slewed?
    pub fn is_far(&self, offset: NtpDuration) -> bool {
        self.policy.is_far(offset)
    }

    fn is_panic(&self, offset: NtpDuration) -> bool {
        let pardoned = self.state == State::Unset && self.policy.first_unlimited
            || self.updates < self.policy.panic_after;
        !pardoned && self.policy.panic.is_some_and(|limit| offset.abs() > limit)
    }

    /// Base and what takes the next part of `offset_s` away, or as much as the kernel can.
    fn slew(&mut self, offset_s: f64, fade_s: f64, steps_left: u8, now: MonoInstant) -> Ppm {
        let steps_left = steps_left - 1;
        let step_s = FADE_STEP * fade_s;
        let part = if steps_left > 0 {
            1.0 - (-FADE_STEP).exp()
        } else {
            1.0
        };
        let wanted = self.base + Ppm::from_ratio(offset_s * part / step_s);
        let frequency = wanted.clamp_to(FREQUENCY_MAX);
        let transient = Transient {
            offset_s,
            rate: (frequency - self.base).ratio(),
            fade_s,
            // What the kernel can't do at once counts as not begun.
            steps_left: if frequency == wanted {
                steps_left
            } else {
                FADE_STEPS
            },
            since: now,
            until: now + NtpDuration::from_seconds(step_s),
        };
        // No offset, or a base that leaves no room to slew in its direction.
        self.transient = (transient.rate * offset_s > 0.0).then_some(transient);
        frequency
    }
}

impl Transient {
    /// When all of the offset will be gone; `otherwise` if it won't.
    fn end(&self, otherwise: MonoInstant) -> MonoInstant {
        let needed_s = self.offset_s / self.rate;
        if needed_s.is_finite() && needed_s > 0.0 {
            self.since + NtpDuration::from_seconds(needed_s)
        } else {
            otherwise
        }
    }
}

/// The time constant of an offset's fading, from the time between updates.
fn fade_s(pace_s: f64) -> f64 {
    (FADE_SHARE * pace_s).clamp(FADE_MIN_S, FADE_MAX_S)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::holdover::Holdover;
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
            drift: 0.0,
            holdover: Holdover {
                frequency_sigma: Ppm(0.1),
                ..Holdover::default()
            },
            jitter: NtpDuration::ZERO,
            error_bound: NtpDuration::ZERO,
            error_likely: NtpDuration::ZERO,
            root_delay: NtpDuration::ZERO,
            root_dispersion: NtpDuration::ZERO,
            stratum: 1,
            leap: Leap::None,
            samples: 8,
        }
    }

    /// A discipline whose clock was set a hundred seconds ago, and is right.
    fn settled(policy: StepPolicy) -> Discipline {
        let mut discipline = Discipline::new(policy, Ppm::ZERO, Mechanisms::default());
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
        let mut discipline =
            Discipline::new(StepPolicy::default(), Ppm(3.0), Mechanisms::default());
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

    fn applied(now: MonoInstant, frequency: Ppm) -> Applied {
        Applied {
            now: Now {
                mono: now,
                wall: WallInstant::from_unix_ns(0),
            },
            stepped: NtpDuration::ZERO,
            frequency,
        }
    }

    /// Carries out a slew as a kernel would that does no more than `limit` beyond the
    /// base: what it came to, how long it took, and in how many steps.
    fn carried_out(discipline: &mut Discipline, outcome: Outcome, limit: Ppm) -> (f64, f64, u32) {
        let (mut now, mut order) = (second(0), slewed(outcome));
        let (mut slewed_s, mut steps) = (0.0, 0);
        while discipline.deadline().is_some() {
            let done = (order - discipline.frequency()).clamp_to(limit);
            discipline.on_applied(&applied(now, discipline.frequency() + done));
            let until = discipline.deadline().expect("a step");
            slewed_s += done.ratio() * until.since(now).as_seconds();
            now = until;
            order = match discipline.on_timer(now) {
                Some(ClockCommand::SetFrequency(frequency)) => frequency,
                other => panic!("{other:?}"),
            };
            steps += 1;
        }
        assert_eq!(
            order,
            discipline.frequency(),
            "without a transient at the end"
        );
        (slewed_s, now.since(second(0)).as_seconds(), steps)
    }

    #[test]
    fn a_slew_fades_and_ends_at_the_base_frequency() {
        let mut discipline = settled(StepPolicy::default());
        let outcome = discipline.update(&combined(0.0005, Ppm(10.0)), second(0));
        let first = slewed(outcome);
        let (slewed_s, took_s, steps) = carried_out(&mut discipline, outcome, Ppm(500.0));
        assert!((slewed_s - 0.0005).abs() < 1e-9, "{slewed_s}");
        // 100 s since the last update, of which a quarter counts at first; six steps of
        // half the time constant of 3.75 s.
        assert!(
            (took_s - 11.25).abs() < 1e-6 && steps == 6,
            "{took_s} s, {steps}"
        );
        assert!(
            (first.0 - 10.0 - 500.0 * 0.3935 / 1.875).abs() < 0.01,
            "{first}"
        );
        assert_eq!(discipline.on_timer(second(99)), None);
    }

    #[test]
    fn a_kernel_that_does_less_gets_more_time() {
        let mut discipline = settled(StepPolicy::default());
        let outcome = discipline.update(&combined(0.0005, Ppm(10.0)), second(0));
        let (slewed_s, took_s, _) = carried_out(&mut discipline, outcome, Ppm(5.0));
        assert!((slewed_s - 0.0005).abs() < 1e-9, "{slewed_s}");
        assert!((took_s - 100.0).abs() < 1e-3, "{took_s}");
        // One that goes the wrong way, or nowhere, is not waited for.
        for frequency in [Ppm(0.0), Ppm(10.0), Ppm(f64::NAN)] {
            discipline.update(&combined(0.0005, Ppm(10.0)), second(0));
            let until = discipline.deadline();
            discipline.on_applied(&applied(second(0), frequency));
            assert_eq!(discipline.deadline(), until);
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
            threshold_back: None,
            ..StepPolicy::default()
        };
        let mut discipline = settled(policy);
        let frequency = slewed(discipline.update(&combined(-49.0, Ppm(10.0)), second(0)));
        assert_eq!(frequency, Ppm(-500.0));
        let outcome = Outcome::Slew { frequency };
        let (slewed_s, took_s, _) = carried_out(&mut discipline, outcome, Ppm(510.0));
        assert!((slewed_s + 49.0).abs() < 1e-6, "{slewed_s}");
        assert!(
            took_s > 49.0 / 510e-6 && took_s < 49.0 / 510e-6 + 100.0,
            "{took_s}"
        );
        // A clock at its limit has no room left that way.
        let frequency = slewed(discipline.update(&combined(49.0, Ppm(700.0)), second(1)));
        assert_eq!((frequency, discipline.deadline()), (Ppm(500.0), None));
    }

    #[test]
    fn forwards_and_backwards_have_limits_of_their_own() {
        let seconds = |s| Some(NtpDuration::from_seconds(s));
        for (ahead, back, offset_s, steps) in [
            (0.5, Some(0.1), 0.3, false),
            (0.5, Some(0.1), 0.6, true),
            (0.5, Some(0.1), -0.3, true),
            (0.1, None, 0.3, true),
            (0.1, None, -0.3, false),
        ] {
            let policy = StepPolicy {
                threshold: seconds(ahead),
                threshold_back: back.and_then(seconds),
                stepout: NtpDuration::ZERO,
                ..StepPolicy::default()
            };
            let outcome = settled(policy).update(&combined(offset_s, Ppm(10.0)), second(0));
            let stepped = matches!(outcome, Outcome::Step { .. });
            assert_eq!(stepped, steps, "{ahead} {back:?} {offset_s}");
        }
    }

    #[test]
    fn the_initial_setting_has_its_own_threshold_and_counts_for_nothing() {
        let policy = StepPolicy {
            threshold: None,
            threshold_back: None,
            panic_after: 1,
            ..StepPolicy::default()
        };
        let late = combined(5000.0, Ppm::ZERO);
        let mut discipline = Discipline::new(policy, Ppm::ZERO, Mechanisms::default());
        discipline.set_initial(Some(NtpDuration::from_whole_seconds(30)));
        let near = combined(29.0, Ppm::ZERO);
        slewed(discipline.update(&near, second(0)));
        discipline.set_initial(Some(NtpDuration::from_whole_seconds(30)));
        let outcome = discipline.update(&late, second(1));
        assert!(matches!(outcome, Outcome::Step { .. }), "{outcome:?}");
        discipline.set_initial(None);
        // The first update, which `maxchange` passes over, is yet to come.
        slewed(discipline.update(&late, second(2)));
        let outcome = discipline.update(&late, second(3));
        assert!(matches!(outcome, Outcome::Panic { .. }), "{outcome:?}");
    }

    #[test]
    fn panic_has_one_pardon() {
        let policy = StepPolicy::default();
        let late = combined(5000.0, Ppm::ZERO);
        let mut strict = Discipline::new(policy, Ppm::ZERO, Mechanisms::default());
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
            Mechanisms::default(),
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
            threshold_back: None,
            panic: None,
            ..StepPolicy::default()
        });
        let mut late = combined(0.0, Ppm(10.0));
        late.offset = NtpDuration::MIN;
        let frequency = slewed(endless.update(&late, second(0)));
        assert_eq!(frequency, Ppm(-500.0));
        assert_eq!(
            Discipline::new(StepPolicy::default(), Ppm(f64::NAN), Mechanisms::default())
                .frequency(),
            Ppm::ZERO
        );
    }
}

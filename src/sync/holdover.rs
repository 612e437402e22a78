//! How wrong a clock can become while nobody is heard: by the error of its
//! frequency as it is known, by the walk that this frequency goes on taking, and
//! by the step that it may take at any time. What we promise grows by this, from
//! one sample to the next and through an outage of days.

use crate::time::duration::NtpDuration;
use crate::time::units::Ppm;

/// How many sigma a promise takes.
pub const PROMISE_SIGMAS: f64 = 4.0;

/// A drift ends: rooms do not become warmer for ever. One sigma of the frequency that it
/// may come to; forty degrees move a plain crystal by some two ppm.
const DRIFTED_MAX: Ppm = Ppm(2.0);

/// What is known of an oscillator's frequency and its habits.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Holdover {
    /// Error of the frequency as known now, one sigma.
    pub frequency_sigma: Ppm,
    /// Random walk of the frequency: a ratio per √s.
    pub wander: f64,
    /// Drift of the frequency, which nobody can foretell for long: a ratio per s.
    pub drift: f64,
    /// Random walk of that drift: a ratio per s per √s.
    pub bend: f64,
    /// The frequency may step by this much at any moment.
    pub step: Ppm,
}

impl Holdover {
    /// What the clock may have gained or lost, within so many `sigmas`, `elapsed` after
    /// the moment that `self` speaks of; none for a time that lies before it.
    pub fn grown(&self, elapsed: NtpDuration, sigmas: f64) -> NtpDuration {
        let t = elapsed.as_seconds().max(0.0);
        let known = (self.frequency_sigma.ratio() * t).powi(2);
        let walked = self.wander.powi(2) * t.powi(3) / 3.0 + self.drifted_var_s2(t);
        NtpDuration::from_seconds(sigmas * (known + walked).sqrt() + self.step.ratio() * t)
    }

    /// How fast it grows just then: for those who are told a rate and not a curve.
    pub fn rate(&self, elapsed: NtpDuration) -> Ppm {
        let t = elapsed.as_seconds().max(0.0);
        Ppm::from_ratio(PROMISE_SIGMAS * self.frequency_var_after(t).sqrt()) + self.step
    }

    /// The same oscillator, `elapsed` later.
    pub fn after(&self, elapsed: NtpDuration) -> Self {
        let t = elapsed.as_seconds().max(0.0);
        Self {
            frequency_sigma: Ppm::from_ratio(self.frequency_var_after(t).sqrt()),
            drift: (self.drift.powi(2) + self.bend.powi(2) * t).sqrt(),
            ..*self
        }
    }

    fn frequency_var_after(&self, t: f64) -> f64 {
        self.frequency_sigma.ratio().powi(2)
            + self.wander.powi(2) * t
            + (self.drift * t).abs().min(DRIFTED_MAX.ratio()).powi(2)
            + (self.bend.powi(2) * t.powi(3) / 3.0).min(DRIFTED_MAX.ratio().powi(2))
    }

    /// Of the time gained or lost by drift and its walk, each of which moves the frequency
    /// no further than [`DRIFTED_MAX`].
    fn drifted_var_s2(&self, t: f64) -> f64 {
        let most = DRIFTED_MAX.ratio();
        // When they have moved it as far as that.
        let until_s = (most / self.drift.abs()).min(t);
        let steady_s = self.drift.abs() * until_s * until_s / 2.0 + most * (t - until_s);
        let until_s = (3.0 * (most / self.bend).powi(2)).cbrt().min(t);
        let bent_s = self.bend.abs() * (until_s.powi(5) / 20.0).sqrt() + most * (t - until_s);
        steady_s * steady_s + bent_s * bent_s
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: NtpDuration = NtpDuration::from_whole_seconds(3600);

    #[test]
    fn it_grows_by_all_three_and_the_rate_is_no_less() {
        let known = Holdover {
            frequency_sigma: Ppm(0.01),
            ..Holdover::default()
        };
        assert_eq!(known.grown(HOUR, PROMISE_SIGMAS).as_nanos(), 144_000);
        let step = Holdover {
            step: Ppm(0.1),
            ..known
        };
        assert_eq!(step.grown(HOUR, PROMISE_SIGMAS).as_nanos(), 504_000);
        let wanders = Holdover {
            wander: 1e-9,
            ..step
        };
        let grown = wanders.grown(HOUR, PROMISE_SIGMAS);
        assert!(grown > step.grown(HOUR, PROMISE_SIGMAS));
        // A rate stated now must carry as far as the next statement.
        let minute = NtpDuration::from_whole_seconds(60);
        let more = wanders.grown(HOUR + minute, PROMISE_SIGMAS) - grown;
        assert!(more <= minute * wanders.rate(HOUR + minute).ratio());
        assert_eq!(wanders.grown(-HOUR, PROMISE_SIGMAS), NtpDuration::ZERO);
        assert!(wanders.after(HOUR).frequency_sigma > wanders.frequency_sigma);
    }

    #[test]
    fn a_drift_ends() {
        // As an air conditioner makes it: half a ppm in a quarter of an hour.
        let drifts = Holdover {
            drift: 5e-10,
            bend: 3e-11,
            ..Holdover::default()
        };
        let grown_s = |t| drifts.grown(NtpDuration::from_seconds(t), 1.0).as_seconds();
        let unended_s = |t: f64| (2.5e-10 * t * t).hypot(3e-11 * (t.powi(5) / 20.0).sqrt());
        assert!((grown_s(600.0) / unended_s(600.0) - 1.0).abs() < 1e-6);
        let day_s = 86_400.0;
        assert!(grown_s(day_s) < 2.0_f64.sqrt() * 2e-6 * day_s);
        // The rate stated at any moment carries as far as the next statement.
        for step in 1..400 {
            let t = NtpDuration::from_seconds(f64::from(step) * 64.0);
            let next = t + NtpDuration::from_seconds(16.0);
            let more = drifts.grown(next, PROMISE_SIGMAS) - drifts.grown(t, PROMISE_SIGMAS);
            let stated = (next - t) * drifts.rate(next).ratio();
            assert!(
                more <= stated + NtpDuration::from_nanos(1),
                "{step}: {more:?}, {stated:?}"
            );
        }
    }
}

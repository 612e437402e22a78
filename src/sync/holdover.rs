//! How wrong a clock can become while nobody is heard: by the error of its
//! frequency as it is known, by the walk that this frequency goes on taking, and
//! by the step that it may take at any time. What we promise grows by this, from
//! one sample to the next and through an outage of days.

use crate::time::duration::NtpDuration;
use crate::time::units::Ppm;

/// How many sigma a promise takes.
pub const PROMISE_SIGMAS: f64 = 4.0;

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
        let walked = self.wander.powi(2) * t.powi(3) / 3.0
            + (self.drift * t * t / 2.0).powi(2)
            + self.bend.powi(2) * t.powi(5) / 20.0;
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
            + (self.drift * t).powi(2)
            + self.bend.powi(2) * t.powi(3) / 3.0
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
}

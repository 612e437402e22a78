//! What the real-time clock gains: a line through its offsets from the system clock.
//! Pure arithmetic: samples in, offset and rate out.

use std::collections::VecDeque;

use crate::time::duration::NtpDuration;
use crate::time::instant::WallInstant;
use crate::time::units::Ppm;

/// At eight minutes from one to the next this is a working day.
const SAMPLES_MAX: usize = 64;
/// An offset off the line by more than this many sigmas, and by
/// [`FOREIGN_MIN_S`] beside, was not made by the clock's own rate.
const FOREIGN_SIGMAS: f64 = 5.0;
/// A late interrupt or a busy machine explains so much.
const FOREIGN_MIN_S: f64 = 0.005;

/// What a clock of which nothing is known may gain: crystals are within that.
const RATE_UNKNOWN: Rate = Rate {
    rate: Ppm(0.0),
    sigma: Ppm(100.0),
};

/// One edge, measured.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Sample {
    /// When, on the system clock.
    pub at: WallInstant,
    /// Real-time clock minus system clock, in seconds; positive: it is ahead.
    pub offset_s: f64,
    /// What the offset may be wrong by, one sigma: the edge's doubt and the system
    /// clock's own error.
    pub sigma_s: f64,
}

/// How fast the clock gains on true time.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Rate {
    /// Positive: it runs fast.
    pub rate: Ppm,
    /// One sigma.
    pub sigma: Ppm,
}

/// The line at one moment.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Fit {
    /// The moment, on the system clock: that of the newest sample.
    pub at: WallInstant,
    /// Real-time clock minus system clock then, in seconds.
    pub offset_s: f64,
    /// How it changes.
    pub rate: Rate,
}

impl Fit {
    /// The offset at another moment, in seconds.
    pub fn offset_at_s(&self, at: WallInstant) -> f64 {
        self.offset_s + (at - self.at).as_seconds() * self.rate.rate.ratio()
    }
}

/// What became of a sample.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Added {
    /// It belongs to the line.
    Kept,
    /// It lies so far off that the next one has to confirm it.
    Doubted,
    /// It confirms that somebody else set the clock: the line begins anew.
    Restarted,
}

/// The samples, and what was known of the rate before them.
#[derive(Clone, Debug)]
pub struct Line {
    samples: VecDeque<Sample>,
    before: Rate,
    doubted: Option<Sample>,
}

impl Line {
    /// A line without samples. `before`: the rate as an earlier run left it.
    pub fn new(before: Option<Rate>) -> Self {
        Self {
            samples: VecDeque::new(),
            before: before.unwrap_or(RATE_UNKNOWN),
            doubted: None,
        }
    }

    /// How many samples it rests on.
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// Has it no samples?
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// From the first of them to the last.
    pub fn span(&self) -> NtpDuration {
        let ends = self.samples.front().zip(self.samples.back());
        ends.map_or(NtpDuration::ZERO, |(first, last)| last.at - first.at)
    }

    /// One more sample, newer than all.
    pub fn add(&mut self, sample: Sample) -> Added {
        let off = |from: f64| (sample.offset_s - from).abs();
        if let Some(fit) = self.fit() {
            let ahead_s = (sample.at - fit.at).as_seconds();
            let sigma_s = sample.sigma_s + ahead_s * fit.rate.sigma.ratio();
            let limit_s = FOREIGN_MIN_S + FOREIGN_SIGMAS * sigma_s;
            if off(fit.offset_at_s(sample.at)) > limit_s {
                let confirmed = self.doubted.is_some_and(|doubted| {
                    off(doubted.offset_s) < FOREIGN_MIN_S + FOREIGN_SIGMAS * doubted.sigma_s
                });
                if !confirmed {
                    self.doubted = Some(sample);
                    return Added::Doubted;
                }
                self.forget();
                self.samples.push_back(sample);
                return Added::Restarted;
            }
        }
        self.doubted = None;
        if self.samples.len() == SAMPLES_MAX {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
        Added::Kept
    }

    /// The clock was set by us: all that was measured before would now be more by
    /// `by_s` seconds. So the rate survives.
    pub fn shift(&mut self, by_s: f64) {
        for sample in &mut self.samples {
            sample.offset_s += by_s;
        }
        self.doubted = None;
    }

    /// The samples say nothing any more, but of the rate.
    pub fn forget(&mut self) {
        if let Some(fit) = self.fit() {
            self.before = fit.rate;
        }
        self.samples.clear();
        self.doubted = None;
    }

    /// The line; none without samples. Weighted least squares, where what was known
    /// of the rate before counts as one more measurement of it.
    pub fn fit(&self) -> Option<Fit> {
        let at = self.samples.back()?.at;
        let weighed = self.samples.iter().map(|sample| {
            let weight = sample.sigma_s.max(1e-6).powi(-2);
            let t_s = (sample.at - at).as_seconds();
            (weight, t_s, sample.offset_s)
        });
        let mean = |pick: fn((f64, f64, f64)) -> f64| {
            let (sum, weights) = weighed
                .clone()
                .fold((0.0, 0.0), |(s, w), one| (s + one.0 * pick(one), w + one.0));
            sum / weights
        };
        let (t_mean, offset_mean) = (mean(|one| one.1), mean(|one| one.2));
        let (mut square, mut product) = (0.0, 0.0);
        for (weight, t_s, offset_s) in weighed {
            square += weight * (t_s - t_mean).powi(2);
            product += weight * (t_s - t_mean) * (offset_s - offset_mean);
        }
        let known = self.before.sigma.ratio().max(1e-12).powi(-2);
        let ratio = (product + known * self.before.rate.ratio()) / (square + known);
        Some(Fit {
            at,
            offset_s: offset_mean - ratio * t_mean,
            rate: Rate {
                rate: Ppm::from_ratio(ratio),
                sigma: Ppm::from_ratio((square + known).powf(-0.5)),
            },
        })
    }

    /// How long to wait for the next sample: ever longer as the line gets firm.
    pub fn pause(&self) -> NtpDuration {
        let doublings = match self.samples.len() {
            _ if self.doubted.is_some() => 0,
            0..4 => 0,
            4..6 => 1,
            6..10 => 2,
            10..14 => 3,
            14..18 => 4,
            _ => 5,
        };
        NtpDuration::from_whole_seconds(15 << doublings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at_s: i64, offset_s: f64) -> Sample {
        Sample {
            at: WallInstant::from_unix_ns(at_s * 1_000_000_000),
            offset_s,
            sigma_s: 0.000_3,
        }
    }

    /// 12 ppm fast, a third of a millisecond of noise.
    fn measured(line: &mut Line, from_s: i64, count: i64, add_s: f64) {
        for n in 0..count {
            let t = from_s + 60 * n;
            let noise = [0.000_2, -0.000_3, 0.000_1][n as usize % 3];
            assert_eq!(
                line.add(sample(t, 12e-6 * t as f64 + add_s + noise)),
                Added::Kept
            );
        }
    }

    #[test]
    fn offset_and_rate_come_out() {
        let mut line = Line::new(None);
        assert_eq!(line.fit(), None);
        assert!(line.is_empty());
        measured(&mut line, 0, 60, 0.25);
        let fit = line.fit().unwrap();
        assert!((fit.rate.rate.0 - 12.0).abs() < 0.1, "{fit:?}");
        assert!(fit.rate.sigma.0 < 0.1, "{fit:?}");
        let later = WallInstant::from_unix_ns(10_000_000_000_000);
        assert!((fit.offset_at_s(later) - 0.37).abs() < 0.001, "{fit:?}");
        assert_eq!(line.len(), 60);
    }

    #[test]
    fn a_short_line_keeps_to_the_rate_it_knew() {
        let before = Rate {
            rate: Ppm(12.0),
            sigma: Ppm(0.5),
        };
        let mut line = Line::new(Some(before));
        line.add(sample(0, 0.000_3));
        line.add(sample(15, -0.000_3));
        assert!((line.fit().unwrap().rate.rate.0 - 12.0).abs() < 1.0);
    }

    #[test]
    fn our_own_setting_leaves_the_rate() {
        let mut line = Line::new(None);
        measured(&mut line, 0, 30, 0.25);
        line.shift(-0.25);
        measured(&mut line, 1800, 30, 0.0);
        assert!((line.fit().unwrap().rate.rate.0 - 12.0).abs() < 0.2);
    }

    #[test]
    fn another_hand_is_noticed_and_a_single_slip_is_not() {
        let mut line = Line::new(None);
        measured(&mut line, 0, 30, 0.0);
        assert_eq!(line.add(sample(1800, 0.3)), Added::Doubted);
        measured(&mut line, 1860, 2, 0.0);
        assert_eq!(line.add(sample(1980, 0.6)), Added::Doubted);
        assert_eq!(line.add(sample(1995, 0.600_1)), Added::Restarted);
        assert_eq!(line.len(), 1);
        let fit = line.fit().unwrap();
        assert!((fit.rate.rate.0 - 12.0).abs() < 0.5, "the rate is known");
        assert!((fit.offset_s - 0.6).abs() < 0.001);
    }

    #[test]
    fn it_is_asked_ever_more_seldom() {
        let mut line = Line::new(None);
        assert_eq!(line.pause().as_seconds(), 15.0);
        measured(&mut line, 0, 30, 0.0);
        assert_eq!(line.pause().as_seconds(), 480.0);
        line.add(sample(1800, 0.3));
        assert_eq!(line.pause().as_seconds(), 15.0, "to see whether it is so");
    }
}

//! The time of a machine without any server, typed in by hand now and then (chrony's
//! `manual` and `settime`). Each entry says what the clock lacks; from several of them
//! follows its frequency, by a straight line through what it would have lacked without
//! any correction.

use std::collections::VecDeque;

use crate::node::report::ManualReport;
use crate::sync::ledger::Ledger;
use crate::time::duration::NtpDuration;
use crate::time::instant::{MonoInstant, Now};

/// So many are kept.
const SAMPLES_MAX: usize = 16;
/// Entries closer together than this are one entry sent twice.
const SEPARATION_MIN: NtpDuration = NtpDuration::from_whole_seconds(1);
/// A line through fewer says nothing of how straight it is.
const FOR_FREQUENCY: usize = 3;

/// The entries.
#[derive(Clone, Debug, Default)]
pub struct Manual {
    /// Are they taken?
    pub enabled: bool,
    samples: VecDeque<Sample>,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    when: Now,
    offset: NtpDuration,
    /// The ledger's integral before anything was done about it.
    corrected: NtpDuration,
}

impl Manual {
    /// Takes an entry: at `now` the clock lacks `offset`. False: too soon after the last.
    pub fn enter(&mut self, offset: NtpDuration, ledger: &Ledger, now: Now) -> bool {
        let last = self.samples.back();
        if last.is_some_and(|last| now.mono.since(last.when.mono) < SEPARATION_MIN) {
            return false;
        }
        if self.samples.len() == SAMPLES_MAX {
            self.samples.pop_front();
        }
        self.samples.push_back(Sample {
            when: now,
            offset,
            corrected: ledger.integral_at(now.mono),
        });
        true
    }

    /// Forgets all.
    pub fn reset(&mut self) {
        self.samples.clear();
    }

    /// Forgets one. False: there is none of that index.
    pub fn forget(&mut self, index: usize) -> bool {
        self.samples.remove(index).is_some()
    }

    /// What the clock's corrections should gain in a second, as a ratio; none from
    /// fewer than three entries.
    pub fn rate(&self) -> Option<f64> {
        let line = self.line()?;
        (self.samples.len() >= FOR_FREQUENCY).then_some(line.rate)
    }

    /// For people, at `now`.
    pub fn reports(&self, ledger: &Ledger, now: MonoInstant) -> Vec<ManualReport> {
        let line = self.line();
        let corrected = |sample: &Sample| ledger.integral_at(now) - sample.corrected;
        self.samples
            .iter()
            .map(|sample| ManualReport {
                when_unix_ns: sample.when.wall.unix_ns(),
                offset_s: sample.offset.as_seconds(),
                left_s: (sample.offset - corrected(sample)).as_seconds(),
                residual_s: line.as_ref().map_or(0.0, |line| line.residual_s(sample)),
            })
            .collect()
    }

    /// The line through the offsets, corrections taken out. None without two moments.
    fn line(&self) -> Option<Line> {
        let origin = *self.samples.front()?;
        let mut line = Line {
            origin,
            mean_x_s: 0.0,
            mean_y_s: 0.0,
            rate: 0.0,
        };
        let count = self.samples.len() as f64;
        let points: Vec<_> = self.samples.iter().map(|s| line.point(s)).collect();
        line.mean_x_s = points.iter().map(|(x, _)| x).sum::<f64>() / count;
        line.mean_y_s = points.iter().map(|(_, y)| y).sum::<f64>() / count;
        let products = points
            .iter()
            .map(|(x, y)| (x - line.mean_x_s) * (y - line.mean_y_s));
        let squares = points.iter().map(|(x, _)| (x - line.mean_x_s).powi(2));
        let squares: f64 = squares.sum();
        if squares > 0.0 {
            line.rate = products.sum::<f64>() / squares;
        }
        Some(line)
    }
}

struct Line {
    origin: Sample,
    mean_x_s: f64,
    mean_y_s: f64,
    rate: f64,
}

impl Line {
    /// Seconds since the first entry, and what the clock would have lost since then.
    fn point(&self, sample: &Sample) -> (f64, f64) {
        let corrected = sample.corrected - self.origin.corrected;
        let lost = sample.offset - self.origin.offset + corrected;
        let elapsed = sample.when.mono.since(self.origin.when.mono);
        (elapsed.as_seconds(), lost.as_seconds())
    }

    fn residual_s(&self, sample: &Sample) -> f64 {
        let (x_s, y_s) = self.point(sample);
        y_s - self.mean_y_s - self.rate * (x_s - self.mean_x_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::ledger::MonotonicClock;
    use crate::time::instant::WallInstant;
    use crate::time::units::Ppm;

    fn at(second: i64) -> Now {
        Now {
            mono: MonoInstant::from_nanos(second * 1_000_000_000),
            wall: WallInstant::from_unix_ns(second * 1_000_000_000),
        }
    }

    #[test]
    fn a_frequency_follows_from_three_entries() {
        let ledger = Ledger::new(MonoInstant::ZERO, Ppm::ZERO, MonotonicClock::Free);
        let mut manual = Manual::default();
        for (n, lost_s) in [(0, 0.0), (1000, 0.05), (2000, 0.1)] {
            assert_eq!(manual.rate(), None);
            assert!(manual.enter(NtpDuration::from_seconds(lost_s), &ledger, at(n)));
        }
        assert!((manual.rate().unwrap() - 50e-6).abs() < 1e-9);
        assert!(
            !manual.enter(NtpDuration::ZERO, &ledger, at(2000)),
            "sent twice"
        );
        let reports = manual.reports(&ledger, at(2000).mono);
        assert!(reports.iter().all(|report| report.residual_s.abs() < 1e-9));
        assert!((reports[1].offset_s - 0.05).abs() < 1e-9);
        assert!(manual.forget(1) && !manual.forget(2));
        manual.reset();
        assert!(manual.reports(&ledger, at(2000).mono).is_empty());
    }
}

//! The offsets that the updates of the clock found, summed up for people: the last one,
//! their RMS, and how often there is one.

use crate::time::duration::NtpDuration;
use crate::time::instant::MonoInstant;

/// The last update's part in the mean square: about ten of them count.
const SHARE: f64 = 0.1;

/// See above.
#[derive(Clone, Copy, Debug, Default)]
pub struct Updates {
    at: Option<MonoInstant>,
    interval_s: f64,
    last_s: f64,
    mean_square_s2: f64,
}

impl Updates {
    /// An update found that the clock lacks `offset`.
    pub fn note(&mut self, offset: NtpDuration, now: MonoInstant) {
        self.last_s = offset.as_seconds();
        let square_s2 = self.last_s * self.last_s;
        match self.at.replace(now) {
            None => self.mean_square_s2 = square_s2,
            Some(before) => {
                self.interval_s = now.since(before).as_seconds();
                self.mean_square_s2 += SHARE * (square_s2 - self.mean_square_s2);
            }
        }
    }

    /// What the last one found; positive: the clock was behind.
    pub fn last_s(&self) -> f64 {
        self.last_s
    }

    /// RMS of these, the latest counting most.
    pub fn rms_s(&self) -> f64 {
        self.mean_square_s2.sqrt()
    }

    /// Between the last two.
    pub fn interval_s(&self) -> f64 {
        self.interval_s
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_the_rms_and_the_interval() {
        let mut updates = Updates::default();
        for (second, offset_s) in [(1, 0.5), (17, -0.5), (81, 0.5)] {
            let at = MonoInstant::from_nanos(second * 1_000_000_000);
            updates.note(NtpDuration::from_seconds(offset_s), at);
        }
        assert_eq!((updates.last_s(), updates.interval_s()), (0.5, 64.0));
        assert!((updates.rms_s() - 0.5).abs() < 1e-12);
    }
}

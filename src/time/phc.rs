//! A PTP hardware clock's own time, and the line from there to CLOCK_REALTIME.

use std::fmt;
use std::ops::{Add, Sub};

use crate::time::duration::NtpDuration;
use crate::time::instant::WallInstant;

/// A reading of a PTP hardware clock: nanoseconds since a zero of its own. Which
/// clock, the type does not know; most count TAI or start at zero at power-on, so it
/// says nothing about time of day before a [`PhcMap`] has seen it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PhcInstant(i64);

impl PhcInstant {
    /// From nanoseconds since the clock's zero.
    pub const fn from_nanos(ns: i64) -> Self {
        Self(ns)
    }

    /// Nanoseconds since the clock's zero.
    pub const fn nanos(self) -> i64 {
        self.0
    }
}

impl Sub for PhcInstant {
    type Output = NtpDuration;
    fn sub(self, other: Self) -> NtpDuration {
        NtpDuration::from_nanos(self.0.saturating_sub(other.0))
    }
}

impl Add<NtpDuration> for PhcInstant {
    type Output = Self;
    fn add(self, duration: NtpDuration) -> Self {
        Self(self.0.saturating_add(duration.as_nanos()))
    }
}

impl fmt::Debug for PhcInstant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (s, ns) = (
            self.0.div_euclid(1_000_000_000),
            self.0.rem_euclid(1_000_000_000),
        );
        write!(f, "phc {s}.{ns:09}")
    }
}

/// A hardware clock and CLOCK_REALTIME at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Crossing {
    /// The hardware clock.
    pub phc: PhcInstant,
    /// CLOCK_REALTIME in the middle of the reading.
    pub real: WallInstant,
    /// How long the reading took: the moment is within half of this of `real`. Zero
    /// where the hardware latched both clocks at once.
    pub window: NtpDuration,
}

/// A straight line from a hardware clock to CLOCK_REALTIME:
/// `real = anchor_real + (phc − anchor_phc) · (1 + rate)`, and how far to trust it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct PhcMap {
    /// A moment on the hardware clock.
    pub anchor_phc: PhcInstant,
    /// The same moment on CLOCK_REALTIME.
    pub anchor_real: WallInstant,
    /// How much faster CLOCK_REALTIME runs than the hardware clock, a ratio.
    pub rate: f64,
    /// The line is at most so far off at the anchor.
    pub error: NtpDuration,
    /// And so much more for each second away from it, a ratio.
    pub error_rate: f64,
    /// The line is not to be used farther than this from its anchor.
    pub reach: NtpDuration,
}

impl PhcMap {
    /// The moment on CLOCK_REALTIME, or `None` beyond the line's reach: either the
    /// stamp is another clock's, or the clock was not looked at for too long.
    pub fn to_real(&self, phc: PhcInstant) -> Option<WallInstant> {
        let elapsed = phc.0.checked_sub(self.anchor_phc.0)?;
        if elapsed.unsigned_abs() > self.reach.as_nanos().unsigned_abs() {
            return None;
        }
        // Seconds at the rate of a crystal: f64 keeps the product to well below a
        // nanosecond.
        let gained = (elapsed as f64 * self.rate).round() as i64;
        let real = self.anchor_real.unix_ns();
        Some(WallInstant::from_unix_ns(
            real.saturating_add(elapsed).saturating_add(gained),
        ))
    }

    /// The hardware clock at a moment of CLOCK_REALTIME.
    pub fn to_phc(&self, real: WallInstant) -> PhcInstant {
        let elapsed = real.unix_ns().saturating_sub(self.anchor_real.unix_ns());
        let lost = (elapsed as f64 * self.rate / (1.0 + self.rate)).round() as i64;
        PhcInstant(
            self.anchor_phc
                .0
                .saturating_add(elapsed)
                .saturating_sub(lost),
        )
    }

    /// How far [`to_real`](Self::to_real) may be off at `phc`.
    pub fn error_at(&self, phc: PhcInstant) -> NtpDuration {
        self.error + (phc - self.anchor_phc).abs() * self.error_rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: PhcMap = PhcMap {
        anchor_phc: PhcInstant::from_nanos(37_000_000_000),
        anchor_real: WallInstant::from_unix_ns(1_800_000_000_000_000_000),
        rate: -20e-6,
        error: NtpDuration::from_units(4_000),
        error_rate: 1e-8,
        reach: NtpDuration::from_whole_seconds(16),
    };

    #[test]
    fn a_clock_that_runs_fast_is_brought_back() {
        let later = MAP.anchor_phc + NtpDuration::from_whole_seconds(10);
        let real = MAP.to_real(later).expect("within reach");
        assert_eq!(
            real.unix_ns() - MAP.anchor_real.unix_ns(),
            10_000_000_000 - 200_000
        );
        assert_eq!(MAP.to_phc(real), later);
        let grown = MAP.error_at(later) - MAP.error;
        assert_eq!(grown.as_nanos(), 100);
    }

    #[test]
    fn what_lies_out_of_reach_is_not_answered() {
        let far = MAP.anchor_phc + NtpDuration::from_whole_seconds(17);
        assert_eq!(MAP.to_real(far), None);
        assert_eq!(MAP.to_real(PhcInstant::from_nanos(i64::MIN)), None);
    }
}

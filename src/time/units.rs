//! Small numbers with units: poll exponents, precisions, frequencies.

use std::fmt;
use std::ops::{Add, Neg, Sub};

use crate::time::duration::NtpDuration;

/// Log2 of a poll interval in seconds (RFC 5905 section 7.3, `poll`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PollExponent(i8);

impl PollExponent {
    /// The smallest that we accept: 1/128 s, chrony's limit.
    pub const MIN: Self = Self(-7);
    /// The largest that RFC 5905 knows: 36 h.
    pub const MAX: Self = Self(17);

    /// Clamps to [`MIN`](Self::MIN)..=[`MAX`](Self::MAX).
    pub const fn new(log2_seconds: i8) -> Self {
        if log2_seconds < Self::MIN.0 {
            Self::MIN
        } else if log2_seconds > Self::MAX.0 {
            Self::MAX
        } else {
            Self(log2_seconds)
        }
    }

    /// Log2 of the interval in seconds.
    pub const fn log2(self) -> i8 {
        self.0
    }

    /// The interval itself.
    pub fn interval(self) -> NtpDuration {
        NtpDuration::from_units(1 << (32 + i32::from(self.0)))
    }

    /// Twice the interval, up to `max`.
    pub fn longer(self, max: Self) -> Self {
        Self::new(self.0 + 1).min(max)
    }

    /// Half the interval, down to `min`.
    pub fn shorter(self, min: Self) -> Self {
        Self::new(self.0 - 1).max(min)
    }
}

impl fmt::Debug for PollExponent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "2^{}s", self.0)
    }
}

/// Log2 of a clock's precision in seconds (RFC 5905 section 7.3, `precision`);
/// −20 is about a microsecond.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Precision(i8);

impl Precision {
    /// From the wire's signed octet.
    pub const fn new(log2_seconds: i8) -> Self {
        Self(log2_seconds)
    }

    /// Log2 in seconds.
    pub const fn log2(self) -> i8 {
        self.0
    }

    /// Rounded up to a power of two; clamps to a range that makes sense (2^-32 s to 1 s).
    pub fn from_duration(duration: NtpDuration) -> Self {
        let seconds = duration.as_seconds().max(f64::MIN_POSITIVE);
        Self(seconds.log2().ceil().clamp(-32.0, 0.0) as i8)
    }

    /// The precision as a duration; a foreign value out of range is clamped to 2^-32 s .. 1 s.
    pub fn to_duration(self) -> NtpDuration {
        NtpDuration::from_units(1 << (32 + i32::from(self.0.clamp(-32, 0))))
    }
}

/// A relative frequency in parts per million. Positive: the local clock is made
/// to run faster.
#[derive(Clone, Copy, PartialEq, PartialOrd, Default)]
pub struct Ppm(pub f64);

impl Ppm {
    /// No change of frequency.
    pub const ZERO: Self = Self(0.0);

    /// From a dimensionless ratio (1e-6 is one ppm).
    pub const fn from_ratio(ratio: f64) -> Self {
        Self(ratio * 1e6)
    }

    /// As a dimensionless ratio.
    pub const fn ratio(self) -> f64 {
        self.0 * 1e-6
    }

    /// Within `±limit`.
    pub fn clamp_to(self, limit: Self) -> Self {
        Self(self.0.clamp(-limit.0, limit.0))
    }

    /// Magnitude.
    pub const fn abs(self) -> Self {
        Self(self.0.abs())
    }
}

impl Add for Ppm {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl Sub for Ppm {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }
}

impl Neg for Ppm {
    type Output = Self;
    fn neg(self) -> Self {
        Self(-self.0)
    }
}

impl fmt::Debug for Ppm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.4}ppm", self.0)
    }
}

impl fmt::Display for Ppm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} ppm", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn poll_exponents_stay_in_range() {
        assert_eq!(
            PollExponent::new(6).interval(),
            NtpDuration::from_whole_seconds(64)
        );
        assert_eq!(
            PollExponent::new(-1).interval(),
            NtpDuration::from_seconds(0.5)
        );
        assert_eq!(PollExponent::new(127), PollExponent::MAX);
        assert_eq!(
            PollExponent::new(10).longer(PollExponent::new(10)).log2(),
            10
        );
    }

    #[test]
    fn precision_rounds_up_to_a_power_of_two() {
        assert_eq!(
            Precision::from_duration(NtpDuration::from_nanos(1000)).log2(),
            -19
        );
        assert_eq!(
            Precision::new(127).to_duration(),
            NtpDuration::from_whole_seconds(1)
        );
    }
}

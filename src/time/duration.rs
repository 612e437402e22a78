//! Signed differences between points in time.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub, SubAssign};

/// Units of [`NtpDuration`] in one second: 2^32, as in RFC 5905 section 6.
const UNITS_PER_SECOND: f64 = 4_294_967_296.0;

/// A signed difference of times in units of 2^-32 s (0.23 ns), range ±68 years.
///
/// Arithmetic saturates: a difference too large to say is as large as can be said.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct NtpDuration(i64);

impl NtpDuration {
    /// No time at all.
    pub const ZERO: Self = Self(0);
    /// The longest duration, a little over 68 years.
    pub const MAX: Self = Self(i64::MAX);
    /// The longest negative duration.
    pub const MIN: Self = Self(i64::MIN);

    /// From units of 2^-32 s.
    pub const fn from_units(units: i64) -> Self {
        Self(units)
    }

    /// In units of 2^-32 s.
    pub const fn units(self) -> i64 {
        self.0
    }

    /// From whole seconds; saturates beyond ±2^31 s.
    pub const fn from_whole_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1 << 32))
    }

    /// From seconds, rounded to the nearest unit; saturates, NaN becomes zero.
    pub fn from_seconds(seconds: f64) -> Self {
        // `as` saturates and takes NaN to 0, which is the contract above.
        Self((seconds * UNITS_PER_SECOND).round() as i64)
    }

    /// In seconds. Exact to 2^-53 of the value.
    pub fn as_seconds(self) -> f64 {
        self.0 as f64 / UNITS_PER_SECOND
    }

    /// From nanoseconds, rounded to the nearest unit.
    pub fn from_nanos(ns: i64) -> Self {
        // No division of 128 bits: this is on a packet's way.
        let seconds = ns.div_euclid(1_000_000_000);
        let rest_ns = ns.rem_euclid(1_000_000_000);
        let fraction = ((rest_ns << 32) + 500_000_000) / 1_000_000_000;
        match i32::try_from(seconds) {
            Ok(seconds) => Self((i64::from(seconds) << 32).saturating_add(fraction)),
            Err(_) if seconds < 0 => Self(i64::MIN),
            Err(_) => Self(i64::MAX),
        }
    }

    /// In nanoseconds, rounded to the nearest.
    pub fn as_nanos(self) -> i64 {
        // |self| < 2^31 s, so the result always fits.
        ((i128::from(self.0) * 1_000_000_000 + (1 << 31)) >> 32) as i64
    }

    /// Magnitude.
    pub const fn abs(self) -> Self {
        Self(self.0.saturating_abs())
    }

    /// Half of it.
    pub const fn half(self) -> Self {
        Self(self.0 / 2)
    }

    /// Below zero?
    pub const fn is_negative(self) -> bool {
        self.0 < 0
    }
}

impl Add for NtpDuration {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for NtpDuration {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for NtpDuration {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl SubAssign for NtpDuration {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl Neg for NtpDuration {
    type Output = Self;
    fn neg(self) -> Self {
        Self(self.0.saturating_neg())
    }
}

impl Mul<f64> for NtpDuration {
    type Output = Self;
    fn mul(self, factor: f64) -> Self {
        Self((self.0 as f64 * factor).round() as i64)
    }
}

impl Div<i64> for NtpDuration {
    type Output = Self;
    fn div(self, divisor: i64) -> Self {
        Self(self.0 / divisor)
    }
}

impl Sum for NtpDuration {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::ZERO, Add::add)
    }
}

impl fmt::Debug for NtpDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.9}s", self.as_seconds())
    }
}

/// Seconds with a scale a person can read: `-12.3 µs`, `1.500 s`.
impl fmt::Display for NtpDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = self.as_seconds();
        let magnitude = s.abs();
        if magnitude >= 1.0 {
            write!(f, "{s:.3} s")
        } else if magnitude >= 1e-3 {
            write!(f, "{:.3} ms", s * 1e3)
        } else if magnitude >= 1e-6 {
            write!(f, "{:.3} µs", s * 1e6)
        } else {
            write!(f, "{:.1} ns", s * 1e9)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nanoseconds_survive_the_round_trip() {
        for ns in [0, 1, -1, 999_999_999, -1_000_000_001, 1 << 60, -(1 << 60)] {
            assert_eq!(NtpDuration::from_nanos(ns).as_nanos(), ns, "{ns}");
        }
    }

    #[test]
    fn too_much_saturates_and_nonsense_is_zero() {
        assert_eq!(NtpDuration::from_seconds(1e300), NtpDuration::MAX);
        assert_eq!(NtpDuration::from_seconds(f64::NAN), NtpDuration::ZERO);
        assert_eq!(-NtpDuration::MIN, NtpDuration::MAX);
        assert_eq!(NtpDuration::from_nanos(i64::MAX), NtpDuration::MAX);
    }

    #[test]
    fn prints_with_a_unit_a_person_can_read() {
        assert_eq!(NtpDuration::from_seconds(1.5).to_string(), "1.500 s");
        assert_eq!(NtpDuration::from_nanos(-12_300).to_string(), "-12.300 µs");
    }
}

//! Points in time: absolute ones with an era, and monotonic ones for timers.

use std::fmt;
use std::ops::{Add, Sub};

use crate::time::duration::NtpDuration;

/// An absolute instant: nanoseconds since the Unix epoch, POSIX style (no leap
/// seconds), 1677 to 2262. The form in which kernels stamp packets.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct WallInstant(i64);

impl WallInstant {
    /// From nanoseconds since 1970-01-01 00:00:00 UTC.
    pub const fn from_unix_ns(ns: i64) -> Self {
        Self(ns)
    }

    /// Nanoseconds since 1970-01-01 00:00:00 UTC.
    pub const fn unix_ns(self) -> i64 {
        self.0
    }

    /// Seconds since 1970, fraction included (good to about 0.2 µs today).
    pub fn unix_seconds(self) -> f64 {
        self.0 as f64 * 1e-9
    }
}

impl Sub for WallInstant {
    type Output = NtpDuration;
    fn sub(self, other: Self) -> NtpDuration {
        NtpDuration::from_nanos(self.0.saturating_sub(other.0))
    }
}

impl Add<NtpDuration> for WallInstant {
    type Output = Self;
    fn add(self, duration: NtpDuration) -> Self {
        Self(self.0.saturating_add(duration.as_nanos()))
    }
}

impl Sub<NtpDuration> for WallInstant {
    type Output = Self;
    fn sub(self, duration: NtpDuration) -> Self {
        Self(self.0.saturating_sub(duration.as_nanos()))
    }
}

impl fmt::Debug for WallInstant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (s, ns) = (
            self.0.div_euclid(1_000_000_000),
            self.0.rem_euclid(1_000_000_000),
        );
        write!(f, "@{s}.{ns:09}")
    }
}

/// A point on a clock that nobody steps (CLOCK_MONOTONIC): nanoseconds since an
/// arbitrary start. For timers and ages, never for time of day.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MonoInstant(i64);

impl MonoInstant {
    /// The clock's own zero.
    pub const ZERO: Self = Self(0);
    /// Never, as a deadline.
    pub const MAX: Self = Self(i64::MAX);

    /// From nanoseconds since the clock's start.
    pub const fn from_nanos(ns: i64) -> Self {
        Self(ns)
    }

    /// Nanoseconds since the clock's start.
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// Time passed since `earlier`; negative if that lies ahead.
    pub fn since(self, earlier: Self) -> NtpDuration {
        self - earlier
    }
}

impl Sub for MonoInstant {
    type Output = NtpDuration;
    fn sub(self, other: Self) -> NtpDuration {
        NtpDuration::from_nanos(self.0.saturating_sub(other.0))
    }
}

impl Add<NtpDuration> for MonoInstant {
    type Output = Self;
    fn add(self, duration: NtpDuration) -> Self {
        Self(self.0.saturating_add(duration.as_nanos()))
    }
}

impl fmt::Debug for MonoInstant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "+{:.6}", self.0 as f64 * 1e-9)
    }
}

/// The two clocks read together, as every step of the sans-IO parts gets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// For timers and ages.
    pub mono: MonoInstant,
    /// The clock we discipline (system or virtual), read at the same moment.
    pub wall: WallInstant,
}

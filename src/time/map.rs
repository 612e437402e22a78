//! The map from CLOCK_REALTIME to the clock we serve and discipline.
//!
//! With the system clock the two are one and the map is the identity. A virtual
//! clock is a straight line over CLOCK_REALTIME that the daemon bends instead of
//! the kernel's clock; kernel stamps are taken in CLOCK_REALTIME and go through
//! the same line.

use crate::time::duration::NtpDuration;
use crate::time::instant::WallInstant;
use crate::time::units::Ppm;

/// A straight line: `local = anchor_local + (real − anchor_real) · (1 + rate)`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ClockMap {
    /// A moment on CLOCK_REALTIME.
    pub anchor_real: WallInstant,
    /// The same moment on the mapped clock.
    pub anchor_local: WallInstant,
    /// How much faster the mapped clock runs than CLOCK_REALTIME.
    pub rate: Ppm,
}

impl ClockMap {
    /// The map of the system clock onto itself.
    pub const IDENTITY: Self = Self {
        anchor_real: WallInstant::from_unix_ns(0),
        anchor_local: WallInstant::from_unix_ns(0),
        rate: Ppm::ZERO,
    };

    /// A moment of CLOCK_REALTIME on the mapped clock.
    pub fn to_local(&self, real: WallInstant) -> WallInstant {
        let elapsed = real.unix_ns().wrapping_sub(self.anchor_real.unix_ns());
        // The product is small, so f64 keeps it exact to well below a nanosecond.
        let gained = elapsed as f64 * self.rate.ratio();
        // Rounds without the library's call for it: this is on a packet's way.
        let gained = (gained + 0.5_f64.copysign(gained)) as i64;
        WallInstant::from_unix_ns(
            self.anchor_local
                .unix_ns()
                .wrapping_add(elapsed)
                .wrapping_add(gained),
        )
    }

    /// Mapped clock minus CLOCK_REALTIME at the moment `real`. This is what a
    /// virtual clock knows of its own true error.
    pub fn error_at(&self, real: WallInstant) -> NtpDuration {
        self.to_local(real) - real
    }

    /// The same line with its anchor moved to `real`, ready to be bent there.
    pub fn reanchored(&self, real: WallInstant) -> Self {
        Self {
            anchor_real: real,
            anchor_local: self.to_local(real),
            rate: self.rate,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fast_clock_gains_by_its_rate() {
        let real = WallInstant::from_unix_ns(1_800_000_000_000_000_000);
        let map = ClockMap {
            anchor_real: real,
            anchor_local: real + NtpDuration::from_seconds(0.5),
            rate: Ppm(50.0),
        };
        let later = real + NtpDuration::from_whole_seconds(10);
        assert_eq!(map.error_at(later).as_nanos(), 500_500_000);
        assert_eq!(
            map.reanchored(later).error_at(later).as_nanos(),
            500_500_000
        );
    }

    #[test]
    fn the_identity_changes_nothing() {
        let real = WallInstant::from_unix_ns(-5);
        assert_eq!(ClockMap::IDENTITY.to_local(real), real);
    }
}

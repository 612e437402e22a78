//! Timestamps as they stand in packets (RFC 5905 section 6).

use std::fmt;
use std::ops::{Add, Sub};

use crate::time::duration::NtpDuration;
use crate::time::instant::WallInstant;

/// Seconds from the NTP epoch (1900) to the Unix epoch (1970).
const NTP_TO_UNIX_SECONDS: i64 = 2_208_988_800;

/// The 64-bit wire timestamp: 32 bits of seconds, 32 of fraction, and no era.
///
/// It repeats every 2^32 s (next on 2036-02-07), so it has no order: subtract
/// two that lie within 68 years of each other, or [`resolve`](Self::resolve)
/// one against a pivot.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct NtpTimestamp(u64);

impl NtpTimestamp {
    /// All zero: "unknown or unsynchronised" on the wire.
    pub const ZERO: Self = Self(0);

    /// From the wire's 64 bits, in host order.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The wire's 64 bits, in host order.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The wire form of an absolute instant. Its era is dropped.
    pub fn from_wall(wall: WallInstant) -> Self {
        // No division of 128 bits: this is on a packet's way.
        let seconds = wall.unix_ns().div_euclid(1_000_000_000) + NTP_TO_UNIX_SECONDS;
        let rest_ns = wall.unix_ns().rem_euclid(1_000_000_000) as u64;
        Self(((seconds as u64) << 32) | ((rest_ns << 32) / 1_000_000_000))
    }

    /// The absolute instant nearest to `pivot` that this stamp can mean.
    pub fn resolve(self, pivot: WallInstant) -> WallInstant {
        pivot + (self - Self::from_wall(pivot))
    }

    /// Is it the reserved value zero?
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }
}

/// The signed difference, right whenever the two lie within 68 years.
impl Sub for NtpTimestamp {
    type Output = NtpDuration;
    fn sub(self, other: Self) -> NtpDuration {
        NtpDuration::from_units(self.0.wrapping_sub(other.0) as i64)
    }
}

impl Add<NtpDuration> for NtpTimestamp {
    type Output = Self;
    fn add(self, duration: NtpDuration) -> Self {
        Self(self.0.wrapping_add(duration.units() as u64))
    }
}

impl fmt::Debug for NtpTimestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}.{:08x}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

/// The 32-bit short format: 16.16 bits of unsigned seconds, for root delay and
/// root dispersion. Range 0 to 65536 s in steps of 15.3 µs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct NtpShort(u32);

impl NtpShort {
    /// From the wire's 32 bits, in host order.
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// The wire's 32 bits, in host order.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Rounds up, because what it carries is an upper bound; clamps to its range.
    pub fn from_duration(duration: NtpDuration) -> Self {
        let units = duration.units().max(0) as u64;
        Self(units.div_ceil(1 << 16).min(u64::from(u32::MAX)) as u32)
    }

    /// As a duration, exactly.
    pub const fn to_duration(self) -> NtpDuration {
        NtpDuration::from_units((self.0 as i64) << 16)
    }
}

impl fmt::Debug for NtpShort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_duration().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2036-02-07 06:28:16 UTC, the first second of era 1.
    const ERA_1: WallInstant = WallInstant::from_unix_ns(2_085_978_496 * 1_000_000_000);

    #[test]
    fn era_rollover_is_a_difference_like_any_other() {
        let before = ERA_1 - NtpDuration::from_whole_seconds(1);
        let (a, b) = (
            NtpTimestamp::from_wall(before),
            NtpTimestamp::from_wall(ERA_1),
        );
        assert_eq!(b.bits(), 0);
        assert_eq!(b - a, NtpDuration::from_whole_seconds(1));
        assert_eq!(a - b, NtpDuration::from_whole_seconds(-1));
    }

    #[test]
    fn a_pivot_gives_a_stamp_its_era() {
        let after = ERA_1 + NtpDuration::from_whole_seconds(3600);
        let stamp = NtpTimestamp::from_wall(after);
        assert_eq!(stamp.resolve(ERA_1), after);
        let stamp = NtpTimestamp::from_wall(ERA_1 - NtpDuration::from_whole_seconds(10));
        assert_eq!(
            stamp.resolve(after),
            ERA_1 - NtpDuration::from_whole_seconds(10)
        );
    }

    #[test]
    fn short_format_rounds_up_and_clamps() {
        assert_eq!(
            NtpShort::from_duration(NtpDuration::from_units(1)).bits(),
            1
        );
        assert_eq!(
            NtpShort::from_duration(NtpDuration::from_whole_seconds(-1)).bits(),
            0
        );
        assert_eq!(NtpShort::from_duration(NtpDuration::MAX).bits(), u32::MAX);
        assert_eq!(
            NtpShort::from_bits(0x1_0000).to_duration(),
            NtpDuration::from_whole_seconds(1)
        );
    }
}

//! What we tell the world about our time (RFC 5905 section 11.1): the values
//! that go into every reply, into `ptntp stat` and into the metrics.

use crate::time::duration::NtpDuration;
use crate::time::instant::WallInstant;
use crate::time::timestamp::{NtpShort, NtpTimestamp};
use crate::time::units::{Ppm, Precision};
use crate::wire::packet::{Header, Leap, Mode, STRATUM_MAX};
use crate::wire::refid::RefId;

/// RFC 5905 MAXDISP: what is said of the dispersion where nobody knows it.
const DISPERSION_MAX: NtpDuration = NtpDuration::from_whole_seconds(16);

/// From an age of 48 days on nobody knows the dispersion; below, the product with
/// [`RATE_SCALED_MAX`] fits 63 bits.
const AGE_MAX_S: u64 = 1 << 22;
/// 15,600 ppm, more than any clock's.
const RATE_SCALED_MAX: u64 = (1 << 42) - 1;

/// The system variables at the moment `updated`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct SystemState {
    /// Warning of a leap second; [`Leap::Unknown`] while unsynchronised.
    pub leap: Leap,
    /// 1 to 15, or 16 while unsynchronised.
    pub stratum: u8,
    /// Our source, or why there is none.
    pub refid: RefId,
    /// When the clock was last corrected, on the clock we serve.
    pub reference: WallInstant,
    /// Δ: round trip to the primary reference.
    pub root_delay: NtpDuration,
    /// Ε at `updated`; it grows from there by `dispersion_rate`.
    pub root_dispersion: NtpDuration,
    /// How fast the dispersion grows while nothing is heard.
    pub dispersion_rate: Ppm,
    /// Precision of the clock we stamp with.
    pub precision: Precision,
    /// |true error| of our clock at `updated` unless every selected server lies.
    pub error_bound: NtpDuration,
    /// The same if paths were symmetric: what the error is likely below.
    pub error_likely: NtpDuration,
    /// The moment these values speak of, on the clock we serve.
    pub updated: WallInstant,
}

impl SystemState {
    /// Before any source was heard, or too long after.
    pub const fn unsynchronised(precision: Precision) -> Self {
        Self {
            leap: Leap::Unknown,
            stratum: STRATUM_MAX,
            refid: RefId::INIT,
            reference: WallInstant::from_unix_ns(0),
            root_delay: NtpDuration::ZERO,
            root_dispersion: DISPERSION_MAX,
            dispersion_rate: Ppm::ZERO,
            precision,
            error_bound: NtpDuration::MAX,
            error_likely: NtpDuration::MAX,
            updated: WallInstant::from_unix_ns(0),
        }
    }

    /// Do we have time worth serving?
    pub fn is_synchronised(&self) -> bool {
        self.leap != Leap::Unknown && self.stratum < STRATUM_MAX
    }

    /// Ε at `now`.
    pub fn root_dispersion_at(&self, now: WallInstant) -> NtpDuration {
        self.root_dispersion + self.growth_until(now)
    }

    /// The promise at `now`; [`NtpDuration::MAX`] if there is none.
    pub fn error_bound_at(&self, now: WallInstant) -> NtpDuration {
        self.error_bound + self.growth_until(now)
    }

    /// What goes into every packet that gives our time, at `now`: a header of version 4
    /// whose origin, receive and transmit are zero, for who sends it to fill in.
    pub fn header(&self, mode: Mode, now: WallInstant) -> Header {
        Header {
            leap: if self.is_synchronised() {
                self.leap
            } else {
                Leap::Unknown
            },
            version: 4,
            mode,
            // 16 has no place on the wire (RFC 5905 figure 11); ntpd sends 0.
            stratum: if self.stratum < STRATUM_MAX {
                self.stratum
            } else {
                0
            },
            poll: 0,
            precision: self.precision,
            root_delay: NtpShort::from_duration(self.root_delay),
            root_dispersion: NtpShort::from_duration(self.root_dispersion_at(now)),
            refid: self.refid,
            reference: if self.reference == WallInstant::default() {
                NtpTimestamp::ZERO
            } else {
                NtpTimestamp::from_wall(self.reference)
            },
            origin: NtpTimestamp::ZERO,
            receive: NtpTimestamp::ZERO,
            transmit: NtpTimestamp::ZERO,
        }
    }

    /// How fast the dispersion grows, in units of 2^-48, rounded up; the least and most
    /// that [`grown`] takes.
    pub fn dispersion_rate_scaled(&self) -> u64 {
        let scaled = self.dispersion_rate.ratio() * (1_u64 << 48) as f64;
        // `as` saturates and takes NaN to 0. The library's call that rounds up costs
        // more than this, on a packet's way.
        let whole = scaled as u64;
        let up = u64::from(scaled > whole as f64);
        whole.saturating_add(up).min(RATE_SCALED_MAX)
    }

    fn growth_until(&self, now: WallInstant) -> NtpDuration {
        let age = NtpTimestamp::from_wall(now) - NtpTimestamp::from_wall(self.updated);
        grown(age, self.dispersion_rate_scaled())
    }
}

/// What a dispersion has grown by at an `age`, at a rate in units of 2^-48. In whole
/// numbers of 64 bits, and of the age's upper 48 bits alone, so that the program of
/// `xdp/`, which has nothing else, tells the same of the same moment.
fn grown(age: NtpDuration, rate_scaled: u64) -> NtpDuration {
    if age.is_negative() {
        return NtpDuration::ZERO;
    }
    let units = age.units().unsigned_abs();
    let (seconds, fraction) = (units >> 32, units >> 16 & 0xffff);
    if seconds >= AGE_MAX_S {
        return NtpDuration::MAX;
    }
    let units = ((seconds * rate_scaled) >> 16) + ((fraction * rate_scaled) >> 32);
    NtpDuration::from_units(units as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dispersion_grows_while_nothing_is_heard() {
        let mut state = SystemState::unsynchronised(Precision::new(-24));
        state.root_dispersion = NtpDuration::from_nanos(1_000_000);
        state.dispersion_rate = Ppm(15.0);
        let later = state.updated + NtpDuration::from_whole_seconds(1000);
        assert_eq!(state.root_dispersion_at(later).as_nanos(), 16_000_000);
        assert_eq!(
            state.root_dispersion_at(state.updated - NtpDuration::from_whole_seconds(9)),
            state.root_dispersion
        );
        assert_eq!(state.error_bound_at(later), NtpDuration::MAX);
        let months = state.updated + NtpDuration::from_whole_seconds(AGE_MAX_S as i64);
        assert_eq!(state.root_dispersion_at(months), NtpDuration::MAX);
    }
}

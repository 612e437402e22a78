//! Four stamps become offset, delay and dispersion (RFC 5905 section 8).

use crate::time::duration::NtpDuration;
use crate::time::instant::MonoInstant;
use crate::time::stamp::StampOrigin;
use crate::time::timestamp::NtpTimestamp;
use crate::time::units::{Ppm, Precision};
use crate::wire::packet::Leap;
use crate::wire::refid::RefId;

/// RFC 5905's PHI: how fast a clock that nobody watches may drift.
pub const PHI: Ppm = Ppm(15.0);

/// The four stamps of one exchange. T1 and T4 are ours, T2 and T3 the server's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exchange {
    /// T1: the request left.
    pub origin: NtpTimestamp,
    /// T2: the request arrived at the server.
    pub receive: NtpTimestamp,
    /// T3: the reply left the server.
    pub transmit: NtpTimestamp,
    /// T4: the reply arrived.
    pub destination: NtpTimestamp,
}

impl Exchange {
    /// θ = ((T2 − T1) + (T3 − T4)) / 2: positive when our clock is behind.
    pub fn offset(&self) -> NtpDuration {
        (self.receive - self.origin).half() + (self.transmit - self.destination).half()
    }

    /// δ = (T4 − T1) − (T3 − T2): the round trip less the server's own time.
    /// Can come out negative when a clock was moved in between.
    pub fn delay(&self) -> NtpDuration {
        (self.destination - self.origin) - (self.transmit - self.receive)
    }
}

/// One sample of a source's clock, as the estimator takes it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Measurement {
    /// θ: source minus local clock. Positive: the local clock is behind.
    pub offset: NtpDuration,
    /// δ: round trip, floored at the precision of the two clocks.
    pub delay: NtpDuration,
    /// ε: reading error of both clocks plus PHI over the exchange (one sigma is far less).
    pub dispersion: NtpDuration,
    /// ρ of the local clock. Hardware stamps may be finer.
    pub precision: NtpDuration,
    /// Middle of the exchange, the moment `offset` speaks of, on the monotonic clock.
    pub at: MonoInstant,
    /// Who took T1 and T4; the worse of the two.
    pub origin: StampOrigin,
    /// Does T3 rest on stamps of real departures (interleaved mode, RFC 9769)? Of this
    /// one, or of the last few, where the server always takes about as long.
    pub interleaved: bool,
    /// The source's warning of a leap second.
    pub leap: Leap,
    /// The source's stratum, 1 to 15.
    pub stratum: u8,
    /// The source's own reference.
    pub refid: RefId,
    /// Δ: the source's round trip to the primary reference.
    pub root_delay: NtpDuration,
    /// Ε: the source's dispersion to the primary reference.
    pub root_dispersion: NtpDuration,
}

#[cfg(test)]
impl Measurement {
    /// For tests: a sample that kernel stamps made of a perfect server.
    pub fn of_perfect_server(at_s: f64, offset_s: f64, delay_s: f64) -> Self {
        Self {
            offset: NtpDuration::from_seconds(offset_s),
            delay: NtpDuration::from_seconds(delay_s),
            dispersion: NtpDuration::from_nanos(120),
            precision: NtpDuration::from_nanos(60),
            at: MonoInstant::from_nanos((at_s * 1e9) as i64),
            origin: StampOrigin::Kernel,
            interleaved: false,
            leap: Leap::None,
            stratum: 1,
            refid: RefId::INIT,
            root_delay: NtpDuration::ZERO,
            root_dispersion: NtpDuration::ZERO,
        }
    }
}

/// ε of one exchange: both clocks' precision, and PHI over its length.
pub fn dispersion(exchange: &Exchange, local: Precision, remote: Precision) -> NtpDuration {
    let length = (exchange.destination - exchange.origin).abs();
    local.to_duration() + remote.to_duration() + length * PHI.ratio()
}

/// The moment halfway through an exchange whose reply arrived (T4) at `received`
/// on the monotonic clock.
pub fn midpoint(exchange: &Exchange, received: MonoInstant) -> MonoInstant {
    received + -(exchange.destination - exchange.origin).half()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> NtpTimestamp {
        NtpTimestamp::ZERO + NtpDuration::from_seconds(seconds)
    }

    #[test]
    fn a_clock_behind_measures_a_positive_offset() {
        let exchange = Exchange {
            origin: at(10.0),
            receive: at(10.6),
            transmit: at(10.7),
            destination: at(10.3),
        };
        assert_eq!(exchange.offset(), NtpDuration::from_seconds(0.5));
        let delay = exchange.delay() - NtpDuration::from_seconds(0.2);
        assert!(delay.abs() < NtpDuration::from_nanos(2), "{delay:?}");
    }

    #[test]
    fn the_era_may_roll_over_between_two_stamps() {
        let exchange = Exchange {
            origin: NtpTimestamp::from_bits(u64::MAX - (1 << 30)),
            receive: NtpTimestamp::from_bits(1 << 30),
            transmit: NtpTimestamp::from_bits(1 << 30),
            destination: NtpTimestamp::from_bits(u64::MAX - (1 << 30)),
        };
        assert_eq!(
            exchange.offset(),
            NtpDuration::from_units(1 << 31),
            "half a second ahead"
        );
    }
}

//! How long a server has a request in its hands, T3 − T2, as its interleaved replies
//! tell it one exchange late (RFC 9769 section 2).
//!
//! Where it is always nearly the same, nobody has to wait for the next reply to know
//! it: the sample of an exchange is complete as soon as the reply is here. Whatever
//! the server took longer this time adds to the round trip, as a queue on the way
//! back would.

use crate::measurement::Exchange;
use crate::time::duration::NtpDuration;

/// Exchanges that count: with eight, chance makes a server steady every other minute.
const EXCHANGES: usize = 16;
/// Fewer say nothing about what is steady.
const EXCHANGES_MIN: usize = 4;
/// Steady are times that spread by no more than this part of what round trips do: a
/// hundredth of the variance is worth less than a sample that is new.
const STEADY_SHARE: f64 = 0.1;
/// They stay steady up to this part, so that it does not change all the time; each
/// change to and fro costs a sample.
const UNSTEADY_SHARE: f64 = 0.2;

/// The last exchanges whose four stamps are all known.
#[derive(Clone, Copy, Debug, Default)]
pub struct Processing {
    times: Recent,
    trips: Recent,
    steady: bool,
}

/// T3 − T2 as it may be supposed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Supposed {
    /// The least of late.
    pub time: NtpDuration,
    /// What it may be too long by, if the server was quicker than ever.
    pub excess_max: NtpDuration,
    /// With a shorter round trip than this, the server may well have been that.
    pub delay_min: NtpDuration,
}

impl Processing {
    /// Takes up a complete exchange.
    pub fn learn(&mut self, exchange: &Exchange) {
        let time = exchange.transmit - exchange.receive;
        self.times.push(time.max(NtpDuration::ZERO));
        self.trips.push(exchange.delay());
        let share = if self.steady {
            UNSTEADY_SHARE
        } else {
            STEADY_SHARE
        };
        self.steady = match (self.times.spread(), self.trips.scatter()) {
            (Some(spread), Some(scatter)) => spread <= scatter * share,
            _ => false,
        };
    }

    /// What to take for T3 − T2 of an exchange just made; none while it is not steady.
    pub fn supposed(&self) -> Option<Supposed> {
        let scatter = self.trips.scatter().filter(|_| self.steady)?;
        let time = self.times.sorted()[0];
        Some(Supposed {
            time,
            excess_max: time.min(scatter),
            delay_min: self.trips.sorted()[0] - scatter,
        })
    }
}

/// The last few durations.
#[derive(Clone, Copy, Debug, Default)]
struct Recent {
    values: [NtpDuration; EXCHANGES],
    entered: usize,
}

impl Recent {
    fn push(&mut self, value: NtpDuration) {
        self.values[self.entered % EXCHANGES] = value;
        self.entered += 1;
    }

    /// The shortest first; those that were never entered come last.
    fn sorted(&self) -> [NtpDuration; EXCHANGES] {
        let mut sorted = self.values;
        let (known, unknown) = sorted.split_at_mut(self.entered.min(EXCHANGES));
        known.sort_unstable();
        unknown.fill(NtpDuration::MAX);
        sorted
    }

    /// All but the longest lie so far apart: a server may stumble once.
    fn spread(&self) -> Option<NtpDuration> {
        let last = self.entered.min(EXCHANGES).checked_sub(2)?;
        let sorted = self.sorted();
        (self.entered >= EXCHANGES_MIN).then(|| sorted[last] - sorted[0])
    }

    /// How far the median lies from the least.
    fn scatter(&self) -> Option<NtpDuration> {
        let middle = self.entered.min(EXCHANGES) / 2;
        let sorted = self.sorted();
        (self.entered >= EXCHANGES_MIN).then(|| sorted[middle] - sorted[0])
    }
}

#[cfg(test)]
mod tests {
    //! Exchanges over a path whose round trip goes up and down by 3 µs; the server
    //! takes so many nanoseconds.

    use super::*;
    use crate::time::timestamp::NtpTimestamp;

    fn learn(processing: &mut Processing, times_ns: &[i64]) {
        for &time_ns in times_ns {
            let trip_ns = 100_000 + 1_000 * (processing.times.entered as i64 % 4);
            let origin = NtpTimestamp::from_bits(1 << 40);
            let receive = origin + NtpDuration::from_nanos(trip_ns / 2);
            let transmit = receive + NtpDuration::from_nanos(time_ns);
            processing.learn(&Exchange {
                origin,
                receive,
                transmit,
                destination: transmit + NtpDuration::from_nanos(trip_ns - trip_ns / 2),
            });
        }
    }

    fn is_steady(processing: &Processing) -> bool {
        processing.supposed().is_some()
    }

    #[test]
    fn a_steady_server_is_known_after_four_exchanges() {
        let mut processing = Processing::default();
        learn(&mut processing, &[20_050, 20_000, 20_100]);
        assert!(!is_steady(&processing));
        learn(&mut processing, &[20_020]);
        let supposed = processing.supposed().expect("steady");
        let about =
            |a: NtpDuration, ns: i64| (a - NtpDuration::from_nanos(ns)).abs().as_nanos() < 5;
        assert!(about(supposed.time, 20_000));
        assert!(about(supposed.excess_max, 2_000), "no more than the noise");
        assert!(about(supposed.delay_min, 98_000));
    }

    #[test]
    fn one_stumble_is_forgiven_and_two_are_not() {
        let mut processing = Processing::default();
        learn(&mut processing, &[20_000, 20_010, 20_000, 20_020]);
        learn(&mut processing, &[90_000]);
        assert!(is_steady(&processing));
        learn(&mut processing, &[60_000]);
        assert!(!is_steady(&processing));
    }

    #[test]
    fn a_server_that_is_quicker_all_at_once_is_steady_no_more() {
        let mut processing = Processing::default();
        learn(&mut processing, &[20_000; 8]);
        learn(&mut processing, &[5_000]);
        assert!(!is_steady(&processing));
        learn(&mut processing, &[5_000; 15]);
        assert!(is_steady(&processing));
    }
}

//! How often to ask a source (RFC 5905 section 13, `poll_update`). A departure: the
//! RFC goes to the longest interval whenever the loop is quiet, which costs accuracy
//! where the oscillator is not. Here the interval is a question of what a packet buys.
//!
//! As long as many samples share the work, each moves the estimate by little, and
//! half of them would do nearly as well: the error grows no faster than the saving.
//! Where a single sample has much to say, the oscillator has wandered off between two
//! of them, and the error grows with more than the square of the interval. So the
//! measure is the gain: the part of a typical sample's news that would be believed.

use crate::mechanisms::{Mechanism, Mechanisms};
use crate::sync::filter::Filter;
use crate::time::instant::MonoInstant;
use crate::time::units::PollExponent;

/// The interval is doubled as long as the gain at twice the interval stays below.
const GAIN_LONGER: f64 = 0.8;

/// It is halved from this gain on.
const GAIN_SHORTER: f64 = 0.95;

/// Samples on which an interval longer than the shortest has to rest: the least round
/// trip and the scale of the noise are learnt soonest from them, and it pays for days.
const SAMPLES_MIN: u32 = 18;

/// Updates that have to agree before the interval is doubled; it is halved at once.
const PATIENCE: u8 = 2;

/// The poll interval of one source.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Poll {
    min: PollExponent,
    max: PollExponent,
    exponent: PollExponent,
    /// Updates on end that would have allowed a longer one.
    votes: u8,
    /// Else it is the longest as soon as it may be.
    by_gain: bool,
}

impl Poll {
    /// Starts at the shortest. A `max` below `min` counts as `min`.
    pub fn new(min: PollExponent, max: PollExponent, mechanisms: Mechanisms) -> Self {
        Self {
            min,
            max: max.max(min),
            exponent: min,
            votes: 0,
            by_gain: mechanisms.have(Mechanism::PollByGain),
        }
    }

    /// Other limits. A `max` below `min` counts as `min`.
    pub fn set_limits(&mut self, min: PollExponent, max: PollExponent) -> PollExponent {
        self.min = min;
        self.max = max.max(min);
        self.exponent = self.exponent.max(min).min(self.max);
        self.exponent
    }

    /// The limits in force.
    pub fn limits(&self) -> (PollExponent, PollExponent) {
        (self.min, self.max)
    }

    /// The interval in force.
    pub fn exponent(&self) -> PollExponent {
        self.exponent
    }

    /// Takes up what is known after a sample at about `now`: the next interval.
    pub fn update(&mut self, filter: &Filter, now: MonoInstant) -> PollExponent {
        let longer = self.exponent.longer(self.max);
        let gain = |exponent: PollExponent| filter.gain_at(now + exponent.interval());
        let (Some(next), Some(after_longer)) = (gain(self.exponent), gain(longer)) else {
            return self.restart();
        };
        if filter.path_samples() < SAMPLES_MIN {
            return self.restart();
        }
        if !self.by_gain {
            self.exponent = self.max;
        } else if next > GAIN_SHORTER {
            self.votes = 0;
            self.exponent = self.exponent.shorter(self.min);
        } else if after_longer > GAIN_LONGER {
            self.votes = 0;
        } else {
            self.votes += 1;
            if self.votes >= PATIENCE {
                self.votes = 0;
                self.exponent = longer;
            }
        }
        self.exponent
    }

    /// Back to the shortest: the source is new, or lost, or the clock was moved.
    pub fn restart(&mut self) -> PollExponent {
        self.votes = 0;
        self.exponent = self.min;
        self.exponent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measurement::Measurement;
    use crate::sync::filter::Start;
    use crate::sync::ledger::{Ledger, MonotonicClock};
    use crate::time::units::Ppm;

    /// Polls a LAN a hundred times with a clock whose frequency jumps by so much, up
    /// and down, between any two polls.
    fn after_a_hundred(jumps: f64) -> Vec<PollExponent> {
        let ledger = Ledger::new(MonoInstant::ZERO, Ppm::ZERO, MonotonicClock::Free);
        let mut filter = Filter::new(Start::default(), Mechanisms::default());
        let (min, max) = (PollExponent::new(6), PollExponent::new(10));
        let mut poll = Poll::new(min, max, Mechanisms::default());
        let (mut now, mut phase_s) = (MonoInstant::ZERO, 0.0);
        (0..100)
            .map(|n| {
                let interval = poll.exponent().interval();
                now = now + interval;
                phase_s += interval.as_seconds() * jumps * [1.0, -1.0, -1.0, 1.0][n % 4];
                // A regular ripple serves as noise: up, down, none.
                let excess_s = [10e-6, -20e-6, 1e-6][n % 3];
                let offset_s = phase_s + excess_s / 2.0;
                let delay_s = 2e-4 + f64::abs(excess_s);
                let at_s = now.since(MonoInstant::ZERO).as_seconds();
                let sample = Measurement::of_perfect_server(at_s, offset_s, delay_s);
                filter.update(&sample, &ledger);
                poll.update(&filter, now)
            })
            .collect()
    }

    #[test]
    fn a_steady_clock_is_asked_less_and_one_that_wanders_often() {
        let steady = after_a_hundred(0.0);
        let start = &steady[..usize::from(SAMPLES_MIN as u8)];
        assert!(start.iter().all(|p| p.log2() == 6), "{steady:?}");
        assert_eq!(steady[99].log2(), 10, "{steady:?}");
        let wanders = after_a_hundred(2e-6);
        assert!(wanders[50..].iter().all(|p| p.log2() == 6), "{wanders:?}");
    }

    #[test]
    fn the_limits_hold_even_when_swapped() {
        let (min, max) = (PollExponent::new(8), PollExponent::new(4));
        let poll = Poll::new(min, max, Mechanisms::default());
        assert_eq!(poll.exponent().log2(), 8);
    }
}

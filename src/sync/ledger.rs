//! A(t): what we ourselves have added to the clock, step and slew, as a function
//! of time. A departure from RFC 5905, whose filter sees every correction as a
//! change of the source: here each sample's offset θ becomes z = θ + A(t), which
//! our steering cannot move, so the filter never has to forget because of us.
//!
//! Sign: a clock that is behind has a positive offset. Running it faster by f
//! for a time dt takes f·dt off the offset and adds f·dt to A; a step of +s takes
//! s off the offset and adds s to A.

use std::collections::VecDeque;

use crate::sync::command::Applied;
use crate::time::duration::NtpDuration;
use crate::time::instant::MonoInstant;
use crate::time::units::Ppm;

/// Corrections remembered. Samples reach back by half a round trip, so even at
/// 128 polls a second this is far more than any of them asks for.
const SEGMENTS_MAX: usize = 256;

/// Does a correction of the clock's frequency also change the pace of the
/// monotonic clock by which this ledger counts?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MonotonicClock {
    /// Yes: the kernel slews CLOCK_MONOTONIC along with CLOCK_REALTIME.
    Slewed,
    /// No: the clock is virtual and CLOCK_MONOTONIC knows nothing of it.
    Free,
}

/// The integral of our corrections over the recent past.
#[derive(Clone, Debug)]
pub struct Ledger {
    monotonic: MonotonicClock,
    /// Never empty; ordered by time.
    segments: VecDeque<Segment>,
}

/// A stretch of constant frequency.
#[derive(Clone, Copy, Debug)]
struct Segment {
    from: MonoInstant,
    /// All steps up to here, the one at `from` included.
    stepped: NtpDuration,
    /// Everything slewed up to `from`. Apart from the steps and in f64, so that
    /// neither is rounded by the other.
    slewed_s: f64,
    frequency: Ppm,
}

impl Ledger {
    /// Starts at `now` with A = 0 and `frequency` already in force.
    pub fn new(now: MonoInstant, frequency: Ppm, monotonic: MonotonicClock) -> Self {
        let segment = Segment {
            from: now,
            stepped: NtpDuration::ZERO,
            slewed_s: 0.0,
            frequency: sane(frequency),
        };
        Self {
            monotonic,
            segments: VecDeque::from([segment]),
        }
    }

    /// Enters what the clock's driver really did.
    pub fn applied(&mut self, applied: &Applied) {
        let last = *self.last();
        let from = applied.now.mono.max(last.from);
        if self.segments.len() == SEGMENTS_MAX {
            self.segments.pop_front();
        }
        self.segments.push_back(Segment {
            from,
            stepped: last.stepped + applied.stepped,
            slewed_s: self.slewed_s(&last, from),
            frequency: sane(applied.frequency),
        });
    }

    /// Somebody else moved the clock at `now`: what was before cannot be compared
    /// with what comes after. Forgets the past; the frequency stays in force.
    /// The filters have to be reset with it.
    pub fn reset(&mut self, now: MonoInstant) {
        let frequency = self.last().frequency;
        *self = Self::new(now, frequency, self.monotonic);
    }

    /// Is `at` within the history kept?
    pub fn covers(&self, at: MonoInstant) -> bool {
        self.segments.front().is_some_and(|first| at >= first.from)
    }

    /// A at the moment `at`, from an arbitrary zero. Ahead of the latest
    /// correction it goes on at the frequency in force; before the history kept,
    /// it goes back at the oldest.
    pub fn integral_at(&self, at: MonoInstant) -> NtpDuration {
        let after = self.segments.partition_point(|s| s.from <= at);
        let segment = self.segments[after.saturating_sub(1)];
        segment.stepped + NtpDuration::from_seconds(self.slewed_s(&segment, at))
    }

    /// The frequency correction in force.
    pub fn frequency(&self) -> Ppm {
        self.last().frequency
    }

    /// The frequency correction under which A gains `rate`, a ratio, for each
    /// second of the monotonic clock. The two differ by the square of the rate:
    /// 2.5·10⁻⁹ at 50 ppm.
    pub fn frequency_for(&self, rate: f64) -> Ppm {
        Ppm::from_ratio(match self.monotonic {
            MonotonicClock::Free => rate,
            MonotonicClock::Slewed => rate / (1.0 - rate),
        })
    }

    fn last(&self) -> &Segment {
        &self.segments[self.segments.len() - 1]
    }

    fn slewed_s(&self, segment: &Segment, at: MonoInstant) -> f64 {
        let ratio = segment.frequency.ratio();
        let gain = match self.monotonic {
            MonotonicClock::Free => ratio,
            // dt on the slewed clock is only dt/(1+f) of the oscillator's time.
            MonotonicClock::Slewed => ratio / (1.0 + ratio),
        };
        // Whole nanoseconds subtract exactly, a day's worth fits f64 exactly too.
        let elapsed_ns = at.nanos().saturating_sub(segment.from.nanos());
        segment.slewed_s + elapsed_ns as f64 * 1e-9 * gain
    }
}

/// No clock runs at NaN; what a broken driver says must not spread.
fn sane(frequency: Ppm) -> Ppm {
    if frequency.0.is_finite() {
        frequency.clamp_to(Ppm(100_000.0))
    } else {
        Ppm::ZERO
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::instant::{Now, WallInstant};

    fn second(s: i64) -> MonoInstant {
        MonoInstant::from_nanos(s * 1_000_000_000)
    }

    fn applied(at_s: i64, stepped_s: f64, frequency: Ppm) -> Applied {
        Applied {
            now: Now {
                mono: second(at_s),
                wall: WallInstant::from_unix_ns(0),
            },
            stepped: NtpDuration::from_seconds(stepped_s),
            frequency,
        }
    }

    #[test]
    fn steps_and_slews_add_up_and_the_past_can_be_asked() {
        let mut ledger = Ledger::new(second(0), Ppm(10.0), MonotonicClock::Free);
        ledger.applied(&applied(100, 0.5, Ppm(-20.0)));
        ledger.applied(&applied(200, 0.0, Ppm::ZERO));
        for (at_s, expected_ns) in [
            (0, 0),
            (50, 500_000),
            (99, 990_000),
            (100, 501_000_000),
            (150, 500_000_000),
            (1000, 499_000_000),
        ] {
            let found = ledger.integral_at(second(at_s)).as_nanos();
            assert_eq!(found, expected_ns, "at {at_s} s");
        }
    }

    #[test]
    fn a_slewed_monotonic_clock_counts_longer_seconds() {
        let mut ledger = Ledger::new(second(0), Ppm(500.0), MonotonicClock::Slewed);
        assert_eq!(ledger.integral_at(second(200)).as_nanos(), 99_950_025);
        let frequency = ledger.frequency_for(99.950025e-3 / 200.0);
        assert!((frequency.0 - 500.0).abs() < 1e-5, "{frequency:?}");
        ledger.applied(&applied(200, 0.0, Ppm(f64::NAN)));
        assert_eq!(ledger.integral_at(second(900)).as_nanos(), 99_950_025);
    }

    #[test]
    fn history_is_bounded_and_a_foreign_step_ends_it() {
        let mut ledger = Ledger::new(second(0), Ppm(1.0), MonotonicClock::Free);
        for s in 1..1000 {
            ledger.applied(&applied(s, 0.0, Ppm(1.0)));
        }
        assert_eq!(ledger.segments.len(), SEGMENTS_MAX);
        assert_eq!(ledger.integral_at(second(1000)).as_nanos(), 1_000_000);
        assert_eq!(ledger.integral_at(second(10)).as_nanos(), 10_000);
        assert!(!ledger.covers(second(10)));
        ledger.reset(second(1000));
        assert!(!ledger.covers(second(999)) && ledger.covers(second(1000)));
        assert_eq!(ledger.frequency(), Ppm(1.0));
    }
}

//! The clock we discipline: the kernel's, a virtual one above it, or none.
//!
//! Last station of the journey down: a [`ClockCommand`] becomes adjtimex, and
//! what the kernel really did goes back up as [`Applied`].

use std::fmt;
use std::io;

use crate::daemon::status::ClockKind;
use crate::linux::clock;
use crate::linux::timex::{LeapSecond, Right, Status, Timex};
use crate::sync::command::{Applied, ClockCommand, ClockStatus};
use crate::sync::ledger::MonotonicClock;
use crate::time::duration::NtpDuration;
use crate::time::instant::{MonoInstant, Now, WallInstant};
use crate::time::map::ClockMap;
use crate::time::stamp::Stamp;
use crate::time::units::Ppm;
use crate::wire::packet::Leap;

/// The kernel's resolution of frequencies: 2^-16 ppm (adjtimex(2)).
const FREQUENCY_STEPS_PER_PPM: f64 = 65536.0;
/// The farthest a virtual clock can be bent, as the kernel's tick and frequency together.
const FREQUENCY_MAX: Ppm = Ppm(100_000.0);

/// A clock to read, and perhaps to steer.
#[derive(Debug)]
pub enum Clock {
    /// CLOCK_REALTIME, steered by adjtimex.
    System {
        /// Its driver.
        timex: Timex,
        /// Correction in force.
        frequency: Ppm,
        /// May the kernel copy good time to the real-time clock?
        kernel_sets_rtc: bool,
    },
    /// CLOCK_REALTIME, never touched.
    Observed,
    /// A line above CLOCK_REALTIME that we bend.
    Virtual {
        /// The line.
        map: ClockMap,
        /// How much faster the clock runs by itself.
        natural: Ppm,
        /// Correction in force.
        frequency: Ppm,
    },
}

impl Clock {
    /// The kernel's clock, to be steered, taken over from whoever did so before;
    /// or `None` without the right to (CAP_SYS_TIME). With `kernel_sets_rtc` the kernel
    /// copies the time to the real-time clock while it is good.
    pub fn system(kernel_sets_rtc: bool) -> io::Result<Option<Self>> {
        let timex = Timex::new();
        if let Right::Denied = timex.may_steer()? {
            return Ok(None);
        }
        let frequency = timex.take_over()?.frequency;
        Ok(Some(Self::System {
            timex,
            frequency,
            kernel_sets_rtc,
        }))
    }

    /// A clock that starts `offset` ahead of CLOCK_REALTIME and runs `natural` too fast.
    pub fn virtual_from(offset: NtpDuration, natural: Ppm) -> Self {
        let real = clock::realtime();
        Self::Virtual {
            map: ClockMap {
                anchor_real: real,
                anchor_local: real + offset,
                rate: natural,
            },
            natural,
            frequency: Ppm::ZERO,
        }
    }

    /// The word for it in reports.
    pub fn kind(&self) -> ClockKind {
        match self {
            Self::System { .. } => ClockKind::System,
            Self::Observed => ClockKind::None,
            Self::Virtual { .. } => ClockKind::Virtual,
        }
    }

    /// Correction in force.
    pub fn frequency(&self) -> Ppm {
        match self {
            Self::System { frequency, .. } | Self::Virtual { frequency, .. } => *frequency,
            Self::Observed => Ppm::ZERO,
        }
    }

    /// How CLOCK_MONOTONIC goes with this clock.
    pub fn monotonic(&self) -> MonotonicClock {
        match self {
            Self::System { .. } => MonotonicClock::Slewed,
            Self::Observed | Self::Virtual { .. } => MonotonicClock::Free,
        }
    }

    /// May [`apply`](Self::apply) be called?
    pub fn is_steered(&self) -> bool {
        !matches!(self, Self::Observed)
    }

    /// From CLOCK_REALTIME, where kernels stamp, to this clock.
    pub fn map(&self) -> ClockMap {
        match self {
            Self::Virtual { map, .. } => *map,
            Self::System { .. } | Self::Observed => ClockMap::IDENTITY,
        }
    }

    /// A kernel stamp on this clock.
    pub fn localise(&self, stamp: Stamp) -> Stamp {
        Stamp {
            at: self.map().to_local(stamp.at),
            ..stamp
        }
    }

    /// Both clocks, now.
    pub fn now(&self) -> Now {
        Now {
            mono: clock::monotonic(),
            wall: self.map().to_local(clock::realtime()),
        }
    }

    /// This clock minus CLOCK_REALTIME: the true error, where the kernel's clock is the truth.
    pub fn true_error(&self) -> Option<NtpDuration> {
        match self {
            Self::Virtual { map, .. } => Some(map.error_at(clock::realtime())),
            Self::System { .. } | Self::Observed => None,
        }
    }

    /// Does what is asked, and says what was done. An error leaves the clock as it was.
    pub fn apply(&mut self, command: ClockCommand) -> io::Result<Applied> {
        let mut stepped = NtpDuration::ZERO;
        let in_force = match self {
            Self::System {
                timex,
                frequency,
                kernel_sets_rtc,
            } => {
                match command {
                    ClockCommand::Step(by) => stepped = timex.step(by)?,
                    ClockCommand::SetFrequency(to) => *frequency = timex.set_frequency(to)?,
                    ClockCommand::SetStatus(status) => {
                        timex.set_status(&kernel_status(&status, *kernel_sets_rtc))?;
                    }
                }
                *frequency
            }
            Self::Observed => {
                return Err(io::Error::new(
                    io::ErrorKind::PermissionDenied,
                    "the clock is only observed",
                ));
            }
            Self::Virtual {
                map,
                natural,
                frequency,
            } => {
                let real = clock::realtime();
                match command {
                    ClockCommand::Step(by) => {
                        *map = map.reanchored(real);
                        map.anchor_local = map.anchor_local + by;
                        stepped = by;
                    }
                    ClockCommand::SetFrequency(to) => {
                        *map = map.reanchored(real);
                        let to = to.clamp_to(FREQUENCY_MAX).0 * FREQUENCY_STEPS_PER_PPM;
                        *frequency = Ppm(to.round() / FREQUENCY_STEPS_PER_PPM);
                        let rate = (1.0 + natural.ratio()) * (1.0 + frequency.ratio()) - 1.0;
                        map.rate = Ppm::from_ratio(rate);
                    }
                    ClockCommand::SetStatus(_) => {}
                }
                *frequency
            }
        };
        Ok(Applied {
            now: self.now(),
            stepped,
            frequency: in_force,
        })
    }
}

fn kernel_status(status: &ClockStatus, kernel_sets_rtc: bool) -> Status {
    Status {
        synchronised: status.synchronised,
        kernel_sets_rtc,
        leap: match status.leap {
            Leap::Insert => LeapSecond::Insert,
            Leap::Delete => LeapSecond::Delete,
            Leap::None | Leap::Unknown => LeapSecond::None,
        },
        error_max: status.error_max,
        error_estimate: status.error_estimate,
        tai_offset: status.tai_offset,
    }
}

/// Notices a clock that somebody else moves (`date -s`, a suspended machine, the
/// kernel's leap second): CLOCK_REALTIME against CLOCK_MONOTONIC, which are
/// slewed alike and differ only by steps.
#[derive(Debug)]
pub struct StepWatch {
    last: Difference,
}

/// Smaller moves than this are slews, or of no matter.
const FOREIGN_STEP_MIN: NtpDuration = NtpDuration::from_units(1 << 23); // 2 ms

/// CLOCK_REALTIME minus CLOCK_MONOTONIC, as well as two clocks can be read together.
#[derive(Clone, Copy, Debug)]
struct Difference {
    ns: i64,
    /// It may be off by this much either way: whoever was put to sleep between two
    /// readings must not take that for a step.
    doubt_ns: i64,
}

impl StepWatch {
    /// Starts watching.
    pub fn new() -> Self {
        Self {
            last: Difference::read(),
        }
    }

    /// How far CLOCK_REALTIME was moved since the last call, if it was.
    pub fn moved(&mut self) -> Option<NtpDuration> {
        let now = Difference::read();
        let moved = NtpDuration::from_nanos(now.ns.wrapping_sub(self.last.ns));
        let doubt = NtpDuration::from_nanos(now.doubt_ns + self.last.doubt_ns);
        if moved.abs() < FOREIGN_STEP_MIN + doubt {
            return None;
        }
        self.last = now;
        Some(moved)
    }

    /// A step of our own: not to be noticed.
    pub fn expect(&mut self, step: NtpDuration) {
        self.last.ns = self.last.ns.wrapping_add(step.as_nanos());
    }
}

impl Difference {
    /// The tightest of a few readings.
    fn read() -> Self {
        let readings = [(); 3].map(|()| {
            let before: MonoInstant = clock::monotonic();
            let wall: WallInstant = clock::realtime();
            let after: MonoInstant = clock::monotonic();
            let doubt_ns = (after.nanos() - before.nanos()) / 2;
            Self {
                ns: wall.unix_ns() - (before.nanos() + doubt_ns),
                doubt_ns,
            }
        });
        readings
            .into_iter()
            .min_by_key(|reading| reading.doubt_ns)
            .expect("three readings")
    }
}

impl Default for StepWatch {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System { .. } => f.write_str("the system clock"),
            Self::Observed => f.write_str("the system clock, observed only"),
            Self::Virtual { .. } => f.write_str("a virtual clock"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_virtual_clock_obeys_and_says_how_well() {
        let mut clock = Clock::virtual_from(NtpDuration::from_seconds(0.5), Ppm(50.0));
        let start = clock.true_error().expect("virtual");
        assert!((start - NtpDuration::from_seconds(0.5)).abs() < NtpDuration::from_seconds(0.01));
        let applied = clock
            .apply(ClockCommand::Step(NtpDuration::from_seconds(-0.5)))
            .expect("virtual clocks step");
        assert_eq!(applied.stepped, NtpDuration::from_seconds(-0.5));
        assert!(clock.true_error().expect("virtual").abs() < NtpDuration::from_seconds(0.01));
        let applied = clock
            .apply(ClockCommand::SetFrequency(Ppm(-50.000_001)))
            .expect("virtual clocks slew");
        assert_eq!(applied.frequency, Ppm(-50.0), "rounded as the kernel would");
        assert!(clock.map().rate.abs().0 < 0.01);
    }

    #[test]
    fn an_observed_clock_refuses() {
        assert!(
            Clock::Observed
                .apply(ClockCommand::Step(NtpDuration::ZERO))
                .is_err()
        );
    }

    #[test]
    fn nobody_moves_this_clock_and_our_own_steps_are_expected() {
        let mut watch = StepWatch::new();
        assert_eq!(watch.moved(), None);
        watch.expect(NtpDuration::from_whole_seconds(5));
        let moved = watch.moved().expect("the step that did not come");
        assert!((moved + NtpDuration::from_whole_seconds(5)).abs() < FOREIGN_STEP_MIN);
    }
}

//! What the discipline wants done to the clock, and what was really done.

use crate::time::duration::NtpDuration;
use crate::time::instant::Now;
use crate::time::units::Ppm;
use crate::wire::packet::Leap;

/// An order to the clock's driver. Each one replaces the last of its kind.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum ClockCommand {
    /// Add this to the clock at once; positive is forward.
    Step(NtpDuration),
    /// Run at this correction from now on: the clock's own error and whatever
    /// slews an offset away, in one number.
    SetFrequency(Ppm),
    /// Tell the kernel how good the time is (maxerror, STA_UNSYNC, leap flags).
    SetStatus(ClockStatus),
}

/// How good the time is, in the kernel's terms (adjtimex(2)).
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ClockStatus {
    /// Clears STA_UNSYNC, unless somebody else than the kernel sets the real-time clock.
    pub synchronised: bool,
    /// Sets STA_INS or STA_DEL. The kernel acts on them at the end of the UTC day.
    pub leap: Leap,
    /// `maxerror`: the error bound.
    pub error_max: NtpDuration,
    /// `esterror`: the likely error.
    pub error_estimate: NtpDuration,
    /// TAI − UTC in whole seconds, where it is known.
    pub tai_offset: Option<i32>,
}

/// What the clock's driver really did, which can differ from the order: kernels
/// round frequencies to 2^-16 ppm and clamp them.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Applied {
    /// When, on both clocks, read after the deed.
    pub now: Now,
    /// What was added to the clock; zero unless it was stepped.
    pub stepped: NtpDuration,
    /// The frequency correction in force from here on.
    pub frequency: Ppm,
}

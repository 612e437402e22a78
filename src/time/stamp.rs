//! A packet's time of arrival or departure, and who took it.

use crate::time::duration::NtpDuration;
use crate::time::instant::WallInstant;

/// Who took a stamp, from worst to best.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum StampOrigin {
    /// The daemon read the clock itself, before or after the system call.
    Daemon,
    /// The kernel's network stack (SO_TIMESTAMPING software stamps).
    Kernel,
    /// The network interface's own clock.
    Hardware,
}

impl StampOrigin {
    /// The word used in metrics labels and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Daemon => "daemon",
            Self::Kernel => "kernel",
            Self::Hardware => "hardware",
        }
    }
}

/// When a packet crossed the boundary, on the clock its `origin` reads.
///
/// As `linux/` gives it, `at` is CLOCK_REALTIME; the daemon maps it to the clock
/// being disciplined before anything else sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    /// The moment.
    pub at: WallInstant,
    /// Who read the clock.
    pub origin: StampOrigin,
    /// It may be off by so much more than the precision of the clock: a hardware
    /// clock is known only so well. Zero for the others.
    pub error: NtpDuration,
    /// How long the frame of an arrival took to come in, if a network card stamped it and
    /// the speed of its link is known; else zero. `at` is the frame's end.
    pub frame_time: NtpDuration,
}

impl Stamp {
    /// The daemon's own reading.
    pub const fn daemon(at: WallInstant) -> Self {
        Self::exact(at, StampOrigin::Daemon)
    }

    /// The network stack's.
    pub const fn kernel(at: WallInstant) -> Self {
        Self::exact(at, StampOrigin::Kernel)
    }

    /// Of the clock itself.
    pub const fn exact(at: WallInstant, origin: StampOrigin) -> Self {
        Self {
            at,
            origin,
            error: NtpDuration::ZERO,
            frame_time: NtpDuration::ZERO,
        }
    }
}

//! A packet's time of arrival or departure, and who took it.

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
}

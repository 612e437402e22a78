//! Files of measurements as ntpd and chronyd write them (docs/STATISTICS.md): what there is
//! to write ([`Entry`]), how it is written ([`lines`]), into which file
//! ([`files`]), and by whose hands: the single thread's own ([`files`]), or the
//! service thread's through its ring ([`ring`]). The time loop hands entries over and
//! never waits for a disk.

pub mod files;
pub mod hourly;
pub mod lines;
pub mod ring;

use crate::config::statistics::{FileKind, StatisticsConfig};
use crate::node::action::Event;
use crate::node::record::{Fact, Wanted};
use crate::node::report::NodeReport;
use crate::time::duration::NtpDuration;
use crate::time::instant::{Now, WallInstant};
use crate::time::units::Ppm;

/// Something to be written.
#[derive(Clone, Debug)]
pub struct Entry {
    /// When it was so.
    pub now: Now,
    /// What.
    pub what: What,
}

/// See [`Entry`].
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "an entry is handed over in a box of its own"
)]
pub enum What {
    /// The node did it.
    Fact(Fact),
    /// The operator was told of it; and how all stood then.
    Event(Event, Box<NodeReport>),
    /// The server counted this.
    Served(Served),
    /// The process used this.
    Used(Used),
    /// The real-time clock was measured.
    Rtc(RtcFact),
}

/// What the server counted since the line before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Served {
    /// How long.
    pub period: NtpDuration,
    /// Requests in all.
    pub received: u64,
    /// Of these, answered with the time.
    pub processed: u64,
    /// Refused by rules.
    pub restricted: u64,
    /// Not understood.
    pub bad: u64,
    /// Of those not understood, by their version.
    pub bad_version: u64,
    /// With a MAC that is not ours.
    pub badauth: u64,
    /// Nothing that is answered.
    pub declined: u64,
    /// Too many.
    pub limited: u64,
    /// Of these, told so.
    pub kod: u64,
}

/// What the process used since the line before (getrusage(2)).
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Used {
    /// How long, seconds.
    pub period_s: f64,
    /// Processor time of its own and of the kernel for it, seconds.
    pub cpu_s: [f64; 2],
    /// Page faults without and with a disk, swaps, reads and writes of disks, signals and
    /// switches as getrusage orders them: minflt, majflt, nswap, inblock, oublock, nvcsw,
    /// nivcsw, nsignals.
    pub counts: [i64; 8],
    /// Most memory that was ever resident, KiB.
    pub maxrss_kib: i64,
}

/// A measurement of the real-time clock.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct RtcFact {
    /// When.
    pub at: WallInstant,
    /// Real-time clock minus system clock, seconds.
    pub offset_s: f64,
    /// The same as all measurements together have it.
    pub estimate_s: f64,
    /// What the clock gains.
    pub rate: Ppm,
    /// Measurements that rests on.
    pub samples: usize,
    /// Since the measurement before, seconds; 0: there was none.
    pub interval_s: i64,
}

/// What has to be made for the files of a configuration.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Needs {
    /// By the node.
    pub facts: Wanted,
    /// [`What::Event`].
    pub events: bool,
    /// [`What::Served`].
    pub served: bool,
    /// [`What::Used`].
    pub used: bool,
    /// [`What::Rtc`].
    pub rtc: bool,
}

impl Needs {
    /// Of `config`. A threshold for the log needs the updates too.
    pub fn of(config: &StatisticsConfig) -> Self {
        let mut needs = Self::default();
        needs.facts.updates = config.change.is_some();
        for (file, _) in config.written() {
            match file.kind {
                FileKind::Loopstats | FileKind::Tracking => needs.facts.updates = true,
                FileKind::Peerstats | FileKind::Statistics => needs.facts.samples = true,
                FileKind::Rawstats | FileKind::Measurements => needs.facts.replies = true,
                FileKind::Clockstats | FileKind::Refclocks => needs.facts.readings = true,
                FileKind::Selection => needs.facts.selections = true,
                FileKind::Protostats => needs.events = true,
                FileKind::Sysstats => needs.served = true,
                FileKind::Usestats => needs.used = true,
                FileKind::Rtc => needs.rtc = true,
            }
        }
        needs
    }
}

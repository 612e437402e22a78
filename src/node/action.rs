//! What the node wants done. The daemon does it and reports back; the simulator
//! does it in virtual time.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::client::association::Whence;
use crate::node::record::Record;
use crate::sync::command::ClockCommand;
use crate::sync::filter::Start;
use crate::system::SystemState;
use crate::time::duration::NtpDuration;
use crate::wire::refid::KissCode;

/// Place of a source in the configuration.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SourceId(pub usize);

/// An association with one address, never used again for another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AssociationId(pub u64);

/// One thing to do, in the order given.
#[derive(Clone, PartialEq, Debug)]
pub enum Action {
    /// Send a request from a fresh socket, which replaces the association's last one; to a
    /// peer from the socket that is open still, after
    /// [`restamp`](crate::node::engine::Node::restamp).
    Send {
        /// On whose behalf.
        association: AssociationId,
        /// Where to.
        to: SocketAddr,
        /// The port it leaves from.
        from: Whence,
        /// The datagram.
        bytes: Vec<u8>,
    },
    /// The association waits for nothing: close its socket.
    Close(AssociationId),
    /// Do this to the clock and call `on_applied`.
    Steer(ClockCommand),
    /// Serve with these values from now on.
    Publish(SystemState),
    /// Read this source's clock together with ours and call `on_reading`, or
    /// `on_reading_failed`.
    ReadClock {
        /// On whose behalf.
        association: AssociationId,
        /// Which one.
        source: SourceId,
    },
    /// Look the name up and call `on_resolved`.
    Resolve(SourceId),
    /// Our upstream addresses are now these (for `restrict source`).
    Upstreams(Vec<IpAddr>),
    /// Keep this frequency for the next start.
    KeepFrequency(Start),
    /// Keep it in files, if there are any for it.
    Record(Box<Record>),
    /// Tell the operator.
    Log(Event),
    /// The clock was set, and that was all that was wanted (`-q`).
    Done,
    /// Nothing can be done; stop with this sentence.
    Fatal(String),
    /// The clock is beyond the panic limit; stop with this sentence, and don't start
    /// again without being told.
    Panic(String),
}

/// A source as the log names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Whom {
    /// A server.
    Server(SocketAddr),
    /// A reference clock, by its refid and by what the configuration calls it.
    Clock(String, String),
}

impl fmt::Display for Whom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(address) => write!(f, "{address}"),
            Self::Clock(refid, device) => write!(f, "{refid} ({device})"),
        }
    }
}

/// What an operator wants to read in the log, once when it happens.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// The reference is now this server.
    Selected {
        /// Its address, or `local`.
        source: String,
        /// Our own stratum from now on.
        stratum: u8,
    },
    /// No source is left to follow.
    Lost,
    /// We stepped the clock.
    Stepped(NtpDuration),
    /// Somebody else moved the clock.
    MovedByOthers(NtpDuration),
    /// A server told us to go away or to slow down.
    Kissed(SocketAddr, KissCode),
    /// A source stopped giving the time.
    Unreachable(Whom),
    /// It gives it again, or for the first time.
    Reachable(Whom),
    /// Selection found that it lies.
    Falseticker(Whom),
    /// This clock counts TAI, and nobody says how far that is from UTC.
    TaiUnknown(Whom),
    /// The time can no longer be vouched for.
    Unsynchronised,
    /// The sources of the start found this offset; it was stepped, or is being slewed.
    InitiallySet(NtpDuration, bool),
    /// None of the sources of the start gave the time.
    InitialFailed,
}

impl Event {
    /// Does it call for the operator's eye?
    pub fn is_warning(&self) -> bool {
        !matches!(
            self,
            Self::Selected { .. } | Self::Reachable(_) | Self::InitiallySet(..)
        )
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Selected { source, stratum } => {
                write!(f, "following {source}, now at stratum {stratum}")
            }
            Self::Lost => f.write_str(
                "no source left to follow; serving with growing root dispersion until one is back",
            ),
            Self::InitiallySet(offset, stepped) => write!(
                f,
                "the sources of `initstepslew` found the clock off by {:+.6} s, which is {}",
                offset.as_seconds(),
                if *stepped { "stepped" } else { "slewed away" }
            ),
            Self::InitialFailed => f.write_str(
                "no source of `initstepslew` gave the time; the clock was not set by them",
            ),
            Self::Stepped(by) => write!(f, "clock stepped by {:+.6} s", by.as_seconds()),
            Self::MovedByOthers(by) => write!(
                f,
                "the clock was moved by {:+.6} s by somebody else; measuring anew",
                by.as_seconds()
            ),
            Self::Kissed(server, KissCode::Rate) => {
                write!(f, "{server} says we ask too often (RATE); asking less")
            }
            Self::Kissed(server, kiss @ (KissCode::Deny | KissCode::Rstr)) => {
                let code = kiss.to_refid().display(0);
                write!(
                    f,
                    "{server} refuses to serve us ({code}); not asking it again"
                )
            }
            Self::Kissed(server, KissCode::Other(_)) => write!(f, "{server} sent a kiss"),
            Self::Unreachable(source) => write!(f, "{source} gives no time"),
            Self::Reachable(source @ Whom::Server(_)) => write!(f, "{source} answers"),
            Self::Reachable(source @ Whom::Clock(..)) => write!(f, "{source} gives time"),
            Self::TaiUnknown(source) => write!(
                f,
                "{source} counts TAI, and its distance from UTC is unknown; name a table of leap \
                 seconds with `leapfile FILE` (often /usr/share/zoneinfo/leap-seconds.list)"
            ),
            Self::Falseticker(source) => {
                write!(f, "{source} disagrees with the majority (falseticker)")
            }
            Self::Unsynchronised => f.write_str(
                "the clock may be off by more than can be vouched for; serving as unsynchronised",
            ),
        }
    }
}

//! What the node did, fact by fact, for those who keep files of it: an answer came, a
//! sample was taken, the clock was corrected. Made only where somebody wants it
//! ([`Wanted`]); nothing that a stranger sends makes a record, only answers to requests.

use std::net::{IpAddr, SocketAddr};

use crate::client::packet_test::PacketTest;
use crate::measurement::Exchange;
use crate::node::report::{SourceReport, SystemReport};
use crate::time::duration::NtpDuration;
use crate::time::instant::Now;
use crate::time::stamp::StampOrigin;
use crate::time::units::PollExponent;
use crate::wire::packet::Header;
use crate::wire::refid::RefId;

/// Which records are made; none to begin with.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Wanted {
    /// [`Fact::Reply`].
    pub replies: bool,
    /// [`Fact::Sample`].
    pub samples: bool,
    /// [`Fact::Update`].
    pub updates: bool,
    /// [`Fact::Selection`].
    pub selections: bool,
    /// [`Fact::Reading`].
    pub readings: bool,
}

/// One fact.
#[derive(Clone, PartialEq, Debug)]
pub struct Record {
    /// When it became one.
    pub now: Now,
    /// What.
    pub fact: Fact,
}

/// See [`Record`].
#[derive(Clone, PartialEq, Debug)]
pub enum Fact {
    /// A server answered.
    Reply(ReplyFact),
    /// A source's estimate was brought up to date by a sample.
    Sample(SampleFact),
    /// The clock was corrected, or there is nothing any more to correct it by.
    Update(UpdateFact),
    /// The sources were judged: each of them, as it stands now.
    Selection(Vec<SourceReport>),
    /// A reference clock was read.
    Reading(ReadingFact),
}

/// An answer to a request, authentic as far as the source has a key.
#[derive(Clone, PartialEq, Debug)]
pub struct ReplyFact {
    /// Who.
    pub address: SocketAddr,
    /// Our address that was answered, if it is known.
    pub local: Option<IpAddr>,
    /// As it came.
    pub header: Header,
    /// T1 to T4.
    pub exchange: Exchange,
    /// Who took T1 and T4.
    pub origins: (StampOrigin, StampOrigin),
    /// Does T3 belong to an earlier answer (RFC 9769)?
    pub interleaved: bool,
    /// The test that it failed, if it did.
    pub failed: Option<PacketTest>,
    /// θ; positive: we are behind. Zero if a test failed, as the next two.
    pub offset: NtpDuration,
    /// δ.
    pub delay: NtpDuration,
    /// ε.
    pub dispersion: NtpDuration,
    /// How often we ask.
    pub poll: PollExponent,
}

/// A source after a sample.
#[derive(Clone, PartialEq, Debug)]
pub struct SampleFact {
    /// The source.
    pub source: SourceReport,
    /// ε of the estimate, ages included.
    pub dispersion: NtpDuration,
    /// |change of the frequency estimate| by what it might have been wrong before.
    pub stress: f64,
}

/// A correction.
#[derive(Clone, PartialEq, Debug)]
pub struct UpdateFact {
    /// What we tell the world from now on.
    pub system: SystemReport,
    /// What the clock lacked; positive: it was behind. Zero if nobody is followed.
    pub offset: NtpDuration,
    /// What that may be wrong by, one sigma.
    pub offset_sigma: NtpDuration,
    /// So many sources together said so; 0: nobody is followed any more.
    pub combined: usize,
    /// What was still being slewed away from the correction before; positive: it was behind.
    pub pending: NtpDuration,
    /// What the clock may have been wrong by until now; none: nobody knew.
    pub error_before: Option<NtpDuration>,
}

/// A reading of a reference clock.
#[derive(Clone, PartialEq, Debug)]
pub struct ReadingFact {
    /// Its name in reports, and as configured.
    pub name: String,
    /// The same as on the wire.
    pub refid: RefId,
    /// Its place among those since the last poll, from 0; none: all of them made one
    /// measurement.
    pub place: Option<usize>,
    /// The clock less ours, as it was read. Meaningless for a measurement.
    pub raw: NtpDuration,
    /// θ: the same with all corrections.
    pub offset: NtpDuration,
    /// What it may be wrong by.
    pub dispersion: NtpDuration,
}

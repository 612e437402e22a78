//! What the node knows, as plain values for people, programs and metrics. The
//! field names are the JSON names of `ptntp stat --json` and `ptntp peers
//! --json`; they are an interface, so they only grow.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::client::options::SourceOptions;
use crate::node::pool::SourceSpec;
use crate::sync::select::Tally;
use crate::wire::packet::{Header, STRATUM_MAX};
use crate::wire::refid::RefId;

/// [`SystemReport::source`] while the undisciplined local clock is served.
pub const LOCAL: &str = "local";

/// [`SourceReport::kind`] of a reference clock: it has no address, and its own refid.
pub const CLOCK: char = 'r';
/// [`SourceReport::kind`] of a server that was heard broadcasting.
pub const HEARD: char = 'b';
/// [`SourceReport::kind`] of a peer.
pub const PEER: char = 's';

/// One source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceReport {
    /// Which association it is, as ntpq counts them: never 0, the same for as long as it
    /// lives.
    #[serde(default)]
    pub id: u16,
    /// As written in the configuration.
    pub name: String,
    /// Whom we ask; none while the name does not resolve. For clocks, none.
    pub address: Option<SocketAddr>,
    /// Our address that the last request left from.
    #[serde(default)]
    pub local: Option<IpAddr>,
    /// `u` unicast, `p` one of a pool, `s` a symmetric peer, `b` heard
    /// broadcasting, `l` the local clock, `r` a reference clock.
    pub kind: char,
    /// Selection's verdict.
    pub tally: Tally,
    /// The source's refid as ntpq shows it.
    pub refid: String,
    /// The source's stratum; 16 until heard.
    pub stratum: u8,
    /// Seconds since the last valid reply.
    pub when_s: Option<f64>,
    /// Poll interval in seconds.
    pub poll_s: f64,
    /// The last eight requests, newest in the lowest bit; set = answered.
    pub reach: u8,
    /// Round trip (δ) of the last sample.
    pub delay_s: Option<f64>,
    /// Estimated source minus local clock; positive: we are behind.
    pub offset_s: Option<f64>,
    /// RMS of recent offsets about the estimate.
    pub jitter_s: Option<f64>,
    /// Λ: the most the source's time can be wrong.
    pub root_distance_s: Option<f64>,
    /// `daemon`, `kernel` or `hardware`: who took the last sample's transmit and receive stamps.
    pub stamp_tx: Option<String>,
    /// See `stamp_tx`.
    pub stamp_rx: Option<String>,
    /// Is the last sample an interleaved one?
    pub interleaved: bool,
    /// Requests sent.
    pub sent: u64,
    /// Valid replies.
    pub received: u64,
    /// Replies that failed a packet test, by the test's name; tests never failed are left out.
    pub rejected: BTreeMap<String, u64>,
    /// What its last reply said of itself.
    #[serde(default)]
    pub reply: Option<ReplyReport>,
    /// The last samples, newest first; eight at most.
    #[serde(default)]
    pub recent: Vec<SampleReport>,
    /// What chronyc's reports have beside.
    #[serde(default)]
    pub detail: SourceDetail,
}

/// What [`SourceReport::reply`] and [`SourceReport::recent`] don't say. Offsets are ours
/// around: positive when we are behind. Zero before the first sample, unless said otherwise.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
pub struct SourceDetail {
    /// False: the operator has switched it off.
    pub online: bool,
    /// An operator's burst is under way.
    pub bursting: bool,
    /// `prefer`.
    pub prefer: bool,
    /// `noselect`.
    pub noselect: bool,
    /// `key`, if there is one of that number.
    pub key: Option<KeyReport>,
    /// θ of the last sample less what was corrected since.
    pub adjusted_s: f64,
    /// Samples the estimate rests on.
    pub samples: u32,
    /// From the first of them to the last.
    pub span_s: f64,
    /// Our clock's frequency as this source sees it, with the correction in force; positive: it
    /// gains.
    pub residual_ppm: f64,
    /// What that may be wrong by.
    pub skew_ppm: f64,
    /// What the offset may be wrong by, one sigma.
    pub offset_sigma_s: f64,
    /// How long the source took to answer, in the last sample's exchange: from T2 to T3.
    pub response_s: f64,
    /// So many of T1 and T4 by the kernel, of T1 and T4 by hardware.
    pub stamped: [u64; 4],
}

/// What may be told of a key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeyReport {
    /// Its number.
    pub id: u32,
    /// Its type, as chrony writes it.
    pub kind: String,
    /// How long its secret is.
    pub bits: u16,
}

/// A reply's header, field by field (RFC 5905 section 7.3).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReplyReport {
    /// Leap indicator, 0 to 3.
    pub leap: u8,
    /// Version, 1 to 4.
    pub version: u8,
    /// Mode: 4 is a server's.
    pub mode: u8,
    /// Log2 seconds.
    pub poll: i8,
    /// Log2 seconds.
    pub precision: i8,
    /// Δ of the source.
    pub root_delay_s: f64,
    /// Ε of the source.
    pub root_dispersion_s: f64,
    /// The four octets of the refid.
    pub refid: [u8; 4],
    /// When the source's clock was last set: 64 bits of the wire.
    pub reference: u64,
    /// T3, 64 bits of the wire.
    pub transmit: u64,
}

impl From<&Header> for ReplyReport {
    fn from(header: &Header) -> Self {
        Self {
            leap: header.leap.bits(),
            version: header.version,
            mode: header.mode as u8,
            poll: header.poll,
            precision: header.precision.log2(),
            root_delay_s: header.root_delay.to_duration().as_seconds(),
            root_dispersion_s: header.root_dispersion.to_duration().as_seconds(),
            refid: header.refid.bytes(),
            reference: header.reference.bits(),
            transmit: header.transmit.bits(),
        }
    }
}

/// One measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SampleReport {
    /// θ; positive: we were behind.
    pub offset_s: f64,
    /// δ.
    pub delay_s: f64,
    /// ε, when it was made.
    pub dispersion_s: f64,
    /// How long ago.
    pub age_s: f64,
}

impl SourceReport {
    /// A source that has not been heard: nothing but its name is known.
    pub fn silent(spec: &SourceSpec, kind: char) -> Self {
        let refid = spec.options.clock.map_or(RefId::INIT, |clock| clock.refid);
        Self {
            id: 0,
            name: spec.name.clone(),
            address: None,
            local: None,
            kind,
            tally: Tally::Rejected,
            refid: refid.display(STRATUM_MAX).to_string(),
            stratum: STRATUM_MAX,
            when_s: None,
            poll_s: spec.options.minpoll.interval().as_seconds(),
            reach: 0,
            delay_s: None,
            offset_s: None,
            jitter_s: None,
            root_distance_s: None,
            stamp_tx: None,
            stamp_rx: None,
            interleaved: false,
            sent: 0,
            received: 0,
            rejected: BTreeMap::new(),
            reply: None,
            recent: Vec::new(),
            detail: SourceDetail {
                online: true,
                prefer: spec.options.prefer,
                noselect: spec.options.noselect,
                ..SourceDetail::default()
            },
        }
    }

    /// Log2 of the poll interval in seconds.
    pub fn poll_log2(&self) -> i8 {
        // An interval is a power of two of seconds.
        self.poll_s.max(1e-6).log2().round() as i8
    }

    /// The undisciplined local clock, standing in or standing by.
    pub fn local(stratum: u8, in_use: bool) -> Self {
        let spec = SourceSpec {
            name: "LOCAL(0)".to_owned(),
            pool: false,
            most: None,
            options: SourceOptions::default(),
        };
        Self {
            tally: if in_use {
                Tally::System
            } else {
                Tally::Rejected
            },
            refid: RefId::LOCAL.display(0).to_string(),
            stratum,
            offset_s: Some(0.0),
            ..Self::silent(&spec, 'l')
        }
    }
}

/// The system as a whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SystemReport {
    /// Is our time good enough to be served?
    pub sync: bool,
    /// The address of the source we name as reference, or `local`.
    pub source: Option<String>,
    /// `none`, `insert`, `delete` or `unknown`.
    pub leap: String,
    /// 1 to 15; 16 unsynchronised.
    pub stratum: u8,
    /// Our refid as ntpq shows it.
    pub refid: String,
    /// When the clock was last corrected: Unix seconds; none before the first time.
    pub reference_unix_s: Option<f64>,
    /// Combined estimate of what the clock lacks; positive: it is behind.
    pub offset_s: Option<f64>,
    /// Correction in force for the clock's own frequency error, without what slews an offset away.
    pub frequency_ppm: f64,
    /// What the frequency estimate may be wrong by, one sigma.
    pub skew_ppm: Option<f64>,
    /// RMS of the combined offset.
    pub jitter_s: Option<f64>,
    /// Δ.
    pub root_delay_s: f64,
    /// Ε, as of now.
    pub root_dispersion_s: f64,
    /// |true error| unless every selected server lies; none while unsynchronised.
    pub error_bound_s: Option<f64>,
    /// The same for symmetric paths.
    pub error_likely_s: Option<f64>,
    /// Poll interval of the reference, seconds.
    pub poll_s: Option<f64>,
    /// Log2 of our precision in seconds.
    pub precision: i8,
    /// Times the clock was stepped by us since the start.
    pub steps: u64,
    /// Times somebody else moved the clock.
    pub foreign_steps: u64,
    /// What chronyc's reports have beside.
    #[serde(default)]
    pub detail: SystemDetail,
}

/// More about the whole.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
pub struct SystemDetail {
    /// Our refid as on the wire.
    pub refid: u32,
    /// When the clock was last corrected: Unix nanoseconds.
    pub reference_unix_ns: i64,
    /// What the last update found the clock to lack.
    pub last_offset_s: f64,
    /// RMS of that over some updates.
    pub rms_offset_s: f64,
    /// Between the last two updates.
    pub update_interval_s: f64,
    /// The clock's frequency beyond the correction in force, as the sources see it; positive: it
    /// gains.
    pub residual_ppm: f64,
    /// What is still being slewed away; positive: the clock is behind.
    pub pending_s: f64,
    /// Is `manual` on?
    pub manual: bool,
    /// The times that were typed in.
    pub manual_samples: Vec<ManualReport>,
}

/// A time that was typed in. Positive: the clock was behind.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ManualReport {
    /// When: Unix nanoseconds on our clock.
    pub when_unix_ns: i64,
    /// What the clock lacked then.
    pub offset_s: f64,
    /// The same less what was corrected since.
    pub left_s: f64,
    /// How far from the line through all of them.
    pub residual_s: f64,
}

/// All of it, at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeReport {
    /// The whole.
    pub system: SystemReport,
    /// The parts, in the order of the configuration.
    pub sources: Vec<SourceReport>,
}

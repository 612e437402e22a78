//! What the node knows, as plain values for people, programs and metrics. The
//! field names are the JSON names of `ptntp stat --json` and `ptntp peers
//! --json`; they are an interface, so they only grow.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::client::options::SourceOptions;
use crate::node::pool::SourceSpec;
use crate::sync::select::Tally;
use crate::wire::packet::STRATUM_MAX;
use crate::wire::refid::RefId;

/// [`SystemReport::source`] while the undisciplined local clock is served.
pub const LOCAL: &str = "local";

/// One source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceReport {
    /// As written in the configuration.
    pub name: String,
    /// Whom we ask; none while the name does not resolve. For the local clock, none.
    pub address: Option<SocketAddr>,
    /// `u` unicast, `p` one of a pool, `l` the local clock.
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
}

impl SourceReport {
    /// A source that has not been heard: nothing but its name is known.
    pub fn silent(spec: &SourceSpec, kind: char) -> Self {
        Self {
            name: spec.name.clone(),
            address: None,
            kind,
            tally: Tally::Rejected,
            refid: RefId::INIT.display(STRATUM_MAX).to_string(),
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
        }
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
}

/// All of it, at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeReport {
    /// The whole.
    pub system: SystemReport,
    /// The parts, in the order of the configuration.
    pub sources: Vec<SourceReport>,
}

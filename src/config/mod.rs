//! Configuration files become typed parts, dialect by dialect. Whatever is
//! wrong is named with file and line; whatever has no effect is said.
//!
//! A file's way: [`load`] reads it and its includes, [`dialect`] recognises
//! whose words they are, [`words`] splits a line, [`ntp`] or [`chrony`] makes it a
//! [`statement`] by the tables in [`directives`], and the statements together make the
//! [`Config`].
//! [`native`] writes a `Config` as a file again, [`explain`] says in plain
//! words what a statement does.

pub mod access;
pub mod allow;
pub mod association;
pub mod chrony;
pub mod chrony_lines;
pub mod chrony_source;
pub mod convert;
pub mod decide;
pub mod diagnostic;
pub mod dialect;
pub mod directives;
pub mod explain;
pub mod glob;
pub mod key_file;
pub mod key_lines;
pub mod keys;
pub mod leapfile;
pub mod load;
pub mod native;
pub mod nic;
pub mod ntp;
pub mod settings;
pub mod statement;
pub mod words;

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::client::options::SourceOptions;
use crate::config::keys::KeysConfig;
use crate::server::respond::Sizes;
use crate::server::rule::{RateLimit, Rule};
use crate::sync::filter::Start;
use crate::sync::policy::{SelectPolicy, StepPolicy};

/// Where a thing was said.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize)]
pub struct Location {
    /// The file, as it was named.
    #[serde(serialize_with = "path_as_text")]
    pub file: Arc<Path>,
    /// Counted from 1; 0 means the file as a whole.
    pub line: usize,
}

fn path_as_text<S: Serializer>(path: &Arc<Path>, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&path.display())
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        Ok(())
    }
}

/// Address family asked for with `-4` or `-6`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Family {
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
}

/// Does a name stand for one server or for several?
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SourceKind {
    /// `server`, and `peer` for now.
    Server,
    /// `pool`: several of the name's addresses, replaced when they die.
    Pool,
}

/// One `server`, `pool` or `peer` line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SourceConfig {
    /// One or several?
    pub kind: SourceKind,
    /// A name or a literal address.
    pub name: String,
    /// Only this family's addresses.
    pub family: Option<Family>,
    /// The most servers that a pool gives; none: `tos maxclock` alone says.
    pub most: Option<usize>,
    /// How to ask.
    pub options: SourceOptions,
}

/// The undisciplined local clock as a last resort: `server 127.127.1.x` with
/// `fudge 127.127.1.x stratum n`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LocalClock {
    /// The stratum it claims (ntpd's default is 5); we then serve one more.
    pub stratum: u8,
}

/// Where to answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Listen {
    /// On every address: the default of every configuration file.
    Everywhere,
    /// On 127.0.0.1 and ::1 only: without a configuration file.
    Loopback,
    /// On these addresses; an unspecified one stands for all of its family.
    At(Vec<IpAddr>),
    /// Nobody is answered.
    Nowhere,
}

/// Everything a daemon needs to know, defaults filled in.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// Whom to ask, in file order.
    pub sources: Vec<SourceConfig>,
    /// Fallback when no network source is selectable.
    pub local_clock: Option<LocalClock>,
    /// Who may ask us what.
    pub rules: Vec<Rule>,
    /// What `limited` means.
    pub rate_limit: RateLimit,
    /// By what requests and answers are signed.
    pub keys: KeysConfig,
    /// When the clock may be stepped.
    pub step: StepPolicy,
    /// How sources are selected.
    pub select: SelectPolicy,
    /// Where the clock's frequency error is kept over restarts.
    pub drift_file: Option<PathBuf>,
    /// Does that file hold the clock's error, as chrony's (positive: it gains), instead of
    /// its correction, as ntpd's?
    pub drift_gains: bool,
    /// The table of leap seconds; none: servers are believed.
    pub leap_file: Option<PathBuf>,
    /// Does the kernel step the clock for leap seconds? Else they are offsets like any other.
    pub kernel_leaps: bool,
    /// False after `disable ntp`: measure and serve, never steer.
    pub discipline: bool,
    /// Where to answer.
    pub listen: Listen,
    /// How many clients are remembered, by all workers together.
    pub clients: Sizes,
    /// UDP port to answer on; none: the standard one, or 1123 without the right to it.
    pub port: Option<u16>,
    /// Do the server's threads look for requests all the time instead of sleeping
    /// until there are some?
    pub busy_poll: bool,
    /// Control socket; none: the default.
    pub control: Option<PathBuf>,
    /// Where Prometheus may scrape; none: switched off.
    pub metrics: Option<SocketAddr>,
}

impl Config {
    /// The correction of the clock's frequency as the drift file has it, or back.
    pub fn in_drift_file(&self, kept: Start) -> Start {
        Start {
            frequency: if self.drift_gains {
                -kept.frequency
            } else {
                kept.frequency
            },
            ..kept
        }
    }
}

/// Where Prometheus finds us unless told otherwise.
pub const METRICS_DEFAULT: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9975);

impl Default for Config {
    /// What a daemon without a configuration file does: asks nobody, serves loopback.
    fn default() -> Self {
        Self {
            sources: Vec::new(),
            local_clock: None,
            rules: Vec::new(),
            rate_limit: RateLimit::default(),
            keys: KeysConfig::default(),
            step: StepPolicy::default(),
            select: SelectPolicy::default(),
            drift_file: None,
            drift_gains: false,
            leap_file: None,
            kernel_leaps: true,
            discipline: true,
            listen: Listen::Loopback,
            clients: Sizes::default(),
            port: None,
            busy_poll: false,
            control: None,
            metrics: Some(METRICS_DEFAULT),
        }
    }
}

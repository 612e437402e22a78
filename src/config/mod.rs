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
pub mod broadcast;
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
pub mod hwtimestamp;
pub mod key_file;
pub mod key_lines;
pub mod keys;
pub mod leapfile;
pub mod load;
pub mod native;
pub mod nic;
pub mod ntp;
pub mod refclock;
pub mod regular;
pub mod rtc;
pub mod settings;
pub mod stamping;
pub mod statement;
pub mod statistics;
pub mod statistics_lines;
pub mod words;
pub mod xdp;
pub mod xdp_line;

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::client::options::SourceOptions;
use crate::config::keys::KeysConfig;
use crate::config::stamping::StampingConfig;
use crate::config::statistics::StatisticsConfig;
use crate::config::xdp::XdpConfig;
use crate::server::respond::Sizes;
use crate::server::rule::{Flags, Prefix, RateLimit, Rule};
use crate::sync::filter::Start;
use crate::sync::policy::{SelectPolicy, StepPolicy};
use crate::time::duration::NtpDuration;
use crate::wire::ptp::DOMAIN_DEFAULT;

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
    /// `server`.
    Server,
    /// `peer`: the other one gets our time as we get its.
    Peer,
    /// `pool`: several of the name's addresses, replaced when they die.
    Pool,
    /// `broadcastclient`, `multicastclient`: whoever broadcasts; the name is the group's
    /// address if there is one.
    Heard,
    /// `refclock`: a clock of this host's; the name is its device's or its interface's.
    Clock,
}

/// One `server`, `pool`, `peer` or `refclock` line.
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

/// `dscp`, `bindacqaddress` and `bindacqdevice`.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct LeavingConfig {
    /// Code point of differentiated services (RFC 2474) of all that leaves, 0 to 63.
    pub dscp: u8,
    /// Requests leave by this interface; none: the routes choose.
    pub device: Option<String>,
    /// From this address; none: the routes choose.
    pub v4: Option<Ipv4Addr>,
    /// See `v4`.
    pub v6: Option<Ipv6Addr>,
}

/// `initstepslew`: whom to ask at the start alone, before others have a say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InitialSetting {
    /// From this offset on the clock is stepped; below it is slewed.
    pub threshold: NtpDuration,
    /// Names or addresses.
    pub hosts: Vec<String>,
}

/// One `phc discipline` line: a hardware clock that is to follow ours.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PhcLine {
    /// A device like `/dev/ptp0`, or the interface that has it.
    pub device: String,
    /// It is to count TAI, as PTP does.
    pub tai: bool,
    /// Beyond this it is stepped at first instead of slewed; zero: never.
    pub step: NtpDuration,
}

/// One `broadcast` line.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct BroadcastLine {
    /// A broadcast address, a group, or one host.
    pub to: SocketAddr,
    /// From one packet to the next.
    pub interval: NtpDuration,
    /// Sign by the key of this number.
    pub key: Option<u32>,
    /// NTP version, 1 to 4.
    pub version: u8,
    /// So many networks far, to a group.
    pub hops: u8,
}

impl Default for PhcLine {
    /// As PTP wants it, and with phc2sys's threshold.
    fn default() -> Self {
        Self {
            device: String::new(),
            tai: true,
            step: NtpDuration::from_units(85_899), // 20 µs
        }
    }
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

/// Where chronyc and what speaks its protocol is answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Commands {
    /// UDP port; 0: none.
    pub port: u16,
    /// The address of each family that is bound: 127.0.0.1 and ::1 unless said otherwise.
    /// Only this machine is answered, wherever that is, and whom `allowed` says.
    pub v4: Ipv4Addr,
    /// See `v4`.
    pub v6: Ipv6Addr,
    /// Who else may ask by UDP, or may not (`cmdallow`, `cmddeny`); the longest block decides.
    pub allowed: Vec<(Prefix, bool)>,
    /// The Unix socket by which orders come; none: nobody gives orders.
    pub path: Option<PathBuf>,
}

impl Commands {
    /// The port that chronyc asks.
    pub const PORT: u16 = 323;
    /// Where chronyc looks for chronyd's socket.
    pub const PATH: &'static str = "/run/chrony/chronyd.sock";

    /// What a chrony.conf that says nothing of it means.
    pub fn of_chrony() -> Self {
        Self {
            port: Self::PORT,
            path: Some(Self::PATH.into()),
            ..Self::default()
        }
    }
}

impl Default for Commands {
    /// Nowhere.
    fn default() -> Self {
        Self {
            port: 0,
            v4: Ipv4Addr::LOCALHOST,
            v6: Ipv6Addr::LOCALHOST,
            allowed: Vec::new(),
            path: None,
        }
    }
}

/// What is done with the real-time clock, which keeps the time while the machine is off.
#[derive(Clone, PartialEq, Debug)]
pub struct RtcConfig {
    /// While the time is good the kernel copies it to the clock every 11 minutes (by
    /// STA_UNSYNC being clear). Never together with `file`.
    pub kernel_sets: bool,
    /// We measure the clock, set it, and keep its error here; none: we don't.
    pub file: Option<PathBuf>,
    /// Which clock; none: the host's first.
    pub device: Option<PathBuf>,
    /// Is it on UTC (or on local time)? None: as hwclock's file says.
    pub on_utc: Option<bool>,
    /// With `file` the clock is set when it is off by more than this; none: never.
    pub autotrim: Option<NtpDuration>,
    /// hwclock's file, which goes over `on_utc`, and gets our figures with `file`;
    /// none: hwclock's own, which then is only read.
    pub hwclock_file: Option<PathBuf>,
}

/// The clock is set when it is off by more than this, unless told otherwise: as much
/// as an ordinary one gains in a quarter of an hour.
pub const AUTOTRIM_DEFAULT: NtpDuration = NtpDuration::from_units(42_949_673); // 10 ms

impl Default for RtcConfig {
    fn default() -> Self {
        Self {
            kernel_sets: true,
            file: None,
            device: None,
            on_utc: None,
            autotrim: Some(AUTOTRIM_DEFAULT),
            hwclock_file: None,
        }
    }
}

/// Everything a daemon needs to know, defaults filled in.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// Whom to ask, in file order.
    pub sources: Vec<SourceConfig>,
    /// Fallback when no network source is selectable.
    pub local_clock: Option<LocalClock>,
    /// Of those who serve their local clocks, one is elected whom the others follow.
    pub orphan: bool,
    /// Who may ask us what.
    pub rules: Vec<Rule>,
    /// What `limited` means.
    pub rate_limit: RateLimit,
    /// By what requests and answers are signed.
    pub keys: KeysConfig,
    /// When the clock may be stepped.
    pub step: StepPolicy,
    /// By whom the clock is set at the start.
    pub initial: Option<InitialSetting>,
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
    /// Hardware stamps.
    pub stamping: StampingConfig,
    /// Answers before the network stack.
    pub xdp: XdpConfig,
    /// Where to answer.
    pub listen: Listen,
    /// How many clients are remembered, by all workers together.
    pub clients: Sizes,
    /// Clients listed by `ntpq -c mrulist`; none: as the rules say, see
    /// [`recent_clients`](Self::recent_clients).
    pub recent: Option<usize>,
    /// Hardware clocks that follow ours.
    pub disciplined: Vec<PhcLine>,
    /// Whom to tell the time unasked.
    pub broadcasts: Vec<BroadcastLine>,
    /// UDP port to answer on; none: the standard one, or 1123 without the right to it.
    pub port: Option<u16>,
    /// UDP port to answer NTP over PTP on (`ptpport`); none: it is not answered. A source
    /// that is asked on this port is asked over PTP.
    pub ptp_port: Option<u16>,
    /// PTP domain of what is asked and answered (`ptpdomain`).
    pub ptp_domain: u8,
    /// Do the server's threads look for requests all the time instead of sleeping
    /// until there are some?
    pub busy_poll: bool,
    /// How what we send leaves.
    pub leaving: LeavingConfig,
    /// Where the number of the process is written; none: nowhere.
    pub pid_file: Option<PathBuf>,
    /// The real-time clock.
    pub rtc: RtcConfig,
    /// May the time be typed in from the start (`chronyc settime`)?
    pub manual: bool,
    /// Files of measurements.
    pub statistics: StatisticsConfig,
    /// Control socket; none: the default.
    pub control: Option<PathBuf>,
    /// Where Prometheus may scrape; none: switched off.
    pub metrics: Option<SocketAddr>,
    /// Where chronyc is answered.
    pub commands: Commands,
}

/// Clients listed by `ntpq -c mrulist` where they are listed at all: few enough to stay in
/// a core's cache.
pub const RECENT_DEFAULT: usize = 4096;

impl Config {
    /// Whether broadcasts are listened to, and in which groups.
    pub fn groups(&self) -> Option<Vec<IpAddr>> {
        let heard = self.sources.iter().filter(|s| s.kind == SourceKind::Heard);
        let names: Vec<&str> = heard.map(|source| source.name.as_str()).collect();
        let groups = names.iter().filter_map(|name| name.parse().ok());
        (!names.is_empty()).then(|| groups.collect())
    }

    /// Whom a start asks, as the node numbers them: behind those that it keeps asking come
    /// those of `initstepslew`.
    pub fn asked_at_start(&self) -> Vec<SourceConfig> {
        let hosts = self.initial.iter().flat_map(|initial| &initial.hosts);
        let initial = hosts.map(|host| SourceConfig {
            kind: SourceKind::Server,
            name: host.clone(),
            family: None,
            most: None,
            options: SourceOptions {
                iburst: true,
                initial: true,
                ..SourceOptions::default()
            },
        });
        self.sources.iter().cloned().chain(initial).collect()
    }

    /// How many clients to remember for those who look on. It costs each request some
    /// 13 ns, so that is done where the file asks for it: in an ntp.conf by `enable monitor`
    /// or `mru`, or as in ntpd by a `limited` rule, and not after `disable monitor`; in a
    /// chrony.conf, as chronyd does, without `noclientlog`.
    pub fn recent_clients(&self) -> usize {
        let limited = |rule: &Rule| match rule {
            Rule::Restrict(_, flags) => flags.contains(Flags::LIMITED),
            Rule::Unrestrict(..) => false,
        };
        let by_rules = if self.rules.iter().any(limited) {
            RECENT_DEFAULT
        } else {
            0
        };
        self.recent.unwrap_or(by_rules)
    }
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
            orphan: false,
            rules: Vec::new(),
            rate_limit: RateLimit::default(),
            keys: KeysConfig::default(),
            step: StepPolicy::default(),
            initial: None,
            select: SelectPolicy::default(),
            drift_file: None,
            drift_gains: false,
            leap_file: None,
            kernel_leaps: true,
            discipline: true,
            stamping: StampingConfig::default(),
            xdp: XdpConfig::default(),
            listen: Listen::Loopback,
            clients: Sizes::default(),
            recent: None,
            disciplined: Vec::new(),
            broadcasts: Vec::new(),
            port: None,
            ptp_port: None,
            ptp_domain: DOMAIN_DEFAULT,
            busy_poll: false,
            leaving: LeavingConfig::default(),
            pid_file: None,
            rtc: RtcConfig::default(),
            manual: false,
            statistics: StatisticsConfig::default(),
            control: None,
            metrics: Some(METRICS_DEFAULT),
            commands: Commands::default(),
        }
    }
}

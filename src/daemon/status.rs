//! What the daemon knows, as one value per second: made by the time loop, read
//! by the control socket, the metrics and systemd. [`Status`] is the JSON of
//! `ptntp stat --json`; its names are an interface, so they only grow.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::daemon::distribution::Distribution;
use crate::daemon::hardware::{CardReport, CardStatus};
use crate::daemon::rtc::RtcReport;
use crate::node::report::{NodeReport, SystemReport};
use crate::server::recent::RecentClient;
use crate::time::duration::NtpDuration;
use crate::time::instant::WallInstant;
use crate::time::map::ClockMap;

/// Which clock is measured and steered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClockKind {
    /// The kernel's, steered by adjtimex.
    System,
    /// The kernel's, observed and left alone.
    None,
    /// A software clock over CLOCK_REALTIME, steered instead of the kernel's.
    Virtual,
}

impl ClockKind {
    /// The word of `--clock` and of the metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::None => "none",
            Self::Virtual => "virtual",
        }
    }
}

/// How the daemon waits for its sockets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IoBackend {
    /// Rings and a worker per core.
    Uring,
    /// One thread and poll(2).
    Poll,
}

impl IoBackend {
    /// The word of `--io` and of the metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uring => "uring",
            Self::Poll => "poll",
        }
    }
}

/// What those who answer requests have counted since the start.
#[derive(Clone, Debug, Default)]
pub struct ServerCounts {
    /// Requests by the name of their verdict; each name once.
    pub requests: Vec<(&'static str, u64)>,
    /// From the arrival of a request (kernel stamp) until its reply left.
    pub latency: Distribution,
    /// What happened in the workers' rings, by name; each name once. Empty with
    /// the poll backend.
    pub ring_events: Vec<(&'static str, u64)>,
    /// What came of the stamps of network cards, by name; each name once.
    pub card_stamps: Vec<(&'static str, u64)>,
    /// Those of `requests` that never came to a socket.
    pub xdp: Vec<(&'static str, u64)>,
    /// Packets to us that the XDP program left to the sockets, by what it saw in them.
    pub xdp_passed: Vec<(&'static str, u64)>,
}

/// Gathers what the fast path counts in its own memory. Called by whoever is
/// asked, at a scrape, never by the fast path.
pub trait Collect: Send + Sync {
    /// The sums over all workers, as of now.
    fn collect(&self) -> ServerCounts;

    /// Who asked lately, as far as they are remembered: a client of several workers is
    /// there for each of them. None: nobody is.
    fn recent_clients(&self) -> Option<Vec<RecentClient>> {
        None
    }

    /// Where requests are answered before they come to a socket, and where not, though that
    /// was asked for.
    fn xdp(&self) -> Vec<XdpStatus> {
        Vec::new()
    }
}

/// Counts that are already gathered.
impl Collect for ServerCounts {
    fn collect(&self) -> ServerCounts {
        self.clone()
    }
}

/// Everything that can be told about the daemon, at one moment.
#[derive(Clone)]
pub struct Report {
    /// The engine's view.
    pub node: NodeReport,
    /// Which clock.
    pub clock: ClockKind,
    /// How it waits.
    pub io: IoBackend,
    /// What it does without, in sentences.
    pub degraded: Vec<String>,
    /// CLOCK_REALTIME to the clock we serve.
    pub map: ClockMap,
    /// CLOCK_REALTIME when this report was made.
    pub real: WallInstant,
    /// Since the daemon's start.
    pub uptime: NtpDuration,
    /// Where requests are answered.
    pub serving: Vec<SocketAddr>,
    /// How often the configuration was read again, and what is wrong with the newest one.
    pub reloads: Reloads,
    /// |combined offset|, recorded once a second while synchronised.
    pub offsets: Distribution,
    /// |true error| of a virtual clock, recorded once a second.
    pub true_errors: Option<Distribution>,
    /// The network cards whose stamps are used.
    pub cards: Vec<CardReport>,
    /// The real-time clock, if we look after it.
    pub rtc: Option<RtcReport>,
    /// The server's counters.
    pub server: Arc<dyn Collect>,
}

/// What became of the orders to read the configuration again.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Reloads {
    /// So many so far.
    pub count: u64,
    /// Why the last one changed nothing.
    pub problem: Option<String>,
    /// What the last one could not change while the daemon runs.
    #[serde(default)]
    pub later: Vec<String>,
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Report")
            .field("node", &self.node)
            .field("clock", &self.clock)
            .field("real", &self.real)
            .finish_non_exhaustive()
    }
}

impl Report {
    /// Mapped clock minus CLOCK_REALTIME, if the clock is a virtual one: what it
    /// is wrong by, as nobody else can know it.
    pub fn true_error(&self) -> Option<NtpDuration> {
        (self.clock == ClockKind::Virtual).then(|| self.map.error_at(self.real))
    }

    /// The answer to `stat`.
    pub fn status(&self) -> Status {
        Status {
            system: self.node.system.clone(),
            clock: self.clock,
            io: self.io,
            degraded: self.degraded.clone(),
            true_error_s: self.true_error().map(NtpDuration::as_seconds),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_s: self.uptime.as_seconds(),
            serving: self.serving.clone(),
            reloads: self.reloads.clone(),
            cards: self.cards.iter().map(|card| card.status.clone()).collect(),
            xdp: self.server.xdp(),
        }
    }

    /// The answer to `server`.
    pub fn server_status(&self) -> ServerStatus {
        let counts = self.server.collect();
        ServerStatus {
            requests: named(&counts.requests),
            ring_events: named(&counts.ring_events),
            card_stamps: named(&counts.card_stamps),
            xdp: named(&counts.xdp),
            xdp_passed: named(&counts.xdp_passed),
            latency_count: counts.latency.count(),
            latency_median_s: counts.latency.quantile_s(0.5),
            latency_p99_s: counts.latency.quantile_s(0.99),
        }
    }
}

fn named(counts: &[(&'static str, u64)]) -> BTreeMap<String, u64> {
    counts
        .iter()
        .map(|&(name, count)| (name.to_owned(), count))
        .collect()
}

/// `ptntp stat --json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// What the engine knows of the whole.
    #[serde(flatten)]
    pub system: SystemReport,
    /// Which clock is measured and steered.
    pub clock: ClockKind,
    /// How the daemon waits.
    pub io: IoBackend,
    /// What the daemon does without, in sentences as they were logged; empty if
    /// it has all that it was to have.
    #[serde(default)]
    pub degraded: Vec<String>,
    /// Virtual clock minus CLOCK_REALTIME; none for other clocks.
    pub true_error_s: Option<f64>,
    /// The daemon's version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Since it started.
    pub uptime_s: f64,
    /// Where it answers requests.
    pub serving: Vec<SocketAddr>,
    /// What became of `ptntp reload`.
    #[serde(default)]
    pub reloads: Reloads,
    /// The network cards whose stamps it uses.
    #[serde(default)]
    pub cards: Vec<CardStatus>,
    /// The interfaces of `xdp` lines.
    #[serde(default)]
    pub xdp: Vec<XdpStatus>,
}

/// How an interface of an `xdp` line stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct XdpStatus {
    /// Its name, or `*` for a line that means all and found none.
    pub interface: String,
    /// Where its program runs, `native` or `generic`; none: it has none of ours.
    pub mode: Option<String>,
    /// Why it has none.
    pub problem: Option<String>,
}

/// The server's counters as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerStatus {
    /// Requests by verdict.
    pub requests: BTreeMap<String, u64>,
    /// What happened in the workers' rings.
    pub ring_events: BTreeMap<String, u64>,
    /// What came of the stamps of network cards.
    #[serde(default)]
    pub card_stamps: BTreeMap<String, u64>,
    /// Those of `requests` that never came to a socket.
    #[serde(default)]
    pub xdp: BTreeMap<String, u64>,
    /// Packets to us that the XDP program left to the sockets, by what it saw in them.
    #[serde(default)]
    pub xdp_passed: BTreeMap<String, u64>,
    /// Replies whose latency is known.
    pub latency_count: u64,
    /// From a request's arrival until the reply left: half were faster.
    pub latency_median_s: Option<f64>,
    /// 99 of 100 were faster.
    pub latency_p99_s: Option<f64>,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::node::report::SourceReport;
    use crate::sync::select::Tally;
    use crate::time::units::Ppm;

    /// A server with an interface that its program could be attached to, and one that not.
    struct Server(ServerCounts);

    impl Collect for Server {
        fn collect(&self) -> ServerCounts {
            self.0.clone()
        }

        fn xdp(&self) -> Vec<XdpStatus> {
            let status = |interface: &str, mode: Option<&str>, problem: Option<&str>| XdpStatus {
                interface: interface.to_owned(),
                mode: mode.map(str::to_owned),
                problem: problem.map(str::to_owned),
            };
            vec![
                status("eth0", Some("native"), None),
                status("eth1", None, Some("its driver runs no XDP programs")),
            ]
        }
    }

    /// A synchronised daemon with one source and a virtual clock 2 µs fast.
    pub(crate) fn example() -> Report {
        let real = WallInstant::from_unix_ns(1_800_000_000_000_000_000);
        let mut latency = Distribution::new();
        latency.record_ns(20_000, 3);
        let mut offsets = Distribution::new();
        offsets.record_ns(1_500, 4);
        Report {
            node: NodeReport {
                system: SystemReport {
                    sync: true,
                    source: Some("192.0.2.1".to_owned()),
                    leap: "none".to_owned(),
                    stratum: 3,
                    refid: "192.0.2.1".to_owned(),
                    reference_unix_s: Some(1.8e9),
                    offset_s: Some(-1.5e-6),
                    frequency_ppm: -50.25,
                    skew_ppm: Some(0.1),
                    jitter_s: Some(2e-6),
                    root_delay_s: 1e-3,
                    root_dispersion_s: 2e-3,
                    error_bound_s: Some(2.5e-3),
                    error_likely_s: Some(1e-5),
                    poll_s: Some(64.0),
                    precision: -25,
                    steps: 1,
                    foreign_steps: 0,
                    detail: Default::default(),
                },
                sources: vec![SourceReport {
                    id: 1,
                    name: "ntp.example.net".to_owned(),
                    address: Some("192.0.2.1:123".parse().unwrap()),
                    local: Some("192.0.2.9".parse().unwrap()),
                    kind: 'u',
                    tally: Tally::System,
                    refid: "GPS".to_owned(),
                    stratum: 2,
                    when_s: Some(12.0),
                    poll_s: 64.0,
                    reach: 0o377,
                    delay_s: Some(1e-3),
                    offset_s: Some(-1.5e-6),
                    jitter_s: Some(2e-6),
                    root_distance_s: Some(2.5e-3),
                    stamp_tx: Some("kernel".to_owned()),
                    stamp_rx: Some("kernel".to_owned()),
                    interleaved: false,
                    sent: 9,
                    received: 8,
                    rejected: [("bogus".to_owned(), 1)].into(),
                    reply: None,
                    recent: Vec::new(),
                    detail: Default::default(),
                }],
            },
            clock: ClockKind::Virtual,
            io: IoBackend::Poll,
            degraded: vec!["no right to port 123".to_owned()],
            map: ClockMap {
                anchor_real: real,
                anchor_local: real + NtpDuration::from_nanos(2_000),
                rate: Ppm::ZERO,
            },
            real,
            uptime: NtpDuration::from_whole_seconds(90),
            reloads: Reloads::default(),
            serving: vec!["127.0.0.1:1123".parse().unwrap()],
            true_errors: Some(offsets.clone()),
            offsets,
            cards: vec![crate::daemon::hardware::tests::example()],
            rtc: None,
            server: Arc::new(Server(ServerCounts {
                requests: vec![("reply", 3), ("ignore", 2)],
                latency,
                ring_events: vec![("send_error", 1)],
                card_stamps: vec![("arrival", 2)],
                xdp: vec![("reply", 1)],
                xdp_passed: vec![("length", 4)],
            })),
        }
    }

    #[test]
    fn the_status_is_one_flat_object_and_comes_back_whole() {
        let status = example().status();
        let text = serde_json::to_string(&status).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        for name in [
            "sync",
            "source",
            "stratum",
            "offset_s",
            "frequency_ppm",
            "error_bound_s",
            "true_error_s",
        ] {
            assert!(value.get(name).is_some(), "{name} missing in {text}");
        }
        assert!((status.true_error_s.unwrap() - 2e-6).abs() < 1e-9);
        assert_eq!(value["clock"], "virtual");
        assert_eq!(value["xdp"][0]["mode"], "native");
        assert_eq!(value["degraded"][0], "no right to port 123");
        assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), status);
    }

    #[test]
    fn only_a_virtual_clock_knows_its_true_error() {
        let mut report = example();
        report.clock = ClockKind::System;
        assert_eq!(report.status().true_error_s, None);
    }
}

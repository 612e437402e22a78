//! The report as Prometheus metrics. `docs/METRICS.md` lists them all.
//!
//! Counters and gauges go through the metrics facade into a recorder that lives
//! for one scrape: what a vanished source left behind can't linger, and nothing
//! is counted twice, because the fast path counts in its own memory and a scrape
//! only copies. Histograms are kept as [`Distribution`]s and written here: the
//! exporter would take every sample one by one and hold all of a scrape
//! interval in memory, which at a million replies per second is too much.

use std::fmt::Write;

use metrics::{counter, describe_counter, describe_gauge, gauge, with_local_recorder};
use metrics_exporter_prometheus::PrometheusBuilder;

use crate::daemon::distribution::Distribution;
use crate::daemon::hardware::CardStatus;
use crate::daemon::logging;
use crate::daemon::status::Report;
use crate::node::report::{CLOCK, SourceReport};

/// How Prometheus treats a metric.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Only grows, from the daemon's start.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Cumulative buckets, sum and count.
    Histogram,
}

impl Kind {
    /// Prometheus' word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric: its name with the unit in it, its kind, its HELP text.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// The whole name, as it is scraped.
    pub name: &'static str,
    /// How Prometheus treats it.
    pub kind: Kind,
    /// One sentence.
    pub help: &'static str,
}

const fn counter(name: &'static str, help: &'static str) -> Metric {
    Metric {
        name,
        kind: Kind::Counter,
        help,
    }
}

const fn gauge(name: &'static str, help: &'static str) -> Metric {
    Metric {
        name,
        kind: Kind::Gauge,
        help,
    }
}

const fn histogram(name: &'static str, help: &'static str) -> Metric {
    Metric {
        name,
        kind: Kind::Histogram,
        help,
    }
}

const BUILD_INFO: Metric = gauge(
    "ptntp_build_info",
    "Always 1; its labels say which version runs, which clock it steers and how it waits.",
);
const UPTIME: Metric = gauge("ptntp_uptime_seconds", "Time since the daemon started.");
const SYNCHRONISED: Metric = gauge(
    "ptntp_synchronised",
    "1 while our time is good enough to be served, else 0.",
);
const STRATUM: Metric = gauge("ptntp_stratum", "Our stratum; 16 while unsynchronised.");
const LEAP: Metric = gauge(
    "ptntp_leap_indicator",
    "Warning of a leap second: 0 none, 1 insert, 2 delete, 3 unsynchronised.",
);
const OFFSET: Metric = gauge(
    "ptntp_offset_seconds",
    "Combined estimate of what the clock lacks; positive: it is behind.",
);
const FREQUENCY: Metric = gauge(
    "ptntp_frequency_ppm",
    "Correction in force for the clock's own frequency error; positive makes it run faster.",
);
const SKEW: Metric = gauge(
    "ptntp_skew_ppm",
    "One sigma of the frequency estimate's error.",
);
const JITTER: Metric = gauge("ptntp_jitter_seconds", "RMS of the combined offset.");
const ROOT_DELAY: Metric = gauge(
    "ptntp_root_delay_seconds",
    "Round trip to the primary reference.",
);
const ROOT_DISPERSION: Metric = gauge(
    "ptntp_root_dispersion_seconds",
    "Dispersion accumulated to the primary reference.",
);
const ERROR_BOUND: Metric = gauge(
    "ptntp_error_bound_seconds",
    "The clock is wrong by no more than this unless every selected source lies.",
);
const ERROR_LIKELY: Metric = gauge(
    "ptntp_error_likely_seconds",
    "The same bound if network paths are symmetric.",
);
const POLL: Metric = gauge(
    "ptntp_poll_interval_seconds",
    "Poll interval of the reference source.",
);
const PRECISION: Metric = gauge("ptntp_precision_seconds", "Precision of the clock.");
const REFERENCE: Metric = gauge(
    "ptntp_reference_timestamp_seconds",
    "Unix time at which the clock was last corrected.",
);
const STEPS: Metric = counter("ptntp_clock_steps_total", "Steps of the clock by ptntp.");
const FOREIGN_STEPS: Metric = counter(
    "ptntp_clock_foreign_steps_total",
    "Steps of the clock by somebody else.",
);
const TRUE_ERROR: Metric = gauge(
    "ptntp_true_error_seconds",
    "Virtual clock minus CLOCK_REALTIME; only with a virtual clock.",
);
const SOURCE_SELECTION: Metric = gauge(
    "ptntp_source_selection",
    "1 for the tally that selection gave the source: system, candidate, outlier, falseticker or rejected.",
);
const SOURCE_STRATUM: Metric = gauge(
    "ptntp_source_stratum",
    "The source's stratum; 16 until heard.",
);
const SOURCE_OFFSET: Metric = gauge(
    "ptntp_source_offset_seconds",
    "Estimated source minus local clock; positive: we are behind.",
);
const SOURCE_DELAY: Metric = gauge(
    "ptntp_source_delay_seconds",
    "Round trip of the last sample.",
);
const SOURCE_JITTER: Metric = gauge(
    "ptntp_source_jitter_seconds",
    "RMS of recent offsets about the estimate.",
);
const SOURCE_DISTANCE: Metric = gauge(
    "ptntp_source_root_distance_seconds",
    "The most the source's time can be wrong by.",
);
const SOURCE_REACH: Metric = gauge(
    "ptntp_source_reach",
    "The last eight requests as a number from 0 to 255, newest in the lowest bit, set if answered.",
);
const SOURCE_POLL: Metric = gauge(
    "ptntp_source_poll_interval_seconds",
    "Poll interval of the source.",
);
const SOURCE_AGE: Metric = gauge(
    "ptntp_source_last_reply_age_seconds",
    "Time since the source's last valid reply.",
);
const SOURCE_INTERLEAVED: Metric = gauge(
    "ptntp_source_interleaved",
    "1 if the last sample is from interleaved mode, else 0.",
);
const SOURCE_STAMP: Metric = gauge(
    "ptntp_source_stamp",
    "1 for who took the last sample's stamps (label origin: daemon, kernel or hardware) in each direction (label direction: transmit or receive).",
);
const SOURCE_REQUESTS: Metric = counter(
    "ptntp_source_requests_total",
    "Requests sent to the source.",
);
const SOURCE_REPLIES: Metric =
    counter("ptntp_source_replies_total", "Valid replies of the source.");
const SOURCE_REJECTED: Metric = counter(
    "ptntp_source_rejected_total",
    "Replies that failed a packet test, by the test's name.",
);
const SERVER_REQUESTS: Metric = counter(
    "ptntp_server_requests_total",
    "Packets that arrived at the server, by the verdict on them.",
);
const RING_EVENTS: Metric = counter(
    "ptntp_server_ring_events_total",
    "What happened in the workers' rings besides requests and replies, by the event's name.",
);
const XDP_ATTACHED: Metric = gauge(
    "ptntp_xdp_attached",
    "1 while an interface of an xdp line answers by XDP (label mode: native or generic), 0 while it can't.",
);
const XDP_REQUESTS: Metric = counter(
    "ptntp_xdp_requests_total",
    "Those of ptntp_server_requests_total that never came to a socket.",
);
const XDP_PASSED: Metric = counter(
    "ptntp_xdp_passed_total",
    "Packets to us that the XDP program left to the sockets, by what it saw in them.",
);
const SERVER_CARD_STAMPS: Metric = counter(
    "ptntp_server_card_stamps_total",
    "What came of network cards' stamps of requests and replies (label event: arrival or departure if used, doubted if not).",
);
const CARD_STAMPS: Metric = counter(
    "ptntp_card_stamps_total",
    "Our own requests and their answers in each direction (label direction: transmit or receive), by who stamped them (label origin: hardware, or kernel where the card's stamp was missing or doubted).",
);
const CARD_DOUBTED: Metric = counter(
    "ptntp_card_stamps_doubted_total",
    "Stamps of a network card that were not believed, by reason.",
);
const CARD_ERROR: Metric = gauge(
    "ptntp_card_clock_error_seconds",
    "The most that a stamp of the network card can be wrong by for not knowing its clock better.",
);
const CARD_OFFSET: Metric = gauge(
    "ptntp_card_clock_offset_seconds",
    "CLOCK_REALTIME minus the network card's clock.",
);
const CARD_FREQUENCY: Metric = gauge(
    "ptntp_card_clock_frequency_ppm",
    "How much faster CLOCK_REALTIME runs than the network card's clock.",
);
const CARD_JUMPS: Metric = counter(
    "ptntp_card_clock_jumps_total",
    "How often the network card's clock jumped or was set.",
);
const LOG_DROPPED: Metric = counter(
    "ptntp_log_lines_dropped_total",
    "Log lines lost because stderr took them too slowly.",
);
const OFFSET_MAGNITUDE: Metric = histogram(
    "ptntp_offset_magnitude_seconds",
    "Magnitude of the combined offset, once a second while synchronised.",
);
const TRUE_ERROR_MAGNITUDE: Metric = histogram(
    "ptntp_true_error_magnitude_seconds",
    "Magnitude of a virtual clock's true error, once a second.",
);
const LATENCY: Metric = histogram(
    "ptntp_server_response_latency_seconds",
    "From the arrival of a request until its reply left.",
);

const CARD_LATENCY: Metric = histogram(
    "ptntp_card_transmit_stamp_latency_seconds",
    "From the kernel's stamp of a request's departure until the network card's stamp came.",
);

/// Every metric there can be.
pub const METRICS: [Metric; 50] = [
    BUILD_INFO,
    UPTIME,
    SYNCHRONISED,
    STRATUM,
    LEAP,
    OFFSET,
    FREQUENCY,
    SKEW,
    JITTER,
    ROOT_DELAY,
    ROOT_DISPERSION,
    ERROR_BOUND,
    ERROR_LIKELY,
    POLL,
    PRECISION,
    REFERENCE,
    STEPS,
    FOREIGN_STEPS,
    TRUE_ERROR,
    SOURCE_SELECTION,
    SOURCE_STRATUM,
    SOURCE_OFFSET,
    SOURCE_DELAY,
    SOURCE_JITTER,
    SOURCE_DISTANCE,
    SOURCE_REACH,
    SOURCE_POLL,
    SOURCE_AGE,
    SOURCE_INTERLEAVED,
    SOURCE_STAMP,
    SOURCE_REQUESTS,
    SOURCE_REPLIES,
    SOURCE_REJECTED,
    SERVER_REQUESTS,
    RING_EVENTS,
    SERVER_CARD_STAMPS,
    XDP_ATTACHED,
    XDP_REQUESTS,
    XDP_PASSED,
    CARD_STAMPS,
    CARD_DOUBTED,
    CARD_ERROR,
    CARD_OFFSET,
    CARD_FREQUENCY,
    CARD_JUMPS,
    LOG_DROPPED,
    OFFSET_MAGNITUDE,
    TRUE_ERROR_MAGNITUDE,
    LATENCY,
    CARD_LATENCY,
];

/// Upper bucket edges of all histograms: 1, 2 and 5 of each decade from 1 µs to 1 s.
const EDGES_NS: [u64; 19] = [
    1_000,
    2_000,
    5_000,
    10_000,
    20_000,
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
    200_000_000,
    500_000_000,
    1_000_000_000,
];

/// Turns reports into Prometheus' text format. Not made at all with `--metrics off`.
#[derive(Debug)]
pub struct Exporter(());

impl Default for Exporter {
    fn default() -> Self {
        Self::new()
    }
}

impl Exporter {
    /// To be called before the daemon's first poll: the exporter's own clock is
    /// calibrated once per process, in a loop that waits for time to move, and
    /// that must not happen while somebody waits for us.
    pub fn new() -> Self {
        drop(PrometheusBuilder::new().build_recorder());
        Self(())
    }

    /// All metrics of one moment, sorted by name.
    pub fn render(&self, report: &Report) -> String {
        let recorder = PrometheusBuilder::new().build_recorder();
        let server = report.server.collect();
        with_local_recorder(&recorder, || {
            for metric in METRICS {
                match metric.kind {
                    Kind::Counter => describe_counter!(metric.name, metric.help),
                    Kind::Gauge => describe_gauge!(metric.name, metric.help),
                    Kind::Histogram => {}
                }
            }
            record_system(report);
            for source in &report.node.sources {
                record_source(source);
            }
            for (verdict, count) in &server.requests {
                counter!(SERVER_REQUESTS.name, "verdict" => *verdict).absolute(*count);
            }
            for (event, count) in &server.ring_events {
                counter!(RING_EVENTS.name, "event" => *event).absolute(*count);
            }
            for (event, count) in &server.card_stamps {
                counter!(SERVER_CARD_STAMPS.name, "event" => *event).absolute(*count);
            }
            for (verdict, count) in &server.xdp {
                counter!(XDP_REQUESTS.name, "verdict" => *verdict).absolute(*count);
            }
            for (reason, count) in &server.xdp_passed {
                counter!(XDP_PASSED.name, "reason" => *reason).absolute(*count);
            }
            for link in report.server.xdp() {
                let mode = link.mode.clone().unwrap_or_default();
                let labels = [("interface", link.interface), ("mode", mode)];
                let attached = f64::from(u8::from(link.mode.is_some()));
                gauge!(XDP_ATTACHED.name, &labels).set(attached);
            }
            for card in &report.cards {
                record_card(&card.status);
            }
            counter!(LOG_DROPPED.name).absolute(logging::dropped());
        });
        let mut text = sorted(&recorder.handle().render());
        let plain = |distribution| [(String::new(), distribution)];
        write_histogram(&mut text, &OFFSET_MAGNITUDE, &plain(&report.offsets));
        if let Some(true_errors) = &report.true_errors {
            write_histogram(&mut text, &TRUE_ERROR_MAGNITUDE, &plain(true_errors));
        }
        write_histogram(&mut text, &LATENCY, &plain(&server.latency));
        let cards = report.cards.iter();
        let cards: Vec<_> = cards
            .map(|card| {
                // The kernel lets no interface have a name that would need escapes.
                let label = format!("interface=\"{}\"", card.status.interface);
                (label, &card.tx_latency)
            })
            .collect();
        if !cards.is_empty() {
            write_histogram(&mut text, &CARD_LATENCY, &cards);
        }
        text
    }
}

fn record_system(report: &Report) {
    let system = &report.node.system;
    gauge!(
        BUILD_INFO.name,
        "version" => env!("CARGO_PKG_VERSION"),
        "clock" => report.clock.name(),
        "io" => report.io.name(),
    )
    .set(1.0);
    let leap = match system.leap.as_str() {
        "none" => 0.0,
        "insert" => 1.0,
        "delete" => 2.0,
        _ => 3.0,
    };
    let values = [
        (UPTIME, Some(report.uptime.as_seconds())),
        (SYNCHRONISED, Some(f64::from(u8::from(system.sync)))),
        (STRATUM, Some(f64::from(system.stratum))),
        (LEAP, Some(leap)),
        (OFFSET, system.offset_s),
        (FREQUENCY, Some(system.frequency_ppm)),
        (SKEW, system.skew_ppm),
        (JITTER, system.jitter_s),
        (ROOT_DELAY, Some(system.root_delay_s)),
        (ROOT_DISPERSION, Some(system.root_dispersion_s)),
        (ERROR_BOUND, system.error_bound_s),
        (ERROR_LIKELY, system.error_likely_s),
        (POLL, system.poll_s),
        (PRECISION, Some(f64::from(system.precision).exp2())),
        (REFERENCE, system.reference_unix_s),
        (
            TRUE_ERROR,
            report.true_error().map(|error| error.as_seconds()),
        ),
    ];
    for (metric, value) in values {
        if let Some(value) = value {
            gauge!(metric.name).set(value);
        }
    }
    counter!(STEPS.name).absolute(system.steps);
    counter!(FOREIGN_STEPS.name).absolute(system.foreign_steps);
}

fn record_source(source: &SourceReport) {
    let address = match source.address {
        Some(address) => address.ip().to_string(),
        None if source.kind == CLOCK => source.refid.trim_matches('.').to_owned(),
        None => String::new(),
    };
    let labels = [
        ("source", source.name.clone()),
        ("address", address.clone()),
    ];
    let values = [
        (SOURCE_STRATUM, Some(f64::from(source.stratum))),
        (SOURCE_OFFSET, source.offset_s),
        (SOURCE_DELAY, source.delay_s),
        (SOURCE_JITTER, source.jitter_s),
        (SOURCE_DISTANCE, source.root_distance_s),
        (SOURCE_REACH, Some(f64::from(source.reach))),
        (SOURCE_POLL, Some(source.poll_s)),
        (SOURCE_AGE, source.when_s),
        (
            SOURCE_INTERLEAVED,
            Some(f64::from(u8::from(source.interleaved))),
        ),
    ];
    for (metric, value) in values {
        if let Some(value) = value {
            gauge!(metric.name, &labels).set(value);
        }
    }
    counter!(SOURCE_REQUESTS.name, &labels).absolute(source.sent);
    counter!(SOURCE_REPLIES.name, &labels).absolute(source.received);

    let with = |more: &[(&'static str, &str)]| {
        let mut all = labels.to_vec();
        all.extend(more.iter().map(|&(name, value)| (name, value.to_owned())));
        all
    };
    let tally = format!("{:?}", source.tally).to_lowercase();
    gauge!(SOURCE_SELECTION.name, &with(&[("tally", &tally)])).set(1.0);
    for (direction, origin) in [
        ("transmit", &source.stamp_tx),
        ("receive", &source.stamp_rx),
    ] {
        if let Some(origin) = origin {
            let labels = with(&[("direction", direction), ("origin", origin)]);
            gauge!(SOURCE_STAMP.name, &labels).set(1.0);
        }
    }
    for (test, count) in &source.rejected {
        counter!(SOURCE_REJECTED.name, &with(&[("test", test)])).absolute(*count);
    }
}

fn record_card(card: &CardStatus) {
    let labels = [("interface", card.interface.clone())];
    let values = [
        (CARD_ERROR, card.phc_error_s),
        (CARD_OFFSET, card.phc_offset_s),
        (CARD_FREQUENCY, card.phc_frequency_ppm),
    ];
    for (metric, value) in values {
        if let Some(value) = value {
            gauge!(metric.name, &labels).set(value);
        }
    }
    counter!(CARD_JUMPS.name, &labels).absolute(card.phc_jumps);
    for (direction, origin, count) in [
        ("receive", "hardware", card.rx_hardware),
        ("receive", "kernel", card.rx_kernel),
        ("transmit", "hardware", card.tx_hardware),
        ("transmit", "kernel", card.tx_missing),
    ] {
        let labels = [
            ("interface", card.interface.clone()),
            ("direction", direction.to_owned()),
            ("origin", origin.to_owned()),
        ];
        counter!(CARD_STAMPS.name, &labels).absolute(count);
    }
    for (reason, &count) in &card.doubted {
        let labels = [
            ("interface", card.interface.clone()),
            ("reason", reason.clone()),
        ];
        counter!(CARD_DOUBTED.name, &labels).absolute(count);
    }
}

/// The exporter writes in the order of a hash map; people read, and tests
/// compare, in the order of names.
fn sorted(text: &str) -> String {
    let mut blocks: Vec<Vec<&str>> = text
        .split("\n\n")
        .map(|block| block.lines().filter(|line| !line.is_empty()).collect())
        .filter(|lines: &Vec<&str>| !lines.is_empty())
        .collect();
    for lines in &mut blocks {
        // `# HELP` and `# TYPE` sort before any metric's name.
        lines.sort_unstable();
    }
    blocks.sort_unstable();
    blocks.into_iter().fold(String::new(), |mut all, lines| {
        for line in lines {
            all.push_str(line);
            all.push('\n');
        }
        all
    })
}

/// One metric, with a distribution for each set of labels.
fn write_histogram(text: &mut String, metric: &Metric, of: &[(String, &Distribution)]) {
    let Metric { name, kind, help } = metric;
    // Writing to a string can't fail.
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {}", kind.name());
    for (labels, distribution) in of {
        let (count, sum) = (distribution.count(), distribution.sum_s());
        let (more, all) = if labels.is_empty() {
            (String::new(), String::new())
        } else {
            (format!("{labels},"), format!("{{{labels}}}"))
        };
        for (edge_ns, within) in EDGES_NS.iter().zip(distribution.cumulative(&EDGES_NS)) {
            let edge = *edge_ns as f64 / 1e9;
            let _ = writeln!(text, "{name}_bucket{{{more}le=\"{edge}\"}} {within}");
        }
        let _ = writeln!(
            text,
            "{name}_bucket{{{more}le=\"+Inf\"}} {count}\n{name}_sum{all} {sum}\n{name}_count{all} {count}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::status::tests::example;
    use std::collections::BTreeMap;

    /// A small reader of the text format: sample lines by name with labels, and
    /// the kind of each metric. Fails on lines that the format does not know.
    fn parse(text: &str) -> (BTreeMap<String, f64>, BTreeMap<String, String>) {
        let (mut samples, mut kinds) = (BTreeMap::new(), BTreeMap::new());
        let mut helped = None;
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, sentence) = help.split_once(' ').expect(line);
                assert!(sentence.ends_with('.'), "{line}");
                helped = Some(name.to_owned());
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').expect(line);
                assert_eq!(helped.as_deref(), Some(name), "TYPE follows HELP");
                assert!(
                    kinds.insert(name.to_owned(), kind.to_owned()).is_none(),
                    "{name} twice"
                );
            } else {
                let (sample, value) = line.rsplit_once(' ').expect(line);
                let name = sample.split('{').next().unwrap();
                assert!(
                    helped
                        .as_deref()
                        .is_some_and(|helped| name.starts_with(helped)),
                    "{line} stands under {helped:?}"
                );
                assert!(
                    samples
                        .insert(sample.to_owned(), value.parse().expect(line))
                        .is_none(),
                    "{sample} twice"
                );
            }
        }
        (samples, kinds)
    }

    #[test]
    fn a_report_with_everything_shows_every_metric_with_its_kind() {
        let (_, kinds) = parse(&Exporter::new().render(&example()));
        for metric in METRICS {
            assert_eq!(
                kinds.get(metric.name).map(String::as_str),
                Some(metric.kind.name()),
                "{}",
                metric.name
            );
        }
        assert_eq!(kinds.len(), METRICS.len());
    }

    #[test]
    fn values_arrive_as_they_were_reported() {
        let (samples, _) = parse(&Exporter::new().render(&example()));
        for (sample, value) in [
            ("ptntp_frequency_ppm", -50.25),
            ("ptntp_synchronised", 1.0),
            ("ptntp_leap_indicator", 0.0),
            ("ptntp_server_requests_total{verdict=\"ignore\"}", 2.0),
            (
                "ptntp_source_offset_seconds{source=\"ntp.example.net\",address=\"192.0.2.1\"}",
                -1.5e-6,
            ),
            (
                "ptntp_source_rejected_total{source=\"ntp.example.net\",address=\"192.0.2.1\",test=\"bogus\"}",
                1.0,
            ),
            (
                "ptntp_source_stamp{source=\"ntp.example.net\",address=\"192.0.2.1\",direction=\"receive\",origin=\"kernel\"}",
                1.0,
            ),
            (
                "ptntp_source_selection{source=\"ntp.example.net\",address=\"192.0.2.1\",tally=\"system\"}",
                1.0,
            ),
            (
                "ptntp_server_response_latency_seconds_bucket{le=\"0.00001\"}",
                0.0,
            ),
            (
                "ptntp_server_response_latency_seconds_bucket{le=\"0.00005\"}",
                3.0,
            ),
            (
                "ptntp_server_response_latency_seconds_bucket{le=\"+Inf\"}",
                3.0,
            ),
            ("ptntp_server_response_latency_seconds_count", 3.0),
            (
                "ptntp_offset_magnitude_seconds_bucket{le=\"0.000002\"}",
                4.0,
            ),
        ] {
            assert_eq!(
                samples.get(sample),
                Some(&value),
                "{sample} in {samples:#?}"
            );
        }
        let sum = samples["ptntp_server_response_latency_seconds_sum"];
        assert!((sum - 60e-6).abs() < 1e-12);
    }

    #[test]
    fn what_is_gone_or_unknown_is_not_shown() {
        let exporter = Exporter::new();
        let mut report = example();
        assert!(exporter.render(&report).contains("192.0.2.1"));
        report.node.sources.clear();
        report.node.system.offset_s = None;
        report.clock = crate::daemon::status::ClockKind::System;
        report.true_errors = None;
        let text = exporter.render(&report);
        assert!(!text.contains("ptntp_source_"), "{text}");
        assert!(!text.contains("ptntp_offset_seconds"), "{text}");
        assert!(!text.contains("true_error"), "{text}");
        parse(&text);
    }

    #[test]
    fn a_strange_name_stays_one_label() {
        let mut report = example();
        report.node.sources[0].name = "a\"} 1\nb\\".to_owned();
        let (samples, _) = parse(&Exporter::new().render(&report));
        assert!(
            samples
                .keys()
                .any(|sample| sample.contains(r#"a\"} 1\nb\\"#))
        );
    }

    #[test]
    fn the_manual_lists_what_is_registered() {
        let manual = include_str!("../../docs/METRICS.md");
        let listed: Vec<(&str, &str, &str)> = manual
            .lines()
            .filter_map(|line| {
                let mut cells = line.split('|').map(str::trim).skip(1);
                let name = cells.next()?.strip_prefix('`')?.strip_suffix('`')?;
                Some((name, cells.next()?, cells.next()?))
            })
            .filter(|(name, ..)| name.starts_with("ptntp_"))
            .collect();
        for metric in METRICS {
            assert!(
                listed.contains(&(metric.name, metric.kind.name(), metric.help)),
                "docs/METRICS.md lacks: | `{}` | {} | {} |",
                metric.name,
                metric.kind.name(),
                metric.help
            );
        }
        assert_eq!(listed.len(), METRICS.len(), "docs/METRICS.md lists more");
    }
}

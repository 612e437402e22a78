//! The result: for programs as JSON, for people as a table. `load/page` has it as a
//! web page.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::load::stamps::{Differences, Spread};
use crate::load::tally::{Invalid, Tally};

/// Later than this share of the requests, the generator is no longer what it says
/// it is.
pub const BEHIND_MAX: f64 = 0.01;
/// A generator that works less of its time and is late all the same was kept from
/// working.
const BUSY: f64 = 0.85;
/// A server that loses more than this share is told of.
const LOSS_TOLD: f64 = 0.01;
/// The percentiles that are told of.
const QUANTILES: [(&str, f64); 6] = [
    ("p50", 0.5),
    ("p90", 0.9),
    ("p99", 0.99),
    ("p99_9", 0.999),
    ("p99_99", 0.9999),
    ("max", 1.0),
];

/// One measurement.
#[derive(Clone, Debug)]
pub struct Step {
    /// Requests a second that were meant; none in a closed loop.
    pub offered: Option<f64>,
    /// What came of them.
    pub tally: Tally,
}

impl Step {
    /// Did the generator send what it was told, if not in time?
    fn generator_sent_all(&self) -> bool {
        self.tally.unsent() as f64 <= BEHIND_MAX * self.tally.meant.unwrap_or(0) as f64
    }

    /// Whose doing it is that there were no more answers; none if all that were wanted
    /// came. In a closed loop more are always wanted.
    pub fn limit(&self) -> Option<Limit> {
        let is_closed = self.offered.is_none();
        if !self.generator_sent_all() || is_closed && self.tally.is_busy() {
            Some(Limit::Generator)
        } else if self.tally.failure() <= LOSS_TOLD {
            None
        } else if self.generator_kept_up() {
            Some(Limit::Server)
        } else {
            Some(Limit::Generator)
        }
    }

    /// Did the generator do its part?
    pub fn generator_kept_up(&self) -> bool {
        self.tally.behind() <= BEHIND_MAX && self.tally.overrun == 0
    }
}

/// Who ended a search.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Limit {
    /// The server lost more than it may.
    Server,
    /// The generator could not send more, or not in time.
    Generator,
    /// It is not known: the search was interrupted, or no rate held for long.
    Unproved,
}

impl Limit {
    const fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Generator => "generator",
            Self::Unproved => "unproved",
        }
    }
}

/// What a search found.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Found {
    /// The highest rate, requests a second, that was answered well enough; 0 if none.
    pub rate: f64,
    /// Why it is no higher.
    pub limit: Limit,
    /// What was well enough: so many percent lost or refused.
    pub loss_max_percent: f64,
}

/// All that is known in the end.
#[derive(Clone, Debug)]
pub struct Report {
    /// The server, with its port.
    pub server: String,
    /// Where requests come from, in words.
    pub origin: String,
    /// Client addresses or ports.
    pub clients: u32,
    /// Generating threads.
    pub threads: u32,
    /// Requests a second that the generator sends to a sink.
    pub ceiling: Option<f64>,
    /// The measurements in order. Not empty.
    pub steps: Vec<Step>,
    /// Which of them is the result.
    pub chosen: usize,
    /// Of a search.
    pub found: Option<Found>,
    /// Ended by Ctrl-C.
    pub interrupted: bool,
    /// Ended by an error on this side, in a sentence.
    pub error: Option<String>,
}

impl Report {
    /// The measurement that is the result.
    pub fn result(&self) -> &Step {
        &self.steps[self.chosen]
    }

    /// As JSON. Field names only grow; times are microseconds, shares 0 to 1.
    pub fn json(&self) -> Value {
        json!({
            "server": self.server,
            "origin": self.origin,
            "clients": self.clients,
            "threads": self.threads,
            "ceiling_per_s": self.ceiling,
            "interrupted": self.interrupted,
            "error": self.error,
            "search": self.found.map(|found| json!({
                "rate_per_s": found.rate,
                "limit": found.limit.name(),
                "max_loss": found.loss_max_percent / 100.0,
            })),
            "result": step_json(self.result()),
            "steps": self.steps.iter().map(step_json).collect::<Vec<_>>(),
        })
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        if self.steps.len() > 1 {
            text.push_str(&steps_table(&self.steps));
            text.push('\n');
        }
        let step = self.result();
        let tally = &step.tally;
        let _ = writeln!(
            text,
            "{}, {} for {} from {}",
            self.server,
            match step.offered {
                Some(rate) => format!("{} requests/s", count(rate)),
                None => "closed loop".to_owned(),
            },
            seconds(tally.length_ns),
            self.origin
        );
        let rows = [
            ("sent", sent_line(tally)),
            ("answered", answered_line(tally)),
            ("answers", answers_line(tally)),
        ];
        for (name, line) in rows {
            let _ = writeln!(text, "  {name:<10} {line}");
        }
        if let Some(odd) = odd_line(tally) {
            let _ = writeln!(text, "  {:<10} {odd}", "odd");
        }
        let _ = writeln!(text, "  {:<10} {}", "delay", delay_line(tally));
        for (name, differences, of) in stamp_rows(tally) {
            if let Some(spread) = differences.spread() {
                let _ = writeln!(text, "  {name:<10} {}", spread_line(&spread, of));
            }
        }
        let _ = writeln!(text, "  {:<10} {}", "generator", self.generator_line());
        text.push('\n');
        text.push_str(&self.verdict());
        text
    }

    fn generator_line(&self) -> String {
        let tally = &self.result().tally;
        let mut line = format!("{:.0} % busy", 100.0 * tally.busy());
        if let Some(ceiling) = self.ceiling {
            let _ = write!(line, ", ceiling {}/s", count(ceiling));
        }
        let _ = write!(
            line,
            ", {} sent late ({}), latest by {}",
            tally.sent_late,
            percent(tally.sent_late, tally.sent),
            duration(tally.lateness_max_ns as f64)
        );
        if tally.unsent() > 0 {
            let _ = write!(line, ", {} not sent at all", tally.unsent());
        }
        if tally.overrun > 0 {
            let _ = write!(line, ", {} answers lost here", tally.overrun);
        }
        line
    }

    /// What it comes to, in a sentence or two.
    pub fn verdict(&self) -> String {
        let step = self.result();
        let tally = &step.tally;
        let mut text = String::new();
        if self.interrupted {
            text.push_str("Interrupted: this is the result so far.\n");
        }
        if let Some(error) = &self.error {
            let _ = writeln!(
                text,
                "Ended by an error: {error}.\nThis is the result so far."
            );
        }
        if let Some(found) = self.found {
            let rate = count(found.rate);
            let loss = found.loss_max_percent;
            let _ = match found.limit {
                Limit::Server => writeln!(
                    text,
                    "The server answers {rate} requests/s with at most {loss} % lost or refused."
                ),
                Limit::Generator => writeln!(
                    text,
                    "The generator is the limit: {rate} requests/s were answered with at most {loss} % \
                     lost or refused,\nand more can't be sent in time from here. The server may be good \
                     for more: use more cores\n(--threads), a quieter machine, or raw frames (--sources) if \
                     these are none."
                ),
                Limit::Unproved => writeln!(
                    text,
                    "Some {rate} requests/s may be answered with at most {loss} % lost or refused: that \
                     was not proved by a\nlonger trial."
                ),
            };
        } else if step.tally.overrun > 0 {
            let _ = writeln!(
                text,
                "The generator did not keep up: {} answers came and found no room here.\nWhat is lost \
                 need not be the server's: ask for less, or use more cores (--threads).",
                tally.overrun
            );
        } else if !step.generator_kept_up() {
            let _ = writeln!(
                text,
                "The generator did not keep up: {} of the requests left more than 100 µs late or not at \
                 all.\nWhat is lost or slow here need not be the server's: {}.",
                share(tally.behind()),
                match tally.busy() > BUSY {
                    true => "ask for less, or use more cores (--threads)",
                    false => "something else keeps this machine's cores busy (--realtime helps)",
                }
            );
        } else if step.limit() == Some(Limit::Generator) {
            text.push_str(
                "The generator was busy all the time: the server may answer more than it was asked \
                 (--threads).\n",
            );
        } else if tally.answered() > 0 && tally.loss() > LOSS_TOLD {
            let _ = writeln!(
                text,
                "The server, or the way to it, loses {} of this load.",
                share(tally.loss())
            );
        }
        if tally.answered() == 0 && tally.sent > 0 {
            let _ = writeln!(text, "There was no answer at all.");
        }
        if tally.kissed() > 0 {
            let _ = writeln!(
                text,
                "The server refuses some requests by kiss codes: it limits its clients (ntp.conf: \
                 `restrict ... limited kod`,\nchrony.conf: `ratelimit`). More clients (--ports, \
                 --sources) stay below such a limit."
            );
        }
        if tally.unsynchronised > 0 {
            let _ = writeln!(text, "The server says that it has no time to give.");
        }
        text.push_str(&signatures(tally));
        let asked = tally.asked_interleaved as f64 * (1.0 - tally.loss());
        if (tally.interleaved as f64) < 0.9 * asked {
            let _ = writeln!(
                text,
                "Of some {asked:.0} answers that were to be interleaved, {} were: the server does not have \
                 it, or\nremembers fewer clients.",
                tally.interleaved
            );
        }
        text
    }
}

/// Why signed requests have no answers, a sentence a line, and what to do.
fn signatures(tally: &Tally) -> String {
    let mut text = String::new();
    let reasons = [
        (
            Invalid::Nak,
            "The server does not have the key of --key (crypto-NAK): its number, type and secret \
             must be among the\nserver's keys (ntp.conf: `keys`, `trustedkey`; chrony.conf: `keyfile`).",
        ),
        (
            Invalid::Unsigned,
            "The server answers signed requests without a signature: it knows no keys, or not this \
             one (--key).",
        ),
        (
            Invalid::Mac,
            "The server signs otherwise than --key says: type or secret of the key differ.",
        ),
    ];
    for (reason, sentence) in reasons {
        if tally.invalid[reason as usize] > 0 {
            let _ = writeln!(text, "{sentence}");
        }
    }
    text
}

/// What came instead of answers, and why; none if nothing did.
pub fn instead_of_answers(tally: &Tally) -> Option<String> {
    let odd = odd_line(tally).filter(|_| tally.invalid_sum() > 0)?;
    let why = signatures(tally);
    Some(format!("{odd}\n{why}").trim_end().to_owned())
}

fn stamp_rows(tally: &Tally) -> [(&'static str, &Differences, &'static str); 3] {
    [
        ("T2 stamps", &tally.receive, "T2-T1"),
        ("T3 stamps", &tally.transmit_basic, "T4-T3, basic"),
        (
            "T3 stamps",
            &tally.transmit_interleaved,
            "T4-T3, interleaved",
        ),
    ]
}

fn sent_line(tally: &Tally) -> String {
    let mut line = format!("{:<10} {}/s", tally.sent, count(tally.sent_rate()));
    if tally.refused > 0 {
        let _ = write!(line, "; {} refused by our kernel", tally.refused);
    }
    line
}

fn answered_line(tally: &Tally) -> String {
    let mut line = format!(
        "{:<10} {}/s, {} lost ({})",
        tally.answered(),
        count(tally.answer_rate()),
        tally.lost,
        share(tally.loss())
    );
    if tally.under_way > 0 {
        let _ = write!(line, ", {} still under way", tally.under_way);
    }
    line
}

fn answers_line(tally: &Tally) -> String {
    let mut parts = vec![format!("{} basic", tally.basic)];
    if tally.asked_interleaved > 0 || tally.interleaved > 0 {
        parts.push(format!(
            "{} interleaved ({} of those asked for)",
            tally.interleaved,
            percent(tally.interleaved, tally.asked_interleaved)
        ));
    }
    if tally.unsynchronised > 0 {
        parts.push(format!("{} without time", tally.unsynchronised));
    }
    for (code, n) in &tally.kisses {
        parts.push(format!("{n} kiss {}", String::from_utf8_lossy(code)));
    }
    parts.join(", ")
}

fn odd_line(tally: &Tally) -> Option<String> {
    let mut parts = Vec::new();
    if tally.late > 0 {
        parts.push(format!("{} too late", tally.late));
    }
    if tally.duplicates > 0 {
        parts.push(format!("{} duplicates", tally.duplicates));
    }
    for (invalid, name) in Invalid::ALL {
        let n = tally.invalid[invalid as usize];
        if n > 0 {
            parts.push(format!("{n} invalid ({name})"));
        }
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn delay_line(tally: &Tally) -> String {
    if tally.delays_ns.is_empty() {
        return "none".to_owned();
    }
    let parts = QUANTILES.map(|(name, quantile)| {
        let delay_ns = tally.delays_ns.value_at_quantile(quantile);
        format!(
            "{} {}",
            name.replacen('_', ".", 1),
            duration(delay_ns as f64)
        )
    });
    parts.join("  ")
}

fn spread_line(spread: &Spread, of: &str) -> String {
    format!(
        "mean {}  sd {}  min {}  max {}  p99 {}  around {} ({of}, {} seen)",
        signed(spread.mean_ns),
        duration(spread.deviation_ns),
        signed(spread.min_ns as f64),
        signed(spread.max_ns as f64),
        duration(spread.p99_ns as f64),
        signed(spread.median_ns as f64),
        spread.count
    )
}

/// One line for each.
fn steps_table(steps: &[Step]) -> String {
    let mut text = format!(
        "{:>10} {:>10} {:>10} {:>9} {:>10} {:>10} {:>10} {:>6} {:>8} {:>9}\n",
        "offered/s",
        "sent/s",
        "answers/s",
        "lost",
        "p50",
        "p99",
        "p99.9",
        "busy",
        "behind",
        "limit"
    );
    for step in steps {
        let tally = &step.tally;
        let quantile = |q| match tally.delays_ns.is_empty() {
            true => "-".to_owned(),
            false => duration(tally.delays_ns.value_at_quantile(q) as f64),
        };
        let _ = writeln!(
            text,
            "{:>10} {:>10} {:>10} {:>9} {:>10} {:>10} {:>10} {:>4.0} % {:>8} {:>9}",
            step.offered.map_or_else(|| "-".to_owned(), count),
            count(tally.sent_rate()),
            count(tally.answer_rate()),
            share(tally.failure()),
            quantile(0.5),
            quantile(0.99),
            quantile(0.999),
            100.0 * tally.busy(),
            share(tally.behind()),
            step.limit().map_or("-", Limit::name),
        );
    }
    text
}

fn step_json(step: &Step) -> Value {
    let tally = &step.tally;
    let microseconds = |ns: f64| ns / 1000.0;
    let mut delays = serde_json::Map::new();
    if !tally.delays_ns.is_empty() {
        for (name, quantile) in QUANTILES {
            let ns = tally.delays_ns.value_at_quantile(quantile);
            delays.insert(name.to_owned(), microseconds(ns as f64).into());
        }
        let (min, mean) = (tally.delays_ns.min() as f64, tally.delays_ns.mean());
        delays.insert("min".to_owned(), microseconds(min).into());
        delays.insert("mean".to_owned(), microseconds(mean).into());
    }
    let stamps = |differences: &Differences| {
        differences.spread().map(|s| {
            json!({
                "count": s.count,
                "median_us": microseconds(s.median_ns as f64),
                "mean_us": microseconds(s.mean_ns),
                "sd_us": microseconds(s.deviation_ns),
                "min_us": microseconds(s.min_ns as f64),
                "max_us": microseconds(s.max_ns as f64),
                "p99_us": microseconds(s.p99_ns as f64),
            })
        })
    };
    let kisses: serde_json::Map<String, Value> = tally
        .kisses
        .iter()
        .map(|(code, n)| (String::from_utf8_lossy(code).into_owned(), (*n).into()))
        .collect();
    let invalid: serde_json::Map<String, Value> = Invalid::ALL
        .iter()
        .map(|(invalid, name)| ((*name).to_owned(), tally.invalid[*invalid as usize].into()))
        .collect();
    json!({
        "offered_per_s": step.offered,
        "length_s": tally.length_ns as f64 * 1e-9,
        "sent": tally.sent,
        "sent_per_s": tally.sent_rate(),
        "answered": tally.answered(),
        "answered_per_s": tally.answer_rate(),
        "lost": tally.lost,
        "loss": tally.loss(),
        "under_way": tally.under_way,
        "late": tally.late,
        "duplicates": tally.duplicates,
        "invalid": invalid,
        "basic": tally.basic,
        "interleaved": tally.interleaved,
        "asked_interleaved": tally.asked_interleaved,
        "unsynchronised": tally.unsynchronised,
        "kisses": kisses,
        "delay_us": delays,
        "stamps": {
            "receive": stamps(&tally.receive),
            "transmit_basic": stamps(&tally.transmit_basic),
            "transmit_interleaved": stamps(&tally.transmit_interleaved),
        },
        "limit": step.limit().map(Limit::name),
        "generator": {
            "kept_up": step.generator_kept_up(),
            "busy": tally.busy(),
            "sent_late": tally.sent_late,
            "lateness_max_us": microseconds(tally.lateness_max_ns as f64),
            "unsent": tally.unsent(),
            "refused": tally.refused,
            "overrun": tally.overrun,
        },
    })
}

/// `123456`, `1.5M` only where nothing is lost by it: plain digits read best.
pub fn count(value: f64) -> String {
    format!("{value:.0}")
}

/// A share of 1 in percent.
pub fn share(share: f64) -> String {
    let percent = 100.0 * share;
    if percent == 0.0 || percent >= 10.0 {
        format!("{percent:.0} %")
    } else if percent >= 0.01 {
        format!("{percent:.2} %")
    } else {
        "<0.01 %".to_owned()
    }
}

fn percent(part: u64, whole: u64) -> String {
    share(part as f64 / whole.max(1) as f64)
}

fn seconds(ns: i64) -> String {
    let text = format!("{:.2}", ns as f64 * 1e-9);
    format!("{} s", text.trim_end_matches('0').trim_end_matches('.'))
}

/// Three digits or so, and a unit.
pub fn duration(ns: f64) -> String {
    let (value, unit) = match ns.abs() {
        0.0..1e3 => (ns, "ns"),
        1e3..1e6 => (ns / 1e3, "µs"),
        1e6..1e9 => (ns / 1e6, "ms"),
        _ => (ns / 1e9, "s"),
    };
    let digits = match value.abs() {
        _ if unit == "ns" => 0,
        0.0..10.0 => 2,
        10.0..100.0 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {unit}")
}

fn signed(ns: f64) -> String {
    let text = duration(ns);
    if ns > 0.0 { format!("+{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(tally: Tally) -> Report {
        Report {
            server: "10.0.0.1:123".to_owned(),
            origin: "64 ports".to_owned(),
            clients: 64,
            threads: 1,
            ceiling: Some(1e6),
            steps: vec![Step {
                offered: Some(100.0),
                tally,
            }],
            chosen: 0,
            found: None,
            interrupted: false,
            error: None,
        }
    }

    fn good() -> Tally {
        let mut tally = Tally::new(1_000_000_000);
        tally.meant = Some(100);
        (tally.sent, tally.basic) = (100, 100);
        (0..100).for_each(|_| tally.delayed(20_000));
        tally
    }

    #[test]
    fn a_good_server_gets_no_warning() {
        let report = report(good());
        assert_eq!(report.verdict(), "");
        let text = report.text();
        assert!(text.contains("p99.9 20.0 µs"), "{text}");
        assert!(text.contains("100        100/s, 0 lost (0 %)"), "{text}");
        assert_eq!(report.json()["result"]["answered"], 100);
        assert_eq!(report.json()["result"]["generator"]["kept_up"], true);
    }

    #[test]
    fn a_slow_generator_does_not_blame_the_server() {
        let mut tally = good();
        (tally.sent, tally.basic, tally.lost) = (80, 60, 20);
        let verdict = report(tally).verdict();
        assert!(verdict.contains("generator did not keep up"), "{verdict}");
        assert!(!verdict.contains("The server"), "{verdict}");
    }

    #[test]
    fn only_a_generator_that_did_its_part_blames_the_server() {
        let lossy = |change: fn(&mut Tally)| {
            let mut tally = good();
            (tally.basic, tally.lost) = (90, 10);
            change(&mut tally);
            report(tally)
        };
        let limit = |report: &Report| report.result().limit();
        let server = lossy(|_| {});
        assert_eq!(limit(&server), Some(Limit::Server));
        assert!(
            server
                .verdict()
                .contains("The server, or the way to it, loses 10 %")
        );
        let changes: [fn(&mut Tally); 3] =
            [|t| t.overrun = 3, |t| t.sent_late = 20, |t| t.sent = 95];
        for change in changes {
            let report = lossy(change);
            assert_eq!(limit(&report), Some(Limit::Generator));
            let verdict = report.verdict();
            assert!(verdict.contains("generator did not keep up"), "{verdict}");
            assert!(!verdict.contains("The server"), "{verdict}");
        }
        // Late, but all was answered.
        let mut late = good();
        late.sent_late = 20;
        assert_eq!(limit(&report(late)), None);

        // A closed loop asks for more until one of both has no more to give.
        let mut closed = report(good());
        (closed.steps[0].offered, closed.steps[0].tally.meant) = (None, None);
        assert_eq!(limit(&closed), None);
        closed.steps[0].tally.busy_ns = 99;
        closed.steps[0].tally.spent_ns = 100;
        assert_eq!(limit(&closed), Some(Limit::Generator));
        let verdict = closed.verdict();
        assert!(verdict.contains("busy all the time"), "{verdict}");
    }

    #[test]
    fn each_step_of_a_ramp_says_who_was_the_limit() {
        let mut report = report(good());
        for change in [|t: &mut Tally| t.lost = 50, |t: &mut Tally| t.sent = 50] {
            let mut step = report.steps[0].clone();
            change(&mut step.tally);
            report.steps.push(step);
        }
        let text = report.text();
        let lines: Vec<&str> = text.lines().skip(1).take(3).collect();
        for (line, limit) in lines.iter().zip(["-", "server", "generator"]) {
            assert!(line.ends_with(limit), "{text}");
        }
    }

    #[test]
    fn kisses_are_explained() {
        let mut tally = good();
        tally.basic = 40;
        tally.kisses.insert(*b"RATE", 60);
        let text = report(tally).text();
        assert!(text.contains("60 kiss RATE"), "{text}");
        assert!(text.contains("limits its clients"), "{text}");
    }

    #[test]
    fn missing_keys_are_explained() {
        let mut tally = good();
        assert_eq!(instead_of_answers(&tally), None);
        (tally.basic, tally.lost) = (0, 100);
        tally.invalid[Invalid::Nak as usize] = 100;
        let instead = instead_of_answers(&tally).unwrap();
        assert!(instead.starts_with("100 invalid (crypto_nak)"), "{instead}");
        let verdict = report(tally).verdict();
        assert!(verdict.contains("does not have the key"), "{verdict}");
    }

    #[test]
    fn durations_are_short() {
        for (ns, text) in [
            (0.0, "0 ns"),
            (999.0, "999 ns"),
            (12_340.0, "12.3 µs"),
            (-1_500.0, "-1.50 µs"),
            (2.5e8, "250 ms"),
            (1.5e9, "1.50 s"),
        ] {
            assert_eq!(duration(ns), text);
        }
    }
}

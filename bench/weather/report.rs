//! From results to tables.

use std::fmt::Write as _;

use ptntp::cli::render;

use crate::weather::results::{Results, RowResult};
use crate::weather::rows::Known;

/// The prototype's RMS in another simulator and the plain estimator's here may differ
/// by this.
const WEATHER_TOLERANCE: f64 = 0.15;
/// An interval that is no more than this much shorter is the same: requests are spread
/// a little so that clients don't march in step.
const INTERVAL_TOLERANCE: f64 = 0.02;

/// A table with a line above and lines below.
#[derive(Clone, Debug)]
pub struct Table {
    /// What it shows.
    pub title: String,
    /// The names of its columns.
    pub head: Vec<&'static str>,
    /// Its cells.
    pub rows: Vec<Vec<String>>,
    /// What is to be said in sum.
    pub foot: Vec<String>,
}

impl Table {
    /// For a terminal.
    pub fn text(&self) -> String {
        let head = self.head.iter().map(|&name| name.to_owned()).collect();
        let mut rows = vec![head];
        rows.extend_from_slice(&self.rows);
        let mut text = format!("{}\n\n{}", self.title, render::columns(&rows));
        for line in &self.foot {
            let _ = write!(text, "\n{line}\n");
        }
        text
    }

    /// For a page.
    pub fn markdown(&self) -> String {
        let mut text = format!("### {}\n\n", self.title);
        let mut line = |cells: Vec<&str>| {
            let _ = writeln!(text, "| {} |", cells.join(" | "));
        };
        line(self.head.clone());
        line(vec!["---"; self.head.len()]);
        for row in &self.rows {
            line(row.iter().map(String::as_str).collect());
        }
        for sentence in &self.foot {
            let _ = write!(text, "\n{sentence}\n");
        }
        text
    }
}

/// All tables that have rows.
pub fn tables(results: &Results) -> Vec<Table> {
    let all = [
        errors(results),
        others(results),
        start(results),
        unlisted(results),
        bounds(results),
        weather(results),
    ];
    all.into_iter()
        .filter(|table| !table.rows.is_empty())
        .collect()
}

fn known(results: &Results) -> impl Iterator<Item = (&RowResult, &Known)> {
    let rows = results.rows.iter();
    rows.filter_map(|row| Some((row, row.known.as_ref()?)))
}

fn seeds(results: &Results) -> String {
    match results.seeds {
        1 => format!("seed {}", results.first_seed),
        count => format!("medians of {count} seeds"),
    }
}

/// The target, and whether it was reached.
fn errors(results: &Results) -> Table {
    let (mut met, mut targets) = (0, 0);
    let rows = known(results)
        .filter(|(_, known)| known.chronyd_rms_s.is_some())
        .map(|(row, known)| {
            let rms_s = row.figures.rms_s;
            let ratio = known.chronyd_rms_s.map(|chronyd_s| rms_s / chronyd_s);
            let verdict = ratio.zip(known.target).map(|(ratio, target)| {
                targets += 1;
                met += u32::from(ratio <= target);
                if ratio <= target { "met" } else { "MISSED" }
            });
            vec![
                row.name.clone(),
                time(rms_s),
                opt(known.chronyd_rms_s, time),
                opt(ratio, |ratio| format!("{ratio:.3}")),
                opt(known.target, share),
                verdict.unwrap_or("-").to_owned(),
                opt(known.ntpd_rs_rms_s, time),
                opt(known.ntpsec_rms_s, time),
                opt(known.floor_s, time),
                opt(known.floor_s.map(|floor_s| rms_s / floor_s), share),
            ]
        })
        .collect();
    Table {
        title: format!("RMS of the true time error ({})", seeds(results)),
        head: vec![
            "row", "ptntp", "chronyd", "ratio", "target", "", "ntpd-rs", "ntpsec", "floor",
            "of floor",
        ],
        rows,
        foot: vec![format!("{met} of {targets} targets met.")],
    }
}

/// What must not be worse.
fn others(results: &Results) -> Table {
    let rows = known(results)
        .filter(|(_, known)| known.chronyd_rms_s.is_some())
        .map(|(row, known)| {
            let figures = &row.figures;
            let no_more = |ours: f64, theirs: Option<f64>| {
                opt(theirs, |theirs| worse(ours / theirs, ours > theirs))
            };
            let interval_s = figures.interval_settled_s;
            let packets = opt(known.chronyd_interval_s, |theirs_s| {
                let more = interval_s < theirs_s * (1.0 - INTERVAL_TOLERANCE);
                worse(theirs_s / interval_s, more)
            });
            vec![
                row.name.clone(),
                time(figures.max_s),
                opt(known.chronyd_max_s, time),
                no_more(figures.max_s, known.chronyd_max_s),
                ratio(figures.frequency_rms),
                opt(known.chronyd_frequency, ratio),
                no_more(figures.frequency_rms, known.chronyd_frequency),
                seconds(figures.interval_s),
                seconds(interval_s),
                opt(known.chronyd_interval_s, seconds),
                packets,
            ]
        })
        .collect();
    Table {
        title: "Largest error, frequency error, packets: no more than chronyd".to_owned(),
        head: vec![
            "row",
            "max",
            "chronyd",
            "ratio",
            "frequency",
            "chronyd",
            "ratio",
            "one each",
            "settled",
            "chronyd",
            "packets",
        ],
        rows,
        foot: vec![
            "One request each so many seconds, of all the run and after settling; `packets`: \
             how many for one of chronyd's."
                .to_owned(),
        ],
    }
}

fn start(results: &Results) -> Table {
    let rows = results.rows.iter().filter_map(|row| {
        let theirs = row.chronyd_start_s?;
        let mut cells = vec![row.name.clone()];
        for (ours, theirs) in row.figures.held_from_s.iter().zip(theirs) {
            let slower = ours.is_none_or(|ours| ours > theirs as f64);
            cells.push(opt(*ours, |s| format!("{s:.0} s")));
            cells.push(format!("{theirs} s{}", if slower { " SLOWER" } else { "" }));
        }
        cells.push(opt(row.figures.held_from_s[3], |s| format!("{s:.0} s")));
        Some(cells)
    });
    Table {
        title: "Start: seconds since which the error stayed below for 30 s".to_owned(),
        head: vec![
            "row", "1 ms", "chronyd", "100 µs", "chronyd", "10 µs", "chronyd", "1 µs",
        ],
        rows: rows.collect(),
        foot: Vec::new(),
    }
}

fn unlisted(results: &Results) -> Table {
    let rows = results.rows.iter().filter(|row| row.known.is_none());
    let rows = rows.map(|row| {
        let figures = &row.figures;
        vec![
            row.name.clone(),
            time(figures.rms_s),
            time(figures.max_s),
            ratio(figures.frequency_rms),
            seconds(figures.interval_settled_s),
            opt(figures.held_from_s[1], |s| format!("{s:.0} s")),
            row.about.clone(),
        ]
    });
    Table {
        title: "Weather in which nobody else was measured".to_owned(),
        head: vec![
            "row",
            "RMS",
            "max",
            "frequency",
            "one each",
            "to 100 µs",
            "",
        ],
        rows: rows.collect(),
        foot: Vec::new(),
    }
}

fn bounds(results: &Results) -> Table {
    let broken = |seconds: u64, promised: bool| match seconds {
        0 => "0".to_owned(),
        seconds if promised => format!("{seconds} BROKEN"),
        seconds => format!("{seconds} (outside the promise)"),
    };
    let rows = results.rows.iter().map(|row| {
        let figures = &row.figures;
        vec![
            row.name.clone(),
            broken(figures.broken, row.promised),
            broken(figures.broken_served, row.promised),
            percent(figures.worst_share),
            time(figures.bound_excess_s),
            percent(figures.likely_coverage),
            seconds(figures.unsynchronised_s),
        ]
    });
    let promised = results.rows.iter().filter(|row| row.promised);
    let sum: u64 = promised.map(|row| row.figures.broken).sum();
    Table {
        title: "The promised bound".to_owned(),
        head: vec![
            "row",
            "s broken",
            "root distance",
            "used",
            "beyond δ/2",
            "likely right",
            "no promise",
        ],
        rows: rows.collect(),
        foot: vec![format!(
            "Broken in {sum} s where it is promised. `beyond δ/2`: the mean bound less half of the least round trip, \
             which asymmetry can hide."
        )],
    }
}

fn weather(results: &Results) -> Table {
    let mut near = 0;
    let rows: Vec<Vec<String>> = known(results)
        .filter_map(|(row, known)| {
            let (here_s, there_s) = row.reference_rms_s.zip(known.prototype_rms_s)?;
            let deviation = here_s / there_s - 1.0;
            near += u32::from(deviation.abs() <= WEATHER_TOLERANCE);
            Some(vec![
                row.name.clone(),
                row.reference?.to_owned(),
                time(here_s),
                time(there_s),
                format!("{:+.1} %", deviation * 100.0),
            ])
        })
        .collect();
    let sum = format!(
        "{near} of {} within {:.0} %.",
        rows.len(),
        WEATHER_TOLERANCE * 100.0
    );
    Table {
        title: "Is the weather right? A plain estimator here and in another simulator".to_owned(),
        head: vec!["row", "estimator", "RMS here", "RMS there", "deviation"],
        rows,
        foot: vec![sum],
    }
}

fn opt<T>(value: Option<T>, show: impl Fn(T) -> String) -> String {
    value.map_or_else(|| "-".to_owned(), show)
}

fn share(value: f64) -> String {
    format!("{value:.2}")
}

fn worse(value: f64, is_worse: bool) -> String {
    format!("{value:.2}{}", if is_worse { " WORSE" } else { "" })
}

fn ratio(value: f64) -> String {
    format!("{value:.1e}")
}

/// `95 %`; to one place where it is close to all.
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    match percent {
        99.0..100.0 => format!("{percent:.1} %"),
        _ => format!("{percent:.0} %"),
    }
}

fn seconds(value: f64) -> String {
    if value < 10.0 {
        format!("{value:.1} s")
    } else {
        format!("{value:.0} s")
    }
}

/// Three digits and a unit.
pub fn time(seconds: f64) -> String {
    let (scale, unit) = match seconds.abs() {
        0.9995.. => (1.0, "s"),
        0.9995e-3.. => (1e3, "ms"),
        0.9995e-6.. => (1e6, "µs"),
        _ => (1e9, "ns"),
    };
    let value = seconds * scale;
    let places = match value.abs() {
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    format!("{value:.places$} {unit}")
}

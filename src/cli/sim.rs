//! `ptntp sim`: the service in virtual time, and how right its clock was.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use serde_json::json;

use crate::cli::args::SimArgs;
use crate::cli::{ask, render};
use crate::sim::library::{self, BUILTIN};
use crate::sim::parse::parse;
use crate::sim::plot;
use crate::sim::scenario::Scenario;
use crate::sim::score::{Score, Spread};
use crate::sim::trace;
use crate::sim::world::{Outcome, run as simulate};

/// The scenario can't be read.
const EXIT_USAGE: u8 = 2;
/// Letters a line where nobody says how many there are.
const PLOT_WIDTH: usize = 80;
/// Wider plots show no more.
const PLOT_WIDTH_MAX: usize = 120;
/// Lines of a plot.
const PLOT_HEIGHT: usize = 20;

/// Simulates, and prints what came out.
pub fn run(args: &SimArgs) -> ExitCode {
    let Some(name) = args.scenario.as_ref().filter(|_| !args.list) else {
        ask::print(&list());
        return ExitCode::SUCCESS;
    };
    let scenario = match scenario(name, args) {
        Ok(scenario) => scenario,
        Err(sentence) => {
            eprintln!("ptntp sim: {sentence}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let keep = args.plot.is_some() || args.trace.is_some();
    let outcome = simulate(&scenario, args.seed, args.estimator, keep);
    if let Err(sentence) = curves(&scenario, &outcome, args) {
        eprintln!("ptntp sim: {sentence}");
        return ExitCode::from(EXIT_USAGE);
    }
    let failed = outcome.score.failures(&scenario.expects);
    ask::print(&if args.json {
        as_json(&outcome, &failed)
    } else {
        as_text(&scenario, &outcome, &failed, args.verbose)
    });
    ExitCode::from(u8::from(
        outcome.score.breaks_promise() || !failed.is_empty(),
    ))
}

/// What `--plot` and `--trace` want. A plot in the terminal comes before the figures.
fn curves(scenario: &Scenario, outcome: &Outcome, args: &SimArgs) -> Result<(), String> {
    let write = |path: &Path, text: String| {
        fs::write(path, text).map_err(|error| format!("can't write {}: {error}", path.display()))
    };
    if let Some(path) = &args.trace {
        write(path, trace::csv(&outcome.records))?;
    }
    match &args.plot {
        None => Ok(()),
        Some(Some(path)) => {
            let title = format!("{}: {}", scenario.name, scenario.about);
            write(
                path,
                plot::svg(&outcome.records, &title, scenario.settle_s)?,
            )
        }
        Some(None) => {
            let width = terminal_size::terminal_size().map_or(PLOT_WIDTH, |(w, _)| w.0.into());
            let drawn = plot::terminal(&outcome.records, width.min(PLOT_WIDTH_MAX), PLOT_HEIGHT);
            if args.json {
                eprintln!("{drawn}");
            } else {
                ask::print(&format!("{drawn}\n"));
            }
            Ok(())
        }
    }
}

/// All built-in scenarios, one a line.
fn list() -> String {
    let rows: Vec<Vec<String>> = BUILTIN
        .iter()
        .map(|builtin| {
            let about = builtin
                .text
                .lines()
                .find_map(|line| line.strip_prefix("about"));
            vec![
                builtin.name.to_owned(),
                about.unwrap_or_default().trim().to_owned(),
            ]
        })
        .collect();
    render::columns(&rows)
}

/// The scenario that is meant, with what `--set` and `--for` change.
fn scenario(name: &str, args: &SimArgs) -> Result<Scenario, String> {
    let builtin = library::find(name);
    let path = Path::new(name);
    let (file, text) = match builtin {
        Some(builtin) => (builtin.file.to_owned(), builtin.text.to_owned()),
        None => match fs::read_to_string(path) {
            Ok(text) => (name.to_owned(), text),
            Err(error) => return Err(unknown(name, &error)),
        },
    };
    let stem = path
        .file_stem()
        .map_or(name.into(), |stem| stem.to_string_lossy());
    let stem = if builtin.is_some() { name } else { &stem };
    let set = args.set.join("\n");
    let mut scenario =
        parse(stem, &[(&file, &text), ("--set", &set)]).map_err(|error| error.to_string())?;
    if let Some(length_s) = args.length_s {
        scenario.set_length(length_s);
    }
    Ok(scenario)
}

fn unknown(name: &str, error: &std::io::Error) -> String {
    let similar = library::similar(name);
    let meant = if similar.is_empty() {
        "`ptntp sim --list` lists those that come with ptntp".to_owned()
    } else {
        format!("did you mean {}?", similar.join(" or "))
    };
    format!("no scenario of the name `{name}`, and no such file ({error}); {meant}")
}

fn as_json(outcome: &Outcome, failed: &[String]) -> String {
    let mut value = json!(outcome.score);
    value["failed"] = json!(failed);
    format!("{value:#}\n")
}

fn as_text(scenario: &Scenario, outcome: &Outcome, failed: &[String], verbose: bool) -> String {
    let score = &outcome.score;
    let mut text = format!("{}: {}\n", scenario.name, scenario.about);
    if verbose {
        for (at_s, line) in &outcome.log {
            let _ = writeln!(text, "{at_s:>12.3} s  {line}");
        }
    }
    let _ = writeln!(
        text,
        "{:.0} s with seed {}, figures after {:.0} s\n",
        score.length_s, score.seed, score.settle_s
    );
    text += &render::columns(&rows(score));
    if !score.promised {
        text += "\nWhat happens here is outside the promise: the bound may be broken.\n";
    }
    for line in failed {
        let _ = writeln!(text, "\nnot as expected: {line}");
    }
    text
}

fn rows(score: &Score) -> Vec<Vec<String>> {
    let row = |cells: &[&str]| cells.iter().map(|&cell| cell.to_owned()).collect();
    let time = |s: f64| render::seconds(Some(s));
    let rate = |ratio: f64| format!("{:.2e}", ratio);
    let spread = |name: &str, spread: &Spread, show: &dyn Fn(f64) -> String| {
        row(&[
            name,
            &format!("rms {}", show(spread.rms)),
            &format!("p99 {}", show(spread.p99)),
            &format!("max {}", show(spread.max)),
        ])
    };
    let mut rows: Vec<Vec<String>> = vec![
        spread("time error", &score.time_error, &time),
        spread("frequency error", &score.frequency_error, &rate),
    ];
    for reached in &score.reached {
        let when = |at: Option<u64>| at.map_or("never".to_owned(), |at| format!("{at} s"));
        let level = format!("below {}", short(reached.below_s));
        let held = format!("for 30 s from {}", when(reached.held_from_s));
        rows.push(row(&[
            &level,
            &format!("at {}", when(reached.first_s)),
            &held,
        ]));
    }
    let (packets, bound) = (&score.packets, &score.bound);
    rows.push(row(&[
        "packets",
        &format!("sent {}", packets.sent),
        &format!("answered {}", packets.received),
        &format!(
            "one each {:.1} s, later {:.1} s",
            packets.interval_s, packets.interval_settled_s
        ),
    ]));
    rows.push(row(&[
        "error bound",
        &format!("broken {} s", bound.broken),
        &format!("mean {}", time(bound.mean_s)),
        &format!("max {}", time(bound.max_s)),
    ]));
    rows.push(row(&[
        "",
        &format!("half a round trip and {}", time(bound.mean_excess_s)),
        &format!("used to {:.0} %", bound.worst_share * 100.0),
        &format!(
            "likely error right for {:.1} %",
            bound.likely_coverage * 100.0
        ),
    ]));
    rows.push(row(&[
        "root distance",
        &format!("broken {} s", bound.broken_served),
        &format!("mean {}", time(bound.mean_served_s)),
    ]));
    rows.push(row(&[
        "clock",
        &format!("stepped {} times", score.steps),
        &format!("not vouched for {} s", score.unsynchronised_s),
    ]));
    rows
}

/// 1 ms, 100 µs: round figures without zeros.
fn short(seconds: f64) -> String {
    let nanoseconds = (seconds * 1e9).round() as i64;
    match nanoseconds {
        1_000_000.. => format!("{} ms", nanoseconds / 1_000_000),
        _ => format!("{} µs", nanoseconds / 1_000),
    }
}

//! What each mechanism is good for: what gets worse without it.

use std::ops::Range;

use ptntp::mechanisms::Mechanism;
use ptntp::sim::scenario::Scenario;
use ptntp::sim::world::Estimator;

use crate::weather::report::{Table, time};
use crate::weather::results::Figures;
use crate::weather::rows::Rows;
use crate::weather::runs::{Job, run_all};

/// Mechanisms, each with the line that takes it away when it is appended to a scenario.
fn mechanisms() -> impl Iterator<Item = (&'static str, String)> {
    let of_node = Mechanism::ALL.map(|(name, _)| (name, format!("without {name}")));
    let of_server = ("interleaved", "server all basic".to_owned());
    of_node.into_iter().chain([of_server])
}

/// A row is told of if a figure changes by more than this.
const NOTEWORTHY: f64 = 0.03;

/// A table for each mechanism of `names`, or for all.
pub fn tables(rows: &Rows, seeds: Range<u64>, names: &[String]) -> Result<Vec<Table>, String> {
    let all = names.iter().any(|name| name == "all");
    let known = |name: &String| mechanisms().any(|(known, _)| known == name);
    if let Some(unknown) = names.iter().find(|name| !all && !known(name)) {
        let known: Vec<&str> = mechanisms().map(|(name, _)| name).collect();
        let known = known.join(", ");
        return Err(format!("no mechanism `{unknown}`; there are {known}"));
    }
    let whole = figures(rows, &seeds, "")?;
    let chosen = mechanisms().filter(|(name, _)| all || names.iter().any(|n| n == name));
    chosen
        .map(|(name, line)| Ok(table(name, rows, &whole, &figures(rows, &seeds, &line)?)))
        .collect()
}

/// Of every row, changed by `line`.
fn figures(rows: &Rows, seeds: &Range<u64>, line: &str) -> Result<Vec<Figures>, String> {
    let scenarios: Vec<Scenario> = rows
        .all
        .iter()
        .map(|row| row.with(line))
        .collect::<Result<_, _>>()?;
    let mut jobs = Vec::new();
    for scenario in &scenarios {
        jobs.extend(seeds.clone().map(|seed| Job {
            scenario,
            seed,
            estimator: Estimator::Node,
        }));
    }
    let scores = run_all(&jobs);
    let of_row = scores.chunks((seeds.end - seeds.start) as usize);
    Ok(of_row.map(Figures::of).collect())
}

fn table(name: &str, rows: &Rows, whole: &[Figures], without: &[Figures]) -> Table {
    let mut lines: Vec<(f64, Vec<String>)> = Vec::new();
    for (row, (whole, without)) in rows.all.iter().zip(whole.iter().zip(without)) {
        let changes = [
            without.rms_s / whole.rms_s,
            without.max_s / whole.max_s,
            without.frequency_rms / whole.frequency_rms,
            whole.interval_settled_s / without.interval_settled_s,
            without.bound_excess_s / whole.bound_excess_s,
            start(without) / start(whole),
        ];
        let changed = changes
            .iter()
            .any(|change| (change - 1.0).abs() > NOTEWORTHY);
        if !changed && whole.broken == without.broken {
            continue;
        }
        let mut cells = vec![row.name.clone(), time(whole.rms_s), time(without.rms_s)];
        cells.extend(changes.iter().map(|change| format!("{change:.2}")));
        cells.push(without.broken.to_string());
        lines.push((changes[0], cells));
    }
    lines.sort_by(|a, b| b.0.total_cmp(&a.0));
    let rest = rows.all.len() - lines.len();
    Table {
        title: format!("Without {name}"),
        head: vec![
            "row",
            "RMS",
            "without",
            "RMS ×",
            "max ×",
            "frequency ×",
            "packets ×",
            "bound ×",
            "start ×",
            "s broken",
        ],
        rows: lines.into_iter().map(|(_, cells)| cells).collect(),
        foot: vec![
            format!(
                "{rest} other rows change by less than {:.0} %.",
                NOTEWORTHY * 100.0
            ) + " `bound`: beyond half of the least round trip; `start`: until 10 µs or 100 µs.",
        ],
    }
}

/// Seconds until the error stayed below 10 µs, or 100 µs where it never did.
fn start(figures: &Figures) -> f64 {
    let [_, to_100us, to_10us, _] = figures.held_from_s;
    to_10us.or(to_100us).unwrap_or(f64::NAN)
}

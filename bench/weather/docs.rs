//! `--docs`: rewrites the figures that stand in the repository.

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use ptntp::sim::plot;
use ptntp::sim::world::{Estimator, run};

use crate::weather::bounds;
use crate::weather::cost;
use crate::weather::report::tables;
use crate::weather::results::Results;
use crate::weather::rows::{Row, Rows, path, text_of};

/// The tables are between these.
const BEGIN: &str = "<!-- bench/accuracy --docs: begin -->";
const END: &str = "<!-- end -->";

/// Rows worth a picture.
const PLOTS: [&str; 4] = ["lan", "wan", "freq-step", "holdover"];

/// Writes tables, plots and the snapshots that `tests/sim.rs` compares with.
pub fn write(rows: &Rows, results: &Results) -> Result<(), String> {
    let page = path("docs/ACCURACY.md");
    let text = text_of(&page)?;
    let parts = text.split_once(BEGIN).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(END)?;
        Some((before, after))
    });
    let Some((before, after)) = parts else {
        return Err(format!(
            "{}: `{BEGIN}` or `{END}` is missing",
            page.display()
        ));
    };
    let tables: String = tables(results)
        .iter()
        .map(|table| format!("{}\n", table.markdown()))
        .collect();
    let (promises, _) = bounds::count(rows, results.first_seed, bounds::SECONDS);
    let promises = promises.foot.join("\n");
    let cost = cost::table().markdown();
    let date = today();
    let text = format!(
        "{before}{BEGIN}\n\nOf {date}.\n\n{tables}### Broken promises\n\n\
         Each scenario as it is, `up` and `down`.\n{promises}\n\n{cost}\n{END}{after}"
    );
    save(&page, &text)?;
    for name in PLOTS {
        let row = find(rows, name)?;
        let scenario = row.with("")?;
        let outcome = run(&scenario, 1, Estimator::Node, true);
        let title = format!("{}: {}", scenario.name, scenario.about);
        let svg = plot::svg(&outcome.records, &title, scenario.settle_s)?;
        save(&path(&format!("docs/accuracy/{name}.svg")), &svg)?;
    }
    snapshots(rows)
}

/// `name length RMS`: takes the names and lengths that are there, and measures anew.
fn snapshots(rows: &Rows) -> Result<(), String> {
    let file = path("tests/sim/snapshots.txt");
    let mut text = String::new();
    for line in text_of(&file)?.lines() {
        let cells: Vec<&str> = line.split_whitespace().collect();
        if let [name, length_s, _] = cells[..]
            && !line.starts_with('#')
        {
            let mut scenario = find(rows, name)?.with("")?;
            let fault = |_| format!("{}: `{length_s}` is no length", file.display());
            scenario.set_length(length_s.parse().map_err(fault)?);
            let score = run(&scenario, 1, Estimator::Node, false).score;
            text += &format!("{name:<22} {length_s:<9} {:.3e}\n", score.time_error.rms);
        } else {
            text += &format!("{line}\n");
        }
    }
    save(&file, &text)
}

fn find<'a>(rows: &'a Rows, name: &str) -> Result<&'a Row, String> {
    let mut all = rows.all.iter().chain(&rows.others);
    all.find(|row| row.name == name)
        .ok_or_else(|| format!("no row `{name}`"))
}

fn save(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("can't write {}: {error}", path.display()))
}

/// The date of today in UTC, `2026-01-31`.
fn today() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let days = since.map_or(0, |since| since.as_secs() / 86_400);
    // Years that begin in March have their leap day at the end; day 0 is 0000-03-01.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    format!("{:04}-{month:02}-{of_month:02}", era * 400 + year + next)
}

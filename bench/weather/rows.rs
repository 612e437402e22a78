//! The rows: those in which others were measured (`bench/weather.txt`), and scenarios
//! in which nobody was (`bench/scenarios`).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use ptntp::sim::library::{self, BUILTIN};
use ptntp::sim::parse::parse;
use ptntp::sim::scenario::Scenario;
use ptntp::sim::world::Estimator;
use serde::Serialize;

/// A scenario, and what else is said of it.
#[derive(Clone, Debug)]
pub struct Row {
    /// What it is called in the tables.
    pub name: String,
    /// Its scenario's name, and how to find its text again.
    text: Text,
    /// What others reach in it; none if nobody was measured.
    pub known: Option<Known>,
    /// When chronyd's error was below 1 ms, 100 us and 10 us, in seconds.
    pub start: Option<[u64; 3]>,
}

/// Where a row's scenario comes from.
#[derive(Clone, Debug)]
struct Text {
    scenario: String,
    text: String,
    /// Lines that change it.
    lines: String,
}

/// What others reach in a row, and what is wanted.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Known {
    /// chronyd's RMS time error.
    pub chronyd_rms_s: Option<f64>,
    /// Its largest.
    pub chronyd_max_s: Option<f64>,
    /// RMS of its frequency error.
    pub chronyd_frequency: Option<f64>,
    /// Mean time between its requests.
    pub chronyd_interval_s: Option<f64>,
    /// ntpd-rs' RMS.
    pub ntpd_rs_rms_s: Option<f64>,
    /// ntpsec's.
    pub ntpsec_rms_s: Option<f64>,
    /// That of a plain prototype in another simulator.
    pub prototype_rms_s: Option<f64>,
    /// Which plain estimator is that prototype here.
    #[serde(skip)]
    pub prototype: Option<Estimator>,
    /// RMS that the information in the packets allows.
    pub floor_s: Option<f64>,
    /// RMS at most so many times chronyd's.
    pub target: Option<f64>,
}

/// All of them.
#[derive(Clone, Debug)]
pub struct Rows {
    /// In the order of the tables: those with known figures first.
    pub all: Vec<Row>,
    /// Scenarios that come with ptntp and are no rows.
    pub others: Vec<Row>,
}

/// A path below the repository's top.
pub fn path(below: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(below)
}

/// A file's text, or a sentence.
pub fn text_of(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("can't read {}: {error}", path.display()))
}

/// Reads what there is.
pub fn read() -> Result<Rows, String> {
    let file = path("bench/weather.txt");
    let mut all = Vec::new();
    let mut starts = BTreeMap::new();
    for (index, line) in text_of(&file)?.lines().enumerate() {
        let fault = |what: String| format!("{}:{}: {what}", file.display(), index + 1);
        let line = line.split('#').next().unwrap_or_default();
        let (cells, lines) = line.split_once('|').unwrap_or((line, ""));
        let cells: Vec<&str> = cells.split_whitespace().collect();
        match cells[..] {
            [] => {}
            ["start", name, a, b, c] => {
                let mut levels = [0; 3];
                for (level, cell) in levels.iter_mut().zip([a, b, c]) {
                    *level = cell
                        .parse()
                        .map_err(|_| fault(format!("`{cell}`: seconds")))?;
                }
                starts.insert(name.to_owned(), levels);
            }
            [name, scenario, ref figures @ ..] if figures.len() == 10 => {
                let known = known(figures).map_err(fault)?;
                let builtin = library::find(scenario)
                    .ok_or_else(|| fault(format!("no scenario `{scenario}`")))?;
                all.push(Row {
                    name: name.to_owned(),
                    text: Text {
                        scenario: scenario.to_owned(),
                        text: builtin.text.to_owned(),
                        lines: lines.trim().to_owned(),
                    },
                    known: Some(known),
                    start: None,
                });
            }
            _ => {
                return Err(fault(
                    "a row has a name, a scenario and 10 figures".to_owned(),
                ));
            }
        }
    }
    for row in &mut all {
        row.start = starts.get(&row.name).copied();
    }
    let others = BUILTIN
        .iter()
        .filter(|b| all.iter().all(|row| row.name != b.name));
    let others = others
        .map(|b| unlisted(b.name, b.text.to_owned()))
        .collect();
    let directory = path("bench/scenarios");
    let entries = fs::read_dir(&directory)
        .map_err(|error| format!("can't read {}: {error}", directory.display()))?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    for file in files {
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        all.push(unlisted(&name, text_of(&file)?));
    }
    let rows = Rows { all, others };
    for row in rows.all.iter().chain(&rows.others) {
        row.with("")?;
    }
    Ok(rows)
}

fn unlisted(name: &str, text: String) -> Row {
    Row {
        name: name.to_owned(),
        text: Text {
            scenario: name.to_owned(),
            text,
            lines: String::new(),
        },
        known: None,
        start: None,
    }
}

fn known(cells: &[&str]) -> Result<Known, String> {
    let figure = |at: usize| match cells[at] {
        "-" => Ok(None),
        cell => number(cell).map(Some),
    };
    let prototype = match cells[7] {
        "-" => None,
        cell => Some(Estimator::ALL.into_iter().find(|e| e.name() == cell))
            .ok_or_else(|| format!("`{cell}` is no estimator"))?,
    };
    Ok(Known {
        chronyd_rms_s: figure(0)?,
        chronyd_max_s: figure(1)?,
        chronyd_frequency: figure(2)?,
        chronyd_interval_s: figure(3)?,
        ntpd_rs_rms_s: figure(4)?,
        ntpsec_rms_s: figure(5)?,
        prototype_rms_s: figure(6)?,
        prototype,
        floor_s: figure(8)?,
        target: figure(9)?,
    })
}

/// `8.4ns` in seconds; a bare number as it is.
fn number(cell: &str) -> Result<f64, String> {
    let unit = cell.trim_start_matches(|c: char| !c.is_alphabetic() || c == 'e');
    let scale = match unit {
        "" | "s" => 1.0,
        "ms" => 1e-3,
        "us" => 1e-6,
        "ns" => 1e-9,
        _ => return Err(format!("`{cell}`: write ns, us, ms or s")),
    };
    let digits = &cell[..cell.len() - unit.len()];
    let value: f64 = digits
        .parse()
        .map_err(|_| format!("`{cell}` is no figure"))?;
    Ok(value * scale)
}

impl Row {
    /// Its scenario, changed by `lines`.
    pub fn with(&self, lines: &str) -> Result<Scenario, String> {
        let file = format!("{}.sim", self.text.scenario);
        let texts = [
            (file.as_str(), self.text.text.as_str()),
            ("bench/weather.txt", &self.text.lines),
            ("bench/accuracy", lines),
        ];
        let mut scenario = parse(&self.name, &texts).map_err(|error| error.to_string())?;
        scenario.name.clone_from(&self.name);
        Ok(scenario)
    }
}

impl Rows {
    /// Leaves only the rows of these names, unless there are none.
    pub fn choose(&mut self, names: &[String]) -> Result<(), String> {
        if names.is_empty() {
            return Ok(());
        }
        let rows = || self.all.iter().chain(&self.others);
        if let Some(unknown) = names
            .iter()
            .find(|name| rows().all(|row| row.name != **name))
        {
            let known: Vec<&str> = rows().map(|row| row.name.as_str()).collect();
            return Err(format!(
                "no row `{unknown}`; there are {}",
                known.join(", ")
            ));
        }
        self.all = rows()
            .filter(|row| names.contains(&row.name))
            .cloned()
            .collect();
        self.others.clear();
        Ok(())
    }
}

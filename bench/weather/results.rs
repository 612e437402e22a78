//! What came out of a row, over its seeds.

use std::ops::Range;

use ptntp::sim::scenario::Scenario;
use ptntp::sim::score::Score;
use ptntp::sim::world::Estimator;
use serde::Serialize;

use crate::weather::rows::{Known, Row, Rows};
use crate::weather::runs::{Job, median, run_all};

/// All rows' results. The field names are the names in `--json`.
#[derive(Clone, Debug, Serialize)]
pub struct Results {
    /// The first seed.
    pub first_seed: u64,
    /// How many.
    pub seeds: u64,
    /// Row by row.
    pub rows: Vec<RowResult>,
}

/// One row's.
#[derive(Clone, Debug, Serialize)]
pub struct RowResult {
    /// The row's name.
    pub name: String,
    /// What it is, in the scenario's words.
    pub about: String,
    /// Is this weather that the promise covers?
    pub promised: bool,
    /// ptntp's.
    pub figures: Figures,
    /// RMS of the plain estimator, where the prototype was measured.
    pub reference_rms_s: Option<f64>,
    /// Which one that is.
    pub reference: Option<&'static str>,
    /// What others reach.
    pub known: Option<Known>,
    /// When chronyd's error was below 1 ms, 100 us and 10 us.
    pub chronyd_start_s: Option<[u64; 3]>,
}

/// Medians of the seeds unless said otherwise.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// Of the true time error after settling.
    pub rms_s: f64,
    /// The least and the largest of the seeds' RMS.
    pub rms_range_s: [f64; 2],
    /// Largest.
    pub max_s: f64,
    /// RMS of the frequency error.
    pub frequency_rms: f64,
    /// Mean time between requests to one server.
    pub interval_s: f64,
    /// The same after settling.
    pub interval_settled_s: f64,
    /// Since when the error stayed for 30 s below 1 ms, 100 us, 10 us, 1 us; none if never.
    pub held_from_s: [Option<f64>; 4],
    /// Mean bound less half of the least round trip.
    pub bound_excess_s: f64,
    /// Seconds with a broken bound, in all seeds.
    pub broken: u64,
    /// The same for the root distance as served.
    pub broken_served: u64,
    /// The largest share of the bound that was used, of all seeds.
    pub worst_share: f64,
    /// Share of seconds in which the likely error was right.
    pub likely_coverage: f64,
    /// Seconds without a promise.
    pub unsynchronised_s: f64,
}

impl Figures {
    /// Of scores with different seeds.
    pub fn of(scores: &[Score]) -> Self {
        let middle = |figure: fn(&Score) -> f64| median(scores.iter().map(figure));
        let largest = |figure: fn(&Score) -> f64| scores.iter().map(figure).fold(0.0, f64::max);
        let held = |level: usize| {
            let from = scores.iter().map(|score| score.reached[level].held_from_s);
            let from_s = median(from.map(|from| from.map_or(f64::INFINITY, |s| s as f64)));
            from_s.is_finite().then_some(from_s)
        };
        let least = scores.iter().map(|score| score.time_error.rms);
        Self {
            rms_s: middle(|score| score.time_error.rms),
            rms_range_s: [
                least.fold(f64::INFINITY, f64::min),
                largest(|score| score.time_error.rms),
            ],
            max_s: middle(|score| score.time_error.max),
            frequency_rms: middle(|score| score.frequency_error.rms),
            interval_s: middle(|score| score.packets.interval_s),
            interval_settled_s: middle(|score| score.packets.interval_settled_s),
            held_from_s: [0, 1, 2, 3].map(held),
            bound_excess_s: middle(|score| score.bound.mean_excess_s),
            broken: scores.iter().map(|score| score.bound.broken).sum(),
            broken_served: scores.iter().map(|score| score.bound.broken_served).sum(),
            worst_share: largest(|score| score.bound.worst_share),
            likely_coverage: middle(|score| score.bound.likely_coverage),
            unsynchronised_s: middle(|score| score.unsynchronised_s as f64),
        }
    }
}

impl Results {
    /// As JSON.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("plain figures")
    }
}

/// Runs every row with every seed; where the prototype was measured, the plain
/// estimator too.
pub fn measure(rows: &Rows, seeds: Range<u64>) -> Results {
    let read = |row: &Row| row.with("").expect("it was read before");
    let scenarios: Vec<Scenario> = rows.all.iter().map(read).collect();
    let estimators = |row: &Row| {
        let plain = row.known.as_ref().and_then(|known| known.prototype);
        [Some(Estimator::Node), plain].into_iter().flatten()
    };
    let mut jobs = Vec::new();
    for (row, scenario) in rows.all.iter().zip(&scenarios) {
        for estimator in estimators(row) {
            jobs.extend(seeds.clone().map(|seed| Job {
                scenario,
                seed,
                estimator,
            }));
        }
    }
    let scores = run_all(&jobs);
    let mut of_estimator = scores.chunks((seeds.end - seeds.start) as usize);
    let mut take = || of_estimator.next().expect("a score for each job");
    let results = rows.all.iter().zip(&scenarios).map(|(row, scenario)| {
        let figures = Figures::of(take());
        let plain = estimators(row).nth(1);
        RowResult {
            name: row.name.clone(),
            about: scenario.about.clone(),
            promised: scenario.promised,
            figures,
            reference_rms_s: plain.map(|_| median(take().iter().map(|s| s.time_error.rms))),
            reference: plain.map(Estimator::name),
            known: row.known.clone(),
            chronyd_start_s: row.start,
        }
    });
    Results {
        first_seed: seeds.start,
        seeds: seeds.end - seeds.start,
        rows: results.collect(),
    }
}

//! Is what is promised ever broken? All weather, and the same with the whole base delay
//! hidden on one way.

use ptntp::sim::scenario::Scenario;
use ptntp::sim::world::Estimator;

use crate::weather::report::{Table, percent};
use crate::weather::rows::{Row, Rows};
use crate::weather::runs::{Job, run_all};

/// What is promised is to hold for so long.
pub const SECONDS: f64 = 1e7;

/// As it is, and with all that can hide on one way.
const VARIANTS: [(&str, &str); 3] = [
    ("", ""),
    (" up", "asymmetry all 100 % up"),
    (" down", "asymmetry all 100 % down"),
];

/// What was counted in a row.
#[derive(Clone, Copy, Default)]
struct Count {
    seconds: f64,
    broken: u64,
    broken_served: u64,
    worst_share: f64,
    ended: u64,
}

/// Runs everything with as many seeds as make up `seconds`, at least one. Did all hold?
pub fn count(rows: &Rows, first_seed: u64, seconds: f64) -> (Table, bool) {
    let mut scenarios: Vec<Scenario> = Vec::new();
    for row in rows.all.iter().chain(&rows.others) {
        scenarios.extend(VARIANTS.map(|(suffix, line)| variant(row, suffix, line)));
    }
    let mut counts = vec![Count::default(); scenarios.len()];
    let mut sum = Count::default();
    let mut seed = first_seed;
    while seed == first_seed || sum.seconds < seconds {
        let jobs: Vec<Job<'_>> = scenarios
            .iter()
            .map(|scenario| Job {
                scenario,
                seed,
                estimator: Estimator::Node,
            })
            .collect();
        for (count, score) in counts.iter_mut().zip(run_all(&jobs)) {
            for count in [count, &mut sum] {
                count.seconds += score.length_s;
                count.broken += score.bound.broken;
                count.broken_served += score.bound.broken_served;
                count.worst_share = count.worst_share.max(score.bound.worst_share);
                count.ended += u64::from(score.ended.is_some());
            }
        }
        seed += 1;
    }
    let named = scenarios.iter().map(|scenario| scenario.name.as_str());
    let all = named.zip(&counts).chain([("all", &sum)]);
    let rows = all.map(|(name, count)| line(name, count)).collect();
    let held = sum.broken == 0 && sum.broken_served == 0 && sum.ended == 0;
    let table = Table {
        title: format!("Broken promises (seeds {first_seed} to {})", seed - 1),
        head: vec!["row", "simulated", "s broken", "root distance", "used", ""],
        rows,
        foot: vec![
            "`up` and `down` have the base delay of both ways on this one, which no packet tells of."
                .to_owned(),
            format!(
                "In {:.2e} simulated seconds of {} scenarios the bound was broken in {} s, the \
                 root distance in {} s.",
                sum.seconds,
                scenarios.len(),
                sum.broken,
                sum.broken_served
            ),
        ],
    };
    (table, held)
}

fn variant(row: &Row, suffix: &str, line: &str) -> Scenario {
    let mut scenario = row.with(line).expect("it was read before");
    scenario.name.push_str(suffix);
    scenario
}

fn line(name: &str, count: &Count) -> Vec<String> {
    let held = count.broken == 0 && count.broken_served == 0;
    let verdict = match (held, count.ended) {
        (true, 0) => "",
        (false, _) => "BROKEN",
        (true, _) => "ENDED EARLY",
    };
    vec![
        name.to_owned(),
        format!("{:.3e} s", count.seconds),
        count.broken.to_string(),
        count.broken_served.to_string(),
        percent(count.worst_share),
        verdict.to_owned(),
    ]
}

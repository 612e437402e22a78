//! Is what is promised ever broken? All weather, and the same with the whole base delay
//! hidden on one way.

use ptntp::sim::scenario::Scenario;
use ptntp::sim::score::Score;
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

impl Count {
    fn add(&mut self, score: &Score) {
        self.seconds += score.length_s;
        self.broken += score.bound.broken;
        self.broken_served += score.bound.broken_served;
        self.worst_share = self.worst_share.max(score.bound.worst_share);
        self.ended += u64::from(score.ended.is_some());
    }
}

/// Runs everything with as many seeds as make up `seconds`, at least one. Did all hold?
pub fn count(rows: &Rows, first_seed: u64, seconds: f64) -> (Table, bool) {
    let mut scenarios: Vec<Scenario> = Vec::new();
    for row in rows.all.iter().chain(&rows.others) {
        scenarios.extend(VARIANTS.map(|(suffix, line)| variant(row, suffix, line)));
    }
    let mut counts = vec![Count::default(); scenarios.len()];
    // Apart: what is outside the promise.
    let (mut sum, mut outside) = (Count::default(), Count::default());
    let mut seed = first_seed;
    while seed == first_seed || sum.seconds + outside.seconds < seconds {
        let jobs: Vec<Job<'_>> = scenarios
            .iter()
            .map(|scenario| Job {
                scenario,
                seed,
                estimator: Estimator::Node,
            })
            .collect();
        for (count, score) in counts.iter_mut().zip(run_all(&jobs)) {
            count.add(&score);
            let sum = if score.promised {
                &mut sum
            } else {
                &mut outside
            };
            sum.add(&score);
        }
        seed += 1;
    }
    let named = |promised: bool| {
        let all = scenarios.iter().zip(&counts);
        all.filter(move |(scenario, _)| scenario.promised == promised)
            .map(move |(scenario, count)| line(&scenario.name, count, promised))
    };
    let all = line("all that is promised", &sum, true);
    let promised = named(true).count();
    let rows = named(true).chain([all]).chain(named(false)).collect();
    let held = sum.broken == 0 && sum.broken_served == 0 && sum.ended + outside.ended == 0;
    let mut foot = vec![
        "`up` and `down` have the base delay of both ways on this one, which no packet tells of."
            .to_owned(),
        format!(
            "In {:.2e} simulated seconds of {promised} scenarios the bound was broken in {} s, the \
             root distance in {} s.",
            sum.seconds, sum.broken, sum.broken_served
        ),
    ];
    if outside.seconds > 0.0 {
        foot.push(format!(
            "Outside the promise, in weather that nobody can foresee: {:.2e} simulated seconds of {} \
             scenarios, the bound broken in {} s, the root distance in {} s.",
            outside.seconds,
            scenarios.len() - promised,
            outside.broken,
            outside.broken_served
        ));
    }
    let table = Table {
        title: format!("Broken promises (seeds {first_seed} to {})", seed - 1),
        head: vec!["row", "simulated", "s broken", "root distance", "used", ""],
        rows,
        foot,
    };
    (table, held)
}

fn variant(row: &Row, suffix: &str, line: &str) -> Scenario {
    let mut scenario = row.with(line).expect("it was read before");
    scenario.name.push_str(suffix);
    scenario
}

fn line(name: &str, count: &Count, promised: bool) -> Vec<String> {
    let held = !promised || (count.broken == 0 && count.broken_served == 0);
    let verdict = match (held, count.ended) {
        (true, 0) if promised => "",
        (true, 0) => "outside the promise",
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

//! Many runs, on all cores.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use ptntp::sim::scenario::Scenario;
use ptntp::sim::score::Score;
use ptntp::sim::world::{Estimator, run};

/// One run.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    /// Of what.
    pub scenario: &'a Scenario,
    /// With which chance.
    pub seed: u64,
    /// By whom.
    pub estimator: Estimator,
}

/// Runs all, and gives the scores in the order of the jobs.
pub fn run_all(jobs: &[Job<'_>]) -> Vec<Score> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(job) = jobs.get(at) else {
                return done;
            };
            let outcome = run(job.scenario, job.seed, job.estimator, false);
            done.push((at, outcome.score));
        }
    };
    let mut scores: Vec<(usize, Score)> = thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        let joined = workers.into_iter().map(|worker| worker.join());
        joined
            .flat_map(|done| done.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    scores.sort_by_key(|&(at, _)| at);
    scores.into_iter().map(|(_, score)| score).collect()
}

/// The middle one; of an even number the mean of the two there.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let count = values.len();
    match count {
        0 => f64::NAN,
        // Never is the largest of all, and has no mean.
        _ if count % 2 == 1 || values[count / 2].is_infinite() => values[count / 2],
        _ => (values[count / 2 - 1] + values[count / 2]) / 2.0,
    }
}

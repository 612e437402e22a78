//! How right the clock was: figures of the true error, one a second.

use serde::Serialize;

use crate::sim::scenario::Expect;

/// Errors whose first undercutting is of interest.
const LEVELS_S: [f64; 4] = [1e-3, 1e-4, 1e-5, 1e-6];
/// A level is held when the error stays below it for so many seconds: as long as in the
/// figures we compare with.
const HOLD_S: u64 = 30;

/// The figures. The field names are the names in `--json`.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Score {
    /// The scenario's name.
    pub scenario: String,
    /// The seed.
    pub seed: u64,
    /// `node` or `reference`.
    pub estimator: String,
    /// Simulated seconds.
    pub length_s: f64,
    /// Seconds after which errors, frequency errors and the bound's size count.
    pub settle_s: f64,
    /// |local − true time|.
    pub time_error: Spread,
    /// |rate of the corrected clock − 1|, slews included, as a ratio.
    pub frequency_error: Spread,
    /// When the error was first below some levels.
    pub reached: Vec<Reached>,
    /// What it cost the network.
    pub packets: Packets,
    /// What was promised.
    pub bound: Bound,
    /// Is this weather that the promise covers?
    pub promised: bool,
    /// Times the clock was stepped.
    pub steps: u64,
    /// Seconds in which the node did not vouch for the time.
    pub unsynchronised_s: u64,
    /// Why it ended early, if it did.
    pub ended: Option<String>,
}

/// Figures of a magnitude.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub struct Spread {
    /// Root of the mean square.
    pub rms: f64,
    /// 99 of a hundred are below.
    pub p99: f64,
    /// The largest.
    pub max: f64,
}

/// A level of error.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Reached {
    /// The level.
    pub below_s: f64,
    /// The first second in which the error was below it.
    pub first_s: Option<u64>,
    /// The first second from which on it stayed below for 30 s.
    pub held_from_s: Option<u64>,
}

impl Score {
    /// A figure by the word that `expect` knows it by; none if it was never reached.
    pub fn figure(&self, word: &str) -> Option<f64> {
        let first = |level: usize| self.reached[level].first_s.map(|at| at as f64);
        match word {
            "rms" => Some(self.time_error.rms),
            "p99" => Some(self.time_error.p99),
            "max" => Some(self.time_error.max),
            "frequency-rms" => Some(self.frequency_error.rms),
            "frequency-max" => Some(self.frequency_error.max),
            "to-1ms" => first(0),
            "to-100us" => first(1),
            "to-10us" => first(2),
            "to-1us" => first(3),
            "steps" => Some(self.steps as f64),
            "packets" => Some(self.packets.sent as f64),
            "unsynchronised" => Some(self.unsynchronised_s as f64),
            _ => None,
        }
    }

    /// Was the bound broken where it is promised to hold?
    pub fn breaks_promise(&self) -> bool {
        self.promised && (self.bound.broken > 0 || self.bound.broken_served > 0)
    }

    /// What did not come out as the scenario expects, as written there. That it
    /// comes to its end is always expected.
    pub fn failures(&self, expects: &[Expect]) -> Vec<String> {
        let ended = self.ended.iter().map(|why| format!("ended early: {why}"));
        let missed = expects
            .iter()
            .filter(|expect| {
                let found = self.figure(&expect.figure);
                found.is_none_or(|found| found >= expect.below)
            })
            .map(|expect| format!("line {}: {}", expect.line, expect.text));
        ended.chain(missed).collect()
    }
}

/// Counts of packets.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub struct Packets {
    /// Requests.
    pub sent: u64,
    /// Replies that reached the client.
    pub received: u64,
    /// Seconds between requests to one server, on average.
    pub interval_s: f64,
    /// The same after settling.
    pub interval_settled_s: f64,
}

/// Figures of the promised bound.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub struct Bound {
    /// Seconds in which the error was beyond it, from the start on.
    pub broken: u64,
    /// Seconds in which it was beyond half the root delay plus the root dispersion, as served.
    pub broken_served: u64,
    /// The largest share of the bound that the error took.
    pub worst_share: f64,
    /// On average, after settling.
    pub mean_s: f64,
    /// The largest, after settling.
    pub max_s: f64,
    /// The least true round trip of any exchange.
    pub delay_min_s: f64,
    /// `mean_s` less half of `delay_min_s`.
    pub mean_excess_s: f64,
    /// Half the root delay plus the root dispersion as served, on average.
    pub mean_served_s: f64,
    /// Share of seconds in which the error was within `error_likely`, after settling.
    pub likely_coverage: f64,
}

/// What is to be seen in one second.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Second {
    /// Local minus true time.
    pub error_s: f64,
    /// How much too fast the clock runs.
    pub frequency_error: f64,
    /// What is promised; none while unsynchronised.
    pub promise: Option<Promise>,
}

/// What the node says about its error.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Promise {
    /// The bound.
    pub bound_s: f64,
    /// The likely one.
    pub likely_s: f64,
    /// Half the root delay plus the root dispersion, as served.
    pub served_s: f64,
}

/// Takes one second after the other.
#[derive(Debug)]
pub struct Recorder {
    settle_s: u64,
    seconds: u64,
    errors: Magnitudes,
    frequency_errors: Magnitudes,
    levels: [Level; LEVELS_S.len()],
    unsynchronised_s: u64,
    bound: Bound,
    promised: u64,
    promised_settled: u64,
    likely: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Level {
    first: Option<u64>,
    since: Option<u64>,
    held_from: Option<u64>,
}

impl Recorder {
    /// Counts from `settle_s` on.
    pub fn new(settle_s: u64) -> Self {
        Self {
            settle_s,
            seconds: 0,
            errors: Magnitudes::default(),
            frequency_errors: Magnitudes::default(),
            levels: Default::default(),
            unsynchronised_s: 0,
            bound: Bound::default(),
            promised: 0,
            promised_settled: 0,
            likely: 0,
        }
    }

    /// The second number `at` since the start is over.
    pub fn take(&mut self, at: u64, second: &Second) {
        self.seconds += 1;
        let error_s = second.error_s.abs();
        let settled = at >= self.settle_s;
        if settled {
            self.errors.take(error_s);
            self.frequency_errors.take(second.frequency_error.abs());
        }
        for (level, below_s) in self.levels.iter_mut().zip(LEVELS_S) {
            level.take(at, error_s < below_s);
        }
        let Some(promise) = second.promise else {
            self.unsynchronised_s += 1;
            return;
        };
        let bound = &mut self.bound;
        self.promised += 1;
        bound.broken += u64::from(error_s > promise.bound_s);
        bound.broken_served += u64::from(error_s > promise.served_s);
        bound.worst_share = bound.worst_share.max(error_s / promise.bound_s);
        if settled {
            self.promised_settled += 1;
            self.likely += u64::from(error_s <= promise.likely_s);
            bound.mean_s += promise.bound_s;
            bound.mean_served_s += promise.served_s;
            bound.max_s = bound.max_s.max(promise.bound_s);
        }
    }

    /// When the levels were reached.
    pub fn reached(&self) -> Vec<Reached> {
        let levels = self.levels.iter().zip(LEVELS_S);
        levels
            .map(|(level, below_s)| Reached {
                below_s,
                first_s: level.first,
                held_from_s: level.held_from,
            })
            .collect()
    }

    /// Of time.
    pub fn time_error(&mut self) -> Spread {
        self.errors.spread()
    }

    /// Of frequency.
    pub fn frequency_error(&mut self) -> Spread {
        self.frequency_errors.spread()
    }

    /// Seconds without a promise.
    pub fn unsynchronised_s(&self) -> u64 {
        self.unsynchronised_s
    }

    /// Of the bound, over a path whose least round trip was `delay_min_s`.
    pub fn bound(&self, delay_min_s: f64) -> Bound {
        let count = self.promised_settled.max(1) as f64;
        let mean_s = self.bound.mean_s / count;
        Bound {
            mean_s,
            mean_served_s: self.bound.mean_served_s / count,
            delay_min_s,
            mean_excess_s: mean_s - delay_min_s / 2.0,
            likely_coverage: self.likely as f64 / count,
            ..self.bound
        }
    }
}

impl Level {
    fn take(&mut self, at: u64, below: bool) {
        if !below {
            self.since = None;
            return;
        }
        self.first.get_or_insert(at);
        let since = *self.since.get_or_insert(at);
        if at - since >= HOLD_S {
            self.held_from.get_or_insert(since);
        }
    }
}

/// Magnitudes on their way to a [`Spread`].
#[derive(Clone, Debug, Default)]
struct Magnitudes {
    squares: f64,
    max: f64,
    /// For ranks; a tenth of a millionth is close enough.
    values: Vec<f32>,
}

impl Magnitudes {
    fn take(&mut self, value: f64) {
        self.squares += value * value;
        self.max = self.max.max(value);
        self.values.push(value as f32);
    }

    /// Puts the values into another order.
    fn spread(&mut self) -> Spread {
        let count = self.values.len();
        if count == 0 {
            return Spread::default();
        }
        let rank = (count * 99).div_ceil(100) - 1;
        let (_, &mut p99, _) = self.values.select_nth_unstable_by(rank, f32::total_cmp);
        Spread {
            rms: (self.squares / count as f64).sqrt(),
            p99: f64::from(p99),
            max: self.max,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(error_s: f64, bound_s: f64) -> Second {
        Second {
            error_s,
            frequency_error: 0.0,
            promise: Some(Promise {
                bound_s,
                likely_s: bound_s / 2.0,
                served_s: 2.0 * bound_s,
            }),
        }
    }

    #[test]
    fn figures_of_a_hundred_seconds() {
        let mut recorder = Recorder::new(100);
        for at in 0..200 {
            recorder.take(at, &second(-(at as f64) * 1e-6, 150e-6));
        }
        let spread = recorder.time_error();
        assert!((spread.p99 / 198e-6 - 1.0).abs() < 1e-7);
        assert_eq!(spread.max, 199.0 * 1e-6);
        let bound = recorder.bound(100e-6);
        assert_eq!((bound.broken, bound.broken_served), (49, 0));
        assert!((bound.mean_excess_s - 100e-6).abs() < 1e-12);
        assert_eq!(bound.likely_coverage, 0.0);
    }

    #[test]
    fn a_level_is_reached_at_first_and_held_later() {
        let mut recorder = Recorder::new(0);
        for at in 0..200 {
            let error_s = if at == 5 || at > 20 { 5e-5 } else { 5e-4 };
            recorder.take(at, &second(error_s, 1.0));
        }
        let reached = recorder.reached();
        assert_eq!(reached[1].first_s, Some(5));
        assert_eq!(reached[1].held_from_s, Some(21));
        assert_eq!(reached[2].first_s, None);
    }
}

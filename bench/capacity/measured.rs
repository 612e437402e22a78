//! What was measured, whatever it is that was, and how rounds become one figure.

use serde_json::Value;

/// One load on one server, once.
#[derive(Clone, Copy)]
pub struct Cell {
    /// Of a search, the rate that was found.
    pub answered_per_s: f64,
    /// Of the server's core, for one answer; microseconds.
    pub cost_us: f64,
    /// The share of requests that were answered.
    pub answered: f64,
    /// Interleaved answers for each request that could have one.
    pub interleaved: f64,
    /// Delay from the intended time of the request: p50, p99, p99.9; microseconds.
    pub delays_us: [f64; 3],
    /// From the transmit stamp of a reply to its arrival; p99, microseconds.
    pub stamp_error_us: f64,
    /// The share of its time that the generator worked.
    pub generator_busy: f64,
    /// There would perhaps have been more answers, or sooner, with a better generator.
    pub generator_limits: bool,
}

impl Cell {
    /// From what `ptntp bench --json` says, and for how long the server's core was busy
    /// meanwhile.
    pub fn new(report: &Value, busy_s: f64) -> Self {
        let (result, search) = (&report["result"], &report["search"]);
        let number = |name: &str| result[name].as_f64().unwrap_or(f64::NAN);
        let delay = |name: &str| result["delay_us"][name].as_f64().unwrap_or(f64::NAN);
        Self {
            answered_per_s: match search["rate_per_s"].as_f64() {
                Some(found) => found,
                None => number("answered_per_s"),
            },
            cost_us: busy_s * 1e6 / number("answered"),
            answered: number("answered") / number("sent"),
            interleaved: number("interleaved") / number("asked_interleaved"),
            delays_us: [delay("p50"), delay("p99"), delay("p99_9")],
            stamp_error_us: result["stamps"]["transmit_basic"]["p99_us"]
                .as_f64()
                .unwrap_or(f64::NAN),
            generator_busy: result["generator"]["busy"].as_f64().unwrap_or(f64::NAN),
            generator_limits: match search["limit"].as_str() {
                Some(limit) => limit != "server",
                None => result["limit"] == "generator",
            },
        }
    }
}

/// All that was measured of a server under loads of a kind.
pub struct Measured<L> {
    /// The server's.
    pub name: String,
    cells: Vec<(L, Cell)>,
    /// Resident, at the end.
    pub memory_kib: u64,
}

impl<L: Copy + PartialEq> Measured<L> {
    /// Nothing yet.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            cells: Vec::new(),
            memory_kib: 0,
        }
    }

    /// One more round.
    pub fn note(&mut self, load: L, cell: Cell) {
        self.cells.push((load, cell));
    }

    /// All of them.
    pub fn cells(&self) -> impl Iterator<Item = &Cell> {
        self.cells.iter().map(|(_, cell)| cell)
    }

    /// Was it measured under this load?
    pub fn has(&self, load: L) -> bool {
        self.cells.iter().any(|(of, _)| *of == load)
    }

    /// Round by round.
    pub fn each<T>(&self, load: L, what: impl Fn(&Cell) -> T) -> Vec<T> {
        let of = self.cells.iter().filter(|(of, _)| *of == load);
        of.map(|(_, cell)| what(cell)).collect()
    }

    /// Of all rounds.
    pub fn median(&self, load: L, what: fn(&Cell) -> f64) -> f64 {
        spread(self.each(load, what))[1]
    }

    /// This one's part of what `other` has, round by round: least, median, most.
    pub fn part_of(&self, other: &Self, load: L, what: fn(&Cell) -> f64) -> [f64; 3] {
        parts(self.each(load, what), &other.each(load, what))
    }
}

/// What each is of the one beside it: least, median, most.
pub fn parts(ours: Vec<f64>, theirs: &[f64]) -> [f64; 3] {
    spread(ours.iter().zip(theirs).map(|(a, b)| a / b).collect())
}

/// Least, median, most.
pub fn spread(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    match values.as_slice() {
        [] => [f64::NAN; 3],
        [first, .., last] => [*first, values[values.len() / 2], *last],
        [only] => [*only; 3],
    }
}

/// As text: the median, then least and most; where all was lost on both sides there is none.
pub fn ratio([least, median, most]: [f64; 3]) -> String {
    if median.is_nan() {
        return "–".into();
    }
    format!("{median:.2} [{least:.2} {most:.2}]")
}

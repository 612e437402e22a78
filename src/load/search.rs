//! The highest rate that a server answers well enough: doubled until it fails, then
//! halved in between, then proved by a longer trial.

use crate::load::report::{Found, Limit};
use crate::load::tally::Tally;

/// The first rate to try.
const START: f64 = 8_000.0;
/// Below this nobody needs a search.
const RATE_MIN: f64 = 100.0;
/// Close enough: rates differ less from trial to trial of one server.
const CLOSE: f64 = 1.03;
/// After a proof that failed, so much less.
const BACK: f64 = 0.9;
/// A rate that fails is tried once more, and twice where the generator was late:
/// what else the machine does may have been the reason.
const TRIES_SERVER: u32 = 2;
const TRIES_GENERATOR: u32 = 3;
/// The search ends after so many trials, whatever it knows.
const TRIALS_MAX: u32 = 40;
/// A generator that is this much behind may have lost the answers itself.
const BEHIND_MAX: f64 = 0.05;
/// The generator sends this share of what it was told, or was the limit.
const SENT_MIN: f64 = 0.99;

/// A trial to be made.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Trial {
    /// Requests a second.
    pub rate: f64,
    /// It proves the result: twice as long as others.
    pub proof: bool,
}

/// How a trial went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Well enough.
    Good,
    /// Not, and that is the server's doing.
    ServerFailed,
    /// Not, and that may be the generator's doing.
    GeneratorFailed,
}

impl Outcome {
    /// Judges a trial by the share of requests that may be lost or refused, 0 to 1.
    /// That a server answered all of a load is believed of a late generator too; that
    /// it did not is not.
    pub fn of(tally: &Tally, loss_max: f64) -> Self {
        let sent_all = tally
            .meant
            .is_none_or(|meant| tally.sent as f64 >= SENT_MIN * meant as f64);
        if !sent_all {
            Self::GeneratorFailed
        } else if tally.failure() <= loss_max {
            Self::Good
        } else if tally.overrun > 0 || tally.behind() > BEHIND_MAX || tally.is_busy() {
            Self::GeneratorFailed
        } else {
            Self::ServerFailed
        }
    }
}

/// See the top of the file.
#[derive(Clone, Debug)]
pub struct Search {
    loss_max_percent: f64,
    /// The highest that went well.
    good: f64,
    /// The lowest that did not, and whose doing that was.
    bad: Option<(f64, Limit)>,
    trial: Trial,
    tries: u32,
    trials: u32,
    proved: bool,
}

impl Search {
    /// No higher than the generator's own ceiling.
    pub fn new(loss_max_percent: f64, ceiling: f64) -> Self {
        Self {
            loss_max_percent,
            good: 0.0,
            bad: Some((ceiling, Limit::Generator)),
            trial: Trial {
                rate: START.min(ceiling / 2.0),
                proof: false,
            },
            tries: 0,
            trials: 0,
            proved: false,
        }
    }

    /// What to try next; `None` when the result is known.
    pub fn next(&self) -> Option<Trial> {
        let hopeless = self.good == 0.0 && self.trial.rate < RATE_MIN;
        (!self.proved && !hopeless && self.trials < TRIALS_MAX).then_some(self.trial)
    }

    /// How that went.
    pub fn tried(&mut self, outcome: Outcome) {
        let Trial { rate, proof } = self.trial;
        self.trials += 1;
        let limit = match outcome {
            Outcome::Good => None,
            Outcome::ServerFailed => Some(Limit::Server),
            Outcome::GeneratorFailed => Some(Limit::Generator),
        };
        let Some(limit) = limit else {
            self.good = rate;
            self.proved = proof;
            self.tries = 0;
            return self.choose();
        };
        self.tries += 1;
        let tries = match limit {
            Limit::Server => TRIES_SERVER,
            _ => TRIES_GENERATOR,
        };
        if self.tries < tries {
            return;
        }
        self.tries = 0;
        self.bad = Some((rate, limit));
        if proof {
            self.good = rate * BACK;
            self.trial.rate = self.good;
        } else {
            self.choose();
        }
    }

    fn choose(&mut self) {
        let (bad, _) = self.bad.unwrap_or((f64::INFINITY, Limit::Generator));
        self.trial = if self.good == 0.0 {
            Trial {
                rate: self.trial.rate / 4.0,
                proof: false,
            }
        } else if bad / self.good < CLOSE {
            Trial {
                rate: self.good,
                proof: true,
            }
        } else {
            Trial {
                rate: (self.good * 2.0).min((self.good * bad).sqrt()),
                proof: false,
            }
        };
    }

    /// What is known so far.
    pub fn found(&self) -> Found {
        let limit = match self.bad {
            Some((_, limit)) if self.proved || self.good == 0.0 => limit,
            _ => Limit::Unproved,
        };
        Found {
            rate: self.good,
            limit,
            loss_max_percent: self.loss_max_percent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(capacity: f64, ceiling: f64) -> (Found, u32) {
        let mut search = Search::new(1.0, ceiling);
        let mut trials = 0;
        while let Some(trial) = search.next() {
            trials += 1;
            search.tried(match trial.rate <= capacity {
                true => Outcome::Good,
                false => Outcome::ServerFailed,
            });
        }
        (search.found(), trials)
    }

    #[test]
    fn a_servers_capacity_is_found_whatever_it_is() {
        for capacity in [300.0, 7_000.0, 8_000.0, 123_456.0, 900_000.0] {
            let (found, trials) = search(capacity, 1e6);
            assert!(found.rate <= capacity && found.rate > capacity / 1.04);
            assert_eq!(found.limit, Limit::Server);
            assert!(trials <= 30, "{trials}");
        }
    }

    #[test]
    fn a_server_faster_than_the_generator_is_not_called_saturated() {
        let (found, _) = search(1e9, 500_000.0);
        assert_eq!(found.limit, Limit::Generator);
        assert!(found.rate > 480_000.0 && found.rate <= 500_000.0);
    }

    #[test]
    fn what_never_holds_is_not_proved() {
        let mut search = Search::new(1.0, 1e6);
        let mut trials = 0;
        while let Some(trial) = search.next() {
            trials += 1;
            search.tried(match trial.proof {
                true => Outcome::GeneratorFailed,
                false => Outcome::Good,
            });
        }
        assert_eq!(trials, TRIALS_MAX);
        assert_eq!(search.found().limit, Limit::Unproved);
    }

    #[test]
    fn a_server_that_answers_nothing_ends_the_search() {
        let (found, trials) = search(0.0, 1e6);
        assert_eq!(found.rate, 0.0);
        assert!(trials < 12, "{trials}");
    }

    #[test]
    fn losses_of_a_late_generator_are_its_own() {
        let mut tally = Tally::new(1_000_000_000);
        tally.meant = Some(1000);
        (tally.sent, tally.basic, tally.lost) = (1000, 900, 100);
        assert_eq!(Outcome::of(&tally, 0.01), Outcome::ServerFailed);
        tally.sent_late = 200;
        assert_eq!(Outcome::of(&tally, 0.01), Outcome::GeneratorFailed);
        (tally.basic, tally.lost) = (1000, 0);
        assert_eq!(Outcome::of(&tally, 0.01), Outcome::Good);
        tally.sent = 900;
        assert_eq!(Outcome::of(&tally, 0.01), Outcome::GeneratorFailed);

        let mut tally = Tally::new(1_000_000_000);
        (tally.meant, tally.sent, tally.lost) = (Some(1000), 1000, 100);
        tally.overrun = 1;
        assert_eq!(Outcome::of(&tally, 0.01), Outcome::GeneratorFailed);
        (tally.overrun, tally.busy_ns, tally.spent_ns) = (0, 99, 100);
        assert_eq!(Outcome::of(&tally, 0.01), Outcome::GeneratorFailed);
    }
}

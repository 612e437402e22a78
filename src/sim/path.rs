//! How long packets take, and which of them arrive.

use crate::sim::dice::{Dice, Direction, Stream};
use crate::sim::scenario::{DelayLaw, Shape, Way, When};

impl DelayLaw {
    /// One draw at a moment, in seconds. May be below zero.
    pub fn draw(&self, at_s: f64, dice: &mut Dice) -> f64 {
        let terms = self.terms.iter();
        let drawn = terms.map(|term| {
            let unit = match term.shape {
                Shape::Constant => 1.0,
                Shape::Exponential => dice.exponential(),
                Shape::Gauss => dice.normal(),
                Shape::Heavy => (0..4).map(|_| dice.exponential()).product(),
                Shape::Uniform => dice.uniform(),
            };
            term.scale_s * unit * term.when.share_at(at_s)
        });
        drawn.sum()
    }
}

impl When {
    /// How much of it is there, 0 to 1.
    fn share_at(&self, at_s: f64) -> f64 {
        match *self {
            Self::Always => 1.0,
            Self::Between { from_s, to_s } => f64::from((from_s..to_s).contains(&at_s)),
            Self::During {
                for_s,
                of_s,
                ramp_s,
            } => {
                let into_s = at_s.rem_euclid(of_s);
                if into_s >= for_s {
                    0.0
                } else if ramp_s > 0.0 {
                    (into_s.min(for_s - into_s) / ramp_s).min(1.0)
                } else {
                    1.0
                }
            }
        }
    }
}

/// One direction of a path, with its chance.
#[derive(Debug)]
pub struct Carrier {
    way: Way,
    delays: Dice,
    luck: Dice,
}

/// When a packet arrives; several times if it is duplicated, never if it is lost.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Arrivals {
    /// Seconds after its departure.
    pub first_s: Option<f64>,
    /// The copy's.
    pub second_s: Option<f64>,
}

impl Carrier {
    /// The way to or from the server of this number.
    pub fn new(way: Way, seed: u64, server: usize, direction: Direction) -> Self {
        Self {
            way,
            delays: Dice::new(seed, Stream::Delay(server, direction)),
            luck: Dice::new(seed, Stream::Luck(server, direction)),
        }
    }

    /// Sends one packet. Draws as often whatever happens to it, so that a change of
    /// luck leaves the delays of all others as they were.
    pub fn carry(&mut self, at_s: f64) -> Arrivals {
        let mut delay_s = self.way.delay.draw(at_s, &mut self.delays).max(0.0);
        let [lost, doubled, held] = [self.way.loss, self.way.duplicate, self.way.reorder]
            .map(|share| self.luck.uniform() <= share);
        if held {
            delay_s += self.way.reorder_s;
        }
        let copy_s = if doubled {
            Some(self.way.delay.draw(at_s, &mut self.luck).max(0.0))
        } else {
            None
        };
        Arrivals {
            first_s: (!lost).then_some(delay_s),
            second_s: copy_s,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::scenario::Term;

    #[test]
    fn a_part_comes_and_goes_with_its_ramp() {
        let when = When::During {
            for_s: 600.0,
            of_s: 3600.0,
            ramp_s: 2.0,
        };
        for (at_s, share) in [
            (0.0, 0.0),
            (1.0, 0.5),
            (300.0, 1.0),
            (599.0, 0.5),
            (600.0, 0.0),
            (3600.0 + 2.0, 1.0),
        ] {
            assert_eq!(when.share_at(at_s), share, "{at_s}");
        }
    }

    #[test]
    fn luck_does_not_reshuffle_delays() {
        let delay = DelayLaw {
            terms: vec![Term {
                shape: Shape::Exponential,
                scale_s: 1.0,
                when: When::Always,
            }],
        };
        let calm = Way {
            delay,
            ..Way::default()
        };
        let rough = Way {
            loss: 0.5,
            duplicate: 0.2,
            ..calm.clone()
        };
        let mut calm = Carrier::new(calm, 1, 0, Direction::Up);
        let mut rough = Carrier::new(rough, 1, 0, Direction::Up);
        let mut lost = 0;
        for _ in 0..1000 {
            let expected = calm.carry(0.0).first_s;
            match rough.carry(0.0).first_s {
                None => lost += 1,
                found => assert_eq!(found, expected),
            }
        }
        assert!((400..600).contains(&lost), "{lost}");
    }
}

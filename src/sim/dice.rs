//! Chance with a seed. Each cause of chance draws from a stream of its own, so that
//! a change of one leaves the others as they were.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Who draws.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stream {
    /// The oscillator's wander.
    Clock,
    /// Noise of our own stamps.
    Stamps,
    /// What the node must not let strangers guess.
    Node,
    /// Delays on the way to or from the server of this number.
    Delay(usize, Direction),
    /// Loss, duplication and reordering on the same way.
    Luck(usize, Direction),
    /// How late the replies of the server of this number leave.
    Departures(usize),
}

/// Which way a packet goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

impl Stream {
    /// Places apart, with room for more causes.
    fn number(self) -> u64 {
        let of_server = |server: usize, cause: u64| 16 + 8 * server as u64 + cause;
        match self {
            Self::Clock => 0,
            Self::Stamps => 1,
            Self::Node => 2,
            Self::Delay(server, Direction::Up) => of_server(server, 0),
            Self::Delay(server, Direction::Down) => of_server(server, 1),
            Self::Luck(server, Direction::Up) => of_server(server, 2),
            Self::Luck(server, Direction::Down) => of_server(server, 3),
            Self::Departures(server) => of_server(server, 4),
        }
    }
}

/// One stream of chance.
#[derive(Clone, Debug)]
pub struct Dice(ChaCha8Rng);

impl Dice {
    /// The stream of one cause under a seed.
    pub fn new(seed: u64, stream: Stream) -> Self {
        let mut chacha = ChaCha8Rng::seed_from_u64(seed);
        chacha.set_stream(stream.number());
        Self(chacha)
    }

    /// 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// 256 bits.
    pub fn seed(&mut self) -> [u8; 32] {
        let mut seed = [0; 32];
        self.0.fill_bytes(&mut seed);
        seed
    }

    /// Uniform in 0 < u <= 1, so that its logarithm is finite.
    pub fn uniform(&mut self) -> f64 {
        ((self.bits() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// Exponential of mean 1.
    pub fn exponential(&mut self) -> f64 {
        -self.uniform().ln()
    }

    /// Normal of mean 0 and standard deviation 1 (Box and Muller's method).
    pub fn normal(&mut self) -> f64 {
        let radius = (2.0 * self.exponential()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_differ_and_repeat() {
        let first = |seed, stream| Dice::new(seed, stream).bits();
        assert_eq!(first(1, Stream::Clock), first(1, Stream::Clock));
        assert_ne!(first(1, Stream::Clock), first(2, Stream::Clock));
        let up = Stream::Delay(0, Direction::Up);
        assert_ne!(first(1, Stream::Clock), first(1, up));
        assert_ne!(first(1, up), first(1, Stream::Delay(1, Direction::Up)));
    }

    #[test]
    fn moments_are_those_of_the_laws() {
        let mut dice = Dice::new(1, Stream::Clock);
        let n = 20_000;
        let mean =
            |draw: &mut dyn FnMut() -> f64| (0..n).map(|_| draw()).sum::<f64>() / f64::from(n);
        assert!((mean(&mut || dice.exponential()) - 1.0).abs() < 0.03);
        assert!(mean(&mut || dice.normal()).abs() < 0.03);
        assert!((mean(&mut || dice.normal().powi(2)) - 1.0).abs() < 0.05);
    }
}

//! Small random numbers and keyed hashes, for the server's tables and for fair
//! samples. Nothing secret rests on them but the seed: whoever can't guess it can't
//! aim at one set of a table.

/// A sequence of numbers; the same seed gives the same sequence.
#[derive(Clone, Debug, Default)]
pub struct Dice {
    state: u64,
}

impl Dice {
    /// Starts the sequence.
    pub const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next number, uniform over all 64 bits (SplitMix64).
    pub fn roll(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        scramble(self.state)
    }

    /// True once in `n` times on average; `n` is at least 1.
    pub fn one_in(&mut self, n: u32) -> bool {
        below(n, self.roll()) == 0
    }
}

/// Maps random `bits` onto 0..`n`, the more evenly the farther `n` is below 2^32.
pub const fn below(n: u32, bits: u64) -> u32 {
    // The high half of a product takes 32 bits, and no division.
    (((bits >> 32) * n as u64) >> 32) as u32
}

/// Spreads `value` over 64 bits in a way that depends on `seed`.
pub fn keyed_hash(seed: u64, value: u64) -> u64 {
    scramble(scramble(value ^ seed).wrapping_add(seed.rotate_left(32)))
}

/// SplitMix64's finaliser: every input bit changes half of the output's.
fn scramble(mut z: u64) -> u64 {
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_ten_is_one_in_ten() {
        let mut dice = Dice::new(1);
        let hits = (0..100_000).filter(|_| dice.one_in(10)).count();
        assert!((9_500..10_500).contains(&hits), "{hits}");
        assert!((0..100).all(|_| dice.one_in(1)));
    }
}

//! The number in each request that only its answer can know, and from which the
//! answer tells which request it belongs to: the request's position, enciphered.
//!
//! It stands where the transmit timestamp would (RFC 5905 lets a client put there
//! what it likes, and servers echo it as origin). An interleaved request carries a
//! second one as its receive timestamp, which an interleaved answer echoes instead;
//! RFC 9769 section 5 wants both random. Speck64/128 (Beaulieu and others, 2013):
//! one block is just a timestamp, and no table of what is under way has to be
//! searched.

/// Rounds of Speck64/128.
const ROUNDS: usize = 27;

/// Which field of a request an answer has echoed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Field {
    /// The transmit timestamp: a basic answer.
    Transmit,
    /// The receive timestamp: an interleaved answer.
    Receive,
}

/// A key and what can be done with it.
#[derive(Clone, Debug)]
pub struct Cookies {
    round_keys: [u32; ROUNDS],
}

impl Cookies {
    /// `key` should be unguessable.
    pub fn new(key: u128) -> Self {
        let word = |n: u32| (key >> (32 * n)) as u32;
        let mut left = [word(1), word(2), word(3)];
        let mut right = word(0);
        let mut round_keys = [0; ROUNDS];
        for (round, slot) in round_keys.iter_mut().enumerate() {
            *slot = right;
            let n = round % 3;
            left[n] = right.wrapping_add(left[n].rotate_right(8)) ^ round as u32;
            right = right.rotate_left(3) ^ left[n];
        }
        Self { round_keys }
    }

    /// The cookie of request `sequence`, which is below 2^63, for one of its fields.
    pub fn seal(&self, sequence: u64, field: Field) -> u64 {
        self.encipher(sequence << 1 | u64::from(field == Field::Receive))
    }

    /// What [`seal`](Self::seal) was given. A number that is none of ours gives a
    /// random sequence, which is hardly one that was used.
    pub fn open(&self, cookie: u64) -> (u64, Field) {
        let block = self.decipher(cookie);
        let field = if block & 1 == 1 {
            Field::Receive
        } else {
            Field::Transmit
        };
        (block >> 1, field)
    }

    fn encipher(&self, block: u64) -> u64 {
        let (mut x, mut y) = ((block >> 32) as u32, block as u32);
        for key in self.round_keys {
            x = x.rotate_right(8).wrapping_add(y) ^ key;
            y = y.rotate_left(3) ^ x;
        }
        u64::from(x) << 32 | u64::from(y)
    }

    fn decipher(&self, block: u64) -> u64 {
        let (mut x, mut y) = ((block >> 32) as u32, block as u32);
        for key in self.round_keys.into_iter().rev() {
            y = (y ^ x).rotate_right(3);
            x = (x ^ key).wrapping_sub(y).rotate_left(8);
        }
        u64::from(x) << 32 | u64::from(y)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_authors_test_vector_comes_out() {
        let cookies = Cookies::new(0x1b1a_1918_1312_1110_0b0a_0908_0302_0100);
        assert_eq!(
            cookies.encipher(0x3b72_6574_7475_432d),
            0x8c6f_a548_454e_028b
        );
    }

    #[test]
    fn what_is_sealed_opens() {
        let cookies = Cookies::new(77);
        for sequence in [0, 1, 12_345, 1 << 40, (1 << 63) - 1] {
            for field in [Field::Transmit, Field::Receive] {
                assert_eq!(
                    cookies.open(cookies.seal(sequence, field)),
                    (sequence, field)
                );
            }
        }
    }
}

//! Which range a number lies in, for as many ranges as anybody writes rules: the
//! search behind the access table.
//!
//! Ranges are told by their starts, sorted, in one flat array. To find the last
//! start at or below a number, a tree of wide nodes leads to a handful of
//! neighbours: a node skips the bits that all of its starts share and branches on
//! the next few at once, as many as it has starts for (an LPC trie: Nilsson and
//! Karlsson, "IP-Address Lookup Using LC-Tries"). A million prefixes take two or
//! three steps however they are crowded, each a line of cache, and the answer lies
//! in the same line as its start.

use std::ops::Deref;

/// Starts that are searched one after the other: a cache line of IPv4's.
const NEIGHBOURS_MAX: usize = 8;
/// A node branches on no more bits than this: sixteen million ways.
const BITS_MAX: u32 = 24;
/// Octets of a page, where they are smallest. Where they are larger, the list's first
/// and last may have others in them.
const PAGE_LEN: usize = 4096;
/// Marks a way that leads to a node; the other bits are the node's place.
const IS_NODE: u32 = 1 << 31;

/// Numbers that addresses are.
pub trait Number: Copy + Ord {
    /// How many bits it has.
    const WIDTH: u32;
    /// The first `bits` bits.
    fn top(self, bits: u32) -> Self;
    /// Bits that both start with.
    fn shared(self, other: Self) -> u32;
    /// The last `bits` bits, at most 31.
    fn low(self, bits: u32) -> usize;
}

impl Number for u32 {
    const WIDTH: u32 = Self::BITS;

    fn top(self, bits: u32) -> Self {
        self.checked_shr(Self::BITS - bits).unwrap_or(0)
    }

    fn shared(self, other: Self) -> u32 {
        (self ^ other).leading_zeros()
    }

    fn low(self, bits: u32) -> usize {
        self as usize & ((1 << bits) - 1)
    }
}

/// 128 bits without the alignment of u128, which would cost a third of the memory.
impl Number for [u64; 2] {
    const WIDTH: u32 = u128::BITS;

    fn top(self, bits: u32) -> Self {
        halves(whole(self).checked_shr(Self::WIDTH - bits).unwrap_or(0))
    }

    fn shared(self, other: Self) -> u32 {
        (whole(self) ^ whole(other)).leading_zeros()
    }

    fn low(self, bits: u32) -> usize {
        self[1] as usize & ((1 << bits) - 1)
    }
}

/// A number of 128 bits, high half first, so that it sorts as it should.
pub fn halves(number: u128) -> [u64; 2] {
    [(number >> 64) as u64, number as u64]
}

/// The number of which these are the [`halves`].
pub fn whole([high, low]: [u64; 2]) -> u128 {
    u128::from(high) << 64 | u128::from(low)
}

/// Consecutive ranges that cover all numbers, each with an answer.
#[derive(Clone, Debug)]
pub struct Ranges<N, A> {
    /// Ascending from zero.
    ranges: Apart<Range<N, A>>,
    nodes: Apart<Node<N>>,
    /// The ways of all nodes: [`IS_NODE`], or the range at which the way begins.
    ways: Apart<u32>,
}

/// A list that shares no page of memory with anything else, so that whoever is able to
/// may forbid writes to it.
#[derive(Clone, Debug)]
struct Apart<T> {
    /// The list, between margins of a page each.
    whole: Box<[T]>,
    /// How many are a margin.
    margin: usize,
}

impl<T: Copy> From<Vec<T>> for Apart<T> {
    fn from(list: Vec<T>) -> Self {
        let Some(&filler) = list.first() else {
            let (whole, margin) = (Box::default(), 0);
            return Self { whole, margin };
        };
        let margin = PAGE_LEN.div_ceil(size_of::<T>());
        let mut whole = Vec::with_capacity(list.len() + 2 * margin);
        whole.resize(margin, filler);
        whole.extend(list);
        whole.resize(whole.len() + margin, filler);
        let whole = whole.into();
        Self { whole, margin }
    }
}

impl<T> Deref for Apart<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.whole[self.margin..self.whole.len() - self.margin]
    }
}

#[derive(Clone, Copy, Debug)]
struct Range<N, A> {
    start: N,
    answer: A,
}

#[derive(Clone, Copy, Debug)]
struct Node<N> {
    /// The first bits of every start below this node.
    shared: N,
    shared_bits: u32,
    /// On how many bits it branches.
    bits: u32,
    /// Its first way.
    ways: u32,
    /// The ranges below it: from the first to the one after the last.
    from: u32,
    to: u32,
}

impl<N: Number, A: Copy> Ranges<N, A> {
    /// Of the numbers at which the answer changes, ascending from zero.
    ///
    /// # Panics
    /// Without a range that starts at the lowest number, or with more than 2^31.
    pub fn new(changes: impl Iterator<Item = (N, A)>) -> Self {
        let ranges: Vec<_> = changes
            .map(|(start, answer)| Range { start, answer })
            .collect();
        assert!(!ranges.is_empty() && ranges.len() < IS_NODE as usize);
        let mut builder = Builder {
            ranges: &ranges,
            nodes: Vec::new(),
            ways: Vec::new(),
        };
        if ranges.len() > NEIGHBOURS_MAX {
            // Without the lowest, which shares no bits with the others.
            builder.add_node(1, ranges.len());
        }
        Self {
            nodes: builder.nodes.into(),
            ways: builder.ways.into(),
            ranges: ranges.into(),
        }
    }

    /// All that a look-up reads beside this very value, with a margin of a page on both
    /// sides.
    pub fn lists(&self) -> (&[impl Copy], &[impl Copy], &[impl Copy]) {
        (&self.ranges.whole, &self.nodes.whole, &self.ways.whole)
    }

    /// Where each range starts, ascending from zero, and its answer.
    pub fn iter(&self) -> impl Iterator<Item = (N, A)> {
        self.ranges.iter().map(|range| (range.start, range.answer))
    }

    /// The answer for `number`.
    pub fn at(&self, number: N) -> A {
        let mut place = self.near(number);
        let ranges = &*self.ranges;
        while let Some(next) = ranges.get(place + 1)
            && next.start <= number
        {
            place += 1;
        }
        ranges[place].answer
    }

    /// A range at or a few before the one in which `number` lies.
    fn near(&self, number: N) -> usize {
        let (nodes, ways) = (&*self.nodes, &*self.ways);
        let mut next = nodes.first();
        while let Some(node) = next {
            let top = number.top(node.shared_bits);
            if top < node.shared {
                return node.from as usize - 1;
            }
            if top > node.shared {
                return node.to as usize - 1;
            }
            let branch = number.top(node.shared_bits + node.bits).low(node.bits);
            let way = ways[node.ways as usize + branch];
            if way & IS_NODE == 0 {
                return way as usize;
            }
            next = nodes.get((way & !IS_NODE) as usize);
        }
        0
    }
}

struct Builder<'a, N, A> {
    ranges: &'a [Range<N, A>],
    nodes: Vec<Node<N>>,
    ways: Vec<u32>,
}

impl<N: Number, A: Copy> Builder<'_, N, A> {
    /// For the ranges from `from` to before `to`, of which there are at least two.
    /// Its place.
    fn add_node(&mut self, from: usize, to: usize) -> usize {
        let (first, last) = (self.ranges[from].start, self.ranges[to - 1].start);
        let shared_bits = first.shared(last);
        // About one way for each start.
        let bits = (to - from).ilog2().clamp(1, BITS_MAX);
        let bits = bits.min(N::WIDTH - shared_bits);
        let (place, ways) = (self.nodes.len(), self.ways.len());
        self.nodes.push(Node {
            shared: first.top(shared_bits),
            shared_bits,
            bits,
            ways: ways as u32,
            from: from as u32,
            to: to as u32,
        });
        self.ways.resize(ways + (1 << bits), 0);
        let mut begin = from;
        for branch in 0..1 << bits {
            let is_here =
                |range: &Range<N, A>| range.start.top(shared_bits + bits).low(bits) == branch;
            let here = self.ranges[begin..to]
                .iter()
                .take_while(|r| is_here(r))
                .count();
            self.ways[ways + branch] = if here > NEIGHBOURS_MAX {
                IS_NODE | self.add_node(begin, begin + here) as u32
            } else {
                // What starts before the way is in force where it begins.
                begin as u32 - 1
            };
            begin += here;
        }
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Crowded numbers: few set bits, so that many share their first bits.
    fn crowded() -> impl Strategy<Value = u128> {
        prop::collection::vec(0_u32..128, 0..6)
            .prop_map(|bits| bits.into_iter().fold(0, |sum, bit| sum | 1 << bit))
    }

    proptest! {
        #[test]
        fn finds_what_a_search_from_the_start_finds(
            starts in prop::collection::btree_set(prop_oneof![crowded(), any::<u128>()], 0..300),
            numbers in prop::collection::vec(prop_oneof![crowded(), any::<u128>()], 1..50),
        ) {
            let mut starts = starts;
            starts.insert(0);
            let wide = Ranges::new(starts.iter().map(|start| (halves(*start), *start)));
            let narrow: std::collections::BTreeSet<_> =
                starts.iter().map(|start| *start as u32).collect();
            let ranges = Ranges::new(narrow.iter().map(|start| (*start, *start)));
            for number in starts.iter().copied().chain(numbers) {
                for number in [number, number.wrapping_sub(1), number.wrapping_add(1)] {
                    prop_assert_eq!(Some(&wide.at(halves(number))), starts.range(..=number).next_back());
                    let number = number as u32;
                    prop_assert_eq!(Some(&ranges.at(number)), narrow.range(..=number).next_back());
                }
            }
        }
    }

    #[test]
    fn a_million_take_few_steps_and_little_memory() {
        // /48s below one /24: the first 24 bits tell nothing.
        let starts = (0..1_u128 << 20).map(|n| (0x0020_010d_u128 << 104) | (n << 84));
        let ranges = Ranges::new(
            std::iter::once(0)
                .chain(starts)
                .map(|start| (halves(start), 7_u32)),
        );
        assert!(ranges.nodes.len() < 3, "{}", ranges.nodes.len());
        assert!(ranges.ways.len() <= 3 << 20, "{}", ranges.ways.len());
        assert_eq!(size_of::<Range<[u64; 2], u32>>(), 24);
        assert_eq!(size_of::<Range<u32, u32>>(), 8);
    }
}

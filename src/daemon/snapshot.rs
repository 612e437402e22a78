//! The system variables, and the lines of the network cards' clocks, as the time loop
//! last published them for workers that may not wait for anybody.

use std::io;

use crate::daemon::sequence_lock::SequenceLock;
use crate::hardware::card::{CARDS_MAX, CardClock, Cards};
use crate::system::SystemState;
use crate::time::duration::NtpDuration;
use crate::time::instant::WallInstant;
use crate::time::map::ClockMap;
use crate::time::phc::{PhcInstant, PhcMap};
use crate::time::units::{Ppm, Precision};
use crate::wire::packet::Leap;
use crate::wire::refid::RefId;

/// What a reply is made from, apart from the request.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Snapshot {
    /// What we tell the world about our time.
    pub state: SystemState,
    /// From the clock that stamps packets to the clock we serve.
    pub clock: ClockMap,
}

const WORDS: usize = 11;

/// A [`Snapshot`] that one thread publishes and any number read, without locks.
#[derive(Debug)]
pub struct SnapshotCell(SequenceLock<WORDS>);

impl SnapshotCell {
    /// A cell that holds `snapshot`.
    ///
    /// # Errors
    /// Those of [`SequenceLock::new`].
    pub fn new(snapshot: Snapshot) -> io::Result<Self> {
        SequenceLock::new(encode(&snapshot)).map(Self)
    }

    /// Would a write by a reader fault? Not where the kernel denies the means.
    pub fn is_guarded(&self) -> bool {
        self.0.is_guarded()
    }

    /// Replaces the snapshot.
    pub fn publish(&self, snapshot: &Snapshot) {
        self.0.publish(encode(snapshot));
    }

    /// The snapshot published last.
    pub fn read(&self) -> Snapshot {
        decode(&self.0.read())
    }
}

/// What card stamps are judged by: published when a card's clock was read, and looked
/// at by workers when they meet such a stamp.
#[derive(Debug)]
pub struct CardsCell(SequenceLock<CARDS_WORDS>);

const CARD_WORDS: usize = 10;
const CARDS_WORDS: usize = CARDS_MAX * CARD_WORDS;

impl CardsCell {
    /// A cell without cards.
    ///
    /// # Errors
    /// Those of [`SequenceLock::new`].
    pub fn new() -> io::Result<Self> {
        SequenceLock::new([0; CARDS_WORDS]).map(Self)
    }

    /// Replaces the cards.
    pub fn publish(&self, cards: &Cards) {
        let mut words = [0; CARDS_WORDS];
        for (place, card) in words.chunks_exact_mut(CARD_WORDS).zip(cards.iter()) {
            place.copy_from_slice(&encode_card(card));
        }
        self.0.publish(words);
    }

    /// The cards published last.
    pub fn read(&self) -> Cards {
        let words = self.0.read();
        Cards::new(words.chunks_exact(CARD_WORDS).map_while(decode_card))
    }
}

/// A worker's copy of the cards, which is renewed when there are new ones.
#[derive(Debug)]
pub struct CardsReader<'a> {
    cell: &'a CardsCell,
    seen: u64,
    cards: Cards,
}

impl<'a> CardsReader<'a> {
    /// Of the cards in `cell`.
    pub fn new(cell: &'a CardsCell) -> Self {
        Self {
            cell,
            seen: cell.0.sequence(),
            cards: cell.read(),
        }
    }

    /// The cards now.
    pub fn cards(&mut self) -> &Cards {
        let sequence = self.cell.0.sequence();
        if self.seen != sequence {
            self.seen = sequence;
            self.cards = self.cell.read();
        }
        &self.cards
    }
}

fn encode_card(card: &CardClock) -> [u64; CARD_WORDS] {
    let map = &card.map;
    [
        u64::from(card.interface),
        map.anchor_phc.nanos() as u64,
        map.anchor_real.unix_ns() as u64,
        map.rate.to_bits(),
        map.error.units() as u64,
        map.error_rate.to_bits(),
        map.reach.units() as u64,
        card.tx_compensation.units() as u64,
        card.rx_compensation.units() as u64,
        card.speed,
    ]
}

/// None for a place without a card: no interface has the index zero.
fn decode_card(words: &[u64]) -> Option<CardClock> {
    let &[
        interface,
        phc,
        real,
        rate,
        error,
        error_rate,
        reach,
        tx,
        rx,
        speed,
    ] = words
    else {
        return None;
    };
    let duration = |word: u64| NtpDuration::from_units(word as i64);
    (interface != 0).then(|| CardClock {
        interface: interface as u32,
        map: PhcMap {
            anchor_phc: PhcInstant::from_nanos(phc as i64),
            anchor_real: WallInstant::from_unix_ns(real as i64),
            rate: f64::from_bits(rate),
            error: duration(error),
            error_rate: f64::from_bits(error_rate),
            reach: duration(reach),
        },
        tx_compensation: duration(tx),
        rx_compensation: duration(rx),
        speed,
    })
}

fn encode(snapshot: &Snapshot) -> [u64; WORDS] {
    let Snapshot { state, clock } = snapshot;
    let small = u64::from(u32::from_be_bytes(state.refid.bytes())) << 32
        | u64::from(state.precision.log2() as u8) << 16
        | u64::from(state.stratum) << 8
        | u64::from(state.leap.bits());
    [
        small,
        state.reference.unix_ns() as u64,
        state.root_delay.units() as u64,
        state.root_dispersion.units() as u64,
        state.dispersion_rate.0.to_bits(),
        state.error_bound.units() as u64,
        state.error_likely.units() as u64,
        state.updated.unix_ns() as u64,
        clock.anchor_real.unix_ns() as u64,
        clock.anchor_local.unix_ns() as u64,
        clock.rate.0.to_bits(),
    ]
}

fn decode(words: &[u64; WORDS]) -> Snapshot {
    let [
        small,
        reference,
        root_delay,
        root_dispersion,
        dispersion_rate,
        error_bound,
        error_likely,
        updated,
        anchor_real,
        anchor_local,
        rate,
    ] = *words;
    let wall = |word: u64| WallInstant::from_unix_ns(word as i64);
    let duration = |word: u64| NtpDuration::from_units(word as i64);
    let ppm = |word: u64| Ppm(f64::from_bits(word));
    Snapshot {
        state: SystemState {
            leap: Leap::from_bits(small as u8),
            stratum: (small >> 8) as u8,
            refid: RefId::from_bytes(((small >> 32) as u32).to_be_bytes()),
            reference: wall(reference),
            root_delay: duration(root_delay),
            root_dispersion: duration(root_dispersion),
            dispersion_rate: ppm(dispersion_rate),
            precision: Precision::new((small >> 16) as i8),
            error_bound: duration(error_bound),
            error_likely: duration(error_likely),
            updated: wall(updated),
        },
        clock: ClockMap {
            anchor_real: wall(anchor_real),
            anchor_local: wall(anchor_local),
            rate: ppm(rate),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    /// Every field follows from `n`, so that a mix of two can't pass for one.
    fn numbered(n: i64) -> Snapshot {
        Snapshot {
            state: SystemState {
                leap: Leap::from_bits(n as u8),
                stratum: n as u8,
                refid: RefId::from_bytes((n as u32).to_be_bytes()),
                reference: WallInstant::from_unix_ns(n),
                root_delay: NtpDuration::from_units(-n),
                root_dispersion: NtpDuration::from_units(n + 1),
                dispersion_rate: Ppm(n as f64),
                precision: Precision::new(n as i8),
                error_bound: NtpDuration::from_units(n + 2),
                error_likely: NtpDuration::from_units(n + 3),
                updated: WallInstant::from_unix_ns(-n),
            },
            clock: ClockMap {
                anchor_real: WallInstant::from_unix_ns(n + 4),
                anchor_local: WallInstant::from_unix_ns(n + 5),
                rate: Ppm(-(n as f64)),
            },
        }
    }

    #[test]
    fn what_is_published_reads_back() {
        let cell = SnapshotCell::new(numbered(0)).expect("a cell");
        for n in [1, -1, 77, i64::from(i32::MAX)] {
            cell.publish(&numbered(n));
            assert_eq!(cell.read(), numbered(n));
        }
    }

    #[test]
    fn cards_read_back() {
        let cell = CardsCell::new().expect("a cell");
        assert_eq!(cell.read(), Cards::default());
        let card = |interface| CardClock {
            interface,
            map: PhcMap {
                anchor_phc: PhcInstant::from_nanos(-1),
                anchor_real: WallInstant::from_unix_ns(2),
                rate: -3e-6,
                error: NtpDuration::from_units(4),
                error_rate: 5e-9,
                reach: NtpDuration::from_units(6),
            },
            tx_compensation: NtpDuration::from_units(-7),
            rx_compensation: NtpDuration::from_units(8),
            speed: 10_000_000_000,
        };
        for count in [0, 1, CARDS_MAX as u32, 3] {
            let cards = Cards::new((1..=count).map(card));
            let mut reader = CardsReader::new(&cell);
            cell.publish(&cards);
            assert_eq!(reader.cards(), &cards);
        }
    }

    #[test]
    fn no_reader_ever_sees_a_torn_value() {
        let cell = SnapshotCell::new(numbered(0)).expect("a cell");
        thread::scope(|scope| {
            let read_many = || {
                let mut last = 0;
                for _ in 0..20_000 {
                    let seen = cell.read();
                    let n = seen.state.reference.unix_ns();
                    assert_eq!(seen, numbered(n));
                    assert!(n >= last, "went back from {last} to {n}");
                    last = n;
                }
            };
            let readers = [(); 3].map(|()| scope.spawn(read_many));
            let mut n = 0;
            while readers.iter().any(|reader| !reader.is_finished()) {
                n += 1;
                cell.publish(&numbered(n));
            }
        });
    }
}

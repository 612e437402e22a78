//! The system variables as the time loop last published them, for workers that
//! may not wait for anybody: a sequence lock over atomic words.
//!
//! The protocol is the one of Boehm, "Can seqlocks get along with programming
//! language memory models?" (MSPC 2012): the words are atomics, so a reader that
//! overlaps a writer reads a mix, notices, and reads again. Readers have a mapping
//! of their own that can't be written through.

use std::io;
use std::sync::atomic::{Ordering, fence};

use crate::linux::shared::SharedWords;
use crate::system::SystemState;
use crate::time::duration::NtpDuration;
use crate::time::instant::WallInstant;
use crate::time::map::ClockMap;
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
pub struct SnapshotCell {
    /// First the sequence, odd while a writer is at work; then the snapshot.
    words: SharedWords,
}

impl SnapshotCell {
    /// A cell that holds `snapshot`.
    ///
    /// # Errors
    /// Those of [`SharedWords::new`].
    pub fn new(snapshot: Snapshot) -> io::Result<Self> {
        let cell = Self {
            words: SharedWords::new(1 + WORDS)?,
        };
        cell.publish(&snapshot);
        Ok(cell)
    }

    /// Would a write by a reader fault? Not where the kernel denies the means.
    pub fn is_guarded(&self) -> bool {
        self.words.is_guarded()
    }

    /// Replaces the snapshot. Meant for one thread; a second one at the same moment
    /// waits for the first.
    pub fn publish(&self, snapshot: &Snapshot) {
        let all = self.words.writer();
        let (lock, words) = all.split_first().expect("`new` made 1 + WORDS of them");
        let mut sequence = lock.load(Ordering::Relaxed);
        loop {
            let even = sequence & !1;
            let claimed =
                lock.compare_exchange_weak(even, even + 1, Ordering::Acquire, Ordering::Relaxed);
            match claimed {
                Ok(_) => {
                    sequence = even;
                    break;
                }
                Err(seen) => sequence = seen,
            }
            std::hint::spin_loop();
        }
        // Whoever reads one of the new words also reads an odd or newer sequence.
        fence(Ordering::Release);
        for (word, value) in words.iter().zip(encode(snapshot)) {
            word.store(value, Ordering::Relaxed);
        }
        lock.store(sequence + 2, Ordering::Release);
    }

    /// The snapshot published last.
    pub fn read(&self) -> Snapshot {
        loop {
            let before = self.words.load(0);
            fence(Ordering::Acquire);
            let words = std::array::from_fn(|i| self.words.load(1 + i));
            fence(Ordering::Acquire);
            let after = self.words.load(0);
            if before == after && before & 1 == 0 {
                return decode(&words);
            }
            std::hint::spin_loop();
        }
    }
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

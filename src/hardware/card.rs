//! Which stamps of a network card to believe, and what becomes of them on the way to
//! CLOCK_REALTIME.
//!
//! A card's stamp is a number of its own clock. The kernel's stamp of the same packet
//! is worse by microseconds but can't be wrong by much, so it is the witness: a card
//! stamps an arrival before the kernel sees it, and a departure after the kernel has
//! let go of it. A stamp of another clock, of another packet, or of a clock that has
//! just jumped lies elsewhere.

use std::fmt;

use crate::time::duration::NtpDuration;
use crate::time::instant::WallInstant;
use crate::time::phc::{PhcInstant, PhcMap};

/// Cards that can be in use at a time.
pub const CARDS_MAX: usize = 8;

/// The card and the kernel may lie so far apart: a packet can wait for a busy
/// processor, or in the card's queue.
const APART_MAX: NtpDuration = NtpDuration::from_whole_seconds(1);
/// The kernel's stamp, too, is taken by a clock that is read in steps.
const WITNESS_ERROR: NtpDuration = NtpDuration::from_units(8_590); // 2 µs

/// Octets on the wire behind those that packet sockets count: the frame's checksum.
const CHECKSUM_LEN: u32 = 4;

/// A card's stamp in terms of CLOCK_REALTIME.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Judged {
    /// The moment.
    pub at: WallInstant,
    /// It may be off by so much, by the hardware clock's own line.
    pub error: NtpDuration,
    /// How long the frame of an arrival took to come in; zero if that is unknown.
    pub frame_time: NtpDuration,
}

/// Why a stamp is not used.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Doubt {
    /// Nothing is known of the card's clock just now, or the stamp is far from where
    /// the clock was last seen.
    Unknown,
    /// An arrival after the kernel saw it, or a departure before it was let go.
    OutOfOrder,
    /// Longer from the card to the kernel, or back, than any packet waits.
    TooFar,
}

impl Doubt {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Unknown, Self::OutOfOrder, Self::TooFar];

    /// The word used in metrics labels and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "clock_unknown",
            Self::OutOfOrder => "out_of_order",
            Self::TooFar => "too_far",
        }
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "its clock is not known just now",
            Self::OutOfOrder => "it contradicts the kernel's stamp",
            Self::TooFar => "it is too far from the kernel's stamp",
        })
    }
}

/// A card whose stamps can be read: its clock's line, and its cables.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct CardClock {
    /// Index of the interface.
    pub interface: u32,
    /// From its clock to CLOCK_REALTIME.
    pub map: PhcMap,
    /// Added to departures: from where the card stamps to where the cable begins
    /// (`txcomp`).
    pub tx_compensation: NtpDuration,
    /// Taken from arrivals: from where the cable ends to where the card stamps
    /// (`rxcomp`).
    pub rx_compensation: NtpDuration,
    /// Bits per second, or zero if unknown.
    pub speed: u64,
}

impl CardClock {
    /// When a packet arrived: the end of its frame, as RFC 5905's T2 and T4 mean it.
    /// Cards stamp its start; `frame_len` octets (headers of the link included, zero if
    /// unknown) follow at the link's speed.
    ///
    /// # Errors
    /// A [`Doubt`], by `kernel`, which stamped the same packet.
    pub fn arrival(
        &self,
        phc: PhcInstant,
        kernel: WallInstant,
        frame_len: u32,
    ) -> Result<Judged, Doubt> {
        let judged = self.judge(phc)?;
        let frame_time = self.frame_time(frame_len);
        let at = judged.at + frame_time + -self.rx_compensation;
        witness(kernel - at, judged.error)?;
        Ok(Judged {
            at,
            frame_time,
            ..judged
        })
    }

    /// When a packet departed.
    ///
    /// # Errors
    /// A [`Doubt`], by `kernel`, which stamped the same packet.
    pub fn departure(&self, phc: PhcInstant, kernel: WallInstant) -> Result<Judged, Doubt> {
        let judged = self.judge(phc)?;
        let at = judged.at + self.tx_compensation;
        witness(at - kernel, judged.error)?;
        Ok(Judged { at, ..judged })
    }

    fn judge(&self, phc: PhcInstant) -> Result<Judged, Doubt> {
        let at = self.map.to_real(phc).ok_or(Doubt::Unknown)?;
        let error = self.map.error_at(phc);
        Ok(Judged {
            at,
            error,
            frame_time: NtpDuration::ZERO,
        })
    }

    fn frame_time(&self, frame_len: u32) -> NtpDuration {
        if self.speed == 0 || frame_len == 0 {
            return NtpDuration::ZERO;
        }
        let bits = u64::from(frame_len + CHECKSUM_LEN) * 8;
        NtpDuration::from_seconds(bits as f64 / self.speed as f64)
    }
}

/// Did it take a plausible time from the earlier stamp to the later?
fn witness(later_by: NtpDuration, error: NtpDuration) -> Result<(), Doubt> {
    if later_by < -(error + WITNESS_ERROR) {
        Err(Doubt::OutOfOrder)
    } else if later_by > APART_MAX {
        Err(Doubt::TooFar)
    } else {
        Ok(())
    }
}

/// The cards in use. Small enough to be copied.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Cards {
    clocks: [Option<CardClock>; CARDS_MAX],
}

impl Cards {
    /// Of those whose clocks are known now; more than [`CARDS_MAX`] are left out.
    pub fn new(clocks: impl IntoIterator<Item = CardClock>) -> Self {
        let mut cards = Self::default();
        for (place, clock) in cards.clocks.iter_mut().zip(clocks) {
            *place = Some(clock);
        }
        cards
    }

    /// The card behind an interface.
    pub fn of(&self, interface: u32) -> Option<&CardClock> {
        self.iter().find(|clock| clock.interface == interface)
    }

    /// As [`of`](Self::of), and the only card there is for an interface that is not
    /// known (zero): kernels don't always tell. The kernel's stamp is witness.
    pub fn of_or_only(&self, interface: u32) -> Option<&CardClock> {
        match self.clocks {
            [Some(ref only), None, ..] if interface == 0 => Some(only),
            _ => self.of(interface),
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &CardClock> {
        self.clocks.iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KERNEL: WallInstant = WallInstant::from_unix_ns(1_800_000_000_000_000_000);

    /// A hardware clock 37 s ahead, known to 100 ns.
    fn card() -> CardClock {
        CardClock {
            interface: 3,
            map: PhcMap {
                anchor_phc: PhcInstant::from_nanos(KERNEL.unix_ns() + 37_000_000_000),
                anchor_real: KERNEL,
                rate: 0.0,
                error: NtpDuration::from_nanos(100),
                error_rate: 0.0,
                reach: NtpDuration::from_whole_seconds(16),
            },
            tx_compensation: NtpDuration::ZERO,
            rx_compensation: NtpDuration::ZERO,
            speed: 0,
        }
    }

    /// On the hardware clock, `ns` after the kernel's stamp.
    fn phc(ns: i64) -> PhcInstant {
        PhcInstant::from_nanos(KERNEL.unix_ns() + 37_000_000_000 + ns)
    }

    #[test]
    fn arrivals_come_before_the_kernel_and_departures_after() {
        let card = card();
        let at = |ns| {
            card.arrival(phc(ns), KERNEL, 90)
                .map(|j| (j.at - KERNEL).as_nanos())
        };
        assert_eq!(at(-5_000), Ok(-5_000));
        assert_eq!(at(5_000), Err(Doubt::OutOfOrder));
        assert_eq!(at(-1_500_000_000), Err(Doubt::TooFar));
        let at = |ns| {
            card.departure(phc(ns), KERNEL)
                .map(|j| (j.at - KERNEL).as_nanos())
        };
        assert_eq!(at(5_000), Ok(5_000));
        assert_eq!(at(-5_000), Err(Doubt::OutOfOrder));
        assert_eq!(at(1_500_000_000), Err(Doubt::TooFar));
    }

    #[test]
    fn a_stamp_of_the_wrong_clock_is_doubted() {
        let wrong = PhcInstant::from_nanos(KERNEL.unix_ns());
        assert_eq!(card().arrival(wrong, KERNEL, 90), Err(Doubt::Unknown));
        // Even one that is hardly off.
        let mut near = card();
        near.map.anchor_real = KERNEL + NtpDuration::from_seconds(0.1);
        assert_eq!(
            near.arrival(phc(-5_000), KERNEL, 90),
            Err(Doubt::OutOfOrder)
        );
    }

    #[test]
    fn an_arrival_is_the_end_of_its_frame() {
        let mut card = card();
        card.speed = 100_000_000;
        card.rx_compensation = NtpDuration::from_nanos(200);
        card.tx_compensation = NtpDuration::from_nanos(300);
        // 94 octets at 80 ns each.
        let judged = card.arrival(phc(-20_000), KERNEL, 90).expect("plausible");
        assert_eq!((judged.at - KERNEL).as_nanos(), -20_000 + 7_520 - 200);
        let judged = card.departure(phc(1_000), KERNEL).expect("plausible");
        assert_eq!((judged.at - KERNEL).as_nanos(), 1_300);
        assert_eq!(judged.error.as_nanos(), 100);
    }

    #[test]
    fn cards_are_found_by_their_interface() {
        let cards = Cards::new([card()]);
        assert_eq!(cards.of(3), Some(&card()));
        assert_eq!(cards.of(4), None);
        let many = Cards::new((0..20).map(|interface| CardClock {
            interface,
            ..card()
        }));
        assert_eq!(many.iter().count(), CARDS_MAX);
    }
}

//! Which reply a departure stamp belongs to (kernel documentation,
//! networking/timestamping: SOF_TIMESTAMPING_OPT_ID).

use crate::time::instant::WallInstant;

/// Departures that can be awaited at once. Stamps come within microseconds; an
/// entry whose stamp never came is overwritten after this many others.
const WAITING_MAX: usize = 1024;

/// Where ids come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ids {
    /// We send one along with each packet (SCM_TS_OPT_ID, kernel 6.13).
    Chosen,
    /// The socket counts the packets whose stamps were asked for, from zero.
    Counted,
}

/// The replies of one socket whose departure stamps are awaited.
#[derive(Debug)]
pub(super) struct Tracker<T> {
    ids: Ids,
    /// Wraps as the kernel's does.
    next: u32,
    waiting: Box<[Option<Waiting<T>>]>,
    count: usize,
    lost: u64,
}

#[derive(Clone, Copy, Debug)]
struct Waiting<T> {
    id: u32,
    of: Departing<T>,
    /// When the network stack let go of it. It stays here for the card's stamp.
    left: Option<WallInstant>,
}

/// A reply whose departure stamp is awaited.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Departing<T> {
    /// The caller's, if he asked.
    pub(super) token: Option<T>,
    /// When it was stamped.
    pub(super) not_before: WallInstant,
    /// How long it took from there is asked for.
    pub(super) is_sample: bool,
    /// Index of the interface its request came by, and it so will leave by.
    pub(super) interface: u32,
}

impl<T: Copy> Tracker<T> {
    pub(super) fn new(ids: Ids) -> Self {
        Self {
            ids,
            next: 0,
            waiting: vec![None; WAITING_MAX].into(),
            count: 0,
            lost: 0,
        }
    }

    pub(super) fn ids(&self) -> Ids {
        self.ids
    }

    /// How many are awaited.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Awaits the stamp of a packet that leaves after it was stamped; its id.
    pub(super) fn begin(&mut self, of: Departing<T>) -> u32 {
        let id = self.next;
        self.next = id.wrapping_add(1);
        let left = None;
        let old = self.waiting[place(id)].replace(Waiting { id, of, left });
        let overdue = old.is_some_and(|w| w.left.is_none());
        self.count += usize::from(!overdue);
        self.lost += u64::from(overdue);
        id
    }

    /// Whose stamp it is. A stamp older than the packet it claims to be of is from
    /// before a [`restart`](Self::restart) and nobody's.
    pub(super) fn finish(&mut self, id: u32, at: WallInstant) -> Option<Departing<T>> {
        let waiting = self.waiting[place(id)].as_mut()?;
        if waiting.id != id || at < waiting.of.not_before || waiting.left.is_some() {
            return None;
        }
        waiting.left = Some(at);
        self.count -= 1;
        Some(waiting.of)
    }

    /// Whose departure a card has stamped, and when the network stack had let go of it,
    /// or when it could have been at the earliest.
    pub(super) fn finish_by_card(&mut self, id: u32) -> Option<(Departing<T>, WallInstant)> {
        let place = &mut self.waiting[place(id)];
        let found = (*place).filter(|w| w.id == id)?;
        *place = None;
        self.count -= usize::from(found.left.is_none());
        Some((found.of, found.left.unwrap_or(found.of.not_before)))
    }

    /// How many were given up since it was last asked: so many came after them.
    pub(super) fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }

    /// Awaits no longer: the packet was not sent.
    pub(super) fn cancel(&mut self, id: u32) {
        let place = &mut self.waiting[place(id)];
        if place.is_some_and(|w| w.id == id && w.left.is_none()) {
            *place = None;
            self.count -= 1;
        }
    }

    /// Forgets everything; ids start at zero, as the socket's do.
    pub(super) fn restart(&mut self) {
        self.waiting.fill(None);
        self.count = 0;
        self.next = 0;
    }
}

fn place(id: u32) -> usize {
    id as usize % WAITING_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: WallInstant = WallInstant::from_unix_ns(1_000);

    fn reply<T>(token: T, not_before: WallInstant) -> Departing<T> {
        Departing {
            token: Some(token),
            not_before,
            is_sample: false,
            interface: 0,
        }
    }

    #[test]
    fn the_cards_stamp_comes_after_the_networks_or_alone() {
        let mut tracker = Tracker::new(Ids::Counted);
        let later = WallInstant::from_unix_ns(1_500);
        tracker.begin(reply('a', AT));
        tracker.begin(reply('b', AT));
        assert_eq!(tracker.finish(0, later), Some(reply('a', AT)));
        assert_eq!(tracker.finish(0, later), None, "one of each");
        assert_eq!(tracker.finish_by_card(0), Some((reply('a', AT), later)));
        assert_eq!(tracker.finish_by_card(0), None);
        assert_eq!(tracker.finish_by_card(1), Some((reply('b', AT), AT)));
        assert_eq!((tracker.count(), tracker.take_lost()), (0, 0));
    }

    #[test]
    fn ids_wrap_and_still_match() {
        let mut tracker = Tracker::new(Ids::Counted);
        tracker.next = u32::MAX;
        assert_eq!(tracker.begin(reply('a', AT)), u32::MAX);
        assert_eq!(tracker.begin(reply('b', AT)), 0);
        assert_eq!(tracker.finish(0, AT), Some(reply('b', AT)));
        assert_eq!(tracker.finish(0, AT), None);
        assert_eq!(tracker.finish(u32::MAX, AT), Some(reply('a', AT)));
        assert_eq!(tracker.count(), 0);
    }

    #[test]
    fn a_stamp_that_never_comes_costs_one_place() {
        let mut tracker = Tracker::new(Ids::Chosen);
        for n in 0..=WAITING_MAX as u32 {
            tracker.begin(reply(n, AT));
        }
        assert_eq!(tracker.count(), WAITING_MAX);
        assert_eq!(tracker.take_lost(), 1);
        assert_eq!(tracker.finish(0, AT), None);
        assert_eq!(
            tracker.finish(WAITING_MAX as u32, AT),
            Some(reply(WAITING_MAX as u32, AT))
        );
    }

    #[test]
    fn a_stamp_older_than_its_packet_is_nobodys() {
        let mut tracker = Tracker::new(Ids::Counted);
        tracker.begin(reply('a', WallInstant::from_unix_ns(0)));
        tracker.restart();
        tracker.begin(reply('b', AT));
        assert_eq!(tracker.finish(0, WallInstant::from_unix_ns(999)), None);
        assert_eq!(tracker.finish(0, AT), Some(reply('b', AT)));
    }
}

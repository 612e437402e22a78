//! Interleaved mode on the server's side (RFC 9769 section 2): a reply carries
//! the moment at which the *previous* reply really left, which is known only
//! after it left.
//!
//! A client asks for it by sending back, as origin, the receive stamp (T2) of an
//! earlier reply instead of its transmit stamp (T3). The server finds T3 by that
//! T2. To tell the two apart without saving every T2 it ever sent, it sets the
//! lowest bit of each T2 and clears that of each T3 (a quarter of a nanosecond,
//! chrony's convention): only a request whose origin has the bit may be
//! interleaved, and only from then on is something saved. So clients of the basic
//! mode cost nothing, and for a new client the third reply is the first
//! interleaved one.
//!
//! What is remembered is a chain: the T2 that a client should return next, when
//! the reply with that T2 left, and the T2 that it returned last. A client that
//! returned one does not forge its address, and keeps its place; one that did not
//! makes room for others. So a flood from invented addresses pushes out nobody who
//! is served. An address has `CHAINS` chains at most, for the clients that may
//! live behind it.
//!
//! One table per worker, allocated once: 36 octets for each client. An address has
//! two sets in which it may live, and a newcomer takes the emptier one, so that the
//! table fills evenly and every client it was made for finds a place.

use std::net::IpAddr;

use crate::dice::{below, keyed_hash};
use crate::time::duration::NtpDuration;
use crate::time::instant::WallInstant;
use crate::time::timestamp::NtpTimestamp;

/// Chains per set: three cache lines.
const WAYS: usize = 8;
/// Chains per address.
const CHAINS: usize = 8;
/// A chain that was proven keeps its place for so many of its intervals without a
/// request, and for so long at least.
const KEPT_INTERVALS: f64 = 4.0;
const KEPT_MIN_S: i64 = 1024;
/// The latter does not hold against the address itself: a client that was started anew
/// leaves its old chain behind.
const OWN_PROVEN_KEPT_MIN_S: i64 = 16;
/// A chain that was not proven keeps its place for so long against others of its own
/// address: two polls of 64 s. Otherwise more clients than an address has chains would
/// take them from each other before any of them is back.
const OWN_KEPT_S: i64 = 128;
/// Memory for a client, in octets, with half as many to spare.
pub const CLIENT_LEN: usize = size_of::<Words>() * 3 / 2;
/// A reply that left so long after its request is not worth telling of,
/// nor is one that left before: the clock was stepped in between.
const DEPARTURE_DELAY_S: i64 = 1;

/// T2 as we send it: the lowest bit is set.
pub fn mark_receive(at: WallInstant) -> NtpTimestamp {
    NtpTimestamp::from_bits(NtpTimestamp::from_wall(at).bits() | 1)
}

/// T3 as we send it: the lowest bit is clear, and it lies after the
/// [`mark_receive`] of the same instant. Never zero, which means "unknown".
pub fn mark_transmit(at: WallInstant) -> NtpTimestamp {
    match mark_receive(at).bits().wrapping_add(1) {
        0 => NtpTimestamp::from_bits(2),
        bits => NtpTimestamp::from_bits(bits),
    }
}

/// Could this origin be one of our receive stamps?
pub fn is_marked_receive(origin: NtpTimestamp) -> bool {
    origin.bits() & 1 == 1
}

/// Names a reply whose departure somebody waits for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TxToken {
    place: u32,
    receive: NtpTimestamp,
}

/// What a reply to a client that may be interleaved is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Turn {
    /// T2 of this request: marked, and unlike every other that is remembered for
    /// the address, so that it names one reply.
    pub receive: NtpTimestamp,
    /// When the reply that the request's origin names left; `None` if that is not
    /// known, or was told before: then the reply is a basic one.
    pub previous: Option<NtpTimestamp>,
    /// For [`InterleaveTable::departed`]. None if the table is full of clients that
    /// deserve their place more.
    pub token: Option<TxToken>,
}

/// Chains of replies, by address.
#[derive(Clone, Debug)]
pub struct InterleaveTable {
    /// [`Chain`]s, set by set. As words, because memory that was never written
    /// costs nothing where all it has to hold is zeros.
    chains: Box<[Words]>,
    seed: u64,
}

/// A [`Chain`] as it is kept.
type Words = [u64; 3];

/// A client's last two replies.
#[derive(Clone, Copy, Debug)]
struct Chain {
    /// T2 of the last reply; zero if nobody lives here.
    receive: NtpTimestamp,
    /// T2 that the client returned with its last request; zero if it is not proven
    /// that it gets our replies.
    returned: NtpTimestamp,
    /// How long after `receive` the last reply left, in 2^-32 s; zero: not known.
    departure: u32,
    /// Most of the address's hash: whoever returns the right T2 has the rest.
    tag: u32,
}

impl Chain {
    fn from_words([receive, returned, rest]: Words) -> Self {
        Self {
            receive: NtpTimestamp::from_bits(receive),
            returned: NtpTimestamp::from_bits(returned),
            departure: (rest >> 32) as u32,
            tag: rest as u32,
        }
    }

    fn to_words(self) -> Words {
        let rest = u64::from(self.departure) << 32 | u64::from(self.tag);
        [self.receive.bits(), self.returned.bits(), rest]
    }

    fn is_free(&self) -> bool {
        self.receive == NtpTimestamp::ZERO
    }

    fn is_of(&self, tag: u32) -> bool {
        self.tag == tag && !self.is_free()
    }

    /// Is `receive` the T2 of one of its two replies?
    fn names(&self, receive: NtpTimestamp) -> bool {
        self.receive == receive || self.returned == receive
    }

    /// When the reply with `receive` left, if it is the last one and that is known.
    fn left_after(&self, receive: NtpTimestamp) -> Option<NtpTimestamp> {
        let left = NtpTimestamp::from_bits(receive.bits().wrapping_add(self.departure.into()));
        (self.receive == receive && self.departure != 0).then_some(left)
    }

    fn is_proven(&self) -> bool {
        self.returned != NtpTimestamp::ZERO
    }

    /// How much there is to lose: nothing at first, then the chains that may be
    /// replaced, the oldest first. None: it stays.
    fn worth(&self, now: NtpTimestamp, kept_min_s: i64) -> Option<i64> {
        let age = now - self.receive;
        if self.is_free() {
            return Some(i64::MIN);
        }
        let interval = self.receive - self.returned;
        let kept_min = NtpDuration::from_whole_seconds(kept_min_s);
        let kept = (interval * KEPT_INTERVALS).max(kept_min);
        // An age below zero is a clock that was set back.
        let stays = self.is_proven() && age < kept && !age.is_negative();
        (!stays).then(|| -age.units())
    }
}

impl InterleaveTable {
    /// A table for `clients` clients of as many addresses, with half as many to spare.
    /// `seed` should be unguessable.
    pub fn new(clients: usize, seed: u64) -> Self {
        let sets = (clients + clients / 2).div_ceil(WAYS).max(1);
        Self {
            chains: vec![Words::default(); sets * WAYS].into_boxed_slice(),
            seed,
        }
    }

    /// A request that arrived `at`, from `address`, returned `origin` as T2 of an
    /// earlier reply, and will be replied to.
    pub fn turn(&mut self, address: IpAddr, origin: NtpTimestamp, at: WallInstant) -> Turn {
        let hash = keyed_hash(self.seed, fold(address));
        let tag = hash as u32;
        let homes = self.homes(hash);
        let receive = self.unused(&homes, tag, mark_receive(at));
        let known = self.place_of(&homes, tag, origin);
        let place = match known {
            Some(place) => Some(place),
            None => self.room(&homes, tag, receive),
        };
        let before = known.map(|place| self.chain(place));
        if let Some(place) = place {
            let chain = Chain {
                receive,
                returned: before.map_or(NtpTimestamp::ZERO, |_| origin),
                departure: 0,
                tag,
            };
            self.chains[place] = chain.to_words();
        }
        Turn {
            receive,
            previous: before.and_then(|chain| chain.left_after(origin)),
            token: place.map(|place| TxToken {
                place: place as u32,
                receive,
            }),
        }
    }

    /// The reply of `token` left at `at`, on the clock that stamped its request.
    /// Later, better stamps replace earlier ones until one is told. Forgotten
    /// replies and impossible times are ignored.
    pub fn departed(&mut self, token: TxToken, at: WallInstant) {
        let delay = mark_transmit(at) - token.receive;
        if delay.is_negative() || delay >= NtpDuration::from_whole_seconds(DEPARTURE_DELAY_S) {
            return;
        }
        let place = token.place as usize;
        let mut chain = self.chain(place);
        if chain.receive == token.receive {
            // Below a second, and never zero: T3 is not equal to T2.
            chain.departure = delay.units() as u32;
            self.chains[place] = chain.to_words();
        }
    }

    /// Forgets all stamps: the clock they were taken on was stepped.
    pub fn forget(&mut self) {
        self.chains = vec![Words::default(); self.chains.len()].into_boxed_slice();
    }

    fn chain(&self, place: usize) -> Chain {
        Chain::from_words(self.chains[place])
    }

    /// The first places of the two sets of an address.
    fn homes(&self, hash: u64) -> [usize; 2] {
        let sets = (self.chains.len() / WAYS) as u32;
        let first = |bits: u64| below(sets, bits) as usize * WAYS;
        [first(hash), first(keyed_hash(self.seed, hash))]
    }

    fn places(&self, homes: &[usize; 2]) -> impl Iterator<Item = usize> + use<> {
        let [first, second] = *homes;
        (first..first + WAYS).chain(second..second + WAYS)
    }

    /// Where the chain of this address lives that has a reply with T2 `receive`.
    fn place_of(&self, homes: &[usize; 2], tag: u32, receive: NtpTimestamp) -> Option<usize> {
        self.places(homes).find(|&place| {
            let chain = self.chain(place);
            chain.is_of(tag) && chain.names(receive)
        })
    }

    /// `receive`, or a little less if a reply to this address has that T2 already:
    /// downwards, so that it stays below T3. Ends, as chains are few.
    fn unused(&self, homes: &[usize; 2], tag: u32, mut receive: NtpTimestamp) -> NtpTimestamp {
        while self.place_of(homes, tag, receive).is_some() {
            receive = NtpTimestamp::from_bits(receive.bits().wrapping_sub(2));
        }
        receive
    }

    /// A place for a client that proved nothing yet: a free one, one that its address
    /// has left, or the one with the least to lose.
    fn room(&self, homes: &[usize; 2], tag: u32, now: NtpTimestamp) -> Option<usize> {
        let is_own = |place: &usize| self.chain(*place).is_of(tag);
        let has_enough = self.places(homes).filter(is_own).count() >= CHAINS;
        let count_free = |home: usize| {
            let set = home..home + WAYS;
            set.filter(|&place| self.chain(place).is_free()).count()
        };
        let [first, second] = *homes;
        // Of equals, the first is taken.
        let by_room = if count_free(second) > count_free(first) {
            [second, first]
        } else {
            [first, second]
        };
        let is_young = |chain: &Chain| {
            let age = now - chain.receive;
            !chain.is_proven() && age < NtpDuration::from_whole_seconds(OWN_KEPT_S)
        };
        let least = |kept_min_s, own_only: bool| {
            self.places(&by_room)
                .filter(|place| !own_only || (is_own(place) && !is_young(&self.chain(*place))))
                .filter_map(|place| Some((self.chain(place).worth(now, kept_min_s)?, place)))
                .min_by_key(|(worth, _)| *worth)
                .map(|(_, place)| place)
        };
        let free = self
            .places(&by_room)
            .find(|&place| !has_enough && self.chain(place).is_free());
        free.or_else(|| least(OWN_PROVEN_KEPT_MIN_S, true))
            .or_else(|| least(KEPT_MIN_S, has_enough))
    }
}

/// An address in one word, IPv4-mapped ones as IPv4, so that a host is one however
/// it came.
fn fold(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(v4) => u32::from(v4).into(),
        IpAddr::V6(v6) => {
            let bits = u128::from(v6);
            (bits >> 64) as u64 ^ (bits as u64).rotate_left(1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: WallInstant = WallInstant::from_unix_ns(1_800_000_000_123_456_789);

    fn ip(n: u32) -> IpAddr {
        IpAddr::V4((0x0a00_0000 + n).into())
    }

    fn after_start(ns: i64) -> WallInstant {
        WallInstant::from_unix_ns(START.unix_ns() + ns)
    }

    #[test]
    fn marks_tell_receive_from_transmit_and_keep_their_order() {
        for ns in 0..100 {
            let (receive, transmit) = (
                mark_receive(after_start(ns)),
                mark_transmit(after_start(ns)),
            );
            assert!(is_marked_receive(receive) && !is_marked_receive(transmit));
            assert!(!(transmit - receive).is_negative());
            let exact = NtpTimestamp::from_wall(after_start(ns));
            assert!((transmit - exact).units() <= 2);
            assert!((receive - exact).units() <= 1);
        }
    }

    /// An origin that is nobody's T2.
    const UNKNOWN: NtpTimestamp = NtpTimestamp::from_bits(1);
    const SECOND: i64 = 1_000_000_000;

    /// A client that polls: returns the T2 it got, and is replied to 2 us later.
    struct Client {
        address: IpAddr,
        origin: NtpTimestamp,
    }

    impl Client {
        fn new(n: u32) -> Self {
            Self {
                address: ip(n),
                origin: UNKNOWN,
            }
        }

        fn poll(&mut self, table: &mut InterleaveTable, ns: i64) -> Turn {
            let turn = table.turn(self.address, self.origin, after_start(ns));
            if let Some(token) = turn.token {
                table.departed(token, after_start(ns + 2000));
            }
            self.origin = turn.receive;
            turn
        }
    }

    #[test]
    fn a_departure_is_told_once() {
        let mut table = InterleaveTable::new(16, 1);
        let first = table.turn(ip(1), UNKNOWN, START);
        let token = first.token.expect("room");
        let pending = table.clone().turn(ip(1), first.receive, after_start(9));
        assert_eq!(pending.previous, None, "not known yet");
        table.departed(token, after_start(2000));
        table.departed(token, after_start(1500));
        let other = table.turn(ip(2), first.receive, after_start(10));
        assert_eq!(other.previous, None, "another client's");
        let second = table.turn(ip(1), first.receive, after_start(SECOND));
        let expected = Some(mark_transmit(after_start(1500)));
        assert_eq!(second.previous, expected, "the later report counts");
        table.departed(token, after_start(1600));
        let again = table.turn(ip(1), first.receive, after_start(SECOND + 50));
        assert_eq!(again.previous, None, "told already");
    }

    #[test]
    fn a_chain_survives_lost_replies() {
        let mut table = InterleaveTable::new(16, 1);
        let mut client = Client::new(1);
        client.poll(&mut table, 0);
        let got = client.poll(&mut table, SECOND);
        assert!(got.previous.is_some());
        for n in 2..5 {
            // It never sees this reply, and returns the T2 of the one before.
            let lost = client.poll(&mut table, n * SECOND);
            assert!(lost.token.is_some());
            client.origin = got.receive;
        }
        assert_eq!(client.poll(&mut table, 6 * SECOND).previous, None);
        assert!(client.poll(&mut table, 7 * SECOND).previous.is_some());
    }

    #[test]
    fn impossible_departures_are_not_believed() {
        let mut table = InterleaveTable::new(16, 1);
        for (ns, is_believed) in [(-5, false), (2 * SECOND, false), (0, true)] {
            let turn = table.turn(ip(1), UNKNOWN, START);
            table.departed(turn.token.expect("room"), after_start(ns));
            let next = table.turn(ip(1), turn.receive, after_start(3 * SECOND));
            assert_eq!(next.previous.is_some(), is_believed, "{ns}");
            table.forget();
        }
        let turn = table.turn(ip(1), UNKNOWN, START);
        table.forget();
        table.departed(turn.token.expect("room"), after_start(7));
        let next = table.turn(ip(1), turn.receive, after_start(SECOND));
        assert_eq!(next.previous, None);
    }

    #[test]
    fn clients_behind_one_address_do_not_disturb_each_other() {
        let mut table = InterleaveTable::new(16, 1);
        let mut clients: Vec<_> = (0..CHAINS).map(|_| Client::new(1)).collect();
        for round in 0..5 {
            let mut stamps = Vec::new();
            for client in &mut clients {
                // All at the same instant: equal stamps are made different.
                let turn = client.poll(&mut table, round * SECOND);
                assert!(is_marked_receive(turn.receive));
                assert_eq!(turn.previous.is_some(), round > 0);
                stamps.push(turn.receive);
            }
            stamps.sort_by_key(|stamp| stamp.bits());
            stamps.dedup();
            assert_eq!(stamps.len(), CHAINS);
        }
        // One more has to wait until one of them is gone.
        assert_eq!(Client::new(1).poll(&mut table, 6 * SECOND).token, None);
        let later = (KEPT_MIN_S + 6) * SECOND;
        assert!(Client::new(1).poll(&mut table, later).token.is_some());
    }

    #[test]
    fn too_many_behind_one_address_leave_chains_to_those_who_have_them() {
        let mut table = InterleaveTable::new(64, 1);
        let mut clients: Vec<_> = (0..3 * CHAINS).map(|_| Client::new(1)).collect();
        for round in 0..4 {
            let mut told = 0;
            for (n, client) in (0..).zip(&mut clients) {
                let turn = client.poll(&mut table, round * 64 * SECOND + n * 1000);
                told += usize::from(turn.previous.is_some());
            }
            assert_eq!(told, if round == 0 { 0 } else { CHAINS });
        }
    }

    #[test]
    fn every_client_the_table_was_made_for_is_interleaved() {
        const CLIENTS: u32 = 50_000;
        let mut table = InterleaveTable::new(CLIENTS as usize, 1);
        let mut clients: Vec<_> = (0..CLIENTS).map(Client::new).collect();
        for round in 0..3 {
            let mut told = 0;
            for (n, client) in (0..).zip(&mut clients) {
                let at = round * 64 * SECOND + n * 1000;
                told += u32::from(client.poll(&mut table, at).previous.is_some());
            }
            assert_eq!(told, if round == 0 { 0 } else { CLIENTS });
        }
        let memory = size_of_val(&*table.chains);
        assert!(
            memory <= CLIENTS as usize * CLIENT_LEN + WAYS * size_of::<Words>(),
            "{memory}"
        );
    }

    #[test]
    fn a_flood_of_strangers_pushes_out_nobody_who_is_served() {
        const CLIENTS: u32 = 3000;
        let mut table = InterleaveTable::new(CLIENTS as usize, 1);
        let mut clients: Vec<_> = (0..CLIENTS).map(Client::new).collect();
        for round in 0..2 {
            for client in &mut clients {
                client.poll(&mut table, round * 64 * SECOND);
            }
        }
        for n in 0..200_000 {
            // Some of them in the clients' own names.
            let stranger = Client::new(n % 150_000).poll(&mut table, 100 * SECOND + i64::from(n));
            assert_eq!(stranger.previous, None);
        }
        for client in &mut clients {
            assert!(client.poll(&mut table, 128 * SECOND).previous.is_some());
        }
    }

    #[test]
    fn clients_that_start_anew_take_the_places_they_had() {
        const CLIENTS: u32 = 10_000;
        let mut table = InterleaveTable::new(CLIENTS as usize, 1);
        for start in 0..4 {
            let mut clients: Vec<_> = (0..CLIENTS).map(Client::new).collect();
            for round in 0..3 {
                let mut told = 0;
                for client in &mut clients {
                    let at = (start * 100 + round * 2) * SECOND;
                    told += u32::from(client.poll(&mut table, at).previous.is_some());
                }
                assert_eq!(told, if round == 0 { 0 } else { CLIENTS }, "{start}");
            }
        }
    }

    #[test]
    fn those_who_left_make_room() {
        let mut table = InterleaveTable::new(1, 1);
        for n in 0..WAYS as u32 {
            let mut client = Client::new(n);
            client.poll(&mut table, 0);
            client.poll(&mut table, 1024 * SECOND);
        }
        let mut newcomer = Client::new(99);
        assert_eq!(newcomer.poll(&mut table, 1030 * SECOND).token, None);
        // Kept for four of their own intervals.
        assert_eq!(newcomer.poll(&mut table, 4 * 1024 * SECOND).token, None);
        assert!(newcomer.poll(&mut table, 5 * 1024 * SECOND).token.is_some());
    }
}

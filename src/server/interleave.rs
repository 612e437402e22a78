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
//! Each saved pair is good for one interleaved reply. One table per worker,
//! allocated once.

use std::net::IpAddr;

use crate::server::dice::keyed_hash;
use crate::time::duration::NtpDuration;
use crate::time::instant::{MonoInstant, WallInstant};
use crate::time::timestamp::NtpTimestamp;

/// Clients per set; their keys fill one cache line.
const WAYS: usize = 4;
/// Replies remembered per address, where several clients may live behind one.
const PAIRS: usize = 4;
/// A client that was seen to return our receive stamp, and so does not forge its
/// address, keeps its place this long: two polls of 1024 s.
const KEPT_S: i64 = 2048;
/// A reply that left later than this after its request is not worth telling of,
/// nor is one that left before: the clock was stepped in between.
const DEPARTURE_DELAY_MAX_S: i64 = 1;

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
    slot: u32,
    receive: NtpTimestamp,
}

/// Addresses with the replies they got of late.
#[derive(Clone, Debug)]
pub struct InterleaveTable {
    /// Apart from the rest: most requests only look here, and find nothing.
    keys: Box<[u128]>,
    clients: Box<[Client]>,
    seed: u64,
}

/// No unicast address has all bits set.
const NOBODY: u128 = u128::MAX;

#[derive(Clone, Copy, Debug)]
struct Client {
    last: MonoInstant,
    /// It returned one of our receive stamps.
    proven: bool,
    /// Where the next pair goes.
    next: u8,
    pairs: [Pair; PAIRS],
}

#[derive(Clone, Copy, Debug)]
struct Pair {
    receive: NtpTimestamp,
    departure: Departure,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Departure {
    /// Not known yet.
    Pending,
    /// T3, marked.
    At(NtpTimestamp),
    /// Told.
    Used,
}

impl Client {
    const NEW: Self = Self {
        last: MonoInstant::ZERO,
        proven: false,
        next: 0,
        pairs: [Pair {
            receive: NtpTimestamp::ZERO,
            departure: Departure::Used,
        }; PAIRS],
    };

    fn pair(&mut self, receive: NtpTimestamp) -> Option<&mut Pair> {
        self.pairs.iter_mut().find(|pair| pair.receive == receive)
    }

    fn is_kept(&self, now: MonoInstant) -> bool {
        self.proven && now.since(self.last) < NtpDuration::from_whole_seconds(KEPT_S)
    }
}

impl InterleaveTable {
    /// A table for about `clients` addresses (rounded up to a power of two, some
    /// 130 octets each). `seed` should be unguessable.
    pub fn new(clients: usize, seed: u64) -> Self {
        let len = clients.next_power_of_two().max(WAYS);
        Self {
            keys: vec![NOBODY; len].into_boxed_slice(),
            clients: vec![Client::NEW; len].into_boxed_slice(),
            seed,
        }
    }

    /// T2 for a request from `address`: marked, and different from every other
    /// that is remembered for the address, so that it names one reply.
    pub fn receive_stamp(&self, address: IpAddr, at: WallInstant) -> NtpTimestamp {
        let mut receive = mark_receive(at);
        if let Some(slot) = self.find(key(address)) {
            let pairs = &self.clients[slot].pairs;
            // Downwards, so that it stays below T3. Ends, as pairs are few.
            while pairs.iter().any(|pair| pair.receive == receive) {
                receive = NtpTimestamp::from_bits(receive.bits().wrapping_sub(2));
            }
        }
        receive
    }

    /// When the reply that `origin` names left; once only.
    pub fn take(&mut self, address: IpAddr, origin: NtpTimestamp) -> Option<NtpTimestamp> {
        let slot = self.find(key(address))?;
        let client = &mut self.clients[slot];
        let pair = client.pair(origin)?;
        let departure = pair.departure;
        let told = match departure {
            Departure::At(transmit) => {
                pair.departure = Departure::Used;
                Some(transmit)
            }
            Departure::Pending | Departure::Used => None,
        };
        client.proven = true;
        told
    }

    /// Remembers that a reply with `receive` as its T2 goes to `address`. None
    /// if the table is full of clients that deserve their place more.
    pub fn save(
        &mut self,
        address: IpAddr,
        receive: NtpTimestamp,
        now: MonoInstant,
    ) -> Option<TxToken> {
        let key = key(address);
        let slot = self.find(key).or_else(|| self.make_room(key, now))?;
        let client = &mut self.clients[slot];
        client.last = now;
        client.pairs[usize::from(client.next)] = Pair {
            receive,
            departure: Departure::Pending,
        };
        client.next = (client.next + 1) % PAIRS as u8;
        Some(TxToken {
            slot: slot as u32,
            receive,
        })
    }

    /// The reply of `token` left at `at`, on the clock that stamped its request.
    /// Later, better stamps replace earlier ones until one is told. Forgotten
    /// replies and impossible times are ignored.
    pub fn departed(&mut self, token: TxToken, at: WallInstant) {
        let transmit = mark_transmit(at);
        let delay = transmit - token.receive;
        if delay.is_negative() || delay > NtpDuration::from_whole_seconds(DEPARTURE_DELAY_MAX_S) {
            return;
        }
        if let Some(pair) = self
            .clients
            .get_mut(token.slot as usize)
            .and_then(|client| client.pair(token.receive))
            && pair.departure != Departure::Used
        {
            pair.departure = Departure::At(transmit);
        }
    }

    /// Forgets all stamps: the clock they were taken on was stepped.
    pub fn forget(&mut self) {
        self.keys.fill(NOBODY);
        self.clients.fill(Client::NEW);
    }

    fn set(&self, key: u128) -> usize {
        let sets = self.keys.len() / WAYS;
        let folded = (key >> 64) as u64 ^ (key as u64).rotate_left(1);
        (keyed_hash(self.seed, folded) as usize & (sets - 1)) * WAYS
    }

    fn find(&self, key: u128) -> Option<usize> {
        let set = self.set(key);
        let way = self.keys[set..set + WAYS].iter().position(|k| *k == key)?;
        Some(set + way)
    }

    fn make_room(&mut self, key: u128, now: MonoInstant) -> Option<usize> {
        let set = self.set(key);
        let slot = (set..set + WAYS).min_by_key(|&slot| {
            let client = &self.clients[slot];
            let taken = self.keys[slot] != NOBODY;
            (taken, client.is_kept(now), client.last)
        })?;
        if self.keys[slot] != NOBODY && self.clients[slot].is_kept(now) {
            return None;
        }
        self.keys[slot] = key;
        self.clients[slot] = Client::NEW;
        Some(slot)
    }
}

/// IPv4 as IPv4-mapped IPv6, so that a host is one however it came.
fn key(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().into(),
        IpAddr::V6(v6) => v6.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: WallInstant = WallInstant::from_unix_ns(1_800_000_000_123_456_789);

    fn ip(n: u32) -> IpAddr {
        IpAddr::V4((0x0a00_0000 + n).into())
    }

    fn mono(seconds: i64) -> MonoInstant {
        MonoInstant::ZERO + NtpDuration::from_whole_seconds(seconds)
    }

    fn after(ns: i64) -> WallInstant {
        WallInstant::from_unix_ns(START.unix_ns() + ns)
    }

    #[test]
    fn marks_tell_receive_from_transmit_and_keep_their_order() {
        for ns in 0..100 {
            let (receive, transmit) = (mark_receive(after(ns)), mark_transmit(after(ns)));
            assert!(is_marked_receive(receive) && !is_marked_receive(transmit));
            assert!(!(transmit - receive).is_negative());
            let exact = NtpTimestamp::from_wall(after(ns));
            assert!((transmit - exact).units() <= 2);
            assert!((receive - exact).units() <= 1);
        }
    }

    #[test]
    fn a_departure_is_told_once() {
        let mut table = InterleaveTable::new(16, 1);
        let receive = table.receive_stamp(ip(1), START);
        let token = table.save(ip(1), receive, mono(0)).expect("room");
        assert_eq!(table.take(ip(1), receive), None, "still pending");
        table.departed(token, after(2000));
        table.departed(token, after(1500));
        assert_eq!(table.take(ip(2), receive), None, "another client's");
        assert_eq!(
            table.take(ip(1), receive),
            Some(mark_transmit(after(1500))),
            "the later report counts"
        );
        table.departed(token, after(1600));
        assert_eq!(table.take(ip(1), receive), None, "told already");
    }

    #[test]
    fn impossible_departures_are_not_believed() {
        let mut table = InterleaveTable::new(16, 1);
        let receive = table.receive_stamp(ip(1), START);
        let token = table.save(ip(1), receive, mono(0)).expect("room");
        table.departed(token, after(-5));
        table.departed(token, after(2_000_000_000));
        assert_eq!(table.take(ip(1), receive), None);
        table.departed(token, START);
        assert_eq!(table.take(ip(1), receive), Some(mark_transmit(START)));
        table.forget();
        table.departed(token, after(7));
        assert_eq!(table.take(ip(1), receive), None);
    }

    #[test]
    fn equal_stamps_of_one_address_are_made_different() {
        let mut table = InterleaveTable::new(16, 1);
        let stamps: Vec<_> = (0..PAIRS)
            .map(|n| {
                let receive = table.receive_stamp(ip(1), START);
                let token = table.save(ip(1), receive, mono(0)).expect("room");
                table.departed(token, after(100 + n as i64));
                receive
            })
            .collect();
        for (n, receive) in stamps.into_iter().enumerate() {
            assert!(is_marked_receive(receive));
            let departure = mark_transmit(after(100 + n as i64));
            assert_eq!(table.take(ip(1), receive), Some(departure));
        }
    }

    #[test]
    fn clients_behind_one_address_do_not_disturb_each_other() {
        let mut table = InterleaveTable::new(16, 1);
        let mut expected = Vec::new();
        for n in 0..PAIRS as i64 {
            let receive = table.receive_stamp(ip(1), after(n));
            let token = table.save(ip(1), receive, mono(0)).expect("room");
            table.departed(token, after(n + 50));
            expected.push((receive, mark_transmit(after(n + 50))));
        }
        for (receive, transmit) in expected {
            assert_eq!(table.take(ip(1), receive), Some(transmit));
        }
    }

    #[test]
    fn strangers_do_not_push_out_proven_clients() {
        let mut table = InterleaveTable::new(WAYS, 1);
        let proven = ip(1);
        let receive = table.receive_stamp(proven, START);
        let token = table.save(proven, receive, mono(0)).expect("room");
        table.departed(token, after(10));
        assert!(table.take(proven, receive).is_some());
        let receive = table.receive_stamp(proven, after(1000));
        let token = table.save(proven, receive, mono(1)).expect("room");
        table.departed(token, after(1010));
        for n in 2..1000 {
            let receive = table.receive_stamp(ip(n), after(2000));
            assert!(table.save(ip(n), receive, mono(2)).is_some());
        }
        assert!(table.take(proven, receive).is_some());
    }

    #[test]
    fn a_full_table_of_proven_clients_turns_newcomers_away_until_they_leave() {
        let mut table = InterleaveTable::new(WAYS, 1);
        for n in 0..WAYS as u32 {
            let receive = table.receive_stamp(ip(n), START);
            let _ = table.save(ip(n), receive, mono(0));
            let _ = table.take(ip(n), receive);
        }
        let receive = table.receive_stamp(ip(99), START);
        assert_eq!(table.save(ip(99), receive, mono(5)), None);
        assert!(table.save(ip(99), receive, mono(KEPT_S)).is_some());
    }
}

//! Who asked lately: ntpd's list of most recently used clients, for `ntpq -c
//! mrulist`. Each worker writes a table of its own, of fixed size; anybody reads it
//! while the worker goes on.
//!
//! Four places belong to each hash; a new client takes that of whoever of the four
//! has been silent longest. Each place has a sequence of its own, odd while it is
//! being written (Boehm, "Can seqlocks get along with programming language memory
//! models?", MSPC 2012), so a reader that overlaps the writer passes it over.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering, fence};

use crate::dice::keyed_hash;
use crate::server::verdict::{Reason, ReplyKind, Verdict};
use crate::time::instant::WallInstant;

/// Places of one hash.
const WAYS: usize = 4;
/// Times that a place is read again because its worker was writing it.
const READS_MAX: usize = 8;

/// Octets of memory for a client.
pub const RECENT_LEN: usize = size_of::<Place>();

/// Limits that were held against a client, by ntpd's bits.
pub const LIMITED: u16 = 0x20;
/// It was told so.
pub const KOD: u16 = 0x400;

/// A client as it is remembered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecentClient {
    /// Its address, and the port that it used last.
    pub address: SocketAddr,
    /// When its first packet came, on the clock we serve.
    pub first: WallInstant,
    /// When its last packet came.
    pub last: WallInstant,
    /// Packets.
    pub count: u64,
    /// Packets dropped for coming too often.
    pub dropped: u64,
    /// Mode of the last packet, 0 to 7.
    pub mode: u8,
    /// Version of the last packet, 0 to 7.
    pub version: u8,
    /// [`LIMITED`] and [`KOD`], of the last packet.
    pub restricted: u16,
}

/// One cache line.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Place {
    sequence: AtomicU64,
    address: [AtomicU64; 2],
    /// Port, first octet of the packet, restrictions.
    packet: AtomicU64,
    first_ns: AtomicU64,
    /// 0: nobody.
    last_ns: AtomicU64,
    count: AtomicU64,
    dropped: AtomicU64,
}

/// The clients of one worker.
#[derive(Debug)]
pub struct RecentTable {
    places: Box<[Place]>,
    seed: u64,
}

impl RecentTable {
    /// For `clients` or a few more; `seed` should be unguessable.
    pub fn new(clients: usize, seed: u64) -> Self {
        let count = clients.next_power_of_two().max(WAYS);
        Self {
            places: (0..count).map(|_| Place::default()).collect(),
            seed,
        }
    }

    /// How many it holds at most.
    pub fn capacity(&self) -> usize {
        self.places.len()
    }

    /// A packet was judged. Only one thread may tell.
    pub fn note(&self, from: SocketAddr, first_octet: u8, at: WallInstant, verdict: &Verdict) {
        let (restricted, dropped) = match verdict {
            // Of those the operator wants to know nothing, or they could be anybody.
            Verdict::Drop(Reason::Group | Reason::BadSource | Reason::Ignore) => return,
            Verdict::Drop(Reason::Limited) => (LIMITED, 1),
            Verdict::Reply {
                kind: ReplyKind::Kiss,
                ..
            } => (LIMITED | KOD, 1),
            _ => (0, 0),
        };
        let address = words(from.ip());
        let place = self.place(address);
        let packet =
            u64::from(from.port()) << 32 | u64::from(first_octet) << 16 | u64::from(restricted);
        let at_ns = at.unix_ns() as u64;
        let relaxed = Ordering::Relaxed;
        let known = place.is(address);
        let sequence = place.sequence.load(relaxed);
        place.sequence.store(sequence + 1, relaxed);
        // Whoever reads one of the new words also reads an odd or newer sequence.
        fence(Ordering::Release);
        if known {
            let count = place.count.load(relaxed);
            place.count.store(count + 1, relaxed);
            let before = place.dropped.load(relaxed);
            place.dropped.store(before + dropped, relaxed);
        } else {
            place.address[0].store(address[0], relaxed);
            place.address[1].store(address[1], relaxed);
            place.first_ns.store(at_ns, relaxed);
            place.count.store(1, relaxed);
            place.dropped.store(dropped, relaxed);
        }
        place.packet.store(packet, relaxed);
        place.last_ns.store(at_ns.max(1), relaxed);
        place.sequence.store(sequence + 2, Ordering::Release);
    }

    /// Everybody who is remembered, in no order.
    pub fn clients(&self) -> impl Iterator<Item = RecentClient> {
        self.places.iter().filter_map(Place::read)
    }

    /// Where this address is, or may go.
    fn place(&self, address: [u64; 2]) -> &Place {
        let hash = keyed_hash(self.seed, address[0] ^ address[1].rotate_left(1));
        let sets = self.places.len() / WAYS;
        let set = hash as usize & (sets - 1);
        let ways = &self.places[set * WAYS..][..WAYS];
        ways.iter()
            .find(|place| place.is(address))
            .unwrap_or_else(|| {
                let silent = |place: &&Place| place.last_ns.load(Ordering::Relaxed);
                ways.iter().min_by_key(silent).expect("there are some")
            })
    }
}

impl Place {
    fn is(&self, address: [u64; 2]) -> bool {
        let relaxed = Ordering::Relaxed;
        self.address[1].load(relaxed) == address[1]
            && self.address[0].load(relaxed) == address[0]
            && self.last_ns.load(relaxed) != 0
    }

    fn read(&self) -> Option<RecentClient> {
        let relaxed = Ordering::Relaxed;
        for _ in 0..READS_MAX {
            let before = self.sequence.load(Ordering::Acquire);
            let address = [self.address[0].load(relaxed), self.address[1].load(relaxed)];
            let packet = self.packet.load(relaxed);
            let [first_ns, last_ns, count, dropped] =
                [&self.first_ns, &self.last_ns, &self.count, &self.dropped]
                    .map(|word| word.load(relaxed));
            fence(Ordering::Acquire);
            if before & 1 == 1 || self.sequence.load(relaxed) != before {
                std::hint::spin_loop();
                continue;
            }
            if last_ns == 0 {
                return None;
            }
            let octet = (packet >> 16) as u8;
            return Some(RecentClient {
                address: SocketAddr::new(ip(address), (packet >> 32) as u16),
                first: WallInstant::from_unix_ns(first_ns as i64),
                last: WallInstant::from_unix_ns(last_ns as i64),
                count,
                dropped,
                mode: octet & 7,
                version: octet >> 3 & 7,
                restricted: packet as u16,
            });
        }
        None
    }
}

fn words(ip: IpAddr) -> [u64; 2] {
    let bits = match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    };
    [(bits >> 64) as u64, bits as u64]
}

fn ip(words: [u64; 2]) -> IpAddr {
    let bits = u128::from(words[0]) << 64 | u128::from(words[1]);
    IpAddr::V6(Ipv6Addr::from_bits(bits)).to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    const BASIC: Verdict = Verdict::Reply {
        len: 48,
        kind: ReplyKind::Basic,
        track: None,
    };

    fn at(second: i64) -> WallInstant {
        WallInstant::from_unix_ns(second * 1_000_000_000)
    }

    fn from(n: u32) -> SocketAddr {
        SocketAddr::new(IpAddr::V4((0x0a00_0000 + n).into()), 1000 + n as u16)
    }

    #[test]
    fn packets_of_one_address_are_counted_together() {
        let table = RecentTable::new(16, 1);
        let v6: SocketAddr = "[2001:db8::1]:123".parse().unwrap();
        table.note(v6, 0x23, at(5), &BASIC);
        table.note("[2001:db8::1]:124".parse().unwrap(), 0x1b, at(7), &BASIC);
        table.note(v6, 0x23, at(8), &Verdict::Drop(Reason::Limited));
        table.note(from(1), 0x16, at(9), &Verdict::Drop(Reason::Control));
        table.note(from(2), 0x23, at(9), &Verdict::Drop(Reason::Ignore));
        let mut clients: Vec<_> = table.clients().collect();
        clients.sort_by_key(|client| client.last);
        assert_eq!(clients.len(), 2);
        assert_eq!(
            clients[0],
            RecentClient {
                address: v6,
                first: at(5),
                last: at(8),
                count: 3,
                dropped: 1,
                mode: 3,
                version: 4,
                restricted: LIMITED,
            }
        );
        assert_eq!((clients[1].address, clients[1].mode), (from(1), 6));
    }

    #[test]
    fn the_longest_silent_give_way() {
        let table = RecentTable::new(64, 3);
        for n in 0..10_000 {
            table.note(from(n), 0x23, at(i64::from(n) + 1), &BASIC);
        }
        let clients: Vec<_> = table.clients().collect();
        assert!(clients.len() > 48 && clients.len() <= table.capacity());
        assert!(clients.iter().all(|client| client.last > at(9_500)));
        assert!(clients.iter().any(|client| client.address == from(9_999)));
    }

    #[test]
    fn a_reader_never_sees_two_clients_in_one() {
        let table = RecentTable::new(4, 5);
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for n in (0..200_000).map(|n| n % 50) {
                    table.note(from(n), n as u8, at(i64::from(n) + 1), &BASIC);
                }
                done.store(true, Ordering::Release);
            });
            while !done.load(Ordering::Acquire) {
                for client in table.clients() {
                    let IpAddr::V4(v4) = client.address.ip() else {
                        panic!("{client:?}")
                    };
                    let n = v4.to_bits() - 0x0a00_0000;
                    assert_eq!(client.address, from(n));
                    assert_eq!(client.last, at(i64::from(n) + 1), "{client:?}");
                }
            }
        });
    }
}

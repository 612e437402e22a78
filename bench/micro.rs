//! What the parts of a request's way cost, each by itself: `cargo bench --bench micro`.
//!
//! The access table stands beside a well-known crate's. Ten thousand clients
//! ask in turn, so that what the caches miss is in the figure, and so is whose turn
//! it is: `draw` is what to take off.

use std::collections::BTreeSet;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use divan::Bencher;
use divan::counter::BytesCount;
use ip_network_table::IpNetworkTable;

use ptntp::dice::Dice;
use ptntp::server::access::AccessTable;
use ptntp::server::interleave::InterleaveTable;
use ptntp::server::rate::RateTable;
use ptntp::server::recent::RecentTable;
use ptntp::server::respond::{Policy, Request, Responder, Sizes, complete};
use ptntp::server::rule::{Flags, Prefix, RateLimit, Rule, Who};
use ptntp::server::verdict::Verdict;
use ptntp::system::SystemState;
use ptntp::time::duration::NtpDuration;
use ptntp::time::instant::{MonoInstant, WallInstant};
use ptntp::time::timestamp::NtpTimestamp;
use ptntp::time::units::Precision;
use ptntp::wire::key::{Key, KeyKind, KeyTable, MAC_LEN_MAX};
use ptntp::wire::packet::{HEADER_LEN, PACKET_LEN_MAX, Packet};
use ptntp::xdp::tables::Rows;

/// Who asks in turn.
const CLIENTS: usize = 10_000;
/// Long enough to have the caches as they are in service.
const SAMPLE: u32 = 200_000;
const PREFIXES: [usize; 4] = [10, 1000, 100_000, 1_000_000];
const START: WallInstant = WallInstant::from_unix_ns(1_800_000_000_123_456_789);

fn main() {
    divan::main();
}

/// /24s and /48s as routing tables have them: all over, and crowded in places.
fn prefixes(count: usize, v6: bool) -> Vec<Prefix> {
    let mut dice = Dice::new(7);
    (0..count)
        .map(|_| {
            let bits = dice.roll();
            let (address, len) = if v6 {
                // 64 registries' /16 or so, and 2^32 sites in them.
                let high = 0x2000_0000 | (bits as u32 & 0x3f) << 20 | (bits >> 40) as u32 & 0xfffff;
                let address = u128::from(high) << 96 | u128::from(bits as u16) << 80;
                (IpAddr::V6(address.into()), 48)
            } else {
                (IpAddr::V4((bits as u32 & !0xff).into()), 24)
            };
            Prefix::new(address, len).expect("short enough")
        })
        .collect()
}

fn rules(count: usize, v6: bool) -> Vec<Rule> {
    prefixes(count, v6)
        .into_iter()
        .enumerate()
        .map(|(n, prefix)| {
            let who = Who::Block {
                prefix,
                ntpport: false,
            };
            // Neighbours differ, or they would be one range.
            Rule::Restrict(who, Flags::from_bits(1 << (n % 3 + 3)))
        })
        .collect()
}

/// As many clients; half of them lie within a prefix.
fn addresses(v6: bool) -> Vec<IpAddr> {
    let mut dice = Dice::new(9);
    let known = prefixes(1_000_000, v6);
    let mut address = |n: usize| {
        let bits = dice.roll();
        let inside = known[dice.roll() as usize % known.len()].address();
        match inside {
            IpAddr::V4(v4) if n.is_multiple_of(2) => {
                IpAddr::V4((u32::from(v4) | bits as u32 & 0xff).into())
            }
            IpAddr::V4(_) => IpAddr::V4((bits as u32).into()),
            IpAddr::V6(v6) if n.is_multiple_of(2) => {
                IpAddr::V6((u128::from(v6) | u128::from(bits)).into())
            }
            IpAddr::V6(_) => IpAddr::V6((u128::from(bits >> 3) << 64 | 1 << 125).into()),
        }
    };
    (0..CLIENTS).map(&mut address).collect()
}

/// Goes round `all`, a different one for each call.
struct Round<'a, T> {
    all: &'a [T],
    next: usize,
}

impl<'a, T: Copy> Round<'a, T> {
    fn new(all: &'a [T]) -> Self {
        Self { all, next: 0 }
    }

    fn draw(&mut self) -> T {
        self.next = (self.next + 1) % self.all.len();
        self.all[self.next]
    }
}

mod access {
    use super::*;

    #[divan::bench(args = [false, true], sample_size = SAMPLE, sample_count = 10)]
    fn draw(bencher: Bencher, v6: bool) {
        let addresses = addresses(v6);
        let mut round = Round::new(&addresses);
        bencher.bench_local(|| black_box(round.draw()));
    }

    fn ours(bencher: Bencher, count: usize, v6: bool) {
        let table = AccessTable::compile(&rules(count, v6), &[]);
        let addresses = addresses(v6);
        let mut round = Round::new(&addresses);
        bencher.bench_local(|| table.lookup(black_box(round.draw()), 40_000));
    }

    fn theirs(bencher: Bencher, count: usize, v6: bool) {
        let mut table = IpNetworkTable::new();
        for prefix in prefixes(count, v6) {
            let network = ip_network::IpNetwork::new(prefix.address(), prefix.bits());
            table.insert(network.expect("no host bits"), count);
        }
        let addresses = addresses(v6);
        let mut round = Round::new(&addresses);
        bencher.bench_local(|| {
            let found = table.longest_match(black_box(round.draw()));
            found.map(|(_, value)| *value)
        });
    }

    #[divan::bench(args = PREFIXES, sample_size = SAMPLE, sample_count = 10)]
    fn ptntp_v4(bencher: Bencher, count: usize) {
        ours(bencher, count, false);
    }

    #[divan::bench(args = PREFIXES, sample_size = SAMPLE, sample_count = 10)]
    fn ptntp_v6(bencher: Bencher, count: usize) {
        ours(bencher, count, true);
    }

    #[divan::bench(args = PREFIXES, sample_size = SAMPLE, sample_count = 10)]
    fn ip_network_table_v4(bencher: Bencher, count: usize) {
        theirs(bencher, count, false);
    }

    #[divan::bench(args = PREFIXES, sample_size = SAMPLE, sample_count = 10)]
    fn ip_network_table_v6(bencher: Bencher, count: usize) {
        theirs(bencher, count, true);
    }

    #[divan::bench(args = [1_000_000], sample_count = 5, sample_size = 1)]
    fn compile_v6(bencher: Bencher, count: usize) {
        let rules = rules(count, true);
        bencher.bench_local(|| AccessTable::compile(black_box(&rules), &[]));
    }
}

/// The access table as the BPF program reads it.
mod xdp {
    use super::*;

    /// As [`rules`](super::rules), with flags that matter to a request; `hosts`: for one
    /// address in each prefix.
    fn access(name: &str) -> AccessTable {
        let (_, v6, hosts) = KINDS.into_iter().find(|kind| kind.0 == name).expect("one");
        let mut dice = Dice::new(11);
        let flags = [Flags::LIMITED, Flags::NOSERVE, Flags::VERSION];
        let rules: Vec<Rule> = prefixes(1_000_000, v6)
            .into_iter()
            .enumerate()
            .map(|(n, prefix)| {
                let host = match prefix.address() {
                    IpAddr::V4(v4) => {
                        Ipv4Addr::from(u32::from(v4) | dice.roll() as u32 & 0xff).into()
                    }
                    IpAddr::V6(v6) => {
                        Ipv6Addr::from(u128::from(v6) | u128::from(dice.roll())).into()
                    }
                };
                let prefix = if hosts { Prefix::host(host) } else { prefix };
                let ntpport = false;
                Rule::Restrict(Who::Block { prefix, ntpport }, flags[n % 3])
            })
            .collect();
        AccessTable::compile(&rules, &[])
    }

    /// Not a million IPv6 hosts: rows can't be shared by numbers that are all random.
    const KINDS: [(&str, bool, bool); 3] = [
        ("v4 /24", false, false),
        ("v4 /32", false, true),
        ("v6 /48", true, false),
    ];

    /// From a million prefixes to rows.
    #[divan::bench(args = KINDS.map(|(name, ..)| name), sample_count = 5, sample_size = 1)]
    fn encode(bencher: Bencher, name: &str) {
        let access = access(name);
        bencher.bench_local(|| Rows::new(black_box(&access), &BTreeSet::new()));
    }

    /// And into the map.
    #[divan::bench(args = KINDS.map(|(name, ..)| name), sample_count = 5, sample_size = 1)]
    fn write(bencher: Bencher, name: &str) {
        let encoded = Rows::new(&access(name), &BTreeSet::new());
        let mut rows = vec![[0; 256]; encoded.count() as usize];
        bencher
            .counter(BytesCount::of_slice(&rows))
            .bench_local(|| encoded.write(&mut rows));
    }
}

/// A client's request: version 4, mode 3, poll 6.
fn request() -> [u8; HEADER_LEN] {
    let mut bytes = [0; HEADER_LEN];
    bytes[..4].copy_from_slice(&[0x23, 0, 6, 32]);
    bytes[40..].copy_from_slice(&0x0123_4567_89ab_cdef_u64.to_be_bytes());
    bytes
}

#[divan::bench(sample_size = SAMPLE, sample_count = 10)]
fn parse(bencher: Bencher) {
    let bytes = request();
    bencher.bench_local(|| {
        let packet = Packet::new(black_box(&bytes)).expect("a header");
        (packet.version(), packet.mode(), packet.transmit())
    });
}

/// From bytes to bytes, without a rule, with a million, with rate limits, and with
/// ntpq's list of clients.
#[divan::bench(args = ["open", "million", "limited", "remembered"], sample_size = SAMPLE, sample_count = 10)]
fn respond(bencher: Bencher, which: &str) {
    let everyone = Who::Block {
        prefix: Prefix::ALL_V4,
        ntpport: false,
    };
    let policy = Policy {
        access: match which {
            "million" => AccessTable::compile(&rules(1_000_000, false), &[]),
            "limited" => AccessTable::compile(&[Rule::Restrict(everyone, Flags::LIMITED)], &[]),
            _ => AccessTable::default(),
        },
        rate_limit: RateLimit::default(),
        ..Policy::default()
    };
    let state = SystemState::unsynchronised(Precision::new(-23));
    let mut responder = Responder::new(1, Sizes::default());
    if which == "remembered" {
        responder.remember(Arc::new(RecentTable::new(4096, 1)));
    }
    let bytes = request();
    let addresses = addresses(false);
    let mut round = Round::new(&addresses);
    let mut out = [0; PACKET_LEN_MAX];
    let mut now = MonoInstant::ZERO;
    bencher.bench_local(|| {
        now = now + NtpDuration::from_units(1 << 15);
        let request = Request {
            bytes: black_box(&bytes),
            from: SocketAddr::new(round.draw(), 40_000),
            group: false,
            received: START,
        };
        responder.respond(&policy, &state, &request, now, &mut out)
    });
}

/// From bytes to bytes for who signs: his MAC is verified, and the reply gets one.
#[divan::bench(args = KeyKind::ALL.map(KeyKind::name), sample_size = SAMPLE, sample_count = 10)]
fn respond_signed(bencher: Bencher, kind: &str) {
    let kind = KeyKind::from_name(kind).expect("its name");
    let secret = [7; 32];
    let key = Key::new(5, kind, &secret[..kind.secret_len().unwrap_or(20)]).expect("a key");
    let mut bytes = [0; HEADER_LEN + MAC_LEN_MAX];
    bytes[..HEADER_LEN].copy_from_slice(&request());
    let (header, mac) = bytes.split_first_chunk_mut::<HEADER_LEN>().expect("longer");
    let len = HEADER_LEN + key.sign(header, mac.try_into().expect("just as long"));
    let policy = Policy {
        keys: Arc::new(KeyTable::new(vec![key])),
        ..Policy::default()
    };
    let state = SystemState::unsynchronised(Precision::new(-23));
    let mut responder = Responder::new(1, Sizes::default());
    let addresses = addresses(false);
    let mut round = Round::new(&addresses);
    let mut out = [0; PACKET_LEN_MAX];
    bencher.bench_local(|| {
        let request = Request {
            bytes: black_box(&bytes[..len]),
            from: SocketAddr::new(round.draw(), 40_000),
            group: false,
            received: START,
        };
        let verdict = responder.respond(&policy, &state, &request, MonoInstant::ZERO, &mut out);
        let Verdict::Reply { len, .. } = verdict else {
            panic!("{verdict:?}");
        };
        complete(&policy.keys, &mut out[..len], START);
        out[len - 1]
    });
}

/// 100,000 requests a second.
#[divan::bench(sample_size = SAMPLE, sample_count = 10)]
fn rate_limit(bencher: Bencher) {
    let mut table = RateTable::new(Sizes::default().limited, 1);
    let addresses = addresses(false);
    let mut round = Round::new(&addresses);
    let mut now = MonoInstant::ZERO;
    bencher.bench_local(|| {
        now = now + NtpDuration::from_nanos(10_000);
        table.judge(round.draw(), now, RateLimit::default())
    });
}

#[divan::bench(sample_size = SAMPLE, sample_count = 10)]
fn interleave(bencher: Bencher) {
    let mut table = InterleaveTable::new(Sizes::default().interleaved, 1);
    let addresses = addresses(false);
    let mut origins: Vec<_> = addresses
        .iter()
        .map(|&address| table.turn(address, NtpTimestamp::ZERO, START).receive)
        .collect();
    let (mut at, mut next) = (START, 0);
    bencher.bench_local(|| {
        next = (next + 1) % addresses.len();
        at = at + NtpDuration::from_nanos(10_000);
        let turn = table.turn(addresses[next], origins[next], at);
        origins[next] = turn.receive;
        if let Some(token) = turn.token {
            table.departed(token, at + NtpDuration::from_nanos(2_000));
        }
        turn.previous
    });
}

#[divan::bench(sample_size = SAMPLE, sample_count = 10)]
fn histogram(bencher: Bencher) {
    let mut latencies =
        hdrhistogram::Histogram::<u64>::new_with_bounds(1, 10_000_000_000, 3).expect("bounds");
    let mut dice = Dice::new(3);
    bencher.bench_local(|| latencies.record(black_box(dice.roll() & 0xf_ffff)));
}

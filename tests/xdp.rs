//! The tier in front of the sockets judges and answers as the sockets' own code does:
//! the same packets go to both, in BPF_PROG_TEST_RUN and as frames over a veth, and
//! verdicts, replies and counts are compared. And it is a good guest: it is gone with its
//! process, holds its tongue when nobody renews what it knows, and leaves a stranger's
//! program alone.

mod common;

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::frame::{self, Checksum, Datagram, SERVER_MAC, Seen};
use common::net::{Namespace, Star};
use common::{Random, TempDir, secs, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, socket};
use nix::unistd::Pid;
use ptntp::daemon::xdp::program::{Answerer, Sizes};
use ptntp::linux::clock::realtime;
use ptntp::linux::frames::xdp::TransmitRing;
use ptntp::linux::timex::Timex;
use ptntp::linux::xdp::object::Object;
use ptntp::linux::xdp::{Action, Attached, Link, Mode, PASS, Program, attached};
use ptntp::server::access::AccessTable;
use ptntp::server::respond::{Policy, Request, Responder};
use ptntp::server::rule::{Bucket, Flags, Headway, Prefix, RateLimit, Rule, Who};
use ptntp::server::verdict::Verdict;
use ptntp::system::SystemState;
use ptntp::time::duration::NtpDuration;
use ptntp::time::instant::{MonoInstant, WallInstant};
use ptntp::time::map::ClockMap;
use ptntp::time::timestamp::NtpTimestamp;
use ptntp::time::units::{Ppm, Precision};
use ptntp::wire::packet::{HEADER_LEN, Leap, PACKET_LEN_MAX};
use ptntp::wire::refid::RefId;
use ptntp::xdp::layout::{OBJECT, Own, PASSED, Word, Words};
use ptntp::xdp::state::{Clocks, Entry, Envelope, LeapSecond, VALID_NS};
use ptntp::xdp::tables::Rows;

/// What Debian 12 calls clang.
const CLANG: &str = "14.0.6";
/// The flags that the source names for itself.
const CLANG_FLAGS: [&str; 6] = ["-O2", "-g0", "-target", "bpf", "-mcpu=v3", "-c"];

const SIZES: Sizes = Sizes {
    rows: 8192,
    own: 16,
    clients: 1 << 16,
};
const ENVELOPE: Envelope = Envelope {
    ttl: 61,
    hop_limit: 62,
    tos: 0,
};
/// Rate limits count in these.
const TICK_NS: i64 = 15_625_000;

/// Loads the program, or says why this machine can't.
fn load() -> Result<Answerer, String> {
    common::require::root()?;
    Answerer::load(SIZES).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied if !error.to_string().contains("refuses") => {
            "may not load BPF programs".into()
        }
        _ => panic!("{error}"),
    })
}

/// Returns from the test, saying why, unless the program can be loaded.
macro_rules! load {
    () => {
        match load() {
            Ok(answerer) => answerer,
            Err(why) => return common::require::skip(&why),
        }
    };
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

#[test]
fn the_object_is_what_clang_makes_of_the_source() {
    let version = Command::new("clang").arg("--version").output();
    let version = match &version {
        Ok(output) => String::from_utf8_lossy(&output.stdout),
        Err(_) => return common::require::skip("needs clang (run tests/setup as root)"),
    };
    let first = version.lines().next().unwrap_or_default();
    if !first.contains(CLANG) {
        return common::require::skip(&format!("needs clang {CLANG}, and here is: {first}"));
    }
    let directory = TempDir::new();
    let made = directory.path().join("answer.bpf.o");
    let status = Command::new("clang")
        .args(CLANG_FLAGS)
        .arg("answer.bpf.c")
        .arg("-o")
        .arg(&made)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/xdp"))
        .status()
        .expect("run clang");
    assert!(status.success());
    let made = std::fs::read(made).expect("an object");
    let same = Object::parse(&made).expect("ours") == Object::parse(OBJECT).expect("ours");
    assert!(
        same,
        "src/xdp/answer.bpf.o is not what clang makes of its source"
    );
}

/// A client's address, in one of 16 networks of each family.
fn source(v6: bool, network: usize, host: usize) -> IpAddr {
    let network = u16::try_from(network).expect("few");
    let host = u16::try_from(host).expect("few");
    if v6 {
        // The hosts of two subscribers.
        IpAddr::from([0x2001, 0xdb8, network, host & 1, 0, 0, 0, host + 2])
    } else {
        let [a, b] = host.to_be_bytes();
        IpAddr::from([10, u8::try_from(network).expect("few") + 100, a, b + 2])
    }
}

const NETWORKS: usize = 16;
const HOSTS: usize = 2;

/// The interface that BPF_PROG_TEST_RUN says a frame came by.
const LOOPBACK: u32 = 1;

/// What a frame came to.
struct Outcome {
    action: Action,
    /// As it came back, if it did.
    frame: Option<Vec<u8>>,
    /// Which counts moved.
    counted: Vec<usize>,
    /// T2 of a request that came next, if there was one.
    next: Option<NtpTimestamp>,
}

/// Where frames meet the program.
trait Path {
    fn send(&mut self, answerer: &Answerer, frame: &[u8]) -> Outcome;
}

fn moved(before: &[u64], after: &[u64]) -> Vec<usize> {
    let pairs = before.iter().zip(after).enumerate();
    pairs
        .flat_map(|(index, (before, after))| {
            std::iter::repeat_n(index, usize::try_from(after - before).expect("few"))
        })
        .collect()
}

/// BPF_PROG_TEST_RUN.
struct TestRun;

impl Path for TestRun {
    fn send(&mut self, answerer: &Answerer, frame: &[u8]) -> Outcome {
        let before = answerer.counts.sums().expect("counts");
        let run = answerer.program.test_run(frame, 1).expect("a run");
        if run.action == Action::Pass {
            assert_eq!(run.frame, frame, "passed, and touched");
        }
        Outcome {
            action: run.action,
            frame: (run.action == Action::Transmit).then_some(run.frame),
            counted: moved(&before, &answerer.counts.sums().expect("counts")),
            next: None,
        }
    }
}

/// Both tiers, and the world they live in.
struct Tiers {
    answerer: Answerer,
    worker: Responder,
    policy: Policy,
    /// Without `flake`: the worker is asked when the program's dice let a packet in.
    worker_policy: Policy,
    state: SystemState,
    map: ClockMap,
    mono: i64,
    table: usize,
    /// Comparisons that came to nothing.
    late: usize,
    served: Vec<(IpAddr, u16, u16)>,
}

impl Tiers {
    /// Frames come by this interface.
    fn new(answerer: Answerer, interface: u32) -> Self {
        let served = served();
        for (address, port, vlan) in served.iter().copied() {
            let own = Own {
                address,
                port,
                interface,
                vlan,
            };
            answerer.own.insert(&own, SERVER_MAC).expect("room");
        }
        let mut tiers = Self {
            answerer,
            worker: new_worker(),
            policy: Policy::default(),
            worker_policy: Policy::default(),
            state: SystemState::unsynchronised(Precision::new(-20)),
            map: ClockMap::IDENTITY,
            mono: TICK_NS / 2,
            table: 0,
            late: 0,
            served,
        };
        tiers.set_policy(&[], RateLimit::default());
        tiers
    }

    fn entry(&self) -> Entry {
        Entry {
            state: self.state,
            clocks: Clocks {
                real: realtime(),
                tai_offset_s: Timex::new().read().expect("a clock").tai_offset,
                mono: MonoInstant::from_nanos(self.mono),
                map: self.map,
                leap: None,
            },
            limit: self.policy.rate_limit,
            envelope: ENVELOPE,
            table: self.answerer.tables.first_row(self.table),
        }
    }

    fn publish(&self) {
        let words = self.entry().words().expect("words");
        self.answerer.publisher.publish(&words);
    }

    fn set_policy(&mut self, rules: &[(Who, Flags)], rate_limit: RateLimit) {
        let policy = |but: Flags| {
            let rules = rules.iter().map(|(who, flags)| {
                Rule::Restrict(*who, Flags::from_bits(flags.bits() & !but.bits()))
            });
            Policy {
                access: AccessTable::compile(&rules.collect::<Vec<_>>(), &[]),
                rate_limit,
                ..Policy::default()
            }
        };
        (self.policy, self.worker_policy) = (policy(Flags::NONE), policy(Flags::FLAKE));
        self.table ^= 1;
        let table = self.answerer.tables.table_mut(self.table);
        Rows::new(&self.policy.access, &ODD.map(ip).into()).write(table);
    }

    /// Both tiers know nobody.
    fn forget(&mut self) {
        self.answerer.clients.clear();
        self.worker = new_worker();
    }

    /// What a worker says of a datagram, and writes.
    fn worker(&mut self, datagram: &Datagram, received: WallInstant) -> (Verdict, Vec<u8>) {
        let mut out = [0; PACKET_LEN_MAX];
        let request = Request {
            bytes: &datagram.payload,
            from: datagram.from,
            group: false,
            received,
        };
        let now = MonoInstant::from_nanos(self.mono);
        let (policy, state) = (&self.worker_policy, &self.state);
        let verdict = self.worker.respond(policy, state, &request, now, &mut out);
        (verdict, out[..HEADER_LEN].to_vec())
    }

    /// Sends a frame by the program, and what it is credited with to a worker. Says what
    /// became of it, if it was for us.
    fn compare(&mut self, path: &mut dyn Path, frame: &[u8]) -> Option<&'static str> {
        let started = Instant::now();
        let before = self.map.to_local(realtime());
        self.publish();
        let outcome = path.send(&self.answerer, frame);
        let after = self.map.to_local(realtime());
        // The program's next tick may have begun, and the limits be judged otherwise.
        let took_ns = match outcome.next {
            Some(t2) => (t2 - NtpTimestamp::from_wall(before)).as_nanos(),
            None => started.elapsed().as_nanos() as i64,
        };
        let late = took_ns > TICK_NS / 2;

        let seen = frame::read(frame).filter(|seen| {
            let Datagram { to, vlan, .. } = seen.datagram;
            let place = (to.ip(), to.port(), vlan.unwrap_or(0));
            seen.plain && self.served.contains(&place)
        });
        let Some(seen) = seen else {
            assert_eq!(outcome.action, Action::Pass);
            assert!(outcome.counted.is_empty(), "not ours, and counted");
            return None;
        };
        let [count] = outcome.counted[..] else {
            panic!("{:?} counts moved", outcome.counted);
        };
        if outcome.action == Action::Pass {
            let reason = PASSED[count - Verdict::COUNT];
            assert!(!must_be_answered(&seen), "passed for being {reason}");
            assert_eq!(reason == "mac", !is_between_hosts(&seen), "{seen:?}");
            return Some(reason);
        }
        let name = Verdict::NAMES[count];
        let datagram = &seen.datagram;
        if name == "flake" {
            assert_eq!(outcome.action, Action::Drop);
            let flags = &self.policy.access;
            let flags = flags.lookup(datagram.from.ip(), datagram.from.port());
            assert!(flags.contains(Flags::FLAKE), "{flags:?}");
            return Some(name);
        }
        let mut received = before;
        if outcome.action == Action::Transmit {
            assert!(seen.sums, "answered what a stack drops");
            let reply = outcome.frame.as_ref().expect("a frame came back");
            assert_eq!(reply.len(), frame.len());
            let payload = check_envelope(&seen, reply);
            if name == "basic" {
                received = check_stamps(&payload, before, after);
            }
        }
        let (verdict, mut expected) = self.worker(datagram, received);
        if late {
            self.late += 1;
            self.forget();
            return Some(name);
        }
        assert_eq!(Verdict::NAMES[verdict.index()], name);
        if let Some(reply) = outcome.frame {
            let got = frame::read(&reply).expect("read before").datagram.payload;
            if name == "basic" {
                expected[32..].copy_from_slice(&got[32..]);
            }
            assert_eq!(got, expected);
        } else {
            assert_eq!(outcome.action, Action::Drop);
        }
        Some(name)
    }
}

fn new_worker() -> Responder {
    let sizes = ptntp::server::respond::Sizes {
        interleaved: 64,
        limited: 1 << 16,
    };
    Responder::new(7, sizes)
}

/// To us, by one who has a MAC address.
fn is_between_hosts(seen: &Seen) -> bool {
    seen.to_mac == SERVER_MAC && seen.from_mac[0] & 1 == 0 && seen.from_mac != [0; 6]
}

/// A plain request that no stack would drop and no worker needs to see.
fn must_be_answered(seen: &Seen) -> bool {
    let Datagram { from, payload, .. } = &seen.datagram;
    let Some(&[first, .., origin_low]) = payload.get(..32).filter(|_| payload.len() == 48) else {
        return false;
    };
    let version = first >> 3 & 7;
    let odd = match from.ip() {
        IpAddr::V4(v4) => !matches!(v4.octets()[0], 1..=126 | 128..=223),
        IpAddr::V6(v6) => v6.is_multicast() || v6.segments()[..4] == [0; 4],
    };
    let odd = odd || ODD.map(ip).contains(&from.ip()) || !is_between_hosts(seen);
    let marked = version == 4 && origin_low & 1 == 1;
    seen.sums && first & 7 == 3 && (1..=4).contains(&version) && !marked && !odd && from.port() != 0
}

/// The reply goes to who asked, from what he asked, and its sums are right. Gives the payload.
fn check_envelope(asked: &Seen, reply: &[u8]) -> Vec<u8> {
    let reply = frame::read(reply).expect("a datagram");
    assert!(reply.plain && reply.sums && reply.summed, "{reply:?}");
    assert_eq!(
        (reply.to_mac, reply.from_mac),
        (asked.from_mac, asked.to_mac)
    );
    let (out, back) = (&asked.datagram, &reply.datagram);
    assert_eq!(
        (back.from, back.to, back.vlan),
        (out.to, out.from, out.vlan)
    );
    let hops = if out.to.is_ipv4() {
        ENVELOPE.ttl
    } else {
        ENVELOPE.hop_limit
    };
    assert_eq!((reply.hops, reply.tos), (hops, ENVELOPE.tos));
    reply.datagram.payload
}

fn stamp(payload: &[u8], at: usize) -> NtpTimestamp {
    let octets = payload[at..].first_chunk().expect("eight octets");
    NtpTimestamp::from_bits(u64::from_be_bytes(*octets))
}

/// T2 and T3 are marked, and of the moment between. Gives T2 as a worker would have it.
fn check_stamps(payload: &[u8], before: WallInstant, after: WallInstant) -> WallInstant {
    let (t2, t3) = (stamp(payload, 32), stamp(payload, 40));
    assert_eq!((t2.bits() & 1, t3.bits() & 1), (1, 0), "marks");
    // The line that the program goes by is good to one.
    let slack = NtpDuration::from_nanos(2);
    let low = NtpTimestamp::from_wall(before - slack);
    let high = NtpTimestamp::from_wall(after + slack);
    assert!(!(t2 - low).is_negative(), "T2 {t2:?} before {low:?}");
    assert!(!(t3 - t2).is_negative(), "T3 {t3:?} before T2 {t2:?}");
    assert!(!(high - t3).is_negative(), "T3 {t3:?} after {high:?}");
    // Back in nanoseconds it may lie in the next 2^-16 s, and the dispersion be another.
    let near = t2.resolve(before);
    let same = |at: &WallInstant| NtpTimestamp::from_wall(*at).bits() >> 16 == t2.bits() >> 16;
    let around = [0, -1, 1].map(|ns| WallInstant::from_unix_ns(near.unix_ns() + ns));
    around.into_iter().find(same).expect("a nanosecond within")
}

const SERVED: [(&str, u16, u16); 5] = [
    ("10.9.0.1", 123, 0),
    ("10.9.0.1", 123, 10),
    ("10.9.0.2", 1123, 0),
    ("fd09::1", 123, 0),
    ("fd09::1", 123, 10),
];

/// Addresses that no client can have: ours, and that of all on a network.
const ODD: [&str; 3] = ["10.9.0.1", "10.101.255.255", "fd09::1"];

fn served() -> Vec<(IpAddr, u16, u16)> {
    SERVED
        .map(|(address, port, vlan)| (ip(address), port, vlan))
        .to_vec()
}

/// One of several.
fn one<T: Copy>(random: &mut Random, of: &[T]) -> T {
    of[random.below(of.len())]
}

fn any_policy(tiers: &mut Tiers, random: &mut Random) {
    const FLAGS: [Flags; 12] = [
        Flags::NONE,
        Flags::NOQUERY,
        Flags::IGNORE,
        Flags::NOSERVE,
        Flags::NOCLIENT,
        Flags::VERSION,
        Flags::NOTRUST,
        Flags::FLAKE,
        Flags::LIMITED,
        Flags::LIMITED,
        Flags::KOD,
        Flags::KOD,
    ];
    let mut rules = Vec::new();
    for network in 1..NETWORKS {
        for v6 in [false, true] {
            for ntpport in [false, true] {
                let flags = match random.below(3) {
                    0 if ntpport => continue,
                    0 => Flags::LIMITED | Flags::KOD,
                    _ => one(random, &FLAGS) | one(random, &FLAGS),
                };
                let bits = if v6 { 48 } else { 16 };
                let host = random.below(HOSTS);
                let prefix = Prefix::new(source(v6, network, host), bits);
                let prefix = prefix.expect("short enough");
                rules.push((Who::Block { prefix, ntpport }, flags));
                if random.below(4) == 0 {
                    let prefix = Prefix::host(source(v6, network, host));
                    rules.push((Who::Block { prefix, ntpport }, one(random, &FLAGS)));
                }
            }
        }
    }
    let limit = match random.below(3) {
        0 => RateLimit::default(),
        1 => RateLimit::Headway(Headway {
            average_log2_s: one(random, &[0, 1, 3, 5, 12, 20]),
            minimum_s: one(random, &[0, 1, 2, 6, 200]),
        }),
        _ => RateLimit::Bucket(Bucket {
            interval: NtpDuration::from_seconds(one(
                random,
                &[1e-9, 0.003, 0.3, 1.0, 3.3, 7.0, 8.0, 4096.0],
            )),
            burst: one(random, &[1, 3, 8, 255]),
            leak_log2: 0,
            kod_log2: 0,
        }),
    };
    tiers.set_policy(&rules, limit);
}

fn any_state(tiers: &mut Tiers, random: &mut Random) {
    let real = realtime();
    let anchor = real - NtpDuration::from_whole_seconds(100);
    tiers.map = match random.below(3) {
        0 => ClockMap::IDENTITY,
        _ => ClockMap {
            anchor_real: anchor,
            anchor_local: anchor + NtpDuration::from_seconds(one(random, &[-1e9, -0.1, 0.0, 3e8])),
            rate: Ppm(one(random, &[-500.0, -0.01, 0.0, 3.0, 50_000.0])),
        },
    };
    let local = tiers.map.to_local(real);
    let ago = |seconds| local - NtpDuration::from_seconds(seconds);
    let mut refid = [0; 4];
    random.fill(&mut refid);
    let seconds = [0.0, 1e-9, 0.000_3, 1.5, 70_000.0];
    tiers.state = SystemState {
        leap: Leap::from_bits(random.bits() as u8),
        stratum: one(random, &[0, 1, 2, 15, 16, 17]),
        refid: RefId::from_bytes(refid),
        reference: one(random, &[WallInstant::default(), ago(64.0), ago(-5.0)]),
        root_delay: NtpDuration::from_seconds(one(random, &seconds)),
        root_dispersion: NtpDuration::from_seconds(one(random, &seconds)),
        dispersion_rate: Ppm(one(random, &[0.0, 1.0, 15.0, 500.0, 1e9, -3.0])),
        updated: one(
            random,
            &[ago(0.0), ago(17.3), ago(1e5), ago(5e6), ago(-9.0)],
        ),
        ..SystemState::unsynchronised(Precision::new(one(random, &[-32, -23, 0, 127])))
    };
}

fn any_datagram(random: &mut Random) -> Datagram {
    let v6 = random.below(2) == 1;
    let mut payload = vec![0; 48];
    random.fill(&mut payload);
    if random.below(6) > 0 {
        let version = u8::try_from(1 + random.below(4)).expect("small");
        payload[0] = payload[0] & 0xc0 | version << 3 | 3;
    }
    match random.below(6) {
        0..=2 => payload[24..32].fill(0),
        3 => payload[31] &= !1,
        4 => payload[31] |= 1,
        _ => {}
    }
    if random.below(12) == 0 {
        let len = one(random, &[0, 1, 12, 47, 49, 52, 68, 100]);
        payload.resize(len, 0xa5);
    }
    let own: Vec<_> = served()
        .into_iter()
        .filter(|(ip, ..)| ip.is_ipv6() == v6)
        .collect();
    let (mut to, mut port, vlan) = one(random, &own);
    let mut from = source(v6, random.below(NETWORKS), random.below(HOSTS));
    let mut vlan = (vlan != 0).then_some(vlan);
    let odd = if v6 {
        ["::1", "ff02::1", "fd09::1"]
    } else {
        ["127.0.0.1", "224.0.0.1", one(random, &ODD[..2])]
    };
    match random.below(40) {
        0 => to = if v6 { ip("fd09::2") } else { ip("10.9.0.3") },
        1 => port += 1,
        2 => vlan = Some(11),
        3 => from = ip(one(random, &odd)),
        _ => {}
    }
    Datagram {
        from: SocketAddr::new(
            from,
            one(random, &[123, 40_000, 40_001, 40_002, 123, 0x7b00, 0]),
        ),
        to: SocketAddr::new(to, port),
        vlan,
        payload,
    }
}

/// A frame of it, sometimes a strange one.
fn any_frame(random: &mut Random, datagram: &Datagram) -> Vec<u8> {
    use Checksum::{Partial, Right, Wrong, Zero};
    let checksum = one(
        random,
        &[Right, Right, Right, Right, Right, Wrong, Zero, Partial],
    );
    let mut frame = datagram.frame(checksum);
    let ip = if datagram.vlan.is_some() { 18 } else { 14 };
    let v4 = datagram.to.is_ipv4();
    match random.below(32) {
        0 => {
            let at = random.below(frame.len());
            frame[at] ^= 1 << random.below(8);
        }
        1 => frame.truncate(14 + random.below(frame.len() - 14)),
        2 => frame.extend([0xee; 17]),
        3 => frame[0] |= 1,
        9 => frame[random.below(6)] ^= 2 << random.below(7),
        10 => frame[6] |= 1,
        11 => frame[6..12].fill(0),
        // A first part, or another, and sums that are right.
        4 if v4 => {
            let bits: u16 = one(random, &[0x2000, 0x2001, 0x0001, 0x1fff, 0x4000, 0x8000, 0]);
            frame[ip + 6..ip + 8].copy_from_slice(&bits.to_be_bytes());
            frame::mend_v4(&mut frame[ip..]);
        }
        5 if v4 => {
            frame.splice(ip + 20..ip + 20, [1, 1, 1, 1]);
            frame[ip] = 0x46;
            frame[ip + 3] += 4;
            frame::mend_v4(&mut frame[ip..]);
        }
        5 => {
            // Options for each hop: padding.
            frame.splice(ip + 40..ip + 40, [17, 0, 1, 4, 0, 0, 0, 0]);
            frame[ip + 6] = 0;
            frame[ip + 5] += 8;
        }
        6 => frame[ip - 1] ^= 1,
        7 => {
            // A tag outside another, or this one alone.
            let kind = one(random, &[0x81, 0x88]);
            let low = if kind == 0x81 { 0x00 } else { 0xa8 };
            frame.splice(12..12, [kind, low, 0, 10]);
        }
        // The datagram is shorter or longer than the packet says.
        8 => {
            let udp = ip + if v4 { 20 } else { 40 };
            frame[udp + 5] ^= 1 << random.below(4);
        }
        _ => {}
    }
    frame
}

/// So many frames, and what became of how many of them.
fn compare_many(tiers: &mut Tiers, path: &mut dyn Path, frames: usize, random: &mut Random) {
    let mut met = BTreeSet::new();
    let mut favourite = 1;
    for n in 0..frames {
        if n % 200 == 0 {
            tiers.forget();
            any_policy(tiers, random);
            any_state(tiers, random);
            let limited = (0..NETWORKS).find(|network| {
                let flags = |v6| tiers.policy.access.lookup(source(v6, *network, 1), 40_000);
                flags(false).contains(Flags::LIMITED) && flags(true).contains(Flags::LIMITED)
            });
            favourite = limited.unwrap_or(favourite);
        }
        let mut datagram = any_datagram(random);
        // Half of the time one who asks again and again, as limits need time to fill.
        if n % 200 >= 100 {
            let ip = source(datagram.to.is_ipv6(), favourite, 1);
            datagram.from.set_ip(ip);
        }
        let frame = any_frame(random, &datagram);
        let flags = tiers
            .policy
            .access
            .lookup(datagram.from.ip(), datagram.from.port());
        let told =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| tiers.compare(path, &frame)));
        match told {
            Ok(outcome) => met.insert(outcome),
            Err(panic) => {
                eprintln!("frame {n}, {flags:?}: {datagram:?}\n{frame:02x?}");
                std::panic::resume_unwind(panic);
            }
        };
        let ticks = match n % 200 {
            100.. => one(random, &[0, 1, 63, 64, 95, 96, 128, 128, 160, 200, 512]),
            _ => one(random, &[0, 0, 1, 32, 64, 70, 128, 512, 4096]),
        };
        tiers.mono += ticks * TICK_NS;
    }
    eprintln!(
        "{} of {frames} frames took too long to be compared",
        tiers.late
    );
    let all = [
        "basic", "kiss", "ignore", "noserve", "flake", "version", "notrust", "limited",
    ];
    let passed = ["mac", "source", "length", "form", "interleaved", "checksum"];
    for name in all.into_iter().chain(passed) {
        assert!(met.contains(&Some(name)), "none was {name}");
    }
    assert!(met.contains(&None));
}

#[test]
fn the_program_judges_and_answers_as_a_worker_does() {
    let mut random = Random::unforeseen();
    let mut tiers = Tiers::new(load!(), LOOPBACK);
    compare_many(&mut tiers, &mut TestRun, 20_000, &mut random);
}

/// Frames over a veth to the program, which the driver runs; and replies from there.
struct Veth {
    ring: TransmitRing,
    replies: std::os::fd::OwnedFd,
    asked: u64,
    /// That the program is on.
    interface: u32,
    _star: Star,
    _links: [Link; 2],
}

/// Who asks after each frame, so that its answer tells that the frame was seen.
const CANARY: &str = "10.100.0.9:40009";

impl Veth {
    fn new(program: &Program) -> Self {
        let star = Star::new(1);
        let (hub, spoke) = (&star.hub, &star.spokes[0]);
        let interface = hub.index("s0");
        let link = hub.inside(|| program.attach(interface, Mode::Native));
        // XDP_TX goes nowhere on a veth unless its peer has a program too.
        let pass = Program::assemble("pass", &PASS, "Dual MIT/GPL").expect("a program");
        let peer = spoke.inside(|| pass.attach(spoke.index("eth"), Mode::Native));
        let (ring, replies) = spoke.inside(|| {
            let ring = TransmitRing::open(spoke.index("eth"), 0).expect("AF_XDP");
            let all = SockProtocol::EthAll;
            let flags = SockFlag::SOCK_CLOEXEC;
            let replies = socket(AddressFamily::Packet, SockType::Raw, flags, all);
            (ring, replies.expect("a packet socket"))
        });
        let patience = nix::sys::time::TimeVal::new(5, 0);
        nix::sys::socket::setsockopt(
            &replies,
            nix::sys::socket::sockopt::ReceiveTimeout,
            &patience,
        )
        .expect("a timeout");
        Self {
            ring,
            replies,
            asked: 0,
            interface,
            _links: [link.expect("a veth takes it"), peer.expect("both ends do")],
            _star: star,
        }
    }

    fn stage(&mut self, frame: &[u8]) {
        assert!(self.ring.has_room());
        self.ring.stage(|place| {
            place[..frame.len()].copy_from_slice(frame);
            frame.len()
        });
    }

    /// Until the canary's answer, the answer to `frame` if there was one.
    fn hear(&mut self, frame: &[u8], canary: u64) -> (Option<Vec<u8>>, NtpTimestamp) {
        let asked = frame::read(frame).map(|seen| seen.datagram);
        let mut answer = None;
        loop {
            let mut buffer = [0; 2048];
            let len = recv(self.replies.as_raw_fd(), &mut buffer, MsgFlags::empty());
            let heard = &buffer[..len.expect("the canary is answered")];
            let Some(Seen { datagram, .. }) = frame::read(heard) else {
                continue;
            };
            if datagram.payload.len() != 48 || datagram.payload[0] & 7 != 4 {
                continue;
            }
            if datagram.payload[24..32] == canary.to_be_bytes() {
                return (answer, stamp(&datagram.payload, 32));
            }
            let asked = asked.as_ref().expect("only datagrams are answered");
            assert_eq!((datagram.from, datagram.to), (asked.to, asked.from));
            assert_eq!(answer, None, "answered twice");
            let mut heard = heard.to_vec();
            // The stack took the tag off.
            if asked.vlan.is_some() {
                heard.splice(12..12, frame[12..16].iter().copied());
            }
            answer = Some(heard);
        }
    }
}

impl Path for Veth {
    fn send(&mut self, answerer: &Answerer, frame: &[u8]) -> Outcome {
        self.asked += 2;
        let mut payload = vec![0; 48];
        payload[0] = 0x23;
        payload[40..].copy_from_slice(&self.asked.to_be_bytes());
        let canary = Datagram {
            from: CANARY.parse().expect("an address"),
            to: SocketAddr::new(ip("10.9.0.1"), 123),
            vlan: None,
            payload,
        };
        let before = answerer.counts.sums().expect("counts");
        self.stage(frame);
        self.stage(&canary.frame(Checksum::Right));
        self.ring.flush().expect("sent");
        let (answer, t2) = self.hear(frame, self.asked);
        let mut counted = moved(&before, &answerer.counts.sums().expect("counts"));
        let basic = counted
            .iter()
            .position(|count| Verdict::NAMES.get(*count) == Some(&"basic"));
        counted.remove(basic.expect("the canary's"));
        let action = match counted.first() {
            _ if answer.is_some() => Action::Transmit,
            Some(count) if *count < Verdict::COUNT => Action::Drop,
            _ => Action::Pass,
        };
        Outcome {
            action,
            frame: answer,
            counted,
            next: Some(t2),
        }
    }
}

#[test]
fn frames_over_a_veth_are_answered_as_a_worker_does_and_counted() {
    let mut random = Random::unforeseen();
    let answerer = load!();
    let mut veth = Veth::new(&answerer.program);
    let mut tiers = Tiers::new(answerer, veth.interface);
    compare_many(&mut tiers, &mut veth, 4000, &mut random);
}

/// A plain request.
fn request(v6: bool) -> Vec<u8> {
    let mut payload = vec![0; 48];
    payload[0] = 0x23;
    payload[40..].copy_from_slice(&[7; 8]);
    let (to, ..) = served()[if v6 { 3 } else { 0 }];
    let datagram = Datagram {
        from: SocketAddr::new(source(v6, 1, 1), 40_000),
        to: SocketAddr::new(to, 123),
        vlan: None,
        payload,
    };
    datagram.frame(Checksum::Right)
}

impl Tiers {
    /// What becomes of a plain request now.
    fn ask(&self) -> (Action, &'static str) {
        self.ask_by(&request(false))
    }

    fn ask_by(&self, frame: &[u8]) -> (Action, &'static str) {
        let outcome = TestRun.send(&self.answerer, frame);
        let [count] = outcome.counted[..] else {
            panic!("{:?} counts moved", outcome.counted);
        };
        let passed = || PASSED[count - Verdict::COUNT];
        let name = Verdict::NAMES.get(count).copied().unwrap_or_else(passed);
        (outcome.action, name)
    }
}

/// Another host's, everybody's, and from everybody or nobody.
#[test]
fn a_frame_that_is_not_between_a_host_and_us_passes() {
    let tiers = Tiers::new(load!(), LOOPBACK);
    tiers.publish();
    for v6 in [false, true] {
        assert_eq!(tiers.ask_by(&request(v6)), (Action::Transmit, "basic"));
        let (other, group) = ([2, 0, 0, 0, 0, 9], [1, 0, 0x5e, 0, 0, 1]);
        for (at, mac) in [
            (0, other),
            (0, [2, 0, 0, 1, 0, 1]),
            (0, [0xff; 6]),
            (0, group),
            (6, [0xff; 6]),
            (6, group),
            (6, [0; 6]),
        ] {
            let mut frame = request(v6);
            frame[at..at + 6].copy_from_slice(&mac);
            assert_eq!(tiers.ask_by(&frame), (Action::Pass, "mac"), "{at} {mac:x?}");
        }
        let mut frame = request(v6);
        frame[6..12].copy_from_slice(&other);
        assert_eq!(tiers.ask_by(&frame), (Action::Transmit, "basic"));
    }
}

#[test]
fn nobody_is_answered_by_what_was_not_renewed() {
    const STALE: (Action, &str) = (Action::Pass, "stale");
    const BASIC: (Action, &str) = (Action::Transmit, "basic");
    let tiers = Tiers::new(load!(), LOOPBACK);
    assert_eq!(tiers.ask(), STALE, "nothing was ever published");
    tiers.publish();
    assert_eq!(tiers.ask(), BASIC);
    let ends = Instant::now() + Duration::from_nanos(VALID_NS);
    std::thread::sleep(Duration::from_nanos(VALID_NS) - secs(1));
    let answer = tiers.ask();
    assert!(Instant::now() > ends || answer == BASIC, "{answer:?}");
    std::thread::sleep(ends - Instant::now());
    assert_eq!(tiers.ask(), STALE);
    tiers.publish();
    assert_eq!(tiers.ask(), BASIC);
    tiers.answerer.publisher.withdraw();
    assert_eq!(tiers.ask(), STALE);
    // Somebody set the clock, and CLOCK_TAI with it.
    for seconds in [-1, 4, 1_000_000] {
        let mut entry = tiers.entry();
        entry.clocks.real = entry.clocks.real - NtpDuration::from_whole_seconds(seconds);
        tiers
            .answerer
            .publisher
            .publish(&entry.words().expect("words"));
        assert_eq!(tiers.ask(), STALE, "{seconds}");
    }
}

#[test]
fn a_leap_second_is_in_the_next_reply() {
    let tiers = Tiers::new(load!(), LOOPBACK);
    for (inserted, gained_s) in [(true, -1), (false, 1)] {
        for (until_s, gained_s) in [(-1, gained_s), (1, 0)] {
            let mut entry = tiers.entry();
            let at = entry.clocks.real + NtpDuration::from_whole_seconds(until_s);
            entry.clocks.leap = Some(LeapSecond { at, inserted });
            tiers
                .answerer
                .publisher
                .publish(&entry.words().expect("words"));
            let before = realtime();
            let reply = TestRun.send(&tiers.answerer, &request(true)).frame;
            let gained = NtpDuration::from_whole_seconds(gained_s);
            let payload = frame::read(&reply.expect("a reply"))
                .expect("one")
                .datagram
                .payload;
            check_stamps(&payload, before + gained, realtime() + gained);
        }
    }
}

#[test]
fn no_reply_is_made_of_two_states() {
    let tiers = Tiers::new(load!(), LOOPBACK);
    // Every word that a reply shows follows from one number.
    let numbered = |n: u32| {
        let mut words: Words = tiers.entry().words().expect("words");
        // One in each line of cache.
        words[Word::AnchorNtp as usize] = u64::from(n) << 48;
        words[Word::Refid as usize] = u64::from(n) << 32;
        words[Word::Envelope as usize] = n.into();
        words
    };
    let done = AtomicBool::new(false);
    /// The writer ends with the reader, however that ends.
    struct Ends<'a>(&'a AtomicBool);
    impl Drop for Ends<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let publisher = &tiers.answerer.publisher;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let pair = [numbered(1), numbered(2)];
                for _ in 0..1000 {
                    for words in &pair {
                        publisher.publish(words);
                        // Now and then a reader has to find it at rest.
                        (0..20).for_each(|_| std::hint::spin_loop());
                    }
                }
            }
        });
        let _ends = Ends(&done);
        let (mut met, start) = ([0; 3], Instant::now());
        while start.elapsed() < secs(1) || met.contains(&0) {
            assert!(start.elapsed() < secs(60), "met only {met:?}");
            let run = tiers
                .answerer
                .program
                .test_run(&request(false), 1)
                .expect("a run");
            if run.action == Action::Pass {
                // It was being changed each time that the program looked.
                met[0] += 1;
                continue;
            }
            let reply = frame::read(&run.frame).expect("one");
            let seen = [33, 12].map(|at: usize| reply.datagram.payload[at]);
            let seen = [seen[0], seen[1], reply.hops];
            assert!(seen == [1; 3] || seen == [2; 3], "{seen:?}");
            met[usize::from(seen[0])] += 1;
        }
    });
}

#[test]
fn over_the_limit_chance_answers_and_tells_as_often_as_asked_for() {
    let mut tiers = Tiers::new(load!(), LOOPBACK);
    let everyone = Who::Block {
        prefix: Prefix::ALL_V4,
        ntpport: false,
    };
    let bucket = |leak_log2, kod_log2| {
        RateLimit::Bucket(Bucket {
            interval: NtpDuration::from_whole_seconds(4096),
            burst: 1,
            leak_log2,
            kod_log2,
        })
    };
    for (flags, leak, kod, shares) in [
        (Flags::LIMITED | Flags::KOD, 2, 1, [0.125, 0.5]),
        (Flags::LIMITED, 2, 2, [0.1875, 0.0]),
        (Flags::LIMITED | Flags::KOD, 0, 3, [0.0, 0.125]),
        (Flags::FLAKE, 0, 0, [0.9, 0.0]),
    ] {
        tiers.set_policy(&[(everyone, flags)], bucket(leak, kod));
        const RUNS: u32 = 8000;
        let mut times = [0_u32; 2];
        for _ in 0..RUNS {
            tiers.publish();
            match tiers.ask().1 {
                "basic" => times[0] += 1,
                "kiss" => times[1] += 1,
                "limited" | "flake" => {}
                other => panic!("{other}"),
            }
        }
        for (times, share) in times.into_iter().zip(shares) {
            let got = f64::from(times) / f64::from(RUNS);
            // Five sigma are 0.028.
            assert!((got - share).abs() < 0.03, "{flags}: {got} and not {share}");
        }
    }
}

/// What an interface of a namespace has.
fn program_of(namespace: &Namespace, interface: &str) -> Option<Attached> {
    let index = namespace.index(interface);
    namespace.inside(|| attached(index)).expect("an answer")
}

#[test]
fn a_strangers_program_is_left_alone_and_named() {
    let answerer = load!();
    let star = Star::new(1);
    let hub = &star.hub;
    let index = hub.index("s0");
    assert_eq!(program_of(hub, "s0"), None);
    for mode in [Mode::Native, Mode::Generic] {
        let strange = Program::assemble("stranger", &PASS, "Dual MIT/GPL").expect("one");
        let theirs = hub.inside(|| strange.attach(index, mode)).expect("a place");
        for ours in [Mode::Native, Mode::Generic] {
            let refused = hub.inside(|| answerer.program.attach(index, ours));
            let error = refused.expect_err("the place is taken");
            assert!(
                matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EEXIST)),
                "{error}"
            );
        }
        let found = program_of(hub, "s0").expect("the stranger's");
        assert_eq!(found.id, strange.id().expect("a number"));
        assert_eq!(found.name.as_deref(), Some("stranger"));
        assert_eq!(found.mode, mode.to_string());
        drop(theirs);
        // A process that another test is just starting may still hold it.
        assert!(wait_until(secs(5), || program_of(hub, "s0").is_none()));
        let link = hub
            .inside(|| answerer.program.attach(index, mode))
            .expect("free now");
        assert_eq!(
            program_of(hub, "s0").expect("ours").name.as_deref(),
            Some("ptntp")
        );
        drop(link);
        assert!(wait_until(secs(5), || program_of(hub, "s0").is_none()));
    }
}

/// Says to a copy of this program on which interface it should hold on.
const HOLD: &str = "PTNTP_TEST_XDP_HOLD";

#[test]
fn who_is_killed_leaves_no_program_behind() {
    let answerer = load!();
    if let Ok(interface) = std::env::var(HOLD) {
        let index = nix::net::if_::if_nametoindex(&*interface).expect("it is there");
        let _link = answerer
            .program
            .attach(index, Mode::Native)
            .expect("a place");
        std::thread::sleep(secs(60));
        return;
    }
    let star = Star::new(1);
    let mut child = Command::new("ip")
        .args(["netns", "exec", star.hub.name()])
        .arg(std::env::current_exe().expect("this program"))
        .args(["--exact", "who_is_killed_leaves_no_program_behind"])
        .env(HOLD, "s0")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("a child");
    let came = wait_until(secs(20), || program_of(&star.hub, "s0").is_some());
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
    kill(pid, Signal::SIGKILL).expect("it lives");
    child.wait().expect("it ended");
    assert!(came, "the child did not come so far");
    assert!(wait_until(secs(2), || program_of(&star.hub, "s0").is_none()));
}

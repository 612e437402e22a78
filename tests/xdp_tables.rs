//! The access table of the XDP tier in the kernel's own maps: a million prefixes are
//! loaded, and what the program makes of ten thousand senders is what the sockets' table
//! says of them.

mod common;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use common::frame::{Checksum, Datagram, SERVER_MAC};
use common::{Random, require};
use ptntp::daemon::xdp::program::{Answerer, Sizes};
use ptntp::linux::clock::realtime;
use ptntp::linux::timex::Timex;
use ptntp::linux::xdp::Action;
use ptntp::server::access::AccessTable;
use ptntp::server::rule::{Flags, Prefix, RateLimit, Rule, Who};
use ptntp::server::verdict::Verdict;
use ptntp::system::SystemState;
use ptntp::time::instant::MonoInstant;
use ptntp::time::map::ClockMap;
use ptntp::time::units::Precision;
use ptntp::xdp::layout::{Own, PASSED};
use ptntp::xdp::state::{Clocks, Entry, Envelope};
use ptntp::xdp::tables::Rows;

const PREFIXES: usize = 1_000_000;
const SENDERS: usize = 10_000;
const OUR_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const OUR_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));

/// Networks and single addresses, all over and crowded in places.
fn prefix(random: &mut Random) -> Prefix {
    let bits = random.bits();
    let (address, len): (IpAddr, _) = match bits % 16 {
        0 => {
            let high = 0x2001 << 112 | u128::from(bits >> 32 & 0xfff) << 100;
            let len = if bits & 16 == 0 { 48 } else { 56 };
            (
                Ipv6Addr::from(high | u128::from(bits as u32) << 72).into(),
                len,
            )
        }
        1..6 => (Ipv4Addr::from((bits >> 32) as u32).into(), 32),
        kind => (Ipv4Addr::from((bits >> 32) as u32).into(), 14 + kind as u8),
    };
    Prefix::new(address, len).expect("short enough")
}

fn rule(random: &mut Random) -> Rule {
    const FLAGS: [Flags; 8] = [
        Flags::NONE,
        Flags::IGNORE,
        Flags::NOSERVE,
        Flags::NOCLIENT,
        Flags::VERSION,
        Flags::NOTRUST,
        Flags::LIMITED,
        Flags::NOQUERY,
    ];
    let prefix = prefix(random);
    let ntpport = random.below(8) == 0;
    let more = if random.below(4) == 0 {
        Flags::KOD
    } else {
        Flags::NONE
    };
    Rule::Restrict(
        Who::Block { prefix, ntpport },
        FLAGS[random.below(8)] | more,
    )
}

/// Half of them within a prefix, many at the ends of one, the others anywhere.
fn sender(random: &mut Random, rules: &[Rule]) -> SocketAddr {
    let Rule::Restrict(Who::Block { prefix, .. }, _) = rules[random.below(rules.len())] else {
        unreachable!("as made above");
    };
    let bits = u128::from(random.bits()) << 64 | u128::from(random.bits());
    let ip = match prefix.address() {
        IpAddr::V4(v4) => {
            let first = u32::from(v4);
            let inside = (bits as u32).checked_shr(prefix.bits().into()).unwrap_or(0);
            IpAddr::V4(match random.below(5) {
                0 => first.into(),
                1 => first.wrapping_sub(1).into(),
                2 | 3 => (first | inside).into(),
                _ => (bits as u32).into(),
            })
        }
        IpAddr::V6(v6) => {
            let first = u128::from(v6);
            IpAddr::V6(match random.below(5) {
                0 => first.into(),
                1 => first.wrapping_sub(1).into(),
                2 | 3 => (first | bits >> prefix.bits()).into(),
                _ => (0x2001 << 112 | bits >> 16).into(),
            })
        }
    };
    SocketAddr::new(ip, if random.below(3) == 0 { 123 } else { 50_000 })
}

/// A version 3 request.
fn request(from: SocketAddr) -> Vec<u8> {
    let mut payload = vec![0; 48];
    payload[0] = 0x1b;
    payload[47] = 1;
    let to = if from.is_ipv4() { OUR_V4 } else { OUR_V6 };
    let to = SocketAddr::new(to, 123);
    let vlan = None;
    Datagram {
        from,
        to,
        vlan,
        payload,
    }
    .frame(Checksum::Right)
}

/// What becomes of the first request of somebody with these flags, in the order in which
/// `server/respond` judges.
fn expected(flags: Flags) -> &'static str {
    let reasons = [
        (Flags::IGNORE, "ignore"),
        (Flags::NOSERVE, "noserve"),
        (Flags::NOCLIENT, "noserve"),
        (Flags::VERSION, "version"),
        (Flags::NOTRUST, "notrust"),
    ];
    let hit = reasons.iter().find(|(flag, _)| flags.contains(*flag));
    hit.map_or("basic", |(_, name)| name)
}

/// The one count that a frame moved.
fn judged(answerer: &Answerer, frame: &[u8]) -> (Action, &'static str) {
    let before = answerer.counts.sums().expect("counts");
    let action = answerer.program.test_run(frame, 1).expect("a run").action;
    let after = answerer.counts.sums().expect("counts");
    let moved: Vec<usize> = (0..after.len())
        .filter(|i| after[*i] != before[*i])
        .collect();
    let [count] = moved[..] else {
        panic!("{action:?}, and counts {moved:?} moved");
    };
    let names = Verdict::NAMES.iter().chain(&PASSED);
    (action, names.copied().nth(count).expect("a name"))
}

fn publish(answerer: &Answerer, table: usize) {
    let entry = Entry {
        state: SystemState::unsynchronised(Precision::new(-20)),
        clocks: Clocks {
            real: realtime(),
            tai_offset_s: Timex::new().read().expect("a clock").tai_offset,
            mono: MonoInstant::from_nanos(1_000_000_000),
            map: ClockMap::IDENTITY,
            leap: None,
        },
        limit: RateLimit::default(),
        envelope: Envelope::default(),
        table: answerer.tables.first_row(table),
    };
    answerer.publisher.publish(&entry.words().expect("words"));
}

#[test]
fn a_million_prefixes_are_judged_in_the_kernel_as_by_the_sockets() {
    require!(root);
    let mut random = Random::unforeseen();
    let rules: Vec<Rule> = (0..PREFIXES).map(|_| rule(&mut random)).collect();
    let access = AccessTable::compile(&rules, &[]);
    let rows = Rows::new(&access, &BTreeSet::new());
    let sizes = Sizes {
        rows: rows.count(),
        own: 2,
        clients: 1 << 16,
    };
    let mut answerer = match Answerer::load(sizes) {
        Ok(answerer) => answerer,
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            return require::skip("may not load BPF programs");
        }
        Err(error) => panic!("{error}"),
    };
    for address in [OUR_V4, OUR_V6] {
        let own = Own {
            address,
            port: 123,
            // The loopback, as in all runs without an interface.
            interface: 1,
            vlan: 0,
        };
        answerer.own.insert(&own, SERVER_MAC).expect("room");
    }
    // In the second of the two tables, with something else in the first.
    let nobody = [Rule::Restrict(
        Who::Block {
            prefix: Prefix::ALL_V4,
            ntpport: false,
        },
        Flags::IGNORE,
    )];
    let nobody = Rows::new(&AccessTable::compile(&nobody, &[]), &BTreeSet::new());
    nobody.write(answerer.tables.table_mut(0));
    rows.write(answerer.tables.table_mut(1));

    let mut seen = BTreeMap::new();
    let mut asked = HashSet::new();
    for n in 0..SENDERS {
        // It holds for three seconds.
        if n % 100 == 0 {
            publish(&answerer, 1);
        }
        let from = sender(&mut random, &rules);
        // Rate limits count a /64 as one.
        if !asked.insert(Prefix::new(from.ip(), if from.is_ipv4() { 32 } else { 64 })) {
            continue;
        }
        let frame = request(from);
        let flags = access.lookup(from.ip(), from.port());
        let (action, name) = judged(&answerer, &frame);
        *seen.entry(name).or_insert(0) += 1;
        match action {
            // Nobody's, or on no wire: for the sockets.
            Action::Pass => assert_eq!(name, "source", "{from}"),
            Action::Transmit => assert_eq!(name, "basic", "{from}: {flags}"),
            other => assert_eq!(other, Action::Drop, "{from}: {flags}"),
        }
        if action != Action::Pass {
            assert_eq!(name, expected(flags), "{from}: {flags}");
        }
        // The second time he asks too soon.
        if name == "basic" {
            let (_, again) = judged(&answerer, &frame);
            let limited = flags.contains(Flags::LIMITED);
            let kod = flags.contains(Flags::KOD);
            let expected = match (limited, kod) {
                (false, _) => "basic",
                (true, false) => "limited",
                (true, true) => "kiss",
            };
            assert_eq!(again, expected, "{from}: {flags}");
            *seen.entry(again).or_insert(0) += 1;
        }
    }
    for name in [
        "basic", "ignore", "noserve", "version", "notrust", "limited", "kiss",
    ] {
        assert!(seen.get(name).is_some_and(|n| *n > 50), "too few: {seen:?}");
    }

    publish(&answerer, 0);
    let stranger = SocketAddr::new(Ipv4Addr::new(198, 51, 100, 1).into(), 123);
    assert_eq!(
        judged(&answerer, &request(stranger)),
        (Action::Drop, "ignore")
    );
}

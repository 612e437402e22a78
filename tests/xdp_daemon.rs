//! The daemon and its tier in front of the sockets: attached to what comes, told the time
//! and the rules, counted, refused with a sentence, and gone with the process. The peer's
//! end of each veth has a program that passes everything, or XDP_TX would go nowhere.

mod common;

use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::frame::{Checksum, Datagram};
use common::net::{Namespace, Star, host_v4, hub_v4, hub_v6, spoke_v4};
use common::ntp::{Client, Liar, Lie, request};
use common::process;
use common::ptntp::{OPEN, Ptntp, in_namespace};
use common::{secs, wait_until};
use nix::sys::signal::Signal;
use ptntp::linux::frames::xdp::TransmitRing;
use ptntp::linux::xdp::{Link, Mode, PASS, Program, attached};

/// What the daemon is not to have once it serves: SYS_ADMIN, NET_ADMIN, PERFMON, BPF.
const GIVEN_UP: [u64; 4] = [21, 12, 38, 39];

/// A program that passes everything, on an interface; or why this machine can't.
fn passing(namespace: &Namespace, interface: &str, mode: Mode) -> Result<Link, String> {
    let index = namespace.index(interface);
    let link =
        namespace.inside(|| Program::assemble("stranger", &PASS, "GPL")?.attach(index, mode));
    match link {
        Ok(link) => Ok(link),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            Err("may not load BPF programs".into())
        }
        Err(error) => panic!("{interface}: {error}"),
    }
}

/// A hub with spokes that can be answered by XDP_TX.
struct Net {
    star: Star,
    _far: Vec<Link>,
}

impl Net {
    fn new(spokes: usize) -> Result<Self, String> {
        common::require::root()?;
        let star = Star::new(spokes);
        let far = star.spokes.iter();
        let far = far.map(|spoke| passing(spoke, "eth", Mode::Native));
        let far = far.collect::<Result<_, _>>()?;
        Ok(Self { star, _far: far })
    }

    fn hub(&self) -> &Namespace {
        &self.star.hub
    }

    fn spoke(&self) -> &Namespace {
        &self.star.spokes[0]
    }

    /// The name of the program on an interface of the hub.
    fn program(&self, interface: &str) -> Option<String> {
        let index = self.hub().index(interface);
        let found = self.hub().inside(|| attached(index)).expect("netlink");
        found.and_then(|program| program.name)
    }

    fn is_ours(&self, interface: &str) -> bool {
        self.program(interface).as_deref() == Some("ptntp")
    }
}

macro_rules! net {
    () => {
        net!(1)
    };
    ($spokes:expr) => {
        match Net::new($spokes) {
            Ok(net) => net,
            Err(why) => return common::require::skip(&why),
        }
    };
}

fn open(more: &str) -> String {
    format!("{OPEN}{more}\n")
}

fn count(ptntp: &Ptntp<'_>, metric: &str, labels: &[(&str, &str)]) -> u64 {
    ptntp.scrape().sum(metric, labels).unwrap_or(0.0) as u64
}

/// Times given in all, and by XDP.
fn basic(ptntp: &Ptntp<'_>) -> (u64, u64) {
    let basic = [("verdict", "basic")];
    (
        count(ptntp, "ptntp_server_requests_total", &basic),
        count(ptntp, "ptntp_xdp_requests_total", &basic),
    )
}

/// The sentence about an interface in `ptntp stat --json`.
fn problem(ptntp: &Ptntp<'_>, interface: &str) -> Option<String> {
    let stat = ptntp.stat();
    let all = stat["xdp"].as_array().expect("a list").clone();
    let one = all.into_iter().find(|one| one["interface"] == interface);
    let one = one.unwrap_or_else(|| panic!("no {interface} in {stat}"));
    one["problem"].as_str().map(str::to_owned)
}

fn effective_capabilities(pid: u32) -> Vec<(String, u64)> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("its threads");
    let of_task = |path: &Path| {
        let status = std::fs::read_to_string(path.join("status")).ok()?;
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let mask = u64::from_str_radix(&field("CapEff")?, 16).ok()?;
        Some((field("Name")?, mask))
    };
    let tasks = tasks.filter_map(|task| of_task(&task.ok()?.path()));
    tasks.collect()
}

/// Both families are answered before the sockets, rightly, and counted once; what is not
/// plain goes on to the sockets; and the rights are gone by then.
fn answers_before_the_sockets(backend: &str, mode: &str) {
    let net = net!();
    let ptntp = in_namespace(net.hub())
        .config(&open(&format!("xdp s0 mode {mode}")))
        .args(&["--io", backend])
        .start();
    assert_eq!(problem(&ptntp, "s0"), None);
    assert!(net.is_ours("s0"));
    for address in [hub_v4(0), hub_v6(0)] {
        let client = Client::new(net.spoke(), address);
        // A neighbour may have to be found first.
        assert!(wait_until(secs(5), || client.time().is_some()), "{address}");
        let (all, xdp) = basic(&ptntp);
        for version in 1..=4 {
            let reply = client.time_by(version).expect("a reply");
            assert_eq!((reply.mode, reply.version), (4, version));
            assert_eq!((reply.stratum, reply.leap), (4, 0));
            let error = reply.offset_s() - ptntp.true_error_s();
            assert!(error.abs() < 0.02, "{reply:?}");
        }
        assert_eq!(basic(&ptntp), (all + 4, xdp + 4));
        // An extension field is the sockets' business, and so is a symmetric request.
        let mut long = request(4, 3).to_vec();
        long.extend([0xaa, 0xaa, 0, 28]);
        long.resize(76, 0);
        assert!(client.ask(&long).is_some());
        assert!(client.ask(&request(4, 1)).is_some());
        assert_eq!(basic(&ptntp), (all + 6, xdp + 4));
    }
    for reason in ["length", "form"] {
        let passed = count(&ptntp, "ptntp_xdp_passed_total", &[("reason", reason)]);
        assert_eq!(passed, 2, "{reason}");
    }
    let ready = [("interface", "s0"), ("mode", mode)];
    assert_eq!(count(&ptntp, "ptntp_xdp_attached", &ready), 1);
    for (thread, capabilities) in effective_capabilities(ptntp.process.pid()) {
        for bit in GIVEN_UP {
            assert_eq!(capabilities >> bit & 1, 0, "{thread} has {capabilities:#x}");
        }
    }
    let nics = process::stdout(&ptntp.tell(&["nics", "s0"]));
    let said = format!("the service answers there ({mode})");
    assert!(nics.contains(&said), "{nics}");
}

#[test]
fn plain_requests_are_answered_before_the_sockets() {
    answers_before_the_sockets("uring", "native");
}

#[test]
fn plain_requests_are_answered_before_the_one_thread() {
    answers_before_the_sockets("poll", "native");
}

#[test]
fn a_chrony_conf_may_ask_for_it() {
    let net = net!();
    let ptntp = in_namespace(net.hub())
        .config("local\nallow\nxdp s0\n")
        .args(&["--dialect", "chrony"])
        .start();
    let client = Client::new(net.spoke(), hub_v4(0));
    assert!(wait_until(secs(30), || client.time().is_some()));
    assert!(wait_until(secs(5), || basic(&ptntp).1 > 0), "not by XDP");
}

#[test]
fn generic_mode_answers_too() {
    answers_before_the_sockets("uring", "generic");
}

/// Unsynchronised at first, then stepped by half a second: the reply that follows says so.
fn a_step_is_seen(backend: &str) {
    let net = net!();
    net.spoke().add_address("eth", "10.77.0.9/24");
    let _server = Liar::start(net.spoke(), host_v4(0, 9), Lie::Offset(0.0));
    let ptntp = in_namespace(net.hub())
        .config("restrict default\nxdp s0\nserver 10.77.0.9 iburst minpoll 1 maxpoll 3\n")
        .args(&["--io", backend])
        .start();
    let client = Client::new(net.spoke(), hub_v4(0));
    let mut before = 0;
    let stepped = wait_until(secs(40), || {
        let Some(reply) = client.time() else {
            return false;
        };
        let off = reply.offset_s();
        if reply.leap == 3 {
            assert_eq!(reply.stratum, 0);
            assert!((off - 0.5).abs() < 0.02, "{reply:?}");
            before += 1;
        } else {
            // No time in between was told as good.
            assert!(off.abs() < 0.1, "{reply:?}");
        }
        reply.leap == 0
    });
    assert!(stepped && before > 0, "{before}");
    let (all, xdp) = basic(&ptntp);
    assert!(xdp > 0 && all == xdp, "{all} {xdp}");
}

#[test]
fn a_step_is_seen_in_the_next_reply() {
    a_step_is_seen("uring");
}

#[test]
fn a_step_of_the_one_thread_is_seen_in_the_next_reply() {
    a_step_is_seen("poll");
}

/// Rules, many of them when `wide`, that let 10.77.0.2 in and keep 10.77.0.3 out.
fn rules(wide: usize, last: &str) -> String {
    let mut text = open("xdp s0 prefixes 600\nrestrict 10.77.0.3 ignore");
    for n in 0..wide {
        // Each has a row of its own: hardly any two have the same hosts.
        let (second, third) = (100 + n / 256, n % 256);
        for host in [n % 251, n / 251] {
            text += &format!("restrict 10.{second}.{third}.{host} ignore\n");
        }
    }
    text + last
}

/// Between reloads nobody is lost and nobody slips in; then a new rule counts; and rules
/// that there is no room for are refused, and change nothing.
#[test]
fn rules_change_under_load() {
    let net = net!();
    let other = host_v4(0, 3);
    net.spoke().add_address("eth", "10.77.0.3/24");
    let ptntp = in_namespace(net.hub()).config(&rules(0, "")).start();
    let write = |text: &str| {
        ptntp.directory.write("ntp.conf", text);
        ptntp.tell(&["reload"])
    };
    let client = |from: IpAddr| Client::from(net.spoke(), (from, 0).into(), hub_v4(0));
    let (good, bad) = (client(spoke_v4(0)), client(other));
    assert!(wait_until(secs(5), || good.time().is_some()));
    let ended = AtomicBool::new(false);
    let (asked, lost, slipped) = std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let (mut asked, mut lost) = (0_u32, 0);
            while !ended.load(Ordering::Relaxed) {
                bad.send(&request(4, 3));
                asked += 1;
                lost += u32::from(good.time().is_none());
            }
            std::thread::sleep(Duration::from_millis(100));
            (asked, lost, bad.drain().len())
        });
        for round in 0..4 {
            let output = write(&rules(if round % 2 == 0 { 200 } else { 0 }, ""));
            assert!(output.status.success(), "{}", process::all(&output));
            std::thread::sleep(Duration::from_millis(400));
        }
        ended.store(true, Ordering::Relaxed);
        load.join().expect("it ends")
    });
    assert!(asked > 100, "{asked}");
    assert_eq!((lost, slipped), (0, 0), "of {asked}");
    let ignored = |metric| u64::from(asked) - count(&ptntp, metric, &[("verdict", "ignore")]);
    assert_eq!(ignored("ptntp_server_requests_total"), 0, "of {asked}");
    // Whoever comes while a word is published three times in a row goes to the sockets.
    assert!(ignored("ptntp_xdp_requests_total") < 10, "of {asked}");

    let before = basic(&ptntp);
    let output = write(&rules(12_000, "restrict 10.77.0.2 ignore\n"));
    assert_eq!(output.status.code(), Some(1));
    let said = process::all(&output);
    assert!(said.contains("`prefixes "), "{said}");
    std::thread::sleep(secs(2));
    assert!(good.time().is_some(), "nothing has changed");
    assert_eq!(basic(&ptntp), (before.0 + 1, before.1 + 1));

    assert!(
        write(&rules(0, "restrict 10.77.0.2 ignore\n"))
            .status
            .success()
    );
    assert!(
        wait_until(secs(5), || good.time().is_none()),
        "a rule that counts"
    );
    let before = basic(&ptntp);
    assert!(good.time().is_none());
    assert_eq!(basic(&ptntp), before);
    assert!(write(&rules(0, "")).status.success());
    assert!(wait_until(secs(5), || good.time().is_some()));
}

/// Somebody else's program is named and left alone, and the sockets answer; once it is
/// gone, ours takes the place. So it is with what `bpftool link detach` leaves.
#[test]
fn a_strangers_program_is_left_alone() {
    let net = net!();
    let stranger = match passing(net.hub(), "s0", Mode::Native) {
        Ok(link) => link,
        Err(why) => return common::require::skip(&why),
    };
    let ptntp = in_namespace(net.hub())
        .config(&open("xdp s0\nxdp lo"))
        .start();
    let why = problem(&ptntp, "s0").expect("a problem");
    assert!(
        why.contains("stranger") && why.contains("somebody else's"),
        "{why}"
    );
    let why = problem(&ptntp, "lo").expect("another");
    assert!(why.contains("mode generic"), "{why}");
    assert_eq!(net.program("s0").as_deref(), Some("stranger"));
    let said = "the sockets answer";
    assert!(
        ptntp.process.log().contains(said),
        "{}",
        ptntp.process.log()
    );
    let client = Client::new(net.spoke(), hub_v4(0));
    assert!(wait_until(secs(5), || client.time().is_some()));
    let (all, xdp) = basic(&ptntp);
    assert!(all > 0 && xdp == 0, "{all} {xdp}");

    drop(stranger);
    // Any news of links will do.
    net.hub().add_address("s0", "10.77.9.1/24");
    assert!(wait_until(secs(5), || net.is_ours("s0")));
    assert_eq!(problem(&ptntp, "s0"), None);
    client.time().expect("a reply");
    assert!(basic(&ptntp).1 > 0);
}

/// Killed at any moment it leaves nothing on the interface, and the next one starts as
/// the first did.
#[test]
fn a_killed_daemon_answers_nothing() {
    let net = net!();
    let mut ptntp = in_namespace(net.hub()).config(&open("xdp s0")).start();
    let client = Client::new(net.spoke(), hub_v4(0));
    assert!(wait_until(secs(5), || client.time().is_some()));
    for kill in [true, false] {
        if kill {
            ptntp.process.kill();
        } else {
            let status = ptntp.process.terminate(secs(10));
            assert!(status.is_some_and(|status| status.success()));
        }
        assert!(wait_until(secs(2), || net.program("s0").is_none()));
        assert!(client.time().is_none());
        ptntp.restart();
        assert!(net.is_ours("s0"));
        client.time().expect("a reply");
        assert!(basic(&ptntp).1 > 0);
    }
}

/// A daemon that hangs is not answered for: three seconds after its last word, no more.
fn a_hanging_daemon(backend: &str) {
    let net = net!();
    let mut ptntp = in_namespace(net.hub())
        .config(&open("xdp s0"))
        .args(&["--io", backend])
        .start();
    let client = Client::new(net.spoke(), hub_v4(0));
    assert!(wait_until(secs(5), || client.time().is_some()));
    ptntp.process.signal(Signal::SIGSTOP);
    let stopped = Instant::now();
    assert!(client.time().is_some(), "for a moment it still is");
    assert!(wait_until(secs(5), || client.time().is_none()));
    let until = stopped.elapsed();
    // Its last word came up to a second before; a question takes a third of one.
    assert!(
        until > Duration::from_millis(1800) && until < Duration::from_millis(3700),
        "{until:?}"
    );
    for _ in 0..3 {
        assert!(client.time().is_none());
    }
    ptntp.process.signal(Signal::SIGCONT);
    assert!(wait_until(secs(5), || {
        client.drain();
        let before = basic(&ptntp).1;
        client.time().is_some() && basic(&ptntp).1 > before
    }));
}

#[test]
fn a_hanging_daemon_falls_silent() {
    a_hanging_daemon("uring");
}

#[test]
fn a_hanging_thread_falls_silent() {
    a_hanging_daemon("poll");
}

/// An interface that comes later is taken when it comes, and again when it comes again;
/// an address that goes is ours no more.
fn comes_and_goes(backend: &str) {
    let net = net!();
    let ptntp = in_namespace(net.hub())
        .config(&open("xdp s0\nxdp late0"))
        .args(&["--io", backend])
        .start();
    let why = problem(&ptntp, "late0").expect("a problem");
    assert!(why.contains("when it comes"), "{why}");
    for _ in 0..2 {
        let name = net.spoke().name().to_owned();
        net.hub().ip(&format!(
            "link add late0 type veth peer name late1 netns {name}"
        ));
        net.hub().add_address("late0", "10.88.0.1/24");
        net.spoke().add_address("late1", "10.88.0.2/24");
        net.hub().ip("link set late0 up");
        net.spoke().ip("link set late1 up");
        let _far = passing(net.spoke(), "late1", Mode::Native).expect("as before");
        assert!(wait_until(secs(5), || net.is_ours("late0")));
        let client = Client::new(net.spoke(), [10, 88, 0, 1].into());
        let answered = || client.time().is_some() && basic(&ptntp).1 > 0;
        assert!(wait_until(secs(5), answered));
        net.hub().ip("link del late0");
    }
    assert!(wait_until(secs(5), || problem(&ptntp, "late0").is_some()));

    net.hub().add_address("s0", "10.77.0.7/24");
    let client = Client::new(net.spoke(), host_v4(0, 7));
    let by_xdp = || {
        let before = basic(&ptntp).1;
        client.time().is_some() && basic(&ptntp).1 > before
    };
    assert!(wait_until(secs(5), by_xdp));
    net.hub().ip("addr del 10.77.0.7/24 dev s0");
    assert!(wait_until(secs(5), || client.time().is_none()));
    // Down and up again it is still there.
    net.hub().ip("link set s0 down");
    net.hub().ip("link set s0 up");
    assert!(net.is_ours("s0"));
}

#[test]
fn interfaces_and_addresses_come_and_go() {
    comes_and_goes("uring");
}

#[test]
fn interfaces_and_addresses_come_and_go_by_poll() {
    comes_and_goes("poll");
}

/// Where routes never rest, an address that goes is noticed all the same.
#[test]
fn news_without_end_hides_no_address() {
    let net = net!();
    net.hub().add_address("s0", "10.77.0.7/24");
    let ptntp = in_namespace(net.hub()).config(&open("xdp s0")).start();
    let client = Client::new(net.spoke(), host_v4(0, 7));
    assert!(wait_until(secs(5), || client.time().is_some()));
    assert!(basic(&ptntp).1 > 0);
    let ended = AtomicBool::new(false);
    let silent = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                net.hub().ip("route replace 198.51.100.0/24 via 10.77.0.2");
                net.hub().ip("route del 198.51.100.0/24");
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        std::thread::sleep(Duration::from_millis(300));
        net.hub().ip("addr del 10.77.0.7/24 dev s0");
        let silent = wait_until(secs(5), || client.time().is_none());
        ended.store(true, Ordering::Relaxed);
        silent
    });
    assert!(silent, "it is no longer ours");
}

/// What a bridge does not take in, nobody answers.
#[test]
fn a_bridge_may_be_switched_off_or_not_yet_be_ready() {
    let net = net!();
    let hub = net.hub();
    hub.ip("addr flush dev s0");
    hub.ip("link add br0 type bridge");
    hub.ip("link set s0 master br0");
    hub.add_address("br0", "10.77.0.1/24");
    hub.ip("link set br0 up");
    let ptntp = in_namespace(hub).config(&open("xdp s0")).start();
    let client = Client::new(net.spoke(), hub_v4(0));
    let by_xdp = || {
        let before = basic(&ptntp).1;
        client.time().is_some() && basic(&ptntp).1 > before
    };
    assert!(wait_until(secs(5), by_xdp));
    hub.ip("link set br0 down");
    assert!(wait_until(secs(5), || client.time().is_none()));
    hub.ip("link set br0 up");
    assert!(wait_until(secs(5), by_xdp));
    // For half a minute it listens for other bridges first.
    hub.ip("link set br0 type bridge stp_state 1");
    hub.ip("link set s0 down");
    hub.ip("link set s0 up");
    assert!(wait_until(secs(5), || client.time().is_none()));
}

fn passed(ptntp: &Ptntp<'_>, reason: &str) -> u64 {
    count(ptntp, "ptntp_xdp_passed_total", &[("reason", reason)])
}

/// What is sent to another host is none of ours, though it is to our address. Which Ethernet
/// address is ours may change.
#[test]
fn frames_to_another_host_are_left_to_it() {
    let net = net!();
    let ptntp = in_namespace(net.hub()).config(&open("xdp s0")).start();
    let client = Client::new(net.spoke(), hub_v4(0));
    assert!(wait_until(secs(5), || client.time().is_some()));
    let send_to = |mac: &str| {
        let words = format!("neigh replace 10.77.0.1 lladdr {mac} dev eth nud permanent");
        net.spoke().ip(&words);
    };
    let by_xdp = || {
        let before = basic(&ptntp).1;
        client.time().is_some() && basic(&ptntp).1 == before + 1
    };
    let (old, new) = ("02:00:00:00:00:11", "02:00:00:00:00:12");
    for (ours, theirs) in [(old, new), (new, old)] {
        net.hub().ip(&format!("link set s0 address {ours}"));
        send_to(ours);
        assert!(wait_until(secs(5), by_xdp), "{ours}");
        send_to(theirs);
        let before = (basic(&ptntp), passed(&ptntp, "mac"));
        assert!(client.time().is_none(), "{theirs}");
        let after = (basic(&ptntp), passed(&ptntp, "mac"));
        assert_eq!(after, (before.0, before.1 + 1));
    }
}

/// Nobody out there can have our address, or the one that means the whole network.
#[test]
fn nobody_is_answered_at_an_address_that_no_host_can_have() {
    let net = net!();
    net.hub().ip("link set s0 address 02:00:00:00:00:01");
    let ptntp = in_namespace(net.hub()).config(&open("xdp s0")).start();
    let client = Client::new(net.spoke(), hub_v4(0));
    assert!(wait_until(secs(5), || client.time().is_some()));
    let mut ring = net
        .spoke()
        .inside(|| TransmitRing::open(net.spoke().index("eth"), 0).expect("AF_XDP"));
    let mut ask_from = |from: IpAddr| {
        let datagram = Datagram {
            from: (from, 123).into(),
            to: (hub_v4(0), 123).into(),
            vlan: None,
            payload: request(4, 3).to_vec(),
        };
        let frame = datagram.frame(Checksum::Right);
        ring.stage(|place| {
            place[..frame.len()].copy_from_slice(&frame);
            frame.len()
        });
        ring.flush().expect("sent");
    };
    let counts = || (basic(&ptntp).1, passed(&ptntp, "source"));
    let (answered, odd) = counts();
    ask_from(host_v4(0, 99));
    assert!(wait_until(secs(5), || counts() == (answered + 1, odd)));
    for host in [1, 255] {
        ask_from(host_v4(0, host));
    }
    assert!(wait_until(secs(5), || counts() == (answered + 1, odd + 2)));
    // An address that comes is known a moment later.
    net.hub().add_address("s0", "10.77.0.99/24");
    assert!(wait_until(secs(5), || {
        let before = counts();
        ask_from(host_v4(0, 99));
        assert!(wait_until(secs(5), || counts() != before));
        counts() == (before.0, before.1 + 1)
    }));
}

/// Every address is answered wherever it is asked for, by the Ethernet address there; and
/// one interface may go while the other stays.
#[test]
fn several_interfaces_are_answered_on() {
    let net = net!(2);
    let ptntp = in_namespace(net.hub())
        .config(&open("xdp s0\nxdp s1"))
        .start();
    let away = &net.star.spokes[1];
    away.ip("route add 10.77.0.0/24 via 10.77.1.1");
    let by_xdp = |client: &Client| {
        let before = basic(&ptntp).1;
        client.time().is_some() && basic(&ptntp).1 == before + 1
    };
    for (spoke, address) in [
        (net.spoke(), hub_v4(0)),
        (net.spoke(), hub_v6(0)),
        (away, hub_v4(1)),
        (away, hub_v6(1)),
        (away, hub_v4(0)),
    ] {
        let client = Client::new(spoke, address);
        assert!(wait_until(secs(5), || by_xdp(&client)), "{address}");
    }
    assert!(net.is_ours("s0") && net.is_ours("s1"));
    net.hub().ip("link del s1");
    assert!(wait_until(secs(5), || problem(&ptntp, "s1").is_some()));
    assert_eq!(problem(&ptntp, "s0"), None);
    assert!(by_xdp(&Client::new(net.spoke(), hub_v4(0))));
}

/// Without the rights it says so and the sockets answer. What `listen` leaves out is answered by
/// nobody.
#[test]
fn without_rights_the_sockets_answer() {
    let net = net!();
    let ptntp = in_namespace(net.hub())
        .config(&open("xdp s0"))
        .wrapper(&[
            "setpriv",
            "--bounding-set",
            "-sys_admin,-bpf",
            "--inh-caps",
            "-sys_admin,-bpf",
            "--",
        ])
        .start();
    let stat = ptntp.stat();
    let said = stat["degraded"].to_string();
    assert!(said.contains("CAP_BPF"), "{stat}");
    let client = Client::new(net.spoke(), hub_v4(0));
    assert!(wait_until(secs(5), || client.time().is_some()));
    assert_eq!(basic(&ptntp).1, 0);
    drop(ptntp);

    let ptntp = in_namespace(net.hub())
        .config(&open("xdp s0\nlisten 10.77.0.1"))
        .start();
    assert!(wait_until(secs(5), || client.time().is_some()));
    let by_xdp = basic(&ptntp).1;
    assert!(by_xdp > 0);
    let other = Client::new(net.spoke(), hub_v6(0));
    assert!(other.time().is_none(), "nobody is asked to answer there");
    assert_eq!(basic(&ptntp).1, by_xdp);
}

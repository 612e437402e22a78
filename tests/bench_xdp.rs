//! `ptntp bench --xdp` over veth, against a real chronyd and against a server that gets
//! everything wrong in turn: what it says is held against what is known to be true.

mod common;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use common::bench;
use common::frame::{Checksum, Datagram};
use common::net::{Namespace, Star, host_v4, hub_v4, hub_v6, spoke_v4, spoke_v6};
use common::peers::ChronyServer;
use common::process;
use common::ptntp::{BINARY, bench, bench_json as json, number, ptntp};
use common::{TempDir, secs, wait_until};
use ptntp::linux::frames::xdp::TransmitRing;
use ptntp::linux::priority;
use ptntp::linux::xdp::object::Object;
use ptntp::linux::xdp::{Link, Mode, PASS, Program};

/// What Debian 12 calls clang.
const CLANG: &str = "14.0.6";
const CLANG_FLAGS: [&str; 6] = ["-O2", "-g0", "-target", "bpf", "-mcpu=v3", "-c"];

#[test]
fn the_objects_are_what_clang_makes_of_their_sources() {
    let version = Command::new("clang").arg("--version").output();
    let version = version.map(|output| process::stdout(&output));
    if !version.is_ok_and(|text| text.contains(CLANG)) {
        return common::require::skip(&format!("needs clang {CLANG} (run tests/setup as root)"));
    }
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/");
    for name in [
        "src/load/xdp/generate",
        "src/load/xdp/receive",
        "bench/echo",
    ] {
        let directory = TempDir::new();
        let made = directory.path().join("made.o");
        let mut clang = Command::new("clang");
        clang.args(CLANG_FLAGS).arg(format!("{root}{name}.bpf.c"));
        assert!(clang.arg("-o").arg(&made).status().expect("run").success());
        let parse = |path: &std::path::Path| {
            Object::parse(&std::fs::read(path).expect("an object")).expect("one of ours")
        };
        let kept = parse(format!("{root}{name}.bpf.o").as_ref());
        assert!(parse(&made) == kept, "{name}.bpf.o is not of its source");
    }
}

/// A veth's far end takes frames of XDP only with a program of its own; none where we
/// may not load one.
fn pass(namespace: &Namespace, interface: &str) -> Result<Link, String> {
    common::require::root()?;
    let index = namespace.index(interface);
    let program = Program::assemble("pass", &PASS, "Dual MIT/GPL");
    match program {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            Err("may not load BPF programs".into())
        }
        program => {
            let program = program.expect("loaded");
            let link = namespace.inside(|| program.attach(index, Mode::Native));
            Ok(link.expect("attached"))
        }
    }
}

/// A generator takes a core whole: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns from the test, saying why, unless the hub's interface can have a program.
macro_rules! pass {
    ($star:expr) => {
        match pass(&$star.hub, "s0") {
            Ok(link) => (link, alone()),
            Err(why) => return common::require::skip(&why),
        }
    };
}

/// Options, and those that have it all go by XDP, in time whatever else the machine does.
fn by_xdp<'a>(args: &[&'a str]) -> Vec<&'a str> {
    [&["--xdp", "eth", "--realtime"], args].concat()
}

#[test]
fn a_real_server_is_asked_by_both_families_and_judged() {
    require!(root, peers);
    let star = Star::new(1);
    let _pass = pass!(star);
    let _chronyd = ChronyServer::start(&star.hub);
    star.hub
        .ip(&format!("route add 10.61.0.0/16 via {}", spoke_v4(0)));
    star.hub
        .ip(&format!("route add fd61::/64 via {}", spoke_v6(0)));
    let ways: [(IpAddr, &[&str]); 4] = [
        (hub_v4(0), &["--rate", "80"]),
        (hub_v6(0), &["--rate", "80", "--burst", "8"]),
        (
            hub_v4(0),
            &[
                "--rate",
                "80",
                "--sources",
                "10.61.0.0/16",
                "--ntp-version",
                "3",
            ],
        ),
        (
            hub_v6(0),
            &["--rate", "80", "--sources", "fd61::/64", "--clients", "7"],
        ),
    ];
    for (server, args) in ways {
        let args = [args, &["--duration", "500ms"]].concat();
        let report = json(&star.spokes[0], server, &by_xdp(&args));
        let result = &report["result"];
        // Few enough for a socket buffer, as others may have the cores meanwhile: each
        // frame takes a page of it, and there are some fifty.
        assert_eq!(number(result, "/sent"), 40.0, "{report}");
        assert_eq!(number(result, "/basic"), 40.0, "{report}");
        for (reason, count) in result["invalid"].as_object().expect("an object") {
            assert_eq!(count.as_f64(), Some(0.0), "{reason}: {report}");
        }
        assert_eq!(number(result, "/duplicates"), 0.0, "{report}");
        // One clock: what is around is the way alone, which is not negative.
        let way_us = number(result, "/stamps/receive/median_us");
        assert!((0.0..50_000.0).contains(&way_us), "{report}");
        let back_us = number(result, "/stamps/transmit_basic/median_us");
        assert!((0.0..50_000.0).contains(&back_us), "{report}");
        let p50_us = number(result, "/delay_us/p50");
        assert!(p50_us > 0.0 && p50_us < 500_000.0, "{report}");
    }
}

/// How many ways there are to answer.
const WAYS: usize = 12;

/// Answers the n-th request in the n-th way: what it returns is sent, once each.
fn answers(n: usize, request: &[u8; 48]) -> Vec<Vec<u8>> {
    let mut answer = [0; 48];
    answer[0] = request[0] & 0o70 | 4;
    answer[1] = 1;
    answer[24..32].copy_from_slice(&request[40..48]);
    answer[32..48].fill(0x77);
    match n % WAYS {
        0 => return vec![answer.into(), answer.into()],
        1 => answer[0] = request[0],
        2 => answer[0] = 0o54,
        3 => answer[31] ^= 1,
        4 | 5 => {
            let code = if n % WAYS == 4 { b"RATE" } else { b"NEVR" };
            answer[1] = 0;
            answer[12..16].copy_from_slice(code);
        }
        6 => answer[0] |= 0o300,
        7 => answer[1] = 16,
        8 => return vec![answer[..40].into()],
        9 => answer[32..40].fill(0),
        10 => return vec![],
        _ => {}
    }
    vec![answer.into()]
}

#[test]
fn every_kind_of_answer_is_told_from_the_others() {
    require!(root);
    let star = Star::new(1);
    let _pass = pass!(star);
    let socket = star.hub.udp((hub_v4(0), 123).into());
    let answer = |n: usize, request: &[u8; 48], from| {
        for answer in answers(n, request) {
            socket.send_to(&answer, from).expect("sent");
        }
    };
    let report = while_answering(&socket, answer, || {
        json(
            &star.spokes[0],
            hub_v4(0),
            &by_xdp(&["--rate", "36", "--duration", "1s"]),
        )
    });
    let result = &report["result"];
    let each = 36.0 / WAYS as f64;
    for (what, ways) in [
        ("/sent", WAYS as f64),
        ("/basic", 2.0),
        ("/duplicates", 1.0),
        ("/unsynchronised", 2.0),
        ("/kisses/RATE", 1.0),
        ("/kisses/NEVR", 1.0),
        ("/invalid/mode", 1.0),
        ("/invalid/version", 1.0),
        ("/invalid/origin", 1.0),
        ("/invalid/short", 1.0),
        ("/invalid/stamps", 1.0),
        ("/lost", 6.0),
    ] {
        assert_eq!(number(result, what), ways * each, "{what}: {report}");
    }
}

/// The n-th request that comes while `work` goes on is for `answer`.
fn while_answering<T>(
    socket: &UdpSocket,
    mut answer: impl FnMut(usize, &[u8; 48], SocketAddr) + Send,
    work: impl FnOnce() -> T,
) -> T {
    let patience = Some(Duration::from_millis(50));
    socket.set_read_timeout(patience).expect("a time limit");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut n, mut request) = (0, [0; 48]);
            while !stop.load(Ordering::Relaxed) {
                if let Ok((48, from)) = socket.recv_from(&mut request) {
                    answer(n, &request, from);
                    n += 1;
                }
            }
        });
        // However it ends.
        let result = catch_unwind(AssertUnwindSafe(work));
        stop.store(true, Ordering::Relaxed);
        result.unwrap_or_else(|panic| resume_unwind(panic))
    })
}

#[test]
fn it_leaves_nothing_behind_and_others_alone() {
    require!(root);
    let star = Star::new(1);
    let _pass = pass!(star);
    let from = &star.spokes[0];
    let attached = || {
        let index = from.index("eth");
        from.inside(|| ptntp::linux::xdp::attached(index))
            .expect("asked")
    };
    // Nobody answers; the way is known by ARP.
    let load = ["--rate", "1k", "--duration", "100ms", "--timeout", "100ms"];
    let output = bench(from, hub_v4(0), &by_xdp(&load));
    assert_eq!(output.status.code(), Some(1), "{}", process::all(&output));
    assert!(process::all(&output).contains("no answer from"));
    assert_eq!(attached(), None);

    let theirs = pass(from, "eth").expect("attached");
    let output = bench(from, hub_v4(0), &by_xdp(&load));
    let text = process::all(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("eth has program") && text.contains("(pass, native)"),
        "{text}"
    );
    assert!(attached().is_some());
    drop(theirs);

    for (server, args, said) in [
        (hub_v4(0), &["--xdp", "lo"][..], "the way to"),
        (
            hub_v4(0),
            &by_xdp(&["--threads", "64"])[..],
            "as many cores",
        ),
        // Nobody is there at all.
        (host_v4(0, 77), &by_xdp(&[])[..], "does not answer"),
    ] {
        let output = bench(from, server, args);
        let text = process::all(&output);
        assert!(matches!(output.status.code(), Some(1 | 2)), "{text}");
        assert!(text.contains(said), "{text}");
    }

    let mut command = process::command(Some(from), "setpriv");
    for set in ["--bounding-set", "--inh-caps"] {
        command.args([set, "-sys_admin,-bpf"]);
    }
    command.args([BINARY, "bench", &hub_v4(0).to_string(), "--xdp", "eth"]);
    let output = process::run(command, secs(20));
    let text = process::all(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("needs CAP_BPF"), "{text}");
}

#[test]
fn interrupted_it_tells_what_it_has() {
    require!(root, peers);
    let star = Star::new(1);
    let _pass = pass!(star);
    let _chronyd = ChronyServer::start(&star.hub);
    let load = ["--rate", "100", "--duration", "60s", "--timeout", "20s"];
    let load = by_xdp(&[&load[..], &["--json"]].concat());
    let from = &star.spokes[0];
    let (code, text) = bench::disturbed(from, hub_v4(0), &load, secs(3), bench::interrupt);
    assert_eq!(code, Some(130), "{text}");
    let report = bench::report(&text);
    assert!(number(&report, "/result/answered") > 100.0, "{report}");
    assert_eq!(number(&report, "/result/lost"), 0.0, "{report}");
    assert!(number(&report, "/result/length_s") < 30.0, "{report}");
}

/// The programs in the kernel would go on, and hold what is left of the interface.
#[test]
fn an_interface_that_goes_ends_it_with_the_result_so_far() {
    require!(root, peers);
    for change in ["link set eth down", "link del eth"] {
        let star = Star::new(1);
        let _pass = pass!(star);
        let _chronyd = ChronyServer::start(&star.hub);
        let load = by_xdp(&[
            "--rate",
            "100",
            "--duration",
            "60s",
            "--json",
            "--timeout",
            "20s",
        ]);
        let from = &star.spokes[0];
        let go = |_: &mut process::Process| from.ip(change);
        let (code, text) = bench::disturbed(from, hub_v4(0), &load, secs(3), go);
        bench::assert_ended_midway(code, &text);
    }
}

/// A real-time sender never sleeps, and for that the kernel would stop it for 50 ms of each
/// second: it is an ordinary thread for a part of each millisecond.
#[test]
fn real_time_senders_leave_their_core_now_and_then() {
    require!(root);
    let star = Star::new(1);
    let _pass = pass!(star);
    let load = by_xdp(&["--rate", "100", "--duration", "60s"]);
    let look = |running: &mut process::Process| {
        let mut once = BTreeSet::new();
        let both = wait_until(secs(20), || {
            let end = Instant::now() + Duration::from_millis(100);
            let mut found = false;
            while Instant::now() < end {
                for (thread, priority) in priorities(running.pid()) {
                    found |= priority == 0 && once.contains(&thread);
                    if priority == 1 {
                        once.insert(thread);
                    }
                }
            }
            found
        });
        bench::interrupt(running);
        assert!(both, "real-time at times: {once:?}");
    };
    let (code, text) = bench::disturbed(&star.spokes[0], hub_v4(0), &load, secs(1), look);
    assert_eq!(code, Some(130), "{text}");
}

/// The threads of a process, and the real-time priority of each.
fn priorities(pid: u32) -> Vec<(String, u32)> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("threads");
    let of_task = |path: PathBuf| {
        let stat = std::fs::read_to_string(path.join("stat")).ok()?;
        // The 40th field; the second, a name, may have spaces and ends with this.
        let priority = stat.rsplit_once(')')?.1.split(' ').nth(38)?;
        Some((path.display().to_string(), priority.parse().ok()?))
    };
    tasks
        .filter_map(|task| of_task(task.ok()?.path()))
        .collect()
}

#[test]
fn several_cores_share_the_clients() {
    require!(root, peers);
    if priority::cores().expect("cores").len() < 2 {
        return common::require::skip("needs two cores");
    }
    let star = Star::new(1);
    let _pass = pass!(star);
    let _chronyd = ChronyServer::start(&star.hub);
    star.hub
        .ip(&format!("route add 10.61.0.0/16 via {}", spoke_v4(0)));
    let load = ["--threads", "2", "--rate", "80", "--duration", "500ms"];
    let load = [&load[..], &["--sources", "10.61.0.0/16"]].concat();
    let report = json(&star.spokes[0], hub_v4(0), &by_xdp(&load));
    assert_eq!(number(&report, "/threads"), 2.0, "{report}");
    assert_eq!(number(&report, "/result/sent"), 40.0, "{report}");
    assert_eq!(number(&report, "/result/basic"), 40.0, "{report}");
    assert_eq!(number(&report, "/result/duplicates"), 0.0, "{report}");
}

/// Of each four answers one is right, one has no sum, one a partial one and one a wrong one,
/// as frames that no network stack has seen.
#[test]
fn answers_with_wrong_sums_are_told() {
    require!(root);
    let star = Star::new(1);
    let _pass = pass!(star);
    let sums = [
        Checksum::Right,
        Checksum::Wrong,
        Checksum::Zero,
        Checksum::Partial,
    ];
    // IPv6 may not do without.
    for (server, wrong) in [(hub_v4(0), 1.0), (hub_v6(0), 2.0)] {
        let socket = star.hub.udp((server, 123).into());
        let index = star.hub.index("s0");
        let ring = star.hub.inside(|| TransmitRing::open(index, 0));
        let mut ring = ring.expect("AF_XDP");
        let answer = |n: usize, request: &[u8; 48], from| {
            let datagram = Datagram {
                from: (server, 123).into(),
                to: from,
                vlan: None,
                payload: answers(WAYS - 1, request).concat(),
            };
            let frame = datagram.frame(sums[n % sums.len()]);
            assert!(ring.has_room());
            ring.stage(|place| {
                place[..frame.len()].copy_from_slice(&frame);
                frame.len()
            });
            ring.flush().expect("sent");
        };
        let report = while_answering(&socket, answer, || {
            let load = by_xdp(&["--rate", "80", "--duration", "500ms"]);
            json(&star.spokes[0], server, &load)
        });
        let result = &report["result"];
        assert_eq!(number(result, "/sent"), 40.0, "{report}");
        assert_eq!(
            number(result, "/invalid/checksum"),
            10.0 * wrong,
            "{report}"
        );
        assert_eq!(number(result, "/basic"), 10.0 * (4.0 - wrong), "{report}");
        assert_eq!(number(result, "/lost"), 10.0 * wrong, "{report}");
    }
}

#[test]
fn the_generator_knows_its_ceiling() {
    if let Err(why) = common::require::root() {
        return common::require::skip(&why);
    }
    let _alone = alone();
    let text = process::all(&ptntp(&["bench", "--self-test", "--xdp", "lo"]));
    if text.contains("CAP_BPF") {
        return common::require::skip("may not load BPF programs");
    }
    assert!(text.contains("requests/s by XDP"), "{text}");
}

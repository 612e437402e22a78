//! `--io poll` runs inside clock simulators: one thread, ordinary libc symbols,
//! nothing newer than poll. Shown by strace, and by a small LD_PRELOAD shim that
//! moves the clock and with it ptntp's.

mod common;

use std::collections::BTreeSet;
use std::process::Command;

use common::net::{Star, hub_v4};
use common::ntp::Client;
use common::peers::ChronyServer;
use common::ptntp::in_namespace;
use common::{TempDir, secs, wait_for, wait_until};

/// What no simulator offers (and what starts a thread).
const FORBIDDEN: [&str; 12] = [
    "epoll_", "eventfd", "signalfd", "ppoll", "accept4", "sendmmsg", "recvmmsg", "io_uring",
    "clone", "fork", "vfork", "timerfd",
];

const CONFIG: &str = "\
    driftfile @DIR@/drift\n\
    restrict default\n\
    server 10.77.0.2 iburst minpoll 1 maxpoll 2\n";

/// Names of the system calls in a log of `strace -f`, after the last execve.
fn calls(log: &str) -> BTreeSet<String> {
    let start = log.rfind("execve(").unwrap_or(0);
    log[start..]
        .lines()
        .filter_map(|line| {
            // 1234  poll([{fd=3, events=POLLIN}], 1, 1000) = 0
            let (before, _) = line.split_once('(')?;
            Some(before.rsplit(' ').next()?.to_owned())
        })
        .filter(|name| name.starts_with(|c: char| c.is_ascii_lowercase()))
        .collect()
}

#[test]
fn system_calls_are_those_simulators_know() {
    require!(root, peers, strace);
    let star = Star::new(2);
    let _server = ChronyServer::start(&star.spokes[0]);
    let directory = TempDir::new();
    let trace = directory.path().join("trace");
    let trace_arg = trace.to_str().expect("UTF-8");
    // The traced program ends with strace, which our signals reach.
    let mut ptntp = in_namespace(&star.hub)
        .config(CONFIG)
        .args(&["--io", "poll"])
        .wrapper(&[
            "strace",
            "-f",
            "-qq",
            "-s",
            "0",
            "-o",
            trace_arg,
            "setpriv",
            "--pdeathsig",
            "KILL",
            "--",
        ])
        .start();
    // All it can do: synchronise, serve, answer the control socket and a scrape, write files.
    assert!(
        wait_until(secs(60), || ptntp.sync()),
        "not synchronised: {}",
        ptntp.stat()
    );
    let client = Client::new(&star.spokes[1], hub_v4(1));
    assert!(client.time().is_some(), "not served");
    ptntp.scrape();
    ptntp.sources();
    star.hub.ip("addr add 10.99.0.1/24 dev lo");
    std::thread::sleep(secs(3));
    let traced = child_of(ptntp.process.pid()).expect("strace has a child");
    nix::sys::signal::kill(traced, nix::sys::signal::Signal::SIGTERM).expect("signal it");
    assert!(
        wait_until(secs(10), || ptntp.process.ended().is_some()),
        "SIGTERM does not end it"
    );

    let log = String::from_utf8_lossy(&std::fs::read(&trace).expect("a trace")).into_owned();
    let calls = calls(&log);
    assert!(calls.contains("poll"), "{calls:?}");
    let found: Vec<&String> = calls
        .iter()
        .filter(|call| FORBIDDEN.iter().any(|f| call.starts_with(f)))
        .collect();
    assert!(found.is_empty(), "{found:?} among {calls:?}");
}

/// Own addresses with sockets of their own leave descriptors for the rest.
#[test]
fn many_addresses_leave_descriptors_for_the_rest() {
    require!(root);
    let star = Star::new(1);
    for host in 1..=60 {
        star.hub.ip(&format!("addr add 10.99.0.{host}/32 dev lo"));
    }
    let ptntp = in_namespace(&star.hub)
        .config("server 127.127.1.0\nrestrict default\n")
        .wrapper(&["prlimit", "--nofile=256:256", "--"])
        .start();
    let client = Client::new(&star.spokes[0], hub_v4(0));
    assert!(client.time().is_some(), "not served");
    std::thread::sleep(secs(1));
    let open = std::fs::read_dir(format!("/proc/{}/fd", ptntp.process.pid()));
    let open = open.expect("it runs").count();
    assert!(open < 230, "{open} of 256 are in use");
    ptntp.scrape();
}

fn child_of(pid: u32) -> Option<nix::unistd::Pid> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    let child = children.split_whitespace().next()?.parse().ok()?;
    Some(nix::unistd::Pid::from_raw(child))
}

#[test]
fn poll_has_one_thread() {
    require!(root);
    let star = Star::new(0);
    let ptntp = in_namespace(&star.hub)
        .config(CONFIG)
        .args(&["--io", "poll"])
        .start();
    std::thread::sleep(secs(2));
    assert_eq!(ptntp.process.status("Threads"), Some(1));
}

/// Compiles the shim.
fn shim(directory: &TempDir) -> String {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/shift.c");
    let library = directory.path().join("shift.so");
    let output = Command::new("gcc")
        .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
        .arg(&library)
        .args([source, "-ldl"])
        .output()
        .expect("run gcc");
    assert!(output.status.success(), "{output:?}");
    library.to_str().expect("UTF-8").to_owned()
}

/// The shim's clock is 5.25 s ahead or behind: so says ptntp, measuring a real
/// server, and so it serves.
#[test]
fn shim_that_moves_the_clock_moves_ours() {
    require!(root, peers, gcc);
    let directory = TempDir::new();
    let library = shim(&directory);
    let star = Star::new(2);
    let _server = ChronyServer::start(&star.spokes[0]);
    for shift_s in [5.25, -5.25] {
        let ptntp = in_namespace(&star.hub)
            .clock("none")
            .config(CONFIG)
            .args(&["--io", "poll"])
            .env("LD_PRELOAD", &library)
            .env("SHIFT_S", &shift_s.to_string())
            .start();
        let offset = wait_for(secs(30), || ptntp.sources()[0]["offset_s"].as_f64());
        let offset = offset.expect("an offset is measured");
        // A clock ahead of its source has a negative offset.
        assert!((offset + shift_s).abs() < 0.005, "{shift_s} s: {offset}");
        let client = Client::new(&star.spokes[1], hub_v4(1));
        let reply = client.time().expect("a reply");
        assert!((reply.offset_s() - shift_s).abs() < 0.01, "{reply:?}");
    }
}

//! The server at its limits: real clients in interleaved mode, more clients than it can
//! remember, and more requests than it can answer.

mod common;

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ::ptntp::linux::frames::{Frames, ring::Wanted};
use ::ptntp::linux::route;
use ::ptntp::load::frame::Template;
use common::net::{Namespace, Star, host_v4, hub_v4, spoke_v4};
use common::ntp::{Client, request};
use common::peers::{ChronyServer, MUTE, chronyd};
use common::process;
use common::ptntp::{Ptntp, in_namespace};
use common::{TempDir, secs, wait_until};
use serde_json::Value;

/// Requests of this verdict so far.
fn verdicts(ptntp: &Ptntp, verdict: &str) -> f64 {
    let labels = [("verdict", verdict)];
    let scrape = ptntp.scrape();
    scrape
        .sum("ptntp_server_requests_total", &labels)
        .unwrap_or(0.0)
}

/// What `ptntp bench --json` says of a server.
fn bench(from: &Namespace, server: IpAddr, args: &[&str]) -> Value {
    let output = common::ptntp::bench(from, server, &[&["--json"], args].concat());
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", process::all(&output)))
}

fn number(report: &Value, name: &str) -> f64 {
    let number = report["result"][name].as_f64();
    number.unwrap_or_else(|| panic!("no {name} in {report}"))
}

/// chronyd as a client stays in interleaved mode and believes what it is told.
#[test]
fn chronyd_asks_in_interleaved_mode() {
    require!(root, peers);
    let star = Star::new(1);
    let ptntp = in_namespace(&star.hub)
        .clock("virtual:0,0")
        .config("server 127.127.1.0\nlisten everywhere\nrestrict default\n")
        .start();
    assert!(wait_until(secs(30), || ptntp.sync()));

    let directory = TempDir::new();
    let config = format!(
        "server {} minpoll -1 maxpoll -1 xleave\n{MUTE}logdir @DIR@\nlog rawmeasurements\n",
        hub_v4(0)
    );
    let chronyd = chronyd(&star.spokes[0], &directory, &config);

    assert!(
        wait_until(secs(60), || verdicts(&ptntp, "interleaved") >= 20.0),
        "chronyd: {}",
        chronyd.log()
    );
    // Date, time, address, ..., and in the end its mode: a client's (4I) by interleaving.
    let log = std::fs::read_to_string(directory.path().join("measurements.log")).expect("a log");
    let samples: Vec<&str> = log.lines().filter(|l| l.contains(" 10.77.0.1 ")).collect();
    let interleaved: Vec<&&str> = samples.iter().filter(|l| l.contains(" 4I ")).collect();
    assert!(interleaved.len() >= 15, "{log}");
    // Three sets of tests passed: 111 111 1111.
    let good = interleaved.iter().filter(|l| l.contains(" 111 111 "));
    assert!(good.count() * 10 >= interleaved.len() * 9, "{log}");
}

/// More requests than a core can answer: time is kept, the control socket answers, and
/// when the flood ends everybody is served at once.
#[test]
fn an_overload_passes_without_a_trace() {
    require!(root, peers);
    let star = Star::new(2);
    let _server = ChronyServer::start(&star.spokes[0]);
    let config = format!(
        "server {} iburst minpoll 1 maxpoll 1\nlisten everywhere\nrestrict default\n",
        spoke_v4(0)
    );
    let ptntp = in_namespace(&star.hub).config(&config).start();
    assert!(wait_until(secs(30), || ptntp.sync()));
    star.hub
        .ip(&format!("route add 10.1.0.0/18 via {}", spoke_v4(1)));

    let bench = |args: &[&str]| {
        let args = [&["--sources", "10.1.0.0/18"], args].concat();
        bench(&star.spokes[1], hub_v4(1), &args)
    };
    let answered = |report: &Value| number(report, "answered");

    let samples = || ptntp.sources()[0]["reach"].clone();
    let flood = std::thread::scope(|scope| {
        let flood = scope.spawn(|| bench(&["--rate", "1M", "--duration", "6s"]));
        let mut asked = 0;
        while !flood.is_finished() {
            assert!(ptntp.sync(), "{}", ptntp.stat());
            asked += 1;
            std::thread::sleep(Duration::from_millis(500));
        }
        assert!(asked >= 3, "the control socket answered {asked} times");
        flood.join().expect("the flood's thread")
    });
    assert!(answered(&flood) > 0.0, "{flood}");
    assert!(number(&flood, "loss") > 0.1, "no overload: {flood}");
    assert!(
        wait_until(secs(20), || samples() != 0),
        "the source was lost: {:?}",
        ptntp.sources()
    );
    // At once: nothing of the flood is left to be worked off.
    let after = bench(&["--closed", "1", "--duration", "1s"]);
    assert_eq!(after["result"]["lost"], 0, "{after}");
    assert!(answered(&after) > 100.0, "{after}");
    assert!(
        ptntp.true_error_s().abs() < common::GOOD_S * 10.0,
        "{}",
        ptntp.stat()
    );
}

/// Requests in interleaved mode from addresses of 10.1.0.0/16, each in the name of
/// somebody else, and each with a T2 that the server never sent; a thousand each tenth of
/// a second, for `length`.
fn spoofed_flood(from: &Namespace, server: IpAddr, length: Duration) {
    from.inside(|| {
        let server = (server, 123).into();
        let way = route::find(server).expect("a way to the server");
        // No answer comes back here.
        let nothing = Wanted {
            from: way.source.expect("an address of our own"),
            from_port: 1,
            to_first: 1,
            to_last: 1,
        };
        let mut frames = Frames::open(way.interface, 0, &nothing, 1).expect("raw frames");
        let template = Template::new(way.ours, way.next_hop, server);
        let mut packet = request(4, 3);
        let start = Instant::now();
        let mut sent = 0_u32;
        while start.elapsed() < length {
            for _ in 0..1000 {
                sent += 1;
                // Odd, as T2 are; and a client's own two stamps differ.
                packet[24..32].copy_from_slice(&(u64::from(sent) << 32 | 1).to_be_bytes());
                let [_, _, high, low] = sent.wrapping_mul(40_503).to_be_bytes();
                let address = IpAddr::from([10, 1, high, low]);
                if !frames.has_room() {
                    frames.flush().expect("to send");
                }
                frames.stage(None, |out| template.write(address, 123, &packet, out));
            }
            frames.flush().expect("to send");
            std::thread::sleep(Duration::from_millis(100));
        }
    });
}

/// Whoever is served in interleaved mode stays, whatever else asks for it: strangers in
/// the names of others, and then a crowd that answers can reach.
#[test]
fn a_crowd_pushes_out_nobody_who_is_served() {
    require!(root);
    let star = Star::new(2);
    let ptntp = in_namespace(&star.hub)
        .clock("virtual:0,0")
        .config(
            "server 127.127.1.0\nlisten everywhere\nrestrict default\nclients interleaved 1000\n",
        )
        .start();
    assert!(wait_until(secs(30), || ptntp.sync()));
    for sources in ["10.1.0.0/16", "10.2.0.0/17"] {
        star.hub
            .ip(&format!("route add {sources} via {}", spoke_v4(1)));
    }
    let (near, far) = (&star.spokes[0], &star.spokes[1]);

    // Twice a second each; the floods fill the table in a fraction of that.
    let regular = ["--interleaved", "--ports", "8", "--rate", "16"];
    let report = std::thread::scope(|scope| {
        let args = [&regular[..], &["--duration", "14s"]].concat();
        let regulars = scope.spawn(move || bench(near, hub_v4(0), &args));
        let interleaved = || verdicts(&ptntp, "interleaved");
        assert!(wait_until(secs(20), || interleaved() >= 24.0));
        let (before, asked) = (interleaved(), verdicts(&ptntp, "basic"));
        spoofed_flood(far, hub_v4(1), secs(4));
        // Nobody of them knew a T2 of ours.
        let strangers = verdicts(&ptntp, "basic") - asked;
        assert!(strangers > 3000.0, "{strangers} are no flood");
        let meanwhile = interleaved() - before;
        assert!(meanwhile < 200.0, "{meanwhile}");
        let crowd = ["--interleaved", "--sources", "10.2.0.0/17"];
        let load = ["--rate", "8k", "--clients", "16384", "--duration", "4s"];
        bench(far, hub_v4(1), &[&crowd[..], &load[..]].concat());
        regulars.join().expect("the regulars' thread")
    });
    // Two requests of each come too early, and what was lost can't be interleaved.
    let asked = number(&report, "asked_interleaved") * (1.0 - number(&report, "loss"));
    assert!(asked > 100.0, "{report}");
    assert!(
        number(&report, "interleaved") >= 0.8 * (asked - 8.0),
        "{report}"
    );
}

/// So many requests were sent and answered.
#[derive(Clone, Copy, Default)]
struct Share {
    asked: u32,
    answered: u32,
}

impl Share {
    fn answered(self) -> f64 {
        f64::from(self.answered) / f64::from(self.asked.max(1))
    }
}

/// Each asks some hundred times a second until `stop`; nobody always comes first.
fn ask_in_turn(clients: &[Client], stop: &AtomicBool) -> Vec<Share> {
    let mut shares = vec![Share::default(); clients.len()];
    let mut first = 0;
    let start = Instant::now();
    while !stop.load(Ordering::Relaxed) && start.elapsed() < secs(60) {
        first += 1;
        for n in 0..clients.len() {
            let n = (first + n) % clients.len();
            clients[n].send(&request(4, 3));
            shares[n].asked += 1;
            // Apart, so that they are not all lost together.
            std::thread::sleep(Duration::from_micros(500));
        }
        for (client, share) in clients.iter().zip(&mut shares) {
            share.answered += client.drain().len() as u32;
        }
    }
    shares
}

/// More requests than a worker can answer: all of its clients lose about alike, the
/// control socket answers, and after it everybody is served.
#[test]
fn an_overload_is_shared_evenly() {
    require!(root);
    let star = Star::new(2);
    let ptntp = in_namespace(&star.hub)
        .clock("virtual:0,0")
        .config("server 127.127.1.0\nlisten everywhere\nrestrict default\n")
        // One core, one worker.
        .wrapper(&["taskset", "-c", "1"])
        .start();
    assert!(wait_until(secs(30), || ptntp.sync()));
    star.hub
        .ip(&format!("route add 10.1.0.0/18 via {}", spoke_v4(1)));
    // Each address of the server has a socket of its own: all ask the same one.
    let asked = hub_v4(1);
    star.spokes[0].ip(&format!("route add {asked} via {}", hub_v4(0)));
    let clients: Vec<Client> = (0..16)
        .map(|n| {
            let address = host_v4(0, 100 + n);
            star.spokes[0].add_address("eth", &format!("{address}/24"));
            Client::from(&star.spokes[0], (address, 0).into(), asked)
        })
        .collect();
    let flood = |load: &[&str]| {
        let args = [&["--sources", "10.1.0.0/18"], load].concat();
        bench(&star.spokes[1], asked, &args)
    };

    let capacity = number(
        &flood(&["--closed", "64", "--duration", "1s"]),
        "answered_per_s",
    );
    assert!(capacity > 100.0, "{capacity}");
    // What is twice as much as it can depends on who else has the cores.
    let mut rate = 2.0 * capacity;
    let mut shares = loop {
        let stop = AtomicBool::new(false);
        let (report, shares) = std::thread::scope(|scope| {
            let asking = scope.spawn(|| ask_in_turn(&clients, &stop));
            let rate = format!("{rate:.0}");
            let flooding = scope.spawn(move || flood(&["--rate", &rate, "--duration", "4s"]));
            let mut told = 0;
            while !flooding.is_finished() {
                assert!(ptntp.sync(), "{}", ptntp.stat());
                told += 1;
                std::thread::sleep(Duration::from_millis(500));
            }
            assert!(told >= 3, "the control socket answered {told} times");
            let report = flooding.join().expect("the flood's thread");
            stop.store(true, Ordering::Relaxed);
            (report, asking.join().expect("the clients' thread"))
        });
        assert!(number(&report, "answered") > 0.0, "{report}");
        let sum = |of: fn(&Share) -> u32| shares.iter().map(of).sum::<u32>();
        let all = Share {
            asked: sum(|share| share.asked),
            answered: sum(|share| share.answered),
        };
        if all.answered() < 0.8 {
            break shares;
        }
        rate *= 2.0;
        assert!(rate < 1e7, "no overload: {report}");
    };
    let told: Vec<String> = shares
        .iter()
        .map(|s| format!("{}/{}", s.answered, s.asked))
        .collect();
    shares.sort_by(|a, b| a.answered().total_cmp(&b.answered()));
    let (tenth, ninetieth) = (shares[1].answered(), shares[14].answered());
    assert!(tenth >= 0.5 * ninetieth && ninetieth > 0.0, "{told:?}");

    // At once.
    for client in &clients {
        assert!(client.time().or_else(|| client.time()).is_some());
    }
}

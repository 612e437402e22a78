//! The server at its limits: real clients in interleaved mode, and more requests than
//! it can answer.

mod common;

use common::net::{Star, hub_v4, spoke_v4};
use common::peers::{self, ChronyServer};
use common::process::{self, Process};
use common::ptntp::{BINARY, Ptntp, in_namespace};
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
    let path = directory.path().display().to_string();
    let config = directory.write(
        "chrony.conf",
        format!(
            "server {} minpoll -1 maxpoll -1 xleave\nuser root\npidfile {path}/pid\ncmdport 0\n\
             bindcmdaddress /\nlogdir {path}\nlog rawmeasurements\n",
            hub_v4(0)
        ),
    );
    let program = peers::root().join("usr/sbin/chronyd");
    let mut command = process::command(Some(&star.spokes[0]), program);
    command.args(["-d", "-x", "-f"]).arg(config);
    let chronyd = Process::start("chronyd", command, &directory.path().join("log"));

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

    let bench = |args: &[&str]| -> Value {
        let mut command = process::command(Some(&star.spokes[1]), BINARY);
        command.args(["bench", &hub_v4(1).to_string(), "--json"]);
        command.args(["--sources", "10.1.0.0/18"]).args(args);
        let output = process::run(command, secs(60));
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{}", process::all(&output)))
    };
    let answered = |report: &Value| report["result"]["answered"].as_f64().expect("a number");

    let samples = || ptntp.sources()[0]["reach"].clone();
    let flood = std::thread::scope(|scope| {
        let flood = scope.spawn(|| bench(&["--rate", "1M", "--duration", "6s"]));
        let mut asked = 0;
        while !flood.is_finished() {
            assert!(ptntp.sync(), "{}", ptntp.stat());
            asked += 1;
            std::thread::sleep(std::time::Duration::from_millis(500));
        }
        assert!(asked >= 3, "the control socket answered {asked} times");
        flood.join().expect("the flood's thread")
    });
    assert!(answered(&flood) > 0.0, "{flood}");
    let loss = flood["result"]["loss"].as_f64().expect("a number");
    assert!(loss > 0.1, "no overload: {flood}");
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

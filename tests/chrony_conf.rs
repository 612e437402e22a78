//! What lines of chrony.conf do, as seen from outside: by clients, by the clock, by those
//! who ask the daemon. The spokes' servers are real chronyds that serve this machine's time.

mod common;

use common::net::{Star, hub_v4, spoke_v4};
use common::ntp::{Client, request};
use common::peers::ChronyServer;
use common::process::{all, stdout};
use common::ptntp::{Ptntp, in_namespace};
use common::{secs, wait_until};

/// A daemon in the hub with this chrony.conf, on a clock ahead by 0.3 s.
fn start<'a>(star: &'a Star, config: &str, clock: &'a str) -> Ptntp<'a> {
    in_namespace(&star.hub)
        .clock(clock)
        .config(config)
        .args(&["--dialect", "chrony"])
        .start()
}

#[test]
fn without_allow_no_port_is_open() {
    require!(root);
    let star = Star::new(1);
    let ptntp = start(&star, "local stratum 5\n", "none");
    assert_eq!(ptntp.stat()["serving"].as_array().map(Vec::len), Some(0));
    // Nobody listens, so there is not even silence, but an error.
    assert!(Client::new(&star.spokes[0], hub_v4(0)).time().is_none());
}

#[test]
fn bindaddress_answers_there_alone() {
    require!(root);
    let star = Star::new(2);
    let config = format!("local\nallow\nbindaddress {}\n", hub_v4(0));
    let ptntp = start(&star, &config, "none");
    let client = Client::new(&star.spokes[0], hub_v4(0));
    assert!(
        wait_until(secs(30), || client.time().is_some()),
        "{}",
        ptntp.stat()
    );
    assert!(Client::new(&star.spokes[1], hub_v4(1)).time().is_none());
}

#[test]
fn ratelimit_answers_a_burst_and_a_few_by_chance() {
    require!(root);
    let star = Star::new(1);
    let config = "local stratum 4\nallow\nratelimit interval 6 burst 8 leak 4 kod 2\nport 1123\n";
    let ptntp = start(&star, config, "none");
    let socket = star.spokes[0].udp((spoke_v4(0), 0).into());
    socket.set_read_timeout(Some(secs(1))).expect("a timeout");
    let to = std::net::SocketAddr::new(hub_v4(0), 1123);
    let (mut answers, mut kisses) = (0, 0);
    for _ in 0..200 {
        socket.send_to(&request(4, 3), to).expect("room");
    }
    let mut buffer = [0; 512];
    while let Ok(length) = socket.recv(&mut buffer) {
        assert_eq!(length, 48);
        if buffer[1] == 0 && &buffer[12..16] == b"RATE" {
            kisses += 1;
        } else {
            answers += 1;
        }
    }
    assert!((8..=40).contains(&answers), "{answers}: {}", ptntp.stat());
    assert!((20..=80).contains(&kisses), "{kisses}");
}

#[test]
fn the_clock_is_stepped_only_with_makestep() {
    require!(root, peers);
    let star = Star::new(1);
    let _server = ChronyServer::start(&star.spokes[0]);
    let source = format!("server {} iburst maxpoll 6\n", spoke_v4(0));
    {
        let ptntp = start(&star, &source, "virtual:0.3,0");
        assert!(wait_until(secs(30), || ptntp.sync()), "{}", ptntp.stat());
        std::thread::sleep(secs(3));
        assert_eq!(ptntp.stat()["steps"], 0);
        assert!(ptntp.true_error_s().abs() > 0.2, "{}", ptntp.true_error_s());
    }
    let star = Star::new(1);
    let _server = ChronyServer::start(&star.spokes[0]);
    let ptntp = start(&star, &format!("{source}makestep 0.1 3\n"), "virtual:0.3,0");
    let right = || ptntp.sync() && ptntp.true_error_s().abs() < 0.01;
    assert!(wait_until(secs(30), right), "{}", ptntp.stat());
    assert_eq!(ptntp.stat()["steps"], 1);
}

/// chrony writes what the clock gains; the correction is the opposite.
#[test]
fn the_drift_file_has_chronys_sign() {
    require!(root);
    let star = Star::new(1);
    let setup = in_namespace(&star.hub);
    setup
        .directory()
        .write("drift", "           50.000000             0.010000\n");
    let ptntp = setup
        .clock("virtual:0,50")
        .config("server 192.0.2.1\ndriftfile @DIR@/drift\n")
        .args(&["--dialect", "chrony"])
        .start();
    let frequency = ptntp.stat()["frequency_ppm"].as_f64().expect("a number");
    assert!((frequency + 50.0).abs() < 0.01, "{frequency}");
}

#[test]
fn offset_and_maxdistance_count() {
    require!(root, peers);
    let star = Star::new(1);
    let _server = ChronyServer::start(&star.spokes[0]);
    let line = format!("server {} iburst offset 0.05\n", spoke_v4(0));
    {
        let ptntp = start(&star, &line, "none");
        assert!(wait_until(secs(30), || ptntp.sync()), "{}", ptntp.stat());
        let offset = ptntp.sources()[0]["offset_s"].as_f64().expect("a number");
        assert!((offset - 0.05).abs() < 0.005, "{offset}");
    }
    let star = Star::new(1);
    let _server = ChronyServer::start(&star.spokes[0]);
    let ptntp = start(&star, &format!("{line}maxdistance 1e-9\n"), "none");
    let measured = || ptntp.sources()[0]["offset_s"].as_f64().is_some();
    assert!(wait_until(secs(30), measured), "{}", ptntp.stat());
    std::thread::sleep(secs(3));
    assert!(!ptntp.sync(), "too far");
}

#[test]
fn sourcedir_is_read_again_by_reload() {
    require!(root);
    let star = Star::new(1);
    let setup = in_namespace(&star.hub);
    std::fs::create_dir(setup.directory().path().join("sources")).expect("our directory");
    let ptntp = setup
        .clock("none")
        .config("server 192.0.2.1\nsourcedir @DIR@/sources\n")
        .args(&["--dialect", "chrony"])
        .start();
    let file = ptntp.directory.path().join("sources/dhcp.sources");
    std::fs::write(file, "server 192.0.2.2 iburst\n").expect("our directory");
    let output = ptntp.tell(&["reload"]);
    assert_eq!(output.status.code(), Some(0), "{}", all(&output));
    let peers = stdout(&ptntp.tell(&["peers", "--json"]));
    assert!(
        peers.contains("192.0.2.1") && peers.contains("192.0.2.2"),
        "{peers}"
    );
}

//! Killed and restarted: the drift file is whole, ports are free, sockets are
//! cleaned up. A drift file that is damaged or absent is survived.

mod common;

use std::path::Path;

use common::net::{Star, hub_v4};
use common::ntp::Client;
use common::peers::ChronyServer;
use common::ptntp::in_namespace;
use common::{GOOD_S, Random, secs, wait_until};

const SERVER: &str = "\
    driftfile @DIR@/drift\n\
    restrict default\n\
    server 10.77.0.2 iburst minpoll 1 maxpoll 3\n";

/// The number in a drift file, in ppm.
fn drift(path: &Path) -> Option<f64> {
    let text = std::fs::read_to_string(path).ok()?;
    text.split_whitespace().next()?.parse().ok()
}

/// At SIGTERM the frequency is kept; after kill -9 at any moment the file is
/// whole, and the same port, control socket and metrics address work at once.
fn killed_and_restarted(backend: &str) {
    let star = Star::new(1);
    let _server = ChronyServer::start(&star.spokes[0]);
    let mut ptntp = in_namespace(&star.hub)
        .config(SERVER)
        .args(&["--io", backend])
        .start();
    ptntp
        .settles(GOOD_S, secs(60), secs(10))
        .expect("converges");
    let path = ptntp.directory.path().join("drift");
    let status = ptntp.process.terminate(secs(10));
    assert!(
        status.is_some_and(|s| s.success()),
        "SIGTERM ends it well: {status:?}"
    );
    assert!(!ptntp.control().exists(), "the control socket is left");
    let kept = drift(&path).expect("a drift file after SIGTERM");
    assert!(
        (25.0..75.0).contains(&kept.abs()),
        "50 ppm are kept as {kept}"
    );

    let client = Client::new(&star.spokes[0], hub_v4(0));
    let mut random = Random::unforeseen();
    for round in 0..8 {
        ptntp.restart();
        if round == 7 {
            break;
        }
        let life = u64::try_from(random.below(1500)).expect("small");
        std::thread::sleep(std::time::Duration::from_millis(life));
        ptntp.process.kill();
        let now = drift(&path).expect("a whole drift file after kill -9");
        assert!((now - kept).abs() < 30.0, "{kept} became {now}");
    }
    assert!(
        wait_until(secs(15), || client.time().is_some_and(|r| r.leap != 3)),
        "serves no more"
    );
    ptntp.scrape();
    assert_eq!(ptntp.tell(&["peers"]).status.code(), Some(0));
    let left: Vec<_> = std::fs::read_dir(ptntp.directory.path())
        .expect("its directory")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    assert!(left.len() <= 6, "files pile up: {left:?}");
}

#[test]
fn killed_and_restarted_with_uring() {
    require!(root, peers);
    killed_and_restarted("uring");
}

#[test]
fn killed_and_restarted_with_poll() {
    require!(root, peers);
    killed_and_restarted("poll");
}

#[test]
fn damaged_drift_files_are_survived() {
    require!(root);
    let damage: [(&str, &[u8]); 6] = [
        ("empty", b""),
        ("words", b"no number\n"),
        ("absurd", b"1e300\n"),
        ("not a number", b"NaN\n"),
        ("noise", &[0, 255, 254, 13, 10, 0]),
        ("long", &[b'7'; 70_000]),
    ];
    for (name, content) in damage {
        let star = Star::new(0);
        let setup = in_namespace(&star.hub).config(SERVER);
        let path = setup.directory().write("drift", content);
        let ptntp = setup.start();
        let frequency = ptntp.stat()["frequency_ppm"].as_f64();
        let frequency = frequency.unwrap_or_else(|| panic!("{name}: no frequency"));
        assert!(frequency.abs() <= 500.0, "{name}: {frequency} ppm");
        let log = ptntp.process.log();
        assert!(
            log.contains(&path.display().to_string()),
            "{name}: the log does not name the file:\n{log}"
        );
    }
}

/// A directory where the file should be, and a directory that isn't there.
#[test]
fn impossible_drift_files_are_survived() {
    require!(root);
    for path in ["@DIR@", "@DIR@/absent/drift"] {
        let star = Star::new(0);
        let mut ptntp = in_namespace(&star.hub)
            .config(&format!("driftfile {path}\nserver 127.127.1.0\n"))
            .start();
        let stat = ptntp.stat();
        assert!(stat["sync"].is_boolean(), "{path}");
        if path.contains("absent") {
            let said = stat["degraded"].to_string();
            assert!(said.contains("absent/drift"), "{stat}");
            assert_eq!(ptntp.process.log().matches("absent/drift").count(), 1);
        }
        assert!(ptntp.process.terminate(secs(10)).is_some(), "{path}");
    }
}

/// A good drift file is used from the start.
#[test]
fn drift_file_is_read() {
    require!(root);
    let star = Star::new(0);
    let setup = in_namespace(&star.hub).config(SERVER);
    setup.directory().write("drift", "-48.5\n");
    let ptntp = setup.start();
    let frequency = ptntp.stat()["frequency_ppm"].as_f64().expect("a number");
    assert!((frequency + 48.5).abs() < 0.1, "{frequency}");
}

/// A second daemon on the same port says so and leaves the first alone.
#[test]
fn port_taken_is_said() {
    require!(root);
    let star = Star::new(1);
    let text = "server 127.127.1.0\nrestrict default\n";
    let first = in_namespace(&star.hub).config(text).start();
    let mut second = in_namespace(&star.hub)
        .config(text)
        .without_metrics()
        .start_unready();
    // It may end, or take no requests; but it must say why.
    assert!(
        wait_until(secs(10), || second.process.log().contains("123")),
        "{}",
        second.process.log()
    );
    second.process.kill();
    assert_ne!(first.tell(&["stat"]).status.code(), Some(2));
    let client = Client::new(&star.spokes[0], hub_v4(0));
    assert!(wait_until(secs(10), || client.time().is_some()));
}

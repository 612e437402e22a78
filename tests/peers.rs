//! The judges judged: before ptntp is held against the real programs, they and
//! this harness's own packets are held against one another.

mod common;

use common::metrics::Scrape;
use common::net::{Star, host_v4, spoke_v4, spoke_v6};
use common::ntp::{Client, Liar, Lie};
use common::peers::{ChronyServer, busybox, chronyd_query, ntpdig};

#[test]
fn clients_agree_about_a_true_server() {
    require!(root, peers, ipv6);
    let star = Star::new(1);
    let _server = ChronyServer::start(&star.spokes[0]);
    for address in [spoke_v4(0), spoke_v6(0)] {
        let reply = Client::new(&star.hub, address).time().expect("a reply");
        assert!(reply.offset_s().abs() < 0.005, "{reply:?}");
        for options in ["version 3", "version 4"] {
            let seen = chronyd_query(&star.hub, address, options).expect("chronyd");
            assert!(seen.abs() < common::GOOD_S, "chronyd says {seen}");
        }
        // It reads the clock in Python, and is late by milliseconds at times on a busy
        // machine; hardly thrice on end.
        let mut answers = (0..3).map(|_| ntpdig(&star.hub, address).expect("ntpdig"));
        let close = answers.find(|(seen, stratum)| seen.abs() < 0.005 && *stratum == 1);
        assert!(close.is_some(), "ntpdig never says that it is right");
        let seen = busybox(&star.hub, address).expect("busybox");
        assert!(seen.abs() < 0.005, "busybox says {seen}");
    }
}

#[test]
fn clients_agree_about_a_liar() {
    require!(root, peers);
    let star = Star::new(1);
    let _liar = Liar::start(&star.spokes[0], spoke_v4(0), Lie::Offset(0.3));
    let close = |seen: f64| (seen - 0.3).abs() < 0.005;
    let seen = chronyd_query(&star.hub, spoke_v4(0), "").expect("chronyd");
    assert!(close(seen), "chronyd says {seen}");
    let (seen, _) = ntpdig(&star.hub, spoke_v4(0)).expect("ntpdig");
    assert!(close(seen), "ntpdig says {seen}");
    let seen = busybox(&star.hub, spoke_v4(0)).expect("busybox");
    assert!(close(seen), "busybox says {seen}");
    let reply = Client::new(&star.hub, spoke_v4(0)).time().expect("a reply");
    assert!(close(reply.offset_s()), "{reply:?}");
}

#[test]
fn nobody_is_not_mistaken_for_a_server() {
    require!(root, peers);
    let star = Star::new(1);
    for silent in [spoke_v4(0), host_v4(0, 9)] {
        assert!(Client::new(&star.hub, silent).time().is_none());
    }
    assert!(chronyd_query(&star.hub, spoke_v4(0), "").is_err());
    assert!(ntpdig(&star.hub, spoke_v4(0)).is_err());
}

#[test]
fn a_process_here_cannot_set_the_clock() {
    require!(root);
    let star = Star::new(0);
    let mut command = common::process::command(Some(&star.hub), "sh");
    command.args([
        "-c",
        "grep -E '^Cap(Inh|Prm|Eff|Bnd|Amb)' /proc/self/status",
    ]);
    let text = common::process::stdout(&common::process::run(command, common::secs(5)));
    assert_eq!(text.lines().count(), 5, "{text}");
    for line in text.lines() {
        let (_, mask) = line.split_once('\t').expect("a mask");
        let mask = u64::from_str_radix(mask.trim(), 16).expect("hexadecimal");
        assert_eq!(mask >> 25 & 1, 0, "CAP_SYS_TIME is in {line}");
    }
}

#[test]
fn histograms_are_read_as_prometheus_does() {
    let text = "\
# HELP h_seconds a b\n\
# TYPE h_seconds histogram\n\
h_seconds_bucket{le=\"0.001\",of=\"x\"} 1\n\
h_seconds_bucket{le=\"0.01\",of=\"x\"} 99\n\
h_seconds_bucket{le=\"+Inf\",of=\"x\"} 100\n\
h_seconds_sum{of=\"x\"} 0.2\n\
h_seconds_count{of=\"x\"} 100\n\
g 1.5e-3\n";
    let scrape = Scrape::parse(text);
    assert_eq!(scrape.types["h_seconds"], "histogram");
    assert_eq!(scrape.value("g"), Some(1.5e-3));
    let histogram = scrape.histogram("h_seconds");
    assert_eq!(histogram.count(), 100.0);
    assert_eq!(histogram.quantile(0.01), 0.001);
    assert_eq!(histogram.quantile(0.99), 0.01);
    assert_eq!(histogram.quantile(0.995), f64::INFINITY);
    assert_eq!(histogram.since(&histogram).count(), 0.0);
}

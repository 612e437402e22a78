//! Real clients take time from ptntp: chronyd, ntpsec's ntpdig and busybox, by
//! IPv4 and IPv6, in versions 3 and 4. ptntp serves a virtual clock that is a
//! quarter of a second ahead, so that what they say can only come from it.

mod common;

use std::net::IpAddr;

use common::net::{Star, host_v4, host_v6, hub_v4, hub_v6};
use common::ntp::Client;
use common::peers::{busybox, chronyd_query, ntpdig};
use common::ptntp::{OPEN, Setup, in_namespace};
use common::{secs, wait_until};

/// How far the served clock is ahead.
const AHEAD_S: f64 = 0.25;

/// Clients stamp in user space, on a busy machine.
const CLOSE_S: f64 = 0.01;

/// Serves its own clock, which nobody steers.
fn server(star: &Star) -> Setup<'_> {
    in_namespace(&star.hub).clock("virtual:0.25,0").config(OPEN)
}

fn close(seen: f64, client: &str) {
    assert!((seen - AHEAD_S).abs() < CLOSE_S, "{client} says {seen}");
}

/// The local clock is served as soon as it is chosen.
fn wait_served(star: &Star) {
    let client = Client::new(&star.spokes[0], hub_v4(0));
    let served = wait_until(secs(30), || {
        client
            .time()
            .is_some_and(|r| r.leap != 3 && (1..16).contains(&r.stratum))
    });
    assert!(served, "the local clock is not served: {:?}", client.time());
}

#[test]
fn chronyd_takes_our_time() {
    require!(root, peers, ipv6);
    let star = Star::new(1);
    let _ptntp = server(&star).start();
    wait_served(&star);
    std::thread::scope(|scope| {
        for address in [hub_v4(0), hub_v6(0)] {
            for options in ["version 3", "version 4", "version 4 xleave"] {
                let spoke = &star.spokes[0];
                scope.spawn(move || {
                    let seen = chronyd_query(spoke, address, options)
                        .unwrap_or_else(|log| panic!("{address} {options}: {log}"));
                    close(seen, &format!("chronyd at {address} with {options}"));
                });
            }
        }
    });
}

#[test]
fn ntpdig_takes_our_time() {
    require!(root, peers, ipv6);
    let star = Star::new(1);
    let _ptntp = server(&star).start();
    wait_served(&star);
    for address in [hub_v4(0), hub_v6(0)] {
        let (offset, stratum) = ntpdig(&star.spokes[0], address).expect("an answer");
        close(offset, "ntpdig");
        // The fudged stratum is the clock's; we may stand one below it, as ntpd does.
        assert!((3..=4).contains(&stratum), "stratum {stratum}");
    }
}

#[test]
fn busybox_takes_our_time() {
    require!(root, peers, ipv6);
    let star = Star::new(1);
    let _ptntp = server(&star).start();
    wait_served(&star);
    for address in [hub_v4(0), hub_v6(0)] {
        close(
            busybox(&star.spokes[0], address).expect("an answer"),
            "busybox",
        );
    }
}

/// With either backend: every version is answered in kind, with the request's
/// transmit stamp as origin, and the time is ours.
fn every_version(backend: &str) {
    let star = Star::new(1);
    let _ptntp = server(&star).args(&["--io", backend]).start();
    wait_served(&star);
    for address in [hub_v4(0), hub_v6(0)] {
        let client = Client::new(&star.spokes[0], address);
        for version in 1..=4 {
            let reply = client
                .time_by(version)
                .unwrap_or_else(|| panic!("no answer to version {version} at {address}"));
            assert_eq!(reply.version, version, "{reply:?}");
            assert_eq!(reply.mode, 4, "{reply:?}");
            assert_eq!(reply.len, 48, "{reply:?}");
            assert_ne!(reply.leap, 3, "{reply:?}");
            close(reply.offset_s(), "a packet");
        }
    }
}

#[test]
fn every_version_is_answered_with_uring() {
    require!(root, ipv6);
    every_version("uring");
}

#[test]
fn every_version_is_answered_with_poll() {
    require!(root, ipv6);
    every_version("poll");
}

/// Asked at a second address of a subnet or at one on lo, it answers from that
/// address; also when the address came after the start. The client's sockets
/// are connected and hear nothing from another address.
fn answers_from_the_address_asked(backend: &str) {
    let star = Star::new(1);
    let (spoke, hub) = (&star.spokes[0], &star.hub);
    let early = ["10.88.0.1", "fd88::1"];
    let late = ["10.88.0.2", "fd88::2"];
    let host = |address: &str| match address.parse::<IpAddr>().expect("an address") {
        IpAddr::V4(_) => format!("{address}/32"),
        IpAddr::V6(_) => format!("{address}/128"),
    };
    spoke.ip("route add 10.88.0.0/16 via 10.77.0.1");
    spoke.ip("route add fd88::/16 via fd77::1");
    hub.add_address("s0", &format!("{}/24", host_v4(0, 3)));
    hub.add_address("s0", &format!("{}/64", host_v6(0, 3)));
    for address in early {
        hub.add_address("lo", &host(address));
    }
    let _ptntp = server(&star).args(&["--io", backend]).start();
    wait_served(&star);

    let answers = |address: IpAddr| {
        let client = Client::new(spoke, address);
        wait_until(secs(10), || client.time().is_some())
    };
    let lo = early.map(|a| a.parse().expect("an address"));
    for address in [host_v4(0, 3), host_v6(0, 3), lo[0], lo[1]] {
        assert!(answers(address), "no answer from {address}");
    }
    for address in late {
        hub.add_address("lo", &host(address));
        let address = address.parse().expect("an address");
        assert!(answers(address), "no answer from the new {address}");
    }
    // Gone and back again: the daemon must have let the address go in between.
    hub.ip("addr del 10.88.0.2/32 dev lo");
    std::thread::sleep(secs(1));
    hub.add_address("lo", "10.88.0.2/32");
    let back = "10.88.0.2".parse().expect("an address");
    assert!(answers(back), "no answer from {back} when it is back");
}

#[test]
fn answers_from_the_address_asked_with_uring() {
    require!(root, ipv6);
    answers_from_the_address_asked("uring");
}

#[test]
fn answers_from_the_address_asked_with_poll() {
    require!(root, ipv6);
    answers_from_the_address_asked("poll");
}

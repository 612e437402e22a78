//! `restrict` over sockets. One daemon has a rule for each of many source
//! addresses of one spoke, and each test speaks from the address whose rule it
//! shows. The rules' arithmetic has its property test beside the table.

mod common;

use std::time::Duration;

use common::net::{Star, host_v4, host_v6, hub_v4, hub_v6, spoke_v4};
use common::ntp::{Client, Liar, Lie, Reply, read_variables, request};
use common::ptntp::{OPEN, Ptntp, in_namespace};
use common::{secs, wait_until};

/// After [`OPEN`], a rule for each host of 10.77.0.0/24; the rest may do everything.
const RULES: &str = "\
restrict 10.77.0.10 ignore
restrict 10.77.0.11 noserve
restrict 10.77.0.12 noquery
restrict 10.77.0.13 limited
restrict 10.77.0.14 limited kod
restrict 10.77.0.15 kod
restrict 10.77.0.16 flake
restrict 10.77.0.17 version
restrict 10.77.0.18 ignore ntpport
restrict 10.77.0.19 notrust
restrict 10.77.0.64 mask 255.255.255.192 ignore
restrict 10.77.0.70
restrict 10.77.0.128/26 ignore
restrict fd77::10 ignore
restrict -6 fd77::60 mask ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff0 noserve
restrict 10.77.0.20 noserve
restrict 10.77.0.20 noquery
restrict 10.77.0.21 ignore
unrestrict 10.77.0.21 ignore
";

/// A daemon with the rules, and a spoke that has all the addresses.
fn served<T>(work: impl FnOnce(&Star, &Ptntp) -> T) -> T {
    let star = Star::new(1);
    let spoke = &star.spokes[0];
    for host in (10..=21).chain([65, 70, 130]) {
        spoke.add_address("eth", &format!("{}/24", host_v4(0, host)));
    }
    for host in [0x10, 0x64] {
        spoke.add_address("eth", &format!("{}/64", host_v6(0, host)));
    }
    let ptntp = in_namespace(&star.hub)
        .clock("virtual:0.25,0")
        .config(&format!("{OPEN}{RULES}"))
        .start();
    let plain = Client::new(spoke, hub_v4(0));
    assert!(
        wait_until(secs(30), || plain.time().is_some()),
        "an unrestricted client is not served"
    );
    work(&star, &ptntp)
}

/// A client at 10.77.0.`host`.
fn client(star: &Star, host: u8) -> Client {
    let local = (host_v4(0, host), 0).into();
    Client::from(&star.spokes[0], local, hub_v4(0))
}

#[test]
fn ignore_drops_everything() {
    require!(root, ipv6);
    served(|star, _| {
        let client = client(star, 10);
        assert!(client.time().is_none());
        assert!(client.ask(&read_variables()).is_none());
        let local = (host_v6(0, 0x10), 0).into();
        let client = Client::from(&star.spokes[0], local, hub_v6(0));
        assert!(client.time().is_none());
    });
}

#[test]
fn noserve_gives_no_time() {
    require!(root, ipv6);
    served(|star, _| {
        assert!(client(star, 11).time().is_none());
        let local = (host_v6(0, 0x64), 0).into();
        let client = Client::from(&star.spokes[0], local, hub_v6(0));
        assert!(client.time().is_none());
    });
}

#[test]
fn noquery_denies_mode_6_and_7_alone() {
    require!(root);
    served(|star, _| {
        let client = client(star, 12);
        assert!(client.ask(&read_variables()).is_none());
        assert!(client.ask(&[4 << 3 | 7, 0, 3, 42, 0, 0, 0, 0]).is_none());
        assert!(client.time().is_some(), "time is unaffected");
    });
}

#[test]
fn equal_blocks_add_their_flags_and_unrestrict_clears_them() {
    require!(root);
    served(|star, _| {
        let both = client(star, 20);
        assert!(both.time().is_none(), "noserve");
        assert!(both.ask(&read_variables()).is_none(), "noquery");
        assert!(client(star, 21).time().is_some(), "unrestricted again");
    });
}

/// So many requests within a second: what came back.
fn burst(client: &Client, count: usize) -> Vec<Reply> {
    let mut replies = Vec::new();
    for _ in 0..count {
        client.send(&request(4, 3));
        std::thread::sleep(Duration::from_millis(10));
        replies.extend(client.drain());
    }
    std::thread::sleep(Duration::from_millis(300));
    replies.extend(client.drain());
    replies.iter().filter_map(|r| Reply::parse(r)).collect()
}

#[test]
fn limited_drops_the_surplus() {
    require!(root);
    served(|star, _| {
        let limited = client(star, 13);
        let replies = burst(&limited, 50);
        assert!(!replies.is_empty(), "the first is served");
        assert!(replies.len() <= 20, "{} of 50 served", replies.len());
        assert!(
            !replies.iter().any(|r| r.is_kiss(b"RATE")),
            "no kiss without kod"
        );
        // ntpd's bucket is full at 64 s and 8 s above that after a surplus: who asks
        // again before 17 s of silence fills it anew.
        std::thread::sleep(secs(18));
        assert!(limited.time().is_some(), "never served again");
    });
}

#[test]
fn kod_tells_those_over_the_limit() {
    require!(root);
    served(|star, _| {
        let replies = burst(&client(star, 14), 50);
        let (kisses, time): (Vec<_>, Vec<_>) = replies.iter().partition(|r| r.is_kiss(b"RATE"));
        assert!(!time.is_empty() && time.len() <= 20, "{}", time.len());
        assert!(!kisses.is_empty(), "nobody was told");
        for kiss in &kisses {
            assert_eq!((kiss.leap, kiss.mode, kiss.len), (3, 4, 48), "{kiss:?}");
        }
        assert!(
            kisses.len() < 25,
            "kisses are limited too: {}",
            kisses.len()
        );
    });
}

#[test]
fn kod_without_limited_has_no_effect() {
    require!(root);
    served(|star, _| {
        let replies = burst(&client(star, 15), 50);
        assert_eq!(replies.len(), 50);
        assert!(!replies.iter().any(|r| r.is_kiss(b"RATE")));
    });
}

/// A tenth of 500, give or take five standard deviations of 6.7.
#[test]
fn flake_drops_one_in_ten() {
    require!(root);
    served(|star, _| {
        let dropped = 500 - burst(&client(star, 16), 500).len();
        assert!((17..=83).contains(&dropped), "dropped {dropped} of 500");
    });
}

#[test]
fn version_drops_all_but_the_current() {
    require!(root);
    served(|star, _| {
        let client = client(star, 17);
        assert!(client.time_by(4).is_some());
        for version in 1..=3 {
            assert!(client.time_by(version).is_none(), "version {version}");
        }
    });
}

#[test]
fn ntpport_matches_source_port_123_alone() {
    require!(root);
    served(|star, _| {
        let spoke = &star.spokes[0];
        let from = |port| Client::from(spoke, (host_v4(0, 18), port).into(), hub_v4(0));
        assert!(from(0).time().is_some(), "another port falls to default");
        assert!(from(123).time().is_none(), "port 123 is ignored");
    });
}

#[test]
fn notrust_drops_all_where_there_are_no_keys() {
    require!(root);
    served(|star, _| assert!(client(star, 19).time().is_none()));
}

/// The longest prefix alone decides; nothing is inherited from a shorter one.
#[test]
fn longest_prefix_decides() {
    require!(root);
    served(|star, _| {
        assert!(client(star, 65).time().is_none(), "its /26 is ignored");
        assert!(
            client(star, 70).time().is_some(),
            "its own rule has no flags"
        );
    });
}

/// What was dropped is counted, by the name of the verdict.
#[test]
fn verdicts_are_counted() {
    require!(root);
    served(|star, ptntp| {
        let count = |ptntp: &Ptntp| {
            let scrape = ptntp.scrape();
            let verdicts = ["ignore", "ignored"]
                .map(|verdict| scrape.sum("ptntp_server_requests_total", &[("verdict", verdict)]));
            verdicts.iter().flatten().sum::<f64>()
        };
        let before = count(ptntp);
        let client = client(star, 10);
        for _ in 0..10 {
            client.send(&request(4, 3));
        }
        assert!(
            wait_until(secs(5), || count(ptntp) >= before + 10.0),
            "before {before}, now {}",
            count(ptntp)
        );
    });
}

/// With `--io poll` the same table decides.
#[test]
fn poll_obeys_the_rules_too() {
    require!(root);
    let star = Star::new(1);
    let spoke = &star.spokes[0];
    for host in [10, 17] {
        spoke.add_address("eth", &format!("{}/24", host_v4(0, host)));
    }
    let _ptntp = in_namespace(&star.hub)
        .clock("virtual:0.25,0")
        .config(&format!("{OPEN}{RULES}"))
        .args(&["--io", "poll"])
        .start();
    let plain = Client::new(spoke, hub_v4(0));
    assert!(wait_until(secs(30), || plain.time().is_some()));
    assert!(client(&star, 10).time().is_none(), "ignore");
    assert!(client(&star, 17).time_by(3).is_none(), "version 3");
    assert!(client(&star, 17).time_by(4).is_some(), "version 4");
}

/// Rules hold for the replies of our own sources too: `default ignore` cuts us
/// off from them, `restrict source` lets them in.
#[test]
fn our_own_sources_are_restricted_too() {
    require!(root);
    let star = Star::new(2);
    let _servers: Vec<Liar> = (0..2)
        .map(|n| Liar::start(&star.spokes[n], spoke_v4(n), Lie::Offset(0.0)))
        .collect();
    let follows = |rules: &str| {
        let ptntp = in_namespace(&star.hub)
            .config(&format!(
                "{rules}server 10.77.0.2 iburst minpoll 1 maxpoll 1\n"
            ))
            .start();
        wait_until(secs(12), || ptntp.sync())
    };
    assert!(!follows("restrict default ignore\n"));
    assert!(follows("restrict default ignore\nrestrict source\n"));
    assert!(follows("restrict default ignore\nrestrict 10.77.0.2\n"));
}

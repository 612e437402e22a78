//! `ptntp bench` against a real chronyd and our own server, by sockets and by raw
//! frames, at rates that a machine can do whose cores others take for a second on end.
//! What it says is held against what is known to be true.

mod common;

use std::net::IpAddr;

use common::bench;
use common::net::{Namespace, Star, hub_v4, hub_v6, spoke_v4, spoke_v6};
use common::ntp::{Client, Liar, Lie};
use common::peers::{ChronyServer, MUTE, chronyd};
use common::process;
use common::ptntp::{BINARY, bench, bench_json as json, in_namespace, number, ptntp};
use common::{TempDir, secs, wait_until};
use serde_json::Value;

/// All was sent, and nearly all answered as asked.
fn assert_good(report: &Value, kind: &str) {
    let result = &report["result"];
    let sent = number(result, "/sent");
    assert!(sent > 0.0, "{result}");
    assert!(
        number(result, &format!("/{kind}")) > 0.98 * sent,
        "{result}"
    );
    for (reason, count) in result["invalid"].as_object().expect("an object") {
        assert_eq!(count.as_f64(), Some(0.0), "{reason}: {result}");
    }
    assert_eq!(number(result, "/duplicates"), 0.0, "{result}");
}

/// chronyd with keys.
fn chronyd_with_keys(namespace: &Namespace) -> (process::Process, TempDir) {
    let directory = TempDir::new();
    directory.write(
        "keys",
        "10 SHA1 HEX:6b6579\n11 MD5 ASCII:secret\n12 AES128 HEX:2b7e151628aed2a6abf7158809cf4f3c\n\
         13 SHA512 HEX:6b6579\n",
    );
    let config = format!("local stratum 1\nallow all\n{MUTE}keyfile @DIR@/keys\n");
    let process = chronyd(namespace, &directory, &config);
    let local = Client::new(namespace, IpAddr::from([127, 0, 0, 1]));
    assert!(
        wait_until(secs(10), || local.time().is_some()),
        "no chronyd"
    );
    (process, directory)
}

/// The clients of raw frames live behind the spoke.
fn route_clients(star: &Star) {
    star.hub
        .ip(&format!("route add 10.61.0.0/16 via {}", spoke_v4(0)));
    star.hub
        .ip(&format!("route add fd61::/64 via {}", spoke_v6(0)));
}

#[test]
fn chronyd_answers_basic_interleaved_and_signed_requests() {
    require!(root, peers, ipv6);
    let star = Star::new(1);
    let (_chronyd, _files) = chronyd_with_keys(&star.hub);
    let from = &star.spokes[0];
    for server in [hub_v4(0), hub_v6(0)] {
        let report = json(from, server, &["--rate", "200", "--duration", "1s"]);
        assert_good(&report, "basic");
        assert!((180.0..=200.0).contains(&number(&report, "/result/sent")));
        assert_eq!(number(&report, "/result/interleaved"), 0.0);
        // One clock: what lies between the stamps is the way, microseconds long.
        for stamps in ["receive", "transmit_basic"] {
            let median_us = number(&report, &format!("/result/stamps/{stamps}/median_us"));
            assert!((0.0..5000.0).contains(&median_us), "{stamps} {median_us}");
        }
    }
    // By its link-local address, which needs a zone.
    star.hub.add_address("s0", "fe80::1/64");
    from.add_address("eth", "fe80::2/64");
    for server in ["fe80::1%eth", "fe80::1%eth:123", "[fe80::1%eth]:123"] {
        let mut command = process::command(Some(from), BINARY);
        command.args(["bench", server, "--rate", "100", "--duration", "100ms"]);
        command.args(["--json", "--timeout", "5s"]);
        let output = process::run(command, secs(20));
        let report = serde_json::from_str(&process::stdout(&output));
        let report: Value = report.unwrap_or_else(|_| panic!("{}", process::all(&output)));
        assert_good(&report, "basic");
    }
    let server = hub_v4(0);
    let load = ["--rate", "200", "--duration", "1s", "--ports", "4"];
    let report = json(from, server, &[&load[..], &["--interleaved"]].concat());
    let asked = number(&report, "/result/asked_interleaved");
    assert!(asked > 20.0, "{report}");
    assert!(
        number(&report, "/result/interleaved") > 0.8 * asked,
        "{report}"
    );
    // chronyd gives the kernel's stamp then: closer to ours than one of its own.
    let of = |stamps: &str| number(&report, &format!("/result/stamps/{stamps}/median_us"));
    assert!(
        of("transmit_interleaved") < of("transmit_basic"),
        "{report}"
    );

    for key in [
        "10:SHA1:HEX:6b6579",
        "11:MD5:secret",
        "12:AES128:HEX:2b7e151628aed2a6abf7158809cf4f3c",
        "13:SHA512:HEX:6b6579",
    ] {
        let args = [&load[..], &["--key", key]].concat();
        assert_good(&json(from, server, &args), "basic");
    }
    let wrong = json(
        from,
        server,
        &[&load[..], &["--key", "10:SHA1:other"]].concat(),
    );
    assert_eq!(number(&wrong, "/result/basic"), 0.0, "{wrong}");
    let short = ["--rate", "100", "--duration", "100ms", "--timeout", "100ms"];
    let silent = bench(
        from,
        server,
        &[&short[..], &["--key", "10:SHA1:other"]].concat(),
    );
    assert_eq!(silent.status.code(), Some(1));
    let text = process::all(&silent);
    assert!(text.contains("Does it have the key?"), "{text}");

    let report = json(from, server, &[&load[..], &["--ntp-version", "3"]].concat());
    assert_good(&report, "basic");
    let mix = ["--mix", "basic=2,v3=1,interleaved=1", "--ports", "8"];
    let report = json(from, server, &[&load[..4], &mix[..]].concat());
    let interleaved = number(&report, "/result/interleaved");
    assert!((3.0..52.0).contains(&interleaved), "{report}");
}

#[test]
fn thousands_of_addresses_ask_by_raw_frames() {
    require!(root, peers, ipv6);
    let star = Star::new(1);
    let _chronyd = ChronyServer::start(&star.hub);
    route_clients(&star);
    let from = &star.spokes[0];
    for (server, sources) in [(hub_v4(0), "10.61.0.0/16"), (hub_v6(0), "fd61::/64")] {
        let load = ["--rate", "200", "--duration", "1s", "--sources", sources];
        let report = json(from, server, &load);
        assert_good(&report, "basic");
        assert!(number(&report, "/clients") > 60_000.0);
        assert!(number(&report, "/result/stamps/receive/count") > 100.0);
        let few = ["--interleaved", "--clients", "5"];
        let report = json(from, server, &[&load[..], &few[..]].concat());
        let asked = number(&report, "/result/asked_interleaved");
        assert!(asked > 20.0, "{report}");
        assert!(
            number(&report, "/result/interleaved") > 0.8 * asked,
            "{report}"
        );
    }
    let two = [
        "--sources",
        "10.61.0.0/16",
        "--threads",
        "2",
        "--rate",
        "200",
    ];
    let report = json(
        from,
        hub_v4(0),
        &[&two[..], &["--duration", "500ms"]].concat(),
    );
    assert_good(&report, "basic");
    assert!(number(&report, "/result/sent") >= 90.0, "{report}");
}

#[test]
fn our_server_is_measured() {
    require!(root);
    let star = Star::new(1);
    let _ptntp = in_namespace(&star.hub)
        .clock("virtual:0.25,0")
        .config("server 127.127.1.0\nfudge 127.127.1.0 stratum 3\nrestrict default\n")
        .start();
    let from = &star.spokes[0];
    let client = Client::new(from, hub_v4(0));
    let served = || {
        client
            .time()
            .is_some_and(|r| r.leap != 3 && (1..16).contains(&r.stratum))
    };
    assert!(wait_until(secs(30), served), "not served");
    let load = ["--rate", "200", "--duration", "1s"];
    let report = json(from, hub_v4(0), &load);
    assert_good(&report, "basic");
    // The served clock is a quarter of a second ahead, and both stamps say so.
    let ahead_us = number(&report, "/result/stamps/receive/median_us");
    assert!((249_000.0..255_000.0).contains(&ahead_us), "{report}");
    let behind_us = number(&report, "/result/stamps/transmit_basic/median_us");
    assert!((-251_000.0..-245_000.0).contains(&behind_us), "{report}");

    // It has no keys, and says so.
    let output = bench(
        from,
        hub_v4(0),
        &[&load[..], &["--key", "7:MD5:a"]].concat(),
    );
    assert_eq!(output.status.code(), Some(1));
    let text = process::all(&output);
    assert!(text.contains("does not have the key of --key"), "{text}");
    assert!(text.contains("invalid (crypto_nak)"), "{text}");
    assert!(!text.contains("is it an NTP server"), "{text}");

    // The second request of a client makes the server remember; it asks in vain.
    let few = ["--interleaved", "--ports", "3"];
    let report = json(from, hub_v4(0), &[&few[..], &load[..]].concat());
    let asked = number(&report, "/result/asked_interleaved") - 3.0;
    assert!(asked > 3.0, "{report}");
    assert!(
        number(&report, "/result/interleaved") > 0.7 * asked,
        "{report}"
    );

    let report = json(from, hub_v4(0), &["--closed", "4", "--duration", "500ms"]);
    assert_good(&report, "basic");
}

#[test]
fn a_search_ends_and_says_who_was_the_limit() {
    require!(root, peers);
    let star = Star::new(1);
    let _chronyd = ChronyServer::start(&star.hub);
    let directory = TempDir::new();
    let page = directory.path().join("report.html");
    let page = page.to_str().expect("a path");
    let from = &star.spokes[0];
    // Up to forty trials, each of which may have to wait for what was lost.
    let args = ["--search", "--duration", "100ms", "--timeout", "500ms"];
    let report = json(from, hub_v4(0), &[&args[..], &["--html", page]].concat());
    assert!(number(&report, "/ceiling_per_s") > 1000.0, "{report}");
    let limit = report["search"]["limit"].as_str();
    // On a busy machine nothing may hold for long.
    let known = matches!(limit, Some("server" | "generator" | "unproved"));
    assert!(known, "{report}");
    let rate = number(&report, "/search/rate_per_s");
    assert!(rate <= number(&report, "/ceiling_per_s"), "{report}");

    let html = std::fs::read_to_string(page).expect("a page");
    assert!(html.starts_with("<!doctype html>"), "{html}");
    assert!(html.matches("<svg").count() >= 5, "{html}");
    assert!(!html.contains("<script"), "{html}");

    let args = ["--ramp", "100..1k", "--duration", "50ms"];
    let report = json(from, hub_v4(0), &args);
    assert_eq!(report["steps"].as_array().map(Vec::len), Some(10));
}

/// More than any generator sends: the loss that comes of it is not the server's.
#[test]
fn a_generator_beyond_its_ceiling_says_so() {
    require!(root, peers);
    let star = Star::new(1);
    let _chronyd = ChronyServer::start(&star.hub);
    let from = &star.spokes[0];
    let short = ["--duration", "200ms", "--timeout", "1s"];
    let output = bench(from, hub_v4(0), &[&["--rate", "20M"], &short[..]].concat());
    let text = process::all(&output);
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(text.contains("generator did not keep up"), "{text}");
    assert!(!text.contains("The server, or the way"), "{text}");
    let report = json(
        from,
        hub_v4(0),
        &[&["--ramp", "10M..20M"], &short[..]].concat(),
    );
    for step in report["steps"].as_array().expect("steps") {
        assert_eq!(step["limit"], "generator", "{report}");
    }
}

#[test]
fn a_liar_is_found_out_by_its_stamps() {
    require!(root);
    let star = Star::new(1);
    let _liar = Liar::start(&star.hub, hub_v4(0), Lie::Offset(0.3));
    let load = ["--rate", "200", "--duration", "500ms"];
    let report = json(&star.spokes[0], hub_v4(0), &load);
    let ahead_us = number(&report, "/result/stamps/receive/median_us");
    assert!((299_000.0..350_000.0).contains(&ahead_us), "{report}");
}

#[test]
fn silence_is_explained() {
    require!(root);
    let star = Star::new(1);
    let from = &star.spokes[0];
    let load = ["--rate", "100", "--duration", "100ms", "--timeout", "100ms"];
    let output = bench(from, hub_v4(0), &load);
    assert_eq!(output.status.code(), Some(1));
    assert!(process::all(&output).contains("is it an NTP server"));
    let sources = ["--sources", "10.61.0.0/16"];
    let output = bench(from, hub_v4(0), &[&load[..], &sources[..]].concat());
    assert_eq!(output.status.code(), Some(1));
    let text = process::all(&output);
    let hint = format!("ip route add 10.61.0.0/16 via {}", spoke_v4(0));
    assert!(text.contains(&hint), "{text}");
    // Nobody is there at all.
    let gone = [&load[..], &sources[..]].concat();
    let output = bench(from, common::net::host_v4(0, 77), &gone);
    assert!(process::all(&output).contains("does not answer"));
}

#[test]
fn interrupted_it_tells_what_it_has() {
    require!(root, peers);
    let star = Star::new(1);
    let _chronyd = ChronyServer::start(&star.hub);
    let load = ["--rate", "500", "--duration", "60s"];
    let from = &star.spokes[0];
    let (code, text) = bench::disturbed(from, hub_v4(0), &load, secs(2), bench::interrupt);
    assert_eq!(code, Some(130), "{text}");
    assert!(text.contains("result so far"), "{text}");
    assert!(text.contains("answered"), "{text}");
}

#[test]
fn ended_while_it_waits_it_calls_nothing_lost() {
    require!(root);
    let star = Star::new(1);
    // Takes requests, and answers none.
    let _silent = star.hub.udp((hub_v4(0), 123).into());
    let load = ["--rate", "100", "--duration", "200ms", "--timeout", "60s"];
    let load = [&load[..], &["--json"]].concat();
    let from = &star.spokes[0];
    let (code, text) = bench::disturbed(from, hub_v4(0), &load, secs(3), bench::interrupt);
    assert_eq!(code, Some(130), "{text}");
    let report = bench::report(&text);
    assert_eq!(report["result"]["lost"], 0, "{report}");
    let sent = number(&report, "/result/sent");
    assert!((1.0..=20.0).contains(&sent), "{report}");
    assert_eq!(number(&report, "/result/under_way"), sent, "{report}");
}

#[test]
fn an_error_midway_leaves_the_result_so_far() {
    require!(root, peers);
    let star = Star::new(1);
    let _chronyd = ChronyServer::start(&star.hub);
    star.hub
        .ip(&format!("route add 10.61.0.0/16 via {}", spoke_v4(0)));
    let from = &star.spokes[0];
    for sources in [&[][..], &["--sources", "10.61.0.0/16"]] {
        from.ip("link set eth up");
        let load = ["--rate", "500", "--duration", "60s", "--json"];
        let load = [&load[..], sources].concat();
        let down = |_: &mut process::Process| from.ip("link set eth down");
        let (code, text) = bench::disturbed(from, hub_v4(0), &load, secs(2), down);
        bench::assert_ended_midway(code, &text);
    }
}

#[test]
fn strangers_servers_are_refused() {
    for server in ["8.8.8.8", "[2600::1]:123"] {
        let output = ptntp(&["bench", server]);
        assert_eq!(output.status.code(), Some(2), "{server}");
        let text = process::all(&output);
        assert!(text.contains("--i-own-this-server"), "{text}");
    }
    let output = ptntp(&["bench", "10.0.0.1", "--sources", "8.0.0.0/8"]);
    assert_eq!(output.status.code(), Some(2));
    let text = process::all(&output);
    assert!(
        text.contains("whose owners would get the answers"),
        "{text}"
    );
}

#[test]
fn the_generator_knows_its_ceiling() {
    let output = ptntp(&["bench", "--self-test", "--json"]);
    let report: Value = serde_json::from_str(&process::stdout(&output)).expect("JSON");
    assert!(number(&report, "/ceiling_per_s") > 1000.0, "{report}");
    require!(root);
    let namespace = Namespace::new();
    let mut command = process::command(Some(&namespace), BINARY);
    command.args(["bench", "--self-test", "--sources", "10.61.0.0/16"]);
    let text = process::all(&process::run(command, secs(20)));
    assert!(text.contains("requests/s by raw frames"), "{text}");
}

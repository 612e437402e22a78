//! What lines about sources and about the clock do, in both dialects, as seen from outside:
//! by the servers that are asked, which write down every packet, and by those who ask the
//! daemon whom it follows.

mod common;

use nix::sys::signal::Signal;
use std::net::SocketAddr;

use common::net::{Namespace, Star, host_v4, host_v6, hub_v4};
use common::ptntp::{Ptntp, in_namespace};
use common::witness::{Says, TRUTH, Witnesses};
use common::{secs, wait_until};
use serde_json::Value;

const NTP: &str = "ntp";
const CHRONY: &str = "chrony";

fn start<'a>(namespace: &'a Namespace, dialect: &str, clock: &'a str, config: &str) -> Ptntp<'a> {
    let setup = in_namespace(namespace).clock(clock).config(config);
    setup.args(&["--dialect", dialect]).start()
}

/// Hosts 10 to 10 + n of the first spoke, each a server on port 123.
fn servers(star: &Star, says: &[Says]) -> Witnesses {
    let at = (10..).zip(says).map(|(host, says)| {
        let address = host_v4(0, host);
        star.spokes[0].add_address("eth", &format!("{address}/24"));
        (SocketAddr::new(address, 123), *says)
    });
    Witnesses::start(&star.spokes[0], at)
}

fn source(sources: &[Value], host: u8) -> &Value {
    let name = host_v4(0, host).to_string();
    let source = sources.iter().find(|source| source["name"] == *name);
    source.unwrap_or_else(|| panic!("no {name} in {sources:#?}"))
}

fn tally(ptntp: &Ptntp, host: u8) -> String {
    let sources = ptntp.sources();
    source(&sources, host)["tally"]
        .as_str()
        .expect("a word")
        .to_owned()
}

/// Everybody in `hosts` was measured.
fn measured(ptntp: &Ptntp, hosts: &[u8]) {
    let all = || {
        let sources = ptntp.sources();
        let heard = |host: &u8| source(&sources, *host)["received"].as_u64() >= Some(4);
        hosts.iter().all(heard)
    };
    assert!(wait_until(secs(30), all), "{:#?}", ptntp.sources());
}

fn options_show_on_the_wire(dialect: &str) {
    let star = Star::new(1);
    let witnesses = servers(&star, &[TRUTH; 10]);
    let at = |host| host_v4(0, host);
    let port = SocketAddr::new(host_v4(0, 15), 1123);
    let elsewhere = Witnesses::start(&star.spokes[0], [(port, TRUTH)]);
    let mut config = format!(
        "server {} minpoll -1 maxpoll 0 version 3 xleave\n\
         server {} minpoll -1 maxpoll 5\n\
         server {}\n\
         server {} iburst\n\
         server {} minpoll 0 maxpoll 0 noselect offset 0.05\n\
         server {} port 1123\n\
         server {} minpoll 0 maxpoll 0 prefer\n",
        at(10),
        at(11),
        at(12),
        at(13),
        at(14),
        at(15),
        at(16)
    );
    if dialect == NTP {
        config += &format!("server {} minpoll 3 maxpoll 3 burst\n", at(17));
        config += &format!("server {}\nunpeer {}\n", at(18), at(18));
        config += &format!(
            "server {} minpoll 0 maxpoll 0 noselect bias -0.05\n",
            at(19)
        );
    }
    witnesses.say(
        at(16),
        Says {
            stratum: 7,
            ..TRUTH
        },
    );
    let ptntp = start(&star.hub, dialect, "none", &config);
    let count = |host| witnesses.seen(at(host)).len();
    let enough = || count(10) >= 25 && ptntp.sync();
    assert!(wait_until(secs(40), enough), "{}", ptntp.stat());

    // Log2 seconds: each half second at first, and then no longer than a second.
    let (versions, origins): (Vec<_>, Vec<_>) = witnesses
        .seen(at(10))
        .iter()
        .map(|(_, packet)| (packet[0] >> 3 & 7, packet[24..32] != [0; 8]))
        .unzip();
    assert!(versions.iter().all(|version| *version == 3), "{versions:?}");
    // Interleaved requests say when the last answer was received.
    assert!(origins[3..].iter().all(|is_there| *is_there), "{origins:?}");
    let plain = witnesses.seen(at(11));
    assert!(
        plain
            .iter()
            .all(|(_, p)| p[0] >> 3 & 7 == 4 && p[24..32] == [0; 8])
    );
    let first = &witnesses.gaps_s(at(10))[..6];
    assert!(
        first.iter().all(|gap_s| (0.3..0.9).contains(gap_s)),
        "{first:?}"
    );
    let slower = |gap_s: &f64| *gap_s > 1.5;
    let longer = || witnesses.gaps_s(at(11)).iter().any(slower);
    assert!(
        wait_until(secs(60), longer),
        "{:?}",
        witnesses.gaps_s(at(11))
    );
    let gaps_s = witnesses.gaps_s(at(10));
    assert!(!gaps_s.iter().any(slower), "{gaps_s:?}");

    assert!(count(12) <= 2, "once a minute: {}", count(12));
    let iburst = witnesses.gaps_s(at(13));
    assert!(
        iburst.len() >= 3 && iburst[..3].iter().all(|gap_s| *gap_s < 3.0),
        "{iburst:?}"
    );
    assert!(!elsewhere.seen(at(15)).is_empty());
    assert_eq!(count(15), 0, "not on port 123");

    let sources = ptntp.sources();
    let offset_s = |host| {
        source(&sources, host)["offset_s"]
            .as_f64()
            .expect("an offset")
    };
    assert!((offset_s(14) - 0.05).abs() < 0.01, "{sources:#?}");
    assert_eq!(tally(&ptntp, 14), "rejected", "{sources:#?}");
    assert_eq!(
        ptntp.stat()["source"],
        at(16).to_string(),
        "the preferred, at stratum 7"
    );
    if dialect == NTP {
        // Else there are eight seconds between two.
        assert!(wait_until(secs(30), || count(17) >= 7), "{}", count(17));
        let burst = witnesses.gaps_s(at(17));
        assert!(burst[1..6].iter().all(|gap_s| *gap_s < 3.0), "{burst:?}");
        assert_eq!(count(18), 0, "taken back");
        assert!((offset_s(19) + 0.05).abs() < 0.01, "{sources:#?}");
    }
}

#[test]
fn options_of_ntp_conf_show_on_the_wire() {
    require!(root);
    options_show_on_the_wire(NTP);
}

#[test]
fn options_of_chrony_conf_show_on_the_wire() {
    require!(root);
    options_show_on_the_wire(CHRONY);
}

#[test]
fn a_peer_is_asked() {
    require!(root);
    for dialect in [NTP, CHRONY] {
        let star = Star::new(1);
        let witnesses = servers(&star, &[TRUTH]);
        let config = format!("peer {} minpoll 0 maxpoll 0\n", host_v4(0, 10));
        let ptntp = start(&star.hub, dialect, "none", &config);
        let asked = || witnesses.seen(host_v4(0, 10)).len() > 3;
        assert!(wait_until(secs(20), asked), "{dialect}");
        measured(&ptntp, &[10]);
    }
}

/// Names stand in a file that this daemon alone sees as /etc/hosts.
fn with_names<'a>(star: &'a Star, dialect: &str, names: &str, config: &str) -> Ptntp<'a> {
    let setup = in_namespace(&star.hub).clock("none").config(config);
    let hosts = setup.directory().write("hosts", names);
    let mount = format!("mount --bind {} /etc/hosts && exec \"$@\"", hosts.display());
    setup
        .wrapper(&["unshare", "-m", "sh", "-c", &mount, "sh"])
        .args(&["--dialect", dialect])
        .start()
}

/// `pool` asks as many addresses of a name as it may, and another one for one that is dead;
/// of a name with both families the one that was asked for is.
#[test]
fn names_and_pools_are_asked_as_the_options_say() {
    require!(root, ipv6);
    let names: String = (10..14)
        .map(|host| format!("{} pool.test\n", host_v4(0, host)))
        .chain([
            format!("{} both.test\n", host_v4(0, 10)),
            format!("{} both.test\n", host_v6(0, 0x10)),
        ])
        .collect();
    for (dialect, config, most) in [
        (
            NTP,
            "pool pool.test minpoll -2 maxpoll -2 maxsources 2\n",
            2,
        ),
        (
            NTP,
            "tos maxclock 3\npool pool.test minpoll -2 maxpoll -2\n",
            3,
        ),
        (
            CHRONY,
            "pool pool.test minpoll -2 maxpoll -2 maxsources 2\n",
            2,
        ),
        (CHRONY, "pool pool.test minpoll -2 maxpoll -2\n", 4),
    ] {
        let star = Star::new(1);
        // The last address is nobody's.
        let witnesses = servers(&star, &[TRUTH; 3]);
        let ptntp = with_names(&star, dialect, &names, config);
        let asked = || {
            let hosts = (10..13).filter(|host| !witnesses.seen(host_v4(0, *host)).is_empty());
            hosts.count()
        };
        let answering = || {
            let sources = ptntp.sources();
            let reached = |s: &&Value| s["reach"].as_u64() > Some(0);
            (sources.len(), sources.iter().filter(reached).count())
        };
        let wanted = most.min(3);
        let good = wait_until(secs(40), || asked() >= wanted && answering().1 == wanted);
        assert!(good, "{dialect} {config}{:#?}", ptntp.sources());
        assert!(
            answering().0 <= most,
            "{dialect} {config}{:#?}",
            ptntp.sources()
        );
    }
    let star = Star::new(1);
    for (dialect, lines) in [
        (NTP, ["server -4 both.test\n", "server -6 both.test\n"]),
        (
            CHRONY,
            ["server both.test ipv4\n", "server both.test ipv6\n"],
        ),
    ] {
        for (line, is_v4) in lines.into_iter().zip([true, false]) {
            let ptntp = with_names(&star, dialect, &names, line);
            let family = || {
                let address = ptntp.sources().first()?["address"].as_str()?.to_owned();
                Some(address.parse::<SocketAddr>().ok()?.is_ipv4())
            };
            assert!(
                wait_until(secs(20), || family() == Some(is_v4)),
                "{dialect} {line}"
            );
        }
    }
}

/// Which sources are followed: each line beside one that differs in nothing else.
#[test]
fn selection_follows_the_rules() {
    require!(root);
    let ahead = Says {
        offset_s: 0.004,
        ..TRUTH
    };
    let far = Says {
        dispersion_s: 0.2,
        ..TRUTH
    };
    let deep = Says {
        stratum: 6,
        ..TRUTH
    };
    let cases: [(&str, &[Says], &str, &str); 10] = [
        (NTP, &[TRUTH], "tos minsane 1", "tos minsane 2"),
        (CHRONY, &[TRUTH], "minsources 1", "minsources 2"),
        (NTP, &[far], "tos maxdist 0.5", "tos maxdist 0.1"),
        (CHRONY, &[far], "maxdistance 0.5", "maxdistance 0.1"),
        (NTP, &[deep], "tos ceiling 7", "tos ceiling 6"),
        (CHRONY, &[deep], "maxstratum 6", "maxstratum 5"),
        (NTP, &[TRUTH], "tos floor 1", "tos floor 2"),
        // Two that differ by 4 ms.
        (
            NTP,
            &[TRUTH, ahead],
            "tos mindist 0.1",
            "tos mindist 0.0001",
        ),
        (
            CHRONY,
            &[TRUTH],
            "authselectmode mix",
            "authselectmode require",
        ),
        (
            CHRONY,
            &[TRUTH],
            "authselectmode ignore",
            "authselectmode prefer",
        ),
    ];
    std::thread::scope(|scope| {
        for (dialect, says, followed, ignored) in cases {
            scope.spawn(move || {
                let star = Star::new(1);
                let _witnesses = servers(&star, says);
                for (line, expected) in [(followed, true), (ignored, false)] {
                    let hosts: Vec<u8> = (10..).zip(says).map(|(host, _)| host).collect();
                    let mut config = format!("{line}\n");
                    for host in &hosts {
                        config += &format!("server {} minpoll -1 maxpoll -1\n", host_v4(0, *host));
                    }
                    let setup = in_namespace(&star.hub).clock("none");
                    if line.starts_with("authselectmode") {
                        // Somebody who is asked with a key, and never answers.
                        config += "keyfile @DIR@/keys\nserver 192.0.2.1 key 1\n";
                        setup.directory().write("keys", "1 SHA1 HEX:0102030405\n");
                    }
                    let ptntp = setup.config(&config).args(&["--dialect", dialect]).start();
                    measured(&ptntp, &hosts);
                    if expected {
                        assert!(
                            wait_until(secs(20), || ptntp.sync()),
                            "{line}: {}",
                            ptntp.stat()
                        );
                    } else {
                        // At first there may have been one alone.
                        let nobody = || ptntp.stat()["source"].is_null();
                        assert!(wait_until(secs(10), nobody), "{line}: {}", ptntp.stat());
                        std::thread::sleep(secs(3));
                        assert!(nobody(), "{line}: {}", ptntp.stat());
                    }
                }
            });
        }
    });
}

/// Of four that agree the one that is off most is cast out, unless so many are to be left.
#[test]
fn minclock_keeps_so_many() {
    require!(root);
    let ahead = Says {
        offset_s: 0.003,
        ..TRUTH
    };
    for (line, cast_out) in [("tos minclock 3", true), ("tos minclock 4", false)] {
        let star = Star::new(1);
        let _witnesses = servers(&star, &[TRUTH, TRUTH, TRUTH, ahead]);
        let mut config = format!("{line}\ntos mindist 0.05\n");
        for host in 10..14 {
            config += &format!("server {} minpoll -1 maxpoll -1\n", host_v4(0, host));
        }
        let ptntp = start(&star.hub, NTP, "none", &config);
        measured(&ptntp, &[10, 11, 12, 13]);
        let is_so = || (tally(&ptntp, 13) == "outlier") == cast_out && ptntp.sync();
        assert!(
            wait_until(secs(20), is_so),
            "{line}: {:#?}",
            ptntp.sources()
        );
    }
}

/// What becomes of a clock whose server moves by half a second once it is followed.
#[test]
fn a_server_that_moves_is_dealt_with_as_the_lines_say() {
    require!(root);
    // (dialect, lines, steps after it has moved, the daemon's status if it ends)
    let cases: [(&str, &str, u64, Option<i32>); 17] = [
        (NTP, "tinker step 0.128 stepout 0", 1, None),
        (NTP, "tinker step 0 stepout 0", 0, None),
        (NTP, "tinker step 0 stepfwd 0.128 stepout 0", 1, None),
        (NTP, "tinker step 0.128 stepfwd 0 stepout 0", 0, None),
        (NTP, "tinker step 0 stepback 0.128 stepout 0", 1, None),
        (NTP, "tinker step 0.128 stepback 0 stepout 0", 0, None),
        (NTP, "tinker step 0.128 stepout 300", 0, None),
        (NTP, "tinker step 0.128 stepout 0 stepupdates 1", 0, None),
        (NTP, "tinker step 0.128 stepout 0 panic 0.4", 0, Some(3)),
        (NTP, "tinker step 0.128 stepout 0 panic 0", 1, None),
        (
            NTP,
            "tinker step 0.128 stepout 0 panic 0.4 panicafter 1000",
            1,
            None,
        ),
        (
            NTP,
            "tinker step 0.128 stepout 0 panic 0.4 panicignore -1",
            0,
            None,
        ),
        (CHRONY, "makestep 0.1 -1", 1, None),
        (CHRONY, "makestep 0.1 1", 0, None),
        (CHRONY, "makestep 0.1 -1\nmaxchange 0.4 0 0", 0, Some(3)),
        (CHRONY, "makestep 0.1 -1\nmaxchange 0.4 1000 0", 1, None),
        (CHRONY, "makestep 0.1 -1\nmaxchange 0.4 0 -1", 0, None),
    ];
    let star = Star::new(cases.len());
    let all: Vec<SocketAddr> = (0..cases.len()).map(|n| (hub_v4(n), 123).into()).collect();
    let witnesses = Witnesses::start(&star.hub, all.iter().map(|at| (*at, TRUTH)));
    let mut daemons: Vec<Ptntp> = (0..)
        .zip(&cases)
        .map(|(n, (dialect, lines, ..))| {
            let config = format!("{lines}\nserver {} minpoll -2 maxpoll -2\n", hub_v4(n));
            start(&star.spokes[n], dialect, "virtual:0,0", &config)
        })
        .collect();
    for ptntp in &daemons {
        assert!(wait_until(secs(30), || ptntp.sync()), "{}", ptntp.stat());
    }
    std::thread::sleep(secs(3));
    for (at, (_, lines, ..)) in all.iter().zip(cases) {
        let sign = if lines.contains("stepback") {
            -1.0
        } else {
            1.0
        };
        witnesses.say(
            at.ip(),
            Says {
                offset_s: sign * 0.5,
                ..TRUTH
            },
        );
    }
    std::thread::sleep(secs(15));
    for (ptntp, (dialect, lines, steps, status)) in daemons.iter_mut().zip(cases) {
        let ended = ptntp.process.ended();
        let code = ended.and_then(|status| status.code());
        assert_eq!(code, status, "{dialect} {lines}: {}", ptntp.process.log());
        if status.is_none() {
            let stat = ptntp.stat();
            assert_eq!(stat["steps"], steps, "{dialect} {lines}: {stat}");
            if lines.ends_with("-1") && lines.contains('4') {
                // Not slewed either.
                let error_s = ptntp.true_error_s();
                assert!(error_s.abs() < 0.01, "{lines}: {error_s}");
            }
        }
    }
}

/// `initstepslew`: who is named there sets the clock once, by a step or not, and is asked no
/// more; then the others have their say. If none of them answers the others don't wait for ever.
#[test]
fn the_clock_is_set_at_the_start_by_whom_initstepslew_names() {
    require!(root);
    // (dialect, threshold, does the first host answer, steps)
    let cases = [
        (CHRONY, "0.2", true, 1),
        (NTP, "0.2", true, 1),
        (CHRONY, "2", true, 0),
        (CHRONY, "0.2", false, 0),
    ];
    std::thread::scope(|scope| {
        for (dialect, threshold, answers, steps) in cases {
            scope.spawn(move || {
                let star = Star::new(1);
                let ahead = Says {
                    offset_s: 0.02,
                    ..TRUTH
                };
                let witnesses = servers(&star, &[TRUTH, ahead]);
                let host = if answers { 10 } else { 99 };
                let mut config = format!(
                    "initstepslew {threshold} {}\nserver {} iburst minpoll 1 maxpoll 1\n",
                    host_v4(0, host),
                    host_v4(0, 11)
                );
                if dialect == NTP {
                    // What is stepped is not by this line.
                    config += "tinker step 0\n";
                }
                let ptntp = start(&star.hub, dialect, "virtual:0.5,0", &config);
                let set = || ptntp.process.log().contains("initstepslew");
                assert!(wait_until(secs(40), set), "{}", ptntp.process.log());
                assert!(wait_until(secs(20), || ptntp.sync()), "{}", ptntp.stat());
                let case = format!("{dialect} {threshold} {answers}");
                let stat = ptntp.stat();
                assert_eq!(stat["steps"], steps, "{case}: {stat}");
                assert_eq!(ptntp.sources().len(), 1, "{case}");
                if steps == 1 {
                    // By the one, and slewed to the other since.
                    let error_s = ptntp.true_error_s();
                    assert!((-0.005..0.025).contains(&error_s), "{case}: {error_s}");
                }
                let asked = witnesses.seen(host_v4(0, 10)).len();
                assert_eq!(asked > 0, answers, "{case}");
                std::thread::sleep(secs(5));
                assert_eq!(witnesses.seen(host_v4(0, 10)).len(), asked, "{case}");
            });
        }
    });
}

/// Who is named by `initstepslew` and `server` alike is a source still when the file was read
/// again.
#[test]
fn a_reload_keeps_the_server_that_initstepslew_names_too() {
    require!(root);
    let star = Star::new(1);
    let _witnesses = servers(&star, &[TRUTH]);
    let host = host_v4(0, 10);
    let config = format!(
        "initstepslew 0.2 {host}\nserver {host} iburst minpoll 1 maxpoll 1\nmakestep 1 1\n"
    );
    let mut ptntp = start(&star.hub, CHRONY, "virtual:0.5,0", &config);
    assert!(wait_until(secs(40), || ptntp.sync()), "{}", ptntp.stat());
    ptntp.process.signal(Signal::SIGHUP);
    let again = || ptntp.process.log().contains("read again: 1 sources stay");
    assert!(wait_until(secs(10), again), "{}", ptntp.process.log());
    assert_eq!(ptntp.sources().len(), 1, "{}", ptntp.process.log());
}

//! ntpsec's real `ntpq` asks ptntp, and asks ntpd in the same situation: the tables
//! have the same columns, the variables the same names. And by their bytes: what
//! monitoring plugins send, and what strangers should not.

mod common;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use common::net::{Star, host_v4, hub_v4, hub_v6, spoke_v4, spoke_v6};
use common::ntp::{Client, control};
use common::peers::{ChronyServer, Ntpd, ntpq};
use common::process::stdout;
use common::ptntp::{Ptntp, in_namespace};
use common::{TempDir, secs, wait_until};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A server that answers, and one that does not.
const SOURCES: &str = "server 10.77.0.2 iburst minpoll 3 maxpoll 3\nserver 10.77.0.9 iburst\n";

/// The data of a one-fragment answer; panics at an error.
fn data(answer: &[u8]) -> &[u8] {
    assert_eq!(answer[1] & 0xe0, 0x80, "{answer:x?}");
    let count = usize::from(u16::from_be_bytes([answer[10], answer[11]]));
    &answer[12..12 + count]
}

/// ptntp in the hub, with a chronyd to follow.
fn following<'a>(star: &'a Star, backend: &str, rules: &str) -> (ChronyServer, Ptntp<'a>) {
    let server = ChronyServer::start(&star.spokes[0]);
    let ptntp = in_namespace(&star.hub)
        .config(&format!("{SOURCES}{rules}"))
        .args(&["--io", backend])
        .start();
    assert!(wait_until(secs(30), || ptntp.sync()), "it does not follow");
    (server, ptntp)
}

/// `name` of each `name=` in what `ntpq -c rv` printed.
fn names(text: &str) -> BTreeSet<String> {
    let (_, variables) = text.split_once('\n').expect("a status line and more");
    let mut names = BTreeSet::new();
    for part in variables
        .split('=')
        .collect::<Vec<_>>()
        .split_last()
        .expect("some")
        .1
    {
        // Debian's ntpd has stray bytes in its filter's lists, of which anything may come.
        let end = |c: char| !(c.is_ascii_lowercase() || c == '_');
        let name = part.trim_end().rsplit(end).next();
        names.insert(name.expect("a name").to_owned());
    }
    // One of those bytes may be a `=`.
    names.remove("");
    names
}

fn ntpq_reads_us(backend: &str) {
    let star = Star::new(1);
    let (_server, ptntp) = following(&star, backend, "restrict default\nenable monitor\n");
    let ask = |args: &[&str]| ntpq(&star.hub, LOOPBACK, args);

    let table = ask(&["-pn"]);
    let rows: Vec<&str> = table.lines().collect();
    assert!(rows[0].starts_with("     remote           refid      st t when poll reach"));
    assert!(rows[2].starts_with("*10.77.0.2 "), "{table}");
    assert!(
        rows[3].starts_with(" 10.77.0.9       .INIT.          16 u    -"),
        "{table}"
    );
    assert_eq!(rows.len(), 4, "{table}");
    assert!(ask(&["-p"]).contains("*10.77.0.2 "));

    let system = ask(&["-c", "rv"]);
    assert!(system.contains("leap_none, sync_ntp"), "{system}");
    assert!(
        system.contains("stratum=2, ") && system.contains("refid=10.77.0.2"),
        "{system}"
    );
    assert!(system.contains("version=\"ptntp "), "{system}");

    let associations = ask(&["-c", "as"]);
    assert!(
        associations.contains(" 961a   yes   yes  none  sys.peer    sys_peer  1"),
        "{associations}"
    );
    let ours = stdout(&ptntp.tell(&["associations"]));
    assert_eq!(ours.trim_end(), associations.trim_end());
    let ours = stdout(&ptntp.tell(&["variables", "&1"]));
    assert_eq!(names(&ours), names(&ask(&["-c", "rv &1"])));
    let peer = ask(&["-c", "rv &1"]);
    assert!(peer.contains("srcadr=10.77.0.2, srcport=123"), "{peer}");
    let ours = format!("dstadr={}", hub_v4(0));
    assert!(peer.contains(&ours), "{peer}");
    assert!(peer.contains("flash=00 ok"), "{peer}");
    assert!(ask(&["-c", "rv &2"]).contains("peer_unreach"));

    // From another host, by both families, and it then is in the list itself.
    for server in [hub_v4(0), hub_v6(0)] {
        let table = ntpq(&star.spokes[0], server, &["-pn"]);
        assert!(table.contains("*10.77.0.2 "), "{table}");
    }
    let clients = ask(&["-n", "-c", "mrulist"]);
    for client in [LOOPBACK, spoke_v4(0), spoke_v6(0)] {
        assert!(clients.contains(&format!(" {client}\n")), "{clients}");
    }
    assert!(clients.contains("# Collected 3 slots"), "{clients}");
    assert!(ask(&["-c", "ifstats"]).contains("***"));
    assert!(ask(&["-c", "sysinfo"]).contains("10.77.0.2:123"));
}

#[test]
fn ntpq_reads_us_with_uring() {
    require!(root, peers, ipv6);
    ntpq_reads_us("uring");
}

#[test]
fn ntpq_reads_us_with_poll() {
    require!(root, peers, ipv6);
    ntpq_reads_us("poll");
}

/// Side by side with ntpd, which follows the same server.
#[test]
fn the_shape_is_ntpds() {
    require!(root, peers, ipv6);
    let star = Star::new(2);
    let (_server, _ptntp) = following(&star, "uring", "restrict default\n");
    // The other spoke follows the hub, ptntp; what counts is the form.
    let sources = SOURCES
        .replace("10.77.0.2", "10.77.1.1")
        .replace("10.77.0.9", "10.77.1.9");
    let _ntpd = Ntpd::start(&star.spokes[1], &format!("{sources}restrict 127.0.0.1\n"));
    let theirs = |args: &[&str]| ntpq(&star.spokes[1], LOOPBACK, args);
    let ours = |args: &[&str]| ntpq(&star.hub, LOOPBACK, args);
    let follows = wait_until(secs(60), || {
        theirs(&["-pn"]).contains("10.77.1.1 ")
            && theirs(&["-c", "rv &1"]).contains("reach=0")
            && !theirs(&["-c", "rv &1"]).contains("reach=000")
    });
    assert!(follows, "ntpd hears nobody: {}", theirs(&["-p"]));

    for command in ["-p", "-pn"] {
        let (a, b) = (theirs(&[command]), ours(&[command]));
        let heads = |text: &str| text.lines().take(2).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(heads(&a), heads(&b));
        let widths = |text: &str| text.lines().skip(2).map(str::len).collect::<BTreeSet<_>>();
        assert_eq!(widths(&a), widths(&b), "{a}\n{b}");
    }
    let columns = |text: &str| text.lines().take(3).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(
        columns(&theirs(&["-c", "as"])),
        columns(&ours(&["-c", "as"]))
    );
    assert_eq!(names(&theirs(&["-c", "rv"])), names(&ours(&["-c", "rv"])));
    let mut expected = names(&theirs(&["-c", "rv &1"]));
    // There is no NTS, so no cookies.
    expected.remove("ntscookies");
    assert_eq!(expected, names(&ours(&["-c", "rv &1"])));
}

const KEYS: &str = "1 MD5 firstkey\n2 SHA1 0123456789abcdef0123456789abcdef01234567\n";

/// What ntpq prints of one of them, whose server has a key: `reslist`, the source's line of
/// `as`, its keyid, and what comes of lists and orders with a wrong key and with the right one.
fn with_keys(ours: bool) -> Vec<String> {
    let star = Star::new(1);
    let directory = TempDir::new();
    let file = directory.write("keys", KEYS).display().to_string();
    let chrony = directory.write("chrony.keys", "1 MD5 ASCII:firstkey\n");
    let _server =
        ChronyServer::start_with(&star.spokes[0], &format!("keyfile {}", chrony.display()));
    let config = format!(
        "server 10.77.0.2 key 1 iburst minpoll 3 maxpoll 3\nkeys {file}\ntrustedkey 1 2\n\
         controlkey 2\nrestrict default kod limited nomodify noquery\nrestrict 127.0.0.1\n\
         restrict 10.77.0.0 mask 255.255.0.0 ntpport noquery\nrestrict 10.9.0.0/16 ignore\n\
         restrict 2001:db8::/32 notrust noserve\n"
    );
    let _ptntp = ours.then(|| in_namespace(&star.hub).config(&config).start());
    let _ntpd = (!ours).then(|| Ntpd::start(&star.hub, &config));
    let ask = |args: &[&str]| ntpq(&star.hub, LOOPBACK, args);
    let line = || {
        ask(&["-c", "as"])
            .lines()
            .nth(3)
            .unwrap_or_default()
            .to_owned()
    };
    let hears = || line().contains(" ok ") && line().contains("sys.peer");
    assert!(wait_until(secs(90), hears), "{}", ask(&["-c", "as"]));

    let signed = |id: &str, words: &str| ask(&["-k", &file, "-a", id, "-c", words]);
    let interfaces = signed("2", "ifstats");
    assert!(interfaces.contains("address/broadcast"), "{interfaces}");
    assert!(interfaces.contains(":123\n"), "{interfaces}");
    // ntpd has entries for its own interfaces, and counts.
    let rows = signed("2", "reslist");
    let rows: Vec<&str> = rows.lines().skip(3).collect();
    let mut said: Vec<String> = rows
        .chunks(2)
        .filter(|row| !row.concat().contains(" interface "))
        .map(|row| {
            let block = row[0].split_whitespace().nth(1);
            format!("{} {}", block.expect("a block"), row[1].trim())
        })
        .collect();
    assert_eq!(said.len(), 6, "{rows:?}");
    let words: Vec<_> = line()
        .split_whitespace()
        .skip(2)
        .map(str::to_owned)
        .collect();
    said.push(words.join(" "));
    said.push(ask(&["-c", "rv &1 keyid", "-c", "rv &1 authentic"]));
    said.push(signed("1", "ifstats"));
    said.push(signed("1", "reslist"));
    said.push(signed("1", ":config server 192.0.2.1"));
    said.push(ask(&["-c", "ifstats"]));
    if ours {
        let refused = signed("2", ":config server 192.0.2.1");
        assert!(refused.contains("PERMISSION"), "{refused}");
    }
    // What nobody signs, and what is no list.
    for words in ["kerninfo", "iostats", "timerstats", "monstats", "pstats &1"] {
        let text = ask(&["-c", words]);
        let is_whole = !text.contains("Unknown variable") && !text.contains("?");
        assert!(is_whole && !text.contains("Traceback"), "{text}");
        let names = text.lines().filter_map(|line| line.split_once(':'));
        said.extend(names.map(|(name, _)| name.to_owned()));
    }
    said
}

/// Side by side with ntpd.
#[test]
fn the_control_key_shows_what_ntpds_shows() {
    require!(root, peers);
    let (ours, theirs) = (with_keys(true), with_keys(false));
    assert_eq!(ours, theirs);
    assert!(ours[0].starts_with("127.0.0.1/32"), "{ours:?}");
    assert!(ours[8].contains("PERMISSION"), "{ours:?}");
}

/// What check_ntp_peer and check_ntp_time's kin send, byte by byte.
#[test]
fn nagios_gets_its_figures() {
    require!(root, peers);
    let star = Star::new(1);
    let (_server, _ptntp) = following(&star, "uring", "restrict default\n");
    let client = Client::new(&star.spokes[0], hub_v4(0));
    let list = client.ask(&control(1, 0, b"")).expect("an answer");
    let peers: Vec<_> = data(&list).chunks_exact(4).collect();
    assert_eq!(peers.len(), 2);
    // It looks for the selection's bits, 6 for the system peer.
    let chosen = peers
        .iter()
        .find(|peer| peer[2] & 7 == 6)
        .expect("a system peer");
    let id = u16::from_be_bytes([chosen[0], chosen[1]]);
    let answer = client
        .ask(&control(2, id, b"stratum,offset,jitter"))
        .expect("an answer");
    let text = String::from_utf8(data(&answer).to_vec()).expect("text");
    let offset = text.split_once("offset=").expect("an offset").1;
    let offset: f64 = offset
        .split([',', '\r'])
        .next()
        .expect("a number")
        .parse()
        .expect("one");
    assert!(offset.abs() < 600.0, "{text}");
    assert!(
        text.starts_with("stratum=1, offset=") && text.contains("jitter="),
        "{text}"
    );
}

/// Strangers get the time alone unless a rule says more; this host's programs may ask.
#[test]
fn strangers_may_not_ask_unless_told_so() {
    require!(root, peers);
    for (rules, remote, local) in [
        ("", false, true),
        ("restrict default noquery\n", false, false),
        ("restrict default nomodify\n", true, true),
        (
            "restrict default noquery\nrestrict 10.77.0.2\n",
            true,
            false,
        ),
    ] {
        let star = Star::new(1);
        let config = format!("server 127.127.1.0\n{rules}");
        let _ptntp = in_namespace(&star.hub).config(&config).start();
        let stranger = Client::new(&star.spokes[0], hub_v4(0));
        assert!(wait_until(secs(30), || stranger.time().is_some()));
        let own = Client::new(&star.hub, LOOPBACK);
        let asked = |client: &Client| client.ask(&control(2, 0, b"leap")).is_some();
        assert_eq!((asked(&stranger), asked(&own)), (remote, local), "{rules}");
    }
}

/// Nothing, or an error that is no longer: for what is malformed, for what changes
/// something, and for lists without proof of who asks.
fn hostile(backend: &str) {
    let star = Star::new(1);
    star.spokes[0].add_address("eth", "10.77.0.10/24");
    let mut ptntp = in_namespace(&star.hub)
        .config("server 127.127.1.0\nrestrict default\nmru maxdepth 100\n")
        .args(&["--io", backend])
        .start();
    let client = Client::new(&star.spokes[0], hub_v4(0));
    assert!(wait_until(secs(30), || client
        .ask(&control(2, 0, b"leap"))
        .is_some()));
    let refused = |request: &[u8], code: u8| {
        let answer = client.ask(request).expect("an error");
        assert_eq!(
            (answer.len(), answer[1] & 0xc0, answer[4]),
            (12, 0xc0, code)
        );
        assert!(answer.len() <= request.len());
    };
    refused(&control(3, 0, b"leap=3"), 1);
    refused(&control(8, 0, b"server 192.0.2.1"), 1);
    refused(&control(11, 0, b"ifstats"), 1);
    refused(&control(11, 0, b"addr_restrictions"), 1);
    refused(&control(5, 0, b""), 1);
    refused(&control(6, 0, b""), 3);
    refused(&control(31, 0, b""), 3);
    refused(&control(1, 4711, b""), 4);
    refused(&control(2, 0, b"nonsense"), 5);
    let mut lying = control(2, 0, b"leap");
    lying[11] = 200;
    refused(&lying, 2);
    refused(&[&control(2, 0, b"leap")[..], b"x"].concat(), 2);
    let silent = |request: &[u8]| assert_eq!(client.ask(request), None, "{request:x?}");
    silent(&control(10, 0, b"frags=32"));
    silent(&control(
        10,
        0,
        b"nonce=n6a0000000123456789abcdef, frags=32",
    ));
    silent(&control(0x82, 0, b"leap"));
    silent(&control(0x22, 0, b"leap"));
    silent(&[0x16; 11]);
    let mut fragment = control(2, 0, b"leap");
    fragment[9] = 4;
    silent(&fragment);
    // A nonce proves one address alone.
    let nonce = client.ask(&control(12, 0, b"")).expect("a nonce");
    let nonce = data(&nonce).trim_ascii().to_vec();
    let asks = [&nonce[..], b", frags=2"].concat();
    let other = Client::from(&star.spokes[0], (host_v4(0, 10), 0).into(), hub_v4(0));
    assert_eq!(other.ask(&control(10, 0, &asks)), None);
    let list = client.ask(&control(10, 0, &asks)).expect("a list");
    assert!(
        String::from_utf8_lossy(&list).contains("addr.0=10.77.0."),
        "{list:x?}"
    );
    refused(&control(10, 0, &[&nonce[..], b", frags=500"].concat()), 6);
    // Who floods does not decide how much we say.
    let start = std::time::Instant::now();
    let asked = control(2, 0, b"leap");
    let mut answers = 0;
    for n in 0..6000 {
        client.send(&asked);
        if n % 20 == 0 {
            answers += client.drain().len();
        }
    }
    while let Some(_answer) = client.receive() {
        answers += 1;
    }
    let most = 1000.0 + 1000.0 * (start.elapsed().as_secs_f64() + 1.0);
    eprintln!(
        "{answers} answers to 6000 questions in {:?}",
        start.elapsed()
    );
    assert!((answers as f64) < most, "{answers} answers");
    assert!(
        wait_until(secs(5), || other.time().is_some()),
        "no time after a flood"
    );
    assert!(ptntp.process.ended().is_none());
    assert!(!ptntp.process.log().contains("panicked"));
}

#[test]
fn hostile_messages_gain_nothing_with_uring() {
    require!(root);
    hostile("uring");
}

#[test]
fn hostile_messages_gain_nothing_with_poll() {
    require!(root);
    hostile("poll");
}

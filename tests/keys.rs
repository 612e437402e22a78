//! Symmetric keys, beside the real programs: chronyd and ntpsec's ntpd take our time
//! and give us theirs, signed by every kind of key that they have, from key files that
//! both sides read; and what each does to a wrong MAC we do too.

mod common;

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use common::net::{Namespace, Star, hub_v4, spoke_v4};
use common::peers::{MUTE, Ntpd, chronyd_query, ntpq, root};
use common::process::{self, Process};
use common::ptntp::{Ptntp, in_namespace};
use common::{TempDir, secs, wait_until};
use ptntp::wire::key::{Key, KeyKind, MAC_LEN_MAX};

/// The kinds of keys, numbered from 1.
fn numbered() -> impl Iterator<Item = (usize, KeyKind)> {
    (1..).zip(KeyKind::ALL)
}

/// A secret of the right length, hexadecimal.
fn digits(id: usize, kind: KeyKind) -> String {
    format!("{:02x}", 0xa0 + id).repeat(kind.secret_len().unwrap_or(20))
}

/// As chrony writes them; the last one is text, and of a number that ntpd can't have.
fn chrony_keys() -> String {
    let mut text = String::from("# keys\n100000 SHA1 ASCII:some#text\n");
    for (id, kind) in numbered() {
        writeln!(text, "{id} {} HEX:{}", kind.name(), digits(id, kind)).expect("a string");
    }
    text
}

/// As ntpd does.
fn ntp_keys() -> String {
    let mut text = String::from("# keys\n99 MD5 some.text # and a comment\n");
    for (id, kind) in numbered() {
        let name = match kind {
            KeyKind::Aes128 => "AES-128",
            KeyKind::Aes256 => "AES-256",
            _ => kind.name(),
        };
        writeln!(text, "{id} {name} {}", digits(id, kind)).expect("a string");
    }
    text
}

fn key(id: usize) -> Key {
    let (id, kind) = numbered().nth(id - 1).expect("a kind");
    let text = format!("{id}:{}:HEX:{}", kind.name(), digits(id, kind));
    text.parse().expect("a key")
}

const SERVED: &str = "server 127.127.1.0\nfudge 127.127.1.0 stratum 3\n";

/// Serves its own clock, 0.25 s ahead, to those with a key.
fn ntp_server(star: &Star) -> Ptntp<'_> {
    let setup = in_namespace(&star.hub)
        .clock("virtual:0.25,0")
        .config(&format!(
            "{SERVED}restrict default notrust\nkeys @DIR@/keys\ntrustedkey (1 ... 7) 99\n"
        ));
    setup.directory().write("keys", ntp_keys());
    let server = setup.start();
    wait_signed(star);
    server
}

fn ask(from: &Namespace, bytes: &[u8]) -> Option<Vec<u8>> {
    let socket: UdpSocket = from.udp(SocketAddr::from(([0, 0, 0, 0], 0)));
    socket.set_read_timeout(Some(secs(1))).expect("a timeout");
    socket.send_to(bytes, (hub_v4(0), 123)).expect("sent");
    let mut reply = [0; 1024];
    let len = socket.recv(&mut reply).ok()?;
    Some(reply[..len].to_vec())
}

/// A request, signed.
fn request(key: &Key) -> Vec<u8> {
    let mut bytes = vec![0; 48];
    bytes[0] = 0x23;
    bytes[40..].copy_from_slice(&[7; 8]);
    let mut mac = [0; MAC_LEN_MAX];
    let len = key.sign(&bytes, &mut mac);
    bytes.extend(&mac[..len]);
    bytes
}

/// The local clock is served as soon as it is chosen.
fn wait_signed(star: &Star) {
    let served = wait_until(secs(30), || {
        ask(&star.spokes[0], &request(&key(2))).is_some_and(|reply| reply[0] >> 6 != 3)
    });
    assert!(served, "the local clock is not served");
}

#[test]
fn replies_are_signed_and_wrong_macs_get_what_the_dialect_says() {
    require!(root);
    let star = Star::new(1);
    let spoke = &star.spokes[0];
    let server = in_namespace(&star.hub).config(&format!(
        "{SERVED}restrict default\nkeys @DIR@/keys\ntrustedkey 1 (3 ... 7)\n"
    ));
    server.directory().write("keys", ntp_keys());
    let server = server.start();
    for (id, _) in numbered() {
        let reply = ask(spoke, &request(&key(id))).expect("a reply");
        let (header, mac) = reply.split_at(48);
        if id == 2 {
            assert_eq!(mac, [0; 4], "a key that is not trusted: a crypto-NAK");
        } else {
            assert!(key(id).verifies(header, mac), "{id}: {mac:?}");
        }
    }
    let mut wrong = request(&key(1));
    wrong[60] ^= 1;
    assert_eq!(ask(spoke, &wrong).expect("a reply")[48..], [0; 4]);
    let verdict = [("verdict", "crypto_nak")];
    let naks = server.scrape().sum("ptntp_server_requests_total", &verdict);
    assert_eq!(naks, Some(2.0));
    drop(server);

    let server = in_namespace(&star.hub)
        .config("local stratum 3\nallow\nkeyfile @DIR@/keys\n")
        .args(&["--dialect", "chrony"]);
    server.directory().write("keys", chrony_keys());
    let _server = server.start();
    let reply = ask(spoke, &request(&key(5))).expect("a reply");
    assert!(key(5).verifies(&reply[..48], &reply[48..]));
    assert_eq!(ask(spoke, &wrong), None, "chronyd is silent, too");
    assert!(ask(spoke, &wrong[..48]).is_some());
}

#[test]
fn two_of_us_sign_for_each_other_and_say_when_keys_differ() {
    require!(root);
    let star = Star::new(1);
    let _server = ntp_server(&star);
    let (server, spoke) = (hub_v4(0), &star.spokes[0]);
    let client = in_namespace(spoke).config(&format!(
        "keyfile @DIR@/keys\nserver {server} iburst minpoll 0 maxpoll 1 key 6 xleave\n"
    ));
    client.directory().write("keys", chrony_keys());
    let client = client.args(&["--dialect", "chrony"]).start();
    let believed = wait_until(secs(20), || client.sync());
    assert!(believed, "{:#?}", client.sources());
    drop(client);
    let client = in_namespace(spoke).config(&format!(
        "keyfile @DIR@/keys\nserver {server} iburst minpoll 0 maxpoll 1 key 6\n"
    ));
    let wrong = chrony_keys().replace("HEX:a6", "HEX:b6");
    client.directory().write("keys", wrong);
    let client = client.args(&["--dialect", "chrony"]).start();
    std::thread::sleep(secs(5));
    let source = &client.sources()[0];
    assert!(!client.sync());
    // `notrust` drops what it can't trust, so nobody says what is wrong.
    assert_eq!(rejected(source, "crypto_nak"), 0, "{source:#}");
}

#[test]
fn reload_takes_new_keys_for_old() {
    require!(root);
    let star = Star::new(1);
    let setup = in_namespace(&star.hub).config(&format!(
        "{SERVED}restrict default\nkeys @DIR@/keys\ntrustedkey (1 ... 7)\n"
    ));
    setup.directory().write("keys", ntp_keys());
    let server = setup.start();
    let is_signed = |by: &Key| {
        let reply = ask(&star.spokes[0], &request(by)).expect("a reply");
        by.verifies(&reply[..48], &reply[48..])
    };
    let old = key(2);
    let new: Key = format!("2:SHA1:HEX:{}", "b2".repeat(20))
        .parse()
        .expect("a key");
    assert!(is_signed(&old) && !is_signed(&new));
    server
        .directory
        .write("keys", ntp_keys().replace("a2", "b2"));
    let output = server.tell(&["reload"]);
    assert!(output.status.success(), "{}", process::all(&output));
    assert!(wait_until(secs(5), || is_signed(&new)));
    assert!(!is_signed(&old));
    // A file that is none leaves the old keys.
    std::fs::remove_file(server.directory.path().join("keys")).expect("removed");
    std::fs::create_dir(server.directory.path().join("keys")).expect("made");
    assert!(!server.tell(&["reload"]).status.success());
    assert!(is_signed(&new));
}

#[test]
fn chronyd_takes_our_signed_time() {
    require!(root, peers);
    let star = Star::new(1);
    let _ptntp = ntp_server(&star);
    let directory = TempDir::new();
    let keys = directory.write("keys", chrony_keys());
    let file = format!("keyfile {}", keys.display());
    std::thread::scope(|scope| {
        for (id, kind) in numbered() {
            let (spoke, file) = (&star.spokes[0], &file);
            let xleave = if id % 2 == 0 { " xleave" } else { "" };
            scope.spawn(move || {
                let options = format!("key {id}{xleave}");
                let seen = query(spoke, hub_v4(0), &options, file)
                    .unwrap_or_else(|log| panic!("{kind:?}: {log}"));
                assert!((seen - 0.25).abs() < 0.01, "{kind:?}: {seen}");
            });
        }
    });
    assert!(
        chronyd_query(&star.spokes[0], hub_v4(0), "").is_err(),
        "without a key there is no time"
    );
}

/// As [`chronyd_query`], with a key file.
fn query(from: &Namespace, server: IpAddr, options: &str, file: &str) -> Result<f64, String> {
    let directory = TempDir::new();
    let pid = format!("pidfile {}/pid", directory.path().display());
    let mut command = process::command(Some(from), root().join("usr/sbin/chronyd"));
    command.args(["-Q", "-x", "-t", "20", "user root", "cmdport 0", file]);
    command.args(["bindcmdaddress /", &pid]);
    command.arg(format!("server {server} iburst {options}"));
    let text = process::all(&process::run(command, secs(30)));
    text.split_once("System clock wrong by ")
        .and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok())
        .ok_or(text)
}

/// A ptntp that asks the server on each of these spokes by the key of its number.
fn follow<'a>(star: &'a Star, config: &str, keys: &str, ids: &[usize]) -> Ptntp<'a> {
    let mut text = config.to_owned();
    for &id in ids {
        let address = spoke_v4(id - 1);
        writeln!(text, "server {address} iburst minpoll 0 maxpoll 2 key {id}").expect("a string");
    }
    let setup = in_namespace(&star.hub).config(&text);
    setup.directory().write("keys", keys);
    setup.start()
}

/// Waits until all that are expected to be believed are, and the others are not.
fn believed(ptntp: &Ptntp, expected: &[bool]) {
    // A server that has no time yet is believed that.
    let reached = |source: &serde_json::Value| {
        source["reach"].as_u64().unwrap_or(0) > 0 || rejected(source, "unsynchronised") > 0
    };
    let good = wait_until(secs(30), || {
        let sources = ptntp.sources();
        let pairs = sources.iter().zip(expected);
        sources.len() == expected.len() && pairs.filter(|(_, e)| **e).all(|(s, _)| reached(s))
    });
    let sources = ptntp.sources();
    assert!(good, "{sources:#?}");
    for (source, expected) in sources.iter().zip(expected) {
        assert_eq!(reached(source), *expected, "{source:#}");
    }
}

fn rejected(source: &serde_json::Value, test: &str) -> u64 {
    source["rejected"][test].as_u64().unwrap_or(0)
}

#[test]
fn we_take_chronyds_signed_time() {
    require!(root, peers);
    let star = Star::new(7);
    let servers: Vec<_> = star.spokes.iter().map(chronyd).collect();
    let ids: Vec<usize> = (1..=7).collect();
    let keys = "keyfile @DIR@/keys\n";
    let ptntp = follow(&star, keys, &chrony_keys(), &ids);
    believed(&ptntp, &[true; 7]);
    drop(ptntp);
    // Two secrets that the servers don't have: chronyd answers nothing.
    let wrong = chrony_keys()
        .replace("HEX:a1", "HEX:b1")
        .replace("HEX:a6", "HEX:b6");
    let ptntp = follow(&star, keys, &wrong, &[1, 2, 6]);
    believed(&ptntp, &[false, true, false]);
    drop(servers);
}

/// A chronyd that serves its clock, and has the keys.
fn chronyd(namespace: &Namespace) -> (Process, TempDir) {
    let directory = TempDir::new();
    directory.write("keys", chrony_keys());
    let config = format!("local stratum 1\nallow all\n{MUTE}keyfile @DIR@/keys\n");
    let process = common::peers::chronyd(namespace, &directory, &config);
    (process, directory)
}

#[test]
fn we_take_ntpds_signed_time() {
    require!(root, peers);
    let star = Star::new(7);
    let files = TempDir::new();
    let keys = files.write("keys", ntp_keys());
    let config = format!(
        "{SERVED}restrict default\nkeys {}\ntrustedkey 1 2 3 4 5 6 7\n",
        keys.display()
    );
    let servers: Vec<_> = star
        .spokes
        .iter()
        .map(|s| Ntpd::start(s, &config))
        .collect();
    let own = "keys @DIR@/keys\ntrustedkey (1 ... 7)\n";
    let ptntp = follow(&star, own, &ntp_keys(), &[1, 2, 3, 4, 5, 6, 7]);
    believed(&ptntp, &[true; 7]);
    drop(ptntp);
    // Two secrets that the servers don't have: ntpsec's ntpd answers nothing, too.
    let wrong = ntp_keys().replace("a1a1", "b1b1").replace("a6a6", "b6b6");
    let ptntp = follow(&star, own, &wrong, &[1, 2, 6]);
    believed(&ptntp, &[false, true, false]);
    drop(servers);
}

#[test]
fn ntpd_takes_our_signed_time() {
    require!(root, peers);
    let star = Star::new(7);
    let _ptntp = ntp_server(&star);
    let files = TempDir::new();
    let keys = files.write("keys", ntp_keys());
    let clients: Vec<_> = numbered()
        .zip(&star.spokes)
        .map(|((id, _), spoke)| {
            let server = hub_v4(id - 1);
            let keys = keys.display();
            let config = format!(
                "server {server} iburst minpoll 3 key {id}\nkeys {keys}\ntrustedkey 1 2 3 4 5 6 7\nrestrict default\nrestrict 127.0.0.1\n"
            );
            Ntpd::start(spoke, &config)
        })
        .collect();
    for ((id, kind), spoke) in numbered().zip(&star.spokes) {
        let server = hub_v4(id - 1).to_string();
        let reached = wait_until(secs(40), || {
            let text = ntpq(spoke, IpAddr::from([127, 0, 0, 1]), &["-pn"]);
            // remote refid st t when poll reach ...
            let row = text.lines().find(|line| line.contains(&server));
            row.and_then(|row| row.split_whitespace().nth(6))
                .is_some_and(|reach| reach != "0")
        });
        assert!(reached, "{kind:?}");
    }
    drop(clients);
}

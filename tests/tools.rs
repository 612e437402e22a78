//! The tools that ptntp stands in for, called by their old names through links, and the
//! monitoring that stays: the same lines, exit codes and refusals, side by side with the
//! real tool where Debian has it.

mod common;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::Output;

use common::net::{Namespace, Star, hub_v4, spoke_v4};
use common::ntp::{Liar, Lie};
use common::peers::{ChronyServer, Ntpd, chronyd_query, nagios, ntpdig_text, ntpq};
use common::process::{self, all, stdout};
use common::ptntp::{BINARY, OPEN, Ptntp, in_namespace};
use common::{TempDir, secs, wait_until};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Links to the binary, as `ptntp generate links` makes them.
struct Links(TempDir);

impl Links {
    fn new() -> Self {
        let directory = TempDir::new();
        let mut command = process::command(None, BINARY);
        command.args(["generate", "links"]).arg(directory.path());
        let output = process::run(command, secs(10));
        assert!(output.status.success(), "{}", all(&output));
        Self(directory)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, namespace: &Namespace, line: &str) -> Output {
        let (name, args) = line.split_once(' ').unwrap_or((line, ""));
        let mut command = process::command(Some(namespace), self.path(name));
        command.args(args.split_whitespace());
        process::run(command, secs(40))
    }

    /// What it prints, and its exit code.
    fn says(&self, namespace: &Namespace, line: &str) -> (String, Option<i32>) {
        let output = self.run(namespace, line);
        (all(&output), output.status.code())
    }
}

/// The figure behind a word.
fn after(text: &str, word: &str) -> f64 {
    let (_, rest) = text.split_once(word).unwrap_or_else(|| panic!("{text}"));
    let end = |c: char| !(c.is_ascii_digit() || "+-.e".contains(c));
    let figure = rest.trim_start().split(end).next().expect("one part");
    figure.parse().unwrap_or_else(|_| panic!("{word}: {text}"))
}

/// Each run of digits becomes `0`, signs the same sign.
fn shape(text: &str) -> String {
    let mut shape = String::new();
    for c in text.replace('+', "-").chars() {
        match c {
            '0'..='9' if shape.ends_with('0') => {}
            '0'..='9' => shape.push('0'),
            _ => shape.push(c),
        }
    }
    shape
}

#[test]
fn ntpdate_asks_and_sets_in_its_own_words() {
    require!(root, peers);
    let star = Star::new(1);
    let _server = ChronyServer::start(&star.spokes[0]);
    let links = Links::new();
    let says = |line: &str| links.says(&star.hub, line);

    let (text, code) = says("ntpdate -q -p 1 10.77.0.2");
    assert_eq!(code, Some(0), "{text}");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        shape(lines[0]).replace("offset -", "offset "),
        "server 0.0.0.0, stratum 0, offset 0.0, delay 0.0"
    );
    assert!(lines[0].starts_with("server 10.77.0.2, stratum 1, "));
    assert!(after(&text, "offset").abs() < 0.02, "{text}");
    // ` 2 Aug 06:36:51 ntpdate[8128]: adjust time server ...`
    let day = lines[1].get(..2).and_then(|day| day.trim().parse().ok());
    assert!(day.is_some_and(|day: u8| (1..=31).contains(&day)), "{text}");
    let rest = shape(&lines[1][6..]).replace("offset -", "offset ");
    assert_eq!(
        rest,
        " 0:0:0 ntpdate[0]: adjust time server 0.0.0.0 offset 0.0 sec"
    );

    // Half a second is the border; a clock in software is set at once.
    for (line, did, offset_s) in [
        ("-p 2 --clock virtual:0.75", "step", -0.75),
        ("-p 1 --clock virtual:-0.3", "adjust", 0.3),
        ("-p 1 -b --clock virtual:-0.3", "step", 0.3),
        ("-p 1 -B --clock virtual:110240.4", "adjust", -110_240.4),
        ("-d -p 2 --clock virtual:2", "step", -2.0),
    ] {
        let (text, code) = says(&format!("ntpdate {line} 10.77.0.2"));
        assert_eq!(code, Some(0), "{line}: {text}");
        let last = text.lines().last().expect("a line");
        assert!(
            last.contains(&format!("]: {did} time server 10.77.0.2 offset ")),
            "{line}: {text}"
        );
        assert!((after(last, "offset") - offset_s).abs() < 0.02, "{text}");
    }

    // This machine's clock it may not set, and says so before it asks anybody.
    let (text, code) = says("ntpdate 10.77.0.2");
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("no right to set the clock"), "{text}");
    let json = stdout(&links.run(&star.hub, "ntpdate -q -p 1 --json 10.77.0.2"));
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["server"], "10.77.0.2:123", "{json}");
    assert_eq!(json["servers"][0]["stratum"], 1, "{json}");
    assert_eq!(json["set"], false, "{json}");
    // It is told after it was set, or nobody was found to set it by.
    for (server, set) in [("10.77.0.2", true), ("10.77.0.77", false)] {
        let line = format!("ntpdate -p 1 -t 0.5 --clock virtual:2 --json {server}");
        let json = links.run(&star.hub, &line).stdout;
        let json: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
        assert_eq!(json["set"], set, "{json}");
        assert_eq!(json["trouble"].is_null(), set, "{json}");
    }
}

#[test]
fn ntpdate_follows_nobody_who_should_not_be() {
    require!(root, peers);
    let star = Star::new(4);
    let links = Links::new();
    let says = |line: &str| links.says(&star.hub, &format!("ntpdate -p 1 {line}"));

    // Nobody there, nobody synchronised, a kiss of death.
    let unsynchronised = in_namespace(&star.spokes[0])
        .config("restrict default\n")
        .start();
    let _kiss = Liar::start(&star.spokes[1], spoke_v4(1), Lie::Kiss(*b"DENY"));
    for (server, said) in [
        ("10.77.0.9", "no answer"),
        ("10.77.0.2", "its answer fails the test"),
        ("10.77.1.2", "kiss of death: Deny"),
    ] {
        let (text, code) = says(&format!("-d -t 0.5 {server}"));
        assert_eq!(code, Some(1), "{text}");
        assert!(
            text.contains(&format!("{server}: ")) && text.contains(said),
            "{text}"
        );
        assert!(
            text.contains(&format!(
                "server {server}, stratum 0, offset 0.000000, delay 0.00000"
            )),
            "{text}"
        );
        assert!(
            text.contains("no server suitable for synchronization found"),
            "{text}"
        );
    }
    drop(unsynchronised);
    let (text, code) = says("no-such-name.invalid");
    assert_eq!(code, Some(1), "{text}");

    // Two against one.
    let _true = ChronyServer::start(&star.spokes[2]);
    let _liar = Liar::start(&star.spokes[3], spoke_v4(3), Lie::Offset(5.0));
    let _other = ChronyServer::start(&star.spokes[0]);
    let (text, code) = says("--clock virtual 10.77.3.2 10.77.0.2 10.77.2.2");
    assert_eq!(code, Some(0), "{text}");
    assert!(!text.contains("server 10.77.3.2"), "{text}");
    assert!(after(&text, "offset").abs() < 0.02, "{text}");

    // Signed, by the right key and by another.
    let keys = TempDir::new();
    let file = keys.write("keys", "5 SHA1 tick\n6 SHA1 tock\n");
    let server = in_namespace(&star.spokes[1]);
    server.directory().write("keys", "5 SHA1 tick\n");
    drop(_kiss);
    let server = server
        .config(&format!(
            "{OPEN}restrict default notrust\nkeys @DIR@/keys\ntrustedkey 5\n"
        ))
        .start();
    assert!(wait_until(secs(20), || server.sync()));
    for (key, expected) in [
        ("-a 5", Some(0)),
        ("-a 6", Some(1)),
        ("", Some(1)),
        ("-a 7", Some(1)),
    ] {
        let line = format!("-q {key} -k {} 10.77.1.2", file.display());
        let (text, code) = says(&line);
        assert_eq!(code, expected, "{key}: {text}");
        assert_eq!(key == "-a 7", text.contains("key 7 is not in"), "{text}");
    }
}

/// Not beside a running service, whoever's it is.
#[test]
fn ntpdate_gives_way_to_a_service() {
    require!(root, peers);
    let star = Star::new(1);
    let _server = ChronyServer::start(&star.spokes[0]);
    let links = Links::new();
    let ask = |options: &str| links.says(&star.hub, &format!("ntpdate -p 1 {options} 10.77.0.2"));
    let service = in_namespace(&star.hub).config(OPEN).start();
    let (text, code) = ask("--clock virtual");
    assert_eq!(code, Some(1), "{text}");
    let said = shape(&text);
    assert!(
        said.contains(" 0:0:0 ntpdate[0]: the NTP socket is in use, exiting"),
        "{text}"
    );
    for options in ["-q", "-d", "-u --clock virtual", "--clock none"] {
        let (text, code) = ask(options);
        assert_eq!(code, Some(0), "{options}: {text}");
    }
    drop(service);
    let there = || ask("--clock virtual").1 == Some(0);
    assert!(wait_until(secs(10), there), "{}", ask("--clock virtual").0);
}

/// ntpsec's own, and ours by its name.
#[test]
fn ntpdig_prints_the_same() {
    require!(root, peers);
    let star = Star::new(1);
    let _server = ChronyServer::start(&star.spokes[0]);
    let links = Links::new();
    let without_micros = |text: &str| -> String {
        // It cuts zeros off behind the point.
        text.split(' ')
            .filter(|word| !word.contains(':'))
            .collect::<Vec<_>>()
            .join(" ")
    };
    for args in [&["10.77.0.2"][..], &["-4", "-p", "2", "10.77.0.2"]] {
        let ours = links
            .says(&star.hub, &format!("ntpdig {}", args.join(" ")))
            .0;
        let theirs = ntpdig_text(&star.hub, args);
        assert_eq!(
            shape(&without_micros(&ours)),
            shape(&without_micros(&theirs)),
            "{ours}{theirs}"
        );
        assert!(ours.ends_with(" 10.77.0.2 s1 no-leap\n"), "{ours}");
        let seconds = |text: &str| text.split('.').next().map(str::to_owned).expect("a date");
        assert_eq!(seconds(&ours)[..16], seconds(&theirs)[..16]);
    }
    let keys = |text: &str| -> Vec<String> {
        let line = text.lines().find(|line| line.starts_with('{'));
        let json: serde_json::Value =
            serde_json::from_str(line.unwrap_or_else(|| panic!("{text}"))).expect("JSON");
        assert_eq!(json["ip"], "10.77.0.2");
        assert_eq!(json["adjusted"], false);
        assert!(json["offset"].as_f64().expect("a number").abs() < 0.02);
        json.as_object().expect("fields").keys().cloned().collect()
    };
    let ours = links.says(&star.hub, "ntpdig -j 10.77.0.2").0;
    assert_eq!(
        keys(&ours),
        keys(&ntpdig_text(&star.hub, &["-j", "10.77.0.2"]))
    );
    let (text, code) = links.says(&star.hub, "sntp -t 1 10.77.0.9");
    assert!(code == Some(1) && text.starts_with("ntpdig: "), "{text}");
    // This machine's clock it may not set.
    for line in [
        "ntpdig -S 10.77.0.2",
        "ntpdig -s 10.77.0.2",
        "sntp -sS -M 200 10.77.0.2",
    ] {
        let (text, code) = links.says(&star.hub, line);
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains("no right to set the clock"), "{text}");
    }
}

#[test]
fn hwclock_is_ptntp_rtc() {
    require!(root);
    let star = Star::new(0);
    let links = Links::new();
    for (line, said) in [
        ("hwclock -r -u --rtc=/nonexistent/rtc9", "/nonexistent/rtc9"),
        (
            "hwclock -w --rtc /nonexistent/rtc9 --adjfile /nonexistent/adjtime",
            "/nonexistent/rtc9",
        ),
        ("hwclock -s", "util-linux's own hwclock"),
        ("hwclock --systz", "--systz; util-linux's own hwclock does"),
    ] {
        let (text, code) = links.says(&star.hub, line);
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains(said), "{line}: {text}");
    }
}

/// ptntp in the hub, which follows spoke 0's chronyd, and ntpd in spoke 1, which follows
/// ptntp and can't set its clock: so it says for ever that it is not synchronised.
fn side_by_side<'a>(star: &'a Star, rules: &str) -> (ChronyServer, Ptntp<'a>, Ntpd) {
    let server = ChronyServer::start(&star.spokes[0]);
    let ptntp = in_namespace(&star.hub)
        .config(&format!(
            "server 10.77.0.2 iburst minpoll 3 maxpoll 3\nrestrict default\n{rules}"
        ))
        .start();
    assert!(wait_until(secs(30), || ptntp.sync()), "it does not follow");
    let ntpd = Ntpd::start(
        &star.spokes[1],
        "server 10.77.1.1 iburst minpoll 3 maxpoll 3\nrestrict 127.0.0.1\n",
    );
    let reached = || ntpq(&star.spokes[1], LOOPBACK, &["-pn"]).contains("*10.77.1.1");
    assert!(wait_until(secs(60), reached), "ntpd follows nobody");
    (server, ptntp, ntpd)
}

/// Debian's plugins of nagios against ptntp and against ntpd, with thresholds that are
/// kept and that are not.
#[test]
fn nagios_judges_us_as_it_judges_ntpd() {
    require!(root, peers);
    let star = Star::new(3);
    let (_server, ptntp, _ntpd) = side_by_side(&star, "");
    let form = |text: &str| {
        let text = text.replace("Server has the LI_ALARM bit set, ", "");
        let words = text.split([' ', ',', '=', ';', '|', '\n']);
        let words = words.map(|word| match word.trim_end_matches('s').parse::<f64>() {
            Ok(_) => "N",
            // What it comes to: ntpd's is never better than a warning.
            Err(_) if word.ends_with(':') || word == "(WARNING)" => "",
            Err(_) => word,
        });
        let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
        words.join(" ")
    };
    let limits = ["-H", "127.0.0.1", "-w", "0.5", "-c", "1"];
    for (args, code) in [
        (&[][..], 0),
        (&["-q"], 0),
        (&["-W", "10", "-C", "16", "-j", "200", "-k", "500"], 0),
        (&["-W", "0", "-C", "9"], 1),
        (&["-W", "0", "-C", "0"], 2),
        (&["-j", "-1:0", "-k", "9"], 1),
        (&["-m", "1:", "-n", "1:"], 0),
        (&["-m", "9:", "-n", "9:"], 2),
    ] {
        let args = [&limits[..], args].concat();
        let ask = |namespace: &Namespace| nagios(namespace, "check_ntp_peer", &args);
        let (ours, theirs) = (ask(&star.hub), ask(&star.spokes[1]));
        assert_eq!(ours.1, Some(code), "{args:?}: {}", ours.0);
        assert_eq!(form(&ours.0), form(&theirs.0), "{}{}", ours.0, theirs.0);
        let offset_s = after(&ours.0, "Offset");
        assert!(offset_s.abs() < 0.02, "{}", ours.0);
    }
    for (limit, code) in [("0.9", 0), ("@-1:1", 2)] {
        let args = ["-H", "127.0.0.1", "-w", limit, "-c", limit];
        let ours = nagios(&star.hub, "check_ntp_time", &args);
        assert_eq!(ours.1, Some(code), "{}", ours.0);
        assert!(after(&ours.0, "Offset").abs() < 0.6, "{}", ours.0);
    }
    drop(ptntp);

    // Of services that have nobody to follow it says the same, word for word.
    let lonely = "server 10.77.1.9\n";
    let _ptntp = in_namespace(&star.hub).config(lonely).start();
    let ours = nagios(&star.hub, "check_ntp_peer", &limits);
    let _ntpd = Ntpd::start(&star.spokes[2], &format!("{lonely}restrict 127.0.0.1\n"));
    let theirs = || nagios(&star.spokes[2], "check_ntp_peer", &limits);
    let same = || theirs() == ours;
    assert!(wait_until(secs(20), same), "{ours:?}{:?}", theirs());
}

/// What telegraf's ntpq input makes of a table: tags and figures by column.
fn telegraf(table: &str) -> Vec<BTreeMap<String, String>> {
    let mut lines = table.lines();
    let head: Vec<&str> = lines
        .next()
        .expect("a heading")
        .split_whitespace()
        .collect();
    let mut rows = Vec::new();
    for line in lines {
        let mut row = BTreeMap::new();
        let marks = "*#o+x.-";
        if line.starts_with(|c| marks.contains(c)) {
            row.insert("state_prefix".to_owned(), line[..1].to_owned());
        }
        let fields: Vec<&str> = line
            .trim_start_matches(|c| marks.contains(c))
            .split_whitespace()
            .filter(|field| !field.starts_with('('))
            .collect();
        if fields.len() != head.len() {
            continue;
        }
        for (name, field) in head.iter().zip(fields) {
            let figure = ["when", "poll", "reach", "delay", "offset", "jitter"].contains(name);
            let number = field.trim_end_matches(['m', 'h', 'd']);
            assert!(
                !figure || field == "-" || number.parse::<f64>().is_ok(),
                "{name} is {field}"
            );
            row.insert((*name).to_owned(), field.to_owned());
        }
        rows.push(row);
    }
    rows
}

#[test]
fn telegraf_reads_ntpqs_table() {
    require!(root, peers);
    let star = Star::new(2);
    let (_server, ptntp, _ntpd) = side_by_side(&star, "");
    for dns in [&["-p", "-n"][..], &["-p"]] {
        let theirs = telegraf(&ntpq(&star.spokes[1], LOOPBACK, dns));
        let asked = telegraf(&ntpq(&star.hub, LOOPBACK, dns));
        // What it gets by a link of ntpq's name.
        let own = telegraf(&stdout(&ptntp.tell(&["peers", "-n"])));
        for rows in [&theirs, &asked, &own] {
            assert_eq!(rows.len(), 1, "{rows:?}");
            assert_eq!(rows[0].get("state_prefix").map(String::as_str), Some("*"));
            assert_eq!(
                rows[0].keys().collect::<Vec<_>>(),
                theirs[0].keys().collect::<Vec<_>>()
            );
        }
        assert_eq!(asked[0]["remote"], own[0]["remote"]);
        assert_eq!(asked[0]["t"], "u");
    }
}

/// One shot of chronyd at ptntp and at a chronyd that serve the same clock, and ptntp's
/// own at both.
#[test]
fn one_shot_says_the_same_of_us_and_of_chronyd() {
    require!(root, peers);
    let star = Star::new(1);
    let _chronyd = ChronyServer::start(&star.spokes[0]);
    let ptntp = in_namespace(&star.hub)
        .clock("virtual:0,0")
        .config(OPEN)
        .start();
    assert!(wait_until(secs(20), || ptntp.sync()));
    let links = Links::new();
    let mut seen = Vec::new();
    for (from, server) in [(&star.spokes[0], hub_v4(0)), (&star.hub, spoke_v4(0))] {
        seen.push(chronyd_query(from, server, "").expect("an answer"));
        let (text, code) = links.says(from, &format!("ntpdate -q -p 2 {server}"));
        assert_eq!(code, Some(0), "{text}");
        seen.push(after(&text, "offset"));
    }
    assert!(
        seen.iter().all(|offset_s| offset_s.abs() < 0.01),
        "{seen:?}"
    );
}

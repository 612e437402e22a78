//! Configuration files as administrators have them: two of published tutorials
//! load as they stand, each line is explained, and what is wrong is named with
//! file and line.

mod common;

use std::path::PathBuf;

use common::TempDir;
use common::net::{Star, hub_v4};
use common::ntp::Client;
use common::process::{all, stdout};
use common::ptntp::{in_namespace, ptntp};
use common::{secs, wait_until};

/// The complete ntp.conf of a LAN's server.
const LAN: &str = include_str!("data/lan.conf");
/// The lines of a host that follows public servers.
const INTERNET: &str = include_str!("data/internet.conf");

fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name)
}

fn text(path: &std::path::Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

#[test]
fn tutorial_files_load_as_they_stand() {
    for name in ["lan.conf", "internet.conf"] {
        let path = data(name);
        let output = ptntp(&["check", text(&path)]);
        let said = all(&output);
        assert_eq!(output.status.code(), Some(0), "{name}:\n{said}");
        assert!(
            !stdout(&output).trim().is_empty(),
            "{name}: nothing printed"
        );
    }
}

/// The include file and the key file are not there: said, with their lines, and no more than that.
#[test]
fn missing_files_are_warnings() {
    let path = data("lan.conf");
    let said = all(&ptntp(&["check", text(&path)]));
    for (line, file) in [(10, "/etc/ntp/crypto/pw"), (11, "/etc/ntp/keys")] {
        let place = format!("{}:{line}", path.display());
        assert!(
            said.lines().any(|l| l.contains(&place) && l.contains(file)),
            "no warning at {place} about {file}:\n{said}"
        );
    }
}

#[test]
fn effective_configuration_names_what_counts() {
    let said = stdout(&ptntp(&["check", text(&data("lan.conf"))]));
    for word in ["172.25.0.11", "172.25.0.0", "kod", "noquery", "10", "drift"] {
        assert!(said.contains(word), "{word} is lost:\n{said}");
    }
    let said = stdout(&ptntp(&["check", text(&data("internet.conf"))]));
    for n in 1..=3 {
        let server = format!("ntp{n}.aliyun.com");
        assert!(said.contains(&server), "{server} is lost:\n{said}");
    }
}

/// The effective configuration is a configuration, and means the same.
#[test]
fn effective_configuration_loads_again() {
    let directory = TempDir::new();
    for name in ["lan.conf", "internet.conf"] {
        let first = stdout(&ptntp(&["check", text(&data(name))]));
        assert!(first.contains("server"), "{first}");
        let again = directory.write(name, &first);
        let output = ptntp(&["check", text(&again)]);
        assert_eq!(output.status.code(), Some(0), "{}", all(&output));
        // The first line names the file it was made from.
        let lines = |text: &str| text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(lines(&stdout(&output)), lines(&first), "{name}");
    }
}

/// Every line that says something is explained, in order, under its number.
#[test]
fn every_line_is_explained() {
    for (name, content) in [("lan.conf", LAN), ("internet.conf", INTERNET)] {
        let path = data(name);
        let output = ptntp(&["check", "--explain", text(&path)]);
        assert_eq!(output.status.code(), Some(0), "{}", all(&output));
        let said = stdout(&output);
        let mut rest = said.as_str();
        let lines = content.lines().enumerate();
        for (n, line) in lines.filter(|(_, l)| !l.starts_with('#') && !l.trim().is_empty()) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let at = rest
                .find(words[0])
                .unwrap_or_else(|| panic!("{name}: line {} is not explained:\n{said}", n + 1));
            rest = &rest[at + words[0].len()..];
        }
        assert!(
            said.len() > content.len(),
            "{name}: the lines alone explain nothing"
        );
    }
}

#[test]
fn check_reads_json_too() {
    let output = ptntp(&["check", "--json", text(&data("lan.conf"))]);
    assert_eq!(output.status.code(), Some(0), "{}", all(&output));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(json.to_string().contains("172.25.0.11"), "{json}");
}

/// (what is wrong, its line, words that the message has to have).
const WRONG: [(&str, usize, &[&str]); 8] = [
    ("server a.example\nserrver b.example\n", 2, &["serrver"]),
    ("\n\nserver\n", 3, &["server"]),
    ("restrict 10.0.0.0 mask 255.0.255.0\n", 1, &["mask"]),
    ("restrict default kodd\n", 1, &["kodd"]),
    ("server a.example minpoll twelve\n", 1, &["twelve"]),
    ("server a.example key 5\n", 1, &["key 5", "`keys FILE`"]),
    ("tinker step soon\n", 1, &["soon"]),
    // A mix of dialects names both lines.
    (
        "restrict default nomodify\nmakestep 1 3\n",
        2,
        &["makestep"],
    ),
];

#[test]
fn errors_name_file_and_line() {
    let directory = TempDir::new();
    for (content, line, words) in WRONG {
        let path = directory.write("wrong.conf", content);
        let output = ptntp(&["check", text(&path)]);
        let said = all(&output);
        assert_eq!(output.status.code(), Some(1), "{content}{said}");
        let place = format!("{}:{line}", path.display());
        assert!(said.contains(&place), "no {place} for {content}{said}");
        for word in words {
            assert!(said.contains(word), "no {word} for {content}{said}");
        }
    }
}

#[test]
fn all_errors_are_said_at_once() {
    let directory = TempDir::new();
    let path = directory.write("wrong.conf", "serrver a\nserver b.example\nrestirct c\n");
    let said = all(&ptntp(&["check", text(&path)]));
    for line in [1, 3] {
        let place = format!("{}:{line}", path.display());
        assert!(said.contains(&place), "no {place}:\n{said}");
    }
}

/// A chrony.conf is recognised by its words and means what chronyd makes of it.
#[test]
fn chrony_conf_loads_too() {
    let directory = TempDir::new();
    let path = directory.write(
        "chrony.conf",
        "server a.example iburst\nmakestep 1 3\nrtcsync\n",
    );
    for dialect in ["chrony", "auto"] {
        let output = ptntp(&["check", "--dialect", dialect, text(&path)]);
        assert_eq!(output.status.code(), Some(0), "{}", all(&output));
        let effective = stdout(&output);
        for line in ["tinker step 1 ", "stepupdates 3", "listen nowhere"] {
            assert!(effective.contains(line), "no {line}:\n{effective}");
        }
        assert!(effective.contains("rtcsync on"), "{effective}");
    }
    let converted = ptntp(&["convert", text(&path)]);
    let again = directory.write("again.conf", stdout(&converted));
    let output = ptntp(&["check", "--dialect", "ntp", text(&again)]);
    assert_eq!(output.status.code(), Some(0), "{}", all(&output));
}

#[test]
fn missing_file_is_said() {
    let output = ptntp(&["check", "/nonexistent/ntp.conf"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(all(&output).contains("/nonexistent/ntp.conf"));
}

/// The LAN's server, with its own source away: the local clock is served at the
/// fudged stratum, as on the day the tutorial was written.
#[test]
fn lan_file_serves_the_local_clock() {
    require!(root);
    let star = Star::new(1);
    // Only where it writes is changed.
    let config = LAN.replace("/var/lib/ntp/drift", "@DIR@/drift");
    let ptntp = in_namespace(&star.hub).config(&config).start();
    let client = Client::new(&star.spokes[0], hub_v4(0));
    let served = || {
        client
            .time()
            .is_some_and(|r| (10..=11).contains(&r.stratum))
    };
    assert!(
        wait_until(secs(30), served),
        "{:?} {}",
        client.time(),
        ptntp.stat()
    );
}

/// Names that don't resolve don't end the daemon, and are tried again in quiet.
#[test]
fn internet_file_waits_for_its_names() {
    require!(root);
    let star = Star::new(0);
    let mut ptntp = in_namespace(&star.hub).config(INTERNET).start();
    std::thread::sleep(secs(5));
    assert!(ptntp.process.ended().is_none(), "it gave up");
    assert!(!ptntp.sync());
    let said = ptntp.process.log();
    for n in 1..=3 {
        let server = format!("ntp{n}.aliyun.com");
        assert!(said.contains(&server), "{server} is not named:\n{said}");
    }
    assert!(said.len() < 8192, "{} bytes in 5 s", said.len());
}

/// `allow` and `deny` as a client sees them, and `ptntp access` says the same.
#[test]
fn allow_and_deny_decide_who_is_served() {
    require!(root);
    let star = Star::new(1);
    let spoke = &star.spokes[0];
    for host in [10, 70, 71] {
        spoke.add_address("eth", &format!("{}/24", common::net::host_v4(0, host)));
    }
    let config = "server 192.0.2.1\nlocal stratum 5\nallow 10.77.0.0/24\ndeny 10.77.0.64/26\nallow 10.77.0.71\n";
    let ptntp = in_namespace(&star.hub)
        .config(config)
        .args(&["--dialect", "chrony"])
        .start();
    let client = |host| {
        let local = (common::net::host_v4(0, host), 0).into();
        Client::from(spoke, local, hub_v4(0))
    };
    let served = || client(10).time().is_some_and(|reply| reply.stratum == 5);
    assert!(wait_until(secs(30), served), "{}", ptntp.stat());
    assert!(client(71).time().is_some());
    assert!(client(70).time().is_none());
    let file = ptntp.directory.path().join("ntp.conf");
    for (host, line) in [(10, ":3: allow"), (70, ":4: deny"), (71, ":5: allow")] {
        let address = common::net::host_v4(0, host).to_string();
        let arguments = ["access", &address, "--dialect", "chrony", "-c", text(&file)];
        let said = stdout(&common::ptntp::ptntp(&arguments));
        assert!(said.contains(line), "{said}");
    }
}

/// A new file changes sources and rules of the running daemon; a wrong one changes nothing.
#[test]
fn reload_takes_a_good_file_and_leaves_a_broken_one() {
    require!(root);
    let first =
        "server 127.127.1.0\nfudge 127.127.1.0 stratum 3\nserver 192.0.2.1\nserver 192.0.2.2\n";
    for io in ["auto", "poll"] {
        let star = Star::new(1);
        let ptntp = in_namespace(&star.hub)
            .config(first)
            .args(&["--io", io])
            .start();
        let client = Client::new(&star.spokes[0], hub_v4(0));
        assert!(wait_until(secs(30), || client.time().is_some()));
        let file = ptntp.directory.path().join("ntp.conf");
        let second = "server 127.127.1.0\nserver 192.0.2.2 prefer\nserver 192.0.2.3\nrestrict default noserve\nport 1124\n";
        std::fs::write(&file, second).expect("our directory");
        let output = ptntp.tell(&["reload"]);
        assert_eq!(output.status.code(), Some(0), "{}", all(&output));
        assert!(all(&output).contains("`port`"), "{}", all(&output));
        assert!(client.time().is_none(), "the new rule is in force");
        let peers = stdout(&ptntp.tell(&["peers", "--json"]));
        assert!(!peers.contains("192.0.2.1\""), "{peers}");
        assert!(
            peers.contains("192.0.2.2") && peers.contains("192.0.2.3"),
            "{peers}"
        );

        std::fs::write(&file, "server 192.0.2.9\nnonsense\n").expect("our directory");
        let output = ptntp.tell(&["reload"]);
        assert_eq!(output.status.code(), Some(1), "{}", all(&output));
        assert!(all(&output).contains("ntp.conf:2"), "{}", all(&output));
        let peers = stdout(&ptntp.tell(&["peers", "--json"]));
        assert!(
            peers.contains("192.0.2.3") && !peers.contains("192.0.2.9"),
            "{peers}"
        );

        std::fs::write(&file, first).expect("our directory");
        assert_eq!(ptntp.tell(&["reload"]).status.code(), Some(0));
        assert!(
            wait_until(secs(20), || client.time().is_some()),
            "served again"
        );
    }
}

/// The real chronyd reads what `ptntp convert` writes. (Debian's knows neither `leapseclist` nor `ipv4` yet,
/// so the files are those without.)
#[test]
fn the_real_chronyd_reads_what_convert_writes() {
    require!(peers);
    let directory = TempDir::new();
    for name in ["seed-000", "rhel"] {
        let path = data(&format!("configs/{name}.conf"));
        let written = stdout(&ptntp(&["convert", text(&path)]));
        assert!(written.contains("makestep"), "{name}: {written}");
        let file = directory.write(name, &written);
        let chronyd = common::peers::root().join("usr/sbin/chronyd");
        let mut command = common::process::command(None, chronyd);
        command.args(["-p", "-f", text(&file)]);
        let output = common::process::run(command, secs(20));
        assert_eq!(
            output.status.code(),
            Some(0),
            "{name}: {}\n{written}",
            all(&output)
        );
    }
}

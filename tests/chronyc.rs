//! Debian's `chronyc` against ptntp, as against the chronyd it was made for: every
//! report has the columns and the signs that chronyd's has in the same situation, orders
//! are carried out, and hostile datagrams gain nothing.

mod common;

use std::fs::DirBuilder;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use common::net::{Namespace, Star, hub_v4, spoke_v4};
use common::ntp::{Liar, Lie};
use common::peers::{self, ChronyServer};
use common::process::{self, Process};
use common::ptntp::{BINARY, Ptntp, in_namespace};
use common::{Random, TempDir, secs, wait_until};
use ptntp::wire::key::KeyKind;

const CONFIG: &str = "\
    server 10.77.0.2 iburst minpoll 1 maxpoll 4\n\
    cmdport 323\n\
    bindcmdaddress 0.0.0.0\n\
    bindcmdaddress @DIR@/chronyd.sock\n";

/// What chronyc prints, and whether it is content.
fn chronyc(namespace: &Namespace, whom: &Path, words: &str) -> (String, bool) {
    let output = peers::chronyc(namespace, whom, words);
    (process::all(&output), output.status.success())
}

struct Asked<'a> {
    namespace: &'a Namespace,
    socket: PathBuf,
}

impl<'a> Asked<'a> {
    fn of(ptntp: &Ptntp<'_>, namespace: &'a Namespace) -> Self {
        let socket = ptntp.directory.path().join("chronyd.sock");
        Self { namespace, socket }
    }

    fn ask(&self, words: &str) -> String {
        chronyc(self.namespace, &self.socket, words).0
    }

    fn ok(&self, words: &str) {
        let (text, good) = chronyc(self.namespace, &self.socket, words);
        assert!(good && text.contains("200 OK"), "{words}: {text}");
    }

    /// The fields of one line of `-c`.
    fn fields(&self, words: &str) -> Vec<String> {
        let text = self.ask(&format!("-c {words}"));
        text.trim().split(',').map(str::to_owned).collect()
    }

    fn number(&self, words: &str, field: usize) -> f64 {
        let fields = self.fields(words);
        let number = fields.get(field).and_then(|text| text.parse().ok());
        number.unwrap_or_else(|| panic!("{words}: {fields:?}"))
    }
}

/// A chronyd that measures and steers nothing.
struct Chronyd<'a> {
    asked: Asked<'a>,
    _process: Process,
    _directory: TempDir,
}

impl<'a> Chronyd<'a> {
    fn start(namespace: &'a Namespace, config: &str) -> Self {
        let directory = TempDir::new();
        let path = directory.path().join("run");
        // It wants nobody else to be able to enter.
        DirBuilder::new().mode(0o770).create(&path).expect("create");
        let socket = path.join("chronyd.sock");
        let config =
            format!("{config}\nport 0\ncmdport 0\nbindcmdaddress @DIR@/run/chronyd.sock\n");
        let process = peers::chronyd(namespace, &directory, &config);
        assert!(wait_until(secs(10), || socket.exists()), "chronyd");
        Self {
            asked: Asked { namespace, socket },
            _process: process,
            _directory: directory,
        }
    }
}

#[test]
fn reports_say_what_chronyds_say_in_the_same_situation() {
    require!(root, peers);
    let star = Star::new(2);
    let _server = Liar::start(&star.spokes[0], spoke_v4(0), Lie::Offset(0.3));
    // Neither steers. One that is not selected is seen 0.3 s ahead for as long as they
    // look; what they follow, chronyd makes believe to have corrected.
    for (options, state) in [("noselect", "?"), ("prefer", "*")] {
        let server = format!("server 10.77.0.2 iburst minpoll 1 maxpoll 4 {options}\n");
        let ptntp = in_namespace(&star.hub)
            .clock("none")
            .config(&format!("{server}bindcmdaddress @DIR@/chronyd.sock\n"))
            .start();
        let ours = Asked::of(&ptntp, &star.hub);
        let theirs = Chronyd::start(&star.hub, &server);
        let theirs = &theirs.asked;
        for asked in [&ours, theirs] {
            let heard = || {
                let fields = asked.fields("sources");
                fields.len() > 5 && fields[1] == state && fields[5] == "377"
            };
            assert!(wait_until(secs(60), heard), "{}", asked.ask("sources"));
        }
        let fields = |words: &str| (ours.fields(words), theirs.fields(words));
        // Mode, state, name, stratum; name; both addresses to stratum.
        for (words, same) in [
            ("sources", 0..4),
            ("sourcestats", 0..1),
            ("ntpdata", 0..9),
            ("selectdata", 0..13),
            ("activity", 0..5),
            ("authdata", 0..9),
            ("tracking", 0..3),
        ] {
            let (own, other) = fields(words);
            assert_eq!(own.len(), other.len(), "{words}: {own:?} {other:?}");
            assert_eq!(own[same.clone()], other[same], "{words}");
        }
        if state == "?" {
            for (words, offset) in [
                ("sources", 7),
                ("sources", 8),
                ("sourcestats", 6),
                ("ntpdata", 18),
            ] {
                let (own_s, other_s) = (ours.number(words, offset), theirs.number(words, offset));
                let near = (own_s - other_s).abs() < 0.02 && own_s.abs() > 0.2;
                assert!(near, "{words} {offset}: {own_s} {other_s}");
            }
        } else {
            let (own_s, other_s) = (ours.number("tracking", 4), theirs.number("tracking", 4));
            assert!(
                (own_s - other_s).abs() < 0.02 && own_s > 0.2,
                "{own_s} {other_s}"
            );
        }
        compare_texts(&ptntp, &ours, theirs);
    }
}

#[test]
fn keys_are_told_of_as_chronyd_does() {
    require!(root, peers);
    let star = Star::new(1);
    let (mut keys, mut servers) = (String::new(), String::new());
    for (id, kind) in (1..).zip(KeyKind::ALL) {
        let digits = "a5".repeat(kind.secret_len().unwrap_or(10 + id));
        keys += &format!("{id} {} HEX:{digits}\n", kind.name());
        servers += &format!("server 10.77.0.{} key {id}\n", id + 100);
    }
    servers += "server 10.77.0.99\n";
    let setup = in_namespace(&star.hub).clock("none");
    let file = setup.directory().write("keys", &keys);
    let config = format!("{servers}keyfile {}\n", file.display());
    let ptntp = setup
        .config(&format!(
            "{config}cmdport 0\nbindcmdaddress @DIR@/chronyd.sock\n"
        ))
        .start();
    let theirs = Chronyd::start(&star.hub, &config);
    let ours = Asked::of(&ptntp, &star.hub);
    let sorted = |asked: &Asked<'_>| {
        let text = asked.ask("-c authdata");
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    for asked in [&ours, &theirs.asked] {
        asked.ok("add server 10.77.0.120 key 2");
        let all_there = || sorted(asked).len() == 9;
        assert!(wait_until(secs(20), all_there), "{:?}", sorted(asked));
    }
    assert_eq!(sorted(&ours), sorted(&theirs.asked));
}

/// chronyc prints of both what looks the same, and ptntp prints it without chronyc.
fn compare_texts(ptntp: &Ptntp<'_>, ours: &Asked<'_>, theirs: &Asked<'_>) {
    // As text, each line begins as chronyd's does.
    for words in [
        "tracking",
        "sources -v",
        "sourcestats -v",
        "ntpdata",
        "activity",
        "selectdata",
    ] {
        let (own, other) = (ours.ask(words), theirs.ask(words));
        assert_eq!(own.lines().count(), other.lines().count(), "{own}{other}");
        for (own, other) in own.lines().zip(other.lines()) {
            let word = |line: &str| line.split([':', ' ']).next().map(str::to_owned);
            if !own.starts_with(['^', '*', '?', 's', 'M', '~']) && !other.starts_with('^') {
                assert_eq!(word(own), word(other), "{words}");
            }
        }
    }
    // By a link of that name the binary is chronyc.
    let link = ptntp.directory.path().join("chronyc");
    std::os::unix::fs::symlink(BINARY, &link).expect("a link");
    let mut command = process::command(Some(ours.namespace), &link);
    command.args(["-n", "-c", "sources", "--control"]);
    command.arg(ptntp.control());
    let linked = process::stdout(&process::run(command, secs(10)));
    let fields: Vec<&str> = linked.trim().split(',').collect();
    assert_eq!(fields[..4], ours.fields("sources")[..4], "{linked}");
    // Ours prints the same without chronyc.
    for words in ["tracking", "sources", "sourcestats"] {
        let text = process::stdout(&ptntp.tell(&[words, "-n"]));
        let chronycs = ours.ask(words);
        let shape = |text: &str| -> Vec<String> {
            let digits = |c: char| if c.is_ascii_digit() { '0' } else { c };
            text.lines()
                .map(|line| line.chars().map(digits).collect::<String>())
                .map(|line| line.chars().take(20).collect())
                .collect()
        };
        assert_eq!(shape(&text), shape(&chronycs), "{text}{chronycs}");
        let csv = process::stdout(&ptntp.tell(&[words, "-n", "-c"]));
        let commas = |text: &str| text.matches(',').count();
        assert_eq!(commas(&csv), commas(&ours.ask(&format!("-c {words}"))));
    }
}

#[test]
fn who_is_offline_is_asked_once_chronyc_says_so() {
    require!(root, peers);
    for dialect in ["ntp", "chrony"] {
        let star = Star::new(1);
        let _server = ChronyServer::start(&star.spokes[0]);
        let ptntp = in_namespace(&star.hub)
            .config(&CONFIG.replace(" iburst", " offline iburst"))
            .args(&["--dialect", dialect])
            .start();
        let chronyc = Asked::of(&ptntp, &star.hub);
        let offline = || chronyc.ask("activity").contains("1 sources offline");
        assert!(wait_until(secs(10), offline), "{}", chronyc.ask("activity"));
        std::thread::sleep(secs(3));
        assert_eq!(ptntp.sources()[0]["sent"], 0, "{dialect}");
        chronyc.ok("online");
        assert!(wait_until(secs(20), || ptntp.sync()), "{}", ptntp.stat());
    }
}

/// With both backends, which have sockets and loops of their own.
#[test]
fn orders_are_carried_out() {
    require!(root, peers);
    let star = Star::new(2);
    let _first = ChronyServer::start(&star.spokes[0]);
    let _second = ChronyServer::start(&star.spokes[1]);
    for io in ["uring", "poll"] {
        let ptntp = in_namespace(&star.hub)
            .config(CONFIG)
            .args(&["--io", io])
            .start();
        let chronyc = Asked::of(&ptntp, &star.hub);
        assert!(wait_until(secs(20), || ptntp.sync()), "{}", ptntp.stat());

        chronyc.ok("offline");
        assert!(
            chronyc.ask("activity").contains("1 sources offline"),
            "{io}"
        );
        chronyc.ok("burst 2/4");
        assert!(
            chronyc
                .ask("activity")
                .contains("1 sources doing burst (return to offline)")
        );
        chronyc.ok("online");
        let online = || chronyc.ask("activity").contains("1 sources online");
        assert!(wait_until(secs(15), online), "{}", chronyc.ask("activity"));
        assert!(
            chronyc
                .ask("offline 192.0.2.1")
                .contains("503 No such source")
        );

        let second = spoke_v4(1);
        chronyc.ok(&format!("add server {second} iburst minpoll 1 maxpoll 3"));
        let add = chronyc.ask(&format!("add server {second}"));
        assert!(add.contains("511 Source already present"), "{add}");
        let both = || {
            ptntp
                .sources()
                .iter()
                .all(|s| s["received"].as_u64() > Some(2))
        };
        assert!(wait_until(secs(20), || ptntp.sources().len() == 2 && both()));
        assert!(chronyc.ask("sources").contains(&second.to_string()));
        chronyc.ok(&format!("minpoll {second} 3"));
        chronyc.ok(&format!("delete {second}"));
        assert_eq!(ptntp.sources().len(), 1);
        let name = chronyc.ask("sourcename 10.77.0.2");
        assert!(name.contains("10.77.0.2"), "{name}");

        chronyc.ok("makestep");
        chronyc.ok("reselect");
        chronyc.ok("refresh");
        for words in ["reload sources", "cyclelogs", "dump", "rekey"] {
            chronyc.ok(words);
        }
        let refused = chronyc.ask("maxdelay 10.77.0.2 0.1");
        assert!(refused.contains("500 Failure"), "{refused}");
        assert!(
            chronyc
                .ask("clients")
                .contains("519 Client logging is not active")
        );
        assert!(
            chronyc
                .ask("rtcdata")
                .contains("513 RTC driver not running")
        );

        // Not of the other one, who is our server, and stays one.
        let stranger = spoke_v4(1);
        let time = || common::ntp::Client::new(&star.spokes[1], hub_v4(1)).time();
        assert!(time().is_some());
        chronyc.ok("deny 10.77.0.0/16");
        assert!(
            chronyc
                .ask(&format!("accheck {stranger}"))
                .contains("209 Access denied")
        );
        assert!(wait_until(secs(5), || time().is_none()));
        chronyc.ok("allow all");
        assert!(
            chronyc
                .ask(&format!("accheck {stranger}"))
                .contains("208 Access allowed")
        );
        assert!(wait_until(secs(5), || time().is_some()));
        let stats = chronyc.fields("serverstats");
        assert!(stats[0].parse::<u64>().expect("received") > 0, "{stats:?}");

        chronyc.ok("reset sources");
        assert!(wait_until(secs(20), || ptntp.sync()), "{}", ptntp.stat());
        chronyc.ok("shutdown");
        let mut ptntp = ptntp;
        assert!(wait_until(secs(10), || ptntp.process.ended().is_some()));
        assert!(!chronyc.socket.exists());
    }
}

/// With both backends, which remember clients in tables of their own.
#[test]
fn clients_are_listed() {
    require!(root, peers);
    for io in ["uring", "poll"] {
        let star = Star::new(2);
        let ptntp = in_namespace(&star.hub)
            .config("enable monitor\nrestrict default\nbindcmdaddress @DIR@/chronyd.sock\n")
            .args(&["--io", io])
            .start();
        let chronyc = Asked::of(&ptntp, &star.hub);
        assert_eq!(chronyc.fields("clients"), [""], "nobody yet");
        // Each socket may be another worker's.
        for (spoke, times) in [(0, 1), (1, 3)] {
            for _ in 0..times {
                common::ntp::Client::new(&star.spokes[spoke], hub_v4(spoke)).time();
            }
        }
        let listed = chronyc.ask("-c clients");
        let lines: Vec<Vec<&str>> = listed.lines().map(|l| l.split(',').collect()).collect();
        assert_eq!(lines.len(), 2, "{listed}");
        for (line, (spoke, times)) in lines.iter().zip([(0, "1"), (1, "3")]) {
            assert_eq!(line.len(), 10, "{listed}");
            assert_eq!(line[..3], [&spoke_v4(spoke).to_string(), times, "0"]);
            assert!(line[5].parse::<u32>().is_ok_and(|ago_s| ago_s < 5));
            assert_eq!(line[6], "0", "commands are not counted by client");
        }
        assert_eq!(chronyc.ask("-c clients -p 2").lines().count(), 1);
        assert!(chronyc.ask("clients").contains("Hostname"));
        assert!(chronyc.ask("clients -r").contains("500 Failure"));
    }
}

#[test]
fn a_machine_without_servers_is_set_by_hand() {
    require!(root, peers);
    let star = Star::new(1);
    let ptntp = in_namespace(&star.hub)
        .clock("virtual:5")
        .config("cmdport 0\nbindcmdaddress @DIR@/chronyd.sock\n")
        .start();
    let chronyc = Asked::of(&ptntp, &star.hub);
    assert!(
        chronyc
            .ask("settime 12:00:00")
            .contains("505 Facility not enabled")
    );
    chronyc.ok("manual on");
    // chronyc reads times to the second.
    let output = process::run(process::command(None, "date"), secs(5));
    let date = process::stdout(&output);
    let now = date.split(' ').find(|word| word.matches(':').count() == 2);
    let set = chronyc.ask(&format!("settime {}", now.expect("a time")));
    assert!(set.contains("200 OK") && set.contains("Clock was"), "{set}");
    assert!(wait_until(secs(5), || ptntp.true_error_s().abs() < 2.0));
    let list = chronyc.ask("manual list");
    assert!(list.contains("n_samples = 1"), "{list}");
    chronyc.ok("manual delete 0");
    assert!(
        chronyc
            .ask("manual delete 0")
            .contains("516 Sample index out of range")
    );
    chronyc.ok("local stratum 7");
    assert!(wait_until(secs(25), || chronyc.fields("tracking")[2] == "7"));
    assert_eq!(chronyc.fields("tracking")[0], "7F7F0101");
    chronyc.ok("local off");
    assert_eq!(chronyc.fields("tracking")[2], "0");
}

#[test]
fn by_udp_this_machine_reads_and_others_do_not() {
    require!(root, peers);
    let star = Star::new(1);
    let _server = ChronyServer::start(&star.spokes[0]);
    let ptntp = in_namespace(&star.hub).config(CONFIG).start();
    assert!(wait_until(secs(20), || ptntp.sync()), "{}", ptntp.stat());
    let local = Path::new("127.0.0.1");
    let ask = |words: &str| chronyc(&star.hub, local, words).0;
    for words in [
        "tracking",
        "sources",
        "sourcestats",
        "activity",
        "manual list",
    ] {
        let text = ask(words);
        assert!(!text.contains("501 "), "{words}: {text}");
    }
    for words in [
        "serverstats",
        "ntpdata",
        "makestep",
        "shutdown",
        "accheck 10.0.0.1",
    ] {
        let text = ask(words);
        assert!(text.contains("501 Not authorised"), "{words}: {text}");
    }
    let hub = hub_v4(0).to_string();
    let from_afar = || chronyc(&star.spokes[0], Path::new(&hub), "tracking").0;
    let text = from_afar();
    assert!(text.contains("506 Cannot talk to daemon"), "{text}");
    Asked::of(&ptntp, &star.hub).ok("cmdallow 10.77.0.0/24");
    let text = from_afar();
    assert!(text.contains("Leap status"), "{text}");
}

#[test]
fn hostile_datagrams_gain_nothing() {
    require!(root);
    let star = Star::new(1);
    let mut ptntp = in_namespace(&star.hub).config(CONFIG).start();
    let socket = star
        .hub
        .udp(SocketAddr::new(IpAddr::from([127, 0, 0, 1]), 0));
    let to = SocketAddr::new(IpAddr::from([127, 0, 0, 1]), 323);
    socket
        .set_read_timeout(Some(std::time::Duration::from_millis(2)))
        .expect("a timeout");
    let mut random = Random::unforeseen();
    let mut answer = [0; 2048];
    let mut lengths = Vec::new();
    let mut answered = 0;
    for n in 0..3000_u32 {
        let mut bytes = vec![0; random.below(1000)];
        random.fill(&mut bytes);
        if bytes.len() >= 12 && n % 4 != 0 {
            bytes[..4].copy_from_slice(&[6, 1, 0, 0]);
            bytes[4..6].copy_from_slice(&((n % 90) as u16).to_be_bytes());
            bytes[8..12].copy_from_slice(&n.to_be_bytes());
        }
        socket.send_to(&bytes, to).expect("sent");
        lengths.push(bytes.len());
        if let Ok((len, _)) = socket.recv_from(&mut answer) {
            // Perhaps to an earlier one.
            let sequence = [answer[16], answer[17], answer[18], answer[19]];
            let asked = lengths[u32::from_be_bytes(sequence) as usize];
            assert!(len <= asked, "{len} octets for {asked}");
            assert!(len >= 28 && answer[1] == 2);
            answered += 1;
        }
    }
    assert!(answered > 300, "{answered}");
    assert!(ptntp.process.ended().is_none());
    assert!(!ptntp.process.log().contains("chronyc says"));
}

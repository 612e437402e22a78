//! Golden outputs: what ntpq, chronyc, and the exporters that speak its protocol themselves,
//! get of ptntp and of the ntpd or chronyd it takes over from, each in a network
//! of its own, with the same configuration, servers and clients.

mod common;

use std::fs::DirBuilder;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use common::net::{Star, hub_v4, spoke_v4};
use common::ntp::{Client, request};
use common::peers::{ChronyServer, Ntpd, chronyc, chronyd, ntpq};
use common::process::{self, Process};
use common::ptntp::{Ptntp, in_namespace};
use common::{TempDir, secs, wait_until};

/// One server that answers, one that does not; all may ask.
const CONFIG: &str = "server 10.77.0.2 iburst minpoll 1 maxpoll 1\n\
    server 10.77.0.9 minpoll 6\n\
    allow all\n\
    cmdport 323\n\
    bindcmdaddress @SOCKET@\n";

/// Who is asked, ended when dropped.
enum Daemon<'a> {
    Ours { _ptntp: Ptntp<'a> },
    Theirs { _process: Process },
}

/// Starts one of them in the hub, with its socket in `directory`.
fn start<'a>(star: &'a Star, directory: &TempDir, ours: bool) -> (Daemon<'a>, PathBuf) {
    let run = directory.path().join("run");
    // chronyd wants nobody else to be able to enter.
    DirBuilder::new().mode(0o770).create(&run).expect("create");
    let socket = run.join("chronyd.sock");
    let config = CONFIG.replace("@SOCKET@", &socket.display().to_string());
    let daemon = if ours {
        let ptntp = in_namespace(&star.hub).clock("virtual").config(&config);
        Daemon::Ours {
            _ptntp: ptntp.start(),
        }
    } else {
        Daemon::Theirs {
            _process: chronyd(&star.hub, directory, &config),
        }
    };
    assert!(wait_until(secs(10), || socket.exists()), "no socket");
    (daemon, socket)
}

/// The reports, as text and by `-c`.
const REPORTS: [&str; 12] = [
    "tracking",
    "sources",
    "sources -v",
    "sources -a",
    "sourcestats",
    "sourcestats -v",
    "ntpdata",
    "ntpdata 10.77.0.2",
    "activity",
    "serverstats",
    "clients",
    "selectdata",
];

/// All that was asked of one of them.
struct Said {
    texts: Vec<String>,
    values: Vec<String>,
    replies: Vec<Vec<u8>>,
    by_udp: Vec<Vec<u8>>,
}

fn ask_all(ours: bool) -> Said {
    let star = Star::new(2);
    let _server = ChronyServer::start(&star.spokes[0]);
    let directory = TempDir::new();
    let (_daemon, socket) = start(&star, &directory, ours);
    let ask = |words: &str| process::all(&chronyc(&star.hub, &socket, words));
    let follows = || ask("-c sources").contains("^,*,10.77.0.2,1,1,377");
    assert!(wait_until(secs(60), follows), "{}", ask("sources"));
    for (spoke, times) in [(0, 1), (1, 3)] {
        let client = Client::new(&star.spokes[spoke], hub_v4(spoke));
        for _ in 0..times {
            client.send(&request(4, 3));
            // Asked again, it would be counted again.
            let answer = wait_until(secs(10), || client.receive().is_some());
            assert!(answer, "no answer");
        }
    }
    let texts = REPORTS.map(ask).into();
    let values = REPORTS.map(|words| ask(&format!("-c {words}"))).into();
    let unix = Exporter::new(&directory, &socket);
    let udp = star.hub.udp((IpAddr::from([127, 0, 0, 1]), 0).into());
    udp.set_read_timeout(Some(secs(2))).expect("a time limit");
    let to = SocketAddr::new([127, 0, 0, 1].into(), 323);
    let by_udp = requests().into_iter().map(|request| {
        let mut reply = vec![0; 1024];
        udp.send_to(&request, to).expect("sent");
        let len = udp.recv(&mut reply).expect("a reply by UDP");
        reply.truncate(len);
        reply
    });
    Said {
        texts,
        values,
        replies: requests().iter().map(|r| unix.ask(r)).collect(),
        // At the end: chronyd then lists this host among the clients, for its commands.
        by_udp: by_udp.collect(),
    }
}

/// A line with its figures, and words that change with them, made the same.
fn form(line: &str) -> String {
    let words = line.split([' ', '[', ']']).filter(|word| !word.is_empty());
    let words = words.map(|word| {
        let bare = word.trim_end_matches(char::is_alphabetic);
        match word {
            "fast" | "slow" => "way",
            "Kernel" | "Daemon" => "stamps",
            _ if bare.parse::<f64>().is_ok() || bare.split(':').count() == 3 => "N",
            _ => word,
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn chronyc_and_exporters_get_of_us_what_they_get_of_chronyd() {
    require!(root, peers);
    let (ours, theirs) = (ask_all(true), ask_all(false));

    for (words, (own, other)) in REPORTS.iter().zip(ours.texts.iter().zip(&theirs.texts)) {
        assert_eq!(own.lines().count(), other.lines().count(), "{own}{other}");
        for (own_line, other_line) in own.lines().zip(other.lines()) {
            assert_eq!(form(own_line), form(other_line), "{words}:\n{own}{other}");
            // Tables are read by column, too.
            let table = !other_line.contains(" : ");
            let widths = (own_line.len(), other_line.len());
            assert!(!table || widths.0 == widths.1, "{words}:\n{own}{other}");
        }
    }
    for (words, (own, other)) in REPORTS.iter().zip(ours.values.iter().zip(&theirs.values)) {
        compare_values(words, own, other);
    }
    for (n, (own, other)) in ours.replies.iter().zip(&theirs.replies).enumerate() {
        compare_replies(n, own, other);
    }
    // By UDP two of them are for nobody: statistics of the server, and of a source in full.
    for (own, other) in ours.by_udp.iter().zip(&theirs.by_udp) {
        assert_eq!(own.len(), other.len());
        assert_eq!(own[..12], other[..12], "command, reply, status");
    }
    let refused = ours.by_udp.iter().filter(|reply| reply[8..10] == [0, 2]);
    assert_eq!(refused.count(), 2);
}

/// Seconds that two daemons on one busy machine may differ by.
const CLOSE_S: f64 = 0.02;

/// Fields that are figures of their own: how often was asked, how long ago, what the
/// estimator makes of it.
fn varies(words: &str, field: usize) -> bool {
    let (report, _) = words.split_once(' ').unwrap_or((words, ""));
    match report {
        // Reference time, frequency, residual, skew, update interval.
        "tracking" => [3, 7, 8, 9, 12].contains(&field),
        // Last sample.
        "sources" => field == 6,
        // Samples, runs, span, frequency and its skew.
        "sourcestats" => (1..6).contains(&field),
        // Reference time, response time, what chronyd's tests make of its delay, who took
        // stamps, counts of packets.
        "ntpdata" => [17, 21, 23, 24, 25].contains(&field) || field >= 28,
        // How often and how long ago.
        "clients" => [3, 4, 5, 8, 9].contains(&field),
        // Since when, score, ages.
        "selectdata" => field >= 8,
        // Commands are counted by who sent them.
        "serverstats" => field > 1,
        _ => false,
    }
}

/// Line by line and field by field: the same words, figures that are close.
fn compare_values(words: &str, own: &str, other: &str) {
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let (own, other) = (sorted(own), sorted(other));
    assert_eq!(own.len(), other.len(), "{words}: {own:?} {other:?}");
    for (own, other) in own.iter().zip(&other) {
        let fields = |line: &str| line.split(',').map(str::to_owned).collect::<Vec<_>>();
        let (a, b) = (fields(own), fields(other));
        assert_eq!(a.len(), b.len(), "{words}: {own} {other}");
        for (field, (a, b)) in a.iter().zip(&b).enumerate() {
            let same = match (a.parse::<f64>(), b.parse::<f64>()) {
                (Ok(_), Ok(_)) if varies(words, field) => true,
                (Ok(x), Ok(y)) if a.contains('.') || b.contains('.') => (x - y).abs() < CLOSE_S,
                _ => a == b || varies(words, field) && a.len() == b.len(),
            };
            assert!(same, "{words}, field {field}: {own} {other}");
        }
    }
}

/// What ntpq prints of one of them in the hub: the table, the associations, a source that
/// answers and one that does not.
fn ntpq_all(ours: bool) -> [String; 4] {
    let star = Star::new(1);
    let _server = ChronyServer::start(&star.spokes[0]);
    // ntpd is kept from its clock, and ptntp from its own.
    let config = "disable ntp\nserver 10.77.0.2 iburst minpoll 3 maxpoll 3\n\
                  server 10.77.0.9 minpoll 6 maxpoll 6\nrestrict 127.0.0.1\n";
    let _ptntp = ours.then(|| {
        in_namespace(&star.hub)
            .clock("virtual")
            .config(config)
            .start()
    });
    let _ntpd = (!ours).then(|| Ntpd::start(&star.hub, config));
    let ask = |args: &[&str]| ntpq(&star.hub, IpAddr::from([127, 0, 0, 1]), args);
    let follows = || ask(&["-pn"]).contains("*10.77.0.2 ");
    assert!(wait_until(secs(90), follows), "{}", ask(&["-pn"]));
    // chronyd's own clock has an address for a name, which ntpd prints as four letters.
    let letters = |text: String| text.replace("127.127.1.1", "....       ");
    [
        letters(ask(&["-pn"])),
        ask(&["-c", "as"]),
        letters(ask(&["-c", "rv &1"])),
        ask(&["-c", "rv &2"]),
    ]
}

/// The value of a variable, up to a comma or a blank.
fn variable<'a>(text: &'a str, name: &str) -> &'a str {
    let at = text
        .find(&format!("{name}="))
        .unwrap_or_else(|| panic!("no {name} in {text}"));
    let value = &text[at + name.len() + 1..];
    value.split([',', ' ', '\n']).next().expect("one part")
}

#[test]
fn ntpq_gets_of_us_what_it_gets_of_ntpd() {
    require!(root, peers);
    let (ours, theirs) = (ntpq_all(true), ntpq_all(false));

    let heading = |text: &str| text.lines().take(2).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(heading(&ours[0]), heading(&theirs[0]));
    for (own, other) in ours[0].lines().zip(theirs[0].lines()).skip(2) {
        // Tally, name, reference, stratum and type; then what depends on when one looks.
        assert_eq!(own[..37], other[..37]);
        assert_eq!(own.len(), other.len());
        let figures = |line: &str| -> Vec<f64> {
            let figures = line.split_whitespace().rev().take(3);
            figures
                .map(|text| text.parse().expect("a figure"))
                .collect()
        };
        for (a_ms, b_ms) in figures(own).iter().zip(figures(other)) {
            assert!((a_ms - b_ms).abs() < CLOSE_S * 1e3, "{own}\n{other}");
        }
    }
    assert_eq!(ours[0].lines().count(), theirs[0].lines().count());

    // Index, then identifier and status, then the words.
    let words = |text: &str| -> Vec<Vec<String>> {
        let row = |line: &str| {
            let words = line.split_whitespace().enumerate();
            let words = words.filter(|(n, _)| ![1, 2].contains(n));
            words.map(|(_, word)| word.to_owned()).collect()
        };
        text.lines().map(row).collect()
    };
    assert_eq!(
        words(&ours[1]),
        words(&theirs[1]),
        "{}{}",
        ours[1],
        theirs[1]
    );

    for n in [2, 3] {
        for name in [
            "srcadr", "srcport", "hmode", "stratum", "hpoll", "keyid", "leap", "refid",
        ] {
            let (own, other) = (variable(&ours[n], name), variable(&theirs[n], name));
            assert_eq!(own, other, "{name}: {}{}", ours[n], theirs[n]);
        }
        for name in ["delay", "offset", "jitter", "rootdelay", "rootdisp"] {
            let figure = |text: &str| variable(text, name).parse::<f64>().expect("a figure");
            let (own_ms, other_ms) = (figure(&ours[n]), figure(&theirs[n]));
            assert!(
                (own_ms - other_ms).abs() < CLOSE_S * 1e3,
                "{name}: {own_ms} {other_ms}"
            );
        }
    }
}

/// A client of its own, as chrony_exporter and telegraf are: bound beside the daemon's
/// socket, one request at a time.
struct Exporter(UnixDatagram);

impl Exporter {
    fn new(directory: &TempDir, daemon: &Path) -> Self {
        let socket = UnixDatagram::bind(directory.path().join("run/exporter.sock"));
        let socket = socket.expect("a socket");
        socket.connect(daemon).expect("connected");
        socket.set_read_timeout(Some(secs(2))).expect("a limit");
        Self(socket)
    }

    fn ask(&self, request: &[u8]) -> Vec<u8> {
        self.0.send(request).expect("sent");
        let mut reply = vec![0; 1024];
        let len = self.0.recv(&mut reply).expect("a reply");
        reply.truncate(len);
        reply
    }
}

/// What chrony_exporter and telegraf's chrony input send, byte for byte: a header, the
/// request's own part, its end, and room for 396 octets whatever is asked.
fn requests() -> Vec<Vec<u8>> {
    let mut address = spoke_v4(0)
        .to_string()
        .parse::<std::net::Ipv4Addr>()
        .expect("v4")
        .octets()
        .to_vec();
    address.resize(16, 0);
    address.extend([0, 1, 0, 0]);
    let index = |n: u32| n.to_be_bytes().to_vec();
    let asked: [(u16, Vec<u8>); 9] = [
        (33, vec![]),
        (14, vec![]),
        (15, index(0)),
        (15, index(1)),
        (15, index(2)),
        (34, index(0)),
        (44, vec![]),
        (54, vec![]),
        (57, address),
    ];
    (1..)
        .zip(asked)
        .map(|(sequence, (command, own)): (u32, _)| {
            let mut bytes = vec![6, 1, 0, 0];
            bytes.extend(command.to_be_bytes());
            bytes.extend([0, 0]);
            bytes.extend(sequence.to_be_bytes());
            bytes.extend([0; 8]);
            let end = if own.is_empty() { 0 } else { 4 };
            let rest = 396 - if own.len() == 20 { 16 } else { own.len() };
            bytes.extend(own);
            bytes.resize(bytes.len() + end + rest, 0);
            bytes
        })
        .collect()
}

/// chrony's 32-bit float: an exponent of 7 bits, a coefficient of 25, both signed.
fn float(bytes: &[u8]) -> f64 {
    let word = u32::from_be_bytes(bytes.try_into().expect("four"));
    let exponent = ((word as i32) >> 25) - 25;
    let coefficient = ((word << 7) as i32) >> 7;
    f64::from(coefficient) * 2f64.powi(exponent)
}

/// Header and layout are the same, the figures in them close.
fn compare_replies(n: usize, own: &[u8], other: &[u8]) {
    let request = &requests()[n];
    assert!(own.len() <= request.len());
    let command = u16::from_be_bytes([request[4], request[5]]);
    assert_eq!(own.len(), other.len(), "{n}");
    assert_eq!(own[..28], other[..28], "{n}: the header");
    // Octets that must be equal, and floats of seconds.
    let (same, floats): (&[(usize, usize)], &[usize]) = match (n, command) {
        // Refid, address, stratum, leap; offsets, root delay and dispersion.
        (_, 33) => (&[(28, 56)], &[68, 72, 76, 92, 96]),
        (_, 14) => (&[(28, 32)], &[]),
        // No such source.
        (4, 15) => (&[], &[]),
        // Address to reachability; adjusted, measured, error.
        (2, 15) => (&[(28, 60)], &[64, 68, 72]),
        (_, 15) => (&[(28, 60)], &[]),
        // Refid and address; deviation, offset and its error.
        (_, 34) => (&[(28, 52)], &[64, 76, 80]),
        (_, 44) => (&[(28, 48)], &[]),
        // Requests for the time.
        (_, 54) => (&[(28, 32)], &[]),
        // Both addresses, port, leap to precision, refid; offset, delays.
        (_, 57) => (&[(28, 76), (84, 88)], &[76, 80, 100, 104, 108]),
        _ => panic!("{command}"),
    };
    for &(from, to) in same {
        assert_eq!(own[from..to], other[from..to], "{command}: {from}..{to}");
    }
    for &at in floats {
        let (a, b) = (float(&own[at..at + 4]), float(&other[at..at + 4]));
        assert!((a - b).abs() < CLOSE_S, "{command} at {at}: {a} {b}");
    }
}

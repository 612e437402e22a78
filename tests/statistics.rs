//! Files of measurements, beside the real programs' own: ntpsec's ntpd and chronyd ask the
//! same server at the same time, and what they write and what ptntp writes have the same
//! columns. A file that can't be written costs its lines and nothing else.

mod common;

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use common::net::{Star, hub_v4, spoke_v4};
use common::ntp::Client;
use common::peers::{self, ChronyServer, MUTE, Ntpd};
use common::process::{self, Process};
use common::ptntp::{Ptntp, in_namespace};
use common::{GOOD_S, TempDir, secs, wait_until};
use nix::sys::signal::Signal;

/// The lines of a file that are no banner's, words apart; none if there is no file.
fn rows(path: impl AsRef<Path>) -> Vec<Vec<String>> {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let written = text
        .lines()
        .filter(|line| !line.starts_with(['=', ' ']))
        .map(|line| line.split_whitespace().map(str::to_owned).collect());
    written.collect()
}

/// How a word is written: `-12.345e-06` is `9.999e-99`, so that values don't matter and
/// digits do.
fn shape(word: &str) -> String {
    let word = word.strip_prefix('-').unwrap_or(word);
    let (whole, rest) = word.split_at(word.find(['.', 'e']).unwrap_or(word.len()));
    let digit = |c: char| if c.is_ascii_digit() { '9' } else { c };
    let whole = if whole.bytes().all(|byte| byte.is_ascii_digit()) {
        "9".to_owned()
    } else if whole.bytes().all(|byte| b"0123456789:-".contains(&byte)) {
        // A date or a time of day, which differ where two ask a moment apart.
        whole.chars().map(digit).collect()
    } else {
        whole.to_owned()
    };
    whole
        + &rest
            .replace("e+", "e-")
            .chars()
            .map(digit)
            .collect::<String>()
}

fn number(word: &str) -> f64 {
    word.parse()
        .unwrap_or_else(|_| panic!("`{word}` is no number"))
}

/// What a column has to have in common with the other program's.
enum Column {
    /// The same word.
    Same,
    /// The same way of writing.
    Shape,
    /// That, and a number that is at most this far off.
    Near(f64),
    /// Anything.
    Any,
}
use Column::{Any, Near, Same, Shape};

/// The last line of ours beside the last line of theirs.
fn compare(what: &str, ours: &[Vec<String>], theirs: &[Vec<String>], columns: &[Column]) {
    let (Some(ours), Some(theirs)) = (ours.last(), theirs.last()) else {
        panic!("{what}: {ours:?} {theirs:?}");
    };
    let both = format!("{what}:\n{}\n{}", ours.join(" "), theirs.join(" "));
    assert_eq!(ours.len(), theirs.len(), "{both}");
    assert_eq!(ours.len(), columns.len(), "{both}");
    for ((our, their), column) in ours.iter().zip(theirs).zip(columns) {
        match column {
            Same => assert_eq!(our, their, "{both}"),
            Shape => assert_eq!(shape(our), shape(their), "{our} {their} in {both}"),
            Near(limit) => {
                assert_eq!(shape(our), shape(their), "{our} {their} in {both}");
                let off = (number(our) - number(their)).abs();
                assert!(off <= *limit, "{our} {their} in {both}");
            }
            Any => {}
        }
    }
}

/// A chronyd that steers nothing and writes `log` lines into the directory.
fn chronyd(star: &Star, spoke: usize, directory: &TempDir, lines: &str) -> Process {
    let config = format!("port 0\n{MUTE}logdir @DIR@\n{lines}");
    peers::chronyd(&star.spokes[spoke], directory, &config)
}

/// Within so much two programs on one machine measure its clock by one server.
const NEAR_S: f64 = 2e-3;

#[test]
fn the_files_have_the_columns_of_ntpds_and_chronyds() {
    require!(root, peers);
    let star = Star::new(3);
    let _server = ChronyServer::start(&star.hub);
    const SETS: &str = "loopstats peerstats rawstats protostats";
    const LOGS: &str = "rawmeasurements statistics tracking selection";
    let theirs_ntp = TempDir::new();
    let _ntpd = Ntpd::start(
        &star.spokes[1],
        &format!(
            "server {} iburst minpoll 3 maxpoll 3\nstatsdir {}/\nstatistics {SETS}\n",
            hub_v4(1),
            theirs_ntp.path().display()
        ),
    );
    let theirs_chrony = TempDir::new();
    let server = format!("server {} iburst minpoll 1 maxpoll 1\n", hub_v4(2));
    let _chronyd = chronyd(&star, 2, &theirs_chrony, &format!("{server}log {LOGS}\n"));
    // Both at once, in our own dialect.
    let ptntp = in_namespace(&star.spokes[0]).clock("none").config(&format!(
        "server {} iburst minpoll 1 maxpoll 1\nstatsdir @DIR@/n/\nstatistics {SETS}\n\
             logdir @DIR@/c\nlog {LOGS}\n",
        hub_v4(0)
    ));
    fs::create_dir(ptntp.directory().path().join("n")).expect("a directory");
    let ptntp = ptntp.start();
    let our = |name: &str| rows(ptntp.directory.path().join(name));
    let ntp = |name: &str| {
        (
            our(&format!("n/{name}")),
            rows(theirs_ntp.path().join(name)),
        )
    };
    let chrony = |name: &str| {
        let name = format!("{name}.log");
        let theirs = rows(theirs_chrony.path().join(&name));
        (our(&format!("c/{name}")), theirs)
    };
    let enough = |(ours, theirs): &(Vec<Vec<String>>, Vec<Vec<String>>), least: usize| {
        ours.len() >= least && theirs.len() >= least
    };
    let written = || {
        let sets = ["loopstats", "peerstats", "rawstats"];
        let logs = ["measurements", "statistics", "tracking", "selection"];
        sets.iter().all(|name| enough(&ntp(name), 3))
            && logs.iter().all(|name| enough(&chrony(name), 6))
    };
    assert!(wait_until(secs(90), written), "{}", ptntp.process.log());

    let of = |name: &str, columns: &[Column]| {
        let (mut ours, mut theirs) = ntp(name);
        // Each program sees its server, and itself, under other addresses.
        for row in ours.iter_mut().chain(&mut theirs) {
            row.iter_mut()
                .filter(|w| w.starts_with("10.77."))
                .for_each(|w| *w = "IP".into());
        }
        compare(name, &ours, &theirs, columns);
    };
    // Day, second; what follows as docs/STATISTICS.md has it.
    let day = || [Near(1.0), Shape];
    let with = |columns: [Column; 5]| day().into_iter().chain(columns).collect::<Vec<_>>();
    of(
        "loopstats",
        &with([Near(NEAR_S), Near(0.0), Near(NEAR_S), Shape, Shape]),
    );
    let peer: Vec<_> = with([Same, Any, Near(NEAR_S), Near(NEAR_S), Shape])
        .into_iter()
        .chain([Near(NEAR_S)])
        .collect();
    of("peerstats", &peer);
    let stamps = || [Near(60.0), Near(60.0), Near(60.0), Near(60.0)];
    let mut raw: Vec<Column> = day()
        .into_iter()
        .chain([Same, Same])
        .chain(stamps())
        .collect();
    // Leap, version, mode, stratum; the server's poll and precision; root delay and
    // dispersion; refid, which ntpd writes as the octets come; counts and flags.
    raw.extend([Same, Same, Same, Same, Shape, Same, Near(1e-3), Near(1e-3)]);
    raw.extend([Any, Same, Same, Same]);
    of("rawstats", &raw);
    let (ours, theirs) = ntp("protostats");
    let events = |rows: &[Vec<String>], code: &str| -> Vec<String> {
        let found = rows.iter().find(|row| row[4] == code);
        let found = found.unwrap_or_else(|| panic!("no {code}: {rows:?}"));
        found[4..].to_vec()
    };
    for code in ["84", "8a"] {
        assert_eq!(events(&ours, code), events(&theirs, code));
    }

    let of = |name: &str, columns: Vec<Column>| {
        let (mut ours, mut theirs) = chrony(name);
        for row in ours.iter_mut().chain(&mut theirs) {
            row.iter_mut()
                .filter(|w| w.starts_with("10.77."))
                .for_each(|w| *w = "IP".into());
        }
        compare(name, &ours, &theirs, &columns);
        // Columns end where they end: whoever cuts by places finds them.
        let last = |directory: &Path| {
            let text = fs::read_to_string(directory.join(format!("{name}.log"))).expect("a log");
            let line = text.lines().rfind(|line| !line.starts_with(['=', ' ']));
            line.unwrap_or_default().len()
        };
        let ours = ptntp.directory.path().join("c");
        assert_eq!(last(&ours), last(theirs_chrony.path()), "{name}");
        let banner = |directory: &Path| -> Vec<String> {
            let text = fs::read_to_string(directory.join(format!("{name}.log"))).expect("a log");
            text.lines().take(3).map(str::to_owned).collect()
        };
        assert_eq!(banner(&ours), banner(theirs_chrony.path()));
    };
    let head = || [Same, Shape, Same];
    // Leap, stratum, tests, polls, score; offset, delay, dispersion; root delay and
    // dispersion, refid, mode, stamps.
    let mut measurements: Vec<Column> = head().into_iter().collect();
    measurements.extend([Same, Same, Same, Same, Same, Same, Same, Shape]);
    measurements.extend([Near(NEAR_S), Near(NEAR_S), Near(NEAR_S), Same, Same]);
    measurements.extend([Same, Same, Same, Same]);
    of("measurements", measurements);
    // Deviation, offset and its error; frequency, skew; stress; samples, start, runs, asymmetry.
    let mut statistics: Vec<Column> = head().into_iter().collect();
    statistics.extend([
        Near(NEAR_S),
        Near(NEAR_S),
        Near(NEAR_S),
        Near(1e-3),
        Near(1e-3),
    ]);
    statistics.extend([Shape, Shape, Shape, Shape, Shape]);
    of("statistics", statistics);
    // Stratum, frequency, skew; offset; leap, sources; deviation, rest, root delay and
    // dispersion, error.
    let mut tracking: Vec<Column> = head().into_iter().collect();
    tracking.extend([Same, Shape, Shape, Near(NEAR_S), Same, Same]);
    tracking.extend([
        Near(NEAR_S),
        Near(NEAR_S),
        Near(NEAR_S),
        Near(NEAR_S),
        Near(0.1),
    ]);
    of("tracking", tracking);
    // State, options, reach, score; age; low and high end.
    let mut selection: Vec<Column> = head().into_iter().collect();
    selection.extend([Same, Same, Any, Same, Shape, Near(NEAR_S), Near(NEAR_S)]);
    of("selection", selection);
}

fn names(directory: &Path) -> Vec<String> {
    let all = fs::read_dir(directory).expect("a directory");
    let mut names: Vec<String> = all
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("UTF-8")
        })
        .collect();
    names.sort();
    names
}

/// A daemon on the hub that asks spoke 0 each second.
fn start<'a>(star: &'a Star, lines: &str, io: &str, clock: &'a str) -> Ptntp<'a> {
    let server = format!("server {} iburst minpoll 0 maxpoll 0\n", spoke_v4(0));
    let setup = in_namespace(&star.hub)
        .clock(clock)
        .config(&(server + lines))
        .args(&["--io", io]);
    fs::create_dir(setup.directory().path().join("s")).expect("a directory");
    setup.start()
}

#[test]
fn filegen_names_links_and_ends_files_and_a_reload_changes_them() {
    require!(root, peers);
    for io in ["auto", "poll"] {
        let star = Star::new(1);
        let _server = ChronyServer::start(&star.spokes[0]);
        let mut ptntp = start(
            &star,
            "statsdir @DIR@/s\nstatistics loopstats\nfilegen peerstats file p type pid\n\
             filegen rawstats file r type month nolink\nrestrict default\n\
             filegen sysstats type none\nstatistics usestats\n",
            io,
            "none",
        );
        let directory = ptntp.directory.path().join("s");
        let pid = format!("p.#{}", ptntp.process.pid());
        let three = || names(&directory).len() >= 5;
        assert!(wait_until(secs(30), three), "{:?}", names(&directory));
        let found = names(&directory);
        let begins = |start: &str| found.iter().filter(|n| n.starts_with(start)).count();
        assert_eq!(begins("loopstats"), 2, "{found:?}");
        assert!(
            found.contains(&"p".to_owned()) && found.contains(&pid),
            "{found:?}"
        );
        assert_eq!((begins("r."), begins("r")), (1, 1), "{found:?}");
        let inode = |name: &str| fs::metadata(directory.join(name)).expect("a file").ino();
        assert_eq!(inode("p"), inode(&pid));
        let month = found
            .iter()
            .find(|name| name.starts_with("r."))
            .expect("rawstats");
        assert_eq!(month.len(), "r.202611".len());

        // From now on another file, and no peerstats.
        let path = ptntp.directory.path().join("ntp.conf");
        let text = fs::read_to_string(&path).expect("the file");
        let text = text
            .replace("file p type pid", "disable")
            .replace("file r type month", "file other type none");
        fs::write(&path, text).expect("written");
        ptntp.process.signal(Signal::SIGHUP);
        let other = directory.join("other");
        assert!(wait_until(secs(20), || rows(&other).len() > 2), "{io}");
        let peers = rows(directory.join("p")).len();
        let more = rows(&other).len() + 2;
        assert!(wait_until(secs(20), || rows(&other).len() >= more));
        assert_eq!(rows(directory.join("p")).len(), peers, "{io}");

        // The rest of an hour is told at the end.
        let client = Client::new(&star.spokes[0], hub_v4(0));
        for _ in 0..5 {
            assert!(client.time().is_some());
        }
        ptntp.process.terminate(secs(10)).expect("it ends");
        let served = rows(directory.join("sysstats"));
        assert_eq!(served.len(), 1, "{served:?}");
        assert_eq!(served[0].len(), 14);
        assert!(number(&served[0][4]) >= 5.0, "{served:?}");
        let used = rows(directory.join("usestats"));
        assert_eq!((used.len(), used[0].len()), (1, 14), "{used:?}");
        assert!(number(&used[0][13]) > 1000.0, "{used:?}");
    }
}

#[test]
fn disable_stats_writes_nothing() {
    require!(root, peers);
    let star = Star::new(1);
    let _server = ChronyServer::start(&star.spokes[0]);
    let lines = "statsdir @DIR@/s\nstatistics loopstats peerstats\nenable stats\ndisable stats\n";
    let ptntp = start(&star, lines, "auto", "none");
    let asked = || ptntp.sources()[0]["received"].as_u64() > Some(3);
    assert!(wait_until(secs(20), asked));
    assert_eq!(names(&ptntp.directory.path().join("s")), [""; 0]);
}

#[test]
fn chronyds_logs_are_cycled_and_large_corrections_told() {
    require!(root, peers);
    chronyds_logs("chrony", "makestep 0.1 1");
    chronyds_logs("ntp", "tinker step 0.1 stepupdates 1");
}

fn chronyds_logs(dialect: &str, step: &str) {
    let star = Star::new(1);
    let _server = ChronyServer::start(&star.spokes[0]);
    // chronyd's file: the directory is made.
    let setup = in_namespace(&star.hub)
        .clock("virtual:0.3,0")
        .config(&format!(
            "server {} iburst minpoll 0 maxpoll 0\n{step}\nlogchange 0.2\nlogbanner 4\n\
         logdir @DIR@/l/l\nlog tracking\nbindcmdaddress @DIR@/chronyd.sock\ncmdport 0\n",
            spoke_v4(0)
        ));
    let ptntp = setup.args(&["--dialect", dialect]).start();
    let log = ptntp.directory.path().join("l/l/tracking.log");
    let old = ptntp.directory.path().join("l/l/old");
    assert!(wait_until(secs(30), || rows(&log).len() >= 5));
    let text = fs::read_to_string(&log).expect("the log");
    let rules = text.lines().filter(|line| line.starts_with("====")).count();
    assert_eq!(rules, 2 * rows(&log).len().div_ceil(4), "{text}");
    fs::rename(&log, &old).expect("renamed");
    let socket = ptntp.directory.path().join("chronyd.sock");
    let said = process::all(&peers::chronyc(&star.hub, socket, "cyclelogs"));
    assert!(said.contains("200 OK"), "{said}");
    assert!(wait_until(secs(10), || rows(&log).len() >= 2));
    let kept = rows(&old).len();
    let more = rows(&log).len() + 2;
    assert!(wait_until(secs(10), || rows(&log).len() >= more));
    assert_eq!(rows(&old).len(), kept);
    // Ahead by 0.3 s, once.
    let told = ptntp.process.log();
    let told: Vec<&str> = told
        .lines()
        .filter(|l| l.contains("System clock wrong by"))
        .collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("wrong by -0.3"), "{told:?}");
}

/// The daemon with a file that can't be written, by `lines`, beside one that can.
fn beside(star: &Star, io: &str, told: usize, lines: &str, spoil: impl FnOnce(&Path)) {
    let setup = in_namespace(&star.hub)
        .clock("virtual:0.01,20")
        .config(&format!(
            "server {} iburst minpoll 0 maxpoll 0\nlogdir @DIR@/l\nlog statistics\n{lines}\n",
            spoke_v4(0)
        ))
        .args(&["--io", io]);
    spoil(setup.directory().path());
    let mut ptntp = setup.start();
    let settled = ptntp.settles(GOOD_S, secs(60), secs(3));
    assert!(settled.is_ok(), "{io}: {settled:?}");
    let good = ptntp.directory.path().join("l/statistics.log");
    assert!(wait_until(secs(10), || rows(&good).len() > 8), "{io}");
    let status = ptntp.process.terminate(secs(8)).expect("it ends");
    assert!(status.success(), "{io}: {status}");
    let log = ptntp.process.log();
    let sentences = log.lines().filter(|line| line.contains("can't be written"));
    assert_eq!(sentences.count(), told, "{io}: {log}");
}

/// Both backends at a time: most of it is waiting.
fn with_both(test: impl Fn(&Star, &str) + Sync) {
    std::thread::scope(|scope| {
        for io in ["auto", "poll"] {
            let test = &test;
            scope.spawn(move || {
                let star = Star::new(1);
                let _server = ChronyServer::start(&star.spokes[0]);
                test(&star, io);
            });
        }
    });
}

#[test]
fn a_full_disk_costs_lines_and_is_told_once() {
    require!(root, peers);
    with_both(|star, io| {
        let lines = "statsdir /dev\nfilegen loopstats file full type none";
        beside(star, io, 1, lines, |_| {});
    });
}

#[test]
fn a_file_that_hangs_leaves_the_time_alone() {
    require!(root, peers);
    with_both(|star, io| {
        // Before a ring's lines are lost, there is room for many; the one thread of poll
        // does not even try to wait.
        let told = usize::from(io == "poll");
        let lines = "statsdir @DIR@\nfilegen loopstats file fifo type none";
        let mut kept = None;
        beside(star, io, told, lines, |directory| {
            let path = directory.join("fifo");
            let mode = nix::sys::stat::Mode::from_bits_truncate(0o600);
            nix::unistd::mkfifo(&path, mode).expect("a fifo");
            // Somebody has it open, reads nothing, and it is full already.
            let mut full = OpenOptions::new()
                .read(true)
                .write(true)
                .custom_flags(libc::O_NONBLOCK)
                .open(path)
                .expect("the fifo");
            while full.write(&[b'x'; 4096]).is_ok() {}
            kept = Some(full);
        });
        drop(kept);
    });
}

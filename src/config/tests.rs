//! Shown here: files of real administrators load as they stand, everything
//! that can be wrong is named with its line, what loads survives being written
//! out and loaded again, and no text whatever makes the parser panic.

use std::path::{Path, PathBuf};

use proptest::prelude::*;

use crate::client::options::SourceOptions;
use crate::client::refclock::ClockOptions;
use crate::config::BroadcastLine;
use crate::config::allow::{self, Order};
use crate::config::diagnostic::{Diagnostic, Severity};
use crate::config::dialect::Dialect;
use crate::config::directives::{self, State};
use crate::config::keys::{KeyFormat, KeysConfig, Trust};
use crate::config::load::{Loaded, load, load_text};
use crate::config::stamping::{CardLine, Filter, StampingConfig, Which};
use crate::config::statistics::{FileConfig, FileKind, Rotation, StatisticsConfig};
use crate::config::xdp::{Mode, PREFIXES_MAX, XdpConfig, XdpLine};
use crate::config::{
    Commands, Config, Family, InitialSetting, LeavingConfig, Listen, LocalClock, RtcConfig,
    SourceConfig, SourceKind, convert, explain, native,
};
use crate::server::respond::{BadMac, Sizes};
use crate::server::rule::{Bucket, Flags, Headway, Prefix, RateLimit, Rule, Who};
use crate::sync::policy::{SelectPolicy, StepPolicy};
use crate::time::duration::NtpDuration;
use crate::time::units::PollExponent;
use crate::wire::refid::RefId;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/configs")
        .join(name)
}

fn read(text: &str) -> Result<Loaded, Vec<Diagnostic>> {
    load_text(Path::new("ntp.conf"), text, Dialect::Auto)
}

/// Loads text that has to be right.
fn good(text: &str) -> Loaded {
    read(text).unwrap_or_else(|why| panic!("{text}: {}", listed(&why)))
}

fn listed(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(|d| format!("{d}\n")).collect()
}

/// The only error of text that has to be wrong.
fn error(text: &str) -> Diagnostic {
    let all = read(text).expect_err(text);
    let mut errors = all.into_iter().filter(|d| d.severity == Severity::Error);
    let first = errors.next().expect(text);
    assert_eq!(errors.next(), None, "{text}");
    assert!(first.help.is_some(), "{first} says what to do");
    first
}

fn everyone(flags: Flags) -> [Rule; 2] {
    [Prefix::ALL_V4, Prefix::ALL_V6].map(|prefix| {
        let who = Who::Block {
            prefix,
            ntpport: false,
        };
        Rule::Restrict(who, flags)
    })
}

fn block(address: &str, len: u8) -> Who {
    Who::Block {
        prefix: Prefix::new(address.parse().unwrap(), len).unwrap(),
        ntpport: false,
    }
}

#[test]
fn first_tutorials_file_loads_as_it_stands() {
    let loaded = load(&file("seed-000.conf"), Dialect::Auto).unwrap();
    let config = &loaded.config;
    assert_eq!(config.sources.len(), 1);
    assert_eq!(config.sources[0].name, "172.25.0.11");
    assert_eq!(config.sources[0].options, SourceOptions::default());
    assert_eq!(config.local_clock, Some(LocalClock { stratum: 10 }));
    assert_eq!(
        config.drift_file.as_deref(),
        Some(Path::new("/var/lib/ntp/drift"))
    );
    assert_eq!(config.listen, Listen::Everywhere);
    let bits = Flags::KOD | Flags::NOMODIFY | Flags::NOTRAP | Flags::NOPEER | Flags::NOQUERY;
    let [v4, v6] = everyone(bits);
    let local = |address, len| Rule::Restrict(block(address, len), Flags::NONE);
    let lan = Rule::Restrict(block("172.25.0.0", 24), Flags::NOMODIFY);
    assert_eq!(
        config.rules,
        [v4, v6, v6, local("127.0.0.1", 32), local("::1", 128), lan]
    );
    let warned: Vec<usize> = loaded
        .notes
        .iter()
        .filter(|d| d.severity == Severity::Warning)
        .map(|d| d.location.line)
        .collect();
    assert_eq!(
        warned,
        [10, 11],
        "no include, no keys: {}",
        listed(&loaded.notes)
    );
}

#[test]
fn second_tutorials_lines_load_with_and_without_line_numbers() {
    let numbered = load(&file("seed-004.conf"), Dialect::Auto).unwrap();
    let plain = load(&file("seed-004-plain.conf"), Dialect::Auto).unwrap();
    assert_eq!(numbered.config, plain.config);
    assert!(plain.notes.is_empty(), "{}", listed(&plain.notes));
    assert_eq!(numbered.notes.len(), 1, "said once for the whole file");
    let names: Vec<&str> = plain.config.sources.iter().map(|s| &*s.name).collect();
    assert_eq!(
        names,
        ["ntp1.aliyun.com", "ntp2.aliyun.com", "ntp3.aliyun.com"]
    );
    assert!(plain.config.sources.iter().all(|s| s.options.iburst));
    assert_eq!(plain.config.rules, everyone(Flags::NOMODIFY));
}

#[test]
fn a_distributions_file_loads_without_errors() {
    let loaded = load(&file("debian.conf"), Dialect::Auto).unwrap();
    let select = loaded.config.select;
    assert_eq!(
        (select.maxclock, select.minclock, select.minsane),
        (11, 4, 3)
    );
    assert_eq!(loaded.config.sources[1].kind, SourceKind::Pool);
    assert!(loaded.config.rules.contains(&Rule::Restrict(
        Who::Source,
        Flags::NOTRAP | Flags::NOMODIFY | Flags::NOQUERY
    )));
}

/// The files of distributions and of both projects' documentation, and how many warnings
/// each gets beside those about files that are not on this machine.
const REAL: [(&str, Dialect, usize); 19] = [
    ("seed-000.conf", Dialect::Ntp, 0),
    ("seed-004.conf", Dialect::Ntp, 1),
    ("debian.conf", Dialect::Ntp, 0),
    ("ubuntu.conf", Dialect::Ntp, 0),
    ("rhel.conf", Dialect::Ntp, 0),
    ("ntpsec.conf", Dialect::Ntp, 1),
    ("lan.conf", Dialect::Ntp, 0),
    ("chrony.conf", Dialect::Chrony, 0),
    ("debian-chrony.conf", Dialect::Chrony, 0),
    ("ubuntu-chrony.conf", Dialect::Chrony, 0),
    ("rhel-chrony.conf", Dialect::Chrony, 0),
    ("amazon-chrony.conf", Dialect::Chrony, 0),
    ("lan-chrony.conf", Dialect::Chrony, 0),
    ("isolated-chrony.conf", Dialect::Chrony, 1),
    ("seed-004-plain.conf", Dialect::Ntp, 0),
    ("dialup-chrony.conf", Dialect::Chrony, 0),
    ("hardware-chrony.conf", Dialect::Chrony, 0),
    ("public-chrony.conf", Dialect::Chrony, 0),
    ("public.conf", Dialect::Ntp, 0),
];

#[test]
fn real_files_load_and_survive_being_written() {
    for (name, dialect, warnings) in REAL {
        let loaded = load(&file(name), Dialect::Auto);
        let loaded = loaded.unwrap_or_else(|why| panic!("{name}: {}", listed(&why)));
        assert_eq!(loaded.dialect, dialect, "{name}");
        let warned = loaded.notes.iter().filter(|note| {
            note.severity == Severity::Warning && !note.message.contains("there is no")
        });
        assert_eq!(
            warned.count(),
            warnings,
            "{name}: {}",
            listed(&loaded.notes)
        );
        assert_eq!(written(&loaded.config), loaded.config, "{name}");
    }
}

#[test]
fn every_line_of_the_real_files_is_explained() {
    for (name, ..) in REAL {
        let loaded = load(&file(name), Dialect::Auto).unwrap();
        for line in &loaded.lines {
            let said = explain::sentences(&line.statement, &loaded.config);
            let noted = loaded.notes.iter().any(|n| n.location == line.location);
            assert!(!said.is_empty() || noted, "{name}: {}", line.text);
        }
    }
}

#[test]
fn explanations_have_the_numbers_that_apply() {
    let explained = |text: &str| {
        let loaded = good(text);
        let said = explain::sentences(&loaded.lines[0].statement, &loaded.config);
        said.join("\n")
    };
    let said = explained("restrict 127.0.0.1");
    assert!(
        said.starts_with("localhost (127.0.0.1) may do everything"),
        "{said}"
    );
    let said = explained("restrict 10.0.0.0/8 limited kod\ndiscard average 5 minimum 1");
    assert!(said.contains("16777216 addresses"), "{said}");
    assert!(
        said.contains("every 32 s on average and 1 s apart"),
        "{said}"
    );
    let said = explained("server a.example minpoll 4 maxpoll 12 iburst");
    assert!(
        said.contains("every 16 s") && said.contains("every 4096 s (68 min)"),
        "{said}"
    );
    let said = explained("server 127.127.1.0\nfudge 127.127.1.0 stratum 10");
    assert!(said.contains("as stratum 11"), "{said}");
    let said = explained("restrict 10.1.1.1 noserve\nrestrict 10.1.1.1 noquery");
    assert!(
        said.contains("together: gets no time (noserve), can't ask"),
        "{said}"
    );
    let said = explained("unrestrict 10.1.1.1");
    assert!(said.contains("takes back"), "{said}");
}

#[test]
fn sources_take_their_options() {
    let config = good(
        "server -6 ntp.example.net iburst burst prefer noselect minpoll 3 maxpoll 9 version 3 xleave port 1123\n\
         pool -4 pool.example.net\npeer 2001:db8::1\nserver fe80::1%eth0",
    )
    .config;
    let options = SourceOptions {
        offline: false,
        initial: false,
        minpoll: PollExponent::new(3),
        maxpoll: PollExponent::new(9),
        iburst: true,
        burst: true,
        prefer: true,
        noselect: true,
        version: 3,
        xleave: true,
        symmetric: false,
        port: 1123,
        key: None,
        offset: NtpDuration::ZERO,
        clock: None,
        heard: None,
        over_ptp: None,
        correction: false,
    };
    assert_eq!(config.sources[0].options, options);
    assert_eq!(config.sources[0].family, Some(Family::V6));
    assert_eq!(config.sources[1].kind, SourceKind::Pool);
    assert_eq!(config.sources[1].family, Some(Family::V4));
    assert_eq!(config.sources[2].kind, SourceKind::Peer);
    assert!(config.sources[2].options.symmetric);
    assert_eq!(config.sources[3].name, "fe80::1%eth0");
}

#[test]
fn odd_polls_are_mended_and_said() {
    let loaded = good("server a.example minpoll 12\nserver b.example minpoll -9 maxpoll 99");
    let polls: Vec<_> = loaded
        .config
        .sources
        .iter()
        .map(|s| (s.options.minpoll.log2(), s.options.maxpoll.log2()))
        .collect();
    assert_eq!(polls, [(10, 10), (-7, 17)]);
    assert_eq!(loaded.notes.len(), 3, "{}", listed(&loaded.notes));
}

#[test]
fn sources_can_be_taken_back_and_are_not_doubled() {
    let loaded = good("server a.example\nserver b.example\nserver a.example\nunpeer b.example");
    assert_eq!(loaded.config.sources.len(), 1);
    assert_eq!(loaded.notes[0].location.line, 3);
    let config = good("server 127.127.1.1\nunpeer 127.127.1.1").config;
    assert_eq!(config.local_clock, None);
}

#[test]
fn local_clock_is_fudged_in_any_order() {
    let stratum = |text: &str| good(text).config.local_clock.map(|c| c.stratum);
    assert_eq!(stratum("server 127.127.1.0"), Some(5));
    assert_eq!(
        stratum("fudge 127.127.1.3 stratum 7\nserver 127.127.1.3 minpoll 4"),
        Some(7)
    );
    assert_eq!(stratum("server a.example"), None);
    let loaded = good("server a.example\nfudge 127.127.1.0 stratum 10");
    assert_eq!(loaded.notes[0].severity, Severity::Warning);
}

#[test]
fn rules_are_read_in_every_form() {
    let rules = |text: &str| good(text).config.rules;
    assert_eq!(rules("restrict default ignore"), everyone(Flags::IGNORE));
    assert_eq!(
        rules("restrict -4 default"),
        [Rule::Restrict(block("0.0.0.0", 0), Flags::NONE)]
    );
    assert_eq!(
        rules("restrict -6 2001:db8::5 mask ffff:ffff:: noserve"),
        [Rule::Restrict(block("2001:db8::", 32), Flags::NOSERVE)]
    );
    assert_eq!(
        rules("restrict 10.9.8.7/8 flake"),
        rules("restrict 10.0.0.0 mask 255.0.0.0 flake")
    );
    assert_eq!(
        rules("restrict 1.2.3.4 mask 0.0.0.0"),
        rules("restrict -4 default")
    );
    assert_eq!(
        rules("restrict 10.1.1.1 ntpport version"),
        [Rule::Restrict(
            Who::Block {
                prefix: Prefix::host("10.1.1.1".parse().unwrap()),
                ntpport: true
            },
            Flags::VERSION
        )]
    );
    assert_eq!(
        rules("unrestrict source nopeer"),
        [Rule::Unrestrict(Who::Source, Flags::NOPEER)]
    );
    for (word, flag) in Flags::WORDS {
        let text = format!("restrict 10.0.0.1 {word}");
        assert_eq!(rules(&text), [Rule::Restrict(block("10.0.0.1", 32), flag)]);
    }
    assert_eq!(
        good("discard average 4 minimum 1 monitor 100")
            .config
            .rate_limit,
        RateLimit::Headway(Headway {
            average_log2_s: 4,
            minimum_s: 1
        })
    );
}

#[test]
fn policy_lines_set_what_they_say() {
    let config = good(
        "tinker panic 0 step 0.5 stepout 60 allan 1500\ntinker step 0\n\
         tos minclock 2 minsane 2 maxclock 7 maxdist 3 mindist 0.01 floor 2 ceiling 12\n\
         disable ntp monitor\nport 1123\ncontrol \"/run/a b.sock\"\nmetrics [::1]:9000\nlisten loopback\n\
         clients interleaved 7\nclients limited 9\nbusypoll on",
    )
    .config;
    assert_eq!(config.step.threshold, None);
    assert_eq!(config.step.panic, None);
    assert_eq!(config.step.stepout, NtpDuration::from_whole_seconds(60));
    let select = SelectPolicy {
        minsane: 2,
        minclock: 2,
        maxclock: 7,
        maxdist: NtpDuration::from_whole_seconds(3),
        mindist: NtpDuration::from_seconds(0.01),
        floor: 2,
        ceiling: 12,
    };
    assert_eq!(config.select, select);
    assert!(!config.discipline);
    assert_eq!(config.port, Some(1123));
    assert_eq!((config.clients.interleaved, config.clients.limited), (7, 9));
    assert_eq!(config.control.as_deref(), Some(Path::new("/run/a b.sock")));
    assert_eq!(config.metrics, "[::1]:9000".parse().ok());
    assert_eq!(config.listen, Listen::Loopback);
    assert!(config.busy_poll);
    assert!(!good("busypoll on\nbusypoll off").config.busy_poll);
    assert_eq!(good("metrics off").config.metrics, None);
    assert!(good("disable ntp\nenable ntp").config.discipline);
    let commands = good(
        "cmdport 323\nbindcmdaddress 192.0.2.1\nbindcmdaddress \"/run/c d.sock\"\n\
         bindcmdaddress ::",
    );
    assert_eq!(
        commands.config.commands,
        Commands {
            port: 323,
            v4: "192.0.2.1".parse().expect("an address"),
            v6: "::".parse().expect("an address"),
            allowed: Vec::new(),
            path: Some("/run/c d.sock".into()),
        }
    );
    let none = good("bindcmdaddress /run/x\nbindcmdaddress /\ncmdport 0").config;
    assert_eq!(none.commands, Commands::default());
    assert!(good("disable kernel stats").config.discipline);
    assert!(
        good("tinker step 1e-15").config.step.threshold.is_some(),
        "tiny is not never"
    );
}

/// Everything that keeps the daemon from starting: text, and what the sentence
/// or the help has to name. The wrong line is always the second.
#[test]
fn errors_name_line_word_and_remedy() {
    let wrong = [
        ("server a perfer", "`prefer`"),
        ("Server a.example", "`server`"),
        ("frobnicate 3", "`frobnicate`"),
        ("; comment", "`#`"),
        ("server", "host name"),
        ("server a==>b", "`a==>b`"),
        ("server 10.0.0", "`10.0.0`"),
        ("server -4 ::1", "family"),
        ("server 224.0.1.1", "224.0.1.1"),
        ("server a key 5", "`keys FILE`"),
        ("server a key 0", "whole number"),
        ("keys / other", "one word too many"),
        ("trustedkey", "(10 ... 20)"),
        ("trustedkey (5 ... 3)", "(10 ... 20)"),
        ("cryptonak maybe", "`cryptonak`"),
        ("peer a autokey", "Autokey"),
        ("server a nts", "`nts`"),
        ("server a bias x", "`bias`"),
        ("limit average 0", "1e-6"),
        ("listen 10.0.0.1 10.0.0.1", "before on this line"),
        ("leapseconds never", "kernel"),
        ("server a minpoll ten", "`ten`"),
        ("server a maxpoll", "whole number"),
        ("server a version 5", "from 1 to 4"),
        ("server a port 0", "65535"),
        ("server 127.127.28.0", "driver 28"),
        ("pool 127.127.1.0", "local clock"),
        ("refclock shm unit 0", "`refclock shm`"),
        ("refclock PHC", "device"),
        ("refclock PHC ../ptp0", "neither"),
        ("refclock PHC /dev/ptp0:extpps", "`:extpps`"),
        ("refclock PHC /dev/ptp0 lock GPS", "number its seconds"),
        ("refclock PHC eth0 local", "followed in phase"),
        ("refclock PHC eth0 refid TOOLONG", "TOOLONG"),
        ("refclock PHC eth0 ofset 1", "`offset`"),
        ("refclock PHC eth0 poll -7", "from -6"),
        ("phc follow eth0", "`follow`"),
        ("phc discipline eth0 gps", "`gps`"),
        ("fudge 10.0.0.1 stratum 3", "reference clock"),
        ("fudge 127.127.1.0 stratum 16", "from 0 to 15"),
        ("fudge 127.127.1.0 strat 3", "`strat`"),
        ("restrict", "`default`"),
        ("restrict kod", "to whom"),
        ("restrict 10.0.0.0 mask 255.0.255.0", "255.0.255.0"),
        ("restrict 10.0.0.0 mask ffff::", "mask"),
        ("restrict ::1 mask f0f0::", "f0f0::"),
        ("restrict 10.0.0.0/8 mask 255.0.0.0", "twice"),
        ("restrict 10.0.0.0/33", "0 to 32"),
        ("restrict 10.0.0.0/+8", "0 to 32"),
        ("restrict ::/129", "0 to 128"),
        ("restrict 10.0.0.0 netmask 255.0.0.0", "`mask`"),
        ("restrict default mask 0.0.0.0", "`mask`"),
        ("restrict 10.0.0", "complete"),
        ("restrict localhost", "::1"),
        ("restrict ntp.example.net nomodify", "host names"),
        ("restrict fe80::1%eth0", "scope"),
        ("restrict -4 ::1", "family"),
        ("restrict default nomodfy", "`nomodify`"),
        ("discard average 99", "from 0 to 17"),
        ("discard avrage 3", "`average`"),
        ("clients intreleaved 5", "`interleaved`"),
        ("clients limited 0", "from 1 to"),
        ("tinker step fast", "`fast`"),
        ("tinker step -1", "not negative"),
        ("tinker panic nan", "`nan`"),
        ("tinker stepback x", "`x`"),
        ("peer 127.0.0.1", "this machine itself"),
        ("peer ::1 iburst", "this machine itself"),
        ("broadcast 127.0.0.1", "this machine itself"),
        ("dscp 64", "from 0 to 63"),
        ("tinker stp 0", "`step`"),
        ("tinker nonsense 0", "`tinker` knows"),
        ("tos minclock x", "`x`"),
        ("tos minsane 1.5", "`1.5`"),
        ("tos ceiling 17", "1 to 16"),
        ("tos minclok 3", "`minclock`"),
        ("enable", "`ntp`"),
        ("enable nonsense", "`enable` knows"),
        ("driftfile a b", "too many"),
        ("includefile", "file name"),
        ("keys \"/a", "quote"),
        ("keys", "file name"),
        ("server\u{a0}a", "U+00A0"),
        ("driftfile /\u{fffd}", "UTF-8"),
        ("driftfile /\u{1b}[2J", "U+001B"),
        ("interface ignore eth0", "`restrict`"),
        ("nic drop 10.0.0.0/8", "interface listen"),
        ("interface use eth0", "knows: listen"),
        ("broadcast 10.0.0.x", "no address"),
        ("multicastclient 10.0.0.255", "group"),
        ("multicastclient 224.0.1.1 224.0.1.2", "a line"),
        ("broadcast 10.0.0.255 maxpoll", "needs"),
        ("broadcast 10.0.0.255 key 5", "no `keys` line"),
        ("peer a.example ptp", "`server`"),
        ("manycastserver 239.1.1.1", "manycast"),
        ("extra port 1123", "second port"),
        ("nts enable", "NTS"),
        ("port 70000", "65535"),
        ("port 0", "1 to 65535"),
        ("metrics 9975", "127.0.0.1:9975"),
        ("listen eth0", "everywhere"),
        ("control", "path"),
    ];
    for (text, names) in wrong {
        let error = error(&format!("# first\n{text}\nserver last.example"));
        assert_eq!(error.location.line, 2, "{error}");
        let said = error.to_string();
        assert!(said.starts_with("ntp.conf:2: error: "), "{said}");
        assert!(said.contains(names), "`{names}` is missing: {said}");
        assert!(said.contains('^'), "{said}");
    }
    let long = format!("server last.example\ncontrol /{}", "a".repeat(107));
    assert!(error(&long).message.contains("107"));
}

#[test]
fn every_error_of_a_file_is_shown_at_once() {
    let all = read("server a key 1\nrestrict x\nkeys /nonexistent/keys").unwrap_err();
    let lines: Vec<_> = all.iter().map(|d| (d.location.line, d.severity)).collect();
    assert_eq!(
        lines,
        [
            (1, Severity::Error),
            (2, Severity::Error),
            (3, Severity::Warning)
        ]
    );
}

/// Whatever ntpd knows is recognised; nothing of it is passed over in silence.
#[test]
fn lines_without_effect_say_so() {
    let silent = [
        "statistics loopstats peerstats",
        "filegen loopstats file l type day link enable",
        "log tracking",
        "log tempcomp",
        "statistics cryptostats",
        "filegen timingstats file t type day",
        "logfile /var/log/ntp",
        "logconfig =syncall +clockall",
        "leapsmearinterval 86400",
        "crypto pw secret",
        "keysdir /k",
        "requestkey 1",
        "mru mindepth 600",
        "limit kod 0.5",
        "rlimit memlock 32",
        "setvar a = b default",
        "phone 123",
        "trap 10.0.0.1",
        "mdnstries 5",
        "broadcastclient novolley",
        "enable bclient",
        "manycastclient 239.1.1.1",
        "interface ignore wildcard",
        "enable mode7 calibrate",
        "tos orphanwait 5",
        "tos cohort 1",
        "tinker allan 10",
        "restrict default kod",
        "restrict default mssntp",
        "server b.example true",
        "server b.example preempt ttl 3",
        "reset allpeers",
    ];
    for text in silent {
        let loaded = good(&format!("server a.example\n{text}"));
        let notes = &loaded.notes;
        assert!(!notes.is_empty(), "{text}");
        assert!(
            notes.iter().all(|n| n.location.line == 2),
            "{}",
            listed(notes)
        );
    }
    assert!(
        good("server a.example\nrestrict default kod limited")
            .notes
            .is_empty()
    );
}

#[test]
fn diagnostics_come_in_the_order_of_the_lines() {
    let loaded = good("restrict default kod\nserver a.example ttl 3\ntos minsane 5\nphone 1");
    let lines: Vec<usize> = loaded.notes.iter().map(|n| n.location.line).collect();
    assert_eq!(lines, [1, 2, 4, 0]);
}

#[test]
fn the_only_source_is_never_dropped_with_a_warning() {
    assert_eq!(error("manycastclient 239.1.1.1").location.line, 1);
    let loaded = good("manycastclient 239.1.1.1\nserver a.example");
    assert_eq!(loaded.notes[0].severity, Severity::Warning);
}

#[test]
fn contradictions_across_lines_are_found() {
    let warned = |text: &str, line: usize| {
        let loaded = good(text);
        let warnings = |d: &&Diagnostic| d.severity == Severity::Warning;
        let found: Vec<_> = loaded.notes.iter().filter(warnings).collect();
        assert_eq!(found.len(), 1, "{}", listed(&loaded.notes));
        assert_eq!(found[0].location.line, line);
    };
    let silent = |text: &str| assert!(good(text).notes.is_empty(), "{text}");
    warned("restrict default ignore\nserver 10.0.0.1", 2);
    warned("server a.example\nrestrict default noserve", 1);
    silent("restrict default ignore\nserver 10.0.0.1\nrestrict 10.0.0.1");
    silent("restrict default ignore\nserver a.example\nrestrict source");
    silent("restrict default ignore\nunrestrict default ignore\nserver a.example");
    warned("", 0);
    warned("server a.example\ntos minsane 2", 0);
    silent("pool a.example\ntos minsane 2");
    warned("server a.example\ntos floor 5 ceiling 5", 0);
}

#[test]
fn the_real_time_clock_has_chronys_words() {
    let of = |text: &str| {
        good(&format!("restrict default\nserver a.example\n{text}"))
            .config
            .rtc
    };
    assert_eq!(of(""), RtcConfig::default());
    assert!(of("rtcsync").kernel_sets && !of("rtcsync off").kernel_sets);
    let own = of(
        "rtcsync off\nrtcfile /v/rtc\nrtcdevice /dev/rtc1\nrtconutc\nrtcautotrim 0.5\nhwclockfile /etc/adjtime",
    );
    let wanted = RtcConfig {
        kernel_sets: false,
        file: Some("/v/rtc".into()),
        device: Some("/dev/rtc1".into()),
        on_utc: Some(true),
        autotrim: Some(NtpDuration::from_seconds(0.5)),
        hwclock_file: Some("/etc/adjtime".into()),
    };
    assert_eq!(own, wanted);
    assert!(!of("rtcfile /v/rtc").kernel_sets, "by itself");
    assert_eq!(of("rtcfile /v/rtc\nrtcautotrim 0").autotrim, None);
    assert_eq!(of("rtconutc off").on_utc, Some(false));
}

#[test]
fn the_kernel_and_we_never_both_set_the_real_time_clock() {
    let wrong = error("restrict default\nserver a.example\nrtcsync\nrtcfile /v/rtc\n");
    assert_eq!(wrong.location.line, 4);
    assert!(wrong.message.contains("ntp.conf:3"), "{wrong}");
    let alone = good("restrict default\nserver a.example\nrtcautotrim 1\n");
    assert!(listed(&alone.notes).contains("no effect without `rtcfile`"));
}

#[test]
fn dialects_are_recognised_by_their_words() {
    let dialect = |path: &str, text: &str, dialect| {
        let loaded = load_text(Path::new(path), text, dialect);
        loaded
            .map(|loaded| loaded.dialect)
            .map_err(|why| listed(&why))
    };
    let auto = |path, text| dialect(path, text, Dialect::Auto);
    assert_eq!(
        auto("x.conf", "server a\nMakeStep 1 3\n"),
        Ok(Dialect::Chrony)
    );
    assert_eq!(
        auto("x.conf", "server a\nrestrict default\n"),
        Ok(Dialect::Ntp)
    );
    assert_eq!(auto("x.conf", "server a"), Ok(Dialect::Ntp));
    assert_eq!(auto("chrony.conf", "server a"), Ok(Dialect::Chrony));
    assert_eq!(
        auto("chrony.conf", "server a\nfudge 127.127.1.0"),
        Ok(Dialect::Ntp)
    );
    let named = dialect("chrony.conf", "server a", Dialect::Ntp);
    assert_eq!(named, Ok(Dialect::Ntp));
    let mixed = auto("x.conf", "server a\nMakeStep 1 3\nrestrict b").unwrap_err();
    assert!(
        mixed.contains("x.conf:2") && mixed.contains("x.conf:3"),
        "{mixed}"
    );
    let word = dialect("ntp.conf", "makestep 1 3\nserver a", Dialect::Ntp).unwrap_err();
    assert!(word.contains("tinker step"), "{word}");
    let word = dialect("x", "restrict 10.0.0.0/8\nserver a", Dialect::Chrony).unwrap_err();
    assert!(word.contains("`allow"), "{word}");
}

fn chrony(text: &str) -> Loaded {
    load_text(Path::new("chrony.conf"), text, Dialect::Chrony)
        .unwrap_or_else(|why| panic!("{text}: {}", listed(&why)))
}

#[test]
fn chrony_conf_means_what_chronyd_makes_of_it() {
    let plain = chrony("server a.example").config;
    assert_eq!(plain.step.threshold, None, "slews only");
    assert_eq!(plain.listen, Listen::Nowhere, "serves nobody");
    assert_eq!(plain.select.maxdist, NtpDuration::from_whole_seconds(3));
    let config = chrony(
        "SERVER a.example IBURST minpoll -4 maxpoll 24 offset -0.001 ipv6\n\
         pool b.example maxsources 2\npool c.example\n\
         MakeStep 0.5 3\nmaxchange 1000 1 2\nminsources 2\nmaxdistance 1.5\nmaxstratum 5\n\
         driftfile /var/lib/chrony/drift\nleapseclist /leaps # not a comment\n"
            .replace(" # not a comment", "")
            .as_str(),
    )
    .config;
    let a = &config.sources[0];
    assert_eq!(
        (a.options.minpoll.log2(), a.options.maxpoll.log2()),
        (-4, 17)
    );
    assert!(a.options.iburst && a.family == Some(Family::V6));
    assert_eq!(a.options.offset, NtpDuration::from_seconds(-0.001));
    assert_eq!(
        config.sources.iter().map(|s| s.most).collect::<Vec<_>>(),
        [None, Some(2), Some(4)]
    );
    let step = StepPolicy {
        threshold: Some(NtpDuration::from_seconds(0.5)),
        threshold_back: Some(NtpDuration::from_seconds(0.5)),
        panic: Some(NtpDuration::from_whole_seconds(1000)),
        stepout: NtpDuration::ZERO,
        first_unlimited: false,
        step_updates: Some(3),
        panic_after: 1,
        panic_ignored: Some(2),
    };
    assert_eq!(config.step, step);
    assert_eq!((config.select.minsane, config.select.ceiling), (2, 6));
    assert!(config.drift_gains && config.leap_file.is_some());
    assert_eq!(chrony("makestep 1 -1").config.step.step_updates, None);
    // In ntp.conf a comment may begin there.
    let odd = chrony("refclock PHC /dev/pt#0:nocrossts\nphc discipline /dev/pt#1").config;
    assert_eq!(written(&odd), odd);
    // Any offset is beyond 0; `tinker step 0` means never.
    let always = chrony("makestep 0 1").config;
    assert!(always.step.threshold.is_some());
    assert_eq!(written(&always).step, always.step);
    let late = chrony("server a minpoll 12").config.sources[0].options;
    assert_eq!(late.maxpoll.log2(), 12, "as chronyd");
    let serves = chrony("allow 10/8\nbindaddress 10.0.0.1\nlocal\nport 1123").config;
    assert_eq!(
        serves.listen,
        Listen::At(["10.0.0.1", "::"].map(|a| a.parse().unwrap()).into())
    );
    assert_eq!(serves.local_clock, Some(LocalClock { stratum: 9 }));
    assert_eq!(serves.port, Some(1123));
    assert_eq!(chrony("allow\nport 0").config.listen, Listen::Nowhere);
    let limited = chrony("allow\nratelimit interval -2 burst 16 kod 1").config;
    let RateLimit::Bucket(bucket) = limited.rate_limit else {
        panic!("{:?}", limited.rate_limit);
    };
    assert_eq!(bucket.interval, NtpDuration::from_seconds(0.25));
    assert_eq!(bucket.burst, 16);
    let everybody = Rule::Restrict(
        block("0.0.0.0", 0),
        Flags::LIMITED | Flags::KOD | Flags::NOQUERY,
    );
    assert!(limited.rules.contains(&everybody), "{:?}", limited.rules);
    assert!(!chrony("leapsecmode slew").config.kernel_leaps);
    let clients = chrony("clientloglimit 1600").config.clients.limited;
    assert_eq!(clients, 100);
}

#[test]
fn errors_in_chrony_conf_name_line_word_and_remedy() {
    for (text, names) in [
        ("server a key 5", "`keyfile FILE`"),
        ("server a nts", "NTS"),
        ("server 127.127.1.0", "`local stratum 10`"),
        ("driftfile /a\"b", "quote"),
        ("server a trust", "`prefer`"),
        ("server a minpoll 25", "-7 to 24"),
        ("server a perfer", "`prefer`"),
        ("server a # comment", "line of its own"),
        ("driftfile /d # comment", "line of its own"),
        ("driftfile /d x", "one word too many"),
        ("makestep 1", "needs"),
        ("makestep 1 x", "`x`"),
        ("allow 10.0.0.0/33", "0 to 32"),
        ("allow ntp.example.net", "host name"),
        ("allow 1.2.3.4.5", "not an address"),
        ("port 70000", "65535"),
        ("local stratum 16", "1 to 15"),
        ("ratelimit leak 9", "1 to 4"),
        ("initstepslew x a", "`x`"),
        ("peer 127.0.0.1", "this machine itself"),
        ("broadcast 30 127.0.0.1", "this machine itself"),
        ("bindacqaddress a", "not an address"),
        ("initstepslew 30 a;b", "neither a host name"),
        ("refclock PPS /dev/pps0", "not supported yet"),
        ("broadcast 10.0.0.255", "1 to 65536"),
        ("broadcast 30 name.example", "no address"),
        ("peer a.example port 319\nptpport 319", "over PTP"),
        ("ntsserverkey /k", "NTS"),
        (
            "authselectmode require\nserver a.example",
            "nobody could be followed",
        ),
        ("maxupdateskew fast", "a number from"),
        ("leapsecmode smear", "system, step"),
        ("fudge 127.127.1.0", "`local stratum"),
        ("include /nonexistent/*", "no file matches"),
        ("bindaddress eth0", "not an address"),
        ("lokal stratum 3", "`local`"),
        ("rtcsync now", "`now`"),
    ] {
        let whole = format!("# first\n{text}\n");
        let all = load_text(Path::new("c.conf"), &whole, Dialect::Chrony).expect_err(text);
        let mut errors = all.iter().filter(|d| d.severity == Severity::Error);
        let said = errors.next().expect(text).to_string();
        assert_eq!(errors.next(), None, "{text}: {}", listed(&all));
        assert!(said.starts_with("c.conf:2: error: "), "{said}");
        assert!(said.contains(names), "`{names}` is missing: {said}");
        assert!(said.contains('^'), "{said}");
    }
}

#[test]
fn chronys_includes_have_their_rules() {
    let directory = Directory::new("chrony-includes");
    let at = directory.0.display().to_string();
    std::fs::create_dir_all(directory.0.join("other")).unwrap();
    directory.write("sub/20.conf", "server twenty.example\n");
    directory.write("sub/10.conf", "server ten.example\n");
    directory.write("sub/10.txt", "nonsense\n");
    directory.write("other/10.conf", "server hidden.example\n");
    directory.write("other/30.conf", "server thirty.example\n");
    directory.write("sub/dhcp.sources", "server dhcp.example iburst\n");
    directory.write(
        "chrony.conf",
        &format!(
            "sourcedir {at}/sub /nonexistent\nconfdir {at}/sub {at}/other {at}/nowhere\n\
             include {at}/other/3*.conf\nserver last.example\nallow\n"
        ),
    );
    let main = directory.0.join("chrony.conf");
    let loaded = load(&main, Dialect::Auto).unwrap_or_else(|why| panic!("{}", listed(&why)));
    let names: Vec<&str> = loaded.config.sources.iter().map(|s| &*s.name).collect();
    assert_eq!(
        names,
        [
            "ten.example",
            "twenty.example",
            "thirty.example",
            "last.example",
            "dhcp.example"
        ]
    );
    assert!(listed(&loaded.notes).contains("`thirty.example` was named before"));
    directory.write("sub/dhcp.sources", "server dhcp.example\nallow all\n");
    let why = load(&main, Dialect::Auto).unwrap_err();
    let said = listed(&why);
    assert!(
        said.contains("dhcp.sources:2") && said.contains("`server`"),
        "{said}"
    );
}

/// Every directive and every option of the tables is read, and what is said of its example
/// is what its state promises.
#[test]
fn the_tables_are_true() {
    use directives::{chrony, chrony_options, ntp, ntp_options};
    let check = |dialect: Dialect, text: &str, state: State| {
        let (errors, notes) = match load_text(Path::new("x.conf"), text, dialect) {
            Ok(loaded) => (Vec::new(), loaded.notes),
            Err(why) => (why, Vec::new()),
        };
        let is = |severity| {
            let there = |d: &&Diagnostic| d.severity == severity && d.location.line > 0;
            notes.iter().filter(there).count() > 0
        };
        let good = match state {
            State::Works => errors.is_empty() && !is(Severity::Warning),
            State::NoEffect => errors.is_empty() && is(Severity::Note),
            State::Missing => errors.is_empty() && is(Severity::Warning),
            State::Refused => !errors.is_empty(),
        };
        assert!(
            good,
            "{text}: {state:?}: {}{}",
            listed(&errors),
            listed(&notes)
        );
    };
    let directory = Directory::new("table");
    directory.write("keys", "6 secret\n");
    let keys = directory.0.join("keys");
    for (dialect, table, options) in [
        (Dialect::Ntp, ntp::DIRECTIVES, &ntp_options::ALL[..]),
        (
            Dialect::Chrony,
            chrony::DIRECTIVES,
            &chrony_options::ALL[..],
        ),
    ] {
        for (index, directive) in table.iter().enumerate() {
            let clock = if directive.name == "fudge" {
                "server 127.127.1.0\n"
            } else {
                ""
            };
            let text = format!(
                "server last.example\n{clock}{} {}\n",
                directive.name, directive.example
            );
            check(dialect, &text, directive.state);
            assert!(!directive.why.is_empty(), "{}", directive.name);
            let again = table[..index]
                .iter()
                .find(|other| other.name == directive.name);
            assert!(again.is_none(), "{} twice", directive.name);
        }
        for choices in options {
            for choice in choices.choices {
                let value = choice.value.map(|kind| format!(" {}", kind.sample()));
                let before = match (choice.name, dialect) {
                    ("key", Dialect::Chrony) => format!("keyfile {}\n", keys.display()),
                    ("key", _) => format!("keys {} chrony\ntrustedkey 6\n", keys.display()),
                    _ => String::new(),
                };
                let text = format!(
                    "server last.example\n{before}{} {}{}{}\n",
                    choices.before,
                    choice.name,
                    value.unwrap_or_default(),
                    choices.after
                );
                check(dialect, &text, choice.state);
            }
        }
    }
}

#[test]
fn keys_are_read_and_trusted_by_the_lines() {
    let directory = Directory::new("keys");
    directory.write(
        "ntp.keys",
        "5 M text # c\n6 SHA1 text\n7 SHA1 text\n8 DES hush\n",
    );
    directory.write("chrony.keys", "# c\n5 MD5 text\n100000 SHA1 HEX:00ff\n");
    let at = |name: &str| directory.0.join(name).display().to_string();
    let ids = |loaded: &Loaded| -> Vec<u32> {
        let keys = loaded.config.keys.table.iter();
        keys.map(crate::wire::key::Key::id).collect()
    };
    let ntp = at("ntp.keys");
    let loaded = good(&format!(
        "keys {ntp}\ntrustedkey 5\ntrustedkey (7 ... 9)\nserver a key 7\nserver b\n"
    ));
    assert_eq!(ids(&loaded), [5, 7]);
    assert_eq!(loaded.config.sources[0].options.key, Some(7));
    assert_eq!(loaded.config.keys.bad_mac, BadMac::Refused);
    let said = listed(&loaded.notes);
    assert!(said.contains("ntp.keys:4: warning"), "{said}");
    assert!(!said.contains("hush"), "{said}");

    let error = |text: &str| listed(&read(text).unwrap_err());
    let why = error(&format!("keys {ntp}\nserver a key 6"));
    assert!(why.contains("ntp.conf:2: error") && why.contains("`trustedkey 6`"));
    let loaded = good(&format!("server a\nkeys {ntp}\ntrustedkey 5\ncontrolkey 5"));
    assert_eq!(loaded.config.keys.table.control(), Some(5));
    assert!(!listed(&loaded.notes).contains("ntpq"));
    let loaded = good(&format!("server a\nkeys {ntp}\ntrustedkey 5\ncontrolkey 7"));
    let said = listed(&loaded.notes);
    assert!(
        said.contains("ntp.conf:4: note: there is no key 7 for ntpq"),
        "{said}"
    );
    let why = error(&format!("keys {ntp}\ntrustedkey 9\nserver a key 9"));
    assert!(why.contains("has none of that number"), "{why}");

    let chrony = format!("keyfile {}\npool a key 100000\n", at("chrony.keys"));
    let loaded = good(&chrony);
    assert_eq!(ids(&loaded), [5, 100_000]);
    assert_eq!(loaded.config.keys.bad_mac, BadMac::Ignored);
    let native = native::lines(&loaded.config).join("\n");
    assert_eq!(good(&native).config, loaded.config, "{native}");
    let loaded = good("server a\nkeys /nonexistent/keys\ntrustedkey 1");
    assert!(listed(&loaded.notes).contains("there is no key file"));
}

#[test]
fn a_key_file_that_others_can_read_is_a_warning() {
    use std::os::unix::fs::PermissionsExt;
    let directory = Directory::new("modes");
    directory.write("keys", "5 text\n");
    let path = directory.0.join("keys");
    for (mode, warned) in [(0o600, false), (0o640, false), (0o644, true), (0o660, true)] {
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(&path, permissions).expect("chmod");
        let text = format!("keyfile {}\nserver a\n", path.display());
        let said = listed(&good(&text).notes);
        assert_eq!(said.contains("chmod 640"), warned, "{mode:o}: {said}");
    }
}

#[test]
fn includes_stand_in_their_place() {
    let directory = Directory::new("includes");
    directory.write(
        "ntp.conf",
        "restrict default ignore\nincludefile sub/a.conf\nserver c.example\n",
    );
    directory.write("sub/a.conf", "unrestrict default\nincludefile b.conf\r\n");
    directory.write("sub/b.conf", "\u{feff}server b.example\n");
    let config = load(&directory.0.join("ntp.conf"), Dialect::Auto)
        .unwrap()
        .config;
    let names: Vec<&str> = config.sources.iter().map(|s| &*s.name).collect();
    assert_eq!(names, ["b.example", "c.example"]);
    assert_eq!(config.rules.len(), 4);

    directory.write("sub/b.conf", "\n\nbad\n");
    let why = load(&directory.0.join("ntp.conf"), Dialect::Auto).unwrap_err();
    assert_eq!(
        why[0].location.file.as_ref(),
        directory.0.join("sub/b.conf")
    );
    assert_eq!(why[0].location.line, 3);

    directory.write("sub/b.conf", "server b.example");
    directory.write(
        "ntp.conf",
        "includefile sub/b.conf\nincludefile sub\nserver c.example\n",
    );
    directory.write("sub/a.conf", "server a.example");
    directory.write("sub/z.txt", "nonsense");
    let loaded = load(&directory.0.join("ntp.conf"), Dialect::Auto).unwrap();
    let names: Vec<_> = loaded.config.sources.iter().map(|s| &*s.name).collect();
    assert_eq!(
        names,
        ["b.example", "a.example", "c.example"],
        "a directory's *.conf by name"
    );
}

#[test]
fn endless_includes_end() {
    let directory = Directory::new("endless");
    let main = directory.0.join("ntp.conf");
    directory.write("ntp.conf", "includefile ntp.conf");
    let why = load(&main, Dialect::Auto).unwrap_err();
    assert!(why[0].message.contains("itself"), "{}", why[0]);
    directory.write("ntp.conf", "includefile ./1");
    for n in 1..=6 {
        directory.write(&n.to_string(), &format!("includefile {}", n + 1));
    }
    directory.write("5", "server a.example");
    assert!(load(&main, Dialect::Auto).is_ok(), "five deep");
    directory.write("5", "includefile 6");
    let why = load(&main, Dialect::Auto).unwrap_err();
    assert!(why[0].message.contains("5 deep"), "{}", why[0]);
    // Every file includes the next many times: bounded by the number of includes.
    for n in 1..=4 {
        let line = format!("includefile {}\n", n + 1);
        directory.write(&n.to_string(), &line.repeat(40));
    }
    directory.write("5", "");
    let why = load(&main, Dialect::Auto).unwrap_err();
    assert!(why[0].message.contains("500"), "{}", why[0]);
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let why = load(Path::new("/nonexistent/ntp.conf"), Dialect::Auto).unwrap_err();
    assert!(
        why[0]
            .to_string()
            .starts_with("/nonexistent/ntp.conf: error: it can't be read")
    );
    assert!(load(Path::new("/"), Dialect::Auto).is_err());
    assert!(
        load(Path::new("/dev/zero"), Dialect::Auto).is_err(),
        "endless"
    );
    let directory = Directory::new("latin1");
    let bytes = b"server a.example # Zeitserver f\xfcr alle\n";
    std::fs::write(directory.0.join("ntp.conf"), bytes).unwrap();
    assert!(load(&directory.0.join("ntp.conf"), Dialect::Auto).is_ok());
}

#[test]
fn what_is_no_regular_file_is_named_and_not_waited_for() {
    let directory = Directory::new("fifo");
    let at = directory.0.display().to_string();
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o600);
    for name in ["fifo", "sub/a.conf", "sub/a.sources"] {
        nix::unistd::mkfifo(&directory.0.join(name), mode).unwrap();
    }
    let link = |to: &str, name: &str| {
        std::os::unix::fs::symlink(to, directory.0.join(name)).unwrap();
    };
    link("fifo", "link");
    for (dialect, line, what) in [
        (Dialect::Ntp, "includefile @/fifo", "a FIFO"),
        (Dialect::Ntp, "includefile @/link", "a FIFO"),
        (Dialect::Ntp, "includefile @/sub", "a FIFO"),
        (Dialect::Ntp, "includefile /dev/zero", "a device"),
        (Dialect::Ntp, "keys @/fifo", "a FIFO"),
        (Dialect::Ntp, "keys @/sub", "a directory"),
        (Dialect::Ntp, "leapfile @/fifo", "a FIFO"),
        (Dialect::Ntp, "leapfile @/sub", "a directory"),
        (Dialect::Chrony, "include @/fif?", "a FIFO"),
        (Dialect::Chrony, "confdir @/sub", "a FIFO"),
        (Dialect::Chrony, "sourcedir @/sub", "a FIFO"),
        (Dialect::Chrony, "keyfile /dev/zero", "a device"),
    ] {
        let text = format!("server a.example\n{}\n", line.replace('@', &at));
        let why = load_text(Path::new("x.conf"), &text, dialect).expect_err(line);
        let said = listed(&why);
        assert!(said.starts_with("x.conf:2: error: "), "{said}");
        assert!(said.contains(&format!("it is {what}, and no regular file")));
        assert!(said.contains("name a regular file"), "{said}");
    }
    // A link to /dev/null puts a file of another directory out of force.
    directory.write("later/b.conf", "server b.example");
    link("/dev/null", "first/b.conf");
    let text = format!("confdir {at}/first {at}/later\nserver c.example\n");
    let loaded = load_text(Path::new("x.conf"), &text, Dialect::Chrony);
    let config = loaded
        .unwrap_or_else(|why| panic!("{}", listed(&why)))
        .config;
    assert_eq!(config.sources.len(), 1);

    // What a shell makes of `<(...)`.
    let (reader, mut writer) = std::io::pipe().unwrap();
    std::io::Write::write_all(&mut writer, b"server a.example\n").unwrap();
    drop(writer);
    let path = format!("/dev/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&reader));
    let loaded = load(Path::new(&path), Dialect::Auto);
    assert_eq!(loaded.unwrap().config.sources.len(), 1);
}

/// A directory for one test, removed at its end.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let name = format!("ptntp-config-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        for name in ["sub", "first", "later"] {
            std::fs::create_dir_all(path.join(name)).unwrap();
        }
        Self(path)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.join(name), text).unwrap();
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn written(config: &Config) -> Config {
    let text = native::lines(config).join("\n");
    good(&text).config
}

#[test]
fn effective_configuration_of_real_files_loads_to_the_same() {
    for name in ["seed-000.conf", "seed-004.conf", "debian.conf"] {
        let config = load(&file(name), Dialect::Auto).unwrap().config;
        assert_eq!(written(&config), config, "{name}");
    }
    for heard in ["broadcastclient", "multicastclient\ndisable auth"] {
        let config = good(heard).config;
        assert_eq!(written(&config), config, "{heard}");
    }
    assert_eq!(written(&Config::default()), Config::default());
    let lines = native::lines(&Config::default()).join("\n");
    assert!(
        lines.contains("tinker step 0.128 panic 1000 stepout 300\n"),
        "{lines}"
    );
    assert!(
        lines.contains("maxdist 1.5 mindist 0.001 floor 0 ceiling 16\n"),
        "{lines}"
    );
}

fn any_duration() -> impl Strategy<Value = NtpDuration> {
    prop_oneof![
        (1..=i64::MAX).prop_map(NtpDuration::from_units),
        (1..=1_i64 << 44).prop_map(NtpDuration::from_units),
        (1..=100_000_i64).prop_map(|ms| NtpDuration::from_nanos(ms * 1_000_000)),
    ]
    // Text is read as a float: only values that one can hold can be told.
    .prop_map(|d| NtpDuration::from_seconds(d.as_seconds()))
}

fn any_source() -> impl Strategy<Value = SourceConfig> {
    let switches = any::<(bool, bool, bool, bool, bool, bool, bool)>();
    let numbers = (-7_i8..=17, -7_i8..=17, 1_u8..=4, 1_u16..);
    let more = (prop::option::of(1_usize..=1000), any_duration(), 0_u8..3);
    let name = prop_oneof![
        "[a-z][a-z0-9-]{0,9}(\\.[a-z]{1,5}){0,3}",
        any::<u32>().prop_map(|bits| format!("fe80::{:x}", bits >> 16)),
    ];
    let family = prop_oneof![Just(None), Just(Some(Family::V6))];
    let kind = prop_oneof![
        Just(SourceKind::Server),
        Just(SourceKind::Peer),
        Just(SourceKind::Pool)
    ];
    (name, family, kind, switches, numbers, more).prop_map(
        |(name, family, kind, switches, (a, b, version, port), (most, offset, sign))| {
            let (pool, peer) = (kind == SourceKind::Pool, kind == SourceKind::Peer);
            SourceConfig {
                kind,
                name,
                family,
                most: most.filter(|_| pool),
                options: SourceOptions {
                    offline: false,
                    initial: false,
                    minpoll: PollExponent::new(a.min(b)),
                    maxpoll: PollExponent::new(a.max(b)),
                    iburst: switches.0 && !peer,
                    burst: switches.1 && !peer,
                    prefer: switches.2,
                    noselect: switches.3,
                    version,
                    xleave: switches.4 && !peer,
                    symmetric: peer,
                    port,
                    key: None,
                    offset: match sign {
                        0 => NtpDuration::ZERO,
                        1 => offset,
                        _ => -offset,
                    },
                    clock: None,
                    heard: None,
                    over_ptp: (switches.5 && !peer).then_some(0),
                    correction: switches.6 && !peer,
                },
            }
        },
    )
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let who = prop_oneof![
        Just(Who::Source),
        (any::<std::net::IpAddr>(), 0_u8..=128, any::<bool>()).prop_map(
            |(address, len, ntpport)| {
                let len = if address.is_ipv4() { len % 33 } else { len };
                let prefix = Prefix::new(address, len).unwrap();
                Who::Block { prefix, ntpport }
            }
        ),
    ];
    (who, any::<u16>(), any::<bool>()).prop_map(|(who, bits, restrict)| {
        let flags = Flags::from_bits(bits);
        if restrict {
            Rule::Restrict(who, flags)
        } else {
            Rule::Unrestrict(who, flags)
        }
    })
}

fn any_commands() -> impl Strategy<Value = Commands> {
    let path = prop::option::of("/[a-z #]{1,20}");
    let order = (any::<(bool, bool)>(), any::<u32>(), 0_u8..=32).prop_map(
        |((allow, all), address, bits)| Order {
            allow,
            all,
            block: Prefix::new(std::net::Ipv4Addr::from(address & 0xF0FF_F000).into(), bits),
        },
    );
    let orders = prop::collection::vec(order, 0..6);
    let addresses = any::<([u8; 4], [u8; 16])>();
    (any::<u16>(), addresses, orders, path).prop_map(|(port, (v4, v6), orders, path)| {
        let blocks = allow::compile(&orders).into_iter();
        let said = blocks.filter(|block| block.order.is_some());
        Commands {
            port,
            v4: v4.into(),
            v6: v6.into(),
            allowed: said.map(|block| (block.prefix, block.allow)).collect(),
            path: path.map(Into::into),
        }
    })
}

fn any_rtc() -> impl Strategy<Value = RtcConfig> {
    let path = || prop::option::of("/[a-z #]{1,20}".prop_map(PathBuf::from));
    let on_utc = prop::option::of(any::<bool>());
    let limit = prop::option::of(any_duration());
    (any::<bool>(), path(), path(), on_utc, limit, path()).prop_map(
        |(sync, file, device, on_utc, autotrim, hwclock_file)| RtcConfig {
            kernel_sets: sync && file.is_none(),
            file,
            device,
            on_utc,
            autotrim,
            hwclock_file,
        },
    )
}

fn any_stamping() -> impl Strategy<Value = StampingConfig> {
    let small = (-(1_i64 << 32)..=1 << 32).prop_map(NtpDuration::from_units);
    let card = (
        "[a-z]{1,5}[0-9.]{0,3}",
        -6_i8..=17,
        any_duration(),
        (small.clone(), small),
        any::<(bool, bool)>(),
        prop::option::of(prop::sample::select(Filter::EVERY.to_vec())),
    );
    let card = card.prop_map(
        |(name, poll, precision, shifts, switches, filter)| CardLine {
            interface: Which::Named(name),
            poll: PollExponent::new(poll),
            precision,
            tx_compensation: shifts.0,
            rx_compensation: shifts.1,
            precise: switches.0,
            filter,
            restore: switches.1,
        },
    );
    let all = prop::option::of(Just(CardLine::new(Which::All)));
    let cards = prop::collection::vec(card, 0..3);
    (cards, all, any_duration()).prop_map(|(mut cards, all, timeout)| {
        cards.extend(all);
        cards.sort_by(|a, b| a.interface.cmp(&b.interface));
        cards.dedup_by(|a, b| a.interface == b.interface);
        StampingConfig { cards, timeout }
    })
}

fn any_xdp() -> impl Strategy<Value = XdpConfig> {
    let mode = prop::sample::select(Mode::EVERY.to_vec());
    let name = prop_oneof![
        Just(Which::All),
        "[a-z]{1,5}[0-9.]{0,3}".prop_map(Which::Named)
    ];
    let line = (name, mode).prop_map(|(interface, mode)| XdpLine { interface, mode });
    let lines = prop::collection::vec(line, 0..4);
    (lines, prop::option::of(1..=PREFIXES_MAX)).prop_map(|(mut lines, prefixes)| {
        lines.sort_by(|a, b| a.interface.cmp(&b.interface));
        lines.dedup_by(|a, b| a.interface == b.interface);
        let prefixes = prefixes.filter(|_| !lines.is_empty());
        XdpConfig { lines, prefixes }
    })
}

fn any_config() -> impl Strategy<Value = Config> {
    let sources = prop::collection::vec(any_source(), 0..5);
    let rules = prop::collection::vec(any_rule(), 0..8);
    let step = (
        (
            prop::option::of(any_duration()),
            prop::option::of(any_duration()),
        ),
        prop::option::of(any_duration()),
        any_duration(),
        prop::option::of(any::<u32>()),
        any::<u32>(),
        prop::option::of(any::<u32>()),
    );
    let select = (
        1_usize..50,
        1_usize..50,
        1_usize..50,
        any_duration(),
        any_duration(),
    );
    let strata = (0_u8..=16, 1_u8..=16, prop::option::of(0_u8..=15));
    let limit = prop_oneof![
        (0_u8..=17, any::<u8>()).prop_map(|(average_log2_s, minimum_s)| {
            RateLimit::Headway(Headway {
                average_log2_s,
                minimum_s,
            })
        }),
        (1_i64 << 16..1 << 50, 1_u8.., 0_u8..=16, 0_u8..=16).prop_map(
            |(units, burst, leak_log2, kod_log2)| {
                RateLimit::Bucket(Bucket {
                    interval: NtpDuration::from_units(units),
                    burst,
                    leak_log2,
                    kod_log2,
                })
            }
        ),
    ];
    let listen = prop_oneof![
        Just(Listen::Everywhere),
        Just(Listen::Loopback),
        Just(Listen::Nowhere),
        prop::collection::btree_set(any::<std::net::IpAddr>(), 1..4)
            .prop_map(|all| Listen::At(all.into_iter().collect())),
    ];
    let broadcast = (
        any::<std::net::Ipv4Addr>(),
        (1_u16.., 1_u8..=4, 1_u8..),
        8_i64..131_072_000,
    );
    let broadcast = broadcast.prop_map(|(ip, (port, version, hops), ms)| BroadcastLine {
        to: (ip, port).into(),
        interval: NtpDuration::from_seconds(ms as f64 / 1000.0),
        key: None,
        version,
        hops,
    });
    let broadcast = broadcast.prop_filter("another's address", |b| {
        !b.to.ip().is_unspecified() && !b.to.ip().is_loopback()
    });
    let broadcasts = prop::collection::vec(broadcast, 0..3);
    let paths = (
        prop::option::of("/[a-z #=ü']{1,20}"),
        prop::option::of("/[a-z #]{1,20}"),
        prop::option::of("/[a-z #]{1,20}"),
        any_keys(),
    );
    let rest = (
        any::<bool>(),
        (any::<bool>(), any::<bool>(), listen, broadcasts),
        prop::option::of(1_u16..),
        prop::option::of(any::<std::net::SocketAddrV4>()),
        (1..=1_usize << 24, 1..=1_usize << 24),
        any_commands(),
        any_stamping(),
        any_rtc(),
        (
            prop::option::of(prop::sample::select(vec![319, 1124])),
            any::<u8>(),
        ),
        any_xdp(),
        any_statistics(),
    );
    (sources, rules, step, select, strata, limit, paths, rest).prop_map(
        |(mut sources, rules, step, select, strata, limit, paths, rest)| {
            let (stamping, (ptp_port, ptp_domain)) = (rest.6, rest.8);
            let ptp_port = ptp_port.filter(|port| Some(*port) != rest.2);
            for SourceConfig { options, .. } in &mut sources {
                if options.symmetric && ptp_port == Some(options.port) {
                    options.port = 123;
                }
                let over_ptp = options.over_ptp.is_some() || ptp_port == Some(options.port);
                options.over_ptp = over_ptp.then_some(ptp_domain);
            }
            sources.sort_by(|a, b| a.name.cmp(&b.name));
            sources.dedup_by(|a, b| a.name == b.name);
            Config {
                sources,
                disciplined: Vec::new(),
                broadcasts: rest.1.3,
                // 16 is nobody's stratum, and `tos orphan 16` none at all.
                local_clock: strata.2.map(|stratum| LocalClock { stratum }),
                orphan: rest.0 && strata.2.is_some_and(|stratum| stratum < 15),
                rules,
                rate_limit: limit,
                keys: paths.3,
                step: StepPolicy {
                    threshold: step.0.0,
                    threshold_back: step.0.1,
                    panic: step.1,
                    stepout: step.2,
                    first_unlimited: false,
                    step_updates: step.3,
                    panic_after: step.4,
                    panic_ignored: step.5,
                },
                initial: strata.0.checked_sub(9).map(|seconds| InitialSetting {
                    threshold: NtpDuration::from_whole_seconds(i64::from(seconds) + 1),
                    hosts: vec!["a.example".into(), "10.0.0.1".into()],
                }),
                select: SelectPolicy {
                    minsane: select.0,
                    minclock: select.1,
                    maxclock: select.2,
                    maxdist: select.3,
                    mindist: select.4,
                    floor: strata.0,
                    ceiling: strata.1,
                },
                commands: rest.5,
                drift_file: paths.0.map(Into::into),
                drift_gains: rest.1.0,
                kernel_leaps: rest.1.1,
                leap_file: paths.2.map(Into::into),
                discipline: rest.0,
                stamping,
                xdp: rest.9,
                listen: rest.1.2,
                clients: Sizes {
                    interleaved: rest.4.0,
                    limited: rest.4.1,
                },
                recent: rest.2.map(usize::from),
                port: rest.2,
                ptp_port,
                ptp_domain,
                busy_poll: rest.0,
                leaving: LeavingConfig {
                    dscp: strata.1,
                    device: rest.0.then(|| "eth0".to_owned()),
                    v4: rest.0.then_some([192, 0, 2, 1].into()),
                    v6: (!rest.0).then_some(std::net::Ipv6Addr::LOCALHOST),
                },
                pid_file: rest.0.then(|| "/run/a b.pid".into()),
                rtc: rest.7,
                manual: rest.0,
                statistics: rest.10,
                control: paths.1.map(Into::into),
                metrics: rest.3.map(Into::into),
            }
        },
    )
}

fn any_statistics() -> impl Strategy<Value = StatisticsConfig> {
    let rotation = prop::sample::select(vec![
        Rotation::None,
        Rotation::Pid,
        Rotation::Day,
        Rotation::Week,
        Rotation::Month,
        Rotation::Year,
        Rotation::Age,
    ]);
    let kinds = prop::sample::subsequence(FileKind::ALL.to_vec(), 0..FileKind::ALL.len());
    let files = kinds.prop_flat_map(move |kinds| {
        let named = kinds.into_iter().map(|kind| {
            let file = ("[a-z /#]{1,9}", rotation.clone(), any::<bool>());
            file.prop_map(move |(name, rotation, link)| {
                if kind.is_chronys() {
                    return FileConfig::of(kind);
                }
                FileConfig {
                    kind,
                    name,
                    rotation,
                    link,
                }
            })
        });
        named.collect::<Vec<_>>()
    });
    (
        prop::option::of("/[a-z #]{1,20}"),
        prop::option::of("/[a-z #]{1,20}"),
        files,
        any::<(bool, bool)>(),
        0_u32..1_000_000,
        prop::option::of(any_duration()),
    )
        .prop_map(
            |(statsdir, logdir, files, (enabled, raw), banner, change)| {
                let measures = |file: &FileConfig| file.kind == FileKind::Measurements;
                StatisticsConfig {
                    directory: statsdir.map(Into::into),
                    log_directory: logdir.map(Into::into),
                    raw: raw && files.iter().any(measures),
                    files,
                    enabled,
                    banner,
                    change,
                }
            },
        )
}

/// About a key file that is not there.
fn any_keys() -> impl Strategy<Value = KeysConfig> {
    let format = prop::sample::select(vec![KeyFormat::Ntp, KeyFormat::Chrony]);
    let range = (1_u32.., any::<u32>()).prop_map(|(a, b)| a..=b.max(a));
    let trusted = prop_oneof![
        Just(Trust::All),
        prop::collection::vec(range, 0..4).prop_map(Trust::Only),
    ];
    let bad_mac = prop::sample::select(vec![BadMac::Refused, BadMac::Ignored]);
    let file = prop::option::of(("/nonexistent/[a-z #]{1,9}", format));
    let control = prop::option::of(1_u32..);
    (file, trusted, control, bad_mac).prop_map(|(file, trusted, control, bad_mac)| {
        let (file, format) = file.unzip();
        KeysConfig {
            file: file.map(Into::into),
            format: format.unwrap_or_default(),
            trusted,
            control,
            bad_mac,
            ..KeysConfig::default()
        }
    })
}

/// Lines made of words that the parser knows, in any order, with odd ones between.
fn any_lines() -> impl Strategy<Value = String> {
    let both = directives::ntp::DIRECTIVES
        .iter()
        .chain(directives::chrony::DIRECTIVES);
    let directives: Vec<&str> = both.map(|directive| directive.name).collect();
    let words = prop::sample::select(vec![
        "PHC",
        "mode",
        "generic",
        "prefixes",
        "/dev/ptp0:nocrossts",
        "discipline",
        "dpoll",
        "refid",
        "tai",
        "a.example",
        "10.0.0.0",
        "::1",
        "127.127.1.0",
        "mask",
        "255.0.0.0",
        "default",
        "source",
        "-4",
        "-6",
        "stratum",
        "minpoll",
        "maxpoll",
        "3",
        "-1",
        "0",
        "99999999999999999999",
        "1e308",
        "step",
        "panic",
        "minsane",
        "kod",
        "limited",
        "ignore",
        "\"",
        "\"x y\"",
        "#",
        "/",
        "10.0.0.0/8",
        "10.0.0.0/",
        "%",
        "key",
        "ntp",
        "off",
        "\u{fffd}",
        "ü",
    ]);
    let line = (
        prop::sample::select(directives),
        prop::collection::vec(words, 0..6),
    )
        .prop_map(|(directive, words)| format!("{directive} {}\n", words.join(" ")));
    prop::collection::vec(line, 0..8).prop_map(|lines| lines.concat())
}

/// Loads, says and explains; what loads has to load again to the same.
fn survive(text: &str) {
    for dialect in [Dialect::Auto, Dialect::Ntp, Dialect::Chrony] {
        survive_as(text, dialect);
    }
}

fn survive_as(text: &str, dialect: Dialect) {
    match load_text(Path::new("ntp.conf"), text, dialect) {
        Err(why) => {
            assert!(why.iter().any(|d| d.severity == Severity::Error));
            listed(&why);
        }
        Ok(loaded) => {
            listed(&loaded.notes);
            for line in &loaded.lines {
                explain::sentences(&line.statement, &loaded.config);
            }
            assert_eq!(written(&loaded.config), loaded.config, "{text}");
        }
    }
}

#[test]
fn ntp_over_ptp_is_asked_for_with_chronys_words_or_our_own() {
    let loaded = good(
        "restrict default\nserver a port 319 extfield F324\nserver b\nserver c ptp port 1319\n\
         server d ptp extfield 10a xleave\nptpport 319\nptpdomain 7\n",
    );
    let config = &loaded.config;
    let asked = |name: &str| {
        let source = config.sources.iter().find(|source| source.name == name);
        let options = source.expect("there").options;
        (options.over_ptp, options.port, options.correction)
    };
    assert_eq!(asked("a"), (Some(7), 319, true));
    assert_eq!(asked("b"), (None, 123, false));
    assert_eq!(asked("c"), (Some(7), 1319, false));
    assert_eq!(asked("d"), (Some(7), 319, true));
    assert_eq!((config.ptp_port, config.ptp_domain), (Some(319), 7));
    assert_eq!(listed(&loaded.notes), "");
    let said: Vec<String> = loaded
        .lines
        .iter()
        .flat_map(|line| explain::sentences(&line.statement, config))
        .collect();
    let said = said.join("\n");
    for words in ["asks over PTP", "answered on UDP port 319", "transparent"] {
        assert!(said.contains(words), "{words}:\n{said}");
    }
    // Without the port nothing is answered, and who asks needs no port.
    let alone = good("restrict default\nserver a ptp\nptpport 0\n").config;
    assert_eq!(alone.sources[0].options.over_ptp, Some(123));
    assert_eq!(alone.ptp_port, None);
    let said = listed(&good("restrict default\nserver a extfield 10A\nptpport 320").notes);
    for words in [":2", "no effect", ":3", "know PTP by port 319"] {
        assert!(said.contains(words), "{words}:\n{said}");
    }
    for (line, words) in [
        ("ptpport", "whole number"),
        ("ptpport 123", "the port of NTP itself"),
        ("ptpdomain 256", "256"),
        ("server b extfield 104", "10A"),
        ("server b ptpp", "did you mean `ptp`?"),
    ] {
        let said = listed(&read(&format!("restrict default\nserver a\n{line}\n")).unwrap_err());
        assert!(
            said.contains(":3") && said.contains(words),
            "{line}:\n{said}"
        );
    }
}

#[test]
fn chronys_hardware_lines_mean_the_same_in_chrony_conf() {
    let text = "server a port 319 extfield F324\nserver b\nptpport 319\nptpdomain 7\n\
                RefClock PHC /dev/ptp0:nocrossts Poll 2 tai\nmanual\n\
                cmdallow 192.0.2\ncmddeny 192.0.2.128/25\n";
    let config = load_text(Path::new("chrony.conf"), text, Dialect::Auto)
        .unwrap_or_else(|why| panic!("{}", listed(&why)))
        .config;
    let asked: Vec<_> = config
        .sources
        .iter()
        .map(|source| (source.options.over_ptp, source.options.correction))
        .collect();
    assert_eq!(asked[..2], [(Some(7), true), (None, false)]);
    let clock = config.sources[2].options.clock.expect("a clock");
    assert!(clock.nocrossts && clock.tai && config.manual);
    assert_eq!((config.ptp_port, config.ptp_domain), (Some(319), 7));
    let allowed = |text: &str| {
        let said = config.commands.allowed.iter();
        let about = said.filter(|(block, _)| block.contains(text.parse().expect("an address")));
        about
            .max_by_key(|(block, _)| block.bits())
            .map(|&(_, yes)| yes)
    };
    assert_eq!(allowed("192.0.2.1"), Some(true));
    assert_eq!(allowed("192.0.2.200"), Some(false));
    assert_eq!(allowed("192.0.3.1"), None);
    // In our own words, and in chrony's again, it is the same.
    let text = native::lines(&config).join("\n");
    assert_eq!(good(&text).config, config, "{text}");
    let (lines, lost) = convert::to_chrony(&config);
    let again = load_text(Path::new("c"), &lines.join("\n"), Dialect::Chrony)
        .unwrap_or_else(|why| panic!("{}", listed(&why)))
        .config;
    assert!(lost.is_empty(), "{lost:?}");
    assert_eq!(again, config, "{lines:?}");
    let why = load_text(Path::new("c"), "refclock SHM 0", Dialect::Chrony).expect_err("no SHM");
    assert!(listed(&why).contains("not supported yet"));
}

#[test]
fn authselectmode_says_whether_unsigned_time_is_followed() {
    let directory = Directory::new("authselectmode");
    directory.write("keys", "1 SHA1 HEX:0123456789abcdef0123\n");
    let keys = directory.0.join("keys");
    let followed = |mode: &str, sources: &str| {
        let text = format!(
            "authselectmode {mode}\nkeyfile {}\n{sources}",
            keys.display()
        );
        let loaded = load_text(Path::new("c"), &text, Dialect::Chrony);
        let config = loaded
            .unwrap_or_else(|why| panic!("{}", listed(&why)))
            .config;
        let sources = config.sources.iter();
        sources
            .map(|source| !source.options.noselect)
            .collect::<Vec<_>>()
    };
    let both = "server a key 1\nserver b\nrefclock PHC eth0\n";
    let all = [
        ("mix", true),
        ("ignore", true),
        ("prefer", false),
        ("require", false),
    ];
    for (mode, unsigned) in all {
        assert_eq!(followed(mode, both), [true, unsigned, true], "{mode}");
    }
    assert_eq!(followed("prefer", "server b\n"), [true]);
}

#[test]
fn xdp_names_interfaces_once_and_the_largest_room_counts() {
    let text = "\
restrict default
server a
xdp eth0 prefixes 10
xdp * mode generic prefixes 100000
xdp eth1 Prefixes 20
xdp eth0
";
    let loaded = good(text);
    let XdpConfig { lines, prefixes } = &loaded.config.xdp;
    let found: Vec<_> = lines
        .iter()
        .map(|line| (line.interface.word(), line.mode))
        .collect();
    assert_eq!(
        found,
        [
            ("eth0", Mode::Native),
            ("*", Mode::Generic),
            ("eth1", Mode::Native)
        ]
    );
    assert_eq!(*prefixes, Some(100_000));
    let said = listed(&loaded.notes);
    assert!(said.contains("eth0` was named before"), "{said}");
    let sentences = explain::sentences(&loaded.lines[2].statement, &loaded.config).join("\n");
    for words in ["10 narrow prefixes", "in the driver", "firewall"] {
        assert!(sentences.contains(words), "{sentences}");
    }
    let nobody = listed(&good("server a\nlisten nowhere\nxdp eth0\n").notes);
    assert!(nobody.contains("`xdp` has nothing to do"), "{nobody}");
    for (line, words) in [
        ("xdp", "name of an interface"),
        ("xdp eth0 mode offload", "offload"),
        ("xdp eth0 prefixes 0", "prefixes"),
        ("xdp eth0 prefixes 4194305", "prefixes"),
        ("xdp eth0 native", "mode"),
        ("xdp a/b", "can't be the name"),
    ] {
        let said = error(&format!("server a\n{line}\n")).to_string();
        assert!(said.contains(words), "{line}: {said}");
    }
}

#[test]
fn hardware_stamps_are_asked_for_with_chronys_words() {
    let all = good("hwtimestamp *\nserver a\nrestrict default\n")
        .config
        .stamping;
    assert_eq!(all.cards, [CardLine::new(Which::All)]);
    assert_eq!(all.timeout.as_nanos(), 1_000_000);
    let text = "\
restrict default
server a
hwtimestamp eth0.5 minpoll -4 maxpoll 1 minsamples 2 maxsamples 16 precision 50e-9 \
txcomp 300e-9 rxcomp -645e-9 nocrossts rxfilter ntp restore
hwtstimeout 0.01
hwtimestamp eth0.5
";
    let loaded = good(text);
    let stamping = &loaded.config.stamping;
    let [card] = &stamping.cards[..] else {
        panic!("{stamping:?}");
    };
    assert_eq!(card.interface, Which::Named("eth0.5".into()));
    assert_eq!((card.poll.log2(), card.precision.as_nanos()), (-4, 50));
    assert_eq!(card.tx_compensation.as_nanos(), 300);
    assert_eq!(card.rx_compensation.as_nanos(), -645);
    assert_eq!((card.precise, card.restore), (false, true));
    assert_eq!(card.filter, Some(Filter::Ntp));
    assert_eq!(stamping.timeout.as_nanos(), 10_000_000);
    let said = listed(&loaded.notes);
    for words in ["maxpoll", "minsamples", "maxsamples", "named before"] {
        assert!(said.contains(words), "{words}:\n{said}");
    }
    let said: Vec<String> = loaded
        .lines
        .iter()
        .flat_map(|line| explain::sentences(&line.statement, &loaded.config))
        .collect();
    let said = said.join("\n");
    for words in [
        "16 times a second",
        "txcomp",
        "later than stamped",
        "restore",
        "0.01 s",
    ] {
        assert!(said.contains(words), "{words}:\n{said}");
    }
}

#[test]
fn hardware_stamps_asked_for_wrongly_are_errors() {
    for (line, words) in [
        ("hwtimestamp", "interface"),
        ("hwtimestamp a/b", "a/b"),
        ("hwtimestamp a-name-of-16-ltrs", "can't be the name"),
        ("hwtimestamp eth0 rxfilter", "`all`, `ntp`, `ptp` or `none`"),
        ("hwtimestamp eth0 rxfilter some", "some"),
        ("hwtimestamp eth0 minpoll -7", "-6"),
        ("hwtimestamp eth0 rxcomp 300", "300e-9"),
        ("hwtimestamp eth0 rxcmp 1", "rxcomp"),
        ("hwtstimeout", "number"),
        ("hwtstimeout -1", "-1"),
    ] {
        let said = listed(&read(&format!("restrict default\nserver a\n{line}\n")).unwrap_err());
        assert!(
            said.contains(":3") && said.contains(words),
            "{line}:\n{said}"
        );
    }
}

proptest! {
    #[test]
    fn any_configuration_survives_being_written(config in any_config()) {
        prop_assert_eq!(&written(&config), &config);
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "(?s).{0,200}") {
        survive(&text);
    }

    #[test]
    fn no_order_of_words_makes_the_parser_panic(text in any_lines()) {
        survive(&text);
    }
}

#[test]
fn a_refclock_line_says_how_its_clock_is_read() {
    let config = good(
        "refclock phc /dev/ptp0:nocrossts poll 2 dpoll -2 offset -1e-6 delay 1e-7 stratum 1 \
         precision 1e-8 filter 9 TAI prefer\nrefclock PHC eth0 refid gps noselect",
    )
    .config;
    let source = &config.sources[0];
    assert_eq!(
        (source.kind, source.name.as_str()),
        (SourceKind::Clock, "/dev/ptp0")
    );
    assert_eq!(source.options.minpoll, PollExponent::new(2));
    assert_eq!(source.options.maxpoll, PollExponent::new(2));
    assert!(source.options.prefer);
    let clock = source.options.clock.expect("a clock");
    let expected = ClockOptions {
        refid: RefId::from_bytes(*b"PHC0"),
        stratum: 1,
        offset: NtpDuration::from_seconds(-1e-6),
        delay: NtpDuration::from_seconds(1e-7),
        precision: NtpDuration::from_seconds(1e-8),
        dpoll: PollExponent::new(-2),
        filter: 9,
        tai: true,
        nocrossts: true,
    };
    assert_eq!(clock, expected);
    let other = &config.sources[1];
    assert!(other.options.noselect);
    let clock = other.options.clock.expect("a clock");
    assert_eq!(clock.refid, RefId::from_bytes(*b"gps\0"));
    assert_eq!(other.options.minpoll, PollExponent::new(4));
    // Written out, it says the same.
    let text = native::lines(&config).join("\n");
    assert_eq!(good(&text).config, config, "{text}");
}

#[test]
fn a_clock_may_be_disciplined() {
    let config =
        good("pool a\nphc discipline eth0\nphc discipline /dev/ptp7 utc step 0.001").config;
    let [first, second] = &config.disciplined[..] else {
        panic!("{:?}", config.disciplined)
    };
    assert!(first.tai);
    assert_eq!(first.device, "eth0");
    assert_eq!(first.step.as_nanos(), 20_000);
    assert!(!second.tai);
    assert_eq!(second.step, NtpDuration::from_seconds(0.001));
    let text = native::lines(&config).join("\n");
    assert_eq!(good(&text).config, config, "{text}");
}

#[test]
fn no_clock_both_leads_and_follows() {
    for lines in [
        "refclock PHC eth0\nphc discipline eth0",
        "phc discipline eth0\nrefclock PHC eth0",
        "phc discipline eth0\nphc discipline eth0 utc",
    ] {
        let why = listed(&read(lines).expect_err("one clock"));
        assert!(
            why.contains("ntp.conf:2: error: eth0 was named at ntp.conf:1"),
            "{why}"
        );
    }
}

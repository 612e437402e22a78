//! What is fuzzed, one function for each parser, and what has to hold whatever comes in:
//! nothing panics, no answer is longer than its question, and what was understood can be
//! written again. The fuzz targets call these, and so does `tests/corpus.rs`, which replays
//! the corpus with the stable compiler.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use ptntp::config::convert::to_chrony;
use ptntp::config::dialect::Dialect;
use ptntp::config::keys::KeyFormat;
use ptntp::config::load::load_text;
use ptntp::config::{explain, key_file, native};
use ptntp::daemon::cmdmon::{Asker, Desk, Step};
use ptntp::daemon::distribution::Distribution;
use ptntp::daemon::query::{Answerer, Knowledge};
use ptntp::daemon::status::{ClockKind, IoBackend, Reloads, Report, ServerCounts};
use ptntp::server::access::AccessTable;
use ptntp::server::over_ptp::Carriage;
use ptntp::server::recent::RecentClient;
use ptntp::server::respond::{Policy, Request, Responder, Sizes, complete};
use ptntp::server::rule::{Flags, Prefix, Rule, Who};
use ptntp::server::verdict::Verdict;
use ptntp::system::SystemState;
use ptntp::time::duration::NtpDuration;
use ptntp::time::instant::{MonoInstant, WallInstant};
use ptntp::time::map::ClockMap;
use ptntp::time::units::{Ppm, Precision};
use ptntp::wire::key::KeyTable;
use ptntp::wire::packet::{HEADER_LEN, Leap, PACKET_LEN_MAX, Packet};
use ptntp::wire::ptp::{Envelope, Form, find_correction};
use ptntp::wire::trailer::Trailer;

const NOW: WallInstant = WallInstant::from_unix_ns(1_800_000_000_123_456_789);
const ASKER: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7)), 4000);

/// Words whose lines make the loader open other files: not those of the machine that fuzzes.
const OPENS: [&str; 7] = [
    "include",
    "includefile",
    "confdir",
    "sourcedir",
    "keys",
    "keyfile",
    "leapsectz",
];

/// A configuration of either dialect. One that loads is explained, gives the same daemon back
/// when it is written, and can be written as a chrony.conf.
pub fn config(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let opens = |line: &&str| {
        let first = line.split_whitespace().next().unwrap_or_default();
        !OPENS.iter().any(|word| word.eq_ignore_ascii_case(first))
    };
    let text: Vec<&str> = text.lines().filter(opens).collect();
    let text = text.join("\n");
    for dialect in [Dialect::Auto, Dialect::Ntp, Dialect::Chrony] {
        let loaded = match load_text(Path::new("fuzz.conf"), &text, dialect) {
            Ok(loaded) => loaded,
            Err(diagnostics) => {
                // They are drawn with a caret below the words.
                diagnostics.iter().for_each(|d| drop(d.to_string()));
                continue;
            }
        };
        loaded.notes.iter().for_each(|d| drop(d.to_string()));
        for line in &loaded.lines {
            explain::sentences(&line.statement, &loaded.config);
        }
        let native = native::lines(&loaded.config).join("\n");
        let again = load_text(Path::new("fuzz.conf"), &native, Dialect::Ntp);
        let again = again.unwrap_or_else(|why| panic!("{native}\n{why:?}"));
        assert_eq!(loaded.config, again.config, "{native}");
        to_chrony(&loaded.config);
    }
}

/// A key file of either format.
pub fn keys(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for format in [KeyFormat::Ntp, KeyFormat::Chrony] {
        let file = key_file::parse(Path::new("fuzz.keys"), &text, format);
        file.said.iter().for_each(|d| drop(d.to_string()));
        let table = KeyTable::new(file.keys);
        for key in table.iter() {
            let mut mac = [0; ptntp::wire::key::MAC_LEN_MAX];
            let len = key.sign(b"packet", &mut mac);
            assert!(key.verifies(b"packet", &mac[..len]));
        }
    }
}

/// A message of mode 6. What tells more than it was asked with needs a nonce or a list; an
/// error never does.
pub fn control(data: &[u8]) {
    let clients = || {
        let one = |n: u8| RecentClient {
            address: SocketAddr::new([10, 0, 0, n].into(), 123),
            first: NOW + -NtpDuration::from_whole_seconds(1000),
            last: NOW + -NtpDuration::from_whole_seconds(n.into()),
            count: n.into(),
            dropped: 0,
            mode: 3,
            version: 4,
            restricted: 0,
        };
        (1..20).map(one).collect()
    };
    let report = report();
    let knowledge = Knowledge {
        report: &report,
        policy: &Policy::default(),
        now: NOW,
        clients: &clients,
        clients_max: 100,
    };
    let mut answerer = Answerer::new([7; 32], MonoInstant::ZERO);
    for message in answerer.answer(data, ASKER, &knowledge) {
        assert_eq!(message[1] & 0x80, 0x80, "a response");
        assert!(message[1] & 0x40 == 0 || message.len() <= data.len());
    }
}

/// A message of chronyc's protocol, by UDP from this machine and from elsewhere.
pub fn cmdmon(data: &[u8]) {
    let report = report();
    let mut desk = Desk::default();
    for from in [SocketAddr::new([127, 0, 0, 1].into(), 4000), ASKER] {
        let asker = Asker::Ip {
            from,
            to: [127, 0, 0, 1].into(),
            interface: 1,
        };
        if let Step::Reply(reply) = desk.judge(data, &asker, &report, MonoInstant::ZERO) {
            assert!(
                reply.len() <= data.len(),
                "{} for {}",
                reply.len(),
                data.len()
            );
        }
    }
}

/// An NTP packet with whatever is behind its header.
pub fn packet(data: &[u8]) {
    if let Some(packet) = Packet::new(data) {
        packet.to_header().to_bytes();
        if let Ok(trailer) = Trailer::parse(packet.version(), packet.trailer()) {
            let len: usize = trailer.fields().map(|field| field.value.len()).sum();
            assert!(HEADER_LEN + len <= data.len());
        }
    }
    let (policy, mut responder) = server();
    let mut out = [0; PACKET_LEN_MAX];
    let request = request(data);
    let verdict = responder.respond(&policy, &state(), &request, MonoInstant::ZERO, &mut out);
    if let Verdict::Reply { len, .. } = verdict {
        assert!(len <= data.len(), "{len} for {}", data.len());
        complete(&policy.keys, &mut out[..len], NOW);
    }
}

/// A PTP event message, with NTP in it or not.
pub fn ptp(data: &[u8]) {
    const DOMAIN: u8 = 123;
    if let Some((envelope, ntp)) = Envelope::open(data, DOMAIN) {
        let mut prefix = [0; ptntp::wire::ptp::PREFIX_LEN_MAX];
        let len = envelope.seal(ntp.len(), &mut prefix);
        let sealed = [&prefix[..len], ntp].concat();
        let (again, same) = Envelope::open(&sealed, DOMAIN).expect("our own");
        assert_eq!(
            (again.form, again.sequence, same),
            (envelope.form, envelope.sequence, ntp)
        );
        let trailer = Packet::new(ntp).map(|p| Trailer::parse(p.version(), p.trailer()));
        if let Some(Ok(trailer)) = trailer {
            find_correction(Form::Final, &trailer);
            find_correction(Form::Experimental, &trailer);
        }
    }
    let (policy, mut responder) = server();
    let mut out = [0; PACKET_LEN_MAX];
    let carriage = Carriage {
        domain: DOMAIN,
        frame_time: NtpDuration::from_nanos(800),
    };
    let (state, request) = (state(), request(data));
    let (verdict, start) = responder.respond_over_ptp(
        carriage,
        &policy,
        &state,
        &request,
        MonoInstant::ZERO,
        &mut out,
    );
    if let Verdict::Reply { len, .. } = verdict {
        assert!(len <= data.len(), "{len} for {}", data.len());
        complete(&policy.keys, &mut out[start..len], NOW);
    }
}

fn request(bytes: &[u8]) -> Request<'_> {
    Request {
        bytes,
        from: ASKER,
        group: false,
        received: NOW,
    }
}

/// Serves everybody, has two keys, and limits.
fn server() -> (Policy, Responder) {
    let keys = [
        "1:SHA1:HEX:0102030405060708090a",
        "2:AES128:HEX:000102030405060708090a0b0c0d0e0f",
    ];
    let keys = keys.map(|text| text.parse().expect("a key"));
    let everybody = Who::Block {
        prefix: Prefix::ALL_V4,
        ntpport: false,
    };
    let rule = Rule::Restrict(everybody, Flags::LIMITED | Flags::KOD);
    let policy = Policy {
        access: AccessTable::compile(&[rule], &[]),
        keys: Arc::new(KeyTable::new(keys.into())),
        ..Policy::default()
    };
    let sizes = Sizes {
        interleaved: 8,
        limited: 8,
    };
    (policy, Responder::new(1, sizes))
}

fn state() -> SystemState {
    SystemState {
        leap: Leap::None,
        stratum: 3,
        ..SystemState::unsynchronised(Precision::new(-20))
    }
}

/// A daemon that follows one server.
fn report() -> Report {
    Report {
        node: serde_json::from_str(include_str!("node.json")).expect("a node's report"),
        clock: ClockKind::Virtual,
        io: IoBackend::Poll,
        degraded: Vec::new(),
        map: ClockMap {
            anchor_real: NOW,
            anchor_local: NOW,
            rate: Ppm::ZERO,
        },
        real: NOW,
        uptime: NtpDuration::from_whole_seconds(90),
        serving: Vec::new(),
        reloads: Reloads::default(),
        offsets: Distribution::new(),
        true_errors: None,
        cards: Vec::new(),
        rtc: None,
        server: Arc::new(ServerCounts::default()),
    }
}

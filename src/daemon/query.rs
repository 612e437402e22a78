//! What `ntpq` and monitoring plugins ask (mode 6, RFC 9327), answered from a
//! [`Report`]: status words, variables by name, and the list of clients. Bytes in,
//! bytes out; who receives and sends them is in `worker` and `service`, or in `single`.
//!
//! Names, units, order and digits are those of ntpsec's daemon, since scripts cut
//! them out of its text. Everything is read-only: what would change something is
//! refused whoever asks, as ntpd does without the control key. With it one is shown the
//! addresses we answer at and the restrictions.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::daemon::status::{Report, ServerCounts};
use crate::linux::timex::Timex;
use crate::measurement::PHI;
use crate::node::report::{LOCAL, PEER, SampleReport, SourceReport, SystemReport};
use crate::server::recent::{RECENT_LEN, RecentClient};
use crate::server::respond::Policy;
use crate::server::rule::Flags;
use crate::sync::select::Tally;
use crate::time::duration::NtpDuration;
use crate::time::instant::{MonoInstant, WallInstant};
use crate::time::timestamp::NtpTimestamp;
use crate::wire::control::{
    Clock, DATA_LEN_MAX, Fault, Operation, PeerBits, REQUEST_LEN_MAX, Refusal, Request, Text,
    parse_address, parse_stamp, peer_status, sign, system_status,
};
use crate::wire::key::KeyTable;
use crate::wire::packet::{Leap, STRATUM_MAX};

/// Messages a second to all who ask together, and how many may be saved up: strangers
/// do not decide how much we say. A whole list of clients takes a few seconds.
const MESSAGES_PER_SECOND: f64 = 1000.0;
const MESSAGES_SAVED: f64 = 1000.0;
/// Of these, what only those get whom we know: strangers keep nobody from asking.
const MESSAGES_KEPT: f64 = 200.0;
/// Looking through so many places for clients counts as a message: what it costs grows
/// with what the operator has room for.
const PLACES_PER_MESSAGE: usize = 4096;
/// How long a nonce is good, as ntpd's.
const NONCE_SECONDS: i64 = 16;
/// ntpd's limits of one answer with clients.
const FRAGMENTS_MAX: usize = 128;
const ROWS_MAX: usize = 256;
/// Known clients that a request may name to go on from.
const PRIORS_MAX: usize = 16;
/// A source farther than this is too far to be followed (ntpd's `tos maxdist`).
const DISTANCE_MAX_S: f64 = 1.5;
/// What nobody measured is said to be off by (RFC 5905 MAXDISP).
const DISPERSION_MAX_S: f64 = 16.0;
/// Stages of ntpd's clock filter.
const STAGES: usize = 8;
/// Over which a client's packets are averaged at least, for its score.
const SCORE_SECONDS: f64 = 16.0;
/// What of the rings' events is a message that did not leave.
const SEND_FAILURES: [&str; 2] = ["send_error", "send_no_room"];
/// In which order ntpd names what it asks of clients; what is not among them follows.
const FLAGS_ORDER: [&str; 10] = [
    "ignore", "noserve", "notrust", "noquery", "nomodify", "nopeer", "limited", "version", "kod",
    "flake",
];
/// The variable that lists the system's.
const SYSTEM_LIST: &str = "sys_var_list";

/// A request on its way from who received it to who answers it.
#[derive(Clone, Debug)]
pub struct Query {
    bytes: [u8; REQUEST_LEN_MAX],
    len: usize,
    /// Who asked.
    pub from: SocketAddr,
    /// Which of our addresses was asked.
    pub to: IpAddr,
    /// By which interface it came; 0 if unknown.
    pub interface: u32,
}

impl Query {
    /// None if it is longer than any request.
    pub fn new(request: &[u8], from: SocketAddr, to: IpAddr, interface: u32) -> Option<Self> {
        let mut bytes = [0; REQUEST_LEN_MAX];
        bytes.get_mut(..request.len())?.copy_from_slice(request);
        Some(Self {
            bytes,
            len: request.len(),
            from,
            to,
            interface,
        })
    }

    /// Is it this machine's, or signed with a key of ours?
    pub fn is_known(&self, keys: &KeyTable) -> bool {
        self.from.ip().is_loopback()
            || Request::parse(self.bytes()).is_ok_and(|request| request.signer(keys).is_some())
    }

    /// As it came.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// A source as `ntpq -c as` shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AssociationStatus {
    /// Which.
    pub id: u16,
    /// Its status word (RFC 9327 section 3.2).
    pub status: u16,
}

/// What `ntpq -c rv` reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Variables {
    /// Whose; 0: the system's.
    pub association: u16,
    /// Its status word.
    pub status: u16,
    /// Names and values, as they stand in answers.
    pub variables: Vec<(String, String)>,
}

/// All sources.
pub fn associations(report: &Report) -> Vec<AssociationStatus> {
    let sources = report.node.sources.iter();
    let mut all: Vec<_> = sources
        .map(|source| AssociationStatus {
            id: source.id,
            status: peer_word(source),
        })
        .collect();
    // As ntpq lists them.
    all.sort_by_key(|one| one.id);
    all
}

/// The variables that come unasked; none if there is no such association.
pub fn variables(report: &Report, association: u16) -> Option<Variables> {
    let (status, all) = if association == 0 {
        let now = report.map.to_local(report.real);
        (
            system_word(&report.node.system),
            system_variables(report, now),
        )
    } else {
        let mut sources = report.node.sources.iter();
        let source = sources.find(|source| source.id == association)?;
        (peer_word(source), peer_variables(source, report))
    };
    let shown = all.iter().filter(|(_, shown, _)| *shown == Always);
    Some(Variables {
        association,
        status,
        variables: shown
            .map(|(name, _, value)| ((*name).to_owned(), value.to_string()))
            .collect(),
    })
}

/// Answers within its means.
#[derive(Debug)]
pub struct Answerer {
    secret: [u8; 32],
    /// Messages that may be sent now; negative after a long answer.
    means: f64,
    counted: MonoInstant,
    /// Requests answered or refused, for `ntpq -c sysstats`.
    answered: u64,
}

/// What answers are made of.
pub struct Knowledge<'a> {
    /// The daemon's state.
    pub report: &'a Report,
    /// The restrictions, and the keys.
    pub policy: &'a Policy,
    /// The clock we serve.
    pub now: WallInstant,
    /// Who asked lately; called when that is asked for.
    pub clients: &'a dyn Fn() -> Vec<RecentClient>,
    /// Room for so many.
    pub clients_max: usize,
}

impl Answerer {
    /// `secret` makes nonces unguessable.
    pub fn new(secret: [u8; 32], now: MonoInstant) -> Self {
        Self {
            secret,
            means: MESSAGES_SAVED,
            counted: now,
            answered: 0,
        }
    }

    /// How long to wait before the next [`answer`](Self::answer), to one whom we know
    /// ([`Query::is_known`]) or don't; zero: not at all.
    pub fn pause(&mut self, now: MonoInstant, known: bool) -> NtpDuration {
        let earned = now.since(self.counted).as_seconds().max(0.0) * MESSAGES_PER_SECOND;
        self.means = (self.means + earned).min(MESSAGES_SAVED);
        self.counted = now;
        let kept = if known { 0.0 } else { MESSAGES_KEPT };
        let lacking = (1.0 + kept - self.means) / MESSAGES_PER_SECOND;
        NtpDuration::from_seconds(lacking.max(0.0))
    }

    /// The messages to send back, in order. None for what is no request.
    pub fn answer(
        &mut self,
        bytes: &[u8],
        from: SocketAddr,
        knowledge: &Knowledge<'_>,
    ) -> Vec<Vec<u8>> {
        let leap = leap(&knowledge.report.node.system);
        let request = match Request::parse(bytes) {
            Ok(request) => request,
            Err(Fault::NoRequest) => return Vec::new(),
            Err(Fault::BadFormat(head)) => {
                self.means -= 1.0;
                return vec![head.refuse(leap, Refusal::BadFormat).to_vec()];
            }
        };
        self.answered += 1;
        let head = request.head;
        let keys = &knowledge.policy.keys;
        let signer = request.signer(keys);
        let trusted = signer.is_some_and(|key| keys.control() == Some(key.id()));
        let searched = Cell::new(0);
        let clients = || {
            searched.set(searched.get() + knowledge.clients_max);
            (knowledge.clients)()
        };
        let knowledge = &Knowledge {
            clients: &clients,
            ..*knowledge
        };
        let mut messages = match self.read(&request, from, trusted, knowledge) {
            Ok(Some(Answer { status, data })) => head.answer(leap, status, &data),
            Ok(None) => Vec::new(),
            Err(refusal) => vec![head.refuse(leap, refusal).to_vec()],
        };
        if let Some(key) = signer {
            messages.iter_mut().for_each(|message| sign(message, key));
        }
        self.means -= (messages.len() + searched.get() / PLACES_PER_MESSAGE) as f64;
        messages
    }

    /// None: silence. `trusted` is who signed with the control key.
    fn read(
        &self,
        request: &Request<'_>,
        from: SocketAddr,
        trusted: bool,
        knowledge: &Knowledge<'_>,
    ) -> Result<Option<Answer>, Refusal> {
        let report = knowledge.report;
        let flags = knowledge.policy.access.lookup(from.ip(), from.port());
        let head = request.head;
        let source = match head.association() {
            0 => None,
            id => report.node.sources.iter().find(|source| source.id == id),
        };
        let lost = head.association() != 0 && source.is_none();
        let system = |data| {
            Some(Answer {
                status: system_word(&report.node.system),
                data,
            })
        };
        Ok(match head.operation() {
            Operation::Unspecified => system(Vec::new()),
            Operation::ReadStatus | Operation::ReadVariables if lost => {
                return Err(Refusal::UnknownAssociation);
            }
            Operation::ReadStatus => match source {
                None => {
                    let pair = |s: &SourceReport| [s.id, peer_word(s)].map(u16::to_be_bytes);
                    let pairs = report.node.sources.iter().flat_map(pair);
                    system(pairs.flatten().collect())
                }
                Some(source) => Some(self.peer(request, source, knowledge)?),
            },
            Operation::ReadVariables => match source {
                None => {
                    let mut variables = system_variables(knowledge.report, knowledge.now);
                    let is_known = |name| variables.iter().any(|(known, ..)| *known == name);
                    if !request.items().all(|(name, _)| is_known(name)) {
                        variables.extend(self.statistics(knowledge));
                        variables.extend(kernel_variables());
                    }
                    system(select(request, &variables, SYSTEM_LIST)?)
                }
                Some(source) => Some(self.peer(request, source, knowledge)?),
            },
            Operation::ReadClock => {
                let local = report.node.sources.iter().find(|source| source.kind == 'l');
                let asked = local.filter(|local| [0, local.id].contains(&head.association()));
                let clock = asked.ok_or(Refusal::UnknownAssociation)?;
                let data = select(request, &clock_variables(clock), "clock_var_list")?;
                Some(Answer { status: 0, data })
            }
            // Never, with no key.
            Operation::WriteVariables | Operation::WriteClock | Operation::Configure => {
                return Err(Refusal::Permission);
            }
            Operation::ReadOrderedList if !trusted => return Err(Refusal::Permission),
            Operation::ReadOrderedList => Some(Answer {
                status: 0,
                data: match request.data {
                    b"" | b"ifstats" => interfaces(report),
                    b"addr_restrictions" => restrictions(knowledge.policy),
                    _ => return Err(Refusal::UnknownVariable),
                },
            }),
            Operation::RequestNonce => {
                let mut text = Text::default();
                text.put("nonce", self.nonce(from.ip(), knowledge.now));
                Some(Answer {
                    status: 0,
                    data: text.finish(),
                })
            }
            Operation::ReadMru if flags.contains(Flags::NOMRULIST) => {
                return Err(Refusal::Permission);
            }
            Operation::ReadMru => {
                let Some(page) = Page::parse(request) else {
                    return Ok(None);
                };
                // Who can't say it did not get our answer: there is more to say than was asked.
                if !self.is_nonce(&page.nonce, from.ip(), knowledge.now) {
                    return Ok(None);
                }
                let nonce = self.nonce(from.ip(), knowledge.now);
                let data = page.read((knowledge.clients)(), &nonce, knowledge.now)?;
                Some(Answer { status: 0, data })
            }
            Operation::Other(_) => return Err(Refusal::BadOperation),
        })
    }

    fn peer(
        &self,
        request: &Request<'_>,
        source: &SourceReport,
        knowledge: &Knowledge<'_>,
    ) -> Result<Answer, Refusal> {
        let variables = peer_variables(source, knowledge.report);
        Ok(Answer {
            status: peer_word(source),
            data: select(request, &variables, "peer_var_list")?,
        })
    }

    /// When, and that it was we who said so to this address. A letter first, so that
    /// no reader takes it for a number.
    fn nonce(&self, address: IpAddr, now: WallInstant) -> String {
        let seconds = now.unix_ns().div_euclid(1_000_000_000);
        self.nonce_of(address, seconds)
    }

    fn nonce_of(&self, address: IpAddr, unix_seconds: i64) -> String {
        let digest = Sha256::new()
            .chain_update(self.secret)
            .chain_update(unix_seconds.to_be_bytes())
            .chain_update(address.to_string())
            .finalize();
        let mut proof = [0; 8];
        proof.copy_from_slice(&digest[..8]);
        format!("n{unix_seconds:08x}{:016x}", u64::from_be_bytes(proof))
    }

    fn is_nonce(&self, nonce: &str, address: IpAddr, now: WallInstant) -> bool {
        let now_s = now.unix_ns().div_euclid(1_000_000_000);
        let said = nonce.get(1..nonce.len().saturating_sub(16));
        let seconds = said.and_then(|digits| i64::from_str_radix(digits, 16).ok());
        seconds.is_some_and(|seconds| {
            (0..=NONCE_SECONDS).contains(&now_s.saturating_sub(seconds))
                && self.nonce_of(address, seconds) == nonce
        })
    }
}

/// The addresses that we answer at, for `ntpq -c ifstats`. What came and went is counted
/// for all of them together, and stands with the first.
fn interfaces(report: &Report) -> Vec<u8> {
    const UP: u32 = 0x1;
    const LOOPBACK: u32 = 0x4;
    const WILDCARD: u32 = 0x80;
    let counts = report.server.collect();
    let lost = counts.ring_events.iter();
    let lost = lost.filter(|(name, _)| SEND_FAILURES.contains(name));
    let mut sums = [
        counted(&counts.requests, "received"),
        counted(&counts.requests, "sent"),
        lost.map(|(_, count)| count).sum(),
    ];
    let names = names_of_addresses();
    let mut text = Text::default();
    for (n, address) in report.serving.iter().enumerate() {
        let ip = address.ip();
        let sources = report.node.sources.iter();
        let from_here = sources.filter(|source| {
            source.local.is_some_and(|local| {
                local == ip || ip.is_unspecified() && local.is_ipv4() == ip.is_ipv4()
            })
        });
        let (name, flags) = match ip {
            IpAddr::V4(_) if ip.is_unspecified() => ("v4wildcard", UP | WILDCARD),
            IpAddr::V6(_) if ip.is_unspecified() => ("v6wildcard", UP | WILDCARD),
            _ => (
                names.get(&ip).map_or("", String::as_str),
                UP | if ip.is_loopback() { LOOPBACK } else { 0 },
            ),
        };
        let [received, sent, lost] = std::mem::take(&mut sums);
        let row = text.len();
        text.put(&format!("addr.{n}"), address);
        text.put(&format!("bcast.{n}"), "");
        text.put(&format!("en.{n}"), 1);
        text.put_quoted(&format!("name.{n}"), name);
        text.put(&format!("flags.{n}"), format_args!("{flags:#x}"));
        text.put(&format!("rx.{n}"), received);
        text.put(&format!("tx.{n}"), sent);
        text.put(&format!("txerr.{n}"), lost);
        text.put(&format!("pc.{n}"), from_here.count());
        text.put(&format!("up.{n}"), report.uptime.as_seconds() as i64);
        if !text.fits() {
            text.cut(row);
            break;
        }
    }
    text.finish()
}

/// Which interface has which address; nothing if the kernel does not say.
fn names_of_addresses() -> HashMap<IpAddr, String> {
    let all = nix::ifaddrs::getifaddrs().into_iter().flatten();
    all.filter_map(|one| {
        let address = one.address?;
        let ip = match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
            (Some(v4), _) => v4.ip().into(),
            (_, Some(v6)) => v6.ip().into(),
            _ => return None,
        };
        Some((ip, one.interface_name))
    })
    .collect()
}

/// For `ntpq -c reslist`, in ntpd's order. How often each held is not counted.
fn restrictions(policy: &Policy) -> Vec<u8> {
    let mut text = Text::default();
    for (n, entry) in policy.access.restrictions().iter().enumerate() {
        let (address, bits) = (entry.prefix.address(), entry.prefix.bits());
        let mask: IpAddr = match address {
            IpAddr::V4(_) => {
                Ipv4Addr::from(u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0)).into()
            }
            IpAddr::V6(_) => {
                Ipv6Addr::from(u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0)).into()
            }
        };
        let words = Flags::WORDS.iter();
        let words = words.filter(|(_, flag)| entry.flags.contains(*flag));
        let mut words: Vec<_> = words.map(|(word, _)| *word).collect();
        let place = |word: &str| FLAGS_ORDER.iter().position(|known| *known == word);
        words.sort_by_key(|word| place(word).unwrap_or(FLAGS_ORDER.len()));
        if entry.ntpport {
            words.insert(0, "ntpport");
        }
        let row = text.len();
        text.put(&format!("addr.{n}"), address);
        text.put(&format!("mask.{n}"), mask);
        text.put(&format!("hits.{n}"), 0);
        text.put(&format!("flags.{n}"), words.join(" "));
        if !text.fits() {
            text.cut(row);
            break;
        }
    }
    text.finish()
}

struct Answer {
    status: u16,
    data: Vec<u8>,
}

/// A variable: what it is called, whether it comes unasked, what it is.
type Variable = (&'static str, Shown, Value);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    Always,
    Asked,
}
use Shown::{Always, Asked};

enum Value {
    Number(i64),
    /// With so many decimals.
    Real(f64, usize),
    Hex(u64),
    Stamp(NtpTimestamp),
    Bare(String),
    Quoted(String),
}
use Value::{Bare, Hex, Number, Quoted, Real, Stamp};

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Number(value) => write!(f, "{value}"),
            Real(value, decimals) => {
                let value = if value.is_finite() { *value } else { 0.0 };
                write!(f, "{value:.decimals$}")
            }
            Hex(value) => write!(f, "{value:#x}"),
            Stamp(stamp) => write!(f, "0x{stamp:?}"),
            Bare(value) => f.write_str(value),
            Quoted(value) => write!(f, "\"{value}\""),
        }
    }
}

/// Those that are asked for by name, or those that come unasked.
fn select(
    request: &Request<'_>,
    variables: &[Variable],
    list: &'static str,
) -> Result<Vec<u8>, Refusal> {
    let mut text = Text::default();
    let mut put = |(name, _, value): &Variable| match value {
        Quoted(value) => text.put_quoted(name, value),
        value => text.put(name, value),
    };
    // Each once, as ntpd does: who repeats a name does not multiply our answer.
    let mut said = HashSet::new();
    for (name, _) in request.items() {
        if !said.insert(name) {
            continue;
        }
        if name == list {
            let names: Vec<_> = variables.iter().map(|(name, ..)| *name).collect();
            put(&(list, Asked, Quoted(names.join(","))));
        } else {
            let known = variables.iter().find(|(known, ..)| *known == name);
            put(known.ok_or(Refusal::UnknownVariable)?);
        }
    }
    if said.is_empty() {
        let always = |variable: &&Variable| variable.1 == Always;
        variables.iter().filter(always).for_each(put);
    }
    Ok(text.finish())
}

fn leap(system: &SystemReport) -> Leap {
    if !system.sync {
        return Leap::Unknown;
    }
    match system.leap.as_str() {
        "none" => Leap::None,
        "insert" => Leap::Insert,
        "delete" => Leap::Delete,
        _ => Leap::Unknown,
    }
}

/// The one we name as our reference.
fn system_peer(report: &Report) -> Option<&SourceReport> {
    let sources = &report.node.sources;
    sources.iter().find(|source| source.tally == Tally::System)
}

/// The system's status word: events by RFC 9327's numbers.
pub fn system_word(system: &SystemReport) -> u16 {
    const CLOCK_SYNC: u8 = 5;
    const RESTART: u8 = 6;
    let clock = match system.source.as_deref() {
        None => Clock::Unspecified,
        Some(LOCAL) => Clock::Local,
        Some(_) => Clock::Ntp,
    };
    let event = if system.sync { CLOCK_SYNC } else { RESTART };
    system_status(leap(system), clock, 1, event)
}

/// The status word of an association (RFC 9327 section 3.2).
pub fn peer_word(source: &SourceReport) -> u16 {
    const MOBILIZE: u8 = 1;
    const UNREACHABLE: u8 = 3;
    const REACHABLE: u8 = 4;
    const SYSTEM_PEER: u8 = 10;
    let mut bits = PeerBits::CONFIGURED;
    if is_reachable(source) {
        bits |= PeerBits::REACHABLE;
    }
    if source.detail.key.is_some() {
        bits |= PeerBits::KEYED;
    }
    if is_authentic(source) {
        bits |= PeerBits::AUTHENTIC;
    }
    let event = match source.tally {
        Tally::System => SYSTEM_PEER,
        _ if is_reachable(source) => REACHABLE,
        _ if source.received > 0 => UNREACHABLE,
        _ => MOBILIZE,
    };
    peer_status(bits, selection(source), 1, event)
}

/// By ntpq's characters.
fn selection(source: &SourceReport) -> u8 {
    match source.tally {
        Tally::Rejected => 0,
        Tally::Falseticker => 1,
        Tally::Outlier => 3,
        Tally::Candidate => 4,
        Tally::System => 6,
    }
}

/// The local clock is not asked, and always there.
fn is_reachable(source: &SourceReport) -> bool {
    source.reach != 0 || source.kind == 'l'
}

/// Are its answers signed, so that those which are not don't count?
fn is_authentic(source: &SourceReport) -> bool {
    source.detail.key.is_some() && source.reply.is_some() && is_reachable(source)
}

/// ntpq puts the dots about letters itself.
fn bare_refid(refid: &str) -> String {
    match refid {
        "LOCAL(0)" => "127.127.1.0".to_owned(),
        _ => refid.trim_matches('.').to_owned(),
    }
}

fn ms(seconds: f64) -> f64 {
    seconds * 1e3
}

fn log2(interval_s: f64) -> i64 {
    // An interval is a power of two of seconds.
    interval_s.max(1e-6).log2().round() as i64
}

fn system_variables(report: &Report, now: WallInstant) -> Vec<Variable> {
    let system = &report.node.system;
    let peer = system_peer(report);
    let reference = system.reference_unix_s.map_or(NtpTimestamp::ZERO, |s| {
        NtpTimestamp::from_wall(WallInstant::from_unix_ns((s * 1e9) as i64))
    });
    let utsname = nix::sys::utsname::uname().ok();
    let uname = |part: fn(&nix::sys::utsname::UtsName) -> &std::ffi::OsStr| {
        let text = utsname.as_ref().map(|all| part(all).to_string_lossy());
        text.map_or_else(String::new, |text| text.into_owned())
    };
    // Endless while we follow nobody.
    let dispersion_s = system.root_dispersion_s.min(DISPERSION_MAX_S);
    let distance_s = system.root_delay_s / 2.0 + dispersion_s;
    let jitter = ms(system.jitter_s.unwrap_or(0.0));
    let offset = ms(system.offset_s.unwrap_or(0.0));
    let tc = system.poll_s.map_or(0, log2);
    let mut all = vec![
        ("leap", Always, Number(leap(system).bits().into())),
        ("stratum", Always, Number(system.stratum.into())),
        ("precision", Always, Number(system.precision.into())),
        ("rootdelay", Always, Real(ms(system.root_delay_s), 3)),
        ("rootdisp", Always, Real(ms(dispersion_s), 3)),
        ("rootdist", Asked, Real(ms(distance_s), 3)),
        ("refid", Always, Bare(bare_refid(&system.refid))),
        ("reftime", Always, Stamp(reference)),
        ("tc", Always, Number(tc)),
        (
            "peer",
            Always,
            Number(peer.map_or(0, |peer| peer.id.into())),
        ),
        ("offset", Always, Real(offset, 6)),
        // What ntpd calls so is a correction too.
        ("frequency", Always, Real(system.frequency_ppm, 6)),
        ("sys_jitter", Always, Real(jitter, 6)),
        ("clk_jitter", Always, Real(jitter, 6)),
        ("clock", Always, Stamp(NtpTimestamp::from_wall(now))),
        ("processor", Always, Quoted(uname(|all| all.machine()))),
        (
            "system",
            Always,
            Quoted(format!(
                "{}/{}",
                uname(|all| all.sysname()),
                uname(|all| all.release())
            )),
        ),
        (
            "version",
            Always,
            Quoted(concat!("ptntp ", env!("CARGO_PKG_VERSION")).to_owned()),
        ),
        (
            "clk_wander",
            Always,
            Real(system.skew_ppm.unwrap_or(0.0), 6),
        ),
        ("mintc", Always, Number(0)),
        ("state", Asked, Number(if system.sync { 4 } else { 0 })),
        ("authdelay", Asked, Real(0.0, 3)),
        ("leapsmearinterval", Asked, Number(0)),
    ];
    let peer_address = peer.and_then(|peer| peer.address);
    let nobody = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
    let peer_mode = i64::from(peer.is_some()) * 3;
    all.extend([
        (
            "peeradr",
            Asked,
            Bare(peer_address.unwrap_or(nobody).to_string()),
        ),
        ("peermode", Asked, Number(peer_mode)),
    ]);
    all
}

/// The kernel's clock, for `ntpq -c kerninfo`. Its own loop and its PPS discipline are not
/// used. None in a sandbox that forbids the question.
fn kernel_variables() -> Vec<Variable> {
    const TOLERANCE_PPM: i64 = 500;
    let Ok(kernel) = Timex::new().read() else {
        return Vec::new();
    };
    let states = [
        (kernel.pll, "pll"),
        (!kernel.synchronised, "unsync"),
        (kernel.nanoseconds, "nano"),
    ];
    let states: Vec<_> = states.iter().filter(|(is_so, _)| *is_so).collect();
    let states: Vec<_> = states.iter().map(|(_, word)| *word).collect();
    let mut all = vec![
        ("koffset", Asked, Number(0)),
        ("kfreq", Asked, Real(kernel.frequency.0, 3)),
        ("kmaxerr", Asked, Real(kernel.error_max.as_seconds(), 6)),
        (
            "kesterr",
            Asked,
            Real(kernel.error_estimate.as_seconds(), 6),
        ),
        ("kstflags", Asked, Quoted(states.join(" "))),
        ("ktimeconst", Asked, Number(0)),
        ("kprecis", Asked, Real(1e-6, 6)),
        ("kfreqtol", Asked, Number(TOLERANCE_PPM)),
    ];
    all.extend(
        [
            "kppsfreq",
            "kppsstab",
            "kppsjitter",
            "kppscalibdur",
            "kppscalibs",
            "kppsjitexc",
            "kppsstbexc",
            "kppscaliberrs",
        ]
        .map(|name| (name, Asked, Number(0))),
    );
    all
}

/// One of ntpd's counters, by our name for it, of what became of all requests.
pub fn counted(requests: &[(&'static str, u64)], counter: &str) -> u64 {
    let verdicts: &[&str] = match counter {
        "served" => &["basic", "interleaved", "crypto_nak"],
        "sent" => &["basic", "interleaved", "crypto_nak", "kiss"],
        "bad" => &[
            "bad_length",
            "bad_version",
            "bad_mode",
            "bad_trailer",
            "bad_source",
        ],
        "bad_version" => &["bad_version"],
        "badauth" => &["notrust", "crypto_nak"],
        "declined" => &["group", "private", "nak_request"],
        "restricted" => &["ignore", "noquery", "noserve", "version", "flake"],
        "limited" => &["limited", "kiss"],
        "kod" => &["kiss"],
        // All.
        _ => return requests.iter().map(|(_, count)| count).sum(),
    };
    let of = requests.iter().filter(|(name, _)| verdicts.contains(name));
    of.map(|(_, count)| count).sum()
}

impl Answerer {
    /// Counts and the state of the list of clients: only gathered when asked for.
    fn statistics(&self, knowledge: &Knowledge<'_>) -> Vec<Variable> {
        let report = knowledge.report;
        let ServerCounts {
            requests: counts,
            ring_events,
            ..
        } = report.server.collect();
        let ring = |names: &[&str]| {
            let some = ring_events.iter().filter(|(name, _)| names.contains(name));
            some.map(|(_, count)| *count as i64).sum::<i64>()
        };
        let sources = report.node.sources.iter();
        let uptime = report.uptime.as_seconds() as i64;
        let mut all = vec![
            ("ss_uptime", Asked, Number(uptime)),
            ("ss_numctlreq", Asked, Number(self.answered as i64)),
            ("authreset", Asked, Number(uptime)),
            (
                "authkeys",
                Asked,
                Number(knowledge.policy.keys.iter().count() as i64),
            ),
            ("timerstats_reset", Asked, Number(uptime)),
            ("timer_overruns", Asked, Number(0)),
            (
                "timer_xmts",
                Asked,
                Number(sources.map(|source| source.sent as i64).sum()),
            ),
            ("iostats_reset", Asked, Number(uptime)),
            // There is no pool of buffers.
            ("total_rbuf", Asked, Number(0)),
            ("free_rbuf", Asked, Number(0)),
            ("used_rbuf", Asked, Number(0)),
            ("rbuf_lowater", Asked, Number(0)),
            ("io_dropped", Asked, Number(ring(&["control_dropped"]))),
            ("io_ignored", Asked, Number(0)),
            (
                "io_received",
                Asked,
                Number(counted(&counts, "received") as i64),
            ),
            ("io_sent", Asked, Number(counted(&counts, "sent") as i64)),
            ("io_sendfailed", Asked, Number(ring(&SEND_FAILURES))),
            ("io_wakeups", Asked, Number(0)),
            ("io_goodwakeups", Asked, Number(0)),
        ];
        // Each twice: since the last reset, and in all. There is no reset.
        for [name, total, value] in [
            ["ss_reset", "ss_reset_r", "uptime"],
            ["ss_received", "ss_received_r", "received"],
            ["ss_badformat", "ss_badformat_r", "bad"],
            ["ss_badauth", "ss_badauth_r", "badauth"],
            ["ss_declined", "ss_declined_r", "declined"],
            ["ss_restricted", "ss_restricted_r", "restricted"],
            ["ss_limited", "ss_limited_r", "limited"],
            ["ss_kodsent", "ss_kodsent_r", "kod"],
            ["ss_processed", "ss_processed_r", "served"],
        ] {
            for name in [name, total] {
                let value = match value {
                    "uptime" => uptime,
                    counter => counted(&counts, counter) as i64,
                };
                all.push((name, Asked, Number(value)));
            }
        }
        let clients = (knowledge.clients)();
        let oldest = clients.iter().map(|client| client.last).min();
        let age_s = oldest.map_or(0, |oldest| (knowledge.now - oldest).as_seconds() as i64);
        let (depth, max) = (clients.len() as i64, knowledge.clients_max as i64);
        let packets = clients
            .iter()
            .map(|client| client.count as i64)
            .sum::<i64>();
        let kilobytes = |clients: i64| clients * RECENT_LEN as i64 / 1024;
        all.extend([
            ("mru_enabled", Asked, Number(i64::from(max > 0))),
            // Whoever is in the list stays until it is full.
            ("mru_deepest", Asked, Number(depth)),
            ("mru_mindepth", Asked, Number(max)),
            ("mru_maxage", Asked, Number(0)),
            ("mru_minage", Asked, Number(0)),
            ("mru_exists", Asked, Number(packets - depth)),
            ("mru_new", Asked, Number(depth)),
            ("mru_recycleold", Asked, Number(0)),
            ("mru_recyclefull", Asked, Number(0)),
            ("mru_none", Asked, Number(0)),
            ("mru_hashslots", Asked, Number(depth)),
            ("mru_depth", Asked, Number(depth)),
            ("mru_maxdepth", Asked, Number(max)),
            ("mru_mem", Asked, Number(kilobytes(depth))),
            ("mru_maxmem", Asked, Number(kilobytes(max))),
            ("mru_oldest_age", Asked, Number(age_s)),
        ]);
        all
    }
}

fn peer_variables(source: &SourceReport, report: &Report) -> Vec<Variable> {
    let reply = source.reply.as_ref();
    let local = source.kind == 'l';
    let address = match source.address {
        Some(address) => address,
        None if local => SocketAddr::new(Ipv4Addr::new(127, 127, 1, 0).into(), 123),
        None => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
    };
    let our = source.local.unwrap_or(match address.ip() {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    });
    let hpoll = source.poll_log2().into();
    let heard = source.when_s.map_or(NtpTimestamp::ZERO, |age_s| {
        let now = report.map.to_local(report.real);
        NtpTimestamp::from_wall(now - NtpDuration::from_seconds(age_s))
    });
    let stamp = |bits: Option<u64>| Stamp(NtpTimestamp::from_bits(bits.unwrap_or(0)));
    let unanswered = match (source.sent, source.reach) {
        (0, _) => 0,
        (sent, 0) => sent.min(8),
        (_, reach) => u64::from(reach.trailing_zeros()),
    };
    let filter = |part: fn(&SampleReport) -> f64, empty: f64| {
        let samples = source.recent.iter().map(part);
        let stages = samples.chain(std::iter::repeat(empty)).take(STAGES);
        let texts: Vec<_> = stages.map(|s| format!("{:.2}", ms(s))).collect();
        Bare(texts.join(" "))
    };
    let unmeasured_s = if local { 0.0 } else { DISPERSION_MAX_S };
    let dispersion_s = source.recent.first().map_or(unmeasured_s, |newest| {
        newest.dispersion_s + newest.age_s * PHI.ratio()
    });
    let reach = if local { 0xff } else { source.reach };
    let leap = match reply {
        Some(reply) => reply.leap,
        None if local => 0,
        None => 3,
    };
    let delay = ms(source.delay_s.unwrap_or(0.0));
    let offset = ms(source.offset_s.unwrap_or(0.0));
    let jitter = ms(source.jitter_s.unwrap_or(0.0));
    let key = source.detail.key.as_ref().map_or(0, |key| key.id.into());
    let rejected = |test| Number(source.rejected.get(test).map_or(0, |&n| n as i64));
    // A name, unless that is the address or one name of several hosts.
    let is_name =
        local || matches!(source.kind, 'u' | PEER) && source.name.parse::<IpAddr>().is_err();
    vec![
        ("config", Asked, Number(1)),
        ("authenable", Asked, Number(i64::from(key != 0))),
        ("authentic", Asked, Number(i64::from(is_authentic(source)))),
        ("srcadr", Always, Bare(address.ip().to_string())),
        ("srcport", Always, Number(address.port().into())),
        ("dstadr", Always, Bare(our.to_string())),
        ("dstport", Always, Number(0)),
        ("leap", Always, Number(leap.into())),
        (
            "hmode",
            Always,
            Number(if source.kind == PEER { 1 } else { 3 }),
        ),
        ("stratum", Always, Number(source.stratum.into())),
        (
            "ppoll",
            Always,
            Number(reply.map_or(hpoll, |reply| reply.poll.into())),
        ),
        ("hpoll", Always, Number(hpoll)),
        (
            "precision",
            Always,
            Number(
                reply
                    .map_or(report.node.system.precision, |reply| reply.precision)
                    .into(),
            ),
        ),
        (
            "rootdelay",
            Always,
            Real(ms(reply.map_or(0.0, |reply| reply.root_delay_s)), 3),
        ),
        (
            "rootdisp",
            Always,
            Real(ms(reply.map_or(0.0, |reply| reply.root_dispersion_s)), 3),
        ),
        ("refid", Always, Bare(bare_refid(&source.refid))),
        // Before `rec`: ntpq takes the later of them for the last packet.
        ("reftime", Always, stamp(reply.map(|reply| reply.reference))),
        ("rec", Always, Stamp(heard)),
        ("xmt", Always, stamp(reply.map(|reply| reply.transmit))),
        ("reach", Always, Hex(reach.into())),
        ("unreach", Always, Number(unanswered as i64)),
        ("delay", Always, Real(delay, 6)),
        ("offset", Always, Real(offset, 6)),
        ("jitter", Always, Real(jitter, 6)),
        ("dispersion", Always, Real(ms(dispersion_s), 6)),
        ("keyid", Always, Number(key)),
        ("filtdelay", Always, filter(|sample| sample.delay_s, 0.0)),
        ("filtoffset", Always, filter(|sample| sample.offset_s, 0.0)),
        (
            "filtdisp",
            Always,
            filter(
                |sample| sample.dispersion_s + sample.age_s * PHI.ratio(),
                unmeasured_s,
            ),
        ),
        (
            "pmode",
            Always,
            Number(reply.map_or(0, |reply| reply.mode.into())),
        ),
        ("received", Asked, Number(source.received as i64)),
        ("sent", Asked, Number(source.sent as i64)),
        ("flash", Always, Hex(flash(source))),
        ("headway", Always, Number(0)),
        ("bias", Asked, Real(0.0, 3)),
        (
            "timer",
            Asked,
            Number((source.poll_s - source.when_s.unwrap_or(0.0)).max(0.0) as i64),
        ),
        ("seldisp", Asked, Number(0)),
        ("selbroken", Asked, Number(0)),
        ("candidate", Asked, Number(i64::from(selection(source)))),
        // As ntpd says of who has no NTS.
        ("ntscookies", Asked, Number(-1)),
        ("timereach", Asked, Number(0)),
        (
            "timerec",
            Asked,
            Number(source.when_s.unwrap_or(0.0) as i64),
        ),
        ("badauth", Asked, rejected("auth")),
        ("bogusorg", Asked, rejected("origin")),
        ("oldpkt", Asked, rejected("duplicate")),
        (
            "srchost",
            if is_name { Always } else { Asked },
            Quoted(source.name.clone()),
        ),
    ]
}

/// Why a source is not followed, in ntpd's bits (`TEST9` and on).
fn flash(source: &SourceReport) -> u64 {
    const STRATUM: u64 = 0x200;
    const DISTANCE: u64 = 0x400;
    const UNREACHABLE: u64 = 0x1000;
    if source.kind == 'l' {
        return 0;
    }
    let far = source.root_distance_s.is_none_or(|s| s > DISTANCE_MAX_S);
    [
        (source.stratum >= STRATUM_MAX, STRATUM),
        (far, DISTANCE),
        (!is_reachable(source), UNREACHABLE),
    ]
    .into_iter()
    .filter_map(|(is_so, bit)| is_so.then_some(bit))
    .sum()
}

/// The undisciplined local clock is the one reference clock there is.
fn clock_variables(clock: &SourceReport) -> Vec<Variable> {
    let zero = || Number(0);
    vec![
        (
            "device",
            Always,
            Quoted("Undisciplined local clock".to_owned()),
        ),
        ("timecode", Always, Quoted(String::new())),
        ("poll", Always, zero()),
        ("noreply", Always, zero()),
        ("badformat", Always, zero()),
        ("baddata", Always, zero()),
        ("stratum", Always, Number(clock.stratum.into())),
        ("refid", Always, Bare(bare_refid(&clock.refid))),
        ("flags", Always, zero()),
    ]
}

/// What part of the list of clients is asked for (RFC 9327 section 2.1, READ_MRU).
#[derive(Debug, Default)]
struct Page {
    nonce: String,
    fragments: usize,
    rows: usize,
    count_min: u64,
    dropped_min: u64,
    all_of: u16,
    any_of: u16,
    age_max_s: Option<f64>,
    age_min_s: Option<f64>,
    recent: Option<usize>,
    /// Clients the asker has, newest first: by number, address and last packet.
    priors: [(Option<SocketAddr>, Option<NtpTimestamp>); PRIORS_MAX],
}

impl Page {
    /// None if a value makes no sense, or there is no nonce: ntpd is silent then.
    fn parse(request: &Request<'_>) -> Option<Self> {
        let mut page = Self::default();
        let hex = |text: &str| u16::from_str_radix(text.trim_start_matches("0x"), 16).ok();
        for (name, value) in request.items() {
            let value = value.unwrap_or_default();
            match name {
                "nonce" => page.nonce = value.to_owned(),
                "frags" => page.fragments = value.parse().ok()?,
                "limit" => page.rows = value.parse().ok()?,
                "mincount" => page.count_min = value.parse().ok()?,
                "mindrop" => page.dropped_min = value.parse().ok()?,
                "resall" => page.all_of = hex(value)?,
                "resany" => page.any_of = hex(value)?,
                "maxlstint" => page.age_max_s = Some(value.parse().ok()?),
                "minlstint" => page.age_min_s = Some(value.parse().ok()?),
                "recent" => page.recent = Some(value.parse().ok()?),
                _ => match name.split_once('.') {
                    Some(("addr", n)) => page.prior(n)?.0 = Some(parse_address(value)?),
                    Some(("last", n)) => page.prior(n)?.1 = Some(parse_stamp(value)?),
                    // Of later versions.
                    _ => {}
                },
            }
        }
        (!page.nonce.is_empty()).then_some(page)
    }

    fn prior(&mut self, n: &str) -> Option<&mut (Option<SocketAddr>, Option<NtpTimestamp>)> {
        self.priors.get_mut(n.parse::<usize>().ok()?)
    }

    fn read(
        &self,
        mut clients: Vec<RecentClient>,
        nonce: &str,
        now: WallInstant,
    ) -> Result<Vec<u8>, Refusal> {
        if self.fragments > FRAGMENTS_MAX
            || self.fragments == 0 && !(1..=ROWS_MAX).contains(&self.rows)
        {
            return Err(Refusal::BadValue);
        }
        let fragments = if self.fragments == 0 {
            FRAGMENTS_MAX
        } else {
            self.fragments
        };
        let rows = if self.rows == 0 {
            usize::MAX
        } else {
            self.rows
        };
        // Oldest first. Equal ones in an order of their own, so that pages join.
        clients.sort_by_key(|client| (client.last, client.address));
        let mut text = Text::default();
        let known = |prior: &(Option<SocketAddr>, Option<NtpTimestamp>)| {
            let (Some(address), Some(last)) = *prior else {
                return None;
            };
            clients.iter().position(|client| {
                client.address == address && NtpTimestamp::from_wall(client.last) == last
            })
        };
        let mut start = 0;
        if self.priors[0].0.is_some() {
            // Not one of them is as it was: the asker starts again from older ones.
            let place = self.priors.iter().find_map(known);
            let place = place.ok_or(Refusal::UnknownVariable)?;
            let older = &clients[place];
            text.put_stamp("last.older", NtpTimestamp::from_wall(older.last));
            text.put("addr.older", older.address);
            start = place + 1;
        } else if let Some(recent) = self.recent {
            start = clients.len().saturating_sub(recent);
        }
        text.put("nonce", nonce);
        let mut told = 0;
        let mut newest = None;
        let mut whole = true;
        for client in &clients[start..] {
            if told == rows || text.len() / DATA_LEN_MAX + 1 >= fragments {
                whole = false;
                break;
            }
            if self.wants(client, now) {
                put_client(&mut text, told, client);
                told += 1;
                newest = Some(client.last);
            }
        }
        if whole {
            text.put_stamp("now", NtpTimestamp::from_wall(now));
            if let Some(newest) = newest {
                text.put_stamp("last.newest", NtpTimestamp::from_wall(newest));
            }
        }
        Ok(text.finish())
    }

    fn wants(&self, client: &RecentClient, now: WallInstant) -> bool {
        let age_s = (now - client.last).as_seconds();
        client.count >= self.count_min
            && client.dropped >= self.dropped_min
            && client.restricted & self.all_of == self.all_of
            && (self.any_of == 0 || client.restricted & self.any_of != 0)
            && self.age_max_s.is_none_or(|max| max <= 0.0 || age_s <= max)
            && self.age_min_s.is_none_or(|min| age_s >= min)
    }
}

fn put_client(text: &mut Text, row: usize, client: &RecentClient) {
    let stamp = NtpTimestamp::from_wall;
    // ntpd's score: packets a second, of late.
    let active_s = (client.last - client.first).as_seconds();
    let score = client.count as f64 / (active_s + SCORE_SECONDS);
    text.put(&format!("addr.{row}"), client.address);
    text.put_stamp(&format!("last.{row}"), stamp(client.last));
    text.put_stamp(&format!("first.{row}"), stamp(client.first));
    text.put(&format!("ct.{row}"), client.count);
    let mode_version = client.version << 3 | client.mode;
    text.put(&format!("mv.{row}"), mode_version);
    let restricted = client.restricted;
    text.put(&format!("rs.{row}"), format_args!("{restricted:#x}"));
    text.put_f64(&format!("sc.{row}"), score, 3);
    text.put(&format!("dr.{row}"), client.dropped);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::status::tests::example;
    use crate::server::access::AccessTable;
    use crate::server::respond::BadMac;
    use crate::server::rule::{Headway, Prefix, RateLimit, Rule, Who};
    use crate::wire::key::Key;
    use proptest::prelude::*;
    use std::sync::Arc;

    const ASKER: &str = "192.0.2.7:40000";

    fn at(seconds: i64) -> WallInstant {
        WallInstant::from_unix_ns(1_800_000_000_000_000_000)
            + NtpDuration::from_whole_seconds(seconds)
    }

    fn clients(count: u32) -> Vec<RecentClient> {
        let one = |n: u32| RecentClient {
            address: SocketAddr::new(Ipv4Addr::from(0x0a00_0000 + n).into(), 123),
            first: at(-5000),
            last: at(i64::from(n) - 4000),
            count: u64::from(n) + 1,
            dropped: 0,
            mode: 3,
            version: 4,
            restricted: 0,
        };
        // In no order, as tables are.
        let even = (0..count).filter(|n| n % 2 == 0);
        even.chain((0..count).filter(|n| n % 2 == 1))
            .map(one)
            .collect()
    }

    fn request(operation: u8, association: u16, data: &str) -> Vec<u8> {
        let mut bytes = vec![0x16, operation, 0, 1, 0, 0];
        bytes.extend(association.to_be_bytes());
        bytes.extend([0, 0]);
        bytes.extend((data.len() as u16).to_be_bytes());
        bytes.extend(data.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    const KEYS: [&str; 2] = ["7:SHA1:control", "9:AES128:0123456789abcdef"];

    fn policy() -> Policy {
        let host = |text: &str| Who::Block {
            prefix: Prefix::host(text.parse().unwrap()),
            ntpport: text.contains(':'),
        };
        let keys = KEYS.map(|key| key.parse().unwrap()).to_vec();
        Policy {
            access: AccessTable::compile(
                &[
                    Rule::Restrict(host("10.0.0.1"), Flags::KOD | Flags::VERSION),
                    Rule::Restrict(host("2001:db8::1"), Flags::NOMRULIST | Flags::NOTRUST),
                ],
                &[],
            ),
            rate_limit: RateLimit::Headway(Headway::default()),
            keys: Arc::new(KeyTable::new(keys).with_control(Some(7))),
            bad_mac: BadMac::default(),
        }
    }

    fn answerer() -> Answerer {
        Answerer::new([7; 32], MonoInstant::ZERO)
    }

    fn ask(answerer: &mut Answerer, bytes: &[u8], clients: &[RecentClient]) -> Vec<Vec<u8>> {
        let knowledge = Knowledge {
            report: &example(),
            policy: &policy(),
            now: at(0),
            clients: &|| clients.to_vec(),
            clients_max: 4096,
        };
        answerer.answer(bytes, ASKER.parse().unwrap(), &knowledge)
    }

    /// Status and text of an answer.
    fn text(messages: &[Vec<u8>]) -> (u16, String) {
        let mut data = Vec::new();
        for message in messages {
            assert_eq!(message[1] & 0x40, 0, "{message:x?}");
            let count = u16::from_be_bytes([message[10], message[11]]);
            data.extend_from_slice(&message[12..12 + usize::from(count)]);
        }
        let status = u16::from_be_bytes([messages[0][4], messages[0][5]]);
        (status, String::from_utf8(data).unwrap())
    }

    fn refusal(messages: &[Vec<u8>]) -> u8 {
        assert_eq!((messages.len(), messages[0].len()), (1, 12));
        assert_eq!(messages[0][1] & 0xc0, 0xc0);
        messages[0][4]
    }

    fn value<'a>(text: &'a str, name: &str) -> &'a str {
        let start = text.find(&format!("{name}=")).expect(name) + name.len() + 1;
        text[start..].split([',', '\r']).next().unwrap()
    }

    #[test]
    fn variables_are_given_by_name_or_all() {
        let mut answerer = answerer();
        let (status, all) = text(&ask(&mut answerer, &request(2, 0, ""), &[]));
        assert_eq!(status, 0x0615);
        assert_eq!(value(&all, "stratum"), "3");
        assert_eq!(value(&all, "offset"), "-0.001500");
        assert!(!all.contains("rootdist"));
        let (_, one) = text(&ask(&mut answerer, &request(2, 0, "refid,rootdist"), &[]));
        assert!(one.starts_with("refid=192.0.2.1, rootdist="), "{one}");
        assert_eq!(
            refusal(&ask(&mut answerer, &request(2, 0, "leap,x"), &[])),
            5
        );
        let (status, peer) = text(&ask(&mut answerer, &request(2, 1, "srcadr,reach"), &[]));
        assert_eq!(status >> 12, 9);
        assert!(peer.starts_with("srcadr=192.0.2.1"), "{peer}");
        assert_eq!(refusal(&ask(&mut answerer, &request(2, 2, ""), &[])), 4);
        let (_, list) = text(&ask(&mut answerer, &request(2, 0, "sys_var_list"), &[]));
        assert!(list.contains("tai") || list.contains("mru_depth"), "{list}");
    }

    /// As ntpq asks with a key: the answer is signed by the same.
    #[test]
    fn who_has_the_control_key_sees_interfaces_and_restrictions() {
        let signed = |data: &str, key: &str| {
            let mut bytes = request(11, 0, data);
            bytes.resize(bytes.len().next_multiple_of(8), 0);
            sign(&mut bytes, &key.parse().unwrap());
            bytes
        };
        let mut answerer = answerer();
        let mut asked = |bytes: &[u8]| ask(&mut answerer, bytes, &[]);
        let (status, said) = text(&asked(&signed("addr_restrictions", KEYS[0])));
        assert_eq!(status, 0);
        let expected = "addr.0=10.0.0.1, mask.0=255.255.255.255, hits.0=0, flags.0=version kod,\r\n\
            addr.1=0.0.0.0, mask.1=0.0.0.0, hits.1=0, flags.1=, addr.2=2001:db8::1,\r\n\
            mask.2=ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff, hits.2=0,\r\n\
            flags.2=ntpport notrust nomrulist, addr.3=::, mask.3=::, hits.3=0,\r\n\
            flags.3=\r\n";
        assert_eq!(said, expected);
        for data in ["ifstats", ""] {
            let messages = asked(&signed(data, KEYS[0]));
            let (_, said) = text(&messages);
            assert!(
                said.starts_with("addr.0=127.0.0.1:1123, bcast.0=, en.0=1,"),
                "{said}"
            );
            assert!(said.contains("name.0=\"lo\""), "{said}");
            let key: Key = KEYS[0].parse().unwrap();
            let (packet, mac) = messages[0].split_at(messages[0].len() - 24);
            assert!(packet.len().is_multiple_of(8) && key.verifies(packet, mac));
        }
        let other = asked(&signed("nonsense", KEYS[0]));
        assert_eq!(
            (other[0].len(), other[0][1] & 0x40, other[0][4]),
            (36, 0x40, 5)
        );
        // Another key may sign, and learns no more than who does not.
        let other = asked(&signed("ifstats", KEYS[1]));
        assert_eq!(
            (other[0].len(), other[0][1] & 0x40, other[0][4]),
            (32, 0x40, 1)
        );
        assert_eq!(refusal(&asked(&signed("ifstats", "7:SHA1:guess"))), 1);
        assert_eq!(refusal(&asked(&signed("ifstats", "8:SHA1:control"))), 1);
        assert_eq!(refusal(&asked(&request(11, 0, "ifstats"))), 1);
    }

    /// As ntpq does it: page by page, going on from the newest it has.
    #[test]
    fn the_list_of_clients_comes_whole_in_pages() {
        let all = clients(300);
        let mut answerer = answerer();
        let (_, nonce) = text(&ask(&mut answerer, &request(12, 0, ""), &all));
        let mut nonce = value(&nonce, "nonce").to_owned();
        let (mut seen, mut from) = (Vec::new(), String::new());
        for page in 0.. {
            assert!(page < 100, "it never ends");
            let asked = request(10, 0, &format!("nonce={nonce}, frags=8{from}"));
            let messages = ask(&mut answerer, &asked, &all);
            assert!(messages.len() <= 8);
            let (_, text) = text(&messages);
            nonce = value(&text, "nonce").to_owned();
            let rows = (0..).take_while(|n| text.contains(&format!("addr.{n}=")));
            let last = rows
                .map(|n| {
                    seen.push(value(&text, &format!("addr.{n}")).to_owned());
                    format!(
                        ", addr.0={}, last.0={}",
                        seen[seen.len() - 1],
                        value(&text, &format!("last.{n}"))
                    )
                })
                .last();
            if text.contains("now=") {
                break;
            }
            from = last.expect("each page has some");
        }
        let expected: Vec<String> = {
            let mut all = all.clone();
            all.sort_by_key(|client| client.last);
            all.iter()
                .map(|client| client.address.to_string())
                .collect()
        };
        assert_eq!(seen, expected);
        let gone = request(
            10,
            0,
            &format!("nonce={nonce}, frags=8, addr.0=10.9.9.9:1, last.0=0x1.1"),
        );
        assert_eq!(refusal(&ask(&mut answerer, &gone, &all)), 5);
        let few = request(10, 0, &format!("nonce={nonce}, frags=8, mincount=299"));
        let (_, few) = text(&ask(&mut answerer, &few, &all));
        assert!(few.contains("addr.1=") && !few.contains("addr.2="), "{few}");
    }

    #[test]
    fn a_nonce_is_good_for_one_address_and_a_while() {
        let answerer = answerer();
        let (here, there) = ("192.0.2.7".parse().unwrap(), "192.0.2.8".parse().unwrap());
        let nonce = answerer.nonce(here, at(0));
        assert!(answerer.is_nonce(&nonce, here, at(NONCE_SECONDS)));
        assert!(!answerer.is_nonce(&nonce, here, at(NONCE_SECONDS + 1)));
        assert!(!answerer.is_nonce(&nonce, here, at(-1)));
        assert!(!answerer.is_nonce(&nonce, there, at(0)));
        assert!(!Answerer::new([8; 32], MonoInstant::ZERO).is_nonce(&nonce, here, at(0)));
        assert!(nonce.parse::<f64>().is_err());
    }

    #[test]
    fn nobody_makes_us_talk_without_end() {
        let mut answerer = answerer();
        let mut answered = 0;
        let mut ask_until_dry = |answerer: &mut Answerer, known| {
            while answerer.pause(MonoInstant::ZERO, known) == NtpDuration::ZERO {
                answered += ask(answerer, &request(2, 1, ""), &[]).len();
            }
            answered
        };
        let strangers = ask_until_dry(&mut answerer, false);
        assert!((780..820).contains(&strangers), "{strangers}");
        let all = ask_until_dry(&mut answerer, true);
        assert!((980..1020).contains(&all), "{all}");
        let later = MonoInstant::ZERO + NtpDuration::from_whole_seconds(1);
        assert_eq!(answerer.pause(later, false), NtpDuration::ZERO);
        // A name that is repeated is said once.
        let names = "sys_var_list,".repeat(30);
        let once = ask(&mut answerer, &request(2, 0, "sys_var_list"), &[]);
        assert_eq!(ask(&mut answerer, &request(2, 0, &names), &[]), once);
        // Many places for clients cost as much as messages.
        let knowledge = Knowledge {
            report: &example(),
            policy: &policy(),
            now: at(0),
            clients: &Vec::new,
            clients_max: 300 * PLACES_PER_MESSAGE,
        };
        let (asker, bytes) = (ASKER.parse().unwrap(), request(2, 0, "mru_depth"));
        let before = answerer.means;
        answerer.answer(&bytes, asker, &knowledge);
        assert_eq!(before - answerer.means, 301.0);
    }

    #[test]
    fn who_is_here_or_signs_is_known() {
        let keys = policy().keys;
        let signed = |key: &str| {
            let mut bytes = request(2, 0, "");
            bytes.resize(bytes.len().next_multiple_of(8), 0);
            sign(&mut bytes, &key.parse().unwrap());
            bytes
        };
        let here = "127.0.0.1:40000";
        for (bytes, from, known) in [
            (request(2, 0, ""), here, true),
            (request(2, 0, ""), "[::1]:40000", true),
            (request(2, 0, ""), ASKER, false),
            (signed(KEYS[0]), ASKER, true),
            (signed(KEYS[1]), ASKER, true),
            (signed("7:SHA1:guess"), ASKER, false),
        ] {
            let from = from.parse().unwrap();
            let query = Query::new(&bytes, from, "192.0.2.1".parse().unwrap(), 0).unwrap();
            assert_eq!(query.is_known(&keys), known, "{from}");
        }
    }

    /// Neither a line nor a row is cut off.
    #[test]
    fn what_does_not_fit_an_answer_is_left_out_by_rows() {
        let rules: Vec<_> = (0..2000_u32)
            .map(|n| {
                let address = Ipv4Addr::from(0x0a00_0000 + n).into();
                let prefix = Prefix::new(address, 32).unwrap();
                let ntpport = false;
                Rule::Restrict(Who::Block { prefix, ntpport }, Flags::KOD)
            })
            .collect();
        let many = Policy {
            access: AccessTable::compile(&rules, &[]),
            ..policy()
        };
        let addresses = (0..2000_u16).map(|n| SocketAddr::from(([10, 0, 0, 1], n)));
        let report = Report {
            serving: addresses.collect(),
            ..example()
        };
        for (data, last, end) in [
            (restrictions(&many), "flags", "flags.N=kod\r\n"),
            (interfaces(&report), "up", "up.N="),
        ] {
            assert!((65_000..=65_535).contains(&data.len()), "{}", data.len());
            let text = String::from_utf8(data).unwrap();
            let rows = text.matches("addr.").count();
            assert_eq!(text.matches(&format!("{last}.")).count(), rows);
            assert!(text.ends_with("\r\n"));
            let end = end.replace('N', &(rows - 1).to_string());
            assert!(text[text.len() - 40..].contains(&end), "{end}");
        }
    }

    proptest! {
        /// Whatever the data: an answer, a refusal no longer than the request, or nothing.
        #[test]
        fn any_request_is_survived(
            operation in 0_u8..32, association in 0_u16..4, data in "[ -~]{0,300}",
        ) {
            let bytes = request(operation, association, &data);
            for message in ask(&mut answerer(), &bytes, &clients(3)) {
                prop_assert!(message[1] & 0x40 == 0 || message.len() <= bytes.len());
            }
        }

        /// A page's parameters, with a true nonce.
        #[test]
        fn any_page_is_survived(data in "((frags|limit|mincount|resall|addr\\.[0-9]{1,2}|last\\.0|recent)=[0-9a-fx.:]{0,12},){0,6}") {
            let mut answerer = answerer();
            let (_, nonce) = text(&ask(&mut answerer, &request(12, 0, ""), &[]));
            let bytes = request(10, 0, &format!("{data}nonce={}", value(&nonce, "nonce")));
            let _ = ask(&mut answerer, &bytes, &clients(50));
        }
    }
}

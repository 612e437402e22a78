//! A request in, a verdict out: who may ask, what is asked, what is said. The
//! order of the tests is ntpd's, and each has a name
//! ([`Reason`]). Who asks with a MAC (RFC 5905 section 7.3) is answered with one by the
//! same key; who asks without costs no more than if there were no keys.
//!
//! Follows RFC 5905 section 9.2 (`receive`, `fast_xmit`), with interleaved mode
//! (RFC 9769) for version 4 clients. Nothing is remembered of who asked but what
//! rate limits and interleaved mode need: a symmetric active peer gets a
//! symmetric passive reply and no association, as from ntpd to a peer it has not
//! authenticated, so `nopeer` and `noepeer` have nothing left to forbid.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::dice::Dice;
use crate::server::access::AccessTable;
use crate::server::interleave::{
    InterleaveTable, TxToken, is_marked_receive, mark_receive, mark_transmit,
};
use crate::server::rate::{Headway, RateTable};
use crate::server::recent::RecentTable;
use crate::server::rule::{Flags, RateLimit};
use crate::server::verdict::{Reason, ReplyKind, Verdict};
use crate::system::SystemState;
use crate::time::instant::{MonoInstant, WallInstant};
use crate::time::timestamp::{NtpShort, NtpTimestamp};
use crate::wire::key::{ID_LEN, Key, KeyTable};
use crate::wire::packet::{HEADER_LEN, Header, Leap, Mode, PACKET_LEN_MAX, Packet};
use crate::wire::refid::KissCode;
use crate::wire::trailer::Trailer;

/// The version we speak; replies echo the request's.
const VERSION_CURRENT: u8 = 4;
/// Octets of a crypto-NAK: key identifier zero, no digest.
const CRYPTO_NAK_LEN: usize = ID_LEN;
/// `flake` drops one packet in so many.
const FLAKE_ONE_IN: u32 = 10;

/// What the operator wants. Replaced whole when it changes.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Who may do what.
    pub access: AccessTable,
    /// What `limited` means.
    pub rate_limit: RateLimit,
    /// By which requests may be signed.
    pub keys: Arc<KeyTable>,
    /// What those get whose MAC is wrong.
    pub bad_mac: BadMac,
}

/// What becomes of a request whose MAC we can't verify.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum BadMac {
    /// It gets a crypto-NAK, as from ntpd (RFC 5905 section 9.2).
    #[default]
    Refused,
    /// It gets nothing, as from chronyd.
    Ignored,
}

/// A datagram as it came.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The UDP payload.
    pub bytes: &'a [u8],
    /// The sender.
    pub from: SocketAddr,
    /// Was it sent to a broadcast or multicast address?
    pub group: bool,
    /// T2, on the clock we serve.
    pub received: WallInstant,
}

/// How many clients are remembered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sizes {
    /// Clients of the interleaved mode; [`CLIENT_LEN`](crate::server::interleave::CLIENT_LEN)
    /// octets each. The replies to others are basic ones.
    pub interleaved: usize,
    /// For rate limits: clients that ask within the average headway (8 s);
    /// [`CLIENT_LEN`](crate::server::rate::CLIENT_LEN) octets each. Others are not limited.
    pub limited: usize,
}

impl Sizes {
    /// What each of `workers` has to remember, who share the clients between them.
    pub fn shared_by(self, workers: usize) -> Self {
        Self {
            interleaved: self.interleaved.div_ceil(workers.max(1)),
            limited: self.limited.div_ceil(workers.max(1)),
        }
    }
}

impl Default for Sizes {
    /// 4.5 MiB, and 16 MiB: enough for 130,000 requests a second. Memory that no
    /// client needed yet is not taken from the system.
    fn default() -> Self {
        Self {
            interleaved: 1 << 17,
            limited: 1 << 20,
        }
    }
}

/// The memory of one worker; everything is allocated when it is made.
#[derive(Clone, Debug)]
pub struct Responder {
    rates: RateTable,
    interleaved: InterleaveTable,
    dice: Dice,
    recent: Option<Arc<RecentTable>>,
}

impl Responder {
    /// `seed` should be unguessable and differ between workers; the same seed
    /// and packets give the same verdicts.
    pub fn new(seed: u64, sizes: Sizes) -> Self {
        let mut dice = Dice::new(seed);
        Self {
            rates: RateTable::new(sizes.limited, dice.roll()),
            interleaved: InterleaveTable::new(sizes.interleaved, dice.roll()),
            dice,
            recent: None,
        }
    }

    /// Who asks is noted there. Nobody else may write into it.
    pub fn remember(&mut self, recent: Arc<RecentTable>) {
        self.recent = Some(recent);
    }

    /// Judges `request` and writes the reply, if it gets one, to the front of
    /// `out`. A reply is never longer than the request. The transmit stamp of a
    /// kind that [`wants_transmit`](ReplyKind::wants_transmit) is for the caller to
    /// write with [`complete`], as late as possible; until then it equals T2, and a MAC
    /// is zero.
    pub fn respond(
        &mut self,
        policy: &Policy,
        state: &SystemState,
        request: &Request,
        now: MonoInstant,
        out: &mut [u8; PACKET_LEN_MAX],
    ) -> Verdict {
        let verdict = self.judge(policy, state, request, now, out);
        if let (Some(recent), Some(&first)) = (&self.recent, request.bytes.first()) {
            recent.note(request.from, first, request.received, &verdict);
        }
        verdict
    }

    fn judge(
        &mut self,
        policy: &Policy,
        state: &SystemState,
        request: &Request,
        now: MonoInstant,
        out: &mut [u8; PACKET_LEN_MAX],
    ) -> Verdict {
        let asked = match self.admit(policy, request, now) {
            Ok(asked) => asked,
            Err(reason) => return Verdict::Drop(reason),
        };
        let (header, rest) = out.split_at_mut(HEADER_LEN);
        let header: &mut [u8; HEADER_LEN] = header.try_into().expect("just cut so");
        match asked.demand {
            Demand::Kiss => {
                kiss(&asked, state, policy.rate_limit).emit(header);
                Verdict::Reply {
                    len: HEADER_LEN + sign(asked.signature, header, rest),
                    kind: ReplyKind::Kiss,
                    track: None,
                }
            }
            Demand::UnknownKey => {
                time(&asked, state, request).emit(header);
                rest[..CRYPTO_NAK_LEN].fill(0);
                Verdict::Reply {
                    len: HEADER_LEN + CRYPTO_NAK_LEN,
                    kind: ReplyKind::CryptoNak,
                    track: None,
                }
            }
            Demand::Time => {
                let mut reply = time(&asked, state, request);
                let (mut kind, mut track) = (ReplyKind::Basic, None);
                if wants_interleaved(&asked) {
                    let (client, origin) = (request.from.ip(), asked.packet.origin());
                    let turn = self.interleaved.turn(client, origin, request.received);
                    reply.receive = turn.receive;
                    if let Some(previous) = turn.previous {
                        reply.origin = asked.packet.receive();
                        reply.transmit = previous;
                        kind = ReplyKind::Interleaved;
                    }
                    track = turn.token;
                }
                reply.emit(header);
                let mac_len = match kind {
                    // T3 is not yet known: `complete` signs.
                    ReplyKind::Basic => announce(asked.signature, rest),
                    _ => sign(asked.signature, header, rest),
                };
                Verdict::Reply {
                    len: HEADER_LEN + mac_len,
                    kind,
                    track,
                }
            }
        }
    }

    /// The reply of `token` left at `at`, on the clock that took T2. May be told
    /// again when a better stamp is known.
    pub fn departed(&mut self, token: TxToken, at: WallInstant) {
        self.interleaved.departed(token, at);
    }

    /// The served clock was stepped: stamps taken before mean nothing now.
    pub fn clock_stepped(&mut self) {
        self.interleaved.forget();
    }

    /// The tests, in ntpd's order.
    fn admit<'a>(
        &mut self,
        policy: &'a Policy,
        request: &Request<'a>,
        now: MonoInstant,
    ) -> Result<Asked<'a>, Reason> {
        let from = request.from;
        // One packet that all hosts and workers answer would be a flood on order.
        if request.group {
            return Err(Reason::Group);
        }
        if from.port() == 0 || !is_somebody(from.ip()) {
            return Err(Reason::BadSource);
        }
        let flags = policy.access.lookup(from.ip(), from.port());
        if flags.contains(Flags::IGNORE) {
            return Err(Reason::Ignore);
        }
        // Control messages may be shorter than a time packet's header.
        let first = *request.bytes.first().ok_or(Reason::BadLength)?;
        match Mode::from_bits(first) {
            Mode::Control | Mode::Private if flags.contains(Flags::NOQUERY) => {
                return Err(Reason::Noquery);
            }
            Mode::Control => return Err(Reason::Control),
            Mode::Private => return Err(Reason::Private),
            _ => {}
        }
        if request.bytes.len() > PACKET_LEN_MAX {
            return Err(Reason::BadLength);
        }
        let packet = Packet::new(request.bytes).ok_or(Reason::BadLength)?;
        if flags.intersects(Flags::NOSERVE | Flags::NOCLIENT) {
            return Err(Reason::Noserve);
        }
        if flags.contains(Flags::FLAKE) && self.dice.one_in(FLAKE_ONE_IN) {
            return Err(Reason::Flake);
        }
        match packet.version() {
            VERSION_CURRENT => {}
            1..VERSION_CURRENT if flags.contains(Flags::VERSION) => return Err(Reason::Version),
            1..VERSION_CURRENT => {}
            _ => return Err(Reason::BadVersion),
        }
        let reply_mode = match packet.mode() {
            Mode::Client => Mode::Server,
            Mode::SymmetricActive => Mode::SymmetricPassive,
            // Version 1 had no mode; ports told who asks (RFC 1059 section 3.3).
            Mode::Reserved if packet.version() == 1 && from.port() != 123 => Mode::Server,
            _ => return Err(Reason::BadMode),
        };
        let trailer = Trailer::parse(packet.version(), packet.trailer())
            .map_err(|_malformed| Reason::BadTrailer)?;
        let signature = trailer.mac.and_then(|mac| {
            let signed_len = request.bytes.len() - ID_LEN - mac.digest.len();
            let (signed, mac_bytes) = request.bytes.split_at(signed_len);
            let key = policy.keys.get(mac.key_id)?;
            let len = mac_bytes.len();
            key.verifies(signed, mac_bytes)
                .then_some(Signature { key, len })
        });
        if flags.contains(Flags::NOTRUST) && signature.is_none() {
            return Err(Reason::Notrust);
        }
        let mut demand = match (trailer.mac, signature) {
            (None, _) | (Some(_), Some(_)) => Demand::Time,
            (Some(mac), None) if mac.digest.is_empty() => return Err(Reason::NakRequest),
            (Some(_), None) if policy.bad_mac == BadMac::Ignored => return Err(Reason::BadMac),
            (Some(_), None) => Demand::UnknownKey,
        };
        if flags.contains(Flags::LIMITED) {
            match self.rates.judge(from.ip(), now, policy.rate_limit) {
                Headway::Enough => {}
                Headway::TooSoonAndDue if flags.contains(Flags::KOD) => demand = Demand::Kiss,
                Headway::TooSoonAndDue | Headway::TooSoon => return Err(Reason::Limited),
            }
        }
        Ok(Asked {
            packet,
            reply_mode,
            demand,
            signature,
        })
    }
}

/// The time, in basic mode.
fn time(asked: &Asked, state: &SystemState, request: &Request) -> Header {
    Header {
        version: asked.packet.version(),
        poll: asked.packet.poll(),
        origin: asked.packet.transmit(),
        receive: mark_receive(request.received),
        transmit: mark_transmit(request.received),
        ..state.header(asked.reply_mode, request.received)
    }
}

/// Writes T3 into a reply of a kind that [`wants_transmit`](ReplyKind::wants_transmit):
/// `at` is the served clock just before the reply is sent. Does nothing to
/// anything shorter than a header.
pub fn set_transmit(out: &mut [u8], at: WallInstant) {
    if let Some(field) = out.get_mut(HEADER_LEN - 8..HEADER_LEN) {
        field.copy_from_slice(&mark_transmit(at).bits().to_be_bytes());
    }
}

/// Makes a reply of a kind that [`wants_transmit`](ReplyKind::wants_transmit) ready to
/// be sent, all `out` of it: writes T3 as [`set_transmit`] does, and if it goes to who asked with a
/// MAC, signs it. A MAC stays zero, and nobody believes it, if its key is gone since.
pub fn complete(keys: &KeyTable, out: &mut [u8], at: WallInstant) {
    set_transmit(out, at);
    if let Some((header, mac)) = out.split_first_chunk_mut::<HEADER_LEN>()
        && mac.len() > CRYPTO_NAK_LEN
        && let Some(id) = mac.first_chunk()
        && let Some(key) = keys.get(u32::from_be_bytes(*id))
        // An extension field is as long as no MAC.
        && key.may_be_as_long(mac.len())
    {
        key.fill(header, mac);
    }
}

/// Writes the MAC of `header` to the front of `rest`; says how long it is.
fn sign(by: Option<Signature<'_>>, header: &[u8; HEADER_LEN], rest: &mut [u8]) -> usize {
    let Some(Signature { key, len }) = by else {
        return 0;
    };
    key.fill(header, &mut rest[..len]);
    len
}

/// As [`sign`], of what is not yet known: all but the number of the key is zero.
fn announce(by: Option<Signature<'_>>, rest: &mut [u8]) -> usize {
    let Some(Signature { key, len }) = by else {
        return 0;
    };
    rest[..ID_LEN].copy_from_slice(&key.id().to_be_bytes());
    rest[ID_LEN..len].fill(0);
    len
}

/// A request that deserves a reply.
struct Asked<'a> {
    packet: Packet<'a>,
    reply_mode: Mode,
    demand: Demand,
    /// How it was signed, and the reply will be; none: it was not.
    signature: Option<Signature<'a>>,
}

/// A MAC that was verified.
#[derive(Clone, Copy)]
struct Signature<'a> {
    key: &'a Key,
    /// Octets of it, key identifier included: cut, or in old versions whole.
    len: usize,
}

/// What the reply has to say.
enum Demand {
    Time,
    /// The time without authentication, and that the MAC did not verify.
    UnknownKey,
    /// Ask less.
    Kiss,
}

/// Is it a request as the interleaved mode forms them? RFC 9769 section 2: the
/// origin is one of our receive stamps, and the client's own two stamps differ.
fn wants_interleaved(asked: &Asked) -> bool {
    let packet = &asked.packet;
    packet.version() == VERSION_CURRENT
        && packet.mode() == Mode::Client
        && is_marked_receive(packet.origin())
        && packet.receive() != packet.transmit()
}

/// KoD RATE (RFC 5905 section 7.4). Like ntpd's it tells nothing of our time:
/// all stamps are the client's own.
fn kiss(asked: &Asked, state: &SystemState, limit: RateLimit) -> Header {
    let theirs = asked.packet.transmit();
    Header {
        leap: Leap::Unknown,
        version: asked.packet.version(),
        mode: asked.reply_mode,
        stratum: 0,
        poll: asked.packet.poll().max(limit.poll()),
        precision: state.precision,
        root_delay: NtpShort::default(),
        root_dispersion: NtpShort::default(),
        refid: KissCode::Rate.to_refid(),
        reference: NtpTimestamp::ZERO,
        origin: theirs,
        receive: theirs,
        transmit: theirs,
    }
}

/// Can a reply to this address reach one host?
fn is_somebody(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => !(v4.is_multicast() || v4.is_broadcast() || v4.is_unspecified()),
        IpAddr::V6(v6) => !(v6.is_multicast() || v6.is_unspecified()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::rule::{Prefix, Rule, Who};
    use crate::time::duration::NtpDuration;
    use crate::time::units::{Ppm, Precision};
    use crate::wire::key::{KeyKind, MAC_LEN_MAX, Message};
    use crate::wire::refid::RefId;
    use proptest::prelude::*;

    /// Some time in 2027.
    const T2: WallInstant = WallInstant::from_unix_ns(1_800_000_000_123_456_789);

    fn from(address: &str) -> SocketAddr {
        address.parse().expect("an address and a port")
    }

    fn client() -> SocketAddr {
        from("192.0.2.7:40000")
    }

    fn state() -> SystemState {
        SystemState {
            leap: Leap::Insert,
            stratum: 3,
            refid: RefId::from_bytes([198, 51, 100, 1]),
            reference: T2 - NtpDuration::from_whole_seconds(100),
            root_delay: NtpDuration::from_nanos(2_000_000),
            root_dispersion: NtpDuration::from_nanos(1_000_000),
            dispersion_rate: Ppm(15.0),
            updated: T2 - NtpDuration::from_whole_seconds(100),
            ..SystemState::unsynchronised(Precision::new(-23))
        }
    }

    fn policy(flags: Flags) -> Policy {
        let everyone = |prefix| Who::Block {
            prefix,
            ntpport: false,
        };
        Policy {
            access: AccessTable::compile(
                &[
                    Rule::Restrict(everyone(Prefix::ALL_V4), flags),
                    Rule::Restrict(everyone(Prefix::ALL_V6), flags),
                ],
                &[],
            ),
            rate_limit: RateLimit::default(),
            ..Policy::default()
        }
    }

    fn request() -> Header {
        Header {
            leap: Leap::None,
            version: 4,
            mode: Mode::Client,
            stratum: 0,
            poll: 6,
            precision: Precision::new(32),
            root_delay: NtpShort::default(),
            root_dispersion: NtpShort::default(),
            refid: RefId::default(),
            reference: NtpTimestamp::ZERO,
            origin: NtpTimestamp::ZERO,
            receive: NtpTimestamp::ZERO,
            transmit: NtpTimestamp::from_bits(0x0123_4567_89ab_cdef),
        }
    }

    /// A server, its rules and a clock that the test moves.
    struct Server {
        responder: Responder,
        policy: Policy,
        state: SystemState,
        now: MonoInstant,
        received: WallInstant,
        out: [u8; PACKET_LEN_MAX],
    }

    impl Server {
        fn new(flags: Flags) -> Self {
            Self {
                responder: Responder::new(
                    42,
                    Sizes {
                        limited: 64,
                        interleaved: 64,
                    },
                ),
                policy: policy(flags),
                state: state(),
                now: MonoInstant::ZERO,
                received: T2,
                out: [0xee; PACKET_LEN_MAX],
            }
        }

        fn wait(&mut self, seconds: f64) {
            let time = NtpDuration::from_seconds(seconds);
            self.now = self.now + time;
            self.received = self.received + time;
        }

        fn ask(&mut self, bytes: &[u8], from: SocketAddr) -> Verdict {
            let request = Request {
                bytes,
                from,
                group: false,
                received: self.received,
            };
            let verdict = self.responder.respond(
                &self.policy,
                &self.state,
                &request,
                self.now,
                &mut self.out,
            );
            if let Verdict::Reply { len, .. } = verdict {
                assert!(len <= bytes.len());
            }
            verdict
        }

        fn ask_header(&mut self, header: &Header) -> Verdict {
            self.ask(&header.to_bytes(), client())
        }

        fn reply(&self) -> Packet<'_> {
            Packet::new(&self.out[..HEADER_LEN]).expect("long enough")
        }
    }

    fn basic() -> Verdict {
        Verdict::Reply {
            len: HEADER_LEN,
            kind: ReplyKind::Basic,
            track: None,
        }
    }

    fn kind(verdict: Verdict) -> Option<ReplyKind> {
        match verdict {
            Verdict::Reply { kind, .. } => Some(kind),
            Verdict::Drop(_) => None,
        }
    }

    /// The flags decide about a plain client request, and about nothing else's.
    fn verdict_under(flags: Flags) -> Verdict {
        Server::new(flags).ask_header(&request())
    }

    #[test]
    fn a_client_gets_the_time() {
        let mut server = Server::new(Flags::NONE);
        assert_eq!(server.ask_header(&request()), basic());
        let t3 = T2 + NtpDuration::from_nanos(20_000);
        set_transmit(&mut server.out, t3);
        let (reply, state) = (server.reply(), state());
        assert_eq!(
            (reply.version(), reply.mode(), reply.leap()),
            (4, Mode::Server, Leap::Insert)
        );
        assert_eq!((reply.stratum(), reply.poll()), (3, 6));
        assert_eq!(reply.precision(), state.precision);
        assert_eq!(reply.refid(), state.refid);
        assert_eq!(
            reply.root_delay(),
            NtpShort::from_duration(state.root_delay)
        );
        // 1 ms, and 100 s at 15 ppm.
        assert_eq!(
            reply.root_dispersion(),
            NtpShort::from_duration(NtpDuration::from_nanos(2_500_000))
        );
        assert_eq!(reply.reference(), NtpTimestamp::from_wall(state.reference));
        assert_eq!(reply.origin(), request().transmit);
        assert_eq!(reply.receive(), mark_receive(T2));
        assert_eq!(reply.transmit(), mark_transmit(t3));
    }

    #[test]
    fn unsynchronised_is_said_in_leap_and_stratum() {
        let mut server = Server::new(Flags::NONE);
        server.state = SystemState::unsynchronised(Precision::new(-20));
        assert_eq!(server.ask_header(&request()), basic());
        let reply = server.reply();
        assert_eq!((reply.leap(), reply.stratum()), (Leap::Unknown, 0));
        assert_eq!(reply.refid(), RefId::INIT);
        assert!(reply.reference().is_zero());
        assert_eq!(reply.receive(), mark_receive(T2));
    }

    #[test]
    fn versions_one_to_four_are_echoed() {
        for version in 0..8 {
            let mut server = Server::new(Flags::NONE);
            let asked = Header {
                version,
                ..request()
            };
            let verdict = server.ask_header(&asked);
            if (1..=4).contains(&version) {
                assert_eq!(verdict, basic());
                assert_eq!(server.reply().version(), version);
            } else {
                assert_eq!(verdict, Verdict::Drop(Reason::BadVersion));
            }
        }
    }

    #[test]
    fn version_one_tells_its_mode_by_ports() {
        let mut server = Server::new(Flags::NONE);
        let old = Header {
            version: 1,
            mode: Mode::Reserved,
            ..request()
        };
        assert_eq!(server.ask_header(&old), basic());
        assert_eq!(server.reply().mode(), Mode::Server);
        assert_eq!(
            server.ask(&old.to_bytes(), from("192.0.2.7:123")),
            Verdict::Drop(Reason::BadMode)
        );
        let new = Header { version: 4, ..old };
        assert_eq!(server.ask_header(&new), Verdict::Drop(Reason::BadMode));
    }

    #[test]
    fn only_questions_are_answered() {
        let verdicts = [0, 1, 2, 3, 4, 5, 6, 7].map(|mode| {
            let asked = Header {
                mode: Mode::from_bits(mode),
                ..request()
            };
            Server::new(Flags::NONE).ask_header(&asked)
        });
        assert_eq!(
            verdicts,
            [
                Verdict::Drop(Reason::BadMode),
                basic(),
                Verdict::Drop(Reason::BadMode),
                basic(),
                Verdict::Drop(Reason::BadMode),
                Verdict::Drop(Reason::BadMode),
                Verdict::Drop(Reason::Control),
                Verdict::Drop(Reason::Private),
            ]
        );
    }

    #[test]
    fn a_symmetric_active_peer_gets_a_passive_reply() {
        let mut server = Server::new(Flags::NOPEER | Flags::NOEPEER);
        let asked = Header {
            mode: Mode::SymmetricActive,
            ..request()
        };
        let peer = from("[2001:db8::1]:123");
        assert_eq!(server.ask(&asked.to_bytes(), peer), basic());
        assert_eq!(server.reply().mode(), Mode::SymmetricPassive);
    }

    #[test]
    fn flags_that_do_not_concern_time_do_not_touch_it() {
        let harmless = [
            Flags::NOQUERY,
            Flags::NOMODIFY,
            Flags::NOMRULIST,
            Flags::NOTRAP,
            Flags::LOWPRIOTRAP,
            Flags::NOPEER,
            Flags::NOEPEER,
            Flags::VERSION,
            Flags::MSSNTP,
            Flags::LIMITED,
            Flags::KOD,
        ];
        for flag in harmless {
            assert_eq!(verdict_under(flag), basic(), "{flag}");
        }
    }

    #[test]
    fn ignore_noserve_and_notrust_drop_requests() {
        for (flag, reason) in [
            (Flags::IGNORE, Reason::Ignore),
            (Flags::NOSERVE, Reason::Noserve),
            (Flags::NOTRUST, Reason::Notrust),
        ] {
            assert_eq!(verdict_under(flag), Verdict::Drop(reason));
        }
    }

    #[test]
    fn noquery_is_for_control_messages_and_noserve_is_not() {
        // An ntpq request is shorter than a time packet.
        let control = [0x16, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        let private = [0x17, 0, 3, 42, 0, 0, 0, 0];
        for (flags, six, seven) in [
            (Flags::NOQUERY, Reason::Noquery, Reason::Noquery),
            (Flags::NOSERVE, Reason::Control, Reason::Private),
            (Flags::IGNORE, Reason::Ignore, Reason::Ignore),
        ] {
            let mut server = Server::new(flags);
            assert_eq!(server.ask(&control, client()), Verdict::Drop(six));
            assert_eq!(server.ask(&private, client()), Verdict::Drop(seven));
        }
    }

    #[test]
    fn version_drops_all_but_the_current_one() {
        let mut server = Server::new(Flags::VERSION);
        for version in 1..=3 {
            let asked = Header {
                version,
                ..request()
            };
            assert_eq!(server.ask_header(&asked), Verdict::Drop(Reason::Version));
        }
        assert_eq!(server.ask_header(&request()), basic());
    }

    #[test]
    fn flake_drops_one_in_ten() {
        let mut server = Server::new(Flags::FLAKE);
        let dropped = (0..10_000)
            .filter(|_| server.ask_header(&request()) == Verdict::Drop(Reason::Flake))
            .count();
        assert!((850..1150).contains(&dropped), "{dropped}");
    }

    #[test]
    fn limited_drops_in_silence_and_with_kod_says_so_once() {
        let mut silent = Server::new(Flags::LIMITED);
        let mut telling = Server::new(Flags::LIMITED | Flags::KOD);
        for server in [&mut silent, &mut telling] {
            assert_eq!(server.ask_header(&request()), basic());
            server.wait(0.1);
        }
        assert_eq!(
            silent.ask_header(&request()),
            Verdict::Drop(Reason::Limited)
        );
        assert_eq!(kind(telling.ask_header(&request())), Some(ReplyKind::Kiss));
        let kiss = telling.reply();
        assert_eq!(KissCode::from_refid(kiss.refid()), KissCode::Rate);
        assert_eq!((kiss.leap(), kiss.stratum()), (Leap::Unknown, 0));
        assert_eq!((kiss.mode(), kiss.poll()), (Mode::Server, 6));
        for stamp in [kiss.origin(), kiss.receive(), kiss.transmit()] {
            assert_eq!(stamp, request().transmit);
        }
        telling.wait(0.1);
        assert_eq!(
            telling.ask_header(&request()),
            Verdict::Drop(Reason::Limited)
        );
        assert_eq!(
            telling.ask(&request().to_bytes(), from("192.0.2.8:123")),
            basic(),
            "others are not limited"
        );
    }

    #[test]
    fn ntpport_rules_look_at_the_source_port() {
        let mut server = Server::new(Flags::NOSERVE);
        server.policy.access = AccessTable::compile(
            &[
                Rule::Restrict(
                    Who::Block {
                        prefix: Prefix::ALL_V4,
                        ntpport: false,
                    },
                    Flags::NOSERVE,
                ),
                Rule::Restrict(
                    Who::Block {
                        prefix: Prefix::ALL_V4,
                        ntpport: true,
                    },
                    Flags::NONE,
                ),
            ],
            &[],
        );
        let bytes = request().to_bytes();
        assert_eq!(server.ask(&bytes, from("192.0.2.7:123")), basic());
        assert_eq!(
            server.ask(&bytes, from("192.0.2.7:124")),
            Verdict::Drop(Reason::Noserve)
        );
    }

    #[test]
    fn senders_that_are_nobody_get_nothing() {
        for sender in [
            "192.0.2.7:0",
            "224.0.1.1:123",
            "255.255.255.255:123",
            "0.0.0.0:123",
            "[ff02::101]:123",
            "[::]:123",
            "[::ffff:224.0.1.1]:123",
        ] {
            assert_eq!(
                Server::new(Flags::NONE).ask(&request().to_bytes(), from(sender)),
                Verdict::Drop(Reason::BadSource),
                "{sender}"
            );
        }
    }

    #[test]
    fn lengths_that_are_no_packet_are_dropped() {
        let mut server = Server::new(Flags::NONE);
        let mut bytes = [0; PACKET_LEN_MAX + 4];
        bytes[..HEADER_LEN].copy_from_slice(&request().to_bytes());
        for len in (0..HEADER_LEN).chain([PACKET_LEN_MAX + 4]) {
            assert_eq!(
                server.ask(&bytes[..len], client()),
                Verdict::Drop(Reason::BadLength)
            );
        }
    }

    #[test]
    fn trailers_decide_the_form_of_the_reply() {
        let with = |trailer: &[u8]| {
            let mut bytes = request().to_bytes().to_vec();
            bytes.extend(trailer);
            bytes
        };
        let mut field = [0; 28];
        field[..4].copy_from_slice(&[1, 4, 0, 28]);
        let mut server = Server::new(Flags::NONE);
        // Unknown fields are not echoed.
        assert_eq!(server.ask(&with(&field), client()), basic());
        for len in [8, 12, 16, 22, 27] {
            assert_eq!(
                server.ask(&with(&vec![0; len]), client()),
                Verdict::Drop(Reason::BadTrailer),
                "{len}"
            );
        }
        assert_eq!(
            server.ask(&with(&[0; 4]), client()),
            Verdict::Drop(Reason::NakRequest)
        );
        for mac_len in [20, 24] {
            server.out.fill(0xee);
            assert_eq!(
                server.ask(&with(&vec![7; mac_len]), client()),
                Verdict::Reply {
                    len: 52,
                    kind: ReplyKind::CryptoNak,
                    track: None
                }
            );
            assert_eq!(server.out[48..53], [0, 0, 0, 0, 0xee]);
            assert_eq!(server.reply().origin(), request().transmit);
        }
        let mut wary = Server::new(Flags::NOTRUST);
        assert_eq!(
            wary.ask(&with(&[7; 20]), client()),
            Verdict::Drop(Reason::Notrust)
        );
    }

    /// One key of each kind, numbered from 1.
    fn keys() -> KeyTable {
        let keys = KeyKind::ALL.into_iter().zip(1..).map(|(kind, id)| {
            let secret = [id as u8; 32];
            Key::new(id, kind, &secret[..kind.secret_len().unwrap_or(20)]).expect("a key")
        });
        KeyTable::new(keys.collect())
    }

    fn with_keys(flags: Flags) -> Server {
        let mut server = Server::new(flags);
        server.policy.keys = Arc::new(keys());
        server
    }

    #[test]
    fn who_signs_gets_a_reply_signed_with_the_same_key() {
        let mut server = with_keys(Flags::NOTRUST);
        for key in keys().iter() {
            let asked = Message::new(&request(), Some(key));
            server.out.fill(0xee);
            let verdict = server.ask(&asked, client());
            let len = HEADER_LEN + key.mac_len();
            let expected = Verdict::Reply {
                len,
                kind: ReplyKind::Basic,
                track: None,
            };
            assert_eq!(verdict, expected);
            assert_eq!(
                server.out[HEADER_LEN + ID_LEN..len],
                vec![0; len - HEADER_LEN - ID_LEN]
            );
            let sent = server.received + NtpDuration::from_nanos(20_000);
            complete(&server.policy.keys, &mut server.out[..len], sent);
            assert_eq!(server.reply().transmit(), mark_transmit(sent));
            let (header, mac) = server.out[..len].split_at(HEADER_LEN);
            assert!(key.verifies(header, mac), "{key:?}");
        }
        assert_eq!(
            server.ask_header(&request()),
            Verdict::Drop(Reason::Notrust)
        );
    }

    #[test]
    fn interleaved_replies_and_kisses_are_signed_as_well() {
        let mut server = with_keys(Flags::LIMITED | Flags::KOD);
        let keys = Arc::clone(&server.policy.keys);
        let key = keys.get(2).expect("a key");
        let mut asked = request();
        let mut kinds = Vec::new();
        for wait_s in [16.0, 16.0, 16.0, 0.0] {
            server.wait(wait_s);
            let verdict = server.ask(&Message::new(&asked, Some(key)), client());
            let Verdict::Reply { len, kind, track } = verdict else {
                panic!("{verdict:?}");
            };
            if kind.wants_transmit() {
                complete(&keys, &mut server.out[..len], server.received);
            }
            if let Some(token) = track {
                let left = server.received + NtpDuration::from_nanos(30_000);
                server.responder.departed(token, left);
            }
            let (header, mac) = server.out[..len].split_at(HEADER_LEN);
            assert!(key.verifies(header, mac), "{kind:?}");
            kinds.push(kind);
            asked.origin = server.reply().receive();
            asked.receive = NtpTimestamp::from_bits(77);
        }
        let (basic, interleaved) = (ReplyKind::Basic, ReplyKind::Interleaved);
        assert_eq!(kinds, [basic, basic, interleaved, ReplyKind::Kiss]);
    }

    #[test]
    fn a_wrong_mac_gets_a_crypto_nak_or_nothing() {
        let mut server = with_keys(Flags::NONE);
        let keys = Arc::clone(&server.policy.keys);
        let signed = Message::new(&request(), keys.get(1)).to_vec();
        let mut wrong = vec![signed.clone(); 3];
        wrong[0][60] ^= 1; // digest
        wrong[1][51] ^= 2; // another key's number
        wrong[2][51] = 99; // nobody's
        for bytes in &wrong {
            server.policy.bad_mac = BadMac::Refused;
            let Verdict::Reply { len: 52, kind, .. } = server.ask(bytes, client()) else {
                panic!("no crypto-NAK");
            };
            assert_eq!(kind, ReplyKind::CryptoNak);
            complete(&keys, &mut server.out[..52], server.received);
            assert_eq!(server.out[48..52], [0; 4]);
            server.policy.bad_mac = BadMac::Ignored;
            assert_eq!(server.ask(bytes, client()), Verdict::Drop(Reason::BadMac));
        }
        assert!(matches!(
            server.ask(&signed, client()),
            Verdict::Reply { .. }
        ));
    }

    #[test]
    fn a_mac_that_is_not_cut_gets_one_in_version_three() {
        let mut server = with_keys(Flags::NOTRUST);
        let keys = keys();
        let key = keys.get(5).expect("SHA-512");
        for (version, good) in [(3, true), (4, false)] {
            let header = Header {
                version,
                ..request()
            };
            let mut asked = [0; 48 + 68];
            asked[..48].copy_from_slice(&header.to_bytes());
            let (signed, mac) = asked.split_at_mut(48);
            key.fill(signed, mac);
            let verdict = server.ask(&asked, client());
            let Verdict::Reply { len: 116, .. } = verdict else {
                assert!(!good, "{verdict:?}");
                continue;
            };
            complete(&keys, &mut server.out[..116], server.received);
            assert!(good && key.verifies(&server.out[..48], &server.out[48..116]));
        }
    }

    #[test]
    fn extension_fields_are_under_the_mac() {
        let mut server = with_keys(Flags::NOTRUST);
        let keys = keys();
        let mut asked = request().to_bytes().to_vec();
        asked.extend([0x01, 0x04, 0, 28]);
        asked.extend([5; 24]);
        let mut mac = [0; MAC_LEN_MAX];
        let len = keys.get(3).expect("a key").sign(&asked, &mut mac);
        asked.extend(&mac[..len]);
        assert!(matches!(
            server.ask(&asked, client()),
            Verdict::Reply { .. }
        ));
        asked[60] ^= 1;
        assert_eq!(server.ask(&asked, client()), Verdict::Drop(Reason::Notrust));
    }

    #[test]
    fn a_key_that_went_away_signs_nothing() {
        let mut server = with_keys(Flags::NONE);
        let keys = Arc::clone(&server.policy.keys);
        let asked = Message::new(&request(), keys.get(1));
        let Verdict::Reply { len, .. } = server.ask(&asked, client()) else {
            panic!("no reply");
        };
        complete(
            &KeyTable::default(),
            &mut server.out[..len],
            server.received,
        );
        assert_eq!(server.out[52..len], vec![0; len - 52]);
    }

    /// What a client of interleaved mode keeps of one exchange.
    #[derive(Clone, Copy)]
    struct Exchange {
        receive: NtpTimestamp,
        arrived: NtpTimestamp,
        left: NtpTimestamp,
    }

    /// One exchange; the reply leaves 30 µs after T2.
    fn exchange(
        server: &mut Server,
        previous: Option<Exchange>,
        nonce: u64,
    ) -> (ReplyKind, Exchange) {
        server.wait(16.0);
        let asked = Header {
            origin: previous.map_or(NtpTimestamp::ZERO, |p| p.receive),
            receive: previous.map_or(NtpTimestamp::ZERO, |p| p.arrived),
            transmit: NtpTimestamp::from_bits(nonce),
            ..request()
        };
        let Verdict::Reply { kind, track, .. } = server.ask_header(&asked) else {
            panic!("no reply");
        };
        let left = server.received + NtpDuration::from_nanos(30_000);
        if let Some(token) = track {
            server.responder.departed(token, left);
        }
        let reply = server.reply();
        match kind {
            ReplyKind::Interleaved => {
                assert_eq!(reply.origin(), asked.receive);
                assert_eq!(reply.transmit(), previous.expect("sent its receive").left);
            }
            _ => assert_eq!(reply.origin(), asked.transmit),
        }
        assert_eq!(reply.receive(), mark_receive(server.received));
        assert_ne!(reply.receive(), reply.transmit());
        let done = Exchange {
            receive: reply.receive(),
            arrived: NtpTimestamp::from_bits(nonce + 1),
            left: mark_transmit(left),
        };
        (kind, done)
    }

    #[test]
    fn interleaved_from_the_third_reply_on() {
        let mut server = Server::new(Flags::NONE);
        let (mut kinds, mut previous) = (Vec::new(), None);
        for n in 0..6 {
            let (kind, done) = exchange(&mut server, previous, 1000 + n * 10);
            kinds.push(kind);
            previous = Some(done);
        }
        assert_eq!(kinds[..2], [ReplyKind::Basic; 2]);
        assert_eq!(kinds[2..], [ReplyKind::Interleaved; 4]);
    }

    #[test]
    fn a_lost_reply_costs_one_basic_exchange() {
        let mut server = Server::new(Flags::NONE);
        let (_, first) = exchange(&mut server, None, 10);
        let (_, second) = exchange(&mut server, Some(first), 20);
        let (lost, _) = exchange(&mut server, Some(second), 30);
        assert_eq!(lost, ReplyKind::Interleaved);
        let (kind, fourth) = exchange(&mut server, Some(second), 40);
        assert_eq!(kind, ReplyKind::Basic, "its stamp was told already");
        let (kind, _) = exchange(&mut server, Some(fourth), 50);
        assert_eq!(kind, ReplyKind::Interleaved);
    }

    #[test]
    fn a_reply_whose_departure_is_unknown_is_not_interleaved() {
        let mut server = Server::new(Flags::NONE);
        let mut asked = Header {
            origin: mark_receive(T2),
            receive: NtpTimestamp::from_bits(7),
            ..request()
        };
        for _ in 0..4 {
            server.wait(1.0);
            assert_eq!(kind(server.ask_header(&asked)), Some(ReplyKind::Basic));
            asked.origin = server.reply().receive();
        }
    }

    #[test]
    fn a_step_of_the_clock_begins_anew() {
        let mut server = Server::new(Flags::NONE);
        let (_, first) = exchange(&mut server, None, 10);
        let (_, second) = exchange(&mut server, Some(first), 20);
        server.responder.clock_stepped();
        let (kind, third) = exchange(&mut server, Some(second), 30);
        assert_eq!(kind, ReplyKind::Basic);
        let (kind, _) = exchange(&mut server, Some(third), 40);
        assert_eq!(kind, ReplyKind::Interleaved);
    }

    #[test]
    fn basic_clients_are_not_remembered() {
        let mut server = Server::new(Flags::NONE);
        assert_eq!(server.ask_header(&request()), basic());
        // RFC 5905: origin is the transmit stamp of the last reply.
        let asked = Header {
            origin: server.reply().transmit(),
            receive: NtpTimestamp::from_bits(99),
            ..request()
        };
        assert_eq!(server.ask_header(&asked), basic());
        // Equal stamps, an older version, or a peer: not the client's interleaved mode.
        let marked = Header {
            origin: server.reply().receive(),
            ..asked
        };
        for asked in [
            Header {
                receive: marked.transmit,
                ..marked
            },
            Header {
                version: 3,
                ..marked
            },
            Header {
                mode: Mode::SymmetricActive,
                ..marked
            },
        ] {
            assert_eq!(server.ask_header(&asked), basic());
        }
    }

    #[test]
    fn era_rollover() {
        // 2036-02-07 06:28:16 UTC, when the seconds become zero.
        let era_1 = WallInstant::from_unix_ns(2_085_978_496 * 1_000_000_000);
        let mut server = Server::new(Flags::NONE);
        server.received = era_1 - NtpDuration::from_whole_seconds(32);
        server.state.updated = server.received;
        let (mut kinds, mut previous) = (Vec::new(), None);
        for n in 0..6 {
            let (kind, done) = exchange(&mut server, previous, 1000 + n * 10);
            assert!(!done.receive.is_zero() && !done.left.is_zero());
            kinds.push(kind);
            previous = Some(done);
        }
        assert_eq!(kinds[2..], [ReplyKind::Interleaved; 4]);
        set_transmit(&mut server.out, era_1);
        assert!(!server.reply().transmit().is_zero());
    }

    #[test]
    fn set_transmit_leaves_stumps_alone() {
        let mut stump = [0xee; HEADER_LEN - 1];
        set_transmit(&mut stump, T2);
        assert_eq!(stump, [0xee; HEADER_LEN - 1]);
    }

    proptest! {
        #[test]
        fn no_bytes_get_a_longer_reply_or_a_panic(
            mut bytes in prop::collection::vec(any::<u8>(), 0..2049),
            head in prop::option::of(prop::sample::select(vec![0x1b, 0x23, 0x13, 0x0b, 0x21, 0x08_u8])),
            flags in any::<u16>(),
            port in any::<u16>(),
            unix_ns in any::<i64>(),
        ) {
            if let (Some(head), Some(first)) = (head, bytes.first_mut()) {
                *first = head;
            }
            // Half the time let it come past the flags that drop everything.
            let open = Flags::LIMITED | Flags::KOD | Flags::NOPEER;
            let flags = Flags::from_bits(if head.is_some() { open.bits() } else { flags });
            let mut server = Server::new(flags);
            server.received = WallInstant::from_unix_ns(unix_ns);
            for _ in 0..3 {
                // `ask` holds the length against the request's.
                if let Verdict::Reply { len, track, .. } = server.ask(&bytes, SocketAddr::new(client().ip(), port)) {
                    prop_assert!(len >= HEADER_LEN);
                    set_transmit(&mut server.out[..len], server.received);
                    if let Some(token) = track {
                        server.responder.departed(token, server.received);
                    }
                }
            }
        }

        #[test]
        fn mutated_requests_are_survived(
            at in prop::collection::vec((0_usize..100, any::<u8>()), 0..6),
            len in 0_usize..100,
        ) {
            let mut bytes = [0; 100];
            bytes[..HEADER_LEN].copy_from_slice(&request().to_bytes());
            bytes[48..52].copy_from_slice(&[1, 4, 0, 28]);
            for (at, octet) in at {
                bytes[at] = octet;
            }
            let mut server = with_keys(Flags::NONE);
            let _ = server.ask(&bytes[..len], client());
        }

        /// Whatever follows the header, nobody is taken for somebody with a key.
        #[test]
        fn trailers_of_strangers_are_not_believed(
            mut trailer in prop::collection::vec(any::<u8>(), 1..200),
            id in 0_u32..9,
            version in 1_u8..=4,
        ) {
            let at = trailer.len().saturating_sub(24);
            if let Some(number) = trailer.get_mut(at..at + 4) {
                number.copy_from_slice(&id.to_be_bytes());
            }
            let mut server = with_keys(Flags::NOTRUST);
            let mut bytes = Header { version, ..request() }.to_bytes().to_vec();
            bytes.extend(trailer);
            prop_assert!(matches!(server.ask(&bytes, client()), Verdict::Drop(_)));
        }
    }
}

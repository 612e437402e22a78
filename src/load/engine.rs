//! One thread's part of a measurement: says what to send when, and takes what comes
//! back. First station of a request's way, and the last of its answer's.
//!
//! Clients take turns, in an order in which each comes once before any comes again.
//! Those that want interleaved answers (RFC 9769 section 2) return, as origin, the
//! T2 of the last answer they got, as chronyd does.

use std::num::NonZeroU32;

use crate::load::book::{Book, Entry, Found};
use crate::load::cookie::{Cookies, Field};
use crate::load::mix::Ask;
use crate::load::schedule::{Pace, Schedule};
use crate::load::stamps::unix_ns;
use crate::load::tally::{INTERVALS, Interval, Invalid, LATE_NS, Tally};
use crate::time::timestamp::{NtpShort, NtpTimestamp};
use crate::time::units::Precision;
use crate::wire::key::{MAC_LEN_MAX, is_crypto_nak};
use crate::wire::packet::{HEADER_LEN, Header, Leap, Mode, Packet, STRATUM_MAX};
use crate::wire::refid::RefId;

/// Octets of the longest request.
pub const REQUEST_LEN_MAX: usize = HEADER_LEN + MAC_LEN_MAX;
/// Requests under way that are remembered in a closed loop, where the rate is not
/// known beforehand: at two million a second of all threads, half a second's.
const BOOK_LEN_CLOSED: usize = 1 << 20;
/// The least that a thread of many remembers.
const BOOK_LEN_CLOSED_MIN: usize = 1 << 16;
/// The most that is remembered at all (some 200 MB).
const BOOK_LEN_MAX: usize = 1 << 22;

/// Who asks what, for as long as the engine lives.
#[derive(Clone, Debug)]
pub struct Setup {
    /// What they ask for.
    pub ask: Ask,
    /// The first of this engine's clients: others have those before.
    pub first_client: u32,
    /// How many are this engine's.
    pub clients: NonZeroU32,
    /// So many engines, this one among them, share the load.
    pub engines: NonZeroU32,
    /// So many requests of one client follow each other, which saves system calls
    /// where each client has a socket.
    pub run: u32,
    /// Every how many requests one is to be stamped as it departs.
    pub stamp_every: u32,
    /// So many requests leave together.
    pub burst: NonZeroU32,
    /// How long to wait for an answer.
    pub patience_ns: i64,
    /// Unguessable.
    pub key: u128,
}

/// A request to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    /// Names it.
    pub sequence: u64,
    /// Who sends it.
    pub client: u32,
    /// Octets of it.
    pub len: usize,
    /// Its departure is to be stamped.
    pub stamped: bool,
}

/// What a client that asks for interleaved answers remembers of the last one.
#[derive(Clone, Copy, Debug, Default)]
struct Memory {
    /// T2 of the last answer; zero if there was none.
    receive: NtpTimestamp,
    /// When that arrived, CLOCK_REALTIME.
    arrival_ns: i64,
    /// A request has spoken of it: servers tell of a departure once, so that another
    /// one (sent before the next answer came) can't get it.
    used: bool,
}

/// See the top of the file.
#[derive(Debug)]
pub struct Engine {
    setup: Setup,
    cookies: Cookies,
    book: Book,
    /// Of each client, if any asks for interleaved answers.
    memories: Vec<Memory>,
    /// From client to client; without a common divisor with their number.
    stride: u64,
    schedule: Schedule,
    /// Position of the measurement's first request.
    first: u64,
    /// Requests that the kernel did not take.
    refused: u64,
    tally: Tally,
}

impl Engine {
    /// No measurement yet.
    pub fn new(setup: Setup) -> Self {
        let clients = setup.clients.get();
        let memories = match setup.ask.mix.is_interleaved() {
            true => vec![Memory::default(); clients as usize],
            false => Vec::new(),
        };
        Self {
            cookies: Cookies::new(setup.key),
            book: Book::new(1),
            memories,
            stride: stride(clients),
            schedule: Schedule::new(Pace::Closed { outstanding: 0 }, 0, 0),
            first: 1,
            refused: 0,
            tally: Tally::new(0),
            setup,
        }
    }

    /// Makes room for a measurement, which takes a moment at high rates; one before must
    /// have been [finished](Self::finish).
    pub fn reserve(&mut self, pace: Pace) {
        let capacity = match pace {
            Pace::Open { rate } => {
                // Half as much again: a late generator catches up in a hurry.
                (rate * 1.5e-9 * self.setup.patience_ns as f64) as usize + 4096
            }
            Pace::Closed { .. } => {
                let part = BOOK_LEN_CLOSED / self.setup.engines.get() as usize;
                part.max(BOOK_LEN_CLOSED_MIN)
            }
        };
        self.book.reserve(capacity.min(BOOK_LEN_MAX));
    }

    /// Begins a measurement; one before must have been [finished](Self::finish).
    pub fn begin(&mut self, pace: Pace, start_ns: i64, length_ns: i64) {
        self.reserve(pace);
        self.first = self.book.next();
        self.refused = 0;
        self.schedule = Schedule::new(pace, start_ns, length_ns).in_bursts(self.setup.burst);
        self.tally = Tally::new(length_ns);
    }

    /// The next request that is due, written to `out`. To be called until `None`, or
    /// until a batch is full.
    pub fn request(&mut self, now_ns: i64, out: &mut [u8; REQUEST_LEN_MAX]) -> Option<Request> {
        let n = self.book.next() - self.first;
        let intended_ns = self.schedule.due(n, self.book.waiting(), now_ns)?;
        let sequence = self.book.next();
        let turn = n / u64::from(self.setup.run.max(1));
        let place = (turn.wrapping_mul(self.stride) % u64::from(self.setup.clients.get())) as u32;
        let client = self.setup.first_client + place;
        let kind = self.setup.ask.mix.kind_of(client);
        let memory = match kind.interleaved {
            true => self.memories[place as usize],
            false => Memory::default(),
        };
        let interleaved = !memory.receive.is_zero();
        let seal = |field| NtpTimestamp::from_bits(self.cookies.seal(sequence, field));
        let header = Header {
            leap: Leap::None,
            version: kind.version,
            mode: Mode::Client,
            stratum: 0,
            poll: 0,
            precision: Precision::new(0),
            root_delay: NtpShort::from_bits(0),
            root_dispersion: NtpShort::from_bits(0),
            refid: RefId::default(),
            reference: NtpTimestamp::ZERO,
            origin: memory.receive,
            receive: if interleaved {
                seal(Field::Receive)
            } else {
                NtpTimestamp::ZERO
            },
            transmit: seal(Field::Transmit),
        };
        let (packet, trailer) = out.split_first_chunk_mut().expect("longer than a header");
        header.emit(packet);
        let mut len = HEADER_LEN;
        if kind.keyed
            && let Some(key) = &self.setup.ask.key
            && let Some(mac) = trailer.first_chunk_mut()
        {
            len += key.sign(packet, mac);
        }
        if interleaved && !memory.used {
            self.tally.asked_interleaved += 1;
            self.memories[place as usize].used = true;
        }
        self.tally.sent += 1;
        if let Some(interval) = interval(&mut self.tally, &self.schedule, intended_ns) {
            interval.sent += 1;
        }
        let entry = Entry::new(place, intended_ns, memory.arrival_ns);
        let evicted = self.book.open(entry);
        self.tally.lost += u64::from(evicted);
        let every = u64::from(self.setup.stamp_every);
        Some(Request {
            sequence,
            client,
            len,
            stamped: every != 0 && sequence.is_multiple_of(every),
        })
    }

    /// The last `count` requests have left, one after the other, between these times.
    /// Says nothing of a closed loop, which has no time to be late for.
    pub fn sent(&mut self, count: u64, from_ns: i64, to_ns: i64) {
        if !self.schedule.is_open() {
            return;
        }
        let first = self.book.next().saturating_sub(count);
        for n in 0..count {
            let at_ns = from_ns + (to_ns - from_ns) * (n as i64 + 1) / count as i64;
            let lateness_ns = at_ns - self.intended_ns(first + n, at_ns);
            self.tally.sent_late += u64::from(lateness_ns > LATE_NS);
            self.tally.lateness_max_ns = self.tally.lateness_max_ns.max(lateness_ns);
        }
    }

    /// This request was not taken by the kernel and did not leave.
    pub fn refused(&mut self, sequence: u64, now_ns: i64) {
        let intended_ns = self.intended_ns(sequence, now_ns);
        self.book.forget(sequence);
        self.tally.sent = self.tally.sent.saturating_sub(1);
        self.tally.refused += 1;
        if let Some(interval) = interval(&mut self.tally, &self.schedule, intended_ns) {
            interval.sent = interval.sent.saturating_sub(1);
        }
    }

    /// Our kernel says that this request left then, CLOCK_REALTIME.
    pub fn departed(&mut self, sequence: u64, at_ns: i64) {
        self.book.departed(sequence, at_ns);
    }

    /// A datagram from the server arrived at `arrival_ns`, CLOCK_REALTIME;
    /// `realtime_ahead_ns` is that clock less the monotonic one.
    pub fn receive(&mut self, bytes: &[u8], arrival_ns: i64, realtime_ahead_ns: i64) {
        if let Err(invalid) = self.judge(bytes, arrival_ns, arrival_ns - realtime_ahead_ns) {
            self.tally.invalid[invalid as usize] += 1;
        }
    }

    /// The packet tests, then the books.
    fn judge(&mut self, bytes: &[u8], arrival_ns: i64, mono_ns: i64) -> Result<(), Invalid> {
        let packet = Packet::new(bytes).ok_or(Invalid::Short)?;
        if packet.mode() != Mode::Server {
            return Err(Invalid::Mode);
        }
        let (sequence, field) = self.cookies.open(packet.origin().bits());
        if !(1..self.book.next()).contains(&sequence) {
            return Err(Invalid::Origin);
        }
        if sequence < self.first {
            // Of the measurement before, which has counted its request.
            return Ok(());
        }
        let entry = match self.book.peek(sequence) {
            Found::Nothing => return Err(Invalid::Origin),
            Found::GivenUp => {
                self.book.close(sequence);
                self.tally.late += 1;
                return Ok(());
            }
            Found::Answered => {
                self.tally.duplicates += 1;
                return Ok(());
            }
            Found::Waiting(entry) => entry,
        };
        let kind = self
            .setup
            .ask
            .mix
            .kind_of(self.setup.first_client + entry.client);
        let asked_interleaved = entry.previous_arrival_ns != 0;
        if field == Field::Receive && !asked_interleaved {
            return Err(Invalid::Origin);
        }
        if packet.version() != kind.version {
            return Err(Invalid::Version);
        }
        if kind.keyed
            && let Some(key) = &self.setup.ask.key
            && !key.verifies(&bytes[..HEADER_LEN], packet.trailer())
        {
            return Err(match packet.trailer() {
                [] => Invalid::Unsigned,
                trailer if is_crypto_nak(trailer) => Invalid::Nak,
                _ => Invalid::Mac,
            });
        }
        let kiss = kiss_code(&packet);
        let unsynchronised = kiss.is_none()
            && (packet.leap() == Leap::Unknown
                || packet.stratum() == 0
                || packet.stratum() >= STRATUM_MAX);
        let timed = kiss.is_none() && !unsynchronised;
        if timed && (packet.receive().is_zero() || packet.transmit().is_zero()) {
            return Err(Invalid::Stamps);
        }

        self.book.close(sequence);
        if mono_ns - entry.intended_ns > self.setup.patience_ns {
            // Came in time for the book, but not for the client.
            self.tally.late += 1;
            self.tally.lost += 1;
            return Ok(());
        }
        if let Some(code) = kiss {
            *self.tally.kisses.entry(code).or_default() += 1;
        } else if unsynchronised {
            self.tally.unsynchronised += 1;
        } else {
            self.stamps(&packet, &entry, field, arrival_ns);
        }
        if kind.interleaved && timed {
            self.memories[entry.client as usize] = Memory {
                receive: packet.receive(),
                arrival_ns,
                used: false,
            };
        }
        let delay_ns = u64::try_from(mono_ns - entry.intended_ns).unwrap_or(0);
        self.tally.delayed(delay_ns);
        if let Some(interval) = interval(&mut self.tally, &self.schedule, entry.intended_ns) {
            interval.answered += 1;
            interval.delays_ns.saturating_record(delay_ns.max(1));
        }
        Ok(())
    }

    /// An answer with the time: what its stamps say beside ours.
    fn stamps(&mut self, packet: &Packet<'_>, entry: &Entry, field: Field, arrival_ns: i64) {
        if entry.departed_ns != 0 {
            let receive_ns = unix_ns(packet.receive(), arrival_ns);
            self.tally.receive.add(receive_ns - entry.departed_ns);
        }
        let transmit_ns = unix_ns(packet.transmit(), arrival_ns);
        match field {
            Field::Transmit => {
                self.tally.basic += 1;
                self.tally.transmit_basic.add(arrival_ns - transmit_ns);
            }
            Field::Receive => {
                self.tally.interleaved += 1;
                let previous_ns = entry.previous_arrival_ns;
                let way_ns = previous_ns - transmit_ns;
                self.tally.transmit_interleaved.add(way_ns);
            }
        }
    }

    /// Gives up those that have waited too long.
    pub fn expire(&mut self, now_ns: i64) {
        self.tally.lost += self.book.expire(now_ns - self.setup.patience_ns);
    }

    /// How many requests wait for an answer.
    pub fn waiting(&self) -> u64 {
        self.book.waiting()
    }

    /// When the next request is due, or the sending ends.
    pub fn next_ns(&self) -> i64 {
        self.schedule.next_ns(self.book.next() - self.first)
    }

    /// The time between one burst and the next; without end in a closed loop.
    pub fn gap_ns(&self) -> i64 {
        self.schedule.gap_ns()
    }

    /// Is nothing more to be sent?
    pub fn is_over(&self, now_ns: i64) -> bool {
        self.schedule.is_over(self.book.next() - self.first, now_ns)
    }

    /// Is nothing more to be sent, and nothing more to come?
    pub fn is_done(&self, now_ns: i64) -> bool {
        self.is_over(now_ns) && self.book.waiting() == 0
    }

    /// So far: requests sent, answers, and requests lost.
    pub fn progress(&self) -> (u64, u64, u64) {
        (self.tally.sent, self.tally.answered(), self.tally.lost)
    }

    /// The book-keeping, for the driver's own figures.
    pub fn tally_mut(&mut self) -> &mut Tally {
        &mut self.tally
    }

    /// Ends the measurement, perhaps before its time: what could still be answered then
    /// is under way, and nobody knows what would have come of it.
    pub fn finish(&mut self, now_ns: i64) -> Tally {
        self.expire(now_ns);
        let requests = self.book.next() - self.first;
        self.tally.length_ns = self.schedule.spent_ns(requests, now_ns);
        self.tally.meant = self.schedule.meant_by(now_ns);
        for entry in self.book.iter() {
            if let Some(interval) = interval(&mut self.tally, &self.schedule, entry.intended_ns) {
                interval.sent = interval.sent.saturating_sub(1);
            }
        }
        self.tally.under_way = self.book.expire(i64::MAX);
        std::mem::replace(&mut self.tally, Tally::new(0))
    }

    fn intended_ns(&self, sequence: u64, now_ns: i64) -> i64 {
        match self.book.peek(sequence) {
            Found::Waiting(entry) => entry.intended_ns,
            _ => now_ns,
        }
    }
}

/// The part of the measurement that `at_ns` falls into.
fn interval<'a>(tally: &'a mut Tally, schedule: &Schedule, at_ns: i64) -> Option<&'a mut Interval> {
    let passed_ns = i128::from(at_ns - schedule.start_ns());
    let place = passed_ns * INTERVALS as i128 / i128::from(schedule.length_ns().max(1));
    tally.intervals.get_mut(usize::try_from(place).ok()?)
}

/// A step from client to client that visits all before it comes round: near the
/// golden ratio, so that neighbours in time are no neighbours in number.
pub fn stride(clients: u32) -> u64 {
    let clients = u64::from(clients);
    let mut stride = (clients as f64 * 0.618) as u64 | 1;
    while gcd(stride, clients) != 1 {
        stride += 1;
    }
    stride
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// RFC 5905 section 7.4: stratum 0, and four letters instead of a refid. INIT and
/// STEP say that there is no time yet, which is no refusal.
fn kiss_code(packet: &Packet<'_>) -> Option<[u8; 4]> {
    let code = packet.refid().bytes();
    let letters = code.iter().all(u8::is_ascii_uppercase);
    (packet.stratum() == 0 && letters && !matches!(&code, b"INIT" | b"STEP")).then_some(code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::mix::{Kind, Mix};
    use crate::load::stamps::Spread;
    use crate::time::duration::NtpDuration;
    use crate::time::instant::WallInstant;

    const SECOND_NS: i64 = 1_000_000_000;
    /// CLOCK_REALTIME less CLOCK_MONOTONIC.
    const AHEAD_NS: i64 = 1_700_000_000 * SECOND_NS;

    fn engine(mix: Mix, clients: u32) -> Engine {
        Engine::new(Setup {
            ask: Ask {
                mix,
                key: Some("5:SHA1:secret".parse().unwrap()),
            },
            first_client: 0,
            clients: NonZeroU32::new(clients).unwrap(),
            engines: NonZeroU32::MIN,
            run: 1,
            stamp_every: 1,
            burst: NonZeroU32::MIN,
            patience_ns: SECOND_NS,
            key: 99,
        })
    }

    fn plain() -> Engine {
        let mut engine = engine(Mix::only(Kind::PLAIN), 10);
        engine.begin(Pace::Open { rate: 1000.0 }, 0, SECOND_NS);
        engine
    }

    fn next(engine: &mut Engine, now_ns: i64) -> (Request, Vec<u8>) {
        let mut out = [0; REQUEST_LEN_MAX];
        let request = engine.request(now_ns, &mut out).expect("due");
        (request, out[..request.len].to_vec())
    }

    /// A good basic answer, its T2 and T3 as given after `AHEAD_NS`.
    fn answer(request: &[u8], receive_ns: i64, transmit_ns: i64) -> Header {
        let packet = Packet::new(request).unwrap();
        let at = |ns| NtpTimestamp::from_wall(WallInstant::from_unix_ns(AHEAD_NS + ns));
        Header {
            leap: Leap::None,
            version: packet.version(),
            mode: Mode::Server,
            stratum: 2,
            poll: 0,
            precision: Precision::new(-20),
            root_delay: NtpShort::from_bits(0),
            root_dispersion: NtpShort::from_bits(0),
            refid: RefId::from_bytes([10, 0, 0, 1]),
            reference: at(0),
            origin: packet.transmit(),
            receive: at(receive_ns),
            transmit: at(transmit_ns),
        }
    }

    fn deliver(engine: &mut Engine, header: &Header, at_ns: i64) {
        engine.receive(&header.to_bytes(), AHEAD_NS + at_ns, AHEAD_NS);
    }

    #[test]
    fn delay_counts_from_when_a_request_was_meant_to_leave() {
        let mut engine = plain();
        // The generator slept for 50 ms, and the answer came 1 ms after the request.
        let (_, first) = next(&mut engine, 50_000_000);
        engine.sent(1, 50_000_000, 50_000_000);
        deliver(&mut engine, &answer(&first, 0, 0), 51_000_000);
        let tally = engine.finish(60_000_000);
        assert_eq!((tally.sent, tally.basic, tally.sent_late), (1, 1, 1));
        let delay_ns = tally.delays_ns.max();
        assert!((50_900_000..51_100_000).contains(&delay_ns), "{delay_ns}");
    }

    #[test]
    fn answers_are_judged() {
        let mut engine = plain();
        let requests: Vec<Vec<u8>> = (0..9).map(|_| next(&mut engine, 20_000_000).1).collect();
        let good = |n: usize| answer(&requests[n], 1, 2);
        let at_ns = 21_000_000;
        deliver(&mut engine, &good(0), at_ns);
        deliver(&mut engine, &good(0), at_ns);
        let mut forged = good(1);
        forged.origin = forged.origin + NtpDuration::from_units(1);
        deliver(&mut engine, &forged, at_ns);
        let mut other = good(1);
        other.version = 3;
        deliver(&mut engine, &other, at_ns);
        other = good(1);
        other.mode = Mode::Client;
        deliver(&mut engine, &other, at_ns);
        other = good(1);
        other.transmit = NtpTimestamp::ZERO;
        deliver(&mut engine, &other, at_ns);
        engine.receive(&[0; 47], AHEAD_NS + at_ns, AHEAD_NS);
        // What was only garbled or forged can still be answered.
        deliver(&mut engine, &good(1), at_ns);
        let mut kiss = good(2);
        (kiss.stratum, kiss.leap, kiss.refid) = (0, Leap::Unknown, RefId::from_bytes(*b"RATE"));
        deliver(&mut engine, &kiss, at_ns);
        for (n, stratum, refid) in [(3, 0, *b"INIT"), (4, 16, [0; 4]), (5, 0, [0; 4])] {
            let mut lost = good(n);
            (lost.stratum, lost.refid) = (stratum, RefId::from_bytes(refid));
            deliver(&mut engine, &lost, at_ns);
        }
        let mut alarm = good(6);
        alarm.leap = Leap::Unknown;
        deliver(&mut engine, &alarm, at_ns);
        // Later than anybody waits, once found in the book and once expired.
        deliver(&mut engine, &good(7), 2 * SECOND_NS);
        engine.expire(3 * SECOND_NS);
        deliver(&mut engine, &good(8), 3 * SECOND_NS);

        let tally = engine.finish(4 * SECOND_NS);
        assert_eq!(tally.basic, 2);
        assert_eq!(tally.unsynchronised, 4);
        assert_eq!(tally.kisses[b"RATE"], 1);
        assert_eq!((tally.duplicates, tally.late, tally.lost), (1, 2, 2));
        // short, mode, version, origin, mac, stamps; no signature was wanted
        assert_eq!(tally.invalid, [1, 1, 1, 1, 0, 1, 0, 0, 0]);
        assert_eq!(tally.answered() + tally.lost, tally.sent);
    }

    #[test]
    fn an_interleaved_client_returns_what_it_got_and_judges_the_departure_before() {
        let mut engine = engine("interleaved=1".parse().unwrap(), 1);
        engine.begin(Pace::Open { rate: 1000.0 }, 0, SECOND_NS);
        let (_, first) = next(&mut engine, 10_000_000);
        assert!(Packet::new(&first).unwrap().origin().is_zero());
        let basic = answer(&first, 100, 200);
        deliver(&mut engine, &basic, 11_000_000);

        let (_, second) = next(&mut engine, 20_000_000);
        let asked = Packet::new(&second).unwrap();
        assert_eq!(asked.origin(), basic.receive);
        assert_ne!(asked.receive(), asked.transmit());
        // The answer before left at 10.9 ms, it says, and arrived at 11.
        let mut interleaved = answer(&second, 300, 10_900_000);
        interleaved.origin = asked.receive();
        deliver(&mut engine, &interleaved, 21_000_000);

        let tally = engine.finish(30_000_000);
        assert_eq!((tally.basic, tally.interleaved), (1, 1));
        assert_eq!(tally.asked_interleaved, 1);
        let Spread { median_ns, .. } = tally.transmit_interleaved.spread().unwrap();
        assert!((median_ns - 100_000).abs() <= 1, "{median_ns}");
    }

    #[test]
    fn nobody_else_can_give_an_interleaved_answer() {
        let mut engine = plain();
        let (request, bytes) = next(&mut engine, 10_000_000);
        let mut forged = answer(&bytes, 1, 2);
        let cookie = engine.cookies.seal(request.sequence, Field::Receive);
        forged.origin = NtpTimestamp::from_bits(cookie);
        deliver(&mut engine, &forged, 11_000_000);
        assert_eq!(
            engine.finish(12_000_000).invalid[Invalid::Origin as usize],
            1
        );
    }

    #[test]
    fn who_signs_wants_signatures() {
        let mut engine = engine("key=1".parse().unwrap(), 1);
        engine.begin(Pace::Closed { outstanding: 2 }, 0, SECOND_NS);
        let (_, bytes) = next(&mut engine, 1);
        assert_eq!(bytes.len(), HEADER_LEN + 24);
        let header = answer(&bytes, 1, 2);
        deliver(&mut engine, &header, 2);
        let mut signed = header.to_bytes().to_vec();
        let with = |trailer: &[u8]| [&signed[..], trailer].concat();
        engine.receive(&with(&[0; 4]), AHEAD_NS + 2, AHEAD_NS);
        engine.receive(&with(&[1; 24]), AHEAD_NS + 2, AHEAD_NS);
        let mut mac = [0; MAC_LEN_MAX];
        let key = engine.setup.ask.key.clone().unwrap();
        let len = key.sign(&signed, &mut mac);
        signed.extend(&mac[..len]);
        engine.receive(&signed, AHEAD_NS + 3, AHEAD_NS);
        let tally = engine.finish(4);
        // mac, stamps, unsigned, crypto_nak
        assert_eq!((tally.basic, &tally.invalid[4..8]), (1, &[1, 0, 1, 1][..]));
    }

    #[test]
    fn every_client_has_its_turn() {
        for clients in [1, 2, 7, 64, 65_534] {
            let mut engine = engine(Mix::only(Kind::PLAIN), clients);
            engine.begin(Pace::Open { rate: 1e9 }, 0, SECOND_NS);
            let mut seen = vec![false; clients as usize];
            for _ in 0..clients {
                let (request, _) = next(&mut engine, SECOND_NS - 1);
                seen[request.client as usize] = true;
            }
            assert!(seen.iter().all(|seen| *seen), "{clients}");
        }
    }

    #[test]
    fn an_interrupted_measurement_does_not_count_what_is_under_way_as_lost() {
        let mut engine = plain();
        for _ in 0..5 {
            next(&mut engine, 10_000_000);
        }
        let tally = engine.finish(10_000_000);
        assert_eq!((tally.sent, tally.under_way, tally.lost), (5, 5, 0));
        assert_eq!(tally.intervals.iter().map(|i| i.sent).sum::<u64>(), 0);
        assert_eq!(tally.length_ns, 10_000_000);
    }

    #[test]
    fn who_does_not_wait_for_the_last_answers_has_not_lost_them() {
        let mut engine = plain();
        let first = next(&mut engine, 10_000_000).1;
        next(&mut engine, 10_000_000);
        while engine
            .request(SECOND_NS, &mut [0; REQUEST_LEN_MAX])
            .is_some()
        {}
        deliver(&mut engine, &answer(&first, 1, 2), 11_000_000);
        // All is sent. The second one's time was up a moment ago.
        let now_ns = SECOND_NS + 1_500_000;
        assert!(engine.is_over(now_ns) && !engine.is_done(now_ns));
        let tally = engine.finish(now_ns);
        assert_eq!((tally.sent, tally.basic), (1000, 1));
        assert_eq!((tally.lost, tally.under_way), (1, 998));
        assert_eq!((tally.loss(), tally.unsent()), (0.5, 0));
    }

    #[test]
    fn answers_to_the_measurement_before_count_in_none() {
        let mut engine = plain();
        let request = next(&mut engine, 10_000_000).1;
        assert_eq!(engine.finish(3 * SECOND_NS).lost, 1);
        engine.begin(Pace::Open { rate: 1000.0 }, 3 * SECOND_NS, SECOND_NS);
        next(&mut engine, 4 * SECOND_NS);
        deliver(&mut engine, &answer(&request, 1, 2), 4 * SECOND_NS);
        let tally = engine.finish(4 * SECOND_NS);
        assert_eq!((tally.sent, tally.late, tally.invalid_sum()), (1, 0, 0));
    }

    #[test]
    fn what_the_kernel_refuses_was_not_sent() {
        let mut engine = plain();
        let (request, bytes) = next(&mut engine, 10_000_000);
        engine.refused(request.sequence, 10_000_000);
        deliver(&mut engine, &answer(&bytes, 1, 2), 11_000_000);
        let tally = engine.finish(5 * SECOND_NS);
        assert_eq!((tally.sent, tally.refused, tally.lost), (0, 1, 0));
        assert_eq!(tally.unsent(), 1000);
    }
}

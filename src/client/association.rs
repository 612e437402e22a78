//! One server and we: the peer and poll processes of RFC 5905 (sections 8, 9
//! and 13) in client mode, with interleaved mode (RFC 9769), or one peer and we
//! ([`symmetric`](crate::client::symmetric)).
//!
//! First station of the journey down: a reply comes in, passes the tests by
//! name, and leaves as a [`Measurement`].

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use crate::client::options::SourceOptions;
use crate::client::over_ptp::{Carrier, Corrections};
use crate::client::packet_test::{
    PacketTest, check_auth, check_exchange, check_form, check_peer_form, check_server,
};
use crate::client::processing::Processing;
use crate::client::symmetric::Symmetric;
use crate::measurement::{Exchange, Measurement, dispersion, midpoint};
use crate::mechanisms::{Mechanism, Mechanisms};
use crate::system::SystemState;
use crate::time::duration::NtpDuration;
use crate::time::instant::{MonoInstant, Now};
use crate::time::stamp::{Stamp, StampOrigin};
use crate::time::timestamp::{NtpShort, NtpTimestamp};
use crate::time::units::{PollExponent, Precision};
use crate::wire::key::{Key, KeyTable, Message};
use crate::wire::packet::{Header, Leap, Mode, Packet};
use crate::wire::refid::{KissCode, RefId};

/// Requests in a burst (RFC 5905 BCOUNT).
const BURST_LEN: u8 = 8;
/// Between requests of a burst (RFC 5905 BTIME).
const BURST_INTERVAL: NtpDuration = NtpDuration::from_whole_seconds(2);
/// Unanswered requests in a row that end a burst: nobody is there.
const BURST_MISSES_MAX: u8 = 3;
/// Answers after which a start has its first samples and takes its time: from here
/// on it is frequency that is to be found out, and that takes a long base.
const START_ANSWERS: u8 = 4;
/// Each interval of a start is then so many times the one before. At twice, the clock
/// drifts from 10 us by more in a gap than a base as long tells of its frequency;
/// less costs requests.
const START_GROWTH: f64 = 1.5;
/// However often the network changes, a server that does not answer is asked no
/// more often than this because of it.
const CHANGE_INTERVAL: NtpDuration = NtpDuration::from_whole_seconds(4);
/// A reply that is not here by then is lost. Shorter poll intervals end it sooner.
const REPLY_TIMEOUT: NtpDuration = NtpDuration::from_whole_seconds(3);
/// Unanswered requests in a row after which an interleaved client starts over in
/// basic mode: the server has likely forgotten us.
const INTERLEAVED_MISSES_MAX: u8 = 4;
/// A peer that is no nearer to the primary reference than we gets its answer at once, if
/// our last packet is at least so old (or half an interval).
const ANSWER_INTERVAL: NtpDuration = NtpDuration::from_whole_seconds(2);
/// Where the peer should ask first, we wait so many intervals for it.
const PATIENCE: f64 = 1.125;
/// Precision field of a request: says nothing (draft-ietf-ntp-data-minimization).
const PRECISION_UNSAID: Precision = Precision::new(32);
/// Samples kept to be shown: as many as RFC 5905's clock filter has stages.
const RECENT: usize = 8;

/// Unguessable numbers for one request.
#[derive(Clone, Copy, Debug)]
pub struct Dice {
    /// Goes out as the transmit timestamp and must come back as the origin.
    pub transmit: u64,
    /// Goes out as the receive timestamp of an interleaved request.
    pub receive: u64,
    /// Uniform in 0..=u32::MAX; spreads polls.
    pub spread: u32,
}

/// A request on its way.
#[derive(Clone, Copy, Debug)]
struct Pending {
    /// What the transmit field carried.
    transmit: NtpTimestamp,
    /// What the receive field carried, in an interleaved request.
    receive: Option<NtpTimestamp>,
    /// T1, improved when the departure stamp comes.
    departure: Stamp,
    deadline: MonoInstant,
}

/// An exchange of which all is known but T3. The last one is kept for interleaved
/// mode: its T3 comes with the next reply.
#[derive(Clone, Copy, Debug)]
struct Halfway {
    departure: Stamp,
    receive: NtpTimestamp,
    arrival: Stamp,
    arrived: MonoInstant,
    /// What transparent clocks added, if that is known.
    corrections: Option<Corrections>,
    /// Was it a sample already, with the T3 that came with it or a supposed one?
    sampled: bool,
}

impl Halfway {
    fn with_transmit(&self, transmit: NtpTimestamp) -> Exchange {
        Exchange {
            origin: NtpTimestamp::from_wall(self.departure.at),
            receive: self.receive,
            transmit,
            destination: NtpTimestamp::from_wall(self.arrival.at),
        }
    }
}

/// Four stamps that make a sample.
struct Complete {
    halfway: Halfway,
    exchange: Exchange,
    /// What T3 may be too late by, beyond what the clocks' precision says.
    excess_max: NtpDuration,
}

/// How the next requests hurry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Pace {
    /// They don't.
    Poll,
    /// `burst`: a few in a row at each poll.
    Burst { left: u8 },
    /// `iburst`, in short intervals until there are enough answers. `left`: so many
    /// requests may try.
    Quick { left: u8, answers: u8 },
    /// The rest of it: this interval, then a longer one, up to the poll interval.
    Slowing { interval: NtpDuration },
}

impl Pace {
    /// Of an association that starts, or starts over.
    const fn start(options: &SourceOptions) -> Self {
        if options.iburst {
            Self::Quick {
                left: BURST_LEN,
                answers: 0,
            }
        } else {
            Self::Poll
        }
    }

    /// The interval after the request that leaves now, if it is not the poll interval,
    /// and the pace of the next one.
    fn step(self) -> (Option<NtpDuration>, Self) {
        match self {
            Self::Poll | Self::Burst { left: 0 | 1 } => (None, Self::Poll),
            Self::Burst { left } => (Some(BURST_INTERVAL), Self::Burst { left: left - 1 }),
            Self::Quick { left, answers } if left > 1 && answers < START_ANSWERS => {
                let left = left - 1;
                (Some(BURST_INTERVAL), Self::Quick { left, answers })
            }
            Self::Quick { .. } => Self::slowing().step(),
            Self::Slowing { interval } => {
                let next = interval * START_GROWTH;
                (Some(interval), Self::Slowing { interval: next })
            }
        }
    }

    fn slowing() -> Self {
        Self::Slowing {
            interval: BURST_INTERVAL * START_GROWTH,
        }
    }

    /// Nobody is there. A burst is over; a start tries on ever more seldom, as what is
    /// not there may only be late, like our own network at boot.
    fn without_answers(self) -> Self {
        match self {
            Self::Poll | Self::Burst { .. } => Self::Poll,
            Self::Quick { .. } => Self::slowing(),
            Self::Slowing { .. } => self,
        }
    }
}

/// Is the association alive?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Standing {
    /// Asks at its poll interval.
    Active,
    /// The server said DENY or RSTR: never asked again.
    Denied(KissCode),
    /// Not asked until the operator says so.
    Offline,
    /// Not asked but for the burst under way.
    Excursion,
}

/// What a datagram turned out to be.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Received {
    /// A sample of the server's clock.
    Sample(Measurement),
    /// A valid reply that gives no new sample: it speaks of an exchange that was one
    /// already, and its own waits for its T3.
    Nothing,
    /// A kiss of death that was meant for us.
    Kiss(KissCode),
    /// Not believed.
    Rejected(PacketTest),
}

/// The port a datagram leaves from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Whence {
    /// A fresh one, which nobody can guess.
    Fresh,
    /// This one. PTP's event messages go from its port to its port, because network cards
    /// look at the latter.
    Port(u16),
    /// The one we serve on, as peers do, and the socket stays open: peers send unasked. The
    /// time that the datagram tells should be as late as can be
    /// ([`restamp`](Association::restamp)).
    Served,
}

/// An answer to a request, good or bad, for those who look on.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Answer {
    /// As it came.
    pub header: Header,
    /// The stamps that made the sample, or would have.
    pub exchange: Exchange,
    /// Who took T1 and T4.
    pub origins: (StampOrigin, StampOrigin),
    /// Is it an interleaved one?
    pub interleaved: bool,
}

impl Answer {
    /// The answer `packet` to the request `pending`.
    fn of(packet: &Packet<'_>, pending: &Pending, arrival: Stamp, interleaved: bool) -> Self {
        Self {
            header: packet.to_header(),
            exchange: Exchange {
                origin: NtpTimestamp::from_wall(pending.departure.at),
                receive: packet.receive(),
                transmit: packet.transmit(),
                destination: NtpTimestamp::from_wall(arrival.at),
            },
            origins: (pending.departure.origin, arrival.origin),
            interleaved,
        }
    }
}

/// The request to be sent now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// All of the datagram.
    pub bytes: Vec<u8>,
    /// Whence it is sent.
    pub from: Whence,
    /// Give up waiting for the reply at this moment.
    pub deadline: MonoInstant,
}

/// One association.
#[derive(Debug)]
pub struct Association {
    /// Whom we ask.
    address: SocketAddr,
    options: SourceOptions,
    mechanisms: Mechanisms,
    /// Over PTP.
    carrier: Option<Carrier>,
    /// With a peer.
    symmetric: Option<Symmetric>,
    /// Interval in force between `options.minpoll` (or what a RATE kiss raised it to) and maxpoll.
    poll: PollExponent,
    poll_min: PollExponent,
    /// Last eight requests, newest lowest; set = answered.
    reach: u8,
    /// Requests in a row without an answer that gives the time.
    misses: u32,
    pace: Pace,
    /// So many answers end a burst that an operator ordered; 0: none is under way.
    burst_good: u8,
    standing: Standing,
    next: MonoInstant,
    last_asked: Option<MonoInstant>,
    pending: Option<Pending>,
    previous: Option<Halfway>,
    processing: Processing,
    last_heard: Option<MonoInstant>,
    last_sample: Option<Measurement>,
    /// The last samples, newest first, for those who look on.
    recent: VecDeque<Measurement>,
    /// The last reply that gave the time, as it came.
    last_reply: Option<Header>,
    last_origins: Option<(StampOrigin, StampOrigin)>,
    /// The last answer to a request, good or bad.
    answer: Option<Answer>,
    local: Option<IpAddr>,
    response: Option<NtpDuration>,
    /// T1 and T4 by the kernel, T1 and T4 by hardware.
    stamped: [u64; 4],
    sent: u64,
    received: u64,
    rejected: [u64; PacketTest::ALL.len()],
}

impl Association {
    /// A new association that asks for the first time at `start`.
    pub fn new(
        address: SocketAddr,
        options: SourceOptions,
        mechanisms: Mechanisms,
        start: MonoInstant,
    ) -> Self {
        Self {
            address,
            options,
            mechanisms,
            carrier: options
                .over_ptp
                .map(|domain| Carrier::new(domain, options.correction)),
            symmetric: options.symmetric.then(Symmetric::default),
            poll: options.minpoll,
            poll_min: options.minpoll,
            reach: 0,
            misses: 0,
            pace: Pace::start(&options),
            burst_good: 0,
            standing: Standing::Active,
            next: start,
            last_asked: None,
            pending: None,
            previous: None,
            processing: Processing::default(),
            last_heard: None,
            last_sample: None,
            recent: VecDeque::with_capacity(RECENT),
            last_reply: None,
            last_origins: None,
            answer: None,
            local: None,
            response: None,
            stamped: [0; 4],
            sent: 0,
            received: 0,
            rejected: [0; PacketTest::ALL.len()],
        }
    }

    /// When to call [`expire`](Self::expire) and [`poll`](Self::poll) next.
    pub fn deadline(&self) -> MonoInstant {
        match (self.standing, &self.pending) {
            (Standing::Denied(_) | Standing::Offline, None) => MonoInstant::MAX,
            (Standing::Denied(_) | Standing::Offline, Some(pending)) => pending.deadline,
            (Standing::Active | Standing::Excursion, Some(pending)) => {
                pending.deadline.min(self.next)
            }
            (Standing::Active | Standing::Excursion, None) => self.next,
        }
    }

    /// Gives up a request whose time is over. True if there was one.
    pub fn expire(&mut self, now: MonoInstant) -> bool {
        let Some(pending) = &self.pending else {
            return false;
        };
        if now < pending.deadline && (now < self.next || self.standing == Standing::Offline) {
            return false;
        }
        self.pending = None;
        self.note_miss();
        if self.misses >= u32::from(INTERLEAVED_MISSES_MAX) {
            self.previous = None;
        }
        true
    }

    /// A request gave us no time: lost, or the answer is none to go by.
    fn note_miss(&mut self) {
        self.misses = self.misses.saturating_add(1);
        if let Some(carrier) = &mut self.carrier {
            carrier.note_miss();
        }
        if self.misses >= u32::from(BURST_MISSES_MAX) {
            self.pace = self.pace.without_answers();
        }
    }

    /// It did.
    fn note_answer(&mut self, now: Now) {
        self.received += 1;
        if self.reach == 0 && self.options.iburst && self.burst_good == 0 {
            // The first one, or the first after a long silence.
            self.pace = Pace::start(&self.options);
            let soon = BURST_INTERVAL.min(self.poll.interval());
            self.next = self.next.min(now.mono + soon);
        }
        if let Pace::Quick { answers, .. } = &mut self.pace {
            *answers += 1;
        }
        if matches!(self.pace, Pace::Burst { .. }) && self.burst_good > 0 {
            self.burst_good -= 1;
            if self.burst_good == 0 {
                self.pace = Pace::Poll;
                self.next = now.mono + self.poll.interval();
                self.end_excursion();
            }
        }
        self.reach |= 1;
        self.misses = 0;
        self.last_heard = Some(now.mono);
    }

    /// Is it time to ask? Then this is the request; the interval to the next one
    /// starts now. Call [`expire`](Self::expire) first. It is signed by one of `keys`
    /// if the operator wants that; without that key nothing is asked. `ours` is what a
    /// peer is told of our time.
    pub fn poll(
        &mut self,
        now: Now,
        dice: Dice,
        keys: &KeyTable,
        ours: &SystemState,
    ) -> Option<Request> {
        let asks = matches!(self.standing, Standing::Active | Standing::Excursion);
        if !asks || now.mono < self.next {
            return None;
        }
        let key = self.options.key.map(|id| keys.get(id));
        if key == Some(None) {
            self.next = now.mono + self.poll.interval();
            self.note_miss();
            return None;
        }
        self.reach <<= 1;
        let answers = self.reach != 0 && self.misses < u32::from(BURST_MISSES_MAX);
        if self.pace == Pace::Poll && self.options.burst && answers {
            self.pace = Pace::Burst { left: BURST_LEN };
        }
        let interval = self.poll_exponent().interval();
        let (quick, pace) = self.pace.step();
        let slows =
            self.mechanisms.have(Mechanism::QuickStart) || !matches!(pace, Pace::Slowing { .. });
        let quick = if self.burst_good > 0 {
            quick.map(|quick| quick.min(interval))
        } else {
            quick.filter(|&quick| quick < interval && slows)
        };
        let wait = if let Some(quick) = quick {
            self.pace = pace;
            quick
        } else {
            self.pace = Pace::Poll;
            self.burst_good = 0;
            self.end_excursion();
            // Every eight misses in a row double the interval: a dead server is asked
            // less and less.
            if self.misses > 0 && self.misses.is_multiple_of(8) {
                self.poll = self.poll.longer(self.options.maxpoll);
            }
            // Up to 1/64 longer, so that a rack of clients that booted together does
            // not ask together for ever. Never shorter: what the operator allowed is
            // the most we ask.
            let spread = f64::from(dice.spread) / f64::from(u32::MAX);
            let patience = match &self.symmetric {
                Some(symmetric) if symmetric.leads() && self.reach != 0 => PATIENCE,
                _ => 1.0,
            };
            interval * patience + interval * (spread / 64.0)
        };
        self.next = now.mono + wait;
        self.last_asked = Some(now.mono);
        self.sent += 1;
        if let Some(symmetric) = &mut self.symmetric {
            symmetric.compose(ours, self.poll, now.wall, dice.transmit);
            return self.ask_peer(now, now.mono + wait, key.flatten());
        }

        let receive = self
            .previous
            .filter(|_| self.options.xleave)
            .map(|_| NtpTimestamp::from_bits(dice.receive | 1));
        let transmit = NtpTimestamp::from_bits(dice.transmit | 1);
        let header = Header {
            leap: Leap::None,
            version: self.options.version,
            mode: Mode::Client,
            stratum: 0,
            poll: self.poll.log2(),
            precision: PRECISION_UNSAID,
            root_delay: NtpShort::default(),
            root_dispersion: NtpShort::default(),
            refid: RefId::default(),
            reference: NtpTimestamp::ZERO,
            origin: match (receive, self.previous) {
                (Some(_), Some(previous)) => previous.receive,
                _ => NtpTimestamp::ZERO,
            },
            receive: receive.unwrap_or_default(),
            transmit,
        };
        let deadline = now.mono + REPLY_TIMEOUT.min(wait);
        self.pending = Some(Pending {
            transmit,
            receive,
            departure: Stamp::daemon(now.wall),
            deadline,
        });
        let key = key.flatten();
        let (bytes, from) = match &mut self.carrier {
            None => (Message::new(&header, key).to_vec(), Whence::Fresh),
            Some(carrier) => {
                let sealed = carrier.seal(&header.to_bytes(), key);
                (sealed, Whence::Port(self.address.port()))
            }
        };
        Some(Request {
            bytes,
            from,
            deadline,
        })
    }

    /// What was composed for the peer, with the time of `now`. The answer may come with
    /// the peer's next poll.
    fn ask_peer(&mut self, now: Now, deadline: MonoInstant, key: Option<&Key>) -> Option<Request> {
        let symmetric = self.symmetric.as_mut()?;
        let header = symmetric.stamp(self.options.version, now.wall)?;
        self.pending = Some(Pending {
            transmit: header.transmit,
            receive: None,
            departure: Stamp::daemon(now.wall),
            deadline,
        });
        Some(Request {
            bytes: Message::new(&header, key).to_vec(),
            from: Whence::Served,
            deadline,
        })
    }

    /// The datagram for a peer that [`poll`](Self::poll) gave, telling the time of `now`
    /// instead, at which it leaves; none if there is none under way.
    pub fn restamp(&mut self, now: Now, keys: &KeyTable) -> Option<Vec<u8>> {
        let deadline = self.pending.as_ref()?.deadline;
        let key = match self.options.key {
            Some(id) => Some(keys.get(id)?),
            None => None,
        };
        Some(self.ask_peer(now, deadline, key)?.bytes)
    }

    /// The departure stamp (T1) of the request on its way.
    pub fn on_departure(&mut self, stamp: Stamp) {
        if let Some(pending) = &mut self.pending
            && stamp.origin >= pending.departure.origin
        {
            pending.departure = stamp;
        }
    }

    /// A datagram came from this server: T4 is `arrival`. `precision` is our
    /// clock's; `own` are our own addresses, which a server that follows us names;
    /// `keys` as in [`poll`](Self::poll).
    pub fn on_datagram(
        &mut self,
        bytes: &[u8],
        arrival: Stamp,
        now: Now,
        precision: Precision,
        own: &[IpAddr],
        keys: &KeyTable,
    ) -> Received {
        let awaited = self.pending.is_some();
        self.answer = None;
        match self.judge(bytes, arrival, now, precision, own, keys) {
            Ok(received) => received,
            Err(test) => {
                if awaited && self.pending.is_none() {
                    self.note_miss();
                }
                self.rejected[test.index()] += 1;
                Received::Rejected(test)
            }
        }
    }

    /// The clock that takes the server's place was read, and this is what came of the
    /// readings since the last poll.
    pub fn on_measurement(&mut self, sample: &Measurement, now: Now) {
        self.pending = None;
        self.note_answer(now);
        self.keep(*sample, (sample.origin, sample.origin));
    }

    /// The answer that came with the last datagram, if it was one. None the second time.
    pub fn take_answer(&mut self) -> Option<Answer> {
        self.answer.take()
    }

    fn judge(
        &mut self,
        bytes: &[u8],
        arrival: Stamp,
        now: Now,
        precision: Precision,
        own: &[IpAddr],
        keys: &KeyTable,
    ) -> Result<Received, PacketTest> {
        let (bytes, corrections) = match &self.carrier {
            None => (bytes, None),
            Some(carrier) => carrier.open(bytes, &arrival).ok_or(PacketTest::Transport)?,
        };
        let packet = Packet::new(bytes).ok_or(PacketTest::Short)?;
        let pending = if self.symmetric.is_some() {
            self.answered_by_peer(bytes, &packet, arrival, now, keys)?
        } else {
            self.answered(bytes, &packet, keys)?
        };
        let interleaved = pending.receive == Some(packet.origin());
        if let Some(carrier) = &mut self.carrier {
            carrier.note_answer();
        }
        self.answer = Some(Answer::of(&packet, &pending, arrival, interleaved));
        // From here on this is the server's answer to our request, good or bad.
        self.pending = None;
        if let Some(kiss) = kiss_of(&packet) {
            self.obey(kiss, &packet);
            return Ok(Received::Kiss(kiss));
        }
        check_server(&packet)?;
        let follows_us = follows(&packet, own);
        if let Some(symmetric) = &mut self.symmetric {
            symmetric.note_loop(follows_us);
        }
        if follows_us && self.symmetric.is_some() {
            // That is what peers are for, and it is there; we learn no time from it.
            self.note_answer(now);
            self.last_reply = Some(packet.to_header());
            self.rejected[PacketTest::Loop.index()] += 1;
            return Ok(Received::Nothing);
        }
        if follows_us {
            return Err(PacketTest::Loop);
        }

        let current = Halfway {
            departure: pending.departure,
            receive: packet.receive(),
            arrival,
            arrived: now.mono,
            corrections,
            sampled: !interleaved,
        };
        let previous = self.previous.take();
        self.previous = self.options.xleave.then_some(current);
        let reading = precision.to_duration() + packet.precision().to_duration();
        let complete = match previous.filter(|_| interleaved) {
            Some(previous) => self.complete(previous, current, packet.transmit(), reading)?,
            None => {
                let exchange = current.with_transmit(packet.transmit());
                check_exchange(&exchange, reading)?;
                Some(Complete {
                    halfway: current,
                    exchange,
                    excess_max: NtpDuration::ZERO,
                })
            }
        };
        self.note_answer(now);
        self.last_reply = Some(packet.to_header());
        let Some(complete) = complete else {
            return Ok(Received::Nothing);
        };
        Ok(self.sample(complete, &packet, precision, interleaved))
    }

    /// The request that a server answers with `packet`.
    fn answered(
        &self,
        bytes: &[u8],
        packet: &Packet<'_>,
        keys: &KeyTable,
    ) -> Result<Pending, PacketTest> {
        check_form(packet, self.options.version)?;
        // A copy of a reply finds no request any more. Equal T3 are no sign of one (RFC
        // 5905 test 1): where a server stamps departures itself, an interleaved reply
        // repeats the T3 of the basic one before.
        let pending = self.pending.ok_or(PacketTest::Duplicate)?;
        if ![Some(pending.transmit), pending.receive].contains(&Some(packet.origin())) {
            return Err(PacketTest::Origin);
        }
        self.check_key(bytes, packet, keys)?;
        Ok(pending)
    }

    /// The same of a peer's packet, asked for or not.
    fn answered_by_peer(
        &mut self,
        bytes: &[u8],
        packet: &Packet<'_>,
        arrival: Stamp,
        now: Now,
        keys: &KeyTable,
    ) -> Result<Pending, PacketTest> {
        check_peer_form(packet)?;
        // Before anything of it is kept: who has no key can't disturb those who have.
        self.check_key(bytes, packet, keys)?;
        let symmetric = self.symmetric.as_mut().expect("asked of peers alone");
        let taken = symmetric.take(packet, arrival);
        if taken != Err(PacketTest::Zero) && taken != Err(PacketTest::Duplicate) {
            let interval = ANSWER_INTERVAL.min(self.poll.interval().half());
            let is_due = |last: MonoInstant| now.mono.since(last) >= interval;
            if symmetric.defers() && self.last_asked.is_none_or(is_due) {
                self.next = self.next.min(now.mono);
            }
        }
        taken?;
        // What could not leave, or left before our clock was moved, has no T1.
        self.pending.ok_or(PacketTest::Duplicate)
    }

    /// Is it signed as the operator wants it?
    fn check_key(
        &self,
        bytes: &[u8],
        packet: &Packet<'_>,
        keys: &KeyTable,
    ) -> Result<(), PacketTest> {
        let key = match self.options.key {
            Some(id) => Some(keys.get(id).ok_or(PacketTest::Auth)?),
            None => None,
        };
        check_auth(bytes, packet, key)
    }

    /// What an exchange that passed all tests says of the server's clock.
    fn sample(
        &mut self,
        complete: Complete,
        packet: &Packet<'_>,
        precision: Precision,
        interleaved: bool,
    ) -> Received {
        let Complete {
            halfway,
            exchange,
            excess_max,
        } = complete;
        let origins = (halfway.departure.origin, halfway.arrival.origin);
        if let Some(answer) = &mut self.answer {
            (answer.exchange, answer.origins) = (exchange, origins);
        }
        // A card's clock is off by the same on both ways, and so is the offset.
        let stamp_error = halfway.departure.error.max(halfway.arrival.error);
        let mut sample = Measurement {
            offset: exchange.offset(),
            delay: exchange.delay().max(precision.to_duration()),
            dispersion: dispersion(&exchange, precision, packet.precision())
                + excess_max
                + stamp_error,
            precision: precision.to_duration(),
            at: midpoint(&exchange, halfway.arrived),
            origin: origins.0.min(origins.1),
            interleaved,
            leap: packet.leap(),
            stratum: packet.stratum(),
            refid: packet.refid(),
            root_delay: packet.root_delay().to_duration(),
            root_dispersion: packet.root_dispersion().to_duration(),
        };
        if let Some(corrections) = halfway.corrections {
            corrections.apply(&mut sample);
        }
        self.keep(sample, origins);
        self.response = Some(exchange.transmit - exchange.receive);
        for (place, origin) in [origins.0, origins.1].into_iter().enumerate() {
            match origin {
                StampOrigin::Daemon => {}
                StampOrigin::Kernel => self.stamped[place] += 1,
                StampOrigin::Hardware => self.stamped[2 + place] += 1,
            }
        }
        Received::Sample(sample)
    }

    fn keep(&mut self, sample: Measurement, origins: (StampOrigin, StampOrigin)) {
        self.last_sample = Some(sample);
        self.recent.truncate(RECENT - 1);
        self.recent.push_front(sample);
        self.last_origins = Some(origins);
    }

    /// An interleaved reply brings the true T3 of the exchange before, which completes
    /// that one (RFC 9769 section 2). A sample is old by then, by a whole poll. So where
    /// the server always takes about as long, T3 of its own exchange is supposed, and
    /// the true one only tells how long the server takes. Each exchange is a sample
    /// once at most.
    fn complete(
        &mut self,
        previous: Halfway,
        current: Halfway,
        transmit: NtpTimestamp,
        reading: NtpDuration,
    ) -> Result<Option<Complete>, PacketTest> {
        let exchange = previous.with_transmit(transmit);
        check_exchange(&exchange, reading)?;
        self.processing.learn(&exchange);
        let prompt = self.mechanisms.have(Mechanism::Prompt);
        if let Some(supposed) = self.processing.supposed().filter(|_| prompt) {
            let exchange = current.with_transmit(current.receive + supposed.time);
            if exchange.delay() >= supposed.delay_min && check_exchange(&exchange, reading).is_ok()
            {
                self.previous = Some(Halfway {
                    sampled: true,
                    ..current
                });
                return Ok(Some(Complete {
                    halfway: current,
                    exchange,
                    excess_max: supposed.excess_max,
                }));
            }
        }
        Ok((!previous.sampled).then_some(Complete {
            halfway: previous,
            exchange,
            excess_max: NtpDuration::ZERO,
        }))
    }

    fn obey(&mut self, kiss: KissCode, packet: &Packet<'_>) {
        self.pace = Pace::Poll;
        self.reach |= 1;
        self.misses = 0;
        match kiss {
            KissCode::Deny | KissCode::Rstr => self.standing = Standing::Denied(kiss),
            KissCode::Rate => {
                // Ask half as often as now, and no more often than the server says.
                let wanted = PollExponent::new(packet.poll()).min(PollExponent::MAX);
                self.poll_min = self
                    .poll
                    .longer(PollExponent::MAX)
                    .max(self.poll_min)
                    .max(wanted.min(self.options.maxpoll));
                self.options.maxpoll = self.options.maxpoll.max(self.poll_min);
                self.poll = self.poll.max(self.poll_min);
                self.options.burst = false;
                self.options.iburst = false;
            }
            KissCode::Other(_) => {}
        }
    }

    /// The poll policy's choice. Kept within what the operator allows and what a
    /// RATE kiss left of it.
    pub fn set_poll(&mut self, poll: PollExponent) {
        self.poll = poll.max(self.poll_min).min(self.options.maxpoll);
    }

    /// What came was not what was foretold: ask again soon, to learn whether the sample
    /// was wrong or what foretold it. Not of a server that wants to be asked less.
    pub fn ask_again(&mut self, now: MonoInstant) {
        if self.mechanisms.have(Mechanism::AskAgain) {
            self.ask_soon(now);
        }
    }

    /// What was foretold was wrong: ask as after a start, soon and then ever less.
    pub fn ask_anew(&mut self, now: MonoInstant) {
        if self.poll_min == self.options.minpoll {
            self.pace = Pace::slowing();
        }
        self.ask_soon(now);
    }

    fn ask_soon(&mut self, now: MonoInstant) {
        if self.poll_min == self.options.minpoll {
            self.next = self.next.min(now + BURST_INTERVAL);
        }
    }

    /// The clock was moved under our stamps: forget what spans the move. With
    /// `restart`, ask anew as after a start.
    pub fn on_clock_moved(&mut self, now: MonoInstant, restart: bool) {
        self.pending = None;
        self.previous = None;
        if let Some(symmetric) = &mut self.symmetric {
            symmetric.forget();
        }
        if restart && self.standing == Standing::Active {
            self.set_poll(self.options.minpoll);
            self.pace = Pace::start(&self.options);
            self.next = self.next.min(now + BURST_INTERVAL);
        }
    }

    /// The network changed: a server that was out of reach, or did not answer the
    /// last request, is asked soon. Not at once, because networks change several
    /// times in a row, and on a router all the time.
    pub fn on_network_change(&mut self, now: MonoInstant) {
        if self.standing == Standing::Active && (self.reach == 0 || self.misses > 0) {
            let earliest = self.last_asked.map_or(now, |at| at + CHANGE_INTERVAL);
            self.next = self.next.min(now.max(earliest));
            if self.reach == 0 {
                self.pace = Pace::start(&self.options);
            }
        }
    }

    /// The request could not even leave (no route, refused): as good as lost.
    pub fn on_send_failed(&mut self) {
        if self.pending.take().is_some() {
            self.misses = self.misses.saturating_add(1);
            self.pace = self.pace.without_answers();
        }
    }

    /// Other options; the port stays. What a server forbade by RATE stays forbidden.
    pub fn set_options(&mut self, options: SourceOptions) {
        if self.poll_min == self.options.minpoll {
            self.poll_min = options.minpoll;
        }
        self.options = SourceOptions {
            port: self.options.port,
            maxpoll: options.maxpoll.max(self.poll_min),
            ..options
        };
        self.set_poll(self.poll);
    }

    /// The operator's word: ask, or don't. Without asking there is nothing to follow.
    pub fn set_online(&mut self, online: bool, now: MonoInstant) {
        match (self.standing, online) {
            (Standing::Offline | Standing::Excursion, true) => {
                self.standing = Standing::Active;
                if self.burst_good == 0 {
                    self.pace = Pace::start(&self.options);
                    self.next = now;
                }
            }
            (Standing::Active | Standing::Excursion, false) => {
                self.standing = Standing::Offline;
                self.pace = Pace::Poll;
                self.burst_good = 0;
                self.pending = None;
                self.previous = None;
                self.reach = 0;
            }
            _ => {}
        }
    }

    /// The operator's word: ask now, every two seconds, until there are `good` answers
    /// or `total` requests were sent.
    pub fn burst(&mut self, good: u8, total: u8, now: MonoInstant) {
        match self.standing {
            Standing::Denied(_) => return,
            Standing::Offline => self.standing = Standing::Excursion,
            Standing::Active | Standing::Excursion => {}
        }
        self.burst_good = good.max(1);
        self.pace = Pace::Burst { left: total.max(1) };
        self.misses = 0;
        self.next = now;
    }

    fn end_excursion(&mut self) {
        if self.standing == Standing::Excursion {
            self.standing = Standing::Offline;
        }
    }

    /// Other limits of the poll interval. What a server forbade by RATE stays forbidden.
    pub fn set_poll_limits(&mut self, min: PollExponent, max: PollExponent) {
        if self.poll_min == self.options.minpoll {
            self.poll_min = min;
        }
        self.options.minpoll = min;
        self.options.maxpoll = max.max(self.poll_min);
        self.set_poll(self.poll);
    }

    /// Other options in the selection.
    pub fn set_selection(&mut self, prefer: bool, noselect: bool) {
        self.options.prefer = prefer;
        self.options.noselect = noselect;
    }

    /// Is it asked at its poll intervals?
    pub fn is_online(&self) -> bool {
        self.standing == Standing::Active
    }

    /// Is it asked quickly just now, on an operator's word?
    pub fn is_bursting(&self) -> bool {
        self.burst_good > 0
    }

    /// How long the server took for the last sample's exchange: from T2 to T3.
    pub fn response(&self) -> Option<NtpDuration> {
        self.response
    }

    /// So many of T1 and T4 by the kernel, of T1 and T4 by hardware.
    pub fn stamped(&self) -> [u64; 4] {
        self.stamped
    }

    /// The last request left from this address of ours.
    pub fn note_local(&mut self, from: IpAddr) {
        self.local = Some(from);
    }

    /// Whence the last request left.
    pub fn local(&self) -> Option<IpAddr> {
        self.local
    }

    /// Whom we ask.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How we ask, as configured (and raised by RATE).
    pub fn options(&self) -> &SourceOptions {
        &self.options
    }

    /// Interval in force: of two peers that hear each other, the shorter one, as far as
    /// we may (RFC 5905 section 9.2).
    pub fn poll_exponent(&self) -> PollExponent {
        match &self.symmetric {
            Some(symmetric) if self.reach != 0 => {
                self.poll.min(symmetric.poll().max(self.poll_min))
            }
            _ => self.poll,
        }
    }

    /// Is it one of peers that follows us? Whatever it said before, it can't be followed.
    pub fn follows_us(&self) -> bool {
        self.symmetric.as_ref().is_some_and(Symmetric::follows_us)
    }

    /// Last eight requests, newest lowest.
    pub fn reach(&self) -> u8 {
        self.reach
    }

    /// Requests in a row without an answer.
    pub fn misses(&self) -> u32 {
        self.misses
    }

    /// The kiss that ended it, if one did.
    pub fn denied(&self) -> Option<KissCode> {
        match self.standing {
            Standing::Denied(kiss) => Some(kiss),
            Standing::Active | Standing::Offline | Standing::Excursion => None,
        }
    }

    /// When the last valid reply came.
    pub fn last_heard(&self) -> Option<MonoInstant> {
        self.last_heard
    }

    /// The last sample.
    pub fn last_sample(&self) -> Option<&Measurement> {
        self.last_sample.as_ref()
    }

    /// The last samples, newest first; eight at most, as RFC 5905's clock filter.
    pub fn recent_samples(&self) -> impl Iterator<Item = &Measurement> {
        self.recent.iter()
    }

    /// The header of the last reply that gave the time.
    pub fn last_reply(&self) -> Option<&Header> {
        self.last_reply.as_ref()
    }

    /// Who took the last sample's T1 and T4.
    pub fn last_origins(&self) -> Option<(StampOrigin, StampOrigin)> {
        self.last_origins
    }

    /// Requests sent and valid replies.
    pub fn counts(&self) -> (u64, u64) {
        (self.sent, self.received)
    }

    /// Replies that failed a test, by [`PacketTest::index`].
    pub fn rejected(&self) -> &[u64; PacketTest::ALL.len()] {
        &self.rejected
    }

    /// Counts a reply that was refused before it came here.
    pub fn count_rejected(&mut self, test: PacketTest) {
        self.rejected[test.index()] += 1;
    }
}

/// The kiss of death that it is, if it is one.
fn kiss_of(packet: &Packet<'_>) -> Option<KissCode> {
    let kiss = KissCode::from_refid(packet.refid());
    (packet.stratum() == 0 && !matches!(kiss, KissCode::Other(_))).then_some(kiss)
}

/// Is its sender's source one of `own`?
fn follows(packet: &Packet<'_>, own: &[IpAddr]) -> bool {
    packet.stratum() > 1
        && own
            .iter()
            .any(|&address| RefId::from_address(address) == packet.refid())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::instant::WallInstant;
    use crate::wire::key::Key;
    use crate::wire::ptp::{Envelope, PREFIX_LEN_MAX, correction_field};

    const PRECISION: Precision = Precision::new(-24);
    const START_NS: i64 = 1_900_000_000_000_000_000;

    /// Our clock and the server's are both right; the wire takes 1 ms each way.
    struct Story {
        association: Association,
        elapsed_ns: i64,
        dice: u64,
        keys: KeyTable,
        ours: SystemState,
    }

    impl Story {
        fn new(options: SourceOptions) -> Self {
            let address = "192.0.2.1:123".parse().expect("an address");
            Self {
                association: Association::new(
                    address,
                    options,
                    Mechanisms::default(),
                    MonoInstant::ZERO,
                ),
                elapsed_ns: 0,
                dice: 0x1234_5678_9abc_def0,
                keys: KeyTable::default(),
                ours: SystemState::unsynchronised(PRECISION),
            }
        }

        fn now(&self) -> Now {
            Now {
                mono: MonoInstant::from_nanos(self.elapsed_ns),
                wall: WallInstant::from_unix_ns(START_NS + self.elapsed_ns),
            }
        }

        fn pass(&mut self, ms: i64) {
            self.elapsed_ns += ms * 1_000_000;
        }

        /// Goes on to the next request.
        fn request(&mut self) -> Request {
            let due = self.association.deadline().nanos();
            self.elapsed_ns = self.elapsed_ns.max(due);
            self.association.expire(self.now().mono);
            self.elapsed_ns = self.elapsed_ns.max(self.association.deadline().nanos());
            self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005) + 1;
            let dice = Dice {
                transmit: self.dice,
                receive: !self.dice,
                spread: 0,
            };
            self.association
                .poll(self.now(), dice, &self.keys, &self.ours)
                .expect("it is time")
        }

        /// The reply of an honest server, 1 ms after `request`, without departure stamp of its own.
        fn reply(&self, request: &Request) -> Header {
            let request = self.opened(request);
            let request = Packet::new(&request).expect("a request");
            let there = NtpTimestamp::from_wall(self.now().wall) + NtpDuration::from_seconds(0.001);
            Header {
                leap: Leap::None,
                version: request.version(),
                mode: Mode::Server,
                stratum: 1,
                poll: request.poll(),
                precision: PRECISION,
                root_delay: NtpShort::default(),
                root_dispersion: NtpShort::default(),
                refid: RefId::from_bytes(*b"GPS\0"),
                reference: there + NtpDuration::from_whole_seconds(-10),
                origin: request.transmit(),
                receive: there,
                transmit: there,
            }
        }

        /// Without what carries it.
        fn opened(&self, request: &Request) -> Vec<u8> {
            let bytes = &request.bytes;
            Envelope::open(bytes, 123).map_or(bytes.clone(), |(_, ntp)| ntp.to_vec())
        }

        fn receive(&mut self, reply: &Header) -> Received {
            self.receive_bytes(&reply.to_bytes())
        }

        fn receive_bytes(&mut self, bytes: &[u8]) -> Received {
            self.pass(2);
            let arrival = Stamp::kernel(self.now().wall);
            let now = self.now();
            self.association
                .on_datagram(bytes, arrival, now, PRECISION, &[], &self.keys)
        }

        fn rejects(&mut self, test: PacketTest, spoil: impl Fn(&mut Header)) {
            let request = self.request();
            let mut reply = self.reply(&request);
            spoil(&mut reply);
            assert_eq!(self.receive(&reply), Received::Rejected(test));
            assert_eq!(self.association.rejected()[test.index()], 1, "{test:?}");
        }
    }

    #[test]
    fn an_honest_reply_is_a_sample() {
        let mut story = Story::new(SourceOptions::default());
        let request = story.request();
        let reply = story.reply(&request);
        let Received::Sample(sample) = story.receive(&reply) else {
            panic!("no sample");
        };
        assert!(sample.offset.abs() < NtpDuration::from_nanos(10));
        assert!(
            (sample.delay - NtpDuration::from_seconds(0.002)).abs() < NtpDuration::from_nanos(10)
        );
        assert_eq!(sample.origin, StampOrigin::Daemon, "the worse of T1 and T4");
        assert_eq!(story.association.reach(), 1);
        assert_eq!(
            story.receive(&reply),
            Received::Rejected(PacketTest::Duplicate)
        );
    }

    #[test]
    fn each_test_rejects_by_its_name() {
        let later = NtpDuration::from_whole_seconds(1);
        let story = || Story::new(SourceOptions::default());
        story().rejects(PacketTest::Version, |reply| reply.version = 3);
        story().rejects(PacketTest::Mode, |reply| reply.mode = Mode::Client);
        story().rejects(PacketTest::Origin, |reply| {
            reply.origin = reply.origin + NtpDuration::from_units(1);
        });
        story().rejects(PacketTest::Zero, |reply| reply.receive = NtpTimestamp::ZERO);
        story().rejects(PacketTest::Unsynchronised, |reply| {
            reply.leap = Leap::Unknown;
        });
        story().rejects(PacketTest::Unsynchronised, |reply| reply.stratum = 16);
        story().rejects(PacketTest::RootDistance, |reply| {
            reply.root_dispersion = NtpShort::from_duration(NtpDuration::from_whole_seconds(17));
        });
        story().rejects(PacketTest::Order, |reply| {
            reply.reference = reply.transmit + later;
        });
        story().rejects(PacketTest::Order, |reply| {
            reply.receive = reply.transmit + later;
        });
        story().rejects(PacketTest::Delay, |reply| {
            reply.transmit = reply.transmit + later;
        });
    }

    /// A key of our own, and how an honest server signs with it.
    fn keyed(xleave: bool) -> (Story, Key) {
        let mut story = Story::new(SourceOptions {
            key: Some(7),
            xleave,
            ..SourceOptions::default()
        });
        let key: Key = "7:SHA1:secret".parse().expect("a key");
        story.keys = KeyTable::new(vec![key.clone()]);
        (story, key)
    }

    #[test]
    fn a_request_is_signed_and_only_a_signed_reply_believed() {
        let (mut story, key) = keyed(false);
        let request = story.request();
        let (header, mac) = request.bytes.split_at(48);
        assert!(key.verifies(header, mac));
        let mut reply = story.reply(&request);
        let unsigned = reply.to_bytes();
        let auth = Received::Rejected(PacketTest::Auth);
        assert_eq!(story.receive_bytes(&unsigned), auth);
        for other in ["7:SHA1:Secret", "7:MD5:secret", "8:SHA1:secret"] {
            let other = Message::new(&reply, Some(&other.parse().expect("a key")));
            assert_eq!(story.receive_bytes(&other), auth);
        }
        // The wrong key, says he: anybody can.
        let nak = [&unsigned[..], &[0; 4]].concat();
        let expected = Received::Rejected(PacketTest::CryptoNak);
        assert_eq!(story.receive_bytes(&nak), expected);
        // And a kiss is a reply like any other.
        reply.stratum = 0;
        reply.refid = KissCode::Deny.to_refid();
        assert_eq!(story.receive(&reply), auth);
        assert_eq!(story.association.denied(), None);
        // All that was not the answer: the true one is still awaited.
        let reply = Message::new(&story.reply(&request), Some(&key));
        assert!(matches!(story.receive_bytes(&reply), Received::Sample(_)));
        assert_eq!(story.association.rejected()[PacketTest::Auth.index()], 5);
    }

    #[test]
    fn over_ptp_the_message_within_is_signed() {
        let (mut story, key) = keyed(false);
        let options = SourceOptions {
            over_ptp: Some(123),
            correction: true,
            ..*story.association.options()
        };
        let start = MonoInstant::ZERO;
        let address = story.association.address();
        story.association = Association::new(address, options, Mechanisms::default(), start);
        let request = story.request();
        let (envelope, asked) = Envelope::open(&request.bytes, 123).expect("over PTP");
        let (signed, mac) = asked.split_at(asked.len() - key.mac_len());
        assert!(signed.len() > 48 && key.verifies(signed, mac));
        let reply = story.reply(&request);
        for (signer, expected) in [(None, false), (Some(&key), true)] {
            let ntp = Message::new(&reply, signer);
            let mut prefix = [0; PREFIX_LEN_MAX];
            let len = envelope.seal(ntp.len(), &mut prefix);
            let received = story.receive_bytes(&[&prefix[..len], &ntp].concat());
            let auth = Received::Rejected(PacketTest::Auth);
            assert_eq!(matches!(received, Received::Sample(_)), expected);
            assert!(expected || received == auth, "{received:?}");
        }
    }

    #[test]
    fn a_signed_reply_that_was_changed_is_not_believed() {
        let (mut story, key) = keyed(false);
        let request = story.request();
        let reply = Message::new(&story.reply(&request), Some(&key));
        // The header's form and origin are looked at before.
        for at in (1..24).chain(32..reply.len()) {
            let mut changed = reply.to_vec();
            changed[at] ^= 1;
            let expected = Received::Rejected(PacketTest::Auth);
            assert_eq!(story.receive_bytes(&changed), expected, "{at}");
        }
        for len in 48..reply.len() {
            assert!(matches!(
                story.receive_bytes(&reply[..len]),
                Received::Rejected(PacketTest::Auth | PacketTest::Trailer | PacketTest::CryptoNak)
            ));
        }
        assert!(matches!(story.receive_bytes(&reply), Received::Sample(_)));
    }

    #[test]
    fn interleaved_replies_are_signed_as_well() {
        let (mut story, key) = keyed(true);
        let request = story.request();
        let basic = story.reply(&request);
        let reply = Message::new(&basic, Some(&key));
        assert!(matches!(story.receive_bytes(&reply), Received::Sample(_)));
        let request = story.request();
        let (header, mac) = request.bytes.split_at(48);
        assert!(key.verifies(header, mac));
        let mut reply = story.reply(&request);
        reply.origin = Packet::new(&request.bytes).expect("one").receive();
        reply.transmit = basic.transmit;
        let auth = Received::Rejected(PacketTest::Auth);
        assert_eq!(story.receive(&reply), auth);
        let reply = Message::new(&reply, Some(&key));
        assert_eq!(story.receive_bytes(&reply), Received::Nothing);
    }

    #[test]
    fn without_its_key_a_source_is_not_asked() {
        let (mut story, _) = keyed(false);
        let keys = std::mem::take(&mut story.keys);
        let dice = Dice {
            transmit: 1,
            receive: 2,
            spread: 0,
        };
        let asked = story
            .association
            .poll(story.now(), dice, &story.keys, &story.ours);
        assert_eq!(asked, None);
        assert!(story.association.deadline() > story.now().mono);
        story.keys = keys;
        story.request();
    }

    #[test]
    fn a_reply_with_a_mac_is_nothing_we_asked_for() {
        let mut story = Story::new(SourceOptions::default());
        let request = story.request();
        let mut kiss = story.reply(&request);
        kiss.stratum = 0;
        kiss.refid = KissCode::Deny.to_refid();
        for reply in [story.reply(&request), kiss] {
            // A crypto-NAK, MD5 and SHA-1.
            for mac_len in [4, 20, 24] {
                let signed = [&reply.to_bytes()[..], &vec![1; mac_len]].concat();
                let expected = Received::Rejected(PacketTest::Auth);
                assert_eq!(story.receive_bytes(&signed), expected, "{mac_len}");
            }
        }
        // Fields that nobody asked for do no harm, and the answer is still awaited.
        let field = [0x7f, 0xff, 0, 28].into_iter().chain([0; 24]);
        let reply = story.reply(&request).to_bytes();
        let reply: Vec<u8> = reply.into_iter().chain(field).collect();
        assert!(matches!(story.receive_bytes(&reply), Received::Sample(_)));
    }

    #[test]
    fn kiss_rate_raises_poll_and_ends_the_burst() {
        let mut story = Story::new(SourceOptions {
            iburst: true,
            ..SourceOptions::default()
        });
        let request = story.request();
        let mut kiss = story.reply(&request);
        kiss.stratum = 0;
        kiss.refid = KissCode::Rate.to_refid();
        assert_eq!(story.receive(&kiss), Received::Kiss(KissCode::Rate));
        assert_eq!(story.association.poll_exponent(), PollExponent::new(7));
        assert_eq!(story.association.pace, Pace::Poll);
        story.association.set_poll(PollExponent::new(6));
        assert_eq!(story.association.poll_exponent(), PollExponent::new(7));
    }

    #[test]
    fn kiss_deny_is_final_but_only_for_the_one_who_was_asked() {
        let mut story = Story::new(SourceOptions::default());
        let request = story.request();
        let mut kiss = story.reply(&request);
        kiss.stratum = 0;
        kiss.refid = KissCode::Deny.to_refid();
        kiss.origin = NtpTimestamp::from_bits(42);
        assert_eq!(
            story.receive(&kiss),
            Received::Rejected(PacketTest::Origin),
            "forged"
        );
        kiss.origin = story.reply(&request).origin;
        assert_eq!(story.receive(&kiss), Received::Kiss(KissCode::Deny));
        assert_eq!(story.association.deadline(), MonoInstant::MAX);
    }

    /// When the requests leave, in seconds, answered or not.
    fn times_s(story: &mut Story, answers: &[bool]) -> Vec<i64> {
        let mut times_s = Vec::new();
        for &answered in answers {
            let request = story.request();
            times_s.push(story.elapsed_ns / 1_000_000_000);
            if answered {
                let reply = story.reply(&request);
                assert!(matches!(story.receive(&reply), Received::Sample(_)));
            }
        }
        times_s
    }

    #[test]
    fn a_start_is_quick_and_then_takes_its_time() {
        let mut story = Story::new(SourceOptions {
            iburst: true,
            ..SourceOptions::default()
        });
        let times = times_s(&mut story, &[true; 11]);
        assert_eq!(times, [0, 2, 4, 6, 8, 11, 15, 22, 32, 47, 70]);
    }

    #[test]
    fn what_is_lost_of_a_start_is_made_up_for() {
        let mut story = Story::new(SourceOptions {
            iburst: true,
            ..SourceOptions::default()
        });
        let answers = [false, true, false, false, true, true, true, true, true];
        let times = times_s(&mut story, &answers);
        assert_eq!(times, [0, 2, 4, 6, 8, 10, 12, 14, 17]);
    }

    #[test]
    fn a_start_slows_down_when_nobody_answers() {
        let mut story = Story::new(SourceOptions {
            iburst: true,
            ..SourceOptions::default()
        });
        let times = times_s(&mut story, &[false; 9]);
        assert_eq!(times, [0, 2, 4, 6, 9, 13, 20, 30, 45]);
        assert_eq!(story.association.reach(), 0);
        let times = times_s(&mut story, &[true, true, true, true, true]);
        assert_eq!(times, [68, 70, 72, 74, 76], "there it is");
    }

    #[test]
    fn a_burst_stops_when_nobody_answers() {
        let mut story = Story::new(SourceOptions {
            burst: true,
            ..SourceOptions::default()
        });
        let answers = [true, true, true, false, false, false, false, false];
        let times = times_s(&mut story, &answers);
        assert_eq!(times, [0, 64, 66, 68, 70, 72, 74, 138]);
    }

    #[test]
    fn a_changed_network_has_the_silent_asked_soon_but_not_all_the_time() {
        let mut story = Story::new(SourceOptions::default());
        let request = story.request();
        let reply = story.reply(&request);
        story.receive(&reply);
        story.association.on_network_change(story.now().mono);
        assert!(
            story.association.deadline() > story.now().mono + CHANGE_INTERVAL,
            "it answers: nothing to find out"
        );
        story.request();
        story.pass(5000);
        assert!(story.association.expire(story.now().mono));
        assert_ne!(story.association.reach(), 0);
        story.association.on_network_change(story.now().mono);
        assert_eq!(story.association.deadline(), story.now().mono);
        story.request();
        story.association.on_send_failed();
        for _ in 0..3 {
            story.association.on_network_change(story.now().mono);
            assert_eq!(
                story.association.deadline(),
                story.now().mono + CHANGE_INTERVAL
            );
        }
    }

    #[test]
    fn interleaved_replies_measure_the_exchange_before() {
        let mut story = Story::new(SourceOptions {
            xleave: true,
            ..SourceOptions::default()
        });
        // First exchange: basic. Its reply really left 300 µs after what it says.
        let first = story.request();
        let reply = story.reply(&first);
        assert!(matches!(story.receive(&reply), Received::Sample(_)));
        let t2 = reply.receive;
        // Second: we offer to go on interleaved, the server does.
        for round in 0..3 {
            let request = story.request();
            let asked = Packet::new(&request.bytes).expect("a request");
            if round == 0 {
                assert_eq!(asked.origin(), t2);
            }
            assert_ne!(asked.receive(), asked.transmit());
            let mut reply = story.reply(&request);
            reply.origin = asked.receive();
            // What the server's kernel saw leave last time.
            reply.transmit = asked.origin() + NtpDuration::from_seconds(0.0003);
            match story.receive(&reply) {
                Received::Nothing => assert_eq!(round, 0, "measured in basic mode already"),
                Received::Sample(sample) => {
                    assert!(sample.interleaved && round > 0);
                    assert!(
                        sample.at < story.now().mono + NtpDuration::from_whole_seconds(-60),
                        "speaks of the exchange before"
                    );
                    assert!(
                        (sample.delay - NtpDuration::from_seconds(0.0017)).abs()
                            < NtpDuration::from_nanos(10)
                    );
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_steady_server_has_its_interleaved_samples_at_once_and_each_once() {
        let mut story = Story::new(SourceOptions {
            xleave: true,
            ..SourceOptions::default()
        });
        let request = story.request();
        let basic = story.reply(&request);
        story.receive(&basic);
        // It leaves the server so many microseconds after T2; 400 is a bad day.
        let took_us = [
            20, 20, 20, 20, 20, 20, 20, 400, 20, 400, 400, 20, 20, 20, 20,
        ];
        let mut ages_s = Vec::new();
        let mut times = Vec::new();
        for took_us in took_us {
            let request = story.request();
            let asked = Packet::new(&request.bytes).expect("a request");
            let mut reply = story.reply(&request);
            reply.origin = asked.receive();
            reply.transmit = asked.origin() + NtpDuration::from_nanos(took_us * 1000);
            match story.receive(&reply) {
                Received::Nothing => ages_s.push(None),
                Received::Sample(sample) => {
                    assert!(sample.interleaved);
                    let age = story.now().mono.since(sample.at);
                    ages_s.push(Some(age.as_seconds().round() as i64));
                    times.push(sample.at);
                    // The exchange takes 2 ms.
                    let error = sample.offset.abs() + sample.delay.half();
                    assert!(error <= NtpDuration::from_nanos(1_000_500), "{sample:?}");
                }
                other => panic!("{other:?}"),
            }
        }
        assert!(times.is_sorted_by(|a, b| a < b), "each exchange once");
        assert_eq!(ages_s[0], None, "measured in basic mode already");
        assert!(ages_s[1..3].iter().all(|age| age.is_some_and(|s| s >= 60)));
        assert_eq!(ages_s[3..9], [Some(0); 6], "one bad day is forgiven");
        assert_eq!(ages_s[9], None, "the second is not");
        assert!(ages_s[10..].iter().all(|age| age.is_some_and(|s| s >= 60)));
    }

    #[test]
    fn an_interleaved_reply_may_repeat_the_stamp_of_the_basic_one() {
        let mut story = Story::new(SourceOptions {
            xleave: true,
            ..SourceOptions::default()
        });
        let request = story.request();
        let basic = story.reply(&request);
        assert!(matches!(story.receive(&basic), Received::Sample(_)));
        let request = story.request();
        let mut reply = story.reply(&request);
        reply.origin = Packet::new(&request.bytes).expect("one").receive();
        reply.transmit = basic.transmit;
        assert_eq!(story.receive(&reply), Received::Nothing);
        assert_eq!(story.association.misses(), 0);
    }

    /// Basic and then interleaved, over PTP, with a switch that has the request for 300 us
    /// and the reply for 100 us.
    #[test]
    fn over_ptp_the_corrections_belong_to_their_own_exchange() {
        let mut story = Story::new(SourceOptions {
            xleave: true,
            over_ptp: Some(123),
            correction: true,
            ..SourceOptions::default()
        });
        let frame_time = NtpDuration::from_nanos(700);
        for round in 0..4 {
            let request = story.request();
            let envelope = Envelope::open(&request.bytes, 123).expect("over PTP").0;
            let reply = story.reply(&request);
            let mut header = reply;
            if round > 0 {
                let ntp = story.opened(&request);
                let asked = Packet::new(&ntp).expect("a request");
                header.origin = asked.receive();
                header.transmit = asked.origin();
            }
            let there = NtpDuration::from_nanos(300_000) + frame_time;
            let field = correction_field(envelope.form, there);
            let ntp = [&header.to_bytes()[..], &field].concat();
            let back = Envelope {
                correction: NtpDuration::from_nanos(100_000),
                ..envelope
            };
            let mut prefix = [0; PREFIX_LEN_MAX];
            let len = back.seal(ntp.len(), &mut prefix);
            let bytes = [&prefix[..len], &ntp].concat();
            story.pass(2);
            let now = story.now();
            let plain = story.association.on_datagram(
                &reply.to_bytes(),
                Stamp::kernel(now.wall),
                now,
                PRECISION,
                &[],
                &story.keys,
            );
            assert_eq!(plain, Received::Rejected(PacketTest::Transport));
            let arrival = Stamp {
                frame_time,
                ..Stamp::exact(now.wall, StampOrigin::Hardware)
            };
            match story
                .association
                .on_datagram(&bytes, arrival, now, PRECISION, &[], &story.keys)
            {
                Received::Sample(sample) => {
                    // 2 ms, all of them the network's, as T3 is T2.
                    let corrected = NtpDuration::from_nanos(1_600_000);
                    let off = (sample.delay - corrected).abs();
                    assert!(off < NtpDuration::from_nanos(50), "{sample:?}");
                    assert!(!sample.root_delay.is_negative());
                    assert!(sample.root_delay > NtpDuration::from_nanos(399_000));
                }
                other => assert_eq!((round, other), (1, Received::Nothing)),
            }
        }
    }

    #[test]
    fn an_interleaved_client_starts_over_when_forgotten() {
        let mut story = Story::new(SourceOptions {
            xleave: true,
            ..SourceOptions::default()
        });
        let request = story.request();
        let reply = story.reply(&request);
        story.receive(&reply);
        for _ in 0..4 {
            assert!(
                !Packet::new(&story.request().bytes)
                    .expect("one")
                    .origin()
                    .is_zero()
            );
        }
        assert!(
            Packet::new(&story.request().bytes)
                .expect("one")
                .origin()
                .is_zero()
        );
    }
}

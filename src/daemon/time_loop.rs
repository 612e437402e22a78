//! The time loop: the one place that owns the clock, the client sockets and the
//! node. It does no lookups, no files and no HTTP; what is slow is handed to
//! others as an [`Errand`].
//!
//! [`TimeLoop`] is what both backends turn: alone in a thread of its own (io_uring), or
//! as a part of the single thread (poll).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use log::{error, info, warn};

use crate::client::association::Whence;
use crate::config::BroadcastLine;
use crate::daemon::broadcast::{Broadcast, Ears, Teller};
use crate::daemon::cards::Card;
use crate::daemon::clock::{Clock, StepWatch};
use crate::daemon::distribution::Distribution;
use crate::daemon::exchange::{Delivery, Exchange};
use crate::daemon::follower::{Follower, Leader};
use crate::daemon::hardware::{CardReport, Hardware};
use crate::daemon::phc;
use crate::daemon::refclock::Refclocks;
use crate::daemon::snapshot::Snapshot;
use crate::daemon::statistics::{Entry, Needs, What};
use crate::hardware::card::Cards;
use crate::linux::clock;
use crate::linux::udp::{ClientSocket, Leaving, StampingHold};
use crate::linux::wait::{Interest, Ready};
use crate::node::action::{Action, AssociationId, SourceId};
use crate::node::engine::Node;
use crate::node::engine::reload::Changes;
use crate::node::report::NodeReport;
use crate::server::respond::{Policy, Request, Responder, complete};
use crate::server::verdict::Verdict;
use crate::sync::command::ClockCommand;
use crate::sync::filter::Start;
use crate::sync::leap::LeapTable;
use crate::system::SystemState;
use crate::time::duration::NtpDuration;
use crate::time::instant::{MonoInstant, Now, WallInstant};
use crate::time::stamp::Stamp;
use crate::wire::packet::{Mode, PACKET_LEN_MAX};

/// The port of NTP, until it is known which one is served on.
const PORT: u16 = 123;

/// Numbers of the sockets that hear broadcasts, above those of associations.
const EARS: u64 = 1 << 40;

/// Histograms, the report and the watchdog are served this often.
const TICK: NtpDuration = NtpDuration::from_whole_seconds(1);

/// Something for others to do.
#[derive(Debug)]
pub enum Errand {
    /// Answer requests with this from now on. `stepped`: stamps of before and
    /// after don't go together.
    Publish {
        /// What to serve with.
        snapshot: Snapshot,
        /// Was the clock moved?
        stepped: bool,
    },
    /// Judge the stamps of network cards by this from now on.
    Cards(Box<Cards>),
    /// Look the source's name up.
    Resolve(SourceId),
    /// These are our servers now: `restrict source` applies to them.
    Upstreams(Vec<IpAddr>),
    /// Write the drift file.
    KeepFrequency(Start),
    /// Keep it in the files that are about it.
    Keep(Box<Entry>),
    /// A second has passed.
    Tick,
    /// The clock was set once, and no more was asked.
    Done,
    /// Stop with this sentence.
    Fatal(String),
    /// Stop with this sentence, and stay stopped.
    Panic(String),
}

/// Clock, node and client sockets.
#[derive(Debug)]
pub struct TimeLoop {
    node: Node,
    clock: Clock,
    watch: StepWatch,
    exchanges: BTreeMap<AssociationId, Exchange>,
    hardware: Hardware,
    refclocks: Refclocks,
    followers: Vec<Follower>,
    /// Keeps kernel stamping warm between requests.
    _stamping: Option<StampingHold>,
    next_tick: MonoInstant,
    offsets: Distribution,
    true_errors: Option<Distribution>,
    buffer: Box<[u8; PACKET_LEN_MAX]>,
    /// Whom nothing can be sent to, as the operator was told.
    unsendable: BTreeSet<std::net::SocketAddr>,
    /// Why the clock is not steered though it should be.
    refused: Option<String>,
    /// Are events kept in a file?
    keeps_events: bool,
    /// How requests leave.
    leaving: Leaving,
    /// Code point of differentiated services of all we send unasked.
    dscp: u8,
    served: Served,
    broadcasts: Vec<Broadcast>,
    /// Where broadcasts are listened to: the groups, and how.
    heard: Option<(Vec<IpAddr>, Ears)>,
}

/// The port we serve on, which peers are spoken with by.
struct Served {
    port: u16,
    /// Answers peers that ask as clients, since their requests arrive where their other
    /// packets do; none if nobody is served.
    responder: Option<Responder>,
    policy: Arc<Policy>,
    reply: Box<[u8; PACKET_LEN_MAX]>,
}

impl std::fmt::Debug for Served {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Served")
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

impl TimeLoop {
    /// A loop that starts with its next [`turn`](Self::turn).
    pub fn new(node: Node, clock: Clock) -> Self {
        let true_errors = clock.true_error().map(|_| Distribution::new());
        Self {
            node,
            clock,
            watch: StepWatch::new(),
            exchanges: BTreeMap::new(),
            hardware: Hardware::default(),
            refclocks: Refclocks::default(),
            followers: Vec::new(),
            _stamping: StampingHold::new().ok(),
            next_tick: clock::monotonic() + TICK,
            offsets: Distribution::new(),
            true_errors,
            buffer: Box::new([0; PACKET_LEN_MAX]),
            unsendable: BTreeSet::new(),
            refused: None,
            leaving: Leaving::default(),
            dscp: 0,
            served: Served {
                port: PORT,
                responder: None,
                policy: Arc::default(),
                reply: Box::new([0; PACKET_LEN_MAX]),
            },
            broadcasts: Vec::new(),
            heard: None,
            keeps_events: false,
        }
    }

    /// Peers are spoken with by this port of ours; `responder` answers those that ask as
    /// clients from theirs, if anybody is served.
    pub fn serve_peers(&mut self, port: u16, responder: Option<Responder>) {
        self.served.port = port;
        self.served.responder = responder;
    }

    /// Does what is due now. What is for others is appended to `errands`.
    pub fn turn(&mut self, errands: &mut Vec<Errand>) {
        let now = self.clock.now();
        if let Some(moved) = self.watch.moved() {
            self.steered(clock::realtime(), moved, 0.0);
            self.node.on_foreign_step(moved, now);
            for follower in &mut self.followers {
                follower.start_over();
            }
            errands.push(self.publication(*self.node.state(), true));
        }
        if self.hardware.turn(now.mono) {
            errands.push(self.cards_publication());
        }
        if self.turn_followers(now) {
            errands.push(self.cards_publication());
        }
        self.give_up_waiting(now.mono);
        self.broadcast(now.mono);
        self.node.on_timer(now);
        self.act(errands);
        if now.mono >= self.next_tick {
            self.next_tick = self.next_tick.max(now.mono + -TICK) + TICK;
            self.measure(now);
            errands.push(Errand::Tick);
        }
    }

    /// When [`turn`](Self::turn) is due next.
    pub fn deadline(&self) -> MonoInstant {
        let held = self.exchanges.values().filter_map(Exchange::deadline);
        let followers = self.followers.iter().map(Follower::deadline);
        let broadcasts = self.broadcasts.iter().map(Broadcast::deadline);
        held.chain(followers)
            .chain(broadcasts)
            .chain([
                self.node.deadline(),
                self.next_tick,
                self.hardware.deadline(),
            ])
            .min()
            .expect("three at least")
    }

    /// These network cards can be asked for stamps from now on.
    pub fn set_cards(&mut self, cards: Vec<Card>, timeout: NtpDuration) {
        self.hardware.set_cards(cards, timeout, clock::monotonic());
    }

    /// Requests leave like this from now on, and all that is sent unasked has this code
    /// point of differentiated services.
    pub fn set_leaving(&mut self, leaving: Leaving, dscp: u8) {
        self.leaving = leaving;
        self.dscp = dscp;
    }

    /// These clocks are read for sources, and those follow ours.
    pub fn set_phcs(&mut self, refclocks: Refclocks, followers: Vec<Follower>) {
        self.refclocks = refclocks;
        self.followers = followers;
    }

    /// These are told the time unasked from now on, and others are listened to: those who
    /// broadcast, and in `groups`. To be called after [`serve_peers`](Self::serve_peers).
    pub fn set_broadcasts(&mut self, lines: &[BroadcastLine], groups: Option<Vec<IpAddr>>) {
        let now = clock::monotonic();
        let told = lines.iter().map(|&line| Broadcast::new(line, now));
        self.broadcasts = told.collect();
        self.listen(groups);
    }

    fn listen(&mut self, groups: Option<Vec<IpAddr>>) {
        // Before others of the port are opened, the old ones have to be closed.
        self.heard = None;
        self.heard = groups.map(|groups| {
            let ears = Ears::open(self.served.port, &groups);
            (groups, ears)
        });
    }

    /// The network cards in use, as they do.
    pub fn cards(&self) -> Vec<CardReport> {
        self.hardware.report()
    }

    /// The client sockets, under tokens from `first_token` on.
    pub fn interests(&self, first_token: u64, interests: &mut Vec<Interest>) {
        interests.extend(
            self.exchanges
                .iter()
                .map(|(id, exchange)| Interest::socket(exchange.socket.fd(), first_token + id.0)),
        );
        let ears = self.heard.iter().flat_map(|(_, ears)| ears.fds());
        let numbered = (first_token + EARS..).zip(ears);
        interests.extend(numbered.map(|(token, fd)| Interest::read(fd, token)));
    }

    /// A client socket is ready; `first_token` as given to
    /// [`interests`](Self::interests). Departures are read before arrivals, so that
    /// T1 is the kernel's when the reply is judged.
    pub fn on_ready(&mut self, ready: &Ready, first_token: u64, errands: &mut Vec<Errand>) {
        let number = ready.token - first_token;
        if number >= EARS {
            self.hear((number - EARS) as usize);
            return self.act(errands);
        }
        let id = AssociationId(number);
        if ready.error {
            self.read_departure(id);
        }
        if ready.read {
            self.read_reply(id);
        }
        self.act(errands);
    }

    fn hear(&mut self, index: usize) {
        let Some((_, ears)) = &self.heard else {
            return;
        };
        if let Some((len, from)) = ears.hear(index, &mut self.buffer[..]) {
            let now = self.clock.now();
            self.node.on_broadcast(&self.buffer[..len], from, now);
        }
    }

    /// A name was looked up.
    pub fn on_resolved(
        &mut self,
        source: SourceId,
        addresses: Vec<std::net::SocketAddr>,
        errands: &mut Vec<Errand>,
    ) {
        self.node.on_resolved(source, addresses, self.clock.now());
        self.act(errands);
    }

    /// Interfaces or addresses changed.
    pub fn on_network_change(&mut self, own: Vec<IpAddr>, errands: &mut Vec<Errand>) {
        self.node.on_network_change(own, self.clock.now());
        if let Some((groups, _)) = self.heard.take() {
            self.listen(Some(groups));
        }
        self.act(errands);
    }

    /// A new configuration for the node.
    pub fn reconfigure(&mut self, mut changes: Changes, errands: &mut Vec<Errand>) {
        changes.steer &= self.clock.is_steered();
        self.node.reconfigure(changes, self.clock.now());
        self.act(errands);
    }

    /// An operator's order to the node.
    pub fn order<T>(
        &mut self,
        errands: &mut Vec<Errand>,
        order: impl FnOnce(&mut Node, Now) -> T,
    ) -> T {
        let done = order(&mut self.node, self.clock.now());
        self.act(errands);
        done
    }

    /// New access rules, for our own servers' packets.
    pub fn set_policy(&mut self, policy: Arc<Policy>) {
        self.served.policy = Arc::clone(&policy);
        self.node.set_policy(policy);
    }

    /// What is kept in files from now on.
    pub fn set_needs(&mut self, needs: Needs) {
        self.node.set_wanted(needs.facts);
        self.keeps_events = needs.events;
    }

    /// Why the clock was not steered when it should have been, if that happened.
    pub fn refused(&self) -> Option<String> {
        self.refused.clone()
    }

    /// What the leap second file says.
    pub fn set_leap_table(&mut self, table: LeapTable) {
        self.node.set_leap_table(table);
    }

    /// The clock, to be read.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// What the server answers with now.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            state: *self.node.state(),
            clock: self.clock.map(),
        }
    }

    /// What the node knows now.
    pub fn report(&self) -> NodeReport {
        self.node.report(self.clock.now())
    }

    /// |offset| as we believed it to be, each second while synchronised.
    pub fn offsets(&self) -> &Distribution {
        &self.offsets
    }

    /// |true error| of a virtual clock, each second.
    pub fn true_errors(&self) -> Option<&Distribution> {
        self.true_errors.as_ref()
    }

    /// Leaves the clock at its own frequency: nobody will end a slew after us.
    pub fn finish(&mut self) {
        self.exchanges.clear();
        for follower in &mut self.followers {
            follower.finish();
        }
        if self.node.is_slewing() {
            let command = ClockCommand::SetFrequency(self.node.frequency());
            if let Err(failure) = self.clock.apply(command) {
                self.report_steering(command, &failure);
            }
        }
    }

    /// The frequency worth keeping, at the end.
    pub fn drift(&self) -> Option<Start> {
        self.node.drift(clock::monotonic())
    }

    fn publication(&self, state: SystemState, stepped: bool) -> Errand {
        let clock = self.clock.map();
        Errand::Publish {
            snapshot: Snapshot { state, clock },
            stepped,
        }
    }

    fn cards_publication(&self) -> Errand {
        Errand::Cards(Box::new(*self.hardware.cards()))
    }

    fn measure(&mut self, now: Now) {
        if self.node.state().is_synchronised()
            && let Some(offset) = self.node.offset_at(now.mono)
        {
            self.offsets.record(offset.abs());
        }
        if let (Some(errors), Some(error)) = (&mut self.true_errors, self.clock.true_error()) {
            errors.record(error.abs());
        }
    }

    fn act(&mut self, errands: &mut Vec<Errand>) {
        while let Some(action) = self.node.take_action() {
            match action {
                Action::Send {
                    association,
                    to,
                    from,
                    bytes,
                } => match from {
                    Whence::Served => self.send_to_peer(association, to, &bytes),
                    Whence::Fresh => self.send(association, to, None, &bytes),
                    Whence::Port(port) => self.send(association, to, Some(port), &bytes),
                },
                Action::Close(association) => {
                    self.exchanges.remove(&association);
                }
                Action::Steer(command) => self.steer(command, errands),
                Action::Publish(state) => errands.push(self.publication(state, false)),
                Action::ReadClock {
                    association,
                    source,
                } => self.read_clock(association, source),
                Action::Resolve(source) => errands.push(Errand::Resolve(source)),
                Action::Upstreams(addresses) => errands.push(Errand::Upstreams(addresses)),
                Action::KeepFrequency(frequency) => {
                    errands.push(Errand::KeepFrequency(frequency));
                }
                Action::Record(record) => {
                    let what = What::Fact(record.fact);
                    let now = record.now;
                    errands.push(Errand::Keep(Box::new(Entry { now, what })));
                }
                Action::Log(event) => {
                    if event.is_warning() {
                        warn!("{event}");
                    } else {
                        info!("{event}");
                    }
                    if self.keeps_events {
                        let now = self.clock.now();
                        let what = What::Event(event, Box::new(self.node.report(now)));
                        errands.push(Errand::Keep(Box::new(Entry { now, what })));
                    }
                }
                Action::Done => errands.push(Errand::Done),
                Action::Fatal(sentence) => errands.push(Errand::Fatal(sentence)),
                Action::Panic(sentence) => errands.push(Errand::Panic(sentence)),
            }
        }
    }

    fn read_clock(&mut self, association: AssociationId, source: SourceId) {
        let reading = self.refclocks.read(source, &self.clock);
        let now = self.clock.now();
        match reading {
            Some(reading) => self.node.on_reading(association, &reading, now),
            None => self.node.on_reading_failed(association, now),
        }
    }

    /// Whether any of the cards' clocks was steered.
    fn turn_followers(&mut self, now: Now) -> bool {
        let mut any = false;
        for follower in &mut self.followers {
            if now.mono < follower.deadline() {
                continue;
            }
            let leader = Leader {
                clock: &self.clock,
                synchronised: self.node.state().is_synchronised(),
                tai_offset: self.node.tai_offset(now).or_else(phc::kernel_tai_offset),
            };
            if let Some(bent) = follower.turn(&leader, now.mono) {
                self.hardware.bent(&bent);
                any = true;
            }
        }
        any && !self.hardware.is_empty()
    }

    /// CLOCK_REALTIME was stepped by `step` when it showed `at`, and from then on runs
    /// faster by the ratio `faster`: all who keep lines to it have to know.
    fn steered(&mut self, at: WallInstant, step: NtpDuration, faster: f64) {
        self.hardware.steered(at, step, faster);
        self.refclocks.steered(at, step, faster);
        for follower in &mut self.followers {
            follower.steered(at, step, faster);
        }
    }

    /// Sends from a fresh socket: its port is part of what a forger has to guess, unless
    /// it has to be `from_port`.
    fn send(
        &mut self,
        id: AssociationId,
        to: std::net::SocketAddr,
        from_port: Option<u16>,
        bytes: &[u8],
    ) {
        // Of two sockets on one port, the last one would get the answer.
        self.exchanges.remove(&id);
        let by_card = !self.hardware.is_empty();
        let socket = match from_port {
            None => ClientSocket::connect_leaving(to, by_card, &self.leaving),
            Some(port) => ClientSocket::connect_from(port, to, by_card),
        };
        let now = clock::realtime();
        let sent = socket.and_then(|mut socket| {
            socket.set_dscp(self.dscp)?;
            socket.send(bytes)?;
            Ok(socket)
        });
        match sent {
            Ok(socket) => self.note_sent(id, to, Exchange::new(socket, Stamp::daemon(now))),
            Err(error) => self.note_unsent(id, to, &error),
        }
    }

    /// Sends from the port we serve on, by a socket that stays open and that the kernel
    /// prefers for what comes from there. It is opened anew after each packet that was not
    /// answered: sockets of an address that came up since may stand before it.
    fn send_to_peer(&mut self, id: AssociationId, to: std::net::SocketAddr, bytes: &[u8]) {
        let by_card = !self.hardware.is_empty();
        let port = self.served.port;
        let open = self.exchanges.remove(&id).map(Ok).unwrap_or_else(|| {
            let socket = ClientSocket::connect_from(port, to, by_card)?;
            socket.set_dscp(self.dscp)?;
            Ok(Exchange::new(socket, Stamp::daemon(clock::realtime())))
        });
        let sent = open.and_then(|mut exchange| {
            let late = self.node.restamp(id, self.clock.now());
            let now = Stamp::daemon(clock::realtime());
            let sent = exchange.socket.send(late.as_deref().unwrap_or(bytes))?;
            let held = exchange.sent_to_peer(to, sent, now);
            Ok((exchange, held))
        });
        match sent {
            Ok((exchange, held)) => {
                self.note_sent(id, to, exchange);
                if let Some(delivery) = held {
                    self.deliver(id, &delivery);
                }
            }
            Err(error) => self.note_unsent(id, to, &error),
        }
    }

    fn broadcast(&mut self, now: MonoInstant) {
        let teller = Teller {
            port: self.served.port,
            dscp: self.dscp,
            state: self.node.state(),
            clock: &self.clock,
            keys: &self.served.policy.keys,
        };
        for broadcast in &mut self.broadcasts {
            broadcast.turn(now, &teller);
        }
    }

    fn note_sent(&mut self, id: AssociationId, to: std::net::SocketAddr, exchange: Exchange) {
        self.unsendable.remove(&to);
        if let Ok(local) = exchange.socket.local_addr() {
            self.node.on_sent(id, local.ip());
        }
        self.exchanges.insert(id, exchange);
    }

    fn note_unsent(&mut self, id: AssociationId, to: std::net::SocketAddr, error: &io::Error) {
        if self.unsendable.insert(to) {
            warn!("cannot send to {to}: {error}; trying again at each poll");
        }
        self.node.on_send_failed(id, self.clock.now());
    }

    /// A request that a peer sends as a client from its port comes by the socket of our
    /// association with it. True if `bytes` are one.
    fn answer_client(&mut self, id: AssociationId, delivery: &Delivery) -> bool {
        let is_request = delivery
            .bytes
            .first()
            .is_some_and(|&first| Mode::from_bits(first) == Mode::Client);
        let Some(exchange) = self.exchanges.get_mut(&id).filter(|_| is_request) else {
            return false;
        };
        let (Some(responder), Some(from)) = (&mut self.served.responder, exchange.peer()) else {
            return false;
        };
        let request = Request {
            bytes: &delivery.bytes,
            from,
            group: false,
            received: self.clock.localise(delivery.answer.stamp).at,
        };
        let (policy, state) = (&self.served.policy, self.node.state());
        let (now, out) = (clock::monotonic(), &mut *self.served.reply);
        if let Verdict::Reply { len, kind, .. } =
            responder.respond(policy, state, &request, now, out)
        {
            let reply = &mut self.served.reply[..len];
            if kind.wants_transmit() {
                complete(&policy.keys, reply, self.clock.now().wall);
            }
            // Lost like any other datagram.
            let _ = exchange.socket.send(reply);
        }
        true
    }

    fn read_departure(&mut self, id: AssociationId) {
        let Some(exchange) = self.exchanges.get_mut(&id) else {
            return;
        };
        match exchange.socket.receive_departure() {
            Ok(Some(departure)) if !exchange.awaits(departure.id) => {}
            Ok(Some(departure)) => {
                if let Some(stamp) = departure.kernel {
                    exchange.departed_kernel(stamp);
                    self.node.on_departure(id, self.clock.localise(stamp));
                }
                if let Some(stamp) = departure.card
                    && let Some(delivery) = exchange.departed_card(stamp)
                {
                    self.deliver(id, &delivery);
                }
            }
            Ok(None) => {}
            // An ICMP error: nobody is there.
            Err(_) => self.node.on_send_failed(id, self.clock.now()),
        }
    }

    fn read_reply(&mut self, id: AssociationId) {
        let Some(exchange) = self.exchanges.get_mut(&id) else {
            return;
        };
        match exchange.socket.receive(&mut self.buffer[..]) {
            Ok(Some(answer)) => {
                let wait = answer
                    .card
                    .as_ref()
                    .map(|by| self.hardware.departure_wait(by));
                let until = wait.map(|wait| clock::monotonic() + wait);
                let bytes = &self.buffer[..answer.len];
                if let Some(delivery) = exchange.answered(bytes, answer, until) {
                    self.deliver(id, &delivery);
                }
            }
            Ok(None) => {}
            Err(_) => self.node.on_send_failed(id, self.clock.now()),
        }
    }

    /// Answers whose requests' departure stamps don't come.
    fn give_up_waiting(&mut self, now: MonoInstant) {
        let expired: Vec<_> = self
            .exchanges
            .iter_mut()
            .filter_map(|(id, exchange)| Some((*id, exchange.expire(now)?)))
            .collect();
        for (id, delivery) in expired {
            if let Some(by) = &delivery.answer.card {
                self.hardware.departure_missing(by);
            }
            self.deliver(id, &delivery);
        }
    }

    /// T4 and T1 by the card if it took both, else by the kernel.
    fn deliver(&mut self, id: AssociationId, delivery: &Delivery) {
        if self.answer_client(id, delivery) {
            return;
        }
        let answer = &delivery.answer;
        let by_card = self.hardware.arrival(answer);
        let departure = delivery
            .departure
            .and_then(|(kernel, card)| self.hardware.departure(kernel, card));
        let arrival = match by_card.zip(departure) {
            Some((arrival, departure)) => {
                self.node.on_departure(id, self.clock.localise(departure));
                arrival
            }
            None => answer.stamp,
        };
        let (arrival, now) = (self.clock.localise(arrival), self.clock.now());
        self.node.on_datagram(id, &delivery.bytes, arrival, now);
    }

    fn steer(&mut self, command: ClockCommand, errands: &mut Vec<Errand>) {
        let frequency = self.clock.frequency();
        match self.clock.apply(command) {
            Ok(applied) => {
                if matches!(self.clock, Clock::System { .. }) {
                    let (before, after) = (frequency.ratio(), applied.frequency.ratio());
                    let at = applied.now.wall - applied.stepped;
                    let faster = (1.0 + after) / (1.0 + before) - 1.0;
                    self.steered(at, applied.stepped, faster);
                    if !self.hardware.is_empty() {
                        errands.push(self.cards_publication());
                    }
                }
                if applied.stepped != NtpDuration::ZERO {
                    for follower in &mut self.followers {
                        follower.start_over();
                    }
                    if matches!(self.clock, Clock::System { .. }) {
                        self.watch.expect(applied.stepped);
                    }
                    // Requests under way were stamped by a clock that is no more.
                    self.exchanges.clear();
                }
                if !matches!(command, ClockCommand::SetStatus(_)) {
                    self.node.on_applied(&applied);
                }
                // A status too: CLOCK_TAI may be another by it, which XDP tells the time from.
                let stepped = applied.stepped != NtpDuration::ZERO;
                errands.push(self.publication(*self.node.state(), stepped));
            }
            Err(failure) => self.report_steering(command, &failure),
        }
    }

    fn report_steering(&mut self, command: ClockCommand, failure: &io::Error) {
        if self.refused.is_none() {
            let sentence =
                format!("adjtimex refuses {command:?}: {failure}; the clock is not steered");
            error!("{sentence}");
            self.refused = Some(sentence);
        }
    }
}

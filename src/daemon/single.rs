//! The daemon in one thread and one `poll`: client, server, control socket,
//! metrics, interfaces and files. For hosts where io_uring is switched off, and
//! for clock simulators that are preloaded (they know `poll` and little else).

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};

use log::warn;

use crate::config::stamping::CardLine;
use crate::config::statistics::StatisticsConfig;
use crate::daemon::cards::{CHECK_INTERVAL, Keeper};
use crate::daemon::cmdmon::{self, BUFFER_LEN, Post, Step, TURN_MAX};
use crate::daemon::counters::{self, CardCounts, WorkerCounters};
use crate::daemon::desk::Desk;
use crate::daemon::drift;
use crate::daemon::errands::{End, Errands, Hands};
use crate::daemon::leaps;
use crate::daemon::options::{Reload, Reread};
use crate::daemon::query::{Answerer, Knowledge, Query};
use crate::daemon::resolve::{Outcome, Question, Resolver};
use crate::daemon::snapshot::Snapshot;
use crate::daemon::statistics::Entry;
use crate::daemon::statistics::files::Scribe;
use crate::daemon::status::{Collect, Report, ServerCounts};
use crate::daemon::time_loop::{Errand, TimeLoop};
use crate::daemon::xdp::Tier;
use crate::hardware::card::Cards;
use crate::linux::clock;
use crate::linux::netlink::{self, Changes};
use crate::linux::ring::Tallies;
use crate::linux::signal::Signals;
use crate::linux::udp::{Arrival, SendId, ServerSocket};
use crate::linux::wait::{Interest, Ready, Waiter};
use crate::node::action::SourceId;
use crate::server::interleave::TxToken;
use crate::server::over_ptp::{Carriage, PtpService};
use crate::server::recent::{RecentClient, RecentTable};
use crate::server::respond::{Policy, Request, Responder, complete};
use crate::server::rule::Prefix;
use crate::server::verdict::{Reason, Verdict};
use crate::sync::filter::Start;
use crate::time::duration::NtpDuration;
use crate::time::instant::{MonoInstant, WallInstant};
use crate::wire::packet::PACKET_LEN_MAX;

const NETLINK: u64 = 0;
const SERVERS: u64 = 1 << 32;
const DESKS: u64 = 2 << 32;
const POSTS: u64 = 5 << 31;
const CLIENTS: u64 = 3 << 32;

/// How long links are left to settle before cards are looked at.
const SETTLE: NtpDuration = NtpDuration::from_units(429_496_730); // 100 ms

/// Replies whose departure stamp is awaited, per socket. A stamp comes within
/// microseconds; what is older than so many sends will not come.
const AWAITED_MAX: usize = 64;

/// Requests of ntpq in one turn.
const QUERIES_MAX: usize = 16;

/// What ntpq asks.
pub struct Asked {
    /// To be answered at the end of the turn; which socket was asked.
    waiting: Vec<(usize, Query)>,
    answerer: Answerer,
}

impl Asked {
    /// `secret` is unguessable.
    pub fn new(secret: [u8; 32]) -> Self {
        Self {
            waiting: Vec::with_capacity(QUERIES_MAX),
            answerer: Answerer::new(secret, clock::monotonic()),
        }
    }
}

/// The server's part of the loop: the one worker that there is.
pub struct Server {
    sockets: Vec<Socket>,
    responder: Responder,
    policy: Arc<Policy>,
    snapshot: Snapshot,
    cards: Cards,
    by_card: bool,
    card_counts: CardCounts,
    counters: Arc<Counted>,
    tallies: Tallies,
    buffer: Box<[u8; PACKET_LEN_MAX + 1]>,
    reply: Box<[u8; PACKET_LEN_MAX]>,
    asked: Asked,
}

struct Socket {
    socket: ServerSocket,
    over_ptp: Option<PtpService>,
    awaited: VecDeque<Awaited>,
}

/// A reply whose departure stamps are awaited.
struct Awaited {
    id: SendId,
    token: TxToken,
    /// The network stack's stamp; before it came, when we had it sent.
    left: WallInstant,
}

impl Socket {
    /// Some reply left whose departure is awaited, unless no stamp was to be had.
    fn expect_departure(&mut self, id: Option<SendId>, token: TxToken, left: WallInstant) {
        let Some(id) = id else {
            return;
        };
        if self.awaited.len() == AWAITED_MAX {
            self.awaited.pop_front();
        }
        self.awaited.push_back(Awaited { id, token, left });
    }
}

/// What the loop counts and whom it remembers, where those who report find it.
#[derive(Debug, Default)]
pub struct Counted {
    counters: WorkerCounters,
    recent: Option<Arc<RecentTable>>,
}

impl Counted {
    /// So many clients are remembered; `seed` is unguessable.
    pub fn new(seed: u64, clients: usize) -> Self {
        Self {
            counters: WorkerCounters::default(),
            recent: (clients > 0).then(|| Arc::new(RecentTable::new(clients, seed))),
        }
    }
}

impl Collect for Counted {
    fn collect(&self) -> ServerCounts {
        counters::collect([&self.counters])
    }

    fn recent_clients(&self) -> Option<Vec<RecentClient>> {
        let table = self.recent.as_deref()?;
        Some(table.clients().collect())
    }
}

impl Server {
    /// Answers on `sockets`, and over PTP on those that have that service's port.
    pub fn new(
        sockets: Vec<ServerSocket>,
        over_ptp: Option<PtpService>,
        mut responder: Responder,
        snapshot: Snapshot,
        policy: Arc<Policy>,
        counters: Arc<Counted>,
        asked: Asked,
    ) -> Self {
        if let Some(recent) = &counters.recent {
            responder.remember(Arc::clone(recent));
        }
        Self {
            sockets: sockets
                .into_iter()
                .map(|socket| Socket {
                    over_ptp: over_ptp.filter(|ptp| ptp.port == socket.local_addr().port()),
                    socket,
                    awaited: VecDeque::with_capacity(AWAITED_MAX),
                })
                .collect(),
            responder,
            policy,
            snapshot,
            cards: Cards::default(),
            by_card: false,
            card_counts: CardCounts::default(),
            counters,
            tallies: Tallies::default(),
            buffer: Box::new([0; PACKET_LEN_MAX + 1]),
            reply: Box::new([0; PACKET_LEN_MAX]),
            asked,
        }
    }

    fn interests(&self, interests: &mut Vec<Interest>) {
        let numbered = (SERVERS..).zip(&self.sockets);
        interests.extend(numbered.map(|(token, s)| Interest::socket(s.socket.fd(), token)));
    }

    fn on_ready(&mut self, ready: &Ready) {
        let index = (ready.token - SERVERS) as usize;
        if ready.error {
            self.read_departure(index);
        }
        if ready.read {
            self.answer(index);
        }
    }

    /// One request, one reply: more would let a flood keep the clock waiting.
    fn answer(&mut self, index: usize) {
        let socket = &mut self.sockets[index];
        // An error of a server's socket is the fate of an earlier reply.
        let Ok(Some(arrival)) = socket.socket.receive(&mut self.buffer[..]) else {
            return;
        };
        let (received, frame_time) = self.arrived(&arrival);
        let request = Request {
            bytes: &self.buffer[..arrival.len],
            from: arrival.from,
            group: arrival.group,
            received: self.snapshot.clock.to_local(received),
        };
        let (policy, state) = (&self.policy, &self.snapshot.state);
        let (now, out) = (clock::monotonic(), &mut *self.reply);
        let responder = &mut self.responder;
        let (verdict, start) = match self.sockets[index].over_ptp {
            None => (responder.respond(policy, state, &request, now, out), 0),
            Some(PtpService { domain, .. }) => {
                let carriage = Carriage { domain, frame_time };
                responder.respond_over_ptp(carriage, policy, state, &request, now, out)
            }
        };
        self.counters.counters.count(&verdict);
        if verdict == Verdict::Drop(Reason::Control) {
            let Arrival {
                from,
                to,
                interface,
                len,
                ..
            } = arrival;
            match Query::new(&self.buffer[..len], from, to, interface) {
                // Strangers don't take all the room.
                Some(query)
                    if self.asked.waiting.len() < QUERIES_MAX / 2
                        || self.asked.waiting.len() < QUERIES_MAX
                            && query.is_known(&self.policy.keys) =>
                {
                    self.asked.waiting.push((index, query));
                }
                _ => self.counters.counters.note_control_dropped(),
            }
        }
        let Verdict::Reply { len, kind, track } = verdict else {
            return;
        };
        let real = clock::realtime();
        let reply = &mut self.reply[..len];
        if kind.wants_transmit() {
            let at = self.snapshot.clock.to_local(real);
            complete(&self.policy.keys, &mut reply[start..], at);
        }
        let (to, from, interface) = (arrival.from, arrival.to, arrival.interface);
        let socket = &mut self.sockets[index];
        let sent = match track {
            None => socket.socket.send(reply, to, from, interface),
            Some(token) => socket
                .socket
                .send_stamped(reply, to, from, interface)
                .map(|id| socket.expect_departure(id, token, real)),
        };
        if sent.is_ok() {
            self.counters.counters.note_latency(arrival.stamp.at, real);
        } else {
            // Lost like any other datagram; counted like a ring's.
            self.tallies.send_errors += 1;
            self.counters.counters.set_ring(&self.tallies);
        }
    }

    /// Answers ntpq; what is asked beyond our means is dropped, since nobody may wait.
    fn serve_queries(&mut self, report: impl FnOnce() -> Report) {
        if self.asked.waiting.is_empty() {
            return;
        }
        // Before the report is made, which a flood is not worth.
        let keys = &self.policy.keys;
        let known = self.asked.waiting.iter().any(|(_, q)| q.is_known(keys));
        if self.asked.answerer.pause(clock::monotonic(), known) > NtpDuration::ZERO {
            for _ in self.asked.waiting.drain(..) {
                self.counters.counters.note_control_dropped();
            }
            return;
        }
        let report = report();
        let counted = Arc::clone(&self.counters);
        for (index, query) in self.asked.waiting.drain(..) {
            let known = query.is_known(&self.policy.keys);
            if self.asked.answerer.pause(clock::monotonic(), known) > NtpDuration::ZERO {
                self.counters.counters.note_control_dropped();
                continue;
            }
            let knowledge = Knowledge {
                report: &report,
                policy: &self.policy,
                now: self.snapshot.clock.to_local(clock::realtime()),
                clients: &|| counted.recent_clients().unwrap_or_default(),
                clients_max: counted.recent.as_ref().map_or(0, |table| table.capacity()),
            };
            let socket = &self.sockets[index].socket;
            let answerer = &mut self.asked.answerer;
            for message in answerer.answer(query.bytes(), query.from, &knowledge) {
                // Lost like any other datagram.
                let _ = socket.send(&message, query.from, query.to, query.interface);
            }
        }
    }

    fn read_departure(&mut self, index: usize) {
        let socket = &mut self.sockets[index];
        let Ok(Some(departure)) = socket.socket.receive_departure() else {
            return;
        };
        let awaited = socket.awaited.iter_mut().find(|a| a.id == departure.id);
        let Some(awaited) = awaited else {
            return;
        };
        if let Some(stamp) = departure.kernel {
            awaited.left = stamp.at;
            let at = self.snapshot.clock.to_local(stamp.at);
            self.responder.departed(awaited.token, at);
        }
        // The card's follows the kernel's, which is its witness.
        if let Some(stamp) = departure.card {
            let card = self.cards.of_or_only(stamp.interface);
            match card.map(|card| card.departure(stamp.phc, awaited.left)) {
                Some(Ok(judged)) => {
                    self.card_counts.departures += 1;
                    let at = self.snapshot.clock.to_local(judged.at);
                    self.responder.departed(awaited.token, at);
                }
                _ => self.card_counts.doubted += 1,
            }
            self.counters.counters.set_cards(&self.card_counts);
        }
    }

    /// When a request arrived: by the card if it has a stamp to believe, else as the
    /// socket has it. And how long its frame took, if the card stamped it.
    fn arrived(&mut self, arrival: &Arrival) -> (WallInstant, NtpDuration) {
        let Some(stamp) = arrival.card else {
            return (arrival.stamp.at, NtpDuration::ZERO);
        };
        let card = self.cards.of_or_only(stamp.interface);
        let judged = card.map(|card| card.arrival(stamp.phc, arrival.stamp.at, stamp.frame_len));
        let arrived = match judged {
            Some(Ok(judged)) => {
                self.card_counts.arrivals += 1;
                (judged.at, judged.frame_time)
            }
            _ => {
                self.card_counts.doubted += 1;
                (arrival.stamp.at, NtpDuration::ZERO)
            }
        };
        self.counters.counters.set_cards(&self.card_counts);
        arrived
    }

    fn set_cards(&mut self, cards: &Cards) {
        self.cards = *cards;
        let first = !std::mem::replace(&mut self.by_card, true);
        if first {
            for socket in &mut self.sockets {
                socket.socket.stamp_by_card();
            }
        }
    }
}

/// The one pair of hands.
struct Own {
    server: Server,
    resolver: Resolver,
    resolved: Sender<(SourceId, Outcome)>,
    drift_file: Option<PathBuf>,
    scribe: Scribe,
    /// New, and not yet heeded.
    card_lines: Option<Vec<CardLine>>,
}

impl Hands for Own {
    fn publish(&mut self, snapshot: &Snapshot, stepped: bool) {
        self.server.snapshot = *snapshot;
        if stepped {
            self.server.responder.clock_stepped();
        }
    }

    fn publish_cards(&mut self, cards: &Cards) {
        self.server.set_cards(cards);
    }

    fn set_card_lines(&mut self, lines: &[CardLine]) {
        self.card_lines = Some(lines.to_vec());
    }

    fn set_policy(&mut self, policy: &Arc<Policy>) {
        self.server.policy = Arc::clone(policy);
    }

    fn resolve(&mut self, source: SourceId, question: Question) {
        let resolved = self.resolved.clone();
        self.resolver.resolve(question, move |outcome| {
            let _ = resolved.send((source, outcome));
        });
    }

    fn keep_frequency(&mut self, frequency: Start) {
        if let Some(path) = &self.drift_file
            && let Err(sentence) = drift::write(path, frequency)
        {
            warn!("{sentence}");
        }
    }

    fn read_leaps(&mut self, path: &Path) -> Option<leaps::Outcome> {
        Some(leaps::read(path))
    }

    fn read_config(&mut self, reload: &Reload) -> Option<Reread> {
        Some((reload.0)())
    }

    fn keep(&mut self, entry: Box<Entry>) {
        self.scribe.write(&entry);
    }

    fn set_statistics(&mut self, config: &StatisticsConfig) {
        self.scribe.set(config);
    }

    fn cycle_logs(&mut self) {
        self.scribe.cycle();
    }

    /// Whoever asks gets a report of that moment.
    fn tell(&mut self, _: Report) {}

    fn failure(&self) -> Option<String> {
        None
    }
}

/// What the loop is made of.
pub struct Parts {
    /// The time loop.
    pub core: TimeLoop,
    /// Errands in common.
    pub errands: Errands,
    /// The server.
    pub server: Server,
    /// Control socket and metrics, as far as there are any.
    pub desks: Vec<Desk>,
    /// Where chronyc is heard.
    pub posts: Vec<Post>,
    /// Who may ask there besides this machine.
    pub heard: Vec<(Prefix, bool)>,
    /// Where the frequency is kept.
    pub drift_file: Option<PathBuf>,
    /// Who writes files of measurements.
    pub scribe: Scribe,
    /// Who sets network cards up, if any are to stamp packets.
    pub cards: Option<Keeper>,
    /// Who answers before the sockets do.
    pub xdp: Option<Arc<Tier>>,
    /// Caught signals.
    pub signals: Signals,
}

/// Runs until told to stop.
pub fn run(parts: Parts) -> io::Result<End> {
    let Parts {
        mut core,
        mut errands,
        server,
        mut desks,
        posts,
        heard,
        drift_file,
        scribe,
        cards,
        xdp,
        signals,
    } = parts;
    let mut cards = CardWatch::new(cards, xdp);
    let (resolved, answers) = mpsc::channel();
    let mut hands = Own {
        server,
        resolver: Resolver::new(),
        resolved,
        drift_file,
        scribe,
        card_lines: None,
    };
    let mut to_do = Vec::new();
    let mut chronyc = cmdmon::Desk::new(&heard);
    let mut changes = watch_links(&mut core, &mut errands, &mut to_do);
    let mut waiter = Waiter::poll();
    let mut interests = Vec::new();
    let mut ready = Vec::new();
    errands.ready();
    let end = loop {
        if let Some(lines) = hands.card_lines.take() {
            cards.set_lines(lines);
        }
        cards.turn(&mut core, &errands);
        core.turn(&mut to_do);
        // Literal addresses are answered within the turn that asks.
        let ended = loop {
            let ended = errands.run(&mut to_do, &mut core, &mut hands);
            read_answers(&answers, &mut core, &mut errands, &mut to_do);
            if ended.is_some() || to_do.is_empty() {
                break ended;
            }
        };
        if let Some(end) = ended {
            break end;
        }
        if errands.heed(&signals, &mut core, &mut hands, &mut to_do) {
            break End::Good;
        }
        interests.clear();
        interests.extend(
            changes
                .as_ref()
                .map(|changes| Interest::read(changes.fd(), NETLINK)),
        );
        hands.server.interests(&mut interests);
        for desk in &desks {
            interests.extend(desk.interests().map(|(fd, read)| Interest {
                fd,
                token: DESKS,
                read,
                write: !read,
                error: false,
            }));
        }
        let numbered = (POSTS..).zip(&posts);
        interests.extend(numbered.map(|(token, post)| Interest::read(post.as_raw_fd(), token)));
        core.interests(CLIENTS, &mut interests);
        // The tick keeps this within a second, so a signal that comes just before
        // the wait is seen within one too.
        let desks_until = desks.iter().filter_map(Desk::deadline).min();
        let desks_until = desks_until.unwrap_or(MonoInstant::MAX);
        let until = core.deadline().min(desks_until).min(cards.due);
        waiter.wait(&interests, Some(until), &mut ready)?;
        for ready in &ready {
            match ready.token {
                NETLINK => {
                    reread_links(&mut changes, &mut core, &mut errands, &mut to_do);
                    cards.links_changed();
                }
                DESKS..POSTS => {}
                POSTS..CLIENTS => {
                    let post = &posts[(ready.token - POSTS) as usize];
                    answer_chronyc(
                        post,
                        &mut chronyc,
                        &mut core,
                        &mut errands,
                        &mut hands,
                        &mut to_do,
                    );
                }
                CLIENTS.. => core.on_ready(ready, CLIENTS, &mut to_do),
                _ => hands.server.on_ready(ready),
            }
        }
        hands.server.serve_queries(|| errands.report(&core));
        serve_desks(&mut desks, &core, &errands, &ready);
    };
    errands.finish(&end, &mut core, &mut hands);
    cards.restore();
    Ok(end)
}

/// Who speaks with drivers, and when to turn to them.
struct CardWatch {
    keeper: Option<Keeper>,
    xdp: Option<Arc<Tier>>,
    due: MonoInstant,
}

impl CardWatch {
    /// First of all cards are set up.
    fn new(keeper: Option<Keeper>, xdp: Option<Arc<Tier>>) -> Self {
        let due = if keeper.is_some() || xdp.is_some() {
            clock::monotonic()
        } else {
            MonoInstant::MAX
        };
        Self { keeper, xdp, due }
    }

    /// Links that change, change several times in a row.
    fn links_changed(&mut self) {
        if self.due != MonoInstant::MAX {
            self.due = self.due.min(clock::monotonic() + SETTLE);
        }
    }

    fn set_lines(&mut self, lines: Vec<CardLine>) {
        if let Some(keeper) = &mut self.keeper {
            keeper.set_lines(lines);
            self.due = clock::monotonic();
        }
    }

    fn turn(&mut self, core: &mut TimeLoop, errands: &Errands) {
        let now = clock::monotonic();
        if now < self.due {
            return;
        }
        self.due = now + CHECK_INTERVAL;
        let Ok(interfaces) = netlink::interfaces() else {
            return;
        };
        let cards = self.keeper.as_mut().and_then(|k| k.follow(&interfaces));
        if let Some(cards) = cards {
            errands.cards_changed(cards, core);
        }
        if let Some(xdp) = &self.xdp {
            xdp.follow(&interfaces);
        }
    }

    fn restore(&mut self) {
        if let Some(keeper) = &mut self.keeper {
            keeper.restore();
        }
    }
}

/// People are served when they ask, or when they have kept us waiting too long.
fn serve_desks(desks: &mut [Desk], core: &TimeLoop, errands: &Errands, ready: &[Ready]) {
    let now = clock::monotonic();
    let asked = ready
        .iter()
        .any(|ready| (DESKS..POSTS).contains(&ready.token));
    let late = |desk: &Desk| desk.deadline().is_some_and(|deadline| deadline <= now);
    if !asked && !desks.iter().any(late) {
        return;
    }
    let report = errands.report(core);
    for desk in desks {
        desk.turn(now, Some(&report));
    }
}

/// A few datagrams: more would keep the clock waiting.
fn answer_chronyc(
    post: &Post,
    desk: &mut cmdmon::Desk,
    core: &mut TimeLoop,
    errands: &mut Errands,
    hands: &mut Own,
    to_do: &mut Vec<Errand>,
) {
    let mut report = None;
    let mut buffer = [0; BUFFER_LEN];
    for _ in 0..TURN_MAX {
        // An error is the fate of an earlier answer.
        let Ok(Some((len, asker))) = post.receive(&mut buffer) else {
            return;
        };
        if !desk.hears(&asker) {
            continue;
        }
        let told = report.get_or_insert_with(|| errands.report(core));
        let reply = match desk.judge(&buffer[..len], &asker, told, clock::monotonic()) {
            Step::Silence => None,
            Step::Reply(reply) => Some(reply),
            Step::Order(header, request) => {
                let answer = errands.obey(&request, core, hands, to_do);
                report = None;
                cmdmon::Desk::finish(&header, &answer)
            }
        };
        if let Some(reply) = reply {
            post.send(&reply, &asker);
        }
    }
}

fn read_answers(
    answers: &Receiver<(SourceId, Outcome)>,
    core: &mut TimeLoop,
    errands: &mut Errands,
    to_do: &mut Vec<Errand>,
) {
    while let Ok((source, outcome)) = answers.try_recv() {
        errands.resolved(source, outcome, core, to_do);
    }
}

/// Interfaces coming and going. Without netlink (in a simulator) there are none.
fn watch_links(
    core: &mut TimeLoop,
    errands: &mut Errands,
    to_do: &mut Vec<Errand>,
) -> Option<Changes> {
    match Changes::open() {
        Ok(changes) => {
            if let Ok(interfaces) = netlink::interfaces() {
                errands.links_changed(&interfaces, core, to_do);
            }
            Some(changes)
        }
        Err(error) => {
            warn!("netlink: {error}; changes of interfaces will go unnoticed");
            None
        }
    }
}

fn reread_links(
    changes: &mut Option<Changes>,
    core: &mut TimeLoop,
    errands: &mut Errands,
    to_do: &mut Vec<Errand>,
) {
    let drained = changes.as_mut().map(Changes::drain);
    match drained {
        Some(Ok(true)) => match netlink::interfaces() {
            Ok(interfaces) => errands.links_changed(&interfaces, core, to_do),
            Err(error) => warn!("netlink: interfaces can't be listed: {error}"),
        },
        Some(Ok(false)) | None => {}
        Some(Err(error)) => {
            warn!("netlink: {error}; changes of interfaces will go unnoticed");
            *changes = None;
        }
    }
}

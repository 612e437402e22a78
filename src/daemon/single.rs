//! The daemon in one thread and one `poll`: client, server, control socket,
//! metrics, interfaces and files. For hosts where io_uring is switched off, and
//! for clock simulators that are preloaded (they know `poll` and little else).

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};

use log::warn;

use crate::daemon::counters::{self, CardCounts, WorkerCounters};
use crate::daemon::desk::Desk;
use crate::daemon::drift;
use crate::daemon::errands::{End, Errands, Hands};
use crate::daemon::leaps;
use crate::daemon::options::{Reload, Reread};
use crate::daemon::resolve::{Outcome, Question, Resolver};
use crate::daemon::snapshot::Snapshot;
use crate::daemon::status::{Collect, Report, ServerCounts};
use crate::daemon::time_loop::{Errand, TimeLoop};
use crate::hardware::card::Cards;
use crate::linux::clock;
use crate::linux::netlink::{self, Changes};
use crate::linux::ring::Tallies;
use crate::linux::signal::Signals;
use crate::linux::udp::{Arrival, SendId, ServerSocket};
use crate::linux::wait::{Interest, Ready, Waiter};
use crate::node::action::SourceId;
use crate::server::interleave::TxToken;
use crate::server::respond::{Policy, Request, Responder, complete};
use crate::server::verdict::Verdict;
use crate::sync::filter::Start;
use crate::time::instant::{MonoInstant, WallInstant};
use crate::wire::packet::PACKET_LEN_MAX;

const NETLINK: u64 = 0;
const SERVERS: u64 = 1 << 32;
const DESKS: u64 = 2 << 32;
const CLIENTS: u64 = 3 << 32;

/// Replies whose departure stamp is awaited, per socket. A stamp comes within
/// microseconds; what is older than so many sends will not come.
const AWAITED_MAX: usize = 64;

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
}

struct Socket {
    socket: ServerSocket,
    awaited: VecDeque<Awaited>,
}

/// A reply whose departure stamps are awaited.
struct Awaited {
    id: SendId,
    token: TxToken,
    /// The network stack's has come; a network card's may follow.
    kernel: Option<WallInstant>,
}

impl Socket {
    /// Some reply left whose departure is awaited, unless no stamp was to be had.
    fn expect_departure(&mut self, id: Option<SendId>, token: TxToken) {
        let Some(id) = id else {
            return;
        };
        if self.awaited.len() == AWAITED_MAX {
            self.awaited.pop_front();
        }
        let kernel = None;
        self.awaited.push_back(Awaited { id, token, kernel });
    }
}

/// The loop's counters, where the metrics find them.
#[derive(Debug, Default)]
pub struct Counted(WorkerCounters);

impl Collect for Counted {
    fn collect(&self) -> ServerCounts {
        counters::collect([&self.0])
    }
}

impl Server {
    /// Answers on `sockets`.
    pub fn new(
        sockets: Vec<ServerSocket>,
        responder: Responder,
        snapshot: Snapshot,
        policy: Arc<Policy>,
        counters: Arc<Counted>,
    ) -> Self {
        Self {
            sockets: sockets
                .into_iter()
                .map(|socket| Socket {
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
        let received = self.arrived(&arrival);
        let request = Request {
            bytes: &self.buffer[..arrival.len],
            from: arrival.from,
            group: arrival.group,
            received: self.snapshot.clock.to_local(received),
        };
        let verdict = self.responder.respond(
            &self.policy,
            &self.snapshot.state,
            &request,
            clock::monotonic(),
            &mut self.reply,
        );
        self.counters.0.count(&verdict);
        let Verdict::Reply { len, kind, track } = verdict else {
            return;
        };
        let real = clock::realtime();
        let reply = &mut self.reply[..len];
        if kind.wants_transmit() {
            complete(&self.policy.keys, reply, self.snapshot.clock.to_local(real));
        }
        let (to, from, interface) = (arrival.from, arrival.to, arrival.interface);
        let socket = &mut self.sockets[index];
        let sent = match track {
            None => socket.socket.send(reply, to, from, interface),
            Some(token) => socket
                .socket
                .send_stamped(reply, to, from, interface)
                .map(|id| socket.expect_departure(id, token)),
        };
        if sent.is_ok() {
            self.counters.0.note_latency(real - arrival.stamp.at);
        } else {
            // Lost like any other datagram; counted like a ring's.
            self.tallies.send_errors += 1;
            self.counters.0.set_ring(&self.tallies);
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
            awaited.kernel = Some(stamp.at);
            let at = self.snapshot.clock.to_local(stamp.at);
            self.responder.departed(awaited.token, at);
        }
        // The card's follows the kernel's, which is its witness.
        if let (Some(stamp), Some(kernel)) = (departure.card, awaited.kernel) {
            let card = self.cards.of_or_only(stamp.interface);
            match card.map(|card| card.departure(stamp.phc, kernel)) {
                Some(Ok(judged)) => {
                    self.card_counts.departures += 1;
                    let at = self.snapshot.clock.to_local(judged.at);
                    self.responder.departed(awaited.token, at);
                }
                _ => self.card_counts.doubted += 1,
            }
            self.counters.0.set_cards(&self.card_counts);
        }
    }

    /// When a request arrived: by the card if it has a stamp to believe, else as the
    /// socket has it.
    fn arrived(&mut self, arrival: &Arrival) -> WallInstant {
        let Some(stamp) = arrival.card else {
            return arrival.stamp.at;
        };
        let card = self.cards.of_or_only(stamp.interface);
        let judged = card.map(|card| card.arrival(stamp.phc, arrival.stamp.at, stamp.frame_len));
        let at = match judged {
            Some(Ok(judged)) => {
                self.card_counts.arrivals += 1;
                judged.at
            }
            _ => {
                self.card_counts.doubted += 1;
                arrival.stamp.at
            }
        };
        self.counters.0.set_cards(&self.card_counts);
        at
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
    /// Where the frequency is kept.
    pub drift_file: Option<PathBuf>,
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
        drift_file,
        signals,
    } = parts;
    let (resolved, answers) = mpsc::channel();
    let mut hands = Own {
        server,
        resolver: Resolver::new(),
        resolved,
        drift_file,
    };
    let mut to_do = Vec::new();
    let mut changes = watch_links(&mut core, &mut errands, &mut to_do);
    let mut waiter = Waiter::poll();
    let mut interests = Vec::new();
    let mut ready = Vec::new();
    errands.ready();
    let end = loop {
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
        if errands.obey(&signals, &mut core, &mut hands, &mut to_do) {
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
        core.interests(CLIENTS, &mut interests);
        // The tick keeps this within a second, so a signal that comes just before
        // the wait is seen within one too.
        let desks_until = desks.iter().filter_map(Desk::deadline).min();
        let until = core.deadline().min(desks_until.unwrap_or(MonoInstant::MAX));
        waiter.wait(&interests, Some(until), &mut ready)?;
        for ready in &ready {
            match ready.token {
                NETLINK => reread_links(&mut changes, &mut core, &mut errands, &mut to_do),
                DESKS..CLIENTS => {}
                CLIENTS.. => core.on_ready(ready, CLIENTS, &mut to_do),
                _ => hands.server.on_ready(ready),
            }
        }
        serve_desks(&mut desks, &core, &errands, &ready);
    };
    errands.finish(&end, &mut core, &mut hands);
    Ok(end)
}

/// People are served when they ask, or when they have kept us waiting too long.
fn serve_desks(desks: &mut [Desk], core: &TimeLoop, errands: &Errands, ready: &[Ready]) {
    let now = clock::monotonic();
    let asked = ready
        .iter()
        .any(|ready| (DESKS..CLIENTS).contains(&ready.token));
    let late = |desk: &Desk| desk.deadline().is_some_and(|deadline| deadline <= now);
    if !asked && !desks.iter().any(late) {
        return;
    }
    let report = errands.report(core);
    for desk in desks {
        desk.turn(now, Some(&report));
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

//! The daemon in one thread and one `poll`: client, server, control socket,
//! metrics, interfaces and files. For hosts where io_uring is switched off, and
//! for clock simulators that are preloaded (they know `poll` and little else).

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};

use log::warn;

use crate::daemon::counters::{self, WorkerCounters};
use crate::daemon::desk::Desk;
use crate::daemon::drift;
use crate::daemon::errands::{End, Errands, Hands};
use crate::daemon::leaps;
use crate::daemon::options::{Reload, Reread};
use crate::daemon::resolve::{Outcome, Question, Resolver};
use crate::daemon::snapshot::Snapshot;
use crate::daemon::status::{Collect, Report, ServerCounts};
use crate::daemon::time_loop::{Errand, TimeLoop};
use crate::linux::clock;
use crate::linux::netlink::{self, Changes};
use crate::linux::ring::Tallies;
use crate::linux::signal::Signals;
use crate::linux::udp::{SendId, ServerSocket};
use crate::linux::wait::{Interest, Ready, Waiter};
use crate::node::action::SourceId;
use crate::server::interleave::TxToken;
use crate::server::respond::{Policy, Request, Responder, set_transmit};
use crate::server::verdict::Verdict;
use crate::sync::filter::Start;
use crate::time::instant::MonoInstant;
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
    counters: Arc<Counted>,
    tallies: Tallies,
    buffer: Box<[u8; PACKET_LEN_MAX + 1]>,
    reply: Box<[u8; PACKET_LEN_MAX]>,
}

struct Socket {
    socket: ServerSocket,
    awaited: VecDeque<(SendId, TxToken)>,
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
        self.awaited.push_back((id, token));
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
        let request = Request {
            bytes: &self.buffer[..arrival.len],
            from: arrival.from,
            group: arrival.group,
            received: self.snapshot.clock.to_local(arrival.stamp.at),
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
            set_transmit(reply, self.snapshot.clock.to_local(real));
        }
        let (to, from, interface) = (arrival.from, arrival.to, arrival.interface);
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
        let place = socket
            .awaited
            .iter()
            .position(|(id, _)| *id == departure.id);
        if let Some((_, token)) = place.and_then(|place| socket.awaited.remove(place)) {
            let at = self.snapshot.clock.to_local(departure.stamp.at);
            self.responder.departed(token, at);
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

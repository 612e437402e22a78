//! The server's threads: each owns a ring and answers what its sockets receive.
//! *Packet in → ACL → respond → out*; the middle is [`Responder::respond`].
//!
//! A worker takes no lock on a packet's way: it reads a snapshot of our time once
//! a turn, and the policy through a pointer that is replaced whole. It can't write to
//! either, by accident or bug: the snapshot's mapping and the policy's tables are
//! read-only.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use arc_swap::cache::Cache;
use tokio::sync::mpsc::{Receiver, Sender as QuerySender, channel};

use crate::daemon::counters::{self, CardCounts, WorkerCounters};
use crate::daemon::query::Query;
use crate::daemon::snapshot::{CardsCell, CardsReader, Snapshot, SnapshotCell};
use crate::daemon::status::{Collect, ServerCounts};
use crate::dice::keyed_hash;
use crate::hardware::card::Cards;
use crate::linux::clock::{monotonic, realtime};
use crate::linux::priority;
use crate::linux::reuseport::{self, GroupWatch, ListenSocket};
use crate::linux::ring::{self, Arrival, Event, MESSAGE_LEN_MAX, Outgoing, Ring};
use crate::linux::sealed::{Lists, Sealed};
use crate::linux::signal;
use crate::linux::udp::ReplySocket;
use crate::linux::wake::Wake;
use crate::server::interleave::TxToken;
use crate::server::over_ptp::{Carriage, PtpService};
use crate::server::recent::{RecentClient, RecentTable};
use crate::server::respond::{Policy, Request, Responder, Sizes, complete};
use crate::server::verdict::{Reason, Verdict};
use crate::time::duration::NtpDuration;
use crate::time::instant::{MonoInstant, WallInstant};
use crate::wire::packet::PACKET_LEN_MAX;

// What the ring carries is what the responder reads and writes.
const _: () = assert!(ring::MESSAGE_LEN_MAX == PACKET_LEN_MAX);

/// Events of one turn: after so many the snapshot is read anew.
const EVENTS_MAX: usize = 64;

/// Own addresses with sockets of their own at most, and what they may take of the
/// process's descriptors (1024 by custom): two per worker and address, and one for replies
/// of others.
/// Never more than half of what there may be: sources, files and who looks on need some.
const FOLLOWED_MAX: usize = 64;
const FOLLOWED_DESCRIPTORS: usize = 512;

/// Requests of ntpq that may wait for their answer.
const QUERIES_MAX: usize = 64;

/// How workers are to be started.
#[derive(Clone, Debug)]
pub struct Setup {
    /// How many, at least one. One per core is the use for more.
    pub workers: usize,
    /// Where to listen. Port 0 lets the kernel choose, each address on its own.
    pub listen: Vec<SocketAddr>,
    /// Code point of differentiated services of what leaves.
    pub dscp: u8,
    /// On which of their ports, and how, NTP over PTP is spoken.
    pub over_ptp: Option<PtpService>,
    /// Keep each worker on a core of its own, as far as there are enough.
    pub pin: bool,
    /// Look for requests all the time instead of sleeping until there are some.
    pub busy_poll: bool,
    /// Unguessable; each worker derives its own.
    pub seed: u64,
    /// Memory for clients, shared out to the workers.
    pub sizes: Sizes,
    /// Clients to remember for those who look on, by all workers together.
    pub recent: usize,
}

/// The server's workers. Dropping it stops them, waits for them and closes the sockets.
pub struct Workers {
    shared: Arc<Shared>,
    threads: Vec<Thread>,
    addresses: Vec<SocketAddr>,
    dscp: u8,
    /// Addresses of this host that a wildcard covers and that have sockets of their own.
    followed: Mutex<Vec<Followed>>,
    /// Those that workers were told to close, as far as they haven't.
    closing: Mutex<Vec<Followed>>,
    /// One for each address, for what other threads have to say.
    reply_sockets: Mutex<Vec<ReplySocket>>,
    /// Until somebody takes it.
    queries: Mutex<Option<Receiver<Query>>>,
}

/// An address and the sockets it has.
type Followed = (SocketAddr, GroupWatch);

impl Collect for Workers {
    fn collect(&self) -> ServerCounts {
        // Asked now and then, and never by a worker: a good time to tidy up.
        self.free_retired();
        counters::collect(&self.shared.counters)
    }

    fn recent_clients(&self) -> Option<Vec<RecentClient>> {
        (!self.shared.recent.is_empty()).then(|| self.recent())
    }
}

struct Thread {
    handle: Option<JoinHandle<()>>,
    wake: Wake,
    orders: Arc<Mutex<Vec<Order>>>,
}

/// What a worker is woken for.
enum Order {
    Listen(Box<ListenSocket>),
    Unlisten(SocketAddr),
    StampByCard,
    ClockStepped,
}

/// What workers and the rest of the daemon have in common.
struct Shared {
    snapshot: Arc<SnapshotCell>,
    cards: CardsCell,
    /// Workers were told to ask for the stamps of network cards.
    by_card: AtomicBool,
    policy: ArcSwap<Sealed<Policy>>,
    /// Replaced policies that workers may still hold. They are freed here, because
    /// freeing a large one takes longer than a packet may wait.
    retired: Mutex<Vec<Arc<Sealed<Policy>>>>,
    counters: Vec<WorkerCounters>,
    /// Who asked lately, one table for each worker; none if nobody wants to know.
    recent: Vec<Arc<RecentTable>>,
    /// To who answers ntpq, who is slow: what finds no room is dropped.
    queries: QuerySender<Query>,
    stop: AtomicBool,
    /// Why a worker ended, if one did of itself.
    failure: Mutex<Option<String>>,
}

impl Workers {
    /// Binds the sockets, then starts the workers; they serve when this returns.
    ///
    /// # Errors
    /// A [`ListenError`](crate::linux::reuseport::ListenError) that names the address
    /// that can't be bound (its kind: `AddrInUse`, `PermissionDenied` ...), or what
    /// the kernel says when a thread or a ring can't be made.
    pub fn start(
        setup: &Setup,
        snapshot: Arc<SnapshotCell>,
        policy: Arc<Policy>,
    ) -> io::Result<Self> {
        let count = setup.workers.max(1);
        let groups = bind_all(&setup.listen, count)?;
        for socket in groups.iter().flatten() {
            socket.set_dscp(setup.dscp)?;
        }
        let reply_sockets = groups.iter().map(|group| group[0].reply_socket());
        let reply_sockets = reply_sockets.collect::<io::Result<_>>()?;
        let seed = |number: usize| keyed_hash(setup.seed, number as u64);
        let tables = if setup.recent == 0 { 0 } else { count };
        let (query_sender, queries) = channel(QUERIES_MAX);
        let shared = Arc::new(Shared {
            snapshot,
            cards: CardsCell::new()?,
            by_card: AtomicBool::new(false),
            policy: ArcSwap::new(sealed(policy)),
            retired: Mutex::default(),
            counters: (0..count).map(|_| WorkerCounters::default()).collect(),
            recent: (0..tables)
                .map(|number| RecentTable::new(setup.recent.div_ceil(count), !seed(number)))
                .map(Arc::new)
                .collect(),
            queries: query_sender,
            stop: AtomicBool::new(false),
            failure: Mutex::new(None),
        });
        let mut workers = Self {
            shared,
            threads: Vec::with_capacity(count),
            addresses: groups.iter().map(|group| group[0].address()).collect(),
            dscp: setup.dscp,
            followed: Mutex::default(),
            closing: Mutex::default(),
            reply_sockets: Mutex::new(reply_sockets),
            queries: Mutex::new(Some(queries)),
        };
        let cores = if setup.pin {
            // Pinned to none, if the kernel doesn't say.
            priority::cores().unwrap_or_default()
        } else {
            Vec::new()
        };
        for (number, sockets) in transpose(groups, count).into_iter().enumerate() {
            let core = cores.get(number % cores.len().max(1)).copied();
            let mut responder = Responder::new(seed(number), setup.sizes.shared_by(count));
            if let Some(table) = workers.shared.recent.get(number) {
                responder.remember(Arc::clone(table));
            }
            // On an error, `workers` is dropped, which stops those that run.
            let thread = workers.spawn(Plan {
                number,
                core,
                busy_poll: setup.busy_poll,
                over_ptp: setup.over_ptp,
                sockets,
                responder,
            })?;
            workers.threads.push(thread);
        }
        Ok(workers)
    }

    /// What they listen on, with real ports, in the order in which it was asked for.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Replaces the policy whole. A request that is being judged is judged by the old one.
    pub fn set_policy(&self, policy: Arc<Policy>) {
        let old = self.shared.policy.swap(sealed(policy));
        lock(&self.shared.retired).push(old);
        self.free_retired();
    }

    fn free_retired(&self) {
        lock(&self.shared.retired).retain(|policy| Arc::strong_count(policy) > 1);
    }

    /// Judge the stamps of network cards by `cards` from now on.
    pub fn publish_cards(&self, cards: &Cards) {
        self.shared.cards.publish(cards);
        // There is no way back: asking costs next to nothing, and cards come back.
        if cards.iter().next().is_some() && !self.shared.by_card.swap(true, Ordering::Relaxed) {
            for thread in &self.threads {
                thread.order(Order::StampByCard);
            }
        }
    }

    /// The served clock was stepped: forget stamps from before.
    pub fn clock_stepped(&self) {
        for thread in &self.threads {
            thread.order(Order::ClockStepped);
        }
    }

    /// `own` are the addresses of this host now. Where we listen on all, each of them
    /// gets sockets of its own: a reply that leaves by such a socket need not say
    /// from where, which makes it cheaper. What is sent to another address, or to one
    /// of too many, comes to the wildcard's sockets as before.
    pub fn follow(&self, own: &[IpAddr]) {
        let wildcards = self.addresses.iter().filter(|a| a.ip().is_unspecified());
        let mut wanted: Vec<SocketAddr> = wildcards
            .flat_map(|wildcard| {
                let ours = own.iter().filter(|ip| ip.is_ipv4() == wildcard.is_ipv4());
                ours.map(|&ip| SocketAddr::new(ip, wildcard.port()))
            })
            // A link-local address is of one interface, and the wildcard knows of which.
            .filter(|a| !is_link_local(a.ip()) && !self.addresses.contains(a))
            .collect();
        wanted.sort_unstable();
        wanted.dedup();
        let descriptors = FOLLOWED_DESCRIPTORS.min(reuseport::descriptors_max() / 2);
        let max = descriptors / (2 * self.threads.len() + 1);
        wanted.truncate(max.min(FOLLOWED_MAX));
        let mut followed = lock(&self.followed);
        let mut closing = lock(&self.closing);
        for gone in followed.extract_if(.., |(address, _)| !wanted.contains(address)) {
            self.close(gone.0);
            closing.push(gone);
        }
        closing.retain(|(_, group)| !group.is_closed());
        for address in wanted {
            if followed.iter().any(|(known, _)| *known == address) {
                continue;
            }
            if !closes(address, &closing) {
                log::debug!("{address}: its last sockets are still open; the wildcard serves it");
                continue;
            }
            match self.open(address) {
                Ok(group) => followed.push((address, group)),
                // It may be gone again.
                Err(error) => log::debug!("{error}; the wildcard serves it"),
            }
        }
    }

    fn open(&self, address: SocketAddr) -> io::Result<GroupWatch> {
        let group = reuseport::bind_group(address, self.threads.len())?;
        for socket in &group {
            socket.set_dscp(self.dscp)?;
        }
        let watch = group[0].group();
        lock(&self.reply_sockets).push(group[0].reply_socket()?);
        for (thread, socket) in self.threads.iter().zip(group) {
            thread.order(Order::Listen(Box::new(socket)));
        }
        Ok(watch)
    }

    fn close(&self, address: SocketAddr) {
        lock(&self.reply_sockets).retain(|socket| socket.local_addr() != address);
        for thread in &self.threads {
            thread.order(Order::Unlisten(address));
        }
    }

    /// Requests of ntpq, for who answers them. Once; whoever asks again gets none.
    pub fn take_queries(&self) -> Option<Receiver<Query>> {
        lock(&self.queries).take()
    }

    /// The policy in force.
    pub fn policy(&self) -> Arc<Sealed<Policy>> {
        self.shared.policy.load_full()
    }

    /// Who asked lately, as far as they are remembered.
    pub fn recent(&self) -> Vec<RecentClient> {
        let tables = self.shared.recent.iter();
        tables.flat_map(|table| table.clients()).collect()
    }

    /// How many of them at most.
    pub fn recent_max(&self) -> usize {
        self.shared
            .recent
            .iter()
            .map(|table| table.capacity())
            .sum()
    }

    /// Sends from the address that was asked. What finds no room is lost, like any
    /// datagram.
    pub fn reply(&self, query: &Query, messages: &[Vec<u8>]) {
        let sockets = lock(&self.reply_sockets);
        let bound_to = |ip: IpAddr| sockets.iter().find(|s| s.local_addr().ip() == ip);
        let any: IpAddr = match query.to {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        if let Some(socket) = bound_to(query.to).or_else(|| bound_to(any)) {
            for message in messages {
                let _ = socket.send(message, query.from, query.to, query.interface);
            }
        }
    }

    /// Why a worker ended that nobody stopped, if one did. The daemon can't serve
    /// a part of its clients then.
    pub fn failure(&self) -> Option<String> {
        lock(&self.shared.failure).clone()
    }

    fn spawn(&self, plan: Plan) -> io::Result<Thread> {
        let number = plan.number;
        let shared = Arc::clone(&self.shared);
        let orders = Arc::new(Mutex::new(Vec::new()));
        let (started, has_started) = mpsc::channel();
        let handle = {
            let orders = Arc::clone(&orders);
            thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || run(&shared, plan, &orders, &started))?
        };
        let wake = match has_started.recv() {
            Ok(started) => started?,
            Err(_) => return Err(io::Error::other(format!("worker {number} ended at once"))),
        };
        Ok(Thread {
            handle: Some(handle),
            wake,
            orders,
        })
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        for thread in &self.threads {
            thread.wake.wake();
        }
        for thread in &mut self.threads {
            if let Some(handle) = thread.handle.take() {
                // A panic was printed by its thread, and there is nothing left to do.
                let _ = handle.join();
            }
        }
    }
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workers")
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

impl Thread {
    fn order(&self, order: Order) {
        lock(&self.orders).push(order);
        self.wake.wake();
    }
}

/// What makes one worker differ from the others.
struct Plan {
    number: usize,
    core: Option<usize>,
    busy_poll: bool,
    over_ptp: Option<PtpService>,
    sockets: Vec<ListenSocket>,
    responder: Responder,
}

/// A worker's thread, whole: reports how its start went, then serves.
fn run(
    shared: &Shared,
    plan: Plan,
    orders: &Mutex<Vec<Order>>,
    started: &Sender<io::Result<Wake>>,
) {
    let number = plan.number;
    if let Some(core) = plan.core {
        // A core that was taken from us since is no reason not to serve.
        let _ = priority::stay_on(core);
    }
    // Signals are for the thread that asked for them. Should this fail, one that
    // comes here ends a wait early, no more.
    let _ = signal::block_in_this_thread();
    let ring = match ready_ring(plan.sockets) {
        Ok(ring) => ring,
        Err(error) => {
            let _ = started.send(Err(error));
            return;
        }
    };
    if started.send(Ok(ring.wake())).is_err() {
        return;
    }
    let worker = Worker {
        shared,
        counters: &shared.counters[number],
        ring,
        responder: plan.responder,
        busy_poll: plan.busy_poll,
        over_ptp: plan.over_ptp,
        policy: Cache::new(&shared.policy),
        cards: CardsReader::new(&shared.cards),
        card_counts: CardCounts::default(),
    };
    if let Err(error) = worker.serve(orders) {
        lock(&shared.failure).get_or_insert_with(|| format!("worker {number}: io_uring: {error}"));
    }
}

fn ready_ring(sockets: Vec<ListenSocket>) -> io::Result<Ring<TxToken>> {
    let mut ring = Ring::new()?;
    for socket in sockets {
        ring.add(socket)?;
    }
    Ok(ring)
}

/// What a worker works with. Nothing in it is anybody else's.
struct Worker<'a> {
    shared: &'a Shared,
    counters: &'a WorkerCounters,
    ring: Ring<TxToken>,
    responder: Responder,
    busy_poll: bool,
    over_ptp: Option<PtpService>,
    cards: CardsReader<'a>,
    card_counts: CardCounts,
    policy: Cache<&'a ArcSwap<Sealed<Policy>>, Arc<Sealed<Policy>>>,
}

impl Worker<'_> {
    /// Until told to stop.
    fn serve(mut self, orders: &Mutex<Vec<Order>>) -> io::Result<()> {
        while !self.shared.stop.load(Ordering::Acquire) {
            if self.busy_poll {
                self.ring.spin()?;
            } else {
                self.ring.wait()?;
            }
            let snapshot = self.shared.snapshot.read();
            let started = monotonic();
            for _ in 0..EVENTS_MAX {
                let Some(event) = self.ring.next_event()? else {
                    break;
                };
                match event {
                    Event::Arrived(arrival) => self.answer(arrival, &snapshot, started)?,
                    Event::Departed(token, stamp) => {
                        self.responder
                            .departed(token, snapshot.clock.to_local(stamp.at));
                    }
                    Event::DepartedByCard(token, stamp, left) => {
                        let card = self.cards.cards().of_or_only(stamp.interface);
                        match card.map(|card| card.departure(stamp.phc, left)) {
                            Some(Ok(judged)) => {
                                self.card_counts.departures += 1;
                                let at = snapshot.clock.to_local(judged.at);
                                self.responder.departed(token, at);
                            }
                            _ => self.card_counts.doubted += 1,
                        }
                    }
                    Event::Woken => self.obey(orders)?,
                }
            }
            self.counters.set_ring(&self.ring.tallies());
            self.counters.set_cards(&self.card_counts);
        }
        Ok(())
    }

    /// When a request arrived: by the card if it has a stamp to believe, else by the
    /// kernel, else now.
    fn arrived(&mut self, arrival: &Arrival) -> Received {
        let Some(kernel) = arrival.stamp else {
            return Received::at(realtime());
        };
        let Some(stamp) = arrival.card else {
            return Received::at(kernel.at);
        };
        let card = self.cards.cards().of_or_only(stamp.interface);
        match card.map(|card| card.arrival(stamp.phc, kernel.at, stamp.frame_len)) {
            Some(Ok(judged)) => {
                self.card_counts.arrivals += 1;
                Received {
                    at: judged.at,
                    frame_time: judged.frame_time,
                }
            }
            _ => {
                self.card_counts.doubted += 1;
                Received::at(kernel.at)
            }
        }
    }

    fn answer(
        &mut self,
        arrival: Arrival,
        snapshot: &Snapshot,
        now: MonoInstant,
    ) -> io::Result<()> {
        let Received { at, frame_time } = self.arrived(&arrival);
        let (from, to, group) = (arrival.from, arrival.to, arrival.group);
        let interface = arrival.interface;
        let over_ptp = self.over_ptp.filter(|ptp| ptp.port == arrival.port);
        let received = snapshot.clock.to_local(at);
        let policy = self.policy.load();
        let judge = |bytes: &[u8], out: &mut [u8; MESSAGE_LEN_MAX]| {
            let request = Request {
                bytes,
                from,
                group,
                received,
            };
            let (state, responder) = (&snapshot.state, &mut self.responder);
            let (verdict, start) = match over_ptp {
                None => (responder.respond(policy, state, &request, now, out), 0),
                Some(PtpService { domain, .. }) => {
                    let carriage = Carriage { domain, frame_time };
                    responder.respond_over_ptp(carriage, policy, state, &request, now, out)
                }
            };
            self.counters.count(&verdict);
            match verdict {
                Verdict::Reply { len, kind, track } => Some(Outgoing {
                    len,
                    stamp_late: kind.wants_transmit().then_some(start),
                    track,
                }),
                Verdict::Drop(Reason::Control) => {
                    let query = Query::new(bytes, from, to, interface);
                    let queue = &self.shared.queries;
                    // Strangers don't take all the room.
                    let send = |query: Query| {
                        queue.capacity() <= QUERIES_MAX / 2 && !query.is_known(&policy.keys)
                            || queue.try_send(query).is_err()
                    };
                    if query.is_none_or(send) {
                        self.counters.note_control_dropped();
                    }
                    None
                }
                Verdict::Drop(_) => None,
            }
        };
        let stamp = |reply: &mut [u8], leaves| {
            complete(&policy.keys, reply, snapshot.clock.to_local(leaves));
        };
        if let Some(sent) = self.ring.answer(arrival, judge, stamp)? {
            self.counters.note_latency(at, sent);
        }
        Ok(())
    }

    fn obey(&mut self, orders: &Mutex<Vec<Order>>) -> io::Result<()> {
        for order in std::mem::take(&mut *lock(orders)) {
            match order {
                Order::Listen(socket) => self.ring.add(*socket)?,
                Order::Unlisten(address) => self.ring.remove(address)?,
                Order::StampByCard => self.ring.stamp_by_card()?,
                Order::ClockStepped => self.responder.clock_stepped(),
            }
        }
        Ok(())
    }
}

/// When a request arrived, CLOCK_REALTIME, and how long its frame took if a card
/// stamped it.
#[derive(Clone, Copy)]
struct Received {
    at: WallInstant,
    frame_time: NtpDuration,
}

impl Received {
    const fn at(at: WallInstant) -> Self {
        let frame_time = NtpDuration::ZERO;
        Self { at, frame_time }
    }
}

/// A worker that wrote to the tables of the others would fault.
fn sealed(policy: Arc<Policy>) -> Arc<Sealed<Policy>> {
    Arc::new(Sealed::new(policy, |policy, lists| {
        let (v4, v6) = policy.access.tables();
        add_lists(lists, v4.lists());
        add_lists(lists, v6.lists());
    }))
}

fn add_lists<'a, A: Copy, B: Copy, C: Copy>(
    to: &mut Lists<'a>,
    (ranges, nodes, ways): (&'a [A], &'a [B], &'a [C]),
) {
    to.add(ranges);
    to.add(nodes);
    to.add(ways);
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// One group of `count` sockets for each address. Nothing stays bound if one fails.
fn bind_all(addresses: &[SocketAddr], count: usize) -> io::Result<Vec<Vec<ListenSocket>>> {
    // All are probed before one is bound: our own would be in the way.
    for &address in addresses {
        wait_until_free(address)?;
    }
    addresses
        .iter()
        .map(|&address| reuseport::bind_group(address, count))
        .collect()
}

/// The ring of a process that was killed lets go of its sockets a moment after the
/// process is gone, so a daemon that is restarted at once has to be patient.
fn wait_until_free(address: SocketAddr) -> io::Result<()> {
    const PATIENCE: Duration = Duration::from_millis(250);
    const PAUSE: Duration = Duration::from_millis(5);
    let limit = Instant::now() + PATIENCE;
    loop {
        match reuseport::probe_free(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < limit => {
                thread::sleep(PAUSE);
            }
            other => return other,
        }
    }
}

/// An address that comes back at once has to wait for its last sockets, which takes
/// workers no longer than a batch. False if one is stuck.
fn closes(address: SocketAddr, closing: &[Followed]) -> bool {
    const PATIENCE: Duration = Duration::from_millis(250);
    const PAUSE: Duration = Duration::from_millis(1);
    let limit = Instant::now() + PATIENCE;
    let is_closing = || {
        let mut sockets = closing.iter().filter(|(known, _)| *known == address);
        sockets.any(|(_, group)| !group.is_closed())
    };
    while is_closing() {
        if Instant::now() >= limit {
            return false;
        }
        thread::sleep(PAUSE);
    }
    true
}

/// From one group per address to one list per worker.
fn transpose(groups: Vec<Vec<ListenSocket>>, count: usize) -> Vec<Vec<ListenSocket>> {
    let mut lists: Vec<Vec<ListenSocket>> = (0..count).map(|_| Vec::new()).collect();
    for group in groups {
        for (list, socket) in lists.iter_mut().zip(group) {
            list.push(socket);
        }
    }
    lists
}

/// What these mutexes guard is whole even if a thread panicked holding one.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    //! Workers over real loopback sockets, with requests made by hand.

    use super::*;
    use crate::linux::netlink;
    use crate::linux::reuseport::ListenError;
    use crate::linux::sealed::write_faults;
    use crate::server::access::AccessTable;
    use crate::server::rule::{Flags, Prefix, Rule, Who};
    use crate::server::verdict::ReplyKind;
    use crate::system::SystemState;
    use crate::time::duration::NtpDuration;
    use crate::time::map::ClockMap;
    use crate::time::timestamp::NtpTimestamp;
    use crate::time::units::{Ppm, Precision};
    use crate::wire::packet::{HEADER_LEN, Leap, Packet};
    use crate::wire::ptp::{Envelope, Form, PREFIX_LEN_MAX};
    use nix::sched::{CloneFlags, unshare};
    use std::net::UdpSocket;
    use std::process::Command;

    const ANY_V4: &str = "0.0.0.0:0";
    const LOOPBACK_V4: &str = "127.0.0.1:0";
    /// How far the served clock is ahead of CLOCK_REALTIME.
    const AHEAD_S: i64 = 1000;

    fn setup(workers: usize, listen: &[&str]) -> Setup {
        Setup {
            workers,
            listen: listen.iter().map(|a| a.parse().expect("ok")).collect(),
            dscp: 0,
            over_ptp: None,
            pin: true,
            busy_poll: false,
            seed: 1,
            sizes: Sizes::default(),
            recent: 64,
        }
    }

    fn start(workers: usize, listen: &[&str]) -> Workers {
        started(&setup(workers, listen))
    }

    fn started(setup: &Setup) -> Workers {
        let now = realtime();
        let mut state = SystemState::unsynchronised(Precision::new(-24));
        state.leap = Leap::None;
        state.stratum = 3;
        state.reference = now;
        let snapshot = Snapshot {
            state,
            clock: ClockMap {
                anchor_real: now,
                anchor_local: now + NtpDuration::from_whole_seconds(AHEAD_S),
                rate: Ppm(50.0),
            },
        };
        let snapshot = Arc::new(SnapshotCell::new(snapshot).expect("a cell"));
        Workers::start(setup, snapshot, Arc::new(Policy::default())).expect("workers")
    }

    fn client(ip: impl Into<IpAddr>) -> UdpSocket {
        let socket = UdpSocket::bind((ip.into(), 0)).expect("a client");
        socket
            .set_read_timeout(Some(Duration::from_secs(5)))
            .expect("a timeout");
        socket
    }

    fn request(origin: u64, receive: u64, transmit: u64) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[0] = 0x23;
        bytes[24..32].copy_from_slice(&origin.to_be_bytes());
        bytes[32..40].copy_from_slice(&receive.to_be_bytes());
        bytes[40..48].copy_from_slice(&transmit.to_be_bytes());
        bytes
    }

    fn ask(client: &UdpSocket, server: SocketAddr, request: &[u8]) -> Option<[u8; HEADER_LEN]> {
        client.send_to(request, server).expect("sent");
        let mut reply = [0; HEADER_LEN];
        let (len, from) = client.recv_from(&mut reply).ok()?;
        assert_eq!((len, from), (HEADER_LEN, server));
        Some(reply)
    }

    fn served_now() -> NtpTimestamp {
        NtpTimestamp::from_wall(realtime()) + NtpDuration::from_whole_seconds(AHEAD_S)
    }

    fn policy(flags: Flags) -> Policy {
        let everyone = |prefix| Who::Block {
            prefix,
            ntpport: false,
        };
        let rules = [
            Rule::Restrict(everyone(Prefix::ALL_V4), flags),
            Rule::Restrict(everyone(Prefix::ALL_V6), flags),
        ];
        Policy {
            access: AccessTable::compile(&rules, &[]),
            ..Policy::default()
        }
    }

    /// How often the verdict of this index was given.
    fn verdicts(workers: &Workers, index: usize) -> u64 {
        workers.collect().requests[index].1
    }

    /// Workers count after they submitted the reply: wait until they did.
    fn eventually(condition: impl Fn() -> bool) {
        let limit = Instant::now() + Duration::from_secs(5);
        while !condition() {
            assert!(Instant::now() < limit, "it never came true");
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_reload_under_load_loses_and_misjudges_nothing() {
        let host = |n: u8| IpAddr::from([127, 0, 0, n]);
        let (served, ignored) = (host(7), host(8));
        // Enough of others that a table takes time to make and to free.
        let others = (0..100_000_u32).map(|n| {
            let network = IpAddr::V4(((100 << 24) + n * 32).into());
            (Prefix::new(network, 28).expect("short"), Flags::NOSERVE)
        });
        let rules: Vec<_> = others
            .chain([(Prefix::host(ignored), Flags::IGNORE)])
            .map(|(prefix, flags)| {
                let ntpport = false;
                Rule::Restrict(Who::Block { prefix, ntpport }, flags)
            })
            .collect();
        let policy = || {
            Arc::new(Policy {
                access: AccessTable::compile(&rules, &[]),
                ..Policy::default()
            })
        };
        let workers = start(2, &["127.0.0.1:0"]);
        workers.set_policy(policy());
        let server = workers.addresses()[0];
        let reloading = AtomicBool::new(true);
        let (answered, refused) = thread::scope(|scope| {
            let asking = scope.spawn(|| {
                let client = client(served);
                let mut answered = 0;
                while reloading.load(Ordering::Relaxed) {
                    assert!(ask(&client, server, &request(0, 0, 1)).is_some(), "lost");
                    answered += 1;
                }
                answered
            });
            let knocking = scope.spawn(|| {
                let client = client(ignored);
                client.set_nonblocking(true).expect("set");
                let mut sent = 0;
                while reloading.load(Ordering::Relaxed) {
                    client.send_to(&request(0, 0, 1), server).expect("sent");
                    sent += 1;
                    thread::sleep(Duration::from_micros(200));
                    assert!(client.recv(&mut [0; HEADER_LEN]).is_err(), "let in");
                }
                sent
            });
            for _ in 0..20 {
                workers.set_policy(policy());
            }
            reloading.store(false, Ordering::Relaxed);
            (asking.join(), knocking.join())
        });
        assert!(answered.expect("no answer is lost") > 0);
        let refused = refused.expect("nobody is let in");
        let ignored = Verdict::Drop(Reason::Ignore).index();
        eventually(|| verdicts(&workers, ignored) == refused);
        // A worker lets go of a policy when it judges by the next: each may hold one.
        assert!(lock(&workers.shared.retired).len() <= 2);
    }

    #[test]
    fn a_request_is_answered_from_the_served_clock_and_the_address_asked() {
        let workers = start(2, &[ANY_V4, "[::]:0", "127.0.0.3:0"]);
        let addresses = workers.addresses();
        for (server, asked) in [
            (addresses[0], "127.0.0.1"),
            (addresses[0], "127.0.0.2"),
            (addresses[1], "::1"),
            (addresses[2], "127.0.0.3"),
        ] {
            let server = SocketAddr::new(asked.parse().expect("ok"), server.port());
            let client = client(if server.is_ipv4() {
                IpAddr::from([127, 0, 0, 1])
            } else {
                server.ip()
            });
            let before = served_now();
            let reply = ask(&client, server, &request(0, 0, 7)).expect("a reply");
            let after = served_now();
            let reply = Packet::new(&reply).expect("a packet");
            assert_eq!(reply.origin(), NtpTimestamp::from_bits(7));
            assert_eq!(reply.stratum(), 3);
            // A nanosecond here or there is rounding.
            let fine = NtpDuration::from_nanos(-3);
            assert!(reply.receive() - before >= fine, "{server}");
            assert!(reply.transmit() - reply.receive() > NtpDuration::ZERO);
            // 50 ppm of the moment since the clock's anchor.
            assert!(after - reply.transmit() >= NtpDuration::from_nanos(-1_000_000));
        }
        let basic = ReplyKind::Basic.index();
        eventually(|| verdicts(&workers, basic) == 4 && workers.collect().latency.count() == 4);
        let latency = workers.collect().latency;
        assert!(latency.quantile_s(1.0).expect("four") < 5.0);
        assert!(latency.sum_s() > 0.0);
        assert_eq!(workers.failure(), None);
    }

    /// RFC 9769: the third reply tells when the second really left.
    #[test]
    fn interleaved_replies_carry_the_kernels_departure_stamp() {
        for listen in [LOOPBACK_V4, ANY_V4, "[::1]:0"] {
            let workers = start(2, &[listen]);
            let mut server = workers.addresses()[0];
            if server.ip().is_unspecified() {
                server.set_ip([127, 0, 0, 1].into());
            }
            let mut last = None;
            let mut interleaved = 0;
            for round in 1..=6 {
                // A fresh port each time: the worker must still be the same.
                let client = client(server.ip());
                let (origin, receive) = last.unwrap_or((0, 0));
                let sent = request(origin, receive, 2 * round);
                let reply = ask(&client, server, &sent).expect("a reply");
                let arrived = served_now();
                let reply = Packet::new(&reply).expect("a packet");
                if reply.origin().bits() == receive && receive != 0 {
                    interleaved += 1;
                    // T3 of the reply before: after its T2 and before this T2.
                    let left = reply.transmit();
                    assert!(left - NtpTimestamp::from_bits(origin) > NtpDuration::ZERO);
                    assert!(reply.receive() - left > NtpDuration::ZERO);
                } else {
                    assert_eq!(reply.origin().bits(), 2 * round);
                }
                // As a client does: our receive stamp goes with the reply's T2.
                last = Some((reply.receive().bits(), arrived.bits() | 1));
                let departures = || {
                    let events = workers.collect().ring_events;
                    events
                        .iter()
                        .find(|(name, _)| *name == "departure")
                        .map(|(_, n)| *n)
                };
                if round > 1 {
                    eventually(|| departures() == Some(round - 1));
                }
            }
            assert_eq!(interleaved, 4, "{listen}");
            assert_eq!(verdicts(&workers, ReplyKind::Interleaved.index()), 4);
        }
    }

    #[test]
    fn a_worker_that_never_sleeps_answers_obeys_and_ends() {
        let workers = started(&Setup {
            busy_poll: true,
            ..setup(1, &[ANY_V4])
        });
        let bound = workers.addresses()[0];
        let server = SocketAddr::new([127, 0, 0, 1].into(), bound.port());
        let client = client(server.ip());
        for round in 1..=3 {
            assert!(ask(&client, server, &request(0, 0, 2 * round)).is_some());
        }
        let beside = SocketAddr::new([127, 0, 0, 2].into(), server.port());
        workers.follow(&[beside.ip()]);
        assert!(ask(&client, beside, &request(0, 0, 2)).is_some());
        drop(workers);
        // Another test's client may be given it for a moment.
        eventually(|| UdpSocket::bind(bound).is_ok());
    }

    #[test]
    fn a_policy_is_replaced_under_load() {
        let workers = start(2, &[LOOPBACK_V4]);
        let server = workers.addresses()[0];
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            for host in 10..14 {
                let stop = &stop;
                scope.spawn(move || {
                    let client = client([127, 0, 0, host]);
                    client
                        .set_read_timeout(Some(Duration::from_millis(1)))
                        .expect("a timeout");
                    while !stop.load(Ordering::Relaxed) {
                        ask(&client, server, &request(0, 0, 2));
                    }
                });
            }
            for flags in [Flags::IGNORE, Flags::NOSERVE, Flags::NONE].repeat(20) {
                workers.set_policy(Arc::new(policy(flags)));
                thread::sleep(Duration::from_millis(5));
            }
            stop.store(true, Ordering::Relaxed);
        });
        for verdict in [
            Verdict::Drop(Reason::Ignore),
            Verdict::Drop(Reason::Noserve),
        ] {
            assert!(verdicts(&workers, verdict.index()) > 0, "{verdict:?}");
        }
        assert!(verdicts(&workers, ReplyKind::Basic.index()) > 0);

        // The last word counts, at once.
        let client = client([127, 0, 0, 1]);
        assert!(ask(&client, server, &request(0, 0, 2)).is_some());
        workers.set_policy(Arc::new(policy(Flags::IGNORE)));
        client
            .set_read_timeout(Some(Duration::from_millis(50)))
            .expect("a timeout");
        assert!(ask(&client, server, &request(0, 0, 2)).is_none());
    }

    #[test]
    fn a_write_to_the_tables_in_force_faults() {
        let workers = start(1, &[LOOPBACK_V4]);
        let networks = (0..5_000_u32).map(|n| {
            let network = IpAddr::V4(((100 << 24) + n * 512).into());
            let prefix = Prefix::new(network, 24).expect("short");
            let ntpport = false;
            Rule::Restrict(Who::Block { prefix, ntpport }, Flags::NOSERVE)
        });
        let rules: Vec<_> = networks.collect();
        for rules in [&rules[..], &rules[..1]] {
            workers.set_policy(Arc::new(Policy {
                access: AccessTable::compile(rules, &[]),
                ..Policy::default()
            }));
            let policy = workers.shared.policy.load();
            let (v4, v6) = policy.access.tables();
            assert!(middle_faults(v4.lists().0) && middle_faults(v6.lists().0));
            if rules.len() > 1 {
                assert!(middle_faults(v4.lists().1) && middle_faults(v4.lists().2));
            }
        }
    }

    /// The margins are as long as each other.
    fn middle_faults<T>(list: &[T]) -> bool {
        write_faults(&raw const list[list.len() / 2])
    }

    #[test]
    fn over_ptp_on_its_port_and_plain_ntp_on_the_other() {
        let port = UdpSocket::bind(LOOPBACK_V4)
            .and_then(|socket| socket.local_addr())
            .expect("a free port")
            .port();
        let address = format!("127.0.0.1:{port}");
        let workers = started(&Setup {
            over_ptp: Some(PtpService { port, domain: 123 }),
            ..setup(2, &[LOOPBACK_V4, &address])
        });
        let [plain, ptp] = *workers.addresses() else {
            panic!("two were asked for");
        };
        let envelope = Envelope {
            form: Form::Final,
            domain: 123,
            sequence: 5,
            correction: NtpDuration::ZERO,
        };
        let ntp = request(0, 0, 2);
        let mut prefix = [0; PREFIX_LEN_MAX];
        let len = envelope.seal(ntp.len(), &mut prefix);
        let wrapped = [&prefix[..len], &ntp[..]].concat();
        let client = client([127, 0, 0, 1]);
        client.send_to(&wrapped, ptp).expect("sent");
        let mut reply = [0; 200];
        let (len, from) = client.recv_from(&mut reply).expect("a reply");
        assert_eq!((len, from), (wrapped.len(), ptp));
        let (opened, inner) = Envelope::open(&reply[..len], 123).expect("over PTP");
        assert_eq!(opened, envelope);
        let packet = Packet::new(inner).expect("a header");
        let held = packet.transmit() - packet.receive();
        assert!(held > NtpDuration::ZERO && held < NtpDuration::from_whole_seconds(1));
        // Each port has its own.
        client
            .set_read_timeout(Some(Duration::from_millis(50)))
            .expect("a timeout");
        assert!(ask(&client, ptp, &ntp).is_none());
        client.send_to(&wrapped, plain).expect("sent");
        assert!(client.recv_from(&mut reply).is_err());
        assert!(ask(&client, plain, &ntp).is_some());
        assert_eq!(
            verdicts(&workers, Verdict::Drop(Reason::OtherPtp).index()),
            1
        );
    }

    #[test]
    fn what_is_too_long_or_empty_is_counted_and_survived() {
        let workers = start(1, &[LOOPBACK_V4]);
        let server = workers.addresses()[0];
        let client = client([127, 0, 0, 1]);
        for len in [0, 1, 47, 2049, 4000, 65_000] {
            client.send_to(&vec![0x23; len], server).expect("sent");
        }
        assert!(ask(&client, server, &request(0, 0, 2)).is_some());
        let bad = Verdict::Drop(Reason::BadLength).index();
        assert_eq!(verdicts(&workers, bad), 6);
    }

    #[test]
    fn addresses_come_and_go_while_others_are_served() {
        let workers = start(2, &[ANY_V4, LOOPBACK_V4]);
        let [any, first] = *workers.addresses() else {
            panic!("two were asked for");
        };
        let client = client([127, 0, 0, 1]);
        let beside = SocketAddr::new([127, 0, 0, 2].into(), any.port());
        let followed = || -> Vec<_> { lock(&workers.followed).iter().map(|f| f.0).collect() };
        workers.follow(&[beside.ip()]);
        assert_eq!(followed(), [beside]);
        assert!(ask(&client, beside, &request(0, 0, 2)).is_some());
        workers.follow(&[]);
        assert_eq!(followed(), []);
        assert!(ask(&client, first, &request(0, 0, 2)).is_some());
        workers.clock_stepped();
        assert!(ask(&client, first, &request(0, 0, 2)).is_some());
        drop(workers);
        for address in [any, first, beside] {
            // Another test's client may be given it for a moment.
            eventually(|| UdpSocket::bind(address).is_ok());
        }
    }

    /// 127.0.0.0/8 is ours as a whole, so that the wildcard answers for the others.
    #[test]
    fn own_addresses_have_sockets_of_their_own_while_they_are_ours() {
        let workers = start(2, &[ANY_V4, "[::]:0"]);
        let ports = workers.addresses().to_vec();
        let ip = |text: &str| -> IpAddr { text.parse().expect("an address") };
        let all_answer = || {
            for (listener, asked) in [
                (0, "127.0.0.1"),
                (0, "127.0.0.2"),
                (0, "127.9.9.9"),
                (1, "::1"),
            ] {
                let server = SocketAddr::new(ip(asked), ports[listener].port());
                let client = client(server.ip());
                let patience = Some(Duration::from_millis(100));
                client.set_read_timeout(patience).expect("a timeout");
                // What comes while sockets close may be lost with them.
                eventually(|| ask(&client, server, &request(0, 0, 2)).is_some());
            }
        };
        let bound = || -> Vec<IpAddr> {
            let followed = lock(&workers.followed);
            followed.iter().map(|(address, _)| address.ip()).collect()
        };
        for own in [
            vec!["127.0.0.1", "127.0.0.2", "::1"],
            vec!["127.0.0.2", "127.0.0.2", "fe80::1", "192.0.2.1"],
            vec![],
            vec!["::1"],
        ] {
            let own: Vec<IpAddr> = own.into_iter().map(ip).collect();
            workers.follow(&own);
            all_answer();
            // Not link-local ones, nor those that are not here after all.
            let expected: Vec<IpAddr> = own.into_iter().filter(IpAddr::is_loopback).collect();
            assert!(bound().iter().all(|ip| expected.contains(ip)));
            assert!(expected.iter().all(|ip| bound().contains(ip)));
        }
        assert_eq!(workers.failure(), None);
    }

    /// In a network namespace of its own, where root may make one. Were an address
    /// bound while the sockets it had before are still closing, it would join their
    /// group, and the kernel give its clients to sockets that only send.
    #[test]
    fn an_address_that_comes_back_at_once_is_served_as_before() {
        let ip = |arguments: &str| {
            let mut command = Command::new("ip");
            let status = command.args(arguments.split(' ')).status();
            status.is_ok_and(|status| status.success())
        };
        let own = || -> Vec<IpAddr> {
            let interfaces = netlink::interfaces().expect("interfaces");
            let addresses = interfaces.iter().flat_map(|one| &one.addresses);
            addresses.map(|address| address.ip).collect()
        };
        let alone = move || {
            let is_ready = unshare(CloneFlags::CLONE_NEWNET).is_ok()
                && ip("link set lo up")
                && ip("address add 192.0.2.7/32 dev lo");
            if !is_ready {
                return;
            }
            let workers = start(2, &[ANY_V4]);
            let server = SocketAddr::new([192, 0, 2, 7].into(), workers.addresses()[0].port());
            workers.follow(&own());
            for _ in 0..10 {
                assert!(ip("address del 192.0.2.7/32 dev lo"));
                workers.follow(&own());
                assert!(ip("address add 192.0.2.7/32 dev lo"));
                workers.follow(&own());
                // Sooner than a change of addresses could be.
                workers.follow(&[]);
                workers.follow(&own());
                assert!(lock(&workers.followed).iter().any(|f| f.0 == server));
                for host in 1..=16 {
                    let client = client([127, 0, 0, host]);
                    let patience = Some(Duration::from_millis(500));
                    client.set_read_timeout(patience).expect("a timeout");
                    let reply = ask(&client, server, &request(0, 0, 2));
                    assert!(reply.is_some(), "127.0.0.{host}");
                }
            }
            assert_eq!(workers.failure(), None);
        };
        thread::spawn(alone).join().expect("served");
    }

    #[test]
    fn an_address_that_cannot_be_bound_is_named() {
        let workers = start(1, &[LOOPBACK_V4]);
        let taken = workers.addresses()[0];
        let setup = Setup {
            workers: 2,
            listen: vec![taken],
            dscp: 0,
            over_ptp: None,
            pin: false,
            busy_poll: false,
            seed: 1,
            sizes: Sizes::default(),
            recent: 0,
        };
        let snapshot = Arc::clone(&workers.shared.snapshot);
        // Even though the workers that hold it are of the same user.
        let error =
            Workers::start(&setup, snapshot, Arc::new(Policy::default())).expect_err("taken");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&taken.to_string()), "{error}");
        let inner = error
            .get_ref()
            .and_then(|e| e.downcast_ref::<ListenError>());
        assert_eq!(inner.expect("a ListenError").address, taken);
    }
}

//! The service thread: everything slow, on the tokio-uring runtime, so that the
//! time loop never waits for a name server, a disk, a terminal or a client. It
//! hears from the time loop through a channel whose sending end never blocks,
//! and answers through another one and a wake-up.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, mpsc as std_mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::StreamExt;
use rtnetlink::MulticastGroup;
use tokio::io::Interest;
use tokio::net::{UdpSocket, UnixDatagram};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};
use tokio_uring::buf::BoundedBuf;
use tokio_uring::net::{TcpStream, UnixStream};

use crate::config::stamping::CardLine;
use crate::config::statistics::StatisticsConfig;
use crate::daemon::cards::{CHECK_INTERVAL, Card, Keeper};
use crate::daemon::cmdmon::{Asker, BUFFER_LEN, Desk, Post, Step};
use crate::daemon::control;
use crate::daemon::desk::{CONVERSATIONS_MAX, PATIENCE, control_answer, metrics_answer};
use crate::daemon::drift;
use crate::daemon::errands::orders::Answer;
use crate::daemon::leaps;
use crate::daemon::logging;
use crate::daemon::metrics::Exporter;
use crate::daemon::options::{Reload, Reread};
use crate::daemon::query::{Answerer, Knowledge, Query};
use crate::daemon::resolve::{Outcome, Question, Resolver};
use crate::daemon::statistics::ring::{Clerks, Entries};
use crate::daemon::status::Report;
use crate::daemon::worker::Workers;
use crate::daemon::xdp::Tier;
use crate::linux::clock;
use crate::linux::netlink::{self, Interface};
use crate::server::rule::Prefix;
use crate::sync::filter::Start;
use crate::time::duration::NtpDuration;
use crate::time::instant::MonoInstant;
use crate::wire::candm::Request;

/// Links that change, change several times in a row: wait for the last of it.
const SETTLE: Duration = Duration::from_millis(100);
/// But no longer: where routes are learnt, there is always a next one.
const SETTLE_MAX: Duration = Duration::from_secs(1);

/// How long the end of the daemon may wait for a disk or a terminal.
const FAREWELL: Duration = Duration::from_secs(2);

/// From the time loop.
#[derive(Debug)]
pub enum ToService {
    /// What is to be told from now on.
    Report(Arc<Report>),
    /// Look up a name; the answer comes as [`ToLoop::Resolved`] with the same `id`.
    Resolve {
        /// Whatever tells the time loop what it asked for.
        id: u64,
        /// What to look up.
        question: Question,
    },
    /// Keep this frequency in the drift file.
    WriteDrift(Start),
    /// Write these files of measurements from now on.
    SetStatistics(Box<StatisticsConfig>),
    /// Open them anew.
    CycleLogs,
    /// Set network cards up as these lines say; comes back as [`ToLoop::Cards`].
    SetCards(Vec<CardLine>),
    /// Read the leap second file; the answer comes as [`ToLoop::Leaps`].
    ReadLeaps(PathBuf),
    /// Read the configuration again; the answer comes as [`ToLoop::Config`].
    ReadConfig(Reload),
    /// Finish what was begun and end.
    Stop,
}

/// To the time loop.
#[derive(Debug)]
pub enum ToLoop {
    /// A name was looked up.
    Resolved {
        /// As it was asked.
        id: u64,
        /// The addresses, or why there are none.
        outcome: Outcome,
    },
    /// Interfaces or addresses changed, and are like this now. Comes once at the
    /// start too.
    LinksChanged(Vec<Interface>),
    /// Cards that stamp, or their links, changed: these are all there are now.
    Cards(Vec<Card>),
    /// The leap second file was read.
    Leaps(leaps::Outcome),
    /// The configuration was read again.
    Config(Box<Reread>),
    /// chronyc gives an order.
    Order(Ordered),
}

/// An order under way to the time loop.
#[derive(Debug)]
pub struct Ordered {
    /// What is to be done.
    pub request: Box<Request>,
    /// Where the answer goes, with what can be told from then on.
    pub done: oneshot::Sender<(Answer, Arc<Report>)>,
}

/// What the service thread is to do. The sockets are bound before any thread
/// starts, so that an operator hears at once what is wrong with them.
#[derive(Debug, Default)]
pub struct Setup {
    /// Where people ask; none: nowhere.
    pub control: Option<control::Listener>,
    /// Where Prometheus asks (from [`bind_metrics`](crate::daemon::desk::bind_metrics)), and the answers' maker.
    pub metrics: Option<(OwnedFd, Exporter)>,
    /// Where the frequency is kept.
    pub drift_file: Option<PathBuf>,
    /// Files of measurements.
    pub statistics: StatisticsConfig,
    /// Where comes what is written there; none: nothing does.
    pub entries: Option<Entries>,
    /// When the daemon started.
    pub started: MonoInstant,
    /// Where chronyc is heard.
    pub posts: Vec<Post>,
    /// Who may ask there besides this machine.
    pub heard: Vec<(Prefix, bool)>,
    /// Which network cards are to stamp packets.
    pub cards: Vec<CardLine>,
    /// Who serves on addresses that come and go.
    pub workers: Option<Arc<Workers>>,
    /// And on links.
    pub xdp: Option<Arc<Tier>>,
    /// What nobody can guess, for ntpq's nonces.
    pub secret: [u8; 32],
}

/// The time loop's end.
#[derive(Debug)]
pub struct Service {
    sender: mpsc::UnboundedSender<ToService>,
    thread: Option<JoinHandle<()>>,
}

impl Service {
    /// Starts the thread. `wake` is called, on any thread, after each message to
    /// the time loop. Fails where io_uring or a thread can't be had: then `--io
    /// poll` is the way.
    pub fn start(
        setup: Setup,
        to_loop: std_mpsc::Sender<ToLoop>,
        wake: Box<dyn Fn() + Send + Sync>,
    ) -> io::Result<Self> {
        let (sender, orders) = mpsc::unbounded_channel();
        let (started, start) = std_mpsc::channel();
        let answers = Answers {
            sender: to_loop,
            wake: wake.into(),
        };
        let thread = std::thread::Builder::new()
            .name("ptntp-service".to_owned())
            .spawn(move || {
                // tokio_uring::start panics where io_uring is denied; this tells.
                let runtime = match tokio_uring::Runtime::new(&tokio_uring::builder()) {
                    Ok(runtime) => runtime,
                    Err(error) => {
                        let _ = started.send(Err(error));
                        return;
                    }
                };
                let _ = started.send(Ok(()));
                runtime.block_on(run(setup, orders, answers));
            })?;
        start
            .recv()
            .unwrap_or_else(|_| Err(io::Error::other("the service thread died at its start")))
            .map_err(|error| {
                io::Error::new(error.kind(), format!("service thread: io_uring: {error}"))
            })?;
        Ok(Self {
            sender,
            thread: Some(thread),
        })
    }

    /// Hands over `order`. Never blocks; without effect if the thread is dead.
    pub fn send(&self, order: ToService) {
        let _ = self.sender.send(order);
    }

    /// Has the thread ended, which nobody asked it to? Then there is nobody to look
    /// up names, to be asked or to write the log.
    pub fn is_dead(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Lets it finish what was ordered and waits for it, a few seconds at most.
    /// The control socket is gone after this.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.send(ToService::Stop);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            logging::write_now("ptntp: the service thread ended with a panic\n");
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.end();
    }
}

/// The way back to the time loop.
#[derive(Clone)]
struct Answers {
    sender: std_mpsc::Sender<ToLoop>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

impl Answers {
    fn send(&self, answer: ToLoop) {
        // A time loop that has ended needs no answers.
        if self.sender.send(answer).is_ok() {
            (self.wake)();
        }
    }
}

/// The newest report, shared by everybody on this thread.
#[derive(Clone, Default)]
struct Latest(Rc<RefCell<Option<Arc<Report>>>>);

impl Latest {
    fn set(&self, report: Arc<Report>) {
        *self.0.borrow_mut() = Some(report);
    }

    fn get(&self) -> Option<Arc<Report>> {
        self.0.borrow().clone()
    }
}

async fn run(setup: Setup, mut orders: mpsc::UnboundedReceiver<ToService>, answers: Answers) {
    let latest = Latest::default();
    let log = logging::queue().map(|lines| {
        let (stop, stopped) = watch::channel(());
        (stop, tokio_uring::spawn(write_log(lines, stopped)))
    });
    let drift = setup.drift_file.map(|path| {
        let (sender, receiver) = watch::channel(None);
        (sender, tokio_uring::spawn(keep_drift(path, receiver)))
    });
    let clerks = Rc::new(RefCell::new(Clerks::new(&setup.statistics, setup.started)));
    let (stop_entries, stopped) = watch::channel(());
    let written = setup.entries.map(|entries| {
        let clerks = Rc::clone(&clerks);
        tokio_uring::spawn(write_entries(entries, clerks, stopped))
    });
    // Kept until the end: dropping it removes the socket's file.
    let control = setup.control;
    if let Some(listener) = &control {
        match own_unix(listener) {
            Ok(own) => drop(tokio_uring::spawn(serve_control(own, latest.clone()))),
            Err(error) => log::error!(
                "control socket {}: {error}; nobody can ask this daemon anything",
                listener.path().display()
            ),
        }
    }
    if let Some((listener, exporter)) = setup.metrics {
        let listener = TcpListener::from(listener);
        match listener.set_nonblocking(false) {
            Ok(()) => drop(tokio_uring::spawn(serve_metrics(
                tokio_uring::net::TcpListener::from_std(listener),
                exporter,
                latest.clone(),
            ))),
            Err(error) => log::error!("metrics: {error}; nobody can scrape this daemon"),
        }
    }
    let desk = Rc::new(RefCell::new(Desk::new(&setup.heard)));
    for post in setup.posts {
        let (desk, latest) = (Rc::clone(&desk), latest.clone());
        tokio_uring::spawn(serve_chronyc(post, desk, latest, answers.clone()));
    }
    if let Some(workers) = &setup.workers
        && let Some(queries) = workers.take_queries()
    {
        let answerer = Answerer::new(setup.secret, clock::monotonic());
        let serving = serve_queries(queries, answerer, Arc::clone(workers), latest.clone());
        drop(tokio_uring::spawn(serving));
    }
    let cards = Cards::new(&setup.cards);
    let audience = Audience {
        workers: setup.workers,
        xdp: setup.xdp,
        cards: cards.clone(),
        answers: answers.clone(),
    };
    tokio_uring::spawn(watch_links(audience.clone()));
    tokio_uring::spawn(watch_cards(audience));

    let resolver = Resolver::new();
    while let Some(order) = orders.recv().await {
        match order {
            ToService::Report(report) => latest.set(report),
            ToService::Resolve { id, question } => {
                let answers = answers.clone();
                resolver.resolve(question, move |outcome| {
                    answers.send(ToLoop::Resolved { id, outcome });
                });
            }
            ToService::WriteDrift(frequency) => {
                if let Some((sender, _)) = &drift {
                    sender.send_replace(Some(frequency));
                }
            }
            ToService::SetStatistics(config) => clerks.borrow_mut().set(&config),
            ToService::CycleLogs => clerks.borrow().cycle(),
            ToService::SetCards(lines) => cards.set_lines(lines, &answers),
            ToService::ReadLeaps(path) => {
                let answers = answers.clone();
                tokio_uring::spawn(async move {
                    answers.send(ToLoop::Leaps(leaps::read_uring(&path).await));
                });
            }
            ToService::ReadConfig(reload) => {
                let answers = answers.clone();
                // Files may be slow, and this thread has others to serve.
                let reading = std::thread::Builder::new().name("ptntp-reload".to_owned());
                let started = reading.spawn(move || {
                    answers.send(ToLoop::Config(Box::new((reload.0)())));
                });
                if let Err(error) = started {
                    log::error!("the configuration can't be read again: no thread: {error}");
                }
            }
            ToService::Stop => break,
        }
    }

    drop(control);
    cards.restore();
    if let Some((sender, task)) = drift {
        drop(sender);
        if timeout(FAREWELL, task).await.is_err() {
            log::warn!("the drift file's disk did not answer in time");
        }
    }
    drop(stop_entries);
    if let Some(task) = written {
        // It only moves what is there already.
        let _ = task.await;
    }
    let clerks = Rc::into_inner(clerks).map(RefCell::into_inner);
    if let Some(clerks) = clerks
        && !clerks.finish(FAREWELL).await
    {
        log::warn!("not all statistics files could be written in time");
    }
    // Last, because the others may have something to say.
    if let Some((stop, task)) = log {
        drop(stop);
        let _ = timeout(FAREWELL, task).await;
    }
}

/// Writes the newest frequency whenever there is a new one, and the last one
/// before it ends.
async fn keep_drift(path: PathBuf, mut frequency: watch::Receiver<Option<Start>>) {
    drift::clean(&path);
    let mut failing = false;
    // Ends when the sender is gone and its last value has been seen.
    while frequency.changed().await.is_ok() {
        let Some(newest) = *frequency.borrow_and_update() else {
            continue;
        };
        match drift::write_uring(&path, newest).await {
            Ok(()) => failing = false,
            // Once, not every hour.
            Err(problem) if !failing => {
                log::warn!("{problem}");
                failing = true;
            }
            Err(_) => {}
        }
    }
}

/// Hands what comes from the time loop on to the files it is for; when stopped, what has
/// come by then.
async fn write_entries(
    mut entries: Entries,
    clerks: Rc<RefCell<Clerks>>,
    mut stopped: watch::Receiver<()>,
) {
    loop {
        let entry = tokio::select! {
            entry = entries.next() => entry,
            _ = stopped.changed() => break,
        };
        let Some(entry) = entry else { return };
        clerks.borrow_mut().write(&entry);
    }
    while let Some(entry) = entries.take() {
        clerks.borrow_mut().write(&entry);
    }
}

/// Takes lines to stderr through the ring until told to stop, and then those
/// that are left.
async fn write_log(mut lines: mpsc::Receiver<String>, mut stop: watch::Receiver<()>) {
    let stderr = io::stderr()
        .as_fd()
        .try_clone_to_owned()
        .map(|fd| tokio_uring::fs::File::from_std(fd.into()));
    let mut lost = logging::dropped();
    let mut stopping = false;
    loop {
        let mut batch = Vec::new();
        let first = if stopping {
            lines.recv().await
        } else {
            tokio::select! {
                line = lines.recv() => line,
                _ = stop.changed() => {
                    // What is sent from now on is written by who sends it.
                    stopping = true;
                    lines.close();
                    continue;
                }
            }
        };
        let Some(first) = first else { return };
        batch.extend_from_slice(first.as_bytes());
        while batch.len() < 64 << 10
            && let Ok(line) = lines.try_recv()
        {
            batch.extend_from_slice(line.as_bytes());
        }
        let dropped = logging::dropped();
        if dropped > lost {
            batch.extend_from_slice(logging::lost_line(dropped - lost).as_bytes());
            lost = dropped;
        }
        match &stderr {
            Ok(stderr) => write_stream(stderr, batch).await,
            Err(_) => logging::write_now(&String::from_utf8_lossy(&batch)),
        }
    }
}

/// Writes all of `bytes` where the file's own position is: the offset −1 of
/// io_uring_enter(2). stderr may be a pipe, a terminal or a file shared with others.
async fn write_stream(file: &tokio_uring::fs::File, bytes: Vec<u8>) {
    let (mut bytes, mut done) = (bytes, 0);
    while done < bytes.len() {
        let (result, slice) = file.write_at(bytes.slice(done..), u64::MAX).submit().await;
        bytes = slice.into_inner();
        match result {
            Ok(length) if length > 0 => done += length,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock
                ) =>
            {
                sleep(Duration::from_millis(10)).await;
            }
            // stderr is closed: there is nobody to tell.
            _ => return,
        }
    }
}

/// tokio's listener hears through its own readiness loop, since tokio-uring's
/// can't take over a socket that was bound before; the streams go to the ring.
fn own_unix(listener: &control::Listener) -> io::Result<tokio::net::UnixListener> {
    tokio::net::UnixListener::from_std(UnixListener::from(listener.try_clone_fd()?))
}

async fn serve_control(listener: tokio::net::UnixListener, latest: Latest) {
    let crowd = Crowd::default();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream.into_std().and_then(|stream| {
                stream.set_nonblocking(false)?;
                Ok(UnixStream::from_std(stream))
            }),
            Err(error) => Err(error),
        };
        match stream {
            Ok(stream) => {
                let latest = latest.clone();
                let seat = crowd.seat().await;
                tokio_uring::spawn(async move {
                    converse(&Stream::Unix(stream), &seat, |received| {
                        control_answer(received, latest.get().as_deref())
                    })
                    .await;
                    drop(seat);
                });
            }
            Err(error) => pause("control socket", &error).await,
        }
    }
}

async fn serve_metrics(
    listener: tokio_uring::net::TcpListener,
    exporter: Exporter,
    latest: Latest,
) {
    let crowd = Crowd::default();
    let exporter = Rc::new(exporter);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (latest, exporter) = (latest.clone(), Rc::clone(&exporter));
                let seat = crowd.seat().await;
                tokio_uring::spawn(async move {
                    converse(&Stream::Tcp(stream), &seat, |received| {
                        metrics_answer(received, latest.get().as_deref(), &exporter)
                            .map(|reply| (reply, true))
                    })
                    .await;
                    drop(seat);
                });
            }
            Err(error) => pause("metrics", &error).await,
        }
    }
}

/// A second handle on a post's socket, by which the runtime hears of datagrams.
enum Ear {
    Udp(UdpSocket),
    Unix(UnixDatagram),
}

impl Ear {
    fn of(post: &Post) -> io::Result<Self> {
        let fd = post.as_fd().try_clone_to_owned()?;
        Ok(if post.is_unix() {
            Self::Unix(UnixDatagram::from_std(fd.into())?)
        } else {
            Self::Udp(UdpSocket::from_std(fd.into())?)
        })
    }

    async fn receive(&self, post: &Post, buffer: &mut [u8]) -> io::Result<(usize, Asker)> {
        let receive = || {
            post.receive(buffer)?
                .ok_or(io::ErrorKind::WouldBlock.into())
        };
        match self {
            Self::Udp(socket) => socket.async_io(Interest::READABLE, receive).await,
            Self::Unix(socket) => socket.async_io(Interest::READABLE, receive).await,
        }
    }
}

/// Answers datagrams. An order is waited for before the next datagram is read: they are an
/// operator's, and come one after the other.
async fn serve_chronyc(post: Post, desk: Rc<RefCell<Desk>>, latest: Latest, answers: Answers) {
    let ear = match Ear::of(&post) {
        Ok(ear) => ear,
        Err(error) => {
            log::error!("chronyc is not answered: {error}");
            return;
        }
    };
    let mut buffer = [0; BUFFER_LEN];
    loop {
        let (len, asker) = match ear.receive(&post, &mut buffer).await {
            Ok(received) => received,
            // The fate of an earlier answer, or what passes; but it must not spin.
            Err(error) => {
                pause("chronyc", &error).await;
                continue;
            }
        };
        let Some(report) = latest.get() else { continue };
        let now = clock::monotonic();
        let step = desk
            .borrow_mut()
            .judge(&buffer[..len], &asker, &report, now);
        let reply = match step {
            Step::Silence => None,
            Step::Reply(reply) => Some(reply),
            Step::Order(header, request) => {
                let (done, outcome) = oneshot::channel();
                answers.send(ToLoop::Order(Ordered { request, done }));
                // Without an answer the daemon ends.
                outcome.await.ok().and_then(|(answer, report)| {
                    latest.set(report);
                    Desk::finish(&header, &answer)
                })
            }
        };
        if let Some(reply) = reply {
            post.send(&reply, &asker);
        }
    }
}

/// Answers ntpq, as fast as we like: meanwhile the queue fills, and what finds no
/// room there is dropped by the worker.
async fn serve_queries(
    mut queries: mpsc::Receiver<Query>,
    mut answerer: Answerer,
    workers: Arc<Workers>,
    latest: Latest,
) {
    while let Some(query) = queries.recv().await {
        let known = query.is_known(&workers.policy().keys);
        let pause = answerer.pause(clock::monotonic(), known);
        if pause > NtpDuration::ZERO {
            sleep(Duration::from_secs_f64(pause.as_seconds())).await;
        }
        // Before the first report there is nothing to say; ntpq asks twice.
        let Some(report) = latest.get() else { continue };
        let policy = workers.policy();
        let knowledge = Knowledge {
            report: &report,
            policy: &policy,
            now: report.map.to_local(clock::realtime()),
            clients: &|| workers.recent(),
            clients_max: workers.recent_max(),
        };
        let messages = answerer.answer(query.bytes(), query.from, &knowledge);
        workers.reply(&query, &messages);
    }
}

/// Out of descriptors or memory: that passes, or not, but must not spin.
async fn pause(what: &str, error: &io::Error) {
    log::debug!("{what}: {error}");
    sleep(Duration::from_secs(1)).await;
}

/// So many conversations and no more: whoever comes then takes the place of the
/// one that was there first.
#[derive(Clone, Default)]
struct Crowd {
    /// Whom to tell to leave, oldest first.
    seats: Rc<RefCell<VecDeque<Rc<Notify>>>>,
    left: Rc<Notify>,
}

/// A place in the crowd; dropping it lets the next one in.
struct Seat {
    crowd: Crowd,
    /// Told when somebody else needs the place.
    leave: Rc<Notify>,
}

impl Crowd {
    async fn seat(&self) -> Seat {
        loop {
            match self.seats.borrow().front() {
                Some(oldest) if self.seats.borrow().len() >= CONVERSATIONS_MAX => {
                    oldest.notify_one();
                }
                _ => break,
            }
            self.left.notified().await;
        }
        let leave = Rc::new(Notify::new());
        self.seats.borrow_mut().push_back(Rc::clone(&leave));
        Seat {
            crowd: self.clone(),
            leave,
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = self.crowd.seats.borrow_mut();
        seats.retain(|leave| !Rc::ptr_eq(leave, &self.leave));
        self.crowd.left.notify_one();
    }
}

enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Stream {
    async fn read(&self, buffer: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
        match self {
            Self::Unix(stream) => stream.read(buffer).await,
            Self::Tcp(stream) => stream.read(buffer).await,
        }
    }

    async fn write_all(&self, bytes: Vec<u8>) -> io::Result<()> {
        match self {
            Self::Unix(stream) => stream.write_all(bytes).await.0,
            Self::Tcp(stream) => stream.write_all(bytes).await.0,
        }
    }

    fn hang_up(&self) {
        let how = std::net::Shutdown::Both;
        // It may be gone already.
        let _ = match self {
            Self::Unix(stream) => stream.shutdown(how),
            Self::Tcp(stream) => stream.shutdown(how),
        };
    }
}

/// Reads, answers, and hangs up on who stands still for too long, or when the seat
/// is needed.
async fn converse(
    stream: &Stream,
    seat: &Seat,
    mut answer: impl FnMut(&mut Vec<u8>) -> Option<(Vec<u8>, bool)>,
) {
    let patience = Duration::from_secs_f64(PATIENCE.as_seconds());
    let mut received = Vec::new();
    // Refreshed by a whole question alone: who sends a byte now and then is
    // not worth a seat.
    let mut until = tokio::time::Instant::now() + patience;
    let mut buffer = Vec::with_capacity(2048);
    loop {
        if let Some((reply, last)) = answer(&mut received) {
            until = tokio::time::Instant::now() + patience;
            let sent = tokio::select! {
                biased;
                sent = tokio::time::timeout_at(until, stream.write_all(reply)) => sent,
                () = seat.leave.notified() => break,
            };
            if last || !matches!(sent, Ok(Ok(()))) {
                break;
            }
            continue;
        }
        buffer.clear();
        let read = tokio::select! {
            biased;
            read = tokio::time::timeout_at(until, stream.read(buffer)) => read,
            () = seat.leave.notified() => break,
        };
        let Ok((result, filled)) = read else { break };
        buffer = filled;
        match result {
            Ok(length) if length > 0 => received.extend_from_slice(&buffer[..length]),
            _ => break,
        }
    }
    // Also ends a read that was given up: the ring holds the socket until then.
    stream.hang_up();
}

/// Who is told of links.
#[derive(Clone)]
struct Audience {
    workers: Option<Arc<Workers>>,
    xdp: Option<Arc<Tier>>,
    cards: Cards,
    answers: Answers,
}

/// Tells everybody of every change of links, addresses and routes.
async fn watch_links(audience: Audience) {
    let groups = [
        MulticastGroup::Link,
        MulticastGroup::Ipv4Ifaddr,
        MulticastGroup::Ipv4Route,
        MulticastGroup::Ipv6Ifaddr,
        MulticastGroup::Ipv6Route,
    ];
    let mut complained = false;
    loop {
        match rtnetlink::new_multicast_connection(&groups) {
            Ok((connection, handle, mut news)) => {
                // The connection ends when the last handle is dropped.
                let _handle = handle;
                let connection = tokio_uring::spawn(connection);
                // Whatever happened before we listened.
                audience.tell_links();
                while news.next().await.is_some() {
                    let last = tokio::time::Instant::now() + SETTLE_MAX;
                    while tokio::time::Instant::now() < last
                        && let Ok(Some(_)) = timeout(SETTLE, news.next()).await
                    {
                    }
                    audience.tell_links();
                }
                connection.abort();
            }
            Err(error) if !complained => {
                complained = true;
                log::warn!(
                    "netlink: {error}; interfaces that come and go are noticed after a restart"
                );
                audience.tell_links();
            }
            Err(_) => {}
        }
        sleep(Duration::from_secs(5)).await;
    }
}

impl Audience {
    fn tell_links(&self) {
        match netlink::interfaces() {
            Ok(interfaces) => {
                if let Some(workers) = &self.workers {
                    let addresses = interfaces.iter().flat_map(|one| &one.addresses);
                    workers.follow(&addresses.map(|address| address.ip).collect::<Vec<_>>());
                }
                self.tell_drivers(&interfaces);
                self.answers.send(ToLoop::LinksChanged(interfaces));
            }
            Err(error) => log::warn!("netlink: interfaces can't be listed: {error}"),
        }
    }

    fn tell_drivers(&self, interfaces: &[Interface]) {
        self.cards.follow(interfaces, &self.answers);
        if let Some(xdp) = &self.xdp {
            xdp.follow(interfaces);
        }
    }
}

/// The keeper of cards, shared by those who hear of links and of time.
#[derive(Clone)]
struct Cards(Rc<RefCell<Option<Keeper>>>);

impl Cards {
    fn new(lines: &[CardLine]) -> Self {
        Self(Rc::new(RefCell::new(Keeper::new(lines))))
    }

    fn follow(&self, interfaces: &[Interface], answers: &Answers) {
        let mut keeper = self.0.borrow_mut();
        let news = keeper.as_mut().and_then(|keeper| keeper.follow(interfaces));
        if let Some(cards) = news {
            answers.send(ToLoop::Cards(cards));
        }
    }

    fn set_lines(&self, lines: Vec<CardLine>, answers: &Answers) {
        if let Some(keeper) = self.0.borrow_mut().as_mut() {
            keeper.set_lines(lines);
        }
        match netlink::interfaces() {
            Ok(interfaces) => self.follow(&interfaces, answers),
            Err(error) => log::warn!(
                "netlink: interfaces can't be listed: {error}; cards are set up within a minute"
            ),
        }
    }

    /// After this, nothing is followed.
    fn restore(&self) {
        if let Some(mut keeper) = self.0.take() {
            keeper.restore();
        }
    }

    fn is_none(&self) -> bool {
        self.0.borrow().is_none()
    }
}

/// Sees to it that drivers don't forget what they were told.
async fn watch_cards(audience: Audience) {
    while audience.xdp.is_some() || !audience.cards.is_none() {
        sleep(Duration::from_secs_f64(CHECK_INTERVAL.as_seconds())).await;
        if let Ok(interfaces) = netlink::interfaces() {
            audience.tell_drivers(&interfaces);
        }
    }
}

impl fmt::Debug for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answers").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::units::Ppm;

    fn kept(ppm: i32) -> Start {
        Start {
            frequency: Ppm(f64::from(ppm)),
            frequency_sigma: Ppm(0.5),
        }
    }
    use crate::daemon::desk::bind_metrics;
    use crate::daemon::status::tests::example;
    use std::io::{Read, Write};
    use std::path::Path;
    use std::sync::atomic::{AtomicUsize, Ordering};

    struct Fixture {
        service: Service,
        answers: std_mpsc::Receiver<ToLoop>,
        woken: Arc<AtomicUsize>,
        directory: PathBuf,
        metrics: std::net::SocketAddr,
    }

    /// None where io_uring is denied.
    fn start(name: &str) -> Option<Fixture> {
        let directory =
            std::env::temp_dir().join(format!("ptntp-service-test-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir(&directory).unwrap();
        let listener = bind_metrics("127.0.0.1:0".parse().unwrap()).unwrap();
        let metrics = TcpListener::from(listener.try_clone().unwrap());
        let metrics = metrics.local_addr().unwrap();
        let setup = Setup {
            control: Some(control::Listener::bind(&directory.join("control.sock")).unwrap()),
            metrics: Some((listener, Exporter::new())),
            drift_file: Some(directory.join("drift")),
            posts: Vec::new(),
            heard: Vec::new(),
            cards: Vec::new(),
            workers: None,
            xdp: None,
            secret: [0; 32],
            ..Setup::default()
        };
        let woken = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&woken);
        let (sender, answers) = std_mpsc::channel();
        let wake = Box::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        let service = Service::start(setup, sender, wake).ok()?;
        Some(Fixture {
            service,
            answers,
            woken,
            directory,
            metrics,
        })
    }

    fn scrape(address: std::net::SocketAddr) -> String {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        reply
    }

    #[test]
    fn it_answers_writes_looks_up_and_leaves_nothing_behind() {
        let Some(fixture) = start("whole") else {
            return;
        };
        let control_path = fixture.directory.join("control.sock");
        let early = control::ask(&control_path, "stat").unwrap_err();
        assert!(early.to_string().contains("starting"), "{early}");

        fixture.service.send(ToService::Report(Arc::new(example())));
        fixture.service.send(ToService::Resolve {
            id: 7,
            question: Question {
                name: "localhost".to_owned(),
                family: None,
                port: 123,
            },
        });
        let (mut links, mut resolved) = (false, false);
        while !(links && resolved) {
            match fixture.answers.recv_timeout(Duration::from_secs(30)) {
                Ok(ToLoop::LinksChanged(all)) => links = all.iter().any(|one| one.loopback),
                Ok(ToLoop::Resolved { id, outcome }) => {
                    assert_eq!(id, 7);
                    assert!(!outcome.unwrap().is_empty());
                    resolved = true;
                }
                Ok(ToLoop::Config(outcome)) => panic!("nobody asked: {outcome:?}"),
                Ok(ToLoop::Order(order)) => panic!("nobody ordered: {order:?}"),
                Ok(ToLoop::Cards(cards)) => panic!("nobody asked: {cards:?}"),
                Ok(ToLoop::Leaps(outcome)) => panic!("nobody asked: {outcome:?}"),
                Err(error) => panic!("{error}"),
            }
        }
        let stat = control::ask(&control_path, "stat").unwrap();
        assert!(stat.contains("\"true_error_s\""), "{stat}");
        assert!(scrape(fixture.metrics).contains("\nptntp_stratum 3\n"));

        for n in 0..50 {
            fixture.service.send(ToService::WriteDrift(kept(n)));
        }
        fixture.service.stop();
        assert!(fixture.woken.load(Ordering::Relaxed) >= 2);
        assert_eq!(
            drift::read(&fixture.directory.join("drift")),
            Ok(Some(kept(49)))
        );
        assert!(!control_path.exists());
        let left: Vec<_> = std::fs::read_dir(&fixture.directory).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
        std::fs::remove_dir_all(&fixture.directory).unwrap();
    }

    #[test]
    fn silent_clients_neither_hold_up_others_nor_the_end() {
        let Some(fixture) = start("silent") else {
            return;
        };
        fixture.service.send(ToService::Report(Arc::new(example())));
        let control_path = fixture.directory.join("control.sock");
        let connect = |path: &Path| std::os::unix::net::UnixStream::connect(path).unwrap();
        let silent: Vec<_> = (0..CONVERSATIONS_MAX + 3)
            .map(|_| connect(&control_path))
            .collect();
        let mute: Vec<_> = (0..CONVERSATIONS_MAX + 3)
            .map(|_| std::net::TcpStream::connect(fixture.metrics).unwrap())
            .collect();
        for _ in 0..5 {
            control::ask(&control_path, "peers").unwrap();
            assert!(scrape(fixture.metrics).starts_with("HTTP/1.1 200"));
        }
        let begun = std::time::Instant::now();
        fixture.service.stop();
        assert!(begun.elapsed() < Duration::from_secs(2));
        drop((silent, mute));
        std::fs::remove_dir_all(&fixture.directory).unwrap();
    }
}

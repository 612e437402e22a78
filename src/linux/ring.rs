//! One worker's io_uring: requests come in by multishot receive into a ring of
//! provided buffers, and the kernel's departure stamps come back for those replies that
//! need one. Second station of a request's journey, and the last.
//!
//! The turn of a worker is [`Ring::wait`], then [`Ring::next_event`] while there is one,
//! with [`Ring::answer`] for each request. Nothing is allocated after [`Ring::new`] and
//! [`Ring::add`]. On a packet's way there are io_uring_enter(2), for all that have come,
//! and sendto(2) for each reply: a transmit stamp is worth what little time there is between it
//! and the packet. In a batch of replies all that the kernel takes in while it sends
//! the first makes the stamps of the others wrong, and submitting each alone costs
//! more than the call.

mod buffers;
mod pace;
mod tracker;

use std::ffi::CStr;
use std::fmt;
use std::io;
use std::mem::ManuallyDrop;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use io_uring::types::{CancelBuilder, Fd, RecvMsgOut, Timespec};
use io_uring::{EnterFlags, IoUring, Probe, cqueue, opcode, squeue};

use crate::linux::address::RawAddress;
use crate::linux::clock::realtime;
use crate::linux::cmsg::{self, CardStamp, ControlBuffer, Encoder, QueuedError};
use crate::linux::reuseport::ListenSocket;
use crate::linux::ring::buffers::{Buffer, BufferRing};
use crate::linux::ring::pace::Pace;
use crate::linux::ring::tracker::{Departing, Ids, Tracker};
use crate::linux::udp::{self, encode_source};
use crate::linux::wake::Wake;
use crate::time::instant::WallInstant;
use crate::time::phc::PhcInstant;
use crate::time::stamp::Stamp;

/// The longest reply. A longer request is cut, to no less than one octet more, so
/// that it still shows as too long.
pub const MESSAGE_LEN_MAX: usize = 2048;

/// The oldest kernel we run on: multishot RECVMSG came with 6.0, DEFER_TASKRUN
/// with 6.1.
const KERNEL_MIN: (u32, u32) = (6, 1);
/// The kernel that lets a sender choose the ids of departure stamps.
const KERNEL_CHOSEN_IDS: (u32, u32) = (6, 13);
/// The kernel that hands departure stamps to the ring.
const KERNEL_STAMP_COMMAND: (u32, u32) = (6, 17);

/// SOCKET_URING_OP_TX_TIMESTAMP of linux/io_uring.h. Its completions have the id as
/// their result and a `struct io_timespec` in their second half.
const STAMP_COMMAND: u32 = 4;
/// IORING_CQE_F_TSTAMP_HW of the same file: the stamp is a network card's.
const STAMP_BY_CARD: u32 = 1 << 16;

/// Lets the sender choose the id of a departure stamp.
const SCM_TS_OPT_ID: libc::c_int = 81;

/// Buffers for requests that arrived and were not yet answered; more wait in the
/// socket's own buffer. As many as the kernel fills in one go (MULTISHOT_MAX_RETRY of
/// io_uring/net.c): where more are waiting, the receive ends for want of a buffer, and
/// until it is armed again, after the batch, what arrives has nobody to wake. With more
/// buffers each arrival would try to, which cost more than to arm it.
const BUFFERS: u16 = 32;
/// What sockets need to be armed again.
const SUBMISSIONS: u32 = 256;
/// Hardly an overflow: a completion is of a request, which takes one of the buffers, of
/// a departure, or of a socket that is armed again. What overflows all the same is kept by the
/// kernel and counted. Few enough to stay in the cache, too.
const COMPLETIONS: u32 = 512;
/// Departure stamps asked for in one go.
const DRAINS_MAX: usize = 16;

/// In each buffer: the address of the sender, then the control messages
/// (SCM_TIMESTAMPING 64, its PKTINFO 32, PKTINFO 40), then the packet, which so begins a cache line.
const NAME_LEN: usize = 32;
const CONTROL_LEN: usize = 144;
/// On the error queue: no sender, SCM_TIMESTAMPING 64, RECVERR 64.
const DEPARTURE_CONTROL_LEN: usize = 160;
/// `struct io_uring_recvmsg_out`.
const OUT_LEN: usize = 16;
const BUFFER_LEN: usize = OUT_LEN + NAME_LEN + CONTROL_LEN + MESSAGE_LEN_MAX + 64;

/// A ring whose completions have room for a stamp.
type WideRing = IoUring<squeue::Entry, cqueue::Entry32>;
type Completion = cqueue::Entry32;

/// A worker's ring. It belongs to the thread that made it. `T` is what the caller
/// uses to recognise a reply when its departure stamp comes.
pub struct Ring<T> {
    // These two are dropped by hand, in this order and if it is safe; see `Drop`.
    ring: ManuallyDrop<WideRing>,
    memory: ManuallyDrop<Memory>,
    sockets: Vec<Option<Socket<T>>>,
    wake: Wake,
    /// Commands given that stand, wrapping.
    orders: u32,
    /// Which of them waits for `wake`.
    waking: u32,
    /// Departure stamps of wildcard sockets.
    ids: Ids,
    collect: Collect,
    /// Where replies are written.
    reply: Box<[u8; MESSAGE_LEN_MAX]>,
    /// Which batch this is, wrapping.
    batch: u32,
    /// Sockets that took the buffers of this batch and are armed after the others.
    sated: Vec<usize>,
    /// Completions read so far, wrapping.
    completed: u32,
    /// What was in the ring's last place, a lap ago.
    last_of_lap: (u64, i32, u32, [u64; 2]),
    pace: Pace,
    /// Network cards' stamps are asked for.
    by_card: bool,
    tallies: Tallies,
}

/// What the kernel reads and writes while requests are in flight.
struct Memory {
    buffers: BufferRing,
    /// How much room each buffer leaves for names and control messages, when
    /// receiving packets and when reading departures.
    receive: Box<libc::msghdr>,
    departure: Box<libc::msghdr>,
}

/// A socket and what is in flight for it.
struct Socket<T> {
    socket: ListenSocket,
    receiving: bool,
    /// The last batch in which it took a buffer.
    took: u32,
    /// Of the ring's `orders`, those under which it receives and hears of departures.
    receive_order: u32,
    stamps_order: u32,
    /// The ring hears of departures, in the way of `collect`.
    listening: bool,
    drains: usize,
    drain_wanted: bool,
    closing: bool,
    tracker: Tracker<T>,
}

/// How departure stamps come from the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Collect {
    /// Each as a completion of one standing command.
    Command,
    /// By reading the error queue when a poll says that there are some.
    ErrorQueue,
}

/// A request that arrived. Has to come back by [`Ring::answer`].
#[must_use = "its buffer is lost unless it is answered"]
#[derive(Debug)]
pub struct Arrival {
    /// Who asked.
    pub from: SocketAddr,
    /// The local address that was asked, from which the reply leaves.
    pub to: IpAddr,
    /// The local port that was asked.
    pub port: u16,
    /// It was sent to a broadcast or multicast address.
    pub group: bool,
    /// Index of the interface it came by; 0 if unknown.
    pub interface: u32,
    /// When it arrived, CLOCK_REALTIME; `None` if the kernel didn't say.
    pub stamp: Option<Stamp>,
    /// When it arrived by the network card, if that takes stamps.
    pub card: Option<CardStamp>,
    socket: usize,
    buffer: Buffer,
    filled: usize,
}

/// What [`Ring::answer`] is told about the reply that was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outgoing<T> {
    /// Octets, at most [`MESSAGE_LEN_MAX`].
    pub len: usize,
    /// Show it to [`Ring::answer`]'s stamping, from this octet on.
    pub stamp_late: Option<usize>,
    /// Tell when it left: an [`Event::Departed`] with this token.
    pub track: Option<T>,
}

/// Something a worker has to deal with.
#[derive(Debug)]
pub enum Event<T> {
    /// A request.
    Arrived(Arrival),
    /// A reply that was tracked has left, at this time of CLOCK_REALTIME.
    Departed(T, Stamp),
    /// A network card stamped its departure too. The network stack let go of it at this
    /// time of CLOCK_REALTIME, or later.
    DepartedByCard(T, CardStamp, WallInstant),
    /// Somebody called [`Wake::wake`]. Several calls may be one event.
    Woken,
}

/// What happened in the ring since it was made. Counts.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Tallies {
    /// Receives that ended because all buffers were full, and were armed again.
    pub rearmed_no_buffers: u64,
    /// Receives that ended for another reason (an empty datagram ends one), and
    /// were armed again.
    pub rearmed_other: u64,
    /// Replies the kernel refused to send.
    pub send_errors: u64,
    /// Replies for which it had no room just then (EAGAIN, ENOBUFS): shed, not kept.
    pub send_no_room: u64,
    /// Departure stamps that found their reply.
    pub departures: u64,
    /// Departure stamps that didn't.
    pub departures_unmatched: u64,
    /// Departure stamps that were awaited in vain: the error queue was full.
    pub departures_lost: u64,
    /// Completions the kernel had to drop for want of memory.
    pub overflows: u64,
    /// Completions that were those of a lap before (see `is_left_over`).
    pub left_over: u64,
    /// Submissions the kernel refused for the moment (EBUSY, EAGAIN), and that were
    /// tried again.
    pub submit_refused: u64,
}

impl<T: Copy> Ring<T> {
    /// Makes a ring without sockets. Call it on the thread that will use it.
    ///
    /// # Errors
    /// What io_uring_setup(2), mmap(2) or eventfd(2) say, in the words of [`supported`].
    pub fn new() -> io::Result<Self> {
        build(SUBMISSIONS)
            .and_then(|ring| Self::from_parts(ring, BufferRing::new(BUFFERS, BUFFER_LEN)?))
            .map_err(|error| io::Error::new(error.kind(), explain(&error)))
    }

    fn from_parts(ring: WideRing, buffers: BufferRing) -> io::Result<Self> {
        // SAFETY: `Drop` cancels every request before it frees the buffers, and leaks
        // them if it can't.
        unsafe { buffers.register(&ring.submitter())? };
        let memory = Memory {
            buffers,
            receive: Box::new(room(NAME_LEN, CONTROL_LEN)),
            departure: Box::new(room(0, DEPARTURE_CONTROL_LEN)),
        };
        let since = |kernel| kernel_version().is_some_and(|version| version >= kernel);
        let ids = if since(KERNEL_CHOSEN_IDS) {
            Ids::Chosen
        } else {
            Ids::Counted
        };
        let collect = if since(KERNEL_STAMP_COMMAND) {
            Collect::Command
        } else {
            Collect::ErrorQueue
        };
        let mut ring = Self {
            ring: ManuallyDrop::new(ring),
            memory: ManuallyDrop::new(memory),
            sockets: Vec::new(),
            wake: Wake::new()?,
            orders: 0,
            waking: 0,
            ids,
            collect,
            reply: Box::new([0; MESSAGE_LEN_MAX]),
            batch: 0,
            sated: Vec::new(),
            completed: 0,
            last_of_lap: Default::default(),
            pace: Pace::default(),
            by_card: false,
            tallies: Tallies::default(),
        };
        ring.await_wake()?;
        Ok(ring)
    }

    /// Starts to receive from `socket`.
    ///
    /// # Errors
    /// If the submission queue is full and can't be submitted.
    pub fn add(&mut self, mut socket: ListenSocket) -> io::Result<()> {
        if self.by_card {
            ask_cards(&mut socket);
        }
        let place = self.sockets.iter().position(Option::is_none);
        let place = place.unwrap_or_else(|| {
            self.sockets.push(None);
            self.sockets.len() - 1
        });
        // None is in it twice.
        self.sated.reserve(self.sockets.len());
        // Those of one address count: then SEND will do, which is cheaper than SENDMSG.
        let ids = if socket.is_wildcard() {
            self.ids
        } else {
            Ids::Counted
        };
        self.sockets[place] = Some(Socket {
            socket,
            receiving: false,
            took: 0,
            receive_order: 0,
            stamps_order: 0,
            listening: false,
            drains: 0,
            drain_wanted: false,
            closing: false,
            tracker: Tracker::new(ids),
        });
        self.receive(place)
    }

    /// Stops receiving from the sockets bound to `address` and closes them.
    ///
    /// # Errors
    /// If the submission queue is full and can't be submitted.
    pub fn remove(&mut self, address: SocketAddr) -> io::Result<()> {
        for place in 0..self.sockets.len() {
            let Some(socket) = &mut self.sockets[place] else {
                continue;
            };
            if socket.closing || socket.socket.address() != address {
                continue;
            }
            socket.closing = true;
            for fd in [socket.socket.receiver(), socket.socket.sender()] {
                let cancel = opcode::AsyncCancel2::new(CancelBuilder::fd(Fd(fd)).all());
                self.push(cancel.build(), Job::Cancel)?;
            }
        }
        // While the descriptors are still those of these sockets.
        if let Err(error) = self.ring.submit() {
            self.survive(error)?;
        }
        Ok(())
    }

    /// From now on asks for the stamps of network cards too.
    ///
    /// # Errors
    /// None that a socket in use is known to give.
    pub fn stamp_by_card(&mut self) -> io::Result<()> {
        self.by_card = true;
        for socket in self.sockets.iter_mut().flatten() {
            ask_cards(&mut socket.socket);
            socket.tracker.restart();
            socket.socket.restart_ids()?;
        }
        Ok(())
    }

    /// Ends this ring's waits.
    pub fn wake(&self) -> Wake {
        self.wake.clone()
    }

    /// Counts since the start.
    pub fn tallies(&self) -> Tallies {
        self.tallies
    }

    /// Submits what is to be submitted, then sleeps until [`next_event`](Self::next_event) has
    /// something, without a time limit.
    ///
    /// # Errors
    /// What io_uring_enter(2) says, if it is not about to pass.
    pub fn wait(&mut self) -> io::Result<()> {
        let want = usize::from(self.ring.completion().is_empty());
        self.enter(|ring| ring.submit_and_wait(want))
    }

    /// As [`wait`](Self::wait), and never sleeps: what arrives is seen at once, and
    /// the thread takes all of its core.
    ///
    /// # Errors
    /// Those of `wait`.
    pub fn spin(&mut self) -> io::Result<()> {
        loop {
            // The kernel tells in shared memory that it has something for us.
            let submission = self.ring.submission();
            let idle = submission.is_empty() && !submission.taskrun() && self.sated.is_empty();
            drop(submission);
            if !idle {
                self.enter(|ring| ring.submit_and_wait(0))?;
            }
            if !self.ring.completion().is_empty() {
                return Ok(());
            }
            std::hint::spin_loop();
        }
    }

    fn enter(&mut self, submit: impl FnOnce(&mut WideRing) -> io::Result<usize>) -> io::Result<()> {
        while let Some(place) = self.sated.pop() {
            match &self.sockets[place] {
                Some(socket) if socket.closing => self.close_if_idle(place)?,
                Some(socket) if !socket.receiving => self.receive(place)?,
                // Closed meanwhile, and perhaps another one's place.
                _ => (),
            }
        }
        self.batch = self.batch.wrapping_add(1);
        if let Err(error) = submit(&mut self.ring) {
            self.survive(error)?;
        }
        self.tallies.overflows = u64::from(self.ring.completion().overflow());
        Ok(())
    }

    /// The next event that is at hand, if any. Deals with everything else on the way.
    ///
    /// # Errors
    /// If a socket can't be read at all, or the ring can't be submitted to.
    pub fn next_event(&mut self) -> io::Result<Option<Event<T>>> {
        loop {
            let Some(done) = self.ring.completion().next() else {
                return Ok(None);
            };
            if self.is_left_over(&done) {
                self.tallies.left_over += 1;
                continue;
            }
            let event = match Job::from_user_data(done.user_data()) {
                Job::Receive(place, _) => self.received(place, &done)?,
                Job::Drain(place) => self.drained(place, &done)?,
                Job::Stamps(place, _) => self.stamped(place, &done)?,
                Job::Poll(place) => {
                    self.error_queue_stirred(place, &done)?;
                    None
                }
                Job::Wake(_) => {
                    self.wake.clear();
                    self.await_wake()?;
                    Some(Event::Woken)
                }
                Job::Cancel => None,
            };
            if event.is_some() {
                return Ok(event);
            }
        }
    }

    /// Linux 6.18 takes a ring of wide completions for one of mixed width when it has a
    /// departure stamp for the last place: it leaves that place out, as if the stamp
    /// did not fit, and we read there what we read a lap ago. Believing it would give
    /// away a buffer that the kernel has already, for two requests at a time.
    fn is_left_over(&mut self, done: &Completion) -> bool {
        self.completed = self.completed.wrapping_add(1);
        if !self.completed.is_multiple_of(COMPLETIONS) {
            return false;
        }
        let now = (
            done.user_data(),
            done.result(),
            done.flags(),
            *done.big_cqe(),
        );
        let is_same = std::mem::replace(&mut self.last_of_lap, now) == now;
        let more = cqueue::more(done.flags());
        let socket = |place: usize| self.sockets.get(place)?.as_ref();
        // What ended a standing command is of an order before; others may repeat.
        is_same
            && match Job::from_user_data(done.user_data()) {
                Job::Receive(place, order) => {
                    let is_next = |name| self.memory.buffers.is_next(name);
                    socket(place).is_none_or(|socket| socket.receive_order != order)
                        || more
                            && cqueue::buffer_select(done.flags())
                                .is_some_and(|name| !is_next(name))
                }
                Job::Stamps(place, order) => {
                    more || socket(place).is_none_or(|socket| socket.stamps_order != order)
                }
                Job::Wake(order) => self.waking != order,
                _ => false,
            }
    }

    /// Lets `answer` read a request and write the reply, if it deserves one, and sends
    /// that. `stamp` writes the time into it, if it takes it late: when it will
    /// leave, CLOCK_REALTIME. Says when it was handed to the kernel.
    ///
    /// # Errors
    /// If the submission queue is full and can't be submitted.
    pub fn answer(
        &mut self,
        arrival: Arrival,
        answer: impl FnOnce(&[u8], &mut [u8; MESSAGE_LEN_MAX]) -> Option<Outgoing<T>>,
        stamp: impl FnOnce(&mut [u8], WallInstant),
    ) -> io::Result<Option<WallInstant>> {
        let buffers = &mut self.memory.buffers;
        let outgoing = answer(message_in(buffers, &arrival), &mut self.reply);
        let Arrival {
            from: to,
            to: from,
            interface,
            socket: place,
            buffer,
            ..
        } = arrival;
        buffers.give_back(buffer);
        let (Some(outgoing), Some(socket)) = (outgoing, &mut self.sockets[place]) else {
            return Ok(None);
        };
        let is_sample = outgoing.stamp_late.is_some() && self.pace.is_sample();
        let is_tracked = is_sample || outgoing.track.is_some();
        let reply = &mut self.reply[..outgoing.len];
        let now = realtime();
        if let Some(start) = outgoing.stamp_late {
            stamp(&mut reply[start..], self.pace.gone(now));
        }
        let tracked_as = is_tracked.then(|| {
            socket.tracker.begin(Departing {
                token: outgoing.track,
                not_before: now,
                is_sample,
                interface,
            })
        });
        let sent = send(socket, reply, to, from, interface, tracked_as);
        if is_tracked {
            self.tallies.departures_lost += socket.tracker.take_lost();
            if !socket.listening {
                self.await_departures(place)?;
            }
        }
        if let Err(error) = sent {
            self.send_failed(place, tracked_as, &error)?;
        }
        Ok(Some(now))
    }

    fn received(&mut self, place: usize, done: &Completion) -> io::Result<Option<Event<T>>> {
        let arrival = self.arrival(place, done);
        let batch = self.batch;
        let socket = self.socket(place);
        if arrival.is_some() {
            socket.took = batch;
        }
        if !cqueue::more(done.flags()) {
            socket.receiving = false;
            if socket.closing {
                self.close_if_idle(place)?;
            } else {
                let is_sated = socket.took == batch;
                match -done.result() {
                    libc::ENOBUFS => {
                        self.tallies.rearmed_no_buffers += 1;
                        // The kernel serves them in the order in which they are armed.
                        if is_sated {
                            self.sated.push(place);
                            return Ok(None);
                        }
                    }
                    fatal @ (libc::EBADF | libc::EINVAL | libc::ENOTSOCK | libc::EOPNOTSUPP) => {
                        return Err(io::Error::from_raw_os_error(fatal));
                    }
                    _ => self.tallies.rearmed_other += 1,
                }
                self.receive(place)?;
            }
        }
        Ok(arrival.map(Event::Arrived))
    }

    /// The request in a receive's completion; gives the buffer back if it holds none
    /// that we could answer.
    fn arrival(&mut self, place: usize, done: &Completion) -> Option<Arrival> {
        let memory = &mut *self.memory;
        let buffer = memory.buffers.take(cqueue::buffer_select(done.flags())?);
        let filled = done.result().max(0) as usize;
        let local = self.sockets[place].as_ref()?.socket.address();
        let bytes = memory.buffers.bytes(&buffer, filled);
        let parsed = RecvMsgOut::parse(bytes, &memory.receive)
            .ok()
            .and_then(|out| {
                let from = RawAddress::from_bytes(out.name_data()).to_socket_addr()?;
                Some((from, cmsg::decode(out.control_data())))
            });
        let Some((from, beside)) = parsed else {
            memory.buffers.give_back(buffer);
            return None;
        };
        let card = beside.card_stamp();
        Some(Arrival {
            from,
            to: beside.to.unwrap_or(local.ip()),
            port: local.port(),
            group: beside.group,
            interface: beside.interface,
            stamp: beside.software.map(Stamp::kernel),
            card,
            socket: place,
            buffer,
            filled,
        })
    }

    /// A reply was not sent.
    fn send_failed(
        &mut self,
        place: usize,
        tracked_as: Option<u32>,
        error: &io::Error,
    ) -> io::Result<()> {
        match error.raw_os_error() {
            Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM) => self.tallies.send_no_room += 1,
            _ => self.tallies.send_errors += 1,
        }
        if let (Some(id), Some(socket)) = (tracked_as, &mut self.sockets[place]) {
            match socket.tracker.ids() {
                Ids::Chosen => socket.tracker.cancel(id),
                // Whether the kernel counted the packet depends on where it failed.
                Ids::Counted => {
                    socket.tracker.restart();
                    socket.socket.restart_ids()?;
                }
            }
        }
        Ok(())
    }

    /// The standing command has a stamp, or has ended.
    fn stamped(&mut self, place: usize, done: &Completion) -> io::Result<Option<Event<T>>> {
        if cqueue::more(done.flags()) {
            let [seconds, nanoseconds] = done.big_cqe().map(|half| half as i64);
            let ns = seconds * 1_000_000_000 + nanoseconds;
            let id = done.result() as u32;
            return Ok(if done.flags() & STAMP_BY_CARD != 0 {
                self.departed_by_card(place, id, PhcInstant::from_nanos(ns))
            } else {
                self.departed(place, id, WallInstant::from_unix_ns(ns))
            });
        }
        let socket = self.socket(place);
        socket.listening = false;
        if socket.closing {
            self.close_if_idle(place)?;
        } else {
            if done.result() < 0 {
                // It is not there after all, or not for this kind of socket.
                self.collect = Collect::ErrorQueue;
            }
            self.await_departures(place)?;
        }
        Ok(None)
    }

    /// A POLLERR came: there are departures to be read.
    fn error_queue_stirred(&mut self, place: usize, done: &Completion) -> io::Result<()> {
        let more = cqueue::more(done.flags());
        let socket = self.socket(place);
        socket.listening = more;
        if socket.closing {
            return self.close_if_idle(place);
        }
        if socket.drains > 0 {
            socket.drain_wanted = true;
        } else {
            self.drain(place)?;
        }
        if !more {
            self.await_departures(place)?;
        }
        Ok(())
    }

    fn drained(&mut self, place: usize, done: &Completion) -> io::Result<Option<Event<T>>> {
        let departure = self.departure(place, done);
        if !cqueue::more(done.flags()) {
            let socket = self.socket(place);
            socket.drains -= 1;
            // A stamp without its packet is empty, and an empty message ends a
            // multishot: the queue is dry only when a read says so.
            socket.drain_wanted |= done.result() >= 0 || done.result() == -libc::ENOBUFS;
            if socket.closing {
                self.close_if_idle(place)?;
            } else if socket.drains == 0 && socket.drain_wanted {
                self.drain(place)?;
            }
        }
        Ok(departure)
    }

    fn departure(&mut self, place: usize, done: &Completion) -> Option<Event<T>> {
        let memory = &mut *self.memory;
        let buffer = memory.buffers.take(cqueue::buffer_select(done.flags())?);
        let filled = done.result().max(0) as usize;
        let beside = RecvMsgOut::parse(memory.buffers.bytes(&buffer, filled), &memory.departure)
            .map(|out| cmsg::decode(out.control_data()));
        memory.buffers.give_back(buffer);
        let beside = beside.ok()?;
        let Some(QueuedError::Departed { id }) = beside.error else {
            return None;
        };
        match (beside.software, beside.hardware) {
            (Some(at), _) => self.departed(place, id, at),
            (None, Some(phc)) => self.departed_by_card(place, id, phc),
            (None, None) => None,
        }
    }

    fn departed_by_card(&mut self, place: usize, id: u32, phc: PhcInstant) -> Option<Event<T>> {
        let tracker = &mut self.sockets[place].as_mut()?.tracker;
        let (of, left) = tracker.finish_by_card(id)?;
        let stamp = CardStamp {
            phc,
            interface: of.interface,
            frame_len: 0,
        };
        Some(Event::DepartedByCard(of.token?, stamp, left))
    }

    fn departed(&mut self, place: usize, id: u32, at: WallInstant) -> Option<Event<T>> {
        let tracker = &mut self.sockets[place].as_mut()?.tracker;
        let Some(of) = tracker.finish(id, at) else {
            self.tallies.departures_unmatched += 1;
            return None;
        };
        if of.is_sample {
            self.pace.learn(at - of.not_before);
        }
        let token = of.token?;
        self.tallies.departures += 1;
        Some(Event::Departed(token, Stamp::kernel(at)))
    }

    fn receive(&mut self, place: usize) -> io::Result<()> {
        let header = &raw const *self.memory.receive;
        let order = self.next_order();
        let socket = self.socket(place);
        socket.receiving = true;
        socket.receive_order = order;
        let fd = Fd(socket.socket.receiver());
        let receive = opcode::RecvMsgMulti::new(fd, header, buffers::GROUP);
        self.push(receive.build(), Job::Receive(place, order))
    }

    /// Wakes us for departures and nothing else: POLLERR needs no asking.
    fn await_departures(&mut self, place: usize) -> io::Result<()> {
        let socket = self.socket(place);
        socket.listening = true;
        let fd = Fd(socket.socket.sender());
        match self.collect {
            Collect::Command => {
                let command = opcode::UringCmd16::new(fd, STAMP_COMMAND);
                let order = self.next_order();
                self.socket(place).stamps_order = order;
                self.push(command.build(), Job::Stamps(place, order))
            }
            Collect::ErrorQueue => {
                let poll = opcode::PollAdd::new(fd, 0).multi(true);
                self.push(poll.build(), Job::Poll(place))
            }
        }
    }

    fn drain(&mut self, place: usize) -> io::Result<()> {
        let header = &raw const *self.memory.departure;
        let socket = self.socket(place);
        socket.drain_wanted = false;
        let awaited = socket.tracker.count();
        // One more than awaited finds the queue dry.
        let drains = (awaited + 1).min(DRAINS_MAX);
        socket.drains += drains;
        let flags = (libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT) as u32;
        let fd = Fd(socket.socket.sender());
        let read = opcode::RecvMsgMulti::new(fd, header, buffers::GROUP)
            .flags(flags)
            .build();
        for _ in 0..drains {
            self.push(read.clone(), Job::Drain(place))?;
        }
        Ok(())
    }

    fn await_wake(&mut self) -> io::Result<()> {
        let poll = opcode::PollAdd::new(Fd(self.wake.fd()), libc::POLLIN as u32);
        self.waking = self.next_order();
        self.push(poll.build(), Job::Wake(self.waking))
    }

    fn next_order(&mut self) -> u32 {
        self.orders = self.orders.wrapping_add(1);
        self.orders
    }

    fn socket(&mut self, place: usize) -> &mut Socket<T> {
        self.sockets[place]
            .as_mut()
            .expect("a socket stays until nothing is in flight for it")
    }

    fn close_if_idle(&mut self, place: usize) -> io::Result<()> {
        let socket = self.socket(place);
        if !socket.receiving && !socket.listening && socket.drains == 0 {
            self.sockets[place] = None;
        }
        Ok(())
    }

    fn push(&mut self, entry: squeue::Entry, job: Job) -> io::Result<()> {
        let entry = entry.user_data(job.user_data());
        // SAFETY: every entry we build points into `memory`, which outlives all
        // requests (see `Drop`), and to descriptors that are closed only when nothing
        // is in flight for them.
        while unsafe { self.ring.submission().push(&entry) }.is_err() {
            if let Err(error) = self.ring.submit() {
                self.survive(error)?;
                // It ends: a full queue is refused for want of memory, and not because
                // completions would have to be read first, which we don't here.
                std::thread::yield_now();
            }
        }
        Ok(())
    }

    /// Passes over a refusal to submit that is about to pass: what was to be submitted
    /// is still in the queue.
    fn survive(&mut self, refusal: io::Error) -> io::Result<()> {
        match refusal.raw_os_error() {
            Some(libc::EINTR) => Ok(()),
            // Completions have to be read first, or memory is short.
            Some(libc::EBUSY | libc::EAGAIN) => {
                self.tallies.submit_refused += 1;
                Ok(())
            }
            _ => Err(refusal),
        }
    }
}

impl<T> Drop for Ring<T> {
    fn drop(&mut self) {
        // The kernel writes to our memory until every request is gone.
        let limit = Timespec::from(Duration::from_secs(1));
        let cancelled = self
            .ring
            .submitter()
            .register_sync_cancel(Some(limit), CancelBuilder::any().all());
        let idle = match cancelled {
            Ok(()) => true,
            Err(error) => error.raw_os_error() == Some(libc::ENOENT),
        };
        // What was cancelled holds on to its socket until its completion was run. This
        // runs them, so that ports are free when we return.
        let flags = EnterFlags::GETEVENTS.bits();
        // SAFETY: nothing is submitted or waited for, and no argument is passed.
        let _ = unsafe {
            self.ring
                .submitter()
                .enter::<libc::sigset_t>(0, 0, flags, None)
        };
        // SAFETY: nothing uses the field after this.
        unsafe { ManuallyDrop::drop(&mut self.ring) };
        if idle {
            // SAFETY: no request is left and nothing uses the field after this.
            unsafe { ManuallyDrop::drop(&mut self.memory) };
        }
    }
}

impl<T> fmt::Debug for Ring<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("tallies", &self.tallies)
            .finish_non_exhaustive()
    }
}

/// Sends a reply from an own address. A socket buffer that is full drops it rather than
/// let it grow old.
fn send<T: Copy>(
    socket: &Socket<T>,
    reply: &[u8],
    to: SocketAddr,
    from: IpAddr,
    interface: u32,
    tracked_as: Option<u32>,
) -> io::Result<()> {
    let fd = match tracked_as {
        Some(_) => socket.socket.sender(),
        None => socket.socket.receiver(),
    };
    let name = RawAddress::from(to);
    if !socket.socket.is_wildcard() {
        return udp::send_datagram(fd, reply, &name, &[]);
    }
    let mut buffer = ControlBuffer::new();
    let mut control = Encoder::new(buffer.bytes_mut());
    encode_source(&mut control, to, from, interface);
    if let Some(id) = tracked_as {
        control.ask_departure_by(socket.socket.departures());
        if socket.tracker.ids() == Ids::Chosen {
            control.push(libc::SOL_SOCKET, SCM_TS_OPT_ID, id);
        }
    }
    udp::send_datagram(fd, reply, &name, control.finish())
}

/// A kernel that knows no stamps of cards gives its own, as before.
fn ask_cards(socket: &mut ListenSocket) {
    let _ = socket.stamp_by_card();
}

/// What a submission was for; travels through the kernel as user data. The first number
/// is that of the socket, the second of the order, which is a new one each time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Job {
    Receive(usize, u32),
    Stamps(usize, u32),
    Poll(usize),
    Drain(usize),
    Wake(u32),
    Cancel,
}

impl Job {
    /// From the top: kind 16 bits, place 16, id or order 32.
    fn user_data(self) -> u64 {
        let (kind, place, id) = match self {
            // None is zero, which is what a place holds that was never written.
            Self::Receive(place, order) => (1, place, order),
            Self::Stamps(place, order) => (2, place, order),
            Self::Poll(place) => (3, place, 0),
            Self::Drain(place) => (4, place, 0),
            Self::Wake(order) => (5, 0, order),
            Self::Cancel => (6, 0, 0),
        };
        kind << 48 | (place as u64) << 32 | u64::from(id)
    }

    fn from_user_data(data: u64) -> Self {
        let place = usize::from((data >> 32) as u16);
        let low = data as u32;
        match data >> 48 {
            1 => Self::Receive(place, low),
            2 => Self::Stamps(place, low),
            3 => Self::Poll(place),
            4 => Self::Drain(place),
            5 => Self::Wake(low),
            _ => Self::Cancel,
        }
    }
}

/// Can io_uring serve here?
///
/// # Errors
/// In words for an administrator, what is missing.
pub fn supported() -> Result<(), String> {
    let Some(version) = kernel_version() else {
        return Err("io_uring: the kernel doesn't tell its version".into());
    };
    if version < KERNEL_MIN {
        let ((major, minor), (need_major, need_minor)) = (version, KERNEL_MIN);
        return Err(format!(
            "io_uring: kernel {major}.{minor} is too old, {need_major}.{need_minor} is needed"
        ));
    }
    let ring = build(8).map_err(|error| explain(&error))?;
    // A filter may let rings be made and not be entered.
    ring.submitter().submit().map_err(|error| explain(&error))?;
    let mut probe = Probe::new();
    ring.submitter()
        .register_probe(&mut probe)
        .map_err(|error| explain(&error))?;
    let needed = [
        ("RECVMSG", opcode::RecvMsgMulti::CODE),
        ("POLL_ADD", opcode::PollAdd::CODE),
        ("ASYNC_CANCEL", opcode::AsyncCancel2::CODE),
    ];
    if let Some((name, _)) = needed.iter().find(|(_, code)| !probe.is_supported(*code)) {
        return Err(format!("io_uring: the kernel lacks operation {name}"));
    }
    let buffers = BufferRing::new(1, BUFFER_LEN).map_err(|error| explain(&error))?;
    // SAFETY: no request uses the group, and the ring is dropped before the buffers
    // once they are registered.
    let registered = unsafe { buffers.register(&ring.submitter()) };
    registered.map_err(|error| format!("io_uring: no buffer rings: {error}"))?;
    let unregistered = ring.submitter().unregister_buf_ring(buffers::GROUP);
    drop(ring);
    unregistered.map_err(|error| format!("io_uring: no buffer rings: {error}"))
}

fn explain(error: &io::Error) -> String {
    let why = match error.raw_os_error() {
        Some(libc::ENOSYS) => "the kernel was built without it, or a seccomp profile hides it",
        Some(libc::EPERM | libc::EACCES) => {
            match std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled")
                .as_deref()
                .map(str::trim)
            {
                Ok("2") => "switched off by sysctl kernel.io_uring_disabled=2",
                Ok("1") => {
                    "reserved by sysctl kernel.io_uring_disabled=1 for CAP_SYS_ADMIN and kernel.io_uring_group"
                }
                _ => "denied by a seccomp profile or a security module",
            }
        }
        Some(libc::EMFILE) => {
            "not enough descriptors; raise RLIMIT_NOFILE (ulimit -n, LimitNOFILE=) to 512"
        }
        Some(libc::ENOMEM) => {
            "not enough memory may be locked; raise RLIMIT_MEMLOCK (ulimit -l, LimitMEMLOCK=)"
        }
        _ => return format!("io_uring: {error}"),
    };
    format!("io_uring: {why}")
}

/// A ring tuned for one thread, or a plain one where the kernel refuses the flags.
fn build(submissions: u32) -> io::Result<WideRing> {
    let tuned = WideRing::builder()
        .dontfork()
        .setup_cqsize(COMPLETIONS)
        .setup_submit_all()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .build(submissions);
    match tuned {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => build_plain(submissions),
        other => other,
    }
}

fn build_plain(submissions: u32) -> io::Result<WideRing> {
    WideRing::builder()
        .dontfork()
        .setup_cqsize(COMPLETIONS)
        .build(submissions)
}

/// Major and minor.
fn kernel_version() -> Option<(u32, u32)> {
    // SAFETY: utsname is plain octets, for which zero is a value.
    let mut name: libc::utsname = unsafe { std::mem::zeroed() };
    // SAFETY: uname(2) fills the struct it is given with terminated strings.
    let release = unsafe {
        if libc::uname(&raw mut name) < 0 {
            return None;
        }
        CStr::from_ptr(name.release.as_ptr())
    };
    parse_version(release.to_str().ok()?)
}

fn parse_version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn message_in<'a>(buffers: &'a BufferRing, arrival: &Arrival) -> &'a [u8] {
    let bytes = buffers.bytes(&arrival.buffer, arrival.filled);
    let at = OUT_LEN + NAME_LEN + CONTROL_LEN;
    bytes.get(at..).unwrap_or_default()
}

/// A header that only says how much room there is for names and control messages.
fn room(name_len: usize, control_len: usize) -> libc::msghdr {
    // SAFETY: msghdr is integers and pointers, for which zero is a value.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_namelen = name_len as libc::socklen_t;
    header.msg_controllen = control_len as _;
    header
}

#[cfg(test)]
mod tests;

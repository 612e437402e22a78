//! Many UDP sockets towards one server, each with a port of its own, sent and
//! received through in batches (sendmmsg(2), recvmmsg(2)), with kernel stamps.
//!
//! For load, where a socket per request would cost more than the request.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use crate::linux::address::RawAddress;
use crate::linux::clock;
use crate::linux::cmsg::{self, ControlBuffer, Encoder, QueuedError};
use crate::linux::epoll::Epoll;
use crate::linux::socket::{self, check, retry, set};

/// Datagrams in one call.
pub const BATCH: usize = 64;
/// Octets of the longest datagram, either way; longer ones are cut.
pub const DATAGRAM_LEN_MAX: usize = 256;
/// Octets of control messages of one datagram: a stamp, and what is in the error
/// queue beside it.
const CONTROL_LEN: usize = 128;
/// Room for what arrives while we are busy; the kernel clamps it.
const BUFFER_LEN: libc::c_int = 4 << 20;
/// Departures whose stamps are waited for, of one socket: each is reported at once
/// or, on a driver that can't, never.
const DEPARTURES_AWAITED: usize = 256;

/// A socket and what it knows of its stamped datagrams.
#[derive(Debug)]
struct Port {
    fd: OwnedFd,
    stamped: Stamped,
    /// What the kernel's count of datagrams without room was when it was looked at.
    dropped: u32,
}

/// Datagrams whose departures are to be stamped, by the kernel's count of them
/// (SOF_TIMESTAMPING_OPT_ID).
#[derive(Debug, Default)]
pub(crate) struct Stamped {
    next: u32,
    awaited: VecDeque<(u32, u64)>,
}

impl Stamped {
    /// The next one is `tag`.
    pub(crate) fn push(&mut self, tag: u64) {
        if self.awaited.len() == DEPARTURES_AWAITED {
            self.awaited.pop_front();
        }
        self.awaited.push_back((self.next, tag));
        self.next = self.next.wrapping_add(1);
    }

    /// Is any awaited?
    pub(crate) fn any(&self) -> bool {
        !self.awaited.is_empty()
    }

    /// The last one pushed did not leave.
    pub(crate) fn pop(&mut self) {
        if self.awaited.pop_back().is_some() {
            self.next = self.next.wrapping_sub(1);
        }
    }

    /// Whose departure the kernel counts as `id`.
    pub(crate) fn take(&mut self, id: u32) -> Option<u64> {
        let place = self.awaited.iter().position(|(known, _)| *known == id)?;
        self.awaited.remove(place).map(|(_, tag)| tag)
    }
}

/// What [`Ports::receive`] and its kin hand over. Stamps are CLOCK_REALTIME.
#[derive(Clone, Copy, Debug)]
pub enum Event<'b> {
    /// The datagram staged with `tag` left then.
    Departed {
        /// As given when it was staged.
        tag: u64,
        /// When it left, by the network stack.
        at_ns: i64,
    },
    /// A datagram came in.
    Arrived {
        /// Its payload.
        payload: &'b [u8],
        /// When it came in, by the network stack.
        at_ns: i64,
    },
}

/// One datagram of a batch.
#[derive(Clone, Copy, Debug)]
struct Staged {
    port: usize,
    len: usize,
    /// Of those whose departure is to be stamped.
    tag: Option<u64>,
}

/// The sockets and their batch.
#[derive(Debug)]
pub struct Ports {
    ports: Vec<Port>,
    epoll: Epoll,
    staged: Vec<Staged>,
    outgoing: Box<[[u8; DATAGRAM_LEN_MAX]]>,
    incoming: Box<[[u8; DATAGRAM_LEN_MAX]]>,
    controls: Box<[[u64; CONTROL_LEN / 8]]>,
}

impl Ports {
    /// `count` sockets on ports the kernel chooses, connected to `to`.
    ///
    /// # Errors
    /// What socket(2) and connect(2) say: EMFILE when there may not be so many open
    /// files, ENETUNREACH without a route.
    pub fn connect(to: SocketAddr, count: usize) -> io::Result<Self> {
        let epoll = Epoll::new()?;
        let mut ports = Vec::with_capacity(count);
        for n in 0..count {
            let fd = open(to)?;
            epoll.watch(fd.as_raw_fd(), n as u64)?;
            ports.push(Port {
                fd,
                stamped: Stamped::default(),
                dropped: 0,
            });
        }
        Ok(Self {
            ports,
            epoll,
            staged: Vec::with_capacity(BATCH),
            outgoing: vec![[0; DATAGRAM_LEN_MAX]; BATCH].into(),
            incoming: vec![[0; DATAGRAM_LEN_MAX]; BATCH].into(),
            controls: vec![[0; CONTROL_LEN / 8]; BATCH].into(),
        })
    }

    /// Is there room for another datagram in the batch?
    pub fn has_room(&self) -> bool {
        self.staged.len() < BATCH
    }

    /// Adds a datagram from the socket at `port` (counted round) to the batch, which
    /// must have room. With a `tag` its departure is stamped.
    pub fn stage(&mut self, port: usize, payload: &[u8], tag: Option<u64>) {
        let len = payload.len().min(DATAGRAM_LEN_MAX);
        self.outgoing[self.staged.len()][..len].copy_from_slice(&payload[..len]);
        self.staged.push(Staged {
            port: port % self.ports.len(),
            len,
            tag,
        });
    }

    /// Sends the batch and empties it. Says how many, from the first on, left: the
    /// others found no room, or what is wrong with them comes with the next batch.
    ///
    /// # Errors
    /// None left, and what sendmmsg(2) says of the first, other than that there is no
    /// room. ECONNREFUSED, which tells of an earlier one, is passed over.
    pub fn flush(&mut self) -> io::Result<usize> {
        let mut done = 0;
        let mut result = Ok(());
        while done < self.staged.len() {
            let port = self.staged[done].port;
            let run = self.staged[done..]
                .iter()
                .take_while(|s| s.port == port)
                .count();
            match self.send_run(done, run) {
                Ok(0) => break,
                Ok(sent) => done += sent,
                Err(error) => {
                    if done == 0 {
                        result = Err(error);
                    }
                    break;
                }
            }
        }
        self.staged.clear();
        result.map(|()| done)
    }

    /// One call for datagrams of one socket.
    fn send_run(&mut self, first: usize, count: usize) -> io::Result<usize> {
        let mut control = ControlBuffer::new();
        let mut encoder = Encoder::new(control.bytes_mut());
        encoder.ask_departure();
        let stamped = encoder.finish();
        // SAFETY: all-zero iovecs and mmsghdrs are valid.
        let mut iovs: [libc::iovec; BATCH] = unsafe { mem::zeroed() };
        // SAFETY: as above.
        let mut messages: [libc::mmsghdr; BATCH] = unsafe { mem::zeroed() };
        let port = &mut self.ports[self.staged[first].port];
        for n in 0..count {
            let staged = self.staged[first + n];
            iovs[n] = libc::iovec {
                iov_base: self.outgoing[first + n].as_mut_ptr().cast(),
                iov_len: staged.len,
            };
            let header = &mut messages[n].msg_hdr;
            header.msg_iov = &raw mut iovs[n];
            header.msg_iovlen = 1;
            if let Some(tag) = staged.tag {
                // The kernel only reads it.
                header.msg_control = stamped.as_ptr().cast_mut().cast();
                header.msg_controllen = stamped.len() as _;
                port.stamped.push(tag);
            }
        }
        let sent = retry_refused(|| {
            // SAFETY: `count` messages, whose pointers lead to live locals and to
            // `outgoing`, each with its true length.
            unsafe {
                libc::sendmmsg(
                    port.fd.as_raw_fd(),
                    messages.as_mut_ptr(),
                    count as libc::c_uint,
                    libc::MSG_NOSIGNAL,
                )
            }
        });
        let sent = match sent {
            Err(error) if is_full(&error) => Ok(0),
            other => other,
        };
        let left = *sent.as_ref().unwrap_or(&0);
        for staged in self.staged[first + left..first + count].iter().rev() {
            if staged.tag.is_some() {
                port.stamped.pop();
            }
        }
        sent
    }

    /// Hands over every datagram there is, and before it the departure stamp of what
    /// it may answer; waits up to `patience_ns` for the first. Says whether there was
    /// any.
    ///
    /// # Errors
    /// What epoll_wait(2) says; never of a single datagram.
    pub fn receive(
        &mut self,
        patience_ns: i64,
        mut each: impl FnMut(Event<'_>),
    ) -> io::Result<bool> {
        let count = self.epoll.wait(patience_ns)?;
        let mut any = false;
        for n in 0..count {
            let ready = self.epoll.ready(n);
            let port = ready.token as usize;
            if ready.error {
                while self.departures(port, &mut each) {}
            }
            while self.arrivals(port, &mut each) {
                any = true;
            }
        }
        Ok(any)
    }

    /// Datagrams that came in and found a socket's buffer full, since the last call:
    /// answers that we and not the server lost.
    pub fn overrun(&mut self) -> u64 {
        let mut sum = 0;
        for port in &mut self.ports {
            let now = dropped(port.fd.as_raw_fd()).unwrap_or(port.dropped);
            sum += u64::from(now.wrapping_sub(port.dropped));
            port.dropped = now;
        }
        sum
    }

    /// True if there may be more.
    fn departures(&mut self, port: usize, each: &mut impl FnMut(Event<'_>)) -> bool {
        let port = &mut self.ports[port];
        let (count, messages) = receive_batch(
            port.fd.as_raw_fd(),
            libc::MSG_ERRQUEUE,
            &mut self.incoming,
            &mut self.controls,
        );
        for (control, message) in self.controls.iter().zip(&messages).take(count) {
            let beside = cmsg::decode(control_of(control, message));
            if let (Some(QueuedError::Departed { id }), Some(at)) = (beside.error, beside.software)
                && let Some(tag) = port.stamped.take(id)
            {
                let at_ns = at.unix_ns();
                each(Event::Departed { tag, at_ns });
            }
        }
        count == BATCH
    }

    /// True if there may be more.
    fn arrivals(&mut self, port: usize, each: &mut impl FnMut(Event<'_>)) -> bool {
        let fd = self.ports[port].fd.as_raw_fd();
        let (count, messages) = receive_batch(fd, 0, &mut self.incoming, &mut self.controls);
        let rows = self.incoming.iter().zip(&self.controls).zip(&messages);
        for ((buffer, control), message) in rows.take(count) {
            let beside = cmsg::decode(control_of(control, message));
            let at = beside.software.unwrap_or_else(clock::realtime);
            let len = (message.msg_len as usize).min(DATAGRAM_LEN_MAX);
            each(Event::Arrived {
                payload: &buffer[..len],
                at_ns: at.unix_ns(),
            });
        }
        count == BATCH
    }
}

/// A batch from a socket's queue; errors of single datagrams (ICMP) end it early.
fn receive_batch(
    fd: RawFd,
    flags: libc::c_int,
    buffers: &mut [[u8; DATAGRAM_LEN_MAX]],
    controls: &mut [[u64; CONTROL_LEN / 8]],
) -> (usize, [libc::mmsghdr; BATCH]) {
    // SAFETY: all-zero iovecs and mmsghdrs are valid.
    let mut iovs: [libc::iovec; BATCH] = unsafe { mem::zeroed() };
    // SAFETY: as above.
    let mut messages: [libc::mmsghdr; BATCH] = unsafe { mem::zeroed() };
    for (n, (buffer, control)) in buffers.iter_mut().zip(controls).enumerate() {
        iovs[n] = libc::iovec {
            iov_base: buffer.as_mut_ptr().cast(),
            iov_len: buffer.len(),
        };
        let header = &mut messages[n].msg_hdr;
        header.msg_iov = &raw mut iovs[n];
        header.msg_iovlen = 1;
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = CONTROL_LEN as _;
    }
    let count = buffers.len().min(BATCH) as libc::c_uint;
    let received = retry(|| {
        // SAFETY: `count` messages, whose pointers lead to live locals and to the
        // buffers, each with its true length and used by nothing else meanwhile.
        check(unsafe {
            libc::recvmmsg(
                fd,
                messages.as_mut_ptr(),
                count,
                flags | libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        })
    });
    (received.map_or(0, |n| n as usize), messages)
}

fn control_of<'c>(control: &'c [u64; CONTROL_LEN / 8], message: &libc::mmsghdr) -> &'c [u8] {
    // socklen_t on musl, size_t on glibc.
    #[allow(clippy::unnecessary_cast)]
    let len = (message.msg_hdr.msg_controllen as usize).min(CONTROL_LEN);
    // SAFETY: `control` is CONTROL_LEN initialised octets long, and octets need no
    // alignment.
    unsafe { std::slice::from_raw_parts(control.as_ptr().cast(), len) }
}

fn open(to: SocketAddr) -> io::Result<OwnedFd> {
    let family = match to {
        SocketAddr::V4(_) => libc::AF_INET,
        SocketAddr::V6(_) => libc::AF_INET6,
    };
    let fd = socket::open(family, libc::SOCK_DGRAM)?;
    let raw = fd.as_raw_fd();
    let stamps = libc::SOF_TIMESTAMPING_RX_SOFTWARE
        | libc::SOF_TIMESTAMPING_SOFTWARE
        | libc::SOF_TIMESTAMPING_OPT_ID
        | libc::SOF_TIMESTAMPING_OPT_TSONLY;
    set(raw, libc::SOL_SOCKET, libc::SO_TIMESTAMPING, stamps)?;
    set(raw, libc::SOL_SOCKET, libc::SO_RCVBUF, BUFFER_LEN)?;
    set(raw, libc::SOL_SOCKET, libc::SO_SNDBUF, BUFFER_LEN)?;
    let address = RawAddress::from(to);
    // SAFETY: `address` holds an address of the length it states.
    check(unsafe { libc::connect(raw, address.as_ptr(), address.len()) })?;
    Ok(fd)
}

/// The kernel's count of what a socket had no room for; it goes round. None before
/// Linux 4.12.
fn dropped(fd: RawFd) -> Option<u32> {
    let mut counts = [0_u32; libc::SK_MEMINFO_DROPS as usize + 1];
    let mut len = size_of_val(&counts) as libc::socklen_t;
    // SAFETY: room for `len` octets of numbers; the kernel cuts what is more.
    let result = unsafe {
        libc::getsockopt(
            fd,
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            counts.as_mut_ptr().cast(),
            &mut len,
        )
    };
    check(result).ok()?;
    counts.last().copied()
}

/// Again after a signal, and after the news (once told) that an earlier datagram was
/// refused.
fn retry_refused(mut call: impl FnMut() -> libc::c_int) -> io::Result<usize> {
    let mut refusals = 0;
    loop {
        match check(call()) {
            Ok(count) => return Ok(count as usize),
            Err(error) => match error.raw_os_error() {
                Some(libc::EINTR) => {}
                Some(libc::ECONNREFUSED | libc::EHOSTUNREACH) if refusals < 4 => refusals += 1,
                _ => return Err(error),
            },
        }
    }
}

/// Is it only that there is no room at the moment?
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EAGAIN | libc::ENOBUFS | libc::ECONNREFUSED | libc::EHOSTUNREACH)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn a_batch_goes_out_by_several_ports_and_comes_back_stamped() {
        let echo = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut ports = Ports::connect(echo.local_addr().unwrap(), 3).unwrap();
        for n in 0..10_u8 {
            assert!(ports.has_room());
            ports.stage(usize::from(n) / 2, &[n; 48], (n == 4).then_some(44));
        }
        assert_eq!(ports.flush().unwrap(), 10);
        let mut senders = std::collections::BTreeSet::new();
        for _ in 0..10 {
            let mut buffer = [0; 100];
            let (len, from) = echo.recv_from(&mut buffer).unwrap();
            senders.insert(from.port());
            echo.send_to(&buffer[..len], from).unwrap();
        }
        assert_eq!(senders.len(), 3);
        let (mut tags, mut stamps) = (Vec::new(), Vec::new());
        for _ in 0..100 {
            ports
                .receive(10_000_000, |event| match event {
                    Event::Departed { tag, at_ns } => tags.push((tag, at_ns)),
                    Event::Arrived { payload, at_ns } => {
                        assert_eq!(payload.len(), 48);
                        stamps.push(at_ns);
                    }
                })
                .unwrap();
            if stamps.len() == 10 && !tags.is_empty() {
                break;
            }
        }
        assert_eq!(stamps.len(), 10);
        assert_eq!(tags.len(), 1);
        assert_eq!(tags[0].0, 44);
        assert!(stamps.iter().all(|at_ns| *at_ns > tags[0].1));
    }

    #[test]
    fn answers_without_room_are_counted_once() {
        let echo = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut ports = Ports::connect(echo.local_addr().unwrap(), 2).unwrap();
        // The least that the kernel allows: a few datagrams.
        let fd = ports.ports[1].fd.as_raw_fd();
        set(fd, libc::SOL_SOCKET, libc::SO_RCVBUF, 1).unwrap();
        ports.stage(1, &[1; 48], None);
        assert_eq!(ports.flush().unwrap(), 1);
        let mut buffer = [0; 100];
        let (len, from) = echo.recv_from(&mut buffer).unwrap();
        assert_eq!(ports.overrun(), 0);
        for _ in 0..100 {
            echo.send_to(&buffer[..len], from).unwrap();
        }
        let mut arrived = 0;
        while ports
            .receive(0, |event| {
                arrived += u64::from(matches!(event, Event::Arrived { .. }));
            })
            .unwrap()
        {}
        assert!(arrived < 100, "{arrived}");
        assert_eq!(ports.overrun(), 100 - arrived);
        assert_eq!(ports.overrun(), 0);
    }

    #[test]
    fn nobody_listening_is_survived() {
        let gone = UdpSocket::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let mut ports = Ports::connect(gone, 1).unwrap();
        for _ in 0..20 {
            ports.stage(0, &[1; 48], None);
            ports.flush().unwrap();
            ports.receive(0, |_| {}).unwrap();
        }
    }
}

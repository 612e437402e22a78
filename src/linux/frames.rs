//! Whole Ethernet frames, out and in, without the kernel's UDP: for load from
//! addresses that are not ours, and more of it than sockets can send.
//!
//! Out by AF_XDP in copy mode where it can be had, which costs less per frame than
//! sendmmsg on a packet socket (PACKET_TX_RING doesn't), else by sendmmsg. Those that
//! want a departure stamp go by the packet socket in either case. In by a packet
//! socket's ring (packet(7), TPACKET_V2: version 3 hands over blocks and not frames, so
//! that a closed loop would wait for a block to fill).

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::ptr;
use std::thread;
use std::time::Duration;

use crate::linux::cmsg::{self, ControlBuffer, Encoder, QueuedError};
use crate::linux::frames::ring::{ReceiveRing, Wanted, bind};
use crate::linux::frames::xdp::TransmitRing;
use crate::linux::ports::{BATCH, DATAGRAM_LEN_MAX, Event, Stamped, is_full};
use crate::linux::socket::{self, check, retry, set};

pub mod ring;
pub mod xdp;

/// PACKET_QDISC_BYPASS of linux/if_packet.h: no queueing discipline on the way out.
const PACKET_QDISC_BYPASS: libc::c_int = 20;
/// Room for frames on their way; the kernel clamps it.
const SEND_BUFFER_LEN: libc::c_int = 8 << 20;

/// One interface's way out and in.
#[derive(Debug)]
pub struct Frames {
    fast: Option<TransmitRing>,
    plain: OwnedFd,
    stamped: Stamped,
    /// Batch of the packet socket, where there is no fast way.
    outgoing: Box<[[u8; DATAGRAM_LEN_MAX]]>,
    lens: Vec<usize>,
    /// Frames of this batch that are beyond our reach: staged in the fast way's ring, or
    /// stamped and gone. The rest is in `outgoing`.
    sent_fast: usize,
    /// Why a frame that is stamped could not leave.
    failure: Option<io::Error>,
    receive: ReceiveRing,
}

impl Frames {
    /// Opens `interface`, by its index, with room for so many frames that came in.
    /// Threads have a `queue` each, from 0.
    ///
    /// # Errors
    /// EPERM without CAP_NET_RAW; what else socket(2) and bind(2) say.
    pub fn open(interface: u32, queue: u32, wanted: &Wanted, room: usize) -> io::Result<Self> {
        let plain = socket::open(libc::AF_PACKET, libc::SOCK_RAW)?;
        let fd = plain.as_raw_fd();
        set(fd, libc::SOL_PACKET, PACKET_QDISC_BYPASS, 1)?;
        set(fd, libc::SOL_SOCKET, libc::SO_SNDBUF, SEND_BUFFER_LEN)?;
        let stamps = libc::SOF_TIMESTAMPING_SOFTWARE
            | libc::SOF_TIMESTAMPING_OPT_ID
            | libc::SOF_TIMESTAMPING_OPT_TSONLY;
        set(fd, libc::SOL_SOCKET, libc::SO_TIMESTAMPING, stamps)?;
        // Of protocol 0: it receives nothing.
        bind(fd, interface, 0)?;
        let receive = ReceiveRing::open(interface, wanted, room)?;
        Ok(Self {
            // Without it (an old kernel, a queue that is taken) it works, but slower.
            fast: TransmitRing::open(interface, queue).ok(),
            plain,
            stamped: Stamped::default(),
            outgoing: vec![[0; DATAGRAM_LEN_MAX]; BATCH].into(),
            lens: Vec::with_capacity(BATCH),
            sent_fast: 0,
            failure: None,
            receive,
        })
    }

    /// Which way frames go out.
    pub fn way(&self) -> &'static str {
        match self.fast {
            Some(_) => "AF_XDP",
            None => "packet socket",
        }
    }

    /// Is there room for another frame in the batch?
    pub fn has_room(&mut self) -> bool {
        self.sent_fast + self.lens.len() < BATCH
            && self.fast.as_mut().is_none_or(TransmitRing::has_room)
    }

    /// Adds a frame that `write` writes, and says the length of, to the batch, which
    /// must have room. With a `tag` it goes out at once and its departure is stamped.
    pub fn stage(
        &mut self,
        tag: Option<u64>,
        write: impl FnOnce(&mut [u8; DATAGRAM_LEN_MAX]) -> usize,
    ) {
        let Some(tag) = tag else {
            return self.stage_plain(write);
        };
        let mut frame = [0; DATAGRAM_LEN_MAX];
        let len = write(&mut frame);
        match self.send_stamped(&frame[..len], tag) {
            Ok(()) => self.sent_fast += 1,
            // Like any other then, without a stamp: no server is to lose it for us.
            Err(error) if is_full(&error) => self.stage_plain(|out| {
                *out = frame;
                len
            }),
            Err(error) => {
                self.failure.get_or_insert(error);
            }
        }
    }

    fn stage_plain(&mut self, write: impl FnOnce(&mut [u8; DATAGRAM_LEN_MAX]) -> usize) {
        if let Some(ring) = &mut self.fast {
            ring.stage(write);
            self.sent_fast += 1;
        } else {
            let len = write(&mut self.outgoing[self.lens.len()]);
            self.lens.push(len);
        }
    }

    /// Sends the batch and empties it; says how many left. Those that did not are the
    /// last ones of it.
    ///
    /// # Errors
    /// What sendmmsg(2) says, other than that there is no room: ENETDOWN.
    pub fn flush(&mut self) -> io::Result<usize> {
        if let Some(error) = self.failure.take() {
            return Err(error);
        }
        let mut left = mem::take(&mut self.sent_fast);
        match &mut self.fast {
            Some(ring) => ring.flush()?,
            None => left += self.send_plain()?,
        }
        Ok(left)
    }

    fn send_plain(&mut self) -> io::Result<usize> {
        let count = self.lens.len();
        // SAFETY: all-zero iovecs and mmsghdrs are valid.
        let mut iovs: [libc::iovec; BATCH] = unsafe { mem::zeroed() };
        // SAFETY: as above.
        let mut messages: [libc::mmsghdr; BATCH] = unsafe { mem::zeroed() };
        for (n, len) in self.lens.drain(..).enumerate() {
            iovs[n] = libc::iovec {
                iov_base: self.outgoing[n].as_mut_ptr().cast(),
                iov_len: len,
            };
            messages[n].msg_hdr.msg_iov = &raw mut iovs[n];
            messages[n].msg_hdr.msg_iovlen = 1;
        }
        let mut sent = 0;
        while sent < count {
            let result = retry(|| {
                // SAFETY: the rest of `count` messages, whose pointers lead to live
                // locals and to `outgoing`, each with its true length.
                check(unsafe {
                    libc::sendmmsg(
                        self.plain.as_raw_fd(),
                        messages[sent..].as_mut_ptr(),
                        (count - sent) as libc::c_uint,
                        libc::MSG_DONTWAIT,
                    )
                })
            });
            match result {
                Ok(0) => break,
                Ok(n) => sent += n as usize,
                Err(error) if is_full(&error) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(sent)
    }

    fn send_stamped(&mut self, frame: &[u8], tag: u64) -> io::Result<()> {
        let mut control = ControlBuffer::new();
        let mut encoder = Encoder::new(control.bytes_mut());
        encoder.ask_departure();
        let control = encoder.finish();
        let mut iov = libc::iovec {
            iov_base: frame.as_ptr().cast_mut().cast(),
            iov_len: frame.len(),
        };
        // SAFETY: an all-zero msghdr is valid.
        let mut message: libc::msghdr = unsafe { mem::zeroed() };
        message.msg_iov = &raw mut iov;
        message.msg_iovlen = 1;
        message.msg_control = control.as_ptr().cast_mut().cast();
        message.msg_controllen = control.len() as _;
        self.stamped.push(tag);
        // SAFETY: every pointer in `message` leads to a live local or to `frame`, which
        // the kernel only reads.
        let sent = unsafe { libc::sendmsg(self.plain.as_raw_fd(), &message, libc::MSG_DONTWAIT) };
        if sent < 0 {
            self.stamped.pop();
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// As [`Ports::receive`](crate::linux::ports::Ports::receive), of whole frames. Who
    /// is `asleep` is not woken by what comes: to wake him would cost whoever sends it, on a
    /// veth, more than the sending.
    ///
    /// # Errors
    /// What ppoll(2) says.
    pub fn receive(
        &mut self,
        patience_ns: i64,
        asleep: bool,
        mut each: impl FnMut(Event<'_>),
    ) -> io::Result<bool> {
        while self.stamped.any() && self.departure(&mut each) {}
        let mut any = self.receive.drain(&mut each);
        if !any && patience_ns > 0 {
            if asleep {
                thread::sleep(Duration::from_nanos(patience_ns as u64));
            } else {
                await_input(self.receive.fd(), patience_ns)?;
            }
            any = self.receive.drain(&mut each);
        }
        Ok(any)
    }

    /// One departure stamp; true if there may be more.
    fn departure(&mut self, each: &mut impl FnMut(Event<'_>)) -> bool {
        let mut control = ControlBuffer::new();
        // SAFETY: an all-zero msghdr is valid; without an iovec, only control messages
        // are read.
        let mut message: libc::msghdr = unsafe { mem::zeroed() };
        message.msg_control = control.bytes_mut().as_mut_ptr().cast();
        message.msg_controllen = cmsg::CONTROL_LEN as _;
        let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
        // SAFETY: the only pointer in `message` leads to a live local of that length.
        if unsafe { libc::recvmsg(self.plain.as_raw_fd(), &mut message, flags) } < 0 {
            return false;
        }
        // socklen_t on musl, size_t on glibc.
        #[allow(clippy::unnecessary_cast)]
        let len = (message.msg_controllen as usize).min(cmsg::CONTROL_LEN);
        let beside = cmsg::decode(&control.bytes()[..len]);
        if let (Some(QueuedError::Departed { id }), Some(at)) = (beside.error, beside.software)
            && let Some(tag) = self.stamped.take(id)
        {
            let at_ns = at.unix_ns();
            each(Event::Departed { tag, at_ns });
        }
        true
    }

    /// Frames that came in and found the ring full, since the last call: answers that
    /// we and not the server lost.
    pub fn overrun(&mut self) -> u64 {
        self.receive.overrun()
    }
}

fn await_input(fd: RawFd, patience_ns: i64) -> io::Result<()> {
    let mut one = libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    let patience = libc::timespec {
        tv_sec: patience_ns / 1_000_000_000,
        tv_nsec: patience_ns % 1_000_000_000,
    };
    // SAFETY: one pollfd, a valid timespec, no signal mask.
    let polled = check(unsafe { libc::ppoll(&raw mut one, 1, &raw const patience, ptr::null()) });
    match polled {
        Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
        _ => Ok(()),
    }
}

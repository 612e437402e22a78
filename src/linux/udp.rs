//! UDP sockets with kernel stamps: where datagrams enter and leave.
//!
//! SO_TIMESTAMPING as in the kernel's Documentation/networking/timestamping.rst.
//! Only plain libc symbols, one datagram a call, so that these sockets also work
//! inside clock simulators that replace them; what those lack (flags of
//! `socket()`, OPT_TSONLY, ids that count from 0) is done without.

use std::ffi::OsString;
use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::BindToDevice;

use crate::linux::address::RawAddress;
use crate::linux::clock;
use crate::linux::cmsg::{self, Beside, CardStamp, ControlBuffer, Encoder, QueuedError};
use crate::linux::socket::{self, check, retry};
use crate::time::stamp::Stamp;

/// Longest datagram that is told from others by its contents when its transmit
/// stamp comes back; longer ones are told by their first bytes. An NTP header behind the
/// longest prefix of NTP over PTP fits: replies differ in their stamps, at its end.
const REMEMBERED_BYTES: usize = 56 + 48;
/// Sent datagrams remembered until their transmit stamps come back.
const REMEMBERED_SENDS: usize = 16;
/// Room for a looped frame: a datagram of 1,500 bytes in its headers.
const FRAME_MAX: usize = 2048;

/// Which stamps the kernel agreed to take for a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stamping {
    /// SO_TIMESTAMPING: arrivals and departures.
    Full,
    /// SO_TIMESTAMPNS: arrivals only.
    ArrivalsOnly,
    /// None: the daemon's own readings of the clock.
    Daemon,
}

/// One sent datagram, to be matched with its [`Departure`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SendId(u32);

/// A transmit stamp of a datagram: the network stack's, the card's, or both. They come
/// one by one, the stack's first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Departure {
    /// When it left, by the network stack.
    pub kernel: Option<Stamp>,
    /// When it left, by the card.
    pub card: Option<CardStamp>,
    /// Which datagram.
    pub id: SendId,
}

/// How requests leave, where the routes alone don't say.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Leaving {
    /// By this interface alone.
    pub device: Option<String>,
    /// From this address; none: the routes choose.
    pub v4: Option<Ipv4Addr>,
    /// See `v4`.
    pub v6: Option<Ipv6Addr>,
}

/// A datagram that came in to a [`ClientSocket`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer {
    /// Bytes in the buffer.
    pub len: usize,
    /// When it came in.
    pub stamp: Stamp,
    /// When it came in by the card, where it takes stamps.
    pub card: Option<CardStamp>,
    /// Index of the interface it came in by, zero if unknown.
    pub interface: u32,
}

/// A datagram that came in to a [`ServerSocket`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arrival {
    /// Bytes in the buffer.
    pub len: usize,
    /// The sender.
    pub from: SocketAddr,
    /// Our address that was asked; unspecified if the kernel did not tell.
    pub to: IpAddr,
    /// It was sent to a broadcast or multicast address.
    pub group: bool,
    /// Index of the interface it came in by, zero if unknown.
    pub interface: u32,
    /// When it came in.
    pub stamp: Stamp,
    /// When it came in by the card, where it takes stamps.
    pub card: Option<CardStamp>,
}

/// A socket connected to one server.
///
/// Readiness: *read* means [`receive`](Self::receive); *error* means
/// [`receive_departure`](Self::receive_departure). In a simulator call each once per
/// readiness and not on suspicion: a call too many takes what is another socket's.
#[derive(Debug)]
pub struct ClientSocket {
    fd: OwnedFd,
    sends: Sends,
}

impl ClientSocket {
    /// A fresh socket on a fresh ephemeral port, connected to `to`, non-blocking.
    /// `by_card` wants the stamps of network cards besides the kernel's.
    ///
    /// # Errors
    /// What socket(2) and connect(2) say: ENETUNREACH and EAFNOSUPPORT are the
    /// usual ones. A kernel that refuses stamps is no error.
    pub fn connect(to: SocketAddr, by_card: bool) -> io::Result<Self> {
        Self::connect_by(open(to)?, to, by_card)
    }

    /// As [`connect`](Self::connect), by the interface and from the address that `leaving`
    /// says.
    ///
    /// # Errors
    /// As `connect`; ENODEV if there is no such interface, EADDRNOTAVAIL if the address is
    /// not ours.
    pub fn connect_leaving(to: SocketAddr, by_card: bool, leaving: &Leaving) -> io::Result<Self> {
        let fd = open(to)?;
        if let Some(device) = &leaving.device {
            setsockopt(&fd, BindToDevice, &OsString::from(device))?;
        }
        let from: Option<IpAddr> = match to {
            SocketAddr::V4(_) => leaving.v4.map(IpAddr::V4),
            SocketAddr::V6(_) => leaving.v6.map(IpAddr::V6),
        };
        if let Some(from) = from {
            bind(&fd, SocketAddr::new(from, 0))?;
        }
        Self::connect_by(fd, to, by_card)
    }

    /// What leaves has this code point of differentiated services (RFC 2474), 0 to 63.
    ///
    /// # Errors
    /// What setsockopt(2) says.
    pub fn set_dscp(&self, dscp: u8) -> io::Result<()> {
        set_dscp(self.fd(), self.local_addr()?.is_ipv4(), dscp)
    }

    /// As [`connect`](Self::connect), from a port that sockets of this process serve too,
    /// or none. What `to` sends to that port comes here, and the rest to the others: the
    /// kernel prefers a connected socket. Between being bound and being connected it is
    /// none of those that a program chooses from ([`bind_group`]).
    ///
    /// # Errors
    /// As `connect`, and what bind(2) says: EADDRINUSE if others have the port, EACCES for
    /// one below 1024 without CAP_NET_BIND_SERVICE.
    ///
    /// [`bind_group`]: crate::linux::reuseport::bind_group
    pub fn connect_from(port: u16, to: SocketAddr, by_card: bool) -> io::Result<Self> {
        Self::connect_by(open_sharing(port, to)?, to, by_card)
    }

    /// To send to a broadcast address or a group, as far as `hops` networks, from a port
    /// as [`connect_from`](Self::connect_from).
    ///
    /// # Errors
    /// As `connect_from`; ENETUNREACH if no route leads to a group.
    pub fn broadcast_from(port: u16, to: SocketAddr, hops: u8) -> io::Result<Self> {
        let fd = open_sharing(port, to)?;
        let (level, option) = match to {
            SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_MULTICAST_TTL),
            SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_HOPS),
        };
        set(&fd, level, option, hops.into())?;
        set(&fd, libc::SOL_SOCKET, libc::SO_BROADCAST, 1)?;
        Self::connect_by(fd, to, false)
    }

    fn connect_by(fd: OwnedFd, to: SocketAddr, by_card: bool) -> io::Result<Self> {
        if !(by_card && enable_card_stamping(&fd, to.ip())) {
            enable_stamping(&fd, libc::SOF_TIMESTAMPING_TX_SOFTWARE);
        }
        let raw = RawAddress::from(to);
        // SAFETY: `raw` holds an address of the length it states.
        check(unsafe { libc::connect(fd.as_raw_fd(), raw.as_ptr(), raw.len()) })?;
        Ok(Self {
            fd,
            sends: Sends::default(),
        })
    }

    /// Where it is bound: the address that the routes chose, and the port.
    ///
    /// # Errors
    /// What getsockname(2) says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        local_addr(&self.fd)
    }

    /// Sends one datagram. Its id is worth keeping only where several are under way.
    ///
    /// # Errors
    /// What send(2) says, WouldBlock included. ECONNREFUSED tells of an earlier
    /// datagram, and this one was not sent.
    pub fn send(&mut self, payload: &[u8]) -> io::Result<SendId> {
        retry(|| {
            // SAFETY: `payload` is readable for its length.
            check_len(unsafe {
                libc::send(
                    self.fd.as_raw_fd(),
                    payload.as_ptr().cast(),
                    payload.len(),
                    libc::MSG_NOSIGNAL,
                )
            })
        })?;
        Ok(self.sends.remember(payload))
    }

    /// The next datagram, or `None` if there is none. A datagram longer than `buffer` is cut. Without a kernel stamp the
    /// clock is read here.
    ///
    /// # Errors
    /// What recvmsg(2) says: ECONNREFUSED and the like when the network answered
    /// an earlier datagram with an ICMP error. Stamps in the queue survive it.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<Answer>> {
        let received = receive(&self.fd, buffer, 0)?;
        Ok(received.map(|received| Answer {
            len: received.len,
            stamp: received.stamp(),
            card: received.beside.card_stamp(),
            interface: received.beside.interface,
        }))
    }

    /// The next transmit stamp, or `None` if there is none (or none that belongs
    /// to a datagram of ours).
    ///
    /// # Errors
    /// With the stamps all read, the pending ICMP error of the socket, as in
    /// [`receive`](Self::receive): so error readiness always ends.
    pub fn receive_departure(&mut self) -> io::Result<Option<Departure>> {
        receive_departure(&self.fd, &mut self.sends)
    }

    /// For waiting.
    pub fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// A socket that answers strangers from the address they asked. Readiness is as
/// with [`ClientSocket`].
#[derive(Debug)]
pub struct ServerSocket {
    fd: OwnedFd,
    stamping: Stamping,
    by_card: bool,
    sends: Sends,
    bound: SocketAddr,
}

impl ServerSocket {
    /// Bound to `address`, non-blocking. IPv6 sockets take IPv6 only, so both
    /// wildcards can be bound side by side. With `reuse_port`, several of one user
    /// share the port.
    ///
    /// # Errors
    /// What socket(2) and bind(2) say: EACCES for a port below 1024 without
    /// CAP_NET_BIND_SERVICE, EADDRINUSE, EADDRNOTAVAIL.
    pub fn bind(address: SocketAddr, reuse_port: bool) -> io::Result<Self> {
        let (fd, bound) = bind_server(address, reuse_port, true)?;
        // Departures are stamped for the packets that ask for it.
        let stamping = enable_stamping(&fd, 0);
        Ok(Self {
            fd,
            stamping,
            by_card: false,
            sends: Sends::default(),
            bound,
        })
    }

    /// From now on arrivals, and departures that are asked for, are stamped by network
    /// cards too, if the kernel knows such stamps.
    pub fn stamp_by_card(&mut self) {
        let flags = CARD_STAMPING | libc::SOF_TIMESTAMPING_OPT_CMSG | libc::SOF_TIMESTAMPING_OPT_ID;
        self.by_card |= set(
            &self.fd,
            libc::SOL_SOCKET,
            libc::SO_TIMESTAMPING,
            flags as libc::c_int,
        )
        .is_ok();
    }

    /// As [`ClientSocket::set_dscp`].
    ///
    /// # Errors
    /// What setsockopt(2) says.
    pub fn set_dscp(&self, dscp: u8) -> io::Result<()> {
        set_dscp(self.fd(), self.bound.is_ipv4(), dscp)
    }

    /// Takes what is sent to a group too, on the interface that leads to it.
    ///
    /// # Errors
    /// What setsockopt(2) says: ENODEV if no route leads there, EADDRINUSE if it does already.
    pub fn join(&self, group: IpAddr) -> io::Result<()> {
        match group {
            IpAddr::V4(group) => {
                let request = libc::ip_mreqn {
                    imr_multiaddr: libc::in_addr {
                        s_addr: u32::from(group).to_be(),
                    },
                    imr_address: libc::in_addr { s_addr: 0 },
                    imr_ifindex: 0,
                };
                socket::set(
                    self.fd(),
                    libc::IPPROTO_IP,
                    libc::IP_ADD_MEMBERSHIP,
                    request,
                )
            }
            IpAddr::V6(group) => {
                let request = libc::ipv6_mreq {
                    ipv6mr_multiaddr: libc::in6_addr {
                        s6_addr: group.octets(),
                    },
                    ipv6mr_interface: 0,
                };
                let option = libc::IPV6_ADD_MEMBERSHIP;
                socket::set(self.fd(), libc::IPPROTO_IPV6, option, request)
            }
        }
    }

    /// The next request, or `None` if there is none. A datagram longer than
    /// `buffer` is cut. Without a kernel stamp the clock is read here.
    ///
    /// # Errors
    /// What recvmsg(2) says.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<Arrival>> {
        let Some(received) = receive(&self.fd, buffer, 0)? else {
            return Ok(None);
        };
        let Some(from) = received.from else {
            // Nobody to answer.
            return Ok(None);
        };
        Ok(Some(Arrival {
            len: received.len,
            from,
            to: received.beside.to.unwrap_or(self.bound.ip()),
            group: received.beside.group,
            interface: received.beside.interface,
            stamp: received.stamp(),
            card: received.beside.card_stamp(),
        }))
    }

    /// Answers `to` from the local address `from` ([`Arrival::to`]). The interface
    /// counts for link-local addresses alone: for others the routes know better.
    ///
    /// # Errors
    /// What sendmsg(2) says, WouldBlock included.
    pub fn send(
        &self,
        payload: &[u8],
        to: SocketAddr,
        from: IpAddr,
        interface: u32,
    ) -> io::Result<()> {
        send_from(&self.fd, payload, to, from, interface, 0)
    }

    /// As [`send`](Self::send), and asks for this datagram's transmit stamp, which
    /// [`receive_departure`](Self::receive_departure) returns. `None` if this
    /// socket can't stamp departures; the datagram is sent all the same.
    ///
    /// # Errors
    /// Those of `send`.
    pub fn send_stamped(
        &mut self,
        payload: &[u8],
        to: SocketAddr,
        from: IpAddr,
        interface: u32,
    ) -> io::Result<Option<SendId>> {
        let stamped = self.stamping == Stamping::Full;
        let by = match (stamped, self.by_card) {
            (false, _) => 0,
            (true, false) => libc::SOF_TIMESTAMPING_TX_SOFTWARE,
            (true, true) => libc::SOF_TIMESTAMPING_TX_SOFTWARE | libc::SOF_TIMESTAMPING_TX_HARDWARE,
        };
        send_from(&self.fd, payload, to, from, interface, by)?;
        Ok(stamped.then(|| self.sends.remember(payload)))
    }

    /// The next transmit stamp, or `None` if there is none.
    ///
    /// # Errors
    /// The pending error of the socket, once the stamps are read.
    pub fn receive_departure(&mut self) -> io::Result<Option<Departure>> {
        receive_departure(&self.fd, &mut self.sends)
    }

    /// The address it is bound to, its port known.
    pub fn local_addr(&self) -> SocketAddr {
        self.bound
    }

    /// For waiting.
    pub fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl AsFd for ServerSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Sends from an address that somebody else receives at: a second handle on his socket.
#[derive(Debug)]
pub struct ReplySocket {
    fd: OwnedFd,
    bound: SocketAddr,
}

impl ReplySocket {
    /// Beside `fd`, which is bound to `bound`.
    ///
    /// # Errors
    /// What fcntl(2) says: EMFILE.
    pub fn beside(fd: &OwnedFd, bound: SocketAddr) -> io::Result<Self> {
        let fd = fd.try_clone()?;
        Ok(Self { fd, bound })
    }

    /// What it is bound to.
    pub fn local_addr(&self) -> SocketAddr {
        self.bound
    }

    /// As [`ServerSocket::send`].
    ///
    /// # Errors
    /// What sendmsg(2) says, WouldBlock included.
    pub fn send(
        &self,
        payload: &[u8],
        to: SocketAddr,
        from: IpAddr,
        interface: u32,
    ) -> io::Result<()> {
        send_from(&self.fd, payload, to, from, interface, 0)
    }
}

/// Of the family of `to`, bound to `port`, which sockets of this process may have already.
fn open_sharing(port: u16, to: SocketAddr) -> io::Result<OwnedFd> {
    let fd = open(to)?;
    set(&fd, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
    let any: IpAddr = match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => {
            set(&fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1)?;
            Ipv6Addr::UNSPECIFIED.into()
        }
    };
    bind(&fd, SocketAddr::new(any, port))?;
    Ok(fd)
}

/// A bare socket that others of the same user may share its address with, and the
/// address with its port. A wildcard one is told where datagrams were sent to. Takes
/// no stamps yet.
///
/// # Errors
/// As [`ServerSocket::bind`].
pub fn bind_shared(address: SocketAddr) -> io::Result<(OwnedFd, SocketAddr)> {
    bind_server(address, true, address.ip().is_unspecified())
}

fn bind_server(
    address: SocketAddr,
    reuse_port: bool,
    tell_destination: bool,
) -> io::Result<(OwnedFd, SocketAddr)> {
    let fd = open(address)?;
    if reuse_port {
        set(&fd, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
    }
    // No path MTU look-up per packet, and no fragments. It makes sending cheaper and
    // nothing else: done without where it is unknown.
    match address {
        SocketAddr::V4(_) => {
            if tell_destination {
                set(&fd, libc::IPPROTO_IP, libc::IP_PKTINFO, 1)?;
            }
            let probe = libc::IP_PMTUDISC_PROBE;
            let _ = set(&fd, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, probe);
        }
        SocketAddr::V6(_) => {
            set(&fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1)?;
            if tell_destination {
                set(&fd, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)?;
            }
            let probe = libc::IPV6_PMTUDISC_PROBE;
            let _ = set(&fd, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, probe);
        }
    }
    bind(&fd, address)?;
    let bound = local_addr(&fd).unwrap_or(address);
    Ok((fd, bound))
}

/// Stamps of the kernel and of cards, each told apart, and of which card.
pub const CARD_STAMPING: u32 = libc::SOF_TIMESTAMPING_SOFTWARE
    | libc::SOF_TIMESTAMPING_RX_SOFTWARE
    | libc::SOF_TIMESTAMPING_RX_HARDWARE
    | libc::SOF_TIMESTAMPING_RAW_HARDWARE
    | libc::SOF_TIMESTAMPING_OPT_PKTINFO
    | libc::SOF_TIMESTAMPING_OPT_TX_SWHW;

/// Keeps the kernel's receive stamping switched on.
///
/// The switch is global and counts the sockets that want stamps; it turns on a
/// moment after the first of them. A client that opens a socket per request would
/// lose its first stamps to that moment, so the daemon holds one of these.
#[derive(Debug)]
pub struct StampingHold {
    _fd: OwnedFd,
}

impl StampingHold {
    /// Opens an idle socket that wants stamps.
    ///
    /// # Errors
    /// What socket(2) says for IPv4 and IPv6 both.
    pub fn new() -> io::Result<Self> {
        let fd = open((Ipv4Addr::UNSPECIFIED, 0).into())
            .or_else(|_| open((Ipv6Addr::UNSPECIFIED, 0).into()))?;
        enable_stamping(&fd, libc::SOF_TIMESTAMPING_TX_SOFTWARE);
        Ok(Self { _fd: fd })
    }
}

/// The last few datagrams that asked for a transmit stamp.
#[derive(Debug, Default)]
struct Sends {
    /// Their count so far, which is the id the kernel gives the next.
    next: u32,
    last: [Option<Sent>; REMEMBERED_SENDS],
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    id: u32,
    len: usize,
    head: [u8; REMEMBERED_BYTES],
    /// By whom, as [`Taker`] counts.
    stamped: [bool; 2],
}

/// Who took a departure's stamp.
#[derive(Clone, Copy)]
enum Taker {
    Kernel,
    Card,
}

impl Sends {
    fn remember(&mut self, payload: &[u8]) -> SendId {
        let id = self.next;
        self.next = self.next.wrapping_add(1);
        let mut head = [0; REMEMBERED_BYTES];
        let kept = payload.len().min(REMEMBERED_BYTES);
        head[..kept].copy_from_slice(&payload[..kept]);
        self.last[id as usize % REMEMBERED_SENDS] = Some(Sent {
            id,
            len: payload.len(),
            head,
            stamped: [false; 2],
        });
        SendId(id)
    }

    /// Whose stamp it is. A looped payload decides; without one (OPT_TSONLY) the
    /// kernel's id does. A stamp of each kind is handed out once.
    fn claim(&mut self, looped: &[u8], id: u32, by: Taker) -> Option<SendId> {
        let sent = self.last.iter_mut().flatten().find(|sent| {
            if looped.is_empty() {
                sent.id == id
            } else {
                sent.ends(looped)
            }
        })?;
        let stamped = std::mem::replace(&mut sent.stamped[by as usize], true);
        (!stamped).then_some(SendId(sent.id))
    }
}

impl Sent {
    /// Is this datagram the end of `frame`? (Frames come with their link, network
    /// and transport headers, or without, so the start tells nothing.)
    fn ends(&self, frame: &[u8]) -> bool {
        let Some(start) = frame.len().checked_sub(self.len) else {
            return false;
        };
        let compared = self.len.min(REMEMBERED_BYTES);
        frame[start..start + compared] == self.head[..compared]
    }
}

/// A datagram and all that came with it.
struct Received {
    len: usize,
    from: Option<SocketAddr>,
    flags: libc::c_int,
    beside: Beside,
}

impl Received {
    fn stamp(&self) -> Stamp {
        match self.beside.software {
            Some(at) => Stamp::kernel(at),
            None => Stamp::daemon(clock::realtime()),
        }
    }
}

fn receive(fd: &OwnedFd, buffer: &mut [u8], flags: libc::c_int) -> io::Result<Option<Received>> {
    let mut control = ControlBuffer::new();
    let mut from = RawAddress::empty();
    let mut iov = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: an all-zero msghdr is valid (musl's has padding fields).
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &raw mut iov;
    message.msg_iovlen = 1;
    let result = retry(|| {
        message.msg_name = from.as_mut_ptr().cast();
        message.msg_namelen = mem::size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        message.msg_control = control.bytes_mut().as_mut_ptr().cast();
        message.msg_controllen = cmsg::CONTROL_LEN as _;
        // SAFETY: every pointer in `message` is to a live local or to `buffer`,
        // each with its true length, and nothing else uses them meanwhile.
        check_len(unsafe { libc::recvmsg(fd.as_raw_fd(), &mut message, flags) })
    });
    let len = match result {
        Ok(len) => len.min(buffer.len()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
        Err(error) => return Err(error),
    };
    *from.len_mut() = message.msg_namelen;
    // socklen_t on musl, size_t on glibc.
    #[allow(clippy::unnecessary_cast)]
    let control_len = (message.msg_controllen as usize).min(cmsg::CONTROL_LEN);
    Ok(Some(Received {
        len,
        from: from.to_socket_addr(),
        flags: message.msg_flags,
        beside: cmsg::decode(&control.bytes()[..control_len]),
    }))
}

fn receive_departure(fd: &OwnedFd, sends: &mut Sends) -> io::Result<Option<Departure>> {
    let mut frame = [0; FRAME_MAX];
    let Some(received) = receive(fd, &mut frame, libc::MSG_ERRQUEUE)? else {
        // An empty queue, so what made the socket ready is a pending error.
        return take_error(fd).map_or(Ok(None), Err);
    };
    if received.flags & libc::MSG_ERRQUEUE == 0 {
        // Not from the error queue after all (simulators): no stamp of ours.
        return Ok(None);
    }
    match received.beside.error {
        Some(QueuedError::Departed { id }) => {
            let kernel = received.beside.software.map(Stamp::kernel);
            let card = received.beside.card_stamp();
            let by = if card.is_some() {
                Taker::Card
            } else {
                Taker::Kernel
            };
            let claimed = sends.claim(&frame[..received.len], id, by);
            Ok(claimed.map(|id| Departure { kernel, card, id }))
        }
        Some(refused) => refused.into_io_error().map_or(Ok(None), Err),
        None => Ok(None),
    }
}

fn send_from(
    fd: &OwnedFd,
    payload: &[u8],
    to: SocketAddr,
    from: IpAddr,
    interface: u32,
    stamped_by: u32,
) -> io::Result<()> {
    let mut buffer = ControlBuffer::new();
    let mut encoder = Encoder::new(buffer.bytes_mut());
    encode_source(&mut encoder, to, from, interface);
    if stamped_by != 0 {
        encoder.ask_departure_by(stamped_by);
    }
    let control = encoder.finish();

    send_datagram(fd.as_raw_fd(), payload, &RawAddress::from(to), control)
}

/// Sends `payload` to an address, with control messages if there are any, and never waits.
///
/// # Errors
/// What sendmsg(2) says, WouldBlock included.
pub(crate) fn send_datagram(
    fd: RawFd,
    payload: &[u8],
    to: &RawAddress,
    control: &[u8],
) -> io::Result<()> {
    const FLAGS: libc::c_int = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    if control.is_empty() {
        return retry(|| {
            // By number: at the C library's a thread can be cancelled, which costs it
            // two atomic writes.
            // SAFETY: both pointers are to what is borrowed, with its true length, and
            // are only read through.
            check_len(unsafe {
                libc::syscall(
                    libc::SYS_sendto,
                    fd,
                    payload.as_ptr(),
                    payload.len(),
                    FLAGS,
                    to.as_ptr(),
                    to.len(),
                ) as isize
            })
        })
        .map(drop);
    }
    let mut iov = libc::iovec {
        iov_base: payload.as_ptr().cast_mut().cast(),
        iov_len: payload.len(),
    };
    // SAFETY: an all-zero msghdr is valid (musl's has padding fields).
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_name = to.as_ptr().cast_mut().cast();
    message.msg_namelen = to.len();
    message.msg_iov = &raw mut iov;
    message.msg_iovlen = 1;
    message.msg_control = control.as_ptr().cast_mut().cast();
    message.msg_controllen = control.len() as _;
    retry(|| {
        // SAFETY: every pointer in `message` is to what is borrowed, with its true
        // length; sendmsg only reads through them.
        check_len(unsafe { libc::sendmsg(fd, &message, FLAGS) })
    })
    .map(drop)
}

/// Appends the message that makes a datagram to `to` leave from the address
/// `from`. Nothing for an address that can't be a source: the kernel picks one.
pub fn encode_source(encoder: &mut Encoder<'_>, to: SocketAddr, from: IpAddr, interface: u32) {
    if from.is_unspecified() || from.is_multicast() {
        return;
    }
    match (from, to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) if !from.is_broadcast() => {
            let interface = if to.is_link_local() { interface } else { 0 };
            encoder.push(
                libc::IPPROTO_IP,
                libc::IP_PKTINFO,
                libc::in_pktinfo {
                    ipi_ifindex: i32::try_from(interface).unwrap_or(0),
                    ipi_spec_dst: libc::in_addr {
                        s_addr: u32::from(from).to_be(),
                    },
                    ipi_addr: libc::in_addr { s_addr: 0 },
                },
            );
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let interface = if to.is_unicast_link_local() {
                interface
            } else {
                0
            };
            encoder.push(
                libc::IPPROTO_IPV6,
                libc::IPV6_PKTINFO,
                libc::in6_pktinfo {
                    ipi6_addr: libc::in6_addr {
                        s6_addr: from.octets(),
                    },
                    ipi6_ifindex: interface as _,
                },
            );
        }
        _ => {}
    }
}

/// Asks for software stamps, with `extra` flags, in the best form the kernel has.
fn enable_stamping(fd: &OwnedFd, extra: libc::c_uint) -> Stamping {
    let base = libc::SOF_TIMESTAMPING_SOFTWARE | libc::SOF_TIMESTAMPING_RX_SOFTWARE | extra;
    let forms = [
        base | libc::SOF_TIMESTAMPING_OPT_ID | libc::SOF_TIMESTAMPING_OPT_TSONLY,
        base | libc::SOF_TIMESTAMPING_OPT_ID,
        base,
    ];
    for flags in forms {
        let flags = flags as libc::c_int;
        if set(fd, libc::SOL_SOCKET, libc::SO_TIMESTAMPING, flags).is_ok() {
            return Stamping::Full;
        }
    }
    match set(fd, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1) {
        Ok(()) => Stamping::ArrivalsOnly,
        Err(_) => Stamping::Daemon,
    }
}

/// Asks for the card's stamps besides the kernel's: both for a departure, in two
/// messages that name the card it left by, and so with the packet itself. Whether the
/// kernel knows all that (4.13).
fn enable_card_stamping(fd: &OwnedFd, peer: IpAddr) -> bool {
    let flags = CARD_STAMPING
        | libc::SOF_TIMESTAMPING_TX_SOFTWARE
        | libc::SOF_TIMESTAMPING_TX_HARDWARE
        | libc::SOF_TIMESTAMPING_OPT_CMSG
        | libc::SOF_TIMESTAMPING_OPT_ID;
    let tell_interface = match peer {
        IpAddr::V4(_) => set(fd, libc::IPPROTO_IP, libc::IP_PKTINFO, 1),
        IpAddr::V6(_) => set(fd, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1),
    };
    let stamping = set(
        fd,
        libc::SOL_SOCKET,
        libc::SO_TIMESTAMPING,
        flags as libc::c_int,
    );
    tell_interface.and(stamping).is_ok()
}

/// As [`ClientSocket::set_dscp`]. Zero is what is so anyway.
pub(crate) fn set_dscp(fd: RawFd, is_v4: bool, dscp: u8) -> io::Result<()> {
    let octet = libc::c_int::from(dscp << 2);
    match (dscp, is_v4) {
        (0, _) => Ok(()),
        (_, true) => socket::set(fd, libc::IPPROTO_IP, libc::IP_TOS, octet),
        (_, false) => socket::set(fd, libc::IPPROTO_IPV6, libc::IPV6_TCLASS, octet),
    }
}

/// A UDP socket of the address's family.
fn open(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => libc::AF_INET,
        SocketAddr::V6(_) => libc::AF_INET6,
    };
    socket::open(family, libc::SOCK_DGRAM)
}

fn bind(fd: &OwnedFd, address: SocketAddr) -> io::Result<()> {
    let raw = RawAddress::from(address);
    // SAFETY: `raw` holds an address of the length it states.
    check(unsafe { libc::bind(fd.as_raw_fd(), raw.as_ptr(), raw.len()) }).map(drop)
}

fn local_addr(fd: &OwnedFd) -> io::Result<SocketAddr> {
    let mut raw = RawAddress::empty();
    let mut len = raw.len();
    // SAFETY: `raw` has room for `len` bytes, and `len` is writable.
    check(unsafe { libc::getsockname(fd.as_raw_fd(), raw.as_mut_ptr(), &mut len) })?;
    *raw.len_mut() = len;
    raw.to_socket_addr()
        .ok_or_else(|| io::Error::other("getsockname gave no internet address"))
}

fn set(
    fd: &OwnedFd,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    socket::set(fd.as_raw_fd(), level, option, value)
}

/// The socket's pending error, which is thereby cleared.
fn take_error(fd: &OwnedFd) -> Option<io::Error> {
    let mut error: libc::c_int = 0;
    let mut len = mem::size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the pointer is to a c_int, of the length given.
    let result = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ERROR,
            (&raw mut error).cast(),
            &mut len,
        )
    };
    (result == 0 && error != 0).then(|| io::Error::from_raw_os_error(error))
}

fn check_len(result: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
#[path = "udp_tests.rs"]
mod tests;

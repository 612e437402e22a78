//! The server's sockets: a pair for each worker and address, in SO_REUSEPORT groups
//! that give every client to one worker. First station of a request's journey.
//!
//! The worker is chosen by a classic BPF program over the source address alone
//! (socket(7), SO_ATTACH_REUSEPORT_CBPF), never by port: clients use a fresh port
//! for each request, and what we remember of a client lives in one worker.
//!
//! Of a pair, one socket receives and sends what needs no departure stamp; the other
//! only sends what does. So the first has no use for SO_TIMESTAMPING, which costs more
//! than SO_TIMESTAMPNS, and the second has an error queue that holds stamps alone.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Weak};

use crate::linux::bpf::{self, op};
use crate::linux::socket::set;
use crate::linux::udp::{self, ReplySocket, ServerSocket};

/// How departures are stamped: without the packet, and by request.
const STAMPING: u32 = libc::SOF_TIMESTAMPING_SOFTWARE | libc::SOF_TIMESTAMPING_OPT_TSONLY;

/// Why an address can't be listened on. Comes inside the [`io::Error`] of
/// [`bind_group`], with its kind.
#[derive(Debug)]
pub struct ListenError {
    /// The address that was asked for.
    pub address: SocketAddr,
    /// What the kernel said.
    pub source: io::Error,
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, source } = self;
        write!(f, "cannot listen on {address}: {source}")?;
        if source.raw_os_error() == Some(libc::EADDRNOTAVAIL) {
            f.write_str("; no interface has this address")?;
        }
        Ok(())
    }
}

impl std::error::Error for ListenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// A worker's sockets for an address.
#[derive(Debug)]
pub struct ListenSocket {
    receiver: OwnedFd,
    /// Receives nothing: the group's program never chooses it.
    sender: OwnedFd,
    address: SocketAddr,
    by_card: bool,
    /// Dropped last, when the sockets are closed.
    group: Arc<()>,
}

/// Tells whether any socket of a group is still open.
#[derive(Clone, Debug)]
pub struct GroupWatch(Weak<()>);

impl GroupWatch {
    /// Has the last of them been closed? Only then may their address be bound again:
    /// whoever joins them is numbered after them, and anew as they close.
    pub fn is_closed(&self) -> bool {
        self.0.strong_count() == 0
    }
}

impl ListenSocket {
    /// What it is bound to, with the port the kernel chose if none was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Watches the group it is one of.
    pub fn group(&self) -> GroupWatch {
        GroupWatch(Arc::downgrade(&self.group))
    }

    /// Does it take what is sent to any local address? Then replies must name the
    /// one they leave from, and each that wants a departure stamp must ask for it.
    /// Otherwise all that leave by [`sender`](Self::sender) are stamped.
    pub fn is_wildcard(&self) -> bool {
        self.address.ip().is_unspecified()
    }

    /// To give to a ring.
    pub fn receiver(&self) -> RawFd {
        self.receiver.as_raw_fd()
    }

    /// For replies that another thread sends. Closed, it gives the address free.
    ///
    /// # Errors
    /// Those of [`ReplySocket::beside`].
    pub fn reply_socket(&self) -> io::Result<ReplySocket> {
        ReplySocket::beside(&self.receiver, self.address)
    }

    /// For replies whose departure is to be stamped.
    pub fn sender(&self) -> RawFd {
        self.sender.as_raw_fd()
    }

    /// Whose departure stamps are to be asked for.
    pub(crate) fn departures(&self) -> u32 {
        if self.by_card {
            libc::SOF_TIMESTAMPING_TX_SOFTWARE | libc::SOF_TIMESTAMPING_TX_HARDWARE
        } else {
            libc::SOF_TIMESTAMPING_TX_SOFTWARE
        }
    }

    /// From now on arrivals and departures are stamped by network cards too.
    pub(crate) fn stamp_by_card(&mut self) -> io::Result<()> {
        let set = |option, value: u32| set(self.receiver(), libc::SOL_SOCKET, option, value);
        set(libc::SO_TIMESTAMPING, udp::CARD_STAMPING)?;
        // The same stamp twice would not fit.
        set(libc::SO_TIMESTAMPNS, 0)?;
        self.by_card = true;
        Ok(())
    }

    /// What leaves has this code point of differentiated services, 0 to 63.
    ///
    /// # Errors
    /// What setsockopt(2) says.
    pub fn set_dscp(&self, dscp: u8) -> io::Result<()> {
        let is_v4 = self.address.is_ipv4();
        udp::set_dscp(self.receiver(), is_v4, dscp)?;
        udp::set_dscp(self.sender(), is_v4, dscp)
    }

    /// Starts the ids of departure stamps at zero (again).
    pub(crate) fn restart_ids(&self) -> io::Result<()> {
        let all = if self.is_wildcard() {
            0
        } else {
            self.departures()
        };
        let told_apart = if self.by_card {
            libc::SOF_TIMESTAMPING_RAW_HARDWARE | libc::SOF_TIMESTAMPING_OPT_TX_SWHW
        } else {
            0
        };
        let by_request = STAMPING | told_apart;
        for flags in [by_request, by_request | all | libc::SOF_TIMESTAMPING_OPT_ID] {
            set(
                self.sender(),
                libc::SOL_SOCKET,
                libc::SO_TIMESTAMPING,
                flags,
            )?;
        }
        Ok(())
    }
}

/// Is nobody listening on `address` yet? SO_REUSEPORT would let us join a second
/// server of the same user without a word, and take half of its clients.
///
/// # Errors
/// As [`bind_group`].
pub fn probe_free(address: SocketAddr) -> io::Result<()> {
    ServerSocket::bind(address, false)
        .map(drop)
        .map_err(|source| listen_error(address, source))
}

/// Binds `count` pairs of sockets to `address`, the n-th for worker n, and attaches
/// the program that chooses between them. A port of 0 is chosen by the kernel once,
/// for all of them.
///
/// # Errors
/// A [`ListenError`] that names the address.
pub fn bind_group(address: SocketAddr, count: usize) -> io::Result<Vec<ListenSocket>> {
    try_bind_group(address, count).map_err(|source| listen_error(address, source))
}

fn try_bind_group(mut address: SocketAddr, count: usize) -> io::Result<Vec<ListenSocket>> {
    if address.port() == 0 {
        // With SO_REUSEPORT the kernel may choose a port that another group of ours has.
        address = ServerSocket::bind(address, false)?.local_addr();
    }
    // The kernel numbers the members in the order in which they are bound.
    let mut receivers = Vec::with_capacity(count);
    for _ in 0..count {
        let (receiver, bound) = udp::bind_shared(address)?;
        let fd = receiver.as_raw_fd();
        // Without it, clocks are read when a request is.
        let _ = set(fd, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1);
        address = bound;
        receivers.push(receiver);
    }
    // Before there is a sender, so that none is ever chosen.
    choose_by_source(receivers[0].as_raw_fd(), address.ip(), count as u32)?;
    let group = Arc::new(());
    let pair = |receiver| {
        let (sender, _) = udp::bind_shared(address)?;
        // Broadcasts go to every member of a group. Unread, they would fill the buffer
        // that departure stamps are charged to.
        accept_nothing(sender.as_raw_fd())?;
        let pair = ListenSocket {
            receiver,
            sender,
            address,
            by_card: false,
            group: Arc::clone(&group),
        };
        pair.restart_ids()?;
        Ok(pair)
    };
    receivers.into_iter().map(pair).collect()
}

/// Binds a socket that takes in all that comes to `address`, though clients may share its
/// port ([`connect_from`](crate::linux::udp::ClientSocket::connect_from)).
///
/// # Errors
/// As [`bind_group`], and if anybody is there already.
pub fn bind_alone(address: SocketAddr) -> io::Result<ServerSocket> {
    probe_free(address)?;
    let bound = ServerSocket::bind(address, true).and_then(|socket| {
        choose_by_source(socket.fd(), address.ip(), 1)?;
        Ok(socket)
    });
    bound.map_err(|source| listen_error(address, source))
}

/// `source` with the address it is about, as [`bind_group`] gives it.
pub fn listen_error(address: SocketAddr, source: io::Error) -> io::Error {
    io::Error::new(source.kind(), ListenError { address, source })
}

/// How many descriptors this process may have (getrlimit(2), RLIMIT_NOFILE).
pub fn descriptors_max() -> usize {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: getrlimit(2) fills the struct it is given; it can't fail for a limit it knows.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX)
}

/// Has the kernel drop whatever arrives at a socket. (The error queue is none of it.)
fn accept_nothing(fd: RawFd) -> io::Result<()> {
    bpf::attach(fd, libc::SO_ATTACH_FILTER, &[bpf::refuse()])
}

/// Attaches a program that returns a hash of the source address modulo `count`, the
/// first of the group's members.
/// IPv6 sources count by their /64, since a host may use any number of addresses
/// within one.
fn choose_by_source(fd: RawFd, family: IpAddr, count: u32) -> io::Result<()> {
    /// 2^32 / φ: multiplicative hashing spreads neighbouring addresses evenly.
    const GOLDEN: u32 = 0x9e37_79b1;
    // Offsets from the start of the IP header (linux/filter.h).
    let load = |offset: i32| bpf::load(libc::BPF_W, (libc::SKF_NET_OFF + offset) as u32);
    let multiply = op(libc::BPF_ALU | libc::BPF_MUL | libc::BPF_K, GOLDEN);
    let mut program = match family {
        IpAddr::V4(_) => vec![load(12)],
        IpAddr::V6(_) => vec![
            load(8),
            multiply,
            op(libc::BPF_MISC | libc::BPF_TAX, 0),
            load(12),
            op(libc::BPF_ALU | libc::BPF_XOR | libc::BPF_X, 0),
        ],
    };
    program.extend([
        multiply,
        // The high bits of the product are the mixed ones.
        op(libc::BPF_ALU | libc::BPF_RSH | libc::BPF_K, 16),
        op(libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K, count),
        bpf::give(),
    ]);
    bpf::attach(fd, libc::SO_ATTACH_REUSEPORT_CBPF, &program)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, UdpSocket};

    fn loopback() -> SocketAddr {
        "127.0.0.1:0".parse().expect("an address")
    }

    #[test]
    fn an_address_in_use_is_named() {
        let other = UdpSocket::bind(loopback()).expect("a socket");
        let address = other.local_addr().expect("an address");
        let error = bind_group(address, 2).expect_err("in use");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&address.to_string()), "{error}");
    }

    #[test]
    fn a_second_server_of_the_same_user_is_noticed() {
        let ours = bind_group(loopback(), 2).expect("a group");
        let error = probe_free(ours[0].address()).expect_err("in use");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_source_belongs_to_one_worker_whatever_its_port() {
        for any in ["0.0.0.0:0", "[::]:0"] {
            let group = bind_group(any.parse().expect("an address"), 4).expect("a group");
            let port = group[0].address().port();
            let mut hits = [0; 4];
            for source in 1..=32_u8 {
                let (from, to): (IpAddr, IpAddr) = if any.starts_with('[') {
                    ("::1".parse().expect("ip"), "::1".parse().expect("ip"))
                } else {
                    ([127, 0, 0, source].into(), [127, 0, 0, 1].into())
                };
                let mut worker = None;
                for _ in 0..4 {
                    let client = UdpSocket::bind((from, 0)).expect("a client");
                    client.send_to(b"x", (to, port)).expect("sent");
                    let got = group.iter().position(take_one).expect("it arrived");
                    assert_eq!(*worker.get_or_insert(got), got);
                    hits[got] += 1;
                }
            }
            if !any.starts_with('[') {
                assert!(hits.iter().all(|&n| n > 0), "{hits:?}");
            }
        }
    }

    #[test]
    fn a_sender_is_never_chosen() {
        for count in [1, 3] {
            let group = bind_group(loopback(), count).expect("a group");
            let port = group[0].address().port();
            for source in 1..=64_u8 {
                let client =
                    UdpSocket::bind((IpAddr::from([127, 0, 0, source]), 0)).expect("a client");
                client
                    .send_to(b"x", (IpAddr::from([127, 0, 0, 1]), port))
                    .expect("sent");
                assert!(group.iter().any(take_one), "{source} of {count}");
            }
        }
    }

    /// The kernel gives a broadcast to every socket it may be for.
    #[test]
    fn a_sender_takes_in_no_broadcasts() {
        let group = bind_group("0.0.0.0:0".parse().expect("ok"), 2).expect("a group");
        let everybody = (Ipv4Addr::new(127, 255, 255, 255), group[0].address().port());
        let client = UdpSocket::bind("127.0.0.1:0").expect("a client");
        client.set_broadcast(true).expect("set");
        for _ in 0..100 {
            client.send_to(b"x", everybody).expect("sent");
        }
        for socket in &group {
            assert!((0..100).all(|_| take_one(socket)), "it is for receivers");
            assert!(!take_one_by(socket.sender()), "nothing came in");
        }
    }

    fn take_one(socket: &ListenSocket) -> bool {
        take_one_by(socket.receiver())
    }

    fn take_one_by(fd: RawFd) -> bool {
        let mut byte = [0_u8; 1];
        // SAFETY: recv(2) writes at most one octet to `byte`.
        let n = unsafe { libc::recv(fd, byte.as_mut_ptr().cast(), 1, 0) };
        n == 1
    }
}

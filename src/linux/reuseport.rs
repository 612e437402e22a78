//! The server's sockets: one per worker and address, in SO_REUSEPORT groups that
//! give every client to one worker. First station of a request's journey.
//!
//! The worker is chosen by a classic BPF program over the source address alone
//! (socket(7), SO_ATTACH_REUSEPORT_CBPF), never by port: clients use a fresh port
//! for each request, and what we remember of a client lives in one worker.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::RawFd;

use crate::linux::socket::set;
use crate::linux::udp::ServerSocket;

/// Room for the requests that arrive while a worker is busy. The kernel clamps it
/// to net.core.rmem_max.
const RECEIVE_BUFFER_LEN: libc::c_int = 1 << 20;

/// What [`ServerSocket`] asks of SO_TIMESTAMPING, without the ids.
const STAMPING: u32 = libc::SOF_TIMESTAMPING_RX_SOFTWARE
    | libc::SOF_TIMESTAMPING_SOFTWARE
    | libc::SOF_TIMESTAMPING_OPT_TSONLY;

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

/// A worker's socket: a [`ServerSocket`] that shares its address.
#[derive(Debug)]
pub struct ListenSocket(ServerSocket);

impl ListenSocket {
    /// What it is bound to, with the port the kernel chose if none was asked for.
    pub fn address(&self) -> SocketAddr {
        self.0.local_addr()
    }

    /// Does it take what is sent to any local address? Then replies must name the
    /// one they leave from.
    pub fn is_wildcard(&self) -> bool {
        self.address().ip().is_unspecified()
    }

    /// To give to a ring.
    pub fn fd(&self) -> RawFd {
        self.0.fd()
    }

    /// Starts the ids of departure stamps at zero again.
    pub(crate) fn restart_ids(&self) -> io::Result<()> {
        for flags in [STAMPING, STAMPING | libc::SOF_TIMESTAMPING_OPT_ID] {
            set(self.fd(), libc::SOL_SOCKET, libc::SO_TIMESTAMPING, flags)?;
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

/// Binds `count` sockets to `address`, the n-th for worker n, and attaches the
/// program that chooses between them. A port of 0 is chosen by the kernel once,
/// for all of them.
///
/// # Errors
/// A [`ListenError`] that names the address.
pub fn bind_group(address: SocketAddr, count: usize) -> io::Result<Vec<ListenSocket>> {
    try_bind_group(address, count).map_err(|source| listen_error(address, source))
}

fn try_bind_group(mut address: SocketAddr, count: usize) -> io::Result<Vec<ListenSocket>> {
    let mut group: Vec<ListenSocket> = Vec::with_capacity(count);
    // The kernel numbers the members in the order in which they are bound.
    for _ in 0..count {
        let socket = ListenSocket(ServerSocket::bind(address, true)?);
        let fd = socket.fd();
        set(fd, libc::SOL_SOCKET, libc::SO_RCVBUF, RECEIVE_BUFFER_LEN)?;
        address = socket.address();
        group.push(socket);
    }
    if count > 1 {
        choose_by_source(group[0].fd(), address.ip(), count as u32)?;
    }
    Ok(group)
}

/// `source` with the address it is about, as [`bind_group`] gives it.
pub fn listen_error(address: SocketAddr, source: io::Error) -> io::Error {
    io::Error::new(source.kind(), ListenError { address, source })
}

/// Attaches a program that returns a hash of the source address modulo `count`.
/// IPv6 sources count by their /64, since a host may use any number of addresses
/// within one.
fn choose_by_source(fd: RawFd, family: IpAddr, count: u32) -> io::Result<()> {
    /// 2^32 / φ: multiplicative hashing spreads neighbouring addresses evenly.
    const GOLDEN: u32 = 0x9e37_79b1;
    // Offsets from the start of the IP header (linux/filter.h).
    let load = |offset: i32| {
        op(
            libc::BPF_LD | libc::BPF_W | libc::BPF_ABS,
            (libc::SKF_NET_OFF + offset) as u32,
        )
    };
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
        op(libc::BPF_RET | BPF_RET_A, 0),
    ]);
    let program = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    let option = libc::SO_ATTACH_REUSEPORT_CBPF;
    set(fd, libc::SOL_SOCKET, option, program)
}

/// BPF_A of linux/filter.h: return the accumulator.
const BPF_RET_A: u32 = 0x10;

fn op(code: u32, k: u32) -> libc::sock_filter {
    libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf: 0,
        k,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

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

    fn take_one(socket: &ListenSocket) -> bool {
        let mut byte = [0_u8; 1];
        // SAFETY: recv(2) writes at most one octet to `byte`.
        let n = unsafe { libc::recv(socket.fd(), byte.as_mut_ptr().cast(), 1, 0) };
        n == 1
    }
}

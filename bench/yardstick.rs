//! What a socket server of NTP could cost at the least: recvmmsg(2) and sendmmsg(2),
//! the socket options that pay, the kernel's arrival stamp as T2, and no questions
//! asked. `bench/compare` measures ptntp against it.
//!
//! It answers whatever is 48 octets long. Nobody should be given its time.

#![allow(unsafe_code)]

use std::io;
use std::mem;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Packets a call. More gain nothing, fewer cost.
const BATCH: usize = 64;
const HEADER_LEN: usize = 48;
/// One `struct timespec` in a control message.
const CONTROL_LEN: usize = 32;
/// Seconds from 1900 to 1970.
const ERA_S: u64 = 2_208_988_800;

/// Everything that a packet needs while the kernel reads or writes it.
#[repr(C, align(64))]
struct Place {
    packet: [u8; HEADER_LEN + 1],
    name: libc::sockaddr_storage,
    control: [u64; CONTROL_LEN / 8],
    part: libc::iovec,
}

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).ok_or_else(|| {
        io::Error::other("usage: yardstick ADDRESS:PORT (an address of this host, no wildcard)")
    })?;
    let socket = UdpSocket::bind(&address)?;
    let one: libc::c_int = 1;
    set(&socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, one)?;
    set(&socket, libc::SOL_SOCKET, libc::SO_RCVBUF, 1 << 20)?;
    if socket.local_addr()?.is_ipv4() {
        let probe = libc::IP_PMTUDISC_PROBE;
        set(&socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, probe)?;
    } else {
        let probe = libc::IPV6_PMTUDISC_PROBE;
        set(&socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, probe)?;
    }
    serve(&socket)
}

fn serve(socket: &UdpSocket) -> io::Result<()> {
    // SAFETY: integers and pointers, for which zero is a value.
    let mut places: Box<[Place; BATCH]> = Box::new(unsafe { mem::zeroed() });
    // SAFETY: as above.
    let mut messages: Box<[libc::mmsghdr; BATCH]> = Box::new(unsafe { mem::zeroed() });
    for (place, message) in places.iter_mut().zip(messages.iter_mut()) {
        place.part.iov_base = place.packet.as_mut_ptr().cast();
        message.msg_hdr.msg_iov = &raw mut place.part;
        message.msg_hdr.msg_iovlen = 1;
        message.msg_hdr.msg_name = (&raw mut place.name).cast();
    }
    loop {
        for (place, message) in places.iter_mut().zip(messages.iter_mut()) {
            place.part.iov_len = place.packet.len();
            message.msg_hdr.msg_namelen = mem::size_of_val(&place.name) as _;
            message.msg_hdr.msg_control = place.control.as_mut_ptr().cast();
            message.msg_hdr.msg_controllen = CONTROL_LEN as _;
        }
        let (fd, all) = (socket.as_raw_fd(), BATCH as libc::c_uint);
        let flags = libc::MSG_WAITFORONE;
        // SAFETY: each header points to a place of its own, with its true lengths.
        let received =
            unsafe { libc::recvmmsg(fd, messages.as_mut_ptr(), all, flags, std::ptr::null_mut()) };
        let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        let transmit = ntp(SystemTime::now());
        for (place, message) in places.iter_mut().zip(messages.iter_mut()).take(received) {
            answer(place, transmit);
            // Never more than was asked.
            place.part.iov_len = HEADER_LEN.min(message.msg_len as usize);
            message.msg_hdr.msg_control = std::ptr::null_mut();
            message.msg_hdr.msg_controllen = 0;
        }
        // SAFETY: as above, and `received` of them are filled.
        unsafe { libc::sendmmsg(fd, messages.as_mut_ptr(), received as libc::c_uint, 0) };
    }
}

/// A stratum 1 server's answer, where the request was.
fn answer(place: &mut Place, transmit: u64) {
    let stamped = UNIX_EPOCH + Duration::new(place.control[2], place.control[3] as u32);
    let receive = ntp(stamped);
    let packet = &mut place.packet;
    packet[0] = packet[0] & 0o70 | 4;
    packet[1] = 1;
    packet[3] = -20_i8 as u8;
    packet[4..16].copy_from_slice(b"\0\0\0\0\0\0\0\x01LOCL");
    packet[16..24].copy_from_slice(&receive.to_be_bytes());
    packet.copy_within(40..48, 24);
    packet[32..40].copy_from_slice(&receive.to_be_bytes());
    packet[40..48].copy_from_slice(&transmit.to_be_bytes());
}

fn ntp(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let fraction = (u64::from(since.subsec_nanos()) << 32) / 1_000_000_000;
    (since.as_secs() + ERA_S) << 32 | fraction
}

fn set(
    socket: &UdpSocket,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    let len = mem::size_of_val(&value) as libc::socklen_t;
    // SAFETY: the pointer is to a c_int, of the length given.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            len,
        )
    };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

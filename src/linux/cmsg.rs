//! Control messages beside a datagram: stamps, the address that was asked, and
//! what the error queue says. On the journey: first thing after `recvmsg`.
//!
//! Layout as in cmsg(3); contents as in the kernel's
//! Documentation/networking/timestamping.rst, ip(7) and ipv6(7).

use std::io;
use std::mem;
use std::net::{IpAddr, Ipv6Addr};
use std::ptr;

use crate::linux::clock;
use crate::time::instant::WallInstant;
use crate::time::phc::PhcInstant;

/// Room for every control message we ask for, several times over. Aligned as
/// `cmsghdr` wants it.
#[repr(C, align(8))]
#[derive(Clone)]
pub struct ControlBuffer([u8; CONTROL_LEN]);

/// Bytes in a [`ControlBuffer`]: stamps, packet info and an extended error with
/// its offender's address take under 200.
pub const CONTROL_LEN: usize = 256;

impl ControlBuffer {
    /// All zero.
    pub const fn new() -> Self {
        Self([0; CONTROL_LEN])
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Its bytes, to be filled by the kernel or an [`Encoder`].
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl Default for ControlBuffer {
    fn default() -> Self {
        Self::new()
    }
}

/// Of asm-generic/socket.h: which card took a hardware stamp.
const SCM_TIMESTAMPING_PKTINFO: libc::c_int = 58;

/// `struct scm_ts_pktinfo` of linux/net_tstamp.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct TsPktinfo {
    interface: u32,
    frame_len: u32,
    reserved: [u32; 2],
}

/// Of linux/if_packet.h: where packet sockets say that a frame has departed.
const PACKET_TX_TIMESTAMP: libc::c_int = 16;

/// Kernel structs that are plain bytes: any bit pattern is a value and there is
/// no padding that the kernel would read.
///
/// # Safety
/// Implement it only for such types.
pub unsafe trait Plain: Copy {}
// SAFETY: integers, and C structs of integers without padding.
unsafe impl Plain for u32 {}
// SAFETY: as above.
unsafe impl Plain for libc::c_int {}
// SAFETY: as above.
unsafe impl Plain for libc::in_pktinfo {}
// SAFETY: as above.
unsafe impl Plain for libc::in6_pktinfo {}
// SAFETY: as above; only ever read from the kernel.
unsafe impl Plain for libc::timespec {}
// SAFETY: as above.
unsafe impl Plain for [libc::timespec; 3] {}
// SAFETY: as above.
unsafe impl Plain for libc::sock_extended_err {}
// SAFETY: as above.
unsafe impl Plain for TsPktinfo {}

/// Writes control messages into a borrowed buffer. [`finish`](Self::finish) hands
/// the same borrow back, so what is sent can't outlive or overlap what was written.
pub struct Encoder<'b> {
    buffer: &'b mut [u8],
    used: usize,
}

impl<'b> Encoder<'b> {
    /// Starts an empty list in `buffer`.
    pub fn new(buffer: &'b mut [u8]) -> Self {
        Self { buffer, used: 0 }
    }

    /// Appends one message. Panics if the buffer is too small: what we send has a
    /// fixed size, so that would be our own bug.
    pub fn push<T: Plain>(&mut self, level: libc::c_int, kind: libc::c_int, value: T) {
        let space = cmsg_space(mem::size_of::<T>());
        let place = &mut self.buffer[self.used..self.used + space];
        place.fill(0);
        // SAFETY: an all-zero cmsghdr is valid (musl's has padding fields).
        let mut header: libc::cmsghdr = unsafe { mem::zeroed() };
        header.cmsg_len = cmsg_len(mem::size_of::<T>()) as _;
        header.cmsg_level = level;
        header.cmsg_type = kind;
        // SAFETY: `place` holds `space` bytes, which is at least the header, its
        // padding and the value; unaligned writes ask nothing more.
        unsafe {
            ptr::write_unaligned(place.as_mut_ptr().cast(), header);
            ptr::write_unaligned(place.as_mut_ptr().add(cmsg_len(0)).cast(), value);
        }
        self.used += space;
    }

    /// Asks for a stamp of this datagram's departure, by the network stack.
    pub fn ask_departure(&mut self) {
        self.ask_departure_by(libc::SOF_TIMESTAMPING_TX_SOFTWARE);
    }

    /// Asks for a stamp of this datagram's departure by those named: bits
    /// SOF_TIMESTAMPING_TX_*.
    pub fn ask_departure_by(&mut self, ask: u32) {
        self.push(libc::SOL_SOCKET, libc::SO_TIMESTAMPING, ask);
    }

    /// The finished list.
    pub fn finish(self) -> &'b [u8] {
        &self.buffer[..self.used]
    }
}

/// One control message as received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// SOL_SOCKET, IPPROTO_IP, ...
    pub level: libc::c_int,
    /// SCM_TIMESTAMPING, IP_PKTINFO, ...
    pub kind: libc::c_int,
    /// The contents, perhaps cut short.
    pub data: &'a [u8],
}

impl Message<'_> {
    /// The contents as a kernel struct; `None` if they were cut short.
    pub fn read<T: Plain>(&self) -> Option<T> {
        if self.data.len() < mem::size_of::<T>() {
            return None;
        }
        // SAFETY: long enough as just checked; `Plain` takes any bit pattern.
        Some(unsafe { ptr::read_unaligned(self.data.as_ptr().cast()) })
    }
}

/// Walks the control messages of a received datagram. Lengths are checked against
/// the bytes at hand, so a list that was cut off, or garbage, ends the walk.
#[derive(Clone)]
pub struct Messages<'a> {
    rest: &'a [u8],
}

impl<'a> Messages<'a> {
    /// Over `control`, the first `msg_controllen` bytes of the buffer.
    pub fn new(control: &'a [u8]) -> Self {
        Self { rest: control }
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        if self.rest.len() < mem::size_of::<libc::cmsghdr>() {
            return None;
        }
        // SAFETY: long enough as just checked; a cmsghdr is three integers.
        let header: libc::cmsghdr = unsafe { ptr::read_unaligned(self.rest.as_ptr().cast()) };
        // socklen_t on musl, size_t on glibc.
        #[allow(clippy::unnecessary_cast)]
        let stated = header.cmsg_len as usize;
        if stated < cmsg_len(0) {
            self.rest = &[];
            return None;
        }
        let end = stated.min(self.rest.len());
        let data = self.rest.get(cmsg_len(0)..end).unwrap_or(&[]);
        let next = cmsg_space(end - cmsg_len(0).min(end)).min(self.rest.len());
        self.rest = &self.rest[next..];
        Some(Message {
            level: header.cmsg_level,
            kind: header.cmsg_type,
            data,
        })
    }
}

/// What came beside one datagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Beside {
    /// The network stack's stamp, CLOCK_REALTIME.
    pub software: Option<WallInstant>,
    /// The card's own stamp, on its own clock (its PHC).
    pub hardware: Option<PhcInstant>,
    /// Which card took it, and the length of the frame, where the kernel knows.
    card: Option<TsPktinfo>,
    /// Our address that the datagram was sent to. For IPv4 broadcasts, the
    /// address to answer from.
    pub to: Option<IpAddr>,
    /// It was sent to a broadcast or multicast address: each socket gets a copy.
    pub group: bool,
    /// Index of the interface it came in by, zero if unknown.
    pub interface: u32,
    /// Why it is in the error queue, if it is.
    pub error: Option<QueuedError>,
}

/// A stamp that a network card took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CardStamp {
    /// On the card's own clock.
    pub phc: PhcInstant,
    /// Index of its interface; zero if unknown.
    pub interface: u32,
    /// Octets of the frame with its link's header; zero if unknown.
    pub frame_len: u32,
}

impl Beside {
    /// The card's stamp, if one came. The card itself is a bond's or a VLAN's real
    /// device, where the kernel tells.
    pub fn card_stamp(&self) -> Option<CardStamp> {
        let card = self.card.unwrap_or_default();
        let known = card.interface != 0;
        self.hardware.map(|phc| CardStamp {
            phc,
            interface: if known {
                card.interface
            } else {
                self.interface
            },
            frame_len: card.frame_len,
        })
    }
}

/// Why something is in a socket's error queue (`struct sock_extended_err`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueuedError {
    /// A datagram of ours has departed: the stamp beside it is its own. `id` counts
    /// the stamped datagrams of the socket (SOF_TIMESTAMPING_OPT_ID).
    Departed {
        /// Position among the socket's stamped datagrams; most kernels count from 0.
        id: u32,
    },
    /// The network answered with an error, such as ECONNREFUSED.
    Refused {
        /// errno.
        errno: i32,
    },
}

/// Reads everything we know of from the control bytes of one datagram.
pub fn decode(control: &[u8]) -> Beside {
    let mut beside = Beside::default();
    for message in Messages::new(control) {
        match (message.level, message.kind) {
            (libc::SOL_SOCKET, libc::SCM_TIMESTAMPING) => {
                if let Some(slots) = message.read::<[libc::timespec; 3]>() {
                    // Slot 1 is legacy and always zero.
                    beside.software = stamp(slots[0]);
                    beside.hardware =
                        stamp(slots[2]).map(|at| PhcInstant::from_nanos(at.unix_ns()));
                }
            }
            (libc::SOL_SOCKET, SCM_TIMESTAMPING_PKTINFO) => {
                beside.card = message.read::<TsPktinfo>();
            }
            (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => {
                if let Some(ts) = message.read::<libc::timespec>() {
                    beside.software = beside.software.or(stamp(ts));
                }
            }
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                if let Some(info) = message.read::<libc::in_pktinfo>() {
                    // The kernel's choice of a source for the answer; it is the
                    // address asked, except for broadcast and multicast.
                    let spec = u32::from_be(info.ipi_spec_dst.s_addr);
                    let asked = u32::from_be(info.ipi_addr.s_addr);
                    let to = if spec != 0 { spec } else { asked };
                    beside.to = Some(IpAddr::V4(to.into()));
                    beside.group = asked != 0 && asked != to;
                    beside.interface = u32::try_from(info.ipi_ifindex).unwrap_or(0);
                }
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                if let Some(info) = message.read::<libc::in6_pktinfo>() {
                    let asked = Ipv6Addr::from(info.ipi6_addr.s6_addr);
                    beside.to = Some(IpAddr::V6(asked));
                    beside.group = asked.is_multicast();
                    // u32 on glibc, c_int elsewhere.
                    #[allow(clippy::unnecessary_cast)]
                    {
                        beside.interface = info.ipi6_ifindex as u32;
                    }
                }
            }
            (libc::IPPROTO_IP, libc::IP_RECVERR)
            | (libc::IPPROTO_IPV6, libc::IPV6_RECVERR)
            | (libc::SOL_PACKET, PACKET_TX_TIMESTAMP) => {
                if let Some(error) = message.read::<libc::sock_extended_err>() {
                    beside.error = Some(queued_error(&error));
                }
            }
            _ => {}
        }
    }
    beside
}

impl QueuedError {
    /// As an error to hand up, unless it only tells of a departure.
    pub fn into_io_error(self) -> Option<io::Error> {
        match self {
            Self::Departed { .. } => None,
            Self::Refused { errno } => Some(io::Error::from_raw_os_error(errno)),
        }
    }
}

fn queued_error(error: &libc::sock_extended_err) -> QueuedError {
    if error.ee_origin == libc::SO_EE_ORIGIN_TIMESTAMPING && error.ee_errno == libc::ENOMSG as u32 {
        QueuedError::Departed { id: error.ee_data }
    } else {
        QueuedError::Refused {
            errno: error.ee_errno as i32,
        }
    }
}

/// An empty slot is all zero.
fn stamp(ts: libc::timespec) -> Option<WallInstant> {
    (ts.tv_sec != 0 || ts.tv_nsec != 0).then(|| WallInstant::from_unix_ns(clock::nanos(ts)))
}

/// Header and `data` bytes, without the padding behind them.
fn cmsg_len(data: usize) -> usize {
    // SAFETY: pure arithmetic.
    unsafe { libc::CMSG_LEN(data as u32) as usize }
}

/// Header and `data` bytes and the padding up to the next header.
fn cmsg_space(data: usize) -> usize {
    // SAFETY: pure arithmetic.
    unsafe { libc::CMSG_SPACE(data as u32) as usize }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SLOTS: [libc::timespec; 3] = [
        libc::timespec {
            tv_sec: 1_700_000_000,
            tv_nsec: 7,
        },
        libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        },
        libc::timespec {
            tv_sec: 37,
            tv_nsec: 9,
        },
    ];

    fn arrival(buffer: &mut ControlBuffer) -> &[u8] {
        let mut encoder = Encoder::new(buffer.bytes_mut());
        encoder.push(libc::SOL_SOCKET, libc::SCM_TIMESTAMPING, SLOTS);
        encoder.push(
            libc::IPPROTO_IP,
            libc::IP_PKTINFO,
            libc::in_pktinfo {
                ipi_ifindex: 3,
                ipi_spec_dst: libc::in_addr {
                    s_addr: u32::from_be_bytes([192, 0, 2, 9]).to_be(),
                },
                ipi_addr: libc::in_addr {
                    s_addr: u32::from_be_bytes([192, 0, 2, 255]).to_be(),
                },
            },
        );
        encoder.finish()
    }

    #[test]
    fn stamps_and_the_address_asked_are_read() {
        let mut buffer = ControlBuffer::new();
        let beside = decode(arrival(&mut buffer));
        assert_eq!(
            beside,
            Beside {
                software: Some(WallInstant::from_unix_ns(1_700_000_000_000_000_007)),
                hardware: Some(PhcInstant::from_nanos(37_000_000_009)),
                card: None,
                to: Some("192.0.2.9".parse().unwrap()),
                group: true,
                interface: 3,
                error: None,
            }
        );
    }

    #[test]
    fn a_card_is_known_by_the_kernel_or_by_the_way_the_packet_came() {
        let mut buffer = ControlBuffer::new();
        let stamp = decode(arrival(&mut buffer)).card_stamp().unwrap();
        assert_eq!((stamp.interface, stamp.frame_len), (3, 0));
        let mut encoder = Encoder::new(buffer.bytes_mut());
        encoder.push(libc::SOL_SOCKET, libc::SCM_TIMESTAMPING, SLOTS);
        let told = TsPktinfo {
            interface: 7,
            frame_len: 90,
            reserved: [0; 2],
        };
        encoder.push(libc::SOL_SOCKET, SCM_TIMESTAMPING_PKTINFO, told);
        let stamp = decode(encoder.finish()).card_stamp().unwrap();
        assert_eq!((stamp.interface, stamp.frame_len), (7, 90));
        assert_eq!(stamp.phc.nanos(), 37_000_000_009);
    }

    #[test]
    fn a_departure_and_a_refusal_are_told_apart() {
        let error = |errno: i32, origin| libc::sock_extended_err {
            ee_errno: errno as u32,
            ee_origin: origin,
            ee_type: 0,
            ee_code: 0,
            ee_pad: 0,
            ee_info: 0,
            ee_data: 42,
        };
        let read = |level, kind, value| {
            let mut buffer = ControlBuffer::new();
            let mut encoder = Encoder::new(buffer.bytes_mut());
            encoder.push::<libc::sock_extended_err>(level, kind, value);
            decode(encoder.finish()).error.unwrap()
        };
        let departed = error(libc::ENOMSG, libc::SO_EE_ORIGIN_TIMESTAMPING);
        let refused = error(libc::ECONNREFUSED, libc::SO_EE_ORIGIN_ICMP6);
        let departed = read(libc::IPPROTO_IP, libc::IP_RECVERR, departed);
        let refused = read(libc::IPPROTO_IPV6, libc::IPV6_RECVERR, refused);
        assert_eq!(departed, QueuedError::Departed { id: 42 });
        assert!(departed.into_io_error().is_none());
        let refused = refused.into_io_error().unwrap();
        assert_eq!(refused.raw_os_error(), Some(libc::ECONNREFUSED));
    }

    /// The kernel cuts the last message to fit and says so in its length; a
    /// buffer may also end anywhere in a header.
    #[test]
    fn a_list_cut_anywhere_gives_what_is_whole() {
        let mut buffer = ControlBuffer::new();
        let whole = arrival(&mut buffer).to_vec();
        let stamps_end = cmsg_len(mem::size_of_val(&SLOTS));
        for end in 0..whole.len() {
            let beside = decode(&whole[..end]);
            assert_eq!(beside.software.is_some(), end >= stamps_end, "{end}");
            assert!(beside.error.is_none());
        }
    }

    proptest! {
        #[test]
        fn garbage_is_walked_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode(&bytes);
            prop_assert!(Messages::new(&bytes).count() <= bytes.len());
        }
    }
}

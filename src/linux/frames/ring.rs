//! A packet socket's receive ring (the kernel's Documentation/networking/
//! packet_mmap.rst, TPACKET_V2): the kernel writes frames where we read them.

use std::io;
use std::mem;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::linux::bpf::{self, Op};
use crate::linux::mapping::Mapping;
use crate::linux::ports::Event;
use crate::linux::socket::{self, check, set};

/// From linux/if_packet.h.
const PACKET_RX_RING: libc::c_int = 5;
const PACKET_STATISTICS: libc::c_int = 6;
const PACKET_VERSION: libc::c_int = 10;
const TPACKET_V2: libc::c_int = 1;
const TP_STATUS_KERNEL: u32 = 0;
const TP_STATUS_USER: u32 = 1;

/// Octets of a frame with its header in the ring: the longest answer that we look
/// at, IPv6 and a MAC behind it, has 134.
const SLOT_LEN: usize = 256;
/// Octets of a block.
const BLOCK_LEN: usize = 1 << 16;
const SLOTS_IN_BLOCK: usize = BLOCK_LEN / SLOT_LEN;

/// Which frames to take: UDP from one port of one address, to a range of ports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// The sender.
    pub from: IpAddr,
    /// Its port.
    pub from_port: u16,
    /// The first port of ours.
    pub to_first: u16,
    /// The last port of ours.
    pub to_last: u16,
}

/// `struct tpacket_req`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Request {
    block_size: u32,
    block_nr: u32,
    frame_size: u32,
    frame_nr: u32,
}

/// `struct tpacket2_hdr`.
#[repr(C)]
#[derive(Clone, Copy)]
struct SlotHeader {
    status: u32,
    len: u32,
    snaplen: u32,
    mac: u16,
    net: u16,
    sec: u32,
    nsec: u32,
    vlan_tci: u16,
    vlan_tpid: u16,
    padding: [u8; 4],
}

/// See the top of the file.
#[derive(Debug)]
pub struct ReceiveRing {
    fd: OwnedFd,
    memory: Mapping,
    slots: usize,
    next: usize,
}

impl ReceiveRing {
    /// Takes what is `wanted` from an interface, with room for `frames` of it or a few
    /// more. The kernel takes the time to make that room, and more to give it up.
    ///
    /// # Errors
    /// EPERM without CAP_NET_RAW, ENOMEM.
    pub fn open(interface: u32, wanted: &Wanted, frames: usize) -> io::Result<Self> {
        let socket = socket::open(libc::AF_PACKET, libc::SOCK_RAW)?;
        let fd = socket.as_raw_fd();
        // Before it is bound, so that nothing else ever comes in.
        filter(fd, wanted)?;
        set(fd, libc::SOL_PACKET, PACKET_VERSION, TPACKET_V2)?;
        // Stamps as early as they can be had, not when the frame is put in the ring.
        set(fd, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1)?;
        let blocks = frames.div_ceil(SLOTS_IN_BLOCK).max(1);
        let slots = blocks * SLOTS_IN_BLOCK;
        let request = Request {
            block_size: BLOCK_LEN as u32,
            block_nr: blocks as u32,
            frame_size: SLOT_LEN as u32,
            frame_nr: slots as u32,
        };
        set(fd, libc::SOL_PACKET, PACKET_RX_RING, request)?;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let memory = Mapping::shared(fd, slots * SLOT_LEN, 0, access)?;
        let ring = Self {
            fd: socket,
            memory,
            slots,
            next: 0,
        };
        let protocol = match wanted.from {
            IpAddr::V4(_) => libc::ETH_P_IP,
            IpAddr::V6(_) => libc::ETH_P_IPV6,
        };
        bind(fd, interface, protocol as u16)?;
        Ok(ring)
    }

    /// For waiting.
    pub fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Hands over all frames there are, a ring's length at most; true if there were
    /// any.
    pub fn drain(&mut self, each: &mut impl FnMut(Event<'_>)) -> bool {
        let mut any = false;
        for _ in 0..self.slots {
            let slot: *mut [u8; SLOT_LEN] = self.memory.at(self.next * SLOT_LEN);
            // SAFETY: a slot begins with its status, aligned; the kernel writes it too,
            // so it is looked at as an atomic.
            let status = unsafe { AtomicU32::from_ptr(slot.cast()) };
            if status.load(Ordering::Acquire) & TP_STATUS_USER == 0 {
                break;
            }
            // SAFETY: the status says that the slot is ours, header and frame written.
            let header = unsafe { ptr::read(slot.cast::<SlotHeader>()) };
            let start = usize::from(header.mac).min(SLOT_LEN);
            let len = (header.snaplen as usize).min(SLOT_LEN - start);
            // SAFETY: within the slot, and the kernel leaves it alone until the status
            // is set back.
            let payload = unsafe { std::slice::from_raw_parts(slot.cast::<u8>().add(start), len) };
            let at_ns = i64::from(header.sec) * 1_000_000_000 + i64::from(header.nsec);
            each(Event::Arrived { payload, at_ns });
            status.store(TP_STATUS_KERNEL, Ordering::Release);
            self.next = (self.next + 1) % self.slots;
            any = true;
        }
        any
    }

    /// How many frames found no room since the last call.
    pub fn overrun(&mut self) -> u64 {
        // `struct tpacket_stats`: packets, drops.
        let mut counts = [0_u32; 2];
        let mut len = size_of_val(&counts) as libc::socklen_t;
        // SAFETY: room for the two numbers, and `len` says so.
        let result = unsafe {
            libc::getsockopt(
                self.fd(),
                libc::SOL_PACKET,
                PACKET_STATISTICS,
                counts.as_mut_ptr().cast(),
                &mut len,
            )
        };
        check(result).map_or(0, |_| u64::from(counts[1]))
    }
}

/// Binds a packet socket to an interface and a protocol (host order).
pub(super) fn bind(fd: RawFd, interface: u32, protocol: u16) -> io::Result<()> {
    // SAFETY: an all-zero sockaddr_ll is valid.
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    address.sll_family = libc::AF_PACKET as libc::c_ushort;
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = interface as libc::c_int;
    // SAFETY: `address` is a sockaddr_ll of the length stated.
    check(unsafe {
        libc::bind(
            fd,
            (&raw const address).cast(),
            mem::size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    })?;
    Ok(())
}

/// Attaches a classic BPF program that takes what is wanted. No fragments and no
/// extension headers: NTP has none.
fn filter(fd: RawFd, wanted: &Wanted) -> io::Result<()> {
    bpf::attach(fd, libc::SO_ATTACH_FILTER, &program(wanted))
}

fn program(wanted: &Wanted) -> Vec<Op> {
    let (byte, half, word) = (libc::BPF_B, libc::BPF_H, libc::BPF_W);
    // (width, offset in the frame, value). Offsets as RFC 791 and RFC 8200 have them,
    // 14 octets of Ethernet before.
    let udp = libc::IPPROTO_UDP as u32;
    let (mut equal, ports) = match wanted.from {
        IpAddr::V4(from) => (
            vec![
                (byte, 14, 0x45),
                (byte, 23, udp),
                (word, 26, u32::from(from)),
            ],
            34,
        ),
        IpAddr::V6(from) => {
            let mut equal = vec![(byte, 20, udp)];
            let words = from.octets();
            for n in 0..4 {
                let octets = words[4 * n..4 * n + 4].try_into().expect("four octets");
                equal.push((word, 22 + 4 * n as u32, u32::from_be_bytes(octets)));
            }
            (equal, 54)
        }
    };
    equal.push((half, ports, wanted.from_port.into()));
    // Each test that fails jumps to the end: past the tests that follow (two
    // instructions each), the range (three) and the acceptance.
    let mut program = Vec::new();
    for (n, &(width, offset, value)) in equal.iter().enumerate() {
        let rest = (2 * (equal.len() - n - 1) + 3 + 1) as u8;
        program.push(bpf::load(width, offset));
        program.push(bpf::jump(libc::BPF_JEQ, value, 0, rest));
    }
    program.push(bpf::load(half, ports + 2));
    program.push(bpf::jump(libc::BPF_JGE, wanted.to_first.into(), 0, 2));
    program.push(bpf::jump(libc::BPF_JGT, wanted.to_last.into(), 1, 0));
    program.push(bpf::accept());
    program.push(bpf::refuse());
    program
}

//! Sending by AF_XDP in copy mode (the kernel's Documentation/networking/
//! af_xdp.rst): frames are written where the kernel reads them, and one call sends
//! what is there. Works on any interface; no program is loaded, nothing received.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::linux::mapping::Mapping;
use crate::linux::ports::DATAGRAM_LEN_MAX;
use crate::linux::socket::{self, check, set};

/// Octets of a frame's place; the least the kernel takes.
const CHUNK_LEN: usize = 2048;
/// Frames that may be on their way.
const CHUNKS: usize = 2048;
/// Calls that one flush makes; each sends 32 frames or so.
const CALLS_MAX: usize = 64;
/// A queue that another socket had a moment ago is free again after some milliseconds:
/// the kernel lets go of it in its own time.
const BUSY_RETRIES: usize = 50;

/// A ring shared with the kernel: we write one end of it.
#[derive(Debug)]
struct Ring {
    mapping: Mapping,
    offset: libc::xdp_ring_offset,
    mask: u32,
}

impl Ring {
    fn producer(&self) -> &AtomicU32 {
        // SAFETY: the kernel says that an aligned u32 lies there, which both sides use
        // as an atomic; it lives as long as the mapping.
        unsafe { AtomicU32::from_ptr(self.mapping.at(self.offset.producer as usize)) }
    }

    fn consumer(&self) -> &AtomicU32 {
        // SAFETY: as above.
        unsafe { AtomicU32::from_ptr(self.mapping.at(self.offset.consumer as usize)) }
    }

    fn slot<T>(&self, index: u32) -> *mut T {
        let n = (index & self.mask) as usize;
        self.mapping
            .at(self.offset.desc as usize + n * size_of::<T>())
    }
}

/// See the top of the file.
#[derive(Debug)]
pub struct TransmitRing {
    // Before the memory that it uses.
    fd: OwnedFd,
    transmit: Ring,
    completed: Ring,
    memory: Mapping,
    /// Places that are ours to write to.
    free: Vec<u64>,
}

impl TransmitRing {
    /// Opens a queue of an interface.
    ///
    /// # Errors
    /// EAFNOSUPPORT on a kernel without AF_XDP, EPERM, EBUSY or EINVAL for a queue that
    /// is taken or not there.
    pub fn open(interface: u32, queue: u32) -> io::Result<Self> {
        let socket = socket::open(libc::AF_XDP, libc::SOCK_RAW)?;
        let fd = socket.as_raw_fd();
        let memory = Mapping::anonymous(CHUNKS * CHUNK_LEN)?;
        // SAFETY: plain integers.
        let mut region: libc::xdp_umem_reg = unsafe { mem::zeroed() };
        region.addr = memory.start::<u8>() as u64;
        region.len = memory.len() as u64;
        region.chunk_size = CHUNK_LEN as u32;
        set(fd, libc::SOL_XDP, libc::XDP_UMEM_REG, region)?;
        // The fill ring stays empty, but there has to be one.
        for (option, len) in [
            (libc::XDP_UMEM_FILL_RING, 64),
            (libc::XDP_UMEM_COMPLETION_RING, CHUNKS as u32),
            (libc::XDP_TX_RING, CHUNKS as u32),
        ] {
            set(fd, libc::SOL_XDP, option, len)?;
        }
        let offsets = offsets(fd)?;
        let ring = |offset: libc::xdp_ring_offset, entry: usize, page: libc::off_t| {
            let len = offset.desc as usize + CHUNKS * entry;
            let access = libc::PROT_READ | libc::PROT_WRITE;
            io::Result::Ok(Ring {
                mapping: Mapping::shared(fd, len, page, access)?,
                offset,
                mask: CHUNKS as u32 - 1,
            })
        };
        let transmit = ring(
            offsets.tx,
            size_of::<libc::xdp_desc>(),
            libc::XDP_PGOFF_TX_RING,
        )?;
        let completed = ring(
            offsets.cr,
            size_of::<u64>(),
            libc::XDP_UMEM_PGOFF_COMPLETION_RING as libc::off_t,
        )?;
        bind(fd, interface, queue)?;
        Ok(Self {
            fd: socket,
            transmit,
            completed,
            memory,
            free: (0..CHUNKS as u64).map(|n| n * CHUNK_LEN as u64).collect(),
        })
    }

    /// Is there a place for another frame?
    pub fn has_room(&mut self) -> bool {
        if self.free.is_empty() {
            self.reclaim();
        }
        !self.free.is_empty()
    }

    /// Adds a frame that `write` writes; nothing if there is no room. Places and ring
    /// entries are as many, so that who has the one has the other.
    pub fn stage(&mut self, write: impl FnOnce(&mut [u8; DATAGRAM_LEN_MAX]) -> usize) {
        let Some(place) = self.free.pop() else {
            return;
        };
        let frame = self.memory.at::<[u8; DATAGRAM_LEN_MAX]>(place as usize);
        // SAFETY: within the memory, and this place is ours until it is sent.
        let len = write(unsafe { &mut *frame });
        let producer = self.transmit.producer();
        let index = producer.load(Ordering::Relaxed);
        let slot = self.transmit.slot::<libc::xdp_desc>(index);
        let entry = libc::xdp_desc {
            addr: place,
            len: len.min(DATAGRAM_LEN_MAX) as u32,
            options: 0,
        };
        // SAFETY: within the ring; the kernel does not read it before the index moves.
        unsafe { ptr::write(slot, entry) };
        producer.store(index.wrapping_add(1), Ordering::Release);
    }

    /// Makes the kernel send what was staged. What it does not take now, it does at
    /// the next call.
    ///
    /// # Errors
    /// ENETDOWN, ENXIO: the interface went away.
    pub fn flush(&mut self) -> io::Result<()> {
        for _ in 0..CALLS_MAX {
            let staged = self.transmit.producer().load(Ordering::Relaxed);
            if self.transmit.consumer().load(Ordering::Acquire) == staged {
                break;
            }
            // SAFETY: no data and no address.
            let result = unsafe {
                libc::sendto(
                    self.fd.as_raw_fd(),
                    ptr::null(),
                    0,
                    libc::MSG_DONTWAIT,
                    ptr::null(),
                    0,
                )
            };
            if let Err(error) = check(result as libc::c_int) {
                match error.raw_os_error() {
                    Some(libc::EAGAIN | libc::EINTR | libc::EBUSY | libc::ENOBUFS) => {}
                    _ => return Err(error),
                }
            }
        }
        self.reclaim();
        Ok(())
    }

    /// Takes back the places of frames that are gone.
    fn reclaim(&mut self) {
        let end = self.completed.producer().load(Ordering::Acquire);
        let mut index = self.completed.consumer().load(Ordering::Relaxed);
        while index != end {
            // SAFETY: within the ring, and written before the kernel moved its index.
            let place = unsafe { ptr::read(self.completed.slot::<u64>(index)) };
            self.free.push(place);
            index = index.wrapping_add(1);
        }
        self.completed.consumer().store(index, Ordering::Release);
    }
}

fn offsets(fd: RawFd) -> io::Result<libc::xdp_mmap_offsets> {
    // SAFETY: plain integers.
    let mut offsets: libc::xdp_mmap_offsets = unsafe { mem::zeroed() };
    let mut len = size_of::<libc::xdp_mmap_offsets>() as libc::socklen_t;
    // SAFETY: room for the struct, and `len` says so.
    check(unsafe {
        libc::getsockopt(
            fd,
            libc::SOL_XDP,
            libc::XDP_MMAP_OFFSETS,
            (&raw mut offsets).cast(),
            &mut len,
        )
    })?;
    Ok(offsets)
}

fn bind(fd: RawFd, interface: u32, queue: u32) -> io::Result<()> {
    // SAFETY: plain integers.
    let mut address: libc::sockaddr_xdp = unsafe { mem::zeroed() };
    address.sxdp_family = libc::AF_XDP as u16;
    address.sxdp_flags = libc::XDP_COPY;
    address.sxdp_ifindex = interface;
    address.sxdp_queue_id = queue;
    let len = size_of::<libc::sockaddr_xdp>() as libc::socklen_t;
    let mut tries = 0;
    loop {
        // SAFETY: `address` is a sockaddr_xdp of the length stated.
        match check(unsafe { libc::bind(fd, (&raw const address).cast(), len) }) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && tries < BUSY_RETRIES => {
                tries += 1;
                std::thread::sleep(Duration::from_millis(10));
            }
            result => return result.map(drop),
        }
    }
}

//! A ring of provided buffers (io_uring_register_buf_ring(3)): memory the kernel
//! takes from when a packet arrives and we give back when it was answered.

use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

use crate::linux::mapping::Mapping;

/// The one buffer group of a worker's ring.
pub(super) const GROUP: u16 = 0;

/// A buffer the kernel filled and we have not given back. Not Copy: as long as
/// it exists the kernel doesn't write there.
#[derive(Debug)]
pub(super) struct Buffer {
    id: u16,
}

/// The buffers, and the queue through which the kernel gets them.
pub(super) struct BufferRing {
    queue: Mapping,
    /// Shared with the kernel and nobody else.
    memory: Mapping,
    count: u16,
    buffer_len: usize,
    tail: u16,
    /// How many the kernel has taken from the queue, as far as we were told.
    head: u16,
}

impl BufferRing {
    /// `count` buffers (a power of two, at most 32768) of `buffer_len` octets, all of
    /// them in the queue.
    pub(super) fn new(count: u16, buffer_len: usize) -> io::Result<Self> {
        assert!(count.is_power_of_two() && count <= 1 << 15);
        let mut ring = Self {
            queue: Mapping::anonymous(usize::from(count) * size_of::<BufRingEntry>())?,
            memory: Mapping::anonymous(usize::from(count) * buffer_len)?,
            count,
            buffer_len,
            tail: 0,
            head: 0,
        };
        for id in 0..count {
            ring.give_back(Buffer { id });
        }
        Ok(ring)
    }

    /// Makes the queue known to the kernel.
    ///
    /// # Safety
    /// `self` must not be dropped before the ring is gone or the group was
    /// unregistered, and no request that uses the group is left.
    pub(super) unsafe fn register(&self, submitter: &Submitter<'_>) -> io::Result<()> {
        let queue = self.queue.start::<BufRingEntry>() as u64;
        // SAFETY: the queue is page-aligned, has `count` entries, and the caller
        // promises that it stays.
        unsafe { submitter.register_buf_ring_with_flags(queue, self.count, GROUP, 0) }
    }

    /// The buffer that a completion names.
    pub(super) fn take(&mut self, name: u16) -> Buffer {
        self.head = self.head.wrapping_add(1);
        Buffer {
            id: name & (self.count - 1),
        }
    }

    /// Is it the turn of this buffer? The kernel takes them in the order in which
    /// they were given, and tells so in nearly that order.
    pub(super) fn is_next(&self, name: u16) -> bool {
        let index = usize::from(self.head & (self.count - 1));
        // SAFETY: `index` is in range, and only we write entries. The kernel owns the
        // buffer and not the entry, which we rewrite once the buffer was given back.
        let entry = unsafe { &*self.queue.start::<BufRingEntry>().add(index) };
        entry.bid() == name
    }

    /// The first `len` octets of a buffer, or as many as it has.
    pub(super) fn bytes(&self, buffer: &Buffer, len: usize) -> &[u8] {
        let at = usize::from(buffer.id) * self.buffer_len;
        // SAFETY: the range lies in `memory`, which was zeroed at birth and lives as
        // long as `self`. A `Buffer` exists only while the kernel doesn't own the range.
        unsafe {
            std::slice::from_raw_parts(self.memory.start::<u8>().add(at), len.min(self.buffer_len))
        }
    }

    /// Lets the kernel fill the buffer again.
    pub(super) fn give_back(&mut self, buffer: Buffer) {
        let at = usize::from(buffer.id) * self.buffer_len;
        let index = usize::from(self.tail & (self.count - 1));
        let queue = self.queue.start::<BufRingEntry>();
        // SAFETY: `at` and `index` are in range. The entry is ours: there are as many
        // entries as buffers, and this buffer was not in the queue. The kernel sees
        // the entry only after the tail was published. Setting the fields leaves
        // `resv`, which is the tail in entry 0, alone.
        unsafe {
            let entry = &mut *queue.add(index);
            entry.set_addr(self.memory.start::<u8>().add(at) as u64);
            entry.set_len(self.buffer_len as u32);
            // With the round in the upper bits, so that it has another name each time.
            entry.set_bid(self.tail & !(self.count - 1) | buffer.id);
        }
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the tail lies in entry 0 of the mapped queue and is aligned for u16.
        // The kernel only reads it.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(queue).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}

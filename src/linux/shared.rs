//! Words that some write and others may only read: one memory, mapped twice, so that
//! whoever has but the second mapping can't write, by accident or bug, without a fault.

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering, fence};

use crate::linux::mapping::Mapping;
use crate::linux::socket::check;

// Narrower machines load 8 octets in ways that may write.
const _: () = assert!(cfg!(target_pointer_width = "64"));

/// MFD_NOEXEC_SEAL of linux/memfd.h, since 6.3: hosts may allow no other kind
/// (sysctl vm.memfd_noexec=2).
const NOEXEC: libc::c_uint = 0x8;

/// A number of words, all zero at first.
pub struct SharedWords {
    writable: Mapping,
    /// None where the same memory can't be mapped twice.
    readable: Option<Mapping>,
    count: usize,
}

impl SharedWords {
    /// Makes them; page-aligned, so that nothing else is beside them. Where
    /// memfd_create(2) is denied or missing, readers share the one mapping of those who
    /// write; [`is_guarded`](Self::is_guarded) tells.
    ///
    /// # Errors
    /// What mmap(2) says: ENOMEM.
    pub fn new(count: usize) -> io::Result<Self> {
        Self::guarded(count).or_else(|_| Self::unguarded(count))
    }

    fn guarded(count: usize) -> io::Result<Self> {
        let len = count * size_of::<AtomicU64>();
        let fd = memory_file()?;
        // SAFETY: ftruncate takes no pointers.
        check(unsafe { libc::ftruncate(fd.as_raw_fd(), len as libc::off_t) })?;
        let map = |access| Mapping::shared(fd.as_raw_fd(), len, 0, access);
        Ok(Self {
            writable: map(libc::PROT_READ | libc::PROT_WRITE)?,
            readable: Some(map(libc::PROT_READ)?),
            count,
        })
    }

    fn unguarded(count: usize) -> io::Result<Self> {
        Ok(Self {
            writable: Mapping::anonymous(count * size_of::<AtomicU64>())?,
            readable: None,
            count,
        })
    }

    /// Would a write by a reader fault?
    pub fn is_guarded(&self) -> bool {
        self.readable.is_some()
    }

    /// For those who write.
    pub fn writer(&self) -> &[AtomicU64] {
        let start = self.writable.start();
        // SAFETY: the mapping is page-aligned, has room for `count` words, was zeroed
        // by the kernel, lives as long as `self`, and is only used as atomics.
        unsafe { std::slice::from_raw_parts(start, self.count) }
    }

    /// A word, for those who read. Ordered as `Relaxed`: put a fence beside it.
    ///
    /// # Panics
    /// If there is no such word.
    pub fn load(&self, index: usize) -> u64 {
        assert!(index < self.count);
        let mapping = self.readable.as_ref().unwrap_or(&self.writable);
        let start = mapping.start::<AtomicU64>();
        // SAFETY: as above, and the index is in range. A relaxed load of 8 octets is
        // one that std::sync::atomic allows on read-only memory of a 64-bit machine.
        unsafe { &*start.add(index) }.load(Ordering::Relaxed)
    }
}

/// Replaces the words after the first of `all`, which is the sequence of a sequence lock,
/// odd while they change. Meant for one thread; a second one at the same moment waits for
/// the first.
///
/// # Panics
/// If there are not as many `new` ones.
pub fn publish(all: &[AtomicU64], new: &[u64]) {
    let (sequence, words) = all.split_first().expect("the sequence");
    assert_eq!(words.len(), new.len());
    let mut seen = sequence.load(Ordering::Relaxed);
    let even = loop {
        let even = seen & !1;
        let claimed =
            sequence.compare_exchange_weak(even, even + 1, Ordering::Acquire, Ordering::Relaxed);
        match claimed {
            Ok(even) => break even,
            Err(other) => seen = other,
        }
        std::hint::spin_loop();
    };
    // Whoever reads one of the new words also reads an odd or newer sequence.
    fence(Ordering::Release);
    for (word, value) in words.iter().zip(new) {
        word.store(*value, Ordering::Relaxed);
    }
    sequence.store(even + 2, Ordering::Release);
}

fn memory_file() -> io::Result<OwnedFd> {
    let open = |flags| {
        // SAFETY: the name is a terminated string.
        check(unsafe { libc::memfd_create(c"ptntp".as_ptr(), libc::MFD_CLOEXEC | flags) })
    };
    let fd = open(NOEXEC).or_else(|_| open(0))?;
    // SAFETY: `fd` was just opened and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

impl fmt::Debug for SharedWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.writer()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::sealed::write_faults;

    #[test]
    fn what_is_written_is_read_through_the_other_mapping() {
        let guarded = SharedWords::new(600).expect("words");
        assert!(guarded.is_guarded());
        let unguarded = SharedWords::unguarded(600).expect("words");
        assert!(!unguarded.is_guarded());
        for words in [guarded, unguarded] {
            assert!((0..600).all(|index| words.load(index) == 0));
            for (index, word) in words.writer().iter().enumerate() {
                word.store(index as u64 + 1, Ordering::Relaxed);
            }
            assert!((0..600).all(|index| words.load(index) == index as u64 + 1));
        }
    }

    #[test]
    fn a_write_through_the_readers_mapping_faults() {
        let words = SharedWords::new(1).expect("words");
        let readable = words.readable.as_ref().expect("a second mapping");
        let start = readable.start::<u64>();
        assert!(write_faults(start));
        assert_eq!(words.load(0), 0);
    }
}

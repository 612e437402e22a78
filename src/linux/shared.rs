//! Words that some write and others may only read: one memory, mapped twice, so that
//! whoever has but the second mapping can't write, by accident or bug, without a fault.

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::linux::mapping::Mapping;
use crate::linux::socket::check;

// Narrower machines load 8 octets in ways that may write.
const _: () = assert!(cfg!(target_pointer_width = "64"));

/// A number of words, all zero at first.
pub struct SharedWords {
    writable: Mapping,
    readable: Mapping,
    count: usize,
}

impl SharedWords {
    /// Makes them; page-aligned, so that nothing else is beside them.
    ///
    /// # Errors
    /// What memfd_create(2), ftruncate(2) or mmap(2) say.
    pub fn new(count: usize) -> io::Result<Self> {
        let len = count * size_of::<AtomicU64>();
        // SAFETY: the name is a terminated string.
        let fd = check(unsafe { libc::memfd_create(c"ptntp".as_ptr(), libc::MFD_CLOEXEC) })?;
        // SAFETY: `fd` was just opened and nobody else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: ftruncate takes no pointers.
        check(unsafe { libc::ftruncate(fd.as_raw_fd(), len as libc::off_t) })?;
        Ok(Self {
            writable: Mapping::shared(fd.as_raw_fd(), len, 0, libc::PROT_READ | libc::PROT_WRITE)?,
            readable: Mapping::shared(fd.as_raw_fd(), len, 0, libc::PROT_READ)?,
            count,
        })
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
        let start = self.readable.start::<AtomicU64>();
        // SAFETY: as above, and the index is in range. A relaxed load of 8 octets is
        // one that std::sync::atomic allows on read-only memory of a 64-bit machine.
        unsafe { &*start.add(index) }.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for SharedWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.writer()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_through_the_other_mapping() {
        let words = SharedWords::new(600).expect("words");
        assert!((0..600).all(|index| words.load(index) == 0));
        for (index, word) in words.writer().iter().enumerate() {
            word.store(index as u64 + 1, Ordering::Relaxed);
        }
        assert!((0..600).all(|index| words.load(index) == index as u64 + 1));
    }

    /// A child tries, and the fault ends it.
    #[test]
    fn a_write_through_the_readers_mapping_faults() {
        let words = SharedWords::new(1).expect("words");
        let start = words.readable.start::<u64>();
        // SAFETY: the child makes no call but _exit, and the write it tries harms
        // nobody: it either faults or goes to memory of its own.
        let child = unsafe {
            let child = libc::fork();
            if child == 0 {
                libc::signal(libc::SIGSEGV, libc::SIG_DFL);
                start.write_volatile(1);
                libc::_exit(0);
            }
            child
        };
        assert!(child > 0);
        let mut status = 0;
        // SAFETY: `status` is writable.
        let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
        assert_eq!(waited, child);
        assert!(libc::WIFSIGNALED(status));
        assert_eq!(libc::WTERMSIG(status), libc::SIGSEGV);
        assert_eq!(words.load(0), 0);
    }
}

//! Memory from mmap(2), for what the kernel and we share, or several of us: whole and
//! in its place until its value is dropped.

use std::io;
use std::os::fd::RawFd;
use std::ptr::{self, NonNull};

/// One mapping. Hands out addresses and not references: who borrows from it knows what
/// lies there, and who else looks at it.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: a mapping belongs to the process, not to a thread.
unsafe impl Send for Mapping {}
// SAFETY: nothing is read or written through it, only its place is told.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// `len` octets of our own, zero at first, to read and write. Present at once, so
    /// that no packet waits for a page.
    pub(crate) fn anonymous(len: usize) -> io::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        Self::new(-1, len, 0, libc::PROT_READ | libc::PROT_WRITE, flags)
    }

    /// `len` octets from `offset` on of what `fd` stands for, shared with whoever else
    /// maps it, for uses that `protection` (PROT_READ and the like) allows. It stays
    /// when `fd` is closed.
    pub(crate) fn shared(
        fd: RawFd,
        len: usize,
        offset: libc::off_t,
        protection: libc::c_int,
    ) -> io::Result<Self> {
        Self::new(fd, len, offset, protection, libc::MAP_SHARED)
    }

    fn new(
        fd: RawFd,
        len: usize,
        offset: libc::off_t,
        protection: libc::c_int,
        flags: libc::c_int,
    ) -> io::Result<Self> {
        let anywhere = ptr::null_mut();
        let flags = flags | libc::MAP_POPULATE;
        // SAFETY: a mapping at a place of the kernel's choice touches no memory of ours.
        let start = unsafe { libc::mmap(anywhere, len, protection, flags, fd, offset) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).expect("mmap never maps page zero for us");
        Ok(Self { start, len })
    }

    /// In octets.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Where it begins, at a page.
    pub(crate) fn start<T>(&self) -> *mut T {
        self.start.as_ptr().cast()
    }

    /// The address of a `T` at `offset`, which is within the mapping. Not necessarily
    /// aligned.
    ///
    /// # Panics
    /// If it is not within.
    pub(crate) fn at<T>(&self, offset: usize) -> *mut T {
        let end = offset.checked_add(size_of::<T>());
        assert!(end.is_some_and(|end| end <= self.len), "within the mapping");
        // SAFETY: within the mapping, as just checked.
        unsafe { self.start.add(offset) }.as_ptr().cast()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, whole; borrows from it end with its owner.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

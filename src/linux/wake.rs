//! Waking another thread's wait. For the `uring` backend: with `--io poll` there is
//! one thread, and nobody to wake it.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;

/// A handle that makes its descriptor readable, from any thread.
#[derive(Clone, Debug)]
pub struct Wake(Arc<OwnedFd>);

impl Wake {
    /// An eventfd(2), non-blocking.
    ///
    /// # Errors
    /// What eventfd(2) says: EMFILE, ENOMEM.
    pub fn new() -> io::Result<Self> {
        // SAFETY: eventfd takes no pointers.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` was just opened and nobody else owns it.
        Ok(Self(Arc::new(unsafe { OwnedFd::from_raw_fd(fd) })))
    }

    /// Wakes the waiter, now or at its next wait. Many calls before that are one.
    pub fn wake(&self) {
        let one: u64 = 1;
        // SAFETY: eight readable bytes. EAGAIN (the counter is full) means that it
        // is readable already, and nothing else can fail.
        let _ = unsafe { libc::write(self.fd(), (&raw const one).cast(), 8) };
    }

    /// Takes note of all calls so far; true if there were any.
    pub fn clear(&self) -> bool {
        let mut count: u64 = 0;
        // SAFETY: eight writable bytes.
        let result = unsafe { libc::read(self.fd(), (&raw mut count).cast(), 8) };
        result == 8
    }

    /// To wait for, for reading.
    pub fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

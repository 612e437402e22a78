//! Waiting for many sockets at once, to the nanosecond (epoll(7)).

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use crate::linux::socket::check;

/// Events in one wait; more come with the next.
const EVENTS_MAX: usize = 64;

/// A set of descriptors, and what the last wait said of them.
#[derive(Debug)]
pub(crate) struct Epoll {
    fd: OwnedFd,
    ready: Box<[libc::epoll_event; EVENTS_MAX]>,
}

/// A descriptor that is ready.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ready {
    /// As given to [`Epoll::watch`].
    pub(crate) token: u64,
    /// It has errors, or stamps of departures.
    pub(crate) error: bool,
}

impl Epoll {
    /// An empty set.
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: no pointers.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        Ok(Self {
            // SAFETY: just opened and nobody else owns it.
            fd: unsafe { OwnedFd::from_raw_fd(fd) },
            ready: Box::new([libc::epoll_event { events: 0, u64: 0 }; EVENTS_MAX]),
        })
    }

    /// Readiness to read, and errors, come with `token`.
    pub(crate) fn watch(&self, fd: RawFd, token: u64) -> io::Result<()> {
        let mut event = libc::epoll_event {
            events: libc::EPOLLIN as u32,
            u64: token,
        };
        let epoll = self.fd.as_raw_fd();
        // SAFETY: `event` is valid for the length of the call.
        check(unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &mut event) })?;
        Ok(())
    }

    /// Waits until something is ready; how many [`ready`](Self::ready) has then. An
    /// interrupted wait has none.
    ///
    /// # Errors
    /// What epoll_pwait2(2) says: ENOSYS before Linux 5.11.
    pub(crate) fn wait(&mut self, patience_ns: i64) -> io::Result<usize> {
        let patience = libc::timespec {
            tv_sec: patience_ns / 1_000_000_000,
            tv_nsec: patience_ns % 1_000_000_000,
        };
        // By number, as older C libraries lack the function.
        // SAFETY: room for the events, a valid timespec, no signal mask.
        let count = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.fd.as_raw_fd(),
                self.ready.as_mut_ptr(),
                EVENTS_MAX as libc::c_int,
                &raw const patience,
                std::ptr::null::<libc::sigset_t>(),
                0_usize,
            )
        };
        match check(count as libc::c_int) {
            Ok(count) => Ok(count as usize),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// The n-th that the last wait found, from 0.
    pub(crate) fn ready(&self, n: usize) -> Ready {
        let event = self.ready[n];
        Ready {
            token: event.u64,
            error: event.events & libc::EPOLLERR as u32 != 0,
        }
    }
}

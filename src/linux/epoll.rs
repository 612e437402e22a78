//! Waiting for many sockets at once, to the nanosecond (epoll(7)).

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::linux::socket::check;

/// epoll_pwait2(2) came with Linux 5.11, and some sandboxes don't let it through: it was
/// tried in vain.
static COARSE: AtomicBool = AtomicBool::new(false);

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
    /// interrupted wait has none. Where waits can't be told in nanoseconds, they end up
    /// to a millisecond early.
    ///
    /// # Errors
    /// None is expected of an open set.
    pub(crate) fn wait(&mut self, patience_ns: i64) -> io::Result<usize> {
        let mut coarse = COARSE.load(Ordering::Relaxed);
        let mut result = Ok(0);
        if !coarse {
            result = self.wait_finely(patience_ns);
            if let Err(error) = &result {
                coarse = matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM));
                COARSE.fetch_or(coarse, Ordering::Relaxed);
            }
        }
        if coarse {
            result = self.wait_coarsely(patience_ns);
        }
        match result {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            other => other,
        }
    }

    /// In milliseconds: rather early than late, because who is early waits for the rest
    /// by looking at the clock.
    fn wait_coarsely(&mut self, patience_ns: i64) -> io::Result<usize> {
        let patience_ms = (patience_ns / 1_000_000).min(i64::from(libc::c_int::MAX));
        // SAFETY: room for as many events as stated.
        let count = check(unsafe {
            libc::epoll_wait(
                self.fd.as_raw_fd(),
                self.ready.as_mut_ptr(),
                EVENTS_MAX as libc::c_int,
                patience_ms as libc::c_int,
            )
        })?;
        Ok(count as usize)
    }

    fn wait_finely(&mut self, patience_ns: i64) -> io::Result<usize> {
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
        check(count as libc::c_int).map(|count| count as usize)
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

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn an_older_kernel_waits_in_milliseconds() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut epoll = Epoll::new().unwrap();
        epoll.watch(socket.as_raw_fd(), 7).unwrap();
        let waits = [Epoll::wait_coarsely, Epoll::wait_finely];
        for wait in waits {
            assert_eq!(wait(&mut epoll, 999_999).unwrap(), 0);
        }
        let to = socket.local_addr().unwrap();
        socket.send_to(b"!", to).unwrap();
        for wait in waits {
            assert_eq!(wait(&mut epoll, 10_000_000_000).unwrap(), 1);
            assert_eq!(epoll.ready(0).token, 7);
        }
    }
}

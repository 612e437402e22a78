//! Signals as flags. A handler sets one, and the wait it interrupts ends.
//!
//! No signalfd and no thread, so that it also works in one thread inside a clock
//! simulator.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

/// What someone asked of the process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Signal {
    /// SIGTERM or SIGINT: end cleanly.
    Stop,
    /// SIGHUP: read the configuration again.
    Reload,
}

static STOP: AtomicBool = AtomicBool::new(false);
static RELOAD: AtomicBool = AtomicBool::new(false);
/// The writing end of the self-pipe, or -1.
static PIPE: AtomicI32 = AtomicI32::new(-1);

/// The signals that [`Signals`] catches.
const CAUGHT: [libc::c_int; 3] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP];

/// Of [`interrupt`]: nobody else has a use for it, and who does not catch it ignores it.
const INTERRUPT: libc::c_int = libc::SIGURG;

/// The handlers, installed. They stay for the life of the process.
#[derive(Debug)]
pub struct Signals {
    reader: Option<OwnedFd>,
}

impl Signals {
    /// Catches SIGTERM, SIGINT and SIGHUP, and ignores SIGPIPE.
    ///
    /// With `pipe`, a signal also makes [`fd`](Self::fd) readable, which closes the
    /// moment between looking at the flags and waiting. Without it (in simulators,
    /// where a foreign descriptor is always ready) the wait must be short, as a
    /// signal in that moment is seen only after it.
    ///
    /// # Errors
    /// What pipe2(2) and sigaction(2) say.
    pub fn install(pipe: bool) -> io::Result<Self> {
        let reader = if pipe { Some(self_pipe()?) } else { None };
        for signal in CAUGHT {
            set_handler(signal, handler as *const () as libc::sighandler_t)?;
        }
        set_handler(libc::SIGPIPE, libc::SIG_IGN)?;
        Ok(Self { reader })
    }

    /// What was asked since the last call. Stop comes first. Several signals of a
    /// kind are one.
    pub fn take(&self) -> Option<Signal> {
        if let Some(reader) = &self.reader {
            let mut bytes = [0_u8; 64];
            // SAFETY: `bytes` is writable for its length. The pipe is non-blocking,
            // and empty is as good as read.
            let _ = unsafe { libc::read(reader.as_raw_fd(), bytes.as_mut_ptr().cast(), 64) };
        }
        // After the pipe: a signal in between makes it readable again.
        if STOP.swap(false, Ordering::SeqCst) {
            Some(Signal::Stop)
        } else if RELOAD.swap(false, Ordering::SeqCst) {
            Some(Signal::Reload)
        } else {
            None
        }
    }

    /// To wait for, for reading, if there is a self-pipe. Call
    /// [`take`](Self::take) until `None` when it is ready.
    pub fn fd(&self) -> Option<RawFd> {
        self.reader.as_ref().map(AsRawFd::as_raw_fd)
    }
}

/// Keeps the signals of [`Signals`] from this thread and those it will start, so
/// that they interrupt the time loop's wait and no other.
///
/// # Errors
/// What pthread_sigmask(3) says.
pub fn block_in_this_thread() -> io::Result<()> {
    // SAFETY: sigset_t is plain bytes, made valid by sigemptyset before it is
    // used; all pointers are to this live local.
    let result = unsafe {
        let mut set: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&mut set);
        for signal in CAUGHT {
            libc::sigaddset(&mut set, signal);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut())
    };
    if result != 0 {
        return Err(io::Error::from_raw_os_error(result));
    }
    Ok(())
}

/// Makes [`interrupt`] end whatever system call a thread is in (EINTR), and nothing more.
///
/// # Errors
/// What sigaction(2) says.
pub fn make_interruptible() -> io::Result<()> {
    set_handler(INTERRUPT, ignore as *const () as libc::sighandler_t)
}

/// The calling thread, for [`interrupt`].
pub fn this_thread() -> i32 {
    // SAFETY: no pointers, and it can't fail.
    unsafe { libc::gettid() }
}

/// Ends the system call that a thread of this process is in, if it is in one: who wants
/// it ended does this until it is. Does nothing to a thread that has ended.
pub fn interrupt(thread: i32) {
    // SAFETY: no pointers; at worst there is no such thread. The signal has a handler
    // that does nothing, or by default no effect at all.
    unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, INTERRUPT) };
}

extern "C" fn ignore(_: libc::c_int) {}

/// Runs in the middle of anything: atomics and write(2) only, errno as it was.
extern "C" fn handler(signal: libc::c_int) {
    if signal == libc::SIGHUP {
        RELOAD.store(true, Ordering::SeqCst);
    } else {
        STOP.store(true, Ordering::SeqCst);
    }
    let pipe = PIPE.load(Ordering::SeqCst);
    if pipe >= 0 {
        // SAFETY: errno's address is valid for the life of the thread; write reads
        // one byte of a live local. A full pipe is readable already.
        unsafe {
            let errno = libc::__errno_location();
            let before = *errno;
            let byte = 0_u8;
            let _ = libc::write(pipe, (&raw const byte).cast(), 1);
            *errno = before;
        }
    }
}

/// Makes the pipe, leaves its writing end to the handler, gives the reading end.
fn self_pipe() -> io::Result<OwnedFd> {
    let mut ends = [-1; 2];
    // SAFETY: room for the two descriptors that pipe2 writes.
    let result = unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // The writing end stays open for good: a handler may be about to use it.
    PIPE.store(ends[1], Ordering::SeqCst);
    // SAFETY: just opened and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(ends[0]) })
}

/// Without SA_RESTART: the interrupted wait is to end.
fn set_handler(signal: libc::c_int, handler: libc::sighandler_t) -> io::Result<()> {
    // SAFETY: an all-zero sigaction is valid: no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    action.sa_sigaction = handler;
    // SAFETY: `action` is valid, and its handler is SIG_IGN or async-signal-safe.
    if unsafe { libc::sigaction(signal, &action, std::ptr::null_mut()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::clock;
    use crate::linux::wait::{Interest, Waiter};
    use crate::linux::wake::Wake;
    use crate::time::duration::NtpDuration;

    /// One test, as the flags are the process's.
    #[test]
    fn signals_set_flags_and_end_waits() {
        let signals = Signals::install(true).unwrap();
        let fd = signals.fd().unwrap();
        let raise = |signal| {
            // SAFETY: the handlers are installed.
            assert_eq!(unsafe { libc::raise(signal) }, 0);
        };
        assert_eq!(signals.take(), None);
        for (signal, expected) in [
            (libc::SIGHUP, Signal::Reload),
            (libc::SIGINT, Signal::Stop),
            (libc::SIGTERM, Signal::Stop),
        ] {
            raise(signal);
            assert_eq!(signals.take(), Some(expected));
            assert_eq!(signals.take(), None);
        }
        raise(libc::SIGPIPE);
        assert_eq!(signals.take(), None);

        let quiet = Wake::new().unwrap();
        let start = clock::monotonic();
        let until = Some(start + NtpDuration::from_whole_seconds(20));
        let mut ready = vec![];
        for mut waiter in [Some(Waiter::poll()), Waiter::uring().ok()]
            .into_iter()
            .flatten()
        {
            // Before the wait: the pipe tells.
            raise(libc::SIGHUP);
            waiter
                .wait(&[Interest::read(fd, 5)], until, &mut ready)
                .unwrap();
            assert_eq!(ready[0].token, 5, "{}", waiter.name());
            assert_eq!(signals.take(), Some(Signal::Reload));

            // During it, without the pipe: EINTR, and nothing is ready.
            // SAFETY: pthread_self has no preconditions.
            let me = unsafe { libc::pthread_self() };
            let thread = std::thread::spawn(move || {
                std::thread::sleep(std::time::Duration::from_millis(50));
                // SAFETY: the thread `me` waits to join us, so it is alive.
                assert_eq!(unsafe { libc::pthread_kill(me, libc::SIGHUP) }, 0);
            });
            waiter
                .wait(&[Interest::read(quiet.fd(), 6)], until, &mut ready)
                .unwrap();
            thread.join().unwrap();
            assert!(ready.is_empty(), "{}", waiter.name());
            assert_eq!(signals.take(), Some(Signal::Reload), "{}", waiter.name());
        }
        assert!(clock::monotonic().since(start) < NtpDuration::from_whole_seconds(10));

        // A thread that blocks them leaves them to others.
        std::thread::spawn(move || {
            block_in_this_thread().unwrap();
            raise(libc::SIGHUP);
        })
        .join()
        .unwrap();
        assert_eq!(signals.take(), None);
    }
}

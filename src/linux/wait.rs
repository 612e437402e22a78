//! The one place where the time loop waits: two backends of one small interface.
//!
//! The interests are given anew with each wait and forgotten after it, so a
//! descriptor that was closed, and whose number lives on in another, confuses
//! neither backend.

use std::io;
use std::os::fd::RawFd;

use io_uring::{IoUring, opcode, squeue, types};

use crate::linux::clock;
use crate::time::duration::NtpDuration;
use crate::time::instant::MonoInstant;

/// What one descriptor is waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Interest {
    /// The descriptor.
    pub fd: RawFd,
    /// Comes back in [`Ready::token`].
    pub token: u64,
    /// Something to read.
    pub read: bool,
    /// Room to write.
    pub write: bool,
    /// Something in the error queue: transmit stamps (POLLPRI or POLLERR).
    pub error: bool,
}

impl Interest {
    /// For reading alone.
    pub const fn read(fd: RawFd, token: u64) -> Self {
        Self {
            fd,
            token,
            read: true,
            write: false,
            error: false,
        }
    }

    /// For reading and for transmit stamps: a socket.
    pub const fn socket(fd: RawFd, token: u64) -> Self {
        Self {
            error: true,
            ..Self::read(fd, token)
        }
    }

    fn events(&self) -> libc::c_short {
        let when = |asked, event| if asked { event } else { 0 };
        when(self.read, libc::POLLIN)
            | when(self.write, libc::POLLOUT)
            | when(self.error, libc::POLLPRI)
    }

    /// Poll's answer in our words. A hang-up can be read (as end of file). An
    /// error nobody asked for is given to whoever acts on this descriptor, as
    /// it would make every wait end at once.
    fn ready(&self, events: libc::c_short) -> Ready {
        let has = |event| events & event != 0;
        let broken = has(libc::POLLERR | libc::POLLNVAL);
        let error = broken || has(libc::POLLPRI);
        let unasked = broken && !self.error;
        Ready {
            token: self.token,
            read: has(libc::POLLIN | libc::POLLHUP) || (unasked && self.read),
            write: has(libc::POLLOUT) || (unasked && self.write),
            error,
        }
    }
}

/// One descriptor that is ready.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ready {
    /// As in the [`Interest`].
    pub token: u64,
    /// Reading won't block.
    pub read: bool,
    /// Writing won't block.
    pub write: bool,
    /// The error queue has something, or the socket an error.
    pub error: bool,
}

/// A way to wait.
pub enum Waiter {
    /// poll(2), through libc's symbol.
    Poll(PollWaiter),
    /// An io_uring of its own.
    Uring(Box<UringWaiter>),
}

impl Waiter {
    /// With poll(2). Touches nothing of io_uring.
    pub fn poll() -> Self {
        Self::Poll(PollWaiter::default())
    }

    /// With io_uring.
    ///
    /// # Errors
    /// What io_uring_setup(2) says: ENOSYS, EPERM where it is switched off; and
    /// Unsupported for kernels before 5.11.
    pub fn uring() -> io::Result<Self> {
        Ok(Self::Uring(Box::new(UringWaiter::new()?)))
    }

    /// The backend's name: `poll` or `uring`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Poll(_) => "poll",
            Self::Uring(_) => "uring",
        }
    }

    /// Waits for one of `interests`, at most `until` (`None`: for ever), and fills
    /// `ready`. It is left empty when time is up, and when a signal came.
    ///
    /// A signal that comes just before the wait doesn't end it; where that counts,
    /// wait for [`crate::linux::signal::Signals::fd`] too, or don't wait for long.
    ///
    /// # Errors
    /// What poll(2) or io_uring_enter(2) say, EINTR excepted.
    pub fn wait(
        &mut self,
        interests: &[Interest],
        until: Option<MonoInstant>,
        ready: &mut Vec<Ready>,
    ) -> io::Result<()> {
        ready.clear();
        match self {
            Self::Poll(waiter) => waiter.wait(interests, until, ready),
            Self::Uring(waiter) => waiter.wait(interests, until, ready),
        }
    }
}

/// The `poll` backend.
#[derive(Default)]
pub struct PollWaiter {
    fds: Vec<libc::pollfd>,
}

impl PollWaiter {
    fn wait(
        &mut self,
        interests: &[Interest],
        until: Option<MonoInstant>,
        ready: &mut Vec<Ready>,
    ) -> io::Result<()> {
        self.fds.clear();
        self.fds.extend(interests.iter().map(|i| libc::pollfd {
            fd: i.fd,
            events: i.events(),
            revents: 0,
        }));
        let timeout_ms = until.map_or(-1, |until| timeout_ms(until - clock::monotonic()));
        // SAFETY: the pointer and the count are those of a live Vec.
        let count = unsafe {
            libc::poll(
                self.fds.as_mut_ptr(),
                self.fds.len() as libc::nfds_t,
                timeout_ms,
            )
        };
        if count < 0 {
            return interrupted_is_fine(io::Error::last_os_error());
        }
        let answered = interests.iter().zip(&self.fds);
        ready.extend(
            answered
                .filter(|(_, fd)| fd.revents != 0)
                .map(|(interest, fd)| interest.ready(fd.revents)),
        );
        Ok(())
    }
}

/// Rounded up: woken too early, the loop would spin through the last millisecond.
fn timeout_ms(left: NtpDuration) -> libc::c_int {
    let ms = (left.as_nanos().max(0) as u64).div_ceil(1_000_000);
    libc::c_int::try_from(ms).unwrap_or(libc::c_int::MAX)
}

/// The `uring` backend: one-shot POLL_ADD for each interest, taken back at the
/// start of the next wait. (A poll left armed would hold its file open after the
/// descriptor is closed.)
pub struct UringWaiter {
    ring: IoUring,
    /// Tells this wait's completions from those of earlier ones.
    generation: u32,
    /// Interests of this generation not yet completed, by place.
    armed: Vec<bool>,
}

/// Completions of our own housekeeping.
const HOUSEKEEPING: u64 = u64::MAX;
/// Enough for a wait's entries at once; with more, they go in portions.
const RING_ENTRIES: u32 = 128;

impl UringWaiter {
    fn new() -> io::Result<Self> {
        let ring = IoUring::builder().setup_clamp().build(RING_ENTRIES)?;
        let params = ring.params();
        if !params.is_feature_ext_arg() || !params.is_feature_nodrop() {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "io_uring lacks timeouts on waits (kernel 5.11)",
            ));
        }
        Ok(Self {
            ring,
            generation: 0,
            armed: Vec::new(),
        })
    }

    fn wait(
        &mut self,
        interests: &[Interest],
        until: Option<MonoInstant>,
        ready: &mut Vec<Ready>,
    ) -> io::Result<()> {
        self.disarm()?;
        self.arm(interests)?;
        // Submitted apart from the wait: a call that does both reports how much
        // it submitted, and hides that a signal ended the wait.
        match self.ring.submit() {
            Ok(_) => {}
            // Completions are many; they are about to be read.
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
            Err(error) => return interrupted_is_fine(error),
        }
        loop {
            self.collect(interests, ready);
            if !ready.is_empty() {
                return Ok(());
            }
            let left = until.map(|until| until - clock::monotonic());
            if left.is_some_and(|left| left <= NtpDuration::ZERO) {
                return Ok(());
            }
            let timespec = left.map(|left| {
                let ns = left.as_nanos() as u64;
                types::Timespec::new()
                    .sec(ns / 1_000_000_000)
                    .nsec((ns % 1_000_000_000) as u32)
            });
            let result = match &timespec {
                Some(timespec) => {
                    let args = types::SubmitArgs::new().timespec(timespec);
                    self.ring.submitter().submit_with_args(1, &args)
                }
                None => self.ring.submit_and_wait(1),
            };
            match result {
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(libc::ETIME) => {}
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
                Err(error) => {
                    self.collect(interests, ready);
                    return interrupted_is_fine(error);
                }
            }
        }
    }

    /// Takes back what the last wait left armed.
    fn disarm(&mut self) -> io::Result<()> {
        for place in 0..self.armed.len() {
            if self.armed[place] {
                let remove = opcode::PollRemove::new(self.user_data(place))
                    .build()
                    .user_data(HOUSEKEEPING);
                self.push(&remove)?;
            }
        }
        self.armed.clear();
        Ok(())
    }

    fn arm(&mut self, interests: &[Interest]) -> io::Result<()> {
        self.generation = self.generation.wrapping_add(1) & (u32::MAX >> 1);
        self.armed.resize(interests.len(), true);
        for (place, interest) in interests.iter().enumerate() {
            let add = opcode::PollAdd::new(types::Fd(interest.fd), interest.events() as u32)
                .build()
                .user_data(self.user_data(place));
            self.push(&add)?;
        }
        Ok(())
    }

    fn user_data(&self, place: usize) -> u64 {
        u64::from(self.generation) << 32 | place as u64
    }

    fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        loop {
            // SAFETY: polls and their removal carry no pointers.
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                return Ok(());
            }
            self.ring.submit()?;
        }
    }

    fn collect(&mut self, interests: &[Interest], ready: &mut Vec<Ready>) {
        let generation = self.generation;
        let mut completions = self.ring.completion();
        completions.sync();
        for completion in completions {
            let (from, place) = (completion.user_data() >> 32, completion.user_data() as u32);
            if completion.user_data() == HOUSEKEEPING || from != u64::from(generation) {
                continue;
            }
            let Some(interest) = interests.get(place as usize) else {
                continue;
            };
            self.armed[place as usize] = false;
            let events = match completion.result() {
                // Such as EBADF: the owner's next call on it will tell why.
                error if error < 0 => libc::POLLNVAL,
                events => events as libc::c_short,
            };
            ready.push(interest.ready(events));
        }
    }
}

fn interrupted_is_fine(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::Interrupted {
        Ok(())
    } else {
        Err(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::wake::Wake;
    use std::os::fd::AsRawFd;

    /// Both backends, or the one there is.
    fn waiters() -> Vec<Waiter> {
        let mut waiters = vec![Waiter::poll()];
        match Waiter::uring() {
            Ok(waiter) => waiters.push(waiter),
            Err(error) => eprintln!("no io_uring here: {error}"),
        }
        waiters
    }

    fn in_ms(ms: i64) -> Option<MonoInstant> {
        Some(clock::monotonic() + NtpDuration::from_nanos(ms * 1_000_000))
    }

    #[test]
    fn time_runs_out() {
        for mut waiter in waiters() {
            let wake = Wake::new().unwrap();
            let mut ready = vec![];
            let until = in_ms(20);
            waiter
                .wait(&[Interest::read(wake.fd(), 1)], until, &mut ready)
                .unwrap();
            assert!(ready.is_empty());
            assert!(clock::monotonic() >= until.unwrap(), "{}", waiter.name());
            // The past, and no interests at all.
            waiter.wait(&[], until, &mut ready).unwrap();
            assert!(ready.is_empty());
        }
    }

    #[test]
    fn another_thread_wakes() {
        for mut waiter in waiters() {
            let (wake, other) = (Wake::new().unwrap(), Wake::new().unwrap());
            let interests = [
                Interest::socket(other.fd(), 1),
                Interest::read(wake.fd(), 2),
            ];
            let mut ready = vec![];
            for _ in 0..3 {
                let waker = wake.clone();
                let thread = std::thread::spawn(move || {
                    std::thread::sleep(std::time::Duration::from_millis(10));
                    waker.wake();
                });
                waiter.wait(&interests, in_ms(5000), &mut ready).unwrap();
                thread.join().unwrap();
                let expected = Ready {
                    token: 2,
                    read: true,
                    write: false,
                    error: false,
                };
                assert_eq!(ready, [expected], "{}", waiter.name());
                // Still unread: the level counts, not the edge.
                waiter.wait(&interests, None, &mut ready).unwrap();
                assert_eq!(ready, [expected], "{}", waiter.name());
                assert!(wake.clear());
                assert!(!wake.clear());
                waiter.wait(&interests, in_ms(1), &mut ready).unwrap();
                assert!(ready.is_empty(), "{}", waiter.name());
            }
        }
    }

    /// A closed descriptor's number is given to the next one opened: the wait is
    /// for the new file, and the old one is let go.
    #[test]
    fn a_reused_number_is_the_new_file() {
        for mut waiter in waiters() {
            let mut ready = vec![];
            let (reader, writer) = std::io::pipe().unwrap();
            let old = reader.as_raw_fd();
            waiter
                .wait(&[Interest::read(old, 1)], in_ms(1), &mut ready)
                .unwrap();
            let (new_reader, mut new_writer) = std::io::pipe().unwrap();
            // SAFETY: both are open; dup2 makes `old` a second name of the new pipe.
            assert!(unsafe { libc::dup2(new_reader.as_raw_fd(), old) } >= 0);
            std::io::Write::write_all(&mut new_writer, b"x").unwrap();
            waiter
                .wait(&[Interest::read(old, 1)], in_ms(5000), &mut ready)
                .unwrap();
            assert_eq!(ready.len(), 1, "{}", waiter.name());
            // With its one reader let go, the old pipe is broken.
            let result = std::io::Write::write(&mut (&writer), b"x");
            assert_eq!(
                result.unwrap_err().kind(),
                io::ErrorKind::BrokenPipe,
                "{}",
                waiter.name()
            );
        }
    }

    #[test]
    fn many_interests_and_write_readiness() {
        for mut waiter in waiters() {
            let wakes: Vec<_> = (0..200).map(|_| Wake::new().unwrap()).collect();
            let mut interests: Vec<_> = wakes
                .iter()
                .zip(0..)
                .map(|(wake, token)| Interest::read(wake.fd(), token))
                .collect();
            let mut ready = vec![];
            waiter.wait(&interests, in_ms(1), &mut ready).unwrap();
            assert!(ready.is_empty());
            interests[150].write = true;
            wakes[199].wake();
            wakes[0].wake();
            waiter.wait(&interests, in_ms(5000), &mut ready).unwrap();
            let mut tokens: Vec<_> = ready.iter().map(|r| (r.token, r.read, r.write)).collect();
            tokens.sort_unstable();
            let expected = [(0, true, false), (150, false, true), (199, true, false)];
            assert_eq!(tokens, expected, "{}", waiter.name());
        }
    }

    #[test]
    fn a_bad_descriptor_is_reported_as_an_error() {
        for mut waiter in waiters() {
            let mut ready = vec![];
            let bad = Interest::read(1_000_000, 9);
            waiter.wait(&[bad], in_ms(5000), &mut ready).unwrap();
            assert_eq!(ready.len(), 1);
            assert!(ready[0].error && ready[0].read, "{}", waiter.name());
        }
    }

    #[test]
    fn timeouts_round_up() {
        let ns = NtpDuration::from_nanos;
        assert_eq!(timeout_ms(ns(-5)), 0);
        assert_eq!(timeout_ms(ns(0)), 0);
        assert_eq!(timeout_ms(ns(1)), 1);
        assert_eq!(timeout_ms(ns(2_000_000)), 2);
        assert_eq!(timeout_ms(NtpDuration::MAX), libc::c_int::MAX);
    }
}

//! How soon the calling thread gets its core when it wants it: sched(7), prctl(2).

use std::io;

use crate::linux::socket::check;

/// Makes the thread's timed waits end when they should, not up to 50 µs later, which
/// is what the kernel allows itself to save wake-ups.
///
/// # Errors
/// None is expected.
pub fn wake_on_time() -> io::Result<()> {
    let slack_ns: libc::c_ulong = 1;
    // SAFETY: no pointers.
    check(unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, slack_ns) }).map(drop)
}

/// Puts the thread before all that have no real-time priority (SCHED_FIFO, the lowest
/// of its priorities).
///
/// # Errors
/// EPERM without CAP_SYS_NICE or RLIMIT_RTPRIO.
pub fn realtime() -> io::Result<()> {
    // SAFETY: an all-zero sched_param is valid (musl's has more fields).
    let mut parameters: libc::sched_param = unsafe { std::mem::zeroed() };
    parameters.sched_priority = 1;
    // SAFETY: `parameters` is valid for the length of the call; 0 is this thread.
    check(unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &parameters) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In a thread of its own, which takes its priority along when it ends.
    #[test]
    fn a_thread_may_go_first_or_is_told_why_not() {
        let thread = std::thread::spawn(|| {
            wake_on_time().unwrap();
            realtime().map_err(|error| error.kind())
        });
        let result = thread.join().unwrap();
        assert!(matches!(
            result,
            Ok(()) | Err(io::ErrorKind::PermissionDenied)
        ));
    }
}

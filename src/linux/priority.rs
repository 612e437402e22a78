//! Which core the calling thread gets, and how soon when it wants it: sched(7), prctl(2).

use std::io;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

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
    set_policy(THIS, libc::SCHED_FIFO, 1)
}

/// Puts the thread before those of [`realtime`] too: it is to stop them.
///
/// # Errors
/// As [`realtime`].
pub fn above_realtime() -> io::Result<()> {
    set_policy(THIS, libc::SCHED_FIFO, 2)
}

/// Gives a thread of this process what [`realtime`] gives, or takes it away. Real-time threads
/// that never sleep are stopped for 50 ms in each second (`kernel.sched_rt_runtime_us`), unless
/// they are ordinary ones for a twentieth of their time.
///
/// # Errors
/// As [`realtime`]; ESRCH for a thread that has ended.
pub fn set_realtime(thread: libc::pid_t, is_realtime: bool) -> io::Result<()> {
    match is_realtime {
        true => set_policy(thread, libc::SCHED_FIFO, 1),
        false => set_policy(thread, libc::SCHED_OTHER, 0),
    }
}

/// The calling thread, to sched_setscheduler(2).
const THIS: libc::pid_t = 0;

fn set_policy(thread: libc::pid_t, policy: libc::c_int, priority: libc::c_int) -> io::Result<()> {
    // SAFETY: an all-zero sched_param is valid (musl's has more fields).
    let mut parameters: libc::sched_param = unsafe { std::mem::zeroed() };
    parameters.sched_priority = priority;
    // SAFETY: `parameters` is valid for the length of the call.
    check(unsafe { libc::sched_setscheduler(thread, policy, &parameters) }).map(drop)
}

/// The cores that this thread may run on, by the kernel's numbers, rising.
///
/// # Errors
/// None is expected.
pub fn cores() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0))?;
    let all = 0..CpuSet::count();
    Ok(all.filter(|core| set.is_set(*core) == Ok(true)).collect())
}

/// Keeps this thread on one core.
///
/// # Errors
/// EINVAL if there is no such core for us.
pub fn stay_on(core: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(core)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

/// Where the kernel lists the cores that there could be.
const POSSIBLE: &str = "/sys/devices/system/cpu/possible";

/// How many cores the kernel counts with, whoever may use them.
///
/// # Errors
/// What reading the kernel's list says.
pub fn cores_possible() -> io::Result<usize> {
    let list = std::fs::read_to_string(POSSIBLE)?;
    cores_in(&list).ok_or_else(|| {
        let text = format!("{POSSIBLE} holds no list of cores: {list:?}");
        io::Error::new(io::ErrorKind::InvalidData, text)
    })
}

/// How many a list such as `0,2-3` names.
fn cores_in(list: &str) -> Option<usize> {
    let mut count = 0;
    for range in list.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        count += last.checked_sub(first)? + 1;
    }
    Some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_counted() {
        assert_eq!(cores_in("0\n"), Some(1));
        assert_eq!(cores_in("0-7\n"), Some(8));
        assert_eq!(cores_in("0,2-3\n"), Some(3));
        assert_eq!(cores_in("\n"), None);
        assert!(cores_possible().unwrap() >= cores().unwrap().len());
    }

    #[test]
    fn a_thread_stays_where_it_is_told_to() {
        let thread = std::thread::spawn(|| {
            let last = *cores().unwrap().last().unwrap();
            stay_on(last).unwrap();
            assert_eq!(cores().unwrap(), [last]);
        });
        thread.join().unwrap();
    }

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

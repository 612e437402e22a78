//! Reading clocks, always through libc's `clock_gettime` symbol, so that a clock
//! simulator loaded before libc is believed (no raw system call, no vDSO by hand).

use crate::time::duration::NtpDuration;
use crate::time::instant::{MonoInstant, WallInstant};
use crate::time::units::Precision;

/// CLOCK_REALTIME, the clock that kernels stamp packets with and `adjtimex` steers.
pub fn realtime() -> WallInstant {
    WallInstant::from_unix_ns(nanos(read(libc::CLOCK_REALTIME)))
}

/// CLOCK_MONOTONIC, for timers and ages. Stands still while the machine sleeps.
pub fn monotonic() -> MonoInstant {
    MonoInstant::from_nanos(nanos(read(libc::CLOCK_MONOTONIC)))
}

/// The smallest step CLOCK_REALTIME was seen to make, reading it in a loop: what
/// RFC 5905 section 7.3 calls precision (the larger of the clock's resolution and
/// the time to read it). Takes a few microseconds.
///
/// A clock that never moves while it is read (in a simulator) gets 2^-20 s.
pub fn precision() -> Precision {
    /// Enough changes that one interrupted read can't decide.
    const CHANGES_WANTED: usize = 64;
    /// Ends the loop on a clock that stands still or ticks slowly.
    const READS_MAX: usize = 10_000;

    let mut smallest: Option<NtpDuration> = None;
    let mut changes = 0;
    let mut last = realtime();
    for _ in 0..READS_MAX {
        let now = realtime();
        if now > last {
            let step = now - last;
            smallest = Some(smallest.map_or(step, |s| s.min(step)));
            changes += 1;
            if changes == CHANGES_WANTED {
                break;
            }
        }
        last = now;
    }
    smallest.map_or(Precision::new(-20), Precision::from_duration)
}

/// Nanoseconds in a `timespec`; saturates outside 1677..2262.
pub(crate) fn nanos(ts: libc::timespec) -> i64 {
    // On 32-bit targets both fields are narrower than i64.
    #[allow(clippy::unnecessary_cast)]
    (ts.tv_sec as i64)
        .saturating_mul(1_000_000_000)
        .saturating_add(ts.tv_nsec as i64)
}

fn read(clock: libc::clockid_t) -> libc::timespec {
    let mut ts = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `ts` is a valid, writable timespec for the length of the call.
    let result = unsafe { libc::clock_gettime(clock, &mut ts) };
    // Both clocks exist on every Linux; only a wrong pointer or id can fail.
    assert_eq!(result, 0, "clock_gettime({clock}) failed");
    ts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_advance() {
        let (wall, mono) = (realtime(), monotonic());
        std::thread::sleep(std::time::Duration::from_millis(2));
        assert!((realtime() - wall).as_seconds() > 1e-3);
        assert!(monotonic().since(mono).as_seconds() > 1e-3);
    }

    #[test]
    fn precision_is_that_of_a_modern_clock() {
        let log2 = precision().log2();
        assert!((-32..=-10).contains(&log2), "{log2}");
    }
}

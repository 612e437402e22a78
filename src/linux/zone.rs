//! The local time zone, for real-time clocks that are kept in local time: libc's
//! `localtime_r`, which reads TZ or /etc/localtime.

use std::mem;

use crate::time::civil::Civil;

/// Local time minus UTC in seconds, at the moment `unix` (seconds since 1970).
/// Zero where libc can't say, for years that don't fit its fields.
pub fn offset_s(unix: i64) -> i64 {
    let time = unix as libc::time_t;
    // SAFETY: tm is plain integers and a pointer that may be null.
    let mut local: libc::tm = unsafe { mem::zeroed() };
    // SAFETY: both point to live values of their types; `local` is ours to write. The
    // zone's name that it then points to is not looked at.
    let done = unsafe { libc::localtime_r(&time, &mut local) };
    if done.is_null() {
        return 0;
    }
    // On 32-bit targets it is narrower.
    #[allow(clippy::useless_conversion)]
    local.tm_gmtoff.into()
}

/// When a local clock shows `civil`, in seconds since 1970. Of an hour that comes
/// twice this is one of both; one that is left out lies beside the gap.
pub fn unix(civil: Civil) -> i64 {
    let shown = civil.to_unix();
    // The offset depends on the moment that is sought; the second try is in the
    // right half of the year.
    let near = shown - offset_s(shown);
    shown - offset_s(near)
}

/// What a local clock shows at the moment `unix`.
pub fn civil(unix: i64) -> Civil {
    Civil::from_unix(unix + offset_s(unix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back_whatever_the_zone() {
        for seconds in [0, 1_763_822_762, 1_750_000_000] {
            assert_eq!(unix(civil(seconds)), seconds);
            assert!(offset_s(seconds).abs() <= 15 * 3600);
        }
    }
}

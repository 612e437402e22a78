//! Measuring the real-time clock, and setting it so that its seconds begin with the
//! system clock's.
//!
//! A write sets whole seconds. When the next one begins then depends on the clock: half
//! a second after the write (`rtc_cmos`, whose divider it restarts), a whole one after,
//! or when it would have begun anyway (by AMD's rules Linux leaves the divider alone).
//! So the write is placed by the best guess, the outcome is measured, and the guess is
//! mended. A clock whose seconds don't move with the write can't be aligned; this is
//! found out, and said.

use std::io;

use crate::linux::clock;
use crate::linux::rtc::{Edge, Finder, Rtc, sleep_until};
use crate::linux::zone;
use crate::time::civil::Civil;
use crate::time::duration::NtpDuration;
use crate::time::instant::WallInstant;

/// Aligned is what is off by no more.
pub const ALIGNED_S: f64 = 0.001;
/// So often the clock is written before what has been reached must do.
const WRITES_MAX: usize = 4;
/// Edges that lie so close are the same.
const SAME_S: f64 = 0.002;
/// Writes that lie so far apart would have moved the edge.
const APART_S: f64 = 0.02;
/// How long the scheduler may be late: the rest of the wait is spent awake.
const SPIN: NtpDuration = NtpDuration::from_units(1 << 22); // 1 ms

/// What the clock shows: UTC, or the local time of TZ and /etc/localtime.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scale {
    /// UTC.
    Utc,
    /// Local time.
    Local,
}

impl Scale {
    /// In words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Utc => "UTC",
            Self::Local => "local time",
        }
    }

    fn unix(self, civil: Civil) -> i64 {
        match self {
            Self::Utc => civil.to_unix(),
            Self::Local => zone::unix(civil),
        }
    }

    fn civil(self, unix: i64) -> Civil {
        match self {
            Self::Utc => Civil::from_unix(unix),
            Self::Local => zone::civil(unix),
        }
    }
}

/// One edge of the clock, in the world's time.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Reading {
    /// What the clock says.
    pub says: WallInstant,
    /// CLOCK_REALTIME at that moment.
    pub at: WallInstant,
    /// The edge may have been so much earlier.
    pub doubt: NtpDuration,
    /// How it was found.
    pub finder: Finder,
}

impl Reading {
    fn new(edge: Edge, scale: Scale) -> Self {
        Self {
            says: second(scale.unix(edge.shows)),
            at: edge.at,
            doubt: edge.doubt,
            finder: edge.finder,
        }
    }

    /// Real-time clock minus system clock in seconds; positive: it is ahead. Good for
    /// years that differ, so no [`NtpDuration`].
    pub fn offset_s(&self) -> f64 {
        (self.says.unix_ns().saturating_sub(self.at.unix_ns())) as f64 * 1e-9
    }
}

/// Waits for an edge: up to 5 seconds.
///
/// # Errors
/// Those of [`Rtc::edge`].
pub fn measure(rtc: &Rtc, scale: Scale) -> io::Result<Reading> {
    Ok(Reading::new(rtc.edge()?, scale))
}

/// As [`measure`]. A clock that shows a time that does not exist, as one does whose
/// battery ran out, is first set roughly.
///
/// # Errors
/// Those of [`Rtc::edge`] and [`Rtc::set`].
pub fn measure_or_mend(rtc: &Rtc, scale: Scale) -> io::Result<Reading> {
    match measure(rtc, scale) {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            let now = clock::realtime().unix_ns().div_euclid(1_000_000_000);
            rtc.set(scale.civil(now))?;
            measure(rtc, scale)
        }
        measured => measured,
    }
}

/// What came of setting the clock.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Outcome {
    /// Its seconds begin with the system clock's.
    Aligned,
    /// Its seconds begin when they did before, whenever it is written. It is right to
    /// the nearest second.
    Unalignable,
    /// So often was not enough, or we were told to stop.
    Unfinished,
}

/// A clock that was set.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Set {
    /// How well.
    pub outcome: Outcome,
    /// The last measurement after it.
    pub reading: Reading,
    /// How often it was written.
    pub writes: usize,
}

/// Sets the clock by the system clock. `before` was measured just now. Takes some
/// seconds for each write; between them `stop` may end it.
///
/// # Errors
/// Those of [`Rtc::set`] and [`Rtc::edge`].
pub fn align(
    rtc: &Rtc,
    scale: Scale,
    before: &Reading,
    stop: &dyn Fn() -> bool,
) -> io::Result<Set> {
    // What the drivers do that are known; others are found out.
    let usual_s = match rtc.driver().as_deref() {
        Some("rtc_cmos") | None => 0.5,
        Some(_) => 1.0,
    };
    let mut delay_s = usual_s;
    let mut tries: Vec<Try> = Vec::new();
    loop {
        let written = write(rtc, scale, delay_s)?;
        let reading = measure(rtc, scale)?;
        tries.push(Try {
            write_s: phase_s(written),
            edge_s: phase_s(reading.at),
        });
        let outcome = if reading.offset_s().abs() <= ALIGNED_S {
            Some(Outcome::Aligned)
        } else if is_deaf(&tries, phase_s(before.at)) {
            Some(Outcome::Unalignable)
        } else if tries.len() >= WRITES_MAX || stop() {
            Some(Outcome::Unfinished)
        } else {
            None
        };
        match outcome {
            // The writes that found it out may have left it a second off.
            Some(Outcome::Unalignable) if reading.offset_s().abs() > 0.5 && !stop() => {
                write(rtc, scale, 0.5)?;
                return Ok(Set {
                    outcome: Outcome::Unalignable,
                    reading: measure(rtc, scale)?,
                    writes: tries.len() + 1,
                });
            }
            Some(outcome) => {
                return Ok(Set {
                    outcome,
                    reading,
                    writes: tries.len(),
                });
            }
            None => delay_s = tries[tries.len() - 1].delay_s(),
        }
    }
}

/// A write and the edges after it, each as a fraction of the system clock's second.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Try {
    write_s: f64,
    edge_s: f64,
}

impl Try {
    /// From the write to the edge that follows, above 0 and up to 1 s.
    fn delay_s(self) -> f64 {
        let delay_s = (self.edge_s - self.write_s).rem_euclid(1.0);
        if delay_s == 0.0 { 1.0 } else { delay_s }
    }
}

/// Are the edges where they were before all writes, though those were at different
/// moments of the second?
fn is_deaf(tries: &[Try], before_s: f64) -> bool {
    let same = |a_s: f64, b_s: f64| apart_s(a_s, b_s) < SAME_S;
    let (Some(first), Some(last)) = (tries.first(), tries.last()) else {
        return false;
    };
    same(first.edge_s, before_s)
        && same(last.edge_s, first.edge_s)
        && apart_s(last.write_s, first.write_s) > APART_S
}

/// The distance of two fractions of a second.
fn apart_s(a_s: f64, b_s: f64) -> f64 {
    let apart_s = (a_s - b_s).rem_euclid(1.0);
    apart_s.min(1.0 - apart_s)
}

fn phase_s(at: WallInstant) -> f64 {
    at.unix_ns().rem_euclid(1_000_000_000) as f64 * 1e-9
}

fn second(unix: i64) -> WallInstant {
    WallInstant::from_unix_ns(unix.saturating_mul(1_000_000_000))
}

/// Writes so that the clock's next second begins with one of the system clock's, if it
/// begins `delay_s` after the write. Returns when it was written.
fn write(rtc: &Rtc, scale: Scale, delay_s: f64) -> io::Result<WallInstant> {
    let delay = NtpDuration::from_seconds(delay_s);
    // Leave time to get there.
    let soon = clock::realtime() + delay + SPIN + SPIN;
    let target_unix = soon.unix_ns().div_euclid(1_000_000_000) + 1;
    let when = second(target_unix) - delay;
    sleep_until(when - SPIN);
    while clock::realtime() < when && when - clock::realtime() < NtpDuration::from_whole_seconds(2)
    {
        std::hint::spin_loop();
    }
    let before = clock::realtime();
    rtc.set(scale.civil(target_unix - 1))?;
    let after = clock::realtime();
    Ok(before + (after - before).half())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_keeps_its_edges_is_told_from_one_that_moves_them() {
        let deaf = |edges: &[(f64, f64)], before_s| {
            let tries: Vec<Try> = edges
                .iter()
                .map(|&(write_s, edge_s)| Try { write_s, edge_s })
                .collect();
            is_deaf(&tries, before_s)
        };
        assert!(!deaf(&[(0.5, 0.913)], 0.913), "one write is no proof");
        assert!(deaf(&[(0.5, 0.913), (0.587, 0.914)], 0.913));
        // The second wraps.
        assert!(deaf(&[(0.5, 0.999_5), (0.6, 0.000_3)], 0.0));
        // Half a second after a write that we were late with.
        assert!(!deaf(&[(0.52, 0.02), (0.5, 0.0)], 0.7));
        assert!(!deaf(&[(0.5, 0.913), (0.501, 0.913)], 0.913));
    }

    #[test]
    fn the_delay_is_learnt_from_one_try() {
        let delay = |write_s, edge_s| Try { write_s, edge_s }.delay_s();
        assert!((delay(0.5, 0.0) - 0.5).abs() < 1e-9);
        assert!((delay(0.9, 0.1) - 0.2).abs() < 1e-9);
        assert_eq!(delay(0.5, 0.5), 1.0);
    }

    #[test]
    fn offsets_reach_over_any_years() {
        let reading = Reading {
            says: second(0),
            at: second(1_763_822_762),
            doubt: NtpDuration::ZERO,
            finder: Finder::Polling,
        };
        assert_eq!(reading.offset_s(), -1_763_822_762.0);
        assert_eq!(
            Scale::Utc.unix(Scale::Utc.civil(1_763_822_762)),
            1_763_822_762
        );
        assert_eq!(
            Scale::Local.unix(Scale::Local.civil(1_763_822_762)),
            1_763_822_762
        );
    }
}

//! How good a server's stamps are, judged by the kernel's on our side.
//!
//! T2 − T1 is the request's way there, T4 − T3 the reply's way back, each with the
//! difference of the two clocks in it, and with what the server's stamp is wrong
//! by: a T2 taken late makes the first longer, a T3 taken early the second. Way and
//! clocks are about constant over the seconds of a measurement, so what varies is
//! the stamps' error and the path's own jitter: an upper bound of the error, close
//! to it on a path without queues (veth, a cable). All deviations are from the
//! median.

use crate::dice::Dice;
use crate::time::timestamp::NtpTimestamp;

/// Differences kept for median and percentiles: enough that p99 rests on hundreds.
const KEPT: usize = 1 << 16;
/// Seconds from 1900 to 1970.
const NTP_TO_UNIX_S: u32 = 2_208_988_800;

/// Nanoseconds since 1970 of the moment nearest to `near_ns` that a wire stamp can
/// mean. As [`NtpTimestamp::resolve`] to the nanosecond, but without divisions of
/// 128 bits, as it is done a million times a second.
pub fn unix_ns(stamp: NtpTimestamp, near_ns: i64) -> i64 {
    let near_s = near_ns.div_euclid(1_000_000_000);
    let seconds = (stamp.bits() >> 32) as u32;
    let away_s = seconds.wrapping_sub((near_s as u32).wrapping_add(NTP_TO_UNIX_S)) as i32;
    let fraction_ns = ((stamp.bits() & 0xffff_ffff) * 1_000_000_000) >> 32;
    (near_s + i64::from(away_s)) * 1_000_000_000 + fraction_ns as i64
}

/// Differences of two stamps, gathered. Moments are of all, the rest is of a fair
/// sample.
#[derive(Clone, Debug, Default)]
pub struct Differences {
    count: u64,
    /// The first one, so that sums stay small whatever the clocks say.
    base_ns: i64,
    /// Of the differences less the base.
    mean_ns: f64,
    squares_ns2: f64,
    min_ns: i64,
    max_ns: i64,
    kept: Vec<i64>,
    /// Of the sampling.
    dice: Dice,
}

/// What is said of [`Differences`], in nanoseconds.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Spread {
    /// How many there were.
    pub count: u64,
    /// The median: the way, and the difference of the clocks.
    pub median_ns: i64,
    /// Mean deviation from the median.
    pub mean_ns: f64,
    /// Standard deviation.
    pub deviation_ns: f64,
    /// The lowest deviation.
    pub min_ns: i64,
    /// The highest deviation.
    pub max_ns: i64,
    /// 99 % deviate less, whichever way.
    pub p99_ns: i64,
}

impl Differences {
    /// Adds one.
    pub fn add(&mut self, difference_ns: i64) {
        if self.count == 0 {
            self.base_ns = difference_ns;
            (self.min_ns, self.max_ns) = (difference_ns, difference_ns);
        }
        self.count += 1;
        // Welford's: stable in one pass.
        let x = difference_ns.saturating_sub(self.base_ns) as f64;
        let away = x - self.mean_ns;
        self.mean_ns += away / self.count as f64;
        self.squares_ns2 += away * (x - self.mean_ns);
        self.min_ns = self.min_ns.min(difference_ns);
        self.max_ns = self.max_ns.max(difference_ns);
        if self.kept.len() < KEPT {
            self.kept.push(difference_ns);
        } else {
            // Reservoir sampling: each of all has the same chance to be kept.
            let place = self.dice.roll() % self.count;
            if let Some(slot) = self.kept.get_mut(place as usize) {
                *slot = difference_ns;
            }
        }
    }

    /// Adds all of another.
    pub fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        if self.count == 0 {
            *self = other.clone();
            return;
        }
        let (n, m) = (self.count as f64, other.count as f64);
        let other_mean = other.mean_ns + other.base_ns.saturating_sub(self.base_ns) as f64;
        let away = other_mean - self.mean_ns;
        self.mean_ns += away * m / (n + m);
        self.squares_ns2 += other.squares_ns2 + away * away * n * m / (n + m);
        self.min_ns = self.min_ns.min(other.min_ns);
        self.max_ns = self.max_ns.max(other.max_ns);
        self.count += other.count;
        // Threads do about as much as each other, so their samples count alike.
        self.kept.extend_from_slice(&other.kept);
    }

    /// None if there were none.
    pub fn spread(&self) -> Option<Spread> {
        let mut sorted = self.kept.clone();
        sorted.sort_unstable();
        let median_ns = *sorted.get(sorted.len() / 2)?;
        let mut away: Vec<u64> = sorted.iter().map(|d| d.abs_diff(median_ns)).collect();
        away.sort_unstable();
        let base = (self.base_ns - median_ns) as f64;
        Some(Spread {
            count: self.count,
            median_ns,
            mean_ns: self.mean_ns + base,
            deviation_ns: (self.squares_ns2 / self.count as f64).sqrt(),
            min_ns: self.min_ns - median_ns,
            max_ns: self.max_ns - median_ns,
            p99_ns: away[(away.len() - 1) * 99 / 100] as i64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::instant::WallInstant;

    #[test]
    fn the_quick_way_agrees_with_the_careful_one() {
        // Among them one on either side of the era's end in 2036.
        for near_ns in [
            0,
            1_700_000_000_123_456_789,
            2_085_978_495_999_999_999,
            2_085_978_496_000_000_001,
        ] {
            for away_ns in [-3_000_000_000_i64, -1, 0, 1, 999_999_999, 5_000_000_000] {
                let at = WallInstant::from_unix_ns(near_ns + away_ns);
                let quick = unix_ns(NtpTimestamp::from_wall(at), near_ns);
                assert!((quick - at.unix_ns()).abs() <= 1, "{near_ns} {away_ns}");
            }
        }
    }

    #[test]
    fn moments_are_those_of_all_whatever_the_clocks_say() {
        let (mut all, mut odd, mut even) = (
            Differences::default(),
            Differences::default(),
            Differences::default(),
        );
        for n in 0..200_000_i64 {
            let difference = 3_000_000_000_000_000_000 + n % 101;
            all.add(difference);
            if n % 2 == 0 { &mut even } else { &mut odd }.add(difference);
        }
        let spread = all.spread().unwrap();
        assert_eq!((spread.min_ns + spread.max_ns).abs() % 100, 0);
        assert!((spread.deviation_ns - 29.15).abs() < 0.1, "{spread:?}");
        assert!(spread.mean_ns.abs() < 2.0, "{spread:?}");
        assert!((48..=51).contains(&spread.p99_ns), "{spread:?}");
        odd.merge(&even);
        let merged = odd.spread().unwrap();
        assert_eq!(merged.count, 200_000);
        assert!((merged.deviation_ns - spread.deviation_ns).abs() < 0.01);
    }

    #[test]
    fn nothing_has_no_spread() {
        assert_eq!(Differences::default().spread(), None);
    }
}

//! Leap seconds: when they can be, and what a table of them says (RFC 5905
//! sections 7.3 and 7.5 leave the table's use to the implementation).
//!
//! A server's LI field speaks of the end of the month (RFC 5905 figure 9); a
//! kernel that is told of a leap second inserts it at the end of the day. So what
//! servers say is taken to the kernel on a day that can have one and on no other.

use crate::time::duration::NtpDuration;
use crate::time::instant::WallInstant;
use crate::wire::packet::Leap;

const DAY_S: i64 = 86_400;

/// UTC's leap seconds as the IERS announces them, and until when that is all.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeapTable {
    /// From when on TAI − UTC is so many seconds; ordered, never empty.
    steps: Vec<(WallInstant, i32)>,
    expires: WallInstant,
}

impl LeapTable {
    /// From the moments at which TAI − UTC took a new value. `None` if there are
    /// none, or if they are out of order.
    pub fn new(steps: Vec<(WallInstant, i32)>, expires: WallInstant) -> Option<Self> {
        let ordered = steps.windows(2).all(|pair| pair[0].0 < pair[1].0);
        (ordered && !steps.is_empty()).then_some(Self { steps, expires })
    }

    /// When it stops being known that there are no more.
    pub fn expires(&self) -> WallInstant {
        self.expires
    }

    /// Does it know of `at`?
    pub fn covers(&self, at: WallInstant) -> bool {
        (self.steps[0].0..self.expires).contains(&at)
    }

    /// TAI − UTC in seconds at a moment that it [`covers`](Self::covers).
    pub fn tai_offset_at(&self, at: WallInstant) -> Option<i32> {
        let after = self.steps.partition_point(|&(from, _)| from <= at);
        let (_, offset) = self.steps.get(after.checked_sub(1)?)?;
        self.covers(at).then_some(*offset)
    }

    /// What the UTC day of `at` ends with, if it [`covers`](Self::covers) that.
    pub fn leap_at(&self, at: WallInstant) -> Option<Leap> {
        let before = self.tai_offset_at(at)?;
        let midnight = day_end(at);
        let after = self.steps.iter().find(|&&(from, _)| from == midnight);
        Some(match after {
            Some(&(_, offset)) if offset > before => Leap::Insert,
            Some(&(_, offset)) if offset < before => Leap::Delete,
            Some(_) | None => Leap::None,
        })
    }
}

/// Can the UTC day of `at` end with a leap second? All there were came at the end
/// of June or December.
pub fn can_leap(at: WallInstant) -> bool {
    let (month, day) = month_and_day(day_end(at));
    day == 1 && (month == 1 || month == 7)
}

/// The midnight that ends the UTC day of `at`.
fn day_end(at: WallInstant) -> WallInstant {
    let into_day = NtpDuration::from_nanos(at.unix_ns().rem_euclid(DAY_S * 1_000_000_000));
    at + (NtpDuration::from_whole_seconds(DAY_S) - into_day)
}

/// Month (1 to 12) and day (1 to 31) in the Gregorian calendar. Counts from
/// 1 March 2000, so that the leap day comes last in a year and in a cycle of four
/// hundred of them.
fn month_and_day(at: WallInstant) -> (i64, i64) {
    const MARCH_2000_DAYS: i64 = 11_017;
    const CYCLE_DAYS: i64 = 146_097;
    let days = at.unix_ns().div_euclid(DAY_S * 1_000_000_000) - MARCH_2000_DAYS;
    let in_cycle = days.rem_euclid(CYCLE_DAYS);
    let century = (in_cycle / 36_524).min(3);
    let in_century = in_cycle - century * 36_524;
    let in_four_years = in_century % 1_461;
    let year = (in_four_years / 365).min(3);
    let in_year = in_four_years - year * 365;
    // Months from March on have 31, 30, 31, 30, 31 days, and again: 153 in five.
    let from_march = (5 * in_year + 2) / 153;
    let day = in_year - (153 * from_march + 2) / 5 + 1;
    ((from_march + 2) % 12 + 1, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(unix_s: i64) -> WallInstant {
        WallInstant::from_unix_ns(unix_s * 1_000_000_000)
    }

    /// 2017-01-01, the last leap second so far.
    const LAST: i64 = 1_483_228_800;

    fn table() -> LeapTable {
        let steps = vec![(at(1_435_708_800), 36), (at(LAST), 37)];
        LeapTable::new(steps, at(LAST + 100 * DAY_S)).expect("in order")
    }

    #[test]
    fn the_day_before_is_told_and_no_other() {
        let table = table();
        assert_eq!(table.leap_at(at(LAST - 1)), Some(Leap::Insert));
        assert_eq!(table.leap_at(at(LAST - DAY_S)), Some(Leap::Insert));
        assert_eq!(table.leap_at(at(LAST - DAY_S - 1)), Some(Leap::None));
        assert_eq!(table.leap_at(at(LAST)), Some(Leap::None));
        assert_eq!(table.tai_offset_at(at(LAST - 1)), Some(36));
        assert_eq!(table.tai_offset_at(at(LAST)), Some(37));
    }

    #[test]
    fn a_table_says_nothing_beyond_its_time() {
        let table = table();
        for outside in [at(0), table.expires()] {
            assert_eq!(table.tai_offset_at(outside), None);
            assert_eq!(table.leap_at(outside), None);
        }
        assert!(LeapTable::new(Vec::new(), at(LAST)).is_none());
        assert!(LeapTable::new(vec![(at(9), 1), (at(9), 2)], at(LAST)).is_none());
    }

    #[test]
    fn june_and_december_can_have_one() {
        for (unix_s, can) in [
            (LAST - 1, true),
            (LAST - DAY_S, true),
            (LAST - DAY_S - 1, false),
            (LAST, false),
            (1_435_708_799, true),  // 2015-06-30
            (1_709_251_199, false), // 2024-02-29
            (1_711_929_599, false), // 2024-03-31
            (-1, true),             // 1969-12-31
            (4_102_444_799, true),  // 2099-12-31
            (4_107_542_399, false), // 2100-02-28
        ] {
            assert_eq!(can_leap(at(unix_s)), can, "{unix_s}");
        }
    }

    #[test]
    fn a_day_is_a_day_for_four_hundred_years() {
        let lengths = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let mut day = 0;
        for year in 1970..2262 {
            let leap_year = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            for (month, length) in (1..).zip(lengths) {
                let length = length + i64::from(leap_year && month == 2);
                for expected in 1..=length {
                    if day * DAY_S >= i64::MAX / 1_000_000_000 {
                        return;
                    }
                    assert_eq!(month_and_day(at(day * DAY_S)), (month, expected), "{year}");
                    day += 1;
                }
            }
        }
    }
}

//! Civil time, as real-time clocks keep it: year to second, without a zone. The
//! proleptic Gregorian calendar, and days of 86,400 seconds as POSIX counts them.

use std::fmt;

const DAY_S: i64 = 86_400;
/// Days in 400 years: after that the calendar repeats.
const ERA_DAYS: i64 = 146_097;
/// From 0000-03-01, where a year that ends with its leap day starts, to 1970-01-01.
const EPOCH_DAYS: i64 = 719_468;

/// A moment of civil time, to the second.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Civil {
    /// Such as 2026.
    pub year: i64,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 59.
    pub second: u8,
}

impl Civil {
    /// What a clock on UTC shows, `seconds` after 1970-01-01 00:00:00.
    pub fn from_unix(seconds: i64) -> Self {
        let (day, of_day) = (seconds.div_euclid(DAY_S), seconds.rem_euclid(DAY_S));
        let (year, month, day) = date(day);
        Self {
            year,
            month,
            day,
            hour: (of_day / 3600) as u8,
            minute: (of_day / 60 % 60) as u8,
            second: (of_day % 60) as u8,
        }
    }

    /// Seconds since 1970-01-01 00:00:00 on the same clock.
    pub fn to_unix(self) -> i64 {
        let of_day = i64::from(self.hour) * 3600 + i64::from(self.minute) * 60;
        days(self.year, self.month, self.day) * DAY_S + of_day + i64::from(self.second)
    }

    /// Is there such a moment? Clocks with an empty battery show others.
    pub fn is_valid(self) -> bool {
        self.hour < 24
            && self.minute < 60
            && self.second < 60
            && (1..=12).contains(&self.month)
            && date(days(self.year, self.month, self.day)) == (self.year, self.month, self.day)
    }

    /// Days since the Sunday before: 0 to 6.
    pub fn weekday(self) -> u8 {
        // 1970-01-01 was a Thursday.
        (days(self.year, self.month, self.day) + 4).rem_euclid(7) as u8
    }
}

impl fmt::Display for Civil {
    /// `2026-11-22 14:46:02`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            year,
            month,
            day,
            hour,
            minute,
            second,
        } = self;
        write!(
            f,
            "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}"
        )
    }
}

/// Days since 1970-01-01. Years start in March here, so that the leap day is last.
fn days(year: i64, month: u8, day: u8) -> i64 {
    let month = i64::from(month);
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    era * ERA_DAYS + of_era * 365 + of_era / 4 - of_era / 100 + before_month(month) + i64::from(day)
        - 1
        - EPOCH_DAYS
}

/// Year, month and day of a number of days since 1970-01-01.
fn date(days: i64) -> (i64, u8, u8) {
    let days = days + EPOCH_DAYS;
    let (era, rest) = (days.div_euclid(ERA_DAYS), days.rem_euclid(ERA_DAYS));
    // The last day of four centuries, or of four years, belongs to the year that ends.
    let century = (rest / 36_524).min(3);
    let rest = rest - century * 36_524;
    let leap = rest / 1_461;
    let rest = rest - leap * 1_461;
    let year = (rest / 365).min(3);
    let rest = rest - year * 365;
    let month = (0..12)
        .rev()
        .find(|month| before_month(*month) <= rest)
        .unwrap_or(0);
    let of_month = (rest - before_month(month) + 1) as u8;
    let year = era * 400 + century * 100 + leap * 4 + year;
    if month < 10 {
        (year, month as u8 + 3, of_month)
    } else {
        (year + 1, month as u8 - 9, of_month)
    }
}

/// Days from 1 March to the first of the month so many later.
fn before_month(months: i64) -> i64 {
    // 31 30 31 30 31, over and over: 153 days in five months.
    (153 * months + 2) / 5
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn civil(year: i64, month: u8, day: u8) -> Civil {
        Civil {
            year,
            month,
            day,
            hour: 0,
            minute: 0,
            second: 0,
        }
    }

    #[test]
    fn known_moments_agree() {
        for (unix, text) in [
            (0, "1970-01-01 00:00:00"),
            (-1, "1969-12-31 23:59:59"),
            (951_782_400, "2000-02-29 00:00:00"),
            (1_763_822_762, "2025-11-22 14:46:02"),
            (4_107_542_399, "2100-02-28 23:59:59"),
            (4_107_542_400, "2100-03-01 00:00:00"),
        ] {
            let civil = Civil::from_unix(unix);
            assert_eq!(civil.to_string(), text);
            assert_eq!(civil.to_unix(), unix);
        }
        assert_eq!(Civil::from_unix(0).weekday(), 4);
        assert_eq!(Civil::from_unix(1_763_822_762).weekday(), 6);
    }

    #[test]
    fn what_is_no_date_is_known() {
        assert!(civil(2024, 2, 29).is_valid() && civil(2000, 2, 29).is_valid());
        for wrong in [
            civil(2025, 2, 29),
            civil(2100, 2, 29),
            civil(2026, 4, 31),
            civil(2026, 0, 1),
            civil(2026, 13, 1),
            civil(2026, 1, 0),
            civil(2026, 1, 165),
        ] {
            assert!(!wrong.is_valid(), "{wrong}");
        }
        assert!(
            !Civil {
                second: 60,
                ..civil(2026, 1, 1)
            }
            .is_valid()
        );
    }

    proptest! {
        #[test]
        fn there_and_back(unix in -100_000_000_000_i64..100_000_000_000) {
            let civil = Civil::from_unix(unix);
            prop_assert!(civil.is_valid());
            prop_assert_eq!(civil.to_unix(), unix);
        }
    }
}

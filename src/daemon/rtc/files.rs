//! What is kept about the real-time clock over a restart: chrony's `rtcfile`, and
//! hwclock's `/etc/adjtime` (adjtime_config(5)).

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::config::regular;
use crate::daemon::drift;
use crate::daemon::rtc::line::{Fit, Rate};
use crate::time::instant::WallInstant;
use crate::time::units::Ppm;

/// hwclock's file, unless it was built otherwise.
pub const ADJTIME: &str = "/etc/adjtime";
/// What the rate in chrony's file may be wrong by; it does not say.
const SIGMA_UNSAID: Ppm = Ppm(5.0);
/// Faster is no clock.
const RATE_MAX: Ppm = Ppm(1000.0);
/// Either file has a few lines.
const LEN_MAX: u64 = 1 << 16;
const DAY_S: f64 = 86_400.0;

/// The `rtcfile`: four fields that chronyd reads and writes (valid, reference time,
/// seconds fast, rate in ppm), and behind them two that it passes over: what the rate
/// may be wrong by in ppm, and when we last set the clock (0: not known).
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct RtcFile {
    /// The clock's error then, and its rate.
    pub fit: Fit,
    /// When we last set it, in seconds since 1970.
    pub set_unix: Option<i64>,
}

impl RtcFile {
    /// The file's contents; none if there is no file, or one that chronyd marked as not
    /// valid. A damaged file is an error with a sentence.
    pub fn read(path: &Path) -> Result<Option<Self>, String> {
        let named = |problem: String| format!("rtcfile {}: {problem}", path.display());
        match regular::read_text(path, LEN_MAX) {
            Ok(text) => Self::parse(&text).map_err(named),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(named(error.to_string())),
        }
    }

    fn parse(text: &str) -> Result<Option<Self>, String> {
        let damaged = || "should hold `1 TIME SECONDS PPM`; the clock is measured anew".to_owned();
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let number = |at: usize| -> Option<f64> {
            let number: f64 = words.get(at)?.parse().ok()?;
            number.is_finite().then_some(number)
        };
        let (Some(valid), Some(reference_s), Some(offset_s), Some(rate)) =
            (number(0), number(1), number(2), number(3))
        else {
            return Err(damaged());
        };
        // WallInstant ends in 2262.
        if Ppm(rate).abs() > RATE_MAX || !(0.0..9e9).contains(&reference_s) {
            return Err(damaged());
        }
        let sigma = number(4).map_or(SIGMA_UNSAID, |sigma| Ppm(sigma.abs()));
        let file = Self {
            fit: Fit {
                at: WallInstant::from_unix_ns(reference_s as i64 * 1_000_000_000),
                offset_s,
                rate: Rate {
                    rate: Ppm(rate),
                    sigma,
                },
            },
            set_unix: number(5).map(|set| set as i64).filter(|set| *set > 0),
        };
        Ok((valid != 0.0).then_some(file))
    }

    /// Writes it, whole or not at all; a sentence if not.
    pub fn write(&self, path: &Path) -> Result<(), String> {
        drift::replace(path, &self.to_string()).map_err(|error| {
            format!(
                "rtcfile {}: can't be written: {error}; the directory must exist and be writable for ptntp",
                path.display()
            )
        })
    }
}

impl fmt::Display for RtcFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at_unix = self.fit.at.unix_ns().div_euclid(1_000_000_000);
        let at = WallInstant::from_unix_ns(at_unix * 1_000_000_000);
        let offset_s = self.fit.offset_at_s(at);
        let Rate { rate, sigma } = self.fit.rate;
        let set = self.set_unix.unwrap_or(0);
        writeln!(
            f,
            "1 {at_unix} {offset_s:.6} {:.3} {:.3} {set}",
            rate.0, sigma.0
        )
    }
}

/// hwclock's three lines. Whatever is missing is zero, as hwclock reads it.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Adjtime {
    /// To be added to the clock each day: negative for one that is fast.
    pub drift_s_per_day: f64,
    /// When it was last set or adjusted, in seconds since 1970.
    pub adjusted_unix: i64,
    /// What was left over then, in seconds.
    pub not_adjusted_s: f64,
    /// When it was last set by something better, in seconds since 1970.
    pub calibrated_unix: i64,
    /// Is it on local time? None: the file does not say.
    pub local: Option<bool>,
}

impl Adjtime {
    /// The file's contents; none if there is no file.
    pub fn read(path: &Path) -> io::Result<Option<Self>> {
        match regular::read_text(path, LEN_MAX) {
            Ok(text) => Ok(Some(Self::parse(&text))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => {
                let named = format!("{}: {error}", path.display());
                Err(io::Error::new(error.kind(), named))
            }
        }
    }

    fn parse(text: &str) -> Self {
        fn next<T: std::str::FromStr + Default>(words: &mut std::str::SplitWhitespace<'_>) -> T {
            words
                .next()
                .and_then(|w| w.parse().ok())
                .unwrap_or_default()
        }
        let mut lines = text.lines();
        let mut line = || lines.next().unwrap_or_default();
        let mut first = line().split_whitespace();
        let mut second = line().split_whitespace();
        Self {
            drift_s_per_day: Some(next(&mut first))
                .filter(|d: &f64| d.is_finite())
                .unwrap_or(0.0),
            adjusted_unix: next(&mut first),
            not_adjusted_s: Some(next(&mut first))
                .filter(|n: &f64| n.is_finite())
                .unwrap_or(0.0),
            calibrated_unix: next(&mut second),
            local: match line().trim_end() {
                "LOCAL" => Some(true),
                "UTC" => Some(false),
                _ => None,
            },
        }
    }

    /// After the clock was set at `unix`, in that time scale. The drift stays.
    pub fn set(self, unix: i64, utc: bool) -> Self {
        Self {
            adjusted_unix: unix,
            not_adjusted_s: 0.0,
            calibrated_unix: unix,
            local: Some(!utc),
            ..self
        }
    }

    /// With the drift that goes with `rate`.
    pub fn with_rate(self, rate: Ppm) -> Self {
        Self {
            drift_s_per_day: -rate.ratio() * DAY_S,
            ..self
        }
    }

    /// The clock's rate, as hwclock believes it.
    pub fn rate(&self) -> Ppm {
        Ppm::from_ratio(-self.drift_s_per_day / DAY_S)
    }

    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    /// With the file's name.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        // A link is to stay one.
        let real: PathBuf = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        drift::replace(&real, &self.to_string()).map_err(|error| {
            let named = format!("{}: can't be written: {error}", path.display());
            io::Error::new(error.kind(), named)
        })
    }
}

impl fmt::Display for Adjtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:.6} {} {:.6}\n{}\n{}",
            self.drift_s_per_day,
            self.adjusted_unix,
            self.not_adjusted_s,
            self.calibrated_unix,
            match self.local {
                Some(true) => "LOCAL",
                Some(false) | None => "UTC",
            }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chronys_file_is_read_and_ours_is_read_by_chrony() {
        let chronys = RtcFile::parse("1 1763822762 -0.123456 12.345\n").unwrap();
        let chronys = chronys.expect("valid");
        assert_eq!(chronys.fit.at.unix_ns(), 1_763_822_762_000_000_000);
        assert_eq!(chronys.fit.offset_s, -0.123456);
        assert_eq!(chronys.fit.rate.rate, Ppm(12.345));
        assert_eq!(chronys.set_unix, None);
        let ours = RtcFile {
            set_unix: Some(1_763_822_000),
            ..chronys
        };
        let text = ours.to_string();
        assert_eq!(text, "1 1763822762 -0.123456 12.345 5.000 1763822000\n");
        assert_eq!(RtcFile::parse(&text), Ok(Some(ours)));
        assert_eq!(RtcFile::parse("0 0 0.0 0.0\n"), Ok(None));
        for damaged in [
            "",
            "1 2 3",
            "1 a 0 0",
            "1 1763822762 0 1e9",
            "1 1e300 0 0",
            "nan 0 0 0",
        ] {
            assert!(RtcFile::parse(damaged).is_err(), "{damaged}");
        }
    }

    #[test]
    fn the_reference_is_a_whole_second() {
        let fit = Fit {
            at: WallInstant::from_unix_ns(1_763_822_762_500_000_000),
            offset_s: 0.5,
            rate: Rate {
                rate: Ppm(100.0),
                sigma: Ppm(0.1),
            },
        };
        let file = RtcFile {
            fit,
            set_unix: None,
        };
        assert_eq!(file.to_string(), "1 1763822762 0.499950 100.000 0.100 0\n");
    }

    #[test]
    fn hwclocks_file_keeps_its_three_lines() {
        let text = "-1.500000 1763800000 0.000000\n1763700000\nLOCAL\n";
        let file = Adjtime::parse(text);
        assert_eq!(file.local, Some(true));
        assert_eq!(file.to_string(), text);
        assert!((file.rate().0 - 17.361).abs() < 0.001, "fast");
        assert_eq!(
            file.set(1_763_822_762, true).to_string(),
            "-1.500000 1763822762 0.000000\n1763822762\nUTC\n"
        );
        let again = file.with_rate(file.rate());
        assert!((again.drift_s_per_day - file.drift_s_per_day).abs() < 1e-9);
        // As it is before hwclock wrote it first, and as Debian installs it.
        assert_eq!(
            Adjtime::parse("").to_string(),
            "0.000000 0 0.000000\n0\nUTC\n"
        );
        assert_eq!(Adjtime::parse("0.0 0 0.0\n0\nUTC\n").local, Some(false));
        assert_eq!(Adjtime::parse("nan x\n\nutc").local, None);
    }
}

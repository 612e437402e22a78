//! What one run of the daemon is asked to do: the configuration, and what only
//! a command line says (which clock, which event loop).

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::config::Config;
use crate::time::duration::NtpDuration;
use crate::time::units::Ppm;

/// Everything the daemon needs to start. The command line is already merged in.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whom to ask, whom to answer, where to listen.
    pub config: Config,
    /// Which clock to read and steer.
    pub clock: ClockChoice,
    /// How to wait for packets.
    pub io: IoChoice,
    /// The most talkative level that is still logged.
    pub log_level: log::LevelFilter,
    /// Set the clock once, then exit (`-q`).
    pub once: bool,
    /// Set the clock from the real-time clock before anything else (`-s`).
    pub from_rtc: bool,
    /// What to log once at the start: warnings about the configuration, and
    /// choices that were made for the operator.
    pub remarks: Vec<(log::Level, String)>,
    /// Reads the configuration again; none: there is no file.
    pub reload: Option<Reload>,
}

/// A configuration and what there is to say about it, or all that is wrong with it.
pub type Reread = Result<(Config, Vec<(log::Level, String)>), String>;

/// Reads the configuration again, command line included. Takes as long as files take.
#[derive(Clone)]
pub struct Reload(pub Arc<dyn Fn() -> Reread + Send + Sync>);

impl fmt::Debug for Reload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reload").finish_non_exhaustive()
    }
}

/// Which clock is measured, served and steered.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum ClockChoice {
    /// CLOCK_REALTIME, steered by adjtimex.
    System,
    /// CLOCK_REALTIME, never touched: measure and serve only.
    None,
    /// A clock in software over CLOCK_REALTIME; the system's is never touched.
    Virtual {
        /// Virtual clock minus CLOCK_REALTIME at the start; positive: it is ahead.
        error: NtpDuration,
        /// How much faster it runs than CLOCK_REALTIME.
        frequency: Ppm,
    },
}

impl ClockChoice {
    /// The largest error a virtual clock may start with, either way: ten years.
    pub const ERROR_MAX_S: f64 = 315_576_000.0;
    /// The largest frequency error of a virtual clock, either way. Far beyond
    /// the 500 ppm that adjtimex corrects, so that tests can go there.
    pub const FREQUENCY_MAX: Ppm = Ppm(100_000.0);
}

/// `system`, `none`, `virtual`, `virtual:OFFSET_S` or `virtual:OFFSET_S,FREQ_PPM`.
impl FromStr for ClockChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = match text {
            "system" => return Ok(Self::System),
            "none" => return Ok(Self::None),
            "virtual" => "0,0",
            _ => text.strip_prefix("virtual:").ok_or_else(|| {
                "expected system, none, virtual or virtual:OFFSET_S,FREQ_PPM".to_owned()
            })?,
        };
        let (error, frequency) = numbers.split_once(',').unwrap_or((numbers, "0"));
        Ok(Self::Virtual {
            error: NtpDuration::from_seconds(number(
                error,
                "offset",
                "seconds",
                Self::ERROR_MAX_S,
            )?),
            frequency: Ppm(number(
                frequency,
                "frequency",
                "ppm",
                Self::FREQUENCY_MAX.0,
            )?),
        })
    }
}

fn number(text: &str, what: &str, unit: &str, limit: f64) -> Result<f64, String> {
    let value: f64 = text
        .trim()
        .parse()
        .map_err(|_| format!("the {what} '{text}' is not a number of {unit}"))?;
    // NaN compares false, so it is refused here too.
    if value.abs() <= limit {
        Ok(value)
    } else {
        Err(format!(
            "the {what} '{text}' is beyond ±{limit:.0} {unit}, the most a virtual clock can have"
        ))
    }
}

/// How the daemon waits for packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IoChoice {
    /// io_uring where the kernel lets us, else poll.
    Auto,
    /// io_uring, or fail and say why.
    Uring,
    /// One thread, `poll(2)`.
    Poll,
}

impl IoChoice {
    /// The words, as written after `--io`.
    pub const WORDS: [&str; 3] = ["auto", "uring", "poll"];
}

impl FromStr for IoChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "uring" => Ok(Self::Uring),
            "poll" => Ok(Self::Poll),
            _ => Err(format!("expected one of {}", Self::WORDS.join(", "))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn virtual_clock(seconds: f64, ppm: f64) -> ClockChoice {
        ClockChoice::Virtual {
            error: NtpDuration::from_seconds(seconds),
            frequency: Ppm(ppm),
        }
    }

    #[test]
    fn every_form_of_a_clock_is_understood() {
        for (text, clock) in [
            ("system", ClockChoice::System),
            ("none", ClockChoice::None),
            ("virtual", virtual_clock(0.0, 0.0)),
            ("virtual:-2", virtual_clock(-2.0, 0.0)),
            ("virtual:0.5,50", virtual_clock(0.5, 50.0)),
            ("virtual:1e-3, -12.5", virtual_clock(0.001, -12.5)),
        ] {
            assert_eq!(text.parse(), Ok(clock), "{text}");
        }
    }

    #[test]
    fn a_wrong_clock_is_told_what_is_wrong_with_it() {
        for (text, sentence) in [
            ("sytem", "expected system"),
            ("", "expected system"),
            ("virtual:", "the offset '' is not a number of seconds"),
            ("virtual:x,5", "the offset 'x' is not a number of seconds"),
            (
                "virtual:1,2,3",
                "the frequency '2,3' is not a number of ppm",
            ),
            ("virtual:nan", "beyond"),
            ("virtual:1e300", "beyond"),
            (
                "virtual:0,200000",
                "the frequency '200000' is beyond ±100000 ppm",
            ),
        ] {
            let error = text.parse::<ClockChoice>().unwrap_err();
            assert!(error.contains(sentence), "{text}: {error}");
        }
    }

    #[test]
    fn io_words_are_all_understood() {
        for word in IoChoice::WORDS {
            assert!(word.parse::<IoChoice>().is_ok());
        }
        assert!("epoll".parse::<IoChoice>().is_err());
    }
}

//! `ptntp rtc`: the real-time clock by hand. `read` and `write` do what `hwclock -r` and
//! `hwclock -w` do; `status` says how right it is and who sets it. Needs no running
//! service, and gives way to one that is looking at the clock just now.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;

use crate::cli::args::{RtcArgs, RtcCommand, RtcStatusArgs};
use crate::cli::ask;
use crate::cli::render;
use crate::daemon::rtc::align::{Outcome, Reading, Scale, Set, align, measure, measure_or_mend};
use crate::daemon::rtc::files::{Adjtime, RtcFile};
use crate::linux::clock;
use crate::linux::rtc::Rtc;
use crate::linux::timex::Timex;
use crate::linux::zone;
use crate::time::civil::Civil;
use crate::time::duration::NtpDuration;
use crate::time::instant::WallInstant;

/// A service may be measuring it: that takes this long.
const PATIENCE: NtpDuration = NtpDuration::from_whole_seconds(10);

/// Does one of the three.
pub fn run(command: &RtcCommand) -> ExitCode {
    let (name, done) = match command {
        RtcCommand::Read(args) => ("read", read(args)),
        RtcCommand::Write(args) => ("write", write(args)),
        RtcCommand::Status(args) => ("status", status(args)),
    };
    match done {
        Ok(text) => {
            ask::print(&text);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("ptntp rtc {name}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// An open clock, and what its figures mean.
struct Opened {
    rtc: Rtc,
    adjtime: Adjtime,
    scale: Scale,
    /// Who says so.
    by: String,
}

impl Opened {
    fn new(args: &RtcArgs) -> io::Result<Self> {
        let adjtime = Adjtime::read(&args.adjfile)?;
        let (scale, by) = match (args.utc, args.localtime, adjtime.and_then(|a| a.local)) {
            (true, ..) => (Scale::Utc, "by --utc".to_owned()),
            (_, true, _) => (Scale::Local, "by --localtime".to_owned()),
            (_, _, Some(true)) => (Scale::Local, format!("by {}", args.adjfile.display())),
            (_, _, Some(false)) => (Scale::Utc, format!("by {}", args.adjfile.display())),
            (_, _, None) => (Scale::Utc, "as nothing else is said".to_owned()),
        };
        Ok(Self {
            rtc: Rtc::open(args.device.as_deref(), PATIENCE)?,
            adjtime: adjtime.unwrap_or_default(),
            scale,
            by,
        })
    }
}

/// The clock's time when the command was given, as `hwclock -r` shows it.
fn read(args: &RtcArgs) -> io::Result<String> {
    let asked = clock::realtime();
    let opened = Opened::new(args)?;
    let reading = measure(&opened.rtc, opened.scale)?;
    Ok(shown(then(&reading, asked)) + "\n")
}

/// What the clock would have shown at another moment of the system clock.
fn then(reading: &Reading, at: WallInstant) -> WallInstant {
    let ns = at.unix_ns().saturating_sub(reading.at.unix_ns());
    WallInstant::from_unix_ns(reading.says.unix_ns().saturating_add(ns))
}

fn write(args: &RtcArgs) -> io::Result<String> {
    let opened = Opened::new(args)?;
    let before = measure_or_mend(&opened.rtc, opened.scale)?;
    let set = align(&opened.rtc, opened.scale, &before, &|| false)?;
    let unix = set.reading.at.unix_ns().div_euclid(1_000_000_000);
    let adjtime = opened.adjtime.set(unix, opened.scale == Scale::Utc);
    if let Err(error) = adjtime.write(&args.adjfile) {
        eprintln!("ptntp rtc write: {error}; hwclock will not know that the clock was set");
    }
    written(opened.rtc.path(), &before, &set).map_err(io::Error::other)
}

fn written(device: &Path, before: &Reading, set: &Set) -> Result<String, String> {
    let (was_s, is_s) = (before.offset_s(), set.reading.offset_s());
    let text = format!(
        "{}: set from the system clock; it was {was_s:+.6} s off, now {is_s:+.6} s",
        device.display()
    );
    match set.outcome {
        Outcome::Aligned => Ok(text + "\n"),
        Outcome::Unalignable => Ok(text
            + "\nIts seconds don't begin where they are written (on AMD's chips), so it is right to \
               the nearest second and no better; `rtcfile` keeps the rest.\n"),
        Outcome::Unfinished => Err(format!(
            "{text}: {} writes did not bring its seconds closer",
            set.writes
        )),
    }
}

/// Everything there is to say. The field names are the JSON names; they only grow.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RtcStatus {
    /// Its path.
    pub device: PathBuf,
    /// Its driver.
    pub driver: Option<String>,
    /// `UTC` or `local time`.
    pub scale: &'static str,
    /// Who says so.
    pub scale_by: String,
    /// What it said at the edge that was measured, in seconds since 1970.
    pub time_unix_s: i64,
    /// Real-time clock minus system clock in seconds; positive: it is ahead.
    pub offset_s: f64,
    /// The offset may be larger by this.
    pub doubt_s: f64,
    /// How the edge was found.
    pub edge_by: &'static str,
    /// Does the kernel copy the system clock to it every 11 minutes?
    pub kernel_sets: bool,
    /// The `rtcfile`, if there is one.
    pub rtcfile: Option<PathBuf>,
    /// What it says that the clock gains, in ppm.
    pub rate_ppm: Option<f64>,
    /// What that may be wrong by, one sigma, in ppm.
    pub rate_sigma_ppm: Option<f64>,
    /// The offset that the file foretells for now, in seconds.
    pub foretold_offset_s: Option<f64>,
    /// When the file's figures were measured, in seconds since 1970.
    pub measured_unix_s: Option<i64>,
    /// When a service last set the clock, in seconds since 1970.
    pub set_unix_s: Option<i64>,
    /// hwclock's drift factor, in seconds a day; negative for a clock that is fast.
    pub adjtime_drift_s_per_day: f64,
    /// When hwclock's file says that the clock was set, in seconds since 1970.
    pub adjtime_set_unix_s: i64,
}

fn status(args: &RtcStatusArgs) -> io::Result<String> {
    let opened = Opened::new(&args.clock)?;
    let kept = RtcFile::read(&args.rtcfile).map_err(io::Error::other)?;
    let kernel = Timex::new().read();
    let reading = measure(&opened.rtc, opened.scale)?;
    let status = RtcStatus {
        device: opened.rtc.path().to_owned(),
        driver: opened.rtc.driver(),
        scale: opened.scale.name(),
        scale_by: opened.by,
        time_unix_s: reading.says.unix_ns().div_euclid(1_000_000_000),
        offset_s: reading.offset_s(),
        doubt_s: reading.doubt.as_seconds(),
        edge_by: reading.finder.name(),
        kernel_sets: kernel.is_ok_and(|kernel| kernel.synchronised),
        rtcfile: kept.map(|_| args.rtcfile.clone()),
        rate_ppm: kept.map(|kept| kept.fit.rate.rate.0),
        rate_sigma_ppm: kept.map(|kept| kept.fit.rate.sigma.0),
        foretold_offset_s: kept.map(|kept| kept.fit.offset_at_s(reading.at)),
        measured_unix_s: kept.map(|kept| kept.fit.at.unix_ns().div_euclid(1_000_000_000)),
        set_unix_s: kept.and_then(|kept| kept.set_unix),
        adjtime_drift_s_per_day: opened.adjtime.drift_s_per_day,
        adjtime_set_unix_s: opened.adjtime.calibrated_unix,
    };
    Ok(if args.json {
        // Strings and numbers.
        serde_json::to_string(&status).expect("always serialises") + "\n"
    } else {
        text(&status, reading.says)
    })
}

fn text(status: &RtcStatus, time: WallInstant) -> String {
    let driver = status.driver.iter().map(|driver| format!(" ({driver})"));
    let mut rows = vec![
        (
            "device",
            status.device.display().to_string() + &driver.collect::<String>(),
        ),
        ("keeps", format!("{}, {}", status.scale, status.scale_by)),
        ("time", shown(time)),
        (
            "offset",
            format!(
                "{:+.6} s from the system clock (positive: ahead), edge by {}",
                status.offset_s, status.edge_by
            ),
        ),
    ];
    let last = |unix: i64| shown_second(unix);
    let kernel = "the kernel, every 11 minutes (STA_UNSYNC is clear)";
    rows.push((
        "set by",
        match (status.kernel_sets, status.set_unix_s) {
            (true, None) => kernel.to_owned(),
            (true, Some(unix)) => format!("{kernel}; by a service {}", last(unix)),
            (false, Some(unix)) => format!("a service with `rtcfile`, last {}", last(unix)),
            (false, None) => "nobody just now (STA_UNSYNC is set)".to_owned(),
        },
    ));
    if let (Some(path), Some(rate), Some(sigma), Some(measured), Some(foretold_s)) = (
        &status.rtcfile,
        status.rate_ppm,
        status.rate_sigma_ppm,
        status.measured_unix_s,
        status.foretold_offset_s,
    ) {
        rows.push((
            "drift",
            format!(
                "{rate:+.3} ± {sigma:.3} ppm, {foretold_s:+.6} s by now, as measured {} ({})",
                last(measured),
                path.display()
            ),
        ));
    }
    let set = match status.adjtime_set_unix_s {
        0 => "never set".to_owned(),
        unix => format!("set {}", last(unix)),
    };
    rows.push((
        "hwclock",
        format!("{:+.6} s a day, {set}", status.adjtime_drift_s_per_day),
    ));
    let rows: Vec<Vec<String>> = rows
        .into_iter()
        .map(|(name, value)| vec![name.to_owned(), render::printable(&value)])
        .collect();
    render::columns(&rows)
}

/// As hwclock writes a time: in the local zone, with its offset from UTC.
fn shown(time: WallInstant) -> String {
    let ns = time.unix_ns();
    let (unix, micros) = (
        ns.div_euclid(1_000_000_000),
        ns.rem_euclid(1_000_000_000) / 1_000,
    );
    with_offset(unix, &format!(".{micros:06}"))
}

fn shown_second(unix: i64) -> String {
    with_offset(unix, "")
}

fn with_offset(unix: i64, fraction: &str) -> String {
    let offset_s = zone::offset_s(unix);
    let sign = if offset_s < 0 { '-' } else { '+' };
    let minutes = offset_s.abs() / 60;
    format!(
        "{}{fraction}{sign}{:02}:{:02}",
        Civil::from_unix(unix + offset_s),
        minutes / 60,
        minutes % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::rtc::Finder;

    fn reading(says_ns: i64, at_ns: i64) -> Reading {
        Reading {
            says: WallInstant::from_unix_ns(says_ns),
            at: WallInstant::from_unix_ns(at_ns),
            doubt: NtpDuration::ZERO,
            finder: Finder::Interrupt,
        }
    }

    #[test]
    fn times_are_written_as_hwclock_does() {
        let text = shown(WallInstant::from_unix_ns(1_763_822_762_123_456_789));
        let (_, rest) = text.split_once(':').unwrap();
        assert!(rest.starts_with("46:02.123456"), "{text}");
        assert_eq!(text.len(), "2025-11-22 14:46:02.123456+00:00".len());
    }

    #[test]
    fn the_time_shown_is_that_of_the_question() {
        let reading = reading(20_000_000_000, 18_250_000_000);
        let asked = WallInstant::from_unix_ns(17_500_000_000);
        assert_eq!(then(&reading, asked).unix_ns(), 19_250_000_000);
    }

    #[test]
    fn what_came_of_a_write_is_said() {
        let before = reading(20_000_000_000, 18_250_000_000);
        let set = |outcome, at_ns| Set {
            outcome,
            reading: reading(20_000_000_000, at_ns),
            writes: 2,
        };
        let device = Path::new("/dev/rtc0");
        assert_eq!(
            written(device, &before, &set(Outcome::Aligned, 19_999_990_000)).unwrap(),
            "/dev/rtc0: set from the system clock; it was +1.750000 s off, now +0.000010 s\n"
        );
        let amd = written(device, &before, &set(Outcome::Unalignable, 19_913_000_000));
        assert!(amd.unwrap().contains("nearest second"));
        let failed = written(device, &before, &set(Outcome::Unfinished, 19_913_000_000));
        assert!(failed.unwrap_err().contains("2 writes"));
    }

    #[test]
    fn a_status_is_a_few_lines() {
        let status = RtcStatus {
            device: "/dev/rtc0".into(),
            driver: Some("rtc_cmos".to_owned()),
            scale: "UTC",
            scale_by: "by --utc".to_owned(),
            time_unix_s: 1_763_822_762,
            offset_s: -0.000_123,
            doubt_s: 0.000_2,
            edge_by: "polling",
            kernel_sets: true,
            rtcfile: None,
            rate_ppm: None,
            rate_sigma_ppm: None,
            foretold_offset_s: None,
            measured_unix_s: None,
            set_unix_s: None,
            adjtime_drift_s_per_day: 0.0,
            adjtime_set_unix_s: 0,
        };
        let at = WallInstant::from_unix_ns(1_763_822_762_000_000_000);
        let said = text(&status, at);
        assert!(said.contains("/dev/rtc0 (rtc_cmos)"), "{said}");
        assert!(said.contains("the kernel, every 11 minutes"), "{said}");
        assert!(
            said.contains("never set") && !said.contains("ppm"),
            "{said}"
        );
        let kept = RtcStatus {
            kernel_sets: false,
            rtcfile: Some("/var/lib/ptntp/rtc".into()),
            rate_ppm: Some(12.5),
            rate_sigma_ppm: Some(0.1),
            foretold_offset_s: Some(0.001),
            measured_unix_s: Some(1_763_822_000),
            set_unix_s: Some(1_763_821_000),
            ..status
        };
        let said = text(&kept, at);
        assert!(said.contains("+12.500 ± 0.100 ppm"), "{said}");
        assert!(said.contains("a service with `rtcfile`"), "{said}");
    }

    #[test]
    fn a_clock_that_is_not_there_is_an_error() {
        let args = RtcArgs {
            device: Some("/nonexistent/rtc9".into()),
            utc: true,
            localtime: false,
            adjfile: "/nonexistent/adjtime".into(),
        };
        let error = read(&args).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/rtc9"), "{error}");
    }
}

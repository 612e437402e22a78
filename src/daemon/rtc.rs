//! The real-time clock, which has the time while the machine is off: it sets the system
//! clock at boot (`-s`), and is measured and set while we run (`rtcfile`).
//!
//! To find an edge takes a second or more, so all of it happens in a thread of its own,
//! which asks nothing of the time loop but its last snapshot. chrony's `rtc_linux.c`
//! has the same task and the same file; it sets to the nearest second, we to the
//! millisecond.

pub mod align;
pub mod files;
pub mod line;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use log::{debug, info, warn};

use crate::config::RtcConfig;
use crate::daemon::drift;
use crate::daemon::rtc::align::{Outcome, Reading, Scale, align, measure, measure_or_mend};
use crate::daemon::rtc::files::{ADJTIME, Adjtime, RtcFile};
use crate::daemon::rtc::line::{Added, Fit, Line, Sample};
use crate::daemon::snapshot::{Snapshot, SnapshotCell};
use crate::linux::clock;
use crate::linux::rtc::Rtc;
use crate::system::SystemState;
use crate::time::duration::NtpDuration;
use crate::time::instant::{MonoInstant, WallInstant};
use crate::time::units::Ppm;
use crate::wire::refid::RefId;

/// Others have the device open for a second or two when they read it.
const PATIENCE: NtpDuration = NtpDuration::from_whole_seconds(5);
/// A system clock that is likely off by more is nothing to measure by.
const LIKELY_MAX: NtpDuration = NtpDuration::from_units(1 << 27); // 31 ms
/// No edge is known better.
const SIGMA_MIN_S: f64 = 0.000_2;
/// The clock is not set before so many samples agree.
const SAMPLES_BEFORE_SET: usize = 3;
/// A clock that can't be aligned is still kept to the nearest second, and not moved to
/// and fro at half of one.
const UNALIGNABLE_LIMIT_S: f64 = 0.75;
/// Between two settings: as often as the kernel does it.
const SET_PAUSE: NtpDuration = NtpDuration::from_whole_seconds(660);
/// After one that did not succeed.
const FAILED_PAUSE: NtpDuration = NtpDuration::from_whole_seconds(6 * 3600);
/// How often the file is written.
const FILE_PAUSE: NtpDuration = NtpDuration::from_whole_seconds(3600);
/// With `-s` the system clock is left as it is if it is off by less.
const START_MIN_S: f64 = 0.002;

/// Is the clock on UTC? `hwclockfile` has the first word, then `rtconutc`, then
/// hwclock's own file; otherwise yes.
///
/// # Errors
/// A sentence about the file that should say it.
pub fn scale(config: &RtcConfig) -> Result<Scale, String> {
    let of = |local| if local { Scale::Local } else { Scale::Utc };
    if let Some(path) = &config.hwclock_file {
        let said = Adjtime::read(path).map_err(|error| format!("hwclockfile {error}"))?;
        if let Some(local) = said.and_then(|file| file.local) {
            return Ok(of(local));
        }
    }
    if let Some(utc) = config.on_utc {
        return Ok(of(!utc));
    }
    let said = Adjtime::read(Path::new(ADJTIME)).map_err(|error| error.to_string())?;
    Ok(of(said.and_then(|file| file.local).unwrap_or(false)))
}

/// What the clock says the time is.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Start {
    /// Right time minus system clock, in seconds: what the system clock has to be stepped by.
    pub step_s: f64,
    /// What of the clock's own error was taken out, in seconds; positive: it was ahead.
    pub corrected_s: f64,
}

/// The system clock's error by the real-time clock, whose own error by the `rtcfile`
/// is taken out. `not_before`: when this machine last ran, as far as is known. Takes up
/// to 5 seconds.
///
/// # Errors
/// A sentence: no clock, or one that is not to be believed.
pub fn start(config: &RtcConfig, not_before: Option<SystemTime>) -> Result<Start, String> {
    let text = |error: io::Error| error.to_string();
    let scale = scale(config)?;
    let rtc = Rtc::open(config.device.as_deref(), PATIENCE).map_err(text)?;
    let reading = measure(&rtc, scale).map_err(text)?;
    let kept = match config.file.as_deref().map(RtcFile::read) {
        Some(Err(sentence)) => {
            warn!("{sentence}");
            None
        }
        Some(Ok(kept)) => kept,
        None => None,
    };
    let start = start_by(&reading, kept.map(|kept| kept.fit));
    let time = reading.says.unix_seconds() - start.corrected_s;
    let last_s = not_before.and_then(unix_s);
    if last_s.is_some_and(|last_s| time < last_s) {
        return Err(format!(
            "real-time clock {}: it is before the drift file was last written, and not believed; \
             has its battery run out?",
            rtc.path().display()
        ));
    }
    Ok(start)
}

fn start_by(reading: &Reading, kept: Option<Fit>) -> Start {
    let corrected_s = kept.map_or(0.0, |fit| fit.offset_at_s(reading.says));
    Start {
        step_s: reading.offset_s() - corrected_s,
        corrected_s,
    }
}

/// What `-s` has to do: by the clock, or at least not to be before the drift file was
/// written, as chronyd does it. Returns the step that the system clock needs, or how
/// important it is that it gets none; and what to say about it.
pub fn start_step(
    config: &RtcConfig,
    drift_file: Option<&Path>,
) -> (Result<NtpDuration, log::Level>, String) {
    let written = drift_file
        .and_then(|path| std::fs::metadata(path).ok())
        .and_then(|metadata| metadata.modified().ok());
    match start(config, written) {
        Ok(start) if start.step_s.abs() < START_MIN_S => (
            Err(log::Level::Info),
            format!(
                "-s: the system clock agrees with the real-time clock ({:+.6} s)",
                start.step_s
            ),
        ),
        Ok(start) => {
            let correction = if start.corrected_s == 0.0 {
                String::new()
            } else {
                format!(", of which {:+.6} s were its own error", start.corrected_s)
            };
            (
                Ok(NtpDuration::from_seconds(start.step_s)),
                format!(
                    "-s: system clock set from the real-time clock, by {:+.6} s{correction}",
                    start.step_s
                ),
            )
        }
        Err(sentence) => {
            let now = clock::realtime().unix_seconds();
            let behind_s = written.and_then(unix_s).map(|written| written - now);
            match behind_s.filter(|behind_s| *behind_s > 0.0) {
                Some(behind_s) => (
                    Ok(NtpDuration::from_seconds(behind_s)),
                    format!(
                        "-s: {sentence}; system clock set to when the drift file was last \
                         written, by {behind_s:+.0} s"
                    ),
                ),
                None => (
                    Err(log::Level::Warn),
                    format!("-s: {sentence}; the system clock is left as it is"),
                ),
            }
        }
    }
}

fn unix_s(time: SystemTime) -> Option<f64> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(since.as_secs_f64())
}

/// The thread's end in the time loop's hands.
#[derive(Debug)]
pub struct Keeper {
    told: Arc<Told>,
    /// Interrupts the thread's sleep; dropped, it ends it.
    wishes: Option<mpsc::SyncSender<Wish>>,
    thread: Option<JoinHandle<()>>,
}

/// What an operator may ask of the thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wish {
    /// Measure the clock and set it, whatever it is off by.
    Set,
    /// Write the `rtcfile`.
    Keep,
}

/// Wishes that wait while the thread measures. An operator has few.
const WISHES_MAX: usize = 4;

/// What is known of the clock. Zero until it is measured, or the `rtcfile` was read.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub struct RtcReport {
    /// When that was so: Unix nanoseconds.
    pub at_unix_ns: i64,
    /// Measurements that it rests on.
    pub samples: usize,
    /// From the first of them to the last, seconds.
    pub span_s: f64,
    /// Real-time clock minus system clock then, in seconds; positive: it is ahead.
    pub offset_s: f64,
    /// What it gains.
    pub rate: Ppm,
    /// The last measurement: when, and real-time clock minus system clock in seconds.
    pub measured: Option<(WallInstant, f64)>,
}

impl RtcReport {
    fn new(fit: Fit, samples: usize, span_s: f64) -> Self {
        Self {
            at_unix_ns: fit.at.unix_ns(),
            samples,
            span_s,
            offset_s: fit.offset_s,
            rate: fit.rate.rate,
            measured: None,
        }
    }
}

/// What the time loop and the thread tell each other.
#[derive(Debug)]
struct Told {
    /// The thread's.
    report: Mutex<RtcReport>,
    snapshot: SnapshotCell,
    /// How often the system clock was moved, by us or another hand.
    steps: AtomicU32,
    stopping: AtomicBool,
}

impl Keeper {
    /// Looks whether the clock can be read and the file be kept, and starts the thread.
    /// None where `config` wants nothing.
    ///
    /// # Errors
    /// A sentence: what is lacking, and what to do.
    pub fn start(config: &RtcConfig, snapshot: Snapshot) -> Result<Option<Self>, String> {
        let Some(file) = config.file.clone() else {
            return Ok(None);
        };
        let scale = scale(config)?;
        let clock = Rtc::open(config.device.as_deref(), PATIENCE).map_err(|e| e.to_string())?;
        // One that shows nonsense can be set right, so that is no reason to give up.
        let device = clock.path().to_owned();
        drop(clock);
        drift::check(&file).map_err(|sentence| sentence.replacen("drift file", "rtcfile", 1))?;
        let kept = RtcFile::read(&file).unwrap_or_else(|sentence| {
            warn!("{sentence}");
            None
        });
        let snapshot = SnapshotCell::new(snapshot).map_err(|e| format!("rtcfile: {e}"))?;
        let known = kept.map(|kept| RtcReport::new(kept.fit, 0, 0.0));
        let told = Arc::new(Told {
            report: Mutex::new(known.unwrap_or_default()),
            snapshot,
            steps: AtomicU32::new(0),
            stopping: AtomicBool::new(false),
        });
        info!(
            "real-time clock {} ({}): measured, and kept in {}",
            device.display(),
            scale.name(),
            file.display()
        );
        let (wishes, wished) = mpsc::sync_channel(WISHES_MAX);
        let duty = Duty {
            told: Arc::clone(&told),
            device,
            scale,
            file,
            hwclock_file: config.hwclock_file.clone(),
            limit_s: config.autotrim.map(NtpDuration::as_seconds),
            line: Line::new(kept.map(|kept| kept.fit.rate)),
            measured: None,
            set_unix: kept.and_then(|kept| kept.set_unix),
            alignable: true,
            set_from: MonoInstant::ZERO,
            file_from: MonoInstant::ZERO,
            failing: false,
        };
        let thread = std::thread::Builder::new()
            .name("ptntp-rtc".to_owned())
            .spawn(move || duty.run(&wished))
            .map_err(|error| format!("rtcfile: no thread: {error}"))?;
        Ok(Some(Self {
            told,
            wishes: Some(wishes),
            thread: Some(thread),
        }))
    }

    /// The system clock is like this now; `stepped`: it was moved. Never waits.
    pub fn tell(&self, snapshot: &Snapshot, stepped: bool) {
        if stepped {
            self.told.steps.fetch_add(1, Ordering::Release);
        }
        self.told.snapshot.publish(snapshot);
    }

    /// Has the thread do this, when it is done with what it does; false: too many wishes
    /// wait. What comes of it is logged.
    pub fn wish(&self, wish: Wish) -> bool {
        let wishes = self.wishes.as_ref();
        wishes.is_some_and(|wishes| wishes.try_send(wish).is_ok())
    }

    /// What is known of the clock.
    pub fn report(&self) -> RtcReport {
        let report = self.told.report.lock();
        *report.unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the thread, which writes the file before. It may be amidst a measurement:
    /// up to 5 seconds.
    pub fn stop(mut self) {
        self.told.stopping.store(true, Ordering::Release);
        self.wishes = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            warn!("the real-time clock's thread ended with a panic");
        }
    }
}

/// The thread.
struct Duty {
    told: Arc<Told>,
    device: PathBuf,
    scale: Scale,
    file: PathBuf,
    hwclock_file: Option<PathBuf>,
    /// Beyond this the clock is set; none: never.
    limit_s: Option<f64>,
    line: Line,
    measured: Option<(WallInstant, f64)>,
    set_unix: Option<i64>,
    /// Do its seconds begin where we write? Until it shows otherwise.
    alignable: bool,
    /// It is not set before.
    set_from: MonoInstant,
    /// The file is not written before.
    file_from: MonoInstant,
    /// The operator was told that it can't be measured, or set.
    failing: bool,
}

impl Duty {
    fn run(mut self, wished: &mpsc::Receiver<Wish>) {
        let mut steps = 0;
        loop {
            let pause = self.line.pause().as_seconds();
            let wish = match wished.recv_timeout(Duration::from_secs_f64(pause)) {
                Ok(wish) => Some(wish),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            // A wish that came before the end is not waited for.
            if self.told.stopping.load(Ordering::Acquire) {
                break;
            }
            if wish == Some(Wish::Keep) {
                self.keep();
                continue;
            }
            let now_steps = self.told.steps.load(Ordering::Acquire);
            if now_steps != steps {
                // What was measured before, was measured by a clock that was wrong.
                self.line.forget();
                steps = now_steps;
            }
            let done = self.turn(steps, wish == Some(Wish::Set));
            self.tell();
            match done {
                Ok(()) => self.failing = false,
                Err(error) if wish.is_some() => {
                    warn!("the real-time clock can't be set: {error}");
                }
                Err(error) if !self.failing => {
                    warn!("{error}; trying again");
                    self.failing = true;
                }
                Err(error) => debug!("{error}"),
            }
        }
        self.keep();
    }

    /// Lets the time loop know what is known.
    fn tell(&self) {
        let Some(fit) = self.line.fit() else { return };
        let report = RtcReport::new(fit, self.line.len(), self.line.span().as_seconds());
        let report = RtcReport {
            measured: self.measured,
            ..report
        };
        let told = self.told.report.lock();
        *told.unwrap_or_else(PoisonError::into_inner) = report;
    }

    /// Measures, and does what follows from it. `wished`: the clock is to be set, whatever
    /// it is off by.
    fn turn(&mut self, steps: u32, wished: bool) -> io::Result<()> {
        let unknown = || {
            if wished {
                warn!("the real-time clock is not set: the system clock's time is not good enough");
            }
            Ok(())
        };
        if self.system_clock_sigma_s().is_none() {
            return unknown();
        }
        let rtc = Rtc::open(Some(&self.device), PATIENCE)?;
        let reading = match self.limit_s {
            Some(_) => measure_or_mend(&rtc, self.scale)?,
            None => measure(&rtc, self.scale)?,
        };
        // The clock may have been moved, or lost its source, while we looked.
        let still = self.told.steps.load(Ordering::Acquire) == steps;
        let Some(sigma_s) = self.system_clock_sigma_s().filter(|_| still) else {
            return unknown();
        };
        self.measured = Some((reading.at, reading.offset_s()));
        let added = self.line.add(Sample {
            at: reading.at,
            offset_s: reading.offset_s(),
            sigma_s: sigma_s.max(reading.doubt.as_seconds()).max(SIGMA_MIN_S),
        });
        debug!(
            "real-time clock: {:+.6} s by {}, {added:?}",
            reading.offset_s(),
            reading.finder.name()
        );
        if added == Added::Restarted {
            info!(
                "real-time clock {}: somebody else set it, {:+.3} s off; it is measured anew",
                self.device.display(),
                reading.offset_s()
            );
            self.set_from = MonoInstant::ZERO;
        }
        if wished || added != Added::Doubted && self.wants_setting(&reading) {
            self.set(&rtc, &reading)?;
        }
        if clock::monotonic() >= self.file_from && self.line.len() >= SAMPLES_BEFORE_SET {
            self.keep();
        }
        Ok(())
    }

    /// The likely error of the system clock; none: it is not good enough to measure by.
    fn system_clock_sigma_s(&self) -> Option<f64> {
        let state = self.told.snapshot.read().state;
        if !state.is_synchronised() || follows_itself(&state) {
            return None;
        }
        let growth = state.error_bound_at(clock::realtime()) - state.error_bound;
        let likely = state.error_likely + growth;
        (likely <= LIKELY_MAX).then(|| likely.as_seconds())
    }

    fn wants_setting(&self, reading: &Reading) -> bool {
        let (Some(limit_s), Some(fit)) = (self.limit_s, self.line.fit()) else {
            return false;
        };
        let limit_s = if self.alignable {
            limit_s
        } else {
            limit_s.max(UNALIGNABLE_LIMIT_S)
        };
        // Whole seconds need no more proof than a line that was begun anew.
        let enough = if reading.offset_s().abs() > UNALIGNABLE_LIMIT_S {
            1
        } else {
            SAMPLES_BEFORE_SET
        };
        fit.offset_at_s(reading.at).abs() > limit_s
            && self.line.len() >= enough
            && clock::monotonic() >= self.set_from
    }

    fn set(&mut self, rtc: &Rtc, before: &Reading) -> io::Result<()> {
        let told = Arc::clone(&self.told);
        let stop = move || told.stopping.load(Ordering::Acquire);
        let set = align(rtc, self.scale, before, &stop).inspect_err(|_| {
            self.set_from = clock::monotonic() + FAILED_PAUSE;
        })?;
        let after = set.reading;
        self.line.shift(match self.line.fit() {
            Some(fit) => after.offset_s() - fit.offset_at_s(after.at),
            None => 0.0,
        });
        self.set_unix = Some(after.at.unix_ns().div_euclid(1_000_000_000));
        let name = self.device.display();
        let (was_s, is_s) = (before.offset_s(), after.offset_s());
        let pause = match set.outcome {
            Outcome::Aligned => {
                info!("real-time clock {name}: set; it was {was_s:+.6} s off, now {is_s:+.6} s");
                SET_PAUSE
            }
            Outcome::Unalignable => {
                if self.alignable {
                    warn!(
                        "real-time clock {name}: its seconds don't begin where they are written \
                         (on AMD's chips), so it can't be aligned: it stays {is_s:+.6} s off, is \
                         kept to the nearest second, and its error in {}",
                        self.file.display()
                    );
                } else {
                    info!(
                        "real-time clock {name}: set to the nearest second; it was {was_s:+.6} s off, now {is_s:+.6} s"
                    );
                }
                self.alignable = false;
                SET_PAUSE
            }
            Outcome::Unfinished => {
                warn!(
                    "real-time clock {name}: set {} times; it was {was_s:+.6} s off, now {is_s:+.6} s",
                    set.writes
                );
                FAILED_PAUSE
            }
        };
        self.set_from = clock::monotonic() + pause;
        self.keep();
        self.tell_hwclock(after.at);
        Ok(())
    }

    /// Writes the `rtcfile`. Without a measurement the old one is the best there is.
    fn keep(&mut self) {
        let Some(fit) = self.line.fit() else { return };
        self.file_from = clock::monotonic() + FILE_PAUSE;
        let kept = RtcFile {
            fit,
            set_unix: self.set_unix,
        };
        if let Err(sentence) = kept.write(&self.file) {
            warn!("{sentence}");
        }
    }

    /// hwclock's file, where it was named: so that hwclock knows the clock's rate, and
    /// does not correct twice what we corrected.
    fn tell_hwclock(&mut self, at: WallInstant) {
        let (Some(path), Some(fit)) = (&self.hwclock_file, self.line.fit()) else {
            return;
        };
        let unix = at.unix_ns().div_euclid(1_000_000_000);
        let written = Adjtime::read(path).and_then(|file| {
            file.unwrap_or_default()
                .set(unix, self.scale == Scale::Utc)
                .with_rate(fit.rate.rate)
                .write(path)
        });
        if let Err(error) = written {
            warn!("hwclockfile {error}; it is not updated any more");
            self.hwclock_file = None;
        }
    }
}

/// The system clock alone (127.127.1.x) knows no better than the real-time clock.
fn follows_itself(state: &SystemState) -> bool {
    [RefId::local(1), RefId::local(2)].contains(&state.refid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::rtc::line::Rate;
    use crate::linux::rtc::Finder;
    use crate::time::map::ClockMap;
    use crate::time::units::Precision;

    #[test]
    fn the_clocks_own_error_is_taken_out_at_the_start() {
        let at = |s: f64| WallInstant::from_unix_ns((s * 1e9) as i64);
        // A day ago it was 0.25 s ahead, and it gains 10 ppm; it is the system clock,
        // fresh from a boot, that is 3 s behind.
        let reading = Reading {
            says: at(86_400.0),
            at: at(86_398.114),
            doubt: NtpDuration::ZERO,
            finder: Finder::Interrupt,
        };
        let kept = Fit {
            at: at(0.0),
            offset_s: 0.25,
            rate: Rate {
                rate: Ppm(10.0),
                sigma: Ppm(0.1),
            },
        };
        let start = start_by(&reading, Some(kept));
        assert!((start.corrected_s - 1.114).abs() < 1e-6, "{start:?}");
        assert!((start.step_s - 0.772).abs() < 1e-6, "{start:?}");
        assert!((start_by(&reading, None).step_s - 1.886).abs() < 1e-6);
    }

    #[test]
    fn who_says_whether_it_is_on_utc() {
        let path = std::env::temp_dir().join(format!("ptntp-adjtime-{}", std::process::id()));
        let local = RtcConfig {
            on_utc: Some(true),
            hwclock_file: Some(path.clone()),
            ..RtcConfig::default()
        };
        std::fs::write(&path, "0.0 0 0.0\n0\nLOCAL\n").unwrap();
        assert_eq!(scale(&local), Ok(Scale::Local));
        std::fs::write(&path, "0.0 0 0.0\n0\n").unwrap();
        assert_eq!(scale(&local), Ok(Scale::Utc), "rtconutc");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(scale(&local), Ok(Scale::Utc));
        let off = RtcConfig {
            on_utc: Some(false),
            ..RtcConfig::default()
        };
        assert_eq!(scale(&off), Ok(Scale::Local));
    }

    fn snapshot() -> Snapshot {
        Snapshot {
            state: SystemState::unsynchronised(Precision::new(-20)),
            clock: ClockMap::IDENTITY,
        }
    }

    #[test]
    fn nothing_is_kept_unless_it_is_asked_for_and_can_be() {
        let nothing = Keeper::start(&RtcConfig::default(), snapshot());
        assert!(matches!(nothing, Ok(None)));
        let config = RtcConfig {
            file: Some("/nonexistent/rtc".into()),
            device: Some("/nonexistent/rtc0".into()),
            on_utc: Some(true),
            ..RtcConfig::default()
        };
        let sentence = Keeper::start(&config, snapshot()).unwrap_err();
        assert!(sentence.contains("/nonexistent/rtc0"), "{sentence}");
        let null = RtcConfig {
            device: Some("/dev/null".into()),
            ..config
        };
        let sentence = Keeper::start(&null, snapshot()).unwrap_err();
        assert!(sentence.contains("rtcfile /nonexistent/rtc"), "{sentence}");
        let (step, sentence) = start_step(&null, None);
        assert_eq!(step, Err(log::Level::Warn));
        assert!(sentence.contains("/dev/null"), "{sentence}");
    }

    #[test]
    fn the_thread_ends_at_once_while_there_is_nothing_to_measure() {
        let config = RtcConfig {
            file: Some(std::env::temp_dir().join(format!("ptntp-rtc-{}", std::process::id()))),
            device: Some("/dev/null".into()),
            on_utc: Some(true),
            ..RtcConfig::default()
        };
        let keeper = Keeper::start(&config, snapshot()).unwrap().unwrap();
        keeper.tell(&snapshot(), true);
        assert!(keeper.wish(Wish::Keep) && keeper.wish(Wish::Set));
        assert_eq!(keeper.report(), RtcReport::default());
        let before = clock::monotonic();
        keeper.stop();
        assert!(clock::monotonic().since(before).as_seconds() < 2.0);
        assert!(!config.file.unwrap().exists(), "nothing is known");
    }

    #[test]
    fn the_local_clock_is_nothing_to_measure_by() {
        let mut state = SystemState::unsynchronised(Precision::new(-20));
        state.refid = RefId::local(6);
        assert!(follows_itself(&state));
        state.refid = RefId::STEP;
        assert!(!follows_itself(&state));
    }
}

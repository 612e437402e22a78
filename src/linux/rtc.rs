//! The real-time clock behind `/dev/rtcN`: what it shows, where its seconds begin,
//! and setting it (rtc(4), `linux/rtc.h`).
//!
//! It counts whole seconds, so its time is known well only where one begins, at an
//! edge. Two ways lead there: the update interrupt, and reading until the seconds
//! change. Either can be late (an interrupt that a HPET stands in for comes up to
//! 16 ms after the edge, and older kernels sleep 20 ms when a read meets an update),
//! neither can be early. So both are tried, and the earlier is right.
//!
//! The device admits one at a time: it is opened for a measurement and closed again.

use std::fs::{self, File};
use std::io;
use std::mem;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::linux::clock;
use crate::time::civil::Civil;
use crate::time::duration::NtpDuration;
use crate::time::instant::{MonoInstant, WallInstant};

/// Where the clock is looked for when nobody says: hwclock's order.
const DEVICES: [&str; 3] = ["/dev/rtc0", "/dev/rtc", "/dev/misc/rtc"];
/// `struct rtc_time`: years count from here.
const YEAR_ZERO: i64 = 1900;
/// Pause between two readings that look for an edge: it may be late by this.
const NAP: Duration = Duration::from_micros(100);
/// The same while it is only looked for roughly.
const NAP_ROUGH: Duration = Duration::from_millis(5);
/// So long before an edge is expected, looking for it begins; and so long after it ends.
const MARGIN: NtpDuration = NtpDuration::from_units(1 << 27); // 31 ms
/// No second takes longer, whatever the clock.
const SECOND_MAX: NtpDuration = NtpDuration::from_units(3 << 31); // 1.5 s

/// `struct rtc_time` of `linux/rtc.h`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct RtcTime {
    second: libc::c_int,
    minute: libc::c_int,
    hour: libc::c_int,
    day: libc::c_int,
    /// From 0.
    month: libc::c_int,
    /// Since 1900.
    year: libc::c_int,
    weekday: libc::c_int,
    day_of_year: libc::c_int,
    summer: libc::c_int,
}

const RTC_UIE_ON: libc::Ioctl = libc::_IO(b'p' as u32, 0x03);
const RTC_UIE_OFF: libc::Ioctl = libc::_IO(b'p' as u32, 0x04);
const RTC_RD_TIME: libc::Ioctl = libc::_IOR::<RtcTime>(b'p' as u32, 0x09);
const RTC_SET_TIME: libc::Ioctl = libc::_IOW::<RtcTime>(b'p' as u32, 0x0a);

/// How an edge was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Finder {
    /// The update interrupt.
    Interrupt,
    /// Reading until the seconds change.
    Polling,
}

impl Finder {
    /// In words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "update interrupt",
            Self::Polling => "polling",
        }
    }
}

/// A second of the clock began.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Edge {
    /// What the clock shows from here on.
    pub shows: Civil,
    /// When, on CLOCK_REALTIME.
    pub at: WallInstant,
    /// It may have been this much earlier.
    pub doubt: NtpDuration,
    /// How it was found.
    pub finder: Finder,
}

/// An open clock.
#[derive(Debug)]
pub struct Rtc {
    file: File,
    path: PathBuf,
}

impl Rtc {
    /// Opens the clock at `path`, or the one that the host has. Waits up to `patience`
    /// where another program has it open.
    ///
    /// # Errors
    /// With the path and what to do: NotFound where there is no such clock,
    /// ResourceBusy where somebody else keeps it open.
    pub fn open(path: Option<&Path>, patience: NtpDuration) -> io::Result<Self> {
        let paths: Vec<&Path> = match path {
            Some(path) => vec![path],
            None => DEVICES.iter().map(Path::new).collect(),
        };
        let until = clock::monotonic() + patience;
        loop {
            let error = match Self::open_first(&paths) {
                Ok(rtc) => return Ok(rtc),
                Err(error) => error,
            };
            if error.kind() != io::ErrorKind::ResourceBusy || clock::monotonic() >= until {
                return Err(error);
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn open_first(paths: &[&Path]) -> io::Result<Self> {
        let mut opened = Err(io::ErrorKind::NotFound.into());
        for path in paths {
            opened = File::open(path);
            match opened {
                Ok(file) => {
                    let path = path.to_path_buf();
                    return Ok(Self { file, path });
                }
                // Another name would only be for another clock.
                Err(ref error) if error.kind() != io::ErrorKind::NotFound => break,
                Err(_) => {}
            }
        }
        let error = opened.map(drop).expect_err("an open file was returned");
        let what_to_do = match error.kind() {
            io::ErrorKind::NotFound => "this host has none, or it has another name",
            io::ErrorKind::ResourceBusy => {
                "another program keeps it open (chronyd with rtcfile, hwclock)"
            }
            io::ErrorKind::PermissionDenied => {
                "run as root, or let a udev rule give the device away (docs/RTC.md)"
            }
            _ => "is it a real-time clock?",
        };
        let named = paths
            .first()
            .unwrap_or(&Path::new(""))
            .display()
            .to_string();
        Err(io::Error::new(
            error.kind(),
            format!("real-time clock {named}: {error}: {what_to_do}"),
        ))
    }

    /// The device's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The driver's name, such as `rtc_cmos`, where the kernel tells.
    pub fn driver(&self) -> Option<String> {
        let real = fs::canonicalize(&self.path).ok()?;
        let name = Path::new("/sys/class/rtc").join(real.file_name()?);
        let text = fs::read_to_string(name.join("name")).ok()?;
        text.split_whitespace().next().map(str::to_owned)
    }

    /// What the clock shows.
    ///
    /// # Errors
    /// InvalidData where that is no time (an empty battery); else what the driver says.
    pub fn read(&self) -> io::Result<Civil> {
        let mut time = RtcTime::default();
        // SAFETY: `time` is a live struct rtc_time, which the call fills.
        let result = unsafe { libc::ioctl(self.file.as_raw_fd(), RTC_RD_TIME, &mut time) };
        if result < 0 {
            return Err(self.failed("can't be read", &io::Error::last_os_error()));
        }
        civil(&time).ok_or_else(|| {
            let nonsense = io::Error::new(
                io::ErrorKind::InvalidData,
                "it shows a time that does not exist; has its battery run out?",
            );
            self.failed("can't be read", &nonsense)
        })
    }

    /// Makes the clock show `civil`. When its next second begins depends on the
    /// clock: after half a second (`rtc_cmos`), after a whole one, or when it would
    /// have begun anyway.
    ///
    /// # Errors
    /// PermissionDenied without CAP_SYS_TIME; else what the driver says.
    pub fn set(&self, civil: Civil) -> io::Result<()> {
        let time = raw(civil);
        // SAFETY: `time` is a live struct rtc_time, which the call reads.
        let result = unsafe { libc::ioctl(self.file.as_raw_fd(), RTC_SET_TIME, &time) };
        if result < 0 {
            let error = io::Error::last_os_error();
            let what = match error.kind() {
                io::ErrorKind::PermissionDenied => "can't be set (CAP_SYS_TIME)",
                _ => "can't be set",
            };
            return Err(self.failed(what, &error));
        }
        Ok(())
    }

    /// Waits for an edge, found in the better of both ways. Takes up to 5 seconds,
    /// nearly all of it asleep.
    ///
    /// # Errors
    /// TimedOut for a clock that stands still; else what the driver says.
    pub fn edge(&self) -> io::Result<Edge> {
        let second = NtpDuration::from_whole_seconds(1);
        let Ok(told) = self.edge_by_interrupt() else {
            return self.edge_by_polling();
        };
        sleep_until(told.at + second - MARGIN);
        let Some(seen) = self.watch(told.at + second + MARGIN, NAP)? else {
            // So late an interrupt is that the edge was over when we looked.
            return self.edge_by_polling();
        };
        if seen.at - told.at < second {
            return Ok(seen);
        }
        Ok(Edge {
            at: told.at + second,
            doubt: told.doubt,
            finder: told.finder,
            ..seen
        })
    }

    /// The next edge by the update interrupt.
    fn edge_by_interrupt(&self) -> io::Result<Edge> {
        let _on = Interrupts::on(self)?;
        let mut shown = self.read()?;
        // The first may be one that was pending.
        for _ in 0..3 {
            let asked = clock::realtime();
            if !self.wait(SECOND_MAX)? {
                break;
            }
            let at = clock::realtime();
            self.acknowledge()?;
            let shows = self.read()?;
            let waited = at - asked;
            if shows != shown && waited > NtpDuration::from_seconds(0.001) {
                return Ok(Edge {
                    shows,
                    at,
                    // What it takes to wake somebody up.
                    doubt: NtpDuration::from_seconds(0.000_2),
                    finder: Finder::Interrupt,
                });
            }
            shown = shows;
        }
        Err(self.failed(
            "gives no update interrupts",
            &io::ErrorKind::TimedOut.into(),
        ))
    }

    /// The next edge but one by reading alone: first roughly, then well.
    fn edge_by_polling(&self) -> io::Result<Edge> {
        let stands_still = || {
            self.failed(
                "stands still",
                &io::Error::new(io::ErrorKind::TimedOut, "its seconds don't change"),
            )
        };
        let rough = self.watch(clock::realtime() + SECOND_MAX, NAP_ROUGH)?;
        let rough = rough.ok_or_else(stands_still)?;
        let next = rough.at + NtpDuration::from_whole_seconds(1);
        sleep_until(next - rough.doubt - MARGIN);
        let edge = self.watch(next + MARGIN, NAP)?;
        edge.ok_or_else(stands_still)
    }

    /// Reads until the seconds change, or until the time is up.
    fn watch(&self, until: WallInstant, nap: Duration) -> io::Result<Option<Edge>> {
        let mut asked = clock::realtime();
        let first = self.read()?;
        while clock::realtime() < until {
            thread::sleep(nap);
            let asking = clock::realtime();
            let shows = self.read()?;
            let at = clock::realtime();
            if shows != first {
                return Ok(Some(Edge {
                    shows,
                    // A read that meets the update ends with it.
                    at,
                    doubt: at - asked,
                    finder: Finder::Polling,
                }));
            }
            asked = asking;
        }
        Ok(None)
    }

    /// Is there an interrupt within `patience`?
    fn wait(&self, patience: NtpDuration) -> io::Result<bool> {
        let until: MonoInstant = clock::monotonic() + patience;
        loop {
            let left = until.since(clock::monotonic());
            if left.is_negative() {
                return Ok(false);
            }
            let mut poll = libc::pollfd {
                fd: self.file.as_raw_fd(),
                events: libc::POLLIN,
                revents: 0,
            };
            let left_ms = (left.as_nanos() / 1_000_000) as libc::c_int + 1;
            // SAFETY: one live pollfd, as the count says.
            let ready = unsafe { libc::poll(&mut poll, 1, left_ms) };
            match ready {
                0 => return Ok(false),
                1.. if poll.revents & libc::POLLIN != 0 => return Ok(true),
                1.. => return Err(io::ErrorKind::BrokenPipe.into()),
                _ => {
                    let error = io::Error::last_os_error();
                    if error.kind() != io::ErrorKind::Interrupted {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// Takes the interrupts that have come.
    fn acknowledge(&self) -> io::Result<()> {
        use std::io::Read;
        let mut counts = [0; mem::size_of::<libc::c_ulong>()];
        (&self.file).read_exact(&mut counts)
    }

    fn failed(&self, what: &str, error: &io::Error) -> io::Error {
        let path = self.path.display();
        io::Error::new(
            error.kind(),
            format!("real-time clock {path} {what}: {error}"),
        )
    }
}

/// Update interrupts, switched off again when this goes.
struct Interrupts<'a>(&'a Rtc);

impl<'a> Interrupts<'a> {
    fn on(rtc: &'a Rtc) -> io::Result<Self> {
        // SAFETY: the request takes no argument.
        let result = unsafe { libc::ioctl(rtc.file.as_raw_fd(), RTC_UIE_ON, 0) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self(rtc))
    }
}

impl Drop for Interrupts<'_> {
    fn drop(&mut self) {
        // SAFETY: the request takes no argument. Closing the device would do the same.
        unsafe { libc::ioctl(self.0.file.as_raw_fd(), RTC_UIE_OFF, 0) };
    }
}

/// Sleeps until CLOCK_REALTIME shows `until`, but for a second and a half at most:
/// somebody may set it back meanwhile.
pub fn sleep_until(until: WallInstant) {
    let left = until - clock::realtime();
    if !left.is_negative() {
        let left_ns = left.min(SECOND_MAX).as_nanos().max(0) as u64;
        thread::sleep(Duration::from_nanos(left_ns));
    }
}

fn civil(time: &RtcTime) -> Option<Civil> {
    let small = |value: libc::c_int| u8::try_from(value).ok();
    let civil = Civil {
        year: YEAR_ZERO + i64::from(time.year),
        month: small(time.month.checked_add(1)?)?,
        day: small(time.day)?,
        hour: small(time.hour)?,
        minute: small(time.minute)?,
        second: small(time.second)?,
    };
    civil.is_valid().then_some(civil)
}

fn raw(civil: Civil) -> RtcTime {
    let new_year = Civil {
        month: 1,
        day: 1,
        ..civil
    };
    RtcTime {
        second: civil.second.into(),
        minute: civil.minute.into(),
        hour: civil.hour.into(),
        day: civil.day.into(),
        month: libc::c_int::from(civil.month) - 1,
        year: (civil.year - YEAR_ZERO).clamp(0, i32::MAX.into()) as _,
        weekday: civil.weekday().into(),
        day_of_year: ((civil.to_unix() - new_year.to_unix()) / 86_400) as _,
        summer: 0,
    }
}

/// This machine's clock is not touched, and may not exist; `hwtest/suites/rtc.sh`
/// does all of it in a guest.
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_requests_have_the_kernels_numbers() {
        assert_eq!(mem::size_of::<RtcTime>(), 36);
        assert_eq!(RTC_UIE_ON as u32, 0x7003);
        assert_eq!(RTC_RD_TIME as u32, 0x8024_7009);
        assert_eq!(RTC_SET_TIME as u32, 0x4024_700a);
    }

    #[test]
    fn the_kernels_fields_are_civil_time() {
        let time = Civil::from_unix(1_763_822_762);
        let fields = raw(time);
        assert_eq!((fields.year, fields.month, fields.weekday), (125, 10, 6));
        assert_eq!(fields.day_of_year, 325);
        assert_eq!(civil(&fields), Some(time));
        assert_eq!(
            civil(&RtcTime {
                month: 15,
                ..fields
            }),
            None
        );
        assert_eq!(civil(&RtcTime { day: 0, ..fields }), None);
    }

    #[test]
    fn a_clock_that_is_not_there_is_named() {
        let path = Path::new("/nonexistent/rtc");
        let error = Rtc::open(Some(path), NtpDuration::ZERO).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().contains("/nonexistent/rtc"), "{error}");
        // Something else under that name.
        let null = Rtc::open(Some(Path::new("/dev/null")), NtpDuration::ZERO).unwrap();
        assert!(null.read().is_err() && null.edge().is_err());
        assert_eq!(null.driver(), None);
    }
}

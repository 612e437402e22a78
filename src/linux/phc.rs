//! PTP hardware clocks, `/dev/ptpN`: reading one together with CLOCK_REALTIME, and
//! steering one. As in the kernel's `linux/ptp_clock.h` and
//! Documentation/driver-api/ptp.rst.

use std::ffi::CString;
use std::fmt;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::linux::socket::{check, retry};
use crate::time::duration::NtpDuration;
use crate::time::instant::WallInstant;
use crate::time::phc::{Crossing, PhcInstant};
use crate::time::units::Ppm;

/// Ways of reading both clocks, from the worst.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum CrossMethod {
    /// PTP_SYS_OFFSET: the system clock before and after the driver was called.
    Plain,
    /// PTP_SYS_OFFSET_EXTENDED: just around the one read that latches the time.
    Extended,
    /// PTP_SYS_OFFSET_PRECISE: both clocks latched by hardware.
    Precise,
}

impl CrossMethod {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Extended => "extended",
            Self::Precise => "precise",
        }
    }
}

impl fmt::Display for CrossMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Readings in one batch: a few are disturbed, and the best are what counts.
const BATCH: usize = 10;

/// An open hardware clock.
#[derive(Debug)]
pub struct Phc {
    fd: OwnedFd,
    index: u32,
    writable: bool,
    /// The best way that works; found out with the first reading.
    method: CrossMethod,
}

impl Phc {
    /// Opens `/dev/ptpN`: for steering too, where that is allowed.
    ///
    /// # Errors
    /// What open(2) says: NotFound, PermissionDenied; Unsupported if the device is
    /// no PTP clock.
    pub fn open(index: u32) -> io::Result<Self> {
        let path = CString::new(path_of(index)).expect("digits");
        let open = |flags| {
            // SAFETY: `path` is a C string; the call has no other pointers.
            check(unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC) })
        };
        let (fd, writable) = match open(libc::O_RDWR) {
            Ok(fd) => (fd, true),
            Err(_) => (open(libc::O_RDONLY)?, false),
        };
        // SAFETY: just opened, and nobody else's.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let phc = Self {
            fd,
            index,
            writable,
            method: CrossMethod::Precise,
        };
        phc.capabilities().map_err(|error| {
            let what = format!("{} is no PTP clock: {error}", path_of(index));
            io::Error::new(io::ErrorKind::Unsupported, what)
        })?;
        Ok(phc)
    }

    /// N of `/dev/ptpN`.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Is the other one the same device, opened again? A card that was pulled out and
    /// put back is not.
    pub fn is_same(&self, other: &Self) -> bool {
        let stat = |fd: &OwnedFd| {
            nix::sys::stat::fstat(fd)
                .map(|s| (s.st_rdev, s.st_ctime))
                .ok()
        };
        self.index == other.index && stat(&self.fd) == stat(&other.fd)
    }

    /// May it be steered by us?
    pub fn is_writable(&self) -> bool {
        self.writable
    }

    /// How it is read.
    pub fn method(&self) -> CrossMethod {
        self.method
    }

    /// Never asks for both clocks at once (`nocrossts`): some drivers get it wrong.
    pub fn without_precise(&mut self) {
        self.method = self.method.min(CrossMethod::Extended);
    }

    /// The farthest it can be bent.
    ///
    /// # Errors
    /// What ioctl(2) says: ENODEV once the device is gone.
    pub fn frequency_max(&self) -> io::Result<Ppm> {
        // In parts per billion.
        Ok(Ppm(f64::from(self.capabilities()?.max_adj) * 1e-3))
    }

    fn capabilities(&self) -> io::Result<libc::ptp_clock_caps> {
        // SAFETY: plain integers, for which zero is a value.
        let mut caps: libc::ptp_clock_caps = unsafe { mem::zeroed() };
        // SAFETY: this ioctl fills a `ptp_clock_caps`.
        unsafe { self.ioctl(libc::PTP_CLOCK_GETCAPS, &mut caps) }?;
        Ok(caps)
    }

    /// Reads both clocks several times in a row. The best way is tried first, and what
    /// the driver can't do is not asked for again.
    ///
    /// # Errors
    /// What ioctl(2) says: ENODEV once the device is gone.
    pub fn cross(&mut self, batch: &mut Vec<Crossing>) -> io::Result<()> {
        batch.clear();
        loop {
            let outcome = match self.method {
                CrossMethod::Precise => self.cross_precise(batch),
                CrossMethod::Extended => self.cross_extended(batch),
                CrossMethod::Plain => self.cross_plain(batch),
            };
            let worse = match self.method {
                CrossMethod::Precise => CrossMethod::Extended,
                CrossMethod::Extended => CrossMethod::Plain,
                CrossMethod::Plain => return outcome,
            };
            match outcome {
                // EINVAL: what older kernels, and drivers that lost their time source,
                // say.
                Err(error)
                    if matches!(
                        error.raw_os_error(),
                        Some(libc::EOPNOTSUPP | libc::ENOTTY | libc::EINVAL)
                    ) =>
                {
                    batch.clear();
                    self.method = worse;
                }
                outcome => return outcome,
            }
        }
    }

    fn cross_precise(&self, batch: &mut Vec<Crossing>) -> io::Result<()> {
        // One reading says all that there is to know, so a few are enough to average.
        for _ in 0..BATCH / 3 {
            // SAFETY: plain integers, for which zero is a value.
            let mut both: libc::ptp_sys_offset_precise = unsafe { mem::zeroed() };
            // SAFETY: this ioctl fills a `ptp_sys_offset_precise`.
            unsafe { self.ioctl(libc::PTP_SYS_OFFSET_PRECISE, &mut both) }?;
            batch.push(Crossing {
                phc: phc_instant(&both.device),
                real: wall_instant(&both.sys_realtime),
                window: NtpDuration::ZERO,
            });
        }
        Ok(())
    }

    fn cross_extended(&self, batch: &mut Vec<Crossing>) -> io::Result<()> {
        // SAFETY: plain integers, for which zero is a value.
        let mut readings: libc::ptp_sys_offset_extended = unsafe { mem::zeroed() };
        readings.n_samples = BATCH as _;
        // SAFETY: this ioctl reads and fills a `ptp_sys_offset_extended`.
        unsafe { self.ioctl(libc::PTP_SYS_OFFSET_EXTENDED, &mut readings) }?;
        for [before, phc, after] in &readings.ts[..BATCH] {
            batch.push(between(before, phc, after));
        }
        Ok(())
    }

    fn cross_plain(&self, batch: &mut Vec<Crossing>) -> io::Result<()> {
        // SAFETY: plain integers, for which zero is a value.
        let mut readings: libc::ptp_sys_offset = unsafe { mem::zeroed() };
        readings.n_samples = BATCH as _;
        // SAFETY: this ioctl reads and fills a `ptp_sys_offset`.
        unsafe { self.ioctl(libc::PTP_SYS_OFFSET, &mut readings) }?;
        // System, hardware, system, hardware, ..., system.
        for window in readings.ts[..2 * BATCH + 1].windows(3).step_by(2) {
            batch.push(between(&window[0], &window[1], &window[2]));
        }
        Ok(())
    }

    /// Moves it by `by` at once.
    ///
    /// # Errors
    /// What clock_adjtime(2) says: EACCES if it was opened for reading alone.
    pub fn step(&self, by: NtpDuration) -> io::Result<()> {
        let ns = by.as_nanos();
        let mut change = no_change();
        change.modes = libc::ADJ_SETOFFSET | libc::ADJ_NANO;
        change.time.tv_sec = ns.div_euclid(1_000_000_000) as _;
        change.time.tv_usec = ns.rem_euclid(1_000_000_000) as _;
        self.adjust(&mut change)
    }

    /// Makes it run faster by `frequency` than it does by itself.
    ///
    /// # Errors
    /// As [`step`](Self::step); ERANGE beyond [`frequency_max`](Self::frequency_max).
    pub fn set_frequency(&self, frequency: Ppm) -> io::Result<()> {
        let mut change = no_change();
        change.modes = libc::ADJ_FREQUENCY;
        // In ppm with 16 bits of fraction.
        change.freq = (frequency.0 * 65536.0).round() as _;
        self.adjust(&mut change)
    }

    /// The frequency correction in force, as far as the driver remembers one.
    ///
    /// # Errors
    /// What clock_adjtime(2) says.
    pub fn frequency(&self) -> io::Result<Ppm> {
        let mut current = no_change();
        self.adjust(&mut current)?;
        Ok(Ppm(current.freq as f64 / 65536.0))
    }

    fn adjust(&self, change: &mut libc::timex) -> io::Result<()> {
        // FD_TO_CLOCKID of the kernel's Documentation/driver-api/ptp.rst: 3 marks
        // clocks that are files.
        let clock = (!self.fd.as_raw_fd() << 3) | 3;
        // SAFETY: `change` is a valid, writable timex.
        check(unsafe { libc::clock_adjtime(clock, change) }).map(drop)
    }

    /// # Safety
    /// `request` must read and write no more than a `T`, and leave a valid one.
    unsafe fn ioctl<T>(&self, request: libc::Ioctl, argument: &mut T) -> io::Result<()> {
        retry(|| {
            // SAFETY: the caller vouches for request and argument.
            check(unsafe { libc::ioctl(self.fd.as_raw_fd(), request, &raw mut *argument) })
        })
        .map(drop)
    }
}

/// `/dev/ptpN`.
pub fn path_of(index: u32) -> String {
    format!("/dev/ptp{index}")
}

fn between(
    before: &libc::ptp_clock_time,
    phc: &libc::ptp_clock_time,
    after: &libc::ptp_clock_time,
) -> Crossing {
    let (before, after) = (wall_instant(before), wall_instant(after));
    let window = after - before;
    Crossing {
        phc: phc_instant(phc),
        real: before + window.half(),
        window,
    }
}

fn nanos(time: &libc::ptp_clock_time) -> i64 {
    time.sec
        .saturating_mul(1_000_000_000)
        .saturating_add(i64::from(time.nsec))
}

fn wall_instant(time: &libc::ptp_clock_time) -> WallInstant {
    WallInstant::from_unix_ns(nanos(time))
}

fn phc_instant(time: &libc::ptp_clock_time) -> PhcInstant {
    PhcInstant::from_nanos(nanos(time))
}

fn no_change() -> libc::timex {
    // SAFETY: plain integers, for which zero is a value: no bit of `modes` is set.
    unsafe { mem::zeroed() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What clocks there are depends on the machine; a real one is read in the guest.
    #[test]
    fn a_clock_that_is_not_there_is_an_error() {
        let error = Phc::open(4_000_000).expect_err("so many clocks");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_reading_lies_in_the_middle_of_its_window() {
        let at = |sec, nsec| libc::ptp_clock_time {
            sec,
            nsec,
            reserved: 0,
        };
        let crossing = between(&at(9, 999_999_900), &at(37, 5), &at(10, 100));
        assert_eq!(crossing.real.unix_ns(), 10_000_000_000);
        assert_eq!(crossing.window.as_nanos(), 200);
        assert_eq!(crossing.phc.nanos(), 37_000_000_005);
    }
}

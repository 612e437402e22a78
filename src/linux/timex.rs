//! Steering CLOCK_REALTIME with adjtimex(2): the last step of the journey of a
//! measurement. One driver for frequency, step and status.
//!
//! Encoding and decoding are pure functions; each order is one call, and what the
//! kernel says it did is handed back. The kernel's own PLL stays off: the
//! discipline is ours.

use std::io;

use crate::linux::caps::{self, Capability};
use crate::time::duration::NtpDuration;
use crate::time::instant::WallInstant;
use crate::time::units::Ppm;

/// `freq` counts 2^-16 ppm.
const FREQ_UNITS_PER_PPM: f64 = 65_536.0;
/// What `freq` alone can do (the kernel's MAXFREQ).
const FREQ_PPM_MAX: f64 = 500.0;
/// The kernel lets a tick be off by 10 %.
const TOTAL_PPM_MAX: f64 = 100_000.0;
/// NTP_PHASE_LIMIT in microseconds: an error this large means "not synchronised" to
/// the kernel (it sets STA_UNSYNC) and to those who ask it, timedatectl included.
const ERROR_US_MAX: i64 = 16_000_000;

/// What adjtimex(2) answers while a second is inserted, and after that.
const TIME_OOP: libc::c_int = 3;
const TIME_WAIT: libc::c_int = 4;

/// A second to insert or delete at the end of the UTC day.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LeapSecond {
    /// Neither.
    #[default]
    None,
    /// 23:59:60 will be (STA_INS).
    Insert,
    /// 23:59:59 won't be (STA_DEL).
    Delete,
}

/// How good the time is, for the kernel and those who ask it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Status {
    /// If false, STA_UNSYNC is set and both errors are reported as 16 s.
    pub synchronised: bool,
    /// While synchronised, also clears STA_UNSYNC, with which the kernel copies the
    /// time to the real-time clock every 11 minutes. Without it the flag stays, and
    /// `maxerror` alone tells that the time is good (timedatectl looks there).
    pub kernel_sets_rtc: bool,
    /// The kernel acts on it at the end of the UTC day.
    pub leap: LeapSecond,
    /// `maxerror`: the error bound. The kernel lets it grow by 500 ppm from here.
    pub error_max: NtpDuration,
    /// `esterror`: the likely error.
    pub error_estimate: NtpDuration,
    /// TAI − UTC in whole seconds, where it is known; otherwise the kernel's is left.
    pub tai_offset: Option<i32>,
}

/// The kernel's clock as adjtimex(2) describes it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct KernelClock {
    /// The whole correction in force, `tick` and `freq` together. Positive: faster.
    pub frequency: Ppm,
    /// STA_UNSYNC is clear.
    pub synchronised: bool,
    /// STA_INS or STA_DEL.
    pub leap: LeapSecond,
    /// TIME_OOP or TIME_WAIT: that second has been inserted or deleted already, and the
    /// flag is still set.
    pub leap_done: bool,
    /// `maxerror`.
    pub error_max: NtpDuration,
    /// `esterror`.
    pub error_estimate: NtpDuration,
    /// TAI − UTC in seconds; zero if nobody has told the kernel.
    pub tai_offset: i32,
    /// STA_PLL: somebody lets the kernel's own loop discipline the clock.
    pub pll: bool,
    /// STA_NANO: the kernel counts nanoseconds.
    pub nanoseconds: bool,
    /// The clock at the moment of the call. Zero in simulators that leave it out.
    pub time: WallInstant,
}

/// The driver. Holds what is fixed for this kernel; the clock's state is in there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timex {
    /// USER_HZ: `tick` is the microseconds added to the clock this often a second.
    user_hz: i64,
}

/// May this process steer the clock?
#[derive(Debug)]
pub enum Right {
    /// Yes.
    Granted,
    /// No: CAP_SYS_TIME is lacking, or a sandbox forbids the call.
    Denied,
}

impl Timex {
    /// Finds out what is fixed. Touches no clock.
    pub fn new() -> Self {
        // SAFETY: sysconf takes no pointers.
        let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
        // 100 on every architecture in use but Alpha.
        #[allow(clippy::unnecessary_cast)]
        let user_hz = if ticks > 0 { ticks as i64 } else { 100 };
        Self { user_hz }
    }

    /// Finds out whether steering is allowed, without moving anything.
    ///
    /// With CAP_SYS_TIME the answer is yes. (In a container's user namespace that
    /// may not be enough; the first order then ends in PermissionDenied.) Without
    /// it the kernel has the last word, as a simulator's rules differ: it is given
    /// an order that none carries out, a tick of no length, and either refuses the
    /// right (EPERM) or the tick (EINVAL).
    ///
    /// # Errors
    /// What adjtimex(2) says to a mere question: ENOSYS in a sandbox.
    pub fn may_steer(&self) -> io::Result<Right> {
        match self.read() {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Ok(Right::Denied);
            }
            other => drop(other?),
        }
        if caps::has(Capability::SysTime) {
            return Ok(Right::Granted);
        }
        let mut order = empty();
        order.modes = libc::ADJ_TICK;
        match call(&mut order, "tick") {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(Right::Granted),
            _ => Ok(Right::Denied),
        }
    }

    /// The clock's state. Needs no right.
    ///
    /// # Errors
    /// What adjtimex(2) says; only sandboxes have a reason to.
    pub fn read(&self) -> io::Result<KernelClock> {
        let mut timex = empty();
        let state = call(&mut timex, "read")?;
        Ok(self.decode(&timex, state))
    }

    /// Takes the clock over from whoever steered it: the kernel's PLL is switched
    /// off and its remaining phase correction, and that of adjtime(3), are dropped.
    /// The frequency stays.
    ///
    /// # Errors
    /// PermissionDenied without CAP_SYS_TIME; else what adjtimex(2) says.
    pub fn take_over(&self) -> io::Result<KernelClock> {
        for mut order in encode_take_over() {
            call(&mut order, "offset")?;
        }
        self.read()
    }

    /// Runs the clock at this correction from now on, ±100,000 ppm: `freq` up to
    /// 500 ppm, `tick` for what lies beyond. Returns the correction really in
    /// force, rounded by the kernel to 2^-16 ppm.
    ///
    /// # Errors
    /// PermissionDenied without CAP_SYS_TIME; else what adjtimex(2) says.
    pub fn set_frequency(&self, total: Ppm) -> io::Result<Ppm> {
        let mut order = self.encode_frequency(total);
        let state = call(&mut order, "frequency")?;
        Ok(self.decode(&order, state).frequency)
    }

    /// Adds `step` to the clock at once; positive is forward. Returns what was
    /// added, which is `step` in whole nanoseconds. The kernel forgets the clock's
    /// [`Status`] with it: set that again.
    ///
    /// # Errors
    /// PermissionDenied without CAP_SYS_TIME; InvalidInput for a time the clock
    /// can't show; else what adjtimex(2) says.
    pub fn step(&self, step: NtpDuration) -> io::Result<NtpDuration> {
        let mut order = encode_step(step);
        call(&mut order, "step")?;
        Ok(NtpDuration::from_nanos(step.as_nanos()))
    }

    /// Has the kernel run the clock faster or slower by 500 ppm until `offset` is made
    /// up for, and forget it then; positive is forward. Goes on when this process has
    /// ended (adjtime(3)). Returns what was ordered, which is `offset` in whole
    /// microseconds. Takes the place of an earlier such order.
    ///
    /// # Errors
    /// PermissionDenied without CAP_SYS_TIME; else what adjtimex(2) says.
    pub fn slew_once(&self, offset: NtpDuration) -> io::Result<NtpDuration> {
        // To the nearest; nanoseconds are beyond such an order.
        let us = (offset.as_nanos() as f64 / 1_000.0).round() as i64;
        call(&mut encode_slew(us), "slew")?;
        Ok(microseconds(us))
    }

    /// Tells the kernel how good the time is, and returns what it made of it.
    ///
    /// # Errors
    /// PermissionDenied without CAP_SYS_TIME; else what adjtimex(2) says.
    pub fn set_status(&self, status: &Status) -> io::Result<KernelClock> {
        let mut order = encode_status(status);
        // During a leap second the kernel has it in its offset already, and who looks the
        // offset up by the time of day has not.
        if status.tai_offset.is_some() && self.read()?.leap_done {
            order.modes &= !libc::ADJ_TAI;
        }
        let state = call(&mut order, "status")?;
        Ok(self.decode(&order, state))
    }

    fn tick_nominal_us(&self) -> i64 {
        (1_000_000 + self.user_hz / 2) / self.user_hz
    }

    fn encode_frequency(&self, total: Ppm) -> libc::timex {
        let ppm = if total.0.is_nan() { 0.0 } else { total.0 };
        let ppm = ppm.clamp(-TOTAL_PPM_MAX, TOTAL_PPM_MAX);
        // One microsecond per tick is `user_hz` microseconds per second.
        let ticks = if ppm.abs() <= FREQ_PPM_MAX {
            0.0
        } else {
            (ppm / self.user_hz as f64).round()
        };
        // The kernel's own limits, which are whole ticks.
        let ticks_max = 1_100_000 / self.user_hz - self.tick_nominal_us();
        let ticks = ticks.clamp(-ticks_max as f64, ticks_max as f64);
        let rest = ppm - ticks * self.user_hz as f64;
        let mut order = empty();
        // Always both: another program may have left the tick anywhere.
        order.modes = libc::ADJ_FREQUENCY | libc::ADJ_TICK;
        order.tick = (self.tick_nominal_us() + ticks as i64) as _;
        order.freq = (rest * FREQ_UNITS_PER_PPM).round() as _;
        order
    }

    /// c_long and friends have 64 bits here, but not everywhere.
    #[allow(clippy::unnecessary_cast)]
    fn decode(&self, timex: &libc::timex, state: libc::c_int) -> KernelClock {
        let ticks = timex.tick as i64 - self.tick_nominal_us();
        let tick_ppm = ticks as f64 * self.user_hz as f64;
        let has = |flag| timex.status & flag != 0;
        let nanoseconds = has(libc::STA_NANO);
        let fraction_ns = timex.time.tv_usec as i64 * if nanoseconds { 1 } else { 1_000 };
        KernelClock {
            frequency: Ppm(tick_ppm + timex.freq as f64 / FREQ_UNITS_PER_PPM),
            synchronised: !has(libc::STA_UNSYNC),
            leap: match (has(libc::STA_INS), has(libc::STA_DEL)) {
                (true, false) => LeapSecond::Insert,
                (false, true) => LeapSecond::Delete,
                // Both is nonsense, which the kernel reads as an insertion.
                (true, true) => LeapSecond::Insert,
                (false, false) => LeapSecond::None,
            },
            leap_done: matches!(state, TIME_OOP | TIME_WAIT),
            error_max: microseconds(timex.maxerror as i64),
            error_estimate: microseconds(timex.esterror as i64),
            tai_offset: timex.tai,
            pll: has(libc::STA_PLL),
            nanoseconds,
            time: WallInstant::from_unix_ns(
                (timex.time.tv_sec as i64)
                    .saturating_mul(1_000_000_000)
                    .saturating_add(fraction_ns),
            ),
        }
    }
}

impl Default for Timex {
    fn default() -> Self {
        Self::new()
    }
}

fn encode_status(status: &Status) -> libc::timex {
    let mut order = empty();
    // STA_NANO can't be set as a status bit; the mode does it.
    order.modes = libc::ADJ_STATUS | libc::ADJ_MAXERROR | libc::ADJ_ESTERROR | libc::ADJ_NANO;
    // No STA_PLL, STA_FLL or STA_FREQHOLD: the loop is ours.
    order.status = match status.leap {
        LeapSecond::None => 0,
        LeapSecond::Insert => libc::STA_INS,
        LeapSecond::Delete => libc::STA_DEL,
    };
    if !(status.synchronised && status.kernel_sets_rtc) {
        order.status |= libc::STA_UNSYNC;
    }
    if status.synchronised {
        order.maxerror = error_us(status.error_max) as _;
        order.esterror = error_us(status.error_estimate) as _;
    } else {
        order.maxerror = ERROR_US_MAX as _;
        order.esterror = ERROR_US_MAX as _;
    }
    if let Some(tai_offset) = status.tai_offset {
        order.modes |= libc::ADJ_TAI;
        order.constant = tai_offset.into();
    }
    order
}

/// The kernel wants seconds rounded down and a fraction that is not negative.
fn encode_step(step: NtpDuration) -> libc::timex {
    let ns = step.as_nanos();
    let mut order = empty();
    order.modes = libc::ADJ_SETOFFSET | libc::ADJ_NANO;
    order.time.tv_sec = ns.div_euclid(1_000_000_000) as _;
    order.time.tv_usec = ns.rem_euclid(1_000_000_000) as _;
    order
}

/// A phase of zero is only taken with the PLL on. Then it goes off.
fn encode_take_over() -> [libc::timex; 3] {
    let mut adjtime = empty();
    adjtime.modes = libc::ADJ_OFFSET_SINGLESHOT;
    let mut phase = empty();
    phase.modes = libc::ADJ_OFFSET | libc::ADJ_STATUS;
    phase.status = libc::STA_PLL | libc::STA_UNSYNC;
    let mut off = empty();
    off.modes = libc::ADJ_STATUS | libc::ADJ_NANO;
    off.status = libc::STA_UNSYNC;
    [adjtime, phase, off]
}

fn encode_slew(us: i64) -> libc::timex {
    let mut order = empty();
    order.modes = libc::ADJ_OFFSET_SINGLESHOT;
    order.offset = us as _;
    order
}

/// Rounded up, as it is an upper bound, and within what the kernel takes.
fn error_us(error: NtpDuration) -> i64 {
    let ns = error.abs().as_nanos();
    (ns / 1_000 + i64::from(ns % 1_000 != 0)).min(ERROR_US_MAX)
}

fn microseconds(us: i64) -> NtpDuration {
    NtpDuration::from_nanos(us.saturating_mul(1_000))
}

fn empty() -> libc::timex {
    // SAFETY: timex is plain integers; all zero is a mere question.
    unsafe { std::mem::zeroed() }
}

/// The only call of this file. `order` comes back as the kernel's state after it; TIME_OK,
/// TIME_INS ... TIME_ERROR, what it is about, is returned.
fn call(order: &mut libc::timex, what: &str) -> io::Result<libc::c_int> {
    // SAFETY: `order` is a valid timex, read and written during the call only.
    let result = unsafe { libc::adjtimex(order) };
    if result != -1 {
        return Ok(result);
    }
    let error = io::Error::last_os_error();
    let why = match error.raw_os_error() {
        Some(libc::EPERM) => "no right to set the clock (CAP_SYS_TIME)".to_owned(),
        _ => error.to_string(),
    };
    Err(io::Error::new(
        error.kind(),
        format!("adjtimex ({what}): {why}"),
    ))
}

/// No test gives the kernel an order: this machine's clock is not theirs to move.
/// The orders are checked as encoded; only the mere question is asked.
#[cfg(test)]
mod tests {
    use super::*;

    const HZ_100: Timex = Timex { user_hz: 100 };

    #[test]
    fn the_clock_can_be_read_by_anyone() {
        let timex = Timex::new();
        let clock = timex.read().unwrap();
        assert!(clock.frequency.abs().0 <= TOTAL_PPM_MAX);
        let apart = clock.time - crate::linux::clock::realtime();
        assert!(
            apart.abs() < NtpDuration::from_whole_seconds(5),
            "{clock:?}"
        );
    }

    #[test]
    fn small_corrections_use_freq_alone() {
        for (ppm, freq) in [
            (0.0, 0),
            (1.0, 65_536),
            (-500.0, -32_768_000),
            (500.0, 32_768_000),
            (0.000_01, 1),
            (f64::NAN, 0),
        ] {
            let order = HZ_100.encode_frequency(Ppm(ppm));
            assert_eq!(order.modes, libc::ADJ_FREQUENCY | libc::ADJ_TICK);
            assert_eq!((order.tick, order.freq), (10_000, freq), "{ppm}");
        }
    }

    #[test]
    fn large_corrections_use_the_tick_for_the_most_part() {
        for (ppm, tick, rest) in [
            (500.1, 10_005, 0.1),
            (-549.0, 9_995, -49.0),
            (1_234.5, 10_012, 34.5),
            (100_000.0, 11_000, 0.0),
            (-1e9, 9_000, 0.0),
            (f64::INFINITY, 11_000, 0.0),
        ] {
            let order = HZ_100.encode_frequency(Ppm(ppm));
            assert_eq!(order.tick, tick, "{ppm}");
            assert!((order.freq as f64 / 65_536.0 - rest).abs() < 1e-5, "{ppm}");
        }
    }

    /// The kernel returns both numbers as it took them, so what we decode is what
    /// is in force.
    #[test]
    fn the_correction_in_force_is_the_order_rounded() {
        for user_hz in [100, 1024] {
            let timex = Timex { user_hz };
            for ppm in [0.0, 12.345_678, -499.99, 777.7, -23_456.789] {
                let clock = timex.decode(&timex.encode_frequency(Ppm(ppm)), 0);
                assert!((clock.frequency.0 - ppm).abs() <= 0.5 / 65_536.0, "{ppm}");
            }
        }
    }

    #[test]
    fn steps_back_round_down_to_seconds() {
        for (ns, seconds, fraction) in [
            (1_500_000_000, 1, 500_000_000),
            (-1, -1, 999_999_999),
            (-1_500_000_000, -2, 500_000_000),
            (-2_000_000_000, -2, 0),
        ] {
            let order = encode_step(NtpDuration::from_nanos(ns));
            assert_eq!(order.modes, libc::ADJ_SETOFFSET | libc::ADJ_NANO);
            assert_eq!((order.time.tv_sec, order.time.tv_usec), (seconds, fraction));
        }
    }

    #[test]
    fn a_single_slew_is_in_microseconds_and_touches_nothing_else() {
        let order = encode_slew(-1_234);
        assert_eq!((order.modes, order.offset), (0x8001, -1_234));
    }

    #[test]
    fn a_status_tells_the_truth() {
        let good = Status {
            synchronised: true,
            kernel_sets_rtc: true,
            leap: LeapSecond::Insert,
            error_max: NtpDuration::from_nanos(1_500_001),
            error_estimate: NtpDuration::from_nanos(20_000),
            tai_offset: Some(37),
        };
        let order = encode_status(&good);
        assert_eq!(order.status, libc::STA_INS);
        assert_eq!((order.maxerror, order.esterror), (1_501, 20));
        assert_eq!(order.modes & libc::ADJ_TAI, libc::ADJ_TAI);
        assert_eq!(order.constant, 37);
        let clock = HZ_100.decode(&order, 0);
        assert!(clock.synchronised && !clock.pll);
        assert_eq!(clock.leap, LeapSecond::Insert);
        assert_eq!(clock.error_max.as_nanos(), 1_501_000);

        // Whatever the errors are said to be: timedatectl looks at maxerror alone.
        let order = encode_status(&Status {
            synchronised: false,
            leap: LeapSecond::Delete,
            tai_offset: None,
            ..good
        });
        assert_eq!(order.status, libc::STA_DEL | libc::STA_UNSYNC);
        assert_eq!((order.maxerror, order.esterror), (16_000_000, 16_000_000));
        assert_eq!(order.modes & libc::ADJ_TAI, 0);
        assert!(!HZ_100.decode(&order, 0).synchronised);
        let done =
            [0, 1, 2, TIME_OOP, TIME_WAIT, 5].map(|state| HZ_100.decode(&order, state).leap_done);
        assert_eq!(done, [false, false, false, true, true, false]);

        // Good time that the kernel is not to copy to the RTC.
        let order = encode_status(&Status {
            kernel_sets_rtc: false,
            ..good
        });
        assert_eq!(order.status, libc::STA_INS | libc::STA_UNSYNC);
        assert_eq!((order.maxerror, order.esterror), (1_501, 20));

        let order = encode_status(&Status {
            error_max: NtpDuration::MAX,
            ..good
        });
        assert_eq!(order.maxerror, 16_000_000);
    }

    #[test]
    fn taking_over_leaves_the_pll_off_and_the_frequency_alone() {
        let orders = encode_take_over();
        assert!(orders.iter().all(|o| o.offset == 0 && o.freq == 0));
        assert!(orders.iter().all(|o| {
            o.modes == libc::ADJ_OFFSET_SINGLESHOT || o.modes & libc::ADJ_FREQUENCY == 0
        }));
        assert_eq!(orders[1].status & libc::STA_PLL, libc::STA_PLL);
        assert_eq!(orders[2].status & libc::STA_PLL, 0);
    }

    /// Asked of the kernel only where it can't but refuse.
    #[test]
    fn without_the_capability_steering_is_denied() {
        std::thread::spawn(|| {
            caps::keep_only(caps::Capabilities::NONE).unwrap();
            assert!(matches!(Timex::new().may_steer(), Ok(Right::Denied)));
        })
        .join()
        .unwrap();
    }
}

//! A clock that is read instead of asked: a PTP hardware clock, say. Readings come in,
//! a poll's worth of them becomes one [`Measurement`]; from there on it is a source like
//! any other. The rest of the peer process (poll, reach, silence) is the association's.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::measurement::Measurement;
use crate::time::duration::NtpDuration;
use crate::time::instant::{MonoInstant, WallInstant};
use crate::time::stamp::StampOrigin;
use crate::time::units::PollExponent;
use crate::wire::packet::Leap;
use crate::wire::refid::RefId;

/// Readings kept for one measurement, unless `filter` says otherwise (chrony's).
pub const FILTER_DEFAULT: usize = 64;

/// What a `refclock` line says about its clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClockOptions {
    /// Its name in reports and, as it is our reference then, on the wire.
    pub refid: RefId,
    /// Its stratum; we are one more.
    pub stratum: u8,
    /// Added to what it shows.
    pub offset: NtpDuration,
    /// Part of the root delay: half of it is what the clock may be wrong by.
    pub delay: NtpDuration,
    /// What one reading of it may be wrong by, beyond its window.
    pub precision: NtpDuration,
    /// How often it is read; of what was read comes a measurement at each poll.
    pub dpoll: PollExponent,
    /// Readings kept for one measurement.
    pub filter: usize,
    /// It counts TAI.
    pub tai: bool,
    /// Never asked for both clocks at once.
    pub nocrossts: bool,
}

impl Default for ClockOptions {
    fn default() -> Self {
        Self {
            refid: RefId::default(),
            stratum: 0,
            offset: NtpDuration::ZERO,
            delay: NtpDuration::from_nanos(1),
            precision: NtpDuration::from_nanos(1),
            dpoll: PollExponent::new(0),
            filter: FILTER_DEFAULT,
            tai: false,
            nocrossts: false,
        }
    }
}

impl ClockOptions {
    /// What stands for it where an address is wanted: the octets of its refid, as
    /// chronyd has it, and no port.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::from(self.refid.bytes())), 0)
    }

    /// The letters of its refid.
    pub fn name(&self) -> String {
        let name = self.refid.display(0).to_string();
        name.trim_matches('.').to_owned()
    }
}

/// Both clocks at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reading {
    /// What the reference clock shows, UTC or TAI as if it were a time since 1970.
    pub clock: WallInstant,
    /// The clock that we serve, in the middle of the reading.
    pub local: WallInstant,
    /// How long the reading took: the moment is within half of this of `local`.
    pub window: NtpDuration,
    /// The same moment, for timers and ages.
    pub at: MonoInstant,
    /// TAI − UTC in seconds as the kernel has it, if it knows.
    pub tai_offset: Option<i32>,
}

/// A reading, less what our own corrections do to it: z of [`Ledger`].
///
/// [`Ledger`]: crate::sync::ledger::Ledger
#[derive(Clone, Copy, Debug)]
struct Kept {
    at: MonoInstant,
    z: NtpDuration,
    window: NtpDuration,
}

/// The readings since the last poll.
#[derive(Clone, Debug)]
pub struct Readings {
    options: ClockOptions,
    kept: Vec<Kept>,
    next: MonoInstant,
    /// The next reading makes the poll's measurement.
    closing: bool,
}

impl Readings {
    /// None yet; the first one at `start`.
    pub fn new(options: ClockOptions, start: MonoInstant) -> Self {
        Self {
            options,
            kept: Vec::new(),
            next: start,
            closing: false,
        }
    }

    /// How the clock is to be understood.
    pub fn options(&self) -> &ClockOptions {
        &self.options
    }

    /// When [`is_due`](Self::is_due) will be true.
    pub fn deadline(&self) -> MonoInstant {
        self.next
    }

    /// Is the clock to be read now? Then the next reading is `dpoll` away.
    pub fn is_due(&mut self, now: MonoInstant) -> bool {
        let due = self.next <= now;
        if due {
            let interval = self.options.dpoll.interval();
            // At its own pace, but what was missed is not made up for.
            self.next = (self.next + interval).max(now + interval.half());
        }
        due
    }

    /// The poll is over: the next reading, good or bad, ends it.
    pub fn close(&mut self) {
        self.closing = true;
    }

    /// Is the poll over? True once.
    pub fn take_closing(&mut self) -> bool {
        std::mem::take(&mut self.closing)
    }

    /// What `reading` says that the local clock lacks (θ), or `None` if it counts TAI and
    /// `tai_offset` is unknown.
    pub fn offset(&self, reading: &Reading, tai_offset: Option<i32>) -> Option<NtpDuration> {
        let tai = if self.options.tai {
            NtpDuration::from_whole_seconds(tai_offset?.into())
        } else {
            NtpDuration::ZERO
        };
        Some((reading.clock - reading.local) + self.options.offset - tai)
    }

    /// Keeps a reading: its offset with our corrections up to then (A) added.
    pub fn keep(&mut self, reading: &Reading, z: NtpDuration) {
        if self.kept.len() == self.options.filter {
            self.kept.remove(0);
        }
        self.kept.push(Kept {
            at: reading.at,
            z,
            window: reading.window,
        });
    }

    /// How many are kept for the next measurement.
    pub fn count(&self) -> usize {
        self.kept.len()
    }

    /// Forgets all: the clock was moved.
    pub fn clear(&mut self) {
        self.kept.clear();
    }

    /// One measurement of the tightest readings: their mean, for their mean moment, which
    /// no frequency error disturbs. The window counts as a round trip, so that the truth
    /// lies within half of it. `integral_at` is A of the ledger; `precision` the local
    /// clock's.
    pub fn take_measurement(
        &mut self,
        precision: NtpDuration,
        integral_at: impl Fn(MonoInstant) -> NtpDuration,
    ) -> Option<Measurement> {
        let tightest = self.kept.iter().map(|kept| kept.window).min()?;
        let limit = tightest + tightest.half().half().half();
        let mut kept = std::mem::take(&mut self.kept);
        kept.retain(|kept| kept.window <= limit);
        let first = kept[0];
        let count = kept.len() as i64;
        let mean = |value: &dyn Fn(&Kept) -> NtpDuration| {
            let sum: i64 = kept.iter().map(|kept| value(kept).units()).sum();
            NtpDuration::from_units(sum / count)
        };
        let at = first.at + mean(&|kept| kept.at - first.at);
        let z = first.z + mean(&|kept| kept.z - first.z);
        let window = mean(&|kept| kept.window);
        Some(Measurement {
            offset: z - integral_at(at),
            delay: window.max(precision),
            dispersion: precision + self.options.precision + bend(&kept, at, z),
            precision,
            at,
            origin: StampOrigin::Hardware,
            interleaved: false,
            leap: Leap::None,
            stratum: self.options.stratum,
            refid: self.options.refid,
            root_delay: self.options.delay,
            root_dispersion: NtpDuration::ZERO,
        })
    }
}

/// How far a reading lies off the straight line through all, beyond its own window: the
/// frequency changed meanwhile, and then the mean is off by no more than that.
fn bend(kept: &[Kept], at: MonoInstant, z: NtpDuration) -> NtpDuration {
    let place = |kept: &Kept| {
        let (x, y) = (kept.at - at, kept.z - z);
        (x.as_seconds(), y.as_seconds())
    };
    let (mut xx, mut xy) = (0.0, 0.0);
    for (x, y) in kept.iter().map(place) {
        xx += x * x;
        xy += x * y;
    }
    let slope = if xx > 0.0 { xy / xx } else { 0.0 };
    let off = kept.iter().map(|kept| {
        let (x, y) = place(kept);
        (y - slope * x).abs() - kept.window.half().as_seconds()
    });
    NtpDuration::from_seconds(off.fold(0.0, f64::max))
}

#[cfg(test)]
mod tests {
    use super::*;

    const START_NS: i64 = 1_900_000_000_000_000_000;

    fn options() -> ClockOptions {
        ClockOptions {
            refid: RefId::from_bytes(*b"PHC0"),
            ..ClockOptions::default()
        }
    }

    /// After `at_s`, the clock is `ahead_ns` of ours; reading took `window_ns`.
    fn reading(at_s: f64, ahead_ns: i64, window_ns: i64) -> Reading {
        let local = WallInstant::from_unix_ns(START_NS + (at_s * 1e9) as i64);
        Reading {
            clock: local + NtpDuration::from_nanos(ahead_ns),
            local,
            window: NtpDuration::from_nanos(window_ns),
            at: MonoInstant::from_nanos((at_s * 1e9) as i64),
            tai_offset: None,
        }
    }

    fn measured(readings: &mut Readings, all: &[Reading]) -> Option<Measurement> {
        for one in all {
            let z = readings.offset(one, None).expect("UTC");
            readings.keep(one, z);
        }
        readings.take_measurement(NtpDuration::from_nanos(60), |_| NtpDuration::ZERO)
    }

    #[test]
    fn the_tightest_readings_make_a_measurement_for_their_mean_moment() {
        let mut readings = Readings::new(options(), MonoInstant::ZERO);
        // The clock gains 100 ns a second; one reading was disturbed.
        let all = [
            reading(1.0, 1_100, 800),
            reading(2.0, 9_000, 20_000),
            reading(3.0, 1_300, 800),
            reading(5.0, 1_500, 810),
        ];
        let sample = measured(&mut readings, &all).expect("a measurement");
        assert_eq!(sample.offset.as_nanos(), 1_300);
        assert_eq!(sample.at, MonoInstant::from_nanos(3_000_000_000));
        assert_eq!(sample.delay.as_nanos(), 803);
        // Both precisions, and nothing for the drift.
        assert_eq!(sample.dispersion.as_nanos(), 61);
        assert_eq!(sample.refid, RefId::from_bytes(*b"PHC0"));
        assert_eq!(measured(&mut readings, &[]), None, "all used up");
    }

    #[test]
    fn a_clock_that_changes_its_pace_is_trusted_less() {
        let mut readings = Readings::new(options(), MonoInstant::ZERO);
        let all: Vec<Reading> = (0..16)
            .map(|second| {
                let kink = (second - 8).max(0);
                reading(f64::from(second), i64::from(kink) * 1_000, 100)
            })
            .collect();
        let sample = measured(&mut readings, &all).expect("a measurement");
        let truth_ns = ((sample.at.nanos() as f64 * 1e-9 - 8.0).max(0.0) * 1e3) as i64;
        let off_ns = (sample.offset.as_nanos() - truth_ns).abs();
        assert!(off_ns > 500, "{off_ns}");
        let promised = sample.dispersion + sample.delay.half();
        assert!(promised.as_nanos() > off_ns, "{promised:?} {off_ns}");
    }

    #[test]
    fn tai_is_taken_off_and_the_offset_added() {
        let options = ClockOptions {
            tai: true,
            offset: NtpDuration::from_nanos(-250),
            ..options()
        };
        let readings = Readings::new(options, MonoInstant::ZERO);
        let one = reading(0.0, 37_000_001_250, 800);
        let offset = readings.offset(&one, Some(37)).expect("it is known");
        assert!((offset.as_nanos() - 1_000).abs() <= 1, "{offset:?}");
        assert_eq!(readings.offset(&one, None), None);
    }

    #[test]
    fn it_is_read_at_its_own_pace() {
        let mut readings = Readings::new(options(), MonoInstant::ZERO);
        let at = |ms: i64| MonoInstant::from_nanos(ms * 1_000_000);
        assert!(readings.is_due(at(100)));
        assert!(!readings.is_due(at(900)));
        assert!(readings.is_due(at(1_000)), "no drift by being late");
        assert!(readings.is_due(at(60_000)));
        assert!(!readings.is_due(at(60_400)), "not made up for");
    }
}

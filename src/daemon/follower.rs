//! Hardware clocks that follow ours (`phc discipline`): reads each once a second, and
//! steers it. Part of the time loop, which owns the clock that they follow.

use log::{info, warn};

use crate::config::PhcLine;
use crate::daemon::clock::Clock;
use crate::daemon::phc::{self, Trouble};
use crate::hardware::servo::{Bent, Order, Servo};
use crate::hardware::track::{Outcome, Track};
use crate::linux::clock;
use crate::linux::phc::Phc;
use crate::time::duration::NtpDuration;
use crate::time::instant::{MonoInstant, WallInstant};
use crate::time::phc::{Crossing, PhcMap};
use crate::time::units::Ppm;

/// How often a clock is read and steered.
const INTERVAL: NtpDuration = NtpDuration::from_whole_seconds(1);
/// A clock that can't be opened or read is tried again after this.
const RETRY: NtpDuration = NtpDuration::from_whole_seconds(16);
/// Jumps, each right after we set the frequency, after which that is why.
const BLAMES_MAX: u32 = 2;
/// So many readings without a jump after we set the frequency, and it is not.
const INNOCENT: u32 = 16;
/// Followed so closely, the operator is told that it works.
const CLOSE: NtpDuration = NtpDuration::from_units(4_295); // 1 µs

/// What a follower is to follow.
#[derive(Debug)]
pub struct Leader<'a> {
    /// Our clock.
    pub clock: &'a Clock,
    /// Does it show the time?
    pub synchronised: bool,
    /// TAI − UTC in seconds.
    pub tai_offset: Option<i32>,
}

/// One hardware clock.
#[derive(Debug)]
pub struct Follower {
    line: PhcLine,
    state: Option<Open>,
    batch: Vec<Crossing>,
    next: MonoInstant,
    trouble: Option<Trouble>,
    told_tai: bool,
    told_close: bool,
    /// Jumps on end that came right after we set the frequency.
    blames: u32,
    /// It can't be steered, whoever tries.
    given_up: bool,
}

#[derive(Debug)]
struct Open {
    phc: Phc,
    track: Track,
    servo: Servo,
    /// Readings since we set the frequency first, or since the last jump.
    since_set: Option<u32>,
    /// Is it steered now?
    steering: bool,
}

impl Follower {
    /// Of one line of the configuration.
    pub fn new(line: PhcLine) -> Self {
        Self {
            line,
            state: None,
            batch: Vec::new(),
            next: MonoInstant::ZERO,
            trouble: None,
            told_tai: false,
            told_close: false,
            blames: 0,
            given_up: false,
        }
    }

    /// When [`turn`](Self::turn) is due.
    pub fn deadline(&self) -> MonoInstant {
        if self.given_up {
            MonoInstant::MAX
        } else {
            self.next
        }
    }

    /// Reads and steers, if that is due.
    pub fn turn(&mut self, leader: &Leader<'_>, now: MonoInstant) -> Option<Bent> {
        if now < self.deadline() {
            return None;
        }
        // At its own pace, but what was missed is not made up for.
        self.next = (self.next + INTERVAL).max(now + INTERVAL.half());
        match self.work(leader) {
            Ok(bent) => bent,
            Err(trouble) => {
                if matches!(trouble, Trouble::Closed(_) | Trouble::Gone(_)) {
                    self.state = None;
                    self.next = now + RETRY;
                }
                self.given_up |= matches!(trouble, Trouble::ReadOnly);
                let told = self.trouble.as_ref();
                if !self.given_up && !told.is_some_and(|told| trouble.is_like(told))
                    || matches!(trouble, Trouble::ReadOnly)
                {
                    warn!("phc discipline {}: the clock {trouble}", self.line.device);
                }
                self.trouble = Some(trouble);
                None
            }
        }
    }

    /// CLOCK_REALTIME was stepped by `step` when it showed `at`, and from then on runs
    /// faster by the ratio `faster`.
    pub fn steered(&mut self, at: WallInstant, step: NtpDuration, faster: f64) {
        if let Some(open) = &mut self.state {
            open.track.steered(at, step, faster);
        }
    }

    /// Our clock was stepped: so may be the one that follows.
    pub fn start_over(&mut self) {
        if let Some(open) = &mut self.state {
            open.servo.start_over();
        }
    }

    /// Leaves the clock at its own best frequency.
    pub fn finish(&mut self) {
        if let Some(open) = &mut self.state
            && open.steering
            && !self.given_up
        {
            open.steering = false;
            let best = open.servo.best();
            if let Err(error) = open.phc.set_frequency(best) {
                warn!("phc discipline {}: {error} at the end", self.line.device);
            }
        }
    }

    fn work(&mut self, leader: &Leader<'_>) -> Result<Option<Bent>, Trouble> {
        let closed = self.state.is_none();
        if closed {
            self.state = Some(self.open()?);
        }
        let Some(open) = &mut self.state else {
            return Ok(None);
        };
        let gone = |error: std::io::Error| Trouble::Gone(error.to_string());
        open.phc.cross(&mut self.batch).map_err(gone)?;
        match open.track.take(&self.batch) {
            Some(Outcome::Jumped(by)) => return self.jumped(-by.as_seconds()),
            Some(Outcome::Absurd(times)) => return Err(Trouble::Absurd(times)),
            Some(Outcome::Doubted) | None => return Ok(None),
            Some(Outcome::Tracked) => {}
        }
        if let Some(count) = &mut open.since_set {
            *count += 1;
            if *count >= INNOCENT {
                self.blames = 0;
            }
        }
        let Some(line) = open.track.map() else {
            return Ok(None);
        };
        if self.trouble.take().is_some() {
            info!("phc discipline {}: the clock is fine", self.line.device);
        }
        if !leader.synchronised {
            return Ok(open.rest());
        }
        let tai = if !self.line.tai {
            0
        } else if let Some(tai) = leader.tai_offset {
            tai
        } else {
            if !std::mem::replace(&mut self.told_tai, true) {
                warn!(
                    "phc discipline {}: TAI's distance from UTC is unknown, so the clock is left \
                     alone; name a table of leap seconds with `leapfile FILE`, or write `utc`",
                    self.line.device
                );
            }
            return Ok(open.rest());
        };
        let (offset, rate) = lack(&line, leader.clock, tai);
        if offset.abs() < CLOSE && open.steering && !std::mem::replace(&mut self.told_close, true) {
            info!(
                "phc discipline {}: the clock follows within 1 us",
                self.line.device
            );
        }
        open.obey(offset, rate)
    }

    fn open(&self) -> Result<Open, Trouble> {
        let closed = |error: std::io::Error| Trouble::Closed(error.to_string());
        let phc = phc::open(&self.line.device).map_err(closed)?;
        if !phc.is_writable() {
            return Err(Trouble::ReadOnly);
        }
        let frequency = phc.frequency().unwrap_or(Ppm::ZERO);
        let most = phc.frequency_max().map_err(closed)?;
        let step = Some(self.line.step).filter(|step| *step > NtpDuration::ZERO);
        Ok(Open {
            phc,
            track: Track::new(),
            servo: Servo::new(frequency, most, step),
            since_set: None,
            steering: false,
        })
    }

    fn jumped(&mut self, by: f64) -> Result<Option<Bent>, Trouble> {
        let Some(open) = &mut self.state else {
            return Ok(None);
        };
        let ours = open.since_set.take().is_some_and(|count| count < INNOCENT);
        self.blames = if ours { self.blames + 1 } else { 0 };
        if self.blames < BLAMES_MAX {
            // By somebody else, who may have had a reason.
            open.servo.start_over();
            return Err(Trouble::Jumped(by));
        }
        self.given_up = true;
        warn!(
            "phc discipline {}: the clock jumps by {by:+.3} s each time its frequency is set: it \
             can't be steered, and is left alone",
            self.line.device
        );
        Err(Trouble::Jumped(by))
    }
}

impl Open {
    fn obey(&mut self, offset: NtpDuration, rate: f64) -> Result<Option<Bent>, Trouble> {
        let gone = |error: std::io::Error| match error.raw_os_error() {
            Some(nix::libc::EACCES | nix::libc::EPERM) => Trouble::ReadOnly,
            _ => Trouble::Gone(error.to_string()),
        };
        match self.servo.update(offset, rate) {
            Order::Step(by) => {
                self.phc.step(by).map_err(gone)?;
                self.track.forget();
                Ok(Some(self.bent(None)))
            }
            Order::Frequency(to) => {
                self.phc.set_frequency(to).map_err(gone)?;
                self.steering = true;
                self.since_set = self.since_set.or(Some(0));
                let faster = self.servo.applied(to);
                let bent = self.bent(Some(faster));
                self.track.bent(bent.at, faster);
                Ok(Some(bent))
            }
        }
    }

    /// There is nothing to follow just now.
    fn rest(&mut self) -> Option<Bent> {
        if !std::mem::replace(&mut self.steering, false) {
            return None;
        }
        let best = self.servo.best();
        self.phc.set_frequency(best).ok()?;
        let faster = self.servo.applied(best);
        let bent = self.bent(Some(faster));
        self.track.bent(bent.at, faster);
        Some(bent)
    }

    fn bent(&self, faster: Option<f64>) -> Bent {
        Bent {
            index: self.phc.index(),
            at: clock::realtime(),
            faster,
        }
    }
}

/// What a hardware clock by this line lacks of our clock (positive: it is behind), and how
/// much faster ours runs, a ratio.
fn lack(line: &PhcMap, ours: &Clock, tai_offset: i32) -> (NtpDuration, f64) {
    let map = ours.map();
    let wanted = map.to_local(line.anchor_real).unix_ns() + i64::from(tai_offset) * 1_000_000_000;
    let offset = NtpDuration::from_nanos(wanted - line.anchor_phc.nanos());
    let rate = (1.0 + line.rate) * (1.0 + map.rate.ratio()) - 1.0;
    (offset, rate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::phc::PhcInstant;

    #[test]
    fn what_is_lacking_is_seen_on_the_clock_we_serve() {
        let mut ours = Clock::virtual_from(NtpDuration::from_whole_seconds(5), Ppm(50.0));
        let real = clock::realtime();
        if let Clock::Virtual { map, .. } = &mut ours {
            map.anchor_real = real;
            map.anchor_local = real + NtpDuration::from_whole_seconds(5);
        }
        let line = PhcMap {
            anchor_phc: PhcInstant::from_nanos(real.unix_ns()),
            anchor_real: real,
            rate: -20e-6,
            error: NtpDuration::ZERO,
            error_rate: 0.0,
            reach: NtpDuration::from_whole_seconds(16),
        };
        let (offset, rate) = lack(&line, &ours, 37);
        assert_eq!(offset, NtpDuration::from_whole_seconds(42));
        assert!((rate - 30e-6).abs() < 1e-8, "{rate}");
    }

    #[test]
    fn a_clock_that_is_not_there_is_tried_again_later() {
        let line = PhcLine {
            device: "/dev/ptp_none".to_owned(),
            ..PhcLine::default()
        };
        let mut follower = Follower::new(line);
        let ours = Clock::Observed;
        let leader = Leader {
            clock: &ours,
            synchronised: true,
            tai_offset: Some(37),
        };
        let now = MonoInstant::from_nanos(1_000_000_000);
        assert_eq!(follower.turn(&leader, now), None);
        assert_eq!(follower.deadline(), now + RETRY);
        assert!(matches!(follower.trouble, Some(Trouble::Closed(_))));
    }
}

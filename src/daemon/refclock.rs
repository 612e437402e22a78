//! Reads PTP hardware clocks for the sources that are such clocks. Part of the time loop:
//! what is read is worth something only together with our own clock at that moment.
//!
//! A [`Track`] watches each: a clock that jumps, or runs like no clock, gives no readings.

use std::collections::BTreeMap;

use log::{info, warn};

use crate::client::refclock::{ClockOptions, Reading};
use crate::daemon::clock::Clock;
use crate::daemon::phc::{self, SET_FROM, Trouble};
use crate::hardware::track::{Outcome, Track, best_of};
use crate::linux::clock;
use crate::linux::phc::Phc;
use crate::node::action::SourceId;
use crate::time::duration::NtpDuration;
use crate::time::instant::{MonoInstant, WallInstant};
use crate::time::phc::Crossing;

/// A clock that can't be opened or read is tried again after this.
const RETRY: NtpDuration = NtpDuration::from_whole_seconds(16);
/// After a jump it has to keep still for so long.
const STILL: NtpDuration = NtpDuration::from_whole_seconds(60);
/// A reading that takes longer holds the time loop up: such a clock is read less often.
const READING_MAX: NtpDuration = NtpDuration::from_units(1 << 26); // 16 ms

/// The clocks of all `refclock` lines.
#[derive(Debug, Default)]
pub struct Refclocks {
    clocks: BTreeMap<SourceId, Refclock>,
    batch: Vec<Crossing>,
}

#[derive(Debug)]
struct Refclock {
    /// As the configuration calls it.
    name: String,
    options: ClockOptions,
    phc: Option<Phc>,
    track: Track,
    /// Not to be touched before.
    next: MonoInstant,
    /// Not to be believed before.
    still_from: MonoInstant,
    trouble: Option<Trouble>,
}

impl Refclocks {
    /// `clocks`: place in the configuration, name of the device or interface, options.
    pub fn new(clocks: impl IntoIterator<Item = (SourceId, String, ClockOptions)>) -> Self {
        let clocks = clocks.into_iter().map(|(source, name, options)| {
            let refclock = Refclock {
                name,
                options,
                phc: None,
                track: Track::new(),
                next: MonoInstant::ZERO,
                still_from: MonoInstant::ZERO,
                trouble: None,
            };
            (source, refclock)
        });
        Self {
            clocks: clocks.collect(),
            batch: Vec::new(),
        }
    }

    /// Reads this source's clock together with ours; none: not now. The operator is told
    /// why, once.
    pub fn read(&mut self, source: SourceId, ours: &Clock) -> Option<Reading> {
        let refclock = self.clocks.get_mut(&source)?;
        let now = clock::monotonic();
        if now < refclock.next {
            return None;
        }
        match refclock.read(&mut self.batch, now) {
            Ok(Some(crossing)) => {
                refclock.recover();
                Some(refclock.reading(&crossing, ours))
            }
            Ok(None) => None,
            Err(trouble) => {
                refclock.tell(trouble);
                None
            }
        }
    }

    /// CLOCK_REALTIME was stepped by `step` when it showed `at`, and from then on runs
    /// faster by the ratio `faster`.
    pub fn steered(&mut self, at: WallInstant, step: NtpDuration, faster: f64) {
        for refclock in self.clocks.values_mut() {
            refclock.track.steered(at, step, faster);
        }
    }
}

impl Refclock {
    /// `Ok(None)` while it is too early to tell.
    fn read(
        &mut self,
        batch: &mut Vec<Crossing>,
        now: MonoInstant,
    ) -> Result<Option<Crossing>, Trouble> {
        let phc = match &mut self.phc {
            Some(phc) => phc,
            closed => {
                self.next = now + RETRY;
                let mut phc =
                    phc::open(&self.name).map_err(|error| Trouble::Closed(error.to_string()))?;
                if self.options.nocrossts {
                    phc.without_precise();
                }
                self.next = now;
                self.track.forget();
                closed.insert(phc)
            }
        };
        if let Err(error) = phc.cross(batch) {
            // A card that was pulled out comes back as another device.
            self.phc = None;
            self.next = now + RETRY;
            return Err(Trouble::Gone(error.to_string()));
        }
        if clock::monotonic().since(now) > READING_MAX {
            self.next = now + RETRY.half();
        }
        match self.track.take(batch) {
            Some(Outcome::Jumped(by)) => {
                self.still_from = now + STILL;
                return Err(Trouble::Jumped(-by.as_seconds()));
            }
            Some(Outcome::Absurd(times)) => return Err(Trouble::Absurd(times)),
            Some(Outcome::Doubted) | None => return Ok(None),
            Some(Outcome::Tracked) => {}
        }
        let Some(crossing) = best_of(batch) else {
            return Ok(None);
        };
        if crossing.phc.nanos() < SET_FROM.unix_ns() {
            return Err(Trouble::Unset);
        }
        let known = self.track.map().is_some() && now >= self.still_from;
        Ok(known.then_some(crossing))
    }

    fn reading(&self, crossing: &Crossing, ours: &Clock) -> Reading {
        let now = clock::monotonic();
        let age = clock::realtime() - crossing.real;
        Reading {
            clock: WallInstant::from_unix_ns(crossing.phc.nanos()),
            local: ours.map().to_local(crossing.real),
            window: crossing.window,
            at: now + -age,
            tai_offset: if self.options.tai {
                phc::kernel_tai_offset()
            } else {
                None
            },
        }
    }

    fn tell(&mut self, trouble: Trouble) {
        let told = self.trouble.as_ref();
        if !told.is_some_and(|told| trouble.is_like(told)) {
            let until = match trouble {
                Trouble::Jumped(_) => "; not used until it has kept still for a minute",
                _ => "",
            };
            warn!("refclock {}: the clock {trouble}{until}", self.name);
        }
        self.trouble = Some(trouble);
    }

    fn recover(&mut self) {
        if self.trouble.take().is_some() {
            info!("refclock {}: the clock can be used again", self.name);
        }
    }
}

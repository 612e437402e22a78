//! What the operator allows and asks: limits on steps, rules of selection.

use crate::time::duration::NtpDuration;

/// When the clock may be stepped (`tinker` in ntp.conf).
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct StepPolicy {
    /// Where the clock is behind: offsets beyond this are stepped, below it slewed. `None`:
    /// never step (`tinker step 0`, `tinker stepfwd 0`).
    pub threshold: Option<NtpDuration>,
    /// The same where the clock is ahead, and has to be set back (`tinker stepback`).
    pub threshold_back: Option<NtpDuration>,
    /// An offset beyond this ends the daemon, after the first setting. `None`: never (`tinker panic 0`).
    pub panic: Option<NtpDuration>,
    /// How long an offset has to stay beyond the threshold before it is believed.
    pub stepout: NtpDuration,
    /// The first setting may exceed `panic` (`-g`).
    pub first_unlimited: bool,
    /// Steps are taken in so many first updates only. `None`: always (chrony's `makestep`).
    pub step_updates: Option<u32>,
    /// So many first updates are not held against `panic` (chrony's `maxchange`).
    pub panic_after: u32,
    /// So many offsets beyond `panic` are passed over before one ends the daemon.
    /// `None`: all of them.
    pub panic_ignored: Option<u32>,
}

impl StepPolicy {
    /// One threshold for both directions.
    pub fn set_threshold(&mut self, threshold: Option<NtpDuration>) {
        self.threshold = threshold;
        self.threshold_back = threshold;
    }

    /// Is this too much to be slewed?
    pub fn is_far(&self, offset: NtpDuration) -> bool {
        let threshold = if offset < NtpDuration::ZERO {
            self.threshold_back
        } else {
            self.threshold
        };
        threshold.is_some_and(|limit| offset.abs() > limit)
    }
}

impl Default for StepPolicy {
    /// ntpd's: 128 ms, 1000 s, 300 s.
    fn default() -> Self {
        Self {
            threshold: Some(NtpDuration::from_seconds(0.128)),
            threshold_back: Some(NtpDuration::from_seconds(0.128)),
            panic: Some(NtpDuration::from_whole_seconds(1000)),
            stepout: NtpDuration::from_whole_seconds(300),
            first_unlimited: false,
            step_updates: None,
            panic_after: 0,
            panic_ignored: Some(0),
        }
    }
}

/// Rules of selection (`tos` in ntp.conf).
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct SelectPolicy {
    /// Fewest truechimers that may steer the clock.
    pub minsane: usize,
    /// Stop casting out the worst at this many survivors.
    pub minclock: usize,
    /// Most associations that pools may mobilise.
    pub maxclock: usize,
    /// Largest root distance of a source that may be selected.
    pub maxdist: NtpDuration,
    /// Least width of a source's interval, so that quiet sources still agree.
    pub mindist: NtpDuration,
    /// Lowest stratum accepted.
    pub floor: u8,
    /// Strata from here on are not accepted.
    pub ceiling: u8,
}

impl Default for SelectPolicy {
    /// ntpd's.
    fn default() -> Self {
        Self {
            minsane: 1,
            minclock: 3,
            maxclock: 10,
            maxdist: NtpDuration::from_seconds(1.5),
            mindist: NtpDuration::from_seconds(0.001),
            floor: 0,
            ceiling: 16,
        }
    }
}

//! What a `server`, `pool` or `refclock` line says about its association.

use crate::client::refclock::ClockOptions;
use crate::time::duration::NtpDuration;
use crate::time::units::PollExponent;

/// Options of one configured source.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SourceOptions {
    /// Shortest poll interval.
    pub minpoll: PollExponent,
    /// Longest poll interval.
    pub maxpoll: PollExponent,
    /// Quick requests when it is first or again reachable, then ever fewer.
    pub iburst: bool,
    /// Several requests at every poll while it is reachable.
    pub burst: bool,
    /// Follow this one if it is a truechimer.
    pub prefer: bool,
    /// Measure it, never follow it.
    pub noselect: bool,
    /// Not asked until an operator says so (`chronyc online`).
    pub offline: bool,
    /// Asked at the start alone, to set the clock by before anybody else (`initstepslew`).
    pub initial: bool,
    /// NTP version to speak, 1 to 4.
    pub version: u8,
    /// Interleaved mode (RFC 9769).
    pub xleave: bool,
    /// A peer (`peer`): what we send carries our time, and what it sends unasked is heard.
    pub symmetric: bool,
    /// Port to ask.
    pub port: u16,
    /// Sign requests with the key of this number, and believe only answers that are
    /// signed with it.
    pub key: Option<u32>,
    /// Added to each measured offset: positive if the source is behind the true time
    /// (chrony's `offset`, ntpsec's `bias`).
    pub offset: NtpDuration,
    /// It is no server but a clock of this host's, to be read.
    pub clock: Option<ClockOptions>,
    /// No server is named: those that broadcast are asked.
    pub heard: Option<Heard>,
    /// Ask over PTP, in this domain; none: over UDP alone.
    pub over_ptp: Option<u8>,
    /// Ask what transparent clocks added to our requests, and take out what they added
    /// both ways (`extfield 10A`). Over PTP alone.
    pub correction: bool,
}

/// Which broadcasts make their sender a server of ours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Heard {
    /// Those that are signed with one of our keys alone.
    pub signed: bool,
}

impl Default for SourceOptions {
    fn default() -> Self {
        Self {
            minpoll: PollExponent::new(6),
            maxpoll: PollExponent::new(10),
            iburst: false,
            burst: false,
            prefer: false,
            noselect: false,
            offline: false,
            initial: false,
            version: 4,
            xleave: false,
            symmetric: false,
            port: 123,
            key: None,
            offset: NtpDuration::ZERO,
            clock: None,
            heard: None,
            over_ptp: None,
            correction: false,
        }
    }
}

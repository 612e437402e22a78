//! Network cards whose stamps can be used.

use crate::linux::phc::Phc;
use crate::time::duration::NtpDuration;
use crate::time::units::PollExponent;

/// Which arrivals a card stamps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Receives {
    /// NTP's among them.
    All,
    /// PTP's alone.
    PtpOnly,
    /// None.
    None,
}

/// An interface whose stamps can be used.
#[derive(Debug)]
pub struct Card {
    /// Its index.
    pub interface: u32,
    /// Its name.
    pub name: String,
    /// Its clock, open.
    pub phc: Phc,
    /// Added to departures (`txcomp`).
    pub tx_compensation: NtpDuration,
    /// Taken from arrivals (`rxcomp`).
    pub rx_compensation: NtpDuration,
    /// Of its stamps.
    pub precision: NtpDuration,
    /// How often its clock is read.
    pub poll: PollExponent,
    /// Bits per second; zero if unknown.
    pub speed: u64,
    /// Which arrivals it stamps.
    pub receives: Receives,
    /// Does it stamp departures?
    pub transmits: bool,
}

//! Answering requests: access rules, rate limits, replies. No allocation, no
//! lock and no system call on a packet's way through here.
//!
//! The way: [`respond`] asks [`access`] what the sender may do, [`rate`] whether
//! he asks too often and [`interleave`] when the previous reply left, and hands
//! back a [`verdict`]. What comes in a PTP message makes the same way, unwrapped and
//! wrapped again by [`over_ptp`].

pub mod access;
pub mod interleave;
pub mod over_ptp;
pub mod ranges;
pub mod rate;
pub mod recent;
pub mod respond;
pub mod rule;
pub mod verdict;

//! Answering requests: access rules, rate limits, replies. No allocation, no
//! lock and no system call on a packet's way through here.

pub mod rule;

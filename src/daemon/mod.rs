//! The threads and what they share: sockets and clocks outside, the sans-IO
//! engine inside, and everything slow (names, files, people's questions) kept
//! away from the time loop.

pub mod control;
pub mod distribution;
pub mod http;
pub mod paths;
pub mod status;

//! The threads and what they share: sockets and clocks outside, the sans-IO
//! engine inside, and everything slow (names, files, people's questions) kept
//! away from the time loop.

pub mod control;
pub mod desk;
pub mod distribution;
pub mod drift;
pub mod http;
pub mod logging;
pub mod metrics;
pub mod notify;
pub mod options;
pub mod paths;
pub mod resolve;
pub mod service;
pub mod status;

//! The threads and what they share: sockets and clocks outside, the sans-IO
//! engine inside, and everything slow (names, files, people's questions) kept
//! away from the time loop.

pub mod broadcast;
pub mod cards;
pub mod clock;
pub mod cmdmon;
pub mod control;
pub mod counters;
pub mod desk;
pub mod distribution;
pub mod drift;
pub mod errands;
pub mod exchange;
pub mod follower;
pub mod hardware;
pub mod http;
pub mod leaps;
pub mod logging;
pub mod metrics;
pub mod notify;
pub mod options;
pub mod paths;
pub mod phc;
pub mod pid_file;
pub mod query;
pub mod refclock;
pub mod reports;
pub mod resolve;
pub mod rtc;
pub mod run;
pub mod sequence_lock;
pub mod service;
pub mod single;
pub mod snapshot;
pub mod statistics;
pub mod status;
pub mod survey;
pub mod threads;
pub mod time_loop;
pub mod worker;
pub mod xdp;

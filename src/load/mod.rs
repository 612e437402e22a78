//! Load for NTP servers, and what becomes of it: whom to play and what to ask
//! when, which answers belong to which requests, how good they are. Sans-IO:
//! `cli/bench` joins it with the sockets of `linux/`.

pub mod book;
pub mod cookie;
pub mod engine;
pub mod frame;
pub mod mix;
pub mod page;
pub mod prefix;
pub mod report;
pub mod schedule;
pub mod search;
pub mod stamps;
pub mod tally;
pub mod xdp;

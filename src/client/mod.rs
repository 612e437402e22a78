//! Associations: what to ask whom and when, and which answers to believe.
//! Sans-IO: bytes, stamps and `now` in, bytes and measurements out.

pub mod association;
pub mod options;
pub mod over_ptp;
pub mod packet_test;
pub mod processing;
pub mod refclock;
pub mod symmetric;

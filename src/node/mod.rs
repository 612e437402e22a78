//! The engine: associations, estimation and the system variables joined, still
//! without a socket or a clock of its own.

pub mod report;

//! The engine: associations, estimation and the system variables joined, still
//! without a socket or a clock of its own.

pub mod action;
pub mod engine;
pub mod manual;
pub mod pool;
pub mod record;
pub mod report;
pub mod updates;

//! The threads, and what joins the kernel's interfaces to the sans-IO rooms.

pub mod counters;
pub mod snapshot;
pub mod worker;

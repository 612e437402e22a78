//! Time as numbers with units. The floor everything else stands on.
//!
//! Signs, everywhere: a positive offset means the local clock is behind the
//! source; a positive [`units::Ppm`] makes the local clock run faster.

pub mod civil;
pub mod duration;
pub mod instant;
pub mod map;
pub mod phc;
pub mod stamp;
pub mod timestamp;
pub mod units;

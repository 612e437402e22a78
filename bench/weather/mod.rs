//! Rows of weather, and what is made of them.

pub mod ablation;
pub mod bounds;
pub mod cost;
pub mod docs;
pub mod report;
pub mod results;
pub mod rows;
pub mod runs;

//! From measurements to clock commands: filter, select, combine, discipline.
//! Pure arithmetic: no system calls, no clock reads, no dice.

pub mod combine;
pub mod command;
pub mod discipline;
pub mod filter;
pub mod holdover;
pub mod leap;
pub mod ledger;
pub mod likelihood;
pub mod path;
pub mod policy;
pub mod poll;
pub mod select;

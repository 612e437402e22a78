//! From measurements to clock commands: filter, select, combine, discipline.
//! Pure arithmetic: no system calls, no clock reads, no dice.

pub mod command;
pub mod policy;

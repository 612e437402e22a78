//! A simulated world for the real node: clocks, networks and servers in virtual
//! time, and a score of how right the clock really was. The same scenario and seed
//! give the same numbers to the last digit.

pub mod clock;
pub mod dice;
pub mod engine;
pub mod library;
pub mod parse;
pub mod path;
pub mod plot;
pub mod reference;
pub mod scenario;
pub mod score;
pub mod server;
pub mod trace;
pub mod world;

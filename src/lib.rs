//! ptntp: a precision time service for Linux.
//!
//! `docs/ARCHITECTURE.md` has the rooms of this house and the two journeys
//! through it: a request that is answered, and a measurement that ends in
//! `adjtimex`.

pub mod cli;
pub mod client;
pub mod config;
pub mod daemon;
pub mod dice;
pub mod hardware;
pub mod linux;
pub mod load;
pub mod measurement;
pub mod mechanisms;
pub mod node;
pub mod server;
pub mod sim;
pub mod sync;
pub mod system;
pub mod time;
pub mod wire;
pub mod xdp;

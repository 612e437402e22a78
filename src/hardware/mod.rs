//! Hardware clocks as numbers: where a PTP clock stands against CLOCK_REALTIME, and
//! which stamps of a network card to believe. Pure arithmetic; `linux/` reads the
//! clocks, `daemon/` carries the values.

pub mod card;
pub mod servo;
pub mod track;
pub mod wait;

//! The tier in front of the sockets (`docs/XDP.md`): what `linux/xdp` loads and `xdp/`
//! has it know, joined.

pub mod program;

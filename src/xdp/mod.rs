//! The tier in front of the sockets: a program that answers plain requests before the
//! network stack sees them (`answer.bpf.c`), and what it knows of us, as it reads it.
//! `docs/XDP.md` has the whole on a page; `daemon/xdp` joins this with the loader of
//! `linux/xdp`.

pub mod layout;
pub mod state;
pub mod tables;

//! NTP packets as bytes: views that read, representations that write; and what they
//! travel in where that is not UDP alone.

pub mod candm;
pub mod control;
pub mod key;
pub mod packet;
pub mod ptp;
pub mod refid;
pub mod trailer;

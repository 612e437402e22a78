//! NTP packets as bytes: views that read, representations that write.

pub mod candm;
pub mod control;
pub mod packet;
pub mod refid;
pub mod trailer;

//! NTP packets as bytes: views that read, representations that write.

pub mod key;
pub mod packet;
pub mod refid;
pub mod trailer;

//! The kernel's interfaces behind safe functions. Knows no NTP. All of the
//! project's `unsafe` lives below here.

#![allow(unsafe_code)]

pub mod address;
pub(crate) mod bpf;
pub mod caps;
pub mod clock;
pub mod cmsg;
pub mod datagram;
pub(crate) mod epoll;
pub mod ethtool;
pub mod frames;
pub(crate) mod mapping;
pub mod netdev;
pub mod netlink;
pub mod phc;
pub mod ports;
pub mod priority;
pub mod reuseport;
pub mod ring;
pub mod route;
pub mod rtc;
pub mod sealed;
pub mod shared;
pub mod signal;
pub mod socket;
pub mod stream;
pub mod timex;
pub mod udp;
pub mod wait;
pub mod wake;
pub mod xdp;
pub mod zone;

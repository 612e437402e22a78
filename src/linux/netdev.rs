//! What drivers say of XDP: the kernel's generic netlink family `netdev`
//! (Documentation/netlink/specs/netdev.yaml), which is there from Linux 6.3 on.

use std::io;

use netlink_sys::{Socket, protocols::NETLINK_GENERIC};

use crate::linux::netlink::to_kernel;
use crate::linux::socket::retry;

/// Of linux/genetlink.h: who knows the other families, and how to ask for one.
const GENL_ID_CTRL: u16 = 16;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
/// Of linux/netdev.h.
const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;

/// `struct nlmsghdr` and, after it, `struct genlmsghdr`.
const NLMSG_LEN: usize = 16;
const HEAD_LEN: usize = NLMSG_LEN + 4;

/// NETDEV_XDP_ACT_* of linux/netdev.h: what a driver can do with XDP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Features(u64);

impl Features {
    /// Does it run programs itself, with all their verdicts but redirection?
    pub const fn native(self) -> bool {
        self.0 & 1 != 0
    }

    /// Do programs run where packets are in several buffers (large MTUs)?
    pub const fn fragments(self) -> bool {
        self.0 & 1 << 5 != 0
    }
}

/// What the driver of interface `index` says. None: this kernel doesn't know.
///
/// # Errors
/// What the kernel says of sockets or of the interface (ENODEV).
pub fn features(index: u32) -> io::Result<Option<Features>> {
    let socket = to_kernel(NETLINK_GENERIC)?;
    let name = attribute(CTRL_ATTR_FAMILY_NAME, b"netdev\0");
    let family = match ask(&socket, GENL_ID_CTRL, CTRL_CMD_GETFAMILY, &name) {
        Ok(answer) => answer,
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
        Err(error) => return Err(error),
    };
    let family = found(&family, CTRL_ATTR_FAMILY_ID).and_then(|id| id.try_into().ok());
    let family = u16::from_ne_bytes(family.ok_or_else(unreadable)?);
    let index = attribute(NETDEV_A_DEV_IFINDEX, &index.to_ne_bytes());
    let device = ask(&socket, family, NETDEV_CMD_DEV_GET, &index)?;
    let features = found(&device, NETDEV_A_DEV_XDP_FEATURES).and_then(|bits| bits.try_into().ok());
    let features = features.ok_or_else(unreadable)?;
    Ok(Some(Features(u64::from_ne_bytes(features))))
}

fn unreadable() -> io::Error {
    io::Error::other("generic netlink: an answer that can't be read")
}

/// One attribute, padded as the next one wants it.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = (4 + value.len()) as u16;
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// The value of the first attribute of that kind.
fn found(mut attributes: &[u8], kind: u16) -> Option<&[u8]> {
    /// NLA_TYPE_MASK of linux/netlink.h.
    const TYPE_MASK: u16 = 0x3fff;
    while let [l0, l1, k0, k1, ..] = *attributes {
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = attributes.get(4..length)?;
        if u16::from_ne_bytes([k0, k1]) & TYPE_MASK == kind {
            return Some(value);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
    None
}

/// Sends one request, and returns the attributes of the answer.
fn ask(socket: &Socket, family: u16, command: u8, attributes: &[u8]) -> io::Result<Vec<u8>> {
    let length = (HEAD_LEN + attributes.len()) as u32;
    let mut request = Vec::new();
    request.extend(length.to_ne_bytes());
    request.extend(family.to_ne_bytes());
    request.extend((libc::NLM_F_REQUEST as u16).to_ne_bytes());
    // Sequence and port: one request at a time, and the kernel knows our port.
    request.extend([0; 8]);
    // Command, version, reserved.
    request.extend([command, 1, 0, 0]);
    request.extend(attributes);
    retry(|| socket.send(&request, 0))?;
    let (answer, _) = retry(|| socket.recv_from_full())?;
    let word = |at: usize| -> Option<[u8; 4]> { answer.get(at..at + 4)?.try_into().ok() };
    let kind = word(4).ok_or_else(unreadable)?;
    if i32::from(u16::from_ne_bytes([kind[0], kind[1]])) == libc::NLMSG_ERROR {
        let errno = i32::from_ne_bytes(word(NLMSG_LEN).ok_or_else(unreadable)?);
        return Err(io::Error::from_raw_os_error(-errno));
    }
    let length = u32::from_ne_bytes(word(0).ok_or_else(unreadable)?) as usize;
    let attributes = answer.get(HEAD_LEN..length);
    attributes.map(<[u8]>::to_vec).ok_or_else(unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found_by_their_kind() {
        let mut all = attribute(7, b"abc");
        all.extend(attribute(8 | 0x8000, &[1, 2]));
        assert_eq!(found(&all, 7), Some(&b"abc"[..]));
        assert_eq!(found(&all, 8), Some(&[1, 2][..]));
        assert_eq!(found(&all, 9), None);
        // Cut off, or with a length that is none.
        assert_eq!(found(&all[..6], 7), None);
        assert_eq!(found(&[0, 0, 7, 0, 1, 2, 3, 4], 9), None);
    }

    #[test]
    fn the_loopback_runs_no_programs_itself() {
        match features(1) {
            Ok(Some(features)) => assert!(!features.native() && !features.fragments()),
            // Before Linux 6.3.
            Ok(None) => {}
            Err(error) => panic!("{error}"),
        }
        let error = features(u32::MAX >> 1).map(|known| known.is_none());
        assert!(matches!(error, Err(_) | Ok(true)));
    }
}

//! Socket addresses as the kernel takes and gives them.

use std::mem;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// An address in the kernel's layout, with room for either family and no more: it is
/// made twice for each reply.
#[derive(Clone, Copy)]
pub struct RawAddress {
    storage: libc::sockaddr_in6,
    len: libc::socklen_t,
}

impl RawAddress {
    /// Room for an answer from the kernel.
    pub fn empty() -> Self {
        Self {
            // SAFETY: sockaddr_in6 is plain bytes; all zero means AF_UNSPEC.
            storage: unsafe { mem::zeroed() },
            len: mem::size_of::<libc::sockaddr_in6>() as libc::socklen_t,
        }
    }

    /// Start of the address, for calls that read it.
    pub fn as_ptr(&self) -> *const libc::sockaddr {
        (&raw const self.storage).cast()
    }

    /// Start of the address, for calls that fill it in.
    pub fn as_mut_ptr(&mut self) -> *mut libc::sockaddr {
        (&raw mut self.storage).cast()
    }

    /// Length in bytes.
    pub fn len(&self) -> libc::socklen_t {
        self.len
    }

    /// Has the kernel given no address at all?
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where calls such as `getsockname` read and write the length.
    pub fn len_mut(&mut self) -> &mut libc::socklen_t {
        &mut self.len
    }

    /// A copy of an address that the kernel wrote somewhere else. Whatever is
    /// longer than any address is cut.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut raw = Self::empty();
        let len = bytes.len().min(mem::size_of::<libc::sockaddr_in6>());
        // SAFETY: `len` octets are readable there and fit here; the two don't overlap.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), raw.as_mut_ptr().cast::<u8>(), len);
        }
        raw.len = len as libc::socklen_t;
        raw
    }

    /// The address, if it is one of IPv4 or IPv6 and complete.
    pub fn to_socket_addr(&self) -> Option<SocketAddr> {
        let len = self.len as usize;
        match i32::from(self.storage.sin6_family) {
            libc::AF_INET if len >= mem::size_of::<libc::sockaddr_in>() => {
                // SAFETY: the storage is larger than and as aligned as sockaddr_in,
                // and every bit pattern is a valid one.
                let sin = unsafe { *self.as_ptr().cast::<libc::sockaddr_in>() };
                Some(SocketAddr::V4(SocketAddrV4::new(
                    Ipv4Addr::from(u32::from_be(sin.sin_addr.s_addr)),
                    u16::from_be(sin.sin_port),
                )))
            }
            libc::AF_INET6 if len >= mem::size_of::<libc::sockaddr_in6>() => {
                // SAFETY: as above, for sockaddr_in6.
                let sin6 = unsafe { *self.as_ptr().cast::<libc::sockaddr_in6>() };
                Some(SocketAddr::V6(SocketAddrV6::new(
                    Ipv6Addr::from(sin6.sin6_addr.s6_addr),
                    u16::from_be(sin6.sin6_port),
                    sin6.sin6_flowinfo,
                    sin6.sin6_scope_id,
                )))
            }
            _ => None,
        }
    }
}

impl From<SocketAddr> for RawAddress {
    fn from(address: SocketAddr) -> Self {
        let mut raw = Self::empty();
        match address {
            SocketAddr::V4(v4) => {
                let sin = raw.as_mut_ptr().cast::<libc::sockaddr_in>();
                // SAFETY: the storage is larger than and as aligned as sockaddr_in.
                let sin = unsafe { &mut *sin };
                sin.sin_family = libc::AF_INET as libc::sa_family_t;
                sin.sin_port = v4.port().to_be();
                sin.sin_addr.s_addr = u32::from(*v4.ip()).to_be();
                raw.len = mem::size_of::<libc::sockaddr_in>() as libc::socklen_t;
            }
            SocketAddr::V6(v6) => {
                let sin6 = raw.as_mut_ptr().cast::<libc::sockaddr_in6>();
                // SAFETY: the storage is larger than and as aligned as sockaddr_in6.
                let sin6 = unsafe { &mut *sin6 };
                sin6.sin6_family = libc::AF_INET6 as libc::sa_family_t;
                sin6.sin6_port = v6.port().to_be();
                sin6.sin6_flowinfo = v6.flowinfo();
                sin6.sin6_addr.s6_addr = v6.ip().octets();
                sin6.sin6_scope_id = v6.scope_id();
                raw.len = mem::size_of::<libc::sockaddr_in6>() as libc::socklen_t;
            }
        }
        raw
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_round_trip() {
        for text in ["192.0.2.1:123", "[2001:db8::1]:4000", "[fe80::1%3]:123"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(RawAddress::from(address).to_socket_addr(), Some(address));
        }
        assert_eq!(RawAddress::empty().to_socket_addr(), None);
    }

    #[test]
    fn an_address_is_read_where_the_kernel_wrote_it() {
        let address: SocketAddr = "[fe80::1%3]:123".parse().unwrap();
        let raw = RawAddress::from(address);
        // SAFETY: the storage is longer than a sockaddr_in6 and fully initialised.
        let bytes = unsafe { std::slice::from_raw_parts(raw.as_ptr().cast::<u8>(), 28) };
        let copy = RawAddress::from_bytes(bytes).to_socket_addr();
        assert_eq!(copy, Some(address));
        assert_eq!(RawAddress::from_bytes(&bytes[..27]).to_socket_addr(), None);
        assert_eq!(RawAddress::from_bytes(&[0; 999]).to_socket_addr(), None);
    }

    #[test]
    fn a_short_address_is_none() {
        let mut raw = RawAddress::from("192.0.2.1:123".parse::<SocketAddr>().unwrap());
        *raw.len_mut() = 4;
        assert_eq!(raw.to_socket_addr(), None);
    }
}

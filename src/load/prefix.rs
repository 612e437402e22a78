//! The addresses that clients have, and those that nobody should aim at by mistake.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// All addresses that begin alike, `10.1.0.0/16`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Prefix {
    base: IpAddr,
    len: u8,
}

impl Prefix {
    /// One address alone.
    pub fn only(address: IpAddr) -> Self {
        Self {
            base: address,
            len: if address.is_ipv4() { 32 } else { 128 },
        }
    }

    /// How many addresses a client may have: not the first and the last of an IPv4
    /// prefix, which may be no host's. As many as can be said, for larger ones.
    pub fn hosts(&self) -> u32 {
        let (bits, spare) = match self.base {
            IpAddr::V4(_) => (32 - self.len, 2),
            IpAddr::V6(_) => (128 - self.len, 1),
        };
        match bits {
            0 | 1 => 1 << bits,
            2..=31 => (1 << bits) - spare,
            _ => u32::MAX,
        }
    }

    /// Address of the n-th client, n below [`hosts`](Self::hosts).
    pub fn host(&self, n: u32) -> IpAddr {
        // The first one is the prefix itself, unless there are no others.
        let n = if self.hosts() > 2 { n + 1 } else { n };
        match self.base {
            IpAddr::V4(base) => Ipv4Addr::from(u32::from(base).wrapping_add(n)).into(),
            IpAddr::V6(base) => Ipv6Addr::from(u128::from(base).wrapping_add(n.into())).into(),
        }
    }

    /// May a stranger own one of the first `count` addresses?
    pub fn is_public(&self, count: u32) -> bool {
        // Ranges that are set aside are whole prefixes: none begins and ends in two of
        // them that leave room for others in between but 0.0.0.0/0 and its like, whose
        // beginning is public.
        let last = count.clamp(1, self.hosts()) - 1;
        is_public(self.host(0)) || is_public(self.host(last))
    }

    /// Is it of IPv4?
    pub fn is_ipv4(&self) -> bool {
        self.base.is_ipv4()
    }

    /// The first address.
    pub fn base(&self) -> IpAddr {
        self.base
    }

    /// How many bits are alike.
    pub fn bits(&self) -> u8 {
        self.len
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.len)
    }
}

impl FromStr for Prefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (base, len) = text
            .split_once('/')
            .ok_or("expected ADDRESS/LENGTH, such as 10.1.0.0/16")?;
        let base: IpAddr = base
            .parse()
            .map_err(|_| format!("'{base}' is no address"))?;
        let max = if base.is_ipv4() { 32 } else { 128 };
        let len = len
            .parse()
            .ok()
            .filter(|len| *len <= max)
            .ok_or_else(|| format!("'{len}' is no prefix length, 0 to {max}"))?;
        // Without the bits beyond the prefix.
        let base = match base {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0);
                IpAddr::V4((u32::from(v4) & mask).into())
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0);
                IpAddr::V6((u128::from(v6) & mask).into())
            }
        };
        Ok(Self { base, len })
    }
}

/// May a stranger own it? Loopback, private and link-local addresses, those behind
/// a carrier's NAT, and those set aside for benchmarks and documents he can't.
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let octets = v4.octets();
            let shared = octets[0] == 100 && octets[1] & 0xc0 == 64;
            let benchmark = octets[0] == 198 && octets[1] & 0xfe == 18;
            !(v4.is_loopback()
                || v4.is_private()
                || v4.is_link_local()
                || v4.is_documentation()
                || v4.is_unspecified()
                || shared
                || benchmark)
        }
        IpAddr::V6(v6) => {
            let documentation = v6.segments()[..2] == [0x2001, 0xdb8];
            !(v6.is_loopback()
                || v6.is_unique_local()
                || v6.is_unicast_link_local()
                || v6.is_unspecified()
                || documentation)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn hosts_are_counted_and_named() {
        let p = prefix("10.1.2.3/16");
        assert_eq!((p.to_string().as_str(), p.hosts()), ("10.1.0.0/16", 65_534));
        assert_eq!(p.host(0), IpAddr::from([10, 1, 0, 1]));
        assert_eq!(p.host(65_533), IpAddr::from([10, 1, 255, 254]));
        assert_eq!(prefix("10.0.0.7/32").host(0), IpAddr::from([10, 0, 0, 7]));
        assert_eq!(prefix("10.0.0.6/31").hosts(), 2);
        let p = prefix("fd00:1::/64");
        assert_eq!(p.hosts(), u32::MAX);
        assert_eq!(p.host(4), "fd00:1::5".parse::<IpAddr>().unwrap());
        assert_eq!(prefix("0.0.0.0/0").hosts(), u32::MAX);
        for wrong in ["10.0.0.0", "10.0.0.0/33", "x/8", "10.0.0.0/-1"] {
            assert!(wrong.parse::<Prefix>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_prefix_with_strangers_in_it_is_public() {
        for ours in ["10.0.0.0/8", "172.16.0.0/12", "100.64.0.0/10", "fd00::/8"] {
            assert!(!prefix(ours).is_public(u32::MAX), "{ours}");
        }
        for theirs in [
            "0.0.0.0/0",
            "10.0.0.0/7",
            "172.16.0.0/11",
            "8.8.8.0/24",
            "2600::/64",
        ] {
            assert!(prefix(theirs).is_public(u32::MAX), "{theirs}");
        }
        assert!(!prefix("10.0.0.0/7").is_public(1000));
    }

    #[test]
    fn strangers_are_told_from_neighbours() {
        for ours in [
            "127.0.0.1",
            "10.9.8.7",
            "172.31.0.1",
            "192.168.0.1",
            "169.254.3.3",
            "100.127.255.255",
            "198.19.0.1",
            "::1",
            "fe80::1",
            "fd12::1",
            "::ffff:10.0.0.1",
        ] {
            assert!(!is_public(ours.parse().unwrap()), "{ours}");
        }
        for theirs in [
            "8.8.8.8",
            "100.128.0.1",
            "172.32.0.1",
            "2600::1",
            "::ffff:8.8.8.8",
        ] {
            assert!(is_public(theirs.parse().unwrap()), "{theirs}");
        }
    }
}

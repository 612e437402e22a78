//! Reference identifiers and kiss codes (RFC 5905 sections 7.3 and 7.4).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use md5::{Digest, Md5};

/// Four octets that name a source: four letters at stratum 0 and 1, an address
/// (IPv4) or a hash of one (IPv6) above.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct RefId([u8; 4]);

impl RefId {
    /// Unsynchronised, before any source was selected.
    pub const INIT: Self = Self(*b"INIT");
    /// The clock was just moved, and is measured anew.
    pub const STEP: Self = Self(*b"STEP");
    /// Named by letters: the undisciplined local clock at stratum 1.
    pub const LOCAL: Self = Self(*b"LOCL");
    /// Named by address, at any stratum above: ntpd's 127.127.1.0.
    const LOCAL_ADDRESS: Self = Self([127, 127, 1, 0]);

    /// What a server of this stratum puts on the wire when it serves its own
    /// undisciplined clock, as ntpd does.
    pub const fn local(stratum: u8) -> Self {
        if stratum <= 1 {
            Self::LOCAL
        } else {
            Self::LOCAL_ADDRESS
        }
    }

    /// From the wire's four octets.
    pub const fn from_bytes(bytes: [u8; 4]) -> Self {
        Self(bytes)
    }

    /// The wire's four octets.
    pub const fn bytes(self) -> [u8; 4] {
        self.0
    }

    /// The identifier of a server at `address`: IPv4 as it is, of IPv6 the first four
    /// octets of its MD5 hash (RFC 5905 section 7.3). By it two servers that follow each
    /// other notice, so all have to make it alike.
    pub fn from_address(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self(v4.octets()),
            IpAddr::V6(v6) => {
                let hash = Md5::digest(v6.octets());
                Self([hash[0], hash[1], hash[2], hash[3]])
            }
        }
    }

    /// As an administrator expects to read it beside `stratum`: letters at
    /// stratum 0 and 1, dotted above (`LOCAL(0)` for a local clock, as ntpq has
    /// it). What is no letters is dotted too: it comes from strangers.
    pub fn display(self, stratum: u8) -> RefIdDisplay {
        RefIdDisplay {
            refid: self,
            stratum,
        }
    }
}

impl fmt::Debug for RefId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08X}", u32::from_be_bytes(self.0))
    }
}

/// See [`RefId::display`].
#[derive(Clone, Copy, Debug)]
pub struct RefIdDisplay {
    refid: RefId,
    stratum: u8,
}

impl fmt::Display for RefIdDisplay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if (2..16).contains(&self.stratum) {
            return match self.refid {
                RefId::LOCAL_ADDRESS => f.pad("LOCAL(0)"),
                RefId(octets) => Ipv4Addr::from(octets).fmt(f),
            };
        }
        let len = self.refid.0.iter().position(|&octet| octet == 0);
        let letters = &self.refid.0[..len.unwrap_or(4)];
        if !letters.iter().all(u8::is_ascii_graphic) {
            return Ipv4Addr::from(self.refid.0).fmt(f);
        }
        let mut text = String::with_capacity(6);
        text.push('.');
        text.extend(letters.iter().map(|&octet| char::from(octet)));
        text.push('.');
        f.pad(&text)
    }
}

/// What a server says instead of the time (RFC 5905 section 7.4).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum KissCode {
    /// Access denied: stop asking.
    Deny,
    /// Access denied by local policy: stop asking.
    Rstr,
    /// Asked too often: ask less.
    Rate,
    /// A code that asks nothing of us (INIT, STEP, AUTH ...).
    Other([u8; 4]),
}

impl KissCode {
    /// Reads the code out of a stratum 0 packet's refid.
    pub const fn from_refid(refid: RefId) -> Self {
        match &refid.0 {
            b"DENY" => Self::Deny,
            b"RSTR" => Self::Rstr,
            b"RATE" => Self::Rate,
            other => Self::Other(*other),
        }
    }

    /// The refid that carries the code.
    pub const fn to_refid(self) -> RefId {
        RefId(match self {
            Self::Deny => *b"DENY",
            Self::Rstr => *b"RSTR",
            Self::Rate => *b"RATE",
            Self::Other(code) => code,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_letters_below_stratum_two_and_addresses_above() {
        assert_eq!(RefId::from_bytes(*b"GPS\0").display(1).to_string(), ".GPS.");
        assert_eq!(
            RefId::from_bytes([10, 0, 0, 1]).display(3).to_string(),
            "10.0.0.1"
        );
        assert_eq!(
            RefId::from_bytes([0x1b, b'[', b'2', b'J'])
                .display(0)
                .to_string(),
            "27.91.50.74"
        );
    }

    #[test]
    fn addresses_have_the_identifiers_that_others_give_them() {
        for (address, octets) in [
            ("192.0.2.1", [192, 0, 2, 1]),
            ("::ffff:192.0.2.1", [192, 0, 2, 1]),
            ("2001:db8::1", [0x39, 0xab, 0x9b, 0x37]),
        ] {
            let address = address.parse().expect("an address");
            assert_eq!(RefId::from_address(address).bytes(), octets, "{address}");
        }
    }

    #[test]
    fn kiss_codes_round_trip() {
        for code in [
            KissCode::Deny,
            KissCode::Rstr,
            KissCode::Rate,
            KissCode::Other(*b"INIT"),
        ] {
            assert_eq!(KissCode::from_refid(code.to_refid()), code);
        }
    }
}

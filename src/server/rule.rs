//! `restrict` rules as the operator writes them, before they are compiled.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::{BitOr, BitOrAssign};

use crate::time::duration::NtpDuration;

/// What a rule forbids or asks for; a set of ntpd's words.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Flags(u16);

impl Flags {
    /// No restriction at all.
    pub const NONE: Self = Self(0);
    /// Drop everything.
    pub const IGNORE: Self = Self(1 << 0);
    /// Drop all but modes 6 and 7.
    pub const NOSERVE: Self = Self(1 << 1);
    /// Drop modes 6 and 7.
    pub const NOQUERY: Self = Self(1 << 2);
    /// Deny changes by mode 6.
    pub const NOMODIFY: Self = Self(1 << 3);
    /// Deny the list of clients by mode 6.
    pub const NOMRULIST: Self = Self(1 << 4);
    /// Deny traps. Accepted, no effect: there are none.
    pub const NOTRAP: Self = Self(1 << 5);
    /// Low priority traps. Accepted, no effect.
    pub const LOWPRIOTRAP: Self = Self(1 << 6);
    /// Deny unauthenticated mobilisation of associations.
    pub const NOPEER: Self = Self(1 << 7);
    /// Deny ephemeral associations even if authenticated.
    pub const NOEPEER: Self = Self(1 << 8);
    /// Only packets with a valid MAC.
    pub const NOTRUST: Self = Self(1 << 9);
    /// Rate limits apply.
    pub const LIMITED: Self = Self(1 << 10);
    /// Tell those over the limit so (kiss of death RATE).
    pub const KOD: Self = Self(1 << 11);
    /// Drop one packet in ten, to test clients.
    pub const FLAKE: Self = Self(1 << 12);
    /// Drop versions other than the current one.
    pub const VERSION: Self = Self(1 << 13);
    /// Samba signing.
    pub const MSSNTP: Self = Self(1 << 14);
    /// Drop requests for the time, and let the answers of our own servers in: chrony's
    /// `deny`, which knows nothing of those.
    pub const NOCLIENT: Self = Self(1 << 15);

    /// Every flag with its word in ntp.conf.
    pub const WORDS: [(&'static str, Self); 16] = [
        ("ignore", Self::IGNORE),
        ("noserve", Self::NOSERVE),
        ("noquery", Self::NOQUERY),
        ("nomodify", Self::NOMODIFY),
        ("nomrulist", Self::NOMRULIST),
        ("notrap", Self::NOTRAP),
        ("lowpriotrap", Self::LOWPRIOTRAP),
        ("nopeer", Self::NOPEER),
        ("noepeer", Self::NOEPEER),
        ("notrust", Self::NOTRUST),
        ("limited", Self::LIMITED),
        ("kod", Self::KOD),
        ("flake", Self::FLAKE),
        ("version", Self::VERSION),
        ("mssntp", Self::MSSNTP),
        ("noclient", Self::NOCLIENT),
    ];

    /// The flag of a word, if it is one.
    pub fn from_word(word: &str) -> Option<Self> {
        let (_, flag) = Self::WORDS.iter().find(|(w, _)| *w == word)?;
        Some(*flag)
    }

    /// Are all of `other` in here?
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Is any of `other` in here?
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The set as bits, for tables.
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// From [`bits`](Self::bits).
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }
}

impl BitOr for Flags {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Flags {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

/// The words, separated by spaces, in the order of [`Flags::WORDS`].
impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut space = "";
        for (word, flag) in Self::WORDS {
            if self.contains(flag) {
                write!(f, "{space}{word}")?;
                space = " ";
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Flags({self})")
    }
}

/// A block of addresses: those that agree with `address` in the first
/// `prefix_len` bits (0 to 32 or 128). Bits beyond are zero by construction.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Prefix {
    address: IpAddr,
    len: u8,
}

impl Prefix {
    /// Every IPv4 address.
    pub const ALL_V4: Self = Self {
        address: IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
        len: 0,
    };
    /// Every IPv6 address.
    pub const ALL_V6: Self = Self {
        address: IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
        len: 0,
    };

    /// Masks `address` to its first `len` bits; `None` if it has fewer.
    pub fn new(address: IpAddr, len: u8) -> Option<Self> {
        let address = match address {
            IpAddr::V4(v4) if len <= 32 => {
                let mask = u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0);
                IpAddr::V4((u32::from(v4) & mask).into())
            }
            IpAddr::V6(v6) if len <= 128 => {
                let mask = u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0);
                IpAddr::V6((u128::from(v6) & mask).into())
            }
            _ => return None,
        };
        Some(Self { address, len })
    }

    /// One address alone.
    pub fn host(address: IpAddr) -> Self {
        let len = if address.is_ipv4() { 32 } else { 128 };
        Self { address, len }
    }

    /// The first address.
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// How many bits count.
    pub const fn bits(&self) -> u8 {
        self.len
    }

    /// Is `address` in it? Families never mix.
    pub fn contains(&self, address: IpAddr) -> bool {
        Self::new(address, self.len).is_some_and(|masked| masked == *self)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.len)
    }
}

/// To whom a rule applies.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Who {
    /// Everyone in the block; `ntpport`: only packets sent from port 123.
    Block {
        /// The addresses.
        prefix: Prefix,
        /// Only source port 123.
        ntpport: bool,
    },
    /// Whoever becomes one of our sources (`restrict source`).
    Source,
}

/// One `restrict` or `unrestrict` line. Order matters: flags of equal blocks add
/// up, and `unrestrict` takes away what came before it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Rule {
    /// `restrict who flags`.
    Restrict(Who, Flags),
    /// `unrestrict who flags`: clears the flags, or removes the entry if none are named.
    Unrestrict(Who, Flags),
}

/// What holds where the operator wrote no `restrict default`: a stranger is told the
/// time and nothing else, or we would send him, or whoever he says he is, more than he
/// sent us. This host's own programs may ask. ntpsec's entry is stricter (`limited`,
/// for loopback too), classic ntpd's has no flags.
pub fn with_built_in(rules: &[Rule]) -> Vec<Rule> {
    let mut all = Vec::with_capacity(rules.len() + 4);
    let loopback = |address: IpAddr, len| Prefix::new(address, len).into_iter();
    for (default, own) in [
        (Prefix::ALL_V4, loopback(Ipv4Addr::LOCALHOST.into(), 8)),
        (Prefix::ALL_V6, loopback(Ipv6Addr::LOCALHOST.into(), 128)),
    ] {
        let is_default = |who: &Who| matches!(who, Who::Block { prefix, .. } if *prefix == default);
        let written = rules.iter().any(|rule| match rule {
            Rule::Restrict(who, _) | Rule::Unrestrict(who, _) => is_default(who),
        });
        if !written {
            let ntpport = false;
            let block = |prefix, flags| Rule::Restrict(Who::Block { prefix, ntpport }, flags);
            all.push(block(default, Flags::NOQUERY));
            all.extend(own.map(|prefix| block(prefix, Flags::NONE)));
        }
    }
    all.extend_from_slice(rules);
    all
}

/// What `limited` means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RateLimit {
    /// ntpd's (`discard`).
    Headway(Headway),
    /// A bucket of tokens (chrony's `ratelimit`, ntpsec's `limit`).
    Bucket(Bucket),
}

/// ntpd's limits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Headway {
    /// Log2 of the least average seconds between requests.
    pub average_log2_s: u8,
    /// Least seconds between two requests.
    pub minimum_s: u8,
}

/// So many requests at once, and one more for each interval.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bucket {
    /// One request is free for each of these. At least a nanosecond.
    pub interval: NtpDuration,
    /// The most requests that may be saved up, 1 to 255.
    pub burst: u8,
    /// One in 2^n requests over the limit is answered all the same, by chance: who forges
    /// a client's address can't shut him out. 0: none is.
    pub leak_log2: u8,
    /// One in 2^n requests over the limit is told so, where `kod` stands. 0: none is.
    pub kod_log2: u8,
}

impl RateLimit {
    /// Is it a bucket of tokens?
    pub const fn is_bucket(self) -> bool {
        matches!(self, Self::Bucket(_))
    }

    /// Log2 seconds that a client should leave between requests, as kisses tell him.
    pub fn poll(self) -> i8 {
        match self {
            Self::Headway(limit) => i8::try_from(limit.average_log2_s).unwrap_or(i8::MAX),
            Self::Bucket(bucket) => bucket.interval.as_seconds().log2().ceil() as i8,
        }
    }
}

impl Default for Headway {
    /// ntpd's: 8 s on average, 2 s at least.
    fn default() -> Self {
        Self {
            average_log2_s: 3,
            minimum_s: 2,
        }
    }
}

impl Default for Bucket {
    /// chrony's: 8 s, 8 requests, one in four answered, nobody told.
    fn default() -> Self {
        Self {
            interval: NtpDuration::from_whole_seconds(8),
            burst: 8,
            leak_log2: 2,
            kod_log2: 0,
        }
    }
}

impl Default for RateLimit {
    fn default() -> Self {
        Self::Headway(Headway::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_default_strangers_may_not_query() {
        let who = |prefix| Who::Block {
            prefix,
            ntpport: false,
        };
        let rules = [Rule::Restrict(who(Prefix::ALL_V4), Flags::NONE)];
        let all = with_built_in(&rules);
        let own = Prefix::host(Ipv6Addr::LOCALHOST.into());
        assert_eq!(
            all,
            [
                Rule::Restrict(who(Prefix::ALL_V6), Flags::NOQUERY),
                Rule::Restrict(who(own), Flags::NONE),
                rules[0],
            ]
        );
        assert_eq!(with_built_in(&[]).len(), 4);
    }
}

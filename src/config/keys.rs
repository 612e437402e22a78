//! What there is to say about keys (RFC 5905 section 7.3): where they are kept, which of
//! them are trusted, and the table of those that are.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;

use crate::server::respond::BadMac;
use crate::wire::key::KeyTable;

/// Whose format a key file has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum KeyFormat {
    /// ntp.keys: `ID TYPE SECRET`, where more than 20 characters are hexadecimal digits.
    #[default]
    Ntp,
    /// chrony.keys: `ID [TYPE] SECRET`, where `HEX:` marks digits.
    Chrony,
}

/// Which keys of the file may be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Trust {
    /// All, as in chrony.conf.
    All,
    /// Those that `trustedkey` lines name.
    Only(Vec<RangeInclusive<u32>>),
}

impl Trust {
    /// Is the key with this number trusted?
    pub fn includes(&self, id: u32) -> bool {
        match self {
            Self::All => true,
            Self::Only(ranges) => ranges.iter().any(|range| range.contains(&id)),
        }
    }
}

impl Default for Trust {
    fn default() -> Self {
        Self::Only(Vec::new())
    }
}

/// All there is to say about keys.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct KeysConfig {
    /// Where they are kept.
    pub file: Option<PathBuf>,
    /// How that is written.
    pub format: KeyFormat,
    /// Which of them count.
    pub trusted: Trust,
    /// The one whose holder may ask for ntpq's lists of interfaces and restrictions.
    pub control: Option<u32>,
    /// What a request with a wrong MAC gets.
    pub bad_mac: BadMac,
    /// The keys that count.
    pub table: Arc<KeyTable>,
}

impl KeysConfig {
    /// What is so in chrony.conf without a line.
    pub fn chrony() -> Self {
        Self {
            trusted: Trust::All,
            bad_mac: BadMac::Ignored,
            ..Self::default()
        }
    }
}

/// As `trustedkey` has them.
pub fn trust_as_text(trust: &Trust) -> String {
    let Trust::Only(ranges) = trust else {
        return "all".into();
    };
    let words: Vec<String> = ranges
        .iter()
        .map(|range| match (range.start(), range.end()) {
            (low, high) if low == high => low.to_string(),
            (low, high) => format!("({low} ... {high})"),
        })
        .collect();
    words.join(" ")
}

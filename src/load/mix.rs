//! What clients ask for: version, mode, key, and who of them does which.

use std::str::FromStr;

use crate::wire::key::Key;

/// One kind of client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kind {
    /// NTP version, 1 to 4.
    pub version: u8,
    /// Asks for interleaved answers (RFC 9769).
    pub interleaved: bool,
    /// Signs its requests, and wants answers signed.
    pub keyed: bool,
}

impl Kind {
    /// NTPv4, basic mode, no key.
    pub const PLAIN: Self = Self {
        version: 4,
        interleaved: false,
        keyed: false,
    };
}

/// Words joined by `+`: `basic`, `interleaved`, `key`, `v1` to `v4`.
impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut kind = Self::PLAIN;
        for word in text.split('+') {
            match word {
                "basic" => {}
                "interleaved" => kind.interleaved = true,
                "key" => kind.keyed = true,
                "v1" => kind.version = 1,
                "v2" => kind.version = 2,
                "v3" => kind.version = 3,
                "v4" => kind.version = 4,
                _ => {
                    return Err(format!(
                        "'{word}' is none of basic, interleaved, key, v1, v2, v3, v4"
                    ));
                }
            }
        }
        Ok(kind)
    }
}

/// Kinds with their shares among the clients.
#[derive(Clone, Debug)]
pub struct Mix {
    /// With whole weights above zero; not empty.
    kinds: Vec<(Kind, u32)>,
    total: u32,
}

impl Mix {
    /// All clients alike.
    pub fn only(kind: Kind) -> Self {
        Self {
            kinds: vec![(kind, 1)],
            total: 1,
        }
    }

    /// What this client is. Neighbours differ, so that any range of clients is mixed
    /// like all of them.
    pub fn kind_of(&self, client: u32) -> Kind {
        let mut ticket = client % self.total;
        for &(kind, weight) in &self.kinds {
            if ticket < weight {
                return kind;
            }
            ticket -= weight;
        }
        self.kinds[0].0
    }

    /// Does anybody ask for interleaved answers?
    pub fn is_interleaved(&self) -> bool {
        self.kinds.iter().any(|(kind, _)| kind.interleaved)
    }

    /// Does anybody sign?
    pub fn is_keyed(&self) -> bool {
        self.kinds.iter().any(|(kind, _)| kind.keyed)
    }
}

/// `basic=90,interleaved=10`.
impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut kinds = Vec::new();
        for part in text.split(',') {
            let (kind, weight) = part
                .split_once('=')
                .ok_or_else(|| format!("expected KIND=SHARE, not '{part}'"))?;
            let weight: u32 = weight
                .parse()
                .ok()
                .filter(|weight| (1..=1000).contains(weight))
                .ok_or_else(|| format!("a share is 1 to 1000, not '{weight}'"))?;
            kinds.push((kind.parse()?, weight));
        }
        let total = kinds.iter().map(|(_, weight)| weight).sum();
        Ok(Self { kinds, total })
    }
}

/// The keys and kinds of a whole measurement.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Who asks for what.
    pub mix: Mix,
    /// With which key those sign that do.
    pub key: Option<Key>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_kept_among_few_clients_and_many() {
        let mix: Mix = "basic=7,interleaved=2,v3+key=1".parse().unwrap();
        let interleaved = (0..1000).filter(|c| mix.kind_of(*c).interleaved).count();
        let keyed: Vec<Kind> = (0..1000)
            .map(|c| mix.kind_of(c))
            .filter(|k| k.keyed)
            .collect();
        assert_eq!((interleaved, keyed.len()), (200, 100));
        assert_eq!(keyed[0].version, 3);
        assert!(mix.is_interleaved() && mix.is_keyed());
    }

    #[test]
    fn wrong_mixes_are_explained() {
        for (text, part) in [
            ("basic", "KIND=SHARE"),
            ("basic=0", "1 to 1000"),
            ("fast=3", "none of basic"),
        ] {
            let error = text.parse::<Mix>().unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}

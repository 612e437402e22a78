//! Symmetric keys (RFC 5905 section 7.3, RFC 8573): a MAC over the packet before
//! it, a digest of key and packet, or AES-CMAC. Server, client and load share it.
//!
//! Nothing here allocates once a key is made: a key is the digest's state after its
//! secret, or the cipher's round keys.

use std::fmt;
use std::str::FromStr;

use cmac::{Cmac, Mac as _};
use md5::Digest;
use subtle::ConstantTimeEq;

use crate::wire::packet::{HEADER_LEN, Header};

/// Octets of the longest MAC, with its key identifier; longer digests are cut to
/// fit, as ntpd and chronyd do in version 4.
pub const MAC_LEN_MAX: usize = 24;
/// Octets of the key identifier.
pub const ID_LEN: usize = 4;
/// Octets of the longest MAC that is not cut: SHA-512's.
const MAC_LEN_WHOLE_MAX: usize = ID_LEN + 64;

/// Is this trailer what a server sends that does not have the key: number 0, and no
/// digest?
pub fn is_crypto_nak(trailer: &[u8]) -> bool {
    trailer == [0; ID_LEN]
}

/// The ways to authenticate.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum KeyKind {
    /// MD5 of key and packet, 16 octets.
    Md5,
    /// SHA-1, 20 octets.
    Sha1,
    /// SHA-256, cut to 20 octets.
    Sha256,
    /// SHA-384, cut to 20 octets.
    Sha384,
    /// SHA-512, cut to 20 octets.
    Sha512,
    /// AES-128-CMAC (RFC 8573), 16 octets.
    Aes128,
    /// AES-256-CMAC, 16 octets.
    Aes256,
}

impl KeyKind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Md5,
        Self::Sha1,
        Self::Sha256,
        Self::Sha384,
        Self::Sha512,
        Self::Aes128,
        Self::Aes256,
    ];

    /// As chrony writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
            Self::Sha384 => "SHA384",
            Self::Sha512 => "SHA512",
            Self::Aes128 => "AES128",
            Self::Aes256 => "AES256",
        }
    }

    /// By any of the names that ntpd, ntpsec and chrony have for it, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name.to_ascii_uppercase().as_str() {
            "MD5" | "M" => Self::Md5,
            "SHA1" | "SHA" | "SHA-1" => Self::Sha1,
            "SHA256" | "SHA-256" | "SHA2-256" => Self::Sha256,
            "SHA384" | "SHA-384" | "SHA2-384" => Self::Sha384,
            "SHA512" | "SHA-512" | "SHA2-512" => Self::Sha512,
            "AES128" | "AES" | "AES-128" | "AES128CMAC" | "AES-128-CMAC" => Self::Aes128,
            "AES256" | "AES-256" | "AES256CMAC" | "AES-256-CMAC" => Self::Aes256,
            _ => return None,
        })
    }

    /// How many octets a secret has to have; none: any number will do.
    pub const fn secret_len(self) -> Option<usize> {
        match self {
            Self::Aes128 => Some(16),
            Self::Aes256 => Some(32),
            _ => None,
        }
    }
}

/// What a key does to a packet; boxed, as they differ in size.
#[derive(Clone)]
enum Algorithm {
    Md5(Box<md5::Md5>),
    Sha1(Box<sha1::Sha1>),
    Sha256(Box<sha2::Sha256>),
    Sha384(Box<sha2::Sha384>),
    Sha512(Box<sha2::Sha512>),
    Aes128(Box<Cmac<aes::Aes128>>),
    Aes256(Box<Cmac<aes::Aes256>>),
}

/// One key.
#[derive(Clone)]
pub struct Key {
    id: u32,
    kind: KeyKind,
    /// Octets of the secret.
    len: usize,
    algorithm: Algorithm,
}

/// Without anything of the secret: this ends up in messages.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("id", &self.id)
            .field("kind", &self.kind)
            .finish()
    }
}

/// Do they sign alike?
impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id && self.kind == other.kind && self.mac(b"") == other.mac(b"")
    }
}

/// `ID:TYPE:SECRET`, the secret as it is or as `HEX:...`.
impl FromStr for Key {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.splitn(3, ':');
        let (Some(id), Some(kind), Some(secret)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err("expected ID:TYPE:SECRET, such as 10:SHA1:HEX:0123456789ab".to_owned());
        };
        let id = id
            .parse()
            .ok()
            .filter(|id| *id > 0)
            .ok_or_else(|| format!("the key's number is 1 to 4294967295, not '{id}'"))?;
        let kind = KeyKind::from_name(kind).ok_or_else(|| unknown_kind(kind))?;
        Self::new(id, kind, &secret_of(secret)?)
    }
}

/// What is wrong with the name of a type.
pub fn unknown_kind(name: &str) -> String {
    format!(
        "'{name}' is none of {}",
        KeyKind::ALL.map(KeyKind::name).join(", ")
    )
}

/// A secret as chrony writes it: `HEX:` and digits, or text, which may have `ASCII:` before it.
pub fn secret_of(text: &str) -> Result<Vec<u8>, String> {
    match text.strip_prefix("HEX:") {
        // The digits are a secret, too: they are not repeated.
        Some(digits) => {
            unhex(digits).ok_or_else(|| "no even number of hexadecimal digits".to_owned())
        }
        None => Ok(text.strip_prefix("ASCII:").unwrap_or(text).into()),
    }
}

impl Key {
    /// Number `id`, which is not 0.
    pub fn new(id: u32, kind: KeyKind, secret: &[u8]) -> Result<Self, String> {
        if secret.is_empty() {
            return Err("the key is empty".to_owned());
        }
        let wrong_len = |_| {
            let (kind, len) = (kind.name(), kind.secret_len().unwrap_or_default());
            let has = secret.len();
            format!("a key of {kind} has {len} octets, not {has} (write it as HEX:...)")
        };
        let algorithm = match kind {
            KeyKind::Md5 => Algorithm::Md5(Box::new(md5::Md5::new_with_prefix(secret))),
            KeyKind::Sha1 => Algorithm::Sha1(Box::new(sha1::Sha1::new_with_prefix(secret))),
            KeyKind::Sha256 => Algorithm::Sha256(Box::new(sha2::Sha256::new_with_prefix(secret))),
            KeyKind::Sha384 => Algorithm::Sha384(Box::new(sha2::Sha384::new_with_prefix(secret))),
            KeyKind::Sha512 => Algorithm::Sha512(Box::new(sha2::Sha512::new_with_prefix(secret))),
            KeyKind::Aes128 => {
                Algorithm::Aes128(Box::new(Cmac::new_from_slice(secret).map_err(wrong_len)?))
            }
            KeyKind::Aes256 => {
                Algorithm::Aes256(Box::new(Cmac::new_from_slice(secret).map_err(wrong_len)?))
            }
        };
        Ok(Self {
            id,
            kind,
            len: secret.len(),
            algorithm,
        })
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// How many bits the secret has.
    pub fn bits(&self) -> u16 {
        u16::try_from(8 * self.len).unwrap_or(u16::MAX)
    }

    /// How it signs.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// Octets of its MACs, key identifier included, cut as in version 4.
    pub fn mac_len(&self) -> usize {
        self.mac_len_whole().min(MAC_LEN_MAX)
    }

    /// The same, not cut: what chronyd sends in version 3.
    fn mac_len_whole(&self) -> usize {
        ID_LEN
            + match self.kind {
                KeyKind::Md5 | KeyKind::Aes128 | KeyKind::Aes256 => 16,
                KeyKind::Sha1 => 20,
                KeyKind::Sha256 => 32,
                KeyKind::Sha384 => 48,
                KeyKind::Sha512 => 64,
            }
    }

    /// Has one of its MACs, cut or whole, so many octets?
    pub fn may_be_as_long(&self, len: usize) -> bool {
        len == self.mac_len() || len == self.mac_len_whole()
    }

    /// Writes the MAC of `packet` to `out`, cut as in version 4; says how long it is.
    pub fn sign(&self, packet: &[u8], out: &mut [u8; MAC_LEN_MAX]) -> usize {
        let len = self.mac_len();
        self.fill(packet, &mut out[..len]);
        len
    }

    /// Fills `mac` with as much of the MAC of `packet` as there is room for.
    pub fn fill(&self, packet: &[u8], mac: &mut [u8]) {
        let (whole, len) = self.mac(packet);
        let len = len.min(mac.len());
        mac[..len].copy_from_slice(&whole[..len]);
    }

    /// Is `mac` (all that follows the packet) this key's, cut or whole? Takes as long for a
    /// nearly right one as for any other of its length.
    pub fn verifies(&self, packet: &[u8], mac: &[u8]) -> bool {
        if !self.may_be_as_long(mac.len()) {
            return false;
        }
        let (whole, _) = self.mac(packet);
        whole[..mac.len()].ct_eq(mac).into()
    }

    /// Not cut, and how long it is.
    fn mac(&self, packet: &[u8]) -> ([u8; MAC_LEN_WHOLE_MAX], usize) {
        let mut out = [0; MAC_LEN_WHOLE_MAX];
        out[..ID_LEN].copy_from_slice(&self.id.to_be_bytes());
        let mut put = |digest: &[u8]| out[ID_LEN..][..digest.len()].copy_from_slice(digest);
        match &self.algorithm {
            Algorithm::Md5(state) => put(&hash(&**state, packet)),
            Algorithm::Sha1(state) => put(&hash(&**state, packet)),
            Algorithm::Sha256(state) => put(&hash(&**state, packet)),
            Algorithm::Sha384(state) => put(&hash(&**state, packet)),
            Algorithm::Sha512(state) => put(&hash(&**state, packet)),
            Algorithm::Aes128(state) => {
                put(&(**state)
                    .clone()
                    .chain_update(packet)
                    .finalize()
                    .into_bytes());
            }
            Algorithm::Aes256(state) => {
                put(&(**state)
                    .clone()
                    .chain_update(packet)
                    .finalize()
                    .into_bytes());
            }
        }
        (out, self.mac_len_whole())
    }
}

fn hash<D: Digest + Clone>(state: &D, packet: &[u8]) -> md5::digest::Output<D> {
    state.clone().chain_update(packet).finalize()
}

/// The octets that `digits` stand for; none if they are an odd number of them, or others.
pub fn unhex(digits: &str) -> Option<Vec<u8>> {
    if !digits.bytes().all(|b| b.is_ascii_hexdigit()) || !digits.len().is_multiple_of(2) {
        return None;
    }
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).ok())
        .collect()
}

/// The keys that may be used, by their numbers. Never changed, only replaced.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct KeyTable {
    /// By number.
    keys: Vec<Key>,
    control: Option<u32>,
}

impl KeyTable {
    /// Of several with one number the last counts.
    pub fn new(mut keys: Vec<Key>) -> Self {
        keys.reverse();
        keys.sort_by_key(Key::id);
        keys.dedup_by_key(|key| key.id);
        Self {
            keys,
            control: None,
        }
    }

    /// The same, with the number of the key whose holder may see what mode 6 tells
    /// nobody else. It need not be there.
    pub fn with_control(self, control: Option<u32>) -> Self {
        Self { control, ..self }
    }

    /// That number.
    pub fn control(&self) -> Option<u32> {
        self.control
    }

    /// The key with this number.
    pub fn get(&self, id: u32) -> Option<&Key> {
        let place = self.keys.binary_search_by_key(&id, Key::id).ok()?;
        self.keys.get(place)
    }

    /// All of them, by number.
    pub fn iter(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter()
    }
}

/// A header, signed or not, as it is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message {
    octets: [u8; HEADER_LEN + MAC_LEN_MAX],
    len: usize,
}

impl Message {
    /// `header`, with the MAC of `key` if there is one.
    pub fn new(header: &Header, key: Option<&Key>) -> Self {
        let mut octets = [0; HEADER_LEN + MAC_LEN_MAX];
        let bytes = header.to_bytes();
        octets[..HEADER_LEN].copy_from_slice(&bytes);
        let mut len = HEADER_LEN;
        if let Some(key) = key {
            let mut mac = [0; MAC_LEN_MAX];
            len += key.sign(&bytes, &mut mac);
            octets[HEADER_LEN..].copy_from_slice(&mac);
        }
        Self { octets, len }
    }
}

impl std::ops::Deref for Message {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.octets[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mac(key: &str, packet: &[u8]) -> Vec<u8> {
        let mut out = [0; MAC_LEN_MAX];
        let len = key.parse::<Key>().unwrap().sign(packet, &mut out);
        out[..len].to_vec()
    }

    fn hex(octets: &[u8]) -> String {
        octets.iter().map(|octet| format!("{octet:02x}")).collect()
    }

    #[test]
    fn known_digests_come_out() {
        // RFC 1321, RFC 3174 and FIPS 180: of "abc", of which "a" is the key.
        assert_eq!(mac("1:MD5:a", b"bc")[..6], [0, 0, 0, 1, 0x90, 0x01]);
        assert_eq!(mac("1:md5:a", b"bc").len(), 20);
        assert_eq!(mac("258:SHA1:HEX:61", b"bc")[..6], [0, 0, 1, 2, 0xa9, 0x99]);
        assert_eq!(mac("1:SHA256:a", b"bc")[4..6], [0xba, 0x78]);
        assert_eq!(mac("1:SHA384:a", b"bc")[4..6], [0xcb, 0x00]);
        assert_eq!(mac("1:SHA512:a", b"bc")[4..6], [0xdd, 0xaf]);
        // Cut to 20 octets.
        assert_eq!(mac("1:SHA512:a", b"bc").len(), 24);
        // RFC 4493, the example of 16 octets.
        let key = "1:AES128:HEX:2b7e151628aed2a6abf7158809cf4f3c";
        let packet = unhex("6bc1bee22e409f96e93d7e117393172a").unwrap();
        assert_eq!(
            hex(&mac(key, &packet)[4..]),
            "070a16b46b4d4144f79bdd9dd04a287c"
        );
        // NIST SP 800-38B, the same for a key of 32 octets.
        let key = "1:AES256:HEX:603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4";
        assert_eq!(
            hex(&mac(key, &packet)[4..]),
            "28a7023f452e8f82bd4bf28d8c37c35c"
        );
    }

    #[test]
    fn a_changed_packet_does_not_verify() {
        let key: Key = "7:SHA1:secret".parse().unwrap();
        let mac = mac("7:SHA1:secret", b"packet");
        assert!(key.verifies(b"packet", &mac));
        assert!(!key.verifies(b"Packet", &mac));
        assert!(!key.verifies(b"packet", &mac[..4]));
        assert!(!key.verifies(b"packet", &[]));
    }

    #[test]
    fn a_mac_may_be_whole_or_cut_to_twenty_octets() {
        let key: Key = "7:SHA512:secret".parse().unwrap();
        let mut whole = [0; 68];
        key.fill(b"packet", &mut whole);
        for len in 0..=whole.len() {
            let good = matches!(len, 24 | 68);
            assert_eq!(key.verifies(b"packet", &whole[..len]), good, "{len}");
        }
    }

    #[test]
    fn wrong_keys_are_explained() {
        for (text, part) in [
            ("7", "ID:TYPE:SECRET"),
            ("0:MD5:a", "1 to"),
            ("1:ROT13:a", "none of MD5"),
            ("1:MD5:HEX:abc", "hexadecimal"),
            ("1:MD5:HEX:+1", "hexadecimal"),
            ("1:MD5:", "empty"),
            ("1:AES128:short", "16 octets, not 5"),
        ] {
            let error = text.parse::<Key>().unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn a_table_finds_the_last_key_of_a_number() {
        let key = |text: &str| text.parse::<Key>().unwrap();
        let table = KeyTable::new(vec![
            key("9:MD5:a"),
            key("4:SHA1:b"),
            key("9:SHA1:c"),
            key("4294967295:MD5:d"),
        ]);
        assert_eq!(table.get(9), Some(&key("9:SHA1:c")));
        assert_ne!(table.get(9), Some(&key("9:SHA1:d")));
        assert_eq!(table.get(4).map(Key::kind), Some(KeyKind::Sha1));
        assert!(table.get(0).is_none() && table.get(5).is_none());
        assert_eq!(table.iter().count(), 3);
    }

    #[test]
    fn a_secret_is_never_shown() {
        let key: Key = "7:SHA1:hush".parse().unwrap();
        assert_eq!(format!("{key:?}"), "Key { id: 7, kind: Sha1 }");
        let error = "7:SHA1:HEX:c0ffe".parse::<Key>().unwrap_err();
        assert!(!error.contains("c0ffe"), "{error}");
    }

    proptest! {
        #[test]
        fn any_changed_bit_is_noticed(
            kind in prop::sample::select(KeyKind::ALL.to_vec()),
            id in 1_u32..,
            secret in prop::collection::vec(any::<u8>(), 32),
            packet in prop::collection::vec(any::<u8>(), 48..300),
            bit in any::<prop::sample::Index>(),
        ) {
            let key = Key::new(id, kind, &secret[..kind.secret_len().unwrap_or(32)]).unwrap();
            let mut mac = [0; MAC_LEN_MAX];
            let len = key.sign(&packet, &mut mac);
            prop_assert!(key.verifies(&packet, &mac[..len]));
            let mut all = packet.clone();
            all.extend(&mac[..len]);
            let bit = bit.index(all.len() * 8);
            all[bit / 8] ^= 1 << (bit % 8);
            let (packet, mac) = all.split_at(packet.len());
            prop_assert!(!key.verifies(packet, mac));
        }
    }
}

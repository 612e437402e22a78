//! Symmetric keys (RFC 5905 section 7.3, RFC 8573): a MAC over the packet behind
//! it, a digest of key and packet, or AES-CMAC.

use std::str::FromStr;

use cmac::{Cmac, Mac as _};
/// Octets of the longest MAC, with its key identifier; longer digests are cut to
/// fit, as ntpd and chronyd do in version 4.
pub const MAC_LEN_MAX: usize = 24;
/// Octets of the key identifier.
const ID_LEN: usize = 4;
/// Octets of the longest digest that is sent.
const DIGEST_LEN_MAX: usize = MAC_LEN_MAX - ID_LEN;

/// Is this trailer what a server sends that does not have the key: number 0, and no
/// digest?
pub fn is_crypto_nak(trailer: &[u8]) -> bool {
    trailer == [0; ID_LEN]
}

/// The ways to authenticate that `--key` knows.
#[derive(Clone, Debug)]
enum Algorithm {
    Md5,
    Sha1,
    Sha256,
    Sha384,
    Sha512,
    Aes128(Box<Cmac<aes::Aes128>>),
    Aes256(Box<Cmac<aes::Aes256>>),
}

/// One key.
#[derive(Clone)]
pub struct Key {
    id: u32,
    algorithm: Algorithm,
    secret: Vec<u8>,
}

/// Without the secret: this ends up in messages.
impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("id", &self.id).finish()
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
        let secret = match secret.strip_prefix("HEX:") {
            Some(digits) => unhex(digits)?,
            None => secret
                .strip_prefix("ASCII:")
                .unwrap_or(secret)
                .as_bytes()
                .to_vec(),
        };
        if secret.is_empty() {
            return Err("the key is empty".to_owned());
        }
        let cmac = |wrong: &str| format!("{wrong}, not {} (write it as HEX:...)", secret.len());
        let algorithm = match kind.to_ascii_uppercase().as_str() {
            "MD5" | "M" => Algorithm::Md5,
            "SHA1" | "SHA" => Algorithm::Sha1,
            "SHA256" => Algorithm::Sha256,
            "SHA384" => Algorithm::Sha384,
            "SHA512" => Algorithm::Sha512,
            "AES128" | "AES128CMAC" | "AES-128-CMAC" => Cmac::new_from_slice(&secret)
                .map(|mac| Algorithm::Aes128(Box::new(mac)))
                .map_err(|_| cmac("a key of AES128 has 16 octets"))?,
            "AES256" | "AES256CMAC" | "AES-256-CMAC" => Cmac::new_from_slice(&secret)
                .map(|mac| Algorithm::Aes256(Box::new(mac)))
                .map_err(|_| cmac("a key of AES256 has 32 octets"))?,
            _ => {
                return Err(format!(
                    "'{kind}' is none of MD5, SHA1, SHA256, SHA384, SHA512, AES128, AES256"
                ));
            }
        };
        Ok(Self {
            id,
            algorithm,
            secret,
        })
    }
}

impl Key {
    /// Writes the MAC of `packet` to `out`; says how long it is.
    pub fn sign(&self, packet: &[u8], out: &mut [u8; MAC_LEN_MAX]) -> usize {
        out[..ID_LEN].copy_from_slice(&self.id.to_be_bytes());
        let (digest, len) = self.digest(packet);
        out[ID_LEN..].copy_from_slice(&digest);
        ID_LEN + len
    }

    /// Is `mac` (all that follows the packet) this key's?
    pub fn verifies(&self, packet: &[u8], mac: &[u8]) -> bool {
        let mut expected = [0; MAC_LEN_MAX];
        let len = self.sign(packet, &mut expected);
        // A load generator's answers are no secret: no constant time needed.
        mac == &expected[..len]
    }

    fn digest(&self, packet: &[u8]) -> ([u8; DIGEST_LEN_MAX], usize) {
        match &self.algorithm {
            Algorithm::Md5 => hash::<md5::Md5>(&self.secret, packet),
            Algorithm::Sha1 => hash::<sha1::Sha1>(&self.secret, packet),
            Algorithm::Sha256 => hash::<sha2::Sha256>(&self.secret, packet),
            Algorithm::Sha384 => hash::<sha2::Sha384>(&self.secret, packet),
            Algorithm::Sha512 => hash::<sha2::Sha512>(&self.secret, packet),
            // With the key schedule, which was made once.
            Algorithm::Aes128(mac) => {
                cut(&(**mac).clone().chain_update(packet).finalize().into_bytes())
            }
            Algorithm::Aes256(mac) => {
                cut(&(**mac).clone().chain_update(packet).finalize().into_bytes())
            }
        }
    }
}

fn hash<D: md5::Digest>(secret: &[u8], packet: &[u8]) -> ([u8; DIGEST_LEN_MAX], usize) {
    let digest = D::new()
        .chain_update(secret)
        .chain_update(packet)
        .finalize();
    cut(&digest)
}

fn cut(digest: &[u8]) -> ([u8; DIGEST_LEN_MAX], usize) {
    let len = digest.len().min(DIGEST_LEN_MAX);
    let mut out = [0; DIGEST_LEN_MAX];
    out[..len].copy_from_slice(&digest[..len]);
    (out, len)
}

fn unhex(digits: &str) -> Result<Vec<u8>, String> {
    let wrong = || format!("'{digits}' is no even number of hexadecimal digits");
    if !digits.is_ascii() || !digits.len().is_multiple_of(2) {
        return Err(wrong());
    }
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).map_err(|_| wrong()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(key: &str, packet: &[u8]) -> Vec<u8> {
        let mut out = [0; MAC_LEN_MAX];
        let len = key.parse::<Key>().unwrap().sign(packet, &mut out);
        out[..len].to_vec()
    }

    #[test]
    fn known_digests_come_out() {
        // MD5 and SHA-1 of "abc", of which "a" is the key (RFC 1321, RFC 3174).
        assert_eq!(mac("1:MD5:a", b"bc")[..6], [0, 0, 0, 1, 0x90, 0x01]);
        assert_eq!(mac("1:md5:a", b"bc").len(), 20);
        assert_eq!(mac("258:SHA1:HEX:61", b"bc")[..6], [0, 0, 1, 2, 0xa9, 0x99]);
        // Cut to 20 octets.
        assert_eq!(mac("1:SHA512:a", b"bc").len(), 24);
        assert_eq!(mac("1:SHA256:a", b"bc")[4..6], [0xba, 0x78]);
        // RFC 4493, the example of 16 octets.
        let key = "1:AES128:HEX:2b7e151628aed2a6abf7158809cf4f3c";
        let packet = unhex("6bc1bee22e409f96e93d7e117393172a").unwrap();
        assert_eq!(mac(key, &packet)[4..8], [0x07, 0x0a, 0x16, 0xb4]);
    }

    #[test]
    fn a_changed_packet_does_not_verify() {
        let key: Key = "7:SHA1:secret".parse().unwrap();
        let mac = mac("7:SHA1:secret", b"packet");
        assert!(key.verifies(b"packet", &mac));
        assert!(!key.verifies(b"Packet", &mac));
        assert!(!key.verifies(b"packet", &mac[..4]));
    }

    #[test]
    fn wrong_keys_are_explained() {
        for (text, part) in [
            ("7", "ID:TYPE:SECRET"),
            ("0:MD5:a", "1 to"),
            ("1:ROT13:a", "none of MD5"),
            ("1:MD5:HEX:abc", "hexadecimal"),
            ("1:MD5:", "empty"),
            ("1:AES128:short", "16 octets, not 5"),
        ] {
            let error = text.parse::<Key>().unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}

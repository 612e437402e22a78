//! What may follow the header: extension fields, then a MAC (RFC 7822).

/// Octets of a key identifier alone: a crypto-NAK.
const CRYPTO_NAK_LEN: usize = 4;
/// A MAC is a key identifier of 4 octets and a digest of 16 (MD5, AES-CMAC) or 20 (SHA-1,
/// and longer ones cut to that).
const MAC_LENS: [usize; 2] = [20, 24];
/// Below version 4, where there are no fields to be confused with, chronyd does not cut:
/// SHA-256, SHA-384, SHA-512.
const MAC_LENS_WHOLE: [usize; 3] = [36, 52, 68];
/// Shortest extension field (RFC 7822 section 7.5).
const FIELD_LEN_MIN: usize = 16;

/// The message authentication code at the end of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mac<'a> {
    /// Which key.
    pub key_id: u32,
    /// The digest; empty in a crypto-NAK.
    pub digest: &'a [u8],
}

/// One extension field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ExtensionField<'a> {
    /// Field type as registered with IANA.
    pub kind: u16,
    /// Its value, padding included.
    pub value: &'a [u8],
}

/// Octets after the header that are neither fields nor a MAC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MalformedTrailer;

/// A trailer whose shape was checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trailer<'a> {
    fields: &'a [u8],
    /// The MAC, if there is one.
    pub mac: Option<Mac<'a>>,
}

impl<'a> Trailer<'a> {
    /// Splits `bytes` (all after the header) into fields and MAC. Extension
    /// fields exist from version 4 on; below, whatever follows must be a MAC.
    pub fn parse(version: u8, bytes: &'a [u8]) -> Result<Self, MalformedTrailer> {
        let mut at = 0;
        loop {
            let rest = &bytes[at..];
            if rest.is_empty() {
                return Ok(Self {
                    fields: &bytes[..at],
                    mac: None,
                });
            }
            let is_whole = version < 4 && MAC_LENS_WHOLE.contains(&rest.len());
            if rest.len() == CRYPTO_NAK_LEN || MAC_LENS.contains(&rest.len()) || is_whole {
                let (key_id, digest) = rest.split_first_chunk().ok_or(MalformedTrailer)?;
                return Ok(Self {
                    fields: &bytes[..at],
                    mac: Some(Mac {
                        key_id: u32::from_be_bytes(*key_id),
                        digest,
                    }),
                });
            }
            if version < 4 {
                return Err(MalformedTrailer);
            }
            let len = rest
                .get(2..4)
                .map(|len| usize::from(u16::from_be_bytes([len[0], len[1]])))
                .ok_or(MalformedTrailer)?;
            if len < FIELD_LEN_MIN || len % 4 != 0 || len > rest.len() {
                return Err(MalformedTrailer);
            }
            at += len;
        }
    }

    /// The extension fields in order.
    pub fn fields(&self) -> impl Iterator<Item = ExtensionField<'a>> + use<'a> {
        let mut rest = self.fields;
        std::iter::from_fn(move || {
            let kind = u16::from_be_bytes([*rest.first()?, *rest.get(1)?]);
            let len = usize::from(u16::from_be_bytes([*rest.get(2)?, *rest.get(3)?]));
            let value = rest.get(4..len)?;
            rest = &rest[len..];
            Some(ExtensionField { kind, value })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(kind: u16, len: u16) -> Vec<u8> {
        let mut bytes = vec![0; usize::from(len)];
        bytes[..2].copy_from_slice(&kind.to_be_bytes());
        bytes[2..4].copy_from_slice(&len.to_be_bytes());
        bytes
    }

    #[test]
    fn fields_come_before_the_mac() {
        let mut bytes = field(0x0104, 28);
        bytes.extend(field(0x0204, 16));
        bytes.extend(7u32.to_be_bytes());
        bytes.extend([0xaa; 16]);
        let trailer = Trailer::parse(4, &bytes).expect("well formed");
        assert_eq!(
            trailer.fields().map(|f| f.kind).collect::<Vec<_>>(),
            [0x0104, 0x0204]
        );
        let mac = trailer.mac.expect("a MAC");
        assert_eq!((mac.key_id, mac.digest.len()), (7, 16));
    }

    #[test]
    fn version_three_has_no_fields() {
        assert_eq!(Trailer::parse(3, &field(1, 28)), Err(MalformedTrailer));
        assert!(Trailer::parse(3, &[0; 20]).is_ok());
        for len in MAC_LENS_WHOLE {
            let whole = vec![0; len];
            assert!(Trailer::parse(3, &whole).is_ok_and(|whole| whole.mac.is_some()));
            assert_eq!(Trailer::parse(4, &whole), Err(MalformedTrailer));
        }
        assert!(Trailer::parse(3, &[]).is_ok());
    }

    #[test]
    fn a_length_that_lies_is_malformed() {
        for len in [0u16, 3, 15, 18, 400] {
            let mut bytes = field(1, 28);
            bytes[2..4].copy_from_slice(&len.to_be_bytes());
            assert_eq!(Trailer::parse(4, &bytes), Err(MalformedTrailer), "{len}");
        }
    }
}

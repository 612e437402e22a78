//! Control messages, mode 6: what `ntpq` and monitoring plugins send, and the
//! fragments they get back. RFC 9327 (RFC 1305 appendix B); where it leaves a
//! choice, as ntpsec's daemon does. Bytes in, bytes out: what a variable's value
//! is, and who may know it, is for others to say.

use std::net::SocketAddr;

use crate::time::timestamp::NtpTimestamp;
use crate::wire::key::{ID_LEN, Key, KeyTable, MAC_LEN_MAX};
use crate::wire::packet::{Leap, Mode};

/// Octets before the data.
pub const HEADER_LEN: usize = 12;
/// Octets of data in one message at most; what is longer comes in fragments.
pub const DATA_LEN_MAX: usize = 468;
/// The longest request: full of data, with the longest MAC that ntpq sends.
pub const REQUEST_LEN_MAX: usize = HEADER_LEN + DATA_LEN_MAX + 4 + 64;
/// Offsets of fragments have 16 bits.
pub const ANSWER_LEN_MAX: usize = u16::MAX as usize;

/// First and last version that has control messages.
const VERSIONS: std::ops::RangeInclusive<u8> = 1..=4;
/// Where a MAC may start.
const ALIGNMENT: usize = 8;
/// Lines of a text are wrapped before this many octets.
const LINE_LEN: usize = 72;
const LINE_END: &[u8] = b"\r\n";

/// Bits of the second octet beside the operation.
const RESPONSE: u8 = 0x80;
const ERROR: u8 = 0x40;
const MORE: u8 = 0x20;
const OPERATION: u8 = 0x1f;

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Operation {
    /// 0: nothing but the status word.
    Unspecified,
    /// 1: status of an association, or the list of all.
    ReadStatus,
    /// 2: variables of an association, or the system's.
    ReadVariables,
    /// 3: set variables.
    WriteVariables,
    /// 4: variables of a reference clock.
    ReadClock,
    /// 5: set those.
    WriteClock,
    /// 8: configure at run time.
    Configure,
    /// 10: the list of clients, most recently used last.
    ReadMru,
    /// 11: interfaces or restrictions, for the authenticated.
    ReadOrderedList,
    /// 12: a nonce, which proves whose address it is.
    RequestNonce,
    /// One that nobody serves any more, or never did.
    Other(u8),
}

impl Operation {
    const fn from_bits(bits: u8) -> Self {
        match bits & OPERATION {
            0 => Self::Unspecified,
            1 => Self::ReadStatus,
            2 => Self::ReadVariables,
            3 => Self::WriteVariables,
            4 => Self::ReadClock,
            5 => Self::WriteClock,
            8 => Self::Configure,
            10 => Self::ReadMru,
            11 => Self::ReadOrderedList,
            12 => Self::RequestNonce,
            other => Self::Other(other),
        }
    }
}

/// Why there is no answer (RFC 9327 section 4).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Refusal {
    /// Not without authentication, or not at all.
    Permission = 1,
    /// The lengths don't agree.
    BadFormat = 2,
    /// No such operation.
    BadOperation = 3,
    /// No such association.
    UnknownAssociation = 4,
    /// No such variable.
    UnknownVariable = 5,
    /// A value out of its range.
    BadValue = 6,
}

/// What of a request comes back in its answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    version: u8,
    bits: u8,
    sequence: u16,
    association: u16,
}

/// A request of good form.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request<'a> {
    /// To answer it.
    pub head: Head,
    /// As much as was announced, without padding and MAC.
    pub data: &'a [u8],
    /// What follows, if it is as long as a MAC: what it would be of, and it.
    signed: Option<(&'a [u8], &'a [u8])>,
}

/// What is no request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Too short, an answer, a fragment, or of a foreign version: not to be answered.
    NoRequest,
    /// To be told [`Refusal::BadFormat`].
    BadFormat(Head),
}

impl<'a> Request<'a> {
    /// Reads a datagram.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Fault> {
        let (header, rest) = bytes
            .split_first_chunk::<HEADER_LEN>()
            .ok_or(Fault::NoRequest)?;
        let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let head = Head {
            version: header[0] >> 3 & 7,
            bits: header[1],
            sequence: word(2),
            association: word(6),
        };
        let (offset, count) = (word(8), usize::from(word(10)));
        if Mode::from_bits(header[0]) != Mode::Control
            || head.bits & (RESPONSE | ERROR | MORE) != 0
            || offset != 0
            || !VERSIONS.contains(&head.version)
        {
            return Err(Fault::NoRequest);
        }
        if !bytes.len().is_multiple_of(4) || count > DATA_LEN_MAX {
            return Err(Fault::BadFormat(head));
        }
        let data = rest.get(..count).ok_or(Fault::BadFormat(head))?;
        let end = (HEADER_LEN + count).next_multiple_of(ALIGNMENT);
        let signed = bytes
            .split_at_checked(end)
            .filter(|(_, mac)| (ID_LEN + 1..=MAC_LEN_MAX).contains(&mac.len()));
        Ok(Self { head, data, signed })
    }

    /// The key that signed it, if it is one of these.
    pub fn signer<'k>(&self, keys: &'k KeyTable) -> Option<&'k Key> {
        let (packet, mac) = self.signed?;
        let id = mac.first_chunk::<ID_LEN>()?;
        let key = keys.get(u32::from_be_bytes(*id))?;
        key.verifies(packet, mac).then_some(key)
    }

    /// `name` and `name=value` of a list, separated by commas. Quotes keep commas
    /// together and come off.
    pub fn items(&self) -> impl Iterator<Item = (&'a str, Option<&'a str>)> + use<'a> {
        // Who sends what is no text asks for nothing that exists.
        let mut rest = std::str::from_utf8(self.data).unwrap_or("?");
        std::iter::from_fn(move || {
            while !rest.is_empty() {
                let mut quoted = false;
                let end = rest.find(|c: char| {
                    quoted ^= c == '"';
                    c == ',' && !quoted
                });
                let (item, after) = match end {
                    Some(end) => (&rest[..end], &rest[end + 1..]),
                    None => (rest, ""),
                };
                rest = after;
                let blank = |c: char| c.is_ascii_whitespace() || c == '\0';
                let item = item.trim_matches(blank);
                if item.is_empty() {
                    continue;
                }
                return Some(match item.split_once('=') {
                    Some((name, value)) => {
                        let value = value.trim_matches(blank).trim_matches('"');
                        (name.trim_matches(blank), Some(value))
                    }
                    None => (item, None),
                });
            }
            None
        })
    }
}

impl Head {
    /// What is asked for.
    pub const fn operation(&self) -> Operation {
        Operation::from_bits(self.bits)
    }

    /// Of which association; 0 is the system.
    pub const fn association(&self) -> u16 {
        self.association
    }

    /// The message that says no. Never longer than a request.
    pub fn refuse(&self, leap: Leap, refusal: Refusal) -> [u8; HEADER_LEN] {
        self.header(leap, ERROR, u16::from(refusal as u8) << 8, 0, 0)
    }

    /// The answer in as many messages as it takes, one at least. Data beyond
    /// [`ANSWER_LEN_MAX`] has no offset and is left out.
    pub fn answer(&self, leap: Leap, status: u16, data: &[u8]) -> Vec<Vec<u8>> {
        let data = &data[..data.len().min(ANSWER_LEN_MAX)];
        let count = data.len().div_ceil(DATA_LEN_MAX).max(1);
        (0..count)
            .map(|n| {
                let start = n * DATA_LEN_MAX;
                let part = &data[start..data.len().min(start + DATA_LEN_MAX)];
                let more = if n + 1 < count { MORE } else { 0 };
                let header = self.header(leap, more, status, start as u16, part.len() as u16);
                let mut message = header.to_vec();
                message.extend_from_slice(part);
                message.resize(message.len().next_multiple_of(4), 0);
                message
            })
            .collect()
    }

    fn header(
        &self,
        leap: Leap,
        bits: u8,
        status: u16,
        offset: u16,
        count: u16,
    ) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        out[0] = leap.bits() << 6 | self.version << 3 | Mode::Control as u8;
        out[1] = RESPONSE | bits | self.bits & OPERATION;
        let words = [self.sequence, status, self.association, offset, count];
        for (place, word) in out[2..].chunks_exact_mut(2).zip(words) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        out
    }
}

/// Signs an answer or a refusal. In front of its MAC ntpd fills an answer up to eight
/// octets, and leaves a refusal as it is.
pub fn sign(message: &mut Vec<u8>, key: &Key) {
    if message.len() > HEADER_LEN {
        message.resize(message.len().next_multiple_of(ALIGNMENT), 0);
    }
    let mut mac = [0; MAC_LEN_MAX];
    let len = key.sign(message, &mut mac);
    message.extend_from_slice(&mac[..len]);
}

/// System status word (RFC 9327 section 3.1).
pub const fn system_status(leap: Leap, source: Clock, events: u8, event: u8) -> u16 {
    (leap.bits() as u16) << 14
        | (source as u16) << 8
        | ((events & 15) as u16) << 4
        | (event & 15) as u16
}

/// What the system takes its time from, in its status word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Clock {
    /// Nothing.
    Unspecified = 0,
    /// The undisciplined local clock.
    Local = 5,
    /// A server.
    Ntp = 6,
}

/// Peer status word (RFC 9327 section 3.2): a part of [`PeerBits`], the selection
/// (0 to 7, by ntpq's characters), events and the last one.
pub const fn peer_status(bits: u8, selection: u8, events: u8, event: u8) -> u16 {
    ((bits | selection & 7) as u16) << 8 | ((events & 15) as u16) << 4 | (event & 15) as u16
}

/// Flags of a peer status word.
#[derive(Clone, Copy, Debug)]
pub struct PeerBits;

impl PeerBits {
    /// It stands in the configuration.
    pub const CONFIGURED: u8 = 0x80;
    /// It has a key.
    pub const KEYED: u8 = 0x40;
    /// Its last packet was authentic.
    pub const AUTHENTIC: u8 = 0x20;
    /// It answers.
    pub const REACHABLE: u8 = 0x10;
}

/// `name=value, name=value`, wrapped as ntpd wraps it.
#[derive(Clone, Debug, Default)]
pub struct Text {
    bytes: Vec<u8>,
    line: usize,
}

impl Text {
    /// A bare value: numbers, addresses, lists. Characters that would end it or move
    /// a cursor are replaced: some values come from strangers.
    pub fn put(&mut self, name: &str, value: impl std::fmt::Display) {
        let value = value.to_string();
        self.item(&format!("{name}={}", harmless(&value, "\",=")));
    }

    /// A value in quotes.
    pub fn put_quoted(&mut self, name: &str, value: &str) {
        self.item(&format!("{name}=\"{}\"", harmless(value, "\"")));
    }

    /// A number with so many decimals; none that is not finite.
    pub fn put_f64(&mut self, name: &str, value: f64, decimals: usize) {
        let value = if value.is_finite() { value } else { 0.0 };
        self.put(name, format_args!("{value:.decimals$}"));
    }

    /// `0x00000000.00000000`.
    pub fn put_stamp(&mut self, name: &str, stamp: NtpTimestamp) {
        self.put(name, format_args!("0x{stamp:?}"));
    }

    /// Octets so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Is there room for it in one answer?
    pub fn fits(&self) -> bool {
        self.bytes.len() + LINE_END.len() <= ANSWER_LEN_MAX
    }

    /// Leaves out what was put since there were `len` octets; nothing is put after that.
    pub fn cut(&mut self, len: usize) {
        self.bytes.truncate(len);
    }

    /// Is there nothing?
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The data of an answer.
    pub fn finish(mut self) -> Vec<u8> {
        if !self.bytes.is_empty() {
            self.bytes.extend_from_slice(LINE_END);
        }
        self.bytes
    }

    fn item(&mut self, item: &str) {
        if !self.bytes.is_empty() {
            self.bytes.push(b',');
            self.line += 1;
            if item.len() + self.line + 1 >= LINE_LEN {
                self.bytes.extend_from_slice(LINE_END);
                self.line = 0;
            } else {
                self.bytes.push(b' ');
                self.line += 1;
            }
        }
        self.bytes.extend_from_slice(item.as_bytes());
        self.line += item.len();
    }
}

fn harmless(value: &str, forbidden: &str) -> String {
    value
        .chars()
        .map(|c| match c {
            ' '..='~' if !forbidden.contains(c) => c,
            _ => '?',
        })
        .collect()
}

/// `0x00000000.00000000`, as requests name stamps.
pub fn parse_stamp(text: &str) -> Option<NtpTimestamp> {
    let (seconds, fraction) = text.strip_prefix("0x")?.split_once('.')?;
    let half = |digits: &str| {
        (digits.len() <= 8 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .then(|| u32::from_str_radix(digits, 16).ok())
            .flatten()
    };
    let (seconds, fraction) = (half(seconds)?, half(fraction)?);
    Some(NtpTimestamp::from_bits(
        u64::from(seconds) << 32 | u64::from(fraction),
    ))
}

/// `192.0.2.1:123` and `[2001:db8::1]:123`, as requests name clients.
pub fn parse_address(text: &str) -> Option<SocketAddr> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request(operation: u8, association: u16, data: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x16, operation, 0, 7, 0, 0];
        bytes.extend(association.to_be_bytes());
        bytes.extend([0, 0]);
        bytes.extend((data.len() as u16).to_be_bytes());
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    /// What check_ntp_peer sends first: version 2, READSTAT of all, sequence 1.
    #[test]
    fn the_nagios_plugins_bytes_are_read() {
        let first = [0x16, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        let request = Request::parse(&first).unwrap();
        assert_eq!(request.head.operation(), Operation::ReadStatus);
        assert_eq!((request.head.association(), request.data), (0, &[][..]));
        let mut second = vec![0x16, 2, 0, 2, 0, 0, 0x9c, 0x40, 0, 0, 0, 21];
        second.extend(b"stratum,offset,jitter\0\0\0");
        let request = Request::parse(&second).unwrap();
        assert_eq!(request.head.association(), 40000);
        let names: Vec<_> = request.items().map(|(name, _)| name).collect();
        assert_eq!(names, ["stratum", "offset", "jitter"]);
    }

    #[test]
    fn what_is_no_request_is_told_from_a_bad_one() {
        let good = request(2, 0, b"offset");
        assert!(Request::parse(&good).is_ok());
        for (at, value) in [
            (0, 0x13),
            (0, 0x06),
            (0, 0x2e),
            (1, 0x82),
            (1, 0x22),
            (9, 4),
        ] {
            let mut bytes = good.clone();
            bytes[at] = value;
            assert_eq!(Request::parse(&bytes), Err(Fault::NoRequest), "{at}");
        }
        assert_eq!(Request::parse(&good[..11]), Err(Fault::NoRequest));
        let mut long = good.clone();
        long[11] = 9;
        assert!(matches!(Request::parse(&long), Err(Fault::BadFormat(_))));
        assert!(matches!(
            Request::parse(&good[..19]),
            Err(Fault::BadFormat(_))
        ));
    }

    #[test]
    fn items_have_names_and_perhaps_values() {
        let bytes = request(10, 0, b"nonce=abc, frags=32,\r\n laddr=\"[::1]:123\",,x ");
        let request = Request::parse(&bytes).unwrap();
        let items: Vec<_> = request.items().collect();
        let expected = [
            ("nonce", Some("abc")),
            ("frags", Some("32")),
            ("laddr", Some("[::1]:123")),
            ("x", None),
        ];
        assert_eq!(items, expected);
    }

    #[test]
    fn a_text_is_wrapped_as_ntpds() {
        let mut text = Text::default();
        text.put("leap", 3);
        text.put("stratum", 16);
        text.put("precision", -24);
        text.put_f64("rootdelay", 0.0, 3);
        text.put_f64("rootdisp", 0.465, 3);
        text.put("refid", "INIT");
        text.put_stamp("reftime", NtpTimestamp::ZERO);
        text.put_quoted("evil", "a\"b\u{1b}");
        let expected = "leap=3, stratum=16, precision=-24, rootdelay=0.000, rootdisp=0.465,\r\n\
                        refid=INIT, reftime=0x00000000.00000000, evil=\"a?b?\"\r\n";
        assert_eq!(String::from_utf8(text.finish()).unwrap(), expected);
    }

    #[test]
    fn a_refusal_repeats_what_was_asked() {
        let bytes = request(8, 5, b"");
        let head = Request::parse(&bytes).unwrap().head;
        let refusal = head.refuse(Leap::Unknown, Refusal::Permission);
        assert_eq!(refusal, [0xd6, 0xc8, 0, 7, 1, 0, 0, 5, 0, 0, 0, 0]);
    }

    #[test]
    fn a_mac_follows_the_next_eight_octets() {
        let key: Key = "7:SHA256:secret".parse().unwrap();
        let keys = KeyTable::new(vec![key.clone()]);
        for data in [&b""[..], b"ifstats", b"addr_restrictions", b"12345678901"] {
            let plain = request(11, 0, data);
            assert_eq!(Request::parse(&plain).unwrap().signer(&keys), None);
            let mut signed = plain.clone();
            signed.resize(signed.len().next_multiple_of(8), 0);
            let len = signed.len();
            sign(&mut signed, &key);
            let read = Request::parse(&signed).unwrap();
            assert_eq!((read.signer(&keys), read.data), (Some(&key), data));
            assert_eq!(read.signer(&KeyTable::default()), None);
            for at in [1, len, len + 5, signed.len() - 1] {
                let mut turned = signed.clone();
                turned[at] ^= 1;
                assert_eq!(Request::parse(&turned).unwrap().signer(&keys), None, "{at}");
            }
        }
    }

    #[test]
    fn stamps_read_as_they_are_written() {
        let stamp = NtpTimestamp::from_bits(0xeead_8599_3ff0_3d43);
        assert_eq!(parse_stamp(&format!("0x{stamp:?}")), Some(stamp));
        for bad in ["", "0x", "0x1", "0x.", "0x123456789.0", "0x1.+2", "1.2"] {
            assert_eq!(parse_stamp(bad), None, "{bad}");
        }
    }

    proptest! {
        /// Whatever comes, it is read or not, and a refusal is no longer than it.
        #[test]
        fn noise_is_survived(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            match Request::parse(&bytes) {
                Ok(request) => {
                    prop_assert!(request.data.len() + HEADER_LEN <= bytes.len());
                    prop_assert!(request.items().count() <= request.data.len());
                }
                Err(Fault::BadFormat(head)) => {
                    prop_assert!(head.refuse(Leap::None, Refusal::BadFormat).len() <= bytes.len());
                }
                Err(Fault::NoRequest) => {}
            }
        }

        #[test]
        fn requests_with_lying_lengths_are_survived(
            data in proptest::collection::vec(any::<u8>(), 0..500), count in any::<u16>(),
            operation in 0_u8..32,
        ) {
            let mut bytes = request(operation, 0, &data);
            bytes[10..12].copy_from_slice(&count.to_be_bytes());
            if let Ok(request) = Request::parse(&bytes) {
                prop_assert_eq!(request.data.len(), usize::from(count));
                prop_assert!(request.items().count() <= request.data.len());
            }
        }

        /// Fragments put together are the data: each in its place, the last one marked.
        #[test]
        fn fragments_join(data in proptest::collection::vec(any::<u8>(), 0..3000)) {
            let bytes = request(2, 9, b"");
            let head = Request::parse(&bytes).unwrap().head;
            let messages = head.answer(Leap::None, 0x1234, &data);
            let mut joined: Vec<u8> = Vec::new();
            for (n, message) in messages.iter().enumerate() {
                let word = |at: usize| u16::from_be_bytes([message[at], message[at + 1]]);
                prop_assert_eq!(message[1] & MORE != 0, n + 1 < messages.len());
                prop_assert_eq!((word(2), word(4), word(6)), (7, 0x1234, 9));
                prop_assert_eq!(usize::from(word(8)), joined.len());
                prop_assert!(message.len() <= HEADER_LEN + DATA_LEN_MAX);
                prop_assert_eq!(message.len() % 4, 0);
                joined.extend(&message[HEADER_LEN..][..usize::from(word(10))]);
            }
            prop_assert_eq!(joined, data);
        }
    }
}

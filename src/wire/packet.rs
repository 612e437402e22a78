//! The 48-octet header (RFC 5905 section 7.3): [`Packet`] reads it where it
//! lies, [`Header`] is built and written.

use crate::time::timestamp::{NtpShort, NtpTimestamp};
use crate::time::units::Precision;
use crate::wire::refid::RefId;

/// Octets of the fixed header; no NTP packet is shorter.
pub const HEADER_LEN: usize = 48;

/// The largest request or reply we look at. Larger ones are nobody's NTP.
pub const PACKET_LEN_MAX: usize = 2048;

/// Highest stratum of a synchronised server; 16 means unsynchronised.
pub const STRATUM_MAX: u8 = 16;

/// Warning of a leap second at the end of this day (field LI).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Leap {
    /// Nothing to warn of.
    #[default]
    None,
    /// The last minute of the day has 61 seconds.
    Insert,
    /// The last minute of the day has 59 seconds.
    Delete,
    /// The clock is not synchronised (alarm).
    Unknown,
}

impl Leap {
    /// The two bits on the wire.
    pub const fn bits(self) -> u8 {
        self as u8
    }

    /// From the low two bits of `bits`.
    pub const fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => Self::None,
            1 => Self::Insert,
            2 => Self::Delete,
            _ => Self::Unknown,
        }
    }
}

/// Association mode (field Mode).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Mode {
    /// 0, reserved; what NTPv1 sends, where the ports tell the mode.
    Reserved = 0,
    /// 1, symmetric active.
    SymmetricActive = 1,
    /// 2, symmetric passive.
    SymmetricPassive = 2,
    /// 3, client: a request.
    Client = 3,
    /// 4, server: a reply.
    Server = 4,
    /// 5, broadcast.
    Broadcast = 5,
    /// 6, control message (`ntpq`).
    Control = 6,
    /// 7, private (`ntpdc`).
    Private = 7,
}

impl Mode {
    /// From the low three bits of `bits`.
    pub const fn from_bits(bits: u8) -> Self {
        match bits & 7 {
            0 => Self::Reserved,
            1 => Self::SymmetricActive,
            2 => Self::SymmetricPassive,
            3 => Self::Client,
            4 => Self::Server,
            5 => Self::Broadcast,
            6 => Self::Control,
            _ => Self::Private,
        }
    }
}

/// A view of bytes that hold at least an NTP header. All values are as foreign
/// as the bytes: nothing is checked but the length.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    header: &'a [u8; HEADER_LEN],
    trailer: &'a [u8],
}

impl<'a> Packet<'a> {
    /// `None` if there are fewer than [`HEADER_LEN`] octets.
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        let (header, trailer) = bytes.split_first_chunk()?;
        Some(Self { header, trailer })
    }

    /// Leap indicator.
    pub fn leap(&self) -> Leap {
        Leap::from_bits(self.header[0] >> 6)
    }

    /// Protocol version, 0 to 7.
    pub fn version(&self) -> u8 {
        self.header[0] >> 3 & 7
    }

    /// Association mode.
    pub fn mode(&self) -> Mode {
        Mode::from_bits(self.header[0])
    }

    /// Stratum as sent: 0 is a kiss or unspecified, 16 and more unsynchronised.
    pub fn stratum(&self) -> u8 {
        self.header[1]
    }

    /// Poll exponent as sent, unclamped.
    pub fn poll(&self) -> i8 {
        self.header[2] as i8
    }

    /// Precision as sent.
    pub fn precision(&self) -> Precision {
        Precision::new(self.header[3] as i8)
    }

    /// Round trip from the sender to its primary source.
    pub fn root_delay(&self) -> NtpShort {
        NtpShort::from_bits(self.u32_at(4))
    }

    /// Dispersion from the sender to its primary source.
    pub fn root_dispersion(&self) -> NtpShort {
        NtpShort::from_bits(self.u32_at(8))
    }

    /// Reference identifier.
    pub fn refid(&self) -> RefId {
        RefId::from_bytes(self.u32_at(12).to_be_bytes())
    }

    /// When the sender's clock was last set.
    pub fn reference(&self) -> NtpTimestamp {
        self.timestamp_at(16)
    }

    /// Origin: the transmit stamp of the request, in a reply.
    pub fn origin(&self) -> NtpTimestamp {
        self.timestamp_at(24)
    }

    /// Receive: when the request reached the server, in a reply.
    pub fn receive(&self) -> NtpTimestamp {
        self.timestamp_at(32)
    }

    /// Transmit: when the packet left.
    pub fn transmit(&self) -> NtpTimestamp {
        self.timestamp_at(40)
    }

    /// All of the header.
    pub fn to_header(&self) -> Header {
        Header {
            leap: self.leap(),
            version: self.version(),
            mode: self.mode(),
            stratum: self.stratum(),
            poll: self.poll(),
            precision: self.precision(),
            root_delay: self.root_delay(),
            root_dispersion: self.root_dispersion(),
            refid: self.refid(),
            reference: self.reference(),
            origin: self.origin(),
            receive: self.receive(),
            transmit: self.transmit(),
        }
    }

    /// What follows the header: extension fields and a MAC.
    pub fn trailer(&self) -> &'a [u8] {
        self.trailer
    }

    fn u32_at(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.header[at..at + 4].try_into().expect("four octets"))
    }

    fn timestamp_at(&self, at: usize) -> NtpTimestamp {
        NtpTimestamp::from_bits(u64::from_be_bytes(
            self.header[at..at + 8].try_into().expect("eight octets"),
        ))
    }
}

/// A header as a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Leap indicator.
    pub leap: Leap,
    /// Protocol version, 1 to 4.
    pub version: u8,
    /// Association mode.
    pub mode: Mode,
    /// Stratum, 0 to 16.
    pub stratum: u8,
    /// Poll exponent, log2 seconds.
    pub poll: i8,
    /// Precision of the clock that stamps.
    pub precision: Precision,
    /// Root delay.
    pub root_delay: NtpShort,
    /// Root dispersion.
    pub root_dispersion: NtpShort,
    /// Reference identifier.
    pub refid: RefId,
    /// When the clock was last set.
    pub reference: NtpTimestamp,
    /// Origin timestamp.
    pub origin: NtpTimestamp,
    /// Receive timestamp.
    pub receive: NtpTimestamp,
    /// Transmit timestamp.
    pub transmit: NtpTimestamp,
}

impl Header {
    /// Writes the 48 octets.
    pub fn emit(&self, out: &mut [u8; HEADER_LEN]) {
        out[0] = self.leap.bits() << 6 | (self.version & 7) << 3 | self.mode as u8;
        out[1] = self.stratum;
        out[2] = self.poll as u8;
        out[3] = self.precision.log2() as u8;
        out[4..8].copy_from_slice(&self.root_delay.bits().to_be_bytes());
        out[8..12].copy_from_slice(&self.root_dispersion.bits().to_be_bytes());
        out[12..16].copy_from_slice(&self.refid.bytes());
        out[16..24].copy_from_slice(&self.reference.bits().to_be_bytes());
        out[24..32].copy_from_slice(&self.origin.bits().to_be_bytes());
        out[32..40].copy_from_slice(&self.receive.bits().to_be_bytes());
        out[40..48].copy_from_slice(&self.transmit.bits().to_be_bytes());
    }

    /// The 48 octets as a value.
    pub fn to_bytes(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        self.emit(&mut out);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let header = Header {
            leap: Leap::Delete,
            version: 4,
            mode: Mode::Server,
            stratum: 3,
            poll: -2,
            precision: Precision::new(-24),
            root_delay: NtpShort::from_bits(0x0001_0203),
            root_dispersion: NtpShort::from_bits(0x0405_0607),
            refid: RefId::from_bytes([192, 0, 2, 1]),
            reference: NtpTimestamp::from_bits(1),
            origin: NtpTimestamp::from_bits(u64::MAX),
            receive: NtpTimestamp::from_bits(0x1122_3344_5566_7788),
            transmit: NtpTimestamp::from_bits(9),
        };
        let bytes = header.to_bytes();
        let view = Packet::new(&bytes).expect("long enough");
        assert_eq!(view.to_header(), header);
        assert!(view.trailer().is_empty());
    }

    #[test]
    fn shorter_than_a_header_is_no_packet() {
        for len in 0..HEADER_LEN {
            assert!(Packet::new(&[0x23; HEADER_LEN][..len]).is_none());
        }
    }
}

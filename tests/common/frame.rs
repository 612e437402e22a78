//! Ethernet frames by hand, and a reader that takes what a network stack would.
//! Written apart from ptntp's own code, which it judges.

use std::net::{IpAddr, SocketAddr};

/// Who has the interface that frames are sent to.
pub const SERVER_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 1];
/// Who sends them.
pub const CLIENT_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 2];

const UDP: u8 = 17;

/// What a sender leaves in a UDP packet's checksum.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Checksum {
    Right,
    /// One off.
    Wrong,
    Zero,
    /// The pseudo header's sum alone, which a card would complete.
    Partial,
}

/// A UDP datagram in a frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Datagram {
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub vlan: Option<u16>,
    pub payload: Vec<u8>,
}

/// [`Datagram`] and what else there is to a frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    pub datagram: Datagram,
    pub to_mac: [u8; 6],
    pub from_mac: [u8; 6],
    /// TTL or hop limit.
    pub hops: u8,
    /// Type of service or traffic class.
    pub tos: u8,
    /// No options, no extension headers, no octets after the payload in the packet.
    pub plain: bool,
    /// Are the sums right, as far as there are some? A partial one is.
    pub sums: bool,
    /// And that of UDP is there, and not partial.
    pub summed: bool,
}

impl Datagram {
    /// As a frame from client to server.
    pub fn frame(&self, checksum: Checksum) -> Vec<u8> {
        let mut frame = [SERVER_MAC, CLIENT_MAC].concat();
        if let Some(vlan) = self.vlan {
            frame.extend([0x81, 0x00]);
            // Of some priority.
            frame.extend((vlan | 3 << 13).to_be_bytes());
        }
        let udp_len = u16::try_from(8 + self.payload.len()).expect("short enough");
        let mut addresses = Vec::new();
        match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                addresses.extend(from.octets());
                addresses.extend(to.octets());
                let mut header = vec![0x45, 0xb8];
                header.extend((20 + udp_len).to_be_bytes());
                header.extend([0x12, 0x34, 0x40, 0x00, 57, UDP, 0, 0]);
                header.extend(&addresses);
                let sum = !fold(sum(&header));
                header[10..12].copy_from_slice(&sum.to_be_bytes());
                frame.extend([0x08, 0x00]);
                frame.extend(header);
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                addresses.extend(from.octets());
                addresses.extend(to.octets());
                frame.extend([0x86, 0xdd, 0x6b, 0x81, 0x23, 0x45]);
                frame.extend(udp_len.to_be_bytes());
                frame.extend([UDP, 57]);
                frame.extend(&addresses);
            }
            _ => panic!("two families in one packet"),
        }
        let pseudo = sum(&addresses) + u64::from(UDP) + u64::from(udp_len);
        let mut udp = Vec::new();
        udp.extend(self.from.port().to_be_bytes());
        udp.extend(self.to.port().to_be_bytes());
        udp.extend(udp_len.to_be_bytes());
        udp.extend([0, 0]);
        udp.extend(&self.payload);
        let right = match !fold(pseudo + sum(&udp)) {
            0 => 0xffff,
            sum => sum,
        };
        let sent = match checksum {
            Checksum::Right => right,
            Checksum::Wrong => match right.wrapping_add(1) {
                0 | 0xffff => 1,
                sum => sum,
            },
            Checksum::Zero => 0,
            Checksum::Partial => fold(pseudo),
        };
        udp[6..8].copy_from_slice(&sent.to_be_bytes());
        frame.extend(udp);
        frame
    }
}

/// Reads a frame as a network stack does that lets UDP into sockets; wrong sums are told
/// and not refused. Follows no extension headers of IPv6, which no test needs.
pub fn read(frame: &[u8]) -> Option<Seen> {
    let (to_mac, rest) = frame.split_first_chunk::<6>()?;
    let (from_mac, mut rest) = rest.split_first_chunk::<6>()?;
    let mut vlan = None;
    if rest.starts_with(&[0x81, 0x00]) {
        vlan = Some(u16::from_be_bytes([*rest.get(2)?, *rest.get(3)?]) & 0xfff);
        rest = &rest[4..];
    }
    let (kind, packet) = rest.split_first_chunk::<2>()?;
    let (addresses, len, header_len, hops, tos, mut sums);
    let (from, to): (IpAddr, IpAddr);
    match kind {
        [0x08, 0x00] => {
            let header = packet.first_chunk::<20>()?;
            header_len = usize::from(header[0] & 15) * 4;
            len = usize::from(u16::from_be_bytes([header[2], header[3]]));
            let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0;
            if header[0] >> 4 != 4 || header_len < 20 || fragment || header[9] != UDP {
                return None;
            }
            sums = fold(sum(packet.get(..header_len)?)) == 0xffff;
            from = IpAddr::from(*header[12..].first_chunk::<4>()?);
            to = IpAddr::from(*header[16..].first_chunk::<4>()?);
            addresses = sum(&header[12..20]);
            (hops, tos) = (header[8], header[1]);
        }
        [0x86, 0xdd] => {
            let header = packet.first_chunk::<40>()?;
            header_len = 40;
            len = 40 + usize::from(u16::from_be_bytes([header[4], header[5]]));
            if header[0] >> 4 != 6 || header[6] != UDP {
                return None;
            }
            sums = true;
            from = IpAddr::from(*header[8..].first_chunk::<16>()?);
            to = IpAddr::from(*header[24..].first_chunk::<16>()?);
            addresses = sum(&header[8..40]);
            (hops, tos) = (header[7], header[0] << 4 | header[1] >> 4);
        }
        _ => return None,
    }
    let udp = packet.get(header_len..len)?;
    let header = udp.first_chunk::<8>()?;
    let field = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let (udp_len, checksum) = (usize::from(field(4)), field(6));
    let plain = udp_len == udp.len() && header_len == if from.is_ipv4() { 20 } else { 40 };
    let udp = udp.get(..udp_len).filter(|_| udp_len >= 8)?;
    let pseudo = addresses + u64::from(UDP) + u64::from(field(4));
    let summed = checksum != 0 && fold(pseudo + sum(udp)) == 0xffff;
    let absent = checksum == 0 && from.is_ipv4();
    sums &= summed || absent || checksum == fold(pseudo);
    Some(Seen {
        datagram: Datagram {
            from: SocketAddr::new(from, field(0)),
            to: SocketAddr::new(to, field(2)),
            vlan,
            payload: udp[8..].to_vec(),
        },
        to_mac: *to_mac,
        from_mac: *from_mac,
        hops,
        tos,
        plain,
        sums,
        summed,
    })
}

/// Makes the sum of an IPv4 header right again.
pub fn mend_v4(packet: &mut [u8]) {
    let len = usize::from(packet[0] & 15) * 4;
    packet[10..12].fill(0);
    let sum = !fold(sum(&packet[..len]));
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
}

fn sum(bytes: &[u8]) -> u64 {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let last = rest.first().map_or(0, |octet| u64::from(*octet) << 8);
    let words = pairs
        .iter()
        .map(|pair| u64::from(u16::from_be_bytes(*pair)));
    words.sum::<u64>() + last
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).expect("folded")
}

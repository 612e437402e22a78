//! Ethernet frames with a datagram in them, built and read as bytes: for clients
//! whose addresses this machine does not have. RFC 791, RFC 8200, RFC 768.

use std::net::{IpAddr, SocketAddr};

/// Octets of an Ethernet header.
const LINK_LEN: usize = 14;
/// Octets of a UDP header.
const UDP_LEN: usize = 8;
/// Octets of an IPv4 header without options.
const IPV4_LEN: usize = 20;
/// Octets of an IPv6 header.
const IPV6_LEN: usize = 40;
/// Octets before the payload, at most.
pub const HEADERS_LEN_MAX: usize = LINK_LEN + IPV6_LEN + UDP_LEN;
/// The protocol number of UDP.
const UDP: u8 = 17;
/// As hosts send it; it crosses few hops.
const HOP_LIMIT: u8 = 64;

/// What all frames to one server have in common.
#[derive(Clone, Debug)]
pub struct Template {
    headers: [u8; HEADERS_LEN_MAX],
    /// Where the IP header ends.
    network_end: usize,
    /// Sums of what does not change, in 16-bit words: of the IPv4 header, and of the
    /// UDP pseudo-header and header.
    network_sum: u32,
    transport_sum: u32,
}

impl Template {
    /// Frames to `server` by way of the link address `next_hop`.
    pub fn new(ours: [u8; 6], next_hop: [u8; 6], server: SocketAddr) -> Self {
        let mut headers = [0; HEADERS_LEN_MAX];
        headers[..6].copy_from_slice(&next_hop);
        headers[6..12].copy_from_slice(&ours);
        let ip = &mut headers[LINK_LEN..];
        let (kind, len): ([u8; 2], usize) = match server.ip() {
            IpAddr::V4(to) => {
                ip[0] = 0x45;
                // Don't fragment, so that no identification is needed (RFC 6864).
                ip[6] = 0x40;
                ip[8] = HOP_LIMIT;
                ip[9] = UDP;
                ip[16..20].copy_from_slice(&to.octets());
                ([0x08, 0x00], IPV4_LEN)
            }
            IpAddr::V6(to) => {
                ip[0] = 0x60;
                ip[6] = UDP;
                ip[7] = HOP_LIMIT;
                ip[24..40].copy_from_slice(&to.octets());
                ([0x86, 0xdd], IPV6_LEN)
            }
        };
        headers[12..14].copy_from_slice(&kind);
        let network_end = LINK_LEN + len;
        headers[network_end + 2..network_end + 4].copy_from_slice(&server.port().to_be_bytes());
        let to = match server.ip() {
            IpAddr::V4(_) => LINK_LEN + 16..network_end,
            IpAddr::V6(_) => LINK_LEN + 24..network_end,
        };
        Self {
            network_sum: sum(&headers[LINK_LEN..network_end]),
            transport_sum: sum(&headers[to]) + u32::from(UDP) + u32::from(server.port()),
            headers,
            network_end,
        }
    }

    /// Writes a frame; says how long it is. `from` is of the server's family; `out`
    /// has room for the headers and the payload.
    pub fn write(&self, from: IpAddr, from_port: u16, payload: &[u8], out: &mut [u8]) -> usize {
        let start = self.network_end + UDP_LEN;
        let len = start + payload.len();
        let datagram_len = (UDP_LEN + payload.len()) as u16;
        out[..start].copy_from_slice(&self.headers[..start]);
        out[start..len].copy_from_slice(payload);
        let ip = &mut out[LINK_LEN..];
        let from_sum = match from {
            IpAddr::V4(from) => {
                let octets = from.octets();
                let total = IPV4_LEN as u16 + datagram_len;
                ip[12..16].copy_from_slice(&octets);
                ip[2..4].copy_from_slice(&total.to_be_bytes());
                let from_sum = sum(&octets);
                let header = fold(self.network_sum + from_sum + u32::from(total));
                ip[10..12].copy_from_slice(&(!header).to_be_bytes());
                from_sum
            }
            IpAddr::V6(from) => {
                let octets = from.octets();
                ip[8..24].copy_from_slice(&octets);
                ip[4..6].copy_from_slice(&datagram_len.to_be_bytes());
                sum(&octets)
            }
        };
        let all = self.transport_sum
            + from_sum
            + u32::from(from_port)
            // Once in the pseudo-header, once in the header.
            + 2 * u32::from(datagram_len)
            + sum(payload);
        // Zero would say that there is none.
        let checksum = match !fold(all) {
            0 => 0xffff,
            other => other,
        };
        let udp = &mut out[self.network_end..start];
        udp[..2].copy_from_slice(&from_port.to_be_bytes());
        udp[4..6].copy_from_slice(&datagram_len.to_be_bytes());
        udp[6..8].copy_from_slice(&checksum.to_be_bytes());
        len
    }

    /// The payload of a frame that came in, of the same family as ours; the receiving
    /// filter has looked at its addresses and ports. Checksums are not looked at: on
    /// virtual links they are left to be made later.
    pub fn payload<'f>(&self, frame: &'f [u8]) -> Option<&'f [u8]> {
        let udp = frame.get(self.network_end..)?;
        let len = usize::from(u16::from_be_bytes([*udp.get(4)?, *udp.get(5)?]));
        udp.get(UDP_LEN..len)
    }
}

/// The words of an even number of octets, added; a last odd one counts as high.
fn sum(bytes: &[u8]) -> u32 {
    let (words, last) = bytes.as_chunks::<2>();
    let last = last.first().map_or(0, |octet| u32::from(*octet) << 8);
    words
        .iter()
        .map(|word| u32::from(u16::from_be_bytes(*word)))
        .sum::<u32>()
        + last
}

/// To 16 bits, with the carries added again.
fn fold(sum: u32) -> u16 {
    let once = (sum & 0xffff) + (sum >> 16);
    ((once & 0xffff) + (once >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(server: &str, from: &str, payload: &[u8]) -> (Template, Vec<u8>) {
        let template = Template::new([1; 6], [2; 6], server.parse().unwrap());
        let mut out = [0xee; 256];
        let len = template.write(from.parse().unwrap(), 40_000, payload, &mut out);
        (template, out[..len].to_vec())
    }

    /// A sum over what its checksum covers is all ones.
    #[test]
    fn checksums_hold() {
        for payload in [&[7_u8; 48][..], &[0xff; 48], &[0; 48], &[1, 2, 3]] {
            let (template, v4) = frame("192.0.2.1:123", "10.1.2.3", payload);
            assert_eq!(fold(sum(&v4[14..34])), 0xffff);
            let pseudo = sum(&v4[26..34]) + 17 + (v4.len() as u32 - 34);
            assert_eq!(fold(pseudo + sum(&v4[34..])), 0xffff);
            assert_eq!(template.payload(&v4), Some(payload));

            let (template, v6) = frame("[fd00::1]:123", "fd01::9", payload);
            let pseudo = sum(&v6[22..54]) + 17 + (v6.len() as u32 - 54);
            assert_eq!(fold(pseudo + sum(&v6[54..])), 0xffff);
            assert_eq!(template.payload(&v6), Some(payload));
            // Ethernet pads short frames.
            let padded = [&v6[..], &[0; 20]].concat();
            assert_eq!(template.payload(&padded), Some(payload));
        }
    }

    #[test]
    fn fields_are_where_they_belong() {
        let (_, v4) = frame("192.0.2.1:123", "10.1.2.3", &[0; 48]);
        assert_eq!(v4.len(), 90);
        assert_eq!(v4[12..14], [8, 0]);
        assert_eq!(v4[16..18], [0, 76]);
        assert_eq!(v4[26..34], [10, 1, 2, 3, 192, 0, 2, 1]);
        assert_eq!(v4[34..40], [0x9c, 0x40, 0, 123, 0, 56]);
    }

    #[test]
    fn what_is_cut_off_has_no_payload() {
        let (template, v4) = frame("192.0.2.1:123", "10.1.2.3", &[0; 48]);
        for len in 0..v4.len() {
            assert_eq!(template.payload(&v4[..len]), None);
        }
    }
}

//! The way to a host as the routing and neighbour tables have it: what a frame that
//! we build ourselves needs to be sent where the kernel would send it.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::link::{LinkAttribute, LinkLayerType, LinkMessage};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr as NetlinkAddr, protocols::NETLINK_ROUTE};

use crate::linux::netlink::{dump, interfaces};
use crate::linux::socket::retry;

/// An Ethernet address.
pub type Mac = [u8; 6];

/// How long the next hop may take to say its link address.
const NEIGHBOUR_PATIENCE_MS: u64 = 2_000;
/// How often to look whether it did.
const NEIGHBOUR_LOOK_MS: u64 = 10;
/// RFC 863: whoever gets a datagram there throws it away.
const DISCARD_PORT: u16 = 9;

/// Where frames for a host go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Way {
    /// Index of the interface.
    pub interface: u32,
    /// Its name.
    pub name: String,
    /// Its link address.
    pub ours: Mac,
    /// The next hop's.
    pub next_hop: Mac,
    /// Our address on this way, to be routed back to.
    pub source: Option<IpAddr>,
}

/// Finds the way to `host`, whose zone says which link if there is one; its port does
/// not matter. One datagram to its discard port makes the kernel ask for the next hop's
/// link address, if it does not know it.
///
/// # Errors
/// In words: no route, no Ethernet, or nobody there.
pub fn find(mut host: SocketAddr) -> io::Result<Way> {
    host.set_port(DISCARD_PORT);
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&NetlinkAddr::new(0, 0))?;
    let (interface, gateway, source) = route(&socket, host)?;
    let (name, ours) = link(&socket, interface)?;
    let next = gateway.unwrap_or(host.ip());
    let any: SocketAddr = match host {
        SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        SocketAddr::V6(_) => ([0_u16; 8], 0).into(),
    };
    for look in 0..NEIGHBOUR_PATIENCE_MS / NEIGHBOUR_LOOK_MS {
        if let Some(next_hop) = neighbour(&socket, interface, next)? {
            return Ok(Way {
                interface,
                name,
                ours,
                next_hop,
                source,
            });
        }
        if look == 0 {
            UdpSocket::bind(any)?.send_to(&[], host)?;
        }
        std::thread::sleep(Duration::from_millis(NEIGHBOUR_LOOK_MS));
    }
    Err(io::Error::other(format!(
        "{next} does not answer on {name} (is the host up?)"
    )))
}

/// Index of the loopback interface.
///
/// # Errors
/// None is expected: each network namespace has one.
pub fn loopback() -> io::Result<u32> {
    let all = interfaces()?;
    let loopback = all.iter().find(|interface| interface.loopback);
    loopback
        .map(|interface| interface.index)
        .ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))
}

/// Interface, gateway and our own address.
fn route(socket: &Socket, host: SocketAddr) -> io::Result<(u32, Option<IpAddr>, Option<IpAddr>)> {
    let mut message = RouteMessage::default();
    (
        message.header.address_family,
        message.header.destination_prefix_length,
    ) = match host {
        SocketAddr::V4(_) => (AddressFamily::Inet, 32),
        SocketAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    message.header.table = RouteHeader::RT_TABLE_UNSPEC;
    message
        .attributes
        .push(RouteAttribute::Destination(host.ip().into()));
    if let SocketAddr::V6(v6) = host
        && v6.scope_id() != 0
    {
        message.attributes.push(RouteAttribute::Oif(v6.scope_id()));
    }
    let RouteNetlinkMessage::NewRoute(answer) =
        ask(socket, RouteNetlinkMessage::GetRoute(message))?
    else {
        return Err(io::Error::other("netlink: an answer that is no route"));
    };
    let (mut interface, mut gateway, mut source) = (None, None, None);
    for attribute in &answer.attributes {
        match attribute {
            RouteAttribute::Oif(index) => interface = Some(*index),
            RouteAttribute::Gateway(address) => gateway = ip(address),
            RouteAttribute::PrefSource(address) => source = ip(address),
            _ => {}
        }
    }
    let interface = interface.ok_or_else(|| io::Error::from_raw_os_error(libc::ENETUNREACH))?;
    Ok((interface, gateway, source))
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
        RouteAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}

fn link(socket: &Socket, interface: u32) -> io::Result<(String, Mac)> {
    let mut name = String::new();
    let mut mac = None;
    let mut ethernet = false;
    let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
    dump(socket, request, |message| {
        let RouteNetlinkMessage::NewLink(link) = message else {
            return;
        };
        if link.header.index != interface {
            return;
        }
        ethernet = link.header.link_layer_type == LinkLayerType::Ether;
        for attribute in &link.attributes {
            match attribute {
                LinkAttribute::IfName(text) => name.clone_from(text),
                LinkAttribute::Address(bytes) => mac = Mac::try_from(bytes.as_slice()).ok(),
                _ => {}
            }
        }
    })?;
    match mac {
        Some(mac) if ethernet => Ok((name, mac)),
        _ => Err(io::Error::other(format!(
            "the way there is by {name}, which is no Ethernet: no raw frames"
        ))),
    }
}

fn neighbour(socket: &Socket, interface: u32, address: IpAddr) -> io::Result<Option<Mac>> {
    let mut request = NeighbourMessage::default();
    request.header.family = match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    let wanted = match address {
        IpAddr::V4(v4) => NeighbourAddress::Inet(v4),
        IpAddr::V6(v6) => NeighbourAddress::Inet6(v6),
    };
    let mut found = None;
    dump(
        socket,
        RouteNetlinkMessage::GetNeighbour(request),
        |message| {
            let RouteNetlinkMessage::NewNeighbour(entry) = message else {
                return;
            };
            let is = |a: &NeighbourAttribute| matches!(a, NeighbourAttribute::Destination(d) if *d == wanted);
            if entry.header.ifindex != interface || !entry.attributes.iter().any(is) {
                return;
            }
            for attribute in &entry.attributes {
                if let NeighbourAttribute::LinkLayerAddress(bytes) = attribute {
                    found = Mac::try_from(bytes.as_slice()).ok();
                }
            }
        },
    )?;
    Ok(found)
}

/// One question, one answer.
fn ask(socket: &Socket, question: RouteNetlinkMessage) -> io::Result<RouteNetlinkMessage> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST;
    let mut request = NetlinkMessage::new(header, NetlinkPayload::from(question));
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    retry(|| socket.send(&bytes, 0))?;
    let (datagram, _) = retry(|| socket.recv_from_full())?;
    let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&datagram)
        .map_err(|error| io::Error::other(format!("netlink: {error}")))?;
    match answer.payload {
        NetlinkPayload::InnerMessage(message) => Ok(message),
        NetlinkPayload::Error(error) => Err(error.to_io()),
        _ => Err(io::Error::other("netlink: no answer")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_oneself_is_no_ethernet() {
        let error = find(([127, 0, 0, 1], 0).into()).unwrap_err();
        assert!(error.to_string().contains("no Ethernet"), "{error}");
    }
}

//! Network interfaces and their addresses, and the news that they changed
//! (rtnetlink(7)), over a bare socket that poll(2) can wait for. The service
//! thread hears the same news through the rtnetlink crate.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, RawFd};

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{
    BondPortState, BridgePortState, InfoBondPort, InfoBridgePort, InfoData, InfoPortData, InfoVlan,
    LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use crate::linux::socket::retry;

/// RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_IFADDR and
/// RTMGRP_IPV6_ROUTE of `linux/rtnetlink.h`: what [`Changes`] hears of.
const GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;

/// Kinds whose packets go through the very interface that IFLA_LINK names.
const CARRIED: [&str; 5] = ["vlan", "macvlan", "macvtap", "ipvlan", "ipvtap"];

/// One address of an interface.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Address {
    /// The address itself, ours, not the peer's.
    pub ip: IpAddr,
    /// Length of its subnet's prefix.
    pub prefix_len: u8,
}

/// One network interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interface {
    /// The kernel's number of it.
    pub index: u32,
    /// `eth0` and the like.
    pub name: String,
    /// Is it switched on?
    pub up: bool,
    /// Is there a carrier?
    pub running: bool,
    /// Is it a loopback?
    pub loopback: bool,
    /// What software makes of it, such as `vlan`, `bond` or `veth`; nothing for
    /// hardware.
    pub kind: Option<String>,
    /// The bond, team or bridge that it is a member of, by index.
    pub master: Option<u32>,
    /// Does that take nothing in by it: is it a bond's backup, or a port that a bridge blocks?
    pub idle: bool,
    /// The interface that carries its packets, by index, if it is a VLAN or the like on
    /// one of this namespace.
    pub below: Option<u32>,
    /// The identifier in its frames' tag, if it is a VLAN.
    pub vlan: Option<u16>,
    /// Octets of the largest packet that it sends.
    pub mtu: u32,
    /// Its Ethernet address, if it has one.
    pub mac: Option<[u8; 6]>,
    /// Its addresses that can be bound: not those still (or in vain) being
    /// checked for a duplicate.
    pub addresses: Vec<Address>,
}

/// All interfaces of this network namespace, by index. Asks the kernel and waits
/// for its answer, some ten microseconds.
pub fn interfaces() -> io::Result<Vec<Interface>> {
    let socket = to_kernel(NETLINK_ROUTE)?;
    let mut all = BTreeMap::new();
    let links = RouteNetlinkMessage::GetLink(LinkMessage::default());
    dump(&socket, links, |message| {
        if let RouteNetlinkMessage::NewLink(link) = message {
            let interface = interface(&link);
            all.insert(interface.index, interface);
        }
    })?;
    let addresses = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    dump(&socket, addresses, |message| {
        if let RouteNetlinkMessage::NewAddress(message) = message
            && let Some(interface) = all.get_mut(&message.header.index)
        {
            interface.addresses.extend(address(&message));
        }
    })?;
    Ok(all.into_values().collect())
}

/// A socket that asks the kernel.
pub(crate) fn to_kernel(protocol: isize) -> io::Result<Socket> {
    let mut socket = Socket::new(protocol)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    Ok(socket)
}

fn interface(link: &LinkMessage) -> Interface {
    let mut interface = Interface {
        index: link.header.index,
        name: String::new(),
        up: link.header.flags.contains(LinkFlags::Up),
        running: link.header.flags.contains(LinkFlags::Running),
        loopback: link.header.link_layer_type == LinkLayerType::Loopback,
        kind: None,
        master: None,
        idle: false,
        below: None,
        vlan: None,
        mtu: 0,
        mac: None,
        addresses: Vec::new(),
    };
    let mut elsewhere = false;
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(name) => interface.name.clone_from(name),
            LinkAttribute::Controller(index) if *index != 0 => interface.master = Some(*index),
            LinkAttribute::Link(index) => interface.below = Some(*index),
            LinkAttribute::Mtu(octets) => interface.mtu = *octets,
            LinkAttribute::Address(mac) => interface.mac = mac.as_slice().try_into().ok(),
            LinkAttribute::LinkNetNsId(_) => elsewhere = true,
            LinkAttribute::LinkInfo(infos) => {
                interface.kind = infos.iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(kind.to_string()),
                    _ => None,
                });
                interface.idle = infos.iter().any(is_idle);
                interface.vlan = infos.iter().find_map(|info| match info {
                    LinkInfo::Data(InfoData::Vlan(words)) => words.iter().find_map(vlan_id),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    // A veth's link is its peer, a tunnel's is no more than a hint.
    let carried = interface
        .kind
        .as_deref()
        .is_some_and(|kind| CARRIED.contains(&kind));
    if elsewhere || !carried || interface.below == Some(interface.index) {
        interface.below = None;
    }
    interface
}

/// Of a team, the kernel does not tell.
fn is_idle(info: &LinkInfo) -> bool {
    match info {
        LinkInfo::PortData(InfoPortData::BondPort(words)) => {
            words.contains(&InfoBondPort::BondPortState(BondPortState::Backup))
        }
        LinkInfo::PortData(InfoPortData::BridgePort(words)) => words.iter().any(|word| {
            matches!(word, InfoBridgePort::State(state) if *state != BridgePortState::Forwarding)
        }),
        _ => false,
    }
}

fn vlan_id(word: &InfoVlan) -> Option<u16> {
    match word {
        InfoVlan::Id(id) => Some(*id),
        _ => None,
    }
}

fn address(message: &AddressMessage) -> Option<Address> {
    let unchecked = AddressHeaderFlags::Tentative | AddressHeaderFlags::Dadfailed;
    if message.header.flags.intersects(unchecked) {
        return None;
    }
    // On a point-to-point link Address is the peer's and Local is ours; IPv6
    // elsewhere has Address alone.
    let (mut local, mut given) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => given = Some(*ip),
            _ => {}
        }
    }
    Some(Address {
        ip: local.or(given)?,
        prefix_len: message.header.prefix_len,
    })
}

/// Sends one dump request and hands every message of the answer to `each`.
pub(crate) fn dump(
    socket: &Socket,
    request: RouteNetlinkMessage,
    mut each: impl FnMut(RouteNetlinkMessage),
) -> io::Result<()> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let mut request = NetlinkMessage::new(header, NetlinkPayload::from(request));
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    retry(|| socket.send(&bytes, 0))?;
    loop {
        let (datagram, _) = retry(|| socket.recv_from_full())?;
        let mut rest = &datagram[..];
        while !rest.is_empty() {
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                .map_err(|error| io::Error::other(format!("netlink: {error}")))?;
            // Messages are aligned to four bytes (NLMSG_ALIGN).
            let length = (message.header.length as usize).next_multiple_of(4).max(4);
            rest = rest.get(length..).unwrap_or(&[]);
            match message.payload {
                NetlinkPayload::Done(_) => return Ok(()),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                NetlinkPayload::InnerMessage(message) => each(message),
                _ => {}
            }
        }
    }
}

/// News of links, addresses and routes that come and go.
#[derive(Debug)]
pub struct Changes {
    socket: Socket,
}

impl Changes {
    /// From now on. Non-blocking.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.set_non_blocking(true)?;
        socket.bind(&SocketAddr::new(0, GROUPS))?;
        Ok(Self { socket })
    }

    /// Readable when something changed.
    pub fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Takes all news there is. True if there was any: ask [`interfaces`] how
    /// things are now.
    pub fn drain(&mut self) -> io::Result<bool> {
        let mut changed = false;
        // What does not fit is cut off; that something came is all we want to know.
        let mut buffer = [0; 512];
        loop {
            match self.socket.recv(&mut &mut buffer[..], 0) {
                Ok(_) => changed = true,
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN) => return Ok(changed),
                    Some(libc::EINTR) => {}
                    // More came than the socket could hold: news too.
                    Some(libc::ENOBUFS) => changed = true,
                    _ => return Err(error),
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::clock;
    use crate::linux::wait::{Interest, Waiter};
    use crate::time::duration::NtpDuration;
    use netlink_packet_route::link::InfoKind;
    use nix::sched::{CloneFlags, unshare};
    use std::process::Command;

    #[test]
    fn the_loopback_is_there_with_its_address() {
        let all = interfaces().unwrap();
        let loopback = all.iter().find(|interface| interface.loopback).unwrap();
        assert_eq!(loopback.name, "lo");
        assert!(loopback.up);
        assert!(loopback.addresses.contains(&Address {
            ip: "127.0.0.1".parse().unwrap(),
            prefix_len: 8,
        }));
    }

    #[test]
    fn members_and_carriers_are_told_and_peers_are_not() {
        let link = |kind: InfoKind, attributes: &[LinkAttribute]| {
            let mut message = LinkMessage::default();
            message.header.index = 5;
            message.attributes = attributes.to_vec();
            let info = LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind)]);
            message.attributes.push(info);
            interface(&message)
        };
        let vlan = link(InfoKind::Vlan, &[LinkAttribute::Link(2)]);
        assert_eq!((vlan.below, vlan.kind.as_deref()), (Some(2), Some("vlan")));
        let id = LinkInfo::Data(InfoData::Vlan(vec![InfoVlan::Id(10)]));
        let tagged = [
            LinkAttribute::LinkInfo(vec![id]),
            LinkAttribute::Mtu(1496),
            LinkAttribute::Address(vec![2, 0, 0, 0, 0, 5]),
        ];
        let mut message = LinkMessage::default();
        message.attributes = tagged.to_vec();
        let tagged = interface(&message);
        assert_eq!((tagged.vlan, tagged.mtu), (Some(10), 1496));
        assert_eq!(tagged.mac, Some([2, 0, 0, 0, 0, 5]));
        let lent = [LinkAttribute::Link(2), LinkAttribute::LinkNetNsId(0)];
        assert_eq!(link(InfoKind::Vlan, &lent).below, None);
        assert_eq!(link(InfoKind::Veth, &[LinkAttribute::Link(6)]).below, None);
        let member = link(InfoKind::Dummy, &[LinkAttribute::Controller(9)]);
        assert_eq!((member.master, member.below), (Some(9), None));
        let idle = |port: InfoPortData| {
            let infos = vec![LinkInfo::PortData(port)];
            let attributes = [LinkAttribute::LinkInfo(infos)];
            let mut message = LinkMessage::default();
            message.attributes = attributes.to_vec();
            interface(&message).idle
        };
        let bridge = |state| idle(InfoPortData::BridgePort(vec![InfoBridgePort::State(state)]));
        assert!(bridge(BridgePortState::Blocking) && !bridge(BridgePortState::Forwarding));
        let bond = |state| {
            idle(InfoPortData::BondPort(vec![InfoBondPort::BondPortState(
                state,
            )]))
        };
        assert!(bond(BondPortState::Backup) && !bond(BondPortState::Active));
    }

    /// In a network namespace of this thread's own, where root may do so.
    #[test]
    fn an_address_or_a_route_that_comes_is_news() {
        std::thread::spawn(|| {
            if unshare(CloneFlags::CLONE_NEWNET).is_err() {
                return;
            }
            let mut changes = Changes::open().unwrap();
            assert!(!changes.drain().unwrap());
            let ip = |arguments: &[&str]| {
                Command::new("ip")
                    .args(arguments)
                    .status()
                    .is_ok_and(|status| status.success())
            };
            if !ip(&["addr", "add", "192.0.2.7/24", "dev", "lo"]) {
                return;
            }
            let news = Interest::read(changes.fd(), 0);
            let until = clock::monotonic() + NtpDuration::from_whole_seconds(5);
            let mut ready = Vec::new();
            Waiter::poll()
                .wait(&[news], Some(until), &mut ready)
                .unwrap();
            assert_eq!(ready.len(), 1);
            assert!(changes.drain().unwrap());
            assert!(!changes.drain().unwrap());
            let all = interfaces().unwrap();
            let ips: Vec<IpAddr> = all[0].addresses.iter().map(|address| address.ip).collect();
            assert_eq!(ips, ["192.0.2.7".parse::<IpAddr>().unwrap()]);
            // A route may be all that was missing to reach a server.
            if !ip(&["link", "set", "lo", "up"]) {
                return;
            }
            changes.drain().unwrap();
            assert!(ip(&["route", "add", "default", "dev", "lo"]));
            assert!(changes.drain().unwrap());
        })
        .join()
        .unwrap();
    }
}

//! Which interfaces the `xdp` lines mean, and which addresses are answered on them: pure
//! functions of what netlink tells.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use crate::config::Listen;
use crate::config::stamping::Which;
use crate::config::xdp::{Mode, XdpLine};
use crate::daemon::cards::carriers;
use crate::linux::ethtool::Offloads;
use crate::linux::netlink::{Address, Interface};
use crate::xdp::layout::Own;

/// What an interface can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ability {
    /// Does its driver run programs? None: this kernel can't tell.
    pub native: Option<bool>,
    /// What its hardware does to frames; none: its driver doesn't say.
    pub offloads: Option<Offloads>,
}

/// An interface that the program is to be attached to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Planned<'a> {
    /// Which.
    pub interface: &'a Interface,
    /// Where its program runs.
    pub mode: Mode,
    /// A line names it, or one above it; so whatever is wrong with it is told. (`*` takes what
    /// it gets.)
    pub named: bool,
}

/// What to do about all of them, and what to say.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Plan<'a> {
    /// By index.
    pub wanted: Vec<Planned<'a>>,
    /// Why nothing comes of a line, by the name of the interface (`*`: of none).
    pub remarks: Vec<(String, String)>,
}

/// Which interfaces the lines mean; a line that names one goes before `*`.
pub fn plan<'a>(
    lines: &[XdpLine],
    interfaces: &'a [Interface],
    ability: impl Fn(&Interface) -> Ability,
) -> Plan<'a> {
    let mut plan = Plan::default();
    let mut claims: Vec<Planned<'a>> = Vec::new();
    let mut claim = |interface, mode, named| {
        claims.push(Planned {
            interface,
            mode,
            named,
        });
    };
    for line in lines {
        let Which::Named(name) = &line.interface else {
            continue;
        };
        match interfaces.iter().find(|one| one.name == *name) {
            Some(named) => carriers(named, interfaces)
                .into_iter()
                .for_each(|one| claim(one, line.mode, true)),
            None => plan.say(
                name,
                "there is no such interface; it is taken when it comes",
            ),
        }
    }
    for line in lines.iter().filter(|line| line.interface == Which::All) {
        // What software makes is left out: its frames come through hardware, or, of a
        // veth, may have nowhere to go back to.
        let hardware = interfaces
            .iter()
            .filter(|one| one.kind.is_none() && !one.loopback);
        hardware.for_each(|one| claim(one, line.mode, false));
    }
    claims.sort_by_key(|one| (one.interface.index, !one.named));
    claims.dedup_by_key(|one| one.interface.index);
    let mut all_can = false;
    for one in claims {
        let name = &one.interface.name;
        let Ability { native, offloads } = ability(one.interface);
        let carries_vlan = |other: &Interface| {
            // Itself, or as a member of the bond or bridge below it.
            let carriers = || carriers(other, interfaces);
            other.vlan.is_some() && carriers().iter().any(|by| by.index == one.interface.index)
        };
        if one.mode == Mode::Native && native == Some(false) {
            if one.named {
                plan.say(
                    name,
                    "its driver runs no XDP programs; `mode generic` works with every driver, \
                     and wins less",
                );
            }
            continue;
        }
        all_can |= !one.named;
        let strips = offloads.is_some_and(|offloads| offloads.strips_vlan);
        if strips && interfaces.iter().any(carries_vlan) {
            plan.say(
                name,
                &format!(
                    "the card takes VLAN tags off before an XDP program could see them, so an \
                     answer might go to the wrong VLAN; `ethtool -K {name} rxvlan off` leaves \
                     them on"
                ),
            );
            continue;
        }
        plan.wanted.push(one);
    }
    if !all_can && lines.iter().any(|line| line.interface == Which::All) {
        plan.say("*", "no interface here has a driver that can");
    }
    plan
}

impl Plan<'_> {
    fn say(&mut self, name: &str, why: &str) {
        self.remarks.push((name.to_owned(), why.to_owned()));
    }
}

/// Where frames come in, and to which Ethernet address.
struct Gate {
    interface: u32,
    vlan: u16,
    mac: [u8; 6],
    /// Of a VLAN, its interface.
    of: Option<u32>,
}

/// What is answered where the program runs (`wanted`), and the Ethernet address that frames
/// for it are sent to: an address of this host that the sockets answer on too, on any link,
/// or on the VLAN that it is of. A link-local one is left to the sockets.
pub fn own(
    interfaces: &[Interface],
    wanted: &[Planned<'_>],
    listen: &Listen,
    port: u16,
) -> BTreeMap<Own, [u8; 6]> {
    let by_index = |index: Option<u32>| interfaces.iter().find(|one| Some(one.index) == index);
    // What is in a routing domain of its own is none of our sockets'.
    let apart = |one: &Interface| {
        let is_vrf = |one: &Interface| one.kind.as_deref() == Some("vrf");
        is_vrf(one) || by_index(one.master).is_some_and(is_vrf)
    };
    let gates = gates(interfaces, wanted, &apart);
    let mut own = BTreeMap::new();
    for one in interfaces.iter().filter(|one| !apart(one)) {
        let of = one.vlan.map(|_| one.index);
        // An address of the loopback is reached through every link.
        let through = |gate: &&Gate| one.loopback || gate.of == of;
        let ips = one.addresses.iter().map(|address| address.ip);
        // Switched off, it has its IPv6 addresses in name only (`keep_addr_on_down`).
        let ips = ips.filter(|ip| one.up || ip.is_ipv4());
        for ip in ips.filter(|ip| is_unicast(*ip) && answers(listen, *ip)) {
            own.extend(gates.iter().filter(through).map(|gate| {
                let place = Own {
                    address: ip,
                    port,
                    interface: gate.interface,
                    vlan: gate.vlan,
                };
                (place, gate.mac)
            }));
        }
    }
    own
}

fn gates(
    interfaces: &[Interface],
    wanted: &[Planned<'_>],
    apart: &dyn Fn(&Interface) -> bool,
) -> Vec<Gate> {
    let by_index = |index: Option<u32>| interfaces.iter().find(|one| Some(one.index) == index);
    let carries = |index: u32| wanted.iter().any(|one| one.interface.index == index);
    let mut gates = Vec::new();
    let plain = wanted.iter().map(|one| one.interface);
    for one in plain.filter(|one| !one.idle && !apart(one)) {
        let master = by_index(one.master);
        // What a bridge's port takes in for this host is sent to the bridge.
        let to = master.filter(|master| master.kind.as_deref() == Some("bridge"));
        let mac = to.unwrap_or(one).mac;
        // A bridge or bond that is switched off takes nothing in.
        let mac = mac.filter(|_| master.is_none_or(|master| master.up));
        gates.extend(mac.map(|mac| Gate {
            interface: one.index,
            vlan: 0,
            mac,
            of: None,
        }));
    }
    for one in interfaces.iter().filter(|one| one.up && !apart(one)) {
        // Of two tags the program knows nothing.
        let single = by_index(one.below).is_some_and(|below| below.vlan.is_none());
        let (Some(vlan), Some(mac), true) = (one.vlan, one.mac, single) else {
            continue;
        };
        let carriers = carriers(one, interfaces).into_iter();
        let carriers = carriers.filter(|by| !by.idle && carries(by.index));
        gates.extend(carriers.map(|by| Gate {
            interface: by.index,
            vlan,
            mac,
            of: Some(one.index),
        }));
    }
    gates
}

/// Sources that no other host can have: our own addresses, and those that mean all of a
/// network. A stack refuses them; so they pass.
pub fn odd_sources(interfaces: &[Interface]) -> BTreeSet<IpAddr> {
    let all = interfaces.iter().flat_map(|one| &one.addresses);
    // Those of the loopback's network the program knows by themselves.
    let all = all.filter(|address| !address.ip.is_loopback());
    let mut odd = BTreeSet::new();
    for Address { ip, prefix_len } in all {
        odd.insert(*ip);
        if let IpAddr::V4(v4) = ip
            && let Some(hosts) = u32::MAX.checked_shr((*prefix_len).into())
            // A network of one or two has no such address.
            && hosts > 1
        {
            odd.insert(Ipv4Addr::from(u32::from(*v4) | hosts).into());
        }
    }
    odd
}

/// Can the address be asked from other hosts, whichever link they are on?
fn is_unicast(ip: IpAddr) -> bool {
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !(link_local || ip.is_loopback() || ip.is_multicast() || ip.is_unspecified())
}

fn answers(listen: &Listen, ip: IpAddr) -> bool {
    match listen {
        Listen::Everywhere => true,
        Listen::Loopback | Listen::Nowhere => false,
        Listen::At(ips) => {
            let is_it =
                |one: &IpAddr| *one == ip || one.is_unspecified() && one.is_ipv4() == ip.is_ipv4();
            ips.iter().any(is_it)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(index: u32) -> [u8; 6] {
        [2, 0, 0, 0, 0, index as u8]
    }

    fn interface(index: u32, name: &str, kind: Option<&str>, addresses: &[&str]) -> Interface {
        let address = |text: &&str| Address {
            ip: text.parse().expect("an address"),
            prefix_len: 24,
        };
        Interface {
            index,
            name: name.into(),
            up: true,
            running: true,
            loopback: name == "lo",
            kind: kind.map(Into::into),
            master: None,
            idle: false,
            below: None,
            vlan: None,
            mtu: 1500,
            mac: Some(mac(index)),
            addresses: addresses.iter().map(address).collect(),
        }
    }

    fn vlan(index: u32, name: &str, below: u32, tag: u16, addresses: &[&str]) -> Interface {
        Interface {
            below: Some(below),
            vlan: Some(tag),
            ..interface(index, name, Some("vlan"), addresses)
        }
    }

    fn host() -> Vec<Interface> {
        vec![
            interface(1, "lo", None, &["127.0.0.1", "::1", "192.0.2.99"]),
            interface(2, "eth0", None, &["192.0.2.1", "fe80::1", "2001:db8::1"]),
            interface(3, "eth1", None, &["198.51.100.1"]),
            interface(4, "veth0", Some("veth"), &["203.0.113.1"]),
            vlan(5, "eth0.10", 2, 10, &["10.0.10.1"]),
            vlan(6, "eth0.10.20", 5, 20, &["10.0.20.1"]),
        ]
    }

    fn line(name: &str, mode: Mode) -> XdpLine {
        let interface = match name {
            "*" => Which::All,
            name => Which::Named(name.into()),
        };
        XdpLine { interface, mode }
    }

    fn planned(lines: &[XdpLine], ability: impl Fn(&str) -> Ability) -> (Vec<String>, String) {
        let host = host();
        let plan = plan(lines, &host, |one| ability(&one.name));
        let wanted = plan.wanted.iter();
        let wanted = wanted.map(|one| format!("{} {}", one.interface.name, one.mode.word()));
        let said = plan.remarks.iter().map(|(_, why)| why.as_str());
        (wanted.collect(), said.collect::<Vec<_>>().join("\n"))
    }

    const CAN: Ability = Ability {
        native: Some(true),
        offloads: None,
    };

    #[test]
    fn a_line_means_what_carries_the_interface() {
        let lines = [line("eth0.10", Mode::Generic), line("*", Mode::Native)];
        let (wanted, said) = planned(&lines, |_| CAN);
        assert_eq!(wanted, ["eth0 generic", "eth1 native"]);
        assert_eq!(said, "");
        let (wanted, said) = planned(&[line("eth9", Mode::Native)], |_| CAN);
        assert!(
            wanted.is_empty() && said.contains("when it comes"),
            "{said}"
        );
    }

    #[test]
    fn a_driver_that_cannot_is_told_of_where_it_was_named() {
        let cannot = |name: &str| Ability {
            native: Some(name == "eth0"),
            ..Ability::default()
        };
        let (wanted, said) = planned(&[line("*", Mode::Native)], cannot);
        assert_eq!((wanted, said), (vec!["eth0 native".into()], String::new()));
        let (wanted, said) = planned(&[line("eth1", Mode::Native)], cannot);
        assert!(wanted.is_empty() && said.contains("mode generic"), "{said}");
        let (wanted, _) = planned(&[line("eth1", Mode::Generic)], cannot);
        assert_eq!(wanted, ["eth1 generic"]);
        let none = |_: &str| Ability {
            native: Some(false),
            ..Ability::default()
        };
        let (_, said) = planned(&[line("*", Mode::Native)], none);
        assert!(said.contains("no interface here"), "{said}");
        let (wanted, _) = planned(&[line("*", Mode::Native)], |_| Ability::default());
        assert_eq!(wanted.len(), 2, "a kernel that can't tell is tried");
    }

    #[test]
    fn tags_that_a_card_hides_keep_the_program_away() {
        let strips = |_: &str| Ability {
            offloads: Some(Offloads {
                strips_vlan: true,
                joins: false,
            }),
            ..CAN
        };
        let (wanted, said) = planned(&[line("*", Mode::Native)], strips);
        assert_eq!(wanted, ["eth1 native"], "which carries no VLAN");
        assert!(said.contains("ethtool -K eth0 rxvlan off"), "{said}");
        // A bond's VLAN is its members'.
        let mut all = host();
        all[2].master = Some(7);
        all.push(interface(7, "bond0", Some("bond"), &["10.0.0.1"]));
        all.push(vlan(8, "bond0.10", 7, 10, &["10.0.10.2"]));
        let plan = plan(&[line("bond0", Mode::Native)], &all, |one| {
            strips(&one.name)
        });
        assert!(plan.wanted.is_empty());
        assert!(plan.remarks[0].1.contains("-K eth1 rxvlan off"));
    }

    /// As `address interface vlan mac`, the last by the index of the interface it is of.
    fn owned(interfaces: &[Interface], wanted: &[u32], listen: &Listen) -> Vec<String> {
        let planned = |one| Planned {
            interface: one,
            mode: Mode::Native,
            named: true,
        };
        let wanted = interfaces.iter().filter(|one| wanted.contains(&one.index));
        let wanted: Vec<Planned<'_>> = wanted.map(planned).collect();
        let own = own(interfaces, &wanted, listen, 123);
        let text = |(own, mac): (Own, [u8; 6])| {
            format!("{} {} {} {}", own.address, own.interface, own.vlan, mac[5])
        };
        own.into_iter().map(text).collect()
    }

    #[test]
    fn an_address_is_answered_on_every_link_or_on_its_vlan() {
        let all = owned(&host(), &[2, 3], &Listen::Everywhere);
        assert_eq!(
            all,
            [
                "10.0.10.1 2 10 5",
                "192.0.2.1 2 0 2",
                "192.0.2.1 3 0 3",
                "192.0.2.99 2 0 2",
                "192.0.2.99 2 10 5",
                "192.0.2.99 3 0 3",
                "198.51.100.1 2 0 2",
                "198.51.100.1 3 0 3",
                "203.0.113.1 2 0 2",
                "203.0.113.1 3 0 3",
                "2001:db8::1 2 0 2",
                "2001:db8::1 3 0 3",
            ]
        );
        let some = Listen::At(vec![
            "192.0.2.1".parse().expect("ok"),
            "::".parse().expect("ok"),
        ]);
        let some = owned(&host(), &[3], &some);
        assert_eq!(some, ["192.0.2.1 3 0 3", "2001:db8::1 3 0 3"]);
        assert!(owned(&host(), &[2, 3], &Listen::Loopback).is_empty());
    }

    #[test]
    fn what_is_switched_off_or_idle_takes_nothing_in() {
        let mut off = host();
        off.iter_mut().skip(2).for_each(|one| one.up = false);
        off[2].addresses.push(Address {
            ip: "2001:db8::7".parse().expect("one"),
            prefix_len: 64,
        });
        // Its IPv4 addresses are still ours.
        let all = owned(&off, &[2], &Listen::Everywhere);
        let some = ["192.0.2.1", "192.0.2.99", "198.51.100.1", "203.0.113.1"];
        let some = some.into_iter().chain(["2001:db8::1"]);
        let some: Vec<String> = some.map(|ip| format!("{ip} 2 0 2")).collect();
        assert_eq!(all, some);
        for kind in ["bridge", "bond"] {
            let mut member = interface(2, "eth0", None, &["10.0.0.2"]);
            member.master = Some(9);
            let mut all = [member, interface(9, "top0", Some(kind), &["10.0.0.1"])];
            assert_eq!(owned(&all, &[2], &Listen::Everywhere).len(), 2);
            all[1].up = false;
            assert!(owned(&all, &[2], &Listen::Everywhere).is_empty());
            (all[0].idle, all[1].up) = (true, true);
            assert!(owned(&all, &[2], &Listen::Everywhere).is_empty());
        }
    }

    #[test]
    fn routing_domains_are_the_sockets_business() {
        let mut apart = host();
        apart[3].kind = Some("vrf".into());
        apart[2].master = Some(4);
        let all = owned(&apart, &[2, 3], &Listen::Everywhere);
        assert!(all.iter().any(|one| one == "192.0.2.1 2 0 2"));
        let theirs = |one: &String| one.starts_with("198.51.100.1") || one.contains(" 3 0 ");
        assert!(!all.iter().any(theirs), "{all:?}");
    }

    #[test]
    fn frames_are_sent_to_whom_they_are_for() {
        let by = |interfaces: &[Interface], wanted: &[u32]| {
            owned(
                interfaces,
                wanted,
                &Listen::At(vec!["10.0.0.1".parse().expect("ok")]),
            )
        };
        // A bridge's ports hear what is for the bridge; a bond's members what is for them.
        for (kind, macs) in [("bridge", [9, 9]), ("bond", [2, 3])] {
            let mut all = vec![
                interface(2, "eth0", None, &[]),
                interface(3, "eth1", None, &[]),
                interface(9, "top0", Some(kind), &["10.0.0.1"]),
            ];
            (all[0].master, all[1].master) = (Some(9), Some(9));
            let expected = [(2, macs[0]), (3, macs[1])];
            let expected = expected.map(|(index, mac)| format!("10.0.0.1 {index} 0 {mac}"));
            assert_eq!(by(&all, &[2, 3]), expected);
            // And so of its VLANs.
            all[2].addresses.clear();
            all.push(vlan(10, "top0.7", 9, 7, &["10.0.0.1"]));
            assert_eq!(by(&all, &[2, 3]), ["10.0.0.1 2 7 10", "10.0.0.1 3 7 10"]);
        }
        let mut without = vec![interface(2, "tun0", None, &["10.0.0.1"])];
        without[0].mac = None;
        assert!(by(&without, &[2]).is_empty());
    }

    #[test]
    fn nobody_has_our_addresses_or_a_whole_networks() {
        let odd: Vec<String> = odd_sources(&host()[1..2])
            .iter()
            .map(IpAddr::to_string)
            .collect();
        assert_eq!(odd, ["192.0.2.1", "192.0.2.255", "2001:db8::1", "fe80::1"]);
        let mut all = [interface(2, "eth0", None, &["10.0.0.1"])];
        for (bits, broadcast) in [
            (0, "255.255.255.255"),
            (8, "10.255.255.255"),
            (30, "10.0.0.3"),
        ] {
            all[0].addresses[0].prefix_len = bits;
            assert!(odd_sources(&all).contains(&broadcast.parse().expect("one")));
        }
        for bits in [31, 32] {
            all[0].addresses[0].prefix_len = bits;
            assert_eq!(odd_sources(&all).len(), 1);
        }
    }
}

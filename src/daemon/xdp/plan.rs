//! Which interfaces the `xdp` lines mean, and which addresses are answered on them: pure
//! functions of what netlink tells.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::config::Listen;
use crate::config::stamping::Which;
use crate::config::xdp::{Mode, XdpLine};
use crate::daemon::cards::carriers;
use crate::linux::ethtool::Offloads;
use crate::linux::netlink::Interface;

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
        let carries_vlan =
            |other: &Interface| other.vlan.is_some() && other.below == Some(one.interface.index);
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

/// What is answered, and with which VLAN's tag (0: with none): an address of this host that
/// the sockets answer on too, on the link that it is of. A link-local one is of one
/// interface, and the program can't tell which.
pub fn own(interfaces: &[Interface], listen: &Listen) -> BTreeSet<(IpAddr, u16)> {
    let by_index = |index: Option<u32>| interfaces.iter().find(|one| Some(one.index) == index);
    let apart = |one: &Interface| one.kind.as_deref() == Some("vrf");
    let mut own = BTreeSet::new();
    let vlans: Vec<u16> = interfaces.iter().filter_map(|one| one.vlan).collect();
    for one in interfaces {
        // What is in a routing domain of its own is none of our sockets'.
        if apart(one) || by_index(one.master).is_some_and(apart) {
            continue;
        }
        // Of two tags the program knows nothing.
        if one.vlan.is_some() && by_index(one.below).is_none_or(|below| below.vlan.is_some()) {
            continue;
        }
        let tag = one.vlan.unwrap_or(0);
        let ips = one.addresses.iter().map(|address| address.ip);
        for ip in ips.filter(|ip| is_unicast(*ip) && answers(listen, *ip)) {
            own.insert((ip, tag));
            // An address of the loopback is reached through every link.
            if one.loopback {
                own.extend(vlans.iter().map(|tag| (ip, *tag)));
            }
        }
    }
    own
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
    use crate::linux::netlink::Address;

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
            below: None,
            vlan: None,
            mtu: 1500,
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
    }

    #[test]
    fn an_address_is_answered_on_its_own_link() {
        let all = own(&host(), &Listen::Everywhere);
        let all: Vec<String> = all.iter().map(|(ip, tag)| format!("{ip} {tag}")).collect();
        assert_eq!(
            all,
            [
                "10.0.10.1 10",
                "192.0.2.1 0",
                "192.0.2.99 0",
                "192.0.2.99 10",
                "192.0.2.99 20",
                "198.51.100.1 0",
                "203.0.113.1 0",
                "2001:db8::1 0",
            ]
        );
        let some = Listen::At(vec![
            "192.0.2.1".parse().expect("ok"),
            "::".parse().expect("ok"),
        ]);
        let some = own(&host(), &some);
        assert_eq!(some.len(), 2);
        assert!(own(&host(), &Listen::Loopback).is_empty());
        let mut apart = host();
        apart[3].kind = Some("vrf".into());
        apart[2].master = Some(4);
        let apart = own(&apart, &Listen::Everywhere);
        assert!(!apart.iter().any(|(ip, _)| ip.to_string() == "198.51.100.1"));
    }
}

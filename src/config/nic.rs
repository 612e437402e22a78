//! `interface` and `nic` of ntp.conf: on which addresses to answer. The last rule that matches
//! an address counts; loopback is answered on unless a rule names it; `wildcard` makes no
//! difference here, because the wildcard's sockets answer for every address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::config::Listen;
use crate::server::rule::Prefix;

/// Which addresses a rule is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Match {
    /// `all`.
    All,
    /// `ipv4`.
    V4,
    /// `ipv6`.
    V6,
    /// `wildcard`.
    Wildcard,
    /// An address, or several.
    Block(Prefix),
    /// Those of an interface.
    Name(String),
}

/// One line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NicRule {
    /// `listen`, else `ignore` or `drop`.
    pub listen: bool,
    /// Whom it is about.
    pub matches: Match,
}

/// Where `rules` leave us answering; the number of the first rule that can't be followed,
/// because it depends on which addresses the host has.
pub fn compile(rules: &[NicRule]) -> Result<Listen, usize> {
    let v4 = family(rules, true)?;
    let v6 = family(rules, false)?;
    let everywhere: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    let all: Vec<IpAddr> = v4.into_iter().chain(v6).collect();
    Ok(match all {
        all if all == everywhere => Listen::Everywhere,
        all if all.is_empty() => Listen::Nowhere,
        all => Listen::At(all),
    })
}

/// The addresses of one family; the unspecified one stands for all.
fn family(rules: &[NicRule], is_v4: bool) -> Result<Vec<IpAddr>, usize> {
    let of_family = |prefix: &Prefix| prefix.address().is_ipv4() == is_v4;
    let general = |rule: &NicRule| match rule.matches {
        Match::All => true,
        Match::V4 => is_v4,
        Match::V6 => !is_v4,
        Match::Wildcard | Match::Block(_) | Match::Name(_) => false,
    };
    let last = rules.iter().rposition(general);
    let answers = last.is_none_or(|last| rules[last].listen);
    // What was said before the last general rule is void, but for loopback.
    let special = &rules[last.map_or(0, |last| last + 1)..];
    let first = rules.len() - special.len();
    let loopback: IpAddr = if is_v4 {
        Ipv4Addr::LOCALHOST.into()
    } else {
        Ipv6Addr::LOCALHOST.into()
    };
    if answers {
        let narrower = special.iter().position(|rule| {
            !rule.listen
                && match &rule.matches {
                    Match::Block(prefix) => of_family(prefix),
                    Match::Name(_) => true,
                    Match::All | Match::V4 | Match::V6 | Match::Wildcard => false,
                }
        });
        let unspecified = if is_v4 {
            Ipv4Addr::UNSPECIFIED.into()
        } else {
            Ipv6Addr::UNSPECIFIED.into()
        };
        return match narrower {
            Some(index) => Err(first + index),
            None => Ok(vec![unspecified]),
        };
    }
    let mut addresses = vec![loopback];
    for (index, rule) in special.iter().enumerate() {
        match &rule.matches {
            Match::Block(prefix) if of_family(prefix) => {
                if *prefix != Prefix::host(prefix.address()) {
                    return Err(first + index);
                }
                addresses.retain(|address| *address != prefix.address());
                if rule.listen {
                    addresses.push(prefix.address());
                }
            }
            Match::Name(name) if rule.listen && name != "lo" => return Err(first + index),
            _ => {}
        }
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> NicRule {
        let (action, who) = text.split_once(' ').expect("two words");
        let matches = match (who, who.parse::<IpAddr>()) {
            (_, Ok(address)) => Match::Block(Prefix::host(address)),
            ("all", _) => Match::All,
            ("ipv4", _) => Match::V4,
            ("ipv6", _) => Match::V6,
            ("wildcard", _) => Match::Wildcard,
            (name, _) => Match::Name(name.to_owned()),
        };
        NicRule {
            listen: action == "listen",
            matches,
        }
    }

    fn listens(texts: &[&str]) -> Result<Listen, usize> {
        let rules: Vec<NicRule> = texts.iter().map(|text| rule(text)).collect();
        compile(&rules)
    }

    fn at(addresses: &[&str]) -> Result<Listen, usize> {
        let all = addresses.iter().map(|address| address.parse().unwrap());
        Ok(Listen::At(all.collect()))
    }

    #[test]
    fn the_last_rule_counts_and_loopback_stays() {
        assert_eq!(listens(&[]), Ok(Listen::Everywhere));
        assert_eq!(
            listens(&["ignore wildcard", "listen eth0"]),
            Ok(Listen::Everywhere)
        );
        assert_eq!(listens(&["ignore all"]), at(&["127.0.0.1", "::1"]));
        assert_eq!(
            listens(&[
                "ignore wildcard",
                "ignore all",
                "listen 192.0.2.1",
                "drop ::1"
            ]),
            at(&["127.0.0.1", "192.0.2.1"])
        );
        assert_eq!(listens(&["ignore ipv6"]), at(&["0.0.0.0", "::1"]));
        assert_eq!(
            listens(&["drop 192.0.2.1", "listen all"]),
            Ok(Listen::Everywhere)
        );
        assert_eq!(
            listens(&["ignore all", "drop 127.0.0.1", "drop ::1"]),
            Ok(Listen::Nowhere)
        );
    }

    #[test]
    fn what_depends_on_the_hosts_addresses_is_named() {
        assert_eq!(listens(&["ignore all", "listen eth0"]), Err(1));
        assert_eq!(listens(&["drop 192.0.2.1"]), Err(0));
        assert_eq!(listens(&["listen all", "ignore eth0"]), Err(1));
    }
}

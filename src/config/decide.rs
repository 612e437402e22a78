//! Which lines decide what an address may do (`ptntp access`).

use std::net::IpAddr;

use crate::config::access::flags_of;
use crate::config::allow::{self, Order};
use crate::config::dialect::Dialect;
use crate::config::load::{Loaded, ReadLine};
use crate::config::statement::Statement;
use crate::server::access::AccessTable;
use crate::server::rule::{Flags, Prefix, Rule, Who};

/// What an address may do.
#[derive(Clone, PartialEq, Debug)]
pub struct Decision<'a> {
    /// As the access table has it.
    pub flags: Flags,
    /// The lines that say so; none: it is the default of the dialect.
    pub lines: Vec<&'a ReadLine>,
}

/// Looks `address` up. `is_source`: it is one of our own servers.
pub fn decide(loaded: &Loaded, address: IpAddr, port: u16, is_source: bool) -> Decision<'_> {
    let address = address.to_canonical();
    let sources: &[IpAddr] = if is_source { &[address] } else { &[] };
    let table = AccessTable::compile(&loaded.config.rules, sources);
    let lines = match loaded.dialect {
        Dialect::Chrony => allowing(loaded, address),
        Dialect::Auto | Dialect::Ntp => restricting(loaded, address, port, is_source),
    };
    Decision {
        flags: table.lookup(address, port),
        lines,
    }
}

/// The one line whose word about a block holds.
fn allowing(loaded: &Loaded, address: IpAddr) -> Vec<&ReadLine> {
    let ordering = loaded.lines.iter().filter_map(|line| match line.statement {
        Statement::Allow(order) => Some((line, order)),
        _ => None,
    });
    let (lines, orders): (Vec<&ReadLine>, Vec<Order>) = ordering.unzip();
    let block = allow::decide(&allow::compile(&orders), address);
    block.order.map(|order| lines[order]).into_iter().collect()
}

/// All lines about the block that holds.
fn restricting(loaded: &Loaded, address: IpAddr, port: u16, is_source: bool) -> Vec<&ReadLine> {
    let rules = &loaded.config.rules;
    let host = Prefix::host(address);
    let about = |rule: &Rule| {
        let (Rule::Restrict(who, _) | Rule::Unrestrict(who, _)) = *rule;
        who
    };
    let holds = rules.iter().map(about).filter(|who| match who {
        Who::Block { prefix, ntpport } => prefix.contains(address) && (!ntpport || port == 123),
        Who::Source => false,
    });
    let holds = holds.filter(|who| flags_of(rules, *who).is_some());
    let best = holds.max_by_key(|who| match who {
        Who::Block { prefix, ntpport } => (prefix.bits(), *ntpport),
        Who::Source => (0, false),
    });
    let has_own = rules.iter().map(about).any(|who| {
        matches!(who, Who::Block { prefix, .. } if prefix == host) && flags_of(rules, who).is_some()
    });
    let who = if is_source && !has_own && flags_of(rules, Who::Source).is_some() {
        Some(Who::Source)
    } else {
        best
    };
    let says = |line: &&ReadLine| match &line.statement {
        Statement::Access(rules) => rules.iter().any(|rule| Some(about(rule)) == who),
        _ => false,
    };
    loaded.lines.iter().filter(says).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::load_text;
    use std::path::Path;

    fn decided(
        text: &str,
        dialect: Dialect,
        address: &str,
        is_source: bool,
    ) -> (Flags, Vec<usize>) {
        let loaded = load_text(Path::new("x.conf"), text, dialect).expect(text);
        let decision = decide(&loaded, address.parse().unwrap(), 40_000, is_source);
        let lines = decision.lines.iter().map(|line| line.location.line);
        (decision.flags, lines.collect())
    }

    #[test]
    fn the_lines_that_count_are_named() {
        let ntp = "restrict default noquery\nrestrict 10.0.0.0/8 limited\nrestrict 10.0.0.0/8 kod\n\
                   restrict 10.1.0.0/16 ntpport ignore\nrestrict source\n";
        let at = |address, is_source| decided(ntp, Dialect::Ntp, address, is_source);
        assert_eq!(at("192.0.2.1", false), (Flags::NOQUERY, vec![1]));
        assert_eq!(
            at("10.1.2.3", false),
            (Flags::LIMITED | Flags::KOD, vec![2, 3])
        );
        assert_eq!(at("10.1.2.3", true), (Flags::NONE, vec![5]));
        assert_eq!(
            decided("", Dialect::Ntp, "::1", false),
            (Flags::NONE, vec![])
        );
    }

    #[test]
    fn of_allow_and_deny_the_one_line_that_counts_is_named() {
        let chrony = "allow 10.0.0.0/8\ndeny 10.1.0.0/16\nallow 192.168/16\n";
        let at = |address| decided(chrony, Dialect::Chrony, address, false);
        let denied = Flags::NOCLIENT | Flags::NOQUERY;
        assert_eq!(at("10.2.0.1"), (Flags::NOQUERY, vec![1]));
        assert_eq!(at("10.1.0.1"), (denied, vec![2]));
        assert_eq!(at("192.168.3.4"), (Flags::NOQUERY, vec![3]));
        assert_eq!(at("172.16.0.1"), (denied, vec![]));
    }
}

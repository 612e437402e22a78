//! The `restrict` rules compiled into a table: which flags apply to a sender.
//! First step of a request's way.
//!
//! ntpd keeps the rules sorted by address, then mask, both descending, rules for
//! `ntpport` before equal ones without, and takes the first that matches. With
//! masks that are prefixes (the only ones we accept) that is the longest prefix,
//! and nothing is inherited from shorter ones. So every address of a family
//! belongs to exactly one rule, and the table is the addresses at which the answer
//! changes, in order ([`Ranges`]).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::server::ranges::{Ranges, halves, whole};
use crate::server::rule::{Flags, Prefix, Rule, Who};

/// The source port that `ntpport` rules speak of.
const NTP_PORT: u16 = 123;

/// The rules, ready for lookup. Immutable: a change of the rules or of our
/// sources compiles a new one.
#[derive(Clone, Debug)]
pub struct AccessTable {
    v4: Ranges<u32, ByPort>,
    v6: Ranges<[u64; 2], ByPort>,
    listed: Vec<Restriction>,
}

/// What is said of a block of addresses, as ntpd lists it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Restriction {
    /// The block.
    pub prefix: Prefix,
    /// Of source port 123 alone.
    pub ntpport: bool,
    /// What is asked of whom it holds for.
    pub flags: Flags,
}

/// No more of them are kept for the list: an answer has no room for as many.
const LISTED_MAX: usize = 2048;

impl AccessTable {
    /// Compiles `rules` in their order. `sources` are the addresses of our
    /// present upstreams, to whom `restrict source` applies.
    ///
    /// Without a rule for everyone the default has no flags, as in ntpd.
    /// Takes O(n log n) for n rules.
    pub fn compile(rules: &[Rule], sources: &[IpAddr]) -> Self {
        let mut lines = Lines::default();
        let mut source_flags = None;
        for rule in rules {
            match *rule {
                Rule::Restrict(Who::Block { prefix, ntpport }, flags) => {
                    lines.push(prefix, ntpport, Change::Add(flags));
                }
                Rule::Unrestrict(Who::Block { prefix, ntpport }, flags) => {
                    lines.push(prefix, ntpport, Change::take(flags));
                }
                // As in ntpd, the last such line is the one that counts.
                Rule::Restrict(Who::Source, flags) => source_flags = Some(flags),
                Rule::Unrestrict(Who::Source, flags) if flags == Flags::NONE => {
                    source_flags = None;
                }
                Rule::Unrestrict(Who::Source, flags) => {
                    source_flags = source_flags.map(|now| without(now, flags));
                }
            }
        }
        let mut v4 = fold(lines.v4);
        let mut v6 = fold(lines.v6);
        if let Some(flags) = source_flags {
            for source in sources {
                match source.to_canonical() {
                    IpAddr::V4(v4_host) => add_host(&mut v4, u32::from(v4_host).into(), 32, flags),
                    IpAddr::V6(v6_host) => add_host(&mut v6, v6_host.into(), 128, flags),
                }
            }
        }
        let listed = list(&v4, |start| Ipv4Addr::from(start as u32).into());
        let listed = listed.chain(list(&v6, |start| Ipv6Addr::from(start).into()));
        Self {
            listed: listed.take(LISTED_MAX).collect(),
            v4: Ranges::new(
                sweep(&v4, 32)
                    .into_iter()
                    .map(|(start, answer)| (start as u32, answer)),
            ),
            v6: Ranges::new(
                sweep(&v6, 128)
                    .into_iter()
                    .map(|(start, answer)| (halves(start), answer)),
            ),
        }
    }

    /// The first of the blocks in ntpd's order: IPv4 before IPv6, by address descending,
    /// then by length, `ntpport` before others.
    pub fn restrictions(&self) -> &[Restriction] {
        &self.listed
    }

    /// The two tables that a look-up reads, for [`Ranges::lists`]: IPv4 and IPv6.
    pub fn tables(&self) -> (&Ranges<u32, impl Copy>, &Ranges<[u64; 2], impl Copy>) {
        (&self.v4, &self.v6)
    }

    /// The IPv4 addresses from which another answer holds, as numbers, ascending from zero.
    pub fn changes_v4(&self) -> impl Iterator<Item = (u128, ByPort)> {
        self.v4.iter().map(|(start, answer)| (start.into(), answer))
    }

    /// The same of IPv6. What it says of IPv4-mapped addresses is never asked.
    pub fn changes_v6(&self) -> impl Iterator<Item = (u128, ByPort)> {
        self.v6.iter().map(|(start, answer)| (whole(start), answer))
    }

    /// The flags for a packet from this address and port. IPv4-mapped IPv6
    /// addresses are IPv4.
    pub fn lookup(&self, address: IpAddr, source_port: u16) -> Flags {
        let by_port = match address {
            IpAddr::V4(v4) => self.v4.at(v4.into()),
            IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
                Some(v4) => self.v4.at(v4.into()),
                None => self.v6.at(halves(v6.into())),
            },
        };
        if source_port == NTP_PORT {
            by_port.ntp
        } else {
            by_port.other
        }
    }
}

impl Default for AccessTable {
    /// No rules: nobody is restricted.
    fn default() -> Self {
        Self::compile(&[], &[])
    }
}

/// The answer for a range of addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ByPort {
    /// For source port 123.
    pub ntp: Flags,
    /// For every other port.
    pub other: Flags,
}

/// What one line does to its entry.
#[derive(Clone, Copy, Debug)]
enum Change {
    Add(Flags),
    Take(Flags),
    Remove,
}

impl Change {
    fn take(flags: Flags) -> Self {
        if flags == Flags::NONE {
            Self::Remove
        } else {
            Self::Take(flags)
        }
    }

    fn apply(self, entry: &mut Option<Flags>) {
        match self {
            Self::Add(flags) => *entry = Some(entry.unwrap_or_default() | flags),
            Self::Take(flags) => *entry = entry.map(|now| without(now, flags)),
            Self::Remove => *entry = None,
        }
    }
}

fn without(flags: Flags, taken: Flags) -> Flags {
    Flags::from_bits(flags.bits() & !taken.bits())
}

/// One line: addresses as numbers, so that both families go the same way.
#[derive(Clone, Copy, Debug)]
struct Line {
    start: u128,
    len: u8,
    ntpport: bool,
    change: Change,
}

#[derive(Default)]
struct Lines {
    v4: Vec<Line>,
    v6: Vec<Line>,
}

impl Lines {
    fn push(&mut self, prefix: Prefix, ntpport: bool, change: Change) {
        let line = |start, len| Line {
            start,
            len,
            ntpport,
            change,
        };
        match prefix.address() {
            IpAddr::V4(v4) => self.v4.push(line(u32::from(v4).into(), prefix.bits())),
            IpAddr::V6(v6) => match mapped(v6, prefix.bits()) {
                Some((start, len)) => self.v4.push(line(start, len)),
                None => self.v6.push(line(v6.into(), prefix.bits())),
            },
        }
    }
}

/// An IPv6 block that holds only IPv4-mapped addresses, as an IPv4 block.
fn mapped(address: Ipv6Addr, len: u8) -> Option<(u128, u8)> {
    let v4 = address.to_ipv4_mapped()?;
    Some((u32::from(v4).into(), len.checked_sub(96)?))
}

/// All rules for one block together.
#[derive(Clone, Copy, Debug)]
struct Entry {
    start: u128,
    len: u8,
    plain: Option<Flags>,
    ntpport: Option<Flags>,
}

/// Joins the lines of each block in the order they were written. Sorted by
/// start, wider blocks first; the first entry is the default.
fn fold(mut lines: Vec<Line>) -> Vec<Entry> {
    // A stable sort keeps the order of lines for the same block.
    lines.sort_by_key(|line| (line.start, line.len));
    let mut entries = vec![Entry {
        start: 0,
        len: 0,
        plain: None,
        ntpport: None,
    }];
    for line in lines {
        let last = entries.last().expect("starts with the default");
        if (last.start, last.len) != (line.start, line.len) {
            entries.push(Entry {
                start: line.start,
                len: line.len,
                plain: None,
                ntpport: None,
            });
        }
        let entry = entries.last_mut().expect("starts with the default");
        line.change.apply(if line.ntpport {
            &mut entry.ntpport
        } else {
            &mut entry.plain
        });
    }
    // The default can't be removed, only emptied.
    entries[0].plain.get_or_insert_default();
    entries
}

/// `restrict source` for one address. An entry of its own is more specific.
fn add_host(entries: &mut Vec<Entry>, start: u128, len: u8, flags: Flags) {
    match entries.binary_search_by_key(&(start, len), |entry| (entry.start, entry.len)) {
        Ok(at) => {
            let entry = &mut entries[at];
            if entry.plain.is_none() && entry.ntpport.is_none() {
                entry.plain = Some(flags);
            }
        }
        Err(at) => entries.insert(
            at,
            Entry {
                start,
                len,
                plain: Some(flags),
                ntpport: None,
            },
        ),
    }
}

/// One family's entries as ntpd lists them.
fn list(entries: &[Entry], address: impl Fn(u128) -> IpAddr) -> impl Iterator<Item = Restriction> {
    entries.iter().rev().flat_map(move |entry| {
        let prefix = Prefix::new(address(entry.start), entry.len);
        let both = [(true, entry.ntpport), (false, entry.plain)];
        both.into_iter().filter_map(move |(ntpport, flags)| {
            Some(Restriction {
                prefix: prefix?,
                ntpport,
                flags: flags?,
            })
        })
    })
}

/// The addresses (of `width` bits) where the answer changes, ascending, with
/// the answer from there on. The first is zero.
fn sweep(entries: &[Entry], width: u8) -> Vec<(u128, ByPort)> {
    let highest = u128::MAX >> (128 - u32::from(width));
    let mut changes: Vec<(u128, ByPort)> = Vec::with_capacity(entries.len() * 2);
    let mut change = |start: u128, answer: ByPort| {
        // What begins where a narrower block ends or starts never applies.
        changes.pop_if(|(last, _)| *last == start);
        if changes.last().is_none_or(|(_, last)| *last != answer) {
            changes.push((start, answer));
        }
    };
    let everyone = entries[0].plain.unwrap_or_default();
    let mut answer = ByPort {
        ntp: everyone,
        other: everyone,
    };
    // The blocks around the present one, widest first: last address, and the
    // answer that holds around them.
    let mut around: Vec<(u128, ByPort)> = Vec::with_capacity(usize::from(width) + 1);
    for entry in entries {
        while let Some((last, outside)) = around.pop_if(|(last, _)| *last < entry.start) {
            answer = outside;
            change(last + 1, answer);
        }
        let last = entry.start | (highest.checked_shr(entry.len.into()).unwrap_or(0));
        around.push((last, answer));
        answer = ByPort {
            ntp: entry.ntpport.or(entry.plain).unwrap_or(answer.ntp),
            other: entry.plain.unwrap_or(answer.other),
        };
        change(entry.start, answer);
    }
    while let Some((last, outside)) = around.pop() {
        if last < highest {
            change(last + 1, outside);
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn prefix(text: &str) -> Prefix {
        let (address, len) = text.split_once('/').expect("a slash");
        Prefix::new(
            address.parse().expect("an address"),
            len.parse().expect("a length"),
        )
        .expect("short enough")
    }

    fn block(text: &str) -> Who {
        Who::Block {
            prefix: prefix(text),
            ntpport: false,
        }
    }

    fn ntpport(text: &str) -> Who {
        Who::Block {
            prefix: prefix(text),
            ntpport: true,
        }
    }

    fn look(table: &AccessTable, address: &str) -> Flags {
        table.lookup(address.parse().expect("an address"), 40000)
    }

    #[test]
    fn without_rules_nobody_is_restricted() {
        let table = AccessTable::default();
        for address in ["0.0.0.0", "255.255.255.255", "::", "2001:db8::1"] {
            assert_eq!(look(&table, address), Flags::NONE);
        }
    }

    #[test]
    fn the_longest_prefix_wins_and_inherits_nothing() {
        let table = AccessTable::compile(
            &[
                Rule::Restrict(block("0.0.0.0/0"), Flags::IGNORE),
                Rule::Restrict(block("10.0.0.0/8"), Flags::LIMITED),
                Rule::Restrict(block("10.1.0.0/16"), Flags::KOD),
                Rule::Restrict(block("10.1.255.255/32"), Flags::NONE),
                Rule::Restrict(block("255.255.255.0/24"), Flags::NOSERVE),
            ],
            &[],
        );
        assert_eq!(look(&table, "9.255.255.255"), Flags::IGNORE);
        assert_eq!(look(&table, "10.0.255.255"), Flags::LIMITED);
        assert_eq!(look(&table, "10.1.0.0"), Flags::KOD);
        assert_eq!(look(&table, "10.1.255.254"), Flags::KOD);
        assert_eq!(look(&table, "10.1.255.255"), Flags::NONE);
        assert_eq!(look(&table, "10.2.0.0"), Flags::LIMITED);
        assert_eq!(look(&table, "11.0.0.0"), Flags::IGNORE);
        assert_eq!(look(&table, "255.255.255.255"), Flags::NOSERVE);
        assert_eq!(look(&table, "2001:db8::1"), Flags::NONE);
    }

    #[test]
    fn the_list_is_in_ntpds_order() {
        let rules = [
            Rule::Restrict(block("10.0.0.0/8"), Flags::KOD),
            Rule::Restrict(block("10.0.0.0/16"), Flags::NOSERVE),
            Rule::Restrict(ntpport("10.0.0.0/16"), Flags::NOQUERY),
            Rule::Restrict(block("192.0.2.0/24"), Flags::IGNORE),
            Rule::Unrestrict(block("192.0.2.0/24"), Flags::NONE),
            Rule::Restrict(block("::1/128"), Flags::NONE),
            Rule::Restrict(Who::Source, Flags::NOTRUST),
        ];
        let source = "172.16.0.1".parse().expect("an address");
        let table = AccessTable::compile(&rules, &[source]);
        let said = table.restrictions().iter();
        let said: Vec<_> = said
            .map(|r| format!("{} {} {}", r.prefix, r.ntpport, r.flags))
            .collect();
        let expected = [
            "172.16.0.1/32 false notrust",
            "10.0.0.0/16 true noquery",
            "10.0.0.0/16 false noserve",
            "10.0.0.0/8 false kod",
            "0.0.0.0/0 false ",
            "::1/128 false ",
            "::/0 false ",
        ];
        assert_eq!(said, expected);
    }

    #[test]
    fn ntpport_is_more_specific_among_equals_only() {
        let table = AccessTable::compile(
            &[
                Rule::Restrict(ntpport("10.0.0.0/8"), Flags::NOSERVE),
                Rule::Restrict(block("10.0.0.0/8"), Flags::LIMITED),
                Rule::Restrict(block("10.1.0.0/16"), Flags::KOD),
                Rule::Restrict(ntpport("10.1.2.0/24"), Flags::FLAKE),
            ],
            &[],
        );
        let at = |address: &str, port| table.lookup(address.parse().expect("an address"), port);
        assert_eq!(at("10.0.0.1", 123), Flags::NOSERVE);
        assert_eq!(at("10.0.0.1", 124), Flags::LIMITED);
        assert_eq!(at("10.1.0.1", 123), Flags::KOD);
        assert_eq!(at("10.1.2.1", 123), Flags::FLAKE);
        assert_eq!(at("10.1.2.1", 1024), Flags::KOD);
    }

    #[test]
    fn equal_blocks_add_up_and_unrestrict_takes_away() {
        let who = block("192.0.2.0/24");
        let mut rules = vec![
            Rule::Restrict(who, Flags::LIMITED),
            Rule::Restrict(who, Flags::KOD | Flags::NOQUERY),
            Rule::Unrestrict(who, Flags::KOD),
        ];
        let table = AccessTable::compile(&rules, &[]);
        assert_eq!(look(&table, "192.0.2.7"), Flags::LIMITED | Flags::NOQUERY);

        rules.push(Rule::Restrict(block("0.0.0.0/0"), Flags::NOSERVE));
        rules.push(Rule::Unrestrict(who, Flags::NONE));
        let table = AccessTable::compile(&rules, &[]);
        assert_eq!(look(&table, "192.0.2.7"), Flags::NOSERVE);

        rules.push(Rule::Restrict(who, Flags::FLAKE));
        rules.push(Rule::Unrestrict(block("0.0.0.0/0"), Flags::NONE));
        let table = AccessTable::compile(&rules, &[]);
        assert_eq!(look(&table, "192.0.2.7"), Flags::FLAKE);
        assert_eq!(look(&table, "192.0.3.7"), Flags::NONE);
    }

    #[test]
    fn restrict_source_opens_for_our_sources_but_not_over_a_line_of_their_own() {
        let rules = [
            Rule::Restrict(block("0.0.0.0/0"), Flags::IGNORE),
            Rule::Restrict(block("::/0"), Flags::IGNORE),
            Rule::Restrict(Who::Source, Flags::NOSERVE),
            Rule::Restrict(Who::Source, Flags::NOQUERY),
            Rule::Restrict(block("192.0.2.9/32"), Flags::LIMITED),
            Rule::Restrict(ntpport("192.0.2.10/32"), Flags::KOD),
        ];
        let sources = [
            "192.0.2.8",
            "192.0.2.8",
            "192.0.2.9",
            "192.0.2.10",
            "::ffff:192.0.2.11",
            "2001:db8::8",
        ]
        .map(|a| a.parse().expect("an address"));
        let table = AccessTable::compile(&rules, &sources);
        assert_eq!(look(&table, "192.0.2.8"), Flags::NOQUERY);
        assert_eq!(look(&table, "192.0.2.9"), Flags::LIMITED);
        assert_eq!(look(&table, "192.0.2.10"), Flags::IGNORE);
        assert_eq!(look(&table, "192.0.2.11"), Flags::NOQUERY);
        assert_eq!(look(&table, "2001:db8::8"), Flags::NOQUERY);
        assert_eq!(look(&table, "2001:db8::9"), Flags::IGNORE);
        assert_eq!(
            look(&AccessTable::compile(&rules, &[]), "192.0.2.8"),
            Flags::IGNORE
        );
    }

    #[test]
    fn mapped_addresses_are_ipv4() {
        let table = AccessTable::compile(
            &[
                Rule::Restrict(block("::/0"), Flags::IGNORE),
                Rule::Restrict(block("192.0.2.0/24"), Flags::LIMITED),
                Rule::Restrict(block("::ffff:198.51.100.0/120"), Flags::KOD),
            ],
            &[],
        );
        assert_eq!(look(&table, "::ffff:192.0.2.1"), Flags::LIMITED);
        assert_eq!(look(&table, "::ffff:203.0.113.1"), Flags::NONE);
        assert_eq!(look(&table, "198.51.100.1"), Flags::KOD);
        assert_eq!(look(&table, "::1"), Flags::IGNORE);
    }

    #[test]
    fn many_rules_compile_and_are_found() {
        // Every second /24 below 100.0.0.0/8 and every second /48 below 2001:d00::/24.
        let mut rules = Vec::new();
        for n in 0..1 << 15 {
            let v4 = IpAddr::V4((100 << 24 | n << 9).into());
            let v6 = IpAddr::V6((0x2001_0d00 << 96 | u128::from(n) << 81).into());
            for (address, len) in [(v4, 24), (v6, 48)] {
                let prefix = Prefix::new(address, len).expect("short enough");
                let who = Who::Block {
                    prefix,
                    ntpport: false,
                };
                rules.push(Rule::Restrict(who, Flags::from_bits(n as u16 | 1)));
            }
        }
        let table = AccessTable::compile(&rules, &[]);
        for n in (0..1_u32 << 15).step_by(7) {
            let flags = Flags::from_bits(n as u16 | 1);
            let v4 = 100 << 24 | n << 9 | 77;
            assert_eq!(table.lookup(IpAddr::V4(v4.into()), 1), flags);
            assert_eq!(
                table.lookup(IpAddr::V4((v4 ^ 1 << 8).into()), 1),
                Flags::NONE
            );
            let v6 = 0x2001_0d00 << 96 | u128::from(n) << 81 | 77;
            assert_eq!(table.lookup(IpAddr::V6(v6.into()), 1), flags);
            assert_eq!(
                table.lookup(IpAddr::V6((v6 ^ 1 << 80).into()), 1),
                Flags::NONE
            );
        }
    }

    /// ntpd's list, literally: sorted by address, then mask, both descending,
    /// ntpport first; the first match wins.
    #[derive(Default)]
    struct NaiveList {
        entries: Vec<NaiveEntry>,
    }

    #[derive(Clone, Copy)]
    struct NaiveEntry {
        address: u128,
        mask: u128,
        ntpport: bool,
        flags: Flags,
    }

    impl NaiveList {
        fn find(&mut self, who: NaiveEntry) -> Option<&mut NaiveEntry> {
            self.entries
                .iter_mut()
                .find(|e| (e.address, e.mask, e.ntpport) == (who.address, who.mask, who.ntpport))
        }

        fn restrict(&mut self, who: NaiveEntry) {
            match self.find(who) {
                Some(entry) => entry.flags |= who.flags,
                None => self.entries.push(who),
            }
        }

        fn unrestrict(&mut self, who: NaiveEntry) {
            if who.flags != Flags::NONE {
                if let Some(entry) = self.find(who) {
                    entry.flags = without(entry.flags, who.flags);
                }
            } else if who.mask == 0 && !who.ntpport {
                self.find(who).expect("the default").flags = Flags::NONE;
            } else {
                self.entries.retain(|e| {
                    (e.address, e.mask, e.ntpport) != (who.address, who.mask, who.ntpport)
                });
            }
        }

        fn lookup(&mut self, address: u128, port: u16) -> NaiveEntry {
            self.entries
                .sort_by_key(|e| std::cmp::Reverse((e.address, e.mask, e.ntpport)));
            *self
                .entries
                .iter()
                .find(|e| address & e.mask == e.address && (!e.ntpport || port == NTP_PORT))
                .expect("the default")
        }
    }

    fn naive(rules: &[Rule], sources: &[IpAddr], address: IpAddr, port: u16) -> Flags {
        // One list per family; mapping IPv4 into IPv6 keeps order and masks.
        let number = |a: IpAddr| match a.to_canonical() {
            IpAddr::V4(v4) => (true, u128::from(u32::from(v4))),
            IpAddr::V6(v6) => (false, u128::from(v6)),
        };
        let (want_v4, address) = number(address);
        let width = if want_v4 { 32 } else { 128 };
        let mask = |len: u8| {
            let all = u128::MAX >> (128 - width);
            all & !all.checked_shr(len.into()).unwrap_or(0)
        };
        let mut list = NaiveList::default();
        list.restrict(NaiveEntry {
            address: 0,
            mask: 0,
            ntpport: false,
            flags: Flags::NONE,
        });
        let mut source_flags = None;
        for rule in rules {
            let (Rule::Restrict(who, flags) | Rule::Unrestrict(who, flags)) = *rule;
            let adds = matches!(rule, Rule::Restrict(..));
            match who {
                Who::Block { prefix, ntpport } if prefix.address().is_ipv4() == want_v4 => {
                    let entry = NaiveEntry {
                        address: number(prefix.address()).1,
                        mask: mask(prefix.bits()),
                        ntpport,
                        flags,
                    };
                    if adds {
                        list.restrict(entry);
                    } else {
                        list.unrestrict(entry);
                    }
                }
                Who::Block { .. } => {}
                Who::Source if adds => source_flags = Some(flags),
                Who::Source if flags == Flags::NONE => source_flags = None,
                Who::Source => source_flags = source_flags.map(|f| without(f, flags)),
            }
        }
        if let Some(flags) = source_flags {
            for source in sources {
                let (is_v4, source) = number(*source);
                let host = mask(width as u8);
                if is_v4 == want_v4 && list.lookup(source, NTP_PORT).mask != host {
                    list.restrict(NaiveEntry {
                        address: source,
                        mask: host,
                        ntpport: false,
                        flags,
                    });
                }
            }
        }
        list.lookup(address, port).flags
    }

    /// Addresses that often share prefixes and often lie at their ends.
    fn any_address() -> impl Strategy<Value = IpAddr> {
        let octet = || prop_oneof![Just(0_u8), Just(1), Just(127), Just(128), Just(255)];
        prop_oneof![
            [octet(), octet(), octet(), octet()].prop_map(IpAddr::from),
            ([octet(), octet()], [octet(), octet()]).prop_map(|(high, low)| {
                let mut octets = [high[1]; 16];
                octets[0] = high[0] & 0xfe | 0x20;
                octets[14..].copy_from_slice(&low);
                IpAddr::from(octets)
            }),
            any::<u32>().prop_map(|v4| IpAddr::V4(v4.into())),
        ]
    }

    fn any_rule() -> impl Strategy<Value = Rule> {
        let flags = (0_u16..1 << 6).prop_map(Flags::from_bits);
        let who = (any_address(), 0_u8..=128, any::<bool>(), 0_u8..10).prop_map(
            |(address, len, ntpport, kind)| {
                let width = if address.is_ipv4() { 32 } else { 128 };
                let len = if len % 3 == 0 {
                    width
                } else {
                    len % (width + 1)
                };
                match kind {
                    0 => Who::Source,
                    _ => Who::Block {
                        prefix: Prefix::new(address, len).expect("short enough"),
                        ntpport,
                    },
                }
            },
        );
        (who, flags, 0_u8..6, any::<bool>()).prop_map(|(who, flags, kind, bare)| match kind {
            0 if bare => Rule::Unrestrict(who, Flags::NONE),
            0 => Rule::Unrestrict(who, flags),
            _ => Rule::Restrict(who, flags),
        })
    }

    proptest! {
        #[test]
        fn agrees_with_the_naive_scan(
            rules in prop::collection::vec(any_rule(), 0..60),
            sources in prop::collection::vec(any_address(), 0..4),
            addresses in prop::collection::vec(any_address(), 1..20),
            port in prop_oneof![Just(NTP_PORT), any::<u16>()],
        ) {
            let table = AccessTable::compile(&rules, &sources);
            // Ends of the rules' blocks are where mistakes would show.
            let ends = rules.iter().filter_map(|rule| {
                let (Rule::Restrict(who, _) | Rule::Unrestrict(who, _)) = rule;
                match who {
                    Who::Block { prefix, .. } => Some(prefix.address()),
                    Who::Source => None,
                }
            });
            for address in ends.chain(addresses.iter().copied()).chain(sources.iter().copied()) {
                let before = match address {
                    IpAddr::V4(v4) => IpAddr::V4(u32::from(v4).wrapping_sub(1).into()),
                    IpAddr::V6(v6) => IpAddr::V6(u128::from(v6).wrapping_sub(1).into()),
                };
                for address in [address, before] {
                    prop_assert_eq!(
                        table.lookup(address, port),
                        naive(&rules, &sources, address, port),
                        "{} port {}", address, port
                    );
                }
            }
        }
    }
}

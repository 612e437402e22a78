//! The access table as the BPF program reads it: an octet of the sender's address chooses
//! one of the 256 entries of a row, and that holds either the flags that apply to him or
//! the row for his next octet. So a look-up takes one to four loads for IPv4 and a few
//! more for IPv6, however many rules there are. First step of a request's way in the XDP
//! tier, as `server/access` is in the sockets'.
//!
//! Rows of the same content are one row, and those that end the walk and are of few runs
//! are one line of cache each ([`Line`]). So those of a million prefixes fit, more or less,
//! into a CPU's cache.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::iter::Peekable;
use std::net::IpAddr;

use crate::server::access::{AccessTable, ByPort};
use crate::xdp::layout::{
    CLASSES, IS_LINE, IS_ROW, LINE_RUNS_MAX, LINES_PER_ROW, Line, ODD_SOURCE, ROOT_V4, ROOT_V6,
    Row, access_entry,
};

/// Entries of a row.
const ROW_LEN: u32 = 256;
/// Where each family begins, and the classes.
const FIXED: u32 = 3;

/// A compiled [`AccessTable`], in a form that takes memory by its rules.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rows {
    /// Those at their places.
    rows: Vec<Runs>,
    /// By number; they come after the rows.
    lines: Vec<Runs>,
    /// What classes stand for, by number.
    classes: Vec<u32>,
}

/// A row, as runs of equal entries: ascending from zero, and each differs from the next.
type Runs = Box<[Run]>;

/// From one value of the octet on, this entry.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Run {
    from: u8,
    entry: u32,
}

impl Rows {
    /// Walks the ranges of `access` once. A million of them take a second, or a few for IPv6.
    /// What comes from `odd` addresses passes, whatever the rules say.
    pub fn new(access: &AccessTable, odd: &BTreeSet<IpAddr>) -> Self {
        let mut places = Places::default();
        let mut root = |changes: &mut dyn Iterator<Item = (u128, ByPort)>, width: u32| {
            let odd = odd.iter().filter_map(|ip| match ip {
                IpAddr::V4(v4) => (width == 32).then_some(u32::from(*v4).into()),
                IpAddr::V6(v6) => (width == 128).then_some(u128::from(*v6)),
            });
            let changes =
                changes.map(|(start, answer)| (start, access_entry(answer.ntp, answer.other)));
            let mut builder = Builder {
                changes: overlaid(changes, odd.collect()).peekable(),
                present: 0,
                places: &mut places,
            };
            builder.row(0, width - 8)
        };
        let v4 = root(&mut access.changes_v4(), 32);
        let v6 = root(&mut access.changes_v6(), 128);
        let mut rows = vec![Runs::default(); (FIXED + places.rows) as usize];
        let mut lines = vec![Runs::default(); places.lines as usize];
        for (runs, entry) in places.entries {
            match entry & IS_LINE {
                0 => rows[(entry & !IS_ROW) as usize] = runs,
                _ => lines[(entry & !IS_LINE) as usize] = runs,
            }
        }
        rows[ROOT_V4 as usize] = v4;
        rows[ROOT_V6 as usize] = v6;
        rows[CLASSES as usize] = places.classes.runs();
        let classes = places.classes.entries;
        Self {
            rows,
            lines,
            classes,
        }
    }

    /// How many rows they are.
    pub fn count(&self) -> u32 {
        // An entry has no more bits for a place, and no machine the memory.
        let count = self.rows.len() + self.lines.len().div_ceil(LINES_PER_ROW);
        u32::try_from(count).expect("less than 2^30")
    }

    /// How many rows to make room for at start: one for each prefix that the operator
    /// speaks of (`prefixes`), and twice what there are in any case.
    pub fn room(&self, prefixes: u32) -> u32 {
        self.count().saturating_mul(2).max(prefixes)
    }

    /// Do they fit in `room` rows?
    ///
    /// # Errors
    /// [`TooMany`], to be told to the operator.
    pub fn fit(&self, room: u32) -> Result<(), TooMany> {
        let needed = self.count();
        if needed <= room {
            Ok(())
        } else {
            Err(TooMany { needed, room })
        }
    }

    /// Writes them over the first of `rows`.
    ///
    /// # Panics
    /// Unless they [`fit`](Self::fit).
    pub fn write(&self, rows: &mut [Row]) {
        let (rows, rest) = rows.split_at_mut(self.rows.len());
        // Where in the table lines begin.
        let first = (rows.len() * LINES_PER_ROW) as u32;
        for (runs, row) in self.rows.iter().zip(rows) {
            let ends = runs[1..].iter().map(|next| next.from.into());
            for (run, end) in runs.iter().zip(ends.chain([row.len()])) {
                let moved = if run.entry & IS_LINE == 0 { 0 } else { first };
                row[usize::from(run.from)..end].fill(run.entry + moved);
            }
        }
        let (places, _) = rest.as_flattened_mut().as_chunks_mut::<16>();
        for (runs, place) in self.lines.iter().zip(places) {
            let line = self.line(runs);
            let (words, _) = line.as_chunks();
            *place = std::array::from_fn(|n| u32::from_ne_bytes(words[n]));
        }
    }

    fn line(&self, runs: &Runs) -> Line {
        let mut line = [0; 64];
        let (starts, rest) = line.split_at_mut(32);
        let (classes, before) = rest.split_at_mut(LINE_RUNS_MAX);
        let mut words = [0_u64; 4];
        for (run, class) in runs.iter().zip(classes) {
            words[usize::from(run.from >> 6)] |= 1 << (run.from & 63);
            let of_it = self.classes.iter().position(|entry| *entry == run.entry);
            *class = of_it.expect("it has one") as u8;
        }
        let mut count = 0;
        for (n, word) in words.into_iter().enumerate() {
            starts[n * 8..n * 8 + 8].copy_from_slice(&word.to_ne_bytes());
            before[n] = count;
            count += word.count_ones() as u8;
        }
        line
    }
}

/// Which entry leads to the rows and lines that are complete.
#[derive(Default)]
struct Places {
    entries: HashMap<Runs, u32>,
    /// How many of them are rows, and lines.
    rows: u32,
    lines: u32,
    classes: Classes,
}

impl Places {
    fn of(&mut self, runs: Runs) -> u32 {
        if let Some(entry) = self.entries.get(&runs) {
            return *entry;
        }
        let entry = if self.classes.make_line(&runs) {
            self.lines += 1;
            IS_LINE | (self.lines - 1)
        } else {
            self.rows += 1;
            IS_ROW | (FIXED + self.rows - 1)
        };
        self.entries.insert(runs, entry);
        entry
    }
}

/// The flags that lines name.
#[derive(Default)]
struct Classes {
    entries: Vec<u32>,
}

impl Classes {
    /// Has classes for all of a line, if it can be one.
    fn make_line(&mut self, runs: &Runs) -> bool {
        let ends = runs.iter().all(|run| run.entry & (IS_ROW | IS_LINE) == 0);
        if !ends || runs.len() > LINE_RUNS_MAX {
            return false;
        }
        runs.iter().all(|run| {
            let known = self.entries.contains(&run.entry);
            let room = self.entries.len() < ROW_LEN as usize;
            if !known && room {
                self.entries.push(run.entry);
            }
            known || room
        })
    }

    fn runs(&self) -> Runs {
        let none = [Run { from: 0, entry: 0 }];
        let all = self.entries.iter().enumerate();
        let all = all.map(|(class, entry)| Run {
            from: class as u8,
            entry: *entry,
        });
        if self.entries.is_empty() {
            none.into()
        } else {
            all.collect()
        }
    }
}

/// `changes`, but [`ODD_SOURCE`] for the addresses `odd`, which ascend.
fn overlaid(
    changes: impl Iterator<Item = (u128, u32)>,
    odd: Vec<u128>,
) -> impl Iterator<Item = (u128, u32)> {
    let mut changes = changes.peekable();
    let marks = odd.iter().flat_map(|address| {
        let next = address.checked_add(1);
        let ends = next.filter(|next| odd.binary_search(next).is_err());
        [Some((*address, true)), ends.map(|end| (end, false))]
    });
    let mut marks = marks.flatten().collect::<Vec<_>>().into_iter().peekable();
    let (mut entry, mut is_odd) = (0, false);
    std::iter::from_fn(move || {
        let change = changes.peek().map(|(start, _)| *start);
        let mark = marks.peek().map(|(start, _)| *start);
        let start = change.into_iter().chain(mark).min()?;
        if let Some((_, new)) = changes.next_if(|(at, _)| *at == start) {
            entry = new;
        }
        if let Some((_, new)) = marks.next_if(|(at, _)| *at == start) {
            is_odd = new;
        }
        Some((start, if is_odd { ODD_SOURCE } else { entry }))
    })
}

/// More rules than there was room made for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooMany {
    /// Rows that they take.
    pub needed: u32,
    /// Rows that there are.
    pub room: u32,
}

impl fmt::Display for TooMany {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { needed, room } = self;
        write!(
            f,
            "the access rules and this host's addresses take {needed} rows of the XDP table, \
             which has had room for {room} since the start: restart ptntp, with `prefixes {needed}` or more on its \
             `xdp` line"
        )
    }
}

impl std::error::Error for TooMany {}

struct Builder<'a, I: Iterator> {
    /// The addresses where the entry changes that are still to come.
    changes: Peekable<I>,
    /// The entry of the change before those.
    present: u32,
    /// The rows that are complete.
    places: &'a mut Places,
}

impl<I: Iterator<Item = (u128, u32)>> Builder<'_, I> {
    /// The row for the addresses from `base` on, 2^`bits` for each entry.
    fn row(&mut self, base: u128, bits: u32) -> Runs {
        let mut runs: Vec<Run> = Vec::new();
        let mut octet = 0;
        while octet < ROW_LEN {
            let first = base + (u128::from(octet) << bits);
            let last = first | ((1 << bits) - 1);
            while let Some((_, entry)) = self.changes.next_if(|(start, _)| *start <= first) {
                self.present = entry;
            }
            // Rules may differ in what makes no difference here.
            while let Some(_same) = self.changes.next_if(|(_, entry)| *entry == self.present) {}
            let (entry, next) = match self.changes.peek() {
                Some((start, _)) if *start <= last => {
                    let runs = self.row(first, bits - 8);
                    (self.places.of(runs), octet + 1)
                }
                Some((start, _)) => {
                    let next = (start - base) >> bits;
                    (self.present, next.min(ROW_LEN.into()) as u32)
                }
                None => (self.present, ROW_LEN),
            };
            if runs.last().is_none_or(|run| run.entry != entry) {
                let from = octet as u8;
                runs.push(Run { from, entry });
            }
            octet = next;
        }
        runs.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::sync::{LazyLock, Mutex, PoisonError};

    use crate::dice::Dice;
    use crate::server::rule::{Flags, Prefix, Rule, Who};
    use crate::xdp::layout::OTHER_PORTS_SHIFT;
    use proptest::prelude::*;

    const NONE: BTreeSet<IpAddr> = BTreeSet::new();

    /// What the program finds for a sender by his address and port, by its own steps: bits
    /// in the order of `ACCESS_FLAGS`. IPv4-mapped addresses, which no network carries, are
    /// IPv4 as in [`AccessTable::lookup`].
    fn lookup(rows: &[Row], address: IpAddr, port: u16) -> u32 {
        let (root, octets) = match address.to_canonical() {
            IpAddr::V4(v4) => (ROOT_V4, &v4.octets()[..]),
            IpAddr::V6(v6) => (ROOT_V6, &v6.octets()[..]),
        };
        let mut entry = IS_ROW | root;
        for octet in octets.iter().map(|octet| usize::from(*octet)) {
            if entry & IS_LINE != 0 {
                let number = (entry & !IS_LINE) as usize;
                let row = &rows[number / LINES_PER_ROW];
                let line = &row[number % LINES_PER_ROW * 16..][..16];
                let line: Vec<u8> = line.iter().flat_map(|word| word.to_ne_bytes()).collect();
                let begins = |n: &usize| line[n / 8] >> (n % 8) & 1 == 1;
                let word = octet / 64;
                let before = (0..word * 64).filter(begins).count();
                assert_eq!(usize::from(line[60 + word]), before);
                let run = (0..=octet).filter(begins).count() - 1;
                entry = rows[CLASSES as usize][usize::from(line[32 + run])];
            } else if entry & IS_ROW != 0 {
                entry = rows[(entry & !IS_ROW) as usize][octet];
            }
        }
        let ours = if port == 123 {
            entry
        } else {
            entry >> OTHER_PORTS_SHIFT
        };
        ours & 0xff
    }

    /// Memory that keeps what was last written there, and has enough in it to spoil the
    /// next test.
    static MEMORY: LazyLock<Mutex<Vec<Row>>> =
        LazyLock::new(|| Mutex::new(vec![[IS_ROW; 256]; 8000]));

    /// Writes what `rules` come to and hands it to `look`. All of the first and last few
    /// addresses of each rule's block and beside it are compared before.
    fn with_tables(rules: &[Rule], sources: &[IpAddr], look: impl FnOnce(&AccessTable, &[Row])) {
        let access = AccessTable::compile(rules, sources);
        let encoded = Rows::new(&access, &NONE);
        let mut memory = MEMORY.lock().unwrap_or_else(PoisonError::into_inner);
        encoded.write(&mut memory);
        let blocks = rules.iter().filter_map(|rule| match rule {
            Rule::Restrict(Who::Block { prefix, .. }, _)
            | Rule::Unrestrict(Who::Block { prefix, .. }, _) => Some(*prefix),
            _ => None,
        });
        let hosts = sources.iter().map(|source| Prefix::host(*source));
        for prefix in blocks.chain(hosts) {
            for address in ends(prefix) {
                agree(&access, &memory, address);
            }
        }
        look(&access, &memory);
    }

    fn bits(flags: Flags) -> u32 {
        access_entry(flags, Flags::NONE)
    }

    #[track_caller]
    fn agree(access: &AccessTable, rows: &[Row], address: IpAddr) {
        for port in [123, 124, 50000] {
            let (here, there) = (lookup(rows, address, port), access.lookup(address, port));
            assert_eq!(here, bits(there), "{address} port {port}: {there}");
        }
    }

    /// The first and the last address of a block, and their neighbours.
    fn ends(prefix: Prefix) -> Vec<IpAddr> {
        let around = [-1_i128, 0, 1];
        match prefix.address() {
            IpAddr::V4(v4) => {
                let first = u32::from(v4);
                let last = first | u32::MAX.checked_shr(prefix.bits().into()).unwrap_or(0);
                let all = around.map(|by| [first, last].map(|end| end.wrapping_add(by as u32)));
                let all = all.as_flattened().iter();
                all.map(|end| Ipv4Addr::from(*end).into()).collect()
            }
            IpAddr::V6(v6) => {
                let first = u128::from(v6);
                let last = first | u128::MAX.checked_shr(prefix.bits().into()).unwrap_or(0);
                let all = around.map(|by| [first, last].map(|end| end.wrapping_add(by as u128)));
                let all = all.as_flattened().iter();
                all.map(|end| Ipv6Addr::from(*end).into()).collect()
            }
        }
    }

    fn restrict(prefix: &str, flags: Flags) -> Rule {
        let (address, len) = prefix.split_once('/').expect("a slash");
        let address = address.parse().expect("an address");
        let prefix = Prefix::new(address, len.parse().expect("a length")).expect("short enough");
        let ntpport = false;
        Rule::Restrict(Who::Block { prefix, ntpport }, flags)
    }

    #[test]
    fn nobody_is_restricted_without_rules() {
        with_tables(&[], &[], |access, rows| {
            for address in [
                "0.0.0.0",
                "255.255.255.255",
                "::",
                "ffff::1",
                "::ffff:10.0.0.1",
            ] {
                agree(access, rows, address.parse().expect("an address"));
            }
        });
        assert_eq!(Rows::new(&AccessTable::default(), &NONE).count(), FIXED);
    }

    #[test]
    fn the_first_and_the_last_address_have_rules_of_their_own() {
        let rules = [
            restrict("0.0.0.0/0", Flags::LIMITED),
            restrict("0.0.0.0/32", Flags::IGNORE),
            restrict("255.255.255.255/32", Flags::KOD),
            restrict("255.255.254.0/24", Flags::FLAKE),
            restrict("::/0", Flags::NOTRUST),
            restrict("::/128", Flags::IGNORE),
            restrict(
                "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128",
                Flags::NOCLIENT,
            ),
            restrict("fffe::/16", Flags::VERSION),
        ];
        with_tables(&rules, &[], |_, rows| {
            let look = |address: &str| lookup(rows, address.parse().expect("an address"), 1);
            assert_eq!(look("0.0.0.0"), bits(Flags::IGNORE));
            assert_eq!(look("0.0.0.1"), bits(Flags::LIMITED));
            assert_eq!(look("255.255.255.255"), bits(Flags::KOD));
            assert_eq!(look("::"), bits(Flags::IGNORE));
            assert_eq!(
                look("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
                bits(Flags::NOCLIENT)
            );
            assert_eq!(
                look("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe"),
                bits(Flags::NOTRUST)
            );
        });
    }

    #[test]
    fn what_differs_elsewhere_only_takes_no_room() {
        let rules = [
            restrict("10.0.0.1/32", Flags::NOQUERY),
            restrict("10.0.0.9/32", Flags::MSSNTP),
            restrict("2001:db8::1/128", Flags::NOMODIFY),
        ];
        assert_eq!(
            Rows::new(&AccessTable::compile(&rules, &[]), &NONE).count(),
            FIXED
        );
    }

    /// Ten thousand hosts, a /24 or a /64 apart.
    #[test]
    fn equal_rows_are_one() {
        let hosts = (0..10_000_u32).flat_map(|n| {
            let v4 = Ipv4Addr::from(10 << 24 | n << 8 | 7);
            let v6 = Ipv6Addr::from(0x2001_0db8 << 96 | u128::from(n) << 64 | 7);
            [IpAddr::from(v4), v6.into()]
        });
        let rules: Vec<Rule> = hosts
            .map(|host| {
                let (prefix, ntpport) = (Prefix::host(host), false);
                Rule::Restrict(Who::Block { prefix, ntpport }, Flags::IGNORE)
            })
            .collect();
        let encoded = Rows::new(&AccessTable::compile(&rules, &[]), &NONE);
        // IPv4: one for the second octet, and two for the third, as the last is not full.
        // IPv6: one for each octet from the second to the last but one, and a second for
        // the eighth. Of the last octet both families have one line, alone in its row.
        assert_eq!(encoded.count(), FIXED + 3 + 15 + 1);
        with_tables(&rules, &[], |_, _| {});
    }

    #[test]
    fn what_comes_from_odd_addresses_passes_and_nothing_else() {
        let rules = [
            restrict("192.0.2.0/24", Flags::IGNORE),
            restrict("192.0.2.9/32", Flags::LIMITED),
            restrict("2001:db8::/32", Flags::KOD),
        ];
        let access = AccessTable::compile(&rules, &[]);
        let odd = [
            "0.0.0.0",
            "192.0.2.1",
            "192.0.2.8",
            "192.0.2.9",
            "192.0.2.255",
            "255.255.255.255",
            "2001:db8::7",
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        ];
        let odd: BTreeSet<IpAddr> = odd.map(|ip| ip.parse().expect("one")).into();
        let encoded = Rows::new(&access, &odd);
        let mut rows = vec![[0; 256]; encoded.count() as usize];
        encoded.write(&mut rows);
        for ip in &odd {
            for beside in ends(Prefix::host(*ip)) {
                for port in [123, 124] {
                    let expected = match odd.contains(&beside) {
                        true => ODD_SOURCE & 0xff,
                        false => bits(access.lookup(beside, port)),
                    };
                    assert_eq!(lookup(&rows, beside, port), expected, "{beside}");
                }
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_with_the_number_to_write() {
        let host = restrict("192.0.2.1/32", Flags::IGNORE);
        let encoded = Rows::new(&AccessTable::compile(&[host], &[]), &NONE);
        assert_eq!(encoded.fit(6), Ok(()));
        let refused = encoded.fit(5).expect_err("too many");
        assert!(
            refused.to_string().contains("`prefixes 6` or more"),
            "{refused}"
        );
        assert_eq!(encoded.room(4096), 4096);
        assert_eq!(encoded.room(6), 12);
    }

    /// Crowded around few addresses, of all lengths, so that blocks nest and touch.
    fn any_rule() -> impl Strategy<Value = Rule> {
        let len = (0_u8..=128, any::<bool>());
        (
            any_address(),
            len,
            any::<[bool; 2]>(),
            any::<u16>(),
            0_u8..12,
        )
            .prop_map(|(address, (len, narrow), [ntpport, all], flags, kind)| {
                let width = if address.is_ipv4() { 32 } else { 128 };
                let len = if narrow {
                    width - len % 17
                } else {
                    len % (width + 1)
                };
                let prefix = Prefix::new(address, len).expect("short enough");
                let who = match kind {
                    0 => Who::Source,
                    _ => Who::Block { prefix, ntpport },
                };
                let flags = Flags::from_bits(flags);
                match kind {
                    1 if all => Rule::Unrestrict(who, Flags::NONE),
                    1 => Rule::Unrestrict(who, flags),
                    _ => Rule::Restrict(who, flags),
                }
            })
    }

    fn any_address() -> impl Strategy<Value = IpAddr> {
        let octet = || prop_oneof![Just(0_u8), Just(255), Just(10), any::<u8>()];
        prop_oneof![
            3 => [octet(), octet(), octet(), octet()].prop_map(IpAddr::from),
            3 => (any::<[bool; 13]>(), [octet(), octet(), octet()]).prop_map(|(all, low)| {
                let mut octets = [0; 16];
                octets[..13].copy_from_slice(&all.map(|all| if all { 0xff } else { 0x20 }));
                octets[13..].copy_from_slice(&low);
                octets.into()
            }),
            1 => any::<u32>().prop_map(|v4| Ipv4Addr::from(v4).to_ipv6_mapped().into()),
            1 => any::<u128>().prop_map(|v6| Ipv6Addr::from(v6).into()),
        ]
    }

    proptest! {
        #[test]
        fn judges_as_the_access_table(
            rules in prop::collection::vec(any_rule(), 0..100),
            sources in prop::collection::vec(any_address(), 0..4),
            addresses in prop::collection::vec(any_address(), 50),
        ) {
            with_tables(&rules, &sources, |access, rows| {
                for address in addresses {
                    agree(access, rows, address);
                }
            });
        }
    }

    /// Every address of a /16 and of a /112 whose last two octets are full of hosts.
    #[test]
    fn crowded_hosts_are_told_apart() {
        let mut dice = Dice::new(3);
        let rules: Vec<Rule> = (0..4000)
            .map(|n| {
                let (low, flags) = (dice.roll() as u16, dice.roll() as u16);
                let host = match n % 2 {
                    0 => IpAddr::V4((0xc612_0000 | u32::from(low)).into()),
                    _ => IpAddr::V6((0x2001_0db8 << 96 | u128::from(low)).into()),
                };
                let (prefix, ntpport) = (Prefix::host(host), n % 3 == 0);
                Rule::Restrict(Who::Block { prefix, ntpport }, Flags::from_bits(flags))
            })
            .collect();
        with_tables(&rules, &[], |access, rows| {
            for low in 0..=u16::MAX {
                let v4 = Ipv4Addr::from(0xc612_0000 | u32::from(low));
                agree(access, rows, v4.into());
                let v6 = Ipv6Addr::from(0x2001_0db8 << 96 | u128::from(low));
                agree(access, rows, v6.into());
            }
        });
    }
}

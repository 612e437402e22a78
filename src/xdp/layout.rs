//! What `answer.bpf.c` and we agree on: the words of its state, its counts, the rows of
//! its access tables and the keys of its own addresses. A test compares the names and
//! numbers here with the source's.

use std::net::IpAddr;

use crate::server::rule::Flags;
use crate::server::verdict::Verdict;

/// The program, as clang 14 makes it of `answer.bpf.c`; for machines that put the
/// lowest octet first. A test compares the two.
pub const OBJECT: &[u8] = include_bytes!("answer.bpf.o");

/// A word of the state entry, by its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum Word {
    /// Odd while the others are being changed.
    Sequence,
    /// The anchor on CLOCK_TAI, in nanoseconds.
    AnchorTai,
    /// The same moment on the clock we serve, as an NTP timestamp.
    AnchorNtp,
    /// Units of 2^-32 s that the clock we serve gains in 2^30 ns of CLOCK_TAI.
    Scale,
    /// Nanoseconds after the anchor for which the entry holds, below 2^32 · 0.8.
    Valid,
    /// From this nanosecond of CLOCK_TAI on, [`Word::LeapUnits`] are added.
    LeapTai,
    /// ∓2^32 for a second that is inserted or deleted.
    LeapUnits,
    /// The anchor on CLOCK_MONOTONIC, in nanoseconds: what rate limits count from.
    AnchorMono,
    /// The first eight octets of a reply as they stand in it, without version, mode and
    /// poll: leap, stratum, precision and root delay.
    Head,
    /// Octets 8 to 15 of a reply, without root dispersion: the reference identifier.
    Refid,
    /// Octets 16 to 23 of a reply: when our clock was last set.
    Reference,
    /// Root dispersion at [`Word::Updated`], in units of 2^-32 s.
    Dispersion,
    /// When that was, as an NTP timestamp of the clock we serve.
    Updated,
    /// How fast it grows, in units of 2^-48.
    DispersionRate,
    /// The first row of the access table in force.
    Table,
    /// From the lowest octet: 1 for a bucket and 0 for a headway; log2 of the average
    /// headway; the least headway; burst; log2 of one in how many over the limit leaks,
    /// and of one in how many is told so; the poll exponent that kisses tell.
    Limit,
    /// A bucket's nanoseconds for one request.
    Interval,
    /// Units that a bucket loses in a tick of 1/64 s, times 2^32: roughly, to see who is
    /// worth being remembered.
    Drain,
    /// Unguessable: what chooses a client's place among those that are remembered.
    Seed,
    /// How many sets of [`CLIENTS_PER_SET`] clients are remembered.
    Sets,
    /// From the lowest octet: TTL, hop limit, type of service.
    Envelope,
}

impl Word {
    /// All of them, by their place.
    pub const ALL: [Self; 21] = [
        Self::Sequence,
        Self::AnchorTai,
        Self::AnchorNtp,
        Self::Scale,
        Self::Valid,
        Self::LeapTai,
        Self::LeapUnits,
        Self::AnchorMono,
        Self::Head,
        Self::Refid,
        Self::Reference,
        Self::Dispersion,
        Self::Updated,
        Self::DispersionRate,
        Self::Table,
        Self::Limit,
        Self::Interval,
        Self::Drain,
        Self::Seed,
        Self::Sets,
        Self::Envelope,
    ];
}

/// The state entry.
pub type Words = [u64; Word::ALL.len()];

/// Why a packet that was sent to us went on to the sockets, in the order of their counts.
pub const PASSED: [&str; 8] = [
    "stale",
    "mac",
    "source",
    "length",
    "form",
    "interleaved",
    "checksum",
    "broken",
];

/// Clients that rate limits remember in one set: a word each, and a line of cache.
pub const CLIENTS_PER_SET: usize = 8;

/// Words of the counts: first those of [`Verdict::NAMES`], then those of [`PASSED`].
pub const COUNTS: usize = Verdict::COUNT + PASSED.len();

/// 256 entries of an access table: the next octet of an address chooses one.
pub type Row = [u32; 256];

/// A row of few runs of equal entries, which are flags, in a line of cache: four words
/// of 64 bits, where bit N says that a run begins with octet N; the class of each run's
/// flags, an octet each; and how many runs begin before each of the words.
pub type Line = [u8; 64];

/// The row where a table begins for IPv4.
pub const ROOT_V4: u32 = 0;
/// The row where a table begins for IPv6.
pub const ROOT_V6: u32 = 1;
/// The row of all flags that [`Line`]s name: their classes.
pub const CLASSES: u32 = 2;
/// Marks an entry that is the number of a row.
pub const IS_ROW: u32 = 1 << 31;
/// Marks an entry that is the number of a [`Line`]; those without a mark are flags.
pub const IS_LINE: u32 = 1 << 30;
/// What a [`Row`] has room for.
pub const LINES_PER_ROW: usize = 16;
/// Runs of equal entries that a [`Line`] has room for.
pub const LINE_RUNS_MAX: usize = 28;
/// Flags for source port 123 are in the lowest octet, those for others beside them.
pub const OTHER_PORTS_SHIFT: u32 = 8;

/// The flags that the program knows, in the order of their bits.
pub const ACCESS_FLAGS: [(&str, Flags, Flags); 7] = [
    ("ignore", Flags::IGNORE, Flags::NONE),
    ("noserve", Flags::NOSERVE, Flags::NOCLIENT),
    ("flake", Flags::FLAKE, Flags::NONE),
    ("version", Flags::VERSION, Flags::NONE),
    ("notrust", Flags::NOTRUST, Flags::NONE),
    ("limited", Flags::LIMITED, Flags::NONE),
    ("kod", Flags::KOD, Flags::NONE),
];

/// The entry of an access table for addresses that nobody on a wire can have: their packets
/// go on to the sockets.
pub const ODD_SOURCE: u32 = 1 << 7 | 1 << (7 + OTHER_PORTS_SHIFT);

/// The entry of an access table for addresses whose packets from port 123 have the
/// flags `ntp`, and all others `other`.
pub fn access_entry(ntp: Flags, other: Flags) -> u32 {
    access_flags(ntp) | access_flags(other) << OTHER_PORTS_SHIFT
}

fn access_flags(flags: Flags) -> u32 {
    let mut bits = 0;
    for (bit, (_, flag, or_flag)) in ACCESS_FLAGS.into_iter().enumerate() {
        bits |= u32::from(flags.intersects(flag | or_flag)) << bit;
    }
    bits
}

/// Octets of a key of [`Own::key`].
pub const OWN_KEY_LEN: usize = 24;
/// Octets of what such a key leads to.
pub const OWN_VALUE_LEN: usize = 8;

/// What the program looks up to know that a packet is for us.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Own {
    /// Where it was sent to.
    pub address: IpAddr,
    /// And to which port.
    pub port: u16,
    /// The interface that it came by, by the kernel's number.
    pub interface: u32,
    /// The identifier of its VLAN's tag; zero without one.
    pub vlan: u16,
}

impl Own {
    /// As the program has it.
    pub fn key(&self) -> [u8; OWN_KEY_LEN] {
        let address = match self.address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        let mut key = [0; OWN_KEY_LEN];
        key[..16].copy_from_slice(&address.octets());
        key[16..18].copy_from_slice(&self.port.to_be_bytes());
        key[18..20].copy_from_slice(&self.vlan.to_ne_bytes());
        key[20..].copy_from_slice(&self.interface.to_ne_bytes());
        key
    }
}

/// What a key of [`Own`] leads to: the Ethernet address that frames for it are sent to.
pub fn own_value(mac: [u8; 6]) -> [u8; OWN_VALUE_LEN] {
    let mut value = [0; OWN_VALUE_LEN];
    value[..6].copy_from_slice(&mac);
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = include_str!("answer.bpf.c");

    /// The names of an `enum` of the source with their numbers.
    fn names(of: &str) -> Vec<(String, usize)> {
        let (_, rest) = SOURCE
            .split_once(&format!("enum {of} {{"))
            .unwrap_or_else(|| panic!("enum {of}"));
        let (body, _) = rest.split_once('}').expect("its end");
        let mut next = 0;
        let mut names = Vec::new();
        for line in body.lines() {
            let line = line.split("//").next().expect("a part").trim();
            for word in line.split(',').map(str::trim).filter(|w| !w.is_empty()) {
                let (name, number) = word.split_once('=').unwrap_or((word, ""));
                let number = number.trim();
                if let Some((one, bit)) = number.split_once("<<") {
                    assert_eq!(one.trim(), "1");
                    next = 1 << bit.trim().parse::<usize>().expect("a bit");
                } else if !number.is_empty() {
                    next = number.parse().expect("a number");
                }
                names.push((name.trim().to_lowercase().replace('_', ""), next));
                next += 1;
            }
        }
        names
    }

    #[test]
    fn both_sides_have_the_same_words() {
        let ours = Word::ALL.map(|word| (format!("{word:?}").to_lowercase(), word as usize));
        let mut theirs = names("word");
        assert_eq!(theirs.pop(), Some(("words".into(), Word::ALL.len())));
        assert_eq!(theirs, ours);
    }

    #[test]
    fn both_sides_count_alike() {
        let all = Verdict::NAMES.into_iter();
        let passed: Vec<String> = PASSED.iter().map(|name| format!("pass_{name}")).collect();
        let ours: Vec<String> = all
            .chain(passed.iter().map(String::as_str))
            .map(|name| name.replace('_', ""))
            .collect();
        let mut theirs = names("count");
        assert_eq!(theirs.pop(), Some(("counts".into(), COUNTS)));
        assert!(theirs.len() > PASSED.len());
        for (name, place) in theirs {
            assert_eq!(ours[place], name);
        }
    }

    #[test]
    fn both_sides_have_the_same_flags() {
        let ours = ACCESS_FLAGS.iter().enumerate();
        let ours = ours.map(|(bit, (name, ..))| (format!("flag{name}"), 1 << bit));
        let odd = ("flagodd".to_owned(), ODD_SOURCE as usize & 0xff);
        let ours: Vec<_> = ours.chain([odd]).collect();
        assert_eq!(names("flag"), ours);
        let both = Flags::NOCLIENT | Flags::KOD | Flags::NOQUERY;
        assert_eq!(access_entry(both, Flags::IGNORE), 0x0142);
        for (define, value) in [
            ("IS_ROW", "(1U << 31)"),
            ("IS_LINE", "(1U << 30)"),
            ("CLASSES", "2"),
            ("LINES_PER_ROW", "16"),
            ("OTHER_PORTS_SHIFT", "8"),
            ("ROOT_V4", "0"),
            ("ROOT_V6", "1"),
            ("WAYS", "8"),
        ] {
            assert!(
                SOURCE.contains(&format!("#define {define} {value}\n")),
                "{define}"
            );
        }
    }

    #[test]
    fn an_own_address_is_known_by_family_port_interface_and_vlan() {
        let key = |address: &str, port, interface, vlan| {
            let address = address.parse().expect("one");
            let own = Own {
                address,
                port,
                interface,
                vlan,
            };
            own.key()
        };
        assert_eq!(
            key("192.0.2.1", 123, 2, 0),
            key("::ffff:192.0.2.1", 123, 2, 0)
        );
        let all = [
            key("192.0.2.1", 123, 2, 0),
            key("192.0.2.1", 123, 2, 10),
            key("192.0.2.1", 124, 2, 0),
            key("192.0.2.1", 123, 3, 0),
            key("2001:db8::1", 123, 2, 0),
        ];
        for (i, one) in all.iter().enumerate() {
            assert!(!all[..i].contains(one));
        }
    }
}

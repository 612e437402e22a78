//! chrony's `allow` and `deny`, made into blocks that the access table understands.
//!
//! chronyd keeps them in a tree with sixteen branches for each four bits, and the deepest
//! node on an address's way that was told something decides. So longer prefixes win
//! whatever the order, as chrony.conf(5) says; but prefixes that end within the same four
//! bits are the same nodes, and there the later line wins over the earlier one, even if
//! that is more specific. With `all`, everything below is forgotten.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::server::rule::{Flags, Prefix, Rule, Who};

/// Bits for each step down the tree.
const STEP: u8 = 4;

/// One `allow` or `deny` line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Order {
    /// `allow`?
    pub allow: bool,
    /// `all`: what was said of blocks within is void.
    pub all: bool,
    /// Whom it is about; none: everybody, of both families.
    pub block: Option<Prefix>,
}

/// What is so in the end of a block, except for longer ones within.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Block {
    /// The addresses.
    pub prefix: Prefix,
    /// Are they served?
    pub allow: bool,
    /// Which order decided that, counted from 0; none: nobody said anything.
    pub order: Option<usize>,
}

/// The blocks that come of `orders`, IPv4 first, by address. The first block of each family
/// is the whole of it.
pub fn compile(orders: &[Order]) -> Vec<Block> {
    let mut tree = Tree::default();
    for (index, order) in orders.iter().enumerate() {
        let both = [Prefix::ALL_V4, Prefix::ALL_V6];
        match order.block {
            Some(prefix) => tree.set(prefix, order, index),
            None => both.into_iter().for_each(|p| tree.set(p, order, index)),
        }
    }
    tree.blocks()
}

/// Rules for the access table: who is not allowed gets no time, who is allowed gets it within
/// `limits`. Nobody but this host may ask for the daemon's state.
pub fn rules(orders: &[Order], limits: Flags) -> Vec<Rule> {
    let blocks = compile(orders);
    let flags = |allow: bool| if allow { limits } else { Flags::NOCLIENT };
    let mut rules: Vec<Rule> = blocks
        .iter()
        .map(|block| rule(block.prefix, flags(block.allow) | Flags::NOQUERY))
        .collect();
    for address in [
        IpAddr::from(Ipv4Addr::LOCALHOST),
        IpAddr::from(Ipv6Addr::LOCALHOST),
    ] {
        let host = Prefix::host(address);
        let is_allowed = decide(&blocks, address).allow;
        rules.retain(
            |rule| !matches!(rule, Rule::Restrict(Who::Block { prefix, .. }, _) if *prefix == host),
        );
        rules.push(rule(host, flags(is_allowed)));
    }
    rules
}

fn rule(prefix: Prefix, flags: Flags) -> Rule {
    let who = Who::Block {
        prefix,
        ntpport: false,
    };
    Rule::Restrict(who, flags)
}

/// The block that decides about `address`.
pub fn decide(blocks: &[Block], address: IpAddr) -> Block {
    let around = blocks
        .iter()
        .filter(|block| block.prefix.contains(address.to_canonical()));
    *around
        .max_by_key(|block| block.prefix.bits())
        .expect("each family has a block for everybody")
}

/// What a node was told, and by which order.
type Told = (bool, Option<usize>);

/// The nodes that were told something: first address and depth in bits, IPv4 apart from
/// IPv6. An address of IPv4 stands in the first 32 bits.
#[derive(Default)]
struct Tree {
    v4: BTreeMap<(u128, u8), Told>,
    v6: BTreeMap<(u128, u8), Told>,
}

impl Tree {
    fn set(&mut self, prefix: Prefix, order: &Order, index: usize) {
        let (nodes, start) = match prefix.address() {
            IpAddr::V4(v4) => (&mut self.v4, u128::from(u32::from(v4)) << 96),
            IpAddr::V6(v6) => (&mut self.v6, u128::from(v6)),
        };
        let depth = prefix.bits().next_multiple_of(STEP);
        if order.all {
            let last = start | u128::MAX.checked_shr(prefix.bits().into()).unwrap_or(0);
            let within: Vec<(u128, u8)> = nodes
                .range((start, 0)..=(last, u8::MAX))
                .map(|(node, _)| *node)
                .filter(|(_, bits)| *bits > depth)
                .collect();
            for node in within {
                nodes.remove(&node);
            }
        }
        let width = 1_u128.checked_shl((128 - depth).into()).unwrap_or(0);
        for n in 0..1_u128 << (depth - prefix.bits()) {
            nodes.insert((start + n * width, depth), (order.allow, Some(index)));
        }
    }

    fn blocks(self) -> Vec<Block> {
        let v4 = joined(self.v4).into_iter().map(|((start, bits), told)| {
            let address = Ipv4Addr::from((start >> 96) as u32);
            block(address.into(), bits, told)
        });
        let v6 = joined(self.v6).into_iter().map(|((start, bits), told)| {
            let address = Ipv6Addr::from(start);
            block(address.into(), bits, told)
        });
        v4.chain(v6).collect()
    }
}

fn block(address: IpAddr, bits: u8, (allow, order): Told) -> Block {
    Block {
        prefix: Prefix::new(address, bits).expect("no more bits than the family has"),
        allow,
        order,
    }
}

/// Twins of one mind become one again, up to the next step of the tree; who was told
/// nothing is denied.
fn joined(mut nodes: BTreeMap<(u128, u8), Told>) -> BTreeMap<(u128, u8), Told> {
    nodes.entry((0, 0)).or_insert((false, None));
    for round in 1..STEP {
        let here: Vec<(u128, u8)> = nodes
            .keys()
            .copied()
            .filter(|(_, bits)| *bits > 0 && *bits % STEP == (STEP + 1 - round) % STEP)
            .collect();
        for (start, bits) in here {
            let half = 1_u128 << (128 - bits);
            let twin = (start | half, bits);
            if start & half == 0
                && let (Some(one), Some(other)) = (nodes.get(&(start, bits)), nodes.get(&twin))
                && one == other
            {
                let told = *one;
                nodes.remove(&(start, bits));
                nodes.remove(&twin);
                nodes.insert((start, bits - 1), told);
            }
        }
    }
    nodes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::access::AccessTable;
    use proptest::prelude::*;

    fn order(text: &str) -> Order {
        let mut words = text.split(' ').peekable();
        let allow = words.next() == Some("allow");
        let all = words.next_if_eq(&"all").is_some();
        let block = words.next().map(|word| {
            let (address, bits) = word.split_once('/').expect("a slash");
            Prefix::new(address.parse().unwrap(), bits.parse().unwrap()).unwrap()
        });
        Order { allow, all, block }
    }

    fn allowed(orders: &[&str], address: &str) -> bool {
        let orders: Vec<Order> = orders.iter().map(|text| order(text)).collect();
        decide(&compile(&orders), address.parse().unwrap()).allow
    }

    #[test]
    fn longer_prefixes_win_in_any_order_but_within_four_bits_the_later_line() {
        assert!(!allowed(&[], "10.0.0.1"));
        assert!(allowed(&["allow"], "2001:db8::1"));
        let narrow_first = ["allow 10.1.0.0/16", "deny 10.0.0.0/8"];
        assert!(allowed(&narrow_first, "10.1.2.3") && !allowed(&narrow_first, "10.2.2.3"));
        let voided = ["allow 10.1.0.0/16", "deny all 10.0.0.0/8"];
        assert!(!allowed(&voided, "10.1.2.3"));
        let same_nodes = ["allow 10.0.0.0/8", "deny 8.0.0.0/6"];
        assert!(
            !allowed(&same_nodes, "10.1.2.3"),
            "both end in the second four bits"
        );
        assert!(allowed(&["deny 8.0.0.0/6", "allow 10.0.0.0/8"], "10.1.2.3"));
    }

    #[test]
    fn plain_lines_stay_the_blocks_they_were() {
        let of = |texts: &[&str]| -> Vec<String> {
            let orders: Vec<Order> = texts.iter().map(|text| order(text)).collect();
            let blocks = compile(&orders);
            blocks
                .iter()
                .map(|block| block.prefix.to_string())
                .collect()
        };
        assert_eq!(of(&[]), ["0.0.0.0/0", "::/0"]);
        assert_eq!(
            of(&[
                "allow 10.0.0.0/9",
                "allow 192.168.64.0/18",
                "deny 192.168.65.0/27"
            ]),
            [
                "0.0.0.0/0",
                "10.0.0.0/9",
                "192.168.64.0/18",
                "192.168.65.0/27",
                "::/0"
            ]
        );
    }

    /// chronyd's tree, node by node.
    #[derive(Default)]
    struct Node {
        told: Option<bool>,
        branches: Vec<Node>,
    }

    impl Node {
        fn open(&mut self) -> &mut Vec<Node> {
            if self.branches.is_empty() {
                self.branches.resize_with(16, Node::default);
            }
            &mut self.branches
        }

        fn tell(&mut self, order: &Order) {
            if order.all {
                self.branches.clear();
            }
            self.told = Some(order.allow);
        }

        fn set(&mut self, digits: &[u8], mut bits: u8, order: &Order) {
            let mut node = self;
            let mut digits = digits.iter();
            while bits >= 4 {
                let digit = digits.next().copied().unwrap_or(0);
                node = &mut node.open()[usize::from(digit)];
                bits -= 4;
            }
            if bits == 0 {
                node.tell(order);
                return;
            }
            let count = 1_usize << (4 - bits);
            let first = usize::from(*digits.next().unwrap()) & !(count - 1);
            for branch in &mut node.open()[first..first + count] {
                branch.tell(order);
            }
        }

        fn allows(&self, digits: &[u8]) -> bool {
            let (mut node, mut told) = (self, self.told.unwrap_or(false));
            for digit in digits {
                let Some(next) = node.branches.get(usize::from(*digit)) else {
                    break;
                };
                node = next;
                told = node.told.unwrap_or(told);
            }
            told
        }
    }

    fn digits(address: IpAddr) -> Vec<u8> {
        let octets = match address {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        octets.iter().flat_map(|o| [o >> 4, o & 15]).collect()
    }

    fn any_address() -> impl Strategy<Value = IpAddr> {
        let octet = || prop_oneof![Just(0_u8), Just(1), Just(8), Just(10), Just(127), Just(255)];
        prop_oneof![
            [octet(), octet(), octet(), octet()].prop_map(IpAddr::from),
            [octet(), octet(), octet()].prop_map(|[a, b, c]| {
                let mut octets = [a; 16];
                octets[0] = b & 0x3f;
                octets[15] = c;
                IpAddr::from(octets)
            }),
        ]
    }

    fn any_order() -> impl Strategy<Value = Order> {
        let block = prop::option::weighted(0.9, (any_address(), 0_u8..=128)).prop_map(|block| {
            let (address, len) = block?;
            let most = if address.is_ipv4() { 32 } else { 128 };
            Prefix::new(address, len % (most + 1))
        });
        (any::<bool>(), prop::bool::weighted(0.2), block).prop_map(|(allow, all, block)| Order {
            allow,
            all,
            block,
        })
    }

    proptest! {
        #[test]
        fn agrees_with_chronyds_tree(
            orders in prop::collection::vec(any_order(), 0..40),
            addresses in prop::collection::vec(any_address(), 1..30),
        ) {
            let (mut v4, mut v6) = (Node::default(), Node::default());
            for order in &orders {
                for whole in [Prefix::ALL_V4, Prefix::ALL_V6] {
                    let prefix = order.block.unwrap_or(whole);
                    let same = prefix.address().is_ipv4() == whole.address().is_ipv4();
                    let tree = if whole.address().is_ipv4() { &mut v4 } else { &mut v6 };
                    if same {
                        tree.set(&digits(prefix.address()), prefix.bits(), order);
                    }
                }
            }
            let table = AccessTable::compile(&rules(&orders, Flags::NONE), &[]);
            let blocks = compile(&orders);
            let starts = orders.iter().filter_map(|o| Some(o.block?.address()));
            for address in starts.chain(addresses.iter().copied()) {
                let before = match address {
                    IpAddr::V4(v4) => IpAddr::V4(u32::from(v4).wrapping_sub(1).into()),
                    IpAddr::V6(v6) => IpAddr::V6(u128::from(v6).wrapping_sub(1).into()),
                };
                for address in [address, before] {
                    if matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) {
                        continue;
                    }
                    let tree = if address.is_ipv4() { &v4 } else { &v6 };
                    let expected = tree.allows(&digits(address));
                    let flags = table.lookup(address, 40000);
                    prop_assert_eq!(!flags.contains(Flags::NOCLIENT), expected, "{}", address);
                    prop_assert_eq!(decide(&blocks, address).allow, expected, "{}", address);
                }
            }
        }
    }
}

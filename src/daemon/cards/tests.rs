//! A host with cards of all sorts: which of them the lines mean, what their drivers are
//! told, and what becomes of that when drivers refuse, forget or lie.

use std::cell::{Cell, RefCell};

use super::*;

/// `hardware-transmit`, `software-*`, `hardware-receive`, `hardware-raw-clock`.
const HARDWARE: u32 = 0b101_1111;
const SOFTWARE: u32 = 0b001_1010;

/// Sets of filters that cards can have.
const ALL: u32 = 1 << 0 | 1 << 1;
const NTP: u32 = 1 << 0 | 1 << 15;
const PTP: u32 = 1 << 0 | 1 << 6 | 1 << 12;

const OFF: HardwareConfig = HardwareConfig {
    tx_type: TxType::OFF,
    rx_filter: RxFilter::NONE,
};

fn on(rx_filter: RxFilter) -> HardwareConfig {
    HardwareConfig {
        tx_type: TxType::ON,
        rx_filter,
    }
}

fn interface(index: u32, name: &str) -> Interface {
    Interface {
        index,
        name: name.to_owned(),
        up: true,
        running: true,
        loopback: name == "lo",
        kind: None,
        master: None,
        idle: false,
        below: None,
        vlan: None,
        mtu: 1500,
        mac: None,
        addresses: Vec::new(),
    }
}

fn line(name: &str) -> CardLine {
    CardLine::new(match name {
        "*" => Which::All,
        name => Which::Named(name.to_owned()),
    })
}

/// `lo`, two cards that are members of a bond, a VLAN on it, a card that stamps PTP
/// alone with a VLAN, and one that stamps nothing.
fn interfaces() -> Vec<Interface> {
    let mut all = [
        "lo", "bond0", "eth0", "eth1", "bond0.5", "ptp0", "ptp0.7", "wlan0",
    ]
    .into_iter()
    .zip(1..)
    .map(|(name, index)| interface(index, name))
    .collect::<Vec<_>>();
    all[2].master = Some(2);
    all[3].master = Some(2);
    all[4].below = Some(2);
    all[6].below = Some(6);
    all
}

fn stamping(name: &str) -> Option<Stamping> {
    // As in the kernel, a bond and a VLAN speak for who is below.
    Some(match name {
        "eth0" | "bond0" | "bond0.5" => Stamping::from_bits(HARDWARE, Some(0), 0b11, ALL),
        "eth1" => Stamping::from_bits(HARDWARE, Some(1), 0b11, ALL | NTP),
        "ptp0" | "ptp0.7" => Stamping::from_bits(HARDWARE, Some(2), 0b11, PTP),
        _ => Stamping::from_bits(SOFTWARE, None, 0, 0),
    })
}

/// Who stamps, by which line.
fn planned(lines: &[CardLine], interfaces: &[Interface]) -> Vec<(String, String)> {
    let plan = plan(lines, interfaces, stamping);
    plan.cards
        .iter()
        .map(|card| {
            let name = card.interface.name.clone();
            (name, card.line.interface.word().to_owned())
        })
        .collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    let own = |(a, b): &(&str, &str)| ((*a).to_owned(), (*b).to_owned());
    expected.iter().map(own).collect()
}

#[test]
fn the_star_means_every_card_that_can_once() {
    let found = planned(&[line("*")], &interfaces());
    assert_eq!(found, pairs(&[("eth0", "*"), ("eth1", "*"), ("ptp0", "*")]));
}

#[test]
fn who_names_the_card_goes_before_who_names_what_is_over_it() {
    let lines = [line("*"), line("bond0.5"), line("eth1"), line("ptp0.7")];
    let mut found = planned(&lines, &interfaces());
    found.sort();
    let expected = [("eth0", "bond0.5"), ("eth1", "eth1"), ("ptp0", "ptp0.7")];
    assert_eq!(found, pairs(&expected));
}

#[test]
fn a_bond_is_its_members_and_a_vlan_its_carrier() {
    let found = planned(&[line("bond0")], &interfaces());
    assert_eq!(found, pairs(&[("eth0", "bond0"), ("eth1", "bond0")]));
    let found = planned(&[line("ptp0.7")], &interfaces());
    assert_eq!(found, pairs(&[("ptp0", "ptp0.7")]));
}

#[test]
fn interfaces_in_a_circle_are_no_trap() {
    let mut all = interfaces();
    all[2].below = Some(4);
    all[3].below = Some(3);
    planned(&[line("*"), line("eth0")], &all);
}

#[test]
fn who_is_not_there_not_up_or_not_able_is_named() {
    let mut all = interfaces();
    all[2].up = false;
    let lines = [line("eth9"), line("eth0"), line("wlan0")];
    let plan = plan(&lines, &all, stamping);
    assert_eq!(plan.cards, []);
    let said: Vec<&str> = plan.remarks.iter().map(|(_, s)| s.as_str()).collect();
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(said[0].contains("eth9") && said[0].contains("no such interface"));
    assert!(said[1].contains("eth0 is down"), "{said:?}");
    assert!(said[2].contains("wlan0 can't"), "{said:?}");
}

#[test]
fn a_star_over_nothing_says_so_and_over_downed_cards_does_not() {
    let mut all = interfaces();
    let lines = [line("*")];
    let plan_of = |all: &[Interface]| plan(&lines, all, stamping).remarks.len();
    assert_eq!(plan_of(&all[..1]), 1);
    all.iter_mut().for_each(|one| one.up = false);
    assert_eq!(plan_of(&all), 0);
}

#[test]
fn filters_are_tried_from_all_over_ntp_to_none() {
    let of = |wish, filters| {
        let stamping = Stamping::from_bits(HARDWARE, Some(0), 0b11, filters);
        super::filters(wish, &stamping)
    };
    use RxFilter as F;
    assert_eq!(of(None, ALL | NTP), [F::ALL, F::NTP_ALL, F::NONE]);
    assert_eq!(of(None, NTP), [F::NTP_ALL, F::NONE]);
    // As chrony: NTP packets don't pass PTP's filters.
    assert_eq!(of(None, PTP), [F::NONE]);
    assert_eq!(of(Some(Filter::All), PTP), [F::ALL]);
    assert_eq!(of(Some(Filter::Ntp), ALL), [F::NTP_ALL]);
    assert_eq!(of(Some(Filter::Ptp), PTP), [F::PTP_L4_EVENT, F::PTP_EVENT]);
    assert_eq!(of(Some(Filter::None), ALL), [F::NONE]);
}

/// Drivers that remember what they were told.
#[derive(Default)]
struct Fake {
    set: RefCell<BTreeMap<String, HardwareConfig>>,
    /// How often one was told.
    told: Cell<u32>,
    /// Without the right to tell any.
    denied: Cell<bool>,
    /// Drivers that refuse all filters but `none`.
    refusing: Cell<bool>,
    /// Drivers that don't say how they are set up.
    silent: Cell<bool>,
    /// Clocks that can't be opened.
    closed: Cell<bool>,
    speed: Cell<u64>,
}

impl Host for &Fake {
    type Clock = u32;

    fn stamping(&self, name: &str) -> Option<Stamping> {
        stamping(name)
    }

    fn present(&self, name: &str) -> Option<HardwareConfig> {
        let set = self.set.borrow();
        (!self.silent.get()).then(|| set.get(name).copied().unwrap_or(OFF))
    }

    fn set(&self, name: &str, config: HardwareConfig) -> io::Result<Option<HardwareConfig>> {
        self.told.set(self.told.get() + 1);
        if self.denied.get() {
            return Err(io::Error::from_raw_os_error(libc::EPERM));
        }
        if self.refusing.get() && config.rx_filter != RxFilter::NONE {
            return Err(io::Error::from_raw_os_error(libc::ERANGE));
        }
        // As igb does: what lets NTP pass is all.
        let rx_filter = match config.rx_filter {
            RxFilter::NTP_ALL => RxFilter::ALL,
            filter => filter,
        };
        let made = HardwareConfig {
            rx_filter,
            ..config
        };
        self.set.borrow_mut().insert(name.to_owned(), made);
        Ok(Some(made))
    }

    fn speed(&self, _: &str) -> u64 {
        self.speed.get()
    }

    fn open(&self, index: u32, _: bool) -> io::Result<u32> {
        if self.closed.get() {
            return Err(io::Error::from_raw_os_error(libc::EACCES));
        }
        Ok(index)
    }
}

impl Fake {
    fn keeper(&self, lines: &[CardLine]) -> Keeper<&Self> {
        Keeper::on(self, lines)
    }

    fn of(&self, name: &str) -> HardwareConfig {
        self.set.borrow().get(name).copied().unwrap_or(OFF)
    }
}

#[test]
fn cards_are_set_up_once_and_given_away_when_they_change() {
    let host = Fake::default();
    let mut lines = [line("eth0"), line("ptp0")];
    lines[0].tx_compensation = NtpDuration::from_nanos(300);
    let mut keeper = host.keeper(&lines);
    let cards = keeper.follow(&interfaces()).expect("two are new");
    let [eth0, ptp0] = &cards[..] else {
        panic!("{cards:?}");
    };
    assert_eq!((eth0.interface, eth0.phc), (3, 0));
    assert_eq!(eth0.tx_compensation.as_nanos(), 300);
    assert_eq!((eth0.receives, eth0.transmits), (Receives::All, true));
    assert_eq!((ptp0.receives, ptp0.transmits), (Receives::None, true));
    assert_eq!(host.of("eth0"), on(RxFilter::ALL));
    assert_eq!(host.of("ptp0"), on(RxFilter::NONE));

    assert_eq!(keeper.follow(&interfaces()), None);
    assert_eq!(host.told.get(), 2);
    host.speed.set(10_000_000_000);
    assert_eq!(
        keeper.follow(&interfaces()).map(|cards| cards.len()),
        Some(2)
    );
    let unplugged: Vec<_> = interfaces()
        .into_iter()
        .filter(|i| i.name != "eth0")
        .collect();
    assert_eq!(keeper.follow(&unplugged).map(|cards| cards.len()), Some(1));
    // A card that comes back has another index, and forgot everything.
    host.set.borrow_mut().remove("eth0");
    let mut back = unplugged.clone();
    back.push(interface(20, "eth0"));
    assert_eq!(keeper.follow(&back).map(|cards| cards.len()), Some(2));
    assert_eq!(host.of("eth0"), on(RxFilter::ALL));
}

#[test]
fn a_driver_that_forgets_is_told_again() {
    let host = Fake::default();
    let mut keeper = host.keeper(&[line("eth0")]);
    keeper.follow(&interfaces());
    host.set.borrow_mut().clear();
    assert_eq!(keeper.follow(&interfaces()), None, "nothing new for others");
    assert_eq!(host.of("eth0"), on(RxFilter::ALL));
    let first = keeper.kept[&3].told_at;
    assert!(first.is_some());
    host.set.borrow_mut().clear();
    keeper.follow(&interfaces());
    assert_eq!(keeper.kept[&3].told_at, first, "once a minute is enough");
}

#[test]
fn a_driver_that_does_not_say_is_told_again_after_it_was_down() {
    let host = Fake::default();
    host.silent.set(true);
    let mut keeper = host.keeper(&[line("eth0")]);
    assert!(keeper.follow(&interfaces()).is_some());
    keeper.follow(&interfaces());
    assert_eq!(host.told.get(), 1);
    let mut down = interfaces();
    down[2].up = false;
    assert_eq!(keeper.follow(&down).map(|cards| cards.len()), Some(0));
    keeper.follow(&interfaces());
    keeper.follow(&interfaces());
    assert_eq!(host.told.get(), 2);
}

#[test]
fn what_is_good_already_needs_no_right() {
    let host = Fake::default();
    host.denied.set(true);
    let ready = [("eth0", on(RxFilter::ALL)), ("eth1", on(RxFilter::NTP_ALL))];
    host.set
        .borrow_mut()
        .extend(ready.map(|(name, config)| (name.to_owned(), config)));
    let mut keeper = host.keeper(&[line("eth0"), line("eth1")]);
    assert_eq!(
        keeper.follow(&interfaces()).map(|cards| cards.len()),
        Some(2)
    );
    assert_eq!(host.told.get(), 0);
    assert!(keeper.said.is_empty(), "{:?}", keeper.said);
}

#[test]
fn a_ptp_daemon_keeps_its_filter() {
    let host = Fake::default();
    let theirs = on(RxFilter::PTP_EVENT);
    host.set.borrow_mut().insert("ptp0".to_owned(), theirs);
    let mut keeper = host.keeper(&[line("*")]);
    let cards = keeper.follow(&interfaces()).expect("three");
    assert_eq!(host.of("ptp0"), theirs);
    assert_eq!(
        (&*cards[2].name, cards[2].receives),
        ("ptp0", Receives::PtpOnly)
    );
}

#[test]
fn without_the_right_it_is_said_and_tried_again() {
    let host = Fake::default();
    host.denied.set(true);
    let mut keeper = host.keeper(&[line("eth0")]);
    assert_eq!(keeper.follow(&interfaces()), None);
    let said = format!("{:?}", keeper.said);
    assert!(
        said.contains("CAP_NET_ADMIN") && said.contains("hwstamp_ctl"),
        "{said}"
    );
    host.denied.set(false);
    assert!(keeper.follow(&interfaces()).is_some());
    assert!(keeper.said.is_empty());
}

#[test]
fn a_card_whose_clock_is_closed_to_us_is_left_alone() {
    let host = Fake::default();
    host.closed.set(true);
    let mut keeper = host.keeper(&[line("eth0")]);
    assert_eq!(keeper.follow(&interfaces()), None);
    assert_eq!(host.told.get(), 0);
    assert!(format!("{:?}", keeper.said).contains("/dev/ptp0"));
}

#[test]
fn a_refused_filter_is_not_the_end() {
    let host = Fake::default();
    host.refusing.set(true);
    let mut keeper = host.keeper(&[line("eth1")]);
    let cards = keeper.follow(&interfaces()).expect("departures");
    assert_eq!(cards[0].receives, Receives::None);
    assert_eq!(host.told.get(), 3);
    // What an operator names is that and nothing else.
    let mut named = line("eth0");
    named.filter = Some(Filter::All);
    let mut keeper = host.keeper(&[named]);
    assert_eq!(keeper.follow(&interfaces()), None);
    assert!(format!("{:?}", keeper.said).contains("refuses filter all"));
}

#[test]
fn cards_are_left_as_they_were_if_still_ours() {
    let host = Fake::default();
    let was = on(RxFilter::PTP_EVENT);
    host.set.borrow_mut().insert("eth0".to_owned(), was);
    let mut lines = [line("eth0"), line("eth1"), line("ptp0")];
    lines[0].restore = true;
    lines[2].restore = true;
    let mut keeper = host.keeper(&lines);
    keeper.follow(&interfaces());
    assert_eq!(host.of("eth0"), on(RxFilter::ALL));
    let theirs = on(RxFilter::PTP_L4_EVENT);
    host.set.borrow_mut().insert("ptp0".to_owned(), theirs);
    keeper.restore();
    assert_eq!(host.of("eth0"), was);
    assert_eq!(host.of("eth1"), on(RxFilter::ALL), "not asked to restore");
    assert_eq!(host.of("ptp0"), theirs, "somebody else's");
}

#[test]
fn new_lines_count_for_cards_they_mean_and_the_others_are_left() {
    let host = Fake::default();
    let mut lines = [line("eth0"), line("eth1"), line("ptp0")];
    for line in &mut lines {
        line.restore = true;
    }
    let mut keeper = host.keeper(&lines);
    assert_eq!(keeper.follow(&interfaces()).map(|all| all.len()), Some(3));
    let told = host.told.get();
    // The first stays, the second is to have another filter, the third is left alone.
    lines[1].filter = Some(Filter::Ptp);
    keeper.set_lines(lines[..2].to_vec());
    let cards = keeper.follow(&interfaces()).expect("new lines");
    let receives: Vec<_> = cards
        .iter()
        .map(|card| (&*card.name, card.receives))
        .collect();
    assert_eq!(
        receives,
        [("eth0", Receives::All), ("eth1", Receives::PtpOnly)]
    );
    assert_eq!(host.of("ptp0"), OFF);
    assert_eq!(
        host.told.get(),
        told + 2,
        "one is set, one is left, no more"
    );
    assert_eq!(keeper.follow(&interfaces()), None);
    // None at all: it is as if there had never been any.
    keeper.set_lines(Vec::new());
    assert_eq!(keeper.follow(&interfaces()), Some(Vec::new()));
    assert_eq!([host.of("eth0"), host.of("eth1")], [OFF; 2]);
}

#[test]
fn no_more_cards_than_there_is_room_for() {
    let many: Vec<_> = (1..20).map(|n| interface(n, "eth0")).collect();
    let lines = [line("*")];
    let plan = plan(&lines, &many, stamping);
    assert_eq!(plan.cards.len(), CARDS_MAX);
}

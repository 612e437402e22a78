//! Network cards set up to stamp packets by their own clocks, as `hwtimestamp` asks: which
//! interfaces are meant ([`plan`], a pure function), telling their drivers, looking
//! after them (a driver that resets its card forgets), and leaving them as they were.
//!
//! Runs wherever slow things may be done, never in the time loop: some drivers reset
//! the card when they are told.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use log::{Level, debug, info, log, warn};

use crate::config::stamping::{CardLine, Filter, Which};
use crate::hardware::card::CARDS_MAX;
use crate::linux::clock;
use crate::linux::ethtool::{Ethtool, HardwareConfig, RxFilter, Stamping, TxType};
use crate::linux::netlink::Interface;
use crate::linux::phc::{Phc, path_of};
use crate::time::duration::NtpDuration;
use crate::time::instant::MonoInstant;
use crate::time::units::PollExponent;

/// How often it is seen to that cards are still set up.
pub const CHECK_INTERVAL: NtpDuration = NtpDuration::from_whole_seconds(60);

/// An interface whose stamps can be used. `C` is its clock: the open device, or in
/// comparisons its number.
#[derive(Clone, PartialEq, Debug)]
pub struct Card<C = Phc> {
    /// Index of the interface that stamps: of a bond the member's, of a VLAN the
    /// carrier's.
    pub interface: u32,
    /// Its name.
    pub name: String,
    /// Its clock.
    pub phc: C,
    /// Added to departures (`txcomp`).
    pub tx_compensation: NtpDuration,
    /// Taken from arrivals (`rxcomp`).
    pub rx_compensation: NtpDuration,
    /// One reading of its clock is so exact (`precision`).
    pub precision: NtpDuration,
    /// How often its clock is to be read (`minpoll`).
    pub poll: PollExponent,
    /// Of the link, in bits per second; zero if unknown.
    pub speed: u64,
    /// Arrivals that it stamps.
    pub receives: Receives,
    /// Does it stamp departures?
    pub transmits: bool,
}

/// Arrivals that a card stamps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Receives {
    /// All, or at least those of NTP on port 123.
    All,
    /// PTP's event messages.
    PtpOnly,
    /// None.
    None,
}

impl Receives {
    /// Those that pass `filter`.
    pub fn of(filter: RxFilter) -> Self {
        match filter {
            RxFilter::ALL | RxFilter::NTP_ALL => Self::All,
            filter if filter.is_ptp() => Self::PtpOnly,
            _ => Self::None,
        }
    }
}

/// What to do about one interface.
#[derive(Clone, PartialEq, Debug)]
pub struct Planned<'a> {
    /// The one that stamps, which is up.
    pub interface: &'a Interface,
    /// The line that asks for it.
    pub line: &'a CardLine,
    /// N of its clock's `/dev/ptpN`.
    pub phc: u32,
    /// Filters to ask for, the best first, until the driver takes one.
    pub filters: Vec<RxFilter>,
}

/// A sentence for the operator, once for as long as it holds.
pub type Remark = (Level, String);

/// What to do about all of them, and what to say.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Plan<'a> {
    /// At most [`CARDS_MAX`].
    pub cards: Vec<Planned<'a>>,
    /// About lines of which nothing comes.
    pub remarks: Vec<Remark>,
}

/// Which interfaces the lines mean. A line that names the card itself goes before one
/// that names a bond or a VLAN over it, and that before `*`. `stamping` tells what an
/// interface can do.
pub fn plan<'a>(
    lines: &'a [CardLine],
    interfaces: &'a [Interface],
    stamping: impl Fn(&str) -> Option<Stamping>,
) -> Plan<'a> {
    let mut plan = Plan::default();
    let mut claims: Vec<(Rank, &Interface, &CardLine)> = Vec::new();
    for line in lines {
        match &line.interface {
            Which::All => {
                let all = interfaces.iter().flat_map(|one| carriers(one, interfaces));
                claims.extend(all.map(|one| (Rank::All, one, line)));
            }
            Which::Named(name) => {
                let Some(named) = interfaces.iter().find(|one| one.name == *name) else {
                    plan.say(
                        Level::Warn,
                        format!(
                            "hwtimestamp {name}: there is no such interface; it is set up when it comes"
                        ),
                    );
                    continue;
                };
                for one in carriers(named, interfaces) {
                    let itself = one.index == named.index;
                    let rank = if itself { Rank::Itself } else { Rank::Over };
                    claims.push((rank, one, line));
                }
            }
        }
    }
    claims.sort_by_key(|(rank, ..)| *rank);
    let mut seen = BTreeSet::new();
    claims.retain(|(_, one, _)| seen.insert(one.index));

    let mut some_can = false;
    for (rank, interface, line) in claims {
        let name = &interface.name;
        let (phc, stamping) = match ability(stamping(name)) {
            Ok(able) => able,
            Err(why) if rank != Rank::All => {
                plan.say(
                    Level::Warn,
                    format!(
                        "hwtimestamp {}: {name} {why}; the kernel's stamps are used",
                        line.interface.word()
                    ),
                );
                continue;
            }
            Err(_) => continue,
        };
        some_can = true;
        if !interface.up {
            if rank != Rank::All {
                plan.say(
                    Level::Info,
                    format!("{name} is down; it is set up for hardware stamps when it comes up"),
                );
            }
        } else if plan.cards.len() == CARDS_MAX {
            plan.say(
                Level::Warn,
                format!(
                    "{name} is not used for hardware stamps: {CARDS_MAX} cards at most; name those \
                     that matter on `hwtimestamp` lines instead of `*`"
                ),
            );
        } else {
            plan.cards.push(Planned {
                interface,
                line,
                phc,
                filters: filters(line.filter, &stamping),
            });
        }
    }
    if !some_can && lines.iter().any(|line| line.interface == Which::All) {
        plan.say(
            Level::Warn,
            "hwtimestamp *: no interface here can stamp packets by hardware; the kernel's stamps \
             are used"
                .to_owned(),
        );
    }
    plan
}

/// How directly a line speaks of an interface, the most directly first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Itself,
    Over,
    All,
}

impl Plan<'_> {
    fn say(&mut self, level: Level, sentence: String) {
        self.remarks.push((level, sentence));
    }
}

/// The interfaces that really carry the packets of `one`: a VLAN's carrier, the members of
/// a bond, or `one` itself.
pub fn carriers<'a>(one: &'a Interface, all: &'a [Interface]) -> Vec<&'a Interface> {
    /// A VLAN on a bond of VLANs, and some: the kernel allows 8 in all.
    const DEPTH_MAX: usize = 8;
    let mut found = vec![one];
    for _ in 0..DEPTH_MAX {
        let next: Vec<&Interface> = found.iter().flat_map(|one| below(one, all)).collect();
        if next == found {
            break;
        }
        found = next;
    }
    found
}

fn below<'a>(one: &'a Interface, all: &'a [Interface]) -> Vec<&'a Interface> {
    let carrier = |index| all.iter().find(|other| other.index == index);
    if let Some(carrier) = one.below.and_then(carrier) {
        return vec![carrier];
    }
    let members: Vec<_> = all
        .iter()
        .filter(|other| other.master == Some(one.index))
        .collect();
    if members.is_empty() {
        vec![one]
    } else {
        members
    }
}

/// Its clock and what it can, or why it can't stamp.
fn ability(stamping: Option<Stamping>) -> Result<(u32, Stamping), &'static str> {
    let stamping = stamping.ok_or("has a driver that knows nothing of stamps")?;
    if !stamping.hardware() {
        return Err("can't stamp packets by hardware");
    }
    let phc = stamping.phc.ok_or("has no PTP hardware clock")?;
    Ok((phc, stamping))
}

/// What to ask for, the best first. Drivers list what they can, and some take what they
/// don't list, so an operator's wish is tried in any case.
fn filters(wish: Option<Filter>, stamping: &Stamping) -> Vec<RxFilter> {
    match wish {
        Some(Filter::All) => vec![RxFilter::ALL],
        Some(Filter::Ntp) => vec![RxFilter::NTP_ALL],
        Some(Filter::Ptp) => vec![RxFilter::PTP_L4_EVENT, RxFilter::PTP_EVENT],
        Some(Filter::None) => vec![RxFilter::NONE],
        // Where PTP packets are all it can stamp, arrivals of NTP get no stamp in any
        // case, and departures do without a filter.
        None => [RxFilter::ALL, RxFilter::NTP_ALL]
            .into_iter()
            .filter(|filter| stamping.filters(*filter))
            .chain([RxFilter::NONE])
            .collect(),
    }
}

/// Is the card set up as well as it can be for this plan? Then its driver is left alone:
/// telling it needs a right, and may reset the card.
fn is_good(present: HardwareConfig, planned: &Planned<'_>) -> bool {
    let for_ntp = |filter| Receives::of(filter) == Receives::All;
    let (best, now) = (planned.filters[0], present.rx_filter);
    present.tx_type == TxType::ON
        && match planned.line.filter {
            None | Some(Filter::Ntp) if for_ntp(best) => for_ntp(now),
            Some(Filter::Ptp) => planned.filters.contains(&now),
            // Arrivals that pass are no use to us, but may be to a PTP daemon.
            None => true,
            _ => now == best,
        }
}

/// Whom to ask and tell about cards.
pub trait Host {
    /// An open clock.
    type Clock;
    /// What an interface can do; none: nothing is known.
    fn stamping(&self, name: &str) -> Option<Stamping>;
    /// How it is set up; none: its driver doesn't say.
    fn present(&self, name: &str) -> Option<HardwareConfig>;
    /// Sets it up, and says what became of it; none: that is not possible.
    fn set(&self, name: &str, config: HardwareConfig) -> io::Result<Option<HardwareConfig>>;
    /// Bits per second; zero if unknown.
    fn speed(&self, name: &str) -> u64;
    /// Opens clock `index`; if not `precise`, both clocks are never latched at once.
    fn open(&self, index: u32, precise: bool) -> io::Result<Self::Clock>;
}

/// This machine.
#[derive(Debug)]
pub struct Kernel {
    ethtool: Ethtool,
}

impl Host for Kernel {
    type Clock = Phc;

    fn stamping(&self, name: &str) -> Option<Stamping> {
        self.ethtool.stamping(name).ok().flatten()
    }

    fn present(&self, name: &str) -> Option<HardwareConfig> {
        self.ethtool.hardware_config(name).ok().flatten()
    }

    fn set(&self, name: &str, config: HardwareConfig) -> io::Result<Option<HardwareConfig>> {
        self.ethtool.set_hardware_config(name, config)
    }

    fn speed(&self, name: &str) -> u64 {
        self.ethtool.speed(name).ok().flatten().unwrap_or(0)
    }

    fn open(&self, index: u32, precise: bool) -> io::Result<Phc> {
        let mut phc = Phc::open(index)?;
        if !precise {
            phc.without_precise();
        }
        Ok(phc)
    }
}

/// What is remembered of a card that was set up.
#[derive(Debug)]
struct Kept {
    /// Its name when last seen.
    name: String,
    /// How it was before us, if its driver said so.
    before: Option<HardwareConfig>,
    /// The filters that were asked for, the best first.
    asked: Vec<RxFilter>,
    /// What the driver made of our wish, or what we found good.
    made: HardwareConfig,
    /// Did we set it?
    ours: bool,
    /// Set it back at the end?
    restore: bool,
    /// It went down since, and a driver that doesn't say may have forgotten.
    stale: bool,
    /// When the operator was last told that it had been forgotten.
    told_at: Option<MonoInstant>,
}

/// Sets cards up and looks after them.
#[derive(Debug)]
pub struct Keeper<H: Host = Kernel> {
    host: H,
    lines: Vec<CardLine>,
    /// They are new.
    changed: bool,
    /// By index of the interface.
    kept: BTreeMap<u32, Kept>,
    /// What has been said and still holds.
    said: BTreeSet<Remark>,
    /// The cards as last given away.
    given: Vec<Card<u32>>,
}

impl Keeper {
    /// For these lines; none if there are none, or (said) if nobody can be asked.
    pub fn new(lines: &[CardLine]) -> Option<Self> {
        if lines.is_empty() {
            return None;
        }
        match Ethtool::new() {
            Ok(ethtool) => Some(Self::on(Kernel { ethtool }, lines)),
            Err(error) => {
                warn!(
                    "hwtimestamp: no socket to reach drivers through: {error}; the kernel's stamps are used"
                );
                None
            }
        }
    }
}

impl<H: Host> Keeper<H> {
    fn on(host: H, lines: &[CardLine]) -> Self {
        Self {
            host,
            lines: lines.to_vec(),
            changed: false,
            kept: BTreeMap::new(),
            said: BTreeSet::new(),
            given: Vec::new(),
        }
    }

    /// These lines count from the next [`follow`](Self::follow) on, which gives all cards
    /// away. Those that they don't mean are left as at the [end](Self::restore).
    pub fn set_lines(&mut self, lines: Vec<CardLine>) {
        self.lines = lines;
        self.changed = true;
    }

    /// Interfaces may have changed, and are like this now; or it is time to see whether
    /// drivers still do as they were told. Returns all cards, each with its clock newly
    /// opened, if anything about them is new.
    pub fn follow(&mut self, interfaces: &[Interface]) -> Option<Vec<Card<H::Clock>>> {
        let lines = std::mem::take(&mut self.lines);
        let plan = plan(&lines, interfaces, |name| self.host.stamping(name));
        let mut remarks: BTreeSet<Remark> = plan.remarks.into_iter().collect();
        self.forget_the_gone(interfaces);
        let changed = std::mem::take(&mut self.changed);
        if changed {
            let meant = |index: &u32| plan.cards.iter().any(|card| card.interface.index == *index);
            let kept = std::mem::take(&mut self.kept).into_iter();
            let (meant, given_up) = kept.partition(|(index, _)| meant(index));
            self.kept = meant;
            self.leave(given_up);
        }
        let mut cards = Vec::new();
        let mut shapes = Vec::new();
        for planned in &plan.cards {
            match self.set_up(planned) {
                Ok((shape, clock)) => {
                    cards.push(shape.with_clock(clock));
                    shapes.push(shape);
                }
                Err(remark) => {
                    remarks.insert(remark);
                }
            }
        }
        for (level, sentence) in remarks.difference(&self.said) {
            log!(*level, "{sentence}");
        }
        self.said = remarks;
        self.lines = lines;
        if shapes == self.given && !changed {
            return None;
        }
        self.tell_changes(&shapes);
        self.given = shapes;
        Some(cards)
    }

    fn forget_the_gone(&mut self, interfaces: &[Interface]) {
        self.kept.retain(|index, kept| {
            let found = interfaces.iter().find(|one| one.index == *index);
            if let Some(one) = found {
                kept.name.clone_from(&one.name);
                kept.stale |= !one.up;
            }
            found.is_some()
        });
    }

    fn set_up(&mut self, planned: &Planned<'_>) -> Result<(Card<u32>, H::Clock), Remark> {
        let Planned {
            interface, line, ..
        } = planned;
        let name = &interface.name;
        // Stamps of a clock that can't be read say nothing, so nothing is touched.
        let clock = self.host.open(planned.phc, line.precise).map_err(|error| {
            let path = path_of(planned.phc);
            let what = match error.kind() {
                io::ErrorKind::PermissionDenied => {
                    "let ptntp's user read it (see 60-ptntp.rules), or run as root"
                }
                _ => "see whether it is there, in a container too",
            };
            let sentence = format!(
                "{name}: its clock {path} can't be opened: {error}; the kernel's stamps are used; {what}"
            );
            (Level::Error, sentence)
        })?;
        let config = self.configure(planned)?;
        let shape = Card {
            interface: interface.index,
            name: name.clone(),
            phc: planned.phc,
            tx_compensation: line.tx_compensation,
            rx_compensation: line.rx_compensation,
            precision: line.precision,
            poll: line.poll,
            speed: self.host.speed(name),
            receives: Receives::of(config.rx_filter),
            transmits: config.tx_type != TxType::OFF,
        };
        Ok((shape, clock))
    }

    /// How the card is set up in the end.
    fn configure(&mut self, planned: &Planned<'_>) -> Result<HardwareConfig, Remark> {
        let (index, name) = (planned.interface.index, &planned.interface.name);
        let present = self.host.present(name);
        let as_left = |kept: &Kept| match present {
            Some(present) => present == kept.made,
            None => !kept.stale,
        };
        if let Some(kept) = self.kept.get_mut(&index) {
            kept.restore = planned.line.restore;
            if as_left(kept) && kept.asked == planned.filters {
                kept.stale = false;
                return Ok(kept.made);
            }
        }
        if let Some(present) = present.filter(|present| is_good(*present, planned)) {
            self.kept.entry(index).or_insert_with(|| Kept {
                name: name.clone(),
                before: Some(present),
                asked: planned.filters.clone(),
                made: present,
                ours: false,
                restore: planned.line.restore,
                stale: false,
                told_at: None,
            });
            return Ok(present);
        }
        let made = self.tell_driver(planned)?;
        match self.kept.get_mut(&index) {
            Some(kept) => {
                let again = kept.asked == planned.filters;
                kept.asked.clone_from(&planned.filters);
                kept.made = made;
                kept.ours = true;
                kept.stale = false;
                if again {
                    kept.tell_set_again(present);
                }
            }
            None => {
                let kept = Kept {
                    name: name.clone(),
                    before: present,
                    asked: planned.filters.clone(),
                    made,
                    ours: true,
                    restore: planned.line.restore,
                    stale: false,
                    told_at: None,
                };
                self.kept.insert(index, kept);
            }
        }
        Ok(made)
    }

    /// Asks for one filter after the other.
    fn tell_driver(&self, planned: &Planned<'_>) -> Result<HardwareConfig, Remark> {
        let name = &planned.interface.name;
        let mut refusal = "its driver can't be told".to_owned();
        for &rx_filter in &planned.filters {
            let wish = HardwareConfig {
                tx_type: TxType::ON,
                rx_filter,
            };
            match self.host.set(name, wish) {
                // A driver may say yes and mean no.
                Ok(Some(made))
                    if Receives::of(made.rx_filter) != Receives::None
                        || rx_filter == RxFilter::NONE && made.tx_type != TxType::OFF =>
                {
                    return Ok(made);
                }
                Ok(Some(made)) => {
                    refusal = format!(
                        "asked for filter {} it took {}",
                        rx_filter.name(),
                        made.rx_filter.name()
                    );
                }
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    let sentence = format!(
                        "{name}: no right to switch its hardware stamps on (CAP_NET_ADMIN); the \
                         kernel's are used; run as root, give the service that capability, or \
                         switch them on beforehand: hwstamp_ctl -i {name} -t 1 -r {}",
                        if rx_filter == RxFilter::NONE { 0 } else { 1 }
                    );
                    return Err((Level::Error, sentence));
                }
                Err(error) => {
                    debug!("{name}: filter {}: {error}", rx_filter.name());
                    refusal = format!("its driver refuses filter {}: {error}", rx_filter.name());
                }
            }
        }
        let sentence = format!(
            "{name}: hardware stamps can't be switched on: {refusal}; the kernel's are used; \
             `ptntp nics {name}` shows which filters it has"
        );
        Err((Level::Error, sentence))
    }

    fn tell_changes(&self, shapes: &[Card<u32>]) {
        for card in shapes.iter().filter(|card| !self.given.contains(card)) {
            info!("{}", card.describe());
        }
        for card in &self.given {
            if !shapes.iter().any(|other| other.interface == card.interface) {
                info!("{}: no hardware stamps from it any more", card.name);
            }
        }
    }

    /// The end: cards whose line says `restore` are set as they were before, if they
    /// still are as we set them.
    pub fn restore(&mut self) {
        let all = std::mem::take(&mut self.kept);
        self.leave(all);
    }

    fn leave(&self, cards: BTreeMap<u32, Kept>) {
        for kept in cards.into_values() {
            let Some(before) = kept.before.filter(|_| kept.restore && kept.ours) else {
                continue;
            };
            let name = &kept.name;
            if self.host.present(name) != Some(kept.made) {
                info!("{name}: left as it is: somebody else has set its hardware stamps");
                continue;
            }
            match self.host.set(name, before) {
                Ok(_) => info!("{name}: hardware stamps set as they were before"),
                Err(error) => {
                    warn!("{name}: its hardware stamps can't be set as they were before: {error}");
                }
            }
        }
    }
}

impl Kept {
    /// Not at the rate of a driver that resets its card all the time.
    fn tell_set_again(&mut self, found: Option<HardwareConfig>) {
        let now = clock::monotonic();
        let Some(found) = found else { return };
        let level = match self.told_at {
            Some(at) if now < at + CHECK_INTERVAL => Level::Debug,
            _ => {
                self.told_at = Some(now);
                Level::Warn
            }
        };
        log!(
            level,
            "{}: its hardware stamps had been set otherwise (receive {}; transmit {}) by its \
             driver or another program; set again",
            self.name,
            found.rx_filter.name(),
            found.tx_type.name()
        );
    }
}

impl Card<u32> {
    fn with_clock<C>(&self, phc: C) -> Card<C> {
        Card {
            interface: self.interface,
            name: self.name.clone(),
            phc,
            tx_compensation: self.tx_compensation,
            rx_compensation: self.rx_compensation,
            precision: self.precision,
            poll: self.poll,
            speed: self.speed,
            receives: self.receives,
            transmits: self.transmits,
        }
    }

    fn describe(&self) -> String {
        let what = match (self.receives, self.transmits) {
            (Receives::All, true) => "stamps packets that arrive and leave",
            (Receives::All, false) => "stamps packets that arrive",
            (Receives::PtpOnly, true) => "stamps packets that leave, and PTP's that arrive",
            (Receives::PtpOnly, false) => "stamps PTP's packets that arrive",
            (Receives::None, _) => "stamps packets that leave",
        };
        let speed = match self.speed {
            0 => String::new(),
            bits => format!(", {} Mbit/s", bits / 1_000_000),
        };
        format!("{}: {} {what}{speed}", self.name, path_of(self.phc))
    }
}

#[cfg(test)]
mod tests;

//! The network cards' clocks: reads them together with CLOCK_REALTIME, and turns the
//! cards' stamps into moments of it. Part of the time loop, because whoever steers the
//! clock has to know at once what that does to the lines.

use std::collections::BTreeMap;

use log::{info, warn};
use serde::{Deserialize, Serialize};

use crate::daemon::cards::{Card, Receives};
use crate::daemon::distribution::Distribution;
use crate::hardware::card::{CardClock, Cards, Doubt, Judged};
use crate::hardware::servo::Bent;
use crate::hardware::track::{Outcome, Track};
use crate::hardware::wait::DepartureWait;
use crate::linux::clock;
use crate::linux::cmsg::CardStamp;
use crate::linux::phc::{self, Phc};
use crate::linux::udp::Answer;
use crate::time::duration::NtpDuration;
use crate::time::instant::{MonoInstant, WallInstant};
use crate::time::phc::{Crossing, PhcMap};
use crate::time::stamp::{Stamp, StampOrigin};

/// Readings in quick succession until a clock's line is known.
const LEARNING_INTERVAL: NtpDuration = NtpDuration::from_units(1 << 29); // 125 ms
const LEARNING_READINGS: u32 = 12;
/// A clock that can't be read is tried again after this.
const RETRY: NtpDuration = NtpDuration::from_whole_seconds(16);
/// A reading that keeps the time loop for longer is a driver's that waits for
/// something; such clocks are read less often.
const READING_MAX: NtpDuration = NtpDuration::from_units(1 << 26); // 16 ms
/// Stamps doubted in a row before the operator is told.
const DOUBTS_TOLD: u32 = 8;
/// Arrivals without a stamp in a row before the operator is told.
const UNSTAMPED_TOLD: u32 = 8;

/// The clocks and cards in use.
#[derive(Debug, Default)]
pub struct Hardware {
    clocks: Vec<CardsClock>,
    ports: Vec<Port>,
    /// What the ports' stamps are judged by, as of the last reading.
    cards: Cards,
    batch: Vec<Crossing>,
}

/// A hardware clock, of one card or of several.
#[derive(Debug)]
struct CardsClock {
    phc: Phc,
    track: Track,
    interval: NtpDuration,
    next: MonoInstant,
    readings: u32,
    /// The operator was told that it is of no use.
    told: bool,
}

/// A card's interface.
#[derive(Debug)]
struct Port {
    interface: u32,
    name: String,
    clock: u32,
    tx_compensation: NtpDuration,
    rx_compensation: NtpDuration,
    precision: NtpDuration,
    speed: u64,
    receives: Receives,
    transmits: bool,
    wait: DepartureWait,
    doubted_in_a_row: u32,
    unstamped_in_a_row: u32,
    told_doubt: bool,
    told_silent: bool,
    counts: Counts,
}

#[derive(Clone, Debug, Default)]
struct Counts {
    rx: u64,
    rx_kernel: u64,
    tx: u64,
    tx_missing: u64,
    doubted: [u64; Doubt::ALL.len()],
    tx_latency: Distribution,
}

/// A card as the control socket and the metrics show it. The field names are the
/// JSON names; they only grow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CardStatus {
    /// The interface's name.
    pub interface: String,
    /// Its clock, such as `/dev/ptp0`.
    pub phc: String,
    /// How the clock is read: `plain`, `extended` or `precise`.
    pub cross_method: String,
    /// CLOCK_REALTIME minus the card's clock, while that is known.
    pub phc_offset_s: Option<f64>,
    /// How much faster CLOCK_REALTIME runs than the card's clock.
    pub phc_frequency_ppm: Option<f64>,
    /// The most that a stamp can be wrong by for not knowing the clock better.
    pub phc_error_s: Option<f64>,
    /// How often the clock jumped or was set.
    pub phc_jumps: u64,
    /// Our packets whose arrival the card stamped.
    pub rx_hardware: u64,
    /// And those for which the kernel's stamp had to do.
    pub rx_kernel: u64,
    /// Our requests whose departure the card stamped.
    pub tx_hardware: u64,
    /// And those whose stamp did not come in time.
    pub tx_missing: u64,
    /// Stamps that came and were not believed, by reason.
    pub doubted: BTreeMap<String, u64>,
    /// Half of the departure stamps came sooner than this after the request was sent.
    pub tx_latency_median_s: Option<f64>,
    /// 99 of 100 did.
    pub tx_latency_p99_s: Option<f64>,
    /// How long a departure stamp is waited for now.
    pub tx_wait_s: f64,
}

/// A card, and how long its departure stamps take.
#[derive(Clone, Debug)]
pub struct CardReport {
    /// In numbers.
    pub status: CardStatus,
    /// From the kernel's stamp of a request until the card's came.
    pub tx_latency: Distribution,
}

impl Hardware {
    /// Are stamps of cards to be asked for?
    pub fn is_empty(&self) -> bool {
        self.ports.is_empty()
    }

    /// These are the cards now. What is known of those that stay, stays.
    pub fn set_cards(&mut self, cards: Vec<Card>, timeout: NtpDuration, now: MonoInstant) {
        let mut old_clocks = std::mem::take(&mut self.clocks);
        let mut old_ports = std::mem::take(&mut self.ports);
        for card in cards {
            let clock = card.phc.index();
            let interval = card.poll.interval();
            match self.clocks.iter_mut().find(|c| c.phc.index() == clock) {
                Some(shared) => shared.interval = shared.interval.min(interval),
                None => {
                    let known = old_clocks.iter().position(|c| c.phc.index() == clock);
                    self.clocks.push(match known {
                        // The device may be another one by the same name.
                        Some(place) if old_clocks[place].phc.is_same(&card.phc) => CardsClock {
                            interval,
                            ..old_clocks.swap_remove(place)
                        },
                        _ => CardsClock::new(card.phc, interval, now),
                    });
                }
            }
            let known = old_ports
                .iter()
                .position(|p| p.interface == card.interface && p.name == card.name);
            let memory = known.map(|place| old_ports.swap_remove(place));
            self.ports.push(Port {
                interface: card.interface,
                name: card.name,
                clock,
                tx_compensation: card.tx_compensation,
                rx_compensation: card.rx_compensation,
                precision: card.precision,
                speed: card.speed,
                receives: card.receives,
                transmits: card.transmits,
                wait: memory
                    .as_ref()
                    .map_or_else(|| DepartureWait::new(timeout), |port| port.wait.clone()),
                doubted_in_a_row: 0,
                unstamped_in_a_row: 0,
                told_doubt: false,
                told_silent: false,
                counts: memory.map(|port| port.counts).unwrap_or_default(),
            });
        }
        self.refresh();
    }

    /// When [`turn`](Self::turn) is due.
    pub fn deadline(&self) -> MonoInstant {
        let deadlines = self.clocks.iter().map(|clock| clock.next);
        deadlines.min().unwrap_or(MonoInstant::MAX)
    }

    /// Reads the clocks that are due. Whether [`cards`](Self::cards) changed.
    pub fn turn(&mut self, now: MonoInstant) -> bool {
        let mut read = false;
        for clock in &mut self.clocks {
            if clock.next <= now {
                let names = names_of(&self.ports, clock.phc.index());
                clock.read(&mut self.batch, &names, now);
                read = true;
            }
        }
        if read {
            self.refresh();
        }
        read
    }

    /// CLOCK_REALTIME was stepped by `step` when it showed `at`, and from then on runs
    /// faster by the ratio `faster`.
    pub fn steered(&mut self, at: WallInstant, step: NtpDuration, faster: f64) {
        for clock in &mut self.clocks {
            clock.track.steered(at, step, faster);
        }
        self.refresh();
    }

    /// A hardware clock was steered by us.
    pub fn bent(&mut self, bent: &Bent) {
        let same = |clock: &&mut CardsClock| clock.phc.index() == bent.index;
        if let Some(clock) = self.clocks.iter_mut().find(same) {
            match bent.faster {
                Some(faster) => clock.track.bent(bent.at, faster),
                None => {
                    clock.track.forget();
                    clock.readings = 0;
                }
            }
            self.refresh();
        }
    }

    /// What stamps are judged by, for those who judge many.
    pub fn cards(&self) -> &Cards {
        &self.cards
    }

    fn refresh(&mut self) {
        let known = self.ports.iter().filter_map(|port| {
            Some(CardClock {
                interface: port.interface,
                map: known_line(&self.clocks, port)?,
                tx_compensation: port.tx_compensation,
                rx_compensation: port.rx_compensation,
                speed: port.speed,
            })
        });
        self.cards = Cards::new(known);
    }

    /// An answer's arrival by the card that took it, if that can be believed. The
    /// kernel's stamp is witness.
    pub fn arrival(&mut self, answer: &Answer) -> Option<Stamp> {
        let kernel = answer.stamp;
        if kernel.origin != StampOrigin::Kernel {
            return None;
        }
        let Some(stamp) = answer.card else {
            // Behind a bond or a VLAN nobody knows which card it was, unless there is
            // but one.
            if let Some(port) = port_of(&mut self.ports, answer.interface)
                && port.receives == Receives::All
            {
                port.arrived_unstamped();
            }
            return None;
        };
        let judged = self
            .cards
            .of_or_only(stamp.interface)
            .ok_or(Doubt::Unknown)
            .and_then(|card| card.arrival(stamp.phc, kernel.at, stamp.frame_len));
        let port = port_of(&mut self.ports, stamp.interface)?;
        match judged {
            Ok(judged) => {
                port.believe();
                port.unstamped_in_a_row = 0;
                port.counts.rx += 1;
                Some(port.stamp(&judged))
            }
            Err(doubt) => {
                port.counts.rx_kernel += 1;
                port.doubt(doubt);
                None
            }
        }
    }

    /// A departure by the card that took it, if that can be believed. `kernel` is the
    /// kernel's stamp of it.
    pub fn departure(&mut self, kernel: Stamp, stamp: CardStamp) -> Option<Stamp> {
        let judged = self
            .cards
            .of_or_only(stamp.interface)
            .ok_or(Doubt::Unknown)
            .and_then(|card| card.departure(stamp.phc, kernel.at));
        let port = port_of(&mut self.ports, stamp.interface)?;
        let latency = clock::realtime() - kernel.at;
        port.counts.tx_latency.record(latency);
        port.wait.came(latency);
        match judged {
            Ok(judged) => {
                port.believe();
                port.counts.tx += 1;
                Some(port.stamp(&judged))
            }
            Err(doubt) => {
                port.doubt(doubt);
                None
            }
        }
    }

    /// How long to wait for the departure stamp of a request whose answer was stamped
    /// by this card: from the answer's arrival on.
    pub fn departure_wait(&self, answered_by: &CardStamp) -> NtpDuration {
        let port = self
            .ports
            .iter()
            .find(|p| p.interface == answered_by.interface);
        let port = port.or(match &self.ports[..] {
            [only] => Some(only),
            _ => None,
        });
        port.filter(|port| port.transmits)
            .map_or(NtpDuration::ZERO, |port| port.wait.length())
    }

    /// A departure stamp did not come in time.
    pub fn departure_missing(&mut self, answered_by: &CardStamp) {
        let Some(port) = port_of(&mut self.ports, answered_by.interface) else {
            return;
        };
        port.counts.tx_missing += 1;
        if port.wait.missed() && !std::mem::replace(&mut port.told_silent, true) {
            warn!(
                "{}: hardware timestamps of departures don't come, or later than {:.0} ms; \
                 using the kernel's (does `ptntp nics` show transmit on? a longer \
                 hwtstimeout helps if the driver is slow)",
                port.name,
                port.wait.length().as_seconds() * 1e3
            );
        }
    }

    /// All cards, for those who ask.
    pub fn report(&self) -> Vec<CardReport> {
        self.ports
            .iter()
            .filter_map(|port| {
                let clock = self.clocks.iter().find(|c| c.phc.index() == port.clock)?;
                Some(CardReport {
                    status: port.status(clock),
                    tx_latency: port.counts.tx_latency.clone(),
                })
            })
            .collect()
    }
}

fn port_of(ports: &mut [Port], interface: u32) -> Option<&mut Port> {
    if let [only] = ports {
        return Some(only);
    }
    ports.iter_mut().find(|port| port.interface == interface)
}

fn known_line(clocks: &[CardsClock], port: &Port) -> Option<PhcMap> {
    let clock = clocks.iter().find(|c| c.phc.index() == port.clock)?;
    clock.track.map()
}

fn names_of(ports: &[Port], clock: u32) -> String {
    let names = ports.iter().filter(|port| port.clock == clock);
    let names: Vec<&str> = names.map(|port| port.name.as_str()).collect();
    names.join(", ")
}

impl CardsClock {
    fn new(phc: Phc, interval: NtpDuration, now: MonoInstant) -> Self {
        Self {
            phc,
            track: Track::new(),
            interval,
            next: now,
            readings: 0,
            told: false,
        }
    }

    /// `names` of the interfaces it belongs to.
    fn read(&mut self, batch: &mut Vec<Crossing>, names: &str, now: MonoInstant) {
        let path = phc::path_of(self.phc.index());
        if let Err(error) = self.phc.cross(batch) {
            self.next = now + RETRY;
            self.track = Track::new();
            self.readings = 0;
            if !std::mem::replace(&mut self.told, true) {
                let gone = error.raw_os_error() == Some(nix::libc::ENODEV);
                let what = if gone { "is gone" } else { "can't be read" };
                warn!("{names}: {path} {what} ({error}); using the kernel's timestamps");
            }
            return;
        }
        let took = clock::monotonic().since(now);
        let interval = if self.readings < LEARNING_READINGS {
            self.readings += 1;
            LEARNING_INTERVAL.min(self.interval)
        } else {
            self.interval
        };
        self.next = now
            + if took > READING_MAX {
                RETRY.half()
            } else {
                interval
            };
        match self.track.take(batch) {
            Some(Outcome::Jumped(by)) => {
                self.readings = 0;
                if !std::mem::replace(&mut self.told, true) {
                    warn!(
                        "{names}: {path} jumped by {:+.9} s against the system clock; \
                         learning it anew, with the kernel's timestamps meanwhile",
                        -by.as_seconds()
                    );
                }
            }
            Some(Outcome::Absurd(times)) => {
                self.readings = 0;
                self.next = now + RETRY.half().half();
                if !std::mem::replace(&mut self.told, true) {
                    warn!(
                        "{names}: {path} runs {times:.3} times as fast as the system clock; \
                         using the kernel's timestamps"
                    );
                }
            }
            Some(Outcome::Tracked) => {
                let known = self.track.map().is_some();
                if known && self.readings == LEARNING_READINGS && self.told {
                    self.told = false;
                    info!("{names}: {path} is known again");
                }
            }
            Some(Outcome::Doubted) => {
                // The next reading tells what was wrong.
                self.next = now + LEARNING_INTERVAL;
            }
            None => {}
        }
    }
}

impl Port {
    fn stamp(&self, judged: &Judged) -> Stamp {
        Stamp {
            at: judged.at,
            origin: StampOrigin::Hardware,
            error: judged.error + self.precision,
            frame_time: judged.frame_time,
        }
    }

    fn arrived_unstamped(&mut self) {
        self.counts.rx_kernel += 1;
        self.unstamped_in_a_row += 1;
        if self.unstamped_in_a_row == UNSTAMPED_TOLD {
            warn!(
                "{}: packets arrive without hardware timestamps, though its driver agreed to                  give them; using the kernel's (`ptntp nics {}` shows how it is set up)",
                self.name, self.name
            );
        }
    }

    fn believe(&mut self) {
        self.doubted_in_a_row = 0;
        if std::mem::take(&mut self.told_doubt) {
            info!("{}: hardware timestamps are good again", self.name);
        }
    }

    fn doubt(&mut self, doubt: Doubt) {
        self.counts.doubted[doubt as usize] += 1;
        // Learning a clock takes a moment, and whoever made it jump was told already.
        if doubt == Doubt::Unknown {
            return;
        }
        self.doubted_in_a_row += 1;
        if self.doubted_in_a_row == DOUBTS_TOLD && !std::mem::replace(&mut self.told_doubt, true) {
            warn!(
                "{}: a hardware timestamp is not used: {doubt}; using the kernel's",
                self.name
            );
        }
    }

    fn status(&self, clock: &CardsClock) -> CardStatus {
        let line = clock.track.map();
        let counts = &self.counts;
        CardStatus {
            interface: self.name.clone(),
            phc: phc::path_of(clock.phc.index()),
            cross_method: clock.phc.method().name().to_owned(),
            phc_offset_s: line
                .map(|line| (line.anchor_real.unix_ns() - line.anchor_phc.nanos()) as f64 * 1e-9),
            phc_frequency_ppm: line.map(|line| line.rate * 1e6),
            phc_error_s: line.map(|line| line.error.as_seconds()),
            phc_jumps: clock.track.jumps(),
            rx_hardware: counts.rx,
            rx_kernel: counts.rx_kernel,
            tx_hardware: counts.tx,
            tx_missing: counts.tx_missing,
            doubted: Doubt::ALL
                .iter()
                .zip(counts.doubted)
                .map(|(doubt, count)| (doubt.name().to_owned(), count))
                .collect(),
            tx_latency_median_s: counts.tx_latency.quantile_s(0.5),
            tx_latency_p99_s: counts.tx_latency.quantile_s(0.99),
            tx_wait_s: self.wait.length().as_seconds(),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A card that works.
    pub(crate) fn example() -> CardReport {
        let mut tx_latency = Distribution::new();
        tx_latency.record_ns(15_000, 5);
        CardReport {
            status: CardStatus {
                interface: "eth0".to_owned(),
                phc: "/dev/ptp0".to_owned(),
                cross_method: "extended".to_owned(),
                phc_offset_s: Some(-37.0),
                phc_frequency_ppm: Some(-20.0),
                phc_error_s: Some(4e-7),
                phc_jumps: 0,
                rx_hardware: 5,
                rx_kernel: 1,
                tx_hardware: 5,
                tx_missing: 1,
                doubted: [("too_far".to_owned(), 2)].into(),
                tx_latency_median_s: Some(1.5e-5),
                tx_latency_p99_s: Some(1.5e-5),
                tx_wait_s: 1e-3,
            },
            tx_latency,
        }
    }
}

//! The event loop of a simulated world: what `daemon/time_loop` does with sockets and
//! the kernel's clock, done with simulated ones. Nothing is done when nothing is due
//! but that the true error is looked at once a second.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::node::action::{Action, AssociationId};
use crate::node::engine::{Node, NodeConfig};
use crate::node::pool::SourceSpec;
use crate::sim::clock::{Clock, Stamper};
use crate::sim::dice::{Dice, Direction, Stream};
use crate::sim::engine::Engine;
use crate::sim::path::{Arrivals, Carrier};
use crate::sim::reference::Reference;
use crate::sim::scenario::{Happening, Scenario};
use crate::sim::score::{Packets, Promise, Recorder, Score, Second};
use crate::sim::server::{Server, Truth};
use crate::sync::ledger::MonotonicClock;
use crate::system::SystemState;
use crate::time::duration::NtpDuration;
use crate::time::instant::{MonoInstant, WallInstant};
use crate::time::stamp::StampOrigin;
use crate::time::timestamp::NtpShort;
use crate::time::units::{Ppm, Precision};
use crate::wire::packet::{HEADER_LEN, Leap};

const SECOND_NS: i64 = 1_000_000_000;
const DAY: NtpDuration = NtpDuration::from_whole_seconds(86_400);
/// Smaller moves of the clock by others go unnoticed, as in `daemon/clock`.
const FOREIGN_STEP_MIN: NtpDuration = NtpDuration::from_units(1 << 23); // 2 ms
/// An engine that is not content with its timer gets it again after this.
const TIMER_AGAIN_NS: i64 = 1_000;
/// Where the client is.
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 254));

/// Who estimates.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Estimator {
    /// The node, as in the daemon.
    #[default]
    Node,
    /// The plain one that tells whether the weather is as it should be.
    Reference,
    /// The same with a memory ten times as long.
    ReferenceCalm,
}

impl Estimator {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Node, Self::Reference, Self::ReferenceCalm];

    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Reference => "reference",
            Self::ReferenceCalm => "reference-calm",
        }
    }
}

/// What is kept of one second, for curves.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Record {
    /// Since the start.
    pub at_s: u64,
    /// True, promised.
    pub second: Second,
    /// What the node believes the clock lacks.
    pub offset_s: Option<f64>,
    /// Poll interval.
    pub poll_s: Option<f64>,
}

/// What came out.
#[derive(Clone, PartialEq, Debug)]
pub struct Outcome {
    /// The figures.
    pub score: Score,
    /// Each second, if it was wanted.
    pub records: Vec<Record>,
    /// What an operator would have read in the log: when, and what.
    pub log: Vec<(f64, String)>,
}

/// Runs a scenario from its start to its end.
pub fn run(scenario: &Scenario, seed: u64, estimator: Estimator, keep: bool) -> Outcome {
    let mut world = World::new(scenario, seed, estimator, keep);
    world.run();
    world.outcome(scenario, seed, estimator)
}

/// What is on its way.
#[derive(Debug)]
enum Flight {
    Request {
        server: usize,
        from: Socket,
        bytes: Vec<u8>,
        sent_ns: i64,
    },
    Reply {
        to: Socket,
        bytes: [u8; HEADER_LEN],
        /// What T4 comes too late by.
        late_s: f64,
        sent_ns: i64,
        /// How long the server had it.
        held_ns: i64,
    },
}

/// A client's socket: each request has a fresh one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Socket {
    association: AssociationId,
    serial: u64,
}

struct World {
    now_ns: i64,
    end_ns: i64,
    /// When the next second is over.
    second_ns: i64,
    start: WallInstant,
    /// When UTC takes its leap second, and what is added to it then.
    utc_leap: Option<(Leap, i64, i64)>,
    clock: Clock,
    stamper: Stamper,
    stamps: StampOrigin,
    engine: Box<dyn Engine>,
    /// The engine's deadline.
    due: MonoInstant,
    timer_from_ns: i64,
    state: SystemState,
    servers: Vec<Server>,
    ways: Vec<[Carrier; 2]>,
    /// By arrival; of those that arrive together, the first sent comes first.
    flights: BTreeMap<(i64, u64), Flight>,
    flown: u64,
    sockets: BTreeMap<AssociationId, u64>,
    serial: u64,
    happenings: Vec<(i64, Happening)>,
    /// A move of the clock that the engine was not told of yet.
    moved: NtpDuration,
    packets: Packets,
    sent_settled: u64,
    settle_ns: i64,
    delay_min_ns: i64,
    steps: u64,
    recorder: Recorder,
    keep: bool,
    records: Vec<Record>,
    log: Vec<(f64, String)>,
    ended: Option<String>,
}

impl World {
    fn new(scenario: &Scenario, seed: u64, estimator: Estimator, keep: bool) -> Self {
        let clock = Clock::new(scenario.clock, scenario.start, seed);
        let now = clock.now();
        let precision = scenario.precision.unwrap_or_else(|| {
            let quantum = NtpDuration::from_nanos(scenario.stamps.quantum_ns);
            Precision::from_duration(quantum)
        });
        let config = NodeConfig {
            sources: scenario
                .servers
                .iter()
                .map(|server| SourceSpec {
                    name: server.name.clone(),
                    pool: false,
                    most: None,
                    options: server.options,
                })
                .collect(),
            local_stratum: None,
            orphan: false,
            step: scenario.step,
            initial: None,
            select: scenario.select,
            mechanisms: scenario.mechanisms,
            steer: true,
            once: false,
            kernel_leaps: true,
            frequency: scenario.drift,
            frequency_in_force: Ppm::ZERO,
            monotonic: MonotonicClock::Slewed,
            precision,
            seed: Dice::new(seed, Stream::Node).seed(),
        };
        let engine: Box<dyn Engine> = match estimator {
            Estimator::Node => Box::new(Node::new(config, now)),
            Estimator::Reference => Box::new(Reference::new(config, address(0), 20.0, now)),
            Estimator::ReferenceCalm => Box::new(Reference::new(config, address(0), 200.0, now)),
        };
        let servers = scenario.servers.iter().enumerate();
        let ways = servers.clone().map(|(number, spec)| {
            [
                Carrier::new(spec.up.clone(), seed, number, Direction::Up),
                Carrier::new(spec.down.clone(), seed, number, Direction::Down),
            ]
        });
        let happenings = scenario.events.iter();
        Self {
            now_ns: 0,
            second_ns: SECOND_NS,
            end_ns: scenario.length_s.round() as i64 * SECOND_NS,
            start: scenario.start,
            utc_leap: scenario.leap.map(|(leap, at)| {
                let by_ns = match leap {
                    Leap::Insert => -SECOND_NS,
                    Leap::Delete => SECOND_NS,
                    Leap::None | Leap::Unknown => 0,
                };
                let early_ns = by_ns.max(0);
                (
                    leap,
                    at.unix_ns() - scenario.start.unix_ns() - early_ns,
                    by_ns,
                )
            }),
            clock,
            stamper: Stamper::new(scenario.stamps.clone(), seed),
            stamps: scenario.stamps.origin,
            due: engine.deadline(),
            engine,
            timer_from_ns: 0,
            state: SystemState::unsynchronised(precision),
            servers: servers
                .map(|(number, spec)| Server::new(spec.clone(), number, seed))
                .collect(),
            ways: ways.collect(),
            flights: BTreeMap::new(),
            flown: 0,
            sockets: BTreeMap::new(),
            serial: 0,
            happenings: happenings
                .map(|event| ((event.at_s * 1e9) as i64, event.what))
                .rev()
                .collect(),
            moved: NtpDuration::ZERO,
            packets: Packets::default(),
            sent_settled: 0,
            settle_ns: scenario.settle_s.round() as i64 * SECOND_NS,
            delay_min_ns: i64::MAX,
            steps: 0,
            recorder: Recorder::new(scenario.settle_s.round() as u64),
            keep,
            records: Vec::new(),
            log: Vec::new(),
            ended: None,
        }
    }

    fn run(&mut self) {
        self.act();
        while self.now_ns < self.end_ns && self.ended.is_none() {
            let flight_ns = self.flights.keys().next().map_or(i64::MAX, |key| key.0);
            let happening_ns = self.happenings.last().map_or(i64::MAX, |next| next.0);
            let leap_ns = self.clock.when_leap();
            let timer_ns = self.clock.when_mono(self.due).max(self.timer_from_ns);
            let next_ns = [flight_ns, happening_ns, leap_ns, timer_ns]
                .into_iter()
                .fold(self.second_ns, i64::min);
            self.clock.advance(next_ns);
            self.now_ns = next_ns;
            if next_ns == leap_ns {
                self.moved += self.clock.leap();
            } else if next_ns == happening_ns {
                self.happen();
            } else if next_ns == flight_ns {
                self.arrive();
            } else if next_ns == timer_ns && self.clock.now().mono >= self.due {
                self.notice();
                self.engine.on_timer(self.clock.now());
                self.act();
                self.timer_from_ns = self.now_ns + TIMER_AGAIN_NS;
            } else if next_ns == self.second_ns {
                self.second_ns += SECOND_NS;
                self.clock.tick();
                self.notice();
                self.look();
            }
        }
    }

    /// Does what the engine wants.
    fn act(&mut self) {
        while let Some(action) = self.engine.take_action() {
            match action {
                Action::Send {
                    association,
                    to,
                    bytes,
                    ..
                } => self.send(association, to, &bytes),
                // No scenario has one.
                Action::ReadClock { .. } => {}
                Action::Close(association) => {
                    self.sockets.remove(&association);
                }
                Action::Steer(command) => {
                    if let Some(applied) = self.clock.apply(command) {
                        self.steps += u64::from(applied.stepped != NtpDuration::ZERO);
                        self.engine.on_applied(&applied);
                    }
                }
                Action::Publish(state) => self.state = state,
                Action::Resolve(source) => {
                    let now = self.clock.now();
                    self.engine
                        .on_resolved(source, vec![address(source.0)], now);
                }
                Action::Log(event) => {
                    let at_s = self.now_ns as f64 * 1e-9;
                    self.log.push((at_s, event.to_string()));
                }
                Action::Fatal(sentence) | Action::Panic(sentence) => self.ended = Some(sentence),
                Action::Done => self.ended = Some("done".to_owned()),
                Action::Upstreams(_) | Action::KeepFrequency(_) | Action::Record(_) => {}
            }
        }
        self.due = self.engine.deadline();
    }

    fn send(&mut self, association: AssociationId, to: SocketAddr, bytes: &[u8]) {
        self.packets.sent += 1;
        self.sent_settled += u64::from(self.now_ns >= self.settle_ns);
        self.serial += 1;
        self.sockets.insert(association, self.serial);
        let early_s = self.stamper.noise_s(self.now_ns as f64 * 1e-9);
        // A daemon reads the clock and then sends; others stamp what has left.
        let (stamp_s, leaves_s) = match self.stamps {
            StampOrigin::Daemon => (0.0, early_s.max(0.0)),
            StampOrigin::Kernel | StampOrigin::Hardware => (-early_s, 0.0),
        };
        let stamp = self.stamper.stamp(self.clock.now().wall, stamp_s);
        self.engine.on_departure(association, stamp);
        let server = number(to);
        let sent_ns = self.now_ns + to_ns(leaves_s);
        let arrivals = self.ways[server][0].carry(sent_ns as f64 * 1e-9);
        if self.servers[server].is_out(sent_ns as f64 * 1e-9) {
            return;
        }
        let from = Socket {
            association,
            serial: self.serial,
        };
        self.fly(sent_ns, arrivals, || Flight::Request {
            server,
            from,
            bytes: bytes.to_vec(),
            sent_ns,
        });
    }

    fn fly(&mut self, from_ns: i64, arrivals: Arrivals, flight: impl Fn() -> Flight) {
        let times = [arrivals.first_s, arrivals.second_s];
        for delay_s in times.into_iter().flatten() {
            self.flown += 1;
            let at_ns = from_ns + to_ns(delay_s);
            self.flights.insert((at_ns, self.flown), flight());
        }
    }

    /// The next packet arrives.
    fn arrive(&mut self) {
        let Some((_, flight)) = self.flights.pop_first() else {
            return;
        };
        match flight {
            Flight::Request {
                server,
                from,
                bytes,
                sent_ns,
            } => self.answer(server, from, &bytes, sent_ns),
            Flight::Reply {
                to,
                bytes,
                late_s,
                sent_ns,
                held_ns,
            } => {
                if self.sockets.get(&to.association) != Some(&to.serial) {
                    return;
                }
                self.packets.received += 1;
                let delay_ns = self.now_ns - sent_ns - held_ns;
                self.delay_min_ns = self.delay_min_ns.min(delay_ns);
                self.notice();
                let now = self.clock.now();
                let stamp = self.stamper.stamp(now.wall, late_s);
                self.engine.on_datagram(to.association, &bytes, stamp, now);
                self.act();
            }
        }
    }

    fn answer(&mut self, server: usize, to: Socket, bytes: &[u8], sent_ns: i64) {
        let port = 1024 + (to.serial % 60_000) as u16;
        let truth = self.truth();
        let answer = self.servers[server].answer(bytes, (CLIENT, port).into(), &truth);
        let Some(reply) = answer else {
            return;
        };
        let held_ns = to_ns(reply.departs_s);
        let leaves_ns = self.now_ns + held_ns;
        let mut arrivals = self.ways[server][1].carry(leaves_ns as f64 * 1e-9);
        let late_s = self.stamper.noise_s(leaves_ns as f64 * 1e-9);
        // A daemon gets it late, and reads the clock then.
        let late_s = match self.stamps {
            StampOrigin::Daemon => {
                let later = |delay_s: f64| delay_s + late_s.max(0.0);
                arrivals.first_s = arrivals.first_s.map(later);
                arrivals.second_s = arrivals.second_s.map(later);
                0.0
            }
            StampOrigin::Kernel | StampOrigin::Hardware => late_s,
        };
        let bytes = reply.bytes;
        self.fly(leaves_ns, arrivals, || Flight::Reply {
            to,
            bytes,
            late_s,
            sent_ns,
            held_ns,
        });
    }

    fn happen(&mut self) {
        let Some((_, what)) = self.happenings.pop() else {
            return;
        };
        match what {
            Happening::ClockStep(by_s) => {
                let by = NtpDuration::from_seconds(by_s);
                self.clock.step(by);
                if by.abs() >= FOREIGN_STEP_MIN {
                    self.moved += by;
                }
            }
            Happening::FrequencyStep(by) => self.clock.step_frequency(by),
            Happening::ServerStep { server, by_s } => self.servers[server].step(by_s),
            Happening::ServerSync { server, has_time } => self.servers[server].set_time(has_time),
        }
    }

    /// The daemon sees that another hand moved the clock, whenever it wakes.
    fn notice(&mut self) {
        let moved = std::mem::take(&mut self.moved);
        if moved != NtpDuration::ZERO {
            self.engine.on_foreign_step(moved, self.clock.now());
            self.act();
        }
    }

    fn utc_shift_ns(&self) -> i64 {
        match self.utc_leap {
            Some((_, at_ns, by_ns)) if self.now_ns >= at_ns => by_ns,
            Some(_) | None => 0,
        }
    }

    fn truth(&self) -> Truth {
        let utc_shift_ns = self.utc_shift_ns();
        let since_ns = self.now_ns + utc_shift_ns;
        let leap = match self.utc_leap {
            Some((leap, at_ns, _)) if (at_ns - DAY.as_nanos()..at_ns).contains(&self.now_ns) => {
                leap
            }
            Some(_) | None => Leap::None,
        };
        Truth {
            utc: WallInstant::from_unix_ns(self.start.unix_ns() + since_ns),
            at_s: self.now_ns as f64 * 1e-9,
            mono: MonoInstant::from_nanos(self.now_ns),
            utc_shift_ns,
            leap,
        }
    }

    /// How right is the clock?
    fn look(&mut self) {
        // In the leap second itself, two moments have one name.
        if let Some((_, at_ns, _)) = self.utc_leap
            && (self.now_ns - at_ns).abs() <= SECOND_NS
        {
            return;
        }
        let now = self.clock.now();
        let state = &self.state;
        let promise = state.is_synchronised().then(|| {
            let bound = state.error_bound_at(now.wall);
            let likely = state.error_likely + (bound - state.error_bound);
            let delay = NtpShort::from_duration(state.root_delay).to_duration();
            let dispersion = NtpShort::from_duration(state.root_dispersion_at(now.wall));
            Promise {
                bound_s: bound.as_seconds(),
                likely_s: likely.as_seconds(),
                served_s: (delay.half() + dispersion.to_duration()).as_seconds(),
            }
        });
        let second = Second {
            error_s: self.clock.error_s(self.utc_shift_ns()),
            frequency_error: self.clock.rate(),
            promise,
        };
        let at_s = (self.now_ns / SECOND_NS) as u64;
        self.recorder.take(at_s, &second);
        if self.keep {
            self.records.push(Record {
                at_s,
                second,
                offset_s: self.engine.offset_at(now.mono).map(NtpDuration::as_seconds),
                poll_s: self.engine.poll_s(now),
            });
        }
    }

    fn outcome(mut self, scenario: &Scenario, seed: u64, estimator: Estimator) -> Outcome {
        let lived_s = self.now_ns as f64 * 1e-9;
        let servers = self.servers.len() as f64;
        let interval_s = |span_s: f64, sent: u64| span_s.max(0.0) * servers / sent.max(1) as f64;
        let delay_min_s = if self.delay_min_ns == i64::MAX {
            0.0
        } else {
            self.delay_min_ns as f64 * 1e-9
        };
        Outcome {
            score: Score {
                scenario: scenario.name.clone(),
                seed,
                estimator: estimator.name().to_owned(),
                length_s: lived_s,
                settle_s: scenario.settle_s,
                time_error: self.recorder.time_error(),
                frequency_error: self.recorder.frequency_error(),
                reached: self.recorder.reached(),
                packets: Packets {
                    interval_s: interval_s(lived_s, self.packets.sent),
                    interval_settled_s: interval_s(lived_s - scenario.settle_s, self.sent_settled),
                    ..self.packets
                },
                bound: self.recorder.bound(delay_min_s),
                promised: scenario.promised,
                steps: self.steps,
                unsynchronised_s: self.recorder.unsynchronised_s(),
                ended: self.ended,
            },
            records: self.records,
            log: self.log,
        }
    }
}

/// Where the server of this number is.
fn address(number: usize) -> SocketAddr {
    let last = u8::try_from(number + 1).unwrap_or(u8::MAX);
    (Ipv4Addr::new(192, 0, 2, last), 123).into()
}

fn number(address: SocketAddr) -> usize {
    match address.ip() {
        IpAddr::V4(v4) => usize::from(v4.octets()[3]) - 1,
        IpAddr::V6(_) => unreachable!("all servers of a simulation have IPv4 addresses"),
    }
}

fn to_ns(seconds: f64) -> i64 {
    (seconds * 1e9).round() as i64
}

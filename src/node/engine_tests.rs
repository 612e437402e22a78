//! The node in small worlds of its own: honest and lying servers, a clock that
//! is off, a network that takes its time. All in virtual time.

use std::collections::BTreeMap;

use super::*;
use crate::client::options::SourceOptions;
use crate::client::refclock::ClockOptions;
use crate::node::engine::reload::Changes;
use crate::time::instant::WallInstant;
use crate::time::map::ClockMap;
use crate::time::timestamp::{NtpShort, NtpTimestamp};
use crate::time::units::PollExponent;
use crate::wire::packet::{Header, Mode, Packet};

/// 2030-12-31 20:00 UTC: a day that can end with a leap second.
const START_NS: i64 = 1_924_977_600_000_000_000;
const PRECISION: Precision = Precision::new(-24);

/// A server somewhere.
#[derive(Clone, Copy)]
struct Server {
    /// Its clock minus true time.
    error_s: f64,
    alive: bool,
    /// Unknown: it answers, and says that it does not know the time.
    leap: Leap,
    kiss: Option<KissCode>,
}

/// True time, one node whose clock is off, and servers by address.
struct World {
    node: Node,
    map: ClockMap,
    natural: Ppm,
    /// What the kernel was last told: is the clock right?
    vouched: bool,
    /// What the kernel was told last.
    told: Option<ClockStatus>,
    now_ns: i64,
    servers: BTreeMap<SocketAddr, Server>,
    /// Replies under way: when they arrive, for whom, and T1 and T2.
    replies: BTreeMap<(i64, AssociationId), Header>,
    noise: ChaCha8Rng,
    log: Vec<String>,
    records: Vec<Record>,
    fatal: Option<String>,
    done: bool,
    sent: u64,
    /// What every name resolves to, if not to its own server.
    pool: Option<Vec<SocketAddr>>,
    lookups: u64,
    /// What a reference clock shows.
    clock: Server,
    kernel_tai: Option<i32>,
}

fn address(n: usize) -> SocketAddr {
    format!("192.0.2.{n}:123").parse().expect("an address")
}

impl World {
    fn new(servers: usize, options: SourceOptions, error_s: f64, natural: Ppm) -> Self {
        Self::with(servers, options, error_s, natural, |_| {})
    }

    fn with(
        servers: usize,
        options: SourceOptions,
        error_s: f64,
        natural: Ppm,
        change: impl FnOnce(&mut NodeConfig),
    ) -> Self {
        let real = WallInstant::from_unix_ns(START_NS);
        let map = ClockMap {
            anchor_real: real,
            anchor_local: real + NtpDuration::from_seconds(error_s),
            rate: natural,
        };
        let mut config = NodeConfig {
            sources: (1..=servers)
                .map(|n| SourceSpec {
                    name: format!("server-{n}"),
                    pool: false,
                    most: None,
                    options,
                })
                .collect(),
            local_stratum: None,
            orphan: false,
            step: StepPolicy::default(),
            initial: None,
            select: SelectPolicy::default(),
            mechanisms: Mechanisms::default(),
            steer: true,
            once: false,
            kernel_leaps: true,
            frequency: None,
            frequency_in_force: Ppm::ZERO,
            monotonic: MonotonicClock::Free,
            precision: PRECISION,
            seed: [7; 32],
        };
        change(&mut config);
        let now = Now {
            mono: MonoInstant::ZERO,
            wall: map.to_local(real),
        };
        Self {
            node: Node::new(config, now),
            map,
            natural,
            vouched: false,
            told: None,
            now_ns: 0,
            servers: (1..=servers)
                .map(|n| {
                    let server = Server {
                        error_s: 0.0,
                        alive: true,
                        leap: Leap::None,
                        kiss: None,
                    };
                    (address(n), server)
                })
                .collect(),
            replies: BTreeMap::new(),
            noise: ChaCha8Rng::seed_from_u64(1),
            log: Vec::new(),
            records: Vec::new(),
            fatal: None,
            done: false,
            sent: 0,
            pool: None,
            lookups: 0,
            clock: Server {
                error_s: 0.0,
                alive: true,
                leap: Leap::None,
                kiss: None,
            },
            kernel_tai: None,
        }
    }

    fn real(&self) -> WallInstant {
        WallInstant::from_unix_ns(START_NS + self.now_ns)
    }

    fn now(&self) -> Now {
        Now {
            mono: MonoInstant::from_nanos(self.now_ns),
            wall: self.map.to_local(self.real()),
        }
    }

    fn true_error(&self) -> NtpDuration {
        self.map.error_at(self.real())
    }

    /// One way through the network: 100 µs and some queueing.
    fn trip_ns(&mut self) -> i64 {
        let uniform = (f64::from(self.noise.next_u32()) + 1.0) / 4_294_967_297.0;
        100_000 + (-uniform.ln() * 15_000.0) as i64
    }

    fn act(&mut self) {
        while let Some(action) = self.node.take_action() {
            match action {
                Action::Send {
                    association,
                    to,
                    bytes,
                    ..
                } => self.carry(association, to, &bytes),
                Action::Steer(command) => self.steer(command),
                Action::ReadClock { association, .. } => self.read(association),
                Action::Resolve(source) => {
                    let now = self.now();
                    self.lookups += 1;
                    let addresses = match &self.pool {
                        Some(pool) => pool.clone(),
                        None => vec![address(source.0 + 1)],
                    };
                    self.node.on_resolved(source, addresses, now);
                }
                Action::Log(event) => self.log.push(event.to_string()),
                Action::Fatal(sentence) | Action::Panic(sentence) => self.fatal = Some(sentence),
                Action::Done => self.done = true,
                Action::Close(_)
                | Action::Publish(_)
                | Action::Upstreams(_)
                | Action::KeepFrequency(_) => {}
                Action::Record(record) => self.records.push(*record),
            }
        }
    }

    /// The one clock there is.
    fn read(&mut self, association: AssociationId) {
        let now = self.now();
        if !self.clock.alive {
            self.node.on_reading_failed(association, now);
            return;
        }
        let noise_ns = (f64::from(self.noise.next_u32()) / f64::from(u32::MAX) - 0.5) * 600.0;
        let shown = NtpDuration::from_seconds(self.clock.error_s)
            + NtpDuration::from_nanos(noise_ns as i64);
        let reading = Reading {
            clock: self.real() + shown,
            local: now.wall,
            window: NtpDuration::from_nanos(800),
            at: now.mono,
            tai_offset: self.kernel_tai,
        };
        self.node.on_reading(association, &reading, now);
    }

    fn carry(&mut self, association: AssociationId, to: SocketAddr, bytes: &[u8]) {
        self.sent += 1;
        let departure = Stamp::kernel(self.now().wall);
        self.node.on_departure(association, departure);
        let server = self.servers[&to];
        if !server.alive {
            return;
        }
        let there_ns = self.now_ns + self.trip_ns();
        let back_ns = there_ns + self.trip_ns();
        let there = WallInstant::from_unix_ns(START_NS + there_ns)
            + NtpDuration::from_seconds(server.error_s);
        let request = Packet::new(bytes).expect("the node sends packets");
        let there = NtpTimestamp::from_wall(there);
        let reply = Header {
            leap: server.leap,
            version: request.version(),
            mode: Mode::Server,
            stratum: if server.kiss.is_some() { 0 } else { 1 },
            poll: request.poll(),
            precision: PRECISION,
            root_delay: NtpShort::default(),
            root_dispersion: NtpShort::default(),
            refid: server
                .kiss
                .map_or(RefId::from_bytes(*b"GPS\0"), KissCode::to_refid),
            reference: there + NtpDuration::from_whole_seconds(-16),
            origin: request.transmit(),
            receive: there,
            transmit: there,
        };
        self.replies.insert((back_ns, association), reply);
    }

    fn steer(&mut self, command: ClockCommand) {
        let mut stepped = NtpDuration::ZERO;
        match command {
            ClockCommand::Step(by) => {
                self.map = self.map.reanchored(self.real());
                self.map.anchor_local = self.map.anchor_local + by;
                stepped = by;
            }
            ClockCommand::SetFrequency(to) => {
                self.map = self.map.reanchored(self.real());
                self.map.rate = self.natural + to;
            }
            ClockCommand::SetStatus(status) => {
                self.vouched = status.synchronised;
                self.told = Some(status);
                return;
            }
        }
        let applied = Applied {
            now: self.now(),
            stepped,
            frequency: self.map.rate - self.natural,
        };
        self.node.on_applied(&applied);
    }

    /// Lives until `seconds` after the start.
    fn run_for(&mut self, seconds: f64) {
        self.run_until(self.now_ns as f64 * 1e-9 + seconds);
    }

    fn run_until(&mut self, seconds: f64) {
        let end_ns = (seconds * 1e9) as i64;
        loop {
            self.act();
            let due_ns = self.node.deadline().nanos();
            let reply_ns = self.replies.keys().next().map_or(i64::MAX, |key| key.0);
            let next_ns = due_ns.min(reply_ns);
            if next_ns > end_ns || self.done || self.fatal.is_some() {
                self.now_ns = end_ns;
                return;
            }
            self.now_ns = self.now_ns.max(next_ns);
            if reply_ns <= due_ns {
                let ((_, association), reply) = self.replies.pop_first().expect("one is due");
                let arrival = Stamp::kernel(self.now().wall);
                let now = self.now();
                self.node
                    .on_datagram(association, &reply.to_bytes(), arrival, now);
            } else {
                let now = self.now();
                self.node.on_timer(now);
            }
        }
    }

    fn system(&self) -> SystemReport {
        self.node.report(self.now()).system
    }

    fn tallies(&self) -> Vec<Tally> {
        let report = self.node.report(self.now());
        report.sources.iter().map(|source| source.tally).collect()
    }

    fn logged(&self, part: &str) -> usize {
        self.log.iter().filter(|line| line.contains(part)).count()
    }
}

fn iburst() -> SourceOptions {
    SourceOptions {
        iburst: true,
        ..SourceOptions::default()
    }
}

fn micros(n: i64) -> NtpDuration {
    NtpDuration::from_nanos(n * 1000)
}

#[test]
fn half_a_second_off_is_right_within_a_minute_and_stays_right() {
    let mut world = World::new(1, iburst(), 0.5, Ppm(50.0));
    world.run_until(60.0);
    assert!(
        world.true_error().abs() < micros(100),
        "{}",
        world.true_error()
    );
    let system = world.system();
    assert!(system.sync);
    assert_eq!((system.stratum, system.steps), (2, 1), "{:?}", world.log);
    assert_eq!(system.source.as_deref(), Some("192.0.2.1"));
    for minute in 2..180 {
        world.run_until(f64::from(minute) * 60.0);
        let bound = NtpDuration::from_seconds(world.system().error_bound_s.expect("in sync"));
        assert!(
            world.true_error().abs() < micros(60),
            "{}",
            world.true_error()
        );
        assert!(world.true_error().abs() < bound, "the promise holds");
    }
    assert!((world.system().frequency_ppm + 50.0).abs() < 0.5);
    assert_eq!(world.log.len(), 3, "once, not per packet: {:?}", world.log);
}

#[test]
fn falseticker_among_four_is_named_and_not_followed() {
    let mut world = World::new(4, iburst(), 0.01, Ppm(-20.0));
    world
        .servers
        .get_mut(&address(3))
        .expect("the third")
        .error_s = 0.3;
    world.run_until(300.0);
    assert_eq!(world.tallies()[2], Tally::Falseticker);
    assert!(
        world.true_error().abs() < micros(100),
        "{}",
        world.true_error()
    );
    assert_eq!(world.logged("falseticker"), 1, "{:?}", world.log);
}

#[test]
fn a_server_that_loses_the_time_is_dropped_and_comes_back() {
    let options = SourceOptions {
        maxpoll: crate::time::units::PollExponent::new(6),
        ..iburst()
    };
    let mut world = World::new(1, options, 0.0, Ppm(5.0));
    world.run_until(600.0);
    world.servers.get_mut(&address(1)).expect("it").leap = Leap::Unknown;
    world.run_until(1800.0);
    assert_eq!(world.tallies(), [Tally::Rejected]);
    assert_eq!(world.system().source, None);
    assert_eq!(world.logged("gives no time"), 1);
    world.servers.get_mut(&address(1)).expect("it").leap = Leap::None;
    world.run_until(2400.0);
    assert_eq!(world.system().source.as_deref(), Some("192.0.2.1"));
}

#[test]
fn who_lies_by_turns_is_named_once() {
    let mut world = World::new(4, iburst(), 0.0, Ppm(5.0));
    for turn in 1..20 {
        let liar = world.servers.get_mut(&address(3)).expect("the third");
        liar.error_s = f64::from(turn % 2) * 0.3;
        world.run_until(f64::from(turn) * 150.0);
    }
    assert_eq!(world.logged("falseticker"), 1, "{:?}", world.log);
}

#[test]
fn a_server_that_dies_is_dropped_and_comes_back() {
    let options = SourceOptions {
        maxpoll: crate::time::units::PollExponent::new(6),
        ..iburst()
    };
    let mut world = World::new(1, options, 0.0, Ppm(5.0));
    world.run_until(600.0);
    let bound = world.system().error_bound_s.expect("in sync");
    world.servers.get_mut(&address(1)).expect("it").alive = false;
    world.run_until(1800.0);
    assert_eq!(world.logged("gives no time"), 1);
    assert_eq!(world.system().source, None);
    assert!(world.system().sync, "its time is still good");
    assert!(world.system().error_bound_s.expect("held over") > bound);
    world.servers.get_mut(&address(1)).expect("it").alive = true;
    world.run_until(3600.0);
    assert_eq!(world.system().source.as_deref(), Some("192.0.2.1"));
    assert_eq!(world.logged("answers"), 2, "{:?}", world.log);
}

#[test]
fn a_step_by_another_hand_is_noticed_and_mended() {
    let mut world = World::new(1, iburst(), 0.0, Ppm(5.0));
    world.run_until(1000.0);
    let moved = NtpDuration::from_whole_seconds(20);
    world.map.anchor_local = world.map.anchor_local + moved;
    let now = world.now();
    assert!(world.system().sync && world.vouched);
    world.node.on_foreign_step(moved, now);
    world.act();
    assert!(!world.system().sync, "served as if it were right");
    assert!(!world.vouched, "the kernel is told that it is right");
    assert_eq!(world.system().error_bound_s, None);
    world.run_until(1030.0);
    assert!(world.system().sync && world.vouched);
    assert!(
        world.true_error().abs() < micros(200),
        "{}",
        world.true_error()
    );
    assert_eq!(world.logged("somebody else"), 1);
    assert_eq!(world.system().foreign_steps, 1);
}

#[test]
fn beyond_the_panic_limit_it_ends_unless_allowed_once() {
    let mut world = World::new(1, iburst(), 2000.0, Ppm::ZERO);
    world.run_until(60.0);
    let sentence = world.fatal.expect("an end");
    assert!(
        sentence.contains("-2000.0") && sentence.contains("-g"),
        "{sentence}"
    );

    let mut world = World::with(1, iburst(), 2000.0, Ppm::ZERO, |config| {
        config.step.first_unlimited = true;
    });
    world.run_until(60.0);
    assert_eq!(world.fatal, None);
    assert!(
        world.true_error().abs() < micros(200),
        "{}",
        world.true_error()
    );
}

#[test]
fn once_sets_the_clock_and_is_done() {
    let mut world = World::with(1, iburst(), 0.02, Ppm::ZERO, |config| config.once = true);
    world.run_until(60.0);
    assert!(world.done);
    assert!(
        world.true_error().abs() < micros(200),
        "{}",
        world.true_error()
    );
}

/// Which the noise of a few samples would spoil.
#[test]
fn once_leaves_the_frequency_that_was_kept() {
    let kept = Start {
        frequency: Ppm(-5.0),
        frequency_sigma: Ppm(0.1),
    };
    let mut world = World::with(1, iburst(), 0.02, Ppm(20.0), |config| {
        config.once = true;
        config.frequency = Some(kept);
    });
    world.run_until(60.0);
    assert!(world.done);
    assert_eq!(world.map.rate, Ppm(15.0));
    assert_eq!(world.node.drift(world.now().mono), None, "nothing better");
}

/// A short run has nothing to teach a drift file; without one it is all there is.
#[test]
fn a_kept_frequency_is_replaced_by_a_longer_acquaintance_only() {
    let run = |frequency, seconds| {
        let mut world = World::with(1, iburst(), 0.0, Ppm(20.0), |config| {
            config.frequency = frequency;
        });
        world.run_until(seconds);
        world.node.drift(world.now().mono).is_some()
    };
    let kept = Some(Start {
        frequency: Ppm(-20.0),
        frequency_sigma: Ppm(0.1),
    });
    assert!(!run(kept, 300.0));
    assert!(run(kept, 900.0));
    assert!(run(None, 300.0));
}

#[test]
fn an_observer_touches_nothing_and_says_how_far_off_it_is() {
    let mut world = World::with(1, iburst(), 0.25, Ppm::ZERO, |config| config.steer = false);
    world.run_until(120.0);
    assert!((world.true_error() - NtpDuration::from_seconds(0.25)).abs() < micros(1));
    let system = world.system();
    assert!((system.offset_s.expect("measured") + 0.25).abs() < 1e-4);
    assert!(system.error_bound_s.expect("a bound") > 0.25);
}

/// What nobody corrects grows between samples, at a rate that is known.
#[test]
fn an_observers_promise_covers_the_clock_running_away() {
    let mut world = World::with(1, iburst(), 0.0, Ppm(50.0), |config| config.steer = false);
    for second in 120..1800 {
        world.run_until(f64::from(second));
        let bound = world.system().error_bound_s.expect("a bound");
        let error_s = world.true_error().as_seconds();
        assert!(error_s.abs() <= bound, "{second} s: {error_s} s, {bound} s");
    }
}

#[test]
fn the_local_clock_stands_in_for_servers_that_are_not_there() {
    let mut world = World::with(1, iburst(), 0.0, Ppm::ZERO, |config| {
        config.local_stratum = Some(10);
    });
    world.servers.get_mut(&address(1)).expect("it").alive = false;
    world.run_until(10.0);
    assert!(!world.system().sync, "the server had no chance yet");
    world.run_until(120.0);
    let system = world.system();
    assert_eq!((system.stratum, system.sync), (11, true));
    assert_eq!(system.source.as_deref(), Some("local"));
    assert_eq!(system.error_bound_s, None, "nobody knows how wrong it is");
    world.servers.get_mut(&address(1)).expect("it").alive = true;
    world.run_until(1500.0);
    assert_eq!(world.system().stratum, 2, "{:?}", world.log);
}

/// Nor does it stand in for the moment it takes to find out how far it was moved.
#[test]
fn the_local_clock_waits_after_another_hand_too() {
    let mut world = World::with(1, iburst(), 0.0, Ppm::ZERO, |config| {
        config.local_stratum = Some(10);
    });
    world.run_until(1000.0);
    world.servers.get_mut(&address(1)).expect("it").alive = false;
    let now = world.now();
    world
        .node
        .on_foreign_step(NtpDuration::from_whole_seconds(20), now);
    world.run_until(1015.0);
    assert!(!world.system().sync);
    world.run_until(1060.0);
    assert_eq!(world.system().stratum, 11, "nobody else is there");
}

#[test]
fn a_kiss_is_told_once_and_obeyed() {
    let mut world = World::new(1, iburst(), 0.0, Ppm::ZERO);
    world.servers.get_mut(&address(1)).expect("it").kiss = Some(KissCode::Deny);
    world.run_until(4000.0);
    assert_eq!(world.sent, 1);
    assert_eq!(world.logged("DENY"), 1);
}

fn all_facts() -> Wanted {
    Wanted {
        replies: true,
        samples: true,
        updates: true,
        selections: true,
        readings: true,
    }
}

#[test]
fn what_is_wanted_is_recorded_and_nothing_else() {
    let mut world = World::new(2, iburst(), 0.5, Ppm(20.0));
    world.run_until(30.0);
    assert!(world.records.is_empty(), "nobody wanted any");
    let mut world = World::new(2, iburst(), 0.5, Ppm(20.0));
    world.node.set_wanted(all_facts());
    world.run_until(600.0);
    let facts = world.records.iter().map(|record| &record.fact);
    let count = |is: fn(&Fact) -> bool| facts.clone().filter(|fact| is(fact)).count() as u64;
    assert_eq!(count(|fact| matches!(fact, Fact::Reply(_))), world.sent);
    assert!(count(|fact| matches!(fact, Fact::Sample(_))) > 10);
    assert!(count(|fact| matches!(fact, Fact::Selection(all) if all.len() == 2)) > 10);
    assert_eq!(count(|fact| matches!(fact, Fact::Reading(_))), 0);
    // The step first, with what was found before it was made.
    let mut updates = facts.filter_map(|fact| match fact {
        Fact::Update(update) => Some(update),
        _ => None,
    });
    let first = updates.next().expect("a step");
    assert!((first.offset.as_seconds() + 0.5).abs() < 1e-3, "{first:?}");
    assert_eq!((first.error_before, first.combined > 0), (None, true));
    let last = updates.next_back().expect("corrections");
    assert!(last.offset.abs() < micros(100) && last.error_before.is_some());
    let reply = world.records.iter().find_map(|record| match &record.fact {
        Fact::Reply(reply) => Some(reply),
        _ => None,
    });
    let reply = reply.expect("an answer");
    assert_eq!(
        (reply.offset, reply.failed),
        (reply.exchange.offset(), None)
    );
}

#[test]
fn an_answer_that_fails_a_test_is_recorded_and_a_strangers_packet_is_not() {
    let mut world = World::new(1, iburst(), 0.0, Ppm::ZERO);
    world.node.set_wanted(all_facts());
    world.servers.get_mut(&address(1)).expect("it").leap = Leap::Unknown;
    world.run_until(30.0);
    let failed = world.records.iter().filter(|record| match &record.fact {
        Fact::Reply(reply) => reply.failed == Some(PacketTest::Unsynchronised),
        other => panic!("{other:?}"),
    });
    assert_eq!(failed.count() as u64, world.sent);
    world.records.clear();
    let id = world.node.peers[0].id;
    let now = world.now();
    let forged = [0x24; 48];
    for _ in 0..100 {
        world
            .node
            .on_datagram(id, &forged, Stamp::kernel(now.wall), now);
    }
    world.act();
    assert!(world.records.is_empty(), "{:?}", world.records);
}

#[test]
fn a_clocks_readings_are_recorded_with_their_places() {
    let mut world = World::with(1, iburst(), 0.001, Ppm(5.0), |config| {
        config.sources[0].options.clock = Some(ClockOptions::default());
    });
    world.node.set_wanted(all_facts());
    world.run_until(100.0);
    let mut expected = 0;
    let mut measurements = 0;
    for record in &world.records {
        let Fact::Reading(reading) = &record.fact else {
            continue;
        };
        match reading.place {
            Some(place) => assert_eq!(std::mem::replace(&mut expected, place + 1), place),
            None => {
                measurements += 1;
                expected = 0;
            }
        }
    }
    assert!(measurements > 1, "{measurements}");
}

#[test]
fn a_pool_replaces_the_silent_by_whoever_it_names_now() {
    let mut world = World::with(5, iburst(), 0.0, Ppm::ZERO, |config| {
        config.sources.truncate(1);
        config.sources[0].pool = true;
    });
    world.pool = Some((1..=3).map(address).collect());
    world.run_until(100.0);
    assert_eq!(world.tallies().len(), 3);
    world
        .servers
        .get_mut(&address(2))
        .expect("the second")
        .alive = false;
    world.pool = Some([1, 3, 4, 5].into_iter().map(address).collect());
    world.run_until(2000.0);
    let report = world.node.report(world.now());
    let mut present: Vec<_> = report.sources.iter().filter_map(|s| s.address).collect();
    present.sort();
    assert_eq!(present, [1, 3, 4, 5].map(address));
    assert!(report.sources.iter().all(|source| source.reach != 0));
    assert!(world.lookups < 10, "{} lookups", world.lookups);
}

#[test]
fn a_new_configuration_leaves_alone_what_stays() {
    let mut world = World::with(4, iburst(), 0.5, Ppm(20.0), |config| {
        config.sources.truncate(3);
    });
    world.run_until(600.0);
    assert!(world.system().sync);
    let spec = |n: usize, options| SourceSpec {
        name: format!("server-{n}"),
        pool: false,
        most: None,
        options,
    };
    let preferred = SourceOptions {
        prefer: true,
        minpoll: PollExponent::new(5),
        ..iburst()
    };
    let samples = |world: &World, n: usize| {
        let report = world.node.report(world.now());
        let mut sources = report.sources.into_iter();
        sources.find(|source| source.name == format!("server-{n}"))
    };
    let before = samples(&world, 1).expect("it is asked");
    let changes = Changes {
        kept: vec![
            (SourceId(0), spec(1, preferred)),
            (SourceId(2), spec(3, iburst())),
        ],
        new: vec![spec(4, iburst())],
        local_stratum: None,
        orphan: false,
        step: StepPolicy::default(),
        select: SelectPolicy::default(),
        steer: true,
        kernel_leaps: true,
        has_leap_file: false,
    };
    world.node.reconfigure(changes, world.now());
    assert!(world.system().sync, "the clock's state stays");
    let after = samples(&world, 1).expect("it stays");
    assert_eq!(after.received, before.received);
    assert_eq!(after.offset_s, before.offset_s, "with its filter");
    assert!(samples(&world, 2).is_none(), "it is gone");
    assert!(samples(&world, 4).is_some(), "it is new");
    assert_eq!(
        world.system().source.as_deref(),
        Some("192.0.2.1"),
        "prefer"
    );
    let error = world.true_error().abs();
    world.run_until(900.0);
    assert!(world.true_error().abs() < error + micros(200));
}

#[test]
fn a_leap_second_is_for_the_kernel_on_its_day_alone() {
    let mut world = World::new(1, iburst(), 0.0, Ppm::ZERO);
    world.servers.get_mut(&address(1)).expect("it").leap = Leap::Insert;
    let told = |world: &World| world.told.expect("told").leap;
    world.run_until(100.0);
    assert_eq!(world.system().leap, "insert");
    assert_eq!(told(&world), Leap::Insert);
    // January: the servers speak of its end, and the kernel must not yet know.
    world.run_until(5.0 * 3600.0);
    assert_eq!(world.system().leap, "insert");
    assert_eq!(told(&world), Leap::None);
}

#[test]
fn a_leap_second_file_knows_better_than_servers() {
    let mut world = World::new(1, iburst(), 0.0, Ppm::ZERO);
    world.servers.get_mut(&address(1)).expect("it").leap = Leap::Insert;
    let start = world.real();
    let table = LeapTable::new(
        vec![(start - NtpDuration::from_whole_seconds(1_000_000), 37)],
        start + NtpDuration::from_whole_seconds(1_000_000),
    );
    world.node.set_leap_table(table.expect("a table"));
    world.run_until(100.0);
    let told = world.told.expect("told");
    assert_eq!((told.leap, told.tai_offset), (Leap::None, Some(37)));
    assert_eq!(world.system().leap, "none");
}

#[test]
fn the_same_seed_gives_the_same_day() {
    let run = || {
        let mut world = World::new(2, iburst(), 0.5, Ppm(50.0));
        world.run_until(86_400.0);
        (world.true_error(), world.sent, world.system())
    };
    assert_eq!(run(), run());
}

/// Orders of an operator, as chronyc gives them.
mod orders {
    use super::*;

    fn ip(n: usize) -> IpAddr {
        address(n).ip()
    }

    #[test]
    fn who_is_offline_is_not_asked_and_not_followed_until_he_is_back() {
        let mut world = World::new(1, iburst(), 0.0, Ppm::ZERO);
        world.run_until(60.0);
        let now = world.now();
        assert_eq!(world.node.set_online(|_| true, false, now), 1);
        assert_eq!(world.node.set_online(|ip| ip.is_ipv6(), true, now), 0);
        world.act();
        let asked = world.sent;
        world.run_until(3600.0);
        assert_eq!(world.sent, asked);
        assert_eq!(world.tallies(), [Tally::Rejected]);
        let now = world.now();
        world.node.set_online(|one| one == ip(1), true, now);
        world.run_until(3660.0);
        assert_eq!(world.tallies(), [Tally::System]);
    }

    #[test]
    fn a_burst_ends_with_enough_answers_even_of_one_that_is_offline() {
        let mut world = World::new(1, iburst(), 0.0, Ppm::ZERO);
        world.run_until(60.0);
        let asked = world.sent;
        let now = world.now();
        world.node.set_online(|_| true, false, now);
        assert_eq!(world.node.burst(|_| true, 4, 8, now), 1);
        assert!(world.node.report(now).sources[0].detail.bursting);
        world.run_until(1000.0);
        assert_eq!(world.sent, asked + 4);
        let detail = world.node.report(world.now()).sources[0].detail.clone();
        assert!(!detail.bursting && !detail.online);
        // Nobody answers: so many requests at most.
        world.servers.get_mut(&address(1)).expect("it").alive = false;
        let now = world.now();
        world.node.burst(|_| true, 4, 6, now);
        world.run_until(2000.0);
        assert!(
            (asked + 7..=asked + 10).contains(&world.sent),
            "{}",
            world.sent
        );
    }

    #[test]
    fn sources_come_and_go() {
        let mut world = World::new(2, iburst(), 0.0, Ppm::ZERO);
        world.run_until(60.0);
        let third = Server {
            ..world.servers[&address(1)]
        };
        world.servers.insert(address(3), third);
        let spec = SourceSpec {
            most: None,
            name: "server-3".to_owned(),
            pool: false,
            options: iburst(),
        };
        let now = world.now();
        assert_eq!(world.node.add_source(spec, now), SourceId(2));
        assert!(world.node.knows("server-3") && !world.node.knows("server-4"));
        world.run_until(120.0);
        assert_eq!(world.tallies().len(), 3);
        let now = world.now();
        assert!(world.node.remove_source(ip(1), now));
        assert!(!world.node.remove_source(ip(1), now));
        world.run_until(4000.0);
        let report = world.node.report(world.now());
        let names: Vec<_> = report.sources.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["server-2", "server-3"]);
        assert!(report.system.sync);
    }

    #[test]
    fn a_slow_correction_becomes_a_step_on_the_operators_word() {
        let mut world = World::with(1, iburst(), 0.1, Ppm::ZERO, |config| {
            config.step.threshold = None;
        });
        world.run_until(20.0);
        let error = world.true_error();
        assert!(error > micros(90_000), "{error}");
        let now = world.now();
        assert!(world.node.make_step(now));
        world.run_until(21.0);
        let error = world.true_error().abs();
        assert!(error < micros(100), "{error}");
        assert_eq!(world.system().steps, 1);
        world.run_until(400.0);
        assert!(world.true_error().abs() < micros(100));
    }

    #[test]
    fn nobodys_clock_takes_no_orders() {
        let mut world = World::with(1, iburst(), 0.1, Ppm::ZERO, |config| config.steer = false);
        world.run_until(60.0);
        let now = world.now();
        assert!(!world.node.make_step(now));
        assert!(!world.node.accumulate_offset(micros(5), now));
        assert!(!world.node.accumulate_frequency(Ppm(1.0), now));
        world.node.set_manual(true);
        assert_eq!(world.node.enter_time(now.wall, now).map(|e| e.offset), None);
    }

    #[test]
    fn a_clock_without_servers_is_set_by_hand_and_learns_its_frequency() {
        let mut world = World::with(0, iburst(), 7.0, Ppm(40.0), |config| {
            config.local_stratum = Some(9);
        });
        world.run_until(60.0);
        world.node.set_manual(true);
        for hour in 1..=6 {
            let (now, real) = (world.now(), world.real());
            let entered = world.node.enter_time(real, now).expect("taken");
            assert_eq!(entered.offset, real - now.wall);
            assert!(world.node.enter_time(real, now).is_none(), "twice at once");
            world.run_until(f64::from(hour) * 3600.0);
        }
        // The first one stepped seven seconds, two more what 40 ppm make of an hour.
        assert_eq!(world.system().steps, 3, "{:?}", world.log);
        assert!((world.system().frequency_ppm + 40.0).abs() < 0.1);
        assert!(world.true_error().abs() < micros(1000));
        let detail = world.system().detail;
        assert_eq!(detail.manual_samples.len(), 6);
        assert!((detail.manual_samples[0].offset_s + 7.0).abs() < 0.01);
        assert_eq!(world.system().stratum, 10);
    }

    #[test]
    fn an_offset_and_a_frequency_are_added_by_hand() {
        let mut world = World::new(0, iburst(), 0.0, Ppm::ZERO);
        world.run_until(10.0);
        let now = world.now();
        assert!(world.node.accumulate_offset(micros(500), now));
        world.run_until(100.0);
        assert!((world.true_error() - micros(500)).abs() < micros(1));
        let now = world.now();
        assert!(world.node.accumulate_frequency(Ppm(10.0), now));
        world.act();
        assert_eq!(world.system().frequency_ppm, 10.0);
    }

    #[test]
    fn limits_and_options_of_a_source_are_changed() {
        let mut world = World::new(2, iburst(), 0.0, Ppm::ZERO);
        world.run_until(120.0);
        let now = world.now();
        let two = crate::time::units::PollExponent::new(2);
        assert!(world.node.set_poll_limits(ip(1), Some(two), Some(two)));
        assert!(!world.node.set_poll_limits(ip(9), Some(two), None));
        assert!(world.node.set_selection(ip(1), None, Some(true), now));
        let asked = world.sent;
        world.run_until(520.0);
        assert!(world.sent > asked + 80, "{}", world.sent - asked);
        let report = world.node.report(world.now());
        assert_eq!(report.sources[0].poll_s, 4.0);
        assert_eq!(world.tallies()[1], Tally::System);
        world.node.reset_sources(world.now());
        assert!(!world.system().sync);
        world.run_until(600.0);
        assert!(world.system().sync);
    }
}
fn phc(clock: ClockOptions) -> SourceOptions {
    SourceOptions {
        minpoll: PollExponent::new(4),
        maxpoll: PollExponent::new(4),
        clock: Some(ClockOptions {
            refid: RefId::from_bytes(*b"PHC0"),
            ..clock
        }),
        ..SourceOptions::default()
    }
}

#[test]
fn a_reference_clock_is_followed_to_nanoseconds() {
    let mut world = World::new(1, phc(ClockOptions::default()), 0.3, Ppm(20.0));
    world.run_for(60.0);
    // Stepped at first, and then slewed; never looked up, never asked.
    assert_eq!((world.lookups, world.sent), (0, 0));
    let (mut square, mut count) = (0.0, 0.0);
    for _ in 0..300 {
        world.run_for(1.0);
        let error = world.true_error();
        square += error.as_seconds().powi(2);
        count += 1.0;
        let bound = world.node.state().error_bound_at(world.now().wall);
        assert!(error.abs() <= bound, "{error:?} {bound:?}");
        assert!(bound < NtpDuration::from_seconds(100e-6), "{bound:?}");
    }
    let rms = f64::sqrt(square / count);
    assert!(rms < 150e-9, "{rms}");
    let state = world.node.state();
    assert_eq!(state.stratum, 1);
    assert_eq!(state.refid, RefId::from_bytes(*b"PHC0"));
    let report = world.node.report(world.now());
    assert_eq!(report.system.source.as_deref(), Some("PHC0"));
    let source = &report.sources[0];
    assert_eq!(
        (source.address, source.kind, source.stratum),
        (None, 'r', 0)
    );
    assert_eq!((source.refid.as_str(), source.reach), (".PHC0.", 0o377));
    assert_eq!(source.stamp_rx.as_deref(), Some("hardware"));
}

#[test]
fn a_reference_clock_that_goes_is_told_of_once_and_comes_back() {
    let mut world = World::new(1, phc(ClockOptions::default()), 0.0, Ppm(20.0));
    world.run_for(300.0);
    world.clock.alive = false;
    world.run_for(600.0);
    let told = |world: &World, what: &str| {
        let lines = world.log.iter().filter(|line| line.contains(what));
        lines.count()
    };
    assert_eq!(told(&world, "PHC0 (server-1) gives no time"), 1);
    assert_eq!(world.node.report(world.now()).sources[0].reach, 0);
    world.clock.alive = true;
    world.run_for(300.0);
    assert_eq!(told(&world, "PHC0 (server-1) gives time"), 2);
    assert!(world.true_error().abs() < NtpDuration::from_seconds(1e-6));
}

#[test]
fn a_clock_that_counts_tai_waits_until_the_distance_is_known() {
    let options = phc(ClockOptions {
        tai: true,
        ..ClockOptions::default()
    });
    let mut world = World::new(1, options, 0.0, Ppm(20.0));
    world.clock.error_s = 37.0;
    world.run_for(120.0);
    let told = world.log.iter().filter(|line| line.contains("leapfile"));
    assert_eq!(told.count(), 1, "{:?}", world.log);
    assert!(!world.node.state().is_synchronised());
    world.kernel_tai = Some(37);
    world.run_for(120.0);
    assert!(world.node.state().is_synchronised());
    assert!(world.true_error().abs() < NtpDuration::from_seconds(2e-6));
}

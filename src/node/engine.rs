//! The node: associations below, estimation above, the system variables out.
//!
//! Sans-IO. The daemon brings datagrams, stamps, names and `now`; the node
//! hands back [`Action`]s. The same bytes, moments and seed give the same
//! actions, in a day of simulation as in a day of service.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::client::association::{Association, Dice, Received};
use crate::client::options::SourceOptions;
use crate::client::packet_test::{PacketTest, check_broadcast};
use crate::client::refclock::{Reading, Readings};
use crate::measurement::{Measurement, PHI};
use crate::mechanisms::Mechanisms;
use crate::node::action::{Action, AssociationId, Event, SourceId, Whom};
use crate::node::manual::Manual;
use crate::node::pool::{Name, SourceSpec};
use crate::node::record::{Fact, ReadingFact, Record, ReplyFact, SampleFact, UpdateFact, Wanted};
use crate::node::report::{
    CLOCK, HEARD, KeyReport, LOCAL, NodeReport, PEER, ReplyReport, SampleReport, SourceDetail,
    SourceReport, SystemDetail, SystemReport,
};
use crate::node::updates::Updates;
use crate::server::respond::Policy;
use crate::server::rule::Flags;
use crate::sync::combine::{Combined, combine};
use crate::sync::command::{Applied, ClockCommand, ClockStatus};
use crate::sync::discipline::{Discipline, Outcome};
use crate::sync::filter::{Estimate, Filter, Start, Update};
use crate::sync::holdover::PROMISE_SIGMAS;
use crate::sync::leap::{LeapTable, can_leap};
use crate::sync::ledger::{Ledger, MonotonicClock};
use crate::sync::policy::{SelectPolicy, StepPolicy};
use crate::sync::poll::Poll;
use crate::sync::select::{Candidate, Tally, select};
use crate::system::SystemState;
use crate::time::duration::NtpDuration;
use crate::time::instant::{MonoInstant, Now};
use crate::time::stamp::Stamp;
use crate::time::units::{Ppm, Precision};
use crate::wire::packet::{Leap, STRATUM_MAX};
use crate::wire::refid::{KissCode, RefId};

/// A server that answered none of its last eight polls is out of reach (RFC 5905
/// section 9.2): its name is looked up again.
const MISSES_UNREACHABLE: u32 = 8;

/// A server that still lies is told of again after this.
const ACCUSED_AGAIN: NtpDuration = NtpDuration::from_whole_seconds(3600);

/// What a node is made from.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Whom to ask.
    pub sources: Vec<SourceSpec>,
    /// Stratum of the undisciplined local clock as a last resort.
    pub local_stratum: Option<u8>,
    /// Of several nodes that serve their local clocks as of that stratum, those follow that
    /// don't have the lowest address (chrony's `local ... orphan`).
    pub orphan: bool,
    /// When the clock may be stepped.
    pub step: StepPolicy,
    /// The sources that are asked at the start alone set the clock before others may: by a
    /// step from this offset on. None: there are none such.
    pub initial: Option<NtpDuration>,
    /// How sources are selected.
    pub select: SelectPolicy,
    /// What of the synchronisation is in force.
    pub mechanisms: Mechanisms,
    /// May the clock be steered at all?
    pub steer: bool,
    /// Set the clock once and be done (`-q`).
    pub once: bool,
    /// Does the kernel get told of leap seconds, and step the clock for them?
    pub kernel_leaps: bool,
    /// The drift file's word on the oscillator.
    pub frequency: Option<Start>,
    /// Correction in force in the clock right now.
    pub frequency_in_force: Ppm,
    /// How the monotonic clock of `now` relates to the one we steer.
    pub monotonic: MonotonicClock,
    /// Of our own clock.
    pub precision: Precision,
    /// For what strangers must not guess.
    pub seed: [u8; 32],
}

/// One address we ask, with what we make of its answers.
#[derive(Debug)]
struct Peer {
    id: AssociationId,
    source: SourceId,
    association: Association,
    /// Of a clock that is read, where no server is asked.
    clock: Option<Clock>,
    filter: Filter,
    poll: Poll,
    tally: Tally,
    /// What the operator was last told: does it answer?
    answers: bool,
    /// When the operator was last told that it lies.
    accused: Option<MonoInstant>,
    /// The frequency of the last record, and what it might be wrong by.
    recorded: Option<(Ppm, Ppm)>,
}

/// A reference clock behind an association.
#[derive(Debug)]
struct Clock {
    /// As the configuration calls it.
    name: String,
    readings: Readings,
    /// The operator was told that TAI − UTC is unknown.
    told_tai: bool,
}

impl Peer {
    /// As the log names it.
    fn whom(&self) -> Whom {
        match &self.clock {
            Some(clock) => Whom::Clock(clock.readings.options().name(), clock.name.clone()),
            None => Whom::Server(self.association.address()),
        }
    }

    /// As reports name it: the address without its port.
    fn name(&self) -> String {
        match &self.clock {
            Some(clock) => clock.readings.options().name(),
            None => self.association.address().ip().to_string(),
        }
    }

    /// When it wants something.
    fn deadline(&self) -> MonoInstant {
        let readings = self.clock.as_ref().map(|clock| clock.readings.deadline());
        let deadline = self.association.deadline();
        readings.map_or(deadline, |readings| readings.min(deadline))
    }

    /// Silence for as long as makes a server unreachable is told once, and its
    /// verdict goes.
    fn report_silence(&mut self, actions: &mut VecDeque<Action>) -> bool {
        let silent = self.association.misses() >= MISSES_UNREACHABLE;
        if silent && std::mem::replace(&mut self.answers, false) {
            actions.push_back(Action::Log(Event::Unreachable(self.whom())));
        }
        silent && self.association.misses().is_multiple_of(MISSES_UNREACHABLE)
    }

    fn on_clock_moved(&mut self, now: MonoInstant, restart: bool) {
        self.association.on_clock_moved(now, restart);
        if let Some(clock) = &mut self.clock {
            clock.readings.clear();
        }
    }

    /// Is there any hope left for this address?
    fn is_dead(&self) -> bool {
        self.association.misses() >= MISSES_UNREACHABLE || self.association.denied().is_some()
    }
}

/// The engine.
#[derive(Debug)]
pub struct Node {
    names: Vec<Name>,
    peers: Vec<Peer>,
    next_id: u64,
    policy: Arc<Policy>,
    own_addresses: Vec<IpAddr>,
    ledger: Ledger,
    start: Start,
    discipline: Discipline,
    /// The clock is being set by the sources of the start, which have until then.
    initial_until: Option<MonoInstant>,
    state: SystemState,
    reference: Reference,
    combined: Option<Combined>,
    config: Policies,
    dice: ChaCha8Rng,
    actions: VecDeque<Action>,
    steps: u64,
    foreign_steps: u64,
    started: MonoInstant,
    /// Servers had their chance by then: the local clock may stand in.
    local_from: MonoInstant,
    refresh_at: MonoInstant,
    keep_at: MonoInstant,
    leap_table: Option<LeapTable>,
    /// What the kernel was told this day ends with.
    armed: Leap,
    /// The offsets found at each update.
    updates: Updates,
    /// What is recorded.
    wanted: Wanted,
    /// Times that an operator types in.
    manual: Manual,
    /// Done or dead: nothing more is asked or steered.
    over: bool,
}

/// Whom the system variables come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reference {
    None,
    Peer(AssociationId),
    Local,
}

#[derive(Debug)]
struct Policies {
    select: SelectPolicy,
    mechanisms: Mechanisms,
    local_stratum: Option<u8>,
    orphan: bool,
    steer: bool,
    once: bool,
    kernel_leaps: bool,
    /// The drift file's word.
    frequency: Option<Start>,
}

/// The first request waits until the start's own commotion is over.
const FIRST_WAIT: NtpDuration = NtpDuration::from_units(1 << 29); // 125 ms
/// The local clock takes over this long after the start, or after another hand moved
/// the clock, if no server is heard: a
/// burst's time.
const LOCAL_WAIT: NtpDuration = NtpDuration::from_whole_seconds(16);
/// So long others wait for the sources of `initstepslew`: eight requests, two seconds apart,
/// and a while for their names.
const INITIAL_WAIT: NtpDuration = NtpDuration::from_whole_seconds(20);
/// With `-q`, somebody has to have answered by then.
const ONCE_WAIT: NtpDuration = NtpDuration::from_whole_seconds(30);
/// What the local clock's dispersion is said to be: nobody knows.
const LOCAL_DISPERSION: NtpDuration = NtpDuration::from_units(1 << 25); // 7.8 ms
/// How often the kernel's maxerror and what we serve are brought up to date while
/// nothing is heard.
const REFRESH: NtpDuration = NtpDuration::from_whole_seconds(16);
/// Before this time, a frequency kept from an earlier run is not replaced.
const REPLACE_MIN: NtpDuration = NtpDuration::from_whole_seconds(600);
/// How often the frequency is kept for the next start: ntpd's hour.
const KEEP_INTERVAL: NtpDuration = NtpDuration::from_whole_seconds(3600);
/// Names without an address have association ids of their own in reports: so many at most.
const NAMES_MAX: usize = 1000;

impl Node {
    /// A node that starts asking at `now`.
    pub fn new(config: NodeConfig, now: Now) -> Self {
        let step = if config.once {
            StepPolicy {
                threshold: Some(NtpDuration::ZERO),
                threshold_back: Some(NtpDuration::ZERO),
                step_updates: None,
                ..config.step
            }
        } else {
            config.step
        };
        // As chronyd with -q or -x: nobody is asked for what is not done.
        let initial = config.initial.filter(|_| config.steer && !config.once);
        let mut discipline = Discipline::new(
            step,
            config
                .frequency
                .map_or(config.frequency_in_force, |kept| kept.frequency),
            config.mechanisms,
        );
        discipline.set_initial(initial);
        let start = config
            .frequency
            .map_or_else(Start::default, Start::from_drift);
        let base = config
            .frequency
            .map_or(config.frequency_in_force, |kept| kept.frequency);
        let mut node = Self {
            names: config
                .sources
                .into_iter()
                .map(|spec| Name::new(spec, now.mono))
                .collect(),
            peers: Vec::new(),
            next_id: 0,
            policy: Arc::new(Policy::default()),
            own_addresses: Vec::new(),
            ledger: Ledger::new(now.mono, config.frequency_in_force, config.monotonic),
            start,
            discipline,
            initial_until: initial.map(|_| now.mono + INITIAL_WAIT),
            state: SystemState::unsynchronised(config.precision),
            reference: Reference::None,
            combined: None,
            config: Policies {
                select: config.select,
                mechanisms: config.mechanisms,
                local_stratum: config.local_stratum,
                orphan: config.orphan,
                steer: config.steer,
                once: config.once,
                kernel_leaps: config.kernel_leaps,
                frequency: config.frequency,
            },
            dice: ChaCha8Rng::from_seed(config.seed),
            actions: VecDeque::new(),
            steps: 0,
            foreign_steps: 0,
            started: now.mono,
            local_from: now.mono + LOCAL_WAIT,
            refresh_at: now.mono,
            keep_at: now.mono + KEEP_INTERVAL,
            leap_table: None,
            armed: Leap::None,
            updates: Updates::default(),
            wanted: Wanted::default(),
            manual: Manual::default(),
            over: false,
        };
        if initial.is_none() {
            node.retire_initial();
        }
        if config.steer && config.frequency.is_some() {
            node.steer(ClockCommand::SetFrequency(base));
        }
        node.actions.push_back(Action::Publish(node.state));
        for index in 0..node.names.len() {
            if let Some(clock) = node.names[index].spec.options.clock {
                node.mobilise(SourceId(index), clock.address(), now.mono);
            }
        }
        node
    }

    /// The next thing to do, in order.
    pub fn take_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`on_timer`](Self::on_timer) has to be called.
    pub fn deadline(&self) -> MonoInstant {
        let names = self.names.iter().map(Name::deadline);
        let peers = self.peers.iter().map(Peer::deadline);
        let transient = self.discipline.deadline();
        names
            .chain(peers)
            .chain(transient)
            .chain(self.initial_until)
            .chain([self.refresh_at])
            .min()
            .unwrap_or(MonoInstant::MAX)
    }

    /// Does what is due: lookups, requests, the end of a slew.
    pub fn on_timer(&mut self, now: Now) {
        if self.over {
            return;
        }
        for (index, name) in self.names.iter_mut().enumerate() {
            if name.take_lookup(now.mono) {
                self.actions.push_back(Action::Resolve(SourceId(index)));
            }
        }
        let mut lost = false;
        for peer in &mut self.peers {
            if peer.association.expire(now.mono) {
                self.actions.push_back(Action::Close(peer.id));
                lost |= peer.report_silence(&mut self.actions);
            }
            let reads = peer.clock.as_mut().is_some_and(|clock| {
                let due = clock.readings.is_due(now.mono);
                due || peer.association.deadline() <= now.mono
            });
            if reads {
                self.actions.push_back(Action::ReadClock {
                    association: peer.id,
                    source: peer.source,
                });
            }
            if peer.association.deadline() > now.mono {
                continue;
            }
            let dice = Dice {
                transmit: self.dice.next_u64(),
                receive: self.dice.next_u64(),
                spread: self.dice.next_u32(),
            };
            let request = peer
                .association
                .poll(now, dice, &self.policy.keys, &self.state);
            if let Some(clock) = &mut peer.clock {
                clock.readings.close();
            } else if let Some(request) = request {
                self.actions.push_back(Action::Send {
                    association: peer.id,
                    to: peer.association.address(),
                    from: request.from,
                    bytes: request.bytes,
                });
            }
        }
        if lost {
            self.reconsider(now);
        }
        if self.initial_until.is_some_and(|until| until <= now.mono) {
            self.log(Event::InitialFailed);
            self.end_initial(now);
        }
        if let Some(command) = self.discipline.on_timer(now.mono) {
            self.steer(command);
        }
        if now.mono >= self.refresh_at {
            self.refresh(now);
        }
        if self.config.once && now.mono.since(self.started) >= ONCE_WAIT {
            self.over = true;
            self.actions.push_back(Action::Fatal(format!(
                "no server gave the time within {:.0} s; the clock was not set",
                ONCE_WAIT.as_seconds()
            )));
        }
    }

    /// A name's addresses; empty if it does not resolve just now.
    pub fn on_resolved(&mut self, source: SourceId, addresses: Vec<SocketAddr>, now: Now) {
        let Some(name) = self.names.get_mut(source.0) else {
            return;
        };
        name.on_resolved(addresses, now.mono);
        let addresses = name.addresses.clone();
        if name.spec.pool {
            self.fill_pool(source, &addresses, now.mono);
        } else {
            self.assign_server(source, &addresses, now.mono);
        }
        self.tell_upstreams();
    }

    /// The kernel or the card stamped the departure of the association's request.
    pub fn on_departure(&mut self, id: AssociationId, stamp: Stamp) {
        if let Some(peer) = self.peers.iter_mut().find(|peer| peer.id == id) {
            peer.association.on_departure(stamp);
        }
    }

    /// The request left from this address of ours.
    pub fn on_sent(&mut self, id: AssociationId, from: IpAddr) {
        if let Some(peer) = self.peers.iter_mut().find(|peer| peer.id == id) {
            peer.association.note_local(from);
        }
    }

    /// The datagram for a peer that is about to leave, telling the time of `now`; none if it
    /// is to be sent as it is.
    pub fn restamp(&mut self, id: AssociationId, now: Now) -> Option<Vec<u8>> {
        let peer = self.peers.iter_mut().find(|peer| peer.id == id)?;
        peer.association.restamp(now, &self.policy.keys)
    }

    /// The request could not leave, or an ICMP error came instead of a reply.
    pub fn on_send_failed(&mut self, id: AssociationId, now: Now) {
        if let Some(peer) = self.peers.iter_mut().find(|peer| peer.id == id) {
            peer.association.on_send_failed();
            let lost = peer.report_silence(&mut self.actions);
            self.actions.push_back(Action::Close(id));
            if lost {
                self.reconsider(now);
            }
        }
    }

    /// A datagram came on the association's socket, at `arrival` on our clock.
    pub fn on_datagram(&mut self, id: AssociationId, bytes: &[u8], arrival: Stamp, now: Now) {
        let Some(index) = self.peers.iter().position(|peer| peer.id == id) else {
            return;
        };
        if self.over {
            return;
        }
        let forbidden = self.forbids(index);
        let peer = &mut self.peers[index];
        if forbidden {
            peer.association.count_rejected(PacketTest::Access);
            return;
        }
        let misses = peer.association.misses();
        let received = peer.association.on_datagram(
            bytes,
            arrival,
            now,
            self.state.precision,
            &self.own_addresses,
            &self.policy.keys,
        );
        if self.wanted.replies {
            self.record_answer(index, &received, now);
        }
        let peer = &mut self.peers[index];
        match received {
            Received::Rejected(_) => {
                let missed = peer.association.misses() > misses;
                if missed && peer.report_silence(&mut self.actions) {
                    self.reconsider(now);
                }
                return;
            }
            Received::Kiss(kiss) => {
                let address = peer.association.address();
                self.log(Event::Kissed(address, kiss));
                if kiss != KissCode::Rate {
                    self.reconsider(now);
                }
            }
            Received::Nothing => {}
            Received::Sample(mut sample) => {
                sample.offset += peer.association.options().offset;
                if !std::mem::replace(&mut peer.answers, true) {
                    let event = Event::Reachable(peer.whom());
                    self.log(event);
                }
                self.take_sample(index, &sample, now);
            }
        }
        let is_over = |peer: &Peer| !peer.association.options().symmetric;
        if self.peers.iter().any(|peer| peer.id == id && is_over(peer)) {
            self.actions.push_back(Action::Close(id));
        }
    }

    /// A broadcast came. If the operator wants to know of such servers, and it is signed as
    /// they have to be, its sender is asked from now on, like any other server: what was
    /// broadcast does not say how long it took.
    pub fn on_broadcast(&mut self, bytes: &[u8], from: SocketAddr, now: Now) {
        let spec = |name: &Name| (!name.is_retired()).then_some(name.spec.options);
        let mut wanted = (0..).zip(self.names.iter().map(spec));
        let found = wanted.find_map(|(index, options)| {
            let options = options?;
            Some((SourceId(index), options, options.heard?))
        });
        let Some((source, options, heard)) = found.filter(|_| !self.over) else {
            return;
        };
        let is_known = |peer: &Peer| peer.association.address().ip() == from.ip();
        let is_known = self.peers.iter().any(is_known) || self.own_addresses.contains(&from.ip());
        if is_known || self.peers.len() >= self.config.select.maxclock {
            return;
        }
        let flags = self.policy.access.lookup(from.ip(), from.port());
        if flags.intersects(Flags::IGNORE | Flags::NOSERVE) {
            return;
        }
        let Ok((version, key)) = check_broadcast(bytes, &self.policy.keys) else {
            return;
        };
        let signed_only = heard.signed || flags.intersects(Flags::NOTRUST | Flags::NOPEER);
        if signed_only && key.is_none() {
            return;
        }
        let options = SourceOptions {
            key,
            version,
            ..options
        };
        self.mobilise_as(source, from, options, now.mono);
        self.tell_upstreams();
    }

    /// A clock was read (see [`Action::ReadClock`]).
    pub fn on_reading(&mut self, id: AssociationId, reading: &Reading, now: Now) {
        let tai_offset = self.tai_offset(now).or(reading.tai_offset);
        let Some(clock) = self.clock_of(id) else {
            return;
        };
        let Some(offset) = clock.readings.offset(reading, tai_offset) else {
            if !std::mem::replace(&mut clock.told_tai, true) {
                let whom = self.peers.iter().find(|peer| peer.id == id).map(Peer::whom);
                self.actions
                    .extend(whom.map(|whom| Action::Log(Event::TaiUnknown(whom))));
            }
            self.on_reading_failed(id, now);
            return;
        };
        let raw = reading.clock - reading.local;
        self.record_reading(id, raw, offset, reading.window.half(), now);
        let z = offset + self.ledger.integral_at(reading.at);
        if let Some(clock) = self.clock_of(id) {
            clock.readings.keep(reading, z);
        }
        self.end_poll(id, now);
    }

    /// It could not be read, or what was read is not to be believed.
    pub fn on_reading_failed(&mut self, id: AssociationId, now: Now) {
        self.end_poll(id, now);
    }

    fn clock_of(&mut self, id: AssociationId) -> Option<&mut Clock> {
        let peer = self.peers.iter_mut().find(|peer| peer.id == id)?;
        peer.clock.as_mut()
    }

    /// If the poll of this clock is over, its readings make a sample, or are missed.
    fn end_poll(&mut self, id: AssociationId, now: Now) {
        let Some(index) = self.peers.iter().position(|peer| peer.id == id) else {
            return;
        };
        let peer = &mut self.peers[index];
        let Some(clock) = peer.clock.as_mut().filter(|_| !self.over) else {
            return;
        };
        if !clock.readings.take_closing() {
            return;
        }
        let precision = self.state.precision.to_duration();
        let ledger = &self.ledger;
        let sample = clock
            .readings
            .take_measurement(precision, |at| ledger.integral_at(at));
        let Some(sample) = sample else {
            self.on_send_failed(id, now);
            return;
        };
        peer.association.on_measurement(&sample, now);
        self.record_measurement(index, &sample, now);
        let peer = &mut self.peers[index];
        if !std::mem::replace(&mut peer.answers, true) {
            let event = Event::Reachable(peer.whom());
            self.log(event);
        }
        self.take_sample(index, &sample, now);
    }

    /// The driver did this to the clock.
    pub fn on_applied(&mut self, applied: &Applied) {
        self.ledger.applied(applied);
        self.discipline.on_applied(applied);
        if applied.stepped == NtpDuration::ZERO {
            return;
        }
        self.steps += 1;
        self.log(Event::Stepped(applied.stepped));
        for peer in &mut self.peers {
            peer.on_clock_moved(applied.now.mono, false);
        }
        if self.config.once {
            self.over = true;
            self.actions.push_back(Action::Done);
        } else {
            // The offset that is left, on the clock as it is now.
            self.synchronise(applied.now);
        }
    }

    /// Somebody else moved the clock by `moved`, noticed at `now`.
    pub fn on_foreign_step(&mut self, moved: NtpDuration, now: Now) {
        let leap = match self.armed {
            Leap::Insert => NtpDuration::from_whole_seconds(-1),
            Leap::Delete => NtpDuration::from_whole_seconds(1),
            Leap::None | Leap::Unknown => NtpDuration::ZERO,
        };
        if leap != NtpDuration::ZERO && (moved - leap).abs() < NtpDuration::from_seconds(0.1) {
            // The kernel's leap second: the sources take it too, so offsets stay.
            for peer in &mut self.peers {
                peer.on_clock_moved(now.mono, false);
            }
            self.state.leap = Leap::None;
            self.vouch(now);
            return;
        }
        self.foreign_steps += 1;
        self.log(Event::MovedByOthers(moved));
        self.ledger.reset(now.mono);
        self.manual.reset();
        self.combined = None;
        for peer in &mut self.peers {
            peer.filter.reset();
            peer.poll.restart();
            peer.on_clock_moved(now.mono, true);
        }
        if let Some(command) = self.discipline.on_foreign_step() {
            self.steer(command);
        }
        if self.reference != Reference::Local {
            self.disown(now);
        }
    }

    /// Interfaces or routes changed: what was out of reach may not be any more.
    pub fn on_network_change(&mut self, own_addresses: Vec<IpAddr>, now: Now) {
        // Daemons on one host follow each other under one address, and that is no loop.
        self.own_addresses = own_addresses;
        self.own_addresses.retain(|address| !address.is_loopback());
        for name in &mut self.names {
            name.on_network_change(now.mono);
        }
        for peer in &mut self.peers {
            peer.association.on_network_change(now.mono);
        }
    }

    /// `restrict` applies to our servers' packets too.
    pub fn set_policy(&mut self, policy: Arc<Policy>) {
        self.policy = policy;
    }

    /// What is known of leap seconds. Servers are believed where it knows nothing.
    pub fn set_leap_table(&mut self, table: LeapTable) {
        self.leap_table = Some(table);
    }

    /// TAI − UTC in seconds, by the table of leap seconds.
    pub fn tai_offset(&self, now: Now) -> Option<i32> {
        self.leap_table.as_ref()?.tai_offset_at(now.wall)
    }

    /// What is recorded from now on.
    pub fn set_wanted(&mut self, wanted: Wanted) {
        self.wanted = wanted;
    }

    /// What we serve with.
    pub fn state(&self) -> &SystemState {
        &self.state
    }

    /// The correction of the clock's own error, without what slews an offset away.
    pub fn frequency(&self) -> Ppm {
        self.discipline.frequency()
    }

    /// Is an offset being slewed away right now?
    pub fn is_slewing(&self) -> bool {
        self.config.steer && self.discipline.deadline().is_some()
    }

    /// The frequency worth keeping for the next start, if it is known well enough. A
    /// few minutes don't know better than what was kept before.
    pub fn drift(&self, now: MonoInstant) -> Option<Start> {
        let old_enough = now.since(self.started) >= REPLACE_MIN;
        self.discipline
            .drift()
            .filter(|_| old_enough || self.config.frequency.is_none())
    }

    /// The combined offset now: what we believe the clock lacks.
    pub fn offset_at(&self, now: MonoInstant) -> Option<NtpDuration> {
        let combined = self.combined.as_ref()?;
        // The ledger knows what was corrected since; the oscillator's own error is
        // what `base` corrects, so it stays out of the sum.
        let corrected = self.ledger.integral_at(now) - self.ledger.integral_at(combined.at);
        let drifted = now.since(combined.at) * combined.frequency.ratio();
        Some(combined.offset + drifted - corrected)
    }
}

/// The steps between a sample and the clock.
impl Node {
    fn take_sample(&mut self, index: usize, sample: &Measurement, now: Now) {
        let peer = &mut self.peers[index];
        match peer.filter.update(sample, &self.ledger) {
            Update::Taken => {
                let exponent = peer.poll.update(&peer.filter, now.mono);
                peer.association.set_poll(exponent);
            }
            Update::Restarted => {
                let exponent = peer.poll.restart();
                peer.association.set_poll(exponent);
                peer.association.ask_anew(now.mono);
            }
            Update::Outlier => {
                peer.association.ask_again(now.mono);
                return;
            }
            Update::Stale => return,
        }
        if self.wanted.samples {
            self.record_sample(index, now);
        }
        self.synchronise(now);
    }

    /// Select, combine, discipline, and tell the world.
    fn synchronise(&mut self, now: Now) {
        let mut candidates: Vec<Candidate> = self
            .peers
            .iter()
            .map(|peer| Candidate {
                estimate: peer.filter.estimate(now.mono, &self.ledger),
                fit: (self.initial_until.is_none() || peer.association.options().initial)
                    && peer.association.reach() != 0
                    && peer.association.denied().is_none()
                    && !peer.association.follows_us(),
                prefer: peer.association.options().prefer,
                noselect: peer.association.options().noselect,
            })
            .collect();
        let previous = match self.reference {
            Reference::Peer(id) => self.peers.iter().position(|peer| peer.id == id),
            Reference::None | Reference::Local => None,
        };
        let mechanisms = self.config.mechanisms;
        let elected = self.set_orphans_aside(&mut candidates);
        let mut selection = select(&candidates, &self.config.select, mechanisms, previous);
        if let (None, Some(elected)) = (selection.system, elected) {
            candidates[elected].fit = true;
            selection = select(&candidates, &self.config.select, mechanisms, previous);
        }
        for (peer, &tally) in self.peers.iter_mut().zip(&selection.tallies) {
            peer.tally = tally;
            // Without a majority nobody can say who lies.
            let accused = selection.system.is_some() && tally == Tally::Falseticker;
            // Who lies by turns is not told of at his pace.
            let told = peer
                .accused
                .is_some_and(|at| now.mono.since(at) < ACCUSED_AGAIN);
            if accused && !told {
                let event = Event::Falseticker(peer.whom());
                self.actions.push_back(Action::Log(event));
                peer.accused = Some(now.mono);
            }
        }
        if self.wanted.selections {
            let fact = Fact::Selection(self.source_reports(now));
            self.record(fact, now);
        }
        let (Some(system), Some(mut combined)) = (
            selection.system,
            combine(&candidates, &selection, mechanisms),
        ) else {
            self.lose(now);
            return;
        };
        if let (true, Some(kept)) = (self.config.once, self.config.frequency) {
            // A few seconds teach nothing about the oscillator that is worth what
            // the file knows.
            combined.frequency = kept.frequency;
            combined.holdover.frequency_sigma = kept.frequency_sigma;
        }
        self.combined = Some(combined);
        let before = Before {
            pending: self.discipline.pending(now.mono),
            error: self.error_bound(now),
        };
        if self.config.steer {
            let outcome = self.discipline.update(&combined, now.mono);
            if let Outcome::Panic { offset } = outcome {
                self.over = true;
                self.actions.push_back(Action::Panic(format!(
                    "the clock is off by {:+.3} s, beyond the panic limit; set it by hand, \
                     start once with -g, or raise `tinker panic`",
                    offset.as_seconds()
                )));
                return;
            }
            for command in outcome.commands() {
                self.steer(command);
            }
            if self.initial_until.is_some() && outcome != Outcome::Waiting {
                if self.wanted.updates {
                    self.record_update(&combined, selection.survivors.len(), before, now);
                }
                let stepped = matches!(outcome, Outcome::Step { .. });
                self.log(Event::InitiallySet(combined.offset, stepped));
                self.end_initial(now);
                return;
            }
            if matches!(outcome, Outcome::Step { .. }) && self.wanted.updates {
                self.record_update(&combined, selection.survivors.len(), before, now);
            }
            if matches!(outcome, Outcome::Waiting | Outcome::Step { .. }) {
                // Not set yet; after a step, `on_applied` comes back here.
                return;
            }
        }
        self.follow(system, &combined, now);
        if self.wanted.updates {
            self.record_update(&combined, selection.survivors.len(), before, now);
        }
    }

    /// The clock was set by the sources of the start, or can't be: the others' turn. A step
    /// that is under way, `on_applied` comes back with.
    fn end_initial(&mut self, now: Now) {
        self.initial_until = None;
        self.discipline.set_initial(None);
        self.retire_initial();
        self.combined = None;
        self.tell_upstreams();
        self.local_from = self.local_from.max(now.mono);
        self.lose(now);
    }

    fn retire_initial(&mut self) {
        for name in &mut self.names {
            if name.spec.options.initial {
                name.retire();
            }
        }
        let is_initial = |peer: &&Peer| peer.association.options().initial;
        let gone: Vec<_> = self.peers.iter().filter(is_initial).map(|p| p.id).collect();
        for id in gone {
            self.demobilise(id);
        }
    }

    /// Who serves a local clock as we would, or follows one who does, is no source while
    /// there are others: such are not fit. Then the one whom all follow if there are none,
    /// unless that is us: the one of the lowest refid, which is the address.
    fn set_orphans_aside(&self, candidates: &mut [Candidate]) -> Option<usize> {
        let told = self.config.local_stratum.filter(|_| self.config.orphan)? + 1;
        let mut lowest: Option<([u8; 4], usize)> = None;
        for (index, (peer, candidate)) in self.peers.iter().zip(candidates).enumerate() {
            let stratum = candidate.estimate.as_ref().map(|estimate| estimate.stratum);
            if peer.clock.is_some() || stratum.is_none_or(|stratum| stratum < told) {
                continue;
            }
            let fit = std::mem::replace(&mut candidate.fit, false) && !candidate.noselect;
            let refid = RefId::from_address(peer.association.address().ip()).bytes();
            if fit && stratum == Some(told) && lowest.is_none_or(|(other, _)| refid < other) {
                lowest = Some((refid, index));
            }
        }
        let (refid, index) = lowest?;
        let own = RefId::from_address(self.peers[index].association.local()?);
        (refid < own.bytes()).then_some(index)
    }

    /// The system variables, from the system peer and the combination.
    fn follow(&mut self, system: usize, combined: &Combined, now: Now) {
        let peer = &self.peers[system];
        let (id, address) = (peer.id, peer.association.address());
        let source = match &peer.clock {
            Some(_) => peer.whom().to_string(),
            None => address.to_string(),
        };
        let stratum = (combined.stratum + 1).min(STRATUM_MAX);
        if self.reference != Reference::Peer(id) {
            self.reference = Reference::Peer(id);
            self.log(Event::Selected { source, stratum });
        }
        self.state = SystemState {
            leap: combined.leap,
            stratum,
            refid: RefId::from_address(address.ip()),
            reference: now.wall,
            root_delay: combined.root_delay,
            root_dispersion: combined.root_dispersion,
            dispersion_rate: combined.holdover.rate(REFRESH) + self.adrift(combined),
            precision: self.state.precision,
            error_bound: combined.error_bound,
            error_likely: combined.error_likely,
            updated: now.wall,
        };
        self.updates.note(combined.offset, now.mono);
        self.vouch(now);
        if now.mono >= self.keep_at {
            self.keep_at = now.mono + KEEP_INTERVAL;
            self.actions
                .extend(self.drift(now.mono).map(Action::KeepFrequency));
        }
    }

    /// Nobody can be followed just now. The clock runs on and is served with
    /// growing dispersion, as long as that means anything; or the local clock
    /// stands in, where the operator wants it.
    fn lose(&mut self, now: Now) {
        let local = self
            .config
            .local_stratum
            .filter(|_| self.names.is_empty() || now.mono >= self.local_from)
            .filter(|_| self.initial_until.is_none());
        match (self.reference, local) {
            (Reference::Peer(_), _) => {
                self.reference = Reference::None;
                self.log(Event::Lost);
            }
            (Reference::None, Some(stratum)) if !self.holds_over(now) => {
                self.reference = Reference::Local;
                self.log(Event::Selected {
                    source: "the local clock".to_owned(),
                    stratum: (stratum + 1).min(STRATUM_MAX),
                });
            }
            (Reference::None | Reference::Local, _) => {}
        }
        if let (Reference::Local, Some(stratum)) = (self.reference, local) {
            self.state = SystemState {
                leap: Leap::None,
                stratum: (stratum + 1).min(STRATUM_MAX),
                refid: RefId::local(stratum + 1),
                reference: now.wall,
                root_delay: NtpDuration::ZERO,
                root_dispersion: LOCAL_DISPERSION,
                dispersion_rate: PHI,
                updated: now.wall,
                ..SystemState::unsynchronised(self.state.precision)
            };
        }
        self.vouch(now);
    }

    /// The clock shows somebody else's time: not ours to vouch for, nor to serve,
    /// until a server has said what it is.
    fn disown(&mut self, now: Now) {
        self.reference = Reference::None;
        self.local_from = now.mono + LOCAL_WAIT;
        self.state.refid = RefId::STEP;
        let error = self.error_bound(now);
        self.forget_time();
        self.record_loss(error, now);
        self.vouch(now);
    }

    /// Nothing is known of the time any more but who once gave it.
    fn forget_time(&mut self) {
        self.state = SystemState {
            refid: self.state.refid,
            reference: self.state.reference,
            ..SystemState::unsynchronised(self.state.precision)
        };
    }

    /// Is the last server's time still good enough to be served?
    fn holds_over(&self, now: Now) -> bool {
        let distance = self.state.root_delay.half() + self.state.root_dispersion_at(now.wall);
        self.state.is_synchronised() && distance < self.config.select.maxdist
    }

    /// Publishes the state, or that there is none to vouch for any more; and the
    /// same to the kernel.
    fn vouch(&mut self, now: Now) {
        self.age(now);
        if self.state.is_synchronised() && !self.holds_over(now) {
            self.log(Event::Unsynchronised);
            let error = self.error_bound(now);
            self.forget_time();
            self.record_loss(error, now);
        }
        let table = self.leap_table.as_ref();
        if self.state.leap != Leap::Unknown
            && let Some(leap) = table.and_then(|table| table.leap_at(now.wall))
        {
            self.state.leap = leap;
        }
        let tai_offset = table.and_then(|table| table.tai_offset_at(now.wall));
        self.armed = if self.config.kernel_leaps && can_leap(now.wall) {
            self.state.leap
        } else {
            Leap::None
        };
        self.publish();
        if self.config.steer {
            let state = &self.state;
            let likely = state.error_likely + (state.error_bound_at(now.wall) - state.error_bound);
            self.steer(ClockCommand::SetStatus(ClockStatus {
                // The local clock's time is nobody's: the kernel is not told it is good.
                synchronised: state.is_synchronised() && self.reference != Reference::Local,
                leap: self.armed,
                error_max: state.error_bound_at(now.wall),
                error_estimate: likely,
                tai_offset,
            }));
        }
    }

    /// Brings what we promise up to now: it grows with the time since a server was heard,
    /// and ever faster.
    fn age(&mut self, now: Now) {
        let Some(combined) = self.combined.as_ref() else {
            return;
        };
        if self.reference == Reference::Local || !self.state.is_synchronised() {
            return;
        }
        let age = now.mono.since(combined.at);
        let adrift = self.adrift(combined);
        let grown = combined.holdover.grown(age, PROMISE_SIGMAS) + age * adrift.ratio();
        self.state.root_dispersion = combined.root_dispersion + grown;
        self.state.error_bound = combined.error_bound + grown;
        self.state.error_likely = combined.error_likely + grown;
        self.state.dispersion_rate = combined.holdover.rate(age + REFRESH) + adrift;
        self.state.updated = now.wall;
    }

    /// How fast the clock runs away although its frequency is known: where nobody steers
    /// it, and as long as an offset too far to be believed holds the old frequency.
    fn adrift(&self, combined: &Combined) -> Ppm {
        if self.config.steer && self.discipline.is_settled() {
            return Ppm::ZERO;
        }
        Ppm((combined.frequency - self.discipline.frequency()).0.abs())
    }

    fn refresh(&mut self, now: Now) {
        self.refresh_at = now.mono + REFRESH;
        match self.reference {
            Reference::Peer(_) => self.vouch(now),
            Reference::None | Reference::Local => self.lose(now),
        }
    }

    fn publish(&mut self) {
        self.actions.push_back(Action::Publish(self.state));
    }

    fn steer(&mut self, command: ClockCommand) {
        self.actions.push_back(Action::Steer(command));
    }

    fn log(&mut self, event: Event) {
        self.actions.push_back(Action::Log(event));
    }
}

/// The state before a correction.
#[derive(Clone, Copy)]
struct Before {
    pending: NtpDuration,
    error: Option<NtpDuration>,
}

/// What is kept in files.
impl Node {
    fn record(&mut self, fact: Fact, now: Now) {
        let record = Box::new(Record { now, fact });
        self.actions.push_back(Action::Record(record));
    }

    fn error_bound(&self, now: Now) -> Option<NtpDuration> {
        let known = self.state.error_bound < NtpDuration::MAX;
        known.then(|| self.state.error_bound_at(now.wall))
    }

    fn record_answer(&mut self, index: usize, received: &Received, now: Now) {
        let association = &mut self.peers[index].association;
        let Some(answer) = association.take_answer() else {
            return;
        };
        let zero = NtpDuration::ZERO;
        let (failed, offset, delay, dispersion) = match received {
            Received::Rejected(test) => (Some(*test), zero, zero, zero),
            Received::Sample(sample) => {
                let offset = sample.offset + association.options().offset;
                (None, offset, sample.delay, sample.dispersion)
            }
            Received::Kiss(_) => (Some(PacketTest::Unsynchronised), zero, zero, zero),
            // Its own sample comes with the next one.
            Received::Nothing => return,
        };
        let fact = Fact::Reply(ReplyFact {
            address: association.address(),
            local: association.local(),
            header: answer.header,
            exchange: answer.exchange,
            origins: answer.origins,
            interleaved: answer.interleaved,
            failed,
            offset,
            delay,
            dispersion,
            poll: association.poll_exponent(),
        });
        self.record(fact, now);
    }

    fn record_sample(&mut self, index: usize, now: Now) {
        let peer = &self.peers[index];
        let Some(estimate) = peer.filter.estimate(now.mono, &self.ledger) else {
            return;
        };
        let sigma = estimate.holdover.frequency_sigma;
        let stress = peer.recorded.map_or(0.0, |(frequency, sigma)| {
            (estimate.frequency - frequency).0.abs() / sigma.0.max(f64::MIN_POSITIVE)
        });
        let fact = Fact::Sample(SampleFact {
            source: self.peer_report(peer, now),
            dispersion: estimate.dispersion,
            stress,
        });
        self.peers[index].recorded = Some((estimate.frequency, sigma));
        self.record(fact, now);
    }

    fn record_update(&mut self, combined: &Combined, sources: usize, before: Before, now: Now) {
        let fact = Fact::Update(UpdateFact {
            system: self.system_report(now),
            offset: combined.offset,
            offset_sigma: combined.offset_sigma,
            combined: sources,
            pending: before.pending,
            error_before: before.error,
        });
        self.record(fact, now);
    }

    /// Nobody is followed any more.
    fn record_loss(&mut self, error_before: Option<NtpDuration>, now: Now) {
        if !self.wanted.updates {
            return;
        }
        let fact = Fact::Update(UpdateFact {
            system: self.system_report(now),
            offset: NtpDuration::ZERO,
            offset_sigma: NtpDuration::ZERO,
            combined: 0,
            pending: self.discipline.pending(now.mono),
            error_before,
        });
        self.record(fact, now);
    }

    fn record_reading(
        &mut self,
        id: AssociationId,
        raw: NtpDuration,
        offset: NtpDuration,
        dispersion: NtpDuration,
        now: Now,
    ) {
        let wanted = self.wanted.readings;
        let Some(clock) = self.clock_of(id).filter(|_| wanted) else {
            return;
        };
        let options = clock.readings.options();
        let fact = Fact::Reading(ReadingFact {
            name: options.name(),
            refid: options.refid,
            place: Some(clock.readings.count()),
            raw,
            offset,
            dispersion: dispersion + options.precision,
        });
        self.record(fact, now);
    }

    fn record_measurement(&mut self, index: usize, sample: &Measurement, now: Now) {
        let wanted = self.wanted.readings;
        let Some(clock) = self.peers[index].clock.as_ref().filter(|_| wanted) else {
            return;
        };
        let options = clock.readings.options();
        let fact = Fact::Reading(ReadingFact {
            name: options.name(),
            refid: options.refid,
            place: None,
            raw: NtpDuration::ZERO,
            offset: sample.offset,
            dispersion: sample.dispersion,
        });
        self.record(fact, now);
    }
}

/// Names, addresses, associations.
impl Node {
    /// Do our own `restrict` rules forbid this server's packets? `notrust` does
    /// where there is no key to trust it by.
    fn forbids(&self, index: usize) -> bool {
        let address = self.peers[index].association.address();
        let flags = self.policy.access.lookup(address.ip(), address.port());
        let signed = self.peers[index].association.options().key.is_some();
        flags.intersects(Flags::IGNORE | Flags::NOSERVE)
            || flags.contains(Flags::NOTRUST) && !signed
    }

    fn mobilise(&mut self, source: SourceId, address: SocketAddr, now: MonoInstant) {
        self.mobilise_as(source, address, self.names[source.0].spec.options, now);
    }

    fn mobilise_as(
        &mut self,
        source: SourceId,
        address: SocketAddr,
        mut options: SourceOptions,
        now: MonoInstant,
    ) {
        let clock = options.clock.map(|clock| Clock {
            name: self.names[source.0].spec.name.clone(),
            readings: Readings::new(clock, now),
            told_tai: false,
        });
        // Readings cost nothing: a start need not wait for whole polls.
        options.iburst |= clock.is_some();
        // Whoever waits for `-q` wants to wait seconds, not polls.
        options.iburst |= self.config.once;
        options.symmetric &= !self.config.once;
        let id = AssociationId(self.next_id);
        self.next_id += 1;
        let start = now + FIRST_WAIT;
        let mechanisms = self.config.mechanisms;
        let mut association = Association::new(address, options, mechanisms, start);
        if options.offline && !self.config.once {
            association.set_online(false, now);
        }
        self.peers.push(Peer {
            id,
            source,
            association,
            clock,
            filter: Filter::new(self.start, mechanisms),
            poll: Poll::new(options.minpoll, options.maxpoll, mechanisms),
            tally: Tally::Rejected,
            answers: false,
            accused: None,
            recorded: None,
        });
        // In the order of the configuration, for those who read tables.
        self.peers.sort_by_key(|peer| (peer.source, peer.id));
    }

    fn demobilise(&mut self, id: AssociationId) {
        self.peers.retain(|peer| peer.id != id);
        self.actions.push_back(Action::Close(id));
    }

    /// A server keeps its address as long as that answers; else it gets the next
    /// one the name has.
    fn assign_server(&mut self, source: SourceId, addresses: &[SocketAddr], now: MonoInstant) {
        let Some(&first) = addresses.first() else {
            return;
        };
        let present = self
            .peers
            .iter()
            .find(|peer| peer.source == source)
            .map(|peer| (peer.id, peer.association.address(), peer.is_dead()));
        match present {
            None => self.mobilise(source, first, now),
            Some((_, _, false)) => {}
            Some((id, address, true)) => {
                let at = addresses.iter().position(|&other| other == address);
                let next = at.map_or(first, |at| addresses[(at + 1) % addresses.len()]);
                if next != address {
                    self.demobilise(id);
                    self.mobilise(source, next, now);
                }
            }
        }
    }

    /// A pool gives as many associations as it has addresses, within `tos maxclock`.
    /// Whoever is silent and no longer named makes room; whoever refused to serve us
    /// stays known, so as not to be asked again.
    fn fill_pool(&mut self, source: SourceId, addresses: &[SocketAddr], now: MonoInstant) {
        let gone: Vec<AssociationId> = self
            .peers
            .iter()
            .filter(|peer| {
                peer.source == source
                    && peer.association.misses() >= MISSES_UNREACHABLE
                    && !addresses.contains(&peer.association.address())
            })
            .map(|peer| peer.id)
            .collect();
        for id in gone {
            self.demobilise(id);
        }
        for &address in addresses {
            let known = self.peers.iter().any(|peer| {
                peer.association.address() == address && !peer.association.options().initial
            });
            let mine = self
                .peers
                .iter()
                .filter(|peer| peer.source == source)
                .count();
            let most = self.names[source.0].spec.most.unwrap_or(usize::MAX);
            if !known && mine < most && self.peers.len() < self.config.select.maxclock {
                self.mobilise(source, address, now);
            }
        }
    }

    /// Somebody is dead: look for another, and see who is left.
    fn reconsider(&mut self, now: Now) {
        for peer in self.peers.iter().filter(|peer| peer.is_dead()) {
            self.names[peer.source.0].refresh(now.mono);
        }
        // Who was heard and does not answer is asked again when he is heard again.
        let is_gone = |peer: &&Peer| {
            let silent = peer.association.misses() >= MISSES_UNREACHABLE;
            silent && peer.association.options().heard.is_some()
        };
        let gone: Vec<_> = self.peers.iter().filter(is_gone).map(|p| p.id).collect();
        for id in gone {
            self.demobilise(id);
        }
        self.synchronise(now);
    }

    fn tell_upstreams(&mut self) {
        let mut addresses: Vec<IpAddr> = self
            .peers
            .iter()
            .filter(|peer| peer.clock.is_none())
            .map(|peer| peer.association.address().ip())
            .collect();
        addresses.sort_unstable();
        addresses.dedup();
        self.actions.push_back(Action::Upstreams(addresses));
    }
}

/// What there is to tell.
impl Node {
    /// Everything, as plain values.
    pub fn report(&self, now: Now) -> NodeReport {
        NodeReport {
            system: self.system_report(now),
            sources: self.source_reports(now),
        }
    }

    fn system_report(&self, now: Now) -> SystemReport {
        let state = &self.state;
        let peer = match self.reference {
            Reference::Peer(id) => self.peers.iter().find(|peer| peer.id == id),
            Reference::None | Reference::Local => None,
        };
        let known = |bound: NtpDuration| (bound < NtpDuration::MAX).then(|| bound.as_seconds());
        let growth = state.error_bound_at(now.wall) - state.error_bound;
        let combined = self.combined.as_ref();
        SystemReport {
            sync: state.is_synchronised(),
            source: match self.reference {
                Reference::None => None,
                Reference::Local => Some(LOCAL.to_owned()),
                Reference::Peer(_) => peer.map(Peer::name),
            },
            leap: match state.leap {
                Leap::None => "none",
                Leap::Insert => "insert",
                Leap::Delete => "delete",
                Leap::Unknown => "unknown",
            }
            .to_owned(),
            stratum: state.stratum,
            refid: state.refid.display(state.stratum).to_string(),
            reference_unix_s: (state.reference.unix_ns() != 0)
                .then(|| state.reference.unix_seconds()),
            offset_s: self.offset_at(now.mono).map(NtpDuration::as_seconds),
            frequency_ppm: self.discipline.frequency().0,
            skew_ppm: combined.map(|combined| combined.holdover.frequency_sigma.0),
            jitter_s: combined.map(|combined| combined.jitter.as_seconds()),
            root_delay_s: state.root_delay.as_seconds(),
            root_dispersion_s: state.root_dispersion_at(now.wall).as_seconds(),
            error_bound_s: known(state.error_bound_at(now.wall)),
            error_likely_s: known(state.error_likely + growth),
            poll_s: peer.map(|peer| peer.association.poll_exponent().interval().as_seconds()),
            precision: state.precision.log2(),
            steps: self.steps,
            foreign_steps: self.foreign_steps,
            detail: SystemDetail {
                refid: u32::from_be_bytes(state.refid.bytes()),
                reference_unix_ns: state.reference.unix_ns(),
                last_offset_s: self.updates.last_s(),
                rms_offset_s: self.updates.rms_s(),
                update_interval_s: self.updates.interval_s(),
                residual_ppm: combined
                    .map_or(0.0, |c| (self.discipline.frequency() - c.frequency).0),
                pending_s: self.discipline.pending(now.mono).as_seconds(),
                manual: self.manual.enabled,
                manual_samples: self.manual.reports(&self.ledger, now.mono),
            },
        }
    }

    fn source_reports(&self, now: Now) -> Vec<SourceReport> {
        let mut reports: Vec<SourceReport> = self
            .peers
            .iter()
            .map(|peer| self.peer_report(peer, now))
            .collect();
        // Names without an address yet are shown too: an admin looks for them.
        for (index, name) in self.names.iter().enumerate() {
            if !name.is_retired() && !self.peers.iter().any(|peer| peer.source.0 == index) {
                reports.push(SourceReport {
                    id: u16::MAX - 1 - (index % NAMES_MAX) as u16,
                    ..SourceReport::silent(&name.spec, unicast(&name.spec))
                });
            }
        }
        if let Some(stratum) = self.config.local_stratum {
            reports.push(SourceReport {
                id: u16::MAX,
                ..SourceReport::local(stratum, self.reference == Reference::Local)
            });
        }
        reports
    }

    fn peer_report(&self, peer: &Peer, now: Now) -> SourceReport {
        let spec = &self.names[peer.source.0].spec;
        let association = &peer.association;
        let estimate: Option<Estimate> = peer.filter.estimate(now.mono, &self.ledger);
        let sample = association.last_sample();
        let origins = association.last_origins();
        let (sent, received) = association.counts();
        let kind = match (&peer.clock, spec.pool) {
            (Some(_), _) => CLOCK,
            (None, true) => 'p',
            (None, false) => unicast(spec),
        };
        let silent = SourceReport::silent(spec, kind);
        SourceReport {
            // Those of names without an address come from the other end.
            id: 1 + (peer.id.0 % (u64::from(u16::MAX) - NAMES_MAX as u64 - 1)) as u16,
            address: peer.clock.is_none().then(|| association.address()),
            local: association.local(),
            tally: peer.tally,
            refid: match (&peer.clock, sample) {
                (None, Some(sample)) => sample.refid.display(sample.stratum).to_string(),
                _ => silent.refid.clone(),
            },
            stratum: sample.map_or(STRATUM_MAX, |sample| sample.stratum),
            when_s: association
                .last_heard()
                .map(|heard| now.mono.since(heard).as_seconds()),
            poll_s: association.poll_exponent().interval().as_seconds(),
            reach: association.reach(),
            delay_s: sample.map(|sample| sample.delay.as_seconds()),
            offset_s: estimate.map(|estimate| estimate.offset.as_seconds()),
            jitter_s: estimate.map(|estimate| estimate.jitter.as_seconds()),
            root_distance_s: estimate.map(|estimate| estimate.root_distance().as_seconds()),
            stamp_tx: origins.map(|(tx, _)| tx.name().to_owned()),
            stamp_rx: origins.map(|(_, rx)| rx.name().to_owned()),
            interleaved: sample.is_some_and(|sample| sample.interleaved),
            sent,
            received,
            rejected: PacketTest::ALL
                .into_iter()
                .map(|test| (test.name().to_owned(), association.rejected()[test.index()]))
                .filter(|&(_, count)| count > 0)
                .collect(),
            reply: association.last_reply().map(ReplyReport::from),
            recent: association
                .recent_samples()
                .map(|sample| SampleReport {
                    offset_s: sample.offset.as_seconds(),
                    delay_s: sample.delay.as_seconds(),
                    dispersion_s: sample.dispersion.as_seconds(),
                    age_s: now.mono.since(sample.at).as_seconds(),
                })
                .collect(),
            detail: self.source_detail(peer, estimate.as_ref(), now),
            ..silent
        }
    }
}

/// What one server or peer is, in reports.
fn unicast(spec: &SourceSpec) -> char {
    match spec.options.heard {
        Some(_) => HEARD,
        None if spec.options.symmetric => PEER,
        None => 'u',
    }
}

/// What people ask for, beyond what follows from sources.
impl Node {
    fn source_detail(&self, peer: &Peer, estimate: Option<&Estimate>, now: Now) -> SourceDetail {
        let association = &peer.association;
        let options = association.options();
        let key = options.key.and_then(|id| self.policy.keys.get(id));
        let mut detail = SourceDetail {
            online: association.is_online(),
            bursting: association.is_bursting(),
            prefer: options.prefer,
            key: key.map(|key| KeyReport {
                id: key.id(),
                kind: key.kind().name().to_owned(),
                bits: key.bits(),
            }),
            noselect: options.noselect,
            stamped: association.stamped(),
            ..SourceDetail::default()
        };
        if let Some(sample) = association.last_sample() {
            let age = now.mono.since(sample.at);
            let corrected = self.ledger.integral_at(now.mono) - self.ledger.integral_at(sample.at);
            // What corrects the clock's own error is no correction of the offset.
            let own = age * self.discipline.frequency().ratio();
            detail.adjusted_s = (sample.offset - corrected + own).as_seconds();
        }
        if let Some(response) = association.response() {
            detail.response_s = response.as_seconds();
        }
        if let Some(estimate) = estimate {
            let began = peer.filter.began().unwrap_or(estimate.last);
            detail.samples = estimate.samples;
            detail.span_s = estimate.last.since(began).as_seconds();
            detail.residual_ppm = (self.discipline.frequency() - estimate.frequency).0;
            detail.skew_ppm = estimate.holdover.frequency_sigma.0;
            detail.offset_sigma_s = estimate.offset_sigma.as_seconds();
        }
        detail
    }
}

mod orders;
pub mod reload;

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;

//! A plain estimator to check the weather by: what a published prototype did, in as
//! few lines as it takes. If it does here what the prototype did in another
//! simulator, then this simulator's weather is the other's.
//!
//! It estimates `z = offset + A(t)` of one server, with a variance of each sample
//! from its round trip, by a bank of Kalman filters for a clock whose frequency
//! walks, and sets the whole correction at once. It shares the association and the
//! ledger with the node, and nothing else.

use std::collections::VecDeque;
use std::net::SocketAddr;

use crate::client::association::{Association, Dice, Received};
use crate::client::options::SourceOptions;
use crate::measurement::Measurement;
use crate::node::action::{Action, AssociationId, SourceId};
use crate::node::engine::NodeConfig;
use crate::sim::dice;
use crate::sim::engine::Engine;
use crate::sync::command::{Applied, ClockCommand};
use crate::sync::ledger::Ledger;
use crate::system::SystemState;
use crate::time::duration::NtpDuration;
use crate::time::instant::{MonoInstant, Now};
use crate::time::stamp::Stamp;
use crate::time::units::{Ppm, Precision};
use crate::wire::key::KeyTable;

/// Wander that the filters of the bank expect, per square root of a second.
const WANDERS: [f64; 9] = [
    1e-11, 3.2e-11, 1e-10, 3.2e-10, 1e-9, 3.2e-9, 1e-8, 3.2e-8, 1e-7,
];
/// Round trips of which the least and the median are taken.
const DELAYS_WINDOW: usize = 256;
/// Part of their difference that a sample is unsure of at the least.
const SCALE_SHARE: f64 = 0.15;
/// Error of a sample that not even its round trip tells of: stamps are whole
/// nanoseconds.
const READING_S: f64 = 1e-9;
/// The correction is slewed within this.
const SLEW: NtpDuration = NtpDuration::from_whole_seconds(1);
/// The most a kernel slews by.
const FREQUENCY_MAX: Ppm = Ppm(500.0);
/// Updates in which the clock may be stepped.
const STEP_UPDATES: u32 = 3;

const ID: AssociationId = AssociationId(0);

/// The estimator, and all it knows.
#[derive(Debug)]
pub struct Reference {
    association: Association,
    precision: Precision,
    dice: dice::Dice,
    ledger: Ledger,
    step: Option<NtpDuration>,
    /// Updates over which the bank remembers who foretold well.
    memory_updates: f64,
    delays: VecDeque<f64>,
    bank: [Filter; WANDERS.len()],
    updates: u32,
    /// Frequency that is right, when the slew is over.
    base: Ppm,
    slew_until: MonoInstant,
    actions: VecDeque<Action>,
}

/// A Kalman filter of z in seconds and its rate, at the moment `at`.
#[derive(Clone, Copy, Debug)]
struct Filter {
    wander: f64,
    at: MonoInstant,
    z_s: f64,
    rate: f64,
    z_var: f64,
    covariance: f64,
    rate_var: f64,
    /// Log likelihood of what came, the recent past counting most.
    score: f64,
    /// The same without the last sample: it is weighed by what it foretold before,
    /// so that one wild sample does not choose its own filter.
    log_weight: f64,
}

impl Reference {
    /// Asks the first source of `config`, which is at `server`. Its bank remembers
    /// who foretold well over `memory_updates`: with 20 it reacts to steps of
    /// frequency, with 200 it is calmer otherwise.
    pub fn new(config: NodeConfig, server: SocketAddr, memory_updates: f64, now: Now) -> Self {
        let options = config.sources.first().map(|source| source.options);
        let options = SourceOptions {
            iburst: true,
            // The prototype's samples were fresh, not those of the exchange before.
            xleave: false,
            ..options.unwrap_or_default()
        };
        let mut association = Association::new(server, options, config.mechanisms, now.mono);
        association.set_poll(options.maxpoll);
        let [a, b, c, d, ..] = config.seed;
        Self {
            association,
            precision: config.precision,
            dice: dice::Dice::new(
                u64::from(u32::from_be_bytes([a, b, c, d])),
                dice::Stream::Node,
            ),
            ledger: Ledger::new(now.mono, config.frequency_in_force, config.monotonic),
            step: config.step.threshold,
            memory_updates,
            delays: VecDeque::new(),
            bank: WANDERS.map(|wander| Filter::new(wander, now.mono)),
            updates: 0,
            base: Ppm::ZERO,
            slew_until: MonoInstant::MAX,
            actions: VecDeque::new(),
        }
    }

    /// Takes up a sample, and steers.
    pub fn take(&mut self, sample: &Measurement, now: Now) {
        if self.delays.len() == DELAYS_WINDOW {
            self.delays.pop_front();
        }
        let delay_s = sample.delay.as_seconds();
        self.delays.push_back(delay_s);
        let mut sorted: Vec<f64> = self.delays.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        let (least_s, median_s) = (sorted[0], sorted[sorted.len() / 2]);
        // Of a few round trips, nobody knows yet which are short.
        let unknown_s = least_s * 0.1 / f64::from(self.updates + 1).powi(2);
        let unsure_s = delay_s - least_s + SCALE_SHARE * (median_s - least_s) + unknown_s;
        let variance = unsure_s.powi(2) / 12.0 + READING_S.powi(2);

        let z_s = (sample.offset + self.ledger.integral_at(sample.at)).as_seconds();
        for filter in &mut self.bank {
            filter.update(z_s, variance, sample.at, self.memory_updates);
        }
        self.updates += 1;
        self.steer(now);
    }

    /// The bank's z and rate, at `at`.
    fn estimate(&self, at: MonoInstant) -> (f64, f64) {
        let best = self.bank.iter().map(|filter| filter.log_weight);
        let best = best.fold(f64::MIN, f64::max);
        let mut sums = [0.0; 3];
        for filter in &self.bank {
            let weight = (filter.log_weight - best).exp();
            let z_s = filter.z_s + filter.rate * at.since(filter.at).as_seconds();
            sums[0] += weight;
            sums[1] += weight * z_s;
            sums[2] += weight * filter.rate;
        }
        (sums[1] / sums[0], sums[2] / sums[0])
    }

    fn steer(&mut self, now: Now) {
        let (z_s, rate) = self.estimate(now.mono);
        // Two samples tell nothing of a frequency.
        if self.updates > 2 {
            self.base = self.ledger.frequency_for(rate).clamp_to(FREQUENCY_MAX);
        }
        let offset = NtpDuration::from_seconds(z_s) - self.ledger.integral_at(now.mono);
        let far = self.step.is_some_and(|threshold| offset.abs() > threshold);
        if far && self.updates <= STEP_UPDATES {
            self.command(ClockCommand::Step(offset));
            self.command(ClockCommand::SetFrequency(self.base));
            return;
        }
        let slew = Ppm::from_ratio(offset.as_seconds() / SLEW.as_seconds());
        let frequency = (self.base + slew).clamp_to(FREQUENCY_MAX);
        let needed_s = offset.as_seconds() / (frequency - self.base).ratio();
        self.slew_until = if needed_s.is_finite() && needed_s > 0.0 {
            now.mono + NtpDuration::from_seconds(needed_s)
        } else {
            now.mono
        };
        self.command(ClockCommand::SetFrequency(frequency));
    }

    fn command(&mut self, command: ClockCommand) {
        self.actions.push_back(Action::Steer(command));
    }
}

impl Filter {
    fn new(wander: f64, at: MonoInstant) -> Self {
        Self {
            wander,
            at,
            z_s: 0.0,
            rate: 0.0,
            z_var: 1e6,
            covariance: 0.0,
            rate_var: 1e-8,
            score: 0.0,
            log_weight: 0.0,
        }
    }

    fn update(&mut self, z_s: f64, variance: f64, at: MonoInstant, memory_updates: f64) {
        let dt = at.since(self.at).as_seconds();
        let walk = self.wander.powi(2);
        self.at = at;
        self.z_s += self.rate * dt;
        self.z_var += dt * (2.0 * self.covariance + dt * self.rate_var) + walk * dt.powi(3) / 3.0;
        self.covariance += dt * self.rate_var + walk * dt * dt / 2.0;
        self.rate_var += walk * dt;

        let innovation = z_s - self.z_s;
        let innovation_var = self.z_var + variance;
        let (z_gain, rate_gain) = (
            self.z_var / innovation_var,
            self.covariance / innovation_var,
        );
        self.z_s += z_gain * innovation;
        self.rate += rate_gain * innovation;
        self.rate_var -= rate_gain * self.covariance;
        self.covariance *= 1.0 - z_gain;
        self.z_var *= 1.0 - z_gain;
        let surprise = (innovation_var.ln() + innovation.powi(2) / innovation_var) / 2.0;
        self.log_weight = self.score;
        self.score = self.score * (1.0 - 1.0 / memory_updates) - surprise;
    }
}

impl Engine for Reference {
    fn take_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    fn deadline(&self) -> MonoInstant {
        self.association.deadline().min(self.slew_until)
    }

    fn on_timer(&mut self, now: Now) {
        if now.mono >= self.slew_until {
            self.slew_until = MonoInstant::MAX;
            self.command(ClockCommand::SetFrequency(self.base));
        }
        self.association.expire(now.mono);
        let dice = Dice {
            transmit: self.dice.bits(),
            receive: self.dice.bits(),
            spread: self.dice.bits() as u32,
        };
        if let Some(request) = self.association.poll(
            now,
            dice,
            &KeyTable::default(),
            &SystemState::unsynchronised(self.precision),
        ) {
            self.actions.push_back(Action::Send {
                association: ID,
                to: self.association.address(),
                from: request.from,
                bytes: request.bytes,
            });
        }
    }

    fn on_resolved(&mut self, _: SourceId, _: Vec<SocketAddr>, _: Now) {}

    fn on_departure(&mut self, _: AssociationId, stamp: Stamp) {
        self.association.on_departure(stamp);
    }

    fn on_datagram(&mut self, _: AssociationId, bytes: &[u8], arrival: Stamp, now: Now) {
        let received = self.association.on_datagram(
            bytes,
            arrival,
            now,
            self.precision,
            &[],
            &KeyTable::default(),
        );
        if let Received::Sample(sample) = received {
            self.take(&sample, now);
        }
    }

    fn on_applied(&mut self, applied: &Applied) {
        self.ledger.applied(applied);
        if applied.stepped != NtpDuration::ZERO {
            self.association.on_clock_moved(applied.now.mono, false);
        }
    }

    fn on_foreign_step(&mut self, _: NtpDuration, now: Now) {
        self.ledger.reset(now.mono);
        self.association.on_clock_moved(now.mono, true);
        self.bank = WANDERS.map(|wander| Filter::new(wander, now.mono));
        self.updates = 0;
    }

    fn offset_at(&self, now: MonoInstant) -> Option<NtpDuration> {
        let (z_s, _) = self.estimate(now);
        Some(NtpDuration::from_seconds(z_s) - self.ledger.integral_at(now))
    }

    fn poll_s(&self, _: Now) -> Option<f64> {
        Some(self.association.poll_exponent().interval().as_seconds())
    }
}

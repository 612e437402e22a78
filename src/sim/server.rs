//! A simulated server: the real `server/respond` over a clock whose error is known.

use std::net::SocketAddr;

use crate::server::respond::{Policy, Request, Responder, Sizes, set_transmit};
use crate::server::verdict::Verdict;
use crate::sim::dice::{Dice, Stream};
use crate::sim::scenario::ServerSpec;
use crate::system::SystemState;
use crate::time::duration::NtpDuration;
use crate::time::instant::{MonoInstant, WallInstant};
use crate::time::units::Ppm;
use crate::wire::packet::{HEADER_LEN, Leap, PACKET_LEN_MAX};
use crate::wire::refid::RefId;

/// It has one client.
const SIZES: Sizes = Sizes {
    limited: 4,
    interleaved: 4,
};
/// A reference clock tells it the time each second.
const REFERENCE_AGE: NtpDuration = NtpDuration::from_whole_seconds(1);

/// A server.
#[derive(Debug)]
pub struct Server {
    spec: ServerSpec,
    responder: Responder,
    policy: Policy,
    /// By how much its clock was moved since the start.
    moved_s: f64,
    has_time: bool,
    /// Leap seconds it took.
    utc_shift_ns: i64,
    departures: Dice,
}

/// True time, as servers need it.
#[derive(Clone, Copy, Debug)]
pub struct Truth {
    /// UTC.
    pub utc: WallInstant,
    /// Seconds since the start.
    pub at_s: f64,
    /// The same for timers.
    pub mono: MonoInstant,
    /// Leap seconds in `utc` since the start.
    pub utc_shift_ns: i64,
    /// What this UTC day ends with.
    pub leap: Leap,
}

/// A reply, and how long after the request's arrival it really leaves.
#[derive(Clone, Copy, Debug)]
pub struct Reply {
    /// The packet.
    pub bytes: [u8; HEADER_LEN],
    /// Seconds.
    pub departs_s: f64,
}

impl Server {
    /// The server of this number.
    pub fn new(spec: ServerSpec, number: usize, seed: u64) -> Self {
        Self {
            spec,
            responder: Responder::new(number as u64 + 1, SIZES),
            policy: Policy::default(),
            moved_s: 0.0,
            has_time: true,
            utc_shift_ns: 0,
            departures: Dice::new(seed, Stream::Departures(number)),
        }
    }

    /// What its clock shows.
    fn wall(&self, truth: &Truth) -> WallInstant {
        let error = &self.spec.error;
        let wave_s = error.sine.map_or(0.0, |sine| sine.at(truth.at_s));
        let drift_s = error.frequency.ratio() * truth.at_s;
        truth.utc + NtpDuration::from_seconds(error.offset_s + self.moved_s + drift_s + wave_s)
    }

    /// Its clock is moved.
    pub fn step(&mut self, by_s: f64) {
        self.moved_s += by_s;
        self.responder.clock_stepped();
    }

    /// It loses the time, or has it again.
    pub fn set_time(&mut self, has_time: bool) {
        self.has_time = has_time;
    }

    /// Is it silent?
    pub fn is_out(&self, at_s: f64) -> bool {
        let mut outages = self.spec.outages_s.iter();
        outages.any(|&(from_s, to_s)| (from_s..to_s).contains(&at_s))
    }

    /// A request arrives. It is infinitely fast: T3 is T2.
    pub fn answer(&mut self, bytes: &[u8], from: SocketAddr, truth: &Truth) -> Option<Reply> {
        if self.utc_shift_ns != truth.utc_shift_ns {
            self.utc_shift_ns = truth.utc_shift_ns;
            self.responder.clock_stepped();
        }
        let received = self.wall(truth);
        let request = Request {
            bytes,
            from,
            group: false,
            received,
        };
        let state = self.state(received, truth.leap);
        let mut out = [0; PACKET_LEN_MAX];
        let verdict = self
            .responder
            .respond(&self.policy, &state, &request, truth.mono, &mut out);
        let Verdict::Reply { kind, track, .. } = verdict else {
            return None;
        };
        if kind.wants_transmit() {
            set_transmit(&mut out[..HEADER_LEN], received);
        }
        let departs_s = self.spec.departs.draw(truth.at_s, &mut self.departures);
        let departs_s = departs_s.max(0.0);
        if let Some(token) = track {
            let departure = received + NtpDuration::from_seconds(departs_s);
            self.responder.departed(token, departure);
        }
        let mut bytes = [0; HEADER_LEN];
        bytes.copy_from_slice(&out[..HEADER_LEN]);
        Some(Reply { bytes, departs_s })
    }

    fn state(&self, now: WallInstant, leap: Leap) -> SystemState {
        if !self.has_time {
            return SystemState::unsynchronised(self.spec.precision);
        }
        SystemState {
            leap,
            stratum: self.spec.stratum,
            refid: RefId::from_bytes(if self.spec.stratum == 1 {
                *b"GPS\0"
            } else {
                [198, 51, 100, 1]
            }),
            reference: now - REFERENCE_AGE,
            root_delay: NtpDuration::from_seconds(self.spec.root_delay_s),
            root_dispersion: NtpDuration::from_seconds(self.spec.root_dispersion_s),
            dispersion_rate: Ppm::ZERO,
            precision: self.spec.precision,
            error_bound: NtpDuration::ZERO,
            error_likely: NtpDuration::ZERO,
            updated: now,
        }
    }
}

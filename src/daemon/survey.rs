//! Servers are asked a few times and never again: what `ptntp date` sets a clock by.
//!
//! The journey of a measurement from the request to the filter's estimate, by the same
//! associations, packet tests and stamps as the daemon's (RFC 5905 sections 8 to 10), on
//! one thread that ends when all have answered or their time is over. The clock is read
//! alone; who asked for the survey sets it.

use std::io;
use std::net::SocketAddr;

use crate::client::association::{Association, Dice, Received};
use crate::client::options::SourceOptions;
use crate::client::packet_test::PacketTest;
use crate::daemon::clock::{Clock, StepWatch};
use crate::linux::clock;
use crate::linux::udp::{ClientSocket, StampingHold};
use crate::linux::wait::{Interest, Ready, Waiter};
use crate::measurement::Measurement;
use crate::mechanisms::Mechanisms;
use crate::sync::filter::{Estimate, Filter, Start};
use crate::sync::ledger::Ledger;
use crate::system::SystemState;
use crate::time::duration::NtpDuration;
use crate::time::instant::MonoInstant;
use crate::time::stamp::Stamp;
use crate::time::units::Precision;
use crate::wire::key::KeyTable;
use crate::wire::packet::PACKET_LEN_MAX;

/// How to ask.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// NTP version, key and poll interval: requests to a server are that far apart.
    pub options: SourceOptions,
    /// Requests to each server.
    pub samples: u64,
    /// How long to wait for an answer; an association's own limit is 3 s.
    pub timeout: NtpDuration,
}

/// What came of asking one server.
#[derive(Clone, Debug)]
pub struct Found {
    /// Whom.
    pub address: SocketAddr,
    /// What its clock says of ours at the end of the survey; none if it gave no time.
    pub estimate: Option<Estimate>,
    /// Its samples, in the order they came.
    pub samples: Vec<Measurement>,
    /// Requests that left.
    pub sent: u64,
    /// Why it was asked no more, or gave no time, as far as that is known.
    pub trouble: Option<String>,
}

/// Asks all `servers` by `plan`, signing with `keys`, all at the same time. Stamps are on
/// `clock`.
///
/// # Errors
/// No random numbers; what poll(2) says; or somebody moved the clock meanwhile (or the
/// machine was suspended), so that samples of before and after speak of two clocks. A server
/// that can't be asked is no error.
pub fn survey(
    servers: &[SocketAddr],
    plan: &Plan,
    keys: &KeyTable,
    clock: &Clock,
) -> io::Result<Vec<Found>> {
    survey_of(servers, plan, keys, clock, StepWatch::new())
}

fn survey_of(
    servers: &[SocketAddr],
    plan: &Plan,
    keys: &KeyTable,
    clock: &Clock,
    mut watch: StepWatch,
) -> io::Result<Vec<Found>> {
    let _warm = StampingHold::new()?;
    let mut waiter = Waiter::poll();
    let start = clock.now();
    let ledger = Ledger::new(start.mono, clock.frequency(), clock.monotonic());
    let precision = clock::precision();
    // We offer nobody our time.
    let nobody = SystemState::unsynchronised(precision);
    let mut asked: Vec<Asked> = servers
        .iter()
        .map(|&address| Asked::new(address, plan, start.mono))
        .collect();
    loop {
        for one in &mut asked {
            one.turn(plan, keys, clock, &nobody)?;
        }
        let Some(until) = asked.iter().filter_map(Asked::deadline).min() else {
            break;
        };
        let interests: Vec<Interest> = (0..)
            .zip(&asked)
            .filter_map(|(token, one)| Some(Interest::socket(one.socket.as_ref()?.fd(), token)))
            .collect();
        let mut ready = Vec::new();
        waiter.wait(&interests, Some(until), &mut ready)?;
        for ready in &ready {
            let one = &mut asked[ready.token as usize];
            one.on_ready(ready, keys, clock, precision, &ledger);
        }
    }
    if let Some(moved) = watch.moved() {
        let by_s = moved.as_seconds();
        let sentence = format!("the clock was moved by {by_s:+.3} s meanwhile: run it again");
        return Err(io::Error::other(sentence));
    }
    let now = clock.now();
    let found = asked.into_iter().map(|one| Found {
        address: one.association.address(),
        estimate: one.filter.estimate(now.mono, &ledger),
        samples: one.samples,
        sent: one.association.counts().0,
        trouble: one.trouble,
    });
    Ok(found.collect())
}

/// One server.
struct Asked {
    association: Association,
    filter: Filter,
    samples: Vec<Measurement>,
    /// Of the last request.
    socket: Option<ClientSocket>,
    /// An answer to it may come until then.
    awaited: Option<MonoInstant>,
    /// It is asked no more.
    over: bool,
    trouble: Option<String>,
}

impl Asked {
    fn new(address: SocketAddr, plan: &Plan, start: MonoInstant) -> Self {
        let mechanisms = Mechanisms::default();
        Self {
            association: Association::new(address, plan.options, mechanisms, start),
            filter: Filter::new(Start::default(), mechanisms),
            samples: Vec::new(),
            socket: None,
            awaited: None,
            over: false,
            trouble: None,
        }
    }

    /// When to [`turn`](Self::turn) again; none if all is done.
    fn deadline(&self) -> Option<MonoInstant> {
        self.awaited
            .or((!self.over).then(|| self.association.deadline()))
    }

    /// Asks if it is time to, and gives up waiting if it is time for that.
    fn turn(
        &mut self,
        plan: &Plan,
        keys: &KeyTable,
        clock: &Clock,
        ours: &SystemState,
    ) -> io::Result<()> {
        let now = clock.now();
        if self.awaited.is_some_and(|until| until <= now.mono) {
            self.awaited = None;
            self.fail("no answer".to_owned());
        }
        self.over |= self.association.counts().0 >= plan.samples;
        if self.over || self.awaited.is_some() {
            return Ok(());
        }
        self.association.expire(now.mono);
        let Some(request) = self.association.poll(now, dice()?, keys, ours) else {
            return Ok(());
        };
        let address = self.association.address();
        let sent = ClientSocket::connect(address, false).and_then(|mut socket| {
            socket.send(&request.bytes)?;
            Ok(socket)
        });
        match sent {
            Ok(socket) => {
                self.socket = Some(socket);
                self.awaited = Some(request.deadline.min(now.mono + plan.timeout));
            }
            Err(error) => self.lose(format!("cannot send: {error}")),
        }
        Ok(())
    }

    /// The departure first, so that T1 is the kernel's when the answer is judged.
    fn on_ready(
        &mut self,
        ready: &Ready,
        keys: &KeyTable,
        clock: &Clock,
        precision: Precision,
        ledger: &Ledger,
    ) {
        let Some(socket) = &mut self.socket else {
            return;
        };
        if ready.error {
            match socket.receive_departure() {
                Ok(departure) => {
                    if let Some(stamp) = departure.and_then(|departure| departure.kernel) {
                        self.association.on_departure(clock.localise(stamp));
                    }
                }
                Err(error) => return self.lose(error.to_string()),
            }
        }
        if ready.read {
            let mut buffer = [0; PACKET_LEN_MAX];
            match socket.receive(&mut buffer) {
                Ok(Some(answer)) => {
                    let own = socket.local_addr().ok().map(|local| local.ip());
                    let arrival: Stamp = clock.localise(answer.stamp);
                    let received = self.association.on_datagram(
                        &buffer[..answer.len],
                        arrival,
                        clock.now(),
                        precision,
                        own.as_slice(),
                        keys,
                    );
                    self.take(received, ledger);
                }
                Ok(None) => {}
                Err(error) => self.lose(error.to_string()),
            }
        }
    }

    fn take(&mut self, received: Received, ledger: &Ledger) {
        match received {
            Received::Sample(sample) => {
                self.filter.update(&sample, ledger);
                self.samples.push(sample);
                self.awaited = None;
            }
            Received::Nothing => self.awaited = None,
            Received::Kiss(kiss) => {
                self.awaited = None;
                self.over = true;
                self.fail(format!("it sent a kiss of death: {kiss:?}"));
            }
            // A stranger's datagram; the answer may still come.
            Received::Rejected(PacketTest::Origin | PacketTest::Duplicate | PacketTest::Short) => {}
            Received::Rejected(test) => {
                self.awaited = None;
                self.fail(format!("its answer fails the test {}", test.name()));
            }
        }
    }

    /// The request, or the network on its way, came to nothing.
    fn lose(&mut self, why: String) {
        self.association.on_send_failed();
        self.socket = None;
        self.awaited = None;
        self.fail(why);
    }

    fn fail(&mut self, why: String) {
        self.trouble = Some(why);
    }
}

fn dice() -> io::Result<Dice> {
    let mut bytes = [0; 20];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    let number = |at: usize| u64::from_ne_bytes(std::array::from_fn(|n| bytes[at + n]));
    Ok(Dice {
        transmit: number(0),
        receive: number(8),
        spread: number(12) as u32,
    })
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::thread;

    use super::*;
    use crate::time::timestamp::{NtpShort, NtpTimestamp};
    use crate::time::units::{PollExponent, Ppm};
    use crate::wire::packet::{Header, Leap, Mode, Packet};
    use crate::wire::refid::RefId;

    fn plan(samples: u64) -> Plan {
        Plan {
            options: SourceOptions {
                minpoll: PollExponent::new(-4),
                maxpoll: PollExponent::new(-4),
                ..SourceOptions::default()
            },
            samples,
            timeout: NtpDuration::from_seconds(0.5),
        }
    }

    /// Answers `times` requests by this machine's clock, at that stratum.
    fn serve(times: usize, stratum: u8, refid: RefId) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        thread::spawn(move || {
            for _ in 0..times {
                let mut bytes = [0; 100];
                let (len, from) = socket.recv_from(&mut bytes).unwrap();
                let request = Packet::new(&bytes[..len]).unwrap().to_header();
                let now = NtpTimestamp::from_wall(clock::realtime());
                let reply = Header {
                    leap: Leap::None,
                    mode: Mode::Server,
                    stratum,
                    precision: Precision::new(-24),
                    root_delay: NtpShort::default(),
                    root_dispersion: NtpShort::default(),
                    refid,
                    reference: now,
                    origin: request.transmit,
                    receive: now,
                    transmit: now,
                    ..request
                };
                socket.send_to(&reply.to_bytes(), from).unwrap();
            }
        });
        address
    }

    #[test]
    fn the_offset_is_found_and_by_kernel_stamps() {
        let server = serve(4, 1, RefId::INIT);
        let clock = Clock::virtual_from(NtpDuration::from_seconds(0.7), Ppm::ZERO);
        let found = survey(&[server], &plan(4), &KeyTable::default(), &clock).unwrap();
        let [one] = &found[..] else {
            panic!("{found:?}");
        };
        assert_eq!((one.samples.len(), one.sent), (4, 4));
        let offset_s = one.estimate.unwrap().offset.as_seconds();
        assert!((offset_s + 0.7).abs() < 0.01, "{offset_s}");
    }

    #[test]
    fn a_clock_that_is_moved_meanwhile_is_not_set_by_what_was_seen() {
        let server = serve(1, 1, RefId::INIT);
        let mut watch = StepWatch::new();
        // Steps are not for tests; one that did not come looks the same.
        watch.expect(NtpDuration::from_whole_seconds(5));
        let keys = KeyTable::default();
        let found = survey_of(&[server], &plan(1), &keys, &Clock::Observed, watch);
        let sentence = found.unwrap_err().to_string();
        assert!(sentence.contains("moved by -5.00"), "{sentence}");
    }

    #[test]
    fn who_does_not_answer_or_refuses_is_not_asked_for_ever() {
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let closed = UdpSocket::bind("127.0.0.1:0").unwrap();
        let nobody = closed.local_addr().unwrap();
        drop(closed);
        let denies = serve(1, 0, RefId::from_bytes(*b"DENY"));
        let servers = [silent.local_addr().unwrap(), nobody, denies];
        let clock = Clock::Observed;
        let found = survey(&servers, &plan(2), &KeyTable::default(), &clock).unwrap();
        let trouble: Vec<&str> = found
            .iter()
            .map(|one| one.trouble.as_deref().unwrap())
            .collect();
        assert!(found.iter().all(|one| one.estimate.is_none()));
        assert_eq!(trouble[0], "no answer");
        assert!(trouble[1].contains("refused"), "{trouble:?}");
        assert!(trouble[2].contains("kiss of death: Deny"), "{trouble:?}");
        assert_eq!([found[0].sent, found[2].sent], [2, 1]);
    }
}

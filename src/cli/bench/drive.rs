//! One generating thread: carries requests and answers between an engine
//! (`load/engine`) and the network (`linux/`), and waits for the time.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::linux::clock;
use crate::linux::frames::Frames;
use crate::linux::ports::{Event, Ports};
use crate::load::engine::{Engine, REQUEST_LEN_MAX, Request};
use crate::load::frame::Template;
use crate::load::prefix::Prefix;
use crate::load::schedule::Pace;
use crate::load::tally::Tally;

/// The wait ends so long before a request is due, as waking up takes time: at least,
/// at first, and at most. The rest is waited for by looking at the clock.
const WAKE_EARLY_MIN_NS: i64 = 5_000;
const WAKE_EARLY_NS: i64 = 40_000;
const WAKE_EARLY_MAX_NS: i64 = 100_000;
/// What a nap moves it by: down if waking up took less, up so many times that if it took
/// more, so that one of ten naps ends too late for its request.
const WAKE_EARLY_STEP_NS: i64 = 50;
const WAKE_EARLY_UP: i64 = 9;
/// A real-time thread naps all the same before each burst, whether or not it wakes up in
/// time: of the time between bursts it waits at most so many parts of a hundred awake. The
/// kernel stops such threads for 50 ms once they ran for 950 on end.
const REALTIME_AWAKE_MAX: i64 = 80;
/// With so many answers outstanding, or with a request due as soon as that, it is no use
/// to wake up for the next answer: it has the time of its arrival with it.
const OUTSTANDING: u64 = 64;
const SOON_NS: i64 = 1_000_000;
/// How long to sleep then, if it is not for a request.
const NAP_NS: i64 = 50_000;
/// No wait is longer, so that an order to stop is heard.
const WAIT_MAX_NS: i64 = 10_000_000;
/// How often the slow things are done: expiry, progress, comparing clocks.
const CHORES_EVERY_NS: i64 = 2_000_000;

/// What the threads and whoever watches them share.
#[derive(Debug, Default)]
pub struct Watch {
    /// Stop, and give what there is.
    pub stop: AtomicBool,
    /// Requests sent, of all threads in this measurement.
    pub sent: AtomicU64,
    /// Of those, answered.
    pub answered: AtomicU64,
    /// And lost.
    pub lost: AtomicU64,
}

/// How requests reach the network.
#[derive(Debug)]
pub enum Line {
    /// Through UDP sockets; a client is a port.
    Ports(Ports),
    /// As raw frames; a client is an address.
    Frames(Box<Raw>),
}

/// Frames and what is in them.
#[derive(Debug)]
pub struct Raw {
    /// Where they go out and come in.
    pub frames: Frames,
    /// What they have in common.
    pub template: Template,
    /// The clients' addresses.
    pub sources: Prefix,
    /// The first of our ports.
    pub port_first: u16,
    /// How many those are; requests take them in turn.
    pub ports: u16,
}

impl Line {
    fn has_room(&mut self) -> bool {
        match self {
            Self::Ports(ports) => ports.has_room(),
            Self::Frames(raw) => raw.frames.has_room(),
        }
    }

    fn stage(&mut self, request: &Request, payload: &[u8]) {
        let tag = request.stamped.then_some(request.sequence);
        match self {
            Self::Ports(ports) => ports.stage(request.client as usize, payload, tag),
            Self::Frames(raw) => {
                let source = raw.sources.host(request.client);
                let port = raw.port_first + (request.sequence % u64::from(raw.ports)) as u16;
                let template = &raw.template;
                raw.frames
                    .stage(tag, |out| template.write(source, port, payload, out));
            }
        }
    }

    fn flush(&mut self) -> io::Result<usize> {
        match self {
            Self::Ports(ports) => ports.flush(),
            Self::Frames(raw) => raw.frames.flush(),
        }
    }

    fn receive(&mut self, wait: Wait, mut each: impl FnMut(Event<'_>)) -> io::Result<bool> {
        let Wait { ns, asleep } = wait;
        match self {
            Self::Ports(ports) => ports.receive(ns, each),
            Self::Frames(raw) => {
                let template = &raw.template;
                raw.frames.receive(ns, asleep, |event| match event {
                    Event::Departed { .. } => each(event),
                    Event::Arrived { payload, at_ns } => {
                        // The filter let only UDP through; what is cut is none.
                        let payload = template.payload(payload).unwrap_or(&[]);
                        each(Event::Arrived { payload, at_ns });
                    }
                })
            }
        }
    }

    /// Answers that found no room on our side since the last call.
    fn overrun(&mut self) -> u64 {
        match self {
            Self::Ports(ports) => ports.overrun(),
            Self::Frames(raw) => raw.frames.overrun(),
        }
    }
}

/// How long there is nothing to be done, unless an answer comes.
#[derive(Clone, Copy)]
struct Wait {
    ns: i64,
    /// And no matter whether one comes.
    asleep: bool,
}

/// An engine and its line, which stay together from measurement to measurement.
#[derive(Debug)]
pub struct Generator {
    /// Decides.
    pub engine: Engine,
    /// Acts.
    pub line: Line,
    /// Its thread comes before ordinary ones.
    pub realtime: bool,
    /// How long it takes to wake up, nearly always.
    pub wake_early: WakeEarly,
}

/// How long it takes to wake up: learned from naps, see [`WAKE_EARLY_NS`].
#[derive(Clone, Copy, Debug)]
pub struct WakeEarly(i64);

impl Default for WakeEarly {
    fn default() -> Self {
        Self(WAKE_EARLY_NS)
    }
}

impl WakeEarly {
    /// A nap lasted so much longer than it should.
    fn learn(&mut self, longer_ns: i64) {
        let step_ns = match longer_ns > self.0 {
            true => WAKE_EARLY_UP * WAKE_EARLY_STEP_NS,
            false => -WAKE_EARLY_STEP_NS,
        };
        self.0 = (self.0 + step_ns).clamp(WAKE_EARLY_MIN_NS, WAKE_EARLY_MAX_NS);
    }
}

impl Generator {
    /// One measurement, which ends at most the engine's patience after its length.
    /// What the network says, other than that it has no room, ends it at once, for all
    /// who watch; what there is until then counts.
    pub fn measure(
        &mut self,
        pace: Pace,
        start_ns: i64,
        length_ns: i64,
        watch: &Watch,
    ) -> (Tally, io::Result<()>) {
        self.engine.begin(pace, start_ns, length_ns);
        // What came before does not count.
        self.line.overrun();
        let result = self.run(watch);
        if result.is_err() {
            watch.stop.store(true, Ordering::Relaxed);
        }
        self.engine.tally_mut().overrun = self.line.overrun();
        let now_ns = clock::monotonic().nanos();
        (self.engine.finish(now_ns), result)
    }

    fn run(&mut self, watch: &Watch) -> io::Result<()> {
        let mut told = (0, 0, 0);
        let mut ahead_ns = realtime_ahead_ns();
        let mut chores_ns = 0;
        let mut now_ns = clock::monotonic().nanos();
        loop {
            if now_ns >= chores_ns {
                chores_ns = now_ns + CHORES_EVERY_NS;
                ahead_ns = realtime_ahead_ns();
                self.engine.expire(now_ns);
                tell(watch, &mut told, self.engine.progress());
                if watch.stop.load(Ordering::Relaxed) || self.engine.is_done(now_ns) {
                    return Ok(());
                }
            }
            let sent = self.send(now_ns)?;
            let wait = match sent {
                0 => self.wait(now_ns),
                _ => Wait {
                    ns: 0,
                    asleep: false,
                },
            };
            let engine = &mut self.engine;
            let any = self.line.receive(wait, |event| match event {
                Event::Departed { tag, at_ns } => engine.departed(tag, at_ns),
                Event::Arrived { payload, at_ns } => engine.receive(payload, at_ns, ahead_ns),
            })?;
            let before_ns = now_ns;
            now_ns = clock::monotonic().nanos();
            if wait.asleep && wait.ns > 0 {
                self.wake_early.learn(now_ns - before_ns - wait.ns);
            }
            if !self.engine.is_over(now_ns) {
                let tally = self.engine.tally_mut();
                let spent_ns = now_ns - before_ns;
                tally.spent_ns += spent_ns;
                // A wait that something ended counts as work: at most a moment of it was.
                if sent > 0 || any && wait.ns == 0 {
                    tally.busy_ns += spent_ns;
                }
            }
        }
    }

    /// One batch of what is due; how many that were.
    fn send(&mut self, now_ns: i64) -> io::Result<u64> {
        let mut payload = [0; REQUEST_LEN_MAX];
        let (mut first, mut count) = (0, 0);
        while self.line.has_room()
            && let Some(request) = self.engine.request(now_ns, &mut payload)
        {
            if count == 0 {
                first = request.sequence;
            }
            count += 1;
            self.line.stage(&request, &payload[..request.len]);
        }
        if count > 0 {
            let from_ns = clock::monotonic().nanos();
            let flushed = self.line.flush();
            let left = *flushed.as_ref().unwrap_or(&0) as u64;
            let to_ns = clock::monotonic().nanos();
            for sequence in first + left..first + count {
                self.engine.refused(sequence, to_ns);
            }
            flushed?;
            self.engine.sent(count, from_ns, to_ns);
        }
        Ok(count)
    }

    /// No wait at all shortly before the next request.
    fn wait(&self, now_ns: i64) -> Wait {
        if self.engine.is_over(now_ns) {
            return Wait {
                ns: CHORES_EVERY_NS,
                asleep: true,
            };
        }
        let mut early_ns = self.wake_early.0;
        if self.realtime {
            early_ns = early_ns.min(self.engine.gap_ns() / 100 * REALTIME_AWAKE_MAX);
        }
        let left_ns = self.engine.next_ns() - now_ns - early_ns;
        if left_ns > SOON_NS && self.engine.waiting() >= OUTSTANDING {
            return Wait {
                ns: NAP_NS,
                asleep: true,
            };
        }
        Wait {
            ns: left_ns.clamp(0, WAIT_MAX_NS),
            asleep: left_ns <= SOON_NS,
        }
    }
}

/// Adds what is new to the common count.
fn tell(watch: &Watch, told: &mut (u64, u64, u64), now: (u64, u64, u64)) {
    let add = |to: &AtomicU64, told: u64, now: u64| {
        to.fetch_add(now.wrapping_sub(told), Ordering::Relaxed);
    };
    add(&watch.sent, told.0, now.0);
    add(&watch.answered, told.1, now.1);
    add(&watch.lost, told.2, now.2);
    *told = now;
}

/// CLOCK_REALTIME less CLOCK_MONOTONIC, to some ten nanoseconds.
pub fn realtime_ahead_ns() -> i64 {
    let before_ns = clock::monotonic().nanos();
    let real_ns = clock::realtime().unix_ns();
    let after_ns = clock::monotonic().nanos();
    real_ns - before_ns - (after_ns - before_ns) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nine_of_ten_naps_end_in_time() {
        let mut early = WakeEarly::default();
        for nap in 0..20_000 {
            // Between 20 and 30 us longer than they should, in no order.
            early.learn(20_000 + nap * 7_919 % 10_000);
        }
        assert!((28_000..=30_000).contains(&early.0), "{}", early.0);
        for _ in 0..20_000 {
            early.learn(2_000);
        }
        assert_eq!(early.0, WAKE_EARLY_MIN_NS);
        for _ in 0..20_000 {
            early.learn(1_000_000);
        }
        assert_eq!(early.0, WAKE_EARLY_MAX_NS);
    }
}

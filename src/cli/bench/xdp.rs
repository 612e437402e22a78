//! Load by XDP: two programs in the kernel send requests and take answers (`load/xdp`);
//! here they are loaded, told what to do, watched and asked what came of it.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::ScopedJoinHandle;
use std::time::Duration;

use crate::cli::bench::drive::{Watch, realtime_ahead_ns};
use crate::linux::clock;
use crate::linux::netlink::interfaces;
use crate::linux::priority;
use crate::linux::signal;
use crate::linux::xdp::live::Sender;
use crate::linux::xdp::map::Array;
use crate::linux::xdp::{self, Link, Mode, Program};
use crate::load::tally::Tally;
use crate::load::xdp::{
    Counted, GENERATE, GIVE_UP, LINE_LEN, NOT_YET, Plan, RECEIVE, SAMPLE_LEN, SAMPLES, SEEN_HEAD,
    SEEN_LEN, SETUP_LEN, SLOT_LEN, START, STOP, Setup,
};

/// From when the programs run, which takes some hundredths of a second (the kernel waits
/// for all cores first), to the first request.
const LEAD_NS: i64 = 20_000_000;
/// How often to look how far it is. A generator that is done goes on looking at the
/// clock so long.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Of so much time real-time senders are ordinary threads in the second part, as the kernel
/// stops those for 50 ms that are real-time ones for 95 % of a second. Whoever waits for
/// their core has it then, so the less at once, the better.
const TURN: Duration = Duration::from_millis(1);
const REST: Duration = Duration::from_micros(150);
/// And in how many of those looks to see whether the interface is still there: what a program
/// sends to nowhere is nobody's error.
const LOOKS_AT_INTERFACE: u32 = 10;
/// errno: what befalls an interface.
const ENODEV: i32 = 19;
const ENETDOWN: i32 = 100;
/// EBUSY and EOPNOTSUPP.
const EBUSY: i32 = 16;
const EOPNOTSUPP: i32 = 95;

/// Both programs in the kernel, and what they share with us.
#[derive(Debug)]
pub struct Live {
    setup: Setup,
    /// By this interface; none if nothing is to be sent.
    interface: Option<u32>,
    cores: Vec<usize>,
    /// Its threads come before ordinary ones; who measures has to come before them.
    pub realtime: bool,
    generate: Program,
    /// The receiving program's place.
    _link: Option<Link>,
    setups: Array,
    lines: Array,
    slots: Array,
    samples: Array,
    seens: Array,
    slots_each: usize,
    /// Position of the next measurement's first request.
    first: u64,
}

impl Live {
    /// Loads both, for at most `rate` requests a second, and attaches the one that
    /// receives to the interface (its index and name).
    ///
    /// # Errors
    /// In words: not enough cores, no rights, a driver that can't, a place that is taken.
    pub fn open(
        setup: Setup,
        interface: Option<(u32, &str)>,
        rate: f64,
        realtime: bool,
    ) -> io::Result<Self> {
        let mut cores = priority::cores()?;
        let wanted = setup.lines as usize;
        if cores.len() < wanted {
            return Err(io::Error::other(format!(
                "--threads {wanted} with --xdp needs as many cores, and there are {} for us",
                cores.len()
            )));
        }
        cores.truncate(wanted);
        let count = cores
            .last()
            .map_or(0, |last| last + 1)
            .max(priority::cores_possible()?) as u32;
        let slots_each = setup.slots(rate);
        let array =
            |name, words: usize, entries| Array::new(name, words * size_of::<u64>(), entries);
        let setups = array("setups", SETUP_LEN, 1)?;
        let lines = array("lines", LINE_LEN, count)?;
        let slots = array("slots", SLOT_LEN, slots_each as u32 * setup.lines)?;
        let samples = array("samples", SAMPLE_LEN, SAMPLES as u32)?;
        let seens = array("seens", SEEN_LEN, count)?;
        let all = [&setups, &lines, &slots, &samples, &seens].map(Array::map);
        let generate = Program::load("bench_generate", GENERATE, &all)?;
        let link = match interface {
            None => None,
            Some((index, name)) => {
                let receive = Program::load("bench_receive", RECEIVE, &all)?;
                let link = receive.attach(index, Mode::Native);
                Some(link.map_err(|error| no_place(index, name, error))?)
            }
        };
        Ok(Self {
            setup,
            interface: interface.map(|(index, _)| index),
            cores,
            realtime,
            generate,
            _link: link,
            setups,
            lines,
            slots,
            samples,
            seens,
            slots_each,
            first: 1,
        })
    }

    /// One measurement, as [`Generator::measure`](crate::cli::bench::drive::Generator::measure).
    /// It begins a moment after the call.
    pub fn measure(&mut self, rate: f64, length_ns: i64, watch: &Watch) -> (Tally, io::Result<()>) {
        let mut plan = Plan {
            rate,
            start_ns: NOT_YET,
            length_ns,
        };
        self.prepare(&plan);
        let mut result = self.send(&mut plan, watch);
        if result.is_err() {
            watch.stop.store(true, Ordering::Relaxed);
        } else if !self.setup.is_dry {
            result = self.wait(&plan, watch);
        }
        let now_ns = clock::monotonic().nanos();
        let counted = self.counted(SEEN_LEN);
        let tally = counted.tally(
            &self.setup,
            &plan,
            self.first,
            now_ns,
            [&load(self.slots.atomics()), &load(self.samples.atomics())],
            realtime_ahead_ns(),
        );
        let next = counted.lines.iter().map(|line| line[1]).max();
        self.first = next.unwrap_or(self.first).max(self.first);
        (tally, result)
    }

    /// Tells the programs what to do.
    fn prepare(&self, plan: &Plan) {
        self.seens.clear();
        self.samples.clear();
        for (line, core) in (0..).zip(&self.cores) {
            let words = self.setup.line_words(plan, line, self.first);
            store(&self.lines, core * LINE_LEN, &words);
        }
        store(&self.setups, 0, &self.setup.words(plan, self.slots_each));
    }

    /// Until all is sent, or it is too late for the rest.
    fn send(&self, plan: &mut Plan, watch: &Watch) -> io::Result<()> {
        let senders: Vec<Sender> = self
            .cores
            .iter()
            .map(|_| Sender::new(&self.generate, self.interface, self.setup.frame_len()))
            .collect::<io::Result<_>>()?;
        std::thread::scope(|scope| {
            let handles: Vec<_> = senders
                .iter()
                .zip(&self.cores)
                .map(|(sender, core)| {
                    scope.spawn(move || {
                        let _ = signal::block_in_this_thread();
                        priority::stay_on(*core)?;
                        sender.run()
                    })
                })
                .collect();
            let mut way = Ok(());
            for look in 1_u32.. {
                self.let_run(&senders);
                let counted = self.counted(SEEN_HEAD);
                self.tell(&counted, watch);
                if plan.start_ns == NOT_YET && counted.is_running() {
                    plan.start_ns = clock::monotonic().nanos() + LEAD_NS;
                    let setup = self.setups.atomics();
                    setup[GIVE_UP].store(plan.give_up_ns() as u64, Ordering::Relaxed);
                    // What begins must know when it ends.
                    setup[START].store(plan.start_ns as u64, Ordering::Release);
                }
                let is_late = clock::monotonic().nanos() >= plan.give_up_ns();
                let is_stopped = watch.stop.load(Ordering::Relaxed);
                let has_failed = handles.iter().any(ScopedJoinHandle::is_finished);
                if look % LOOKS_AT_INTERFACE == 0 {
                    way = self.way();
                }
                if counted.is_all_sent() || is_late || is_stopped || has_failed || way.is_err() {
                    break;
                }
            }
            self.setups.atomics()[STOP].store(1, Ordering::Relaxed);
            while !handles.iter().all(ScopedJoinHandle::is_finished) {
                senders.iter().for_each(Sender::interrupt);
                std::thread::sleep(LOOK_EVERY / 10);
            }
            let sent = handles.into_iter().try_for_each(|handle| {
                let result = handle.join();
                result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            });
            sent.and(way)
        })
    }

    /// Is there still an interface to send by? While programs send, the kernel keeps what is
    /// left of one that is gone, and whoever removed it waits.
    fn way(&self) -> io::Result<()> {
        let Some(index) = self.interface else {
            return Ok(());
        };
        let found = interfaces()?.into_iter().find(|one| one.index == index);
        match found {
            None => Err(io::Error::from_raw_os_error(ENODEV)),
            Some(one) if !one.up => Err(io::Error::from_raw_os_error(ENETDOWN)),
            Some(_) => Ok(()),
        }
    }

    /// Looks away for a moment.
    fn let_run(&self, senders: &[Sender]) {
        if !self.realtime {
            return std::thread::sleep(LOOK_EVERY);
        }
        for _ in 0..LOOK_EVERY.as_millis() / TURN.as_millis() {
            for (is_realtime, length) in [(true, TURN - REST), (false, REST)] {
                for sender in senders {
                    // One that has just ended is found out by who looks next.
                    let _ = sender.set_realtime(is_realtime);
                }
                std::thread::sleep(length);
            }
        }
    }

    /// For the answers that may still come.
    fn wait(&self, plan: &Plan, watch: &Watch) -> io::Result<()> {
        let last_ns = plan.give_up_ns() + self.setup.patience_ns;
        loop {
            let counted = self.counted(SEEN_HEAD);
            self.tell(&counted, watch);
            let all = counted.answered() >= counted.sent(self.first);
            let is_late = clock::monotonic().nanos() >= last_ns;
            if all || is_late || watch.stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn tell(&self, counted: &Counted, watch: &Watch) {
        watch
            .sent
            .store(counted.sent(self.first), Ordering::Relaxed);
        watch.answered.store(counted.answered(), Ordering::Relaxed);
    }

    /// The counts as they are, so many words of what each core has seen.
    fn counted(&self, words: usize) -> Counted {
        let lines = self.lines.atomics().as_chunks::<LINE_LEN>().0;
        let line = |core: &usize| {
            lines[*core]
                .each_ref()
                .map(|word| word.load(Ordering::Relaxed))
        };
        Counted {
            lines: self.cores.iter().map(line).collect(),
            seen: self
                .seens
                .atomics()
                .chunks(SEEN_LEN)
                .map(|seen| load(&seen[..words]))
                .collect(),
        }
    }
}

fn load(words: &[AtomicU64]) -> Vec<u64> {
    words
        .iter()
        .map(|word| word.load(Ordering::Relaxed))
        .collect()
}

fn store(array: &Array, at: usize, words: &[u64]) {
    for (place, word) in array.atomics()[at..].iter().zip(words) {
        place.store(*word, Ordering::Relaxed);
    }
}

/// Why the receiving program can't be on an interface, and what to do.
fn no_place(index: u32, name: &str, error: io::Error) -> io::Error {
    io::Error::other(match error.raw_os_error() {
        Some(EBUSY) => {
            let whose = match xdp::attached(index) {
                Ok(Some(attached)) => attached.to_string(),
                _ => "another program".to_owned(),
            };
            format!("{name} has {whose} already: take that off, or another interface")
        }
        Some(EOPNOTSUPP) => format!(
            "the driver of {name} does not do XDP in native mode: use --sources without --xdp"
        ),
        _ => format!("no XDP program can be put on {name}: {error}"),
    })
}

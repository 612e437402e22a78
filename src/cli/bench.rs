//! `ptntp bench`: load for an NTP server, and what becomes of it. What is asked and
//! how answers are judged is in `load/`; here the threads are started, watched and
//! added up.

use std::io::{self, IsTerminal, Write};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::num::NonZeroU32;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::cli::args::BenchArgs;
use crate::cli::ask;
use crate::cli::bench::drive::{Generator, Line, Watch};
use crate::linux::clock;
use crate::linux::ports::Ports;
use crate::linux::signal::{self, Signals};
use crate::load::engine::{Engine, Setup};
use crate::load::mix::{Ask, Kind, Mix};
use crate::load::prefix::is_public;
use crate::load::report::{self, Report, Step};
use crate::load::schedule::Pace;
use crate::load::tally::Tally;

pub mod drive;

/// Not measured.
const EXIT_FAILURE: u8 = 1;
/// Wrong usage.
const EXIT_USAGE: u8 = 2;
/// Ended by SIGINT, as shells say it.
const EXIT_INTERRUPTED: u8 = 130;
/// Where NTP servers listen.
const NTP_PORT: u16 = 123;
/// Requests a second where nobody says how many.
const RATE_DEFAULT: f64 = 1000.0;
/// Seconds, where nobody says how many.
const DURATION_DEFAULT_S: f64 = 5.0;
/// Source ports, where nobody says how many: enough for every receive queue.
const PORTS_DEFAULT: u32 = 64;
/// From the decision to the first request, so that all threads are up by then.
const LEAD_NS: i64 = 5_000_000;
/// How often progress is shown and Ctrl-C looked for.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Departures stamped in a second, about: enough to judge by, and little work.
const STAMPED_PER_S: f64 = 5_000.0;

/// Why there is no result.
struct Failure {
    code: u8,
    sentence: String,
}

impl Failure {
    fn usage(sentence: impl Into<String>) -> Self {
        Self {
            code: EXIT_USAGE,
            sentence: sentence.into(),
        }
    }

    fn of(what: &str, error: &io::Error) -> Self {
        Self {
            code: EXIT_FAILURE,
            sentence: format!("{what}: {error}"),
        }
    }
}

/// Measures, and prints what came out.
pub fn run(args: BenchArgs) -> ExitCode {
    match bench(&args) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            eprintln!("ptntp bench: {}", failure.sentence);
            ExitCode::from(failure.code)
        }
    }
}

fn bench(args: &BenchArgs) -> Result<u8, Failure> {
    let ask = what_to_ask(args)?;
    let server = server(args)?;
    let signals = Signals::install(false).map_err(|e| Failure::of("can't catch signals", &e))?;
    let mut bench = Bench::open(args, server, ask, signals)?;
    let pace = match args.closed {
        Some(outstanding) => Pace::Closed { outstanding },
        None => Pace::Open {
            rate: args.rate.unwrap_or(RATE_DEFAULT),
        },
    };
    let tally = bench.measure(pace, args.duration.unwrap_or(DURATION_DEFAULT_S))?;
    let offered = match pace {
        Pace::Open { rate } => Some(rate),
        Pace::Closed { .. } => None,
    };
    let report = bench.report(vec![Step { offered, tally }]);
    if args.json {
        ask::print(&format!("{}\n", report.json()));
    } else {
        ask::print(&report.text());
    }
    Ok(if report.interrupted {
        EXIT_INTERRUPTED
    } else if report.result().tally.answered() == 0 {
        EXIT_FAILURE
    } else {
        0
    })
}

/// The kinds of clients, and their key.
fn what_to_ask(args: &BenchArgs) -> Result<Ask, Failure> {
    let mix = args.mix.clone().unwrap_or_else(|| {
        Mix::only(Kind {
            version: args.ntp_version,
            interleaved: args.interleaved,
            keyed: args.key.is_some(),
        })
    });
    match (mix.is_keyed(), &args.key) {
        (true, None) => Err(Failure::usage(
            "--mix has clients with a key: add --key ID:TYPE:SECRET",
        )),
        (false, Some(_)) => Err(Failure::usage(
            "--key is for nobody in --mix: write for example basic=90,key=10",
        )),
        _ => Ok(Ask {
            mix,
            key: args.key.clone(),
        }),
    }
}

/// Whom to ask; refuses strangers' servers.
fn server(args: &BenchArgs) -> Result<SocketAddr, Failure> {
    let text = args.server.as_deref().unwrap_or_default();
    let (name, port) = split_port(text).map_err(Failure::usage)?;
    let wanted = |address: &SocketAddr| {
        !(args.ipv4 && address.is_ipv6() || args.ipv6 && address.is_ipv4())
            && args
                .sources
                .is_none_or(|sources| sources.is_ipv4() == address.is_ipv4())
    };
    let mut addresses = (name, port).to_socket_addrs().map_err(|error| Failure {
        code: EXIT_FAILURE,
        sentence: format!("can't find {name}: {error}"),
    })?;
    let address = addresses.find(wanted).ok_or_else(|| Failure {
        code: EXIT_FAILURE,
        sentence: format!("{name} has no address of the family that is asked for"),
    })?;
    if is_public(address.ip()) && !args.i_own_this_server {
        return Err(Failure::usage(format!(
            "{} is a public address, and this is a load generator: add --i-own-this-server if it is \
             yours (other people's servers, pool.ntp.org among them, are not to be measured)",
            address.ip()
        )));
    }
    Ok(address)
}

/// `name`, `name:port`, `[address]:port`, `address` with colons.
fn split_port(text: &str) -> Result<(&str, u16), String> {
    let port = |text: &str| {
        text.parse()
            .ok()
            .filter(|port| *port > 0)
            .ok_or_else(|| format!("'{text}' is no port: expected 1 to 65535"))
    };
    if let Some(rest) = text.strip_prefix('[') {
        let (address, rest) = rest
            .split_once(']')
            .ok_or_else(|| format!("'{text}' has no closing bracket"))?;
        return match rest.strip_prefix(':') {
            Some(number) => Ok((address, port(number)?)),
            None if rest.is_empty() => Ok((address, NTP_PORT)),
            None => Err(format!("expected [ADDRESS]:PORT, not '{text}'")),
        };
    }
    if text.parse::<IpAddr>().is_ok() {
        return Ok((text, NTP_PORT));
    }
    match text.split_once(':') {
        Some((name, number)) => Ok((name, port(number)?)),
        None => Ok((text, NTP_PORT)),
    }
}

/// The threads' parts, and what is common to them.
struct Bench {
    server: SocketAddr,
    origin: String,
    clients: u32,
    generators: Vec<Generator>,
    signals: Signals,
    interrupted: bool,
    show: bool,
}

impl Bench {
    fn open(
        args: &BenchArgs,
        server: SocketAddr,
        ask: Ask,
        signals: Signals,
    ) -> Result<Self, Failure> {
        let threads = args.threads;
        let ports = args.ports.unwrap_or(PORTS_DEFAULT).max(threads);
        let rate = args.rate.unwrap_or(RATE_DEFAULT);
        let origin = format!(
            "{ports} ports{}",
            match threads {
                1 => String::new(),
                n => format!(", {n} threads"),
            }
        );
        let mut generators = Vec::new();
        for n in 0..threads {
            let first = ports * n / threads;
            let own = ports * (n + 1) / threads - first;
            let line = Ports::connect(server, own as usize)
                .map_err(|e| Failure::of(&format!("can't send to {server}"), &e))?;
            let setup = Setup {
                ask: ask.clone(),
                first_client: first,
                clients: NonZeroU32::new(own).unwrap_or(NonZeroU32::MIN),
                // Requests of one port go out by one call; but one that speaks of the
                // last answer has to wait for it.
                run: if ask.mix.is_interleaved() { 1 } else { 16 },
                stamp_every: (rate / STAMPED_PER_S).max(1.0) as u32,
                patience_ns: (args.timeout * 1e9) as i64,
                key: unguessable()?,
            };
            generators.push(Generator {
                engine: Engine::new(setup),
                line: Line::Ports(line),
            });
        }
        Ok(Self {
            server,
            origin,
            clients: ports,
            generators,
            signals,
            interrupted: false,
            show: io::stderr().is_terminal(),
        })
    }

    /// All threads at once, watched.
    fn measure(&mut self, pace: Pace, length_s: f64) -> Result<Tally, Failure> {
        let length_ns = (length_s * 1e9) as i64;
        let threads = self.generators.len();
        let watch = Watch::default();
        let start_ns = clock::monotonic().nanos() + LEAD_NS;
        let started = Instant::now();
        let mut sum = Tally::new(length_ns);
        let mut failure = None;
        std::thread::scope(|scope| {
            let handles: Vec<_> = self
                .generators
                .iter_mut()
                .enumerate()
                .map(|(n, generator)| {
                    let (pace, apart_ns) = split(pace, n, threads);
                    let watch = &watch;
                    scope.spawn(move || {
                        // Ctrl-C is the watching thread's.
                        let _ = signal::block_in_this_thread();
                        generator.measure(pace, start_ns + apart_ns, length_ns, watch)
                    })
                })
                .collect();
            let mut last = (0, Instant::now());
            while handles.iter().any(|handle| !handle.is_finished()) {
                std::thread::sleep(LOOK_EVERY.min(Duration::from_secs_f64(length_s / 4.0)));
                if let Some(signal::Signal::Stop) = self.signals.take() {
                    self.interrupted = true;
                    watch.stop.store(true, Ordering::Relaxed);
                }
                if self.show {
                    show(&watch, started, length_s, &mut last);
                }
            }
            if self.show {
                hide();
            }
            for (n, handle) in handles.into_iter().enumerate() {
                match handle.join() {
                    Ok(Ok(tally)) if n == 0 => sum = tally,
                    Ok(Ok(tally)) => sum.merge(&tally),
                    Ok(Err(error)) => failure = Some(error),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
        });
        match failure {
            Some(error) => Err(Failure::of(
                &format!("can't send to {}", self.server),
                &error,
            )),
            None => Ok(sum),
        }
    }

    fn report(&self, steps: Vec<Step>) -> Report {
        Report {
            server: self.server.to_string(),
            origin: self.origin.clone(),
            clients: self.clients,
            threads: self.generators.len() as u32,
            ceiling: None,
            chosen: steps.len() - 1,
            steps,
            found: None,
            interrupted: self.interrupted,
        }
    }
}

/// The n-th thread's part of a pace, and how much later than the first it begins, so
/// that their requests don't fall on the same moments.
fn split(pace: Pace, n: usize, threads: usize) -> (Pace, i64) {
    match pace {
        Pace::Open { rate } => {
            let apart_ns = n as f64 / rate * 1e9;
            let rate = rate / threads as f64;
            (Pace::Open { rate }, apart_ns as i64)
        }
        Pace::Closed { outstanding } => {
            let (n, threads) = (n as u32, threads as u32);
            let share = outstanding / threads + u32::from(n < outstanding % threads);
            (Pace::Closed { outstanding: share }, 0)
        }
    }
}

/// One line on the terminal, over the last one.
fn show(watch: &Watch, started: Instant, length_s: f64, last: &mut (u64, Instant)) {
    const BAR_LEN: usize = 24;
    let sent = watch.sent.load(Ordering::Relaxed);
    let lost = watch.lost.load(Ordering::Relaxed);
    let passed_s = last.1.elapsed().as_secs_f64();
    let rate = (sent - last.0) as f64 / passed_s.max(1e-3);
    *last = (sent, Instant::now());
    let done = (started.elapsed().as_secs_f64() / length_s).min(1.0);
    let full = (done * BAR_LEN as f64) as usize;
    let line = format!(
        "\r\x1b[K[{}{}] {:>8}/s sent, {sent} in all, loss {}",
        "#".repeat(full),
        ".".repeat(BAR_LEN - full),
        report::count(rate),
        report::share(lost as f64 / sent.max(1) as f64),
    );
    // Progress that can't be shown is not missed.
    let _ = io::stderr().write_all(line.as_bytes());
}

fn hide() {
    let _ = io::stderr().write_all(b"\r\x1b[K");
}

fn unguessable() -> Result<u128, Failure> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| Failure {
        code: EXIT_FAILURE,
        sentence: format!("no random numbers: {error}"),
    })?;
    Ok(u128::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_may_follow() {
        for (text, expected) in [
            ("ntp.example.net", ("ntp.example.net", 123)),
            ("10.0.0.1:1123", ("10.0.0.1", 1123)),
            ("::1", ("::1", 123)),
            ("[::1]:7", ("::1", 7)),
            ("[::1]", ("::1", 123)),
            ("fe80::1", ("fe80::1", 123)),
        ] {
            assert_eq!(split_port(text).unwrap(), expected);
        }
        for wrong in ["a:0", "a:x", "[::1", "[::1]7"] {
            assert!(split_port(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn threads_share_a_pace() {
        assert_eq!(
            split(Pace::Open { rate: 100.0 }, 1, 2),
            (Pace::Open { rate: 50.0 }, 10_000_000)
        );
        let all: u32 = (0..3)
            .map(|n| match split(Pace::Closed { outstanding: 8 }, n, 3).0 {
                Pace::Closed { outstanding } => outstanding,
                Pace::Open { .. } => 0,
            })
            .sum();
        assert_eq!(all, 8);
    }
}

//! `ptntp bench`: load for an NTP server, and what becomes of it. What is asked and
//! how answers are judged is in `load/`; here the threads are started, watched and
//! added up.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::io::{self, IsTerminal};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::num::NonZeroU32;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::cli::args::BenchArgs;
use crate::cli::ask;
use crate::cli::bench::drive::{Generator, Line, Raw, WakeEarly, Watch};
use crate::cli::bench::progress::Progress;
use crate::cli::bench::xdp::Live;
use crate::linux::clock;
use crate::linux::frames::Frames;
use crate::linux::frames::ring::Wanted;
use crate::linux::ports::Ports;
use crate::linux::priority;
use crate::linux::route::{self, Way};
use crate::linux::signal::{self, Signals};
use crate::load::engine::{Engine, Setup};
use crate::load::frame::Template;
use crate::load::mix::{Ask, Kind, Mix};
use crate::load::page;
use crate::load::prefix::{Prefix, is_public};
use crate::load::report::{self, Limit, Report, Step};
use crate::load::schedule::Pace;
use crate::load::search::{Outcome, Search};
use crate::load::tally::Tally;
use crate::load::xdp::Setup as LiveSetup;

pub mod drive;
pub mod progress;
pub mod xdp;

/// errno: too many open files.
const EMFILE: i32 = 24;
/// Not measured.
const EXIT_FAILURE: u8 = 1;
/// Wrong usage.
const EXIT_USAGE: u8 = 2;
/// The generator was the limit.
const EXIT_GENERATOR: u8 = 3;
/// Ended by SIGINT, as shells say it.
const EXIT_INTERRUPTED: u8 = 130;
/// Where NTP servers listen.
const NTP_PORT: u16 = 123;
/// Requests a second where nobody says how many.
const RATE_DEFAULT: f64 = 1000.0;
/// Seconds, where nobody says how many.
const DURATION_DEFAULT_S: f64 = 5.0;
/// The same for one step of several.
const STEP_DEFAULT_S: f64 = 1.0;
/// Steps of a ramp.
const RAMP_STEPS: usize = 10;
/// Percent that may be lost or refused, where nobody says how many.
const LOSS_DEFAULT_PERCENT: f64 = 1.0;
/// Source ports, where nobody says how many: enough for every receive queue.
const PORTS_DEFAULT: u32 = 64;
/// The same for raw frames, where a port costs nothing.
const RAW_PORTS_DEFAULT: u32 = 4096;
/// The first of those: where Linux's ephemeral ports begin.
const RAW_PORT_FIRST: u16 = 32_768;
/// Client addresses, where nobody says how many.
const CLIENTS_MAX: u32 = 1_000_000;
/// A rate that no generator reaches: what it does then is its ceiling.
const CEILING_RATE: f64 = 1e7;
/// By XDP, where a rate is not known beforehand: that many requests are remembered.
const LIVE_RATE: f64 = 2e6;
/// How long it tries.
const CEILING_S: f64 = 0.5;
/// Frames that a thread has room for: at least 1 MiB, at most 16 (a tenth of a second's
/// at the highest rates). Most of the time a start with many threads takes is for these.
const ROOM_MIN: usize = 1 << 12;
const ROOM_MAX: usize = 1 << 16;
/// And of all threads; a quarter of a gibibyte.
const ROOM_OF_ALL: usize = 1 << 20;
/// A thread may be kept from its core for so long, in seconds.
const ROOM_S: f64 = 0.25;
/// Nothing answers there, so that nothing need be remembered.
const CEILING_PATIENCE_NS: i64 = 10_000_000;
/// The rate that departures are stamped for where it is not known beforehand.
const FAST_GUESS: f64 = 200_000.0;
/// From the decision to the first request, so that all threads are up by then.
const LEAD_NS: i64 = 100_000_000;
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

    fn because(sentence: impl Into<String>) -> Self {
        Self {
            code: EXIT_FAILURE,
            sentence: sentence.into(),
        }
    }

    fn of(what: &str, error: &io::Error) -> Self {
        Self::because(format!("{what}: {error}"))
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
    check_sources(args)?;
    // Before anything is sent.
    let server = match args.self_test {
        true => None,
        false => Some(server(args)?),
    };
    let signals = Signals::install(false).map_err(|e| Failure::of("can't catch signals", &e))?;
    let stage = Stage {
        signals,
        show: io::stderr().is_terminal(),
        interrupted: Cell::new(false),
        error: RefCell::new(None),
    };
    let Some(server) = server else {
        return self_test(args, &ask, &stage);
    };
    let mut report = measure(args, server, &ask, &stage)?;
    report.interrupted = stage.interrupted.get();
    report.error = stage.error.take();
    if let Some(error) = &report.error
        && report.steps.iter().all(|step| step.tally.sent == 0)
    {
        return Err(Failure::because(error));
    }
    if let Some(path) = &args.html {
        std::fs::write(path, page::html(&report).map_err(Failure::usage)?)
            .map_err(|e| Failure::of(&format!("can't write {}", path.display()), &e))?;
    }
    ask::print(&match args.json {
        true => format!("{}\n", report.json()),
        false => report.text(),
    });
    let answered = report.steps.iter().any(|s| s.tally.answered() > 0);
    if let Some(error) = &report.error {
        eprintln!("ptntp bench: {error}");
    } else if !answered && !report.interrupted {
        let instead = report
            .steps
            .iter()
            .find_map(|step| report::instead_of_answers(&step.tally));
        eprintln!(
            "ptntp bench: {}",
            match instead {
                Some(instead) => format!("what {server} sent were no answers: {instead}"),
                None => unanswered(args, &ask, server),
            }
        );
    }
    Ok(match report.found {
        _ if report.interrupted => EXIT_INTERRUPTED,
        _ if !answered || report.error.is_some() => EXIT_FAILURE,
        Some(found) if found.limit != Limit::Server => EXIT_GENERATOR,
        None if report.result().limit() == Some(Limit::Generator) => EXIT_GENERATOR,
        _ => 0,
    })
}

/// The measurements that are asked for, one after the other.
fn measure(
    args: &BenchArgs,
    server: SocketAddr,
    ask: &Ask,
    stage: &Stage,
) -> Result<Report, Failure> {
    let mut bench = Bench::open(args, server, ask)?;
    let mut steps = Vec::new();
    let (mut ceiling, mut found) = (None, None);
    let mut chosen = None;
    let step_s = args.duration.unwrap_or(STEP_DEFAULT_S);
    let open = |rate| Pace::Open { rate };
    if let Some((from, to)) = args.ramp {
        for n in 0..RAMP_STEPS {
            let share = n as f64 / (RAMP_STEPS - 1) as f64;
            let rate = from + (to - from) * share;
            let label = format!("{}/{RAMP_STEPS}", n + 1);
            steps.push(bench.step(open(rate), step_s, stage, &label)?);
            if stage.is_ended() {
                break;
            }
        }
    } else if args.search {
        let limit = measure_ceiling(args, ask, stage)?;
        ceiling = Some(limit);
        let percent = args.max_loss.unwrap_or(LOSS_DEFAULT_PERCENT);
        let mut search = Search::new(percent, limit);
        while let Some(trial) = search.next()
            && !stage.is_ended()
        {
            let length_s = if trial.proof { 2.0 * step_s } else { step_s };
            let label = format!("{:>8}/s", report::count(trial.rate));
            let step = bench.step(open(trial.rate), length_s, stage, &label)?;
            let outcome = Outcome::of(&step.tally, percent / 100.0);
            steps.push(step);
            if stage.is_ended() {
                break;
            }
            if outcome == Outcome::Good {
                chosen = Some(steps.len() - 1);
            }
            search.tried(outcome);
        }
        found = Some(search.found());
    } else {
        let pace = match args.closed {
            Some(outstanding) => Pace::Closed { outstanding },
            None => open(args.rate.unwrap_or(RATE_DEFAULT)),
        };
        let length_s = args.duration.unwrap_or(DURATION_DEFAULT_S);
        steps.push(bench.step(pace, length_s, stage, "")?);
    }
    // One that an error ended before it began says nothing.
    if steps.len() > 1 {
        steps.pop_if(|step| step.tally.sent == 0 && stage.error.borrow().is_some());
    }
    let Some(last) = steps.len().checked_sub(1) else {
        return Err(Failure::because(
            "nothing was measured: it was stopped, or this machine can't send",
        ));
    };
    Ok(Report {
        server: server.to_string(),
        origin: bench.origin.clone(),
        clients: bench.clients,
        threads: args.threads,
        ceiling,
        chosen: chosen.unwrap_or(last),
        steps,
        found,
        interrupted: false,
        error: None,
    })
}

/// Requests a second that this generator can send where nobody reads them.
fn measure_ceiling(args: &BenchArgs, ask: &Ask, stage: &Stage) -> Result<f64, Failure> {
    let mut bench = match args.xdp {
        Some(_) => Bench::dry(args, ask)?,
        None => Sink::open(args)?.bench(args, ask)?,
    };
    let pace = Pace::Open {
        rate: CEILING_RATE * f64::from(args.threads),
    };
    let step = bench.step(pace, CEILING_S, stage, "self-test")?;
    match stage.error.take() {
        Some(error) => Err(Failure::because(error)),
        None => Ok(step.tally.sent_rate()),
    }
}

/// Prints the generator's own ceiling.
fn self_test(args: &BenchArgs, ask: &Ask, stage: &Stage) -> Result<u8, Failure> {
    let rate = measure_ceiling(args, ask, stage)?;
    let way = match (&args.xdp, args.sources) {
        (Some(_), _) => "XDP",
        (None, Some(_)) => "raw frames",
        (None, None) => "sockets",
    };
    ask::print(&match args.json {
        true => format!("{}\n", serde_json::json!({ "ceiling_per_s": rate })),
        false => format!(
            "This generator {} {} requests/s by {way} from {} thread{}, {}.\nTaking answers costs \
             about as much again, and so does a slower way out.\n",
            if args.xdp.is_some() {
                "writes"
            } else {
                "sends"
            },
            report::count(rate),
            args.threads,
            if args.threads == 1 { "" } else { "s" },
            match args.xdp {
                Some(_) => "none of which is sent",
                None => "to a sink that answers nothing",
            }
        ),
    });
    Ok(match stage.interrupted.get() {
        true => EXIT_INTERRUPTED,
        false => 0,
    })
}

/// Where to look when nothing came back.
fn unanswered(args: &BenchArgs, ask: &Ask, server: SocketAddr) -> String {
    let keyed = match ask.mix.is_keyed() {
        true => " Does it have the key? chronyd is silent if not.",
        false => "",
    };
    let far = match args.xdp {
        Some(_) => {
            " (veth takes frames from XDP only where the far end has a program, or GRO, on.)"
        }
        None => "",
    };
    match args.sources {
        None => format!(
            "no answer from {server}: is it an NTP server, and does it let this host in (firewall, \
             `restrict`, `allow`)?{keyed}{far}"
        ),
        Some(sources) => {
            let ours = route::find(server).ok().and_then(|way| way.source);
            let ours = ours.map_or("THIS-HOST".to_owned(), |ip| ip.to_string());
            format!(
                "no answer from {server} to clients of {sources}: its host must let them in, and must \
                 route them back here.{keyed}{far} There:\n  ip route add {sources} via {ours}"
            )
        }
    }
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
    let mut addresses = (name, port)
        .to_socket_addrs()
        .map_err(|error| Failure::of(&format!("can't find {name}"), &error))?;
    let address = addresses.find(wanted).ok_or_else(|| {
        Failure::because(format!(
            "{name} has no address of the family that is asked for"
        ))
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

/// Refuses to ask in the name of strangers, who would get the answers.
fn check_sources(args: &BenchArgs) -> Result<(), Failure> {
    let clients = args.clients.unwrap_or(CLIENTS_MAX);
    match args.sources {
        Some(sources) if sources.is_public(clients) && !args.i_own_this_server => {
            Err(Failure::usage(format!(
                "--sources {sources} has public addresses, whose owners would get the answers: take \
                 private ones such as 10.1.0.0/16, or add --i-own-this-server if they are routed to \
                 this host alone"
            )))
        }
        _ => Ok(()),
    }
}

/// `name`, `name:port`, `[address]:port`, `address` with colons, perhaps with a zone
/// (RFC 4007 section 11) and then perhaps with a port.
///
/// # Errors
/// The sentence why it is none of these.
pub fn split_port(text: &str) -> Result<(&str, u16), String> {
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
    if let Some((address, zone)) = text.split_once('%')
        && address.parse::<Ipv6Addr>().is_ok()
    {
        // No name of an interface has a colon (dev_valid_name of the kernel).
        return match zone.split_once(':') {
            Some((zone, number)) => Ok((&text[..address.len() + 1 + zone.len()], port(number)?)),
            None => Ok((text, NTP_PORT)),
        };
    }
    match text.split_once(':') {
        Some((name, number)) => Ok((name, port(number)?)),
        None => Ok((text, NTP_PORT)),
    }
}

/// What the operator sees and says while it runs.
struct Stage {
    signals: Signals,
    show: bool,
    interrupted: Cell<bool>,
    /// What went wrong on this side, in a sentence.
    error: RefCell<Option<String>>,
}

impl Stage {
    /// Is there to be no further measurement?
    fn is_ended(&self) -> bool {
        self.interrupted.get() || self.error.borrow().is_some()
    }
}

/// Where nobody reads.
struct Sink {
    /// Its queue fills, and then all is thrown away.
    _socket: UdpSocket,
    address: SocketAddr,
}

impl Sink {
    fn open(args: &BenchArgs) -> Result<Self, Failure> {
        let v6 = args.ipv6 || args.sources.is_some_and(|s| !s.is_ipv4());
        let local: IpAddr = match v6 {
            true => Ipv6Addr::LOCALHOST.into(),
            false => Ipv4Addr::LOCALHOST.into(),
        };
        let socket = UdpSocket::bind((local, 0))
            .map_err(|e| Failure::of(&format!("can't make a sink at {local}"), &e))?;
        let address = socket
            .local_addr()
            .map_err(|e| Failure::of("can't find the sink", &e))?;
        Ok(Self {
            _socket: socket,
            address,
        })
    }

    /// Raw frames go to loopback under a link address that nobody has there.
    fn bench(&self, args: &BenchArgs, ask: &Ask) -> Result<Bench, Failure> {
        let nobody = [2, 0, 0, 0, 0, 1];
        let way = || {
            let interface = route::loopback()?;
            Ok(Way {
                interface,
                name: "lo".to_owned(),
                ours: [0; 6],
                next_hop: nobody,
                source: None,
            })
        };
        let setup = SetupArgs {
            rate: CEILING_RATE,
            answers_max: Some(0.0),
            patience_ns: CEILING_PATIENCE_NS,
        };
        Bench::towards(args, self.address, ask, &setup, way)
    }
}

/// What differs between a measurement and one of the generator itself.
struct SetupArgs {
    rate: f64,
    /// No more answers than that come back in a second; none if nobody knows.
    answers_max: Option<f64>,
    patience_ns: i64,
}

/// The threads' parts, and what is common to them.
struct Bench {
    server: SocketAddr,
    origin: String,
    clients: u32,
    generators: Vec<Generator>,
    /// Instead of those.
    live: Option<Box<Live>>,
}

impl Bench {
    fn open(args: &BenchArgs, server: SocketAddr, ask: &Ask) -> Result<Self, Failure> {
        let top = args.ramp.map(|(_, to)| to);
        let known = match args.search || args.closed.is_some() {
            true => None,
            false => args.rate.or(top).or(Some(RATE_DEFAULT)),
        };
        if let Some(interface) = &args.xdp {
            return Self::live(args, server, ask, known.unwrap_or(LIVE_RATE), interface);
        }
        let setup = SetupArgs {
            rate: known.unwrap_or(FAST_GUESS),
            answers_max: known,
            patience_ns: (args.timeout * 1e9) as i64,
        };
        Self::towards(args, server, ask, &setup, || route::find(server))
    }

    /// By XDP on this interface, by which the server must be reached.
    fn live(
        args: &BenchArgs,
        server: SocketAddr,
        ask: &Ask,
        rate: f64,
        interface: &str,
    ) -> Result<Self, Failure> {
        let way = route::find(server)
            .map_err(|e| Failure::of(&format!("no way to {} for --xdp", server.ip()), &e))?;
        if way.name != interface {
            return Err(Failure::usage(format!(
                "--xdp {interface}: the way to {} is by {}",
                server.ip(),
                way.name
            )));
        }
        let from = match (args.sources, way.source) {
            (Some(sources), _) => sources,
            (None, Some(ours)) => Prefix::only(ours),
            (None, None) => {
                return Err(Failure::because(format!(
                    "this host has no address on {interface} to ask from: name --sources"
                )));
            }
        };
        let mut setup = Self::live_setup(args, server, ask, from)?;
        setup.template = Template::new(way.ours, way.next_hop, server);
        let by = match args.sources {
            Some(_) => format!(
                "{} addresses of {from}, by {interface} (XDP)",
                setup.clients
            ),
            None => format!("{} ports, by {interface} (XDP)", setup.ports),
        };
        let clients = setup.clients;
        let place = Some((way.interface, &*way.name));
        let live = Live::open(setup, place, rate, args.realtime).map_err(|e| live_failure(&e))?;
        Ok(Self {
            server,
            origin: match args.threads {
                1 => by,
                n => format!("{by}, {n} threads"),
            },
            clients,
            generators: Vec::new(),
            live: Some(Box::new(live)),
        })
    }

    /// By XDP, but nothing leaves.
    fn dry(args: &BenchArgs, ask: &Ask) -> Result<Self, Failure> {
        let v6 = args.ipv6 || args.sources.is_some_and(|s| !s.is_ipv4());
        let local: IpAddr = match v6 {
            true => Ipv6Addr::LOCALHOST.into(),
            false => Ipv4Addr::LOCALHOST.into(),
        };
        let server = SocketAddr::new(local, NTP_PORT);
        let from = args.sources.unwrap_or_else(|| Prefix::only(local));
        let mut setup = Self::live_setup(args, server, ask, from)?;
        setup.is_dry = true;
        let clients = setup.clients;
        let live = Live::open(setup, None, RATE_DEFAULT, args.realtime);
        Ok(Self {
            server,
            origin: "XDP".to_owned(),
            clients,
            generators: Vec::new(),
            live: Some(Box::new(live.map_err(|e| live_failure(&e))?)),
        })
    }

    /// What XDP programs are told, but for link addresses.
    fn live_setup(
        args: &BenchArgs,
        server: SocketAddr,
        ask: &Ask,
        sources: Prefix,
    ) -> Result<LiveSetup, Failure> {
        let all = sources.hosts();
        let clients = args.clients.unwrap_or(all.min(CLIENTS_MAX));
        Ok(LiveSetup {
            sources,
            clients: clients.min(all),
            ports: args.ports.unwrap_or(RAW_PORTS_DEFAULT).max(args.threads) as u16,
            port_first: RAW_PORT_FIRST,
            template: Template::new([0; 6], [0; 6], server),
            server: (server.ip(), server.port()),
            version: ask.mix.kind_of(0).version,
            burst: args.burst,
            patience_ns: (args.timeout * 1e9) as i64,
            lines: args.threads,
            key: unguessable()?,
            is_dry: false,
        })
    }

    fn towards(
        args: &BenchArgs,
        server: SocketAddr,
        ask: &Ask,
        setup: &SetupArgs,
        way: impl FnOnce() -> io::Result<Way>,
    ) -> Result<Self, Failure> {
        let threads = args.threads;
        let engine = |first_client: u32, clients: u32, run: u32| {
            let setup = Setup {
                ask: ask.clone(),
                first_client,
                clients: NonZeroU32::new(clients).unwrap_or(NonZeroU32::MIN),
                engines: NonZeroU32::new(threads).unwrap_or(NonZeroU32::MIN),
                run,
                burst: args.burst,
                stamp_every: (setup.rate / STAMPED_PER_S).max(1.0) as u32,
                patience_ns: setup.patience_ns,
                key: unguessable()?,
            };
            Ok(Engine::new(setup))
        };
        let part = |all: u32, n: u32| (u64::from(all) * u64::from(n) / u64::from(threads)) as u32;
        let mut generators = Vec::new();
        let (origin, clients);
        if let Some(sources) = args.sources {
            let way = way().map_err(|e| {
                Failure::of(&format!("no way to {} for raw frames", server.ip()), &e)
            })?;
            let all = sources.hosts();
            clients = args
                .clients
                .unwrap_or(all.min(CLIENTS_MAX))
                .min(all)
                .max(threads);
            let ports = args.ports.unwrap_or(RAW_PORTS_DEFAULT).max(threads);
            let room = room_for_answers(setup.answers_max, threads);
            let opened = at_once(0..threads, |n| {
                let (first, last) = (part(ports, n), part(ports, n + 1) - 1);
                let wanted = Wanted {
                    from: server.ip(),
                    from_port: server.port(),
                    to_first: RAW_PORT_FIRST + first as u16,
                    to_last: RAW_PORT_FIRST + last as u16,
                };
                Ok((Frames::open(way.interface, n, &wanted, room)?, wanted))
            });
            let mut ways = BTreeSet::new();
            for (n, opened) in (0..threads).zip(opened) {
                let (frames, wanted) = opened.map_err(|e: io::Error| raw_failure(&way.name, &e))?;
                ways.insert(frames.way());
                let raw = Raw {
                    frames,
                    template: Template::new(way.ours, way.next_hop, server),
                    sources,
                    port_first: wanted.to_first,
                    ports: wanted.to_last - wanted.to_first + 1,
                };
                let (first, end) = (part(clients, n), part(clients, n + 1));
                generators.push(Generator {
                    engine: engine(first, end - first, 1)?,
                    line: Line::Frames(Box::new(raw)),
                    realtime: args.realtime,
                    wake_early: WakeEarly::default(),
                });
            }
            // An interface may have fewer queues than there are threads.
            let ways: Vec<&str> = ways.into_iter().collect();
            origin = format!(
                "{clients} addresses of {sources}, by {} ({})",
                way.name,
                ways.join(", ")
            );
        } else {
            clients = args.ports.unwrap_or(PORTS_DEFAULT).max(threads);
            for n in 0..threads {
                let (first, end) = (part(clients, n), part(clients, n + 1));
                let line = Ports::connect(server, (end - first) as usize)
                    .map_err(|e| ports_failure(server, &e))?;
                // Requests of one port go out by one call; but one that speaks of the
                // last answer has to wait for it.
                let run = if ask.mix.is_interleaved() { 1 } else { 16 };
                generators.push(Generator {
                    engine: engine(first, end - first, run)?,
                    line: Line::Ports(line),
                    realtime: args.realtime,
                    wake_early: WakeEarly::default(),
                });
            }
            origin = format!("{clients} ports");
        }
        let origin = match threads {
            1 => origin,
            n => format!("{origin}, {n} threads"),
        };
        Ok(Self {
            server,
            origin,
            clients,
            generators,
            live: None,
        })
    }

    /// All threads at once, watched. An error of the network ends it: the stage has it,
    /// and what was measured until then counts.
    fn step(
        &mut self,
        pace: Pace,
        length_s: f64,
        stage: &Stage,
        label: &str,
    ) -> Result<Step, Failure> {
        let length_ns = (length_s * 1e9) as i64;
        let threads = self.generators.len();
        let watch = Watch::default();
        for (n, generator) in self.generators.iter_mut().enumerate() {
            generator.engine.reserve(split(pace, n, threads).0);
        }
        let start_ns = clock::monotonic().nanos() + LEAD_NS;
        let mut progress = Progress::new(label, length_s);
        let mut sum: Option<Tally> = None;
        let mut no_priority = None;
        std::thread::scope(|scope| {
            let mut handles: Vec<_> = self
                .generators
                .iter_mut()
                .enumerate()
                .map(|(n, generator)| {
                    let (pace, apart_ns) = split(pace, n, threads);
                    let watch = &watch;
                    scope.spawn(move || {
                        // Ctrl-C is the watching thread's.
                        let _ = signal::block_in_this_thread();
                        // Without it waits end a little late.
                        let _ = priority::wake_on_time();
                        if generator.realtime {
                            priority::realtime()?;
                        }
                        let start_ns = start_ns + apart_ns;
                        io::Result::Ok(generator.measure(pace, start_ns, length_ns, watch))
                    })
                })
                .collect();
            if let (Some(live), Pace::Open { rate }) = (&mut self.live, pace) {
                let watch = &watch;
                handles.push(scope.spawn(move || {
                    let _ = signal::block_in_this_thread();
                    if live.realtime {
                        // Or it could not stop what runs on its core.
                        priority::above_realtime()?;
                    }
                    Ok(live.measure(rate, length_ns, watch))
                }));
            }
            while handles.iter().any(|handle| !handle.is_finished()) {
                std::thread::sleep(LOOK_EVERY.min(Duration::from_secs_f64(length_s / 4.0)));
                if let Some(signal::Signal::Stop) = stage.signals.take() {
                    stage.interrupted.set(true);
                    watch.stop.store(true, Ordering::Relaxed);
                }
                if stage.show {
                    progress.show(&watch);
                }
            }
            if stage.show {
                progress.hide();
            }
            for handle in handles {
                match handle.join() {
                    Ok(Ok((tally, result))) => {
                        match &mut sum {
                            None => sum = Some(tally),
                            Some(sum) => sum.merge(&tally),
                        }
                        if let Err(error) = result {
                            let sentence = format!("can't send to {}: {error}", self.server);
                            stage.error.replace(Some(sentence));
                        }
                    }
                    Ok(Err(error)) => no_priority = Some(error),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
        });
        if let Some(error) = no_priority {
            let what = "--realtime needs CAP_SYS_NICE: run it as root";
            return Err(Failure::of(what, &error));
        }
        Ok(Step {
            offered: match pace {
                Pace::Open { rate } => Some(rate),
                Pace::Closed { .. } => None,
            },
            tally: sum.unwrap_or_else(|| Tally::new(length_ns)),
        })
    }
}

fn raw_failure(interface: &str, error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::PermissionDenied {
        return Failure::because(
            "--sources sends raw frames, which needs CAP_NET_RAW: run it as root, or once \
             `sudo setcap cap_net_raw+ep \"$(command -v ptntp)\"`",
        );
    }
    Failure::of(&format!("can't open {interface} for raw frames"), error)
}

fn live_failure(error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::PermissionDenied {
        return Failure::because(
            "--xdp loads programs into the kernel, which needs CAP_BPF, CAP_NET_ADMIN and \
             CAP_PERFMON: run it as root",
        );
    }
    Failure::because(error.to_string())
}

fn ports_failure(server: SocketAddr, error: &io::Error) -> Failure {
    let what = format!("can't send to {server}");
    match error.raw_os_error() {
        Some(EMFILE) => Failure::of(
            &format!("{what}: fewer --ports, or more open files (`ulimit -n`)"),
            error,
        ),
        _ => Failure::of(&what, error),
    }
}

/// The kernel waits before it gives up a ring: for all of them at once.
impl Drop for Bench {
    fn drop(&mut self) {
        at_once(self.generators.drain(..), drop);
    }
}

/// Does `work` on all, a thread for each, for what is mostly waiting; results in order.
fn at_once<T: Send, R: Send>(all: impl Iterator<Item = T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    let work = &work;
    std::thread::scope(|scope| {
        let threads: Vec<_> = all.map(|one| scope.spawn(move || work(one))).collect();
        threads
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect()
    })
}

/// Frames that each thread has room for: answers to as much as it asks while it is kept
/// from its core, where the rate is known, and no more than a fair part of the memory
/// that all may have.
fn room_for_answers(rate: Option<f64>, threads: u32) -> usize {
    let most = (ROOM_OF_ALL / threads as usize).clamp(ROOM_MIN, ROOM_MAX);
    match rate {
        Some(rate) => {
            let asked = rate / f64::from(threads) * ROOM_S;
            (asked as usize).clamp(ROOM_MIN, most)
        }
        None => most,
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

fn unguessable() -> Result<u128, Failure> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| Failure::because(format!("no random numbers: {error}")))?;
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
            ("fe80::1%eth0", ("fe80::1%eth0", 123)),
            ("fe80::1%eth0:7", ("fe80::1%eth0", 7)),
            ("[fe80::1%eth0]", ("fe80::1%eth0", 123)),
            ("[fe80::1%eth0]:7", ("fe80::1%eth0", 7)),
        ] {
            assert_eq!(split_port(text).unwrap(), expected);
        }
        for wrong in ["a:0", "a:x", "[::1", "[::1]7", "fe80::1%eth0:"] {
            assert!(split_port(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn many_threads_take_no_more_room_than_they_need() {
        assert_eq!(room_for_answers(None, 1), ROOM_MAX);
        assert_eq!(room_for_answers(None, 4), ROOM_MAX);
        assert_eq!(room_for_answers(None, 64), ROOM_OF_ALL / 64);
        assert_eq!(room_for_answers(Some(1000.0), 64), ROOM_MIN);
        assert_eq!(room_for_answers(Some(100_000.0), 1), 25_000);
        assert_eq!(room_for_answers(Some(1e9), 1), ROOM_MAX);
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

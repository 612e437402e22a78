//! The XDP tier beside the io_uring worker and a bare echo, on one core: `bench/compare
//! --tier xdp`.
//!
//! Frames come by `ptntp bench --xdp`, from the first core. The second has all the rest:
//! the server's interface is polled by a thread of the kernel that is kept there
//! (threaded NAPI), with a real-time priority, as an interrupt would have. What XDP_TX
//! sends back is taken off the wire there too, by the generator's other program. What
//! that takes of the second core is told by the spinner (`spinner`).
//!
//! The worker is asked in two ways, by the same frames and by those of an AF_XDP socket
//! with receive packet steering, as in the other tables; it is compared by the cheaper.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::common::net::{Namespace, Star, hub_v4, spoke_v4};
use super::common::process::{self, Process};
use super::common::{TempDir, ntp, ptntp as daemon, secs, wait_until};
use super::measured::{Cell, Measured, parts, ratio, spread};
use super::spinner::Spinner;
use super::table::rewrite;
use super::{
    Args, BETWEEN, GENERATOR_CORE, HEAD, PREFIXES, SERVER_CORE, SOURCES, on_core, report, steer,
    wire,
};

/// What is measured, first what the others are compared with.
const SERVERS: [Kind; 5] = [
    Kind::Xdp,
    Kind::XdpTable,
    Kind::Echo,
    Kind::Worker,
    Kind::WorkerRaw,
];

/// Rates are searched for in so many rounds at most: it takes long.
const SEARCH_ROUNDS: u32 = 3;
/// An access list over all of these, each a client of its own: every /28 of 10.0.0.0/8
/// but the last ones.
const TABLE_SOURCES: &str = "10.0.0.0/8";
const TABLE_CLIENTS: u32 = PREFIXES * 16;
/// How long the daemon's own clock is looked at under a flood, and how often.
const FLOOD: Duration = Duration::from_secs(12);
const LOOK: Duration = Duration::from_millis(100);
/// So many pairs of measurements in each round say what the table costs.
const PAIRS: usize = 4;
/// Who loses more than this has no p99.9.
const LOSS_MAX: f64 = 0.001;
/// More than one core can take.
const FLOOD_RATE: &str = "4M";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// ptntp with `xdp`.
    Xdp,
    /// The same with a million prefixes and per-client limits.
    XdpTable,
    /// An echo by XDP_TX.
    Echo,
    /// ptntp's worker, asked by the same frames.
    Worker,
    /// The same, asked by an AF_XDP socket.
    WorkerRaw,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Xdp => "ptntp-xdp",
            Self::XdpTable => "ptntp-xdp, a million prefixes, limits",
            Self::Echo => "echo-xdp",
            Self::Worker => "ptntp (io_uring)",
            Self::WorkerRaw => "ptntp (io_uring), AF_XDP frames",
        }
    }

    fn place(self) -> usize {
        let place = SERVERS.iter().position(|one| *one == self);
        place.expect("one of them")
    }

    /// Options of the generator.
    fn sources(self) -> [String; 4] {
        let (sources, clients) = match self {
            Self::XdpTable => (TABLE_SOURCES, TABLE_CLIENTS),
            _ => (SOURCES, super::CLIENTS),
        };
        [
            "--sources".into(),
            sources.into(),
            "--clients".into(),
            clients.to_string(),
        ]
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Load {
    /// 20,000 requests a second.
    Light,
    /// 100,000, sixteen at a time.
    Heavy,
    /// As many as it can answer: searched for.
    Most,
    /// More than it can answer.
    Flood,
}

const LOADS: [Load; 3] = [Load::Light, Load::Heavy, Load::Most];

impl Load {
    fn args(self, seconds: u32) -> Vec<String> {
        let words: &[&str] = match self {
            Self::Light => &["--rate", "20k"],
            Self::Heavy => &["--rate", "100k", "--burst", "16"],
            Self::Most => &["--search", "--burst", "16", "--timeout", "200ms"],
            Self::Flood => &["--rate", FLOOD_RATE, "--burst", "16", "--timeout", "500ms"],
        };
        let mut args: Vec<String> = words.iter().map(|word| (*word).into()).collect();
        args.push("--duration".into());
        args.push(match self {
            // A proof takes twice as long, and the kernel stops a thread that polls by
            // real-time priority for 950 ms of a second.
            Self::Most | Self::Flood => "400ms".into(),
            _ => format!("{seconds}s"),
        });
        args
    }
}

/// Measures, prints, and writes the docs if they are wanted.
pub fn run(args: &Args) -> Result<(), String> {
    let core = SERVER_CORE.parse().expect("a number");
    let mut spinner = Spinner::start(core)?;
    spinner.check(core)?;
    // Two more for the flood.
    let star = Star::new(SERVERS.len() + 2);
    let mut servers = Vec::new();
    for (n, kind) in SERVERS.into_iter().enumerate() {
        servers.push(Server::start(kind, &star, n)?);
    }
    let mut measured = SERVERS.map(|kind| Measured::new(kind.name()));
    for round in 0..args.rounds {
        let mut one = |kind: Kind, load: Load| {
            eprint!(
                "\rround {} of {}: {:<40}",
                round + 1,
                args.rounds,
                kind.name()
            );
            let n = kind.place();
            if let Some(status) = servers[n].process.ended() {
                return Err(format!("{} has ended: {status}", kind.name()));
            }
            let cell = measure(&star.hub, n, load, args.seconds, &mut spinner)?;
            measured[n].note(load, cell);
            Ok(())
        };
        for load in LOADS {
            for kind in SERVERS {
                if load != Load::Most || round < SEARCH_ROUNDS && kind != Kind::WorkerRaw {
                    one(kind, load)?;
                }
            }
        }
        for _ in 0..PAIRS {
            one(Kind::Xdp, Load::Flood)?;
            one(Kind::XdpTable, Load::Flood)?;
        }
    }
    eprintln!("\r{:60}", "");
    drop(spinner);
    let flood = flood(&star, args.rounds.min(SEARCH_ROUNDS))?;
    let text = text(&measured, &flood, args);
    print!("{text}");
    if args.docs {
        rewrite(BEGIN, END, &text).map_err(|error| format!("docs: {error}"))?;
    }
    Ok(())
}

fn measure(
    hub: &Namespace,
    n: usize,
    load: Load,
    seconds: u32,
    spinner: &mut Spinner,
) -> Result<Cell, String> {
    let kind = SERVERS[n];
    let mut command = generator(hub, GENERATOR_CORE, n, kind != Kind::WorkerRaw);
    command
        .arg("--realtime")
        .args(kind.sources())
        .args(load.args(seconds));
    std::thread::sleep(BETWEEN);
    spinner.calibrate();
    let mark = spinner.mark();
    let report = report(command)?;
    Ok(Cell::new(&report, spinner.taken_s(mark)))
}

/// `ptntp bench` of the n-th server.
fn generator(hub: &Namespace, core: &str, n: usize, xdp: bool) -> Command {
    let mut command = on_core(hub, core, Path::new(daemon::BINARY));
    command.args(["bench", &spoke_v4(n).to_string(), "--json"]);
    if xdp {
        command.args(["--xdp", &format!("s{n}")]);
    }
    command
}

/// A server that runs, on its core, and what helps it.
struct Server {
    process: Process,
    _helper: Option<Process>,
    _directory: TempDir,
}

impl Server {
    fn start(kind: Kind, star: &Star, n: usize) -> Result<Self, String> {
        let namespace = &star.spokes[n];
        let directory = TempDir::new();
        let at = directory.path().display().to_string();
        namespace.ip(&format!("route add {SOURCES} via {}", hub_v4(n)));
        let before = wire::pollers("eth")?;
        let mut helper = None;
        if kind == Kind::Worker {
            helper = Some(program(namespace, "pass", &directory)?);
        }
        let process = match kind {
            Kind::Echo => program(namespace, "echo", &directory)?,
            _ => {
                let config = directory.write("ntp.conf", config(kind));
                let mut command = on_core(namespace, SERVER_CORE, Path::new(daemon::BINARY));
                command.args(["run", "--clock", "none", "--metrics", "off"]);
                command
                    .args(["--control", &format!("{at}/control"), "-c"])
                    .arg(config);
                Process::start(kind.name(), command, &directory.path().join("log"))
            }
        };
        if kind != Kind::Echo {
            let asked = ntp::Client::new(namespace, spoke_v4(n));
            if !wait_until(secs(180), || asked.time().is_some()) {
                return Err(format!(
                    "{} does not answer:\n{}",
                    kind.name(),
                    process.log()
                ));
            }
        }
        match kind {
            Kind::WorkerRaw => steer(namespace, "eth", SERVER_CORE)?,
            _ => {
                wire::poll_by_thread(namespace, "eth")?;
                wire::keep_on_core("eth", SERVER_CORE, &before)?;
            }
        }
        Ok(Self {
            process,
            _helper: helper,
            _directory: directory,
        })
    }
}

/// Has the hub ask for the n-th server's link address.
fn reach(hub: &Namespace, n: usize) {
    let nobody = ntp::Client::new(hub, spoke_v4(n));
    let _ = nobody.time();
}

/// `bench/xdp_echo.rs` on a server's interface.
fn program(namespace: &Namespace, what: &str, directory: &TempDir) -> Result<Process, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/release/examples/xdp-echo");
    let mut command = process::command(Some(namespace), path);
    command.args([what, "eth"]);
    let mut process = Process::start("xdp-echo", command, &directory.path().join("echo.log"));
    let attached = wait_until(secs(10), || {
        process.log().contains("attached") || process.ended().is_some()
    });
    match attached && process.ended().is_none() {
        true => Ok(process),
        false => Err(format!("xdp-echo {what}: {}", process.log())),
    }
}

fn config(kind: Kind) -> String {
    match kind {
        Kind::Xdp => format!("{HEAD}xdp eth mode native\n"),
        Kind::XdpTable => {
            // Neighbours differ, so that no two are one.
            let lines = (0..PREFIXES).map(|n| {
                let network = std::net::Ipv4Addr::from((10 << 24) + n * 16);
                let more = if n % 2 == 0 { " version" } else { "" };
                format!("restrict {network} mask 255.255.255.240 limited{more}\n")
            });
            let xdp = format!("{HEAD}xdp eth mode native prefixes {}\n", 2 * PREFIXES);
            std::iter::once(xdp).chain(lines).collect()
        }
        Kind::Echo | Kind::Worker | Kind::WorkerRaw => HEAD.into(),
    }
}

/// How right the daemon's own clock is while one core is flooded; RMS in nanoseconds.
struct Flood {
    /// Frames go to a sink.
    sink_ns: Vec<f64>,
    /// Frames go to the daemon.
    daemon_ns: Vec<f64>,
    /// Requests a second, and the share of them that were answered.
    rate: f64,
    answered: f64,
}

/// A daemon that asks a server by an interface of its own has another one flooded. Here
/// the flood and its answers have the second core, as if from one queue of a card, and
/// the daemon and its server the first.
fn flood(star: &Star, rounds: u32) -> Result<Flood, String> {
    let (own, sink) = (SERVERS.len(), SERVERS.len() + 1);
    let (hub, spoke) = (&star.hub, &star.spokes[own]);
    hub.ip(&format!(
        "link add truth type veth peer name truth netns {}",
        spoke.name()
    ));
    hub.ip("addr add 10.78.0.1/24 dev truth");
    spoke.ip("addr add 10.78.0.2/24 dev truth");
    hub.ip("link set truth up");
    spoke.ip("link set truth up");
    spoke.ip(&format!("route add {SOURCES} via {}", hub_v4(own)));
    let directory = TempDir::new();
    let at = directory.path();
    // Before it throws away the answer to the question for its address.
    reach(hub, sink);
    let _sink = program(&star.spokes[sink], "sink", &directory)?;
    hub.ip(&format!(
        "neigh change {} dev s{sink} nud permanent",
        spoke_v4(sink)
    ));
    let start = |name: &str, namespace: &Namespace, clock: &str, text: &str| {
        let config = directory.write(&format!("{name}.conf"), text);
        let mut command = on_core(namespace, GENERATOR_CORE, Path::new(daemon::BINARY));
        command.args(["run", "--clock", clock, "--metrics", "off", "--control"]);
        command.arg(at.join(name)).arg("-c").arg(config);
        Process::start(name, command, &at.join(format!("{name}.log")))
    };
    let _truth = start(
        "truth",
        hub,
        "none",
        "server 127.127.1.0\nlisten everywhere\n",
    );
    let asking = "server 10.78.0.1 minpoll 0 maxpoll 0\nlisten everywhere\nxdp eth mode native\n";
    let asks = start("asks", spoke, "virtual:0,0", asking);
    let stat = || {
        let mut command = Command::new("taskset");
        command.args([
            "-c",
            GENERATOR_CORE,
            daemon::BINARY,
            "stat",
            "--json",
            "--control",
        ]);
        command.arg(at.join("asks"));
        let output = process::run(command, secs(10));
        serde_json::from_slice::<Value>(&output.stdout).unwrap_or(Value::Null)
    };
    if !wait_until(secs(60), || stat()["sync"] == true) {
        return Err(format!("no synchronisation:\n{}", asks.log()));
    }
    std::thread::sleep(secs(20));
    let mut flood = Flood {
        sink_ns: Vec::new(),
        daemon_ns: Vec::new(),
        rate: f64::NAN,
        answered: f64::NAN,
    };
    for _ in 0..rounds {
        for target in [sink, own] {
            let mut command = generator(hub, SERVER_CORE, target, true);
            command.args([
                "--sources",
                SOURCES,
                "--clients",
                "16384",
                "--timeout",
                "100ms",
            ]);
            command.args(["--rate", FLOOD_RATE, "--duration"]);
            command.arg(format!("{}s", FLOOD.as_secs() + 2));
            let log = at.join("bench.json");
            let _ = std::fs::remove_file(&log);
            let mut bench = Process::start("bench", command, &log);
            std::thread::sleep(secs(1));
            let (began, mut squares, mut count) = (Instant::now(), 0.0, 0.0);
            while began.elapsed() < FLOOD {
                let error_s = stat()["true_error_s"].as_f64();
                let error_s = error_s.ok_or("ptntp stat says nothing of true_error_s")?;
                squares += error_s * error_s;
                count += 1.0;
                std::thread::sleep(LOOK);
            }
            let rms_ns = (squares / f64::max(count, 1.0)).sqrt() * 1e9;
            wait_until(secs(20), || bench.ended().is_some());
            if target == own {
                flood.daemon_ns.push(rms_ns);
                let report: Value = serde_json::from_str(&bench.log())
                    .map_err(|_| format!("ptntp bench: {}", bench.log()))?;
                let number = |name: &str| report["result"][name].as_f64().unwrap_or(f64::NAN);
                flood.rate = number("sent_per_s");
                // More is meant to be sent than can be, so that most answers come too late.
                flood.answered = (number("answered") + number("late")) / number("sent");
            } else {
                flood.sink_ns.push(rms_ns);
            }
        }
    }
    Ok(flood)
}

/// The p99.9 of all requests: one that was lost took longer than any.
fn p99_9_us(cell: &Cell) -> f64 {
    match 1.0 - cell.answered > LOSS_MAX {
        true => f64::INFINITY,
        false => cell.delays_us[2],
    }
}

fn or_lost(delay_us: f64) -> String {
    match delay_us.is_finite() {
        true => format!("{delay_us:.0} µs"),
        false => "lost".into(),
    }
}

/// The tables, in Markdown.
fn text(measured: &[Measured<Load>; SERVERS.len()], flood: &Flood, args: &Args) -> String {
    let of = |kind: Kind| &measured[kind.place()];
    let ours = of(Kind::Xdp);
    let cost = |cell: &Cell| cell.cost_us;
    let rate = |cell: &Cell| cell.answered_per_s;
    let mut text = String::new();
    let out = &mut text;
    let _ = writeln!(
        out,
        "Medians of {} rounds, with the least and the most in brackets; ratios are ptntp-xdp's to \
         the row's, round by round. CPU is the lost progress of a SCHED_IDLE thread on the \
         server's core, 200 ms of calibration before each load. The generator's receiving is on \
         that core too and counted in all rows. The p99.9 is of all requests: `lost` where more \
         than {:.1} % of them had no answer, in most rounds.\n",
        args.rounds,
        100.0 * LOSS_MAX
    );
    let _ = writeln!(
        out,
        "| server | CPU an answer, 100,000/s | ratio | CPU an answer, 20,000/s | ratio | most/s | \
         limit | ratio |"
    );
    let _ = writeln!(out, "| --- | --- | --- | --- | --- | --- | --- | --- |");
    for one in measured {
        let _ = write!(out, "| {} |", one.name);
        for load in [Load::Heavy, Load::Light] {
            let _ = write!(
                out,
                " {:.2} µs | {} |",
                one.median(load, cost),
                ratio(ours.part_of(one, load, cost))
            );
        }
        let limits = one.each(Load::Most, |cell| cell.generator_limits);
        let _ = match one.has(Load::Most) {
            false => writeln!(out, " | | |"),
            true => writeln!(
                out,
                " {:.0}k | {} | {} |",
                one.median(Load::Most, rate) / 1e3,
                match limits.contains(&true) {
                    true => "generator",
                    false => "server",
                },
                ratio(ours.part_of(one, Load::Most, rate))
            ),
        };
    }
    let _ = writeln!(
        out,
        "\n| server | answered, 20,000/s | p50 | p99.9 | ratio | answered, \
         100,000/s | p50 | p99.9 | ratio |"
    );
    let _ = writeln!(
        out,
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    );
    for one in measured {
        let _ = write!(out, "| {} |", one.name);
        for load in [Load::Light, Load::Heavy] {
            let _ = write!(
                out,
                " {:.2} % | {:.0} µs | {} | {} |",
                100.0 * one.median(load, |cell| cell.answered),
                one.median(load, |cell| cell.delays_us[0]),
                or_lost(one.median(load, p99_9_us)),
                ratio(ours.part_of(one, load, p99_9_us))
            );
        }
        let _ = writeln!(out);
    }
    let better = |load: Load, what: fn(&Cell) -> f64| {
        let [one, other] = [Kind::Worker, Kind::WorkerRaw].map(of);
        match one.median(load, what) <= other.median(load, what) {
            true => ratio(ours.part_of(one, load, what)),
            false => ratio(ours.part_of(other, load, what)),
        }
    };
    // Each pair by itself, and of those of a round the median.
    let floods = [Kind::Xdp, Kind::XdpTable].map(|kind| of(kind).each(Load::Flood, rate));
    let rounds = floods[1].chunks(PAIRS).zip(floods[0].chunks(PAIRS));
    let table = rounds.map(|(with, without)| parts(with.to_vec(), without)[1]);
    let mut table = ratio(spread(table.collect()));
    let lost = |cell: &Cell| 1.0 - cell.answered;
    if ours.each(Load::Flood, lost).iter().any(|lost| *lost < 0.01) {
        table += " (the generator was the limit)";
    }
    let rows = [
        (
            "CPU an answer, of the worker's (the cheaper row)",
            "at most 0.35",
            better(Load::Heavy, cost),
        ),
        (
            "CPU an answer, of the echo's",
            "at most 1.4",
            ratio(ours.part_of(of(Kind::Echo), Load::Heavy, cost)),
        ),
        (
            "most answers/s of one core",
            "at least 1.5M",
            format!("{:.2}M", ours.median(Load::Most, rate) / 1e6),
        ),
        (
            "answers/s to a flood with a million prefixes and limits, of those without",
            "at least 0.7",
            table,
        ),
        (
            "p99.9 at 20,000/s, of the worker's (the better row)",
            "no worse",
            better(Load::Light, p99_9_us),
        ),
        (
            "p99.9 at 100,000/s, of the worker's (the better row)",
            "no worse",
            better(Load::Heavy, p99_9_us),
        ),
        (
            "RMS of the true error under a flood, of that beside a sink",
            "at most 1.2",
            ratio(parts(flood.daemon_ns.clone(), &flood.sink_ns)),
        ),
    ];
    let _ = writeln!(out, "\n| | asked | reached |\n| --- | --- | --- |");
    for (what, asked, reached) in rows {
        let _ = writeln!(out, "| {what} | {asked} | {reached} |");
    }
    let _ = writeln!(
        out,
        "\nThe flood was {:.2}M requests/s, of which {:.0} % were answered; the daemon's clock was \
         right to {:.0} ns RMS, and to {:.0} ns while the same went to a sink.",
        flood.rate / 1e6,
        100.0 * flood.answered,
        spread(flood.daemon_ns.clone())[1],
        spread(flood.sink_ns.clone())[1]
    );
    text
}

const BEGIN: &str = "<!-- bench/compare --tier xdp --docs writes from here -->";
const END: &str = "<!-- to here, too -->";

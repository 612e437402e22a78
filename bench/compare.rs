//! ptntp beside other servers, on one core: the tables of `docs/PERFORMANCE.md`.
//! `bench/compare` runs it.
//!
//! Each server has a network namespace, joined by veth to the one in which
//! `ptntp bench` plays thousands of clients. The generator has the first core; the
//! second has the server and, by RPS, all that the kernel does for packets on their
//! way to it. Answers are taken off the wire by the first core where it counts what a
//! request costs and how many there can be, and by the second where it counts when they
//! came (`wire`). What a request costs is the time the second core was not idle, divided by
//! the answers. All servers are asked in turn, many rounds long, and what is printed are
//! medians over the rounds.

#[path = "../tests/common/mod.rs"]
mod common;
#[path = "capacity/measured.rs"]
mod measured;
#[path = "capacity/spinner.rs"]
mod spinner;
#[path = "capacity/table.rs"]
mod table;
#[path = "capacity/wire.rs"]
mod wire;
#[path = "capacity/xdp.rs"]
mod xdp;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::Parser;
use nix::sys::signal::Signal;
use serde_json::Value;

use common::net::{Namespace, Star, hub_v4, spoke_v4};
use common::process::{self, Process};
use common::{TempDir, secs, wait_until};
use measured::{Cell, Measured};
use wire::FarEnd;

/// Who asks: more than any table of recent clients that is small.
const CLIENTS: u32 = 16_384;
const SOURCES: &str = "10.1.0.0/18";
/// Who asks for interleaved answers, and how often.
const MANY_CLIENTS: u32 = 100_000;
const MANY_SOURCES: &str = "10.2.0.0/15";
const MANY_RATE: &str = "60k";
const MANY_SECONDS: u32 = 12;
/// ptntp's access list; the others have none.
const PREFIXES: u32 = 1_000_000;
/// What every server of ours is told.
const HEAD: &str = "listen everywhere\nserver 127.127.1.0\nrestrict default noquery\n";
/// The kernel's rest of the load before has to be over.
const BETWEEN: Duration = Duration::from_millis(200);
const GENERATOR_CORE: &str = "0";
const SERVER_CORE: &str = "1";

/// Capacity, cost and latency of NTP servers on one core, beside ptntp's
#[derive(Parser, Debug)]
#[command(name = "bench/compare", bin_name = "bench/compare")]
struct Args {
    /// How often each server is measured
    #[arg(long, value_name = "N", default_value_t = 10)]
    rounds: u32,

    /// How long each load lasts
    #[arg(long, value_name = "SECONDS", default_value_t = 2)]
    seconds: u32,

    /// What is measured: sockets, or the XDP tier beside them
    #[arg(long, value_name = "TIER", default_value = "sockets")]
    tier: Tier,

    /// Only these servers, first the one the others are compared with
    #[arg(
        long,
        value_name = "NAME",
        value_delimiter = ',',
        default_value = "ptntp,ptntp-busy-poll,yardstick,chronyd,chronyd-large,ntpsec,openntpd,ntpd-rs"
    )]
    servers: Vec<String>,

    /// Another ptntp to compare with: its row is called `other`
    #[arg(long, value_name = "PROGRAM")]
    other: Option<PathBuf>,

    /// Rewrite the tables and the plot of docs/PERFORMANCE.md
    #[arg(long)]
    docs: bool,

    /// What `cargo bench` says to every benchmark.
    #[arg(long = "bench", hide = true)]
    _bench: bool,
}

#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum Tier {
    Sockets,
    Xdp,
}

fn main() -> ExitCode {
    let mut args = Args::parse();
    if args.other.is_some() {
        args.servers.push("other".into());
    }
    let done = match args.tier {
        Tier::Sockets => run(&args),
        Tier::Xdp => xdp::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench/compare: {error}");
            ExitCode::from(2)
        }
    }
}

/// What a server is asked for in each round.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Load {
    /// 20,000 requests a second.
    Light,
    /// 100,000, sixteen at a time, as a network card hands over what came meanwhile.
    Heavy,
    /// As many as it can answer: a request for each answer, 256 under way, and 64 at
    /// a time, which the kernel takes in in one go. (One at a time each would be an
    /// interrupt of its own, which is most of its cost here, and no server's.)
    Full,
    /// The same, for the transmit stamps.
    Stamps,
    /// Interleaved ones of a hundred thousand clients.
    Interleaved,
}

/// Has the server something to show under this load, in this round? Interleaved mode
/// is no question of a few percent: three rounds suffice.
fn is_measured(name: &str, load: Load, round: u32) -> bool {
    let interleaves = ["ptntp", "other", "chronyd", "chronyd-large"].contains(&name);
    match load {
        Load::Interleaved => interleaves && round < 3,
        _ => name != "chronyd-large",
    }
}

const LOADS: [Load; 5] = [
    Load::Light,
    Load::Heavy,
    Load::Full,
    Load::Stamps,
    Load::Interleaved,
];

impl Load {
    fn args(self, seconds: u32) -> Vec<String> {
        let (clients, sources) = match self {
            Self::Interleaved => (MANY_CLIENTS, MANY_SOURCES),
            _ => (CLIENTS, SOURCES),
        };
        // Each client asks some seven times: its third answer is the first that can be
        // interleaved.
        let seconds = if self == Self::Interleaved {
            MANY_SECONDS
        } else {
            seconds
        };
        let words: &[&str] = match self {
            Self::Light => &["--rate", "20k"],
            Self::Heavy => &["--rate", "100k", "--burst", "16"],
            Self::Full | Self::Stamps => &["--closed", "256", "--burst", "64"],
            Self::Interleaved => &["--rate", MANY_RATE, "--burst", "16", "--interleaved"],
        };
        let mut args: Vec<String> = words.iter().map(|word| (*word).into()).collect();
        args.extend(["--sources".into(), sources.into()]);
        args.extend(["--clients".into(), clients.to_string()]);
        args.extend(["--duration".into(), format!("{seconds}s")]);
        args
    }
}

fn run(args: &Args) -> Result<(), String> {
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        return Err("needs two cores: one for the server, one for who asks".into());
    }
    let star = Star::new(args.servers.len());
    let (mut servers, mut far_ends) = (Vec::new(), Vec::new());
    for (n, name) in args.servers.iter().enumerate() {
        let spoke = &star.spokes[n];
        for sources in [SOURCES, MANY_SOURCES] {
            spoke.ip(&format!("route add {sources} via {}", hub_v4(n)));
        }
        steer(spoke, "eth", SERVER_CORE)?;
        far_ends.push(FarEnd::new(&star.hub, n, spoke)?);
        servers.push(Server::start(name, spoke, args)?);
    }
    let mut measured: Vec<_> = args.servers.iter().map(|n| Measured::new(n)).collect();
    let ceiling = ceiling(&star.hub)?;
    for round in 0..args.rounds {
        for load in LOADS {
            for n in 0..servers.len() {
                if !is_measured(&args.servers[n], load, round) {
                    continue;
                }
                eprint!(
                    "\rround {} of {}: {:<20}",
                    round + 1,
                    args.rounds,
                    args.servers[n]
                );
                if let Some(status) = servers[n].process.ended() {
                    return Err(format!("{} has ended: {status}", args.servers[n]));
                }
                servers[n].rest(false);
                if load == Load::Full {
                    far_ends[n].take_by_generator(&star.hub)?;
                }
                let cell = measure(&star.hub, n, load, args.seconds)?;
                if load == Load::Full {
                    far_ends[n].take_by_server(&star.hub)?;
                }
                servers[n].rest(true);
                measured[n].note(load, cell);
            }
        }
    }
    eprintln!("\r{:60}", "");
    for (server, measured) in servers.iter().zip(&mut measured) {
        measured.memory_kib = server.process.status_kib("VmRSS");
    }
    let text = table::text(&measured, ceiling, args);
    print!("{text}");
    if args.docs {
        table::write_docs(&measured, &text).map_err(|error| format!("docs: {error}"))?;
    }
    Ok(())
}

/// One load on one server.
fn measure(hub: &Namespace, n: usize, load: Load, seconds: u32) -> Result<Cell, String> {
    let mut command = on_core(hub, GENERATOR_CORE, Path::new(common::ptntp::BINARY));
    command.args(["bench", &spoke_v4(n).to_string(), "--json", "--realtime"]);
    command.args(load.args(seconds));
    std::thread::sleep(BETWEEN);
    let before = busy_s()?;
    let report = report(command)?;
    Ok(Cell::new(&report, busy_s()? - before))
}

/// What `ptntp bench --json` says.
fn report(command: Command) -> Result<Value, String> {
    let output = process::run(command, secs(120));
    serde_json::from_slice(&output.stdout)
        .map_err(|_| format!("ptntp bench: {}", process::all(&output)))
}

/// Runs what has to succeed; `what` it is for, in a few words.
fn must(what: &str, command: Command) -> Result<(), String> {
    let output = process::run(command, secs(5));
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{what}: {}", process::all(&output))),
    }
}

/// A shell's line in a namespace.
fn shell(namespace: &Namespace, line: &str) -> Command {
    let mut command = process::command(Some(namespace), "sh");
    command.args(["-c", line]);
    command
}

/// How many requests a second the generator can send, on its core.
fn ceiling(hub: &Namespace) -> Result<f64, String> {
    let mut command = on_core(hub, GENERATOR_CORE, Path::new(common::ptntp::BINARY));
    command.args([
        "bench",
        "--self-test",
        "--json",
        "--realtime",
        "--sources",
        SOURCES,
    ]);
    let result = report(command)?;
    result["ceiling_per_s"]
        .as_f64()
        .ok_or_else(|| format!("no ceiling in {result}"))
}

/// How long the server's core has not been idle since it was started.
fn busy_s() -> Result<f64, String> {
    // The kernel counts idle time exactly, and all other by sampling.
    let read = |path: &str| std::fs::read_to_string(path).map_err(|e| format!("{path}: {e}"));
    let uptime = read("/proc/uptime")?;
    let stat = read("/proc/stat")?;
    let seconds = uptime
        .split(' ')
        .next()
        .and_then(|word| word.parse::<f64>().ok());
    let prefix = format!("cpu{SERVER_CORE} ");
    let line = stat.lines().find_map(|line| line.strip_prefix(&prefix));
    let idle: Option<f64> = line.map(|line| {
        let ticks = line
            .split(' ')
            .map(|word| word.parse::<f64>().unwrap_or(0.0));
        // Idle, and waiting for a disk; a hundredth of a second each.
        ticks.skip(3).take(2).sum::<f64>() / 100.0
    });
    seconds
        .zip(idle)
        .map(|(seconds, idle)| seconds - idle)
        .ok_or_else(|| "/proc/stat and /proc/uptime are not as they should be".into())
}

/// Has the kernel deal with what arrives at an interface on one core.
fn steer(namespace: &Namespace, interface: &str, core: &str) -> Result<(), String> {
    let mask = 1 << core.parse::<u32>().expect("a number");
    let script = format!(
        "for queue in /sys/class/net/{interface}/queues/rx-*; do echo {mask:x} > $queue/rps_cpus; done"
    );
    must("receive packet steering", shell(namespace, &script))
}

fn on_core(namespace: &Namespace, core: &str, program: &Path) -> Command {
    let mut command = process::command(Some(namespace), "taskset");
    command.args(["-c", core]).arg(program);
    command
}

/// A server that runs, on its core.
struct Server {
    process: Process,
    /// It takes a core even when nobody asks.
    is_restless: bool,
    _directory: TempDir,
}

impl Server {
    /// Stops it while others are measured, or lets it go on.
    fn rest(&mut self, now: bool) {
        if self.is_restless {
            let signal = if now {
                Signal::SIGSTOP
            } else {
                Signal::SIGCONT
            };
            self.process.signal(signal);
        }
    }

    fn start(name: &str, namespace: &Namespace, args: &Args) -> Result<Self, String> {
        let directory = TempDir::new();
        let at = directory.path().display().to_string();
        let peers = common::peers::root().join("../bench");
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let ours = Path::new(common::ptntp::BINARY);
        let command = |program: &Path, words: &[&str]| {
            let mut command = on_core(namespace, SERVER_CORE, program);
            command.args(words);
            command
        };
        let command = match name {
            "ptntp" | "ptntp-busy-poll" | "other" => {
                let config = directory.write("ntp.conf", access_list());
                let program = args.other.as_deref().filter(|_| name == "other");
                let mut command = command(program.unwrap_or(ours), &["run", "--clock", "none"]);
                command.args(["--metrics", "off", "--control", &format!("{at}/control")]);
                command.arg("-c").arg(config);
                if name == "ptntp-busy-poll" {
                    command.arg("--busy-poll");
                }
                command
            }
            "yardstick" => {
                let address = format!("{}:123", spoke_of(namespace));
                command(&here.join("target/release/examples/yardstick"), &[&address])
            }
            "chronyd" | "chronyd-large" => {
                let mut config = format!(
                    "local stratum 1\nallow all\nuser root\npidfile {at}/pid\ncmdport 0\nbindcmdaddress /\n"
                );
                if name == "chronyd-large" {
                    config += "clientloglimit 100000000\n";
                }
                let config = directory.write("chrony.conf", config);
                let program = common::peers::root().join("usr/sbin/chronyd");
                command(&program, &["-d", "-x", "-f", &config.display().to_string()])
            }
            "ntpsec" => {
                let config = "disable ntp\nserver 127.127.1.0\nrestrict default noquery\n";
                let config = directory.write("ntp.conf", config);
                let program = peers.join("ntpsec/usr/sbin/ntpd");
                command(&program, &["-n", "-c", &config.display().to_string()])
            }
            "openntpd" => {
                let program = peers.join("openntpd/usr/sbin/openntpd");
                let script = directory.write("start", OPENNTPD);
                let mut command = process::command(Some(namespace), "unshare");
                command.args(["-m", "bash"]).arg(script);
                command.args([&at, SERVER_CORE]).arg(program);
                command
            }
            "ntpd-rs" => {
                let config = directory.write("ntp.toml", NTPD_RS);
                let program = peers.join("ntpd-rs/bin/ntp-daemon");
                command(&program, &["-c", &config.display().to_string()])
            }
            other => return Err(format!("{other} is none of the servers")),
        };
        let process = Process::start(name, command, &directory.path().join("log"));
        let mut server = Self {
            process,
            is_restless: name == "ptntp-busy-poll",
            _directory: directory,
        };
        let asked = common::ntp::Client::new(namespace, spoke_of(namespace));
        if wait_until(secs(30), || asked.time().is_some()) {
            server.rest(true);
            return Ok(server);
        }
        Err(format!("{name} does not answer:\n{}", server.process.log()))
    }
}

/// A server's own address, which its namespace alone has.
fn spoke_of(namespace: &Namespace) -> std::net::IpAddr {
    let output = process::run(
        {
            let mut command = process::command(Some(namespace), "ip");
            command.args(["-j", "-4", "addr", "show", "dev", "eth"]);
            command
        },
        secs(5),
    );
    let links: Value = serde_json::from_slice(&output.stdout).expect("ip prints JSON");
    let address = links[0]["addr_info"][0]["local"].as_str();
    address
        .and_then(|text| text.parse().ok())
        .expect("an address on eth")
}

/// A restrict line for each of a million networks, none of which asks.
fn access_list() -> String {
    let lines = (0..PREFIXES).map(|n| {
        // Every second /28 from 100.0.0.0 on.
        let network = std::net::Ipv4Addr::from((100 << 24) + n * 32);
        format!("restrict {network} mask 255.255.255.240 noserve\n")
    });
    std::iter::once(HEAD.to_owned()).chain(lines).collect()
}

/// It gives up its rights to a user of its own, and has fixed places for its files.
const OPENNTPD: &str = r#"set -e
directory=$1 core=$2 program=$3
mount --make-rprivate /
for file in passwd group; do cp /etc/$file "$directory/$file"; done
echo 'ntpd:x:990:990::/var/lib/openntpd/empty:/bin/false' >>"$directory/passwd"
echo 'ntpd:x:990:' >>"$directory/group"
for file in passwd group; do mount --bind "$directory/$file" /etc/$file; done
echo 'listen on *' >"$directory/ntpd.conf"
mount -t tmpfs tmpfs /var/lib
mkdir -p /var/lib/openntpd/run /var/lib/openntpd/db /var/lib/openntpd/empty
exec taskset -c "$core" "$program" -d -f "$directory/ntpd.conf"
"#;

const NTPD_RS: &str = r#"[observability]
log-level = "warn"

[[server]]
listen = "0.0.0.0:123"

[synchronization]
local-stratum = 1
"#;

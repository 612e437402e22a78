//! The command line as types. Help texts are read at 3 a.m.: short, and with
//! the default in them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::cli::old_names::TOOLS;
use crate::config::dialect::Dialect;
use crate::daemon::options::{ClockChoice, IoChoice};
use crate::daemon::rtc::files::ADJTIME;
use crate::load::mix::Mix;
use crate::load::prefix::Prefix;
use crate::sim::parse;
use crate::sim::world::Estimator;
use crate::wire::key::{Key, KeyKind, unknown_kind};

/// A precision time service for Linux: NTP client, server and tools in one binary
#[derive(Parser, Debug)]
#[command(name = "ptntp", version, max_term_width = 100)]
#[command(after_help = "\
Try it:       ptntp demo
Look around:  ptntp stat, ptntp peers, ptntp nics
All options:  ptntp COMMAND --help")]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Run the time service in the foreground
    Run(RunArgs),
    /// Check a configuration file and show what it amounts to
    Check(CheckArgs),
    /// Write a configuration file in the other dialect
    Convert(ConvertArgs),
    /// Say what an address may do, and which line decides
    Access(AccessArgs),
    /// Have the running service read its configuration file again
    Reload(ControlArgs),
    /// List the sources of the running service, as ntpq -p does
    Peers(PeersArgs),
    /// Say whether the clock is synchronised, as ntpstat does
    Stat(StatArgs),
    /// Show the clock's state, as chronyc tracking does
    Tracking(ReportArgs),
    /// List the sources, as chronyc sources does
    Sources(ReportArgs),
    /// Show how well each source's clock is known, as chronyc sourcestats does
    Sourcestats(ReportArgs),
    /// Ask servers for the time, and set the clock by it once, as ntpdate does
    Date(DateArgs),
    /// Print the service's variables, or a source's, as ntpq -c rv does
    #[command(hide = true)]
    Variables(VariablesArgs),
    /// List the sources with their status words, as ntpq -c as does
    #[command(hide = true)]
    Associations(AssociationsArgs),
    /// Show which network interfaces can stamp packets, and how well
    Nics(NicsArgs),
    /// Read or set the real-time clock, as hwclock does, or say how right it is
    #[command(subcommand)]
    Rtc(RtcCommand),
    /// Show it all on loopback: a server, and a client half a second off
    Demo(DemoArgs),
    /// Simulate a clock, a network and servers, and show how right the clock is
    Sim(SimArgs),
    /// Measure how many requests an NTP server answers, how fast, and how well it stamps
    Bench(BenchArgs),
    /// Make a key for a key file, as chronyc keygen does
    Keygen(KeygenArgs),
    /// Write man pages or shell completions
    #[command(hide = true, subcommand)]
    Generate(Generate),
}

/// Options of `run`.
#[derive(Args, Debug, Clone)]
#[command(after_help = "\
Without -c nothing is steered unless --clock system is written, nobody is asked but --server and
--pool, and only this host (127.0.0.1 and ::1) is served.

Examples:
  ptntp run -c /etc/ntp.conf                    take over from ntpd
  ptntp run --server ntp.example.net            observe one server
  ptntp run -q -g -c /etc/ntp.conf              set the clock once, however far, and exit
  ptntp run --clock virtual:0.5,50 --server A   steer a clock in software, not the system's

Exit status: 0 when stopped as asked, 1 when it could not start or go on, 3 when the clock is beyond
the panic limit.")]
pub struct RunArgs {
    /// Configuration file, such as /etc/ntp.conf
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Language of the configuration file; auto recognises it by its words
    #[arg(long, value_name = "NAME", default_value = "auto", value_parser = dialects())]
    pub dialect: Dialect,

    /// Ask this server (may be repeated); ntp.conf options may follow in the same quotes
    #[arg(long, value_name = "NAME", help_heading = "Sources")]
    pub server: Vec<String>,

    /// Ask several servers behind this name (may be repeated)
    #[arg(long, value_name = "NAME", help_heading = "Sources")]
    pub pool: Vec<String>,

    /// Clock to steer: system, none (observe only), or virtual[:OFFSET_S,FREQ_PPM], a clock in
    /// software that starts that far ahead and runs that much fast [default: system with -c,
    /// none without]
    #[arg(long, value_name = "CLOCK", help_heading = "Clock")]
    pub clock: Option<ClockChoice>,

    /// Observe, never steer; the same as --clock none
    #[arg(long, help_heading = "Clock", conflicts_with = "clock")]
    pub no_clock: bool,

    /// Set the clock once, with bursts, and exit; fails if nobody gives the time within 30 s
    #[arg(short = 'q', long, help_heading = "Clock")]
    pub once: bool,

    /// Let the first correction exceed the panic limit (1000 s)
    #[arg(short = 'g', long = "panicgate", help_heading = "Clock")]
    pub panicgate: bool,

    /// Set the clock from the real-time clock first, before anybody is asked; with `rtcfile` its own
    /// error is taken out
    #[arg(short = 's', long = "from-rtc", help_heading = "Clock")]
    pub from_rtc: bool,

    /// UDP port to answer on [default: 123, or 1123 without the right to it]
    #[arg(long, value_name = "PORT", help_heading = "Serving",
          value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,

    /// Look for requests all the time instead of sleeping until there are some: sooner answers, and
    /// a whole core for each of the server's threads
    #[arg(long, help_heading = "Serving")]
    pub busy_poll: bool,

    /// Answer plain requests that arrive on this interface before the network stack sees them (may
    /// be repeated; * for all that can); options of `xdp` may follow in the same quotes
    #[arg(long, value_name = "IF", help_heading = "Serving")]
    pub xdp: Vec<String>,

    /// Control socket for stat and peers
    #[arg(long, value_name = "PATH", help_heading = "Serving")]
    pub control: Option<PathBuf>,

    /// Where Prometheus may scrape: ADDRESS:PORT, a port on 127.0.0.1, or off [default:
    /// 127.0.0.1:9975]
    #[arg(long, value_name = "ADDR|off", help_heading = "Serving", value_parser = metrics)]
    pub metrics: Option<Metrics>,

    /// How to wait for packets; auto takes io_uring where the kernel allows it
    #[arg(long, value_name = "LOOP", default_value = "auto", help_heading = "Process",
          value_parser = PossibleValuesParser::new(IoChoice::WORDS).try_map(|word| word.parse::<IoChoice>()))]
    pub io: IoChoice,

    /// The least important messages to log
    #[arg(long, value_name = "LEVEL", default_value = "info", help_heading = "Process",
          value_parser = PossibleValuesParser::new(["error", "warn", "info", "debug", "trace"])
              .try_map(|word| word.parse::<log::LevelFilter>()))]
    pub log_level: log::LevelFilter,
}

/// What `--metrics` says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Metrics {
    /// No scraping.
    Off,
    /// Answer scrapes there.
    At(SocketAddr),
}

fn dialects() -> impl TypedValueParser<Value = Dialect> {
    PossibleValuesParser::new(["auto", "ntp", "chrony"]).map(|word| match word.as_str() {
        "ntp" => Dialect::Ntp,
        "chrony" => Dialect::Chrony,
        _ => Dialect::Auto,
    })
}

fn metrics(text: &str) -> Result<Metrics, String> {
    if text == "off" {
        return Ok(Metrics::Off);
    }
    if let Ok(address) = text.parse() {
        return Ok(Metrics::At(address));
    }
    let port = text.strip_prefix(':').unwrap_or(text);
    match port.parse() {
        Ok(port) => Ok(Metrics::At((IpAddr::V4(Ipv4Addr::LOCALHOST), port).into())),
        Err(_) => Err("expected ADDRESS:PORT, [ADDRESS]:PORT, a port, or off".to_owned()),
    }
}

/// Options of `check`.
#[derive(Args, Debug, Clone)]
#[command(after_help = "\
Exit status: 0 when the file can be used (warnings included), 1 when it has errors.")]
pub struct CheckArgs {
    /// The file
    #[arg(value_name = "FILE", default_value = "/etc/ntp.conf")]
    pub file: PathBuf,

    /// Language of the file; auto recognises it by its words
    #[arg(long, value_name = "NAME", default_value = "auto", value_parser = dialects())]
    pub dialect: Dialect,

    /// Say what each line does
    #[arg(long)]
    pub explain: bool,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Options of `keygen`.
#[derive(Args, Debug, Clone)]
#[command(after_help = "\
Examples:
  ptntp keygen 10 AES128 >>/etc/chrony.keys       for `keyfile` of chrony.conf
  ptntp keygen --ntp 10 AES128 >>/etc/ntp.keys    for `keys` of ntp.conf, with `trustedkey 10`")]
pub struct KeygenArgs {
    /// Its number
    #[arg(value_name = "ID", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub id: u32,

    /// How it signs: MD5, SHA1, SHA256, SHA384, SHA512, AES128, AES256
    #[arg(value_name = "TYPE", default_value = "SHA1", value_parser = key_kind)]
    pub kind: KeyKind,

    /// How long it is, unless its type says so [default: 160]
    #[arg(value_name = "BITS", value_parser = clap::value_parser!(u16).range(80..=4096))]
    pub bits: Option<u16>,

    /// Print it as ntpd reads it
    #[arg(long)]
    pub ntp: bool,
}

fn key_kind(name: &str) -> Result<KeyKind, String> {
    KeyKind::from_name(name).ok_or_else(|| unknown_kind(name))
}

/// Options of `convert`.
#[derive(Args, Debug, Clone)]
#[command(after_help = "\
An ntp.conf becomes a chrony.conf, a chrony.conf an ntp.conf with ptntp's own words. What the other
dialect can't say is said on standard error, and as a comment in its place.

Exit status: 0 when everything could be said, 1 when the file has errors, 2 when something was lost.")]
pub struct ConvertArgs {
    /// The file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// Language of the file; auto recognises it by its words
    #[arg(long, value_name = "NAME", default_value = "auto", value_parser = dialects())]
    pub dialect: Dialect,

    /// Language to write [default: the other one]
    #[arg(long, value_name = "NAME", default_value = "auto", value_parser = dialects())]
    pub to: Dialect,
}

/// Options of `access`.
#[derive(Args, Debug, Clone)]
pub struct AccessArgs {
    /// The address
    #[arg(value_name = "ADDRESS")]
    pub address: IpAddr,

    /// Configuration file [default: /etc/ntp.conf, or /etc/chrony.conf where that is missing]
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Language of the file; auto recognises it by its words
    #[arg(long, value_name = "NAME", default_value = "auto", value_parser = dialects())]
    pub dialect: Dialect,

    /// Port that the address sends from; 123 is what `ntpport` means
    #[arg(long, value_name = "PORT", default_value_t = 40_000)]
    pub port: u16,

    /// As if the address were one of the servers that are asked (`restrict source`)
    #[arg(long)]
    pub source: bool,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Which running service to ask.
#[derive(Args, Debug, Clone)]
pub struct ControlArgs {
    /// Control socket of the service [default: /run/ptntp/control.sock, or this user's]
    #[arg(long, value_name = "PATH")]
    pub control: Option<PathBuf>,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Options of `peers`.
#[derive(Args, Debug, Clone)]
#[command(after_help = "\
First column: * our reference, + combined with it, - outlier, x falseticker, blank not usable.
Delay, offset and jitter are in milliseconds; a positive offset means our clock is behind.")]
pub struct PeersArgs {
    /// Which service.
    #[command(flatten)]
    pub control: ControlArgs,

    /// Show addresses, not names
    #[arg(short, long)]
    pub numeric: bool,

    /// Show names in full and who took the stamps (Daemon, Kernel, Hardware; transmit, then receive)
    #[arg(short, long)]
    pub wide: bool,
}

/// Options of `tracking`, `sources` and `sourcestats`.
#[derive(Args, Debug, Clone)]
#[command(after_help = "\
Signs are chrony's: a positive offset means that our clock is ahead. Runs of residuals (NR) are not
counted.")]
pub struct ReportArgs {
    /// Which service.
    #[command(flatten)]
    pub control: ControlArgs,

    /// Show addresses, not names
    #[arg(short, long)]
    pub numeric: bool,

    /// Print comma separated values, without heading, in seconds and ppm
    #[arg(short, long)]
    pub csv: bool,

    /// Explain the columns
    #[arg(short, long)]
    pub verbose: bool,

    /// Also show sources whose name has no address yet
    #[arg(short, long)]
    pub all: bool,
}

/// Options of `stat`.
#[derive(Args, Debug, Clone)]
#[command(after_help = "\
Exit status: 0 synchronised, 1 not synchronised, 2 no service to ask, 3 wrong usage.")]
pub struct StatArgs {
    /// Which service.
    #[command(flatten)]
    pub control: ControlArgs,

    /// Also show offset, frequency and error bounds
    #[arg(short, long)]
    pub verbose: bool,

    /// Wait until the clock follows a server (the local clock does not count), at most this long
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32))]
    pub wait: Option<u32>,
}

/// Options of `variables`.
#[derive(Args, Debug, Clone)]
pub struct VariablesArgs {
    /// Which service.
    #[command(flatten)]
    pub control: ControlArgs,

    /// Of this source: its association id, or &1 for the first of the list
    #[arg(value_name = "ASSOCIATION")]
    pub association: Option<String>,
}

/// Options of `associations`.
#[derive(Args, Debug, Clone)]
pub struct AssociationsArgs {
    /// Which service.
    #[command(flatten)]
    pub control: ControlArgs,
}

/// Options of `date`.
#[derive(Args, Debug, Clone)]
#[command(after_help = "\
Each server is asked --samples times, 2 s apart. An offset of 0.5 s or more is stepped, a smaller one
slewed by the kernel, at 500 ppm (1 ms takes 2 s). Not beside a running service: that holds NTP's port,
and `the NTP socket is in use, exiting` is said.

Examples:
  ptntp date -q ntp.example.net       how far off is this clock?
  ptntp date -b ntp1 ntp2 ntp3        set it now, by those that agree

Exit status: 0 when the clock was set (with -q and -d: when it could have been), 1 when not, 2 wrong
usage.")]
pub struct DateArgs {
    /// Name or address of a server, perhaps with its port: 192.0.2.1, [2001:db8::1]:123
    #[arg(value_name = "SERVER[:PORT]", required = true)]
    pub servers: Vec<String>,

    /// Ask and print, don't set the clock
    #[arg(short, long)]
    pub query: bool,

    /// Step the clock, whatever the offset
    #[arg(short = 'b', long, conflicts_with = "slew")]
    pub step: bool,

    /// Slew the clock, whatever the offset
    #[arg(short = 'B', long)]
    pub slew: bool,

    /// Set the clock also where something else holds NTP's port
    #[arg(short, long)]
    pub unprivileged: bool,

    /// Like -q, with every sample
    #[arg(short, long)]
    pub debug: bool,

    /// Ask each server so many times
    #[arg(short = 'p', long, value_name = "N", default_value_t = 4,
          value_parser = clap::value_parser!(u8).range(1..=8))]
    pub samples: u8,

    /// Wait so long for an answer (3 at most are waited)
    #[arg(short, long, value_name = "SECONDS", default_value_t = 1.0, value_parser = date_timeout)]
    pub timeout: f64,

    /// NTP version of the requests
    #[arg(short = 'o', long, value_name = "V", default_value_t = 4,
          value_parser = clap::value_parser!(u8).range(1..=4))]
    pub ntp_version: u8,

    /// Sign with this key of the key file, and believe signed answers alone
    #[arg(short = 'a', long, value_name = "ID")]
    pub key: Option<u32>,

    /// The key file, as ntpd reads it
    #[arg(short, long, value_name = "FILE", default_value = "/etc/ntp.keys")]
    pub keyfile: PathBuf,

    /// Say it to syslog, not here
    #[arg(short, long)]
    pub syslog: bool,

    /// Say the program's version first
    #[arg(short, long)]
    pub verbose: bool,

    /// Use IPv4 only
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    pub ipv4: bool,

    /// Use IPv6 only
    #[arg(short = '6', long)]
    pub ipv6: bool,

    /// Print JSON
    #[arg(long, conflicts_with = "syslog")]
    pub json: bool,

    /// ntpdate's reckoning of how long keys take; without use here
    #[arg(short = 'e', hide = true, value_name = "SECONDS")]
    pub authdelay: Option<f64>,

    /// Clock to set: system, none, or virtual[:OFFSET_S,FREQ_PPM], which ends with the command
    #[arg(long, value_name = "CLOCK", hide = true, default_value = "system")]
    pub clock: ClockChoice,

    /// From this offset on the clock is stepped
    #[arg(
        long,
        value_name = "SECONDS",
        hide = true,
        default_value_t = 0.5,
        allow_negative_numbers = false
    )]
    pub step_from: f64,

    /// Print what ntpdig prints
    #[arg(long, hide = true)]
    pub as_ntpdig: bool,
}

fn date_timeout(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok();
    seconds
        .filter(|seconds| (0.01..=3600.0).contains(seconds))
        .ok_or_else(|| "expected seconds, 0.01 to 3600".to_owned())
}

/// Options of `nics`.
#[derive(Args, Debug, Clone)]
pub struct NicsArgs {
    /// Only these interfaces [default: all]
    #[arg(value_name = "INTERFACE")]
    pub interfaces: Vec<String>,

    /// Whom to ask what stamps really arrive, if one runs, and in what form to print.
    #[command(flatten)]
    pub control: ControlArgs,
}

/// What to do with the real-time clock.
#[derive(Subcommand, Debug)]
pub enum RtcCommand {
    /// Print its time, to the microsecond, as hwclock -r does
    Read(RtcArgs),
    /// Set it from the system clock, so that its seconds begin with the system clock's, as hwclock
    /// -w does
    #[command(after_help = "\
Takes up to 20 seconds: where its seconds begin is measured, before and after.
Exit status: 0 when it was set (to the nearest second where its chip allows no more), 1 when not.")]
    Write(RtcArgs),
    /// Show how right it is, what it gains, and who sets it
    Status(RtcStatusArgs),
}

/// Which real-time clock, and what it keeps.
#[derive(Args, Debug, Clone)]
pub struct RtcArgs {
    /// The clock [default: /dev/rtc0, or /dev/rtc]
    #[arg(short = 'f', long, value_name = "PATH", visible_alias = "rtc")]
    pub device: Option<PathBuf>,

    /// It is on UTC [default: as the third line of --adjfile says, else UTC]
    #[arg(short, long, conflicts_with = "localtime")]
    pub utc: bool,

    /// It is on local time
    #[arg(short, long)]
    pub localtime: bool,

    /// hwclock's file; `write` renews it
    #[arg(long, value_name = "FILE", default_value = ADJTIME)]
    pub adjfile: PathBuf,
}

/// Options of `rtc status`.
#[derive(Args, Debug, Clone)]
pub struct RtcStatusArgs {
    /// Which clock.
    #[command(flatten)]
    pub clock: RtcArgs,

    /// Where the service keeps what it measured, the configuration's `rtcfile`
    #[arg(long, value_name = "FILE", default_value = "/var/lib/ptntp/rtc")]
    pub rtcfile: PathBuf,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Options of `demo`.
#[derive(Args, Debug, Clone)]
#[command(after_help = "\
Two real services on loopback, each with a clock in software: the system's clock is not touched.
Exit status: 0 when the client's true error fell below 100 µs, 1 when it did not within a minute.")]
pub struct DemoArgs {
    /// Keep both running, to explore them with the other commands, until Ctrl-C
    #[arg(long)]
    pub stay: bool,
}

/// Options of `sim`.
#[derive(Args, Debug, Clone)]
#[command(after_help = "\
The service's own code in virtual time: days pass in seconds, and the same seed gives the same
figures. A scenario is a small text file; docs/SIMULATION.md has its words.

Examples:
  ptntp sim lan --plot                          see a clock become right
  ptntp sim wan --set 'server a minpoll 6 maxpoll 6' --for 2d
  ptntp sim office.sim --json                   a scenario of your own

Exit status: 0 when the error bound held all the time and what the scenario expects came out, 1
when not, 2 when the scenario can't be read.")]
pub struct SimArgs {
    /// Name of a scenario that comes with ptntp (--list), or a file
    #[arg(value_name = "SCENARIO", required_unless_present = "list")]
    pub scenario: Option<String>,

    /// List the scenarios that come with ptntp
    #[arg(long)]
    pub list: bool,

    /// Chance repeats with its seed
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,

    /// Run this long, such as 90s, 12h or 2d [default: as the scenario says]
    #[arg(long = "for", value_name = "TIME", value_parser = simulated)]
    pub length_s: Option<f64>,

    /// Append this line to the scenario (may be repeated), such as 'clock wander 1e-8'
    #[arg(long, value_name = "LINE")]
    pub set: Vec<String>,

    /// Print JSON
    #[arg(long)]
    pub json: bool,

    /// Draw error, bound and poll interval: here, or as SVG into FILE
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true)]
    pub plot: Option<Option<PathBuf>>,

    /// Write each second's figures into FILE, as CSV
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,

    /// Also print what the service would have logged
    #[arg(short, long)]
    pub verbose: bool,

    /// Who estimates
    #[arg(long, hide = true, default_value = "node",
          value_parser = estimators())]
    pub estimator: Estimator,
}

fn estimators() -> impl TypedValueParser<Value = Estimator> {
    PossibleValuesParser::new(Estimator::ALL.map(Estimator::name)).map(|word| {
        let named = Estimator::ALL.into_iter().find(|e| e.name() == word);
        named.unwrap_or_default()
    })
}

fn simulated(text: &str) -> Result<f64, String> {
    parse::length(text)
}

/// Options of `bench`.
#[derive(Args, Debug, Clone)]
#[command(after_help = "\
Only for servers of your own: this is a load generator. Rates may be written 100k or 1.5M, times
500ms, 5s or 1m.

Examples:
  ptntp bench 192.168.1.1                             1,000 requests/s for 5 s: a first look
  ptntp bench 192.168.1.1 --rate 100k                 is the server good for this?
  ptntp bench 192.168.1.1 --search                    what is it good for?
  ptntp bench 192.168.1.1 --ramp 10k..500k --html r.html
  ptntp bench 10.0.0.1 --search --sources 10.1.0.0/16 as root: 65,000 clients by raw frames
  ptntp bench 10.0.0.1 --mix basic=90,interleaved=10 --sources 10.1.0.0/16 --rate 120k

With --sources the server's host must route that prefix back here, such as by
`ip route add 10.1.0.0/16 via THIS-HOST`. docs/BENCH.md says what the figures mean.

Exit status: 0 measured, 1 not measured or not to the end (no answers, no rights, no route), 2 wrong
usage, 3 the generator was the limit and not the server (or nothing was steady enough to say), 130
interrupted (the result so far is printed).")]
pub struct BenchArgs {
    /// Name or address of the server, perhaps with its port: 192.0.2.1, [2001:db8::1]:123,
    /// fe80::1%eth0
    #[arg(value_name = "SERVER[:PORT]", required_unless_present = "self_test")]
    pub server: Option<String>,

    /// Use IPv4 only, where SERVER is a name
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    pub ipv4: bool,

    /// Use IPv6 only, where SERVER is a name
    #[arg(short = '6', long)]
    pub ipv6: bool,

    /// Requests a second, whatever comes back (open loop) [default: 1k]
    #[arg(short, long, value_name = "N", help_heading = "Load", value_parser = bench_rate,
          conflicts_with_all = ["closed", "ramp", "search"])]
    pub rate: Option<f64>,

    /// A new request for each answer, so many under way at all times (closed loop)
    #[arg(long, value_name = "N", help_heading = "Load",
          value_parser = clap::value_parser!(u32).range(1..=1_000_000),
          conflicts_with_all = ["ramp", "search"])]
    pub closed: Option<u32>,

    /// Send so many requests at a time, as network cards hand them over
    #[arg(
        long,
        value_name = "N",
        help_heading = "Load",
        default_value = "1",
        hide_default_value = true
    )]
    pub burst: NonZeroU32,

    /// Raise the rate in ten steps, each for --duration
    #[arg(long, value_name = "FROM..TO", help_heading = "Load", value_parser = bench_ramp,
          conflicts_with = "search")]
    pub ramp: Option<(f64, f64)>,

    /// Find the highest rate that is answered, each one tried for --duration
    #[arg(long, help_heading = "Load")]
    pub search: bool,

    /// With --search: so many percent may be lost or refused [default: 1]
    #[arg(long, value_name = "PERCENT", help_heading = "Load", requires = "search",
          value_parser = bench_percent)]
    pub max_loss: Option<f64>,

    /// How long to send [default: 5s; a step of --ramp or --search 1s]
    #[arg(short, long, value_name = "TIME", help_heading = "Load", value_parser = bench_seconds)]
    pub duration: Option<f64>,

    /// How long to wait for an answer
    #[arg(long, value_name = "TIME", default_value = "1s", help_heading = "Load",
          value_parser = bench_seconds)]
    pub timeout: f64,

    /// Send from so many ports [default: 64; with --sources 4096]
    #[arg(long, value_name = "N", help_heading = "Clients",
          value_parser = clap::value_parser!(u32).range(1..=28_672))]
    pub ports: Option<u32>,

    /// Send from the addresses of this prefix, as raw frames (needs CAP_NET_RAW)
    #[arg(long, value_name = "PREFIX", help_heading = "Clients")]
    pub sources: Option<Prefix>,

    /// Of --sources, use so many addresses [default: all, at most 1,000,000]
    #[arg(long, value_name = "N", help_heading = "Clients", requires = "sources",
          value_parser = clap::value_parser!(u32).range(1..=16_000_000))]
    pub clients: Option<u32>,

    /// Send and receive by XDP programs on this interface, for rates that sockets can't reach (as
    /// root)
    #[arg(long, value_name = "IF", help_heading = "Clients",
          conflicts_with_all = ["closed", "interleaved", "key", "mix"])]
    pub xdp: Option<String>,

    /// Generate from so many cores
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Clients",
          value_parser = clap::value_parser!(u32).range(1..=64))]
    pub threads: u32,

    /// NTP version of the requests
    #[arg(long, value_name = "V", default_value_t = 4, help_heading = "Requests",
          value_parser = clap::value_parser!(u8).range(1..=4))]
    pub ntp_version: u8,

    /// Ask for interleaved answers (RFC 9769)
    #[arg(long, help_heading = "Requests")]
    pub interleaved: bool,

    /// Sign with this key, ID:TYPE:SECRET such as 10:SHA1:HEX:6b6579 (others may see it in the
    /// list of processes); TYPE is MD5, SHA1, SHA256, SHA384, SHA512, AES128 or AES256
    #[arg(long, value_name = "KEY", help_heading = "Requests")]
    pub key: Option<Key>,

    /// Kinds of clients and their shares, such as basic=90,interleaved=10; a kind is words joined
    /// by +: basic, interleaved, key, v3
    #[arg(long, value_name = "MIX", help_heading = "Requests",
          conflicts_with_all = ["interleaved", "ntp_version"])]
    pub mix: Option<Mix>,

    /// Let no ordinary program take a core from the generator (needs CAP_SYS_NICE); the server
    /// should have cores of its own
    #[arg(long, help_heading = "Process")]
    pub realtime: bool,

    /// Measure the generator itself, against a sink on this machine
    #[arg(long, help_heading = "Process")]
    pub self_test: bool,

    /// Allow a server, and --sources, with public addresses
    #[arg(long, help_heading = "Process")]
    pub i_own_this_server: bool,

    /// Print JSON
    #[arg(long, help_heading = "Result")]
    pub json: bool,

    /// Also write the result with its curves, as a web page of one file
    #[arg(long, value_name = "FILE", help_heading = "Result")]
    pub html: Option<PathBuf>,
}

/// `1000`, `100k`, `1.5M`.
fn bench_rate(text: &str) -> Result<f64, String> {
    let (number, factor) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 1e3),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 1e6),
        _ => (text, 1.0),
    };
    let rate = number.parse().map(|n: f64| n * factor);
    rate.ok()
        .filter(|rate| (1.0..=1e8).contains(rate))
        .ok_or_else(|| "expected 1 to 100M, such as 500, 100k or 1.5M".to_owned())
}

fn bench_ramp(text: &str) -> Result<(f64, f64), String> {
    let wrong = || "expected FROM..TO, such as 10k..500k, rising".to_owned();
    let (from, to) = text.split_once("..").ok_or_else(wrong)?;
    let (from, to) = (bench_rate(from)?, bench_rate(to)?);
    (from < to).then_some((from, to)).ok_or_else(wrong)
}

fn bench_percent(text: &str) -> Result<f64, String> {
    let percent = text.trim_end_matches('%').parse();
    let percent = percent
        .ok()
        .filter(|percent| (0.0..100.0).contains(percent));
    percent.ok_or_else(|| "expected a percentage, 0 to below 100".to_owned())
}

/// `500ms`, `5s`, `5`, `1m`.
fn bench_seconds(text: &str) -> Result<f64, String> {
    let units = [("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("", 1.0)];
    let seconds = units.iter().find_map(|(unit, factor)| {
        let number: f64 = text.strip_suffix(unit)?.parse().ok()?;
        Some(number * factor)
    });
    seconds
        .filter(|seconds| (0.01..=3600.0).contains(seconds))
        .ok_or_else(|| "expected 10ms to 60m, such as 500ms, 5s or 1m".to_owned())
}

/// What to generate.
#[derive(Subcommand, Debug)]
pub enum Generate {
    /// Write the man pages into a directory
    Man {
        /// The directory; made if it is not there
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
    /// Make links by the names of the tools that ptntp stands in for; never over a file
    Links(LinksArgs),
    /// Print the table of every directive of a dialect
    Directives {
        /// The dialect
        #[arg(value_name = "NAME", value_parser = dialects())]
        dialect: Dialect,
    },
    /// Print the completions of a shell
    Completions {
        /// The shell
        #[arg(value_name = "SHELL")]
        shell: Shell,
    },
}

/// Options of `generate links`.
#[derive(Args, Debug, Clone)]
#[command(after_help = "\
Exit status: 0 when all links are there, 1 when something else has one of the names.")]
pub struct LinksArgs {
    /// The directory; made if it is not there
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,

    /// Only these tools [default: all]
    #[arg(value_name = "TOOL",
          value_parser = PossibleValuesParser::new(TOOLS.map(|(name, _)| name)))]
    pub tools: Vec<String>,

    /// What the links point to, such as ptntp where that is to lie beside them [default: this
    /// program]
    #[arg(long, value_name = "PATH")]
    pub target: Option<PathBuf>,

    /// Also write manual pages by these names there, such as /usr/share/man/man1
    #[arg(long, value_name = "DIR")]
    pub man: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn run(arguments: &[&str]) -> Result<RunArgs, clap::Error> {
        match Cli::try_parse_from(["ptntp", "run"].iter().chain(arguments))?.command {
            Command::Run(args) => Ok(args),
            other => panic!("not run: {other:?}"),
        }
    }

    #[test]
    fn the_definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn metrics_take_an_address_a_port_or_off() {
        let at = |text: &str| Some(Metrics::At(text.parse().unwrap()));
        for (text, expected) in [
            ("off", Some(Metrics::Off)),
            ("9000", at("127.0.0.1:9000")),
            (":9000", at("127.0.0.1:9000")),
            ("0.0.0.0:1", at("0.0.0.0:1")),
            ("[::1]:9000", at("[::1]:9000")),
        ] {
            assert_eq!(run(&["--metrics", text]).unwrap().metrics, expected);
        }
        assert!(run(&["--metrics", "localhost"]).is_err());
    }

    #[test]
    fn rates_and_times_have_units() {
        assert_eq!(bench_rate("1.5M"), Ok(1.5e6));
        assert_eq!(bench_rate("100k"), Ok(1e5));
        assert_eq!(bench_rate("7"), Ok(7.0));
        assert_eq!(bench_ramp("1k..2k"), Ok((1e3, 2e3)));
        assert_eq!(bench_seconds("500ms"), Ok(0.5));
        assert_eq!(bench_seconds("2m"), Ok(120.0));
        assert_eq!(bench_percent("0.5%"), Ok(0.5));
        assert!(bench_rate("0").is_err() && bench_rate("k").is_err());
        assert!(bench_ramp("2k..1k").is_err() && bench_ramp("2k").is_err());
        assert!(bench_seconds("1h").is_err() && bench_percent("100").is_err());
    }

    #[test]
    fn two_clocks_are_one_too_many() {
        let error = run(&["--no-clock", "--clock", "system"]).unwrap_err();
        assert_eq!(error.kind(), clap::error::ErrorKind::ArgumentConflict);
    }

    #[test]
    fn a_wrong_clock_is_explained() {
        let error = run(&["--clock", "virtual:abc"]).unwrap_err().to_string();
        assert!(
            error.contains("'abc' is not a number of seconds"),
            "{error}"
        );
    }
}

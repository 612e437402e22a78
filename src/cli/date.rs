//! `ptntp date`: servers are asked, and the clock is set once, in the words of ntpdate (or
//! of ntpdig, its heir). The asking is `daemon/survey`; whom to believe is decided as the
//! daemon decides it (RFC 5905 section 11.2).

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::net::UnixDatagram;
use std::process::ExitCode;
use std::{io, process};

use serde::Serialize;

use crate::cli::args::DateArgs;
use crate::cli::ask;
use crate::cli::bench::split_port;
use crate::client::options::SourceOptions;
use crate::config::Family;
use crate::config::key_file;
use crate::config::keys::KeyFormat;
use crate::daemon::clock::Clock;
use crate::daemon::options::ClockChoice;
use crate::daemon::resolve::Question;
use crate::daemon::survey::{Found, Plan, survey};
use crate::linux::timex::{Right, Timex};
use crate::linux::udp::ServerSocket;
use crate::linux::{clock, zone};
use crate::mechanisms::Mechanisms;
use crate::sync::command::ClockCommand;
use crate::sync::filter::Estimate;
use crate::sync::policy::SelectPolicy;
use crate::sync::select::{Candidate, select};
use crate::time::civil::Civil;
use crate::time::duration::NtpDuration;
use crate::time::instant::WallInstant;
use crate::time::units::PollExponent;
use crate::wire::key::KeyTable;
use crate::wire::packet::Leap;

/// Between requests to a server: what servers that limit rates allow (ntpd's `discard
/// minimum 2`).
const INTERVAL: PollExponent = PollExponent::new(1);
/// The same where an answer may take longer than that.
const INTERVAL_SLOW: PollExponent = PollExponent::new(2);
const NTP_PORT: u16 = 123;
/// ntpdate's sentence.
const IN_USE: &str = "the NTP socket is in use, exiting";
const SYSLOG: &str = "/dev/log";
/// Facility daemon, notice and error (RFC 5424 section 6.2.1).
const SYSLOG_NOTICE: u8 = 3 * 8 + 5;
const SYSLOG_ERROR: u8 = 3 * 8 + 3;

/// Asks, prints and sets.
pub fn run(args: &DateArgs) -> ExitCode {
    let voice = match Voice::new(args) {
        Ok(voice) => voice,
        Err(error) => {
            eprintln!("ptntp date: syslog, {SYSLOG}: {error}");
            return ExitCode::FAILURE;
        }
    };
    if args.verbose {
        voice.say(&format!("ptntp {}", env!("CARGO_PKG_VERSION")));
    }
    match set(args, &voice) {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            voice.complain(&sentence);
            ExitCode::FAILURE
        }
    }
}

fn set(args: &DateArgs, voice: &Voice) -> Result<(), String> {
    let setter = Setter::new(args)?;
    // Held meanwhile, so that no service starts just now.
    let _ports = if args.unprivileged || matches!(setter, Setter::Nobody) {
        Vec::new()
    } else {
        hold_ports()?
    };
    let servers = look_up(args, voice)?;
    let keys = keys(args)?;
    let clock = match args.clock {
        ClockChoice::Virtual { error, frequency } => Clock::virtual_from(error, frequency),
        ClockChoice::System | ClockChoice::None => Clock::Observed,
    };
    let addresses: Vec<SocketAddr> = servers.iter().map(|server| server.address).collect();
    let found = survey(&addresses, &plan(args), &keys, &clock)
        .map_err(|error| format!("cannot ask: {error}"))?;

    let chosen = choose(&found);
    let mut outcome = Outcome::new(args, &servers, &found, chosen);
    // What the servers' time is told from: soon it may be another.
    let asked = clock::realtime();
    let estimate = chosen.and_then(|index| found[index].estimate);
    let done = match &estimate {
        Some(estimate) => setter.set(estimate.offset, outcome.step, clock),
        None => Err("no server suitable for synchronization found".to_owned()),
    };
    outcome.came_to(&done);
    voice.report(args, &outcome, &found, asked);
    done?;
    if let (Some(chosen), Some(estimate)) = (outcome.chosen(), estimate)
        && !(args.json || args.as_ntpdig)
    {
        voice.say(&format!(
            "{} time server {} offset {:.6} sec",
            if outcome.step { "step" } else { "adjust" },
            chosen.address,
            estimate.offset.as_seconds()
        ));
    }
    Ok(())
}

/// A server, and the name it was asked for by.
struct Server {
    name: String,
    address: SocketAddr,
}

/// All addresses of all names; a name without any is told of.
fn look_up(args: &DateArgs, voice: &Voice) -> Result<Vec<Server>, String> {
    let family = match (args.ipv4, args.ipv6) {
        (true, _) => Some(Family::V4),
        (_, true) => Some(Family::V6),
        _ => None,
    };
    let mut servers: Vec<Server> = Vec::new();
    for text in &args.servers {
        let (name, port) = split_port(text)?;
        let question = Question {
            name: name.to_owned(),
            family,
            port,
        };
        match question.look_up() {
            Ok(addresses) => {
                for address in addresses {
                    if !servers.iter().any(|server| server.address == address) {
                        let name = name.to_owned();
                        servers.push(Server { name, address });
                    }
                }
            }
            Err(sentence) => voice.complain(&format!("can't find host {sentence}")),
        }
    }
    if servers.is_empty() {
        return Err("no servers can be used, exiting".to_owned());
    }
    Ok(servers)
}

fn keys(args: &DateArgs) -> Result<KeyTable, String> {
    let Some(id) = args.key else {
        return Ok(KeyTable::default());
    };
    let path = &args.keyfile;
    // Named by the operator himself: a pipe is what `<(...)` of a shell is.
    let file = std::fs::File::open(path)
        .and_then(|file| key_file::read_open(file, path, KeyFormat::Ntp))
        .map_err(|error| format!("key file {}: {error}", path.display()))?;
    for said in &file.said {
        eprintln!("{said}");
    }
    let table = KeyTable::new(file.keys);
    if table.get(id).is_none() {
        return Err(format!(
            "key {id} is not in {}: add it, or name another file with -k",
            path.display()
        ));
    }
    Ok(table)
}

fn plan(args: &DateArgs) -> Plan {
    let interval = if NtpDuration::from_seconds(args.timeout) > INTERVAL.interval() {
        INTERVAL_SLOW
    } else {
        INTERVAL
    };
    Plan {
        options: SourceOptions {
            minpoll: interval,
            maxpoll: interval,
            version: args.ntp_version,
            key: args.key,
            ..SourceOptions::default()
        },
        samples: args.samples.into(),
        timeout: NtpDuration::from_seconds(args.timeout),
    }
}

/// Nobody answers on NTP's port, as both would move the clock.
fn hold_ports() -> Result<Vec<ServerSocket>, String> {
    let wildcards = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    let mut held = Vec::new();
    for wildcard in wildcards {
        match ServerSocket::bind(SocketAddr::new(wildcard, NTP_PORT), false) {
            Ok(socket) => held.push(socket),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                return Err(IN_USE.to_owned());
            }
            // A kernel may have one family alone.
            Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {}
            Err(error) => {
                return Err(format!(
                    "cannot hold NTP's port: {error}; -u sets the clock without it"
                ));
            }
        }
    }
    Ok(held)
}

/// Who sets the clock.
enum Setter {
    /// It is only asked.
    Nobody,
    /// The kernel's.
    System(Timex),
    /// One in software, which takes any correction at once.
    Virtual,
}

impl Setter {
    fn new(args: &DateArgs) -> Result<Self, String> {
        if args.query || args.debug {
            return Ok(Self::Nobody);
        }
        match args.clock {
            ClockChoice::None => Ok(Self::Nobody),
            ClockChoice::Virtual { .. } => Ok(Self::Virtual),
            ClockChoice::System => {
                let timex = Timex::new();
                match timex.may_steer() {
                    Ok(Right::Granted) => Ok(Self::System(timex)),
                    Ok(Right::Denied) => Err(
                        "no right to set the clock (CAP_SYS_TIME): run it as root, or only ask \
                         with -q"
                            .to_owned(),
                    ),
                    Err(error) => Err(format!("the clock can't be set: {error}")),
                }
            }
        }
    }

    fn set(&self, offset: NtpDuration, step: bool, mut clock: Clock) -> Result<(), String> {
        let done = match (self, step) {
            (Self::Nobody, _) => return Ok(()),
            (Self::System(timex), true) => timex.step(offset).map(drop),
            (Self::System(timex), false) => timex.slew_once(offset).map(drop),
            (Self::Virtual, _) => clock.apply(ClockCommand::Step(offset)).map(drop),
        };
        done.map_err(|error| format!("can't set the time of day: {error}"))
    }
}

/// Which of them to follow, as an index into `found`: the daemon's choice of those that a
/// majority agrees with.
fn choose(found: &[Found]) -> Option<usize> {
    let candidates: Vec<Candidate> = found
        .iter()
        .map(|found| Candidate {
            estimate: found.estimate,
            fit: found.estimate.is_some(),
            prefer: false,
            noselect: false,
        })
        .collect();
    let policy = SelectPolicy::default();
    select(&candidates, &policy, Mechanisms::default(), None).system
}

/// What `--json` prints. The field names only grow.
#[derive(Debug, Serialize)]
struct Outcome {
    /// One for each address.
    servers: Vec<Answer>,
    /// The address that is followed.
    server: Option<SocketAddr>,
    /// Stepped, not slewed (or would be).
    step: bool,
    /// The clock was set.
    set: bool,
    /// Why it was not, where it should have been, or why nobody is followed.
    trouble: Option<String>,
}

#[derive(Debug, Serialize)]
struct Answer {
    name: String,
    #[serde(skip)]
    address: std::net::IpAddr,
    #[serde(rename = "address")]
    socket_address: SocketAddr,
    /// 0 if it gave no time.
    stratum: u8,
    /// Source minus this clock, in seconds.
    offset_s: Option<f64>,
    delay_s: Option<f64>,
    /// The true time lies within this of `offset_s` unless the server lies.
    error_bound_s: Option<f64>,
    leap: Option<&'static str>,
    /// Requests sent, and samples they brought.
    sent: u64,
    samples: usize,
    /// Why there is no time.
    trouble: Option<String>,
}

impl Answer {
    fn new(server: &Server, found: &Found) -> Self {
        let estimate = found.estimate.as_ref();
        let figure = |of: fn(&Estimate) -> NtpDuration| estimate.map(|e| of(e).as_seconds());
        Self {
            name: server.name.clone(),
            address: server.address.ip(),
            socket_address: server.address,
            stratum: estimate.map_or(0, |e| e.stratum),
            offset_s: figure(|e| e.offset),
            delay_s: figure(|e| e.delay_min),
            error_bound_s: figure(Estimate::root_distance),
            leap: estimate.map(|e| leap_word(e.leap)),
            sent: found.sent,
            samples: found.samples.len(),
            trouble: found.trouble.clone().filter(|_| estimate.is_none()),
        }
    }
}

impl Outcome {
    fn new(args: &DateArgs, servers: &[Server], found: &[Found], chosen: Option<usize>) -> Self {
        let offset_s = chosen
            .and_then(|index| found[index].estimate)
            .map_or(0.0, |estimate| estimate.offset.as_seconds());
        Self {
            servers: servers
                .iter()
                .zip(found)
                .map(|(server, found)| Answer::new(server, found))
                .collect(),
            server: chosen.map(|index| servers[index].address),
            step: args.step || (!args.slew && offset_s.abs() >= args.step_from),
            set: !(args.query || args.debug || args.clock == ClockChoice::None),
            trouble: None,
        }
    }

    /// The clock was to be set, and this is what came of it.
    fn came_to(&mut self, done: &Result<(), String>) {
        self.set &= done.is_ok();
        self.trouble = done.as_ref().err().cloned();
    }

    fn chosen(&self) -> Option<&Answer> {
        let address = self.server?;
        self.servers
            .iter()
            .find(|answer| answer.socket_address == address)
    }
}

/// ntpdig's words.
const fn leap_word(leap: Leap) -> &'static str {
    match leap {
        Leap::None => "no-leap",
        Leap::Insert => "add-leap",
        Leap::Delete => "del-leap",
        Leap::Unknown => "unsync",
    }
}

/// Where what is said goes, and in whose words.
struct Voice {
    syslog: Option<UnixDatagram>,
    /// ntpdig's, which has no date before its lines.
    as_ntpdig: bool,
    json: bool,
}

impl Voice {
    fn new(args: &DateArgs) -> io::Result<Self> {
        let syslog = if args.syslog {
            let socket = UnixDatagram::unbound()?;
            socket.connect(SYSLOG)?;
            Some(socket)
        } else {
            None
        };
        Ok(Self {
            syslog,
            as_ntpdig: args.as_ntpdig,
            json: args.json,
        })
    }

    /// What ntpdate says.
    fn say(&self, text: &str) {
        if self.syslog.is_some() {
            self.log(SYSLOG_NOTICE, text);
        } else if self.json || self.as_ntpdig {
            eprintln!("{}", self.line(text));
        } else {
            ask::print(&format!("{}\n", self.line(text)));
        }
    }

    fn complain(&self, text: &str) {
        if self.syslog.is_some() {
            self.log(SYSLOG_ERROR, text);
        } else {
            eprintln!("{}", self.line(text));
        }
    }

    fn line(&self, text: &str) -> String {
        if self.as_ntpdig {
            return format!("ntpdig: {text}");
        }
        let now = zone::civil(unix_s(clock::realtime()));
        format!("{} ntpdate[{}]: {text}", date(&now), process::id())
    }

    fn log(&self, priority: u8, text: &str) {
        let now = zone::civil(unix_s(clock::realtime()));
        // RFC 3164's form, in which local daemons expect it.
        let line = format!(
            "<{priority}>{} {:2} {} ntpdate[{}]: {text}",
            MONTHS[usize::from(now.month - 1)],
            now.day,
            time_of_day(&now),
            process::id()
        );
        let sent = self
            .syslog
            .iter()
            .map(|socket| socket.send(line.as_bytes()));
        for error in sent.filter_map(Result::err) {
            eprintln!("ptntp date: syslog, {SYSLOG}: {error}: {text}");
        }
    }

    /// What came of asking.
    fn report(&self, args: &DateArgs, outcome: &Outcome, found: &[Found], asked: WallInstant) {
        if args.as_ntpdig {
            if let Some(chosen) = outcome.chosen() {
                ask::print(&ntpdig(args, outcome, chosen, asked));
            }
        } else if args.json {
            // Strings and numbers.
            let json = serde_json::to_string(outcome).expect("always serialises");
            ask::print(&format!("{json}\n"));
        } else if args.query || args.debug {
            let mut text = String::new();
            for (answer, found) in outcome.servers.iter().zip(found) {
                if args.debug {
                    text.push_str(&samples(answer, found));
                }
                text.push_str(&server_line(answer));
            }
            match self.syslog {
                Some(_) => text.lines().for_each(|line| self.say(line)),
                None => ask::print(&text),
            }
        }
    }
}

/// What `-q` prints of a server.
fn server_line(answer: &Answer) -> String {
    format!(
        "server {}, stratum {}, offset {:.6}, delay {:.5}\n",
        answer.address,
        answer.stratum,
        answer.offset_s.unwrap_or(0.0),
        answer.delay_s.unwrap_or(0.0)
    )
}

/// What `-d` adds: each sample, who took its stamps, and what went wrong.
fn samples(answer: &Answer, found: &Found) -> String {
    let mut text = String::new();
    for sample in &found.samples {
        // Into a String: no error can come of it.
        let _ = writeln!(
            text,
            "{}: offset {:+.9}, delay {:.9}, dispersion {:.9}, stamps by {}",
            answer.address,
            sample.offset.as_seconds(),
            sample.delay.as_seconds(),
            sample.dispersion.as_seconds(),
            sample.origin.name()
        );
    }
    if let Some(trouble) = &found.trouble {
        let _ = writeln!(text, "{}: {trouble}", answer.address);
    }
    text
}

/// What ntpdig prints: the server's time, the offset, what it may be off by, who.
fn ntpdig(args: &DateArgs, outcome: &Outcome, chosen: &Answer, now: WallInstant) -> String {
    let offset_s = chosen.offset_s.unwrap_or(0.0);
    let error_s = chosen.error_bound_s.unwrap_or(0.0);
    let theirs = now + NtpDuration::from_seconds(offset_s);
    let civil = zone::civil(unix_s(theirs)).to_string();
    let micros = theirs.unix_ns().rem_euclid(1_000_000_000) / 1_000;
    let zone_minutes = zone::offset_s(unix_s(theirs)) / 60;
    let sign = if zone_minutes < 0 { '-' } else { '+' };
    let zone = format!(
        "{sign}{:02}{:02}",
        zone_minutes.abs() / 60,
        zone_minutes.abs() % 60
    );
    let leap = chosen.leap.unwrap_or("unsync");
    if args.json {
        let json = serde_json::json!({
            "time": format!("{}.{micros:06}{zone}", civil.replace(' ', "T")),
            "offset": micro(offset_s),
            "precision": micro(error_s),
            "host": chosen.name,
            "ip": chosen.address.to_string(),
            "stratum": chosen.stratum,
            "leap": leap,
            "adjusted": outcome.set && outcome.step,
        });
        return format!("{json}\n");
    }
    let address = chosen.address.to_string();
    let resolved = if address == chosen.name {
        String::new()
    } else {
        format!(" {address}")
    };
    format!(
        "{civil}.{micros:06} ({zone}) {offset_s:+.6} +/- {error_s:.6} {}{resolved} s{} {leap}\n",
        chosen.name, chosen.stratum
    )
}

/// To the microsecond, as ntpdig has it.
fn micro(seconds: f64) -> f64 {
    (seconds * 1e6).round() / 1e6
}

fn unix_s(at: WallInstant) -> i64 {
    at.unix_ns().div_euclid(1_000_000_000)
}

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// ` 2 Aug 06:36:51`, as ntpdate has it.
fn date(civil: &Civil) -> String {
    let month = MONTHS[usize::from(civil.month - 1)];
    format!("{:2} {month} {}", civil.day, time_of_day(civil))
}

fn time_of_day(civil: &Civil) -> String {
    format!("{:02}:{:02}:{:02}", civil.hour, civil.minute, civil.second)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::args::{Cli, Command};

    fn args(words: &[&str]) -> DateArgs {
        let all = ["ptntp", "date"].iter().chain(words);
        match Cli::try_parse_from(all).unwrap().command {
            Command::Date(args) => args,
            other => panic!("not date: {other:?}"),
        }
    }

    fn answer() -> Answer {
        Answer {
            name: "ntp.example.net".to_owned(),
            address: "192.0.2.1".parse().unwrap(),
            socket_address: "192.0.2.1:123".parse().unwrap(),
            stratum: 2,
            offset_s: Some(-0.691_491_4),
            delay_s: Some(0.000_231),
            error_bound_s: Some(0.001_2),
            leap: Some("no-leap"),
            sent: 4,
            samples: 4,
            trouble: None,
        }
    }

    fn outcome() -> Outcome {
        Outcome {
            servers: vec![answer()],
            server: Some("192.0.2.1:123".parse().unwrap()),
            step: true,
            set: true,
            trouble: None,
        }
    }

    #[test]
    fn lines_are_ntpdates() {
        assert_eq!(
            server_line(&answer()),
            "server 192.0.2.1, stratum 2, offset -0.691491, delay 0.00023\n"
        );
        assert_eq!(date(&Civil::from_unix(1_470_119_811)), " 2 Aug 06:36:51");
    }

    #[test]
    fn lines_are_ntpdigs() {
        let mut outcome = outcome();
        let now = WallInstant::from_unix_ns(1_470_119_811_700_000_000);
        let text = ntpdig(&args(&["x"]), &outcome, &answer(), now);
        let (_, rest) = text.split_once('.').unwrap();
        assert!(rest.starts_with("008508 ("), "{text}");
        let (_, rest) = text.split_once(") ").unwrap();
        assert_eq!(
            rest,
            "-0.691491 +/- 0.001200 ntp.example.net 192.0.2.1 s2 no-leap\n"
        );
        let json = ntpdig(&args(&["x", "--json"]), &outcome, &answer(), now);
        assert!(json.contains("\"adjusted\":true"), "{json}");
        outcome.came_to(&Err("denied".to_owned()));
        let json = ntpdig(&args(&["x", "--json"]), &outcome, &answer(), now);
        assert!(json.contains("\"adjusted\":false"), "{json}");
    }

    #[test]
    fn the_clock_was_set_only_if_it_was() {
        for (done, set, trouble) in [
            (Ok(()), true, None),
            (Err("denied".to_owned()), false, Some("denied")),
        ] {
            let mut outcome = outcome();
            outcome.came_to(&done);
            let json = serde_json::to_value(&outcome).unwrap();
            assert_eq!(json["set"], set);
            assert_eq!(json["trouble"].as_str(), trouble);
        }
    }

    #[test]
    fn slow_links_are_asked_less_often() {
        assert_eq!(plan(&args(&["x"])).options.minpoll, INTERVAL);
        assert_eq!(
            plan(&args(&["-t", "3", "x"])).options.minpoll,
            INTERVAL_SLOW
        );
    }
}

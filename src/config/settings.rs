//! `tinker`, `tos`, `enable`, `driftfile` and the other lines that set one thing.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use crate::config::nic::{Match, NicRule};
use crate::config::rtc::on_or_off;
use crate::config::statement::{CommandAddress, Include, Line, Statement, Tinker, Tos};
use crate::config::words::Word;
use crate::config::{Listen, RECENT_DEFAULT};
use crate::server::recent::RECENT_LEN;
use crate::server::rule::Prefix;
use crate::time::duration::NtpDuration;
use crate::wire::ptp::EVENT_PORT;

/// `tinker word value ...`.
pub fn tinker(line: &mut Line<'_>, _directive: &Word) -> Option<Statement> {
    const KNOWN: [&str; 13] = [
        "stepfwd",
        "stepback",
        "stepupdates",
        "panicafter",
        "panicignore",
        "step",
        "panic",
        "stepout",
        "dispersion",
        "allan",
        "huffpuff",
        "freq",
        "tick",
    ];
    let mut settings = Vec::new();
    while let Some(word) = line.take() {
        // Zero switches the limit off.
        let limit = |value: NtpDuration| Some(value).filter(|v| *v > NtpDuration::ZERO);
        match word.text.as_str() {
            "step" => settings.push(Tinker::Step(limit(line.seconds(&word)?))),
            "stepfwd" => settings.push(Tinker::StepForward(limit(line.seconds(&word)?))),
            "stepback" => settings.push(Tinker::StepBack(limit(line.seconds(&word)?))),
            "panic" => settings.push(Tinker::Panic(limit(line.seconds(&word)?))),
            "stepout" => settings.push(Tinker::Stepout(line.seconds(&word)?)),
            "stepupdates" => {
                settings.push(Tinker::StepUpdates(Some(
                    line.integer(&word, 0..=u32::MAX)?,
                )));
            }
            "panicafter" => settings.push(Tinker::PanicAfter(line.integer(&word, 0..=u32::MAX)?)),
            "panicignore" => {
                let most: i64 = line.integer(&word, -1..=u32::MAX.into())?;
                settings.push(Tinker::PanicIgnored(u32::try_from(most).ok()));
            }
            "dispersion" | "allan" | "huffpuff" | "freq" | "tick" => {
                line.argument(&word, "a number")?;
                let message = format!(
                    "`tinker {}` has no effect: the discipline measures what it would set",
                    word.text
                );
                line.note(&word, message);
            }
            _ => {
                line.unknown(&word, "tinker", KNOWN);
                return None;
            }
        }
    }
    Some(Statement::Tinker(settings))
}

/// `tos word value ...`.
pub fn tos(line: &mut Line<'_>, _directive: &Word) -> Option<Statement> {
    const KNOWN: [&str; 10] = [
        "minclock", "minsane", "maxclock", "maxdist", "mindist", "floor", "ceiling", "orphan",
        "cohort", "beacon",
    ];
    let mut settings = Vec::new();
    while let Some(word) = line.take() {
        let setting = match word.text.as_str() {
            "minsane" => Tos::Minsane(count(line, &word)?),
            "minclock" => Tos::Minclock(count(line, &word)?),
            "maxclock" => Tos::Maxclock(count(line, &word)?),
            "maxdist" => Tos::Maxdist(line.seconds(&word)?),
            "mindist" => Tos::Mindist(line.seconds(&word)?),
            "floor" => Tos::Floor(line.integer(&word, 0..=16)?),
            "ceiling" => Tos::Ceiling(line.integer(&word, 1..=16)?),
            "orphan" => Tos::Orphan(line.integer(&word, 1..=16)?),
            "cohort" | "beacon" | "orphanwait" | "maxhop" | "basedate" | "bcpollbstep" => {
                line.argument(&word, "a value")?;
                let message = format!("`tos {}` has no effect here", word.text);
                line.note(&word, message);
                continue;
            }
            _ => {
                line.unknown(&word, "tos", KNOWN);
                return None;
            }
        };
        settings.push(setting);
    }
    Some(Statement::Tos(settings))
}

/// A number of sources. ntpd takes 0, which means what 1 does: no source, no time.
fn count(line: &mut Line<'_>, word: &Word) -> Option<usize> {
    let count = line.integer(word, 0..=1000)?;
    if count == 0 {
        let message = format!("`{} 0` means 1: no source, no time", word.text);
        line.note(word, message);
    }
    Some(count.max(1))
}

/// `enable words`.
pub fn enable(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    switch(line, directive, true)
}

/// `disable words`.
pub fn disable(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    switch(line, directive, false)
}

/// What `enable` and `disable` know, and why it has no effect (empty: it has).
const SWITCHES: [(&str, &str); 13] = [
    ("ntp", ""),
    ("auth", ""),
    ("bclient", "`broadcastclient` is what listens to broadcasts"),
    ("calibrate", "it belongs to reference clocks"),
    (
        "kernel",
        "the clock is steered by the daemon's own discipline",
    ),
    ("mode7", "mode 7 is never answered"),
    ("monitor", ""),
    ("pps", "it belongs to reference clocks"),
    ("stats", ""),
    ("peer_clear_digest_early", "a bad MAC changes nothing"),
    ("unpeer_crypto_early", "there is no Autokey"),
    ("unpeer_crypto_nak_early", "there is no Autokey"),
    ("unpeer_digest_early", "a bad MAC changes nothing"),
];

fn switch(line: &mut Line<'_>, directive: &Word, on: bool) -> Option<Statement> {
    let name = directive.text.clone();
    if line.peek().is_none() {
        line.argument(directive, "a word like `ntp` or `monitor`");
        return None;
    }
    let (mut discipline, mut monitor) = (false, false);
    let (mut auth, mut statistics) = (false, false);
    while let Some(word) = line.take() {
        match SWITCHES.iter().find(|(known, _)| *known == word.text) {
            Some(("ntp", _)) => discipline = true,
            Some(("monitor", _)) => monitor = true,
            Some(("auth", _)) => auth = true,
            Some(("stats", _)) => statistics = true,
            Some(("bclient", why)) if on => {
                let message = format!("`enable bclient` has no effect: {why}");
                line.warning(&word, message, "write `broadcastclient` instead".into());
            }
            Some((known, why)) => {
                line.note(&word, format!("`{name} {known}` has no effect: {why}"))
            }
            None => {
                line.unknown(&word, &name, SWITCHES.map(|(known, _)| known));
                return None;
            }
        }
    }
    Some(Statement::Switch {
        on,
        discipline,
        monitor,
        auth,
        statistics,
    })
}

/// `driftfile path [gains]`; without a path, or with an empty one, none is kept. With
/// `gains` (native) the file is as chrony's.
pub fn drift_file(line: &mut Line<'_>, _directive: &Word) -> Option<Statement> {
    let path = line.take().filter(|word| !word.text.is_empty());
    while let Some(word) = line.take_if(|word| word.parse::<f64>().is_ok()) {
        let message = "how often the drift file is written can't be set";
        line.note(&word, message.into());
    }
    let gains = line.take_if(|word| word == "gains").is_some();
    line.end()?;
    Some(Statement::DriftFile {
        path: path.map(|word| word.text.into()),
        gains,
    })
}

/// `leapfile path [checkhash|ignorehash]`.
pub fn leap_file(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    let path = line.argument(directive, "a file name")?;
    while let Some(word) = line.take_if(|word| matches!(word, "checkhash" | "ignorehash")) {
        let message = if word.text == "ignorehash" {
            "`ignorehash` has no effect: a file whose hash is wrong is not used; delete its line #h"
        } else {
            "`checkhash` has no effect: the hash is always checked"
        };
        line.note(&word, message.into());
    }
    line.end()?;
    Some(Statement::LeapFile(path.text.into()))
}

/// `leapseclist path` of chrony.conf.
pub fn leap_file_alone(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    let path = line.argument(directive, "a file name")?;
    line.end()?;
    Some(Statement::LeapFile(path.text.into()))
}

/// `leapseconds kernel|slew` (native).
pub fn leap_seconds(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    let word = line.argument(directive, "`kernel` or `slew`")?;
    line.end()?;
    match word.text.as_str() {
        "kernel" => Some(Statement::KernelLeaps(true)),
        "slew" => Some(Statement::KernelLeaps(false)),
        _ => {
            line.unknown(&word, "leapseconds", ["kernel", "slew"]);
            None
        }
    }
}

/// `includefile path`.
pub fn include(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    let path = line.argument(directive, "a file name")?;
    line.end()?;
    Some(Statement::Include(Include::File(path.text.into())))
}

/// `interface action who`.
pub fn interface(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    let action = line.argument(directive, "`listen`, `ignore` or `drop`")?;
    if !matches!(action.text.as_str(), "listen" | "ignore" | "drop") {
        line.unknown(&action, &directive.text, ["listen", "ignore", "drop"]);
        return None;
    }
    let who = line.argument(&action, "an interface, an address or `all`")?;
    line.end()?;
    let (address, bits) = match who.text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (who.text.as_str(), None),
    };
    let matches = match (who.text.as_str(), address.parse::<IpAddr>()) {
        ("all", _) => Match::All,
        ("ipv4", _) => Match::V4,
        ("ipv6", _) => Match::V6,
        ("wildcard", _) => Match::Wildcard,
        (_, Ok(address)) => {
            let prefix = match bits {
                None => Some(Prefix::host(address)),
                Some(bits) => bits.parse().ok().and_then(|n| Prefix::new(address, n)),
            };
            let Some(prefix) = prefix else {
                let message = format!("`{}` has no valid prefix length", who.text);
                line.error(&who, message, "write one like `192.0.2.0/24`".into());
                return None;
            };
            Match::Block(prefix)
        }
        (name, Err(_)) => Match::Name(name.to_owned()),
    };
    if matches == Match::Wildcard {
        let message = "`wildcard` is accepted and has no effect here, because requests to every address are answered from the address that was asked";
        line.note(&who, message.into());
    }
    Some(Statement::Nic(NicRule {
        listen: action.text == "listen",
        matches,
    }))
}

/// `listen everywhere|loopback|nowhere|address...` (native).
pub fn listen(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    const KNOWN: [&str; 3] = ["everywhere", "loopback", "nowhere"];
    let word = line.argument(
        directive,
        "`everywhere`, `loopback`, `nowhere` or addresses",
    )?;
    let Ok(first) = word.text.parse::<IpAddr>() else {
        line.end()?;
        return match word.text.as_str() {
            "everywhere" => Some(Statement::Listen(Listen::Everywhere)),
            "loopback" => Some(Statement::Listen(Listen::Loopback)),
            "nowhere" => Some(Statement::Listen(Listen::Nowhere)),
            _ => {
                line.unknown(&word, "listen", KNOWN);
                None
            }
        };
    };
    let mut addresses = vec![first];
    while let Some(word) = line.take_if(|word| word.parse::<IpAddr>().is_ok()) {
        let another: IpAddr = word.text.parse().ok()?;
        if addresses.contains(&another) {
            let message = format!("{another} was named before on this line");
            line.error(&word, message, "leave it out".into());
            return None;
        }
        addresses.push(another);
    }
    line.end()?;
    Some(Statement::Listen(Listen::At(addresses)))
}

/// `port n` (native).
pub fn port(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    let port = line.integer(directive, 1..=u16::MAX)?;
    line.end()?;
    Some(Statement::Port(port))
}

/// `dscp n`.
pub fn dscp(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    let dscp = line.integer(directive, 0..=63)?;
    line.end()?;
    Some(Statement::Dscp(dscp))
}

/// `bindacqaddress address`, chrony's word.
pub fn bindacqaddress(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    own_address(line, directive).map(Statement::AcquisitionAddress)
}

/// One address, and nothing after it.
pub fn own_address(line: &mut Line<'_>, directive: &Word) -> Option<IpAddr> {
    let word = line.argument(directive, "an address of this machine")?;
    line.end()?;
    let Ok(address) = word.text.parse() else {
        let message = format!("`{}` is not an address", word.text);
        let help = "write one like `192.0.2.1` or `2001:db8::1`";
        line.error(&word, message, help.into());
        return None;
    };
    Some(address)
}

/// `bindacqdevice interface`, chrony's word.
pub fn bindacqdevice(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    let word = line.argument(directive, "an interface")?;
    line.end()?;
    Some(Statement::AcquisitionDevice(word.text))
}

/// `pidfile path`; `/` alone is none.
pub fn pid_file(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    let word = line.argument(directive, "a file name")?;
    line.end()?;
    let path = PathBuf::from(word.text);
    Some(Statement::PidFile(
        Some(path).filter(|path| path.file_name().is_some()),
    ))
}

/// `ptpport n`, chrony's word.
pub fn ptpport(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    let port = line.integer(directive, 0..=u16::MAX)?;
    line.end()?;
    if port != 0 && port != EVENT_PORT {
        let message = format!(
            "network cards and transparent clocks know PTP by port {EVENT_PORT}: on {port} they see nothing"
        );
        let help = format!("write `ptpport {EVENT_PORT}`");
        line.warning(directive, message, help);
    }
    Some(Statement::PtpPort(Some(port).filter(|port| *port != 0)))
}

/// `ptpdomain n`, chrony's word.
pub fn ptpdomain(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    let domain = line.integer(directive, 0..=u8::MAX)?;
    line.end()?;
    Some(Statement::PtpDomain(domain))
}

/// `clients [interleaved n] [limited n]` (native): how many are remembered.
pub fn clients(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    // A thousand million of them are 36 GB.
    const MOST: usize = 1_000_000_000;
    let (mut interleaved, mut limited) = (None, None);
    while let Some(word) = line.take() {
        match word.text.as_str() {
            "interleaved" => interleaved = Some(line.integer(&word, 1..=MOST)?),
            "limited" => limited = Some(line.integer(&word, 1..=MOST)?),
            _ => {
                line.unknown(&word, &directive.text, ["interleaved", "limited"]);
                return None;
            }
        }
    }
    Some(Statement::Clients {
        interleaved,
        limited,
    })
}

/// `mru [maxdepth n] [maxmem KiB] ...`: how many clients `ntpq -c mrulist` can list.
pub fn mru(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    const MOST: usize = 10_000_000;
    let mut clients = RECENT_DEFAULT;
    while let Some(word) = line.take() {
        match word.text.as_str() {
            "maxdepth" => clients = line.integer(&word, 0..=MOST)?,
            "maxmem" => {
                let kibibytes = line.integer(&word, 0..=MOST * RECENT_LEN / 1024)?;
                clients = kibibytes * 1024 / RECENT_LEN;
            }
            known if MRU_WORDS.contains(&known) => {
                line.integer(&word, 0..=usize::MAX)?;
                let why = "the table has a fixed size and forgets the oldest";
                line.note(&word, format!("`{known}` has no effect: {why}"));
            }
            _ => {
                let known = MRU_WORDS.into_iter().chain(["maxdepth", "maxmem"]);
                line.unknown(&word, &directive.text, known);
                return None;
            }
        }
    }
    Some(Statement::Recent(clients))
}

/// Words of `mru` that take a number and change nothing here.
const MRU_WORDS: [&str; 6] = [
    "mindepth",
    "initalloc",
    "initmem",
    "incalloc",
    "incmem",
    "maxage",
];

/// `busypoll on|off` (native).
pub fn busypoll(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    let word = line.argument(directive, "`on` or `off`")?;
    line.end()?;
    match word.text.as_str() {
        "on" => Some(Statement::BusyPoll(true)),
        "off" => Some(Statement::BusyPoll(false)),
        _ => {
            line.unknown(&word, "busypoll", ["on", "off"]);
            None
        }
    }
}

/// `control path` (native).
pub fn control(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    let path = line.argument(directive, "the path of a socket")?;
    line.end()?;
    socket_path(line, &path)?;
    Some(Statement::Control(PathBuf::from(path.text)))
}

/// `manual [on|off]`: chrony's word alone means on.
pub fn manual(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    on_or_off(line, directive).map(Statement::Manual)
}

/// `cmdport n` (native): UDP port on which chronyc is answered; 0: none.
pub fn cmdport(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    let port = line.integer(directive, 0..=u16::MAX)?;
    line.end()?;
    Some(Statement::CommandPort(port))
}

/// `bindcmdaddress address|path` (native): `/` alone is no path.
pub fn bindcmdaddress(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    let word = line.argument(directive, "an address, or the path of a socket")?;
    line.end()?;
    let address = if word.text.starts_with('/') {
        socket_path(line, &word)?;
        let path = PathBuf::from(&word.text);
        CommandAddress::Path(Some(path).filter(|path| path.file_name().is_some()))
    } else if let Ok(address) = word.text.parse() {
        CommandAddress::Ip(address)
    } else {
        let message = format!("`{}` is neither an address nor a path", word.text);
        let help = "write one like `127.0.0.1`, or `/run/chrony/chronyd.sock`";
        line.error(&word, message, help.into());
        return None;
    };
    Some(Statement::CommandAddress(address))
}

/// sockaddr_un has room for 107 bytes and a zero.
fn socket_path(line: &mut Line<'_>, path: &Word) -> Option<()> {
    if path.text.len() > 107 {
        let message = "this path is too long for a socket: 107 bytes at most";
        line.error(path, message.into(), "choose a shorter one".into());
        return None;
    }
    Some(())
}

/// `metrics address:port|off` (native).
pub fn metrics(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    let word = line.argument(directive, "an address with a port, or `off`")?;
    line.end()?;
    if word.text == "off" {
        return Some(Statement::Metrics(None));
    }
    let Ok(address) = word.text.parse::<SocketAddr>() else {
        let message = format!("`{}` is not an address with a port", word.text);
        let help = "write one like `127.0.0.1:9975` or `[::1]:9975`, or `off`";
        line.error(&word, message, help.into());
        return None;
    };
    Some(Statement::Metrics(Some(address)))
}

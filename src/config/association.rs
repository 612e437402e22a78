//! `server`, `pool`, `peer`, `fudge`, `unpeer`: whom to ask.

use std::net::{IpAddr, Ipv4Addr};

use crate::client::options::SourceOptions;
use crate::config::statement::{Line, Statement};
use crate::config::words::Word;
use crate::config::{Family, SourceConfig, SourceKind};
use crate::time::duration::NtpDuration;
use crate::time::units::PollExponent;
use crate::wire::ptp::{DOMAIN_DEFAULT, EVENT_PORT};

/// `server`.
pub fn server(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    association(line, directive, SourceKind::Server)
}

/// `pool`.
pub fn pool(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    association(line, directive, SourceKind::Pool)
}

/// `peer`.
pub fn peer(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    association(line, directive, SourceKind::Peer)
}

/// What is for servers alone, in the options of a `peer` line. `beyond` says what else
/// there is of it.
pub fn of_peer(line: &mut Line<'_>, directive: &Word, options: &mut SourceOptions) -> Option<()> {
    options.symmetric = true;
    let mut idle = |on: &mut bool, name: &str, why: &str| {
        if std::mem::take(on) {
            line.note(
                directive,
                format!("`{name}` has no effect on a `peer` line: {why}"),
            );
        }
    };
    let own_pace = "each of two peers sends at its own pace";
    idle(&mut options.iburst, "iburst", own_pace);
    idle(&mut options.burst, "burst", own_pace);
    idle(
        &mut options.xleave,
        "xleave",
        "peers are spoken with in basic mode, which every peer understands",
    );
    if options.over_ptp.is_some() || options.correction {
        let message = "peers are not spoken with over PTP";
        line.error(
            directive,
            message.into(),
            "write `server` to ask over PTP, or delete `ptp`".into(),
        );
        return None;
    }
    Some(())
}

/// Options of an association that take no value, in the order they are written out.
const SWITCHES: [&str; 7] = [
    "iburst", "burst", "prefer", "noselect", "offline", "xleave", "ptp",
];

/// Options that are understood and have no effect: word, whether a value follows, why.
const INERT: [(&str, bool, &str); 7] = [
    (
        "preempt",
        false,
        "sources from a `server` line are kept, those of a `pool` are replaced when they die",
    ),
    (
        "ident",
        true,
        "it belongs to Autokey, which is broken and not supported",
    ),
    (
        "ttl",
        true,
        "it belongs to broadcasts, which are not supported",
    ),
    ("mode", true, "it belongs to reference clocks"),
    (
        "noval",
        false,
        "it belongs to NTS, which this line does not use",
    ),
    (
        "ca",
        true,
        "it belongs to NTS, which this line does not use",
    ),
    (
        "aead",
        true,
        "it belongs to NTS, which this line does not use",
    ),
];

fn association(line: &mut Line<'_>, directive: &Word, kind: SourceKind) -> Option<Statement> {
    let family = family(line);
    let host = line.argument(directive, "a host name or an address")?;
    let literal = host.text.parse::<IpAddr>().ok();
    if let Some(IpAddr::V4(v4)) = literal
        && v4.octets()[..2] == [127, 127]
    {
        return reference_clock(line, directive, &host, v4, kind);
    }
    check_host(line, &host, literal, family)?;
    if kind == SourceKind::Peer {
        not_ourselves(line, &host, literal)?;
    }
    let mut most = None;
    let mut options = options(line, directive, &mut most)?;
    if kind == SourceKind::Peer {
        of_peer(line, directive, &mut options)?;
    }
    if most.is_some() && kind != SourceKind::Pool {
        line.note(directive, "`maxsources` is for `pool` lines".into());
        most = None;
    }
    Some(Statement::Source(SourceConfig {
        kind,
        name: host.text,
        family,
        most,
        options,
    }))
}

/// Takes `-4`, `-6` or neither.
pub fn family(line: &mut Line<'_>) -> Option<Family> {
    let word = line.take_if(|word| matches!(word, "-4" | "-6"))?;
    Some(if word.text == "-4" {
        Family::V4
    } else {
        Family::V6
    })
}

/// Is `host` somebody who can be asked?
pub fn check_host(
    line: &mut Line<'_>,
    host: &Word,
    literal: Option<IpAddr>,
    family: Option<Family>,
) -> Option<()> {
    let (message, help) = match literal {
        Some(address) if family.is_some_and(|family| !belongs(address, family)) => (
            format!("`{address}` is not an address of the family asked for"),
            "leave out the `-4` or `-6`",
        ),
        Some(address) if address.is_multicast() || address.is_unspecified() => (
            format!("`{address}` is nobody's address: it can't be asked for the time"),
            "name a server, by its own address or host name",
        ),
        Some(_) => return Some(()),
        None if is_host_name(&host.text) => return Some(()),
        None => (
            format!("`{}` is neither a host name nor an address", host.text),
            "write one like `ntp.example.net`, `192.0.2.1` or `2001:db8::1`",
        ),
    };
    line.error(host, message, help.into());
    None
}

/// What is said from our own port to our own port, we would say to ourselves.
pub fn not_ourselves(line: &mut Line<'_>, host: &Word, literal: Option<IpAddr>) -> Option<()> {
    if literal.is_some_and(|address| address.is_loopback()) {
        let message = format!(
            "`{}` is this machine itself: what is sent there comes back to us",
            host.text
        );
        let help = "name another machine, or write `server` to ask a daemon on another port";
        line.error(host, message, help.into());
        return None;
    }
    Some(())
}

/// Is `address` of `family`?
pub fn belongs(address: IpAddr, family: Family) -> bool {
    address.is_ipv4() == (family == Family::V4)
}

/// RFC 1123's letters, digits, dots and hyphens, underscores as found in the
/// field, and link-local addresses with their scope.
fn is_host_name(name: &str) -> bool {
    let (address, scope) = name.split_once('%').unwrap_or((name, "any"));
    if address.parse::<IpAddr>().is_ok() {
        return !scope.is_empty() && scope.bytes().all(|b| b.is_ascii_graphic());
    }
    let only_numbers = name.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    !only_numbers
        && name.len() <= 253
        && name
            .strip_suffix('.')
            .unwrap_or(name)
            .split('.')
            .all(|label| {
                (1..=63).contains(&label.len())
                    && !label.starts_with('-')
                    && label
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            })
}

fn options(
    line: &mut Line<'_>,
    directive: &Word,
    most: &mut Option<usize>,
) -> Option<SourceOptions> {
    let mut options = SourceOptions::default();
    let (mut good, mut port_said) = (true, false);
    while let Some(word) = line.take() {
        let understood = match word.text.as_str() {
            "maxsources" => line.integer(&word, 1..=1000).map(|n| *most = Some(n)),
            _ => option(line, directive, &word, &mut options, &mut port_said),
        };
        good &= understood.is_some();
    }
    if options.over_ptp.is_some() && !port_said {
        options.port = EVENT_PORT;
    }
    if options.minpoll > options.maxpoll {
        let (min, max) = (options.minpoll.log2(), options.maxpoll.log2());
        let message = format!("minpoll {min} is above maxpoll {max}: polls every 2^{max} s");
        let help = format!("say both, as in `minpoll {max} maxpoll {max}`");
        line.warning(directive, message, help);
        options.minpoll = options.maxpoll;
    }
    good.then_some(options)
}

fn option(
    line: &mut Line<'_>,
    directive: &Word,
    word: &Word,
    options: &mut SourceOptions,
    port_said: &mut bool,
) -> Option<()> {
    match word.text.as_str() {
        "iburst" => options.iburst = true,
        "burst" => options.burst = true,
        "prefer" => options.prefer = true,
        "noselect" => options.noselect = true,
        "offline" => options.offline = true,
        "xleave" => options.xleave = true,
        "ptp" => options.over_ptp = Some(DOMAIN_DEFAULT),
        "extfield" => extfield(line, word, options)?,
        "minpoll" => options.minpoll = poll(line, word)?,
        "maxpoll" => options.maxpoll = poll(line, word)?,
        "version" => options.version = line.integer(word, 1..=4)?,
        "port" => {
            options.port = line.integer(word, 1..=u16::MAX)?;
            *port_said = true;
        }
        "key" => options.key = Some(line.integer(word, 1..=u32::MAX)?),
        "autokey" | "nts" => return untrusted(line, word),
        "bias" | "offset" => options.offset = NtpDuration::from_seconds(line.real(word)?),
        "true" => {
            let message =
                "`true` has no effect: a source is believed when the majority agrees with it";
            let help = "use `prefer` to follow it among those that agree";
            line.warning(word, message.into(), help.into());
        }
        other => return inert_option(line, directive, word, other),
    }
    Some(())
}

/// `extfield type`, chrony's word: the types that report a network correction. Which of
/// them is sent goes by the form of NTP over PTP that the server speaks.
fn extfield(line: &mut Line<'_>, word: &Word, options: &mut SourceOptions) -> Option<()> {
    let kind = line.argument(word, "the type of an extension field")?;
    match kind.text.to_ascii_uppercase().as_str() {
        "10A" | "F324" => options.correction = true,
        "F323" => line.note(
            &kind,
            "`extfield F323` has no effect: it is an experiment of chrony's".into(),
        ),
        _ => {
            line.unknown(&kind, "extfield", ["10A", "F324", "F323"]);
            return None;
        }
    }
    Some(())
}

fn inert_option(line: &mut Line<'_>, directive: &Word, word: &Word, name: &str) -> Option<()> {
    let Some((_, valued, why)) = INERT.iter().find(|(inert, ..)| *inert == name) else {
        let valued = [
            "minpoll",
            "maxpoll",
            "version",
            "port",
            "key",
            "bias",
            "maxsources",
            "extfield",
        ];
        line.unknown(word, &directive.text, SWITCHES.into_iter().chain(valued));
        return None;
    };
    if *valued {
        line.argument(word, "a value")?;
    }
    line.note(word, format!("`{name}` has no effect: {why}"));
    Some(())
}

/// As far down as chrony's, as far up as ntpd's; values beyond are moved into it, as they do.
fn poll(line: &mut Line<'_>, word: &Word) -> Option<PollExponent> {
    const RANGE: std::ops::RangeInclusive<i8> = -7..=17;
    let asked: i8 = line.integer(word, i8::MIN..=i8::MAX)?;
    let used = asked.clamp(*RANGE.start(), *RANGE.end());
    if used != asked {
        let message = format!("`{} {asked}` is out of range; {used} is used", word.text);
        line.warning(
            word,
            message,
            "poll exponents go from -7 (8 ms) to 17 (36 h)".into(),
        );
    }
    Some(PollExponent::new(used))
}

/// Who asks for authentication must not get a source without it.
fn untrusted(line: &mut Line<'_>, word: &Word) -> Option<()> {
    let name = word.text.as_str();
    let message = format!(
        "`{name}` is not supported yet, and a source is never trusted without the authentication asked for"
    );
    let help = match name {
        "autokey" => "Autokey is broken; delete it to ask the source without authentication",
        _ => "delete it only if the source may be asked without authentication",
    };
    line.error(word, message, help.into());
    None
}

/// `server 127.127.type.unit`.
fn reference_clock(
    line: &mut Line<'_>,
    directive: &Word,
    host: &Word,
    address: Ipv4Addr,
    kind: SourceKind,
) -> Option<Statement> {
    let [_, _, driver, unit] = address.octets();
    if driver != 1 {
        let message =
            format!("reference clocks like {address} (driver {driver}) are not supported yet");
        let help = "delete the line, or put `#` before it, and its `fudge` line as well; of the drivers only 127.127.1.x works now, the local clock";
        line.error(host, message, help.into());
        return None;
    }
    if kind == SourceKind::Pool || directive.text == "peer" {
        let message = format!(
            "{address} is the local clock, which is no {}",
            directive.text
        );
        line.error(host, message, format!("write `server {address}`"));
        return None;
    }
    let asked = options(line, directive, &mut None)?;
    if asked.noselect {
        let message = "a local clock that may not be selected does nothing at all";
        line.warning(host, message.into(), "delete the line".into());
        return Some(Statement::Inert);
    }
    if asked.prefer {
        let message = "`prefer` has no effect here: the local clock serves only when nothing better can be had";
        line.note(directive, message.into());
    }
    Some(Statement::LocalClock { unit })
}

/// `fudge 127.127.1.x stratum n`.
pub fn fudge(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    let clock = line.argument(directive, "a clock's address like 127.127.1.0")?;
    let address = clock.text.parse::<Ipv4Addr>().map(|a| a.octets());
    let unit = match address {
        Ok([127, 127, 1, unit]) => unit,
        Ok([127, 127, driver, _]) => {
            line.take_rest();
            let message = format!(
                "nothing to fudge: reference clocks of driver {driver} are not supported yet"
            );
            line.warning(
                &clock,
                message,
                "delete the line with that clock's `server` line".into(),
            );
            return Some(Statement::Inert);
        }
        _ => {
            let message = format!("`{}` is not the address of a reference clock", clock.text);
            line.error(&clock, message, "write one like `127.127.1.0`".into());
            return None;
        }
    };
    let mut stratum = None;
    while let Some(word) = line.take() {
        match word.text.as_str() {
            "stratum" => stratum = Some(line.integer(&word, 0..=15)?),
            "time1" | "time2" | "refid" | "flag1" | "flag2" | "flag3" | "flag4" => {
                line.argument(&word, "a value")?;
                let message = format!("`{}` has no effect on the local clock", word.text);
                line.note(&word, message);
            }
            _ => {
                let known = [
                    "stratum", "time1", "time2", "refid", "flag1", "flag2", "flag3", "flag4",
                ];
                line.unknown(&word, "fudge", known);
                return None;
            }
        }
    }
    Some(Statement::Fudge { unit, stratum })
}

/// `unpeer name`.
pub fn unpeer(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    family(line);
    let host = line.argument(directive, "the name of an earlier `server`")?;
    line.end()?;
    Some(Statement::Unpeer(host.text))
}

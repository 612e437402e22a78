//! The lines of chrony.conf that have an effect, sources aside.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::config::InitialSetting;
use crate::config::allow::Order;
use crate::config::association::check_host;
use crate::config::directives::chrony_options::{LOCAL, OTHER_LIMITS, RATELIMIT};
use crate::config::directives::{Choices, Kind, take_choice, take_kind};
use crate::config::settings::own_address;
use crate::config::statement::{Include, KeyedOnly, Line, Statement, Tinker, Tos};
use crate::config::words::Word;
use crate::server::rate;
use crate::server::rule::{Bucket, Prefix, RateLimit};
use crate::time::duration::NtpDuration;

/// `allow [all] [subnet]`.
pub fn allow(line: &mut Line<'_>, _directive: &Word) -> Option<Statement> {
    order(line, true).map(Statement::Allow)
}

/// `deny [all] [subnet]`.
pub fn deny(line: &mut Line<'_>, _directive: &Word) -> Option<Statement> {
    order(line, false).map(Statement::Allow)
}

/// `cmdallow [all] [subnet]`.
pub fn command_allow(line: &mut Line<'_>, _directive: &Word) -> Option<Statement> {
    order(line, true).map(Statement::CommandAllow)
}

/// `cmddeny [all] [subnet]`.
pub fn command_deny(line: &mut Line<'_>, _directive: &Word) -> Option<Statement> {
    order(line, false).map(Statement::CommandAllow)
}

fn order(line: &mut Line<'_>, allow: bool) -> Option<Order> {
    let all = line
        .take_if(|word| word.eq_ignore_ascii_case("all"))
        .is_some();
    let block = match line.take() {
        None => None,
        Some(word) => Some(subnet(line, &word)?),
    };
    line.end()?;
    Some(Order { allow, all, block })
}

/// An address, `address/bits`, or the first one to three numbers of an IPv4 address.
fn subnet(line: &mut Line<'_>, word: &Word) -> Option<Prefix> {
    let (address, bits) = match word.text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (word.text.as_str(), None),
    };
    let Some((address, meant)) = partial(address) else {
        let message = format!("`{}` is not an address", word.text);
        let help = "write one like `192.0.2.0/24`, `192.0.2` or `2001:db8::/32`; of a host name write the addresses";
        line.error(word, message, help.into());
        return None;
    };
    let bits = match bits {
        None => Some(meant),
        Some(text) => text.parse().ok().filter(|_| !text.starts_with('+')),
    };
    let Some(prefix) = bits.and_then(|bits| Prefix::new(address, bits)) else {
        let most = if address.is_ipv4() { 32 } else { 128 };
        let message = format!("`{}` has no valid prefix length", word.text);
        line.error(
            word,
            message,
            format!("write a number from 0 to {most} after the `/`"),
        );
        return None;
    };
    if prefix.address() != address {
        let message = format!("{address} lies inside the block that is meant, {prefix}");
        line.note(word, message);
    }
    Some(prefix)
}

/// The address, and how many of its bits were written.
fn partial(text: &str) -> Option<(IpAddr, u8)> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some((address, if address.is_ipv4() { 32 } else { 128 }));
    }
    let mut octets = [0; 4];
    let numbers: Vec<&str> = text.trim_end_matches('.').split('.').collect();
    if numbers.len() > 3 {
        return None;
    }
    for (octet, number) in octets.iter_mut().zip(&numbers) {
        let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        *octet = digits.then(|| number.parse().ok()).flatten()?;
    }
    Some((octets.into(), 8 * numbers.len() as u8))
}

/// `local [options]`.
pub fn local(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    let (mut stratum, mut orphan) = (10, false);
    choices(line, directive, &LOCAL, |name, value| match name {
        "stratum" => stratum = value.parse().unwrap_or(stratum),
        "orphan" => orphan = true,
        _ => {}
    })?;
    Some(Statement::Local { stratum, orphan })
}

/// `ratelimit [options]`.
pub fn rate_limit(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    let mut bucket = Bucket::default();
    choices(line, directive, &RATELIMIT, |name, value| {
        let number: i32 = value.parse().unwrap_or_default();
        match name {
            "interval" => bucket.interval = NtpDuration::from_seconds(2_f64.powi(number)),
            "burst" => bucket.burst = number as u8,
            "leak" => bucket.leak_log2 = number as u8,
            _ => bucket.kod_log2 = number as u8,
        }
    })?;
    Some(Statement::RateLimit(RateLimit::Bucket(bucket)))
}

/// `cmdratelimit [options]`.
pub fn other_limit(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    choices(line, directive, &OTHER_LIMITS, |_, _| {})?;
    let message = format!("`{}` has no effect here", directive.text);
    line.note(directive, message);
    Some(Statement::Inert)
}

/// Reads all options of a line, in any order.
fn choices(
    line: &mut Line<'_>,
    directive: &Word,
    known: &Choices,
    mut take: impl FnMut(&str, &str),
) -> Option<()> {
    let mut good = true;
    while let Some(word) = line.take() {
        let name = word.text.to_ascii_lowercase();
        let Some(choice) = known.choices.iter().find(|choice| choice.name == name) else {
            let names = known.choices.iter().map(|choice| choice.name);
            line.unknown(&word, &directive.text, names);
            return None;
        };
        match take_choice(line, &word, choice) {
            Some(value) => take(choice.name, &value.text),
            None => good = false,
        }
    }
    good.then_some(())
}

fn seconds(line: &mut Line<'_>, directive: &Word, low: f64) -> Option<NtpDuration> {
    let word = take_kind(line, directive, Kind::Num(low, 1e9))?;
    let seconds: f64 = word.text.parse().ok()?;
    let duration = NtpDuration::from_seconds(seconds);
    // As a limit, 0 is what every offset is beyond; where `tinker` has a 0 there is none.
    Some(duration.max(NtpDuration::from_units(1)))
}

/// `makestep threshold limit`.
pub fn make_step(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    let threshold = seconds(line, directive, 0.0)?;
    let updates: i64 = line.integer(directive, -1_000_000_000..=1_000_000_000)?;
    line.end()?;
    Some(Statement::Tinker(vec![
        Tinker::Step(Some(threshold)),
        Tinker::StepUpdates(u32::try_from(updates).ok()),
    ]))
}

/// `initstepslew threshold [host]...`.
pub fn init_step_slew(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    let threshold = seconds(line, directive, 0.0)?;
    let mut hosts = Vec::new();
    while let Some(host) = line.take() {
        check_host(line, &host, host.text.parse().ok(), None)?;
        hosts.push(host.text);
    }
    if hosts.is_empty() {
        let message = "`initstepslew` names nobody to ask, so nothing is done";
        line.warning(directive, message.into(), "write hosts after it".into());
    }
    Some(Statement::InitialSetting(InitialSetting {
        threshold,
        hosts,
    }))
}

/// `maxchange offset start ignore`.
pub fn max_change(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    let limit = seconds(line, directive, 0.0)?;
    let start: i64 = line.integer(directive, 0..=1_000_000_000)?;
    let ignore: i64 = line.integer(directive, -1_000_000_000..=1_000_000_000)?;
    line.end()?;
    Some(Statement::Tinker(vec![
        Tinker::Panic(Some(limit)),
        Tinker::PanicAfter(start as u32),
        Tinker::PanicIgnored(u32::try_from(ignore).ok()),
    ]))
}

/// `minsources n`.
pub fn min_sources(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    let count: usize = line.integer(directive, 0..=1000)?;
    line.end()?;
    Some(Statement::Tos(vec![Tos::Minsane(count.max(1))]))
}

/// `maxdistance seconds`.
pub fn max_distance(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    let distance = seconds(line, directive, 0.0)?;
    line.end()?;
    Some(Statement::Tos(vec![Tos::Maxdist(distance)]))
}

/// `maxstratum n`.
pub fn max_stratum(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    let most: u8 = line.integer(directive, 0..=16)?;
    line.end()?;
    Some(Statement::Tos(vec![Tos::Ceiling((most + 1).min(16))]))
}

/// `authselectmode mode`.
pub fn auth_select_mode(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    let known = Kind::OneOf(&["mix", "prefer", "ignore", "require"]);
    let mode = take_kind(line, directive, known)?.text;
    line.end()?;
    Some(Statement::KeyedOnly(
        match mode.to_ascii_lowercase().as_str() {
            "require" => KeyedOnly::Always,
            "prefer" => KeyedOnly::IfAny,
            _ => KeyedOnly::Never,
        },
    ))
}

/// `driftfile file [interval seconds]`.
pub fn drift_file(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    let path = line.argument(directive, "a file name")?;
    if let Some(word) = line.take_if(|word| word.eq_ignore_ascii_case("interval")) {
        take_kind(line, &word, Kind::Int(0, 1 << 40))?;
        line.note(&word, "the drift file is written each hour".into());
    }
    line.end()?;
    Some(Statement::DriftFile {
        path: Some(path.text.into()),
        gains: true,
    })
}

/// Where tzdata keeps what `right/UTC` was made from.
const TZDATA_LEAPS: &str = "/usr/share/zoneinfo/leap-seconds.list";

/// `leapsectz zone`.
pub fn leap_zone(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    line.argument(directive, "a time zone like right/UTC")?;
    line.end()?;
    if Path::new(TZDATA_LEAPS).exists() {
        return Some(Statement::LeapFile(TZDATA_LEAPS.into()));
    }
    let message =
        format!("tzdata has no {TZDATA_LEAPS} here: servers are believed of leap seconds");
    line.note(directive, message);
    Some(Statement::Inert)
}

/// `leapsecmode mode`.
pub fn leap_mode(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    let known = Kind::OneOf(&["system", "step", "slew", "ignore"]);
    let mode = take_kind(line, directive, known)?.text.to_ascii_lowercase();
    line.end()?;
    Some(Statement::KernelLeaps(mode == "system" || mode == "step"))
}

/// `port n`.
pub fn port(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    let port = line.integer(directive, 0..=u16::MAX)?;
    line.end()?;
    Some(Statement::Port(port))
}

/// `bindaddress address`.
pub fn bind_address(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    own_address(line, directive).map(Statement::BindAddress)
}

/// `clientloglimit bytes`.
pub fn client_log_limit(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    let bytes: usize = line.integer(directive, 1..=1 << 40)?;
    line.end()?;
    Some(Statement::Clients {
        interleaved: None,
        limited: Some((bytes / rate::CLIENT_LEN).clamp(1, 1_000_000_000)),
    })
}

/// `noclientlog`.
pub fn no_client_log(line: &mut Line<'_>, _directive: &Word) -> Option<Statement> {
    line.end()?;
    Some(Statement::Recent(0))
}

/// `include pattern`.
pub fn include(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    let pattern = line.argument(directive, "a file name, or a pattern of names")?;
    line.end()?;
    Some(Statement::Include(Include::Pattern(pattern.text)))
}

/// `confdir directory...`.
pub fn conf_dir(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    Some(Statement::Include(Include::Directories(directories(
        line, directive,
    )?)))
}

/// `sourcedir directory...`.
pub fn source_dir(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    Some(Statement::Include(Include::Sources(directories(
        line, directive,
    )?)))
}

fn directories(line: &mut Line<'_>, directive: &Word) -> Option<Vec<PathBuf>> {
    let first = line.argument(directive, "a directory")?;
    let rest = line.take_rest();
    let all = std::iter::once(first).chain(rest);
    Some(all.map(|word| word.text.into()).collect())
}

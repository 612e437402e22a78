//! `server`, `pool` and `peer` of chrony.conf: whom to ask.

use std::net::Ipv4Addr;

use crate::client::options::SourceOptions;
use crate::config::association::{check_host, not_ourselves, of_peer};
use crate::config::directives::chrony_options::SOURCE;
use crate::config::directives::take_choice;
use crate::config::statement::{Line, Statement};
use crate::config::words::Word;
use crate::config::{Family, SourceConfig, SourceKind};
use crate::time::duration::NtpDuration;
use crate::time::units::PollExponent;

/// chrony's `maxsources` of a pool.
const MOST_DEFAULT: usize = 4;

/// `server`.
pub fn server(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    source(line, directive, SourceKind::Server)
}

/// `pool`.
pub fn pool(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    source(line, directive, SourceKind::Pool)
}

/// `peer`.
pub fn peer(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    source(line, directive, SourceKind::Peer)
}

fn source(line: &mut Line<'_>, directive: &Word, kind: SourceKind) -> Option<Statement> {
    let host = line.argument(directive, "a host name or an address")?;
    let mut source = SourceConfig {
        kind,
        name: host.text.clone(),
        family: None,
        most: (kind == SourceKind::Pool).then_some(MOST_DEFAULT),
        options: SourceOptions::default(),
    };
    let mut good = true;
    while let Some(word) = line.take() {
        good &= option(line, directive, &word, &mut source).is_some();
    }
    if host.text.starts_with("127.127.") && host.text.parse::<Ipv4Addr>().is_ok() {
        let message = format!("`{}` is a reference clock of ntp.conf's", host.text);
        let help = "write `local stratum 10` for the local clock, or `refclock` for a card's";
        line.error(&host, message, help.into());
        return None;
    }
    check_host(line, &host, host.text.parse().ok(), source.family)?;
    if kind == SourceKind::Peer {
        not_ourselves(line, &host, host.text.parse().ok())?;
    }
    let options = &mut source.options;
    // As chronyd: the longest gives way.
    options.maxpoll = options.maxpoll.max(options.minpoll);
    if kind == SourceKind::Peer {
        good &= of_peer(line, directive, options).is_some();
    }
    good.then_some(Statement::Source(source))
}

fn option(
    line: &mut Line<'_>,
    directive: &Word,
    word: &Word,
    source: &mut SourceConfig,
) -> Option<()> {
    let name = word.text.to_ascii_lowercase();
    let Some(choice) = SOURCE.choices.iter().find(|choice| choice.name == name) else {
        let known = SOURCE.choices.iter().map(|choice| choice.name);
        line.unknown(word, &directive.text, known);
        return None;
    };
    let value = take_choice(line, word, choice)?;
    let number = value.text.parse::<i64>().unwrap_or_default();
    let options = &mut source.options;
    match choice.name {
        "minpoll" => options.minpoll = poll(line, word, number),
        "maxpoll" => options.maxpoll = poll(line, word, number),
        "iburst" => options.iburst = true,
        "prefer" => options.prefer = true,
        "noselect" => options.noselect = true,
        "offline" => options.offline = true,
        "xleave" => options.xleave = true,
        "version" => options.version = number as u8,
        "port" => options.port = number as u16,
        "key" => options.key = Some(number as u32),
        "offset" => {
            options.offset = NtpDuration::from_seconds(value.text.parse().unwrap_or_default());
        }
        "extfield" if value.text.eq_ignore_ascii_case("F323") => {
            line.note(
                &value,
                "`extfield F323` has no effect: it is an experiment of chrony's".into(),
            );
        }
        "extfield" => options.correction = true,
        "ipv4" => source.family = Some(Family::V4),
        "ipv6" => source.family = Some(Family::V6),
        "maxsources" if source.kind == SourceKind::Pool => source.most = Some(number as usize),
        "maxsources" => line.note(word, "`maxsources` is for `pool` lines".into()),
        // Said already that it has no effect.
        _ => {}
    }
    Some(())
}

fn poll(line: &mut Line<'_>, word: &Word, asked: i64) -> PollExponent {
    let used = asked.min(PollExponent::MAX.log2().into()) as i8;
    if i64::from(used) != asked {
        let message = format!("`{} {asked}`: {used} is used, 36 hours", word.text);
        line.note(word, message);
    }
    PollExponent::new(used)
}

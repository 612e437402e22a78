//! `broadcast`: whom to tell the time unasked. `broadcastclient`, `multicastclient`: to be
//! told, and then ask.

use std::net::{IpAddr, SocketAddr};

use crate::client::options::{Heard, SourceOptions};
use crate::config::association::not_ourselves;
use crate::config::directives::ntp_options::BROADCAST;
use crate::config::directives::take_choice;
use crate::config::statement::{Line, Statement};
use crate::config::words::Word;
use crate::config::{BroadcastLine, SourceConfig, SourceKind};
use crate::time::duration::NtpDuration;
use crate::time::units::PollExponent;

/// ntpd's `minpoll`: 64 s.
const INTERVAL_LOG2_DEFAULT: i8 = 6;
/// As far as ntpd sends to a group unless told otherwise.
const HOPS_DEFAULT: u8 = 127;
/// The network itself, as chronyd and the kernel have it.
const HOPS_CHRONY: u8 = 1;

/// `broadcast address [option]...` of ntp.conf.
pub fn broadcast(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    let ip = address(line, directive)?;
    let mut told = BroadcastLine {
        to: SocketAddr::new(ip, 123),
        interval: PollExponent::new(INTERVAL_LOG2_DEFAULT).interval(),
        key: None,
        version: 4,
        hops: HOPS_DEFAULT,
    };
    while let Some(word) = line.take() {
        let Some(choice) = BROADCAST.choices.iter().find(|c| c.name == word.text) else {
            let known = BROADCAST.choices.iter().map(|choice| choice.name);
            line.unknown(&word, &directive.text, known);
            return None;
        };
        let value = take_choice(line, &word, choice)?;
        let number = value.text.parse::<i64>().unwrap_or_default();
        match choice.name {
            "minpoll" => told.interval = PollExponent::new(number as i8).interval(),
            "interval" => {
                told.interval = NtpDuration::from_seconds(value.text.parse().unwrap_or_default());
            }
            "key" => told.key = Some(number as u32),
            "version" => told.version = number as u8,
            "ttl" => told.hops = number as u8,
            "port" => told.to.set_port(number as u16),
            // Said already that it has no effect.
            _ => {}
        }
    }
    Some(Statement::Broadcast(told))
}

/// `broadcastclient [novolley]`.
pub fn broadcast_client(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    if let Some(word) = line.take_if(|word| word == "novolley") {
        let message = "`novolley` is not supported: a broadcast does not tell how long it took";
        let help = "let the server answer requests, or delete the line";
        line.warning(&word, message.into(), help.into());
    }
    line.end()?;
    Some(Statement::Source(heard(directive.text.clone())))
}

/// `multicastclient [address]...`.
pub fn multicast_client(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    let Some(word) = line.take() else {
        return Some(Statement::Source(heard(GROUP_DEFAULT.to_owned())));
    };
    if !word.text.parse().is_ok_and(|ip: IpAddr| ip.is_multicast()) {
        let message = format!("`{}` is not the address of a group", word.text);
        line.error(&word, message, format!("write one like `{GROUP_DEFAULT}`"));
        return None;
    }
    if let Some(word) = line.peek().cloned() {
        let help = format!(
            "write `{} {}` on a line of its own",
            directive.text, word.text
        );
        line.error(&word, "one group a line".into(), help);
        return None;
    }
    Some(Statement::Source(heard(word.text)))
}

/// The group that the IANA gave to NTP.
const GROUP_DEFAULT: &str = "224.0.1.1";

fn heard(name: String) -> SourceConfig {
    SourceConfig {
        kind: SourceKind::Heard,
        name,
        family: None,
        most: None,
        options: SourceOptions {
            iburst: true,
            heard: Some(Heard { signed: true }),
            ..SourceOptions::default()
        },
    }
}

/// `broadcast interval address [port]` of chrony.conf.
pub fn broadcast_chrony(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    let interval_s: i64 = line.integer(directive, 1..=65_536)?;
    let ip = address(line, directive)?;
    let port = match line.peek().cloned() {
        None => 123,
        Some(_) => line.integer(directive, 1..=u16::MAX)?,
    };
    line.end()?;
    Some(Statement::Broadcast(BroadcastLine {
        to: SocketAddr::new(ip, port),
        interval: NtpDuration::from_whole_seconds(interval_s),
        key: None,
        version: 4,
        hops: HOPS_CHRONY,
    }))
}

fn address(line: &mut Line<'_>, directive: &Word) -> Option<IpAddr> {
    let word = line.argument(directive, "a broadcast address or a group")?;
    match word.text.parse::<IpAddr>() {
        Ok(ip) if !ip.is_unspecified() => {
            not_ourselves(line, &word, Some(ip))?;
            Some(ip)
        }
        _ => {
            let message = format!("`{}` is no address to send to", word.text);
            let help = "write a network's broadcast address, like `192.0.2.255`, or a group's, like `224.0.1.1`";
            line.error(&word, message, help.into());
            None
        }
    }
}

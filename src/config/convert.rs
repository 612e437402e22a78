//! A [`Config`] as a chrony.conf: for who goes the other way. What that dialect can't say
//! comes back as a sentence. (The way to ntp.conf is [`native`](crate::config::native).)

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use crate::config::keys::{KeyFormat, Trust, trust_as_text};
use crate::config::native::{self, seconds};
use crate::config::stamping::CardLine;
use crate::config::{Commands, Config, Family, Listen, SourceConfig, SourceKind};
use crate::server::access::AccessTable;
use crate::server::rule::{Flags, Prefix, RateLimit, Rule, Who};
use crate::time::duration::NtpDuration;
use crate::wire::ptp::DOMAIN_DEFAULT;

/// The lines, and what they don't say.
pub fn to_chrony(config: &Config) -> (Vec<String>, Vec<String>) {
    let (mut lines, mut lost) = (Vec::new(), Vec::new());
    for heard in &config.sources {
        if heard.kind == SourceKind::Heard {
            let line = native::source(heard);
            lost.push(format!("`{line}`: chronyd does not listen to broadcasts"));
        } else {
            lines.push(source(heard));
        }
    }
    for source in config.sources.iter().filter(|s| s.options.burst) {
        lost.push(format!(
            "`burst` of {}: chronyd sends several requests only after failures",
            source.name
        ));
    }
    keys(config, &mut lines, &mut lost);
    clock(config, &mut lines, &mut lost);
    serving(config, &mut lines, &mut lost);
    over_ptp(config, &mut lines, &mut lost);
    hardware(config, &mut lines, &mut lost);
    lines.extend(native::leaving(config));
    commands(config, &mut lines);
    statistics(config, &mut lines, &mut lost);
    (lines, lost)
}

fn statistics(config: &Config, lines: &mut Vec<String>, lost: &mut Vec<String>) {
    lines.extend(native::logs(&config.statistics));
    for (file, _) in config.statistics.written() {
        if !file.kind.is_chronys() {
            let word = file.kind.word();
            lost.push(format!("`{word}`: chronyd has files of its own; see `log`"));
        }
    }
}

fn over_ptp(config: &Config, lines: &mut Vec<String>, lost: &mut Vec<String>) {
    let mut asked = config.sources.iter().filter_map(|source| {
        let options = source.options;
        options.over_ptp.map(|_| options.port)
    });
    // chronyd asks over PTP whom it asks on its own port of PTP.
    if let Some(port) = config.ptp_port.or_else(|| asked.clone().next()) {
        lines.push(format!("ptpport {port}"));
        if asked.any(|other| other != port) {
            lost.push(format!(
                "`ptp`: chronyd asks over PTP on port {port}, and nowhere else"
            ));
        }
        if config.ptp_port.is_none() {
            lost.push(format!(
                "chronyd, which asks over PTP, also answers on port {port}"
            ));
        }
        if config.ptp_domain != DOMAIN_DEFAULT {
            lines.push(format!("ptpdomain {}", config.ptp_domain));
        }
    }
}

/// Cards and clocks.
fn hardware(config: &Config, lines: &mut Vec<String>, lost: &mut Vec<String>) {
    for card in &config.stamping.cards {
        let unrestored = CardLine {
            restore: false,
            ..card.clone()
        };
        lines.push(native::card(&unrestored));
        if card.restore {
            lost.push("`restore` of `hwtimestamp`: chronyd leaves the card as it is".into());
        }
    }
    for line in &config.broadcasts {
        let (ip, port) = (line.to.ip(), line.to.port());
        let own_s = line.interval.as_seconds();
        let interval_s = own_s.clamp(1.0, 65_536.0).round();
        lines.push(format!("broadcast {interval_s} {ip} {port}"));
        if interval_s != own_s {
            lost.push(format!(
                "`broadcast {ip}` each {own_s} s: chronyd takes whole seconds up to 65536"
            ));
        }
        if let Some(id) = line.key {
            lost.push(format!(
                "`key {id}` of `broadcast {ip}`: chronyd does not sign broadcasts"
            ));
        }
    }
    for line in &config.xdp.lines {
        lost.push(format!(
            "`xdp {}`: chronyd answers by sockets alone",
            line.interface.word()
        ));
    }
    for phc in &config.disciplined {
        lost.push(format!("`phc discipline {}`: see phc2sys(8)", phc.device));
    }
    let rtc = &config.rtc;
    lines.extend(rtc.kernel_sets.then(|| "rtcsync".to_owned()));
    let paths = [
        ("rtcfile", &rtc.file),
        ("rtcdevice", &rtc.device),
        ("hwclockfile", &rtc.hwclock_file),
    ];
    for (word, path) in paths {
        lines.extend(path.iter().map(|path| format!("{word} {}", path.display())));
    }
    lines.extend((rtc.on_utc == Some(true)).then(|| "rtconutc".to_owned()));
    if let Some(limit) = rtc.autotrim {
        lines.push(format!("rtcautotrim {}", seconds(limit)));
    }
}

fn commands(config: &Config, lines: &mut Vec<String>) {
    let (commands, default) = (&config.commands, Commands::of_chrony());
    if commands.port != default.port {
        lines.push(format!("cmdport {}", commands.port));
    }
    if commands.v4 != default.v4 {
        lines.push(format!("bindcmdaddress {}", commands.v4));
    }
    if commands.v6 != default.v6 {
        lines.push(format!("bindcmdaddress {}", commands.v6));
    }
    if commands.path != default.path {
        let path = commands.path.as_deref().unwrap_or(Path::new("/"));
        lines.push(format!("bindcmdaddress {}", path.display()));
    }
    for (block, allow) in &commands.allowed {
        let word = if *allow { "cmdallow" } else { "cmddeny" };
        lines.push(format!("{word} {block}"));
    }
    lines.extend(config.manual.then(|| "manual".to_owned()));
    lines.extend((config.recent_clients() == 0).then(|| "noclientlog".to_owned()));
}

fn source(source: &SourceConfig) -> String {
    if let Some(clock) = &source.options.clock {
        return native::clock(source, clock);
    }
    let kind = match source.kind {
        SourceKind::Server | SourceKind::Clock | SourceKind::Heard => "server",
        SourceKind::Peer => "peer",
        SourceKind::Pool => "pool",
    };
    let options = &source.options;
    let mut line = format!("{kind} {}", source.name);
    let switches = [
        (options.iburst, "iburst"),
        (options.prefer, "prefer"),
        (options.noselect, "noselect"),
        (options.offline, "offline"),
        (options.xleave, "xleave"),
        (source.family == Some(Family::V4), "ipv4"),
        (source.family == Some(Family::V6), "ipv6"),
    ];
    for (_, word) in switches.iter().filter(|(on, _)| *on) {
        line += &format!(" {word}");
    }
    line += &format!(
        " minpoll {} maxpoll {}",
        options.minpoll.log2(),
        options.maxpoll.log2()
    );
    if options.version != 4 {
        line += &format!(" version {}", options.version);
    }
    if let Some(id) = options.key {
        line += &format!(" key {id}");
    }
    if options.port != 123 {
        line += &format!(" port {}", options.port);
    }
    if options.offset != NtpDuration::ZERO {
        line += &format!(" offset {}", seconds(options.offset));
    }
    if options.correction {
        line += " extfield 10A";
    }
    if let (SourceKind::Pool, most) = (source.kind, source.most) {
        line += &format!(" maxsources {}", most.unwrap_or(4).min(16));
    }
    line
}

fn keys(config: &Config, lines: &mut Vec<String>, lost: &mut Vec<String>) {
    let keys = &config.keys;
    let Some(path) = &keys.file else {
        return;
    };
    lines.push(format!("keyfile {}", path.display()));
    if keys.format == KeyFormat::Ntp {
        lost.push(format!(
            "{} is written as ntpd reads it: write its keys anew, as `ID TYPE HEX:DIGITS` or `ID TYPE ASCII:TEXT`",
            path.display()
        ));
    }
    if keys.trusted != Trust::All {
        lost.push(format!(
            "`trustedkey {}`: chronyd trusts all keys of the file",
            trust_as_text(&keys.trusted)
        ));
    }
    if let Some(id) = keys.control {
        lost.push(format!("`controlkey {id}`: there is no mode 6 in chronyd"));
    }
}

fn clock(config: &Config, lines: &mut Vec<String>, lost: &mut Vec<String>) {
    let step = config.step;
    if step.threshold_back != step.threshold {
        lost.push("`stepfwd` and `stepback`: chronyd has one limit for both directions".into());
    }
    lines.extend(config.initial.as_ref().map(native::init_step_slew));
    if let Some(threshold) = step.threshold.max(step.threshold_back) {
        let updates = step.step_updates.map_or(-1, i64::from);
        lines.push(format!("makestep {} {updates}", seconds(threshold)));
        if step.stepout > NtpDuration::ZERO && updates < 0 {
            lost.push(format!(
                "an offset is stepped at once, not after {} s",
                seconds(step.stepout)
            ));
        }
    }
    if let Some(panic) = step.panic {
        let ignored = step.panic_ignored.map_or(-1, i64::from);
        lines.push(format!(
            "maxchange {} {} {ignored}",
            seconds(panic),
            step.panic_after
        ));
    }
    let select = config.select;
    lines.push(format!("minsources {}", select.minsane));
    lines.push(format!("maxdistance {}", seconds(select.maxdist)));
    // Only new versions of chronyd know the word; 15 is its default.
    if select.ceiling < 16 {
        lines.push(format!("maxstratum {}", select.ceiling - 1));
    }
    if select.floor > 0 {
        lost.push(format!(
            "`tos floor {}`: lower strata are followed",
            select.floor
        ));
    }
    if let Some(path) = &config.drift_file {
        lines.push(format!("driftfile {}", path.display()));
        if !config.drift_gains {
            lost.push(format!(
                "{} holds the clock's correction; chronyd takes it for its error: start with a new file",
                path.display()
            ));
        }
    }
    if let Some(path) = &config.leap_file {
        lines.push(format!("leapseclist {}", path.display()));
    }
    if !config.kernel_leaps {
        lines.push("leapsecmode slew".into());
    }
    if !config.discipline {
        lost.push("`disable ntp`: start chronyd with -x".into());
    }
    if let Some(local) = config.local_clock {
        let orphan = if config.orphan { " orphan" } else { "" };
        let stratum = (local.stratum + 1).min(15);
        lines.push(format!("local stratum {stratum}{orphan}"));
    }
}

/// Who is served by our rules is allowed; other flags have no words in chrony.conf.
fn serving(config: &Config, lines: &mut Vec<String>, lost: &mut Vec<String>) {
    let table = AccessTable::compile(&config.rules, &[]);
    let is_served = |address: IpAddr| {
        let flags = table.lookup(address, 40_000);
        !flags.intersects(Flags::IGNORE | Flags::NOSERVE | Flags::NOCLIENT | Flags::NOTRUST)
    };
    let mut blocks = vec![Prefix::ALL_V4, Prefix::ALL_V6];
    let mut others = Flags::NONE;
    for rule in &config.rules {
        let (Rule::Restrict(who, flags) | Rule::Unrestrict(who, flags)) = *rule;
        others |= flags;
        if let Who::Block { prefix, ntpport } = who {
            if ntpport {
                lost.push(format!(
                    "`ntpport` of {prefix}: chronyd does not look at ports"
                ));
            } else if !blocks.contains(&prefix) {
                blocks.push(prefix);
            }
        }
    }
    blocks.sort_by_key(|block| (block.address().is_ipv6(), block.bits(), block.address()));
    let mut orders = Vec::new();
    for block in &blocks {
        let allow = is_served(representative(*block, &blocks));
        orders.push((*block, allow));
    }
    let anybody = orders.iter().any(|(_, allow)| *allow);
    if anybody && config.listen != Listen::Nowhere {
        for (block, allow) in orders {
            let word = if allow { "allow" } else { "deny" };
            lines.push(format!("{word} {block}"));
        }
    }
    let limited = others.contains(Flags::LIMITED);
    match config.rate_limit {
        RateLimit::Bucket(bucket) if limited => lines.push(format!(
            "ratelimit interval {} burst {} leak {} kod {}",
            bucket
                .interval
                .as_seconds()
                .log2()
                .round()
                .clamp(-19.0, 12.0),
            bucket.burst,
            bucket.leak_log2.clamp(1, 4),
            bucket.kod_log2.min(4)
        )),
        RateLimit::Headway(limit) if limited => lines.push(format!(
            "ratelimit interval {} burst 8 kod {}",
            limit.average_log2_s.min(12),
            u8::from(others.contains(Flags::KOD))
        )),
        _ => {}
    }
    if limited {
        lost.push("`limited` is for all clients, not for those of its rule alone".into());
    }
    let silent = Flags::NOQUERY
        | Flags::NOMODIFY
        | Flags::NOMRULIST
        | Flags::NOTRAP
        | Flags::LOWPRIOTRAP
        | Flags::NOPEER
        | Flags::NOEPEER;
    let served = Flags::IGNORE | Flags::NOSERVE | Flags::NOCLIENT | Flags::NOTRUST;
    for (word, flag) in Flags::WORDS {
        let known = silent.contains(flag)
            || served.contains(flag)
            || Flags::contains(Flags::LIMITED | Flags::KOD, flag);
        if others.contains(flag) && !known {
            lost.push(format!("`{word}` of `restrict` has no word in chrony.conf"));
        }
    }
    match &config.listen {
        Listen::Everywhere | Listen::Nowhere => {}
        Listen::Loopback => {
            lines.push("bindaddress 127.0.0.1".into());
            lines.push("bindaddress ::1".into());
        }
        Listen::At(addresses) => {
            for is_v4 in [true, false] {
                let mut family = addresses.iter().filter(|a| a.is_ipv4() == is_v4);
                match (family.next(), family.next()) {
                    (Some(one), None) => lines.push(format!("bindaddress {one}")),
                    (Some(one), Some(_)) => {
                        lines.push(format!("bindaddress {one}"));
                        lost.push("chronyd answers on one address of each family".into());
                    }
                    (None, _) => {
                        let family = if is_v4 { "IPv4" } else { "IPv6" };
                        lost.push(format!(
                            "chronyd answers on {family} as well, as far as `allow` says"
                        ));
                    }
                }
            }
        }
    }
    lines.extend(config.port.map(|port| format!("port {port}")));
}

/// An address of `block` that lies in none of the longer ones, where there is one near its
/// start: whom the block itself is about.
fn representative(block: Prefix, blocks: &[Prefix]) -> IpAddr {
    let longer = |address: IpAddr| {
        let mut within = blocks.iter().filter(|other| other.contains(address));
        within.find(|other| other.bits() > block.bits()).copied()
    };
    let mut address = block.address();
    for _ in 0..blocks.len() {
        let Some(inner) = longer(address) else {
            break;
        };
        match after(inner) {
            Some(next) if block.contains(next) => address = next,
            _ => break,
        }
    }
    address
}

/// The first address behind a block.
fn after(block: Prefix) -> Option<IpAddr> {
    match block.address() {
        IpAddr::V4(v4) => {
            let width = 1_u32.checked_shl(32 - u32::from(block.bits()))?;
            let next = u32::from(v4).checked_add(width)?;
            Some(Ipv4Addr::from(next).into())
        }
        IpAddr::V6(v6) => {
            let width = 1_u128.checked_shl(128 - u32::from(block.bits()))?;
            let next = u128::from(v6).checked_add(width)?;
            Some(std::net::Ipv6Addr::from(next).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::dialect::Dialect;
    use crate::config::load::load_text;
    use std::path::Path;

    fn loaded(text: &str, dialect: Dialect) -> Config {
        let loaded = load_text(Path::new("x.conf"), text, dialect);
        loaded
            .unwrap_or_else(|why| panic!("{text}: {why:?}"))
            .config
    }

    #[test]
    fn what_both_can_say_survives_the_way() {
        let config = loaded(
            "server a.example iburst prefer\npool -6 b.example minpoll 4\n\
             restrict default nomodify noquery\nrestrict 10.0.0.0/8 ignore\nrestrict 10.1.0.0/16\n\
             tos minsane 2\ntinker panic 50 step 0.5 stepout 0\nleapfile /l\nserver 127.127.1.0\n",
            Dialect::Ntp,
        );
        let (lines, lost) = to_chrony(&config);
        assert!(lost.is_empty(), "{lost:?}");
        let again = loaded(&lines.join("\n"), Dialect::Chrony);
        for (one, other) in config.sources.iter().zip(&again.sources) {
            assert_eq!((&one.name, one.options), (&other.name, other.options));
        }
        assert_eq!(again.local_clock, config.local_clock);
        assert_eq!(again.step, config.step);
        assert_eq!(again.select.minsane, 2);
        assert_eq!(again.leap_file, config.leap_file);
        let table = AccessTable::compile(&again.rules, &[]);
        for (address, served) in [
            ("9.0.0.1", true),
            ("10.2.0.1", false),
            ("10.1.0.1", true),
            ("2001:db8::1", true),
        ] {
            let flags = table.lookup(address.parse().unwrap(), 40_000);
            assert_eq!(!flags.contains(Flags::NOCLIENT), served, "{address}");
        }
    }

    #[test]
    fn what_chrony_cannot_say_is_told() {
        let config = loaded(
            "server a.example\ndriftfile /d\ntos floor 2\nrestrict 10.0.0.0/8 flake\n\
             keys /nonexistent/k\ntrustedkey 5\n",
            Dialect::Ntp,
        );
        let (_, lost) = to_chrony(&config);
        let all = lost.join("\n");
        for word in ["/d", "floor", "flake", "300 s", "HEX:", "`trustedkey 5`"] {
            assert!(all.contains(word), "{word}: {all}");
        }
    }
}

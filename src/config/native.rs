//! A [`Config`] as a file in ptntp's own dialect. Every default is written
//! out, and the file loads again to the same `Config`.

use std::net::IpAddr;
use std::path::Path;

use crate::client::refclock::ClockOptions;
use crate::config::BroadcastLine;
use crate::config::keys::{KeyFormat, Trust, trust_as_text};
use crate::config::stamping::CardLine;
use crate::config::statistics::{FileKind, StatisticsConfig};
use crate::config::xdp::XdpLine;
use crate::config::{
    Config, Family, InitialSetting, Listen, PhcLine, RtcConfig, SourceConfig, SourceKind,
};
use crate::server::respond::BadMac;
use crate::server::rule::{Flags, Prefix, RateLimit, Rule, Who};
use crate::time::duration::NtpDuration;

/// The lines of the file. What a file can't say is not in them: the first
/// setting without a panic limit (`-g`).
pub fn lines(config: &Config) -> Vec<String> {
    let mut lines: Vec<String> = config.sources.iter().map(source).collect();
    if let Some(clock) = config.local_clock.filter(|_| config.orphan) {
        lines.push(format!("tos orphan {}", clock.stratum + 1));
    } else if let Some(clock) = config.local_clock {
        lines.push("server 127.127.1.0".into());
        lines.push(format!("fudge 127.127.1.0 stratum {}", clock.stratum));
    }
    lines.extend(config.rules.iter().map(rule));
    lines.push(match config.rate_limit {
        RateLimit::Headway(limit) => format!(
            "discard average {} minimum {}",
            limit.average_log2_s, limit.minimum_s
        ),
        RateLimit::Bucket(bucket) => format!(
            "limit interval {} burst {} leak {} kisses {}",
            seconds(bucket.interval),
            bucket.burst,
            bucket.leak_log2,
            bucket.kod_log2
        ),
    });
    let keys = &config.keys;
    if let Some(path) = &keys.file {
        let format = match keys.format {
            KeyFormat::Ntp => "",
            KeyFormat::Chrony => " chrony",
        };
        lines.push(format!("keys {}{format}", quoted(path)));
    }
    if keys.trusted != Trust::default() {
        lines.push(format!("trustedkey {}", trust_as_text(&keys.trusted)));
    }
    if let Some(id) = keys.control {
        lines.push(format!("controlkey {id}"));
    }
    lines.push(match keys.bad_mac {
        BadMac::Refused => "cryptonak on".into(),
        BadMac::Ignored => "cryptonak off".into(),
    });
    let step = config.step;
    let mut tinker = format!(
        "tinker step {} panic {} stepout {}",
        seconds(step.threshold.unwrap_or(NtpDuration::ZERO)),
        seconds(step.panic.unwrap_or(NtpDuration::ZERO)),
        seconds(step.stepout)
    );
    if step.threshold_back != step.threshold {
        let back = step.threshold_back.unwrap_or(NtpDuration::ZERO);
        tinker += &format!(" stepback {}", seconds(back));
    }
    if let Some(updates) = step.step_updates {
        tinker += &format!(" stepupdates {updates}");
    }
    if step.panic_after > 0 {
        tinker += &format!(" panicafter {}", step.panic_after);
    }
    match step.panic_ignored {
        Some(0) => {}
        Some(most) => tinker += &format!(" panicignore {most}"),
        None => tinker += " panicignore -1",
    }
    lines.push(tinker);
    lines.extend(config.initial.as_ref().map(init_step_slew));
    let select = config.select;
    lines.push(format!(
        "tos minsane {} minclock {} maxclock {} maxdist {} mindist {} floor {} ceiling {}",
        select.minsane,
        select.minclock,
        select.maxclock,
        seconds(select.maxdist),
        seconds(select.mindist),
        select.floor,
        select.ceiling
    ));
    let gains = if config.drift_gains { " gains" } else { "" };
    lines.push(match &config.drift_file {
        Some(path) => format!("driftfile {}{gains}", quoted(path)),
        None => format!("driftfile \"\"{gains}"),
    });
    let leap_file = config.leap_file.as_deref();
    lines.extend(leap_file.map(|path| format!("leapfile {}", quoted(path))));
    lines.push(if config.kernel_leaps {
        "leapseconds kernel".into()
    } else {
        "leapseconds slew".into()
    });
    lines.push(if config.discipline {
        "enable ntp".into()
    } else {
        "disable ntp".into()
    });
    let mut heard = config.sources.iter().filter_map(|s| s.options.heard);
    if heard.any(|heard| !heard.signed) {
        lines.push("disable auth".into());
    }
    lines.extend(statistics(&config.statistics));
    lines.extend(config.stamping.cards.iter().map(card));
    lines.push(format!("hwtstimeout {}", seconds(config.stamping.timeout)));
    lines.extend(
        config
            .xdp
            .lines
            .iter()
            .map(|line| xdp(line, config.xdp.prefixes)),
    );
    lines.push(match &config.listen {
        Listen::Everywhere => "listen everywhere".into(),
        Listen::Loopback => "listen loopback".into(),
        Listen::Nowhere => "listen nowhere".into(),
        Listen::At(addresses) => {
            let words = addresses.iter().map(|address| format!(" {address}"));
            format!("listen{}", words.collect::<String>())
        }
    });
    lines.push(format!(
        "clients interleaved {} limited {}",
        config.clients.interleaved, config.clients.limited
    ));
    lines.extend(
        config
            .recent
            .map(|clients| format!("mru maxdepth {clients}")),
    );
    lines.extend(config.disciplined.iter().map(phc));
    lines.extend(config.broadcasts.iter().map(broadcast));
    lines.extend(config.port.map(|port| format!("port {port}")));
    lines.push(format!("ptpport {}", config.ptp_port.unwrap_or(0)));
    lines.push(format!("ptpdomain {}", config.ptp_domain));
    lines.push(if config.busy_poll {
        "busypoll on".into()
    } else {
        "busypoll off".into()
    });
    lines.extend(leaving(config));
    lines.extend(rtc(&config.rtc));
    let control = config.control.as_deref();
    lines.extend(control.map(|path| format!("control {}", quoted(path))));
    lines.push(match config.metrics {
        Some(address) => format!("metrics {address}"),
        None => "metrics off".into(),
    });
    lines.push(if config.manual {
        "manual on".into()
    } else {
        "manual off".into()
    });
    let commands = &config.commands;
    lines.push(format!("cmdport {}", commands.port));
    lines.push(format!("bindcmdaddress {}", commands.v4));
    lines.push(format!("bindcmdaddress {}", commands.v6));
    lines.extend(commands.allowed.iter().map(|(block, allow)| {
        let word = if *allow { "cmdallow" } else { "cmddeny" };
        format!("{word} {block}")
    }));
    lines.push(match &commands.path {
        Some(path) => format!("bindcmdaddress {}", quoted(path)),
        None => "bindcmdaddress /".into(),
    });
    lines
}

/// The `initstepslew` line.
pub fn init_step_slew(initial: &InitialSetting) -> String {
    let threshold = seconds(initial.threshold);
    format!("initstepslew {threshold} {}", initial.hosts.join(" "))
}

/// The lines about files of measurements.
pub fn statistics(config: &StatisticsConfig) -> Vec<String> {
    let mut lines = Vec::new();
    let directory = config.directory.as_deref();
    lines.extend(directory.map(|path| format!("statsdir {}", quoted(path))));
    for file in config.files.iter().filter(|f| !f.kind.is_chronys()) {
        lines.push(format!(
            "filegen {} file {} type {} {} enable",
            file.kind.word(),
            quoted(Path::new(&file.name)),
            file.rotation.word(),
            if file.link { "link" } else { "nolink" }
        ));
    }
    lines.push(if config.enabled {
        "enable stats".into()
    } else {
        "disable stats".into()
    });
    lines.extend(logs(config));
    lines
}

/// Those of them that chrony.conf knows too.
pub fn logs(config: &StatisticsConfig) -> Vec<String> {
    let mut lines = Vec::new();
    let directory = config.log_directory.as_deref();
    lines.extend(directory.map(|path| format!("logdir {}", quoted(path))));
    let logs = config.files.iter().filter(|file| file.kind.is_chronys());
    let words: Vec<&str> = logs
        .map(|file| match file.kind {
            FileKind::Measurements if config.raw => "rawmeasurements",
            kind => kind.word(),
        })
        .collect();
    if !words.is_empty() {
        lines.push(format!("log {}", words.join(" ")));
    }
    lines.push(format!("logbanner {}", config.banner));
    let change = config.change;
    lines.extend(change.map(|limit| format!("logchange {}", seconds(limit))));
    lines
}

/// How packets leave, and `pidfile`; both dialects have the words.
pub fn leaving(config: &Config) -> Vec<String> {
    let leaving = &config.leaving;
    let mut lines = vec![format!("dscp {}", leaving.dscp)];
    lines.extend(leaving.v4.map(|v4| format!("bindacqaddress {v4}")));
    lines.extend(leaving.v6.map(|v6| format!("bindacqaddress {v6}")));
    let device = leaving.device.as_deref();
    lines.extend(device.map(|device| format!("bindacqdevice {}", word(device))));
    let pid_file = config.pid_file.as_deref();
    lines.extend(pid_file.map(|path| format!("pidfile {}", quoted(path))));
    lines
}

fn rtc(rtc: &RtcConfig) -> Vec<String> {
    let on = |on| if on { "on" } else { "off" };
    let mut lines = vec![format!("rtcsync {}", on(rtc.kernel_sets))];
    let paths = [
        ("rtcfile", &rtc.file),
        ("rtcdevice", &rtc.device),
        ("hwclockfile", &rtc.hwclock_file),
    ];
    let named =
        |(word, path): (_, &Option<_>)| Some(format!("{word} {}", quoted(path.as_deref()?)));
    lines.extend(paths.into_iter().filter_map(named));
    lines.extend(rtc.on_utc.map(|utc| format!("rtconutc {}", on(utc))));
    let limit = rtc.autotrim.unwrap_or(NtpDuration::ZERO);
    lines.push(format!("rtcautotrim {}", seconds(limit)));
    lines
}

/// A `refclock` line, in the words that both dialects know.
pub fn clock(source: &SourceConfig, clock: &ClockOptions) -> String {
    let options = &source.options;
    let refid = clock.refid.bytes();
    let letters = refid.iter().take_while(|&&octet| octet != 0);
    let refid: String = letters.map(|&octet| char::from(octet)).collect();
    let suffix = if clock.nocrossts { ":nocrossts" } else { "" };
    let device = format!("{}{suffix}", source.name);
    let mut line = format!("refclock PHC {}", word(&device));
    let switches = [
        (options.prefer, "prefer"),
        (options.noselect, "noselect"),
        (clock.tai, "tai"),
    ];
    for (_, word) in switches.iter().filter(|(on, _)| *on) {
        line += " ";
        line += word;
    }
    line + &format!(
        " poll {} dpoll {} refid {refid} stratum {} offset {} delay {} precision {} filter {}",
        options.minpoll.log2(),
        clock.dpoll.log2(),
        clock.stratum,
        seconds(clock.offset),
        seconds(clock.delay),
        seconds(clock.precision),
        clock.filter
    )
}

fn broadcast(line: &BroadcastLine) -> String {
    let key = line.key.map(|id| format!(" key {id}")).unwrap_or_default();
    format!(
        "broadcast {} interval {} version {} ttl {} port {}{key}",
        line.to.ip(),
        seconds(line.interval),
        line.version,
        line.hops,
        line.to.port()
    )
}

fn phc(phc: &PhcLine) -> String {
    let scale = if phc.tai { "tai" } else { "utc" };
    let (device, step) = (word(&phc.device), seconds(phc.step));
    format!("phc discipline {device} {scale} step {step}")
}

/// A `server`, `pool`, `peer`, `refclock` or `broadcastclient` line.
pub fn source(source: &SourceConfig) -> String {
    if let Some(clock) = &source.options.clock {
        return self::clock(source, clock);
    }
    if source.kind == SourceKind::Heard {
        return match source.name.parse::<IpAddr>() {
            Ok(group) => format!("multicastclient {group}"),
            Err(_) => "broadcastclient".to_owned(),
        };
    }
    let mut words = vec![match source.kind {
        SourceKind::Server | SourceKind::Clock | SourceKind::Heard => "server".to_owned(),
        SourceKind::Peer => "peer".to_owned(),
        SourceKind::Pool => "pool".to_owned(),
    }];
    words.extend(source.family.map(|family| match family {
        Family::V4 => "-4".to_owned(),
        Family::V6 => "-6".to_owned(),
    }));
    words.push(word(&source.name));
    let options = &source.options;
    let switches = [
        (options.iburst, "iburst"),
        (options.burst, "burst"),
        (options.prefer, "prefer"),
        (options.noselect, "noselect"),
        (options.offline, "offline"),
        (options.xleave, "xleave"),
        (options.over_ptp.is_some(), "ptp"),
        (options.correction, "extfield 10A"),
    ];
    let on = switches.iter().filter(|(on, _)| *on);
    words.extend(on.map(|(_, word)| (*word).to_owned()));
    words.extend(options.key.map(|id| format!("key {id}")));
    if options.offset != NtpDuration::ZERO {
        words.push(format!("offset {}", seconds(options.offset)));
    }
    if let (SourceKind::Pool, Some(most)) = (source.kind, source.most) {
        words.push(format!("maxsources {most}"));
    }
    words.push(format!(
        "minpoll {} maxpoll {} version {} port {}",
        options.minpoll.log2(),
        options.maxpoll.log2(),
        options.version,
        options.port
    ));
    words.join(" ")
}

/// A `hwtimestamp` line.
pub fn card(card: &CardLine) -> String {
    let mut line = format!(
        "hwtimestamp {} minpoll {} precision {} txcomp {} rxcomp {}",
        quoted(Path::new(card.interface.word())),
        card.poll.log2(),
        seconds(card.precision),
        seconds(card.tx_compensation),
        seconds(card.rx_compensation)
    );
    if !card.precise {
        line += " nocrossts";
    }
    if let Some(filter) = card.filter {
        line += " rxfilter ";
        line += filter.word();
    }
    if card.restore {
        line += " restore";
    }
    line
}

fn xdp(line: &XdpLine, prefixes: Option<u32>) -> String {
    let (name, mode) = (line.interface.word(), line.mode.word());
    let prefixes = prefixes.map(|prefixes| format!(" prefixes {prefixes}"));
    format!(
        "xdp {} mode {mode}{}",
        quoted(Path::new(name)),
        prefixes.unwrap_or_default()
    )
}

fn rule(rule: &Rule) -> String {
    let (verb, who, flags) = match *rule {
        Rule::Restrict(who, flags) => ("restrict", who, flags),
        Rule::Unrestrict(who, flags) => ("unrestrict", who, flags),
    };
    let (who, ntpport) = match who {
        Who::Source => ("source".into(), false),
        Who::Block { prefix, ntpport } => (block(prefix), ntpport),
    };
    let mut line = format!("{verb} {who}");
    if flags != Flags::NONE {
        line += &format!(" {flags}");
    }
    if ntpport {
        line += " ntpport";
    }
    line
}

fn block(prefix: Prefix) -> String {
    match prefix {
        Prefix::ALL_V4 => "-4 default".into(),
        Prefix::ALL_V6 => "-6 default".into(),
        one if one == Prefix::host(one.address()) => one.address().to_string(),
        many => many.to_string(),
    }
}

/// The shortest decimal that stands for this very duration.
pub fn seconds(duration: NtpDuration) -> String {
    let s = duration.as_seconds();
    (0..=12)
        .map(|digits| format!("{s:.digits$}"))
        .find(|text| text.parse().map(NtpDuration::from_seconds) == Ok(duration))
        // Rust writes a float with as many digits as it takes to read it back.
        .unwrap_or_else(|| s.to_string())
}

fn quoted(path: &Path) -> String {
    word(&path.display().to_string())
}

/// As one word: nothing in it has a quote.
fn word(text: &str) -> String {
    if text.is_empty() || text.contains([' ', '#']) {
        format!("\"{text}\"")
    } else {
        text.to_owned()
    }
}

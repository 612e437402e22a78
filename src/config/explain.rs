//! What a line does, in plain words and with the numbers that apply.

use std::net::IpAddr;

use std::time::Duration;

use crate::client::refclock::ClockOptions;
use crate::config::access::flags_of;
use crate::config::keys::{Trust, trust_as_text};
use crate::config::native::seconds;
use crate::config::nic::Match;
use crate::config::stamping::{CardLine, Filter, Which};
use crate::config::statement::{
    CommandAddress, Include, KeyedOnly, RtcSetting, Statement, Tinker, Tos,
};
use crate::config::statistics::StatisticsSetting;
use crate::config::xdp::{Mode, XdpLine};
use crate::config::{Config, Family, Listen, PhcLine, SourceConfig, SourceKind};
use crate::server::respond::BadMac;
use crate::server::rule::{Flags, Prefix, RateLimit, Rule, Who};
use crate::server::{interleave, rate};
use crate::time::duration::NtpDuration;
use crate::time::units::PollExponent;

/// What `statement`, one of those that made `config`, does; one sentence an
/// element. Empty where the notes say all there is to say.
pub fn sentences(statement: &Statement, config: &Config) -> Vec<String> {
    match statement {
        Statement::Source(source) => self::source(source, config),
        Statement::LocalClock { .. } => local_clock(config),
        Statement::Fudge { stratum, .. } => match stratum {
            Some(stratum) => vec![format!(
                "the local clock claims stratum {stratum}; who is served by it sees stratum {}",
                stratum + 1
            )],
            None => Vec::new(),
        },
        Statement::Unpeer(name) => vec![format!("takes back the earlier lines that name {name}")],
        Statement::Access(rules) => access(rules, config),
        Statement::Discard { .. } | Statement::RateLimit(_) => {
            vec![format!(
                "where `limited` stands, a client may ask {}",
                limits(config)
            )]
        }
        Statement::Allow(order) => {
            let whom = match order.block {
                None => "everybody".to_owned(),
                Some(block) => self::who(Who::Block {
                    prefix: block,
                    ntpport: false,
                }),
            };
            let served = if order.allow {
                "is served"
            } else {
                "is not served"
            };
            let except = if order.all {
                ", whatever was said of parts of it"
            } else {
                ", except for parts of it that other lines name"
            };
            vec![format!("{whom} {served}{except}")]
        }
        Statement::Broadcast(line) => vec![format!(
            "tells {} the time every {} s while it is known{}",
            line.to,
            line.interval.as_seconds(),
            line.key
                .map(|id| format!(", signed with key {id}"))
                .unwrap_or_default()
        )],
        Statement::Local { stratum, orphan } => {
            let mut said = vec![format!(
                "when no other source can be had, this machine's own clock is served, right or wrong, as stratum {stratum}"
            )];
            said.extend(orphan.then(|| ORPHAN.to_owned()));
            said
        }
        Statement::KernelLeaps(true) => {
            vec!["the kernel steps the clock for a leap second".into()]
        }
        Statement::KernelLeaps(false) => {
            vec![
                "the kernel is not told of leap seconds; the second is slewed away after them"
                    .into(),
            ]
        }
        Statement::BindAddress(address) => vec![format!(
            "requests to {address} alone are answered, of that family"
        )],
        Statement::Dscp(dscp) => vec![format!(
            "what is sent has the code point {dscp} of differentiated services"
        )],
        Statement::AcquisitionAddress(address) => {
            vec![format!(
                "requests leave from {address}, to servers of its family"
            )]
        }
        Statement::AcquisitionDevice(device) => {
            vec![format!("requests leave by {device} alone")]
        }
        Statement::PidFile(Some(path)) => vec![format!(
            "the number of the process is in {} for as long as it runs",
            path.display()
        )],
        Statement::PidFile(None) => vec!["no pid file is written".into()],
        Statement::InitialSetting(setting) if setting.hosts.is_empty() => Vec::new(),
        Statement::InitialSetting(setting) => vec![format!(
            "at the start {} are asked, before others have a say: if the clock is off by {} or \
             more it is stepped, else slewed",
            setting.hosts.join(", "),
            plain(setting.threshold)
        )],
        Statement::Tinker(settings) => settings.iter().map(|s| tinker(*s)).collect(),
        Statement::Tos(settings) => settings.iter().map(|s| tos(*s)).collect(),
        Statement::Keys { path, .. } => vec![format!(
            "keys are read from {}; {} of them are trusted",
            path.display(),
            config.keys.table.iter().count()
        )],
        Statement::TrustedKeys(trust) => vec![match trust {
            Trust::All => "every key of the file may sign requests and answers".into(),
            Trust::Only(_) => format!(
                "the keys {} may sign requests and answers",
                trust_as_text(trust)
            ),
        }],
        Statement::ControlKey(id) => vec![format!(
            "ntpq is shown the interfaces and restrictions if it signs with key {id}"
        )],
        Statement::BadMac(BadMac::Refused) => {
            vec!["a request with a wrong MAC gets a crypto-NAK".into()]
        }
        Statement::BadMac(BadMac::Ignored) => {
            vec!["a request with a wrong MAC gets no answer".into()]
        }
        Statement::DriftFile {
            path: Some(path), ..
        } => vec![format!(
            "the clock's frequency error is kept in {} and used at the next start",
            path.display()
        )],
        Statement::LeapFile(path) => vec![format!(
            "leap seconds and TAI are those of {}, read again each day, until it expires; then \
             servers are believed, on days that can have a leap second",
            path.display()
        )],
        Statement::DriftFile { path: None, .. } => {
            vec!["the clock's frequency error is not kept over restarts".into()]
        }
        Statement::Switch {
            discipline: true,
            on,
            ..
        } => vec![if *on {
            "the clock is steered".into()
        } else {
            "the clock is measured and served, never steered".into()
        }],
        Statement::Switch {
            monitor: true, on, ..
        } => vec![if *on {
            "`ntpq -c mrulist` lists who asked lately".into()
        } else {
            "nobody is remembered for `ntpq -c mrulist`".into()
        }],
        Statement::Switch {
            statistics: true,
            on,
            ..
        } => vec![if *on {
            "statistics files are written".into()
        } else {
            "no statistics files are written".into()
        }],
        Statement::Switch { .. } | Statement::Inert => Vec::new(),
        Statement::Statistics(setting) => statistics(setting),
        Statement::Include(Include::File(path)) => {
            vec![format!("the lines of {} follow", path.display())]
        }
        Statement::Include(Include::Pattern(pattern)) => {
            vec![format!("the lines of the files {pattern} follow")]
        }
        Statement::Include(Include::Directories(paths)) => {
            vec![format!(
                "the lines of *.conf in {} follow, by name",
                listed(paths)
            )]
        }
        Statement::Include(Include::Sources(paths)) => {
            vec![format!(
                "the sources of *.sources in {} are read last",
                listed(paths)
            )]
        }
        Statement::Card(card) => self::card(card),
        Statement::StampTimeout(timeout) => vec![format!(
            "a card's stamp of a departure is waited for {}; then the kernel's is used",
            plain(*timeout)
        )],
        Statement::Xdp(line, prefixes) => self::xdp(line, *prefixes),
        Statement::Listen(Listen::Everywhere) => {
            vec!["requests to every address of this machine are answered".into()]
        }
        Statement::Listen(Listen::Nowhere) | Statement::Port(0) => {
            vec!["nobody is answered".into()]
        }
        Statement::Listen(Listen::At(addresses)) => {
            let all: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            vec![format!(
                "requests to {} alone are answered",
                all.join(" and ")
            )]
        }
        Statement::Nic(rule) => {
            let who = match &rule.matches {
                Match::All => "every address but loopback's".to_owned(),
                Match::V4 => "every IPv4 address but loopback's".to_owned(),
                Match::V6 => "every IPv6 address but loopback's".to_owned(),
                Match::Wildcard => return Vec::new(),
                Match::Block(prefix) => prefix.to_string(),
                Match::Name(name) => format!("the addresses of {name}"),
            };
            let how = if rule.listen { "are" } else { "are not" };
            vec![format!(
                "requests to {who} {how} answered, unless a later line says otherwise"
            )]
        }
        Statement::Listen(Listen::Loopback) => {
            vec!["only this machine's own requests are answered, on 127.0.0.1 and ::1".into()]
        }
        Statement::Port(port) => vec![format!("requests are answered on UDP port {port}")],
        Statement::PtpPort(None) => vec!["NTP over PTP is not answered".into()],
        Statement::PtpPort(Some(port)) => vec![format!(
            "NTP over PTP is answered on UDP port {port} (domain {}), and sources on that port are asked over PTP",
            config.ptp_domain
        )],
        Statement::PtpDomain(domain) => {
            vec![format!("NTP over PTP is spoken in the PTP domain {domain}")]
        }
        Statement::Clients {
            interleaved,
            limited,
        } => {
            let mebibytes = |octets: usize| octets as f64 / f64::from(1 << 20);
            let kinds = [
                (*interleaved, interleave::CLIENT_LEN, "interleaved mode"),
                (*limited, rate::CLIENT_LEN, "`limited`"),
            ];
            let said = kinds.into_iter().filter_map(|(clients, len, what)| {
                let clients = clients?;
                Some(format!(
                    "{clients} clients are remembered for {what}: up to {:.1} MiB of memory",
                    mebibytes(clients * len)
                ))
            });
            said.collect()
        }
        Statement::Recent(0) => vec!["nobody lists who asked".into()],
        Statement::Recent(clients) => vec![format!(
            "`ntpq -c mrulist` lists the last {clients} who asked"
        )],
        Statement::BusyPoll(true) => {
            vec!["the server's threads look for requests all the time, a core each".into()]
        }
        Statement::BusyPoll(false) => {
            vec!["the server's threads sleep until there are requests".into()]
        }
        Statement::Rtc(setting) => vec![rtc(setting)],
        Statement::Phc(phc) => self::phc(phc),
        Statement::Control(path) => vec![format!(
            "`ptntp stat` and the other commands reach the daemon at {}",
            path.display()
        )],
        Statement::Metrics(Some(address)) => {
            vec![format!(
                "Prometheus finds the metrics at http://{address}/metrics"
            )]
        }
        Statement::Metrics(None) => vec!["there are no metrics".into()],
        Statement::CommandPort(0) => vec!["chronyc is not answered over UDP".into()],
        Statement::CommandPort(port) => vec![format!(
            "chronyc's reports are answered on UDP port {port}, to this machine, and to others as \
             `cmdallow` says"
        )],
        Statement::KeyedOnly(KeyedOnly::Never) => {
            vec!["sources with a key and without are followed alike".into()]
        }
        Statement::KeyedOnly(KeyedOnly::IfAny) => vec![
            "if any source is asked with a key, those without are measured, never followed".into(),
        ],
        Statement::KeyedOnly(KeyedOnly::Always) => {
            vec!["sources that are asked without a key are measured, never followed".into()]
        }
        Statement::Manual(true) => vec!["the time can be typed in with `chronyc settime`".into()],
        Statement::Manual(false) => vec!["the time can't be typed in".into()],
        Statement::CommandAllow(order) => {
            let whom = match order.block {
                Some(block) => block.to_string(),
                None => "everybody".into(),
            };
            let said = match (order.allow, order.all) {
                (true, false) => "may ask for chronyc's reports by UDP",
                (true, true) => "may ask for chronyc's reports by UDP, all of them",
                (false, false) => "may not ask for chronyc's reports",
                (false, true) => "may not ask for chronyc's reports, none of them",
            };
            vec![format!("{whom} {said}")]
        }
        Statement::CommandAddress(CommandAddress::Ip(address)) => vec![format!(
            "chronyc is answered at {address}, if `cmdport` names a port"
        )],
        Statement::CommandAddress(CommandAddress::Path(Some(path))) => vec![format!(
            "chronyc, run by root, reports and gives orders by the socket {}",
            path.display()
        )],
        Statement::CommandAddress(CommandAddress::Path(None)) => {
            vec!["chronyc gives no orders".into()]
        }
    }
}

fn statistics(setting: &StatisticsSetting) -> Vec<String> {
    vec![match setting {
        StatisticsSetting::Directory(path) => {
            format!("the files of `statistics` are in {}", path.display())
        }
        StatisticsSetting::LogDirectory(path) => {
            format!("the files of `log` are in {}", path.display())
        }
        StatisticsSetting::Files { kinds, raw } => {
            let words: Vec<&str> = kinds.iter().map(|kind| kind.word()).collect();
            let raw = if *raw {
                "; answers that failed a test are among the measurements"
            } else {
                ""
            };
            format!("these files are written: {}{raw}", words.join(", "))
        }
        StatisticsSetting::Filegen(line) => {
            let word = line.kind.word();
            let name = line.name.as_deref().unwrap_or(word);
            match (line.enable, line.rotation) {
                (false, _) => format!("{word} is not written"),
                (true, None) => format!("{word} is written to {name}"),
                (true, Some(rotation)) => {
                    format!("{word} is written to {name}, by `{}`", rotation.word())
                }
            }
        }
        StatisticsSetting::Banner(0) => "the files of `log` have no banners".into(),
        StatisticsSetting::Banner(lines) => {
            format!("the files of `log` have a banner before each {lines} lines")
        }
        StatisticsSetting::Change(limit) => {
            format!(
                "an update of the clock by more than {} is logged",
                plain(*limit)
            )
        }
    }]
}

fn listed(paths: &[std::path::PathBuf]) -> String {
    let all: Vec<String> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    all.join(", ")
}

/// How often, as a sentence goes on.
fn limits(config: &Config) -> String {
    match config.rate_limit {
        RateLimit::Headway(limit) => format!(
            "once every {} s on average, and not twice within {} s",
            1_u32 << limit.average_log2_s.min(31),
            limit.minimum_s
        ),
        RateLimit::Bucket(bucket) => {
            let leak = match bucket.leak_log2 {
                0 => String::new(),
                n => format!(
                    "; of what is more, one in {} is answered",
                    1_u32 << n.min(16)
                ),
            };
            format!(
                "once every {} s on average, {} times at once{leak}",
                seconds(bucket.interval),
                bucket.burst
            )
        }
    }
}

fn clock(source: &SourceConfig, clock: &ClockOptions) -> Vec<String> {
    let scale = if clock.tai { "TAI" } else { "UTC" };
    let mut said = vec![format!(
        "follows the hardware clock {} as {}, which counts {scale}: read {}, measured {}",
        source.name,
        clock.name(),
        every(clock.dpoll),
        every(source.options.minpoll)
    )];
    if source.options.noselect {
        said.push("noselect: measured and shown, never followed".into());
    }
    if clock.offset != NtpDuration::ZERO {
        said.push(format!("offset: {} is added to it", plain(clock.offset)));
    }
    if clock.tai {
        said.push("tai: what UTC lacks comes from `leapfile`, or from the kernel".into());
    }
    said
}

fn phc(phc: &PhcLine) -> Vec<String> {
    let scale = if phc.tai { "TAI" } else { "UTC" };
    let device = &phc.device;
    vec![format!(
        "the hardware clock {device} is made to follow ours, and to show {scale}; at first it is stepped if it is off by more than {}",
        plain(phc.step)
    )]
}

fn source(source: &SourceConfig, config: &Config) -> Vec<String> {
    if let Some(clock) = &source.options.clock {
        return self::clock(source, clock);
    }
    let options = &source.options;
    let family = match source.family {
        None => "",
        Some(Family::V4) => " over IPv4",
        Some(Family::V6) => " over IPv6",
    };
    let port = match options.port {
        123 => String::new(),
        port => format!(" on port {port}"),
    };
    let whom = match source.kind {
        SourceKind::Server | SourceKind::Clock => {
            format!("asks {}{family}{port} for the time", source.name)
        }
        SourceKind::Heard => format!(
            "listens to {} and asks who tells the time there{}",
            match source.name.parse::<IpAddr>() {
                Ok(group) => format!("the group {group}"),
                Err(_) => "broadcasts".to_owned(),
            },
            match config.sources.iter().find_map(|s| s.options.heard) {
                Some(heard) if !heard.signed => ", signed or not",
                _ => ", if that is signed with a trusted key",
            }
        ),
        SourceKind::Peer => format!(
            "exchanges the time with the peer {}{family}{port}: each follows the other if that has better time",
            source.name
        ),
        SourceKind::Pool => format!(
            "asks several servers of the pool {}{family}{port} for the time (with all pools at most {} sources) and replaces those that die",
            source.name, config.select.maxclock
        ),
    };
    let mut said = vec![format!(
        "{whom}, {} at first and {} once it is steady (minpoll {}, maxpoll {})",
        every(options.minpoll),
        every(options.maxpoll),
        options.minpoll.log2(),
        options.maxpoll.log2()
    )];
    let mut say = |on: bool, text: &str| {
        if on {
            said.push(text.into());
        }
    };
    say(
        options.iburst,
        "iburst: a few quick requests when it is first asked or comes back, then ever fewer, so that the clock is right within seconds",
    );
    say(
        options.burst,
        "burst: several requests at each poll; public servers may refuse that",
    );
    say(
        options.prefer,
        "prefer: followed before the others as long as the majority agrees with it",
    );
    say(
        options.noselect,
        "noselect: measured and shown, never followed",
    );
    say(
        options.xleave,
        "xleave: interleaved mode, for the server's exact transmit times (RFC 9769)",
    );
    if let Some(id) = options.key {
        let kind = config.keys.table.get(id).map(|key| key.kind().name());
        said.push(format!(
            "key {id}{}: requests are signed, and only answers that are signed with the same key are believed",
            kind.map(|kind| format!(" ({kind})")).unwrap_or_default()
        ));
    }
    let over_ptp = options.over_ptp.is_some() || config.ptp_port == Some(options.port);
    if over_ptp {
        said.push(
            "asks over PTP, for network cards that stamp PTP alone, in whichever form the server answers"
                .into(),
        );
    }
    if over_ptp && options.correction {
        said.push(
            "extfield: what transparent clocks on the way took is taken out, where cards stamp the packets"
                .into(),
        );
    }
    if options.version != 4 {
        said.push(format!("speaks NTP version {}", options.version));
    }
    said
}

fn every(poll: PollExponent) -> String {
    let interval = Duration::from_secs_f64(poll.interval().as_seconds());
    match interval.as_secs() {
        0 => format!("every {} ms", interval.as_millis()),
        1 => "every second".into(),
        s if s < 120 => format!("every {s} s"),
        s if s < 7200 => format!("every {s} s ({} min)", (s + 30) / 60),
        s => format!("every {s} s ({} h)", (s + 1800) / 3600),
    }
}

/// What `orphan` adds.
const ORPHAN: &str = "of the servers of this stratum that have no other source, the one with the lowest address serves its own clock and the others follow it (orphan)";

fn local_clock(config: &Config) -> Vec<String> {
    let Some(clock) = config.local_clock else {
        return vec!["taken back by a later line".into()];
    };
    vec![format!(
        "when no other source can be had, this machine's own clock is served, right or wrong, as stratum {} (it claims {})",
        clock.stratum + 1,
        clock.stratum
    )]
}

fn access(rules: &[Rule], config: &Config) -> Vec<String> {
    let Some(first) = rules.first() else {
        return Vec::new();
    };
    let (Rule::Restrict(who, flags) | Rule::Unrestrict(who, flags)) = *first;
    let name = match rules {
        [_, _] => "everyone without a rule of their own (IPv4 and IPv6)".into(),
        _ => self::who(who),
    };
    let now = flags_of(&config.rules, who);
    if matches!(first, Rule::Unrestrict(..)) {
        let mut said = vec![match flags {
            Flags::NONE => format!("takes back the rule for {name}"),
            _ => format!("takes back `{flags}` for {name}"),
        }];
        said.extend(now.map(|flags| permissions(flags, config)));
        return said;
    }
    let mut said = vec![format!("{name} {}", permissions(flags, config))];
    match now {
        Some(all) if all != flags => said.push(format!(
            "other lines are about the same addresses; together: {}",
            permissions(all, config)
        )),
        None => said.push("a later line takes this back".into()),
        Some(_) => {}
    }
    said
}

fn who(who: Who) -> String {
    let Who::Block { prefix, ntpport } = who else {
        return "every server that is asked for the time".into();
    };
    let size = if prefix.address().is_ipv4() { 32 } else { 128 } - prefix.bits();
    let name = match prefix {
        Prefix::ALL_V4 => "everyone without a rule of their own (IPv4)".into(),
        Prefix::ALL_V6 => "everyone without a rule of their own (IPv6)".into(),
        one if size == 0 && one.address().is_loopback() => format!("localhost ({})", one.address()),
        one if size == 0 => one.address().to_string(),
        many if size <= 32 => format!("{many} ({} addresses)", 1_u64 << size),
        many => many.to_string(),
    };
    if ntpport {
        format!("{name}, when it sends from port 123,")
    } else {
        name
    }
}

/// What is left to one with `flags`.
pub fn permissions(flags: Flags, config: &Config) -> String {
    if flags == Flags::NONE {
        return "may do everything: gets the time, without limits (nothing is inherited from `default`)".into();
    }
    if flags.contains(Flags::IGNORE) {
        return "is ignored: every packet is dropped".into();
    }
    let limited = format!(
        "{} (limited){}",
        match config.rate_limit {
            RateLimit::Headway(limit) => format!(
                "at most one request every {} s on average and {} s apart",
                1_u32 << limit.average_log2_s.min(31),
                limit.minimum_s
            ),
            RateLimit::Bucket(_) => limits(config),
        },
        if flags.contains(Flags::KOD) {
            ", told so by a kiss of death (kod)"
        } else {
            ""
        }
    );
    let time = if flags.contains(Flags::NOSERVE) {
        "gets no time (noserve)"
    } else if flags.contains(Flags::NOCLIENT) {
        "gets no time (noclient)"
    } else if flags.contains(Flags::NOTRUST) {
        "gets the time only if it proves by a key who it is (notrust)"
    } else {
        "gets the time"
    };
    let clauses = [
        (Flags::LIMITED, limited.as_str()),
        (Flags::NOQUERY, "can't ask for the daemon's state (noquery)"),
        (Flags::NOMODIFY, "can't change anything (nomodify)"),
        (Flags::NOMRULIST, "can't list the clients (nomrulist)"),
        (
            Flags::NOPEER,
            "can't become a peer unasked, as nobody can (nopeer)",
        ),
        (
            Flags::NOEPEER,
            "can't become a peer, as nobody can (noepeer)",
        ),
        (Flags::NOTRAP, "gets no traps, as nobody does (notrap)"),
        (
            Flags::LOWPRIOTRAP,
            "gets no traps, as nobody does (lowpriotrap)",
        ),
        (Flags::FLAKE, "loses one packet in ten, as a test (flake)"),
        (Flags::VERSION, "has to speak NTP version 4 (version)"),
        (
            Flags::MSSNTP,
            "gets no Samba signature (mssntp, not supported yet)",
        ),
    ];
    let mut said = time.to_owned();
    for (flag, clause) in clauses {
        if flags.contains(flag) {
            said += ", ";
            said += clause;
        }
    }
    if flags.contains(Flags::KOD) && !flags.contains(Flags::LIMITED) {
        said += ", no limits (kod does nothing without limited)";
    }
    said
}

fn card(card: &CardLine) -> Vec<String> {
    let whom = match &card.interface {
        Which::Named(name) => format!(
            "{name} (if it is a bond its members, if it is a VLAN the interface that carries it)"
        ),
        Which::All => "every interface that can, and that no other line names,".into(),
    };
    let arrivals = match card.filter {
        None => "all arrivals, or those of NTP, if it can, ",
        Some(Filter::All) => "all arrivals ",
        Some(Filter::Ntp) => "arrivals of NTP ",
        Some(Filter::Ptp) => "arrivals of PTP, and of NTP in PTP's clothes, ",
        Some(Filter::None) => "no arrivals ",
    };
    let mut said = vec![
        format!("{whom} is set to stamp {arrivals}and departures by its own clock"),
        format!("that clock is read {}", often(card.poll)),
    ];
    let compensations = [
        (card.tx_compensation, "txcomp", "departures"),
        (-card.rx_compensation, "rxcomp", "arrivals"),
    ];
    for (shift, word, what) in compensations {
        if shift != NtpDuration::ZERO {
            let way = if shift.is_negative() {
                "earlier"
            } else {
                "later"
            };
            let shift = plain(shift.abs());
            said.push(format!("{word}: {what} count {shift} {way} than stamped"));
        }
    }
    if !card.precise {
        said.push("nocrossts: it is never latched together with the system's clock".into());
    }
    if card.restore {
        said.push(
            "restore: when ptntp ends, it is set as it was before, unless somebody else has set \
             it meanwhile"
                .into(),
        );
    }
    said
}

fn xdp(line: &XdpLine, prefixes: Option<u32>) -> Vec<String> {
    let whom = match &line.interface {
        Which::Named(name) => format!("{name} (if it is a VLAN, on the interface that carries it)"),
        Which::All => "every interface whose driver can, and that no other line names".into(),
    };
    let where_ = match line.mode {
        Mode::Native => "in the driver",
        Mode::Generic => "as packets enter the kernel",
    };
    let mut said = vec![
        format!("plain requests that arrive on {whom}, are answered {where_}, by an XDP program"),
        "firewall rules of this machine (nftables, iptables) don't see these requests; `restrict` \
         and its kin hold as ever"
            .into(),
    ];
    said.extend(prefixes.map(|prefixes| {
        format!("the access table may grow to {prefixes} narrow prefixes while the daemon runs")
    }));
    said
}

fn often(poll: PollExponent) -> String {
    match poll.log2() {
        ..0 => format!("{} times a second", 1_u32 << -poll.log2()),
        _ => every(poll),
    }
}

fn tinker(setting: Tinker) -> String {
    match setting {
        Tinker::Step(Some(limit)) => {
            format!(
                "step: offsets up to {} are slewed away, larger ones stepped",
                plain(limit)
            )
        }
        Tinker::StepForward(Some(limit)) => format!(
            "stepfwd: a clock that is behind by up to {} is slewed, by more stepped",
            plain(limit)
        ),
        Tinker::StepForward(None) => "stepfwd 0: the clock is never stepped forwards".into(),
        Tinker::StepBack(Some(limit)) => format!(
            "stepback: a clock that is ahead by up to {} is slewed, by more stepped",
            plain(limit)
        ),
        Tinker::StepBack(None) => "stepback 0: the clock is never stepped backwards".into(),
        Tinker::Step(None) => "step 0: the clock is never stepped, only slewed".into(),
        Tinker::Panic(Some(limit)) => format!(
            "panic: an offset of more than {} ends the daemon, for a person to look at",
            plain(limit)
        ),
        Tinker::Panic(None) => "panic 0: no offset is too large to be corrected".into(),
        Tinker::StepUpdates(Some(most)) => {
            format!("the clock is stepped in the first {most} updates only")
        }
        Tinker::StepUpdates(None) => "the clock may be stepped at any time".into(),
        Tinker::PanicAfter(updates) => format!("the first {updates} updates may be beyond that"),
        Tinker::PanicIgnored(Some(most)) => {
            format!("{most} such offsets are passed over before one ends the daemon")
        }
        Tinker::PanicIgnored(None) => "such offsets are passed over, however many".into(),
        Tinker::Stepout(time) => format!(
            "stepout: an offset has to stay beyond the step limit for {} before it is believed",
            plain(time)
        ),
    }
}

fn tos(setting: Tos) -> String {
    match setting {
        Tos::Minsane(count) => format!("minsane: at least {count} sources have to agree"),
        Tos::Minclock(count) => {
            format!("minclock: outliers are cast out until {count} sources are left")
        }
        Tos::Maxclock(count) => format!("maxclock: pools bring the sources up to {count} at most"),
        Tos::Maxdist(distance) => format!(
            "maxdist: a source that may be wrong by more than {} is not followed",
            plain(distance)
        ),
        Tos::Mindist(distance) => format!(
            "mindist: sources agree if they differ by no more than {}",
            plain(distance)
        ),
        Tos::Floor(stratum) => format!("floor: sources below stratum {stratum} are not followed"),
        Tos::Ceiling(stratum) => {
            format!("ceiling: sources of stratum {stratum} and above are not followed")
        }
        Tos::Orphan(stratum) => format!(
            "orphan: when no other source can be had, this machine's own clock is served, right or wrong, as stratum {stratum}; {ORPHAN}"
        ),
    }
}

fn rtc(setting: &RtcSetting) -> String {
    match setting {
        RtcSetting::Sync(true) => {
            "while the time is good, the kernel copies it to the real-time clock every 11 minutes"
                .into()
        }
        RtcSetting::Sync(false) => "the kernel leaves the real-time clock alone".into(),
        RtcSetting::File(path) => format!(
            "the real-time clock is measured and set by ptntp, and what it gains is kept in {}",
            path.display()
        ),
        RtcSetting::Device(path) => format!("the real-time clock is {}", path.display()),
        RtcSetting::OnUtc(true) => "the real-time clock is on UTC".into(),
        RtcSetting::OnUtc(false) => "the real-time clock is on local time".into(),
        RtcSetting::Autotrim(Some(limit)) => format!(
            "the real-time clock is set when it is off by more than {}",
            plain(*limit)
        ),
        RtcSetting::Autotrim(None) => "the real-time clock is measured and never set".into(),
        RtcSetting::HwclockFile(path) => format!(
            "{} says whether the real-time clock is on UTC, and is kept as hwclock keeps it",
            path.display()
        ),
    }
}

fn plain(duration: NtpDuration) -> String {
    format!("{} s", seconds(duration))
}

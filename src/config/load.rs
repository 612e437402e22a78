//! From a path to a [`Config`]: the file and its includes are read line by
//! line, and what contradicts itself across lines is found at the end.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::access::{all_flags, flags_for, flags_of};
use crate::config::allow::{self, Order};
use crate::config::diagnostic::{Diagnostic, Severity};
use crate::config::dialect::{self, Dialect};
use crate::config::directives::{chrony as chrony_table, ntp as ntp_table};
use crate::config::keys::{KeysConfig, Trust};
use crate::config::nic::{self, NicRule};
use crate::config::stamping::CardLine;
use crate::config::statement::{
    CommandAddress, Include, KeyedOnly, RtcSetting, Statement, Tinker, Tos,
};
use crate::config::statistics::{CHANGE_DEFAULT, Filegen, StatisticsSetting};
use crate::config::xdp::XdpLine;
use crate::config::{
    Commands, Config, Family, Listen, LocalClock, Location, RECENT_DEFAULT, SourceConfig,
    SourceKind,
};
use crate::config::{chrony, glob, key_file, ntp, regular};
use crate::server::rule::{Flags, Headway, Prefix, RateLimit, Rule, Who};
use crate::time::duration::NtpDuration;
use crate::wire::key::KeyTable;
use crate::wire::ptp::EVENT_PORT;
use crate::wire::refid::RefId;

/// A configuration that can be run.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What it says, defaults filled in.
    pub config: Config,
    /// Notes and warnings by file and line; no errors.
    pub notes: Vec<Diagnostic>,
    /// Whose words it was written in.
    pub dialect: Dialect,
    /// Every line that says something, includes in their place.
    pub lines: Vec<ReadLine>,
}

/// A line that says something.
#[derive(Clone, PartialEq, Debug)]
pub struct ReadLine {
    /// Where it stands.
    pub location: Location,
    /// As it stands.
    pub text: String,
    /// What it says.
    pub statement: Statement,
}

/// Reads the configuration file at `path`. If there is any error, every
/// diagnostic is returned, notes and warnings among them.
pub fn load(path: &Path, dialect: Dialect) -> Result<Loaded, Vec<Diagnostic>> {
    let text = read(path).map_err(|why| {
        let help = "name a file that can be read; `ptntp run --server NAME` needs none".into();
        vec![whole_file(Severity::Error, path, why, help)]
    })?;
    load_text(path, &text, dialect)
}

/// As [`load`] does with the text of a file that was already read; `path`
/// names it, and relative includes are looked for beside it.
pub fn load_text(path: &Path, text: &str, dialect: Dialect) -> Result<Loaded, Vec<Diagnostic>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let dialect = recognise(path, text, dialect).map_err(|why| vec![why])?;
    let mut loader = Loader::new(dialect);
    loader.file(path, text);
    loader.finish(path)
}

/// Largest file that is read; a million `restrict` lines are 50 MB.
const FILE_MAX: u64 = 256 << 20;
/// ntpd's limit on includes within includes.
const DEPTH_MAX: usize = 5;
/// Most includes in all.
const INCLUDES_MAX: usize = 500;

fn read(path: &Path) -> Result<String, String> {
    // Named by the operator himself: a pipe is what `<(...)` of a shell is.
    let file = std::fs::File::open(path);
    file.map_err(|error| unreadable(&error)).and_then(text_of)
}

fn unreadable(error: &std::io::Error) -> String {
    format!("it can't be read: {error}")
}

fn text_of(file: std::fs::File) -> Result<String, String> {
    let mut bytes = Vec::new();
    let read = file.take(FILE_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|error| unreadable(&error))?;
    if bytes.len() as u64 > FILE_MAX {
        return Err("it is larger than 256 MiB: that is no configuration file".into());
    }
    // Comments may be in any encoding; words that are not UTF-8 are refused one by one.
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.trim_start_matches('\u{feff}').to_owned())
}

fn whole_file(severity: Severity, path: &Path, message: String, help: String) -> Diagnostic {
    let location = Location {
        file: path.into(),
        line: 0,
    };
    Diagnostic::of_file(severity, location, message, help)
}

/// Whose word is it alone? chrony.conf does not care for case, ptntp's own words and a few
/// others belong to both.
fn belongs(word: &str) -> Option<Dialect> {
    let ntp = ntp_table::directive(word).is_some();
    let chrony = chrony_table::directive(word).is_some();
    match (ntp, chrony) {
        (true, false) => Some(Dialect::Ntp),
        (false, true) if ntp_table::directive(&word.to_ascii_lowercase()).is_none() => {
            Some(Dialect::Chrony)
        }
        _ => None,
    }
}

/// Whose file it is, by its words, or by its name if they don't tell. A mix of both is an error.
fn recognise(path: &Path, text: &str, dialect: Dialect) -> Result<Dialect, Diagnostic> {
    if dialect != Dialect::Auto {
        return Ok(dialect);
    }
    let evidence = dialect::evidence(text, belongs);
    let named_chrony = path
        .file_name()
        .is_some_and(|name| name.to_string_lossy().starts_with("chrony"));
    match (evidence.ntp, evidence.chrony) {
        (None, None) if named_chrony => Ok(Dialect::Chrony),
        (_, None) => Ok(Dialect::Ntp),
        (None, Some(_)) => Ok(Dialect::Chrony),
        (Some((ntp_line, ntp_word)), Some((line, word))) => {
            let file = path.display();
            let message = format!(
                "`{word}` is a word of chrony.conf, but `{ntp_word}` ({file}:{ntp_line}) is one of ntp.conf"
            );
            let instead = dialect::instead_of(&word).unwrap_or("delete the line");
            let help = format!(
                "a file has one dialect; in ntp.conf: {instead}; or name the dialect (`--dialect ntp`, `--dialect chrony`) to see all lines that have to change"
            );
            let text = text.lines().nth(line - 1).unwrap_or_default();
            let start = text.find(&word).unwrap_or(0);
            Err(Diagnostic {
                severity: Severity::Error,
                location: Location {
                    file: path.into(),
                    line,
                },
                text: text.to_owned(),
                span: start..start + word.len(),
                message,
                help: Some(help),
            })
        }
    }
}

struct Loader {
    config: Config,
    diagnostics: Vec<Diagnostic>,
    lines: Vec<ReadLine>,
    /// Files being read, the main file first.
    open: Vec<PathBuf>,
    includes: usize,
    /// Indices into `diagnostics` of lines that would have been sources.
    lost_sources: Vec<usize>,
    numbered: bool,
    dialect: Dialect,
    /// `allow` and `deny`, in their order.
    orders: Vec<Order>,
    /// The same for commands.
    command_orders: Vec<Order>,
    keyed_only: KeyedOnly,
    /// `tos orphan`.
    orphan: Option<u8>,
    /// `disable auth`.
    unsigned_heard: bool,
    /// `bindaddress`.
    bound: (Option<Ipv4Addr>, Option<Ipv6Addr>),
    /// `interface` lines.
    nics: Vec<(ReadLine, NicRule)>,
    /// `port 0`.
    port_off: bool,
    /// `sourcedir` lines, read last.
    source_directories: Vec<(ReadLine, Vec<PathBuf>)>,
    /// Is a file of such a directory being read?
    sources_only: bool,
}

/// What is so without a line, where chronyd does not do as ntpd: nobody is served, the clock
/// is slewed however far it is off, sources may be farther away, and clients are listed.
fn chrony_defaults() -> Config {
    let mut config = Config {
        drift_gains: true,
        commands: Commands::of_chrony(),
        recent: Some(RECENT_DEFAULT),
        ..Config::default()
    };
    config.step.set_threshold(None);
    config.step.panic = None;
    config.step.stepout = NtpDuration::ZERO;
    config.select.maxdist = NtpDuration::from_whole_seconds(3);
    // The kernel is told that the time is good only with `rtcsync`.
    config.rtc.kernel_sets = false;
    // Each pool has a limit of its own.
    config.select.maxclock = 128;
    config.keys = KeysConfig::chrony();
    config.statistics.change = Some(CHANGE_DEFAULT);
    config
}

impl Loader {
    fn new(dialect: Dialect) -> Self {
        let defaults = match dialect {
            Dialect::Chrony => chrony_defaults(),
            Dialect::Auto | Dialect::Ntp => Config::default(),
        };
        Self {
            config: Config {
                listen: Listen::Everywhere,
                ..defaults
            },
            dialect,
            orders: Vec::new(),
            command_orders: Vec::new(),
            keyed_only: KeyedOnly::Never,
            orphan: None,
            unsigned_heard: false,
            bound: (None, None),
            port_off: false,
            nics: Vec::new(),
            source_directories: Vec::new(),
            sources_only: false,
            diagnostics: Vec::new(),
            lines: Vec::new(),
            open: Vec::new(),
            includes: 0,
            lost_sources: Vec::new(),
            numbered: false,
        }
    }

    fn file(&mut self, path: &Path, text: &str) {
        self.open.push(path.to_owned());
        let file: Arc<Path> = path.into();
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (index, text) in text.lines().enumerate() {
            let location = Location {
                file: file.clone(),
                line: index + 1,
            };
            self.line(location, text);
        }
        self.open.pop();
    }

    fn line(&mut self, location: Location, text: &str) {
        let mut parsed = match self.dialect {
            Dialect::Chrony => {
                chrony::parse(&location, text, |word| belongs(word) == Some(Dialect::Ntp))
            }
            Dialect::Auto | Dialect::Ntp => ntp::parse(&location, text, |word| {
                let is_chronys = belongs(word) == Some(Dialect::Chrony);
                is_chronys.then(|| dialect::instead_of(word).unwrap_or("delete the line"))
            }),
        };
        if parsed.loses_source {
            self.lost_sources.push(self.diagnostics.len());
        }
        self.diagnostics.append(&mut parsed.diagnostics);
        if parsed.numbered && !self.numbered {
            self.numbered = true;
            let message =
                "lines start with the numbers of an editor's listing; they are passed over";
            let said = about(
                &location,
                text,
                Severity::Warning,
                message,
                "delete them: ntpd would skip these lines",
            );
            self.diagnostics.push(said);
        }
        let Some(statement) = parsed.statement else {
            return;
        };
        let read = ReadLine {
            location,
            text: text.to_owned(),
            statement,
        };
        if self.sources_only && !matches!(read.statement, Statement::Source(_)) {
            let message = "a file of `sourcedir` holds `server`, `pool` and `peer` lines only";
            let help = "move the line to the main file, or to one of `confdir`";
            self.say(&read, Severity::Error, message, help);
            return;
        }
        self.lines.push(read.clone());
        self.apply(&read);
    }

    fn apply(&mut self, read: &ReadLine) {
        let config = &mut self.config;
        match &read.statement {
            Statement::Source(source) => self.source(read, source),
            Statement::Unpeer(name) => {
                config.sources.retain(|source| source.name != *name);
            }
            Statement::Access(rules) => config.rules.extend(rules),
            Statement::Discard {
                average_log2_s,
                minimum_s,
            } => {
                let now = match config.rate_limit {
                    RateLimit::Headway(limit) => limit,
                    RateLimit::Bucket(_) => Headway::default(),
                };
                config.rate_limit = RateLimit::Headway(Headway {
                    average_log2_s: average_log2_s.unwrap_or(now.average_log2_s),
                    minimum_s: minimum_s.unwrap_or(now.minimum_s),
                });
            }
            Statement::RateLimit(limit) => config.rate_limit = *limit,
            Statement::Keys { path, format } => {
                config.keys.file = Some(path.clone());
                config.keys.format = *format;
            }
            Statement::TrustedKeys(trust) => match (&mut config.keys.trusted, trust) {
                (Trust::Only(all), Trust::Only(more)) => all.extend(more.iter().cloned()),
                (all, _) => *all = Trust::All,
            },
            Statement::ControlKey(id) => config.keys.control = Some(*id),
            Statement::BadMac(bad_mac) => config.keys.bad_mac = *bad_mac,
            Statement::Allow(order) => self.orders.push(*order),
            Statement::CommandAllow(order) => self.command_orders.push(*order),
            Statement::Manual(on) => config.manual = *on,
            Statement::KeyedOnly(only) => self.keyed_only = *only,
            Statement::KernelLeaps(on) => config.kernel_leaps = *on,
            Statement::BindAddress(IpAddr::V4(address)) => self.bound.0 = Some(*address),
            Statement::BindAddress(IpAddr::V6(address)) => self.bound.1 = Some(*address),
            // As chronyd: the last line counts; without a host there is nobody to ask.
            Statement::InitialSetting(setting) => {
                config.initial = Some(setting.clone()).filter(|s| !s.hosts.is_empty());
            }
            Statement::Tinker(settings) => {
                for setting in settings {
                    match *setting {
                        Tinker::Step(threshold) => config.step.set_threshold(threshold),
                        Tinker::StepForward(threshold) => config.step.threshold = threshold,
                        Tinker::StepBack(threshold) => config.step.threshold_back = threshold,
                        Tinker::Panic(limit) => config.step.panic = limit,
                        Tinker::Stepout(time) => config.step.stepout = time,
                        Tinker::StepUpdates(most) => config.step.step_updates = most,
                        Tinker::PanicAfter(updates) => config.step.panic_after = updates,
                        Tinker::PanicIgnored(most) => config.step.panic_ignored = most,
                    }
                }
            }
            Statement::Tos(settings) => {
                for setting in settings {
                    match *setting {
                        Tos::Minsane(count) => config.select.minsane = count,
                        Tos::Minclock(count) => config.select.minclock = count,
                        Tos::Maxclock(count) => config.select.maxclock = count,
                        Tos::Maxdist(distance) => config.select.maxdist = distance,
                        Tos::Mindist(distance) => config.select.mindist = distance,
                        Tos::Floor(stratum) => config.select.floor = stratum,
                        Tos::Ceiling(stratum) => config.select.ceiling = stratum,
                        Tos::Orphan(stratum) => self.orphan = Some(stratum).filter(|s| *s < 16),
                    }
                }
            }
            Statement::DriftFile { path, gains } => {
                config.drift_file.clone_from(path);
                config.drift_gains = *gains;
            }
            Statement::LeapFile(path) => config.leap_file = Some(path.clone()),
            Statement::Switch {
                on,
                discipline,
                monitor,
                auth,
                statistics,
            } => {
                if *auth {
                    self.unsigned_heard = !*on;
                }
                if *monitor {
                    config.recent = Some(if *on { RECENT_DEFAULT } else { 0 });
                }
                if *discipline {
                    config.discipline = *on;
                }
                if *statistics {
                    config.statistics.enabled = *on;
                }
            }
            Statement::Include(Include::File(path)) => self.include(read, path),
            Statement::Include(Include::Pattern(pattern)) => self.pattern(read, pattern),
            Statement::Include(Include::Directories(paths)) => {
                self.directories(read, paths, "conf");
            }
            Statement::Include(Include::Sources(paths)) => {
                self.source_directories.push((read.clone(), paths.clone()));
            }
            Statement::Listen(listen) => config.listen = listen.clone(),
            Statement::Nic(rule) => self.nics.push((read.clone(), rule.clone())),
            Statement::Port(port) => {
                config.port = Some(*port).filter(|port| *port > 0);
                self.port_off = *port == 0;
            }
            Statement::Card(card) => self.card(read, card),
            Statement::StampTimeout(timeout) => config.stamping.timeout = *timeout,
            Statement::Xdp(line, prefixes) => self.xdp(read, line, *prefixes),
            Statement::PtpPort(port) => config.ptp_port = *port,
            Statement::PtpDomain(domain) => config.ptp_domain = *domain,
            Statement::Clients {
                interleaved,
                limited,
            } => {
                let clients = &mut config.clients;
                clients.interleaved = interleaved.unwrap_or(clients.interleaved);
                clients.limited = limited.unwrap_or(clients.limited);
            }
            Statement::Dscp(dscp) => config.leaving.dscp = *dscp,
            Statement::AcquisitionAddress(IpAddr::V4(v4)) => {
                config.leaving.v4 = Some(*v4).filter(|v4| !v4.is_unspecified());
            }
            Statement::AcquisitionAddress(IpAddr::V6(v6)) => {
                config.leaving.v6 = Some(*v6).filter(|v6| !v6.is_unspecified());
            }
            Statement::AcquisitionDevice(device) => config.leaving.device = Some(device.clone()),
            Statement::PidFile(path) => config.pid_file.clone_from(path),
            Statement::Statistics(setting) => config.statistics.take(setting),
            Statement::Recent(clients) => config.recent = Some(*clients),
            Statement::BusyPoll(on) => config.busy_poll = *on,
            Statement::Rtc(setting) => {
                let rtc = &mut config.rtc;
                match setting.clone() {
                    // Whether both are wanted is known at the end: see `real_time_clock`.
                    RtcSetting::Sync(on) => rtc.kernel_sets = on,
                    RtcSetting::File(path) => rtc.file = Some(path),
                    RtcSetting::Device(path) => rtc.device = Some(path),
                    RtcSetting::OnUtc(on) => rtc.on_utc = Some(on),
                    RtcSetting::Autotrim(limit) => rtc.autotrim = limit,
                    RtcSetting::HwclockFile(path) => rtc.hwclock_file = Some(path),
                }
            }
            Statement::Broadcast(line) => config.broadcasts.push(*line),
            Statement::Phc(phc) => config.disciplined.push(phc.clone()),
            Statement::Control(path) => config.control = Some(path.clone()),
            Statement::Metrics(address) => config.metrics = *address,
            Statement::CommandPort(port) => config.commands.port = *port,
            Statement::CommandAddress(address) => match address {
                CommandAddress::Ip(IpAddr::V4(v4)) => config.commands.v4 = *v4,
                CommandAddress::Ip(IpAddr::V6(v6)) => config.commands.v6 = *v6,
                CommandAddress::Path(path) => config.commands.path.clone_from(path),
            },
            // The whole file has to be known first: see `local_clock`.
            Statement::LocalClock { .. }
            | Statement::Fudge { .. }
            | Statement::Local { .. }
            | Statement::Inert => {}
        }
    }

    fn source(&mut self, read: &ReadLine, source: &SourceConfig) {
        let same = |other: &&SourceConfig| {
            other.name == source.name
                && other.family == source.family
                && other.options.port == source.options.port
        };
        if self.config.sources.iter().find(same).is_some() {
            let message = format!(
                "`{}` was named before; this line is passed over",
                source.name
            );
            self.say(read, Severity::Warning, &message, "delete one of the lines");
        } else {
            let mut source = source.clone();
            if let Some(clock) = &mut source.options.clock
                && clock.refid == RefId::default()
            {
                // As chrony numbers them.
                let clocks = self.config.sources.iter();
                let before = clocks.filter(|s| s.kind == SourceKind::Clock).count();
                let digit = b'0' + (before % 10) as u8;
                clock.refid = RefId::from_bytes([b'P', b'H', b'C', digit]);
            }
            self.config.sources.push(source);
        }
    }

    fn card(&mut self, read: &ReadLine, card: &CardLine) {
        let cards = &mut self.config.stamping.cards;
        if cards.iter().any(|other| other.interface == card.interface) {
            let message = format!(
                "`{}` was named before; this line is passed over",
                card.interface.word()
            );
            self.say(read, Severity::Warning, &message, "delete one of the lines");
        } else {
            cards.push(card.clone());
        }
    }

    fn xdp(&mut self, read: &ReadLine, line: &XdpLine, prefixes: Option<u32>) {
        let xdp = &mut self.config.xdp;
        if xdp
            .lines
            .iter()
            .any(|other| other.interface == line.interface)
        {
            let message = format!(
                "`{}` was named before; this line is passed over",
                line.interface.word()
            );
            self.say(read, Severity::Warning, &message, "delete one of the lines");
            return;
        }
        xdp.lines.push(line.clone());
        // All interfaces share the tables; a number is more than none.
        xdp.prefixes = xdp.prefixes.max(prefixes);
    }

    fn say(&mut self, read: &ReadLine, severity: Severity, message: &str, help: &str) {
        let said = about(&read.location, &read.text, severity, message, help);
        self.diagnostics.push(said);
    }

    /// Relative paths are looked for beside the file that names them. Of a
    /// directory every `*.conf` is read, in the order of their names, as ntpsec does.
    fn include(&mut self, read: &ReadLine, named: &Path) {
        let path = match read.location.file.parent() {
            Some(directory) => directory.join(named),
            None => named.to_owned(),
        };
        if !path.is_dir() {
            self.include_file(read, &path);
            return;
        }
        match files_of(&path, "conf") {
            Ok(files) => files.iter().for_each(|file| self.include_file(read, file)),
            Err(error) => {
                let message = format!("{} can't be read: {error}", path.display());
                self.say(
                    read,
                    Severity::Error,
                    &message,
                    "make it readable, or delete the line",
                );
            }
        }
    }

    /// The files that match; there has to be one, as with chronyd.
    fn pattern(&mut self, read: &ReadLine, pattern: &str) {
        let files = glob::files(pattern);
        if files.is_empty() {
            let message = format!("no file matches `{pattern}`");
            let help = "create one, or delete the line: chronyd does not start without either";
            self.say(read, Severity::Error, &message, help);
        }
        files.iter().for_each(|file| self.include_file(read, file));
    }

    /// The files of these directories by their names; of equal names the first one. What is
    /// not there, or not yet, is no error.
    fn directories(&mut self, read: &ReadLine, directories: &[PathBuf], extension: &str) {
        let mut files: BTreeMap<std::ffi::OsString, PathBuf> = BTreeMap::new();
        for directory in directories {
            match files_of(directory, extension) {
                Ok(found) => {
                    for file in found {
                        let name = file.file_name().unwrap_or_default().to_owned();
                        files.entry(name).or_insert(file);
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => {
                    let message = format!("{} can't be read: {error}", directory.display());
                    let help = "make it readable, or delete the line";
                    self.say(read, Severity::Error, &message, help);
                }
            }
        }
        files
            .values()
            .for_each(|file| self.include_file(read, file));
    }

    fn include_file(&mut self, read: &ReadLine, path: &Path) {
        self.includes += 1;
        let refusal = if self.open.iter().any(|open| open == path) {
            Some("this file is being read already: it includes itself")
        } else if self.open.len() > DEPTH_MAX {
            Some("includes go 5 deep at most")
        } else if self.includes > INCLUDES_MAX {
            Some("there are more than 500 includes")
        } else {
            None
        };
        if let Some(message) = refusal {
            self.say(read, Severity::Error, message, "delete the line");
            return;
        }
        let (why, help) = match regular::open(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let message = format!("there is no file {}; nothing is included", path.display());
                self.say(
                    read,
                    Severity::Warning,
                    &message,
                    "create it, or delete the line",
                );
                return;
            }
            Err(error) => (unreadable(&error), regular::remedy(&error)),
            Ok(file) => match text_of(file) {
                Ok(text) => return self.file(path, &text),
                Err(why) => (why, "make it readable, or delete the line"),
            },
        };
        let message = format!("{}: {why}", path.display());
        self.say(read, Severity::Error, &message, help);
    }

    fn finish(mut self, path: &Path) -> Result<Loaded, Vec<Diagnostic>> {
        self.sources_only = true;
        for (read, directories) in std::mem::take(&mut self.source_directories) {
            self.directories(&read, &directories, "sources");
        }
        let lines = std::mem::take(&mut self.lines);
        if self.dialect == Dialect::Chrony {
            self.serve_as_chronyd();
        }
        let commands = allow::compile(&self.command_orders).into_iter();
        let said = commands.filter(|block| block.order.is_some());
        self.config.commands.allowed = said.map(|block| (block.prefix, block.allow)).collect();
        self.keyed_or_not(&lines);
        if self.unsigned_heard {
            for source in &mut self.config.sources {
                if let Some(heard) = &mut source.options.heard {
                    heard.signed = false;
                }
            }
        }
        self.compile_nics();
        self.local_clock(&lines);
        self.statistics(&lines);
        self.over_ptp(&lines);
        self.real_time_clock(&lines);
        self.clocks_are_read_or_set(&lines);
        self.weigh_lost_sources();
        self.xdp_serves(&lines);
        self.leap_file_is_one(&lines);
        let unread = self.read_keys(&lines);
        let flags = all_flags(&self.config.rules);
        for read in &lines {
            self.check_key(read, unread.as_deref());
            self.check_kiss(read, &flags);
            self.check_answers_are_let_in(read);
        }
        if !self.has_error() {
            self.check_selection(path);
        }
        self.sort();
        if self.has_error() {
            return Err(self.diagnostics);
        }
        Ok(Loaded {
            config: self.config,
            notes: self.diagnostics,
            dialect: self.dialect,
            lines,
        })
    }

    /// The daemon reads it, later and again; what never is a file is an error now.
    fn leap_file_is_one(&mut self, lines: &[ReadLine]) {
        for read in lines {
            if let Statement::LeapFile(path) = &read.statement
                && let Err(error) = regular::check(path)
                && error.kind() == std::io::ErrorKind::InvalidInput
            {
                let message = format!("{}: {}", path.display(), unreadable(&error));
                self.say(read, Severity::Error, &message, regular::remedy(&error));
            }
        }
    }

    /// `filegen` lines go over all others about files; and files need a directory.
    fn statistics(&mut self, lines: &[ReadLine]) {
        let filegens = lines.iter().filter_map(|read| match &read.statement {
            Statement::Statistics(StatisticsSetting::Filegen(filegen)) => Some(filegen),
            _ => None,
        });
        self.config
            .statistics
            .finish(filegens.collect::<Vec<&Filegen>>().into_iter());
        let config = &self.config.statistics;
        let homeless = |chronys: bool| config.files.iter().any(|f| f.kind.is_chronys() == chronys);
        let lacks = [
            (
                config.directory.is_none() && homeless(false),
                false,
                "statsdir",
            ),
            (
                config.log_directory.is_none() && homeless(true),
                true,
                "logdir",
            ),
        ];
        for (_, chronys, word) in lacks.into_iter().filter(|(lacks, ..)| *lacks) {
            let names_files = |read: &&ReadLine| match &read.statement {
                Statement::Statistics(StatisticsSetting::Files { kinds, .. }) => {
                    kinds.iter().any(|kind| kind.is_chronys() == chronys)
                }
                Statement::Statistics(StatisticsSetting::Filegen(line)) => {
                    line.kind.is_chronys() == chronys
                }
                _ => false,
            };
            if let Some(read) = lines.iter().find(names_files) {
                let message = format!("nothing is written, because no `{word}` line says where");
                self.say(read, Severity::Note, &message, "");
            }
        }
    }

    /// `authselectmode`: who is asked without a key may not be followed.
    fn keyed_or_not(&mut self, lines: &[ReadLine]) {
        let sources = self.config.sources.iter_mut();
        let (keyed, unkeyed): (Vec<_>, Vec<_>) = sources.partition(|source| {
            // Our own clocks are our own.
            source.options.key.is_some() || source.kind == SourceKind::Clock
        });
        let passes_over = match self.keyed_only {
            KeyedOnly::Never => false,
            KeyedOnly::IfAny => keyed.iter().any(|source| source.options.key.is_some()),
            KeyedOnly::Always => true,
        };
        let nobody = passes_over && keyed.is_empty() && !unkeyed.is_empty();
        for source in unkeyed {
            source.options.noselect |= passes_over;
        }
        let is_mode = |read: &&ReadLine| matches!(read.statement, Statement::KeyedOnly(_));
        if let Some(read) = lines.iter().rfind(is_mode).filter(|_| nobody) {
            let message = "no source is asked with a key, so nobody could be followed";
            let help = "write `key N` on the lines of the sources, or delete this one";
            self.say(read, Severity::Error, message, help);
        }
    }

    /// `xdp` is another way to answer, and does not say whom.
    fn xdp_serves(&mut self, lines: &[ReadLine]) {
        let is_xdp = |read: &&ReadLine| matches!(read.statement, Statement::Xdp(..));
        let nobody = matches!(self.config.listen, Listen::Nowhere | Listen::Loopback);
        if let Some(read) = lines.iter().find(is_xdp).filter(|_| nobody) {
            let message = "nobody outside of this machine is answered, so `xdp` has nothing to do";
            let help = match self.dialect {
                Dialect::Chrony => "say who is served with `allow`, or delete the line",
                Dialect::Auto | Dialect::Ntp => "write `listen everywhere`, or delete the line",
            };
            self.say(read, Severity::Warning, message, help);
        }
    }

    /// Where `interface` lines leave us answering.
    fn compile_nics(&mut self) {
        if self.nics.is_empty() {
            return;
        }
        let rules: Vec<NicRule> = self.nics.iter().map(|(_, rule)| rule.clone()).collect();
        match nic::compile(&rules) {
            // `listen everywhere` is what is so anyway.
            Ok(Listen::Everywhere) => {}
            Ok(listen) => self.config.listen = listen,
            Err(index) => {
                let (read, _) = self.nics[index].clone();
                let message = "this depends on which addresses the host has, which is not supported yet; without it more or less would be served";
                let help = "name the addresses to answer on, as in `interface ignore all` and `interface listen 192.0.2.1`, or say who is served with `restrict`";
                self.say(&read, Severity::Error, message, help);
            }
        }
    }

    /// Whoever is allowed is served, on the addresses that were named; nobody, and on no
    /// port at all, if no line allows it.
    fn serve_as_chronyd(&mut self) {
        let config = &mut self.config;
        let mut limits = Flags::NONE;
        if let RateLimit::Bucket(bucket) = config.rate_limit {
            limits |= Flags::LIMITED;
            if bucket.kod_log2 > 0 {
                limits |= Flags::KOD;
            }
        }
        let blocks = allow::compile(&self.orders);
        config.rules = allow::rules(&self.orders, limits);
        if self.port_off || blocks.iter().all(|block| !block.allow) {
            config.listen = Listen::Nowhere;
        } else if config.listen == Listen::Everywhere && self.bound != (None, None) {
            let (v4, v6) = self.bound;
            let v4 = v4.unwrap_or(Ipv4Addr::UNSPECIFIED);
            let v6 = v6.unwrap_or(Ipv6Addr::UNSPECIFIED);
            config.listen = Listen::At(vec![v4.into(), v6.into()]);
        }
    }

    /// By file as they were read, then by line; what is about a file as a whole comes last.
    fn sort(&mut self) {
        let mut files: Vec<Arc<Path>> = Vec::new();
        for said in &self.diagnostics {
            if !files.contains(&said.location.file) {
                files.push(said.location.file.clone());
            }
        }
        self.diagnostics.sort_by_key(|said| {
            let Location { file, line } = &said.location;
            let whole = *line == 0;
            (whole, files.iter().position(|f| f == file), *line)
        });
    }

    fn has_error(&self) -> bool {
        self.diagnostics
            .iter()
            .any(|d| d.severity == Severity::Error)
    }

    /// Who is asked on the port of PTP is asked over PTP, as chrony does it; the lines may
    /// come in any order.
    fn over_ptp(&mut self, lines: &[ReadLine]) {
        let (port, domain) = (self.config.ptp_port, self.config.ptp_domain);
        if port.is_some() && port == Some(self.config.port.unwrap_or(123)) {
            let is_port = |read: &&ReadLine| matches!(read.statement, Statement::PtpPort(_));
            let message = "this is the port of NTP itself, which can't be spoken over PTP on it";
            if let Some(read) = lines.iter().rfind(is_port) {
                let help = format!("write `ptpport {EVENT_PORT}`");
                self.say(read, Severity::Error, message, &help);
            }
            return;
        }
        for read in lines {
            if let Statement::Source(source) = &read.statement
                && source.kind == SourceKind::Peer
                && port == Some(source.options.port)
            {
                let message = "this is the port of PTP, and peers are not spoken with over PTP";
                let help = "write `server` to ask over PTP, or another port";
                self.say(read, Severity::Error, message, help);
            }
        }
        for source in &mut self.config.sources {
            let options = &mut source.options;
            if options.over_ptp.is_some() || port == Some(options.port) {
                options.over_ptp = Some(domain);
            }
        }
        for read in lines {
            if let Statement::Source(source) = &read.statement
                && source.options.correction
                && source.options.over_ptp.is_none()
                && port != Some(source.options.port)
            {
                let message = "`extfield` has no effect: transparent clocks correct PTP alone, and this source is not asked over it";
                let help = match self.dialect {
                    Dialect::Chrony => {
                        "write `ptpport 319`, and `port 319` on this line, or delete `extfield`"
                    }
                    _ => "write `ptp` on the line too, or delete `extfield`",
                };
                self.say(read, Severity::Warning, message, help);
            }
        }
    }

    /// Clocks and fudges may come in any order; of several clocks the best counts.
    fn local_clock(&mut self, lines: &[ReadLine]) {
        /// ntpd's stratum of the driver when nothing is fudged.
        const STRATUM_DEFAULT: u8 = 5;
        let mut clocks: BTreeMap<u8, u8> = BTreeMap::new();
        for read in lines {
            match &read.statement {
                Statement::LocalClock { unit } => {
                    if !clocks.is_empty() {
                        let message =
                            "there is one local clock; of several lines the lowest stratum counts";
                        self.say(read, Severity::Note, message, "");
                    }
                    clocks.insert(*unit, STRATUM_DEFAULT);
                }
                Statement::Unpeer(name) => {
                    clocks.retain(|unit, _| *name != format!("127.127.1.{unit}"));
                }
                _ => {}
            }
        }
        for read in lines {
            let Statement::Fudge { unit, stratum } = read.statement else {
                continue;
            };
            match (clocks.get_mut(&unit), stratum) {
                (Some(fudged), Some(stratum)) => *fudged = stratum,
                (Some(_), None) => {}
                (None, _) => {
                    let message = format!("there is no clock 127.127.1.{unit} to fudge");
                    let help =
                        format!("write `server 127.127.1.{unit}` as well, or delete the line");
                    self.say(read, Severity::Warning, &message, &help);
                }
            }
        }
        let best = clocks.into_values().min();
        // chrony's `local` names the stratum that clients see.
        let told = lines.iter().rev().find_map(|read| match read.statement {
            Statement::Local { stratum, orphan } => Some((stratum, orphan)),
            _ => None,
        });
        let told = self.orphan.map(|stratum| (stratum, true)).or(told);
        self.config.orphan = told.is_some_and(|(_, orphan)| orphan);
        let told = told.map(|(stratum, _)| stratum.saturating_sub(1));
        self.config.local_clock = told.or(best).map(|stratum| LocalClock { stratum });
    }

    /// The kernel and we must not both set the real-time clock.
    fn real_time_clock(&mut self, lines: &[ReadLine]) {
        let last = |wanted: fn(&RtcSetting) -> bool| {
            let mut lines = lines.iter().rev();
            lines.find(|read| matches!(&read.statement, Statement::Rtc(s) if wanted(s)))
        };
        let file = last(|setting| matches!(setting, RtcSetting::File(_)));
        let sync = last(|setting| matches!(setting, RtcSetting::Sync(_)));
        let autotrim = last(|setting| matches!(setting, RtcSetting::Autotrim(_)));
        if let (None, Some(autotrim)) = (file, autotrim) {
            let message = "no effect without `rtcfile`: the kernel sets the real-time clock";
            self.say(autotrim, Severity::Note, message, "");
        }
        let Some(file) = file else { return };
        if let Some(sync) = sync.filter(|_| self.config.rtc.kernel_sets) {
            let message = format!(
                "`rtcfile` and `rtcsync` ({}) exclude each other: either we set the real-time \
                 clock, or the kernel does",
                sync.location
            );
            let help = "delete `rtcfile` to leave it to the kernel, or `rtcsync` to have it measured and set more exactly";
            self.say(file, Severity::Error, &message, help);
        }
        self.config.rtc.kernel_sets = false;
    }

    /// A hardware clock that we follow can't follow us, nor be set twice.
    fn clocks_are_read_or_set(&mut self, lines: &[ReadLine]) {
        let mut seen: Vec<(PathBuf, &ReadLine)> = Vec::new();
        for read in lines {
            let (device, sets) = match &read.statement {
                Statement::Source(source) if source.kind == SourceKind::Clock => {
                    (&source.name, false)
                }
                Statement::Phc(phc) => (&phc.device, true),
                _ => continue,
            };
            // Names of interfaces are compared once the clocks are open.
            let mut device = PathBuf::from(device);
            if device.is_absolute() {
                device = std::fs::canonicalize(&device).unwrap_or(device);
            }
            let other = seen.iter().find(|(other, before)| {
                let both_read = !sets && !matches!(before.statement, Statement::Phc(_));
                *other == device && !both_read
            });
            if let Some((_, before)) = other {
                let (device, before) = (device.display(), &before.location);
                let message = format!(
                    "{device} was named at {before} already, and a clock is followed or \
                     disciplined, by one line"
                );
                self.say(read, Severity::Error, &message, "delete one of the lines");
            }
            seen.push((device, read));
        }
    }

    /// What would have been the only source must not vanish with a warning.
    fn weigh_lost_sources(&mut self) {
        if self.config.sources.is_empty() && self.config.local_clock.is_none() {
            for index in &self.lost_sources {
                self.diagnostics[*index].severity = Severity::Error;
            }
        }
    }

    /// Settings with which no source can ever be followed.
    fn check_selection(&mut self, path: &Path) {
        let config = &self.config;
        let select = &config.select;
        let pools = config.sources.iter().any(|s| s.kind == SourceKind::Pool);
        let (message, help) = if config.sources.is_empty() && config.local_clock.is_none() {
            (
                "no line names a source: the clock is never corrected, and no time is served"
                    .into(),
                "write a line like `pool pool.ntp.org iburst`",
            )
        } else if !pools && !config.sources.is_empty() && config.sources.len() < select.minsane {
            (
                format!(
                    "`tos minsane {}` is more than there are sources ({}): none is ever followed",
                    select.minsane,
                    config.sources.len()
                ),
                "lower `minsane`, or name more servers",
            )
        } else if select.floor >= select.ceiling {
            (
                format!(
                    "`tos floor {} ceiling {}` leaves no stratum: no source is ever followed",
                    select.floor, select.ceiling
                ),
                "make `floor` smaller than `ceiling`",
            )
        } else {
            return;
        };
        let said = whole_file(Severity::Warning, path, message, help.into());
        self.diagnostics.push(said);
    }

    /// Makes the table of trusted keys. The sentence why there are none, if the file can't
    /// be read.
    fn read_keys(&mut self, lines: &[ReadLine]) -> Option<String> {
        let keys = &self.config.keys;
        let path = keys.file.clone()?;
        let named = lines.iter().rev().find(
            |read| matches!(&read.statement, Statement::Keys { path: named, .. } if *named == path),
        )?;
        let file = match key_file::read(&path, keys.format) {
            Ok(file) => file,
            Err(error) => {
                let missing = error.kind() == std::io::ErrorKind::NotFound;
                // Stock files name one that need not be there. One that is there has keys in
                // it, and somebody counts on them.
                let (severity, message, help) = if missing {
                    (
                        Severity::Warning,
                        format!("there is no key file {}", path.display()),
                        "create it, or delete the line",
                    )
                } else {
                    (
                        Severity::Error,
                        format!("{} can't be read: {error}", path.display()),
                        match error.kind() {
                            std::io::ErrorKind::InvalidInput => regular::remedy(&error),
                            _ => "let the user that the daemon runs as read it, or delete the line",
                        },
                    )
                };
                self.say(named, severity, &message, help);
                return Some(message);
            }
        };
        let trusted = file.keys.into_iter();
        let trusted: Vec<_> = trusted
            .filter(|key| keys.trusted.includes(key.id()))
            .collect();
        if keys.trusted == Trust::default() {
            let message = "no key of this file is trusted, so none is used";
            let help = "write `trustedkey` and the numbers of those to use";
            self.say(named, Severity::Note, message, help);
        }
        let keys = &mut self.config.keys;
        keys.table = Arc::new(KeyTable::new(trusted).with_control(keys.control));
        self.diagnostics.extend(file.said);
        None
    }

    /// A source is never asked without the key that its line wants, and nothing broadcast.
    /// Without ntpq's key there is less to be seen, and no more.
    fn check_key(&mut self, read: &ReadLine, unread: Option<&str>) {
        let (key, to) = match &read.statement {
            Statement::Source(source) => (source.options.key, "to ask this source with"),
            Statement::Broadcast(line) => (line.key, "to sign with"),
            Statement::ControlKey(id) => (Some(*id), "for ntpq to sign with"),
            _ => return,
        };
        let severity = match &read.statement {
            Statement::ControlKey(_) => Severity::Note,
            _ => Severity::Error,
        };
        let keys = &self.config.keys;
        let Some(id) = key.filter(|&id| keys.table.get(id).is_none()) else {
            return;
        };
        let lacks = format!("there is no key {id} {to}");
        let word = match self.dialect {
            Dialect::Chrony => "keyfile",
            Dialect::Auto | Dialect::Ntp => "keys",
        };
        let (why, help) = match (&keys.file, unread) {
            (None, _) => (
                format!("no `{word}` line names a file"),
                format!("write `{word} FILE`, and the key in that file (`ptntp keygen {id}`)"),
            ),
            (Some(_), Some(why)) => (why.to_owned(), "see the line that names it".to_owned()),
            (Some(_), None) if !keys.trusted.includes(id) => (
                "it is not trusted".to_owned(),
                format!("write `trustedkey {id}`"),
            ),
            (Some(path), None) => (
                format!("{} has none of that number", path.display()),
                format!("add it: `ptntp keygen {id}` makes one"),
            ),
        };
        self.say(read, severity, &format!("{lacks}: {why}"), &help);
    }

    fn check_kiss(&mut self, read: &ReadLine, flags: &HashMap<Who, Flags>) {
        let Statement::Access(rules) = &read.statement else {
            return;
        };
        let alone = rules.iter().any(|rule| match *rule {
            Rule::Restrict(who, added) if added.contains(Flags::KOD) => flags
                .get(&who)
                .is_some_and(|all| !all.contains(Flags::LIMITED)),
            _ => false,
        });
        if alone {
            let message = "`kod` does something only together with `limited`";
            self.say(read, Severity::Note, message, "");
        }
    }

    /// Rules apply to the replies of our own servers too.
    fn check_answers_are_let_in(&mut self, read: &ReadLine) {
        let Statement::Source(source) = &read.statement else {
            return;
        };
        if matches!(source.kind, SourceKind::Clock | SourceKind::Heard) {
            return;
        }
        let rules = &self.config.rules;
        let default = |prefix: Prefix| flags_for(rules, prefix.address());
        let flags = match (flags_of(rules, Who::Source), source.name.parse::<IpAddr>()) {
            (Some(flags), _) => flags,
            (None, Ok(address)) => flags_for(rules, address),
            (None, Err(_)) => match source.family {
                Some(Family::V4) => default(Prefix::ALL_V4),
                Some(Family::V6) => default(Prefix::ALL_V6),
                None => {
                    let both = default(Prefix::ALL_V4).bits() & default(Prefix::ALL_V6).bits();
                    Flags::from_bits(both)
                }
            },
        };
        for word in [Flags::IGNORE, Flags::NOSERVE, Flags::NOTRUST] {
            let signed = word == Flags::NOTRUST && source.options.key.is_some();
            if flags.contains(word) && !signed {
                let message = format!("the rules (`{word}`) drop this server's answers as well");
                let help =
                    "write `restrict source` without flags to let our own servers' answers in";
                self.say(read, Severity::Warning, &message, help);
                return;
            }
        }
    }
}

fn files_of(directory: &Path, extension: &str) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == extension) && !path.is_dir() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// About a line as a whole.
fn about(
    location: &Location,
    text: &str,
    severity: Severity,
    message: &str,
    help: &str,
) -> Diagnostic {
    let code = text.split('#').next().unwrap_or_default().trim();
    let start = text.find(code).unwrap_or(0);
    Diagnostic {
        severity,
        location: location.clone(),
        text: text.to_owned(),
        span: start..start + code.len(),
        message: message.to_owned(),
        help: Some(help.to_owned()).filter(|help| !help.is_empty()),
    }
}

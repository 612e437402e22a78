//! What one line of a configuration file says, and the cursor that walks its words.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use crate::config::BroadcastLine;
use crate::config::allow::Order;
use crate::config::diagnostic::{Diagnostic, Severity};
use crate::config::keys::{KeyFormat, Trust};
use crate::config::nic::NicRule;
use crate::config::stamping::CardLine;
use crate::config::statistics::StatisticsSetting;
use crate::config::words::{self, Malformed, Word};
use crate::config::xdp::XdpLine;
use crate::config::{InitialSetting, Listen, Location, PhcLine, SourceConfig};
use crate::server::respond::BadMac;
use crate::server::rule::{RateLimit, Rule};
use crate::time::duration::NtpDuration;

/// One line, understood.
#[derive(Clone, PartialEq, Debug)]
pub enum Statement {
    /// `server`, `pool`, `peer`.
    Source(SourceConfig),
    /// `server 127.127.1.unit`.
    LocalClock {
        /// The last number of its address.
        unit: u8,
    },
    /// `fudge 127.127.1.unit stratum n`.
    Fudge {
        /// Whose.
        unit: u8,
        /// What stratum; none: the line says nothing about it.
        stratum: Option<u8>,
    },
    /// `unpeer name`: takes back an earlier `server`, `pool` or `peer`.
    Unpeer(String),
    /// `restrict`, `unrestrict`: two rules if both families are meant.
    Access(Vec<Rule>),
    /// `allow` and `deny` of chrony.conf.
    Allow(Order),
    /// `local` of chrony.conf: the stratum that clients are told.
    Local {
        /// What they are told.
        stratum: u8,
        /// See [`Config`](crate::config::Config::orphan).
        orphan: bool,
    },
    /// `limit`, and `ratelimit` of chrony.conf.
    RateLimit(RateLimit),
    /// `discard`.
    Discard {
        /// See [`Headway`](crate::server::rule::Headway).
        average_log2_s: Option<u8>,
        /// See [`Headway`](crate::server::rule::Headway).
        minimum_s: Option<u8>,
    },
    /// `dscp`.
    Dscp(u8),
    /// `bindacqaddress`.
    AcquisitionAddress(IpAddr),
    /// `bindacqdevice`.
    AcquisitionDevice(String),
    /// `pidfile`; none: there is none.
    PidFile(Option<PathBuf>),
    /// `initstepslew`.
    InitialSetting(InitialSetting),
    /// `tinker`.
    Tinker(Vec<Tinker>),
    /// `tos`.
    Tos(Vec<Tos>),
    /// `keys`, and chrony.conf's `keyfile`.
    Keys {
        /// The file.
        path: PathBuf,
        /// How it is written.
        format: KeyFormat,
    },
    /// `trustedkey`.
    TrustedKeys(Trust),
    /// `controlkey`.
    ControlKey(u32),
    /// `cryptonak` (native).
    BadMac(BadMac),
    /// `driftfile`.
    DriftFile {
        /// None: it is kept nowhere.
        path: Option<PathBuf>,
        /// Does it hold the clock's error instead of its correction?
        gains: bool,
    },
    /// `leapfile`.
    LeapFile(PathBuf),
    /// `leapseconds` (native), and `leapsecmode` of chrony.conf: does the kernel step?
    KernelLeaps(bool),
    /// `broadcast`.
    Broadcast(BroadcastLine),
    /// `bindaddress` of chrony.conf.
    BindAddress(IpAddr),
    /// `statsdir`, `statistics`, `filegen`; `logdir`, `log` and their like.
    Statistics(StatisticsSetting),
    /// `enable` or `disable`; only `ntp`, `monitor`, `auth` and `stats` have an effect.
    Switch {
        /// `enable`?
        on: bool,
        /// Is `ntp` among the words?
        discipline: bool,
        /// Does it speak of `monitor`?
        monitor: bool,
        /// Of `auth`?
        auth: bool,
        /// Does it speak of `stats`?
        statistics: bool,
    },
    /// `includefile`, and chrony.conf's ways.
    Include(Include),
    /// `hwtimestamp` (native, after chrony).
    Card(CardLine),
    /// `hwtstimeout` (native, after chrony).
    StampTimeout(NtpDuration),
    /// `xdp` (native); how many prefixes there has to be room for, if it says so.
    Xdp(XdpLine, Option<u32>),
    /// `listen` (native).
    Listen(Listen),
    /// `interface`, `nic`.
    Nic(NicRule),
    /// `port`; 0 (in chrony.conf): nobody is answered.
    Port(u16),
    /// `ptpport`; none: NTP over PTP is not answered.
    PtpPort(Option<u16>),
    /// `ptpdomain`.
    PtpDomain(u8),
    /// `clients` (native).
    Clients {
        /// See [`Sizes`](crate::server::respond::Sizes).
        interleaved: Option<usize>,
        /// See [`Sizes`](crate::server::respond::Sizes).
        limited: Option<usize>,
    },
    /// `mru`: so many clients are listed by `ntpq -c mrulist`; 0: none.
    Recent(usize),
    /// `busypoll` (native).
    BusyPoll(bool),
    /// `rtcsync`, `rtcfile` and their like.
    Rtc(RtcSetting),
    /// `authselectmode`.
    KeyedOnly(KeyedOnly),
    /// `manual`: the time may be typed in.
    Manual(bool),
    /// `cmdallow`, `cmddeny`.
    CommandAllow(Order),
    /// `phc discipline` (native).
    Phc(PhcLine),
    /// `control` (native).
    Control(PathBuf),
    /// `metrics` (native).
    Metrics(Option<SocketAddr>),
    /// `cmdport` (native, as chrony has it).
    CommandPort(u16),
    /// `bindcmdaddress` (native, as chrony has it).
    CommandAddress(CommandAddress),
    /// Understood, without effect; the notes say why.
    Inert,
}

/// What to read in the place of a line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Include {
    /// A file, or `*.conf` of a directory (`includefile`).
    File(PathBuf),
    /// The files that match; at least one (`include`).
    Pattern(String),
    /// `*.conf` of these; of equal names the first directory's (`confdir`).
    Directories(Vec<PathBuf>),
    /// The same of `*.sources`, which hold sources only, after all other files (`sourcedir`).
    Sources(Vec<PathBuf>),
}

/// A line, and what there is to say about it.
#[derive(Debug)]
pub struct Parsed {
    /// None: nothing on the line, or nothing that makes sense (then there is an error).
    pub statement: Option<Statement>,
    /// In the order of the line.
    pub diagnostics: Vec<Diagnostic>,
    /// The line would have been a source: how bad that is depends on the others.
    pub loses_source: bool,
    /// It starts with the number that an editor's listing puts there.
    pub numbered: bool,
}

/// Are servers followed that are asked without a key?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyedOnly {
    /// They are.
    Never,
    /// Not if any is asked with one.
    IfAny,
    /// They are not.
    Always,
}

/// Where commands come in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CommandAddress {
    /// By UDP.
    Ip(IpAddr),
    /// By a Unix socket; none: by none.
    Path(Option<PathBuf>),
}

/// One setting of `tinker`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Tinker {
    /// `step`, both ways; none: never.
    Step(Option<NtpDuration>),
    /// `stepfwd`: where the clock is behind.
    StepForward(Option<NtpDuration>),
    /// `stepback`: where it is ahead.
    StepBack(Option<NtpDuration>),
    /// `panic`; none: never.
    Panic(Option<NtpDuration>),
    /// `stepout`.
    Stepout(NtpDuration),
    /// `stepupdates`: see [`StepPolicy`](crate::sync::policy::StepPolicy).
    StepUpdates(Option<u32>),
    /// `panicafter`.
    PanicAfter(u32),
    /// `panicignore`; none: all.
    PanicIgnored(Option<u32>),
}

/// One setting of the real-time clock; see [`RtcConfig`](crate::config::RtcConfig).
#[derive(Clone, PartialEq, Debug)]
pub enum RtcSetting {
    /// `rtcsync`.
    Sync(bool),
    /// `rtcfile`.
    File(PathBuf),
    /// `rtcdevice`.
    Device(PathBuf),
    /// `rtconutc`.
    OnUtc(bool),
    /// `rtcautotrim`; none: never.
    Autotrim(Option<NtpDuration>),
    /// `hwclockfile`.
    HwclockFile(PathBuf),
}

/// One setting of `tos`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Tos {
    /// `minsane`.
    Minsane(usize),
    /// `minclock`.
    Minclock(usize),
    /// `maxclock`.
    Maxclock(usize),
    /// `maxdist`.
    Maxdist(NtpDuration),
    /// `mindist`.
    Mindist(NtpDuration),
    /// `floor`.
    Floor(u8),
    /// `ceiling`.
    Ceiling(u8),
    /// `orphan`: the stratum that clients are told; 16: none.
    Orphan(u8),
}

/// The words of a line, taken one after the other, and what was found wrong.
#[derive(Debug)]
pub struct Line<'a> {
    location: &'a Location,
    text: &'a str,
    words: std::iter::Peekable<std::vec::IntoIter<Word>>,
    /// What there is to say about the line so far.
    pub diagnostics: Vec<Diagnostic>,
}

impl<'a> Line<'a> {
    /// Splits `text`. What is malformed becomes an error, and the line is empty.
    pub fn new(location: &'a Location, text: &'a str) -> Self {
        Self::of(location, text, words::split(text))
    }

    /// The same by the rules of chrony.conf.
    pub fn chrony(location: &'a Location, text: &'a str) -> Self {
        Self::of(location, text, words::split_chrony(text))
    }

    fn of(location: &'a Location, text: &'a str, split: Result<Vec<Word>, Malformed>) -> Self {
        let mut line = Self {
            location,
            text,
            words: Vec::new().into_iter().peekable(),
            diagnostics: Vec::new(),
        };
        match split {
            Ok(words) => line.words = words.into_iter().peekable(),
            Err(why) => {
                let word = Word {
                    text: String::new(),
                    span: why.span,
                };
                line.say(Severity::Error, &word, why.message, why.help);
            }
        }
        line
    }

    /// The next word.
    pub fn take(&mut self) -> Option<Word> {
        self.words.next()
    }

    /// The next word, if it is one that `wanted` likes.
    pub fn take_if(&mut self, wanted: impl FnOnce(&str) -> bool) -> Option<Word> {
        self.words.next_if(|word| wanted(&word.text))
    }

    /// The next word without taking it.
    pub fn peek(&mut self) -> Option<&Word> {
        self.words.peek()
    }

    /// Takes all that is left.
    pub fn take_rest(&mut self) -> Vec<Word> {
        self.words.by_ref().collect()
    }

    /// The word that has to follow `after`; `wants` says what it should be.
    pub fn argument(&mut self, after: &Word, wants: &str) -> Option<Word> {
        let found = self.take().filter(|word| !word.text.is_empty());
        if found.is_none() {
            let message = format!("`{}` needs {wants} after it", after.text);
            self.error(after, message, format!("write `{} ...`", after.text));
        }
        found
    }

    /// The whole number that has to follow `after`.
    pub fn integer<T>(&mut self, after: &Word, range: RangeInclusive<T>) -> Option<T>
    where
        T: FromStr + PartialOrd + Display,
    {
        let (low, high) = (range.start(), range.end());
        let wants = format!("a whole number from {low} to {high}");
        let word = self.argument(after, &wants)?;
        // ntpd takes `3.0` for 3.
        let digits = word.text.strip_suffix(".0").unwrap_or(&word.text);
        match digits.parse() {
            Ok(number) if range.contains(&number) => Some(number),
            _ => {
                let message = format!("`{}` is no value for `{}`", word.text, after.text);
                self.error(&word, message, format!("write {wants}"));
                None
            }
        }
    }

    /// The number that has to follow `after`, not negative.
    pub fn number(&mut self, after: &Word) -> Option<f64> {
        let word = self.argument(after, "a number")?;
        match word.text.parse::<f64>() {
            Ok(number) if number.is_finite() && number >= 0.0 => Some(number),
            _ => {
                let message = format!("`{}` is no value for `{}`", word.text, after.text);
                self.error(&word, message, "write a number that is not negative".into());
                None
            }
        }
    }

    /// The number that has to follow `after`, of either sign.
    pub fn real(&mut self, after: &Word) -> Option<f64> {
        let word = self.argument(after, "a number")?;
        match word.text.parse::<f64>() {
            Ok(number) if number.is_finite() => Some(number),
            _ => {
                let message = format!("`{}` is no value for `{}`", word.text, after.text);
                self.error(&word, message, "write a number".into());
                None
            }
        }
    }

    /// The seconds that have to follow `after`.
    pub fn seconds(&mut self, after: &Word) -> Option<NtpDuration> {
        let seconds = self.number(after)?;
        let duration = NtpDuration::from_seconds(seconds);
        // Zero often means "no limit", so what is not zero must not become it.
        let vanished = seconds > 0.0 && duration == NtpDuration::ZERO;
        Some(if vanished {
            NtpDuration::from_units(1)
        } else {
            duration
        })
    }

    /// Nothing may be left.
    pub fn end(&mut self) -> Option<()> {
        let Some(word) = self.take() else {
            return Some(());
        };
        if self.late_comment(&word) {
            return None;
        }
        let message = format!("`{}` is one word too many", word.text);
        self.error(
            &word,
            message,
            "delete it, or write `#` before a comment".into(),
        );
        None
    }

    /// A `#` among the words, which only chrony.conf can have.
    fn late_comment(&mut self, word: &Word) -> bool {
        let is_comment = word.text.starts_with('#');
        if is_comment {
            self.take_rest();
            let message = "a comment has to be a line of its own in chrony.conf";
            self.error(word, message.into(), "move it to the line before".into());
        }
        is_comment
    }

    /// An option of `directive` that nobody knows.
    pub fn unknown<'k>(
        &mut self,
        word: &Word,
        directive: &str,
        known: impl IntoIterator<Item = &'k str>,
    ) {
        if self.late_comment(word) {
            return;
        }
        let message = format!("`{}` is not an option of `{directive}`", word.text);
        let known: Vec<&str> = known.into_iter().collect();
        let help = match words::closest(&word.text, known.iter().copied()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("`{directive}` knows: {}", known.join(", ")),
        };
        self.error(word, message, help);
    }

    /// Keeps the daemon from starting.
    pub fn error(&mut self, word: &Word, message: String, help: String) {
        self.say(Severity::Error, word, message, help);
    }

    /// Does not.
    pub fn warning(&mut self, word: &Word, message: String, help: String) {
        self.say(Severity::Warning, word, message, help);
    }

    /// Good to know.
    pub fn note(&mut self, word: &Word, message: String) {
        self.say(Severity::Note, word, message, String::new());
    }

    /// Anything about this line.
    pub fn say(&mut self, severity: Severity, word: &Word, message: String, help: String) {
        self.diagnostics.push(Diagnostic {
            severity,
            location: self.location.clone(),
            text: self.text.to_owned(),
            span: word.span.clone(),
            message,
            help: Some(help).filter(|help| !help.is_empty()),
        });
    }
}

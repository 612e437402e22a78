//! The ntp.conf dialect with ptntp's own words: every directive that ntpd or
//! ntpsec know, and what becomes of it.

use crate::config::Location;
use crate::config::access::{discard, restrict, unrestrict};
use crate::config::association::{fudge, peer, pool, server, unpeer};
use crate::config::diagnostic::{Diagnostic, Severity};
use crate::config::dialect;
use crate::config::hwtimestamp::{hwtimestamp, hwtstimeout};
use crate::config::refclock::{phc, refclock};
use crate::config::rtc;
use crate::config::settings::{
    bindcmdaddress, busypoll, clients, cmdport, control, disable, drift_file, enable, include,
    interface, keys, leap_file, listen, metrics, mru, port, ptpdomain, ptpport, tinker, tos,
};
use crate::config::statement::{Line, Statement};
use crate::config::words::{self, Word};

/// What becomes of a directive.
#[derive(Clone, Copy)]
pub enum Treatment {
    /// It is understood.
    Reads(fn(&mut Line<'_>, &Word) -> Option<Statement>),
    /// It has no effect, and needs none: why.
    Note(&'static str),
    /// It has no effect, and somebody may miss it: why, and what to do.
    Warning(&'static str, &'static str),
    /// Without it others would be served, trusted or obeyed: why, and what to do.
    Error(&'static str, &'static str),
    /// It would be a source of time: an error if there is no other, else a warning.
    Source(&'static str, &'static str),
}

use Treatment::{Error, Note, Reads, Source, Warning};

const NO_KEYS: &str = "no effect yet, because nothing uses keys";
const NO_FILES: &str = "statistics files are not written yet";
const USE_METRICS: &str =
    "the same figures are in `ptntp stat --json`, `ptntp peers --json` and the metrics";
const NO_AUTOKEY: &str = "Autokey is broken and not supported";
const NAME_SERVER: &str = "name the time source on a `server` line";

/// Every directive. Ignoring one is an error only where that would change who
/// is served, who is trusted, or whether the clock may be stepped.
pub const DIRECTIVES: &[(&str, Treatment)] = &[
    // Sources.
    ("server", Reads(server)),
    ("pool", Reads(pool)),
    ("peer", Reads(peer)),
    ("unpeer", Reads(unpeer)),
    ("fudge", Reads(fudge)),
    ("refclock", Reads(refclock)),
    (
        "broadcastclient",
        Source("broadcasts are not listened to", NAME_SERVER),
    ),
    (
        "multicastclient",
        Source("multicasts are not listened to", NAME_SERVER),
    ),
    (
        "manycastclient",
        Source("servers are not searched for by manycast", NAME_SERVER),
    ),
    (
        "broadcastdelay",
        Note("no effect: broadcasts are not listened to"),
    ),
    (
        "device",
        Warning("reference clocks are not supported yet", "delete the line"),
    ),
    ("phone", Note("no effect: modems are not supported")),
    ("calldelay", Note("no effect: modems are not supported")),
    // Serving.
    ("restrict", Reads(restrict)),
    ("unrestrict", Reads(unrestrict)),
    ("discard", Reads(discard)),
    (
        "limit",
        Warning(
            "ntpsec's `limit` is not supported: `limited` uses the limits of `discard`",
            "write `discard average 3 minimum 2`, with the numbers wanted",
        ),
    ),
    ("interface", Reads(interface)),
    ("nic", Reads(interface)),
    (
        "extra",
        Error(
            "a second port is not supported yet, and its clients would not be served",
            "write `port N` to serve on another port instead of 123",
        ),
    ),
    (
        "broadcast",
        Error(
            "broadcasts are not sent, and their listeners would lose their time",
            "let the clients ask: `server` with this machine's address",
        ),
    ),
    (
        "manycastserver",
        Error(
            "manycast is not answered, and its clients would lose their time",
            "let the clients ask: `server` with this machine's address",
        ),
    ),
    ("ttl", Note("no effect: it belongs to manycast")),
    (
        "dscp",
        Note("no effect yet: packets leave with the system's default priority"),
    ),
    (
        "leapsmearinterval",
        Warning(
            "leap seconds are not smeared yet: clients see the leap second itself",
            "make sure that the clients don't count on the smear",
        ),
    ),
    (
        "ntpsigndsocket",
        Note("no effect: Samba's signatures are not supported yet"),
    ),
    ("trap", Note("no effect: traps are not sent")),
    ("setvar", Note("no effect: there are no user variables")),
    (
        "mdnstries",
        Note("no effect: the service is not announced by mDNS"),
    ),
    // Trust.
    ("keys", Reads(keys)),
    ("trustedkey", Note(NO_KEYS)),
    ("controlkey", Note(NO_KEYS)),
    ("requestkey", Note(NO_KEYS)),
    ("keysdir", Note(NO_KEYS)),
    ("authdelay", Note(NO_KEYS)),
    ("crypto", Warning(NO_AUTOKEY, "delete the line")),
    ("revoke", Warning(NO_AUTOKEY, "delete the line")),
    ("automax", Warning(NO_AUTOKEY, "delete the line")),
    (
        "nts",
        Error(
            "NTS is not supported yet, and nobody is trusted without the authentication asked for",
            "delete the line only if the time may go without authentication",
        ),
    ),
    // The clock.
    ("tinker", Reads(tinker)),
    ("tos", Reads(tos)),
    ("driftfile", Reads(drift_file)),
    ("leapfile", Reads(leap_file)),
    ("enable", Reads(enable)),
    ("disable", Reads(disable)),
    (
        "precision",
        Note("no effect: the clock's precision is measured"),
    ),
    (
        "pollskewlist",
        Note("no effect: polls are spread at random"),
    ),
    // Files, logs, the process.
    ("includefile", Reads(include)),
    ("statsdir", Warning(NO_FILES, USE_METRICS)),
    ("statistics", Warning(NO_FILES, USE_METRICS)),
    ("filegen", Warning(NO_FILES, USE_METRICS)),
    (
        "logfile",
        Warning(
            "the log goes to standard error, which is the journal under systemd",
            "read it with `journalctl -u ptntp`",
        ),
    ),
    (
        "logconfig",
        Note("no effect: `--log-level` says how much is logged"),
    ),
    (
        "pidfile",
        Warning(
            "no pid file is written",
            "ask systemd (`systemctl show -P MainPID ptntp`) or `ptntp stat --json`",
        ),
    ),
    (
        "saveconfigdir",
        Note("no effect: the configuration is not changed at run time"),
    ),
    ("reset", Note("no effect: counters start with the daemon")),
    ("rlimit", Note("no effect: systemd's unit sets limits")),
    (
        "simulate",
        Error(
            "ntpd's simulator is not part of this program",
            "see `ptntp demo`",
        ),
    ),
    // ptntp's own.
    ("hwtimestamp", Reads(hwtimestamp)),
    ("hwtstimeout", Reads(hwtstimeout)),
    ("listen", Reads(listen)),
    ("port", Reads(port)),
    ("ptpport", Reads(ptpport)),
    ("ptpdomain", Reads(ptpdomain)),
    ("clients", Reads(clients)),
    ("phc", Reads(phc)),
    ("busypoll", Reads(busypoll)),
    ("mru", Reads(mru)),
    ("rtcsync", Reads(rtc::sync)),
    ("rtcfile", Reads(rtc::file)),
    ("rtcdevice", Reads(rtc::device)),
    ("rtconutc", Reads(rtc::on_utc)),
    ("rtcautotrim", Reads(rtc::autotrim)),
    ("hwclockfile", Reads(rtc::hwclock_file)),
    ("control", Reads(control)),
    ("metrics", Reads(metrics)),
    ("cmdport", Reads(cmdport)),
    ("bindcmdaddress", Reads(bindcmdaddress)),
];

/// What becomes of `directive`; none: nobody knows it.
pub fn treatment(directive: &str) -> Option<Treatment> {
    let (_, treatment) = DIRECTIVES.iter().find(|(word, _)| *word == directive)?;
    Some(*treatment)
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

/// Reads one line.
pub fn parse(location: &Location, text: &str) -> Parsed {
    let mut line = Line::new(location, text);
    let numbered = line.take_if(is_number).is_some();
    let mut loses_source = false;
    let statement = line.take().and_then(|directive| {
        let treatment = treatment(&directive.text);
        loses_source = matches!(treatment, Some(Source(..)));
        treat(&mut line, &directive, treatment)
    });
    Parsed {
        statement,
        diagnostics: line.diagnostics,
        loses_source,
        numbered,
    }
}

/// No directive starts with a digit, so a number in front can only be a line number.
fn is_number(word: &str) -> bool {
    !word.is_empty() && word.len() <= 5 && word.bytes().all(|b| b.is_ascii_digit())
}

fn treat(line: &mut Line<'_>, directive: &Word, treatment: Option<Treatment>) -> Option<Statement> {
    let (severity, why, help) = match treatment {
        Some(Reads(read)) => return read(line, directive),
        Some(Note(why)) => (Severity::Note, why, ""),
        Some(Warning(why, help)) | Some(Source(why, help)) => (Severity::Warning, why, help),
        Some(Error(why, help)) => (Severity::Error, why, help),
        None => {
            unknown(line, directive);
            return None;
        }
    };
    line.take_rest();
    let message = format!("`{}`: {why}", directive.text);
    line.say(severity, directive, message, help.into());
    Some(Statement::Inert)
}

fn unknown(line: &mut Line<'_>, directive: &Word) {
    let word = directive.text.as_str();
    line.take_rest();
    if let Some(instead) = dialect::instead_of(word) {
        let message = format!("`{word}` is a word of chrony.conf, not of ntp.conf");
        line.error(directive, message, instead.into());
        return;
    }
    let message = format!("`{word}` is not a directive of ntp.conf");
    let known = DIRECTIVES.iter().map(|(known, _)| *known);
    let help = match words::closest(word, known) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None if word.starts_with(['!', ';', '%', '/']) => {
            "comments start with `#` in ntp.conf".into()
        }
        None => "correct the line, or put `#` before it".into(),
    };
    line.error(directive, message, help);
}

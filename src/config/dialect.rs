//! Whose configuration file is this? ntp.conf and chrony.conf share a few
//! words (`server`, `driftfile`) with different consequences; the others tell
//! them apart.

use crate::config::words;

/// How a configuration file is to be understood.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Dialect {
    /// As its words tell.
    #[default]
    Auto,
    /// As ntp.conf with ptntp's own words beside.
    Ntp,
    /// As chrony.conf.
    Chrony,
}

/// What the words of a file tell: line (from 1) and word of the first that
/// belongs to one dialect alone.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Evidence {
    /// For ntp.conf.
    pub ntp: Option<(usize, String)>,
    /// For chrony.conf.
    pub chrony: Option<(usize, String)>,
}

/// Looks at the first word of every line; `belongs` knows whose it is alone.
pub fn evidence(text: &str, belongs: impl Fn(&str) -> Option<Dialect>) -> Evidence {
    let mut found = Evidence::default();
    let mut weak = None;
    for (index, line) in text.lines().enumerate() {
        // chrony has more comment signs.
        if line.trim_start().starts_with(['!', ';', '%']) {
            continue;
        }
        let Some(word) = words::split(line).ok().and_then(|w| w.into_iter().next()) else {
            continue;
        };
        // chrony.conf does not care for case.
        let lower = word.text.to_ascii_lowercase();
        if CHRONY_FIRST.contains(&lower.as_str()) {
            weak.get_or_insert((index + 1, word.text));
            continue;
        }
        let place = match belongs(&word.text) {
            Some(Dialect::Ntp) => &mut found.ntp,
            Some(Dialect::Chrony) => &mut found.chrony,
            Some(Dialect::Auto) | None => continue,
        };
        place.get_or_insert((index + 1, word.text));
    }
    if found.ntp.is_none() && found.chrony.is_none() {
        found.chrony = weak;
    }
    found
}

/// What ptntp has instead of a word that only chrony.conf knows.
pub fn instead_of(word: &str) -> Option<&'static str> {
    let word = word.to_ascii_lowercase();
    let (_, instead) = CHRONY.iter().find(|(known, _)| *known == word)?;
    Some(instead)
}

/// chrony's words that are ptntp's too. Alone they speak for chrony.conf: it serves
/// nobody who is not named, and taking it for the other would serve all.
const CHRONY_FIRST: [&str; 17] = [
    "cmdallow",
    "cmddeny",
    "hwclockfile",
    "hwtimestamp",
    "hwtstimeout",
    "log",
    "logbanner",
    "logchange",
    "logdir",
    "manual",
    "ptpdomain",
    "ptpport",
    "rtcautotrim",
    "rtcdevice",
    "rtcfile",
    "rtconutc",
    "rtcsync",
];

const DELETE: &str = "delete the line; ptntp has nothing like it";
const UNNEEDED: &str = "delete the line; ptntp does so without being told";
const NO_NTS: &str = "delete the line; NTS is not supported yet";
const NO_COMMANDS: &str = "delete the line; see `cmdport`, `cmdallow` and `bindcmdaddress`";
const SELECTION: &str = "see `tos` (minsane, minclock, maxdist, floor, ceiling)";

/// Words of chrony.conf alone, and what to write in ntp.conf instead.
const CHRONY: &[(&str, &str)] = &[
    ("acquisitionport", UNNEEDED),
    (
        "allow",
        "write `restrict ADDRESS/LEN` (ntp.conf serves everyone who is not restricted)",
    ),
    ("deny", "write `restrict ADDRESS/LEN ignore`"),
    ("authselectmode", DELETE),
    ("bindaddress", "write `listen ADDRESS`"),
    ("binddevice", DELETE),
    (
        "clientloglimit",
        "write `clients limited N`, a sixteenth of the bytes",
    ),
    ("clockprecision", UNNEEDED),
    ("cmdratelimit", NO_COMMANDS),
    ("combinelimit", SELECTION),
    ("commandkey", NO_COMMANDS),
    ("confdir", "write `includefile DIRECTORY`"),
    ("corrtimeratio", DELETE),
    ("dumpdir", DELETE),
    ("dumponexit", DELETE),
    ("fallbackdrift", DELETE),
    ("generatecommandkey", NO_COMMANDS),
    ("include", "write `includefile`, one line for each file"),
    ("keyfile", "write `keys FILE chrony` and `trustedkey all`"),
    ("leapseclist", "write `leapfile FILE`"),
    (
        "leapsecmode",
        "write `leapseconds kernel`, or `leapseconds slew`",
    ),
    (
        "leapsectz",
        "write `leapfile /usr/share/zoneinfo/leap-seconds.list`",
    ),
    ("linux_freq_scale", DELETE),
    ("linux_hz", DELETE),
    (
        "local",
        "write `server 127.127.1.0` and `fudge 127.127.1.0 stratum 10`",
    ),
    ("lock_all", UNNEEDED),
    ("mailonchange", DELETE),
    (
        "makestep",
        "write `tinker step SECONDS stepupdates N stepout 0`",
    ),
    ("maxchange", "write `tinker panic SECONDS`"),
    ("maxclockerror", DELETE),
    ("maxdistance", "write `tos maxdist SECONDS`"),
    ("maxdrift", DELETE),
    ("maxjitter", SELECTION),
    ("maxntsconnections", NO_NTS),
    ("maxslewrate", DELETE),
    (
        "maxstratum",
        "write `tos ceiling N`, one more than the largest stratum wanted",
    ),
    ("maxtxbuffers", UNNEEDED),
    ("maxupdateskew", DELETE),
    ("minsources", "write `tos minsane N`"),
    ("nocerttimecheck", NO_NTS),
    ("noclientlog", "write `disable monitor`"),
    ("nosystemcert", NO_NTS),
    ("ntsaeads", NO_NTS),
    ("ntscachedir", NO_NTS),
    ("ntsdumpdir", NO_NTS),
    ("ntsport", NO_NTS),
    ("ntsprocesses", NO_NTS),
    ("ntsratelimit", NO_NTS),
    ("ntsrefresh", NO_NTS),
    ("ntsrotate", NO_NTS),
    ("ntsservercert", NO_NTS),
    ("ntsserverkey", NO_NTS),
    ("ntstrustedcerts", NO_NTS),
    ("opencommands", NO_COMMANDS),
    (
        "ratelimit",
        "write `restrict default limited` and `limit interval SECONDS burst N leak N`",
    ),
    ("refresh", UNNEEDED),
    ("reselectdist", SELECTION),
    (
        "sched_priority",
        "delete the line; see CPUSchedulingPolicy= in systemd's unit",
    ),
    ("smoothtime", DELETE),
    ("sourcedir", "write an `includefile` line for each file"),
    ("stratumweight", SELECTION),
    ("tempcomp", DELETE),
    ("user", "delete the line; systemd's unit names the user"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> (Option<usize>, Option<usize>) {
        let found = evidence(text, |word| match word.to_ascii_lowercase().as_str() {
            "restrict" => Some(Dialect::Ntp),
            "makestep" | "rtcsync" => Some(Dialect::Chrony),
            _ => None,
        });
        (found.ntp.map(|f| f.0), found.chrony.map(|f| f.0))
    }

    #[test]
    fn words_tell_the_dialects_apart() {
        assert_eq!(found("server a\nrestrict b\n"), (Some(2), None));
        assert_eq!(found("! c\nserver a\n\nMakeStep 1 3"), (None, Some(4)));
        assert_eq!(found("server a\n"), (None, None));
        assert_eq!(found("makestep 1 3\nrestrict b"), (Some(2), Some(1)));
        for word in ["hwtimestamp *", "rtcsync"] {
            assert_eq!(found(&format!("{word}\nrestrict b")), (Some(2), None));
            assert_eq!(found(&format!("server a\n{word}")), (None, Some(2)));
        }
    }
}

//! A line of chrony.conf (chrony.conf(5)): words in any case, comments on lines of
//! their own, an unknown directive is an error.

use crate::config::Location;
use crate::config::directives::{self, chrony};
use crate::config::statement::{Line, Parsed};
use crate::config::words::{self, Word};

/// Reads one line; `is_ntp` knows the words of ntp.conf.
pub fn parse(location: &Location, text: &str, is_ntp: impl Fn(&str) -> bool) -> Parsed {
    let mut line = Line::chrony(location, text);
    let statement = line
        .take()
        .and_then(|word| match chrony::directive(&word.text) {
            Some(directive) => directives::treat(&mut line, &word, directive),
            None => {
                unknown(&mut line, &word, is_ntp);
                None
            }
        });
    Parsed {
        statement,
        diagnostics: line.diagnostics,
        loses_source: false,
        numbered: false,
    }
}

fn unknown(line: &mut Line<'_>, word: &Word, is_ntp: impl Fn(&str) -> bool) {
    line.take_rest();
    let known = chrony::DIRECTIVES.iter().map(|directive| directive.name);
    let (message, help) = if is_ntp(&word.text) {
        (
            format!("`{}` is a word of ntp.conf, not of chrony.conf", word.text),
            instead_of(&word.text).to_owned(),
        )
    } else {
        let help = match words::closest(&word.text, known) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => "correct the line, or put `#` before it".into(),
        };
        (
            format!("`{}` is not a directive of chrony.conf", word.text),
            help,
        )
    };
    line.error(word, message, help);
}

/// What to write in chrony.conf for a word of ntp.conf.
fn instead_of(word: &str) -> &'static str {
    match word {
        "restrict" | "unrestrict" => "write `allow ADDRESS/BITS` for whom to serve",
        "fudge" => "write `local stratum N`",
        "keys" => "write `keyfile FILE`",
        "leapfile" => "write `leapseclist FILE`",
        "tinker" => "write `makestep SECONDS UPDATES` or `maxchange SECONDS START IGNORE`",
        "tos" => "write `minsources N`, `maxdistance SECONDS` or `maxstratum N`",
        "discard" | "limit" => "write `ratelimit interval N burst N`",
        "includefile" => "write `include FILE`",
        "interface" | "nic" => "write `bindaddress ADDRESS`",
        "statsdir" | "statistics" | "filegen" => "write `log tracking` and `logdir DIRECTORY`",
        _ => "delete the line, or use `ptntp convert` on the file it came from",
    }
}

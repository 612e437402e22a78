//! A line of ntp.conf, or of ptntp's own dialect, which is ntp.conf with more words.

use crate::config::Location;
use crate::config::directives::{self, ntp};
use crate::config::statement::{Line, Parsed};
use crate::config::words::{self, Word};

/// Reads one line. `is_chrony` knows the words of chrony.conf, and what to write instead.
pub fn parse(
    location: &Location,
    text: &str,
    is_chrony: impl Fn(&str) -> Option<&'static str>,
) -> Parsed {
    let mut line = Line::new(location, text);
    let numbered = line.take_if(is_number).is_some();
    let mut loses_source = false;
    let statement = line
        .take()
        .and_then(|word| match ntp::directive(&word.text) {
            Some(directive) => {
                loses_source = directive.is_source;
                directives::treat(&mut line, &word, directive)
            }
            None => {
                unknown(&mut line, &word, is_chrony);
                None
            }
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

fn unknown(
    line: &mut Line<'_>,
    directive: &Word,
    is_chrony: impl Fn(&str) -> Option<&'static str>,
) {
    let word = directive.text.as_str();
    line.take_rest();
    if let Some(instead) = is_chrony(word) {
        let message = format!("`{word}` is a word of chrony.conf, not of ntp.conf");
        line.error(directive, message, instead.into());
        return;
    }
    let message = format!("`{word}` is not a directive of ntp.conf");
    let known = ntp::DIRECTIVES.iter().map(|known| known.name);
    let help = match words::closest(word, known) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None if word.starts_with(['!', ';', '%', '/']) => {
            "comments start with `#` in ntp.conf".into()
        }
        None => "correct the line, or put `#` before it".into(),
    };
    line.error(directive, message, help);
}

//! `hwtimestamp` and `hwtstimeout`: chrony's words for hardware stamps, as ptntp's own,
//! with `restore` beside.

use crate::config::stamping::{CardLine, Filter, POLL_MIN, Which};
use crate::config::statement::{Line, Statement};
use crate::config::words::Word;
use crate::time::duration::NtpDuration;
use crate::time::units::PollExponent;

/// The longest name that an interface can have (IFNAMSIZ less its zero).
const NAME_LEN_MAX: usize = 15;

const KNOWN: [&str; 10] = [
    "minpoll",
    "maxpoll",
    "minsamples",
    "maxsamples",
    "precision",
    "txcomp",
    "rxcomp",
    "nocrossts",
    "rxfilter",
    "restore",
];

/// `hwtimestamp interface|* [option ...]`.
pub fn hwtimestamp(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    let mut card = CardLine::new(interface(line, directive)?);
    while let Some(word) = line.take() {
        // chrony.conf does not care for case.
        match word.text.to_ascii_lowercase().as_str() {
            "minpoll" => card.poll = poll(line, &word)?,
            "maxpoll" => {
                poll(line, &word)?;
                let why = "the card's clock is read every `minpoll`, packets or not";
                line.note(&word, format!("`maxpoll` has no effect: {why}"));
            }
            "minsamples" | "maxsamples" => {
                line.integer(&word, 1_u32..=64)?;
                let message = format!(
                    "`{}` has no effect: how long readings of the card's clock are remembered \
                     follows from how steadily it runs",
                    word.text
                );
                line.note(&word, message);
            }
            "precision" => card.precision = line.seconds(&word)?,
            "txcomp" => card.tx_compensation = signed_seconds(line, &word)?,
            "rxcomp" => card.rx_compensation = signed_seconds(line, &word)?,
            "nocrossts" => card.precise = false,
            "rxfilter" => card.filter = Some(filter(line, &word)?),
            "restore" => card.restore = true,
            _ => {
                line.unknown(&word, &directive.text, KNOWN);
                return None;
            }
        }
    }
    Some(Statement::Card(card))
}

/// `hwtstimeout seconds`.
pub fn hwtstimeout(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    let timeout = line.seconds(directive)?;
    line.end()?;
    Some(Statement::StampTimeout(timeout))
}

/// The interface that has to follow `directive`, or `*`.
pub fn interface(line: &mut Line<'_>, directive: &Word) -> Option<Which> {
    let name = line.argument(directive, "the name of an interface, or `*` for all")?;
    if !is_interface(&name.text) {
        let message = format!("`{}` can't be the name of an interface", name.text);
        let help = "write a name that `ptntp nics` shows, or `*` for all that can".into();
        line.error(&name, message, help);
        return None;
    }
    Some(match name.text.as_str() {
        "*" => Which::All,
        name => Which::Named(name.to_owned()),
    })
}

/// As dev_valid_name() of the kernel.
fn is_interface(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= NAME_LEN_MAX
        && !matches!(name, "." | "..")
        && !name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace())
}

fn poll(line: &mut Line<'_>, word: &Word) -> Option<PollExponent> {
    let range = POLL_MIN.log2()..=PollExponent::MAX.log2();
    line.integer(word, range).map(PollExponent::new)
}

fn filter(line: &mut Line<'_>, word: &Word) -> Option<Filter> {
    let value = line.argument(word, "`all`, `ntp`, `ptp` or `none`")?;
    let known = |filter: &Filter| filter.word().eq_ignore_ascii_case(&value.text);
    let found = Filter::EVERY.into_iter().find(known);
    if found.is_none() {
        line.unknown(&value, &word.text, Filter::EVERY.map(Filter::word));
    }
    found
}

/// The seconds that have to follow `after`; a card may stamp early or late.
fn signed_seconds(line: &mut Line<'_>, after: &Word) -> Option<NtpDuration> {
    let word = line.argument(after, "a number of seconds")?;
    match word.text.parse::<f64>() {
        // Light takes longer than that to the moon: nanoseconds were meant.
        Ok(seconds) if seconds.abs() <= 1.0 => Some(NtpDuration::from_seconds(seconds)),
        _ => {
            let message = format!("`{}` is no value for `{}`", word.text, after.text);
            let help = "write seconds, from -1 to 1, such as 300e-9";
            line.error(&word, message, help.into());
            None
        }
    }
}

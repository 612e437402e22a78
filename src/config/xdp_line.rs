//! `xdp`: a line becomes an [`XdpLine`].

use crate::config::hwtimestamp::interface;
use crate::config::statement::{Line, Statement};
use crate::config::words::Word;
use crate::config::xdp::{Mode, PREFIXES_MAX, XdpLine};

/// `xdp interface|* [mode native|generic] [prefixes n]`.
pub fn xdp(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    let mut found = XdpLine {
        interface: interface(line, directive)?,
        mode: Mode::default(),
    };
    let mut prefixes = None;
    while let Some(word) = line.take() {
        // chrony.conf does not care for case.
        match word.text.to_ascii_lowercase().as_str() {
            "mode" => found.mode = mode(line, &word)?,
            "prefixes" => prefixes = Some(line.integer(&word, 1..=PREFIXES_MAX)?),
            _ => {
                line.unknown(&word, &directive.text, ["mode", "prefixes"]);
                return None;
            }
        }
    }
    Some(Statement::Xdp(found, prefixes))
}

fn mode(line: &mut Line<'_>, word: &Word) -> Option<Mode> {
    let value = line.argument(word, "`native` or `generic`")?;
    let known = |mode: &Mode| mode.word().eq_ignore_ascii_case(&value.text);
    let found = Mode::EVERY.into_iter().find(known);
    if found.is_none() {
        line.unknown(&value, &word.text, Mode::EVERY.map(Mode::word));
    }
    found
}

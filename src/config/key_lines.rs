//! The lines about keys: where they are, which of them are trusted, which is ntpq's, and
//! what becomes of requests with a wrong MAC.

use std::ops::RangeInclusive;

use crate::config::keys::{KeyFormat, Trust};
use crate::config::statement::{Line, Statement};
use crate::config::words::Word;
use crate::server::respond::BadMac;

/// `keys FILE`; ptntp's own: `keys FILE chrony` for a file of that format.
pub fn keys(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    let path = line.argument(directive, "a file name")?;
    let chrony = line.take_if(|word| word == "chrony").is_some();
    line.end()?;
    Some(Statement::Keys {
        path: path.text.into(),
        format: if chrony {
            KeyFormat::Chrony
        } else {
            KeyFormat::Ntp
        },
    })
}

/// chrony's `keyfile FILE`.
pub fn key_file(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    let path = line.argument(directive, "a file name")?;
    line.end()?;
    Some(Statement::Keys {
        path: path.text.into(),
        format: KeyFormat::Chrony,
    })
}

/// `trustedkey 1 3 (10 ... 20)`; ptntp's own: `trustedkey all`.
pub fn trusted_key(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    let words = line.take_rest();
    if words.len() == 1 && words[0].text == "all" {
        return Some(Statement::TrustedKeys(Trust::All));
    }
    let text: Vec<&str> = words.iter().map(|word| word.text.as_str()).collect();
    match ranges(&text.join(" ")) {
        Some(ranges) if !ranges.is_empty() => Some(Statement::TrustedKeys(Trust::Only(ranges))),
        _ => {
            let message = "`trustedkey` needs numbers of keys after it, from 1 to 4294967295";
            let help = "write them like `trustedkey 1 3 (10 ... 20)`";
            line.error(directive, message.into(), help.into());
            None
        }
    }
}

/// `controlkey 1`.
pub fn control_key(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    let id = line.integer(directive, 1..=u32::MAX)?;
    line.end()?;
    Some(Statement::ControlKey(id))
}

/// Numbers, and ranges like `(10 ... 20)`, with or without spaces.
fn ranges(text: &str) -> Option<Vec<RangeInclusive<u32>>> {
    let spaced = ["(", ")", "..."]
        .iter()
        .fold(text.to_owned(), |text, sign| {
            text.replace(sign, &format!(" {sign} "))
        });
    let mut words = spaced.split_whitespace();
    let number = |word: Option<&str>| word?.parse().ok().filter(|id: &u32| *id > 0);
    let mut ranges = Vec::new();
    while let Some(word) = words.next() {
        let range = if word == "(" {
            let low = number(words.next())?;
            (words.next()? == "...").then_some(())?;
            let high = number(words.next())?;
            (words.next()? == ")" && low <= high).then_some(low..=high)?
        } else {
            let id = number(Some(word))?;
            id..=id
        };
        ranges.push(range);
    }
    Some(ranges)
}

/// `cryptonak on|off` (native).
pub fn crypto_nak(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    let word = line.argument(directive, "`on` or `off`")?;
    line.end()?;
    match word.text.as_str() {
        "on" => Some(Statement::BadMac(BadMac::Refused)),
        "off" => Some(Statement::BadMac(BadMac::Ignored)),
        _ => {
            line.unknown(&word, "cryptonak", ["on", "off"]);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys::trust_as_text;

    #[test]
    fn ranges_of_trusted_keys_are_read() {
        let read = |text: &str| ranges(text);
        assert_eq!(read("1 (3 ... 5) 7"), Some(vec![1..=1, 3..=5, 7..=7]));
        assert_eq!(read("(3...5)"), Some(vec![3..=5]));
        for wrong in ["0", "a", "(3 5)", "(5 ... 3)", "(3 ...", "3 ... 5", "-1"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        let trust = Trust::Only(vec![1..=1, 3..=5]);
        assert_eq!(trust_as_text(&trust), "1 (3 ... 5)");
        assert!(trust.includes(4) && !trust.includes(2));
    }
}

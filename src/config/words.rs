//! A line of ntp.conf becomes words: separated by white space, `#` starts a
//! comment anywhere outside of quotes, `"..."` is one word.

use std::ops::Range;

/// One word and where it stands in its line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Word {
    /// Without quotes.
    pub text: String,
    /// Bytes of the line, quotes included.
    pub span: Range<usize>,
}

/// Why a line is not made of words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Malformed {
    /// Bytes of the line that are meant.
    pub span: Range<usize>,
    /// What is so.
    pub message: String,
    /// What to do.
    pub help: String,
}

/// The words of `line`, without its comment.
pub fn split(line: &str) -> Result<Vec<Word>, Malformed> {
    let mut words = Vec::new();
    let mut rest = line.char_indices().peekable();
    while let Some(&(start, c)) = rest.peek() {
        match c {
            '#' => break,
            c if is_space(c) => {
                rest.next();
            }
            '"' => {
                rest.next();
                let Some((end, _)) = rest.by_ref().find(|(_, c)| *c == '"') else {
                    return Err(Malformed {
                        span: start..line.len(),
                        message: "this quote is never closed".into(),
                        help: "write the second `\"` on the same line".into(),
                    });
                };
                words.push(Word {
                    text: line[start + 1..end].into(),
                    span: start..end + 1,
                });
            }
            _ => {
                while rest.next_if(|(_, c)| !ends_word(*c)).is_some() {}
                let end = rest.peek().map_or(line.len(), |(end, _)| *end);
                words.push(Word {
                    text: line[start..end].into(),
                    span: start..end,
                });
            }
        }
    }
    for word in &words {
        refuse_odd_characters(word)?;
    }
    Ok(words)
}

/// The words of a line of chrony.conf: no quotes, and comments are lines of their own.
pub fn split_chrony(line: &str) -> Result<Vec<Word>, Malformed> {
    if line.trim_start().starts_with(['!', ';', '#', '%']) {
        return Ok(Vec::new());
    }
    let mut words = Vec::new();
    let mut rest = line;
    let mut at = 0;
    while let Some(start) = rest.find(|c| !is_space(c)) {
        let end = rest[start..]
            .find(is_space)
            .map_or(rest.len(), |len| start + len);
        words.push(Word {
            text: rest[start..end].into(),
            span: at + start..at + end,
        });
        rest = &rest[end..];
        at += end;
    }
    for word in &words {
        refuse_odd_characters(word)?;
        if word.text.contains('"') {
            return Err(Malformed {
                span: word.span.clone(),
                message: "chronyd takes a quote for a part of the word".into(),
                help: "leave it out, and choose names of files that have none".into(),
            });
        }
    }
    Ok(words)
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\u{b}' | '\u{c}')
}

fn ends_word(c: char) -> bool {
    is_space(c) || c == '#' || c == '"'
}

/// Characters that look like something else on a screen end in long searches.
fn refuse_odd_characters(word: &Word) -> Result<(), Malformed> {
    let Some(odd) = word.text.chars().find(|c| {
        c.is_control() || c.is_whitespace() && *c != ' ' || *c == char::REPLACEMENT_CHARACTER
    }) else {
        return Ok(());
    };
    let (message, help) = match odd {
        char::REPLACEMENT_CHARACTER => (
            "this is not UTF-8 text".into(),
            "outside of comments a file has to be UTF-8: convert it with `iconv`, or type the word anew".into(),
        ),
        c if c.is_control() => (
            format!("there is a control character (U+{:04X}) in this word", u32::from(c)),
            "delete the word and type it anew".into(),
        ),
        c => (
            format!("there is a space here that is not an ordinary one (U+{:04X})", u32::from(c)),
            "it was probably pasted from a web page: replace it by a plain space".into(),
        ),
    };
    Err(Malformed {
        span: word.span.clone(),
        message,
        help,
    })
}

/// The one of `known` that was probably meant by `word`.
pub fn closest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    // Long words may have more mistakes; for short ones everything is near.
    let most = match word.chars().count() {
        0..=2 => 0,
        3..=4 => 1,
        5..=64 => 2,
        _ => return None,
    };
    known
        .into_iter()
        .map(|k| (edits(&word, k), k))
        .filter(|(n, _)| *n <= most)
        .min()
        .map(|(_, k)| k)
}

/// Letters to insert, delete or replace to get from `a` to `b` (Levenshtein).
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(line: &str) -> Vec<String> {
        split(line).unwrap().into_iter().map(|w| w.text).collect()
    }

    #[test]
    fn comments_start_anywhere_and_quotes_hold_together() {
        assert_eq!(
            texts(" server  a#b\t# c"),
            ["server", "a"],
            "as ntpd reads it"
        );
        assert_eq!(texts("keys \"/a b/#c\" x\r"), ["keys", "/a b/#c", "x"]);
        assert_eq!(
            texts("driftfile /d  #侦测BIOS时钟的差异"),
            ["driftfile", "/d"]
        );
        assert!(texts(" # nothing").is_empty());
    }

    #[test]
    fn what_is_no_word_is_named() {
        assert_eq!(split("keys \"/a").unwrap_err().span, 5..8);
        let pasted = split("server\u{a0}a").unwrap_err();
        assert!(pasted.message.contains("U+00A0"), "{}", pasted.message);
        assert!(split("keys \u{fffd}").is_err());
        assert!(
            split("keys /k # \u{fffd}").is_ok(),
            "comments may be in any encoding"
        );
    }

    #[test]
    fn chronys_comments_have_lines_of_their_own() {
        let texts = |line| -> Vec<String> {
            let words = split_chrony(line).unwrap();
            words.into_iter().map(|word| word.text).collect()
        };
        assert_eq!(texts("  server\ta # b\r"), ["server", "a", "#", "b"]);
        for comment in ["# a", "! a", " ; a", "% a", ""] {
            assert!(texts(comment).is_empty(), "{comment}");
        }
        assert_eq!(split_chrony("  allow \u{1b}").unwrap_err().span, 8..9);
    }

    #[test]
    fn typing_errors_are_recognised() {
        assert_eq!(closest("perfer", ["noselect", "prefer"]), Some("prefer"));
        assert_eq!(closest("Restrict", ["restrict"]), Some("restrict"));
        assert_eq!(closest("sever", ["pool", "server"]), Some("server"));
        assert_eq!(closest("xyz", ["server"]), None);
    }
}

//! What is wrong with a configuration file, said the way a compiler says it:
//! the place, a sentence, the line with a caret under the words, and what to
//! write instead.

use std::fmt;
use std::ops::Range;

use serde::Serialize;

use crate::config::Location;

/// How much a [`Diagnostic`] matters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know; nothing needs doing.
    Note,
    /// The file does not do all that it says; the daemon starts.
    Warning,
    /// The daemon does not start.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// One thing to say about one line.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Diagnostic {
    /// How much it matters.
    pub severity: Severity,
    /// Where. Line 0 is the file as a whole.
    #[serde(flatten)]
    pub location: Location,
    /// The line as it stands; empty for the file as a whole.
    pub text: String,
    /// Bytes of `text` that are meant.
    #[serde(skip)]
    pub span: Range<usize>,
    /// What is so, in one sentence.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl Diagnostic {
    /// About a file as a whole.
    pub fn of_file(severity: Severity, location: Location, message: String, help: String) -> Self {
        Self {
            severity,
            location,
            text: String::new(),
            span: 0..0,
            message,
            help: Some(help),
        }
    }
}

/// Most characters of a line that are shown, and how many of them before the caret.
const SHOWN_MAX: usize = 120;
const SHOWN_BEFORE: usize = 60;

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.location, self.severity, self.message)?;
        if !self.text.trim().is_empty() {
            let (shown, caret) = self.excerpt();
            write!(f, "\n  {shown}\n  {caret}")?;
        }
        if let Some(help) = &self.help {
            write!(f, "\n  {help}")?;
        }
        Ok(())
    }
}

impl Diagnostic {
    /// The line, shortened about the span, and the carets to print under it.
    fn excerpt(&self) -> (String, String) {
        let before = self.text.get(..self.span.start).unwrap_or("");
        let meant = self.text.get(self.span.clone()).unwrap_or("");
        let skip = match before.chars().count() {
            n if n > SHOWN_BEFORE && self.text.chars().count() > SHOWN_MAX => n - SHOWN_BEFORE,
            _ => 0,
        };
        let shown: String = self.text.chars().skip(skip).take(SHOWN_MAX).collect();
        let pad: String = before.chars().skip(skip).map(blank).collect();
        let room = SHOWN_MAX.saturating_sub(before.chars().count() - skip);
        let carets = meant.chars().take(room).map(|c| blank(c).len()).sum();
        let shown = shown.chars().map(printable).collect();
        (shown, pad + &"^".repeat(std::cmp::max(carets, 1)))
    }
}

/// As much space as `c` takes on a terminal: East Asian wide characters take two columns.
fn blank(c: char) -> &'static str {
    match c {
        '\t' => "\t",
        '\u{1100}'..='\u{115f}' | '\u{2e80}'..='\u{a4cf}' | '\u{ac00}'..='\u{d7a3}' => "  ",
        '\u{f900}'..='\u{faff}' | '\u{fe30}'..='\u{fe6f}' | '\u{ff00}'..='\u{ff60}' => "  ",
        _ => " ",
    }
}

/// A configuration file must not steer the terminal it is printed on.
fn printable(c: char) -> char {
    if c.is_control() && c != '\t' { '?' } else { c }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn about(text: &str, word: &str) -> Diagnostic {
        let start = text.find(word).unwrap();
        Diagnostic {
            severity: Severity::Error,
            location: Location {
                file: Path::new("ntp.conf").into(),
                line: 3,
            },
            text: text.into(),
            span: start..start + word.len(),
            message: "no".into(),
            help: Some("write that".into()),
        }
    }

    #[test]
    fn caret_stands_under_the_word() {
        assert_eq!(
            about("\tserver a perfer", "perfer").to_string(),
            "ntp.conf:3: error: no\n  \tserver a perfer\n  \t         ^^^^^^\n  write that"
        );
        assert!(
            about("服务 x", "x")
                .to_string()
                .contains("\n  服务 x\n       ^\n")
        );
    }

    #[test]
    fn long_lines_and_control_characters_do_no_harm() {
        let text = format!("{}\u{1b}[2J bad {}", "x ".repeat(500), "y ".repeat(500));
        let shown = about(&text, "bad").to_string();
        assert!(shown.len() < 400 && !shown.contains('\u{1b}'), "{shown}");
        assert!(shown.contains(" bad ") && shown.contains("^^^"));
    }
}

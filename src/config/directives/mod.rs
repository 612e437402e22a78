//! The tables of what each dialect knows: every directive and every option, how it is
//! written, what becomes of it, and in what words that is said. The parsers, `ptntp check`,
//! the log at the start and `docs/MIGRATION.md` have it from here; a test loads every
//! example and sees that it is as the table says.

pub mod chrony;
pub mod chrony_options;
pub mod clock_options;
pub mod ntp;
pub mod ntp_options;
mod own;
pub mod page;

use crate::config::diagnostic::Severity;
use crate::config::statement::{Line, Statement};
use crate::config::words::Word;

/// What becomes of a word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// It does what it says.
    Works,
    /// Accepted; it has no effect here.
    NoEffect,
    /// Not supported, and somebody may miss it: a warning.
    Missing,
    /// Not supported, and ignoring it would change who is served, who is trusted or whether
    /// the clock may be stepped: the daemon does not start.
    Refused,
}

impl State {
    /// In the words of the tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Works => "works",
            Self::NoEffect => "no effect",
            Self::Missing => "not supported",
            Self::Refused => "not supported, an error",
        }
    }
}

/// How what follows a directive is read.
#[derive(Clone, Copy)]
pub enum Reads {
    /// As the function does, which also says what there is to say.
    By(fn(&mut Line<'_>, &Word) -> Option<Statement>),
    /// Checked, and nothing more.
    Values(&'static [Kind]),
    /// Whatever it is, it is passed over.
    Rest,
}

/// What kind of value a word is.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Kind {
    /// A whole number from the first to the second.
    Int(i64, i64),
    /// A number from the first to the second.
    Num(f64, f64),
    /// Anything; what it should be.
    Text(&'static str),
    /// One of these.
    OneOf(&'static [&'static str]),
    /// A number that may be missing.
    MaybeNum(f64, f64),
    /// Any number of any words.
    Rest,
}

/// A directive.
#[derive(Clone, Copy)]
pub struct Directive {
    /// Its word.
    pub name: &'static str,
    /// What follows it.
    pub syntax: &'static str,
    /// What becomes of it.
    pub state: State,
    /// What it does, or why it has no effect ("because ..."), or what is not there.
    pub why: &'static str,
    /// What to do instead, where it is not supported.
    pub instead: &'static str,
    /// How it is read.
    pub reads: Reads,
    /// Without it there may be no source of time left.
    pub is_source: bool,
    /// What an administrator would write after it.
    pub example: &'static str,
}

/// An option of a directive.
#[derive(Clone, Copy, Debug)]
pub struct Choice {
    /// Its word.
    pub name: &'static str,
    /// The value that follows, if one does.
    pub value: Option<Kind>,
    /// What becomes of it.
    pub state: State,
    /// As with a [`Directive`].
    pub why: &'static str,
    /// As with a [`Directive`].
    pub instead: &'static str,
}

/// The options of a directive, or of several that have the same.
#[derive(Clone, Copy, Debug)]
pub struct Choices {
    /// Whose.
    pub of: &'static [&'static str],
    /// What an example line says before the option.
    pub before: &'static str,
    /// What it says after it.
    pub after: &'static str,
    /// The options.
    pub choices: &'static [Choice],
}

const fn works(
    name: &'static str,
    syntax: &'static str,
    why: &'static str,
    read: fn(&mut Line<'_>, &Word) -> Option<Statement>,
    example: &'static str,
) -> Directive {
    Directive {
        name,
        syntax,
        state: State::Works,
        why,
        instead: "",
        reads: Reads::By(read),
        is_source: false,
        example,
    }
}

const fn inert(
    name: &'static str,
    syntax: &'static str,
    why: &'static str,
    kinds: &'static [Kind],
    example: &'static str,
) -> Directive {
    Directive {
        name,
        syntax,
        state: State::NoEffect,
        why,
        instead: "",
        reads: Reads::Values(kinds),
        is_source: false,
        example,
    }
}

const fn lacking(
    state: State,
    name: &'static str,
    syntax: &'static str,
    why: &'static str,
    instead: &'static str,
    example: &'static str,
) -> Directive {
    Directive {
        name,
        syntax,
        state,
        why,
        instead,
        reads: Reads::Rest,
        is_source: false,
        example,
    }
}

const fn missing(
    name: &'static str,
    syntax: &'static str,
    why: &'static str,
    instead: &'static str,
    example: &'static str,
) -> Directive {
    lacking(State::Missing, name, syntax, why, instead, example)
}

const fn refused(
    name: &'static str,
    syntax: &'static str,
    why: &'static str,
    instead: &'static str,
    example: &'static str,
) -> Directive {
    lacking(State::Refused, name, syntax, why, instead, example)
}

/// What there is to say about a word in `state`: how bad it is, a sentence, and what to do.
pub fn remark(
    name: &str,
    state: State,
    why: &str,
    instead: &str,
) -> Option<(Severity, String, String)> {
    let (severity, sentence) = match state {
        State::Works => return None,
        State::NoEffect => (
            Severity::Note,
            format!("`{name}` is accepted and has no effect here, because {why}"),
        ),
        State::Missing => (
            Severity::Warning,
            format!("`{name}` is not supported: {why}"),
        ),
        State::Refused => (Severity::Error, format!("`{name}` is not supported: {why}")),
    };
    Some((severity, sentence, instead.to_owned()))
}

/// Reads the value of `choice`, which `word` names, and says what there is to say.
/// The value as text, empty for a switch; none if it is wrong.
pub fn take_choice(line: &mut Line<'_>, word: &Word, choice: &Choice) -> Option<Word> {
    let value = match choice.value {
        None => Word {
            text: String::new(),
            span: word.span.clone(),
        },
        Some(kind) => take_kind(line, word, kind)?,
    };
    if let Some((severity, message, help)) =
        remark(choice.name, choice.state, choice.why, choice.instead)
    {
        line.say(severity, word, message, help);
        if severity == Severity::Error {
            return None;
        }
    }
    Some(value)
}

/// Reads a value; none if it is wrong, which was said then.
pub fn take_kind(line: &mut Line<'_>, after: &Word, kind: Kind) -> Option<Word> {
    let empty = || Word {
        text: String::new(),
        span: after.span.clone(),
    };
    match kind {
        Kind::Rest => {
            line.take_rest();
            return Some(empty());
        }
        Kind::MaybeNum(low, high) => {
            return match line.peek() {
                None => Some(empty()),
                Some(_) => take_kind(line, after, Kind::Num(low, high)),
            };
        }
        Kind::Int(..) | Kind::Num(..) | Kind::Text(_) | Kind::OneOf(_) => {}
    }
    let word = line.argument(after, &kind.wants())?;
    let good = match kind {
        Kind::Int(low, high) => word
            .text
            .parse()
            .is_ok_and(|n: i64| (low..=high).contains(&n)),
        Kind::Num(low, high) => word
            .text
            .parse()
            .is_ok_and(|n: f64| (low..=high).contains(&n)),
        Kind::OneOf(known) => known.iter().any(|k| k.eq_ignore_ascii_case(&word.text)),
        Kind::Text(_) | Kind::MaybeNum(..) | Kind::Rest => true,
    };
    if !good {
        let message = format!("`{}` is no value for `{}`", word.text, after.text);
        line.error(&word, message, format!("write {}", kind.wants()));
        return None;
    }
    Some(word)
}

impl Kind {
    /// What has to stand there, as a sentence goes on.
    pub fn wants(self) -> String {
        match self {
            Self::Int(low, high) => format!("a whole number from {low} to {high}"),
            Self::Num(low, high) | Self::MaybeNum(low, high) => {
                format!("a number from {low} to {high}")
            }
            Self::Text(what) => what.to_owned(),
            Self::OneOf(words) => format!("one of {}", words.join(", ")),
            Self::Rest => "words".to_owned(),
        }
    }

    /// Something that is right, for examples.
    pub fn sample(self) -> String {
        match self {
            Self::Int(low, high) => 6.clamp(low, high).to_string(),
            Self::Num(low, high) | Self::MaybeNum(low, high) => {
                0.25_f64.clamp(low, high).to_string()
            }
            Self::Text(_) => "x1".to_owned(),
            Self::OneOf(words) => words[0].to_owned(),
            Self::Rest => String::new(),
        }
    }
}

/// Reads the rest of a line whose first word is `directive`.
pub fn treat(line: &mut Line<'_>, word: &Word, directive: &Directive) -> Option<Statement> {
    let statement = match directive.reads {
        Reads::By(read) => read(line, word)?,
        Reads::Values(kinds) => {
            for kind in kinds {
                take_kind(line, word, *kind)?;
            }
            line.end()?;
            Statement::Inert
        }
        Reads::Rest => {
            line.take_rest();
            Statement::Inert
        }
    };
    // What reads a line itself also says itself what there is to say.
    if !matches!(directive.reads, Reads::By(_))
        && let Some((severity, message, help)) = remark(
            directive.name,
            directive.state,
            directive.why,
            directive.instead,
        )
    {
        line.say(severity, word, message, help);
    }
    Some(statement)
}

//! The tables as Markdown, for `docs/MIGRATION.md` (`ptntp generate directives`).

use crate::config::dialect::Dialect;
use crate::config::directives::{
    Choices, Directive, Kind, State, chrony, chrony_options, ntp, ntp_options,
};

/// Every directive and option of `dialect`, its state and its words.
pub fn markdown(dialect: Dialect) -> String {
    let (directives, options): (&[Directive], &[Choices]) = match dialect {
        Dialect::Chrony => (chrony::DIRECTIVES, &chrony_options::ALL),
        Dialect::Auto | Dialect::Ntp => (ntp::DIRECTIVES, &ntp_options::ALL),
    };
    let mut page = "| directive | | |\n|---|---|---|\n".to_owned();
    for directive in directives {
        let syntax = format!("{} {}", directive.name, directive.syntax);
        page += &row(
            syntax.trim(),
            directive.state,
            directive.why,
            directive.instead,
        );
        // Several directives may share their options: said at the first of them.
        let own = options.iter().filter(|o| o.of[0] == directive.name);
        for choice in own.flat_map(|choices| choices.choices) {
            let value = choice.value.map(|kind| format!(" {}", kind.symbol()));
            let syntax = format!("… {}{}", choice.name, value.unwrap_or_default());
            page += &row(&syntax, choice.state, choice.why, choice.instead);
        }
    }
    page
}

fn row(syntax: &str, state: State, why: &str, instead: &str) -> String {
    let instead = match instead {
        "" => String::new(),
        instead => format!("; instead: {instead}"),
    };
    let line = format!(
        "| `{}` | {} | {}{} |\n",
        syntax.replace('|', "\\|"),
        state.name(),
        why.replace('|', "\\|"),
        instead.replace('|', "\\|")
    );
    line
}

impl Kind {
    /// As it stands in tables.
    fn symbol(self) -> String {
        match self {
            Self::Int(low, high) => format!("{low}..{high}"),
            Self::Num(..) | Self::MaybeNum(..) => "NUMBER".to_owned(),
            Self::Text(_) => "TEXT".to_owned(),
            Self::OneOf(words) => words.join("|"),
            Self::Rest => "...".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_the_tables_as_they_are() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/MIGRATION.md");
        let document = std::fs::read_to_string(path).unwrap_or_default();
        for (dialect, name) in [(Dialect::Ntp, "ntp"), (Dialect::Chrony, "chrony")] {
            assert!(
                document.contains(&markdown(dialect)),
                "docs/MIGRATION.md is out of date: put in the output of `ptntp generate directives {name}`"
            );
        }
    }
}

//! A directive counts as supported only if a test sees its effect from outside. Here the
//! tables of `src/config/directives` are held against `tests/seen.txt`, which names that
//! test for each row, and that list against the tests.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use ptntp::config::directives::{
    Choices, Directive, State, chrony, chrony_options, ntp, ntp_options,
};

/// Dialect, directive, option (or nothing).
type Row = (String, String, String);

/// The rows that the tables say to work.
fn working() -> BTreeSet<Row> {
    let mut rows = BTreeSet::new();
    let tables: [(&str, &[Directive], &[Choices]); 2] = [
        ("ntp", ntp::DIRECTIVES, &ntp_options::ALL),
        ("chrony", chrony::DIRECTIVES, &chrony_options::ALL),
    ];
    for (dialect, directives, options) in tables {
        let row = |name: &str, option: &str| (dialect.into(), name.into(), option.into());
        let works = directives.iter().filter(|d| d.state == State::Works);
        rows.extend(works.map(|directive| row(directive.name, "")));
        for choices in options {
            let works = choices.choices.iter().filter(|c| c.state == State::Works);
            // Of several directives with the same options the first stands for all.
            rows.extend(works.map(|choice| row(choices.of[0], choice.name)));
        }
    }
    rows
}

/// Each row of a list like `tests/seen.txt`, and who sees it.
fn listed(text: &str) -> BTreeMap<Row, String> {
    let mut rows = BTreeMap::new();
    let lines = text
        .lines()
        .filter(|l| !l.is_empty() && !l.starts_with('#'));
    for line in lines {
        let (row, test) = line
            .split_once(": ")
            .unwrap_or_else(|| panic!("no test: {line}"));
        let mut words = row.split(' ');
        let dialects: &[&str] = match words.next() {
            Some("both") => &["ntp", "chrony"],
            Some("ntp") => &["ntp"],
            Some("chrony") => &["chrony"],
            _ => panic!("no dialect: {line}"),
        };
        let directive = words
            .next()
            .unwrap_or_else(|| panic!("no directive: {line}"));
        let mut options: Vec<&str> = words.collect();
        if options.is_empty() {
            options.push("");
        }
        for dialect in dialects {
            for option in &options {
                let row = (*dialect).to_owned();
                let row = (row, directive.to_owned(), (*option).to_owned());
                let twice = rows.insert(row, test.to_owned());
                assert!(twice.is_none(), "twice: {line}");
            }
        }
    }
    rows
}

/// The text of a test with what it uses of its file; for a guest's, of its suite.
fn source_of(test: &str) -> Result<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (file, name) = test.split_once("::").ok_or("not FILE::TEST")?;
    let path = root.join(format!("tests/{file}.rs"));
    let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let start = text.find(&format!("#[test]\nfn {name}() {{"));
    let start = start.ok_or_else(|| format!("tests/{file}.rs has no test {name}"))?;
    if file != "guest" {
        return Ok(text);
    }
    let body = text[start..].split("\n}").next().unwrap_or_default();
    let suite = body
        .split("run_suite(\"")
        .nth(1)
        .and_then(|rest| rest.split('"').next());
    let suite = suite.ok_or("it runs no suite")?;
    let read =
        |path: String| fs::read_to_string(root.join(&path)).map_err(|e| format!("{path}: {e}"));
    let mut text = read(format!("hwtest/suites/{suite}.sh"))?;
    if let Some((_, rest)) = text.split_once("\n. /guest/") {
        let shared = rest.lines().next().unwrap_or_default();
        text += &read(format!("hwtest/guest/{shared}"))?;
    }
    Ok(text)
}

fn has_word(text: &str, word: &str) -> bool {
    // In strings a line ends with an escape.
    text.replace("\\n", " ")
        .split(|c: char| !c.is_ascii_alphanumeric())
        .any(|w| w == word)
}

#[test]
fn every_directive_that_works_is_seen_by_a_test() {
    let seen = listed(include_str!("seen.txt"));
    let working = working();
    let mut faults = Vec::new();
    for row in &working {
        if !seen.contains_key(row) {
            faults.push(format!(
                "{row:?} works, says the table, and no test sees it"
            ));
        }
    }
    for (row, test) in &seen {
        if !working.contains(row) {
            faults.push(format!(
                "{row:?} is seen by {test}, and the table does not say it works"
            ));
        }
        match source_of(test) {
            Err(why) => faults.push(format!("{row:?}: {test}: {why}")),
            Ok(text) => {
                let words = [&row.1, &row.2].into_iter().filter(|word| !word.is_empty());
                let missing = words.filter(|word| !has_word(&text, word));
                faults.extend(missing.map(|word| format!("{row:?}: {test} does not say {word}")));
            }
        }
    }
    assert!(
        faults.is_empty(),
        "in tests/seen.txt:\n{}",
        faults.join("\n")
    );
}

#[test]
fn what_is_missing_would_be_found() {
    assert!(source_of("restrict::nobody_wrote_this").is_err());
    assert!(source_of("nofile::ignore_drops_everything").is_err());
    assert!(source_of("guest::nobody_wrote_this").is_err());
    assert!(has_word("a\nrestrict x", "restrict") && !has_word("unrestrict", "restrict"));
    assert_eq!(listed("both a b c: t\n").len(), 4);
}

//! `ptntp check`: is a configuration file right, and what does it do?
//!
//! Errors go to standard error in a compiler's form and the exit code is 1.
//! Else the effective configuration goes to standard output, as a file that
//! loads again, or with `--explain` what each line does.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use serde_json::json;

use crate::cli::ask;
use crate::config::diagnostic::{Diagnostic, Severity};
use crate::config::dialect::Dialect;
use crate::config::load::{Loaded, load};
use crate::config::{explain, native};

/// Checks `file` and prints what it finds.
pub fn run(file: &Path, dialect: Dialect, explain: bool, json: bool) -> ExitCode {
    let loaded = load(file, dialect);
    let report = if json {
        as_json(&loaded, explain)
    } else {
        as_text(file, &loaded, explain)
    };
    // A reader who goes away early (`| head`) is no error.
    let _ = std::io::stderr().write_all(report.err.as_bytes());
    ask::print(&report.out);
    ExitCode::from(u8::from(loaded.is_err()))
}

/// What goes where.
#[derive(Default)]
struct Report {
    out: String,
    err: String,
}

fn as_text(file: &Path, loaded: &Result<Loaded, Vec<Diagnostic>>, explain: bool) -> Report {
    let mut report = Report::default();
    match loaded {
        Err(diagnostics) => {
            report.err = listed(diagnostics);
            let errors = diagnostics.iter().filter(|d| d.severity == Severity::Error);
            report.err += &format!(
                "{}: {} to correct; `ptntp run` would not start\n",
                file.display(),
                match errors.count() {
                    1 => "1 error".into(),
                    n => format!("{n} errors"),
                }
            );
        }
        Ok(loaded) if explain => report.out = explained(loaded),
        Ok(loaded) => {
            report.err = listed(&loaded.notes);
            report.out = format!("# What {} says, defaults filled in.\n", file.display());
            for line in native::lines(&loaded.config) {
                report.out += &format!("{line}\n");
            }
        }
    }
    report
}

fn listed(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(|d| format!("{d}\n")).collect()
}

/// Each line, what it does, and what is to be said about it.
fn explained(loaded: &Loaded) -> String {
    let mut out = String::new();
    for line in &loaded.lines {
        out += &format!("{}: {}\n", line.location, line.text.trim());
        for sentence in explain::sentences(&line.statement, &loaded.config) {
            out += &format!("    {sentence}\n");
        }
        for note in loaded.notes.iter().filter(|n| n.location == line.location) {
            out += &format!("    {}\n", remark(note));
        }
    }
    let places: Vec<_> = loaded.lines.iter().map(|line| &line.location).collect();
    for note in &loaded.notes {
        if !places.contains(&&note.location) {
            out += &format!("{}: {}\n", note.location, remark(note));
        }
    }
    out
}

fn remark(note: &Diagnostic) -> String {
    match &note.help {
        Some(help) => format!("{}: {}; {help}", note.severity, note.message),
        None => format!("{}: {}", note.severity, note.message),
    }
}

fn as_json(loaded: &Result<Loaded, Vec<Diagnostic>>, explain: bool) -> Report {
    let mut value = match loaded {
        Err(diagnostics) => json!({ "ok": false, "diagnostics": diagnostics }),
        Ok(loaded) => json!({
            "ok": true,
            "diagnostics": loaded.notes,
            "effective": native::lines(&loaded.config),
        }),
    };
    if let (Ok(loaded), true) = (loaded, explain) {
        let lines = loaded.lines.iter().map(|line| {
            json!({
                "file": line.location.file.display().to_string(),
                "line": line.location.line,
                "text": line.text,
                "explained": explain::sentences(&line.statement, &loaded.config),
            })
        });
        value["lines"] = lines.collect();
    }
    Report {
        out: format!("{value:#}\n"),
        err: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::load_text;

    fn loaded(text: &str) -> Result<Loaded, Vec<Diagnostic>> {
        load_text(Path::new("ntp.conf"), text, Dialect::Auto)
    }

    #[test]
    fn output_is_a_file_that_loads_to_the_same() {
        let first = loaded("server a.example\nrestrict default kod\n");
        let report = as_text(Path::new("ntp.conf"), &first, false);
        let second = loaded(&report.out).unwrap();
        assert_eq!(second.config, first.unwrap().config);
        assert!(
            report.err.starts_with("ntp.conf:2: note: "),
            "{}",
            report.err
        );
    }

    #[test]
    fn errors_leave_standard_output_empty() {
        let report = as_text(Path::new("ntp.conf"), &loaded("nonsense\nbad"), true);
        assert_eq!(report.out, "");
        assert!(report.err.contains("ntp.conf:2: error: "), "{}", report.err);
        assert!(
            report
                .err
                .ends_with("2 errors to correct; `ptntp run` would not start\n")
        );
    }

    #[test]
    fn explanations_stand_under_their_lines_with_their_notes() {
        let text = "# comment\nserver a.example ttl 3\ntos minsane 9\n";
        let report = as_text(Path::new("ntp.conf"), &loaded(text), true);
        let lines: Vec<&str> = report.out.lines().collect();
        assert_eq!(lines[0], "ntp.conf:2: server a.example ttl 3");
        assert!(lines[1].starts_with("    asks a.example"), "{}", lines[1]);
        assert!(lines[2].starts_with("    note: `ttl`"), "{}", lines[2]);
        assert_eq!(lines[3], "ntp.conf:3: tos minsane 9");
        assert!(lines[5].starts_with("ntp.conf: warning: "), "{}", lines[5]);
    }

    #[test]
    fn json_says_what_text_says() {
        let parsed =
            |report: Report| -> serde_json::Value { serde_json::from_str(&report.out).unwrap() };
        let good = parsed(as_json(&loaded("server a.example ttl 3"), true));
        assert_eq!(good["ok"], true);
        assert_eq!(good["diagnostics"][0]["severity"], "note");
        assert_eq!(good["lines"][0]["line"], 1);
        assert!(
            good["effective"][0]
                .as_str()
                .unwrap()
                .starts_with("server a.example")
        );
        let bad = parsed(as_json(&loaded("\nnonsense"), true));
        assert_eq!(bad["ok"], false);
        assert_eq!(bad["diagnostics"][0]["line"], 2);
        assert_eq!(bad["diagnostics"][0]["file"], "ntp.conf");
    }
}

//! `ptntp check`: is a configuration file right, and what does it do?
//!
//! Errors go to standard error in a compiler's form and the exit code is 1.
//! Else the effective configuration goes to standard output, as a file that
//! loads again, or with `--explain` what each line does.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use serde_json::json;

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
    let _ = std::io::stdout().write_all(report.out.as_bytes());
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

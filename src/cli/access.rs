//! `ptntp access`: what an address may do, and which line decides (chronyc's accheck).

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use crate::cli::args::AccessArgs;
use crate::cli::ask;
use crate::config::decide::decide;
use crate::config::explain;
use crate::config::load::load;

/// Looks the address up and prints what comes of it.
pub fn run(args: &AccessArgs) -> ExitCode {
    let file = args.config.clone().unwrap_or_else(default_file);
    let loaded = match load(&file, args.dialect) {
        Ok(loaded) => loaded,
        Err(diagnostics) => {
            for diagnostic in diagnostics {
                eprintln!("{diagnostic}");
            }
            return ExitCode::FAILURE;
        }
    };
    let decision = decide(&loaded, args.address, args.port, args.source);
    let sentence = explain::permissions(decision.flags, &loaded.config);
    if args.json {
        let lines = decision.lines.iter().map(|line| {
            json!({
                "file": line.location.file.display().to_string(),
                "line": line.location.line,
                "text": line.text,
            })
        });
        let value = json!({
            "address": args.address.to_string(),
            "flags": decision.flags.to_string(),
            "explained": sentence,
            "lines": lines.collect::<Vec<_>>(),
        });
        ask::print(&format!("{value:#}\n"));
        return ExitCode::SUCCESS;
    }
    let mut text = format!("{} {sentence}\n", args.address);
    for line in &decision.lines {
        text += &format!("    {}: {}\n", line.location, line.text.trim());
    }
    if decision.lines.is_empty() {
        text += &format!("    {}: no line is about it\n", file.display());
    }
    ask::print(&text);
    ExitCode::SUCCESS
}

/// Where one of the two files is.
fn default_file() -> PathBuf {
    const PLACES: [&str; 5] = [
        "/etc/ntp.conf",
        "/etc/ntpsec/ntp.conf",
        "/etc/ntp/ntp.conf",
        "/etc/chrony.conf",
        "/etc/chrony/chrony.conf",
    ];
    let there = PLACES.iter().map(PathBuf::from).find(|path| path.exists());
    there.unwrap_or_else(|| PLACES[0].into())
}

//! `ptntp convert`: a configuration file in the other dialect, on standard output.

use std::process::ExitCode;

use crate::cli::args::ConvertArgs;
use crate::cli::ask;
use crate::config::convert::to_chrony;
use crate::config::dialect::Dialect;
use crate::config::load::load;
use crate::config::native;

/// Exit status where something has no word in the other dialect.
const EXIT_LOST: u8 = 2;

/// Writes what the arguments ask for.
pub fn run(args: &ConvertArgs) -> ExitCode {
    let loaded = match load(&args.file, args.dialect) {
        Ok(loaded) => loaded,
        Err(diagnostics) => {
            for diagnostic in diagnostics {
                eprintln!("{diagnostic}");
            }
            return ExitCode::FAILURE;
        }
    };
    for note in &loaded.notes {
        eprintln!("{note}");
    }
    let to = match (args.to, loaded.dialect) {
        (Dialect::Auto, Dialect::Chrony) => Dialect::Ntp,
        (Dialect::Auto, Dialect::Ntp | Dialect::Auto) => Dialect::Chrony,
        (to, _) => to,
    };
    let (lines, lost) = match to {
        Dialect::Chrony => to_chrony(&loaded.config),
        Dialect::Auto | Dialect::Ntp => (native::lines(&loaded.config), Vec::new()),
    };
    let mut text = format!("# From {}.\n", args.file.display());
    for sentence in &lost {
        eprintln!("{}: not said: {sentence}", args.file.display());
        text += &format!("# Not said: {sentence}\n");
    }
    for line in lines {
        text += &format!("{line}\n");
    }
    ask::print(&text);
    ExitCode::from(if lost.is_empty() { 0 } else { EXIT_LOST })
}

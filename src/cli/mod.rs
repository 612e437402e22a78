//! The commands, one file each. They parse, ask, and print; what the daemon does
//! is in `daemon`.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

use crate::cli::args::{Cli, Command};

pub mod access;
pub mod args;
pub mod ask;
pub mod bench;
pub mod check;
pub mod chronyc;
pub mod convert;
pub mod date;
pub mod demo;
pub mod generate;
pub mod keygen;
pub mod nics;
pub mod old_names;
pub mod peers;
pub mod reload;
pub mod render;
pub mod rtc;
pub mod run;
pub mod sim;
pub mod stat;
pub mod variables;

/// Runs what the command line asks for.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    match old_names::translate(&arguments) {
        None => {}
        Some(Ok(line)) => arguments = line,
        Some(Err(sentence)) => {
            eprintln!("{sentence}");
            return ExitCode::FAILURE;
        }
    }
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing left to do if even this can't be printed.
            let _ = error.print();
            return ExitCode::from(usage_exit_code(&arguments, &error));
        }
    };
    match cli.command {
        Command::Run(args) => run::run(&args),
        Command::Check(args) => check::run(&args.file, args.dialect, args.explain, args.json),
        Command::Convert(args) => convert::run(&args),
        Command::Access(args) => access::run(&args),
        Command::Reload(args) => reload::run(&args),
        Command::Peers(args) => peers::run(&args),
        Command::Stat(args) => stat::run(&args),
        Command::Tracking(args) => chronyc::tracking(&args),
        Command::Sources(args) => chronyc::sources(&args),
        Command::Sourcestats(args) => chronyc::source_stats(&args),
        Command::Date(args) => date::run(&args),
        Command::Variables(args) => variables::run(&args),
        Command::Associations(args) => variables::associations(&args),
        Command::Nics(args) => nics::run(&args),
        Command::Rtc(command) => rtc::run(&command),
        Command::Demo(args) => demo::run(&args),
        Command::Sim(args) => sim::run(&args),
        Command::Bench(args) => bench::run(args),
        Command::Keygen(args) => keygen::run(&args),
        Command::Generate(what) => generate::run(&what),
    }
}

/// `--help` and `--version` come here too, and are no errors.
fn usage_exit_code(arguments: &[OsString], error: &clap::Error) -> u8 {
    if !error.use_stderr() {
        return 0;
    }
    match arguments.get(1) {
        Some(command) if command == "stat" => stat::EXIT_USAGE,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(arguments: &[&str]) -> u8 {
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        let error = Cli::try_parse_from(&arguments).unwrap_err();
        usage_exit_code(&arguments, &error)
    }

    #[test]
    fn wrong_usage_of_stat_ends_as_ntpstats() {
        assert_eq!(code(&["ptntp", "stat", "--nonsense"]), 3);
        assert_eq!(code(&["ptntp", "peers", "--nonsense"]), 2);
        assert_eq!(code(&["ptntp"]), 2);
        assert_eq!(code(&["ptntp", "stat", "--help"]), 0);
        assert_eq!(code(&["ptntp", "--version"]), 0);
    }
}

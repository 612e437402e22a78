//! The one binary; see `ptntp --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    ptntp::cli::main(std::env::args_os())
}

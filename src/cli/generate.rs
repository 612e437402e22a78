//! `ptntp generate`: man pages and completions from the same definitions that
//! parse the command line. For packagers, so hidden; what it writes is committed
//! under `docs/`.

use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::args::{Cli, Generate};
use crate::cli::ask;
use crate::config::directives::page;

/// Writes what is asked for.
pub fn run(what: &Generate) -> ExitCode {
    match what {
        Generate::Man { directory } => match man(directory) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!(
                    "ptntp generate: can't write man pages into {}: {error}",
                    directory.display()
                );
                ExitCode::FAILURE
            }
        },
        Generate::Directives { dialect } => {
            ask::print(&page::markdown(*dialect));
            ExitCode::SUCCESS
        }
        Generate::Completions { shell } => {
            ask::print(&completions(*shell));
            ExitCode::SUCCESS
        }
    }
}

/// One page for the program, one for each command that is not hidden.
pub fn man(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    clap_mangen::generate_to(Cli::command(), directory)
}

/// The completion script of one shell.
pub fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "ptntp", &mut script);
    String::from_utf8(script).expect("our own words are UTF-8")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use super::*;

    fn committed(path: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
    }

    fn files(directory: &Path) -> BTreeMap<String, String> {
        let read = |entry: io::Result<fs::DirEntry>| {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read_to_string(entry.path()).unwrap())
        };
        fs::read_dir(directory).unwrap().map(read).collect()
    }

    #[test]
    fn committed_man_pages_are_current() {
        let fresh = std::env::temp_dir().join(format!("ptntp-man-test-{}", std::process::id()));
        man(&fresh).unwrap();
        let (ours, theirs) = (files(&fresh), files(&committed("docs/man")));
        fs::remove_dir_all(&fresh).unwrap();
        assert!(
            ours == theirs,
            "docs/man is out of date: run `ptntp generate man docs/man`, and remove pages of commands that are gone"
        );
    }

    #[test]
    fn committed_completions_are_current() {
        for (shell, name) in [
            (Shell::Bash, "ptntp.bash"),
            (Shell::Zsh, "_ptntp"),
            (Shell::Fish, "ptntp.fish"),
        ] {
            let path = committed("docs/completions").join(name);
            let theirs = fs::read_to_string(&path).unwrap_or_default();
            assert!(
                completions(shell) == theirs,
                "{name} is out of date: run `ptntp generate completions {shell} > docs/completions/{name}`"
            );
        }
    }
}

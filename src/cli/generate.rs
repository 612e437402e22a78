//! `ptntp generate`: man pages and completions from the same definitions that
//! parse the command line, and links by the names of old tools. For packagers, so
//! hidden; the pages and completions are committed under `docs/`.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::args::{Cli, Generate, LinksArgs};
use crate::cli::ask;
use crate::cli::old_names::TOOLS;
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
        Generate::Links(args) => links(args),
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

/// Makes them; what is in the way stays, and is told of.
fn links(args: &LinksArgs) -> ExitCode {
    let made = link_all(args);
    for sentence in made.iter().filter_map(|made| made.as_ref().err()) {
        eprintln!("ptntp generate: {sentence}");
    }
    if made.iter().all(Result::is_ok) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn link_all(args: &LinksArgs) -> Vec<Result<(), String>> {
    let target = match &args.target {
        Some(path) => path.clone(),
        None => match std::env::current_exe() {
            Ok(path) => path,
            Err(error) => {
                return vec![Err(format!(
                    "this program's own path: {error}; name it with --target"
                ))];
            }
        },
    };
    let wanted = TOOLS
        .iter()
        .filter(|(name, _)| args.tools.is_empty() || args.tools.iter().any(|tool| tool == name));
    wanted
        .flat_map(|(name, page)| {
            let page = args.man.as_ref().map(|man| {
                let text = format!(".so man1/{page}.1\n");
                make(
                    man,
                    &format!("{name}.1"),
                    |path| {
                        let mut file = File::create_new(path)?;
                        file.write_all(text.as_bytes())
                    },
                    |path| fs::read_to_string(path).is_ok_and(|there| there == text),
                )
            });
            let link = make(
                &args.directory,
                name,
                |path| symlink(&target, path),
                |path| fs::read_link(path).is_ok_and(|there| there == target),
            );
            [Some(link), page].into_iter().flatten()
        })
        .collect()
}

/// One file, unless it is there: then it must be as it `should_be`.
fn make(
    directory: &Path,
    name: &str,
    create: impl Fn(&Path) -> io::Result<()>,
    should_be: impl Fn(&Path) -> bool,
) -> Result<(), String> {
    let path = directory.join(name);
    let made = fs::create_dir_all(directory).and_then(|()| create(&path));
    match made {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if should_be(&path) {
                return Ok(());
            }
            Err(format!(
                "{}: something else has this name, and keeps it",
                path.display()
            ))
        }
        made => made.map_err(|error| format!("{}: {error}", path.display())),
    }
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
    fn links_are_made_and_nothing_is_written_over() {
        let home = std::env::temp_dir().join(format!("ptntp-links-test-{}", std::process::id()));
        let args = LinksArgs {
            directory: home.join("bin"),
            tools: Vec::new(),
            target: Some("ptntp".into()),
            man: Some(home.join("man1")),
        };
        fs::create_dir_all(&args.directory).unwrap();
        fs::write(home.join("bin/hwclock"), "theirs").unwrap();
        for _again in 0..2 {
            let made = link_all(&args);
            assert_eq!(made.len(), 2 * TOOLS.len());
            let wrong: Vec<&String> = made.iter().filter_map(|m| m.as_ref().err()).collect();
            assert!(
                wrong.len() == 1 && wrong[0].contains("bin/hwclock"),
                "{wrong:?}"
            );
        }
        let link = fs::read_link(home.join("bin/ntpdate")).unwrap();
        assert_eq!(link, Path::new("ptntp"));
        assert_eq!(fs::read(home.join("bin/hwclock")).unwrap(), b"theirs");
        let page = fs::read_to_string(home.join("man1/ntpq.1")).unwrap();
        assert_eq!(page, ".so man1/ptntp-peers.1\n");
        for (_, page) in TOOLS {
            assert!(committed(&format!("docs/man/{page}.1")).exists(), "{page}");
        }
        fs::remove_dir_all(&home).unwrap();
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

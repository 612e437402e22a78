//! Called by the name of a tool that ptntp replaces, through a link, the binary answers as
//! that tool: `ntpq -p` prints what ntpq prints.

use std::ffi::{OsStr, OsString};
use std::path::Path;

/// The command line of ptntp that does what `arguments` ask of the tool they name; none:
/// they name ptntp. The error is a sentence for a tool or a command that is not here.
pub fn translate(arguments: &[OsString]) -> Option<Result<Vec<OsString>, String>> {
    let (program, rest) = arguments.split_first()?;
    let words: Vec<&str> = rest
        .iter()
        .map(|word| word.to_str().unwrap_or(""))
        .collect();
    match Path::new(program).file_name().and_then(OsStr::to_str)? {
        "ntpq" => Some(ntpq(&words)),
        "ntpstat" => Some(ntpstat(&words)),
        "chronyc" => Some(chronyc(&words)),
        _ => None,
    }
}

fn line(words: &[&str]) -> Vec<OsString> {
    ["ptntp"].iter().chain(words).map(OsString::from).collect()
}

/// Letters in any order and together, as in `-pn` and `-crv`.
fn ntpq(words: &[&str]) -> Result<Vec<OsString>, String> {
    let sorry = |what: &str| {
        format!(
            "ntpq: ptntp stands in for -p and for -c peers, rv and as on this machine, not for \
             {what}; ntpsec's own ntpq does the rest with ptntp's daemon"
        )
    };
    let (mut numeric, mut wide, mut command) = (false, false, None);
    let mut words = words.iter().copied();
    let mut set = |word: &str| match command.replace(word.to_owned()) {
        Some(_) => Err(sorry("several commands at a time")),
        None => Ok(()),
    };
    while let Some(word) = words.next() {
        match word {
            "--peers" => set("peers")?,
            "--numeric" => numeric = true,
            "--wide" => wide = true,
            "--ipv4" | "--ipv6" | "localhost" | "127.0.0.1" | "::1" => {}
            "--version" | "-V" => return Ok(line(&["--version"])),
            _ => {
                let letters = word.strip_prefix('-').ok_or_else(|| sorry(word))?;
                let mut rest = letters.chars();
                while let Some(letter) = rest.next() {
                    match letter {
                        'p' => set("peers")?,
                        'n' => numeric = true,
                        'w' => wide = true,
                        '4' | '6' => {}
                        'c' => {
                            let joined = rest.as_str();
                            let next = if joined.is_empty() {
                                words.next()
                            } else {
                                Some(joined)
                            };
                            set(next.ok_or_else(|| sorry("-c without a command"))?)?;
                            break;
                        }
                        _ => return Err(sorry(word)),
                    }
                }
            }
        }
    }
    let command = command.ok_or_else(|| sorry("questions typed in by hand"))?;
    let mut parts = command.split_whitespace();
    match (parts.next(), parts.next(), parts.next()) {
        (Some("peers" | "pe" | "lpeers"), None, None) => {
            let mut all = vec!["peers"];
            all.extend(numeric.then_some("-n"));
            all.extend(wide.then_some("-w"));
            Ok(line(&all))
        }
        (Some("as" | "associations" | "lassociations"), None, None) => Ok(line(&["associations"])),
        (Some("rv" | "readvar" | "rl" | "readlist"), which, None) => {
            let mut all = vec!["variables"];
            all.extend(which);
            Ok(line(&all))
        }
        // An index may be set off by a space.
        (Some("rv" | "readvar"), Some("&"), Some(index)) => {
            Ok(line(&["variables", &format!("&{index}")]))
        }
        (Some(word), ..) if word.starts_with("rv&") => Ok(line(&["variables", &word[2..]])),
        _ => Err(sorry(&format!("`{command}`"))),
    }
}

fn ntpstat(words: &[&str]) -> Result<Vec<OsString>, String> {
    match words {
        [] => Ok(line(&["stat"])),
        // ntpstat has no options but the help of some; its code for them is 3, as ours.
        others => {
            let all: Vec<&str> = ["stat"].iter().chain(others).copied().collect();
            Ok(line(&all))
        }
    }
}

/// chronyc's reports that are ours too.
const REPORTS: [&str; 3] = ["tracking", "sources", "sourcestats"];

/// Options of chronyc that make no difference to these reports: names are never looked
/// up, and it is this machine's daemon that is asked.
const INERT: [&str; 5] = ["-4", "-6", "-N", "-m", "-a"];

fn chronyc(words: &[&str]) -> Result<Vec<OsString>, String> {
    let mut options = Vec::new();
    let mut words = words.iter().copied();
    let mut command = None;
    for word in words.by_ref() {
        match word {
            "-c" | "-n" => options.push(word),
            word if INERT.contains(&word) => {}
            "-v" | "--version" => return Ok(line(&["--version"])),
            word => {
                command = Some(word);
                break;
            }
        }
    }
    let command = command
        .filter(|word| REPORTS.contains(word))
        .ok_or_else(|| {
            format!(
                "ptntp stands in for chronyc's {} alone; chrony's own chronyc does the rest with \
             ptntp's daemon",
                REPORTS.join(", ")
            )
        })?;
    let mut all = vec![command];
    all.extend(options);
    all.extend(words);
    Ok(line(&all))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(words: &[&str]) -> Option<Result<String, String>> {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        let joined = |line: Vec<OsString>| line.join(OsStr::new(" ")).into_string().unwrap();
        translate(&words).map(|line| line.map(joined))
    }

    #[test]
    fn ntpqs_common_questions_are_ours() {
        for (asked, done) in [
            (&["/usr/bin/ntpq", "-p"][..], "ptntp peers"),
            (&["ntpq", "-pn"], "ptntp peers -n"),
            (&["ntpq", "-n", "-p", "localhost"], "ptntp peers -n"),
            (&["ntpq", "-nc", "peers"], "ptntp peers -n"),
            (&["ntpq", "-c", "rv"], "ptntp variables"),
            (&["ntpq", "-crv"], "ptntp variables"),
            (&["ntpq", "-c", "rv &1"], "ptntp variables &1"),
            (&["ntpq", "-c", "rv 17"], "ptntp variables 17"),
            (&["ntpq", "-c", "as"], "ptntp associations"),
            (&["ntpstat"], "ptntp stat"),
        ] {
            assert_eq!(translated(asked), Some(Ok(done.to_owned())));
        }
        assert_eq!(translated(&["ptntp", "peers"]), None);
    }

    #[test]
    fn chronycs_reports_are_ours() {
        for (asked, done) in [
            (
                &["/usr/bin/chronyc", "-n", "sources", "-v"][..],
                "ptntp sources -n -v",
            ),
            (&["chronyc", "-c", "-N", "tracking"], "ptntp tracking -c"),
            (&["chronyc", "sourcestats", "-a"], "ptntp sourcestats -a"),
        ] {
            assert_eq!(translated(asked), Some(Ok(done.to_owned())));
        }
        assert!(translated(&["chronyc", "makestep"]).unwrap().is_err());
        assert!(translated(&["chronyc"]).unwrap().is_err());
    }

    #[test]
    fn what_is_not_ours_is_said() {
        for asked in [
            &["ntpq"][..],
            &["ntpq", "-c", ":config x"],
            &["ntpq", "-p", "-c", "rv"],
            &["ntpq", "-p", "192.0.2.1"],
            &["ntpq", "-x"],
            &["ntpq", "-c"],
        ] {
            let sentence = translated(asked).unwrap().unwrap_err();
            assert!(sentence.contains("ntpsec's own ntpq"), "{sentence}");
        }
    }
}

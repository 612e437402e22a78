//! Called by the name of a tool that ptntp replaces, through a link, the binary answers as
//! that tool: `chronyc tracking` prints what chronyc prints.

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
        "chronyc" => Some(chronyc(&words)),
        _ => None,
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
            "-v" | "--version" => return Ok(vec!["ptntp".into(), "--version".into()]),
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
    let mut line = vec!["ptntp", command];
    line.extend(options);
    line.extend(words);
    Ok(line.into_iter().map(OsString::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(words: &str) -> Option<Result<String, String>> {
        let words: Vec<OsString> = words.split(' ').map(OsString::from).collect();
        let joined = |line: Vec<OsString>| line.join(OsStr::new(" ")).into_string().unwrap();
        translate(&words).map(|line| line.map(joined))
    }

    #[test]
    fn chronycs_reports_are_ours() {
        for (asked, done) in [
            ("/usr/bin/chronyc -n sources -v", "ptntp sources -n -v"),
            ("chronyc -c -N tracking", "ptntp tracking -c"),
            ("chronyc sourcestats -a", "ptntp sourcestats -a"),
        ] {
            assert_eq!(translated(asked), Some(Ok(done.to_owned())));
        }
        assert!(translated("chronyc makestep").unwrap().is_err());
        assert!(translated("chronyc").unwrap().is_err());
        assert_eq!(translated("ptntp tracking"), None);
    }
}

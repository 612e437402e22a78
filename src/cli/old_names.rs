//! Called by the name of a tool that ptntp replaces, through a link, the binary answers as
//! that tool: `ntpq -p` prints what ntpq prints. `ptntp generate links` makes the links.

use std::ffi::{OsStr, OsString};
use std::path::Path;

/// The tools, and the page of the command that does most of what each did.
pub const TOOLS: [(&str, &str); 7] = [
    ("ntpq", "ptntp-peers"),
    ("ntpstat", "ptntp-stat"),
    ("ntpdate", "ptntp-date"),
    ("ntpdig", "ptntp-date"),
    ("sntp", "ptntp-date"),
    ("chronyc", "ptntp-sources"),
    ("hwclock", "ptntp-rtc"),
];

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
        "ntpdate" => Some(Ok(ntpdate(&words))),
        "ntpdig" | "sntp" => Some(ntpdig(&words)),
        "hwclock" => Some(hwclock(&words)),
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

/// Its options are those of `ptntp date`.
fn ntpdate(words: &[&str]) -> Vec<OsString> {
    let all: Vec<&str> = ["date"].iter().chain(words).copied().collect();
    line(&all)
}

/// Option letters of ntpdig, and of the sntp before it, that take a value.
const NTPDIG_VALUES: &str = "acDgkKlMoprt";

/// The letters of ntpdig's long options.
const NTPDIG_LONG: [(&str, char); 16] = [
    ("ipv4", '4'),
    ("ipv6", '6'),
    ("authentication", 'a'),
    ("concurrent", 'c'),
    ("debug", 'd'),
    ("set-debug-level", 'D'),
    ("gap", 'g'),
    ("help", 'h'),
    ("json", 'j'),
    ("keyfile", 'k'),
    ("samples", 'p'),
    ("steplimit", 'M'),
    ("step", 'S'),
    ("slew", 's'),
    ("timeout", 't'),
    ("version", 'V'),
];

/// Without -S and -s it only asks. Requests are farther apart than its own, so its gap
/// makes no difference; that it shows its packets at will is for those who debug it.
fn ntpdig(words: &[&str]) -> Result<Vec<OsString>, String> {
    let sorry = |what: &str, instead: &str| {
        Err(format!(
            "ntpdig: ptntp does not stand in for {what}; {instead}"
        ))
    };
    let mut all: Vec<String> = ["date", "--as-ntpdig", "-u"].map(str::to_owned).into();
    let (mut step, mut slew, mut limit_s) = (false, false, 0.0);
    let mut servers: Vec<&str> = Vec::new();
    let (mut samples, mut timeout) = ("1", "5");
    for (letter, value) in options(words, NTPDIG_VALUES, &NTPDIG_LONG)? {
        match letter {
            None => servers.push(value),
            Some('4' | '6') => all.push(format!("-{}", letter.unwrap_or_default())),
            Some('a' | 'k' | 'o') => {
                all.extend([format!("-{}", letter.unwrap_or_default()), value.to_owned()]);
            }
            Some('c') => servers.push(value),
            Some('d' | 'D' | 'g') => {}
            Some('h') => return Ok(line(&["date", "--help"])),
            Some('j') => all.push("--json".to_owned()),
            Some('M') => match value.parse::<u32>() {
                Ok(ms) => limit_s = f64::from(ms) / 1000.0,
                Err(_) => return sorry(&format!("-M {value}"), "write whole milliseconds"),
            },
            Some('p') => samples = value,
            Some('S') => step = true,
            Some('s') => slew = true,
            Some('t') => timeout = value,
            Some('V') => return Ok(line(&["--version"])),
            Some('l') => return sorry("-l", "redirect its standard error"),
            Some(other) => {
                return sorry(
                    &format!("-{other}"),
                    "`ptntp date --help` says what there is",
                );
            }
        }
    }
    match (step, slew) {
        (false, false) => all.push("-q".to_owned()),
        (true, false) => all.push("-b".to_owned()),
        (false, true) => all.push("-B".to_owned()),
        // It steps what is beyond its limit.
        (true, true) => all.push(format!("--step-from={limit_s}")),
    }
    all.extend([format!("-p{samples}"), format!("-t{timeout}"), "--".into()]);
    if servers.is_empty() {
        servers.push("localhost");
    }
    all.extend(servers.iter().map(|&server| server.to_owned()));
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    Ok(line(&all))
}

/// Option letters of hwclock that take a value.
const HWCLOCK_VALUES: &str = "f";

/// The letters of hwclock's long options; those without are given one that it has not.
const HWCLOCK_LONG: [(&str, char); 15] = [
    ("show", 'r'),
    ("get", 'g'),
    ("set", 'S'),
    ("hctosys", 's'),
    ("systohc", 'w'),
    ("systz", 'z'),
    ("adjust", 'A'),
    ("predict", 'p'),
    ("utc", 'u'),
    ("localtime", 'l'),
    ("rtc", 'f'),
    ("adjfile", 'F'),
    ("verbose", 'v'),
    ("noadjfile", 'n'),
    ("version", 'V'),
];

fn hwclock(words: &[&str]) -> Result<Vec<OsString>, String> {
    let sorry = |what: &str, instead: &str| {
        Err(format!(
            "hwclock: ptntp does not stand in for {what}; {instead}"
        ))
    };
    let util_linux = "util-linux's own hwclock does";
    let mut all = vec!["rtc", "read"];
    let values: String = format!("{HWCLOCK_VALUES}F");
    for (letter, value) in options(words, &values, &HWCLOCK_LONG)? {
        match letter {
            Some('r') => all[1] = "read",
            Some('w') => all[1] = "write",
            Some('u') => all.push("--utc"),
            Some('l') => all.push("--localtime"),
            Some('f') => all.extend(["--device", value]),
            Some('F') => all.extend(["--adjfile", value]),
            // It shows what it does at will; ptntp always says what it did.
            Some('v' | 'D') => {}
            Some('h') => return Ok(line(&["rtc", "--help"])),
            Some('V') => return Ok(line(&["--version"])),
            Some('s') => {
                return sorry(
                    "--hctosys",
                    "`ptntp run -s` sets the system clock from this one at the start, or use \
                     util-linux's own hwclock",
                );
            }
            Some(_) => {
                let named = HWCLOCK_LONG.iter().find(|(_, l)| Some(*l) == letter);
                let what = named.map_or_else(
                    || format!("-{}", letter.unwrap_or_default()),
                    |(long, _)| format!("--{long}"),
                );
                return sorry(&what, util_linux);
            }
            None => return sorry(&format!("`{value}`"), util_linux),
        }
    }
    Ok(line(&all))
}

/// Words taken apart as getopt_long(3) does: an option's letter and its value (empty, if
/// it takes none), or no letter and an operand. `values` are the letters that take one;
/// `long` the letters of long options, which may be cut short.
fn options<'a>(
    words: &[&'a str],
    values: &str,
    long: &[(&str, char)],
) -> Result<Vec<(Option<char>, &'a str)>, String> {
    let mut found = Vec::new();
    let mut words = words.iter().copied();
    let lacks = |option: &str| format!("{option} wants a value");
    while let Some(word) = words.next() {
        if word == "--" {
            found.extend(words.map(|word| (None, word)));
            break;
        }
        if let Some(name) = word.strip_prefix("--") {
            let (name, value) = match name.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (name, None),
            };
            let exact = long.iter().find(|(long, _)| *long == name);
            let mut alike = long.iter().filter(|(long, _)| long.starts_with(name));
            let &(_, letter) = match (exact, alike.next(), alike.next()) {
                (Some(exact), ..) => exact,
                (None, Some(one), None) => one,
                _ => return Err(format!("{word} is no option that ptntp knows of this tool")),
            };
            let value = if values.contains(letter) {
                value.or_else(|| words.next()).ok_or_else(|| lacks(word))?
            } else {
                ""
            };
            found.push((Some(letter), value));
        } else if let Some(letters) = word.strip_prefix('-').filter(|rest| !rest.is_empty()) {
            let mut rest = letters.chars();
            while let Some(letter) = rest.next() {
                if !values.contains(letter) {
                    found.push((Some(letter), ""));
                    continue;
                }
                let joined = rest.as_str();
                let value = if joined.is_empty() {
                    words.next().ok_or_else(|| lacks(word))?
                } else {
                    joined
                };
                found.push((Some(letter), value));
                break;
            }
        } else {
            found.push((None, word));
        }
    }
    Ok(found)
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
    fn ntpdate_and_its_heirs_are_ours() {
        let ntpdig = "ptntp date --as-ntpdig -u";
        for (asked, done) in [
            (
                &["/usr/sbin/ntpdate", "-qu", "ntp1"][..],
                "ptntp date -qu ntp1".to_owned(),
            ),
            (&["ntpdig"], format!("{ntpdig} -q -p1 -t5 -- localhost")),
            (
                &["sntp", "-S", "-t", "2", "ntp1"],
                format!("{ntpdig} -b -p1 -t2 -- ntp1"),
            ),
            (
                &[
                    "ntpdig",
                    "-4sS",
                    "-M128",
                    "--samples=3",
                    "-c",
                    "ntp1",
                    "ntp2",
                ],
                format!("{ntpdig} -4 --step-from=0.128 -p3 -t5 -- ntp1 ntp2"),
            ),
            (
                &["ntpdig", "--js", "--slew", "a"],
                format!("{ntpdig} --json -B -p1 -t5 -- a"),
            ),
        ] {
            assert_eq!(translated(asked), Some(Ok(done)));
        }
        for asked in [
            &["ntpdig", "-l", "file"][..],
            &["ntpdig", "-p"],
            &["ntpdig", "--s"],
        ] {
            assert!(translated(asked).unwrap().is_err(), "{asked:?}");
        }
    }

    #[test]
    fn hwclocks_two_orders_are_ours() {
        for (asked, done) in [
            (&["/sbin/hwclock"][..], "ptntp rtc read"),
            (&["hwclock", "-r", "-u"], "ptntp rtc read --utc"),
            (
                &["hwclock", "--systohc", "--localtime"],
                "ptntp rtc write --localtime",
            ),
            (
                &["hwclock", "-wuf/dev/rtc1"],
                "ptntp rtc write --utc --device /dev/rtc1",
            ),
        ] {
            assert_eq!(translated(asked), Some(Ok(done.to_owned())));
        }
        for (asked, said) in [
            (&["hwclock", "-s"][..], "`ptntp run -s`"),
            (&["hwclock", "--set", "--date=now"], "date"),
            (&["hwclock", "--adjust"], "--adjust; util-linux's own"),
            (&["hwclock", "-x"], "-x; util-linux's own"),
            (&["hwclock", "now"], "`now`"),
        ] {
            let sentence = translated(asked).unwrap().unwrap_err();
            assert!(sentence.contains(said), "{sentence}");
        }
    }

    #[test]
    fn every_command_line_that_is_made_can_be_read() {
        use clap::Parser;
        for asked in [
            &[
                "ntpdate", "-b", "-p", "4", "-t", "1", "-o", "3", "-e", "0.1", "-a1", "-k", "f",
                "n",
            ][..],
            &["ntpdate", "-Bdqsuv46", "n"],
            &["ntpdig", "-sSM5", "-a1", "-kf", "n"],
            &["sntp", "-j"],
            &["hwclock", "-wuf/dev/rtc1", "--adjfile", "x"],
            &["ntpq", "-pn"],
        ] {
            let words: Vec<OsString> = asked.iter().map(OsString::from).collect();
            let made = translate(&words).unwrap().unwrap();
            let read = crate::cli::args::Cli::try_parse_from(made);
            let conflict = |e: &clap::Error| e.kind() == clap::error::ErrorKind::ArgumentConflict;
            assert!(
                read.as_ref().err().is_none_or(conflict),
                "{asked:?}: {read:?}"
            );
        }
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

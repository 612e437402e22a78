//! `ptntp variables` and `ptntp associations`: the texts of `ntpq -c rv` and `-c as`,
//! for those who call ptntp by that name.

use std::process::ExitCode;

use crate::cli::args::{AssociationsArgs, VariablesArgs};
use crate::cli::ask;
use crate::daemon::query::{AssociationStatus, Variables};

/// Asks for the variables of the system or a source, and prints them.
pub fn run(args: &VariablesArgs) -> ExitCode {
    let asked = match args.association.as_deref() {
        None | Some("0") => ask::variables(&args.control, 0),
        Some(which) => number(which, args).and_then(|id| ask::variables(&args.control, id)),
    };
    tell(
        "variables",
        args.control.json,
        asked.map(|(v, json)| (text(&v), json)),
    )
}

/// Asks for the list of sources with their status words, and prints it.
pub fn associations(args: &AssociationsArgs) -> ExitCode {
    let asked = ask::associations(&args.control);
    tell(
        "associations",
        args.control.json,
        asked.map(|(a, json)| (table(&a), json)),
    )
}

fn tell(command: &str, json: bool, answer: Result<(String, String), String>) -> ExitCode {
    match answer {
        Ok((text, line)) => {
            ask::print(&if json { format!("{line}\n") } else { text });
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("ptntp {command}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// `17`, or `&1` for the first in the list.
fn number(which: &str, args: &VariablesArgs) -> Result<u16, String> {
    let sorry = || format!("no such association as {which}; `ptntp associations` lists them");
    match which.strip_prefix('&') {
        None => which.parse().map_err(|_| sorry()),
        Some(index) => {
            let index: usize = index.parse().map_err(|_| sorry())?;
            let (all, _) = ask::associations(&args.control)?;
            let one = index.checked_sub(1).and_then(|index| all.get(index));
            one.map(|one| one.id).ok_or_else(sorry)
        }
    }
}

const SELECTIONS: [&str; 8] = [
    "sel_reject",
    "sel_falsetick",
    "sel_excess",
    "sel_outlier",
    "sel_candidate",
    "sel_backup",
    "sel_sys.peer",
    "sel_pps.peer",
];

fn peer_event(status: u16) -> &'static str {
    match status & 15 {
        1 => "mobilize",
        3 => "unreachable",
        4 => "reachable",
        10 => "sys_peer",
        _ => "",
    }
}

fn text(variables: &Variables) -> String {
    let status = variables.status;
    let events = match status >> 4 & 15 {
        1 => "1 event".to_owned(),
        n => format!("{n} events"),
    };
    let mut words = Vec::new();
    if variables.association == 0 {
        let leaps = ["leap_none", "leap_add_sec", "leap_del_sec", "leap_alarm"];
        words.push(leaps[usize::from(status >> 14)]);
        words.push(match status >> 8 & 63 {
            5 => "sync_local",
            6 => "sync_ntp",
            _ => "sync_unspec",
        });
        words.push(&events);
        words.push(if status & 15 == 5 {
            "clock_sync"
        } else {
            "restart"
        });
    } else {
        words.push("conf");
        words.extend((status & 0x1000 != 0).then_some("reach"));
        words.push(SELECTIONS[usize::from(status >> 8 & 7)]);
        words.push(&events);
        words.push(peer_event(status));
    }
    let mut text = format!(
        "associd={} status={status:04x} {},\n",
        variables.association,
        words.join(", ")
    );
    let mut column = 0;
    for (n, (name, value)) in variables.variables.iter().enumerate() {
        let item = format!("{name}={}", cooked(name, value));
        if n > 0 {
            text.push(',');
            if column + 1 + item.len() + 1 >= WIDTH {
                text.push('\n');
                column = 0;
            } else {
                text.push(' ');
                column += 2;
            }
        }
        column += item.len();
        text.push_str(&item);
    }
    text.push('\n');
    text
}

/// Where ntpq wraps its lines.
const WIDTH: usize = 79;

/// Values as ntpq shows them.
fn cooked(name: &str, value: &str) -> String {
    let hex = value.strip_prefix("0x");
    match (name, hex) {
        ("leap", _) => value
            .parse::<u8>()
            .map_or_else(|_| value.to_owned(), |leap| format!("{leap:02b}")),
        ("reach", Some(digits)) => u8::from_str_radix(digits, 16)
            .map_or_else(|_| value.to_owned(), |reach| format!("{reach:03o}")),
        ("flash", Some("0")) => "00 ok".to_owned(),
        ("flash", Some(digits)) => digits.to_owned(),
        ("reftime" | "clock" | "rec" | "xmt", Some(stamp)) => {
            format!("{stamp} {}", date(stamp).unwrap_or_default())
        }
        _ => value.to_owned(),
    }
}

/// `2026-11-22T15:37:39.040Z` of a stamp's two halves; until the era ends in 2036.
fn date(stamp: &str) -> Option<String> {
    const NTP_TO_UNIX_SECONDS: i64 = 2_208_988_800;
    const ERA: i64 = 1 << 32;
    let (seconds, fraction) = stamp.split_once('.')?;
    let mut seconds = i64::from(u32::from_str_radix(seconds, 16).ok()?);
    let fraction = u64::from(u32::from_str_radix(fraction, 16).ok()?);
    // As ntpq reads them: the first half of the range is after 2036.
    if seconds < ERA / 2 {
        seconds += ERA;
    }
    let unix = seconds - NTP_TO_UNIX_SECONDS;
    let (days, second) = (unix.div_euclid(86_400), unix.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    Some(format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        second / 3600,
        second / 60 % 60,
        second % 60,
        (fraction * 1000) >> 32
    ))
}

/// Year, month and day of so many days since 1970-01-01, in the proleptic Gregorian
/// calendar: counted from March, so that leap days come last.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// ntpsec's columns.
fn table(associations: &[AssociationStatus]) -> String {
    let mut text = "\nind assid status  conf reach auth condition  last_event cnt\n".to_owned();
    text.push_str(&"=".repeat(59));
    text.push('\n');
    for (n, AssociationStatus { id, status }) in associations.iter().enumerate() {
        let reach = if status & 0x1000 != 0 { "yes" } else { "no" };
        let condition = SELECTIONS[usize::from(status >> 8 & 7)].trim_start_matches("sel_");
        text.push_str(&format!(
            "{:3} {id:5}  {status:04x}   yes {reach:>5}  none {condition:>9} {:>11} {:>2}\n",
            n + 1,
            peer_event(*status),
            status >> 4 & 15,
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn associations_stand_in_ntpqs_columns() {
        let all = [(1, 0x961a), (2, 0x8011)].map(|(id, status)| AssociationStatus { id, status });
        let expected = "
ind assid status  conf reach auth condition  last_event cnt
===========================================================
  1     1  961a   yes   yes  none  sys.peer    sys_peer  1
  2     2  8011   yes    no  none    reject    mobilize  1
";
        assert_eq!(table(&all), expected);
    }

    #[test]
    fn variables_read_as_ntpqs() {
        let variables = Variables {
            association: 0,
            status: 0x0615,
            variables: [
                ("leap", "0"),
                ("stratum", "5"),
                ("precision", "-24"),
                ("reftime", "0xeead8ac2.310a8217"),
                ("reach", "0xff"),
                ("flash", "0x0"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec(),
        };
        let expected = "associd=0 status=0615 leap_none, sync_ntp, 1 event, clock_sync,
leap=00, stratum=5, precision=-24,
reftime=eead8ac2.310a8217 2026-11-22T15:37:38.191Z, reach=377, flash=00 ok
";
        assert_eq!(text(&variables), expected);
        assert_eq!(
            date("00000000.00000000").as_deref(),
            Some("2036-02-07T06:28:16.000Z")
        );
    }
}

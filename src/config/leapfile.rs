//! The leap second file that `leapfile` names: `leap-seconds.list` as the IERS and
//! NIST publish it and tzdata installs it. Lines `NTP-SECONDS TAI-UTC # comment`;
//! `#@ NTP-SECONDS` says when the file expires.

use crate::sync::leap::LeapTable;
use crate::time::instant::WallInstant;

/// Seconds from 1900 to 1970.
const NTP_TO_UNIX_S: i64 = 2_208_988_800;
/// The file has some 10 kB.
pub const LEN_MAX: u64 = 1 << 20;

/// The table in `text`; a sentence without the file's name if it is none.
pub fn parse(text: &str) -> Result<LeapTable, String> {
    let mut expires = None;
    let mut steps = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let wrong = |what: &str| format!("line {number}: {what}");
        if let Some(moment) = line.strip_prefix("#@") {
            let moment = moment.trim();
            expires = Some(instant(moment).ok_or_else(|| wrong("no time of expiry after #@"))?);
            continue;
        }
        let words = line.split('#').next().unwrap_or_default();
        let mut words = words.split_ascii_whitespace();
        let Some(moment) = words.next() else {
            continue;
        };
        let offset = words.next().and_then(|word| word.parse().ok());
        match (instant(moment), offset, words.next()) {
            (Some(from), Some(offset), None) => steps.push((from, offset)),
            _ => return Err(wrong("should be NTP seconds and TAI - UTC")),
        }
    }
    let expires = expires.ok_or("no line #@ that says when it expires")?;
    LeapTable::new(steps, expires).ok_or_else(|| "no leap seconds, or not in order".to_owned())
}

fn instant(ntp_s: &str) -> Option<WallInstant> {
    let ntp_s: i64 = ntp_s.parse().ok()?;
    let unix_ns = ntp_s
        .checked_sub(NTP_TO_UNIX_S)?
        .checked_mul(1_000_000_000)?;
    Some(WallInstant::from_unix_ns(unix_ns))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::packet::Leap;

    const FILE: &str = "\
#\tIn the following text, the symbol '#' introduces a comment
#$\t3676924800
#@\t3928521600
#
2272060800\t10\t# 1 Jan 1972
3644697600\t36\t# 1 Jul 2015
3692217600      37      # 1 Jan 2017
#h\t44dcf58c e28d25aa b36612c8 f3d3e8b5 a8fdf478
";

    #[test]
    fn the_published_file_is_read() {
        let table = parse(FILE).expect("a leap second file");
        let eve = WallInstant::from_unix_ns(1_483_228_799_000_000_000);
        assert_eq!(table.leap_at(eve), Some(Leap::Insert));
        assert_eq!(table.tai_offset_at(eve), Some(36));
        assert_eq!(
            table.expires().unix_ns(),
            (3_928_521_600 - NTP_TO_UNIX_S) * 1_000_000_000
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, sentence) in [
            ("", "no line #@"),
            ("#@ soon\n", "line 1"),
            ("#@ 3928521600\n", "no leap seconds"),
            ("#@ 3928521600\n2272060800\n", "line 2"),
            ("#@ 3928521600\n2272060800 ten\n", "line 2"),
            ("#@ 9223372036854775807\n1 1\n", "line 1"),
            ("#@ 3928521600\n20 1\n10 2\n", "not in order"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(sentence), "{text}: {error}");
        }
    }
}

//! The leap second file that `leapfile` names: `leap-seconds.list` as the IERS and
//! NIST publish it and tzdata installs it. Lines `NTP-SECONDS TAI-UTC # comment`;
//! `#@ NTP-SECONDS` says when the file expires, `#$ NTP-SECONDS` when it was changed, and
//! `#h` has the SHA-1 of the digits of all of these, as five numbers in hexadecimal.

use sha1::{Digest, Sha1};

use crate::sync::leap::LeapTable;
use crate::time::instant::WallInstant;

/// Seconds from 1900 to 1970.
const NTP_TO_UNIX_S: i64 = 2_208_988_800;
/// The file has some 10 kB.
pub const LEN_MAX: u64 = 1 << 20;

/// What is in the file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeapFile {
    /// The leap seconds.
    pub table: LeapTable,
    /// Did it have a line `#h` to check it by?
    pub checked: bool,
}

/// What `text` says; a sentence without the file's name if it is no leap second file,
/// or not as it was published.
pub fn parse(text: &str) -> Result<LeapFile, String> {
    let mut expires = None;
    let mut steps = Vec::new();
    let mut digits = Sha1::new();
    let mut published = None;
    for (number, line) in (1..).zip(text.lines()) {
        let wrong = |what: &str| format!("line {number}: {what}");
        if let Some(moment) = line.strip_prefix("#@") {
            hash(&mut digits, moment);
            let moment = moment.trim();
            expires = Some(instant(moment).ok_or_else(|| wrong("no time of expiry after #@"))?);
            continue;
        }
        if let Some(changed) = line.strip_prefix("#$") {
            hash(&mut digits, changed);
            continue;
        }
        if let Some(words) = line.strip_prefix("#h") {
            let hash = hash_words(words);
            let hash = hash.ok_or_else(|| wrong("should be #h and five hexadecimal numbers"))?;
            published = Some((number, hash));
            continue;
        }
        hash(&mut digits, line);
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
    if let Some((number, published)) = published
        && published[..] != digits.finalize()[..]
    {
        return Err(format!(
            "line {number}: the hash is not that of this file: it was damaged or edited; \
             get it anew, or delete this line to use it as it is"
        ));
    }
    let expires = expires.ok_or("no line #@ that says when it expires")?;
    let table = LeapTable::new(steps, expires).ok_or("no leap seconds, or not in order")?;
    Ok(LeapFile {
        table,
        checked: published.is_some(),
    })
}

/// Adds the digits of a line up to its comment.
fn hash(digits: &mut Sha1, line: &str) {
    let bytes = line.bytes().take_while(|&byte| byte != b'#');
    for digit in bytes.filter(u8::is_ascii_digit) {
        digits.update([digit]);
    }
}

/// Five numbers: whoever wrote the file may have left out leading zeros.
fn hash_words(text: &str) -> Option<[u8; 20]> {
    let mut words = text.split_ascii_whitespace();
    let mut hash = [0; 20];
    for bytes in hash.chunks_exact_mut(4) {
        let word = u32::from_str_radix(words.next()?, 16).ok()?;
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    words.next().is_none().then_some(hash)
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
#h\t74eb352c c04ca8f1 f82cccfc a746c602 1f3154f5
";

    #[test]
    fn the_published_file_is_read() {
        let file = parse(FILE).expect("a leap second file");
        assert!(file.checked);
        let table = file.table;
        let eve = WallInstant::from_unix_ns(1_483_228_799_000_000_000);
        assert_eq!(table.leap_at(eve), Some(Leap::Insert));
        assert_eq!(table.tai_offset_at(eve), Some(36));
        assert_eq!(
            table.expires().unix_ns(),
            (3_928_521_600 - NTP_TO_UNIX_S) * 1_000_000_000
        );
    }

    #[test]
    fn a_file_that_is_not_as_published_is_refused() {
        for (from, to) in [
            ("3644697600\t36", "3644697600\t35"),
            ("#@\t3928521600", "#@\t3928521601"),
            ("#$\t3676924800", "#$\t3676924801"),
            ("3692217600      37      # 1 Jan 2017\n", ""),
        ] {
            let error = parse(&FILE.replace(from, to)).expect_err(to);
            let line = if to.is_empty() { "line 7" } else { "line 8" };
            assert!(error.starts_with(line), "{error}");
            assert!(error.contains("hash"), "{error}");
        }
        let comments = FILE.replace("1 Jan", "1 January").replace('\n', "\r\n");
        assert_eq!(parse(&comments), parse(FILE), "comments don't count");
        let (unhashed, _) = FILE.split_once("#h").expect("a hash");
        assert!(!parse(unhashed).expect("no hash is no fault").checked);
    }

    #[test]
    fn leading_zeros_of_a_hash_may_be_missing() {
        let whole = hash_words(" 00000001 0a0b0c0d 00000000 ffffffff 00000010 ");
        assert!(whole.is_some());
        assert_eq!(whole, hash_words("1 a0b0c0d 0 ffffffff 10"));
        for wrong in [
            "",
            "1 2 3 4",
            "1 2 3 4 5 6",
            "1 2 3 4 g",
            "1 2 3 4 100000000",
        ] {
            assert_eq!(hash_words(wrong), None, "{wrong}");
        }
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
            ("#h 1 2 3\n", "line 1"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(sentence), "{text}: {error}");
        }
    }
}

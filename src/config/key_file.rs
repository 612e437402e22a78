//! Key files of both dialects: by what requests may be signed, and our own are (RFC 5905
//! section 7.3).
//!
//! A line that makes no key is a warning with file and line, as with ntpd and chronyd;
//! what then lacks the key it needs is an error (`config/load`). No message repeats
//! more of a line than the key's number and type.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use crate::config::Location;
use crate::config::diagnostic::{Diagnostic, Severity};
use crate::config::keys::KeyFormat;
use crate::config::regular;
use crate::wire::key::{Key, KeyKind, secret_of, unhex, unknown_kind};

/// What a key file says.
#[derive(Debug, Default)]
pub struct KeyFile {
    /// Its keys, in file order.
    pub keys: Vec<Key>,
    /// What there is to say about it.
    pub said: Vec<Diagnostic>,
}

/// Most octets of a key file: a thousand keys of the longest kind fill 100 kB.
const FILE_LEN_MAX: u64 = 16 << 20;

/// Reads the file that a configuration names.
///
/// # Errors
/// The sentence why it can't be read.
pub fn read(path: &Path, format: KeyFormat) -> std::io::Result<KeyFile> {
    read_open(regular::open(path)?, path, format)
}

/// Reads one that is open; `path` names it in messages.
///
/// # Errors
/// The sentence why it can't be read.
pub fn read_open(file: File, path: &Path, format: KeyFormat) -> std::io::Result<KeyFile> {
    let metadata = file.metadata()?;
    let mut bytes = Vec::new();
    file.take(FILE_LEN_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_LEN_MAX {
        let why = "it is larger than 16 MiB: that is no key file";
        return Err(std::io::Error::other(why));
    }
    let mut read = parse(path, &String::from_utf8_lossy(&bytes), format);
    let mode = metadata.permissions().mode();
    // Who can write it can make everybody trust him.
    if metadata.is_file() && mode & 0o026 != 0 {
        read.said.insert(
            0,
            Diagnostic::of_file(
                Severity::Warning,
                Location {
                    file: path.into(),
                    line: 0,
                },
                format!(
                    "others than its owner can read or write this key file (mode {:04o})",
                    mode & 0o7777
                ),
                format!(
                    "`chmod 640 {}`, with a group that the daemon is in",
                    path.display()
                ),
            ),
        );
    }
    Ok(read)
}

/// Reads the text of a file; `path` names it in messages.
pub fn parse(path: &Path, text: &str, format: KeyFormat) -> KeyFile {
    let mut file = KeyFile::default();
    let path: Arc<Path> = path.into();
    for (index, text) in text.lines().enumerate() {
        let text = match format {
            // ntpd's comments begin anywhere, chronyd's are lines of their own.
            KeyFormat::Ntp => text.split('#').next().unwrap_or_default(),
            KeyFormat::Chrony if text.trim_start().starts_with(['!', ';', '#', '%']) => "",
            KeyFormat::Chrony => text,
        };
        let words: Vec<&str> = text.split_whitespace().collect();
        if words.is_empty() {
            continue;
        }
        let mut say = |message: String, help: &str| {
            let location = Location {
                file: path.clone(),
                line: index + 1,
            };
            let help = help.to_owned();
            let said = Diagnostic::of_file(Severity::Warning, location, message, help);
            file.said.push(said);
        };
        let made = match format {
            KeyFormat::Ntp => ntp_key(&words, &mut say),
            KeyFormat::Chrony => chrony_key(&words),
        };
        match made {
            Ok(key) if file.keys.iter().any(|other| other.id() == key.id()) => {
                let message = format!("key {} was defined before; this line counts", key.id());
                say(message, "delete one of the lines");
                file.keys.push(key);
            }
            Ok(key) => file.keys.push(key),
            Err(why) => say(
                format!("this is no key: {why}"),
                match format {
                    KeyFormat::Ntp => {
                        "write `ID TYPE SECRET`, such as `10 AES128 ` and 32 hexadecimal digits (`ptntp keygen --ntp 10 AES128`)"
                    }
                    KeyFormat::Chrony => {
                        "write `ID TYPE HEX:DIGITS` or `ID TYPE ASCII:TEXT` (`ptntp keygen 10 AES128`)"
                    }
                },
            ),
        }
    }
    file
}

fn id_of(word: &str, most: u32) -> Result<u32, String> {
    word.parse()
        .ok()
        .filter(|id| (1..=most).contains(id))
        .ok_or_else(|| format!("its number has to be one from 1 to {most}"))
}

/// chrony.keys(5): without a type it is MD5.
fn chrony_key(words: &[&str]) -> Result<Key, String> {
    let (id, kind, secret) = match *words {
        [id, secret] => (id, "MD5", secret),
        [id, kind, secret] => (id, kind, secret),
        _ => return Err("there are too few words, or too many".into()),
    };
    let id = id_of(id, u32::MAX)?;
    let kind = KeyKind::from_name(kind).ok_or_else(|| unknown_kind(kind))?;
    Key::new(id, kind, &secret_of(secret)?)
}

/// ntp.keys: ntpd's numbers end at 65535, secrets of up to 20 characters are text.
fn ntp_key(words: &[&str], say: &mut impl FnMut(String, &str)) -> Result<Key, String> {
    const TEXT_LEN_MAX: usize = 20;
    const DIGITS_MAX: usize = 64;
    let (id, kind, secret) = match *words {
        [id, kind, secret] => (id, kind, secret),
        // Used for all, it would be trusted more than its owner wants.
        [_, _, _, _] => {
            return Err(
                "a key for certain addresses only (the fourth word) is not supported".into(),
            );
        }
        _ => return Err("there are too few words, or too many".into()),
    };
    let id = id_of(id, u16::MAX.into())?;
    let kind = KeyKind::from_name(kind).ok_or_else(|| unknown_kind(kind))?;
    let mut octets = if secret.len() <= TEXT_LEN_MAX {
        secret.as_bytes().to_vec()
    } else {
        let used = secret.get(..DIGITS_MAX).unwrap_or(secret);
        if used.len() < secret.len() {
            say(
                format!("of key {id} the first {DIGITS_MAX} digits are used, as by ntpd"),
                "shorten it",
            );
        }
        unhex(used).ok_or(
            "secrets of more than 20 characters are hexadecimal digits, an even number of them",
        )?
    };
    if let Some(len) = kind.secret_len()
        && len != octets.len()
    {
        let name = kind.name();
        let done = if octets.len() < len {
            "filled up with zeros"
        } else {
            "cut"
        };
        let message = format!(
            "key {id} has {} octets, {name} needs {len}: it is {done}, as by ntpd",
            octets.len()
        );
        say(message, "make a new one with `ptntp keygen --ntp`");
        octets.resize(len, 0);
    }
    Key::new(id, kind, &octets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str, format: KeyFormat) -> KeyFile {
        parse(Path::new("k"), text, format)
    }

    fn key(text: &str) -> Key {
        text.parse().expect("a key")
    }

    #[test]
    fn both_formats_are_read() {
        let hex = "0123456789abcdef0123456789abcdef01234567";
        let text = format!(
            "# a comment\n\n  1 M text # more\n2 sha1 {hex}\n3 AES 0123456789abcdef0123456789abcdef\n\
             4 SHA256 twentycharactersarea\n65535 AES-256 {hex}\n"
        );
        let file = read(&text, KeyFormat::Ntp);
        assert_eq!(
            file.keys,
            [
                key("1:MD5:text"),
                key(&format!("2:SHA1:HEX:{hex}")),
                key("3:AES128:HEX:0123456789abcdef0123456789abcdef"),
                key("4:SHA256:twentycharactersarea"),
                key(&format!("65535:AES256:HEX:{hex}{}", "00".repeat(12))),
            ]
        );
        assert_eq!(file.said.len(), 1, "{:?}", file.said);
        let text = format!(
            "! c\n; c\n# c\n% c\n1 text\n2 SHA1 HEX:{hex}\n3 SHA512 ASCII:a#b\n4294967295 md5 plain"
        );
        let file = read(&text, KeyFormat::Chrony);
        assert_eq!(
            file.keys,
            [
                key("1:MD5:text"),
                key(&format!("2:SHA1:HEX:{hex}")),
                key("3:SHA512:a#b"),
                key("4294967295:MD5:plain"),
            ]
        );
        assert!(file.said.is_empty());
    }

    #[test]
    fn wrong_lines_are_named_without_their_secret() {
        for (format, text, part) in [
            (KeyFormat::Ntp, "0 M hush", "from 1 to 65535"),
            (KeyFormat::Ntp, "70000 M hush", "from 1 to 65535"),
            (KeyFormat::Ntp, "1 DES hush", "none of MD5"),
            (KeyFormat::Ntp, "1 M", "too few"),
            (KeyFormat::Ntp, "1 M hush 10.0.0.1", "addresses"),
            (
                KeyFormat::Ntp,
                "1 M hushhushhushhushhushhush",
                "hexadecimal",
            ),
            (KeyFormat::Chrony, "0 hush", "from 1 to"),
            (KeyFormat::Chrony, "1 MD5 HEX:hush", "hexadecimal"),
            (KeyFormat::Chrony, "1 MD5 ASCII:", "empty"),
            (KeyFormat::Chrony, "1 AES128 hush", "16 octets, not 4"),
            (KeyFormat::Chrony, "1 MD5 hush x y", "too many"),
        ] {
            let file = read(&format!("#\n{text}\n"), format);
            assert!(file.keys.is_empty(), "{text}");
            let said = file.said[0].to_string();
            assert!(said.starts_with("k:2: warning"), "{said}");
            assert!(said.contains(part), "{said}");
            assert!(!said.contains("hush"), "{said}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "[ -~\n\t#é]{0,200}", chrony in any::<bool>()) {
            let format = if chrony { KeyFormat::Chrony } else { KeyFormat::Ntp };
            let file = read(&text, format);
            prop_assert!(file.keys.iter().all(|key| key.id() > 0));
        }

        #[test]
        fn what_one_writes_the_other_format_reads(
            id in 1..=65535_u32,
            kind in prop::sample::select(KeyKind::ALL.to_vec()),
            octets in prop::collection::vec(any::<u8>(), 32),
        ) {
            let len = kind.secret_len().unwrap_or(20);
            let digits: String = octets[..len].iter().map(|o| format!("{o:02x}")).collect();
            let ntp = read(&format!("{id} {} {digits}", kind.name()), KeyFormat::Ntp);
            let chrony = read(&format!("{id} {} HEX:{digits}", kind.name()), KeyFormat::Chrony);
            prop_assert!(ntp.said.is_empty() && chrony.said.is_empty());
            prop_assert_eq!(ntp.keys, chrony.keys);
        }
    }
}

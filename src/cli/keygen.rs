//! `ptntp keygen`: a new key, as a line for the key file. The output is that of
//! `chronyc keygen`, or with `--ntp` what ntpd reads.

use std::fmt::Write as _;
use std::process::ExitCode;

use crate::cli::args::KeygenArgs;
use crate::cli::ask;
use crate::wire::key::KeyKind;

/// Bits of a key unless told otherwise, as with chronyc.
const BITS_DEFAULT: u16 = 160;
/// ntpd takes up to 20 characters for text and no more than 64 digits.
const NTP_BITS: std::ops::RangeInclusive<u16> = 88..=256;

/// Prints it.
pub fn run(args: &KeygenArgs) -> ExitCode {
    let made = octets(args).and_then(|len| {
        let mut secret = vec![0; len];
        getrandom::fill(&mut secret).map_err(|error| format!("no random numbers: {error}"))?;
        Ok(line(args, &secret))
    });
    match made {
        Ok(line) => {
            ask::print(&line);
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("ptntp keygen: {why}");
            ExitCode::from(2)
        }
    }
}

/// How long the secret will be.
fn octets(args: &KeygenArgs) -> Result<usize, String> {
    // A cipher's keys have one length, whatever is asked for, as with chronyc.
    if let Some(len) = args.kind.secret_len() {
        return Ok(len);
    }
    let bits = args.bits.unwrap_or(BITS_DEFAULT);
    if args.ntp && !NTP_BITS.contains(&bits) {
        let (low, high) = (NTP_BITS.start(), NTP_BITS.end());
        return Err(format!("ntpd's keys have {low} to {high} bits, not {bits}"));
    }
    Ok(usize::from(bits).div_ceil(8))
}

fn line(args: &KeygenArgs, secret: &[u8]) -> String {
    let mut digits = String::new();
    for octet in secret {
        // Writing to a string can't fail.
        let _ = write!(digits, "{octet:02X}");
    }
    let (id, kind) = (args.id, args.kind);
    let mark = if args.ntp { "" } else { "HEX:" };
    let name = match kind {
        // ntpsec's words for them.
        KeyKind::Aes128 if args.ntp => "AES-128",
        KeyKind::Aes256 if args.ntp => "AES-256",
        _ => kind.name(),
    };
    format!("{id} {name} {mark}{digits}\n")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::key_file::parse;
    use crate::config::keys::KeyFormat;

    #[test]
    fn what_is_made_is_read_back_in_both_formats() {
        for kind in KeyKind::ALL {
            for (ntp, format) in [(false, KeyFormat::Chrony), (true, KeyFormat::Ntp)] {
                let args = KeygenArgs {
                    id: 7,
                    kind,
                    bits: None,
                    ntp,
                };
                let secret = vec![0xa5; octets(&args).expect("a length")];
                let line = line(&args, &secret);
                let file = parse(Path::new("k"), &line, format);
                assert!(file.said.is_empty(), "{line}");
                let key = crate::wire::key::Key::new(7, kind, &secret).expect("a key");
                assert_eq!(file.keys, [key], "{line}");
            }
        }
    }

    #[test]
    fn ntpds_keys_are_no_text_and_not_cut() {
        for (bits, good) in [(80, false), (88, true), (256, true), (264, false)] {
            let args = KeygenArgs {
                id: 1,
                kind: KeyKind::Sha1,
                bits: Some(bits),
                ntp: true,
            };
            assert_eq!(octets(&args).is_ok(), good, "{bits}");
        }
    }
}

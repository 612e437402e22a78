//! `restrict`, `unrestrict` and `discard`: who may ask, and how often.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::config::Family;
use crate::config::association::{belongs, family};
use crate::config::statement::{Line, Statement};
use crate::config::words::Word;
use crate::server::rule::{Bucket, Flags, Prefix, RateLimit, Rule, Who};
use crate::time::duration::NtpDuration;

/// `restrict who [mask m] flags`.
pub fn restrict(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    rules(line, directive, Rule::Restrict)
}

/// `unrestrict who [mask m] [flags]`.
pub fn unrestrict(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    rules(line, directive, Rule::Unrestrict)
}

/// `discard [average n] [minimum n] [monitor p]`.
pub fn discard(line: &mut Line<'_>, _directive: &Word) -> Option<Statement> {
    let (mut average_log2_s, mut minimum_s) = (None, None);
    while let Some(word) = line.take() {
        match word.text.as_str() {
            "average" => average_log2_s = Some(line.integer(&word, 0..=17)?),
            "minimum" => minimum_s = Some(line.integer(&word, 0..=u8::MAX)?),
            "monitor" => {
                line.number(&word)?;
                let why = "`monitor` has no effect: the table of clients has a fixed size and forgets the oldest";
                line.note(&word, why.into());
            }
            _ => {
                line.unknown(&word, "discard", ["average", "minimum", "monitor"]);
                return None;
            }
        }
    }
    Some(Statement::Discard {
        average_log2_s,
        minimum_s,
    })
}

/// `limit [average n] [burst n] [kod n]` of ntpsec, and ptntp's own words beside.
pub fn limit(line: &mut Line<'_>, directive: &Word) -> Option<Statement> {
    // ntpsec's: one request a second, twenty at once.
    let mut bucket = Bucket {
        interval: NtpDuration::from_whole_seconds(1),
        burst: 20,
        leak_log2: 0,
        kod_log2: 1,
    };
    while let Some(word) = line.take() {
        match word.text.as_str() {
            "average" => {
                let average = line.number(&word)?;
                bucket.interval = interval(line, &word, 1.0 / average)?;
            }
            "interval" => {
                let seconds = line.number(&word)?;
                bucket.interval = interval(line, &word, seconds)?;
            }
            "burst" => bucket.burst = line.integer(&word, 1..=255)?,
            "leak" => bucket.leak_log2 = line.integer(&word, 0..=16)?,
            "kisses" => bucket.kod_log2 = line.integer(&word, 0..=16)?,
            "kod" => {
                line.number(&word)?;
                let message = "`kod` is accepted and has no effect here, because where the flag `kod` stands every second refusal is told";
                line.note(&word, message.into());
            }
            _ => {
                let known = ["average", "burst", "kod", "interval", "leak", "kisses"];
                line.unknown(&word, &directive.text, known);
                return None;
            }
        }
    }
    Some(Statement::RateLimit(RateLimit::Bucket(bucket)))
}

/// Of a bucket: between a microsecond and twelve days.
fn interval(line: &mut Line<'_>, word: &Word, seconds: f64) -> Option<NtpDuration> {
    if (1e-6..=1_048_576.0).contains(&seconds) {
        return Some(NtpDuration::from_seconds(seconds));
    }
    let message = format!("`{}` is out of range", word.text);
    let help = "between two requests there may be 1e-6 to 1048576 seconds";
    line.error(word, message, help.into());
    None
}

/// The flags that `rules` give to `who` in the end, without looking at wider blocks.
pub fn flags_of(rules: &[Rule], who: Who) -> Option<Flags> {
    let mut entry = None;
    for rule in rules {
        match *rule {
            Rule::Restrict(w, flags) if w == who => {
                entry = Some(entry.unwrap_or(Flags::NONE) | flags);
            }
            Rule::Unrestrict(w, Flags::NONE) if w == who => entry = None,
            Rule::Unrestrict(w, flags) if w == who => {
                entry = entry.map(|e: Flags| Flags::from_bits(e.bits() & !flags.bits()));
            }
            _ => {}
        }
    }
    entry
}

/// What [`flags_of`] says, of all who are named, at once.
pub fn all_flags(rules: &[Rule]) -> HashMap<Who, Flags> {
    let mut entries = HashMap::new();
    for rule in rules {
        match *rule {
            Rule::Restrict(who, flags) => {
                let entry = entries.entry(who).or_insert(Flags::NONE);
                *entry |= flags;
            }
            Rule::Unrestrict(who, Flags::NONE) => {
                entries.remove(&who);
            }
            Rule::Unrestrict(who, flags) => {
                if let Some(entry) = entries.get_mut(&who) {
                    *entry = Flags::from_bits(entry.bits() & !flags.bits());
                }
            }
        }
    }
    entries
}

/// The flags that apply to a server at `address` that answers from port 123:
/// a plain scan, to find contradictions while a file is loaded.
pub fn flags_for(rules: &[Rule], address: IpAddr) -> Flags {
    let entries = rules.iter().filter_map(|rule| {
        let (Rule::Restrict(who, _) | Rule::Unrestrict(who, _)) = *rule;
        match who {
            Who::Block { prefix, ntpport } if prefix.contains(address) => {
                let flags = flags_of(rules, who)?;
                Some(((prefix.bits(), ntpport), flags))
            }
            _ => None,
        }
    });
    let best = entries.max_by_key(|(specific, _)| *specific);
    best.map_or(Flags::NONE, |(_, flags)| flags)
}

fn rules(line: &mut Line<'_>, directive: &Word, make: fn(Who, Flags) -> Rule) -> Option<Statement> {
    let family = family(line);
    let who = line.argument(directive, "an address, `default` or `source`")?;
    let blocks: Vec<Option<Prefix>> = match who.text.as_str() {
        "source" => vec![None],
        "default" => match family {
            None => vec![Some(Prefix::ALL_V4), Some(Prefix::ALL_V6)],
            Some(Family::V4) => vec![Some(Prefix::ALL_V4)],
            Some(Family::V6) => vec![Some(Prefix::ALL_V6)],
        },
        _ => vec![Some(block(line, &who, family)?)],
    };
    let (flags, ntpport) = flags(line, directive)?;
    if ntpport && blocks == [None] {
        let message = "`ntpport` has no effect with `source`: servers answer from their port";
        line.note(&who, message.into());
    }
    let rules = blocks.into_iter().map(|block| {
        let who = block.map_or(Who::Source, |prefix| Who::Block { prefix, ntpport });
        make(who, flags)
    });
    Some(Statement::Access(rules.collect()))
}

/// `address`, `address/len` or `address mask m`.
fn block(line: &mut Line<'_>, who: &Word, family: Option<Family>) -> Option<Prefix> {
    let (address, len) = match who.text.split_once('/') {
        Some((address, len)) => (address, Some(len)),
        None => (who.text.as_str(), None),
    };
    let Ok(address) = address.parse::<IpAddr>() else {
        not_an_address(line, who, address);
        return None;
    };
    if family.is_some_and(|family| !belongs(address, family)) {
        let message = format!("`{address}` is not an address of the family asked for");
        line.error(who, message, "leave out the `-4` or `-6`".into());
        return None;
    }
    let mask = line.take_if(|word| word == "mask");
    let prefix = match (len, mask) {
        (Some(_), Some(mask)) => {
            let message = "a prefix length and a mask say the same thing twice";
            line.error(&mask, message.into(), "keep one of them".into());
            return None;
        }
        (None, None) => Prefix::host(address),
        (Some(len), None) => {
            // `parse` would take `+8` as well.
            let len = len
                .bytes()
                .all(|b| b.is_ascii_digit())
                .then(|| len.parse().ok());
            let Some(prefix) = len.flatten().and_then(|len| Prefix::new(address, len)) else {
                let bits = if address.is_ipv4() { 32 } else { 128 };
                let message = format!("`{}` has no valid prefix length", who.text);
                line.error(
                    who,
                    message,
                    format!("write a number from 0 to {bits} after the `/`"),
                );
                return None;
            };
            prefix
        }
        (None, Some(mask)) => masked(line, address, &mask)?,
    };
    if prefix.address() != address {
        let message = format!("{address} lies inside the block that is meant, {prefix}");
        line.note(who, message);
    }
    Some(prefix)
}

fn masked(line: &mut Line<'_>, address: IpAddr, word: &Word) -> Option<Prefix> {
    let value = line.argument(word, "a mask like 255.255.255.0")?;
    let (ones, is_prefix) = match (address, value.text.parse::<IpAddr>()) {
        (IpAddr::V4(_), Ok(IpAddr::V4(mask))) => {
            let bits = u32::from(mask);
            (bits.count_ones(), bits.leading_ones() == bits.count_ones())
        }
        (IpAddr::V6(_), Ok(IpAddr::V6(mask))) => {
            let bits = u128::from(mask);
            (bits.count_ones(), bits.leading_ones() == bits.count_ones())
        }
        _ => {
            let message = format!("`{}` is not a mask for {address}", value.text);
            let help = match address {
                IpAddr::V4(_) => "write one like `255.255.255.0`",
                IpAddr::V6(_) => "write one like `ffff:ffff::`",
            };
            line.error(&value, message, help.into());
            return None;
        }
    };
    if !is_prefix {
        let message = format!(
            "the mask {} is no prefix: its ones are not all on the left",
            value.text
        );
        let help = "blocks are looked up by their longest prefix; write one line for each block that is meant";
        line.error(&value, message, help.into());
        return None;
    }
    Prefix::new(address, ones as u8)
}

fn not_an_address(line: &mut Line<'_>, who: &Word, address: &str) {
    let (message, help) = if address.contains('%') {
        (
            format!("`{}` has a scope, which rules don't know", who.text),
            "leave out the `%` and what follows",
        )
    } else if address == "localhost" {
        (
            "`localhost` is a host name, and rules are for addresses".into(),
            "write two lines, one for 127.0.0.1 and one for ::1",
        )
    } else if Flags::from_word(address).is_some() {
        (
            format!("`{address}` says what is forbidden, but not to whom"),
            "write an address, `default` or `source` before it",
        )
    } else if address.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        (
            format!("`{}` is not a complete address", who.text),
            "write all four numbers, as in `192.0.2.0/24`",
        )
    } else {
        (
            format!(
                "`{}` is not an address; host names are not supported in rules",
                who.text
            ),
            "write the addresses that the name stands for, one line for each (for your own servers: `restrict source`)",
        )
    };
    line.error(who, message, help.into());
}

/// Flags up to the end of the line, and `ntpport`.
fn flags(line: &mut Line<'_>, directive: &Word) -> Option<(Flags, bool)> {
    let (mut flags, mut ntpport, mut good) = (Flags::NONE, false, true);
    while let Some(word) = line.take() {
        if let Some(flag) = Flags::from_word(&word.text) {
            flags |= flag;
            if directive.text == "restrict" {
                remark(line, &word, flag);
            }
            continue;
        }
        match word.text.as_str() {
            "ntpport" => ntpport = true,
            "epeer" | "non-ntpport" | "nonntpport" | "serverresponse" => {
                let message = format!("`{}` has no effect here", word.text);
                line.note(&word, message);
            }
            "ippeerlimit" => {
                line.integer(&word, -1..=i32::MAX)?;
                let message = "`ippeerlimit` has no effect: strangers never become peers";
                line.note(&word, message.into());
            }
            "mask" | "netmask" => {
                // Its value is no flag; one error is enough.
                line.take_if(|value| value.parse::<IpAddr>().is_ok());
                let message = format!("`{}` can't stand here", word.text);
                let help = "write `mask` and its value right after an address: `restrict 192.0.2.0 mask 255.255.255.0`";
                line.error(&word, message, help.into());
                good = false;
            }
            _ => {
                let flags = Flags::WORDS.iter().map(|(word, _)| *word);
                line.unknown(&word, &directive.text, flags.chain(["ntpport", "mask"]));
                good = false;
            }
        }
    }
    good.then_some((flags, ntpport))
}

/// Flags that do something else than their reader may expect.
fn remark(line: &mut Line<'_>, word: &Word, flag: Flags) {
    if flag == Flags::MSSNTP {
        let message = "`mssntp` is not supported yet: Windows clients that ask for Samba's signature get none";
        let help = "they refuse the answer; plain NTP clients are served as ever";
        line.warning(word, message.into(), help.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rule() -> impl Strategy<Value = Rule> {
        let who = (0..3_u8, any::<bool>()).prop_map(|(n, ntpport)| {
            let prefix = Prefix::new([10, n, 0, 0].into(), 16).expect("short enough");
            Who::Block { prefix, ntpport }
        });
        let flags = (0..8_u16).prop_map(Flags::from_bits);
        (who, flags, any::<bool>()).prop_map(|(who, flags, adds)| {
            if adds {
                Rule::Restrict(who, flags)
            } else {
                Rule::Unrestrict(who, flags)
            }
        })
    }

    proptest! {
        #[test]
        fn all_at_once_is_one_by_one(rules in prop::collection::vec(rule(), 0..20)) {
            let all = all_flags(&rules);
            for rule in &rules {
                let (Rule::Restrict(who, _) | Rule::Unrestrict(who, _)) = *rule;
                prop_assert_eq!(all.get(&who).copied(), flags_of(&rules, who));
            }
        }
    }
}

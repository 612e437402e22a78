//! `ptntp peers`: the table of `ntpq -p`, column for column.

use std::process::ExitCode;

use crate::cli::args::PeersArgs;
use crate::cli::ask;
use crate::cli::render;
use crate::node::report::{CLOCK, HEARD, SourceReport};

/// Asks and prints.
pub fn run(args: &PeersArgs) -> ExitCode {
    match ask::peers(&args.control) {
        Ok((sources, json)) => {
            ask::print(&if args.control.json {
                format!("{json}\n")
            } else {
                table(&sources, args.numeric, args.wide)
            });
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("ptntp peers: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Who answers under which name is cut to ntpq's 15 characters unless `wide`,
/// which also adds who took the stamps, beyond ntpq's last column.
pub fn table(sources: &[SourceReport], numeric: bool, wide: bool) -> String {
    let names: Vec<String> = sources.iter().map(|s| remote(s, numeric)).collect();
    let longest = names.iter().map(|name| name.chars().count()).max();
    let width = longest.filter(|_| wide).unwrap_or(0).max(15);
    let extra = " ".repeat(width - 15);
    let mut text = format!(
        "     remote{extra}           refid      st t when poll reach   delay   offset  jitter"
    );
    if wide {
        text.push_str("  stamps");
    }
    text.push('\n');
    text.push_str(&"=".repeat(78 + (width - 15) + if wide { 8 } else { 0 }));
    text.push('\n');
    for (source, name) in sources.iter().zip(&names) {
        text.push_str(&row(source, name, width));
        if wide {
            text.push_str(&format!("  {}", stamps(source)));
        }
        text.push('\n');
    }
    text
}

fn row(source: &SourceReport, name: &str, width: usize) -> String {
    let ms = |value: Option<f64>| format!("{:.3}", value.unwrap_or(0.0) * 1e3);
    format!(
        "{tally}{name:width$.width$} {refid:15.15} {stratum:>2} {kind} {when:>4.4} {poll:>4.4}  \
         {reach:>3o}  {delay:>7.7} {offset:>8.7} {jitter:>7.7}",
        tally = source.tally.character(),
        refid = render::printable(&source.refid),
        stratum = source.stratum,
        kind = if source.kind == CLOCK {
            'l'
        } else {
            source.kind
        },
        when = render::interval(source.when_s.unwrap_or(0.0).floor()),
        poll = render::interval(source.poll_s),
        reach = source.reach,
        delay = ms(source.delay_s),
        offset = ms(source.offset_s),
        jitter = ms(source.jitter_s),
    )
}

/// A pool's members share its name, so they go by address; reference clocks go by refid.
/// Their type is `l`, as ntpq has it.
fn remote(source: &SourceReport, numeric: bool) -> String {
    if source.kind == 'l' {
        let unit = source.name.rsplit('.').next();
        return format!(
            "LOCAL({})",
            unit.filter(|u| u.parse::<u8>().is_ok()).unwrap_or("0")
        );
    }
    if source.kind == CLOCK {
        return render::printable(source.refid.trim_matches('.'));
    }
    match source.address {
        Some(address) if numeric || matches!(source.kind, 'p' | HEARD) => address.ip().to_string(),
        _ => render::printable(&source.name),
    }
}

/// Transmit, then receive: `KH`; `-` before the first sample; `i` if interleaved.
fn stamps(source: &SourceReport) -> String {
    let letter = |name: &Option<String>| match name.as_deref() {
        Some("daemon") => 'D',
        Some("kernel") => 'K',
        Some("hardware") => 'H',
        _ => '-',
    };
    let (tx, rx) = (letter(&source.stamp_tx), letter(&source.stamp_rx));
    format!("{tx}{rx}{}", if source.interleaved { " i" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::select::Tally;

    fn source(name: &str, address: &str) -> SourceReport {
        SourceReport {
            id: 1,
            name: name.to_owned(),
            address: address.parse().ok(),
            local: None,
            kind: 'u',
            tally: Tally::System,
            refid: "GPS".to_owned(),
            stratum: 1,
            when_s: Some(17.8),
            poll_s: 64.0,
            reach: 0o377,
            delay_s: Some(0.000_231),
            offset_s: Some(-0.000_012_3),
            jitter_s: Some(0.000_004),
            root_distance_s: Some(0.001),
            stamp_tx: Some("kernel".to_owned()),
            stamp_rx: Some("hardware".to_owned()),
            interleaved: false,
            sent: 9,
            received: 8,
            rejected: Default::default(),
            reply: None,
            recent: Vec::new(),
            detail: Default::default(),
        }
    }

    fn sources() -> Vec<SourceReport> {
        let mut dead = source("a-name-that-does-not-fit.example.net", "");
        dead.tally = Tally::Rejected;
        dead.refid = ".INIT.".to_owned();
        dead.stratum = 16;
        (dead.when_s, dead.poll_s, dead.reach) = (None, 1024.0, 0);
        (dead.delay_s, dead.offset_s, dead.jitter_s) = (None, None, None);
        (dead.stamp_tx, dead.stamp_rx) = (None, None);
        let mut member = source("pool.example.net", "[2001:db8::17]:123");
        member.kind = 'p';
        member.tally = Tally::Falseticker;
        member.refid = "192.0.2.200".to_owned();
        member.stratum = 2;
        member.when_s = Some(4000.0);
        member.offset_s = Some(-12_345.678_9);
        member.interleaved = true;
        let mut local = source("127.127.1.0", "");
        local.kind = 'l';
        local.tally = Tally::Candidate;
        local.refid = ".LOCL.".to_owned();
        local.stratum = 5;
        let mut phc = source("/dev/ptp0", "");
        phc.kind = CLOCK;
        phc.refid = ".PHC0.".to_owned();
        phc.stratum = 0;
        phc.poll_s = 16.0;
        phc.stamp_tx = phc.stamp_rx.clone();
        vec![
            source("ntp1.example.net", "192.0.2.1:123"),
            dead,
            member,
            local,
            phc,
        ]
    }

    #[test]
    fn the_table_is_ntpqs() {
        let expected =
            "     remote           refid      st t when poll reach   delay   offset  jitter
==============================================================================
*ntp1.example.ne GPS              1 u   17   64  377    0.231   -0.012   0.004
 a-name-that-doe .INIT.          16 u    - 1024    0    0.000    0.000   0.000
x2001:db8::17    192.0.2.200      2 p  67m   64  377    0.231 -1234567   0.004
+LOCAL(0)        .LOCL.           5 l   17   64  377    0.231   -0.012   0.004
*PHC0            .PHC0.           0 l   17   16  377    0.231   -0.012   0.004
";
        // ntpq cuts what does not fit its columns; so the sign and seven characters.
        let expected = expected.replace("-1234567", " -123456");
        assert_eq!(table(&sources(), false, false), expected);
    }

    #[test]
    fn wide_adds_on_the_right_only() {
        let text = table(&sources(), true, true);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0].find("refid").unwrap() + 1,
            lines[2].find("GPS").unwrap() + 6,
            "{text}"
        );
        assert!(lines[2].starts_with("*192.0.2.1 "), "{text}");
        assert!(lines[2].ends_with("  0.004  KH"), "{text}");
        assert!(lines[3].ends_with("  0.000  --"), "{text}");
        assert!(lines[4].ends_with("  0.004  KH i"), "{text}");
        assert!(lines[6].ends_with("  0.004  HH"), "{text}");
        assert_eq!(lines[1].len(), lines[0].len());
    }

    #[test]
    fn a_strangers_refid_moves_no_cursor() {
        let mut evil = source("x", "192.0.2.1:123");
        evil.refid = "\u{1b}[2J".to_owned();
        assert!(!table(&[evil], false, false).contains('\u{1b}'));
    }
}

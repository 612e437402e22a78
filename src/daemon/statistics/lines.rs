//! The lines, column by column as ntpsec's ntpd and chronyd have them: plotting scripts
//! count columns. Signs are theirs too: chronyd's estimates are positive where our clock is
//! ahead, its measurements and all of ntpd's where it is behind.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use crate::client::packet_test::PacketTest;
use crate::config::statistics::FileKind;
use crate::daemon::query::{peer_word, system_word};
use crate::daemon::reports;
use crate::daemon::statistics::{Entry, RtcFact, Served, Used, What};
use crate::node::action::{Event, Whom};
use crate::node::record::{Fact, ReadingFact, ReplyFact, SampleFact, UpdateFact};
use crate::node::report::{CLOCK, NodeReport, SourceReport, SystemReport};
use crate::time::civil::Civil;
use crate::time::duration::NtpDuration;
use crate::time::instant::{Now, WallInstant};
use crate::time::stamp::StampOrigin;
use crate::time::timestamp::NtpTimestamp;
use crate::wire::packet::{Header, Leap};
use crate::wire::refid::KissCode;

/// The modified Julian day of 1970-01-01.
const MJD_UNIX: i64 = 40_587;
const DAY_S: i64 = 86_400;
/// chronyd's regression makes no estimate of fewer.
const SAMPLES_MIN: u32 = 3;
/// What the clock may be wrong by while nobody knows (RFC 5905 MAXDISP).
const ERROR_UNKNOWN_S: f64 = 16.0;
/// What ntpq's statuses have for a stratum that is none.
const STRATUM_NONE: u8 = 16;

/// What names the columns of one of chronyd's files.
pub const fn banner(kind: FileKind) -> &'static str {
    match kind {
        FileKind::Measurements => {
            "   Date (UTC) Time     IP Address   L St 123 567 ABCD  LP RP Score    Offset  Peer del. Peer disp.  Root del. Root disp. Refid     MTxRx"
        }
        FileKind::Statistics => {
            "   Date (UTC) Time     IP Address    Std dev'n Est offset  Offset sd  Diff freq   Est skew  Stress  Ns  Bs  Nr  Asym"
        }
        FileKind::Tracking => {
            "   Date (UTC) Time     IP Address   St   Freq ppm   Skew ppm     Offset L Co  Offset sd Rem. corr. Root delay Root disp. Max. error"
        }
        FileKind::Selection => {
            "   Date (UTC) Time     IP Address   S EOpts Reach Score Last sample  Low end   High end"
        }
        FileKind::Refclocks => {
            "   Date (UTC) Time         Refid  DP L P  Raw offset   Cooked offset      Disp."
        }
        FileKind::Rtc => {
            "   Date (UTC) Time   RTC fast (s) Val   Est fast (s)   Slope (ppm)  Ns  Nr Meas"
        }
        _ => "",
    }
}

/// What `entry` adds to a file, without line ends. `raw`: answers that failed a test are
/// measurements too.
pub fn lines(kind: FileKind, entry: &Entry, raw: bool) -> Vec<String> {
    let now = entry.now;
    let line = match (kind, &entry.what) {
        (FileKind::Loopstats, What::Fact(Fact::Update(update))) => loopstats(update, now),
        (FileKind::Peerstats, What::Fact(Fact::Sample(sample))) => Some(peerstats(sample, now)),
        (FileKind::Rawstats, What::Fact(Fact::Reply(reply))) => Some(rawstats(reply, now)),
        (FileKind::Clockstats, What::Fact(Fact::Reading(reading))) => clockstats(reading, now),
        (FileKind::Protostats, What::Event(event, report)) => protostats(event, report, now),
        (FileKind::Sysstats, What::Served(served)) => Some(sysstats(served, now)),
        (FileKind::Usestats, What::Used(used)) => Some(usestats(used, now)),
        (FileKind::Measurements, What::Fact(Fact::Reply(reply))) => measurement(reply, now, raw),
        (FileKind::Statistics, What::Fact(Fact::Sample(sample))) => statistics(sample, now),
        (FileKind::Tracking, What::Fact(Fact::Update(update))) => Some(tracking(update, now)),
        (FileKind::Selection, What::Fact(Fact::Selection(sources))) => {
            return selection(sources, now);
        }
        (FileKind::Refclocks, What::Fact(Fact::Reading(reading))) => Some(refclock(reading, now)),
        (FileKind::Rtc, What::Rtc(rtc)) => Some(self::rtc(rtc)),
        _ => None,
    };
    line.into_iter().collect()
}

/// Modified Julian day, and seconds of it, in UTC.
fn day_and_second(at: WallInstant) -> String {
    let milliseconds = at.unix_ns().div_euclid(1_000_000);
    let (second, part) = (milliseconds.div_euclid(1000), milliseconds.rem_euclid(1000));
    let (day, second) = (second.div_euclid(DAY_S), second.rem_euclid(DAY_S));
    format!("{} {second}.{part:03}", day + MJD_UNIX)
}

/// chronyd's date and time, to the second.
fn date_and_time(at: WallInstant) -> String {
    Civil::from_unix(at.unix_ns().div_euclid(1_000_000_000)).to_string()
}

/// C's `%.*e`: an exponent has two digits at least.
fn scientific(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$e}");
    match text.split_once('e') {
        Some((mantissa, exponent)) => {
            let (sign, digits) = match exponent.strip_prefix('-') {
                Some(digits) => ('-', digits),
                None => ('+', exponent),
            };
            format!("{mantissa}e{sign}{digits:0>2}")
        }
        // Neither is infinity, nor what is no number.
        None => text,
    }
}

/// The same as chronyd mostly has it, ten characters wide.
fn wide(value: f64) -> String {
    format!("{:>10}", scientific(value, 3))
}

/// Zero has no sign.
fn opposite(value: f64) -> f64 {
    0.0 - value
}

/// An address, or what a reference clock is called.
fn label(source: &SourceReport) -> String {
    match source.address {
        Some(address) => address.ip().to_canonical().to_string(),
        None => source.refid.trim_matches('.').to_owned(),
    }
}

/// N, +, - or ?.
fn leap_sign(leap: Leap) -> char {
    match leap {
        Leap::None => 'N',
        Leap::Insert => '+',
        Leap::Delete => '-',
        Leap::Unknown => '?',
    }
}

fn leap_of(system: &SystemReport) -> char {
    match system.leap.as_str() {
        "none" => 'N',
        "insert" => '+',
        "delete" => '-',
        _ => '?',
    }
}

fn loopstats(update: &UpdateFact, now: Now) -> Option<String> {
    let system = &update.system;
    (update.combined > 0).then(|| {
        format!(
            "{} {:.9} {:.6} {:.9} {:.6} {}",
            day_and_second(now.wall),
            update.offset.as_seconds(),
            system.frequency_ppm,
            system.jitter_s.unwrap_or(0.0),
            system.skew_ppm.unwrap_or(0.0),
            // An interval is a power of two of seconds.
            system.poll_s.map_or(0.0, f64::log2).round() as i64
        )
    })
}

fn peerstats(sample: &SampleFact, now: Now) -> String {
    let source = &sample.source;
    format!(
        "{} {} {:x} {:.9} {:.9} {:.9} {:.9}",
        day_and_second(now.wall),
        label(source),
        peer_word(source),
        source.offset_s.unwrap_or(0.0),
        source.delay_s.unwrap_or(0.0),
        sample.dispersion.as_seconds(),
        source.jitter_s.unwrap_or(0.0)
    )
}

/// Seconds of the era, and nine digits.
fn stamp(at: NtpTimestamp) -> String {
    let (second, part) = (at.bits() >> 32, at.bits() & 0xffff_ffff);
    format!("{second}.{:09}", (part * 1_000_000_000) >> 32)
}

fn rawstats(reply: &ReplyFact, now: Now) -> String {
    let header = &reply.header;
    let stratum = match header.stratum {
        0 => STRATUM_NONE,
        stratum => stratum,
    };
    let local = reply.local.map(|ip| ip.to_canonical().to_string());
    let exchange = &reply.exchange;
    format!(
        "{} {} {} {} {} {} {} {} {} {} {stratum} {} {} {:.6} {:.6} {} 0 {} {:x}",
        day_and_second(now.wall),
        reply.address.ip().to_canonical(),
        local.as_deref().unwrap_or("-"),
        stamp(exchange.origin),
        stamp(exchange.receive),
        stamp(exchange.transmit),
        stamp(exchange.destination),
        header.leap.bits(),
        header.version,
        header.mode as u8,
        header.poll,
        header.precision.log2(),
        header.root_delay.to_duration().as_seconds(),
        header.root_dispersion.to_duration().as_seconds(),
        refid(header),
        u8::from(reply.failed.is_some()),
        reply.failed.map_or(0, bogon)
    )
}

/// Dotted above stratum 1, as ntpd has it even of a local clock.
fn refid(header: &Header) -> String {
    match header.stratum {
        0 | 1 => header.refid.display(header.stratum).to_string(),
        _ => Ipv4Addr::from(header.refid.bytes()).to_string(),
    }
}

/// ntpsec's bit for a test that failed.
const fn bogon(test: PacketTest) -> u16 {
    match test {
        PacketTest::Duplicate => 0x0001,
        PacketTest::Origin => 0x0002,
        PacketTest::Zero => 0x0004,
        PacketTest::Access => 0x0008,
        PacketTest::Auth | PacketTest::CryptoNak => 0x0010,
        PacketTest::Unsynchronised => 0x0020,
        PacketTest::Delay => 0x2000,
        PacketTest::Loop => 0x0800,
        PacketTest::Transport
        | PacketTest::Short
        | PacketTest::Trailer
        | PacketTest::Version
        | PacketTest::Mode
        | PacketTest::RootDistance
        | PacketTest::Order => 0x0040,
    }
}

fn clockstats(reading: &ReadingFact, now: Now) -> Option<String> {
    reading.place.map(|_| {
        let offset_s = reading.offset.as_seconds();
        let at = day_and_second(now.wall);
        format!("{at} {} {offset_s:.9}", reading.name)
    })
}

/// ntpd's number and name of an event, and what it says beside.
fn protostats(event: &Event, report: &NodeReport, now: Now) -> Option<String> {
    let (whom, code, name, text) = match event {
        Event::Selected { .. } => {
            let source = report.system.source.as_deref()?;
            let found = report.sources.iter().find(|s| label(s) == source)?;
            (Some(found), 0x8a, "sys_peer", String::new())
        }
        Event::Lost => (None, 0x08, "no_sys_peer", String::new()),
        Event::Unsynchronised => (None, 0x00, "unspecified", "unsynchronised".to_owned()),
        Event::Stepped(by) | Event::MovedByOthers(by) => {
            let text = format!("{:+.6} s", by.as_seconds());
            (None, 0x0c, "clock_step", text)
        }
        // ntpd has no such thing; the step is an event of its own.
        Event::InitiallySet(..) | Event::InitialFailed => return None,
        Event::Kissed(address, kiss) => {
            let found = of_ip(report, address.ip())?;
            match kiss {
                KissCode::Rate => (Some(found), 0x87, "rate_exceeded", String::new()),
                _ => (Some(found), 0x88, "access_denied", String::new()),
            }
        }
        Event::Unreachable(whom) => (Some(of(report, whom)?), 0x83, "unreachable", String::new()),
        Event::Reachable(whom) => (Some(of(report, whom)?), 0x84, "reachable", String::new()),
        Event::Falseticker(whom) => {
            let text = "falseticker".to_owned();
            (Some(of(report, whom)?), 0x80, "unspecified", text)
        }
        Event::TaiUnknown(whom) => {
            let text = "TAI unknown".to_owned();
            (Some(of(report, whom)?), 0x8b, "clock_event", text)
        }
    };
    let (label, word) = match whom {
        Some(source) => (label(source), peer_word(source)),
        None => ("0.0.0.0".to_owned(), system_word(&report.system)),
    };
    let at = day_and_second(now.wall);
    let mut line = format!("{at} {label} {word:04x} {code:02x} {name}");
    if !text.is_empty() {
        line.push(' ');
        line.push_str(&text);
    }
    Some(line)
}

fn of<'a>(report: &'a NodeReport, whom: &Whom) -> Option<&'a SourceReport> {
    match whom {
        Whom::Server(address) => of_ip(report, address.ip()),
        Whom::Clock(refid, _) => report.sources.iter().find(|s| label(s) == *refid),
    }
}

fn of_ip(report: &NodeReport, ip: IpAddr) -> Option<&SourceReport> {
    let is_it = |source: &&SourceReport| source.address.map(|address| address.ip()) == Some(ip);
    report.sources.iter().find(is_it)
}

fn sysstats(served: &Served, now: Now) -> String {
    // Versions 2 to 4 are answered alike and not told apart; version 1 neither.
    format!(
        "{} {} {} {} {} {} {} {} {} {} {} {} 0",
        day_and_second(now.wall),
        served.period.as_seconds().round() as i64,
        served.received,
        served.processed,
        served.received.saturating_sub(served.bad_version),
        served.bad_version,
        served.restricted,
        served.bad,
        served.badauth,
        served.declined,
        served.limited,
        served.kod
    )
}

fn usestats(used: &Used, now: Now) -> String {
    let mut line = format!(
        "{} {:.0} {:.3} {:.3}",
        day_and_second(now.wall),
        used.period_s,
        used.cpu_s[0],
        used.cpu_s[1]
    );
    for count in used.counts.iter().chain([&used.maxrss_kib]) {
        // A String takes whatever is written to it.
        let _ = write!(line, " {count}");
    }
    line
}

fn measurement(reply: &ReplyFact, now: Now, raw: bool) -> Option<String> {
    let failed = |tests: &[PacketTest]| reply.failed.is_some_and(|test| tests.contains(&test));
    let test3 = !failed(&[PacketTest::Zero]);
    let test6 = !failed(&[PacketTest::Unsynchronised]);
    let test7 = !failed(&[PacketTest::RootDistance]);
    let synchronised = test3 && test6 && test7;
    if !synchronised && !raw {
        return None;
    }
    let test_a = synchronised && !failed(&[PacketTest::Delay, PacketTest::Order]);
    let test_d = synchronised && !failed(&[PacketTest::Loop]);
    let header = &reply.header;
    // Of an exchange that made a sample, the middle.
    let exchange = &reply.exchange;
    let length = exchange.destination - exchange.origin;
    let arrival = exchange.destination.resolve(now.wall);
    let at = if reply.failed.is_none() {
        arrival + -length.half()
    } else {
        arrival
    };
    let bit = |passed: bool| u8::from(passed);
    let of = |origin: StampOrigin| match origin {
        StampOrigin::Daemon => 'D',
        StampOrigin::Kernel => 'K',
        StampOrigin::Hardware => 'H',
    };
    Some(format!(
        "{} {:<15} {} {:>2} 11{} 1{}{} {}{}{}{}  {:>2} {:>2} {:4.2} {} {} {} {} {} {:08X} {}{} {} {}",
        date_and_time(at),
        reply.address.ip().to_canonical().to_string(),
        leap_sign(header.leap),
        header.stratum,
        bit(test3),
        bit(test6),
        bit(test7),
        bit(test_a),
        bit(synchronised),
        bit(synchronised),
        bit(test_d),
        reply.poll.log2(),
        header.poll,
        // There are no scores within a poll interval.
        0.0,
        wide(reply.offset.as_seconds()),
        wide(reply.delay.as_seconds()),
        wide(reply.dispersion.as_seconds()),
        wide(header.root_delay.to_duration().as_seconds()),
        wide(header.root_dispersion.to_duration().as_seconds()),
        u32::from_be_bytes(header.refid.bytes()),
        header.mode as u8,
        if reply.interleaved { 'I' } else { 'B' },
        of(reply.origins.0),
        of(reply.origins.1)
    ))
}

fn statistics(sample: &SampleFact, now: Now) -> Option<String> {
    let source = &sample.source;
    let detail = &source.detail;
    let newest = source.recent.first()?;
    let at = now.wall - NtpDuration::from_seconds(newest.age_s);
    (detail.samples >= SAMPLES_MIN).then(|| {
        format!(
            "{} {:<15} {} {} {} {} {} {:>7} {:>3} {:>3} {:>3} {:5.2}",
            date_and_time(at),
            label(source),
            wide(source.jitter_s.unwrap_or(0.0)),
            wide(opposite(source.offset_s.unwrap_or(0.0))),
            wide(detail.offset_sigma_s),
            wide(detail.residual_ppm * 1e-6),
            wide(detail.skew_ppm * 1e-6),
            scientific(sample.stress, 1),
            detail.samples,
            // What a filter without a register does not have: a start in it, runs, and
            // an asymmetry of its own.
            0,
            0,
            0.0
        )
    })
}

fn tracking(update: &UpdateFact, now: Now) -> String {
    let system = &update.system;
    let followed = update.combined > 0;
    let source = system.source.as_deref().filter(|_| followed);
    let pending_s = update.pending.as_seconds();
    // chronyd's offset leaves out what is on its way to be corrected.
    let offset_s = if followed {
        update.offset.as_seconds() - pending_s
    } else {
        0.0
    };
    let error_s = update.error_before.map(NtpDuration::as_seconds);
    format!(
        "{} {:<15} {:>2} {:10.3} {:10.3} {} {} {:>2} {} {} {} {} {}",
        date_and_time(now.wall),
        source.unwrap_or("0.0.0.0"),
        if followed { system.stratum } else { 0 },
        opposite(system.frequency_ppm),
        system.skew_ppm.unwrap_or(0.0),
        wide(opposite(offset_s)),
        if followed { leap_of(system) } else { '?' },
        update.combined,
        wide(update.offset_sigma.as_seconds()),
        wide(pending_s),
        wide(system.root_delay_s),
        wide(system.root_dispersion_s),
        wide(error_s.unwrap_or(ERROR_UNKNOWN_S))
    )
}

fn selection(sources: &[SourceReport], now: Now) -> Vec<String> {
    // Neither our own clock nor a name without an address is a source to chronyd.
    let judged = sources
        .iter()
        .filter(|source| source.address.is_some() || source.kind == CLOCK);
    judged
        .map(|source| {
            let data = reports::select_data(0, source);
            let age_s = source.recent.first().map_or(0.0, |sample| sample.age_s);
            let option = |on: bool, letter: char| if on { letter } else { '-' };
            format!(
                "{} {:<15} {} -{}{}-- {:>4o} {:5.2} {} {} {}",
                date_and_time(now.wall),
                label(source),
                char::from(data.state),
                option(source.detail.noselect, 'N'),
                option(source.detail.prefer, 'P'),
                source.reach,
                data.score,
                wide(age_s),
                wide(data.low_s),
                wide(data.high_s)
            )
        })
        .collect()
}

fn refclock(reading: &ReadingFact, now: Now) -> String {
    let micros = now.wall.unix_ns().rem_euclid(1_000_000_000) / 1000;
    let at = date_and_time(now.wall);
    let (offset, dispersion) = (
        scientific(reading.offset.as_seconds(), 6),
        wide(reading.dispersion.as_seconds()),
    );
    let name = &reading.name;
    match reading.place {
        Some(place) => {
            let raw = scientific(reading.raw.as_seconds(), 6);
            format!("{at}.{micros:06} {name:<5} {place:>3} N 0 {raw:>13} {offset:>13} {dispersion}")
        }
        None => {
            format!("{at}.{micros:06} {name:<5}   - N -       -       {offset:>13} {dispersion}")
        }
    }
}

fn rtc(rtc: &RtcFact) -> String {
    format!(
        "{} {:14.6} {}  {:14.6}  {:12.3}  {:>2}  {:>2} {:>4}",
        date_and_time(rtc.at),
        rtc.offset_s,
        u8::from(rtc.samples > 1),
        rtc.estimate_s,
        rtc.rate.0,
        rtc.samples,
        0,
        rtc.interval_s
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::status::tests::example;
    use crate::measurement::Exchange;
    use crate::node::report::SampleReport;
    use crate::time::instant::MonoInstant;
    use crate::time::timestamp::NtpShort;
    use crate::time::units::{PollExponent, Ppm, Precision};
    use crate::wire::packet::Mode;
    use crate::wire::refid::RefId;

    /// 2026-11-22 18:44:23.484 UTC, MJD 61366. Durations are of 2^-32 s, so that not all
    /// nanoseconds come back.
    const AT_NS: i64 = 1_795_373_063_484_567_891;

    fn entry(what: What) -> Entry {
        let now = Now {
            mono: MonoInstant::ZERO,
            wall: WallInstant::from_unix_ns(AT_NS),
        };
        Entry { now, what }
    }

    fn one(kind: FileKind, what: What) -> String {
        let lines = lines(kind, &entry(what), false);
        assert_eq!(lines.len(), 1, "{lines:?}");
        lines[0].clone()
    }

    fn reply() -> ReplyFact {
        let at = |ns: i64| NtpTimestamp::from_wall(WallInstant::from_unix_ns(AT_NS - 30_000 + ns));
        ReplyFact {
            address: "10.77.0.1:123".parse().unwrap(),
            local: Some("10.77.0.2".parse().unwrap()),
            header: Header {
                leap: Leap::None,
                version: 4,
                mode: Mode::Server,
                stratum: 1,
                poll: 3,
                precision: Precision::new(-26),
                root_delay: NtpShort::default(),
                root_dispersion: NtpShort::default(),
                refid: RefId::from_bytes([127, 127, 1, 1]),
                reference: NtpTimestamp::ZERO,
                origin: NtpTimestamp::ZERO,
                receive: at(10_000),
                transmit: at(15_000),
            },
            exchange: Exchange {
                origin: at(0),
                receive: at(10_000),
                transmit: at(15_000),
                destination: at(30_000),
            },
            origins: (StampOrigin::Kernel, StampOrigin::Daemon),
            interleaved: false,
            failed: None,
            offset: NtpDuration::from_nanos(-1732),
            delay: NtpDuration::from_nanos(11_850),
            dispersion: NtpDuration::from_nanos(35),
            poll: PollExponent::new(1),
        }
    }

    fn source() -> SourceReport {
        let mut source = example().node.sources[0].clone();
        source.recent = vec![SampleReport {
            offset_s: 0.0,
            delay_s: 0.0,
            dispersion_s: 0.0,
            age_s: 2.0,
        }];
        source.detail.samples = 11;
        source.detail.residual_ppm = 0.01878;
        source.detail.skew_ppm = 0.1638;
        source.detail.offset_sigma_s = 3.619e-7;
        source
    }

    fn sample() -> SampleFact {
        SampleFact {
            source: source(),
            dispersion: NtpDuration::from_seconds(0.4375),
            stress: 0.093,
        }
    }

    fn update() -> UpdateFact {
        UpdateFact {
            system: example().node.system,
            offset: NtpDuration::from_nanos(-2000),
            offset_sigma: NtpDuration::from_nanos(362),
            combined: 2,
            pending: NtpDuration::from_nanos(-1850),
            error_before: Some(NtpDuration::from_nanos(10_050)),
        }
    }

    #[test]
    fn ntpds_columns() {
        let loops = one(FileKind::Loopstats, What::Fact(Fact::Update(update())));
        assert_eq!(
            loops,
            "61366 67463.484 -0.000002000 -50.250000 0.000002000 0.100000 6"
        );
        let peers = one(FileKind::Peerstats, What::Fact(Fact::Sample(sample())));
        assert_eq!(
            peers,
            "61366 67463.484 192.0.2.1 961a -0.000001500 0.001000000 0.437500000 0.000002000"
        );
        let raw = one(FileKind::Rawstats, What::Fact(Fact::Reply(reply())));
        assert_eq!(
            raw,
            "61366 67463.484 10.77.0.1 10.77.0.2 4004361863.484537890 4004361863.484547890 \
             4004361863.484552890 4004361863.484567890 0 4 4 1 3 -26 0.000000 0.000000 \
             127.127.1.1 0 0 0"
        );
        let used = Used {
            period_s: 3600.4,
            cpu_s: [1.5, 0.25],
            counts: [1, 2, 3, 4, 5, 6, 7, 8],
            maxrss_kib: 9,
        };
        assert_eq!(
            one(FileKind::Usestats, What::Used(used)),
            "61366 67463.484 3600 1.500 0.250 1 2 3 4 5 6 7 8 9"
        );
        let served = Served {
            period: NtpDuration::from_whole_seconds(3600),
            received: 100,
            processed: 80,
            restricted: 7,
            bad: 6,
            bad_version: 2,
            badauth: 5,
            declined: 4,
            limited: 3,
            kod: 1,
        };
        assert_eq!(
            one(FileKind::Sysstats, What::Served(served)),
            "61366 67463.484 3600 100 80 98 2 7 6 5 4 3 1 0"
        );
    }

    #[test]
    fn ntpds_events_have_its_numbers_and_names() {
        let report = example().node;
        let told = |event: Event| {
            one(
                FileKind::Protostats,
                What::Event(event, report.clone().into()),
            )
        };
        let server = Whom::Server("192.0.2.1:123".parse().unwrap());
        assert_eq!(
            told(Event::Reachable(server.clone())),
            "61366 67463.484 192.0.2.1 961a 84 reachable"
        );
        assert_eq!(
            told(Event::Falseticker(server)),
            "61366 67463.484 192.0.2.1 961a 80 unspecified falseticker"
        );
        let stratum = 2;
        let source = "192.0.2.1".to_owned();
        assert_eq!(
            told(Event::Selected { source, stratum }),
            "61366 67463.484 192.0.2.1 961a 8a sys_peer"
        );
        assert_eq!(
            told(Event::Stepped(NtpDuration::from_seconds(-0.5))),
            "61366 67463.484 0.0.0.0 0615 0c clock_step -0.500000 s"
        );
    }

    #[test]
    fn chronyds_columns() {
        assert_eq!(
            one(FileKind::Measurements, What::Fact(Fact::Reply(reply()))),
            "2026-11-22 18:44:23 10.77.0.1       N  1 111 111 1111   1  3 0.00 -1.732e-06  \
             1.185e-05  3.492e-08  0.000e+00  0.000e+00 7F7F0101 4B K D"
        );
        // Signs: our clock is ahead by 1.5 us, and gains.
        assert_eq!(
            one(FileKind::Statistics, What::Fact(Fact::Sample(sample()))),
            "2026-11-22 18:44:21 192.0.2.1        2.000e-06  1.500e-06  3.619e-07  1.878e-08  \
             1.638e-07 9.3e-02  11   0   0  0.00"
        );
        // Of 2 us that it is ahead, 1.85 us are on their way.
        assert_eq!(
            one(FileKind::Tracking, What::Fact(Fact::Update(update()))),
            "2026-11-22 18:44:23 192.0.2.1        3     50.250      0.100  1.499e-07 N  2  \
             3.621e-07 -1.850e-06  1.000e-03  2.000e-03  1.005e-05"
        );
        assert_eq!(
            one(
                FileKind::Selection,
                What::Fact(Fact::Selection(vec![source()]))
            ),
            "2026-11-22 18:44:23 192.0.2.1       * -----  377  1.00  2.000e+00 -2.498e-03  \
             2.502e-03"
        );
        let rtc = RtcFact {
            at: WallInstant::from_unix_ns(AT_NS),
            offset_s: -0.03736,
            estimate_s: -0.037434,
            rate: Ppm(-37.948),
            samples: 12,
            interval_s: 120,
        };
        assert_eq!(
            one(FileKind::Rtc, What::Rtc(rtc)),
            "2026-11-22 18:44:23      -0.037360 1       -0.037434       -37.948  12   0  120"
        );
    }

    #[test]
    fn a_clocks_readings_are_numbered_and_its_measurement_is_not() {
        let mut reading = ReadingFact {
            name: "PHC0".to_owned(),
            refid: RefId::from_bytes(*b"PHC0"),
            place: Some(7),
            raw: NtpDuration::from_nanos(490),
            offset: NtpDuration::from_nanos(-674),
            dispersion: NtpDuration::from_nanos(1000),
        };
        let of = |reading: &ReadingFact| What::Fact(Fact::Reading(reading.clone()));
        assert_eq!(
            one(FileKind::Refclocks, of(&reading)),
            "2026-11-22 18:44:23.484567 PHC0    7 N 0  4.901085e-07 -6.740447e-07  1.000e-06"
        );
        assert_eq!(
            one(FileKind::Clockstats, of(&reading)),
            "61366 67463.484 PHC0 -0.000000674"
        );
        reading.place = None;
        assert_eq!(
            one(FileKind::Refclocks, of(&reading)),
            "2026-11-22 18:44:23.484567 PHC0    - N -       -       -6.740447e-07  1.000e-06"
        );
        assert!(lines(FileKind::Clockstats, &entry(of(&reading)), false).is_empty());
    }

    #[test]
    fn answers_that_failed_a_test_are_for_raw_measurements() {
        let mut reply = reply();
        reply.failed = Some(PacketTest::Unsynchronised);
        reply.header.leap = Leap::Unknown;
        let entry = entry(What::Fact(Fact::Reply(reply)));
        assert!(lines(FileKind::Measurements, &entry, false).is_empty());
        let line = &lines(FileKind::Measurements, &entry, true)[0];
        assert!(line.contains(" ?  1 111 101 0000 "), "{line}");
        assert!(lines(FileKind::Rawstats, &entry, false)[0].ends_with(" 0 1 20"));
    }

    #[test]
    fn who_is_lost_is_written_as_chronyd_does_and_not_at_all_by_ntpd() {
        let lost = UpdateFact {
            combined: 0,
            error_before: None,
            ..update()
        };
        let entry = entry(What::Fact(Fact::Update(lost)));
        assert!(lines(FileKind::Loopstats, &entry, false).is_empty());
        let line = &lines(FileKind::Tracking, &entry, false)[0];
        assert!(
            line.contains(" 0.0.0.0          0 ") && line.contains(" ?  0 "),
            "{line}"
        );
        assert!(line.ends_with(" 1.600e+01"), "{line}");
    }

    #[test]
    fn numbers_have_cs_exponents() {
        assert_eq!(scientific(-3.012e-6, 3), "-3.012e-06");
        assert_eq!(scientific(0.0, 1), "0.0e+00");
        assert_eq!(scientific(1.5e123, 3), "1.500e+123");
        assert_eq!(scientific(f64::INFINITY, 3), "inf");
    }
}

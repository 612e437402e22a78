//! chronyc's reports, made of the daemon's: the same for the bytes of its protocol
//! ([`candm`](crate::wire::candm)) and for the texts of `ptntp tracking` and its like.
//!
//! chrony counts offsets from the other side than NTP: here, where it does, a positive
//! one means that the local clock is ahead. What we don't estimate is zero: runs of
//! residuals, jitter's asymmetry.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::daemon::status::Report;
use crate::linux::clock;
use crate::node::report::{CLOCK, LOCAL, PEER, ReplyReport, SampleReport, SourceReport};
use crate::server::recent::RecentClient;
use crate::sync::select::Tally;
use crate::time::instant::WallInstant;
use crate::time::timestamp::NtpTimestamp;
use crate::wire::candm::{
    Activity, Address, AuthData, Client, ManualSample, NtpData, Rtc, SelectData, ServerStats,
    SourceData, SourceMode, SourceState, SourceStats, Tracking,
};
use crate::wire::key::KeyKind;
use crate::wire::packet::Leap;

/// chrony's name for its own undisciplined clock, 127.127.1.1: `chronyc waitsync` knows
/// by it that nobody is followed.
const REFID_LOCAL: u32 = 0x7f7f_0101;

/// With the name under which a person knows the source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Named<T> {
    /// As configured; a pool's members all have the pool's.
    pub name: String,
    /// About it.
    pub data: T,
}

/// `tracking`.
pub fn tracking(report: &Report) -> Tracking {
    let system = &report.node.system;
    let detail = &system.detail;
    let source: Option<IpAddr> = system.source.as_deref().and_then(|s| s.parse().ok());
    let local = system.source.as_deref() == Some(LOCAL);
    let if_in_sync = |value: f64| if system.sync { value } else { 0.0 };
    Tracking {
        refid: match (system.sync, local) {
            (false, _) => 0,
            (true, true) => REFID_LOCAL,
            (true, false) => detail.refid,
        },
        address: match source {
            Some(address) if system.sync => Address::Ip(address),
            _ => Address::Unspecified,
        },
        stratum: if system.sync {
            system.stratum.into()
        } else {
            0
        },
        leap: leap_bits(&system.leap).into(),
        reference_unix_ns: detail.reference_unix_ns,
        correction_s: match system.offset_s {
            Some(offset_s) if !local => offset_s,
            _ => detail.pending_s,
        },
        last_offset_s: opposite(detail.last_offset_s),
        rms_offset_s: detail.rms_offset_s,
        frequency_ppm: opposite(system.frequency_ppm),
        residual_ppm: if_in_sync(detail.residual_ppm),
        skew_ppm: if_in_sync(system.skew_ppm.unwrap_or(0.0)),
        root_delay_s: system.root_delay_s,
        root_dispersion_s: system.root_dispersion_s,
        update_interval_s: detail.update_interval_s,
    }
}

/// Zero has no sign.
fn opposite(value: f64) -> f64 {
    0.0 - value
}

fn leap_bits(word: &str) -> u8 {
    match word {
        "none" => Leap::None,
        "insert" => Leap::Insert,
        "delete" => Leap::Delete,
        _ => Leap::Unknown,
    }
    .bits()
}

/// The sources in chronyc's order, which is ours. Our own undisciplined clock is none to it.
pub fn sources(report: &Report) -> impl Iterator<Item = (u32, &SourceReport)> {
    let all = report.node.sources.iter();
    (0..).zip(all.filter(|source| source.kind != 'l'))
}

/// The one of this index.
pub fn source(report: &Report, index: u32) -> Option<&SourceReport> {
    let mut sources = sources(report);
    sources.find(|(at, _)| *at == index).map(|(_, found)| found)
}

/// The one of this address.
pub fn source_at(report: &Report, address: Address) -> Option<&SourceReport> {
    let found = sources(report).find(|&(index, source)| {
        let own = self::address(index, source.address);
        own == address && source.kind != CLOCK
    });
    found.map(|(_, source)| source)
}

/// Whom to call the source of this index.
fn address(index: u32, address: Option<SocketAddr>) -> Address {
    match address {
        Some(address) => Address::Ip(address.ip()),
        None => Address::Id(index + 1),
    }
}

/// `sources`, of one.
pub fn source_data(index: u32, source: &SourceReport) -> SourceData {
    let last = source.recent.first();
    SourceData {
        address: clock_refid(source).map_or_else(
            || address(index, source.address),
            |refid| Address::Ip(Ipv4Addr::from(refid).into()),
        ),
        poll: source.poll_log2().into(),
        stratum: last.map_or(0, |_| source.stratum.into()),
        state: match source.tally {
            Tally::System => SourceState::Selected,
            Tally::Candidate => SourceState::Unselected,
            Tally::Outlier => SourceState::Selectable,
            Tally::Falseticker => SourceState::Falseticker,
            Tally::Rejected => SourceState::NonSelectable,
        },
        mode: match source.kind {
            CLOCK => SourceMode::Reference,
            PEER => SourceMode::Peer,
            _ => SourceMode::Server,
        },
        reach: source.reach.into(),
        since_sample_s: age_s(source),
        measured_s: last.map_or(0.0, |sample| opposite(sample.offset_s)),
        adjusted_s: opposite(source.detail.adjusted_s),
        error_s: last.map_or(0.0, |sample| error_s(sample, source.reply.as_ref())),
    }
}

/// What the last sample may be wrong by: half the whole way to the primary reference, and
/// all dispersion. A reference clock sends no reply, and is where the way ends.
fn error_s(sample: &SampleReport, reply: Option<&ReplyReport>) -> f64 {
    let (delay_s, dispersion_s) = reply.map_or((0.0, 0.0), |reply| {
        (reply.root_delay_s, reply.root_dispersion_s)
    });
    (sample.delay_s + delay_s) / 2.0 + dispersion_s + sample.dispersion_s
}

/// Whole seconds since the last sample.
fn age_s(source: &SourceReport) -> Option<u32> {
    let last = source.recent.first()?;
    Some(last.age_s.clamp(0.0, f64::from(u32::MAX - 1)) as u32)
}

/// What chronyd says of a source without samples, for monitors to be alarmed by.
const DEVIATION_UNKNOWN_S: f64 = 4.0;
const SKEW_UNKNOWN_PPM: f64 = 2000.0;

/// `sourcestats`, of one.
pub fn source_stats(index: u32, source: &SourceReport) -> SourceStats {
    let detail = &source.detail;
    let unknown = detail.samples == 0;
    SourceStats {
        refid: own_refid(source),
        address: named_address(index, source),
        samples: detail.samples,
        runs: 0,
        span_s: detail.span_s.max(0.0).round() as u32,
        deviation_s: source.jitter_s.unwrap_or(DEVIATION_UNKNOWN_S),
        residual_ppm: detail.residual_ppm,
        skew_ppm: if unknown {
            SKEW_UNKNOWN_PPM
        } else {
            detail.skew_ppm
        },
        offset_s: opposite(source.offset_s.unwrap_or(0.0)),
        offset_error_s: source.root_distance_s.unwrap_or(0.0),
    }
}

/// The identifier under which we would name this source: its IPv4 address, or a reference
/// clock's own.
fn own_refid(source: &SourceReport) -> u32 {
    match source.address.map(|address| address.ip()) {
        Some(IpAddr::V4(v4)) => v4.to_bits(),
        _ => clock_refid(source).unwrap_or(0),
    }
}

/// What a reference clock has instead of an address; none: it is no such clock.
fn clock_refid(source: &SourceReport) -> Option<u32> {
    let letters = source.refid.trim_matches('.').bytes();
    let mut octets = [0; 4];
    for (octet, letter) in octets.iter_mut().zip(letters) {
        *octet = letter;
    }
    (source.kind == CLOCK).then(|| u32::from_be_bytes(octets))
}

/// Whom to call the source, where its identifier stands beside.
fn named_address(index: u32, source: &SourceReport) -> Address {
    match clock_refid(source) {
        Some(_) => Address::Unspecified,
        None => address(index, source.address),
    }
}

/// How a source is authenticated.
pub fn auth_data(source: &SourceReport) -> Option<AuthData> {
    let key = source.detail.key.as_ref()?;
    let kind = match KeyKind::from_name(&key.kind)? {
        KeyKind::Md5 => 1,
        KeyKind::Sha1 => 2,
        KeyKind::Sha256 => 3,
        KeyKind::Sha384 => 4,
        KeyKind::Sha512 => 5,
        KeyKind::Aes128 => 13,
        KeyKind::Aes256 => 14,
    };
    let (id, bits) = (key.id, key.bits);
    Some(AuthData { kind, id, bits })
}

/// `selectdata`, of one.
pub fn select_data(index: u32, source: &SourceReport) -> SelectData {
    let detail = &source.detail;
    let offset_s = opposite(source.offset_s.unwrap_or(0.0));
    let distance_s = source.root_distance_s.unwrap_or(0.0);
    SelectData {
        refid: own_refid(source),
        address: named_address(index, source),
        state: match source.tally {
            _ if detail.noselect => b'N',
            Tally::System => b'*',
            Tally::Candidate => b'+',
            // Truechimers that are cast out are the farthest ones.
            Tally::Outlier => b'D',
            Tally::Falseticker => b'x',
            // Who was never heard is not known to be synchronised; that comes first.
            Tally::Rejected if source.reply.is_none() && source.kind != CLOCK => b's',
            Tally::Rejected if detail.samples == 0 => b'M',
            Tally::Rejected if source.reach == 0 => b'S',
            Tally::Rejected => b's',
        },
        leap: match &source.reply {
            Some(reply) if detail.samples > 0 => reply.leap,
            None if source.kind == CLOCK && detail.samples > 0 => Leap::None.bits(),
            _ => Leap::Unknown.bits(),
        },
        options: u16::from(detail.noselect) | u16::from(detail.prefer) << 1,
        // Here, and not in `sources`, never is now.
        since_sample_s: age_s(source).or(Some(0)),
        score: 1.0,
        low_s: offset_s - distance_s,
        high_s: offset_s + distance_s,
    }
}

/// `ntpdata`, of one.
pub fn ntp_data(source: &SourceReport, report: &Report) -> NtpData {
    let detail = &source.detail;
    let reply = source.reply.as_ref();
    let last = source.recent.first();
    let now = report.map.to_local(report.real);
    let rejected: u64 = source.rejected.values().sum();
    let count = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
    let stamped_by = |word: &Option<String>| {
        let first = word.as_deref().and_then(|word| word.bytes().next());
        first.map_or(0, |letter| letter.to_ascii_uppercase())
    };
    let good = count(source.received);
    NtpData {
        remote: source
            .address
            .map_or(Address::Unspecified, |address| Address::Ip(address.ip())),
        port: source.address.map_or(0, |address| address.port()),
        // chronyd learns it of the first answer.
        local: reply
            .and(source.local)
            .map_or(Address::Unspecified, Address::Ip),
        reply: reply.map_or([0; 4], |reply| {
            [reply.leap, reply.version, reply.mode, source.stratum]
        }),
        poll: reply.map_or(0, |reply| reply.poll),
        precision: reply.map_or(0, |reply| reply.precision),
        root_delay_s: reply.map_or(0.0, |reply| reply.root_delay_s),
        root_dispersion_s: reply.map_or(0.0, |reply| reply.root_dispersion_s),
        refid: reply.map_or(0, |reply| u32::from_be_bytes(reply.refid)),
        reference_unix_ns: reply.map_or(0, |reply| {
            let reference = NtpTimestamp::from_bits(reply.reference);
            reference.resolve(now).unix_ns()
        }),
        offset_s: last.map_or(0.0, |sample| sample.offset_s),
        delay_s: source.delay_s.unwrap_or(0.0),
        dispersion_s: last.map_or(0.0, |sample| sample.dispersion_s),
        response_s: detail.response_s,
        tests_passed: last.is_some(),
        interleaved: source.interleaved,
        stamped_by: [stamped_by(&source.stamp_tx), stamped_by(&source.stamp_rx)],
        totals: [
            count(source.sent),
            count(source.received.saturating_add(rejected)),
            good,
            good,
        ],
        stamped: detail.stamped.map(count),
    }
}

/// `activity`.
pub fn activity(report: &Report) -> Activity {
    let mut activity = Activity::default();
    for (_, source) in sources(report).filter(|(_, source)| source.kind != CLOCK) {
        let counter = match (source.address, source.detail.bursting) {
            (None, _) => &mut activity.unresolved,
            (Some(_), true) if source.detail.online => &mut activity.burst_online,
            (Some(_), true) => &mut activity.burst_offline,
            (Some(_), false) if source.detail.online => &mut activity.online,
            (Some(_), false) => &mut activity.offline,
        };
        *counter += 1;
    }
    activity
}

/// `serverstats`, without the commands, which are not ours to count here.
pub fn server_stats(report: &Report) -> ServerStats {
    let counts = report.server.collect().requests;
    let of = |name: &str| {
        let found = counts.iter().find(|(known, _)| *known == name);
        found.map_or(0, |&(_, count)| count)
    };
    let answered: u64 = ["basic", "interleaved", "kiss", "crypto_nak"]
        .map(of)
        .iter()
        .sum();
    ServerStats {
        hits: [answered + of("limited"), 0, 0],
        drops: [of("limited"), 0, 0],
        interleaved: of("interleaved"),
        ..ServerStats::default()
    }
}

/// The server's clients, one line for each address, in their order; none: nobody is
/// remembered.
pub fn clients(report: &Report) -> Option<Vec<Client>> {
    let mut all = report.server.recent_clients()?;
    all.sort_by_key(|client| client.address.ip());
    // One may have been answered by several workers.
    all.dedup_by(|other, kept| {
        let same = other.address.ip() == kept.address.ip();
        if same {
            kept.first = kept.first.min(other.first);
            kept.last = kept.last.max(other.last);
            kept.count += other.count;
            kept.dropped += other.dropped;
        }
        same
    });
    let now = report.map.to_local(clock::realtime());
    Some(all.iter().map(|one| client(one, now)).collect())
}

fn client(client: &RecentClient, now: WallInstant) -> Client {
    let count = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
    let gaps = client.count.saturating_sub(1);
    let span_s = (client.last - client.first).as_seconds();
    let since_s = (now - client.last).as_seconds();
    Client {
        address: client.address.ip().to_canonical(),
        hits: count(client.count),
        drops: count(client.dropped),
        // chronyd counts in sixteenths of a second, so it tells of none below half of that.
        interval: (gaps > 0).then(|| {
            let mean_s = (span_s / gaps as f64).max(1e-9);
            mean_s.log2().round().clamp(-5.0, 30.0) as i8
        }),
        since_s: since_s.clamp(0.0, f64::from(u32::MAX - 1)) as u32,
    }
}

/// `rtcdata`; none: nobody looks after the real-time clock.
pub fn rtc(report: &Report) -> Option<Rtc> {
    report.rtc.map(|rtc| Rtc {
        at_unix_ns: rtc.at_unix_ns,
        samples: u16::try_from(rtc.samples).unwrap_or(u16::MAX),
        span_s: rtc.span_s.round() as u32,
        ahead_s: rtc.offset_s,
        gain_ppm: rtc.rate.0,
    })
}

/// `manual list`.
pub fn manual_samples(report: &Report) -> Vec<ManualSample> {
    let samples = &report.node.system.detail.manual_samples;
    samples
        .iter()
        .map(|sample| ManualSample {
            when_unix_ns: sample.when_unix_ns,
            slewed_offset_s: opposite(sample.left_s),
            offset_s: opposite(sample.offset_s),
            residual_s: opposite(sample.residual_s),
        })
        .collect()
}

/// `tracking`, with the name of whom we follow.
pub fn named_tracking(report: &Report) -> Named<Tracking> {
    let data = tracking(report);
    let source = source_at(report, data.address);
    Named {
        name: source.map_or_else(String::new, |source| source.name.clone()),
        data,
    }
}

/// For each source: its name, and what `make` makes of it.
pub fn named<T>(report: &Report, make: impl Fn(u32, &SourceReport) -> T) -> Vec<Named<T>> {
    let sources = sources(report);
    sources
        .map(|(index, source)| Named {
            name: source.name.clone(),
            data: make(index, source),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::status::tests::example;

    #[test]
    fn a_reference_clock_goes_by_its_identifier() {
        let mut report = example();
        let source = &mut report.node.sources[0];
        (source.kind, source.address, source.reply) = (CLOCK, None, None);
        source.refid = "PHC".to_owned();
        source.detail.samples = 4;
        source.recent = vec![SampleReport {
            offset_s: 1e-6,
            delay_s: 2e-6,
            dispersion_s: 3e-6,
            age_s: 1.0,
        }];
        let refid = u32::from_be_bytes(*b"PHC\0");
        let source = &report.node.sources[0];
        let data = source_data(0, source);
        assert_eq!(data.address, Address::Ip(Ipv4Addr::from(refid).into()));
        assert_eq!(data.mode, SourceMode::Reference);
        assert!((data.error_s - 4e-6).abs() < 1e-12);
        let stats = source_stats(0, source);
        assert_eq!((stats.refid, stats.address), (refid, Address::Unspecified));
        assert_eq!(select_data(0, source).leap, 0);
        assert_eq!(activity(&report), Activity::default());
        assert!(source_at(&report, Address::Id(1)).is_none());
    }

    #[test]
    fn signs_are_chronys() {
        let report = example();
        let tracking = tracking(&report);
        // Behind by -1.5 µs is ahead; corrected by -50.25 ppm is a clock that gains.
        assert_eq!(tracking.correction_s, -1.5e-6);
        assert_eq!(tracking.frequency_ppm, 50.25);
        let stats = source_stats(0, source(&report, 0).unwrap());
        assert_eq!(stats.offset_s, 1.5e-6);
        assert_eq!(stats.refid, 0xc000_0201);
        let select = select_data(0, source(&report, 0).unwrap());
        assert!(select.low_s < stats.offset_s && stats.offset_s < select.high_s);
        assert_eq!(select.state, b'*');
    }

    #[test]
    fn what_is_not_synchronised_names_nobody() {
        let mut report = example();
        report.node.system.sync = false;
        report.node.system.leap = "unknown".to_owned();
        let before = tracking(&report);
        assert_eq!((before.refid, before.stratum, before.leap), (0, 0, 3));
        assert_eq!(before.address, Address::Unspecified);
        report.node.system.sync = true;
        report.node.system.source = Some(LOCAL.to_owned());
        assert_eq!(tracking(&report).refid, REFID_LOCAL);
    }

    #[test]
    fn sources_without_an_address_go_by_number_and_the_local_clock_not_at_all() {
        let mut report = example();
        let mut silent = report.node.sources[0].clone();
        silent.address = None;
        let mut local = silent.clone();
        local.kind = 'l';
        report.node.sources.extend([local, silent]);
        assert_eq!(sources(&report).count(), 2);
        let found = source_at(&report, Address::Id(2)).expect("the second");
        assert_eq!(found.address, None);
        assert_eq!(activity(&report).unresolved, 1);
        assert!(source_at(&report, Address::Unspecified).is_none());
    }
}

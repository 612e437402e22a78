//! `ptntp tracking`, `sources` and `sourcestats`: the texts of `chronyc`, and its comma
//! separated values, character for character. Offsets are chrony's way around here:
//! positive when the local clock is ahead.

use std::process::ExitCode;

use crate::cli::args::ReportArgs;
use crate::cli::ask;
use crate::cli::render;
use crate::daemon::reports::Named;
use crate::wire::candm::{Address, SourceData, SourceMode, SourceState, SourceStats, Tracking};

/// Width of a name in the tables.
const NAME_WIDTH: usize = 25;

/// Asks for `tracking` and prints it.
pub fn tracking(args: &ReportArgs) -> ExitCode {
    print("tracking", args, |tracking: &Named<Tracking>| {
        tracking_text(tracking, args.numeric, args.csv)
    })
}

/// Asks for `sources` and prints them.
pub fn sources(args: &ReportArgs) -> ExitCode {
    print("sources", args, |sources: &Vec<Named<SourceData>>| {
        sources_text(sources, args)
    })
}

/// Asks for `sourcestats` and prints them.
pub fn source_stats(args: &ReportArgs) -> ExitCode {
    print("sourcestats", args, |stats: &Vec<Named<SourceStats>>| {
        stats_text(stats, args)
    })
}

fn print<T: serde::de::DeserializeOwned>(
    command: &str,
    args: &ReportArgs,
    text: impl Fn(&T) -> String,
) -> ExitCode {
    match ask::parsed(&args.control, command) {
        Ok((report, json)) => {
            ask::print(&if args.control.json {
                format!("{json}\n")
            } else {
                text(&report)
            });
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("ptntp {command}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn tracking_text(named: &Named<Tracking>, numeric: bool, csv: bool) -> String {
    let t = &named.data;
    let name = match t.address {
        Address::Unspecified => refid_letters(t.refid),
        address => name_of(&named.name, address, numeric),
    };
    let leap = match t.leap {
        0 => "Normal",
        1 => "Insert second",
        2 => "Delete second",
        3 => "Not synchronised",
        _ => "Invalid",
    };
    if csv {
        let (s, ns) = whole_seconds(t.reference_unix_ns);
        return format!(
            "{:08X},{name},{},{s}.{ns:09},{:.9},{:.9},{:.9},{:.3},{:.3},{:.3},{:.9},{:.9},{:.1},{leap}\n",
            t.refid,
            t.stratum,
            t.correction_s,
            t.last_offset_s,
            t.rms_offset_s,
            t.frequency_ppm,
            t.residual_ppm,
            t.skew_ppm,
            t.root_delay_s,
            t.root_dispersion_s,
            t.update_interval_s,
        );
    }
    format!(
        "Reference ID    : {:08X} ({name})\n\
         Stratum         : {}\n\
         Ref time (UTC)  : {}\n\
         System time     : {:.9} seconds {} of NTP time\n\
         Last offset     : {:+.9} seconds\n\
         RMS offset      : {:.9} seconds\n\
         Frequency       : {:.3} ppm {}\n\
         Residual freq   : {:+.3} ppm\n\
         Skew            : {:.3} ppm\n\
         Root delay      : {:.9} seconds\n\
         Root dispersion : {:.9} seconds\n\
         Update interval : {:.1} seconds\n\
         Leap status     : {leap}\n",
        t.refid,
        t.stratum,
        date(t.reference_unix_ns),
        t.correction_s.abs(),
        if t.correction_s > 0.0 { "slow" } else { "fast" },
        t.last_offset_s,
        t.rms_offset_s,
        t.frequency_ppm.abs(),
        if t.frequency_ppm > 0.0 {
            "fast"
        } else {
            "slow"
        },
        t.residual_ppm,
        t.skew_ppm,
        t.root_delay_s,
        t.root_dispersion_s,
        t.update_interval_s,
    )
}

const SOURCES_LEGEND: &str = "
  .-- Source mode  '^' = server, '=' = peer, '#' = local clock.
 / .- Source state '*' = current best, '+' = combined, '-' = not combined,
| /             'x' = may be in error, '~' = too variable, '?' = unusable.
||                                                 .- xxxx [ yyyy ] +/- zzzz
||      Reachability register (octal) -.           |  xxxx = adjusted offset,
||      Log2(Polling interval) --.      |          |  yyyy = measured offset,
||                                \\     |          |  zzzz = estimated error.
||                                 |    |           \\
";

fn sources_text(sources: &[Named<SourceData>], args: &ReportArgs) -> String {
    let mut text = heading(
        args,
        SOURCES_LEGEND,
        "MS Name/IP address         Stratum Poll Reach LastRx Last sample               ",
    );
    for named in shown(sources, args, |data| data.address) {
        let data = &named.data;
        let name = name_of(&named.name, data.address, args.numeric || args.csv);
        let mode = match data.mode {
            SourceMode::Server => '^',
            SourceMode::Peer => '=',
            SourceMode::Reference => '#',
        };
        let state = match data.state {
            SourceState::Selected => '*',
            SourceState::NonSelectable => '?',
            SourceState::Falseticker => 'x',
            SourceState::Jittery => '~',
            SourceState::Unselected => '+',
            SourceState::Selectable => '-',
        };
        text.push_str(&if args.csv {
            format!(
                "{mode},{state},{name},{},{},{:o},{},{:.9},{:.9},{:.9}\n",
                data.stratum,
                data.poll,
                data.reach,
                data.since_sample_s.unwrap_or(u32::MAX),
                data.adjusted_s,
                data.measured_s,
                data.error_s,
            )
        } else {
            format!(
                "{mode}{state} {:27}  {:2}  {:2}   {:3o}  {}  {}[{}] +/- {}\n",
                cut(&name),
                data.stratum,
                data.poll,
                data.reach,
                interval(data.since_sample_s),
                signed(data.adjusted_s),
                signed(data.measured_s),
                unsigned(data.error_s),
            )
        });
    }
    text
}

const STATS_LEGEND: &str =
    "                             .- Number of sample points in measurement set.
                            /    .- Number of residual runs with same sign.
                           |    /    .- Length of measurement set (time).
                           |   |    /      .- Est. clock freq error (ppm).
                           |   |   |      /           .- Est. error in freq.
                           |   |   |     |           /         .- Est. offset.
                           |   |   |     |          |          |   On the -.
                           |   |   |     |          |          |   samples. \\
                           |   |   |     |          |          |             |
";

fn stats_text(stats: &[Named<SourceStats>], args: &ReportArgs) -> String {
    let mut text = heading(
        args,
        STATS_LEGEND,
        "Name/IP Address            NP  NR  Span  Frequency  Freq Skew  Offset  Std Dev",
    );
    for named in shown(stats, args, |data| data.address) {
        let data = &named.data;
        let name = name_of(&named.name, data.address, args.numeric || args.csv);
        text.push_str(&if args.csv {
            format!(
                "{name},{},{},{},{:.3},{:.3},{:.9},{:.9}\n",
                data.samples,
                data.runs,
                data.span_s,
                data.residual_ppm,
                data.skew_ppm,
                data.offset_s,
                data.deviation_s,
            )
        } else {
            let ppm = |value: f64| usize::from(value.abs() < 99999.5) * 3;
            format!(
                "{:25} {:3} {:3}  {} {:+10.*} {:10.*}  {}  {}\n",
                cut(&name),
                data.samples,
                data.runs,
                interval(Some(data.span_s)),
                ppm(data.residual_ppm),
                data.residual_ppm,
                ppm(data.skew_ppm),
                data.skew_ppm,
                signed(data.offset_s),
                unsigned(data.deviation_s),
            )
        });
    }
    text
}

fn heading(args: &ReportArgs, legend: &str, columns: &str) -> String {
    if args.csv {
        return String::new();
    }
    let legend = if args.verbose { legend } else { "" };
    format!("{legend}{columns}\n{}\n", "=".repeat(columns.len()))
}

/// Sources without an address are for those who ask for all.
fn shown<'a, T>(
    all: &'a [Named<T>],
    args: &ReportArgs,
    address: impl Fn(&T) -> Address,
) -> impl Iterator<Item = &'a Named<T>> {
    let with_all = args.all;
    all.iter()
        .filter(move |named| with_all || !matches!(address(&named.data), Address::Id(_)))
}

fn name_of(name: &str, address: Address, numeric: bool) -> String {
    match address {
        Address::Ip(ip) if numeric => ip.to_string(),
        Address::Id(id) if numeric => format!("ID#{id:010}"),
        _ => render::printable(name),
    }
}

/// A name too long for its column ends with `>`.
fn cut(name: &str) -> String {
    if name.chars().count() <= NAME_WIDTH {
        return name.to_owned();
    }
    let kept: String = name.chars().take(NAME_WIDTH - 1).collect();
    kept + ">"
}

/// The printable characters of a refid, as chronyc shows those that name no address.
fn refid_letters(refid: u32) -> String {
    let octets = refid.to_be_bytes();
    let end = octets.iter().position(|&o| o == 0).unwrap_or(4);
    let graphic = octets[..end]
        .iter()
        .filter(|octet| octet.is_ascii_graphic());
    graphic.map(|&octet| char::from(octet)).collect()
}

/// Seconds, minutes, hours, days, years in four columns.
fn interval(seconds: Option<u32>) -> String {
    match seconds {
        None => "   -".to_owned(),
        Some(s @ ..1200) => format!("{s:4}"),
        Some(s @ ..36_000) => format!("{:3}m", s / 60),
        Some(s @ ..345_600) => format!("{:3}h", s / 3600),
        Some(s) if s / 86_400 > 999 => format!("{:3}y", s / 86_400 / 365),
        Some(s) => format!("{:3}d", s / 86_400),
    }
}

/// The scale that suits a duration: its limit, factor, decimals, unit.
const SCALES: [(f64, f64, usize, &str); 9] = [
    (9999.5e-9, 1e9, 0, "ns"),
    (9999.5e-6, 1e6, 0, "us"),
    (9999.5e-3, 1e3, 0, "ms"),
    (999.5, 1.0, 1, "s"),
    (99_999.5, 1.0, 0, "s"),
    (99_999.5 * 60.0, 1.0 / 60.0, 0, "m"),
    (99_999.5 * 3600.0, 1.0 / 3600.0, 0, "h"),
    (99_999.5 * 86_400.0, 1.0 / 86_400.0, 0, "d"),
    (f64::INFINITY, 1.0 / 31_536_000.0, 0, "y"),
];

fn scale(seconds: f64) -> (f64, usize, &'static str) {
    let found = SCALES.iter().find(|(limit, ..)| seconds.abs() < *limit);
    let &(_, factor, decimals, unit) = found.unwrap_or(&SCALES[SCALES.len() - 1]);
    (seconds * factor, decimals, unit)
}

/// Six columns.
fn unsigned(seconds: f64) -> String {
    let (value, decimals, unit) = scale(seconds.abs());
    let width = 6 - unit.len();
    format!("{value:width$.decimals$}{unit}")
}

/// Seven columns.
fn signed(seconds: f64) -> String {
    let (value, decimals, unit) = scale(seconds);
    let width = 7 - unit.len();
    format!("{value:+width$.decimals$}{unit}")
}

fn whole_seconds(unix_ns: i64) -> (i64, i64) {
    (
        unix_ns.div_euclid(1_000_000_000),
        unix_ns.rem_euclid(1_000_000_000),
    )
}

/// `Sun Nov 22 15:40:02 2026`, of UTC.
fn date(unix_ns: i64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let (seconds, _) = whole_seconds(unix_ns);
    let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Years begin in March, so that a leap day is the last of its year; eras of 400 years
    // have all the same days.
    let since_march_0000 = days + 719_468;
    let era = since_march_0000.div_euclid(146_097);
    let day_of_era = since_march_0000.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12;
    let year = era * 400 + year_of_era + i64::from(month < 2);
    format!(
        "{} {} {day:02} {:02}:{:02}:{:02} {year}",
        DAYS[days.rem_euclid(7) as usize],
        MONTHS[month as usize],
        of_day / 3600,
        of_day / 60 % 60,
        of_day % 60,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::ControlArgs;

    fn args(csv: bool) -> ReportArgs {
        ReportArgs {
            control: ControlArgs {
                control: None,
                json: false,
            },
            numeric: true,
            csv,
            verbose: false,
            all: false,
        }
    }

    fn source() -> Named<SourceData> {
        Named {
            name: "ntp.example.net".to_owned(),
            data: SourceData {
                address: Address::Ip("192.0.2.1".parse().unwrap()),
                poll: 6,
                stratum: 1,
                state: SourceState::Selected,
                mode: SourceMode::Server,
                reach: 0o377,
                since_sample_s: Some(12),
                measured_s: 0.046612751,
                adjusted_s: 0.000000228,
                error_s: 0.000004271,
            },
        }
    }

    #[test]
    fn sources_are_chronycs() {
        let text = sources_text(&[source()], &args(false));
        let row = "^* 192.0.2.1                     1   6   377    12   +228ns[  +47ms] +/- 4271ns";
        assert_eq!(text.lines().nth(2), Some(row));
        assert_eq!(
            sources_text(&[source()], &args(true)),
            "^,*,192.0.2.1,1,6,377,12,0.000000228,0.046612751,0.000004271\n"
        );
        let mut silent = source();
        silent.data.address = Address::Id(2);
        silent.data.since_sample_s = None;
        assert_eq!(sources_text(&[silent.clone()], &args(true)), "");
        let all = ReportArgs {
            all: true,
            ..args(false)
        };
        let text = sources_text(&[silent], &all);
        assert!(text.contains("* ID#0000000002  "), "{text}");
    }

    #[test]
    fn statistics_are_chronycs() {
        let stats = Named {
            name: "a-name-that-does-not-fit.example.net".to_owned(),
            data: SourceStats {
                refid: 0,
                address: Address::Ip("192.0.2.1".parse().unwrap()),
                samples: 6,
                runs: 3,
                span_s: 1300,
                deviation_s: 8078e-9,
                residual_ppm: -0.0004,
                skew_ppm: 123_456.0,
                offset_s: -1.5,
                offset_error_s: 0.0,
            },
        };
        let named = ReportArgs {
            numeric: false,
            ..args(false)
        };
        let text = stats_text(std::slice::from_ref(&stats), &named);
        let row = "a-name-that-does-not-fit>   6   3   21m     -0.000     123456  -1500ms  8078ns";
        assert_eq!(text.lines().nth(2), Some(row));
        assert_eq!(
            stats_text(&[stats], &args(true)),
            "192.0.2.1,6,3,1300,-0.000,123456.000,-1.500000000,0.000008078\n"
        );
    }

    #[test]
    fn tracking_is_chronycs() {
        let tracking = Named {
            name: "ntp.example.net".to_owned(),
            data: Tracking {
                refid: 0xc000_0201,
                address: Address::Ip("192.0.2.1".parse().unwrap()),
                stratum: 2,
                leap: 0,
                reference_unix_ns: 1_795_362_002_471_873_080,
                correction_s: -0.046190783,
                last_offset_s: 0.046612728,
                rms_offset_s: 0.049457554,
                frequency_ppm: 9.961,
                residual_ppm: -0.0001,
                skew_ppm: 0.202,
                root_delay_s: 0.000008392,
                root_dispersion_s: 0.046614531,
                update_interval_s: 3.0,
            },
        };
        let text = tracking_text(&tracking, false, false);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "Reference ID    : C0000201 (ntp.example.net)");
        assert_eq!(lines[2], "Ref time (UTC)  : Sun Nov 22 15:40:02 2026");
        assert_eq!(
            lines[3],
            "System time     : 0.046190783 seconds fast of NTP time"
        );
        assert_eq!(lines[6], "Frequency       : 9.961 ppm fast");
        assert_eq!(lines[7], "Residual freq   : -0.000 ppm");
        assert_eq!(
            tracking_text(&tracking, true, true),
            "C0000201,192.0.2.1,2,1795362002.471873080,-0.046190783,0.046612728,0.049457554,\
             9.961,-0.000,0.202,0.000008392,0.046614531,3.0,Normal\n"
        );
    }

    #[test]
    fn scales_and_dates() {
        for (seconds, text) in [
            (0.0, "   0ns"),
            (9999.4e-9, "9999ns"),
            (9999.6e-9, "  10us"),
            (0.3, " 300ms"),
            (9.9996, " 10.0s"),
            (1000.0, " 1000s"),
            (200_000.0, " 3333m"),
            (5e9, "57870d"),
            (1e11, " 3171y"),
        ] {
            assert_eq!(unsigned(seconds), text, "{seconds}");
        }
        assert_eq!(signed(-0.3), " -300ms");
        assert_eq!(date(0), "Thu Jan 01 00:00:00 1970");
        assert_eq!(date(951_782_400_000_000_000), "Tue Feb 29 00:00:00 2000");
        assert_eq!(date(-1), "Wed Dec 31 23:59:59 1969");
        assert_eq!(interval(Some(86_400_000)), "  2y");
        assert_eq!(refid_letters(0x4750_5300), "GPS");
    }
}

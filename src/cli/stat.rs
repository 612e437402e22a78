//! `ptntp stat`: the sentence of ntpstat, and its exit codes.

use std::net::IpAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::cli::args::StatArgs;
use crate::cli::ask;
use crate::cli::render;
use crate::daemon::status::Status;
use crate::node::report::{LOCAL, SystemReport};

/// ntpstat's codes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The clock is good enough to be served.
    Synchronised = 0,
    /// The service runs, but its clock is not.
    Unsynchronised = 1,
    /// Nobody answers on the control socket.
    Unreachable = 2,
}

/// What a wrong command line ends with; clap's own code means "unreachable" here.
pub const EXIT_USAGE: u8 = 3;

/// Asks and prints; with `--wait`, until the clock is synchronised.
pub fn run(args: &StatArgs) -> ExitCode {
    let patience = Duration::from_secs(args.wait.unwrap_or(0).into());
    let start = Instant::now();
    loop {
        let (verdict, text) = match ask::stat(&args.control) {
            Ok((status, json)) => (
                verdict(&status.system, args.wait.is_some()),
                Ok(show(args, &status, &json)),
            ),
            Err(error) => (Verdict::Unreachable, Err(error)),
        };
        if verdict == Verdict::Synchronised || start.elapsed() >= patience {
            match text {
                Ok(text) => ask::print(&text),
                Err(error) => eprintln!("ptntp stat: {error}"),
            }
            if let (Some(seconds), Verdict::Unsynchronised) = (args.wait, verdict) {
                eprintln!(
                    "ptntp stat: no server was followed within {seconds} s; `ptntp peers` shows \
                     how they answer"
                );
            }
            return ExitCode::from(verdict as u8);
        }
        std::thread::sleep(PAUSE.min(patience.saturating_sub(start.elapsed())));
    }
}

/// Between two questions of `--wait`.
const PAUSE: Duration = Duration::from_millis(500);

fn show(args: &StatArgs, status: &Status, json: &str) -> String {
    if args.control.json {
        format!("{json}\n")
    } else if args.verbose {
        sentence(&status.system) + &details(status)
    } else {
        sentence(&status.system)
    }
}

/// Who waits, waits for time from elsewhere (as time-sync.target is defined): the
/// local clock's own is there from the start.
fn verdict(system: &SystemReport, waiting: bool) -> Verdict {
    if system.sync && !(waiting && system.source.as_deref() == Some(LOCAL)) {
        Verdict::Synchronised
    } else {
        Verdict::Unsynchronised
    }
}

/// ntpstat's lines, word for word.
pub fn sentence(system: &SystemReport) -> String {
    let mut text = if system.sync {
        let source = match system.source.as_deref() {
            None | Some(LOCAL) => "local net".to_owned(),
            Some(name) if name.parse::<IpAddr>().is_err() => {
                format!("reference clock ({})", render::printable(name))
            }
            Some(address) => format!("NTP server ({})", render::printable(address)),
        };
        let distance_s = system.root_delay_s / 2.0 + system.root_dispersion_s;
        format!(
            "synchronised to {source} at stratum {}\n   time correct to within {} ms\n",
            system.stratum,
            milliseconds_above(distance_s)
        )
    } else {
        "unsynchronised\n".to_owned()
    };
    if let Some(poll_s) = system.poll_s {
        text.push_str(&format!("   polling server every {} s\n", poll_s.ceil()));
    }
    text
}

/// Whole milliseconds, as ntpstat's readers expect them; but never fewer than there are,
/// where ntpstat rounds to the nearest, and says 0 on a LAN.
fn milliseconds_above(seconds: f64) -> f64 {
    // What arithmetic adds to a whole number is no reason for another.
    let milliseconds = (seconds * 1e3 - 1e-6).ceil();
    milliseconds.max(1.0)
}

/// What `--verbose` adds.
fn details(status: &Status) -> String {
    let system = &status.system;
    let row = |name: &str, value: String| vec![format!("   {name}"), value];
    let frequency = match system.skew_ppm {
        Some(skew) => format!("{:+.3} ppm ± {skew:.3}", system.frequency_ppm),
        None => format!("{:+.3} ppm", system.frequency_ppm),
    };
    let mut rows = vec![
        row("offset", render::seconds(system.offset_s)),
        row("jitter", render::seconds(system.jitter_s)),
        row("frequency correction", frequency),
        row("error bound", render::seconds(system.error_bound_s)),
        row("error likely below", render::seconds(system.error_likely_s)),
        row("root delay", render::seconds(Some(system.root_delay_s))),
        row(
            "root dispersion",
            render::seconds(Some(system.root_dispersion_s)),
        ),
        row("leap", render::printable(&system.leap)),
        row("refid", render::printable(&system.refid)),
        row("steps", system.steps.to_string()),
    ];
    if system.foreign_steps > 0 {
        rows.push(row(
            "steps by another hand",
            system.foreign_steps.to_string(),
        ));
    }
    if let Some(error) = status.true_error_s {
        rows.push(row("true error", render::seconds(Some(error))));
    }
    for link in &status.xdp {
        let text = match (&link.mode, &link.problem) {
            (Some(mode), _) => format!("{}, {mode}", link.interface),
            (None, problem) => format!(
                "not {}: {}",
                link.interface,
                problem.as_deref().unwrap_or("nobody knows why")
            ),
        };
        rows.push(row("answers by XDP", render::printable(&text)));
    }
    for sentence in &status.degraded {
        rows.push(row("does without", render::printable(sentence)));
    }
    render::columns(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::status::{ClockKind, IoBackend};

    /// A system in good order, as the service sends it.
    fn good() -> SystemReport {
        SystemReport {
            sync: true,
            source: Some("192.0.2.1".to_owned()),
            leap: "none".to_owned(),
            stratum: 3,
            refid: "192.0.2.1".to_owned(),
            reference_unix_s: Some(1_800_000_000.5),
            offset_s: Some(-12.3e-6),
            frequency_ppm: -49.987,
            skew_ppm: Some(0.012),
            jitter_s: Some(4e-6),
            root_delay_s: 0.010,
            root_dispersion_s: 0.0034,
            error_bound_s: Some(0.0084),
            error_likely_s: Some(20e-6),
            poll_s: Some(64.0),
            precision: -24,
            steps: 1,
            foreign_steps: 0,
            detail: Default::default(),
        }
    }

    #[test]
    fn the_sentence_is_ntpstats() {
        assert_eq!(
            sentence(&good()),
            "synchronised to NTP server (192.0.2.1) at stratum 3\n   \
             time correct to within 9 ms\n   polling server every 64 s\n"
        );
    }

    #[test]
    fn the_local_clock_is_called_local_net_and_not_waited_for() {
        let mut system = good();
        system.source = Some(LOCAL.to_owned());
        system.poll_s = None;
        assert_eq!(verdict(&system, false), Verdict::Synchronised);
        assert_eq!(verdict(&system, true), Verdict::Unsynchronised);
        assert_eq!(
            sentence(&system),
            "synchronised to local net at stratum 3\n   time correct to within 9 ms\n"
        );
    }

    #[test]
    fn the_time_is_never_called_better_than_it_is() {
        for (seconds, milliseconds) in [
            (0.0, 1.0),
            (20e-6, 1.0),
            (0.001, 1.0),
            (0.0011, 2.0),
            (0.008 + 0.001, 9.0),
            (1.2345, 1235.0),
        ] {
            assert_eq!(milliseconds_above(seconds), milliseconds, "{seconds}");
        }
    }

    #[test]
    fn a_clock_that_is_read_is_no_server() {
        let mut system = good();
        system.source = Some("PHC0".to_owned());
        assert!(sentence(&system).starts_with("synchronised to reference clock (PHC0) at"));
    }

    #[test]
    fn without_time_it_says_unsynchronised() {
        let mut system = good();
        system.sync = false;
        system.source = None;
        system.poll_s = None;
        assert_eq!(sentence(&system), "unsynchronised\n");
        assert_eq!(verdict(&system, false), Verdict::Unsynchronised);
    }

    fn status() -> Status {
        Status {
            system: good(),
            clock: ClockKind::Virtual,
            io: IoBackend::Poll,
            degraded: Vec::new(),
            true_error_s: None,
            version: "0".to_owned(),
            pid: 1,
            uptime_s: 1.0,
            reloads: Default::default(),
            serving: Vec::new(),
            cards: Vec::new(),
            xdp: Vec::new(),
        }
    }

    #[test]
    fn details_show_the_true_error_where_it_is_known() {
        let mut status = status();
        let plain = details(&status);
        assert!(
            plain.contains("   offset                -12.300 µs\n"),
            "{plain}"
        );
        assert!(!plain.contains("true error"));
        status.true_error_s = Some(0.25e-3);
        let text = details(&status);
        assert!(
            text.contains("   true error            250.000 µs\n"),
            "{text}"
        );
    }

    #[test]
    fn fields_of_later_versions_do_not_disturb() {
        let mut value = serde_json::to_value(status()).unwrap();
        value["from_the_future"] = 1.into();
        value["true_error_s"] = 0.5.into();
        let status: Status = serde_json::from_value(value).unwrap();
        assert_eq!(status.true_error_s, Some(0.5));
        assert_eq!(status.system, good());
    }
}

//! `ptntp run`: the command line and the configuration file become the daemon's
//! [`Options`].

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use log::{Level, error};

use crate::cli::args::{Metrics, RunArgs};
use crate::config::diagnostic::{Diagnostic, Severity};
use crate::config::dialect::Dialect;
use crate::config::load::{Loaded, load, load_text};
use crate::config::regular;
use crate::config::xdp::{XdpConfig, XdpLine};
use crate::config::{Config, Listen};
use crate::daemon::errands::End;
use crate::daemon::options::{ClockChoice, Options, Reload};
use crate::daemon::run::run as daemon;

/// Exit status where the clock is beyond the panic limit: systemd/ptntp.service does
/// not start it again then.
const EXIT_PANIC: u8 = 3;

/// Starts the daemon and stays until it ends.
pub fn run(args: &RunArgs) -> ExitCode {
    let options = match options(args) {
        Ok(options) => options,
        Err(text) => {
            eprintln!("{text}");
            return ExitCode::FAILURE;
        }
    };
    // The daemon has started to log, so the journal is told how bad it is.
    match daemon(options) {
        Ok(End::Good) => ExitCode::SUCCESS,
        Ok(End::Bad(text)) | Err(text) => {
            error!("{text}");
            ExitCode::FAILURE
        }
        Ok(End::Panic(text)) => {
            error!("{text}");
            ExitCode::from(EXIT_PANIC)
        }
    }
}

/// What to name the command line's lines by in diagnostics.
const COMMAND_LINE: &str = "--server, --pool, --xdp";

/// Everything read and merged, the command line over the file; or all that is
/// wrong, ready to be printed.
pub fn options(args: &RunArgs) -> Result<Options, String> {
    let mut remarks = Vec::new();
    let mut config = match &args.config {
        Some(file) => taken(load(file, args.dialect), &mut remarks)?,
        None => Config::default(),
    };
    if let Some(text) = command_lines(args)? {
        let named = load_text(Path::new(COMMAND_LINE), &text, Dialect::Ntp);
        let named = taken(named, &mut remarks)?;
        config.sources.extend(named.sources);
        config.local_clock = config.local_clock.or(named.local_clock);
        add_xdp(&mut config.xdp, named.xdp);
    }
    if args.config.is_none() && config.sources.is_empty() && config.local_clock.is_none() {
        let text = "no source is named, so nobody is asked the time; name one with --server NAME, \
                    or a configuration file with -c FILE";
        remarks.push((Level::Warn, text.to_owned()));
    }
    let clock = match (args.clock, args.no_clock) {
        (Some(clock), _) => clock,
        (None, false) if args.config.is_some() => ClockChoice::System,
        (None, false) => {
            let text = "without -c the clock is observed, not steered; --clock system steers it";
            remarks.push((Level::Info, text.to_owned()));
            ClockChoice::None
        }
        (None, true) => ClockChoice::None,
    };
    config.step.first_unlimited |= args.panicgate;
    config.port = args.port.or(config.port);
    config.busy_poll |= args.busy_poll;
    if !config.xdp.lines.is_empty() && config.listen == Listen::Loopback {
        let text = "xdp: only this machine is served without a configuration file, so no interface \
                    has anything to do; name a file with -c FILE";
        remarks.push((Level::Warn, text.to_owned()));
    }
    config.control = args.control.clone().or(config.control);
    config.metrics = match args.metrics {
        None => config.metrics,
        Some(Metrics::Off) => None,
        Some(Metrics::At(address)) => Some(address),
    };
    Ok(Options {
        config,
        clock,
        io: args.io,
        log_level: args.log_level,
        once: args.once,
        from_rtc: args.from_rtc,
        remarks,
        reload: args.config.is_some().then(|| reload(args)),
    })
}

/// Reads it all again, when the daemon is told to.
fn reload(args: &RunArgs) -> Reload {
    let args = args.clone();
    Reload(Arc::new(move || {
        // A pipe is empty by now, which is no order to forget everything.
        if let Some(path) = &args.config {
            regular::check(path).map_err(|error| {
                format!(
                    "{}: {error}, so it can't be read again; restart with -c and a regular file",
                    path.display()
                )
            })?;
        }
        let options = options(&args)?;
        Ok((options.config, options.remarks))
    }))
}

/// Sources and interfaces of the command line as lines of an ntp.conf, so that both mean
/// the same by the same words. Whoever types a name wants to see time soon:
/// hence `iburst`.
fn command_lines(args: &RunArgs) -> Result<Option<String>, String> {
    let servers = args.server.iter().map(|name| ("server", name));
    let pools = args.pool.iter().map(|name| ("pool", name));
    let mut text = String::new();
    for line in &args.xdp {
        if line.trim().is_empty() || line.contains(['\n', '\r', '#']) {
            return Err(format!(
                "--xdp '{}': expected an interface, and options of `xdp`",
                line.escape_debug()
            ));
        }
        text.push_str(&format!("xdp {line}\n"));
    }
    for (word, source) in servers.chain(pools) {
        if source.trim().is_empty() || source.contains(['\n', '\r', '#']) {
            return Err(format!(
                "--{word} '{}': expected a name or an address, and options of ntp.conf",
                source.escape_debug()
            ));
        }
        let iburst = if source.split_whitespace().any(|word| word == "iburst") {
            ""
        } else {
            " iburst"
        };
        text.push_str(&format!("{word} {source}{iburst}\n"));
    }
    Ok(Some(text).filter(|text| !text.is_empty()))
}

/// An interface that the file names too is as the command line says.
fn add_xdp(config: &mut XdpConfig, named: XdpConfig) {
    let is_named = |line: &XdpLine| named.lines.iter().any(|n| n.interface == line.interface);
    config.lines.retain(|line| !is_named(line));
    config.lines.extend(named.lines);
    config.prefixes = config.prefixes.max(named.prefixes);
}

/// The configuration, its warnings moved into `remarks`; or its errors as text.
fn taken(
    loaded: Result<Loaded, Vec<Diagnostic>>,
    remarks: &mut Vec<(Level, String)>,
) -> Result<Config, String> {
    let loaded = loaded.map_err(|diagnostics| {
        let lines: Vec<String> = diagnostics.iter().map(Diagnostic::to_string).collect();
        lines.join("\n")
    })?;
    remarks.extend(loaded.notes.iter().map(remark));
    Ok(loaded.config)
}

/// On one line, for the log.
fn remark(note: &Diagnostic) -> (Level, String) {
    let level = match note.severity {
        Severity::Note => Level::Info,
        Severity::Warning | Severity::Error => Level::Warn,
    };
    let help = note.help.as_deref().map(|help| format!("; {help}"));
    let text = format!(
        "{}: {}{}",
        note.location,
        note.message,
        help.unwrap_or_default()
    );
    (level, text)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsRawFd;
    use std::path::PathBuf;

    use clap::Parser;

    use super::*;
    use crate::cli::args::{Cli, Command};
    use crate::config::xdp::Mode;
    use crate::config::{LocalClock, METRICS_DEFAULT, SourceKind};
    use crate::time::duration::NtpDuration;
    use crate::time::units::{PollExponent, Ppm};

    fn run(arguments: &[&str]) -> Result<Options, String> {
        let all = ["ptntp", "run"].iter().chain(arguments);
        match Cli::try_parse_from(all).unwrap().command {
            Command::Run(args) => options(&args),
            other => panic!("not run: {other:?}"),
        }
    }

    fn file(name: &str, text: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("ptntp-run-{}-{name}", std::process::id()));
        fs::write(&path, text).unwrap();
        path
    }

    fn run_with_file(name: &str, text: &str, arguments: &[&str]) -> Result<Options, String> {
        let path = file(name, text);
        let mut all = vec!["-c", path.to_str().unwrap()];
        all.extend(arguments);
        let result = run(&all);
        fs::remove_file(&path).unwrap();
        result
    }

    #[test]
    fn a_pipe_is_read_once() {
        let (read, write) = nix::unistd::pipe().unwrap();
        nix::unistd::write(&write, b"server 192.0.2.1\n").unwrap();
        drop(write);
        let path = format!("/dev/fd/{}", read.as_raw_fd());
        let options = run(&["-c", &path]).unwrap();
        assert_eq!(options.config.sources.len(), 1);
        let again = (options.reload.unwrap().0)().map(|_| ());
        assert!(again.unwrap_err().contains("it is a FIFO"));
    }

    #[test]
    fn without_a_file_it_observes_and_serves_loopback_only() {
        let options = run(&["--server", "ntp.example.net"]).unwrap();
        assert_eq!(options.clock, ClockChoice::None);
        assert_eq!(options.config.listen, Listen::Loopback);
        assert_eq!(options.config.metrics, Some(METRICS_DEFAULT));
        let [source] = &options.config.sources[..] else {
            panic!("{:?}", options.config.sources);
        };
        assert_eq!(source.name, "ntp.example.net");
        assert!(source.options.iburst);
        let options = run(&["--server", "a", "--clock", "system"]).unwrap();
        assert_eq!(options.clock, ClockChoice::System);
    }

    #[test]
    fn without_anything_it_says_that_it_has_no_source() {
        let options = run(&[]).unwrap();
        assert!(options.config.sources.is_empty());
        let said = |(_, text): &(Level, String)| text.contains("no source is named");
        assert!(options.remarks.iter().any(said), "{:?}", options.remarks);
    }

    #[test]
    fn a_source_may_bring_its_options() {
        let options = run(&[
            "--server",
            "192.0.2.1 port 1123 minpoll 0 iburst",
            "--pool",
            "pool.example.net",
        ]);
        let options = options.unwrap();
        let [server, pool] = &options.config.sources[..] else {
            panic!("{:?}", options.config.sources);
        };
        assert_eq!(server.options.port, 1123);
        assert_eq!(server.options.minpoll, PollExponent::new(0));
        assert_eq!(pool.kind, SourceKind::Pool);
        assert!(
            options
                .remarks
                .iter()
                .all(|(level, _)| *level == Level::Info)
        );
    }

    #[test]
    fn a_wrong_source_is_refused_with_a_sentence() {
        for source in ["", " ", "a\nrestrict default", "a perfer", "a minpoll x"] {
            let error = run(&["--server", source]).unwrap_err();
            assert!(error.contains("--server"), "{source}: {error}");
        }
    }

    #[test]
    fn a_file_steers_the_system_clock_unless_told_otherwise() {
        let text = "server 192.0.2.1\nfudge 127.127.1.0 stratum 3\nserver 127.127.1.0\n";
        let options = run_with_file("plain", text, &[]).unwrap();
        assert_eq!(options.clock, ClockChoice::System);
        assert_eq!(options.config.listen, Listen::Everywhere);
        assert_eq!(options.config.local_clock, Some(LocalClock { stratum: 3 }));
        let options = run_with_file("none", text, &["--no-clock"]).unwrap();
        assert_eq!(options.clock, ClockChoice::None);
        let options = run_with_file("virtual", text, &["--clock", "virtual:0.5,50"]).unwrap();
        assert_eq!(
            options.clock,
            ClockChoice::Virtual {
                error: NtpDuration::from_seconds(0.5),
                frequency: Ppm(50.0)
            }
        );
    }

    #[test]
    fn the_command_line_goes_over_the_file() {
        let text = "server 192.0.2.1\nport 1000\nmetrics off\n";
        let arguments = [
            "--server",
            "192.0.2.2",
            "--port",
            "2000",
            "--metrics",
            "9000",
            "--control",
            "/run/x.sock",
            "-g",
            "-q",
        ];
        let options = run_with_file("over", text, &arguments).unwrap();
        assert_eq!(options.config.sources.len(), 2);
        assert_eq!(options.config.port, Some(2000));
        assert_eq!(
            options.config.metrics,
            Some("127.0.0.1:9000".parse().unwrap())
        );
        assert_eq!(options.config.control, Some("/run/x.sock".into()));
        assert!(options.config.step.first_unlimited && options.once);
        let options = run_with_file("under", text, &[]).unwrap();
        assert_eq!(options.config.port, Some(1000));
        assert_eq!(options.config.metrics, None);
    }

    #[test]
    fn interfaces_are_added_with_their_options() {
        let text = "server 192.0.2.1\nxdp eth0\nxdp eth1\n";
        let arguments = ["--xdp", "eth0 mode generic", "--xdp", "eth2 prefixes 7"];
        let xdp = run_with_file("xdp", text, &arguments).unwrap().config.xdp;
        let lines = xdp.lines.iter();
        let lines: Vec<_> = lines.map(|l| (l.interface.word(), l.mode)).collect();
        assert_eq!(
            lines,
            [
                ("eth1", Mode::Native),
                ("eth0", Mode::Generic),
                ("eth2", Mode::Native)
            ]
        );
        assert_eq!(xdp.prefixes, Some(7));
        let options = run(&["--xdp", "eth0"]).unwrap();
        let said = |text: &str| options.remarks.iter().any(|(_, said)| said.contains(text));
        assert!(said("no source is named") && said("only this machine is served"));
        let error = run(&["--xdp", "eth0 mode fast"]).unwrap_err();
        assert!(error.contains("--xdp"), "{error}");
    }

    #[test]
    fn errors_of_a_file_name_file_and_line() {
        let error = run_with_file("wrong", "server 192.0.2.1 key 5\n", &[]).unwrap_err();
        assert!(error.contains("wrong:1: error"), "{error}");
        let error = run(&["-c", "/nonexistent/ntp.conf"]).unwrap_err();
        assert!(error.contains("/nonexistent/ntp.conf"), "{error}");
    }
}

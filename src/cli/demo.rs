//! `ptntp demo`: two real daemons on loopback, each with a clock in software.
//! The client's starts half a second ahead and runs 50 ppm fast; what is printed
//! is its true error, which only a virtual clock knows.

use std::fs::{self, DirBuilder, File};
use std::io::{self, IsTerminal};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cli::args::{ControlArgs, DemoArgs};
use crate::cli::ask;
use crate::cli::render;
use crate::daemon::status::Status;
use crate::linux::signal::Signals;

/// The goal: the mission's own figure.
const GOAL_S: f64 = 100e-6;
/// A clock that is pulled through zero is under the goal for a moment only, so
/// it has to be there this many looks in a row.
const LOOKS_BELOW_GOAL: u32 = 4;
/// From the client's start until we give up.
const PATIENCE: Duration = Duration::from_secs(60);
/// From the server's start until it has to serve time.
const SERVER_PATIENCE: Duration = Duration::from_secs(15);
/// Between two looks at the client.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// A line is printed at every fourth look.
const LOOKS_PER_LINE: u32 = 4;
/// A daemon that was asked to end gets this long.
const END_PATIENCE: Duration = Duration::from_secs(2);
/// Ends of the bar's scale.
const BAR_MIN_S: f64 = 1e-7;
const BAR_MAX_S: f64 = 1.0;

/// Runs the demonstration; 0 once the goal is reached.
pub fn run(args: &DemoArgs) -> ExitCode {
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => {
            eprintln!("ptntp demo: can't find its own program file: {error}");
            return ExitCode::FAILURE;
        }
    };
    // The terminal's Ctrl-C reaches the daemons too; this is for us to tidy up.
    let signals = match Signals::install(false) {
        Ok(signals) => signals,
        Err(error) => {
            eprintln!("ptntp demo: can't catch signals: {error}");
            return ExitCode::FAILURE;
        }
    };
    match demonstrate(&program, args.stay, &|| signals.take().is_some()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("ptntp demo: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// `interrupted` says once that the operator has seen enough.
fn demonstrate(program: &Path, stay: bool, interrupted: &dyn Fn() -> bool) -> Result<(), String> {
    let directory = Directory::make()?;
    let server_port = free_udp_port()?;
    print(&format!(
        "A server on 127.0.0.1 port {server_port} serves its own clock. A client, 0.5 s ahead and 50 ppm\n\
         fast, follows it. Both clocks are software: this machine's clock is not touched.\n\n"
    ));
    let mut server = Daemon::start(
        program,
        &directory.0,
        "server",
        "virtual:0,0",
        server_port,
        SERVER_SOURCES,
    )?;
    wait_until_served(&mut server, interrupted)?;
    let client_port = free_udp_port()?;
    let mut client = Daemon::start(
        program,
        &directory.0,
        "client",
        "virtual:0.5,50",
        client_port,
        &client_sources(server_port),
    )?;
    watch(&mut server, &mut client, interrupted)?;
    if stay {
        explain(program, &server, &client);
        while pause(interrupted).is_ok() {
            server.still_runs()?;
            client.still_runs()?;
        }
    }
    Ok(())
}

fn wait_until_served(server: &mut Daemon, interrupted: &dyn Fn() -> bool) -> Result<(), String> {
    let start = Instant::now();
    loop {
        server.still_runs()?;
        let reason = match server.look() {
            Ok(status) if status.system.sync => return Ok(()),
            Ok(_) => "it does not serve its local clock".to_owned(),
            Err(error) => error,
        };
        if start.elapsed() > SERVER_PATIENCE {
            return Err(server.failure(&reason));
        }
        pause(interrupted)?;
    }
}

/// Prints the error as it falls, until the goal.
fn watch(
    server: &mut Daemon,
    client: &mut Daemon,
    interrupted: &dyn Fn() -> bool,
) -> Result<(), String> {
    let start = Instant::now();
    let width = width();
    let (mut looks, mut below, mut steps) = (0, 0, 0);
    print(&header(width));
    loop {
        server.still_runs()?;
        client.still_runs()?;
        let look = client.look();
        let elapsed = start.elapsed();
        if let Ok(status) = &look {
            let good = status.system.sync && status.true_error_s.is_some_and(|e| e.abs() < GOAL_S);
            below = if good { below + 1 } else { 0 };
            let stepped = status.system.steps > steps;
            steps = status.system.steps;
            if looks % LOOKS_PER_LINE == 0 || stepped || below == LOOKS_BELOW_GOAL {
                print(&line(elapsed, status, stepped, width));
            }
            if below == LOOKS_BELOW_GOAL {
                print(&format!(
                    "\nThe client's clock is true to {} after {:.0} s.\n",
                    render::seconds(status.true_error_s.map(f64::abs)),
                    elapsed.as_secs_f64()
                ));
                return Ok(());
            }
            looks += 1;
        }
        if elapsed > PATIENCE {
            let reason = match look {
                Ok(status) => format!(
                    "its true error is still {} after {} s",
                    render::seconds(status.true_error_s),
                    PATIENCE.as_secs()
                ),
                Err(error) => error,
            };
            return Err(client.failure(&reason));
        }
        pause(interrupted)?;
    }
}

fn pause(interrupted: &dyn Fn() -> bool) -> Result<(), String> {
    std::thread::sleep(LOOK_INTERVAL);
    if interrupted() {
        return Err("interrupted".to_owned());
    }
    Ok(())
}

fn header(width: usize) -> String {
    let columns = "  time    true error  own estimate   error bound  ";
    let room = width.saturating_sub(columns.len());
    let scale = if room >= 20 {
        format!("{:<w$}{:>4}", "0.1 µs", "1 s", w = room - 4)
    } else {
        String::new()
    };
    format!("{columns}{scale}\n")
}

/// Magnitudes, since a sign would need a paragraph of its own.
fn line(elapsed: Duration, status: &Status, stepped: bool, width: usize) -> String {
    let magnitude = |value: Option<f64>| render::seconds(value.map(f64::abs));
    let system = &status.system;
    let columns = format!(
        "{:>4.0} s  {:>12}  {:>12}  {:>12}  ",
        elapsed.as_secs_f64(),
        magnitude(status.true_error_s),
        magnitude(system.offset_s),
        magnitude(system.error_bound_s),
    );
    let room = width.saturating_sub(columns.chars().count());
    let note = if stepped { " stepped" } else { "" };
    let bar = if room >= 20 {
        let cells = bar(status.true_error_s, room);
        "█".repeat(cells.min(room - note.len()))
    } else {
        String::new()
    };
    format!("{}\n", format!("{columns}{bar}{note}").trim_end())
}

/// How many of `room` cells an error fills, on a logarithmic scale.
fn bar(error_s: Option<f64>, room: usize) -> usize {
    let Some(error_s) = error_s else { return 0 };
    let decades = (error_s.abs().clamp(BAR_MIN_S, BAR_MAX_S) / BAR_MIN_S).log10();
    let scale = (BAR_MAX_S / BAR_MIN_S).log10();
    (decades / scale * room as f64).round() as usize
}

fn explain(program: &Path, server: &Daemon, client: &Daemon) {
    let program = program.display();
    print("\nBoth keep running. Look around from another terminal:\n\n");
    for daemon in [client, server] {
        let control = daemon.control.display();
        print(&format!(
            "  {program} stat --verbose --control {control}\n  \
             {program} peers --wide --control {control}\n  \
             curl 127.0.0.1:{}/metrics\n  \
             tail -f {}\n\n",
            daemon.metrics_port,
            daemon.log.display(),
        ));
    }
    print("Ctrl-C ends them.\n");
}

/// Its own clock, which it calls stratum 1.
const SERVER_SOURCES: &str = "server 127.127.1.0\nfudge 127.127.1.0 stratum 1\n";

fn client_sources(server_port: u16) -> String {
    format!("server 127.0.0.1 port {server_port} iburst minpoll 0 maxpoll 2\n")
}

/// The configuration file of either.
fn configuration(name: &str, sources: &str) -> String {
    format!(
        "# The demonstration's {name}.\nlisten loopback\n{sources}\
         restrict default ignore\nrestrict 127.0.0.1\nrestrict ::1\n"
    )
}

/// One of the two.
struct Daemon {
    name: &'static str,
    child: Child,
    control: PathBuf,
    log: PathBuf,
    metrics_port: u16,
}

impl Daemon {
    fn start(
        program: &Path,
        directory: &Path,
        name: &'static str,
        clock: &str,
        port: u16,
        sources: &str,
    ) -> Result<Self, String> {
        let file = |suffix: &str| directory.join(format!("{name}.{suffix}"));
        let (config, control, log) = (file("conf"), file("sock"), file("log"));
        let metrics_port = free_tcp_port()?;
        fs::write(&config, configuration(name, sources))
            .map_err(|e| format!("can't write {}: {e}", config.display()))?;
        let out = File::create(&log).map_err(|e| format!("can't write {}: {e}", log.display()))?;
        let err = out
            .try_clone()
            .map_err(|e| format!("can't share {}: {e}", log.display()))?;
        let child = Command::new(program)
            .arg("run")
            .arg("--config")
            .arg(&config)
            .args(["--dialect", "ntp", "--clock", clock])
            .args(["--port", &port.to_string()])
            .args(["--metrics", &format!("127.0.0.1:{metrics_port}")])
            .arg("--control")
            .arg(&control)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .map_err(|e| format!("can't start {}: {e}", program.display()))?;
        Ok(Self {
            name,
            child,
            control,
            log,
            metrics_port,
        })
    }

    fn look(&self) -> Result<Status, String> {
        let place = ControlArgs {
            control: Some(self.control.clone()),
            json: false,
        };
        ask::stat(&place).map(|(status, _)| status)
    }

    fn still_runs(&mut self) -> Result<(), String> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(self.failure(&format!("it ended with {status}"))),
            Err(error) => Err(self.failure(&format!("can't watch it: {error}"))),
        }
    }

    /// The reason, and what the daemon logged last.
    fn failure(&self, reason: &str) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = &lines[lines.len().saturating_sub(10)..];
        let mut text = format!("the {} failed: {reason}", self.name);
        if last.is_empty() {
            text.push_str("\nIts log is empty.");
        } else {
            text.push_str("\nThe end of its log:");
            for line in last {
                text.push_str("\n  ");
                text.push_str(&render::printable(line));
            }
        }
        text
    }
}

/// No daemon outlives its demonstration.
impl Drop for Daemon {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let pid = Pid::from_raw(self.child.id() as i32);
            let _ = kill(pid, Signal::SIGTERM);
            let start = Instant::now();
            while start.elapsed() < END_PATIENCE {
                if !matches!(self.child.try_wait(), Ok(None)) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// A place for files that nobody else may enter; gone at the end.
struct Directory(PathBuf);

impl Directory {
    fn make() -> Result<Self, String> {
        let path = std::env::temp_dir().join(format!("ptntp-demo-{}", std::process::id()));
        // `create` fails if something is there already, so nobody can have planted it.
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(|error| format!("can't make the directory {}: {error}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Free now, and not likely to be taken before the daemon binds it.
fn free_udp_port() -> Result<u16, String> {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|socket| socket.local_addr())
        .map(|address| address.port())
        .map_err(|error| format!("no free UDP port on 127.0.0.1: {error}"))
}

fn free_tcp_port() -> Result<u16, String> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|socket| socket.local_addr())
        .map(|address| address.port())
        .map_err(|error| format!("no free TCP port on 127.0.0.1: {error}"))
}

fn width() -> usize {
    let terminal = io::stdout().is_terminal();
    let size = terminal.then(terminal_size::terminal_size).flatten();
    size.map_or(80, |(width, _)| usize::from(width.0))
}

fn print(text: &str) {
    ask::print(text);
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::config::Listen;
    use crate::config::dialect::Dialect;
    use crate::config::load::load_text;
    use crate::daemon::status::tests::example;

    fn status(true_error_s: f64) -> Status {
        let mut status = example().status();
        status.true_error_s = Some(true_error_s);
        status
    }

    #[test]
    fn both_configurations_load_without_a_word() {
        for sources in [SERVER_SOURCES.to_owned(), client_sources(1123)] {
            let text = configuration("test", &sources);
            let loaded = load_text(Path::new("demo.conf"), &text, Dialect::Ntp).unwrap();
            assert_eq!(loaded.notes, [], "{text}");
            assert_eq!(loaded.config.listen, Listen::Loopback);
        }
    }

    #[test]
    fn the_bar_is_logarithmic() {
        assert_eq!(bar(Some(1.0), 70), 70);
        assert_eq!(bar(Some(-1e-3), 70), 40);
        assert_eq!(bar(Some(1e-9), 70), 0);
        assert_eq!(bar(Some(1e9), 70), 70);
        assert_eq!(bar(None, 70), 0);
    }

    #[test]
    fn a_line_fits_its_terminal() {
        for width in [0, 40, 51, 71, 80, 200] {
            for error in [0.0, -5e-5, 0.5, 1e6] {
                let text = line(Duration::from_secs(3), &status(error), true, width);
                let count = text.trim_end().chars().count();
                assert!(count <= width.max(60), "{width}: {text}");
                assert!(header(width).trim_end().chars().count() <= width.max(60));
            }
        }
        let text = line(Duration::from_secs(3), &status(-0.5), false, 80);
        assert!(
            text.starts_with("   3 s    500.000 ms      1.500 µs      2.500 ms  ███"),
            "{text}"
        );
    }

    #[test]
    fn a_daemon_that_ends_early_is_quoted() {
        let directory =
            std::env::temp_dir().join(format!("ptntp-demo-test-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let program = directory.join("broken");
        fs::write(
            &program,
            "#!/bin/sh\necho first\necho port is taken >&2\nexit 7\n",
        )
        .unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let reason = demonstrate(&program, false, &|| false).unwrap_err();
        fs::remove_dir_all(&directory).unwrap();
        assert!(reason.contains("the server failed"), "{reason}");
        assert!(reason.contains("exit status: 7"), "{reason}");
        assert!(reason.ends_with("  first\n  port is taken"), "{reason}");
    }
}

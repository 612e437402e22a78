//! The real NTP programs, as `tests/setup` has unpacked them: servers to take
//! time from, and clients that judge the time ptntp gives.

use std::ffi::OsStr;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Command, Output};

use super::net::Namespace;
use super::process::{self, Process};
use super::{TempDir, secs, wait_until};

/// Where the packages are unpacked.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/peers/root")
}

/// For chronyd, which then has no command sockets.
pub const MUTE: &str = "cmdport 0\nbindcmdaddress /\n";

/// A chronyd that can't touch the clock, with its files in `directory`, which `@DIR@` in
/// the configuration becomes.
pub fn chronyd(namespace: &Namespace, directory: &TempDir, config: &str) -> Process {
    let path = directory.path().display().to_string();
    let config = config.replace("@DIR@", &path);
    let config = format!("{config}\nuser root\npidfile {path}/pid\n");
    let config = directory.write("chrony.conf", config);
    let mut command = process::command(Some(namespace), root().join("usr/sbin/chronyd"));
    command.args(["-d", "-x", "-f"]).arg(config);
    Process::start("chronyd", command, &directory.path().join("log"))
}

/// `chronyc -n -h WHOM WORDS`, where WHOM is an address or a socket's path.
pub fn chronyc(from: &Namespace, whom: impl AsRef<OsStr>, words: &str) -> Output {
    let mut command = process::command(Some(from), root().join("usr/bin/chronyc"));
    command.arg("-n").arg("-h").arg(whom).args(words.split(' '));
    process::run(command, secs(20))
}

/// A chronyd that serves this machine's clock at stratum 1 to all.
pub struct ChronyServer {
    process: Process,
    directory: TempDir,
}

impl ChronyServer {
    /// Starts it and waits until it serves.
    pub fn start(namespace: &Namespace) -> Self {
        Self::start_with(namespace, "")
    }

    /// With further lines of configuration.
    pub fn start_with(namespace: &Namespace, lines: &str) -> Self {
        let directory = TempDir::new();
        let config = format!("local stratum 1\nallow all\n{MUTE}{lines}\n");
        let process = chronyd(namespace, &directory, &config);
        let server = Self { process, directory };
        let address = IpAddr::from([127, 0, 0, 1]);
        assert!(
            wait_until(secs(10), || super::ntp::Client::new(namespace, address)
                .time()
                .is_some_and(|reply| reply.stratum == 1)),
            "chronyd does not serve"
        );
        server
    }

    /// Kills it; a new one may be started.
    pub fn kill(mut self) {
        self.process.kill();
    }
}

/// What `chronyd -Q` says of a server: how far it is ahead of this machine's
/// clock, in seconds. The sources are asked with iburst, four times.
pub fn chronyd_query(from: &Namespace, server: IpAddr, options: &str) -> Result<f64, String> {
    chronyd_query_with(from, server, options, &[])
}

/// The same with further lines of configuration.
pub fn chronyd_query_with(
    from: &Namespace,
    server: IpAddr,
    options: &str,
    lines: &[&str],
) -> Result<f64, String> {
    let directory = TempDir::new();
    let pid = format!("pidfile {}/pid", directory.path().display());
    let mut command = process::command(Some(from), root().join("usr/sbin/chronyd"));
    command.args(["-Q", "-x", "-t", "12", "user root", "cmdport 0"]);
    command.args(["bindcmdaddress /", &pid]);
    command.args(lines);
    command.arg(format!("server {server} iburst {options}"));
    let text = process::all(&process::run(command, secs(20)));
    // System clock wrong by -0.000002 seconds (ignored)
    let (_, rest) = text
        .split_once("System clock wrong by ")
        .ok_or_else(|| text.clone())?;
    number(rest).ok_or(text)
}

/// What ntpsec's `ntpq` prints, asking `server`.
pub fn ntpq(from: &Namespace, server: IpAddr, args: &[&str]) -> String {
    let mut command = process::command(Some(from), "/usr/bin/python3");
    command.env("PYTHONPATH", root().join("usr/lib/python3/dist-packages"));
    command.arg(root().join("usr/bin/ntpq")).args(args);
    command.arg(server.to_string());
    process::all(&process::run(command, secs(30)))
}

/// ntpsec's ntpd, which can't touch the clock.
pub struct Ntpd {
    /// First, so that it ends before its directory goes.
    _process: Process,
    _directory: TempDir,
}

impl Ntpd {
    /// Starts it with a configuration; whoever asks may have to wait for it.
    pub fn start(namespace: &Namespace, config: &str) -> Self {
        let directory = TempDir::new();
        let config = directory.write("ntp.conf", format!("disable ntp\n{config}"));
        let mut command = process::command(Some(namespace), root().join("usr/sbin/ntpd"));
        command.args(["-n", "-c"]).arg(config);
        command.arg("-p").arg(directory.path().join("pid"));
        let process = Process::start("ntpd", command, &directory.path().join("log"));
        Self {
            _process: process,
            _directory: directory,
        }
    }
}

/// What ntpsec's `ntpdig` says: (seconds the server is ahead, its stratum).
pub fn ntpdig(from: &Namespace, server: IpAddr) -> Result<(f64, u64), String> {
    let text = ntpdig_text(from, &["-j", &server.to_string()]);
    let json = text.lines().find(|line| line.starts_with('{'));
    json.and_then(|json| serde_json::from_str::<serde_json::Value>(json).ok())
        .and_then(|json| Some((json["offset"].as_f64()?, json["stratum"].as_u64()?)))
        .ok_or(text)
}

/// A monitoring plugin of nagios: what it prints, and its exit code.
pub fn nagios(from: &Namespace, plugin: &str, args: &[&str]) -> (String, Option<i32>) {
    let path = root().join("usr/lib/nagios/plugins").join(plugin);
    let mut command = process::command(Some(from), path);
    command.args(args);
    let output = process::run(command, secs(30));
    (process::all(&output), output.status.code())
}

/// What ntpsec's `ntpdig` prints.
pub fn ntpdig_text(from: &Namespace, args: &[&str]) -> String {
    // Debian's own Python, for which the module was built.
    let mut command = process::command(Some(from), "/usr/bin/python3");
    command.env("PYTHONPATH", root().join("usr/lib/python3/dist-packages"));
    command.arg(root().join("usr/bin/ntpdig")).args(args);
    process::all(&process::run(command, secs(20)))
}

/// What `busybox ntpd -n -q -w` says: seconds the server is ahead. With -w it
/// would ask for ever, so it is stopped after its first answers.
pub fn busybox(from: &Namespace, server: IpAddr) -> Result<f64, String> {
    let directory = TempDir::new();
    let mut command: Command = process::command(Some(from), root().join("bin/busybox"));
    command.args(["ntpd", "-d", "-n", "-q", "-w", "-p", &server.to_string()]);
    let mut process = Process::start("busybox", command, &directory.path().join("log"));
    // ntpd: reply from 10.9.0.1: offset:-0.000014 delay:0.000090 status:0x24 strat:1 ...
    let answered = wait_until(secs(10), || process.log().contains("offset:"));
    process.kill();
    let log = process.log();
    log.split_once("offset:")
        .filter(|_| answered)
        .and_then(|(_, rest)| number(rest))
        .ok_or(log)
}

/// The number at the start of a text, up to a space.
fn number(text: &str) -> Option<f64> {
    text.split_whitespace().next()?.parse().ok()
}

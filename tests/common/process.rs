//! Programs in a namespace, without the right to set a clock, ended by their
//! pid with the value that holds them.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::net::Namespace;
use super::wait_for;

/// A command that runs in `namespace` (if any) and can't set a clock. As root the
/// capability is dropped, also from what a program could inherit; it is killed
/// with the thread that starts it, so that a killed test leaves nothing behind.
pub fn command(namespace: Option<&Namespace>, program: impl AsRef<OsStr>) -> Command {
    if !nix::unistd::geteuid().is_root() {
        return Command::new(program);
    }
    let drop = [
        "setpriv",
        "--bounding-set",
        "-sys_time",
        "--inh-caps",
        "-sys_time",
        "--pdeathsig",
        "KILL",
        "--",
    ];
    let mut command;
    if let Some(namespace) = namespace {
        command = Command::new("ip");
        command.args(["netns", "exec", namespace.name()]).args(drop);
    } else {
        command = Command::new(drop[0]);
        command.args(&drop[1..]);
    }
    command.arg(program);
    command
}

/// Runs to the end, at most for `limit`; what ran longer was killed and has no exit code.
pub fn run(mut command: Command, limit: Duration) -> Output {
    let line = format!("{command:?}");
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("start {line}: {e}"));
    let pid = pid_of(&child);
    let (done, waiting) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            if let Err(std::sync::mpsc::RecvTimeoutError::Timeout) = waiting.recv_timeout(limit) {
                let _ = kill(pid, Signal::SIGKILL);
            }
        });
        let output = child.wait_with_output();
        drop(done);
        output.unwrap_or_else(|e| panic!("wait for {line}: {e}"))
    })
}

/// Standard output as text.
pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Both outputs as text, for messages and searches.
pub fn all(output: &Output) -> String {
    stdout(output) + &String::from_utf8_lossy(&output.stderr)
}

/// A program that runs until it is told to stop, its output in a file.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts it.
    pub fn start(name: &str, mut command: Command, log: &Path) -> Self {
        // Appended to, so that the log of a restarted program has both lives.
        let file = File::options()
            .create(true)
            .append(true)
            .open(log)
            .unwrap_or_else(|e| panic!("create {}: {e}", log.display()));
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a second handle of the log"))
            .stderr(file)
            .spawn()
            .unwrap_or_else(|e| panic!("start {command:?}: {e}"));
        Self {
            name: name.into(),
            child,
            log: log.into(),
            ended: None,
        }
    }

    /// Its process id, which is the program's own: ip and setpriv exec.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("ask for a child");
        }
        self.ended
    }

    /// Sends a signal.
    pub fn signal(&mut self, signal: Signal) {
        if self.ended().is_none() {
            kill(pid_of(&self.child), signal).expect("signal a child");
        }
    }

    /// SIGTERM; its status if it ended in time.
    pub fn terminate(&mut self, limit: Duration) -> Option<ExitStatus> {
        self.signal(Signal::SIGTERM);
        wait_for(limit, || self.ended())
    }

    /// SIGKILL, and waits.
    pub fn kill(&mut self) {
        if self.ended().is_none() {
            let _ = self.child.kill();
            self.ended = self.child.wait().ok();
        }
    }

    /// `VmRSS` and the like from `/proc/PID/status`, in KiB.
    pub fn status_kib(&self, field: &str) -> u64 {
        self.status(field).expect("a field in KiB")
    }

    /// A number from `/proc/PID/status`.
    pub fn status(&self, field: &str) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).ok()?;
        let line = status.lines().find_map(|l| l.strip_prefix(field))?;
        line.trim_start_matches(':')
            .split_whitespace()
            .next()?
            .parse()
            .ok()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let early = self.ended();
        self.kill();
        if !std::thread::panicking() {
            return;
        }
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        eprintln!("--- {} ({})", self.name, describe(early));
        for line in &lines[lines.len().saturating_sub(60)..] {
            eprintln!("    {line}");
        }
    }
}

fn describe(status: Option<ExitStatus>) -> String {
    match status {
        None => "still running".into(),
        Some(status) => match status.signal() {
            Some(signal) => format!("ended by signal {signal}"),
            None => format!("exited with {:?}", status.code()),
        },
    }
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(child.id().try_into().expect("a pid fits"))
}

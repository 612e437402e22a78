//! `ptntp bench` that something happens to, and what it says then.

use std::net::IpAddr;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::net::Namespace;
use super::process::{self, Process};
use super::ptntp::{BINARY, number};
use super::{TempDir, secs, wait_until};

fn command(from: &Namespace, server: IpAddr, args: &[&str]) -> Command {
    let mut command = process::command(Some(from), BINARY);
    command.args(["bench", &server.to_string()]).args(args);
    command
}

/// One that something happens to after a while, and that ends of it, soon. Its exit code
/// and all that it said.
pub fn disturbed(
    from: &Namespace,
    server: IpAddr,
    args: &[&str],
    after: Duration,
    disturb: impl FnOnce(&mut Process),
) -> (Option<i32>, String) {
    let directory = TempDir::new();
    let log = directory.path().join("log");
    let mut running = Process::start("bench", command(from, server, args), &log);
    std::thread::sleep(after);
    disturb(&mut running);
    assert!(wait_until(secs(10), || running.ended().is_some()));
    (
        running.ended().and_then(|status| status.code()),
        running.log(),
    )
}

/// Ctrl-C, for [`disturbed`].
pub fn interrupt(running: &mut Process) {
    running.signal(nix::sys::signal::Signal::SIGINT);
}

/// The JSON among what it said.
pub fn report(text: &str) -> Value {
    let line = text.lines().find(|line| line.starts_with('{'));
    serde_json::from_str(line.unwrap_or_else(|| panic!("{text}"))).expect("JSON")
}

/// It was ended by an error on its side, which it tells with what it has.
pub fn assert_ended_midway(code: Option<i32>, text: &str) {
    assert_eq!(code, Some(1), "{text}");
    let report = report(text);
    let error = report["error"].as_str().expect("an error");
    assert!(error.contains("can't send to"), "{report}");
    assert!(text.contains(&format!("ptntp bench: {error}")), "{text}");
    assert!(number(&report, "/result/answered") > 100.0, "{report}");
    assert!(number(&report, "/result/length_s") < 50.0, "{report}");
    assert!(number(&report, "/result/loss") < 0.1, "{report}");
}

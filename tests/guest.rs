//! The kernel's own clock, which may only be steered in a guest: the suites of
//! `hwtest/`, run in QEMU with the binary under test.

use std::path::Path;

mod common;

use common::ptntp::BINARY;
use common::{process, secs};

/// Runs a suite, and fails with what it printed.
fn run_suite(suite: &str) {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("hwtest/run");
    let mut command = process::command(None, program);
    command.arg(suite).env("PTNTP", BINARY);
    let output = process::run(command, secs(660));
    let text = process::all(&output);
    println!("{text}");
    assert!(
        output.status.success(),
        "hwtest/run {suite} ended with {}:\n{text}",
        output.status
    );
}

/// discipline -> adjtimex: steps, frequency, what the kernel tells others, another
/// hand on the clock, a death, a restart, `-q`; on io_uring and on poll.
#[test]
fn a_real_kernel_clock_is_steered() {
    require!(guest);
    run_suite("clock");
}

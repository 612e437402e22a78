//! The kernel's own clock, which may only be steered in a guest, and hardware, which only
//! a guest has: the suites of `hwtest/`, run in QEMU with the binary under test.

use std::path::Path;
use std::sync::{Condvar, Mutex, PoisonError};

mod common;

use common::ptntp::BINARY;
use common::{process, secs};

/// Guests that run at a time: each takes a core, and has a limit to be done by.
const GUESTS_MAX: usize = 2;

static GUESTS: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());

/// A guest's turn, until it is dropped.
struct Turn;

impl Turn {
    fn wait() -> Self {
        let (running, changed) = &GUESTS;
        let running = running.lock().unwrap_or_else(PoisonError::into_inner);
        let running = changed.wait_while(running, |running| *running >= GUESTS_MAX);
        *running.unwrap_or_else(PoisonError::into_inner) += 1;
        Self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let (running, changed) = &GUESTS;
        *running.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        changed.notify_one();
    }
}

/// Runs a suite, and fails with what it printed.
fn run_suite(suite: &str) {
    let _turn = Turn::wait();
    // Its guests have no time but that of the two cores.
    let _both = (suite == "two").then(Turn::wait);
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("hwtest/run");
    let mut command = process::command(None, program);
    command.arg(suite).env("PTNTP", BINARY);
    // A suite's own limit, at most, and time to fetch what guests need.
    let output = process::run(command, secs(1800));
    let text = process::all(&output);
    println!("{text}");
    assert!(
        output.status.success(),
        "hwtest/run {suite} ended with {}:\n{text}",
        output.status
    );
}

/// The real-time clock: read, set, measured and disciplined, and the clock set from it.
#[test]
fn a_real_time_clock_is_kept() {
    require!(guest);
    run_suite("rtc");
}

/// The same where its seconds can't be moved.
#[test]
fn a_real_time_clock_that_cannot_be_aligned_is_survived() {
    require!(guest);
    run_suite("rtc_amd");
}

/// discipline -> adjtimex: steps, frequency, what the kernel tells others, another
/// hand on the clock, a death, a restart, `-q`; on io_uring and on poll.
#[test]
fn a_real_kernel_clock_is_steered() {
    require!(guest);
    run_suite("clock");
}

/// The bench for hardware stamps: the kernel module's NIC, its faults, and what a chronyd
/// at both ends makes of it.
#[test]
fn the_bench_has_hardware_stamps() {
    require!(guest);
    run_suite("nic");
}

/// NTP over PTP where cards stamp nothing else, with chronyd 4.6 and with itself.
#[test]
fn cards_for_ptp_stamp_ntp_over_it() {
    require!(guest);
    run_suite("ptpport");
}

/// And a switch on the way says for how long it kept each packet.
#[test]
fn what_a_transparent_clock_says_is_taken_out() {
    require!(guest);
    run_suite("transparent");
}

/// What is bad about the NICs that QEMU has.
#[test]
fn bad_nics_are_bad() {
    require!(guest);
    run_suite("badnic");
}

/// discipline -> adjtimex between two machines, each with a clock of its own.
#[test]
fn two_machines_agree() {
    require!(guest);
    run_suite("two");
}

/// Stamps of network cards from end to end, beside chronyd and with it; the targets of
/// hardware stamps.
#[test]
fn network_cards_stamp_end_to_end() {
    require!(guest);
    run_suite("stamps");
}

/// Cards that jump, lie, are late or vanish: noticed, told of, done without.
#[test]
fn bad_network_cards_are_survived() {
    require!(guest);
    run_suite("badcards");
}

/// A PHC as source, and PHCs that follow the system clock.
#[test]
fn hardware_clocks_lead_and_follow() {
    require!(guest);
    run_suite("refclock");
}

/// What tells operators whether a card is good: right about a good one, and about bad ones.
#[test]
fn cards_are_qualified() {
    require!(guest);
    run_suite("real");
}

/// Every option of cards and of hardware clocks, by what it changes.
#[test]
fn options_of_cards_and_clocks_do_what_they_say() {
    require!(guest);
    run_suite("options");
}

/// Requests answered before the network stack: on a veth and on the cards that QEMU has, on
/// VLANs and bonds of them.
#[test]
fn requests_are_answered_by_xdp() {
    require!(guest);
    run_suite("xdp");
}

/// The same, and io_uring, on the oldest kernel for both.
#[test]
fn requests_are_answered_by_xdp_on_linux_6_1() {
    require!(guest);
    run_suite("xdp61");
}

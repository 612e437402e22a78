//! The corpus of the fuzz targets goes through the same functions as there (`fuzz/entries.rs`),
//! without a fuzzer: what once went wrong, and what reaches every branch that was found.

#[path = "../fuzz/entries.rs"]
mod entries;

use std::path::Path;

/// Every file of a target's corpus.
fn replay(target: &str, entry: fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let mut count = 0;
    for file in std::fs::read_dir(directory).expect("a corpus") {
        let path = file.expect("a file").path();
        let data = std::fs::read(&path).expect("a file");
        let outcome = std::panic::catch_unwind(|| entry(&data));
        assert!(outcome.is_ok(), "{}", path.display());
        count += 1;
    }
    assert!(count >= 5, "{target}: {count}");
}

#[test]
fn configurations() {
    replay("config", entries::config);
}

#[test]
fn key_files() {
    replay("keys", entries::keys);
}

#[test]
fn messages_of_mode_6() {
    replay("control", entries::control);
}

#[test]
fn messages_of_chronyc() {
    replay("cmdmon", entries::cmdmon);
}

#[test]
fn ntp_packets() {
    replay("packet", entries::packet);
}

#[test]
fn ptp_messages() {
    replay("ptp", entries::ptp);
}

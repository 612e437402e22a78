//! The corpus of the fuzz targets goes through the same functions as there (`fuzz/entries.rs`),
//! without a fuzzer: what once went wrong, and what reaches every branch that was found.

#[path = "../fuzz/entries.rs"]
mod entries;

use std::path::Path;

use ptntp::dice::Dice;

/// Inputs that are made of each target's corpus in a run, each run others.
const MADE: usize = 1500;

/// Every file of a target's corpus, and what becomes of them by chance.
fn replay(target: &str, entry: fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let files = std::fs::read_dir(directory).expect("a corpus");
    let path = |file: std::io::Result<std::fs::DirEntry>| file.expect("a file").path();
    let corpus: Vec<Vec<u8>> = files
        .map(|file| std::fs::read(path(file)).expect("a file"))
        .collect();
    assert!(corpus.len() >= 5, "{target}: {}", corpus.len());
    let survives = |data: &[u8]| {
        let outcome = std::panic::catch_unwind(|| entry(data));
        assert!(
            outcome.is_ok(),
            "{target}: {:?}",
            data.escape_ascii().to_string()
        );
    };
    corpus.iter().for_each(|data| survives(data));
    let seed = std::time::UNIX_EPOCH
        .elapsed()
        .expect("after 1970")
        .as_nanos() as u64;
    println!("seed {seed:#x}");
    let mut dice = Dice::new(seed);
    for _ in 0..MADE {
        survives(&changed(&corpus, &mut dice));
    }
}

/// One of the corpus with some changes: octets turned, left out, repeated, or taken from
/// another one.
fn changed(corpus: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let mut below = |limit: usize| (dice.roll() % limit.max(1) as u64) as usize;
    let mut data = corpus[below(corpus.len())].clone();
    for _ in 0..=below(5) {
        let (at, other) = (below(data.len()), &corpus[below(corpus.len())]);
        let (from, len) = (below(other.len()), below(40));
        let piece = &other[from..other.len().min(from + len)];
        match below(6) {
            0 if !data.is_empty() => data[at] ^= 1 << below(8),
            1 if !data.is_empty() => data[at] = below(256) as u8,
            2 => data.truncate(at),
            3 => drop(data.drain(at..data.len().min(at + len))),
            4 => drop(data.splice(at..at, piece.iter().copied())),
            _ => {
                let end = data.len().min(at + piece.len());
                drop(data.splice(at..end, piece.iter().copied()));
            }
        }
    }
    data
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

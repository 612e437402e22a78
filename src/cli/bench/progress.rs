//! Progress on a terminal: one line, written over and over.

use std::io::{self, Write};
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::cli::bench::drive::Watch;
use crate::load::report;

/// Cells of the bar.
const BAR_LEN: usize = 20;

/// Of one measurement.
#[derive(Debug)]
pub struct Progress<'l> {
    label: &'l str,
    length_s: f64,
    started: Instant,
    /// Requests sent by then.
    last: (u64, Instant),
}

impl<'l> Progress<'l> {
    /// From now on.
    pub fn new(label: &'l str, length_s: f64) -> Self {
        let now = Instant::now();
        Self {
            label,
            length_s,
            started: now,
            last: (0, now),
        }
    }

    /// Writes the line anew. One that can't be written is not missed.
    pub fn show(&mut self, watch: &Watch) {
        let sent = watch.sent.load(Ordering::Relaxed);
        let lost = watch.lost.load(Ordering::Relaxed);
        let passed_s = self.last.1.elapsed().as_secs_f64();
        let rate = sent.saturating_sub(self.last.0) as f64 / passed_s.max(1e-3);
        self.last = (sent, Instant::now());
        let done = self.started.elapsed().as_secs_f64() / self.length_s;
        let line = line(self.label, done, rate, sent, lost);
        let _ = io::stderr().write_all(format!("\r\x1b[K{line}").as_bytes());
    }

    /// Removes it.
    pub fn hide(&self) {
        let _ = io::stderr().write_all(b"\r\x1b[K");
    }
}

fn line(label: &str, done: f64, rate: f64, sent: u64, lost: u64) -> String {
    let full = (done.clamp(0.0, 1.0) * BAR_LEN as f64) as usize;
    format!(
        "{label}{}[{}{}] {:>8}/s  loss {}",
        if label.is_empty() { "" } else { " " },
        "=".repeat(full),
        " ".repeat(BAR_LEN - full),
        report::count(rate),
        report::share(lost as f64 / sent.max(1) as f64),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_far_how_fast_and_how_lossy() {
        assert_eq!(
            line("2/10", 0.5, 1234.5, 1000, 20),
            "2/10 [==========          ]     1234/s  loss 2.00 %"
        );
        assert!(line("", 7.0, 0.0, 0, 0).starts_with("[===================="));
    }
}

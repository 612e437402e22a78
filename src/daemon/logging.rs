//! The `log` crate's backend: one line to stderr per event, with a syslog
//! priority in front when the journal reads it. Once the service thread runs,
//! lines go to it through a bounded queue, so that a full pipe never stalls the
//! thread that owns the clock.

use std::env;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::os::fd::AsFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use log::{Level, LevelFilter, Log, Metadata, Record};
use nix::sys::stat::fstat;
use tokio::sync::mpsc;

/// Lines that may wait for stderr; about a megabyte at most.
const QUEUE_LEN: usize = 4096;

static QUEUE: OnceLock<mpsc::Sender<String>> = OnceLock::new();
static DROPPED: AtomicU64 = AtomicU64::new(0);

struct Logger {
    journal: bool,
    level: LevelFilter,
}

/// Starts logging to stderr at `level`. A second call changes nothing.
pub fn start(level: LevelFilter) {
    let journal = is_journal(env::var("JOURNAL_STREAM").ok().as_deref());
    if log::set_boxed_logger(Box::new(Logger { journal, level })).is_ok() {
        log::set_max_level(level);
    }
}

/// From now on lines wait in a queue for whoever holds the other end, until
/// that end is dropped. None if there is such a queue already.
pub fn queue() -> Option<mpsc::Receiver<String>> {
    let (sender, receiver) = mpsc::channel(QUEUE_LEN);
    QUEUE.set(sender).ok().map(|()| receiver)
}

/// Lines lost because the queue was full.
pub fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// Writes a finished line to stderr, now. There is nobody to tell if it fails.
pub fn write_now(line: &str) {
    let _ = io::stderr().write_all(line.as_bytes());
}

/// The line that tells of `lost` lines, in the same form as any other.
pub fn lost_line(lost: u64) -> String {
    let journal = is_journal(env::var("JOURNAL_STREAM").ok().as_deref());
    let text = format!("{lost} log lines were dropped because stderr was too slow");
    format_line(journal, Level::Warn, &text)
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let level = metadata.level();
        // Libraries' chatter is only of interest when it is a problem.
        level <= self.level && (level <= Level::Warn || metadata.target().starts_with("ptntp"))
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let line = format_line(self.journal, record.level(), &record.args().to_string());
        match QUEUE.get() {
            None => write_now(&line),
            Some(queue) => match queue.try_send(line) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(_)) => {
                    DROPPED.fetch_add(1, Ordering::Relaxed);
                }
                // The service thread is gone: the daemon ends.
                Err(mpsc::error::TrySendError::Closed(line)) => write_now(&line),
            },
        }
    }

    fn flush(&self) {}
}

/// Each line of `text` on a line of its own, with what tells its weight. Other
/// control characters, which may come from far away, are shown and not sent.
fn format_line(journal: bool, level: Level, text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for line in text.trim_end().split('\n') {
        out.push_str(match (journal, level) {
            (true, Level::Error) => "<3>",
            (true, Level::Warn) => "<4>",
            (true, Level::Info) => "<6>",
            (true, Level::Debug | Level::Trace) => "<7>",
            (false, Level::Error) => "ptntp: error: ",
            (false, Level::Warn) => "ptntp: warning: ",
            (false, Level::Info) => "ptntp: ",
            (false, Level::Debug) => "ptntp: debug: ",
            (false, Level::Trace) => "ptntp: trace: ",
        });
        for character in line.chars() {
            if character.is_control() && character != '\t' {
                let _ = write!(out, "{}", character.escape_default());
            } else {
                out.push(character);
            }
        }
        out.push('\n');
    }
    out
}

/// `JOURNAL_STREAM` is "device:inode" of the journal's socket; a child whose
/// stderr was redirected inherits the variable but not the socket
/// (systemd.exec(5)).
fn is_journal(stream: Option<&str>) -> bool {
    let Some((device, inode)) = stream.and_then(|stream| stream.split_once(':')) else {
        return false;
    };
    fstat(io::stderr().as_fd())
        .is_ok_and(|stat| device.parse() == Ok(stat.st_dev) && inode.parse() == Ok(stat.st_ino))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_gets_priorities_and_people_get_words() {
        assert_eq!(
            format_line(true, Level::Error, "no\nway"),
            "<3>no\n<3>way\n"
        );
        assert_eq!(format_line(true, Level::Info, "fine"), "<6>fine\n");
        assert_eq!(
            format_line(false, Level::Warn, "odd"),
            "ptntp: warning: odd\n"
        );
        assert_eq!(format_line(false, Level::Info, "fine\n"), "ptntp: fine\n");
    }

    #[test]
    fn a_stranger_cannot_write_escape_sequences_into_the_log() {
        let line = format_line(false, Level::Info, "name \u{1b}[2J\r");
        assert_eq!(line, "ptntp: name \\u{1b}[2J\n");
    }

    #[test]
    fn only_the_real_journal_counts() {
        assert!(!is_journal(None));
        assert!(!is_journal(Some("")));
        assert!(!is_journal(Some("1:1")));
        let stat = fstat(io::stderr().as_fd()).unwrap();
        assert!(is_journal(Some(&format!(
            "{}:{}",
            stat.st_dev, stat.st_ino
        ))));
    }

    #[test]
    fn libraries_are_heard_when_something_is_wrong() {
        let logger = Logger {
            journal: false,
            level: LevelFilter::Debug,
        };
        let enabled = |target, level| {
            logger.enabled(&Metadata::builder().target(target).level(level).build())
        };
        assert!(enabled("ptntp::daemon", Level::Debug));
        assert!(!enabled("ptntp::daemon", Level::Trace));
        assert!(enabled("netlink_proto", Level::Warn));
        assert!(!enabled("netlink_proto", Level::Info));
    }
}

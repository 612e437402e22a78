//! The files through the ring of the service thread: a task for each, so that one that
//! hangs holds up none of the others. Whoever hands entries over never waits: queues are
//! bounded, and what finds no room is counted and told.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use log::warn;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout_at;
use tokio_uring::buf::BoundedBuf;
use tokio_uring::fs::File;

use crate::config::statistics::StatisticsConfig;
use crate::daemon::statistics::Entry;
use crate::daemon::statistics::files::{Book, Generation};
use crate::time::instant::{MonoInstant, Now};

/// Entries that may wait for the service thread: hours of a few sources.
const ENTRIES_MAX: usize = 1024;

/// Writes that may wait for one file.
const WRITES_MAX: usize = 1024;

/// So much is written at once.
const BATCH_LEN: usize = 64 << 10;

/// The time loop's end of the queue.
#[derive(Clone, Debug)]
pub struct Queue {
    sender: mpsc::Sender<Box<Entry>>,
    lost: Arc<AtomicU64>,
}

/// The service thread's end.
#[derive(Debug)]
pub struct Entries {
    receiver: mpsc::Receiver<Box<Entry>>,
    lost: Arc<AtomicU64>,
    told: u64,
}

/// A queue.
pub fn queue() -> (Queue, Entries) {
    let (sender, receiver) = mpsc::channel(ENTRIES_MAX);
    let lost = Arc::new(AtomicU64::new(0));
    let entries = Entries {
        receiver,
        lost: Arc::clone(&lost),
        told: 0,
    };
    (Queue { sender, lost }, entries)
}

impl Queue {
    /// Hands it over, if there is room.
    pub fn send(&self, entry: Box<Entry>) {
        if self.sender.try_send(entry).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Entries {
    /// The next one; none: there will be none any more.
    pub async fn next(&mut self) -> Option<Box<Entry>> {
        let entry = self.receiver.recv().await;
        let lost = self.lost.load(Ordering::Relaxed);
        if lost > self.told {
            let more = lost - self.told;
            warn!("{more} entries of statistics files were lost: the service thread is too slow");
            self.told = lost;
        }
        entry
    }

    /// The next one that is there already.
    pub fn take(&mut self) -> Option<Box<Entry>> {
        self.receiver.try_recv().ok()
    }
}

/// Lines under way to a file.
struct Write {
    now: Now,
    lines: Vec<String>,
}

/// A file's task.
struct Clerk {
    sender: mpsc::Sender<Write>,
    task: JoinHandle<()>,
    /// For what an entry adds to the file.
    book: Book,
}

/// All files. Lives on the service thread.
pub struct Clerks {
    clerks: Vec<Clerk>,
    started: MonoInstant,
    /// Counts how often files were to be opened anew.
    cycles: Rc<Cell<u64>>,
}

impl Clerks {
    /// For the files of `config`, of a daemon that started at `started`.
    pub fn new(config: &StatisticsConfig, started: MonoInstant) -> Self {
        let cycles = Rc::new(Cell::new(0));
        let books = Book::of(config, started).into_iter();
        let clerks = books.zip(Book::of(config, started)).map(|(book, own)| {
            let (sender, writes) = mpsc::channel(WRITES_MAX);
            let desk = Desk {
                book: own,
                file: None,
                cycles: Rc::clone(&cycles),
                seen: 0,
            };
            Clerk {
                sender,
                task: tokio_uring::spawn(desk.run(writes)),
                book,
            }
        });
        Self {
            clerks: clerks.collect(),
            started,
            cycles,
        }
    }

    /// Other files from now on; what is under way to the old ones is still written.
    pub fn set(&mut self, config: &StatisticsConfig) {
        *self = Self::new(config, self.started);
    }

    /// All files are opened again by the next line.
    pub fn cycle(&self) {
        self.cycles.set(self.cycles.get() + 1);
    }

    /// Has written what there is to write of it.
    pub fn write(&mut self, entry: &Entry) {
        for clerk in &mut self.clerks {
            let lines = clerk.book.lines(entry);
            if lines.is_empty() {
                continue;
            }
            let (count, now) = (lines.len(), entry.now);
            match clerk.sender.try_send(Write { now, lines }) {
                // Not before there is room for many again.
                Ok(()) if clerk.sender.capacity() >= WRITES_MAX / 2 => clerk.book.succeeded(),
                Ok(()) => {}
                Err(_) => clerk.book.failed(count, "it is too slow", now.mono),
            }
        }
    }

    /// Waits for what is under way, `patience` at most. False: not all of it was written.
    pub async fn finish(self, patience: Duration) -> bool {
        let until = tokio::time::Instant::now() + patience;
        let mut good = true;
        for Clerk { sender, task, .. } in self.clerks {
            drop(sender);
            good &= timeout_at(until, task).await.is_ok();
        }
        good
    }
}

/// What a task works with.
struct Desk {
    book: Book,
    file: Option<File>,
    cycles: Rc<Cell<u64>>,
    seen: u64,
}

impl Desk {
    async fn run(mut self, mut writes: mpsc::Receiver<Write>) {
        let mut next = writes.recv().await;
        while let Some(Write { now, mut lines }) = next.take() {
            if self.seen != self.cycles.get() {
                self.seen = self.cycles.get();
                self.book.close();
                self.file = None;
            }
            let opened = if self.book.is_current(now) && self.file.is_some() {
                Ok(())
            } else {
                self.open(now).await
            };
            // Whatever waits and belongs to the same file goes with it.
            let mut len: usize = lines.iter().map(String::len).sum();
            while len < BATCH_LEN {
                match writes.try_recv() {
                    Ok(more) if self.book.is_current(more.now) => {
                        len += more.lines.iter().map(String::len).sum::<usize>();
                        lines.extend(more.lines);
                    }
                    Ok(more) => {
                        next = Some(more);
                        break;
                    }
                    Err(_) => break,
                }
            }
            let written = match opened {
                Ok(()) => self.write(&lines).await,
                Err(error) => Err((lines.len(), error)),
            };
            match written {
                Ok(()) => self.book.succeeded(),
                Err((lost, error)) => {
                    self.file = None;
                    self.book.close();
                    self.book.failed(lost, &error.to_string(), now.mono);
                }
            }
            if next.is_none() {
                next = writes.recv().await;
            }
        }
        if let Some(file) = self.file.take() {
            // There is nobody left to be told.
            let _ = file.close().await;
        }
    }

    /// Names, links and directories have no calls in this runtime, so a thread that may
    /// wait as long as it takes sees to them.
    async fn open(&mut self, now: Now) -> io::Result<()> {
        self.file = None;
        let generation = self.book.begin(now);
        let file = opened(generation).await?;
        self.file = Some(File::from_std(file));
        Ok(())
    }

    /// Writes them; else how many are lost, and why.
    async fn write(&mut self, lines: &[String]) -> Result<(), (usize, io::Error)> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let mut page = self.book.text(lines);
        let mut bytes = std::mem::take(&mut page.text).into_bytes();
        let mut done = 0;
        while done < bytes.len() {
            // The offset −1 of io_uring_enter(2): at the end, as the file was opened for.
            let (result, slice) = file.write_at(bytes.slice(done..), u64::MAX).submit().await;
            bytes = slice.into_inner();
            match result {
                Ok(0) => return Err((page.lost(done), io::ErrorKind::WriteZero.into())),
                Ok(length) => done += length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err((page.lost(done), error)),
            }
        }
        Ok(())
    }
}

async fn opened(generation: Generation) -> io::Result<std::fs::File> {
    let (done, outcome) = oneshot::channel();
    std::thread::Builder::new()
        .name("ptntp-file".to_owned())
        .spawn(move || {
            // Who waited for it may have ended.
            let _ = done.send(generation.open(false));
        })?;
    outcome
        .await
        .unwrap_or_else(|_| Err(io::Error::other("the thread that opens it died")))
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::config::statistics::{FileConfig, FileKind, Rotation};
    use crate::daemon::statistics::{Used, What};
    use crate::time::duration::NtpDuration;
    use crate::time::instant::WallInstant;

    /// Files of one kind in one directory, neither rotated nor linked.
    fn config(directory: &Path, names: &[&str]) -> StatisticsConfig {
        let files = names.iter().map(|name| FileConfig {
            name: (*name).to_owned(),
            rotation: Rotation::None,
            link: false,
            ..FileConfig::of(FileKind::Usestats)
        });
        StatisticsConfig {
            directory: Some(directory.to_owned()),
            files: files.collect(),
            ..StatisticsConfig::default()
        }
    }

    fn entry(day: i64) -> Entry {
        let second = day * 86_400;
        let now = Now {
            mono: MonoInstant::ZERO + NtpDuration::from_whole_seconds(second),
            wall: WallInstant::from_unix_ns(second * 1_000_000_000),
        };
        let what = What::Used(Used::default());
        Entry { now, what }
    }

    fn room(name: &str) -> PathBuf {
        let room =
            std::env::temp_dir().join(format!("ptntp-ring-test-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&room);
        std::fs::create_dir(&room).unwrap();
        room
    }

    fn lines(path: &Path) -> usize {
        let text = std::fs::read_to_string(path);
        text.map_or(0, |text| text.lines().count())
    }

    /// None: no io_uring here, then no service thread either.
    fn runtime() -> Option<tokio_uring::Runtime> {
        tokio_uring::Runtime::new(&tokio_uring::builder()).ok()
    }

    #[test]
    fn lines_of_several_days_go_into_their_files() {
        let Some(runtime) = runtime() else { return };
        let room = room("days");
        let mut config = config(&room, &["use"]);
        config.files[0].rotation = Rotation::Day;
        config.files[0].link = true;
        runtime.block_on(async {
            let mut clerks = Clerks::new(&config, MonoInstant::ZERO);
            for day in [0, 0, 0, 1, 2, 2] {
                clerks.write(&entry(day));
            }
            assert!(clerks.finish(Duration::from_secs(10)).await);
        });
        let counts = ["use.19700101", "use.19700102", "use.19700103", "use"]
            .map(|name| lines(&room.join(name)));
        assert_eq!(counts, [3, 1, 2, 2]);
        std::fs::remove_dir_all(&room).unwrap();
    }

    #[test]
    fn a_file_that_hangs_loses_lines_and_holds_up_no_other() {
        let Some(runtime) = runtime() else { return };
        let room = room("hangs");
        let mode = nix::sys::stat::Mode::from_bits_truncate(0o600);
        nix::unistd::mkfifo(&room.join("fifo"), mode).unwrap();
        runtime.block_on(async {
            let mut clerks = Clerks::new(&config(&room, &["fifo", "file"]), MonoInstant::ZERO);
            // Nobody reads the fifo: not even opening it ends.
            let more = 10;
            for written in 0..WRITES_MAX + more {
                clerks.write(&entry(0));
                // The other one comes along.
                let begun = || lines(&room.join("file")) > 0;
                if written % 64 == 0 || !begun() {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
            let lost = clerks.clerks[0].book.lost();
            assert!((1..=more as u64).contains(&lost), "{lost}");
            assert_eq!(clerks.clerks[1].book.lost(), 0);
            assert!(!clerks.finish(Duration::from_millis(500)).await);
        });
        assert_eq!(lines(&room.join("file")), WRITES_MAX + 10);
        std::fs::remove_dir_all(&room).unwrap();
    }

    #[test]
    fn of_lines_written_at_once_only_those_that_found_no_room_are_lost() {
        let Some(runtime) = runtime() else { return };
        let room = room("part");
        let (reader, writer) = std::io::pipe().unwrap();
        let lines: Vec<String> = (0..100).map(|n| format!("{n:0999}")).collect();
        runtime.block_on(async {
            let mut desk = Desk {
                book: Book::of(&config(&room, &["use"]), MonoInstant::ZERO).remove(0),
                file: Some(File::from_std(std::os::fd::OwnedFd::from(writer).into())),
                cycles: Rc::default(),
                seen: 0,
            };
            // Full, and then nobody is there to empty it.
            let leave = async {
                tokio::time::sleep(Duration::from_millis(300)).await;
                drop(reader);
            };
            let (written, ()) = tokio::join!(desk.write(&lines), leave);
            let (lost, error) = written.unwrap_err();
            // What a pipe holds (pipe(7)).
            assert_eq!(lost, 100 - 65_536 / 1000, "{error}");
        });
        std::fs::remove_dir_all(&room).unwrap();
    }

    #[test]
    fn a_queue_that_nobody_empties_counts_what_it_loses() {
        let (queue, mut entries) = queue();
        for _ in 0..ENTRIES_MAX + 3 {
            queue.send(Box::new(entry(0)));
        }
        assert_eq!(entries.lost.load(Ordering::Relaxed), 3);
        let all = std::iter::from_fn(|| entries.take()).count();
        assert_eq!(all, ENTRIES_MAX);
    }
}

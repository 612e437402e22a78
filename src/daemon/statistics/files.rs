//! The files: what they are called when (filegen's rules), how a new one is begun, and what
//! is said once when one can't be written. [`Scribe`] writes with blocking calls, for `--io
//! poll`.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use log::{info, warn};

use crate::config::statistics::{FileConfig, Rotation, StatisticsConfig};
use crate::daemon::statistics::Entry;
use crate::daemon::statistics::lines::{banner, lines};
use crate::time::civil::Civil;
use crate::time::duration::NtpDuration;
use crate::time::instant::{MonoInstant, Now};

const DAY_S: i64 = 86_400;

/// Everybody may read the files, as ntpd's and chronyd's.
const MODE: u32 = 0o644;
/// A file that fails again is not told of again before this.
const AGAIN: NtpDuration = NtpDuration::from_whole_seconds(3600);
/// A directory that chronyd would make is as chronyd would make it.
const DIRECTORY_MODE: u32 = 0o750;

/// One file, or one set: its name of the moment, and what it was said of it.
#[derive(Debug)]
pub struct Book {
    config: FileConfig,
    directory: PathBuf,
    /// See [`StatisticsConfig`].
    raw: bool,
    banner: u32,
    /// When the daemon started.
    started: MonoInstant,
    /// Lines since the file was opened.
    written: u32,
    /// For which seconds the open file is good.
    good_for: Range<i64>,
    /// When the operator was told so last.
    told: Option<MonoInstant>,
    /// He waits for the good news.
    owed: bool,
    /// It was opened before, or that was tried.
    begun: bool,
    lost: u64,
}

impl Book {
    /// Those of `config`, for a daemon that started at `started`.
    pub fn of(config: &StatisticsConfig, started: MonoInstant) -> Vec<Self> {
        let written = config.written();
        written
            .map(|(file, directory)| Self {
                config: file.clone(),
                directory: directory.clone(),
                raw: config.raw,
                banner: config.banner,
                started,
                written: 0,
                good_for: 0..0,
                told: None,
                owed: false,
                begun: false,
                lost: 0,
            })
            .collect()
    }

    /// What `entry` adds to the file.
    pub fn lines(&self, entry: &Entry) -> Vec<String> {
        lines(self.config.kind, entry, self.raw)
    }

    /// Those lines with their ends, and with chronyd's banners before some of them.
    pub fn text(&mut self, lines: &[String]) -> Page {
        let banner = banner(self.config.kind);
        let mut text = String::new();
        let mut ends = Vec::with_capacity(lines.len());
        for line in lines {
            let due = self.banner > 0 && self.written.is_multiple_of(self.banner);
            if due && !banner.is_empty() {
                let rule = "=".repeat(banner.len());
                for line in [&rule, banner, &rule] {
                    text.push_str(line);
                    text.push('\n');
                }
            }
            self.written = self.written.wrapping_add(1);
            text.push_str(line);
            text.push('\n');
            ends.push(text.len());
        }
        Page { text, ends }
    }

    /// The second by which files are told apart: of the day, or of the daemon's age.
    fn second(&self, now: Now) -> i64 {
        match self.config.rotation {
            Rotation::Age => now.mono.since(self.started).as_seconds() as i64,
            _ => now.wall.unix_ns().div_euclid(1_000_000_000),
        }
    }

    /// Is the file that is open still the right one?
    pub fn is_current(&self, now: Now) -> bool {
        self.good_for.contains(&self.second(now))
    }

    /// The file to open now, which will be the right one from then on.
    pub fn begin(&mut self, now: Now) -> Generation {
        let second = self.second(now);
        let day = second.div_euclid(DAY_S) * DAY_S;
        self.good_for = match self.config.rotation {
            Rotation::None | Rotation::Pid => i64::MIN..i64::MAX,
            // Longer ones are opened again each day, as ntpd does.
            _ => day..day + DAY_S,
        };
        // A banner stands at the beginning.
        self.written = 0;
        let Civil {
            year, month, day, ..
        } = Civil::from_unix(second);
        let suffix = match self.config.rotation {
            Rotation::None => String::new(),
            Rotation::Pid => format!(".#{}", std::process::id()),
            Rotation::Day => format!(".{year:04}{month:02}{day:02}"),
            Rotation::Week => {
                let first = Civil {
                    year,
                    month: 1,
                    day: 1,
                    hour: 0,
                    minute: 0,
                    second: 0,
                };
                let of_year = (second - first.to_unix()).div_euclid(DAY_S);
                format!(".{year:04}w{:02}", of_year % 7)
            }
            Rotation::Month => format!(".{year:04}{month:02}"),
            Rotation::Year => format!(".{year:04}"),
            Rotation::Age => format!(".a{:08}", self.good_for.start),
        };
        let base = self.directory.join(&self.config.name);
        let mut path = OsString::from(&base);
        path.push(&suffix);
        Generation {
            path: path.into(),
            base: (self.config.rotation != Rotation::None).then_some(base),
            link: self.config.link,
            is_first: !std::mem::replace(&mut self.begun, true),
            makes_directory: self.config.kind.is_chronys(),
        }
    }

    /// The open file is closed; the next line begins anew.
    pub fn close(&mut self) {
        self.good_for = 0..0;
    }

    /// `count` lines could not be written. Told once, and not each time that a disk is
    /// full again.
    pub fn failed(&mut self, count: usize, why: &str, now: MonoInstant) {
        self.lost += count as u64;
        if !self.owed && self.told.is_none_or(|at| now.since(at) >= AGAIN) {
            self.told = Some(now);
            self.owed = true;
            warn!(
                "{} can't be written: {why}; its lines are lost until it can",
                self.path()
            );
        }
    }

    /// Lines were written.
    pub fn succeeded(&mut self) {
        if std::mem::take(&mut self.owed) {
            let lost = std::mem::take(&mut self.lost);
            info!("{} is written again; {lost} lines were lost", self.path());
        }
    }

    /// Lines lost since it can't be written.
    #[cfg(test)]
    pub fn lost(&self) -> u64 {
        self.lost
    }

    fn path(&self) -> String {
        self.directory.join(&self.config.name).display().to_string()
    }
}

/// Lines as they are written.
#[derive(Debug)]
pub struct Page {
    /// All of them.
    pub text: String,
    /// Where each ends, banners not counted.
    ends: Vec<usize>,
}

impl Page {
    /// How many lines are not whole where only `written` octets were written.
    pub fn lost(&self, written: usize) -> usize {
        self.ends.len() - self.ends.partition_point(|end| *end <= written)
    }
}

/// Writes all of it; else how many octets of it were, and why not more.
fn write_all(mut file: impl Write, bytes: &[u8]) -> Result<(), (usize, io::Error)> {
    let mut done = 0;
    while done < bytes.len() {
        match file.write(&bytes[done..]) {
            Ok(0) => return Err((done, ErrorKind::WriteZero.into())),
            Ok(len) => done += len,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err((done, error)),
        }
    }
    Ok(())
}

/// A file about to be opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Generation {
    path: PathBuf,
    /// The bare name, where the file has another.
    base: Option<PathBuf>,
    link: bool,
    /// There was none before it.
    is_first: bool,
    makes_directory: bool,
}

impl Generation {
    /// Opens it for lines at its end, and puts the link of the bare name in order: where
    /// there can be none (file systems of few talents), that is told once. This may take as long as a disk takes. `at_once`: what would make us wait, a FIFO say, is an error.
    pub fn open(&self, at_once: bool) -> io::Result<File> {
        if let Some(base) = &self.base {
            self.clear(base)?;
        }
        let open = || {
            OpenOptions::new()
                .append(true)
                .create(true)
                .mode(MODE)
                // The directory may be somebody else's.
                .custom_flags(libc::O_NOFOLLOW | if at_once { libc::O_NONBLOCK } else { 0 })
                .open(&self.path)
        };
        let mut file = match open() {
            Err(error) if error.kind() == ErrorKind::NotFound && self.makes_directory => {
                let directory = self.path.parent().unwrap_or(Path::new("."));
                DirBuilder::new()
                    .recursive(true)
                    .mode(DIRECTORY_MODE)
                    .create(directory)?;
                open()?
            }
            opened => opened?,
        };
        if is_torn(&file, &self.path)? {
            file.write_all(b"\n")?;
        }
        if let Some(base) = self.base.as_ref().filter(|_| self.link)
            && let Err(error) = fs::hard_link(&self.path, base)
            && error.kind() != ErrorKind::AlreadyExists
            && self.is_first
        {
            let (base, path) = (base.display(), self.path.display());
            warn!("{base} can't be a link to {path}: {error}; lines are written without it");
        }
        Ok(file)
    }

    /// The bare name makes way: a link to an older file goes, a file of its own is kept
    /// under another name. What is no file at all is left there.
    fn clear(&self, base: &Path) -> io::Result<()> {
        let metadata = match fs::symlink_metadata(base) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        if !metadata.is_file() {
            return Ok(());
        }
        if metadata.nlink() > 1 {
            return fs::remove_file(base);
        }
        let pid = std::process::id();
        let free = (0..)
            .map(|conflict| {
                let mut name = OsString::from(base);
                name.push(format!(".{pid}C{conflict}"));
                PathBuf::from(name)
            })
            .find(|name| !name.exists());
        free.map_or(Ok(()), |name| fs::rename(base, name))
    }
}

/// Does `file`, at `path`, end within a line, as a full disk or a sudden end leaves it? Who
/// counts columns should lose no second line by that.
fn is_torn(file: &File, path: &Path) -> io::Result<bool> {
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() == 0 {
        return Ok(false);
    }
    let mut last = [0];
    // `file` itself is for writing only, and what is read should be it.
    let reader = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)?;
    reader.read_exact_at(&mut last, metadata.len() - 1)?;
    Ok(last != *b"\n")
}

/// Writes with blocking calls, in the thread of the caller. What would make it wait for
/// another program (a FIFO) counts as what can't be written.
#[derive(Debug)]
pub struct Scribe {
    files: Vec<(Book, Option<File>)>,
    started: MonoInstant,
}

impl Scribe {
    /// For the files of `config`, of a daemon that started at `started`.
    pub fn new(config: &StatisticsConfig, started: MonoInstant) -> Self {
        let books = Book::of(config, started).into_iter();
        Self {
            files: books.map(|book| (book, None)).collect(),
            started,
        }
    }

    /// Other files from now on.
    pub fn set(&mut self, config: &StatisticsConfig) {
        *self = Self::new(config, self.started);
    }

    /// All files are closed, and opened again by the next line.
    pub fn cycle(&mut self) {
        for (book, file) in &mut self.files {
            book.close();
            *file = None;
        }
    }

    /// Writes what there is to write of it.
    pub fn write(&mut self, entry: &Entry) {
        for (book, file) in &mut self.files {
            let lines = book.lines(entry);
            if lines.is_empty() {
                continue;
            }
            let open = match file.take().filter(|_| book.is_current(entry.now)) {
                Some(open) => Ok(open),
                None => book.begin(entry.now).open(true),
            };
            let written = open.map_err(|error| (lines.len(), error)).and_then(|open| {
                let page = book.text(&lines);
                write_all(&open, page.text.as_bytes())
                    .map_err(|(done, error)| (page.lost(done), error))?;
                Ok(open)
            });
            match written {
                Ok(open) => {
                    *file = Some(open);
                    book.succeeded();
                }
                Err((lost, error)) => book.failed(lost, &error.to_string(), entry.now.mono),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::statistics::FileKind;
    use crate::daemon::statistics::{Used, What};
    use crate::time::instant::WallInstant;

    struct Room(PathBuf);

    impl Room {
        fn new(name: &str) -> Self {
            let room = std::env::temp_dir().join(format!(
                "ptntp-statistics-test-{name}-{}",
                std::process::id()
            ));
            let _ = fs::remove_dir_all(&room);
            fs::create_dir(&room).unwrap();
            Self(room)
        }

        fn names(&self) -> Vec<String> {
            let all = fs::read_dir(&self.0).unwrap();
            let mut names: Vec<String> = all
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        }

        fn lines(&self, name: &str) -> usize {
            let text = fs::read_to_string(self.0.join(name)).unwrap();
            text.lines().count()
        }

        /// `usestats` here, rotated and linked like that.
        fn config(&self, rotation: Rotation, link: bool) -> StatisticsConfig {
            StatisticsConfig {
                directory: Some(self.0.clone()),
                files: vec![FileConfig {
                    rotation,
                    link,
                    ..FileConfig::of(FileKind::Usestats)
                }],
                ..StatisticsConfig::default()
            }
        }
    }

    impl Drop for Room {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// A line at this civil time, `age_s` after the daemon's start.
    fn at(year: i64, month: u8, day: u8, hour: u8, age_s: i64) -> Entry {
        let civil = Civil {
            year,
            month,
            day,
            hour,
            minute: 59,
            second: 59,
        };
        Entry {
            now: Now {
                mono: MonoInstant::ZERO + NtpDuration::from_whole_seconds(age_s),
                wall: WallInstant::from_unix_ns(civil.to_unix() * 1_000_000_000),
            },
            what: What::Used(Used::default()),
        }
    }

    fn written(room: &Room, rotation: Rotation, link: bool, entries: &[Entry]) -> Vec<String> {
        let mut scribe = Scribe::new(&room.config(rotation, link), MonoInstant::ZERO);
        entries.iter().for_each(|entry| scribe.write(entry));
        room.names()
    }

    #[test]
    fn a_new_file_is_begun_when_filegen_says() {
        let around_newyear = [
            at(2026, 12, 31, 22, 10),
            at(2026, 12, 31, 23, 3_610),
            at(2027, 1, 1, 0, 7_210),
            at(2027, 1, 2, 0, 93_610),
        ];
        let pid = format!("usestats.#{}", std::process::id());
        // 2026-12-31 is the day 364 of its year, counted from 0: 364 modulo 7.
        for (rotation, expected) in [
            (Rotation::None, vec!["usestats"]),
            (Rotation::Pid, vec![pid.as_str()]),
            (
                Rotation::Day,
                vec![
                    "usestats.20261231",
                    "usestats.20270101",
                    "usestats.20270102",
                ],
            ),
            (
                Rotation::Week,
                vec!["usestats.2026w00", "usestats.2027w00", "usestats.2027w01"],
            ),
            (Rotation::Month, vec!["usestats.202612", "usestats.202701"]),
            (Rotation::Year, vec!["usestats.2026", "usestats.2027"]),
            (
                Rotation::Age,
                vec!["usestats.a00000000", "usestats.a00086400"],
            ),
        ] {
            let room = Room::new(rotation.word());
            assert_eq!(written(&room, rotation, false, &around_newyear), expected);
            let lines: usize = expected.iter().map(|name| room.lines(name)).sum();
            assert_eq!(lines, 4, "{rotation:?}");
        }
    }

    #[test]
    fn the_bare_name_is_a_link_to_the_newest() {
        let room = Room::new("link");
        let days = [at(2026, 11, 22, 1, 0), at(2026, 11, 23, 1, 86_400)];
        let names = written(&room, Rotation::Day, true, &days);
        assert_eq!(
            names,
            ["usestats", "usestats.20261122", "usestats.20261123"]
        );
        let inode = |name: &str| fs::metadata(room.0.join(name)).unwrap().ino();
        assert_eq!(inode("usestats"), inode("usestats.20261123"));
        // The clock may be set back: then the older file goes on.
        written(&room, Rotation::Day, true, &days[..1]);
        assert_eq!(inode("usestats"), inode("usestats.20261122"));
        assert_eq!(room.lines("usestats"), 2);
    }

    #[test]
    fn a_file_that_has_the_bare_name_is_kept_under_another() {
        let room = Room::new("conflict");
        fs::write(room.0.join("usestats"), "somebody's\n").unwrap();
        let names = written(&room, Rotation::Day, true, &[at(2026, 11, 22, 1, 0)]);
        let saved = format!("usestats.{}C0", std::process::id());
        assert!(names.contains(&saved) && names.len() == 3, "{names:?}");
        let kept = fs::read_to_string(room.0.join(saved)).unwrap();
        assert_eq!(kept, "somebody's\n");
    }

    #[test]
    fn a_file_that_was_moved_away_is_begun_anew_when_cycled() {
        let room = Room::new("cycle");
        let mut scribe = Scribe::new(&room.config(Rotation::None, false), MonoInstant::ZERO);
        scribe.write(&at(2026, 11, 22, 1, 0));
        fs::rename(room.0.join("usestats"), room.0.join("old")).unwrap();
        scribe.write(&at(2026, 11, 22, 2, 0));
        assert_eq!(
            (room.names(), room.lines("old")),
            (vec!["old".to_owned()], 2)
        );
        scribe.cycle();
        scribe.write(&at(2026, 11, 22, 3, 0));
        assert_eq!((room.lines("old"), room.lines("usestats")), (2, 1));
    }

    #[test]
    fn a_line_that_was_cut_off_spoils_no_other() {
        let room = Room::new("torn");
        fs::write(room.0.join("usestats"), "61366 3600.000 12").unwrap();
        for hour in [1, 2] {
            written(&room, Rotation::None, false, &[at(2026, 11, 22, hour, 0)]);
        }
        let text = fs::read_to_string(room.0.join("usestats")).unwrap();
        let rows: Vec<&str> = text.lines().collect();
        assert_eq!((rows[0], rows.len()), ("61366 3600.000 12", 3), "{text}");
        assert!(rows[1].starts_with("61366 7199.000 0 "), "{text}");
        assert!(text.ends_with('\n'));
    }

    #[test]
    fn where_there_can_be_no_link_lines_are_written_without() {
        let room = Room::new("unlinked");
        let config = room.config(Rotation::Day, true);
        let mut book = Book::of(&config, MonoInstant::ZERO).remove(0);
        let mut generation = book.begin(at(2026, 11, 22, 1, 0).now);
        // Nothing can be made in a directory that is not there.
        generation.base = Some(room.0.join("nowhere/usestats"));
        let mut file = generation.open(true).unwrap();
        file.write_all(b"written\n").unwrap();
        assert_eq!(room.lines("usestats.20261122"), 1);
        assert!(generation.is_first && !book.begin(at(2026, 11, 23, 1, 0).now).is_first);
    }

    #[test]
    fn chronyds_banner_stands_before_each_so_many_lines() {
        let config = StatisticsConfig {
            log_directory: Some("/nonexistent".into()),
            files: vec![FileConfig::of(FileKind::Tracking)],
            banner: 2,
            ..StatisticsConfig::default()
        };
        let mut book = Book::of(&config, MonoInstant::ZERO).remove(0);
        let lines: Vec<String> = ["a", "b", "c"].map(str::to_owned).into();
        let page = book.text(&lines);
        let rows: Vec<&str> = page.text.lines().collect();
        assert!(rows[0].starts_with("====") && rows[1].starts_with("   Date (UTC) Time"));
        assert_eq!((rows[0].len(), rows[2]), (rows[1].len(), rows[0]));
        assert_eq!((rows[3], rows[4], rows[8], rows.len()), ("a", "b", "c", 9));
        // What was cut off is lost, a banner is no line.
        let to = |text: &str| page.text.find(text).unwrap();
        let whole = page.text.len();
        for (written, lost) in [
            (0, 3),
            (to("a\n"), 3),
            (to("a\n") + 1, 3),
            (to("a\n") + 2, 2),
            (to("b\n") + 2, 1),
            (to("c\n"), 1),
            (whole - 1, 1),
            (whole, 0),
        ] {
            assert_eq!(page.lost(written), lost, "{written}");
        }
        // Each file begins with one.
        book.begin(at(2026, 1, 1, 1, 0).now);
        assert_eq!(book.text(&lines[..1]).text.lines().count(), 4);
    }

    #[test]
    fn how_much_went_to_a_full_disk_is_known() {
        let mut room = [0; 10];
        let (done, error) = write_all(&mut room[..], b"one\ntwo\nthree\n").unwrap_err();
        assert_eq!((done, error.kind()), (10, ErrorKind::WriteZero));
        assert_eq!(&room, b"one\ntwo\nth");
    }

    #[test]
    fn a_directory_that_is_gone_costs_lines_and_nothing_else() {
        let room = Room::new("gone");
        let mut scribe = Scribe::new(&room.config(Rotation::Day, true), MonoInstant::ZERO);
        fs::remove_dir(&room.0).unwrap();
        scribe.write(&at(2026, 11, 22, 1, 0));
        scribe.write(&at(2026, 11, 22, 2, 0));
        let (book, file) = &scribe.files[0];
        assert!(file.is_none() && book.owed);
        assert_eq!(book.lost, 2);
        fs::create_dir(&room.0).unwrap();
        scribe.write(&at(2026, 11, 22, 3, 0));
        assert!(!scribe.files[0].0.owed);
        assert_eq!(room.lines("usestats"), 1);
    }

    #[test]
    fn a_disk_that_is_full_by_turns_is_not_told_of_at_its_pace() {
        let room = Room::new("turns");
        let config = room.config(Rotation::None, false);
        let mut book = Book::of(&config, MonoInstant::ZERO).remove(0);
        let at = |second| MonoInstant::ZERO + NtpDuration::from_whole_seconds(second);
        book.failed(1, "full", at(10));
        assert!(book.owed);
        book.succeeded();
        assert_eq!((book.lost, book.owed), (0, false));
        for second in 11..20 {
            book.failed(2, "full", at(second));
            assert_eq!((book.told, book.owed), (Some(at(10)), false));
            book.succeeded();
        }
        // Full for good since within the hour: told when that is over.
        book.failed(1, "full", at(3000));
        assert!(!book.owed);
        book.failed(1, "full", at(4000));
        assert_eq!((book.told, book.owed), (Some(at(4000)), true));
        assert_eq!(book.lost, 20);
    }

    #[test]
    fn a_fifo_that_nobody_reads_is_not_waited_for() {
        let room = Room::new("fifo");
        let mode = nix::sys::stat::Mode::from_bits_truncate(0o600);
        nix::unistd::mkfifo(&room.0.join("usestats"), mode).unwrap();
        let mut scribe = Scribe::new(&room.config(Rotation::None, false), MonoInstant::ZERO);
        scribe.write(&at(2026, 11, 22, 1, 0));
        assert_eq!(scribe.files[0].0.lost, 1);
    }
}

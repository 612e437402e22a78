//! The drift file: the clock's frequency correction in ppm, as ntpd writes it,
//! and behind it what it may be wrong by, one sigma in ppm, which ntpd does not
//! read. ntpd's files have the first number alone. Whatever happens while it is
//! written, the file is whole: the new one is finished under another name and
//! then takes the old one's place.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, eaccess};

use crate::config::regular;
use crate::sync::filter::Start;
use crate::time::units::Ppm;

/// The kernel steers by no more, and no working clock needs it (adjtimex(2)).
const LIMIT: Ppm = Ppm(500.0);

/// How wrong the number of a file that does not say may be.
const SIGMA_UNSAID: Ppm = Ppm(1.0);

/// Everybody may read it: it is no secret, and other tools do.
const MODE: u32 = 0o644;

/// A drift file has a dozen bytes.
const LEN_MAX: u64 = 256;

/// The frequency in the file; none if there is no file. A file that is damaged
/// or out of range is an error with a sentence; the daemon starts without.
pub fn read(path: &Path) -> Result<Option<Start>, String> {
    let text = match regular::read_text(path, LEN_MAX) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(format!(
                "drift file {}: {error}; the frequency is measured anew",
                path.display()
            ));
        }
    };
    parse(&text).map(Some).map_err(|problem| {
        format!(
            "drift file {}: {problem}; the frequency is measured and the file written anew",
            path.display()
        )
    })
}

fn parse(text: &str) -> Result<Start, String> {
    let mut words = text.split_ascii_whitespace();
    let frequency = words.next().ok_or("is empty")?;
    let frequency = number(frequency, LIMIT)?;
    let frequency_sigma = match words.next() {
        None => SIGMA_UNSAID,
        Some(word) => number(word, LIMIT)?.abs(),
    };
    match words.next() {
        None => Ok(Start {
            frequency,
            frequency_sigma,
        }),
        Some(_) => Err("should hold one number or two".to_owned()),
    }
}

fn number(word: &str, limit: Ppm) -> Result<Ppm, String> {
    match word.parse() {
        Ok(ppm) if Ppm(ppm).abs() <= limit => Ok(Ppm(ppm)),
        Ok(ppm) => Err(format!("{ppm} ppm is out of range (±{})", limit.0)),
        Err(_) => Err(format!("'{}' is no number", word.escape_debug())),
    }
}

/// Can a file be kept there? Found out at the start, because otherwise the first
/// to notice is a write an hour later, or nobody after a power cut. A sentence if not.
pub fn check(path: &Path) -> Result<(), String> {
    let directory = directory(path);
    let may = AccessFlags::W_OK | AccessFlags::X_OK;
    eaccess(directory, may)
        .map_err(io::Error::from)
        .and_then(|()| replaceable(path))
        .map_err(|error| problem(path, &error))
}

/// Removes what a daemon left that was killed while writing.
pub fn clean(path: &Path) {
    // Usually there is none; if it can't be removed, writing will say so.
    let _ = fs::remove_file(unfinished(path));
}

/// Writes the file with blocking calls: for `--io poll` and at exit.
pub fn write(path: &Path, frequency: Start) -> Result<(), String> {
    try_write(path, frequency).map_err(|error| problem(path, &error))
}

fn try_write(path: &Path, frequency: Start) -> io::Result<()> {
    replace(path, &text(frequency))
}

/// Puts `text` into the file at `path` with blocking calls: whoever reads sees the old
/// file or the new one, whole.
///
/// # Errors
/// What the file system says, and [`replaceable`].
pub fn replace(path: &Path, text: &str) -> io::Result<()> {
    replaceable(path)?;
    let new = unfinished(path);
    clean(path);
    let written = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(MODE)
            .open(&new)?;
        file.write_all(text.as_bytes())?;
        file.set_permissions(Permissions::from_mode(MODE))?;
        file.sync_all()?;
        fs::rename(&new, path)
    })();
    if written.is_err() {
        clean(path);
        return written;
    }
    File::open(directory(path))?.sync_all()
}

/// The same through the ring of the tokio-uring runtime this runs on.
pub async fn write_uring(path: &Path, frequency: Start) -> Result<(), String> {
    try_write_uring(path, frequency)
        .await
        .map_err(|error| problem(path, &error))
}

async fn try_write_uring(path: &Path, frequency: Start) -> io::Result<()> {
    use tokio_uring::fs;
    replaceable(path)?;
    let new = unfinished(path);
    let _ = fs::remove_file(&new).await;
    let written = async {
        let file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(MODE)
            .open(&new)
            .await?;
        let (result, _) = file.write_all_at(text(frequency).into_bytes(), 0).await;
        result?;
        file.sync_all().await?;
        file.close().await?;
        fs::rename(&new, path).await
    }
    .await;
    if written.is_err() {
        let _ = fs::remove_file(&new).await;
        return written;
    }
    let directory = fs::File::open(directory(path)).await?;
    directory.sync_all().await?;
    directory.close().await
}

/// Only a file or a link makes way: who writes `/dev/null` wants nothing kept, and the host
/// needs its device.
fn replaceable(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(there) if !there.is_file() && !there.is_symlink() => {
            Err(io::Error::other("what is there is no file"))
        }
        _ => Ok(()),
    }
}

fn text(kept: Start) -> String {
    let (frequency, sigma) = (kept.frequency.clamp_to(LIMIT), kept.frequency_sigma);
    format!("{:.6} {:.6}\n", frequency.0, sigma.0)
}

fn problem(path: &Path, error: &io::Error) -> String {
    format!(
        "drift file {}: can't be written: {error}; the directory must exist and be writable for ptntp",
        path.display()
    )
}

/// In the same directory, so that rename(2) can replace.
fn unfinished(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    path.with_file_name(name)
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(ppm: f64) -> Start {
        Start {
            frequency: Ppm(ppm),
            frequency_sigma: Ppm(0.25),
        }
    }
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn a_place_where_nothing_can_be_kept_is_known_before() {
        let room = Room::new("check");
        assert_eq!(check(&room.file()), Ok(()));
        let sentence = check(&room.0.join("absent/ntp.drift")).unwrap_err();
        assert!(sentence.contains("absent/ntp.drift"), "{sentence}");
    }

    #[test]
    fn what_is_no_file_stays() {
        let room = Room::new("device");
        let _socket = std::os::unix::net::UnixListener::bind(room.file()).unwrap();
        let problem = check(&room.file()).unwrap_err();
        assert!(problem.contains("no file"), "{problem}");
        write(&room.file(), kept(1.0)).unwrap_err();
        let ring = tokio_uring::start(async { write_uring(&room.file(), kept(1.0)).await });
        ring.unwrap_err();
        crate::daemon::pid_file::PidFile::write(&room.file()).unwrap_err();
        let there = fs::symlink_metadata(room.file()).unwrap();
        assert!(!there.is_file(), "it was replaced");
        assert_eq!(room.names(), ["ntp.drift"]);
    }

    struct Room(PathBuf);

    impl Room {
        fn new(name: &str) -> Self {
            let room = std::env::temp_dir()
                .join(format!("ptntp-drift-test-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&room);
            fs::create_dir(&room).unwrap();
            Self(room)
        }

        fn file(&self) -> PathBuf {
            self.0.join("ntp.drift")
        }

        fn names(&self) -> Vec<OsString> {
            fs::read_dir(&self.0)
                .unwrap()
                .map(|entry| entry.unwrap().file_name())
                .collect()
        }
    }

    impl Drop for Room {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn what_was_written_is_read_again() {
        let room = Room::new("again");
        assert_eq!(read(&room.file()), Ok(None));
        assert_eq!(check(&room.file()), Ok(()));
        let problem = check(&room.0.join("missing/drift")).unwrap_err();
        assert!(problem.contains("missing/drift"), "{problem}");
        for ppm in [-12.345678, 0.0, 499.9] {
            write(&room.file(), kept(ppm)).unwrap();
            assert_eq!(read(&room.file()), Ok(Some(kept(ppm))));
        }
        let mode = fs::metadata(room.file()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o644);
        assert_eq!(room.names(), ["ntp.drift"]);
    }

    #[test]
    fn other_peoples_drift_files_are_read() {
        let alone = |ppm| Start {
            frequency_sigma: SIGMA_UNSAID,
            ..kept(ppm)
        };
        assert_eq!(parse("-7.512\n"), Ok(alone(-7.512)));
        assert_eq!(parse("  3 \n\n"), Ok(alone(3.0)));
    }

    #[test]
    fn a_damaged_file_is_survived_with_a_sentence() {
        let room = Room::new("damaged");
        for bytes in [
            &b""[..],
            b"\n",
            b"12,5\n",
            b"nan\n",
            b"inf\n",
            b"501\n",
            b"1 2 3\n",
            b"\xff\xfe",
            &[0; 4096],
        ] {
            fs::write(room.file(), bytes).unwrap();
            let problem = read(&room.file()).unwrap_err();
            assert!(problem.contains("ntp.drift"), "{bytes:?}: {problem}");
        }
        assert!(read(&room.0).is_err(), "a directory");
    }

    #[test]
    fn a_reader_never_sees_half_a_file_and_leftovers_go() {
        let room = Room::new("atomic");
        write(&room.file(), kept(1.0)).unwrap();
        fs::write(unfinished(&room.file()), "4").unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for n in 0..50 {
                    write(&room.file(), kept(f64::from(n))).unwrap();
                }
                done.store(true, Ordering::Relaxed);
            });
            while !done.load(Ordering::Relaxed) {
                assert!(read(&room.file()).unwrap().is_some());
            }
        });
        assert_eq!(room.names(), ["ntp.drift"]);
    }

    #[test]
    fn a_write_that_fails_keeps_the_old_file() {
        let room = Room::new("fails");
        let missing = room.0.join("missing/ntp.drift");
        assert!(write(&missing, kept(1.0)).unwrap_err().contains("missing"));
        write(&room.file(), kept(1.0)).unwrap();
        // The unfinished name is taken by a directory that can't be removed as a file.
        fs::create_dir(unfinished(&room.file())).unwrap();
        assert!(write(&room.file(), kept(2.0)).is_err());
        assert_eq!(read(&room.file()), Ok(Some(kept(1.0))));
    }

    #[test]
    fn the_ring_writes_the_same_file() {
        let room = Room::new("uring");
        let Ok(runtime) = tokio_uring::Runtime::new(&tokio_uring::builder()) else {
            return; // no io_uring here: then no service thread either
        };
        fs::write(unfinished(&room.file()), "4").unwrap();
        runtime
            .block_on(write_uring(&room.file(), kept(-3.25)))
            .unwrap();
        assert_eq!(read(&room.file()), Ok(Some(kept(-3.25))));
        assert_eq!(room.names(), ["ntp.drift"]);
        let missing = room.0.join("missing/ntp.drift");
        let problem = runtime
            .block_on(write_uring(&missing, kept(1.0)))
            .unwrap_err();
        assert!(problem.contains("missing"), "{problem}");
    }
}

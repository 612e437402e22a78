//! Files that a configuration names are regular ones (symlinks to them too): opening a FIFO
//! waits for who writes it, reading a device may never end, and opening some does something.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Opens it for reading, and never waits for another program.
///
/// # Errors
/// It can't be opened, or see [`check`].
pub fn open(path: &Path) -> io::Result<File> {
    check(path)?;
    OpenOptions::new()
        .read(true)
        // It may have been replaced since.
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
}

/// All of a file of text, of at most `len_max` octets; what is longer is cut.
///
/// # Errors
/// See [`open`]; or it is no UTF-8.
pub fn read_text(path: &Path, len_max: u64) -> io::Result<String> {
    let mut text = String::new();
    open(path)?.take(len_max).read_to_string(&mut text)?;
    Ok(text)
}

/// May it be read as a file of settings? /dev/null may: a link to it stands for an empty
/// file.
///
/// # Errors
/// It is not there, or of another kind: [`io::ErrorKind::InvalidInput`] and what it is.
pub fn check(path: &Path) -> io::Result<()> {
    let metadata = fs::metadata(path)?;
    match kind(&metadata) {
        None => Ok(()),
        Some(kind) => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("it is {kind}, and no regular file"),
        )),
    }
}

fn kind(metadata: &Metadata) -> Option<&'static str> {
    let kind = metadata.file_type();
    if kind.is_file() || kind.is_char_device() && metadata.rdev() == libc::makedev(1, 3) {
        None
    } else if kind.is_dir() {
        Some("a directory")
    } else if kind.is_fifo() {
        Some("a FIFO")
    } else if kind.is_socket() {
        Some("a socket")
    } else {
        Some("a device")
    }
}

/// What an operator does about an error of [`open`].
pub fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::InvalidInput => "name a regular file, or delete the line",
        _ => "make it readable, or delete the line",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_are_read() {
        let room = std::env::temp_dir().join(format!("ptntp-regular-{}", std::process::id()));
        fs::create_dir_all(&room).unwrap();
        let mode = nix::sys::stat::Mode::from_bits_truncate(0o600);
        nix::unistd::mkfifo(&room.join("fifo"), mode).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(room.join("socket")).unwrap();
        fs::write(room.join("file"), "text").unwrap();
        for name in ["fifo", "socket", "file"] {
            std::os::unix::fs::symlink(name, room.join(format!("to-{name}"))).unwrap();
        }
        for (name, what) in [
            ("fifo", "a FIFO"),
            ("to-fifo", "a FIFO"),
            ("socket", "a socket"),
            ("to-socket", "a socket"),
            ("", "a directory"),
            ("/dev/zero", "a device"),
        ] {
            let error = open(&room.join(name)).expect_err(name);
            assert_eq!(
                error.to_string(),
                format!("it is {what}, and no regular file")
            );
            assert!(remedy(&error).contains("regular"));
        }
        for (name, text) in [("file", "tex"), ("to-file", "tex"), ("/dev/null", "")] {
            assert_eq!(read_text(&room.join(name), 3).unwrap(), text);
        }
        let gone = open(&room.join("gone")).unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::NotFound);
        fs::remove_dir_all(&room).unwrap();
    }
}

//! The control protocol: one JSON object per line over a Unix stream socket,
//! one line of JSON back. `{"command":"stat"}` gives an object, `{"error":"…"}`
//! says why not. All commands only read, so everybody on the machine may ask,
//! as everybody may ask ntpd or chronyd.

use std::fmt;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::daemon::query;
use crate::daemon::reports;
use crate::daemon::status::Report;
use crate::linux::stream;

/// A longer line is an error; commands have a few dozen bytes.
pub const LINE_LEN_MAX: usize = 4096;

/// The longest reply a client reads: thousands of sources fit.
const REPLY_LEN_MAX: u64 = 16 << 20;

#[derive(Deserialize)]
struct Request {
    command: String,
}

#[derive(Serialize, Deserialize)]
struct Failure {
    error: String,
}

/// One reply line, without its newline, to one request line.
///
/// `stat` gives a [`Status`](crate::daemon::status::Status), `peers` an array of
/// [`SourceReport`](crate::node::report::SourceReport), `server` a
/// [`ServerStatus`](crate::daemon::status::ServerStatus), `tracking`, `sources` and
/// `sourcestats` chronyc's reports ([`reports`]).
pub fn answer(line: &str, report: &Report) -> String {
    let request: Request = match serde_json::from_str(line.trim()) {
        Ok(request) => request,
        Err(error) => {
            return failure(&format!(
                "not a request: {error}; expected a line like {{\"command\":\"stat\"}}"
            ));
        }
    };
    match request.command.as_str() {
        "stat" => json(&report.status()),
        "peers" => json(&report.node.sources),
        "server" => json(&report.server_status()),
        "associations" => json(&query::associations(report)),
        "tracking" => json(&reports::named_tracking(report)),
        "sources" => json(&reports::named(report, reports::source_data)),
        "sourcestats" => json(&reports::named(report, reports::source_stats)),
        "reload" => failure(
            "this socket only tells: `ptntp reload`, or SIGHUP, has the configuration read again",
        ),
        other => match other.strip_prefix("variables ").map(str::parse) {
            Some(Ok(association)) => match query::variables(report, association) {
                Some(variables) => json(&variables),
                None => failure("no such association; `associations` lists them"),
            },
            _ => failure(
                "unknown command; there are stat, peers, server, tracking, sources, sourcestats, \
                 associations and variables N",
            ),
        },
    }
}

/// What comes of the bytes received so far on a connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// The line is not complete.
    More,
    /// A line was complete and is taken off the buffer; send this.
    Reply(String),
    /// Send this and close: what came is no line of ours.
    Last(String),
}

/// Takes the first complete line off `received` and answers it. Replies end
/// with a newline. Without a report yet, that is the answer.
pub fn step(received: &mut Vec<u8>, report: Option<&Report>) -> Step {
    let answer = |line: &str| match report {
        Some(report) => answer(line, report),
        None => failure("the daemon is starting; ask again in a second"),
    };
    match received.iter().position(|&byte| byte == b'\n') {
        Some(end) if end <= LINE_LEN_MAX => {
            let line: Vec<u8> = received.drain(..=end).collect();
            match std::str::from_utf8(&line) {
                Ok(line) => Step::Reply(answer(line) + "\n"),
                Err(_) => Step::Last(failure("not a request: not UTF-8") + "\n"),
            }
        }
        None if received.len() <= LINE_LEN_MAX => Step::More,
        _ => {
            Step::Last(failure(&format!("the request is longer than {LINE_LEN_MAX} bytes")) + "\n")
        }
    }
}

/// The line that says why there is no other answer.
pub fn failure(error: &str) -> String {
    json(&Failure {
        error: error.to_owned(),
    })
}

fn json<T: Serialize>(value: &T) -> String {
    // Our types have string keys and no failing serialisers; a number that is
    // not finite becomes null.
    serde_json::to_string(value).expect("reports always serialise")
}

/// The daemon's end of the control socket. Dropping it removes the file.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
    path: PathBuf,
    /// Device and inode of our file: another one under its name is not ours to remove.
    identity: (u64, u64),
}

impl Listener {
    /// Listens at `path`, non-blocking. A socket that a dead daemon left is
    /// replaced, a living one is an error, as is any other file. A missing
    /// directory is made (only the last one of the path). Errors are whole sentences.
    pub fn bind(path: &Path) -> Result<Self, String> {
        let problem = |what: &str| format!("control socket {}: {what}", path.display());
        if let Some(directory) = path.parent()
            && !directory.as_os_str().is_empty()
            && !directory.exists()
        {
            fs::DirBuilder::new()
                .mode(0o755)
                .create(directory)
                .map_err(|error| {
                    problem(&format!(
                        "its directory can't be made: {error}; choose another place with --control"
                    ))
                })?;
        }
        make_room(path).map_err(|what| problem(&what))?;
        let listen = || -> io::Result<Self> {
            let fd = stream::unix(path)?;
            let metadata = fs::symlink_metadata(path)?;
            let listener = Self {
                fd,
                path: path.to_owned(),
                identity: (metadata.dev(), metadata.ino()),
            };
            // Everybody may ask, whatever our umask is.
            fs::set_permissions(path, fs::Permissions::from_mode(0o666))?;
            Ok(listener)
        };
        listen().map_err(|error| {
            problem(&format!(
                "can't listen: {error}; choose another place with --control"
            ))
        })
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A second handle on the same socket, for a runtime that wants to own one.
    pub fn try_clone_fd(&self) -> io::Result<OwnedFd> {
        self.fd.try_clone()
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.identity);
        if ours {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Sees to it that nothing is at `path`, if that hurts nobody.
fn make_room(path: &Path) -> Result<(), String> {
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.to_string()),
        Ok(metadata) => metadata,
    };
    if !metadata.file_type().is_socket() {
        return Err(
            "there is a file that is no socket; remove it or choose another place with --control"
                .to_owned(),
        );
    }
    match stream::unix_is_alive(path) {
        Ok(true) => Err(
            "another daemon answers there; stop it or choose another place with --control"
                .to_owned(),
        ),
        Ok(false) => fs::remove_file(path)
            .or_else(|error| match error.kind() {
                io::ErrorKind::NotFound => Ok(()),
                _ => Err(error),
            })
            .map_err(|error| format!("a dead daemon's socket can't be removed: {error}")),
        Err(error) => Err(format!("can't see whether a daemon answers there: {error}")),
    }
}

/// Why a daemon gave no answer.
#[derive(Debug)]
pub enum AskError {
    /// Nobody listens there.
    Unreachable {
        /// Where we looked.
        path: PathBuf,
        /// What connect(2) said.
        error: io::Error,
    },
    /// Somebody listens, but the conversation failed or took too long.
    Broken {
        /// Whom we asked.
        path: PathBuf,
        /// What went wrong.
        error: io::Error,
    },
    /// The daemon answered that it can't.
    Refused(String),
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { path, error } => write!(
                f,
                "no ptntp daemon answers at {}: {error}; is it running, and was it given another --control?",
                path.display()
            ),
            Self::Broken { path, error } => {
                write!(
                    f,
                    "the daemon at {} did not answer: {error}",
                    path.display()
                )
            }
            Self::Refused(error) => write!(f, "the daemon said: {error}"),
        }
    }
}

impl std::error::Error for AskError {}

/// Asks the daemon at `path` one command and waits up to five seconds for the
/// reply line (without its newline). For the command line; it blocks.
pub fn ask(path: &Path, command: &str) -> Result<String, AskError> {
    ask_within(path, command, Duration::from_secs(5))
}

fn ask_within(path: &Path, command: &str, patience: Duration) -> Result<String, AskError> {
    let deadline = Instant::now() + patience;
    let broken = |error| AskError::Broken {
        path: path.to_owned(),
        error,
    };
    // connect(2) itself would wait for ever on a hung daemon's full queue.
    let fd = loop {
        let connected = stream::unix_connect(path).map_err(|error| AskError::Unreachable {
            path: path.to_owned(),
            error,
        })?;
        match connected {
            Some(fd) => break fd,
            None if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(20)),
            None => {
                let error = format!("it takes nobody in within {patience:?}; does it hang?");
                return Err(broken(io::Error::new(io::ErrorKind::TimedOut, error)));
            }
        }
    };
    let request = format!("{}\n", serde_json::json!({ "command": command }));
    let mut stream = UnixStream::from(fd);
    let reply = converse(&mut stream, &request, deadline).map_err(broken)?;
    match serde_json::from_str::<Failure>(&reply) {
        Ok(failure) => Err(AskError::Refused(failure.error)),
        Err(_) => Ok(reply),
    }
}

fn converse(stream: &mut UnixStream, request: &str, deadline: Instant) -> io::Result<String> {
    stream.set_nonblocking(false)?;
    // A request fits in any socket's buffer.
    stream.set_write_timeout(Some(Duration::from_secs(1)))?;
    stream.write_all(request.as_bytes())?;
    let mut reply = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "no whole reply in time",
            ));
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut buffer) {
            Ok(0) => {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the connection was closed before the reply was whole",
                ));
            }
            Ok(length) => reply.extend_from_slice(&buffer[..length]),
            // WouldBlock is how a read timeout shows; the deadline is checked above.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock
                ) => {}
            Err(error) => return Err(error),
        }
        if let Some(end) = reply.iter().position(|&byte| byte == b'\n') {
            reply.truncate(end);
            return String::from_utf8(reply)
                .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "the reply is no text"));
        }
        if reply.len() as u64 > REPLY_LEN_MAX {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the reply has no end",
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::status::tests::example;
    use crate::daemon::status::{ServerStatus, Status};
    use crate::node::report::SourceReport;
    use std::os::unix::net::UnixListener;

    #[test]
    fn each_command_has_its_answer() {
        let report = example();
        let stat = answer("{\"command\":\"stat\"}\n", &report);
        assert_eq!(
            serde_json::from_str::<Status>(&stat).unwrap(),
            report.status()
        );
        let peers = answer(r#"{"command":"peers"}"#, &report);
        assert_eq!(
            serde_json::from_str::<Vec<SourceReport>>(&peers).unwrap(),
            report.node.sources
        );
        let server = answer(r#"{"command":"server","later":1}"#, &report);
        let server: ServerStatus = serde_json::from_str(&server).unwrap();
        assert_eq!(server.requests["ignore"], 2);
        for reply in [&stat, &peers] {
            assert!(!reply.contains('\n'));
        }
    }

    #[test]
    fn nonsense_is_told_what_would_make_sense() {
        let report = example();
        for (line, word) in [
            ("", "not a request"),
            ("stat", "not a request"),
            (r#"{"command":7}"#, "not a request"),
            (r#"{"command":"dance"}"#, "unknown command"),
            (r#"{"command":"reload"}"#, "SIGHUP"),
        ] {
            let reply: Failure = serde_json::from_str(&answer(line, &report)).unwrap();
            assert!(reply.error.contains(word), "{line}: {}", reply.error);
        }
    }

    #[test]
    fn lines_come_in_pieces_in_pairs_and_too_long() {
        let report = example();
        let mut received = b"{\"command\":\"pe".to_vec();
        assert_eq!(step(&mut received, Some(&report)), Step::More);
        received.extend_from_slice(b"ers\"}\n{\"command\":\"stat\"}\n");
        assert!(
            matches!(step(&mut received, Some(&report)), Step::Reply(text) if text.starts_with('['))
        );
        assert!(
            matches!(step(&mut received, Some(&report)), Step::Reply(text) if text.ends_with("}\n"))
        );
        assert_eq!(step(&mut received, Some(&report)), Step::More);
        received.extend_from_slice(&[b'x'; LINE_LEN_MAX + 1]);
        assert!(
            matches!(step(&mut received, Some(&report)), Step::Last(text) if text.contains("longer"))
        );
        let mut received = b"\xff\xfe\n".to_vec();
        assert!(
            matches!(step(&mut received, Some(&report)), Step::Last(text) if text.contains("UTF-8"))
        );
    }

    fn place(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!(
            "ptntp-control-test-{name}-{}.sock",
            std::process::id()
        ));
        let _ = fs::remove_file(&path);
        path
    }

    #[test]
    fn a_dead_daemons_socket_is_replaced_and_ours_goes_with_us() {
        let path = place("dead");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "as after kill -9");
        let listener = Listener::bind(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o666);
        drop(listener);
        assert!(!path.exists());
    }

    #[test]
    fn a_living_daemon_and_a_file_are_left_alone() {
        let path = place("living");
        let living = Listener::bind(&path).unwrap();
        let problem = Listener::bind(&path).unwrap_err();
        assert!(problem.contains("another daemon"), "{problem}");
        assert!(problem.contains("living"), "{problem}");
        assert!(path.exists());
        // Somebody put another file in its place: not ours to remove.
        fs::remove_file(&path).unwrap();
        fs::write(&path, "precious").unwrap();
        drop(living);
        let problem = Listener::bind(&path).unwrap_err();
        assert!(problem.contains("no socket"), "{problem}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn the_directory_is_made_if_need_be() {
        let directory = place("directory");
        let path = directory.join("control.sock");
        drop(Listener::bind(&path).unwrap());
        assert!(directory.is_dir());
        let problem = Listener::bind(&directory.join("a/b/c.sock")).unwrap_err();
        assert!(problem.contains("--control"), "{problem}");
        fs::remove_dir(&directory).unwrap();
    }

    #[test]
    fn asking_nobody_names_the_path() {
        let path = std::env::temp_dir().join("ptntp-control-test-nobody.sock");
        let error = ask(&path, "stat").unwrap_err();
        assert!(matches!(error, AskError::Unreachable { .. }));
        assert!(error.to_string().contains("nobody.sock"), "{error}");
    }

    #[test]
    fn a_silent_daemon_does_not_hold_the_asker_for_ever() {
        let path = std::env::temp_dir().join(format!(
            "ptntp-control-test-silent-{}.sock",
            std::process::id()
        ));
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        let error = ask_within(&path, "stat", Duration::from_millis(50)).unwrap_err();
        assert!(matches!(error, AskError::Broken { .. }), "{error}");
        // A hung one's queue fills, and then even connect(2) waits.
        nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
        let mut waiting = Vec::new();
        while let Some(fd) = stream::unix_connect(&path).unwrap() {
            waiting.push(fd);
        }
        assert!(stream::unix_is_alive(&path).unwrap());
        let error = ask_within(&path, "stat", Duration::from_millis(50)).unwrap_err();
        assert!(error.to_string().contains("hang"), "{error}");
        drop(listener);
        std::fs::remove_file(&path).unwrap();
    }
}

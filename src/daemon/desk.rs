//! Where strangers on this machine are served in `--io poll`: a listening socket
//! and its few conversations, non-blocking, in the daemon's one poll loop. No
//! client can hold anything up: each has a bounded buffer and a deadline.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use crate::daemon::control::{self, Listener, Step};
use crate::daemon::http;
use crate::daemon::metrics::Exporter;
use crate::daemon::status::Report;
use crate::linux::stream;
use crate::time::duration::NtpDuration;
use crate::time::instant::MonoInstant;

/// Conversations at the same time. Whoever comes when there are so many takes the
/// place of who has been silent longest: idlers must not shut others out.
pub const CONVERSATIONS_MAX: usize = 16;

/// A conversation that stands still for this long is ended.
pub const PATIENCE: NtpDuration = NtpDuration::from_whole_seconds(5);

/// Listens for scrapes. The error is a whole sentence.
pub fn bind_metrics(address: SocketAddr) -> Result<OwnedFd, String> {
    stream::tcp(address).map_err(|error| {
        format!(
            "metrics on {address}: can't listen: {error}; choose another address with --metrics ADDR:PORT, or --metrics off"
        )
    })
}

/// What is spoken at a desk.
#[derive(Debug)]
enum Counter {
    Control(Listener),
    Metrics(OwnedFd, Exporter),
}

impl Counter {
    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Control(listener) => listener.as_fd(),
            Self::Metrics(fd, _) => fd.as_fd(),
        }
    }

    /// What to send for `received`, and whether to close after it. None: more
    /// must be read.
    fn answer(&self, received: &mut Vec<u8>, report: Option<&Report>) -> Option<(Vec<u8>, bool)> {
        match self {
            Self::Control(_) => control_answer(received, report),
            Self::Metrics(_, exporter) => {
                metrics_answer(received, report, exporter).map(|reply| (reply, true))
            }
        }
    }
}

/// The control protocol over a buffer: what to send, and whether to close after it.
pub fn control_answer(received: &mut Vec<u8>, report: Option<&Report>) -> Option<(Vec<u8>, bool)> {
    match control::step(received, report) {
        Step::More => None,
        Step::Reply(line) => Some((line.into_bytes(), false)),
        Step::Last(line) => Some((line.into_bytes(), true)),
    }
}

/// A scrape over a buffer: the response to send before closing.
pub fn metrics_answer(
    received: &[u8],
    report: Option<&Report>,
    exporter: &Exporter,
) -> Option<Vec<u8>> {
    // Before the first report there are no metrics, which Prometheus understands.
    http::answer(received, || {
        report.map_or_else(String::new, |report| exporter.render(report))
    })
}

#[derive(Debug)]
struct Conversation {
    stream: File,
    received: Vec<u8>,
    unsent: Vec<u8>,
    closing: bool,
    until: MonoInstant,
}

/// A listening socket and who came to it.
#[derive(Debug)]
pub struct Desk {
    counter: Counter,
    open: Vec<Conversation>,
    /// Out of descriptors or the like: don't try before then.
    closed_until: Option<MonoInstant>,
}

impl Desk {
    /// For the control protocol.
    pub fn control(listener: Listener) -> Self {
        Self::new(Counter::Control(listener))
    }

    /// For scrapes, with a socket from [`bind_metrics`].
    pub fn metrics(listener: OwnedFd, exporter: Exporter) -> Self {
        Self::new(Counter::Metrics(listener, exporter))
    }

    const fn new(counter: Counter) -> Self {
        Self {
            counter,
            open: Vec::new(),
            closed_until: None,
        }
    }

    /// What to wait for: descriptor, whether until readable (else until
    /// writable). To be asked again before each wait.
    pub fn interests(&self) -> impl Iterator<Item = (RawFd, bool)> {
        let listener = self
            .closed_until
            .is_none()
            .then(|| (self.counter.fd().as_raw_fd(), true));
        let open = self
            .open
            .iter()
            .map(|one| (one.stream.as_raw_fd(), one.unsent.is_empty()));
        listener.into_iter().chain(open)
    }

    /// When to call [`turn`](Self::turn) even if nothing is ready.
    pub fn deadline(&self) -> Option<MonoInstant> {
        let open = self.open.iter().map(|one| one.until);
        open.chain(self.closed_until).min()
    }

    /// Serves whoever can be served now. To be called when one of
    /// [`interests`](Self::interests) is ready or the deadline has passed; never
    /// blocks.
    pub fn turn(&mut self, now: MonoInstant, report: Option<&Report>) {
        if self.closed_until.is_some_and(|until| until <= now) {
            self.closed_until = None;
        }
        let counter = &self.counter;
        self.open
            .retain_mut(|one| one.until > now && one.serve(counter, now, report));
        // A few at a time: who connects all the time must not keep the clock waiting.
        for _ in 0..CONVERSATIONS_MAX {
            if self.closed_until.is_some() {
                break;
            }
            match stream::accept(self.counter.fd()) {
                Ok(Some(fd)) => {
                    let mut one = Conversation {
                        stream: File::from(fd),
                        received: Vec::new(),
                        unsent: Vec::new(),
                        closing: false,
                        until: now + PATIENCE,
                    };
                    if one.serve(&self.counter, now, report) {
                        self.make_room();
                        self.open.push(one);
                    }
                }
                Ok(None) => break,
                Err(_) => self.closed_until = Some(now + NtpDuration::from_whole_seconds(1)),
            }
        }
    }
}

impl Desk {
    fn make_room(&mut self) {
        if self.open.len() >= CONVERSATIONS_MAX
            && let Some((oldest, _)) = self
                .open
                .iter()
                .enumerate()
                .min_by_key(|(_, one)| one.until)
        {
            self.open.remove(oldest);
        }
    }
}

impl Conversation {
    /// Goes on as far as it can without waiting. False: it is over.
    fn serve(&mut self, counter: &Counter, now: MonoInstant, report: Option<&Report>) -> bool {
        loop {
            match self.send() {
                Ok(true) => {}
                Ok(false) => return true,
                Err(_) => return false,
            }
            if self.closing {
                return false;
            }
            if let Some((reply, last)) = counter.answer(&mut self.received, report) {
                self.unsent = reply;
                self.closing = last;
                self.until = now + PATIENCE;
                continue;
            }
            let mut buffer = [0; 2048];
            match self.stream.read(&mut buffer) {
                Ok(0) => return false,
                Ok(length) => self.received.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
    }

    /// True when all is sent, false when the client must read first.
    fn send(&mut self) -> io::Result<bool> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(length) => drop(self.unsent.drain(..length)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::status::tests::example;
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    fn at(seconds: i64) -> MonoInstant {
        MonoInstant::ZERO + NtpDuration::from_whole_seconds(seconds)
    }

    fn control_desk(name: &str) -> (Desk, std::path::PathBuf) {
        let path =
            std::env::temp_dir().join(format!("ptntp-desk-test-{name}-{}", std::process::id()));
        (Desk::control(Listener::bind(&path).unwrap()), path)
    }

    #[test]
    fn two_questions_on_one_connection_get_two_lines() {
        let (mut desk, path) = control_desk("two");
        let mut client = UnixStream::connect(&path).unwrap();
        client
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        client.write_all(b"{\"command\":\"stat\"}\n{\"com").unwrap();
        desk.turn(at(0), Some(&example()));
        client.write_all(b"mand\":\"peers\"}\n").unwrap();
        desk.turn(at(1), Some(&example()));
        let mut buffer = vec![0; 65536];
        let mut length = 0;
        while buffer[..length].iter().filter(|&&b| b == b'\n').count() < 2 {
            length += client.read(&mut buffer[length..]).unwrap();
        }
        assert!(buffer.starts_with(b"{\"sync\":true"));
        assert_eq!(desk.interests().count(), 2);
        drop(client);
        desk.turn(at(2), Some(&example()));
        assert_eq!(desk.interests().count(), 1, "it has hung up");
    }

    #[test]
    fn idlers_give_way_and_the_silent_are_sent_away() {
        let (mut desk, path) = control_desk("many");
        let clients: Vec<UnixStream> = (0..CONVERSATIONS_MAX + 3)
            .map(|_| UnixStream::connect(&path).unwrap())
            .collect();
        let mut last = UnixStream::connect(&path).unwrap();
        last.write_all(b"{\"command\":\"stat\"}\n").unwrap();
        desk.turn(at(0), Some(&example()));
        desk.turn(at(0), Some(&example()));
        assert_eq!(desk.interests().count(), 1 + CONVERSATIONS_MAX);
        last.set_nonblocking(true).unwrap();
        assert!(last.read(&mut [0; 64]).unwrap() > 0, "served at once");
        let mut first = &clients[0];
        assert_eq!(first.read(&mut [0; 64]).unwrap(), 0, "it gave way");
        assert_eq!(desk.deadline(), Some(at(0) + PATIENCE));
        desk.turn(at(0) + PATIENCE, Some(&example()));
        assert_eq!(desk.interests().count(), 1);
    }

    #[test]
    fn garbage_is_answered_once_and_closed() {
        let (mut desk, path) = control_desk("garbage");
        let mut client = UnixStream::connect(&path).unwrap();
        client.write_all(&vec![b'x'; 50_000]).unwrap();
        desk.turn(at(0), Some(&example()));
        assert_eq!(desk.interests().count(), 1);
        let mut reply = String::new();
        // The rest of what was sent was not read, so the end may be a reset.
        let _ = client.read_to_string(&mut reply);
        assert!(reply.contains("longer than"), "{reply}");
    }

    fn local_address(listener: &OwnedFd) -> SocketAddr {
        let listener = TcpListener::from(listener.try_clone().unwrap());
        listener.local_addr().unwrap()
    }

    #[test]
    fn a_scrape_of_more_than_a_socket_buffer_comes_whole() {
        let listener = bind_metrics("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = local_address(&listener);
        let problem = bind_metrics(address).unwrap_err();
        assert!(problem.contains(&address.to_string()), "{problem}");
        let mut desk = Desk::metrics(listener, Exporter::new());
        let mut report = example();
        let source = report.node.sources[0].clone();
        report.node.sources = (0..3000)
            .map(|n| {
                let mut source = source.clone();
                source.name = format!("source-{n}.example.net");
                source
            })
            .collect();
        let client = std::thread::spawn(move || {
            let mut client = TcpStream::connect(address).unwrap();
            client
                .write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
                .unwrap();
            let mut reply = String::new();
            client.read_to_string(&mut reply).unwrap();
            reply
        });
        let mut turns = 0;
        while !client.is_finished() {
            std::thread::sleep(Duration::from_millis(1));
            desk.turn(at(0), Some(&report));
            turns += 1;
            assert!(turns < 20_000);
        }
        let reply = client.join().unwrap();
        let (head, body) = reply.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())));
        assert!(body.len() > 1 << 20);
    }

    #[test]
    fn before_the_first_report_it_says_so() {
        let (mut desk, path) = control_desk("early");
        let mut client = UnixStream::connect(&path).unwrap();
        desk.turn(at(0), None);
        client.write_all(b"{\"command\":\"stat\"}\n").unwrap();
        desk.turn(at(0), None);
        let mut buffer = [0; 256];
        let length = client.read(&mut buffer).unwrap();
        let reply = String::from_utf8_lossy(&buffer[..length]);
        assert!(reply.contains("starting"), "{reply}");
    }
}

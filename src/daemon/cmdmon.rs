//! chronyc's protocol as the daemon speaks it: who may ask what, and what comes of a
//! datagram. Reports are read off the latest [`Report`]; orders go to the time loop
//! ([`orders`](crate::daemon::errands::orders)).
//!
//! Orders come by the Unix socket alone, to which only the daemon's user and root can
//! send. By UDP there is what chrony shows to everybody who may ask, which is this
//! machine, and whoever `cmdallow` says. It is answered at a bounded rate, and never with
//! more octets than were asked with.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use crate::config::Commands;
use crate::daemon::errands::orders::{Answer, blocks};
use crate::daemon::reports;
use crate::daemon::status::Report;
use crate::linux::datagram;
use crate::linux::udp::ServerSocket;
use crate::server::rule::Prefix;
use crate::time::instant::MonoInstant;
use crate::wire::candm::{
    self, Access, Address, CLIENTS_MAX, Client, Clients, Header, Parsed, REQUEST_LEN_MAX, Reply,
    Request, Status,
};

/// Answers by UDP in a second, in the long run. `chronyc sources` of a thousand sources
/// asks two thousand times.
const RATE_PER_S: f64 = 2000.0;
/// So many may come at once.
const BURST: f64 = 4000.0;
/// `cmdallow` and its like at most.
const BLOCKS_MAX: usize = 1024;

/// Datagrams taken in a row before others get their turn.
pub const TURN_MAX: usize = 16;

/// Room for a datagram, and one octet by which a longer one shows.
pub const BUFFER_LEN: usize = REQUEST_LEN_MAX + 1;

/// Who asks.
#[derive(Clone, Debug)]
pub enum Asker {
    /// From this address, and where the answer has to leave.
    Ip {
        /// Him.
        from: SocketAddr,
        /// Whom he asked: one of our addresses.
        to: IpAddr,
        /// Where he came in.
        interface: u32,
    },
    /// By the Unix socket, and under which name he listens.
    Unix(std::os::unix::net::SocketAddr),
}

/// What comes of a datagram.
#[derive(Clone, PartialEq, Debug)]
pub enum Step {
    /// Nothing.
    Silence,
    /// Send this back.
    Reply(Vec<u8>),
    /// Have the time loop do this, and give its answer to [`Desk::finish`].
    Order(Header, Box<Request>),
}

/// Judges and answers.
#[derive(Clone, Debug)]
pub struct Desk {
    /// Who may ask by UDP besides this machine; the longest block decides.
    allowed: Vec<(Prefix, bool)>,
    tokens: f64,
    filled: MonoInstant,
    /// As they were when somebody asked for the first of them.
    clients: Vec<Client>,
    /// Commands that came, and those of them that the rate let fall.
    hits: u64,
    drops: u64,
}

impl Default for Desk {
    fn default() -> Self {
        Self {
            allowed: Vec::new(),
            tokens: BURST,
            filled: MonoInstant::ZERO,
            clients: Vec::new(),
            hits: 0,
            drops: 0,
        }
    }
}

impl Desk {
    /// Where these may ask besides this machine, until an order says otherwise.
    pub fn new(allowed: &[(Prefix, bool)]) -> Self {
        Self {
            allowed: allowed.to_vec(),
            ..Self::default()
        }
    }

    /// Judges one datagram.
    pub fn judge(
        &mut self,
        bytes: &[u8],
        asker: &Asker,
        report: &Report,
        now: MonoInstant,
    ) -> Step {
        if !self.hears(asker) {
            return Step::Silence;
        }
        let trusted = matches!(asker, Asker::Unix(_));
        let parsed = candm::parse(bytes);
        if parsed == Parsed::Noise {
            return Step::Silence;
        }
        self.hits += 1;
        if !trusted && !self.take_token(now) {
            self.drops += 1;
            return Step::Silence;
        }
        match parsed {
            Parsed::Noise => Step::Silence,
            Parsed::Refused(header, status) => reply(&header, &(status, Reply::Null)),
            Parsed::Request(header, request) if trusted || candm::is_open(&request) => {
                match self.answer(&request, report) {
                    Some(answer) => reply(&header, &answer),
                    None => Step::Order(header, Box::new(request)),
                }
            }
            Parsed::Request(header, _) => reply(&header, &(Status::Unauthorised, Reply::Null)),
        }
    }

    /// What to send for an order that was carried out.
    pub fn finish(header: &Header, answer: &Answer) -> Option<Vec<u8>> {
        candm::answer(header, answer.0, &answer.1)
    }

    /// May he ask anything at all? Who may not is not worth a report.
    pub fn hears(&self, asker: &Asker) -> bool {
        match asker {
            Asker::Unix(_) => true,
            Asker::Ip { from, .. } => {
                let address = from.ip().to_canonical();
                address.is_loopback() || self.is_allowed(address)
            }
        }
    }

    fn is_allowed(&self, address: IpAddr) -> bool {
        let all = self.allowed.iter();
        let about = all.filter(|(prefix, _)| prefix.contains(address));
        about
            .max_by_key(|(prefix, _)| prefix.bits())
            .is_some_and(|&(_, allow)| allow)
    }

    fn allow(&mut self, access: &Access) -> Status {
        let Some(blocks) = blocks(access) else {
            return Status::BadSubnet;
        };
        for block in blocks {
            let within =
                |other: &Prefix| other.bits() >= block.bits() && block.contains(other.address());
            let replaced = |other: &Prefix| *other == block || access.all && within(other);
            self.allowed.retain(|(other, _)| !replaced(other));
            if self.allowed.len() >= BLOCKS_MAX {
                return Status::Failed;
            }
            self.allowed.push((block, access.allow));
        }
        Status::Success
    }

    fn take_token(&mut self, now: MonoInstant) -> bool {
        let elapsed_s = now.since(self.filled).as_seconds().max(0.0);
        self.filled = now;
        self.tokens = (self.tokens + elapsed_s * RATE_PER_S).min(BURST);
        let pays = self.tokens >= 1.0;
        if pays {
            self.tokens -= 1.0;
        }
        pays
    }

    /// From this index on, some of the clients that asked so often; none: nobody is
    /// remembered.
    fn clients(
        &mut self,
        first: u32,
        count: u32,
        min_hits: u32,
        report: &Report,
    ) -> Option<Clients> {
        if first == 0 || self.clients.is_empty() {
            self.clients = reports::clients(report)?;
        }
        let indices = self.clients.len() as u32;
        let mut part = Clients {
            indices,
            next: first.max(indices),
            clients: Vec::new(),
        };
        for (index, client) in (0..).zip(&self.clients).skip(first as usize) {
            if part.clients.len() == CLIENTS_MAX.min(count as usize) {
                part.next = index;
                break;
            }
            if client.hits >= min_hits {
                part.clients.push(*client);
            }
        }
        if part.next >= indices {
            self.clients = Vec::new();
        }
        Some(part)
    }

    /// The answer to what can be read off the report; none: it is for the time loop.
    fn answer(&mut self, request: &Request, report: &Report) -> Option<Answer> {
        let of_index = |index: u32, make: &dyn Fn(&_) -> Reply| {
            reports::source(report, index).map_or((Status::NoSuchSource, Reply::Null), |source| {
                (Status::Success, make(source))
            })
        };
        let of_address = |address: Address, make: &dyn Fn(&_) -> Reply| {
            reports::source_at(report, address)
                .map_or((Status::NoSuchSource, Reply::Null), |source| {
                    (Status::Success, make(source))
                })
        };
        let good = |reply: Reply| (Status::Success, reply);
        let just = |status: Status| (status, Reply::Null);
        Some(match request {
            Request::NSources => good(Reply::NSources(reports::sources(report).count() as u32)),
            Request::SourceData(index) => of_index(*index, &|source| {
                Reply::SourceData(reports::source_data(*index, source))
            }),
            Request::SourceStats(index) => of_index(*index, &|source| {
                Reply::SourceStats(reports::source_stats(*index, source))
            }),
            Request::SelectData(index) => of_index(*index, &|source| {
                Reply::SelectData(reports::select_data(*index, source))
            }),
            Request::NtpData(address) => of_address(*address, &|source| {
                Reply::NtpData(Box::new(reports::ntp_data(source, report)))
            }),
            Request::NtpSourceName(address) => of_address(*address, &|source| {
                Reply::NtpSourceName(source.name.clone())
            }),
            Request::AuthData(address) => of_address(*address, &|source| {
                Reply::AuthData(reports::auth_data(source))
            }),
            Request::Tracking => good(Reply::Tracking(reports::tracking(report))),
            Request::Activity => good(Reply::Activity(reports::activity(report))),
            Request::ServerStats => {
                let mut stats = reports::server_stats(report);
                stats.hits[2] = self.hits;
                stats.drops[2] = self.drops;
                good(Reply::ServerStats(stats))
            }
            // What ntpq reads too is not for one reader to clear.
            Request::ClientAccesses { reset: true, .. } => just(Status::Failed),
            &Request::ClientAccesses {
                first,
                count,
                min_hits,
                ..
            } => match self.clients(first, count, min_hits, report) {
                Some(clients) => good(Reply::Clients(clients)),
                None => just(Status::Inactive),
            },
            Request::Smoothing => just(Status::NotEnabled),
            Request::RtcReport => {
                reports::rtc(report).map_or(just(Status::NoRtc), |rtc| good(Reply::Rtc(rtc)))
            }
            Request::ManualList => good(Reply::ManualList(reports::manual_samples(report))),
            Request::CommandAccess(access) => just(self.allow(access)),
            Request::CommandAccessCheck(Address::Ip(address)) => {
                just(if self.is_allowed(address.to_canonical()) {
                    Status::AccessAllowed
                } else {
                    Status::AccessDenied
                })
            }
            Request::CommandAccessCheck(_) => just(Status::AccessDenied),
            _ => return None,
        })
    }
}

fn reply(header: &Header, answer: &Answer) -> Step {
    Desk::finish(header, answer).map_or(Step::Silence, Step::Reply)
}

/// A socket at which chronyc is heard. Dropping it removes its file.
#[derive(Debug)]
pub struct Post(Socket);

#[derive(Debug)]
enum Socket {
    Udp(Box<ServerSocket>),
    Unix(Named),
}

/// A file of ours, by device and inode: another one under its name is not ours to remove.
#[derive(Debug)]
struct Named {
    socket: UnixDatagram,
    path: PathBuf,
    identity: (u64, u64),
}

impl Drop for Named {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.identity);
        if ours {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Post {
    /// All posts that `commands` asks for, and a sentence about each that can't be had.
    pub fn open(commands: &Commands) -> (Vec<Self>, Vec<String>) {
        let mut posts = Vec::new();
        let mut problems = Vec::new();
        if commands.port != 0 {
            let addresses = [IpAddr::V4(commands.v4), IpAddr::V6(commands.v6)];
            for address in addresses.map(|ip| SocketAddr::new(ip, commands.port)) {
                match ServerSocket::bind(address, false) {
                    Ok(socket) => posts.push(Self(Socket::Udp(Box::new(socket)))),
                    Err(error) => problems.push(format!(
                        "chronyc is not answered on {address}: {error}; another port can be \
                         given with `cmdport`"
                    )),
                }
            }
        }
        if let Some(path) = &commands.path {
            match Named::bind(path) {
                Ok(named) => posts.push(Self(Socket::Unix(named))),
                Err(what) => problems.push(format!(
                    "chronyc can give no orders by {}: {what}; another place can be given with \
                     `bindcmdaddress`",
                    path.display()
                )),
            }
        }
        (posts, problems)
    }

    /// Is it the one for orders?
    pub fn is_unix(&self) -> bool {
        matches!(self.0, Socket::Unix(_))
    }

    /// The next datagram, or none.
    ///
    /// # Errors
    /// What recvmsg(2) says.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<(usize, Asker)>> {
        match &self.0 {
            Socket::Udp(socket) => Ok(socket.receive(buffer)?.map(|arrival| {
                let asker = Asker::Ip {
                    from: arrival.from,
                    to: arrival.to,
                    interface: arrival.interface,
                };
                (arrival.len, asker)
            })),
            Socket::Unix(named) => match named.socket.recv_from(buffer) {
                Ok((len, from)) => Ok(Some((len, Asker::Unix(from)))),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
                Err(error) => Err(error),
            },
        }
    }

    /// Answers. Who does not listen, or has no room, goes without.
    pub fn send(&self, bytes: &[u8], asker: &Asker) {
        let _ = match (&self.0, asker) {
            (
                Socket::Udp(socket),
                Asker::Ip {
                    from,
                    to,
                    interface,
                },
            ) => socket.send(bytes, *from, *to, *interface),
            (Socket::Unix(named), Asker::Unix(to)) => {
                named.socket.send_to_addr(bytes, to).map(drop)
            }
            _ => Ok(()),
        };
    }
}

impl AsFd for Post {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.0 {
            Socket::Udp(socket) => socket.as_fd(),
            Socket::Unix(named) => named.socket.as_fd(),
        }
    }
}

impl AsRawFd for Post {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl Named {
    /// A socket that a dead daemon left is replaced, a living one is an error, as is any
    /// other file. A missing directory is made, for root and the daemon's group alone.
    fn bind(path: &Path) -> Result<Self, String> {
        if let Some(directory) = path.parent().filter(|directory| !directory.exists()) {
            fs::DirBuilder::new()
                .mode(0o750)
                .create(directory)
                .map_err(|error| format!("its directory can't be made: {error}"))?;
        }
        make_room(path)?;
        let bind = || -> io::Result<Self> {
            let socket = datagram::bind_unix(path)?;
            let metadata = fs::symlink_metadata(path)?;
            Ok(Self {
                socket,
                path: path.to_owned(),
                identity: (metadata.dev(), metadata.ino()),
            })
        };
        bind().map_err(|error| error.to_string())
    }
}

fn make_room(path: &Path) -> Result<(), String> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.to_string()),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err("there is a file that is no socket".to_owned());
        }
        Ok(_) => {}
    }
    match datagram::is_alive(path) {
        Ok(true) => Err("another daemon is heard there; is chronyd running?".to_owned()),
        Ok(false) => fs::remove_file(path).map_err(|error| error.to_string()),
        Err(error) => Err(format!(
            "can't see whether a daemon is heard there: {error}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::daemon::rtc::RtcReport;
    use crate::daemon::status::tests::example;
    use crate::daemon::status::{Collect, ServerCounts};
    use crate::server::recent::RecentClient;
    use crate::time::duration::NtpDuration;
    use crate::time::instant::WallInstant;
    use crate::time::units::Ppm;
    use proptest::prelude::*;

    fn at(seconds: f64) -> MonoInstant {
        MonoInstant::ZERO + NtpDuration::from_seconds(seconds)
    }

    fn by_udp(address: &str) -> Asker {
        Asker::Ip {
            from: SocketAddr::new(address.parse().unwrap(), 5000),
            to: "192.0.2.1".parse().unwrap(),
            interface: 0,
        }
    }

    fn by_unix() -> Asker {
        let (one, _) = UnixDatagram::pair().unwrap();
        Asker::Unix(one.local_addr().unwrap())
    }

    fn request(command: u16, own: &[u8]) -> Vec<u8> {
        let mut bytes = vec![6, 1, 0, 0];
        bytes.extend(command.to_be_bytes());
        bytes.resize(20, 0);
        bytes.extend(own);
        bytes.resize(520, 0);
        bytes
    }

    fn status(step: &Step) -> Option<u16> {
        match step {
            Step::Reply(bytes) => Some(u16::from_be_bytes([bytes[8], bytes[9]])),
            _ => None,
        }
    }

    fn ip(address: [u8; 4]) -> Vec<u8> {
        let mut bytes = address.to_vec();
        bytes.resize(16, 0);
        bytes.extend([0, 1, 0, 0]);
        bytes
    }

    #[test]
    fn strangers_are_not_heard_and_this_machine_reads() {
        let (mut desk, report) = (Desk::default(), example());
        let mut ask = |command: u16, asker: &Asker| {
            desk.judge(&request(command, &[]), asker, &report, at(0.0))
        };
        assert_eq!(ask(33, &by_udp("192.0.2.9")), Step::Silence);
        for local in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(status(&ask(33, &by_udp(local))), Some(0), "{local}");
        }
        // Reports for the Unix socket alone, and orders.
        for command in [54, 57, 67, 68, 69, 25, 43, 62, 64, 29, 11] {
            assert_eq!(status(&ask(command, &by_udp("::1"))), Some(2), "{command}");
        }
        for command in [54, 41, 44, 14, 15, 34, 69] {
            assert_eq!(status(&ask(command, &by_unix())), Some(0), "{command}");
        }
        for (command, refused) in [(68, 15), (51, 6), (35, 13)] {
            assert_eq!(status(&ask(command, &by_unix())), Some(refused));
        }
        assert!(matches!(ask(43, &by_unix()), Step::Order(..)));
        assert_eq!(status(&ask(10, &by_unix())), Some(3));
    }

    #[test]
    fn sources_are_found_by_index_and_address() {
        let (mut desk, report) = (Desk::default(), example());
        let mut ask =
            |command, own: &[u8]| desk.judge(&request(command, own), &by_unix(), &report, at(0.0));
        assert_eq!(status(&ask(15, &[0, 0, 0, 0])), Some(0));
        assert_eq!(status(&ask(15, &[0, 0, 0, 1])), Some(4));
        assert_eq!(status(&ask(15, &[0xff; 4])), Some(4));
        assert_eq!(status(&ask(57, &ip([192, 0, 2, 1]))), Some(0));
        assert_eq!(status(&ask(57, &ip([192, 0, 2, 2]))), Some(4));
        let Step::Reply(name) = ask(65, &ip([192, 0, 2, 1])) else {
            panic!()
        };
        assert!(name[28..].starts_with(b"ntp.example.net\0"));
    }

    #[test]
    fn blocks_are_allowed_and_the_longest_decides() {
        let (mut desk, report) = (Desk::default(), example());
        let mut order = |command: u16, address: [u8; 4], bits: u8| {
            let mut own = ip(address);
            own.extend([0, 0, 0, bits]);
            let step = desk.judge(&request(command, &own), &by_unix(), &report, at(0.0));
            let other = desk.judge(&request(33, &[]), &by_udp("10.1.2.3"), &report, at(0.0));
            (status(&step).unwrap(), other != Step::Silence)
        };
        assert_eq!(order(21, [10, 0, 0, 0], 8), (0, true));
        assert_eq!(order(23, [10, 1, 0, 0], 16), (0, false));
        assert_eq!(order(21, [10, 1, 2, 3], 32), (0, true));
        assert_eq!(order(24, [10, 1, 0, 0], 16), (0, false));
        assert_eq!(order(22, [10, 0, 0, 0], 8), (0, true));
        assert_eq!(order(21, [10, 0, 0, 0], 33), (7, true));
    }

    #[test]
    fn answers_by_udp_are_bounded_and_orders_are_not() {
        let (mut desk, report) = (Desk::default(), example());
        let bytes = request(33, &[]);
        let mut answered = 0;
        for n in 0..10_000 {
            let now = at(f64::from(n) * 1e-5);
            let step = desk.judge(&bytes, &by_udp("127.0.0.1"), &report, now);
            answered += usize::from(step != Step::Silence);
        }
        assert!((4000..=4300).contains(&answered), "{answered}");
        let step = desk.judge(&bytes, &by_unix(), &report, at(0.1));
        assert_eq!(status(&step), Some(0));
        let later = desk.judge(&bytes, &by_udp("127.0.0.1"), &report, at(1.0));
        assert_eq!(status(&later), Some(0));
    }

    /// A server that was asked by so many, each of them by two workers.
    struct Asked(u8);

    impl Collect for Asked {
        fn collect(&self) -> ServerCounts {
            ServerCounts::default()
        }

        fn recent_clients(&self) -> Option<Vec<RecentClient>> {
            let of_worker = |worker: u64| {
                (0..self.0).map(move |n| RecentClient {
                    address: SocketAddr::new([192, 0, 2, n].into(), 123 + worker as u16),
                    first: WallInstant::from_unix_ns(0),
                    last: WallInstant::from_unix_ns(64_000_000_000),
                    count: 1 + worker * u64::from(n),
                    dropped: worker,
                    mode: 3,
                    version: 4,
                    restricted: 0,
                })
            };
            Some((0..2).flat_map(of_worker).collect())
        }
    }

    #[test]
    fn clients_come_in_parts_and_once_each() {
        let (mut desk, mut report) = (Desk::default(), example());
        report.server = Arc::new(Asked(20));
        let mut ask = |first: u32, min_hits: u32| {
            let own = [first, 100, min_hits, 0].map(u32::to_be_bytes).concat();
            let step = desk.judge(&request(68, &own), &by_unix(), &report, at(0.0));
            let Step::Reply(bytes) = step else { panic!() };
            assert_eq!(bytes.len(), 520);
            let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
            let firsts = (0..number(36)).map(|n| number(40 + 60 * n as usize) & 0xff);
            let (all, next) = (number(28), number(32));
            (all, next, firsts.collect::<Vec<_>>(), bytes)
        };
        let (all, next, firsts, bytes) = ask(0, 0);
        assert_eq!((all, next), (20, 8));
        assert_eq!(firsts, (0..8).collect::<Vec<_>>());
        // The third: two and two requests, a drop, every 16 s or so.
        let third = &bytes[40 + 2 * 60..];
        assert_eq!((third[23], third[35], third[44]), (4, 1, 4));
        assert_eq!(ask(8, 0).2, (8..16).collect::<Vec<_>>());
        let (_, next, firsts, _) = ask(16, 0);
        assert_eq!((next, firsts), (20, (16..20).collect::<Vec<_>>()));
        assert_eq!(ask(0, 20).2, [18, 19]);
        assert_eq!(ask(u32::MAX, 0).2, [0; 0]);
    }

    #[test]
    fn the_real_time_clock_is_told_of_where_somebody_looks_after_it() {
        let (mut desk, mut report) = (Desk::default(), example());
        report.rtc = Some(RtcReport {
            measured: None,
            at_unix_ns: 1_000_000_000,
            samples: 9,
            span_s: 600.4,
            offset_s: 0.25,
            rate: Ppm(-8.0),
        });
        let step = desk.judge(&request(35, &[]), &by_udp("::1"), &report, at(0.0));
        let Step::Reply(bytes) = step else { panic!() };
        let float = |value: f64| candm::float_to_bits(value).to_be_bytes();
        let mut own = vec![0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 2, 88];
        own.extend([float(0.25), float(-8.0)].concat());
        assert_eq!((&bytes[6..10], &bytes[28..]), (&[0, 7, 0, 0][..], &own[..]));
    }

    #[test]
    fn a_post_replaces_the_dead_and_leaves_the_living() {
        let directory =
            std::env::temp_dir().join(format!("ptntp-cmdmon-test-{}", std::process::id()));
        let path = directory.join("chronyd.sock");
        let commands = Commands {
            path: Some(path.clone()),
            ..Commands::default()
        };
        let (posts, problems) = Post::open(&commands);
        assert_eq!((posts.len(), problems.len()), (1, 0), "{problems:?}");
        let (others, problems) = Post::open(&commands);
        assert!(others.is_empty() && problems[0].contains("another daemon"));
        drop(posts);
        assert!(!path.exists());
        drop(datagram::bind_unix(&path).unwrap());
        assert!(path.exists(), "as after kill -9");
        assert_eq!(Post::open(&commands).0.len(), 1);
        fs::write(&path, "no socket").unwrap();
        assert!(Post::open(&commands).1[0].contains("no socket"));
        fs::remove_dir_all(directory).unwrap();
    }

    proptest! {
        #[test]
        fn nothing_panics_and_no_reply_is_longer(
            command in 0_u16..80,
            own in proptest::collection::vec(any::<u8>(), 8..840),
            header in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let (mut desk, report) = (Desk::default(), example());
            let mut good = vec![6, 1, 0, 0];
            good.extend(command.to_be_bytes());
            good.resize(20, 0);
            good.extend(&own);
            for bytes in [&good, &header] {
                if let Step::Reply(reply) = desk.judge(bytes, &by_unix(), &report, at(0.0)) {
                    prop_assert!(reply.len() <= bytes.len());
                }
            }
        }
    }
}

//! NTP packets by hand: a client that sends what it is told, and a server that
//! lies as it is told. Written apart from ptntp's own packet code, which it judges.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::net::Namespace;

/// Seconds from the NTP era's start to the Unix epoch.
const UNIX_IN_NTP_S: u64 = 2_208_988_800;

/// This machine's clock, in units of 2^-32 s within the era.
pub fn now() -> u64 {
    at(SystemTime::now())
}

fn at(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).expect("after 1970");
    let fraction = (u64::from(since.subsec_nanos()) << 32) / 1_000_000_000;
    ((since.as_secs() + UNIX_IN_NTP_S) << 32) | fraction
}

/// `a - b` in seconds, for stamps less than 68 years apart.
pub fn difference_s(a: u64, b: u64) -> f64 {
    a.wrapping_sub(b).cast_signed() as f64 / 2f64.powi(32)
}

/// A request of 48 bytes that carries the time.
pub fn request(version: u8, mode: u8) -> [u8; 48] {
    let mut packet = [0; 48];
    packet[0] = version << 3 | mode;
    packet[2] = 6;
    packet[40..].copy_from_slice(&now().to_be_bytes());
    packet
}

/// A request of mode 6, padded as all programs pad it.
pub fn control(operation: u8, association: u16, data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![2 << 3 | 6, operation, 0, 1, 0, 0];
    bytes.extend(association.to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend(u16::try_from(data.len()).expect("short").to_be_bytes());
    bytes.extend(data);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// A mode 6 request to read the system's variables.
pub fn read_variables() -> Vec<u8> {
    control(2, 0, b"")
}

/// A time reply, taken apart.
#[derive(Clone, Debug)]
pub struct Reply {
    pub leap: u8,
    pub version: u8,
    pub mode: u8,
    pub stratum: u8,
    pub poll: i8,
    pub root_delay_s: f64,
    pub root_dispersion_s: f64,
    pub refid: [u8; 4],
    pub origin: u64,
    pub receive: u64,
    pub transmit: u64,
    /// When it reached us by this machine's clock.
    pub arrived: u64,
    /// Bytes, extension fields included.
    pub len: usize,
}

impl Reply {
    /// Reads a reply that has arrived now; none if it is no time packet.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let word = |i: usize| Some(u32::from_be_bytes(*bytes.get(i..)?.first_chunk()?));
        let stamp = |i: usize| Some(u64::from_be_bytes(*bytes.get(i..)?.first_chunk()?));
        let short = |i: usize| Some(f64::from(word(i)?) / 65536.0);
        Some(Self {
            leap: bytes.first()? >> 6,
            version: bytes[0] >> 3 & 7,
            mode: bytes[0] & 7,
            stratum: *bytes.get(1)?,
            poll: bytes.get(2)?.cast_signed(),
            root_delay_s: short(4)?,
            root_dispersion_s: short(8)?,
            refid: *bytes.get(12..)?.first_chunk()?,
            origin: stamp(24)?,
            receive: stamp(32)?,
            transmit: stamp(40)?,
            arrived: now(),
            len: bytes.len(),
        })
    }

    /// How far the server is ahead of this machine's clock, when its request was
    /// stamped by [`request`]: the mean of both ways, as RFC 5905 has it.
    pub fn offset_s(&self) -> f64 {
        let there = difference_s(self.receive, self.origin);
        let back = difference_s(self.transmit, self.arrived);
        (there + back) / 2.0
    }

    /// Is it a kiss of death with this code?
    pub fn is_kiss(&self, code: &[u8; 4]) -> bool {
        self.stratum == 0 && self.refid == *code
    }
}

/// A client at one address that hears the one server it asks.
pub struct Client {
    socket: UdpSocket,
}

impl Client {
    /// At any address and port.
    pub fn new(namespace: &Namespace, server: IpAddr) -> Self {
        let any: IpAddr = match server {
            IpAddr::V4(_) => [0; 4].into(),
            IpAddr::V6(_) => [0u16; 8].into(),
        };
        Self::from(namespace, (any, 0).into(), server)
    }

    /// At an address and port of its own.
    pub fn from(namespace: &Namespace, local: SocketAddr, server: IpAddr) -> Self {
        let socket = namespace.udp(local);
        socket
            .set_read_timeout(Some(Duration::from_millis(300)))
            .expect("a time limit");
        // Connected: a reply from another address than was asked is not heard.
        socket
            .connect((server, 123))
            .unwrap_or_else(|e| panic!("connect to {server}: {e}"));
        Self { socket }
    }

    /// Sends a packet.
    pub fn send(&self, packet: &[u8]) {
        // A closed port is reported at the next call; that is no error of this one.
        let _ = self
            .socket
            .send(packet)
            .or_else(|_| self.socket.send(packet));
    }

    /// The next packet within a third of a second.
    pub fn receive(&self) -> Option<Vec<u8>> {
        let mut buffer = [0; 4096];
        let len = self.socket.recv(&mut buffer).ok()?;
        Some(buffer[..len].to_vec())
    }

    /// What has arrived by now.
    pub fn drain(&self) -> Vec<Vec<u8>> {
        self.socket.set_nonblocking(true).expect("not blocking");
        let packets = std::iter::from_fn(|| self.receive()).collect();
        self.socket.set_nonblocking(false).expect("blocking");
        packets
    }

    /// Sends a packet and waits for what comes back.
    pub fn ask(&self, packet: &[u8]) -> Option<Vec<u8>> {
        self.drain();
        self.send(packet);
        self.receive()
    }

    /// A version 4 request and its reply, if it is one to this request.
    pub fn time(&self) -> Option<Reply> {
        self.time_by(4)
    }

    /// The same in another version of the protocol.
    pub fn time_by(&self, version: u8) -> Option<Reply> {
        let packet = request(version, 3);
        let reply = Reply::parse(&self.ask(&packet)?)?;
        (reply.origin.to_be_bytes() == packet[40..]).then_some(reply)
    }
}

/// A server at stratum 1 whose clock is off by a constant: a falseticker by trade.
pub struct Liar {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicU32>,
    thread: Option<JoinHandle<()>>,
}

/// What a [`Liar`] says.
#[derive(Clone, Copy)]
pub enum Lie {
    /// The time, so many seconds off.
    Offset(f64),
    /// A kiss of death.
    Kiss([u8; 4]),
}

impl Liar {
    /// Answers at port 123 of an address.
    pub fn start(namespace: &Namespace, address: IpAddr, lie: Lie) -> Self {
        let socket = namespace.udp((address, 123).into());
        socket
            .set_read_timeout(Some(Duration::from_millis(100)))
            .expect("a time limit");
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::new(AtomicU32::new(0));
        let thread = std::thread::spawn({
            let (stop, asked) = (stop.clone(), asked.clone());
            move || {
                while !stop.load(Ordering::Relaxed) {
                    answer_one(&socket, lie, &asked);
                }
            }
        });
        Self {
            stop,
            asked,
            thread: Some(thread),
        }
    }

    /// How many requests it has seen.
    pub fn asked(&self) -> u32 {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn answer_one(socket: &UdpSocket, lie: Lie, asked: &AtomicU32) {
    let mut buffer = [0; 2048];
    let Ok((len, from)) = socket.recv_from(&mut buffer) else {
        return;
    };
    if len < 48 || buffer[0] & 7 != 3 {
        return;
    }
    asked.fetch_add(1, Ordering::Relaxed);
    let mut reply = [0; 48];
    reply[0] = buffer[0] & 0o70 | 4;
    reply[2] = buffer[2];
    reply[3] = (-20i8).cast_unsigned();
    reply[24..32].copy_from_slice(&buffer[40..48]);
    let mut time = now();
    match lie {
        Lie::Offset(offset_s) => {
            reply[1] = 1;
            reply[12..16].copy_from_slice(b"LIAR");
            time = time.wrapping_add(((offset_s * 2f64.powi(32)) as i64).cast_unsigned());
        }
        Lie::Kiss(code) => {
            reply[0] |= 3 << 6;
            reply[12..16].copy_from_slice(&code);
        }
    }
    for field in [16..24, 32..40, 40..48] {
        reply[field].copy_from_slice(&time.to_be_bytes());
    }
    let _ = socket.send_to(&reply, from);
}

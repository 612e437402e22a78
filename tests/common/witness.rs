//! Servers that write down what they are asked: many of them in one thread, each at an
//! address and port of its own, and what they say may change while they run.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::net::Namespace;
use super::ntp::now;

/// What a server says of its time.
#[derive(Clone, Copy)]
pub struct Says {
    /// How far it is ahead of this machine's clock.
    pub offset_s: f64,
    /// Its stratum.
    pub stratum: u8,
    /// Its root dispersion.
    pub dispersion_s: f64,
}

/// The truth, at stratum 1.
pub const TRUTH: Says = Says {
    offset_s: 0.0,
    stratum: 1,
    dispersion_s: 0.0,
};

struct Server {
    address: SocketAddr,
    socket: UdpSocket,
    says: Mutex<Says>,
    seen: Mutex<Vec<(Instant, Vec<u8>)>>,
}

/// The servers.
pub struct Witnesses {
    servers: Arc<Vec<Server>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Witnesses {
    /// At these addresses, which are there already.
    pub fn start(namespace: &Namespace, at: impl IntoIterator<Item = (SocketAddr, Says)>) -> Self {
        let server = |(address, says): (SocketAddr, Says)| {
            let socket = namespace.udp(address);
            socket.set_nonblocking(true).expect("not blocking");
            Server {
                address,
                socket,
                says: Mutex::new(says),
                seen: Mutex::default(),
            }
        };
        let servers: Arc<Vec<Server>> = Arc::new(at.into_iter().map(server).collect());
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (servers, stop) = (servers.clone(), stop.clone());
            move || {
                while !stop.load(Ordering::Relaxed) {
                    servers.iter().for_each(answer);
                    std::thread::sleep(Duration::from_micros(200));
                }
            }
        });
        Self {
            servers,
            stop,
            thread: Some(thread),
        }
    }

    fn server(&self, address: IpAddr) -> &Server {
        let server = self.servers.iter().find(|s| s.address.ip() == address);
        server.expect("one of ours")
    }

    /// What the server at `address` says from now on.
    pub fn say(&self, address: IpAddr, says: Says) {
        *self.server(address).says.lock().expect("no panic") = says;
    }

    /// The requests to `address`, and when they came.
    pub fn seen(&self, address: IpAddr) -> Vec<(Instant, Vec<u8>)> {
        self.server(address).seen.lock().expect("no panic").clone()
    }

    /// Seconds between the requests to `address`.
    pub fn gaps_s(&self, address: IpAddr) -> Vec<f64> {
        let seen = self.seen(address);
        let gap = |pair: &[(Instant, Vec<u8>)]| (pair[1].0 - pair[0].0).as_secs_f64();
        seen.windows(2).map(gap).collect()
    }
}

impl Drop for Witnesses {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn answer(server: &Server) {
    let mut request = [0; 512];
    while let Ok((len, from)) = server.socket.recv_from(&mut request) {
        let says = *server.says.lock().expect("no panic");
        let shift = ((says.offset_s * 2f64.powi(32)) as i64).cast_unsigned();
        let received = now().wrapping_add(shift);
        let mut seen = server.seen.lock().expect("no panic");
        seen.push((Instant::now(), request[..len].to_vec()));
        drop(seen);
        if len < 48 {
            continue;
        }
        let mut reply = [0; 48];
        // A peer is answered by a peer.
        let mode = if request[0] & 7 == 1 { 2 } else { 4 };
        reply[0] = request[0] & 0o70 | mode;
        reply[1] = says.stratum;
        reply[2] = request[2];
        reply[3] = (-20i8).cast_unsigned();
        let dispersion = (says.dispersion_s * 65536.0) as u32;
        reply[8..12].copy_from_slice(&dispersion.to_be_bytes());
        reply[12..16].copy_from_slice(b"WITN");
        reply[24..32].copy_from_slice(&request[40..48]);
        for field in [16..24, 32..40] {
            reply[field].copy_from_slice(&received.to_be_bytes());
        }
        reply[40..48].copy_from_slice(&now().wrapping_add(shift).to_be_bytes());
        let _ = server.socket.send_to(&reply, from);
    }
}

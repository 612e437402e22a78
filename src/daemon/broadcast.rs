//! Our time told unasked to a network or a group (RFC 5905 section 9.2, mode 5), as
//! `broadcast` lines want it. Only what is worth something is told: while we are not
//! synchronised, nothing is, as with ntpd. And ears for what others tell.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::RawFd;

use log::warn;

use crate::config::BroadcastLine;
use crate::daemon::clock::Clock;
use crate::linux::udp::{ClientSocket, ServerSocket};
use crate::system::SystemState;
use crate::time::instant::MonoInstant;
use crate::time::timestamp::NtpTimestamp;
use crate::wire::key::{KeyTable, Message};
use crate::wire::packet::Mode;

/// One address that is told.
#[derive(Debug)]
pub struct Broadcast {
    line: BroadcastLine,
    next: MonoInstant,
    /// The operator knows that nothing can be sent.
    told: bool,
}

/// Who tells what.
pub struct Teller<'a> {
    /// The port that we serve on.
    pub port: u16,
    /// Code point of differentiated services.
    pub dscp: u8,
    /// What we know of the time.
    pub state: &'a SystemState,
    /// The clock that is served.
    pub clock: &'a Clock,
    /// To sign by.
    pub keys: &'a KeyTable,
}

impl Broadcast {
    /// Told for the first time after one interval.
    pub fn new(line: BroadcastLine, now: MonoInstant) -> Self {
        Self {
            line,
            next: now + line.interval,
            told: false,
        }
    }

    /// When to call [`turn`](Self::turn).
    pub fn deadline(&self) -> MonoInstant {
        self.next
    }

    /// Sends, if it is time.
    pub fn turn(&mut self, now: MonoInstant, teller: &Teller<'_>) {
        if now < self.next {
            return;
        }
        self.next = now + self.line.interval;
        if !teller.state.is_synchronised() {
            return;
        }
        match self.send(teller) {
            Ok(()) => self.told = false,
            Err(problem) => {
                if !std::mem::replace(&mut self.told, true) {
                    let to: SocketAddr = self.line.to;
                    warn!("cannot broadcast to {to}: {problem}; trying again at each interval");
                }
            }
        }
    }

    /// From a fresh socket: addresses and routes may have changed.
    fn send(&self, teller: &Teller<'_>) -> Result<(), String> {
        let line = &self.line;
        let key = match line.key {
            Some(id) => {
                let key = teller.keys.get(id);
                Some(key.ok_or_else(|| format!("there is no key {id} any more"))?)
            }
            None => None,
        };
        let socket = ClientSocket::broadcast_from(teller.port, line.to, line.hops);
        let mut socket = socket.map_err(|error| error.to_string())?;
        let now = teller.clock.now().wall;
        socket
            .set_dscp(teller.dscp)
            .map_err(|error| error.to_string())?;
        let mut header = teller.state.header(Mode::Broadcast, now);
        header.version = line.version;
        header.poll = line.interval.as_seconds().log2().round() as i8;
        header.transmit = NtpTimestamp::from_wall(now);
        let sent = socket.send(&Message::new(&header, key));
        sent.map(drop).map_err(|error| error.to_string())
    }
}

/// Hears what is broadcast, and what is sent to groups. Other sockets of ours on the port
/// get it too, and drop it; what is sent to us alone goes to them.
#[derive(Debug)]
pub struct Ears {
    sockets: Vec<ServerSocket>,
}

impl Ears {
    /// Opens them, after those that serve on `port`. A group that can't be joined is told.
    pub fn open(port: u16, groups: &[IpAddr]) -> Self {
        let mut ears = Self {
            sockets: Vec::new(),
        };
        let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = groups.iter().partition(|ip| ip.is_ipv4());
        ears.add(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port), &v4);
        if !v6.is_empty() {
            ears.add(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port), &v6);
        }
        ears
    }

    fn add(&mut self, any: SocketAddr, groups: &[IpAddr]) {
        let socket = match ServerSocket::bind(any, true) {
            Ok(socket) => socket,
            Err(error) => {
                warn!("broadcasts can't be heard on {any}: {error}");
                return;
            }
        };
        for group in groups {
            if let Err(error) = socket.join(*group) {
                warn!("{group} can't be joined: {error}; trying again when the network changes");
            }
        }
        self.sockets.push(socket);
    }

    /// For waiting, in order of [`hear`](Self::hear).
    pub fn fds(&self) -> impl Iterator<Item = RawFd> {
        self.sockets.iter().map(ServerSocket::fd)
    }

    /// The next broadcast: so many octets of `buffer`, from whom.
    pub fn hear(&self, index: usize, buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
        let arrival = self.sockets.get(index)?.receive(buffer).ok()??;
        arrival.group.then_some((arrival.len, arrival.from))
    }
}

//! Our time told unasked to a network or a group (RFC 5905 section 9.2, mode 5), as
//! `broadcast` lines want it. Only what is worth something is told: while we are not
//! synchronised, nothing is, as with ntpd.

use std::net::SocketAddr;

use log::warn;

use crate::config::broadcast::BroadcastLine;
use crate::daemon::clock::Clock;
use crate::linux::udp::ClientSocket;
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
        let mut header = teller.state.header(Mode::Broadcast, now);
        header.version = line.version;
        header.poll = line.interval.as_seconds().log2().round() as i8;
        header.transmit = NtpTimestamp::from_wall(now);
        let sent = socket.send(&Message::new(&header, key));
        sent.map(drop).map_err(|error| error.to_string())
    }
}

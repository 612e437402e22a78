//! A request on its way, at the edge: its socket, and the stamps of its departure and
//! of the answer's arrival as they come in.
//!
//! T1 and T4 are taken by the same hand: both by the card, or both by the kernel. A
//! card's stamp on one side and the kernel's on the other would be wrong by half of
//! what a packet spends in the kernel, always to the same side. So an answer that the
//! card stamped waits a moment for the card's stamp of the request.

use std::net::SocketAddr;

use crate::linux::cmsg::CardStamp;
use crate::linux::udp::{Answer, ClientSocket, SendId};
use crate::time::instant::MonoInstant;
use crate::time::stamp::Stamp;

/// A request that was sent.
#[derive(Debug)]
pub struct Exchange {
    /// Whence it was sent.
    pub socket: ClientSocket,
    /// The kernel's stamp; before it came, and with drivers that let the kernel give
    /// none, when we had it sent.
    departure: Stamp,
    card_departure: Option<CardStamp>,
    held: Option<Held>,
    /// If the socket stays open for a peer: which datagram the departure is of.
    peer: Option<(SocketAddr, SendId)>,
}

/// An answer that waits for the departure stamp of its request.
#[derive(Debug)]
struct Held {
    bytes: Vec<u8>,
    answer: Answer,
    until: MonoInstant,
}

/// An answer, and the stamps that tell when it arrived and the request departed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delivery {
    /// The datagram.
    pub bytes: Vec<u8>,
    /// Its arrival.
    pub answer: Answer,
    /// What is witness of the card's stamp of the request, and that stamp, if it came.
    pub departure: Option<(Stamp, CardStamp)>,
}

impl Exchange {
    /// Sent by `socket`, not before `sent`.
    pub fn new(socket: ClientSocket, sent: Stamp) -> Self {
        Self {
            socket,
            departure: sent,
            card_departure: None,
            held: None,
            peer: None,
        }
    }

    /// This datagram was sent to the peer `to`, not before `sent`; its departure is what
    /// counts from here on. An answer that still waits for the last one's is delivered.
    pub fn sent_to_peer(&mut self, to: SocketAddr, id: SendId, sent: Stamp) -> Option<Delivery> {
        let held = self.held.take().map(|held| self.deliver(held));
        self.departure = sent;
        self.card_departure = None;
        self.peer = Some((to, id));
        held
    }

    /// Whom the socket stays open for.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer.map(|(to, _)| to)
    }

    /// Is the departure of this datagram the one that counts?
    pub fn awaits(&self, id: SendId) -> bool {
        self.peer.is_none_or(|(_, last)| last == id)
    }

    /// The kernel stamped the departure.
    pub fn departed_kernel(&mut self, stamp: Stamp) {
        self.departure = stamp;
    }

    /// The card stamped the departure. An answer that waited for that can be delivered.
    pub fn departed_card(&mut self, stamp: CardStamp) -> Option<Delivery> {
        self.card_departure = Some(stamp);
        self.held.take().map(|held| self.deliver(held))
    }

    /// An answer came; the departure stamp of its request may still come `until` then.
    /// The answer, unless that is worth waiting for.
    pub fn answered(
        &mut self,
        bytes: &[u8],
        answer: Answer,
        until: Option<MonoInstant>,
    ) -> Option<Delivery> {
        let held = Held {
            bytes: bytes.to_vec(),
            answer,
            until: until.unwrap_or_default(),
        };
        let waits = until.is_some() && self.card_departure.is_none();
        // A second answer is a copy or a forgery: the packet tests will tell, at once.
        if waits && self.held.is_none() {
            self.held = Some(held);
            return None;
        }
        Some(self.deliver(held))
    }

    fn deliver(&self, held: Held) -> Delivery {
        Delivery {
            bytes: held.bytes,
            answer: held.answer,
            departure: self.card_departure.map(|card| (self.departure, card)),
        }
    }

    /// When an answer has waited long enough.
    pub fn deadline(&self) -> Option<MonoInstant> {
        self.held.as_ref().map(|held| held.until)
    }

    /// The answer that has waited until `now` in vain.
    pub fn expire(&mut self, now: MonoInstant) -> Option<Delivery> {
        let held = self.held.take_if(|held| held.until <= now)?;
        Some(self.deliver(held))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::duration::NtpDuration;
    use crate::time::instant::WallInstant;
    use crate::time::phc::PhcInstant;

    const CARD: CardStamp = CardStamp {
        phc: PhcInstant::from_nanos(5),
        interface: 2,
        frame_len: 90,
    };

    const SENT: Stamp = Stamp::daemon(WallInstant::from_unix_ns(0));

    fn exchange() -> Exchange {
        let to = "127.0.0.1:9".parse().expect("an address");
        let socket = ClientSocket::connect(to, false).expect("a socket");
        Exchange::new(socket, SENT)
    }

    fn answer(card: Option<CardStamp>) -> Answer {
        Answer {
            len: 4,
            stamp: Stamp::kernel(WallInstant::from_unix_ns(9)),
            card,
            interface: 2,
        }
    }

    const LATER: MonoInstant = MonoInstant::from_nanos(1_000_000);

    #[test]
    fn an_answer_waits_for_the_cards_stamp_of_its_request() {
        let mut exchange = exchange();
        let sent = Stamp::kernel(WallInstant::from_unix_ns(1));
        exchange.departed_kernel(sent);
        assert_eq!(
            exchange.answered(b"time", answer(Some(CARD)), Some(LATER)),
            None
        );
        assert_eq!(exchange.deadline(), Some(LATER));
        let delivery = exchange.departed_card(CARD).expect("what waited");
        assert_eq!(delivery.bytes, b"time");
        assert_eq!(delivery.departure, Some((sent, CARD)));
        assert_eq!(exchange.deadline(), None);
    }

    /// mlx5 and sfc.
    #[test]
    fn a_driver_may_leave_the_kernel_without_a_stamp_of_departures() {
        let mut exchange = exchange();
        exchange.answered(b"time", answer(Some(CARD)), Some(LATER));
        let delivery = exchange.departed_card(CARD).expect("what waited");
        assert_eq!(delivery.departure, Some((SENT, CARD)));
    }

    #[test]
    fn in_vain_at_times() {
        let mut exchange = exchange();
        exchange.answered(b"time", answer(Some(CARD)), Some(LATER));
        assert_eq!(exchange.expire(MonoInstant::ZERO), None);
        let delivery = exchange.expire(LATER).expect("due");
        assert_eq!(delivery.departure, None);
    }

    #[test]
    fn what_has_its_stamps_does_not_wait_and_a_second_answer_neither() {
        let mut exchange = exchange();
        assert!(exchange.answered(b"time", answer(None), None).is_some());
        exchange.answered(b"time", answer(Some(CARD)), Some(LATER));
        let second = exchange.answered(b"time", answer(Some(CARD)), Some(LATER));
        assert!(second.is_some(), "nobody can fill our memory");
        let length = NtpDuration::from_whole_seconds(1);
        assert!(exchange.deadline() < Some(LATER + length));
    }
}

//! What a symmetric association has beyond a client's (RFC 5905 sections 8 and 9.2): each
//! of two peers sends at its own pace, and what it sends answers the other's last packet
//! and asks for the next one. Ours carries our time, so its stamps are true ones.
//!
//! Which of the peer's packets ours answers is decided as in chronyd: the last one that
//! answered ours, and only where there is none since we last sent, one that did not. A
//! stranger who can send in the peer's name, or repeat what the peer once said, can so
//! start nothing that the peer's next packet does not end (CVE-2015-1799).

use crate::client::packet_test::PacketTest;
use crate::system::SystemState;
use crate::time::duration::NtpDuration;
use crate::time::instant::WallInstant;
use crate::time::stamp::Stamp;
use crate::time::timestamp::NtpTimestamp;
use crate::time::units::{PollExponent, Precision};
use crate::wire::packet::{Header, Leap, Mode, Packet, STRATUM_MAX};

/// A packet of the peer's that may be answered.
#[derive(Clone, Copy, Debug)]
struct Heard {
    /// Its T3, our next packet's origin.
    transmit: NtpTimestamp,
    /// T4, our next packet's receive stamp.
    arrival: Stamp,
}

impl Heard {
    fn is_before(&self, transmit: NtpTimestamp) -> bool {
        transmit - self.transmit > NtpDuration::ZERO
    }
}

/// Both sides' last packets.
#[derive(Debug)]
pub struct Symmetric {
    /// The last that answered ours.
    answer: Option<Heard>,
    /// It came since we last sent.
    answered: bool,
    /// The last that did not: the peer missed ours, or has started anew.
    hail: Option<Heard>,
    /// It came since we last sent.
    hailed: bool,
    /// Our last packet, as far as it is known before it leaves; none before the first.
    sent: Option<Header>,
    /// What its transmit stamp has below our clock's precision.
    noise: u64,
    /// The peer's, as it last said.
    poll: PollExponent,
    stratum: u8,
    /// The peer's last word was that it follows us.
    follows_us: bool,
}

impl Default for Symmetric {
    fn default() -> Self {
        Self {
            answer: None,
            answered: false,
            hail: None,
            hailed: false,
            sent: None,
            noise: 0,
            poll: PollExponent::MAX,
            stratum: STRATUM_MAX,
            follows_us: false,
        }
    }
}

impl Symmetric {
    /// The next packet, all but its transmit stamp, which [`stamp`](Self::stamp) sets.
    /// `noise` is unguessable.
    pub fn compose(
        &mut self,
        ours: &SystemState,
        poll: PollExponent,
        now: WallInstant,
        noise: u64,
    ) {
        let reply_to = if self.answered {
            self.answer
        } else {
            self.hail.or(self.answer)
        };
        (self.answered, self.hailed) = (false, false);
        self.noise = noise & below(ours.precision);
        self.sent = Some(Header {
            poll: poll.log2(),
            origin: reply_to.map_or(NtpTimestamp::ZERO, |heard| heard.transmit),
            receive: reply_to.map_or(NtpTimestamp::ZERO, |heard| {
                NtpTimestamp::from_wall(heard.arrival.at)
            }),
            ..ours.header(Mode::SymmetricActive, now)
        });
    }

    /// What was composed, to be sent at `now`.
    pub fn stamp(&mut self, version: u8, now: WallInstant) -> Option<Header> {
        let sent = self.sent.as_mut()?;
        let bits = NtpTimestamp::from_wall(now).bits() & !below(sent.precision) | self.noise;
        sent.version = version;
        // Zero would mean that there is none.
        sent.transmit = NtpTimestamp::from_bits(bits.max(1));
        Some(*sent)
    }

    /// A packet came that is the peer's as far as can be known. Fine if it is the first
    /// answer to our last one; else our next one answers it if nothing better comes.
    pub fn take(&mut self, packet: &Packet<'_>, arrival: Stamp) -> Result<(), PacketTest> {
        let transmit = packet.transmit();
        if transmit.is_zero() {
            return Err(PacketTest::Zero);
        }
        let known = [self.answer, self.hail].into_iter().flatten();
        if known
            .map(|heard| heard.transmit)
            .any(|known| known == transmit)
        {
            return Err(PacketTest::Duplicate);
        }
        let unsynchronised = packet.leap() == Leap::Unknown || packet.stratum() == 0;
        self.stratum = if unsynchronised {
            STRATUM_MAX
        } else {
            packet.stratum()
        };
        self.poll = PollExponent::new(packet.poll());
        let heard = Some(Heard { transmit, arrival });
        let is_newer = |than: Option<Heard>| than.is_none_or(|than| than.is_before(transmit));
        let sent = self.sent.map(|sent| sent.transmit);
        if sent == Some(packet.origin()) {
            if !self.answered || is_newer(self.answer) {
                self.answer = heard;
                self.hail = None;
            }
            let again = std::mem::replace(&mut self.answered, true);
            return if again {
                Err(PacketTest::Duplicate)
            } else {
                Ok(())
            };
        }
        if !self.hailed || is_newer(self.hail) {
            self.hail = heard;
            self.hailed = true;
        }
        Err(PacketTest::Origin)
    }

    /// Our clock was moved: what it stamped means nothing now.
    pub fn forget(&mut self) {
        (self.answer, self.hail, self.sent) = (None, None, None);
        (self.answered, self.hailed) = (false, false);
    }

    /// The peer's poll interval, as it last said.
    pub fn poll(&self) -> PollExponent {
        self.poll
    }

    /// Is the peer farther from the primary reference than we, or as far? Then it has more
    /// of an answer at once than we have.
    pub fn defers(&self) -> bool {
        self.stratum >= self.our_stratum()
    }

    /// Is it farther? Then it should ask first.
    pub fn leads(&self) -> bool {
        self.stratum > self.our_stratum()
    }

    fn our_stratum(&self) -> u8 {
        match self.sent {
            Some(sent) if sent.leap != Leap::Unknown => sent.stratum,
            _ => STRATUM_MAX,
        }
    }

    /// Keeps whether the peer follows us.
    pub fn note_loop(&mut self, follows_us: bool) {
        self.follows_us = follows_us;
    }

    /// Does it follow us? Then we must not follow it.
    pub fn follows_us(&self) -> bool {
        self.follows_us
    }
}

/// The bits of a timestamp that are below a clock's precision.
fn below(precision: Precision) -> u64 {
    let bits = (32 + i32::from(precision.log2())).clamp(0, 32);
    (1 << bits) - 1
}

#[cfg(test)]
mod tests {
    //! One peer, whose packets are made by hand; ours are judged by what they answer.

    use super::*;
    use crate::time::timestamp::NtpShort;
    use crate::wire::refid::RefId;

    struct Story {
        symmetric: Symmetric,
        at: WallInstant,
    }

    impl Story {
        fn new() -> Self {
            Self {
                symmetric: Symmetric::default(),
                at: WallInstant::from_unix_ns(1_900_000_000_000_000_000),
            }
        }

        fn pass(&mut self, seconds: i64) {
            self.at = self.at + NtpDuration::from_whole_seconds(seconds);
        }

        fn send(&mut self) -> Header {
            self.pass(1);
            let ours = SystemState::unsynchronised(Precision::new(-20));
            self.symmetric
                .compose(&ours, PollExponent::new(6), self.at, 0x1234_5678);
            self.symmetric.stamp(4, self.at).expect("composed")
        }

        /// What the peer sends now, to `ours`.
        fn answer(&mut self, ours: Option<Header>) -> Header {
            self.pass(1);
            let at = NtpTimestamp::from_wall(self.at);
            Header {
                leap: Leap::None,
                version: 4,
                mode: Mode::SymmetricActive,
                stratum: 2,
                poll: 6,
                precision: Precision::new(-20),
                root_delay: NtpShort::default(),
                root_dispersion: NtpShort::default(),
                refid: RefId::INIT,
                reference: NtpTimestamp::ZERO,
                origin: ours.map_or(NtpTimestamp::ZERO, |ours| ours.transmit),
                receive: at,
                transmit: at,
            }
        }

        fn take(&mut self, header: &Header) -> Result<(), PacketTest> {
            let bytes = header.to_bytes();
            let packet = Packet::new(&bytes).expect("a packet");
            self.symmetric.take(&packet, Stamp::kernel(self.at))
        }
    }

    #[test]
    fn two_peers_find_together() {
        let mut story = Story::new();
        let first = story.send();
        assert!(first.origin.is_zero() && !first.transmit.is_zero());
        let hail = story.answer(None);
        assert_eq!(story.take(&hail), Err(PacketTest::Origin));
        let second = story.send();
        assert_eq!(second.origin, hail.transmit, "it is answered all the same");
        let answer = story.answer(Some(second));
        assert_eq!(story.take(&answer), Ok(()));
        let arrived = NtpTimestamp::from_wall(story.at);
        let third = story.send();
        assert_eq!((third.origin, third.receive), (answer.transmit, arrived));
    }

    #[test]
    fn noise_is_below_the_precision() {
        let mut story = Story::new();
        let sent = story.send();
        let off = sent.transmit - NtpTimestamp::from_wall(story.at);
        assert_eq!(sent.transmit.bits() & 0xfff, 0x678);
        assert!(off.abs() < Precision::new(-20).to_duration());
    }

    /// RFC 5905 section 8: a zero origin, ours or the peer's, is no answer.
    #[test]
    fn nothing_is_no_answer_to_nothing() {
        let mut story = Story::new();
        let before = story.answer(None);
        assert_eq!(story.take(&before), Err(PacketTest::Origin));
        let sent = story.send();
        story.symmetric.forget();
        let late = story.answer(Some(sent));
        assert_eq!(story.take(&late), Err(PacketTest::Origin));
        let mut empty = story.answer(None);
        empty.transmit = NtpTimestamp::ZERO;
        assert_eq!(story.take(&empty), Err(PacketTest::Zero));
    }

    /// CVE-2015-1799: somebody sends in the peer's name again and again.
    #[test]
    fn a_forger_does_not_come_between_two_peers_that_hear_each_other() {
        let mut story = Story::new();
        for _ in 0..5 {
            let sent = story.send();
            let mut forged = story.answer(None);
            forged.transmit = forged.transmit + NtpDuration::from_whole_seconds(86_400);
            assert_eq!(story.take(&forged), Err(PacketTest::Origin));
            let answer = story.answer(Some(sent));
            assert_eq!(story.take(&answer), Ok(()));
            let mut forged = story.answer(None);
            forged.transmit = forged.transmit + NtpDuration::from_whole_seconds(86_400);
            assert_eq!(story.take(&forged), Err(PacketTest::Origin));
            assert_eq!(story.send().origin, answer.transmit);
        }
    }

    #[test]
    fn what_was_sent_before_is_a_copy_and_a_second_answer_no_sample() {
        let mut story = Story::new();
        let sent = story.send();
        let answer = story.answer(Some(sent));
        assert_eq!(story.take(&answer), Ok(()));
        assert_eq!(story.take(&answer), Err(PacketTest::Duplicate));
        let again = story.answer(Some(sent));
        assert_eq!(story.take(&again), Err(PacketTest::Duplicate));
        assert_eq!(story.send().origin, again.transmit, "the newest counts");
        assert_eq!(story.take(&answer), Err(PacketTest::Origin), "an old one");
    }

    #[test]
    fn who_is_nearer_to_the_source_answers_and_lets_the_other_ask() {
        let mut story = Story::new();
        story.send();
        assert!(story.symmetric.defers() && !story.symmetric.leads());
        let hail = story.answer(None);
        let _ = story.take(&hail);
        assert!(!story.symmetric.defers(), "it has time and we have none");
        let mut ours = SystemState::unsynchronised(Precision::new(-20));
        (ours.stratum, ours.leap) = (1, Leap::None);
        let poll = PollExponent::new(6);
        story.symmetric.compose(&ours, poll, story.at, 0);
        assert!(story.symmetric.defers() && story.symmetric.leads());
    }
}

//! A request that came in a PTP message: opened, answered like any other, and the reply
//! sealed in the form that was asked. Stands beside [`respond`](crate::server::respond),
//! whose way for plain NTP it does not lengthen.
//!
//! A client that asks for it is told what transparent clocks added to its request, as
//! chrony does: only where a network card stamped the arrival, because what it knows of
//! the way there is lost in what the kernel's stamp does not know; and with the time
//! that the frame took to come in, which the client knows of its own.

use crate::server::respond::{Policy, Request, Responder};
use crate::server::verdict::{Reason, ReplyKind, Verdict};
use crate::system::SystemState;
use crate::time::duration::NtpDuration;
use crate::time::instant::MonoInstant;
use crate::wire::packet::{HEADER_LEN, PACKET_LEN_MAX, Packet};
use crate::wire::ptp::{
    CORRECTION_LEN, Envelope, PREFIX_LEN_MAX, correction_field, find_correction,
};
use crate::wire::trailer::Trailer;

/// Where NTP over PTP is served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PtpService {
    /// The UDP port, on which nothing else is.
    pub port: u16,
    /// The PTP domain; messages of others get no answer.
    pub domain: u8,
}

/// What is known of a request over PTP besides its octets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Carriage {
    /// The PTP domain that is served.
    pub domain: u8,
    /// How long its frame took to come in, if a network card stamped it; else zero.
    pub frame_time: NtpDuration,
}

impl Responder {
    /// As [`respond`](Self::respond), for a whole PTP message in `request`. Besides the
    /// verdict, at which octet of `out` the NTP message begins: that is where
    /// [`complete`](crate::server::respond::complete) finds its fields. What is
    /// not NTP over PTP gets no answer.
    pub fn respond_over_ptp(
        &mut self,
        carriage: Carriage,
        policy: &Policy,
        state: &SystemState,
        request: &Request,
        now: MonoInstant,
        out: &mut [u8; PACKET_LEN_MAX],
    ) -> (Verdict, usize) {
        let Some((envelope, bytes)) = Envelope::open(request.bytes, carriage.domain) else {
            return (Verdict::Drop(Reason::OtherPtp), 0);
        };
        let inner = Request { bytes, ..*request };
        let verdict = match self.respond(policy, state, &inner, now, out) {
            // Nobody's way to ask for our state: it is not handed on.
            Verdict::Drop(Reason::Control) => Verdict::Drop(Reason::OtherPtp),
            other => other,
        };
        let Verdict::Reply { len, kind, track } = verdict else {
            return (verdict, 0);
        };
        // Not to a kiss, nor behind a MAC.
        let tells = matches!(kind, ReplyKind::Basic | ReplyKind::Interleaved) && len == HEADER_LEN;
        let len = if tells && asks_correction(&envelope, bytes) {
            let total = total_correction(envelope.correction, carriage.frame_time);
            let field = correction_field(envelope.form, total);
            out[len..len + CORRECTION_LEN].copy_from_slice(&field);
            len + CORRECTION_LEN
        } else {
            len
        };
        let mut prefix = [0; PREFIX_LEN_MAX];
        let reply = Envelope {
            correction: NtpDuration::ZERO,
            ..envelope
        };
        let start = reply.seal(len, &mut prefix);
        out.copy_within(..len, start);
        out[..start].copy_from_slice(&prefix[..start]);
        let len = start + len;
        (Verdict::Reply { len, kind, track }, start)
    }
}

fn asks_correction(envelope: &Envelope, bytes: &[u8]) -> bool {
    Packet::new(bytes)
        .filter(|packet| packet.version() == 4)
        .and_then(|packet| Trailer::parse(4, packet.trailer()).ok())
        .is_some_and(|trailer| find_correction(envelope.form, &trailer).is_some())
}

/// Zero where nothing is known.
fn total_correction(correction: NtpDuration, frame_time: NtpDuration) -> NtpDuration {
    if frame_time > NtpDuration::ZERO && correction > NtpDuration::ZERO {
        correction + frame_time
    } else {
        NtpDuration::ZERO
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::access::AccessTable;
    use crate::server::respond::{Sizes, complete, set_transmit};
    use crate::server::rule::{Flags, Prefix, Rule, Who};
    use crate::time::instant::WallInstant;
    use crate::time::timestamp::NtpTimestamp;
    use crate::time::units::Precision;
    use crate::wire::key::{Key, KeyKind, KeyTable};
    use crate::wire::packet::Mode;
    use crate::wire::ptp::Form;

    const T2: WallInstant = WallInstant::from_unix_ns(1_800_000_000_123_456_789);
    const FRAME: NtpDuration = NtpDuration::from_units(3_000); // 0.7 us

    struct Server {
        responder: Responder,
        flags: Flags,
        frame_time: NtpDuration,
        out: [u8; PACKET_LEN_MAX],
    }

    impl Server {
        fn new() -> Self {
            Self {
                responder: Responder::new(1, Sizes::default()),
                flags: Flags::NONE,
                frame_time: NtpDuration::ZERO,
                out: [0xaa; PACKET_LEN_MAX],
            }
        }

        fn judge(&mut self, message: &[u8]) -> (Verdict, usize) {
            let prefix = Prefix::ALL_V4;
            let ntpport = false;
            let everyone = Rule::Restrict(Who::Block { prefix, ntpport }, self.flags);
            let policy = Policy {
                access: AccessTable::compile(&[everyone], &[]),
                ..Policy::default()
            };
            let request = Request {
                bytes: message,
                from: "192.0.2.7:319".parse().expect("an address"),
                group: false,
                received: T2,
            };
            let carriage = Carriage {
                domain: 123,
                frame_time: self.frame_time,
            };
            let state = SystemState::unsynchronised(Precision::new(-20));
            let now = MonoInstant::from_nanos(1_000_000_000);
            let out = &mut self.out;
            self.responder
                .respond_over_ptp(carriage, &policy, &state, &request, now, out)
        }

        /// The reply's envelope and the NTP message in it.
        fn ask(&mut self, message: &[u8]) -> (Envelope, Vec<u8>) {
            let (verdict, start) = self.judge(message);
            let Verdict::Reply { len, .. } = verdict else {
                panic!("{verdict:?}");
            };
            assert!(len <= message.len(), "no more than was asked with");
            let (envelope, ntp) = Envelope::open(&self.out[..len], 123).expect("over PTP");
            assert_eq!(ntp, &self.out[start..len]);
            (envelope, ntp.to_vec())
        }
    }

    /// With octets behind the header.
    fn request(form: Form, correction: NtpDuration, trailer: &[u8]) -> Vec<u8> {
        let mut ntp = vec![0; HEADER_LEN];
        ntp[0] = 4 << 3 | Mode::Client as u8;
        ntp[40..48].copy_from_slice(&0x0123_4567_89ab_cdef_u64.to_be_bytes());
        ntp.extend(trailer);
        let envelope = Envelope {
            form,
            domain: 123,
            sequence: 77,
            correction,
        };
        let mut prefix = [0; PREFIX_LEN_MAX];
        let len = envelope.seal(ntp.len(), &mut prefix);
        [&prefix[..len], &ntp].concat()
    }

    fn corrected(form: Form, correction: NtpDuration) -> Vec<u8> {
        request(form, correction, &correction_field(form, NtpDuration::ZERO))
    }

    #[test]
    fn a_reply_has_the_form_and_number_of_its_request() {
        for form in [Form::Experimental, Form::Final] {
            let mut server = Server::new();
            let (envelope, ntp) = server.ask(&request(form, FRAME, &[]));
            assert_eq!((envelope.form, envelope.sequence), (form, 77));
            assert_eq!(envelope.correction, NtpDuration::ZERO);
            let reply = Packet::new(&ntp).expect("a header");
            assert_eq!(reply.mode(), Mode::Server);
            assert_eq!(reply.origin().bits(), 0x0123_4567_89ab_cdef);
            assert!(reply.trailer().is_empty());
        }
    }

    #[test]
    fn the_transmit_stamp_goes_where_ntp_has_it() {
        let mut server = Server::new();
        let (verdict, start) = server.judge(&request(Form::Final, NtpDuration::ZERO, &[]));
        let Verdict::Reply { len, .. } = verdict else {
            panic!("{verdict:?}");
        };
        let t3 = T2 + NtpDuration::from_nanos(20_000);
        set_transmit(&mut server.out[start..len], t3);
        let (_, ntp) = Envelope::open(&server.out[..len], 123).expect("over PTP");
        let sent = Packet::new(ntp).expect("a header").transmit();
        let off = sent - NtpTimestamp::from_wall(t3);
        assert!(off.abs() < NtpDuration::from_nanos(2));
    }

    #[test]
    fn an_extension_field_is_not_taken_for_a_mac() {
        for form in [Form::Experimental, Form::Final] {
            let mut server = Server::new();
            let (verdict, start) = server.judge(&corrected(form, NtpDuration::ZERO));
            let Verdict::Reply { len, .. } = verdict else {
                panic!("{verdict:?}");
            };
            let field = server.out[start + HEADER_LEN..len].to_vec();
            let id = field.first_chunk().expect("a field");
            let key = Key::new(u32::from_be_bytes(*id), KeyKind::Sha1, b"secret");
            let keys = KeyTable::new(vec![key.expect("a key")]);
            complete(&keys, &mut server.out[start..len], T2);
            assert_eq!(server.out[start + HEADER_LEN..len], field);
        }
    }

    #[test]
    fn a_client_that_asks_is_told_of_its_requests_correction() {
        let correction = NtpDuration::from_nanos(5_000);
        for form in [Form::Experimental, Form::Final] {
            let mut server = Server::new();
            let told = |server: &mut Server, message: &[u8]| {
                let (_, ntp) = server.ask(message);
                let packet = Packet::new(&ntp).expect("a header");
                let trailer = Trailer::parse(4, packet.trailer()).expect("well formed");
                find_correction(form, &trailer)
            };
            let asked = corrected(form, correction);
            assert_eq!(told(&mut server, &asked), Some(NtpDuration::ZERO), "kernel");
            server.frame_time = FRAME;
            let total = correction + FRAME;
            let off = told(&mut server, &asked).expect("a field") - total;
            assert!(off.units().abs() <= 1);
            let none = corrected(form, NtpDuration::ZERO);
            assert_eq!(told(&mut server, &none), Some(NtpDuration::ZERO));
            let absurd = corrected(form, -correction);
            assert_eq!(told(&mut server, &absurd), Some(NtpDuration::ZERO));
            let unasked = request(form, correction, &[]);
            assert_eq!(told(&mut server, &unasked), None);
        }
    }

    #[test]
    fn nothing_else_is_answered_and_rules_hold() {
        let mut server = Server::new();
        let good = request(Form::Final, NtpDuration::ZERO, &[]);
        let mut announce = good.clone();
        announce[0] = 0x0b;
        for message in [&announce[..], &good[56..], &[]] {
            let (verdict, _) = server.judge(message);
            assert_eq!(verdict, Verdict::Drop(Reason::OtherPtp));
        }
        let mut reply = good.clone();
        reply[56] = 4 << 3 | Mode::Server as u8;
        let (verdict, _) = server.judge(&reply);
        assert_eq!(verdict, Verdict::Drop(Reason::BadMode), "no ping-pong");
        reply[56] = 2 << 3 | Mode::Control as u8;
        let (verdict, _) = server.judge(&reply);
        assert_eq!(verdict, Verdict::Drop(Reason::OtherPtp), "no query");
        server.flags = Flags::IGNORE;
        assert_eq!(server.judge(&good).0, Verdict::Drop(Reason::Ignore));
    }

    #[test]
    fn what_is_signed_with_an_unknown_key_is_told_so_and_no_more() {
        let trailer = [
            &correction_field(Form::Final, NtpDuration::ZERO)[..],
            &[0, 0, 0, 1],
            &[9; 16],
        ]
        .concat();
        let (_, ntp) = Server::new().ask(&request(Form::Final, FRAME, &trailer));
        assert_eq!(ntp.len(), HEADER_LEN + 4);
    }
}

//! Asking over PTP: requests sealed and replies opened in one of the two forms, and what
//! transparent clocks say of an exchange taken out of its sample.
//!
//! Nothing tells which form a server speaks but its answer. The experimental one is tried
//! first, as packaged servers have it; while nobody answers, the forms take turns.

use crate::measurement::Measurement;
use crate::time::duration::NtpDuration;
use crate::time::stamp::Stamp;
use crate::wire::key::{Key, MAC_LEN_MAX};
use crate::wire::packet::{HEADER_LEN, Packet};
use crate::wire::ptp::{Envelope, Form, PREFIX_LEN_MAX, correction_field, find_correction};
use crate::wire::trailer::Trailer;

/// Unanswered requests in a row after which the form that was answered before is in
/// doubt: the server may be another one now.
const MISSES_DOUBTED: u8 = 8;
/// Transparent clocks may run so much too fast. So much of their corrections stays in the
/// delay, that it is not corrected beyond what there was.
const CLOCK_ERROR_MAX: f64 = 100e-6;

/// What transparent clocks added on both ways. Nobody vouches for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Corrections {
    /// On the request's way to the server.
    pub there: NtpDuration,
    /// On the reply's way back.
    pub back: NtpDuration,
}

/// How one server is asked over PTP.
#[derive(Clone, Copy, Debug)]
pub struct Carrier {
    domain: u8,
    /// Corrections are asked for, and applied.
    corrects: bool,
    form: Form,
    /// The server has answered in this form.
    answered: bool,
    misses: u8,
    sequence: u16,
}

impl Carrier {
    /// For a server that was never asked.
    pub fn new(domain: u8, corrects: bool) -> Self {
        Self {
            domain,
            corrects,
            form: Form::Experimental,
            answered: false,
            misses: 0,
            sequence: 0,
        }
    }

    /// The datagram that carries a request, signed with `key` if there is one.
    pub fn seal(&mut self, request: &[u8; HEADER_LEN], key: Option<&Key>) -> Vec<u8> {
        let field = self
            .corrects
            .then(|| correction_field(self.form, NtpDuration::ZERO));
        let field = field.as_ref().map_or(&[][..], |field| &field[..]);
        self.sequence = self.sequence.wrapping_add(1);
        let envelope = Envelope {
            form: self.form,
            domain: self.domain,
            sequence: self.sequence,
            correction: NtpDuration::ZERO,
        };
        let mut message = [request, field].concat();
        if let Some(key) = key {
            let mut mac = [0; MAC_LEN_MAX];
            let len = key.sign(&message, &mut mac);
            message.extend(&mac[..len]);
        }
        let mut prefix = [0; PREFIX_LEN_MAX];
        let len = envelope.seal(message.len(), &mut prefix);
        [&prefix[..len], &message].concat()
    }

    /// The NTP message in a datagram that arrived, and what transparent clocks added, if
    /// both ways are known and a network card stamped the arrival: next to what the
    /// kernel's stamps don't know it is nothing. `None` for what is not NTP over PTP.
    pub fn open<'a>(
        &self,
        datagram: &'a [u8],
        arrival: &Stamp,
    ) -> Option<(&'a [u8], Option<Corrections>)> {
        let (envelope, ntp) = Envelope::open(datagram, self.domain)?;
        let corrections = || {
            if !self.corrects || arrival.frame_time <= NtpDuration::ZERO {
                return None;
            }
            let packet = Packet::new(ntp)?;
            let trailer = Trailer::parse(packet.version(), packet.trailer()).ok()?;
            let told = find_correction(envelope.form, &trailer)?;
            let known = told > NtpDuration::ZERO && envelope.correction > NtpDuration::ZERO;
            known.then(|| Corrections {
                // The server counts in how long the frame took to come in. Links at both
                // ends are taken to be equally fast: if they aren't, it shows in the
                // delay and not in the offset.
                there: told - arrival.frame_time,
                back: envelope.correction,
            })
        };
        Some((ntp, corrections()))
    }

    /// The server answered the last request.
    pub fn note_answer(&mut self) {
        self.answered = true;
        self.misses = 0;
    }

    /// It did not.
    pub fn note_miss(&mut self) {
        self.misses = self.misses.saturating_add(1);
        if !self.answered || self.misses >= MISSES_DOUBTED {
            self.form = self.form.other();
            self.answered = false;
            self.misses = 0;
        }
    }
}

impl Corrections {
    /// Takes them out of offset and delay, unless they can't be true. What is taken from
    /// the delay goes to the root delay: forged, they must not make the time look better
    /// than its round trip allows. (chrony's apply_net_correction.)
    pub fn apply(&self, sample: &mut Measurement) {
        let both = (self.there + self.back) * (1.0 - CLOCK_ERROR_MAX);
        if both.is_negative() || both > sample.delay {
            return;
        }
        let before = sample.delay;
        sample.offset += (self.back - self.there).half();
        sample.delay = (before - both).max(sample.precision);
        sample.root_delay += before - sample.delay;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::instant::WallInstant;

    const FRAME: NtpDuration = NtpDuration::from_units(3_000);

    fn us(us: f64) -> NtpDuration {
        NtpDuration::from_seconds(us * 1e-6)
    }

    fn form_of(carrier: &mut Carrier) -> Form {
        let datagram = carrier.seal(&[0x23; HEADER_LEN], None);
        let (envelope, ntp) = Envelope::open(&datagram, 123).expect("over PTP");
        assert_eq!(ntp[..HEADER_LEN], [0x23; HEADER_LEN]);
        envelope.form
    }

    /// A reply that says what became of the request, and came back with `back`.
    fn reply(form: Form, told: NtpDuration, back: NtpDuration) -> Vec<u8> {
        let ntp = [&[0x24; HEADER_LEN][..], &correction_field(form, told)].concat();
        let envelope = Envelope {
            form,
            domain: 123,
            sequence: 1,
            correction: back,
        };
        let mut prefix = [0; PREFIX_LEN_MAX];
        let len = envelope.seal(ntp.len(), &mut prefix);
        [&prefix[..len], &ntp].concat()
    }

    fn stamp(frame_time: NtpDuration) -> Stamp {
        Stamp {
            frame_time,
            ..Stamp::kernel(WallInstant::from_unix_ns(9))
        }
    }

    #[test]
    fn forms_take_turns_until_one_is_answered() {
        let mut carrier = Carrier::new(123, true);
        assert_eq!(form_of(&mut carrier), Form::Experimental);
        carrier.note_miss();
        assert_eq!(form_of(&mut carrier), Form::Final);
        carrier.note_miss();
        carrier.note_miss();
        assert_eq!(form_of(&mut carrier), Form::Final);
        carrier.note_answer();
        for _ in 0..7 {
            carrier.note_miss();
            assert_eq!(form_of(&mut carrier), Form::Final, "packets get lost");
        }
        carrier.note_miss();
        assert_eq!(form_of(&mut carrier), Form::Experimental);
    }

    #[test]
    fn a_request_asks_for_the_correction_only_if_told_to() {
        for (corrects, more) in [(false, 0), (true, 28)] {
            let mut carrier = Carrier::new(123, corrects);
            let first = carrier.seal(&[0x23; HEADER_LEN], None);
            assert_eq!(first.len(), 48 + HEADER_LEN + more);
            let second = carrier.seal(&[0x23; HEADER_LEN], None);
            assert_ne!(first[30..32], second[30..32], "sequence numbers");
        }
    }

    #[test]
    fn corrections_are_known_by_the_cards_stamp_and_on_both_ways_alone() {
        let carrier = Carrier::new(123, true);
        for form in [Form::Experimental, Form::Final] {
            let known = reply(form, us(5.0) + FRAME, us(2.0));
            let (ntp, corrections) = carrier.open(&known, &stamp(FRAME)).expect("ours");
            assert_eq!(ntp.len(), HEADER_LEN + 28);
            let corrections = corrections.expect("known");
            assert_eq!(corrections.there, us(5.0));
            assert!((corrections.back - us(2.0)).units().abs() <= 1);
            for (datagram, frame_time) in [
                (&known, NtpDuration::ZERO),
                (&reply(form, NtpDuration::ZERO, us(2.0)), FRAME),
                (&reply(form, us(5.0), NtpDuration::ZERO), FRAME),
            ] {
                let (_, corrections) = carrier.open(datagram, &stamp(frame_time)).expect("ours");
                assert_eq!(corrections, None);
            }
        }
        assert_eq!(carrier.open(&[0x24; HEADER_LEN], &stamp(FRAME)), None);
    }

    /// 10 us there of which 6 in a switch, 22 us back of which 18: the switch's uneven
    /// time made 6 us of offset.
    #[test]
    fn what_a_switch_took_is_taken_out() {
        let mut sample = Measurement::of_perfect_server(1.0, -6e-6, 32e-6);
        let distance = sample.delay + sample.root_delay;
        let corrections = Corrections {
            there: us(6.0),
            back: us(18.0),
        };
        corrections.apply(&mut sample);
        assert!(
            sample.offset.abs() < NtpDuration::from_nanos(2),
            "{sample:?}"
        );
        // Of 8 us 100 ppm of the corrections are kept.
        assert!((sample.delay - us(8.0024)).abs() < NtpDuration::from_nanos(2));
        assert_eq!(
            sample.delay + sample.root_delay,
            distance,
            "not a bit surer"
        );
    }

    #[test]
    fn what_cannot_be_true_is_not_believed() {
        for (there, back) in [(20.0, 13.0), (-10.0, 3.0), (1e9, 1e9)] {
            let mut sample = Measurement::of_perfect_server(1.0, 0.0, 32e-6);
            let before = sample;
            let corrections = Corrections {
                there: us(there),
                back: us(back),
            };
            corrections.apply(&mut sample);
            assert_eq!(sample, before);
        }
        // The delay is no less than the clocks can tell.
        let mut sample = Measurement::of_perfect_server(1.0, 0.0, 32e-6);
        let (there, back) = (us(16.0), us(16.0));
        Corrections { there, back }.apply(&mut sample);
        assert_eq!(sample.delay, sample.precision);
    }
}

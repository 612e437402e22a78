//! NTP over PTP: an NTP message as the only TLV of a unicast PTP event message
//! (IEEE 1588-2008, sections 13.3 and 14), so that network cards which stamp nothing but
//! PTP stamp it, and transparent clocks add the time it spends in them.
//!
//! Two forms are in use, and they don't understand each other ([`Form`]). The
//! correction that a request arrived with goes back to the client in an extension field
//! of NTP's own (RFC 7822), whose number differs likewise.

use crate::time::duration::NtpDuration;
use crate::wire::trailer::Trailer;

/// The UDP port of PTP's event messages: cards and transparent clocks look at no other.
pub const EVENT_PORT: u16 = 319;
/// The PTP domain unless the operator names another.
pub const DOMAIN_DEFAULT: u8 = 123;

/// Octets of PTP's header.
const HEADER_LEN: usize = 34;
/// Octets of a Delay_Req's body, or a Sync's: the originTimestamp, which says nothing here.
const BODY_LEN: usize = 10;
const TLV_AT: usize = HEADER_LEN + BODY_LEN;

const SYNC: u8 = 0;
const DELAY_REQ: u8 = 1;
/// PTP 2.0, and 2.1 with its minor version in the upper half.
const VERSIONS: [u8; 2] = [0x02, 0x12];
/// unicastFlag alone.
const UNICAST: [u8; 2] = [0x04, 0x00];

/// TLV type of the experimental form, out of the range for experiments.
const TLV_EXPERIMENTAL: u16 = 0x2023;
/// Types of a TLV that belongs to an organisation: PTP 2.0's, and PTP 2.1's that is not
/// propagated by boundary clocks.
const TLV_ORGANISATION: [u16; 2] = [0x0003, 0x8000];
/// IANA's, subtype 1: an NTP message. Two octets of padding follow.
const IANA_NTP: [u8; 6] = [0x00, 0x00, 0x5e, 0x00, 0x00, 0x01];

/// How the NTP message stands in the PTP message.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Form {
    /// In a TLV of an experimental type: chrony 4.2 to 4.8.
    Experimental,
    /// In a TLV that IANA has defined: chrony from 4.9 on.
    Final,
}

/// The longest of all prefixes.
pub const PREFIX_LEN_MAX: usize = Form::Final.prefix_len();

impl Form {
    /// The other one.
    pub const fn other(self) -> Self {
        match self {
            Self::Experimental => Self::Final,
            Self::Final => Self::Experimental,
        }
    }

    /// Octets before the NTP message.
    pub const fn prefix_len(self) -> usize {
        match self {
            Self::Experimental => TLV_AT + 4,
            Self::Final => TLV_AT + 12,
        }
    }
}

/// All that is said of a message besides NTP's part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Envelope {
    /// Which TLV.
    pub form: Form,
    /// PTP domain.
    pub domain: u8,
    /// Tells one message of a sender from the next. A reply has its request's.
    pub sequence: u16,
    /// What transparent clocks add: the time that the message spent in them. As foreign
    /// as the rest of the message, and nobody vouches for it. Zero when it is sent.
    pub correction: NtpDuration,
}

impl Envelope {
    /// Opens a message of `domain`: what is said on the envelope, and the NTP message.
    /// `None` for whatever else PTP has to say.
    pub fn open(message: &[u8], domain: u8) -> Option<(Self, &[u8])> {
        let (header, rest) = message.split_first_chunk::<HEADER_LEN>()?;
        let u16_at = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        // The upper half of the type, and the octet after the domain, are the SDO's that
        // PTP 2.1 brought; 0 is PTP itself. 2.0 has no say about the latter.
        let is_event = matches!(header[0], SYNC | DELAY_REQ);
        let is_v2 = VERSIONS.contains(&header[1]) && (header[1] == VERSIONS[0] || header[5] == 0);
        if !is_event
            || !is_v2
            || usize::from(u16_at(2)) != message.len()
            || header[4] != domain
            || header[6..8] != UNICAST
        {
            return None;
        }
        let (tlv, value) = rest.get(BODY_LEN..)?.split_first_chunk::<4>()?;
        let kind = u16::from_be_bytes([tlv[0], tlv[1]]);
        let len = usize::from(u16::from_be_bytes([tlv[2], tlv[3]]));
        if len != value.len() {
            return None;
        }
        let (form, ntp) = if kind == TLV_EXPERIMENTAL {
            (Form::Experimental, value)
        } else if TLV_ORGANISATION.contains(&kind) {
            // Of padding nothing is expected.
            (Form::Final, value.strip_prefix(&IANA_NTP)?.get(2..)?)
        } else {
            return None;
        };
        if ntp.is_empty() {
            return None;
        }
        let scaled_ns = i64::from_be_bytes(header[8..16].try_into().expect("eight octets"));
        let envelope = Self {
            form,
            domain,
            sequence: u16_at(30),
            correction: from_scaled_ns(scaled_ns),
        };
        Some((envelope, ntp))
    }

    /// Writes what stands before an NTP message of `ntp_len` octets; the octets written,
    /// [`prefix_len`](Form::prefix_len) of them.
    ///
    /// # Panics
    /// If the message would be longer than a UDP datagram.
    pub fn seal(&self, ntp_len: usize, out: &mut [u8; PREFIX_LEN_MAX]) -> usize {
        let prefix_len = self.form.prefix_len();
        let len = |octets: usize| u16::try_from(octets).expect("a datagram").to_be_bytes();
        out.fill(0);
        // A Delay_Req, which is the one event message that anybody may send.
        out[0] = DELAY_REQ;
        out[1] = VERSIONS[0];
        out[2..4].copy_from_slice(&len(prefix_len + ntp_len));
        out[4] = self.domain;
        out[6..8].copy_from_slice(&UNICAST);
        out[8..16].copy_from_slice(&to_scaled_ns(self.correction).to_be_bytes());
        out[30..32].copy_from_slice(&self.sequence.to_be_bytes());
        let kind = match self.form {
            Form::Experimental => TLV_EXPERIMENTAL,
            Form::Final => {
                out[TLV_AT + 4..TLV_AT + 10].copy_from_slice(&IANA_NTP);
                TLV_ORGANISATION[0]
            }
        };
        out[TLV_AT..TLV_AT + 2].copy_from_slice(&kind.to_be_bytes());
        out[TLV_AT + 2..TLV_AT + 4].copy_from_slice(&len(prefix_len - TLV_AT - 4 + ntp_len));
        prefix_len
    }
}

/// PTP's correctionField: nanoseconds in 1/65536.
fn from_scaled_ns(scaled_ns: i64) -> NtpDuration {
    // Seconds in 1/2^32 are 65536/10^9 as many.
    let units = i128::from(scaled_ns) * 65_536 / 1_000_000_000;
    // It is a smaller number than it was.
    NtpDuration::from_units(units as i64)
}

fn to_scaled_ns(correction: NtpDuration) -> i64 {
    let scaled_ns = i128::from(correction.units()) * 1_000_000_000 / 65_536;
    i64::try_from(scaled_ns).unwrap_or(i64::MAX)
}

/// Octets of the field that reports a correction.
pub const CORRECTION_LEN: usize = 28;
/// Says that a field of type F324 is what we take it for.
const MAGIC: [u8; 4] = 0x07ac_2ceb_u32.to_be_bytes();

/// Type of the field that goes with a form.
const fn correction_type(form: Form) -> u16 {
    match form {
        Form::Experimental => 0xf324,
        Form::Final => 0x010a,
    }
}

/// The extension field by which a server says what a request's correction was. A client
/// asks for it by sending one of zero.
pub fn correction_field(form: Form, correction: NtpDuration) -> [u8; CORRECTION_LEN] {
    let mut field = [0; CORRECTION_LEN];
    field[..2].copy_from_slice(&correction_type(form).to_be_bytes());
    field[2..4].copy_from_slice(&(CORRECTION_LEN as u16).to_be_bytes());
    let at = match form {
        Form::Experimental => {
            field[4..8].copy_from_slice(&MAGIC);
            8
        }
        Form::Final => 4,
    };
    field[at..at + 8].copy_from_slice(&correction.units().to_be_bytes());
    field
}

/// The first such field among a packet's.
pub fn find_correction(form: Form, trailer: &Trailer<'_>) -> Option<NtpDuration> {
    let value = trailer
        .fields()
        .find(|field| {
            field.kind == correction_type(form) && field.value.len() == CORRECTION_LEN - 4
        })?
        .value;
    let value = match form {
        Form::Experimental => value.strip_prefix(&MAGIC)?,
        Form::Final => value,
    };
    let units = i64::from_be_bytes(*value.first_chunk()?);
    Some(NtpDuration::from_units(units))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FORMS: [Form; 2] = [Form::Experimental, Form::Final];

    /// 48 octets of NTP, told from others.
    fn ntp() -> Vec<u8> {
        (0..48).map(|n| n ^ 0x23).collect()
    }

    fn sealed(envelope: Envelope, ntp: &[u8]) -> Vec<u8> {
        let mut prefix = [0xff; PREFIX_LEN_MAX];
        let len = envelope.seal(ntp.len(), &mut prefix);
        [&prefix[..len], ntp].concat()
    }

    fn envelope(form: Form) -> Envelope {
        Envelope {
            form,
            domain: DOMAIN_DEFAULT,
            sequence: 0x0102,
            correction: NtpDuration::ZERO,
        }
    }

    /// As chrony 4.2 to 4.8 sends them.
    #[test]
    fn the_experimental_form_octet_by_octet() {
        let mut expected = vec![0x01, 0x02, 0x00, 0x60, 0x7b, 0x00, 0x04, 0x00];
        expected.extend([0; 8]); // correctionField
        expected.extend([0; 4]);
        expected.extend([0; 10]); // sourcePortIdentity
        expected.extend([0x01, 0x02, 0x00, 0x00]); // sequenceId, control, interval
        expected.extend([0; 10]); // originTimestamp
        expected.extend([0x20, 0x23, 0x00, 0x30]);
        assert_eq!(expected.len(), 48);
        expected.extend(ntp());
        assert_eq!(sealed(envelope(Form::Experimental), &ntp()), expected);
    }

    /// As chrony 4.9 does.
    #[test]
    fn the_final_form_octet_by_octet() {
        let mut expected = vec![0x01, 0x02, 0x00, 0x68, 0x7b, 0x00, 0x04, 0x00];
        expected.extend([0; 22]);
        expected.extend([0x01, 0x02, 0x00, 0x00]);
        expected.extend([0; 10]);
        expected.extend([0x00, 0x03, 0x00, 0x38]);
        expected.extend([0x00, 0x00, 0x5e, 0x00, 0x00, 0x01, 0x00, 0x00]);
        assert_eq!(expected.len(), 56);
        expected.extend(ntp());
        assert_eq!(sealed(envelope(Form::Final), &ntp()), expected);
    }

    #[test]
    fn what_may_differ_is_understood() {
        let ntp = ntp();
        for form in FORMS {
            let message = sealed(envelope(form), &ntp);
            assert_eq!(Envelope::open(&message, 123), Some((envelope(form), &*ntp)));
            // A Sync, PTP 2.1, somebody's port identity and times.
            let mut other = message.clone();
            (other[0], other[1], other[25], other[33], other[40]) = (0, 0x12, 7, 0x7f, 9);
            assert_eq!(Envelope::open(&other, 123), Some((envelope(form), &*ntp)));
            // 2.0 has nothing to say there.
            let mut other = message.clone();
            other[5] = 3;
            assert!(Envelope::open(&other, 123).is_some());
        }
        let mut message = sealed(envelope(Form::Final), &ntp);
        message[TLV_AT..TLV_AT + 2].copy_from_slice(&[0x80, 0x00]);
        assert_eq!(
            Envelope::open(&message, 123),
            Some((envelope(Form::Final), &*ntp))
        );
    }

    #[test]
    fn other_messages_of_ptp_are_none_of_ours() {
        for form in FORMS {
            let message = sealed(envelope(form), &ntp());
            let spoils: [(usize, u8); 12] = [
                (0, 0x0b),  // Announce
                (0, 0x11),  // another organisation's profile
                (1, 0x01),  // PTP 1
                (1, 0x22),  // PTP 2.2
                (3, 0x61),  // a length that lies
                (4, 0),     // another domain
                (6, 0x00),  // multicast
                (6, 0x06),  // two steps
                (7, 0x01),  // a leap second's flag
                (44, 0x21), // another TLV
                (45, 0x01),
                (47, 0x2f), // a TLV's length that lies
            ];
            for (at, octet) in spoils {
                let mut other = message.clone();
                assert_ne!(other[at], octet);
                other[at] = octet;
                assert_eq!(Envelope::open(&other, 123), None, "octet {at}: {octet:#x}");
            }
            let mut other = message.clone();
            (other[1], other[5]) = (0x12, 1);
            assert_eq!(Envelope::open(&other, 123), None, "another SDO");
            for len in 0..message.len() {
                assert_eq!(Envelope::open(&message[..len], 123), None);
            }
            let empty = sealed(envelope(form), &[]);
            assert_eq!(Envelope::open(&empty, 123), None);
        }
        let mut message = sealed(envelope(Form::Final), &ntp());
        message[53] = 2;
        assert_eq!(Envelope::open(&message, 123), None, "another subtype");
    }

    #[test]
    fn corrections_are_scaled_nanoseconds() {
        let mut message = sealed(envelope(Form::Final), &ntp());
        // 2.5 ns, as the standard's own example has it.
        message[8..16].copy_from_slice(&0x0000_0000_0002_8000_i64.to_be_bytes());
        let (envelope, _) = Envelope::open(&message, 123).expect("ours");
        assert_eq!(envelope.correction, NtpDuration::from_units(10));
        for (scaled_ns, units) in [
            (1_000_000_000 << 16, 1 << 32),
            (-1_000_000_000 << 16, -1 << 32),
            (i64::MAX, 604_462_909_807_314),
        ] {
            assert_eq!(from_scaled_ns(scaled_ns), NtpDuration::from_units(units));
        }
        assert_eq!(
            to_scaled_ns(NtpDuration::from_whole_seconds(2)),
            2_000_000_000 << 16
        );
    }

    #[test]
    fn a_correction_field_octet_by_octet() {
        let correction = NtpDuration::from_units(0x0000_0001_0203_0405);
        let field = correction_field(Form::Experimental, correction);
        let mut expected = vec![0xf3, 0x24, 0, 28, 0x07, 0xac, 0x2c, 0xeb];
        expected.extend([0, 0, 0, 1, 2, 3, 4, 5]);
        expected.extend([0; 12]);
        assert_eq!(field[..], expected);
        let field = correction_field(Form::Final, correction);
        let mut expected = vec![0x01, 0x0a, 0, 28, 0, 0, 0, 1, 2, 3, 4, 5];
        expected.extend([0; 16]);
        assert_eq!(field[..], expected);
    }

    #[test]
    fn a_correction_is_found_among_other_fields() {
        let other = [0x7f, 0xff, 0, 28].into_iter().chain([0; 24]);
        for form in FORMS {
            let correction = NtpDuration::from_nanos(1_234);
            let mut bytes: Vec<u8> = other.clone().collect();
            let trailer = Trailer::parse(4, &bytes).expect("well formed");
            assert_eq!(find_correction(form, &trailer), None);
            bytes.extend(correction_field(form, correction));
            let trailer = Trailer::parse(4, &bytes).expect("well formed");
            assert_eq!(find_correction(form, &trailer), Some(correction));
            assert_eq!(find_correction(form.other(), &trailer), None);
        }
        let mut bytes = correction_field(Form::Experimental, NtpDuration::ZERO);
        bytes[7] ^= 1;
        let trailer = Trailer::parse(4, &bytes).expect("well formed");
        assert_eq!(find_correction(Form::Experimental, &trailer), None);
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens(
            is_final: bool,
            domain: u8,
            sequence: u16,
            units in -(1_i64 << 48)..1 << 48,
            ntp in prop::collection::vec(any::<u8>(), 1..300),
        ) {
            let form = if is_final { Form::Final } else { Form::Experimental };
            let correction = NtpDuration::from_units(units);
            let envelope = Envelope { form, domain, sequence, correction };
            let message = sealed(envelope, &ntp);
            let (opened, inner) = Envelope::open(&message, domain).expect("ours");
            prop_assert_eq!(inner, &ntp);
            let off = opened.correction - correction;
            prop_assert!(off.units().abs() <= 1);
            prop_assert_eq!(Envelope { correction, ..opened }, envelope);
            prop_assert_eq!(Envelope::open(&message, domain.wrapping_add(1)), None);
        }

        #[test]
        fn whatever_comes_is_survived(
            head in prop::collection::vec(any::<u8>(), 0..8),
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            flips in prop::collection::vec((0_usize..104, any::<u8>()), 0..4),
        ) {
            let _ = Envelope::open(&[&head[..], &bytes].concat(), 123);
            let mut message = sealed(envelope(Form::Final), &ntp());
            for (at, octet) in flips {
                message[at] = octet;
            }
            if let Some((_, inner)) = Envelope::open(&message, 123) {
                prop_assert!(inner.len() + PREFIX_LEN_MAX >= message.len());
            }
        }
    }
}

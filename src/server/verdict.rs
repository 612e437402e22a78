//! What becomes of a request: a reply of some kind, or a drop for a named
//! reason. Every outcome has an index, so that a worker counts in an array, and
//! a name, so that the metric's label says what happened.

use crate::server::interleave::TxToken;

/// The kinds of reply.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum ReplyKind {
    /// The time; the transmit stamp is the caller's to write.
    Basic,
    /// The time and when the previous reply really left (RFC 9769).
    Interleaved,
    /// "You ask too often" instead of the time (RFC 5905 section 7.4, RATE).
    Kiss,
    /// The time, and word that the MAC of the request did not verify.
    CryptoNak,
}

impl ReplyKind {
    /// All kinds in the order of their index.
    pub const ALL: [Self; 4] = [Self::Basic, Self::Interleaved, Self::Kiss, Self::CryptoNak];

    /// The metric's label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Basic => "basic",
            Self::Interleaved => "interleaved",
            Self::Kiss => "kiss",
            Self::CryptoNak => "crypto_nak",
        }
    }

    /// Position in [`ALL`](Self::ALL).
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Must the caller write the transmit stamp before it sends
    /// ([`set_transmit`](crate::server::respond::set_transmit))? The others hold theirs.
    pub const fn wants_transmit(self) -> bool {
        matches!(self, Self::Basic | Self::CryptoNak)
    }
}

/// Why a packet got no reply, in the order in which packets are judged.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Reason {
    /// On the port of NTP over PTP, and no NTP in it.
    OtherPtp,
    /// Sent to a broadcast or multicast address, not to us alone.
    Group,
    /// Sent from port 0, or from an address that nobody can have alone.
    BadSource,
    /// `restrict ignore`.
    Ignore,
    /// Mode 6 or 7, and `restrict noquery`.
    Noquery,
    /// Mode 6: no time is asked for; whoever answers ntpq is handed the request.
    Control,
    /// Mode 7, which is not answered here.
    Private,
    /// Shorter than a header or longer than any NTP packet.
    BadLength,
    /// `restrict noserve`.
    Noserve,
    /// `restrict flake`, and the dice fell that way.
    Flake,
    /// A version other than 1 to 4.
    BadVersion,
    /// `restrict version`, and it is not the current one.
    Version,
    /// A mode that asks nothing: replies, broadcasts, the reserved one.
    BadMode,
    /// What follows the header is neither extension fields nor a MAC.
    BadTrailer,
    /// `restrict notrust`, and no MAC that we can verify.
    Notrust,
    /// `restrict limited`, and the sender asks too often.
    Limited,
    /// A request that is itself a crypto-NAK: there is nothing to tell it.
    NakRequest,
    /// Its MAC is not by one of our keys, and the operator wants such requests ignored.
    BadMac,
}

impl Reason {
    /// All reasons in the order of their index.
    pub const ALL: [Self; 18] = [
        Self::OtherPtp,
        Self::Group,
        Self::BadSource,
        Self::Ignore,
        Self::Noquery,
        Self::Control,
        Self::Private,
        Self::BadLength,
        Self::Noserve,
        Self::Flake,
        Self::BadVersion,
        Self::Version,
        Self::BadMode,
        Self::BadTrailer,
        Self::Notrust,
        Self::Limited,
        Self::NakRequest,
        Self::BadMac,
    ];

    /// The metric's label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OtherPtp => "other_ptp",
            Self::Group => "group",
            Self::BadSource => "bad_source",
            Self::Ignore => "ignore",
            Self::Noquery => "noquery",
            Self::Control => "control",
            Self::Private => "private",
            Self::BadLength => "bad_length",
            Self::Noserve => "noserve",
            Self::Flake => "flake",
            Self::BadVersion => "bad_version",
            Self::Version => "version",
            Self::BadMode => "bad_mode",
            Self::BadTrailer => "bad_trailer",
            Self::Notrust => "notrust",
            Self::Limited => "limited",
            Self::NakRequest => "nak_request",
            Self::BadMac => "bad_mac",
        }
    }

    /// Position in [`ALL`](Self::ALL).
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// The outcome of one packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Verdict {
    /// Send the first `len` octets back; `len` never exceeds the request's.
    Reply {
        /// Octets to send.
        len: usize,
        /// What they say.
        kind: ReplyKind,
        /// Set when the sender has use for this reply's departure stamp: hand it
        /// to [`departed`](crate::server::respond::Responder::departed) once it is known.
        track: Option<TxToken>,
    },
    /// Send nothing.
    Drop(Reason),
}

impl Verdict {
    /// How many different outcomes there are to count.
    pub const COUNT: usize = ReplyKind::ALL.len() + Reason::ALL.len();

    /// The labels of all outcomes in the order of their index; no two are equal.
    pub const NAMES: [&'static str; Self::COUNT] = {
        let mut names = [""; Self::COUNT];
        let mut i = 0;
        while i < Self::COUNT {
            names[i] = if i < ReplyKind::ALL.len() {
                ReplyKind::ALL[i].name()
            } else {
                Reason::ALL[i - ReplyKind::ALL.len()].name()
            };
            i += 1;
        }
        names
    };

    /// Replies first, then drops; below [`COUNT`](Self::COUNT).
    pub const fn index(&self) -> usize {
        match self {
            Self::Reply { kind, .. } => kind.index(),
            Self::Drop(reason) => ReplyKind::ALL.len() + reason.index(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_has_its_own_index_and_name() {
        for (i, kind) in ReplyKind::ALL.into_iter().enumerate() {
            let reply = Verdict::Reply {
                len: 48,
                kind,
                track: None,
            };
            assert_eq!(reply.index(), i);
            assert_eq!(Verdict::NAMES[i], kind.name());
        }
        for (i, reason) in Reason::ALL.into_iter().enumerate() {
            let drop = Verdict::Drop(reason);
            assert_eq!(drop.index(), ReplyKind::ALL.len() + i);
            assert_eq!(Verdict::NAMES[drop.index()], reason.name());
        }
        let mut names = Verdict::NAMES.to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Verdict::COUNT);
    }
}

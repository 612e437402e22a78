//! The tests a reply has to pass before it is believed (RFC 5905 section 8 and
//! figure 27), by name. Each has a counter that `ptntp peers --json` and the
//! metrics show.

use crate::measurement::Exchange;
use crate::time::duration::NtpDuration;
use crate::time::timestamp::NtpTimestamp;
use crate::wire::key::{ID_LEN, Key, KeyTable};
use crate::wire::packet::{Leap, Mode, Packet, STRATUM_MAX};
use crate::wire::trailer::Trailer;

/// Why a datagram from a server was not believed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(usize)]
pub enum PacketTest {
    /// Asked over PTP, and this is no NTP over PTP.
    Transport,
    /// Fewer than 48 octets.
    Short,
    /// The octets after the header are neither extension fields nor a MAC.
    Trailer,
    /// Not signed with the key that the source has to have (RFC 5905 test 5), or signed
    /// though we asked without a key: who asked for it was not us.
    Auth,
    /// The server says that it can't verify our MAC: it has another key, or does not
    /// trust ours. As anybody may say so, we go on waiting.
    CryptoNak,
    /// Our own `restrict` rules forbid this server's packets.
    Access,
    /// Another version than we asked with.
    Version,
    /// Not a server's reply (mode 4).
    Mode,
    /// Its origin is not what we sent: old, duplicated or forged (RFC 5905 tests 1 and 2).
    Origin,
    /// A second reply to one request.
    Duplicate,
    /// Receive or transmit timestamp missing (test 3).
    Zero,
    /// The server says it is not synchronised (test 6).
    Unsynchronised,
    /// Farther from its source than any usable server, 16 s (test 7).
    RootDistance,
    /// It was last set after it sent this, or left before it came (test 7).
    Order,
    /// The round trip came out negative beyond both clocks' precision: a clock moved.
    Delay,
    /// It follows us, directly.
    Loop,
}

impl PacketTest {
    /// All of them, in order of [`index`](Self::index).
    pub const ALL: [Self; 16] = [
        Self::Transport,
        Self::Short,
        Self::Trailer,
        Self::Auth,
        Self::CryptoNak,
        Self::Access,
        Self::Version,
        Self::Mode,
        Self::Origin,
        Self::Duplicate,
        Self::Zero,
        Self::Unsynchronised,
        Self::RootDistance,
        Self::Order,
        Self::Delay,
        Self::Loop,
    ];

    /// Place in a table of counters.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The name in metrics and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Transport => "transport",
            Self::Short => "short",
            Self::Trailer => "trailer",
            Self::Auth => "auth",
            Self::CryptoNak => "crypto_nak",
            Self::Access => "access",
            Self::Version => "version",
            Self::Mode => "mode",
            Self::Origin => "origin",
            Self::Duplicate => "duplicate",
            Self::Zero => "zero",
            Self::Unsynchronised => "unsynchronised",
            Self::RootDistance => "root_distance",
            Self::Order => "order",
            Self::Delay => "delay",
            Self::Loop => "loop",
        }
    }
}

/// RFC 5905 MAXDISP: a root distance beyond this is no time at all.
const ROOT_DISTANCE_MAX: NtpDuration = NtpDuration::from_whole_seconds(16);

/// Tests of form that need nothing but the packet.
pub fn check_form(packet: &Packet<'_>, version: u8) -> Result<(), PacketTest> {
    if packet.version() != version {
        return Err(PacketTest::Version);
    }
    if packet.mode() != Mode::Server {
        return Err(PacketTest::Mode);
    }
    Ok(())
}

/// The same for a peer's packets: symmetric, and of any version.
pub fn check_peer_form(packet: &Packet<'_>) -> Result<(), PacketTest> {
    if !(1..=4).contains(&packet.version()) {
        return Err(PacketTest::Version);
    }
    match packet.mode() {
        Mode::SymmetricActive | Mode::SymmetricPassive => Ok(()),
        _ => Err(PacketTest::Mode),
    }
}

/// Is it a broadcast of somebody who has the time? Its version, and the key by which it is
/// signed, if it is: none of ours, and it is not believed.
pub fn check_broadcast(bytes: &[u8], keys: &KeyTable) -> Result<(u8, Option<u32>), PacketTest> {
    let packet = Packet::new(bytes).ok_or(PacketTest::Short)?;
    if !(1..=4).contains(&packet.version()) {
        return Err(PacketTest::Version);
    }
    if packet.mode() != Mode::Broadcast {
        return Err(PacketTest::Mode);
    }
    let trailer = Trailer::parse(packet.version(), packet.trailer());
    let mac = trailer.map_err(|_malformed| PacketTest::Trailer)?.mac;
    let key = match mac {
        Some(mac) => Some(keys.get(mac.key_id).ok_or(PacketTest::Auth)?),
        None => None,
    };
    check_auth(bytes, &packet, key)?;
    if packet.leap() == Leap::Unknown || packet.stratum() == 0 || packet.stratum() >= STRATUM_MAX {
        return Err(PacketTest::Unsynchronised);
    }
    Ok((packet.version(), key.map(Key::id)))
}

/// Is it signed with `key`, or not at all if there is none? `bytes` are all of the packet.
pub fn check_auth(bytes: &[u8], packet: &Packet<'_>, key: Option<&Key>) -> Result<(), PacketTest> {
    let trailer = Trailer::parse(packet.version(), packet.trailer());
    let mac = trailer.map_err(|_malformed| PacketTest::Trailer)?.mac;
    match (key, mac) {
        (None, None) => Ok(()),
        (Some(_), Some(mac)) if mac.digest.is_empty() => Err(PacketTest::CryptoNak),
        (Some(key), Some(mac)) => {
            let (signed, mac) = bytes.split_at(bytes.len() - ID_LEN - mac.digest.len());
            if key.verifies(signed, mac) {
                Ok(())
            } else {
                Err(PacketTest::Auth)
            }
        }
        (None, Some(_)) | (Some(_), None) => Err(PacketTest::Auth),
    }
}

/// Tests of what the server says about itself. A kiss (stratum 0) has been
/// taken out before.
pub fn check_server(packet: &Packet<'_>) -> Result<(), PacketTest> {
    if packet.receive().is_zero() || packet.transmit().is_zero() {
        return Err(PacketTest::Zero);
    }
    if packet.leap() == Leap::Unknown || packet.stratum() == 0 || packet.stratum() >= STRATUM_MAX {
        return Err(PacketTest::Unsynchronised);
    }
    let distance =
        packet.root_delay().to_duration().half() + packet.root_dispersion().to_duration();
    if distance >= ROOT_DISTANCE_MAX {
        return Err(PacketTest::RootDistance);
    }
    // A clock last set after it sent this was stepped back since. Interleaved
    // replies carry an earlier transmit stamp, so the receive stamp counts too.
    let reference = packet.reference();
    let set_after = |stamp: NtpTimestamp| (stamp - reference).is_negative();
    if !reference.is_zero() && set_after(packet.transmit()) && set_after(packet.receive()) {
        return Err(PacketTest::Order);
    }
    Ok(())
}

/// Tests of the four stamps together; `precision` is the sum of both clocks'.
pub fn check_exchange(exchange: &Exchange, precision: NtpDuration) -> Result<(), PacketTest> {
    // Servers fill the bits of a stamp below their clock's precision with noise
    // (chrony does), so a quick reply may seem to leave before its request came.
    if (exchange.transmit - exchange.receive + precision).is_negative() {
        return Err(PacketTest::Order);
    }
    if (exchange.delay() + precision).is_negative() {
        return Err(PacketTest::Delay);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_may_be_out_of_order_by_their_noise() {
        let at = NtpTimestamp::from_bits(1 << 40);
        let precision = NtpDuration::from_nanos(2);
        let back = |ns: i64| Exchange {
            origin: at,
            receive: at,
            transmit: at + NtpDuration::from_nanos(-ns),
            destination: at,
        };
        assert_eq!(check_exchange(&back(1), precision), Ok(()));
        assert_eq!(check_exchange(&back(3), precision), Err(PacketTest::Order));
    }

    #[test]
    fn every_test_has_its_own_place_and_name() {
        for (i, test) in PacketTest::ALL.into_iter().enumerate() {
            assert_eq!(test.index(), i);
        }
        let names: std::collections::HashSet<_> =
            PacketTest::ALL.iter().map(|test| test.name()).collect();
        assert_eq!(names.len(), PacketTest::ALL.len());
    }
}

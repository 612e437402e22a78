//! What `hwtimestamp` and `hwtstimeout` ask for: which network cards stamp packets by
//! their own clocks, and how those clocks are read.

use crate::time::duration::NtpDuration;
use crate::time::units::PollExponent;

/// All there is about hardware stamps.
#[derive(Clone, PartialEq, Debug)]
pub struct StampingConfig {
    /// In file order; each interface is named once.
    pub cards: Vec<CardLine>,
    /// How long a request's or a reply's departure stamp is waited for (`hwtstimeout`).
    pub timeout: NtpDuration,
}

/// As chrony has it: cards that take longer to tell of a departure are rare.
pub const TIMEOUT_DEFAULT: NtpDuration = NtpDuration::from_units(4_294_967); // 1 ms

impl Default for StampingConfig {
    /// No hardware stamps.
    fn default() -> Self {
        Self {
            cards: Vec::new(),
            timeout: TIMEOUT_DEFAULT,
        }
    }
}

/// One `hwtimestamp` line.
#[derive(Clone, PartialEq, Debug)]
pub struct CardLine {
    /// Whom it is about.
    pub interface: Which,
    /// How often the card's clock is read (`minpoll`).
    pub poll: PollExponent,
    /// One reading of the card's clock is so exact (`precision`).
    pub precision: NtpDuration,
    /// From where the card stamps departures to where the cable begins (`txcomp`): added.
    pub tx_compensation: NtpDuration,
    /// From where the cable ends to where the card stamps arrivals (`rxcomp`): taken off.
    pub rx_compensation: NtpDuration,
    /// Both clocks may be latched by hardware at once (false: `nocrossts`).
    pub precise: bool,
    /// Which arrivals are to be stamped; none: as many as the card can.
    pub filter: Option<Filter>,
    /// At the end, the card is set again as it was.
    pub restore: bool,
}

/// The most often that a card's clock is read.
pub const POLL_MIN: PollExponent = PollExponent::new(-6);
/// How often it is read unless told otherwise.
pub const POLL_DEFAULT: PollExponent = PollExponent::new(0);
/// How exact a reading is unless told otherwise.
pub const PRECISION_DEFAULT: NtpDuration = NtpDuration::from_units(429); // 100 ns

impl CardLine {
    /// With all defaults.
    pub const fn new(interface: Which) -> Self {
        Self {
            interface,
            poll: POLL_DEFAULT,
            precision: PRECISION_DEFAULT,
            tx_compensation: NtpDuration::ZERO,
            rx_compensation: NtpDuration::ZERO,
            precise: true,
            filter: None,
            restore: false,
        }
    }
}

/// Interfaces that a line is about.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Which {
    /// The one of this name, there or not; of a bond the members, of a VLAN the
    /// interface that carries it.
    Named(String),
    /// `*`: all that can, and that no other line names.
    All,
}

impl Which {
    /// The word in the file.
    pub fn word(&self) -> &str {
        match self {
            Self::Named(name) => name,
            Self::All => "*",
        }
    }
}

/// What `rxfilter` says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Filter {
    /// All packets.
    All,
    /// NTP packets.
    Ntp,
    /// PTP's event messages, which NTP can travel in.
    Ptp,
    /// None: departures alone are stamped.
    None,
}

impl Filter {
    /// All of them.
    pub const EVERY: [Self; 4] = [Self::All, Self::Ntp, Self::Ptp, Self::None];

    /// The word in the file.
    pub const fn word(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Ntp => "ntp",
            Self::Ptp => "ptp",
            Self::None => "none",
        }
    }
}

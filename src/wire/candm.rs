//! cmdmon, the protocol of `chronyc`, in its version 6 (as chrony 2.2 to 4.8 speak
//! it; documented in chrony's `candm.h`). Bytes become a [`Request`] or the reason
//! why not, a [`Reply`] becomes bytes. No reply is longer than its request: requests
//! come padded, and a shorter one is told so.
//!
//! Some replies grew over the years under new numbers. Which of them a client can read
//! shows in the length of its padding, so each gets the one of its time. That of exporters
//! is always the same, so they get those that old ones can read, too.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::time::instant::WallInstant;

/// The version of the protocol.
pub const VERSION: u8 = 6;

/// The least version that is told of the mismatch; older ones get no answer.
const VERSION_TOLD_MIN: u8 = 5;

/// Octets before a request's own part.
pub const REQUEST_HEADER_LEN: usize = 20;

/// Octets before a reply's own part.
pub const REPLY_HEADER_LEN: usize = 28;

/// Octets of the longest datagram that can be a request.
pub const REQUEST_LEN_MAX: usize = 860;

/// Octets of the longest reply.
pub const REPLY_LEN_MAX: usize = REPLY_HEADER_LEN + CLIENTS_LEN;

/// Clients in one reply.
pub const CLIENTS_MAX: usize = 8;

/// Samples of the manual clock in one reply.
pub const MANUAL_SAMPLES_MAX: usize = 16;

/// Octets of a name, the zero at its end included.
const NAME_LEN: usize = 256;
const CLIENT_LEN: usize = 60;
const CLIENTS_LEN: usize = 12 + CLIENTS_MAX * CLIENT_LEN;
const MANUAL_LEN: usize = 4 + MANUAL_SAMPLES_MAX * 24;
const NTP_DATA_LEN: usize = 124;
const NTP_DATA_2_LEN: usize = 144;
const SERVER_STATS_3_LEN: usize = 44;
const SERVER_STATS_4_LEN: usize = 168;

const PACKET_REQUEST: u8 = 1;
const PACKET_REPLY: u8 = 2;

/// How a request came out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum Status {
    /// Done.
    Success = 0,
    /// It can't be done.
    Failed = 1,
    /// Not by this way: it takes the Unix socket.
    Unauthorised = 2,
    /// No such command.
    Invalid = 3,
    /// Nobody of that address or index.
    NoSuchSource = 4,
    /// The facility is off.
    NotEnabled = 6,
    /// No such block of addresses.
    BadSubnet = 7,
    /// `accheck`: it may.
    AccessAllowed = 8,
    /// `accheck`: it may not.
    AccessDenied = 9,
    /// There already.
    SourceAlreadyKnown = 11,
    /// There is no room for another.
    TooManySources = 12,
    /// No real-time clock is watched.
    NoRtc = 13,
    /// Clients are not recorded.
    Inactive = 15,
    /// No manual sample of that index.
    BadSample = 16,
    /// Another version of the protocol.
    BadVersion = 18,
    /// Too short, its padding included.
    BadLength = 19,
    /// No name.
    InvalidName = 21,
}

/// Whom a request or reply is about.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Address {
    /// Nobody, or everybody.
    Unspecified,
    /// An address.
    Ip(IpAddr),
    /// A source whose name has no address yet, by a number of its own.
    Id(u32),
}

impl Address {
    fn put(self, out: &mut Vec<u8>) {
        let (bytes, family) = match self {
            Self::Unspecified => ([0; 16], 0_u16),
            Self::Ip(IpAddr::V4(v4)) => (first(v4.octets()), 1),
            Self::Ip(IpAddr::V6(v6)) => (v6.octets(), 2),
            Self::Id(id) => (first(id.to_be_bytes()), 3),
        };
        out.extend_from_slice(&bytes);
        out.extend_from_slice(&family.to_be_bytes());
        out.extend_from_slice(&[0; 2]);
    }
}

fn first(four: [u8; 4]) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&four);
    bytes
}

/// Some of the addresses: those that equal `address` where `mask` has ones. Without
/// an address all, without a mask that one alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Network {
    /// See above.
    pub mask: Address,
    /// See above.
    pub address: Address,
}

impl Network {
    /// Everybody.
    pub const ALL: Self = Self {
        mask: Address::Unspecified,
        address: Address::Unspecified,
    };

    /// Is `ip` one of them?
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.address, self.mask, ip.to_canonical()) {
            (Address::Unspecified, _, _) => true,
            (Address::Ip(IpAddr::V4(own)), Address::Ip(IpAddr::V4(mask)), IpAddr::V4(ip)) => {
                (own.to_bits() ^ ip.to_bits()) & mask.to_bits() == 0
            }
            (Address::Ip(IpAddr::V6(own)), Address::Ip(IpAddr::V6(mask)), IpAddr::V6(ip)) => {
                (own.to_bits() ^ ip.to_bits()) & mask.to_bits() == 0
            }
            (Address::Ip(own), _, ip) => own == ip,
            (Address::Id(_), _, _) => false,
        }
    }
}

/// A number of 32 bits: seven of a signed exponent, 25 of a signed coefficient, which
/// is a fraction of one. Good to 7 decimal digits from 1e-17 to 1e19.
pub fn float_to_bits(value: f64) -> u32 {
    const COEFFICIENT_BITS: i32 = 25;
    const EXPONENT_MIN: i32 = -64;
    const EXPONENT_MAX: i32 = 63;
    const COEFFICIENT_MAX: f64 = ((1_i32 << (COEFFICIENT_BITS - 1)) - 1) as f64;
    let magnitude = value.abs();
    // Not-a-numbers are sent as zero, as chronyd sends them.
    if magnitude.is_nan() || magnitude < 1e-100 {
        return 0;
    }
    let (mut exponent, mut coefficient) = if magnitude > 1e100 {
        (EXPONENT_MAX, COEFFICIENT_MAX)
    } else {
        let exponent = magnitude.log2().floor() as i32 + 2;
        let scale = f64::from(COEFFICIENT_BITS - exponent);
        (exponent, (magnitude * scale.exp2()).round())
    };
    if coefficient > COEFFICIENT_MAX {
        // Rounded up to the next power of two.
        coefficient = (coefficient / 2.0).round();
        exponent += 1;
    }
    if exponent > EXPONENT_MAX {
        (exponent, coefficient) = (EXPONENT_MAX, COEFFICIENT_MAX);
    } else if exponent < EXPONENT_MIN {
        coefficient = (coefficient * f64::from(exponent - EXPONENT_MIN).exp2()).trunc();
        exponent = if coefficient > 0.0 { EXPONENT_MIN } else { 0 };
    }
    let coefficient = if value < 0.0 {
        -coefficient as i32
    } else {
        coefficient as i32
    };
    ((exponent as u32) << COEFFICIENT_BITS) | (coefficient as u32 & 0x01ff_ffff)
}

/// The opposite of [`float_to_bits`]. All bits are a number.
pub fn float_from_bits(bits: u32) -> f64 {
    let exponent = (bits as i32) >> 25;
    let coefficient = ((bits << 7) as i32) >> 7;
    f64::from(coefficient) * f64::from(exponent - 25).exp2()
}

/// What the replies to one request have in common with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// What was asked, by its number.
    pub command: u16,
    /// Comes back as it came.
    pub sequence: [u8; 4],
    /// Octets of the request: no reply has more.
    pub len: usize,
}

/// What is asked or ordered.
#[derive(Clone, PartialEq, Debug)]
pub enum Request {
    /// How many sources are there?
    NSources,
    /// One source, by its index.
    SourceData(u32),
    /// One source's statistics, by its index.
    SourceStats(u32),
    /// One source's place in the selection, by its index.
    SelectData(u32),
    /// One source's last exchange.
    NtpData(Address),
    /// One source's name.
    NtpSourceName(Address),
    /// One source's keys.
    AuthData(Address),
    /// The clock.
    Tracking,
    /// How many sources are asked.
    Activity,
    /// What the server counted.
    ServerStats,
    /// Some of the server's clients.
    ClientAccesses {
        /// The first index.
        first: u32,
        /// At most so many.
        count: u32,
        /// Who asked less often is left out.
        min_hits: u32,
        /// Start counting anew?
        reset: bool,
    },
    /// The smoothed time that is served.
    Smoothing,
    /// The real-time clock.
    RtcReport,
    /// The times that were typed in.
    ManualList,
    /// May this address ask for the time?
    AccessCheck(Address),
    /// May this address ask for reports?
    CommandAccessCheck(Address),
    /// Ask these sources, or don't.
    Connect {
        /// Which.
        who: Network,
        /// Ask them?
        online: bool,
    },
    /// Ask those sources that can be reached.
    OnOffline,
    /// Ask these quickly, until there are enough answers.
    Burst {
        /// Which.
        who: Network,
        /// Enough answers.
        good: u32,
        /// Requests at most.
        total: u32,
    },
    /// The shortest poll interval of a source.
    ModifyMinpoll(Address, i32),
    /// The longest poll interval of a source.
    ModifyMaxpoll(Address, i32),
    /// A source's options in the selection.
    ModifySelectOptions {
        /// Which source.
        address: Address,
        /// Which of the options (`ADDSRC_` flags).
        mask: u32,
        /// What becomes of them.
        options: u32,
    },
    /// When the clock may be stepped.
    ModifyMakestep {
        /// At so many of the first updates; negative: always.
        limit: i32,
        /// Seconds from which on.
        threshold_s: f64,
    },
    /// Take up a source.
    AddSource(Box<NewSource>),
    /// Drop a source.
    DeleteSource(Address),
    /// Let these have the time, or not.
    Access(Access),
    /// Let these have reports, or not.
    CommandAccess(Access),
    /// Serve the undisciplined clock, at this stratum, or don't.
    Local {
        /// The stratum; none: don't.
        stratum: Option<u32>,
        /// Only where nobody of a lower address does.
        orphan: bool,
    },
    /// What the clock shows when this is sent should be this.
    SetTime(WallInstant),
    /// Take times that are typed in?
    Manual(Manual),
    /// Forget one of the times typed in.
    ManualDelete(u32),
    /// The clock's frequency is to change by so many ppm; positive: its error grows.
    DeltaFrequency(f64),
    /// The clock is fast by so many seconds.
    DeltaOffset(f64),
    /// Step the clock by what is still being slewed.
    MakeStep,
    /// Look names up again.
    Refresh,
    /// Select anew.
    Reselect,
    /// Forget all measurements.
    ResetSources,
    /// Read the files of sources again.
    ReloadSources,
    /// Read the keys again.
    Rekey,
    /// Open the log files anew.
    CycleLogs,
    /// Write down what a restart should know.
    Dump,
    /// End.
    Shutdown,
    /// Set the real-time clock.
    TrimRtc,
    /// Write down what is known of the real-time clock.
    WriteRtc,
    /// Smooth the served time anew.
    SmoothTime,
    /// Well formed, but of something that is not here: filters by delay, a stratum's
    /// minimum, corrections of one source, limits of the skew, the distance for another
    /// selection.
    Alien,
}

/// `manual`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Manual {
    /// Take times.
    On,
    /// Take none.
    Off,
    /// Forget those taken.
    Reset,
}

/// `allow` and its like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Access {
    /// Everybody, or the block that starts here.
    pub address: Address,
    /// How long the block's prefix is.
    pub bits: u32,
    /// Allow?
    pub allow: bool,
    /// For all smaller blocks in it too?
    pub all: bool,
}

/// `add server` and its like.
#[derive(Clone, PartialEq, Debug)]
pub struct NewSource {
    /// 1 server, 2 peer, 3 pool.
    pub kind: u32,
    /// A name or address; none if it is no text or has no end.
    pub name: Option<String>,
    /// Whom to ask there.
    pub port: u32,
    /// Shortest poll interval.
    pub minpoll: i32,
    /// Longest poll interval.
    pub maxpoll: i32,
    /// NTP version; 0: ours.
    pub version: u32,
    /// Key to sign with; 0: none.
    pub key: u32,
    /// `ADDSRC_` flags.
    pub flags: u32,
}

/// [`NewSource::flags`]: ask it from the start.
pub const ADDSRC_ONLINE: u32 = 0x1;
/// [`NewSource::flags`]: `iburst`.
pub const ADDSRC_IBURST: u32 = 0x4;
/// [`NewSource::flags`]: `prefer`.
pub const ADDSRC_PREFER: u32 = 0x8;
/// [`NewSource::flags`]: `noselect`.
pub const ADDSRC_NOSELECT: u32 = 0x10;
/// [`NewSource::flags`]: `trust`.
pub const ADDSRC_TRUST: u32 = 0x20;
/// [`NewSource::flags`]: `require`.
pub const ADDSRC_REQUIRE: u32 = 0x40;
/// [`NewSource::flags`]: `xleave`.
pub const ADDSRC_INTERLEAVED: u32 = 0x80;
/// [`NewSource::flags`]: `burst`.
pub const ADDSRC_BURST: u32 = 0x100;
/// [`NewSource::flags`]: `nts`.
pub const ADDSRC_NTS: u32 = 0x200;
/// [`NewSource::flags`]: IPv4 alone.
pub const ADDSRC_IPV4: u32 = 0x2000;
/// [`NewSource::flags`]: IPv6 alone.
pub const ADDSRC_IPV6: u32 = 0x4000;

/// What a datagram is.
#[derive(Clone, PartialEq, Debug)]
pub enum Parsed {
    /// A request.
    Request(Header, Request),
    /// None that can be carried out; the answer is the status.
    Refused(Header, Status),
    /// Nothing to answer.
    Noise,
}

/// May everybody who may ask at all ask this, as chronyd has it unless told otherwise
/// (`opencommands`)? All else takes the Unix socket.
pub const fn is_open(request: &Request) -> bool {
    matches!(
        request,
        Request::Activity
            | Request::ManualList
            | Request::NSources
            | Request::RtcReport
            | Request::Smoothing
            | Request::SourceData(_)
            | Request::SourceStats(_)
            | Request::NtpSourceName(_)
            | Request::Tracking
    )
}

/// Reads a datagram.
pub fn parse(bytes: &[u8]) -> Parsed {
    if !(REPLY_HEADER_LEN..=REQUEST_LEN_MAX).contains(&bytes.len()) {
        // Too short for even an error to be no longer.
        return Parsed::Noise;
    }
    let mut body = Reader(bytes);
    let [version, kind, 0, 0] = body.take() else {
        return Parsed::Noise;
    };
    let command = u16::from_be_bytes(body.take());
    let _attempt: [u8; 2] = body.take();
    let header = Header {
        command,
        sequence: body.take(),
        len: bytes.len(),
    };
    let _padding: [u8; 8] = body.take();
    match (kind, version) {
        (PACKET_REQUEST, VERSION) => {}
        (PACKET_REQUEST, VERSION_TOLD_MIN..) => return Parsed::Refused(header, Status::BadVersion),
        _ => return Parsed::Noise,
    }
    let Some((request_len, reply_len)) = lengths(command) else {
        return Parsed::Refused(header, Status::Invalid);
    };
    let needed = (REQUEST_HEADER_LEN + request_len).max(REPLY_HEADER_LEN + reply_len);
    if bytes.len() < needed {
        return Parsed::Refused(header, Status::BadLength);
    }
    match body.request(command) {
        Some(request) => Parsed::Request(header, request),
        None => Parsed::Refused(header, Status::Invalid),
    }
}

/// Octets of a request's own part and of the shortest reply's to it.
const fn lengths(command: u16) -> Option<(usize, usize)> {
    Some(match command {
        1 | 2 => (40, 0),
        3 => (48, 0),
        4 | 5 | 7 | 8 | 45..=47 => (24, 0),
        6 => (4, 0),
        9 | 13 | 31 | 42 | 49 | 52 | 71 => (4, 0),
        11 => (12, 12),
        14 => (0, 4),
        15 => (4, 48),
        16 | 30 | 36 | 37 | 43 | 48 | 53 | 62 | 63 | 66 | 70 => (0, 0),
        17..=24 => (24, 0),
        25 | 26 | 29 => (20, 0),
        33 => (0, 76),
        34 => (4, 56),
        35 => (0, 28),
        41 => (0, MANUAL_LEN),
        44 => (0, 20),
        50 => (8, 0),
        51 => (0, 24),
        54 => (0, SERVER_STATS_3_LEN),
        56 => (16, 0),
        57 => (20, NTP_DATA_LEN),
        64 => (352, 0),
        65 => (20, NAME_LEN),
        67 => (20, 24),
        68 => (16, CLIENTS_LEN),
        69 => (4, 48),
        72 => (32, 0),
        73 => (28, 0),
        74 => (28, 0),
        _ => return None,
    })
}

/// Takes a request apart. Whoever made it has seen that it is long enough; what is
/// missing all the same reads as zeros.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        match self.0.split_first_chunk() {
            Some((taken, rest)) => {
                self.0 = rest;
                *taken
            }
            None => [0; N],
        }
    }

    fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.take())
    }

    fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.take())
    }

    fn i32(&mut self) -> i32 {
        self.u32() as i32
    }

    fn float(&mut self) -> f64 {
        float_from_bits(self.u32())
    }

    fn address(&mut self) -> Address {
        let bytes: [u8; 16] = self.take();
        let family = self.u16();
        let _padding = self.u16();
        let four = [bytes[0], bytes[1], bytes[2], bytes[3]];
        match family {
            1 => Address::Ip(Ipv4Addr::from(four).into()),
            2 => Address::Ip(Ipv6Addr::from(bytes).into()),
            3 => Address::Id(u32::from_be_bytes(four)),
            _ => Address::Unspecified,
        }
    }

    fn network(&mut self) -> Network {
        Network {
            mask: self.address(),
            address: self.address(),
        }
    }

    /// None: no moment that we can tell from another.
    fn time(&mut self) -> Option<WallInstant> {
        let (high, low, ns) = (self.u32(), self.u32(), self.u32());
        // Clients with seconds of 32 bits say so in the upper half.
        let seconds = match high {
            0x7fff_ffff => i64::from(low as i32),
            _ => ((u64::from(high) << 32) | u64::from(low)) as i64,
        };
        let ns = i64::from(ns.min(999_999_999));
        let whole = seconds.checked_mul(1_000_000_000)?;
        whole.checked_add(ns).map(WallInstant::from_unix_ns)
    }

    fn access(&mut self, allow: bool, all: bool) -> Access {
        Access {
            address: self.address(),
            bits: self.u32(),
            allow,
            all,
        }
    }

    fn new_source(&mut self) -> NewSource {
        let kind = self.u32();
        let name: [u8; NAME_LEN] = self.take();
        let port = self.u32();
        let (minpoll, maxpoll) = (self.i32(), self.i32());
        let _presend_stratum_target: [u8; 12] = self.take();
        let version = self.u32();
        let _numbers_of_sources_and_samples: [u8; 12] = self.take();
        let key = self.u32();
        let _nts_port_and_delays: [u8; 28] = self.take();
        let end = name.iter().position(|&octet| octet == 0);
        let text = end.and_then(|end| std::str::from_utf8(&name[..end]).ok());
        NewSource {
            kind,
            name: text.filter(|text| !text.is_empty()).map(str::to_owned),
            port,
            minpoll,
            maxpoll,
            version,
            key,
            flags: self.u32(),
        }
    }

    fn request(&mut self, command: u16) -> Option<Request> {
        use Request as R;
        Some(match command {
            1 | 2 => R::Connect {
                who: self.network(),
                online: command == 1,
            },
            3 => R::Burst {
                who: self.network(),
                good: self.u32(),
                total: self.u32(),
            },
            4 => R::ModifyMinpoll(self.address(), self.i32()),
            5 => R::ModifyMaxpoll(self.address(), self.i32()),
            6 => R::Dump,
            7..=9 | 45..=47 | 49 | 73 => R::Alien,
            11 => R::SetTime(self.time()?),
            13 => R::Manual(match self.u32() {
                0 => Manual::Off,
                1 => Manual::On,
                2 => Manual::Reset,
                _ => return None,
            }),
            14 => R::NSources,
            15 => R::SourceData(self.u32()),
            16 => R::Rekey,
            17..=20 => R::Access(self.access(command < 19, command.is_multiple_of(2))),
            21..=24 => R::CommandAccess(self.access(command < 23, command.is_multiple_of(2))),
            25 => R::AccessCheck(self.address()),
            26 => R::CommandAccessCheck(self.address()),
            29 => R::DeleteSource(self.address()),
            30 => R::WriteRtc,
            36 => R::TrimRtc,
            31 => R::DeltaFrequency(self.float()),
            33 => R::Tracking,
            34 => R::SourceStats(self.u32()),
            35 => R::RtcReport,
            37 => R::CycleLogs,
            41 => R::ManualList,
            42 => R::ManualDelete(self.u32()),
            43 => R::MakeStep,
            44 => R::Activity,
            48 => R::Reselect,
            50 => R::ModifyMakestep {
                limit: self.i32(),
                threshold_s: self.float(),
            },
            51 => R::Smoothing,
            52 => R::SmoothTime,
            53 => R::Refresh,
            54 => R::ServerStats,
            56 | 74 => {
                let (on, stratum) = (self.u32(), self.u32());
                let _distance = self.float();
                R::Local {
                    stratum: (on != 0).then_some(stratum),
                    orphan: self.u32() != 0,
                }
            }
            57 => R::NtpData(self.address()),
            62 => R::Shutdown,
            63 => R::OnOffline,
            64 => R::AddSource(Box::new(self.new_source())),
            65 => R::NtpSourceName(self.address()),
            66 => R::ResetSources,
            67 => R::AuthData(self.address()),
            68 => R::ClientAccesses {
                first: self.u32(),
                count: self.u32(),
                min_hits: self.u32(),
                reset: self.u32() != 0,
            },
            69 => R::SelectData(self.u32()),
            70 => R::ReloadSources,
            71 => R::DeltaOffset(self.float()),
            72 => {
                let address = self.address();
                let _refid = self.u32();
                R::ModifySelectOptions {
                    address,
                    mask: self.u32(),
                    options: self.u32(),
                }
            }
            _ => return None,
        })
    }
}

/// What an answer says beyond its status.
#[derive(Clone, PartialEq, Debug)]
pub enum Reply {
    /// No more.
    Null,
    /// The number of sources.
    NSources(u32),
    /// One source.
    SourceData(SourceData),
    /// A time that was typed in was taken.
    ManualTimestamp(ManualTimestamp),
    /// The clock.
    Tracking(Tracking),
    /// One source's statistics.
    SourceStats(SourceStats),
    /// How many sources are asked.
    Activity(Activity),
    /// What the server counted.
    ServerStats(ServerStats),
    /// One source's last exchange.
    NtpData(Box<NtpData>),
    /// A source's name.
    NtpSourceName(String),
    /// A source's key; none: it is asked without.
    AuthData(Option<AuthData>),
    /// One source's place in the selection.
    SelectData(SelectData),
    /// The times that were typed in, [`MANUAL_SAMPLES_MAX`] at most.
    ManualList(Vec<ManualSample>),
    /// Some of the server's clients.
    Clients(Clients),
    /// The real-time clock.
    Rtc(Rtc),
}

/// `sources`. Offsets are chrony's way around: positive when the local clock is ahead.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SourceData {
    /// Whom we ask; a local clock has its refid here, as an address.
    pub address: Address,
    /// Log2 of the poll interval in seconds.
    pub poll: i16,
    /// Its stratum, 0 until it was heard.
    pub stratum: u16,
    /// Selection's verdict.
    pub state: SourceState,
    /// What it is.
    pub mode: SourceMode,
    /// The last eight requests, newest lowest.
    pub reach: u16,
    /// Seconds since its last sample; none: there was none.
    pub since_sample_s: Option<u32>,
    /// The last sample as it was measured, seconds.
    pub measured_s: f64,
    /// The same less what the clock was corrected by since.
    pub adjusted_s: f64,
    /// What it may be wrong by.
    pub error_s: f64,
}

/// What becomes of a source in the selection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[repr(u16)]
pub enum SourceState {
    /// `*`
    Selected = 0,
    /// `?`
    NonSelectable = 1,
    /// `x`
    Falseticker = 2,
    /// `~`
    Jittery = 3,
    /// `+`
    Unselected = 4,
    /// `-`
    Selectable = 5,
}

/// What a source is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[repr(u16)]
pub enum SourceMode {
    /// `^`
    Server = 0,
    /// `=`
    Peer = 1,
    /// `#`
    Reference = 2,
}

/// `tracking`. Signs are chrony's.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Tracking {
    /// Our reference identifier.
    pub refid: u32,
    /// Whom we follow.
    pub address: Address,
    /// Ours; 0 while unsynchronised.
    pub stratum: u16,
    /// The wire's two bits.
    pub leap: u16,
    /// When the clock was last corrected.
    pub reference_unix_ns: i64,
    /// What the clock still lacks, seconds; positive: it is slow.
    pub correction_s: f64,
    /// The offset found at the last update; positive: the clock was ahead.
    pub last_offset_s: f64,
    /// RMS of these.
    pub rms_offset_s: f64,
    /// The clock's own frequency error; positive: it gains.
    pub frequency_ppm: f64,
    /// What the reference says of that beyond what is corrected.
    pub residual_ppm: f64,
    /// What the frequency may be wrong by.
    pub skew_ppm: f64,
    /// Δ.
    pub root_delay_s: f64,
    /// Ε.
    pub root_dispersion_s: f64,
    /// Between the last two updates.
    pub update_interval_s: f64,
}

/// `sourcestats`. Positive: the local clock is ahead, or gains.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct SourceStats {
    /// Its own identifier.
    pub refid: u32,
    /// Whom we ask.
    pub address: Address,
    /// Samples the estimate rests on.
    pub samples: u32,
    /// Runs of residuals of one sign.
    pub runs: u32,
    /// From the first of them to the last.
    pub span_s: u32,
    /// Standard deviation of a sample.
    pub deviation_s: f64,
    /// Frequency of our clock as this source sees it, corrections in force.
    pub residual_ppm: f64,
    /// What that may be wrong by.
    pub skew_ppm: f64,
    /// Estimated offset.
    pub offset_s: f64,
    /// What that may be wrong by.
    pub offset_error_s: f64,
}

/// `activity`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Activity {
    /// Asked at their poll intervals.
    pub online: u32,
    /// Not asked.
    pub offline: u32,
    /// Asked quickly just now, at their poll intervals afterwards.
    pub burst_online: u32,
    /// Asked quickly just now, and not at all afterwards.
    pub burst_offline: u32,
    /// Names without an address.
    pub unresolved: u32,
}

/// `settime`'s answer. Positive: the clock was ahead.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ManualTimestamp {
    /// Seconds.
    pub offset_s: f64,
    /// Change of frequency.
    pub frequency_change_ppm: f64,
    /// The clock's frequency error from now on.
    pub frequency_ppm: f64,
}

/// One time that was typed in. Positive: the clock was ahead.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct ManualSample {
    /// When.
    pub when_unix_ns: i64,
    /// The offset less what the clock was corrected by since, seconds.
    pub slewed_offset_s: f64,
    /// The offset then.
    pub offset_s: f64,
    /// How far from the line through all of them.
    pub residual_s: f64,
}

/// `serverstats`, in the order of the wire.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct ServerStats {
    /// NTP requests, NTS key exchanges, commands.
    pub hits: [u64; 3],
    /// The same that got no answer, for the rate.
    pub drops: [u64; 3],
    /// Clients forgotten for lack of room.
    pub log_drops: u64,
    /// Requests with a good MAC.
    pub authenticated: u64,
    /// Requests of interleaved mode that were answered so.
    pub interleaved: u64,
    /// Clients whose stamps are kept, and for how many seconds.
    pub timestamps: [u64; 2],
    /// Receive and transmit stamps by daemon, kernel and hardware, in turn.
    pub stamps: [u64; 6],
}

/// `rtcdata`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Rtc {
    /// When it was so.
    pub at_unix_ns: i64,
    /// Measurements.
    pub samples: u16,
    /// From the first of them to the last.
    pub span_s: u32,
    /// What the real-time clock is ahead of the system clock.
    pub ahead_s: f64,
    /// What it gains on it.
    pub gain_ppm: f64,
}

/// `clients`, a part of them.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Clients {
    /// How many indices there are.
    pub indices: u32,
    /// The first index that is not told of yet.
    pub next: u32,
    /// [`CLIENTS_MAX`] at most.
    pub clients: Vec<Client>,
}

/// One client. Who asks by chronyc is not remembered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Client {
    /// Its address.
    pub address: IpAddr,
    /// NTP requests.
    pub hits: u32,
    /// Those of them that got no time, for coming too often.
    pub drops: u32,
    /// Log2 of the seconds between two requests; none: there was but one.
    pub interval: Option<i8>,
    /// Seconds since the last.
    pub since_s: u32,
}

/// `ntpdata`. Signs are NTP's: positive means that the local clock is behind.
#[derive(Clone, PartialEq, Debug)]
pub struct NtpData {
    /// Whom we ask.
    pub remote: Address,
    /// Where.
    pub port: u16,
    /// From where.
    pub local: Address,
    /// Leap, version, mode and stratum of the last reply.
    pub reply: [u8; 4],
    /// Its poll and precision, log2 of seconds.
    pub poll: i8,
    /// See `poll`.
    pub precision: i8,
    /// Δ of the source.
    pub root_delay_s: f64,
    /// Ε of the source.
    pub root_dispersion_s: f64,
    /// Its reference.
    pub refid: u32,
    /// When it was last corrected.
    pub reference_unix_ns: i64,
    /// θ.
    pub offset_s: f64,
    /// δ.
    pub delay_s: f64,
    /// ε.
    pub dispersion_s: f64,
    /// From T2 to T3.
    pub response_s: f64,
    /// Did it pass every test?
    pub tests_passed: bool,
    /// Interleaved?
    pub interleaved: bool,
    /// `D`, `K` or `H`: who took T1 and T4; zero: nobody yet.
    pub stamped_by: [u8; 2],
    /// Requests, replies, valid replies, good replies.
    pub totals: [u32; 4],
    /// T1 and T4 by the kernel, T1 and T4 by hardware.
    pub stamped: [u32; 4],
}

/// `selectdata`. Positive: the local clock is ahead.
#[derive(Clone, PartialEq, Debug)]
pub struct SelectData {
    /// The source's own identifier.
    pub refid: u32,
    /// Whom we ask.
    pub address: Address,
    /// chronyc's letter.
    pub state: u8,
    /// The source's leap bits.
    pub leap: u8,
    /// 1 `noselect`, 2 `prefer`.
    pub options: u16,
    /// Seconds since its last sample; none: there was none.
    pub since_sample_s: Option<u32>,
    /// Its score.
    pub score: f64,
    /// The true offset is not below this, says the source.
    pub low_s: f64,
    /// Nor above this.
    pub high_s: f64,
}

/// A symmetric key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AuthData {
    /// chrony's number of its type: hashes in its order, from 1; 13 and 14 are AES.
    pub kind: u16,
    /// Its own number.
    pub id: u32,
    /// How long its secret is.
    pub bits: u16,
}

/// Octets of an answer to the request of `header`; none if it would be longer.
pub fn answer(header: &Header, status: Status, reply: &Reply) -> Option<Vec<u8>> {
    let room = header.len.checked_sub(REPLY_HEADER_LEN)?;
    let mut writer = Writer(Vec::with_capacity(REPLY_HEADER_LEN + 64));
    let number = writer.body(reply, room);
    let body = writer.0;
    if body.len() > room {
        return None;
    }
    let mut out = Vec::with_capacity(REPLY_HEADER_LEN + body.len());
    out.extend_from_slice(&[VERSION, PACKET_REPLY, 0, 0]);
    out.extend_from_slice(&header.command.to_be_bytes());
    out.extend_from_slice(&number.to_be_bytes());
    out.extend_from_slice(&(status as u16).to_be_bytes());
    out.extend_from_slice(&[0; 6]);
    out.extend_from_slice(&header.sequence);
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&body);
    Some(out)
}

struct Writer(Vec<u8>);

impl Writer {
    fn u8s(&mut self, octets: &[u8]) {
        self.0.extend_from_slice(octets);
    }

    fn u16(&mut self, value: u16) {
        self.u8s(&value.to_be_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.u8s(&value.to_be_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.u8s(&value.to_be_bytes());
    }

    fn float(&mut self, value: f64) {
        self.u32(float_to_bits(value));
    }

    fn time(&mut self, unix_ns: i64) {
        self.u64(unix_ns.div_euclid(1_000_000_000) as u64);
        self.u32(unix_ns.rem_euclid(1_000_000_000) as u32);
    }

    /// Writes the reply and gives its number.
    fn body(&mut self, reply: &Reply, room: usize) -> u16 {
        match reply {
            Reply::Null => 1,
            Reply::NSources(count) => {
                self.u32(*count);
                2
            }
            Reply::SourceData(data) => self.source_data(data),
            Reply::Tracking(tracking) => self.tracking(tracking),
            Reply::SourceStats(stats) => self.source_stats(stats),
            Reply::Activity(activity) => {
                self.u32(activity.online);
                self.u32(activity.offline);
                self.u32(activity.burst_online);
                self.u32(activity.burst_offline);
                self.u32(activity.unresolved);
                12
            }
            Reply::ServerStats(stats) => self.server_stats(stats, room),
            Reply::NtpData(data) => self.ntp_data(data, room),
            Reply::ManualTimestamp(sample) => {
                self.float(sample.offset_s);
                self.float(sample.frequency_change_ppm);
                self.float(sample.frequency_ppm);
                17
            }
            Reply::ManualList(samples) => self.manual_list(samples),
            Reply::Clients(clients) => self.clients(clients),
            Reply::Rtc(rtc) => {
                self.time(rtc.at_unix_ns);
                self.u16(rtc.samples);
                // Runs of residuals are not counted.
                self.u16(0);
                self.u32(rtc.span_s);
                self.float(rtc.ahead_s);
                self.float(rtc.gain_ppm);
                7
            }
            Reply::NtpSourceName(name) => {
                let mut field = [0; NAME_LEN];
                let len = name.len().min(NAME_LEN - 1);
                field[..len].copy_from_slice(&name.as_bytes()[..len]);
                self.u8s(&field);
                19
            }
            Reply::AuthData(key) => {
                const SYMMETRIC: u16 = 1;
                let none = AuthData::default();
                let AuthData { kind, id, bits } = key.as_ref().unwrap_or(&none);
                self.u16(if key.is_some() { SYMMETRIC } else { 0 });
                self.u16(*kind);
                self.u32(*id);
                self.u16(*bits);
                // Attempts to establish a key.
                self.u16(0);
                // No key was ever established.
                self.u32(u32::MAX);
                self.u8s(&[0; 8]);
                20
            }
            Reply::SelectData(data) => self.select_data(data),
        }
    }

    fn source_data(&mut self, data: &SourceData) -> u16 {
        data.address.put(&mut self.0);
        self.u16(data.poll as u16);
        self.u16(data.stratum);
        self.u16(data.state as u16);
        self.u16(data.mode as u16);
        self.u16(0);
        self.u16(data.reach);
        self.u32(data.since_sample_s.unwrap_or(u32::MAX));
        self.float(data.measured_s);
        self.float(data.adjusted_s);
        self.float(data.error_s);
        3
    }

    fn tracking(&mut self, tracking: &Tracking) -> u16 {
        self.u32(tracking.refid);
        tracking.address.put(&mut self.0);
        self.u16(tracking.stratum);
        self.u16(tracking.leap);
        self.time(tracking.reference_unix_ns);
        self.float(tracking.correction_s);
        self.float(tracking.last_offset_s);
        self.float(tracking.rms_offset_s);
        self.float(tracking.frequency_ppm);
        self.float(tracking.residual_ppm);
        self.float(tracking.skew_ppm);
        self.float(tracking.root_delay_s);
        self.float(tracking.root_dispersion_s);
        self.float(tracking.update_interval_s);
        5
    }

    fn source_stats(&mut self, stats: &SourceStats) -> u16 {
        self.u32(stats.refid);
        stats.address.put(&mut self.0);
        self.u32(stats.samples);
        self.u32(stats.runs);
        self.u32(stats.span_s);
        self.float(stats.deviation_s);
        self.float(stats.residual_ppm);
        self.float(stats.skew_ppm);
        self.float(stats.offset_s);
        self.float(stats.offset_error_s);
        6
    }

    fn server_stats(&mut self, stats: &ServerStats, room: usize) -> u16 {
        let counts = [
            &stats.hits[..],
            &stats.drops,
            &[stats.log_drops, stats.authenticated, stats.interleaved],
            &stats.timestamps,
        ];
        let counts = counts.into_iter().flatten().copied();
        if room != SERVER_STATS_4_LEN {
            // chronyc before 4.4 knows eleven counters of 32 bits, and exporters may.
            counts.for_each(|count| self.u32(u32::try_from(count).unwrap_or(u32::MAX)));
            return 24;
        }
        counts.chain(stats.stamps).for_each(|count| self.u64(count));
        self.u8s(&[0xff; 32]);
        25
    }

    fn ntp_data(&mut self, data: &NtpData, room: usize) -> u16 {
        data.remote.put(&mut self.0);
        data.local.put(&mut self.0);
        self.u16(data.port);
        self.u8s(&data.reply);
        self.u8s(&[data.poll as u8, data.precision as u8]);
        self.float(data.root_delay_s);
        self.float(data.root_dispersion_s);
        self.u32(data.refid);
        self.time(data.reference_unix_ns);
        self.float(data.offset_s);
        self.float(data.delay_s);
        self.float(data.dispersion_s);
        self.float(data.response_s);
        // Which way jitter leans is not estimated.
        self.float(0.0);
        let passed = if data.tests_passed { 0x3ff } else { 0 };
        self.u16(passed | if data.interleaved { 0x4000 } else { 0 });
        self.u8s(&data.stamped_by);
        data.totals.iter().for_each(|&total| self.u32(total));
        if room != NTP_DATA_2_LEN {
            // chronyc before 4.6 knows nothing of what stamped, nor may exporters.
            self.u8s(&[0xff; 12]);
            return 16;
        }
        data.stamped.iter().for_each(|&total| self.u32(total));
        self.u8s(&[0xff; 16]);
        26
    }

    fn clients(&mut self, part: &Clients) -> u16 {
        const UNKNOWN: u8 = 127;
        let clients = &part.clients[..part.clients.len().min(CLIENTS_MAX)];
        self.u32(part.indices);
        self.u32(part.next);
        self.u32(clients.len() as u32);
        for client in clients {
            Address::Ip(client.address).put(&mut self.0);
            // Each of NTP requests, NTS key exchanges, commands.
            for count in [client.hits, 0, 0, client.drops, 0, 0] {
                self.u32(count);
            }
            let interval = client.interval.map_or(UNKNOWN, |interval| interval as u8);
            // The last one is that of requests while they are too many.
            self.u8s(&[interval, UNKNOWN, UNKNOWN, UNKNOWN]);
            for ago_s in [client.since_s, u32::MAX, u32::MAX] {
                self.u32(ago_s);
            }
        }
        self.0.resize(CLIENTS_LEN, 0);
        21
    }

    fn manual_list(&mut self, samples: &[ManualSample]) -> u16 {
        let samples = &samples[..samples.len().min(MANUAL_SAMPLES_MAX)];
        self.u32(samples.len() as u32);
        for sample in samples {
            self.time(sample.when_unix_ns);
            self.float(sample.slewed_offset_s);
            self.float(sample.offset_s);
            self.float(sample.residual_s);
        }
        self.0.resize(MANUAL_LEN, 0);
        18
    }

    fn select_data(&mut self, data: &SelectData) -> u16 {
        self.u32(data.refid);
        data.address.put(&mut self.0);
        self.u8s(&[data.state, 0, data.leap, 0]);
        self.u16(data.options);
        self.u16(data.options);
        self.u32(data.since_sample_s.unwrap_or(u32::MAX));
        self.float(data.score);
        self.float(data.low_s);
        self.float(data.high_s);
        23
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A request as chronyc 4.8 pads it.
    fn request(command: u16, own: &[u8], len: usize) -> Vec<u8> {
        let mut bytes = vec![VERSION, PACKET_REQUEST, 0, 0];
        bytes.extend(command.to_be_bytes());
        bytes.extend([0, 0, 0xde, 0xad, 0xbe, 0xef]);
        bytes.resize(REQUEST_HEADER_LEN, 0);
        bytes.extend(own);
        bytes.resize(len, 0);
        bytes
    }

    fn parsed(bytes: &[u8]) -> (Header, Request) {
        match parse(bytes) {
            Parsed::Request(header, request) => (header, request),
            other => panic!("{other:?}"),
        }
    }

    /// Octets of each request of chronyc 4.8, which it pads to its reply; by number.
    const LENGTHS: [(u16, usize); 59] = [
        (1, 60),
        (2, 60),
        (3, 68),
        (4, 44),
        (5, 44),
        (6, 28),
        (7, 44),
        (8, 44),
        (9, 28),
        (11, 40),
        (13, 28),
        (14, 32),
        (15, 76),
        (16, 28),
        (17, 44),
        (18, 44),
        (19, 44),
        (20, 44),
        (21, 44),
        (22, 44),
        (23, 44),
        (24, 44),
        (25, 40),
        (26, 40),
        (29, 40),
        (30, 28),
        (31, 28),
        (33, 104),
        (34, 84),
        (35, 56),
        (36, 28),
        (37, 28),
        (41, 416),
        (42, 28),
        (43, 28),
        (44, 48),
        (45, 44),
        (46, 44),
        (47, 44),
        (48, 28),
        (49, 28),
        (50, 28),
        (51, 52),
        (52, 28),
        (53, 28),
        // Less by chronyc 4.3; see below.
        (54, 72),
        (57, 152),
        (62, 28),
        (63, 28),
        (64, 372),
        (65, 284),
        (66, 28),
        (67, 52),
        (68, 520),
        (69, 76),
        (70, 28),
        (71, 28),
        (72, 52),
        (73, 48),
    ];

    #[test]
    fn each_request_is_taken_from_its_own_length_on() {
        for (command, len) in LENGTHS {
            let bytes = request(command, &[], len);
            let (header, _) = parsed(&bytes);
            assert_eq!((header.command, header.len), (command, len));
            assert_eq!(header.sequence, [0xde, 0xad, 0xbe, 0xef]);
            let short = parse(&bytes[..len - 1]);
            let refused = matches!(short, Parsed::Refused(_, Status::BadLength));
            assert!(refused || len == REPLY_HEADER_LEN, "{command}: {short:?}");
        }
        let known: Vec<u16> = LENGTHS.iter().map(|&(command, _)| command).collect();
        for command in (0..1000).filter(|command| !known.contains(command)) {
            let answer = parse(&request(command, &[], 600));
            let known_otherwise = command == 56 || command == 74;
            let invalid = matches!(answer, Parsed::Refused(_, Status::Invalid));
            assert_ne!(known_otherwise, invalid, "{command}: {answer:?}");
        }
    }

    #[test]
    fn other_versions_are_told_and_other_things_are_not() {
        let good = request(33, &[], 104);
        let with = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] = value;
            parse(&bytes)
        };
        for version in [5, 7, 255] {
            assert!(matches!(
                with(0, version),
                Parsed::Refused(_, Status::BadVersion)
            ));
        }
        for (at, value) in [(0, 4), (0, 0), (1, 2), (1, 0), (2, 1), (3, 1)] {
            assert_eq!(with(at, value), Parsed::Noise, "{at} {value}");
        }
        assert_eq!(parse(&good[..REPLY_HEADER_LEN - 1]), Parsed::Noise);
        assert_eq!(parse(&request(33, &[], REQUEST_LEN_MAX + 1)), Parsed::Noise);
        assert_eq!(parse(&[]), Parsed::Noise);
    }

    /// The Go library that chrony_exporter and telegraf ask by gives every request 396
    /// octets beyond its header, of which an index takes 4 and an address 16; after
    /// either comes an "end of record" of 4.
    fn exporters(command: u16, own: &[u8]) -> Vec<u8> {
        let end = if own.is_empty() { 0 } else { 4 };
        let rest = 396 - own.len().min(16);
        request(command, own, REQUEST_HEADER_LEN + own.len() + end + rest)
    }

    #[test]
    fn what_exporters_ask_is_understood() {
        let index = 3_u32.to_be_bytes();
        let mut who = Vec::new();
        Address::Ip("192.0.2.7".parse().unwrap()).put(&mut who);
        let address = Address::Ip("192.0.2.7".parse().unwrap());
        for (bytes, expected) in [
            (exporters(14, &[]), Request::NSources),
            (exporters(15, &index), Request::SourceData(3)),
            (exporters(33, &[]), Request::Tracking),
            (exporters(34, &index), Request::SourceStats(3)),
            (exporters(44, &[]), Request::Activity),
            (exporters(54, &[]), Request::ServerStats),
            (exporters(57, &who), Request::NtpData(address)),
            (exporters(65, &who), Request::NtpSourceName(address)),
            (exporters(69, &index), Request::SelectData(3)),
        ] {
            assert_eq!(parsed(&bytes).1, expected);
        }
    }

    #[test]
    fn each_client_gets_the_counters_of_its_time() {
        let stats = ServerStats {
            hits: [1 << 40, 2, 3],
            stamps: [7, 8, 9, 10, 11, 12],
            ..ServerStats::default()
        };
        let reply = Reply::ServerStats(stats);
        // chronyc 4.3 pads to 72 octets, 4.8 to 196.
        for (asked, number, len) in [
            (request(54, &[], 72), 24, 72),
            (request(54, &[], 196), 25, 196),
            (exporters(54, &[]), 24, 72),
        ] {
            let (header, _) = parsed(&asked);
            let bytes = answer(&header, Status::Success, &reply).unwrap();
            assert_eq!((bytes[7], bytes.len()), (number, len));
        }
        let (header, _) = parsed(&request(54, &[], 72));
        let bytes = answer(&header, Status::Success, &reply).unwrap();
        assert_eq!(bytes[28..32], [0xff; 4], "as many as 32 bits hold");
    }

    #[test]
    fn requests_are_read_field_by_field() {
        let mut own = Vec::new();
        Address::Ip("255.255.0.0".parse().unwrap()).put(&mut own);
        Address::Ip("10.1.0.0".parse().unwrap()).put(&mut own);
        own.extend([0, 0, 0, 4, 0, 0, 0, 8]);
        let (_, burst) = parsed(&request(3, &own, 68));
        let Request::Burst { who, good, total } = burst else {
            panic!("{burst:?}")
        };
        assert_eq!((good, total), (4, 8));
        assert!(who.contains("10.1.2.3".parse().unwrap()));
        assert!(!who.contains("10.2.2.3".parse().unwrap()));
        assert!(Network::ALL.contains("::1".parse().unwrap()));

        let mut own = vec![0; 352];
        own[3] = 3;
        own[4..12].copy_from_slice(b"ntp.test");
        own[260..264].copy_from_slice(&123_u32.to_be_bytes());
        own[264..268].copy_from_slice(&4_i32.to_be_bytes());
        own[268..272].copy_from_slice(&7_i32.to_be_bytes());
        own[300..304].copy_from_slice(&9_u32.to_be_bytes());
        own[332..336].copy_from_slice(&(ADDSRC_ONLINE | ADDSRC_IBURST).to_be_bytes());
        let (_, add) = parsed(&request(64, &own, 372));
        let source = NewSource {
            kind: 3,
            name: Some("ntp.test".to_owned()),
            port: 123,
            minpoll: 4,
            maxpoll: 7,
            version: 0,
            key: 9,
            flags: ADDSRC_ONLINE | ADDSRC_IBURST,
        };
        assert_eq!(add, Request::AddSource(Box::new(source)));
        own[4..260].fill(b'x');
        let (_, add) = parsed(&request(64, &own, 372));
        assert!(matches!(add, Request::AddSource(source) if source.name.is_none()));

        let mut own = 0x7fff_ffff_u32.to_be_bytes().to_vec();
        own.extend(1_800_000_000_u32.to_be_bytes());
        own.extend(5_u32.to_be_bytes());
        let at = WallInstant::from_unix_ns(1_800_000_000_000_000_005);
        assert_eq!(parsed(&request(11, &own, 40)).1, Request::SetTime(at));
        own[..8].fill(0x7f);
        let never = parse(&request(11, &own, 40));
        assert!(matches!(never, Parsed::Refused(_, Status::Invalid)));
    }

    #[test]
    fn floats_are_chronys() {
        for (value, bits) in [
            (0.0, 0),
            (f64::NAN, 0),
            (1.0, 0x0480_0000),
            (-1.0, 0x0580_0000),
            (1e200, 0x7eff_ffff),
            (-1e200, 0x7f00_0001),
            (1e-80, 0),
        ] {
            assert_eq!(float_to_bits(value), bits, "{value}");
        }
        assert_eq!(float_from_bits(0x0480_0000), 1.0);
        // The largest coefficient below zero has one bit more.
        assert_eq!(float_from_bits(0x0500_0000), -2.0);
    }

    proptest! {
        #[test]
        fn floats_keep_seven_digits(value in prop_oneof![-1e18..1e18, -1e-3..1e-3, -1e-12..1e-12]) {
            let back = float_from_bits(float_to_bits(value));
            prop_assert!((back - value).abs() <= value.abs() * 1.2e-7 + 1e-26, "{value} {back}");
        }

        #[test]
        fn any_bits_are_a_number(bits: u32) {
            prop_assert!(float_from_bits(bits).is_finite());
        }

        #[test]
        fn no_datagram_panics(bytes in proptest::collection::vec(any::<u8>(), 0..900)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn no_answer_is_longer_than_what_was_asked_with(
            command in 0_u16..80,
            own in proptest::collection::vec(any::<u8>(), 8..840),
            which in 0_usize..6,
        ) {
            let bytes = request(command, &own, REQUEST_HEADER_LEN + own.len());
            let replies = [
                Reply::Null,
                Reply::NSources(1),
                Reply::ManualList(Vec::new()),
                Reply::NtpSourceName("x".repeat(300)),
                Reply::ServerStats(ServerStats::default()),
                Reply::Clients(Clients::default()),
            ];
            match parse(&bytes) {
                Parsed::Request(header, _) => {
                    let out = answer(&header, Status::Success, &replies[which]);
                    prop_assert!(out.is_none_or(|out| out.len() <= bytes.len()));
                    prop_assert!(answer(&header, Status::Failed, &Reply::Null).is_some());
                }
                Parsed::Refused(header, status) => {
                    let out = answer(&header, status, &Reply::Null).unwrap();
                    prop_assert!(out.len() <= bytes.len());
                }
                Parsed::Noise => {}
            }
        }
    }
}

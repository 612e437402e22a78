//! What network interfaces can do for time, and telling them to: the ethtool and
//! hardware stamping ioctls (`linux/ethtool.h`, `linux/net_tstamp.h`), as `ethtool -T`,
//! `ethtool -i` and `hwstamp_ctl` use them.

use std::fmt;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, OwnedFd};

use crate::linux::socket;

/// SOF_TIMESTAMPING_ bits by the names `ethtool -T` gives them.
const STAMPING_NAMES: [(u32, &str); 7] = [
    (0, "hardware-transmit"),
    (1, "software-transmit"),
    (2, "hardware-receive"),
    (3, "software-receive"),
    (4, "software-system-clock"),
    (5, "hardware-legacy-clock"),
    (6, "hardware-raw-clock"),
];
/// `enum hwtstamp_tx_types`.
const TX_NAMES: [(u32, &str); 4] = [
    (0, "off"),
    (1, "on"),
    (2, "onestep-sync"),
    (3, "onestep-p2p"),
];
/// `enum hwtstamp_rx_filters`.
const RX_NAMES: [(u32, &str); 16] = [
    (0, "none"),
    (1, "all"),
    (2, "some"),
    (3, "ptpv1-l4-event"),
    (4, "ptpv1-l4-sync"),
    (5, "ptpv1-l4-delay-req"),
    (6, "ptpv2-l4-event"),
    (7, "ptpv2-l4-sync"),
    (8, "ptpv2-l4-delay-req"),
    (9, "ptpv2-l2-event"),
    (10, "ptpv2-l2-sync"),
    (11, "ptpv2-l2-delay-req"),
    (12, "ptpv2-event"),
    (13, "ptpv2-sync"),
    (14, "ptpv2-delay-req"),
    (15, "ntp-all"),
];

/// A set of numbered capabilities with names.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Named {
    bits: u32,
    names: &'static [(u32, &'static str)],
}

impl Named {
    /// Is the capability of this name in the set?
    pub fn has(self, name: &str) -> bool {
        self.names().any(|n| n == name)
    }

    /// Names of those in the set. Bits newer than this program have none.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let bits = self.bits;
        self.names
            .iter()
            .filter(move |(bit, _)| bits & 1 << bit != 0)
            .map(|(_, name)| *name)
    }
}

impl fmt::Debug for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

/// What an interface can stamp (ETHTOOL_GET_TS_INFO).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamping {
    /// Stamps it can take: `software-receive`, `hardware-transmit`, ...
    pub capabilities: Named,
    /// Index of its PTP hardware clock (N of `/dev/ptpN`), if it has one.
    pub phc: Option<u32>,
    /// Modes of transmit stamping: `off`, `on`, `onestep-sync`, ...
    pub tx_types: Named,
    /// Which packets it can stamp on arrival: `none`, `all`, `ntp-all`, ...
    pub rx_filters: Named,
}

impl Stamping {
    /// As a driver tells it: SOF_TIMESTAMPING_ bits, the clock, and sets of
    /// `enum hwtstamp_tx_types` and `hwtstamp_rx_filters`.
    pub const fn from_bits(
        capabilities: u32,
        phc: Option<u32>,
        tx_types: u32,
        rx_filters: u32,
    ) -> Self {
        Self {
            capabilities: Named {
                bits: capabilities,
                names: &STAMPING_NAMES,
            },
            phc,
            tx_types: Named {
                bits: tx_types,
                names: &TX_NAMES,
            },
            rx_filters: Named {
                bits: rx_filters,
                names: &RX_NAMES,
            },
        }
    }

    /// Kernel stamps on arrival and departure both.
    pub fn software(&self) -> bool {
        self.has_all(&["software-transmit", "software-receive"])
    }

    /// Stamps by the interface's own clock on arrival and departure both.
    pub fn hardware(&self) -> bool {
        self.has_all(&[
            "hardware-transmit",
            "hardware-receive",
            "hardware-raw-clock",
        ])
    }

    /// Can arrivals be stamped by this filter?
    pub fn filters(&self, filter: RxFilter) -> bool {
        self.rx_filters.has(filter.name())
    }

    fn has_all(&self, names: &[&str]) -> bool {
        names.iter().all(|name| self.capabilities.has(name))
    }
}

/// The driver behind an interface (ETHTOOL_GDRVINFO).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Driver {
    /// Its name, such as `igb`.
    pub name: String,
    /// Its version, mostly the kernel's.
    pub version: String,
    /// The device's firmware, or nothing.
    pub firmware: String,
    /// Where the device sits, such as `0000:01:00.0`, or nothing.
    pub bus: String,
}

/// Which departures the hardware stamps (`enum hwtstamp_tx_types`).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TxType(i32);

impl TxType {
    /// None.
    pub const OFF: Self = Self(0);
    /// Those of which a socket asks it.
    pub const ON: Self = Self(1);

    /// `off`, `on`, `onestep-sync`, `onestep-p2p`; `unknown` for newer ones.
    pub fn name(self) -> &'static str {
        name_of(&TX_NAMES, self.0)
    }
}

impl fmt::Debug for TxType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which arrivals the hardware stamps (`enum hwtstamp_rx_filters`).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RxFilter(i32);

impl RxFilter {
    /// None.
    pub const NONE: Self = Self(0);
    /// All.
    pub const ALL: Self = Self(1);
    /// PTP's event messages over UDP.
    pub const PTP_L4_EVENT: Self = Self(6);
    /// PTP's event messages over UDP or Ethernet.
    pub const PTP_EVENT: Self = Self(12);
    /// NTP packets, to and from port 123.
    pub const NTP_ALL: Self = Self(15);

    /// `none`, `all`, `ntp-all`, ...; `unknown` for newer ones.
    pub fn name(self) -> &'static str {
        name_of(&RX_NAMES, self.0)
    }

    /// Are PTP packets all that passes?
    pub fn is_ptp(self) -> bool {
        self.name().starts_with("ptp")
    }
}

impl fmt::Debug for RxFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How hardware stamping is set up (`struct hwtstamp_config`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HardwareConfig {
    /// Departures.
    pub tx_type: TxType,
    /// Arrivals.
    pub rx_filter: RxFilter,
}

/// What hardware does to frames on their way in, before anybody sees them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Offloads {
    /// It takes VLAN tags off and tells of them beside (`rx-vlan-offload`).
    pub strips_vlan: bool,
    /// It makes one of several (`large-receive-offload`).
    pub joins: bool,
}

/// A way to ask about interfaces.
#[derive(Debug)]
pub struct Ethtool {
    /// Any socket will do.
    fd: OwnedFd,
}

impl Ethtool {
    /// Opens a socket to ask through.
    ///
    /// # Errors
    /// What socket(2) says.
    pub fn new() -> io::Result<Self> {
        let open = |family| socket::open(family, libc::SOCK_DGRAM);
        let fd = open(libc::AF_INET).or_else(|_| open(libc::AF_INET6))?;
        Ok(Self { fd })
    }

    /// What the interface can stamp. `None` if its driver doesn't say.
    ///
    /// # Errors
    /// NotFound if there is no such interface; else what ioctl(2) says.
    pub fn stamping(&self, interface: &str) -> io::Result<Option<Stamping>> {
        /// `struct ethtool_ts_info`.
        #[repr(C)]
        #[derive(Default)]
        struct TsInfo {
            cmd: u32,
            so_timestamping: u32,
            phc_index: i32,
            tx_types: u32,
            tx_reserved: [u32; 3],
            rx_filters: u32,
            rx_reserved: [u32; 3],
        }
        const ETHTOOL_GET_TS_INFO: u32 = 0x41;
        let mut info = TsInfo {
            cmd: ETHTOOL_GET_TS_INFO,
            ..TsInfo::default()
        };
        // SAFETY: this command fills a `struct ethtool_ts_info`.
        let answered = unsafe { self.ask(interface, libc::SIOCETHTOOL, &mut info) }?;
        Ok(answered.then_some(Stamping::from_bits(
            info.so_timestamping,
            u32::try_from(info.phc_index).ok(),
            info.tx_types,
            info.rx_filters,
        )))
    }

    /// The driver behind the interface. `None` if it doesn't say.
    ///
    /// # Errors
    /// NotFound if there is no such interface; else what ioctl(2) says.
    pub fn driver(&self, interface: &str) -> io::Result<Option<Driver>> {
        /// `struct ethtool_drvinfo`.
        #[repr(C)]
        struct DrvInfo {
            cmd: u32,
            driver: [u8; 32],
            version: [u8; 32],
            fw_version: [u8; 32],
            bus_info: [u8; 32],
            erom_version: [u8; 32],
            reserved: [u8; 12],
            counts: [u32; 5],
        }
        const ETHTOOL_GDRVINFO: u32 = 0x3;
        let mut info = DrvInfo {
            cmd: ETHTOOL_GDRVINFO,
            driver: [0; 32],
            version: [0; 32],
            fw_version: [0; 32],
            bus_info: [0; 32],
            erom_version: [0; 32],
            reserved: [0; 12],
            counts: [0; 5],
        };
        // SAFETY: this command fills a `struct ethtool_drvinfo`.
        let answered = unsafe { self.ask(interface, libc::SIOCETHTOOL, &mut info) }?;
        Ok(answered.then(|| Driver {
            name: text(&info.driver),
            version: text(&info.version),
            firmware: text(&info.fw_version),
            bus: text(&info.bus_info),
        }))
    }

    /// How hardware stamping is set up (SIOCGHWTSTAMP). `None` if the driver has none,
    /// or doesn't say.
    ///
    /// # Errors
    /// NotFound if there is no such interface; else what ioctl(2) says.
    pub fn hardware_config(&self, interface: &str) -> io::Result<Option<HardwareConfig>> {
        let nothing = HardwareConfig {
            tx_type: TxType::OFF,
            rx_filter: RxFilter::NONE,
        };
        self.hwtstamp(interface, libc::SIOCGHWTSTAMP, nothing)
    }

    /// Sets hardware stamping up (SIOCSHWTSTAMP) and returns what the driver made of it:
    /// often a filter that lets more pass. `None` if it can't be set.
    ///
    /// # Errors
    /// NotFound if there is no such interface; PermissionDenied without CAP_NET_ADMIN;
    /// ERANGE for what the hardware can't do; else what ioctl(2) says.
    pub fn set_hardware_config(
        &self,
        interface: &str,
        config: HardwareConfig,
    ) -> io::Result<Option<HardwareConfig>> {
        self.hwtstamp(interface, libc::SIOCSHWTSTAMP, config)
    }

    fn hwtstamp(
        &self,
        interface: &str,
        request: libc::c_ulong,
        config: HardwareConfig,
    ) -> io::Result<Option<HardwareConfig>> {
        let mut config = libc::hwtstamp_config {
            flags: 0,
            tx_type: config.tx_type.0,
            rx_filter: config.rx_filter.0,
        };
        // SAFETY: both ioctls read and fill a `struct hwtstamp_config`.
        let answered = unsafe { self.ask(interface, request, &mut config) }?;
        Ok(answered.then_some(HardwareConfig {
            tx_type: TxType(config.tx_type),
            rx_filter: RxFilter(config.rx_filter),
        }))
    }

    /// The link's speed in bits per second (ETHTOOL_GLINKSETTINGS). `None` if there is
    /// no link, or the driver doesn't say.
    ///
    /// # Errors
    /// NotFound if there is no such interface; else what ioctl(2) says.
    pub fn speed(&self, interface: &str) -> io::Result<Option<u64>> {
        /// `struct ethtool_link_settings` with the largest masks that its count of
        /// words can tell of.
        #[repr(C)]
        struct LinkSettings {
            cmd: u32,
            speed: u32,
            duplex_to_mdix: [u8; 7],
            mask_words: i8,
            transceiver_to_rate: [u8; 4],
            reserved: [u32; 7],
            masks: [u32; 3 * MASK_WORDS_MAX],
        }
        const MASK_WORDS_MAX: usize = i8::MAX as usize;
        const ETHTOOL_GLINKSETTINGS: u32 = 0x4c;
        const SPEED_UNKNOWN: u32 = u32::MAX;
        let mut settings = LinkSettings {
            cmd: ETHTOOL_GLINKSETTINGS,
            speed: SPEED_UNKNOWN,
            duplex_to_mdix: [0; 7],
            mask_words: 0,
            transceiver_to_rate: [0; 4],
            reserved: [0; 7],
            masks: [0; 3 * MASK_WORDS_MAX],
        };
        // The first answer is how many words the kernel's masks have, negated.
        for _ in 0..2 {
            // SAFETY: this command fills a `struct ethtool_link_settings` and three
            // masks of `mask_words` each, for which there is room whatever it says.
            if !unsafe { self.ask(interface, libc::SIOCETHTOOL, &mut settings) }? {
                return Ok(None);
            }
            if settings.mask_words > 0 {
                break;
            }
            settings.cmd = ETHTOOL_GLINKSETTINGS;
            settings.mask_words = settings.mask_words.saturating_neg();
        }
        Ok(match settings.speed {
            0 | SPEED_UNKNOWN => None,
            mbit => Some(u64::from(mbit) * 1_000_000),
        })
    }

    /// What the hardware does to frames on their way in (ETHTOOL_GFLAGS). `None` if the
    /// driver doesn't say.
    ///
    /// # Errors
    /// NotFound if there is no such interface; else what ioctl(2) says.
    pub fn offloads(&self, interface: &str) -> io::Result<Option<Offloads>> {
        /// `struct ethtool_value`.
        #[repr(C)]
        struct Value {
            cmd: u32,
            data: u32,
        }
        const ETHTOOL_GFLAGS: u32 = 0x25;
        const ETH_FLAG_RXVLAN: u32 = 1 << 8;
        const ETH_FLAG_LRO: u32 = 1 << 15;
        let mut value = Value {
            cmd: ETHTOOL_GFLAGS,
            data: 0,
        };
        // SAFETY: this command fills a `struct ethtool_value`.
        let answered = unsafe { self.ask(interface, libc::SIOCETHTOOL, &mut value) }?;
        Ok(answered.then_some(Offloads {
            strips_vlan: value.data & ETH_FLAG_RXVLAN != 0,
            joins: value.data & ETH_FLAG_LRO != 0,
        }))
    }

    /// Puts `argument` to the interface's driver. False if it doesn't know the question.
    ///
    /// # Safety
    /// `request` (with the command in `argument`, for SIOCETHTOOL) must write no
    /// more than a `T`, and leave a valid one.
    unsafe fn ask<T>(
        &self,
        interface: &str,
        request: libc::c_ulong,
        argument: &mut T,
    ) -> io::Result<bool> {
        // SAFETY: ifreq is plain bytes and a null pointer.
        let mut ifreq: libc::ifreq = unsafe { mem::zeroed() };
        // The last byte stays zero.
        if interface.len() >= libc::IFNAMSIZ || interface.bytes().any(|b| b == 0) {
            return Err(io::ErrorKind::NotFound.into());
        }
        for (place, byte) in ifreq.ifr_name.iter_mut().zip(interface.bytes()) {
            *place = byte as libc::c_char;
        }
        ifreq.ifr_ifru.ifru_data = (&raw mut *argument).cast();
        // SAFETY: `ifreq` names the interface and points to `argument`, which the
        // caller vouches is what the request fills.
        let result = unsafe { libc::ioctl(self.fd.as_raw_fd(), request as _, &raw mut ifreq) };
        if result >= 0 {
            return Ok(true);
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::ENODEV) => Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!("no interface {interface}"),
            )),
            // EINVAL: what drivers without the ioctl say, as simulators do.
            Some(libc::EOPNOTSUPP | libc::ENOTTY | libc::EINVAL) => Ok(false),
            _ => Err(error),
        }
    }
}

fn name_of(names: &'static [(u32, &'static str)], number: i32) -> &'static str {
    names
        .iter()
        .find(|(n, _)| i32::try_from(*n) == Ok(number))
        .map_or("unknown", |(_, name)| name)
}

/// Up to the first zero.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::netlink::{Interface, interfaces};
    use nix::sched::{CloneFlags, unshare};
    use std::process::Command;

    #[test]
    fn every_interface_answers() {
        let ethtool = Ethtool::new().unwrap();
        for Interface { name, .. } in interfaces().unwrap() {
            let stamping = ethtool.stamping(&name).unwrap();
            // The kernel answers for drivers that don't.
            let stamping = stamping.expect("a kernel of this century");
            assert!(stamping.capabilities.has("software-receive"), "{name}");
            ethtool.driver(&name).unwrap();
            ethtool.hardware_config(&name).unwrap();
            ethtool.speed(&name).unwrap();
        }
    }

    #[test]
    fn loopback_stamps_in_software_alone() {
        let ethtool = Ethtool::new().unwrap();
        let stamping = ethtool.stamping("lo").unwrap().unwrap();
        assert!(stamping.software() && !stamping.hardware());
        assert_eq!(stamping.phc, None);
        assert_eq!(ethtool.hardware_config("lo").unwrap(), None);
        assert_eq!(ethtool.speed("lo").unwrap(), None);
        let untouched = Offloads {
            strips_vlan: false,
            joins: false,
        };
        assert_eq!(ethtool.offloads("lo").unwrap(), Some(untouched));
        let nobody = ethtool.offloads("nonesuch0").unwrap_err();
        assert_eq!(nobody.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn what_can_t_be_set_is_no_error() {
        let ethtool = Ethtool::new().unwrap();
        let wanted = HardwareConfig {
            tx_type: TxType::ON,
            rx_filter: RxFilter::ALL,
        };
        match ethtool.set_hardware_config("lo", wanted) {
            Ok(made) => assert_eq!(made, None),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied),
        }
    }

    /// In a network namespace of this thread's own, where root may do so.
    #[test]
    fn a_veth_has_ten_gigabits() {
        std::thread::spawn(|| {
            if unshare(CloneFlags::CLONE_NEWNET).is_err() {
                return;
            }
            let words = "link add left type veth peer name right";
            let made = Command::new("ip").args(words.split(' ')).status();
            if made.is_ok_and(|status| status.success()) {
                let ethtool = Ethtool::new().unwrap();
                assert_eq!(ethtool.speed("left").unwrap(), Some(10_000_000_000));
            }
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_missing_interface_is_named() {
        let ethtool = Ethtool::new().unwrap();
        let error = ethtool.stamping("no-such-nic").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let error = ethtool.driver("a-name-that-is-too-long").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn numbers_have_names() {
        assert_eq!(name_of(&RX_NAMES, 15), "ntp-all");
        assert_eq!(name_of(&TX_NAMES, 99), "unknown");
        assert_eq!(RxFilter::NTP_ALL.name(), "ntp-all");
        assert_eq!(RxFilter::PTP_L4_EVENT.name(), "ptpv2-l4-event");
        assert_eq!(RxFilter::PTP_EVENT.name(), "ptpv2-event");
        assert!(RxFilter::PTP_EVENT.is_ptp() && !RxFilter::ALL.is_ptp());
        let set = Named {
            bits: 1 << 31 | 0b101,
            names: &STAMPING_NAMES,
        };
        let names: Vec<_> = set.names().collect();
        assert_eq!(names, ["hardware-transmit", "hardware-receive"]);
    }

    #[test]
    fn the_driver_text_ends_at_the_zero() {
        assert_eq!(text(b"igb\0garbage"), "igb");
        assert_eq!(text(b"full"), "full");
    }
}

//! What network interfaces can do for time: the ethtool and hardware stamping
//! ioctls (`linux/ethtool.h`, `linux/net_tstamp.h`), as `ethtool -T` and
//! `ethtool -i` show them. Changes nothing.

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

impl std::fmt::Debug for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
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

/// How hardware stamping is set up at present (SIOCGHWTSTAMP).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HardwareConfig {
    /// `off`, `on`, `onestep-sync`, `onestep-p2p`; `unknown` for newer ones.
    pub tx_type: &'static str,
    /// `none`, `all`, `ntp-all`, ...; `unknown` for newer ones.
    pub rx_filter: &'static str,
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
        Ok(answered.then_some(Stamping {
            capabilities: Named {
                bits: info.so_timestamping,
                names: &STAMPING_NAMES,
            },
            phc: u32::try_from(info.phc_index).ok(),
            tx_types: Named {
                bits: info.tx_types,
                names: &TX_NAMES,
            },
            rx_filters: Named {
                bits: info.rx_filters,
                names: &RX_NAMES,
            },
        }))
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

    /// How hardware stamping is set up. `None` if the driver has none.
    ///
    /// # Errors
    /// NotFound if there is no such interface; else what ioctl(2) says.
    pub fn hardware_config(&self, interface: &str) -> io::Result<Option<HardwareConfig>> {
        let mut config = libc::hwtstamp_config {
            flags: 0,
            tx_type: 0,
            rx_filter: 0,
        };
        // SAFETY: this ioctl fills a `struct hwtstamp_config`.
        let answered = unsafe { self.ask(interface, libc::SIOCGHWTSTAMP, &mut config) }?;
        Ok(answered.then(|| HardwareConfig {
            tx_type: name_of(&TX_NAMES, config.tx_type),
            rx_filter: name_of(&RX_NAMES, config.rx_filter),
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
        }
    }

    #[test]
    fn loopback_stamps_in_software_alone() {
        let ethtool = Ethtool::new().unwrap();
        let stamping = ethtool.stamping("lo").unwrap().unwrap();
        assert!(stamping.software() && !stamping.hardware());
        assert_eq!(stamping.phc, None);
        assert_eq!(ethtool.hardware_config("lo").unwrap(), None);
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

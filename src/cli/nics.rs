//! `ptntp nics`: who can stamp packets on which interface, in words. Asks the
//! kernel and the drivers, needs no running service and no rights, changes
//! nothing.

use std::io;
use std::process::ExitCode;

use serde::Serialize;

use crate::cli::args::NicsArgs;
use crate::cli::ask;
use crate::cli::render;
use crate::linux::ethtool::{Driver, Ethtool, Stamping};
use crate::linux::netlink::{self, Interface};

/// Asks and prints.
pub fn run(args: &NicsArgs) -> ExitCode {
    match nics(&args.interfaces) {
        Ok(nics) => {
            ask::print(&if args.json { json(&nics) } else { text(&nics) });
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("ptntp nics: {error}");
            ExitCode::FAILURE
        }
    }
}

/// One interface. The field names are the JSON names; they only grow.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Nic {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// Switched on by the administrator.
    pub up: bool,
    /// And with a carrier.
    pub running: bool,
    /// With the length of their prefix.
    pub addresses: Vec<String>,
    /// The best stamps an NTP packet can get here.
    pub stamps: Stamps,
    /// The PTP hardware clock, such as `/dev/ptp0`.
    pub phc: Option<String>,
    /// The driver's name.
    pub driver: Option<String>,
    /// The device's firmware.
    pub firmware: Option<String>,
    /// Where the device sits, such as `0000:01:00.0`.
    pub bus: Option<String>,
    /// Whatever can be stamped at all, in ethtool's words.
    pub capabilities: Vec<String>,
    /// Which packets the hardware can stamp on arrival.
    pub rx_filters: Vec<String>,
    /// How the hardware can stamp departures.
    pub tx_types: Vec<String>,
    /// The hardware's present receive filter.
    pub rx_filter: Option<String>,
    /// The hardware's present way of stamping departures.
    pub tx_type: Option<String>,
}

/// The best stamps for NTP, from the worst.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stamps {
    /// None: the daemon reads the clock itself.
    Daemon,
    /// The kernel's on arrival; the driver does not say when a packet leaves.
    KernelReceive,
    /// The kernel's, both ways.
    Kernel,
    /// The hardware's, but of PTP packets only; so the kernel's.
    HardwarePtpOnly,
    /// The hardware's, both ways.
    Hardware,
}

impl Stamps {
    fn of(stamping: Option<&Stamping>) -> Self {
        let Some(stamping) = stamping else {
            return Self::Daemon;
        };
        let ntp = stamping.rx_filters.has("all") || stamping.rx_filters.has("ntp-all");
        if stamping.hardware() && ntp {
            Self::Hardware
        } else if stamping.hardware() && stamping.software() {
            Self::HardwarePtpOnly
        } else if stamping.software() {
            Self::Kernel
        } else if stamping.capabilities.has("software-receive") {
            Self::KernelReceive
        } else {
            Self::Daemon
        }
    }

    const fn explanation(self) -> &'static str {
        match self {
            Self::Daemon => "none: ptntp reads the clock itself, late by its own delays",
            Self::KernelReceive => {
                "kernel on arrival only: the driver does not say when a packet leaves"
            }
            Self::Kernel => "kernel: it stamps every packet as it arrives and leaves",
            Self::HardwarePtpOnly => {
                "kernel: the hardware stamps PTP packets only, the kernel stamps NTP's"
            }
            Self::Hardware => {
                "hardware: the interface's own clock can stamp every packet (ptntp takes the \
                 kernel's stamps so far)"
            }
        }
    }
}

fn nics(wanted: &[String]) -> Result<Vec<Nic>, String> {
    let all = netlink::interfaces().map_err(|e| format!("can't list the interfaces: {e}"))?;
    for name in wanted {
        if !all.iter().any(|interface| interface.name == *name) {
            return Err(format!("there is no interface {name} (try `ptntp nics`)"));
        }
    }
    let ethtool = Ethtool::new().map_err(|e| format!("can't open a socket to ask through: {e}"))?;
    let wanted = |i: &Interface| wanted.is_empty() || wanted.contains(&i.name);
    let mut nics = Vec::new();
    for interface in all.iter().filter(|interface| wanted(interface)) {
        match nic(&ethtool, interface) {
            Ok(nic) => nics.push(nic),
            // It went away while we asked.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(format!("{}: {error}", interface.name)),
        }
    }
    Ok(nics)
}

fn nic(ethtool: &Ethtool, interface: &Interface) -> io::Result<Nic> {
    let stamping = ethtool.stamping(&interface.name)?;
    let driver = ethtool.driver(&interface.name)?;
    // Some drivers let only root look; that is no reason to show nothing.
    let present = ethtool.hardware_config(&interface.name).unwrap_or(None);
    let of_driver = |field: fn(&Driver) -> &String| {
        let value = driver.as_ref().map(field);
        value.filter(|text| said(text)).cloned()
    };
    let names = |named: &mut dyn Iterator<Item = &'static str>| named.map(str::to_owned).collect();
    let (capabilities, rx_filters, tx_types) = match &stamping {
        Some(stamping) => (
            names(&mut stamping.capabilities.names()),
            names(&mut stamping.rx_filters.names()),
            names(&mut stamping.tx_types.names()),
        ),
        None => Default::default(),
    };
    let addresses = interface.addresses.iter();
    Ok(Nic {
        name: interface.name.clone(),
        index: interface.index,
        up: interface.up,
        running: interface.running,
        addresses: addresses
            .map(|address| format!("{}/{}", address.ip, address.prefix_len))
            .collect(),
        stamps: Stamps::of(stamping.as_ref()),
        phc: stamping
            .and_then(|s| s.phc)
            .map(|index| format!("/dev/ptp{index}")),
        driver: of_driver(|d| &d.name),
        firmware: of_driver(|d| &d.firmware),
        bus: of_driver(|d| &d.bus),
        capabilities,
        rx_filters,
        tx_types,
        rx_filter: present.map(|config| config.rx_filter.name().to_owned()),
        tx_type: present.map(|config| config.tx_type.name().to_owned()),
    })
}

/// Drivers write N/A where they know nothing.
fn said(text: &str) -> bool {
    !text.is_empty() && text != "N/A"
}

fn json(nics: &[Nic]) -> String {
    // Strings, numbers and lists of them.
    serde_json::to_string(nics).expect("always serialises") + "\n"
}

/// A paragraph for each interface.
pub fn text(nics: &[Nic]) -> String {
    let paragraphs: Vec<String> = nics.iter().map(paragraph).collect();
    paragraphs.join("\n")
}

fn paragraph(nic: &Nic) -> String {
    let state = match (nic.up, nic.running) {
        (false, _) => "down",
        (true, false) => "up, no carrier",
        (true, true) => "up",
    };
    let mut head = vec![nic.name.as_str(), state];
    head.extend(nic.addresses.iter().map(String::as_str));
    let mut rows = vec![("stamps", nic.stamps.explanation().to_owned())];
    match &nic.phc {
        Some(phc) => rows.push(("clock", format!("{phc}, a PTP hardware clock"))),
        None => rows.push(("clock", "no PTP hardware clock".to_owned())),
    }
    if let Some(driver) = &nic.driver {
        let firmware = nic.firmware.iter().map(|f| format!("firmware {f}"));
        let bus = nic.bus.iter().map(|bus| format!("at {bus}"));
        let all: Vec<String> = [driver.clone()]
            .into_iter()
            .chain(firmware)
            .chain(bus)
            .collect();
        rows.push(("driver", all.join(", ")));
    }
    // Software stamps know no filters: the kernel then lists `none` and `off`.
    if !list_is_empty(&nic.rx_filters) || !list_is_empty(&nic.tx_types) {
        rows.push((
            "filters",
            format!(
                "receive {}; transmit {}",
                nic.rx_filters.join(", "),
                nic.tx_types.join(", ")
            ),
        ));
    }
    if let (Some(rx), Some(tx)) = (&nic.rx_filter, &nic.tx_type) {
        rows.push(("set to", format!("receive {rx}; transmit {tx}")));
    }
    let rows: Vec<Vec<String>> = rows
        .into_iter()
        .map(|(name, value)| vec![format!("    {name}"), render::printable(&value)])
        .collect();
    render::printable(&head.join("  ")) + "\n" + &render::columns(&rows)
}

fn list_is_empty(names: &[String]) -> bool {
    names.iter().all(|name| name == "none" || name == "off")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(words: &str) -> Vec<String> {
        words.split_whitespace().map(str::to_owned).collect()
    }

    fn loopback() -> Nic {
        Nic {
            name: "lo".to_owned(),
            index: 1,
            up: true,
            running: true,
            addresses: list("127.0.0.1/8 ::1/128"),
            stamps: Stamps::Kernel,
            phc: None,
            driver: None,
            firmware: None,
            bus: None,
            capabilities: list("software-transmit software-receive"),
            rx_filters: Vec::new(),
            tx_types: Vec::new(),
            rx_filter: None,
            tx_type: None,
        }
    }

    #[test]
    fn each_interface_gets_a_paragraph_in_words() {
        let card = Nic {
            name: "enp1s0".to_owned(),
            index: 2,
            running: false,
            addresses: Vec::new(),
            stamps: Stamps::Hardware,
            phc: Some("/dev/ptp0".to_owned()),
            driver: Some("igb".to_owned()),
            firmware: Some("3.25".to_owned()),
            bus: Some("0000:01:00.0".to_owned()),
            rx_filters: list("none all"),
            tx_types: list("off on"),
            rx_filter: Some("none".to_owned()),
            tx_type: Some("off".to_owned()),
            ..loopback()
        };
        assert_eq!(
            text(&[loopback(), card]),
            "\
lo  up  127.0.0.1/8  ::1/128
    stamps  kernel: it stamps every packet as it arrives and leaves
    clock   no PTP hardware clock

enp1s0  up, no carrier
    stamps   hardware: the interface's own clock can stamp every packet (ptntp takes the kernel's stamps so far)
    clock    /dev/ptp0, a PTP hardware clock
    driver   igb, firmware 3.25, at 0000:01:00.0
    filters  receive none, all; transmit off, on
    set to   receive none; transmit off
"
        );
    }

    #[test]
    fn this_machine_has_a_loopback_the_kernel_stamps() {
        let nics = nics(&["lo".to_owned()]).unwrap();
        let [lo] = &nics[..] else { panic!("{nics:?}") };
        assert_eq!((lo.stamps, &lo.phc), (Stamps::Kernel, &None));
        assert!(lo.addresses.is_empty() || lo.addresses[0].starts_with("127."));
        let value: serde_json::Value = serde_json::from_str(&json(&nics)).unwrap();
        assert_eq!(value[0]["stamps"], "kernel");
    }

    #[test]
    fn an_interface_that_is_not_there_is_an_error() {
        let error = nics(&["nonesuch0".to_owned()]).unwrap_err();
        assert!(error.contains("nonesuch0"), "{error}");
    }
}

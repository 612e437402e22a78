//! `ptntp nics`: who can stamp packets on which interface, how that is set up, and which
//! stamps really arrive, in words; and who can answer requests there by XDP. Asks the kernel, the drivers, the cards' clocks
//! and the running service, needs none of the last two and no rights, changes nothing.

use std::io;
use std::process::ExitCode;

use serde::Serialize;

use crate::cli::args::NicsArgs;
use crate::cli::ask;
use crate::cli::render;
use crate::daemon::cards::carriers;
use crate::daemon::hardware::CardStatus;
use crate::daemon::status::XdpStatus;
use crate::linux::ethtool::{Driver, Ethtool, Stamping};
use crate::linux::netdev;
use crate::linux::netlink::{self, Interface};
use crate::linux::phc::{Phc, path_of};
use crate::linux::xdp;

/// Asks and prints.
pub fn run(args: &NicsArgs) -> ExitCode {
    // A service that does not run, or knows no cards, has nothing to tell.
    let (cards, xdp) = ask::stat(&args.control).map_or_else(
        |_| Default::default(),
        |(status, _)| (status.cards, status.xdp),
    );
    match nics(&args.interfaces, &cards, &xdp) {
        Ok(nics) => {
            ask::print(&if args.control.json {
                json(&nics)
            } else {
                text(&nics)
            });
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
    /// What software makes of it, such as `bond` or `vlan`; none: it is hardware.
    pub kind: Option<String>,
    /// The interfaces that carry its packets, and stamp them, if not itself.
    pub carriers: Vec<String>,
    /// The link's speed.
    pub speed_bps: Option<u64>,
    /// The PTP hardware clock, such as `/dev/ptp0`.
    pub phc: Option<String>,
    /// What that clock shows; none if there is no clock, or we can't read it.
    pub phc_reading: Option<PhcReading>,
    /// Why not, if there is one.
    pub phc_error: Option<String>,
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
    /// What the running service makes of its stamps, if it uses them.
    pub service: Option<CardStatus>,
    /// Does the driver run XDP programs? None: this kernel doesn't know.
    pub xdp_native: Option<bool>,
    /// The XDP program that is there, whoever's it is.
    pub xdp_program: Option<String>,
    /// What the running service makes of it, if an `xdp` line means this interface.
    pub xdp_service: Option<XdpStatus>,
}

/// One look at a PTP hardware clock.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PhcReading {
    /// The best way to read it: `plain`, `extended` or `precise`.
    pub method: &'static str,
    /// That clock minus CLOCK_REALTIME.
    pub ahead_s: f64,
    /// The reading took so long; zero where the hardware latches both clocks.
    pub window_s: f64,
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
                "kernel: the hardware stamps only PTP packets on arrival, the kernel stamps NTP's"
            }
            Self::Hardware => "hardware: the interface's own clock can stamp every packet",
        }
    }
}

fn nics(wanted: &[String], cards: &[CardStatus], xdp: &[XdpStatus]) -> Result<Vec<Nic>, String> {
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
        match nic(&ethtool, interface, &all) {
            Ok(mut nic) => {
                let card = cards.iter().find(|card| card.interface == nic.name);
                nic.service = card.cloned();
                let link = xdp.iter().find(|link| link.interface == nic.name);
                nic.xdp_service = link.cloned();
                nics.push(nic);
            }
            // It went away while we asked.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(format!("{}: {error}", interface.name)),
        }
    }
    Ok(nics)
}

fn nic(ethtool: &Ethtool, interface: &Interface, all: &[Interface]) -> io::Result<Nic> {
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
    let carriers = carriers(interface, all).into_iter();
    let others = carriers.filter(|carrier| carrier.index != interface.index);
    let phc = stamping.and_then(|stamping| stamping.phc);
    let (phc_reading, phc_error) = match phc.map(read_phc) {
        None => (None, None),
        Some(Ok(reading)) => (reading, None),
        Some(Err(error)) => (None, Some(error.to_string())),
    };
    Ok(Nic {
        name: interface.name.clone(),
        index: interface.index,
        up: interface.up,
        running: interface.running,
        addresses: addresses
            .map(|address| format!("{}/{}", address.ip, address.prefix_len))
            .collect(),
        stamps: Stamps::of(stamping.as_ref()),
        kind: interface.kind.clone(),
        carriers: others.map(|carrier| carrier.name.clone()).collect(),
        speed_bps: ethtool.speed(&interface.name).unwrap_or(None),
        phc: phc.map(path_of),
        phc_reading,
        phc_error,
        driver: of_driver(|d| &d.name),
        firmware: of_driver(|d| &d.firmware),
        bus: of_driver(|d| &d.bus),
        capabilities,
        rx_filters,
        tx_types,
        rx_filter: present.map(|config| config.rx_filter.name().to_owned()),
        tx_type: present.map(|config| config.tx_type.name().to_owned()),
        service: None,
        xdp_native: netdev::features(interface.index)
            .ok()
            .flatten()
            .map(netdev::Features::native),
        xdp_program: xdp::attached(interface.index)
            .ok()
            .flatten()
            .map(|program| program.to_string()),
        xdp_service: None,
    })
}

/// The best of a few readings in a row.
fn read_phc(index: u32) -> io::Result<Option<PhcReading>> {
    let mut phc = Phc::open(index)?;
    let mut batch = Vec::new();
    phc.cross(&mut batch)?;
    let best = batch.iter().min_by_key(|crossing| crossing.window);
    Ok(best.map(|crossing| PhcReading {
        method: phc.method().name(),
        ahead_s: crossing.phc.nanos().saturating_sub(crossing.real.unix_ns()) as f64 * 1e-9,
        window_s: crossing.window.as_seconds(),
    }))
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
    if !nic.carriers.is_empty() {
        let kind = nic.kind.as_deref().unwrap_or("interface");
        let carriers = nic.carriers.join(", ");
        rows.push((
            "over",
            format!("a {kind} over {carriers}: what is stamped, is stamped there"),
        ));
    }
    match &nic.phc {
        Some(phc) => rows.push(("clock", format!("{phc}, {}", clock(nic)))),
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
    if let Some(speed) = nic.speed_bps {
        rows.push(("link", format!("{} Mbit/s", speed / 1_000_000)));
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
    if let Some(card) = &nic.service {
        rows.push(("service", service(card)));
    } else if nic.stamps == Stamps::Hardware && nic.carriers.is_empty() {
        let advice = format!("`hwtimestamp {}` in ptntp's file has it used", nic.name);
        rows.push(("service", format!("no stamps of it are in use; {advice}")));
    }
    rows.push(("xdp", xdp_of(nic)));
    let rows: Vec<Vec<String>> = rows
        .into_iter()
        .map(|(name, value)| vec![format!("    {name}"), render::printable(&value)])
        .collect();
    render::printable(&head.join("  ")) + "\n" + &render::columns(&rows)
}

/// Who can answer before the network stack, and who does.
fn xdp_of(nic: &Nic) -> String {
    let ability = match nic.xdp_native {
        Some(true) => "the driver runs programs (native)",
        Some(false) => "the driver runs no programs; `mode generic` works",
        None => "this kernel can't tell whether the driver runs programs (Linux 6.3 can)",
    };
    let mut said = vec![ability.to_owned()];
    said.extend(
        nic.xdp_program
            .iter()
            .map(|program| format!("has {program}")),
    );
    said.extend(nic.xdp_service.iter().map(|link| match &link.mode {
        Some(mode) => format!("the service answers there ({mode})"),
        None => "the service does not answer there (`ptntp stat -v` says why)".to_owned(),
    }));
    said.join("; ")
}

/// What is known of a card's clock.
fn clock(nic: &Nic) -> String {
    match (&nic.phc_reading, &nic.phc_error) {
        (Some(reading), _) => {
            let way = if reading.ahead_s < 0.0 {
                "behind"
            } else {
                "ahead of"
            };
            let distance = format!("{:.9} s", reading.ahead_s.abs());
            let window = match reading.window_s {
                0.0 => "both latched at once".to_owned(),
                window => format!("read within {}", render::seconds(Some(window))),
            };
            format!(
                "{distance} {way} the system's clock ({}: {window})",
                reading.method
            )
        }
        (None, Some(error)) => {
            format!("a PTP hardware clock; it can't be read: {error} (root may)")
        }
        (None, None) => "a PTP hardware clock".to_owned(),
    }
}

/// What really arrives.
fn service(card: &CardStatus) -> String {
    let doubted: u64 = card.doubted.values().sum();
    format!(
        "arrivals stamped by the card {}, by the kernel alone {}; departures {}, missing {}; \
         stamps doubted {doubted}; clock known to {}",
        card.rx_hardware,
        card.rx_kernel,
        card.tx_hardware,
        card.tx_missing,
        render::seconds(card.phc_error_s)
    )
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

    fn card_status() -> CardStatus {
        CardStatus {
            interface: "enp1s0".to_owned(),
            phc: "/dev/ptp0".to_owned(),
            cross_method: "extended".to_owned(),
            phc_offset_s: Some(-37.0),
            phc_frequency_ppm: Some(1.5),
            phc_error_s: Some(120e-9),
            phc_jumps: 0,
            rx_hardware: 990,
            rx_kernel: 3,
            tx_hardware: 995,
            tx_missing: 5,
            doubted: [("out_of_order".to_owned(), 2)].into(),
            tx_latency_median_s: None,
            tx_latency_p99_s: None,
            tx_wait_s: 1e-3,
        }
    }

    fn loopback() -> Nic {
        Nic {
            name: "lo".to_owned(),
            index: 1,
            up: true,
            running: true,
            addresses: list("127.0.0.1/8 ::1/128"),
            stamps: Stamps::Kernel,
            kind: None,
            carriers: Vec::new(),
            speed_bps: None,
            phc: None,
            phc_reading: None,
            phc_error: None,
            driver: None,
            firmware: None,
            bus: None,
            capabilities: list("software-transmit software-receive"),
            rx_filters: Vec::new(),
            tx_types: Vec::new(),
            rx_filter: None,
            tx_type: None,
            service: None,
            xdp_native: Some(false),
            xdp_program: None,
            xdp_service: None,
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
            speed_bps: Some(1_000_000_000),
            xdp_native: Some(true),
            xdp_program: Some("program 7 (ptntp, native)".to_owned()),
            xdp_service: Some(XdpStatus {
                interface: "enp1s0".to_owned(),
                mode: Some("native".to_owned()),
                problem: None,
            }),
            phc_reading: Some(PhcReading {
                method: "extended",
                ahead_s: 37.000_012_345,
                window_s: 1.5e-6,
            }),
            ..loopback()
        };
        let vlan = Nic {
            name: "enp1s0.5".to_owned(),
            index: 3,
            kind: Some("vlan".to_owned()),
            carriers: list("enp1s0"),
            service: None,
            phc_error: Some("Permission denied (os error 13)".to_owned()),
            phc_reading: None,
            driver: None,
            rx_filters: Vec::new(),
            tx_types: Vec::new(),
            rx_filter: None,
            tx_type: None,
            speed_bps: None,
            xdp_native: None,
            xdp_program: None,
            xdp_service: None,
            ..card.clone()
        };
        let mut used = card.clone();
        used.service = Some(card_status());
        assert!(text(&[used]).contains(
            "service  arrivals stamped by the card 990, by the kernel alone 3; \
                 departures 995, missing 5; stamps doubted 2; clock known to "
        ));
        assert_eq!(
            text(&[loopback(), card, vlan]),
            "\
lo  up  127.0.0.1/8  ::1/128
    stamps  kernel: it stamps every packet as it arrives and leaves
    clock   no PTP hardware clock
    xdp     the driver runs no programs; `mode generic` works

enp1s0  up, no carrier
    stamps   hardware: the interface's own clock can stamp every packet
    clock    /dev/ptp0, 37.000012345 s ahead of the system's clock (extended: read within 1.500 µs)
    driver   igb, firmware 3.25, at 0000:01:00.0
    link     1000 Mbit/s
    filters  receive none, all; transmit off, on
    set to   receive none; transmit off
    service  no stamps of it are in use; `hwtimestamp enp1s0` in ptntp's file has it used
    xdp      the driver runs programs (native); has program 7 (ptntp, native); the service answers there (native)

enp1s0.5  up, no carrier
    stamps  hardware: the interface's own clock can stamp every packet
    over    a vlan over enp1s0: what is stamped, is stamped there
    clock   /dev/ptp0, a PTP hardware clock; it can't be read: Permission denied (os error 13) (root may)
    xdp     this kernel can't tell whether the driver runs programs (Linux 6.3 can)
"
        );
    }

    #[test]
    fn this_machine_has_a_loopback_the_kernel_stamps() {
        let nics = nics(&["lo".to_owned()], &[], &[]).unwrap();
        let [lo] = &nics[..] else { panic!("{nics:?}") };
        assert_eq!((lo.stamps, &lo.phc), (Stamps::Kernel, &None));
        assert!(lo.addresses.is_empty() || lo.addresses[0].starts_with("127."));
        let value: serde_json::Value = serde_json::from_str(&json(&nics)).unwrap();
        assert_eq!(value[0]["stamps"], "kernel");
    }

    #[test]
    fn an_interface_that_is_not_there_is_an_error() {
        let error = nics(&["nonesuch0".to_owned()], &[], &[]).unwrap_err();
        assert!(error.contains("nonesuch0"), "{error}");
    }
}

//! Who takes packets off a wire.
//!
//! On a veth pair it is whoever puts them there, or one interrupt each. So the threads of
//! the kernel that poll an interface (threaded NAPI) are kept on a core, with a real-time
//! priority, as an interrupt would have.

use std::collections::BTreeSet;
use std::process::Command;

use super::common::net::{Namespace, hub_v4};
use super::common::{process, secs, wait_until};
use super::{GENERATOR_CORE, must, shell};

/// Priority of a thread that polls: above the generator's.
const PRIORITY: &str = "5";
/// How often the generator's end is polled, in nanoseconds. A server answers some twenty
/// requests meanwhile, and the kernel keeps 256.
const EVERY_NS: u32 = 100_000;

/// The kernel's threads that poll interfaces of this name, by id.
pub fn pollers(interface: &str) -> Result<BTreeSet<String>, String> {
    let all = std::fs::read_dir("/proc").map_err(|error| format!("/proc: {error}"))?;
    let prefix = format!("napi/{interface}-");
    let names = all.flatten().filter_map(|entry| {
        let id = entry.file_name().into_string().ok()?;
        let name = std::fs::read_to_string(entry.path().join("comm")).ok()?;
        (id.parse::<u32>().is_ok() && name.starts_with(&prefix)).then_some(id)
    });
    Ok(names.collect())
}

/// Keeps the threads that poll an interface on a core. `before` were there already, for
/// another of its name.
pub fn keep_on_core(interface: &str, core: &str, before: &BTreeSet<String>) -> Result<(), String> {
    let mut new = Vec::new();
    let found = wait_until(secs(5), || {
        new = pollers(interface)
            .unwrap_or_default()
            .difference(before)
            .cloned()
            .collect();
        !new.is_empty()
    });
    if !found {
        return Err(format!(
            "threaded NAPI: no thread of the kernel polls {interface}"
        ));
    }
    for id in new {
        for (program, args) in [
            ("taskset", ["-cp", core, &id].as_slice()),
            ("chrt", &["--fifo", "-p", PRIORITY, &id]),
        ] {
            let mut command = Command::new(program);
            command.args(args);
            must(program, command)?;
        }
    }
    Ok(())
}

/// Has an interface polled by threads of its own.
pub fn poll_by_thread(namespace: &Namespace, interface: &str) -> Result<(), String> {
    let line = format!("echo 1 > /sys/class/net/{interface}/threaded");
    must("threaded NAPI", shell(namespace, &line))
}

/// The generator's end of the wire to a server.
pub struct FarEnd {
    interface: String,
}

impl FarEnd {
    /// Of the wire to spoke `n`. The server's core takes answers off it.
    pub fn new(hub: &Namespace, n: usize, spoke: &Namespace) -> Result<Self, String> {
        let interface = format!("s{n}");
        // A veth polls only what did not come in one piece, by its settings.
        must("ethtool", ethtool(spoke, "eth", ["tso", "off"]))?;
        let at = format!("/sys/class/net/{interface}");
        // By the clock alone: an idle thread would have to be woken by the server's core.
        let line = format!(
            "echo {EVERY_NS} > {at}/gro_flush_timeout; echo {} > {at}/napi_defer_hard_irqs",
            i32::MAX
        );
        must(
            &format!("{}: polling by the clock", hub_v4(n)),
            shell(hub, &line),
        )?;
        Ok(Self { interface })
    }

    /// From now on the generator's core takes answers off the wire, some time after they
    /// came. What a reply costs the server's core is then what it costs to put it where a
    /// network card will find it.
    pub fn take_by_generator(&self, hub: &Namespace) -> Result<(), String> {
        let before = pollers(&self.interface)?;
        // A veth without it is not polled at all.
        must("ethtool", ethtool(hub, &self.interface, ["gro", "on"]))?;
        poll_by_thread(hub, &self.interface)?;
        keep_on_core(&self.interface, GENERATOR_CORE, &before)
    }

    /// From now on the server's core does, at once, with the time at which they came.
    pub fn take_by_server(&self, hub: &Namespace) -> Result<(), String> {
        must("ethtool", ethtool(hub, &self.interface, ["gro", "off"]))
    }
}

fn ethtool(namespace: &Namespace, interface: &str, feature: [&str; 2]) -> Command {
    let mut command = process::command(Some(namespace), "ethtool");
    command.args(["-K", interface]).args(feature);
    command
}

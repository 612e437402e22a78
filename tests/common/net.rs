//! Network namespaces joined by veth pairs, gone with the value that holds them.

use std::fs::File;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::Once;

use nix::sched::{CloneFlags, setns};

use super::serial;

/// A network namespace of its own, with `lo` up.
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes it.
    pub fn new() -> Self {
        sweep();
        let name = format!("ptntp-{}-{}", std::process::id(), serial());
        ip(&["netns", "add", &name]);
        let namespace = Self { name };
        namespace.ip("link set lo up");
        namespace
    }

    /// What `ip netns exec` calls it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `ip -n NAME words`.
    pub fn ip(&self, words: &str) {
        let mut args = vec!["-n", &self.name];
        args.extend(words.split_whitespace());
        ip(&args);
    }

    /// Runs `work` in a thread that lives in this namespace. Sockets it makes stay there.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let path = format!("/run/netns/{}", self.name);
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                let file = File::open(&path).unwrap_or_else(|e| panic!("open {path}: {e}"));
                setns(file, CloneFlags::CLONE_NEWNET)
                    .unwrap_or_else(|e| panic!("setns {path}: {e}"));
                work()
            });
            thread
                .join()
                .unwrap_or_else(|e| std::panic::resume_unwind(e))
        })
    }

    /// A UDP socket of this namespace.
    pub fn udp(&self, local: SocketAddr) -> UdpSocket {
        self.inside(|| UdpSocket::bind(local))
            .unwrap_or_else(|e| panic!("bind {local} in {}: {e}", self.name))
    }

    /// The number of an interface.
    pub fn index(&self, interface: &str) -> u32 {
        self.inside(|| nix::net::if_::if_nametoindex(interface))
            .unwrap_or_else(|e| panic!("no {interface} in {}: {e}", self.name))
    }

    /// Further addresses on an interface, usable at once.
    pub fn add_address(&self, interface: &str, address: &str) {
        let nodad = if address.contains(':') { " nodad" } else { "" };
        self.ip(&format!("addr add {address} dev {interface}{nodad}"));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // A test that failed half-way may leave a process inside; the name goes all the same.
        let _ = Command::new("ip")
            .args(["netns", "del", &self.name])
            .status();
    }
}

/// A hub and the spokes around it, each on a subnet of its own. Interface 'sN'
/// of the hub and 'eth' of spoke N are one veth pair.
pub struct Star {
    /// The namespace that sees all others.
    pub hub: Namespace,
    /// The others, which see the hub alone.
    pub spokes: Vec<Namespace>,
}

impl Star {
    /// With so many spokes.
    pub fn new(spokes: usize) -> Self {
        let hub = Namespace::new();
        let spokes = (0..spokes).map(|n| join(&hub, n)).collect();
        Self { hub, spokes }
    }
}

fn join(hub: &Namespace, n: usize) -> Namespace {
    let spoke = Namespace::new();
    hub.ip(&format!(
        "link add s{n} type veth peer name eth netns {}",
        spoke.name()
    ));
    hub.add_address(&format!("s{n}"), &format!("{}/24", hub_v4(n)));
    hub.add_address(&format!("s{n}"), &format!("{}/64", hub_v6(n)));
    spoke.add_address("eth", &format!("{}/24", spoke_v4(n)));
    spoke.add_address("eth", &format!("{}/64", spoke_v6(n)));
    hub.ip(&format!("link set s{n} up"));
    spoke.ip("link set eth up");
    spoke
}

/// The hub's address on the subnet it shares with spoke `n`.
pub fn hub_v4(n: usize) -> IpAddr {
    host_v4(n, 1)
}

/// Spoke `n`'s address.
pub fn spoke_v4(n: usize) -> IpAddr {
    host_v4(n, 2)
}

/// An address on the subnet of spoke `n` (10.77.n.0/24).
pub fn host_v4(n: usize, host: u8) -> IpAddr {
    IpAddr::from([10, 77, u8::try_from(n).expect("few spokes"), host])
}

/// As [`hub_v4`].
pub fn hub_v6(n: usize) -> IpAddr {
    host_v6(n, 1)
}

/// As [`spoke_v4`].
pub fn spoke_v6(n: usize) -> IpAddr {
    host_v6(n, 2)
}

/// An address on the subnet of spoke `n` (fd77:n::/64).
pub fn host_v6(n: usize, host: u16) -> IpAddr {
    let n = u16::try_from(n).expect("few spokes");
    IpAddr::from([0xfd77, n, 0, 0, 0, 0, 0, host])
}

fn ip(args: &[&str]) {
    let output = Command::new("ip").args(args).output().expect("run ip");
    assert!(
        output.status.success(),
        "ip {}: {}",
        args.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Deletes what test processes that were killed have left.
fn sweep() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let entries = std::fs::read_dir("/run/netns").into_iter().flatten();
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let Some((pid, _)) = name
                .strip_prefix("ptntp-")
                .and_then(|rest| rest.split_once('-'))
            else {
                continue;
            };
            if pid.parse::<u32>().is_ok() && !std::path::Path::new("/proc").join(pid).exists() {
                let _ = Command::new("ip").args(["netns", "del", name]).status();
            }
        }
    });
}

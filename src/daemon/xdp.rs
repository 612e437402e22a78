//! The tier in front of the sockets (`docs/XDP.md`): what `linux/xdp` loads and `xdp/`
//! has it know, joined.
//!
//! The program is loaded before capabilities are given up ([`Tier::load`]); to attach what
//! is loaded takes none (Linux 5.19), so links may come at any time ([`Tier::follow`], in the
//! service thread). The time loop publishes ([`Tier::publish`]) at each change and each
//! second; access tables are filled in a thread of their own ([`filler`]), and the time loop
//! has them in force with its next word. Whatever can't be had is one sentence, and the
//! sockets answer as if there were no such tier.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use log::{Level, debug, info, log, warn};

use crate::config::xdp::{Mode, XdpConfig};
use crate::config::{Config, Listen};
use crate::daemon::options::Reload;
use crate::daemon::snapshot::Snapshot;
use crate::daemon::status::{Collect, ServerCounts, XdpStatus};
use crate::daemon::xdp::filler::Filler;
use crate::daemon::xdp::plan::{Ability, Planned, odd_sources, own, plan};
use crate::daemon::xdp::program::{Answerer, Clients, OwnMap, Publisher, Sizes};
use crate::linux::caps::{self, Capability};
use crate::linux::clock;
use crate::linux::ethtool::Ethtool;
use crate::linux::netdev;
use crate::linux::netlink::{self, Interface};
use crate::linux::timex::{self, Timex};
use crate::linux::xdp::map::Counts;
use crate::linux::xdp::{self, Link, Program};
use crate::server::access::AccessTable;
use crate::server::recent::RecentClient;
use crate::server::respond::Policy;
use crate::server::rule::with_built_in;
use crate::server::verdict::Verdict;
use crate::time::duration::NtpDuration;
use crate::time::instant::WallInstant;
use crate::xdp::layout::{Own, PASSED, Row};
use crate::xdp::state::{Clocks, Entry, Envelope, LeapSecond};
use crate::xdp::tables::Rows;

pub mod filler;
pub mod plan;
pub mod program;

/// Addresses, each with its interfaces and VLANs, that the program can know.
const OWN_MAX: u32 = 16_384;
const NO_RIGHT: &str = "no right to load its program: start as root, or with CAP_BPF, CAP_PERFMON \
                        and CAP_NET_ADMIN, as ptntp.service does";
/// The oldest kernel that the program is known to run on: Debian 12's.
const KERNEL_MIN: (u32, u32) = (6, 1);

/// The program with all it knows, and where it is attached.
#[derive(Debug)]
pub struct Tier {
    config: XdpConfig,
    listen: Listen,
    /// Where the sockets answer; zero as long as they don't.
    port: AtomicU16,
    program: Program,
    program_id: u32,
    publisher: Publisher,
    /// Nothing can be published, and the operator knows why.
    is_mute: AtomicBool,
    counts: Counts,
    clients: Clients,
    /// What these were last judged by.
    by_bucket: AtomicBool,
    timex: Timex,
    envelope: Envelope,
    filler: Filler,
    /// Programs that others had attached at the start, by the kernel's numbers of them: later
    /// on we may not ask for a name.
    strangers: BTreeMap<u32, String>,
    attached: Mutex<Attached>,
}

#[derive(Debug)]
struct Attached {
    own: OwnMap,
    /// What it holds.
    addresses: BTreeMap<Own, [u8; 6]>,
    /// By index of the interface.
    links: BTreeMap<u32, Held>,
    status: Vec<XdpStatus>,
    /// What has been said and still holds.
    said: BTreeSet<(Level, String)>,
    ended: bool,
}

#[derive(Debug)]
struct Held {
    /// Detaches when dropped.
    _link: Link,
    name: String,
    mode: Mode,
}

impl Tier {
    /// Loads the program with the rules of `config`. To be called with all privileges that
    /// there are; nothing is answered before [`open`](Self::open), [`follow`](Self::follow) and
    /// [`publish`](Self::publish).
    ///
    /// # Errors
    /// A sentence: why there is no such tier, and what to do.
    pub fn load(config: &Config, rules: &Arc<Policy>) -> Result<Self, String> {
        let problem = |why: String| format!("xdp: {why}; the sockets answer");
        check_kernel().map_err(problem)?;
        let interfaces = netlink::interfaces().unwrap_or_default();
        let odd = odd_sources(&interfaces);
        let rows = Rows::new(&rules.access, &odd);
        let sizes = Sizes {
            rows: rows.room(config.xdp.room()),
            own: OWN_MAX,
            clients: u32::try_from(config.clients.limited).unwrap_or(u32::MAX),
        };
        let why = |error: io::Error| problem(why_not_loaded(&error, &rows, sizes));
        let answerer = Answerer::load(sizes).map_err(why)?;
        let program_id = answerer.program.id();
        let program_id = program_id.map_err(|error| problem(error.to_string()))?;
        Ok(Self {
            config: config.xdp.clone(),
            listen: config.listen.clone(),
            port: AtomicU16::new(0),
            program: answerer.program,
            program_id,
            publisher: answerer.publisher,
            is_mute: AtomicBool::new(false),
            counts: answerer.counts,
            clients: answerer.clients,
            by_bucket: AtomicBool::new(rules.rate_limit.is_bucket()),
            timex: Timex::new(),
            envelope: envelope(config.leaving.dscp),
            filler: Filler::new(answerer.tables, rows, Arc::clone(rules), odd),
            strangers: strangers(&config.xdp, &interfaces),
            attached: Mutex::new(Attached {
                own: answerer.own,
                addresses: BTreeMap::new(),
                links: BTreeMap::new(),
                status: Vec::new(),
                said: BTreeSet::new(),
                ended: false,
            }),
        })
    }

    /// The sockets answer on this port: so will the program. To be called once capabilities
    /// are given up, since a thread begins here.
    ///
    /// # Errors
    /// What starting a thread says.
    pub fn open(&self, port: u16) -> io::Result<()> {
        self.port.store(port, Ordering::Relaxed);
        self.filler.start()
    }

    /// Answer with this from now on, for a few seconds: to be called at each change, and
    /// each second. Never waits.
    pub fn publish(&self, snapshot: &Snapshot) {
        let in_force = self.filler.ready();
        // Without a table the operator was told.
        let words = in_force.first_row.and_then(|table| {
            let words = self.clocks(snapshot).and_then(|clocks| {
                let entry = Entry {
                    state: snapshot.state,
                    clocks,
                    limit: in_force.limit,
                    envelope: self.envelope,
                    table,
                };
                entry.words()
            });
            let told = self.is_mute.swap(words.is_err(), Ordering::Relaxed);
            if let (Err(why), false) = (&words, told) {
                warn!("xdp: {why}; the sockets answer");
            }
            words.ok()
        });
        match words {
            Some(words) => self.publisher.publish(&words),
            None => self.publisher.withdraw(),
        }
        // What the one has counted means nothing to the other.
        let by_bucket = in_force.limit.is_bucket();
        if self.by_bucket.swap(by_bucket, Ordering::Relaxed) != by_bucket {
            self.clients.clear();
        }
        self.filler.taken(in_force.number);
    }

    fn clocks(&self, snapshot: &Snapshot) -> Result<Clocks, String> {
        // One call for all that a leap second changes at once.
        let kernel = self.timex.read();
        let kernel = kernel.map_err(|error| format!("the kernel's clock: {error}"))?;
        let pending = match kernel.leap {
            timex::LeapSecond::None => None,
            _ if kernel.leap_done => None,
            timex::LeapSecond::Insert => Some(true),
            timex::LeapSecond::Delete => Some(false),
        };
        Ok(Clocks {
            real: kernel.time,
            tai_offset_s: kernel.tai_offset,
            mono: clock::monotonic(),
            map: snapshot.clock,
            leap: pending.map(|inserted| leap_after(kernel.time, inserted)),
        })
    }

    /// Judge by these rules, once the tables are filled: a moment, or, soon after another
    /// change, a second or two.
    pub fn set_policy(&self, policy: &Arc<Policy>) {
        self.filler.set_policy(Arc::clone(policy));
    }

    /// Are there new tables for [`publish`](Self::publish) to have in force?
    pub fn has_news(&self) -> bool {
        self.filler.has_news()
    }

    /// Calls `wake`, on another thread, when there are.
    pub fn wake_by(&self, wake: Box<dyn Fn() + Send + Sync>) {
        self.filler.wake_by(wake);
    }

    /// `reload`, which now also refuses rules that there is no room for.
    pub fn guard(self: &Arc<Self>, reload: Reload) -> Reload {
        let tier = Arc::clone(self);
        Reload(Arc::new(move || {
            let (config, remarks) = (reload.0)()?;
            let access = AccessTable::compile(&with_built_in(&config.rules), &[]);
            let refusal = |too_many| format!("{too_many}");
            tier.filler.check(&access).map_err(refusal)?;
            Ok((config, remarks))
        }))
    }

    /// Interfaces or addresses may have changed, and are like this now; or it is time to
    /// see whether what was refused can be had. Some drivers take a second to attach.
    pub fn follow(&self, interfaces: &[Interface]) {
        let mut attached = self.attached();
        if attached.ended {
            return;
        }
        let ethtool = Ethtool::new().ok();
        let ability = |one: &Interface| Ability {
            native: netdev::features(one.index)
                .ok()
                .flatten()
                .map(netdev::Features::native),
            offloads: ethtool
                .as_ref()
                .and_then(|ethtool| ethtool.offloads(&one.name).ok().flatten()),
        };
        let plan = plan(&self.config.lines, interfaces, ability);
        // What is no longer ours is not answered before a link is left to others.
        self.follow_addresses(&mut attached, interfaces, &plan.wanted);
        let Attached { links, .. } = &mut *attached;
        let wanted = |index: &u32| plan.wanted.iter().find(|one| one.interface.index == *index);
        links.retain(|index, held| {
            let stays =
                wanted(index).is_some_and(|one| one.mode == held.mode) && self.is_attached(*index);
            if !stays {
                info!("xdp {}: no longer answered there", held.name);
            }
            stays
        });
        let mut status: Vec<XdpStatus> = Vec::new();
        let mut said = BTreeSet::new();
        for one in &plan.wanted {
            let Interface { index, name, .. } = one.interface;
            let problem = match links.get_mut(index) {
                Some(held) => {
                    held.name.clone_from(name);
                    None
                }
                None => match self.program.attach(*index, in_kernel(one.mode)) {
                    Ok(link) => {
                        info!(
                            "xdp {name}: plain requests are answered there ({})",
                            one.mode.word()
                        );
                        let held = Held {
                            _link: link,
                            name: name.clone(),
                            mode: one.mode,
                        };
                        links.insert(*index, held);
                        None
                    }
                    // Gone again.
                    Err(error) if error.raw_os_error() == Some(libc::ENODEV) => continue,
                    Err(error) => Some(self.why_not_attached(one, &error)),
                },
            };
            if let Some(why) = &problem {
                let level = if one.named { Level::Warn } else { Level::Info };
                said.insert((level, format!("xdp {name}: {why}; the sockets answer")));
            }
            status.push(XdpStatus {
                interface: name.clone(),
                mode: problem.is_none().then(|| one.mode.word().to_owned()),
                problem,
            });
        }
        for (interface, why) in plan.remarks {
            let sentence = format!("xdp {interface}: {why}; the sockets answer");
            said.insert((Level::Warn, sentence));
            status.push(XdpStatus {
                interface,
                mode: None,
                problem: Some(why),
            });
        }
        for (level, sentence) in said.difference(&attached.said) {
            log!(*level, "{sentence}");
        }
        attached.said = said;
        attached.status = status;
    }

    fn follow_addresses(
        &self,
        attached: &mut Attached,
        interfaces: &[Interface],
        wanted: &[Planned<'_>],
    ) {
        self.filler.set_odd(odd_sources(interfaces));
        let now = match self.port.load(Ordering::Relaxed) {
            0 => BTreeMap::new(),
            port => own(interfaces, wanted, &self.listen, port),
        };
        let Attached { own, addresses, .. } = attached;
        addresses.retain(|one, _| {
            let stays = now.contains_key(one);
            if !stays && let Err(error) = own.remove(one) {
                let ip = one.address;
                warn!("xdp: {ip} can't be taken out of what is answered: {error}");
            }
            stays
        });
        for (one, mac) in now {
            if addresses.get(&one) == Some(&mac) {
                continue;
            }
            match own.insert(&one, mac) {
                Ok(()) => {
                    addresses.insert(one, mac);
                }
                // Too many.
                Err(error) => debug!("xdp: {}: {error}; the sockets answer", one.address),
            }
        }
    }

    /// A link outlives its place if an operator takes that away (`bpftool link detach`).
    fn is_attached(&self, interface: u32) -> bool {
        // Who can't be asked has changed nothing.
        xdp::attached(interface).map_or(true, |found| {
            found.is_some_and(|one| one.id == self.program_id)
        })
    }

    /// The end: nothing is answered any more.
    pub fn end(&self) {
        self.publisher.withdraw();
        let mut attached = self.attached();
        attached.ended = true;
        attached.links.clear();
    }

    fn why_not_attached(&self, one: &Planned<'_>, error: &io::Error) -> String {
        let busy = matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EEXIST));
        if !busy {
            return why_refused(one, error);
        }
        match xdp::attached(one.interface.index) {
            Ok(Some(mut other)) => {
                let known = self.strangers.get(&other.id).cloned();
                other.name = other.name.or(known);
                why_taken(&other)
            }
            _ => "an interface above or below it has a program already, which is left alone: \
                  stop its owner, or delete the line"
                .to_owned(),
        }
    }

    fn attached(&self) -> MutexGuard<'_, Attached> {
        self.attached.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Both tiers as one, for those who ask what became of requests.
#[derive(Debug)]
pub struct Both<C: ?Sized> {
    /// The program.
    pub tier: Arc<Tier>,
    /// The sockets.
    pub sockets: Arc<C>,
}

impl<C: Collect + ?Sized> Collect for Both<C> {
    fn collect(&self) -> ServerCounts {
        let mut counts = self.sockets.collect();
        // None is expected to fail.
        let sums = self.tier.counts.sums().unwrap_or_default();
        for (name, sum) in Verdict::NAMES.into_iter().zip(&sums) {
            match counts.requests.iter_mut().find(|(other, _)| *other == name) {
                Some((_, count)) => *count += sum,
                None => counts.requests.push((name, *sum)),
            }
        }
        let (verdicts, passed) = sums.split_at(Verdict::COUNT.min(sums.len()));
        counts.xdp = Verdict::NAMES
            .into_iter()
            .zip(verdicts.iter().copied())
            .collect();
        counts.xdp_passed = PASSED.into_iter().zip(passed.iter().copied()).collect();
        counts
    }

    fn recent_clients(&self) -> Option<Vec<RecentClient>> {
        self.sockets.recent_clients()
    }

    fn xdp(&self) -> Vec<XdpStatus> {
        self.tier.attached().status.clone()
    }
}

const fn in_kernel(mode: Mode) -> xdp::Mode {
    match mode {
        Mode::Native => xdp::Mode::Native,
        Mode::Generic => xdp::Mode::Generic,
    }
}

/// The end of the UTC day that `now` is in, as the kernel has it.
fn leap_after(now: WallInstant, inserted: bool) -> LeapSecond {
    const DAY_NS: i64 = 86_400_000_000_000;
    let midnight_ns = (now.unix_ns().div_euclid(DAY_NS) + 1) * DAY_NS;
    let midnight = WallInstant::from_unix_ns(midnight_ns);
    let at = if inserted {
        midnight
    } else {
        midnight - NtpDuration::from_whole_seconds(1)
    };
    LeapSecond { at, inserted }
}

/// What the host's own packets are like, and those of `dscp`.
fn envelope(dscp: u8) -> Envelope {
    let read = |name: &str| -> Option<u8> {
        let text = std::fs::read_to_string(format!("/proc/sys/net/{name}")).ok()?;
        text.trim().parse().ok()
    };
    let default = Envelope::default();
    Envelope {
        ttl: read("ipv4/ip_default_ttl").unwrap_or(default.ttl),
        hop_limit: read("ipv6/conf/default/hop_limit").unwrap_or(default.hop_limit),
        tos: dscp << 2,
    }
}

fn check_kernel() -> Result<(), String> {
    let release = nix::sys::utsname::uname().map_err(|error| format!("uname: {error}"))?;
    is_new_enough(&release.release().to_string_lossy())
}

fn is_new_enough(release: &str) -> Result<(), String> {
    let mut numbers = release.split(['.', '-', '+']).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) < KERNEL_MIN => Err(format!(
            "this is Linux {release}, and the program needs {}.{} or newer",
            KERNEL_MIN.0, KERNEL_MIN.1
        )),
        // Whatever else it is, loading will tell.
        _ => Ok(()),
    }
}

fn why_not_loaded(error: &io::Error, rows: &Rows, sizes: Sizes) -> String {
    // Without the right to compute with pointers, the verifier refuses that.
    let refused = error.kind() == io::ErrorKind::PermissionDenied;
    match error.raw_os_error() {
        Some(libc::EPERM) => NO_RIGHT.to_owned(),
        None if refused && !caps::has(Capability::Perfmon) => NO_RIGHT.to_owned(),
        Some(libc::ENOMEM | libc::E2BIG | libc::EINVAL) => too_large(error, rows.count(), sizes),
        Some(libc::ENOSYS) => "this kernel has no bpf(2), or a sandbox forbids it".to_owned(),
        _ => format!("the program can't be loaded: {error}"),
    }
}

/// Which of the tables there is no memory for, and what makes it smaller.
fn too_large(error: &io::Error, rows: u32, sizes: Sizes) -> String {
    let mib = |octets: u64| octets.div_ceil(1 << 20);
    let clients = mib(u64::from(sizes.clients) * 8);
    let tables = mib(u64::from(sizes.rows) * 2 * size_of::<Row>() as u64);
    if clients > tables {
        let count = sizes.clients;
        return format!(
            "no memory for the {count} clients of rate limits, which take {clients} MiB ({error}): \
             let `clients limited` remember fewer"
        );
    }
    let what = if sizes.rows > rows.saturating_mul(2) {
        format!(
            "`prefixes {}` asks for more than there is: write less",
            sizes.rows
        )
    } else {
        format!(
            "the access rules take {rows} rows of 1 KiB, and four times as much to be changed \
             while it answers: restrict networks in place of single hosts, of which one of IPv6 \
             may take a dozen rows"
        )
    };
    format!("no memory for its access tables, {tables} MiB ({error}): {what}")
}

/// Who has what programs, on the interfaces that the lines mean now.
fn strangers(config: &XdpConfig, interfaces: &[Interface]) -> BTreeMap<u32, String> {
    let plan = plan(&config.lines, interfaces, |_| Ability::default());
    let programs = plan.wanted.iter().filter_map(|one| {
        let program = xdp::attached(one.interface.index).ok().flatten()?;
        Some((program.id, program.name?))
    });
    programs.collect()
}

/// Somebody else was there before.
fn why_taken(other: &xdp::Attached) -> String {
    let dispatcher = other.name.as_deref() == Some("xdp_dispatcher");
    let whose = if dispatcher {
        "libxdp's dispatcher, which runs the programs of others: unload those with xdp-loader"
            .to_owned()
    } else {
        format!(
            "somebody else's (`bpftool prog show id {}` tells more) and is left alone: stop its owner",
            other.id
        )
    };
    format!("it has {other} already, which is {whose}, or delete the line")
}

fn why_refused(one: &Planned<'_>, error: &io::Error) -> String {
    let Interface { name, mtu, .. } = one.interface;
    let generic = "`mode generic` works with every driver, and wins less";
    match (error.raw_os_error(), one.mode) {
        // 524 is the kernel's own ENOTSUPP, which some drivers let out.
        (Some(libc::EOPNOTSUPP | 524), Mode::Native) => {
            format!("its driver runs no XDP programs, or not as the card is set up; {generic}")
        }
        (Some(libc::EINVAL | libc::ERANGE), Mode::Native) => format!(
            "its driver refuses the program ({error}), as many do with a large MTU (it is {mtu}), \
             large receive offload (`ethtool -K {name} lro off`) or all queues in use (`ethtool -L \
             {name} combined N`); the kernel's log may say why; {generic}"
        ),
        (Some(libc::ENOMEM | libc::ENOSPC), Mode::Native) => format!(
            "its driver has no queues or memory left for XDP ({error}): `ethtool -L {name} \
             combined N` with fewer queues may help; {generic}"
        ),
        (Some(libc::EPERM), _) => {
            "no right to attach a program; a sandbox or the kernel's lockdown forbids it".to_owned()
        }
        _ => format!("the program can't be attached: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_told_apart() {
        for good in ["6.1.0-18-amd64", "6.1", "6.18.44+", "10.0.1", "strange"] {
            assert_eq!(is_new_enough(good), Ok(()), "{good}");
        }
        for old in ["6.0.19", "5.15.0-91-generic", "4.19"] {
            let why = is_new_enough(old).expect_err(old);
            assert!(why.contains("needs 6.1"), "{why}");
        }
    }

    #[test]
    fn what_is_in_the_way_is_told_with_what_to_do() {
        let interface = Interface {
            index: 2,
            name: "eth0".into(),
            up: true,
            running: true,
            loopback: false,
            kind: None,
            master: None,
            idle: false,
            below: None,
            vlan: None,
            mtu: 9000,
            mac: None,
            addresses: Vec::new(),
        };
        let why = |mode, errno| {
            let one = Planned {
                interface: &interface,
                mode,
                named: true,
            };
            why_refused(&one, &io::Error::from_raw_os_error(errno))
        };
        for (errno, words) in [
            (libc::EOPNOTSUPP, "mode generic"),
            (524, "mode generic"),
            (libc::EINVAL, "it is 9000"),
            (libc::ENOMEM, "ethtool -L eth0"),
            (libc::EPERM, "lockdown"),
        ] {
            let why = why(Mode::Native, errno);
            assert!(why.contains(words), "{errno}: {why}");
        }
        assert!(!why(Mode::Generic, libc::EINVAL).contains("mode generic"));
        let mut other = xdp::Attached {
            id: 7,
            name: Some("xdp_dispatcher".into()),
            mode: "native",
        };
        assert!(why_taken(&other).contains("xdp-loader"));
        other.name = None;
        assert!(why_taken(&other).contains("bpftool prog show id 7"));
    }

    #[test]
    fn of_tables_that_are_too_large_it_is_told_which_and_what_to_do() {
        let why = |errno, rows, [room, clients]: [u32; 2]| {
            let sizes = Sizes {
                rows: room,
                own: OWN_MAX,
                clients,
            };
            too_large(&io::Error::from_raw_os_error(errno), rows, sizes)
        };
        let asked = why(libc::ENOMEM, 10, [4_000_000, 8]);
        assert!(asked.contains("7813 MiB"), "{asked}");
        assert!(asked.contains("`prefixes 4000000` asks"), "{asked}");
        let rules = why(libc::E2BIG, 12_000_000, [24_000_000, 8]);
        assert!(rules.contains("take 12000000 rows"), "{rules}");
        assert!(rules.contains("restrict networks"), "{rules}");
        let clients = why(libc::ENOMEM, 10, [4096, 1 << 30]);
        assert!(clients.contains("8192 MiB") && clients.contains("`clients limited`"));
    }

    #[test]
    fn a_leap_is_at_the_end_of_the_day() {
        let noon = WallInstant::from_unix_ns(1_483_185_600_000_000_000);
        let leap = leap_after(noon, true);
        assert_eq!(leap.at.unix_ns(), 1_483_228_800_000_000_000);
        let leap = leap_after(leap.at - NtpDuration::from_nanos(1), false);
        assert_eq!(leap.at.unix_ns(), 1_483_228_799_000_000_000);
    }
}

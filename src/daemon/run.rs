//! From options to a running daemon: what has to be opened, in what order, and
//! what to say and do where something can't be had.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use log::{debug, info, warn};

use crate::config::{Config, Listen};
use crate::daemon::cards::Keeper;
use crate::daemon::clock::Clock;
use crate::daemon::cmdmon::Post;
use crate::daemon::control::Listener;
use crate::daemon::desk::{Desk, bind_metrics};
use crate::daemon::drift;
use crate::daemon::errands::{End, Errands, Identity, policy, spec};
use crate::daemon::follower::Follower;
use crate::daemon::logging;
use crate::daemon::metrics::Exporter;
use crate::daemon::notify::Notifier;
use crate::daemon::options::{ClockChoice, IoChoice, Options};
use crate::daemon::paths::control_default;
use crate::daemon::phc;
use crate::daemon::pid_file::PidFile;
use crate::daemon::refclock::Refclocks;
use crate::daemon::rtc;
use crate::daemon::service::Setup as ServiceSetup;
use crate::daemon::single;
use crate::daemon::snapshot::SnapshotCell;
use crate::daemon::statistics::Needs;
use crate::daemon::statistics::files::Scribe;
use crate::daemon::status::{Collect, IoBackend, Reloads, ServerCounts};
use crate::daemon::threads;
use crate::daemon::time_loop::TimeLoop;
use crate::daemon::worker::{Setup as WorkerSetup, Workers};
use crate::daemon::xdp::{Both, Tier};
use crate::linux::caps::{self, Capabilities, Capability};
use crate::linux::clock;
use crate::linux::netlink;
use crate::linux::reuseport::{self, ListenError};
use crate::linux::ring;
use crate::linux::signal::Signals;
use crate::linux::udp::{Leaving, ServerSocket};
use crate::linux::wait::Waiter;
use crate::mechanisms::Mechanisms;
use crate::node::action::SourceId;
use crate::node::engine::{Node, NodeConfig};
use crate::server::over_ptp::PtpService;
use crate::server::respond::{Policy, Responder, Sizes};
use crate::sync::command::ClockCommand;
use crate::sync::filter::Start;

/// The port of RFC 5905, for those who may have it.
const PORT: u16 = 123;
/// The port for those who may not.
const PORT_UNPRIVILEGED: u16 = 1123;

/// Runs a daemon until it is told to stop or must, and says why it ended.
///
/// # Errors
/// A sentence for the operator: what could not be had at the start, and what to do.
pub fn run(options: Options) -> Result<End, String> {
    logging::start(options.log_level);
    for (level, remark) in &options.remarks {
        log::log!(*level, "{remark}");
    }
    let started = clock::monotonic();
    let mut without = Without::default();
    let io = choose_io(options.io, &mut without)?;
    // Before anything can go wrong in a way that takes a signal to end.
    let signals = Signals::install(io == IoBackend::Uring)
        .map_err(|error| format!("signals can't be caught: {error}"))?;
    let config = &options.config;
    let rules = Arc::new(policy(config, &[]));
    // Takes rights that are not kept.
    let xdp = load_xdp(&options, &rules, &mut without);
    shed_privileges(config);

    if options.once && config.sources.is_empty() {
        return Err(
            "--once is to set the clock, and no source is named to set it by: name one with \
             --server NAME, or a configuration file with -c FILE"
                .to_owned(),
        );
    }
    let mut clock = open_clock(&options, &mut without)?;
    if options.from_rtc {
        set_from_rtc(&mut clock, config);
    }
    let frequency = read_drift(config, &mut without);
    let _pid_file = write_pid(&options, &mut without);
    let kind = clock.kind();
    let mut node = Node::new(node_config(&options, &clock, frequency)?, clock.now());
    node.set_manual(config.manual);
    let mut core = TimeLoop::new(node, clock);
    // Nobody is served before the rules stand.
    core.set_policy(Arc::clone(&rules));
    core.set_needs(Needs::of(&config.statistics));
    let leaving = &config.leaving;
    core.set_leaving(
        Leaving {
            device: leaving.device.clone(),
            v4: leaving.v4,
            v6: leaving.v6,
        },
        leaving.dscp,
    );
    check_phcs(config)?;
    let clocks = (0..).zip(&config.sources).filter_map(|(index, source)| {
        Some((SourceId(index), source.name.clone(), source.options.clock?))
    });
    let followers = config.disciplined.iter().cloned().map(Follower::new);
    core.set_phcs(Refclocks::new(clocks), followers.collect());
    info!(
        "ptntp {} starts: clock {}, io {}, {} sources",
        env!("CARGO_PKG_VERSION"),
        kind.name(),
        io.name(),
        config.sources.len()
    );
    let notifier = Notifier::from_environment().unwrap_or_else(|error| {
        warn!("systemd is not told anything: {error}");
        Notifier::silent()
    });
    let snapshot = core.snapshot();
    let keeper = keep_rtc(&options, &core, &mut without);
    let identity = |serving, server, without: Without| Identity {
        clock: kind,
        io,
        started,
        degraded: without.0,
        serving,
        server: match &xdp {
            Some(tier) => Arc::new(Both {
                tier: Arc::clone(tier),
                sockets: server,
            }),
            None => server,
        },
        reloads: Reloads::default(),
    };
    let reload = match (&xdp, &options.reload) {
        (Some(tier), Some(reload)) => Some(tier.guard(reload.clone())),
        (_, reload) => reload.clone(),
    };
    let end = match io {
        IoBackend::Uring => {
            let cell = SnapshotCell::new(snapshot)
                .map_err(|error| format!("no memory to share with the workers: {error}"))?;
            if !cell.is_guarded() {
                warn!("no memfd_create here: workers see our time in memory they could write to");
            }
            let cell = Arc::new(cell);
            let workers =
                start_workers(config, options.once, &cell, &rules, &mut without)?.map(Arc::new);
            let (serving, server): (_, Arc<dyn Collect>) = match &workers {
                Some(workers) => (workers.addresses().to_vec(), Arc::clone(workers) as _),
                None => (Vec::new(), Arc::new(ServerCounts::default())),
            };
            serve_peers(&mut core, &options, &serving)?;
            let desks = open_desks(config, options.once);
            let posts = open_posts(config, options.once, &mut without);
            announce(&serving, config.ptp_port);
            open_xdp(xdp.as_deref(), &serving, config, &core)?;
            threads::run(threads::Parts {
                core,
                errands: Errands::new(
                    config.clone(),
                    reload,
                    identity(serving, server, without),
                    notifier,
                    keeper,
                    xdp.clone(),
                ),
                service: ServiceSetup {
                    control: desks.control?,
                    metrics: desks.metrics?,
                    posts,
                    heard: config.commands.allowed.clone(),
                    drift_file: config.drift_file.clone(),
                    statistics: config.statistics.clone(),
                    entries: None,
                    started,
                    cards: config.stamping.cards.clone(),
                    workers: workers.clone(),
                    xdp: xdp.clone(),
                    secret: random()?,
                },
                workers,
                snapshot: cell,
                waiter: Waiter::uring().map_err(|error| format!("io_uring: {error}"))?,
                signals,
            })
        }
        IoBackend::Poll => {
            if config.busy_poll {
                log::warn!("busy polling needs io_uring: this one thread sleeps when nobody asks");
            }
            let counters = Arc::new(single::Counted::new(random_u64()?, config.recent_clients()));
            let sockets = bind_single(config, options.once, &mut without)?;
            let serving: Vec<_> = sockets.iter().map(ServerSocket::local_addr).collect();
            serve_peers(&mut core, &options, &serving)?;
            let responder = Responder::new(random_u64()?, config.clients);
            let asked = single::Asked::new(random()?);
            let server = single::Server::new(
                sockets,
                over_ptp(config),
                responder,
                snapshot,
                rules,
                Arc::clone(&counters),
                asked,
            );
            let desks = open_desks(config, options.once).for_one_thread(&mut without);
            let posts = open_posts(config, options.once, &mut without);
            announce(&serving, config.ptp_port);
            open_xdp(xdp.as_deref(), &serving, config, &core)?;
            single::run(single::Parts {
                core,
                errands: Errands::new(
                    config.clone(),
                    reload,
                    identity(serving, counters, without),
                    notifier,
                    keeper,
                    xdp.clone(),
                ),
                server,
                desks,
                posts,
                heard: config.commands.allowed.clone(),
                drift_file: config.drift_file.clone(),
                scribe: Scribe::new(&config.statistics, started),
                cards: Keeper::new(&config.stamping.cards),
                xdp: xdp.clone(),
                signals,
            })
        }
    };
    end.map_err(|error| format!("the time loop can't wait: {error}"))
}

/// No hardware clock both leads and follows, by whatever names it goes.
fn check_phcs(config: &Config) -> Result<(), String> {
    let clocks = config.sources.iter().filter(|s| s.options.clock.is_some());
    let lines = clocks
        .map(|source| (format!("refclock PHC {}", source.name), &source.name, false))
        .chain(config.disciplined.iter().map(|phc| {
            let line = format!("phc discipline {}", phc.device);
            (line, &phc.device, true)
        }));
    let mut seen: Vec<(u32, String, bool)> = Vec::new();
    for (line, name, sets) in lines {
        // One that is not there yet is told of when it is tried.
        let Ok(index) = phc::index_of(name) else {
            continue;
        };
        let other = seen
            .iter()
            .find(|(other, _, set)| *other == index && (sets || *set));
        if let Some((_, other, _)) = other {
            return Err(format!(
                "`{other}` and `{line}` are about the same clock, /dev/ptp{index}: a clock is \
                 followed or disciplined, by one line; delete one of them"
            ));
        }
        seen.push((index, line, sets));
    }
    Ok(())
}

/// What could not be had at the start: said once in the log, and to everybody who
/// asks for as long as the daemon lives.
#[derive(Default)]
struct Without(Vec<String>);

impl Without {
    fn say(&mut self, sentence: String) {
        warn!("{sentence}");
        self.0.push(sentence);
    }
}

/// The XDP tier, if the configuration asks for it and it can be had.
fn load_xdp(options: &Options, rules: &Arc<Policy>, without: &mut Without) -> Option<Arc<Tier>> {
    let config = &options.config;
    let nobody = matches!(config.listen, Listen::Nowhere | Listen::Loopback);
    if options.once || nobody || config.xdp.lines.is_empty() {
        return None;
    }
    match Tier::load(config, rules) {
        Ok(tier) => Some(Arc::new(tier)),
        Err(sentence) => {
            without.say(sentence);
            None
        }
    }
}

/// Has it answer where the sockets do, on all interfaces that are there.
fn open_xdp(
    tier: Option<&Tier>,
    serving: &[SocketAddr],
    config: &Config,
    core: &TimeLoop,
) -> Result<(), String> {
    let mut ports = serving.iter().map(SocketAddr::port);
    let port = ports.find(|port| Some(*port) != config.ptp_port);
    if let (Some(tier), Some(port)) = (tier, port) {
        tier.open(port)
            .map_err(|error| format!("no thread for the tables of `xdp`: {error}"))?;
        tier.publish(&core.snapshot());
        match netlink::interfaces() {
            Ok(interfaces) => tier.follow(&interfaces),
            Err(error) => warn!("netlink: interfaces can't be listed: {error}"),
        }
    }
    Ok(())
}

/// `--io poll` looks at nothing of io_uring.
fn choose_io(choice: IoChoice, without: &mut Without) -> Result<IoBackend, String> {
    match choice {
        IoChoice::Poll => Ok(IoBackend::Poll),
        IoChoice::Uring => match ring::supported() {
            Ok(()) => Ok(IoBackend::Uring),
            Err(reason) => Err(format!("--io uring: {reason}; --io poll works without it")),
        },
        IoChoice::Auto => match ring::supported() {
            Ok(()) => Ok(IoBackend::Uring),
            Err(reason) => {
                without.say(format!(
                    "no io_uring here ({reason}); running in one thread with poll"
                ));
                Ok(IoBackend::Poll)
            }
        },
    }
}

/// Keeps what steers clocks and binds low ports, and what sets network cards up if
/// `hwtimestamp` asks for it: a driver that resets its card has to be told again. A file in
/// a directory of another user's (`/var/lib/ntp` and `/var/log/ntpsec` belong to ntpd's on
/// most hosts) takes root's disregard of permissions too.
fn shed_privileges(config: &Config) {
    let mut keep = vec![Capability::SysTime, Capability::NetBindService];
    let drift_file = config.drift_file.as_deref();
    // Debian's /run/chrony is another user's too.
    let commands = config.commands.path.as_deref();
    let commands = commands.filter(|path| path.parent().is_some_and(Path::exists));
    let pid_file = config.pid_file.as_deref();
    let beside = [drift_file, commands, pid_file].into_iter().flatten();
    let logs = config.statistics.written().map(|(_, directory)| directory);
    let mut directories = beside
        .filter_map(Path::parent)
        .chain(logs.map(PathBuf::as_path).filter(|path| path.exists()));
    if directories.any(belongs_to_another) {
        keep.push(Capability::DacOverride);
    }
    if !config.stamping.cards.is_empty() {
        keep.push(Capability::NetAdmin);
    }
    match caps::keep_only(Capabilities::of(&keep)) {
        Ok(kept) => debug!("capabilities kept: {:?}", kept.capabilities),
        Err(error) => warn!("privileges can't be given up: {error}; going on with them"),
    }
}

/// Or to nobody that we could ask.
fn belongs_to_another(directory: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(directory).map_or(true, |metadata| {
        metadata.uid() != nix::unistd::Uid::effective().as_raw()
    })
}

fn open_clock(options: &Options, without: &mut Without) -> Result<Clock, String> {
    let clock = match options.clock {
        ClockChoice::None => Clock::Observed,
        ClockChoice::Virtual { error, frequency } => Clock::virtual_from(error, frequency),
        ClockChoice::System => match Clock::system(options.config.rtc.kernel_sets) {
            Ok(Some(clock)) => clock,
            Ok(None) => {
                without.say(
                    "no right to set the clock (CAP_SYS_TIME): observing and serving it as it is"
                        .to_owned(),
                );
                Clock::Observed
            }
            Err(error) => return Err(format!("the system clock can't be steered: {error}")),
        },
    };
    if options.once && !clock.is_steered() {
        return Err(
            "--once is to set the clock, and the clock is only observed: run as root with --clock \
             system"
                .to_owned(),
        );
    }
    Ok(clock)
}

/// `-s`: before anybody is asked, or served.
fn set_from_rtc(clock: &mut Clock, config: &Config) {
    if !matches!(clock, Clock::System { .. }) {
        warn!("-s: {clock} is not set from the real-time clock: that is for the system clock");
        return;
    }
    let (step, sentence) = rtc::start_step(&config.rtc, config.drift_file.as_deref());
    match step.map(|step| clock.apply(ClockCommand::Step(step))) {
        Err(level) => log::log!(level, "{sentence}"),
        Ok(Ok(_)) => info!("{sentence}"),
        Ok(Err(error)) => warn!("-s: the system clock can't be set: {error}"),
    }
}

/// Only who steers the system clock knows whether the real-time clock is right.
fn keep_rtc(options: &Options, core: &TimeLoop, without: &mut Without) -> Option<rtc::Keeper> {
    let config = &options.config;
    config.rtc.file.as_ref()?;
    let steers = config.discipline && matches!(core.clock(), Clock::System { .. });
    if !steers {
        warn!(
            "rtcfile: the real-time clock is left alone, because the system clock is not steered"
        );
        return None;
    }
    if options.once {
        return None;
    }
    rtc::Keeper::start(&config.rtc, core.snapshot()).unwrap_or_else(|sentence| {
        without.say(format!("{sentence}; the real-time clock is left alone"));
        None
    })
}

/// `pidfile`: for as long as the daemon runs.
fn write_pid(options: &Options, without: &mut Without) -> Option<PidFile> {
    let path = options.config.pid_file.as_deref()?;
    if options.once {
        return None;
    }
    match PidFile::write(path) {
        Ok(file) => Some(file),
        Err(error) => {
            without.say(format!(
                "pidfile {}: can't be written: {error}",
                path.display()
            ));
            None
        }
    }
}

fn read_drift(config: &Config, without: &mut Without) -> Option<Start> {
    let path = config.drift_file.as_deref()?;
    drift::clean(path);
    if let Err(sentence) = drift::check(path) {
        without.say(sentence);
    }
    match drift::read(path) {
        Ok(frequency) => frequency.map(|kept| config.in_drift_file(kept)),
        Err(sentence) => {
            warn!("{sentence}");
            None
        }
    }
}

fn node_config(
    options: &Options,
    clock: &Clock,
    frequency: Option<Start>,
) -> Result<NodeConfig, String> {
    let config = &options.config;
    Ok(NodeConfig {
        sources: config.asked_at_start().iter().map(spec).collect(),
        initial: config.initial.as_ref().map(|initial| initial.threshold),
        local_stratum: config.local_clock.map(|local| local.stratum),
        orphan: config.orphan,
        step: config.step,
        select: config.select,
        mechanisms: Mechanisms::default(),
        steer: config.discipline && clock.is_steered(),
        once: options.once,
        kernel_leaps: config.kernel_leaps,
        frequency,
        frequency_in_force: clock.frequency(),
        monotonic: clock.monotonic(),
        precision: clock::precision(),
        seed: random()?,
    })
}

fn random<const N: usize>() -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| format!("no random numbers: {error}"))?;
    Ok(bytes)
}

fn random_u64() -> Result<u64, String> {
    random().map(u64::from_ne_bytes)
}

/// Where to answer, IPv4 first: on `port`, and over PTP if that is wanted.
fn listen_addresses(config: &Config, port: u16) -> Vec<SocketAddr> {
    let ips: Vec<IpAddr> = match &config.listen {
        Listen::Everywhere => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
        Listen::Loopback => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
        Listen::At(ips) => ips.clone(),
        Listen::Nowhere => Vec::new(),
    };
    let ports = [Some(port), config.ptp_port].into_iter().flatten();
    ports
        .flat_map(|port| ips.iter().map(move |&ip| SocketAddr::new(ip, port)))
        .collect()
}

fn over_ptp(config: &Config) -> Option<PtpService> {
    let domain = config.ptp_domain;
    config.ptp_port.map(|port| PtpService { port, domain })
}

/// Binds with `bind` where the configuration says, or where it may: port 1123
/// without the right to 123, IPv4 alone on a host without IPv6.
fn bind_where_possible<T>(
    config: &Config,
    without: &mut Without,
    mut bind: impl FnMut(&[SocketAddr]) -> io::Result<T>,
) -> Result<T, String> {
    let port = config.port.unwrap_or(PORT);
    let mut addresses = listen_addresses(config, port);
    let mut bound = bind(&addresses);
    let denied = |error: &io::Error| error.kind() == ErrorKind::PermissionDenied;
    if config.port.is_none()
        && matches!(&bound, Err(error) if denied(error) && port_of(error) == Some(PORT))
    {
        without.say(format!(
            "no right to port {PORT} (CAP_NET_BIND_SERVICE): answering on port {PORT_UNPRIVILEGED}"
        ));
        addresses = listen_addresses(config, PORT_UNPRIVILEGED);
        bound = bind(&addresses);
    }
    if let Err(error) = &bound
        && lacks_ipv6(error)
        && addresses.iter().any(SocketAddr::is_ipv4)
    {
        without.say(format!("no IPv6 here ({error}): answering on IPv4 alone"));
        addresses.retain(SocketAddr::is_ipv4);
        bound = bind(&addresses);
    }
    let is_ptp = |error: &io::Error| config.ptp_port.is_some() && port_of(error) == config.ptp_port;
    bound.map_err(|error| match error.kind() {
        ErrorKind::AddrInUse if is_ptp(&error) => format!(
            "{error}; a program that speaks PTP is running (ptp4l, chronyd?): stop it, or delete \
             the `ptpport` line"
        ),
        ErrorKind::PermissionDenied if is_ptp(&error) => {
            format!(
                "{error}; run as root or with CAP_NET_BIND_SERVICE, or delete the `ptpport` line"
            )
        }
        ErrorKind::AddrInUse => format!(
            "{error}; another time server is running (chronyd, ntpd?): stop it, or choose another \
             port with --port"
        ),
        ErrorKind::PermissionDenied => {
            format!("{error}; choose a port above 1023 with --port, or run as root")
        }
        _ => error.to_string(),
    })
}

/// Which port could not be had?
fn port_of(error: &io::Error) -> Option<u16> {
    listen_failure(error).map(|failure| failure.address.port())
}

fn listen_failure(error: &io::Error) -> Option<&ListenError> {
    error.get_ref()?.downcast_ref()
}

/// Is the failure one of IPv6, on a host that has none?
fn lacks_ipv6(error: &io::Error) -> bool {
    listen_failure(error).is_some_and(|ListenError { address, source }| {
        let absent = [libc::EAFNOSUPPORT, libc::EADDRNOTAVAIL, libc::EINVAL];
        address.is_ipv6() && source.raw_os_error().is_some_and(|e| absent.contains(&e))
    })
}

/// A worker for each core that we may use. Nobody is served with `--once`.
fn start_workers(
    config: &Config,
    once: bool,
    snapshot: &Arc<SnapshotCell>,
    rules: &Arc<Policy>,
    without: &mut Without,
) -> Result<Option<Workers>, String> {
    if once || config.listen == Listen::Nowhere {
        return Ok(None);
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let seed = random_u64()?;
    bind_where_possible(config, without, |addresses| {
        let setup = WorkerSetup {
            workers: cores,
            listen: addresses.to_vec(),
            dscp: config.leaving.dscp,
            over_ptp: over_ptp(config),
            pin: cores > 1,
            busy_poll: config.busy_poll,
            seed,
            sizes: config.clients,
            recent: config.recent_clients(),
        };
        Workers::start(&setup, Arc::clone(snapshot), Arc::clone(rules))
    })
    .map(Some)
}

fn bind_single(
    config: &Config,
    once: bool,
    without: &mut Without,
) -> Result<Vec<ServerSocket>, String> {
    if once || config.listen == Listen::Nowhere {
        return Ok(Vec::new());
    }
    bind_where_possible(config, without, |addresses| {
        addresses
            .iter()
            .map(|&address| {
                // Peers and broadcasts share its port, and after a reload there may be some.
                let socket = reuseport::bind_alone(address)?;
                socket.set_dscp(config.leaving.dscp)?;
                Ok(socket)
            })
            .collect()
    })
}

/// How many peers' requests are remembered at a time, should they ask as clients.
const PEER_CLIENTS: usize = 64;

/// What peers get leaves from where we serve; or from where we would, if anybody were
/// served.
fn serve_peers(
    core: &mut TimeLoop,
    options: &Options,
    serving: &[SocketAddr],
) -> Result<(), String> {
    let config = &options.config;
    let mut ours = serving.iter().map(SocketAddr::port);
    let served = ours.find(|&port| Some(port) != config.ptp_port);
    let sizes = Sizes {
        interleaved: PEER_CLIENTS,
        limited: PEER_CLIENTS,
    };
    let responder = match served {
        Some(_) => Some(Responder::new(random_u64()?, sizes)),
        None => None,
    };
    core.serve_peers(served.or(config.port).unwrap_or(PORT), responder);
    if !options.once {
        core.set_broadcasts(&config.broadcasts, config.groups());
    }
    Ok(())
}

fn announce(serving: &[SocketAddr], ptp_port: Option<u16>) {
    for address in serving {
        let over = if Some(address.port()) == ptp_port {
            " over PTP"
        } else {
            ""
        };
        info!("answering on {address}{over}");
    }
}

/// Where people and programs ask; a sentence where that can't be had.
struct Desks {
    control: Result<Option<Listener>, String>,
    metrics: Result<Option<(std::os::fd::OwnedFd, Exporter)>, String>,
}

impl Desks {
    /// With `poll`, what can't be had is done without: a simulator has neither.
    fn for_one_thread(self, without: &mut Without) -> Vec<Desk> {
        let mut desks = Vec::new();
        match self.control {
            Ok(listener) => desks.extend(listener.map(Desk::control)),
            Err(sentence) => without.say(sentence),
        }
        match self.metrics {
            Ok(metrics) => {
                desks.extend(metrics.map(|(fd, exporter)| Desk::metrics(fd, exporter)));
            }
            Err(sentence) => without.say(sentence),
        }
        desks
    }
}

/// What can't be had of them is done without.
fn open_posts(config: &Config, once: bool, without: &mut Without) -> Vec<Post> {
    if once {
        return Vec::new();
    }
    let (posts, problems) = Post::open(&config.commands);
    problems
        .into_iter()
        .for_each(|sentence| without.say(sentence));
    posts
}

fn open_desks(config: &Config, once: bool) -> Desks {
    if once {
        return Desks {
            control: Ok(None),
            metrics: Ok(None),
        };
    }
    let path = config.control.clone().unwrap_or_else(control_default);
    Desks {
        control: Listener::bind(&path).map(Some),
        metrics: config
            .metrics
            .map(|address| {
                let listener = bind_metrics(address)?;
                info!("metrics on http://{address}/metrics");
                Ok((listener, Exporter::new()))
            })
            .transpose(),
    }
}

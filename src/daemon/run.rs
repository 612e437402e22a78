//! From options to a running daemon: what has to be opened, in what order, and
//! what to say and do where something can't be had.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use log::{debug, info, warn};

use crate::config::{Config, Listen};
use crate::daemon::clock::Clock;
use crate::daemon::control::Listener;
use crate::daemon::desk::{Desk, bind_metrics};
use crate::daemon::drift;
use crate::daemon::errands::{End, Errands, Identity, policy, spec};
use crate::daemon::logging;
use crate::daemon::metrics::Exporter;
use crate::daemon::notify::Notifier;
use crate::daemon::options::{ClockChoice, IoChoice, Options};
use crate::daemon::paths::control_default;
use crate::daemon::service::Setup as ServiceSetup;
use crate::daemon::single;
use crate::daemon::snapshot::SnapshotCell;
use crate::daemon::status::{Collect, IoBackend, Reloads, ServerCounts};
use crate::daemon::threads;
use crate::daemon::time_loop::TimeLoop;
use crate::daemon::worker::{Setup as WorkerSetup, Workers};
use crate::linux::caps::{self, Capabilities, Capability};
use crate::linux::clock;
use crate::linux::reuseport::{ListenError, listen_error};
use crate::linux::ring;
use crate::linux::signal::Signals;
use crate::linux::udp::ServerSocket;
use crate::linux::wait::Waiter;
use crate::mechanisms::Mechanisms;
use crate::node::engine::{Node, NodeConfig};
use crate::server::respond::{Policy, Responder};
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
    shed_privileges(&options.config);

    let config = &options.config;
    if options.once && config.sources.is_empty() {
        return Err(
            "--once is to set the clock, and no source is named to set it by: name one with \
             --server NAME, or a configuration file with -c FILE"
                .to_owned(),
        );
    }
    let clock = open_clock(options.clock, options.once, &mut without)?;
    let frequency = read_drift(config, &mut without);
    let kind = clock.kind();
    let node = Node::new(node_config(&options, &clock, frequency)?, clock.now());
    let mut core = TimeLoop::new(node, clock);
    // Nobody is served before the rules stand.
    let rules = Arc::new(policy(config, &[]));
    core.set_policy(Arc::clone(&rules));
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
    let identity = |serving, server, without: Without| Identity {
        clock: kind,
        io,
        started,
        degraded: without.0,
        serving,
        server,
        reloads: Reloads::default(),
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
            let desks = open_desks(config, options.once);
            announce(&serving);
            threads::run(threads::Parts {
                core,
                errands: Errands::new(
                    config.clone(),
                    options.reload.clone(),
                    identity(serving, server, without),
                    notifier,
                ),
                service: ServiceSetup {
                    control: desks.control?,
                    metrics: desks.metrics?,
                    drift_file: config.drift_file.clone(),
                    workers: workers.clone(),
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
            let counters = Arc::new(single::Counted::default());
            let sockets = bind_single(config, options.once, &mut without)?;
            let serving: Vec<_> = sockets.iter().map(ServerSocket::local_addr).collect();
            let responder = Responder::new(random_u64()?, config.clients);
            let server =
                single::Server::new(sockets, responder, snapshot, rules, Arc::clone(&counters));
            let desks = open_desks(config, options.once).for_one_thread(&mut without);
            announce(&serving);
            single::run(single::Parts {
                core,
                errands: Errands::new(
                    config.clone(),
                    options.reload.clone(),
                    identity(serving, counters, without),
                    notifier,
                ),
                server,
                desks,
                drift_file: config.drift_file.clone(),
                signals,
            })
        }
    };
    end.map_err(|error| format!("the time loop can't wait: {error}"))
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

/// Keeps what steers clocks and binds low ports. A drift file in a directory of
/// another user's (`/var/lib/ntp` belongs to `ntp` on most hosts) takes root's
/// disregard of permissions too.
fn shed_privileges(config: &Config) {
    let mut keep = vec![Capability::SysTime, Capability::NetBindService];
    let directory = config.drift_file.as_deref().and_then(Path::parent);
    if directory.is_some_and(|directory| !belongs_to_us(directory)) {
        keep.push(Capability::DacOverride);
    }
    match caps::keep_only(Capabilities::of(&keep)) {
        Ok(kept) => debug!("capabilities kept: {:?}", kept.capabilities),
        Err(error) => warn!("privileges can't be given up: {error}; going on with them"),
    }
}

fn belongs_to_us(directory: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(directory)
        .is_ok_and(|metadata| metadata.uid() == nix::unistd::Uid::effective().as_raw())
}

fn open_clock(choice: ClockChoice, once: bool, without: &mut Without) -> Result<Clock, String> {
    let clock = match choice {
        ClockChoice::None => Clock::Observed,
        ClockChoice::Virtual { error, frequency } => Clock::virtual_from(error, frequency),
        ClockChoice::System => match Clock::system() {
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
    if once && !clock.is_steered() {
        return Err(
            "--once is to set the clock, and the clock is only observed: run as root with --clock \
             system"
                .to_owned(),
        );
    }
    Ok(clock)
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
        sources: config.sources.iter().map(spec).collect(),
        local_stratum: config.local_clock.map(|local| local.stratum),
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

/// Where to answer, IPv4 first.
fn listen_addresses(listen: &Listen, port: u16) -> Vec<SocketAddr> {
    let ips: Vec<IpAddr> = match listen {
        Listen::Everywhere => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
        Listen::Loopback => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
        Listen::At(ips) => ips.clone(),
        Listen::Nowhere => Vec::new(),
    };
    ips.into_iter()
        .map(|ip| SocketAddr::new(ip, port))
        .collect()
}

/// Binds with `bind` where the configuration says, or where it may: port 1123
/// without the right to 123, IPv4 alone on a host without IPv6.
fn bind_where_possible<T>(
    config: &Config,
    without: &mut Without,
    mut bind: impl FnMut(&[SocketAddr]) -> io::Result<T>,
) -> Result<T, String> {
    let port = config.port.unwrap_or(PORT);
    let addresses = listen_addresses(&config.listen, port);
    let mut bound = bind(&addresses);
    let denied = |bound: &io::Result<T>| matches!(bound, Err(error) if error.kind() == ErrorKind::PermissionDenied);
    let mut addresses = addresses;
    if denied(&bound) && config.port.is_none() {
        without.say(format!(
            "no right to port {PORT} (CAP_NET_BIND_SERVICE): answering on port {PORT_UNPRIVILEGED}"
        ));
        addresses = listen_addresses(&config.listen, PORT_UNPRIVILEGED);
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
    bound.map_err(|error| match error.kind() {
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

/// Is the failure one of IPv6, on a host that has none?
fn lacks_ipv6(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    inner.is_some_and(|ListenError { address, source }| {
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
            pin: cores > 1,
            busy_poll: config.busy_poll,
            seed,
            sizes: config.clients,
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
                ServerSocket::bind(address, false).map_err(|error| listen_error(address, error))
            })
            .collect()
    })
}

fn announce(serving: &[SocketAddr]) {
    for address in serving {
        info!("answering on {address}");
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

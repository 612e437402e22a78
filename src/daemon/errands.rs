//! What both backends do alike with what the time loop leaves to others. The
//! backends differ in whose hands do it: other threads, or the one there is.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use log::{info, warn};

use crate::config::Config;
use crate::daemon::leaps;
use crate::daemon::notify::Notifier;
use crate::daemon::resolve::{Outcome, Question};
use crate::daemon::snapshot::Snapshot;
use crate::daemon::status::{ClockKind, Collect, IoBackend, Report};
use crate::daemon::time_loop::{Errand, TimeLoop};
use crate::hardware::card::Cards;
use crate::linux::clock;
use crate::linux::netlink::Interface;
use crate::linux::signal::{Signal, Signals};
use crate::node::action::SourceId;
use crate::server::access::AccessTable;
use crate::server::respond::Policy;
use crate::sync::filter::Start;
use crate::time::duration::NtpDuration;
use crate::time::instant::MonoInstant;

/// How often the leap second file is read again, as ntpd does.
const LEAPS_INTERVAL: NtpDuration = NtpDuration::from_whole_seconds(86_400);

/// Who does it.
pub trait Hands {
    /// Answer requests with this from now on.
    fn publish(&mut self, snapshot: &Snapshot, stepped: bool);
    /// Judge the stamps of network cards by this from now on.
    fn publish_cards(&mut self, cards: &Cards);
    /// Judge requests by this from now on.
    fn set_policy(&mut self, policy: &Arc<Policy>);
    /// Look a name up; the answer comes back through [`Errands::resolved`].
    fn resolve(&mut self, source: SourceId, question: Question);
    /// Write the drift file, if there is one.
    fn keep_frequency(&mut self, frequency: Start);
    /// Read the leap second file: the outcome, or later through
    /// [`Errands::leaps_read`].
    fn read_leaps(&mut self, path: &Path) -> Option<leaps::Outcome>;
    /// Tell people and programs that ask.
    fn tell(&mut self, report: Report);
    /// Is everything that serves still alive? A sentence if not.
    fn failure(&self) -> Option<String>;
}

/// Why the loop ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum End {
    /// It was asked to, or was to set the clock once and has.
    Good,
    /// It must, for this reason.
    Bad(String),
    /// It must, and a restart would only believe what this start did not: the clock is
    /// beyond the panic limit.
    Panic(String),
}

/// What stays the same in every report.
pub struct Identity {
    /// Which clock.
    pub clock: ClockKind,
    /// Which backend.
    pub io: IoBackend,
    /// When the daemon started.
    pub started: MonoInstant,
    /// What could not be had at the start, in sentences.
    pub degraded: Vec<String>,
    /// Where requests are answered.
    pub serving: Vec<std::net::SocketAddr>,
    /// The server's counters.
    pub server: Arc<dyn Collect>,
}

impl Identity {
    /// Everything that can be told now.
    pub fn report(&self, core: &TimeLoop) -> Report {
        Report {
            node: core.report(),
            clock: self.clock,
            io: self.io,
            degraded: self
                .degraded
                .iter()
                .cloned()
                .chain(core.refused())
                .collect(),
            map: core.clock().map(),
            real: clock::realtime(),
            uptime: clock::monotonic().since(self.started),
            serving: self.serving.clone(),
            offsets: core.offsets().clone(),
            true_errors: core.true_errors().cloned(),
            cards: core.cards(),
            server: Arc::clone(&self.server),
        }
    }
}

/// The rules as they are while `upstreams` are our servers.
pub fn policy(config: &Config, upstreams: &[IpAddr]) -> Policy {
    Policy {
        access: AccessTable::compile(&config.rules, upstreams),
        rate_limit: config.rate_limit,
        keys: Arc::clone(&config.keys.table),
        bad_mac: config.keys.bad_mac,
    }
}

/// Has the operator asked for the end?
pub fn told_to_stop(signals: &Signals) -> bool {
    match signals.take() {
        Some(Signal::Stop) => true,
        Some(Signal::Reload) => {
            info!("SIGHUP: reloading is not possible yet; restart instead");
            false
        }
        None => false,
    }
}

/// Does errands with whatever hands there are.
pub struct Errands {
    config: Config,
    identity: Identity,
    notifier: Notifier,
    status_told: String,
    alive_at: MonoInstant,
    leaps_at: MonoInstant,
    /// Names that were told not to resolve, by source: once, until they do.
    unresolved: Vec<bool>,
}

impl Errands {
    /// For the daemon of `config`.
    pub fn new(config: Config, identity: Identity, notifier: Notifier) -> Self {
        let unresolved = vec![false; config.sources.len()];
        Self {
            config,
            identity,
            notifier,
            status_told: String::new(),
            alive_at: MonoInstant::ZERO,
            leaps_at: MonoInstant::ZERO,
            unresolved,
        }
    }

    /// Everything serves: systemd may start what waits for us.
    pub fn ready(&self) {
        self.notifier.ready();
    }

    /// What can be told right now.
    pub fn report(&self, core: &TimeLoop) -> Report {
        self.identity.report(core)
    }

    /// Does all of `errands`. The first reason to end ends them.
    pub fn run(
        &mut self,
        errands: &mut Vec<Errand>,
        core: &mut TimeLoop,
        hands: &mut impl Hands,
    ) -> Option<End> {
        for errand in errands.drain(..) {
            match errand {
                Errand::Publish { snapshot, stepped } => hands.publish(&snapshot, stepped),
                Errand::Cards(cards) => hands.publish_cards(&cards),
                Errand::Resolve(source) => hands.resolve(source, self.question(source)),
                Errand::Upstreams(addresses) => {
                    let policy = Arc::new(policy(&self.config, &addresses));
                    core.set_policy(Arc::clone(&policy));
                    hands.set_policy(&policy);
                }
                Errand::KeepFrequency(frequency) => {
                    hands.keep_frequency(self.config.in_drift_file(frequency));
                }
                Errand::Tick => {
                    if let Some(sentence) = hands.failure() {
                        return Some(End::Bad(sentence));
                    }
                    hands.tell(self.report(core));
                    self.tell_systemd(core);
                    self.read_leaps(core, hands);
                }
                Errand::Done => return Some(End::Good),
                Errand::Fatal(sentence) => return Some(End::Bad(sentence)),
                Errand::Panic(sentence) => return Some(End::Panic(sentence)),
            }
        }
        None
    }

    /// A look-up ended.
    pub fn resolved(
        &mut self,
        source: SourceId,
        outcome: Outcome,
        core: &mut TimeLoop,
        errands: &mut Vec<Errand>,
    ) {
        let told = &mut self.unresolved[source.0];
        let addresses = match outcome {
            Ok(addresses) => {
                if std::mem::take(told) {
                    info!("{} resolves now", self.config.sources[source.0].name);
                }
                addresses
            }
            Err(sentence) => {
                if !std::mem::replace(told, true) {
                    warn!("{sentence}; trying again");
                }
                Vec::new()
            }
        };
        core.on_resolved(source, addresses, errands);
    }

    /// The leap second file was read, or could not be. What an old one said stays
    /// good until it expires.
    pub fn leaps_read(&mut self, outcome: leaps::Outcome, core: &mut TimeLoop) {
        let file = match outcome {
            Ok(file) => file,
            Err(sentence) => {
                warn!("{sentence}; servers are believed about leap seconds");
                return;
            }
        };
        let path = self.config.leap_file.as_deref().unwrap_or(Path::new(""));
        if !file.checked {
            info!(
                "leap second file {}: it has no hash (line #h) to check it by",
                path.display()
            );
        }
        if file.table.expires() <= clock::realtime() {
            warn!(
                "leap second file {}: it has expired; servers are believed about leap seconds \
                 until there is a new one",
                path.display()
            );
        }
        core.set_leap_table(file.table);
    }

    /// Interfaces or addresses changed, and are like this now.
    pub fn links_changed(
        &mut self,
        interfaces: &[Interface],
        core: &mut TimeLoop,
        errands: &mut Vec<Errand>,
    ) {
        let own = interfaces
            .iter()
            .flat_map(|interface| &interface.addresses)
            .map(|address| address.ip)
            .collect();
        core.on_network_change(own, errands);
    }

    /// The end: says so, and leaves clock and drift file in good order.
    pub fn finish(&mut self, end: &End, core: &mut TimeLoop, hands: &mut impl Hands) {
        self.notifier.stopping();
        core.finish();
        if let Some(frequency) = core.drift() {
            hands.keep_frequency(self.config.in_drift_file(frequency));
        }
        // A bad end is told by whoever started the daemon.
        if *end == End::Good {
            info!("stopping");
        }
    }

    fn question(&self, source: SourceId) -> Question {
        let source = &self.config.sources[source.0];
        Question {
            name: source.name.clone(),
            family: source.family,
            port: source.options.port,
        }
    }

    fn read_leaps(&mut self, core: &mut TimeLoop, hands: &mut impl Hands) {
        let now = clock::monotonic();
        let Some(path) = self.config.leap_file.clone() else {
            return;
        };
        if now < self.leaps_at {
            return;
        }
        self.leaps_at = now + LEAPS_INTERVAL;
        if let Some(outcome) = hands.read_leaps(&path) {
            self.leaps_read(outcome, core);
        }
    }

    fn tell_systemd(&mut self, core: &TimeLoop) {
        let now = clock::monotonic();
        if let Some(interval) = self.notifier.watchdog_interval()
            && now >= self.alive_at
        {
            self.notifier.alive();
            self.alive_at = now + interval;
        }
        let system = core.report().system;
        let status = match (&system.source, system.sync) {
            (Some(source), true) => format!("following {source}, stratum {}", system.stratum),
            (None, true) => "no source; holding the time".to_owned(),
            (_, false) => "not synchronised".to_owned(),
        };
        if status != self.status_told {
            self.notifier.status(&status);
            self.status_told = status;
        }
    }
}

//! What both backends do alike with what the time loop leaves to others. The
//! backends differ in whose hands do it: other threads, or the one there is.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use log::{error, info, warn};

use crate::config::stamping::CardLine;
use crate::config::statistics::StatisticsConfig;
use crate::config::{Config, SourceConfig, SourceKind};
use crate::daemon::cards::Card;
use crate::daemon::leaps;
use crate::daemon::notify::Notifier;
use crate::daemon::options::{Reload, Reread};
use crate::daemon::resolve::{Outcome, Question};
use crate::daemon::rtc::Keeper;
use crate::daemon::snapshot::Snapshot;
use crate::daemon::statistics::hourly::Hourly;
use crate::daemon::statistics::{Entry, Needs, RtcFact, What};
use crate::daemon::status::{ClockKind, Collect, IoBackend, Reloads, Report};
use crate::daemon::time_loop::{Errand, TimeLoop};
use crate::daemon::xdp::Tier;
use crate::hardware::card::Cards;
use crate::linux::clock;
use crate::linux::netlink::Interface;
use crate::linux::signal::{Signal, Signals};
use crate::node::action::SourceId;
use crate::node::engine::reload::Changes;
use crate::node::pool::SourceSpec;
use crate::node::record::{Fact, UpdateFact};
use crate::server::access::AccessTable;
use crate::server::respond::Policy;
use crate::server::rule::with_built_in;
use crate::sync::filter::Start;
use crate::time::duration::NtpDuration;
use crate::time::instant::{MonoInstant, WallInstant};

/// How often the leap second file is read again, as ntpd does.
const LEAPS_INTERVAL: NtpDuration = NtpDuration::from_whole_seconds(86_400);

/// Who does it.
pub trait Hands {
    /// Answer requests with this from now on.
    fn publish(&mut self, snapshot: &Snapshot, stepped: bool);
    /// Judge the stamps of network cards by this from now on.
    fn publish_cards(&mut self, cards: &Cards);
    /// Set network cards up as these lines say from now on, and give them all to
    /// [`Errands::cards_changed`].
    fn set_card_lines(&mut self, lines: &[CardLine]);
    /// Judge requests by this from now on.
    fn set_policy(&mut self, policy: &Arc<Policy>);
    /// Look a name up; the answer comes back through [`Errands::resolved`].
    fn resolve(&mut self, source: SourceId, question: Question);
    /// Write the drift file, if there is one.
    fn keep_frequency(&mut self, frequency: Start);
    /// Read the leap second file: the outcome, or later through
    /// [`Errands::leaps_read`].
    fn read_leaps(&mut self, path: &Path) -> Option<leaps::Outcome>;
    /// Read the configuration again: the outcome, or later through
    /// [`Errands::reread`].
    fn read_config(&mut self, reload: &Reload) -> Option<Reread>;
    /// Write it into the files that are about it.
    fn keep(&mut self, entry: Box<Entry>);
    /// Write these files from now on.
    fn set_statistics(&mut self, config: &StatisticsConfig);
    /// Open the files anew: somebody has moved them away.
    fn cycle_logs(&mut self);
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
    /// What became of the orders to read the configuration again.
    pub reloads: Reloads,
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
            reloads: self.reloads.clone(),
            offsets: core.offsets().clone(),
            true_errors: core.true_errors().cloned(),
            cards: core.cards(),
            rtc: None,
            server: Arc::clone(&self.server),
        }
    }
}

/// The rules as they are while `upstreams` are our servers.
pub fn policy(config: &Config, upstreams: &[IpAddr]) -> Policy {
    Policy {
        access: AccessTable::compile(&with_built_in(&config.rules), upstreams),
        rate_limit: config.rate_limit,
        keys: Arc::clone(&config.keys.table),
        bad_mac: config.keys.bad_mac,
    }
}

/// A configured source as the node wants it.
pub fn spec(source: &SourceConfig) -> SourceSpec {
    SourceSpec {
        name: source.name.clone(),
        pool: source.kind == SourceKind::Pool,
        most: source.most,
        options: source.options,
    }
}

/// What was opened at the start stays as it is: the sentence's subjects, and `new` gets the
/// old values back.
fn keep_what_stays(old: &Config, new: &mut Config) -> Vec<String> {
    let mut later = Vec::new();
    let mut keep = |same: bool, what: &str| {
        if !same {
            later.push(what.to_owned());
        }
    };
    keep(
        old.listen == new.listen && old.port == new.port,
        "where to answer (`listen`, `port`)",
    );
    keep(
        old.ptp_port == new.ptp_port && old.ptp_domain == new.ptp_domain,
        "NTP over PTP (`ptpport`, `ptpdomain`)",
    );
    keep(old.clients == new.clients, "`clients`");
    keep(
        old.recent_clients() == new.recent_clients(),
        "how many clients are listed (`mru`, `enable monitor`, `limited`)",
    );
    // The right to set cards up was given away if there were none.
    let has_cards = |config: &Config| !config.stamping.cards.is_empty();
    let takes_cards = has_cards(old) || !has_cards(new);
    keep(takes_cards, "network cards (the first `hwtimestamp`)");
    keep(old.xdp == new.xdp, "where XDP answers (`xdp`)");
    let clocks = |config: &Config| -> Vec<SourceConfig> {
        let sources = config.sources.iter();
        let clocks = sources.filter(|source| source.kind == SourceKind::Clock);
        clocks.cloned().collect()
    };
    keep(
        clocks(old) == clocks(new) && old.disciplined == new.disciplined,
        "hardware clocks (`refclock`, `phc`)",
    );
    keep(
        old.rtc == new.rtc,
        "the real-time clock (`rtcfile`, `rtcsync`, ...)",
    );
    keep(
        old.commands == new.commands && old.manual == new.manual,
        "what chronyc asks (`cmdport`, `bindcmdaddress`, `cmdallow`, `manual`)",
    );
    keep(
        old.leaving == new.leaving,
        "how requests leave (`dscp`, `bindacqaddress`, `bindacqdevice`)",
    );
    keep(old.pid_file == new.pid_file, "`pidfile`");
    keep(old.initial == new.initial, "`initstepslew`");
    keep(old.busy_poll == new.busy_poll, "`busypoll`");
    keep(old.control == new.control, "`control`");
    keep(old.metrics == new.metrics, "`metrics`");
    keep(
        old.drift_file == new.drift_file && old.drift_gains == new.drift_gains,
        "`driftfile`",
    );
    new.listen.clone_from(&old.listen);
    new.port = old.port;
    new.ptp_port = old.ptp_port;
    new.ptp_domain = old.ptp_domain;
    new.recent = Some(old.recent_clients());
    if !takes_cards {
        new.stamping.cards.clear();
    }
    new.xdp.clone_from(&old.xdp);
    new.sources
        .retain(|source| source.kind != SourceKind::Clock);
    new.sources.extend(clocks(old));
    for source in &mut new.sources {
        let domain = &mut source.options.over_ptp;
        *domain = domain.map(|_| old.ptp_domain);
    }
    new.disciplined.clone_from(&old.disciplined);
    new.rtc.clone_from(&old.rtc);
    new.commands.clone_from(&old.commands);
    new.manual = old.manual;
    new.clients = old.clients;
    new.leaving.clone_from(&old.leaving);
    new.pid_file.clone_from(&old.pid_file);
    new.initial.clone_from(&old.initial);
    new.busy_poll = old.busy_poll;
    new.control.clone_from(&old.control);
    new.metrics = old.metrics;
    new.drift_file.clone_from(&old.drift_file);
    new.drift_gains = old.drift_gains;
    later
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
    /// Every source there ever was, as the node numbers them.
    asked: Vec<SourceConfig>,
    /// Our servers' addresses now.
    upstreams: Vec<IpAddr>,
    reload: Option<Reload>,
    /// Who looks after the real-time clock.
    rtc: Option<Keeper>,
    /// Who answers before the sockets do.
    xdp: Option<Arc<Tier>>,
    /// What the files are about.
    needs: Needs,
    hourly: Hourly,
    /// When the last measurement of the real-time clock was made that was kept.
    rtc_kept: Option<WallInstant>,
}

impl Errands {
    /// For the daemon of `config`.
    pub fn new(
        config: Config,
        reload: Option<Reload>,
        identity: Identity,
        notifier: Notifier,
        rtc: Option<Keeper>,
        xdp: Option<Arc<Tier>>,
    ) -> Self {
        let unresolved = vec![false; config.sources.len()];
        let needs = Needs::of(&config.statistics);
        let hourly = Hourly::new(identity.started);
        Self {
            config,
            identity,
            notifier,
            status_told: String::new(),
            alive_at: MonoInstant::ZERO,
            leaps_at: MonoInstant::ZERO,
            unresolved,
            asked: Vec::new(),
            upstreams: Vec::new(),
            reload,
            rtc,
            xdp,
            needs,
            hourly,
            rtc_kept: None,
        }
        .counted()
    }

    /// `wake` is called when the XDP tier has something for the next [`run`](Self::run).
    pub fn wake_by(&self, wake: impl Fn() + Send + Sync + 'static) {
        if let Some(xdp) = &self.xdp {
            xdp.wake_by(Box::new(wake));
        }
    }

    /// Everything serves: systemd may start what waits for us.
    pub fn ready(&self) {
        self.notifier.ready();
    }

    /// What can be told right now.
    pub fn report(&self, core: &TimeLoop) -> Report {
        Report {
            rtc: self.rtc.as_ref().map(Keeper::report),
            ..self.identity.report(core)
        }
    }

    /// Does all of `errands`. The first reason to end ends them.
    pub fn run(
        &mut self,
        errands: &mut Vec<Errand>,
        core: &mut TimeLoop,
        hands: &mut impl Hands,
    ) -> Option<End> {
        if let Some(xdp) = self.xdp.as_ref().filter(|xdp| xdp.has_news()) {
            xdp.publish(&core.snapshot());
        }
        for errand in errands.drain(..) {
            match errand {
                Errand::Publish { snapshot, stepped } => {
                    hands.publish(&snapshot, stepped);
                    if let Some(xdp) = &self.xdp {
                        xdp.publish(&snapshot);
                    }
                    if let Some(rtc) = &self.rtc {
                        rtc.tell(&snapshot, stepped);
                    }
                }
                Errand::Cards(cards) => hands.publish_cards(&cards),
                Errand::Resolve(source) => hands.resolve(source, self.question(source)),
                Errand::Upstreams(addresses) => {
                    self.upstreams = addresses;
                    self.enforce(core, hands);
                }
                Errand::KeepFrequency(frequency) => {
                    hands.keep_frequency(self.config.in_drift_file(frequency));
                }
                Errand::Keep(entry) => {
                    if let What::Fact(Fact::Update(update)) = &entry.what {
                        self.tell_change(update, core);
                    }
                    hands.keep(entry);
                }
                Errand::Tick => {
                    if let Some(sentence) = hands.failure() {
                        return Some(End::Bad(sentence));
                    }
                    if let Some(xdp) = &self.xdp {
                        xdp.publish(&core.snapshot());
                    }
                    hands.tell(self.report(core));
                    self.tell_systemd(core);
                    self.read_leaps(core, hands);
                    if self.hourly.is_due(clock::monotonic()) {
                        self.keep_hour(core, hands);
                    }
                    self.keep_rtc(core, hands);
                }
                Errand::Done => return Some(End::Good),
                Errand::Fatal(sentence) => return Some(End::Bad(sentence)),
                Errand::Panic(sentence) => return Some(End::Panic(sentence)),
            }
        }
        None
    }

    /// The rules of the configuration in force, for workers and our own servers' answers.
    fn enforce(&self, core: &mut TimeLoop, hands: &mut impl Hands) {
        let policy = Arc::new(policy(&self.config, &self.upstreams));
        core.set_policy(Arc::clone(&policy));
        hands.set_policy(&policy);
        if let Some(xdp) = &self.xdp {
            xdp.set_policy(&policy);
        }
    }

    /// What the operator asked for by a signal. True: to end.
    pub fn heed(
        &mut self,
        signals: &Signals,
        core: &mut TimeLoop,
        hands: &mut impl Hands,
        errands: &mut Vec<Errand>,
    ) -> bool {
        match signals.take() {
            None => return false,
            Some(Signal::Stop) => return true,
            Some(Signal::Reload) => {}
        }
        self.read_again(core, hands, errands);
        false
    }

    /// Has the configuration, and the files that it names, read again.
    fn read_again(
        &mut self,
        core: &mut TimeLoop,
        hands: &mut impl Hands,
        errands: &mut Vec<Errand>,
    ) {
        let outcome = match &self.reload {
            Some(reload) => hands.read_config(reload),
            None => Some(Err(
                "there is no configuration file to read: the daemon was started without -c"
                    .to_owned(),
            )),
        };
        if let Some(outcome) = outcome {
            self.reread(outcome, core, hands, errands);
        }
    }

    /// The configuration was read again. If anything is wrong with it, all stays as it was.
    /// Else sources that stay keep their filters; what only a start can do is said.
    pub fn reread(
        &mut self,
        outcome: Reread,
        core: &mut TimeLoop,
        hands: &mut impl Hands,
        errands: &mut Vec<Errand>,
    ) {
        let count = self.identity.reloads.count + 1;
        let (config, remarks) = match outcome {
            Ok(read) => read,
            Err(problem) => {
                error!("{problem}\nnothing was reloaded; the daemon goes on as it was");
                self.identity.reloads = Reloads {
                    count,
                    problem: Some(problem),
                    later: Vec::new(),
                };
                hands.tell(self.report(core));
                return;
            }
        };
        for (level, remark) in remarks {
            log::log!(level, "{remark}");
        }
        let later = self.take_up(config, core, hands, errands);
        for what in &later {
            warn!("{what} changes with the next start");
        }
        self.identity.reloads = Reloads {
            count,
            problem: None,
            later,
        };
        hands.tell(self.report(core));
    }

    /// The one place where parts of the daemon take what is theirs of a new configuration.
    /// Returns what has to wait for a start.
    fn take_up(
        &mut self,
        new: Config,
        core: &mut TimeLoop,
        hands: &mut impl Hands,
        errands: &mut Vec<Errand>,
    ) -> Vec<String> {
        let old = std::mem::replace(&mut self.config, new);
        let later = keep_what_stays(&old, &mut self.config);
        // Who may ask, and how often.
        self.enforce(core, hands);
        // Whom we ask, and what we make of it.
        let (kept, new) = self.match_sources(&old);
        info!(
            "configuration read again: {} sources stay, {} are new, {} are gone",
            kept.len(),
            new.len(),
            old.sources.len() - kept.len().min(old.sources.len())
        );
        core.reconfigure(
            Changes {
                kept,
                new,
                local_stratum: self.config.local_clock.map(|local| local.stratum),
                orphan: self.config.orphan,
                step: self.config.step,
                select: self.config.select,
                steer: self.config.discipline,
                kernel_leaps: self.config.kernel_leaps,
                has_leap_file: self.config.leap_file.is_some(),
            },
            errands,
        );
        core.set_broadcasts(&self.config.broadcasts, self.config.groups());
        if old.stamping != self.config.stamping {
            hands.set_card_lines(&self.config.stamping.cards);
        }
        // What is written.
        if old.statistics != self.config.statistics {
            self.needs = Needs::of(&self.config.statistics);
            hands.set_statistics(&self.config.statistics);
        }
        core.set_needs(self.needs);
        // Leap seconds: read at the next tick.
        self.leaps_at = MonoInstant::ZERO;
        later
    }

    /// Which of the sources were there before, by their numbers; the others get the next ones.
    fn match_sources(&mut self, old: &Config) -> (Vec<(SourceId, SourceSpec)>, Vec<SourceSpec>) {
        let (mut kept, mut new) = (Vec::new(), Vec::new());
        for source in &self.config.sources {
            let same = |other: &SourceConfig| {
                other.kind == source.kind
                    && other.name == source.name
                    && other.family == source.family
                    && other.options.port == source.options.port
                    // Those of `initstepslew` have had their turn.
                    && !other.options.initial
            };
            let was_there = old.sources.iter().any(same);
            // The newest of that name: an older one may have been taken out before.
            match self.asked.iter().rposition(same).filter(|_| was_there) {
                Some(index) => kept.push((SourceId(index), spec(source))),
                None => new.push(source.clone()),
            }
        }
        self.asked.extend_from_slice(&new);
        self.unresolved.resize(self.asked.len(), false);
        (kept, new.iter().map(spec).collect())
    }

    /// The sources of the start have the first numbers.
    fn counted(mut self) -> Self {
        self.asked = self.config.asked_at_start();
        self.unresolved.resize(self.asked.len(), false);
        self
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
                    info!("{} resolves now", self.asked[source.0].name);
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

    /// The cards whose stamps can be used are these from now on, and no others.
    pub fn cards_changed(&self, cards: Vec<Card>, core: &mut TimeLoop) {
        core.set_cards(cards, self.config.stamping.timeout);
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

    /// The end: says so, and leaves clocks and their files in good order.
    pub fn finish(&mut self, end: &End, core: &mut TimeLoop, hands: &mut impl Hands) {
        self.notifier.stopping();
        if let Some(xdp) = &self.xdp {
            xdp.end();
        }
        core.finish();
        self.keep_hour(core, hands);
        if let Some(frequency) = core.drift() {
            hands.keep_frequency(self.config.in_drift_file(frequency));
        }
        if let Some(rtc) = self.rtc.take() {
            rtc.stop();
        }
        // A bad end is told by whoever started the daemon.
        if *end == End::Good {
            info!("stopping");
        }
    }

    fn question(&self, source: SourceId) -> Question {
        let source = &self.asked[source.0];
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

    /// chronyd's line about a correction that is larger than the operator wants to pass
    /// over. What is on its way to be corrected was told before.
    fn tell_change(&self, update: &UpdateFact, core: &TimeLoop) {
        let offset = update.offset - update.pending;
        let limit = self.config.statistics.change;
        let corrected = self.config.discipline && core.clock().is_steered();
        if corrected && update.combined > 0 && limit.is_some_and(|limit| offset.abs() > limit) {
            warn!("System clock wrong by {:.6} seconds", offset.as_seconds());
        }
    }

    fn keep_hour(&mut self, core: &TimeLoop, hands: &mut impl Hands) {
        if !self.needs.served && !self.needs.used {
            return;
        }
        let requests = self.identity.server.collect().requests;
        let now = core.clock().now();
        for entry in self.hourly.entries(now, self.needs, requests) {
            hands.keep(Box::new(entry));
        }
    }

    fn keep_rtc(&mut self, core: &TimeLoop, hands: &mut impl Hands) {
        let Some(rtc) = self.rtc.as_ref().filter(|_| self.needs.rtc) else {
            return;
        };
        let report = rtc.report();
        let Some((at, offset_s)) = report.measured.filter(|(at, _)| Some(*at) != self.rtc_kept)
        else {
            return;
        };
        let before = self.rtc_kept.replace(at);
        let age_s = (at - WallInstant::from_unix_ns(report.at_unix_ns)).as_seconds();
        let what = What::Rtc(RtcFact {
            at,
            offset_s,
            estimate_s: report.offset_s + age_s * report.rate.ratio(),
            rate: report.rate,
            samples: report.samples,
            interval_s: before.map_or(0, |before| (at - before).as_seconds().round() as i64),
        });
        let now = core.clock().now();
        hands.keep(Box::new(Entry { now, what }));
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

pub mod orders;

//! The daemon on io_uring: the time loop here, workers that answer requests, and
//! a service thread for all that is slow.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};

use crate::config::stamping::CardLine;
use crate::config::statistics::StatisticsConfig;
use crate::daemon::errands::{End, Errands, Hands};
use crate::daemon::leaps;
use crate::daemon::options::{Reload, Reread};
use crate::daemon::resolve::Question;
use crate::daemon::service::{Service, Setup, ToLoop, ToService};
use crate::daemon::snapshot::{Snapshot, SnapshotCell};
use crate::daemon::statistics::Entry;
use crate::daemon::statistics::ring::{self, Queue};
use crate::daemon::status::Report;
use crate::daemon::time_loop::{Errand, TimeLoop};
use crate::daemon::worker::Workers;
use crate::hardware::card::Cards;
use crate::linux::signal::Signals;
use crate::linux::wait::{Interest, Waiter};
use crate::linux::wake::Wake;
use crate::node::action::SourceId;
use crate::server::respond::Policy;
use crate::sync::filter::Start;

const WAKE: u64 = 0;
const SIGNAL: u64 = 1;
const CLIENTS: u64 = 2;

/// The other threads.
struct Others {
    snapshot: Arc<SnapshotCell>,
    workers: Option<Arc<Workers>>,
    service: Service,
    keeps_frequency: bool,
    entries: Queue,
}

impl Hands for Others {
    fn publish(&mut self, snapshot: &Snapshot, stepped: bool) {
        self.snapshot.publish(snapshot);
        if let (Some(workers), true) = (&self.workers, stepped) {
            workers.clock_stepped();
        }
    }

    fn publish_cards(&mut self, cards: &Cards) {
        if let Some(workers) = &self.workers {
            workers.publish_cards(cards);
        }
    }

    fn set_card_lines(&mut self, lines: &[CardLine]) {
        self.service.send(ToService::SetCards(lines.to_vec()));
    }

    fn set_policy(&mut self, policy: &Arc<Policy>) {
        if let Some(workers) = &self.workers {
            workers.set_policy(Arc::clone(policy));
        }
    }

    fn resolve(&mut self, source: SourceId, question: Question) {
        let id = source.0 as u64;
        self.service.send(ToService::Resolve { id, question });
    }

    fn keep_frequency(&mut self, frequency: Start) {
        if self.keeps_frequency {
            self.service.send(ToService::WriteDrift(frequency));
        }
    }

    fn read_leaps(&mut self, path: &Path) -> Option<leaps::Outcome> {
        self.service.send(ToService::ReadLeaps(path.to_owned()));
        None
    }

    fn read_config(&mut self, reload: &Reload) -> Option<Reread> {
        self.service.send(ToService::ReadConfig(reload.clone()));
        None
    }

    fn keep(&mut self, entry: Box<Entry>) {
        self.entries.send(entry);
    }

    fn set_statistics(&mut self, config: &StatisticsConfig) {
        self.service
            .send(ToService::SetStatistics(Box::new(config.clone())));
    }

    fn cycle_logs(&mut self) {
        self.service.send(ToService::CycleLogs);
    }

    fn tell(&mut self, report: Report) {
        self.service.send(ToService::Report(Arc::new(report)));
    }

    fn failure(&self) -> Option<String> {
        if self.service.is_dead() {
            return Some("the service thread has died; see above".to_owned());
        }
        self.workers.as_ref()?.failure()
    }
}

/// What the threads are made of.
pub struct Parts {
    /// The time loop.
    pub core: TimeLoop,
    /// Errands in common.
    pub errands: Errands,
    /// The workers, if anybody is served.
    pub workers: Option<Arc<Workers>>,
    /// What they answer with.
    pub snapshot: Arc<SnapshotCell>,
    /// What the service thread serves.
    pub service: Setup,
    /// Where the time loop waits.
    pub waiter: Waiter,
    /// Caught signals.
    pub signals: Signals,
}

/// Runs until told to stop. An error is one of the start, or of the wait itself.
pub fn run(parts: Parts) -> io::Result<End> {
    let Parts {
        mut core,
        mut errands,
        workers,
        snapshot,
        service,
        mut waiter,
        signals,
    } = parts;
    let wake = Wake::new()?;
    let (sender, messages) = mpsc::channel();
    let keeps_frequency = service.drift_file.is_some();
    let (entries, kept) = ring::queue();
    let service = Setup {
        entries: Some(kept),
        ..service
    };
    let waker = wake.clone();
    let xdp_waker = wake.clone();
    errands.wake_by(move || xdp_waker.wake());
    let service = Service::start(service, sender, Box::new(move || waker.wake()))?;
    let mut hands = Others {
        snapshot,
        workers,
        service,
        keeps_frequency,
        entries,
    };
    hands.tell(errands.report(&core));
    errands.ready();

    let mut to_do = Vec::new();
    let mut interests = Vec::new();
    let mut ready = Vec::new();
    let end = loop {
        core.turn(&mut to_do);
        read_messages(&messages, &mut core, &mut errands, &mut hands, &mut to_do);
        if let Some(end) = errands.run(&mut to_do, &mut core, &mut hands) {
            break end;
        }
        if errands.heed(&signals, &mut core, &mut hands, &mut to_do) {
            break End::Good;
        }
        interests.clear();
        interests.push(Interest::read(wake.fd(), WAKE));
        interests.extend(signals.fd().map(|fd| Interest::read(fd, SIGNAL)));
        core.interests(CLIENTS, &mut interests);
        waiter.wait(&interests, Some(core.deadline()), &mut ready)?;
        for ready in &ready {
            match ready.token {
                WAKE => {
                    wake.clear();
                }
                SIGNAL => {}
                _ => core.on_ready(ready, CLIENTS, &mut to_do),
            }
        }
    };
    errands.finish(&end, &mut core, &mut hands);
    hands.tell(errands.report(&core));
    hands.service.stop();
    Ok(end)
}

fn read_messages(
    messages: &Receiver<ToLoop>,
    core: &mut TimeLoop,
    errands: &mut Errands,
    hands: &mut Others,
    to_do: &mut Vec<Errand>,
) {
    while let Ok(message) = messages.try_recv() {
        match message {
            ToLoop::Resolved { id, outcome } => {
                errands.resolved(SourceId(id as usize), outcome, core, to_do);
            }
            ToLoop::LinksChanged(interfaces) => errands.links_changed(&interfaces, core, to_do),
            ToLoop::Cards(cards) => errands.cards_changed(cards, core),
            ToLoop::Leaps(outcome) => errands.leaps_read(outcome, core),
            ToLoop::Config(outcome) => errands.reread(*outcome, core, hands, to_do),
            ToLoop::Order(order) => {
                let answer = errands.obey(&order.request, core, hands, to_do);
                // Who does not wait for it any more has hung up.
                let _ = order.done.send((answer, Arc::new(errands.report(core))));
            }
        }
    }
}

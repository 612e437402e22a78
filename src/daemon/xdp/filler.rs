//! Access tables are filled by a thread of their own: a million rules take a good part of
//! a second, and a table is not to be touched before the last program that read it is
//! through with it.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use log::{error, info};

use crate::daemon::xdp::program::Tables;
use crate::linux::clock;
use crate::server::access::AccessTable;
use crate::server::respond::Policy;
use crate::server::rule::RateLimit;
use crate::time::duration::NtpDuration;
use crate::time::instant::MonoInstant;
use crate::xdp::tables::{Rows, TooMany};

/// A program that began with a table is through with it long before.
const REST: NtpDuration = NtpDuration::from_whole_seconds(1);
/// How often it is seen whether the time loop has taken the last one.
const LOOK: Duration = Duration::from_millis(20);
/// What the time loop is to have in force.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Ready {
    /// Counted from 1; a new one for each change.
    pub number: u64,
    /// The table's; none: there is no table to judge by, and nothing may be answered.
    pub first_row: Option<u32>,
    /// What `limited` means with it.
    pub limit: RateLimit,
}

/// The time loop's end of the thread.
#[derive(Debug)]
pub struct Filler {
    room: u32,
    orders: Sender<()>,
    shared: Arc<Shared>,
    /// Until it is started.
    work: Mutex<Option<Work>>,
}

/// What the tables are to be filled with.
#[derive(Clone, Debug)]
struct Wanted {
    policy: Arc<Policy>,
    /// Addresses that no other host can have.
    odd: BTreeSet<IpAddr>,
}

struct Shared {
    wanted: Mutex<Wanted>,
    ready: ArcSwap<Ready>,
    /// The number of what is in force.
    taken: AtomicU64,
    /// Since when, in nanoseconds of CLOCK_MONOTONIC.
    taken_at: AtomicI64,
    wake: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("ready", &self.ready)
            .field("taken", &self.taken)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn wanted(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Filler {
    /// Fills the first table at once with `rows`, which `policy` and `odd` addresses came to;
    /// the others wait for [`start`](Self::start).
    pub fn new(mut maps: Tables, rows: Rows, policy: Arc<Policy>, odd: BTreeSet<IpAddr>) -> Self {
        rows.write(maps.table_mut(0));
        let room = maps.rows();
        let ready = Ready {
            number: 1,
            first_row: Some(maps.first_row(0)),
            limit: policy.rate_limit,
        };
        let shared = Arc::new(Shared {
            wanted: Mutex::new(Wanted { policy, odd }),
            ready: ArcSwap::from_pointee(ready),
            taken: AtomicU64::new(0),
            taken_at: AtomicI64::new(0),
            wake: OnceLock::new(),
        });
        let (orders, taken) = mpsc::channel();
        let work = Work {
            orders: taken,
            maps,
            rows: Some(rows),
            table: 0,
            ready,
            shared: Arc::clone(&shared),
        };
        Self {
            room,
            orders,
            shared,
            work: Mutex::new(Some(work)),
        }
    }

    /// Starts the thread, which has the capabilities of who starts it.
    ///
    /// # Errors
    /// What starting a thread says.
    pub fn start(&self) -> io::Result<()> {
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(work) = work.take() {
            thread::Builder::new()
                .name("ptntp-xdp".to_owned())
                .spawn(move || work.run())?;
        }
        Ok(())
    }

    /// Is there room for these rules?
    ///
    /// # Errors
    /// [`TooMany`], if not.
    pub fn check(&self, access: &AccessTable) -> Result<(), TooMany> {
        let odd = self.shared.wanted().odd.clone();
        Rows::new(access, &odd).fit(self.room)
    }

    /// Makes ready what these rules say; of several, the last.
    pub fn set_policy(&self, policy: Arc<Policy>) {
        self.shared.wanted().policy = policy;
        self.order();
    }

    /// From these addresses nobody is answered, if they are others than before.
    pub fn set_odd(&self, odd: BTreeSet<IpAddr>) {
        let mut wanted = self.shared.wanted();
        if wanted.odd != odd {
            wanted.odd = odd;
            drop(wanted);
            self.order();
        }
    }

    fn order(&self) {
        // The thread lives as long as this does.
        let _ = self.orders.send(());
    }

    /// The newest that is ready.
    pub fn ready(&self) -> Ready {
        **self.shared.ready.load()
    }

    /// That one is in force.
    pub fn taken(&self, number: u64) {
        let shared = &self.shared;
        if shared.taken.load(Ordering::Relaxed) != number {
            let now = clock::monotonic().nanos();
            shared.taken_at.store(now, Ordering::Relaxed);
            shared.taken.store(number, Ordering::Release);
        }
    }

    /// Is something ready that is not in force?
    pub fn has_news(&self) -> bool {
        self.shared.taken.load(Ordering::Relaxed) != self.shared.ready.load().number
    }

    /// Calls `wake` when something is. Once.
    pub fn wake_by(&self, wake: Box<dyn Fn() + Send + Sync>) {
        let _ = self.shared.wake.set(wake);
    }
}

#[derive(Debug)]
struct Work {
    orders: Receiver<()>,
    maps: Tables,
    /// What the table in force was filled with; none: it is not to be used.
    rows: Option<Rows>,
    table: usize,
    ready: Ready,
    shared: Arc<Shared>,
}

impl Work {
    fn run(mut self) {
        while self.orders.recv().is_ok() {
            while self.orders.try_recv().is_ok() {}
            let wanted = self.shared.wanted().clone();
            self.take_up(&wanted);
        }
    }

    fn take_up(&mut self, Wanted { policy, odd }: &Wanted) {
        let rows = Rows::new(&policy.access, odd);
        let first_row = match rows.fit(self.maps.rows()) {
            Ok(()) if self.rows.as_ref() == Some(&rows) => self.ready.first_row,
            Ok(()) => {
                if self.rows.is_none() {
                    info!("xdp: the access rules fit again; plain requests are answered there");
                }
                self.wait_for_rest();
                self.table = 1 - self.table;
                rows.write(self.maps.table_mut(self.table));
                self.rows = Some(rows);
                Some(self.maps.first_row(self.table))
            }
            // A reload that does not fit is refused before; so it is our servers'
            // addresses (`restrict source`) or our own. Wrong judgement would be worse than none.
            Err(too_many) => {
                if self.rows.take().is_some() {
                    error!("xdp: {too_many}; until then the sockets answer");
                }
                None
            }
        };
        if (first_row, policy.rate_limit) == (self.ready.first_row, self.ready.limit) {
            return;
        }
        self.ready = Ready {
            number: self.ready.number + 1,
            first_row,
            limit: policy.rate_limit,
        };
        self.shared.ready.store(Arc::new(self.ready));
        if let Some(wake) = self.shared.wake.get() {
            wake();
        }
    }

    /// Until the other table is in force, and nobody reads this one.
    fn wait_for_rest(&self) {
        while self.shared.taken.load(Ordering::Acquire) != self.ready.number {
            thread::sleep(LOOK);
        }
        let taken_at = MonoInstant::from_nanos(self.shared.taken_at.load(Ordering::Relaxed));
        let rested = clock::monotonic().since(taken_at);
        if let Ok(rest) = u64::try_from((REST - rested).as_nanos()) {
            thread::sleep(Duration::from_nanos(rest));
        }
    }
}

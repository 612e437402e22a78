//! How much of a core others take, by what a thread gets done there that runs only when
//! nobody else wants to (SCHED_IDLE). What the kernel does for packets belongs to no
//! process, and its own books of it are kept by sampling; but it keeps this thread from
//! its work like all else.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ptntp::linux::priority;

use super::common::{secs, wait_until};
use super::must;

/// Steps of arithmetic between two looks at the clock of others: some microseconds.
const STEPS: u32 = 1000;
/// How fast it is alone is the best of so many looks.
const LOOKS: u32 = 8;
const LOOK: Duration = Duration::from_millis(25);
/// A check looks so long; and what it has to find, of a core that is idle and one that
/// is busy.
const CHECK: Duration = Duration::from_millis(300);
const IDLE_MAX: f64 = 0.15;
const BUSY_MIN: f64 = 0.95;

/// The thread, and what it did.
pub struct Spinner {
    done: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    /// What it gets done in a second when nobody else wants the core.
    alone_per_s: f64,
}

/// A moment, and how much was done by then.
#[derive(Clone, Copy)]
pub struct Mark {
    at: Instant,
    done: u64,
}

impl Spinner {
    /// On that core.
    pub fn start(core: usize) -> Result<Self, String> {
        let done = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let id = Arc::new(AtomicI32::new(0));
        let thread = {
            let (done, stop, id) = (done.clone(), stop.clone(), id.clone());
            std::thread::spawn(move || {
                if priority::stay_on(core).is_ok() {
                    id.store(nix::unistd::gettid().as_raw(), Ordering::SeqCst);
                    spin(&done, &stop);
                }
            })
        };
        let spinner = Self {
            done,
            stop,
            thread: Some(thread),
            alone_per_s: 0.0,
        };
        if !wait_until(secs(10), || id.load(Ordering::SeqCst) != 0) {
            return Err(format!("no thread can be kept on core {core}"));
        }
        let mut chrt = Command::new("chrt");
        chrt.args(["--idle", "-p", "0", &id.load(Ordering::SeqCst).to_string()]);
        must("chrt --idle", chrt)?;
        Ok(spinner)
    }

    /// Finds out how fast it is now, when nobody else should want the core.
    pub fn calibrate(&mut self) {
        let looks = (0..LOOKS).map(|_| {
            let mark = self.mark();
            std::thread::sleep(LOOK);
            (self.done.load(Ordering::Relaxed) - mark.done) as f64 / mark.at.elapsed().as_secs_f64()
        });
        self.alone_per_s = looks.fold(0.0, f64::max);
    }

    /// Now.
    pub fn mark(&self) -> Mark {
        Mark {
            at: Instant::now(),
            done: self.done.load(Ordering::Relaxed),
        }
    }

    /// Seconds of the core that others had since then.
    pub fn taken_s(&self, since: Mark) -> f64 {
        let done = self.done.load(Ordering::Relaxed) - since.done;
        since.at.elapsed().as_secs_f64() - done as f64 / self.alone_per_s
    }

    /// Does it tell an idle core from a busy one, here and now?
    pub fn check(&mut self, core: usize) -> Result<(), String> {
        self.calibrate();
        let taken = |spinner: &Self| {
            let mark = spinner.mark();
            std::thread::sleep(CHECK);
            spinner.taken_s(mark) / mark.at.elapsed().as_secs_f64()
        };
        let idle = taken(self);
        let (nothing, stop) = (AtomicU64::new(0), AtomicBool::new(false));
        let busy = std::thread::scope(|scope| {
            scope.spawn(|| {
                let _ = priority::stay_on(core);
                spin(&nothing, &stop);
            });
            std::thread::sleep(LOOK);
            let busy = taken(self);
            stop.store(true, Ordering::Relaxed);
            busy
        });
        let found = format!(
            "core {core}: {:.1} % taken when idle, {:.1} % when busy",
            100.0 * idle,
            100.0 * busy
        );
        if idle.abs() > IDLE_MAX || busy < BUSY_MIN {
            return Err(format!(
                "{found}: something else runs there, so nothing can be measured"
            ));
        }
        eprintln!("{found}");
        Ok(())
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn spin(done: &AtomicU64, stop: &AtomicBool) {
    let mut x = 1_u64;
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..STEPS {
            x = std::hint::black_box(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
}

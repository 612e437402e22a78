//! What the integration tests share: requirements that are checked and said,
//! network namespaces, processes that can't touch this machine's clock, the
//! real peers, ptntp itself, raw NTP packets and Prometheus text.
//!
//! Safety: every program is started by [`process`], without CAP_SYS_TIME, and
//! ends with the test that started it.

// Each test file compiles this module for itself and uses a part of it.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use ::ptntp::dice::Dice;

pub mod bench;
pub mod frame;
pub mod metrics;
pub mod net;
pub mod ntp;
pub mod peers;
pub mod process;
pub mod ptntp;
pub mod require;
pub mod witness;

/// The mission's claim: a clock on a LAN is this close to its server.
pub const GOOD_S: f64 = 100e-6;

/// Asks until there is an answer; none if there was none in time. Asks at least once.
pub fn wait_for<T>(timeout: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + timeout;
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Did `condition` come true in time?
pub fn wait_until(timeout: Duration, mut condition: impl FnMut() -> bool) -> bool {
    wait_for(timeout, || condition().then_some(())).is_some()
}

/// Whole seconds, to keep calls short.
pub const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A number that differs for everything a run of tests makes.
pub fn serial() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A directory of one test's files, removed with it; kept when the test fails.
/// Its path is short: a control socket's may have 107 bytes.
pub struct TempDir(PathBuf);

impl TempDir {
    /// An empty directory that nobody else has.
    pub fn new() -> Self {
        let name = format!("ptntp-test-{}-{}", std::process::id(), serial());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap_or_else(|e| panic!("create {}: {e}", path.display()));
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file in it.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, content).unwrap_or_else(|e| panic!("write {}: {e}", path.display()));
        path
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("kept for a look: {}", self.0.display());
        } else {
            // Nothing depends on it being gone.
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

/// Numbers that repeat with their seed, which a failing test prints.
pub struct Random(Dice);

impl Random {
    /// A new one each run.
    pub fn unforeseen() -> Self {
        let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
        let seed = u64::try_from(now.as_nanos() & u128::from(u64::MAX)).unwrap_or_default();
        eprintln!("seed {seed:#x}");
        Self(Dice::new(seed))
    }

    /// Sixty-four random bits.
    pub fn bits(&mut self) -> u64 {
        self.0.roll()
    }

    /// Below `limit`, which is not zero.
    pub fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit).expect("64 bits suffice");
        usize::try_from(self.bits() % limit).expect("smaller than limit")
    }

    /// Fills a buffer.
    pub fn fill(&mut self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(8) {
            chunk.copy_from_slice(&self.bits().to_le_bytes()[..chunk.len()]);
        }
    }
}

//! What is written each hour, as ntpd does, and for the rest of an hour at the end: what the
//! server counted and what the process used.

use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::time::TimeValLike;

use crate::daemon::query::counted;
use crate::daemon::statistics::{Entry, Needs, Served, Used, What};
use crate::time::duration::NtpDuration;
use crate::time::instant::{MonoInstant, Now};

const HOUR: NtpDuration = NtpDuration::from_whole_seconds(3600);

/// What was so when the last lines were written.
#[derive(Debug)]
pub struct Hourly {
    at: MonoInstant,
    requests: Vec<(&'static str, u64)>,
    used: Used,
}

impl Hourly {
    /// The first hour begins at `now`.
    pub fn new(now: MonoInstant) -> Self {
        Self {
            at: now,
            requests: Vec::new(),
            // What the start needed is told in the first hour.
            used: Used::default(),
        }
    }

    /// Is the hour over?
    pub fn is_due(&self, now: MonoInstant) -> bool {
        now.since(self.at) >= HOUR
    }

    /// What there is to write of the time since the last lines; `requests` are the server's
    /// counters since the start.
    pub fn entries(
        &mut self,
        now: Now,
        needs: Needs,
        requests: Vec<(&'static str, u64)>,
    ) -> Vec<Entry> {
        let period = now.mono.since(self.at);
        self.at = now.mono;
        let mut entries = Vec::new();
        if needs.served {
            let more = |counter| {
                counted(&requests, counter).saturating_sub(counted(&self.requests, counter))
            };
            let what = What::Served(Served {
                period,
                received: more("received"),
                processed: more("served"),
                restricted: more("restricted"),
                bad: more("bad"),
                bad_version: more("bad_version"),
                badauth: more("badauth"),
                declined: more("declined"),
                limited: more("limited"),
                kod: more("kod"),
            });
            entries.push(Entry { now, what });
        }
        self.requests = requests;
        if let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) {
            let before = std::mem::replace(&mut self.used, totals(&usage));
            if needs.used {
                let what = What::Used(self.used.since(&before, period));
                entries.push(Entry { now, what });
            }
        }
        entries
    }
}

fn totals(usage: &Usage) -> Used {
    let seconds = |time: nix::sys::time::TimeVal| time.num_microseconds() as f64 * 1e-6;
    Used {
        period_s: 0.0,
        cpu_s: [seconds(usage.user_time()), seconds(usage.system_time())],
        counts: [
            usage.minor_page_faults(),
            usage.major_page_faults(),
            usage.full_swaps(),
            usage.block_reads(),
            usage.block_writes(),
            usage.voluntary_context_switches(),
            usage.involuntary_context_switches(),
            usage.signals(),
        ],
        maxrss_kib: usage.max_rss(),
    }
}

impl Used {
    /// What was used since `before`, `period` ago.
    fn since(&self, before: &Self, period: NtpDuration) -> Self {
        Self {
            period_s: period.as_seconds(),
            cpu_s: [0, 1].map(|i| self.cpu_s[i] - before.cpu_s[i]),
            counts: std::array::from_fn(|i| self.counts[i] - before.counts[i]),
            maxrss_kib: self.maxrss_kib,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::instant::WallInstant;

    #[test]
    fn each_hour_tells_of_itself_alone() {
        let at = |second: i64| Now {
            mono: MonoInstant::from_nanos(second * 1_000_000_000),
            wall: WallInstant::from_unix_ns(second * 1_000_000_000),
        };
        let needs = Needs {
            served: true,
            used: true,
            ..Needs::default()
        };
        let mut hourly = Hourly::new(at(10).mono);
        assert!(!hourly.is_due(at(3609).mono) && hourly.is_due(at(3610).mono));
        for (second, requests, expected) in [(3610, 5, 5), (7210, 12, 7)] {
            let counts = vec![("basic", requests), ("limited", 1)];
            let entries = hourly.entries(at(second), needs, counts);
            let What::Served(served) = entries[0].what else {
                panic!("{entries:?}");
            };
            assert_eq!(served.processed, expected);
            assert_eq!(served.limited, u64::from(second == 3610));
            assert_eq!(served.period, HOUR);
            let What::Used(used) = entries[1].what else {
                panic!("{entries:?}");
            };
            assert!(used.maxrss_kib > 0 && used.cpu_s[0] >= 0.0, "{used:?}");
        }
    }

    #[test]
    fn an_hour_that_nobody_asked_about_is_not_added_to_the_next() {
        let now = Now {
            mono: MonoInstant::ZERO,
            wall: WallInstant::from_unix_ns(0),
        };
        let mut hourly = Hourly::new(now.mono);
        assert!(hourly.entries(now, Needs::default(), Vec::new()).is_empty());
        assert!(hourly.used.counts[0] > 0, "{:?}", hourly.used);
    }
}

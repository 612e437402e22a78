//! When requests are meant to leave. In an open loop that is fixed before the first
//! one does: an answer's delay counts from there, so that a server that stalls, and
//! with it whoever waits for it, can't hide the requests it kept from being sent
//! (coordinated omission).

use std::num::NonZeroU32;

/// Requests that were meant to leave before the end and are late may still leave so
/// long after it.
pub const GRACE_NS: i64 = 50_000_000;

/// How fast to ask.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Pace {
    /// So many a second, whatever comes back.
    Open {
        /// Requests a second, above zero.
        rate: f64,
    },
    /// A new one for each answer, so many under way at all times.
    Closed {
        /// Requests under way.
        outstanding: u32,
    },
}

/// A pace from a start to an end, on the monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    pace: Pace,
    /// So many leave together.
    burst: u64,
    start_ns: i64,
    length_ns: i64,
}

impl Schedule {
    /// From `start_ns` on for `length_ns`.
    pub fn new(pace: Pace, start_ns: i64, length_ns: i64) -> Self {
        Self {
            pace,
            burst: 1,
            start_ns,
            length_ns,
        }
    }

    /// The same on average, but `burst` at a time.
    pub fn in_bursts(self, burst: NonZeroU32) -> Self {
        Self {
            burst: u64::from(burst.get()),
            ..self
        }
    }

    /// When request `n` of an open loop is meant to leave, before it is too late for it.
    fn intended_ns(&self, n: u64, rate: f64) -> i64 {
        let first = n - n % self.burst;
        self.start_ns + (first as f64 / rate * 1e9) as i64
    }

    /// When request `n` (from 0) is meant to leave, where `in_flight` are under way;
    /// `None` if it is not due at `now_ns`, or never because time is up.
    pub fn due(&self, n: u64, in_flight: u64, now_ns: i64) -> Option<i64> {
        match self.pace {
            Pace::Open { rate } => {
                let at_ns = self.intended_ns(n, rate);
                let last_ns = self.end_ns() + GRACE_NS;
                (at_ns <= now_ns && at_ns < self.end_ns() && now_ns < last_ns).then_some(at_ns)
            }
            Pace::Closed { outstanding } => {
                let running = (self.start_ns..self.end_ns()).contains(&now_ns);
                // A burst begins when there is room for all of it.
                let burst = self.burst.min(u64::from(outstanding));
                let needed = burst - n % burst;
                (running && in_flight + needed <= u64::from(outstanding)).then_some(now_ns)
            }
        }
    }

    /// When request `n` will be due, or the end, whichever comes first; in a closed
    /// loop the end, as answers and not time make requests due.
    pub fn next_ns(&self, n: u64) -> i64 {
        match self.pace {
            Pace::Open { rate } => self.intended_ns(n, rate).min(self.end_ns()),
            Pace::Closed { .. } => self.end_ns(),
        }
    }

    /// From one burst to the next; in a closed loop nobody knows.
    pub fn gap_ns(&self) -> i64 {
        match self.pace {
            Pace::Open { rate } => (self.burst as f64 / rate * 1e9) as i64,
            Pace::Closed { .. } => i64::MAX,
        }
    }

    /// Is it time that makes requests due?
    pub fn is_open(&self) -> bool {
        matches!(self.pace, Pace::Open { .. })
    }

    /// No more requests from now on, `n` of which there were.
    pub fn is_over(&self, n: u64, now_ns: i64) -> bool {
        let all = self.meant_by(self.end_ns()).is_none_or(|meant| n >= meant);
        now_ns >= self.end_ns() && (all || now_ns >= self.end_ns() + GRACE_NS)
    }

    /// How long was really sent, where it was over at `now_ns` with `n` requests.
    pub fn spent_ns(&self, n: u64, now_ns: i64) -> i64 {
        let late = self.meant_by(self.end_ns()).is_some_and(|meant| n < meant);
        let grace_ns = if late { GRACE_NS } else { 0 };
        (now_ns - self.start_ns).clamp(1, self.length_ns + grace_ns)
    }

    /// The start.
    pub fn start_ns(&self) -> i64 {
        self.start_ns
    }

    /// How long it lasts.
    pub fn length_ns(&self) -> i64 {
        self.length_ns
    }

    /// The end.
    pub fn end_ns(&self) -> i64 {
        self.start_ns + self.length_ns
    }

    /// How many requests are meant to leave by `now_ns`; in a closed loop nobody knows.
    pub fn meant_by(&self, now_ns: i64) -> Option<u64> {
        match self.pace {
            Pace::Open { rate } => {
                let passed_ns = (now_ns - self.start_ns).clamp(0, self.length_ns);
                let bursts = passed_ns as f64 * 1e-9 * rate / self.burst as f64;
                let mut meant = bursts.ceil() as u64 * self.burst;
                // Rounding must not add one that is never due.
                while meant >= self.burst
                    && self.intended_ns(meant - self.burst, rate) >= self.start_ns + passed_ns
                {
                    meant -= self.burst;
                }
                Some(meant)
            }
            Pace::Closed { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bursts_leave_together() {
        let three = NonZeroU32::new(3).expect("three");
        let open = Schedule::new(Pace::Open { rate: 1000.0 }, 0, 10_000_000).in_bursts(three);
        assert_eq!(open.due(2, 0, 0), Some(0));
        assert_eq!(open.due(3, 0, 2_999_999), None);
        assert_eq!(open.due(5, 0, 3_000_000), Some(3_000_000));
        assert_eq!(open.next_ns(4), 3_000_000);
        assert_eq!(open.gap_ns(), 3_000_000);
        assert_eq!(open.meant_by(10_000_000), Some(12));
        let closed = Schedule::new(Pace::Closed { outstanding: 4 }, 0, 10_000_000).in_bursts(three);
        assert_eq!(closed.due(0, 1, 5), Some(5));
        assert_eq!(closed.due(0, 2, 5), None);
        assert_eq!(closed.due(2, 3, 5), Some(5));
    }

    #[test]
    fn an_open_loop_does_not_wait_for_anybody() {
        let schedule = Schedule::new(Pace::Open { rate: 1000.0 }, 500, 1_000_000_000);
        assert_eq!(schedule.due(0, 0, 499), None);
        assert_eq!(schedule.due(0, 0, 500), Some(500));
        // Late, and with much under way: meant to leave when it was meant to leave.
        assert_eq!(schedule.due(3, 9_999, 70_000_000), Some(3_000_500));
        assert_eq!(schedule.due(1000, 0, 1_000_000_499), None);
        // Late ones may leave for a moment after the end.
        assert_eq!(schedule.due(999, 0, 1_000_000_500), Some(999_000_500));
        assert!(!schedule.is_over(999, 1_000_000_500));
        assert!(schedule.is_over(1000, 1_000_000_500));
        assert!(schedule.is_over(999, 1_100_000_500));
        assert_eq!(schedule.due(999, 0, 1_100_000_500), None);
        assert_eq!(schedule.meant_by(i64::MAX / 2), Some(1000));
    }

    #[test]
    fn a_closed_loop_has_so_many_under_way() {
        let schedule = Schedule::new(Pace::Closed { outstanding: 2 }, 0, 1_000);
        assert_eq!(schedule.due(0, 0, 10), Some(10));
        assert_eq!(schedule.due(1, 2, 10), None);
        assert_eq!(schedule.due(1, 1, 11), Some(11));
        assert_eq!(schedule.due(1, 1, 1_000), None);
    }
}

//! When requests are meant to leave. In an open loop that is fixed before the first
//! one does: an answer's delay counts from there, so that a server that stalls, and
//! with it whoever waits for it, can't hide the requests it kept from being sent
//! (coordinated omission).

/// Requests that were meant to leave before the end and are late may still leave so
/// long after it.
const GRACE_NS: i64 = 50_000_000;

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
    start_ns: i64,
    length_ns: i64,
}

impl Schedule {
    /// From `start_ns` on for `length_ns`.
    pub fn new(pace: Pace, start_ns: i64, length_ns: i64) -> Self {
        Self {
            pace,
            start_ns,
            length_ns,
        }
    }

    /// When request `n` (from 0) is meant to leave, where `in_flight` are under way;
    /// `None` if it is not due at `now_ns`, or never because time is up.
    pub fn due(&self, n: u64, in_flight: u64, now_ns: i64) -> Option<i64> {
        match self.pace {
            Pace::Open { rate } => {
                let at_ns = self.start_ns + (n as f64 / rate * 1e9) as i64;
                let last_ns = self.end_ns() + GRACE_NS;
                (at_ns <= now_ns && at_ns < self.end_ns() && now_ns < last_ns).then_some(at_ns)
            }
            Pace::Closed { outstanding } => {
                let running = (self.start_ns..self.end_ns()).contains(&now_ns);
                (running && in_flight < u64::from(outstanding)).then_some(now_ns)
            }
        }
    }

    /// When request `n` will be due, or the end, whichever comes first; in a closed
    /// loop the end, as answers and not time make requests due.
    pub fn next_ns(&self, n: u64) -> i64 {
        match self.pace {
            Pace::Open { rate } => {
                (self.start_ns + (n as f64 / rate * 1e9) as i64).min(self.end_ns())
            }
            Pace::Closed { .. } => self.end_ns(),
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
                Some((passed_ns as f64 * 1e-9 * rate).ceil() as u64)
            }
            Pace::Closed { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

//! How long to wait for a departure stamp that a card has yet to hand over. Some need
//! microseconds, some many milliseconds; some lose one now and then, and some never
//! give any.

use crate::time::duration::NtpDuration;

/// The longest wait. Whoever needs more is as good as silent.
const WAIT_MAX: NtpDuration = NtpDuration::from_units(1 << 29); // 125 ms
/// Missing in a row before a card counts as silent, and is not waited for longer than
/// at first.
const MISSES_MAX: u32 = 8;
/// The wait is so many times the usual latency.
const MARGIN: i64 = 4;

/// A card's usual latency, as far as it is known.
#[derive(Clone, Debug)]
pub struct DepartureWait {
    first: NtpDuration,
    length: NtpDuration,
    misses: u32,
}

impl DepartureWait {
    /// Waits for `first` (`hwtstimeout`) as long as nothing is known.
    pub fn new(first: NtpDuration) -> Self {
        Self {
            first,
            length: first,
            misses: 0,
        }
    }

    /// How long to wait now.
    pub fn length(&self) -> NtpDuration {
        self.length
    }

    /// A stamp came, so long after the packet was sent.
    pub fn came(&mut self, latency: NtpDuration) {
        self.misses = 0;
        // Long waits are forgotten slowly, so that one late stamp in a hundred is still
        // waited for.
        let faded = self.length
            + -(self.length + -self.first)
                .half()
                .half()
                .half()
                .half()
                .half();
        let wanted = NtpDuration::from_units(latency.units().saturating_mul(MARGIN));
        self.length = wanted
            .max(faded)
            .max(self.first)
            .min(WAIT_MAX.max(self.first));
    }

    /// None came in time. True for the miss that makes the card a silent one.
    pub fn missed(&mut self) -> bool {
        self.misses = self.misses.saturating_add(1);
        if self.misses >= MISSES_MAX {
            self.length = self.first;
            return self.misses == MISSES_MAX;
        }
        self.length = (self.length + self.length).min(WAIT_MAX.max(self.first));
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: i64) -> NtpDuration {
        NtpDuration::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn a_slow_card_is_waited_for_and_a_quick_one_is_not() {
        let mut wait = DepartureWait::new(ms(1));
        for _ in 0..4 {
            assert!(!wait.missed());
        }
        // Doubled four times. Durations are rounded to binary fractions.
        let off = wait.length() - ms(16);
        assert!(off.abs() < NtpDuration::from_nanos(1_000), "{off:?}");
        wait.came(ms(10));
        assert_eq!(wait.length(), NtpDuration::from_units(ms(10).units() * 4));
        for _ in 0..300 {
            wait.came(NtpDuration::from_nanos(20_000));
        }
        let over = wait.length() - ms(1);
        assert!(over < ms(1), "{over:?}");
    }

    #[test]
    fn a_silent_card_is_told_of_once_and_costs_no_more_than_at_first() {
        let mut wait = DepartureWait::new(ms(1));
        let told = (0..100).filter(|_| wait.missed()).count();
        assert_eq!((told, wait.length()), (1, ms(1)));
        wait.came(ms(1));
        assert!((0..100).any(|_| wait.missed()), "told again after it spoke");
    }
}

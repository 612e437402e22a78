//! How long after its clock reading a reply leaves: learned from the kernel's departure
//! stamps of a few replies, so that the transmit stamps of the others can be of the
//! moment at which they will be gone.

use crate::time::duration::NtpDuration;
use crate::time::instant::WallInstant;

/// One reply in so many has its departure looked at.
const REPLIES_PER_SAMPLE: u32 = 256;
/// Each sample moves the estimate by one part in so many.
const MEMORY: i64 = 16;
/// What a sample beyond twice the estimate may still add: a worker that was
/// interrupted while it sent tells nothing of those that are not.
const SURPRISE_MAX_NS: i64 = 5_000;
/// A reply that took longer waited in a queue of its interface, which says nothing of
/// replies that leave by another, or when it is empty again.
const LEAD_MAX_NS: i64 = 50_000;

/// See the top of the file.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Pace {
    lead_ns: i64,
    replies: u32,
}

impl Pace {
    /// When a reply that is stamped `now` will have left.
    pub(super) fn gone(&self, now: WallInstant) -> WallInstant {
        WallInstant::from_unix_ns(now.unix_ns().saturating_add(self.lead_ns))
    }

    /// Should the departure of the next reply be looked at?
    pub(super) fn is_sample(&mut self) -> bool {
        self.replies = self.replies.wrapping_add(1);
        self.replies.is_multiple_of(REPLIES_PER_SAMPLE)
    }

    /// A reply left so long after it was stamped.
    pub(super) fn learn(&mut self, took: NtpDuration) {
        let took_ns = took.as_nanos();
        if took_ns <= LEAD_MAX_NS {
            let took_ns = took_ns.clamp(0, 2 * self.lead_ns + SURPRISE_MAX_NS);
            self.lead_ns += (took_ns - self.lead_ns) / MEMORY;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lead_ns(pace: &Pace) -> i64 {
        pace.gone(WallInstant::default()).unix_ns()
    }

    #[test]
    fn the_lead_is_found_and_kept_through_interruptions() {
        let mut pace = Pace::default();
        let mut samples = 0;
        for reply in 0..20_000 {
            if pace.is_sample() {
                samples += 1;
                let interrupted_ns = if reply % 7 == 0 { 1_000_000 } else { 0 };
                pace.learn(NtpDuration::from_nanos(4_000 + interrupted_ns));
            }
        }
        assert_eq!(samples, 20_000 / REPLIES_PER_SAMPLE);
        assert!((3_900..=4_000).contains(&lead_ns(&pace)));
    }

    #[test]
    fn a_queue_is_not_taken_for_the_pace() {
        let mut pace = Pace::default();
        for round in 0..10_000 {
            pace.learn(NtpDuration::from_nanos(10_000 + round * 1_000));
        }
        assert!(lead_ns(&pace) <= LEAD_MAX_NS);
    }
}

//! How long after its batch was stamped a reply leaves: learned from the kernel's
//! departure stamps of a few replies, so that the transmit stamps of a batch can be
//! those of its packets. Taken for the whole batch, they are early by what it takes
//! to send each reply that goes before.

use crate::time::duration::NtpDuration;

/// One batch in so many has a reply whose departure is looked at.
const BATCHES_PER_SAMPLE: u32 = 64;
/// Each sample moves the estimate by one part in so many.
const MEMORY: i64 = 16;
/// What a sample beyond twice the estimate may still add: a worker that was
/// interrupted while it sent tells nothing of those that are not.
const SURPRISE_MAX_NS: i64 = 5_000;
/// A reply that took longer waited in a queue of its interface, which says nothing of
/// replies that leave by another, or when it is empty again.
const HEAD_MAX_NS: i64 = 50_000;
/// And so much more for each reply before it.
const STEP_MAX_NS: i64 = 20_000;

/// The reply at position n of a batch leaves `head + n * step` after the stamp.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Pace {
    head_ns: i64,
    step_ns: i64,
    batches: u32,
}

impl Pace {
    /// From the stamp to the departure.
    pub(super) fn lead(&self, position: usize) -> NtpDuration {
        NtpDuration::from_nanos(self.lead_ns(position))
    }

    fn lead_ns(&self, position: usize) -> i64 {
        self.head_ns + position as i64 * self.step_ns
    }

    /// Begins a batch of `len` replies: the position of one that should be looked at,
    /// if any should.
    pub(super) fn sample(&mut self, len: usize) -> Option<usize> {
        self.batches = self.batches.wrapping_add(1);
        if !self.batches.is_multiple_of(BATCHES_PER_SAMPLE) {
            return None;
        }
        // The first and the last in turn.
        let turn = self.batches / BATCHES_PER_SAMPLE;
        Some(if turn.is_multiple_of(2) {
            0
        } else {
            len.saturating_sub(1)
        })
    }

    /// The reply at `position` left so long after its batch was stamped.
    pub(super) fn learn(&mut self, position: usize, took: NtpDuration) {
        let took_ns = took.as_nanos();
        if took_ns > HEAD_MAX_NS + STEP_MAX_NS * position as i64 {
            return;
        }
        let most_ns = 2 * self.lead_ns(position) + SURPRISE_MAX_NS;
        let took_ns = took_ns.clamp(0, most_ns);
        match position as i64 {
            0 => self.head_ns += (took_ns - self.head_ns) / MEMORY,
            position => {
                let step_ns = ((took_ns - self.head_ns) / position).clamp(0, STEP_MAX_NS);
                self.step_ns += (step_ns - self.step_ns) / MEMORY;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_of_batches_is_found_and_kept_through_interruptions() {
        let mut pace = Pace::default();
        let departs = |position: usize| 4_000 + 3_000 * position as i64;
        let mut samples = 0;
        for batch in 0..20_000 {
            if let Some(position) = pace.sample(16) {
                samples += 1;
                let interrupted = if batch % 7 == 0 { 1_000_000 } else { 0 };
                let took = NtpDuration::from_nanos(departs(position) + interrupted);
                pace.learn(position, took);
            }
        }
        assert_eq!(samples, 20_000 / BATCHES_PER_SAMPLE);
        for position in [0, 1, 15] {
            let error_ns = pace.lead(position).as_nanos() - departs(position);
            assert!(
                error_ns.abs() < departs(position) / 2,
                "{position} {error_ns}"
            );
        }
    }

    #[test]
    fn a_queue_is_not_taken_for_the_pace() {
        let mut pace = Pace::default();
        for round in 0..10_000 {
            let queued_ns = 10_000 + round * 1_000;
            pace.learn(round as usize % 4, NtpDuration::from_nanos(queued_ns));
        }
        assert!(pace.lead(0) <= NtpDuration::from_nanos(HEAD_MAX_NS));
        assert!(pace.lead(7) <= NtpDuration::from_nanos(HEAD_MAX_NS + 7 * STEP_MAX_NS));
    }

    #[test]
    fn one_reply_at_a_time_has_a_head_alone() {
        let mut pace = Pace::default();
        for _ in 0..100 * BATCHES_PER_SAMPLE {
            if let Some(position) = pace.sample(1) {
                pace.learn(position, NtpDuration::from_nanos(6_000));
            }
        }
        assert!((5_900..=6_000).contains(&pace.lead(0).as_nanos()));
        assert_eq!(pace.lead(9), pace.lead(0));
    }
}

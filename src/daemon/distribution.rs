//! How often a duration was how long: an hdrhistogram whose memory is fixed,
//! plus the exact sum that Prometheus wants.

use hdrhistogram::Histogram;

use crate::time::duration::NtpDuration;

/// Two significant digits: any value is known to 1 %, and the whole stays a few
/// tens of kilobytes, small enough to be copied once a second.
const SIGNIFICANT_DIGITS: u8 = 2;
/// Longer is counted as this long: 100 s.
const LONGEST_NS: u64 = 100_000_000_000;

/// Magnitudes of durations, 1 ns to 100 s, each known to within 1 %.
#[derive(Clone, Debug)]
pub struct Distribution {
    histogram: Histogram<u64>,
    sum_ns: u128,
}

impl Default for Distribution {
    fn default() -> Self {
        Self::new()
    }
}

impl Distribution {
    /// Nothing recorded yet. All memory it will ever need is taken here.
    pub fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, LONGEST_NS, SIGNIFICANT_DIGITS)
            .expect("the bounds are constants that hdrhistogram accepts");
        Self {
            histogram,
            sum_ns: 0,
        }
    }

    /// What was counted elsewhere: nanoseconds and how often, with their exact sum.
    pub fn from_counts(counts: impl IntoIterator<Item = (u64, u64)>, sum_ns: u64) -> Self {
        let mut distribution = Self::new();
        for (ns, times) in counts.into_iter().filter(|&(_, times)| times > 0) {
            distribution.histogram.saturating_record_n(ns, times);
        }
        distribution.sum_ns = u128::from(sum_ns);
        distribution
    }

    /// Counts |`duration`| once.
    pub fn record(&mut self, duration: NtpDuration) {
        self.record_ns(duration.as_nanos().unsigned_abs(), 1);
    }

    /// Counts `ns` nanoseconds `times` times.
    pub fn record_ns(&mut self, ns: u64, times: u64) {
        self.histogram.saturating_record_n(ns, times);
        self.sum_ns += u128::from(ns) * u128::from(times);
    }

    /// How many durations were counted.
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// The exact sum of all of them, in seconds.
    pub fn sum_s(&self) -> f64 {
        self.sum_ns as f64 * 1e-9
    }

    /// The duration that a share `quantile` (0 to 1) of all did not exceed, in
    /// seconds, rounded up by up to 1 %; none when nothing was counted.
    pub fn quantile_s(&self, quantile: f64) -> Option<f64> {
        (!self.histogram.is_empty())
            .then(|| self.histogram.value_at_quantile(quantile) as f64 * 1e-9)
    }

    /// How many were at most as long as each of `edges_ns`, which must ascend.
    /// A duration less than 1 % below an edge may be counted as above it, never
    /// the other way round: what these counts promise is kept.
    pub fn cumulative(&self, edges_ns: &[u64]) -> Vec<u64> {
        let mut counts = vec![0; edges_ns.len()];
        for bucket in self.histogram.iter_recorded() {
            let highest = self
                .histogram
                .highest_equivalent(bucket.value_iterated_to());
            let edge = edges_ns.partition_point(|&edge| edge < highest);
            if let Some(count) = counts.get_mut(edge) {
                *count += bucket.count_at_value();
            }
        }
        let mut total = 0;
        for count in &mut counts {
            total += *count;
            *count = total;
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_cumulative_and_never_flatter() {
        let mut distribution = Distribution::new();
        for ns in [900, 5_000, 150_000, 2_000_000_000] {
            distribution.record(NtpDuration::from_nanos(-ns));
        }
        let edges = [1_000, 10_000, 100_000, 1_000_000_000];
        assert_eq!(distribution.cumulative(&edges), [1, 2, 2, 3]);
        assert_eq!(distribution.count(), 4);
        assert!((distribution.sum_s() - 2.0001559).abs() < 1e-9);
        for edge in (1_000..200_000).step_by(777) {
            let within = distribution.cumulative(&[edge])[0];
            assert!(within <= [900, 5_000, 150_000].iter().filter(|&&v| v <= edge).count() as u64);
        }
    }

    #[test]
    fn what_was_counted_elsewhere_keeps_its_counts_and_its_sum() {
        let distribution = Distribution::from_counts([(1, 0), (20_000, 5), (1 << 39, 1)], 123);
        assert_eq!(distribution.count(), 6);
        assert_eq!(distribution.cumulative(&[10_000, 50_000]), [0, 5]);
        assert!((distribution.sum_s() - 123e-9).abs() < 1e-15);
    }

    #[test]
    fn too_long_is_counted_as_longest() {
        let mut distribution = Distribution::new();
        assert_eq!(distribution.quantile_s(0.5), None);
        distribution.record(NtpDuration::MAX);
        assert_eq!(distribution.count(), 1);
        assert!(distribution.quantile_s(0.5).unwrap() >= 100.0);
        distribution.record_ns(1_000_000, 9);
        assert_eq!(distribution.count(), 10);
        assert!((distribution.quantile_s(0.5).unwrap() / 1e-3 - 1.0).abs() < 0.01);
    }
}

//! The survivors' estimates made into one (RFC 5905 section 11.2.3). A departure:
//! the RFC weights by 1/Λ, so a source that is wrong by less than its root
//! distance pulls the clock with nearly full weight. Here each counts by its
//! variance, and by less the farther it stands from the weighted median.

use crate::mechanisms::{Mechanism, Mechanisms};
use crate::sync::filter::Estimate;
use crate::sync::holdover::Holdover;
use crate::sync::select::{Candidate, Selection};
use crate::time::duration::NtpDuration;
use crate::time::instant::MonoInstant;
use crate::time::units::Ppm;
use crate::wire::packet::Leap;

/// Part of half the round trip by which a path's two ways are taken to differ, one
/// sigma, unless the sources agree better than that. No statistics of one source can
/// see it, so near sources count more than far ones.
const ASYMMETRY_SHARE: f64 = 0.05;

/// From this many sigma off the median on, a source loses weight.
const DOUBT_SIGMAS: f64 = 2.0;

/// The most weight that one has in the median, in units of all the others' together.
const VOTE_MAX: f64 = 0.96;

/// Half of all normal values lie within one sigma divided by this of the median.
const SIGMA_PER_DEVIATION: f64 = 1.4826;

/// What all survivors together say about our clock.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Combined {
    /// The moment.
    pub at: MonoInstant,
    /// Θ: true time minus local clock; positive: we are behind.
    pub offset: NtpDuration,
    /// Statistical error of `offset`, one sigma.
    pub offset_sigma: NtpDuration,
    /// The correction that nulls our clock's own frequency error.
    pub frequency: Ppm,
    /// How fast that changes: a ratio per second.
    pub drift: f64,
    /// What the oscillator may do from here on, the error of `frequency` included.
    pub holdover: Holdover,
    /// ψ of the system peer and of the survivors about Θ, RMS together.
    pub jitter: NtpDuration,
    /// |true error| of the clock as it stands, `offset` included, unless every
    /// survivor lies. Never below half the smallest delay of the best of them.
    pub error_bound: NtpDuration,
    /// The same for symmetric paths.
    pub error_likely: NtpDuration,
    /// Δ to the primary reference by way of the system peer.
    pub root_delay: NtpDuration,
    /// Ε to the primary reference by way of the system peer, `offset` included: with
    /// half of `root_delay` it makes up `error_bound`.
    pub root_dispersion: NtpDuration,
    /// Stratum of the system peer.
    pub stratum: u8,
    /// What more than half of the survivors say of a leap second.
    pub leap: Leap,
    /// Samples that the system peer's estimate rests on.
    pub samples: u32,
}

/// Combines the survivors of `selection`; none if there are none.
pub fn combine(
    candidates: &[Candidate],
    selection: &Selection,
    mechanisms: Mechanisms,
) -> Option<Combined> {
    let survivors: Vec<&Estimate> = selection
        .survivors
        .iter()
        .filter_map(|&index| candidates.get(index)?.estimate.as_ref())
        .collect();
    // The selection puts the system peer first.
    let system = *survivors.first()?;

    let variances_s2 = variances_s2(&survivors);
    let mut weights: Vec<f64> = variances_s2.iter().map(|v| 1.0 / v).collect();
    if mechanisms.have(Mechanism::RobustCombination) {
        doubt(&survivors, &mut weights);
    }
    let total: f64 = weights.iter().sum();
    let mean = |of: &dyn Fn(&Estimate) -> f64, weights: &[f64]| -> f64 {
        let sum: f64 = survivors.iter().zip(weights).map(|(e, w)| of(e) * w).sum();
        sum / weights.iter().sum::<f64>()
    };
    let offset_s = mean(&|e| e.offset.as_seconds(), &weights);
    let offset_var_s2: f64 = survivors
        .iter()
        .zip(&weights)
        .map(|(e, w)| (w / total * e.offset_sigma.as_seconds()).powi(2))
        .sum();

    // All of them watch the same oscillator: its frequency needs no allowance for
    // asymmetry, only the doubt in those that stand apart.
    let frequency_weights: Vec<f64> = survivors
        .iter()
        .zip(weights.iter().zip(&variances_s2))
        .map(|(e, (weight, variance_s2))| weight * variance_s2 / frequency_var(e))
        .collect();
    let frequency_sigma = (1.0 / frequency_weights.iter().sum::<f64>()).sqrt();
    // The system peer's view of the oscillator's habits, and what all know of its
    // frequency, which no one of them can know worse.
    let holdover = Holdover {
        frequency_sigma: Ppm::from_ratio(
            frequency_sigma.min(system.holdover.frequency_sigma.ratio()),
        ),
        ..system.holdover
    };

    let scatter_s2 = mean(
        &|e| (e.offset.as_seconds() - offset_s).powi(2),
        &vec![1.0; survivors.len()],
    );
    let jitter_s = (scatter_s2 + system.jitter.as_seconds().powi(2)).sqrt();

    let offset = NtpDuration::from_seconds(offset_s);
    let offset_sigma = NtpDuration::from_seconds(offset_var_s2.sqrt());
    // One honest survivor is enough to keep the promise, whichever it is; and where the
    // majority can be taken in two ways, either. Of the clock as it stands, and once the
    // offset is corrected.
    let farther = |place: NtpDuration| place.abs().max((place - offset).abs());
    let agreed = selection.agreed.unwrap_or_default();
    let error_bound = survivors
        .iter()
        .map(|e| farther(e.offset) + e.root_distance())
        .chain([farther(agreed.0), farther(agreed.1)])
        .max()?;
    let root_delay = system.root_delay + system.delay_min;
    // Symmetric paths, and whoever has the most weight speaks the truth.
    let likely = survivors
        .iter()
        .zip(&weights)
        .max_by(|a, b| a.1.total_cmp(b.1))
        .map(|(e, _)| e.offset_likely + e.root_dispersion)?;
    Some(Combined {
        at: system.at,
        offset,
        offset_sigma,
        frequency: Ppm::from_ratio(mean(&|e| e.frequency.ratio(), &frequency_weights)),
        drift: mean(&|e| e.drift, &frequency_weights),
        holdover,
        jitter: NtpDuration::from_seconds(jitter_s),
        error_bound,
        error_likely: (offset.abs() + likely).min(error_bound),
        root_delay,
        root_dispersion: error_bound - root_delay.half(),
        stratum: system.stratum,
        leap: leap_vote(&survivors),
        samples: system.samples,
    })
}

/// Statistical variance of each, and an allowance for what symmetry cannot promise:
/// part of the round trip, but no more than what three or more are seen to differ by.
fn variances_s2(survivors: &[&Estimate]) -> Vec<f64> {
    let agreed_s = if survivors.len() < 3 {
        f64::MAX
    } else {
        let offsets_s = || survivors.iter().map(|e| e.offset.as_seconds());
        let middle_s = median(offsets_s());
        SIGMA_PER_DEVIATION * median(offsets_s().map(|offset_s| (offset_s - middle_s).abs()))
    };
    survivors
        .iter()
        .map(|e| {
            let half_trip_s = (e.delay_min + e.root_delay).half().as_seconds();
            let asymmetry_s = (ASYMMETRY_SHARE * half_trip_s).min(agreed_s);
            // Nothing is better known than a nanosecond; keeps weights finite.
            e.offset_sigma.as_seconds().powi(2) + asymmetry_s.powi(2) + 1e-18
        })
        .collect()
}

fn frequency_var(estimate: &Estimate) -> f64 {
    estimate.holdover.frequency_sigma.ratio().powi(2) + 1e-24
}

/// Lowers the weight, 1/variance, of those far from the weighted median. With two
/// there is no telling who is wrong.
fn doubt(survivors: &[&Estimate], weights: &mut [f64]) {
    if survivors.len() < 3 {
        return;
    }
    let offsets_s = survivors.iter().map(|e| e.offset.as_seconds());
    let total: f64 = weights.iter().sum();
    // Who was heard last knows best for a moment, and must not be the median by that.
    let votes = weights.iter().map(|w| w.min(VOTE_MAX * (total - w)));
    let mut weighted: Vec<(f64, f64)> = offsets_s.zip(votes).collect();
    let median_s = weighted_median(&mut weighted);
    for (e, weight) in survivors.iter().zip(weights) {
        let off_sigmas = (e.offset.as_seconds() - median_s).abs() * weight.sqrt();
        *weight *= (DOUBT_SIGMAS / off_sigmas.max(DOUBT_SIGMAS)).powi(2);
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    weighted_median(&mut values.map(|value| (value, 1.0)).collect::<Vec<_>>())
}

/// The value at which half of the weight lies on either side; sorts `weighted`.
fn weighted_median(weighted: &mut [(f64, f64)]) -> f64 {
    weighted.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let half = weighted.iter().map(|&(_, weight)| weight).sum::<f64>() / 2.0;
    let mut passed = 0.0;
    for pair in weighted.windows(2) {
        passed += pair[0].1;
        if passed > half {
            return pair[0].0;
        }
        if passed == half {
            return (pair[0].0 + pair[1].0) / 2.0;
        }
    }
    weighted.last().map_or(0.0, |&(value, _)| value)
}

/// A leap second is too rare to take one server's word for it.
fn leap_vote(survivors: &[&Estimate]) -> Leap {
    let majority = |leap| survivors.iter().filter(|e| e.leap == leap).count() * 2 > survivors.len();
    [Leap::Insert, Leap::Delete]
        .into_iter()
        .find(|&leap| majority(leap))
        .unwrap_or(Leap::None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::holdover::PROMISE_SIGMAS;
    use crate::sync::select::Tally;
    use crate::time::stamp::StampOrigin;
    use crate::wire::refid::RefId;

    fn estimate(offset_s: f64, sigma_s: f64, delay_s: f64) -> Estimate {
        Estimate {
            at: MonoInstant::ZERO,
            offset: NtpDuration::from_seconds(offset_s),
            offset_sigma: NtpDuration::from_seconds(sigma_s),
            offset_likely: NtpDuration::from_seconds(sigma_s * PROMISE_SIGMAS),
            frequency: Ppm(offset_s * 1e3),
            drift: 0.0,
            holdover: Holdover {
                frequency_sigma: Ppm(sigma_s * 1e3),
                ..Holdover::default()
            },
            delay_min: NtpDuration::from_seconds(delay_s),
            delay: NtpDuration::from_seconds(delay_s),
            jitter: NtpDuration::from_seconds(sigma_s),
            dispersion: NtpDuration::from_seconds(sigma_s * PROMISE_SIGMAS),
            root_delay: NtpDuration::ZERO,
            root_dispersion: NtpDuration::ZERO,
            stratum: 1,
            leap: Leap::None,
            refid: RefId::INIT,
            origin: StampOrigin::Kernel,
            interleaved: false,
            samples: 8,
            last: MonoInstant::ZERO,
        }
    }

    fn combined(estimates: &[Estimate]) -> Option<Combined> {
        let candidates: Vec<Candidate> = estimates
            .iter()
            .map(|&estimate| Candidate {
                estimate: Some(estimate),
                fit: true,
                prefer: false,
                noselect: false,
            })
            .collect();
        let selection = Selection {
            tallies: vec![Tally::Candidate; estimates.len()],
            system: Some(0),
            survivors: (0..estimates.len()).collect(),
            agreed: None,
        };
        combine(&candidates, &selection, Mechanisms::default())
    }

    #[test]
    fn nobody_says_nothing_and_one_is_taken_at_its_word() {
        assert_eq!(combined(&[]), None);
        let one = estimate(0.001, 1e-5, 0.01);
        let all = combined(&[one]).expect("one");
        assert_eq!(
            (all.offset, all.offset_sigma),
            (one.offset, one.offset_sigma)
        );
        assert!((all.frequency - one.frequency).abs() < Ppm(1e-9));
        // What is left to correct, half the round trip, and the noise.
        let bound_s = all.error_bound.as_seconds();
        assert!((bound_s - 0.00604).abs() < 1e-6, "{bound_s}");
        assert!(all.error_likely < all.error_bound);
    }

    #[test]
    fn the_near_count_more_than_the_far() {
        let all = combined(&[estimate(0.0, 1e-6, 2e-4), estimate(0.001, 1e-6, 0.04)]);
        let offset = all.expect("two").offset;
        assert!(offset < NtpDuration::from_seconds(1e-6), "{offset}");
    }

    #[test]
    fn one_that_stands_apart_hardly_pulls() {
        let good = |offset_s| estimate(offset_s, 1e-4, 0.002);
        let all = combined(&[good(0.005), good(0.00001), good(-0.00001), good(0.0)]);
        let offset = all.expect("four").offset;
        assert!(offset.abs() < NtpDuration::from_seconds(20e-6), "{offset}");
    }

    #[test]
    fn the_bound_holds_whoever_is_honest() {
        let (a, b) = (estimate(0.0, 1e-6, 0.002), estimate(0.004, 1e-6, 0.012));
        let all = combined(&[a, b]).expect("two");
        for honest in [a, b] {
            for truth in [
                honest.offset + honest.root_distance(),
                honest.offset - honest.root_distance(),
            ] {
                // Of the clock as it stands, and once the offset is corrected.
                assert!(truth.abs() <= all.error_bound);
                assert!((truth - all.offset).abs() <= all.error_bound);
            }
        }
    }

    #[test]
    fn a_leap_second_takes_a_majority() {
        let quiet = estimate(0.0, 1e-6, 0.002);
        let warned = Estimate {
            leap: Leap::Insert,
            ..quiet
        };
        let leap = |all: &[Estimate]| combined(all).map(|c| c.leap);
        assert_eq!(leap(&[warned, quiet]), Some(Leap::None));
        assert_eq!(leap(&[quiet, warned, warned]), Some(Leap::Insert));
    }
}

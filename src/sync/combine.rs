//! The survivors' estimates made into one (RFC 5905 section 11.2.3). A departure:
//! the RFC weights by 1/Λ, so a source that is wrong by less than its root
//! distance pulls the clock with nearly full weight. Here each counts by its
//! variance, and by less the farther it stands from the weighted median.

use crate::sync::filter::{Estimate, PROMISE_SIGMAS};
use crate::sync::select::{Candidate, Selection};
use crate::time::duration::NtpDuration;
use crate::time::instant::MonoInstant;
use crate::time::units::Ppm;
use crate::wire::packet::Leap;

/// Part of half the round trip by which a path's two ways are taken to differ, one
/// sigma. No statistics can see it, so near sources count more than far ones.
const ASYMMETRY_SHARE: f64 = 0.05;

/// From this many sigma off the median on, a source loses weight.
const DOUBT_SIGMAS: f64 = 2.0;

/// What a fair crystal may change its frequency by between two looks at it
/// (chrony's `maxclockerror`).
const OSCILLATOR_DOUBT: Ppm = Ppm(1.0);

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
    /// Statistical error of `frequency`, one sigma.
    pub frequency_sigma: Ppm,
    /// ψ of the system peer and of the survivors about Θ, RMS together.
    pub jitter: NtpDuration,
    /// |true error| of the clock as it stands, `offset` included, unless every
    /// survivor lies. Never below half the smallest delay of the best of them.
    pub error_bound: NtpDuration,
    /// The same for symmetric paths.
    pub error_likely: NtpDuration,
    /// Δ to the primary reference by way of the system peer.
    pub root_delay: NtpDuration,
    /// Ε to the primary reference by way of the system peer, `offset` included.
    pub root_dispersion: NtpDuration,
    /// How fast dispersion and bounds grow while nothing is heard.
    pub dispersion_rate: Ppm,
    /// Stratum of the system peer.
    pub stratum: u8,
    /// What more than half of the survivors say of a leap second.
    pub leap: Leap,
    /// Samples that the system peer's estimate rests on.
    pub samples: u32,
}

/// Combines the survivors of `selection`; none if there are none.
pub fn combine(candidates: &[Candidate], selection: &Selection) -> Option<Combined> {
    let survivors: Vec<&Estimate> = selection
        .survivors
        .iter()
        .filter_map(|&index| candidates.get(index)?.estimate.as_ref())
        .collect();
    // The selection puts the system peer first.
    let system = *survivors.first()?;

    let weights = robust_weights(&survivors);
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
        .zip(&weights)
        .map(|(e, w)| w * variance_s2(e) / frequency_var(e))
        .collect();
    let frequency_sigma = (1.0 / frequency_weights.iter().sum::<f64>()).sqrt();
    let frequency_sigma = Ppm::from_ratio(frequency_sigma);

    let scatter_s2 = mean(
        &|e| (e.offset.as_seconds() - offset_s).powi(2),
        &vec![1.0; survivors.len()],
    );
    let jitter_s = (scatter_s2 + system.jitter.as_seconds().powi(2)).sqrt();

    let offset = NtpDuration::from_seconds(offset_s);
    let offset_sigma = NtpDuration::from_seconds(offset_var_s2.sqrt());
    // One honest survivor is enough to keep the promise, whichever it is.
    let error_bound = survivors
        .iter()
        .map(|e| e.offset.abs().max((e.offset - offset).abs()) + e.root_distance())
        .max()?
        .max(offset.abs() + system.root_distance());
    Some(Combined {
        at: system.at,
        offset,
        offset_sigma,
        frequency: Ppm::from_ratio(mean(&|e| e.frequency.ratio(), &frequency_weights)),
        frequency_sigma,
        jitter: NtpDuration::from_seconds(jitter_s),
        error_bound,
        error_likely: (offset.abs() + offset_sigma * PROMISE_SIGMAS + system.root_dispersion)
            .min(error_bound),
        root_delay: system.root_delay + system.delay_min,
        root_dispersion: system.root_dispersion
            + system.dispersion
            + NtpDuration::from_seconds(jitter_s)
            + offset.abs(),
        dispersion_rate: Ppm(frequency_sigma.0 * PROMISE_SIGMAS) + OSCILLATOR_DOUBT,
        stratum: system.stratum,
        leap: leap_vote(&survivors),
        samples: system.samples,
    })
}

/// Statistical variance, and an allowance for what symmetry cannot promise.
fn variance_s2(estimate: &Estimate) -> f64 {
    let half_trip_s = (estimate.delay_min + estimate.root_delay)
        .half()
        .as_seconds();
    // Nothing is better known than a nanosecond; keeps weights finite.
    estimate.offset_sigma.as_seconds().powi(2) + (ASYMMETRY_SHARE * half_trip_s).powi(2) + 1e-18
}

fn frequency_var(estimate: &Estimate) -> f64 {
    estimate.frequency_sigma.ratio().powi(2) + 1e-24
}

/// 1/variance, lowered for those far from the weighted median. With two there is
/// no telling who is wrong.
fn robust_weights(survivors: &[&Estimate]) -> Vec<f64> {
    let mut weighted: Vec<(f64, f64)> = survivors
        .iter()
        .map(|e| (e.offset.as_seconds(), 1.0 / variance_s2(e)))
        .collect();
    let plain: Vec<f64> = weighted.iter().map(|&(_, weight)| weight).collect();
    if survivors.len() < 3 {
        return plain;
    }
    let median_s = weighted_median(&mut weighted);
    survivors
        .iter()
        .zip(plain)
        .map(|(e, weight)| {
            let off_sigmas = (e.offset.as_seconds() - median_s).abs() * weight.sqrt();
            weight * (DOUBT_SIGMAS / off_sigmas.max(DOUBT_SIGMAS)).powi(2)
        })
        .collect()
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

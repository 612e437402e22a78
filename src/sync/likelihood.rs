//! What a sample says about a quantity of which so far a normal distribution is
//! known, the prior. A Kalman filter knows one answer, that of a sample with normal
//! noise. Queueing has another: the round trip bounds the error hard and says
//! nothing about where in between it lies. Both come down to three numbers that
//! correct the prior alike, and so does any blend of them.

use libm::erfc;
use std::f64::consts::{FRAC_1_SQRT_2, PI, TAU};

/// Beyond this many sigma the tail of a normal distribution is taken from its
/// asymptotic series; f64 would lose it.
const TAIL_SIGMAS: f64 = 6.0;

/// Beyond this many there is nothing left of it beside what lies within
/// [`TAIL_SIGMAS`], and no need to compute how little.
const NOTHING_SIGMAS: f64 = 9.0;

/// A box narrower than this many sigma of what it is looked at with is as good as
/// a normal distribution of the same variance.
const NARROW_SIGMAS: f64 = 0.05;

/// How well a sample fits a prior, and which way it pulls: ln Z, where Z is the
/// density of the sample under the prior, and its derivatives in the prior's mean.
/// A prior of variance P is corrected by P·slope in the mean and −P²·curvature in
/// the variance.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Evidence {
    /// ln Z, in ln(1/s).
    pub log: f64,
    /// d ln Z / d mean, in 1/s.
    pub slope: f64,
    /// −d² ln Z / d mean², in 1/s². Negative where the sample says less than nothing:
    /// between two places that it cannot tell apart.
    pub curvature: f64,
}

impl Evidence {
    /// Normal noise: the sample lies `off_s` above the prior's mean, and the variances
    /// of both together are `variance_s2`.
    pub fn normal(off_s: f64, variance_s2: f64) -> Self {
        Self {
            log: -0.5 * ((TAU * variance_s2).ln() + off_s * off_s / variance_s2),
            slope: off_s / variance_s2,
            curvature: 1.0 / variance_s2,
        }
    }

    /// A box: the quantity lies anywhere within `half_s` of a place `off_s` above the
    /// prior's mean. `variance_s2` is that of the prior and of the box's edges together.
    pub fn within(off_s: f64, half_s: f64, variance_s2: f64) -> Self {
        let sigma_s = variance_s2.sqrt();
        if half_s < NARROW_SIGMAS * sigma_s {
            return Self::about(off_s, half_s, variance_s2);
        }
        // The nearer and the farther edge in sigma, the mean taken to lie above the
        // middle of the box.
        let side = if off_s > 0.0 { -1.0 } else { 1.0 };
        let near = (off_s.abs() - half_s) / sigma_s;
        let far = (off_s.abs() + half_s) / sigma_s;
        let width_log = (2.0 * half_s).ln();
        if near > TAIL_SIGMAS {
            let inverse = 1.0 / near;
            return Self {
                log: -0.5 * near * near - 0.5 * (TAU * near * near).ln() - width_log,
                slope: -side * (near + inverse) / sigma_s,
                curvature: (1.0 - inverse * inverse) / variance_s2,
            };
        }
        let mass = above(near) - above(far);
        let (at_near, at_far) = (density(near), density(far));
        let slope = (at_far - at_near) / mass;
        let bend = (near * at_near - far * at_far) / mass;
        Self {
            log: mass.ln() - width_log,
            slope: side * slope / sigma_s,
            curvature: (slope * slope - bend) / variance_s2,
        }
    }

    /// Normal noise with the variance of such a box.
    pub fn about(off_s: f64, half_s: f64, variance_s2: f64) -> Self {
        Self::normal(off_s, variance_s2 + half_s * half_s / 3.0)
    }

    /// One of several, each with the log of how likely it is beforehand. `pieces` is
    /// not empty.
    pub fn one_of(pieces: impl Iterator<Item = (f64, Self)> + Clone) -> Self {
        let best = pieces
            .clone()
            .map(|(log_prior, piece)| log_prior + piece.log)
            .fold(f64::MIN, f64::max);
        let (mut total, mut slope, mut second) = (0.0, 0.0, 0.0);
        for (log_prior, piece) in pieces {
            let weight = (log_prior + piece.log - best).exp();
            total += weight;
            slope += weight * piece.slope;
            second += weight * (piece.slope * piece.slope - piece.curvature);
        }
        let slope = slope / total;
        Self {
            log: best + total.ln(),
            slope,
            curvature: slope * slope - second / total,
        }
    }
}

/// Part of a standard normal distribution above `sigmas`.
fn above(sigmas: f64) -> f64 {
    if sigmas.abs() > NOTHING_SIGMAS {
        return if sigmas > 0.0 { 0.0 } else { 1.0 };
    }
    0.5 * erfc(sigmas * FRAC_1_SQRT_2)
}

/// Density of a standard normal distribution.
fn density(sigmas: f64) -> f64 {
    if sigmas.abs() > NOTHING_SIGMAS {
        return 0.0;
    }
    (-0.5 * sigmas * sigmas).exp() / (2.0 * PI).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Mean and variance of a standard normal prior after the evidence, and by
    /// adding up the product of prior and `likelihood` instead.
    fn both_ways(evidence: Evidence, likelihood: impl Fn(f64) -> f64) -> [(f64, f64); 2] {
        let by_evidence = (evidence.slope, 1.0 - evidence.curvature);
        let (mut total, mut first, mut second) = (0.0, 0.0, 0.0);
        for step in -80_000..80_000 {
            let x = f64::from(step) * 1e-4;
            let weight = density(x) * likelihood(x);
            total += weight;
            first += weight * x;
            second += weight * x * x;
        }
        let mean = first / total;
        [by_evidence, (mean, second / total - mean * mean)]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn a_box_corrects_as_bayes_would(off in -4.0..4.0f64, half in 0.06..5.0f64) {
            let evidence = Evidence::within(off, half, 1.0);
            let [found, true_one] = both_ways(evidence, |x| {
                f64::from((x - off).abs() <= half)
            });
            prop_assert!((found.0 - true_one.0).abs() < 2e-3, "{found:?} {true_one:?}");
            prop_assert!((found.1 - true_one.1).abs() < 2e-3, "{found:?} {true_one:?}");
        }

        #[test]
        fn it_stays_finite(off in -1e6..1e6f64, half in 0.0..1e6f64, variance in 1e-12..1e6f64) {
            let evidence = Evidence::within(off, half, variance);
            prop_assert!(evidence.log.is_finite());
            prop_assert!(evidence.slope.is_finite());
            prop_assert!(evidence.curvature.is_finite());
            // Never more certain than certain.
            prop_assert!(variance * evidence.curvature <= 1.0 + 1e-9);
        }
    }

    #[test]
    fn a_blend_of_two_places_leaves_doubt() {
        let (left, right) = (Evidence::normal(-3.0, 1.01), Evidence::normal(3.0, 1.01));
        let half = 0.5f64.ln();
        let blend = Evidence::one_of([(half, left), (half, right)].into_iter());
        let [found, true_one] = both_ways(blend, |x| {
            density((x + 3.0) * 10.0) + density((x - 3.0) * 10.0)
        });
        assert!((found.0 - true_one.0).abs() < 1e-3);
        assert!(
            (found.1 - true_one.1).abs() < 1e-2,
            "{found:?} {true_one:?}"
        );
        assert!(blend.curvature < 0.0, "it knows less than before");
    }
}

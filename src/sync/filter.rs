//! From a source's samples to what its clock says now: the place of the clock
//! filter (RFC 5905 section 10). A departure: instead of picking the sample of
//! least delay out of eight, every sample counts by what its own round trip says
//! about its worth, and offset and frequency are estimated together.
//!
//! The filter follows z = θ + A(t) (see `ledger`), a line whose slope wanders:
//! slope and height are the state of a Kalman filter. How much this oscillator
//! wanders nobody knows, so a bank of filters, each with its own idea of it,
//! runs side by side, and their answers are mixed by how well they foretold the
//! recent samples.

use crate::measurement::Measurement;
use crate::sync::ledger::Ledger;
use crate::time::duration::NtpDuration;
use crate::time::instant::MonoInstant;
use crate::time::stamp::StampOrigin;
use crate::time::units::Ppm;
use crate::wire::packet::Leap;
use crate::wire::refid::RefId;

/// The bank: random walk of frequency, as a ratio per √s. From an oven in a quiet
/// room to a laptop on a windowsill, in half decades.
const WANDERS: [f64; 9] = [
    1e-11, 3.2e-11, 1e-10, 3.2e-10, 1e-9, 3.2e-9, 1e-8, 3.2e-8, 1e-7,
];

/// Updates over which the bank remembers who foretold well. With 20 it takes up a
/// frequency step within a few samples; with 200 it does not.
const MEMORY_UPDATES: f64 = 20.0;

/// Round trips from which least and median delay are taken.
const DELAYS_WINDOW: usize = 64;

/// Part of the delay's scale that a sample is unsure of even at the least delay
/// seen, which was itself delayed a little. Measured best with a full window.
const SCALE_SHARE_MIN: f64 = 0.15;

/// A sample this many sigma off, as seen by the filter that expects the most
/// wander, is not believed at first.
const OUTLIER_SIGMAS: f64 = 6.0;

/// This many of them on end are no outliers: the source or the clock has moved.
const OUTLIERS_MAX: u32 = 4;

/// Samples before any is called an outlier: the scale of the noise is not known yet.
const GATED_FROM_SAMPLES: u32 = 8;

/// After a reset the oscillator is still the old one, but what moved the phase may
/// have moved the frequency by as much.
const RESET_FREQUENCY_SIGMA: Ppm = Ppm(1.0);

/// A variance told by so many samples may be half of the true one; by fewer, less
/// (Student's distribution has the same shape).
const FEW_SAMPLES: f64 = 8.0;

/// How many sigma a promise takes.
pub const PROMISE_SIGMAS: f64 = 4.0;

/// What is known of the oscillator before the first sample.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Start {
    /// The correction that should null the clock's own frequency error.
    pub frequency: Ppm,
    /// What it may be wrong by, one sigma.
    pub frequency_sigma: Ppm,
}

impl Default for Start {
    /// Without a drift file: crystals are good to about 100 ppm.
    fn default() -> Self {
        Self {
            frequency: Ppm::ZERO,
            frequency_sigma: Ppm(100.0),
        }
    }
}

impl Start {
    /// From a drift file. However well it was known then, ten degrees since may have
    /// moved it by half a ppm.
    pub fn from_drift(kept: Self) -> Self {
        Self {
            frequency_sigma: Ppm(kept.frequency_sigma.0.max(0.5)),
            ..kept
        }
    }

    /// Nonsense (NaN, beyond what a kernel corrects) becomes the default.
    fn sane(self) -> Self {
        let fine = self.frequency.0.abs() <= 500.0
            && self.frequency_sigma.0 > 0.0
            && self.frequency_sigma.0 <= 1e4;
        if fine { self } else { Self::default() }
    }
}

/// What a source says about our clock at one moment.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Estimate {
    /// The moment.
    pub at: MonoInstant,
    /// θ: source minus local clock; positive: we are behind.
    pub offset: NtpDuration,
    /// Statistical error of `offset`, one sigma; grows with the age of the last sample.
    pub offset_sigma: NtpDuration,
    /// The correction of our clock's frequency that would keep the offset constant.
    pub frequency: Ppm,
    /// Statistical error of `frequency`, one sigma.
    pub frequency_sigma: Ppm,
    /// Least δ of the recent past.
    pub delay_min: NtpDuration,
    /// δ of the last sample.
    pub delay: NtpDuration,
    /// ψ: RMS of recent samples about what was foretold.
    pub jitter: NtpDuration,
    /// ε: reading error of both clocks and the statistical error, as a limit; and
    /// half of what the samples it rests on took beyond `delay_min`, since all of
    /// that may have been one way.
    pub dispersion: NtpDuration,
    /// Δ of the source itself, as its last reply says.
    pub root_delay: NtpDuration,
    /// Ε of the source itself, as its last reply says.
    pub root_dispersion: NtpDuration,
    /// The source's stratum.
    pub stratum: u8,
    /// The source's warning of a leap second.
    pub leap: Leap,
    /// The source's own reference.
    pub refid: RefId,
    /// Who took T1 and T4 of the last sample.
    pub origin: StampOrigin,
    /// Was the last sample an interleaved one?
    pub interleaved: bool,
    /// Samples this estimate rests on, since the start or the last reset.
    pub samples: u32,
    /// When the last sample was taken.
    pub last: MonoInstant,
}

impl Estimate {
    /// Λ: the true time lies within this of `offset` unless the source lies. Half
    /// the whole least round trip, because all of it may have been one way, and
    /// all dispersion.
    pub fn root_distance(&self) -> NtpDuration {
        (self.delay_min + self.root_delay).half() + self.root_dispersion + self.dispersion
    }
}

/// What became of a sample.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Update {
    /// It counts.
    Taken,
    /// Too far from what was foretold to be believed; the estimate goes on without it.
    Outlier,
    /// Several outliers on end: everything before this sample was forgotten.
    Restarted,
    /// Older than the ledger's history, or than the last sample: of no use.
    Stale,
}

/// The estimator of one source.
#[derive(Clone, Debug)]
pub struct Filter {
    start: Start,
    track: Option<Track>,
    delays: Delays,
    outliers: u32,
}

/// What there is from the first sample on.
#[derive(Clone, Debug)]
struct Track {
    /// z of the first sample; the bank counts from here, so that f64 is enough.
    origin_z: NtpDuration,
    /// The moment the bank speaks of.
    at: MonoInstant,
    bank: [Kalman; WANDERS.len()],
    /// Log of each filter's weight in the mix; the greatest is 0.
    log_weights: [f64; WANDERS.len()],
    /// Smoothed square of what samples were off by.
    jitter_var_s2: f64,
    /// The same in units of what they were expected to be off by; about 1 where the
    /// noise is what the round trips say it is.
    surprise: f64,
    samples: u32,
    last: Measurement,
}

impl Filter {
    /// A filter that has heard nothing yet.
    pub fn new(start: Start) -> Self {
        Self {
            start: start.sane(),
            track: None,
            delays: Delays::default(),
            outliers: 0,
        }
    }

    /// Takes in a sample; samples come in the order of their time.
    pub fn update(&mut self, sample: &Measurement, ledger: &Ledger) -> Update {
        if !ledger.covers(sample.at) || self.track.as_ref().is_some_and(|t| sample.at < t.at) {
            return Update::Stale;
        }
        self.delays.push(sample.delay.as_seconds().max(0.0));
        let variance_s2 = self.delays.sample_variance_s2(sample);
        let z = sample.offset + ledger.integral_at(sample.at);

        let Some(track) = &mut self.track else {
            self.track = Some(Track::new(self.start, z, variance_s2, sample));
            return Update::Taken;
        };
        if track.is_outlier(z, variance_s2, sample.at) {
            self.outliers += 1;
            if self.outliers < OUTLIERS_MAX {
                return Update::Outlier;
            }
            self.reset();
            self.track = Some(Track::new(self.start, z, variance_s2, sample));
            return Update::Restarted;
        }
        self.outliers = 0;
        track.take(z, variance_s2, sample);
        Update::Taken
    }

    /// What the source says at `at`; none before the first sample.
    pub fn estimate(&self, at: MonoInstant, ledger: &Ledger) -> Option<Estimate> {
        let track = self.track.as_ref()?;
        let mixed = track.honest_at(at);
        let z = track.origin_z + NtpDuration::from_seconds(mixed.phase_s);
        let offset_sigma = NtpDuration::from_seconds(mixed.phase_var_s2.sqrt());
        let few = (1.0 + FEW_SAMPLES / f64::from(track.samples)).sqrt();
        let last = &track.last;
        Some(Estimate {
            at,
            offset: z - ledger.integral_at(at),
            offset_sigma,
            frequency: ledger.frequency_for(mixed.rate),
            frequency_sigma: Ppm::from_ratio(mixed.rate_var.sqrt()),
            delay_min: NtpDuration::from_seconds(self.delays.least_s()),
            delay: last.delay,
            jitter: NtpDuration::from_seconds(track.jitter_var_s2.sqrt()),
            dispersion: last.dispersion
                + offset_sigma * PROMISE_SIGMAS * few
                + NtpDuration::from_seconds((mixed.delay_s - self.delays.least_s()).abs()).half(),
            root_delay: last.root_delay,
            root_dispersion: last.root_dispersion,
            stratum: last.stratum,
            leap: last.leap,
            refid: last.refid,
            origin: last.origin,
            interleaved: last.interleaved,
            samples: track.samples,
            last: last.at,
        })
    }

    /// One sigma of the offset at `at`, also ahead of time: what a poll policy asks.
    pub fn offset_sigma_at(&self, at: MonoInstant) -> Option<NtpDuration> {
        let variance_s2 = self.track.as_ref()?.honest_at(at).phase_var_s2;
        Some(NtpDuration::from_seconds(variance_s2.sqrt()))
    }

    /// Samples since the start or the last reset.
    pub fn samples(&self) -> u32 {
        self.track.as_ref().map_or(0, |track| track.samples)
    }

    /// Least δ of the recent past; zero before the first sample.
    pub fn delay_min(&self) -> NtpDuration {
        NtpDuration::from_seconds(self.delays.least_s())
    }

    /// Forgets the offset but not the oscillator: somebody moved one of the clocks.
    pub fn reset(&mut self) {
        if let Some(track) = self.track.take() {
            let mixed = track.mixed_at(track.at);
            let sigma = Ppm::from_ratio(mixed.rate_var.sqrt());
            self.start = Start {
                frequency: Ppm::from_ratio(mixed.rate),
                frequency_sigma: Ppm(sigma.0.max(RESET_FREQUENCY_SIGMA.0)),
            }
            .sane();
        }
        self.outliers = 0;
    }
}

impl Track {
    fn new(start: Start, z: NtpDuration, variance_s2: f64, sample: &Measurement) -> Self {
        let first = Kalman {
            phase_s: 0.0,
            rate: start.frequency.ratio(),
            phase_var_s2: variance_s2,
            covariance_s: 0.0,
            rate_var: start.frequency_sigma.ratio().powi(2),
            delay_s: sample.delay.as_seconds(),
            delay_rate: 0.0,
        };
        Self {
            origin_z: z,
            at: sample.at,
            bank: [first; WANDERS.len()],
            log_weights: [0.0; WANDERS.len()],
            jitter_var_s2: variance_s2,
            surprise: 1.0,
            samples: 1,
            last: *sample,
        }
    }

    /// Measured against the filter that expects most, or a frequency step would
    /// look like an outlier to those who expect none.
    fn is_outlier(&self, z: NtpDuration, variance_s2: f64, at: MonoInstant) -> bool {
        if self.samples < GATED_FROM_SAMPLES {
            return false;
        }
        let widest = WANDERS.len() - 1;
        let foretold = self.bank[widest].ahead(self.elapsed_s(at), WANDERS[widest]);
        let off_s = (z - self.origin_z).as_seconds() - foretold.phase_s;
        off_s.powi(2) > OUTLIER_SIGMAS.powi(2) * (foretold.phase_var_s2 + variance_s2)
    }

    fn take(&mut self, z: NtpDuration, variance_s2: f64, sample: &Measurement) {
        let z_s = (z - self.origin_z).as_seconds();
        let elapsed_s = self.elapsed_s(sample.at);
        let foretold = self.mixed_at(sample.at);
        let off_s = z_s - foretold.phase_s;
        let surprise = off_s.powi(2) / (foretold.phase_var_s2 + variance_s2);
        self.samples = self.samples.saturating_add(1);
        let share = 1.0 / f64::from(self.samples.min(16));
        self.jitter_var_s2 += (off_s.powi(2) - self.jitter_var_s2) * share;
        self.surprise += (surprise - self.surprise) * share;

        for ((filter, wander), log_weight) in
            self.bank.iter_mut().zip(WANDERS).zip(&mut self.log_weights)
        {
            let log_likelihood;
            (*filter, log_likelihood) =
                filter
                    .ahead(elapsed_s, wander)
                    .with(z_s, variance_s2, sample.delay.as_seconds());
            *log_weight = *log_weight * (1.0 - 1.0 / MEMORY_UPDATES) + log_likelihood;
        }
        let best = self.log_weights.iter().copied().fold(f64::MIN, f64::max);
        self.log_weights.iter_mut().for_each(|w| *w -= best);
        self.at = sample.at;
        self.last = *sample;
    }

    /// The bank's common answer for the moment `at`, which may lie ahead.
    fn mixed_at(&self, at: MonoInstant) -> Kalman {
        let elapsed_s = self.elapsed_s(at);
        let mut ahead = self.bank;
        for (filter, wander) in ahead.iter_mut().zip(WANDERS) {
            *filter = filter.ahead(elapsed_s, wander);
        }
        mix(&ahead, &self.log_weights)
    }

    /// The same with variances that own up to noise beyond what the round trips
    /// show: a busy host delays one leg's stamps, and the filter, told too little
    /// of it, would be too sure of itself.
    fn honest_at(&self, at: MonoInstant) -> Kalman {
        let mut mixed = self.mixed_at(at);
        let factor = self.surprise.max(1.0);
        mixed.phase_var_s2 *= factor;
        mixed.covariance_s *= factor;
        mixed.rate_var *= factor;
        mixed
    }

    fn elapsed_s(&self, at: MonoInstant) -> f64 {
        at.since(self.at).as_seconds().max(0.0)
    }
}

/// Height and slope of a line and how well they are known.
#[derive(Clone, Copy, Debug)]
struct Kalman {
    phase_s: f64,
    rate: f64,
    phase_var_s2: f64,
    covariance_s: f64,
    rate_var: f64,
    /// δ taken through the same gains as θ: a part of each sample's δ that is θ's
    /// error is the same part of this in `phase_s`.
    delay_s: f64,
    delay_rate: f64,
}

impl Kalman {
    /// The same line `elapsed_s` later, its slope having taken a random walk.
    fn ahead(&self, elapsed_s: f64, wander: f64) -> Self {
        let (t, w2) = (elapsed_s, wander * wander);
        Self {
            phase_s: self.phase_s + self.rate * t,
            rate: self.rate,
            phase_var_s2: self.phase_var_s2
                + t * (2.0 * self.covariance_s + t * self.rate_var)
                + w2 * t.powi(3) / 3.0,
            covariance_s: self.covariance_s + t * self.rate_var + w2 * t * t / 2.0,
            rate_var: self.rate_var + w2 * t,
            delay_s: self.delay_s + self.delay_rate * t,
            delay_rate: self.delay_rate,
        }
    }

    /// Corrected by a sample of the height, and the log of how likely it was.
    fn with(&self, z_s: f64, variance_s2: f64, delay_s: f64) -> (Self, f64) {
        let off_s = z_s - self.phase_s;
        let delay_off_s = delay_s - self.delay_s;
        let expected_var_s2 = self.phase_var_s2 + variance_s2;
        let phase_gain = self.phase_var_s2 / expected_var_s2;
        let rate_gain = self.covariance_s / expected_var_s2;
        let corrected = Self {
            phase_s: self.phase_s + phase_gain * off_s,
            rate: self.rate + rate_gain * off_s,
            // (1 − K)·P written as P·R/S: never negative.
            phase_var_s2: phase_gain * variance_s2,
            covariance_s: rate_gain * variance_s2,
            rate_var: (self.rate_var - rate_gain * self.covariance_s).max(0.0),
            delay_s: self.delay_s + phase_gain * delay_off_s,
            delay_rate: self.delay_rate + rate_gain * delay_off_s,
        };
        let log_likelihood = -0.5 * (expected_var_s2.ln() + off_s * off_s / expected_var_s2);
        (corrected, log_likelihood)
    }
}

/// Mean and spread of a weighted mixture; that the filters disagree is part of
/// how little is known.
fn mix(bank: &[Kalman], log_weights: &[f64]) -> Kalman {
    let weights = log_weights.iter().map(|w| w.exp());
    let total: f64 = weights.clone().sum();
    let mean = |of: fn(&Kalman) -> f64| -> f64 {
        bank.iter()
            .zip(weights.clone())
            .map(|(k, w)| of(k) * w)
            .sum::<f64>()
            / total
    };
    let (phase_s, rate) = (mean(|k| k.phase_s), mean(|k| k.rate));
    let mut mixed = Kalman {
        phase_s,
        rate,
        phase_var_s2: mean(|k| k.phase_var_s2),
        covariance_s: mean(|k| k.covariance_s),
        rate_var: mean(|k| k.rate_var),
        delay_s: mean(|k| k.delay_s),
        delay_rate: mean(|k| k.delay_rate),
    };
    for (filter, weight) in bank.iter().zip(weights) {
        let share = weight / total;
        let (phase_off_s, rate_off) = (filter.phase_s - phase_s, filter.rate - rate);
        mixed.phase_var_s2 += share * phase_off_s * phase_off_s;
        mixed.covariance_s += share * phase_off_s * rate_off;
        mixed.rate_var += share * rate_off * rate_off;
    }
    mixed
}

/// Recent round trips, and what they say about the worth of one of them.
#[derive(Clone, Debug)]
struct Delays {
    window_s: [f64; DELAYS_WINDOW],
    /// Ever entered; the newest is at `(entered − 1) % DELAYS_WINDOW`.
    entered: usize,
}

impl Default for Delays {
    fn default() -> Self {
        Self {
            window_s: [0.0; DELAYS_WINDOW],
            entered: 0,
        }
    }
}

impl Delays {
    fn push(&mut self, delay_s: f64) {
        self.window_s[self.entered % DELAYS_WINDOW] = delay_s;
        self.entered += 1;
    }

    fn window_s(&self) -> &[f64] {
        &self.window_s[..self.entered.min(DELAYS_WINDOW)]
    }

    fn least_s(&self) -> f64 {
        self.window_s()
            .iter()
            .copied()
            .reduce(f64::min)
            .unwrap_or(0.0)
    }

    fn median_s(&self) -> f64 {
        let mut sorted = self.window_s;
        let sorted = &mut sorted[..self.entered.min(DELAYS_WINDOW)];
        sorted.sort_unstable_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
    }

    /// R: if both ways have exponential queueing, an excess of d over the least
    /// round trip leaves the offset uniform over ±d/2, whose variance is d²/12.
    fn sample_variance_s2(&self, sample: &Measurement) -> f64 {
        let least_s = self.least_s();
        let count = self.window_s().len().max(1) as f64;
        // One sample tells nothing of the spread: suppose a tenth of the delay
        // until others speak.
        let scale_s = (self.median_s() - least_s).max(0.1 * least_s / count);
        // The least of n sums of two exponentials lies about 0.84/√n of their
        // scale above the true floor.
        let share = SCALE_SHARE_MIN.max(0.84 / count.sqrt());
        let excess_s = sample.delay.as_seconds().max(0.0) - least_s + share * scale_s;
        let reading_s = sample.dispersion.as_seconds();
        (excess_s.powi(2) + reading_s.powi(2)) / 12.0 + stamp_sigma_s(sample.origin).powi(2)
    }
}

/// No stamp is better than this, however even the round trips look.
fn stamp_sigma_s(origin: StampOrigin) -> f64 {
    match origin {
        StampOrigin::Daemon => 1e-6,
        StampOrigin::Kernel => 20e-9,
        StampOrigin::Hardware => 1e-9,
    }
}

// How well it estimates is told by the stories in `weather`.
#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::ledger::MonotonicClock;
    use proptest::prelude::*;

    fn sample(at_s: f64, offset_s: f64, delay_s: f64) -> Measurement {
        Measurement {
            offset: NtpDuration::from_seconds(offset_s),
            delay: NtpDuration::from_seconds(delay_s),
            dispersion: NtpDuration::from_nanos(120),
            at: MonoInstant::from_nanos((at_s * 1e9) as i64),
            origin: StampOrigin::Kernel,
            interleaved: false,
            leap: Leap::None,
            stratum: 1,
            refid: RefId::INIT,
            root_delay: NtpDuration::ZERO,
            root_dispersion: NtpDuration::ZERO,
        }
    }

    fn ledger() -> Ledger {
        Ledger::new(MonoInstant::ZERO, Ppm::ZERO, MonotonicClock::Free)
    }

    #[test]
    fn one_sample_is_enough_for_an_offset() {
        let (mut filter, ledger) = (Filter::new(Start::default()), ledger());
        assert_eq!(filter.estimate(MonoInstant::ZERO, &ledger), None);
        let first = sample(1.0, 0.3, 0.001);
        filter.update(&first, &ledger);
        let estimate = filter.estimate(first.at, &ledger).expect("heard");
        assert_eq!(estimate.offset, first.offset);
        assert!((estimate.frequency_sigma - Ppm(100.0)).abs() < Ppm(1e-9));
        assert!(estimate.root_distance() > first.delay.half());
        // One sample's word for its own worth needs a wide reserve.
        assert!(estimate.dispersion > first.dispersion + estimate.offset_sigma * 11.9);
        // A hundred ppm for ten seconds.
        let later = first.at + NtpDuration::from_whole_seconds(10);
        let sigma = filter.estimate(later, &ledger).expect("heard").offset_sigma;
        assert!((sigma.as_seconds() - 1e-3).abs() < 1e-4, "{sigma}");
    }

    /// Replies that are slow by turns, all of it one way, look like a drifting clock;
    /// what is foretold of it is wrong by no more than the distance.
    #[test]
    fn slowness_of_one_way_stays_within_the_distance() {
        let mut broken = 0;
        for pattern in 0..1u32 << 10 {
            let (mut filter, ledger) = (Filter::new(Start::default()), ledger());
            for second in 0..10 {
                let slow = pattern >> second & 1 == 1;
                let ripple_s = f64::from(second * 7 % 5) * 1e-7;
                let delay_s = if slow { 14e-6 } else { 4e-6 } + ripple_s;
                let sample = sample(f64::from(second), -0.4 * delay_s, delay_s);
                filter.update(&sample, &ledger);
                for ahead_s in 0..3 {
                    let at = sample.at + NtpDuration::from_whole_seconds(ahead_s);
                    let estimate = filter.estimate(at, &ledger).expect("heard");
                    let (off, within) = (estimate.offset.abs(), estimate.root_distance());
                    broken += u32::from(off > within);
                }
            }
        }
        assert_eq!(broken, 0);
    }

    #[test]
    fn outliers_are_passed_over_until_they_are_the_rule() {
        let (mut filter, ledger) = (Filter::new(Start::default()), ledger());
        let mut at_s = 0.0;
        let mut next = |offset_s| {
            at_s += 16.0;
            sample(at_s, offset_s, 0.001)
        };
        for _ in 0..20 {
            assert_eq!(filter.update(&next(0.0), &ledger), Update::Taken);
        }
        for _ in 0..2 {
            for _ in 0..3 {
                assert_eq!(filter.update(&next(0.01), &ledger), Update::Outlier);
            }
            assert_eq!(filter.update(&next(0.0), &ledger), Update::Taken);
        }
        for _ in 0..3 {
            assert_eq!(filter.update(&next(0.01), &ledger), Update::Outlier);
        }
        let believed = next(0.01);
        assert_eq!(filter.update(&believed, &ledger), Update::Restarted);
        let estimate = filter.estimate(believed.at, &ledger).expect("heard");
        assert_eq!(estimate.offset, believed.offset);
        assert!(
            estimate.frequency_sigma <= Ppm(1.0),
            "the oscillator is still known"
        );
    }

    #[test]
    fn samples_from_before_a_foreign_step_are_stale() {
        let (mut filter, mut ledger) = (Filter::new(Start::default()), ledger());
        filter.update(&sample(10.0, 0.0, 0.001), &ledger);
        assert_eq!(
            filter.update(&sample(9.0, 0.0, 0.001), &ledger),
            Update::Stale
        );
        ledger.reset(MonoInstant::from_nanos(20_000_000_000));
        filter.reset();
        assert_eq!(
            filter.update(&sample(19.0, 0.0, 0.001), &ledger),
            Update::Stale
        );
        assert_eq!(
            filter.update(&sample(21.0, 5.0, 0.001), &ledger),
            Update::Taken
        );
    }

    #[test]
    fn a_source_is_small() {
        assert!(size_of::<Filter>() < 4096);
    }

    proptest! {
        /// Whatever a server sends, the estimate stays a number.
        #[test]
        fn nonsense_stays_a_number(
            samples in prop::collection::vec(any::<(u32, i64, i64, i64)>(), 1..40),
            start in any::<(f64, f64)>(),
        ) {
            let ledger = ledger();
            let mut filter = Filter::new(Start {
                frequency: Ppm(start.0),
                frequency_sigma: Ppm(start.1),
            });
            let mut at = MonoInstant::ZERO;
            for (elapsed_ms, offset, delay, dispersion) in samples {
                at = at + NtpDuration::from_seconds(f64::from(elapsed_ms) * 1e-3);
                filter.update(
                    &Measurement {
                        at,
                        offset: NtpDuration::from_units(offset),
                        delay: NtpDuration::from_units(delay),
                        dispersion: NtpDuration::from_units(dispersion),
                        ..sample(0.0, 0.0, 0.0)
                    },
                    &ledger,
                );
                let estimate = filter.estimate(at, &ledger).expect("heard");
                prop_assert!(estimate.frequency.0.is_finite());
                prop_assert!(estimate.frequency_sigma.0.is_finite());
                prop_assert!(!estimate.offset_sigma.is_negative());
            }
        }
    }
}

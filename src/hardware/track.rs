//! Where a PTP hardware clock stands against CLOCK_REALTIME: crossings in, a line out,
//! with its own error.
//!
//! The difference of the two clocks has a value and a rate that wanders. A two-state
//! Kalman filter knows both best if it knows how much the rate wanders and how noisy
//! the readings are; neither is known (a free crystal, or one that ptp4l bends each
//! second; a bus that is idle or not). So a few filters with different ideas of both
//! run side by side, and the one that foretold the last readings best gives the line.

use std::f64::consts::TAU;

use crate::time::duration::NtpDuration;
use crate::time::instant::WallInstant;
use crate::time::phc::{Crossing, PhcInstant, PhcMap};

/// How much a filter expects the rate to wander: variance of the rate gained per
/// second, in (s/s)²/s. From a crystal at rest to one that is bent by ppm all the time.
const WANDERS: [f64; 3] = [1e-20, 1e-17, 1e-14];
/// Variance of a reading relative to that of "anywhere in its window".
const NOISES: [f64; 2] = [1.0, 1.0 / 30.0];
/// Standard deviation of a reading at best: the clocks' own resolution.
const RESOLUTION_S: f64 = 4e-9;
/// What is known of the rate before the first two readings: crystals are within 100
/// ppm, and whoever disciplines one adds no more than that.
const RATE_SIGMA: f64 = 200e-6;
/// A clock that differs more from the system's is broken, or is no clock.
const RATE_MAX: f64 = 1e-3;
/// How long a filter's success is remembered, in readings.
const MEMORY: f64 = 20.0;
/// A reading so many sigma off the line is not noise.
const JUMP_SIGMAS: f64 = 6.0;
/// Nor is it a jump if it is within this of what was expected, in seconds: bending a
/// clock by ppm shows like that.
const JUMP_MIN_S: f64 = 1e-6;
/// Readings before the line is to be used.
const READINGS_MIN: u32 = 4;
/// Sigmas in a [`PhcMap`]'s error.
const ERROR_SIGMAS: f64 = 4.0;

/// A clock that we bend may do so by a little more or less than we asked for.
const BENT_DOUBT: f64 = 1e-4;

/// What a reading did.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Outcome {
    /// The line is the better for it.
    Tracked,
    /// It is far off the line. The line is not to be used until the next reading tells
    /// whether the clock or the reading was at fault.
    Doubted,
    /// The clock was set or jumped by about this much: learning it anew.
    Jumped(NtpDuration),
    /// It runs so many times as fast as the system clock: no use to anybody.
    Absurd(f64),
}

/// The tracker of one hardware clock.
#[derive(Clone, Debug)]
pub struct Track {
    filters: Vec<Filter>,
    /// The moment all filters speak of, and a value on CLOCK_REALTIME near to it.
    anchor: Option<(PhcInstant, WallInstant)>,
    /// The reading before, whatever came of it.
    last: Option<Crossing>,
    /// A reading far off the line, which the next will explain.
    doubted: bool,
    /// Readings since it was learnt anew.
    readings: u32,
    /// The tightest window of the last readings, growing slowly, in seconds.
    window_s: f64,
    jumps: u64,
}

impl Track {
    /// Knows nothing yet.
    pub fn new() -> Self {
        let filters = WANDERS
            .iter()
            .flat_map(|&wander| NOISES.map(|noise| Filter::new(wander, noise)))
            .collect();
        Self {
            filters,
            anchor: None,
            last: None,
            doubted: false,
            readings: 0,
            window_s: 0.0,
            jumps: 0,
        }
    }

    /// How often it was set or jumped under our eyes.
    pub fn jumps(&self) -> u64 {
        self.jumps
    }

    /// Takes the crossings of one batch, read at about the same moment. An empty one
    /// says nothing.
    pub fn take(&mut self, batch: &[Crossing]) -> Option<Outcome> {
        let crossing = best_of(batch)?;
        let outcome = self.take_one(&crossing);
        self.last = Some(crossing);
        Some(outcome)
    }

    fn take_one(&mut self, crossing: &Crossing) -> Outcome {
        let window_s = crossing.window.as_seconds();
        let Some((phc, _)) = self.anchor else {
            self.restart(crossing);
            return Outcome::Tracked;
        };
        let elapsed_s = (crossing.phc - phc).as_seconds();
        if let Some(rate) = self.absurd_rate(crossing) {
            self.restart(crossing);
            return Outcome::Absurd(1.0 / (1.0 + rate));
        }
        if elapsed_s <= 0.0 {
            return self.explain(crossing, NtpDuration::from_seconds(elapsed_s));
        }
        self.advance(crossing.phc);
        let (_, real) = self.anchor.expect("set above");
        let seen_s = (crossing.real - real).as_seconds();
        let best = self.best();
        let off_s = seen_s - best.offset_s;
        let limit_s = JUMP_SIGMAS * best.innovation_s2(window_s).sqrt() + window_s / 2.0;
        if off_s.abs() > limit_s.max(JUMP_MIN_S) {
            return self.explain(crossing, NtpDuration::from_seconds(off_s));
        }
        self.doubted = false;
        self.readings = self.readings.saturating_add(1);
        // Forgets a tight one in a minute, so that a busier bus is owned up to.
        self.window_s = window_s.min(self.window_s * 1.02 + 1e-10);
        for filter in &mut self.filters {
            filter.correct(seen_s, window_s);
        }
        self.fold();
        Outcome::Tracked
    }

    /// One strange reading may be the reading's fault; two are the clock's.
    fn explain(&mut self, crossing: &Crossing, off: NtpDuration) -> Outcome {
        if std::mem::replace(&mut self.doubted, true) {
            self.restart(crossing);
            self.jumps += 1;
            return Outcome::Jumped(off);
        }
        Outcome::Doubted
    }

    /// The rate between this reading and the one before, if no clock has such a rate
    /// and it is no single jump either: the reading before was strange already.
    fn absurd_rate(&self, crossing: &Crossing) -> Option<f64> {
        let last = self.last?;
        let phc_s = (crossing.phc - last.phc).as_seconds();
        let real_s = (crossing.real - last.real).as_seconds();
        if phc_s == 0.0 {
            return None;
        }
        let rate = real_s / phc_s - 1.0;
        let doubt = (crossing.window + last.window).as_seconds() / phc_s.abs();
        let strange = self.doubted || self.readings < READINGS_MIN;
        (strange && rate.abs() > RATE_MAX + doubt).then_some(rate)
    }

    fn restart(&mut self, crossing: &Crossing) {
        self.anchor = Some((crossing.phc, crossing.real));
        self.window_s = crossing.window.as_seconds();
        self.doubted = false;
        self.readings = 1;
        for filter in &mut self.filters {
            filter.restart(self.window_s);
        }
    }

    fn advance(&mut self, phc: PhcInstant) {
        if let Some((from, real)) = self.anchor {
            let elapsed = phc - from;
            self.anchor = Some((phc, real + elapsed));
            for filter in &mut self.filters {
                filter.predict(elapsed.as_seconds());
            }
        }
    }

    /// Keeps the filters' numbers small: the anchor takes what they agree on.
    fn fold(&mut self) {
        let common = NtpDuration::from_nanos((self.best().offset_s * 1e9).round() as i64);
        if let Some((_, real)) = &mut self.anchor {
            *real = *real + common;
            for filter in &mut self.filters {
                filter.offset_s -= common.as_seconds();
            }
        }
    }

    fn best(&self) -> &Filter {
        let better = |a: &&Filter, b: &&Filter| a.score.total_cmp(&b.score);
        self.filters.iter().max_by(better).expect("a bank of them")
    }

    /// CLOCK_REALTIME was steered at `at` (as it read before a step): it was stepped by
    /// `step`, and from now on runs faster by the ratio `faster`.
    pub fn steered(&mut self, at: WallInstant, step: NtpDuration, faster: f64) {
        let Some((_, real)) = self.anchor else {
            return;
        };
        if at > real {
            let phc = self.line().to_phc(at);
            self.advance(phc);
        }
        if let Some((_, real)) = &mut self.anchor {
            *real = *real + step;
        }
        if let Some(last) = &mut self.last {
            last.real = last.real + step;
        }
        for filter in &mut self.filters {
            filter.rate = (1.0 + filter.rate) * (1.0 + faster) - 1.0;
        }
    }

    /// The hardware clock itself was made to run faster by the ratio `faster`, when
    /// CLOCK_REALTIME showed `at`.
    pub fn bent(&mut self, at: WallInstant, faster: f64) {
        let Some((_, real)) = self.anchor else {
            return;
        };
        if at > real {
            let phc = self.line().to_phc(at);
            self.advance(phc);
        }
        // Hardware rounds as it likes.
        let doubt = faster * BENT_DOUBT;
        for filter in &mut self.filters {
            filter.rate = (1.0 + filter.rate) / (1.0 + faster) - 1.0;
            filter.rate_variance += doubt * doubt;
        }
    }

    /// Reads nothing into what was before: the clock was set by ourselves.
    pub fn forget(&mut self) {
        let jumps = self.jumps;
        *self = Self::new();
        self.jumps = jumps;
    }

    /// The line, if it may be used.
    pub fn map(&self) -> Option<PhcMap> {
        let sane = self.best().rate.abs() <= RATE_MAX;
        (!self.doubted && sane && self.readings >= READINGS_MIN).then(|| self.line())
    }

    fn line(&self) -> PhcMap {
        let (phc, real) = self.anchor.unwrap_or_default();
        let best = self.best();
        let reach_s = REACH.as_seconds();
        // The rate's own variance, and what it may wander to within reach.
        let rate_s2 = best.rate_variance + best.wander * reach_s;
        let error_s = self.window_s / 2.0
            + RESOLUTION_S
            + ERROR_SIGMAS * best.offset_variance_s2.sqrt()
            + best.offset_s.abs();
        PhcMap {
            anchor_phc: phc,
            anchor_real: real,
            rate: best.rate,
            error: NtpDuration::from_seconds(error_s),
            error_rate: ERROR_SIGMAS * rate_s2.sqrt(),
            reach: REACH,
        }
    }
}

/// A clock that was not read for so long is not believed.
const REACH: NtpDuration = NtpDuration::from_whole_seconds(16);

impl Default for Track {
    fn default() -> Self {
        Self::new()
    }
}

/// The middle of the tightest readings of a batch: whoever was interrupted is wider.
pub fn best_of(batch: &[Crossing]) -> Option<Crossing> {
    let tightest = batch.iter().min_by_key(|crossing| crossing.window)?;
    let limit = tightest.window + tightest.window.half().half().half();
    let (mut sum_ns, mut count) = (0, 0);
    for crossing in batch.iter().filter(|c| c.window <= limit) {
        // Both clocks ran on between the readings, and by the same, for so short a time.
        let difference = (crossing.real - tightest.real) - (crossing.phc - tightest.phc);
        sum_ns += difference.as_nanos();
        count += 1;
    }
    Some(Crossing {
        real: tightest.real + NtpDuration::from_nanos(sum_ns / count),
        ..*tightest
    })
}

/// Offset and rate, as one idea of the clocks has them.
#[derive(Clone, Copy, Debug)]
struct Filter {
    wander: f64,
    noise: f64,
    /// CLOCK_REALTIME beyond the anchor's, and how much faster it runs.
    offset_s: f64,
    rate: f64,
    offset_variance_s2: f64,
    covariance_s: f64,
    rate_variance: f64,
    /// Logarithm of how likely it found the last readings, older ones counting less.
    score: f64,
}

impl Filter {
    fn new(wander: f64, noise: f64) -> Self {
        Self {
            wander,
            noise,
            offset_s: 0.0,
            rate: 0.0,
            offset_variance_s2: 0.0,
            covariance_s: 0.0,
            rate_variance: 0.0,
            score: 0.0,
        }
    }

    fn restart(&mut self, window_s: f64) {
        *self = Self {
            offset_variance_s2: self.reading_s2(window_s),
            rate_variance: RATE_SIGMA * RATE_SIGMA,
            ..Self::new(self.wander, self.noise)
        };
    }

    fn reading_s2(&self, window_s: f64) -> f64 {
        self.noise * window_s * window_s / 12.0 + RESOLUTION_S * RESOLUTION_S
    }

    fn innovation_s2(&self, window_s: f64) -> f64 {
        self.offset_variance_s2 + self.reading_s2(window_s)
    }

    fn predict(&mut self, elapsed_s: f64) {
        let t = elapsed_s;
        self.offset_s += self.rate * t;
        self.offset_variance_s2 += 2.0 * t * self.covariance_s
            + t * t * self.rate_variance
            + self.wander * t.abs().powi(3) / 3.0;
        self.covariance_s += t * self.rate_variance + self.wander * t * t.abs() / 2.0;
        self.rate_variance += self.wander * t.abs();
    }

    fn correct(&mut self, seen_s: f64, window_s: f64) {
        let off_s = seen_s - self.offset_s;
        let variance_s2 = self.innovation_s2(window_s);
        let fit = -0.5 * (off_s * off_s / variance_s2 + (TAU * variance_s2).ln());
        self.score += fit - self.score / MEMORY;
        let offset_gain = self.offset_variance_s2 / variance_s2;
        let rate_gain = self.covariance_s / variance_s2;
        self.offset_s += offset_gain * off_s;
        self.rate += rate_gain * off_s;
        self.rate_variance -= rate_gain * self.covariance_s;
        self.covariance_s -= offset_gain * self.covariance_s;
        self.offset_variance_s2 -= offset_gain * self.offset_variance_s2;
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};

    use super::*;

    /// Two clocks: CLOCK_REALTIME, and a hardware clock that is `ahead_ns` of it and
    /// runs `fast` times too fast.
    struct Pair {
        real_ns: f64,
        phc_ns: f64,
        fast: f64,
        window_ns: f64,
        dice: ChaCha8Rng,
    }

    /// So that f64 keeps tenths of nanoseconds.
    const EPOCH: i64 = 1_800_000_000_000_000_000;

    impl Pair {
        fn new(fast: f64, window_ns: f64) -> Self {
            Self {
                real_ns: 0.0,
                phc_ns: 37e9,
                fast,
                window_ns,
                dice: ChaCha8Rng::seed_from_u64(7),
            }
        }

        fn pass(&mut self, seconds: f64) {
            self.real_ns += seconds * 1e9;
            self.phc_ns += seconds * 1e9 * (1.0 + self.fast);
        }

        fn real(&self) -> WallInstant {
            WallInstant::from_unix_ns(EPOCH + self.real_ns.round() as i64)
        }

        fn phc(&self) -> PhcInstant {
            PhcInstant::from_nanos(self.phc_ns.round() as i64)
        }

        fn batch(&mut self) -> Vec<Crossing> {
            (0..10)
                .map(|_| {
                    self.pass(5e-6);
                    let [wait, place] =
                        [(); 2].map(|()| f64::from(self.dice.next_u32()) / f64::from(u32::MAX));
                    let window_ns = self.window_ns * (1.0 + wait * wait);
                    // The read itself takes most of the window; the rest comes anywhere.
                    let early_ns = (place - 0.5) * (window_ns - 0.7 * self.window_ns);
                    let real_ns = EPOCH + (self.real_ns + early_ns).round() as i64;
                    Crossing {
                        phc: self.phc(),
                        real: WallInstant::from_unix_ns(real_ns),
                        window: NtpDuration::from_nanos(window_ns as i64),
                    }
                })
                .collect()
        }

        /// How far the track's line is off half a second from now, and what it owns up to.
        fn error(&mut self, track: &Track) -> Option<(f64, f64)> {
            let map = track.map()?;
            self.pass(0.5);
            let off = map.to_real(self.phc())? - self.real();
            Some((off.as_seconds(), map.error_at(self.phc()).as_seconds()))
        }
    }

    /// RMS error of the line over `seconds`; it never owns up to less than its error.
    fn rms_s(pair: &mut Pair, track: &mut Track, seconds: u32) -> f64 {
        let mut square = 0.0;
        for _ in 0..seconds {
            assert_eq!(track.take(&pair.batch()), Some(Outcome::Tracked));
            let (off_s, owned_s) = pair.error(track).expect("a line");
            assert!(off_s.abs() < owned_s, "{off_s} within {owned_s}");
            square += off_s * off_s;
            pair.pass(0.5);
        }
        (square / f64::from(seconds)).sqrt()
    }

    fn settled(pair: &mut Pair) -> Track {
        let mut track = Track::new();
        for _ in 0..60 {
            track.take(&pair.batch());
            pair.pass(1.0);
        }
        track
    }

    #[test]
    fn a_free_clock_is_known_to_nanoseconds() {
        let mut pair = Pair::new(20e-6, 800.0);
        let mut track = settled(&mut pair);
        let rms = rms_s(&mut pair, &mut track, 100);
        assert!(rms < 20e-9, "{rms}");
        // What it owns up to is the window first of all.
        let map = track.map().expect("a line");
        assert!(map.error.as_nanos() < 800, "{:?}", map.error);
    }

    #[test]
    fn one_that_is_bent_all_the_time_is_followed() {
        let mut pair = Pair::new(0.0, 500.0);
        let mut track = settled(&mut pair);
        let mut worst: f64 = 0.0;
        for second in 0..200 {
            pair.fast += if second % 7 < 3 { 30e-9 } else { -22e-9 };
            track.take(&pair.batch());
            let (off_s, owned_s) = pair.error(&track).expect("a line");
            assert!(off_s.abs() < owned_s, "{off_s} within {owned_s}");
            worst = worst.max(off_s.abs());
            pair.pass(0.5);
        }
        assert!(worst < 300e-9, "{worst}");
        assert_eq!(track.jumps(), 0);
    }

    #[test]
    fn a_jump_is_doubted_then_learnt_anew() {
        let mut pair = Pair::new(-5e-6, 800.0);
        let mut track = settled(&mut pair);
        pair.phc_ns += 2_199e9;
        assert_eq!(track.take(&pair.batch()), Some(Outcome::Doubted));
        assert_eq!(track.map(), None, "not before it is explained");
        pair.pass(1.0);
        let outcome = track.take(&pair.batch());
        let Some(Outcome::Jumped(by)) = outcome else {
            panic!("{outcome:?}")
        };
        assert!((by.as_seconds() + 2199.0).abs() < 0.1, "{by:?}");
        for _ in 0..8 {
            pair.pass(0.125);
            track.take(&pair.batch());
        }
        let (off_s, _) = pair.error(&track).expect("known again");
        assert!(off_s.abs() < 1e-6, "{off_s}");
    }

    #[test]
    fn a_single_bad_reading_is_passed_over() {
        let mut pair = Pair::new(-5e-6, 800.0);
        let mut track = settled(&mut pair);
        let mut batch = pair.batch();
        for crossing in &mut batch {
            crossing.real = crossing.real + NtpDuration::from_seconds(1e-3);
        }
        assert_eq!(track.take(&batch), Some(Outcome::Doubted));
        pair.pass(1.0);
        assert_eq!(track.take(&pair.batch()), Some(Outcome::Tracked));
        assert_eq!(track.jumps(), 0);
        assert!(track.map().is_some());
    }

    #[test]
    fn a_clock_that_runs_two_and_a_half_times_too_fast_is_never_used() {
        let mut pair = Pair::new(1.5, 800.0);
        let mut track = Track::new();
        let mut told = 0;
        for _ in 0..20 {
            if let Some(Outcome::Absurd(times)) = track.take(&pair.batch()) {
                assert!((times - 2.5).abs() < 0.01, "{times}");
                told += 1;
            }
            assert_eq!(track.map(), None);
            pair.pass(1.0);
        }
        assert!(told > 15);
    }

    #[test]
    fn our_own_steering_does_not_disturb_it() {
        let mut pair = Pair::new(20e-6, 800.0);
        let mut track = settled(&mut pair);
        // The system clock is stepped back and slowed by 50 ppm, so that seen from it
        // the hardware clock runs faster.
        let at = pair.real();
        let step = NtpDuration::from_seconds(-0.25);
        track.steered(at, step, -50e-6);
        pair.real_ns -= 0.25e9;
        pair.fast = (1.0 + pair.fast) / (1.0 - 50e-6) - 1.0;
        let rms = rms_s(&mut pair, &mut track, 50);
        assert!(rms < 20e-9, "{rms}");
    }

    #[test]
    fn a_clock_that_we_bend_stays_known() {
        let mut pair = Pair::new(20e-6, 800.0);
        let mut track = settled(&mut pair);
        for faster in [-50e-6, 30e-6, 100e-9, -100e-6] {
            track.bent(pair.real(), faster);
            pair.fast = (1.0 + pair.fast) * (1.0 + faster) - 1.0;
            let rms = rms_s(&mut pair, &mut track, 20);
            assert!(rms < 40e-9, "{faster} {rms}");
        }
        assert_eq!(track.jumps(), 0);
    }

    #[test]
    fn a_clock_set_back_is_noticed() {
        let mut pair = Pair::new(0.0, 800.0);
        let mut track = settled(&mut pair);
        pair.phc_ns -= 60e9;
        assert_eq!(track.take(&pair.batch()), Some(Outcome::Doubted));
        pair.pass(1.0);
        assert!(matches!(
            track.take(&pair.batch()),
            Some(Outcome::Jumped(_))
        ));
    }
}

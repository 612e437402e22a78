//! From a source's samples to what its clock says now: the place of the clock
//! filter (RFC 5905 section 10). A departure: instead of picking the sample of
//! least delay out of eight, every sample counts by what its own round trip says
//! about its worth, and offset and frequency are estimated together.
//!
//! The filter follows z = θ + A(t) (see `ledger`), a line whose slope wanders:
//! height, slope and bend are the state of a Kalman filter. How this oscillator
//! wanders nobody knows, nor what kind of noise the path makes, so a bank of
//! filters, each with its own idea of both, runs side by side, and their answers
//! are mixed by how well they foretold the recent samples.
//!
//! Beside the estimate runs an enclosure, which rests on no idea of noise: the
//! truth lies within half the round trip of each sample, and goes where the
//! estimated frequency takes it, give or take what `holdover` allows.

use crate::measurement::Measurement;
use crate::mechanisms::{Mechanism, Mechanisms};
use crate::sync::holdover::{Holdover, PROMISE_SIGMAS};
use crate::sync::ledger::Ledger;
use crate::sync::likelihood::Evidence;
use crate::sync::path::{Path, Reading};
use crate::time::duration::NtpDuration;
use crate::time::instant::MonoInstant;
use crate::time::stamp::StampOrigin;
use crate::time::units::Ppm;
use crate::wire::packet::Leap;
use crate::wire::refid::RefId;

/// How an oscillator may wander.
#[derive(Clone, Copy, Debug, Default)]
struct Habit {
    /// Random walk of its frequency, as a ratio per √s.
    wander: f64,
    /// Random walk of its drift, as a ratio per s per √s.
    bend: f64,
    /// Log of how common it is among oscillators, by the decade: it counts where few
    /// samples have to tell.
    log_prior: f64,
}

/// The bank's first part, which takes no heed of drift: from an oven in a quiet room
/// to a laptop on a windowsill, in half decades. Then those that follow the
/// temperature, so that the drift of one minute foretells that of the next: from the
/// sun on the wall to an air conditioner.
const HABITS: [Habit; 13] = [
    walking(1e-11, -2.0),
    walking(3.2e-11, -1.1),
    walking(1e-10, -0.5),
    walking(3.2e-10, -0.1),
    walking(1e-9, 0.0),
    walking(3.2e-9, -0.1),
    walking(1e-8, -0.5),
    walking(3.2e-8, -1.1),
    walking(1e-7, -2.0),
    drifting(3.2e-13),
    drifting(3.2e-12),
    drifting(3.2e-11),
    drifting(3.2e-10),
];

/// Which of them are of one class.
const CLASSES: [std::ops::Range<usize>; 2] = [0..9, 9..13];

/// The habit by which outliers are told: restless enough to take up what an oscillator
/// may do, and no server.
const WIDEST: usize = 7;

/// That of a cheap oscillator in a room.
const COMMON: usize = 4;

const fn walking(wander: f64, log_prior: f64) -> Habit {
    Habit {
        wander,
        bend: 0.0,
        log_prior,
    }
}

const fn drifting(bend: f64) -> Habit {
    Habit {
        wander: 1e-10,
        bend,
        log_prior: 0.0,
    }
}

/// At the start the drift may be what its walk comes to in so many seconds.
const DRIFT_START_S: f64 = 1e4;

/// Updates over which the bank remembers who foretold well. With 20 it takes up a
/// frequency step within a few samples; with 200 it does not.
const HABIT_MEMORY: f64 = 20.0;

/// The same for kinds of noise, which change less often.
const NOISE_MEMORY: f64 = 50.0;

/// The same for classes of habits, which hardly ever change.
const CLASS_MEMORY: f64 = 100.0;

/// Log of each class's weight before anything is known. Drift has to prove itself: to
/// follow one that isn't there costs.
const CLASS_LOG_PRIORS: [f64; 2] = [0.0, -2.0];

/// Logs of the classes' weights differ by no more, so that the other can come back.
const CLASS_LOG_MAX: f64 = 10.0;

/// Logs of the habits' weights before anything is known.
fn habit_log_priors(mechanisms: Mechanisms) -> [f64; HABITS.len()] {
    let mut priors = [0.0; HABITS.len()];
    if !mechanisms.have(Mechanism::LearnedWander) {
        priors[CLASSES[0].clone()].fill(f64::NEG_INFINITY);
        priors[COMMON] = 0.0;
    }
    priors
}

/// The same of their classes.
fn class_log_priors(mechanisms: Mechanisms) -> [f64; CLASSES.len()] {
    if mechanisms.have(Mechanism::Drift) && mechanisms.have(Mechanism::LearnedWander) {
        CLASS_LOG_PRIORS
    } else {
        [0.0, f64::NEG_INFINITY]
    }
}

/// What the noise of a path may be like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Noise {
    /// Exponential queueing on both ways: an excess may lie on either in any parts.
    Queueing,
    /// Normal and the same both ways: the round trip says nothing.
    Even,
    /// Queueing almost all on the way to the server.
    Forward,
    /// Queueing almost all on the way back.
    Back,
}

const NOISES: [Noise; 4] = [Noise::Queueing, Noise::Even, Noise::Forward, Noise::Back];

/// One way's part of the excess, where it has almost all of it: so much from the end.
const ONE_WAY_PART: f64 = 0.3;
/// How often it has.
const ONE_WAY_WEIGHT: f64 = 0.8;

/// A sample this many sigma off, as seen by the filter that expects the most
/// wander, and beyond what its round trip explains, is not believed at first.
const OUTLIER_SIGMAS: f64 = 6.0;

/// This many of them on end are no outliers: the source or the clock has moved, or
/// goes at another pace. What they say among themselves is where things go on from.
const OUTLIERS_MAX: u32 = 3;

/// Samples before any is called an outlier: the scale of the noise is not known yet.
const GATED_FROM_SAMPLES: u32 = 8;

/// After a reset the oscillator is still the old one, but what moved the phase may
/// have moved the frequency by as much.
const RESET_FREQUENCY_SIGMA: Ppm = Ppm(1.0);

/// A variance told by so many samples may be half of the true one; by fewer, less
/// (Student's distribution has the same shape).
const FEW_SAMPLES: f64 = 8.0;

/// What an unknown crystal may change its frequency by at any moment (chrony's
/// `maxclockerror`).
const STEP_UNKNOWN: Ppm = Ppm(1.0);
/// What one may that was not seen to do so for long.
const STEP_MIN: Ppm = Ppm(0.05);
/// For so long it has to be quiet until it is trusted: what comes and goes by the
/// hour or two is not forgotten in between.
const STEP_QUIET_S: f64 = 9000.0;
/// Then trust grows with this time constant.
const STEP_FADING_S: f64 = 900.0;
/// So seldom does a common one: it is moved, or its room is aired. Much rarer or much
/// more often makes little difference, as it takes but little more or less to show it.
const STEP_SELDOM_S: f64 = 7.0 * 86_400.0;
/// The odds of a step between two samples stay within these.
const STEP_ODDS: (f64, f64) = (1e-9, 0.1);
/// From these odds on that there was one, a filter makes room for it. The sum of all
/// lesser ones would keep a filter from being quiet.
const SUSPICION_MIN: f64 = 0.1;
/// Within so many sigma of what was foretold and the box, they are never reached.
const USUAL_SIGMAS: f64 = 2.0;
/// The most that is expected of any.
const STEP_MAX: Ppm = Ppm(2.0);
/// A step is seen against the mean of the last few updates.
const STEP_MEMORY: f64 = 8.0;
/// So many times what is seen of it at a time may be the whole.
const STEP_FACTOR: f64 = 2.0;
/// Samples before the frequency is settled enough to see steps of it.
const STEPS_FROM_SAMPLES: u32 = 16;

/// Statistics of frequency from so few samples are not trusted alone: the round trips
/// say what it may be off by at most.
const FREQUENCY_SAMPLES: f64 = 16.0;

/// Filters of less weight don't take part in the mix.
const WEIGHT_MIN: f64 = 1e-9;

/// No sample leaves less than this of a variance.
const VARIANCE_KEPT_MIN: f64 = 1e-9;

/// Sigmas of the offset by which the promise always exceeds half the round trip.
const SLOW_SIGMAS: f64 = 2.5;

/// Sigmas that the enclosure allows for the error of the frequency from one sample to
/// the next. They add up from sample to sample, where errors in part cancel.
const ENCLOSURE_SIGMAS: f64 = 3.0;

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
    /// The same as a limit for symmetric paths, with a reserve for few samples.
    pub offset_likely: NtpDuration,
    /// The correction of our clock's frequency that would keep the offset constant.
    pub frequency: Ppm,
    /// How fast that changes: a ratio per second.
    pub drift: f64,
    /// What the oscillator may do from here on.
    pub holdover: Holdover,
    /// Least δ of the recent past.
    pub delay_min: NtpDuration,
    /// δ of the last sample.
    pub delay: NtpDuration,
    /// ψ: RMS of recent samples about what was foretold.
    pub jitter: NtpDuration,
    /// ε: what the source's clock may be off from `offset` beyond half of `delay_min`:
    /// reading error of both clocks, excess of the round trips, age.
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

/// One of everything for each habit under each kind of noise.
type Bank<T> = [[T; HABITS.len()]; NOISES.len()];

/// The estimator of one source.
#[derive(Clone, Debug)]
pub struct Filter {
    start: Start,
    mechanisms: Mechanisms,
    track: Option<Track>,
    path: Path,
    /// What the outliers since the last believed sample say.
    challenger: Option<Track>,
}

/// What there is from the first sample on.
#[derive(Clone, Debug)]
struct Track {
    mechanisms: Mechanisms,
    /// z of the first sample; everything counts from here, so that f64 is enough.
    origin_z: NtpDuration,
    /// The moment the bank and the enclosure speak of.
    at: MonoInstant,
    bank: Bank<Line>,
    /// Log of each filter's weight among those of its noise and class, about a
    /// common zero.
    log_weights: Bank<f64>,
    /// Log of each kind of noise's weight; the greatest is 0.
    noise_log_weights: [f64; NOISES.len()],
    /// Log of each class's weight; the first is 0.
    class_log_weights: [f64; CLASSES.len()],
    /// What follows from the three: what all filters together say, and how it wanders.
    mixed: Line,
    habit: Habit,
    /// The truth lies between these, whatever the noise.
    enclosure_s: (f64, f64),
    /// What the frequency may step by, and since when it did not.
    step: Ppm,
    stepped: MonoInstant,
    /// Mean frequency of the last updates, as a ratio.
    rate_mean: f64,
    /// When the first sample was taken, its round trip, and what was known before.
    began: MonoInstant,
    half_trips_s: f64,
    start_sigma: Ppm,
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
    pub fn new(start: Start, mechanisms: Mechanisms) -> Self {
        Self {
            start: start.sane(),
            mechanisms,
            track: None,
            path: Path::new(mechanisms),
            challenger: None,
        }
    }

    /// Takes in a sample; samples come in the order of their time.
    pub fn update(&mut self, sample: &Measurement, ledger: &Ledger) -> Update {
        if !ledger.covers(sample.at) || self.track.as_ref().is_some_and(|t| sample.at < t.at) {
            return Update::Stale;
        }
        let delay_s = sample.delay.as_seconds().max(0.0);
        let z = sample.offset + ledger.integral_at(sample.at);
        let shorter_s = self.path.enter(delay_s);
        let by_hardware = sample.origin == StampOrigin::Hardware;
        self.path
            .read_by(sample.precision.as_seconds(), by_hardware);

        let Some(track) = &mut self.track else {
            self.begin(z, sample);
            return Update::Taken;
        };
        if let Some(shorter_s) = shorter_s {
            track.doubt_phase(shorter_s);
        }
        if track.is_outlier(z, sample, &self.path) {
            return self.hear_challenger(z, sample);
        }
        self.challenger = None;
        track.take(z, sample, &mut self.path);
        if !track.is_sane() {
            // What a server says can be too much for arithmetic.
            self.reset();
            self.path = Path::new(self.mechanisms);
            self.path.enter(delay_s);
            self.begin(z, sample);
            return Update::Restarted;
        }
        Update::Taken
    }

    /// Takes in an outlier, which the outliers after it may prove right.
    fn hear_challenger(&mut self, z: NtpDuration, sample: &Measurement) -> Update {
        if let Some(challenger) = &mut self.challenger {
            challenger.take(z, sample, &mut self.path.clone());
        } else if let Some(track) = &self.track {
            let foretold = track.mixed_at(sample.at);
            let off_s = (z - track.origin_z).as_seconds() - foretold.phase_s;
            // Whether it jumped or goes at another pace is for the next ones to say.
            let pace = off_s.abs() / track.elapsed_s(sample.at).max(1.0);
            let start = Start {
                frequency: Ppm::from_ratio(foretold.rate),
                frequency_sigma: Ppm(Ppm::from_ratio(pace).0 + RESET_FREQUENCY_SIGMA.0),
            };
            let variance_s2 = self.path.even_var_s2() + self.path.typical_var_s2();
            self.challenger = Some(Track::new(
                start.sane(),
                self.mechanisms,
                z,
                variance_s2,
                sample,
            ));
        }
        match self.challenger.take_if(|c| c.samples >= OUTLIERS_MAX) {
            Some(challenger) => {
                self.track = Some(challenger);
                Update::Restarted
            }
            None => Update::Outlier,
        }
    }

    /// The first sample since the start or a reset.
    fn begin(&mut self, z: NtpDuration, sample: &Measurement) {
        let delay_s = sample.delay.as_seconds().max(0.0);
        let readings = self.path.readings(delay_s);
        if let Some(reading) = readings.iter().next() {
            // As uncertain as the excess leaves it, if it is one.
            let half_s = reading.half_excess_s + reading.margin_s;
            let variance_s2 = half_s * half_s / 3.0 + reading.edge_var_s2;
            let track = Track::new(self.start, self.mechanisms, z, variance_s2, sample);
            self.track = Some(track);
            self.path.learn(delay_s, 0.0, variance_s2, reading);
        }
    }

    /// What the source says at `at`; none before the first sample.
    pub fn estimate(&self, at: MonoInstant, ledger: &Ledger) -> Option<Estimate> {
        let track = self.track.as_ref()?;
        let mixed = track.honest_at(at);
        let z = track.origin_z + NtpDuration::from_seconds(mixed.phase_s);
        let offset_sigma = NtpDuration::from_seconds(mixed.phase_var_s2.sqrt());
        let few = (1.0 + FEW_SAMPLES / f64::from(track.samples)).sqrt();
        let last = &track.last;
        let delay_min = NtpDuration::from_seconds(self.path.delay_min_s());
        let (low_s, high_s) = track.enclosure_at(at);
        let farthest_s = (mixed.phase_s - low_s).max(high_s - mixed.phase_s);
        let beyond = NtpDuration::from_seconds(farthest_s) - delay_min.half();
        Some(Estimate {
            at,
            offset: z - ledger.integral_at(at),
            offset_sigma,
            offset_likely: offset_sigma * (PROMISE_SIGMAS * few) + last.dispersion,
            frequency: ledger.frequency_for(mixed.rate),
            drift: mixed.drift,
            holdover: track.holdover_at(at),
            delay_min,
            delay: last.delay,
            jitter: NtpDuration::from_seconds(track.jitter_var_s2.sqrt()),
            // Motion too slow to be told from noise is in the statistics alone.
            dispersion: beyond.max(offset_sigma * SLOW_SIGMAS) + last.dispersion,
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

    /// How much a typical sample at `at`, also ahead of time, would have to say: 0
    /// where all is known without it, 1 where nothing is. None before the first sample.
    pub fn gain_at(&self, at: MonoInstant) -> Option<f64> {
        let variance_s2 = self.track.as_ref()?.mixed_at(at).phase_var_s2;
        Some(variance_s2 / (variance_s2 + self.path.typical_var_s2()))
    }

    /// What it takes in memory, in bytes.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.path.heap_bytes()
    }

    /// When the first sample was taken that the estimate rests on.
    pub fn began(&self) -> Option<MonoInstant> {
        self.track.as_ref().map(|track| track.began)
    }

    /// Samples from which the path is known, which outlasts resets.
    pub fn path_samples(&self) -> u32 {
        self.path.samples()
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
        self.challenger = None;
    }
}

impl Track {
    fn new(
        start: Start,
        mechanisms: Mechanisms,
        z: NtpDuration,
        variance_s2: f64,
        sample: &Measurement,
    ) -> Self {
        let first = HABITS.map(|habit| Line {
            rate: start.frequency.ratio(),
            phase_var_s2: variance_s2,
            rate_var: start.frequency_sigma.ratio().powi(2),
            drift_var: habit.bend.powi(2) * DRIFT_START_S,
            ..Line::default()
        });
        let half_s = half_trip_s(sample);
        let mut track = Self {
            origin_z: z,
            at: sample.at,
            bank: [first; NOISES.len()],
            mechanisms,
            log_weights: [habit_log_priors(mechanisms); NOISES.len()],
            noise_log_weights: NOISES.map(|noise| noise.log_prior(mechanisms)),
            class_log_weights: class_log_priors(mechanisms),
            mixed: Line::default(),
            habit: Habit::default(),
            enclosure_s: (-half_s, half_s),
            step: STEP_UNKNOWN,
            stepped: sample.at,
            rate_mean: start.frequency.ratio(),
            began: sample.at,
            half_trips_s: half_s,
            start_sigma: start.frequency_sigma,
            jitter_var_s2: variance_s2,
            surprise: 1.0,
            samples: 1,
            last: *sample,
        };
        track.weigh();
        track
    }

    /// Are all numbers still numbers?
    fn is_sane(&self) -> bool {
        let mixed = self.honest_at(self.at);
        mixed.phase_var_s2 > 0.0
            && mixed.phase_s.is_finite()
            && mixed.rate.is_finite()
            && mixed.phase_var_s2.is_finite()
            && mixed.rate_var.is_finite()
    }

    /// All samples so far may have been wrong by half of `difference_s`, alike.
    fn doubt_phase(&mut self, difference_s: f64) {
        let lines = self.bank.as_flattened_mut().iter_mut();
        for line in lines.chain([&mut self.mixed]) {
            line.phase_var_s2 += difference_s * difference_s / 12.0;
        }
    }

    /// Measured against the filter that expects most, or a frequency step would
    /// look like an outlier to those who expect none.
    fn is_outlier(&self, z: NtpDuration, sample: &Measurement, path: &Path) -> bool {
        if self.samples < GATED_FROM_SAMPLES {
            return false;
        }
        let elapsed_s = self.elapsed_s(sample.at);
        let even_var_s2 = path.even_var_s2();
        let z_s = (z - self.origin_z).as_seconds();
        let explained = |line: &Line, reading: &Reading| {
            let off_s = (z_s - reading.shift_s - line.phase_s).abs();
            let variance_s2 = line.phase_var_s2 + even_var_s2 + reading.edge_var_s2;
            off_s <= reading.half_excess_s + reading.margin_s + OUTLIER_SIGMAS * variance_s2.sqrt()
        };
        let readings = path.readings(sample.delay.as_seconds().max(0.0));
        !self.bank.iter().any(|lines| {
            let line = lines[WIDEST].ahead(elapsed_s, HABITS[WIDEST]);
            readings.iter().any(|reading| explained(&line, reading))
        })
    }

    fn take(&mut self, z: NtpDuration, sample: &Measurement, path: &mut Path) {
        let z_s = (z - self.origin_z).as_seconds();
        let delay_s = sample.delay.as_seconds().max(0.0);
        let elapsed_s = self.elapsed_s(sample.at);
        let foretold = self.mixed_at(sample.at);
        let even_var_s2 = path.even_var_s2();
        let readings = path.readings(delay_s);

        let likely = readings.iter().max_by(|a, b| {
            let weight = |reading: &Reading| {
                let off_s = z_s - reading.shift_s - foretold.phase_s;
                let half_s = reading.half_excess_s + reading.margin_s;
                let variance_s2 = foretold.phase_var_s2 + reading.edge_var_s2;
                let evidence = Evidence::within(off_s, half_s, variance_s2);
                reading.log_prior + evidence.log
            };
            weight(a).total_cmp(&weight(b))
        });
        let Some(likely) = likely else { return };
        self.note_surprise(
            z_s - likely.shift_s - foretold.phase_s,
            foretold.phase_var_s2,
            likely,
            even_var_s2,
        );

        let suspicious = self.mechanisms.have(Mechanism::Suspicion);
        let odds = (elapsed_s / STEP_SELDOM_S).clamp(STEP_ODDS.0, STEP_ODDS.1);
        let mut fits = [[0.0; CLASSES.len()]; NOISES.len()];
        for (noise_index, noise) in NOISES.into_iter().enumerate() {
            for (class_index, class) in CLASSES.into_iter().enumerate() {
                let log_weights = &mut self.log_weights[noise_index][class.clone()];
                let lines = &mut self.bank[noise_index][class.clone()];
                let common = log_sum(log_weights.iter().copied());
                let mut fit = LogSum::default();
                for ((line, log_weight), habit) in lines
                    .iter_mut()
                    .zip(log_weights.iter_mut())
                    .zip(&HABITS[class])
                {
                    let ahead = line.ahead(elapsed_s, *habit);
                    let heard = |ahead: &Line| {
                        Evidence::one_of(readings.iter().map(|reading| {
                            let off_s = z_s - reading.shift_s - ahead.phase_s;
                            let var_s2 = ahead.phase_var_s2;
                            let evidence = noise.evidence(
                                reading,
                                off_s,
                                var_s2,
                                even_var_s2,
                                self.mechanisms,
                            );
                            (reading.log_prior, evidence)
                        }))
                    };
                    let said = heard(&ahead);
                    let mut log = said.log;
                    *line = ahead.with(&said);
                    // Where nothing is strange, it is not worth the time.
                    let usual = readings.iter().any(|reading| {
                        let off_s = (z_s - reading.shift_s - ahead.phase_s).abs()
                            - reading.half_excess_s
                            - reading.margin_s;
                        let variance_s2 = ahead.phase_var_s2 + reading.edge_var_s2 + even_var_s2;
                        off_s <= 0.0 || off_s * off_s <= USUAL_SIGMAS * USUAL_SIGMAS * variance_s2
                    });
                    if suspicious && !usual {
                        let stepped = ahead.stepped(elapsed_s);
                        let stepped_says = heard(&stepped);
                        let stepped_log = odds.ln() + stepped_says.log;
                        log = log_sum([(1.0 - odds).ln() + log, stepped_log].into_iter());
                        let suspicion = (stepped_log - log).exp();
                        if suspicion > SUSPICION_MIN {
                            *line = line.or(&stepped.with(&stepped_says), suspicion);
                        }
                    }
                    fit.add(*log_weight - common + log);
                    *log_weight = remembered(*log_weight, HABIT_MEMORY)
                        + log
                        + habit.log_prior / HABIT_MEMORY;
                }
                let best = log_weights.iter().copied().fold(f64::MIN, f64::max);
                log_weights.iter_mut().for_each(|w| *w -= best);
                fits[noise_index][class_index] = fit.log();
            }
        }
        self.weigh_kinds(&fits);

        self.enclose(z_s, sample);
        path.learn(
            delay_s,
            z_s - foretold.phase_s,
            foretold.phase_var_s2,
            likely,
        );
        self.samples = self.samples.saturating_add(1);
        self.at = sample.at;
        self.last = *sample;
        self.note_step();
    }

    /// Weighs kinds of noise and classes of habits anew, from how well each pair of
    /// them foretold a sample.
    fn weigh_kinds(&mut self, fits: &[[f64; CLASSES.len()]; NOISES.len()]) {
        let noises_log = log_sum(self.noise_log_weights.iter().copied());
        let classes_log = log_sum(self.class_log_weights.iter().copied());
        let (noises, classes) = (self.noise_log_weights, self.class_log_weights);
        for (class, log_weight) in self.class_log_weights.iter_mut().enumerate() {
            let fit = log_sum((0..NOISES.len()).map(|n| noises[n] - noises_log + fits[n][class]));
            let prior = CLASS_LOG_PRIORS[class];
            *log_weight = prior + remembered(*log_weight - prior, CLASS_MEMORY) + fit;
        }
        let first = self.class_log_weights[0];
        // Without weight is what is not in force.
        let in_force = |log_weight: &&mut f64| log_weight.is_finite();
        for log_weight in self.class_log_weights.iter_mut().filter(in_force) {
            *log_weight = (*log_weight - first).clamp(-CLASS_LOG_MAX, CLASS_LOG_MAX);
        }
        for (noise, log_weight) in self.noise_log_weights.iter_mut().enumerate() {
            let fit =
                log_sum((0..CLASSES.len()).map(|c| classes[c] - classes_log + fits[noise][c]));
            *log_weight = remembered(*log_weight, NOISE_MEMORY) + fit;
        }
        let best = self
            .noise_log_weights
            .iter()
            .copied()
            .fold(f64::MIN, f64::max);
        self.noise_log_weights.iter_mut().for_each(|w| *w -= best);
        self.weigh();
    }

    /// Weights from their logs, and the mixture anew.
    fn weigh(&mut self) {
        let mut weights: Bank<f64> = Default::default();
        let kinds_log = log_sum(self.noise_log_weights.iter().copied())
            + log_sum(self.class_log_weights.iter().copied());
        for (noise, noise_log) in self.noise_log_weights.into_iter().enumerate() {
            for (class, class_log) in CLASSES.into_iter().zip(self.class_log_weights) {
                let log_weights = &self.log_weights[noise][class.clone()];
                let common = log_sum(log_weights.iter().copied()) + kinds_log;
                for (weight, log_weight) in weights[noise][class].iter_mut().zip(log_weights) {
                    *weight = (log_weight + noise_log + class_log - common).exp();
                }
            }
        }
        self.mix(&weights);
    }

    /// Mean and spread of the mixture; that the filters disagree is part of how little
    /// is known. A mixture goes ahead as each of its parts does, so this is all that
    /// anybody has to know of the bank until the next sample.
    fn mix(&mut self, weights: &Bank<f64>) {
        let lines = self.bank.as_flattened().iter();
        let weights = weights.as_flattened().iter().copied();
        // Those without weight cost time for nothing.
        let weighty = lines
            .zip(weights)
            .zip(HABITS.iter().cycle())
            .filter(|&((_, weight), _)| weight > WEIGHT_MIN);
        let mut mixed = Line::default();
        let (mut wander_2, mut bend_2) = (0.0, 0.0);
        for ((line, weight), habit) in weighty.clone() {
            mixed.phase_s += weight * line.phase_s;
            mixed.rate += weight * line.rate;
            mixed.drift += weight * line.drift;
            wander_2 += weight * habit.wander * habit.wander;
            bend_2 += weight * habit.bend * habit.bend;
        }
        for ((line, weight), _) in weighty {
            let (phase_off_s, rate_off) = (line.phase_s - mixed.phase_s, line.rate - mixed.rate);
            let drift_off = line.drift - mixed.drift;
            mixed.phase_var_s2 += weight * (line.phase_var_s2 + phase_off_s * phase_off_s);
            mixed.covariance_s += weight * (line.covariance_s + phase_off_s * rate_off);
            mixed.phase_drift += weight * (line.phase_drift + phase_off_s * drift_off);
            mixed.rate_var += weight * (line.rate_var + rate_off * rate_off);
            mixed.rate_drift += weight * (line.rate_drift + rate_off * drift_off);
            mixed.drift_var += weight * (line.drift_var + drift_off * drift_off);
        }
        self.mixed = mixed;
        self.habit = Habit {
            wander: wander_2.sqrt(),
            bend: bend_2.sqrt(),
            log_prior: 0.0,
        };
    }

    /// The truth is where it was said to be so far, and within half the round trip of
    /// this sample. If it can't be both, something moved that was not allowed for, and
    /// the sample is right.
    fn enclose(&mut self, z_s: f64, sample: &Measurement) {
        let (low_s, high_s) = self.enclosure_at(sample.at);
        let half_s = half_trip_s(sample);
        let (sample_low_s, sample_high_s) = (z_s - half_s, z_s + half_s);
        self.enclosure_s = (low_s.max(sample_low_s), high_s.min(sample_high_s));
        if self.enclosure_s.0 > self.enclosure_s.1 {
            self.enclosure_s = (sample_low_s, sample_high_s);
            self.step = Ppm(self.step_at(sample.at).0.max(STEP_UNKNOWN.0));
            self.stepped = sample.at;
        }
    }

    /// The enclosure at a moment not before the last sample.
    fn enclosure_at(&self, at: MonoInstant) -> (f64, f64) {
        let gained_s = self.mixed_at(at).phase_s - self.mixed_at(self.at).phase_s;
        let grown_s = self
            .holdover_at(self.at)
            .grown(at.since(self.at), ENCLOSURE_SIGMAS)
            .as_seconds();
        let (low_s, high_s) = self.enclosure_s;
        (low_s + gained_s - grown_s, high_s + gained_s + grown_s)
    }

    /// What the oscillator may do from `at` on.
    fn holdover_at(&self, at: MonoInstant) -> Holdover {
        let sigma = self.honest_at(self.at).rate_var.sqrt();
        Holdover {
            frequency_sigma: Ppm::from_ratio(sigma.max(self.frequency_reserve().ratio())),
            wander: self.habit.wander,
            drift: (self.mixed.drift.powi(2) + self.mixed.drift_var).sqrt(),
            bend: self.habit.bend,
            step: self.step_at(at),
        }
        .after(at.since(self.at))
    }

    fn note_surprise(&mut self, off_s: f64, off_var_s2: f64, likely: &Reading, even_var_s2: f64) {
        let half_s = likely.half_excess_s + likely.margin_s;
        let noise_var_s2 =
            (half_s * half_s / 3.0).max(even_var_s2.min(half_s * half_s)) + likely.edge_var_s2;
        let surprise = off_s * off_s / (off_var_s2 + noise_var_s2);
        let share = 1.0 / f64::from((self.samples + 1).min(16));
        self.jitter_var_s2 += (off_s * off_s - self.jitter_var_s2) * share;
        self.surprise += (surprise - self.surprise) * share;
    }

    /// A line through two boxes can't be steeper than through opposite corners of them.
    /// As long as there are few samples, that counts beside their statistics.
    fn frequency_reserve(&self) -> Ppm {
        let few = (FREQUENCY_SAMPLES / f64::from(self.samples)).min(1.0);
        let elapsed_s = self.at.since(self.began).as_seconds();
        let steepest = (self.half_trips_s + half_trip_s(&self.last)) / elapsed_s;
        let sigma = Ppm::from_ratio(few * steepest / PROMISE_SIGMAS);
        Ppm(sigma.0.min(self.start_sigma.0))
    }

    /// A frequency that was just seen to step may do it again.
    fn note_step(&mut self) {
        let rate = self.mixed_at(self.at).rate;
        let changed = (rate - self.rate_mean).abs();
        let memory = STEP_MEMORY.min(f64::from(self.samples) / 2.0);
        self.rate_mean += (rate - self.rate_mean) / memory;
        let expected = Ppm(Ppm::from_ratio(STEP_FACTOR * changed).0.min(STEP_MAX.0));
        let allowed = self.step_at(self.at);
        // About as much as before is as good a reason to go on expecting it.
        if self.samples >= STEPS_FROM_SAMPLES && expected.0 >= allowed.0 / STEP_FACTOR {
            self.step = Ppm(expected.0.max(allowed.0));
            self.stepped = self.at;
        }
    }

    /// What the frequency may step by at `at`.
    fn step_at(&self, at: MonoInstant) -> Ppm {
        let quiet_s = at.since(self.stepped).as_seconds();
        let faded = self.step.0 * (-(quiet_s - STEP_QUIET_S).max(0.0) / STEP_FADING_S).exp();
        Ppm(faded.max(STEP_MIN.0))
    }

    /// The bank's common answer for the moment `at`, which may lie ahead.
    fn mixed_at(&self, at: MonoInstant) -> Line {
        self.mixed.ahead(self.elapsed_s(at), self.habit)
    }

    /// The same with variances that own up to noise beyond what the round trips
    /// show: a busy host delays one leg's stamps, and the filter, told too little
    /// of it, would be too sure of itself.
    fn honest_at(&self, at: MonoInstant) -> Line {
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

impl Noise {
    /// Log of its weight before anything is known.
    fn log_prior(self, mechanisms: Mechanisms) -> f64 {
        let in_force = match self {
            Self::Queueing => mechanisms.have(Mechanism::RoundTrip),
            Self::Even => {
                mechanisms.have(Mechanism::EvenNoise) || !mechanisms.have(Mechanism::RoundTrip)
            }
            Self::Forward | Self::Back => {
                mechanisms.have(Mechanism::OneWay) && mechanisms.have(Mechanism::RoundTrip)
            }
        };
        if in_force { 0.0 } else { f64::NEG_INFINITY }
    }

    /// What a sample `off_s` above the prior's mean says, if the noise is this.
    fn evidence(
        self,
        reading: &Reading,
        off_s: f64,
        prior_var_s2: f64,
        even_var_s2: f64,
        mechanisms: Mechanisms,
    ) -> Evidence {
        let within = if mechanisms.have(Mechanism::Box) {
            Evidence::within
        } else {
            Evidence::about
        };
        let half_s = reading.half_excess_s + reading.margin_s;
        let variance_s2 = prior_var_s2 + reading.edge_var_s2;
        let queueing = || within(off_s, half_s, variance_s2);
        // Extraordinary excesses follow their own rules on any path.
        let sign = match self {
            Self::Queueing => return queueing(),
            _ if !reading.ordinary => return queueing(),
            Self::Even => return Evidence::normal(off_s, variance_s2 + even_var_s2),
            // A late request makes the source look ahead: the truth lies below.
            Self::Forward => -1.0,
            Self::Back => 1.0,
        };
        let middle_s = sign * reading.half_excess_s * (1.0 - ONE_WAY_PART);
        let half_s = reading.half_excess_s * ONE_WAY_PART + reading.margin_s;
        let one_way = within(off_s + middle_s, half_s, variance_s2);
        let pieces = [
            (ONE_WAY_WEIGHT, one_way),
            (1.0 - ONE_WAY_WEIGHT, queueing()),
        ];
        Evidence::one_of(
            pieces
                .into_iter()
                .map(|(weight, piece)| (weight.ln(), piece)),
        )
    }
}

/// Half the round trip, and what both clocks may be misread by.
fn half_trip_s(sample: &Measurement) -> f64 {
    sample.delay.half().as_seconds().max(0.0) + sample.dispersion.as_seconds().max(0.0)
}

/// A log of weight after one more update, by someone who remembers so many.
fn remembered(log_weight: f64, memory: f64) -> f64 {
    log_weight * (1.0 - 1.0 / memory)
}

/// ln Σ exp of a few logs.
fn log_sum(logs: impl Iterator<Item = f64>) -> f64 {
    let mut sum = LogSum::default();
    logs.for_each(|log| sum.add(log));
    sum.log()
}

/// Adds up numbers of which only the logs are fit to be held.
#[derive(Clone, Copy, Debug)]
struct LogSum {
    greatest: f64,
    scaled: f64,
}

impl Default for LogSum {
    fn default() -> Self {
        Self {
            greatest: f64::MIN,
            scaled: 0.0,
        }
    }
}

impl LogSum {
    fn add(&mut self, log: f64) {
        if log > self.greatest {
            self.scaled = self.scaled * (self.greatest - log).exp() + 1.0;
            self.greatest = log;
        } else {
            self.scaled += (log - self.greatest).exp();
        }
    }

    fn log(&self) -> f64 {
        self.greatest + self.scaled.ln()
    }
}

/// Height, slope and bend of a line, and how well they are known together.
#[derive(Clone, Copy, Debug, Default)]
struct Line {
    phase_s: f64,
    rate: f64,
    /// Change of the rate, per second.
    drift: f64,
    phase_var_s2: f64,
    /// Of phase and rate.
    covariance_s: f64,
    phase_drift: f64,
    rate_var: f64,
    rate_drift: f64,
    drift_var: f64,
}

impl Line {
    /// The same line `elapsed_s` later, slope and bend having taken a random walk.
    fn ahead(&self, elapsed_s: f64, habit: Habit) -> Self {
        let t = elapsed_s;
        let half = t * t / 2.0;
        let (slope, bend) = (habit.wander * habit.wander, habit.bend * habit.bend);
        Self {
            phase_s: self.phase_s + self.rate * t + self.drift * half,
            rate: self.rate + self.drift * t,
            drift: self.drift,
            phase_var_s2: self.phase_var_s2
                + t * (2.0 * self.covariance_s + t * self.rate_var)
                + half
                    * (2.0 * self.phase_drift + 2.0 * t * self.rate_drift + half * self.drift_var)
                + slope * t.powi(3) / 3.0
                + bend * t.powi(5) / 20.0,
            covariance_s: self.covariance_s
                + t * (self.rate_var + self.phase_drift + half * self.drift_var)
                + 3.0 * half * self.rate_drift
                + slope * half
                + bend * half * half / 2.0,
            phase_drift: self.phase_drift
                + t * self.rate_drift
                + half * self.drift_var
                + bend * t.powi(3) / 6.0,
            rate_var: self.rate_var
                + t * (2.0 * self.rate_drift + t * self.drift_var)
                + slope * t
                + bend * t.powi(3) / 3.0,
            rate_drift: self.rate_drift + t * self.drift_var + bend * half,
            drift_var: self.drift_var + bend * t,
        }
    }

    /// The same if the frequency stepped at some moment of the last `elapsed_s`.
    fn stepped(&self, elapsed_s: f64) -> Self {
        let step_var = STEP_UNKNOWN.ratio().powi(2);
        Self {
            phase_var_s2: self.phase_var_s2 + step_var * elapsed_s * elapsed_s / 3.0,
            covariance_s: self.covariance_s + step_var * elapsed_s / 2.0,
            rate_var: self.rate_var + step_var,
            ..*self
        }
    }

    /// Either this, or with so much `weight` the other.
    fn or(&self, other: &Self, weight: f64) -> Self {
        let kept = 1.0 - weight;
        let (phase, rate, drift) = (
            other.phase_s - self.phase_s,
            other.rate - self.rate,
            other.drift - self.drift,
        );
        let mean = |own: f64, others: f64| kept * own + weight * others;
        let apart = kept * weight;
        Self {
            phase_s: mean(self.phase_s, other.phase_s),
            rate: mean(self.rate, other.rate),
            drift: mean(self.drift, other.drift),
            phase_var_s2: mean(self.phase_var_s2, other.phase_var_s2) + apart * phase * phase,
            covariance_s: mean(self.covariance_s, other.covariance_s) + apart * phase * rate,
            phase_drift: mean(self.phase_drift, other.phase_drift) + apart * phase * drift,
            rate_var: mean(self.rate_var, other.rate_var) + apart * rate * rate,
            rate_drift: mean(self.rate_drift, other.rate_drift) + apart * rate * drift,
            drift_var: mean(self.drift_var, other.drift_var) + apart * drift * drift,
        }
    }

    /// Corrected by what a sample of the height says.
    fn with(&self, evidence: &Evidence) -> Self {
        let (slope, curvature) = (evidence.slope, evidence.curvature);
        // Rounding must not make a variance negative.
        let kept = (1.0 - self.phase_var_s2 * curvature).max(VARIANCE_KEPT_MIN);
        let reduced = |variance: f64, with_phase: f64| {
            (variance - with_phase * with_phase * curvature).max(variance * VARIANCE_KEPT_MIN)
        };
        Self {
            phase_s: self.phase_s + self.phase_var_s2 * slope,
            rate: self.rate + self.covariance_s * slope,
            drift: self.drift + self.phase_drift * slope,
            phase_var_s2: self.phase_var_s2 * kept,
            covariance_s: self.covariance_s * kept,
            phase_drift: self.phase_drift * kept,
            rate_var: reduced(self.rate_var, self.covariance_s),
            rate_drift: self.rate_drift - self.covariance_s * self.phase_drift * curvature,
            drift_var: reduced(self.drift_var, self.phase_drift),
        }
    }
}

// How well it estimates is told by the stories in `weather`.
#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::ledger::MonotonicClock;
    use proptest::prelude::*;

    fn ledger() -> Ledger {
        Ledger::new(MonoInstant::ZERO, Ppm::ZERO, MonotonicClock::Free)
    }

    #[test]
    fn one_sample_is_enough_for_an_offset() {
        let (mut filter, ledger) = (
            Filter::new(Start::default(), Mechanisms::default()),
            ledger(),
        );
        assert_eq!(filter.estimate(MonoInstant::ZERO, &ledger), None);
        let first = Measurement::of_perfect_server(1.0, 0.3, 0.001);
        filter.update(&first, &ledger);
        let estimate = filter.estimate(first.at, &ledger).expect("heard");
        assert_eq!(estimate.offset, first.offset);
        assert!((estimate.holdover.frequency_sigma - Ppm(100.0)).abs() < Ppm(1e-9));
        assert!(estimate.root_distance() > first.delay.half());
        // One sample's word for its own worth needs a wide reserve.
        assert!(estimate.offset_likely > first.dispersion + estimate.offset_sigma * 11.9);
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
            let (mut filter, ledger) = (
                Filter::new(Start::default(), Mechanisms::default()),
                ledger(),
            );
            for second in 0..10 {
                let slow = pattern >> second & 1 == 1;
                let ripple_s = f64::from(second * 7 % 5) * 1e-7;
                let delay_s = if slow { 14e-6 } else { 4e-6 } + ripple_s;
                let sample =
                    Measurement::of_perfect_server(f64::from(second), -0.4 * delay_s, delay_s);
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
        let (mut filter, ledger) = (
            Filter::new(Start::default(), Mechanisms::default()),
            ledger(),
        );
        let mut at_s = 0.0;
        let mut next = |offset_s| {
            at_s += 16.0;
            Measurement::of_perfect_server(at_s, offset_s, 0.001)
        };
        for _ in 0..20 {
            assert_eq!(filter.update(&next(0.0), &ledger), Update::Taken);
        }
        for _ in 0..2 {
            for _ in 0..2 {
                assert_eq!(filter.update(&next(0.01), &ledger), Update::Outlier);
            }
            assert_eq!(filter.update(&next(0.0), &ledger), Update::Taken);
        }
        for _ in 0..2 {
            assert_eq!(filter.update(&next(0.01), &ledger), Update::Outlier);
        }
        let believed = next(0.01);
        assert_eq!(filter.update(&believed, &ledger), Update::Restarted);
        let estimate = filter.estimate(believed.at, &ledger).expect("heard");
        let off = (estimate.offset - believed.offset).abs();
        assert!(off < NtpDuration::from_seconds(20e-6), "{off}");
        assert!(
            estimate.holdover.frequency_sigma < Ppm(10.0),
            "the outliers agree on the pace"
        );
    }

    #[test]
    fn samples_from_before_a_foreign_step_are_stale() {
        let (mut filter, mut ledger) = (
            Filter::new(Start::default(), Mechanisms::default()),
            ledger(),
        );
        filter.update(&Measurement::of_perfect_server(10.0, 0.0, 0.001), &ledger);
        assert_eq!(
            filter.update(&Measurement::of_perfect_server(9.0, 0.0, 0.001), &ledger),
            Update::Stale
        );
        ledger.reset(MonoInstant::from_nanos(20_000_000_000));
        filter.reset();
        assert_eq!(
            filter.update(&Measurement::of_perfect_server(19.0, 0.0, 0.001), &ledger),
            Update::Stale
        );
        assert_eq!(
            filter.update(&Measurement::of_perfect_server(21.0, 5.0, 0.001), &ledger),
            Update::Taken
        );
    }

    #[test]
    fn a_source_is_small() {
        let ledger = ledger();
        let mut filter = Filter::new(Start::default(), Mechanisms::default());
        // Three routes, and as many samples as are kept.
        for n in 0..1000 {
            let delay_s = [1e-3, 2e-3, 3e-3][n / 100 % 3] + (n % 7) as f64 * 1e-6;
            let sample = Measurement::of_perfect_server(16.0 * n as f64, 0.0, delay_s);
            filter.update(&sample, &ledger);
        }
        assert!(filter.bytes() > size_of::<Filter>());
        assert!(filter.bytes() < 14 * 1024, "{}", filter.bytes());
    }

    proptest! {
        /// Whatever a server sends, the estimate stays a number.
        #[test]
        fn nonsense_stays_a_number(
            samples in prop::collection::vec(any::<(u32, i64, i64, i64)>(), 1..40),
            start in any::<(f64, f64)>(),
        ) {
            let ledger = ledger();
            let start = Start {
                frequency: Ppm(start.0),
                frequency_sigma: Ppm(start.1),
            };
            let mut filter = Filter::new(start, Mechanisms::default());
            let mut at = MonoInstant::ZERO;
            for (elapsed_ms, offset, delay, dispersion) in samples {
                at = at + NtpDuration::from_seconds(f64::from(elapsed_ms) * 1e-3);
                filter.update(
                    &Measurement {
                        at,
                        offset: NtpDuration::from_units(offset),
                        delay: NtpDuration::from_units(delay),
                        dispersion: NtpDuration::from_units(dispersion),
                        ..Measurement::of_perfect_server(0.0, 0.0, 0.0)
                    },
                    &ledger,
                );
                let estimate = filter.estimate(at, &ledger).expect("heard");
                prop_assert!(estimate.frequency.0.is_finite());
                prop_assert!(estimate.holdover.frequency_sigma.0.is_finite());
                prop_assert!(!estimate.offset_sigma.is_negative());
            }
        }
    }
}

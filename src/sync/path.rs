//! What a source's round trips say about the worth of its samples.
//!
//! A packet that queued took longer, so the excess of a round trip δ over the least
//! one is what its offset θ may be wrong by, half of it either way. The least round
//! trip is not one for ever: a route that changes adds a constant to it, and more
//! often than not to one way alone. Such a path is a level of its own here, with its
//! own least round trip, and with a shift: how far the offsets that come over it lie
//! from what was foretold when it began. So the samples go on counting, and the
//! clock does not follow the route.

use crate::mechanisms::{Mechanism, Mechanisms};

/// Excesses from which the scale of the noise is taken.
const EXCESSES: usize = 64;

/// Least round trips are those of up to so many blocks...
const FLOOR_BLOCKS: usize = 8;
/// ...of so many samples each, so that a path that slowly gets longer is noticed.
const FLOOR_BLOCK: u32 = 64;

/// Levels kept at a time: the shortest path, one in use, one that comes and goes.
const LEVELS_MAX: usize = 3;

/// A level that gave no sample for so many is forgotten.
const UNSEEN_MAX: u32 = 512;

/// The least round trip lies this many times its own uncertainty below the next, at
/// most.
const APART: f64 = 6.0;

/// Part of the scale by which the least round trip is unsure even after many samples.
const SHARE_MIN: f64 = 0.05;

/// The least of n sums of two exponentials lies about 0.84/√n of their scale (the
/// median excess) above the true floor.
const SHARE_OF_ONE: f64 = 0.84;

/// By so much of that the box of a sample is made wider...
const EDGE_MARGIN: f64 = 0.5;
/// ...and by so much its edges are softened, one sigma.
const EDGE_SOFTNESS: f64 = 0.5;

/// Up to this excess, in units of the scale, a round trip is an ordinary one. For
/// exponential queueing both ways, one in a hundred is not.
const ORDINARY: f64 = 4.0;

/// So many extraordinary round trips on end that are alike are another path.
const ALIKE: usize = 4;

/// How unlike they may be, in units of the scale.
const ALIKE_DELAYS: f64 = 5.0;
/// The same for their offsets.
const ALIKE_OFFSETS: f64 = 4.0;

/// Samples before levels are told apart: the scale is not known yet.
const YOUNG: usize = 8;

/// Median of the sum of two exponentials, in units of their mean.
const MEDIAN_OF_TWO: f64 = 1.68;

/// How likely the delays of the shortest path are to follow no rule.
const LAWLESS: f64 = 0.05;
/// The same for other levels, which are known by what they have in common.
const LAWLESS_ELSEWHERE: f64 = 1e-6;

/// Samples after which who was seen last is half forgotten, about.
const OCCUPANCY_SHARE: f64 = 0.3;

/// Quartiles of a normal distribution lie so many sigma apart.
const QUARTILES_SIGMAS: f64 = 1.349;

/// Round trips by coarse stamps differ by whole ticks or not at all. So those within
/// these parts of the precision of the least one (which names the tick within a factor
/// of two)...
const BETWEEN_TICKS: std::ops::Range<f64> = 0.125..0.375;
/// ...are hardly any: at most such a part of them all.
const BETWEEN_MAX: f64 = 1.0 / 16.0;
/// Stamps of hardware may be far finer than the clock's precision. If they are not, such
/// a part of the round trips at least is longer by a tick.
const TICKS_MIN: f64 = 1.0 / 16.0;

/// Nothing is known better than this: stamps count in nanoseconds.
const NANOSECOND_S: f64 = 1e-9;

/// A path and where its samples lie.
#[derive(Clone, Copy, Debug)]
struct Level {
    /// The two least round trips of each block, the one that is being filled first.
    floors_s: [(f64, f64); FLOOR_BLOCKS],
    filled: u32,
    samples: u32,
    /// Offsets measured here, less those on the shortest path.
    shift_s: f64,
    shift_var_s2: f64,
    /// How much of the recent past it had, 0 to 1.
    occupancy: f64,
    unseen: u32,
}

impl Level {
    fn new(delay_s: f64, samples: u32) -> Self {
        let mut floors_s = [(f64::MAX, f64::MAX); FLOOR_BLOCKS];
        floors_s[0].0 = delay_s;
        Self {
            floors_s,
            filled: samples,
            samples,
            shift_s: 0.0,
            shift_var_s2: 0.0,
            occupancy: 0.5,
            unseen: 0,
        }
    }

    /// The least round trip, unless it stands apart from the next so far that a stamp
    /// must have been wrong: then that one.
    fn floor_s(&self, scale_s: f64) -> f64 {
        let (least_s, next_s) = self
            .floors_s
            .iter()
            .fold((f64::MAX, f64::MAX), |found, &block| {
                least_two(found, block)
            });
        let apart_s = APART * self.share() * scale_s;
        if self.samples >= YOUNG as u32 && next_s - least_s > apart_s {
            next_s
        } else {
            least_s
        }
    }

    fn enter(&mut self, delay_s: f64) {
        if self.filled == FLOOR_BLOCK {
            self.floors_s.rotate_right(1);
            self.floors_s[0] = (f64::MAX, f64::MAX);
            self.filled = 0;
        }
        // The first is in already: it made the level.
        if self.samples > 0 {
            self.floors_s[0] = least_two(self.floors_s[0], (delay_s, f64::MAX));
        }
        self.filled += 1;
        self.samples = (self.samples + 1).min(FLOOR_BLOCKS as u32 * FLOOR_BLOCK);
        self.unseen = 0;
    }

    /// Part of the scale by which its floor is unsure.
    fn share(&self) -> f64 {
        (SHARE_OF_ONE / f64::from(self.samples.max(1)).sqrt()).max(SHARE_MIN)
    }
}

/// A sample as one of the levels explains it.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// Log of how well the level explains the round trip.
    pub log_prior: f64,
    /// To be taken off the sample's offset.
    pub shift_s: f64,
    /// Half of what the round trip took beyond the level's least: the offset is wrong
    /// by no more.
    pub half_excess_s: f64,
    /// What the level's least may be unsure by.
    pub margin_s: f64,
    /// Variance of the edges: how well shift and floor are known.
    pub edge_var_s2: f64,
    /// Is the excess an ordinary one?
    pub ordinary: bool,
    level: usize,
}

/// All explanations of one sample.
#[derive(Clone, Copy, Debug, Default)]
pub struct Readings([Option<Reading>; LEVELS_MAX]);

impl Readings {
    /// One by one, the shortest path's first.
    pub fn iter(&self) -> impl Iterator<Item = &Reading> + Clone {
        self.0.iter().flatten()
    }
}

/// An extraordinary sample: its δ, how far θ lay from what was foretold, and the
/// variance of that.
#[derive(Clone, Copy, Debug)]
struct Suspect {
    delay_s: f64,
    off_s: f64,
    off_var_s2: f64,
}

/// What is known of the ways to a source and back.
#[derive(Clone, Debug, Default)]
pub struct Path {
    /// The shortest first.
    levels: Vec<Level>,
    /// The newest is at `(entered − 1) % EXCESSES`.
    excesses_s: Vec<f64>,
    entered: usize,
    scale_s: f64,
    quartiles_s: f64,
    suspects: Vec<Suspect>,
    /// Variance of an offset by what stamps can't tell.
    reading_var_s2: f64,
    mechanisms: Mechanisms,
}

impl Path {
    /// Nothing is known yet.
    pub fn new(mechanisms: Mechanisms) -> Self {
        Self {
            mechanisms,
            ..Self::default()
        }
    }

    /// What it keeps on the heap, in bytes.
    pub fn heap_bytes(&self) -> usize {
        self.levels.capacity() * size_of::<Level>()
            + self.excesses_s.capacity() * size_of::<f64>()
            + self.suspects.capacity() * size_of::<Suspect>()
    }

    /// Least δ of the recent past on the shortest path; zero before the first sample.
    pub fn delay_min_s(&self) -> f64 {
        self.levels
            .first()
            .map_or(0.0, |level| level.floor_s(self.scale_s))
    }

    /// Samples that were learnt from.
    pub fn samples(&self) -> u32 {
        self.entered.try_into().unwrap_or(u32::MAX)
    }

    /// Variance of the offset of a sample, if its noise does not depend on its round
    /// trip: two ways with noise alike and normal.
    pub fn even_var_s2(&self) -> f64 {
        let few = 1.0 + 4.0 / self.excesses_s.len().max(1) as f64;
        let sigma_s = self.quartiles_s / QUARTILES_SIGMAS / 2.0 * few;
        sigma_s * sigma_s + self.reading_var_s2 + NANOSECOND_S * NANOSECOND_S
    }

    /// Variance of the offset of a typical sample.
    pub fn typical_var_s2(&self) -> f64 {
        // Half of all samples have an excess of less than the scale.
        self.scale_s * self.scale_s / 12.0 + self.reading_var_s2 + NANOSECOND_S * NANOSECOND_S
    }

    /// The next stamps come from a clock of so much precision, or from hardware. Within
    /// a tick anything is as likely, and T1 and T4 of a short exchange lie in the same
    /// one. Most round trips may then be equal, and `scale_s` and `quartiles_s` say
    /// nothing of the noise. Unless round trips between show that stamps are finer.
    pub fn read_by(&mut self, precision_s: f64, by_hardware: bool) {
        let part = |within: &dyn Fn(f64) -> bool| {
            let excesses = self.excesses_s.iter();
            let count = excesses.filter(|&&s| within(s / precision_s)).count();
            count as f64 / self.excesses_s.len().max(1) as f64
        };
        let finer = part(&|ticks| BETWEEN_TICKS.contains(&ticks)) > BETWEEN_MAX
            || by_hardware && part(&|ticks| ticks > BETWEEN_TICKS.end) < TICKS_MIN;
        let counts = self.mechanisms.have(Mechanism::Ticks) && !finer;
        let tick_s = if counts { precision_s } else { 0.0 };
        self.reading_var_s2 = tick_s * tick_s / 12.0;
    }

    /// A round trip comes in. If it shows that all samples so far came over a longer
    /// path, the difference of the two: half of that may have been in the offsets.
    pub fn enter(&mut self, delay_s: f64) -> Option<f64> {
        let Some(shortest) = self.levels.first().copied() else {
            self.levels.push(Level::new(delay_s, 0));
            self.scale_s = 0.1 * delay_s;
            return None;
        };
        for level in &mut self.levels {
            level.unseen += 1;
        }
        self.levels.retain(|level| level.unseen <= UNSEEN_MAX);
        let drop_s = shortest.floor_s(self.scale_s) - delay_s;
        if drop_s <= 0.0 {
            return None;
        }
        let told = self.mechanisms.have(Mechanism::Levels) && self.excesses_s.len() >= YOUNG;
        if !told || drop_s <= ORDINARY * self.scale_s {
            return None;
        }
        let mut shortest = shortest;
        shortest.shift_s = 0.0;
        shortest.shift_var_s2 = drop_s * drop_s / 12.0;
        self.levels = vec![Level::new(delay_s, 0), shortest];
        self.suspects.clear();
        Some(drop_s)
    }

    /// How each level explains a round trip that was entered: one reading at least.
    pub fn readings(&self, delay_s: f64) -> Readings {
        let scale_s = self.scale_s.max(NANOSECOND_S);
        let mut readings = Readings::default();
        for (index, level) in self.levels.iter().enumerate() {
            if index > 0 && delay_s < level.floor_s(scale_s) - scale_s {
                continue;
            }
            let excess_s = (delay_s - level.floor_s(scale_s)).max(0.0);
            let share = level.share();
            let lawless = if index == 0 {
                LAWLESS
            } else {
                LAWLESS_ELSEWHERE
            };
            readings.0[index] = Some(Reading {
                log_prior: log_density(excess_s, scale_s, lawless) + level.occupancy.ln(),
                shift_s: level.shift_s,
                half_excess_s: excess_s / 2.0,
                margin_s: EDGE_MARGIN * share * scale_s,
                edge_var_s2: (EDGE_SOFTNESS * share * scale_s).powi(2)
                    + NANOSECOND_S * NANOSECOND_S
                    + self.reading_var_s2
                    + level.shift_var_s2,
                ordinary: excess_s <= ORDINARY * scale_s
                    || !self.mechanisms.have(Mechanism::RoundTrip),
                level: index,
            });
        }
        readings
    }

    /// Takes up a sample whose offset lay `off_s` above what was foretold for the
    /// shortest path, where `off_var_s2` is what was unsure of that, and which
    /// `likely` explains best of all, with so much of the weight of all readings.
    pub fn learn(&mut self, delay_s: f64, off_s: f64, off_var_s2: f64, likely: &Reading) {
        let off_var_s2 = off_var_s2 + (0.7 * self.scale_s).powi(2);
        for (index, level) in self.levels.iter_mut().enumerate() {
            let seen = if index == likely.level { 0.98 } else { 0.02 };
            level.occupancy += OCCUPANCY_SHARE * (seen - level.occupancy);
        }
        let level = &mut self.levels[likely.level];
        let floor_before_s = level.floor_s(self.scale_s);
        level.enter(delay_s);
        let floor_s = level.floor_s(self.scale_s);
        for excess_s in &mut self.excesses_s {
            *excess_s = (*excess_s + floor_before_s - floor_s).max(0.0);
        }
        if likely.level > 0 {
            let gain = level.shift_var_s2 / (level.shift_var_s2 + off_var_s2);
            level.shift_s += gain * (off_s - level.shift_s);
            level.shift_var_s2 *= 1.0 - gain;
        }
        let excess_s = (delay_s - floor_s).max(0.0);
        if self.excesses_s.len() < EXCESSES {
            self.excesses_s.push(excess_s);
        } else {
            self.excesses_s[self.entered % EXCESSES] = excess_s;
        }
        self.entered += 1;
        let suspect = Suspect {
            delay_s,
            off_s,
            off_var_s2,
        };
        let told = self.mechanisms.have(Mechanism::Levels) && self.excesses_s.len() >= YOUNG;
        if told && likely.level == 0 && !likely.ordinary {
            self.suspect(suspect);
        } else {
            self.suspects.clear();
        }
        self.measure_scale();
    }

    /// Is it another path? Those that are have both delays and offsets in common.
    fn suspect(&mut self, suspect: Suspect) {
        if self.suspects.len() == ALIKE {
            self.suspects.remove(0);
        }
        self.suspects.push(suspect);
        if self.suspects.len() < ALIKE {
            return;
        }
        let (delay_least_s, delay_most_s) = range(self.suspects.iter().map(|s| s.delay_s));
        let (off_least_s, off_most_s) = range(self.suspects.iter().map(|s| s.off_s));
        let longer_s = delay_least_s - self.delay_min_s();
        let spread_s = delay_most_s - delay_least_s;
        let foretold_s = suspect.off_var_s2.sqrt();
        if spread_s > (ALIKE_DELAYS * self.scale_s).min(longer_s / 2.0)
            || off_most_s - off_least_s > ALIKE_OFFSETS * self.scale_s + 2.0 * foretold_s
        {
            return;
        }
        // Nothing is known beforehand but that it may all be one way.
        let weight: f64 = self
            .suspects
            .iter()
            .map(|s| 1.0 / s.off_var_s2)
            .sum::<f64>()
            + 12.0 / (longer_s * longer_s);
        let mean_s = self
            .suspects
            .iter()
            .map(|s| s.off_s / s.off_var_s2)
            .sum::<f64>()
            / weight;
        let level = Level {
            shift_s: mean_s.clamp(-longer_s / 2.0, longer_s / 2.0),
            shift_var_s2: 1.0 / weight + suspect.off_var_s2,
            ..Level::new(delay_least_s, ALIKE as u32)
        };
        if self.levels.len() == LEVELS_MAX {
            let rarest = (1..LEVELS_MAX)
                .min_by(|&a, &b| {
                    let occupancy = |index: usize| self.levels[index].occupancy;
                    occupancy(a).total_cmp(&occupancy(b))
                })
                .unwrap_or(1);
            self.levels.remove(rarest);
        }
        self.levels.push(level);
        // They were no excess over the shortest path, after all.
        for back in 1..=ALIKE.min(self.entered) {
            let len = self.excesses_s.len();
            self.excesses_s[(self.entered - back) % len] = self.scale_s;
        }
        self.suspects.clear();
    }

    fn measure_scale(&mut self) {
        let mut sorted = [0.0; EXCESSES];
        let sorted = &mut sorted[..self.excesses_s.len()];
        sorted.copy_from_slice(&self.excesses_s);
        sorted.sort_unstable_by(f64::total_cmp);
        let count = sorted.len();
        let at = |index: usize| sorted.get(index).copied().unwrap_or(0.0);
        // One sample tells nothing of the spread: suppose a tenth of the delay until
        // others speak.
        let supposed_s = 0.1 * self.delay_min_s() / count.max(1) as f64;
        let young = count < YOUNG;
        self.scale_s = at(count / 2).max(if young { supposed_s } else { NANOSECOND_S });
        self.quartiles_s =
            (at(3 * count / 4) - at(count / 4)).max(if young { supposed_s } else { NANOSECOND_S });
    }
}

/// Log density of an excess, for exponential queueing both ways whose median is
/// `scale_s`; `lawless` is the part of round trips that follow no rule.
fn log_density(excess_s: f64, scale_s: f64, lawless: f64) -> f64 {
    let mean_s = scale_s / MEDIAN_OF_TWO;
    let ordinary = (excess_s.max(0.05 * mean_s) / (mean_s * mean_s)).ln() - excess_s / mean_s;
    ordinary.max((lawless / (excess_s + scale_s)).ln())
}

/// The two least of four; each pair is in order.
fn least_two(a: (f64, f64), b: (f64, f64)) -> (f64, f64) {
    if a.0 <= b.0 {
        (a.0, a.1.min(b.0))
    } else {
        (b.0, b.1.min(a.0))
    }
}

fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::MAX, f64::MIN), |(least, most), value| {
        (least.min(value), most.max(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A path of 200 µs with this ripple for noise, its shift found if it is another.
    fn walk(path: &mut Path, samples: usize, longer_s: f64, off_s: f64) {
        for n in 0..samples {
            let ripple_s = (n * 7 % 10) as f64 * 4e-6;
            let delay_s = 200e-6 + longer_s + ripple_s;
            path.enter(delay_s);
            let readings = path.readings(delay_s);
            let likely = readings
                .iter()
                .max_by(|a, b| a.log_prior.total_cmp(&b.log_prior))
                .copied()
                .expect("one at least");
            path.learn(delay_s, off_s, 1e-12, &likely);
        }
    }

    fn best(path: &Path, delay_s: f64) -> Reading {
        let readings = path.readings(delay_s);
        let best = readings
            .iter()
            .max_by(|a, b| a.log_prior.total_cmp(&b.log_prior));
        *best.expect("one at least")
    }

    #[test]
    fn the_excess_says_how_wrong_a_sample_may_be() {
        let mut path = Path::default();
        walk(&mut path, 100, 0.0, 0.0);
        let (quick, slow) = (best(&path, 200e-6), best(&path, 260e-6));
        assert_eq!(quick.half_excess_s, 0.0);
        assert!((slow.half_excess_s - 30e-6).abs() < 1e-9);
        assert!(quick.margin_s < 2e-6 && quick.ordinary && slow.ordinary);
        assert!(!best(&path, 500e-6).ordinary);
        assert!((path.delay_min_s() - 200e-6).abs() < 1e-12);
    }

    #[test]
    fn a_longer_route_is_a_level_with_a_shift_and_the_old_one_is_remembered() {
        let mut path = Path::default();
        walk(&mut path, 100, 0.0, 0.0);
        // 400 µs more, all on the way back: what was foretold lies 200 µs higher.
        walk(&mut path, 20, 400e-6, -200e-6);
        let there = best(&path, 610e-6);
        assert!((there.shift_s + 200e-6).abs() < 1e-6, "{there:?}");
        assert!(there.half_excess_s < 10e-6 && there.ordinary);
        assert!((path.delay_min_s() - 200e-6).abs() < 1e-12);
        let back = best(&path, 210e-6);
        assert_eq!(back.shift_s, 0.0);
        // After very long nobody remembers the short one, but the shift stays: the
        // clock doesn't follow the route.
        walk(&mut path, UNSEEN_MAX as usize + 1, 400e-6, -200e-6);
        assert!((path.delay_min_s() - 600e-6).abs() < 1e-12);
        assert!((best(&path, 610e-6).shift_s + 200e-6).abs() < 1e-6);
    }

    #[test]
    fn delays_at_random_make_no_level() {
        let mut path = Path::default();
        walk(&mut path, 100, 0.0, 0.0);
        for n in 0..60 {
            // Alike in nothing.
            let longer_s = 1e-3 * f64::from(n * 37 % 60 + 10);
            walk(
                &mut path,
                1,
                longer_s,
                if n % 2 == 0 { -0.5 } else { 0.5 } * longer_s,
            );
        }
        assert_eq!(path.levels.len(), 1);
    }

    #[test]
    fn a_shorter_route_casts_doubt_on_all_before() {
        let mut path = Path::default();
        walk(&mut path, 100, 400e-6, 0.0);
        let drop_s = path.enter(200e-6).expect("an event");
        assert!((drop_s - 400e-6).abs() < 1e-9);
        assert!((path.delay_min_s() - 200e-6).abs() < 1e-12);
        assert_eq!(path.levels.len(), 2, "the longer one may come back");
    }

    #[test]
    fn one_stamp_that_was_wrong_does_not_make_the_floor() {
        let mut path = Path::default();
        walk(&mut path, 1, -30e-6, 0.0);
        walk(&mut path, 100, 0.0, 0.0);
        assert!(
            (path.delay_min_s() - 200e-6).abs() < 1e-12,
            "{}",
            path.delay_min_s()
        );
    }

    #[test]
    fn a_floor_that_rises_slowly_is_followed() {
        let mut path = Path::default();
        for n in 0..2000 {
            walk(&mut path, 1, f64::from(n) * 20e-9, 0.0);
        }
        assert!(path.delay_min_s() > 225e-6, "{}", path.delay_min_s());
        assert_eq!(path.levels.len(), 1);
    }
}

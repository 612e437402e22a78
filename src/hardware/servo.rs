//! Makes a hardware clock follow: where it stands and how it runs, by its [`Track`], in;
//! an order for it out. Pure arithmetic.
//!
//! The track says both offset and rate, each with little noise, so there is no loop to be
//! tuned: the frequency is set to what the clock lacks, plus what takes the offset away
//! within a few readings.
//!
//! [`Track`]: crate::hardware::track::Track

use crate::time::duration::NtpDuration;
use crate::time::instant::WallInstant;
use crate::time::units::Ppm;

/// The offset is taken away with this time constant. With a reading each second, a
/// quarter of it goes from one to the next.
const TIME_CONSTANT_S: f64 = 4.0;

/// What to do to the clock.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Order {
    /// Move it by so much.
    Step(NtpDuration),
    /// Let it run faster by this than it does by itself.
    Frequency(Ppm),
}

/// What was done to a hardware clock, for all who keep its line.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Bent {
    /// N of `/dev/ptpN`.
    pub index: u32,
    /// CLOCK_REALTIME at that moment.
    pub at: WallInstant,
    /// It runs faster by this ratio than before; none: it was set.
    pub faster: Option<f64>,
}

/// The servo of one clock.
#[derive(Clone, Copy, Debug)]
pub struct Servo {
    frequency_max: Ppm,
    /// Offsets beyond are stepped, as long as steps are allowed.
    step: Option<NtpDuration>,
    may_step: bool,
    /// In force in the clock.
    frequency: Ppm,
    /// The clock's own error, made up for: what it goes on with if nobody looks.
    best: Ppm,
}

impl Servo {
    /// For a clock that runs with the correction `frequency` now, can be bent by
    /// `frequency_max` and is stepped, at first, if it is off by more than `step`.
    pub fn new(frequency: Ppm, frequency_max: Ppm, step: Option<NtpDuration>) -> Self {
        Self {
            frequency_max,
            step,
            may_step: true,
            frequency,
            best: frequency,
        }
    }

    /// The clock lacks `offset` (positive: it is behind), and what it is to follow runs
    /// faster than it by the ratio `rate`.
    pub fn update(&mut self, offset: NtpDuration, rate: f64) -> Order {
        let steps = self.step.filter(|_| self.may_step);
        self.may_step = false;
        if steps.is_some_and(|limit| offset.abs() > limit) {
            return Order::Step(offset);
        }
        let own = 1.0 + self.frequency.ratio();
        let to = |rate: f64| Ppm::from_ratio(own * (1.0 + rate) - 1.0);
        self.best = to(rate).clamp_to(self.frequency_max);
        let wanted = to(rate + offset.as_seconds() / TIME_CONSTANT_S);
        Order::Frequency(wanted.clamp_to(self.frequency_max))
    }

    /// The clock was given this frequency. By which ratio it runs faster than before.
    pub fn applied(&mut self, frequency: Ppm) -> f64 {
        let before = std::mem::replace(&mut self.frequency, frequency);
        (1.0 + frequency.ratio()) / (1.0 + before.ratio()) - 1.0
    }

    /// Somebody else set the clock: it may be stepped once more.
    pub fn start_over(&mut self) {
        self.may_step = true;
    }

    /// In force.
    pub fn frequency(&self) -> Ppm {
        self.frequency
    }

    /// What to leave the clock with.
    pub fn best(&self) -> Ppm {
        self.best
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};

    use super::*;
    use crate::hardware::track::Track;
    use crate::time::phc::{Crossing, PhcInstant};

    const EPOCH: i64 = 1_800_000_000_000_000_000;
    const TAI_NS: f64 = 37e9;

    /// A card's clock that wanders, its track, and the servo that makes it show TAI by a
    /// system clock that is right.
    struct World {
        real_ns: f64,
        /// The card's clock minus TAI.
        off_ns: f64,
        natural: f64,
        wander: f64,
        window_ns: f64,
        dice: ChaCha8Rng,
        track: Track,
        servo: Servo,
        steps: u32,
    }

    impl World {
        fn new(off_s: f64, natural: f64, wander: f64) -> Self {
            let step = Some(NtpDuration::from_nanos(20_000));
            Self {
                real_ns: 0.0,
                off_ns: off_s * 1e9,
                natural,
                wander,
                window_ns: 800.0,
                dice: ChaCha8Rng::seed_from_u64(3),
                track: Track::new(),
                servo: Servo::new(Ppm::ZERO, Ppm(500.0), step),
                steps: 0,
            }
        }

        fn uniform(&mut self) -> f64 {
            f64::from(self.dice.next_u32()) / f64::from(u32::MAX) - 0.5
        }

        fn pass(&mut self, seconds: f64) {
            self.natural += self.wander * seconds.sqrt() * self.uniform() * 3.46;
            let rate = (1.0 + self.natural) * (1.0 + self.servo.frequency().ratio()) - 1.0;
            self.real_ns += seconds * 1e9;
            self.off_ns += seconds * rate * 1e9;
        }

        /// A reading, and what the servo makes of it.
        fn second(&mut self) {
            self.pass(1.0);
            let phc_ns = EPOCH + (self.real_ns + self.off_ns + TAI_NS).round() as i64;
            let noise_ns = self.uniform() * 0.5 * self.window_ns;
            let crossing = Crossing {
                phc: PhcInstant::from_nanos(phc_ns),
                real: WallInstant::from_unix_ns(EPOCH + (self.real_ns + noise_ns).round() as i64),
                window: NtpDuration::from_nanos(self.window_ns as i64),
            };
            self.track.take(&[crossing]);
            let Some(line) = self.track.map() else {
                return;
            };
            let shown = line.anchor_phc.nanos() - line.anchor_real.unix_ns();
            let offset = NtpDuration::from_nanos(TAI_NS as i64 - shown);
            match self.servo.update(offset, line.rate) {
                Order::Step(by) => {
                    self.off_ns += by.as_nanos() as f64;
                    self.track.forget();
                    self.steps += 1;
                }
                Order::Frequency(to) => {
                    let faster = self.servo.applied(to);
                    let at = WallInstant::from_unix_ns(EPOCH + self.real_ns.round() as i64);
                    self.track.bent(at, faster);
                }
            }
        }

        fn rms_ns(&mut self, seconds: u32) -> f64 {
            let mut square = 0.0;
            for _ in 0..seconds {
                self.second();
                square += self.off_ns * self.off_ns;
            }
            (square / f64::from(seconds)).sqrt()
        }
    }

    #[test]
    fn a_card_is_stepped_once_and_then_held_within_tens_of_nanoseconds() {
        for (off_s, natural) in [(-37.0, 20e-6), (2.5, -100e-6), (1e-6, 0.0)] {
            let mut world = World::new(off_s, natural, 1e-9);
            world.rms_ns(60);
            assert_eq!(world.steps, u32::from(off_s.abs() > 1e-3), "{off_s}");
            let rms_ns = world.rms_ns(600);
            assert!(rms_ns < 80.0, "{rms_ns}");
            assert_eq!(world.track.jumps(), 0);
        }
    }

    #[test]
    fn a_card_left_alone_runs_on_at_its_best_frequency() {
        let mut world = World::new(0.0, 20e-6, 0.0);
        world.rms_ns(120);
        let best = world.servo.best();
        assert!((best.0 + 20.0).abs() < 0.02, "{best:?}");
    }

    #[test]
    fn what_cannot_be_bent_farther_is_bent_as_far_as_it_goes() {
        let mut servo = Servo::new(Ppm::ZERO, Ppm(10.0), None);
        let order = servo.update(NtpDuration::from_whole_seconds(5), 0.0);
        assert_eq!(order, Order::Frequency(Ppm(10.0)));
        assert_eq!(servo.best(), Ppm::ZERO);
    }

    #[test]
    fn a_later_jump_is_slewed_unless_another_hand_made_it() {
        let mut servo = Servo::new(Ppm::ZERO, Ppm(500.0), Some(NtpDuration::from_nanos(1_000)));
        let off = NtpDuration::from_whole_seconds(1);
        assert_eq!(servo.update(off, 0.0), Order::Step(off));
        assert_eq!(servo.update(off, 0.0), Order::Frequency(Ppm(500.0)));
        servo.start_over();
        assert_eq!(servo.update(off, 0.0), Order::Step(off));
    }
}

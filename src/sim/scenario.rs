//! What a scenario says, as types. All times of the weather are seconds of true time
//! since the start, in f64: it is physics, and fits days to well below a nanosecond.

use crate::client::options::SourceOptions;
use crate::mechanisms::Mechanisms;
use crate::sim::dice::Direction;
use crate::sync::filter::Start;
use crate::sync::policy::{SelectPolicy, StepPolicy};
use crate::time::instant::WallInstant;
use crate::time::stamp::StampOrigin;
use crate::time::units::{Ppm, Precision};
use crate::wire::packet::Leap;

/// 2030-01-15 00:00 UTC: nothing happens that day.
const START: WallInstant = WallInstant::from_unix_ns(1_894_665_600_000_000_000);

/// A whole scenario.
#[derive(Clone, PartialEq, Debug)]
pub struct Scenario {
    /// Its name: the file's, without the ending.
    pub name: String,
    /// One line for people.
    pub about: String,
    /// How long it lasts.
    pub length_s: f64,
    /// From when on it counts.
    pub settle_s: f64,
    /// True time at the start.
    pub start: WallInstant,
    /// The client's clock.
    pub clock: ClockSpec,
    /// The client's stamps.
    pub stamps: StampSpec,
    /// Precision that the client says its clock has; from its stamps if it is not written.
    pub precision: Option<Precision>,
    /// Whom it asks.
    pub servers: Vec<ServerSpec>,
    /// When the clock may be stepped.
    pub step: StepPolicy,
    /// How sources are selected.
    pub select: SelectPolicy,
    /// What is in force.
    pub mechanisms: Mechanisms,
    /// What the drift file says.
    pub drift: Option<Start>,
    /// The leap second, and the moment at which UTC takes it.
    pub leap: Option<(Leap, WallInstant)>,
    /// What happens, in order of time.
    pub events: Vec<Event>,
    /// What has to come out.
    pub expects: Vec<Expect>,
    /// Does the promise cover what happens here? Nobody can foresee everything: where not,
    /// the bound may be broken.
    pub promised: bool,
}

impl Scenario {
    /// An empty one.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            about: String::new(),
            length_s: 0.0,
            settle_s: 0.0,
            start: START,
            clock: ClockSpec::default(),
            stamps: StampSpec::default(),
            precision: None,
            servers: Vec::new(),
            step: StepPolicy::default(),
            select: SelectPolicy::default(),
            mechanisms: Mechanisms::default(),
            drift: None,
            leap: None,
            events: Vec::new(),
            expects: Vec::new(),
            promised: true,
        }
    }

    /// Makes it shorter or longer. What settles within a third of the time as written
    /// gets a third of a shorter time too; and what is expected of the whole can't be
    /// expected of a part.
    pub fn set_length(&mut self, length_s: f64) {
        if length_s < self.length_s {
            self.settle_s *= length_s / self.length_s;
            self.expects.clear();
        }
        self.length_s = length_s;
    }
}

/// An oscillator. Positive is ahead and fast.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct ClockSpec {
    /// Local minus true time at the start.
    pub offset_s: f64,
    /// How much too fast it runs at the start.
    pub frequency: Ppm,
    /// Each second, its frequency takes a random step of this standard deviation (a ratio).
    pub wander: f64,
    /// A wave of frequency, as temperature makes it.
    pub sine: Option<Sine>,
    /// Steps of frequency.
    pub steps: Option<FrequencySteps>,
}

/// A sine that starts at zero.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Sine {
    /// Amplitude, in what the sine is of: a ratio or seconds.
    pub amplitude: f64,
    /// Period.
    pub period_s: f64,
}

impl Sine {
    /// Its value at a moment.
    pub fn at(&self, at_s: f64) -> f64 {
        self.amplitude * (std::f64::consts::TAU * at_s / self.period_s).sin()
    }
}

/// Steps of frequency at regular times.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct FrequencySteps {
    /// Size.
    pub by: Ppm,
    /// From the start, and from one to the next.
    pub every_s: f64,
    /// Up or down by chance; else up and down by turns.
    pub random: bool,
}

/// How the client's stamps are taken.
#[derive(Clone, PartialEq, Debug)]
pub struct StampSpec {
    /// By whom.
    pub origin: StampOrigin,
    /// What T1 comes too early and T4 too late by.
    pub noise: DelayLaw,
    /// Stamps are whole multiples of this.
    pub quantum_ns: i64,
}

impl Default for StampSpec {
    fn default() -> Self {
        Self {
            origin: StampOrigin::Kernel,
            noise: DelayLaw::default(),
            quantum_ns: 1,
        }
    }
}

/// A sum of delays.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct DelayLaw {
    /// The parts; none is no delay.
    pub terms: Vec<Term>,
}

/// One part of a delay.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Term {
    /// What it is like.
    pub shape: Shape,
    /// Its measure: the delay, the mean, the standard deviation, the most.
    pub scale_s: f64,
    /// When it is there.
    pub when: When,
}

/// Distributions of a delay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// Always the same.
    Constant,
    /// Exponential: one busy queue.
    Exponential,
    /// Normal, both ways about the rest of the sum.
    Gauss,
    /// The product of four exponentials: mostly little, at times very much.
    Heavy,
    /// Anything from zero to the scale alike.
    Uniform,
}

/// When a part of a delay is there.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum When {
    /// At all times.
    Always,
    /// For the first part of each period.
    During {
        /// That part's length.
        for_s: f64,
        /// The period.
        of_s: f64,
        /// It comes and goes within this.
        ramp_s: f64,
    },
    /// Once.
    Between {
        /// From then on.
        from_s: f64,
        /// Until then.
        to_s: f64,
    },
}

/// A server, and the ways to and from it.
#[derive(Clone, PartialEq, Debug)]
pub struct ServerSpec {
    /// Its name in the scenario.
    pub name: String,
    /// How it is asked.
    pub options: SourceOptions,
    /// What its clock is like.
    pub error: ServerError,
    /// What it says of itself.
    pub stratum: u8,
    /// Δ.
    pub root_delay_s: f64,
    /// Ε.
    pub root_dispersion_s: f64,
    /// Of its clock.
    pub precision: Precision,
    /// From T3 in its reply to the reply's real departure.
    pub departs: DelayLaw,
    /// To it.
    pub up: Way,
    /// From it.
    pub down: Way,
    /// How much of the base delay of the other way is on this one instead: nobody
    /// can see it. Already done to `up` and `down`.
    pub asymmetry: Option<(f64, Direction)>,
    /// Silent from..to.
    pub outages_s: Vec<(f64, f64)>,
}

impl ServerSpec {
    /// A perfect one.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            options: SourceOptions::default(),
            error: ServerError::default(),
            stratum: 1,
            root_delay_s: 0.0,
            root_dispersion_s: 0.0,
            precision: Precision::new(-29),
            departs: DelayLaw::default(),
            up: Way::default(),
            down: Way::default(),
            asymmetry: None,
            outages_s: Vec::new(),
        }
    }

    /// Moves what `asymmetry` says: of the delays that are always there, and never
    /// draw.
    pub fn make_asymmetric(&mut self) {
        let Some((share, longer)) = self.asymmetry else {
            return;
        };
        let (from, to) = match longer {
            Direction::Up => (&mut self.down, &mut self.up),
            Direction::Down => (&mut self.up, &mut self.down),
        };
        let mut moved_s = 0.0;
        for term in &mut from.delay.terms {
            if (term.shape, term.when) == (Shape::Constant, When::Always) {
                moved_s += share * term.scale_s;
                term.scale_s *= 1.0 - share;
            }
        }
        to.delay.terms.push(Term {
            shape: Shape::Constant,
            scale_s: moved_s,
            when: When::Always,
        });
    }
}

/// A server's clock minus true time.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct ServerError {
    /// At the start.
    pub offset_s: f64,
    /// How much too fast it runs.
    pub frequency: Ppm,
    /// A wave of time.
    pub sine: Option<Sine>,
}

/// One direction of a path.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Way {
    /// How long packets take.
    pub delay: DelayLaw,
    /// Share of packets lost, 0 to 1.
    pub loss: f64,
    /// Share of packets that come twice.
    pub duplicate: f64,
    /// Share of packets that are held back, to be overtaken.
    pub reorder: f64,
    /// For how long.
    pub reorder_s: f64,
}

/// Something that happens once.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Event {
    /// When.
    pub at_s: f64,
    /// What.
    pub what: Happening,
}

/// What can happen.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Happening {
    /// Another hand moves the client's clock by so much.
    ClockStep(f64),
    /// The oscillator's frequency jumps.
    FrequencyStep(Ppm),
    /// A server's clock is moved by so much.
    ServerStep {
        /// Its place among the servers.
        server: usize,
        /// Seconds.
        by_s: f64,
    },
    /// A server loses the time, or has it again.
    ServerSync {
        /// Its place among the servers.
        server: usize,
        /// Does it have it?
        has_time: bool,
    },
}

/// Something that has to come out.
#[derive(Clone, PartialEq, Debug)]
pub struct Expect {
    /// Where it was written.
    pub line: usize,
    /// Of what, by the score's word for it.
    pub figure: String,
    /// It must be below this; seconds, a ratio or a count.
    pub below: f64,
    /// As written, for the sentence that says it did not.
    pub text: String,
}

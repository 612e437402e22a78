//! The parts of the synchronisation that can be taken away one by one, to see what
//! each is good for: a scenario's `without` does (`docs/SIMULATION.md`). In service
//! all are in force.

/// Something that is done beyond the least that would do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mechanism {
    /// A round trip bounds its sample's error by a box; else by a normal distribution
    /// as wide.
    Box,
    /// Samples count by their round trips; else all alike.
    RoundTrip,
    /// Noise may have nothing to do with the round trip.
    EvenNoise,
    /// Queueing may be all on one way.
    OneWay,
    /// A longer path is told from queueing, and a shorter one from chance.
    Levels,
    /// How the oscillator wanders is learned; else it is as cheap ones do in a room.
    LearnedWander,
    /// The frequency may drift as well as walk.
    Drift,
    /// Each filter of the bank suspects a step of the frequency where a sample is strange.
    Suspicion,
    /// Stamps may be coarser than the noise: no sample counts for more than their ticks
    /// allow.
    Ticks,
    /// An offset is slewed away gradually; else within a second.
    Fading,
    /// A source apart from the others counts less.
    RobustCombination,
    /// A source much farther away than the nearest does not count.
    NearOnly,
    /// The poll interval follows what a sample would tell; else it is soon the longest.
    PollByGain,
    /// An interleaved exchange is a sample before its own T3 is known.
    Prompt,
    /// The requests of a start slow down gradually; else at once.
    QuickStart,
    /// After an outlier the source is asked again soon; else when the poll is due.
    AskAgain,
}

impl Mechanism {
    /// All, with the words for them.
    pub const ALL: [(&'static str, Self); 16] = [
        ("box", Self::Box),
        ("round-trip", Self::RoundTrip),
        ("even-noise", Self::EvenNoise),
        ("one-way", Self::OneWay),
        ("levels", Self::Levels),
        ("learned-wander", Self::LearnedWander),
        ("drift", Self::Drift),
        ("suspicion", Self::Suspicion),
        ("ticks", Self::Ticks),
        ("fading", Self::Fading),
        ("robust-combination", Self::RobustCombination),
        ("near-only", Self::NearOnly),
        ("poll-by-gain", Self::PollByGain),
        ("prompt", Self::Prompt),
        ("quick-start", Self::QuickStart),
        ("ask-again", Self::AskAgain),
    ];
}

/// Which of them are in force: all, by default.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Mechanisms {
    /// A bit for each that is not.
    missing: u16,
}

impl Mechanisms {
    /// The same without `mechanism`.
    pub const fn without(self, mechanism: Mechanism) -> Self {
        Self {
            missing: self.missing | 1 << mechanism as u16,
        }
    }

    /// Is it in force?
    pub const fn have(self, mechanism: Mechanism) -> bool {
        self.missing >> mechanism as u16 & 1 == 0
    }
}

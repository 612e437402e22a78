//! Which sources to believe (RFC 5905 sections 11.2.1 and 11.2.2): those whose
//! intervals [θ − Λ, θ + Λ] share a point with the majority's are truechimers, the
//! rest falsetickers; of the truechimers the least consistent are cast out.

use serde::{Deserialize, Serialize};

use crate::mechanisms::{Mechanism, Mechanisms};
use crate::sync::filter::Estimate;
use crate::sync::policy::SelectPolicy;
use crate::time::duration::NtpDuration;
use crate::wire::packet::Leap;

/// The system peer stays in office until another is this much better: a change of
/// refid costs every client downstream a restart of its own view of us.
const CHALLENGE_FACTOR: f64 = 1.5;

/// Sources farther away than so many times the nearest one don't contribute (chrony's
/// `combinelimit`).
const NEAR_FACTOR: f64 = 3.0;

/// How selection judged a source: the first column of `ptntp peers`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tally {
    /// ` `: not reachable, not synchronised, too distant, or not selectable.
    Rejected,
    /// `x`: falseticker, outside the majority's interval.
    Falseticker,
    /// `-`: truechimer, cast out by clustering.
    Outlier,
    /// `+`: contributes to the combined time.
    Candidate,
    /// `*`: the one we name as our reference.
    System,
}

impl Tally {
    /// ntpq's character.
    pub const fn character(self) -> char {
        match self {
            Self::Rejected => ' ',
            Self::Falseticker => 'x',
            Self::Outlier => '-',
            Self::Candidate => '+',
            Self::System => '*',
        }
    }
}

/// A source as it presents itself for selection.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Candidate {
    /// What its filter says now; none before its first sample. All candidates'
    /// estimates speak of the same moment.
    pub estimate: Option<Estimate>,
    /// Reachable and not following us: what its association knows.
    pub fit: bool,
    /// Follow this one if it is a truechimer.
    pub prefer: bool,
    /// Measure it, never follow it.
    pub noselect: bool,
}

/// The verdict. Indices are those of the candidates given.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Selection {
    /// One for each candidate, in the order given.
    pub tallies: Vec<Tally>,
    /// The source we name as our reference.
    pub system: Option<usize>,
    /// Those that make up the time, the system peer first. With a `prefer` source
    /// among the truechimers, that one alone. Empty if nobody can be followed.
    pub survivors: Vec<usize>,
    /// Where more than half of the sources agree that the offset lies. Wide, if they
    /// can be taken in two ways; then the truth may lie in either.
    pub agreed: Option<(NtpDuration, NtpDuration)>,
}

/// Judges `candidates`. `previous` is the system peer of the last time, as an
/// index into them; it stays if nobody is much better.
pub fn select(
    candidates: &[Candidate],
    policy: &SelectPolicy,
    mechanisms: Mechanisms,
    previous: Option<usize>,
) -> Selection {
    let mut tallies = vec![Tally::Rejected; candidates.len()];
    let selectable: Vec<Contender> = candidates
        .iter()
        .enumerate()
        .filter_map(|(index, candidate)| Contender::admit(index, candidate, policy))
        .collect();

    let mut truechimers = Vec::new();
    let common = intersection(&selectable, |c| c.distance_s);
    for contender in &selectable {
        if common.is_some_and(|interval| contender.touches(interval)) {
            truechimers.push(*contender);
        } else {
            tallies[contender.index] = Tally::Falseticker;
        }
    }
    if truechimers.is_empty() || truechimers.len() < policy.minsane {
        return Selection {
            tallies,
            ..Selection::default()
        };
    }

    truechimers.iter().for_each(|t| {
        tallies[t.index] = Tally::Outlier;
    });
    let mut clustered = cluster(truechimers, policy.minclock.max(1));
    if mechanisms.have(Mechanism::NearOnly) {
        clustered = near(clustered);
    }
    clustered.iter().for_each(|t| {
        tallies[t.index] = Tally::Candidate;
    });

    let system = system_peer(&clustered, previous);
    if let Some(index) = system {
        tallies[index] = Tally::System;
    }
    let preferred = clustered
        .iter()
        .any(|t| Some(t.index) == system && t.prefer);
    let survivors = system
        .into_iter()
        .chain(clustered.iter().map(|t| t.index).filter(|&index| {
            // A prefer source is followed alone, as ntpd does it.
            !preferred && Some(index) != system
        }))
        .collect();
    Selection {
        tallies,
        system,
        survivors,
        agreed: intersection(&selectable, |c| c.root_distance_s).map(|(low_s, high_s)| {
            let ends = [low_s, high_s].map(NtpDuration::from_seconds);
            (ends[0], ends[1])
        }),
    }
}

/// A candidate that may be selected, reduced to what selection needs.
#[derive(Clone, Copy, Debug)]
struct Contender {
    index: usize,
    offset_s: f64,
    /// Λ, not below `mindist`.
    distance_s: f64,
    /// The same without that least width.
    root_distance_s: f64,
    jitter_s: f64,
    stratum: u8,
    prefer: bool,
}

impl Contender {
    fn admit(index: usize, candidate: &Candidate, policy: &SelectPolicy) -> Option<Self> {
        let estimate = candidate.estimate.as_ref()?;
        let distance = estimate.root_distance();
        let stratum_fine = (policy.floor..policy.ceiling).contains(&estimate.stratum);
        let fine = candidate.fit
            && !candidate.noselect
            && estimate.leap != Leap::Unknown
            && stratum_fine
            && distance <= policy.maxdist;
        fine.then(|| Self {
            index,
            offset_s: estimate.offset.as_seconds(),
            distance_s: distance.max(policy.mindist).as_seconds(),
            root_distance_s: distance.as_seconds(),
            jitter_s: estimate.jitter.as_seconds(),
            stratum: estimate.stratum,
            prefer: candidate.prefer,
        })
    }

    fn touches(&self, (low_s, high_s): (f64, f64)) -> bool {
        self.offset_s - self.distance_s <= high_s && self.offset_s + self.distance_s >= low_s
    }
}

/// Marzullo's algorithm: the smallest interval that lies in the intervals of all
/// but the fewest sources. None unless more than half agree. A departure from RFC
/// 5905, which also wants the offsets (midpoints) inside; like ntpd we don't, or two
/// honest sources of little noise and unlike paths would make each other liars.
fn intersection(
    contenders: &[Contender],
    distance_s: impl Fn(&Contender) -> f64,
) -> Option<(f64, f64)> {
    let count = contenders.len();
    // +1 where an interval opens, −1 where it closes. At equal places they open
    // before they close, so that touching ones agree.
    let mut edges: Vec<(f64, i32)> = contenders
        .iter()
        .flat_map(|c| {
            [
                (c.offset_s - distance_s(c), 1),
                (c.offset_s + distance_s(c), -1),
            ]
        })
        .collect();
    edges.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)));

    (0..count.div_ceil(2)).find_map(|falsetickers| {
        let wanted = (count - falsetickers) as i32;
        let low_s = first_held_by(wanted, edges.iter().copied())?;
        let mirrored = edges.iter().rev().map(|&(at_s, kind)| (at_s, -kind));
        let high_s = first_held_by(wanted, mirrored)?;
        (low_s <= high_s).then_some((low_s, high_s))
    })
}

/// The first place that lies in `wanted` intervals.
fn first_held_by(wanted: i32, edges: impl Iterator<Item = (f64, i32)>) -> Option<f64> {
    let mut open = 0;
    for (at_s, kind) in edges {
        open += kind;
        if open >= wanted {
            return Some(at_s);
        }
    }
    None
}

/// Casts out the one whose offset differs most from the others', until that is no
/// more than the sources' own jitter or `minclock` are left. `prefer` sources stay.
fn cluster(mut truechimers: Vec<Contender>, minclock: usize) -> Vec<Contender> {
    while truechimers.len() > minclock {
        let steadiest_s = truechimers
            .iter()
            .map(|t| t.jitter_s)
            .fold(f64::MAX, f64::min);
        let worst = truechimers
            .iter()
            .map(|t| selection_jitter_s(t, &truechimers))
            .enumerate()
            .max_by(|a, b| a.1.total_cmp(&b.1));
        match worst {
            Some((position, jitter_s))
                if jitter_s > steadiest_s && !truechimers[position].prefer =>
            {
                truechimers.remove(position);
            }
            _ => break,
        }
    }
    truechimers
}

/// Leaves out those whose own distance is a multiple of the nearest one's: they have
/// nothing to add to the time but the width of the bound. `prefer` sources stay.
fn near(clustered: Vec<Contender>) -> Vec<Contender> {
    let nearest_s = clustered
        .iter()
        .map(|t| t.root_distance_s)
        .fold(f64::MAX, f64::min);
    clustered
        .into_iter()
        .filter(|t| t.prefer || t.root_distance_s <= nearest_s * NEAR_FACTOR)
        .collect()
}

/// ψ_s: RMS of this one's difference from each of the others.
fn selection_jitter_s(of: &Contender, all: &[Contender]) -> f64 {
    let squares: f64 = all.iter().map(|t| (t.offset_s - of.offset_s).powi(2)).sum();
    (squares / (all.len().max(2) - 1) as f64).sqrt()
}

/// `prefer` first, then the lowest stratum, then the least root distance; but the
/// one in office stays unless it falls clearly behind.
fn system_peer(survivors: &[Contender], previous: Option<usize>) -> Option<usize> {
    let best = survivors.iter().min_by(|a, b| {
        (b.prefer.cmp(&a.prefer))
            .then(a.stratum.cmp(&b.stratum))
            .then(a.distance_s.total_cmp(&b.distance_s))
    })?;
    let in_office = survivors.iter().find(|t| {
        Some(t.index) == previous
            && t.prefer == best.prefer
            && t.stratum == best.stratum
            && t.distance_s <= best.distance_s * CHALLENGE_FACTOR
    });
    Some(in_office.unwrap_or(best).index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::holdover::Holdover;
    use crate::time::duration::NtpDuration;
    use crate::time::instant::MonoInstant;
    use crate::time::stamp::StampOrigin;
    use crate::time::units::Ppm;
    use crate::wire::refid::RefId;
    use proptest::prelude::*;

    /// A stratum 2 source with this offset and root distance.
    fn candidate(offset_s: f64, distance_s: f64) -> Candidate {
        Candidate {
            estimate: Some(Estimate {
                at: MonoInstant::ZERO,
                offset: NtpDuration::from_seconds(offset_s),
                offset_sigma: NtpDuration::from_seconds(1e-6),
                offset_likely: NtpDuration::from_seconds(4e-6),
                frequency: Ppm::ZERO,
                drift: 0.0,
                holdover: Holdover::default(),
                delay_min: NtpDuration::from_seconds(distance_s * 2.0),
                delay: NtpDuration::from_seconds(distance_s * 2.0),
                jitter: NtpDuration::from_seconds(1e-4),
                dispersion: NtpDuration::ZERO,
                root_delay: NtpDuration::ZERO,
                root_dispersion: NtpDuration::ZERO,
                stratum: 2,
                leap: Leap::None,
                refid: RefId::INIT,
                origin: StampOrigin::Kernel,
                interleaved: false,
                samples: 8,
                last: MonoInstant::ZERO,
            }),
            fit: true,
            prefer: false,
            noselect: false,
        }
    }

    fn with(mut candidate: Candidate, change: impl FnOnce(&mut Estimate)) -> Candidate {
        change(candidate.estimate.as_mut().expect("a test's candidate"));
        candidate
    }

    fn tallies(candidates: &[Candidate], policy: &SelectPolicy) -> String {
        let selection = select(candidates, policy, Mechanisms::default(), None);
        selection.tallies.iter().map(|t| t.character()).collect()
    }

    #[test]
    fn the_majority_wins_and_two_that_disagree_cannot() {
        let policy = SelectPolicy::default();
        let (good, bad) = (candidate(0.001, 0.01), candidate(0.5, 0.01));
        assert_eq!(tallies(&[bad, good, good], &policy), "x*+");
        assert_eq!(tallies(&[bad, good], &policy), "xx");
        assert_eq!(tallies(&[bad], &policy), "*");
        assert_eq!(tallies(&[], &policy), "");
    }

    #[test]
    fn the_unfit_have_no_vote() {
        let policy = SelectPolicy {
            floor: 1,
            ceiling: 5,
            ..SelectPolicy::default()
        };
        let good = candidate(0.0, 0.01);
        let unfit = [
            Candidate { fit: false, ..good },
            Candidate {
                noselect: true,
                ..good
            },
            Candidate {
                estimate: None,
                ..good
            },
            with(good, |e| e.stratum = 0),
            with(good, |e| e.stratum = 5),
            with(good, |e| e.leap = Leap::Unknown),
            candidate(0.0, 1.6),
        ];
        for candidate in unfit {
            assert_eq!(tallies(&[candidate, good], &policy), " *");
        }
    }

    #[test]
    fn minsane_asks_for_company() {
        let policy = SelectPolicy {
            minsane: 2,
            ..SelectPolicy::default()
        };
        let (good, bad) = (candidate(0.0, 0.01), candidate(0.5, 0.01));
        assert_eq!(tallies(&[good], &policy), " ");
        assert_eq!(tallies(&[good, good, bad], &policy), "*+x");
    }

    #[test]
    fn quiet_sources_agree_within_mindist() {
        let policy = SelectPolicy::default();
        let (a, b) = (candidate(0.0, 1e-5), candidate(0.0015, 1e-5));
        assert_eq!(tallies(&[a, b], &policy), "*+");
    }

    #[test]
    fn clustering_casts_out_the_odd_one_but_never_prefer() {
        let policy = SelectPolicy::default();
        let (good, odd) = (candidate(0.0, 0.05), candidate(0.02, 0.05));
        assert_eq!(tallies(&[good, odd, good, good], &policy), "*-++");
        let preferred = Candidate {
            prefer: true,
            ..odd
        };
        let all = [good, preferred, good, good];
        let selection = select(&all, &policy, Mechanisms::default(), None);
        assert_eq!(selection.system, Some(1));
        assert_eq!(selection.survivors, [1], "followed alone");
    }

    #[test]
    fn the_system_peer_stays_until_clearly_beaten() {
        let system = |candidates: &[Candidate], previous| {
            let policy = SelectPolicy::default();
            select(candidates, &policy, Mechanisms::default(), previous).system
        };
        let (near, far) = (candidate(0.0, 0.010), candidate(0.0, 0.012));
        assert_eq!(system(&[near, far], None), Some(0));
        assert_eq!(system(&[near, far], Some(1)), Some(1));
        let nearer = candidate(0.0, 0.005);
        assert_eq!(system(&[nearer, far], Some(1)), Some(0));
        let primary = with(near, |e| e.stratum = 1);
        assert_eq!(system(&[primary, far], Some(1)), Some(0));
        assert_eq!(system(&[near], Some(7)), Some(0));
    }

    proptest! {
        /// With more than half whose intervals hold the truth (zero) there is always
        /// somebody to follow, and somebody honest is among the truechimers: no
        /// majority can do without one. (All of them, where the others agree with none.)
        #[test]
        fn an_honest_majority_is_believed(
            honest in prop::collection::vec((-1.0..1.0f64, 0.1..1.0f64), 1..8),
            liars in prop::collection::vec((-9.0..9.0f64, 0.002..1.0f64), 0..7),
            seed in 0usize..100,
        ) {
            let liars = &liars[..liars.len().min(honest.len() - 1)];
            let mut all: Vec<(Candidate, bool)> = honest
                .iter()
                .map(|&(at, width)| (candidate(at * width * 0.999, width), true))
                .chain(liars.iter().map(|&(at, width)| (candidate(at, width), false)))
                .collect();
            let shift = seed % all.len();
            all.rotate_left(shift);
            let candidates: Vec<Candidate> = all.iter().map(|&(c, _)| c).collect();
            let selection = select(
                &candidates,
                &SelectPolicy::default(),
                Mechanisms::default(),
                None,
            );
            let disjoint = liars.iter().all(|&(liar_at, liar_width)| {
                honest.iter().all(|&(at, width)| {
                    (at * width * 0.999 - liar_at).abs() > width + liar_width
                })
            });
            let mut accused = all
                .iter()
                .zip(&selection.tallies)
                .filter(|((_, honest), _)| *honest)
                .map(|(_, tally)| *tally == Tally::Falseticker);
            let wronged = if disjoint {
                accused.any(|a| a)
            } else {
                accused.all(|a| a)
            };
            prop_assert!(!wronged);
            prop_assert!(selection.system.is_some());
        }
    }
}

//! Which sources to believe (RFC 5905 sections 11.2.1 and 11.2.2): those whose
//! intervals [θ − Λ, θ + Λ] share a point with the majority's are truechimers, the
//! rest falsetickers; of the truechimers the least consistent are cast out.

use serde::{Deserialize, Serialize};

use crate::sync::filter::Estimate;
use crate::sync::policy::SelectPolicy;
use crate::wire::packet::Leap;

/// The system peer stays in office until another is this much better: a change of
/// refid costs every client downstream a restart of its own view of us.
const CHALLENGE_FACTOR: f64 = 1.5;

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
}

/// Judges `candidates`. `previous` is the system peer of the last time, as an
/// index into them; it stays if nobody is much better.
pub fn select(
    candidates: &[Candidate],
    policy: &SelectPolicy,
    previous: Option<usize>,
) -> Selection {
    let mut tallies = vec![Tally::Rejected; candidates.len()];
    let selectable: Vec<Contender> = candidates
        .iter()
        .enumerate()
        .filter_map(|(index, candidate)| Contender::admit(index, candidate, policy))
        .collect();

    let mut truechimers = Vec::new();
    let common = intersection(&selectable);
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
    let clustered = cluster(truechimers, policy.minclock.max(1));
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
    }
}

/// A candidate that may be selected, reduced to what selection needs.
#[derive(Clone, Copy, Debug)]
struct Contender {
    index: usize,
    offset_s: f64,
    /// Λ, not below `mindist`.
    distance_s: f64,
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
            jitter_s: estimate.jitter.as_seconds(),
            stratum: estimate.stratum,
            prefer: candidate.prefer,
        })
    }

    fn touches(&self, (low_s, high_s): (f64, f64)) -> bool {
        self.offset_s - self.distance_s <= high_s && self.offset_s + self.distance_s >= low_s
    }
}

/// Marzullo's algorithm as RFC 5905 has it: the smallest interval that holds a
/// point of every truechimer's interval and the offsets (midpoints) of all but as
/// many as there are falsetickers. None unless more than half agree.
fn intersection(contenders: &[Contender]) -> Option<(f64, f64)> {
    let count = contenders.len();
    // +1 where an interval opens, −1 where it closes, 0 at its midpoint. At equal
    // places intervals open before they close, so that touching ones agree.
    let mut edges: Vec<(f64, i32)> = contenders
        .iter()
        .flat_map(|c| {
            [
                (c.offset_s - c.distance_s, 1),
                (c.offset_s, 0),
                (c.offset_s + c.distance_s, -1),
            ]
        })
        .collect();
    edges.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)));

    for falsetickers in 0..count.div_ceil(2) {
        let wanted = count - falsetickers;
        let low = first_held_by(wanted, edges.iter().copied());
        let mirrored = edges.iter().rev().map(|&(at_s, kind)| (at_s, -kind));
        let high = first_held_by(wanted, mirrored);
        if let (Some((low_s, left)), Some((high_s, right))) = (low, high)
            && left + right <= falsetickers
            && low_s <= high_s
        {
            return Some((low_s, high_s));
        }
    }
    None
}

/// The first place that lies in `wanted` intervals, and the midpoints passed on
/// the way to it.
fn first_held_by(wanted: usize, edges: impl Iterator<Item = (f64, i32)>) -> Option<(f64, usize)> {
    let (mut open, mut midpoints) = (0, 0);
    for (at_s, kind) in edges {
        open += kind;
        midpoints += usize::from(kind == 0);
        if open >= wanted as i32 {
            return Some((at_s, midpoints));
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

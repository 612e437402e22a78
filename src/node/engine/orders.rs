//! What an operator orders while the daemon runs, as chronyc does: part of the
//! [`Node`], each order one method. They say whether there was anything to do it to.

use std::net::IpAddr;

use super::{Node, Reference};
use crate::node::action::{Action, SourceId};
use crate::node::pool::{Name, SourceSpec};
use crate::sync::command::ClockCommand;
use crate::time::duration::NtpDuration;
use crate::time::instant::{Now, WallInstant};
use crate::time::units::{PollExponent, Ppm};

/// What a time that was typed in came to.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Entered {
    /// What the clock lacks; positive: it is behind.
    pub offset: NtpDuration,
    /// What was added to the frequency correction.
    pub frequency_change: Ppm,
}

impl Node {
    /// Ask the servers of these addresses, or ask them no more. How many there are.
    pub fn set_online(&mut self, who: impl Fn(IpAddr) -> bool, online: bool, now: Now) -> usize {
        let mut found = 0;
        for peer in &mut self.peers {
            if who(peer.association.address().ip()) {
                found += 1;
                peer.association.set_online(online, now.mono);
                if !online {
                    self.actions.push_back(Action::Close(peer.id));
                }
            }
        }
        if found > 0 && !online {
            self.synchronise(now);
        }
        found
    }

    /// Ask the servers of these addresses quickly, until each has given `good` answers or
    /// was asked `total` times. How many there are.
    pub fn burst(&mut self, who: impl Fn(IpAddr) -> bool, good: u8, total: u8, now: Now) -> usize {
        let mut found = 0;
        for peer in &mut self.peers {
            if who(peer.association.address().ip()) {
                found += 1;
                peer.association.burst(good, total, now.mono);
            }
        }
        found
    }

    /// Other limits of a source's poll interval; none: as it was. A limit that passes the
    /// other one takes it along.
    pub fn set_poll_limits(
        &mut self,
        address: IpAddr,
        min: Option<PollExponent>,
        max: Option<PollExponent>,
    ) -> bool {
        let mut found = false;
        for peer in &mut self.peers {
            if peer.association.address().ip() == address {
                let (old_min, old_max) = peer.poll.limits();
                let (min, max) = match (min, max) {
                    (Some(min), None) => (min, old_max.max(min)),
                    (None, Some(max)) => (old_min.min(max), max),
                    (min, max) => (min.unwrap_or(old_min), max.unwrap_or(old_max)),
                };
                let exponent = peer.poll.set_limits(min, max);
                peer.association.set_poll_limits(min, max);
                peer.association.set_poll(exponent);
                found = true;
            }
        }
        found
    }

    /// Other options in the selection; none: as it was.
    pub fn set_selection(
        &mut self,
        address: IpAddr,
        prefer: Option<bool>,
        noselect: Option<bool>,
        now: Now,
    ) -> bool {
        let mut found = false;
        for peer in &mut self.peers {
            if peer.association.address().ip() == address {
                let old = *peer.association.options();
                peer.association.set_selection(
                    prefer.unwrap_or(old.prefer),
                    noselect.unwrap_or(old.noselect),
                );
                found = true;
            }
        }
        if found {
            self.synchronise(now);
        }
        found
    }

    /// Takes up a source. Its place is behind all others'.
    pub fn add_source(&mut self, spec: SourceSpec, now: Now) -> SourceId {
        self.names.push(Name::new(spec, now.mono));
        SourceId(self.names.len() - 1)
    }

    /// Is this one of our sources' names or addresses?
    pub fn knows(&self, name: &str) -> bool {
        let address: Option<IpAddr> = name.parse().ok();
        let named = |known: &Name| !known.is_retired() && known.spec.name == name;
        self.names.iter().any(named)
            || address.is_some_and(|address| {
                let mut peers = self.peers.iter();
                peers.any(|peer| peer.association.address().ip() == address)
            })
    }

    /// Drops the source of this address. A pool's others stay, and so does its name.
    pub fn remove_source(&mut self, address: IpAddr, now: Now) -> bool {
        let mut gone = Vec::new();
        for peer in &self.peers {
            if peer.association.address().ip() == address {
                gone.push((peer.id, peer.source));
            }
        }
        for &(id, source) in &gone {
            if self.reference == Reference::Peer(id) {
                self.reference = Reference::None;
            }
            self.demobilise(id);
            if !self.names[source.0].spec.pool {
                self.names[source.0].retire();
            }
        }
        if !gone.is_empty() {
            self.tell_upstreams();
            self.synchronise(now);
        }
        !gone.is_empty()
    }

    /// Drops the source of this name, which has no address yet.
    pub fn remove_unresolved(&mut self, name: &str) -> bool {
        let peers = &self.peers;
        let mut names = self.names.iter_mut().enumerate();
        let found = names.find(|(index, known)| {
            let resolved = peers.iter().any(|peer| peer.source.0 == *index);
            !resolved && !known.is_retired() && known.spec.name == name
        });
        if let Some((_, name)) = found {
            name.retire();
            return true;
        }
        false
    }

    /// Looks all names up again, now.
    pub fn refresh_names(&mut self, now: Now) {
        for name in &mut self.names {
            name.refresh_now(now.mono);
        }
    }

    /// Selects anew, without the advantage of whom we follow.
    pub fn reselect(&mut self, now: Now) {
        if matches!(self.reference, Reference::Peer(_)) {
            self.reference = Reference::None;
        }
        self.synchronise(now);
    }

    /// Forgets all measurements, and asks as after a start.
    pub fn reset_sources(&mut self, now: Now) {
        self.ledger.reset(now.mono);
        self.combined = None;
        self.manual.reset();
        for peer in &mut self.peers {
            peer.filter.reset();
            peer.poll.restart();
            peer.association.on_clock_moved(now.mono, true);
        }
        self.actions
            .extend(self.peers.iter().map(|peer| Action::Close(peer.id)));
        if self.reference != Reference::Local {
            self.disown(now);
        }
    }

    /// Serve the undisciplined clock when nobody can be followed, as a clock of this
    /// stratum; none: don't.
    pub fn set_local(&mut self, stratum: Option<u8>, now: Now) {
        self.config.local_stratum = stratum;
        match (self.reference, stratum) {
            (Reference::Local, None) => self.disown(now),
            (Reference::Local | Reference::None, _) => self.lose(now),
            (Reference::Peer(_), _) => {}
        }
    }

    /// Offsets beyond this are stepped from now on; none: all are slewed.
    pub fn set_step_threshold(&mut self, threshold: Option<NtpDuration>) {
        self.discipline.set_threshold(threshold);
    }

    /// Steps the clock by all that it is known to lack. False: it is not ours to steer.
    pub fn make_step(&mut self, now: Now) -> bool {
        if !self.config.steer {
            return false;
        }
        let offset = match (self.reference, self.offset_at(now.mono)) {
            (Reference::Peer(_), Some(offset)) => offset,
            _ => self.discipline.pending(now.mono),
        };
        self.step(offset);
        true
    }

    fn step(&mut self, offset: NtpDuration) {
        let frequency = self.discipline.abandon();
        self.steer(frequency);
        if offset != NtpDuration::ZERO {
            self.steer(ClockCommand::Step(offset));
        }
    }

    /// The clock lacks this, says the operator: it is slewed away, or stepped where the
    /// step threshold says so. False: it is not ours to steer.
    pub fn accumulate_offset(&mut self, offset: NtpDuration, now: Now) -> bool {
        if !self.config.steer {
            return false;
        }
        if self.discipline.is_far(offset) {
            let all = offset + self.discipline.pending(now.mono);
            self.step(all);
        } else {
            let command = self.discipline.accumulate(offset, now.mono);
            self.steer(command);
        }
        true
    }

    /// The frequency correction should be greater by this, says the operator. False: it
    /// is not ours to steer.
    pub fn accumulate_frequency(&mut self, change: Ppm, now: Now) -> bool {
        if self.config.steer {
            let command = self
                .discipline
                .set_base(self.discipline.frequency() + change, now.mono);
            self.steer(command);
        }
        self.config.steer
    }

    /// Keep what the frequency is known to be, now.
    pub fn keep_frequency(&mut self, now: Now) {
        self.actions
            .extend(self.drift(now.mono).map(Action::KeepFrequency));
    }

    /// Are times taken that are typed in?
    pub fn set_manual(&mut self, enabled: bool) {
        self.manual.enabled = enabled;
    }

    /// Are they?
    pub fn is_manual(&self) -> bool {
        self.manual.enabled
    }

    /// Forgets the times that were typed in.
    pub fn reset_manual(&mut self) {
        self.manual.reset();
    }

    /// Forgets one of them. False: there is none of that index.
    pub fn forget_manual(&mut self, index: usize) -> bool {
        self.manual.forget(index)
    }

    /// It is `time`, says the operator, while our clock shows `now`. None: the clock is not
    /// ours to steer, or he has just said so.
    pub fn enter_time(&mut self, time: WallInstant, now: Now) -> Option<Entered> {
        let offset = time - now.wall;
        if !self.config.steer || !self.manual.enter(offset, &self.ledger, now) {
            return None;
        }
        // What is still under way was said before, and is in the new word.
        let frequency = self.discipline.abandon();
        self.steer(frequency);
        let mut frequency_change = Ppm::ZERO;
        if let Some(rate) = self.manual.rate() {
            let before = self.discipline.frequency();
            let command = self
                .discipline
                .set_base(self.ledger.frequency_for(rate), now.mono);
            self.steer(command);
            frequency_change = self.discipline.frequency() - before;
        }
        self.accumulate_offset(offset, now);
        Some(Entered {
            offset,
            frequency_change,
        })
    }
}

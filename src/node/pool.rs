//! From a name to the associations it stands for: which addresses to use, when
//! to look the name up again (RFC 5905 section 3.1 leaves this to us; ntpd's
//! `pool` and chrony's replacement of dead servers are the model).

use std::net::SocketAddr;

use crate::client::options::SourceOptions;
use crate::time::duration::NtpDuration;
use crate::time::instant::MonoInstant;

/// First wait before a name that did not resolve is tried again; doubles from here.
const RETRY_MIN: NtpDuration = NtpDuration::from_whole_seconds(2);
/// Longest such wait: a name server that is back must not go unnoticed for long,
/// and a query a minute burdens nobody.
const RETRY_MAX: NtpDuration = NtpDuration::from_whole_seconds(64);
/// Least time between two lookups of a name that does resolve.
const REFRESH_MIN: NtpDuration = NtpDuration::from_whole_seconds(60);

/// A configured source.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SourceSpec {
    /// As written.
    pub name: String,
    /// One association, or as many as the name has addresses?
    pub pool: bool,
    /// The most associations of a pool (chrony's `maxsources`). None: as many as the
    /// whole node may have.
    pub most: Option<usize>,
    /// How to ask.
    pub options: SourceOptions,
}

impl SourceSpec {
    /// Is there anything to be looked up? A clock of this host's has no address, and who
    /// broadcasts says his himself.
    pub fn has_name(&self) -> bool {
        self.options.clock.is_none() && self.options.heard.is_none()
    }
}

/// A name's state.
#[derive(Clone, Debug)]
pub struct Name {
    /// The configured source.
    pub spec: SourceSpec,
    /// What it resolved to last, in the resolver's order.
    pub addresses: Vec<SocketAddr>,
    lookup: Lookup,
    retry: NtpDuration,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Lookup {
    /// To be asked for at this moment.
    Due(MonoInstant),
    /// The resolver has it.
    Running,
    /// Resolved at this moment.
    Done(MonoInstant),
    /// The operator has taken it out. Its place stays, so that others keep theirs.
    Retired,
}

impl Name {
    /// To be looked up at once, if it is a name.
    pub fn new(spec: SourceSpec, now: MonoInstant) -> Self {
        let lookup = if spec.has_name() {
            Lookup::Due(now)
        } else {
            Lookup::Done(now)
        };
        Self {
            spec,
            addresses: Vec::new(),
            lookup,
            retry: RETRY_MIN,
        }
    }

    /// When to call [`take_lookup`](Self::take_lookup).
    pub fn deadline(&self) -> MonoInstant {
        match self.lookup {
            Lookup::Due(at) => at,
            Lookup::Running | Lookup::Done(_) | Lookup::Retired => MonoInstant::MAX,
        }
    }

    /// Is a lookup due? Then it counts as running from here.
    pub fn take_lookup(&mut self, now: MonoInstant) -> bool {
        let due = self.deadline() <= now;
        if due {
            self.lookup = Lookup::Running;
        }
        due
    }

    /// An address died: look the name up again, but not all the time. Literal
    /// addresses gain nothing from it, and cost nothing either.
    pub fn refresh(&mut self, now: MonoInstant) {
        if let Lookup::Done(at) = self.lookup
            && self.spec.has_name()
        {
            self.lookup = Lookup::Due(now.max(at + REFRESH_MIN));
        }
    }

    /// The operator wants it looked up again now.
    pub fn refresh_now(&mut self, now: MonoInstant) {
        if let Lookup::Done(_) | Lookup::Due(_) = self.lookup
            && self.spec.has_name()
        {
            self.lookup = Lookup::Due(now);
        }
    }

    /// The operator takes it out: never looked up again.
    pub fn retire(&mut self) {
        self.lookup = Lookup::Retired;
        self.addresses.clear();
    }

    /// Was it taken out?
    pub fn is_retired(&self) -> bool {
        self.lookup == Lookup::Retired
    }

    /// The network changed: what failed may work now.
    pub fn on_network_change(&mut self, now: MonoInstant) {
        if let Lookup::Due(at) = self.lookup {
            self.lookup = Lookup::Due(at.min(now));
            self.retry = RETRY_MIN;
        }
    }

    /// The resolver's answer. An empty one is tried again later and leaves the
    /// addresses as they were.
    pub fn on_resolved(&mut self, addresses: Vec<SocketAddr>, now: MonoInstant) {
        if self.is_retired() {
            return;
        }
        if addresses.is_empty() {
            self.lookup = Lookup::Due(now + self.retry);
            self.retry = (self.retry + self.retry).min(RETRY_MAX);
            return;
        }
        self.retry = RETRY_MIN;
        self.lookup = Lookup::Done(now);
        self.addresses = addresses;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> Name {
        let spec = SourceSpec {
            name: "ntp.example.net".to_owned(),
            pool: false,
            most: None,
            options: SourceOptions::default(),
        };
        Name::new(spec, MonoInstant::ZERO)
    }

    #[test]
    fn a_name_that_fails_is_tried_less_often_but_each_minute() {
        let mut name = name();
        let mut now = MonoInstant::ZERO;
        let mut waits = Vec::new();
        for _ in 0..14 {
            assert!(name.take_lookup(now));
            assert!(!name.take_lookup(now), "only one at a time");
            name.on_resolved(Vec::new(), now);
            waits.push((name.deadline() - now).as_seconds());
            now = name.deadline();
        }
        assert_eq!(waits[..3], [2.0, 4.0, 8.0]);
        assert_eq!(waits[13], 64.0);
    }

    #[test]
    fn a_dead_address_is_looked_up_again_at_most_once_a_minute() {
        let mut name = name();
        name.take_lookup(MonoInstant::ZERO);
        name.on_resolved(
            vec!["192.0.2.1:123".parse().expect("one")],
            MonoInstant::ZERO,
        );
        name.refresh(MonoInstant::from_nanos(1));
        assert_eq!(name.deadline(), MonoInstant::ZERO + REFRESH_MIN);
    }
}

//! What chronyc orders, done: part of the [`Errands`], so alike with both backends.
//! Most of it is the node's to do; the rules of access are ours.

use std::net::IpAddr;
use std::sync::Arc;

use log::info;

use super::{Errands, Hands, policy};
use crate::client::options::SourceOptions;
use crate::config::{Family, SourceConfig, SourceKind};
use crate::daemon::reports;
use crate::daemon::rtc::Wish;
use crate::daemon::time_loop::{Errand, TimeLoop};
use crate::node::engine::Node;
use crate::node::pool::SourceSpec;
use crate::server::rule::{Flags, Prefix, Rule, Who};
use crate::time::duration::NtpDuration;
use crate::time::instant::Now;
use crate::time::units::{PollExponent, Ppm};
use crate::wire::candm::{
    ADDSRC_BURST, ADDSRC_IBURST, ADDSRC_INTERLEAVED, ADDSRC_IPV4, ADDSRC_IPV6, ADDSRC_NOSELECT,
    ADDSRC_NTS, ADDSRC_ONLINE, ADDSRC_PREFER, ADDSRC_REQUIRE, ADDSRC_TRUST, Access, Address,
    Manual, ManualTimestamp, Network, NewSource, Reply, Request, Status,
};

/// Sources at most, those included that were taken out: an operator's script that adds
/// one each minute is found out after a day.
const SOURCES_MAX: usize = 1024;

/// What an order came to.
pub type Answer = (Status, Reply);

impl Errands {
    /// Does what `request` orders, or says why not.
    pub fn obey(
        &mut self,
        request: &Request,
        core: &mut TimeLoop,
        hands: &mut impl Hands,
        errands: &mut Vec<Errand>,
    ) -> Answer {
        match request {
            Request::AddSource(source) => just(self.add_source(source, core, errands)),
            Request::DeleteSource(address) => just(self.delete_source(*address, core, errands)),
            Request::Access(access) => just(self.set_access(*access, core, hands)),
            Request::AccessCheck(Address::Ip(address)) => {
                let policy = policy(&self.config, &self.upstreams);
                // A client's port is one that nobody has a right to.
                let flags = policy.access.lookup(*address, 0);
                just(if is_refused(flags) {
                    Status::AccessDenied
                } else {
                    Status::AccessAllowed
                })
            }
            Request::TrimRtc => just(self.wish(Wish::Set)),
            Request::WriteRtc => just(self.wish(Wish::Keep)),
            // Files of sources and of keys are parts of it.
            Request::ReloadSources | Request::Rekey if self.reload.is_some() => {
                info!("chronyc says: read the configuration again");
                self.read_again(core, hands, errands);
                just(Status::Success)
            }
            Request::Shutdown => {
                info!("chronyc says: shut down");
                errands.push(Errand::Done);
                just(Status::Success)
            }
            Request::CycleLogs => {
                hands.cycle_logs();
                just(Status::Success)
            }
            order => core.order(errands, |node, now| node_order(order, node, now)),
        }
    }

    /// The clock's keeper does it in his own time.
    fn wish(&self, wish: Wish) -> Status {
        match self.rtc.as_ref().map(|rtc| rtc.wish(wish)) {
            Some(true) => Status::Success,
            Some(false) => Status::Failed,
            None => Status::NoRtc,
        }
    }

    fn add_source(
        &mut self,
        source: &NewSource,
        core: &mut TimeLoop,
        errands: &mut Vec<Errand>,
    ) -> Status {
        let Some(name) = source.name.clone() else {
            return Status::InvalidName;
        };
        let flags = source.flags;
        // Keys and what decides about trust are not passed over in silence.
        let beyond = ADDSRC_NTS | ADDSRC_TRUST | ADDSRC_REQUIRE;
        let kind = match source.kind {
            1 => SourceKind::Server,
            2 => SourceKind::Peer,
            3 => SourceKind::Pool,
            _ => return Status::Invalid,
        };
        let key = Some(source.key).filter(|&key| key != 0);
        let lacks_key = key.is_some_and(|key| self.config.keys.table.get(key).is_none());
        if lacks_key || flags & beyond != 0 {
            return Status::Failed;
        }
        if self.config.sources.len() >= SOURCES_MAX {
            return Status::TooManySources;
        }
        if core.order(errands, |node, _| node.knows(&name)) {
            return Status::SourceAlreadyKnown;
        }
        let (Ok(port), minpoll) = (u16::try_from(source.port), exponent(source.minpoll)) else {
            return Status::Invalid;
        };
        let options = SourceOptions {
            minpoll,
            maxpoll: exponent(source.maxpoll).max(minpoll),
            iburst: flags & ADDSRC_IBURST != 0,
            burst: flags & ADDSRC_BURST != 0,
            prefer: flags & ADDSRC_PREFER != 0,
            noselect: flags & ADDSRC_NOSELECT != 0,
            offline: flags & ADDSRC_ONLINE == 0,
            version: match source.version {
                version @ 1..=4 => version as u8,
                _ => SourceOptions::default().version,
            },
            key,
            clock: None,
            over_ptp: None,
            correction: false,
            xleave: flags & ADDSRC_INTERLEAVED != 0,
            symmetric: kind == SourceKind::Peer,
            port,
            ..SourceOptions::default()
        };
        info!("chronyc says: ask {name} too");
        let spec = SourceSpec {
            name: name.clone(),
            pool: kind == SourceKind::Pool,
            most: None,
            options,
        };
        let source = SourceConfig {
            kind,
            name,
            family: match (flags & ADDSRC_IPV4 != 0, flags & ADDSRC_IPV6 != 0) {
                (true, false) => Some(Family::V4),
                (false, true) => Some(Family::V6),
                _ => None,
            },
            most: None,
            options,
        };
        self.config.sources.push(source.clone());
        self.asked.push(source);
        self.unresolved.push(false);
        core.order(errands, |node, now| node.add_source(spec, now));
        Status::Success
    }

    fn delete_source(
        &self,
        address: Address,
        core: &mut TimeLoop,
        errands: &mut Vec<Errand>,
    ) -> Status {
        let found = match address {
            Address::Ip(ip) => core.order(errands, |node, now| node.remove_source(ip, now)),
            Address::Id(_) => {
                let report = self.report(core);
                let name = reports::source_at(&report, address).map(|source| source.name.clone());
                name.is_some_and(|name| {
                    core.order(errands, |node, _| node.remove_unresolved(&name))
                })
            }
            Address::Unspecified => false,
        };
        done_if(found)
    }

    /// Our own servers stay believed whatever block they are in, as with chronyd, where
    /// `deny` is about clients alone.
    fn set_access(
        &mut self,
        access: Access,
        core: &mut TimeLoop,
        hands: &mut impl Hands,
    ) -> Status {
        let Some(blocks) = blocks(&access) else {
            return Status::BadSubnet;
        };
        let word = if access.allow { "allow" } else { "deny" };
        let before = policy(&self.config, &self.upstreams);
        let rules = &mut self.config.rules;
        for prefix in blocks {
            info!("chronyc says: {word} {prefix}");
            let flags = served(before.access.lookup(prefix.address(), 0));
            rules.retain(|rule| {
                let (Rule::Restrict(who, _) | Rule::Unrestrict(who, _)) = *rule;
                match who {
                    Who::Source => true,
                    Who::Block { prefix: other, .. } => {
                        let within = access.all
                            && other.bits() >= prefix.bits()
                            && prefix.contains(other.address());
                        other != prefix && !within
                    }
                }
            });
            let flags = if access.allow {
                flags
            } else {
                flags | Flags::NOSERVE
            };
            let block = Who::Block {
                prefix,
                ntpport: false,
            };
            rules.push(Rule::Restrict(block, flags));
        }
        let for_sources = |rule: &Rule| matches!(rule, Rule::Restrict(Who::Source, _));
        if !rules.iter().any(for_sources) {
            rules.push(Rule::Restrict(Who::Source, Flags::NONE));
        }
        let policy = Arc::new(policy(&self.config, &self.upstreams));
        core.set_policy(Arc::clone(&policy));
        hands.set_policy(&policy);
        Status::Success
    }
}

/// Is somebody of these flags given no time?
fn is_refused(flags: Flags) -> bool {
    flags.intersects(Flags::IGNORE | Flags::NOSERVE)
}

/// The same for somebody who is given time.
fn served(flags: Flags) -> Flags {
    let refused = Flags::IGNORE | Flags::NOSERVE;
    Flags::from_bits(flags.bits() & !refused.bits())
}

/// The blocks that an order is about: one, or one of each family. None: there is none
/// such.
pub fn blocks(access: &Access) -> Option<Vec<Prefix>> {
    let len = u8::try_from(access.bits).ok()?;
    match access.address {
        Address::Unspecified if len == 0 => Some(vec![Prefix::ALL_V4, Prefix::ALL_V6]),
        Address::Ip(address) => Some(vec![Prefix::new(address, len)?]),
        Address::Unspecified | Address::Id(_) => None,
    }
}

fn just(status: Status) -> Answer {
    (status, Reply::Null)
}

fn done_if(done: bool) -> Status {
    if done {
        Status::Success
    } else {
        Status::NoSuchSource
    }
}

fn steered_if(done: bool) -> Status {
    if done {
        Status::Success
    } else {
        Status::Failed
    }
}

fn exponent(log2: i32) -> PollExponent {
    PollExponent::new(log2.clamp(-128, 127) as i8)
}

/// What is the node's to do. Refused with chrony's status is what can't be done here:
/// see docs/MIGRATION.md.
fn node_order(order: &Request, node: &mut Node, now: Now) -> Answer {
    let among = |who: &Network| {
        let who = *who;
        move |ip: IpAddr| who.contains(ip)
    };
    // chronyc orders sources that have no address yet along with all others.
    let found = |count: usize, who: &Network| done_if(count > 0 || *who == Network::ALL);
    just(match order {
        Request::Connect { who, online } => found(node.set_online(among(who), *online, now), who),
        Request::OnOffline => {
            node.set_online(|_| true, true, now);
            Status::Success
        }
        Request::Burst { who, good, total } => {
            let count = |count: u32| u8::try_from(count).unwrap_or(u8::MAX);
            found(
                node.burst(among(who), count(*good), count(*total), now),
                who,
            )
        }
        Request::ModifyMinpoll(Address::Ip(ip), poll) => {
            done_if(node.set_poll_limits(*ip, Some(exponent(*poll)), None))
        }
        Request::ModifyMaxpoll(Address::Ip(ip), poll) => {
            done_if(node.set_poll_limits(*ip, None, Some(exponent(*poll))))
        }
        Request::ModifySelectOptions {
            address: Address::Ip(ip),
            mask,
            options,
        } => {
            if mask & options & (ADDSRC_TRUST | ADDSRC_REQUIRE) != 0 {
                Status::Failed
            } else {
                let option = |flag: u32| (mask & flag != 0).then_some(options & flag != 0);
                let (prefer, noselect) = (option(ADDSRC_PREFER), option(ADDSRC_NOSELECT));
                done_if(node.set_selection(*ip, prefer, noselect, now))
            }
        }
        Request::ModifyMinpoll(..)
        | Request::ModifyMaxpoll(..)
        | Request::ModifySelectOptions { .. } => Status::NoSuchSource,
        // Steps after the first updates alone are what `tinker stepout` is for.
        Request::ModifyMakestep { limit, threshold_s } if *limit <= 0 => {
            let threshold = NtpDuration::from_seconds(threshold_s.abs());
            let always = *limit < 0;
            node.set_step_threshold(always.then_some(threshold));
            Status::Success
        }
        Request::MakeStep => steered_if(node.make_step(now)),
        Request::DeltaOffset(fast_s) if fast_s.is_finite() => {
            let lacks = NtpDuration::from_seconds(-fast_s);
            steered_if(node.accumulate_offset(lacks, now))
        }
        Request::DeltaFrequency(ppm) if ppm.is_finite() => {
            steered_if(node.accumulate_frequency(Ppm(-ppm), now))
        }
        Request::Refresh => {
            node.refresh_names(now);
            Status::Success
        }
        Request::Reselect => {
            node.reselect(now);
            Status::Success
        }
        Request::ResetSources => {
            node.reset_sources(now);
            Status::Success
        }
        Request::Local { orphan: true, .. } => Status::Failed,
        Request::Local { stratum, .. } => match stratum {
            None => {
                node.set_local(None, now);
                Status::Success
            }
            // Ours is the stratum of a clock that we would follow.
            Some(stratum @ 1..=15) => {
                node.set_local(Some(*stratum as u8 - 1), now);
                Status::Success
            }
            Some(_) => Status::Invalid,
        },
        Request::Dump => {
            node.keep_frequency(now);
            Status::Success
        }
        Request::Manual(order) => {
            match order {
                Manual::On => node.set_manual(true),
                Manual::Off => node.set_manual(false),
                Manual::Reset => node.reset_manual(),
            }
            Status::Success
        }
        Request::ManualDelete(index) => {
            if node.forget_manual(*index as usize) {
                Status::Success
            } else {
                Status::BadSample
            }
        }
        Request::SetTime(_) if !node.is_manual() => Status::NotEnabled,
        Request::SetTime(time) => {
            let Some(entered) = node.enter_time(*time, now) else {
                return just(Status::Failed);
            };
            let reply = ManualTimestamp {
                offset_s: 0.0 - entered.offset.as_seconds(),
                frequency_change_ppm: 0.0 - entered.frequency_change.0,
                frequency_ppm: 0.0 - node.frequency().0,
            };
            return (Status::Success, Reply::ManualTimestamp(reply));
        }
        // There are no files of sources, keys or logs that could have changed: these are of
        // the configuration.
        Request::ReloadSources | Request::Rekey | Request::CycleLogs => Status::Success,
        Request::SmoothTime => Status::NotEnabled,
        Request::AccessCheck(_) => Status::AccessDenied,
        _ => Status::Failed,
    })
}

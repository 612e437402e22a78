//! A new configuration for a [`Node`] that runs: part of the engine. What stays keeps its
//! filter and its place; clock, frequency and leap seconds are as they were.

use super::{Node, Reference};
use crate::client::options::SourceOptions;
use crate::node::action::{AssociationId, SourceId};
use crate::node::pool::{Name, SourceSpec};
use crate::sync::policy::{SelectPolicy, StepPolicy};
use crate::time::instant::Now;

/// What a node is to be from now on.
#[derive(Clone, Debug)]
pub struct Changes {
    /// Sources that stay, with what is said of them now. Others go.
    pub kept: Vec<(SourceId, SourceSpec)>,
    /// Sources that come; they are numbered on behind all there ever were.
    pub new: Vec<SourceSpec>,
    /// Stratum of the undisciplined local clock as a last resort.
    pub local_stratum: Option<u8>,
    /// See [`NodeConfig`](crate::node::engine::NodeConfig::orphan).
    pub orphan: bool,
    /// When the clock may be stepped.
    pub step: StepPolicy,
    /// How sources are selected.
    pub select: SelectPolicy,
    /// May the clock be steered at all?
    pub steer: bool,
    /// Does the kernel step the clock for leap seconds?
    pub kernel_leaps: bool,
    /// Is there a leap second file? Else servers are believed again.
    pub has_leap_file: bool,
}

impl Node {
    /// Takes up `changes`.
    pub fn reconfigure(&mut self, changes: Changes, now: Now) {
        if self.initial_until.is_some() {
            self.end_initial(now);
        }
        for index in 0..self.names.len() {
            let source = SourceId(index);
            if changes.kept.iter().any(|(kept, _)| *kept == source) {
                continue;
            }
            self.names[index].retire();
            for peer in self.peers_of(source) {
                self.demobilise(peer);
            }
        }
        for (source, spec) in changes.kept {
            let Some(name) = self.names.get_mut(source.0) else {
                continue;
            };
            let options = spec.options;
            let changed = name.spec.options != options;
            let most = spec.most.unwrap_or(usize::MAX);
            name.spec = spec;
            if changed {
                for peer in self.peers.iter_mut().filter(|peer| peer.source == source) {
                    let options = SourceOptions {
                        // Of who was heard, it is the key he signs with.
                        key: match options.heard {
                            Some(_) => peer.association.options().key,
                            None => options.key,
                        },
                        ..options
                    };
                    let exponent = peer.poll.set_limits(options.minpoll, options.maxpoll);
                    peer.association.set_options(options);
                    peer.association.set_poll(exponent);
                }
            }
            for surplus in self.peers_of(source).into_iter().skip(most) {
                self.demobilise(surplus);
            }
        }
        let new = changes.new.into_iter();
        self.names.extend(new.map(|spec| Name::new(spec, now.mono)));

        self.config.select = changes.select;
        self.config.steer = changes.steer;
        self.config.kernel_leaps = changes.kernel_leaps;
        self.config.local_stratum = changes.local_stratum;
        self.config.orphan = changes.orphan;
        self.discipline.set_policy(changes.step);
        if !changes.has_leap_file {
            self.leap_table = None;
        }
        if changes.local_stratum.is_none() && self.reference == Reference::Local {
            self.disown(now);
        }
        self.tell_upstreams();
        self.synchronise(now);
    }

    fn peers_of(&self, source: SourceId) -> Vec<AssociationId> {
        let own = self.peers.iter().filter(|peer| peer.source == source);
        own.map(|peer| peer.id).collect()
    }
}

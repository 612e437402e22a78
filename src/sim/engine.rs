//! What lives in the simulated world: the node, or a plain estimator to compare it
//! with.

use std::net::SocketAddr;

use crate::node::action::{Action, AssociationId, SourceId};
use crate::node::engine::Node;
use crate::sync::command::Applied;
use crate::time::duration::NtpDuration;
use crate::time::instant::{MonoInstant, Now};
use crate::time::stamp::Stamp;

/// The node's ways in and out.
pub trait Engine {
    /// The next thing to do, in order.
    fn take_action(&mut self) -> Option<Action>;
    /// When [`on_timer`](Self::on_timer) has to be called.
    fn deadline(&self) -> MonoInstant;
    /// Does what is due.
    fn on_timer(&mut self, now: Now);
    /// A name's addresses.
    fn on_resolved(&mut self, source: SourceId, addresses: Vec<SocketAddr>, now: Now);
    /// T1 of a request.
    fn on_departure(&mut self, id: AssociationId, stamp: Stamp);
    /// A reply.
    fn on_datagram(&mut self, id: AssociationId, bytes: &[u8], arrival: Stamp, now: Now);
    /// What the clock really did.
    fn on_applied(&mut self, applied: &Applied);
    /// Another hand moved the clock.
    fn on_foreign_step(&mut self, moved: NtpDuration, now: Now);
    /// What it believes the clock lacks.
    fn offset_at(&self, now: MonoInstant) -> Option<NtpDuration>;
    /// Its poll interval in seconds; slow.
    fn poll_s(&self, now: Now) -> Option<f64>;
}

impl Engine for Node {
    fn take_action(&mut self) -> Option<Action> {
        self.take_action()
    }

    fn deadline(&self) -> MonoInstant {
        self.deadline()
    }

    fn on_timer(&mut self, now: Now) {
        self.on_timer(now);
    }

    fn on_resolved(&mut self, source: SourceId, addresses: Vec<SocketAddr>, now: Now) {
        self.on_resolved(source, addresses, now);
    }

    fn on_departure(&mut self, id: AssociationId, stamp: Stamp) {
        self.on_departure(id, stamp);
    }

    fn on_datagram(&mut self, id: AssociationId, bytes: &[u8], arrival: Stamp, now: Now) {
        self.on_datagram(id, bytes, arrival, now);
    }

    fn on_applied(&mut self, applied: &Applied) {
        self.on_applied(applied);
    }

    fn on_foreign_step(&mut self, moved: NtpDuration, now: Now) {
        self.on_foreign_step(moved, now);
    }

    fn offset_at(&self, now: MonoInstant) -> Option<NtpDuration> {
        self.offset_at(now)
    }

    fn poll_s(&self, now: Now) -> Option<f64> {
        self.report(now).system.poll_s
    }
}

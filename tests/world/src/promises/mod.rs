//! The promises of the design, each checked by a function of its own, against
//! what is so in the world: containers, symlink, connections, what is durable.

mod fleet;
mod orders;
mod reflex;
mod requests;
mod restart;
mod swaps;
mod traffic;

use cutover_core::Generation;

use crate::world::{S, World};

pub(crate) use fleet::{after_deciding, after_planning};
pub(crate) use orders::{after_order, before_order, leased};
pub(crate) use reflex::watch_reflex;
pub(crate) use requests::{cut, unanswered, unserved};
pub(crate) use restart::watch_restart;
pub(crate) use swaps::before_saving;
pub(crate) use traffic::{
    before_flip, before_halt, before_late_stop, before_out, before_start, before_stop,
};

/// How long an end may stay unseen: its event may be lost, then only samples tell.
const UNSEEN_FOR: u64 = 3 * S;

/// A good answer to a sample takes no longer.
const ANSWERED_WITHIN: u64 = 3 * S;

/// A promise of the design, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// Nothing unproved gets requests.
    P1,
    /// The incumbent stays until its drain is over.
    P2,
    /// Durable before said.
    P3,
    /// A stale command changes nothing.
    P4,
    /// Everything converges.
    P5,
    /// Never more in change than allowed.
    P6,
    /// An agent without its coordinator.
    P7,
    /// One open rollout a service, never three revisions.
    P9,
    /// No request is lost.
    P11,
    /// What is said to have happened is what happened.
    P12,
    /// From a candidate's death to a healthy incumbent within a second.
    Reflex,
}

/// A broken promise.
#[derive(Clone, Debug)]
pub struct Breach {
    /// Which.
    pub promise: Promise,
    /// What is wrong, in a sentence.
    pub what: String,
}

/// What must still be so when a restart is judged: the agent's life, the engine's, and when it died.
pub(crate) type RestartWatch = (u64, u64, u64);

/// What must still be so when the reflex is judged.
pub(crate) type ReflexWatch = (u64, u64, Generation, u64);

impl World {
    /// What must hold after every step, whatever it was.
    pub(crate) fn check(&mut self) {
        for host in 0..self.hosts.len() {
            fleet::never_three_revisions(self, host);
        }
        orders::lease_kept(self);
    }

    fn traffic(&self, service: usize) -> bool {
        self.services[service].traffic
    }
}

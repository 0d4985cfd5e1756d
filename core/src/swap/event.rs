//! What a berth is told, and what it may want done.

use std::collections::BTreeSet;

use crate::moment::Moment;
use crate::name::RevisionNumber;
use crate::route::{Route, Slot};
use crate::swap::plan::{SwapPlan, Target};

/// Which life of a replica's container: another start, another incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub u64);

/// Something that happened, told to a berth together with when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The coordinator's standing wish arrived (again).
    Ordered(SwapOrder),
    /// Somebody on the host itself asks for the old revision.
    RevertAsked,
    /// Somebody on the host itself asks that nothing moves by itself (or again may).
    HoldAsked(bool),
    /// The route is now this: the flip that was wanted, or what was found at start.
    Flipped(Route),
    /// The action that was wanted is under way.
    Began(Action),
    /// The action that was wanted succeeded.
    Did(Action),
    /// The action that was wanted failed.
    Failed(Action, Failure),
    /// The whole truth about this berth's containers was read.
    Saw(Seen),
    /// A container ended, by the engine's event.
    Exited {
        /// Where it was.
        slot: Slot,
        /// Which one, from 1.
        replica: u32,
        /// Which life of it.
        incarnation: Incarnation,
        /// Its exit code.
        code: i64,
    },
    /// A container's process is gone, by the kernel's word; how it ended, the engine says later.
    Vanished {
        /// Where it was.
        slot: Slot,
        /// Which one, from 1.
        replica: u32,
        /// Which life of it.
        incarnation: Incarnation,
    },
    /// A probe was answered, or was not.
    Sampled {
        /// Where.
        slot: Slot,
        /// Which replica, from 1.
        replica: u32,
        /// Which life of it was asked.
        incarnation: Incarnation,
        /// What it showed.
        healthy: bool,
        /// In a few words, for people; empty when healthy.
        evidence: String,
    },
    /// How many connections to a slot are open.
    Counted {
        /// Where.
        slot: Slot,
        /// Connections from nginx to its replicas.
        open: u64,
    },
    /// The engine does not answer (restarting, hung): nobody is judged by what is not seen.
    EngineLost,
    /// The agent's clock started anew (reboot): every stored moment is from another boot.
    Rebooted,
    /// Nothing but time passed.
    Ticked,
}

/// The coordinator's standing wish for one swap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwapOrder {
    /// Which swap, in full. Absent: revert whatever swap is open.
    pub plan: Option<Box<SwapPlan>>,
    /// Which swap, and the fence.
    pub generation: crate::Generation,
    /// How far it shall go.
    pub target: Target,
    /// Until when, on this host's clock, the coordinator's word counts.
    pub lease_until: Moment,
}

/// What was read of a berth's containers, all of them.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Seen {
    /// One entry a container; none: it does not exist.
    pub replicas: Vec<SeenReplica>,
    /// The engine died since the last account: ends that happened meanwhile judge nobody.
    pub engine_restarted: bool,
}

/// One container as it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeenReplica {
    /// Where.
    pub slot: Slot,
    /// Which one, from 1.
    pub replica: u32,
    /// What it is an instance of.
    pub revision: RevisionNumber,
    /// Whether it runs.
    pub state: SeenState,
}

/// Whether a container runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeenState {
    /// It was made and never started.
    Created,
    /// It runs.
    Up(Incarnation),
    /// It ended, with this exit code.
    Down(i64),
}

/// What takes time. [`UnderWay`](crate::swap::UnderWay) says which may be under way together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Have the image; check configuration, networks and volumes.
    Fetch {
        /// Of which revision.
        revision: RevisionNumber,
    },
    /// Make the containers and have nginx know their addresses; start nothing.
    Make {
        /// Where.
        slot: Slot,
        /// Of which revision.
        revision: RevisionNumber,
    },
    /// Have all replicas run; make what is missing.
    Start {
        /// Where.
        slot: Slot,
        /// Of which revision.
        revision: RevisionNumber,
    },
    /// Send the smoke checks to the replicas.
    Smoke {
        /// Where.
        slot: Slot,
        /// Of which revision.
        revision: RevisionNumber,
        /// Through nginx's listener, as a user would; else straight to each replica.
        through_listener: bool,
    },
    /// Show by a request through every listener that nginx does what the route says.
    Prove(Route),
    /// Stop one replica that hangs; it is started again as one that ended by itself would be.
    Halt {
        /// Where.
        slot: Slot,
        /// Of which revision.
        revision: RevisionNumber,
        /// Which one, from 1.
        replica: u32,
    },
    /// Stop the containers and keep them.
    Stop {
        /// Where.
        slot: Slot,
        /// Of which revision.
        revision: RevisionNumber,
    },
    /// Keep the logs, then remove the containers.
    Remove {
        /// Where.
        slot: Slot,
        /// Of which revision.
        revision: RevisionNumber,
    },
}

impl Action {
    /// The slot and the revision whose containers it concerns.
    #[must_use]
    pub fn concerns(self) -> Option<(Slot, RevisionNumber)> {
        match self {
            Self::Fetch { .. } | Self::Prove(_) => None,
            Self::Make { slot, revision }
            | Self::Start { slot, revision }
            | Self::Smoke { slot, revision, .. }
            | Self::Halt { slot, revision, .. }
            | Self::Stop { slot, revision }
            | Self::Remove { slot, revision } => Some((slot, revision)),
        }
    }
}

/// Why an action failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Trying again may help (the engine is away, the registry timed out).
    pub transient: bool,
    /// For people: what, to what, why, and the last lines of the log where they help.
    pub reason: String,
}

/// All that a berth wants, worked out from where it stands.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Want {
    /// Change the route now; it takes no time.
    pub flip: Option<Route>,
    /// Do this for the open swap, or to tidy up.
    pub step: Option<Action>,
    /// Start again what should run and does not, or stop what hangs, so that it can be: at most one of a slot.
    pub upkeep: Vec<Action>,
    /// Take samples of these.
    pub watch: Vec<Watch>,
    /// Count the connections of this slot.
    pub count: Option<Slot>,
    /// Exactly these replicas, at most one of a slot, shall get no requests: the others of their
    /// slots carry their share. Before anything is acted. `None`: it is not known yet.
    pub out: Option<BTreeSet<(Slot, u32)>>,
}

/// Which replica to sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Watch {
    /// Where.
    pub slot: Slot,
    /// Of which revision.
    pub revision: RevisionNumber,
    /// Which one, from 1.
    pub replica: u32,
    /// How often.
    pub pace: Pace,
}

/// How often replicas are sampled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pace {
    /// At the readiness check's interval: something hangs on it.
    Ready,
    /// By the liveness check: it is committed, and has passed.
    Live,
}

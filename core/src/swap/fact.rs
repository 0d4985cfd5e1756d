//! What a berth's journal holds: the facts, in order, are its state.

use crate::generation::Generation;
use crate::moment::Moment;
use crate::name::RevisionNumber;
use crate::route::{Route, Slot};
use crate::swap::event::Incarnation;
use crate::swap::plan::{Side, SwapPlan, Target};

/// A fact and when it became one, on the host's boot-time clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamped {
    /// When.
    pub at: Moment,
    /// What.
    pub fact: Fact,
}

/// Something that is so from now on. Applied in order, facts rebuild a [`super::Berth`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// Containers that nobody remembered are this host's current revision.
    Adopted {
        /// The revision.
        side: Side,
        /// Where it lives.
        slot: Slot,
    },
    /// A swap began; the candidate gets this slot.
    Opened {
        /// Its plan.
        plan: Box<SwapPlan>,
        /// The candidate's slot.
        slot: Slot,
    },
    /// The swap shall go so far.
    Targeted(Target),
    /// The swap leaves prepared, or serving, for where its target sends it.
    Advanced,
    /// A higher generation was seen.
    Fenced(Generation),
    /// The candidate's image and all it needs is on the host.
    Fetched,
    /// The candidate's containers exist, and nginx knows where.
    Made,
    /// The candidate's containers run.
    Started,
    /// All its replicas passed.
    Proved,
    /// Its smoke checks were answered as they should.
    Smoked,
    /// The incumbent was stopped to make room (stop-first).
    Stopped,
    /// The route is this.
    CutOver(Route),
    /// A request through every listener showed that nginx follows.
    RouteProved,
    /// The candidate serves: the target serving is reached.
    Confirmed,
    /// The observe window ended, and the candidate is healthy.
    Watched,
    /// The incumbent is no backup any more, and nginx follows.
    Cooled,
    /// The incumbent's connections ended, or their time did.
    Drained {
        /// Connections that were cut.
        open: u64,
    },
    /// The incumbent is parked; the candidate is the current revision. The swap is over.
    Committed,
    /// This host's own verdict: the candidate may not stay.
    Sickened {
        /// In a sentence, for people.
        why: String,
    },
    /// The candidate was stopped to make room for the incumbent (stop-first).
    Withdrawn,
    /// The incumbent runs again and passed (stop-first).
    Revived,
    /// All traffic is on the incumbent: the target reverted is reached.
    TrafficBack,
    /// The candidate's connections ended, or their time did.
    Emptied {
        /// Connections that were cut.
        open: u64,
    },
    /// The candidate is gone. The swap is over.
    Reverted,
    /// A replica passed in this life of it.
    Passed {
        /// Where.
        slot: Slot,
        /// Which one, from 1.
        replica: u32,
        /// Which life.
        incarnation: Incarnation,
    },
    /// A committed replica hangs: it counts as not having passed, and is started again.
    Hung {
        /// Where.
        slot: Slot,
        /// Which one, from 1.
        replica: u32,
        /// Which life.
        incarnation: Incarnation,
        /// In a sentence, for people.
        why: String,
    },
    /// A parked revision's containers were removed by retention.
    Discarded {
        /// Which.
        revision: RevisionNumber,
    },
    /// A person on the host said that nothing moves by itself (or again may).
    HeldByHand(bool),
    /// The host booted: moments before this one are of another boot.
    Rebooted,
}

//! What is told to a rollout, and what is stored of it.

use crate::generation::Generation;
use crate::moment::Moment;
use crate::name::HostId;
use crate::swap::{Report, Target};

/// A fact and when it became one, on the coordinator's boot-time clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamped {
    /// When.
    pub at: Moment,
    /// What.
    pub fact: Fact,
}

/// Something that is so from now on. Applied in order, facts rebuild a [`super::Rollout`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// This wave is under way, from 0.
    WaveBegan {
        /// Which.
        wave: usize,
    },
    /// A host shall go so far.
    Ordered {
        /// Which.
        host: HostId,
        /// In which swap.
        generation: Generation,
        /// How far.
        target: Target,
        /// The swap undoes a committed one.
        counter: bool,
    },
    /// A host said that it got there.
    Reached {
        /// Which.
        host: HostId,
        /// Where.
        target: Target,
    },
    /// A host turned out to run the candidate already: no swap of this rollout led there, so
    /// none is undone.
    WasThere {
        /// Which.
        host: HostId,
    },
    /// A host's candidate may not stay: by the host's verdict, or because it took too long.
    Fell {
        /// Which.
        host: HostId,
        /// In a sentence.
        why: String,
    },
    /// Every host is prepared: all may serve (blue-green).
    BarrierPassed,
    /// No failure takes these hosts back any more.
    CommitDecided {
        /// Which.
        hosts: Vec<HostId>,
    },
    /// Every host of the wave has settled.
    WaveEnded {
        /// Which.
        wave: usize,
    },
    /// A person said: not further.
    Paused,
    /// A person said: go on.
    Resumed,
    /// It waits for a person.
    Held {
        /// In a sentence.
        why: String,
    },
    /// Every host goes back.
    RollbackDecided {
        /// In a sentence.
        why: String,
        /// A person (or a newer rollout) asked for it.
        asked: bool,
    },
    /// It is over; hosts that are owing keep their orders.
    Closed(Outcome),
    /// A newer rollout speaks for these hosts now: no order of this one stands.
    Superseded,
    /// The coordinator booted: moments before this one are of another boot.
    Rebooted,
}

/// How a rollout ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// Every host committed (exit code 0).
    Committed,
    /// Every host is back, because the candidate was sick (3).
    RolledBack,
    /// Every host is back, because somebody asked (4).
    Aborted,
    /// Some hosts are elsewhere: left behind, owing or stuck (9).
    Mixed,
}

/// Something that happened, told to a rollout together with when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A host's account of the service arrived.
    Reported(HostId, Box<Report>),
    /// A host was heard, its clock showed this, and nothing is known to be there of the service.
    Heard {
        /// Which.
        host: HostId,
        /// Its boot-time clock.
        clock: Moment,
    },
    /// A host's session ended.
    Left(HostId),
    /// A person said: not further.
    PauseAsked,
    /// A person said: go on.
    ResumeAsked,
    /// A person (or a newer rollout) said: back.
    AbortAsked(String),
    /// A newer rollout of the service begins.
    SupersedeAsked,
    /// The coordinator's clock started anew.
    Rebooted,
    /// Nothing but time passed.
    Ticked,
}

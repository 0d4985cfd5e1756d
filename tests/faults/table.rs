//! What may come of each fault in each phase: the table that the trial is held to.
//!
//! Kept true: a cell says how the swap must end and which requests may be lost,
//! before it is tried. What P11 does not excuse is not allowed here.

use cutover_core::swap::Phase;

/// What is done to the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// kill -9 of the candidate's process.
    CandidateDies,
    /// kill -9 of the incumbent's process.
    IncumbentDies,
    /// Both at once.
    BothDie,
    /// dockerd is stopped, which stops all containers, and started again.
    EngineRestarts,
    /// kill -9 of all of nginx; a second later it is started, as systemd would.
    ProxyDies,
    /// The agent's state has no byte left until the swap is over, or for three seconds.
    DiskFull,
    /// kill -9 of the coordinator, until the lease is over.
    CoordinatorGone,
    /// kill -9 of the agent before the facts that lead into the phase are kept.
    AgentDiesBeforeSave,
    /// And after it.
    AgentDiesAfterSave,
}

impl Fault {
    pub(crate) const ALL: [Self; 9] = [
        Self::CandidateDies,
        Self::IncumbentDies,
        Self::BothDie,
        Self::EngineRestarts,
        Self::ProxyDies,
        Self::DiskFull,
        Self::CoordinatorGone,
        Self::AgentDiesBeforeSave,
        Self::AgentDiesAfterSave,
    ];

    /// As the table's head says it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::CandidateDies => "B dies",
            Self::IncumbentDies => "A dies",
            Self::BothDie => "both die",
            Self::EngineRestarts => "dockerd restarts",
            Self::ProxyDies => "nginx down",
            Self::DiskFull => "disk full",
            Self::CoordinatorGone => "coordinator gone",
            Self::AgentDiesBeforeSave => "agent dies before save",
            Self::AgentDiesAfterSave => "agent dies after save",
        }
    }
}

/// How a swap may end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// On the candidate.
    Forward,
    /// On the incumbent.
    Back,
}

impl End {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Forward => "on B",
            Self::Back => "on A",
        }
    }
}

/// How many requests may be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// None.
    Nothing,
    /// Those that the dead one was answering.
    InFlight,
    /// The only one that could answer was gone: nothing is promised but the end.
    Excused,
}

/// What a cell is held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) end: End,
    pub(crate) loss: Loss,
    /// The rollout may be closed before the host is back: its commit was decided, and it was away
    /// for longer than a lease. It converges, and the exit code says so.
    pub(crate) may_owe: bool,
}

/// With which strategy a swap comes to this phase, and stays there when it is held.
pub(crate) fn strategy(phase: Phase) -> &'static str {
    if is_stop_first(phase) {
        "recreate"
    } else if phase == Phase::Prepared {
        // Elsewhere the order to serve comes with the first one, and nobody waits as prepared.
        "blue-green"
    } else {
        "rolling"
    }
}

/// The phases that only a stop-first swap has.
const fn is_stop_first(phase: Phase) -> bool {
    matches!(
        phase,
        Phase::Stopping | Phase::Withdrawing | Phase::Reviving
    )
}

/// Whether the candidate's process runs when the swap is held in this phase.
const fn candidate_runs(phase: Phase) -> bool {
    !matches!(
        phase,
        Phase::Fetching | Phase::Making | Phase::Starting | Phase::Stopping | Phase::Reviving
    )
}

/// Whether the incumbent's process runs when the swap is held in this phase.
const fn incumbent_runs(phase: Phase) -> bool {
    !matches!(phase, Phase::Withdrawing | Phase::Reviving)
}

/// What must come of it; `None`: there is nothing that could die.
pub(crate) fn expected(phase: Phase, fault: Fault) -> Option<Expected> {
    let (candidate, incumbent) = (candidate_runs(phase), incumbent_runs(phase));
    match fault {
        Fault::CandidateDies if !candidate => return None,
        Fault::IncumbentDies if !incumbent => return None,
        Fault::BothDie if !(candidate && incumbent) => return None,
        Fault::CandidateDies
        | Fault::IncumbentDies
        | Fault::BothDie
        | Fault::EngineRestarts
        | Fault::ProxyDies
        | Fault::DiskFull
        | Fault::CoordinatorGone
        | Fault::AgentDiesBeforeSave
        | Fault::AgentDiesAfterSave => {}
    }
    Some(Expected {
        end: end(phase, fault),
        loss: loss(phase, fault),
        may_owe: fault == Fault::CoordinatorGone
            && matches!(phase, Phase::Cooling | Phase::Draining | Phase::Parking),
    })
}

fn end(phase: Phase, fault: Fault) -> End {
    let uncommitted_and_serving =
        matches!(phase, Phase::Cutting | Phase::Checking | Phase::Serving);
    let preparing = phase < Phase::Stopping;
    match fault {
        _ if phase.is_back() => End::Back,
        // From the cutover on, an unplanned exit of the candidate is a verdict.
        Fault::CandidateDies | Fault::BothDie if uncommitted_and_serving => End::Back,
        // What was said to be prepared is not any more.
        Fault::CandidateDies | Fault::BothDie if phase == Phase::Prepared => End::Back,
        // A merely prepared swap does not outlive its lease.
        Fault::CoordinatorGone if preparing => End::Back,
        Fault::CandidateDies
        | Fault::IncumbentDies
        | Fault::BothDie
        | Fault::EngineRestarts
        | Fault::ProxyDies
        | Fault::DiskFull
        | Fault::CoordinatorGone
        | Fault::AgentDiesBeforeSave
        | Fault::AgentDiesAfterSave => End::Forward,
    }
}

fn loss(phase: Phase, fault: Fault) -> Loss {
    // Somebody who stops the old one first has accepted a gap.
    if is_stop_first(phase) {
        return Loss::Excused;
    }
    let both_can_answer = matches!(phase, Phase::Cutting | Phase::Checking | Phase::Serving);
    let on_candidate = phase >= Phase::Cutting && !phase.is_back();
    match fault {
        Fault::BothDie | Fault::EngineRestarts | Fault::ProxyDies => Loss::Excused,
        Fault::CandidateDies | Fault::IncumbentDies if both_can_answer => Loss::InFlight,
        // The one that serves alone: it comes back by its restart policy.
        Fault::CandidateDies if on_candidate => Loss::Excused,
        Fault::IncumbentDies if !on_candidate => Loss::Excused,
        // The one that finishes what it had.
        Fault::CandidateDies if phase.is_back() => Loss::InFlight,
        Fault::IncumbentDies => Loss::InFlight,
        Fault::CandidateDies
        | Fault::DiskFull
        | Fault::CoordinatorGone
        | Fault::AgentDiesBeforeSave
        | Fault::AgentDiesAfterSave => Loss::Nothing,
    }
}

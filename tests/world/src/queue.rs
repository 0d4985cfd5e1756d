//! What is going to happen, in the order of time; of equal times, in the order it was planned.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use cutover_core::swap::{Incarnation, Report, Seen, SwapOrder};
use cutover_core::{Moment, RevisionNumber, Slot};

use crate::action::Doing;
use crate::scenario::PersonAct;

/// Something that is going to happen. Indices: hosts and services of this world.
#[derive(Clone, Debug)]
pub(crate) enum Happening {
    /// A person does something.
    Person(PersonAct),
    /// Accidents of the last half second.
    Chaos,
    /// Nothing goes wrong from now on.
    Heal,
    /// After healing: is it quiet yet?
    Judge,
    /// systemd starts the agent.
    AgentStarts { host: usize, life: u64 },
    /// A berth's deadline.
    AgentWakes {
        host: usize,
        life: u64,
        service: usize,
        at: u64,
    },
    /// A full disk may have room again.
    AgentRetriesSave {
        host: usize,
        life: u64,
        service: usize,
    },
    /// The periodic report.
    AgentReports { host: usize, life: u64 },
    /// The periodic listing, in case that an event was lost.
    AgentLists { host: usize, life: u64 },
    /// A listing arrives; `marks` are what each berth had been told when it was read.
    Listed {
        host: usize,
        life: u64,
        seen: Vec<(usize, u64, Seen)>,
    },
    /// The kernel tells that a container's process is gone.
    Vanished {
        host: usize,
        life: u64,
        service: usize,
        slot: Slot,
        replica: u32,
        incarnation: Incarnation,
    },
    /// The engine tells that a container ended.
    Exited {
        host: usize,
        life: u64,
        service: usize,
        slot: Slot,
        replica: u32,
        incarnation: Incarnation,
        code: i64,
    },
    /// The engine is found to be away, or back.
    EngineNoticed { host: usize, life: u64 },
    /// A replica shall be sampled.
    Probe {
        host: usize,
        life: u64,
        token: u64,
        service: usize,
        slot: Slot,
        revision: RevisionNumber,
        replica: u32,
    },
    /// The answer to a sample, or its absence.
    Probed {
        host: usize,
        life: u64,
        service: usize,
        slot: Slot,
        replica: u32,
        incarnation: Incarnation,
        healthy: bool,
    },
    /// Connections shall be counted.
    Count {
        host: usize,
        life: u64,
        service: usize,
    },
    /// The next step of an action.
    Act(Doing),
    /// An action's answer.
    Acted {
        doing: Doing,
        result: Result<(), (bool, &'static str)>,
    },
    /// The engine does what it was asked long ago.
    LateEffect(Doing),
    /// A container ends by itself.
    Dies {
        host: usize,
        service: usize,
        slot: Slot,
        revision: RevisionNumber,
        replica: u32,
        incarnation: Incarnation,
    },
    /// The engine is back.
    EngineBack { host: usize },
    /// nginx is up and follows again.
    NginxBack { host: usize },
    /// The disk has room again.
    DiskBack { host: usize },
    /// The host boots.
    Boots { host: usize },
    /// A partition ends.
    PartitionEnds { host: usize },
    /// A client sends a request and plans its next.
    ClientSends {
        host: usize,
        service: usize,
        again: bool,
    },
    /// nginx tries the next address for a request.
    Tries {
        host: usize,
        service: usize,
        request: u64,
    },
    /// A request is answered in full.
    Answered {
        host: usize,
        service: usize,
        request: u64,
    },
    /// The agent dials the coordinator.
    Dials { host: usize, life: u64 },
    /// A message reaches the coordinator.
    ToCoordinator {
        host: usize,
        session: u64,
        message: ToCoordinator,
    },
    /// A message reaches a host.
    ToHost {
        host: usize,
        session: u64,
        service: usize,
        order: SwapOrder,
    },
    /// The coordinator finds a session ended.
    SessionLost { host: usize, session: u64 },
    /// systemd starts the coordinator.
    CoordinatorStarts { life: u64 },
    /// The coordinator's deadline.
    CoordinatorWakes { life: u64, at: u64 },
    /// The coordinator says again what it wishes.
    CoordinatorRenews { life: u64 },
    /// A full disk may have room again.
    CoordinatorRetriesSave { life: u64 },
    /// The coordinator's disk has room again.
    CoordinatorDiskBack,
    /// By now what died must have been started again.
    RestartDue {
        host: usize,
        key: crate::host::ContainerKey,
        watch: crate::promises::RestartWatch,
    },
    /// By now the reflex must have happened.
    ReflexDue {
        host: usize,
        service: usize,
        slot: Slot,
        watch: crate::promises::ReflexWatch,
    },
}

/// What an agent says.
#[derive(Clone, Debug)]
pub(crate) enum ToCoordinator {
    /// The first message of a session: its clock, and all accounts.
    Hello {
        clock: Moment,
        reports: Vec<(usize, Report)>,
    },
    /// One account.
    Report(usize, Box<Report>),
}

#[derive(Debug)]
struct Entry {
    at: u64,
    sequence: u64,
    what: Happening,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        // The heap gives the greatest first.
        (other.at, other.sequence).cmp(&(self.at, self.sequence))
    }
}

/// All that is going to happen.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    heap: BinaryHeap<Entry>,
    sequence: u64,
}

impl Queue {
    pub(crate) fn push(&mut self, at: u64, what: Happening) {
        self.sequence += 1;
        self.heap.push(Entry {
            at,
            sequence: self.sequence,
            what,
        });
    }

    pub(crate) fn pop(&mut self) -> Option<(u64, Happening)> {
        self.heap.pop().map(|entry| (entry.at, entry.what))
    }
}

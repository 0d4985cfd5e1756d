//! What is so on one host, whoever knows of it: its disk, its engine, its nginx.

use std::collections::{BTreeMap, BTreeSet};

use cutover_core::swap::{Action, Berth, Fact, Incarnation, Stamped};
use cutover_core::{Generation, Moment, RevisionNumber, Route, Slot};

use crate::agent::Agent;
use crate::map;
use crate::tally::Tally;

/// Which container: service, slot, revision, replica.
pub(crate) type ContainerKey = (usize, Slot, RevisionNumber, u32);

/// One machine.
#[derive(Debug)]
pub(crate) struct Host {
    /// It has power and has booted.
    pub(crate) up: bool,
    /// When it booted: its clock counts from here.
    pub(crate) booted: u64,
    pub(crate) boot_id: u64,
    pub(crate) agent: Option<Agent>,
    /// Which start of the agent; what belongs to an older one is void.
    pub(crate) life: u64,
    pub(crate) disk: Disk,
    /// The berths that the journal alone gives.
    pub(crate) durable: Vec<Berth>,
    /// The observe window of the open swap ended well, by the journal.
    pub(crate) watched: Vec<bool>,
    /// When the open swap was opened.
    pub(crate) opened: Vec<u64>,
    pub(crate) images: BTreeSet<(usize, RevisionNumber)>,
    pub(crate) containers: BTreeMap<ContainerKey, Container>,
    pub(crate) engine: Engine,
    pub(crate) fronts: Vec<Front>,
    pub(crate) nginx_up: bool,
    pub(crate) requests: BTreeMap<u64, Request>,
    pub(crate) partitioned: bool,
    /// When the reverts of this host were asked for by hand.
    pub(crate) hand: Vec<u64>,
    /// When a recreate last stopped something.
    pub(crate) recreated: Vec<u64>,
    /// The generation that was last ordered of each service, and until when its lease is.
    pub(crate) leases: Vec<(Generation, u64)>,
    /// Actions of this host that were given up may still take effect until then.
    pub(crate) haunted_until: u64,
}

/// What outlives the agent and the power.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    pub(crate) journal: Vec<Vec<Stamped>>,
    pub(crate) starts: u64,
    pub(crate) boot_id: u64,
    /// The engine's life that was last told of.
    pub(crate) engine_noted: Vec<u64>,
    pub(crate) full: bool,
    /// Records that fit though it is full: the journal is preallocated.
    pub(crate) spare: u32,
}

/// Docker.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) up: bool,
    /// Which life of it.
    pub(crate) instance: u64,
    pub(crate) down_since: u64,
    pub(crate) up_since: u64,
}

/// One container.
#[derive(Clone, Debug)]
pub(crate) struct Container {
    pub(crate) state: State,
    /// Good answers in a row that it gave to samples in this life.
    pub(crate) good: u32,
    /// It has given enough of them in this life.
    pub(crate) passed: bool,
    /// When it had given enough of them in this life.
    pub(crate) passed_at: u64,
    /// When it last ended by itself, and not with its engine.
    pub(crate) crashed_at: u64,
    /// When it was last sick or ended by itself.
    pub(crate) sick_at: u64,
}

/// Whether a container runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Created,
    Up {
        incarnation: Incarnation,
        ready_at: u64,
        sick_from: u64,
    },
    Down {
        code: i64,
        by: Ender,
    },
}

/// Who ended a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ender {
    /// The agent had it stopped.
    Agent,
    /// The agent had it stopped because it hung, to start it again.
    Restart,
    /// It ended by itself, or with its engine or machine.
    Itself,
}

/// nginx, as far as one service goes.
#[derive(Debug)]
pub(crate) struct Front {
    /// The symlink.
    pub(crate) link: Route,
    /// What nginx does while it does not follow.
    pub(crate) stuck: Option<Route>,
    /// The route before the last flip.
    pub(crate) before: Route,
    pub(crate) flipped_at: u64,
    /// When the link, or nginx, last reached each slot.
    pub(crate) reached: BTreeMap<Slot, u64>,
    /// When a flip last failed.
    pub(crate) failed_at: u64,
    /// Something was served here once.
    pub(crate) served: bool,
    /// Replicas that get nothing.
    pub(crate) out: BTreeSet<(Slot, u32)>,
    /// Turns over the replicas of a slot.
    pub(crate) turn: u64,
}

impl Front {
    pub(crate) fn new() -> Self {
        Self {
            link: Route::Nobody,
            stuck: None,
            before: Route::Nobody,
            flipped_at: 0,
            failed_at: 0,
            reached: BTreeMap::new(),
            served: false,
            out: BTreeSet::new(),
            turn: 0,
        }
    }

    /// What nginx does.
    pub(crate) fn actual(&self) -> Route {
        self.stuck.unwrap_or(self.link)
    }

    /// Whether the link or nginx sends to `slot`.
    pub(crate) fn reaches(&self, slot: Slot) -> bool {
        self.link.reaches(slot) || self.actual().reaches(slot)
    }
}

/// A request that nginx has taken.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) service: usize,
    pub(crate) began: u64,
    /// How long its answer takes.
    pub(crate) takes: u64,
    /// The route that it saw.
    pub(crate) route: Route,

    /// Addresses still to be tried.
    pub(crate) rest: Vec<(Slot, u32)>,
    /// Who answers it.
    pub(crate) at: Option<(ContainerKey, Incarnation)>,
}

impl Host {
    /// Its boot-time clock.
    pub(crate) fn clock(&self, now: u64) -> Moment {
        Moment::from_nanos(now.saturating_sub(self.booted))
    }

    /// The container that has an address: whatever runs in this slot as this replica.
    pub(crate) fn at_address(
        &self,
        service: usize,
        slot: Slot,
        replica: u32,
    ) -> Option<(&ContainerKey, &Container)> {
        self.containers.iter().find(|((s, l, _, n), container)| {
            *s == service
                && *l == slot
                && *n == replica
                && matches!(container.state, State::Up { .. })
        })
    }

    pub(crate) fn open_connections(&self, service: usize, slot: Slot) -> u64 {
        let open = self.requests.values().filter(|request| {
            request.service == service && request.at.is_some_and(|((_, l, _, _), _)| l == slot)
        });
        open.count() as u64
    }

    /// Writes a fact to the journal; `false`: there is no room.
    pub(crate) fn append(
        &mut self,
        service: usize,
        now: u64,
        facts: &[Stamped],
        tally: &mut Tally,
    ) -> bool {
        if self.disk.full {
            let needed = u32::try_from(facts.len()).unwrap_or(u32::MAX);
            if self.disk.spare < needed {
                return false;
            }
            self.disk.spare -= needed;
        }
        for stamped in facts {
            let before = map::place(self.durable[service].phase());
            self.durable[service].apply(stamped.at, &stamped.fact);
            let after = map::place(self.durable[service].phase());
            tally.walked(before, after);
            tally.count("swap facts", map::fact(&stamped.fact));
            match &stamped.fact {
                Fact::Opened { .. } => {
                    self.opened[service] = now;
                    self.watched[service] = false;
                }
                Fact::Watched => self.watched[service] = true,
                Fact::Confirmed => self.watched[service] = false,
                _ => {}
            }
            self.disk.journal[service].push(stamped.clone());
        }
        true
    }
}

impl Container {
    pub(crate) fn up(&self) -> Option<Incarnation> {
        match self.state {
            State::Up { incarnation, .. } => Some(incarnation),
            State::Created | State::Down { .. } => None,
        }
    }

    /// It accepts connections and answers them well.
    pub(crate) fn well(&self, now: u64) -> bool {
        matches!(self.state, State::Up { ready_at, sick_from, .. } if now >= ready_at && now < sick_from)
    }

    /// It accepts connections.
    pub(crate) fn listens(&self, now: u64) -> bool {
        matches!(self.state, State::Up { ready_at, .. } if now >= ready_at)
    }
}

/// The slot and revision that an action is about.
pub(crate) fn subject(action: Action) -> (Option<Slot>, Option<RevisionNumber>) {
    match action {
        Action::Fetch { revision } => (None, Some(revision)),
        Action::Make { slot, revision }
        | Action::Start { slot, revision }
        | Action::Smoke { slot, revision, .. }
        | Action::Stop { slot, revision }
        | Action::Remove { slot, revision }
        | Action::Halt { slot, revision, .. } => (Some(slot), Some(revision)),
        Action::Prove(_) => (None, None),
    }
}

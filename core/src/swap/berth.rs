//! A berth: the place of one service on one host, and the machine of its swaps.
//!
//! It keeps true: facts alone move it ([`Berth::apply`]); the same facts in the
//! same order give the same berth, but for what it sees of its replicas and what
//! is under way, which is looked at anew after a restart. It asks no clock, and fails on no input:
//! what is late, repeated or for another swap yields no facts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::generation::Generation;
use crate::guard::{Guard, guard};
use crate::moment::Moment;
use crate::name::{RevisionNumber, ServiceId};
use crate::route::{Route, Slot, Weight};
use crate::spec::Order;
use crate::swap::event::{Action, Event, Failure, Incarnation};
use crate::swap::fact::{Fact, Stamped};
use crate::swap::halt::Halts;
use crate::swap::patience::Patience;
use crate::swap::phase::Phase;
use crate::swap::plan::{Kind, Side, SwapPlan, Target};
use crate::swap::sight::{Sight, backoff};

/// The wait after the first failure of an action; it doubles from there.
pub(super) const RETRY_FIRST: Duration = Duration::from_millis(250);

/// How long a started agent waits for the coordinator, whose lease it does not know.
const RESTART_PATIENCE: Duration = Duration::from_secs(10);

/// The place of one service on one host.
#[derive(Clone, Debug)]
pub struct Berth {
    pub(super) service: ServiceId,
    pub(super) current: Option<Settled>,
    /// Ended revisions whose containers are kept, the newest first.
    pub(super) parked: Vec<Settled>,
    pub(super) fence: Generation,
    pub(super) route: Route,
    pub(super) passed: BTreeMap<(Slot, u32), Incarnation>,
    /// Committed replicas that hung, until they have passed again.
    pub(super) hung: BTreeMap<(Slot, u32), Hang>,
    /// Which of those are being stopped; not stored.
    pub(super) halts: Halts,
    pub(super) swap: Option<Swap>,
    pub(super) last: Option<Ended>,
    /// Where ended candidates were: what is still found there is removed.
    pub(super) ended: BTreeSet<(Slot, RevisionNumber)>,
    pub(super) hold: bool,
    // From here on: never stored.
    pub(super) sight: Sight,
    /// Of the steps of a swap, and of what is tidied up.
    pub(super) effort: Effort,
    /// Of halts.
    pub(super) halting: Effort,
    /// Of each slot's restarts: what should run is nobody's step.
    pub(super) upkeep: BTreeMap<Slot, Effort>,
    pub(super) patience: Patience,
    pub(super) lease_until: Moment,
    /// Until when a started agent, which does not know the lease, waits to be told.
    pub(super) patient_until: Moment,
    pub(super) refusal: Option<Refusal>,
    /// Connections last counted where a drain is waited for.
    pub(super) open: u64,
}

/// A revision that has its slot on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The revision.
    pub side: Side,
    /// Where it lives.
    pub slot: Slot,
}

/// Which life of a committed replica hung, and how that showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hang {
    /// Which life.
    pub incarnation: Incarnation,
    /// In a sentence, for people.
    pub why: String,
}

/// The swap that is open.
#[derive(Clone, Debug)]
pub(super) struct Swap {
    pub(super) plan: SwapPlan,
    /// The candidate's slot.
    pub(super) slot: Slot,
    pub(super) target: Target,
    /// The share that the candidate has, or is being given.
    pub(super) weight: Weight,
    pub(super) phase: Phase,
    /// When `phase` was entered.
    pub(super) since: Moment,
    /// The observe window ended well.
    pub(super) watched: bool,
    /// Requests may have reached the candidate.
    pub(super) cut: bool,
    /// Why it goes back, once it does by this host's verdict.
    pub(super) why: Option<String>,
    /// The stop-first incumbent was stopped.
    pub(super) stopped: bool,
    /// On the way back, the incumbent was started since: an unfinished stop may have ended it.
    /// Never stored.
    pub(super) restarted: bool,
}

/// How the last swap ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its plan.
    pub plan: SwapPlan,
    /// Committed or reverted.
    pub reached: Target,
    /// Why it went back, when by this host's verdict.
    pub why: Option<String>,
    /// When.
    pub at: Moment,
}

/// Why an order was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Of which swap.
    pub generation: Generation,
    /// In a sentence.
    pub why: String,
}

/// How often the wanted action has failed, and when it may be tried again.
#[derive(Clone, Debug, Default)]
pub(super) struct Effort {
    failures: u32,
    not_before: Moment,
    /// What the last failure said.
    pub(super) trouble: Option<String>,
}

impl Effort {
    pub(super) fn ready(&self, now: Moment) -> bool {
        now >= self.not_before
    }

    pub(super) fn not_before(&self) -> Moment {
        self.not_before
    }

    fn failed(&mut self, now: Moment, reason: &str) {
        self.not_before = now + backoff(RETRY_FIRST, self.failures);
        self.failures = self.failures.saturating_add(1);
        self.trouble = Some(reason.to_owned());
    }
}

impl Swap {
    pub(super) fn stop_first(&self) -> bool {
        self.plan.order == Order::StopFirst
    }

    /// The candidate and its slot, unless this is a retirement.
    pub(super) fn candidate(&self) -> Option<(&Side, Slot)> {
        self.plan.kind.candidate().map(|side| (side, self.slot))
    }

    pub(super) fn enter(&mut self, now: Moment, phase: Phase) {
        self.phase = phase;
        self.since = now;
    }
}

impl Berth {
    /// An empty berth: nothing runs, nobody is routed to.
    #[must_use]
    pub fn new(service: ServiceId) -> Self {
        Self {
            service,
            current: None,
            parked: Vec::new(),
            fence: Generation::NONE,
            route: Route::Nobody,
            passed: BTreeMap::new(),
            hung: BTreeMap::new(),
            halts: Halts::default(),
            swap: None,
            last: None,
            ended: BTreeSet::new(),
            hold: false,
            sight: Sight::default(),
            effort: Effort::default(),
            halting: Effort::default(),
            upkeep: BTreeMap::new(),
            patience: Patience::default(),
            lease_until: Moment::ZERO,
            patient_until: Moment::ZERO,
            refusal: None,
            open: 0,
        }
    }

    /// The berth that these facts, in order, lead to.
    #[must_use]
    pub fn replay<'a>(service: ServiceId, facts: impl IntoIterator<Item = &'a Stamped>) -> Self {
        let mut berth = Self::new(service);
        for stamped in facts {
            berth.apply(stamped.at, &stamped.fact);
        }
        berth
    }

    /// Tells the berth what happened and when; answers with the facts that follow,
    /// already applied. Store them before acting on what is wanted next; in a revert
    /// flip the route first.
    #[must_use]
    pub fn handle(&mut self, now: Moment, event: Event) -> Vec<Stamped> {
        let mut facts = Vec::new();
        self.forgive(now);
        // What time alone has decided comes before what is said now: an order
        // that arrives after the lease ended finds the swap on its way back.
        self.settle(now, &mut facts);
        let order = match &event {
            Event::Ordered(order) => Some(order.clone()),
            Event::RevertAsked
            | Event::HoldAsked(_)
            | Event::Flipped(_)
            | Event::Began(_)
            | Event::Did(_)
            | Event::Failed(..)
            | Event::Saw(_)
            | Event::Exited { .. }
            | Event::Vanished { .. }
            | Event::Sampled { .. }
            | Event::Counted { .. }
            | Event::EngineLost
            | Event::Rebooted
            | Event::Ticked => None,
        };
        if let Some(fact) = self.take(now, event) {
            let opens = matches!(fact, Fact::Opened { .. });
            self.record(now, fact, &mut facts);
            // The order that opens a swap says at once how far it shall go: to wait until it is
            // said again would cost a third of a lease on every host.
            let further = order.filter(|_| opens);
            if let Some(fact) = further.and_then(|order| self.ordered(now, order)) {
                self.record(now, fact, &mut facts);
            }
        }
        self.settle(now, &mut facts);
        facts
    }

    /// Restarts no longer count once their replica ran for its policy's window.
    fn forgive(&mut self, now: Moment) {
        if let Some(Settled { side, .. }) = &self.current {
            self.sight.forgive(now, side.revision, side.restart.window);
        }
    }

    fn settle(&mut self, now: Moment, facts: &mut Vec<Stamped>) {
        while let Some(fact) = self.next_fact(now) {
            self.record(now, fact, facts);
        }
        if self.hung.is_empty() {
            self.halting = Effort::default();
        }
    }

    fn record(&mut self, now: Moment, fact: Fact, facts: &mut Vec<Stamped>) {
        self.apply(now, &fact);
        facts.push(Stamped { at: now, fact });
    }

    /// What an event says outright; what follows from it is `next_fact`'s.
    fn take(&mut self, now: Moment, event: Event) -> Option<Fact> {
        match event {
            Event::Ordered(order) => self.ordered(now, order),
            Event::RevertAsked => self.revert_asked(),
            Event::HoldAsked(hold) => (hold != self.hold).then_some(Fact::HeldByHand(hold)),
            Event::Flipped(route) => (route != self.route).then_some(Fact::CutOver(route)),
            Event::Began(action) => {
                self.halt_began(action);
                self.aside_began(now, action);
                None
            }
            Event::Did(action) => {
                self.halt_answered(now, action);
                self.aside_answered(now, action);
                self.did(now, action)
            }
            Event::Failed(action, failure) => {
                self.halt_answered(now, action);
                self.aside_answered(now, action);
                self.failed(now, action, failure)
            }
            Event::Saw(seen) => {
                if !self.sight.looked {
                    self.patient_until = now + RESTART_PATIENCE;
                    self.halts_of_another_life(now);
                }
                self.sight.see(now, &seen);
                let kept = self.kept().into_iter();
                let due = kept.filter(|(side, slot)| self.restart_due(side, *slot).is_some());
                let due: BTreeSet<Slot> = due.map(|(_, slot)| slot).collect();
                self.upkeep.retain(|slot, _| due.contains(slot));
                None
            }
            Event::Exited {
                slot,
                replica,
                incarnation,
                code,
            } => {
                self.sight.exited(now, slot, replica, incarnation, code);
                None
            }
            Event::Vanished {
                slot,
                replica,
                incarnation,
            } => {
                self.sight.vanished(slot, replica, incarnation);
                None
            }
            Event::Sampled {
                slot,
                replica,
                incarnation,
                healthy,
                evidence,
            } => {
                self.sight
                    .sampled(slot, replica, incarnation, healthy, evidence);
                None
            }
            Event::Counted { slot, open } => self.counted(now, slot, open),
            Event::EngineLost => {
                self.sight.engine_lost.get_or_insert(now);
                None
            }
            Event::Rebooted => Some(Fact::Rebooted),
            Event::Ticked => None,
        }
    }

    fn failed(&mut self, now: Moment, action: Action, failure: Failure) -> Option<Fact> {
        if !guard(Guard::AnswerToWanted, self.awaits(now, action)) {
            return None;
        }
        let effort = match (action, self.kept_by(action)) {
            (Action::Halt { .. }, _) => &mut self.halting,
            (_, Some(slot)) => self.upkeep.entry(slot).or_default(),
            (_, None) => &mut self.effort,
        };
        effort.failed(now, &failure.reason);
        self.note_try(now, action);
        let swap = self.swap.as_ref()?;
        // What is only tidied up says nothing of the candidate, nor does the incumbent's restart.
        let step = match action {
            Action::Halt { .. } | Action::Stop { .. } | Action::Remove { .. } => false,
            Action::Start { slot, .. } => slot == swap.slot,
            Action::Fetch { .. }
            | Action::Make { .. }
            | Action::Smoke { .. }
            | Action::Prove(_) => true,
        };
        (step && !failure.transient && swap.phase.may_fail()).then_some(Fact::Sickened {
            why: failure.reason,
        })
    }

    /// All that may have failed, the step first.
    pub(super) fn efforts(&self) -> impl Iterator<Item = &Effort> {
        let apart = [&self.effort, &self.halting];
        apart.into_iter().chain(self.upkeep.values())
    }

    /// Counts a restart against its policy that failed, or that was over before anybody saw it run.
    pub(super) fn note_try(&mut self, now: Moment, action: Action) {
        if let Action::Start { slot, revision } = action {
            let replicas = self.side_of(slot, revision).map_or(0, |side| side.replicas);
            for replica in 1..=replicas {
                if self.sight.running(slot, revision, replica).is_none() {
                    self.sight.tried(now, slot, revision, replica);
                }
            }
        }
    }

    /// What is known of a revision in a slot, if it is this berth's now.
    pub(super) fn side_of(&self, slot: Slot, revision: RevisionNumber) -> Option<&Side> {
        let candidate = self
            .swap
            .as_ref()
            .and_then(Swap::candidate)
            .filter(|(side, at)| *at == slot && side.revision == revision);
        let current = self
            .current
            .as_ref()
            .filter(|settled| settled.slot == slot && settled.side.revision == revision);
        candidate
            .map(|(side, _)| side)
            .or_else(|| current.map(|settled| &settled.side))
    }

    /// The service.
    #[must_use]
    pub fn service(&self) -> &ServiceId {
        &self.service
    }

    /// The current revision and its slot; the incumbent's while a swap is open.
    #[must_use]
    pub fn current(&self) -> Option<&Settled> {
        self.current.as_ref()
    }

    /// Ended revisions whose containers are kept, the newest first.
    #[must_use]
    pub fn parked(&self) -> &[Settled] {
        &self.parked
    }

    /// How many ended revisions are kept, as the last swap said; all, if there was none.
    #[must_use]
    pub fn retain(&self) -> u32 {
        let last = self.last.as_ref();
        last.map_or(u32::MAX, |ended| ended.plan.retain)
    }

    /// The open swap's candidate and its slot.
    #[must_use]
    pub fn candidate(&self) -> Option<Settled> {
        let (side, slot) = self.swap.as_ref()?.candidate()?;
        Some(Settled {
            side: side.clone(),
            slot,
        })
    }

    /// The open swap's plan.
    #[must_use]
    pub fn open_plan(&self) -> Option<&SwapPlan> {
        self.swap.as_ref().map(|swap| &swap.plan)
    }

    /// Where the open swap is.
    #[must_use]
    pub fn phase(&self) -> Option<Phase> {
        self.swap.as_ref().map(|swap| swap.phase)
    }

    /// How far the open swap shall go.
    #[must_use]
    pub fn target(&self) -> Option<Target> {
        self.swap.as_ref().map(|swap| swap.target)
    }

    /// A person on the host said that nothing moves by itself.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.hold
    }

    /// What nginx was last told.
    #[must_use]
    pub fn route(&self) -> Route {
        self.route
    }

    /// The highest generation seen.
    #[must_use]
    pub fn fence(&self) -> Generation {
        self.fence
    }

    /// Whether a revision's kind of swap is over and nothing of it may be touched any more.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.current.is_none() && self.swap.is_none() && self.parked.is_empty()
    }

    /// Whether the incumbent of the open swap would take traffic, if asked.
    pub(super) fn incumbent_routed(&self) -> Option<Slot> {
        self.current
            .as_ref()
            .filter(|settled| settled.side.traffic)
            .map(|settled| settled.slot)
    }

    /// Where all traffic belongs when the open swap is undone.
    pub(super) fn home(&self) -> Route {
        self.incumbent_routed().map_or(Route::Nobody, Route::Alone)
    }

    /// The kind of the open swap.
    #[must_use]
    pub fn kind(&self) -> Option<&Kind> {
        self.swap.as_ref().map(|swap| &swap.plan.kind)
    }
}

//! Which fact follows next from where a berth stands, at this moment.
//!
//! One match over the phases; each answers with one fact or none. What is judged
//! here is judged again whenever anything happens, so nothing is ever missed.

use std::time::Duration;

use crate::guard::{Guard, guard};
use crate::moment::Moment;
use crate::route::{Route, Slot};
use crate::swap::berth::{Berth, Swap};
use crate::swap::event::Action;
use crate::swap::fact::Fact;
use crate::swap::phase::Phase;
use crate::swap::plan::Target;

/// The image, its networks and volumes must be had within this.
pub const FETCH_WITHIN: Duration = Duration::from_secs(600);
/// Containers must be made, and nginx must know them, within this.
pub const MAKE_WITHIN: Duration = Duration::from_secs(120);
/// Containers must be started within this.
pub const START_WITHIN: Duration = Duration::from_secs(120);
/// Smoke checks must be answered within this.
pub const SMOKE_WITHIN: Duration = Duration::from_secs(60);
/// A stop-first incumbent must stop within its grace time and this.
pub const STOP_SLACK: Duration = Duration::from_secs(60);
/// nginx must be seen to follow a changed route within this.
pub const CUT_WITHIN: Duration = Duration::from_secs(15);
/// While the engine does not answer, nobody is judged; for this long at most.
pub const ENGINE_PATIENCE: Duration = Duration::from_secs(120);
/// A count of no open connections is believed only so long after the route changed.
pub const DRAIN_SETTLE: Duration = Duration::from_millis(500);

impl Berth {
    /// The next fact that follows by itself; `None`: nothing does.
    pub(super) fn next_fact(&self, now: Moment) -> Option<Fact> {
        // Before it has looked, an agent knows neither its containers nor, maybe, the route.
        if !guard(Guard::DecideAfterLook, self.sight.looked) {
            return None;
        }
        if let Some(passed) = self.newly_passed(now) {
            return Some(passed);
        }
        if let Some(hung) = self.newly_hung(now) {
            return Some(hung);
        }
        let swap = self.swap.as_ref()?;
        // Another swap of this berth was ordered, by somebody who does not know this one.
        if self.fence > swap.plan.generation && swap.target.leads_to(Target::Reverted) {
            return Some(Fact::Targeted(Target::Reverted));
        }
        if let Some(why) = self.verdict(now, swap) {
            return Some(Fact::Sickened { why });
        }
        self.unneeded(swap).or_else(|| self.due(now, swap))
    }

    /// Steps that have nothing to do here.
    fn unneeded(&self, swap: &Swap) -> Option<Fact> {
        let incumbent = swap.plan.kind.incumbent();
        let candidate = swap.candidate();
        let warm = incumbent.is_some_and(|side| side.traffic) && !swap.stopped;
        match swap.phase {
            Phase::Stopping if incumbent.is_none() => Some(Fact::Stopped),
            Phase::Cutting if !self.traffic() => Some(Fact::RouteProved),
            Phase::Checking
                if candidate.is_none_or(|(side, _)| !side.smoke || !side.traffic)
                    || swap.weight < crate::Weight::FULL =>
            {
                Some(Fact::Confirmed)
            }
            Phase::Cooling if !warm => Some(Fact::Cooled),
            Phase::Draining if !warm => Some(Fact::Drained { open: 0 }),
            Phase::Parking if incumbent.is_none() || swap.stopped => Some(Fact::Committed),
            Phase::Withdrawing if candidate.is_none() => Some(Fact::Withdrawn),
            Phase::Returning if !self.traffic() => Some(Fact::TrafficBack),
            Phase::Returning if self.route == self.home() && !swap.cut && !swap.stopped => {
                Some(Fact::TrafficBack)
            }
            Phase::Emptying if !swap.cut || swap.stopped || self.candidate_is_down(swap) => {
                Some(Fact::Emptied { open: 0 })
            }
            Phase::Removing if candidate.is_none() => Some(Fact::Reverted),
            Phase::Fetching
            | Phase::Making
            | Phase::Starting
            | Phase::Proving
            | Phase::Smoking
            | Phase::Prepared
            | Phase::Stopping
            | Phase::Cutting
            | Phase::Checking
            | Phase::Serving
            | Phase::Cooling
            | Phase::Draining
            | Phase::Parking
            | Phase::Withdrawing
            | Phase::Reviving
            | Phase::Returning
            | Phase::Emptying
            | Phase::Removing => None,
        }
    }

    /// Steps that time, sight or the target have finished.
    fn due(&self, now: Moment, swap: &Swap) -> Option<Fact> {
        let waited = now.since(swap.since);
        let proved = swap
            .candidate()
            .is_none_or(|(side, slot)| self.proved(side, slot));
        match swap.phase {
            Phase::Proving if proved => Some(Fact::Proved),
            Phase::Prepared if self.may_cut(now, swap, proved) => Some(Fact::Advanced),
            Phase::Serving
                if (swap.target == Target::Committed || swap.weight < swap.weight_wanted())
                    && guard(Guard::AdvanceWhenHealthy, self.well(swap)) =>
            {
                Some(Fact::Advanced)
            }
            Phase::Serving
                if !swap.watched
                    && waited >= swap.plan.observe
                    && guard(Guard::WatchedWhenHealthy, self.well(swap)) =>
            {
                Some(Fact::Watched)
            }
            Phase::Draining if guard(Guard::DrainIsOver, waited >= swap.plan.drain) => {
                Some(Fact::Drained { open: self.open })
            }
            Phase::Emptying if guard(Guard::DrainIsOver, waited >= swap.plan.drain) => {
                Some(Fact::Emptied { open: self.open })
            }
            Phase::Reviving
                if guard(Guard::ReviveByStart, swap.restarted) && self.incumbent_ready() =>
            {
                Some(Fact::Revived)
            }
            Phase::Fetching
            | Phase::Making
            | Phase::Starting
            | Phase::Proving
            | Phase::Smoking
            | Phase::Prepared
            | Phase::Stopping
            | Phase::Cutting
            | Phase::Checking
            | Phase::Serving
            | Phase::Cooling
            | Phase::Draining
            | Phase::Parking
            | Phase::Withdrawing
            | Phase::Reviving
            | Phase::Returning
            | Phase::Emptying
            | Phase::Removing => None,
        }
    }

    /// A cutover needs the target, the lease, and replicas that all passed since they started.
    fn may_cut(&self, now: Moment, swap: &Swap, proved: bool) -> bool {
        let wanted = matches!(swap.target, Target::Serving(_) | Target::Committed);
        wanted
            && guard(Guard::CutWithinLease, now < self.lease_until)
            // What must pass again waits here: nginx's deadline would run in the next phase.
            && (swap.stop_first() || proved)
            // While the engine is away, nobody knows what runs.
            && self.sight.engine_lost.is_none()
    }

    /// Whether nginx has to do with either side of the open swap.
    pub(super) fn traffic(&self) -> bool {
        self.swap.as_ref().is_some_and(|swap| {
            let sides = swap
                .plan
                .kind
                .incumbent()
                .into_iter()
                .chain(swap.plan.kind.candidate());
            sides.into_iter().any(|side| side.traffic) || self.route != Route::Nobody
        })
    }

    pub(super) fn candidate_healthy(&self, swap: &Swap) -> bool {
        swap.candidate()
            .is_none_or(|(side, slot)| self.healthy(side, slot))
    }

    /// The candidate is healthy and has its requests, and that is known of now.
    fn well(&self, swap: &Swap) -> bool {
        let known = self.sight.looked && self.sight.engine_lost.is_none();
        known && self.route == self.cut_route(swap) && self.candidate_healthy(swap)
    }

    /// Nothing of the candidate answers requests, as far as was looked.
    fn candidate_is_down(&self, swap: &Swap) -> bool {
        swap.candidate().is_none_or(|(side, slot)| {
            let down = |n| self.sight.running(slot, side.revision, n).is_none();
            !side.traffic || (1..=side.replicas).all(down)
        })
    }

    /// What a finished action means where the berth stands; late answers mean nothing.
    pub(super) fn did(&mut self, now: Moment, action: Action) -> Option<Fact> {
        if !guard(Guard::AnswerToWanted, self.awaits(now, action)) {
            return None;
        }
        if let Action::Halt { .. } = action {
            self.halting = Default::default();
        } else if let Some(slot) = self.kept_by(action) {
            self.upkeep.remove(&slot);
            self.note_try(now, action);
        } else {
            self.effort = Default::default();
        }
        let phase = self.swap.as_ref().map(|swap| swap.phase);
        match (action, phase) {
            (Action::Fetch { .. }, Some(Phase::Fetching)) => Some(Fact::Fetched),
            (Action::Make { .. }, Some(Phase::Making)) => Some(Fact::Made),
            (Action::Start { slot, .. }, Some(Phase::Starting)) => {
                let candidate = self.swap.as_ref().map(|swap| swap.slot);
                (candidate == Some(slot)).then_some(Fact::Started)
            }
            (Action::Start { .. }, Some(Phase::Reviving)) => {
                if let Some(swap) = &mut self.swap {
                    swap.restarted = true;
                }
                None
            }
            (
                Action::Smoke {
                    through_listener: false,
                    ..
                },
                Some(Phase::Smoking),
            ) => Some(Fact::Smoked),
            (
                Action::Smoke {
                    through_listener: true,
                    ..
                },
                Some(Phase::Checking),
            ) => Some(Fact::Confirmed),
            (Action::Prove(_), Some(Phase::Cutting)) => Some(Fact::RouteProved),
            (Action::Prove(_), Some(Phase::Cooling)) => Some(Fact::Cooled),
            (Action::Prove(_), Some(Phase::Returning)) => Some(Fact::TrafficBack),
            (Action::Stop { slot, .. }, Some(Phase::Stopping | Phase::Reviving)) => {
                let incumbent = self.current.as_ref().map(|settled| settled.slot);
                (incumbent == Some(slot)).then_some(Fact::Stopped)
            }
            (Action::Stop { .. }, Some(Phase::Parking)) => Some(Fact::Committed),
            (Action::Stop { .. }, Some(Phase::Withdrawing)) => Some(Fact::Withdrawn),
            (Action::Remove { .. }, Some(Phase::Removing)) => Some(Fact::Reverted),
            (Action::Remove { slot, revision }, None) => self
                .is_parked(slot, revision)
                .then_some(Fact::Discarded { revision }),
            (
                Action::Fetch { .. }
                | Action::Make { .. }
                | Action::Start { .. }
                | Action::Smoke { .. }
                | Action::Prove(_)
                | Action::Halt { .. }
                | Action::Stop { .. }
                | Action::Remove { .. },
                _,
            ) => None,
        }
    }

    /// No connection is open any more where one was waited for.
    pub(super) fn counted(&mut self, now: Moment, slot: Slot, open: u64) -> Option<Fact> {
        if self.want(now).count == Some(slot) {
            self.open = open;
        }
        let swap = self.swap.as_ref()?;
        // What finds nobody where it should go, and was on its way before the route changed, comes here late.
        let there = if swap.phase == Phase::Draining {
            swap.candidate()
        } else {
            let current = self.current.as_ref();
            current.map(|settled| (&settled.side, settled.slot))
        };
        let answered = there.is_none_or(|(side, slot)| {
            (1..=side.replicas).any(|replica| self.able(side, slot, replica))
        });
        let settled = guard(
            Guard::DrainHasSettled,
            answered && now >= swap.since + DRAIN_SETTLE,
        );
        if open > 0 || !settled || self.want(now).count != Some(slot) {
            return None;
        }
        match swap.phase {
            Phase::Draining => Some(Fact::Drained { open: 0 }),
            Phase::Emptying => Some(Fact::Emptied { open: 0 }),
            Phase::Fetching
            | Phase::Making
            | Phase::Starting
            | Phase::Proving
            | Phase::Smoking
            | Phase::Prepared
            | Phase::Stopping
            | Phase::Cutting
            | Phase::Checking
            | Phase::Serving
            | Phase::Cooling
            | Phase::Parking
            | Phase::Withdrawing
            | Phase::Reviving
            | Phase::Returning
            | Phase::Removing => None,
        }
    }
}

/// A duration as people read it.
pub(crate) fn seconds(duration: Duration) -> String {
    if duration.subsec_millis() == 0 {
        format!("{} s", duration.as_secs())
    } else {
        format!("{} ms", duration.as_millis())
    }
}

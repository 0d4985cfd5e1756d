//! What a berth wants done, worked out from where it stands. Asked twice, the same.

use std::collections::BTreeSet;

use crate::guard::{Guard, guard};
use crate::moment::Moment;
use crate::name::RevisionNumber;
use crate::route::{Route, Slot};
use crate::spec::{RestartCondition, RestartPolicy};
use crate::swap::berth::{Berth, Swap};
use crate::swap::event::{Action, Pace, Want, Watch};
use crate::swap::phase::Phase;
use crate::swap::plan::{Kind, Side};
use crate::swap::settle::STOP_SLACK;

impl Berth {
    /// Everything that is wanted now.
    #[must_use]
    pub fn want(&self, now: Moment) -> Want {
        let route = self.route_wanted(now);
        let count = match self.swap.as_ref().map(|swap| swap.phase) {
            Some(Phase::Draining) => self.current.as_ref().map(|settled| settled.slot),
            Some(Phase::Emptying) => self.swap.as_ref().map(|swap| swap.slot),
            Some(_) | None => None,
        };
        let flip = (route != self.route).then_some(route);
        Want {
            flip,
            step: self.step_wanted(now, flip.is_some()),
            upkeep: self.upkeep_wanted(now, flip.is_some()),
            watch: self.watch(),
            count,
            out: self.out(flip),
        }
    }

    /// Whether what is wanted next brings traffic back: then the flip comes before the record.
    ///
    /// To make room, nobody is routed to for a while: that takes traffic from where it may still
    /// be answered well, so it waits for its record.
    #[must_use]
    pub fn flips_first(&self) -> bool {
        self.swap.as_ref().is_some_and(|swap| {
            let makes_room = matches!(swap.phase, Phase::Withdrawing | Phase::Reviving);
            swap.phase.is_back() && !makes_room
        })
    }

    /// Where requests should go.
    fn route_wanted(&self, now: Moment) -> Route {
        if !guard(Guard::RouteAfterLook, self.sight.looked) {
            return self.route;
        }
        let Some(swap) = &self.swap else {
            return self.homeward();
        };
        match swap.phase {
            Phase::Fetching | Phase::Making | Phase::Prepared => self.homeward(),
            Phase::Starting | Phase::Proving | Phase::Smoking if !swap.stop_first() => {
                self.homeward()
            }
            Phase::Starting
            | Phase::Proving
            | Phase::Smoking
            | Phase::Stopping
            | Phase::Withdrawing
            | Phase::Reviving => Route::Nobody,
            Phase::Cutting if !self.may_flip(now, swap) => self.route,
            Phase::Cutting | Phase::Checking | Phase::Serving => self.cut_route(swap),
            Phase::Cooling | Phase::Draining | Phase::Parking => alone(swap),
            Phase::Returning if self.incumbent_ready() => self.home(),
            // Never onto an incumbent that is not healthy: it holds, and keeps what serves.
            Phase::Returning if self.route.reaches(swap.slot) => alone(swap),
            Phase::Returning | Phase::Emptying | Phase::Removing => self.homeward(),
        }
    }

    /// All to the incumbent: once it is well, where it gets nothing yet.
    fn homeward(&self) -> Route {
        let home = self.home();
        let reached = home.main().is_none_or(|slot| self.route.reaches(slot));
        if reached || guard(Guard::ReturnWhenHealthy, self.incumbent_ready()) {
            home
        } else {
            self.route
        }
    }

    /// The route may reach the candidate: it does already, or the coordinator's word counts.
    fn may_flip(&self, now: Moment, swap: &Swap) -> bool {
        let Some((_, slot)) = swap.candidate().filter(|(side, _)| side.traffic) else {
            return true;
        };
        let word = !self.hangs_on_lease(swap) || now < self.lease_until;
        self.route.reaches(slot) || word
    }

    pub(super) fn cut_route(&self, swap: &Swap) -> Route {
        let Some((side, slot)) = swap.candidate() else {
            return Route::Nobody;
        };
        if !side.traffic {
            return Route::Nobody;
        }
        let warm = !swap.stopped
            && self.incumbent_routed().is_some()
            && guard(Guard::WarmWhenHealthy, self.incumbent_ready());
        // What must be proved again gets nothing meanwhile, where the incumbent can serve.
        if !guard(Guard::FlagOutUnproved, self.proved(side, slot)) {
            if warm {
                return self.home();
            }
            if !self.route.reaches(slot) {
                return self.route;
            }
        }
        match (warm, swap.weight) {
            (false, _) => Route::Alone(slot),
            (true, crate::Weight::FULL) => Route::Warm(slot),
            (true, weight) => Route::Split { to: slot, weight },
        }
    }

    /// While the route is to change, nothing else is done: what starts might be a backup still, and
    /// what stops might be asked still.
    fn may_act(&self, flipping: bool) -> bool {
        guard(Guard::FlipBeforeAct, !flipping) && guard(Guard::ActAfterLook, self.sight.looked)
    }

    /// What is wanted now besides the step: restarts, and halts of what hangs, one of a slot. They wait for
    /// no step of the swap: that may be a long one, and meanwhile nobody serves. Halts and each side's restarts
    /// have their own patience, so a failing one keeps neither the other ones nor the step waiting.
    fn upkeep_wanted(&self, now: Moment, flipping: bool) -> Vec<Action> {
        if !self.may_act(flipping) {
            return Vec::new();
        }
        let beside = self.swap.as_ref().and_then(|swap| self.twice(swap));
        let mut wanted = match beside {
            None => self.keep_running(now),
            Some(_) => Vec::new(),
        };
        let judged = self.swap.is_none() || self.awaited().is_some();
        let halt = self.halt(now);
        wanted.extend(halt.filter(|_| judged && self.halting.ready(now)));
        wanted
    }

    /// The step that is wanted now.
    fn step_wanted(&self, now: Moment, flipping: bool) -> Option<Action> {
        if !self.may_act(flipping) || !self.effort.ready(now) {
            return None;
        }
        let Some(swap) = &self.swap else {
            return self.tidy().or_else(|| self.surplus());
        };
        // Whatever is left of an ended swap may hold an address that is needed now.
        let begins = matches!(
            swap.phase,
            Phase::Fetching | Phase::Making | Phase::Starting | Phase::Reviving
        );
        self.tidy()
            .filter(|_| begins)
            .or_else(|| self.twice(swap))
            .or_else(|| self.step_of(now, swap))
    }

    /// Whether an answer to this action still says something: it is wanted now.
    pub(super) fn awaits(&self, now: Moment, action: Action) -> bool {
        let want = self.want(now);
        want.step == Some(action) || want.upkeep.contains(&action)
    }

    /// In which slot an action starts again what should run, and is no step of the swap.
    pub(super) fn kept_by(&self, action: Action) -> Option<Slot> {
        let mut kept = self.kept().into_iter();
        let (_, slot) = kept.find(|(side, slot)| {
            let (slot, revision) = (*slot, side.revision);
            action == Action::Start { slot, revision }
        })?;
        Some(slot)
    }

    /// What made room runs again, by an engine that did late what it was asked: it must not
    /// run beside the other.
    fn twice(&self, swap: &Swap) -> Option<Action> {
        let current = self.current.as_ref();
        let back = matches!(swap.phase, Phase::Reviving | Phase::Returning);
        let gone = if back {
            swap.candidate()
                .filter(|_| swap.stop_first() && current.is_some())
        } else {
            current
                .filter(|_| swap.stopped && swap.phase.may_revert())
                .map(|settled| (&settled.side, settled.slot))
        };
        let (side, slot) = gone?;
        let revision = side.revision;
        let runs = |n| self.sight.running(slot, revision, n).is_some();
        let beside = (1..=side.replicas).any(runs);
        beside.then_some(Action::Stop { slot, revision })
    }

    pub(super) fn step_of(&self, now: Moment, swap: &Swap) -> Option<Action> {
        let incumbent = self.current.as_ref();
        let prove = Some(Action::Prove(self.route));
        let of = |(side, slot): (&Side, Slot)| (slot, side.revision);
        let candidate = swap.candidate().map(of);
        match swap.phase {
            Phase::Fetching => candidate.map(|(_, revision)| Action::Fetch { revision }),
            Phase::Making => candidate.map(|(slot, revision)| Action::Make { slot, revision }),
            Phase::Starting => candidate.map(|(slot, revision)| Action::Start { slot, revision }),
            Phase::Checking if !self.route.reaches(swap.slot) => None,
            // What may not run, or must be proved again, has nothing to answer: its failure would say nothing.
            Phase::Smoking | Phase::Checking => swap
                .candidate()
                .filter(|(side, slot)| {
                    let known = self.sight.engine_lost.is_none() && self.proved(side, *slot);
                    guard(Guard::SmokeWhenProved, known)
                })
                .map(|(side, slot)| Action::Smoke {
                    slot,
                    revision: side.revision,
                    through_listener: swap.phase == Phase::Checking,
                }),
            Phase::Cutting
                if guard(Guard::ProveWhatIsWanted, self.route == self.cut_route(swap)) =>
            {
                prove
            }
            Phase::Cooling => prove,
            Phase::Returning if self.route == self.home() => prove,
            Phase::Stopping | Phase::Parking => incumbent.map(|settled| Action::Stop {
                slot: settled.slot,
                revision: settled.side.revision,
            }),
            Phase::Withdrawing => candidate.map(|(slot, revision)| Action::Stop { slot, revision }),
            Phase::Reviving if swap.restarted => None,
            Phase::Reviving => incumbent.map(|settled| {
                let (slot, revision) = (settled.slot, settled.side.revision);
                // What was asked to stop may do so late, and take requests with it: it is stopped first. One
                // that does not by then never will.
                let given_up = now >= swap.since + settled.side.stop_grace + STOP_SLACK;
                if guard(Guard::StopIsFinished, swap.stopped || given_up) {
                    Action::Start { slot, revision }
                } else {
                    Action::Stop { slot, revision }
                }
            }),
            Phase::Removing => candidate.map(|(slot, revision)| Action::Remove { slot, revision }),
            Phase::Proving
            | Phase::Prepared
            | Phase::Serving
            | Phase::Cutting
            | Phase::Draining
            | Phase::Emptying
            | Phase::Returning => None,
        }
    }

    /// Starts what should run and does not, when its policy says so.
    fn keep_running(&self, now: Moment) -> Vec<Action> {
        if self.sight.engine_lost.is_some() {
            return Vec::new();
        }
        let due = |(side, slot): (&Side, Slot)| {
            let patient = self
                .upkeep
                .get(&slot)
                .is_none_or(|effort| effort.ready(now));
            let due = self.restart_due(side, slot).filter(|due| now >= *due);
            due.filter(|_| patient).map(|_| Action::Start {
                slot,
                revision: side.revision,
            })
        };
        self.kept().into_iter().filter_map(due).collect()
    }

    /// When the first restart of a side is due.
    pub(super) fn restart_due(&self, side: &Side, slot: Slot) -> Option<Moment> {
        // An incumbent that traffic must come back to starts whatever its policy says.
        let needed = self
            .swap
            .as_ref()
            .is_some_and(|swap| matches!(swap.phase, Phase::Returning | Phase::Reviving));
        let policy = RestartPolicy {
            condition: RestartCondition::Any,
            max_attempts: None,
            ..side.restart.clone()
        };
        // So does one that was halted because it hung: its attempts were looked at before.
        let policy_of = |replica| {
            if needed || self.hung.contains_key(&(slot, replica)) {
                &policy
            } else {
                &side.restart
            }
        };
        (1..=side.replicas)
            .filter_map(|replica| {
                self.sight
                    .restart_at(slot, side.revision, replica, policy_of(replica))
            })
            .min()
    }

    /// The replica of each slot that shall get no requests, now and once the route is flipped (a flip
    /// may fail): one that must pass (again), or fails, beside others that can serve. Nobody is out where nobody can. Of several
    /// the first that runs is: what does not run refuses, and is passed over, anyway.
    fn out(&self, flip: Option<Route>) -> Option<BTreeSet<(Slot, u32)>> {
        if !self.sight.looked {
            return None;
        }
        let current = self
            .current
            .as_ref()
            .map(|settled| (&settled.side, settled.slot));
        let candidate = self.swap.as_ref().and_then(Swap::candidate);
        let mut out = BTreeSet::new();
        for (side, slot) in current.into_iter().chain(candidate) {
            let reached = self.route.reaches(slot) || flip.is_some_and(|to| to.reaches(slot));
            if !side.traffic || !reached {
                continue;
            }
            let (able, not): (Vec<u32>, Vec<u32>) = (1..=side.replicas)
                .partition(|replica| guard(Guard::OutUntilPassed, self.able(side, slot, *replica)));
            let down = |replica: &u32| {
                let life = self.sight.running(slot, side.revision, *replica);
                life.is_none()
            };
            let worst = not
                .into_iter()
                .min_by_key(|replica| (down(replica), *replica));
            out.extend(
                worst
                    .filter(|_| !able.is_empty())
                    .map(|worst| (slot, worst)),
            );
        }
        Some(out)
    }

    /// The sides whose containers should run now.
    pub(super) fn kept(&self) -> Vec<(&Side, Slot)> {
        let current = self
            .current
            .as_ref()
            .map(|settled| (&settled.side, settled.slot));
        let Some(swap) = &self.swap else {
            return current.into_iter().collect();
        };
        let candidate = swap.candidate();
        let (keep_current, keep_candidate) = match swap.phase {
            Phase::Fetching | Phase::Making | Phase::Emptying | Phase::Removing => (true, false),
            Phase::Starting | Phase::Returning => (!swap.stop_first(), false),
            Phase::Proving | Phase::Smoking | Phase::Cutting | Phase::Checking | Phase::Serving => {
                (!swap.stopped, true)
            }
            Phase::Prepared => (true, !swap.stop_first()),
            Phase::Cooling | Phase::Draining | Phase::Parking => (false, true),
            Phase::Stopping | Phase::Withdrawing => (false, false),
            Phase::Reviving => (swap.restarted, false),
        };
        // On the way back of stop-first, the incumbent was revived and stays up.
        let keep_current = keep_current || swap.phase == Phase::Returning;
        current
            .filter(|_| keep_current)
            .into_iter()
            .chain(candidate.filter(|_| keep_candidate))
            .collect()
    }

    /// What came back of an ended candidate, or runs though it is parked: an engine
    /// may do what it was asked long after its answer was lost.
    fn tidy(&self) -> Option<Action> {
        self.sight.found().find_map(|(slot, revision, runs)| {
            let ours = self.side_of(slot, revision).is_some();
            if self.is_parked(slot, revision) {
                return (runs && !ours).then_some(Action::Stop { slot, revision });
            }
            let ended = guard(
                Guard::RemoveOnlyEnded,
                self.ended.contains(&(slot, revision)),
            );
            (ended && !ours).then_some(Action::Remove { slot, revision })
        })
    }

    /// Whether a revision's containers are kept in this slot.
    pub(super) fn is_parked(&self, slot: Slot, revision: RevisionNumber) -> bool {
        self.parked
            .iter()
            .any(|settled| settled.slot == slot && settled.side.revision == revision)
    }

    /// A parked revision that retention no longer keeps.
    fn surplus(&self) -> Option<Action> {
        let oldest = self.parked.get(self.retain() as usize..)?.last()?;
        Some(Action::Remove {
            slot: oldest.slot,
            revision: oldest.side.revision,
        })
    }

    fn watch(&self) -> Vec<Watch> {
        let pace = |side: &Side, slot, replica| {
            if self.swap.is_none() && self.passed_now(side, slot, replica) {
                Pace::Live
            } else {
                Pace::Ready
            }
        };
        let each = |(side, slot): (&Side, Slot)| {
            let one = |replica| Watch {
                slot,
                revision: side.revision,
                replica,
                pace: pace(side, slot, replica),
            };
            (1..=side.replicas).map(one).collect::<Vec<_>>()
        };
        let mut sides: Vec<(&Side, Slot)> = self.kept();
        if let Some(swap) = &self.swap {
            let reviving = swap.phase == Phase::Reviving && !swap.restarted;
            let current = self.current.as_ref().filter(|_| reviving);
            sides.extend(current.map(|settled| (&settled.side, settled.slot)));
            // What serves until the incumbent can is not kept, but looked at: it may cease to.
            let holds = swap.phase == Phase::Returning && self.route.reaches(swap.slot);
            sides.extend(swap.candidate().filter(|_| holds));
        }
        sides.into_iter().flat_map(each).collect()
    }
}

fn alone(swap: &Swap) -> Route {
    match &swap.plan.kind {
        Kind::First { candidate } | Kind::Change { candidate, .. } if candidate.traffic => {
            Route::Alone(swap.slot)
        }
        Kind::First { .. } | Kind::Change { .. } | Kind::Retire { .. } => Route::Nobody,
    }
}

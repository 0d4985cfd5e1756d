//! The end of a world: is it at rest, and is all where it belongs?

use std::collections::BTreeSet;

use cutover_core::Route;
use cutover_core::rollout::{Outcome, StageView};
use cutover_core::spec::RestartCondition;
use cutover_core::swap::Phase;

use crate::host::{Ender, State};
use crate::promises::Promise;
use crate::queue::Happening;
use crate::world::{S, Temper, World};

/// How long a healed world may take to come to rest.
const REST_WITHIN: u64 = 900 * S;
/// How long it must be quiet to be at rest.
const QUIET_FOR: u64 = 25 * S;
/// What was halted is started again within this.
const START_AGAIN_WITHIN: u64 = 40 * S;

impl World {
    pub(crate) fn judge(&mut self) {
        self.later(S, Happening::Judge);
        let restless = self.restless();
        if let Some(why) = restless {
            self.quiet_since = None;
            if self.now > self.healed_at.unwrap_or(self.now) + REST_WITHIN {
                self.breach(
                    Promise::P5,
                    format!("not at rest {} s after healing: {why}", REST_WITHIN / S),
                );
            }
            return;
        }
        let since = *self.quiet_since.get_or_insert(self.now);
        if self.now < since + QUIET_FOR {
            return;
        }
        self.over = true;
        self.settled();
        self.count_outcomes();
    }

    /// What is still going on.
    fn restless(&self) -> Option<String> {
        let Some(memory) = &self.coordinator.memory else {
            return Some("the coordinator is down".to_owned());
        };
        let mut waiting = BTreeSet::new();
        for (id, live) in &memory.live {
            let view = live.machine.view();
            let person = view.paused || matches!(view.stage, StageView::Holding { .. });
            if person {
                waiting.insert(self.coordinator.store.rollouts[*id].plan.id.clone());
            } else if live.machine.outcome().is_none() {
                return Some(format!(
                    "r{id} is {:?}, {:?}, {:?}",
                    view.stage, view.waits, view.hosts
                ));
            }
        }
        for (h, host) in self.hosts.iter().enumerate() {
            let Some(agent) = &host.agent else {
                return Some(format!("h{h} has no agent"));
            };
            if agent.session.is_none() {
                return Some(format!("h{h} has no session"));
            }
            for (s, keeper) in agent.keepers.iter().enumerate() {
                let open = keeper.berth.open_plan();
                if self.waits_for_incumbent(h, s) {
                    continue;
                }
                if open.is_some_and(|plan| !waiting.contains(&plan.rollout)) {
                    let swap = keeper.berth.report(0, host.clock(self.now)).swap;
                    return Some(format!("h{h} s{s} has an open swap: {swap:?}"));
                }
                if keeper.berth.want(host.clock(self.now)).flip.is_some() {
                    return Some(format!("h{h} s{s} wants a flip"));
                }
            }
        }
        None
    }

    /// A swap on its way back holds, and says so: its incumbent is sick, and stays so.
    fn waits_for_incumbent(&self, h: usize, s: usize) -> bool {
        let host = &self.hosts[h];
        let Some(agent) = &host.agent else {
            return false;
        };
        let berth = &agent.keepers[s].berth;
        let back = matches!(berth.phase(), Some(Phase::Returning | Phase::Reviving));
        let good = |revision| {
            matches!(
                self.services[s].temper(h, revision),
                Temper::Good | Temper::FlakySmoke | Temper::BadSmoke
            )
        };
        let hangs = |slot, revision, replica| {
            let container = host.containers.get(&(s, slot, revision, replica));
            container.is_some_and(|container| !container.well(self.now))
        };
        // It holds, and keeps what serves.
        let serves = berth.candidate().is_some_and(|candidate| {
            let (slot, revision) = (candidate.slot, candidate.side.revision);
            (1..=candidate.side.replicas).all(|n| !hangs(slot, revision, n))
        });
        let sick = berth.current().is_some_and(|settled| {
            let (slot, revision) = (settled.slot, settled.side.revision);
            !good(revision)
                || serves && (1..=settled.side.replicas).any(|n| hangs(slot, revision, n))
        });
        back && sick && berth.waits_for(host.clock(self.now)).is_some()
    }

    /// P5: no orphans, routes where they belong, what should run does.
    fn settled(&mut self) {
        for h in 0..self.hosts.len() {
            for s in 0..self.services.len() {
                self.settled_on(h, s);
            }
        }
        let Some(memory) = &self.coordinator.memory else {
            return;
        };
        let silent = memory
            .live
            .values()
            .find(|live| live.machine.outcome().is_none() && live.machine.view().waits.is_empty());
        if silent.is_some() {
            self.breach(
                Promise::P5,
                "a rollout waits and does not say for what".to_owned(),
            );
        }
    }

    fn settled_on(&mut self, h: usize, s: usize) {
        let Some(agent) = &self.hosts[h].agent else {
            return;
        };
        let berth = &agent.keepers[s].berth;
        let (open, held) = (berth.open_plan().is_some(), berth.is_held());
        let current = berth
            .current()
            .map(|settled| (settled.slot, settled.side.revision));
        let mut known: BTreeSet<_> = berth
            .parked()
            .iter()
            .map(|settled| (settled.slot, settled.side.revision))
            .collect();
        known.extend(current);
        known.extend(
            berth
                .candidate()
                .map(|settled| (settled.slot, settled.side.revision)),
        );
        let orphan = self
            .containers_of(h, s)
            .into_iter()
            .find(|(_, slot, revision, _)| !known.contains(&(*slot, *revision)));
        if let Some(key) = orphan {
            self.breach(
                Promise::P5,
                format!("h{h} s{s}: an orphan container {key:?}"),
            );
        }
        if open {
            return;
        }
        let service = &self.services[s];
        let route = self.hosts[h].fronts[s].link;
        let wanted = current
            .filter(|_| service.traffic)
            .map_or(Route::Nobody, |(slot, _)| Route::Alone(slot));
        if route != wanted {
            self.breach(
                Promise::P5,
                format!("h{h} s{s}: the route is {route}, not {wanted}"),
            );
            return;
        }
        let Some((slot, revision)) = current else {
            return;
        };
        let lasting = service.restart.condition == RestartCondition::Any
            && service.restart.max_attempts.is_none();
        let good = matches!(
            service.temper(h, revision),
            Temper::Good | Temper::FlakySmoke | Temper::BadSmoke
        );
        for replica in 1..=service.replicas {
            let container = self.hosts[h].containers.get(&(s, slot, revision, replica));
            let well =
                container.is_some_and(|container| container.well(self.now) && container.passed);
            let halted = container.is_some_and(|container| {
                container.sick_at + START_AGAIN_WITHIN < self.now
                    && matches!(
                        container.state,
                        State::Down {
                            by: Ender::Restart,
                            ..
                        }
                    )
            });
            // A person said that nothing moves by itself: what hangs runs on.
            let left = held
                && container
                    .is_some_and(|container| container.up().is_some() && !container.well(self.now));
            if lasting && good && !well && !left || halted {
                self.breach(
                    Promise::P5,
                    format!(
                        "h{h} s{s}: replica {replica} of @{revision} does not run: {container:?}"
                    ),
                );
                return;
            }
        }
    }

    fn count_outcomes(&mut self) {
        for id in 0..self.coordinator.store.rollouts.len() {
            let facts = &self.coordinator.store.rollouts[id].facts;
            let outcome = facts.iter().rev().find_map(|stamped| match stamped.fact {
                cutover_core::rollout::Fact::Closed(outcome) => Some(outcome),
                _ => None,
            });
            self.tally.count(
                "outcomes",
                match outcome {
                    Some(Outcome::Committed) => "committed",
                    Some(Outcome::RolledBack) => "rolled back",
                    Some(Outcome::Aborted) => "aborted",
                    Some(Outcome::Mixed) => "mixed",
                    None => "held or paused",
                },
            );
        }
        if self.coordinator.store.rollouts.is_empty() {
            self.tally.count("outcomes", "nothing was rolled out");
        }
    }
}

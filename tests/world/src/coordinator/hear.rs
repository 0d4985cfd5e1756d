//! What the coordinator hears of its hosts: hellos, reports, ends of sessions, and open swaps that it never ordered.

use cutover_core::rollout::{Event, Fact};
use cutover_core::swap::{Report, SwapOrder, Target};
use cutover_core::{Generation, Moment};

use super::{Alive, index, name};
use crate::queue::ToCoordinator;
use crate::scenario::LEASE;
use crate::world::World;

impl World {
    /// The generation of a host's open swap that no rollout here has ordered.
    pub(super) fn stray(&self, host: usize, service: usize) -> Option<Generation> {
        let memory = self.coordinator.memory.as_ref()?;
        let report = memory.reports.get(&(host, service))?;
        let swap = report.swap.as_ref().filter(|swap| swap.phase.is_some())?;
        let ordered = memory.live.keys().any(|id| {
            let saved = &self.coordinator.store.rollouts[*id];
            saved.plan.id == swap.rollout
                && saved.facts.iter().any(|stamped| {
                    matches!(&stamped.fact, Fact::Ordered { generation, host: name, .. }
                        if *generation == swap.generation && index(name) == host)
                })
        });
        (!ordered).then(|| report.fence.next(self.coordinator.store.epoch))
    }

    /// Something of a host arrived.
    pub(crate) fn heard(&mut self, host: usize, message: ToCoordinator) {
        if self.coordinator.session(host).is_some() {
            self.coordinator.heard_at.insert(host, self.now);
        }
        let _ = match message {
            ToCoordinator::Hello { clock, reports } => self.greeted(host, clock, reports),
            ToCoordinator::Report(service, report) => self.reported(host, service, *report),
        };
        // A message of a session that is over says nothing of who is there.
        if self.coordinator.session(host).is_none() {
            self.left(host);
        }
    }

    fn greeted(&mut self, host: usize, clock: Moment, reports: Vec<(usize, Report)>) -> Alive {
        self.memory()?.clocks.insert(host, clock);
        for id in self.ids() {
            let service = self.coordinator.store.rollouts[id].service;
            if !reports.iter().any(|(s, _)| *s == service) {
                self.tell_rollout(
                    id,
                    Event::Heard {
                        host: name(host),
                        clock,
                    },
                )?;
                self.send(id, Some(host), false)?;
            }
        }
        for (service, report) in reports {
            self.reported(host, service, report)?;
        }
        Ok(())
    }

    fn reported(&mut self, host: usize, service: usize, report: Report) -> Alive {
        self.note_epoch(host, service, &report);
        let now = self.now;
        let memory = self.memory()?;
        let old = memory
            .reports
            .get(&(host, service))
            .is_some_and(|known| known.stamp > report.stamp);
        if !old {
            memory.reports.insert((host, service), report.clone());
            memory.told_at.insert((host, service), now);
        }
        for id in self.ids() {
            if self.coordinator.store.rollouts[id].service == service {
                self.tell_rollout(id, Event::Reported(name(host), Box::new(report.clone())))?;
                self.send(id, Some(host), false)?;
            }
        }
        // Once is enough: its fence shows that it was heard.
        let fenced = report
            .swap
            .as_ref()
            .is_some_and(|swap| report.fence > swap.generation);
        if let Some(generation) = self.stray(host, service).filter(|_| !fenced) {
            self.revert_stray(host, service, generation);
        }
        Ok(())
    }

    /// A host knows a generation that this coordinator never gave: it is behind.
    fn note_epoch(&mut self, host: usize, service: usize, report: &Report) {
        let given = self
            .coordinator
            .store
            .rollouts
            .iter()
            .filter(|saved| saved.service == service);
        let highest = given
            .flat_map(|saved| {
                let planned = saved
                    .plan
                    .hosts
                    .iter()
                    .filter(|plan| index(&plan.host) == host)
                    .map(|plan| plan.fence);
                let ordered = saved
                    .facts
                    .iter()
                    .filter_map(|stamped| match &stamped.fact {
                        Fact::Ordered {
                            host: name,
                            generation,
                            ..
                        } if index(name) == host => Some(*generation),
                        _ => None,
                    });
                planned.chain(ordered).collect::<Vec<_>>()
            })
            .max()
            .unwrap_or_default();
        if report.fence > highest
            && report.fence.epoch >= self.coordinator.store.epoch
            && self.coordinator.restored_at > 0
        {
            self.coordinator.store.epoch = report.fence.epoch + 1;
        }
    }

    fn revert_stray(&mut self, host: usize, service: usize, generation: Generation) {
        let Some(session) = self.coordinator.session(host) else {
            return;
        };
        let Some(clock) = self
            .coordinator
            .memory
            .as_ref()
            .and_then(|memory| memory.reports.get(&(host, service)))
            .map(|report| report.stamp.at)
        else {
            return;
        };
        let lease_until = clock + std::time::Duration::from_nanos(LEASE);
        let order = SwapOrder {
            plan: None,
            generation,
            target: Target::Reverted,
            lease_until,
        };
        self.tally.count("coordinator", "reverted a stray swap");
        self.say(|| format!("   → h{host} s{service}: {generation} reverted, whatever it is"));
        self.send_to_host(host, session, service, &order);
    }

    pub(crate) fn session_lost(&mut self, host: usize, session: u64) {
        if self.coordinator.session(host) != Some(session) {
            return;
        }
        self.say(|| format!("h{host} left"));
        if let Ok(memory) = self.memory() {
            memory.sessions.remove(&host);
        }
        self.left(host);
    }

    pub(super) fn left(&mut self, host: usize) {
        for id in self.ids() {
            if self.tell_rollout(id, Event::Left(name(host))).is_err() {
                return;
            }
        }
    }
}

//! What the agent sees: listings, ends, samples. Each arrives a moment after it was so.

use cutover_core::swap::{Event, Incarnation, Pace, Seen, SeenReplica, SeenState};
use cutover_core::{RevisionNumber, Slot};

use super::Alive;
use crate::fault::Fault;
use crate::host::State;
use crate::queue::Happening;
use crate::world::{MS, S, World};

/// How often replicas are sampled while something hangs on it.
const READY_EVERY: u64 = 300 * MS;
/// How often committed replicas are sampled.
const LIVE_EVERY: u64 = 2 * S;
/// How often the engine is asked for everything, in case that an event was lost.
pub(super) const LIST_EVERY: u64 = 10 * S;

impl World {
    pub(crate) fn agent_lists(&mut self, host: usize, life: u64) {
        if self.lives(host, life) {
            self.later(LIST_EVERY, Happening::AgentLists { host, life });
            self.list(host);
        }
    }

    /// Reads the truth now; it arrives a moment later.
    pub(crate) fn list(&mut self, host: usize) {
        if !self.hosts[host].engine.up || self.hosts[host].agent.is_none() {
            return;
        }
        let mut seen = Vec::new();
        for service in 0..self.services.len() {
            let Ok(mark) = self.keeper(host, service).map(|keeper| keeper.mark) else {
                return;
            };
            seen.push((service, mark, self.seen(host, service)));
        }
        let after = if self.strikes(Fault::ListingLate) {
            self.chance.between(100 * MS, S)
        } else {
            self.chance.between(MS, 20 * MS)
        };
        let life = self.hosts[host].life;
        self.later(after, Happening::Listed { host, life, seen });
    }

    fn seen(&self, host: usize, service: usize) -> Seen {
        let this = &self.hosts[host];
        let ours = this.containers.iter().filter(|((s, ..), _)| *s == service);
        let replicas = ours.map(|((_, slot, revision, replica), container)| SeenReplica {
            slot: *slot,
            replica: *replica,
            revision: *revision,
            state: match container.state {
                State::Created => SeenState::Created,
                State::Up { incarnation, .. } => SeenState::Up(incarnation),
                State::Down { code, .. } => SeenState::Down(code),
            },
        });
        Seen {
            replicas: replicas.collect(),
            engine_restarted: this.engine.instance != this.disk.engine_noted[service],
        }
    }

    pub(crate) fn listed(&mut self, host: usize, life: u64, seen: Vec<(usize, u64, Seen)>) {
        if !self.lives(host, life) || !self.hosts[host].engine.up {
            return;
        }
        let mut again = false;
        for (service, mark, seen) in seen {
            if self
                .keeper(host, service)
                .is_ok_and(|keeper| keeper.mark == mark)
            {
                if self.see(host, service, seen).is_err() {
                    return;
                }
            } else {
                again = true;
            }
        }
        if again {
            self.list(host);
        }
    }

    /// Tells a listing that is no older than anything told before.
    pub(crate) fn see(&mut self, host: usize, service: usize, seen: Seen) -> Alive {
        let keeper = self.keeper(host, service)?;
        keeper.mark += 1;
        keeper.known = seen
            .replicas
            .iter()
            .filter_map(|found| match found.state {
                SeenState::Up(incarnation) => {
                    Some(((found.slot, found.revision, found.replica), incarnation))
                }
                SeenState::Created | SeenState::Down(_) => None,
            })
            .collect();
        let instance = self.hosts[host].engine.instance;
        self.tell(host, service, Event::Saw(seen))?;
        self.hosts[host].disk.engine_noted[service] = instance;
        Ok(())
    }

    pub(crate) fn see_now(&mut self, host: usize, service: usize) -> Alive {
        if self.hosts[host].engine.up {
            let seen = self.seen(host, service);
            self.see(host, service, seen)?;
        }
        Ok(())
    }

    #[allow(clippy::too_many_arguments)]
    pub(crate) fn exited(
        &mut self,
        host: usize,
        life: u64,
        service: usize,
        slot: Slot,
        replica: u32,
        incarnation: Incarnation,
        code: i64,
    ) {
        if !self.lives(host, life) {
            return;
        }
        if let Ok(keeper) = self.keeper(host, service) {
            keeper.mark += 1;
            keeper.known.retain(|_, known| *known != incarnation);
        }
        let _ = self.tell(
            host,
            service,
            Event::Exited {
                slot,
                replica,
                incarnation,
                code,
            },
        );
    }

    pub(crate) fn vanished(
        &mut self,
        host: usize,
        life: u64,
        service: usize,
        slot: Slot,
        replica: u32,
        incarnation: Incarnation,
    ) {
        if !self.lives(host, life) {
            return;
        }
        let _ = self.tell(
            host,
            service,
            Event::Vanished {
                slot,
                replica,
                incarnation,
            },
        );
    }

    pub(crate) fn engine_noticed(&mut self, host: usize, life: u64) {
        if !self.lives(host, life) {
            return;
        }
        if self.hosts[host].engine.up {
            self.list(host);
            return;
        }
        for service in 0..self.services.len() {
            if let Ok(keeper) = self.keeper(host, service) {
                keeper.mark += 1;
            }
            if self.tell(host, service, Event::EngineLost).is_err() {
                return;
            }
        }
    }

    pub(crate) fn probe(
        &mut self,
        host: usize,
        life: u64,
        token: u64,
        key: (usize, Slot, RevisionNumber, u32),
    ) {
        let (service, slot, revision, replica) = key;
        if !self.lives(host, life) {
            return;
        }
        let Ok(keeper) = self.keeper(host, service) else {
            return;
        };
        let Some((_, pace)) = keeper
            .probing
            .get(&(slot, revision, replica))
            .filter(|(known, _)| *known == token)
        else {
            return;
        };
        let every = match pace {
            Pace::Ready => READY_EVERY,
            Pace::Live => LIVE_EVERY,
        };
        let incarnation = keeper.known.get(&(slot, revision, replica)).copied();
        self.later(
            every,
            Happening::Probe {
                host,
                life,
                token,
                service,
                slot,
                revision,
                replica,
            },
        );
        if let Some(incarnation) = incarnation {
            let (healthy, after) = self.sample(host, service, slot, replica);
            self.later(
                after,
                Happening::Probed {
                    host,
                    life,
                    service,
                    slot,
                    replica,
                    incarnation,
                    healthy,
                },
            );
        }
    }

    #[allow(clippy::too_many_arguments)]
    pub(crate) fn probed(
        &mut self,
        host: usize,
        life: u64,
        service: usize,
        slot: Slot,
        replica: u32,
        incarnation: Incarnation,
        healthy: bool,
    ) {
        if self.lives(host, life) {
            let evidence = if healthy {
                String::new()
            } else {
                "no good answer".to_owned()
            };
            let _ = self.tell(
                host,
                service,
                Event::Sampled {
                    slot,
                    replica,
                    incarnation,
                    healthy,
                    evidence,
                },
            );
        }
    }
}

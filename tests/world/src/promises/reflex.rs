//! A serving candidate that dies gives its traffic back soon.

use cutover_core::spec::Order;
use cutover_core::swap::Phase;
use cutover_core::{Route, Slot};

use crate::host::ContainerKey;
use crate::promises::{ANSWERED_WITHIN, Promise, ReflexWatch};
use crate::queue::Happening;
use crate::world::{MS, S, World};

/// Reflex: a serving candidate's container ended; the route must be back soon.
pub(crate) fn watch_reflex(world: &mut World, host: usize, key: ContainerKey, told: bool) {
    let (service, slot, revision, _) = key;
    let this = &world.hosts[host];
    let durable = &this.durable[service];
    let (Some(plan), Some(candidate)) = (durable.open_plan(), durable.candidate()) else {
        return;
    };
    let serving = matches!(durable.phase(), Some(Phase::Checking | Phase::Serving));
    let ours = candidate.slot == slot && candidate.side.revision == revision;
    if !serving
        || !ours
        || plan.order == Order::StopFirst
        || !world.traffic(service)
        || plan.kind.incumbent().is_none()
    {
        return;
    }
    if this.agent.is_none() || !this.engine.up || !incumbent_well(world, host, service, world.now) {
        return;
    }
    let after = if told { S } else { 2_500 * MS };
    let watch = (this.life, this.engine.instance, plan.generation, world.now);
    world.later(
        after,
        Happening::ReflexDue {
            host,
            service,
            slot,
            watch,
        },
    );
}

/// The answers that made the incumbent pass have arrived.
pub(super) fn incumbent_told(world: &World, host: usize, service: usize) -> bool {
    let this = &world.hosts[host];
    this.durable[service].current().is_some_and(|settled| {
        (1..=settled.side.replicas).all(|replica| {
            let key = (service, settled.slot, settled.side.revision, replica);
            let container = this.containers.get(&key);
            container.is_some_and(|container| container.passed_at + ANSWERED_WITHIN < world.now)
        })
    })
}

pub(super) fn incumbent_well(world: &World, host: usize, service: usize, since: u64) -> bool {
    let this = &world.hosts[host];
    this.durable[service].current().is_some_and(|settled| {
        (1..=settled.side.replicas).all(|replica| {
            this.containers
                .get(&(service, settled.slot, settled.side.revision, replica))
                .is_some_and(|container| {
                    container.well(world.now)
                        && container.passed
                        && container.sick_at + 5 * S < since
                })
        })
    })
}

impl World {
    pub(crate) fn reflex_due(
        &mut self,
        host: usize,
        service: usize,
        slot: Slot,
        watch: ReflexWatch,
    ) {
        let (life, instance, generation, died) = watch;
        let this = &self.hosts[host];
        let durable = &this.durable[service];
        let same = this.life == life && this.engine.instance == instance && this.engine.up;
        let open = durable
            .open_plan()
            .is_some_and(|plan| plan.generation == generation);
        let berth = this
            .agent
            .as_ref()
            .map(|agent| &agent.keepers[service].berth);
        let phase = berth.and_then(cutover_core::swap::Berth::phase);
        let committed = matches!(
            phase,
            Some(Phase::Cooling | Phase::Draining | Phase::Parking)
        );
        let held = berth.is_some_and(cutover_core::swap::Berth::is_held);
        if !same || !open || committed || held || !incumbent_well(self, host, service, died) {
            return;
        }
        if this.fronts[service].failed_at >= died {
            return; // it was tried
        }
        self.tally.count("reflexes", "in time");
        // What ended with its engine is started, and may have passed again by now.
        let again = durable.candidate().is_some_and(|candidate| {
            (1..=candidate.side.replicas).all(|replica| {
                let key = (service, slot, candidate.side.revision, replica);
                let container = this.containers.get(&key);
                container.is_some_and(|container| container.up().is_some() && container.passed)
            })
        });
        if again {
            return;
        }
        if this_link(self, host, service).reaches(slot) {
            let took = (self.now - died) / MS;
            self.breach(Promise::Reflex, format!("h{host} s{service}: {took} ms after the candidate's death the route still reaches it"));
        }
    }
}

fn this_link(world: &World, host: usize, service: usize) -> Route {
    world.hosts[host].fronts[service].link
}

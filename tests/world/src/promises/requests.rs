//! P11: every request that was lost has an excuse.

use cutover_core::spec::Order;
use cutover_core::swap::Kind;

use crate::host::{ContainerKey, Ender, Request, State};
use crate::promises::Promise;
use crate::world::{MS, S, Temper, World};

/// P11: a request that nobody was routed for.
pub(crate) fn unserved(world: &mut World, host: usize, service: usize, stale: bool) {
    let this = &world.hosts[host];
    let (front, durable) = (&this.fronts[service], &this.durable[service]);
    if !front.served || stale || front.stuck.is_some() || durable.current().is_none() {
        return;
    }
    let excused = durable.open_plan().is_some_and(|plan| {
        plan.order == Order::StopFirst || matches!(plan.kind, Kind::Retire { .. })
    });
    if !excused {
        world.breach(
            Promise::P11,
            format!(
                "h{host} s{service}: a request was sent to nobody though @{:?} is there",
                durable.current().map(|c| c.side.revision)
            ),
        );
    }
}

/// P11: a request that no address answered.
pub(crate) fn unanswered(world: &mut World, host: usize, request: &Request) {
    let service = request.service;
    world.tally.count("requests", "lost: nobody answered");
    let this = &world.hosts[host];
    let durable = &this.durable[service];
    let routed = durable
        .current()
        .into_iter()
        .cloned()
        .chain(durable.candidate());
    let mut guilty = None;
    for settled in routed.filter(|settled| request.route.reaches(settled.slot)) {
        for replica in 1..=settled.side.replicas {
            let key = (service, settled.slot, settled.side.revision, replica);
            let state = this.containers.get(&key).map(|container| container.state);
            // Who saw an old flag may find what has been made there since.
            let made =
                matches!(state, Some(State::Created)) && request.route == this.fronts[service].link;
            if made
                || matches!(
                    state,
                    Some(State::Down {
                        by: Ender::Agent,
                        ..
                    })
                )
            {
                guilty = Some(key);
            }
        }
    }
    let stop_first = world.now < this.recreated[service] + S
        || durable
            .open_plan()
            .is_some_and(|plan| plan.order == Order::StopFirst);
    let excused =
        stop_first || this.haunted_until + S > world.now || this.fronts[service].stuck.is_some();
    if let Some(key) = guilty.filter(|_| !excused) {
        world.breach(
            Promise::P11,
            format!("h{host}: a request found {key:?}, which the agent had stopped"),
        );
    } else if strict(world, service) && !excused {
        world.breach(
            Promise::P11,
            format!(
                "h{host} s{service}: a request was lost in a world without faults: {request:?}"
            ),
        );
    }
}

/// P11: a request whose container ended while it was answered.
pub(crate) fn cut(world: &mut World, host: usize, request: &Request, key: ContainerKey, by: Ender) {
    let service = request.service;
    match by {
        Ender::Itself => {
            world.tally.count("requests", "lost: its container died");
            return;
        }
        Ender::Restart => {
            world.tally.count("requests", "lost: its container hung");
            return;
        }
        Ender::Agent => {}
    }
    world
        .tally
        .count("requests", "lost: its container was stopped");
    let this = &world.hosts[host];
    let stop_first = this.durable[service]
        .open_plan()
        .is_some_and(|plan| plan.order == Order::StopFirst);
    let drain = this.durable[service]
        .open_plan()
        .map_or(0, |plan| u64::try_from(plan.drain.as_nanos()).unwrap_or(0));
    let left = this.fronts[service]
        .reached
        .get(&key.1)
        .copied()
        .unwrap_or(0);
    let drained = world.now >= left + drain;
    let excused = stop_first || drained || this.haunted_until + S > world.now;
    if !excused || strict(world, service) && !stop_first {
        world.breach(
            Promise::P11,
            format!(
                "h{host} s{service}: a request of {} ms was cut by stopping {key:?}",
                (world.now - request.began) / MS
            ),
        );
    }
}

/// A world in which nothing may be lost.
fn strict(world: &World, service: usize) -> bool {
    world.faults.none
        && world.services[service]
            .natures
            .iter()
            .all(|nature| nature.temper == Temper::Good)
}

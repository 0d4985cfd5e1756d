//! P3, P4 and P7: what is said is stored, what is stale changes nothing, and a lease that is over counts.

use cutover_core::rollout::Fact as RolloutFact;
use cutover_core::spec::Order;
use cutover_core::swap::{Fact, Phase, SwapOrder, Target};
use cutover_core::{Generation, HostId};

use crate::promises::Promise;
use crate::scenario::LEASE;
use crate::world::{S, World};

/// P3: an order that leaves is in the store.
pub(crate) fn before_order(world: &mut World, id: usize, host: &HostId, order: &SwapOrder) {
    may_be_said(world, id, host, order);
    let facts = &world.coordinator.store.rollouts[id].facts;
    let last = facts.iter().rev().find_map(|stamped| match &stamped.fact {
        RolloutFact::Ordered {
            host: name,
            generation,
            target,
            ..
        } if name == host => Some((*generation, *target)),
        _ => None,
    });
    if last != Some((order.generation, order.target)) {
        world.breach(
            Promise::P3,
            format!(
                "r{id} orders {host} {} {}, but stored is {last:?}",
                order.generation, order.target
            ),
        );
    }
}

/// P9, P12: a superseded rollout is silent, and what is decided is not taken back by its own order.
fn may_be_said(world: &mut World, id: usize, host: &HostId, order: &SwapOrder) {
    let facts = &world.coordinator.store.rollouts[id].facts;
    let superseded = facts
        .iter()
        .any(|stamped| stamped.fact == RolloutFact::Superseded);
    let mut ordered = None;
    let mut decided = None;
    for stamped in facts {
        match &stamped.fact {
            RolloutFact::Ordered {
                host: name,
                generation,
                ..
            } if name == host => ordered = Some(*generation),
            RolloutFact::CommitDecided { hosts } if hosts.contains(host) => decided = ordered,
            _ => {}
        }
    }
    let (generation, target) = (order.generation, order.target);
    if superseded {
        let what = format!("r{id} orders {host} {generation} {target}, but is superseded");
        world.breach(Promise::P9, what);
    } else if decided == Some(generation) && target == Target::Reverted {
        let what = format!("r{id} takes {host} {generation} back, whose commit is decided");
        world.breach(Promise::P12, what);
    }
}

/// P4: a stale order changes nothing.
pub(crate) fn after_order(
    world: &mut World,
    host: usize,
    service: usize,
    before: (Generation, Generation),
    mark: usize,
) {
    let (fence, given) = before;
    if given >= fence {
        return;
    }
    let journal = world.hosts[host].disk.journal[service]
        .get(mark..)
        .unwrap_or_default();
    let moved = journal.iter().find(|stamped| {
        matches!(
            stamped.fact,
            Fact::Opened { .. } | Fact::Targeted(_) | Fact::Fenced(_)
        )
    });
    if let Some(moved) = moved {
        let moved = format!("{:?}", moved.fact);
        world.breach(
            Promise::P4,
            format!(
                "h{host} s{service}: an order of {given}, below the fence {fence}, led to {moved}"
            ),
        );
    }
}

/// P7: notes how long the coordinator's word counts.
pub(crate) fn leased(world: &mut World, host: usize, service: usize, order: &SwapOrder) {
    let booted = world.hosts[host].booted;
    let lease = &mut world.hosts[host].leases[service];
    if order.generation < lease.0 {
        return;
    }
    if lease.0 != order.generation {
        *lease = (order.generation, 0);
    }
    lease.1 = lease.1.max(booted + order.lease_until.as_nanos());
}

/// P7: past its lease, what is merely prepared goes back.
pub(super) fn lease_kept(world: &mut World) {
    for host in 0..world.hosts.len() {
        let this = &world.hosts[host];
        let Some(agent) = &this.agent else { continue };
        if !this.engine.up
            || world.now < this.engine.up_since + 15 * S
            || this.disk.full
            || world.now < agent.started_at + 15 * S
        {
            continue;
        }
        for (service, keeper) in agent.keepers.iter().enumerate() {
            let Some(phase) = this.durable[service].phase() else {
                continue;
            };
            let preparing = matches!(
                phase,
                Phase::Fetching
                    | Phase::Making
                    | Phase::Starting
                    | Phase::Proving
                    | Phase::Smoking
                    | Phase::Prepared
            );
            // A recreate that has stopped its incumbent goes on: nothing serves.
            let stop_first = this.durable[service]
                .open_plan()
                .is_some_and(|plan| plan.order == Order::StopFirst);
            let makes_room =
                stop_first && !matches!(phase, Phase::Fetching | Phase::Making | Phase::Prepared);
            let (_, until) = this.leases[service];
            let over =
                world.now > until + 2 * S && world.now > this.opened[service] + LEASE + 2 * S;
            let over = over && keeper.unsaved.is_empty();
            if preparing && over && !keeper.berth.is_held() && !makes_room {
                world.breach(
                    Promise::P7,
                    format!("h{host} s{service} is still {phase:?} after its lease"),
                );
                return;
            }
        }
    }
}

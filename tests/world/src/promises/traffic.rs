//! P1 and P2: what gets requests has passed, and what may have to take them back is not stopped.

use cutover_core::spec::Order;
use cutover_core::swap::{Action, Phase};
use cutover_core::{Route, Slot};

use crate::agent::Agent;
use crate::fault::Fault;
use crate::host::{Container, ContainerKey, Ender, State};
use crate::promises::{Promise, UNSEEN_FOR};
use crate::world::{S, World};

/// P1: what newly gets requests has passed, whole, since it started.
pub(crate) fn before_flip(world: &mut World, host: usize, service: usize, route: Route) {
    stays_warm(world, host, service, route);
    let front = &world.hosts[host].fronts[service];
    let link = front.link;
    for slot in Slot::ALL {
        if !route.reaches(slot) || link.reaches(slot) {
            continue;
        }
        for replica in 1..=world.services[service].replicas {
            let in_slot = world.hosts[host]
                .containers
                .iter()
                .filter(|((s, l, _, n), _)| *s == service && *l == slot && *n == replica);
            // One that has just ended by itself can't be known of yet.
            let just = |container: &&Container| match container.state {
                State::Up { .. } => container.passed,
                State::Down {
                    by: Ender::Itself, ..
                } => container.passed && world.now < container.sick_at + UNSEEN_FOR,
                State::Down {
                    by: Ender::Agent | Ender::Restart,
                    ..
                }
                | State::Created => false,
            };
            if !in_slot.clone().any(|(_, container)| just(&container)) {
                let found = format!("{:?}", in_slot.collect::<Vec<_>>());
                world.breach(Promise::P1, format!("h{host} s{service}: {route} reaches {slot}, whose replica {replica} has not passed: {found}"));
                return;
            }
        }
    }
}

/// P2: until commit, an incumbent that is well stays ready to take traffic back.
fn stays_warm(world: &mut World, host: usize, service: usize, route: Route) {
    let this = &world.hosts[host];
    let Some(agent) = &this.agent else { return };
    let berth = &agent.keepers[service].berth;
    let serving = matches!(berth.phase(), Some(Phase::Checking | Phase::Serving));
    let start_first = berth
        .open_plan()
        .is_some_and(|plan| plan.order == Order::StartFirst);
    let (Route::Alone(slot), Some(candidate)) = (route, berth.candidate()) else {
        return;
    };
    if serving
        && start_first
        && slot == candidate.slot
        && this.engine.up
        && super::reflex::incumbent_well(world, host, service, world.now)
        && super::reflex::incumbent_told(world, host, service)
    {
        world.breach(
            Promise::P2,
            format!(
                "h{host} s{service}: the route goes to {slot} alone, though the incumbent is well"
            ),
        );
    }
}

/// P1: nothing starts in a slot that gets requests, where another slot can serve them.
pub(crate) fn before_start(world: &mut World, host: usize, key: ContainerKey) {
    let (service, slot, revision, _) = key;
    let front = &world.hosts[host].fronts[service];
    if front.link.reaches(slot)
        && !matches!(front.link, Route::Alone(_))
        && world.now > world.hosts[host].haunted_until
    {
        let link = front.link;
        world.breach(
            Promise::P1,
            format!("h{host} s{service}: @{revision} starts in {slot} while the route is {link}"),
        );
    }
    is_out(world, host, key, "starts");
    let durable = &world.hosts[host].durable[service];
    let stop_first = durable
        .open_plan()
        .is_some_and(|plan| plan.order == Order::StopFirst);
    let other = world.hosts[host]
        .containers
        .iter()
        .any(|((s, _, r, _), container)| {
            *s == service && *r != revision && container.up().is_some()
        });
    // One that was asked for long before can't be called off.
    let late = world.now <= world.hosts[host].haunted_until || world.faults.has(Fault::StartSlow);
    if stop_first && other && !late {
        world.breach(Promise::P9, format!("h{host} s{service}: @{revision} starts beside another revision, which recreate forbids"));
    }
}

/// P1: what starts or is halted in a slot that gets requests is out, where another one can serve.
fn is_out(world: &mut World, host: usize, key: ContainerKey, verb: &str) {
    let (service, slot, revision, replica) = key;
    let this = &world.hosts[host];
    let front = &this.fronts[service];
    // On a full disk no pass is kept: the next agent has all of them pass again.
    let anew = |agent: &Agent| agent.started_at + UNSEEN_FOR > world.now;
    let unkept = world.faults.has(Fault::DiskFull) && this.agent.as_ref().is_some_and(anew);
    if !front.link.reaches(slot)
        || front.out.contains(&(slot, replica))
        || world.now <= this.haunted_until
        || unkept
    {
        return;
    }
    if let Some(other) = other_serves(world, host, key) {
        world.breach(
            Promise::P1,
            format!("h{host} s{service}: replica {replica} of @{revision} {verb} in {slot} and is not out, though replica {other} can serve"),
        );
    }
}

/// Another replica beside this one that can serve, and has been seen to for a while.
fn other_serves(world: &World, host: usize, key: ContainerKey) -> Option<u32> {
    let (service, slot, revision, replica) = key;
    let this = &world.hosts[host];
    (1..=world.services[service].replicas)
        .filter(|other| *other != replica)
        .find(|other| {
            this.containers
                .get(&(service, slot, revision, *other))
                .is_some_and(|container| {
                    container.well(world.now)
                        && container.passed
                        && container.passed_at + UNSEEN_FOR < world.now
                        && container.sick_at + 10 * S < world.now
                })
        })
}

/// P1: what is taken in again has passed, where another one can serve.
pub(crate) fn before_out(
    world: &mut World,
    host: usize,
    service: usize,
    out: &std::collections::BTreeSet<(Slot, u32)>,
) {
    let front = &world.hosts[host].fronts[service];
    let again = front.out.difference(out).copied();
    let again: Vec<_> = again
        .filter(|(slot, _)| front.link.reaches(*slot))
        .collect();
    for (slot, replica) in again {
        let here = world.hosts[host].containers.iter();
        let here = here.filter(|((s, l, _, n), _)| (*s, *l, *n) == (service, slot, replica));
        let here: Vec<_> = here.map(|(key, c)| (*key, c.clone())).collect();
        let passed = here.iter().any(|(_, container)| container.passed);
        let other = here
            .iter()
            .find_map(|(key, _)| other_serves(world, host, *key));
        if let (false, Some(other)) = (passed, other) {
            world.breach(
                Promise::P1,
                format!("h{host} s{service}: replica {replica} in {slot} gets requests again and has not passed, though replica {other} can serve: {here:?}"),
            );
        }
    }
}

/// P1: what an agent asked to stop, that died since, gets no requests in that life of its.
pub(crate) fn before_late_stop(world: &mut World, host: usize, service: usize, action: Action) {
    let Action::Stop { slot, revision } = action else {
        return;
    };
    let this = &world.hosts[host];
    let link = this.fronts[service].link;
    if this.agent.is_some() && link.reaches(slot) && !this.disk.full {
        world.breach(
            Promise::P1,
            format!("h{host} s{service}: @{revision} is being stopped while the route is {link}"),
        );
    }
}

/// P1, P7, P11: what is halted to be started again hangs, is out, and is the only one.
pub(crate) fn before_halt(world: &mut World, host: usize, key: ContainerKey) {
    let (service, slot, revision, replica) = key;
    is_out(world, host, key, "is halted");
    let this = &world.hosts[host];
    let Some(container) = this.containers.get(&key) else {
        return;
    };
    if container.well(world.now) && container.sick_at + 10 * S < world.now {
        world.breach(
            Promise::P7,
            format!(
                "h{host} s{service}: replica {replica} of @{revision} is halted though it is well"
            ),
        );
        return;
    }
    let halted = (1..=world.services[service].replicas).find(|other| {
        let other = this.containers.get(&(service, slot, revision, *other));
        other.is_some_and(|other| {
            matches!(
                other.state,
                State::Down {
                    by: Ender::Restart,
                    ..
                }
            )
        })
    });
    if let Some(other) = halted {
        world.breach(
            Promise::P11,
            format!("h{host} s{service}: replica {replica} of @{revision} is halted while replica {other} is"),
        );
    }
}

/// P2: what is stopped gets no requests, and its drain is over.
pub(crate) fn before_stop(world: &mut World, host: usize, key: ContainerKey) {
    let (service, slot, revision, _) = key;
    if world.now <= world.hosts[host].haunted_until || !world.traffic(service) {
        return;
    }
    let this = &world.hosts[host];
    let (front, durable) = (&this.fronts[service], &this.durable[service]);
    // Recreate has said 503 to everybody already; it does not wait for nginx to follow.
    let stop_first = durable
        .open_plan()
        .is_some_and(|plan| plan.order == Order::StopFirst);
    let reached = if stop_first {
        front.link.reaches(slot)
    } else {
        front.reaches(slot)
    };
    if reached {
        let route = front.link;
        world.breach(
            Promise::P2,
            format!(
                "h{host} s{service}: @{revision} is stopped in {slot} while the route is {route}"
            ),
        );
        return;
    }
    let Some(plan) = durable.open_plan() else {
        return;
    };
    if plan.order == Order::StopFirst {
        world.hosts[host].recreated[service] = world.now;
        return;
    }
    let incumbent = plan
        .kind
        .incumbent()
        .is_some_and(|side| side.revision == revision);
    let phase = durable.phase();
    if incumbent && phase != Some(Phase::Parking) {
        world.breach(
            Promise::P2,
            format!("h{host} s{service}: the incumbent @{revision} is stopped while {phase:?}"),
        );
        return;
    }
    let open = this.open_connections(service, slot);
    let left = front.reached.get(&slot).copied().unwrap_or(0);
    let drained = world.now >= left + u64::try_from(plan.drain.as_nanos()).unwrap_or(u64::MAX);
    if open > 0 && !drained {
        world.breach(Promise::P2, format!("h{host} s{service}: @{revision} is stopped with {open} connections, before its drain is over"));
    }
}

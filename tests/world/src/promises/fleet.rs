//! P6, P9 and P12: how many hosts change at once, and what a rollout says of them.

use cutover_core::HostId;
use cutover_core::rollout::{Fact as RolloutFact, Fate, Outcome, Stamped as RolloutStamped};
use cutover_core::spec::CommitRule;
use cutover_core::swap::{Fact as SwapFact, Kind, Phase, Target};

use crate::coordinator::index;
use crate::fault::Fault;
use crate::map;
use crate::promises::Promise;
use crate::scenario::{LEASE, PROGRESS};
use crate::world::{S, World};

/// P6: never more hosts in change at once than a wave holds.
pub(super) fn not_too_many(
    world: &mut World,
    host: usize,
    service: usize,
    plan: &cutover_core::swap::SwapPlan,
) {
    let saved = world
        .coordinator
        .store
        .rollouts
        .iter()
        .find(|saved| saved.plan.id == plan.rollout);
    let Some(saved) = saved else { return };
    let (size, at_end) = (
        saved.plan.wave_size(),
        saved.plan.policy.commit == CommitRule::AtEnd,
    );
    // One that was given up, and comes back, still has its order.
    let clock = world.coordinator.clock(world.now);
    let patient = saved.facts.iter().rev().any(|stamped| {
        let ours = matches!(&stamped.fact, RolloutFact::Ordered { host: name, generation, .. }
            if index(name) == host && *generation == plan.generation);
        ours && stamped.at <= clock
            && u64::try_from(clock.since(stamped.at).as_nanos()).unwrap_or(0) < PROGRESS
    });
    if !patient {
        return;
    }
    let since = world.coordinator.restored_at;
    let others = (0..world.hosts.len()).filter(|other| {
        let this = &world.hosts[*other];
        let Some(open) = this.durable[service].open_plan().filter(|_| *other != host) else {
            return false;
        };
        let watched = at_end && this.watched[service];
        // One that was away too long, or took too long, is not waited for.
        let heard = world.coordinator.heard_at.get(other).copied().unwrap_or(0);
        // It may have come back while a full disk kept what was decided.
        let kept = world.faults.has(Fault::CoordinatorDiskFull);
        let fell = saved.facts.iter().any(|stamped| {
            matches!(&stamped.fact, RolloutFact::Fell { host, .. } if index(host) == *other)
        });
        // It was away for most of its time.
        let ordered = saved.facts.iter().rev().find(
            |stamped| matches!(&stamped.fact, RolloutFact::Ordered { host, .. } if index(host) == *other),
        );
        let overdue = ordered.is_some_and(|ordered| {
            u64::try_from(clock.since(ordered.at).as_nanos()).unwrap_or(0) >= PROGRESS
        });
        let given_up = world.now > heard + LEASE
            || world.now > this.opened[service] + PROGRESS
            || overdue
            || kept && fell;
        // All traffic is back: what is left of the candidate is only tidied up.
        let back = matches!(
            this.durable[service].phase(),
            Some(Phase::Emptying | Phase::Removing)
        );
        // One that was away when its commit was decided converges when it can.
        let decided = saved.facts.iter().any(|stamped| {
            matches!(&stamped.fact, RolloutFact::CommitDecided { hosts } if hosts.iter().any(|name| index(name) == *other))
        });
        let owing = decided && world.now > this.opened[service] + LEASE;
        open.rollout == plan.rollout && !owing && !watched && !given_up && !back
    });
    let others = others.count();
    if others + 1 > size && (since == 0 || world.now > since + 60 * S) {
        world.breach(
            Promise::P6,
            format!(
                "h{host} s{service}: {} hosts are in change, a wave holds {size}",
                others + 1
            ),
        );
    }
}

/// P2, P12: a rollback undoes only what its rollout has moved.
pub(super) fn undoes_its_own(
    world: &mut World,
    host: usize,
    service: usize,
    plan: &cutover_core::swap::SwapPlan,
) {
    let mut rollouts = world.coordinator.store.rollouts.iter();
    let Some(saved) = rollouts.find(|saved| saved.plan.id == plan.rollout) else {
        return;
    };
    let candidate = |kind: &Kind| kind.candidate().map(|side| side.revision);
    let mut hosts = saved.plan.hosts.iter();
    let Some(ours) = hosts.find(|of| index(&of.host) == host) else {
        return;
    };
    let forward = candidate(&ours.kind);
    if candidate(&plan.kind) == forward {
        return;
    }
    let (mut open, mut moved) = (None, false);
    for stamped in &world.hosts[host].disk.journal[service] {
        match &stamped.fact {
            SwapFact::Opened { plan, .. } => open = Some(plan),
            SwapFact::Committed => {
                moved |= open.is_some_and(|open| {
                    open.rollout == plan.rollout && candidate(&open.kind) == forward
                });
            }
            _ => {}
        }
    }
    if !moved {
        let what = format!(
            "h{host} s{service}: {} undoes what it never did",
            plan.rollout
        );
        world.breach(Promise::P12, what);
    }
}

/// P9: a host never runs three revisions of a service.
pub(super) fn never_three_revisions(world: &mut World, host: usize) {
    for service in 0..world.services.len() {
        let mut two = [None; 2];
        let up = world.hosts[host]
            .containers
            .iter()
            .filter(|((s, ..), c)| *s == service && c.up().is_some());
        for ((_, _, revision, _), _) in up {
            if two.contains(&Some(*revision)) {
                continue;
            }
            match two.iter_mut().find(|place| place.is_none()) {
                Some(place) => *place = Some(*revision),
                // What the engine does late nobody has asked for any more; it is tidied up.
                None if world.now <= world.hosts[host].haunted_until => return,
                None => {
                    world.breach(
                        Promise::P9,
                        format!("h{host} s{service} runs three revisions"),
                    );
                    return;
                }
            }
        }
    }
}

/// P9: one open rollout a service, in the store.
pub(crate) fn after_planning(world: &mut World, service: usize) {
    let open = world.coordinator.store.rollouts.iter().filter(|saved| {
        let over = |stamped: &RolloutStamped| {
            matches!(
                stamped.fact,
                RolloutFact::Closed(_) | RolloutFact::Superseded
            )
        };
        saved.service == service && !saved.facts.iter().any(over)
    });
    let open = open.count();
    if open > 1 {
        world.breach(Promise::P9, format!("s{service} has {open} open rollouts"));
    }
}

/// P12: what a closed rollout says is what its hosts run.
pub(crate) fn after_deciding(world: &mut World, id: usize, facts: &[RolloutStamped]) {
    for stamped in facts {
        world
            .tally
            .count("rollout facts", map::rollout_fact(&stamped.fact));
        if matches!(
            stamped.fact,
            RolloutFact::RollbackDecided { asked: false, .. } | RolloutFact::Superseded
        ) {
            has_a_reason(world, id, &stamped.fact);
        }
        if let RolloutFact::Closed(outcome) = stamped.fact {
            outcome_is_true(world, id, outcome);
        }
        // With a full disk it becomes durable long after it was decided.
        let age = world.coordinator.clock(world.now).since(stamped.at);
        let fresh = age < std::time::Duration::from_millis(100);
        if stamped.fact == RolloutFact::BarrierPassed && fresh {
            barrier_is_fresh(world, id);
        }
    }
}

/// P9, P12: a rollout goes back for hosts that fell before their commit was decided, and falls silent when it is closed.
fn has_a_reason(world: &mut World, id: usize, fact: &RolloutFact) {
    let all = &world.coordinator.store.rollouts[id].facts;
    // What followed is no reason for it, though it may have been saved together with it.
    let before = all.iter().position(|stamped| stamped.fact == *fact);
    let facts = &all[..before.unwrap_or(all.len())];
    let decided = |host: &HostId| {
        let mut facts = facts.iter();
        facts.any(|stamped| matches!(&stamped.fact, RolloutFact::CommitDecided { hosts } if hosts.contains(host)))
    };
    let fell = facts
        .iter()
        .any(|stamped| matches!(&stamped.fact, RolloutFact::Fell { host, .. } if !decided(host)));
    let closed = facts
        .iter()
        .any(|stamped| matches!(stamped.fact, RolloutFact::Closed(_)));
    let any = facts
        .iter()
        .any(|stamped| matches!(stamped.fact, RolloutFact::Fell { .. }));
    if *fact == RolloutFact::Superseded && !closed {
        world.breach(
            Promise::P9,
            format!("r{id} falls silent before it is closed"),
        );
    } else if *fact != RolloutFact::Superseded && any && !fell {
        let what = format!("r{id} goes back for hosts that fell after their commit was decided");
        world.breach(Promise::P12, what);
    }
}

/// P7: the barrier is passed only on reports renewed within the last third of a lease.
fn barrier_is_fresh(world: &mut World, id: usize) {
    let saved = &world.coordinator.store.rollouts[id];
    let Some(memory) = &world.coordinator.memory else {
        return;
    };
    // One that fell, or runs it already, is not waited for.
    let apart = |host: &HostId| {
        let mut facts = saved.facts.iter();
        facts.any(|stamped| match &stamped.fact {
            RolloutFact::Fell { host: name, .. } | RolloutFact::WasThere { host: name } => {
                name == host
            }
            RolloutFact::Reached { host: name, target } => {
                name == host && *target == Target::Committed
            }
            _ => false,
        })
    };
    let stale = saved.plan.hosts.iter().find(|plan| {
        let told = memory.told_at.get(&(index(&plan.host), saved.service));
        let age = told.map_or(u64::MAX, |told| world.now - told);
        age > LEASE / 3 && !apart(&plan.host)
    });
    if let Some(stale) = stale {
        let what = format!(
            "r{id} passes its barrier on an old report of {}",
            stale.host
        );
        world.breach(Promise::P7, what);
    }
}

fn outcome_is_true(world: &mut World, id: usize, outcome: Outcome) {
    let saved = &world.coordinator.store.rollouts[id];
    let service = saved.service;
    let Some(live) = world
        .coordinator
        .memory
        .as_ref()
        .and_then(|memory| memory.live.get(&id))
    else {
        return;
    };
    let view = live.machine.view();
    let old_news = world.faults.has(Fault::PlannedOnOldNews);
    let mut wrong = None;
    for host in &view.hosts {
        let Some(plan) = saved.plan.hosts.iter().find(|plan| plan.host == host.host) else {
            continue;
        };
        let (a, b) = (
            plan.kind.incumbent().map(|side| side.revision),
            plan.kind.candidate().map(|side| side.revision),
        );
        let truth = &world.hosts[index(&host.host)].durable[service];
        let runs = truth.current().map(|settled| settled.side.revision);
        // A rollout that an old backup has forgotten may have gone further.
        let ordered = saved
            .facts
            .iter()
            .rev()
            .find_map(|stamped| match &stamped.fact {
                RolloutFact::Ordered {
                    host: name,
                    generation,
                    ..
                } if *name == host.host => Some(*generation),
                _ => None,
            });
        if world.coordinator.restored_at > 0
            && ordered.is_some_and(|ordered| truth.fence() > ordered)
        {
            continue;
        }
        let should = match host.fate {
            Fate::Committed | Fate::There | Fate::Stuck => Some(b),
            Fate::Back => Some(a),
            // In a rollout that ended mixed it may be anywhere: nothing was asked of it. So may one that was
            // planned on old news.
            Fate::Untouched => (outcome != Outcome::Mixed && !old_news).then_some(a),
            Fate::Open => None,
        };
        if should.is_some_and(|should| should != runs) {
            wrong = Some(format!(
                "{} is {:?}, but runs {runs:?}",
                host.host, host.fate
            ));
        }
        let fits = match outcome {
            Outcome::Committed => matches!(host.fate, Fate::Committed | Fate::There),
            Outcome::RolledBack | Outcome::Aborted => {
                matches!(host.fate, Fate::Back | Fate::Untouched)
            }
            Outcome::Mixed => true,
        };
        if !fits {
            wrong = Some(format!(
                "{} is {:?} at the end of a rollout that is {outcome:?}",
                host.host, host.fate
            ));
        }
    }
    if let Some(wrong) = wrong {
        world.breach(Promise::P12, format!("r{id}: {wrong}"));
    }
}

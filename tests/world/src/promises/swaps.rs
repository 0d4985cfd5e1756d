//! P4, P7 and P12: what a host is about to make durable has a cause and is true.

use cutover_core::swap::{Fact, Phase, Stamped};

use crate::fault::Fault;
use crate::host::Container;
use crate::promises::Promise;
use crate::world::{MS, S, Temper, World};

/// P4, P6, P7: what a host is about to make durable.
pub(crate) fn before_saving(world: &mut World, host: usize, service: usize, facts: &[Stamped]) {
    for (i, stamped) in facts.iter().enumerate() {
        let said_at = world.hosts[host].booted + stamped.at.as_nanos();
        // On a full disk a fact is kept long after it was true.
        let fresh = world.now.saturating_sub(said_at) < 100 * MS;
        match &stamped.fact {
            Fact::Opened { plan, .. } => {
                let fence = world.hosts[host].durable[service].fence();
                if plan.generation <= fence {
                    world.breach(
                        Promise::P4,
                        format!(
                            "h{host} s{service} opens {} at the fence {fence}",
                            plan.generation
                        ),
                    );
                }
                opens_in_its_lease(world, host, service, plan, stamped.at);
                super::fleet::undoes_its_own(world, host, service, plan);
                super::fleet::not_too_many(world, host, service, plan);
            }
            Fact::Sickened { why } => match phase_before(world, host, service, &facts[..i]) {
                Some(phase) if !phase.may_revert() => {
                    let said = format!("h{host} s{service} is condemned while {phase:?}: {why}");
                    world.breach(Promise::P12, said);
                }
                Some(Phase::Prepared | Phase::Cutting | Phase::Checking | Phase::Serving)
                    if fresh =>
                {
                    reflex_has_a_cause(world, host, service, why);
                }
                Some(_) | None => {}
            },
            Fact::Watched | Fact::Advanced
                if fresh
                    && phase_before(world, host, service, &facts[..i]) == Some(Phase::Serving) =>
            {
                candidate_is_well(world, host, service, &stamped.fact);
            }
            _ => {}
        }
    }
}

/// Where the swap is before the last of these facts, that are not saved yet.
fn phase_before(world: &World, host: usize, service: usize, facts: &[Stamped]) -> Option<Phase> {
    let mut then = world.hosts[host].durable[service].clone();
    for earlier in facts {
        then.apply(earlier.at, &earlier.fact);
    }
    then.phase()
}

/// P7: a swap opens only while the coordinator's word counts.
fn opens_in_its_lease(
    world: &mut World,
    host: usize,
    service: usize,
    plan: &cutover_core::swap::SwapPlan,
    at: cutover_core::Moment,
) {
    let (generation, until) = world.hosts[host].leases[service];
    let opened = world.hosts[host].booted + at.as_nanos();
    if generation == plan.generation && opened >= until {
        let late = opened - until;
        world.breach(
            Promise::P7,
            format!("h{host} s{service} opens {generation} {late} ns after its lease"),
        );
    }
}

/// P12: a window ends well, and warmth ends, only for a candidate that is well as far as can be known.
fn candidate_is_well(world: &mut World, host: usize, service: usize, fact: &Fact) {
    let this = &world.hosts[host];
    let Some(candidate) = this.durable[service].candidate() else {
        return;
    };
    let (now, engine) = (world.now, &this.engine);
    let routed = !candidate.side.traffic || this.fronts[service].link.reaches(candidate.slot);
    let well = if !routed {
        false
    } else if engine.up {
        now < engine.up_since + 5 * S
            || (1..=candidate.side.replicas).all(|replica| {
                let key = (service, candidate.slot, candidate.side.revision, replica);
                let found = this.containers.get(&key);
                found.is_some_and(|one| {
                    one.up().is_some() && one.passed || one.sick_at + 5 * S > now
                })
            })
    } else {
        now < engine.down_since + S
    };
    let starting = this
        .agent
        .as_ref()
        .is_none_or(|agent| now < agent.started_at + S);
    if !well && !starting && !this.disk.full {
        world.breach(
            Promise::P12,
            format!("h{host} s{service}: {fact:?}, but the candidate is not well"),
        );
    }
}

/// P7: a healthy serving candidate is not taken back by its host.
fn reflex_has_a_cause(world: &mut World, host: usize, service: usize, why: &str) {
    let this = &world.hosts[host];
    let durable = &this.durable[service];
    // On a full disk it becomes durable long after it was said.
    let by_hand = this.hand[service] > 0 && why.contains("by hand");
    if by_hand || world.now < this.hand[service] + S {
        return;
    }
    let Some(candidate) = durable.candidate() else {
        return;
    };
    if cause_is_named(world, host, service, &candidate, why) {
        return;
    }
    if asked(why) {
        let why = why.to_owned();
        world.breach(
            Promise::P7,
            format!("h{host} s{service}: nothing was wrong with what was checked: {why}"),
        );
        return;
    }
    let patience = world.now.saturating_sub(this.engine.down_since) > 100 * S;
    let sick = (1..=candidate.side.replicas).any(|replica| {
        this.containers
            .get(&(service, candidate.slot, candidate.side.revision, replica))
            .is_none_or(|container| {
                !container.well(world.now) || container.sick_at + 10 * S > world.now
            })
    });
    if !sick && !patience {
        let why = why.to_owned();
        world.breach(
            Promise::P7,
            format!("h{host} s{service} takes a healthy serving candidate back: {why}"),
        );
    }
}

/// It was condemned by what it answered, or did not.
fn asked(why: &str) -> bool {
    why.contains("/login") || why.contains("probes in a row")
}

/// The sentence names a cause that this world has.
fn cause_is_named(
    world: &World,
    host: usize,
    service: usize,
    candidate: &cutover_core::swap::Settled,
    why: &str,
) -> bool {
    let temper = world.services[service].temper(host, candidate.side.revision);
    let haunted_until = world.hosts[host].haunted_until;
    let crashed = (1..=candidate.side.replicas).any(|replica| {
        let key = (service, candidate.slot, candidate.side.revision, replica);
        let found = world.hosts[host].containers.get(&key);
        let crashed = |one: &Container| one.crashed_at > 0 && one.crashed_at + 10 * S > world.now;
        // One that an engine stopped late, as it was asked by somebody long gone, answers as little.
        let stopped_late = |one: &Container| one.up().is_none() && world.now < haunted_until;
        found.is_none_or(|one| stopped_late(one) || crashed(one))
    });
    // It ended with its engine, and nobody could know that yet.
    let engine = &world.hosts[host].engine;
    let unknown = !engine.up && world.now < engine.down_since + 100 * MS;
    // On a full disk the flip is not kept, and nothing is proved before it is.
    let proxy = [
        Fault::NginxDown,
        Fault::NginxStuck,
        Fault::FlipFails,
        Fault::DiskFull,
    ];
    // Leases are looked at by themselves: one that is over may be renewed before this is durable.
    why.contains("lease")
        || (asked(why) && (temper != Temper::Good || crashed || unknown))
        || (why.contains("did not follow") && proxy.iter().any(|fault| world.faults.has(*fault)))
        // Its own start is of its time.
        || (why.contains("not healthy again within") && world.faults.has(Fault::StartSlow))
        || why.contains("for good")
        || why.contains("stayed away")
        || why.contains("were not answered within")
}

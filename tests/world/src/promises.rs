//! The promises of the design, each checked by a function of its own, against
//! what is so in the world: containers, symlink, connections, what is durable.

use cutover_core::rollout::Fate;
use cutover_core::rollout::{Fact as RolloutFact, Outcome, Stamped as RolloutStamped};
use cutover_core::spec::{CommitRule, Order};
use cutover_core::swap::{Fact, Kind, Phase, Stamped, SwapOrder};
use cutover_core::{Generation, HostId, Route, Slot};

use crate::coordinator::index;
use crate::host::{Container, ContainerKey, Ender, Request, State};
use crate::map;
use crate::queue::Happening;
use crate::scenario::{LEASE, PROGRESS};
use crate::world::{MS, S, Temper, World};

/// How long an end may stay unseen: its event may be lost, then only samples tell.
const UNSEEN_FOR: u64 = 3 * S;
/// A good answer to a sample takes no longer.
const ANSWERED_WITHIN: u64 = 15 * MS;

/// A promise of the design, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// Nothing unproved gets requests.
    P1,
    /// The incumbent stays until its drain is over.
    P2,
    /// Durable before said.
    P3,
    /// A stale command changes nothing.
    P4,
    /// Everything converges.
    P5,
    /// Never more in change than allowed.
    P6,
    /// An agent without its coordinator.
    P7,
    /// One open rollout a service, never three revisions.
    P9,
    /// No request is lost.
    P11,
    /// What is said to have happened is what happened.
    P12,
    /// From a candidate's death to a healthy incumbent within a second.
    Reflex,
}

/// A broken promise.
#[derive(Clone, Debug)]
pub struct Breach {
    /// Which.
    pub promise: Promise,
    /// What is wrong, in a sentence.
    pub what: String,
}

/// What must still be so when the reflex is judged.
pub(crate) type ReflexWatch = (u64, u64, Generation, u64);

impl World {
    /// What must hold after every step, whatever it was.
    pub(crate) fn check(&mut self) {
        for host in 0..self.hosts.len() {
            never_three_revisions(self, host);
        }
        lease_kept(self);
    }

    fn traffic(&self, service: usize) -> bool {
        self.services[service].traffic
    }
}

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
                    by: Ender::Agent, ..
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
        && incumbent_well(world, host, service, world.now)
        && incumbent_told(world, host, service)
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
    if stop_first && other && world.now > world.hosts[host].haunted_until {
        world.breach(Promise::P9, format!("h{host} s{service}: @{revision} starts beside another revision, which recreate forbids"));
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

/// P3: an order that leaves is in the store.
pub(crate) fn before_order(world: &mut World, id: usize, host: &HostId, order: &SwapOrder) {
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
fn lease_kept(world: &mut World) {
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

/// P4, P6, P7: what a host is about to make durable.
pub(crate) fn before_saving(world: &mut World, host: usize, service: usize, facts: &[Stamped]) {
    for (i, stamped) in facts.iter().enumerate() {
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
                not_too_many(world, host, service, plan);
            }
            Fact::Sickened { why } => {
                let mut then = world.hosts[host].durable[service].clone();
                for earlier in &facts[..i] {
                    then.apply(earlier.at, &earlier.fact);
                }
                if then.phase() == Some(Phase::Serving) {
                    reflex_has_a_cause(world, host, service, why);
                }
            }
            _ => {}
        }
    }
}

/// P6: never more hosts in change at once than a wave holds.
fn not_too_many(
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
        let given_up = world.now > heard + LEASE || world.now > this.opened[service] + PROGRESS;
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

/// P7: a healthy serving candidate is not taken back by its host.
fn reflex_has_a_cause(world: &mut World, host: usize, service: usize, why: &str) {
    let this = &world.hosts[host];
    let durable = &this.durable[service];
    if world.now < this.hand[service] + S {
        return;
    }
    let Some(candidate) = durable.candidate() else {
        return;
    };
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

/// P9: a host never runs three revisions of a service.
fn never_three_revisions(world: &mut World, host: usize) {
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
        if let RolloutFact::Closed(outcome) = stamped.fact {
            outcome_is_true(world, id, outcome);
        }
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
            Fate::Committed | Fate::Stuck => Some(b),
            Fate::Back => Some(a),
            // In a rollout that ended mixed it may be anywhere: nothing was asked of it.
            Fate::Untouched => (outcome != Outcome::Mixed).then_some(a),
            Fate::Open => None,
        };
        if should.is_some_and(|should| should != runs) {
            wrong = Some(format!(
                "{} is {:?}, but runs {runs:?}",
                host.host, host.fate
            ));
        }
        let fits = match outcome {
            Outcome::Committed => host.fate == Fate::Committed,
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
    if by == Ender::Itself {
        world.tally.count("requests", "lost: its container died");
        return;
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
fn incumbent_told(world: &World, host: usize, service: usize) -> bool {
    let this = &world.hosts[host];
    this.durable[service].current().is_some_and(|settled| {
        (1..=settled.side.replicas).all(|replica| {
            let key = (service, settled.slot, settled.side.revision, replica);
            let container = this.containers.get(&key);
            container.is_some_and(|container| container.passed_at + ANSWERED_WITHIN < world.now)
        })
    })
}

fn incumbent_well(world: &World, host: usize, service: usize, since: u64) -> bool {
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
        self.tally.count("reflexes", "in time");
        if this_link(self, host, service).reaches(slot) {
            let took = (self.now - died) / MS;
            self.breach(Promise::Reflex, format!("h{host} s{service}: {took} ms after the candidate's death the route still reaches it"));
        }
    }
}

fn this_link(world: &World, host: usize, service: usize) -> Route {
    world.hosts[host].fronts[service].link
}

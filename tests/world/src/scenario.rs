//! What people do in a world: services, revisions, and one rollout after another.

use std::time::Duration;

use cutover_core::rollout::{Event, HostPlan, RolloutPlan};
use cutover_core::route::Route;
use cutover_core::spec::{CommitRule, OnFailure, Order, RestartCondition, RolloutPolicy, Strategy};
use cutover_core::swap::{Berth, Fact, Incarnation, Kind, Stamped};
use cutover_core::{RevisionNumber, Slot};

use crate::chance::Chance;
use crate::coordinator::name;
use crate::fault::Fault;
use crate::host::{Container, Disk, Engine, Front, Host, State};
use crate::queue::Happening;
use crate::world::{BEGIN, MS, Nature, S, Service, Temper, World, restart};

/// How long the coordinator's word counts.
pub(crate) const LEASE: u64 = 6 * S;
/// How long a host may take for one step.
pub(crate) const PROGRESS: u64 = 20 * S;

/// What a person does.
#[derive(Clone, Debug)]
pub(crate) enum PersonAct {
    /// Rolls a revision out; `None`: removes the service.
    Deploy {
        service: usize,
        to: Option<RevisionNumber>,
        policy: RolloutPolicy,
        if_busy: IfBusy,
        tries: u32,
    },
    /// Says stop, go on, back.
    Ask { service: usize, event: Event },
    /// A host begins to match a service, or ceases to.
    Place {
        service: usize,
        host: usize,
        there: bool,
    },
    /// On the host itself: back.
    RevertOnHost { service: usize, host: usize },
    /// On the host itself: nothing moves by itself, or again may.
    HoldOnHost {
        service: usize,
        host: usize,
        hold: bool,
    },
}

/// What a deploy does while another one is open.
#[derive(Clone, Copy, Debug)]
pub(crate) enum IfBusy {
    Refuse,
    Wait,
    Supersede,
}

/// The world of a seed.
pub(crate) fn make(seed: u64, trace: bool) -> World {
    let mut world = World::new(Chance::new(seed), trace);
    let hosts = world.chance.pick(&[1, 2, 2, 3, 3, 4]);
    let services = world.chance.pick(&[1, 1, 2]);
    for service in 0..services {
        let made = draw_service(&mut world, service, hosts);
        world.services.push(made);
    }
    for host in 0..hosts {
        let made = draw_host(&mut world, host);
        world.hosts.push(made);
    }
    let mut last = 0;
    for service in 0..services {
        last = last.max(draw_deploys(&mut world, service));
        draw_people(&mut world, service, last);
    }
    for host in 0..hosts {
        world.hosts[host].life = 1;
        world.later(0, Happening::AgentStarts { host, life: 1 });
        for service in 0..services {
            if world.services[service].traffic {
                world.later(
                    S,
                    Happening::ClientSends {
                        host,
                        service,
                        again: true,
                    },
                );
            }
        }
    }
    world.later(2 * S, Happening::CoordinatorRenews { life: 0 });
    world.later(S, Happening::Chaos);
    let heal = last + world.chance.between(5 * S, 30 * S);
    world.later(heal, Happening::Heal);
    world
}

fn draw_service(world: &mut World, service: usize, hosts: usize) -> Service {
    let faultless = world.faults.none;
    let chance = &mut world.chance;
    let traffic = !chance.one_in(5);
    // Half of the faultless worlds have nothing but good revisions.
    let all_good = faultless && chance.one_in(2);
    let natures = (0..5).map(|revision| {
        let temper = if all_good || revision == 0 || chance.one_in(2) {
            Temper::Good
        } else {
            match chance.below(9) {
                0 => Temper::NeverReady,
                1 => Temper::ExitsAtStart,
                2 | 3 => Temper::ExitsAfter(chance.between(500 * MS, 12 * S)),
                4 | 5 => Temper::SickAfter(chance.between(500 * MS, 12 * S)),
                6 => Temper::FlakySmoke,
                7 => Temper::BadSmoke,
                _ => Temper::Good,
            }
        };
        let only_on = chance.one_in(3).then(|| chance.index(hosts));
        Nature { temper, only_on }
    });
    let natures = natures.collect();
    let condition = chance.pick(&[
        RestartCondition::Any,
        RestartCondition::Any,
        RestartCondition::OnFailure,
        RestartCondition::No,
    ]);
    let most = chance.pick(&[None, None, Some(1), Some(3)]);
    Service {
        id: match format!("app/s{service}").parse() {
            Ok(id) => id,
            Err(error) => unreachable!("{error}"),
        },
        replicas: chance.pick(&[1, 1, 2]),
        traffic,
        smoke: chance.one_in(2),
        hangs_after: chance.pick(&[None, Some(2), Some(3)]),
        settle: chance.pick(&[0, 0, 400 * MS]),
        restart: restart(condition, most),
        natures,
        placement: (0..hosts).map(|_| !chance.one_in(6)).collect(),
    }
}

fn draw_host(world: &mut World, host: usize) -> Host {
    let booted = BEGIN - world.chance.between(10 * S, 2_000 * S);
    let services = world.services.len();
    let durable = world
        .services
        .iter()
        .map(|service| Berth::new(service.id.clone()));
    let mut made = Host {
        up: true,
        booted,
        boot_id: 1,
        agent: None,
        life: 0,
        disk: Disk {
            journal: vec![Vec::new(); services],
            boot_id: 1,
            engine_noted: vec![1; services],
            spare: 60,
            ..Disk::default()
        },
        durable: durable.collect(),
        watched: vec![false; services],
        opened: vec![0; services],
        images: Default::default(),
        containers: Default::default(),
        engine: Engine {
            up: true,
            instance: 1,
            down_since: 0,
            up_since: 0,
        },
        fronts: (0..services).map(|_| Front::new()).collect(),
        nginx_up: true,
        requests: Default::default(),
        partitioned: false,
        hand: vec![0; services],
        recreated: vec![0; services],
        leases: vec![Default::default(); services],
        haunted_until: 0,
    };
    for service in 0..services {
        // Most services are there already, in their first revision.
        if world.services[service].placement[host] && !world.chance.one_in(3) {
            settle(world, &mut made, service);
        }
    }
    made
}

/// The first revision runs, proved and routed to, and the journal says so.
fn settle(world: &mut World, host: &mut Host, service: usize) {
    let of = &world.services[service];
    let (side, at) = (of.side(RevisionNumber::FIRST), host.clock(BEGIN - S));
    let mut facts = vec![Fact::Adopted {
        side: side.clone(),
        slot: Slot::Blue,
    }];
    for replica in 1..=side.replicas {
        let incarnation = Incarnation(world.serial());
        host.containers.insert(
            (service, Slot::Blue, side.revision, replica),
            Container {
                state: State::Up {
                    incarnation,
                    ready_at: BEGIN - S,
                    sick_from: u64::MAX,
                },
                good: 2,
                passed: true,
                passed_at: 0,
                crashed_at: 0,
                sick_at: 0,
            },
        );
        facts.push(Fact::Passed {
            slot: Slot::Blue,
            replica,
            incarnation,
        });
    }
    if side.traffic {
        facts.push(Fact::CutOver(Route::Alone(Slot::Blue)));
        let front = &mut host.fronts[service];
        front.link = Route::Alone(Slot::Blue);
        front.before = front.link;
        front.served = true;
    }
    let facts: Vec<Stamped> = facts.into_iter().map(|fact| Stamped { at, fact }).collect();
    host.append(service, BEGIN, &facts, &mut world.tally);
}

/// Up to three rollouts of a service; answers when the last one is asked for.
fn draw_deploys(world: &mut World, service: usize) -> u64 {
    let mut at = world.chance.between(3 * S, 6 * S);
    let rollouts = world.chance.between(1, 3);
    let mut newest = 1;
    for _ in 0..rollouts {
        let policy = draw_policy(world);
        let chance = &mut world.chance;
        let to = match chance.below(10) {
            0 => None,
            1 => RevisionNumber::new(newest.max(2) - 1),
            _ => {
                newest += 1;
                RevisionNumber::new(newest)
            }
        };
        let if_busy = chance.pick(&[
            IfBusy::Refuse,
            IfBusy::Wait,
            IfBusy::Wait,
            IfBusy::Supersede,
        ]);
        world.later(
            at,
            Happening::Person(PersonAct::Deploy {
                service,
                to,
                policy,
                if_busy,
                tries: 0,
            }),
        );
        at += world.chance.between(2 * S, 30 * S);
    }
    at
}

fn draw_policy(world: &mut World) -> RolloutPolicy {
    let chance = &mut world.chance;
    let strategy = chance.pick(&[
        Strategy::Rolling,
        Strategy::Rolling,
        Strategy::BlueGreen,
        Strategy::Recreate,
    ]);
    let order = match strategy {
        Strategy::Recreate => Order::StopFirst,
        Strategy::BlueGreen => Order::StartFirst,
        Strategy::Rolling => chance.pick(&[
            Order::StartFirst,
            Order::StartFirst,
            Order::StartFirst,
            Order::StopFirst,
        ]),
    };
    RolloutPolicy {
        strategy,
        order,
        wave: chance.pick(&[0, 1, 1, 2, 3]),
        delay: Duration::from_millis(chance.pick(&[0, 0, 1_500])),
        failure_budget: chance.pick(&[0, 0, 1]),
        on_failure: chance.pick(&[OnFailure::Rollback, OnFailure::Rollback, OnFailure::Hold]),
        observe: Duration::from_millis(chance.between(500, 3_000)),
        drain: Duration::from_millis(chance.between(1_000, 2_000)),
        commit: chance.pick(&[CommitRule::PerWave, CommitRule::AtEnd]),
    }
}

/// Interferences: few, at any time.
fn draw_people(world: &mut World, service: usize, last: u64) {
    let hosts = world.hosts.len();
    let chance = &mut world.chance;
    let mut acts = Vec::new();
    if chance.one_in(8) {
        acts.push(PersonAct::Ask {
            service,
            event: Event::AbortAsked("somebody thought better of it".to_owned()),
        });
    }
    if chance.one_in(8) {
        acts.push(PersonAct::Ask {
            service,
            event: Event::PauseAsked,
        });
        acts.push(PersonAct::Ask {
            service,
            event: Event::ResumeAsked,
        });
    }
    if chance.one_in(6) {
        acts.push(PersonAct::Place {
            service,
            host: chance.index(hosts),
            there: chance.one_in(2),
        });
    }
    if chance.one_in(10) {
        acts.push(PersonAct::RevertOnHost {
            service,
            host: chance.index(hosts),
        });
    }
    if chance.one_in(12) {
        let host = chance.index(hosts);
        acts.push(PersonAct::HoldOnHost {
            service,
            host,
            hold: true,
        });
        acts.push(PersonAct::HoldOnHost {
            service,
            host,
            hold: false,
        });
    }
    for act in acts {
        let at = world.chance.between(3 * S, last + 10 * S);
        world.later(at, Happening::Person(act));
    }
}

impl World {
    pub(crate) fn person(&mut self, act: PersonAct) {
        match act {
            PersonAct::Deploy { .. } => self.deploy(act),
            PersonAct::Ask { service, event } => {
                if self.ask(service, event.clone()) {
                    self.tally
                        .count("people", crate::agent::short(&format!("{event:?}")));
                }
            }
            PersonAct::Place {
                service,
                host,
                there,
            } => self.services[service].placement[host] = there,
            PersonAct::RevertOnHost { service, host } => {
                self.hosts[host].hand[service] = self.now;
                self.tally.count("people", "revert on the host");
                let _ = self.tell(host, service, cutover_core::swap::Event::RevertAsked);
            }
            // Whoever holds lets go in the end.
            PersonAct::HoldOnHost { hold: true, .. } if self.healed_at.is_some() => {}
            PersonAct::HoldOnHost {
                service,
                host,
                hold,
            } => {
                self.tally.count("people", "hold on the host");
                let _ = self.tell(host, service, cutover_core::swap::Event::HoldAsked(hold));
            }
        }
    }

    fn deploy(&mut self, act: PersonAct) {
        let PersonAct::Deploy {
            service,
            to,
            policy,
            if_busy,
            tries,
        } = act
        else {
            return;
        };
        let again = |after: u64, world: &mut Self, policy: RolloutPolicy| {
            if tries < 60 {
                let act = PersonAct::Deploy {
                    service,
                    to,
                    policy,
                    if_busy,
                    tries: tries + 1,
                };
                world.later(after, Happening::Person(act));
            }
        };
        if !self.coordinator.is_up() {
            return again(S, self, policy);
        }
        if self.coordinator.open(service).is_some() {
            match if_busy {
                IfBusy::Refuse => self
                    .tally
                    .count("coordinator", "refused a rollout: one was open"),
                IfBusy::Wait => again(2 * S, self, policy),
                IfBusy::Supersede => {
                    self.ask(
                        service,
                        Event::AbortAsked("a newer rollout takes its place".to_owned()),
                    );
                    again(S, self, policy);
                }
            }
            return;
        }
        let Some(plan) = self.plan(service, to, policy) else {
            self.tally.count("coordinator", "nothing to do");
            return;
        };
        self.open_rollout(service, plan);
    }

    /// From what the hosts have reported to what shall be.
    fn plan(
        &mut self,
        service: usize,
        to: Option<RevisionNumber>,
        policy: RolloutPolicy,
    ) -> Option<RolloutPlan> {
        let number = self.serial();
        // A report was lost, or its journal was, and the containers were adopted after the hello.
        let old_news: Vec<Option<Option<RevisionNumber>>> = (0..self.hosts.len())
            .map(|_| {
                let strikes = self.strikes(Fault::PlannedOnOldNews);
                strikes.then(|| self.chance.pick(&[None, None, Some(RevisionNumber::FIRST)]))
            })
            .collect();
        let of = &self.services[service];
        let memory = self.coordinator.memory.as_ref()?;
        let (mut hosts, mut skipped) = (Vec::new(), Vec::new());
        for (host, old) in old_news.into_iter().enumerate() {
            let report = memory.reports.get(&(host, service));
            let current = old.unwrap_or(report.and_then(|report| report.current));
            let wanted = to.filter(|_| of.placement[host]);
            let kind = match (current, wanted) {
                (None, None) => continue,
                (Some(has), Some(shall)) if has == shall => continue,
                (None, Some(shall)) => Kind::First {
                    candidate: of.side(shall),
                },
                (Some(has), Some(shall)) => Kind::Change {
                    incumbent: of.side(has),
                    candidate: of.side(shall),
                },
                (Some(has), None) => Kind::Retire {
                    incumbent: of.side(has),
                },
            };
            if self.coordinator.session(host).is_none() {
                skipped.push(name(host));
                continue;
            }
            let fence = report.map(|report| report.fence).unwrap_or_default();
            hosts.push(HostPlan {
                host: name(host),
                kind,
                fence,
            });
        }
        (!hosts.is_empty()).then(|| RolloutPlan {
            id: match format!("r{number}").parse() {
                Ok(id) => id,
                Err(error) => unreachable!("{error}"),
            },
            service: of.id.clone(),
            epoch: self.coordinator.store.epoch,
            policy,
            hosts,
            skipped,
            lease: Duration::from_nanos(LEASE),
            progress: Duration::from_nanos(PROGRESS),
            retain: 1,
        })
    }
}

/// A plan in a line.
pub(crate) fn describe(plan: &RolloutPlan) -> String {
    let hosts = plan.hosts.iter().map(|host| {
        let say = |side: Option<&cutover_core::swap::Side>| {
            side.map_or("∅".to_owned(), |side| side.revision.to_string())
        };
        format!(
            "{} {}→{}",
            host.host,
            say(host.kind.incumbent()),
            say(host.kind.candidate())
        )
    });
    format!(
        "{:?} {:?}, wave {}, budget {} {:?}, commit {:?}, drain {:?}, observe {:?}: {} (skipped {:?})",
        plan.policy.strategy,
        plan.policy.order,
        plan.policy.wave,
        plan.policy.failure_budget,
        plan.policy.on_failure,
        plan.policy.commit,
        plan.policy.drain,
        plan.policy.observe,
        hosts.collect::<Vec<_>>().join(", "),
        plan.skipped.len(),
    )
}

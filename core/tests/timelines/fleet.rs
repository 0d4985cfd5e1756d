//! One rollout, and hosts that report what the script says.

use std::time::Duration;

use cutover_core::rollout::{Event, Fact, HostPlan, Rollout, RolloutPlan, Stamped};
use cutover_core::spec::{CommitRule, OnFailure, Order, RolloutPolicy, Strategy};
use cutover_core::swap::{Phase, Report, Stamp, SwapOrder, SwapReport, Target};
use cutover_core::{Generation, HostId, Moment, Route, Slot};

use crate::bench::{at, change, revision, side};

pub fn policy(strategy: Strategy, wave: u32) -> RolloutPolicy {
    RolloutPolicy {
        strategy,
        order: Order::StartFirst,
        wave,
        delay: Duration::ZERO,
        failure_budget: 0,
        on_failure: OnFailure::Rollback,
        observe: Duration::from_secs(30),
        drain: Duration::from_secs(30),
        commit: CommitRule::PerWave,
    }
}

pub fn rolling(hosts: u64) -> RolloutPlan {
    plan(policy(Strategy::Rolling, 1), hosts)
}

pub fn plan(policy: RolloutPolicy, hosts: u64) -> RolloutPlan {
    let host = |n: u64| HostPlan {
        host: host(n),
        kind: change(side(1), side(2)),
        fence: Generation::NONE,
    };
    RolloutPlan {
        id: "r1".parse().unwrap(),
        service: "shop/web".parse().unwrap(),
        epoch: 1,
        policy,
        hosts: (1..=hosts).map(host).collect(),
        skipped: Vec::new(),
        lease: Duration::from_secs(15),
        progress: Duration::from_secs(60),
        retain: 1,
    }
}

pub fn host(n: u64) -> HostId {
    format!("h{n}").parse().unwrap()
}

/// What a host says of its swap.
pub struct Says {
    pub reached: Option<Target>,
    pub watched: bool,
    pub healthy: bool,
    pub reverting: bool,
    pub over: bool,
    pub why: Option<&'static str>,
}

pub fn is(target: Target) -> Says {
    Says {
        reached: Some(target),
        watched: false,
        healthy: true,
        reverting: target == Target::Reverted,
        over: matches!(target, Target::Committed | Target::Reverted),
        why: None,
    }
}

pub fn watched() -> Says {
    Says {
        watched: true,
        ..is(crate::bench::SERVING)
    }
}

pub fn sick(why: &'static str) -> Says {
    Says {
        why: Some(why),
        over: false,
        ..is(Target::Reverted)
    }
}

pub struct Fleet {
    pub rollout: Rollout,
    pub facts: Vec<Stamped>,
    pub now: u64,
    told: Vec<String>,
}

impl Fleet {
    /// All hosts are there and run the first revision.
    pub fn new(plan: RolloutPlan) -> Self {
        let hosts: Vec<HostId> = plan.hosts.iter().map(|host| host.host.clone()).collect();
        let mut fleet = Self {
            rollout: Rollout::begin(plan, at(1_000)),
            facts: Vec::new(),
            now: 1_000,
            told: Vec::new(),
        };
        for host in hosts {
            fleet.tell(Event::Heard {
                host,
                clock: at(500_000),
            });
        }
        fleet
    }

    pub fn tell(&mut self, event: Event) {
        let facts = self.rollout.handle(at(self.now), event);
        self.told
            .extend(facts.iter().map(|stamped| say(&stamped.fact)));
        self.facts.extend(facts);
    }

    pub fn told(&mut self, expected: &[&str]) {
        assert_eq!(self.take(), expected);
    }

    pub fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.told)
    }

    /// A host's report on the swap that it was ordered.
    pub fn says(&mut self, n: u64, says: Says) {
        let generation = self.generation(n).expect("it was ordered");
        self.says_of(n, generation, says);
    }

    pub fn says_of(&mut self, n: u64, generation: Generation, says: Says) {
        let current = if says.reached == Some(Target::Committed) {
            2
        } else {
            1
        };
        let report = self.report(n, generation, Some((generation, says)), Some(current));
        self.tell(Event::Reported(host(n), Box::new(report)));
    }

    pub fn report(
        &self,
        _n: u64,
        fence: Generation,
        swap: Option<(Generation, Says)>,
        current: Option<u64>,
    ) -> Report {
        Report {
            service: "shop/web".parse().unwrap(),
            stamp: Stamp {
                start: 1,
                at: at(500_000 + self.now),
            },
            fence,
            current: current.map(revision),
            parked: Vec::new(),
            route: Route::Alone(Slot::Blue),
            replicas: (1, 1),
            warnings: Vec::new(),
            hold: false,
            swap: swap.map(|(generation, says)| SwapReport {
                generation,
                rollout: "r1".parse().unwrap(),
                incumbent: Some(revision(1)),
                candidate: Some(revision(2)),
                phase: (!says.over).then_some(Phase::Serving),
                reached: says.reached,
                reverting: says.reverting,
                healthy: says.healthy,
                watched: says.watched,
                why: says.why.map(str::to_owned),
                trouble: None,
                waits: None,
            }),
            refusal: None,
        }
    }

    /// From prepared through serving to the end of its window.
    pub fn serves(&mut self, n: u64) {
        self.says(n, is(crate::bench::SERVING));
        self.now += 30_000;
        self.says(n, watched());
    }

    pub fn leaves(&mut self, n: u64) {
        self.tell(Event::Left(host(n)));
    }

    pub fn pass_time(&mut self, millis: u64) {
        let end = self.now + millis;
        while let Some(next) = self
            .rollout
            .deadline(at(self.now))
            .filter(|next| *next <= at(end))
        {
            assert!(next > at(self.now), "a deadline lies ahead");
            self.now = next.as_nanos().div_ceil(1_000_000);
            self.tell(Event::Ticked);
        }
        self.now = end;
        self.tell(Event::Ticked);
    }

    pub fn order(&self, n: u64) -> Option<SwapOrder> {
        let orders = self.rollout.orders(at(self.now));
        orders
            .into_iter()
            .find(|(name, _)| *name == host(n))
            .map(|(_, order)| order)
    }

    pub fn target(&self, n: u64) -> Option<Target> {
        let view = self.rollout.view();
        view.hosts.iter().find(|view| view.host == host(n))?.target
    }

    pub fn generation(&self, n: u64) -> Option<Generation> {
        self.facts
            .iter()
            .rev()
            .find_map(|stamped| match &stamped.fact {
                Fact::Ordered {
                    host: name,
                    generation,
                    ..
                } if *name == host(n) => Some(*generation),
                _ => None,
            })
    }

    pub fn moment(&self) -> Moment {
        at(self.now)
    }
}

pub fn say(fact: &Fact) -> String {
    match fact {
        Fact::WaveBegan { wave } => format!("wave {wave} began"),
        Fact::Ordered {
            host,
            generation,
            target,
            counter,
        } => {
            let counter = if *counter { ", counter" } else { "" };
            format!("{host} ordered {target} in {generation}{counter}")
        }
        Fact::Reached { host, target } => format!("{host} is {target}"),
        Fact::WasThere { host } => format!("{host} ran it already"),
        Fact::Fell { host, why } => format!("{host} fell: {why}"),
        Fact::CommitDecided { hosts } => {
            let names: Vec<_> = hosts.iter().map(ToString::to_string).collect();
            format!("commit decided: {}", names.join(" "))
        }
        Fact::WaveEnded { wave } => format!("wave {wave} ended"),
        Fact::Held { why } => format!("held: {why}"),
        Fact::RollbackDecided { why, .. } => format!("rollback: {why}"),
        Fact::Closed(outcome) => format!("closed {outcome:?}"),
        fact => format!("{fact:?}"),
    }
}

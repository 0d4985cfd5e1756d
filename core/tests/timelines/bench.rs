//! One berth, its containers and its clock, driven by a script.

use std::collections::BTreeMap;
use std::time::Duration;

use cutover_core::spec::{Order, RestartCondition, RestartPolicy};
use cutover_core::swap::{
    Action, Berth, Event, Fact, Failure, Incarnation, Kind, Phase, Seen, SeenReplica, SeenState,
    Side, Stamped, SwapOrder, SwapPlan, Target, Want,
};
use cutover_core::{Generation, Moment, RevisionNumber, Route, Slot, Weight};

pub const SERVING: Target = Target::Serving(Weight::FULL);

pub fn revision(n: u64) -> RevisionNumber {
    RevisionNumber::new(n).unwrap()
}

pub fn generation(number: u64) -> Generation {
    Generation { epoch: 1, number }
}

pub fn at(millis: u64) -> Moment {
    Moment::from_millis(millis)
}

pub fn side(n: u64) -> Side {
    Side {
        revision: revision(n),
        replicas: 1,
        traffic: true,
        smoke: false,
        successes: 2,
        failures: 3,
        hangs_after: None,
        within: Duration::from_secs(10),
        settle: Duration::ZERO,
        stop_grace: Duration::from_secs(5),
        restart: RestartPolicy {
            condition: RestartCondition::Any,
            delay: Duration::from_secs(1),
            max_attempts: Some(2),
            window: Duration::from_secs(60),
        },
    }
}

pub fn change(incumbent: Side, candidate: Side) -> Kind {
    Kind::Change {
        incumbent,
        candidate,
    }
}

pub fn plan(number: u64, kind: Kind) -> SwapPlan {
    SwapPlan {
        service: "shop/web".parse().unwrap(),
        rollout: format!("r{number}").parse().unwrap(),
        generation: generation(number),
        kind,
        order: Order::StartFirst,
        drain: Duration::from_secs(30),
        observe: Duration::from_secs(30),
        retain: 1,
    }
}

pub struct Bench {
    pub berth: Berth,
    pub now: u64,
    pub containers: BTreeMap<(Slot, u64, u32), SeenState>,
    pub facts: Vec<Stamped>,
    /// Actions that are wanted are done at once; else the script does them.
    pub obliging: bool,
    /// What is started ends, with code 1, before anybody looks.
    pub stillborn: bool,
    lives: u64,
    told: Vec<String>,
}

impl Bench {
    /// A host that has looked and found nothing.
    pub fn empty() -> Self {
        let mut bench = Self {
            berth: Berth::new("shop/web".parse().unwrap()),
            now: 0,
            containers: BTreeMap::new(),
            facts: Vec::new(),
            obliging: true,
            stillborn: false,
            lives: 0,
            told: Vec::new(),
        };
        bench.look();
        bench
    }

    /// A host where this side runs in blue, proved and routed to.
    pub fn running(side: &Side) -> Self {
        let mut bench = Self::empty();
        let adopted = Stamped {
            at: at(0),
            fact: Fact::Adopted {
                side: side.clone(),
                slot: Slot::Blue,
            },
        };
        bench.berth.apply(adopted.at, &adopted.fact);
        bench.facts.push(adopted);
        for n in 1..=side.replicas {
            let life = bench.life();
            bench
                .containers
                .insert((Slot::Blue, side.revision.get(), n), life);
        }
        bench.look();
        bench.pass(Slot::Blue);
        bench.take();
        bench
    }

    fn life(&mut self) -> SeenState {
        self.lives += 1;
        SeenState::Up(Incarnation(self.lives))
    }

    /// What was told since the last time.
    pub fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.told)
    }

    pub fn told(&mut self, expected: &[&str]) {
        assert_eq!(self.take(), expected);
    }

    pub fn phase(&self) -> Option<Phase> {
        self.berth.phase()
    }

    /// Tells one event, and does what follows.
    pub fn tell(&mut self, event: Event) {
        let facts = self.berth.handle(at(self.now), event);
        self.note(facts);
        self.oblige();
    }

    fn note(&mut self, facts: Vec<Stamped>) {
        self.told
            .extend(facts.iter().map(|stamped| say(&stamped.fact)));
        self.facts.extend(facts);
    }

    /// Flips at once, and performs what is wanted, until nothing is.
    pub fn oblige(&mut self) {
        for _ in 0..50 {
            let want = self.berth.want(at(self.now));
            if let Some(route) = want.flip {
                let facts = self.berth.handle(at(self.now), Event::Flipped(route));
                self.note(facts);
            } else if let Some(action) = first(&want).filter(|_| self.obliging) {
                self.told.push(format!("> {}", act(action)));
                let facts = self.berth.handle(at(self.now), Event::Began(action));
                self.note(facts);
                self.perform(action);
                let seen = self.seen(false);
                let facts = self.berth.handle(at(self.now), Event::Saw(seen));
                self.note(facts);
                let facts = self.berth.handle(at(self.now), Event::Did(action));
                self.note(facts);
            } else {
                return;
            }
        }
        panic!("it never comes to rest: {:?}", self.told);
    }

    /// Makes the containers so.
    pub fn perform(&mut self, action: Action) {
        let replicas = self
            .berth
            .candidate()
            .or_else(|| self.berth.current().cloned())
            .map_or(1, |settled| settled.side.replicas);
        for n in 1..=replicas {
            match action {
                Action::Make { slot, revision } => {
                    self.containers
                        .entry((slot, revision.get(), n))
                        .or_insert(SeenState::Created);
                }
                Action::Start { slot, revision } => {
                    let life = if self.stillborn {
                        SeenState::Down(1)
                    } else {
                        self.life()
                    };
                    let place = self
                        .containers
                        .entry((slot, revision.get(), n))
                        .or_insert(SeenState::Created);
                    if !matches!(place, SeenState::Up(_)) {
                        *place = life;
                    }
                }
                Action::Halt {
                    slot,
                    revision,
                    replica,
                } => {
                    if let Some(place) = self.containers.get_mut(&(slot, revision.get(), replica)) {
                        *place = SeenState::Down(0);
                    }
                }
                Action::Stop { slot, revision } => {
                    if let Some(place) = self.containers.get_mut(&(slot, revision.get(), n)) {
                        *place = SeenState::Down(0);
                    }
                }
                Action::Remove { slot, revision } => {
                    self.containers.remove(&(slot, revision.get(), n));
                }
                Action::Fetch { .. } | Action::Smoke { .. } | Action::Prove(_) => {}
            }
        }
    }

    fn seen(&self, engine_restarted: bool) -> Seen {
        let replicas = self
            .containers
            .iter()
            .map(|((slot, n, replica), state)| SeenReplica {
                slot: *slot,
                replica: *replica,
                revision: revision(*n),
                state: *state,
            });
        Seen {
            replicas: replicas.collect(),
            engine_restarted,
        }
    }

    pub fn look(&mut self) {
        let seen = self.seen(false);
        self.tell(Event::Saw(seen));
    }

    /// The engine restarted and took all containers along.
    pub fn restart_engine(&mut self) {
        self.tell(Event::EngineLost);
        for state in self.containers.values_mut() {
            if matches!(state, SeenState::Up(_)) {
                *state = SeenState::Down(137);
            }
        }
        let seen = self.seen(true);
        self.tell(Event::Saw(seen));
    }

    /// Time passes; whenever it must be woken, it is.
    pub fn pass_time(&mut self, millis: u64) {
        let end = self.now + millis;
        while let Some(deadline) = self
            .berth
            .deadline(at(self.now))
            .filter(|d| d.at <= at(end))
        {
            assert!(deadline.at > at(self.now), "a deadline lies ahead");
            self.now = deadline.at.as_nanos().div_ceil(1_000_000);
            self.tell(Event::Ticked);
        }
        self.now = end;
        self.tell(Event::Ticked);
    }

    pub fn sample(&mut self, slot: Slot, healthy: bool) {
        self.sample_some(slot, healthy, |_| true);
    }

    /// One replica is sampled so often.
    pub fn sample_one(&mut self, slot: Slot, replica: u32, healthy: bool, times: u32) {
        for _ in 0..times {
            self.sample_some(slot, healthy, |n| n == replica);
        }
    }

    fn sample_some(&mut self, slot: Slot, healthy: bool, which: impl Fn(u32) -> bool) {
        let running: Vec<(u32, Incarnation)> = self
            .containers
            .iter()
            .filter_map(|((s, _, n), state)| match state {
                SeenState::Up(life) if *s == slot && which(*n) => Some((*n, *life)),
                SeenState::Up(_) | SeenState::Created | SeenState::Down(_) => None,
            })
            .collect();
        for (replica, incarnation) in running {
            self.tell(Event::Sampled {
                slot,
                replica,
                incarnation,
                healthy,
                evidence: if healthy {
                    String::new()
                } else {
                    "503".to_owned()
                },
            });
        }
    }

    /// All that run in a slot pass.
    pub fn pass(&mut self, slot: Slot) {
        self.sample(slot, true);
        self.sample(slot, true);
    }

    /// The kernel says that its process is gone, before the engine does.
    pub fn vanishes(&mut self, slot: Slot, n: u64) {
        self.vanishes_one(slot, n, 1);
    }

    pub fn vanishes_one(&mut self, slot: Slot, n: u64, replica: u32) {
        let SeenState::Up(incarnation) = self.containers[&(slot, n, replica)] else {
            panic!("it does not run")
        };
        self.tell(Event::Vanished {
            slot,
            replica,
            incarnation,
        });
    }

    pub fn exits(&mut self, slot: Slot, n: u64, code: i64) {
        self.exits_one(slot, n, 1, code);
    }

    pub fn exits_one(&mut self, slot: Slot, n: u64, replica: u32, code: i64) {
        let state = self.containers.get_mut(&(slot, n, replica)).unwrap();
        let SeenState::Up(incarnation) = *state else {
            panic!("it does not run")
        };
        *state = SeenState::Down(code);
        self.tell(Event::Exited {
            slot,
            replica,
            incarnation,
            code,
        });
    }

    /// The step that is wanted now.
    pub fn step(&self) -> Option<Action> {
        self.berth.want(at(self.now)).step
    }

    /// The restarts and halts that are wanted now.
    pub fn upkeep(&self) -> Vec<Action> {
        self.berth.want(at(self.now)).upkeep
    }

    /// The only one of them.
    pub fn restart(&self) -> Option<Action> {
        let upkeep = self.upkeep();
        assert!(upkeep.len() < 2, "{upkeep:?}");
        upkeep.first().copied()
    }

    /// The step that is wanted fails.
    pub fn fails(&mut self, transient: bool, reason: &str) {
        let step = self.step().expect("a step");
        self.failed(step, transient, reason);
    }

    pub fn failed(&mut self, action: Action, transient: bool, reason: &str) {
        let failure = Failure {
            transient,
            reason: reason.to_owned(),
        };
        self.tell(Event::Failed(action, failure));
    }

    pub fn order(&mut self, plan: &SwapPlan, target: Target) {
        self.order_for(plan, target, 60_000);
    }

    pub fn order_for(&mut self, plan: &SwapPlan, target: Target, lease: u64) {
        self.tell(Event::Ordered(SwapOrder {
            plan: Some(Box::new(plan.clone())),
            generation: plan.generation,
            target,
            lease_until: at(self.now + lease),
        }));
    }

    /// Ordered and told to serve until the candidate serves in green.
    pub fn serving(plan: &SwapPlan) -> Self {
        let mut bench = Self::running(plan.kind.incumbent().unwrap());
        bench.order(plan, SERVING);
        bench.order(plan, SERVING);
        bench.pass(Slot::Green);
        assert_eq!(bench.phase(), Some(Phase::Serving));
        bench.take();
        bench
    }

    /// The agent starts again from its journal.
    pub fn restart_agent(&mut self, rebooted: bool) {
        let route = self.berth.route();
        self.berth = Berth::replay("shop/web".parse().unwrap(), &self.facts);
        if rebooted {
            self.now = 0;
            self.tell(Event::Rebooted);
        }
        self.tell(Event::Flipped(route));
    }

    /// The replicas that shall get no requests.
    pub fn out(&self) -> Vec<(Slot, u32)> {
        let out = self.berth.want(at(self.now)).out;
        out.unwrap().into_iter().collect()
    }

    pub fn warnings(&self) -> Vec<String> {
        self.berth.report(1, at(self.now)).warnings
    }

    pub fn route(&self) -> Route {
        self.berth.route()
    }
}

/// What serves comes first.
fn first(want: &Want) -> Option<Action> {
    want.upkeep.iter().copied().chain(want.step).next()
}

fn say(fact: &Fact) -> String {
    match fact {
        Fact::Opened { slot, .. } => format!("Opened in {slot}"),
        Fact::Targeted(target) => format!("Targeted {target}"),
        Fact::CutOver(route) => format!("CutOver {route}"),
        Fact::Passed { slot, replica, .. } => format!("Passed {slot} {replica}"),
        Fact::Sickened { why } => format!("Sickened: {why}"),
        Fact::Hung {
            slot, replica, why, ..
        } => format!("Hung {slot} {replica}: {why}"),
        Fact::Fenced(generation) => format!("Fenced {generation}"),
        Fact::Drained { open } => format!("Drained {open}"),
        Fact::Emptied { open } => format!("Emptied {open}"),
        Fact::Discarded { revision } => format!("Discarded @{revision}"),
        fact => format!("{fact:?}"),
    }
}

fn act(action: Action) -> String {
    match action {
        Action::Fetch { revision } => format!("fetch @{revision}"),
        Action::Make { slot, revision } => format!("make {slot} @{revision}"),
        Action::Start { slot, revision } => format!("start {slot} @{revision}"),
        Action::Smoke {
            slot,
            through_listener: false,
            ..
        } => format!("smoke {slot}"),
        Action::Smoke {
            slot,
            through_listener: true,
            ..
        } => format!("smoke {slot} through nginx"),
        Action::Prove(route) => format!("prove {route}"),
        Action::Halt {
            slot,
            revision,
            replica,
        } => format!("halt {slot} @{revision} {replica}"),
        Action::Stop { slot, revision } => format!("stop {slot} @{revision}"),
        Action::Remove { slot, revision } => format!("remove {slot} @{revision}"),
    }
}

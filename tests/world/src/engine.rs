//! Docker, the registry, and the actions that an agent performs with them.
//!
//! An action is a row of calls, one a replica; the agent may die between two,
//! and the engine may do what it was asked though nobody hears of it.

use cutover_core::swap::{Action, Event, Incarnation};
use cutover_core::{RevisionNumber, Slot};

use crate::fault::Fault;
use crate::host::{Container, ContainerKey, Ender, State, subject};
use crate::promises;
use crate::queue::Happening;
use crate::world::{MS, S, Temper, World};

/// An action under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Doing {
    pub(crate) id: u64,
    pub(crate) host: usize,
    pub(crate) life: u64,
    pub(crate) service: usize,
    pub(crate) action: Action,
    /// The replica that the call under way is about, from 1.
    pub(crate) replica: u32,
    /// The life that the call found there, if it starts or stops one: it ends no other.
    pub(crate) found: Option<Incarnation>,
}

/// What a call came to; `Err`: whether trying again may help, and why.
type Came = Result<(), (bool, &'static str)>;

impl World {
    pub(crate) fn begin(&mut self, doing: Doing) {
        self.say(|| {
            format!(
                "h{} s{}    > {}",
                doing.host,
                doing.service,
                crate::agent::short(&format!("{:?}", doing.action))
            )
        });
        self.tally.count("actions", kind(doing.action));
        self.comes_round(doing);
        self.call(doing);
    }

    /// What hung answers again, now that it is told to stop.
    fn comes_round(&mut self, doing: Doing) {
        let Action::Halt {
            slot,
            revision,
            replica,
        } = doing.action
        else {
            return;
        };
        let (now, key) = (self.now, (doing.service, slot, revision, replica));
        if self.strikes(Fault::HungComesRound)
            && let Some(container) = self.hosts[doing.host].containers.get_mut(&key)
            && let State::Up { sick_from, .. } = &mut container.state
            && *sick_from <= now
        {
            *sick_from = u64::MAX;
            container.sick_at = now;
        }
    }

    /// Sends the next call of an action.
    fn call(&mut self, doing: Doing) {
        let life = self.life_at(doing);
        let (least, most) = match doing.action {
            // Some images are large, and some registries far away.
            Action::Fetch { .. } if self.chance.one_in(8) => (2_000, 15_000),
            Action::Fetch { .. } => (20, 300),
            Action::Make { .. } => (20, 100),
            Action::Start { .. } if life.is_none() && self.strikes(Fault::StartSlow) => {
                (1_000, 25_000)
            }
            Action::Start { .. } => (20, 150),
            Action::Smoke { .. } => (3, 1_500),
            Action::Prove(_) => (2, 30),
            // What hangs may take all of its grace.
            Action::Halt { .. } => (5, 3_000),
            // Some finish what they have begun.
            Action::Stop { .. } if self.chance.one_in(8) => (500, 4_000),
            Action::Stop { .. } => (5, 500),
            Action::Remove { .. } => (10, 80),
        };
        let after = self.chance.between(least * MS, most * MS);
        self.later(
            after,
            Happening::Act(Doing {
                found: life,
                ..doing
            }),
        );
    }

    /// The life that a call to start or to stop finds.
    fn life_at(&self, doing: Doing) -> Option<Incarnation> {
        let (Action::Start { slot, revision } | Action::Stop { slot, revision }) = doing.action
        else {
            return None;
        };
        let key = (doing.service, slot, revision, doing.replica);
        let container = self.hosts[doing.host].containers.get(&key);
        container.and_then(Container::up)
    }

    /// A call reaches what it is about.
    pub(crate) fn act(&mut self, doing: Doing) {
        if !self.hosts[doing.host].up {
            return;
        }
        if !self.lives(doing.host, doing.life) {
            // It was sent before its sender died.
            if self.chance.one_in(2) {
                // Long before, maybe: whoever came after it could not know.
                if matches!(doing.action, Action::Start { .. }) && self.faults.has(Fault::StartSlow)
                {
                    self.hosts[doing.host].haunted_until = self.now + S;
                }
                if doing.found == self.life_at(doing) {
                    promises::before_late_stop(self, doing.host, doing.service, doing.action);
                    self.late_effect(doing);
                }
            }
            return;
        }
        let result = self.come(doing);
        let replicas = self.services[doing.service].replicas;
        let rows = matches!(
            doing.action,
            Action::Make { .. }
                | Action::Start { .. }
                | Action::Stop { .. }
                | Action::Remove { .. }
        );
        match result {
            Some(Ok(())) if rows && doing.replica < replicas => {
                self.call(Doing {
                    replica: doing.replica + 1,
                    ..doing
                });
            }
            Some(result) => self.later(MS, Happening::Acted { doing, result }),
            None => self.later(
                S,
                Happening::Acted {
                    doing,
                    result: Err((true, "no answer in time")),
                },
            ),
        }
    }

    /// `None`: no answer comes.
    fn come(&mut self, doing: Doing) -> Option<Came> {
        if self.strikes(Fault::ActionFails) {
            return Some(Err((true, "it failed for a while")));
        }
        let judged = matches!(
            doing.action,
            Action::Fetch { .. } | Action::Make { .. } | Action::Start { .. }
        );
        if judged && self.strikes(Fault::ActionFailsForGood) {
            return Some(Err((false, "it failed for good")));
        }
        if self.strikes(Fault::ReplyLost) {
            let after = self.chance.between(MS, 6 * S);
            self.hosts[doing.host].haunted_until = self.now + 8 * S;
            self.later(after, Happening::LateEffect(doing));
            return None;
        }
        Some(self.effect(doing))
    }

    pub(crate) fn late_effect(&mut self, doing: Doing) {
        self.say(|| {
            format!(
                "h{} s{} late: {:?}",
                doing.host, doing.service, doing.action
            )
        });
        if let (Action::Stop { slot, revision } | Action::Halt { slot, revision, .. }, true) =
            (doing.action, self.hosts[doing.host].engine.up)
        {
            // Nobody asks for it any more: to those who are there it ends by itself.
            let replica = halted(doing.action).unwrap_or(doing.replica);
            let key = (doing.service, slot, revision, replica);
            self.end(doing.host, key, Ender::Itself, 0, true);
            return;
        }
        let _ = self.effect(doing);
    }

    pub(crate) fn acted(&mut self, doing: Doing, result: Came) {
        let Doing {
            id,
            host,
            life,
            service,
            action,
            ..
        } = doing;
        if !self.lives(host, life) {
            return;
        }
        if !matches!(action, Action::Prove(_) | Action::Smoke { .. })
            && self.see_now(host, service).is_err()
        {
            return;
        }
        let Ok(keeper) = self.keeper(host, service) else {
            return;
        };
        if !keeper.lays_down(action, id) {
            return;
        }
        let event = match result {
            Ok(()) => Event::Did(action),
            Err((transient, reason)) => Event::Failed(
                action,
                cutover_core::swap::Failure {
                    transient,
                    reason: reason.to_owned(),
                },
            ),
        };
        let _ = self.tell(host, service, event);
    }

    /// Makes the world so.
    fn effect(&mut self, doing: Doing) -> Came {
        let Doing {
            host,
            service,
            action,
            replica,
            ..
        } = doing;
        if !self.hosts[host].up {
            return Err((true, "the host is down"));
        }
        let (slot, revision) = subject(action);
        let replica = halted(action).unwrap_or(replica);
        let key = slot
            .zip(revision)
            .map(|(slot, revision)| (service, slot, revision, replica));
        match (action, key) {
            (Action::Prove(route), _) => {
                let front = &self.hosts[host].fronts[service];
                if !self.hosts[host].nginx_up {
                    Err((true, "nginx is down"))
                } else if front.actual() != route {
                    Err((true, "nginx shows another slot"))
                } else {
                    Ok(())
                }
            }
            (
                Action::Smoke {
                    slot,
                    revision,
                    through_listener,
                },
                _,
            ) => self.smoke(host, service, slot, revision, through_listener),
            _ if !self.hosts[host].engine.up => Err((true, "the engine is away")),
            (Action::Fetch { revision }, _) => {
                self.hosts[host].images.insert((service, revision));
                Ok(())
            }
            (Action::Make { .. }, Some(key)) => {
                self.create(host, key);
                Ok(())
            }
            (Action::Start { .. }, Some(key)) => {
                self.create(host, key);
                self.start(host, key)
            }
            (Action::Halt { .. }, Some(key)) => {
                self.halt(host, key);
                Ok(())
            }
            (Action::Stop { .. }, Some(key)) => {
                self.stop(host, key);
                Ok(())
            }
            (Action::Remove { .. }, Some(key)) => {
                self.stop(host, key);
                self.hosts[host].containers.remove(&key);
                Ok(())
            }
            (
                Action::Make { .. }
                | Action::Start { .. }
                | Action::Halt { .. }
                | Action::Stop { .. }
                | Action::Remove { .. },
                None,
            ) => Ok(()),
        }
    }

    fn smoke(
        &mut self,
        host: usize,
        service: usize,
        slot: Slot,
        revision: RevisionNumber,
        through_listener: bool,
    ) -> Came {
        if through_listener && !self.hosts[host].nginx_up {
            return Err((true, "nobody accepts connections"));
        }
        let temper = self.services[service].temper(host, revision);
        for replica in 1..=self.services[service].replicas {
            let found = self.hosts[host].at_address(service, slot, replica);
            if !found.is_some_and(|(_, container)| container.well(self.now)) {
                return Err((false, "/login answered 504"));
            }
        }
        match temper {
            Temper::BadSmoke => Err((false, "/login answered 500")),
            Temper::FlakySmoke if self.chance.one_in(3) => {
                Err((self.chance.one_in(2), "/login answered 502"))
            }
            Temper::FlakySmoke
            | Temper::Good
            | Temper::NeverReady
            | Temper::ExitsAtStart
            | Temper::ExitsAfter(_)
            | Temper::SickAfter(_) => Ok(()),
        }
    }

    fn create(&mut self, host: usize, key: ContainerKey) {
        let (service, _, revision, _) = key;
        self.hosts[host].images.insert((service, revision));
        self.hosts[host].containers.entry(key).or_insert(Container {
            state: State::Created,
            good: 0,
            passed: false,
            passed_at: 0,
            crashed_at: 0,
            sick_at: 0,
        });
    }

    pub(crate) fn start(&mut self, host: usize, key: ContainerKey) -> Came {
        let (service, slot, revision, replica) = key;
        if self.hosts[host].containers[&key].up().is_some() {
            return Ok(());
        }
        if let Some((other, _)) = self.hosts[host].at_address(service, slot, replica) {
            let other = *other;
            self.tally.count("accidents", "address in use");
            self.say(|| format!("h{host} s{service} {other:?} has the address of {key:?}"));
            return Err((true, "the address is in use"));
        }
        promises::before_start(self, host, key);
        let incarnation = Incarnation(self.serial());
        let temper = self.services[service].temper(host, revision);
        let ready_after = self.chance.between(30 * MS, 700 * MS);
        let never = u64::MAX;
        let (ready_at, sick_from, dies) = match temper {
            Temper::NeverReady => (never, never, None),
            Temper::ExitsAtStart => (never, never, Some(self.chance.between(10 * MS, 300 * MS))),
            Temper::ExitsAfter(after) => (self.now + ready_after, never, Some(after)),
            Temper::SickAfter(after) => (self.now + ready_after, self.now + after, None),
            Temper::Good | Temper::FlakySmoke | Temper::BadSmoke => {
                (self.now + ready_after, never, None)
            }
        };
        if let Some(container) = self.hosts[host].containers.get_mut(&key) {
            container.state = State::Up {
                incarnation,
                ready_at,
                sick_from,
            };
            container.good = 0;
            container.passed = false;
        }
        if let Some(after) = dies {
            self.later(
                after,
                Happening::Dies {
                    host,
                    service,
                    slot,
                    revision,
                    replica,
                    incarnation,
                },
            );
        }
        if !self.strikes(Fault::EventLost) {
            self.list(host);
        }
        Ok(())
    }

    fn stop(&mut self, host: usize, key: ContainerKey) {
        if self.hosts[host]
            .containers
            .get(&key)
            .is_some_and(|container| container.up().is_some())
        {
            promises::before_stop(self, host, key);
            self.end(host, key, Ender::Agent, 0, true);
        }
    }

    fn halt(&mut self, host: usize, key: ContainerKey) {
        let up = self.hosts[host].containers.get(&key);
        if up.is_some_and(|container| container.up().is_some()) {
            promises::before_halt(self, host, key);
            self.end(host, key, Ender::Restart, 0, true);
        }
    }

    pub(crate) fn dies(&mut self, host: usize, key: ContainerKey, incarnation: Incarnation) {
        let lives = self.hosts[host]
            .containers
            .get(&key)
            .and_then(Container::up)
            == Some(incarnation);
        if lives {
            self.say(|| format!("h{host} s{} {key:?} exits by itself", key.0));
            let now = self.now;
            if let Some(container) = self.hosts[host].containers.get_mut(&key) {
                container.crashed_at = now;
            }
            self.end(host, key, Ender::Itself, 1, true);
        }
    }

    /// A container ends; the engine tells so unless that is lost.
    pub(crate) fn end(&mut self, host: usize, key: ContainerKey, by: Ender, code: i64, told: bool) {
        let now = self.now;
        let Some(container) = self.hosts[host].containers.get_mut(&key) else {
            return;
        };
        let Some(incarnation) = container.up() else {
            return;
        };
        container.state = State::Down { code, by };
        if by != Ender::Agent {
            container.sick_at = now;
        }
        let (service, slot, _, replica) = key;
        // The kernel says it, too: mostly sooner, and not on every kernel.
        if self.chance.one_in(2) {
            let life = self.hosts[host].life;
            let after = self.chance.between(0, 2 * MS);
            self.later(
                after,
                Happening::Vanished {
                    host,
                    life,
                    service,
                    slot,
                    replica,
                    incarnation,
                },
            );
        }
        let told = told && self.hosts[host].engine.up && !self.strikes(Fault::EventLost);
        let mut late = false;
        if told {
            let life = self.hosts[host].life;
            // Mostly at once; now and then when there is another life already.
            late = self.chance.one_in(12);
            let most = if late { 4 * S } else { 30 * MS };
            let after = self.chance.between(MS, most);
            self.later(
                after,
                Happening::Exited {
                    host,
                    life,
                    service,
                    slot,
                    replica,
                    incarnation,
                    code,
                },
            );
        }
        if by == Ender::Itself {
            promises::watch_reflex(self, host, key, told && !late);
            if told && !late {
                promises::watch_restart(self, host, key);
            }
        }
        self.cut_requests(host, key, incarnation, by);
    }

    /// A sample of an address: what it shows, and after how long.
    pub(crate) fn sample(
        &mut self,
        host: usize,
        service: usize,
        slot: Slot,
        replica: u32,
    ) -> (bool, u64) {
        let now = self.now;
        let quick = self.chance.between(MS, 15 * MS);
        let late = self.chance.one_in(10);
        let well = if late {
            self.chance.between(MS, 3 * S)
        } else {
            quick
        };
        let slow = self.chance.one_in(2);
        let Some(key) = self.hosts[host]
            .at_address(service, slot, replica)
            .map(|(key, _)| *key)
        else {
            // A dead address does not refuse, it blackholes.
            return (false, 250 * MS);
        };
        let Some(container) = self.hosts[host].containers.get_mut(&key) else {
            return (false, quick);
        };
        if container.well(now) {
            container.good += 1;
            if container.good >= 2 && !container.passed {
                container.passed = true;
                container.passed_at = now;
            }
            return (true, well);
        }
        container.good = 0;
        if container.listens(now) {
            container.sick_at = now;
            return (false, if slow { 250 * MS } else { quick });
        }
        (false, quick)
    }

    /// The engine restarts; without live-restore its containers end.
    pub(crate) fn restart_engine(&mut self, host: usize, live: bool) {
        if !self.hosts[host].engine.up || !self.hosts[host].up {
            return;
        }
        // Some ends may still be told before the engine is gone.
        let told = self.chance.one_in(4);
        if !live {
            self.end_all(host, told);
        }
        let engine = &mut self.hosts[host].engine;
        engine.up = false;
        engine.instance += 1;
        engine.down_since = self.now;
        let life = self.hosts[host].life;
        let noticed = self.chance.between(0, 20 * MS);
        self.later(noticed, Happening::EngineNoticed { host, life });
        let back = if self.chance.one_in(40) {
            self.chance.between(100 * S, 140 * S)
        } else {
            self.chance.between(300 * MS, 4 * S)
        };
        self.later(back, Happening::EngineBack { host });
    }

    pub(crate) fn end_all(&mut self, host: usize, told: bool) {
        let up = self.hosts[host]
            .containers
            .iter()
            .filter(|(_, container)| container.up().is_some());
        let keys: Vec<ContainerKey> = up.map(|(key, _)| *key).collect();
        for key in keys {
            self.end(host, key, Ender::Itself, 137, told);
        }
    }

    pub(crate) fn engine_back(&mut self, host: usize) {
        if self.hosts[host].up && !self.hosts[host].engine.up {
            self.hosts[host].engine.up = true;
            self.hosts[host].engine.up_since = self.now;
            let life = self.hosts[host].life;
            let noticed = self.chance.between(MS, 200 * MS);
            self.later(noticed, Happening::EngineNoticed { host, life });
        }
    }
}

/// The one replica that an action is about; `None`: all of them, one after another.
fn halted(action: Action) -> Option<u32> {
    match action {
        Action::Halt { replica, .. } => Some(replica),
        Action::Fetch { .. }
        | Action::Make { .. }
        | Action::Start { .. }
        | Action::Smoke { .. }
        | Action::Prove(_)
        | Action::Stop { .. }
        | Action::Remove { .. } => None,
    }
}

fn kind(action: Action) -> &'static str {
    match action {
        Action::Fetch { .. } => "fetch",
        Action::Make { .. } => "make",
        Action::Start { .. } => "start",
        Action::Smoke { .. } => "smoke",
        Action::Prove(_) => "prove",
        Action::Halt { .. } => "halt",
        Action::Stop { .. } => "stop",
        Action::Remove { .. } => "remove",
    }
}

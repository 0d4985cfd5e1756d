//! Docker and its containers: what a call makes of them, and what they do by themselves.

use cutover_core::swap::{Action, Incarnation};
use cutover_core::{RevisionNumber, Slot};

use crate::action::{Came, Doing};
use crate::fault::Fault;
use crate::host::{Container, ContainerKey, Ender, State, subject};
use crate::promises;
use crate::queue::Happening;
use crate::world::{MS, S, Temper, World};

impl World {
    /// Makes the world so.
    pub(crate) fn effect(&mut self, doing: Doing) -> Came {
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
pub(crate) fn halted(action: Action) -> Option<u32> {
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

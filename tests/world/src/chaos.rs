//! Accidents that need no occasion, and the healing after which there are none.

use cutover_core::rollout::Event;

use crate::fault::Fault;
use crate::host::{ContainerKey, State};
use crate::queue::Happening;
use crate::scenario::LEASE;
use crate::world::{MS, S, World};

/// How often accidents are drawn.
const EVERY: u64 = 500 * MS;
/// After healing, how often it is looked whether the world is at rest.
const LOOK_EVERY: u64 = S;

impl World {
    pub(crate) fn chaos(&mut self) {
        if self.healed_at.is_some() {
            return;
        }
        self.later(EVERY, Happening::Chaos);
        if self.chance.one_in(20) {
            self.coordinator.backup = Some(self.coordinator.store.clone());
        }
        if self.faults.none {
            return;
        }
        self.coordinator_accidents();
        for host in 0..self.hosts.len() {
            if self.hosts[host].up {
                self.host_accidents(host);
            }
        }
    }

    fn coordinator_accidents(&mut self) {
        if self.coordinator.is_up() {
            if self.strikes(Fault::CoordinatorKilled) {
                let after = self.chance.between(50 * MS, 12 * S);
                self.kill_coordinator(after);
            }
            if self.strikes(Fault::CoordinatorReboots) {
                let after = self.chance.between(S, 8 * S);
                self.kill_coordinator(after);
                self.coordinator.booted = self.now;
                self.coordinator.boot_id += 1;
            }
            if self.coordinator.backup.is_some() && self.strikes(Fault::CoordinatorRestored) {
                self.restore();
            }
        }
        if !self.coordinator.disk_full && self.strikes(Fault::CoordinatorDiskFull) {
            self.coordinator.disk_full = true;
            let after = self.chance.between(S, 10 * S);
            self.later(after, Happening::CoordinatorDiskBack);
        }
    }

    fn host_accidents(&mut self, host: usize) {
        if self.strikes(Fault::AgentKilled) {
            self.kill_agent(host);
        }
        if self.strikes(Fault::SessionBreaks) {
            self.break_session(host);
        }
        if !self.hosts[host].partitioned && self.strikes(Fault::Partition) {
            self.hosts[host].partitioned = true;
            self.break_session(host);
            let after = self.chance.between(S, 5 * LEASE);
            self.later(after, Happening::PartitionEnds { host });
        }
        for (fault, live) in [
            (Fault::EngineRestarts, false),
            (Fault::EngineRestartsLive, true),
        ] {
            if self.strikes(fault) {
                self.restart_engine(host, live);
            }
        }
        if self.hosts[host].nginx_up && self.strikes(Fault::NginxDown) {
            self.hosts[host].nginx_up = false;
            let after = self.chance.between(200 * MS, 4 * S);
            self.later(after, Happening::NginxBack { host });
        }
        if self.hosts[host].nginx_up && self.strikes(Fault::NginxStuck) {
            for front in &mut self.hosts[host].fronts {
                front.stuck = Some(front.link);
            }
            let after = self.chance.between(200 * MS, 20 * S);
            self.later(after, Happening::NginxBack { host });
        }
        if self.strikes(Fault::ContainerCrashes) {
            self.crash_one(host);
        }
        if self.strikes(Fault::ContainerHangs) {
            self.hang_one(host);
        }
        if !self.hosts[host].disk.full && self.strikes(Fault::DiskFull) {
            self.hosts[host].disk.full = true;
            self.hosts[host].disk.spare = u32::try_from(self.chance.between(0, 60)).unwrap_or(0);
            let after = self.chance.between(S, 20 * S);
            self.later(after, Happening::DiskBack { host });
        }
        if self.strikes(Fault::PowerCut) {
            self.power_cut(host);
        } else if self.strikes(Fault::Reboot) {
            // dockerd stops its containers; the agent may hear of it first, or not at all.
            self.restart_engine(host, false);
            self.power_cut(host);
        }
    }

    fn crash_one(&mut self, host: usize) {
        let up = self.hosts[host]
            .containers
            .iter()
            .filter_map(|(key, container)| Some((*key, container.up()?)));
        let up: Vec<_> = up.collect();
        if !up.is_empty() {
            let (key, incarnation) = up[self.chance.index(up.len())];
            self.dies(host, key, incarnation);
        }
    }

    /// A replica of a current revision ceases to answer, where that shall be seen to.
    fn hang_one(&mut self, host: usize) {
        let this = &self.hosts[host];
        let settled = |key: &ContainerKey| {
            let durable = &this.durable[key.0];
            let current = durable.current().map(|at| (at.slot, at.side.revision));
            current == Some((key.1, key.2)) && self.services[key.0].hangs_after.is_some()
        };
        let up = this.containers.iter();
        let up = up.filter(|(key, container)| container.well(self.now) && settled(key));
        let up: Vec<ContainerKey> = up.map(|(key, _)| *key).collect();
        if up.is_empty() {
            return;
        }
        let key = up[self.chance.index(up.len())];
        self.say(|| format!("h{host} s{} {key:?} hangs", key.0));
        self.tally.count("accidents", "a committed replica hung");
        let now = self.now;
        if let Some(container) = self.hosts[host].containers.get_mut(&key)
            && let State::Up { sick_from, .. } = &mut container.state
        {
            *sick_from = now;
        }
    }

    fn power_cut(&mut self, host: usize) {
        if !self.hosts[host].up {
            return;
        }
        self.say(|| format!("h{host} loses its power"));
        self.hosts[host].up = false;
        self.kill_agent(host);
        self.end_all(host, false);
        let this = &mut self.hosts[host];
        this.engine.up = false;
        this.requests.clear();
        let after = self.chance.between(S, 15 * S);
        self.later(after, Happening::Boots { host });
    }

    pub(crate) fn boots(&mut self, host: usize) {
        let now = self.now;
        let this = &mut self.hosts[host];
        if this.up {
            return;
        }
        this.up = true;
        this.booted = now;
        this.boot_id += 1;
        this.engine.instance += 1;
        this.nginx_up = true;
        for front in &mut this.fronts {
            front.stuck = None;
        }
        let life = this.life;
        self.say(|| format!("h{host} boots"));
        let engine = self.chance.between(10 * MS, 2 * S);
        self.later(engine, Happening::EngineBack { host });
        let agent = self.chance.between(10 * MS, 2 * S);
        self.later(agent, Happening::AgentStarts { host, life });
    }

    /// From now on nothing goes wrong, and people have said their word.
    pub(crate) fn heal(&mut self) {
        self.say(|| "everything heals".to_owned());
        self.faults.healed = true;
        self.healed_at = Some(self.now);
        self.coordinator.disk_full = false;
        for host in 0..self.hosts.len() {
            let this = &mut self.hosts[host];
            this.disk.full = false;
            this.partitioned = false;
            if !this.up {
                self.boots(host);
            }
            self.nginx_back(host);
            self.engine_back(host);
            for service in 0..self.services.len() {
                let _ = self.tell(host, service, cutover_core::swap::Event::HoldAsked(false));
            }
        }
        for service in 0..self.services.len() {
            // A rollout that waits for a person may go on doing so.
            match self.chance.below(3) {
                0 => self.ask(service, Event::ResumeAsked),
                1 => self.ask(service, Event::AbortAsked("enough of it".to_owned())),
                _ => false,
            };
        }
        self.later(LOOK_EVERY, Happening::Judge);
    }

    /// The containers of a service on a host that are there.
    pub(crate) fn containers_of(&self, host: usize, service: usize) -> Vec<ContainerKey> {
        let all = self.hosts[host].containers.keys();
        all.filter(|(s, ..)| *s == service).copied().collect()
    }
}

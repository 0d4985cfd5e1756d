//! The coordinator's shell: as thin as the real one. It tells its rollouts what
//! happened, saves the facts, and only then sends orders. It may die between any
//! two of these, and come back with an old backup.
//!
//! Of a host that reports an open swap which no rollout of its store ordered, it
//! asks the way back, in a generation above the host's fence, before any order.

mod hear;

use std::collections::BTreeMap;

use cutover_core::rollout::{Event, Fact, Rollout, RolloutPlan, Stamped};
use cutover_core::swap::{Report, SwapOrder, Target};
use cutover_core::{Generation, HostId, Moment};

use crate::agent::{REPORT_EVERY, SAVE_AGAIN};
use crate::fault::Fault;
use crate::promises;
use crate::queue::Happening;
use crate::scenario::LEASE;
use crate::world::{MS, S, World};

/// How long a first share lasts.
const SHARE_FOR: u64 = 3 * S;
/// How often wishes are said again.
const RENEW_EVERY: u64 = LEASE / 3;

/// The coordinator: its machine, its store, and its process while that lives.
#[derive(Debug)]
pub(crate) struct Coordinator {
    pub(crate) booted: u64,
    pub(crate) boot_id: u64,
    pub(crate) life: u64,
    pub(crate) store: Store,
    pub(crate) backup: Option<Store>,
    pub(crate) disk_full: bool,
    pub(crate) memory: Option<Memory>,
    /// When the store was last replaced by an old one.
    pub(crate) restored_at: u64,
    /// When each host was last heard by this process.
    pub(crate) heard_at: BTreeMap<usize, u64>,
}

/// What is durable.
#[derive(Clone, Debug, Default)]
pub(crate) struct Store {
    pub(crate) epoch: u64,
    pub(crate) rollouts: Vec<Saved>,
}

/// One rollout in the store.
#[derive(Clone, Debug)]
pub(crate) struct Saved {
    pub(crate) service: usize,
    pub(crate) plan: RolloutPlan,
    pub(crate) facts: Vec<Stamped>,
    /// The boot that its moments are of; kept together with the facts.
    boot_id: u64,
}

/// The memory of the coordinator's process.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(crate) live: BTreeMap<usize, Live>,
    sessions: BTreeMap<usize, u64>,
    pub(crate) reports: BTreeMap<(usize, usize), Report>,
    clocks: BTreeMap<usize, Moment>,
    /// When each host's newest report of a service was heard.
    pub(crate) told_at: BTreeMap<(usize, usize), u64>,
}

/// One rollout that still speaks.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) machine: Rollout,
    unsaved: Vec<Stamped>,
    sent: BTreeMap<usize, (Generation, Target)>,
    /// When each host was first told to serve, in worlds that begin with a small share.
    shares: BTreeMap<(usize, Generation), u64>,
    wake: Option<u64>,
}

impl Live {
    fn new(machine: Rollout) -> Self {
        Self {
            machine,
            unsaved: Vec::new(),
            sent: BTreeMap::new(),
            shares: BTreeMap::new(),
            wake: None,
        }
    }
}

struct Died;
type Alive = Result<(), Died>;

impl Coordinator {
    pub(crate) fn new(now: u64) -> Self {
        Self {
            booted: now / 2,
            boot_id: 1,
            life: 0,
            store: Store {
                epoch: 1,
                rollouts: Vec::new(),
            },
            backup: None,
            disk_full: false,
            memory: Some(Memory::default()),
            restored_at: 0,
            heard_at: BTreeMap::new(),
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.memory.is_some()
    }

    pub(crate) fn clock(&self, now: u64) -> Moment {
        Moment::from_nanos(now.saturating_sub(self.booted))
    }

    pub(crate) fn session(&self, host: usize) -> Option<u64> {
        self.memory.as_ref()?.sessions.get(&host).copied()
    }

    pub(crate) fn attach(&mut self, host: usize, session: u64) {
        if let Some(memory) = &mut self.memory {
            memory.sessions.insert(host, session);
        }
    }

    /// The open rollout of a service that this process knows.
    pub(crate) fn open(&self, service: usize) -> Option<usize> {
        let live = &self.memory.as_ref()?.live;
        live.iter()
            .find(|(id, live)| {
                self.store.rollouts[**id].service == service && live.machine.outcome().is_none()
            })
            .map(|(id, _)| *id)
    }
}

impl World {
    fn memory(&mut self) -> Result<&mut Memory, Died> {
        self.coordinator.memory.as_mut().ok_or(Died)
    }

    pub(crate) fn kill_coordinator(&mut self, back_after: u64) {
        if self.coordinator.memory.take().is_some() {
            self.say(|| "the coordinator dies".to_owned());
            self.coordinator.life += 1;
            let life = self.coordinator.life;
            self.coordinator.heard_at.clear();
            self.break_all_sessions();
            self.later(back_after, Happening::CoordinatorStarts { life });
        }
    }

    fn coordinator_may_die(&mut self, fault: Fault) -> Alive {
        if self.strikes(fault) {
            let after = self.chance.between(50 * MS, 5 * S);
            self.kill_coordinator(after);
            return Err(Died);
        }
        Ok(())
    }

    pub(crate) fn coordinator_starts(&mut self, life: u64) {
        if self.coordinator.life != life || self.coordinator.memory.is_some() {
            return;
        }
        self.say(|| "the coordinator starts".to_owned());
        let now = self.coordinator.clock(self.now);
        let mut memory = Memory::default();
        for (id, saved) in self.coordinator.store.rollouts.iter().enumerate() {
            if !saved
                .facts
                .iter()
                .any(|stamped| stamped.fact == Fact::Superseded)
            {
                let machine = Rollout::replay(saved.plan.clone(), now, &saved.facts);
                memory.live.insert(id, Live::new(machine));
            }
        }
        let ids: Vec<usize> = memory.live.keys().copied().collect();
        self.coordinator.memory = Some(memory);
        for id in ids {
            let rebooted = self.coordinator.store.rollouts[id].boot_id != self.coordinator.boot_id;
            if rebooted && self.tell_rollout(id, Event::Rebooted).is_err() {
                return;
            }
            if self.tell_rollout(id, Event::Ticked).is_err() {
                return;
            }
        }
        self.later(RENEW_EVERY, Happening::CoordinatorRenews { life });
    }

    /// Tells a rollout what happened, saves what follows, then sends.
    fn tell_rollout(&mut self, id: usize, event: Event) -> Alive {
        let now = self.coordinator.clock(self.now);
        let Some(live) = self.memory()?.live.get_mut(&id) else {
            return Ok(());
        };
        let facts = live.machine.handle(now, event);
        if !facts.is_empty() {
            live.unsaved.extend(facts);
            self.coordinator_may_die(Fault::CoordinatorDiesBeforeSave)?;
            self.save_rollout(id)?;
        }
        self.send_changed(id)?;
        self.wake_for(id)
    }

    fn save_rollout(&mut self, id: usize) -> Alive {
        if self.coordinator.disk_full {
            self.say(|| format!("r{id} can't be saved"));
            let life = self.coordinator.life;
            self.later(SAVE_AGAIN, Happening::CoordinatorRetriesSave { life });
            return Ok(());
        }
        let Some(live) = self.memory()?.live.get_mut(&id) else {
            return Ok(());
        };
        let facts = std::mem::take(&mut live.unsaved);
        for stamped in &facts {
            self.say(|| {
                format!(
                    "r{id}    = {}",
                    crate::agent::short(&format!("{:?}", stamped.fact))
                )
            });
        }
        let saved = &mut self.coordinator.store.rollouts[id];
        saved.facts.extend(facts.iter().cloned());
        saved.boot_id = self.coordinator.boot_id;
        promises::after_deciding(self, id, &facts);
        self.coordinator_may_die(Fault::CoordinatorDiesAfterSave)
    }

    pub(crate) fn coordinator_retries_save(&mut self, life: u64) {
        if self.coordinator.life != life || self.coordinator.disk_full {
            if self.coordinator.life == life {
                self.later(SAVE_AGAIN, Happening::CoordinatorRetriesSave { life });
            }
            return;
        }
        for id in self.ids() {
            let saved = self
                .save_rollout(id)
                .and_then(|()| self.send_changed(id))
                .and_then(|()| self.wake_for(id));
            if saved.is_err() {
                return;
            }
        }
    }

    fn ids(&self) -> Vec<usize> {
        let live = self
            .coordinator
            .memory
            .as_ref()
            .map(|memory| memory.live.keys().copied().collect());
        live.unwrap_or_default()
    }

    fn wake_for(&mut self, id: usize) -> Alive {
        let (now, life, booted) = (self.now, self.coordinator.life, self.coordinator.booted);
        let clock = self.coordinator.clock(now);
        let Some(live) = self.memory()?.live.get_mut(&id) else {
            return Ok(());
        };
        let at = live
            .machine
            .deadline(clock)
            .map(|at| booted + at.as_nanos());
        if let Some(at) = at.filter(|at| live.wake != Some(*at)) {
            live.wake = Some(at);
            self.later(
                at.saturating_sub(now),
                Happening::CoordinatorWakes { life, at },
            );
        }
        Ok(())
    }

    pub(crate) fn coordinator_wakes(&mut self, life: u64, at: u64) {
        if self.coordinator.life != life || !self.coordinator.is_up() {
            return;
        }
        for id in self.ids() {
            let due = self.memory().is_ok_and(|memory| {
                memory
                    .live
                    .get(&id)
                    .is_some_and(|live| live.wake == Some(at))
            });
            if due {
                if let Ok(memory) = self.memory()
                    && let Some(live) = memory.live.get_mut(&id)
                {
                    live.wake = None;
                }
                if self.tell_rollout(id, Event::Ticked).is_err() {
                    return;
                }
            }
        }
    }

    pub(crate) fn coordinator_renews(&mut self, life: u64) {
        if self.coordinator.life != life || !self.coordinator.is_up() {
            return;
        }
        self.later(RENEW_EVERY, Happening::CoordinatorRenews { life });
        for id in self.ids() {
            if self
                .tell_rollout(id, Event::Ticked)
                .and_then(|()| self.send(id, None, true))
                .is_err()
            {
                return;
            }
        }
    }

    fn send_changed(&mut self, id: usize) -> Alive {
        self.send(id, None, false)
    }

    /// Sends a rollout's orders: those to one host, or the changed ones, or all.
    fn send(&mut self, id: usize, only: Option<usize>, all: bool) -> Alive {
        let now = self.coordinator.clock(self.now);
        let service = self.coordinator.store.rollouts[id].service;
        let Some(live) = self.memory()?.live.get(&id) else {
            return Ok(());
        };
        if !live.unsaved.is_empty() {
            return Ok(());
        }
        for (name, order) in live.machine.orders(now) {
            let host = index(&name);
            let wish = (order.generation, order.target);
            let memory = self.memory()?;
            let Some(live) = memory.live.get_mut(&id) else {
                return Ok(());
            };
            let changed = live.sent.get(&host) != Some(&wish);
            if !(all || changed || only == Some(host)) || only.is_some_and(|only| only != host) {
                continue;
            }
            if self.stray(host, service).is_some() {
                continue;
            }
            let Some(session) = self.coordinator.session(host) else {
                continue;
            };
            if let Some(live) = self.memory()?.live.get_mut(&id) {
                live.sent.insert(host, wish);
            }
            promises::before_order(self, id, &name, &order);
            let order = self.share(id, host, order);
            self.say(|| format!("r{id} → h{host}: {} {}", order.generation, order.target));
            self.send_to_host(host, session, service, &order);
            self.coordinator_may_die(Fault::CoordinatorDiesSending)?;
        }
        Ok(())
    }

    /// In some worlds a candidate gets a small share first, as a canary would.
    fn share(&mut self, id: usize, host: usize, order: SwapOrder) -> SwapOrder {
        let (now, share) = (self.now, self.first_share);
        let live = self
            .memory()
            .ok()
            .and_then(|memory| memory.live.get_mut(&id));
        let (Some(weight), Some(live)) = (share, live) else {
            return order;
        };
        if !matches!(order.target, Target::Serving(_)) {
            return order;
        }
        let since = *live.shares.entry((host, order.generation)).or_insert(now);
        if now >= since + SHARE_FOR {
            return order;
        }
        SwapOrder {
            target: Target::Serving(weight),
            ..order
        }
    }

    /// A person asks something of the open rollout of a service; `false`: there is none.
    pub(crate) fn ask(&mut self, service: usize, event: Event) -> bool {
        let Some(id) = self.coordinator.open(service) else {
            return false;
        };
        self.say(|| format!("r{id} a person asks: {event:?}"));
        let _ = self.tell_rollout(id, event);
        true
    }

    /// A new rollout: older ones of the service fall silent in the same stroke.
    pub(crate) fn open_rollout(&mut self, service: usize, plan: RolloutPlan) {
        if self.coordinator.disk_full {
            self.tally
                .count("coordinator", "refused a rollout: its disk was full");
            return;
        }
        let now = self.coordinator.clock(self.now);
        let ids = self.ids();
        let older = ids
            .into_iter()
            .filter(|id| self.coordinator.store.rollouts[*id].service == service);
        for id in older.collect::<Vec<_>>() {
            let Ok(memory) = self.memory() else { return };
            if let Some(mut live) = memory.live.remove(&id) {
                let mut facts = std::mem::take(&mut live.unsaved);
                facts.extend(live.machine.handle(now, Event::SupersedeAsked));
                self.coordinator.store.rollouts[id]
                    .facts
                    .extend(facts.iter().cloned());
                promises::after_deciding(self, id, &facts);
            }
        }
        let id = self.coordinator.store.rollouts.len();
        self.say(|| format!("r{id} begins: {}", crate::scenario::describe(&plan)));
        let hosts: Vec<HostId> = plan.hosts.iter().map(|host| host.host.clone()).collect();
        self.coordinator.store.rollouts.push(Saved {
            service,
            plan: plan.clone(),
            facts: Vec::new(),
            boot_id: self.coordinator.boot_id,
        });
        promises::after_planning(self, service);
        if self
            .coordinator_may_die(Fault::CoordinatorDiesAfterSave)
            .is_err()
        {
            return;
        }
        let Ok(memory) = self.memory() else { return };
        memory.live.insert(id, Live::new(Rollout::begin(plan, now)));
        let told = hosts.into_iter().filter_map(|host| {
            let i = index(&host);
            let report = memory.reports.get(&(i, service)).cloned();
            memory.sessions.get(&i)?;
            Some((host, report, memory.clocks.get(&i).copied()))
        });
        for (host, report, clock) in told.collect::<Vec<_>>() {
            let event = match (report, clock) {
                (Some(report), _) => Event::Reported(host, Box::new(report)),
                (None, Some(clock)) => Event::Heard { host, clock },
                (None, None) => continue,
            };
            if self.tell_rollout(id, event).is_err() {
                return;
            }
        }
        let _ = self.tell_rollout(id, Event::Ticked);
    }

    /// The store is replaced by an old one; the epoch rises.
    pub(crate) fn restore(&mut self) {
        let Some(backup) = self.coordinator.backup.clone() else {
            return;
        };
        let after = self.chance.between(50 * MS, 3 * S);
        self.kill_coordinator(after);
        self.say(|| {
            format!(
                "the store is restored with {} rollouts",
                backup.rollouts.len()
            )
        });
        self.coordinator.store = backup;
        self.coordinator.store.epoch += 1;
        self.coordinator.restored_at = self.now;
    }
}

/// A host's name.
pub(crate) fn name(host: usize) -> HostId {
    match format!("h{host}").parse() {
        Ok(name) => name,
        Err(error) => unreachable!("{error}"),
    }
}

/// The host of a name.
pub(crate) fn index(name: &HostId) -> usize {
    name.as_str()
        .as_bytes()
        .get(1)
        .map_or(0, |digit| usize::from(digit - b'0'))
}

const _: () = assert!(REPORT_EVERY * 6 == LEASE, "agents report six times a lease");

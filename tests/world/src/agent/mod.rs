//! The agent's shell: as thin as the real one. It tells a berth what happened,
//! saves the facts, flips, reports, and does what is wanted, in this order; in a
//! revert the flip comes first. It may die between any two of these.

mod look;

use std::collections::BTreeMap;

use cutover_core::swap::{
    Action, Berth, Event, Incarnation, Lane, Pace, Phase, Stamped, SwapOrder, UnderWay, Want,
};
use cutover_core::{RevisionNumber, Slot};

use self::look::LIST_EVERY;
use crate::action::Doing;
use crate::fault::Fault;
use crate::promises;
use crate::queue::{Happening, ToCoordinator};
use crate::world::{MS, S, World};

/// How often connections are counted while a drain waits for them.
const COUNT_EVERY: u64 = 200 * MS;
/// How often an open swap is reported at least: a sixth of the lease.
pub(crate) const REPORT_EVERY: u64 = S;
/// How long after a full disk a save is tried again.
pub(crate) const SAVE_AGAIN: u64 = 500 * MS;

/// The memory of the agent's process.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) start: u64,
    pub(crate) keepers: Vec<Keeper>,
    pub(crate) session: Option<u64>,
    /// The stamp of the last report; the next one is later.
    stamped: u64,
    reports: u64,
    /// When it began to look.
    pub(crate) started_at: u64,
}

/// What the agent keeps of one service.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub(crate) berth: Berth,
    /// Facts that did not fit on the disk yet: nothing is said or done before they do.
    pub(crate) unsaved: Vec<Stamped>,
    /// The actions under way, fetching apart.
    pub(crate) under_way: UnderWay,
    /// The image that is being had: no container is touched by it, so a restart goes on beside it.
    pub(crate) fetching: Option<(u64, RevisionNumber)>,
    probing: BTreeMap<(Slot, RevisionNumber, u32), (u64, Pace)>,
    /// The lives of replicas, as last listed.
    known: BTreeMap<(Slot, RevisionNumber, u32), Incarnation>,
    wake: Option<u64>,
    counting: bool,
    /// Rises with all that the berth was told of its containers: an older listing is void.
    mark: u64,
}

/// The agent's process ended meanwhile.
pub(crate) struct Died;

impl Keeper {
    /// The action that begins now in this lane, under this number.
    fn takes_up(&mut self, want: &Want, lane: Lane, id: u64) -> Option<Action> {
        let candidate = self.berth.candidate().map(|settled| settled.side.revision);
        if self.berth.phase() != Some(Phase::Fetching) {
            self.fetching = None;
        }
        let action = self.under_way.next(want, lane)?;
        if let Action::Fetch { revision } = action {
            let had = self.fetching.map(|(_, revision)| revision);
            if had == Some(revision) || candidate != Some(revision) {
                return None;
            }
            self.fetching = Some((id, revision));
        }
        self.under_way.began(lane, action);
        Some(action)
    }

    /// Whether this was under way; it is over now.
    pub(crate) fn lays_down(&mut self, action: Action, id: u64) -> bool {
        if matches!(action, Action::Fetch { .. }) {
            return self.fetching.take_if(|(of, _)| *of == id).is_some();
        }
        self.under_way.ended(action);
        true
    }
}

/// Whether it goes on.
pub(crate) type Alive = Result<(), Died>;

impl World {
    pub(crate) fn lives(&self, host: usize, life: u64) -> bool {
        self.hosts[host].life == life && self.hosts[host].agent.is_some()
    }

    fn agent(&mut self, host: usize) -> Result<&mut Agent, Died> {
        self.hosts[host].agent.as_mut().ok_or(Died)
    }

    pub(crate) fn keeper(&mut self, host: usize, service: usize) -> Result<&mut Keeper, Died> {
        Ok(&mut self.agent(host)?.keepers[service])
    }

    /// The process ends; systemd starts it again.
    pub(crate) fn kill_agent(&mut self, host: usize) {
        let Some(agent) = self.hosts[host].agent.take() else {
            return;
        };
        self.say(|| format!("h{host} the agent dies"));
        self.hosts[host].life += 1;
        let life = self.hosts[host].life;
        if let Some(session) = agent.session {
            let after = self.chance.between(5 * MS, 100 * MS);
            self.later(after, Happening::SessionLost { host, session });
        }
        if self.hosts[host].up {
            let after = self.chance.between(100 * MS, 1_500 * MS);
            self.later(after, Happening::AgentStarts { host, life });
        }
    }

    fn may_die(&mut self, host: usize, fault: Fault) -> Alive {
        if self.strikes(fault) {
            self.kill_agent(host);
            return Err(Died);
        }
        Ok(())
    }

    pub(crate) fn agent_starts(&mut self, host: usize, life: u64) {
        let this = &mut self.hosts[host];
        if this.life != life || !this.up || this.agent.is_some() {
            return;
        }
        this.disk.starts += 1;
        let keepers = this
            .disk
            .journal
            .iter()
            .enumerate()
            .map(|(service, facts)| Keeper {
                berth: Berth::replay(self.services[service].id.clone(), facts),
                unsaved: Vec::new(),
                under_way: UnderWay::default(),
                fetching: None,
                probing: BTreeMap::new(),
                known: BTreeMap::new(),
                wake: None,
                counting: false,
                mark: 0,
            });
        this.agent = Some(Agent {
            start: this.disk.starts,
            keepers: keepers.collect(),
            session: None,
            stamped: 0,
            reports: 0,
            started_at: self.now,
        });
        self.say(|| format!("h{host} the agent starts"));
        let _ = self.recall(host);
    }

    /// What a started agent looks at before anything else.
    fn recall(&mut self, host: usize) -> Alive {
        let rebooted = self.hosts[host].disk.boot_id != self.hosts[host].boot_id;
        for service in 0..self.services.len() {
            if rebooted {
                self.tell(host, service, Event::Rebooted)?;
            }
            let link = self.hosts[host].fronts[service].link;
            self.tell(host, service, Event::Flipped(link))?;
            if !self.hosts[host].engine.up {
                self.tell(host, service, Event::EngineLost)?;
            }
        }
        self.note_boot(host)?;
        let life = self.hosts[host].life;
        self.list(host);
        let after = self.chance.between(10 * MS, 200 * MS);
        self.later(after, Happening::Dials { host, life });
        self.later(REPORT_EVERY, Happening::AgentReports { host, life });
        self.later(LIST_EVERY, Happening::AgentLists { host, life });
        Ok(())
    }

    /// What it keeps is of this boot from here on.
    fn note_boot(&mut self, host: usize) -> Alive {
        let mut keepers = self.agent(host)?.keepers.iter();
        if keepers.all(|keeper| keeper.unsaved.is_empty()) {
            self.hosts[host].disk.boot_id = self.hosts[host].boot_id;
        }
        Ok(())
    }

    /// Tells a berth what happened, and does what follows.
    pub(crate) fn tell(&mut self, host: usize, service: usize, event: Event) -> Alive {
        let now = self.hosts[host].clock(self.now);
        if self.hosts[host].agent.is_none() {
            return Err(Died);
        }
        self.say(|| match &event {
            Event::Sampled { healthy: true, .. } | Event::Ticked | Event::Counted { .. } => {
                String::new()
            }
            event => format!("h{host} s{service} {}", brief(event)),
        });
        let facts = self.keeper(host, service)?.berth.handle(now, event);
        let news = !facts.is_empty();
        self.record(host, service, facts)?;
        self.pursue(host, service, news)
    }

    /// Saves facts; in a revert the flip comes before.
    fn record(&mut self, host: usize, service: usize, mut facts: Vec<Stamped>) -> Alive {
        let now = self.hosts[host].clock(self.now);
        if !facts.is_empty() {
            self.may_die(host, Fault::AgentDiesBeforeSave)?;
        }
        let keeper = self.keeper(host, service)?;
        if keeper.berth.flips_first()
            && let Some(route) = keeper.berth.want(now).flip
            && self.flip(host, service, route)
        {
            self.may_die(host, Fault::AgentDiesAfterFlip)?;
            let keeper = self.keeper(host, service)?;
            facts.extend(keeper.berth.handle(now, Event::Flipped(route)));
        }
        self.keeper(host, service)?.unsaved.extend(facts);
        self.save(host, service)
    }

    fn save(&mut self, host: usize, service: usize) -> Alive {
        let unsaved = std::mem::take(&mut self.keeper(host, service)?.unsaved);
        if unsaved.is_empty() {
            return Ok(());
        }
        for stamped in &unsaved {
            self.say(|| {
                format!(
                    "h{host} s{service}    = {}",
                    short(&format!("{:?}", stamped.fact))
                )
            });
        }
        promises::before_saving(self, host, service, &unsaved);
        if self.hosts[host].append(service, self.now, &unsaved, &mut self.tally) {
            return self.may_die(host, Fault::AgentDiesAfterSave);
        }
        self.say(|| format!("h{host} s{service} the disk is full"));
        self.keeper(host, service)?.unsaved = unsaved;
        let life = self.hosts[host].life;
        self.later(
            SAVE_AGAIN,
            Happening::AgentRetriesSave {
                host,
                life,
                service,
            },
        );
        Ok(())
    }

    pub(crate) fn agent_retries_save(&mut self, host: usize, life: u64, service: usize) {
        if self.lives(host, life) {
            let _ = self
                .save(host, service)
                .and_then(|()| self.note_boot(host))
                .and_then(|()| self.pursue(host, service, true));
        }
    }

    /// Flips, reports and acts, as wanted.
    fn pursue(&mut self, host: usize, service: usize, mut news: bool) -> Alive {
        let now = self.hosts[host].clock(self.now);
        let mut want = self.keeper(host, service)?.berth.want(now);
        while let (Some(route), true) = (want.flip, self.keeper(host, service)?.unsaved.is_empty())
        {
            if !self.flip(host, service, route) {
                let life = self.hosts[host].life;
                let again = Happening::AgentRetriesSave {
                    host,
                    life,
                    service,
                };
                self.later(SAVE_AGAIN, again);
                break;
            }
            self.may_die(host, Fault::AgentDiesAfterFlip)?;
            let facts = self
                .keeper(host, service)?
                .berth
                .handle(now, Event::Flipped(route));
            news = true;
            self.record(host, service, facts)?;
            want = self.keeper(host, service)?.berth.want(now);
        }
        if self.keeper(host, service)?.unsaved.is_empty() {
            if news {
                self.report(host, service)?;
            }
            if let Some(out) = want.out.clone() {
                self.take_out(host, service, out);
            }
            for lane in Lane::ALL {
                self.take_up(host, service, lane)?;
            }
        }
        self.attend(host, service, &want)
    }

    /// Begins what is wanted in this lane and can.
    fn take_up(&mut self, host: usize, service: usize, lane: Lane) -> Alive {
        let now = self.hosts[host].clock(self.now);
        let id = self.serial();
        let keeper = self.keeper(host, service)?;
        let want = keeper.berth.want(now);
        let free = keeper.unsaved.is_empty();
        let Some(action) = free.then(|| keeper.takes_up(&want, lane, id)).flatten() else {
            return Ok(());
        };
        self.begin(Doing {
            id,
            host,
            life: self.hosts[host].life,
            service,
            action,
            replica: 1,
            found: None,
        });
        let began = Event::Began(action);
        let facts = self.keeper(host, service)?.berth.handle(now, began);
        self.record(host, service, facts)?;
        self.may_die(host, Fault::AgentDiesActing)
    }

    /// Samples, counts and wakes, as wanted.
    fn attend(&mut self, host: usize, service: usize, want: &Want) -> Alive {
        let (now, life) = (self.now, self.hosts[host].life);
        let booted = self.hosts[host].booted;
        let clock = self.hosts[host].clock(now);
        let keeper = self.keeper(host, service)?;
        let mut plans = Vec::new();
        if let Some(at) = keeper
            .berth
            .deadline(clock)
            .map(|deadline| booted + deadline.at.as_nanos())
            && keeper.wake != Some(at)
        {
            keeper.wake = Some(at);
            plans.push((
                at.saturating_sub(now),
                Happening::AgentWakes {
                    host,
                    life,
                    service,
                    at,
                },
            ));
        }
        if want.count.is_some() && !keeper.counting {
            keeper.counting = true;
            plans.push((
                COUNT_EVERY,
                Happening::Count {
                    host,
                    life,
                    service,
                },
            ));
        }
        let wanted: BTreeMap<_, _> = want
            .watch
            .iter()
            .map(|watch| ((watch.slot, watch.revision, watch.replica), watch.pace))
            .collect();
        keeper
            .probing
            .retain(|key, (_, pace)| wanted.get(key) == Some(pace));
        for (key, pace) in wanted {
            let keeper = self.keeper(host, service)?;
            if keeper.probing.contains_key(&key) {
                continue;
            }
            let token = self.serial();
            let (slot, revision, replica) = key;
            self.keeper(host, service)?
                .probing
                .insert(key, (token, pace));
            let first = self.chance.between(MS, 100 * MS);
            plans.push((
                first,
                Happening::Probe {
                    host,
                    life,
                    token,
                    service,
                    slot,
                    revision,
                    replica,
                },
            ));
        }
        for (after, what) in plans {
            self.later(after, what);
        }
        Ok(())
    }

    fn report(&mut self, host: usize, service: usize) -> Alive {
        let clock = self.hosts[host].clock(self.now).as_nanos();
        let agent = self.agent(host)?;
        let Some(session) = agent.session else {
            return Ok(());
        };
        agent.stamped = clock.max(agent.stamped + 1);
        let at = cutover_core::Moment::from_nanos(agent.stamped);
        let report = agent.keepers[service].berth.report(agent.start, at);
        self.send_to_coordinator(
            host,
            session,
            ToCoordinator::Report(service, Box::new(report)),
        );
        Ok(())
    }

    pub(crate) fn agent_reports(&mut self, host: usize, life: u64) {
        if !self.lives(host, life) {
            return;
        }
        self.later(REPORT_EVERY, Happening::AgentReports { host, life });
        for service in 0..self.services.len() {
            let Ok(agent) = self.agent(host) else { return };
            agent.reports += 1;
            let keeper = &agent.keepers[service];
            let due = keeper.berth.open_plan().is_some() || agent.reports % 5 < 2;
            if due && keeper.unsaved.is_empty() {
                let _ = self.report(host, service);
            }
        }
    }

    pub(crate) fn agent_wakes(&mut self, host: usize, life: u64, service: usize, at: u64) {
        if self.lives(host, life)
            && self
                .keeper(host, service)
                .is_ok_and(|keeper| keeper.wake == Some(at))
        {
            let _ = self.keeper(host, service).map(|keeper| keeper.wake = None);
            let _ = self.tell(host, service, Event::Ticked);
        }
    }

    pub(crate) fn count(&mut self, host: usize, life: u64, service: usize) {
        if !self.lives(host, life) {
            return;
        }
        let now = self.hosts[host].clock(self.now);
        let Ok(keeper) = self.keeper(host, service) else {
            return;
        };
        keeper.counting = false;
        if let Some(slot) = keeper.berth.want(now).count {
            let open = self.hosts[host].open_connections(service, slot);
            let _ = self.tell(host, service, Event::Counted { slot, open });
        }
    }

    /// An order arrived.
    pub(crate) fn ordered(&mut self, host: usize, service: usize, order: SwapOrder) {
        let Ok(keeper) = self.keeper(host, service) else {
            return;
        };
        let before = (keeper.berth.fence(), order.generation);
        let mark = self.hosts[host].disk.journal[service].len();
        promises::leased(self, host, service, &order);
        let _ = self.tell(host, service, Event::Ordered(order));
        promises::after_order(self, host, service, before, mark);
    }
}

fn brief(event: &Event) -> String {
    match event {
        Event::Ordered(order) => format!(
            "Ordered {} {} until {}{}",
            order.generation,
            order.target,
            order.lease_until,
            if order.plan.is_some() {
                ""
            } else {
                ", without a plan"
            }
        ),
        event => short(&format!("{event:?}")),
    }
}

/// A debug text without its noise.
pub(crate) fn short(text: &str) -> String {
    let text = text
        .replace("RevisionNumber", "")
        .replace("Incarnation", "#")
        .replace("Moment", "");
    if text.len() > 260 {
        format!("{}…", text.chars().take(260).collect::<String>())
    } else {
        text
    }
}

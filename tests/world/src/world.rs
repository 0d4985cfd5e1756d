//! The world: what is so, what is going to happen, and one step after another.

use std::time::Duration;

use cutover_core::spec::{RestartCondition, RestartPolicy};
use cutover_core::swap::Side;
use cutover_core::{RevisionNumber, ServiceId, Weight};

use crate::chance::Chance;
use crate::coordinator::Coordinator;
use crate::fault::{Fault, Faults};
use crate::host::Host;
use crate::promises::{Breach, Promise};
use crate::queue::{Happening, Queue};
use crate::scenario;
use crate::tally::Tally;

/// Nanoseconds of a millisecond.
pub(crate) const MS: u64 = 1_000_000;
/// Nanoseconds of a second.
pub(crate) const S: u64 = 1_000 * MS;
/// When a world begins; its machines have been up for a while.
pub(crate) const BEGIN: u64 = 5_000 * S;
/// A world that takes more steps than this never comes to rest.
const MOST_STEPS: u64 = 400_000;

/// Everything.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) now: u64,
    pub(crate) queue: Queue,
    pub(crate) chance: Chance,
    pub(crate) faults: Faults,
    pub(crate) tally: Tally,
    pub(crate) services: Vec<Service>,
    pub(crate) hosts: Vec<Host>,
    pub(crate) coordinator: Coordinator,
    /// Candidates get this much first.
    pub(crate) first_share: Option<Weight>,
    pub(crate) healed_at: Option<u64>,
    pub(crate) over: bool,
    pub(crate) broken: Option<Breach>,
    /// Since when it has been quiet.
    pub(crate) quiet_since: Option<u64>,
    serial: u64,
    transcript: Option<Vec<String>>,
}

/// One service of this world.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) id: ServiceId,
    pub(crate) replicas: u32,
    pub(crate) traffic: bool,
    pub(crate) smoke: bool,
    pub(crate) hangs_after: Option<u32>,
    pub(crate) settle: u64,
    pub(crate) restart: RestartPolicy,
    /// By revision, from 1.
    pub(crate) natures: Vec<Nature>,
    /// The hosts that match.
    pub(crate) placement: Vec<bool>,
}

/// How a revision's containers behave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Nature {
    pub(crate) temper: Temper,
    /// Only there; `None`: everywhere.
    pub(crate) only_on: Option<usize>,
}

/// How a container behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Temper {
    Good,
    NeverReady,
    ExitsAtStart,
    /// After so many nanoseconds.
    ExitsAfter(u64),
    SickAfter(u64),
    FlakySmoke,
    BadSmoke,
}

impl Service {
    pub(crate) fn temper(&self, host: usize, revision: RevisionNumber) -> Temper {
        let nature = usize::try_from(revision.get() - 1)
            .ok()
            .and_then(|i| self.natures.get(i));
        match nature {
            Some(nature) if nature.only_on.is_none_or(|only| only == host) => nature.temper,
            Some(_) | None => Temper::Good,
        }
    }

    pub(crate) fn side(&self, revision: RevisionNumber) -> Side {
        Side {
            revision,
            replicas: self.replicas,
            traffic: self.traffic,
            smoke: self.smoke,
            successes: 2,
            failures: 3,
            hangs_after: self.hangs_after,
            within: Duration::from_secs(5),
            settle: Duration::from_nanos(self.settle),
            stop_grace: Duration::from_secs(1),
            restart: self.restart.clone(),
        }
    }
}

/// A restart policy with a short delay.
pub(crate) fn restart(condition: RestartCondition, max_attempts: Option<u32>) -> RestartPolicy {
    RestartPolicy {
        condition,
        delay: Duration::from_millis(200),
        max_attempts,
        window: Duration::from_secs(5),
    }
}

/// How one world went.
#[derive(Debug)]
pub struct Ran {
    /// Which world.
    pub seed: u64,
    /// The promise that was broken, if one was.
    pub breach: Option<Breach>,
    /// What was counted.
    pub tally: Tally,
    /// What happened, line by line, where that was asked for.
    pub transcript: Vec<String>,
}

/// Runs the world of a seed to its end, or to the first broken promise.
#[must_use]
pub fn run(seed: u64, trace: bool) -> Ran {
    let mut world = scenario::make(seed, trace);
    let mut steps = 0;
    while !world.over && world.broken.is_none() {
        let Some((at, what)) = world.queue.pop() else {
            world.breach(
                Promise::P5,
                "nothing happens any more, and it is not over".to_owned(),
            );
            break;
        };
        world.now = at;
        steps += 1;
        if steps > MOST_STEPS {
            world.breach(Promise::P5, format!("not at rest after {MOST_STEPS} steps"));
        }
        world.step(what);
        world.check();
    }
    world.tally.steps = steps;
    world.tally.count(
        "worlds",
        if world.faults.none {
            "without faults"
        } else {
            "with faults"
        },
    );
    Ran {
        seed,
        breach: world.broken,
        tally: world.tally,
        transcript: world.transcript.unwrap_or_default(),
    }
}

impl World {
    pub(crate) fn new(mut chance: Chance, trace: bool) -> Self {
        let faults = Faults::draw(&mut chance);
        let first_share = if chance.one_in(4) {
            Weight::new(20)
        } else {
            None
        };
        Self {
            now: BEGIN,
            queue: Queue::default(),
            chance,
            faults,
            tally: Tally::default(),
            services: Vec::new(),
            hosts: Vec::new(),
            coordinator: Coordinator::new(BEGIN),
            first_share,
            healed_at: None,
            over: false,
            broken: None,
            quiet_since: None,
            serial: 0,
            transcript: trace.then(Vec::new),
        }
    }

    /// A number that was never given before.
    pub(crate) fn serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    pub(crate) fn later(&mut self, after: u64, what: Happening) {
        self.queue.push(self.now + after, what);
    }

    /// Whether this fault strikes now; counted when it does.
    pub(crate) fn strikes(&mut self, fault: Fault) -> bool {
        let strikes = self.faults.strikes(fault, &mut self.chance);
        if strikes {
            self.tally.count("faults", format!("{fault:?}"));
            self.say(|| format!("!! {fault:?}"));
        }
        strikes
    }

    pub(crate) fn say(&mut self, line: impl FnOnce() -> String) {
        if let Some(transcript) = &mut self.transcript {
            let since = self.now - BEGIN;
            transcript.push(format!(
                "{:>5}.{:06} {}",
                since / S,
                since % S / 1_000,
                line()
            ));
        }
    }

    pub(crate) fn breach(&mut self, promise: Promise, what: String) {
        if self.broken.is_none() {
            self.say(|| format!("BROKEN {promise:?}: {what}"));
            self.broken = Some(Breach { promise, what });
        }
    }

    fn step(&mut self, what: Happening) {
        match what {
            Happening::Person(act) => self.person(act),
            Happening::Chaos => self.chaos(),
            Happening::Heal => self.heal(),
            Happening::Judge => self.judge(),
            Happening::AgentStarts { host, life } => self.agent_starts(host, life),
            Happening::AgentWakes {
                host,
                life,
                service,
                at,
            } => self.agent_wakes(host, life, service, at),
            Happening::AgentRetriesSave {
                host,
                life,
                service,
            } => self.agent_retries_save(host, life, service),
            Happening::AgentReports { host, life } => self.agent_reports(host, life),
            Happening::AgentLists { host, life } => self.agent_lists(host, life),
            Happening::Listed { host, life, seen } => self.listed(host, life, seen),
            Happening::Exited {
                host,
                life,
                service,
                slot,
                replica,
                incarnation,
                code,
            } => {
                self.exited(host, life, service, slot, replica, incarnation, code);
            }
            Happening::Vanished {
                host,
                life,
                service,
                slot,
                replica,
                incarnation,
            } => {
                self.vanished(host, life, service, slot, replica, incarnation);
            }
            Happening::EngineNoticed { host, life } => self.engine_noticed(host, life),
            Happening::Probe {
                host,
                life,
                token,
                service,
                slot,
                revision,
                replica,
            } => {
                self.probe(host, life, token, (service, slot, revision, replica));
            }
            Happening::Probed {
                host,
                life,
                service,
                slot,
                replica,
                incarnation,
                healthy,
            } => {
                self.probed(host, life, service, slot, replica, incarnation, healthy);
            }
            Happening::Count {
                host,
                life,
                service,
            } => self.count(host, life, service),
            Happening::Act(doing) => self.act(doing),
            Happening::Acted { doing, result } => self.acted(doing, result),
            Happening::LateEffect(doing) => self.late_effect(doing),
            Happening::Dies {
                host,
                service,
                slot,
                revision,
                replica,
                incarnation,
            } => {
                self.dies(host, (service, slot, revision, replica), incarnation);
            }
            Happening::EngineBack { host } => self.engine_back(host),
            Happening::NginxBack { host } => self.nginx_back(host),
            Happening::DiskBack { host } => self.hosts[host].disk.full = false,
            Happening::Boots { host } => self.boots(host),
            Happening::PartitionEnds { host } => self.hosts[host].partitioned = false,
            Happening::ClientSends {
                host,
                service,
                again,
            } => self.client_sends(host, service, again),
            Happening::Tries {
                host,
                service,
                request,
            } => self.tries(host, service, request),
            Happening::Answered {
                host,
                service,
                request,
            } => self.answered(host, service, request),
            Happening::Dials { host, life } => self.dials(host, life),
            Happening::ToCoordinator {
                host,
                session,
                message,
            } => self.to_coordinator(host, session, message),
            Happening::ToHost {
                host,
                session,
                service,
                order,
            } => self.to_host(host, session, service, order),
            Happening::SessionLost { host, session } => self.session_lost(host, session),
            Happening::CoordinatorStarts { life } => self.coordinator_starts(life),
            Happening::CoordinatorWakes { life, at } => self.coordinator_wakes(life, at),
            Happening::CoordinatorRenews { life } => self.coordinator_renews(life),
            Happening::CoordinatorRetriesSave { life } => self.coordinator_retries_save(life),
            Happening::CoordinatorDiskBack => self.coordinator.disk_full = false,
            Happening::RestartDue { host, key, watch } => self.restart_due(host, key, watch),
            Happening::ReflexDue {
                host,
                service,
                slot,
                watch,
            } => self.reflex_due(host, service, slot, watch),
        }
    }
}

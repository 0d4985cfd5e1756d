//! The helm: one loop that owns every rollout, desk and host.
//!
//! Everything that can wake it is a [`Wake`]. A turn takes one wake and whatever
//! waits behind it, works out the facts, stores them in one batch, awaits that it
//! is durable, and only then sends orders and answers ([`deeds`]). So what several
//! hosts report at once costs one write.
//!
//! Keeps true: P3 by that order; no state of it is behind a lock; a store that
//! fails ends the process, and the next one begins from what is durable.
//!
//! Does not know TLS, HTTP/2 or how records are kept.

mod answered;
mod answers;
mod changes;
mod course;
mod deeds;
mod deploy;
mod diff;
mod doctor;
mod door;
mod fleet;
mod hear;
mod hosts;
mod live;
mod looks;
mod queue;
mod requests;
mod resume;
mod sense;
mod sentences;
mod services;
mod views;
mod wake;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cutover_core::{HostId, Moment};
use cutover_daemon::{clock, service};
use cutover_proto::tls::{DenyList, Fingerprint};
use tokio::sync::{mpsc, watch};

pub use door::Door;
pub use wake::{DoorAsk, LOG_LINES, QUESTIONS, Question, Refusal, Reply, Steer, Wake, Watched};

use crate::gate::Refusals;
use crate::metrics::Metrics;
use crate::pki::Holding;
use crate::pki::succession::Stage;
use crate::roster::{Roster, RosterEvent};
use crate::store::{ReadError, Store, WriteError};
use deeds::Deeds;
use fleet::Fleet;
use live::Live;
use services::Services;

/// Wakes that are taken into one turn, and so into one write.
const GROUP: usize = 512;
/// The loop looks after itself this often though nothing happens: deadlines of questions, the watchdog.
const TICK: Duration = Duration::from_secs(1);
/// After the start, hosts have so long to come back before they count as away: the longest pause that an agent makes
/// between two attempts (15 s), and the time to connect.
const SETTLING: Duration = Duration::from_secs(20);
/// Before a write that found the disk full is tried again.
const DISK_FULL_PAUSE: Duration = Duration::from_secs(1);

/// What the loop is told at its start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long an order holds without being renewed.
    pub lease: Duration,
    /// Ended revisions that stay parked on a host.
    pub retain: u32,
    /// Where machines enrol, for people: HOST:PORT.
    pub enrolment_address: String,
    /// Of the CA behind our own certificate; tokens carry it.
    pub ca: Fingerprint,
    /// What hosts are given.
    pub holding: Holding,
    /// How far one CA has taken over from another.
    pub stage: Stage,
    /// When the newest CA ends.
    pub ca_until: SystemTime,
    /// Where the store lies.
    pub state_dir: PathBuf,
    /// When our own certificate ends.
    pub certificate_until: watch::Receiver<SystemTime>,
}

/// Where the loop's wakes come from.
pub struct Inlets {
    /// Questions of operators and gates.
    pub wakes: mpsc::Receiver<Wake>,
    /// What hosts do.
    pub roster: mpsc::Receiver<RosterEvent>,
}

/// What the loop works with.
pub struct Tools {
    /// What it remembers.
    pub store: Store,
    /// Whom it speaks to.
    pub roster: Arc<Roster>,
    /// Who is no longer believed.
    pub denied: Arc<DenyList>,
    /// Who was turned away.
    pub refusals: Arc<Refusals>,
    /// What it counts.
    pub metrics: Metrics,
    /// Told when a snapshot is due.
    pub snapshots: mpsc::Sender<()>,
}

/// Why the loop ended, and with it the process.
#[derive(Debug, thiserror::Error)]
pub enum HelmError {
    /// What was remembered could not be read.
    #[error("reading what the store remembers")]
    Read(#[from] ReadError),
    /// A record makes no sense.
    #[error("understanding the record of {what}")]
    Record {
        /// Of what.
        what: String,
        /// Why.
        #[source]
        source: cutover_proto::convert::Malformed,
    },
    /// A change could not be made durable.
    #[error("writing to the store")]
    Write(#[from] WriteError),
    /// Another coordinator commands our hosts.
    #[error("another coordinator is alive: {0}; this one stops (start one of them only)")]
    Deposed(String),
    /// The kernel does not say which boot this is.
    #[error("reading the boot id")]
    Boot(#[source] std::io::Error),
}

/// The loop and all that it owns.
pub struct Helm {
    settings: Settings,
    store: Store,
    roster: Arc<Roster>,
    denied: Arc<DenyList>,
    refusals: Arc<Refusals>,
    metrics: Metrics,
    snapshots: mpsc::Sender<()>,
    boot_id: String,
    begun: Moment,
    fleet: Fleet,
    services: Services,
    tokens: BTreeMap<Fingerprint, cutover_proto::v1::TokenRecord>,
    live: BTreeMap<u64, Live>,
    last_rollout: u64,
    last_release: u64,
    /// Images are being looked up for these.
    drafts: BTreeMap<u64, deploy::Draft>,
    /// Questions to hosts that wait for their answers.
    asked: BTreeMap<u64, requests::Asked>,
    last_asked: u64,
    /// Changes that wait until the fleet has come back after our start.
    deferred: Vec<Question>,
    /// Request ids that were answered, the oldest first.
    answered: VecDeque<String>,
    /// Hosts that came back, or may have to converge.
    returned: BTreeSet<HostId>,
    /// The epoch must be at least this before the next order.
    raise_to: Option<u64>,
    /// Another coordinator is alive.
    deposed: Option<String>,
    /// Rises with each stored event.
    events: watch::Sender<u64>,
    stopping: bool,
}

impl Helm {
    /// The loop as the store remembers it.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn resume(tools: Tools, settings: Settings) -> Result<Self, HelmError> {
        let Tools {
            store,
            roster,
            denied,
            refusals,
            metrics,
            snapshots,
        } = tools;
        let (events, _) = watch::channel(0);
        let mut helm = Self {
            settings,
            store,
            roster,
            denied,
            refusals,
            metrics,
            snapshots,
            boot_id: clock::boot_id().map_err(HelmError::Boot)?,
            begun: clock::now(),
            fleet: Fleet::default(),
            services: Services::default(),
            tokens: BTreeMap::new(),
            live: BTreeMap::new(),
            last_rollout: 0,
            last_release: 0,
            drafts: BTreeMap::new(),
            asked: BTreeMap::new(),
            last_asked: 0,
            deferred: Vec::new(),
            answered: VecDeque::new(),
            returned: BTreeSet::new(),
            raise_to: None,
            deposed: None,
            events,
            stopping: false,
        };
        helm.load()?;
        Ok(helm)
    }

    /// Turns until it is asked to stop.
    ///
    /// # Errors
    /// Why it cannot go on.
    pub async fn run(mut self, mut inlets: Inlets) -> Result<(), HelmError> {
        let mut deeds = self.turn();
        self.wake_up(&mut deeds);
        self.commit(deeds).await?;
        while !self.stopping {
            let first = self.next_wake(&mut inlets).await;
            let mut deeds = self.turn();
            self.handle(first, &mut deeds);
            for _ in 0..GROUP {
                // Reports first: a question then sees what they say.
                let next = inlets
                    .roster
                    .try_recv()
                    .map(Wake::Roster)
                    .or_else(|_| inlets.wakes.try_recv());
                let Ok(wake) = next else { break };
                self.handle(wake, &mut deeds);
            }
            self.settle(&mut deeds);
            self.commit(deeds).await?;
            if let Some(why) = self.deposed.take() {
                return Err(HelmError::Deposed(why));
            }
            service::alive();
        }
        Ok(())
    }

    fn turn(&self) -> Deeds {
        Deeds::new(clock::now(), clock::unix_millis())
    }

    async fn next_wake(&self, inlets: &mut Inlets) -> Wake {
        let wait = self.wait(clock::now());
        tokio::select! {
            biased;
            Some(event) = inlets.roster.recv() => Wake::Roster(event),
            wake = inlets.wakes.recv() => wake.unwrap_or(Wake::Stop),
            () = tokio::time::sleep(wait) => Wake::Ticked,
        }
    }

    /// How long it may sleep.
    fn wait(&self, now: Moment) -> Duration {
        let machines = self.live.values().filter_map(|live| live.machine.as_ref());
        let deadlines = machines.filter_map(|machine| machine.deadline(now));
        let renewals = self
            .live
            .values()
            .filter(|live| live.machine.is_some())
            .map(|live| live.renewed + self.settings.lease / course::ORDERS_PER_LEASE);
        let soonest = deadlines.chain(renewals).min();
        soonest.map_or(TICK, |at| at.since(now).min(TICK))
    }

    fn handle(&mut self, wake: Wake, deeds: &mut Deeds) {
        match wake {
            Wake::Roster(event) => self.hear(event, deeds),
            Wake::Asked(question) => self.answer(question, deeds),
            Wake::Door(ask) => self.at_the_door(ask, deeds),
            Wake::Ticked => {}
            Wake::Stop => self.stopping = true,
        }
    }

    /// What follows by itself, whatever woke us.
    fn settle(&mut self, deeds: &mut Deeds) {
        self.tick_machines(deeds);
        self.find_strays(deeds);
        self.expire_questions(deeds);
        self.take_up_deferred(deeds);
        self.advance_drafts(deeds);
        self.follow_up(deeds);
        self.advance_queue(deeds);
    }

    fn tick_machines(&mut self, deeds: &mut Deeds) {
        let due: Vec<u64> = self
            .live
            .values()
            .filter(|live| live.is_open())
            .map(|live| live.number)
            .collect();
        for number in due {
            let before = deeds.touched.contains(&number);
            let writes = deeds.writes;
            self.tell(number, cutover_core::rollout::Event::Ticked, deeds);
            if !before && deeds.writes == writes {
                deeds.touched.remove(&number); // nothing came of it
            }
        }
    }

    /// Stores, then does what follows.
    async fn commit(&mut self, mut deeds: Deeds) -> Result<(), HelmError> {
        if let Some(at_least) = self.raise_to.take()
            && at_least > self.store.epoch()
        {
            let epoch = self.store.raise_epoch(at_least).await?;
            self.roster.now_in_epoch(epoch);
            tracing::warn!(epoch, "the epoch was raised");
        }
        if deeds.writes > 0 {
            self.write(std::mem::take(&mut deeds.batch)).await?;
        }
        if self.deposed.is_none() {
            self.send_orders(&deeds);
        }
        self.publish(&deeds);
        if deeds.events > 0 {
            self.events
                .send_modify(|last| *last = last.wrapping_add(deeds.events));
        }
        if deeds.snapshot {
            let _ = self.snapshots.try_send(()); // full: one is due already
        }
        self.count();
        for act in deeds.done() {
            act();
        }
        self.let_go();
        Ok(())
    }

    async fn write(&self, batch: crate::store::Batch) -> Result<(), HelmError> {
        loop {
            crash::before_write();
            match self.store.write(batch.clone()).await {
                Ok(_) => {
                    self.metrics.writes.inc();
                    crash::after_write();
                    return Ok(());
                }
                // Nothing was written; hosts keep what they serve. It goes on once there is room.
                Err(error @ WriteError::DiskFull { .. }) => {
                    tracing::error!(%error, "nothing is decided until there is room");
                    service::alive();
                    tokio::time::sleep(DISK_FULL_PAUSE).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn count(&self) {
        let there = self.fleet.hosts.values().filter(|host| host.is_there());
        self.metrics.hosts(self.fleet.hosts.len(), there.count());
        let open = self.live.values().filter(|live| live.outcome().is_none());
        self.metrics.open(open.count());
        self.metrics.beat(clock::unix_millis());
    }
}

/// A way to die at a chosen write, for the tests that kill the coordinator there.
///
/// Debug builds read `CUTOVER_TEST_DIE_AT`: `before:N` or `after:N`, N counting
/// this process's writes from 1. Release builds hold nothing of it.
mod crash {
    #[cfg(debug_assertions)]
    mod armed {
        use std::sync::OnceLock;
        use std::sync::atomic::{AtomicU64, Ordering};

        static WRITES: AtomicU64 = AtomicU64::new(0);
        static AT: OnceLock<Option<(bool, u64)>> = OnceLock::new();

        fn at() -> Option<(bool, u64)> {
            *AT.get_or_init(|| {
                let text = std::env::var("CUTOVER_TEST_DIE_AT").ok()?;
                let (when, number) = text.split_once(':')?;
                Some((when == "after", number.parse().ok()?))
            })
        }

        pub(in crate::helm) fn before_write() {
            let number = WRITES.fetch_add(1, Ordering::Relaxed) + 1;
            if at() == Some((false, number)) {
                std::process::abort();
            }
        }

        pub(in crate::helm) fn after_write() {
            if at() == Some((true, WRITES.load(Ordering::Relaxed))) {
                std::process::abort();
            }
        }
    }

    #[cfg(not(debug_assertions))]
    mod armed {
        pub(in crate::helm) fn before_write() {}
        pub(in crate::helm) fn after_write() {}
    }

    pub(super) use armed::{after_write, before_write};
}

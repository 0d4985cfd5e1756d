//! The loop that owns all berths of this host.
//!
//! It keeps true: an event is told to a berth; the facts that follow are kept;
//! only then is anything said or done that depends on them. One exception: in a
//! revert the route flips first, and the route itself is the record. The loop decides nothing
//! about swaps; it asks the berth what it wants, again and again.

mod act;
mod adopt;
mod arrange;
mod asked;
#[cfg(test)]
mod bed;
mod connections;
mod due;
mod link;
mod listing;
mod out;
mod post;
mod say;
mod tend;
mod trial;
mod wake;

use std::collections::BTreeMap;
use std::time::Duration;

use cutover_core::swap::{Berth, Event, Fact, Stamped};
use cutover_core::{Moment, Route, ServiceId};
use cutover_daemon::logging::chain;
use cutover_daemon::{clock, service};
use cutover_proto::v1::FromAgent;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, error, info, warn};

use crate::addresses::Addresses;
use crate::docker;
use crate::journal::Journal;
use crate::revisions::Revisions;
use crate::signals::Signals;
pub(crate) use act::Hands;
pub(crate) use arrange::Arranger;
use arrange::UNREADABLE;
use due::Touched;
use listing::Listing;
use post::Post;
use tend::changes_containers;
use trial::Trial;
pub(crate) use wake::Wake;

/// Facts that could not be kept, and routes that could not be changed, are tried again after this.
const SAVE_AGAIN: Duration = Duration::from_secs(1);
/// All berths are looked after at least so often, so that a missed deadline is late by no more.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// What the loop is made of.
pub(crate) struct Parts {
    pub(crate) journal: Journal,
    pub(crate) berths: BTreeMap<ServiceId, Berth>,
    pub(crate) start: u64,
    pub(crate) rebooted: bool,
    pub(crate) hands: Hands,
    pub(crate) revisions: Revisions,
    pub(crate) addresses: Addresses,
    pub(crate) signals: Signals,
    pub(crate) include_only: Vec<String>,
    pub(crate) wakes: mpsc::Sender<Wake>,
    pub(crate) outgoing: mpsc::Sender<FromAgent>,
    pub(crate) answers: mpsc::Sender<FromAgent>,
    pub(crate) hello: watch::Sender<Standing>,
    pub(crate) stop: CancellationToken,
}

/// What the next Hello says of this host.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standing {
    /// Its containers were read since the start. Before, what the journal lost is missing here.
    pub(crate) seen: bool,
    /// Every berth's account.
    pub(crate) berths: Vec<Vec<u8>>,
}

/// The loop.
pub(crate) struct Helm {
    parts: Parts,
    posts: BTreeMap<ServiceId, Post>,
    /// The engine was away since the containers were last read.
    engine_was_away: bool,
    listing: Listing,
    /// The coordinator is there, and how long its word counts.
    connected: bool,
    lease: Duration,
    /// The sites that nginx was last told of; `None`: what it carries is not known.
    arranged: Option<Vec<crate::traffic::Site>>,
    /// The number of the list that the loop wished for and has not heard of.
    arranging: Option<u64>,
    /// When requests are proved again to go where their routes say.
    prove_at: Option<Moment>,
    /// How many lists of sites were made.
    site_lists: u64,
    arrange_after: Moment,
    /// When nginx is told again of what it could not be told.
    arrange_at: Option<Moment>,
    counting: Option<Moment>,
    touched: Touched,
    /// When all berths are looked after, whatever wakes the loop until then.
    whole_at: Moment,
    /// Logs that are read for the coordinator, by its request; each ends when it is forgotten here.
    reading: BTreeMap<u64, AbortOnDropHandle<()>>,
    trial: Trial,
}

impl Helm {
    pub(crate) fn new(mut parts: Parts) -> Self {
        let berths = std::mem::take(&mut parts.berths);
        let posts = berths
            .into_iter()
            .map(|(service, berth)| (service, Post::new(berth)))
            .collect();
        let engine_was_away = parts.rebooted;
        Self {
            parts,
            posts,
            engine_was_away,
            listing: Listing::default(),
            connected: false,
            lease: Duration::from_secs(30),
            arranged: None,
            arranging: None,
            prove_at: None,
            site_lists: 0,
            arrange_after: Moment::ZERO,
            arrange_at: None,
            counting: None,
            touched: Touched::default(),
            whole_at: Moment::ZERO,
            reading: BTreeMap::new(),
            trial: Trial::from_environment(),
        }
    }

    /// Runs until it is stopped.
    ///
    /// # Errors
    /// When a task ended that should not have: the process ends, and systemd starts it again.
    pub(crate) async fn run(mut self, mut wakes: mpsc::Receiver<Wake>) -> Result<(), &'static str> {
        let now = clock::now();
        self.recover(now);
        self.tend(now);
        service::ready("serving");
        let watchdog = service::watchdog_interval()
            .unwrap_or(HEARTBEAT)
            .min(HEARTBEAT);
        let stop = self.parts.stop.clone();
        loop {
            let now = clock::now();
            let wait = self.next_wake().since(now).min(watchdog);
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                wake = wakes.recv() => {
                    let Some(wake) = wake else { return Ok(()) };
                    if let Wake::Ended(task) = wake {
                        return Err(task);
                    }
                    self.wake(clock::now(), wake);
                    // What came meanwhile is taken in before anything is looked at anew.
                    while let Ok(wake) = wakes.try_recv() {
                        if let Wake::Ended(task) = wake {
                            return Err(task);
                        }
                        self.wake(clock::now(), wake);
                    }
                }
                () = tokio::time::sleep(wait) => {}
            }
            service::alive();
            self.tend(clock::now());
        }
    }

    /// What the journal could not know: the boot, and where the routes really point.
    fn recover(&mut self, now: Moment) {
        let services: Vec<ServiceId> = self.posts.keys().cloned().collect();
        for service in services {
            if self.parts.rebooted {
                self.tell(now, &service, Event::Rebooted);
            }
            match self.parts.hands.traffic.current(&service) {
                Ok(Some(route)) => self.tell(now, &service, Event::Flipped(route)),
                Ok(None) => self.tell(now, &service, Event::Flipped(Route::Nobody)),
                Err(error) => {
                    error!(%service, error = chain(&error), "the route can't be read; nobody serves until it is mended");
                    self.doubt(now, &service, format!("{UNREADABLE}: {}", chain(&error)));
                }
            }
        }
    }

    fn wake(&mut self, now: Moment, wake: Wake) {
        self.touched.by(&wake);
        match wake {
            Wake::Link(event) => self.linked(now, event),
            Wake::Engine(event) => self.engine(now, event),
            Wake::Listed(Ok(found)) => self.listed(now, found),
            Wake::Listed(Err(why)) => self.not_listed(now, why),
            Wake::Acted {
                service,
                action,
                result,
                found,
            } => {
                if let Some(post) = self.posts.get_mut(&service) {
                    post.under_way.ended(action);
                    post.out = None;
                }
                match found {
                    Some(reading) => {
                        // Not used up: it may have been read before the engine went away.
                        self.see(now, &service, reading, self.engine_was_away);
                    }
                    None if changes_containers(action) => self.list_soon(now),
                    None => {}
                }
                let event = match result {
                    Ok(()) => Event::Did(action),
                    Err(failure) => {
                        warn!(%service, ?action, reason = failure.reason, again = failure.transient, "an action failed");
                        Event::Failed(action, failure)
                    }
                };
                self.tell(now, &service, event);
            }
            Wake::Vanished {
                service,
                slot,
                replica,
                incarnation,
            } => {
                let vanished = Event::Vanished {
                    slot,
                    replica,
                    incarnation,
                };
                self.tell(now, &service, vanished);
            }
            Wake::Sampled(sampled) => self.sampled(now, sampled),
            Wake::Counted {
                service,
                slot,
                open,
            } => {
                if let Some(post) = self.posts.get_mut(&service) {
                    post.count.1 = false;
                }
                self.tell(now, &service, Event::Counted { slot, open });
            }
            Wake::Logged { service, lines } => {
                if let Some(post) = self.posts.get_mut(&service) {
                    post.logging = false;
                    post.last_log = lines;
                }
            }
            Wake::Arranged { sites, result } => self.told(now, sites, result),
            Wake::Signalled(counts) => self.signalled(now, counts),
            Wake::Asked(ask, answer) => self.asked(now, ask, answer),
            Wake::Ended(_) => {}
        }
    }

    fn engine(&mut self, now: Moment, event: docker::Event) {
        match event {
            docker::Event::Gap => self.list(),
            docker::Event::Away(error) => {
                warn!(
                    error = chain(&error),
                    "the container engine is away; nobody is judged by it"
                );
                self.engine_was_away = true;
                self.listing.after_away = false;
                self.tell_all(now, &Event::EngineLost);
            }
            docker::Event::Died(death) => {
                self.died(now, &death);
                // A listing that is under way may have seen it alive; one beside an engine that leaves says nothing.
                if death.engine_stays {
                    self.list();
                }
            }
            docker::Event::Started(_) | docker::Event::Removed(_) => self.list(),
            docker::Event::OutOfMemory(who) => {
                warn!(container = who.name, "a process was killed for its memory")
            }
            docker::Event::Paused(who) => {
                warn!(container = who.name, "somebody froze a container");
                self.list();
            }
            docker::Event::Unpaused(_) => self.list(),
            docker::Event::HealthChanged(..) | docker::Event::Reloaded => {}
            docker::Event::NetworkRemoved(name) => {
                if name == self.parts.hands.network.name {
                    warn!(
                        network = name,
                        "somebody removed our network; it is made again with the next container"
                    );
                }
            }
        }
    }

    fn died(&mut self, now: Moment, death: &docker::Death) {
        let Ok(identity) = &death.who.identity else {
            return;
        };
        let Some(post) = self.posts.get_mut(&identity.service) else {
            return;
        };
        if !death.engine_stays {
            self.engine_was_away = true;
            self.tell(now, &identity.service.clone(), Event::EngineLost);
            return;
        }
        let key = (identity.slot, identity.replica);
        let Some(life) = post.lives.get(&key) else {
            return;
        };
        // An event of an earlier life comes late.
        if life.revision != identity.revision || death.who.at < life.started {
            return;
        }
        let (incarnation, code) = (life.incarnation, death.code.unwrap_or(-1));
        let event = Event::Exited {
            slot: identity.slot,
            replica: identity.replica,
            incarnation,
            code,
        };
        post.end(key, incarnation, code);
        self.tell(now, &identity.service, event);
    }

    fn tell_all(&mut self, now: Moment, event: &Event) {
        let services: Vec<ServiceId> = self.posts.keys().cloned().collect();
        for service in services {
            self.tell(now, &service, event.clone());
        }
    }

    /// Tells a berth what happened, keeps what follows, and flips the route when it wants that.
    fn tell(&mut self, now: Moment, service: &ServiceId, event: Event) {
        let Some(post) = self.posts.get_mut(service) else {
            return;
        };
        let facts = post.berth.handle(now, event);
        self.follow(now, service, facts);
    }

    /// Keeps facts and flips the route, in the order that the berth asks for.
    fn follow(&mut self, now: Moment, service: &ServiceId, mut facts: Vec<Stamped>) {
        loop {
            self.noticed(service, &facts);
            if !facts.is_empty() {
                self.touched.all();
            }
            let Some(post) = self.posts.get_mut(service) else {
                return;
            };
            post.unsaved.append(&mut facts);
            let wanted = post.berth.want(now).flip;
            if let (Some(route), true) = (wanted, post.berth.flips_first()) {
                // Traffic goes back before anything is written: the route is its own record.
                if let Some(more) = self.flip(now, service, route) {
                    facts = more;
                    continue;
                }
            }
            if !self.save(service) {
                return;
            }
            let Some(route) = wanted else { return };
            match self.flip(now, service, route) {
                Some(more) => facts = more,
                None => return,
            }
        }
    }

    /// The cutover. `None`: it could not be made.
    fn flip(&mut self, now: Moment, service: &ServiceId, route: Route) -> Option<Vec<Stamped>> {
        let post = self.posts.get_mut(service)?;
        if let Err(error) = self.parts.hands.traffic.switch(service, route) {
            // It is tried each second, and said once.
            if !post.owes && !post.owed {
                error!(%service, %route, error = chain(&error), "the route could not be changed; is the state directory writable?");
            }
            post.owes = true;
            return None;
        }
        info!(%service, from = %post.berth.route(), to = %route, "the route changed");
        let facts = post.berth.handle(now, Event::Flipped(route));
        let (traffic, service) = (self.parts.hands.traffic.clone(), service.clone());
        // Against a power cut; until then the route is this one or the one before.
        tokio::task::spawn_blocking(move || {
            if let Err(error) = traffic.settle(&service) {
                warn!(%service, error = chain(&error), "a changed route is not on the disk yet");
            }
        });
        Some(facts)
    }

    /// Keeps what was not kept yet. `false`: it could not be; nothing may be done.
    fn save(&mut self, service: &ServiceId) -> bool {
        let Some(post) = self.posts.get_mut(service) else {
            return false;
        };
        if !post.unsaved.is_empty() {
            self.trial.dies("before", &post.berth);
            if let Err(error) = self.parts.journal.append(service, &post.unsaved) {
                let why = Some(chain(&error));
                // Each event tries again: a disk that stays full is said once.
                if post.unkept != why {
                    error!(%service, error = chain(&error), "facts could not be kept; nothing is done until they are");
                    post.unkept = why;
                }
                return false;
            }
            post.unsaved.clear();
            if post.unkept.take().is_some() {
                info!(%service, "facts are kept again");
            }
            self.trial.dies("after", &post.berth);
        }
        if let Some(summary) = post.berth.summary() {
            self.parts.journal.condense(&summary);
            post.tidy();
        }
        true
    }

    /// The account that follows says what nginx counted until now.
    fn recount(&mut self, service: &ServiceId) {
        if let Some(post) = self.posts.get_mut(service) {
            post.recount = true;
        }
        self.counting = Some(Moment::ZERO);
    }

    /// What people see of the facts, and what the shell does because of them.
    fn noticed(&mut self, service: &ServiceId, facts: &[Stamped]) {
        for stamped in facts {
            #[allow(
                clippy::wildcard_enum_match_arm,
                reason = "people are told a few facts; the others are for debugging"
            )]
            match &stamped.fact {
                Fact::Opened { plan, slot } => {
                    info!(%service, rollout = %plan.rollout, generation = %plan.generation, "a swap began");
                    if let Some(post) = self.posts.get_mut(service) {
                        post.count_anew = true;
                        post.counted = None;
                        post.candidate = Some(*slot);
                        post.last_log.clear();
                    }
                    self.counting = Some(Moment::ZERO);
                }
                Fact::Sickened { why } => {
                    warn!(%service, why, "the candidate may not stay: going back");
                    self.fetch_log(service);
                }
                Fact::Hung {
                    slot, replica, why, ..
                } => {
                    warn!(%service, %slot, replica, why, "a replica hangs; it is started again")
                }
                Fact::TrafficBack => self.recount(service),
                Fact::Committed => {
                    info!(%service, "the swap is committed");
                    self.recount(service);
                }
                Fact::Reverted => {
                    info!(%service, "the swap is reverted");
                    self.recount(service);
                }
                fact => debug!(%service, ?fact, "a fact"),
            }
        }
    }
}

impl std::fmt::Debug for Helm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Helm")
            .field("posts", &self.posts.len())
            .finish_non_exhaustive()
    }
}

//! One berth and what the shell needs around it: what is under way, what was seen, what was said.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use cutover_core::spec::{Listener, ServiceSpec};
use cutover_core::swap::{
    Action, Berth, Incarnation, Lane, Phase, Seen, SeenReplica, SeenState, Stamped, UnderWay,
};
use cutover_core::{Moment, RevisionNumber, ServiceId, Slot};
use cutover_proto::v1;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use crate::docker::{Found, Process, State};
use crate::helm::wake::Wake;
use crate::revisions::{RevisionError, Revisions};
use crate::signals::Tally;
use crate::traffic::{REQUEST_TIMEOUT, Site};

/// One berth and the shell's memory of it.
#[derive(Debug)]
pub(crate) struct Post {
    pub(crate) berth: Berth,
    /// The actions that are under way, fetching apart.
    pub(crate) under_way: UnderWay,
    /// The image that is being had. It touches no container, so a restart goes on beside it.
    pub(crate) fetching: Option<(RevisionNumber, AbortOnDropHandle<()>)>,
    /// Facts that could not be kept yet; nothing is done before they are.
    pub(crate) unsaved: Vec<Stamped>,
    /// Why they could not.
    pub(crate) unkept: Option<String>,
    pub(crate) specs: BTreeMap<RevisionNumber, Arc<ServiceSpec>>,
    pub(crate) lives: BTreeMap<(Slot, u32), Life>,
    /// How each replica's last life ended that was told to have.
    ended: BTreeMap<(Slot, u32), (Incarnation, i64)>,
    /// Whose process is watched, for as long as that life is known.
    vigils: BTreeMap<Incarnation, AbortOnDropHandle<()>>,
    pub(crate) samples: BTreeMap<(Slot, RevisionNumber, u32), Sample>,
    /// The route, or who is left out, could not be changed as it is wanted; and could not before either.
    pub(crate) owes: bool,
    pub(crate) owed: bool,
    /// When it must be looked after though nothing happens to it.
    pub(crate) wakes_at: Option<Moment>,
    /// When connections are counted next, and whether that is under way.
    pub(crate) count: (Moment, bool),
    pub(crate) found: Vec<Found>,
    /// When the reading began that was told last.
    pub(crate) read_at: Moment,
    /// The engine was away, and the listing that followed did not tell of all its containers.
    pub(crate) missed_restart: bool,
    pub(crate) last_log: String,
    pub(crate) logging: bool,
    /// What nginx counted when the last swap began.
    pub(crate) before: BTreeMap<Slot, Tally>,
    /// A swap began, and `before` waits for the next count.
    pub(crate) count_anew: bool,
    pub(crate) tally: BTreeMap<Slot, Tally>,
    /// Why it is in doubt that requests go where the route says.
    pub(crate) doubt: Option<String>,
    /// Requests so far that found no readable route, and that found nobody.
    pub(crate) turned_away: Option<(u64, u64)>,
    /// Requests find nobody, though a revision is committed here.
    pub(crate) deserted: bool,
    /// The replicas that nginx was last told to leave out; `None`: what it was told is not known.
    pub(crate) out: Option<BTreeSet<(Slot, u32)>>,
    /// The swap ended, or its traffic is back: nobody is told before the count has come that belongs to it.
    pub(crate) recount: bool,
    /// What nginx counted of the last swap, once it is over.
    pub(crate) counted: Option<v1::TrafficReport>,
    /// Of the open, or last, swap's candidate.
    pub(crate) candidate: Option<Slot>,
    /// What was last told to the coordinator, and when.
    pub(crate) told: Option<(v1::BerthReport, Moment)>,
    /// The last account of facts that were kept.
    pub(crate) kept: Option<v1::BerthReport>,
}

/// A running container, as it was last seen.
#[derive(Clone, Debug)]
pub(crate) struct Life {
    pub(crate) incarnation: Incarnation,
    pub(crate) revision: RevisionNumber,
    pub(crate) started: SystemTime,
    pub(crate) name: String,
    pub(crate) address: Option<Ipv4Addr>,
    container: String,
    process: Option<u32>,
}

/// The probing of one replica.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) next: Moment,
    pub(crate) asked: bool,
}

impl Post {
    pub(crate) fn new(berth: Berth) -> Self {
        let candidate = berth.candidate().map(|settled| settled.slot);
        Self {
            berth,
            under_way: UnderWay::default(),
            fetching: None,
            unsaved: Vec::new(),
            unkept: None,
            specs: BTreeMap::new(),
            lives: BTreeMap::new(),
            ended: BTreeMap::new(),
            vigils: BTreeMap::new(),
            samples: BTreeMap::new(),
            owes: false,
            owed: false,
            wakes_at: None,
            count: (Moment::ZERO, false),
            found: Vec::new(),
            read_at: Moment::ZERO,
            missed_restart: false,
            last_log: String::new(),
            logging: false,
            before: BTreeMap::new(),
            count_anew: false,
            tally: BTreeMap::new(),
            doubt: None,
            turned_away: None,
            deserted: false,
            out: None,
            recount: false,
            counted: None,
            candidate,
            told: None,
            kept: None,
        }
    }

    /// The action that begins now in this lane: never before facts are kept.
    pub(crate) fn next(&self, now: Moment, lane: Lane) -> Option<Action> {
        if !self.unsaved.is_empty() {
            return None;
        }
        let had = |revision| {
            let had = self.fetching.as_ref();
            had.is_some_and(|(of, task)| *of == revision && !task.is_finished())
        };
        let next = self.under_way.next(&self.berth.want(now), lane);
        next.filter(|action| match action {
            Action::Fetch { revision } => !had(*revision),
            // Its log would go with it.
            Action::Remove { .. } => !self.logging,
            Action::Make { .. }
            | Action::Start { .. }
            | Action::Smoke { .. }
            | Action::Prove(_)
            | Action::Halt { .. }
            | Action::Stop { .. } => true,
        })
    }

    /// Gives up an image that nobody wants any more.
    pub(crate) fn drop_fetch(&mut self) {
        let candidate = self.berth.candidate().map(|settled| settled.side.revision);
        let wanted = candidate.filter(|_| self.berth.phase() == Some(Phase::Fetching));
        self.fetching.take_if(|(of, _)| Some(*of) != wanted);
    }

    /// Whether all that belongs to its account is there: facts are kept, the log of one that fell and the last count
    /// of a swap that ended have come.
    pub(crate) fn can_tell(&self) -> bool {
        self.unsaved.is_empty() && !self.logging && !self.recount
    }

    /// What a revision is made of, read once.
    pub(crate) fn spec(
        &mut self,
        revisions: &Revisions,
        revision: RevisionNumber,
    ) -> Result<Arc<ServiceSpec>, RevisionError> {
        if let Some(spec) = self.specs.get(&revision) {
            return Ok(Arc::clone(spec));
        }
        let spec = Arc::new(revisions.spec(self.berth.service(), revision)?);
        self.specs.insert(revision, Arc::clone(&spec));
        Ok(spec)
    }

    /// Revisions that are in use here: the rest need not be remembered.
    fn in_use(&self) -> Vec<RevisionNumber> {
        let settled = self.berth.current().into_iter().chain(self.berth.parked());
        let candidate = self.berth.candidate().map(|settled| settled.side.revision);
        settled
            .map(|settled| settled.side.revision)
            .chain(candidate)
            .collect()
    }

    /// Forgets specs that nothing uses.
    pub(crate) fn tidy(&mut self) {
        let used = self.in_use();
        self.specs.retain(|revision, _| used.contains(revision));
        let slots: Vec<(Slot, RevisionNumber)> = self
            .berth
            .want(Moment::ZERO)
            .watch
            .iter()
            .map(|w| (w.slot, w.revision))
            .collect();
        self.samples
            .retain(|(slot, revision, _), _| slots.contains(&(*slot, *revision)));
    }

    /// The engine told of the end of this life.
    pub(crate) fn end(&mut self, replica: (Slot, u32), incarnation: Incarnation, code: i64) {
        self.lives.remove(&replica);
        self.ended.insert(replica, (incarnation, code));
    }

    /// How this life ended, if that was told: what was read before comes late, and raises nobody.
    fn end_of(&self, replica: (Slot, u32), incarnation: Incarnation) -> Option<i64> {
        let (ended, code) = self.ended.get(&replica)?;
        (*ended == incarnation).then_some(*code)
    }

    /// Takes in this berth's containers and says what the machine must know of them.
    pub(crate) fn see(&mut self, found: Vec<Found>, engine_restarted: bool) -> Seen {
        let mut seen = Seen {
            replicas: Vec::new(),
            engine_restarted,
        };
        self.lives.clear();
        for one in &found {
            let Ok(identity) = &one.identity else {
                continue;
            };
            let state = match &one.state {
                State::Created(_) => SeenState::Created,
                State::Running(since) | State::Paused(since) => {
                    let incarnation = incarnation(&one.id, *since);
                    let replica = (identity.slot, identity.replica);
                    if let Some(code) = self.end_of(replica, incarnation) {
                        seen.replicas.push(SeenReplica {
                            slot: identity.slot,
                            replica: identity.replica,
                            revision: identity.revision,
                            state: SeenState::Down(code),
                        });
                        continue;
                    }
                    let life = Life {
                        incarnation,
                        revision: identity.revision,
                        started: *since,
                        name: one.name.clone(),
                        address: one.address,
                        container: one.id.clone(),
                        process: one.process,
                    };
                    self.lives.insert(replica, life);
                    SeenState::Up(incarnation)
                }
                State::Exited(exit) => SeenState::Down(exit.code),
                State::Dying => continue,
            };
            seen.replicas.push(SeenReplica {
                slot: identity.slot,
                replica: identity.replica,
                revision: identity.revision,
                state,
            });
        }
        self.found = found;
        seen
    }

    /// Watches the process of each life, once; of those that are over no more.
    pub(crate) fn watch_processes(&mut self, wakes: &mpsc::Sender<Wake>) {
        let lives = &self.lives;
        self.vigils
            .retain(|known, _| lives.values().any(|life| life.incarnation == *known));
        for ((slot, replica), life) in &self.lives {
            let Some(process) = life
                .process
                .filter(|_| !self.vigils.contains_key(&life.incarnation))
            else {
                continue;
            };
            let (wakes, container) = (wakes.clone(), life.container.clone());
            let vanished = Wake::Vanished {
                service: self.berth.service().clone(),
                slot: *slot,
                replica: *replica,
                incarnation: life.incarnation,
            };
            let vigil = tokio::spawn(async move {
                let gone = match Process::of(&container, process) {
                    Ok(held) => held.gone().await,
                    Err(error) => Err(error),
                };
                match gone {
                    Ok(()) => drop(wakes.send(vanished).await),
                    Err(error) => {
                        debug!(container, process, %error, "a process can't be watched; the engine will tell of its end")
                    }
                }
            });
            self.vigils
                .insert(life.incarnation, AbortOnDropHandle::new(vigil));
        }
    }

    /// Where nginx must be able to send this service's requests; `None`: it has none.
    pub(crate) fn site(
        &mut self,
        revisions: &Revisions,
        include_only: bool,
        mut addresses: impl FnMut(&ServiceId, Slot, u32) -> Option<Vec<Ipv4Addr>>,
    ) -> Option<Site> {
        let service = self.berth.service().clone();
        let settled = self.berth.current().cloned();
        let mut listeners: Vec<Listener> = Vec::new();
        let mut replicas = 1;
        for settled in settled.into_iter().chain(self.berth.candidate()) {
            if let Ok(spec) = self.spec(revisions, settled.side.revision) {
                listeners.extend(spec.traffic.iter().cloned());
                replicas = replicas.max(spec.replicas);
            }
        }
        listeners.sort();
        listeners.dedup();
        if listeners.is_empty() {
            return None;
        }
        let (blue, green) = (
            addresses(&service, Slot::Blue, replicas)?,
            addresses(&service, Slot::Green, replicas)?,
        );
        Some(Site {
            service,
            listeners,
            blue,
            green,
            request_timeout: REQUEST_TIMEOUT,
            include_only,
        })
    }
}

/// Another container, or another start of the same one, is another life.
fn incarnation(id: &str, started: SystemTime) -> Incarnation {
    let nanos = started
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos());
    let low = u64::try_from(nanos & u128::from(u64::MAX)).unwrap_or(0);
    let prefix = id
        .get(..12)
        .and_then(|hex| u64::from_str_radix(hex, 16).ok())
        .unwrap_or(0);
    Incarnation(low ^ prefix.rotate_left(32))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use cutover_core::Generation;

    use super::*;
    use crate::docker::Identity;

    // It counted as running, and as proved, until somebody looked again.
    #[test]
    fn a_listing_that_was_read_before_a_death_raises_nobody() {
        let service: ServiceId = "shop/web".parse().expect("a service");
        let mut post = Post::new(Berth::new(service.clone()));
        let running = |since| Found {
            name: "shop-web-1-1".to_owned(),
            id: "0123456789abcdef".to_owned(),
            identity: Ok(Identity {
                service: service.clone(),
                revision: "1".parse().expect("a revision"),
                slot: Slot::Blue,
                replica: 1,
                generation: Generation::NONE,
            }),
            state: State::Running(UNIX_EPOCH + Duration::from_secs(since)),
            address: None,
            process: None,
            image_id: String::new(),
        };
        let state = |seen: &Seen| seen.replicas.first().map(|one| one.state);
        let replica = (Slot::Blue, 1);

        let up = state(&post.see(vec![running(10)], false));
        let life = post.lives.get(&replica).expect("it runs").incarnation;
        assert_eq!(up, Some(SeenState::Up(life)));
        post.end(replica, life, 137);
        let late = post.see(vec![running(10)], false);
        assert_eq!(state(&late), Some(SeenState::Down(137)));
        assert!(post.lives.is_empty());

        // Its next life is another one.
        let next = post.see(vec![running(20)], false);
        let life = post.lives.get(&replica).expect("it runs again").incarnation;
        assert_eq!(state(&next), Some(SeenState::Up(life)));
    }
}

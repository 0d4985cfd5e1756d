//! Reading this host's containers: once at a time, and again when that failed.
//!
//! Kept true: what the engine does not tell is not known. It is never taken for
//! gone, and holds up nobody else: the berth whose container it is keeps what it
//! saw last, and the next listing comes soon. Of two readings the one counts that began
//! later, whichever comes last.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cutover_core::swap::{Event, Seen};
use cutover_core::{Moment, ServiceId};
use cutover_daemon::clock;
use cutover_daemon::logging::chain;
use tracing::{info, warn};

use crate::docker;
use crate::helm::Helm;
use crate::helm::wake::Wake;

/// A listing that failed, or did not tell all, is tried again after this: soon enough for a swap that waits for it, and
/// no burden to an engine in trouble.
const LIST_AGAIN: Duration = Duration::from_secs(2);

/// How the reading of containers stands.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// It is under way.
    pub(super) busy: bool,
    pub(super) began: Moment,
    /// It began after the engine was last heard to be away.
    pub(super) after_away: bool,
    /// Something happened since it began.
    again: bool,
    /// The containers were read once since the start: what the journal did not know is known.
    pub(super) once: bool,
    /// Services of whose containers the last one did not tell all.
    blurred: BTreeSet<ServiceId>,
    /// When it is tried again.
    pub(super) at: Option<Moment>,
    /// What the last one did not tell, and why; said once.
    trouble: String,
}

/// A service's containers, and when the reading of them began.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) began: Moment,
    pub(crate) found: Vec<docker::Found>,
}

impl Listing {
    /// Whether it is known what of this service runs here.
    pub(super) fn knows(&self, service: &ServiceId) -> bool {
        self.once && !self.blurred.contains(service)
    }
}

impl Helm {
    /// Reads all containers, once at a time.
    pub(super) fn list(&mut self) {
        if self.listing.busy {
            self.listing.again = true;
            return;
        }
        self.listing.busy = true;
        self.listing.began = clock::now();
        self.listing.after_away = self.engine_was_away;
        self.listing.at = None;
        let (docker, wakes) = (self.parts.hands.docker.clone(), self.parts.wakes.clone());
        tokio::spawn(async move {
            let listed = docker.list().await.map_err(|error| chain(&error));
            drop(wakes.send(Wake::Listed(listed)).await);
        });
    }

    /// Reads them after a pause, unless that happens before.
    pub(super) fn list_soon(&mut self, now: Moment) {
        let at = now + LIST_AGAIN;
        self.listing.at = Some(self.listing.at.map_or(at, |before| before.min(at)));
    }

    /// Reads them when the pause is over.
    pub(super) fn list_when_due(&mut self, now: Moment) {
        if !self.listing.busy && self.listing.at.is_some_and(|at| now >= at) {
            self.list();
        }
    }

    pub(super) fn not_listed(&mut self, now: Moment, why: String) {
        self.listing.busy = false;
        self.listing.again = false;
        self.list_soon(now);
        self.say_trouble(why);
    }

    pub(super) fn listed(&mut self, now: Moment, listing: docker::Listing) {
        let restarted = self.engine_was_away;
        if self.listing.after_away {
            self.engine_was_away = false;
        }
        let (told, blurred) = by_service(listing.found, &listing.unknown);
        for (service, found) in &told {
            if !self.posts.contains_key(service) && !blurred.contains(service) {
                self.adopt(service, found);
            }
        }
        let mut told = told;
        let services: Vec<ServiceId> = self.posts.keys().cloned().collect();
        for service in services {
            let found = told.remove(&service).unwrap_or_default();
            if !blurred.contains(&service) {
                let began = self.listing.began;
                self.see(now, &service, Reading { began, found }, restarted);
            } else if let Some(post) = self.posts.get_mut(&service) {
                post.missed_restart |= restarted;
            }
        }
        (self.listing.once, self.listing.blurred) = (true, blurred);
        let why = listing.unknown.iter().map(|one| {
            let why = chain(&one.why);
            format!("{}: {why}", one.name)
        });
        self.say_trouble(why.collect::<Vec<_>>().join("; "));
        if !listing.unknown.is_empty() {
            self.list_soon(now);
        }
        self.listing.busy = false;
        if std::mem::take(&mut self.listing.again) {
            self.list();
        }
    }

    /// Tells a berth how its containers stand, unless a reading was told already that began later.
    pub(super) fn see(
        &mut self,
        now: Moment,
        service: &ServiceId,
        reading: Reading,
        engine_restarted: bool,
    ) {
        let Some(post) = self.posts.get_mut(service) else {
            return;
        };
        if reading.began < post.read_at {
            post.missed_restart |= engine_restarted;
            self.list();
            return;
        }
        post.read_at = reading.began;
        let restarted = engine_restarted | std::mem::take(&mut post.missed_restart);
        let seen: Seen = post.see(reading.found, restarted);
        post.watch_processes(&self.parts.wakes);
        self.tell(now, service, Event::Saw(seen));
    }

    fn say_trouble(&mut self, why: String) {
        if self.listing.trouble == why {
            return;
        }
        if why.is_empty() {
            info!("all containers are known again");
        } else {
            warn!(
                why,
                "not all containers could be read; what is not known is judged by nobody, and asked again"
            );
        }
        self.listing.trouble = why;
    }
}

/// The containers of each service, and the services of which not all are known.
fn by_service(
    found: Vec<docker::Found>,
    unknown: &[docker::Unknown],
) -> (BTreeMap<ServiceId, Vec<docker::Found>>, BTreeSet<ServiceId>) {
    let mut by_service: BTreeMap<ServiceId, Vec<docker::Found>> = BTreeMap::new();
    for one in found {
        match &one.identity {
            Ok(identity) => by_service
                .entry(identity.service.clone())
                .or_default()
                .push(one),
            Err(label) => warn!(
                container = one.name,
                label, "a container of this host makes no sense; it is left alone"
            ),
        }
    }
    let blurred = unknown
        .iter()
        .filter_map(|one| one.identity.as_ref().ok())
        .map(|identity| identity.service.clone());
    (by_service, blurred.collect())
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use cutover_core::Slot;
    use cutover_core::swap::Action;

    use super::*;
    use crate::docker::{Death, Exit, Identity, State, Who};
    use crate::helm::bed::{Bed, found, generation, revision, service};

    fn death(engine_stays: bool) -> Wake {
        let identity = Identity {
            service: service(),
            revision: revision(8),
            slot: Slot::Green,
            replica: 1,
            generation: generation(8),
        };
        Wake::Engine(docker::Event::Died(Death {
            who: Who {
                name: identity.name(),
                id: String::new(),
                identity: Ok(identity),
                at: SystemTime::now(),
            },
            code: Some(1),
            signal: None,
            engine_stays,
        }))
    }

    /// A parked revision was removed; the reading after it finds the one that serves so.
    fn removed_and_read(began: Moment, state: State) -> Wake {
        Wake::Acted {
            service: service(),
            action: Action::Remove {
                slot: Slot::Blue,
                revision: revision(7),
            },
            result: Ok(()),
            found: Some(Reading {
                began,
                found: vec![found(8, Slot::Green, state)],
            }),
        }
    }

    #[tokio::test]
    async fn after_a_death_the_containers_are_read_even_if_that_was_under_way() {
        let now = Moment::from_millis(1000);
        let mut bed = Bed::new();
        bed.list(now, &[(8, Slot::Green, true)]);
        bed.helm.listing.busy = true; // and may have seen it alive
        bed.wake(now, death(true));
        assert!(bed.helm.listing.again, "once more when that is over");
    }

    #[tokio::test]
    async fn what_dies_while_its_engine_leaves_is_judged_when_it_is_back() {
        let now = Moment::from_millis(1000);
        let mut bed = Bed::new();
        bed.list(now, &[(8, Slot::Green, true)]);
        bed.helm.listing.busy = true;
        bed.wake(now, death(false));
        assert!(bed.helm.engine_was_away);
        assert!(
            !bed.helm.listing.again,
            "an engine that leaves says nothing"
        );
        assert_eq!(
            bed.helm.posts[&service()].lives.len(),
            1,
            "nobody is judged"
        );
    }

    #[tokio::test]
    async fn p1_what_an_action_finds_dead_after_its_engine_left_is_judged_by_nobody() {
        let now = Moment::from_millis(1000);
        let start = Action::Start {
            slot: Slot::Green,
            revision: revision(8),
        };
        for (engine_left, then) in [(true, vec![start]), (false, Vec::new())] {
            let mut bed = Bed::new();
            bed.list(now, &[(8, Slot::Green, true)]);
            bed.helm.listing.busy = true;
            if engine_left {
                bed.wake(now, death(false));
            }
            let ended = State::Exited(Exit {
                code: 137,
                out_of_memory: false,
                error: String::new(),
                at: SystemTime::now(),
            });
            bed.wake(now, removed_and_read(now, ended));
            // Its policy is never to start it again; that an engine took it along is no death of its own.
            assert_eq!(bed.under_way(), then);
            assert_eq!(
                bed.helm.engine_was_away, engine_left,
                "what is read next may be from before, too"
            );
        }
    }

    // Two actions of a service may end at once: what the first one read may be told last.
    #[tokio::test]
    async fn what_was_read_before_something_newer_was_told_says_nothing() {
        let at = Moment::from_millis;
        let mut bed = Bed::new();
        bed.list(at(1_000), &[(8, Slot::Green, true)]);
        let stale = removed_and_read(at(999), State::Created(String::new()));
        assert!(!bed.helm.listing.busy);
        bed.wake(at(1_100), stale);
        assert_eq!(bed.helm.posts[&service()].lives.len(), 1);
        assert!(bed.helm.listing.busy, "they are read anew");
    }
}

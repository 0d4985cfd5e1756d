//! After each wake: what every berth wants, asked again and set going.

use std::sync::Arc;
use std::time::Duration;

use cutover_core::spec::{Check, ServiceSpec};
use cutover_core::swap::{Action, Event, Lane, Pace, Target, Watch};
use cutover_core::{Moment, ServiceId, Slot};
use cutover_daemon::logging::chain;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, warn};

use crate::helm::act::Job;
use crate::helm::arrange::Sites;
use crate::helm::post::{Post, Sample};
use crate::helm::wake::{Sampled, Wake};
use crate::helm::{Helm, connections};
use crate::probe;
use crate::traffic::Site;

/// How often the connections of a draining slot are counted.
const COUNT_EVERY: Duration = Duration::from_millis(100);
/// How often a committed replica is sampled that has no liveness check of its own.
const IDLE_EVERY: Duration = Duration::from_secs(10);
/// Docker's HEALTHCHECK is run by the agent at least so often while something hangs on it.
const HEALTHCHECK_EVERY: Duration = Duration::from_secs(1);
/// The account of a candidate that fell waits so long for the last lines of its log. Usually they are there at once; an
/// engine that is just starting the container again gives none before it is done.
const LOG_WITHIN: Duration = Duration::from_secs(5);
/// How often requests are read from the counter while a swap is open.
const SIGNAL_EVERY: Duration = Duration::from_secs(1);
/// And else: how late somebody hears of requests that found no route. The loop wakes as often by itself.
const IDLE_SIGNAL_EVERY: Duration = Duration::from_secs(10);

impl Helm {
    /// Sets going what is wanted now: by the berths that were touched, or by all.
    pub(super) fn tend(&mut self, now: Moment) {
        let round = self.round(now);
        for service in &round.services {
            if let Some(post) = self.posts.get_mut(service) {
                post.owed = std::mem::take(&mut post.owes);
            }
            self.tell(now, service, Event::Ticked);
            self.take_out(now, service);
            if self.is_held(service) {
                continue;
            }
            self.act(now, service);
            self.probe(now, service);
            self.count(now, service);
        }
        if round.whole {
            self.list_when_due(now);
            self.arrange(now);
            self.read_signals(now);
        }
        self.report(now, &round.services);
        self.note_wakes(now, &round);
    }

    /// A trial holds the open swap in its phase.
    fn is_held(&self, service: &ServiceId) -> bool {
        let post = self.posts.get(service);
        post.is_some_and(|post| self.trial.holds(&post.berth))
    }

    /// As far as an order may lead while a trial holds the open swap: no further, and back.
    pub(super) fn target_in_a_trial(&self, service: &ServiceId, target: Target) -> Target {
        let standing = self.posts.get(service).and_then(|post| post.berth.target());
        match standing {
            Some(standing) if target != Target::Reverted && self.is_held(service) => standing,
            Some(_) | None => target,
        }
    }

    /// Starts what the berth wants and can begin.
    fn act(&mut self, now: Moment, service: &ServiceId) {
        if let Some(post) = self.posts.get_mut(service) {
            post.drop_fetch();
        }
        for lane in Lane::ALL {
            let post = self.posts.get(service);
            if let Some(action) = post.and_then(|post| post.next(now, lane)) {
                self.begin(now, service, lane, action);
            }
        }
    }

    fn begin(&mut self, now: Moment, service: &ServiceId, lane: Lane, action: Action) {
        let job = match self.job(service, action) {
            Ok(job) => job,
            Err(reason) => {
                warn!(%service, ?action, reason, "an action can't be begun");
                let failure = cutover_core::swap::Failure {
                    transient: false,
                    reason,
                };
                self.tell(now, service, Event::Failed(action, failure));
                return;
            }
        };
        debug!(%service, ?action, "an action begins");
        let (hands, wakes) = (self.parts.hands.clone(), self.parts.wakes.clone());
        let Some(post) = self.posts.get_mut(service) else {
            return;
        };
        let (begun, service) = (service.clone(), service.clone());
        let task = tokio::spawn(async move {
            let result = hands.act(&job).await;
            let found = if changes_containers(action) {
                hands.look(&service).await
            } else {
                None
            };
            drop(
                wakes
                    .send(Wake::Acted {
                        service,
                        action,
                        result,
                        found,
                    })
                    .await,
            );
        });
        if let Action::Fetch { revision } = action {
            post.fetching = Some((revision, AbortOnDropHandle::new(task)));
        } else {
            post.under_way.began(lane, action);
        }
        self.tell(now, &begun, Event::Began(action));
    }

    /// All that an action needs.
    fn job(&mut self, service: &ServiceId, action: Action) -> Result<Job, String> {
        let post = self.posts.get_mut(service).ok_or("the service is gone")?;
        let (slot, revision) = match action {
            Action::Fetch { revision } => (None, revision),
            Action::Make { slot, revision }
            | Action::Start { slot, revision }
            | Action::Smoke { slot, revision, .. }
            | Action::Halt { slot, revision, .. }
            | Action::Stop { slot, revision }
            | Action::Remove { slot, revision } => (Some(slot), revision),
            Action::Prove(_) => {
                let side = post
                    .berth
                    .candidate()
                    .or_else(|| post.berth.current().cloned());
                (
                    None,
                    side.ok_or("there is no revision to prove")?.side.revision,
                )
            }
        };
        let spec = post
            .spec(&self.parts.revisions, revision)
            .map_err(|error| chain(&error))?;
        let generation = post
            .berth
            .open_plan()
            .map_or_else(|| post.berth.fence(), |plan| plan.generation);
        let addresses = match slot {
            Some(slot) => self
                .parts
                .addresses
                .of(service, slot, spec.replicas)
                .map_err(|error| chain(&error))?,
            None => Vec::new(),
        };
        let site = self.site(service);
        let sites = if matches!(action, Action::Make { .. }) {
            self.sites()
        } else {
            Sites::default()
        };
        Ok(Job {
            service: service.clone(),
            action,
            spec,
            generation,
            addresses,
            site,
            sites,
        })
    }

    fn site(&mut self, service: &ServiceId) -> Option<Site> {
        let include_only = self
            .parts
            .include_only
            .iter()
            .any(|name| *name == service.to_string());
        let addresses = &mut self.parts.addresses;
        let give = |service: &ServiceId, slot: Slot, replicas: u32| match addresses
            .of(service, slot, replicas)
        {
            Ok(given) => Some(given),
            Err(error) => {
                warn!(%service, error = chain(&error), "no address");
                None
            }
        };
        self.posts
            .get_mut(service)?
            .site(&self.parts.revisions, include_only, give)
    }

    /// Every site that nginx must carry now.
    pub(super) fn sites(&mut self) -> Sites {
        let services: Vec<ServiceId> = self.posts.keys().cloned().collect();
        let list: Vec<Site> = services
            .iter()
            .filter_map(|service| self.site(service))
            .collect();
        self.site_lists += 1;
        Sites {
            number: self.site_lists,
            told: self.arranged.as_ref() == Some(&list),
            list,
        }
    }

    /// Takes the samples that are due.
    fn probe(&mut self, now: Moment, service: &ServiceId) {
        let Some(post) = self.posts.get_mut(service) else {
            return;
        };
        let watches = post.berth.want(now).watch;
        post.samples.retain(|(slot, revision, _), _| {
            watches
                .iter()
                .any(|watch| watch.slot == *slot && watch.revision == *revision)
        });
        for watch in watches {
            let spec = match post.spec(&self.parts.revisions, watch.revision) {
                Ok(spec) => spec,
                Err(error) => {
                    warn!(%service, error = chain(&error), "a revision can't be probed");
                    continue;
                }
            };
            sample(
                post,
                &self.parts.hands,
                &self.parts.wakes,
                now,
                watch,
                &spec,
            );
        }
    }

    pub(super) fn sampled(&mut self, now: Moment, sampled: Sampled) {
        let Sampled {
            service,
            slot,
            revision,
            replica,
            incarnation,
            healthy,
            evidence,
        } = sampled;
        if let Some(post) = self.posts.get_mut(&service)
            && let Some(sample) = post.samples.get_mut(&(slot, revision, replica))
        {
            sample.asked = false;
        }
        self.tell(
            now,
            &service,
            Event::Sampled {
                slot,
                replica,
                incarnation,
                healthy,
                evidence,
            },
        );
    }

    /// Counts the connections of a slot that is being drained.
    fn count(&mut self, now: Moment, service: &ServiceId) {
        let Some(post) = self.posts.get_mut(service) else {
            return;
        };
        let Some(slot) = post.berth.want(now).count else {
            return;
        };
        if post.count.1 || now < post.count.0 {
            return;
        }
        post.count = (now + COUNT_EVERY, true);
        let replicas = post.lives.iter().filter(|((at, _), _)| *at == slot);
        let addresses: Vec<_> = replicas.filter_map(|(_, life)| life.address).collect();
        let (wakes, service) = (self.parts.wakes.clone(), service.clone());
        tokio::spawn(async move {
            let table = tokio::fs::read_to_string("/proc/net/tcp").await;
            let open = match table {
                Ok(table) => connections::open(&table, &addresses),
                Err(error) => {
                    warn!(
                        error = chain(&error),
                        "connections can't be counted; the whole drain time is waited for"
                    );
                    u64::MAX
                }
            };
            drop(
                wakes
                    .send(Wake::Counted {
                        service,
                        slot,
                        open,
                    })
                    .await,
            );
        });
    }

    /// Reads the counts of requests: often while a swap is open, else for requests that found nobody.
    fn read_signals(&mut self, now: Moment) {
        let open = self
            .posts
            .values()
            .any(|post| post.berth.open_plan().is_some());
        match self.counting {
            None => self.counting = Some(now),
            Some(at) if now >= at => {
                let every = if open {
                    SIGNAL_EVERY
                } else {
                    IDLE_SIGNAL_EVERY
                };
                self.counting = Some(now + every);
                let (signals, wakes) = (self.parts.signals.clone(), self.parts.wakes.clone());
                tokio::spawn(async move {
                    if let Ok(counts) = signals.counts().await {
                        drop(wakes.send(Wake::Signalled(counts)).await);
                    }
                });
            }
            Some(_) => {}
        }
    }

    /// Reads the last lines of the candidate's log, before its container goes and before anybody is told: whoever hears
    /// that it fell may ask why only once.
    pub(super) fn fetch_log(&mut self, service: &ServiceId) {
        let Some(post) = self.posts.get_mut(service) else {
            return;
        };
        let Some(candidate) = post.berth.candidate().filter(|_| !post.logging) else {
            return;
        };
        post.logging = true;
        let revision = candidate.side.revision;
        let names = post.found.iter().filter(|found| {
            found
                .identity
                .as_ref()
                .is_ok_and(|id| id.revision == revision)
        });
        let names: Vec<String> = names.map(|found| found.name.clone()).collect();
        let (hands, wakes, service) = (
            self.parts.hands.clone(),
            self.parts.wakes.clone(),
            service.clone(),
        );
        tokio::spawn(async move {
            let lines = tokio::time::timeout(LOG_WITHIN, hands.last_lines(&names)).await;
            let lines = lines.ok().flatten().unwrap_or_default();
            drop(wakes.send(Wake::Logged { service, lines }).await);
        });
    }
}

/// Whether containers are read after it.
pub(super) fn changes_containers(action: Action) -> bool {
    match action {
        Action::Make { .. }
        | Action::Start { .. }
        | Action::Halt { .. }
        | Action::Stop { .. }
        | Action::Remove { .. } => true,
        Action::Fetch { .. } | Action::Smoke { .. } | Action::Prove(_) => false,
    }
}

/// Asks one replica, when it is due and not being asked.
fn sample(
    post: &mut Post,
    hands: &crate::helm::Hands,
    wakes: &tokio::sync::mpsc::Sender<Wake>,
    now: Moment,
    watch: Watch,
    spec: &Arc<ServiceSpec>,
) {
    let Watch {
        slot,
        revision,
        replica,
        pace,
    } = watch;
    let Some(life) = post
        .lives
        .get(&(slot, replica))
        .filter(|life| life.revision == revision)
    else {
        return;
    };
    let every = interval(spec, pace);
    let entry = post
        .samples
        .entry((slot, revision, replica))
        .or_insert(Sample {
            next: now,
            asked: false,
        });
    // A replica that is waited for is not asked at the pace of an idle one.
    let next = next_sample(now, every, pace);
    entry.next = entry.next.min(next);
    if entry.asked || now < entry.next {
        return;
    }
    let Some(address) = life.address else { return };
    *entry = Sample { next, asked: true };
    let (check, timeout) = match (pace, &spec.live) {
        (Pace::Live, Some(live)) => (live.check.clone(), live.timeout),
        (Pace::Live | Pace::Ready, _) => (spec.ready.check.clone(), spec.ready.timeout),
    };
    let (docker, wakes, name) = (hands.docker.clone(), wakes.clone(), life.name.clone());
    let (service, incarnation) = (post.berth.service().clone(), life.incarnation);
    tokio::spawn(async move {
        let replica_at = probe::Replica {
            address,
            container: &name,
        };
        let sample = probe::sample(&docker, &check, replica_at, timeout).await;
        let (healthy, evidence) = (
            sample.healthy,
            if sample.healthy {
                String::new()
            } else {
                sample.evidence
            },
        );
        let sampled = Sampled {
            service,
            slot,
            revision,
            replica,
            incarnation,
            healthy,
            evidence,
        };
        drop(wakes.send(Wake::Sampled(sampled)).await);
    });
}

/// When a replica is asked next. Committed ones that are asked equally often are asked at the same moment: an idle
/// agent then wakes once for all of them.
fn next_sample(now: Moment, every: Duration, pace: Pace) -> Moment {
    match pace {
        Pace::Ready => now + every,
        Pace::Live => {
            let step = u64::try_from(every.as_nanos()).unwrap_or(u64::MAX).max(1);
            Moment::from_nanos((now.as_nanos() / step + 1).saturating_mul(step))
        }
    }
}

fn interval(spec: &ServiceSpec, pace: Pace) -> Duration {
    match (pace, &spec.live, &spec.ready.check) {
        (Pace::Live, Some(live), _) => live.every,
        (Pace::Live, None, _) => IDLE_EVERY.max(spec.ready.every),
        (Pace::Ready, _, Check::Docker) => spec.ready.every.min(HEALTHCHECK_EVERY),
        (
            Pace::Ready,
            _,
            Check::Http { .. } | Check::Tcp { .. } | Check::Exec { .. } | Check::Running,
        ) => spec.ready.every,
    }
}

#[cfg(test)]
mod tests {
    use cutover_core::swap::{Berth, Failure, Hang};

    use super::*;
    use crate::helm::bed::{Bed, revision, service};

    #[test]
    fn committed_replicas_are_asked_together_and_never_later_than_their_interval() {
        let every = Duration::from_secs(10);
        for millis in [0, 1, 12_345, 19_999] {
            let now = Moment::from_millis(millis);
            let next = next_sample(now, every, Pace::Live);
            assert_eq!(next.as_nanos() % 10_000_000_000, 0);
            assert!(next > now && next <= now + every);
            assert_eq!(next_sample(now, every, Pace::Ready), now + every);
        }
    }

    #[tokio::test]
    async fn p7_what_serves_is_started_again_while_a_candidate_is_being_started() {
        let at = Moment::from_millis;
        let start = |slot, number| Action::Start {
            slot,
            revision: revision(number),
        };
        let (serves, next) = (start(Slot::Green, 8), start(Slot::Blue, 7));
        let mut bed = Bed::new();
        bed.list(at(1_000), &[(8, Slot::Green, true)]);
        let post = bed.helm.posts.get_mut(&service()).expect("it runs");
        post.under_way.began(Lane::Step, next);
        bed.list(at(2_000), &[(8, Slot::Green, false)]);
        assert_eq!(bed.under_way(), [next, serves]);
    }

    /// What hung may answer well until it is gone.
    #[tokio::test]
    async fn p1_a_replica_that_is_being_halted_does_not_pass() {
        let at = Moment::from_millis;
        let mut bed = Bed::new();
        bed.list(at(1_000), &[(8, Slot::Green, true)]);
        let incarnation = bed.helm.posts[&service()].lives[&(Slot::Green, 1)].incarnation;
        let post = bed.helm.posts.get_mut(&service()).expect("it runs");
        let mut summary = post.berth.summary().expect("nothing is open");
        let hang = Hang {
            incarnation,
            why: "it failed 3 checks in a row".to_owned(),
        };
        summary.hung.push((Slot::Green, 1, hang));
        post.berth = Berth::resume(summary);
        bed.list(at(2_000), &[(8, Slot::Green, true)]);
        let halt = Action::Halt {
            slot: Slot::Green,
            revision: revision(8),
            replica: 1,
        };
        let sampled = |healthy| {
            Wake::Sampled(Sampled {
                service: service(),
                slot: Slot::Green,
                revision: revision(8),
                replica: 1,
                incarnation,
                healthy,
                evidence: String::new(),
            })
        };
        bed.wake(at(2_500), sampled(false));
        assert_eq!(bed.under_way(), [halt]);
        // Long after its grace time that came to nothing, and it is tried again.
        let failed = Wake::Acted {
            service: service(),
            action: halt,
            result: Err(Failure {
                transient: true,
                reason: "the engine does not answer".to_owned(),
            }),
            found: None,
        };
        bed.wake(at(20_000), failed);
        assert_eq!(bed.under_way(), []);
        bed.helm.tend(at(21_000));
        assert_eq!(bed.under_way(), [halt]);
        bed.wake(at(40_000), sampled(true));
        let report = bed.helm.posts[&service()].berth.report(1, at(40_000));
        assert_eq!(report.replicas, (1, 0));
    }
}

//! How each action is done: with the engine, nginx and probes. Says what came of it; decides nothing.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use cutover_core::spec::ServiceSpec;
use cutover_core::swap::{Action, Failure};
use cutover_core::{Generation, RevisionNumber, ServiceId, Slot};
use cutover_daemon::clock;
use cutover_daemon::logging::chain;
use futures::future::{join, join_all};

use crate::docker::{Class, ContainerPlan, Docker, Error, Identity, NetworkPlan};
use crate::helm::arrange::{Arranger, Sites};
use crate::helm::listing::Reading;
use crate::probe;
use crate::traffic::{Site, Traffic};

/// A smoke check that takes longer has failed.
const SMOKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Lines and bytes of a container's log that go into a message.
const LOG_LINES: u32 = 8;
const LOG_BYTES: usize = 2048;

/// What actions are done with.
#[derive(Clone)]
pub(crate) struct Hands {
    pub(crate) docker: Docker,
    pub(crate) traffic: Traffic,
    pub(crate) arranger: Arranger,
    pub(crate) network: Arc<NetworkPlan>,
    /// Where nginx is asked when a listener names no address.
    pub(crate) listen_address: Ipv4Addr,
}

/// One action with all that it needs.
pub(crate) struct Job {
    pub(crate) service: ServiceId,
    pub(crate) action: Action,
    pub(crate) spec: Arc<ServiceSpec>,
    pub(crate) generation: Generation,
    /// Of the slot concerned, one a replica.
    pub(crate) addresses: Vec<Ipv4Addr>,
    /// Of this service; none: it has no traffic.
    pub(crate) site: Option<Site>,
    /// Of all services, for nginx.
    pub(crate) sites: Sites,
}

impl Hands {
    /// Does it; a second time changes nothing.
    pub(crate) async fn act(&self, job: &Job) -> Result<(), Failure> {
        match job.action {
            Action::Fetch { .. } => self.fetch(job).await,
            Action::Make { slot, revision } => self.make(job, slot, revision).await,
            Action::Start { slot, revision } => self.start(job, slot, revision).await,
            Action::Smoke {
                through_listener, ..
            } => self.smoke(job, through_listener).await,
            Action::Prove(route) => match &job.site {
                Some(site) => self
                    .traffic
                    .prove(site, route)
                    .await
                    .map_err(|error| again(chain(&error))),
                None => Ok(()),
            },
            Action::Halt {
                slot,
                revision,
                replica,
            } => {
                let one = |id: &Identity| id.replica == replica;
                self.stop_some(job, slot, revision, one).await
            }
            Action::Stop { slot, revision } => self.stop(job, slot, revision).await,
            Action::Remove { slot, revision } => self.remove(job, slot, revision).await,
        }
    }

    /// This service's containers, whatever their state; `None`: that is not known of all of them.
    pub(crate) async fn look(&self, service: &ServiceId) -> Option<Reading> {
        let began = clock::now();
        let listing = self.docker.list_of(service).await.ok()?;
        let found = listing.found;
        listing
            .unknown
            .is_empty()
            .then_some(Reading { began, found })
    }

    async fn fetch(&self, job: &Job) -> Result<(), Failure> {
        self.docker
            .ensure_network(&self.network)
            .await
            .map_err(failure)?;
        let container = &job.spec.container;
        let image = if container.resolved_image.is_empty() {
            &container.image
        } else {
            &container.resolved_image
        };
        let pulled = self.docker.pull(image, None, |_| {}).await;
        // People know it by what they wrote, not by what that was resolved to.
        pulled.map_err(|error| {
            let mut failure = failure(error);
            if *image != container.image {
                failure.reason = format!("image {}: {}", container.image, failure.reason);
            }
            failure
        })
    }

    async fn make(&self, job: &Job, slot: Slot, revision: RevisionNumber) -> Result<(), Failure> {
        let create = self.create(job, slot, revision);
        if job.site.is_none() {
            return create.await;
        }
        let arrange = || {
            self.arranger
                .arrange(job.sites.clone(), job.service.clone())
        };
        if job.sites.told {
            let (created, arranged) = join(create, arrange()).await;
            return worse(created, arranged);
        }
        // What is new to nginx costs a reload: not for containers that can't be made.
        create.await?;
        arrange().await
    }

    async fn create(&self, job: &Job, slot: Slot, revision: RevisionNumber) -> Result<(), Failure> {
        for (identity, address) in replicas(job, slot, revision) {
            let plan = self.plan(job, &identity, address);
            self.create_one(job, &plan).await?;
        }
        Ok(())
    }

    fn plan<'a>(
        &'a self,
        job: &'a Job,
        identity: &'a Identity,
        address: Ipv4Addr,
    ) -> ContainerPlan<'a> {
        ContainerPlan {
            identity,
            address,
            network: &self.network.name,
            spec: &job.spec.container,
        }
    }

    /// `true`: it was not there, or not so.
    async fn create_one(&self, job: &Job, plan: &ContainerPlan<'_>) -> Result<bool, Failure> {
        self.docker
            .ensure_network(&self.network)
            .await
            .map_err(failure)?;
        let created = match self.docker.create(plan).await {
            // The image was pruned, or never came: have it, then once more.
            Err(error) if error.class() == Class::NoSuchImage => {
                self.fetch(job).await?;
                self.docker.create(plan).await
            }
            answer => answer,
        };
        created.map(|created| created.made).map_err(failure)
    }

    async fn start(&self, job: &Job, slot: Slot, revision: RevisionNumber) -> Result<(), Failure> {
        let starts = replicas(job, slot, revision).map(|(identity, address)| async move {
            let plan = self.plan(job, &identity, address);
            self.start_one(job, &plan).await
        });
        to_the_end(starts).await
    }

    /// As it was made, mostly a moment ago; anew where it, or what it was made for, has gone since.
    async fn start_one(&self, job: &Job, plan: &ContainerPlan<'_>) -> Result<(), Failure> {
        let name = self.docker.name_of(plan.identity);
        if self.docker.is_made(plan).await.map_err(failure)? {
            let Err(error) = self.docker.start(&name).await else {
                return Ok(());
            };
            // An engine in a swarm says of a network that is gone what it says of much else.
            let class = error.class();
            let gone = matches!(class, Class::NotFound | Class::Ambiguous | Class::Other)
                && (self.create_one(job, plan).await? || class != Class::Other);
            if !gone {
                return Err(self.with_log(failure(error), &name).await);
            }
        } else {
            self.create_one(job, plan).await?;
        }
        match self.docker.start(&name).await {
            Ok(_) => Ok(()),
            Err(error) => Err(self.with_log(failure(error), &name).await),
        }
    }

    async fn smoke(&self, job: &Job, through_listener: bool) -> Result<(), Failure> {
        let Some(listener) = job.spec.traffic.first() else {
            return Ok(());
        };
        let doors: Vec<SocketAddr> = if through_listener {
            vec![SocketAddr::from((
                listener.address.unwrap_or(self.listen_address),
                listener.listen,
            ))]
        } else {
            job.addresses
                .iter()
                .map(|address| SocketAddr::from((*address, listener.port)))
                .collect()
        };
        for check in &job.spec.smoke {
            for door in &doors {
                let sample =
                    probe::smoke(check, *door, listener.host.as_deref(), SMOKE_TIMEOUT).await;
                if !sample.healthy && through_listener && !probe::accepts(*door).await {
                    // Nobody was asked: that is no verdict on the candidate.
                    return Err(again(format!(
                        "smoke check through nginx: nothing accepts connections on {door}; is nginx running?"
                    )));
                }
                if !sample.healthy {
                    let place = if through_listener {
                        "through nginx"
                    } else {
                        "asked directly"
                    };
                    return Err(Failure {
                        transient: false,
                        reason: format!("smoke check {place}: {}", sample.evidence),
                    });
                }
            }
        }
        Ok(())
    }

    async fn stop(&self, job: &Job, slot: Slot, revision: RevisionNumber) -> Result<(), Failure> {
        self.stop_some(job, slot, revision, |_| true).await
    }

    async fn stop_some(
        &self,
        job: &Job,
        slot: Slot,
        revision: RevisionNumber,
        which: impl Fn(&Identity) -> bool,
    ) -> Result<(), Failure> {
        let grace = job.spec.container.stop_grace;
        let stops = identities(job, slot, revision)
            .into_iter()
            .filter(which)
            .map(|identity| async move {
                self.docker
                    .stop_replica(&identity, grace)
                    .await
                    .map(drop)
                    .map_err(failure)
            });
        to_the_end(stops).await
    }

    async fn remove(&self, job: &Job, slot: Slot, revision: RevisionNumber) -> Result<(), Failure> {
        self.stop(job, slot, revision).await?;
        for identity in identities(job, slot, revision) {
            self.docker
                .remove_replica(&identity)
                .await
                .map_err(failure)?;
        }
        Ok(())
    }

    async fn with_log(&self, mut failure: Failure, name: &str) -> Failure {
        if let Some(lines) = self.last_lines(&[name.to_owned()]).await {
            failure.reason.push_str("; its log ends with: ");
            failure.reason.push_str(lines.trim());
        }
        failure
    }

    /// The last lines of the first of these containers that wrote any.
    pub(crate) async fn last_lines(&self, names: &[String]) -> Option<String> {
        for name in names {
            if let Ok(lines) = self.docker.logs_tail(name, LOG_LINES, LOG_BYTES).await
                && !lines.trim().is_empty()
            {
                return Some(lines);
            }
        }
        None
    }
}

/// Every replica of a revision.
pub(crate) fn identities(job: &Job, slot: Slot, revision: RevisionNumber) -> Vec<Identity> {
    let one = |replica| Identity {
        service: job.service.clone(),
        revision,
        slot,
        replica,
        generation: job.generation,
    };
    (1..=job.spec.replicas).map(one).collect()
}

/// And where each has its place.
fn replicas(
    job: &Job,
    slot: Slot,
    revision: RevisionNumber,
) -> impl Iterator<Item = (Identity, Ipv4Addr)> {
    let addresses = job.addresses.iter().copied();
    identities(job, slot, revision).into_iter().zip(addresses)
}

/// What a failure of the engine means: whether it helps to try again.
fn failure(error: Error) -> Failure {
    let transient = match error.class() {
        Class::Unreachable
        | Class::Timeout
        | Class::RegistryUnreachable
        | Class::Ambiguous
        | Class::LeftOver
        | Class::NotFound
        | Class::NotRunning => true,
        Class::Conflict
        | Class::Unauthorized
        | Class::NoSuchImage
        | Class::RegistryUntrusted
        | Class::NoSpace
        | Class::Other => false,
    };
    Failure {
        transient,
        reason: chain(&error),
    }
}

/// All of them, each to its end: one that is dropped half way would be asked to stop, or started, anew.
async fn to_the_end(
    replicas: impl Iterator<Item = impl Future<Output = Result<(), Failure>>>,
) -> Result<(), Failure> {
    let ended = join_all(replicas).await;
    ended.into_iter().reduce(worse).unwrap_or(Ok(()))
}

/// Of two, a failure; of two failures, one that will not pass.
fn worse(one: Result<(), Failure>, other: Result<(), Failure>) -> Result<(), Failure> {
    match (&one, &other) {
        (Ok(()), _) => other,
        (Err(failure), Err(last)) if failure.transient && !last.transient => other,
        (Err(_), _) => one,
    }
}

/// A failure that may pass.
fn again(reason: String) -> Failure {
    Failure {
        transient: true,
        reason,
    }
}

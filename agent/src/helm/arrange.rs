//! Tells nginx of all sites: one at a time, wishes that wait joined into one.
//!
//! A reload is dear (it costs idle keep-alive connections), so wishes that come
//! while one is under way share the next.

use cutover_core::ServiceId;
use cutover_core::swap::Failure;
use cutover_daemon::logging::chain;
use tokio::sync::{mpsc, oneshot};

use crate::signals::Signals;
use crate::traffic::{Error, Site, Traffic};

/// Wishes that wait; each berth has at most one, and the loop one.
const WISHES: usize = 64;

struct Wish {
    sites: Vec<Site>,
    /// Whose proof is waited for.
    service: Option<ServiceId>,
    done: oneshot::Sender<Result<(), Failure>>,
}

/// A handle on the task that tells nginx.
#[derive(Clone, Debug)]
pub(crate) struct Arranger {
    wishes: mpsc::Sender<Wish>,
}

impl std::fmt::Debug for Wish {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Wish({} sites)", self.sites.len())
    }
}

impl Arranger {
    /// A handle and the task, which runs until every handle is gone.
    pub(crate) fn new(traffic: Traffic, signals: Signals) -> (Self, impl Future<Output = ()>) {
        let (wishes, heard) = mpsc::channel(WISHES);
        (Self { wishes }, run(traffic, signals, heard))
    }

    /// nginx carries exactly these sites when this returns.
    pub(crate) async fn arrange(
        &self,
        sites: Vec<Site>,
        service: Option<ServiceId>,
    ) -> Result<(), Failure> {
        let (done, answer) = oneshot::channel();
        let gone = || Failure {
            transient: true,
            reason: "the agent is stopping".to_owned(),
        };
        self.wishes
            .send(Wish {
                sites,
                service,
                done,
            })
            .await
            .map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

async fn run(traffic: Traffic, signals: Signals, mut heard: mpsc::Receiver<Wish>) {
    while let Some(first) = heard.recv().await {
        let mut wishes = vec![first];
        while let Ok(next) = heard.try_recv() {
            wishes.push(next);
        }
        // The newest wish knows of every berth that the older ones knew.
        let sites = wishes
            .last()
            .map(|wish| wish.sites.clone())
            .unwrap_or_default();
        let result = ensure(&traffic, &signals, &sites).await;
        for wish in wishes {
            let own = match (&result, &wish.service) {
                (Err(failure), _) => Err(failure.clone()),
                (Ok(unproved), Some(service)) => {
                    match unproved.iter().find(|(of, _)| of == service) {
                        Some((_, reason)) => Err(Failure {
                            transient: true,
                            reason: reason.clone(),
                        }),
                        None => Ok(()),
                    }
                }
                (Ok(_), None) => Ok(()),
            };
            // Who asked may be gone.
            drop(wish.done.send(own));
        }
    }
}

/// Tells nginx; answers with the services that could not be proved.
async fn ensure(
    traffic: &Traffic,
    signals: &Signals,
    sites: &[Site],
) -> Result<Vec<(ServiceId, String)>, Failure> {
    let replicas = sites.iter().flat_map(|site| {
        cutover_core::Slot::ALL
            .map(|slot| (site.service.clone(), slot, site.replicas(slot).to_vec()))
    });
    if let Err(error) = signals.know(replicas.collect()).await {
        tracing::warn!(
            error = chain(&error),
            "requests can't be counted by replica"
        );
    }
    match traffic.ensure(sites).await {
        Ok(ensured) => {
            for warning in &ensured.warnings {
                tracing::warn!(warning, "nginx warns");
            }
            if ensured.reloaded {
                tracing::info!(sites = sites.len(), "nginx was reloaded");
            }
            let unreadable = ensured
                .unreadable
                .into_iter()
                .map(|(service, error)| (service, chain(&error)));
            let unproved = ensured
                .unproved
                .into_iter()
                .map(|unproved| (unproved.service.clone(), chain(&unproved)));
            Ok(unreadable.chain(unproved).collect())
        }
        Err(error) => {
            let transient = match &error {
                Error::Hung { .. }
                | Error::NotRunning
                | Error::MasterGone { .. }
                | Error::NotTaken { .. } => true,
                Error::File { .. }
                | Error::Path { .. }
                | Error::Site { .. }
                | Error::Run { .. }
                | Error::Refused { .. }
                | Error::Foreign { .. }
                | Error::NameTaken { .. }
                | Error::DefaultTaken { .. }
                | Error::PortTaken { .. }
                | Error::NotIncluded { .. }
                | Error::NoStream => false,
            };
            Err(Failure {
                transient,
                reason: chain(&error),
            })
        }
    }
}

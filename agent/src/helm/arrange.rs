//! Tells nginx of all sites: one at a time, wishes that wait joined into one.
//!
//! A reload is dear (it costs idle keep-alive connections), so wishes that come
//! while one is under way share the next. Kept true: a wish that was long under
//! way takes nothing from nginx that a later one has brought, and the loop hears
//! of each list that nginx was told.

use cutover_core::swap::Failure;
use cutover_core::{Moment, ServiceId};
use cutover_daemon::logging::chain;
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};

use crate::helm::wake::Wake;
use crate::helm::{HEARTBEAT, Helm};
use crate::signals::Signals;
use crate::traffic::{Error, Site, Traffic};

/// Wishes that wait; each berth has at most one, and the loop one.
const WISHES: usize = 64;

/// Every site that nginx must carry, as the loop knew it at one moment; a higher number is a later one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sites {
    pub(crate) number: u64,
    pub(crate) list: Vec<Site>,
}

struct Wish {
    sites: Sites,
    /// Whose proof is waited for.
    awaited: Option<(ServiceId, oneshot::Sender<Result<(), Failure>>)>,
}

/// The services that could not be proved, and why; or why nginx could not be told.
type Told = Result<Vec<(ServiceId, String)>, Failure>;

/// A handle on the task that tells nginx.
#[derive(Clone, Debug)]
pub(crate) struct Arranger {
    wishes: mpsc::Sender<Wish>,
}

impl std::fmt::Debug for Wish {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Wish({} sites, number {})",
            self.sites.list.len(),
            self.sites.number
        )
    }
}

impl Arranger {
    /// A handle and the task, which runs until every handle is gone.
    pub(crate) fn new(
        traffic: Traffic,
        signals: Signals,
        wakes: mpsc::Sender<Wake>,
    ) -> (Self, impl Future<Output = ()>) {
        let (wishes, heard) = mpsc::channel(WISHES);
        let tell = move |sites: Sites| {
            let (traffic, signals) = (traffic.clone(), signals.clone());
            async move { ensure(&traffic, &signals, &sites.list).await }
        };
        (Self { wishes }, run(heard, wakes, tell))
    }

    /// Wishes that nginx carry these sites, or later ones; [`Wake::Arranged`] will tell. `false`: not now.
    fn wish(&self, sites: Sites) -> bool {
        let wish = Wish {
            sites,
            awaited: None,
        };
        self.wishes.try_send(wish).is_ok()
    }

    /// nginx carries these sites, or later ones, and this service is proved, when this returns.
    pub(crate) async fn arrange(&self, sites: Sites, service: ServiceId) -> Result<(), Failure> {
        let (done, answer) = oneshot::channel();
        let gone = || Failure {
            transient: true,
            reason: "the agent is stopping".to_owned(),
        };
        self.wishes
            .send(Wish {
                sites,
                awaited: Some((service, done)),
            })
            .await
            .map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

impl Helm {
    /// Tells nginx of all sites when they are other ones than it was told of, in a quiet moment.
    pub(super) fn arrange(&mut self, now: Moment) {
        let quiet = self
            .posts
            .values()
            .all(|post| post.berth.open_plan().is_none());
        let wanted = quiet || self.arranged.is_none();
        if self.arranging.is_some() || now < self.arrange_after || !wanted {
            return;
        }
        let sites = self.sites();
        if self.arranged.as_ref() == Some(&sites.list)
            || (sites.list.is_empty() && self.arranged.is_none())
        {
            return;
        }
        let number = sites.number;
        if self.parts.hands.arranger.wish(sites) {
            self.arranging = Some(number);
        } else {
            self.arrange_after = now + HEARTBEAT;
        }
    }

    /// nginx was told, by the loop's wish or by an action's.
    pub(super) fn told(&mut self, now: Moment, sites: Sites, result: Result<(), String>) {
        if self.arranging.is_some_and(|own| own <= sites.number) {
            self.arranging = None;
        }
        self.posts.values_mut().for_each(|post| post.out = None);
        match result {
            Ok(()) => self.arranged = Some(sites.list),
            Err(why) => {
                warn!(why, "nginx could not be told of all sites; trying again");
                self.arranged = None;
                self.arrange_after = now + HEARTBEAT;
            }
        }
    }
}

async fn run<F>(
    mut heard: mpsc::Receiver<Wish>,
    wakes: mpsc::Sender<Wake>,
    tell: impl Fn(Sites) -> F,
) where
    F: Future<Output = Told>,
{
    let mut newest = Sites::default();
    while let Some(first) = heard.recv().await {
        let mut wishes = vec![first];
        while let Ok(next) = heard.try_recv() {
            wishes.push(next);
        }
        // The newest list knows of every berth that the older ones knew, whenever it is wished for.
        for wish in &wishes {
            if wish.sites.number > newest.number {
                newest = wish.sites.clone();
            }
        }
        let result = tell(newest.clone()).await;
        let told = result.as_ref().map(drop);
        let arranged = Wake::Arranged {
            sites: newest.clone(),
            result: told.map_err(|failure| failure.reason.clone()),
        };
        drop(wakes.send(arranged).await);
        for (service, done) in wishes.into_iter().filter_map(|wish| wish.awaited) {
            let own = match &result {
                Err(failure) => Err(failure.clone()),
                Ok(unproved) => match unproved.iter().find(|(of, _)| *of == service) {
                    Some((_, reason)) => Err(Failure {
                        transient: true,
                        reason: reason.clone(),
                    }),
                    None => Ok(()),
                },
            };
            // Who asked may be gone.
            drop(done.send(own));
        }
    }
}

/// Tells nginx; answers with the services that could not be proved.
async fn ensure(traffic: &Traffic, signals: &Signals, sites: &[Site]) -> Told {
    let replicas = sites.iter().flat_map(|site| {
        cutover_core::Slot::ALL
            .map(|slot| (site.service.clone(), slot, site.replicas(slot).to_vec()))
    });
    if let Err(error) = signals.know(replicas.collect()).await {
        warn!(
            error = chain(&error),
            "requests can't be counted by replica"
        );
    }
    match traffic.ensure(sites).await {
        Ok(ensured) => {
            for warning in &ensured.warnings {
                warn!(warning, "nginx warns");
            }
            if ensured.reloaded {
                info!(sites = sites.len(), "nginx was reloaded");
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use super::*;

    fn sites(number: u64, services: &[&str]) -> Sites {
        let site = |service: &&str| Site {
            service: service.parse().expect("a service"),
            listeners: Vec::new(),
            blue: vec![Ipv4Addr::LOCALHOST],
            green: vec![Ipv4Addr::LOCALHOST],
            request_timeout: Duration::from_secs(1),
            include_only: false,
        };
        Sites {
            number,
            list: services.iter().map(site).collect(),
        }
    }

    // The first service's slow creation brought a list without the second one, which was lost for good.
    #[tokio::test]
    async fn a_wish_that_was_long_under_way_takes_no_later_service_away() {
        let (wakes, mut woken) = mpsc::channel(8);
        let (wishes, heard) = mpsc::channel(WISHES);
        let carried = Arc::new(Mutex::new(Vec::new()));
        let told = carried.clone();
        let task = tokio::spawn(run(heard, wakes, move |sites: Sites| {
            let names = sites.list.iter().map(|site| site.service.to_string());
            told.lock()
                .expect("no other thread")
                .push(names.collect::<Vec<_>>());
            async { Ok(Vec::new()) }
        }));
        let arranger = Arranger { wishes };
        let service = |name: &str| name.parse::<ServiceId>().expect("a service");
        let (early, late) = (sites(1, &["shop/x"]), sites(2, &["shop/x", "shop/y"]));

        assert_eq!(arranger.arrange(late, service("shop/y")).await, Ok(()));
        assert_eq!(arranger.arrange(early, service("shop/x")).await, Ok(()));
        drop(arranger);
        task.await.expect("it ends with its last handle");

        let both = vec!["shop/x".to_owned(), "shop/y".to_owned()];
        assert_eq!(
            *carried.lock().expect("no other thread"),
            [both.clone(), both]
        );
        // And the loop is told what is really carried.
        for _ in 0..2 {
            let Some(Wake::Arranged { sites, result }) = woken.recv().await else {
                panic!("the loop is told")
            };
            assert_eq!((sites.number, sites.list.len(), result), (2, 2, Ok(())));
        }
    }
}

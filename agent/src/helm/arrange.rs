//! Tells nginx of all sites: one at a time, wishes that wait joined into one.
//!
//! A reload is dear (it costs idle keep-alive connections), so wishes that come
//! while one is under way share the next. Kept true: a wish that was long under
//! way takes nothing from nginx that a later one has brought, and the loop hears
//! of each list that nginx was told.

use std::collections::BTreeMap;
use std::time::Duration;

use cutover_core::swap::Failure;
use cutover_core::{Moment, Route, ServiceId};
use cutover_daemon::logging::chain;
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info, warn};

use crate::helm::wake::Wake;
use crate::helm::{HEARTBEAT, Helm};
use crate::signals::{Counts, Signals};
use crate::traffic::{Error, Site, Traffic};

/// What is not proved is proved again after this: each time may cost a reload.
const PROVE_AGAIN: Duration = Duration::from_secs(30);
/// Wishes that wait; each berth has at most one, and the loop one.
const WISHES: usize = 64;

/// Every site that nginx must carry, as the loop knew it at one moment; a higher number is a later one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sites {
    pub(crate) number: u64,
    /// nginx was told of just these last: to tell it again proves, and changes nothing.
    pub(crate) told: bool,
    pub(crate) list: Vec<Site>,
}

struct Wish {
    sites: Sites,
    /// Whose proof is waited for.
    awaited: Option<(ServiceId, oneshot::Sender<Result<(), Failure>>)>,
}

/// The services that could not be proved, and why; or why nginx could not be told.
type Told = Result<Vec<(ServiceId, String)>, Failure>;

/// What people are told when a route can't be read.
pub(super) const UNREADABLE: &str = "the route can't be read";

/// And when what it says is not what is done.
const UNPROVED: &str = "requests may not go where the route says";

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
        let prove = quiet && self.prove_at.is_some_and(|at| now >= at);
        let told = sites.told || (sites.list.is_empty() && self.arranged.is_none());
        if told && !prove {
            return;
        }
        let number = sites.number;
        if self.parts.hands.arranger.wish(sites) {
            self.arranging = Some(number);
            self.prove_at = None;
        } else {
            self.arrange_after = now + HEARTBEAT;
        }
    }

    /// nginx was told, by the loop's wish or by an action's.
    pub(super) fn told(
        &mut self,
        now: Moment,
        sites: Sites,
        result: Result<Vec<(ServiceId, String)>, String>,
    ) {
        if self.arranging.is_some_and(|own| own <= sites.number) {
            self.arranging = None;
        }
        self.posts.values_mut().for_each(|post| post.out = None);
        match result {
            Ok(unproved) => {
                self.proved(now, &sites, &unproved);
                self.arranged = Some(sites.list);
            }
            Err(why) => {
                warn!(why, "nginx could not be told of all sites; trying again");
                self.arranged = None;
                self.arrange_after = now + HEARTBEAT;
            }
        }
    }

    /// Takes in whose requests are not proved to go where their routes say, and of whom that was proved.
    fn proved(&mut self, now: Moment, sites: &Sites, unproved: &[(ServiceId, String)]) {
        for site in &sites.list {
            let Some(post) = self.posts.get_mut(&site.service) else {
                continue;
            };
            let why = unproved.iter().find(|(of, _)| *of == site.service);
            match why {
                Some((service, why)) => self.doubt(now, service, why.clone()),
                None => {
                    if post.doubt.take().is_some() {
                        info!(service = %site.service, "requests go where the route says, as is proved");
                    }
                }
            }
        }
    }

    /// A person must know of it; it is proved again after a pause.
    pub(super) fn doubt(&mut self, now: Moment, service: &ServiceId, why: String) {
        let Some(post) = self.posts.get_mut(service) else {
            return;
        };
        // Its own actions prove it, and until the swap is over the route may change while it is being proved.
        if post.berth.open_plan().is_none() && post.doubt.as_ref() != Some(&why) {
            error!(%service, why, "a proof failed; it is tried again");
            post.doubt = Some(why);
        }
        self.prove_at.get_or_insert(now + PROVE_AGAIN);
    }

    /// Takes in what nginx answered itself: no readable route is an alarm, and so is a route to nobody where a
    /// revision is committed.
    pub(super) fn turned_away(&mut self, now: Moment, counts: &Counts) {
        let services: Vec<ServiceId> = self.posts.keys().cloned().collect();
        for service in services {
            let Some(post) = self.posts.get_mut(&service) else {
                continue;
            };
            let of = |counts: &BTreeMap<ServiceId, u64>| counts.get(&service).copied().unwrap_or(0);
            let now_at = (of(&counts.unreadable), of(&counts.nobody));
            let before = post.turned_away.replace(now_at).unwrap_or_default();
            let deserted = post.berth.route() == Route::Nobody && post.berth.current().is_some();
            if deserted && now_at.1 > before.1 && !post.deserted {
                error!(%service, "requests come, and the route leads to nobody");
                post.deserted = true;
            }
            post.deserted &= deserted;
            if now_at.0 > before.0 {
                let requests = now_at.0 - before.0;
                error!(%service, requests, "the route can't be read; these requests were answered 503");
                if post.doubt.is_none() {
                    post.doubt = Some(format!("{UNREADABLE}: requests are answered 503"));
                }
                self.prove_at.get_or_insert(now + PROVE_AGAIN);
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
        let told = result.clone();
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
                .map(|(service, error)| (service, format!("{UNREADABLE}: {}", chain(&error))));
            let unproved = ensured.unproved.into_iter().map(|unproved| {
                (
                    unproved.service.clone(),
                    format!("{UNPROVED}: {}", chain(&unproved)),
                )
            });
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

    use cutover_core::Slot;

    use super::*;
    use crate::helm::bed::{Bed, service};

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
            told: false,
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
            assert_eq!(
                (sites.number, sites.list.len(), result),
                (2, 2, Ok(Vec::new()))
            );
        }
    }

    // Only who was waited for was told; of the others, and of all after a start, it was forgotten.
    #[tokio::test]
    async fn the_loop_hears_of_every_service_that_is_not_proved() {
        let (wakes, mut woken) = mpsc::channel(8);
        let (wishes, heard) = mpsc::channel(WISHES);
        let x = "shop/x".parse::<ServiceId>().expect("a service");
        let unproved = vec![(x, "it was answered by green".to_owned())];
        let said = unproved.clone();
        let task = tokio::spawn(run(heard, wakes, move |_| {
            let said = said.clone();
            async { Ok(said) }
        }));
        let arranger = Arranger { wishes };
        let y = "shop/y".parse::<ServiceId>().expect("a service");
        let both = sites(1, &["shop/x", "shop/y"]);
        assert_eq!(arranger.arrange(both.clone(), y).await, Ok(()));
        assert!(arranger.wish(both));
        drop(arranger);
        task.await.expect("it ends with its last handle");
        for _ in 0..2 {
            let Some(Wake::Arranged { result, .. }) = woken.recv().await else {
                panic!("the loop is told")
            };
            assert_eq!(result, Ok(unproved.clone()));
        }
    }

    #[tokio::test]
    async fn requests_that_a_route_leads_to_nobody_are_an_alarm() {
        let now = Moment::from_millis(1000);
        let mut bed = Bed::new();
        // Committed, and without traffic in this bed: its route leads to nobody.
        bed.list(now, &[(8, Slot::Green, true)]);
        let counted = |nobody: u64| {
            Wake::Signalled(Counts {
                nobody: BTreeMap::from([(service(), nobody)]),
                ..Counts::default()
            })
        };
        let mut warned = |requests: u64| {
            bed.wake(now, counted(requests));
            let all = bed.helm.accounts(now);
            let warnings = all.into_iter().flat_map(|(_, account)| account.warnings);
            warnings
                .filter(|said| said.contains("leads to nobody"))
                .count()
        };
        assert_eq!(warned(0), 0, "nobody asked");
        assert_eq!(warned(3), 1);
        assert_eq!(warned(3), 1, "as long as it leads to nobody");
    }
}

//! The composition root: what there is, how it hangs together, and how it ends.
//!
//! Keeps true: this is the one place that spawns what lives as long as the
//! process; a task that ends unasked ends all of it, and systemd starts it anew.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cutover_daemon::logging::chain;
use cutover_daemon::service;
use cutover_proto::tls::{Address, AddressError, DenyList, Life, TlsError, chance};
use cutover_proto::v1::operator_server::OperatorServer;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tracing::{info, warn};

use crate::config::{BadConfig, Config};
use crate::console::Console;
use crate::gate::{Doors, EnrolmentService, GateError, Gates, Refusals};
use crate::helm::{Door, Helm, HelmError, Inlets, QUESTIONS, Settings, Tools, Wake};
use crate::http;
use crate::metrics::Metrics;
use crate::pki::{Authority, PkiError};
use crate::reached::Reached;
use crate::roster::{About, Roster};
use crate::store::{OpenError, Opened, Options, Probe, Store};

/// What hosts say and the loop has not heard yet; more waits in their connections.
const ROSTER_EVENTS: usize = 1024;
/// A release with its configs; each is bounded by the store's record.
const OPERATOR_MESSAGE: usize = 16 << 20;
/// The loop, once asked to end, has its last write to finish.
const END_WITHIN: Duration = Duration::from_secs(10);
/// The task that all others serve.
const LOOP: &str = "the loop";
/// Before a certificate that could not be renewed is tried again.
const RENEW_AGAIN: Duration = Duration::from_secs(3600);

/// Why the coordinator does not run, or ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] BadConfig),
    /// The store.
    #[error("opening the store")]
    Store(#[from] OpenError),
    /// This program's own file, for the look at the store.
    #[error("finding this program's file")]
    Probe(#[source] std::io::Error),
    /// The CA or a certificate.
    #[error("preparing the coordinator's certificate")]
    Pki(#[from] PkiError),
    /// Random bytes, or TLS.
    #[error("preparing TLS")]
    Tls(#[from] TlsError),
    /// How it is reached.
    #[error("reading how the coordinator is reached")]
    Address(#[from] AddressError),
    /// The gates.
    #[error("opening the gates")]
    Gate(#[from] GateError),
    /// The page for the machine itself.
    #[error("listening at {address} for /healthz and /metrics")]
    Http {
        /// Where.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The loop.
    #[error("the loop ended")]
    Helm(#[from] HelmError),
    /// Something that must run ended.
    #[error("{0} ended unasked")]
    Ended(&'static str),
}

impl RunError {
    /// Starting again does not help: a person must change something.
    #[must_use]
    pub fn is_configuration(&self) -> bool {
        matches!(
            self,
            Self::Config(_)
                | Self::Pki(PkiError::Missing(_) | PkiError::Address(_))
                | Self::Address(_)
                | Self::Helm(HelmError::Deposed(_))
        )
    }
}

/// How the store's database is looked at before it is trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// By this program again, with a hidden argument.
    Apart,
    /// By a thread: for tests.
    Here,
}

/// A coordinator that is up.
pub struct Coordinator {
    /// Where its main gate is.
    pub main: SocketAddr,
    /// Where its enrolment gate is.
    pub enrolment: SocketAddr,
    /// Where its health is.
    pub http: SocketAddr,
    gates: Arc<Gates>,
    wakes: mpsc::Sender<Wake>,
    stop: CancellationToken,
    tasks: JoinSet<(&'static str, Result<(), RunError>)>,
}

impl Coordinator {
    /// Opens the store, the gates and the loop.
    ///
    /// # Errors
    /// Why it does not come up.
    pub async fn start(config: Config, look: Look) -> Result<Self, RunError> {
        let addresses = config.reached_at()?;
        let reached = Reached::by(addresses.clone()).ok_or(BadConfig::NoAddress)?;
        let authority = Arc::new(Authority::load(&config.pki())?);
        let (credentials, due) =
            authority.own(&config.pki(), &addresses, SystemTime::now(), chance()?)?;
        let until = Life::of_certificate(credentials.certificate())?.until;
        let store = open_store(config.state_dir.clone(), look).await?;

        let (wakes, asked) = mpsc::channel(QUESTIONS);
        let (events, heard) = mpsc::channel(ROSTER_EVENTS);
        let (snapshots, snapshots_wanted) = mpsc::channel(1);
        let (certificate, certificate_until) = watch::channel(until);
        let denied = Arc::<DenyList>::default();
        let refusals = Arc::<Refusals>::default();
        let metrics = Metrics::default();
        let stop = CancellationToken::new();
        let registry = Arc::new(Door(wakes.clone()));
        let about = About {
            coordinator_id: store.id().to_owned(),
            epoch: store.epoch(),
            lease_seconds: u32::try_from(config.lease_seconds).unwrap_or(u32::MAX),
            holding: authority.holding().clone(),
        };
        let roster = Roster::new(about, registry.clone(), events);
        let tools = Tools {
            store: store.clone(),
            roster: Arc::clone(&roster),
            denied: Arc::clone(&denied),
            refusals: Arc::clone(&refusals),
            metrics: metrics.clone(),
            snapshots,
        };
        let settings = Settings {
            lease: config.lease(),
            retain: config.revisions_kept,
            enrolment_address: Address::new(reached.told(None), config.enrolment_port)?.to_string(),
            ca: authority.fingerprint(),
            holding: authority.holding().clone(),
            stage: authority.stage(),
            ca_until: authority.until()?,
            state_dir: config.state_dir.clone(),
            certificate_until,
        };
        // Before the gates open: it fills the deny-list.
        let helm = Helm::resume(tools, settings)?;

        let console = Console::new(wakes.clone(), store.clone(), stop.clone());
        let console = OperatorServer::new(console).max_decoding_message_size(OPERATOR_MESSAGE);
        let enrolment = EnrolmentService {
            authority: Arc::clone(&authority),
            registry,
            denied: Arc::clone(&denied),
            reached,
            port: Some(config.port),
            refusals: Arc::clone(&refusals),
        };
        let doors = Doors {
            main: config.main(),
            enrolment: config.enrolment(),
            credentials,
            trust: authority.trust()?,
            denied,
            refusals,
        };
        let listener = http::listen(config.http()).await;
        let listener = listener.map_err(|source| RunError::Http {
            address: config.http(),
            source,
        })?;
        let http_at = listener.local_addr().unwrap_or_else(|_| config.http());
        let (gates, serving) = Gates::open(doors, roster, enrolment, Routes::new(console))?;
        let gates = Arc::new(gates);

        let mut tasks = JoinSet::new();
        let inlets = Inlets {
            wakes: asked,
            roster: heard,
        };
        tasks.spawn(async move { (LOOP, helm.run(inlets).await.map_err(Into::into)) });
        tasks.spawn(async move { ("the gates", serving.await.map_err(Into::into)) });
        let serving = http::serve(listener, metrics, wakes.clone(), stop.clone());
        let address = http_at;
        tasks.spawn(async move {
            let served = serving.await;
            let served = served.map_err(|source| RunError::Http { address, source });
            ("the health page", served)
        });
        let snapshots = keep_snapshots(store, snapshots_wanted);
        tasks.spawn(async move { ("the snapshots", snapshots.await) });
        let renewal = Renewal {
            authority,
            config,
            addresses,
            gates: Arc::clone(&gates),
            until: certificate,
        };
        tasks.spawn(async move { ("the renewal", renewal.run(due).await) });
        info!(main = %gates.main, enrolment = %gates.enrolment, http = %http_at, "the coordinator is up");
        Ok(Self {
            main: gates.main,
            enrolment: gates.enrolment,
            http: http_at,
            gates,
            wakes,
            stop,
            tasks,
        })
    }

    /// Runs until `end`, or until something ends that must not.
    ///
    /// # Errors
    /// Why it ended unasked.
    pub async fn run(mut self, end: impl Future<Output = ()>) -> Result<(), RunError> {
        service::ready("listening");
        let ended = tokio::select! {
            () = end => None,
            ended = self.tasks.join_next() => ended,
        };
        service::stopping();
        let loop_runs = !matches!(ended, Some(Ok((LOOP, _))));
        let outcome = match ended {
            None => Ok(()),
            Some(Ok((_, Err(error)))) => Err(error),
            Some(Ok((what, Ok(())))) => Err(RunError::Ended(what)),
            Some(Err(_)) => Err(RunError::Ended("a task that panicked")),
        };
        self.finish(loop_runs).await;
        outcome
    }

    /// Ends streams and connections, then the loop with its last write.
    async fn finish(mut self, loop_runs: bool) {
        self.stop.cancel();
        self.gates.close().await;
        if !loop_runs || self.wakes.send(Wake::Stop).await.is_err() {
            return;
        }
        let ended = tokio::time::timeout(END_WITHIN, async {
            while let Some(ended) = self.tasks.join_next().await {
                if matches!(ended, Ok((LOOP, _))) {
                    break;
                }
            }
        });
        if ended.await.is_err() {
            warn!("the loop did not end in time; what it wrote is durable, what it did not is not");
        }
    }
}

async fn open_store(state: PathBuf, look: Look) -> Result<Store, RunError> {
    let probe = match look {
        Look::Apart => Probe::own("store-probe").map_err(RunError::Probe)?,
        Look::Here => Probe::Here,
    };
    let opened = tokio::task::spawn_blocking(move || Store::open(&state, &Options::new(probe)));
    let Opened {
        store, recovery, ..
    } = opened
        .await
        .map_err(|_| RunError::Ended("opening the store"))??;
    if let Some(recovery) = recovery {
        warn!(
            from = recovery.recovered_from,
            reason = recovery.reason,
            set_aside = recovery.set_aside,
            epoch = recovery.epoch,
            "the store was made anew; what happened after that is learned from the hosts as they connect"
        );
        let event = cutover_proto::v1::EventRecord {
            unix_millis: cutover_daemon::clock::unix_millis(),
            kind: "store".to_owned(),
            text: format!(
                "the store was made anew from {} ({}); epoch {}",
                recovery.recovered_from, recovery.reason, recovery.epoch
            ),
            level: "warn".to_owned(),
            ..cutover_proto::v1::EventRecord::default()
        };
        let told = crate::store::Batch::new().event(&event).recovery_told();
        if let Err(error) = store.write(told).await {
            warn!(error = chain(&error), "the recovery could not be noted");
        }
    }
    Ok(store)
}

/// A snapshot whenever one is wanted; those that are wanted meanwhile are one.
async fn keep_snapshots(store: Store, mut wanted: mpsc::Receiver<()>) -> Result<(), RunError> {
    while wanted.recv().await.is_some() {
        match store.snapshot().await {
            Ok(path) => tracing::debug!(path = %path.display(), "kept a snapshot"),
            Err(error) => warn!(error = chain(&error), "a snapshot was not kept"),
        }
    }
    Ok(())
}

/// Renews the coordinator's own certificate, under live connections.
struct Renewal {
    authority: Arc<Authority>,
    config: Config,
    addresses: Vec<String>,
    gates: Arc<Gates>,
    until: watch::Sender<SystemTime>,
}

impl Renewal {
    async fn run(self, mut due: SystemTime) -> Result<(), RunError> {
        loop {
            let wait = due.duration_since(SystemTime::now()).unwrap_or_default();
            tokio::time::sleep(wait).await;
            due = match self.renew() {
                Ok(next) => next,
                Err(error) => {
                    warn!(
                        error = chain(&error),
                        "the coordinator's certificate was not renewed"
                    );
                    SystemTime::now() + RENEW_AGAIN
                }
            };
        }
    }

    fn renew(&self) -> Result<SystemTime, RunError> {
        let now = SystemTime::now();
        let (credentials, due) =
            self.authority
                .own(&self.config.pki(), &self.addresses, now, chance()?)?;
        self.gates.replace(&credentials, &self.authority.trust()?)?;
        let until = Life::of_certificate(credentials.certificate())?.until;
        self.until.send_replace(until);
        info!("the coordinator's certificate was renewed");
        Ok(due.max(now + RENEW_AGAIN))
    }
}

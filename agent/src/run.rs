//! The composition root: opens everything, starts every task, runs the loop.
//!
//! Kept true: this is where tasks that live as long as the agent are started,
//! and one that ends unasked ends the process; systemd starts it again.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use cutover_daemon::{clock, service};
use cutover_proto::v1::Hello;
use futures::StreamExt;
use nix::fcntl::{Flock, FlockArg};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::addresses::{AddressError, Addresses};
use crate::config::Config;
use crate::docker::{Deadlines, Docker, Settings};
use crate::enroll::{EnrollError, Membership};
use crate::helm::{Arranger, Hands, Helm, Parts, Standing, Wake};
use crate::journal::{Journal, JournalError};
use crate::revisions::Revisions;
use crate::session;
use crate::signals::{self, Signals};
use crate::traffic::{self, Paths, Traffic, remove_stale_sockets};
use crate::{host, local};

/// Events that wait for the loop; it takes all of them in before it looks anew.
const WAKES: usize = 1024;
/// What the coordinator said and the loop has not heard yet.
const HEARD: usize = 64;
/// Hello waits so long for the first look at the containers; an engine that is down is said with the host there.
const SEEN_WITHIN: Duration = Duration::from_secs(10);
/// What the loop said and the stream has not taken yet.
const OUTGOING: usize = 256;
/// Pieces of logs and other answers that the stream has not taken yet; who answers waits for room.
const ANSWERS: usize = 16;

/// Why the agent can't run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A folder of ours can't be made.
    #[error("could not make {}; is its file system writable?", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another agent runs with the same state.
    #[error("another agent runs with {}; stop it first, or give this one its own state_dir", path.display())]
    Taken {
        /// The state directory.
        path: PathBuf,
    },
    /// The kernel does not say which boot this is, or which installation.
    #[error("could not read {what}")]
    Identity {
        /// Which file.
        what: String,
        /// Why.
        source: std::io::Error,
    },
    /// The machine is no host yet, or its membership is damaged.
    #[error("this machine can't act as a host")]
    Membership(#[from] EnrollError),
    /// The journal can't be used.
    #[error("could not recover what this host knew")]
    Journal(#[from] JournalError),
    /// Addresses can't be given.
    #[error("could not set up addresses for containers")]
    Addresses(#[from] AddressError),
    /// nginx can't be worked with.
    #[error("could not set up nginx")]
    Traffic(#[from] traffic::Error),
    /// Requests can't be counted.
    #[error("could not set up the counting of requests")]
    Signals(#[from] signals::Error),
    /// A task ended that should not have.
    #[error("{0} ended unasked")]
    Task(&'static str),
}

/// Runs the agent until it is asked to end.
///
/// # Errors
/// When something it needs can't be had; a configuration that can't be used is the caller's.
pub async fn run(config: &Config) -> Result<(), RunError> {
    let (_lock, membership) = (
        folders(config)?,
        Membership::load(&config.membership_dir())?,
    );
    let boot_id = clock::boot_id().map_err(|source| RunError::Identity {
        what: "the boot id".to_owned(),
        source,
    })?;
    let machine_id =
        clock::machine_id(&config.machine_id_file).map_err(|source| RunError::Identity {
            what: config.machine_id_file.display().to_string(),
            source,
        })?;
    let opened = Journal::open(&config.state_dir.join("journal"), &boot_id)?;
    info!(host = %membership.host(), start = opened.start, services = opened.berths.len(), "the agent starts");
    if opened.rebooted {
        info!("the host booted since the last start");
    }
    let addresses = Addresses::open(&config.addresses_file(), &config.docker.subnet)?;
    let network = Arc::new(addresses.network(&config.docker.network));
    let docker = Docker::with(Settings {
        socket: config.docker.socket.clone(),
        host: membership.host().clone(),
        files: config.state_dir.join("files"),
        shared_engine: config.docker.shared,
        deadlines: Deadlines::default(),
    });
    let (signals, reader) = Signals::open(&config.signals_socket())?;
    let traffic = Traffic::new(paths(config), signals.clone())?;
    let (wakes, woken) = mpsc::channel(WAKES);
    let (arranger, arranging) = Arranger::new(traffic.clone(), signals.clone(), wakes.clone());
    let (events, mut heard) = mpsc::channel(HEARD);
    let (outgoing, said) = mpsc::channel(OUTGOING);
    let (answers, answered) = mpsc::channel(ANSWERS);
    let (hello, mut hellos) = watch::channel(Standing::default());
    let stop = CancellationToken::new();

    let crew = Crew {
        wakes: wakes.clone(),
    };
    crew.start("the counting of requests", async move {
        if let Err(error) = reader.run().await {
            warn!(%error, "requests can't be counted");
        }
    });
    crew.start("the arranging of nginx", arranging);
    let (socket, asked) = (config.local_socket(), wakes.clone());
    crew.start("the local socket", async move {
        if let Err(error) = local::serve(&socket, asked).await {
            warn!(%error, socket = %socket.display(), "the local socket can't be served");
        }
    });
    let (mut engine, to_loop) = (Box::pin(docker.events()), wakes.clone());
    crew.start("the engine's events", async move {
        while let Some(event) = engine.next().await {
            if to_loop.send(Wake::Engine(event)).await.is_err() {
                return;
            }
        }
    });
    let to_loop = wakes.clone();
    crew.start("the coordinator's words", async move {
        while let Some(event) = heard.recv().await {
            if to_loop.send(Wake::Link(event)).await.is_err() {
                return;
            }
        }
    });
    let link = session::Settings {
        membership,
        machine_id,
        events,
        outgoing: said,
        answers: answered,
        stop: stop.clone(),
    };
    let facts = host::facts(&docker, &traffic).await;
    let ended = stop.clone();
    crew.start("the link to the coordinator", async move {
        // A host that lost its journal would say that nothing runs there, and be told to begin.
        let known = hellos.wait_for(|standing| standing.seen);
        if tokio::time::timeout(SEEN_WITHIN, known).await.is_err() {
            warn!("the containers of this host could not be read yet; the coordinator is told what the journal knows");
        }
        let hello = move || Hello {
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            boot_id: boot_id.clone(),
            clock_nanos: clock::now().as_nanos(),
            facts: facts.clone(),
            berths: hellos.borrow().berths.clone(),
            unix_millis: clock::unix_millis(),
            ..Hello::default()
        };
        if let Err(error) = session::run(link, hello).await {
            warn!(
                error = cutover_daemon::logging::chain(&error),
                "the link to the coordinator ended"
            );
        }
        // After a stop this is as it should be.
        ended.cancelled().await;
    });
    let end = stop.clone();
    crew.start("the wait for signals", async move {
        if service::asked_to_end().await.is_ok() {
            info!("asked to end; containers and routes stay as they are");
            service::stopping();
            end.cancel();
            std::future::pending::<()>().await;
        }
    });

    let listen_address = config.listen_address.unwrap_or(Ipv4Addr::LOCALHOST);
    let helm = Helm::new(Parts {
        journal: opened.journal,
        berths: opened.berths,
        start: opened.start,
        rebooted: opened.rebooted,
        hands: Hands {
            docker,
            traffic,
            arranger,
            network,
            listen_address,
        },
        revisions: Revisions::new(config.revisions_dir()),
        addresses,
        signals,
        include_only: config.nginx.include_only.clone(),
        wakes,
        outgoing,
        answers,
        hello,
        stop,
    });
    helm.run(woken).await.map_err(RunError::Task)
}

/// Starts the tasks that live as long as the agent.
struct Crew {
    wakes: mpsc::Sender<Wake>,
}

impl Crew {
    fn start(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let wakes = self.wakes.clone();
        tokio::spawn(async move {
            task.await;
            drop(wakes.send(Wake::Ended(name)).await);
        });
    }
}

/// Makes our folders, and makes sure that nobody else uses them.
fn folders(config: &Config) -> Result<Flock<fs::File>, RunError> {
    let readable = [
        config.state_dir.clone(),
        config.routes_dir(),
        config.conf_dir(),
        config.inner_dir(),
        config.runtime_dir(),
    ];
    for path in &readable {
        let open = fs::create_dir_all(path).and_then(|()| {
            // nginx's workers pass through, and read routes; what is secret is in folders of its own.
            fs::set_permissions(path, fs::Permissions::from_mode(0o755))
        });
        open.map_err(|source| RunError::Folder {
            path: path.clone(),
            source,
        })?;
    }
    for path in [
        config.membership_dir(),
        config.revisions_dir(),
        config.state_dir.join("files"),
        config.state_dir.join("journal"),
    ] {
        let closed = fs::create_dir_all(&path)
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o700)));
        closed.map_err(|source| RunError::Folder {
            path: path.clone(),
            source,
        })?;
    }
    let path = config.state_dir.join("lock");
    let file = fs::File::create(&path).map_err(|source| RunError::Folder { path, source })?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| RunError::Taken {
        path: config.state_dir.clone(),
    })
}

/// Makes the folder of key and certificate, before this machine is a host.
///
/// # Errors
/// When it can't be made.
pub fn make_membership_folder(config: &Config) -> Result<(), RunError> {
    let path = config.membership_dir();
    let made = fs::create_dir_all(&path)
        .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o700)));
    made.map_err(|source| RunError::Folder { path, source })
}

pub(crate) fn paths(config: &Config) -> Paths {
    Paths {
        command: config.nginx.command.clone(),
        pid_file: config.nginx.pid_file.clone(),
        conf: config.conf_dir(),
        routes: config.routes_dir(),
        runtime: config.inner_dir(),
        listen_address: config.listen_address,
        access_log: config.nginx.access_log.clone(),
    }
}

/// Removes sockets that a killed nginx left behind; they block its start.
///
/// # Errors
/// When one can't be removed.
pub fn clear_sockets(runtime: &Path) -> std::io::Result<usize> {
    remove_stale_sockets(runtime)
}

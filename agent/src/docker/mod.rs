//! Docker's engine on this host: makes containers, networks and images be as asked, and tells what it finds.
//!
//! Every operation may be repeated: it makes the world so, whatever it was, and
//! is done when it already is so. Every call has a deadline with a name, for an
//! engine that hangs. Nothing is retried and nothing decided here. What does not
//! carry this host's label is never started, stopped, killed or removed.
//!
//! Known by nobody else: `bollard`, labels, the engine's versions (API 1.41 and
//! newer). Not known here: swaps, phases, nginx.
//!
//! **Secrets**: bollard writes whole requests (environments, credentials) to the
//! `log` crate at debug level; a logger must never let `bollard` below info.

mod address;
mod body;
mod cidr;
mod container;
mod create;
mod deadline;
mod error;
mod events;
mod exec;
mod files;
mod found;
mod image;
mod labels;
mod leftover;
mod logs;
mod naming;
mod network;
mod process;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use cutover_core::HostId;
use sha2::{Digest, Sha256};

pub use address::{Owner, Published};
pub use body::ContainerPlan;
pub use cidr::{Cidr, CidrError};
pub use container::Remains;
pub use create::Created;
pub use deadline::Deadlines;
pub use error::{Class, Error};
pub use events::{Death, Event, Who};
pub use exec::{Execution, MAX_OUTPUT};
pub use found::{Exit, Found, Health, Listing, State, Unknown};
pub use image::{ImageFacts, Registry, Resolved};
pub use labels::Identity;
pub use logs::{LogLine, LogQuery, Output};
pub use network::NetworkPlan;

pub(crate) use process::Process;

use deadline::Limit;

/// Where the engine is, and for whom it is used.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The engine's socket; it need not exist yet.
    pub socket: PathBuf,
    /// Whose containers these are.
    pub host: HostId,
    /// Where the content of `configs` is kept, a folder a container; ours alone.
    pub files: PathBuf,
    /// Container names end with a short hash of the host: several agents share one engine.
    pub shared_engine: bool,
    /// How long each kind of call may take.
    pub deadlines: Deadlines,
}

/// A handle on the engine; cheap to clone.
#[derive(Clone)]
pub struct Docker {
    shared: Arc<Shared>,
}

struct Shared {
    settings: Settings,
    suffix: String,
    client: OnceLock<bollard::Docker>,
    /// Held by who makes a network.
    networks: tokio::sync::Mutex<()>,
    /// Held by who gives a fixed name, or takes it back.
    names: tokio::sync::Mutex<()>,
}

/// What the engine says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineInfo {
    /// Its version ("20.10.24").
    pub version: String,
    /// Its newest API ("1.41").
    pub api: String,
    /// Containers outlive the engine's end.
    pub live_restore: bool,
    /// `overlay2`, `overlayfs`, …
    pub storage_driver: String,
    /// Its identity; another one means another data root.
    pub id: String,
    /// The host's operating system.
    pub operating_system: String,
    /// `1` or `2`.
    pub cgroup_version: String,
    /// Where it keeps everything.
    pub root: PathBuf,
    /// Installed as a snap, which sees neither our files nor most of the host's.
    pub snap: bool,
}

impl Docker {
    /// A handle on the engine at `socket`, with the ordinary deadlines.
    ///
    /// Never fails and sends nothing: an engine that is down is found out by the first call.
    #[must_use]
    pub fn connect(socket: &Path, host: HostId, files: &Path) -> Self {
        Self::with(Settings {
            socket: socket.to_owned(),
            host,
            files: files.to_owned(),
            shared_engine: false,
            deadlines: Deadlines::default(),
        })
    }

    /// A handle made by `settings`.
    #[must_use]
    pub fn with(settings: Settings) -> Self {
        let suffix = if settings.shared_engine {
            format!("-{}", &hex(&Sha256::digest(settings.host.as_str()))[..6])
        } else {
            String::new()
        };
        Self {
            shared: Arc::new(Shared {
                settings,
                suffix,
                client: OnceLock::new(),
                networks: tokio::sync::Mutex::default(),
                names: tokio::sync::Mutex::default(),
            }),
        }
    }

    /// The name by which all operations here know the container of `identity`.
    #[must_use]
    pub fn name_of(&self, identity: &Identity) -> String {
        identity.name() + &self.shared.suffix
    }

    /// Whether the engine answers at all.
    ///
    /// # Errors
    /// It is down or hangs.
    pub async fn ping(&self) -> Result<(), Error> {
        let client = self.client("asking the engine whether it is there")?;
        let answer = self.limited(self.limits().ping, client.ping()).await;
        self.told("asking the engine whether it is there", answer)
            .map(drop)
    }

    /// What the engine is.
    ///
    /// # Errors
    /// It is down or hangs.
    pub async fn engine(&self) -> Result<EngineInfo, Error> {
        let doing = "asking the engine what it is";
        let client = self.client(doing)?;
        let answer = self
            .limited(self.limits().ask, async {
                tokio::try_join!(client.version(), client.info())
            })
            .await;
        let (version, info) = self.told(doing, answer)?;
        let root = PathBuf::from(info.docker_root_dir.unwrap_or_default());
        Ok(EngineInfo {
            version: version.version.unwrap_or_default(),
            api: version.api_version.unwrap_or_default(),
            live_restore: info.live_restore_enabled.unwrap_or_default(),
            storage_driver: info.driver.unwrap_or_default(),
            id: info.id.unwrap_or_default(),
            operating_system: info.operating_system.unwrap_or_default(),
            cgroup_version: info
                .cgroup_version
                .map(|version| version.to_string())
                .unwrap_or_default(),
            snap: root.starts_with("/var/snap"),
            root,
        })
    }

    fn host(&self) -> &HostId {
        &self.shared.settings.host
    }

    fn limits(&self) -> &Deadlines {
        &self.shared.settings.deadlines
    }

    /// The client behind the handle, made by the first call that finds the socket.
    fn client(&self, doing: &str) -> Result<&bollard::Docker, Error> {
        if let Some(client) = self.shared.client.get() {
            return Ok(client);
        }
        // Our own deadlines are shorter than this one, which covers the response's head only.
        const NEVER: u64 = 24 * 3600;
        let socket = self.shared.settings.socket.to_string_lossy();
        let client =
            bollard::Docker::connect_with_unix(&socket, NEVER, bollard::API_DEFAULT_VERSION)
                .map_err(|error| Error::engine(doing, error))?
                .with_request_modifier(image::url_safe_credentials);
        Ok(self.shared.client.get_or_init(|| client))
    }

    /// `call`, unless it takes longer than `limit`. On the heap: bollard's futures are
    /// kilobytes each, and would add up in the futures of all who wait for them.
    async fn limited<T>(
        &self,
        limit: Limit,
        call: impl Future<Output = Result<T, bollard::errors::Error>>,
    ) -> Result<T, Failure> {
        match tokio::time::timeout(limit.length, Box::pin(call)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(Failure::Engine(error)),
            Err(_elapsed) => Err(Failure::Silent(limit)),
        }
    }

    /// The answer, or the failure of `doing`.
    fn told<T>(&self, doing: &str, answer: Result<T, Failure>) -> Result<T, Error> {
        answer.map_err(|failure| failure.while_(doing))
    }
}

/// A call that gave no answer, before it is known what it was for.
enum Failure {
    Engine(bollard::errors::Error),
    Silent(Limit),
}

impl Failure {
    fn while_(self, doing: &str) -> Error {
        match self {
            Self::Engine(error) => Error::engine(doing, error),
            Self::Silent(limit) => Error::silent(doing, limit.name, limit.length),
        }
    }
}

/// `None` when what was asked for does not exist.
fn present<T>(answer: Result<T, Error>) -> Result<Option<T>, Error> {
    match answer {
        Ok(there) => Ok(Some(there)),
        Err(error) if matches!(error.class(), Class::NotFound | Class::NoSuchImage) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The engine's filter syntax.
fn filters<const N: usize>(pairs: [(&str, Vec<String>); N]) -> HashMap<String, Vec<String>> {
    pairs
        .into_iter()
        .map(|(key, values)| (key.to_owned(), values))
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing into a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

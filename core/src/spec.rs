//! What a revision is made of: one service, resolved, checked and normalised.
//!
//! A [`ServiceSpec`] is all that a host needs to make the service's containers
//! and routes; it is immutable and the same on every host. Files, variables and
//! defaults were worked out before (by `cutover-compose`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::name::{AppName, ServiceName};

/// One service as it shall run, on every host that matches.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceSpec {
    /// The app it belongs to.
    pub app: AppName,
    /// Its name in the app.
    pub service: ServiceName,
    /// How its containers are made.
    pub container: ContainerSpec,
    /// Containers per host; at least 1.
    pub replicas: u32,
    /// What nginx sends to it; none: a worker.
    pub traffic: Vec<Listener>,
    /// On which hosts it runs: all that match every constraint.
    pub placement: Vec<Constraint>,
    /// How a candidate shows that it is ready.
    pub ready: Readiness,
    /// How a committed replica is watched.
    pub live: Option<Liveness>,
    /// Requests that a candidate must answer before and after it gets traffic.
    pub smoke: Vec<SmokeCheck>,
    /// What happens to a container that stops by itself.
    pub restart: RestartPolicy,
    /// How a rollout of it goes.
    pub policy: RolloutPolicy,
}

/// How one container is made; Compose's words, Docker's meaning.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct ContainerSpec {
    /// Image reference as written (`registry/name:tag` or `name@sha256:…`).
    pub image: String,
    /// What `image` was resolved to when the revision was made: a repo digest
    /// (`name@sha256:…`) or an image id (`sha256:…`). Empty before that.
    pub resolved_image: String,
    /// Arguments; `None`: the image's.
    pub command: Option<Vec<String>>,
    /// What is executed; `None`: the image's. Empty: cleared.
    pub entrypoint: Option<Vec<String>>,
    /// Environment, name to value.
    pub environment: BTreeMap<String, String>,
    /// Labels of the user's; never Compose's nor `dev.cutover.*`.
    pub labels: BTreeMap<String, String>,
    /// Ports the container says it listens on (`expose`), for documentation and tests of readiness.
    pub expose: BTreeSet<u16>,
    /// Docker networks to join besides Cutover's own.
    pub networks: Vec<Network>,
    /// What is mounted, by target.
    pub mounts: Vec<Mount>,
    /// `user[:group]`.
    pub user: Option<String>,
    /// Working directory in the container.
    pub working_dir: Option<String>,
    /// Host name in the container.
    pub hostname: Option<String>,
    /// A fixed container name (makes it recreate).
    pub container_name: Option<String>,
    /// An init process as PID 1.
    pub init: bool,
    /// Root file system is read-only.
    pub read_only: bool,
    /// Paths for tmpfs mounts, each with options after a colon.
    pub tmpfs: Vec<String>,
    /// Capabilities added.
    pub cap_add: Vec<String>,
    /// Capabilities dropped.
    pub cap_drop: Vec<String>,
    /// `no-new-privileges:true`, `seccomp=…`.
    pub security_opt: Vec<String>,
    /// Kernel parameters.
    pub sysctls: BTreeMap<String, String>,
    /// Limits (`nofile` …): soft and hard.
    pub ulimits: BTreeMap<String, (i64, i64)>,
    /// Entries for /etc/hosts: name and address.
    pub extra_hosts: Vec<(String, String)>,
    /// Name servers.
    pub dns: Vec<String>,
    /// Size of /dev/shm in bytes.
    pub shm_size: Option<i64>,
    /// Resource limits.
    pub resources: Resources,
    /// Log driver and its options; `None`: the engine's default.
    pub logging: Option<Logging>,
    /// Signal that asks it to stop; `None`: the image's, else SIGTERM.
    pub stop_signal: Option<String>,
    /// How long it may take to stop before it is killed.
    pub stop_grace: Duration,
    /// The Compose `healthcheck`; `None`: the image's.
    pub healthcheck: Option<Healthcheck>,
}

/// A network that a container joins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// The engine's name for it (Compose's: `APP_NAME`, or the external name).
    pub name: String,
    /// It exists already and is not ours to make.
    pub external: bool,
    /// Names under which others on that network find the container.
    pub aliases: Vec<String>,
}

/// Something mounted into a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// What is mounted.
    pub source: MountSource,
    /// Where in the container; absolute.
    pub target: String,
    /// The container may not write to it.
    pub read_only: bool,
}

/// Where a mount's content comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountSource {
    /// A named volume (the engine's name; Compose's rule), made when missing unless external.
    Volume {
        /// The engine's name.
        name: String,
        /// It exists already and is not ours to make.
        external: bool,
    },
    /// A path of the host; absolute.
    Bind(String),
    /// A file of this content (Compose `configs`).
    Content {
        /// The config's name.
        name: String,
        /// The file.
        content: Vec<u8>,
        /// Permission bits.
        mode: u32,
    },
}

/// Limits and reservations of one container.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Resources {
    /// CPUs in billionths of one CPU.
    pub nano_cpus: Option<i64>,
    /// Memory limit in bytes.
    pub memory: Option<i64>,
    /// Memory that is kept for it, in bytes.
    pub memory_reservation: Option<i64>,
    /// Processes.
    pub pids: Option<i64>,
}

/// A log driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logging {
    /// `json-file`, `journald`, …; empty: the engine's default, with these options.
    pub driver: String,
    /// Its options.
    pub options: BTreeMap<String, String>,
}

/// Docker's own health check of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Healthcheck {
    /// `["CMD", …]`, `["CMD-SHELL", …]` or `["NONE"]`.
    pub test: Vec<String>,
    /// Between two checks.
    pub interval: Duration,
    /// For one check.
    pub timeout: Duration,
    /// Failures in a row until unhealthy.
    pub retries: u32,
    /// During which failures do not count.
    pub start_period: Duration,
}

/// What nginx listens on for a service, and where it sends it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Listener {
    /// Address to listen on; `None`: the agent's `listen_address`, else all.
    pub address: Option<Ipv4Addr>,
    /// Port to listen on, 1 to 65535.
    pub listen: u16,
    /// Virtual host; `None`: any (HTTP), not used (TCP).
    pub host: Option<String>,
    /// Path prefix, begins with `/`; `/` for TCP.
    pub path: String,
    /// Port of the container, 1 to 65535.
    pub port: u16,
    /// How it is spoken.
    pub protocol: Protocol,
}

/// A protocol that nginx carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// HTTP/1.1 to the container, WebSockets included.
    Http,
    /// gRPC (HTTP/2 in clear text) to the container.
    Grpc,
    /// Connections, passed through as they are.
    Tcp,
}

/// A condition on a host (`node.labels.KEY == VALUE`, `node.hostname != NAME`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Constraint {
    /// What is compared.
    pub subject: Subject,
    /// Must be equal (`==`) or must differ (`!=`).
    pub equal: bool,
    /// With what.
    pub value: String,
}

/// What of a host a constraint looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// The host's id.
    Hostname,
    /// One of its labels; a missing one equals "".
    Label(String),
}

impl Constraint {
    /// Whether a host of this id and these labels satisfies it.
    #[must_use]
    pub fn holds(&self, host: &str, labels: &BTreeMap<String, String>) -> bool {
        let actual = match &self.subject {
            Subject::Hostname => host,
            Subject::Label(key) => labels.get(key).map_or("", String::as_str),
        };
        (actual == self.value) == self.equal
    }
}

/// How readiness is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// `GET` this path on the container's `port`: 200–399 is healthy.
    Http {
        /// Begins with `/`.
        path: String,
        /// Port of the container.
        port: u16,
    },
    /// A TCP connection to this port of the container.
    Tcp {
        /// Port of the container.
        port: u16,
    },
    /// A command in the container: exit 0 is healthy.
    Exec {
        /// Command and arguments.
        command: Vec<String>,
    },
    /// Docker's HEALTHCHECK of the container, run by the agent until first healthy.
    Docker,
    /// Runs without exit for [`Readiness::settle`]; nothing else is asked.
    Running,
}

/// How a candidate shows that it is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// What is asked.
    pub check: Check,
    /// Between two samples.
    pub every: Duration,
    /// For one sample.
    pub timeout: Duration,
    /// Healthy samples in a row that prove a replica; at least 1.
    pub successes: u32,
    /// Unhealthy samples in a row that condemn a serving one; at least 1.
    pub failures: u32,
    /// From start to proved; the health deadline.
    pub within: Duration,
    /// It must have run so long without exit, besides the check.
    pub settle: Duration,
}

/// How a committed replica is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Liveness {
    /// What is asked.
    pub check: Check,
    /// Between two samples.
    pub every: Duration,
    /// For one sample.
    pub timeout: Duration,
    /// Unhealthy samples in a row until `action`.
    pub failures: u32,
    /// Whether the replica is then restarted, or only reported.
    pub restart: bool,
}

/// One request that must be answered as said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmokeCheck {
    /// Path and query; begins with `/`.
    pub path: String,
    /// Status that is wanted; `None`: 200–399.
    pub status: Option<u16>,
    /// Text that the body must contain.
    pub contains: Option<String>,
}

/// What happens to a container that stops by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestartPolicy {
    /// When it is started again.
    pub condition: RestartCondition,
    /// Between exit and start; doubles up to 30 s while it keeps failing.
    pub delay: Duration,
    /// Attempts until it is given up; `None`: no end.
    pub max_attempts: Option<u32>,
    /// Attempts are forgotten after it ran so long.
    pub window: Duration,
}

/// When a stopped container is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartCondition {
    /// Never.
    No,
    /// After an exit code other than 0.
    OnFailure,
    /// After any exit.
    Any,
}

/// How a rollout of a service goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolloutPolicy {
    /// Over the hosts.
    pub strategy: Strategy,
    /// On one host: B beside A, or after it.
    pub order: Order,
    /// Hosts per wave (rolling); 0: all at once.
    pub wave: u32,
    /// Between two waves.
    pub delay: Duration,
    /// Hosts that may end reverted before all go back.
    pub failure_budget: u32,
    /// When the budget is used up: go back, or hold for a person.
    pub on_failure: OnFailure,
    /// How long a cut-over candidate is watched before commit.
    pub observe: Duration,
    /// How long A may take to finish its connections.
    pub drain: Duration,
    /// When a wave's hosts commit.
    pub commit: CommitRule,
}

/// How a rollout goes over the hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// Wave by wave.
    Rolling,
    /// Prepare all, then serve on all at once, then commit all.
    BlueGreen,
    /// Wave by wave, for what must never run twice.
    Recreate,
}

/// Whether A and B may run at the same time on a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// B starts beside A.
    StartFirst,
    /// A stops before B starts.
    StopFirst,
}

/// What happens when the failure budget is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// Every host goes back.
    Rollback,
    /// The rollout holds and waits for a person.
    Hold,
}

/// When the hosts that serve B commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitRule {
    /// Each wave for itself.
    PerWave,
    /// All at the end.
    AtEnd,
}

//! The agent's configuration, `/etc/cutover/agent.toml`. Every setting has a default.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Where the packages put the file.
pub const PATH: &str = "/etc/cutover/agent.toml";

/// All settings.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Everything that must be kept: membership, journal, revisions, routes.
    pub state_dir: PathBuf,
    /// Sockets; may be lost at a reboot.
    pub runtime_dir: PathBuf,
    /// nginx listens here where a service names no address; unset: everywhere.
    pub listen_address: Option<Ipv4Addr>,
    /// Which installation this is; several agents on one machine need several.
    pub machine_id_file: PathBuf,
    /// The container engine.
    pub docker: Docker,
    /// The proxy.
    pub nginx: Nginx,
}

/// The container engine.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Docker {
    /// Its socket.
    pub socket: PathBuf,
    /// The network of our own that containers get fixed addresses on.
    pub network: String,
    /// Its subnet, `/16` to `/24`. The lower half is for fixed addresses, the upper for others.
    pub subnet: String,
    /// Several agents share this engine: container names get a suffix.
    pub shared: bool,
}

/// The proxy.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Nginx {
    /// The program and the options that choose its instance.
    pub command: Vec<String>,
    /// Where its master writes its process id.
    pub pid_file: PathBuf,
    /// Our generated configuration, which its own includes; unset: below `state_dir`.
    pub conf_dir: Option<PathBuf>,
    /// The value of an `access_log` line for requests to our services; unset: none.
    pub access_log: Option<String>,
    /// Services whose `server` block the admin keeps; two files are written for each to include.
    pub include_only: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            state_dir: "/var/lib/cutover-agent".into(),
            runtime_dir: "/run/cutover-agent".into(),
            listen_address: None,
            machine_id_file: "/etc/machine-id".into(),
            docker: Docker::default(),
            nginx: Nginx::default(),
        }
    }
}

impl Default for Docker {
    fn default() -> Self {
        Self {
            socket: "/var/run/docker.sock".into(),
            network: "cutover".to_owned(),
            subnet: "10.213.0.0/20".to_owned(),
            shared: false,
        }
    }
}

impl Default for Nginx {
    fn default() -> Self {
        Self {
            command: vec!["nginx".to_owned()],
            pid_file: "/run/nginx.pid".into(),
            conf_dir: None,
            access_log: None,
            include_only: Vec::new(),
        }
    }
}

impl Config {
    /// Generated nginx configuration.
    #[must_use]
    pub fn conf_dir(&self) -> PathBuf {
        self.nginx
            .conf_dir
            .clone()
            .unwrap_or_else(|| self.state_dir.join("nginx"))
    }

    /// nginx's inner listeners. Kept over a reboot: nginx starts before the agent and binds them.
    #[must_use]
    pub fn inner_dir(&self) -> PathBuf {
        self.state_dir.join("run")
    }

    /// The route of each service.
    #[must_use]
    pub fn routes_dir(&self) -> PathBuf {
        self.state_dir.join("routes")
    }

    /// Revisions that this host was told of.
    #[must_use]
    pub fn revisions_dir(&self) -> PathBuf {
        self.state_dir.join("revisions")
    }

    /// Key, certificate and coordinator.
    #[must_use]
    pub fn membership_dir(&self) -> PathBuf {
        self.state_dir.join("membership")
    }

    /// The socket for people on this host.
    #[must_use]
    pub fn local_socket(&self) -> PathBuf {
        self.runtime_dir.join("agent.sock")
    }

    /// Where nginx sends a datagram a request.
    #[must_use]
    pub fn signals_socket(&self) -> PathBuf {
        self.runtime_dir.join("signals.sock")
    }

    /// Reads the file at `path`, which may be missing at the default place alone.
    ///
    /// # Errors
    /// When it can't be read or makes no sense.
    pub fn read(path: &Path) -> Result<Self, cutover_daemon::config::ConfigError> {
        cutover_daemon::config::read(path, path != Path::new(PATH))
    }
}

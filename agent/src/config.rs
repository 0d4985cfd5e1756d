//! The agent's configuration, `/etc/cutover/agent.toml`. Every setting has a default.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Where the packages put the file.
pub const PATH: &str = "/etc/cutover/agent.toml";
/// Everything that is kept, unless somebody says otherwise.
const STATE_DIR: &str = "/var/lib/cutover-agent";
/// The sockets, where that is where it is.
const RUNTIME_DIR: &str = "/run/cutover-agent";

/// All settings.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Everything that must be kept: membership, journal, revisions, routes.
    pub state_dir: PathBuf,
    /// Sockets; may be lost at a reboot. Unset: `/run/cutover-agent`, and with another `state_dir` below that.
    pub runtime_dir: Option<PathBuf>,
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
            state_dir: STATE_DIR.into(),
            runtime_dir: None,
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

    /// Which replica has which address.
    #[must_use]
    pub fn addresses_file(&self) -> PathBuf {
        self.state_dir.join("addresses.json")
    }

    /// Key, certificate and coordinator.
    #[must_use]
    pub fn membership_dir(&self) -> PathBuf {
        self.state_dir.join("membership")
    }

    /// The sockets' folder. One `state_dir` moves all, so that two agents never share a socket.
    #[must_use]
    pub fn runtime_dir(&self) -> PathBuf {
        match &self.runtime_dir {
            Some(named) => named.clone(),
            None if self.state_dir == Path::new(STATE_DIR) => RUNTIME_DIR.into(),
            None => self.state_dir.join("sockets"),
        }
    }

    /// The socket for people on this host.
    #[must_use]
    pub fn local_socket(&self) -> PathBuf {
        self.runtime_dir().join("agent.sock")
    }

    /// Where nginx sends a datagram a request.
    #[must_use]
    pub fn signals_socket(&self) -> PathBuf {
        self.runtime_dir().join("signals.sock")
    }

    /// Reads the file at `path`, which may be missing at the default place alone.
    ///
    /// # Errors
    /// When it can't be read or makes no sense.
    pub fn read(path: &Path) -> Result<Self, cutover_daemon::config::ConfigError> {
        cutover_daemon::config::read(path, path != Path::new(PATH))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shown, and not the default: by default they are unset.
    const UNSET: [&str; 4] = ["runtime_dir", "listen_address", "conf_dir", "access_log"];

    #[test]
    fn one_state_dir_moves_the_sockets_too() {
        let mut config = Config::default();
        let socket = |config: &Config| config.local_socket().display().to_string();
        assert_eq!(socket(&config), "/run/cutover-agent/agent.sock");
        config.state_dir = "/srv/second".into();
        assert_eq!(socket(&config), "/srv/second/sockets/agent.sock");
        config.runtime_dir = Some("/run/second".into());
        assert_eq!(socket(&config), "/run/second/agent.sock");
    }

    #[test]
    fn the_packaged_example_says_what_the_defaults_are_and_shows_every_setting() {
        let path = Path::new(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../packaging/agent.toml"
        ));
        let text = std::fs::read_to_string(path).expect("is there");
        let default = format!("{:?}", Config::default());
        let as_it_is: Config = cutover_daemon::config::read(path, true).expect("is valid");
        assert_eq!(format!("{as_it_is:?}"), default);
        let setting = |line: &&str| {
            let name = line.split(" = ").next().unwrap_or_default();
            line.starts_with('[') || line.contains(" = ") && !name.contains(' ')
        };
        let shown: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# "))
            .filter(setting)
            .collect();
        let shown_at = path.with_file_name("agent.toml");
        let all = tempfile::tempdir().expect("a directory");
        let file = all.path().join("agent.toml");
        std::fs::write(&file, shown.join("\n")).expect("written");
        let everything: Config = cutover_daemon::config::read(&file, true)
            .unwrap_or_else(|error| panic!("{}: {error}", shown_at.display()));
        assert!(everything.listen_address.is_some() && everything.nginx.access_log.is_some());
        let defaults: Vec<&str> = shown
            .into_iter()
            .filter(|line| !UNSET.iter().any(|unset| line.starts_with(unset)))
            .collect();
        std::fs::write(&file, defaults.join("\n")).expect("written");
        let defaults: Config = cutover_daemon::config::read(&file, true).expect("is valid");
        assert_eq!(format!("{defaults:?}"), default);
        // Every field is shown: a new one without a line here is found.
        for field in default.split(|c: char| !(c.is_ascii_lowercase() || c == '_')) {
            let known = default.contains(&format!("{field}: "));
            assert!(
                field.is_empty() || !known || text.contains(field),
                "{field} is not shown"
            );
        }
    }
}

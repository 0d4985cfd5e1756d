//! `/etc/cutover/coordinator.toml`: where it listens, where it keeps things.
//!
//! One `listen_address` and `state_dir` move all of it, so that several
//! coordinators can run on one machine.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cutover_daemon::config::ConfigError;
use serde::Deserialize;

/// Where the file is, unless somebody says otherwise.
pub const PATH: &str = "/etc/cutover/coordinator.toml";
/// An order must outlive a lost message or two, and a restart of the coordinator.
const LEASE_LEAST: u64 = 3;
/// A host that lost its coordinator should not hold a prepared swap for longer.
const LEASE_MOST: u64 = 3600;

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Store, CA, snapshots.
    pub state_dir: PathBuf,
    /// Of both gates.
    pub listen_address: IpAddr,
    /// Of the main gate.
    pub port: u16,
    /// Of the enrolment gate.
    pub enrolment_port: u16,
    /// Of `/metrics`, `/healthz`, `/readyz`; always on a loopback address.
    pub http_port: u16,
    /// Names and IP addresses in the coordinator's certificate, of which new hosts are told the first that is
    /// not loopback; empty: those that `init` was given.
    pub addresses: Vec<String>,
    /// How long an order holds on a host without being renewed.
    pub lease_seconds: u64,
    /// Ended revisions that stay parked on a host.
    pub revisions_kept: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            state_dir: PathBuf::from("/var/lib/cutover-coordinator"),
            listen_address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            port: 7443,
            enrolment_port: 7444,
            http_port: 7480,
            addresses: Vec::new(),
            lease_seconds: 30,
            revisions_kept: 5,
        }
    }
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadConfig {
    /// The file.
    #[error(transparent)]
    File(#[from] ConfigError),
    /// A value in it.
    #[error("{}: {what}", path.display())]
    Value {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Nobody said how the coordinator is reached.
    #[error(
        "nothing says how hosts reach this coordinator: set `addresses` in coordinator.toml; where there is no CA yet, run `cutover-coordinator init --address HOST`"
    )]
    NoAddress,
}

impl Config {
    /// Reads `path`; a missing file is the default one unless it was `named`.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn read(path: &Path, named: bool) -> Result<Self, BadConfig> {
        let config: Self = cutover_daemon::config::read(path, named)?;
        if !(LEASE_LEAST..=LEASE_MOST).contains(&config.lease_seconds) {
            let what = format!("lease_seconds is {LEASE_LEAST} to {LEASE_MOST}");
            return Err(BadConfig::Value {
                path: path.to_owned(),
                what,
            });
        }
        Ok(config)
    }

    /// How long an order holds.
    #[must_use]
    pub fn lease(&self) -> Duration {
        Duration::from_secs(self.lease_seconds)
    }

    /// The main gate.
    #[must_use]
    pub fn main(&self) -> SocketAddr {
        SocketAddr::new(self.listen_address, self.port)
    }

    /// The enrolment gate.
    #[must_use]
    pub fn enrolment(&self) -> SocketAddr {
        SocketAddr::new(self.listen_address, self.enrolment_port)
    }

    /// Metrics and health: what is not for the network stays on this machine.
    #[must_use]
    pub fn http(&self) -> SocketAddr {
        let address = if self.listen_address.is_loopback() {
            self.listen_address
        } else {
            IpAddr::V4(Ipv4Addr::LOCALHOST)
        };
        SocketAddr::new(address, self.http_port)
    }

    /// Where the CA lies.
    #[must_use]
    pub fn pki(&self) -> PathBuf {
        self.state_dir.join("pki")
    }

    /// Whether `init` was here.
    #[must_use]
    pub fn has_ca(&self) -> bool {
        self.pki().join("ca.pem").exists()
    }

    /// Where `init` wrote how the coordinator is reached.
    #[must_use]
    pub fn addresses_file(&self) -> PathBuf {
        self.state_dir.join("addresses")
    }

    /// How the coordinator is reached: as configured, else as `init` was told.
    ///
    /// # Errors
    /// When nobody said.
    pub fn reached_at(&self) -> Result<Vec<String>, BadConfig> {
        if !self.addresses.is_empty() {
            return Ok(self.addresses.clone());
        }
        let text = std::fs::read_to_string(self.addresses_file()).unwrap_or_default();
        let addresses: Vec<String> = text
            .lines()
            .map(str::to_owned)
            .filter(|line| !line.is_empty())
            .collect();
        if addresses.is_empty() {
            Err(BadConfig::NoAddress)
        } else {
            Ok(addresses)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_packaged_example_says_what_the_defaults_are() {
        let path = Path::new(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../packaging/coordinator.toml"
        ));
        assert_eq!(
            Config::read(path, true).expect("is valid"),
            Config::default()
        );
        let text = std::fs::read_to_string(path).expect("is there");
        let shown: String = text
            .lines()
            .filter_map(|line| line.strip_prefix("# "))
            .filter(|line| line.contains(" = ") && !line.starts_with("addresses"))
            .map(|line| format!("{line}\n"))
            .collect();
        assert_eq!(
            toml::from_str::<Config>(&shown).expect("is valid"),
            Config::default()
        );
    }

    #[test]
    fn a_value_that_is_not_known_or_out_of_bounds_is_refused_with_the_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("coordinator.toml");
        for bad in ["lease_seconds = 1", "lese = 3", "port = 70000"] {
            std::fs::write(&path, bad).expect("written");
            let error = Config::read(&path, true).expect_err(bad);
            assert!(error.to_string().contains("coordinator.toml"), "{error}");
        }
        assert!(Config::read(&dir.path().join("none"), false).is_ok());
        assert!(Config::read(&dir.path().join("none"), true).is_err());
    }

    #[test]
    fn health_stays_on_this_machine() {
        let mut config = Config::default();
        assert!(config.http().ip().is_loopback());
        config.listen_address = "127.0.1.7".parse().expect("an address");
        assert_eq!(config.http().ip().to_string(), "127.0.1.7");
    }
}

//! What `init --local` needs of a machine, found before anything is made.
//!
//! Kept true: each thing that is missing says the command that mends it.

use std::env;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use cutover_core::{HostId, NameError};
use cutover_daemon::unit::{self, State, Systemd, UnitError};
use nix::unistd::{geteuid, gethostname};

use super::LocalError;
use crate::config::Config;
use crate::init::Wish;

/// The agent's program, which its package puts into the path of everybody.
const AGENT_PROGRAM: &str = "cutover-agent";

/// What was found.
#[derive(Debug)]
pub(super) struct Ground {
    pub(super) systemd: Systemd,
    /// The agent's program.
    pub(super) agent: PathBuf,
    /// This machine's name as a host.
    pub(super) host: HostId,
    /// All names and addresses of the coordinator.
    pub(super) addresses: Vec<String>,
    /// The one that this machine uses.
    pub(super) at: String,
}

/// What is missing.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// Files of other users, and units.
    #[error("this needs root: sudo cutover-coordinator init --local")]
    NotRoot,
    /// No units are to be had.
    #[error(
        "systemd does not run this machine, so no unit can be started: run `cutover-coordinator init --address HOST`, then \
         `cutover-coordinator run` and `cutover-agent run` by what runs services here"
    )]
    NoSystemd,
    /// There is no agent.
    #[error("cutover-agent is not installed: apt-get install cutover-agent")]
    NoAgent,
    /// A unit is not there.
    #[error("systemd knows no unit {0}: apt-get install --reinstall {0}")]
    NoUnit(&'static str),
    /// A unit may not be started.
    #[error("the unit {0} is masked: systemctl unmask {0}")]
    Masked(&'static str),
    /// The machine's name can't be a host's.
    #[error(
        "this machine's name can't be a host's; give it another one: hostnamectl set-hostname NAME"
    )]
    HostName(#[source] NameError),
    /// The machine has no name.
    #[error("this machine has no name; give it one: hostnamectl set-hostname NAME")]
    NoHostName,
    /// The configuration leaves out how this machine reaches it.
    #[error(
        "`addresses` in /etc/cutover/coordinator.toml leaves out {0}, by which this machine reaches its own coordinator; \
         add it there, or take the line out"
    )]
    Unreached(String),
    /// The CA was made for other names.
    #[error(
        "the coordinator's certificate was made for {made}, not for {wanted}; set `addresses` in \
         /etc/cutover/coordinator.toml, or leave --address out"
    )]
    Addresses {
        /// What it was made for.
        made: String,
        /// What is wanted.
        wanted: String,
    },
}

impl Ground {
    /// Looks for everything.
    pub(super) async fn find(config: &Config, wish: &Wish) -> Result<Self, LocalError> {
        if !geteuid().is_root() {
            return Err(Unfit::NotRoot.into());
        }
        let systemd = Systemd::here().ok_or(Unfit::NoSystemd)?;
        let agent = installed(AGENT_PROGRAM).ok_or(Unfit::NoAgent)?;
        for name in [unit::COORDINATOR, unit::AGENT] {
            there(name, systemd.look(name).await)?;
        }
        let name = gethostname().ok().and_then(|name| name.into_string().ok());
        let host = name.ok_or(Unfit::NoHostName)?;
        let host = host.parse().map_err(Unfit::HostName)?;
        let (addresses, at) = addresses(config, &wish.addresses)?;
        Ok(Self {
            systemd,
            agent,
            host,
            addresses,
            at,
        })
    }
}

fn there(name: &'static str, state: Result<State, UnitError>) -> Result<(), LocalError> {
    match state? {
        State::Rests | State::Runs => Ok(()),
        State::Absent => Err(Unfit::NoUnit(name).into()),
        State::Masked => Err(Unfit::Masked(name).into()),
    }
}

pub(super) fn installed(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// All addresses of the coordinator, and the one that this machine uses: its own loopback address
/// first, unless the coordinator listens elsewhere alone; as they were made, where they were.
fn addresses(config: &Config, more: &[String]) -> Result<(Vec<String>, String), Unfit> {
    let own = if config.listen_address.is_unspecified() {
        Ipv4Addr::LOCALHOST.to_string()
    } else {
        config.listen_address.to_string()
    };
    let known = config.reached_at().ok().filter(|_| config.has_ca());
    let fixed = known.or_else(|| (!config.addresses.is_empty()).then(|| config.addresses.clone()));
    let Some(fixed) = fixed else {
        let mut all = vec![own.clone()];
        for address in more {
            if !all.contains(address) {
                all.push(address.clone());
            }
        }
        return Ok((all, own));
    };
    if let Some(new) = more.iter().find(|address| !fixed.contains(address)) {
        return Err(Unfit::Addresses {
            made: fixed.join(", "),
            wanted: new.clone(),
        });
    }
    if fixed.contains(&own) {
        return Ok((fixed, own));
    }
    // A coordinator for the whole network, made before: this machine reaches it as the others do.
    match fixed.first() {
        Some(first) if config.has_ca() => {
            let first = first.clone();
            Ok((fixed, first))
        }
        Some(_) | None => Err(Unfit::Unreached(own)),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::SystemTime;

    use super::*;
    use crate::init::make_ca;

    fn config(state: &Path) -> Config {
        Config {
            state_dir: state.to_owned(),
            ..Config::default()
        }
    }

    fn texts(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn a_new_coordinator_is_reached_from_its_own_machine_first_and_by_each_name_once() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut config = config(dir.path());
        let more = texts(&["deploy.example.com", "127.0.0.1"]);
        let (all, at) = addresses(&config, &more).expect("they fit");
        assert_eq!(all, ["127.0.0.1", "deploy.example.com"]);
        assert_eq!(at, "127.0.0.1");
        config.listen_address = "192.0.2.7".parse().expect("an address");
        let (all, at) = addresses(&config, &[]).expect("they fit");
        assert_eq!((all.len(), at.as_str()), (1, "192.0.2.7"));
    }

    #[test]
    fn one_that_was_made_keeps_its_names_and_a_new_one_says_where_it_belongs() {
        let dir = tempfile::tempdir().expect("a folder");
        let config = config(dir.path());
        let made = texts(&["deploy.example.com"]);
        make_ca(&config, &made, SystemTime::now()).expect("a CA");
        let (all, at) = addresses(&config, &[]).expect("as it was made");
        assert_eq!((all, at.as_str()), (made, "deploy.example.com"));
        let error = addresses(&config, &texts(&["b.example.com"])).expect_err("not in it");
        assert!(error.to_string().contains("coordinator.toml"), "{error}");
    }

    #[test]
    fn a_configuration_that_leaves_this_machine_out_is_refused_before_anything_is_made() {
        let dir = tempfile::tempdir().expect("a folder");
        let config = Config {
            addresses: texts(&["deploy.example.com"]),
            ..config(dir.path())
        };
        let error = addresses(&config, &[]).expect_err("127.0.0.1 is not in it");
        assert!(error.to_string().contains("127.0.0.1"), "{error}");
    }

    #[test]
    fn a_unit_that_is_missing_or_masked_says_the_command_that_mends_it() {
        for (state, mend) in [
            (State::Absent, "apt-get install --reinstall cutover-agent"),
            (State::Masked, "systemctl unmask cutover-agent"),
        ] {
            let error = there(unit::AGENT, Ok(state)).expect_err("it is not there");
            assert!(error.to_string().contains(mend), "{error}");
        }
        assert!(there(unit::AGENT, Ok(State::Rests)).is_ok());
    }
}

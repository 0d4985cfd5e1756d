//! What is typed; a man page is made from it, too.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};

use crate::config::{self, Config};

/// Plans rollouts, commands agents, keeps what happened.
#[derive(Debug, Parser)]
#[command(name = "cutover-coordinator", version)]
pub struct Cli {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

const INIT: &str = "\
Examples:
  sudo cutover-coordinator init --address deploy.example.com
  sudo cutover-coordinator init --local                          coordinator and host on this machine";

const OPERATOR: &str = "\
Examples:
  sudo cutover-coordinator operator alice                        in this user's context
  sudo cutover-coordinator operator ci --context-dir ./ci        three files for another machine";

/// What to do
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make the CA, the coordinator's certificate and the first operator, once; start the coordinator
    ///
    /// It is started where systemd runs the machine and the configuration is the usual one; elsewhere
    /// the command that starts it is said. With --local this machine becomes a host, too: everything
    /// on one machine, in one command. Run again, --local goes on where it stopped.
    #[command(after_help = INIT)]
    Init(InitArgs),
    /// Run the coordinator
    Run(Place),
    /// Give an operator a new certificate, and write the context that uses it
    ///
    /// The operator is known or new; the certificate holds for 90 days. The context is written for the
    /// user who calls this, and is said as it is taken to another machine. What is somebody else's or
    /// another coordinator's is not written over. Needs no running coordinator.
    #[command(after_help = OPERATOR)]
    Operator(OperatorArgs),
    /// Let a new CA take over from the old one, a step at a time
    Ca {
        /// Which step
        #[command(subcommand)]
        step: CaStep,
    },
    /// Write everything that is remembered to FILE; the coordinator must be stopped
    Backup {
        /// Where to
        file: PathBuf,
        /// Where everything lies
        #[command(flatten)]
        place: Place,
    },
    /// Begin anew from FILE, a backup or snapshot; the coordinator must be stopped
    Restore {
        /// Where from
        file: PathBuf,
        /// Where everything lies
        #[command(flatten)]
        place: Place,
    },
    /// Look for what is wrong here, and say the command that mends it; needs no running coordinator
    Doctor {
        /// One JSON array, or words
        #[arg(short, long, value_parser = ["json", "text"], default_value = "text")]
        output: String,
        /// Where everything lies
        #[command(flatten)]
        place: Place,
    },
    /// Look at a database and say whether it is whole
    #[command(hide = true)]
    StoreProbe {
        /// The database's directory
        dir: PathBuf,
    },
}

/// The steps, in their order; each can be repeated, and is taken by a restart of the coordinator
#[derive(Debug, Subcommand)]
pub enum CaStep {
    /// Say how far a new CA has taken over, and what comes next
    Status {
        /// One JSON object, or words
        #[arg(short, long, value_parser = ["json", "text"], default_value = "text")]
        output: String,
        /// Where everything lies
        #[command(flatten)]
        place: Place,
    },
    /// Make the next CA, to be believed beside the old one
    Begin(Place),
    /// Let the next CA make the certificates; refused until every host believes it
    Switch(CaArgs),
    /// Let the next CA be the only one; refused until every host and operator has a certificate of it
    End(CaArgs),
}

/// What a step is told that may leave somebody behind
#[derive(Debug, Args)]
pub struct CaArgs {
    /// Leave those behind who are not ready; after `end`, such hosts must enrol anew
    #[arg(long)]
    pub force: bool,
    /// Where everything lies
    #[command(flatten)]
    pub place: Place,
}

/// Where everything lies, and what is typed instead of written in the file
#[derive(Debug, Args)]
pub struct Place {
    /// The configuration [default: /etc/cutover/coordinator.toml, if it is there]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the store and the CA lie
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// The address to listen on
    #[arg(long, value_name = "IP")]
    pub listen: Option<IpAddr>,
    /// The main gate's port
    #[arg(long)]
    pub port: Option<u16>,
    /// The enrolment gate's port
    #[arg(long)]
    pub enrolment_port: Option<u16>,
    /// The port of /healthz, /readyz and /metrics
    #[arg(long)]
    pub http_port: Option<u16>,
}

/// What `init` is told
#[derive(Debug, Args)]
pub struct InitArgs {
    /// How hosts and operators reach this machine: DNS names or IP addresses; other machines are told the first that is not loopback
    #[arg(
        long,
        value_name = "HOST",
        value_delimiter = ',',
        required_unless_present = "local"
    )]
    pub address: Vec<String>,
    /// Make this machine a host as well, start both services, and wait until the host is ready (root, systemd)
    #[arg(long, conflicts_with_all = ["no_start", "config", "state_dir", "listen", "port", "enrolment_port", "http_port"])]
    pub local: bool,
    /// Do not start the coordinator
    #[arg(long)]
    pub no_start: bool,
    /// The first operator's name
    #[arg(long, default_value = "admin")]
    pub operator: String,
    /// What the context is called
    #[arg(long, default_value = "default")]
    pub context: String,
    /// Where the context is written [default: ~/.config/cutover of the invoking user]
    #[arg(long, value_name = "DIR")]
    pub context_dir: Option<PathBuf>,
    /// Where everything lies
    #[command(flatten)]
    pub place: Place,
}

/// What `operator` is told
#[derive(Debug, Args)]
pub struct OperatorArgs {
    /// Who: a person or a CI job, known or new
    #[arg(value_name = "NAME")]
    pub operator: String,
    /// What the context is called
    #[arg(long, default_value = "default")]
    pub context: String,
    /// Where the context is written [default: ~/.config/cutover of the invoking user]
    #[arg(long, value_name = "DIR")]
    pub context_dir: Option<PathBuf>,
    /// Where everything lies
    #[command(flatten)]
    pub place: Place,
}

impl Place {
    /// Whether `config` is what the unit's coordinator has.
    #[must_use]
    pub fn is_usual(&self, config: &Config) -> bool {
        let typed = self.listen.is_some()
            || self.port.is_some()
            || self.enrolment_port.is_some()
            || self.http_port.is_some();
        let file = self
            .config
            .as_deref()
            .is_none_or(|file| file == Path::new(config::PATH));
        file && !typed && config.state_dir == Config::default().state_dir
    }

    /// The configuration, with what was typed winning over the file.
    ///
    /// # Errors
    /// When the file cannot be used.
    pub fn config(&self) -> Result<Config, config::BadConfig> {
        let path = self.config.clone().unwrap_or_else(|| config::PATH.into());
        let mut config = Config::read(&path, self.config.is_some())?;
        if let Some(dir) = &self.state_dir {
            config.state_dir.clone_from(dir);
        }
        config.listen_address = self.listen.unwrap_or(config.listen_address);
        config.port = self.port.unwrap_or(config.port);
        config.enrolment_port = self.enrolment_port.unwrap_or(config.enrolment_port);
        config.http_port = self.http_port.unwrap_or(config.http_port);
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn init(words: &[&str]) -> Result<InitArgs, clap::Error> {
        let line = ["cutover-coordinator", "init"].iter().chain(words);
        let Command::Init(args) = Cli::try_parse_from(line)?.command else {
            panic!("it is no init");
        };
        Ok(args)
    }

    #[test]
    fn one_machine_needs_no_address_and_takes_its_configuration_from_the_file_alone() {
        assert!(init(&[]).is_err());
        assert!(init(&["--local"]).is_ok_and(|args| args.local && args.address.is_empty()));
        assert!(init(&["--local", "--address", "a,b"]).is_ok_and(|args| args.address.len() == 2));
        for other in [
            &["--port", "1"][..],
            &["--state-dir", "/x"],
            &["--no-start"],
        ] {
            let words: Vec<&str> = ["--local"].iter().chain(other).copied().collect();
            assert!(init(&words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn the_unit_reads_the_usual_file_and_nothing_that_is_typed() {
        let usual = |words: &[&str], config: &Config| {
            let words: Vec<&str> = ["--address", "a"].iter().chain(words).copied().collect();
            let args = init(&words).expect("they can be read");
            args.place.is_usual(config)
        };
        let config = Config::default();
        assert!(usual(&[], &config));
        assert!(usual(&["--config", config::PATH], &config));
        assert!(!usual(&["--config", "/x.toml"], &config));
        assert!(!usual(&["--port", "7443"], &config));
        let elsewhere = Config {
            state_dir: "/x".into(),
            ..config
        };
        assert!(!usual(&[], &elsewhere));
    }
}

//! What is typed; a man page is made from it, too.

use std::net::IpAddr;
use std::path::PathBuf;

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

/// What to do
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make the CA, the coordinator's certificate and the first operator, once
    Init(InitArgs),
    /// Run the coordinator
    Run(Place),
    /// Give an operator a new certificate, and write the context that uses it; needs no running coordinator
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
    /// How hosts and operators reach this machine: DNS names or IP addresses, the first one being told to them
    #[arg(long, value_name = "HOST", value_delimiter = ',', required = true)]
    pub address: Vec<String>,
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

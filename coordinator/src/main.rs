//! `cutover-coordinator`: what is typed, and what it starts.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use cutover_coordinator::config::{self, Config};
use cutover_coordinator::init::{self, Wish};
use cutover_coordinator::run::{Coordinator, Look};
use cutover_coordinator::store::{Options, Probe, Store, probe_main};
use cutover_daemon::{logging, service};

/// Plans rollouts, commands agents, keeps what happened.
#[derive(Debug, Parser)]
#[command(name = "cutover-coordinator", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make the CA, the coordinator's certificate and the first operator, once
    Init(InitArgs),
    /// Run the coordinator
    Run(Place),
    /// Write everything that is remembered to FILE; the coordinator must be stopped
    Backup {
        /// Where to
        file: PathBuf,
        #[command(flatten)]
        place: Place,
    },
    /// Begin anew from FILE, a backup or snapshot; the coordinator must be stopped
    Restore {
        /// Where from
        file: PathBuf,
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

#[derive(Debug, Args)]
struct Place {
    /// The configuration [default: /etc/cutover/coordinator.toml, if it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the store and the CA lie
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// The address to listen on
    #[arg(long, value_name = "IP")]
    listen: Option<IpAddr>,
    /// The main gate's port
    #[arg(long)]
    port: Option<u16>,
    /// The enrolment gate's port
    #[arg(long)]
    enrolment_port: Option<u16>,
    /// The port of /healthz, /readyz and /metrics
    #[arg(long)]
    http_port: Option<u16>,
}

#[derive(Debug, Args)]
struct InitArgs {
    /// How hosts and operators reach this machine: DNS names or IP addresses, the first one being told to them
    #[arg(long, value_name = "HOST", value_delimiter = ',', required = true)]
    address: Vec<String>,
    /// The first operator's name
    #[arg(long, default_value = "admin")]
    operator: String,
    /// What the context is called
    #[arg(long, default_value = "default")]
    context: String,
    /// Where the context is written [default: ~/.config/cutover of the invoking user]
    #[arg(long, value_name = "DIR")]
    context_dir: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
}

impl Place {
    fn config(&self) -> Result<Config, config::BadConfig> {
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

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Command::StoreProbe { dir } = &cli.command {
        return probe_main(dir);
    }
    // All of ours name their provider; this is for a library that does not.
    drop(rustls::crypto::ring::default_provider().install_default());
    match act(cli.command) {
        Ok(code) => code,
        Err(error) => {
            say(&format!("cutover-coordinator: {error:#}"));
            if is_configuration(&error) {
                ExitCode::from(service::EXIT_CONFIG)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

fn act(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Init(args) => make(&args).map(|()| ExitCode::SUCCESS),
        Command::Run(place) => run(&place).map(|()| ExitCode::SUCCESS),
        Command::Backup { file, place } => backup(&file, &place),
        Command::Restore { file, place } => restore(&file, &place),
        Command::StoreProbe { dir } => Ok(probe_main(&dir)),
    }
}

fn make(args: &InitArgs) -> anyhow::Result<()> {
    let config = args.place.config()?;
    let wish = Wish {
        addresses: args.address.clone(),
        operator: args.operator.parse()?,
        context: args.context.clone(),
        context_dir: args.context_dir.clone(),
    };
    let made = init::init(&config, &wish)?;
    let addresses = args.address.join(", ");
    say(&format!(
        "CA and certificate for {addresses}: {}",
        config.pki().display()
    ));
    say(&format!("  SHA-256 of the CA: {}", made.fingerprint));
    say(&format!(
        "operator {:?}, context {:?}: {}",
        args.operator,
        args.context,
        made.context.display()
    ));
    say("next: systemctl enable --now cutover-coordinator   (or: cutover-coordinator run)");
    say(
        "then: cutover host token                            (and on each host: cutover-agent enroll)",
    );
    Ok(())
}

fn run(place: &Place) -> anyhow::Result<()> {
    logging::init();
    let config = place.config()?;
    // Two workers: the loop never waits for a handshake that is being computed, nor a
    // handshake for the loop; more would idle, as the loop is one and writes are one.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("starting the runtime")?;
    runtime.block_on(async {
        let coordinator = Coordinator::start(config, Look::Apart).await?;
        coordinator
            .run(async {
                if let Err(error) = service::asked_to_end().await {
                    tracing::error!(%error, "signals cannot be heard");
                }
            })
            .await?;
        Ok(())
    })
}

fn backup(file: &std::path::Path, place: &Place) -> anyhow::Result<ExitCode> {
    let config = place.config()?;
    let probe = Probe::own("store-probe").context("finding this program's file")?;
    let opened = Store::open(&config.state_dir, &Options::new(probe))?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let header = runtime.block_on(opened.store.backup(file))?;
    say(&format!(
        "{}: {} records of store {}, epoch {}",
        file.display(),
        header.records,
        header.store,
        header.epoch
    ));
    say(&format!(
        "the CA is not in it: keep a copy of {} in a safe place, too",
        config.pki().display()
    ));
    Ok(ExitCode::SUCCESS)
}

fn restore(file: &std::path::Path, place: &Place) -> anyhow::Result<ExitCode> {
    let config = place.config()?;
    let recovery = Store::restore(&config.state_dir, file)?;
    say(&format!(
        "restored from {}: epoch {}",
        recovery.recovered_from, recovery.epoch
    ));
    if !recovery.set_aside.is_empty() {
        say(&format!("what was there is kept in {}", recovery.set_aside));
    }
    say("what happened since is learned from the hosts as they connect");
    Ok(ExitCode::SUCCESS)
}

fn is_configuration(error: &anyhow::Error) -> bool {
    error.downcast_ref::<config::BadConfig>().is_some()
        || error
            .downcast_ref::<cutover_coordinator::run::RunError>()
            .is_some_and(cutover_coordinator::run::RunError::is_configuration)
}

/// For the person who typed it.
#[allow(clippy::print_stderr)]
fn say(text: &str) {
    eprintln!("{text}");
}

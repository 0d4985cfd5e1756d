//! `cutover-agent`: the program. What was typed, and the exit code; the rest is the library's.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow};
use clap::Parser as _;
use cutover_agent::args::{Cli, Verb};
use cutover_agent::config::{self, Config};
use cutover_agent::enroll::{self, EnrollError, Enrolled, Wish};
use cutover_agent::local::{self, AskError};
use cutover_agent::{doctor, run};
use cutover_core::{HostId, ServiceId};
use cutover_daemon::unit::{self, Started};
use cutover_daemon::{clock, exit, findings, logging};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let usual_file = cli.config == Path::new(config::PATH);
    let mut config = match Config::read(&cli.config) {
        Ok(config) => config,
        Err(error) => {
            complain(&anyhow!(error));
            return ExitCode::from(exit::CONFIG);
        }
    };
    if let Some(state_dir) = cli.state_dir {
        config.state_dir = state_dir;
    }
    let usual = usual_file && config.state_dir == Config::default().state_dir;
    // Fails only when a provider is there already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&anyhow!(error).context("could not start"));
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(act(cli.verb, &config, usual)) {
        Ok(code) => code,
        Err(error) => {
            complain(&error);
            ExitCode::from(code(&error))
        }
    }
}

/// What the exit code says of a failure, as that of `cutover` would.
fn code(error: &anyhow::Error) -> u8 {
    use EnrollError as Enrol;
    if error.is::<Unnamed>() || error.is::<Mistyped>() {
        return exit::USAGE;
    }
    match (
        error.downcast_ref::<AskError>(),
        error.downcast_ref::<Enrol>(),
    ) {
        (Some(AskError::NotHere(_)), _) => exit::USAGE,
        (Some(AskError::Unreachable { .. }), _) | (_, Some(Enrol::Dial(_))) => exit::UNACCEPTED,
        (Some(AskError::Refused(_)), _) => exit::REFUSED,
        (_, Some(error)) if error.is_refusal() => exit::REFUSED,
        // What came of it is not known, or nobody thought of it.
        _ => 1,
    }
}

/// What was typed makes no sense.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Mistyped(String);

fn mistyped(what: &str, why: &impl std::fmt::Display) -> Mistyped {
    Mistyped(format!("{what}: {why}"))
}

/// Which service is meant is not clear.
#[derive(Debug, thiserror::Error)]
enum Unnamed {
    #[error(transparent)]
    Malformed(#[from] cutover_core::NameError),
    #[error("{0} is not on this host; here are: {1}")]
    Unknown(String, String),
    #[error("{0} is ambiguous: {1}")]
    Ambiguous(String, String),
}

/// `usual`: it is the configuration that the unit's agent has.
async fn act(verb: Verb, config: &Config, usual: bool) -> Result<ExitCode> {
    match verb {
        Verb::Run => {
            logging::init();
            match run::run(config).await {
                Ok(()) => Ok(ExitCode::SUCCESS),
                Err(error @ (run::RunError::Addresses(_) | run::RunError::Traffic(_))) => {
                    complain(&anyhow!(error));
                    Ok(ExitCode::from(exit::CONFIG))
                }
                Err(error) => Err(error.into()),
            }
        }
        Verb::Enroll {
            coordinator,
            token_file,
            host,
            labels,
            no_start,
        } => {
            let enrolled = enroll(config, &coordinator, &token_file, host, &labels).await?;
            told(&enrolled, usual && !no_start).await?;
            Ok(ExitCode::SUCCESS)
        }
        Verb::Status { output } => {
            let status = local::ask_status(&config.local_socket()).await?;
            if output == "json" {
                say(&serde_json::to_string(&status)?)?
            } else {
                say(&status_text(&status))?
            }
            Ok(ExitCode::SUCCESS)
        }
        Verb::Ps { output } => {
            let status = local::ask_status(&config.local_socket()).await?;
            if output == "json" {
                let all: Vec<_> = status
                    .services
                    .iter()
                    .flat_map(|service| &service.containers)
                    .collect();
                say(&serde_json::to_string(&all)?)?;
            } else {
                say(&ps_text(&status))?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Verb::Revert { service } => {
            let service = named(config, &service).await?;
            say(&local::ask_revert(&config.local_socket(), &service).await?)?;
            Ok(ExitCode::SUCCESS)
        }
        Verb::Hold { service, release } => {
            let service = named(config, &service).await?;
            say(&local::ask_hold(&config.local_socket(), &service, !release).await?)?;
            Ok(ExitCode::SUCCESS)
        }
        Verb::Doctor { output } => {
            let findings = doctor::examine(config).await;
            if output == "json" {
                say(&serde_json::to_string(&findings)?)?;
            } else {
                say(&findings::words(&findings))?;
            }
            Ok(if findings::sick(&findings) {
                ExitCode::from(exit::NEEDS_PERSON)
            } else {
                ExitCode::SUCCESS
            })
        }
        Verb::ClearSockets => {
            let removed = run::clear_sockets(&config.inner_dir())
                .context("could not remove stale sockets")?;
            if removed > 0 {
                say(&format!("removed {removed} stale sockets"))?;
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn enroll(
    config: &Config,
    coordinator: &str,
    token_file: &Path,
    host: Option<String>,
    labels: &[String],
) -> Result<Enrolled> {
    let token = if token_file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .context("could not read the token from standard input")?;
        text
    } else {
        std::fs::read_to_string(token_file)
            .with_context(|| format!("could not read the token from {}", token_file.display()))?
    };
    let name = match host {
        Some(name) => name,
        None => sysinfo::System::host_name()
            .context("this machine has no host name; give one with --host")?,
    };
    let mut map = BTreeMap::new();
    for label in labels {
        let (key, value) = label
            .split_once('=')
            .ok_or_else(|| Mistyped(format!("{label:?} is no label: write KEY=VALUE")))?;
        map.insert(key.to_owned(), value.to_owned());
    }
    let wish = Wish {
        coordinator: coordinator
            .parse()
            .map_err(|error| mistyped(&format!("{coordinator:?} is no HOST:PORT"), &error))?,
        token: cutover_proto::token::Token::from_line(token.trim())
            .map_err(|error| mistyped("the token can't be used", &error))?,
        host: name
            .parse::<HostId>()
            .map_err(|error| mistyped("give another name with --host", &error))?,
        machine_id: clock::machine_id(&config.machine_id_file)
            .with_context(|| format!("could not read {}", config.machine_id_file.display()))?,
        labels: map,
    };
    run::make_membership_folder(config)?;
    Ok(enroll::enroll(&config.membership_dir(), wish).await?)
}

/// Says what came of it, and starts the agent if that is wished and systemd can.
async fn told(enrolled: &Enrolled, start: bool) -> Result<()> {
    let already = match enrolled {
        Enrolled::New(membership) => {
            say(&format!("enrolled as {}", membership.host()))?;
            false
        }
        Enrolled::Already(membership) => {
            let host = membership.host();
            say(&format!("already enrolled as {host}; unchanged"))?;
            true
        }
    };
    let started = if start {
        unit::start_here(unit::AGENT).await?
    } else {
        None
    };
    if started == Some(Started::Before) && !already {
        // It read who it is at its start.
        return say(
            "cutover-agent runs as who it was before: systemctl restart cutover-agent (containers and nginx do not notice)",
        );
    }
    match started {
        Some(Started::Now) => {
            say("cutover-agent is started; `cutover-agent doctor` says what this host lacks")
        }
        None if !already => say("start it with: systemctl enable --now cutover-agent"),
        Some(Started::Before) | None => Ok(()),
    }
}

/// The service of this name; a bare SERVICE must be unique here.
async fn named(config: &Config, text: &str) -> Result<ServiceId> {
    if text.contains('/') {
        return Ok(text.parse().map_err(Unnamed::from)?);
    }
    let status = local::ask_status(&config.local_socket()).await?;
    let all = || status.services.iter().map(|one| one.service.as_str());
    let last = format!("/{text}");
    let matching: Vec<&str> = all().filter(|name| name.ends_with(&last)).collect();
    match matching.as_slice() {
        [one] => Ok(one.parse().map_err(Unnamed::from)?),
        [] => {
            let here = all().collect::<Vec<_>>().join(", ");
            Err(Unnamed::Unknown(text.to_owned(), here).into())
        }
        several => Err(Unnamed::Ambiguous(text.to_owned(), several.join(", ")).into()),
    }
}

fn status_text(status: &local::Status) -> String {
    let link = if status.connected {
        "connected to its coordinator"
    } else {
        "without its coordinator"
    };
    let mut lines = vec![format!("this host is {link}")];
    for service in &status.services {
        let revision = if service.revision == 0 {
            "nothing".to_owned()
        } else {
            format!("@{}", service.revision)
        };
        let mut line = format!(
            "{}  {revision}  {} of {} replicas proved  nginx: {}",
            service.service, service.replicas_proved, service.replicas_wanted, service.route
        );
        if !service.phase.is_empty() {
            line.push_str(&format!(
                "  swap to @{}: {}",
                service.candidate, service.phase
            ));
        }
        if service.hold {
            line.push_str("  held by hand");
        }
        let mut said: Vec<&String> = [&service.why, &service.trouble]
            .into_iter()
            .flatten()
            .collect();
        for warning in &service.warnings {
            if !said.contains(&warning) {
                said.push(warning);
            }
        }
        for said in said {
            line.push_str(&format!("\n    {said}"));
        }
        lines.push(line);
    }
    if status.services.is_empty() {
        lines.push("no service runs here yet".to_owned());
    }
    lines.join("\n")
}

fn ps_text(status: &local::Status) -> String {
    let mut lines = vec![format!(
        "{:<32} {:<6} {:<12} {:<16} {}",
        "CONTAINER", "SLOT", "STATE", "ADDRESS", "UP"
    )];
    for container in status
        .services
        .iter()
        .flat_map(|service| &service.containers)
    {
        let up = if container.up_seconds == 0 {
            "-".to_owned()
        } else {
            format!("{} s", container.up_seconds)
        };
        lines.push(format!(
            "{:<32} {:<6} {:<12} {:<16} {up}",
            container.name, container.slot, container.state, container.address
        ));
    }
    lines.join("\n")
}

fn say(text: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{text}").context("could not write to standard output")
}

/// An error and its causes, once.
fn complain(error: &anyhow::Error) {
    // With standard error gone there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "cutover-agent: {error:#}");
}

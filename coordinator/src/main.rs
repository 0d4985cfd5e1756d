//! `cutover-coordinator`: what is typed, and what it starts.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;
use cutover_coordinator::args::{CaStep, Cli, Command, InitArgs, OperatorArgs, Place};
use cutover_coordinator::ca;
use cutover_coordinator::config::{self, Config};
use cutover_coordinator::init::{self, Wish};
use cutover_coordinator::local;
use cutover_coordinator::run::{Coordinator, Look};
use cutover_coordinator::store::{Options, Probe, Store, probe_main};
use cutover_coordinator::{operator, owner};
use cutover_daemon::unit::{self, Started};
use cutover_daemon::{exit, findings, logging, service};

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
                ExitCode::from(exit::CONFIG)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

fn act(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Init(args) => make(&args).map(|()| ExitCode::SUCCESS),
        Command::Operator(args) => give_certificate(&args).map(|()| ExitCode::SUCCESS),
        Command::Ca { step } => replace_ca(&step),
        Command::Run(place) => run(&place).map(|()| ExitCode::SUCCESS),
        Command::Backup { file, place } => backup(&file, &place),
        Command::Restore { file, place } => restore(&file, &place),
        Command::Doctor { output, place } => doctor(&output, &place),
        Command::StoreProbe { dir } => Ok(probe_main(&dir)),
    }
}

fn make(args: &InitArgs) -> anyhow::Result<()> {
    let config = args.place.config()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let wish = Wish {
        addresses: args.address.clone(),
        operator: args.operator.parse()?,
        context: args.context.clone(),
        context_dir: args.context_dir.clone(),
    };
    if args.local {
        return runtime.block_on(make_local(&config, &wish));
    }
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
    let started = if args.place.is_usual(&config) && !args.no_start {
        runtime.block_on(unit::start_here(unit::COORDINATOR))?
    } else {
        None
    };
    match started {
        Some(Started::Now | Started::Before) => say("cutover-coordinator is started"),
        None => {
            say("next: systemctl enable --now cutover-coordinator   (or: cutover-coordinator run)");
        }
    }
    say(
        "then: cutover host token                            (and on each host: cutover-agent enroll)",
    );
    Ok(())
}

/// Everything on this machine.
async fn make_local(config: &Config, wish: &Wish) -> anyhow::Result<()> {
    let installed = local::install(config, wish, &say).await?;
    let host = &installed.host;
    if installed.unchanged {
        say(&format!(
            "the coordinator and its host {host} run: unchanged"
        ));
    } else {
        say(&format!("the host {host} is ready"));
    }
    if !installed.command {
        say("the command line is not installed: apt-get install cutover");
    }
    say(
        "next: cutover deploy -f compose.yaml                (`sudo cutover-agent doctor` says what this host lacks)",
    );
    Ok(())
}

fn give_certificate(args: &OperatorArgs) -> anyhow::Result<()> {
    let config = args.place.config()?;
    let wish = operator::Wish {
        operator: args.operator.parse()?,
        context: args.context.clone(),
        context_dir: args.context_dir.clone(),
    };
    let made = operator::operator(&config, &wish)?;
    for line in made.words(&wish) {
        say(&line);
    }
    Ok(())
}

fn replace_ca(step: &CaStep) -> anyhow::Result<ExitCode> {
    let done = match step {
        CaStep::Status { output, place } if output == "json" => {
            ca::json(&place.config()?).map(|text| vec![text])
        }
        CaStep::Status { place, .. } => ca::status(&place.config()?),
        CaStep::Begin(place) => ca::begin(&place.config()?),
        CaStep::Switch(args) => ca::switch(&args.place.config()?, args.force),
        CaStep::End(args) => ca::end(&args.place.config()?, args.force),
    };
    match done {
        Ok(lines) => {
            let text = lines.join("\n");
            writeln!(std::io::stdout(), "{text}").context("could not write to standard output")?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) if error.is_refusal() => {
            say(&format!("cutover-coordinator: {}", logging::chain(&error)));
            Ok(ExitCode::from(exit::REFUSED))
        }
        Err(error) => Err(error.into()),
    }
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
    let assume = || {
        let folder = &config.state_dir;
        owner::assume(folder)
            .with_context(|| {
            format!(
                "writing the backup: taking the rights of the owner of {}; run this as root, or name another folder with --state-dir",
                folder.display()
            )
        })
    };
    let owner = assume()?;
    let opened = Store::open(&config.state_dir, &Options::new(probe))?;
    drop(owner);
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    // As whoever asks: the file may go where nobody else may write.
    let header = runtime.block_on(opened.store.backup(file))?;
    let owner = assume()?;
    drop(opened);
    drop(owner);
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

fn doctor(output: &str, place: &Place) -> anyhow::Result<ExitCode> {
    let config = place.config()?;
    let probe = Probe::own("store-probe").context("finding this program's file")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let found = runtime.block_on(cutover_coordinator::doctor::examine(&config, &probe));
    let text = if output == "json" {
        serde_json::to_string(&found)?
    } else {
        findings::words(&found)
    };
    writeln!(std::io::stdout(), "{text}").context("could not write to standard output")?;
    Ok(if findings::sick(&found) {
        ExitCode::from(exit::NEEDS_PERSON)
    } else {
        ExitCode::SUCCESS
    })
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

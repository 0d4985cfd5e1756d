//! From files and flags to what the coordinator is asked.

use cutover_compose::{Input, Loaded, Problem};
use cutover_core::ServiceName;
use cutover_core::spec::{CommitRule, Order, ServiceSpec, Strategy};
use cutover_proto::v1;

use crate::args::{self, ReleaseFlags, Shared};
use crate::client::request_id;
use crate::environment::Environment;
use crate::failure::{Failure, Kind};
use crate::names::said_app;

/// Reads the files and applies the flags.
pub(crate) fn load(
    flags: &ReleaseFlags,
    shared: &Shared,
    environment: &Environment,
) -> Result<Loaded, Failure> {
    unsupported(flags)?;
    let input = Input {
        files: flags.files.clone(),
        project_dir: None,
        app: said_app(shared, environment)?,
        variables: environment.variables().clone(),
        profiles: Vec::new(), // COMPOSE_PROFILES is among the variables
        images: flags.images.clone(),
        only: flags.only.clone(),
    };
    let mut loaded = cutover_compose::load(&input).map_err(|problems| invalid(problems.all()))?;
    if let Some(strategy) = flags.strategy {
        for service in &mut loaded.release.services {
            with_strategy(service, strategy)?;
        }
    }
    if flags.prune {
        nothing_declared_is_pruned(&loaded)?;
    }
    Ok(loaded)
}

/// The question for the coordinator.
pub(crate) fn request(
    loaded: &Loaded,
    flags: &ReleaseFlags,
    if_busy: v1::IfBusy,
    reason: &str,
) -> Result<v1::DeployRequest, Failure> {
    let release = &loaded.release;
    let files: Vec<String> = release
        .files
        .iter()
        .map(|file| file.display().to_string())
        .collect();
    let on_away = match flags.on_away {
        args::OnAway::Skip => v1::OnAway::Skip,
        args::OnAway::Refuse => v1::OnAway::Refuse,
        args::OnAway::Wait => v1::OnAway::Wait,
    };
    Ok(v1::DeployRequest {
        request_id: request_id()?,
        services: release.services.iter().map(v1::ServiceSpec::from).collect(),
        prune: flags.prune,
        app: release.app.to_string(),
        if_busy: if_busy.into(),
        on_away: on_away.into(),
        reason: reason.to_owned(),
        file: files.join(", "),
    })
}

fn invalid(problems: &[Problem]) -> Failure {
    Failure::new(Kind::InvalidFile, "the Compose files cannot be used").with_problems(problems)
}

/// What to do about a flag of a later version.
const LEAVE_IT_OUT: &str = "leave it out; \"Not yet\" in README.md has what is planned";

fn unsupported(flags: &ReleaseFlags) -> Result<(), Failure> {
    let asked = [
        (
            flags.environment.is_some(),
            "-e is not supported yet: there are no environments",
            LEAVE_IT_OUT,
        ),
        (
            flags.from.is_some(),
            "--from is not supported yet: no other environment's release can be taken",
            LEAVE_IT_OUT,
        ),
        (
            !flags.stateful.is_empty(),
            "--stateful is not supported yet: a service that keeps data can't be changed",
            LEAVE_IT_OUT,
        ),
        (
            flags.strategy == Some(args::Strategy::Canary),
            "--strategy canary is not supported yet",
            "use rolling or blue-green",
        ),
    ];
    match asked.into_iter().find(|(asked, ..)| *asked) {
        Some((_, what, next)) => Err(Failure::new(Kind::Usage, what).next(next)),
        None => Ok(()),
    }
}

/// `--strategy`, for one service.
fn with_strategy(service: &mut ServiceSpec, strategy: args::Strategy) -> Result<(), Failure> {
    let policy = &mut service.policy;
    let (strategy, order, commit) = match strategy {
        args::Strategy::Recreate => (Strategy::Recreate, Order::StopFirst, CommitRule::PerWave),
        args::Strategy::Rolling => (Strategy::Rolling, Order::StartFirst, CommitRule::PerWave),
        args::Strategy::BlueGreen => (Strategy::BlueGreen, Order::StartFirst, CommitRule::AtEnd),
        args::Strategy::Canary => return Ok(()), // refused before
    };
    if policy.order == Order::StopFirst && order == Order::StartFirst {
        // What the file says, or what it writes to: two at once may harm it.
        let what = format!(
            "{} stops before it starts, so that it can be recreated only",
            service.service
        );
        return Err(Failure::new(Kind::Usage, what)
            .next("name the others with --only, or write 'order: start-first' in the file"));
    }
    policy.strategy = strategy;
    policy.order = order;
    policy.commit = commit;
    Ok(())
}

/// Pruning takes what the file no longer has, not what a profile hides.
fn nothing_declared_is_pruned(loaded: &Loaded) -> Result<(), Failure> {
    let release = &loaded.release;
    let deployed = |name: &ServiceName| {
        release
            .services
            .iter()
            .any(|service| service.service == *name)
    };
    let hidden: Vec<String> = release
        .declared
        .iter()
        .filter(|name| !deployed(name))
        .map(ToString::to_string)
        .collect();
    if hidden.is_empty() {
        return Ok(());
    }
    let names = hidden.join(", ");
    let what =
        format!("--prune would remove {names}, which the file has under a profile that is off");
    Err(Failure::new(Kind::Usage, what)
        .next("turn the profile on with COMPOSE_PROFILES, or name what shall go to `cutover rm`"))
}

//! The verbs that change what runs: deploy, plan, rollback, rm.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use cutover_compose::ImageOverride;
use cutover_core::ServiceName;

use super::values::duration;

const DEPLOY: &str = "\
Examples:
  cutover deploy
  cutover deploy -f compose.yaml -f compose.prod.yaml --image web=registry.example.com/web:42
  cutover deploy --only web --strategy blue-green --reason 'ticket 7' --timeout 10m
  cutover deploy --on-interrupt abort        (CI: a cancelled job takes its rollout back)";

/// Puts the services of Compose files on the hosts, and waits until they are there
///
/// Services that have not changed stay as they are. Live progress on a terminal, a line for each
/// change elsewhere or with CI set. The files are those of -f, else of $COMPOSE_FILE, else
/// compose.yaml here; $COMPOSE_PROFILES says which profiles are on.
#[derive(Debug, Args)]
#[command(after_help = DEPLOY)]
pub struct Deploy {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub release: ReleaseFlags,
    /// What to do while another rollout of a service is open
    #[arg(long, value_enum, default_value_t = IfBusy::Refuse)]
    pub if_busy: IfBusy,
    /// Why, for the history
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    pub reason: String,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub wait: WaitFlags,
}

/// Says what a deploy would do, and changes nothing
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cutover plan
  cutover plan --exit-code            0: no changes, 10: changes, 7: would be refused
  cutover plan --normalized           what was understood of the files; asks nobody")]
pub struct Plan {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub release: ReleaseFlags,
    /// Print the files as they were understood, defaults written out, without any secret; needs no coordinator
    #[arg(long, conflicts_with = "exit_code")]
    pub normalized: bool,
    /// Exit with 10 when a deploy would change something
    #[arg(long)]
    pub exit_code: bool,
}

/// Which release: files, and what differs from them.
#[derive(Debug, Args)]
pub struct ReleaseFlags {
    /// A Compose file; several are merged in order
    #[arg(short, long = "file", value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Another image than the file's, for a service or for all that use a repository
    #[arg(long = "image", value_name = "SERVICE|REPO=REF")]
    pub images: Vec<ImageOverride>,
    /// Another strategy than the file's
    #[arg(long, value_enum)]
    pub strategy: Option<Strategy>,
    /// Only this service of the file; may be repeated
    #[arg(long, value_name = "SERVICE")]
    pub only: Vec<ServiceName>,
    /// Remove services of the app that the file no longer has
    #[arg(long, conflicts_with = "only")]
    pub prune: bool,
    /// What to do about hosts that are away
    #[arg(long, value_enum, default_value_t = OnAway::Skip)]
    pub on_away: OnAway,
    /// Not supported yet
    #[arg(short, long = "environment", value_name = "ENV", hide = true)]
    pub environment: Option<String>,
    /// Not supported yet
    #[arg(long, value_name = "ENV", hide = true)]
    pub from: Option<String>,
    /// Not supported yet
    #[arg(long, value_name = "SERVICE", hide = true)]
    pub stateful: Vec<String>,
}

/// How to wait for rollouts.
#[derive(Debug, Args)]
pub struct WaitFlags {
    /// Do not wait: exit with 0 when it was accepted
    #[arg(long)]
    pub detach: bool,
    /// Wait no longer than this; the rollout goes on (exit code 6)
    #[arg(long, value_name = "TIME", default_value = "30m", value_parser = duration)]
    pub timeout: Duration,
    /// What Ctrl-C does: leave the rollout alone, or abort it
    #[arg(long, value_enum, default_value_t = OnInterrupt::Detach)]
    pub on_interrupt: OnInterrupt,
}

/// Goes back to an earlier revision of a service; an open rollout of it is aborted
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cutover rollback web                the revision before
  cutover rollback shop/web --to 7    this one; `cutover history web` lists them")]
pub struct Rollback {
    /// The service
    #[arg(value_name = "[APP/]SERVICE")]
    pub service: String,
    /// Which revision [default: the one before]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub to: Option<u64>,
    /// Why, for the history
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    pub reason: String,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub wait: WaitFlags,
}

/// Takes services from every host; their volumes stay
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cutover rm web
  cutover rm --all -p shop            every service of the app")]
pub struct Remove {
    /// The services
    #[arg(value_name = "[APP/]SERVICE", required_unless_present = "all")]
    pub services: Vec<String>,
    /// Every service of the app
    #[arg(long, conflicts_with = "services")]
    pub all: bool,
    /// Why, for the history
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    pub reason: String,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub wait: WaitFlags,
}

/// How a rollout goes over the hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Strategy {
    /// Wave by wave
    Rolling,
    /// All hosts at the same moment
    BlueGreen,
    /// The old version stops before the new one starts
    Recreate,
    /// Not supported yet
    #[value(hide = true)]
    Canary,
}

/// What to do while another rollout of a service is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum IfBusy {
    /// Refuse, and name it
    Refuse,
    /// Begin when it is over
    Wait,
    /// Roll it back, then begin
    Supersede,
}

/// What to do about hosts that are away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnAway {
    /// Leave them out: they are owing (exit code 9 at the end)
    Skip,
    /// Refuse
    Refuse,
    /// Wait for them
    Wait,
}

/// What Ctrl-C does to an open rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnInterrupt {
    /// Leave it alone
    Detach,
    /// Abort it, and wait until every host is back
    Abort,
}

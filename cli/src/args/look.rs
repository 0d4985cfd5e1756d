//! The verbs that only look: status, ps, history, events, logs.

use clap::Args;

use super::values::Since;

/// Says what runs where: services, hosts, and what is wrong
#[derive(Debug, Args)]
pub struct Status {
    /// Say it again whenever it changes, until Ctrl-C
    #[arg(short, long)]
    pub watch: bool,
}

/// Lists containers
#[derive(Debug, Args)]
pub struct Ps {
    /// Of this service alone
    #[arg(value_name = "[APP/]SERVICE")]
    pub service: Option<String>,
    /// On this host alone
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,
}

/// Lists the revisions of a service, the newest first
#[derive(Debug, Args)]
pub struct History {
    /// The service
    #[arg(value_name = "[APP/]SERVICE")]
    pub service: String,
}

/// Says what happened
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cutover events --follow
  cutover events --host web-1 --tail 200")]
pub struct Events {
    /// Of this service alone
    #[arg(value_name = "[APP/]SERVICE")]
    pub service: Option<String>,
    /// Go on as it happens, until Ctrl-C
    #[arg(short, long)]
    pub follow: bool,
    /// The last so many
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub tail: u32,
    /// On this host alone
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,
    /// Of this rollout alone
    #[arg(long, value_name = "ID")]
    pub rollout: Option<String>,
}

/// Prints what the containers of a service wrote
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cutover logs web --tail 100
  cutover logs -f web --host web-1 --since 10m")]
pub struct Logs {
    /// The service
    #[arg(value_name = "[APP/]SERVICE")]
    pub service: String,
    /// Go on as new lines come, until Ctrl-C
    #[arg(short, long)]
    pub follow: bool,
    /// The last so many of each container; 0: all
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub tail: u32,
    /// Not older than this: 10m (ago), or 2025-06-01T12:00:00Z
    #[arg(long, value_name = "TIME")]
    pub since: Option<Since>,
    /// On this host alone
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,
    /// Of this revision alone
    #[arg(long, value_name = "N")]
    pub revision: Option<u64>,
}

//! `cutover host …`

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::deploy::WaitFlags;
use super::values::{Label, LabelChange, duration};

/// What to do with hosts.
#[derive(Debug, Subcommand)]
pub enum HostVerb {
    #[allow(missing_docs)]
    Token(Token),
    /// Lists hosts
    Ls,
    /// Shows one host
    Show {
        /// The host
        host: String,
    },
    #[allow(missing_docs)]
    Wait(Wait),
    /// Sets labels of a host, or takes them away; placement constraints look at them
    #[command(after_help = "\
Examples:
  cutover host label web-1 zone=a role=edge
  cutover host label web-1 role-              takes `role` away")]
    Label {
        /// The host
        host: String,
        /// KEY=VALUE sets, KEY- takes away
        #[arg(required = true, value_name = "KEY=VALUE|KEY-")]
        changes: Vec<LabelChange>,
    },
    /// Gives a host nothing new, and counts it out; what it runs stays
    Cordon {
        /// The host
        host: String,
    },
    /// Counts a cordoned host in again
    Uncordon {
        /// The host
        host: String,
    },
    /// Cordons a host and takes every service from it
    Drain {
        /// The host
        host: String,
        /// Even if a service then runs nowhere
        #[arg(long)]
        force: bool,
        /// Why, for the history
        #[arg(
            long,
            value_name = "TEXT",
            default_value = "",
            hide_default_value = true
        )]
        reason: String,
        #[command(flatten)]
        #[allow(missing_docs)]
        wait: WaitFlags,
    },
    /// Forgets a host and refuses its certificates; it must enrol again to come back
    Rm {
        /// The host
        host: String,
        /// Even if it still runs services
        #[arg(long)]
        force: bool,
        /// Why, for the history
        #[arg(
            long,
            value_name = "TEXT",
            default_value = "",
            hide_default_value = true
        )]
        reason: String,
    },
}

/// Makes a token with which a machine becomes a host
///
/// The token alone goes to standard output, the command to run on the machine to standard error.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  cutover host token | ssh web-1 sudo cutover-agent enroll --coordinator deploy.example.com:7444 --token-file -")]
pub struct Token {
    /// How many machines may use it
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub uses: u32,
    /// How long it may be used
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = duration)]
    pub expires: Duration,
    /// A label for the hosts; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE")]
    pub labels: Vec<Label>,
}

/// Waits until hosts are ready, or what else --for says
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cutover host wait --count 3 --timeout 5m
  cutover host wait web-1 web-2 --for ready")]
pub struct Wait {
    /// These hosts [default: any]
    pub hosts: Vec<String>,
    /// So many of them [default: all that were named, else 1]
    #[arg(long, value_name = "N")]
    pub count: Option<usize>,
    /// What they must be
    #[arg(long = "for", value_enum, value_name = "STATE", default_value_t = HostState::Ready)]
    pub state: HostState,
    /// Wait no longer than this (exit code 6)
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration)]
    pub timeout: Duration,
}

/// Where a host stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum HostState {
    /// Connected, and counted in
    Ready,
    /// Not connected
    Away,
    /// Counted out
    Cordoned,
    /// Two machines speak in its name
    Quarantined,
}

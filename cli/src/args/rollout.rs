//! `cutover rollout …`

use std::time::Duration;

use clap::{Args, Subcommand};

use super::values::duration;

/// What to do with rollouts.
#[derive(Debug, Subcommand)]
pub enum RolloutVerb {
    /// Lists rollouts, the newest first
    Ls {
        /// Of this service alone
        #[arg(value_name = "[APP/]SERVICE")]
        service: Option<String>,
        /// Those that are not over
        #[arg(long)]
        open: bool,
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 20)]
        limit: u32,
    },
    /// Shows one rollout: every host, what it waits for, what happened
    Show {
        /// The rollout
        id: String,
    },
    /// Watches rollouts until they are over; the exit code is theirs
    Watch {
        /// The rollouts [default: all that are open]
        ids: Vec<String>,
        /// Watch no longer than this (exit code 6)
        #[arg(long, value_name = "TIME", default_value = "30m", value_parser = duration)]
        timeout: Duration,
    },
    /// Lets a rollout go no further until it is resumed
    Pause(Steered),
    /// Lets a paused or held rollout go on
    Resume(Steered),
    /// Takes a rollout back, and waits until every host is back
    #[command(after_help = "Example:\n  cutover rollout abort r-17 --reason 'wrong tag'")]
    Abort {
        #[command(flatten)]
        #[allow(missing_docs)]
        which: Steered,
        /// Do not wait: exit with 0 when it was accepted
        #[arg(long)]
        detach: bool,
        /// Wait no longer than this; it goes on (exit code 6)
        #[arg(long, value_name = "TIME", default_value = "30m", value_parser = duration)]
        timeout: Duration,
    },
}

/// Which rollout is steered, and why.
#[derive(Debug, Args)]
pub struct Steered {
    /// The rollout
    pub id: String,
    /// Why, for the history
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    pub reason: String,
}

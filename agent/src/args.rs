//! What is typed; a man page is made from it, too.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::config;

/// Swaps containers behind nginx on this host, and moves them back when the new version is sick.
#[derive(Debug, Parser)]
#[command(name = "cutover-agent", version)]
pub struct Cli {
    /// The configuration.
    #[arg(long, global = true, default_value = config::PATH, value_name = "FILE")]
    pub config: PathBuf,
    /// Where everything is kept, sockets included; wins over the configuration's.
    #[arg(long, global = true, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run the agent; systemd does this.
    Run,
    /// Make this machine a host of a coordinator, and start the agent. A second time changes nothing.
    ///
    /// The agent is started where systemd runs the machine and the configuration is the usual one;
    /// elsewhere the command that starts it is said.
    Enroll {
        /// The coordinator's enrolment listener, HOST:7444.
        #[arg(long, value_name = "HOST:PORT")]
        coordinator: String,
        /// A file with the token of `cutover host token`; `-`: standard input.
        #[arg(long, value_name = "FILE")]
        token_file: PathBuf,
        /// The name as a host; this machine's host name unless given.
        #[arg(long, value_name = "NAME")]
        host: Option<String>,
        /// A label, KEY=VALUE; may be given again. The token's labels win.
        #[arg(long = "label", value_name = "KEY=VALUE")]
        labels: Vec<String>,
        /// Do not start the agent.
        #[arg(long)]
        no_start: bool,
    },
    /// Where every service stands on this host. Works without a coordinator.
    Status {
        /// Words for people, or one JSON object.
        #[arg(short, long, value_parser = ["json", "text"], default_value = "text")]
        output: String,
    },
    /// The containers on this host.
    Ps {
        /// Words for people, or one JSON array.
        #[arg(short, long, value_parser = ["json", "text"], default_value = "text")]
        output: String,
    },
    /// Bring the old revision of a service back on this host, now. Works without a coordinator.
    Revert {
        /// APP/SERVICE, or SERVICE where it is unique on this host.
        service: String,
    },
    /// Let nothing of a service move by itself on this host: no way back by its own verdict, no restart
    /// of what hangs. Works without a coordinator.
    Hold {
        /// APP/SERVICE, or SERVICE where it is unique on this host.
        service: String,
        /// Let it move again.
        #[arg(long)]
        release: bool,
    },
    /// What is wrong with this host, and the command that mends it. Needs no coordinator and no
    /// running agent; ends with 8 when something does not work.
    Doctor {
        /// Words for people, or one JSON array.
        #[arg(short, long, value_parser = ["json", "text"], default_value = "text")]
        output: String,
    },
    /// Remove sockets that a killed nginx left behind; nginx's unit does this before it starts.
    #[command(hide = true)]
    ClearSockets,
}

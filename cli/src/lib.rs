//! The command line of Cutover.
//!
//! Two stages, as a command line should have: [`args`] is what was typed,
//! `commands` is what it means (one file a verb: the calls, the exit code).
//! `client` is the way to the coordinator, `watch` sees rollouts through, and
//! `render` is the only place that prints: standard output for data, standard
//! error for words to people.
//!
//! Kept true: the exit code says what happened on every host ([`exit`]); with
//! `-o json` standard output holds JSON and nothing else.

pub mod args;
mod client;
mod commands;
mod context;
mod environment;
pub mod exit;
mod failure;
mod interrupt;
mod names;
mod release;
mod render;
mod watch;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

use crate::args::Cli;
use crate::environment::Environment;
use crate::exit::Exit;
use crate::failure::{Failure, Kind};
use crate::render::{Format, Output};

/// Runs the program: reads its arguments and environment, and gives its exit code.
#[must_use]
pub fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let environment = Environment::of_process();
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let exit = match runtime {
        Ok(runtime) => runtime.block_on(run(&arguments, &environment)),
        Err(error) => {
            let failure = Failure::because(Kind::Unexpected, "starting", error);
            Output::new(Format::Text, &environment).failure(&failure)
        }
    };
    exit.into()
}

async fn run(arguments: &[OsString], environment: &Environment) -> Exit {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let output = Output::new(args::format_meant(arguments), environment);
            return match args::not_yet(&error) {
                Some(failure) => output.failure(&failure),
                None => output.usage(&error),
            };
        }
    };
    let output = Output::new(cli.shared.output, environment);
    match Box::pin(commands::run(cli, environment, &output)).await {
        Ok(exit) => exit,
        Err(failure) => output.failure(&failure),
    }
}

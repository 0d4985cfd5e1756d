//! What each verb means: the calls it makes, and its exit code.

mod context;
mod deploy;
mod doctor;
mod events;
mod host;
mod host_wait;
mod logs;
mod look;
mod plan;
mod rollout;
mod see;
mod shell;
mod status;

use crate::args::{Cli, Shared, Verb, exit_codes};
use crate::client::Client;
use crate::context::Context;
use crate::environment::Environment;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::{Output, json};

/// What every command may need.
pub(crate) struct Cx<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) environment: &'a Environment,
    pub(crate) output: &'a Output,
}

impl Cx<'_> {
    /// Connects to the coordinator that is meant.
    async fn connect(&self) -> Result<Client, Failure> {
        let context = Context::resolve(self.environment, self.shared.context.as_deref())?;
        Client::connect(&context).await
    }

    /// The service that a name means.
    async fn service(&self, typed: &str, client: &mut Client) -> Result<String, Failure> {
        crate::names::service(typed, self.shared, self.environment, client).await
    }

    /// The service that a name means; empty for none.
    async fn maybe_service(
        &self,
        typed: Option<&str>,
        client: &mut Client,
    ) -> Result<String, Failure> {
        match typed {
            Some(typed) => self.service(typed, client).await,
            None => Ok(String::new()),
        }
    }
}

/// Does what was typed.
pub(crate) async fn run(
    cli: Cli,
    environment: &Environment,
    output: &Output,
) -> Result<Exit, Failure> {
    let cx = Cx {
        shared: &cli.shared,
        environment,
        output,
    };
    match cli.verb {
        Verb::Status(args) => status::status(&cx, &args).await,
        Verb::Deploy(args) => deploy::deploy(&cx, &args).await,
        Verb::Plan(args) => plan::plan(&cx, &args).await,
        Verb::Rollout(verb) => rollout::run(&cx, verb).await,
        Verb::Ps(args) => look::ps(&cx, &args).await,
        Verb::History(args) => look::history(&cx, &args).await,
        Verb::Rollback(args) => deploy::rollback(&cx, &args).await,
        Verb::Events(args) => events::events(&cx, &args).await,
        Verb::Logs(args) => logs::logs(&cx, &args).await,
        Verb::Rm(args) => deploy::remove(&cx, &args).await,
        Verb::Host(verb) => host::run(&cx, verb).await,
        Verb::Doctor => doctor::doctor(&cx).await,
        Verb::Context(verb) => context::run(&cx, verb),
        Verb::Completions { shell } => Ok(shell::completions(&cx, shell)),
        Verb::ExitCodes => {
            output.show(&json::exit_codes(), exit_codes);
            Ok(Exit::Done)
        }
        Verb::Man { folder } => shell::man(&folder),
    }
}

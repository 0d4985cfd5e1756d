//! What was typed: every verb, flag and value, and nothing of what they mean.
//!
//! These words are the help texts and the man pages.

mod context;
mod deploy;
mod host;
mod look;
mod rollout;
mod values;

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue};
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use cutover_core::AppName;

pub use context::{ContextAdd, ContextVerb};
pub use deploy::{
    Deploy, IfBusy, OnAway, OnInterrupt, Plan, ReleaseFlags, Remove, Rollback, Strategy, WaitFlags,
};
pub use host::{HostState, HostVerb, Token, Wait};
pub use look::{Events, History, Logs, Ps, Status};
pub use rollout::{RolloutVerb, Steered};
pub use values::{Label, LabelChange, Since};

use crate::exit::Exit;
use crate::failure::{Failure, Kind};
use crate::render::Format;

const AFTER: &str = "\
Examples:
  cutover deploy -f compose.yaml          put the file's services on the hosts, and wait
  cutover status                          what runs where
  cutover rollback web                    back to the revision before

`cutover help VERB` says more of a verb, `cutover help exit-codes` what scripts may rely on.";

/// Moves containers on Linux servers from one version to the next, behind nginx, without losing a request
#[derive(Debug, Parser)]
#[command(name = "cutover", version, after_help = AFTER, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub shared: Shared,
    #[command(subcommand)]
    #[allow(missing_docs)]
    pub verb: Verb,
}

/// What every verb takes.
#[derive(Debug, Args)]
pub struct Shared {
    /// The app that services belong to [default: $COMPOSE_PROJECT_NAME, else the name in the Compose file here]
    #[arg(
        short = 'p',
        long = "project",
        global = true,
        value_name = "APP",
        help_heading = "Everywhere"
    )]
    pub project: Option<AppName>,
    /// Which coordinator, by its name in the context file [default: the one in use]
    #[arg(long, global = true, value_name = "NAME", help_heading = "Everywhere")]
    pub context: Option<String>,
    /// How to print: words for people, or JSON on standard output
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Text, help_heading = "Everywhere")]
    pub output: Format,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    #[allow(missing_docs)]
    Status(Status),
    #[allow(missing_docs)]
    Deploy(Box<Deploy>),
    #[allow(missing_docs)]
    Plan(Box<Plan>),
    /// Looks at rollouts, and steers them
    #[command(subcommand)]
    Rollout(RolloutVerb),
    #[allow(missing_docs)]
    Ps(Ps),
    #[allow(missing_docs)]
    History(History),
    #[allow(missing_docs)]
    Rollback(Rollback),
    #[allow(missing_docs)]
    Events(Events),
    #[allow(missing_docs)]
    Logs(Logs),
    #[allow(missing_docs)]
    Rm(Remove),
    /// Adds hosts, and looks after them
    #[command(subcommand)]
    Host(HostVerb),
    /// Says what is wrong with this machine's context, the coordinator and its hosts, and what mends it
    ///
    /// Exit code 8 when something must be mended; warnings alone are 0.
    Doctor,
    /// Says which coordinators are known here, and which is in use
    #[command(subcommand)]
    Context(ContextVerb),
    /// Prints a completion script for a shell
    #[command(after_help = "Example:\n  cutover completions bash > /etc/bash_completion.d/cutover")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Says what the exit codes mean, and how failures look in JSON
    #[command(long_about = exit_codes())]
    ExitCodes,
    /// Writes the man pages into a folder
    #[command(hide = true)]
    Man {
        /// An existing folder
        folder: PathBuf,
    },
}

/// The whole grammar, for completions and man pages.
#[must_use]
pub fn grammar() -> clap::Command {
    Cli::command()
}

/// Verbs of a later version, which sound like others of this one.
const NOT_YET: [&str; 20] = [
    "adopt",
    "audit",
    "exec",
    "freeze",
    "migration",
    "operator",
    "registry",
    "restart",
    "run",
    "scale",
    "secret",
    "start",
    "stop",
    "unfreeze",
    "web",
    "why",
    "approve",
    "promote",
    "readmit",
    "rename",
];

/// What to say of a verb that is planned; `None`: it is a mistake like any other.
pub(crate) fn not_yet(error: &clap::Error) -> Option<Failure> {
    let Some(ContextValue::String(verb)) = error.get(ContextKind::InvalidSubcommand) else {
        return None;
    };
    NOT_YET.contains(&verb.as_str()).then(|| {
        let next = if verb == "operator" {
            "`cutover-coordinator operator` on the coordinator's machine does what it will do"
        } else {
            "\"Not yet\" in README.md has what is planned; `cutover --help` lists the verbs that are"
        };
        Failure::new(Kind::Usage, format!("the verb {verb} is not there yet")).next(next)
    })
}

/// The format that a line asks for which could not be read as a whole.
#[must_use]
pub fn format_meant(arguments: &[OsString]) -> Format {
    let text: Vec<&str> = arguments.iter().map(|a| a.to_str().unwrap_or("")).collect();
    let json = OsStr::new("json");
    let apart = text
        .iter()
        .zip(arguments.iter().skip(1))
        .any(|(flag, value)| matches!(*flag, "-o" | "--output") && value == json);
    let joined = |word: &&str| matches!(*word, "-ojson" | "-o=json" | "--output=json");
    if apart || text.iter().any(joined) {
        Format::Json
    } else {
        Format::Text
    }
}

/// The page `cutover help exit-codes`.
#[must_use]
pub fn exit_codes() -> String {
    let mut page = String::from("Exit codes; scripts may rely on them.\n\n");
    for exit in Exit::ALL {
        let line = format!("  {:>3}  {}\n", exit.code(), exit.meaning());
        page.push_str(&line);
    }
    page.push_str(
        "
Of several rollouts of one release the worst counts, from best to worst: 0, 4, 3, 9 (over), then
6, 130, 8 (still open).

`deploy --detach` is 0 when the release was accepted. `rollback` of an open rollout, and `rollout
abort`, are 0 when every host is back. `plan --exit-code` is 0 when nothing would change, 10 when
something would; `plan` is 7 when it would be refused. `doctor` is 8 when something must be mended.

With `-o json` standard output holds JSON alone (`completions` apart): one object, one array for lists, one object a line
for streams (`events`, `logs`, `rollout watch`, `status --watch`). A rollout that ended badly is a
result, with its \"exit\" in it. A failure is one last object, and is said in words on standard error,
too:

  {\"error\":{\"code\":\"unreachable\",\"exit\":5,\"message\":\"...\",\"next\":\"...\",\"problems\":[]}}

\"code\" is one of usage, invalid_file, no_context, not_found, ambiguous, unreachable,
certificate_refused, refused, permission_denied, lost_answer, timed_out, interrupted, unexpected.
\"problems\" says what is wrong with files: severity, file, line, column, path, message, advice.",
    );
    page
}

/// Whether a flag is on, off, or as a rule; shown as a word.
pub(crate) fn word(value: impl ValueEnum) -> String {
    value
        .to_possible_value()
        .map_or_else(String::new, |value| value.get_name().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_has_no_contradiction() {
        grammar().debug_assert();
    }

    #[test]
    fn json_is_meant_even_by_a_line_that_cannot_be_read() {
        let meant = |line: &str| {
            let words: Vec<OsString> = line.split(' ').map(Into::into).collect();
            format_meant(&words)
        };
        assert_eq!(meant("cutover -o json nonsense"), Format::Json);
        assert_eq!(meant("cutover nonsense --output=json"), Format::Json);
        assert_eq!(meant("cutover nonsense -ojson"), Format::Json);
        assert_eq!(meant("cutover nonsense json -o text"), Format::Text);
    }

    #[test]
    fn every_verb_and_flag_is_explained() {
        fn walk(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            assert!(command.get_about().is_some(), "{path} has no words");
            for argument in command.get_arguments() {
                assert!(
                    argument.get_help().is_some(),
                    "{path} {}",
                    argument.get_id()
                );
            }
            command.get_subcommands().for_each(|sub| walk(sub, &path));
        }
        walk(&grammar(), "");
    }
}

//! Runs a command with one Docker engine for all of its tests:
//!
//! ```text
//! cargo run -p cutover-tests --bin with-engine -- cargo nextest run
//! ```
//!
//! nextest gives each test a process of its own; without this, each would start an engine of its own.
#![allow(clippy::print_stderr, reason = "words for whoever runs the tests")]

use std::process::{Command, ExitCode};

use cutover_tests::engine::{Engine, Options};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    let Some(program) = words.next() else {
        eprintln!("usage: with-engine COMMAND [ARG]…");
        return ExitCode::from(2);
    };
    let engine = Engine::start_with(Options::default()).await;
    let status = Command::new(&program)
        .args(words)
        .env("CUTOVER_TEST_DOCKER_HOST", engine.host())
        .status();
    match status {
        Ok(status) => ExitCode::from(
            status
                .code()
                .and_then(|code| u8::try_from(code).ok())
                .unwrap_or(1),
        ),
        Err(problem) => {
            eprintln!("with-engine: {}: {problem}", program.display());
            ExitCode::from(127)
        }
    }
}

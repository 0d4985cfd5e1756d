//! Running the program: what it printed, where, and its exit code.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use cutover_tests::process::built;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::process::{Child, Command};

use super::peer::Peer;

/// No command of these tests takes longer, unless it hangs.
const MOST: Duration = Duration::from_secs(60);

/// One service that asks for nothing unusual.
pub(crate) const COMPOSE: &str = "\
name: shop
services:
  web:
    image: registry.example.com/web:2
    ports: ['8080:8080']
";

/// What a run left.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    fn of(output: Output) -> Self {
        Self {
            code: output.status.code().expect("it was not killed"),
            out: String::from_utf8(output.stdout).expect("UTF-8"),
            err: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }

    /// Standard output as one value of JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|problem| panic!("{problem}: {self:?}"))
    }

    /// Standard output as a value of JSON a line.
    #[track_caller]
    pub(crate) fn lines(&self) -> Vec<Value> {
        let parse = |line| {
            serde_json::from_str(line).unwrap_or_else(|problem| panic!("{problem}: {self:?}"))
        };
        self.out.lines().map(parse).collect()
    }
}

/// The program with a clean environment, in this folder.
pub(crate) fn cutover(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(built("cutover"));
    command
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .env("HOME", folder)
        .env("TZ", "UTC")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Lets it run to its end.
pub(crate) async fn run(mut command: Command) -> Ran {
    let output = tokio::time::timeout(MOST, command.output())
        .await
        .expect("it must end")
        .expect("it must start");
    Ran::of(output)
}

/// Waits for the end of one that was started.
pub(crate) async fn end(child: Child) -> Ran {
    let output = tokio::time::timeout(MOST, child.wait_with_output())
        .await
        .expect("it must end");
    Ran::of(output.expect("it can be waited for"))
}

/// Ctrl-C.
pub(crate) fn interrupt(child: &Child) {
    let pid = child.id().expect("it runs");
    kill(Pid::from_raw(pid.cast_signed()), Signal::SIGINT).expect("it is ours");
}

impl Peer {
    /// The program, with this coordinator in its environment and [`COMPOSE`] in its folder.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let folder = self.scratch.path();
        std::fs::write(folder.join("compose.yaml"), COMPOSE).expect("writable");
        let mut command = cutover(folder, arguments);
        command
            .env("CUTOVER_ADDRESS", self.wire.address().to_string())
            .env("CUTOVER_CA", folder.join("ca.pem"))
            .env("CUTOVER_CERT", folder.join("cert.pem"))
            .env("CUTOVER_KEY", folder.join("key.pem"));
        command
    }

    /// Runs it to its end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Ran {
        run(self.command(arguments)).await
    }
}

//! The peer: one service in Docker Swarm, on an engine of ours, updated as its users do it.
//!
//! Knows nothing of Cutover. Without published ports, since the routing mesh needs IPVS.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::engine::Engine;
use crate::wait;

/// How long Swarm may take to make up its mind.
const PATIENCE: Duration = Duration::from_secs(120);
const SERVICE: &str = "web";
/// Every engine in a swarm makes it, by this one name.
const BRIDGE: &str = "/sys/class/net/docker_gwbridge";

/// A swarm of one machine with one service. Ended with its engine, or by [`Swarm::end`].
#[derive(Debug)]
pub struct Swarm {
    engine: Arc<Engine>,
}

/// How an update ended.
#[derive(Debug, Clone)]
pub struct Update {
    /// `rollback completed`, `completed`, `rollback paused`, …; `no end`.
    pub state: String,
    /// Of `docker service update`, which waited for it.
    pub code: i32,
    /// From the command's start to that state.
    pub took: Duration,
}

impl Swarm {
    /// `replicas` of this image, start-first, rolled back when one fails within a monitor of 5 s, so many at once
    /// (0: all). `None`: Swarm can't be had here.
    #[must_use]
    pub fn begin(engine: &Arc<Engine>, image: &str, replicas: u8, parallelism: u8) -> Option<Self> {
        let swarm = Self {
            engine: Arc::clone(engine),
        };
        if !init(engine) {
            return None;
        }
        let made = swarm.docker(&[
            "service",
            "create",
            "--detach=false",
            "--quiet",
            "--name",
            SERVICE,
            "--replicas",
            &replicas.to_string(),
            "--no-resolve-image",
            "--update-order",
            "start-first",
            "--update-failure-action",
            "rollback",
            "--update-monitor",
            "5s",
            "--update-parallelism",
            &parallelism.to_string(),
            "--rollback-parallelism",
            &parallelism.to_string(),
            "--stop-grace-period",
            "2s",
            image,
        ]);
        if made.0 != 0 {
            swarm.end();
            return None;
        }
        Some(swarm)
    }

    /// `docker service update --image`, seen through to its end.
    pub async fn update(&self, image: &str) -> Update {
        let begun = Instant::now();
        let (code, _) = self.docker(&[
            "service",
            "update",
            "--detach=false",
            "--quiet",
            "--no-resolve-image",
            "--image",
            image,
            SERVICE,
        ]);
        let state = wait::try_until(PATIENCE, "Swarm to end its update", || {
            let (_, state) = self.docker(&[
                "service",
                "inspect",
                SERVICE,
                "--format",
                "{{.UpdateStatus.State}}",
            ]);
            let over = state.ends_with("completed") || state.ends_with("paused");
            async move { over.then_some(state) }
        })
        .await;
        Update {
            state: state.map_or_else(|_| "no end".to_owned(), |state| state.replace('_', " ")),
            code,
            took: begun.elapsed(),
        }
    }

    /// Changes how many are updated at once (0: all).
    pub fn at_once(&self, parallelism: u8) {
        let parallelism = parallelism.to_string();
        self.docker(&[
            "service",
            "update",
            "--detach=false",
            "--quiet",
            "--update-parallelism",
            &parallelism,
            "--rollback-parallelism",
            &parallelism,
            SERVICE,
        ]);
    }

    /// Removes the service and leaves the swarm.
    pub fn end(self) {
        self.docker(&["service", "rm", SERVICE]);
        self.docker(&["swarm", "leave", "--force"]);
    }

    fn docker(&self, words: &[&str]) -> (i32, String) {
        docker(&self.engine, words)
    }
}

/// Makes a swarm of this engine alone. `false`: Swarm can't be had here, or one that is not ours has this machine's
/// bridge for it.
#[must_use]
pub fn init(engine: &Engine) -> bool {
    let begin = [
        "swarm",
        "init",
        "--advertise-addr",
        "127.0.0.1",
        "--listen-addr",
        "127.0.0.1:12377",
    ];
    !Path::new(BRIDGE).exists() && docker(engine, &begin).0 == 0
}

/// Exit code and output of the command line; -1: it can't be started.
fn docker(engine: &Engine, words: &[&str]) -> (i32, String) {
    let output = Command::new("docker")
        .arg("-H")
        .arg(engine.host())
        .args(words)
        .output();
    output.map_or((-1, String::new()), |output| {
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        (output.status.code().unwrap_or(-1), said)
    })
}

//! The test service as a plain process of this machine, for tests that need no container.

use std::env;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::process::{self, Daemon, Recipe};
use crate::scratch::Scratch;
use crate::wait;

/// For the service to accept its first connection.
const STARTING: Duration = Duration::from_secs(20);

/// Starts it on this address and waits until it accepts. Its faults are set by the environment, as in a container.
///
/// # Panics
/// When it does not accept; with its log.
pub async fn start(scratch: &Scratch, address: SocketAddr, environment: &[(&str, &str)]) -> Daemon {
    let path = tokio::task::spawn_blocking(app_path)
        .await
        .expect("building the test service");
    let log = scratch.join(&format!("service-{}-{}.log", address.ip(), address.port()));
    let mut recipe = Recipe::new(path, log)
        .env("BIND", address.ip().to_string())
        .env("PORT", address.port().to_string());
    for (name, value) in environment {
        recipe = recipe.env(*name, *value);
    }
    let daemon = recipe.start();
    let accepts = wait::try_until(STARTING, "the service to accept", async || {
        TcpStream::connect(address).await
    })
    .await;
    accepts.unwrap_or_else(|timed_out| panic!("{timed_out}\n{}", daemon.tail()));
    daemon
}

/// The test service as a program of this machine, linked statically.
///
/// `CUTOVER_TEST_APP` names one that is built already; otherwise cargo is asked, in a folder of its own so that its
/// flags rebuild nothing else.
///
/// # Panics
/// When it cannot be built.
#[must_use]
pub fn app_path() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(build_app).clone()
}

fn build_app() -> PathBuf {
    if let Some(built) = env::var_os("CUTOVER_TEST_APP") {
        return built.into();
    }
    let target = process::target();
    let folder = target.join("testapp");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "rustc",
            "--quiet",
            "--offline",
            "--package",
            "cutover-testapp",
            "--profile",
            "release",
            "--target-dir",
        ])
        .arg(&folder)
        .args(["--", "-Ctarget-feature=+crt-static"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        // What the outer cargo says of *its* build must not reach this one.
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("RUSTFLAGS")
        .output()
        .expect("cargo must be startable");
    assert!(
        output.status.success(),
        "building the test service: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    folder.join("release/cutover-testapp")
}

//! What the tests stand on: real processes, a Docker engine and an nginx of their own, a load generator that
//! counts every loss, and waiting that always ends.
//!
//! Whatever is started here ends with the test process, however that ends (see [`reaper`]). Nothing here knows
//! Cutover's own types: these are the outside world's side of a test.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "in a test's rig a panic is the report, and standard error is where it is read"
)]

use std::io::Write as _;

pub mod bed;
pub mod engine;
pub mod engine_proxy;
pub mod fleet;
pub mod image;
pub mod load;
pub mod machine;
pub mod process;
pub mod proxy;
pub mod reaper;
pub mod scratch;
pub mod service;
pub mod swarm;
pub mod wait;

/// Whether this test can do what only root can. Says so when it cannot, so that a skipped test is seen.
///
/// ```ignore
/// if !cutover_tests::root_or_skip("engine_starts_a_container") { return; }
/// ```
#[must_use]
pub fn root_or_skip(test: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        skipped(test, "it needs root");
    }
    root
}

/// Says that a test was skipped, past the harness's capture of what tests print: `make test` lists these lines.
pub fn skipped(test: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {why}");
}

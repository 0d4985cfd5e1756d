//! `cutover-agent doctor`: what is wrong with this host, and the command that mends it.
//!
//! One file a family of checks. Kept true: nothing is changed, no coordinator and
//! no running agent is needed, and a check that can't be made says so instead of
//! passing. It shares no state with the loop.

mod engine;
mod membership;
mod schedule;

use std::path::Path;

use cutover_daemon::findings::{self, Finding};

use crate::config::Config;
use crate::{run, traffic};

/// What makes room here, and what must not be used for it.
const ROOM: &str =
    "docker image prune (never `docker system prune`: it takes parked containers and our network)";

/// Looks at everything.
pub async fn examine(config: &Config) -> Vec<Finding> {
    let mut findings = membership::look(config).await;
    findings.extend(engine::look(config).await);
    findings.extend(traffic::examine(&run::paths(config)).await);
    findings.push(findings::room(&config.state_dir, ROOM));
    findings.push(findings::open_files("cutover-agent"));
    findings.push(findings::clock(Path::new("/")).await);
    findings.extend(schedule::look(Path::new("/")));
    findings
}

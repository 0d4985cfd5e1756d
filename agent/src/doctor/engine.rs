//! The container engine: whether it answers, outlives its own restart, and leaves our addresses alone.

use cutover_core::HostId;
use cutover_daemon::findings::{Finding, room};
use cutover_daemon::logging::chain;

use super::ROOM;
use crate::addresses::Addresses;
use crate::config::Config;
use crate::docker::Docker;
use crate::enroll::Membership;

/// Turns live-restore on without a restart.
const LIVE_RESTORE: &str =
    "add \"live-restore\": true to /etc/docker/daemon.json, then: systemctl reload docker";

pub(super) async fn look(config: &Config) -> Vec<Finding> {
    // Who asks makes no difference to what is looked at, but for a network that is ours already.
    let host = Membership::load(&config.membership_dir())
        .ok()
        .map(|membership| membership.host().clone())
        .or_else(|| "doctor".parse::<HostId>().ok());
    let Some(host) = host else {
        return Vec::new();
    };
    let docker = Docker::connect(&config.docker.socket, host, &config.state_dir.join("files"));
    let info = match docker.engine().await {
        Ok(info) => info,
        Err(error) => {
            return vec![Finding::error(
                chain(&error),
                format!(
                    "systemctl start docker; docker -H unix://{} info",
                    config.docker.socket.display()
                ),
            )];
        }
    };
    let mut findings = vec![Finding::ok(format!(
        "Docker {} with {} answers",
        info.version, info.storage_driver
    ))];
    if info.snap {
        findings.push(Finding::error(
            "Docker is a snap: it sees neither our files nor most of the host's",
            "snap remove docker; apt-get install docker.io",
        ));
    }
    if !info.live_restore {
        findings.push(Finding::warn(
            "live-restore is off: every container ends when Docker restarts, at each of its upgrades, too",
            LIVE_RESTORE,
        ));
    }
    findings.push(room(&info.root, ROOM));
    findings.push(subnet(config, &docker).await);
    findings
}

async fn subnet(config: &Config, docker: &Docker) -> Finding {
    let plan = match Addresses::open(&config.addresses_file(), &config.docker.subnet) {
        Ok(addresses) => addresses.network(&config.docker.network),
        Err(error) => {
            return Finding::error(chain(&error), "set docker.subnet in agent.toml, /16 to /24");
        }
    };
    match docker.look_at_network(&plan).await {
        Ok(true) => Finding::ok(format!("network {} is there ({})", plan.name, plan.subnet)),
        Ok(false) => Finding::ok(format!(
            "network {} can be made: {} is free",
            plan.name, plan.subnet
        )),
        Err(error) => Finding::error(
            chain(&error),
            "set docker.subnet in agent.toml to a /20 that nothing here uses, then: systemctl restart cutover-agent",
        ),
    }
}

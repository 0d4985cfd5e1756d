//! The container engine: whether it answers, outlives its own restart, and leaves our addresses alone.

use std::path::Path;

use cutover_core::HostId;
use cutover_daemon::findings::{Finding, room};
use cutover_daemon::logging::chain;

use super::ROOM;
use crate::addresses::Addresses;
use crate::config::Config;
use crate::docker::{Docker, EngineInfo};
use crate::enroll::Membership;

/// Where the engine's admin sets it up.
const DAEMON: &str = "/etc/docker/daemon.json";

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
                    "systemctl reset-failed docker; systemctl start docker; docker -H unix://{} info",
                    config.docker.socket.display()
                ),
            )];
        }
    };
    let mut findings = installed(&info);
    findings.push(room(&info.root, ROOM));
    findings.push(subnet(config, &docker).await);
    findings
}

/// What the engine says of how it is installed and set up.
fn installed(info: &EngineInfo) -> Vec<Finding> {
    let mut findings = vec![Finding::ok(format!(
        "Docker {} with {} answers",
        info.version, info.storage_driver
    ))];
    if info.snap {
        findings.push(Finding::error(
            "Docker is a snap: it sees neither our files nor most of the host's",
            "snap remove docker && apt-get install docker.io (its containers and volumes are not taken along)",
        ));
    }
    if !info.live_restore {
        findings.push(Finding::warn(
            "live-restore is off: every container ends when Docker restarts, at each of its upgrades, too",
            live_restore(Path::new(DAEMON).exists()),
        ));
    }
    findings
}

/// Turns live-restore on without a restart.
fn live_restore(set_up: bool) -> String {
    let write = if set_up {
        format!("write \"live-restore\": true into {DAEMON}; then:")
    } else {
        format!("echo '{{\"live-restore\": true}}' > {DAEMON} &&")
    };
    format!("{write} systemctl reload docker")
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

#[cfg(test)]
mod tests {
    use cutover_daemon::findings::Level;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    use super::*;

    /// An engine that answers every question about it, and knows one network with this subnet.
    fn answering(folder: &Path, root: &'static str, subnet: &'static str) -> Config {
        let socket = folder.join("docker.sock");
        let listener = UnixListener::bind(&socket).expect("a new folder");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut head = vec![0; 8192];
                    let length = stream.read(&mut head).await.unwrap_or(0);
                    let head = String::from_utf8_lossy(&head[..length]).into_owned();
                    let path = head.split(' ').nth(1).unwrap_or_default();
                    let path = path.split('?').next().unwrap_or_default();
                    let (status, body) = match path.rsplit('/').next() {
                        Some("info") => (
                            200,
                            format!(
                                "{{\"DockerRootDir\":\"{root}\",\"Driver\":\"overlay2\",\"LiveRestoreEnabled\":true}}"
                            ),
                        ),
                        Some("version") => (
                            200,
                            "{\"Version\":\"24.0.5\",\"ApiVersion\":\"1.43\"}".to_owned(),
                        ),
                        Some("networks") => (
                            200,
                            format!(
                                "[{{\"Name\":\"office\",\"IPAM\":{{\"Config\":[{{\"Subnet\":\"{subnet}\"}}]}}}}]"
                            ),
                        ),
                        _ => (404, "{\"message\":\"no such network\"}".to_owned()),
                    };
                    let answer = format!(
                        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                        body.len()
                    );
                    // The other side may have heard enough.
                    let _ended = stream.write_all(answer.as_bytes()).await;
                });
            }
        });
        let mut config = Config {
            state_dir: folder.to_owned(),
            ..Config::default()
        };
        config.docker.socket = socket;
        config
    }

    fn level(found: &[Finding], words: &str) -> Option<Level> {
        let one = found.iter().find(|one| one.what.contains(words));
        one.map(|one| one.level)
    }

    #[test]
    fn live_restore_is_one_command_where_nothing_is_set_up_yet() {
        assert_eq!(
            live_restore(false),
            "echo '{\"live-restore\": true}' > /etc/docker/daemon.json && systemctl reload docker"
        );
        assert!(live_restore(true).starts_with("write \"live-restore\": true into"));
    }

    #[tokio::test]
    async fn an_engine_that_is_a_snap_is_an_error_and_one_of_a_package_is_not() {
        for (root, is) in [
            ("/var/snap/docker/common/var-lib-docker", Some(Level::Error)),
            ("/var/lib/docker", None),
        ] {
            let folder = tempfile::tempdir().expect("a folder");
            let config = answering(folder.path(), root, "192.0.2.0/24");
            let found = look(&config).await;
            assert_eq!(level(&found, "is a snap"), is, "{found:?}");
            assert_eq!(level(&found, "Docker 24.0.5"), Some(Level::Ok), "{found:?}");
        }
    }

    #[tokio::test]
    async fn a_subnet_that_another_network_has_is_an_error_that_names_both() {
        for (subnet, clash) in [("10.213.4.0/24", true), ("192.0.2.0/24", false)] {
            let folder = tempfile::tempdir().expect("a folder");
            let config = answering(folder.path(), "/var/lib/docker", subnet);
            let found = look(&config).await;
            let said = level(&found, "docker network office has 10.213.4.0/24");
            assert_eq!(said, clash.then_some(Level::Error), "{found:?}");
            assert_eq!(level(&found, "can be made").is_none(), clash, "{found:?}");
        }
    }
}

//! Whether this machine is a host, how long its certificate holds, and whether its agent runs.

use std::time::SystemTime;

use cutover_daemon::findings::{self, Finding};
use cutover_daemon::logging::chain;

use crate::config::Config;
use crate::enroll::{EnrollError, Membership};
use crate::local;

pub(super) async fn look(config: &Config) -> Vec<Finding> {
    let mut findings = vec![certificate(config, SystemTime::now())];
    if matches!(
        Membership::load(&config.membership_dir()),
        Err(EnrollError::NotEnrolled(_))
    ) {
        // Before that its unit starts nothing.
        return findings;
    }
    findings.push(match local::ask_status(&config.local_socket()).await {
        Ok(status) if status.connected => {
            Finding::ok("the agent runs and is connected to its coordinator")
        }
        Ok(_) => Finding::warn(
            "the agent runs without its coordinator; it serves, and nothing new is deployed",
            "journalctl -u cutover-agent -n 50 says why; is the coordinator's port 7443 open to this host?",
        ),
        Err(error) => Finding::warn(chain(&error), "systemctl enable --now cutover-agent"),
    });
    findings
}

fn certificate(config: &Config, now: SystemTime) -> Finding {
    let membership = match Membership::load(&config.membership_dir()) {
        Ok(membership) => membership,
        Err(error @ EnrollError::NotEnrolled(_)) => {
            return Finding::warn(
                chain(&error),
                "cutover-agent enroll --coordinator HOST:7444 --token-file - (a token: cutover host token)",
            );
        }
        Err(error) => {
            return Finding::error(chain(&error), anew("HOST", config));
        }
    };
    let host = membership.host();
    let life = match membership.life() {
        Ok(life) => life,
        Err(error) => return Finding::error(chain(&error), anew(host.as_str(), config)),
    };
    let whose = format!(
        "the certificate of host {host} (coordinator {})",
        membership.coordinator()
    );
    let mend = format!(
        "systemctl restart cutover-agent (it renews when it connects, for 30 days after the end, too); after that: {}",
        anew(host.as_str(), config)
    );
    findings::certificate(&whose, life.from, life.until, now, &mend)
}

/// How a machine becomes a host anew when what it has is of no use.
fn anew(host: &str, config: &Config) -> String {
    format!(
        "cutover host rm {host} (where operators are); rm -r {}; cutover-agent enroll with a new token (cutover host token)",
        config.membership_dir().display()
    )
}

//! Whether this machine is a host, how long its certificate holds, and whether its agent runs.

use std::time::{Duration, SystemTime};

use cutover_daemon::findings::Finding;
use cutover_daemon::logging::chain;

use crate::config::Config;
use crate::enroll::{EnrollError, Membership};
use crate::local;

/// It is renewed at 50 to 80 % of 90 days: with less left than this, that has failed for a while.
const CERTIFICATE_WARN: Duration = Duration::from_secs(14 * 24 * 3600);
const DAY: u64 = 24 * 3600;

pub(super) async fn look(config: &Config) -> Vec<Finding> {
    let mut findings = vec![certificate(config, SystemTime::now())];
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
            return Finding::error(chain(&error), "cutover host readmit, then enrol again");
        }
    };
    let host = membership.host();
    match membership.life() {
        Ok(life) => match life.until.duration_since(now) {
            Ok(left) if left > CERTIFICATE_WARN => Finding::ok(format!(
                "host {host} of {}; its certificate holds for {} days",
                membership.coordinator(),
                left.as_secs() / DAY
            )),
            Ok(left) => Finding::warn(
                format!(
                    "the certificate of {host} ends in {} days",
                    left.as_secs() / DAY
                ),
                "systemctl restart cutover-agent (it renews when it connects)",
            ),
            Err(_) => Finding::error(
                format!("the certificate of {host} has expired, or the clock here is wrong"),
                "timedatectl set-ntp true; then systemctl restart cutover-agent: for 30 days it renews by itself, after that `cutover host readmit`",
            ),
        },
        Err(error) => Finding::error(chain(&error), "cutover host readmit, then enrol again"),
    }
}

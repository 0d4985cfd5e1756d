//! What the coordinator finds when it looks at itself and its fleet.

use std::time::{Duration, SystemTime};

use cutover_proto::v1;
use nix::sys::statvfs::statvfs;

use super::Helm;
use crate::pki::succession::Stage;

/// A certificate that ends sooner should have been renewed by now.
const CERTIFICATE_WARN: Duration = Duration::from_secs(14 * 24 * 3600);
/// Less free space than this is worth a word.
const DISK_WARN: u64 = 1 << 30;
/// Clocks that differ by more make log lines hard to compare, and certificates fail.
const SKEW_WARN: Duration = Duration::from_secs(5);
/// What sets a clock right.
const SET_CLOCK: &str = "`timedatectl set-ntp true` there; no decision depends on it, but certificates and log lines do";
/// What replaces the CA, on the coordinator's machine.
const CA_BEGIN: &str = "`cutover-coordinator ca begin` there; /usr/share/doc/cutover-coordinator/operating.md.gz has the steps (\"A new CA\")";
const CA_STATUS: &str = "`cutover-coordinator ca status` there says what comes next";
/// It was asked to renew when it connected; with a new CA, everybody is.
const BEHIND: &str = "it has not fetched the certificate that it was asked to fetch";
const RENEWS: &str = "it tries again by itself; port 7444 of the coordinator must be open from there, and its log says more";
/// Refused peers that are shown.
const REFUSED_SHOWN: usize = 5;

impl Helm {
    pub(super) fn doctor(&self) -> v1::DoctorResponse {
        let mut findings = vec![self.certificate(), self.ca()];
        findings.extend([self.disk(), self.store_health()]);
        for (id, host) in &self.fleet.hosts {
            match host.state() {
                "away" => findings.push(finding(
                    "warn",
                    id.as_str(),
                    "it is away",
                    "see that cutover-agent runs there; `cutover host cordon` if it stays away",
                )),
                "quarantined" => findings.push(finding(
                    "error",
                    id.as_str(),
                    &super::hosts::view(id, host).why,
                    &format!(
                        "`cutover host rm {id}`, give the copy another machine-id, remove the agent's `membership` \
                         folder on the right machine, then enrol it anew (`cutover host token`)"
                    ),
                )),
                _ => findings.push(finding("ok", id.as_str(), "connected", "")),
            }
            if host.is_there() && self.is_behind(id) {
                findings.push(finding("warn", id.as_str(), BEHIND, RENEWS));
            }
            if let Some(what) = skew(host).filter(|_| host.is_there()) {
                findings.push(finding("warn", id.as_str(), &what, SET_CLOCK));
            }
        }
        for (id, known) in &self.services.services {
            if !known.record.unsure.is_empty() {
                let what = format!("{id}: {}", known.record.unsure);
                findings.push(finding(
                    "warn",
                    "",
                    &what,
                    "deploy the service, or roll it back, to say what shall run",
                ));
            }
        }
        let refused = self.refusals.recent();
        for refusal in refused.iter().rev().take(REFUSED_SHOWN) {
            let what = format!(
                "refused {} at the {} gate: {}",
                refusal.peer, refusal.gate, refusal.reason
            );
            findings.push(finding("warn", "", &what, ""));
        }
        v1::DoctorResponse { findings }
    }

    fn certificate(&self) -> v1::Finding {
        let until = *self.settings.certificate_until.borrow();
        let left = until.duration_since(SystemTime::now()).unwrap_or_default();
        let days = left.as_secs() / 86_400;
        let what = format!("its certificate holds for {days} more days");
        if left < CERTIFICATE_WARN {
            finding(
                "warn",
                "",
                &what,
                "restart the coordinator: it renews its certificate at its start, too",
            )
        } else {
            finding("ok", "", &what, "")
        }
    }

    /// How long the CA holds, or how far another one has taken over.
    fn ca(&self) -> v1::Finding {
        if self.settings.stage != Stage::Settled {
            let hosts = &self.fleet.hosts;
            let behind = hosts.keys().filter(|id| self.is_behind(id)).count();
            let what = format!(
                "one CA takes over from another: {} of {} hosts hold what they are given now",
                hosts.len() - behind,
                hosts.len()
            );
            return finding("warn", "", &what, CA_STATUS);
        }
        let until = self.settings.ca_until;
        let left = until.duration_since(SystemTime::now()).unwrap_or_default();
        let what = format!("its CA holds for {} more days", left.as_secs() / 86_400);
        if left < crate::ca::LEFT_LEAST {
            finding("warn", "", &what, CA_BEGIN)
        } else {
            finding("ok", "", &what, "")
        }
    }

    fn disk(&self) -> v1::Finding {
        let path = &self.settings.state_dir;
        match statvfs(path) {
            Ok(disk) => {
                let free = disk.blocks_available().saturating_mul(disk.fragment_size());
                let what = format!("{} has {} MiB free", path.display(), free >> 20);
                if free < DISK_WARN {
                    finding(
                        "warn",
                        "",
                        &what,
                        "free some space: with less than 16 MiB nothing is decided any more",
                    )
                } else {
                    finding("ok", "", &what, "")
                }
            }
            Err(error) => finding("warn", "", &format!("{}: {error}", path.display()), ""),
        }
    }

    fn store_health(&self) -> v1::Finding {
        let what = format!(
            "the store {} is in epoch {}",
            self.store.id(),
            self.store.epoch()
        );
        finding("ok", "", &what, "")
    }
}

/// How far the host's wall clock was from ours when it said Hello, where that is worth a word.
pub(super) fn skew(host: &super::fleet::Host) -> Option<String> {
    let skew = host.record.clock_skew_millis;
    let by = Duration::from_millis(skew.unsigned_abs());
    let side = if skew < 0 { "behind" } else { "ahead of" };
    (by > SKEW_WARN).then(|| {
        format!(
            "its clock was {} s {side} the coordinator's when it connected",
            by.as_secs()
        )
    })
}

fn finding(level: &str, host: &str, what: &str, mend: &str) -> v1::Finding {
    v1::Finding {
        level: level.to_owned(),
        host: host.to_owned(),
        what: what.to_owned(),
        mend: mend.to_owned(),
    }
}

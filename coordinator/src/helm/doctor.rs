//! What the coordinator finds when it looks at itself and its fleet.

use std::time::{Duration, SystemTime};

use cutover_proto::v1;
use nix::sys::statvfs::statvfs;

use super::Helm;

/// A certificate that ends sooner should have been renewed by now.
const CERTIFICATE_WARN: Duration = Duration::from_secs(14 * 24 * 3600);
/// Less free space than this is worth a word.
const DISK_WARN: u64 = 1 << 30;
/// Clocks that differ by more make log lines hard to compare, and certificates fail.
const SKEW_WARN: Duration = Duration::from_secs(5);
/// What sets a clock right.
const SET_CLOCK: &str = "`timedatectl set-ntp true` there; no decision depends on it, but certificates and log lines do";
/// Refused peers that are shown.
const REFUSED_SHOWN: usize = 5;

impl Helm {
    pub(super) fn doctor(&self) -> v1::DoctorResponse {
        let mut findings = vec![self.certificate(), self.disk(), self.store_health()];
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
                        "`cutover host rm {id}`, give the copy another machine-id, then enrol the right machine anew \
                         (`cutover host token`)"
                    ),
                )),
                _ => findings.push(finding("ok", id.as_str(), "connected", "")),
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

//! A rollout as scripts see it.

use cutover_proto::v1::{HostProgress, Outcome, RolloutView, TrafficReport};
use jiff::Timestamp;
use serde::Serialize;

use super::{moment, revision, said, seconds};

/// A rollout as it stands.
#[derive(Serialize)]
pub(crate) struct Rollout {
    id: String,
    service: String,
    kind: Option<String>,
    from_revision: Option<u64>,
    to_revision: Option<u64>,
    strategy: String,
    who: Option<String>,
    reason: Option<String>,
    begun: Option<Timestamp>,
    ended: Option<Timestamp>,
    stage: String,
    wave: u32,
    waves: u32,
    paused: bool,
    mixed: bool,
    why: Option<String>,
    outcome: Option<&'static str>,
    hosts: Vec<Host>,
    skipped: Vec<String>,
    waits: Vec<Wait>,
    timeline: Vec<Entry>,
}

#[derive(Serialize)]
struct Host {
    host: String,
    wave: u32,
    fate: String,
    target: Option<String>,
    reached: Option<String>,
    phase: Option<String>,
    current_revision: Option<u64>,
    why: Option<String>,
    trouble: Option<String>,
    warnings: Vec<String>,
    last_log: Option<String>,
    away: bool,
    owing: bool,
    waits_for: Option<String>,
    waits_at_most_seconds: Option<f64>,
    traffic: Option<Traffic>,
}

#[derive(Serialize)]
struct Traffic {
    requests: u64,
    failed: u64,
    lost: u64,
    candidate_requests: u64,
    candidate_failed: u64,
}

#[derive(Serialize)]
struct Wait {
    host: Option<String>,
    what: String,
    until: Option<Timestamp>,
}

#[derive(Serialize)]
struct Entry {
    time: Option<Timestamp>,
    host: Option<String>,
    text: String,
}

pub(crate) fn rollout(view: &RolloutView) -> Rollout {
    Rollout {
        id: view.id.clone(),
        service: view.service.clone(),
        kind: said(&view.kind),
        from_revision: revision(view.from_revision),
        to_revision: revision(view.to_revision),
        strategy: view.strategy.clone(),
        who: said(&view.who),
        reason: said(&view.reason),
        begun: moment(view.begun_unix_millis),
        ended: moment(view.ended_unix_millis),
        stage: view.stage.clone(),
        wave: view.wave,
        waves: view.waves,
        paused: view.paused,
        mixed: view.mixed,
        why: said(&view.why),
        outcome: match view.outcome() {
            Outcome::Unspecified => None,
            Outcome::Committed => Some("committed"),
            Outcome::RolledBack => Some("rolled_back"),
            Outcome::Aborted => Some("aborted"),
            Outcome::Mixed => Some("mixed"),
        },
        hosts: view.hosts.iter().map(host).collect(),
        skipped: view.skipped.clone(),
        waits: view
            .waits
            .iter()
            .map(|wait| Wait {
                host: said(&wait.host),
                what: wait.what.clone(),
                until: moment(wait.until_unix_millis),
            })
            .collect(),
        timeline: view
            .timeline
            .iter()
            .map(|entry| Entry {
                time: moment(entry.unix_millis),
                host: said(&entry.host),
                text: entry.text.clone(),
            })
            .collect(),
    }
}

fn host(host: &HostProgress) -> Host {
    let most = host.waits_at_most_millis;
    Host {
        host: host.host.clone(),
        wave: host.wave,
        fate: host.fate.clone(),
        target: said(&host.target),
        reached: said(&host.reached),
        phase: said(&host.phase),
        current_revision: revision(host.current),
        why: said(&host.why),
        trouble: said(&host.trouble),
        warnings: host.warnings.clone(),
        last_log: said(&host.last_log),
        away: host.away,
        owing: host.owing,
        waits_for: said(&host.waits_for),
        waits_at_most_seconds: (most != 0).then(|| seconds(most)),
        traffic: host.traffic.as_ref().map(traffic),
    }
}

fn traffic(counted: &TrafficReport) -> Traffic {
    Traffic {
        requests: counted.requests,
        failed: counted.failed,
        lost: counted.lost,
        candidate_requests: counted.candidate_requests,
        candidate_failed: counted.candidate_failed,
    }
}

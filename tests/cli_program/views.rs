//! Rollouts as a coordinator would show them.

use cutover_proto::v1::{
    DeployResponse, HostProgress, Outcome, RolloutView, ServiceDecision, TrafficReport,
};

/// `shop/web` from 1 to 2 on two hosts, just begun.
pub(crate) fn begun(id: &str) -> RolloutView {
    RolloutView {
        id: id.to_owned(),
        service: "shop/web".to_owned(),
        from_revision: 1,
        to_revision: 2,
        strategy: "rolling".to_owned(),
        who: "test".to_owned(),
        begun_unix_millis: 1_700_000_000_000,
        stage: "forward".to_owned(),
        wave: 1,
        waves: 2,
        kind: "deploy".to_owned(),
        hosts: ["h1", "h2"].map(host).to_vec(),
        ..RolloutView::default()
    }
}

fn host(name: &str) -> HostProgress {
    HostProgress {
        host: name.to_owned(),
        wave: 1,
        fate: "untouched".to_owned(),
        current: 1,
        ..HostProgress::default()
    }
}

/// The host is in this phase now.
pub(crate) fn phase(mut view: RolloutView, host: usize, phase: &str) -> RolloutView {
    view.hosts[host].fate = "open".to_owned();
    view.hosts[host].phase = phase.to_owned();
    view
}

/// It ended, after 41 s; every host has this fate.
pub(crate) fn closed(mut view: RolloutView, outcome: Outcome, fate: &str) -> RolloutView {
    view.stage = "closed".to_owned();
    view.outcome = outcome.into();
    view.ended_unix_millis = view.begun_unix_millis + 41_000;
    for host in &mut view.hosts {
        host.fate = fate.to_owned();
        host.phase.clear();
        if fate == "committed" {
            host.current = view.to_revision;
            host.traffic = Some(TrafficReport {
                requests: 6_022,
                ..TrafficReport::default()
            });
        }
    }
    view
}

/// Committed on both.
pub(crate) fn committed(id: &str) -> RolloutView {
    closed(begun(id), Outcome::Committed, "committed")
}

/// Back on both, because of h2.
pub(crate) fn rolled_back(id: &str) -> RolloutView {
    let mut view = closed(begun(id), Outcome::RolledBack, "back");
    view.why = "h2: replica 1 of @2 exited with code 1".to_owned();
    view.hosts[1].last_log = "panic: no database\n".to_owned();
    view
}

/// The decision to begin it.
pub(crate) fn decided(id: &str) -> DeployResponse {
    DeployResponse {
        release: "rel-1".to_owned(),
        services: vec![ServiceDecision {
            service: "shop/web".to_owned(),
            rollout: id.to_owned(),
            to_revision: 2,
            from_revision: 1,
            hosts: vec!["h1".to_owned(), "h2".to_owned()],
            ..ServiceDecision::default()
        }],
        warnings: Vec::new(),
    }
}

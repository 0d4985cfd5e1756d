//! Services, containers, revisions, events and log lines, as scripts see them.

use cutover_proto::v1::{
    ContainersResponse, EventRecord, HistoryResponse, HostService, LogLine, ServiceStatus,
    StatusResponse,
};
use jiff::Timestamp;
use serde::Serialize;

use super::{moment, revision, said};

#[derive(Serialize)]
pub(crate) struct Status {
    coordinator_id: String,
    version: String,
    epoch: u64,
    hosts: u32,
    hosts_ready: u32,
    alarms: Vec<String>,
    services: Vec<Service>,
}

#[derive(Serialize)]
struct Service {
    service: String,
    current_revision: Option<u64>,
    image: Option<String>,
    hosts_wanted: u32,
    hosts_there: u32,
    open_rollout: Option<String>,
    stage: Option<String>,
    hosts: Vec<OnHost>,
}

#[derive(Serialize)]
struct OnHost {
    host: String,
    current_revision: Option<u64>,
    replicas_wanted: u32,
    replicas_proved: u32,
    route: Option<String>,
    away: bool,
    hold: bool,
    phase: Option<String>,
    why: Option<String>,
}

pub(crate) fn status(status: &StatusResponse) -> Status {
    Status {
        coordinator_id: status.coordinator_id.clone(),
        version: status.version.clone(),
        epoch: status.epoch,
        hosts: status.hosts,
        hosts_ready: status.hosts_ready,
        alarms: status.alarms.clone(),
        services: status.services.iter().map(service).collect(),
    }
}

fn service(service: &ServiceStatus) -> Service {
    Service {
        service: service.service.clone(),
        current_revision: revision(service.current),
        image: said(&service.image),
        hosts_wanted: service.hosts_wanted,
        hosts_there: service.hosts_there,
        open_rollout: said(&service.open_rollout),
        stage: said(&service.stage),
        hosts: service.hosts.iter().map(on_host).collect(),
    }
}

fn on_host(host: &HostService) -> OnHost {
    OnHost {
        host: host.host.clone(),
        current_revision: revision(host.current),
        replicas_wanted: host.replicas_wanted,
        replicas_proved: host.replicas_proved,
        route: said(&host.route),
        away: host.away,
        hold: host.hold,
        phase: said(&host.phase),
        why: said(&host.why),
    }
}

#[derive(Serialize)]
pub(crate) struct Container {
    host: String,
    service: String,
    name: String,
    revision: Option<u64>,
    replica: u32,
    state: String,
    slot: &'static str,
    address: Option<String>,
    image: String,
    up_seconds: Option<u64>,
    away: bool,
    /// Of the service on this host; the same for each of its containers.
    warnings: Vec<String>,
}

pub(crate) fn containers(answer: &ContainersResponse) -> Vec<Container> {
    let of_host = |host: &cutover_proto::v1::HostContainers| {
        let one = |container: &cutover_proto::v1::ContainerReport| Container {
            host: host.host.clone(),
            service: host.service.clone(),
            name: container.name.clone(),
            revision: revision(container.revision),
            replica: container.replica,
            state: container.state.clone(),
            slot: if container.green { "green" } else { "blue" },
            address: said(&container.address),
            image: container.image.clone(),
            up_seconds: (container.up_seconds != 0).then_some(container.up_seconds),
            away: host.away,
            warnings: host.warnings.clone(),
        };
        host.containers.iter().map(one).collect::<Vec<_>>()
    };
    answer.hosts.iter().flat_map(of_host).collect()
}

#[derive(Serialize)]
pub(crate) struct Revision {
    revision: u64,
    current: bool,
    image: String,
    resolved_image: Option<String>,
    who: Option<String>,
    made: Option<Timestamp>,
    reason: Option<String>,
    file: Option<String>,
    rollouts: Vec<String>,
}

pub(crate) fn revisions(answer: &HistoryResponse) -> Vec<Revision> {
    let one = |made: &cutover_proto::v1::RevisionView| Revision {
        revision: made.number,
        current: made.number == answer.current,
        image: made.image.clone(),
        resolved_image: said(&made.resolved_image),
        who: said(&made.who),
        made: moment(made.made_unix_millis),
        reason: said(&made.reason),
        file: said(&made.file),
        rollouts: made.rollouts.clone(),
    };
    answer.revisions.iter().map(one).collect()
}

#[derive(Serialize)]
pub(crate) struct Event {
    number: u64,
    time: Option<Timestamp>,
    kind: String,
    level: String,
    service: Option<String>,
    host: Option<String>,
    rollout: Option<String>,
    text: String,
}

pub(crate) fn event(event: &EventRecord) -> Event {
    Event {
        number: event.number,
        time: moment(event.unix_millis),
        kind: event.kind.clone(),
        level: event.level.clone(),
        service: said(&event.service),
        host: said(&event.host),
        rollout: said(&event.rollout),
        text: event.text.clone(),
    }
}

#[derive(Serialize)]
pub(crate) struct Log {
    host: String,
    container: String,
    time: Option<String>,
    stream: &'static str,
    text: String,
}

pub(crate) fn log(line: &LogLine) -> Log {
    Log {
        host: line.host.clone(),
        container: line.container.clone(),
        time: said(&line.time),
        stream: if line.stderr { "stderr" } else { "stdout" },
        text: line.text.clone(),
    }
}

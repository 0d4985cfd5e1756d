//! What operators look at: services, containers, revisions.

use cutover_core::ServiceId;
use cutover_proto::v1;

use super::Helm;
use super::services::unreadable;
use super::wake::Refusal;
use crate::planner;
use crate::store::{Key, Table};

/// Revisions that are shown of a service.
const REVISIONS: usize = 50;
/// Rollouts that are looked through for a history.
const ROLLOUTS: usize = 500;

impl Helm {
    pub(super) fn status(
        &mut self,
        request: &v1::StatusRequest,
    ) -> Result<v1::StatusResponse, Refusal> {
        let ids: Vec<ServiceId> = self
            .services
            .services
            .iter()
            .filter(|(id, _)| request.app.is_empty() || id.app.as_str() == request.app)
            .map(|(id, _)| id.clone())
            .collect();
        let mut services = Vec::new();
        for id in ids {
            if let Some(status) = self.service_status(&id)? {
                services.push(status);
            }
        }
        let hosts = &self.fleet.hosts;
        let ready = hosts
            .values()
            .filter(|host| host.state() == "ready")
            .count();
        Ok(v1::StatusResponse {
            coordinator_id: self.store.id().to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            epoch: self.store.epoch(),
            services,
            hosts: u32::try_from(hosts.len()).unwrap_or(u32::MAX),
            hosts_ready: u32::try_from(ready).unwrap_or(u32::MAX),
            alarms: self.alarms(),
        })
    }

    fn service_status(&mut self, id: &ServiceId) -> Result<Option<v1::ServiceStatus>, Refusal> {
        let Some(record) = self.services.get(id).map(|known| known.record.clone()) else {
            return Ok(None);
        };
        let spec = self
            .services
            .revision(&self.store, id, record.current)?
            .map(|(_, spec)| spec.clone());
        let open = self
            .live
            .values()
            .find(|live| live.service == *id && live.outcome().is_none());
        let mut status = v1::ServiceStatus {
            service: id.to_string(),
            current: record.current,
            image: spec
                .as_ref()
                .map_or_else(String::new, |spec| spec.container.image.clone()),
            open_rollout: open.map_or_else(String::new, |live| live.id.to_string()),
            stage: open.map_or_else(String::new, |live| {
                let (now, millis) = (cutover_daemon::clock::now(), 0);
                self.view(live, now, millis).stage
            }),
            ..v1::ServiceStatus::default()
        };
        for (host_id, host) in &self.fleet.hosts {
            let desk = host.desks.get(id);
            let labels = host.record.labels.clone().into_iter().collect();
            let wanted = !host.record.cordoned
                && spec
                    .as_ref()
                    .is_some_and(|spec| planner::matches(spec, host_id, &labels));
            let current = desk.map_or(0, |desk| desk.record.current);
            let said = desk.and_then(|desk| desk.said.as_ref());
            if !wanted && current == 0 && desk.is_none_or(|desk| desk.open_swap().is_none()) {
                continue;
            }
            let proved =
                said.is_some_and(|said| said.wire.replicas_proved >= said.wire.replicas_wanted);
            if wanted {
                status.hosts_wanted += 1;
                if current == record.current && host.is_there() && proved {
                    status.hosts_there += 1;
                }
            }
            let swap = said.and_then(|said| said.wire.swap.as_ref());
            status.hosts.push(v1::HostService {
                host: host_id.to_string(),
                current,
                replicas_wanted: said.map_or(0, |said| said.wire.replicas_wanted),
                replicas_proved: said.map_or(0, |said| said.wire.replicas_proved),
                route: said.map_or_else(String::new, |said| said.report.route.to_string()),
                away: !host.is_there(),
                hold: said.is_some_and(|said| said.wire.hold),
                phase: swap.map_or_else(String::new, |swap| swap.phase.clone()),
                why: swap
                    .filter(|swap| !swap.phase.is_empty() || swap.reverting)
                    .and_then(|swap| swap.trouble.clone().or_else(|| swap.why.clone()))
                    .unwrap_or_default(),
            });
        }
        let gone = record.current == 0 && record.removed && status.hosts.is_empty();
        Ok((!gone || open.is_some()).then_some(status))
    }

    /// What a person should know of, in sentences.
    pub(super) fn alarms(&self) -> Vec<String> {
        let mut alarms = Vec::new();
        for (id, host) in &self.fleet.hosts {
            match host.state() {
                "quarantined" => alarms.push(format!(
                    "{id} is quarantined: {}",
                    super::hosts::view(id, host).why
                )),
                "away" => alarms.push(format!("{id} is away")),
                _ => {}
            }
            for (service, desk) in &host.desks {
                if desk.said.as_ref().is_some_and(|said| said.wire.hold) {
                    alarms.push(format!("{id}: {service} is held by hand"));
                }
                let warnings = desk.said.iter().flat_map(|said| &said.wire.warnings);
                alarms.extend(warnings.map(|warning| format!("{id}: {service}: {warning}")));
                let current = self
                    .services
                    .get(service)
                    .map_or(0, |known| known.record.current);
                if super::queue::went_by_hand(desk) && desk.record.current != current {
                    alarms.push(format!(
                        "{id}: {service}@{} was brought back by hand; deploy or roll back to make it so everywhere, or nowhere",
                        desk.record.current
                    ));
                }
            }
        }
        for (id, known) in &self.services.services {
            if !known.record.unsure.is_empty() {
                alarms.push(format!("{id}: {}", known.record.unsure));
            }
        }
        for live in self.live.values() {
            if live.is_owed() {
                alarms.push(format!(
                    "{} ({}): some hosts are owing",
                    live.id, live.service
                ));
            }
        }
        alarms
    }

    pub(super) fn containers(
        &self,
        selector: &v1::ServiceSelector,
    ) -> Result<v1::ContainersResponse, Refusal> {
        let service = self.selected(&selector.service)?;
        if !selector.host.is_empty() {
            self.known_host(&selector.host)?;
        }
        let mut hosts = Vec::new();
        for (id, host) in &self.fleet.hosts {
            if !selector.host.is_empty() && id.as_str() != selector.host {
                continue;
            }
            for (of, desk) in &host.desks {
                let Some(said) = desk.said.as_ref() else {
                    continue;
                };
                if service.as_ref().is_none_or(|service| service == of) {
                    hosts.push(v1::HostContainers {
                        host: id.to_string(),
                        service: of.to_string(),
                        containers: said.wire.containers.clone(),
                        away: !host.is_there(),
                        warnings: said.wire.warnings.clone(),
                    });
                }
            }
        }
        Ok(v1::ContainersResponse { hosts })
    }

    fn selected(&self, service: &str) -> Result<Option<ServiceId>, Refusal> {
        if service.is_empty() {
            Ok(None)
        } else {
            self.one_service(service).map(Some)
        }
    }

    pub(super) fn history(
        &self,
        selector: &v1::ServiceSelector,
    ) -> Result<v1::HistoryResponse, Refusal> {
        let id = self.one_service(&selector.service)?;
        let kept: Vec<(Key, v1::Revision)> = self
            .store
            .scan_back(Table::Revisions, &Key::of(id.to_string()), None, REVISIONS)
            .map_err(|error| unreadable(&error))?;
        let rollouts: Vec<(Key, v1::RolloutRecord)> = self
            .store
            .scan_back(Table::Rollouts, &Key::all(), None, ROLLOUTS)
            .map_err(|error| unreadable(&error))?;
        let of = |number: u64| {
            let to = rollouts.iter().filter(|(_, record)| {
                record.service == id.to_string() && record.to_revision == number
            });
            to.filter_map(|(key, _)| key.parts().number())
                .map(super::live::rollout_id)
                .collect()
        };
        let revisions = kept.into_iter().map(|(_, revision)| {
            let container = revision
                .spec
                .and_then(|spec| spec.container)
                .unwrap_or_default();
            v1::RevisionView {
                number: revision.number,
                image: container.image,
                resolved_image: container.resolved_image,
                who: revision.who,
                made_unix_millis: revision.made_unix_millis,
                reason: revision.reason,
                file: revision.file,
                rollouts: of(revision.number),
            }
        });
        Ok(v1::HistoryResponse {
            service: id.to_string(),
            current: self
                .services
                .get(&id)
                .map_or(0, |known| known.record.current),
            revisions: revisions.collect(),
        })
    }
}

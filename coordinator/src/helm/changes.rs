//! What operators change besides deploying: back, away, on, and not further.
//!
//! Keeps true: of an open rollout, rollback means abort; after it is closed, a
//! rollback is a rollout of its own, to a revision that is not the current one.

use std::collections::BTreeSet;

use cutover_core::rollout::{Event, Outcome};
use cutover_core::{AppName, HostId, ServiceId};
use cutover_proto::v1;

use super::Helm;
use super::answers::{parse, reason};
use super::deeds::Deeds;
use super::live::{rollout_id, rollout_number};
use super::queue::Stage;
use super::services::unreadable;
use super::wake::{Refusal, Steer};
use crate::planner::{Away, Planned};
use crate::store::{Key, Table};

/// Rollouts that are looked through for an earlier revision.
const LOOKED_THROUGH: usize = 500;

impl Helm {
    /// The one service that is meant by `[APP/]SERVICE`.
    pub(super) fn one_service(&self, text: &str) -> Result<ServiceId, Refusal> {
        let known = &self.services.services;
        if text.contains('/') {
            let id: ServiceId = parse(text)?;
            return if known.contains_key(&id) {
                Ok(id)
            } else {
                Err(Refusal::unknown("service", text, &self.service_names()))
            };
        }
        let found: Vec<&ServiceId> = known
            .keys()
            .filter(|id| id.service.as_str() == text)
            .collect();
        match found.as_slice() {
            [] => Err(Refusal::unknown("service", text, &self.service_names())),
            [one] => Ok((*one).clone()),
            many => {
                let names: Vec<String> = many.iter().map(ToString::to_string).collect();
                Err(Refusal::Invalid(format!(
                    "{text:?} may mean {}: say which",
                    names.join(" or ")
                )))
            }
        }
    }

    pub(super) fn service_names(&self) -> BTreeSet<String> {
        self.services
            .services
            .keys()
            .map(ToString::to_string)
            .collect()
    }

    pub(super) fn rollback(
        &mut self,
        who: &str,
        request: &v1::RollbackRequest,
        deeds: &mut Deeds,
    ) -> Result<v1::DeployResponse, Refusal> {
        if let Some(earlier) = self.earlier_answer(&request.request_id, deeds)? {
            return Ok(earlier);
        }
        let service = self.one_service(&request.service)?;
        let record = self
            .services
            .get(&service)
            .map(|known| known.record.clone())
            .unwrap_or_default();
        let unfinished: Vec<u64> = self
            .live
            .values()
            .filter(|live| live.service == service && live.outcome().is_none())
            .map(|live| live.number)
            .collect();
        let mut response = v1::DeployResponse::default();
        if let Some(first) = unfinished.first().copied() {
            let why = format!("rollback by {who}{}", because(&request.reason));
            for number in unfinished.iter().rev() {
                self.abort(*number, &why, deeds);
            }
            let live = self.live.get(&first);
            response.services.push(v1::ServiceDecision {
                service: service.to_string(),
                rollout: rollout_id(first),
                from_revision: live.map_or(0, |live| live.record.to_revision),
                to_revision: live.map_or(0, |live| live.record.from_revision),
                ..v1::ServiceDecision::default()
            });
        } else {
            let to = match request.to_revision {
                0 => self.one_before(&service, &record)?,
                number => number,
            };
            if to == 0 {
                return Err(Refusal::Refused(format!(
                    "{service} has no earlier revision to go back to"
                )));
            }
            if to == record.current {
                return Err(Refusal::Refused(format!(
                    "{service}@{to} is the current revision already"
                )));
            }
            let change = Change {
                who,
                reason: &request.reason,
                kind: "rollback",
                release: self.next_release(deeds),
            };
            let decision = self.change(&change, &service, to, 0, None, deeds)?;
            response.release = change.release;
            response.services.push(decision);
        }
        self.keep_answer(&request.request_id, &response, deeds);
        Ok(response)
    }

    /// The newest revision below the current one that was once current: going back twice does
    /// not go forward again.
    fn one_before(&self, service: &ServiceId, record: &v1::ServiceRecord) -> Result<u64, Refusal> {
        if record.previous < record.current {
            return Ok(record.previous);
        }
        let kept: Vec<(Key, v1::RolloutRecord)> = self
            .store
            .scan_back(Table::Rollouts, &Key::all(), None, LOOKED_THROUGH)
            .map_err(|error| unreadable(&error))?;
        let good = kept.iter().map(|(_, rollout)| rollout).find(|rollout| {
            let came = matches!(rollout.kind.as_str(), "deploy" | "rollback");
            came && rollout.service == service.to_string()
                && rollout.outcome() == v1::Outcome::Committed
                && rollout.to_revision < record.current
        });
        // After a removal there is nothing below 0: what was removed is what was before.
        let removed = if record.current == 0 {
            record.previous
        } else {
            0
        };
        Ok(good.map_or(removed, |rollout| rollout.to_revision))
    }

    pub(super) fn remove(
        &mut self,
        who: &str,
        request: &v1::RemoveRequest,
        deeds: &mut Deeds,
    ) -> Result<v1::DeployResponse, Refusal> {
        if let Some(earlier) = self.earlier_answer(&request.request_id, deeds)? {
            return Ok(earlier);
        }
        let mut services = BTreeSet::new();
        for what in &request.what {
            services.extend(self.services_meant(what)?);
        }
        if services.is_empty() {
            return Err(Refusal::Invalid("nothing to remove was named".to_owned()));
        }
        for service in &services {
            self.refuse_busy(service)?;
        }
        let change = Change {
            who,
            reason: &request.reason,
            kind: "remove",
            release: self.next_release(deeds),
        };
        let mut response = v1::DeployResponse {
            release: change.release.clone(),
            ..v1::DeployResponse::default()
        };
        // All are planned before the first is queued: refused as a whole or not at all.
        for service in &services {
            self.plan_service(
                service,
                rollout_id(0),
                0,
                None,
                Away::Skip,
                Stage::Accepting,
            )?;
        }
        for (position, service) in (0..).zip(&services) {
            let decision = self.change(&change, service, 0, position, None, deeds)?;
            response.services.push(decision);
        }
        self.keep_answer(&request.request_id, &response, deeds);
        Ok(response)
    }

    /// `APP/SERVICE`, or `APP` for all of its services.
    fn services_meant(&self, what: &str) -> Result<BTreeSet<ServiceId>, Refusal> {
        if !what.contains('/') {
            let app: AppName = parse(what)?;
            let of_app = self.services.services.iter();
            let found: BTreeSet<ServiceId> = of_app
                .filter(|(id, known)| id.app == app && known.record.current > 0)
                .map(|(id, _)| id.clone())
                .collect();
            if !found.is_empty() {
                return Ok(found);
            }
        }
        Ok(BTreeSet::from([self.one_service(what)?]))
    }

    pub(super) fn drain_host(
        &mut self,
        who: &str,
        request: &v1::HostRequest,
        deeds: &mut Deeds,
    ) -> Result<v1::DeployResponse, Refusal> {
        let id = self.known_host(&request.host)?;
        let services: Vec<ServiceId> = self.fleet.host(&id).map_or_else(Vec::new, |host| {
            let running = host
                .desks
                .iter()
                .filter(|(_, desk)| desk.record.current > 0);
            running.map(|(service, _)| service.clone()).collect()
        });
        for service in &services {
            self.refuse_busy(service)?;
        }
        let there = self
            .fleet
            .host(&id)
            .is_some_and(super::fleet::Host::is_there);
        if !there && !services.is_empty() {
            return Err(Refusal::Refused(format!(
                "{id} is away, so nothing can be taken from it"
            )));
        }
        let alone = self.only_on(&id, &services);
        if !alone.is_empty() && !request.force {
            return Err(Refusal::Refused(format!(
                "{} runs on {id} alone, and would then run nowhere: deploy it to another host first, or use --force",
                alone.join(", ")
            )));
        }
        let only = BTreeSet::from([id.clone()]);
        for service in &services {
            let from_there = Some(&only);
            let stage = Stage::Accepting;
            self.plan_service(service, rollout_id(0), 0, from_there, Away::SkipAny, stage)?;
        }
        if let Some(host) = self.fleet.hosts.get_mut(&id) {
            host.record.cordoned = true;
            host.record.drained = true;
            deeds.put(Table::Hosts, Key::of(id.as_str()), &host.record);
        }
        deeds.event(super::hear::host_event(
            &id,
            &format!("drained by {who}"),
            "info",
        ));
        let change = Change {
            who,
            reason: &request.reason,
            kind: "drain",
            release: self.next_release(deeds),
        };
        let mut response = v1::DeployResponse {
            release: change.release.clone(),
            ..v1::DeployResponse::default()
        };
        for (position, service) in (0..).zip(&services) {
            let only = Some(&id);
            let decision = self.change(&change, service, 0, position, only, deeds)?;
            response.services.push(decision);
        }
        Ok(response)
    }

    /// Those of these services that no other host runs.
    fn only_on(&self, id: &HostId, services: &[ServiceId]) -> Vec<String> {
        let elsewhere = |service: &ServiceId| {
            self.fleet
                .with(service)
                .any(|(host, _, desk)| host != id && desk.record.current > 0)
        };
        let alone = services.iter().filter(|service| !elsewhere(service));
        alone.map(ToString::to_string).collect()
    }

    /// Queues one rollout to a revision that exists, or to none.
    fn change(
        &mut self,
        change: &Change<'_>,
        service: &ServiceId,
        to: u64,
        position: u32,
        only: Option<&HostId>,
        deeds: &mut Deeds,
    ) -> Result<v1::ServiceDecision, Refusal> {
        let hosts: Option<BTreeSet<HostId>> = only.map(|host| BTreeSet::from([host.clone()]));
        let away = if only.is_some() {
            Away::SkipAny
        } else {
            Away::Skip
        };
        let from = match only {
            Some(host) => self
                .fleet
                .desk(host, service)
                .map_or(0, |desk| desk.record.current),
            None => self
                .services
                .get(service)
                .map_or(0, |known| known.record.current),
        };
        let planned = self.plan_service(
            service,
            rollout_id(0),
            to,
            hosts.as_ref(),
            away,
            Stage::Accepting,
        )?;
        let mut decision = v1::ServiceDecision {
            service: service.to_string(),
            from_revision: from,
            to_revision: to,
            removed: to == 0,
            ..v1::ServiceDecision::default()
        };
        if let Planned::Plan(plan) = &planned {
            decision.hosts = plan
                .hosts
                .iter()
                .map(|host| host.host.to_string())
                .collect();
            decision.skipped = plan.skipped.iter().map(ToString::to_string).collect();
        }
        let record = v1::RolloutRecord {
            who: change.who.to_owned(),
            reason: reason(change.reason),
            from_revision: from,
            to_revision: to,
            release: change.release.clone(),
            kind: change.kind.to_owned(),
            position,
            only: only.iter().map(ToString::to_string).collect(),
            ..v1::RolloutRecord::default()
        };
        let number = self.enqueue(service, record, deeds)?;
        decision.rollout = rollout_id(number);
        Ok(decision)
    }

    pub(super) fn steer(
        &mut self,
        who: &str,
        steer: Steer,
        request: &v1::RolloutRequest,
        deeds: &mut Deeds,
    ) -> Result<v1::RolloutView, Refusal> {
        let number = rollout_number(&request.id);
        let live = number.and_then(|number| self.live.get(&number));
        let Some(number) = live
            .filter(|live| live.outcome().is_none())
            .map(|live| live.number)
        else {
            // Over already: what it is now is the answer to a repeated question.
            let view = self.show_rollout(&request.id)?;
            return match steer {
                Steer::Abort => Ok(view),
                Steer::Pause | Steer::Resume => Err(Refusal::Refused(format!(
                    "the rollout {} is over",
                    request.id
                ))),
            };
        };
        let why = format!("aborted by {who}{}", because(&request.reason));
        match steer {
            Steer::Pause => self.tell(number, Event::PauseAsked, deeds),
            Steer::Resume => self.tell(number, Event::ResumeAsked, deeds),
            Steer::Abort => self.abort(number, &why, deeds),
        }
        self.show_rollout(&request.id)
    }

    fn abort(&mut self, number: u64, why: &str, deeds: &mut Deeds) {
        if self
            .live
            .get(&number)
            .is_some_and(super::live::Live::is_queued)
        {
            self.never_begins(number, Outcome::Aborted, why.to_owned(), deeds);
        } else {
            self.tell(number, Event::AbortAsked(why.to_owned()), deeds);
        }
    }
}

/// Who changes what, and why.
struct Change<'a> {
    who: &'a str,
    reason: &'a str,
    kind: &'static str,
    release: String,
}

fn because(text: &str) -> String {
    if text.is_empty() {
        String::new()
    } else {
        format!(": {}", reason(text))
    }
}

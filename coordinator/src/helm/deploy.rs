//! Deploy and Plan: from a request to revisions and queued rollouts.
//!
//! First the images are resolved, each once, by asking a connected host that will
//! run it ([`super::requests`]); then everything is decided in one step, on the
//! fleet as it stands then. Keeps true: a release is accepted whole or not at
//! all; the same request id is answered the same; what is refused leaves no trace.

use std::collections::{BTreeMap, BTreeSet};

use cutover_core::spec::ServiceSpec;
use cutover_core::{HostId, ServiceId};
use cutover_proto::v1;
use prost::Message;

use super::Helm;
use super::answers::{parse, reason};
use super::deeds::Deeds;
use super::diff;
use super::live::rollout_id;
use super::queue::Stage;
use super::wake::{Refusal, Reply};
use crate::planner::{self, Away, Planned};
use crate::store::Key;

/// Releases whose images may be looked up at the same time.
const DRAFTS: usize = 64;
/// Services of one release.
const SERVICES: usize = 200;
/// One service with its configs: an order carries two revisions of it, and 4 MiB at most.
const SPEC: usize = 1_500_000;

/// A request whose images are being looked up.
pub(super) struct Draft {
    who: String,
    request: v1::DeployRequest,
    specs: Vec<ServiceSpec>,
    /// Images that a host was asked for.
    pub(super) pending: BTreeSet<String>,
    pub(super) resolved: BTreeMap<String, String>,
    pub(super) failed: Option<String>,
    replies: Vec<Answered>,
}

enum Answered {
    Deploy(Reply<v1::DeployResponse>),
    Plan(Reply<v1::PlanResponse>),
}

/// What one service of a release comes to.
struct Decision {
    service: ServiceId,
    spec: Option<ServiceSpec>,
    from: u64,
    to: u64,
    /// The revision must be made.
    fresh: bool,
    planned: Result<Planned, Refusal>,
}

impl Helm {
    pub(super) fn deploy(
        &mut self,
        who: String,
        request: v1::DeployRequest,
        reply: Reply<v1::DeployResponse>,
        deeds: &mut Deeds,
    ) {
        match self.earlier_answer(&request.request_id, deeds) {
            Ok(Some(response)) => return deeds.answer(reply, Ok(response)),
            Ok(None) => {}
            Err(refusal) => return deeds.answer(reply, Err(refusal)),
        }
        let same = self.drafts.values_mut().find(|draft| {
            !request.request_id.is_empty()
                && draft.request.request_id == request.request_id
                && draft
                    .replies
                    .iter()
                    .any(|reply| matches!(reply, Answered::Deploy(_)))
        });
        if let Some(draft) = same {
            draft.replies.push(Answered::Deploy(reply)); // a retry that overtook its first answer
            return;
        }
        self.draft(who, request, Answered::Deploy(reply), deeds);
    }

    pub(super) fn plan(
        &mut self,
        who: String,
        request: v1::DeployRequest,
        reply: Reply<v1::PlanResponse>,
        deeds: &mut Deeds,
    ) {
        self.draft(who, request, Answered::Plan(reply), deeds);
    }

    fn draft(
        &mut self,
        who: String,
        request: v1::DeployRequest,
        reply: Answered,
        deeds: &mut Deeds,
    ) {
        let specs = match self.checked(&request) {
            Ok(specs) => specs,
            Err(refusal) => return reply.refuse(refusal, deeds),
        };
        let mut draft = Draft {
            who,
            request,
            specs,
            pending: BTreeSet::new(),
            resolved: BTreeMap::new(),
            failed: None,
            replies: vec![reply],
        };
        self.last_asked += 1;
        let number = self.last_asked;
        for spec in &draft.specs {
            let image = spec.container.image.clone();
            if is_fixed(&image) {
                draft.resolved.insert(image.clone(), image);
            } else if !draft.pending.contains(&image) {
                // Nobody to ask: the plan below says which hosts are missing or away.
                if let Some(host) = self.who_resolves(spec) {
                    match self.ask_image(number, &host, &image, deeds) {
                        Ok(()) => _ = draft.pending.insert(image),
                        Err(why) => {
                            draft.failed = Some(format!("{image} could not be looked up: {why}"))
                        }
                    }
                }
            }
        }
        self.drafts.insert(number, draft);
    }

    /// The services that are asked for, each checked.
    fn checked(&self, request: &v1::DeployRequest) -> Result<Vec<ServiceSpec>, Refusal> {
        if self.drafts.len() >= DRAFTS {
            return Err(Refusal::Refused(
                "too many releases are being looked at; try again".to_owned(),
            ));
        }
        if request.services.len() > SERVICES {
            return Err(Refusal::Invalid(format!(
                "a release has at most {SERVICES} services"
            )));
        }
        if request.services.is_empty() && !request.prune {
            return Err(Refusal::Invalid("there is no service to deploy".to_owned()));
        }
        if request.prune {
            parse::<cutover_core::AppName>(&request.app)?;
        }
        let mut seen = BTreeSet::new();
        let mut specs = Vec::new();
        for wire in &request.services {
            let name = format!("{}/{}", wire.app, wire.service);
            let spec: ServiceSpec =
                wire.clone()
                    .try_into()
                    .map_err(|error: cutover_proto::convert::Malformed| {
                        Refusal::Invalid(format!("{name}: {error}"))
                    })?;
            if !seen.insert(name.clone()) {
                return Err(Refusal::Invalid(format!("{name} is there twice")));
            }
            let size = wire.encoded_len();
            if size > SPEC {
                return Err(Refusal::Invalid(format!(
                    "{name} has {} kB with its configs, and an order carries {} kB of one service: put large files into \
                     the image, or into a volume",
                    size / 1000,
                    SPEC / 1000
                )));
            }
            specs.push(spec);
        }
        Ok(specs)
    }

    /// A connected host that would run it.
    fn who_resolves(&self, spec: &ServiceSpec) -> Option<HostId> {
        let found = self.fleet.hosts.iter().find(|(id, host)| {
            let labels = host.record.labels.clone().into_iter().collect();
            host.is_there() && !host.record.cordoned && planner::matches(spec, id, &labels)
        });
        found.map(|(id, _)| id.clone())
    }

    /// Decides the drafts whose images are all known.
    pub(super) fn advance_drafts(&mut self, deeds: &mut Deeds) {
        let ready: Vec<u64> = self
            .drafts
            .iter()
            .filter(|(_, draft)| draft.pending.is_empty() || draft.failed.is_some())
            .map(|(number, _)| *number)
            .collect();
        for number in ready {
            if let Some(draft) = self.drafts.remove(&number) {
                self.conclude(draft, deeds);
            }
        }
    }

    fn conclude(&mut self, mut draft: Draft, deeds: &mut Deeds) {
        if let Some(why) = draft.failed {
            for reply in draft.replies {
                reply.refuse(Refusal::Refused(why.clone()), deeds);
            }
            return;
        }
        for spec in &mut draft.specs {
            if let Some(reference) = draft.resolved.get(&spec.container.image) {
                spec.container.resolved_image.clone_from(reference);
            }
        }
        let specs = std::mem::take(&mut draft.specs);
        let decisions = self.decide(&draft.request, specs);
        let mut accepted: Option<Result<v1::DeployResponse, Refusal>> = None;
        for reply in std::mem::take(&mut draft.replies) {
            match reply {
                Answered::Plan(reply) => {
                    let answer = match &decisions {
                        Ok(decisions) => Ok(self.show_plan(decisions)),
                        Err(refusal) => Err(refusal.clone()),
                    };
                    deeds.answer(reply, answer);
                }
                Answered::Deploy(reply) => {
                    let answer = match (&accepted, &decisions) {
                        (Some(answer), _) => answer.clone(),
                        (None, Err(refusal)) => Err(refusal.clone()),
                        (None, Ok(decisions)) => {
                            self.accept(&draft.who, &draft.request, decisions, deeds)
                        }
                    };
                    accepted = Some(answer.clone());
                    deeds.answer(reply, answer);
                }
            }
        }
    }

    /// What each service of the release comes to, as the fleet stands now.
    fn decide(
        &mut self,
        request: &v1::DeployRequest,
        specs: Vec<ServiceSpec>,
    ) -> Result<Vec<Decision>, Refusal> {
        let away = match request.on_away() {
            v1::OnAway::Skip => Away::Skip,
            v1::OnAway::Refuse => Away::Refuse,
            v1::OnAway::Wait => Away::SkipAny,
        };
        let mut decisions = Vec::new();
        for spec in &specs {
            self.refuse_conflicts(spec, &specs)?;
        }
        let named: BTreeSet<ServiceId> = specs.iter().map(id_of).collect();
        for spec in specs {
            let service = id_of(&spec);
            let current = self.services.get(&service).map_or(0, |s| s.record.current);
            let same = self
                .services
                .revision(&self.store, &service, current)?
                .is_some_and(|(_, now)| *now == spec);
            let to = if same {
                current
            } else {
                self.services.next_number(&self.store, &service)?
            };
            let planned = self.plan_spec(&service, to, &spec, away);
            decisions.push(Decision {
                service,
                spec: Some(spec),
                from: current,
                to,
                fresh: !same,
                planned,
            });
        }
        if request.prune {
            decisions.extend(self.decide_pruning(&request.app, &named));
        }
        Ok(decisions)
    }

    fn decide_pruning(&mut self, app: &str, named: &BTreeSet<ServiceId>) -> Vec<Decision> {
        let gone: Vec<(ServiceId, u64)> = self
            .services
            .services
            .iter()
            .filter(|(id, known)| {
                id.app.as_str() == app && !named.contains(*id) && known.record.current > 0
            })
            .map(|(id, known)| (id.clone(), known.record.current))
            .collect();
        let decide = |(service, from): (ServiceId, u64)| {
            let planned = self.plan_service(
                &service,
                rollout_id(0),
                0,
                None,
                Away::Skip,
                Stage::Accepting,
            );
            Decision {
                service,
                spec: None,
                from,
                to: 0,
                fresh: false,
                planned,
            }
        };
        gone.into_iter().map(decide).collect()
    }

    fn plan_spec(
        &mut self,
        service: &ServiceId,
        to: u64,
        spec: &ServiceSpec,
        away: Away,
    ) -> Result<Planned, Refusal> {
        let hosts = self.host_facts(service, Stage::Accepting)?;
        let wish = planner::Wish {
            id: parse(&rollout_id(0))?,
            service: service.clone(),
            epoch: self.store.epoch(),
            to: cutover_core::RevisionNumber::new(to).map(|number| (number, spec)),
            policy: spec.policy.clone(),
            only: None,
            away,
            lease: self.settings.lease,
            retain: self.settings.retain,
        };
        planner::plan(wish, &hosts).map_err(|refusal| Refusal::Refused(refusal.to_string()))
    }

    /// Two services that would want the same listener or container name on one host.
    fn refuse_conflicts(
        &mut self,
        spec: &ServiceSpec,
        release: &[ServiceSpec],
    ) -> Result<(), Refusal> {
        let ours = id_of(spec);
        let others: Vec<(ServiceId, u64)> = self
            .services
            .services
            .iter()
            .filter(|(id, known)| **id != ours && known.record.current > 0)
            .filter(|(id, _)| !release.iter().any(|spec| id_of(spec) == **id))
            .map(|(id, known)| (id.clone(), known.record.current))
            .collect();
        let mut specs: Vec<ServiceSpec> = release
            .iter()
            .filter(|other| id_of(other) != ours)
            .cloned()
            .collect();
        for (id, number) in others {
            if let Some((_, other)) = self.services.revision(&self.store, &id, number)? {
                specs.push(other.clone());
            }
        }
        let clash = specs.iter().find_map(|other| {
            let together = self.fleet.hosts.iter().any(|(id, host)| {
                let labels = host.record.labels.clone().into_iter().collect();
                planner::matches(spec, id, &labels) && planner::matches(other, id, &labels)
            });
            together.then(|| planner::conflict(spec, other)).flatten()
        });
        clash.map_or(Ok(()), |why| {
            Err(Refusal::Refused(format!("{ours}: {why} already")))
        })
    }

    /// Makes the revisions and queues the rollouts; refuses all if it refuses one.
    fn accept(
        &mut self,
        who: &str,
        request: &v1::DeployRequest,
        decisions: &[Decision],
        deeds: &mut Deeds,
    ) -> Result<v1::DeployResponse, Refusal> {
        for decision in decisions {
            let unresolved = |spec: &&ServiceSpec| spec.container.resolved_image.is_empty();
            if let Some(spec) = decision.spec.as_ref().filter(unresolved) {
                decision.planned.clone()?;
                return Err(Refusal::Refused(format!(
                    "{}: no connected host could say which image {} is",
                    decision.service, spec.container.image
                )));
            }
            let nothing_to_do = matches!(decision.planned.clone()?, Planned::AlreadyThere)
                && !decision.fresh
                && !self.is_busy(&decision.service);
            if !nothing_to_do && request.if_busy() == v1::IfBusy::Refuse {
                self.refuse_busy(&decision.service)?;
            }
        }
        let release = self.next_release(deeds);
        let mut response = v1::DeployResponse {
            release: release.clone(),
            ..v1::DeployResponse::default()
        };
        for (position, decision) in (0_u32..).zip(decisions) {
            let planned = decision.planned.clone()?;
            // What is there now may be on its way to something else.
            let stays = !decision.fresh && !self.is_busy(&decision.service);
            self.services.be_sure(deeds, &decision.service);
            let mut answer = v1::ServiceDecision {
                service: decision.service.to_string(),
                from_revision: decision.from,
                to_revision: decision.to,
                removed: decision.spec.is_none(),
                ..v1::ServiceDecision::default()
            };
            let plan = match planned {
                Planned::AlreadyThere if stays => {
                    answer.already_there = true;
                    answer.hosts = self.running(&decision.service, decision.to);
                    response.services.push(answer);
                    continue;
                }
                Planned::AlreadyThere => None,
                Planned::Plan(plan) => Some(plan),
            };
            if let (true, Some(spec)) = (decision.fresh, &decision.spec) {
                self.make_revision(who, request, decision, spec, deeds);
            }
            if let Some(plan) = plan {
                answer.hosts = plan
                    .hosts
                    .iter()
                    .map(|host| host.host.to_string())
                    .collect();
                answer.skipped = plan.skipped.iter().map(ToString::to_string).collect();
            }
            let record = v1::RolloutRecord {
                who: who.to_owned(),
                reason: reason(&request.reason),
                from_revision: decision.from,
                to_revision: decision.to,
                release: release.clone(),
                kind: if decision.spec.is_some() {
                    "deploy"
                } else {
                    "remove"
                }
                .to_owned(),
                position,
                supersede: request.if_busy() == v1::IfBusy::Supersede,
                wait_for_away: request.on_away() == v1::OnAway::Wait,
                ..v1::RolloutRecord::default()
            };
            let number = self.enqueue(&decision.service, record, deeds)?;
            answer.rollout = rollout_id(number);
            response.services.push(answer);
        }
        self.keep_answer(&request.request_id, &response, deeds);
        Ok(response)
    }

    fn make_revision(
        &mut self,
        who: &str,
        request: &v1::DeployRequest,
        decision: &Decision,
        spec: &ServiceSpec,
        deeds: &mut Deeds,
    ) {
        let revision = v1::Revision {
            number: decision.to,
            spec: Some(spec.into()),
            who: who.to_owned(),
            made_unix_millis: deeds.unix_millis,
            reason: reason(&request.reason),
            file: reason(&request.file),
        };
        self.services
            .keep(deeds, &decision.service, revision, spec.clone());
    }

    /// Hosts on which this revision is the current one.
    fn running(&self, service: &ServiceId, number: u64) -> Vec<String> {
        self.fleet
            .with(service)
            .filter(|(_, _, desk)| number > 0 && desk.record.current == number)
            .map(|(host, ..)| host.to_string())
            .collect()
    }

    pub(super) fn next_release(&mut self, deeds: &mut Deeds) -> String {
        self.last_release += 1;
        let number = self.last_release;
        deeds.change(|batch| batch.raise_counter(Key::of("release"), number));
        format!("rel{number}")
    }

    fn show_plan(&mut self, decisions: &[Decision]) -> v1::PlanResponse {
        let services = decisions.iter().map(|decision| {
            let before = self
                .services
                .revision(&self.store, &decision.service, decision.from)
                .ok()
                .flatten()
                .map(|(_, spec)| spec.clone());
            diff::show(before.as_ref(), decision.view())
        });
        v1::PlanResponse {
            services: services.collect(),
            warnings: Vec::new(),
        }
    }
}

impl Decision {
    fn view(&self) -> diff::Shown<'_> {
        diff::Shown {
            service: &self.service,
            from: self.from,
            to: self.to,
            spec: self.spec.as_ref(),
            planned: &self.planned,
        }
    }
}

impl Answered {
    fn refuse(self, refusal: Refusal, deeds: &mut Deeds) {
        match self {
            Self::Deploy(reply) => deeds.answer(reply, Err(refusal)),
            Self::Plan(reply) => deeds.answer(reply, Err(refusal)),
        }
    }
}

pub(super) fn id_of(spec: &ServiceSpec) -> ServiceId {
    ServiceId {
        app: spec.app.clone(),
        service: spec.service.clone(),
    }
}

/// A reference that can mean one image alone.
fn is_fixed(image: &str) -> bool {
    image.contains("@sha256:") || image.starts_with("sha256:")
}

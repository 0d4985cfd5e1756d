//! What was decided and what became of it, and what would be, as scripts see it.

use cutover_compose::Problem;
use cutover_proto::v1::{PlanResponse, RolloutView, ServiceDecision, ServicePlanView};
use serde::Serialize;

use super::rollout::{Rollout, rollout};
use super::{ProblemJson, problems, revision, said};
use crate::exit::Exit;

/// The result of deploy, rollback, rm, drain and abort.
#[derive(Serialize)]
pub(crate) struct Release {
    release: Option<String>,
    exit: u8,
    result: &'static str,
    summary: Vec<String>,
    services: Vec<Service>,
    /// As they stood at the end; none when nobody waited.
    rollouts: Vec<Rollout>,
    warnings: Vec<String>,
}

#[derive(Serialize)]
struct Service {
    service: String,
    rollout: Option<String>,
    already_there: bool,
    removed: bool,
    from_revision: Option<u64>,
    to_revision: Option<u64>,
    hosts: Vec<String>,
    skipped: Vec<String>,
}

pub(crate) fn release(
    release: &str,
    exit: Exit,
    summary: &[String],
    decisions: &[ServiceDecision],
    views: &[RolloutView],
    warnings: &[String],
) -> Release {
    Release {
        release: said(release),
        exit: exit.code(),
        result: exit.name(),
        summary: summary.to_vec(),
        services: decisions.iter().map(decided).collect(),
        rollouts: views.iter().map(rollout).collect(),
        warnings: warnings.to_vec(),
    }
}

fn decided(decision: &ServiceDecision) -> Service {
    Service {
        service: decision.service.clone(),
        rollout: said(&decision.rollout),
        already_there: decision.already_there,
        removed: decision.removed,
        from_revision: revision(decision.from_revision),
        to_revision: revision(decision.to_revision),
        hosts: decision.hosts.clone(),
        skipped: decision.skipped.clone(),
    }
}

/// What a deploy would do.
#[derive(Serialize)]
pub(crate) struct Plan {
    changes: bool,
    refused: bool,
    services: Vec<Planned>,
    warnings: Vec<String>,
    notes: Vec<ProblemJson>,
}

#[derive(Serialize)]
struct Planned {
    service: String,
    from_revision: Option<u64>,
    to_revision: Option<u64>,
    already_there: bool,
    removed: bool,
    strategy: String,
    changes: Vec<String>,
    waves: Vec<Vec<String>>,
    skipped: Vec<String>,
    notes: Vec<String>,
    refused: Option<String>,
}

pub(crate) fn plan(plan: &PlanResponse, notes: &[Problem]) -> Plan {
    Plan {
        changes: plan.services.iter().any(|service| !service.already_there),
        refused: plan
            .services
            .iter()
            .any(|service| !service.refused.is_empty()),
        services: plan.services.iter().map(planned).collect(),
        warnings: plan.warnings.clone(),
        notes: problems(notes),
    }
}

fn planned(service: &ServicePlanView) -> Planned {
    Planned {
        service: service.service.clone(),
        from_revision: revision(service.from_revision),
        to_revision: revision(service.to_revision).filter(|_| !service.removed),
        already_there: service.already_there,
        removed: service.removed,
        strategy: service.strategy.clone(),
        changes: service.changes.clone(),
        waves: service
            .waves
            .iter()
            .map(|wave| wave.hosts.clone())
            .collect(),
        skipped: service.skipped.clone(),
        notes: service.notes.clone(),
        refused: said(&service.refused),
    }
}

/// `plan --normalized`
#[derive(Serialize)]
pub(crate) struct Normalized {
    pub(crate) app: String,
    pub(crate) normalized: String,
    pub(crate) notes: Vec<ProblemJson>,
}

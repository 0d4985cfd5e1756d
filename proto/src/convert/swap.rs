//! Orders, reports, and the journal's facts.

use std::time::Duration;

use cutover_core::spec::Order;
use cutover_core::swap as core;
use cutover_core::{Generation, RevisionNumber, Route, Slot, Weight};

use super::{Malformed, duration, moment, nanos, need};
use crate::v1;

impl From<Generation> for v1::Generation {
    fn from(generation: Generation) -> Self {
        Self {
            epoch: generation.epoch,
            number: generation.number,
        }
    }
}

impl From<v1::Generation> for Generation {
    fn from(generation: v1::Generation) -> Self {
        Self {
            epoch: generation.epoch,
            number: generation.number,
        }
    }
}

impl From<core::Target> for v1::Target {
    fn from(target: core::Target) -> Self {
        let (kind, weight) = match target {
            core::Target::Prepared => (v1::TargetKind::Prepared, 0),
            core::Target::Serving(weight) => (v1::TargetKind::Serving, u32::from(weight.percent())),
            core::Target::Committed => (v1::TargetKind::Committed, 0),
            core::Target::Reverted => (v1::TargetKind::Reverted, 0),
        };
        Self {
            kind: kind.into(),
            weight,
        }
    }
}

impl TryFrom<v1::Target> for core::Target {
    type Error = Malformed;

    fn try_from(target: v1::Target) -> Result<Self, Malformed> {
        Ok(match target.kind() {
            v1::TargetKind::Prepared => Self::Prepared,
            v1::TargetKind::Serving => Self::Serving(weight(target.weight)?),
            v1::TargetKind::Committed => Self::Committed,
            v1::TargetKind::Reverted => Self::Reverted,
            v1::TargetKind::Unspecified => return Err(Malformed("a target")),
        })
    }
}

fn weight(percent: u32) -> Result<Weight, Malformed> {
    u8::try_from(percent)
        .ok()
        .and_then(Weight::new)
        .ok_or(Malformed("a weight"))
}

const fn slot(green: bool) -> Slot {
    if green { Slot::Green } else { Slot::Blue }
}

fn is_green(slot: Slot) -> bool {
    slot == Slot::Green
}

fn revision(number: u64) -> Result<RevisionNumber, Malformed> {
    RevisionNumber::new(number).ok_or(Malformed("a revision number"))
}

fn number(revision: Option<RevisionNumber>) -> u64 {
    revision.map_or(0, RevisionNumber::get)
}

impl From<&core::Side> for v1::Side {
    fn from(side: &core::Side) -> Self {
        Self {
            revision: side.revision.get(),
            replicas: side.replicas,
            traffic: side.traffic,
            smoke: side.smoke,
            successes: side.successes,
            failures: side.failures,
            hangs_after: side.hangs_after,
            within: nanos(side.within),
            settle: nanos(side.settle),
            stop_grace: nanos(side.stop_grace),
            restart: Some((&side.restart).into()),
        }
    }
}

impl TryFrom<v1::Side> for core::Side {
    type Error = Malformed;

    fn try_from(side: v1::Side) -> Result<Self, Malformed> {
        Ok(Self {
            revision: revision(side.revision)?,
            replicas: side.replicas,
            traffic: side.traffic,
            smoke: side.smoke,
            successes: side.successes,
            failures: side.failures,
            hangs_after: side.hangs_after,
            within: duration(side.within),
            settle: duration(side.settle),
            stop_grace: duration(side.stop_grace),
            restart: need(side.restart, "a restart policy")?.try_into()?,
        })
    }
}

/// A kind from its two sides, either of which may be absent.
pub(super) fn kind(
    incumbent: Option<v1::Side>,
    candidate: Option<v1::Side>,
) -> Result<core::Kind, Malformed> {
    Ok(match (incumbent, candidate) {
        (None, Some(candidate)) => core::Kind::First {
            candidate: candidate.try_into()?,
        },
        (Some(incumbent), Some(candidate)) => core::Kind::Change {
            incumbent: incumbent.try_into()?,
            candidate: candidate.try_into()?,
        },
        (Some(incumbent), None) => core::Kind::Retire {
            incumbent: incumbent.try_into()?,
        },
        (None, None) => return Err(Malformed("both sides of a swap")),
    })
}

impl From<&core::SwapPlan> for v1::SwapPlan {
    fn from(plan: &core::SwapPlan) -> Self {
        Self {
            service: plan.service.to_string(),
            rollout: plan.rollout.to_string(),
            generation: Some(plan.generation.into()),
            incumbent: plan.kind.incumbent().map(Into::into),
            candidate: plan.kind.candidate().map(Into::into),
            stop_first: plan.order == Order::StopFirst,
            drain: nanos(plan.drain),
            observe: nanos(plan.observe),
            retain: plan.retain,
        }
    }
}

impl TryFrom<v1::SwapPlan> for core::SwapPlan {
    type Error = Malformed;

    fn try_from(plan: v1::SwapPlan) -> Result<Self, Malformed> {
        Ok(Self {
            service: plan.service.parse()?,
            rollout: plan.rollout.parse()?,
            generation: need(plan.generation, "a generation")?.into(),
            kind: kind(plan.incumbent, plan.candidate)?,
            order: if plan.stop_first {
                Order::StopFirst
            } else {
                Order::StartFirst
            },
            drain: duration(plan.drain),
            observe: duration(plan.observe),
            retain: plan.retain,
        })
    }
}

impl v1::SwapOrder {
    /// The wire form of an order for `service`, with the revisions that the host may lack.
    #[must_use]
    pub fn new(
        service: &cutover_core::ServiceId,
        order: &core::SwapOrder,
        revisions: Vec<v1::Revision>,
    ) -> Self {
        Self {
            service: service.to_string(),
            plan: order.plan.as_deref().map(Into::into),
            generation: Some(order.generation.into()),
            target: Some(order.target.into()),
            lease_until: order.lease_until.as_nanos(),
            revisions,
        }
    }

    /// What it says, without its revisions.
    ///
    /// # Errors
    /// When a part is missing or makes no sense.
    pub fn order(self) -> Result<core::SwapOrder, Malformed> {
        Ok(core::SwapOrder {
            plan: self.plan.map(TryInto::try_into).transpose()?.map(Box::new),
            generation: need(self.generation, "a generation")?.into(),
            target: need(self.target, "a target")?.try_into()?,
            lease_until: moment(self.lease_until),
        })
    }
}

impl From<Route> for v1::Route {
    fn from(route: Route) -> Self {
        let (kind, slot, weight) = match route {
            Route::Nobody => (v1::RouteKind::Nobody, Slot::Blue, 0),
            Route::Alone(slot) => (v1::RouteKind::Alone, slot, 0),
            Route::Warm(slot) => (v1::RouteKind::Warm, slot, 0),
            Route::Split { to, weight } => (v1::RouteKind::Split, to, u32::from(weight.percent())),
        };
        Self {
            kind: kind.into(),
            green: is_green(slot),
            weight,
        }
    }
}

impl TryFrom<v1::Route> for Route {
    type Error = Malformed;

    fn try_from(route: v1::Route) -> Result<Self, Malformed> {
        Ok(match route.kind() {
            v1::RouteKind::Nobody => Self::Nobody,
            v1::RouteKind::Alone => Self::Alone(slot(route.green)),
            v1::RouteKind::Warm => Self::Warm(slot(route.green)),
            v1::RouteKind::Split => Self::Split {
                to: slot(route.green),
                weight: weight(route.weight)?,
            },
        })
    }
}

/// A route as people read it.
#[must_use]
pub fn route_text(route: Route) -> String {
    route.to_string()
}

/// The phase of this name.
#[must_use]
pub fn phase_named(name: &str) -> Option<core::Phase> {
    core::Phase::ALL
        .into_iter()
        .find(|phase| phase.as_str() == name)
}

impl From<&core::Report> for v1::BerthReport {
    fn from(report: &core::Report) -> Self {
        Self {
            service: report.service.to_string(),
            start: report.stamp.start,
            at: report.stamp.at.as_nanos(),
            fence: Some(report.fence.into()),
            current: number(report.current),
            parked: report
                .parked
                .iter()
                .map(|revision| revision.get())
                .collect(),
            route: Some(report.route.into()),
            replicas_wanted: report.replicas.0,
            replicas_proved: report.replicas.1,
            hold: report.hold,
            swap: report.swap.as_ref().map(Into::into),
            refusal: report.refusal.as_ref().map(|refusal| v1::Refusal {
                generation: Some(refusal.generation.into()),
                why: refusal.why.clone(),
            }),
            warnings: report.warnings.clone(),
            containers: Vec::new(),
            traffic: None,
            last_log: String::new(),
        }
    }
}

impl TryFrom<v1::BerthReport> for core::Report {
    type Error = Malformed;

    fn try_from(report: v1::BerthReport) -> Result<Self, Malformed> {
        let refusal = |refusal: v1::Refusal| {
            Ok::<_, Malformed>(core::Refusal {
                generation: need(refusal.generation, "a generation")?.into(),
                why: refusal.why,
            })
        };
        Ok(Self {
            service: report.service.parse()?,
            stamp: core::Stamp {
                start: report.start,
                at: moment(report.at),
            },
            fence: need(report.fence, "a generation")?.into(),
            current: RevisionNumber::new(report.current),
            parked: report
                .parked
                .into_iter()
                .map(revision)
                .collect::<Result<_, _>>()?,
            route: need(report.route, "a route")?.try_into()?,
            replicas: (report.replicas_wanted, report.replicas_proved),
            hold: report.hold,
            warnings: report.warnings,
            swap: report.swap.map(TryInto::try_into).transpose()?,
            refusal: report.refusal.map(refusal).transpose()?,
        })
    }
}

impl From<&core::SwapReport> for v1::SwapReport {
    fn from(swap: &core::SwapReport) -> Self {
        Self {
            generation: Some(swap.generation.into()),
            rollout: swap.rollout.to_string(),
            incumbent: number(swap.incumbent),
            candidate: number(swap.candidate),
            phase: swap
                .phase
                .map_or_else(String::new, |phase| phase.as_str().to_owned()),
            reached: swap.reached.map(Into::into),
            reverting: swap.reverting,
            healthy: swap.healthy,
            watched: swap.watched,
            why: swap.why.clone(),
            trouble: swap.trouble.clone(),
            waits_for: swap.waits.as_ref().map(|(what, _)| what.clone()),
            waits_at_most: swap.waits.as_ref().map_or(0, |(_, most)| nanos(*most)),
        }
    }
}

impl TryFrom<v1::SwapReport> for core::SwapReport {
    type Error = Malformed;

    fn try_from(swap: v1::SwapReport) -> Result<Self, Malformed> {
        let phase = match swap.phase.as_str() {
            "" => None,
            name => Some(phase_named(name).ok_or(Malformed("a phase"))?),
        };
        let most = Duration::from_nanos(swap.waits_at_most);
        Ok(Self {
            generation: need(swap.generation, "a generation")?.into(),
            rollout: swap.rollout.parse()?,
            incumbent: RevisionNumber::new(swap.incumbent),
            candidate: RevisionNumber::new(swap.candidate),
            phase,
            reached: swap.reached.map(TryInto::try_into).transpose()?,
            reverting: swap.reverting,
            healthy: swap.healthy,
            watched: swap.watched,
            why: swap.why,
            trouble: swap.trouble,
            waits: swap.waits_for.map(|what| (what, most)),
        })
    }
}

/// Facts that are only their name, and their names.
const MILESTONES: [(core::Fact, v1::Milestone); 17] = [
    (core::Fact::Advanced, v1::Milestone::Advanced),
    (core::Fact::Fetched, v1::Milestone::Fetched),
    (core::Fact::Made, v1::Milestone::Made),
    (core::Fact::Started, v1::Milestone::Started),
    (core::Fact::Proved, v1::Milestone::Proved),
    (core::Fact::Smoked, v1::Milestone::Smoked),
    (core::Fact::Stopped, v1::Milestone::Stopped),
    (core::Fact::RouteProved, v1::Milestone::RouteProved),
    (core::Fact::Confirmed, v1::Milestone::Confirmed),
    (core::Fact::Watched, v1::Milestone::Watched),
    (core::Fact::Cooled, v1::Milestone::Cooled),
    (core::Fact::Committed, v1::Milestone::Committed),
    (core::Fact::Withdrawn, v1::Milestone::Withdrawn),
    (core::Fact::Revived, v1::Milestone::Revived),
    (core::Fact::TrafficBack, v1::Milestone::TrafficBack),
    (core::Fact::Reverted, v1::Milestone::Reverted),
    (core::Fact::Rebooted, v1::Milestone::Rebooted),
];

impl From<&core::Stamped> for v1::BerthFact {
    fn from(stamped: &core::Stamped) -> Self {
        use v1::berth_fact::Fact as Wire;
        let fact = match &stamped.fact {
            core::Fact::Adopted { side, slot } => Wire::Adopted(v1::Settled {
                side: Some(side.into()),
                green: is_green(*slot),
            }),
            core::Fact::Opened { plan, slot } => Wire::Opened(v1::Opened {
                plan: Some(plan.as_ref().into()),
                green: is_green(*slot),
            }),
            core::Fact::Targeted(target) => Wire::Targeted((*target).into()),
            core::Fact::Fenced(generation) => Wire::Fenced((*generation).into()),
            core::Fact::CutOver(route) => Wire::CutOver((*route).into()),
            core::Fact::Drained { open } => Wire::Drained(*open),
            core::Fact::Emptied { open } => Wire::Emptied(*open),
            core::Fact::Sickened { why } => Wire::Sickened(why.clone()),
            core::Fact::Passed {
                slot,
                replica,
                incarnation,
            } => Wire::Passed(v1::Passed {
                green: is_green(*slot),
                replica: *replica,
                incarnation: incarnation.0,
            }),
            core::Fact::Hung {
                slot,
                replica,
                incarnation,
                why,
            } => Wire::Hung(v1::Hung {
                green: is_green(*slot),
                replica: *replica,
                incarnation: incarnation.0,
                why: why.clone(),
            }),
            core::Fact::Discarded { revision } => Wire::Discarded(revision.get()),
            core::Fact::HeldByHand(hold) => Wire::HeldByHand(*hold),
            core::Fact::Advanced => Wire::Milestone(v1::Milestone::Advanced.into()),
            core::Fact::Fetched => Wire::Milestone(v1::Milestone::Fetched.into()),
            core::Fact::Made => Wire::Milestone(v1::Milestone::Made.into()),
            core::Fact::Started => Wire::Milestone(v1::Milestone::Started.into()),
            core::Fact::Proved => Wire::Milestone(v1::Milestone::Proved.into()),
            core::Fact::Smoked => Wire::Milestone(v1::Milestone::Smoked.into()),
            core::Fact::Stopped => Wire::Milestone(v1::Milestone::Stopped.into()),
            core::Fact::RouteProved => Wire::Milestone(v1::Milestone::RouteProved.into()),
            core::Fact::Confirmed => Wire::Milestone(v1::Milestone::Confirmed.into()),
            core::Fact::Watched => Wire::Milestone(v1::Milestone::Watched.into()),
            core::Fact::Cooled => Wire::Milestone(v1::Milestone::Cooled.into()),
            core::Fact::Committed => Wire::Milestone(v1::Milestone::Committed.into()),
            core::Fact::Withdrawn => Wire::Milestone(v1::Milestone::Withdrawn.into()),
            core::Fact::Revived => Wire::Milestone(v1::Milestone::Revived.into()),
            core::Fact::TrafficBack => Wire::Milestone(v1::Milestone::TrafficBack.into()),
            core::Fact::Reverted => Wire::Milestone(v1::Milestone::Reverted.into()),
            core::Fact::Rebooted => Wire::Milestone(v1::Milestone::Rebooted.into()),
        };
        Self {
            at: stamped.at.as_nanos(),
            fact: Some(fact),
        }
    }
}

impl TryFrom<v1::BerthFact> for core::Stamped {
    type Error = Malformed;

    fn try_from(stamped: v1::BerthFact) -> Result<Self, Malformed> {
        use v1::berth_fact::Fact as Wire;
        let fact = match need(stamped.fact, "a fact")? {
            Wire::Adopted(settled) => core::Fact::Adopted {
                side: need(settled.side, "a side")?.try_into()?,
                slot: slot(settled.green),
            },
            Wire::Opened(opened) => core::Fact::Opened {
                plan: Box::new(need(opened.plan, "a plan")?.try_into()?),
                slot: slot(opened.green),
            },
            Wire::Targeted(target) => core::Fact::Targeted(target.try_into()?),
            Wire::Fenced(generation) => core::Fact::Fenced(generation.into()),
            Wire::CutOver(route) => core::Fact::CutOver(route.try_into()?),
            Wire::Drained(open) => core::Fact::Drained { open },
            Wire::Emptied(open) => core::Fact::Emptied { open },
            Wire::Sickened(why) => core::Fact::Sickened { why },
            Wire::Passed(passed) => core::Fact::Passed {
                slot: slot(passed.green),
                replica: passed.replica,
                incarnation: core::Incarnation(passed.incarnation),
            },
            Wire::Hung(hung) => core::Fact::Hung {
                slot: slot(hung.green),
                replica: hung.replica,
                incarnation: core::Incarnation(hung.incarnation),
                why: hung.why,
            },
            Wire::Discarded(number) => core::Fact::Discarded {
                revision: revision(number)?,
            },
            Wire::HeldByHand(hold) => core::Fact::HeldByHand(hold),
            Wire::Milestone(number) => {
                let known = MILESTONES
                    .iter()
                    .find(|(_, milestone)| i32::from(*milestone) == number);
                known
                    .map(|(fact, _)| fact.clone())
                    .ok_or(Malformed("a milestone"))?
            }
        };
        Ok(Self {
            at: moment(stamped.at),
            fact,
        })
    }
}

impl From<&core::Settled> for v1::Settled {
    fn from(settled: &core::Settled) -> Self {
        Self {
            side: Some((&settled.side).into()),
            green: is_green(settled.slot),
        }
    }
}

impl TryFrom<v1::Settled> for core::Settled {
    type Error = Malformed;

    fn try_from(settled: v1::Settled) -> Result<Self, Malformed> {
        Ok(Self {
            side: need(settled.side, "a side")?.try_into()?,
            slot: slot(settled.green),
        })
    }
}

impl From<&core::Summary> for v1::BerthSummary {
    fn from(summary: &core::Summary) -> Self {
        let passed = summary
            .passed
            .iter()
            .map(|(slot, replica, life)| v1::Passed {
                green: is_green(*slot),
                replica: *replica,
                incarnation: life.0,
            });
        let hung = summary.hung.iter().map(|(slot, replica, hang)| v1::Hung {
            green: is_green(*slot),
            replica: *replica,
            incarnation: hang.incarnation.0,
            why: hang.why.clone(),
        });
        let last = summary.last.as_ref().map(|ended| v1::EndedSwap {
            plan: Some((&ended.plan).into()),
            reached: Some(ended.reached.into()),
            why: ended.why.clone(),
            at: ended.at.as_nanos(),
        });
        Self {
            service: summary.service.to_string(),
            current: summary.current.as_ref().map(Into::into),
            parked: summary.parked.iter().map(Into::into).collect(),
            fence: Some(summary.fence.into()),
            route: Some(summary.route.into()),
            passed: passed.collect(),
            hung: hung.collect(),
            last,
            hold: summary.hold,
        }
    }
}

impl TryFrom<v1::BerthSummary> for core::Summary {
    type Error = Malformed;

    fn try_from(summary: v1::BerthSummary) -> Result<Self, Malformed> {
        let ended = |ended: v1::EndedSwap| {
            Ok::<_, Malformed>(core::Ended {
                plan: need(ended.plan, "a plan")?.try_into()?,
                reached: need(ended.reached, "a target")?.try_into()?,
                why: ended.why,
                at: moment(ended.at),
            })
        };
        let passed = summary.passed.iter();
        Ok(Self {
            service: summary.service.parse()?,
            current: summary.current.map(TryInto::try_into).transpose()?,
            parked: summary
                .parked
                .into_iter()
                .map(TryInto::try_into)
                .collect::<Result<_, _>>()?,
            fence: need(summary.fence, "a generation")?.into(),
            route: need(summary.route, "a route")?.try_into()?,
            passed: passed
                .map(|p| (slot(p.green), p.replica, core::Incarnation(p.incarnation)))
                .collect(),
            hung: summary
                .hung
                .into_iter()
                .map(|h| {
                    let hang = core::Hang {
                        incarnation: core::Incarnation(h.incarnation),
                        why: h.why,
                    };
                    (slot(h.green), h.replica, hang)
                })
                .collect(),
            last: summary.last.map(ended).transpose()?,
            hold: summary.hold,
        })
    }
}

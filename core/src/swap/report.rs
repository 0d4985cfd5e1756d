//! A host's whole account of one service; the newest supersedes.

use std::time::Duration;

use crate::generation::Generation;
use crate::moment::Moment;
use crate::name::{RevisionNumber, RolloutId, ServiceId};
use crate::route::Route;
use crate::swap::berth::{Berth, Refusal, Swap};
use crate::swap::phase::Phase;
use crate::swap::plan::Target;

/// When a report was made, in the order of one host: later is newer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp {
    /// Which start of the agent, counted in its journal.
    pub start: u64,
    /// When, on the host's boot-time clock.
    pub at: Moment,
}

/// A host's whole account of one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The service.
    pub service: ServiceId,
    /// When it was made.
    pub stamp: Stamp,
    /// The highest generation seen.
    pub fence: Generation,
    /// The current revision; the incumbent while a swap is open.
    pub current: Option<RevisionNumber>,
    /// Ended revisions whose containers are kept, the newest first.
    pub parked: Vec<RevisionNumber>,
    /// What nginx was told.
    pub route: Route,
    /// Replicas of the current revision that should run, and that are proved.
    pub replicas: (u32, u32),
    /// A person on the host said that nothing moves by itself.
    pub hold: bool,
    /// The open swap, or else the last one.
    pub swap: Option<SwapReport>,
    /// The order that was refused last.
    pub refusal: Option<Refusal>,
}

/// How a swap stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwapReport {
    /// Which.
    pub generation: Generation,
    /// Of which rollout.
    pub rollout: RolloutId,
    /// From which revision.
    pub incumbent: Option<RevisionNumber>,
    /// To which.
    pub candidate: Option<RevisionNumber>,
    /// Where it is; `None`: it is over.
    pub phase: Option<Phase>,
    /// The target that is reached now.
    pub reached: Option<Target>,
    /// It goes back, or went back.
    pub reverting: bool,
    /// Every replica of the candidate is proved, and none fails its probes.
    pub healthy: bool,
    /// The observe window ended, and the candidate was healthy.
    pub watched: bool,
    /// Why it goes back, when by the host's own verdict.
    pub why: Option<String>,
    /// What goes wrong, and is tried again.
    pub trouble: Option<String>,
    /// What it waits for, and for how long at most.
    pub waits: Option<(String, Duration)>,
}

impl Berth {
    /// The account as of now.
    #[must_use]
    pub fn report(&self, start: u64, now: Moment) -> Report {
        let proved = self.current.as_ref().map_or((0, 0), |settled| {
            let side = &settled.side;
            let good = (1..=side.replicas).filter(|n| {
                let life = self.sight.running(settled.slot, side.revision, *n);
                life.is_some() && life == self.passed.get(&(settled.slot, *n)).copied()
            });
            (
                side.replicas,
                u32::try_from(good.count()).unwrap_or(u32::MAX),
            )
        });
        Report {
            service: self.service.clone(),
            stamp: Stamp { start, at: now },
            fence: self.fence,
            current: self.current.as_ref().map(|settled| settled.side.revision),
            parked: self
                .parked
                .iter()
                .map(|settled| settled.side.revision)
                .collect(),
            route: self.route,
            replicas: proved,
            hold: self.hold,
            swap: self
                .swap
                .as_ref()
                .map(|swap| self.open_report(swap, now))
                .or_else(|| self.last_report()),
            refusal: self.refusal.clone(),
        }
    }

    fn open_report(&self, swap: &Swap, now: Moment) -> SwapReport {
        let reached = match swap.phase {
            Phase::Prepared if swap.stop_first() || self.candidate_healthy(swap) => {
                Some(Target::Prepared)
            }
            Phase::Serving | Phase::Cooling | Phase::Draining | Phase::Parking => {
                Some(Target::Serving(swap.weight))
            }
            Phase::Emptying | Phase::Removing => Some(Target::Reverted),
            Phase::Fetching
            | Phase::Making
            | Phase::Starting
            | Phase::Proving
            | Phase::Smoking
            | Phase::Prepared
            | Phase::Stopping
            | Phase::Cutting
            | Phase::Checking
            | Phase::Withdrawing
            | Phase::Reviving
            | Phase::Returning => None,
        };
        SwapReport {
            generation: swap.plan.generation,
            rollout: swap.plan.rollout.clone(),
            incumbent: swap.plan.kind.incumbent().map(|side| side.revision),
            candidate: swap.plan.kind.candidate().map(|side| side.revision),
            phase: Some(swap.phase),
            reached,
            reverting: swap.phase.is_back(),
            healthy: self.candidate_healthy(swap) && self.sight.engine_lost.is_none(),
            watched: swap.watched,
            why: swap.why.clone(),
            trouble: self.effort.trouble.clone(),
            waits: self
                .waits_for(now)
                .map(|deadline| (deadline.what.to_owned(), deadline.at.since(now))),
        }
    }

    fn last_report(&self) -> Option<SwapReport> {
        let ended = self.last.as_ref()?;
        Some(SwapReport {
            generation: ended.plan.generation,
            rollout: ended.plan.rollout.clone(),
            incumbent: ended.plan.kind.incumbent().map(|side| side.revision),
            candidate: ended.plan.kind.candidate().map(|side| side.revision),
            phase: None,
            reached: Some(ended.reached),
            reverting: ended.reached == Target::Reverted,
            healthy: true,
            watched: true,
            why: ended.why.clone(),
            trouble: None,
            waits: None,
        })
    }
}

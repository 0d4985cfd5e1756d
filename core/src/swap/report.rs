//! A host's whole account of one service; the newest supersedes.

use std::time::Duration;

use crate::generation::Generation;
use crate::moment::Moment;
use crate::name::{RevisionNumber, RolloutId, ServiceId};
use crate::route::{Route, Slot};
use crate::swap::berth::{Berth, Refusal, Settled, Swap};
use crate::swap::phase::Phase;
use crate::swap::plan::{Side, Target};

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
    /// What people should know though nothing is decided by it, each in a sentence.
    pub warnings: Vec<String>,
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
            warnings: self.warnings(),
            refusal: self.refusal.clone(),
        }
    }

    /// What people should know of the replicas that requests go to.
    fn warnings(&self) -> Vec<String> {
        let mut said = Vec::new();
        if let Some(Settled { side, slot }) = &self.current {
            for replica in 1..=side.replicas {
                let name = format!("replica {replica} of @{}", side.revision);
                if let Some(hang) = self.hung.get(&(*slot, replica)) {
                    said.push(format!("{name} hangs and is started again: {}", hang.why));
                } else if let Some(why) = self.given_up(side, *slot, replica) {
                    said.push(format!("{name} hangs, and its restarts are used up: {why}"));
                }
            }
        }
        let current = self
            .current
            .as_ref()
            .map(|settled| (&settled.side, settled.slot));
        let candidate = self.swap.as_ref().and_then(Swap::candidate);
        let out = self.want(Moment::ZERO).out.unwrap_or_default();
        for (side, slot) in current.into_iter().chain(candidate) {
            let reached = side.traffic && self.sight.looked && self.route.reaches(slot);
            for replica in (1..=side.replicas).filter(|_| reached) {
                let runs = self.sight.running(slot, side.revision, replica).is_some();
                let proved = self.passed_now(side, slot, replica);
                if runs && !proved && !out.contains(&(slot, replica)) {
                    let because = if out.iter().any(|(of, _)| *of == slot) {
                        "another is out already"
                    } else {
                        "no other can take its requests"
                    };
                    said.push(format!(
                        "replica {replica} of @{} answers unproved: it was started again, and {because}",
                        side.revision
                    ));
                }
            }
        }
        said
    }

    /// What a replica's checks say that its policy starts no more.
    fn given_up(&self, side: &Side, slot: Slot, replica: u32) -> Option<&str> {
        let failures = side.hangs_after.filter(|_| self.swap.is_none())?;
        let (_, _, said) = self.sight.failing(slot, side.revision, replica, failures)?;
        let tried = self.sight.attempts_of(slot, side.revision, replica);
        let most = side.restart.max_attempts?;
        (tried >= most && self.passed_now(side, slot, replica)).then_some(said)
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
            trouble: self.efforts().find_map(|effort| effort.trouble.clone()),
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

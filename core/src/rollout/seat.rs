//! One host in a rollout: its standing order, how far it got, and what it last said.

use crate::generation::Generation;
use crate::guard::{Guard, guard};
use crate::moment::Moment;
use crate::name::RolloutId;
use crate::rollout::plan::HostPlan;
use crate::swap::{Report, SwapReport, Target};

/// One host in a rollout.
#[derive(Clone, Debug)]
pub(super) struct Seat {
    pub(super) plan: HostPlan,
    /// The rollout that it is a seat of.
    rollout: RolloutId,
    pub(super) wave: usize,
    /// The standing wish; `None`: nothing was asked of it yet.
    pub(super) order: Option<Standing>,
    /// How far the standing order's swap got.
    pub(super) reached: Option<Target>,
    /// It ran the candidate already: no swap of this rollout led there.
    pub(super) was_there: bool,
    /// No failure takes it back any more.
    pub(super) decided: bool,
    /// Why its candidate may not stay.
    pub(super) fell: Option<String>,
    // From here on: never stored.
    pub(super) report: Option<(Report, Moment)>,
    /// The host's clock, and when it was heard.
    pub(super) clock: Option<(Moment, Moment)>,
    /// Since when it has said that it is not well where it is.
    pub(super) unwell_since: Option<Moment>,
    /// Since when there has been no session.
    pub(super) away_since: Option<Moment>,
}

/// A standing wish for one host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) generation: Generation,
    pub(super) target: Target,
    pub(super) counter: bool,
    pub(super) since: Moment,
}

/// Where a host ended, as far as this rollout goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fate {
    /// Nothing was asked of it.
    Untouched,
    /// Its swap is open.
    Open,
    /// It runs the candidate, for good.
    Committed,
    /// It ran the candidate already: this rollout did not move it, and takes nothing back.
    There,
    /// It runs what it ran before.
    Back,
    /// It could not be brought back from a committed candidate.
    Stuck,
}

impl Seat {
    pub(super) fn new(plan: HostPlan, rollout: RolloutId, wave: usize) -> Self {
        Self {
            plan,
            rollout,
            wave,
            order: None,
            reached: None,
            was_there: false,
            decided: false,
            fell: None,
            report: None,
            clock: None,
            unwell_since: None,
            away_since: Some(Moment::ZERO),
        }
    }

    pub(super) fn fate(&self) -> Fate {
        match (&self.order, self.reached) {
            (None, _) => Fate::Untouched,
            (Some(_), _) if self.was_there => Fate::There,
            (Some(order), Some(Target::Committed)) => {
                if order.counter {
                    Fate::Back
                } else {
                    Fate::Committed
                }
            }
            (Some(order), Some(Target::Reverted)) => {
                if order.counter {
                    Fate::Stuck
                } else {
                    Fate::Back
                }
            }
            (Some(_), Some(Target::Prepared | Target::Serving(_)) | None) => Fate::Open,
        }
    }

    /// It runs the candidate, for good, whoever brought it there.
    pub(super) fn runs_candidate(&self) -> bool {
        matches!(self.fate(), Fate::Committed | Fate::There)
    }

    /// The host is in change: some request may be answered by either revision, or soon.
    pub(super) fn in_change(&self) -> bool {
        self.fate() == Fate::Open
    }

    /// What the host last said of the standing order's swap.
    pub(super) fn swap(&self) -> Option<&SwapReport> {
        let generation = self.order?.generation;
        let (report, _) = self.report.as_ref()?;
        report
            .swap
            .as_ref()
            .filter(|swap| swap.rollout == self.rollout)
            .filter(|swap| guard(Guard::ReportInGeneration, swap.generation == generation))
    }

    /// The standing order's swap is where `target` says and healthy, as last reported.
    pub(super) fn is_well_at(&self, target: Target) -> bool {
        self.swap()
            .is_some_and(|swap| swap.healthy && !swap.reverting && swap.reached == Some(target))
    }

    /// Serves, healthy, and its observe window ended so.
    pub(super) fn is_watched(&self) -> bool {
        let wanted = self.order.map(|order| order.target);
        self.swap().is_some_and(|swap| {
            let there = match (swap.reached, wanted) {
                // A smaller share than was ordered is a step on the way, no more.
                (Some(Target::Serving(has)), Some(Target::Serving(shall))) => has >= shall,
                (Some(Target::Serving(_) | Target::Committed), _) => true,
                (Some(Target::Prepared | Target::Reverted) | None, _) => false,
            };
            swap.healthy && swap.watched && !swap.reverting && there
        })
    }

    /// It is where the standing order wants it, and well enough to go on from there.
    pub(super) fn is_well(&self) -> bool {
        self.order.is_some_and(|order| match order.target {
            Target::Prepared => self.is_well_at(Target::Prepared),
            Target::Serving(_) => self.is_watched(),
            Target::Committed | Target::Reverted => true,
        })
    }

    /// As far as is known, it runs what it ran before: a restored coordinator may have
    /// forgotten what it asked of a host.
    pub(super) fn is_at_incumbent(&self) -> bool {
        let incumbent = self.plan.kind.incumbent().map(|side| side.revision);
        self.report
            .as_ref()
            .is_none_or(|(report, _)| report.current == incumbent)
    }

    /// The last report is no older than `age`.
    pub(super) fn is_fresh(&self, now: Moment, age: std::time::Duration) -> bool {
        self.away_since.is_none()
            && self
                .report
                .as_ref()
                .is_some_and(|(_, heard)| now.since(*heard) <= age)
    }

    /// The highest generation known of this host and service.
    pub(super) fn fence(&self) -> Generation {
        let reported = self
            .report
            .as_ref()
            .map_or(Generation::NONE, |(report, _)| report.fence);
        let ordered = self
            .order
            .map_or(Generation::NONE, |order| order.generation);
        self.plan.fence.max(reported).max(ordered)
    }
}

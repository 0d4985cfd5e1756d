//! What the hosts' reports, or their silence, show.
//!
//! It keeps true: a report counts only in the standing order's generation; what
//! was reached is not unreached by an older one (P12); a host that ran the candidate
//! already was not moved, so nothing of it is undone (P2, P12). A rollout that an old
//! backup has set back learns here what it forgot.

use std::time::Duration;

use crate::generation::Generation;
use crate::guard::{Guard, guard};
use crate::moment::Moment;
use crate::name::{HostId, RevisionNumber};
use crate::rollout::fact::Fact;
use crate::rollout::seat::{Fate, Seat, Standing};
use crate::rollout::{Rollout, Stage};
use crate::swap::{Report, Side, Target};

impl Rollout {
    /// What the hosts' reports, or their silence, have shown.
    pub(super) fn learned(&self, now: Moment) -> Option<Fact> {
        let mut seats = self.seats.iter();
        if let Some(fact) = seats.find_map(|(host, seat)| self.recalled(host, seat)) {
            return Some(fact);
        }
        self.seats.iter().find_map(|(host, seat)| {
            let order = seat.order?;
            if seat.fate() != Fate::Open {
                return None;
            }
            if let Some(fact) = self
                .renewed(host, seat)
                .or_else(|| self.vanished(host, seat))
            {
                return Some(fact);
            }
            if let Some(swap) = seat.swap() {
                if swap.reverting && order.target != Target::Reverted && seat.fell.is_none() {
                    let why = swap
                        .why
                        .clone()
                        .unwrap_or_else(|| "it was taken back on the host".to_owned());
                    return Some(Fact::Fell {
                        host: host.clone(),
                        why,
                    });
                }
                if let Some(target) = swap
                    .reached
                    .filter(|target| Some(*target) != seat.reached)
                    .filter(|target| guard(Guard::ReachedStays, !lower(*target, seat.reached)))
                {
                    return Some(Fact::Reached {
                        host: host.clone(),
                        target,
                    });
                }
            }
            if let Some(fact) = self.refused(host, seat) {
                return Some(fact);
            }
            let late = seat.fell.is_none()
                && self.is_late(now, seat)
                && self.outcome().is_none()
                && !seat.decided;
            late.then(|| Fact::Fell {
                host: host.clone(),
                why: self.lateness(seat),
            })
        })
    }

    /// A host tells of a swap of this very rollout that was never ordered here: this
    /// rollout was restored from an old backup. It stands as if it had been ordered.
    fn recalled(&self, host: &HostId, seat: &Seat) -> Option<Fact> {
        let (report, _) = seat.report.as_ref()?;
        let swap = report
            .swap
            .as_ref()
            .filter(|swap| swap.rollout == self.plan.id)?;
        let known = seat
            .order
            .map_or(Generation::NONE, |order| order.generation);
        if swap.generation <= known || self.outcome().is_some() {
            return None;
        }
        // Ordered before this rollout was: by another coordinator, which gave the same name to one of its own.
        if swap.generation.epoch < self.plan.epoch {
            return None;
        }
        let forward = seat.plan.kind.candidate().map(|side| side.revision);
        let counter = swap.candidate != forward;
        if counter && !matches!(self.stage, Stage::Back { .. }) {
            let why = "it was going back before its store was restored".to_owned();
            return Some(Fact::RollbackDecided { why, asked: false });
        }
        let target = match swap.reached {
            _ if swap.reverting => Target::Reverted,
            Some(target) => target,
            None => Target::Prepared,
        };
        Some(Fact::Ordered {
            host: host.clone(),
            generation: swap.generation,
            target,
            counter,
        })
    }

    /// A host that knows of a higher generation than its order's was spoken to by a
    /// coordinator that remembered more: the same wish, in a generation above it.
    fn renewed(&self, host: &HostId, seat: &Seat) -> Option<Fact> {
        let order = seat.order?;
        let (report, _) = seat.report.as_ref()?;
        let unknown = report
            .swap
            .as_ref()
            .is_none_or(|swap| swap.generation != order.generation);
        let untouched = seat.reached.is_none() && order.target != Target::Reverted;
        (report.fence > order.generation && unknown && untouched).then(|| Fact::Ordered {
            host: host.clone(),
            generation: seat.fence().next(self.plan.epoch),
            target: order.target,
            counter: order.counter,
        })
    }

    /// A host that is beyond its order's generation, and has no swap of it, will never
    /// have one: the order came too late, or was forgotten. What it runs says where it is.
    fn vanished(&self, host: &HostId, seat: &Seat) -> Option<Fact> {
        let order = seat.order?;
        let (report, _) = seat.report.as_ref()?;
        let beyond = report.fence >= order.generation && seat.swap().is_none();
        if !beyond || is_open(report) {
            return None;
        }
        let (from, to) = ends(order, seat);
        if report.current == to {
            return Some(self.arrived(host, seat, order, report));
        }
        let host = host.clone();
        if report.current == from && is_to_go_back(order, seat) {
            let target = Target::Reverted;
            return Some(Fact::Reached { host, target });
        }
        let why = "another swap took this one's place on the host".to_owned();
        seat.fell.is_none().then_some(Fact::Fell { host, why })
    }

    /// A host that refused its order: it is where that leads already, or its candidate may not stay.
    fn refused(&self, host: &HostId, seat: &Seat) -> Option<Fact> {
        let order = seat.order?;
        let (report, _) = seat.report.as_ref()?;
        let refusal = report.refusal.as_ref()?;
        if refusal.generation != order.generation {
            return None;
        }
        let (_, to) = ends(order, seat);
        if report.current == to && !is_open(report) {
            return Some(self.arrived(host, seat, order, report));
        }
        let why = format!("the host refused: {}", refusal.why);
        let host = host.clone();
        seat.fell.is_none().then_some(Fact::Fell { host, why })
    }

    /// A host without a swap of its order runs what that order leads to. What this rollout brought
    /// there, it may have to undo; what was there before, it never may: that could be all that serves.
    fn arrived(&self, host: &HostId, seat: &Seat, order: Standing, report: &Report) -> Fact {
        let ours = report.swap.as_ref().is_some_and(|swap| {
            swap.rollout == self.plan.id
                && swap.generation.epoch >= self.plan.epoch
                && swap.reached == Some(Target::Committed)
                && swap.candidate == report.current
        });
        let on_its_way = seat.reached.is_some() && !is_to_go_back(order, seat);
        let moved = order.counter || ours || on_its_way;
        let (host, target) = (host.clone(), Target::Committed);
        if guard(Guard::UndoOnlyMoved, moved) {
            Fact::Reached { host, target }
        } else {
            Fact::WasThere { host }
        }
    }

    /// A step took longer than it may.
    pub(super) fn is_late(&self, now: Moment, seat: &Seat) -> bool {
        self.late_at(seat).is_some_and(|at| now >= at)
    }

    /// When a host that has not got where it shall be, or is not well there, is late.
    pub(super) fn late_at(&self, seat: &Seat) -> Option<Moment> {
        let order = seat.order?;
        let there = seat.reached == Some(order.target);
        let since = match order.target {
            _ if !there => Some(order.since),
            Target::Prepared | Target::Serving(_) => seat.away_since.or(seat.unwell_since),
            Target::Committed | Target::Reverted => None,
        };
        let window = match order.target {
            Target::Serving(_) => self.plan.policy.observe,
            Target::Prepared | Target::Committed | Target::Reverted => Duration::ZERO,
        };
        let since = since?.max(order.since).max(self.listening_since);
        Some(since + self.plan.progress + window)
    }

    fn lateness(&self, seat: &Seat) -> String {
        let reached = seat
            .order
            .is_some_and(|order| seat.reached == Some(order.target));
        let well = if reached { "healthy and " } else { "" };
        let target = seat.order.map_or(Target::Prepared, |order| order.target);
        let away = if seat.away_since.is_some() {
            ": it is away"
        } else {
            ""
        };
        format!(
            "not {well}{target} within {}{away}",
            crate::swap::seconds(self.plan.progress)
        )
    }

    /// It has had no session for a lease.
    pub(super) fn gone(&self, now: Moment, seat: &Seat) -> bool {
        seat.away_since
            .is_some_and(|since| now >= since.max(self.listening_since) + self.plan.lease)
    }
}

/// The revisions that an order leads from, and to.
fn ends(order: Standing, seat: &Seat) -> (Option<RevisionNumber>, Option<RevisionNumber>) {
    let side = |side: Option<&Side>| side.map(|side| side.revision);
    let (a, b) = (
        side(seat.plan.kind.incumbent()),
        side(seat.plan.kind.candidate()),
    );
    if order.counter { (b, a) } else { (a, b) }
}

/// Its candidate may not stay.
fn is_to_go_back(order: Standing, seat: &Seat) -> bool {
    order.target == Target::Reverted || seat.fell.is_some()
}

/// A swap is under way on the host, whosever it is.
fn is_open(report: &Report) -> bool {
    let swap = report.swap.as_ref();
    swap.is_some_and(|swap| swap.phase.is_some())
}

/// Whether a report of having reached `target` is older than what is known.
fn lower(target: Target, known: Option<Target>) -> bool {
    match (known, target) {
        (None, _) => false,
        (Some(Target::Prepared), _) => false,
        (Some(Target::Serving(had)), Target::Serving(has)) => has < had,
        (Some(Target::Serving(_)), Target::Prepared) => true,
        (Some(Target::Serving(_)), Target::Committed | Target::Reverted) => false,
        (Some(Target::Committed | Target::Reverted), _) => true,
    }
}

//! How facts move a berth. Nothing else does: the same facts give the same berth.

use crate::moment::Moment;
use crate::name::RevisionNumber;
use crate::route::{Slot, Weight};
use crate::swap::berth::{Berth, Effort, Ended, Hang, Settled, Swap};
use crate::swap::fact::Fact;
use crate::swap::phase::Phase;
use crate::swap::plan::{SwapPlan, Target};

/// Ended candidates that are remembered, lest something of them comes back.
const ENDED_KEPT: usize = 32;

impl Berth {
    /// Moves the berth by one fact; what does not fit where it stands changes nothing.
    pub fn apply(&mut self, at: Moment, fact: &Fact) {
        match fact {
            Fact::Adopted { side, slot } => {
                self.current = Some(Settled {
                    side: side.clone(),
                    slot: *slot,
                })
            }
            Fact::Opened { plan, slot } => self.open(at, plan, *slot),
            Fact::Fenced(generation) => self.fence = self.fence.max(*generation),
            Fact::CutOver(route) => {
                self.route = *route;
                if let Some(swap) = &mut self.swap {
                    swap.cut |= route.reaches(swap.slot) && swap.plan.kind.candidate().is_some();
                }
            }
            Fact::Passed {
                slot,
                replica,
                incarnation,
            } => {
                self.passed.insert((*slot, *replica), *incarnation);
                self.hung.remove(&(*slot, *replica));
            }
            Fact::Hung {
                slot,
                replica,
                incarnation,
                why,
            } => {
                self.passed.remove(&(*slot, *replica));
                let hang = Hang {
                    incarnation: *incarnation,
                    why: why.clone(),
                };
                self.hung.insert((*slot, *replica), hang);
            }
            Fact::Discarded { revision } => {
                let gone = self
                    .parked
                    .iter()
                    .find(|settled| settled.side.revision == *revision);
                if let Some(gone) = gone.map(|settled| (settled.slot, settled.side.revision)) {
                    self.end(gone);
                }
                self.parked
                    .retain(|settled| settled.side.revision != *revision);
            }
            Fact::HeldByHand(hold) => self.hold = *hold,
            Fact::Rebooted => {
                self.passed.clear();
                self.hung.clear();
                if let Some(swap) = &mut self.swap {
                    swap.since = at;
                }
            }
            Fact::Committed => self.committed(at),
            Fact::Reverted => self.reverted(at),
            Fact::Targeted(_)
            | Fact::Advanced
            | Fact::Fetched
            | Fact::Made
            | Fact::Started
            | Fact::Proved
            | Fact::Smoked
            | Fact::Stopped
            | Fact::RouteProved
            | Fact::Confirmed
            | Fact::Watched
            | Fact::Cooled
            | Fact::Drained { .. }
            | Fact::Sickened { .. }
            | Fact::Withdrawn
            | Fact::Revived
            | Fact::TrafficBack
            | Fact::Emptied { .. } => self.step(at, fact),
        }
    }

    fn open(&mut self, at: Moment, plan: &SwapPlan, slot: Slot) {
        self.fence = self.fence.max(plan.generation);
        self.effort = Effort::default();
        self.patience.anew();
        if let Some(side) = plan.kind.candidate() {
            // The candidate takes its parked containers over, where it finds them in its slot.
            let parked = std::mem::take(&mut self.parked);
            let (again, kept) = parked
                .into_iter()
                .partition(|settled| settled.side.revision == side.revision);
            self.parked = kept;
            let again: Vec<Settled> = again;
            for settled in again {
                self.end((settled.slot, side.revision));
            }
            self.ended.remove(&(slot, side.revision));
            self.hung.retain(|(hung, _), _| *hung != slot);
        }
        let phase = if plan.kind.candidate().is_some() {
            Phase::Fetching
        } else {
            Phase::Prepared
        };
        self.swap = Some(Swap {
            plan: plan.clone(),
            slot,
            target: Target::Prepared,
            weight: Weight::FULL,
            phase,
            since: at,
            watched: false,
            cut: false,
            why: None,
            stopped: false,
            restarted: false,
        });
    }

    /// Moves the open swap from phase to phase.
    fn step(&mut self, at: Moment, fact: &Fact) {
        let Some(swap) = &mut self.swap else { return };
        let before = swap.phase;
        match fact {
            Fact::Targeted(target) => swap.target = *target,
            Fact::Sickened { why } => swap.why = Some(why.clone()),
            Fact::Watched => swap.watched = true,
            Fact::Stopped => swap.stopped = true,
            Fact::Confirmed => swap.watched = false,
            Fact::Advanced
            | Fact::Adopted { .. }
            | Fact::Opened { .. }
            | Fact::Fenced(_)
            | Fact::Fetched
            | Fact::Made
            | Fact::Started
            | Fact::Proved
            | Fact::Smoked
            | Fact::CutOver(_)
            | Fact::RouteProved
            | Fact::Cooled
            | Fact::Drained { .. }
            | Fact::Committed
            | Fact::Withdrawn
            | Fact::Revived
            | Fact::TrafficBack
            | Fact::Emptied { .. }
            | Fact::Reverted
            | Fact::Passed { .. }
            | Fact::Hung { .. }
            | Fact::Discarded { .. }
            | Fact::HeldByHand(_)
            | Fact::Rebooted => {}
        }
        if let Some(next) = swap.phase.after(swap, fact) {
            if next == Phase::Cutting {
                swap.weight = swap.weight_wanted();
            }
            swap.enter(at, next);
        }
        if swap.phase != before {
            self.open = 0;
            self.patience.anew();
            self.effort = Effort::default();
        }
    }

    fn committed(&mut self, at: Moment) {
        let Some(swap) = self.swap.take() else { return };
        if let Some(old) = self.current.take() {
            self.parked.insert(0, old);
        }
        self.current = swap.candidate().map(|(side, slot)| Settled {
            side: side.clone(),
            slot,
        });
        let stays = self.current.as_ref().map(|settled| settled.slot);
        self.hung.retain(|(slot, _), _| Some(*slot) == stays);
        self.sight.count_anew();
        self.effort = Effort::default();
        self.last = Some(Ended {
            plan: swap.plan,
            reached: Target::Committed,
            why: None,
            at,
        });
    }

    fn reverted(&mut self, at: Moment) {
        let Some(swap) = self.swap.take() else { return };
        self.sight.count_anew();
        self.effort = Effort::default();
        if let Some((side, slot)) = swap.candidate() {
            let gone = (slot, side.revision);
            self.end(gone);
        }
        self.last = Some(Ended {
            plan: swap.plan,
            reached: Target::Reverted,
            why: swap.why,
            at,
        });
    }

    /// Remembers that nothing is to be left of a revision in a slot.
    fn end(&mut self, gone: (Slot, RevisionNumber)) {
        self.ended.insert(gone);
        if self.ended.len() > ENDED_KEPT {
            let oldest = self
                .ended
                .iter()
                .copied()
                .min_by_key(|(_, revision)| *revision);
            self.ended.remove(&oldest.unwrap_or(gone));
        }
    }
}

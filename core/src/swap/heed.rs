//! Which of the coordinator's orders, and of the wishes of people on the host, a berth heeds.
//!
//! It keeps true: a stale order changes nothing (P4); a swap opens only onto what
//! runs here, and only while the coordinator's word counts. It does not know how
//! orders travel.

use crate::generation::Generation;
use crate::guard::{Guard, guard};
use crate::moment::Moment;
use crate::name::RevisionNumber;
use crate::route::Slot;
use crate::swap::berth::{Berth, Refusal};
use crate::swap::event::SwapOrder;
use crate::swap::fact::Fact;
use crate::swap::plan::Target;

impl Berth {
    pub(super) fn ordered(&mut self, now: Moment, order: SwapOrder) -> Option<Fact> {
        let known = self
            .swap
            .as_ref()
            .map(|swap| (swap.plan.generation, swap.target));
        match known {
            Some((generation, target))
                if guard(Guard::TargetInGeneration, order.generation == generation) =>
            {
                self.refusal = None;
                self.lease_until = self.lease_until.max(order.lease_until);
                self.patient_until = Moment::ZERO;
                let leads = guard(Guard::TargetLeadsOn, target.leads_to(order.target));
                leads.then_some(Fact::Targeted(order.target))
            }
            Some((generation, _)) if order.generation > generation.max(self.fence) => {
                if order.plan.is_none() && order.target == Target::Reverted {
                    return Some(Fact::Fenced(order.generation));
                }
                // One that is ending makes room by itself: the order is heard again then.
                let ending = self
                    .swap
                    .as_ref()
                    .is_some_and(|swap| !swap.phase.may_revert());
                if ending {
                    None
                } else {
                    self.refuse(order.generation, format!("swap {generation} is still open"))
                }
            }
            Some(_) => None,
            None => self.opened(now, order),
        }
    }

    fn opened(&mut self, now: Moment, order: SwapOrder) -> Option<Fact> {
        if !guard(Guard::OpenAboveFence, order.generation > self.fence) {
            return None;
        }
        if order.target == Target::Reverted {
            // It shall never open; the fence says that this was heard.
            return Some(Fact::Fenced(order.generation));
        }
        let plan = order.plan?;
        let actual = self.current.as_ref().map(|settled| settled.side.revision);
        let expected = plan.kind.incumbent().map(|side| side.revision);
        if !guard(Guard::OpenOntoExpected, actual == expected) {
            let say = |r: Option<RevisionNumber>| {
                r.map_or_else(|| "nothing".to_owned(), |r| format!("@{r}"))
            };
            return self.refuse(
                order.generation,
                format!("{} runs here, not {}", say(actual), say(expected)),
            );
        }
        if !guard(Guard::OpenWithinLease, now < order.lease_until) {
            return self.refuse(order.generation, "the order came too late".to_owned());
        }
        self.refusal = None;
        self.lease_until = order.lease_until;
        let slot = self
            .current
            .as_ref()
            .map_or(Slot::Blue, |settled| settled.slot.other());
        Some(Fact::Opened { plan, slot })
    }

    fn refuse(&mut self, generation: Generation, why: String) -> Option<Fact> {
        self.refusal = Some(Refusal { generation, why });
        None
    }

    pub(super) fn revert_asked(&self) -> Option<Fact> {
        let swap = self.swap.as_ref()?;
        guard(Guard::RevertUncommitted, swap.phase.may_revert()).then(|| Fact::Sickened {
            why: "reverted by hand on the host".to_owned(),
        })
    }
}

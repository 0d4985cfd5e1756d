//! Stopping what hung, so that it can be started again.
//!
//! It keeps true: while a replica may be stopped at any moment, it does not pass, however well it
//! answers (P1); what answers well again and is not being stopped is let be. It does not know why
//! a replica hung, or when it is started again.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::guard::{Guard, guard};
use crate::moment::Moment;
use crate::route::Slot;
use crate::swap::berth::{Berth, Settled};
use crate::swap::event::{Action, Incarnation};

/// A stop that nobody asks for any more may come for a replica's grace time and this.
const SLACK: Duration = Duration::from_secs(3);

/// The replicas that may be stopped at any moment. Never stored.
#[derive(Clone, Debug, Default)]
pub(super) struct Halts(BTreeMap<(Slot, u32), Halting>);

/// Which life, and until when; `None`: until the answer is there.
#[derive(Clone, Copy, Debug)]
struct Halting {
    life: Incarnation,
    until: Option<Moment>,
}

impl Berth {
    /// A stop is under way.
    pub(super) fn halt_began(&mut self, action: Action) {
        if let Action::Halt { slot, replica, .. } = action {
            self.note_halt(slot, replica, None);
        }
    }

    /// The answer is there. An engine that failed may have asked it to stop before that, or may yet.
    pub(super) fn halt_answered(&mut self, now: Moment, action: Action) {
        if let Action::Halt { slot, replica, .. } = action {
            let until = now + self.stop_grace() + SLACK;
            self.note_halt(slot, replica, Some(until));
        }
    }

    /// An engine goes on with what the agent before this one asked for, and did not live to see.
    pub(super) fn halts_of_another_life(&mut self, now: Moment) {
        let until = now + self.stop_grace() + SLACK;
        let hung: Vec<(Slot, u32)> = self.hung.keys().copied().collect();
        for (slot, replica) in hung {
            self.note_halt(slot, replica, Some(until));
        }
    }

    fn note_halt(&mut self, slot: Slot, replica: u32, until: Option<Moment>) {
        if let Some(hang) = self.hung.get(&(slot, replica)) {
            let life = hang.incarnation;
            self.halts
                .0
                .insert((slot, replica), Halting { life, until });
        }
    }

    fn stop_grace(&self) -> Duration {
        let current = self.current.as_ref();
        current.map_or(Duration::ZERO, |settled| settled.side.stop_grace)
    }

    /// Whether this life may be stopped at any moment.
    pub(super) fn may_be_halted(
        &self,
        now: Moment,
        slot: Slot,
        replica: u32,
        life: Incarnation,
    ) -> bool {
        let halting = self.halts.0.get(&(slot, replica));
        halting.is_some_and(|halting| {
            halting.life == life && halting.until.is_none_or(|until| now < until)
        })
    }

    /// When what was asked to stop, and was not, passes if it answers well.
    pub(super) fn halts_end(&self) -> impl Iterator<Item = Moment> + '_ {
        let hung = self.hung.iter();
        hung.filter_map(|(at, hang)| {
            let halting = self.halts.0.get(at)?;
            halting.until.filter(|_| halting.life == hang.incarnation)
        })
    }

    /// Stops a replica that hangs, and still does; not while another one of its slot is about to start, or
    /// may be stopped itself. One for which that was not tried yet comes first.
    pub(super) fn halt(&self, now: Moment) -> Option<Action> {
        if self.hold || self.sight.engine_lost.is_some() {
            return None;
        }
        let Settled { side, slot } = self.current.as_ref()?;
        let (slot, revision) = (*slot, side.revision);
        let life = |replica: u32| self.sight.running(slot, revision, replica);
        let halted = |replica: u32| {
            let life = life(replica);
            life.is_some_and(|life| self.may_be_halted(now, slot, replica, life))
        };
        let calm = |replica: u32| {
            let others = (1..=side.replicas).filter(|other| *other != replica);
            self.restart_due(side, slot).is_none() && !others.into_iter().any(halted)
        };
        let hangs = |replica: u32| {
            let hung = self.hung.get(&(slot, replica));
            let same =
                life(replica).is_some() && hung.map(|hang| hang.incarnation) == life(replica);
            // What was to be stopped once is judged by what it has answered since.
            let failing = self.sight.failing(slot, revision, replica, 1).is_some();
            same && self.ripe(now, side, slot, replica).is_none() && (failing || !halted(replica))
        };
        let replica = (1..=side.replicas)
            .filter(|replica| hangs(*replica))
            .filter(|replica| guard(Guard::HaltOneAtATime, calm(*replica)))
            .min_by_key(|replica| (self.halts.0.contains_key(&(slot, *replica)), *replica))?;
        Some(Action::Halt {
            slot,
            revision,
            replica,
        })
    }
}

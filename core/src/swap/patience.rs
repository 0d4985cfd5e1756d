//! How long the open swap has been at its step.
//!
//! It keeps true: the time in which the step could not begin, because something else had its turn or
//! its slot, is not held against the candidate (P7). It does not know how long a step may take.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::moment::Moment;
use crate::swap::berth::{Berth, Swap};
use crate::swap::event::Action;
use crate::swap::phase::Phase;

/// So long at most: most starts are over by then, and a candidate does not wait for ever.
const ASIDE_AT_MOST: Duration = Duration::from_secs(60);

/// What was in the way of the open swap's step while it was in its phase. Never stored.
#[derive(Clone, Debug, Default)]
pub(super) struct Patience {
    /// What is under way, since when.
    under_way: BTreeMap<Action, Moment>,
    /// How long something was in the way that is over.
    lost: Duration,
}

impl Patience {
    /// Another phase: what is under way still is.
    pub(super) fn anew(&mut self) {
        self.lost = Duration::ZERO;
    }
}

impl Berth {
    /// An action is under way.
    pub(super) fn aside_began(&mut self, now: Moment, action: Action) {
        if !matches!(action, Action::Fetch { .. }) {
            self.patience.under_way.insert(action, now);
        }
    }

    /// The answer to an action is there.
    pub(super) fn aside_answered(&mut self, now: Moment, action: Action) {
        if let Some(swap) = &self.swap
            && self.in_the_way(now, swap, action)
        {
            self.patience.lost += self.under_way_for(now, swap, action);
        }
        self.patience.under_way.remove(&action);
    }

    /// How long the open swap has been at the step of its phase.
    pub(super) fn at_its_step(&self, now: Moment, swap: &Swap) -> Duration {
        let aside = self.patience.lost + self.aside(now, swap);
        now.since(swap.since)
            .saturating_sub(aside.min(ASIDE_AT_MOST))
    }

    /// When it will have been at its step for so long; while something is in the way, at the latest.
    pub(super) fn step_late_at(&self, now: Moment, swap: &Swap, limit: Duration) -> Moment {
        let mut under_way = self.patience.under_way.keys();
        let aside = if under_way.any(|action| self.in_the_way(now, swap, *action)) {
            ASIDE_AT_MOST
        } else {
            self.patience.lost.min(ASIDE_AT_MOST)
        };
        swap.since + limit + aside
    }

    /// How long what is in the way has been, since the phase was entered.
    fn aside(&self, now: Moment, swap: &Swap) -> Duration {
        let under_way = self.patience.under_way.keys().copied();
        under_way
            .filter(|action| self.in_the_way(now, swap, *action))
            .map(|action| self.under_way_for(now, swap, action))
            .max()
            .unwrap_or_default()
    }

    fn under_way_for(&self, now: Moment, swap: &Swap, action: Action) -> Duration {
        let since = self.patience.under_way.get(&action);
        since.map_or(Duration::ZERO, |since| now.since((*since).max(swap.since)))
    }

    /// Whether an action that is under way keeps the step from beginning: one in its lane, or upkeep of its
    /// slot.
    fn in_the_way(&self, now: Moment, swap: &Swap, action: Action) -> bool {
        let slot = match swap.phase {
            // Once it is being had, an image waits for nothing.
            Phase::Fetching => return false,
            Phase::Cutting | Phase::Cooling | Phase::Returning => None,
            Phase::Stopping | Phase::Parking | Phase::Reviving => {
                self.current.as_ref().map(|settled| settled.slot)
            }
            Phase::Making
            | Phase::Starting
            | Phase::Proving
            | Phase::Smoking
            | Phase::Prepared
            | Phase::Checking
            | Phase::Serving
            | Phase::Draining
            | Phase::Withdrawing
            | Phase::Emptying
            | Phase::Removing => Some(swap.slot),
        };
        let is_the_step = self.step_of(now, swap) == Some(action);
        let is_upkeep = matches!(action, Action::Halt { .. }) || self.kept_by(action).is_some();
        !is_the_step && (!is_upkeep || action.concerns().map(|(slot, _)| slot) == slot)
    }
}

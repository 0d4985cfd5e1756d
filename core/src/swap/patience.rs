//! How long the open swap has been at its step.
//!
//! It keeps true: the time in which the host was at something else, because it was begun before or
//! cannot wait, is not held against the candidate (P7). It does not know how long a step may take.

use std::time::Duration;

use crate::moment::Moment;
use crate::swap::berth::{Berth, Swap};
use crate::swap::event::Action;
use crate::swap::phase::Phase;

/// So long at most: a start is given up by then.
const ASIDE_AT_MOST: Duration = Duration::from_secs(60);

/// What else was under way while the open swap was in its phase. Never stored.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Patience {
    /// Since when something else is.
    since: Option<Moment>,
    /// How long something else was, and is not any more.
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
            let step = self.swap.as_ref().and_then(|swap| self.step_of(now, swap));
            self.patience.since = (step != Some(action)).then_some(now);
        }
    }

    /// The answer to an action is there.
    pub(super) fn aside_answered(&mut self, now: Moment, action: Action) {
        if !matches!(action, Action::Fetch { .. }) {
            let lost = self.swap.as_ref().map(|swap| self.aside(now, swap));
            self.patience.lost += lost.unwrap_or_default();
            self.patience.since = None;
        }
    }

    /// How long the open swap has been at the step of its phase.
    pub(super) fn at_its_step(&self, now: Moment, swap: &Swap) -> Duration {
        let aside = self.patience.lost + self.aside(now, swap);
        now.since(swap.since)
            .saturating_sub(aside.min(ASIDE_AT_MOST))
    }

    /// When it will have been at its step for so long; while it is at something else, at the latest.
    pub(super) fn step_late_at(&self, swap: &Swap, limit: Duration) -> Moment {
        let aside = match self.patience.since {
            Some(_) if swap.phase != Phase::Fetching => ASIDE_AT_MOST,
            Some(_) | None => self.patience.lost.min(ASIDE_AT_MOST),
        };
        swap.since + limit + aside
    }

    /// How long what is under way beside the step has been, since the phase was entered. Once it is being
    /// had, an image waits for nothing.
    fn aside(&self, now: Moment, swap: &Swap) -> Duration {
        let since = self.patience.since.map(|since| since.max(swap.since));
        since
            .filter(|_| swap.phase != Phase::Fetching)
            .map_or(Duration::ZERO, |since| now.since(since))
    }
}

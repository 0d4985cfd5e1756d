//! P1, as clients see it: an answer comes from a version whose turn it is, whatever runs besides.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Until when each version may answer.
pub(super) struct Turns(BTreeMap<String, Instant>);

impl Turns {
    /// One that began before its rollout's end may be answered so much later.
    const SLOWEST: Duration = Duration::from_secs(3);
    /// Longer than any schedule takes.
    const NEVER: Duration = Duration::from_secs(24 * 3600);

    pub(super) fn of(serving: String) -> Self {
        let mut turns = Self(BTreeMap::new());
        turns.begins(serving);
        turns
    }

    /// From now on it may answer.
    pub(super) fn begins(&mut self, version: String) {
        self.0.insert(version, Instant::now() + Self::NEVER);
    }

    /// Nothing moves any more: this one alone may answer.
    pub(super) fn ends(&mut self, serving: &str) {
        let last = Instant::now() + Self::SLOWEST;
        for (version, until) in &mut self.0 {
            if version != serving {
                *until = (*until).min(last);
            }
        }
    }

    /// Whether it may have answered at that moment. No version has the number of an earlier one.
    pub(super) fn may_answer(&self, version: &str, at: Instant) -> bool {
        self.0.get(version).is_some_and(|until| at <= *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_retired_and_what_was_never_asked_for_may_not_answer() {
        let mut turns = Turns::of("v1".to_owned());
        turns.begins("v2".to_owned());
        let later = Instant::now() + Duration::from_secs(60);
        assert!(turns.may_answer("v1", later) && turns.may_answer("v2", later));
        turns.ends("v2");
        assert!(!turns.may_answer("v1", later) && turns.may_answer("v2", later));
        assert!(turns.may_answer("v1", Instant::now()));
        assert!(!turns.may_answer("v3", Instant::now()));
    }
}

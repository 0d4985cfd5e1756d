//! What happened in many worlds, counted.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use crate::map;

/// Counts by what was counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    counts: BTreeMap<(&'static str, Cow<'static, str>), u64>,
    /// How often a swap went from one phase to another.
    pub(crate) ways: BTreeMap<(&'static str, &'static str), u64>,
    /// Steps of all worlds.
    pub steps: u64,
}

impl Tally {
    pub(crate) fn count(&mut self, group: &'static str, what: impl Into<Cow<'static, str>>) {
        *self.counts.entry((group, what.into())).or_default() += 1;
    }

    pub(crate) fn walked(&mut self, from: &'static str, to: &'static str) {
        *self.ways.entry((from, to)).or_default() += 1;
    }

    /// Adds another tally to this one.
    pub fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        for (key, n) in &other.counts {
            *self.counts.entry(key.clone()).or_default() += n;
        }
        for (way, n) in &other.ways {
            *self.ways.entry(*way).or_default() += n;
        }
    }

    /// How often this was counted.
    #[must_use]
    pub fn of(&self, group: &'static str, what: &str) -> u64 {
        self.counts
            .get(&(group, Cow::Owned(what.to_owned())))
            .copied()
            .unwrap_or(0)
    }

    /// Phases, ways and facts that no world has visited.
    #[must_use]
    pub fn unvisited(&self) -> Vec<String> {
        map::unvisited(self)
    }

    /// Ways that were gone and are not on the map.
    #[must_use]
    pub fn unmapped(&self) -> Vec<String> {
        map::unmapped(self)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut group = "";
        for ((this, what), n) in &self.counts {
            if *this != group {
                writeln!(f, "{this}:")?;
                group = this;
            }
            writeln!(f, "  {n:>9}  {what}")?;
        }
        for (title, all) in [
            ("not visited", self.unvisited()),
            ("not on the map", self.unmapped()),
        ] {
            writeln!(f, "{title}: {}", all.len())?;
            for one in all {
                writeln!(f, "             {one}")?;
            }
        }
        Ok(())
    }
}

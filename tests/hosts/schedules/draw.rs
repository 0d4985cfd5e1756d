//! What a schedule is, and how it is drawn: from its seed alone.

use std::fmt;
use std::time::Duration;

use super::HOSTS;
use crate::fleet::Release;

/// Until when after its rollout's begin a fault may come.
pub(super) const LATEST: Duration = Duration::from_secs(5);
/// The longest that what ends by itself lasts; well below a lease, which is another scenario's.
pub(super) const LONGEST: Duration = Duration::from_millis(4_500);
/// And the shortest.
const SHORTEST: Duration = Duration::from_millis(500);

/// What is done to one machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    AgentKilled,
    AgentFrozen,
    CoordinatorKilled,
    CoordinatorRestarted,
    DockerdKilled,
    NginxKilled,
    ContainerKilled,
    Unheard,
    Deaf,
    PowerCut,
}

impl Fault {
    pub(super) const ALL: [Self; 10] = [
        Self::AgentKilled,
        Self::AgentFrozen,
        Self::CoordinatorKilled,
        Self::CoordinatorRestarted,
        Self::DockerdKilled,
        Self::NginxKilled,
        Self::ContainerKilled,
        Self::Unheard,
        Self::Deaf,
        Self::PowerCut,
    ];
}

/// One fault of a schedule.
#[derive(Clone, Copy, Debug)]
pub(super) struct Strike {
    pub(super) fault: Fault,
    pub(super) host: usize,
    /// After the rollout's begin.
    pub(super) after: Duration,
    /// For what ends by itself.
    pub(super) lasts: Duration,
}

impl fmt::Display for Strike {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{:?} h{} after {:.1} s",
            self.fault,
            self.host + 1,
            self.after.as_secs_f64()
        )
    }
}

/// One rollout of a schedule, and what happens meanwhile.
#[derive(Clone, Debug)]
pub(super) struct Act {
    pub(super) release: Release,
    /// In the order of their moments.
    pub(super) strikes: Vec<Strike>,
}

/// The schedule of a seed: two rollouts.
pub(super) fn schedule(seed: u64) -> Vec<Act> {
    let mut dice = Dice(seed);
    let act = |dice: &mut Dice| {
        let tag = dice.one_of(&["1", "1", "1", "dies", "never-ready"]);
        let release = Release {
            tag,
            strategy: dice.one_of(&["rolling", "rolling", "blue-green"]),
            wave: dice.one_of(&[0, 0, 1]),
            // It dies three seconds after its start, which is to be while it is observed.
            observe: if tag == "dies" { 6 } else { 2 },
            drain: 1,
        };
        let mut strikes: Vec<Strike> = (0..=dice.roll(2))
            .map(|_| Strike {
                fault: dice.one_of(&Fault::ALL),
                host: usize::try_from(dice.roll(HOSTS as u64)).unwrap_or(0),
                after: dice.up_to(LATEST),
                lasts: SHORTEST + dice.up_to(LONGEST - SHORTEST),
            })
            .collect();
        strikes.sort_by_key(|strike| strike.after);
        Act { release, strikes }
    };
    vec![act(&mut dice), act(&mut dice)]
}

/// A schedule in a line.
pub(super) fn words(acts: &[Act]) -> String {
    let act = |act: &Act| {
        let strikes: Vec<String> = act.strikes.iter().map(ToString::to_string).collect();
        format!(
            "{} {} ({} at a time): {}",
            act.release.strategy,
            act.release.tag,
            act.release.wave,
            strikes.join(", ")
        )
    };
    acts.iter().map(act).collect::<Vec<_>>().join("; then ")
}

/// A generator of numbers (SplitMix64): the same seed, the same schedule, on any machine.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        let place = self.roll(all.len() as u64);
        all[usize::try_from(place).unwrap_or(0)]
    }

    fn up_to(&mut self, most: Duration) -> Duration {
        let millis = u64::try_from(most.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(self.roll(millis))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_schedule() {
        assert_eq!(words(&schedule(7)), words(&schedule(7)));
        assert_ne!(words(&schedule(7)), words(&schedule(8)));
    }
}

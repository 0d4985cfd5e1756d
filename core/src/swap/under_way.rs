//! Which actions of a berth may be under way together.
//!
//! It keeps true: never two that concern the same slot, or the same revision: what is being started is
//! not stopped meanwhile, and an address or a name has one holder. It does not know how an action is done.

use crate::guard::{Guard, guard};
use crate::route::Slot;
use crate::swap::event::{Action, Want};

/// Whose turn an action takes. Of each there is one, and none waits for another, unless both are about the
/// same slot or revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// What should run in a slot is kept running.
    Upkeep(Slot),
    /// The step of the open swap, and what is tidied up.
    Step,
}

impl Lane {
    /// All, in the order in which they are looked at: what should run comes before the step.
    pub const ALL: [Self; 3] = [
        Self::Upkeep(Slot::Blue),
        Self::Upkeep(Slot::Green),
        Self::Step,
    ];
}

/// The actions of a berth that are under way. An image that is being had holds up nobody: it is not
/// among them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnderWay(Vec<(Lane, Action)>);

impl UnderWay {
    /// What is wanted in this lane, when it can begin now.
    #[must_use]
    pub fn next(&self, want: &Want, lane: Lane) -> Option<Action> {
        let wanted = match lane {
            Lane::Upkeep(slot) => {
                let mut upkeep = want.upkeep.iter();
                let in_slot =
                    |action: &&Action| action.concerns().is_some_and(|(at, _)| at == slot);
                *upkeep.find(in_slot)?
            }
            Lane::Step => want.step?,
        };
        if matches!(wanted, Action::Fetch { .. }) {
            return Some(wanted);
        }
        let free = self.0.iter().all(|(taken, _)| *taken != lane);
        let apart = self.actions().all(|action| are_apart(action, wanted));
        (free && guard(Guard::ApartWhileUnderWay, apart)).then_some(wanted)
    }

    /// It has begun.
    pub fn began(&mut self, lane: Lane, action: Action) {
        if !matches!(action, Action::Fetch { .. }) {
            self.0.push((lane, action));
        }
    }

    /// It is over.
    pub fn ended(&mut self, action: Action) {
        self.0.retain(|(_, under_way)| *under_way != action);
    }

    /// All of them.
    pub fn actions(&self) -> impl Iterator<Item = Action> {
        self.0.iter().map(|(_, action)| *action)
    }
}

/// Whether two actions concern nothing in common.
fn are_apart(one: Action, other: Action) -> bool {
    match (one.concerns(), other.concerns()) {
        (Some((slot, revision)), Some((other_slot, other_revision))) => {
            slot != other_slot && revision != other_revision
        }
        (None, _) | (_, None) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::RevisionNumber;
    use crate::route::Route;

    const BLUE: Lane = Lane::Upkeep(Slot::Blue);
    const GREEN: Lane = Lane::Upkeep(Slot::Green);

    fn revision(n: u64) -> RevisionNumber {
        RevisionNumber::new(n).expect("a revision")
    }

    fn start(slot: Slot, n: u64) -> Action {
        let revision = revision(n);
        Action::Start { slot, revision }
    }

    fn want(upkeep: &[Action], step: Action) -> Want {
        Want {
            upkeep: upkeep.to_vec(),
            step: Some(step),
            ..Want::default()
        }
    }

    #[test]
    fn p7_a_restart_waits_for_nothing_but_what_concerns_its_slot_or_revision() {
        let (serves, next) = (start(Slot::Blue, 1), start(Slot::Green, 2));
        let mut under_way = UnderWay::default();
        under_way.began(Lane::Step, next);
        let both = want(&[serves, next], next);
        assert_eq!(under_way.next(&both, BLUE), Some(serves));
        assert_eq!(under_way.next(&both, GREEN), None, "its slot");
        assert_eq!(under_way.next(&both, Lane::Step), None, "its lane");
        // One side's restart holds up no other's.
        under_way.ended(next);
        under_way.began(GREEN, next);
        assert_eq!(under_way.next(&both, BLUE), Some(serves));
        // What is being started is not stopped, nor is another one of its slot: the address is the slot's.
        for n in [2, 3] {
            let stop = Action::Stop {
                slot: Slot::Green,
                revision: revision(n),
            };
            assert_eq!(under_way.next(&want(&[], stop), Lane::Step), None);
        }
        // Names are the revision's.
        let left_over = Action::Remove {
            slot: Slot::Blue,
            revision: revision(2),
        };
        assert_eq!(under_way.next(&want(&[], left_over), Lane::Step), None);
        under_way.ended(next);
        let begins = under_way.next(&want(&[], left_over), Lane::Step);
        assert_eq!(begins, Some(left_over));
    }

    #[test]
    fn what_concerns_no_container_waits_for_its_own_lane_alone() {
        let (restart, next) = (start(Slot::Blue, 1), start(Slot::Green, 2));
        let prove = Action::Prove(Route::Alone(Slot::Blue));
        let mut under_way = UnderWay::default();
        under_way.began(BLUE, restart);
        let proof = want(&[restart], prove);
        assert_eq!(under_way.next(&proof, Lane::Step), Some(prove));
        under_way.began(Lane::Step, next);
        assert_eq!(under_way.next(&proof, Lane::Step), None);
        // An image waits for nothing, and nothing for it.
        let fetch = Action::Fetch {
            revision: revision(2),
        };
        let image = want(&[restart], fetch);
        assert_eq!(under_way.next(&image, Lane::Step), Some(fetch));
        under_way.began(Lane::Step, fetch);
        assert_eq!(under_way.actions().collect::<Vec<_>>(), [restart, next]);
    }
}

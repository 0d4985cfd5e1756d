//! Where a berth stands between two swaps, in one piece, so that a journal need
//! not keep every fact for ever.

use crate::generation::Generation;
use crate::name::ServiceId;
use crate::route::{Route, Slot};
use crate::swap::berth::{Berth, Ended, Hang, Settled};
use crate::swap::event::Incarnation;

/// All that is kept of a berth that has no open swap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The service.
    pub service: ServiceId,
    /// The current revision.
    pub current: Option<Settled>,
    /// Ended revisions whose containers are kept, the newest first.
    pub parked: Vec<Settled>,
    /// The highest generation seen.
    pub fence: Generation,
    /// What nginx was told.
    pub route: Route,
    /// Which life of which replica has passed.
    pub passed: Vec<(Slot, u32, Incarnation)>,
    /// Which life of which replica hung, and has not passed again.
    pub hung: Vec<(Slot, u32, Hang)>,
    /// How the last swap ended.
    pub last: Option<Ended>,
    /// A person on the host said that nothing moves by itself.
    pub hold: bool,
}

impl Berth {
    /// Where it stands; `None` while a swap is open: then its facts say more.
    #[must_use]
    pub fn summary(&self) -> Option<Summary> {
        self.swap.is_none().then(|| Summary {
            service: self.service.clone(),
            current: self.current.clone(),
            parked: self.parked.clone(),
            fence: self.fence,
            route: self.route,
            passed: self
                .passed
                .iter()
                .map(|((slot, replica), life)| (*slot, *replica, *life))
                .collect(),
            hung: self
                .hung
                .iter()
                .map(|((slot, replica), hang)| (*slot, *replica, hang.clone()))
                .collect(),
            last: self.last.clone(),
            hold: self.hold,
        })
    }

    /// The berth that stood so.
    #[must_use]
    pub fn resume(summary: Summary) -> Self {
        let Summary {
            service,
            current,
            parked,
            fence,
            route,
            passed,
            hung,
            last,
            hold,
        } = summary;
        let mut berth = Self::new(service);
        berth.current = current;
        berth.parked = parked;
        berth.fence = fence;
        berth.route = route;
        berth.passed = passed
            .into_iter()
            .map(|(slot, replica, life)| ((slot, replica), life))
            .collect();
        berth.hung = hung
            .into_iter()
            .map(|(slot, replica, hang)| ((slot, replica), hang))
            .collect();
        berth.last = last;
        berth.hold = hold;
        berth
    }
}

//! Whom a wake concerns, and when the loop must wake by itself.
//!
//! A host with many services hears of one of them at a time, most of all that it is well. Kept true: what changes facts,
//! what is due and, every few seconds, whatever else is looked after for all berths; only a sample of which no fact
//! follows concerns its own berth alone.

use std::collections::BTreeSet;

use cutover_core::{Moment, ServiceId};

use crate::helm::post::Post;
use crate::helm::wake::Wake;
use crate::helm::{HEARTBEAT, Helm, SAVE_AGAIN, Trial};

/// The berths that are to be looked after.
#[derive(Debug, Default)]
pub(super) struct Touched {
    all: bool,
    some: BTreeSet<ServiceId>,
}

impl Touched {
    pub(super) fn all(&mut self) {
        self.all = true;
    }

    pub(super) fn by(&mut self, wake: &Wake) {
        if let Wake::Sampled(sampled) = wake {
            self.some.insert(sampled.service.clone());
        } else {
            self.all();
        }
    }
}

/// Whom the loop looks after now.
pub(super) struct Round {
    pub(super) services: Vec<ServiceId>,
    /// It is all of them, and what belongs to none.
    pub(super) whole: bool,
}

impl Helm {
    /// Takes up all that was touched, or all that there is.
    pub(super) fn round(&mut self, now: Moment) -> Round {
        let touched = std::mem::take(&mut self.touched);
        let whole = touched.all || self.next_wake() <= now;
        if whole {
            self.whole_at = now + HEARTBEAT;
        }
        let services = if whole {
            self.posts.keys().cloned().collect()
        } else {
            touched.some.into_iter().collect()
        };
        Round { services, whole }
    }

    /// When the loop must wake by itself, as far as was known after the last round.
    pub(super) fn next_wake(&self) -> Moment {
        let own = [
            self.counting,
            self.listing.at.filter(|_| !self.listing.busy),
            self.arrange_at,
        ];
        let posts = self.posts.values().map(|post| post.wakes_at);
        let all = own.into_iter().chain(posts).flatten();
        all.min().map_or(self.whole_at, |at| at.min(self.whole_at))
    }

    /// Notes when each of these must be looked after again though nothing happens to it.
    pub(super) fn note_wakes(&mut self, now: Moment, round: &Round) {
        // What was due has just been looked at: without any site there is nothing to tell, or to wake for.
        self.arrange_at = (self.arranging.is_none() && self.arranged.is_none())
            .then_some(self.arrange_after)
            .filter(|at| *at > now);
        if self.touched.all && !round.whole {
            // What was done for one came to concern all.
            self.whole_at = now;
        }
        for service in &round.services {
            let at = self.posts.get(service).and_then(|post| self.due(now, post));
            if let Some(post) = self.posts.get_mut(service) {
                post.wakes_at = at;
            }
        }
    }

    fn due(&self, now: Moment, post: &Post) -> Option<Moment> {
        let again = (post.owes || !post.unsaved.is_empty()).then(|| now + SAVE_AGAIN);
        let deadline = post.berth.deadline(now).map(|deadline| deadline.at);
        // Who does not run, or has no address, is asked nothing.
        let samples = post
            .samples
            .iter()
            .filter(|((slot, revision, replica), sample)| {
                let life = post.lives.get(&(*slot, *replica));
                let there = life.filter(|life| life.revision == *revision);
                !sample.asked && there.is_some_and(|life| life.address.is_some())
            })
            .map(|(_, sample)| sample.next)
            .min();
        let counting = post.berth.want(now).count.is_some() && !post.count.1;
        let report = self.report_due(post);
        let held = self.trial.holds(&post.berth).then(|| now + Trial::AGAIN);
        [
            held,
            again,
            deadline,
            samples,
            counting.then_some(post.count.0),
            report,
        ]
        .into_iter()
        .flatten()
        .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::helm::bed::{Bed, revision, service};
    use crate::helm::wake::Sampled;
    use crate::session::{LinkEvent, Reason};
    use cutover_core::Slot;
    use cutover_core::swap::{Event, Incarnation};

    fn sampled() -> Wake {
        Wake::Sampled(Sampled {
            service: service(),
            slot: Slot::Green,
            revision: revision(8),
            replica: 1,
            // Of a life that is over: nothing follows from it.
            incarnation: Incarnation(1),
            healthy: true,
            evidence: String::new(),
        })
    }

    fn quiet(now: Moment) -> Bed {
        let mut bed = Bed::new();
        bed.list(now, &[(7, Slot::Blue, false), (8, Slot::Green, true)]);
        // What was due at once is done.
        bed.helm.tend(now);
        bed
    }

    #[tokio::test]
    async fn a_sample_of_which_nothing_follows_concerns_its_own_berth_alone() {
        let now = Moment::from_millis(1000);
        let mut bed = quiet(now);
        assert!(bed.helm.round(now).services.is_empty(), "all is done");
        bed.helm.wake(now, sampled());
        let round = bed.helm.round(now);
        assert_eq!((round.services, round.whole), (vec![service()], false));
        bed.helm.wake(now, sampled());
        let gone = LinkEvent::Disconnected(Reason::ShuttingDown);
        bed.helm.wake(now, Wake::Link(gone));
        assert!(bed.helm.round(now).whole, "it concerns everybody");
    }

    #[tokio::test]
    async fn what_changes_facts_concerns_all() {
        let now = Moment::from_millis(1000);
        let mut bed = quiet(now);
        bed.helm.tell(now, &service(), Event::HoldAsked(true));
        assert!(bed.helm.round(now).whole);
        bed.helm.tell(now, &service(), Event::HoldAsked(true));
        assert!(!bed.helm.round(now).whole, "it is held already");
    }

    #[tokio::test]
    async fn samples_without_end_keep_the_loop_from_nothing_that_is_due() {
        let now = Moment::from_millis(1000);
        let mut bed = quiet(now);
        let due = bed.helm.next_wake();
        assert!(due > now && due <= now + HEARTBEAT);
        bed.helm.wake(due, sampled());
        assert!(bed.helm.round(due).whole);
    }

    #[tokio::test]
    async fn a_replica_that_does_not_run_is_not_waited_for() {
        let now = Moment::from_millis(1000);
        let mut bed = quiet(now);
        bed.list(now, &[(7, Slot::Blue, false), (8, Slot::Green, false)]);
        bed.helm.tend(now);
        assert!(bed.helm.next_wake() > now, "the loop would not rest");
    }
}

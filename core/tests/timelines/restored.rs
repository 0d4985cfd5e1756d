//! A coordinator that an old backup has set back: it learns what it forgot.

use cutover_core::Generation;
use cutover_core::rollout::{Event, Outcome};
use cutover_core::swap::Target;

use crate::bench::SERVING;
use crate::fleet::{Fleet, host, is, rolling};

const LATER: Generation = Generation {
    epoch: 1,
    number: 7,
};

#[test]
fn a_host_beyond_its_orders_generation_is_asked_again_above_it() {
    let mut fleet = Fleet::new(rolling(1));
    fleet.take();
    let report = fleet.report(1, LATER, None, Some(1));
    fleet.tell(Event::Reported(host(1), Box::new(report)));
    fleet.told(&["h1 ordered serving in 1.8"]);
}

#[test]
fn p12_a_swap_that_can_never_be_ends_where_the_host_is() {
    // It waited for ever for a swap that the host had ended long ago.
    let mut fleet = Fleet::new(rolling(1));
    fleet.says(1, is(SERVING));
    fleet.take();
    fleet.now += 1_000;
    let report = fleet.report(1, LATER, None, Some(2));
    fleet.tell(Event::Reported(host(1), Box::new(report)));
    fleet.told(&["h1 is committed", "wave 0 ended", "closed Committed"]);
}

#[test]
fn a_forgotten_swap_of_this_rollout_stands_as_if_it_had_been_ordered() {
    let mut fleet = Fleet::new(rolling(2));
    fleet.take();
    fleet.says_of(2, LATER, is(Target::Committed));
    fleet.told(&["h2 ordered committed in 1.7", "h2 is committed"]);
}

#[test]
fn p4_a_swap_from_before_this_rollout_is_another_coordinators_of_the_same_name() {
    // A copy of the coordinator had given its name to another rollout; this one took itself back at once.
    let mut fleet = Fleet::new(rolling(2));
    fleet.take();
    let before = Generation {
        epoch: 0,
        number: 7,
    };
    fleet.says_of(2, before, is(Target::Committed));
    fleet.told(&[]);
}

#[test]
fn p12_a_host_that_runs_what_nobody_asked_for_is_not_called_back() {
    let mut fleet = Fleet::new(rolling(2));
    let report = fleet.report(2, LATER, None, Some(2));
    fleet.tell(Event::Reported(host(2), Box::new(report)));
    fleet.tell(Event::AbortAsked("no".to_owned()));
    fleet.says(1, is(Target::Reverted));
    assert_eq!(fleet.rollout.outcome(), Some(Outcome::Mixed));
}

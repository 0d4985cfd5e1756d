//! A coordinator that an old backup has set back: it learns what it forgot.

use cutover_core::Generation;
use cutover_core::rollout::{Event, Fate, Outcome};
use cutover_core::swap::{Refusal, Target};

use crate::bench::SERVING;
use crate::fleet::{Fleet, host, is, rolling, sick};

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

/// It runs the candidate, and says so to an order that expects the incumbent.
fn refuses(fleet: &mut Fleet, n: u64) {
    let generation = fleet.generation(n).unwrap();
    let mut report = fleet.report(n, Generation::NONE, None, Some(2));
    report.refusal = Some(Refusal {
        generation,
        why: "@2 runs here, not @1".to_owned(),
    });
    fleet.tell(Event::Reported(host(n), Box::new(report)));
}

#[test]
fn p12_a_host_that_ran_it_already_is_where_it_shall_be() {
    let mut fleet = Fleet::new(rolling(2));
    fleet.take();
    refuses(&mut fleet, 1);
    fleet.told(&[
        "h1 ran it already",
        "wave 0 ended",
        "wave 1 began",
        "h2 ordered serving in 1.1",
    ]);
    assert_eq!(fleet.order(1), None);
    refuses(&mut fleet, 2);
    fleet.told(&["h2 ran it already", "wave 1 ended", "closed Committed"]);
}

#[test]
fn p2_a_rollback_leaves_alone_what_the_rollout_never_moved() {
    // It fell by its refusal, took the rollout back, and had the only revision that served retired.
    let mut fleet = Fleet::new(rolling(2));
    refuses(&mut fleet, 1);
    fleet.take();
    fleet.says(2, sick("it died"));
    fleet.told(&[
        "h2 fell: it died",
        "h2 is reverted",
        "rollback: h2: it died",
        "closed Mixed",
    ]);
    let view = fleet.rollout.view();
    assert_eq!(view.hosts[0].fate, Fate::There);
}

#[test]
fn p2_what_runs_there_after_a_swap_was_forbidden_is_not_undone() {
    // The fence says that the order back was heard; what runs was taken for this rollout's work.
    let mut fleet = Fleet::new(rolling(1));
    fleet.tell(Event::AbortAsked("no".to_owned()));
    fleet.take();
    let fenced = fleet.generation(1).unwrap();
    let report = fleet.report(1, fenced, None, Some(2));
    fleet.tell(Event::Reported(host(1), Box::new(report)));
    fleet.told(&["h1 ran it already", "closed Mixed"]);
}

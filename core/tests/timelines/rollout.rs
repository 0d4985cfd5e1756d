//! Over many hosts: waves, barrier, budget, decisions, rollback, people.

use std::time::Duration;

use cutover_core::rollout::{Event, Fate, Outcome, Rollout};
use cutover_core::spec::{CommitRule, OnFailure, Strategy};
use cutover_core::swap::Target;

use crate::bench::{SERVING, at, generation};
use crate::fleet::{Fleet, Says, host, is, plan, policy, rolling, sick, watched};

#[test]
fn rolling_goes_wave_by_wave() {
    let mut fleet = Fleet::new(rolling(2));
    fleet.told(&["wave 0 began", "h1 ordered serving in 1.1"]);
    fleet.says(1, is(Target::Prepared));
    fleet.says(1, is(SERVING));
    fleet.told(&["h1 is prepared", "h1 is serving"]);
    fleet.says(1, watched());
    fleet.told(&["commit decided: h1", "h1 ordered committed in 1.1"]);
    fleet.says(1, is(Target::Committed));
    fleet.told(&[
        "h1 is committed",
        "wave 0 ended",
        "wave 1 began",
        "h2 ordered serving in 1.1",
    ]);
    fleet.serves(2);
    fleet.says(2, is(Target::Committed));
    assert_eq!(fleet.rollout.outcome(), Some(Outcome::Committed));
}

#[test]
fn p6_the_next_wave_waits_until_this_one_has_settled() {
    let mut fleet = Fleet::new(plan(policy(Strategy::Rolling, 2), 4));
    fleet.serves(1);
    fleet.serves(2);
    fleet.says(1, is(Target::Committed));
    assert_eq!(fleet.target(3), None);
    fleet.says(2, is(Target::Committed));
    assert_eq!(fleet.target(3), Some(SERVING));
    assert_eq!(fleet.target(4), Some(SERVING));
}

#[test]
fn the_delay_between_waves_is_kept() {
    let mut slow = policy(Strategy::Rolling, 1);
    slow.delay = Duration::from_secs(10);
    let mut fleet = Fleet::new(plan(slow, 2));
    fleet.serves(1);
    fleet.says(1, is(Target::Committed));
    fleet.pass_time(9_999);
    assert_eq!(fleet.target(2), None);
    fleet.pass_time(1);
    assert_eq!(fleet.target(2), Some(SERVING));
}

#[test]
fn blue_green_serves_nowhere_before_all_are_prepared() {
    let mut fleet = Fleet::new(plan(policy(Strategy::BlueGreen, 0), 2));
    fleet.says(1, is(Target::Prepared));
    assert_eq!(fleet.target(1), Some(Target::Prepared));
    fleet.take();
    fleet.says(2, is(Target::Prepared));
    fleet.told(&[
        "h2 is prepared",
        "BarrierPassed",
        "h1 ordered serving in 1.1",
        "h2 ordered serving in 1.1",
    ]);
    fleet.serves(1);
    assert_eq!(fleet.target(1), Some(SERVING));
    fleet.take();
    fleet.serves(2);
    assert!(fleet.take().contains(&"commit decided: h1 h2".to_owned()));
}

#[test]
fn p7_the_barrier_is_passed_only_on_fresh_reports() {
    let mut fleet = Fleet::new(plan(policy(Strategy::BlueGreen, 0), 2));
    fleet.says(1, is(Target::Prepared));
    fleet.now += 5_001;
    fleet.says(2, is(Target::Prepared));
    assert_eq!(fleet.target(2), Some(Target::Prepared));
    fleet.says(1, is(Target::Prepared));
    assert_eq!(fleet.target(2), Some(SERVING));
}

#[test]
fn a_host_that_misses_the_barrier_takes_the_fleet_back() {
    let mut fleet = Fleet::new(plan(policy(Strategy::BlueGreen, 0), 2));
    fleet.says(1, is(Target::Prepared));
    fleet.take();
    fleet.pass_time(60_000);
    assert_eq!(fleet.take()[0], "h2 fell: not prepared within 60 s");
    assert_eq!(fleet.target(1), Some(Target::Reverted));
}

#[test]
fn one_sick_host_takes_all_back_when_the_budget_is_none() {
    let mut fleet = Fleet::new(rolling(3));
    fleet.serves(1);
    fleet.says(1, is(Target::Committed));
    fleet.take();
    fleet.says(2, sick("it died"));
    fleet.told(&[
        "h2 fell: it died",
        "h2 is reverted",
        "rollback: h2: it died",
        "h1 ordered serving in 1.2, counter",
    ]);
    fleet.says(1, watched());
    fleet.told(&["h1 is serving", "h1 ordered committed in 1.2, counter"]);
    fleet.says(1, is(Target::Committed));
    fleet.told(&["h1 is committed", "closed RolledBack"]);
}

#[test]
fn within_the_budget_the_others_go_on_and_the_outcome_says_mixed() {
    let mut lenient = policy(Strategy::Rolling, 1);
    lenient.failure_budget = 1;
    let mut fleet = Fleet::new(plan(lenient, 2));
    fleet.says(1, sick("it died"));
    fleet.serves(2);
    fleet.says(2, is(Target::Committed));
    assert_eq!(fleet.rollout.outcome(), Some(Outcome::Mixed));
}

#[test]
fn p12_no_failure_takes_a_decided_host_back() {
    // A host that fell after the decision took the others of its batch back.
    let mut fleet = Fleet::new(plan(policy(Strategy::Rolling, 2), 2));
    fleet.serves(1);
    fleet.serves(2);
    fleet.take();
    fleet.says(1, sick("it died"));
    fleet.told(&["h1 fell: it died", "h1 is reverted"]);
    fleet.says(2, is(Target::Committed));
    assert_eq!(fleet.rollout.outcome(), Some(Outcome::Mixed));
}

#[test]
fn p12_the_commit_waits_for_the_last_window() {
    let mut fleet = Fleet::new(plan(policy(Strategy::Rolling, 2), 2));
    fleet.serves(1);
    fleet.says(2, is(SERVING));
    fleet.take();
    fleet.says(1, watched());
    fleet.told(&[]);
    fleet.says(2, watched());
    assert_eq!(fleet.take()[0], "commit decided: h1 h2");
}

#[test]
fn p12_the_commit_is_not_decided_over_a_host_that_is_away() {
    let mut fleet = Fleet::new(plan(policy(Strategy::Rolling, 2), 2));
    fleet.serves(1);
    fleet.leaves(1);
    fleet.serves(2);
    assert_eq!(fleet.target(2), Some(SERVING));
    fleet.says(1, watched());
    assert_eq!(fleet.target(2), Some(Target::Committed));
}

#[test]
fn at_the_end_all_waves_commit_together() {
    let mut late = policy(Strategy::Rolling, 1);
    late.commit = CommitRule::AtEnd;
    let mut fleet = Fleet::new(plan(late, 2));
    fleet.serves(1);
    assert_eq!(fleet.target(1), Some(SERVING));
    fleet.serves(2);
    assert_eq!(
        (fleet.target(1), fleet.target(2)),
        (Some(Target::Committed), Some(Target::Committed))
    );
}

#[test]
fn a_commit_at_the_end_does_not_hang_on_a_last_wave_that_fell() {
    let mut late = policy(Strategy::Rolling, 1);
    late.commit = CommitRule::AtEnd;
    late.failure_budget = 1;
    let mut fleet = Fleet::new(plan(late, 2));
    fleet.serves(1);
    fleet.leaves(1);
    fleet.says(2, sick("it died"));
    fleet.take();
    fleet.says(1, watched());
    assert_eq!(fleet.take()[0], "commit decided: h1");
}

#[test]
fn every_wait_has_an_end_a_host_that_serves_and_leaves_falls() {
    let mut fleet = Fleet::new(rolling(1));
    fleet.says(1, is(SERVING));
    fleet.leaves(1);
    fleet.take();
    fleet.pass_time(89_999);
    fleet.told(&[]);
    fleet.pass_time(1);
    assert_eq!(
        fleet.take()[0],
        "h1 fell: not healthy and serving within 60 s: it is away"
    );
}

#[test]
fn a_host_that_is_away_at_its_commit_is_owing_and_keeps_its_order() {
    let mut fleet = Fleet::new(rolling(1));
    fleet.serves(1);
    fleet.leaves(1);
    fleet.take();
    fleet.pass_time(15_000);
    fleet.told(&["wave 0 ended", "closed Mixed"]);
    let view = fleet.rollout.view();
    assert!(view.hosts[0].owing);
    fleet.tell(Event::Heard {
        host: host(1),
        clock: at(1),
    });
    assert_eq!(
        fleet.order(1).map(|order| order.target),
        Some(Target::Committed)
    );
    fleet.says(1, is(Target::Committed));
    assert_eq!(fleet.order(1), None);
    assert_eq!(fleet.rollout.view().hosts[0].fate, Fate::Committed);
}

#[test]
fn p6_a_rollback_counter_swaps_a_wave_at_a_time() {
    let mut fleet = Fleet::new(rolling(3));
    for n in 1..=2 {
        fleet.serves(n);
        fleet.says(n, is(Target::Committed));
    }
    fleet.take();
    fleet.tell(Event::AbortAsked("no".to_owned()));
    fleet.says(3, is(Target::Reverted));
    let counters = |told: Vec<String>| told.iter().filter(|line| line.contains("counter")).count();
    assert_eq!(counters(fleet.take()), 1);
    fleet.serves(1);
    fleet.says(1, is(Target::Committed));
    assert!(
        fleet
            .take()
            .contains(&"h2 ordered serving in 1.2, counter".to_owned())
    );
    fleet.serves(2);
    fleet.says(2, is(Target::Committed));
    assert_eq!(fleet.rollout.outcome(), Some(Outcome::Aborted));
}

#[test]
fn a_held_rollout_waits_for_a_person_and_goes_on_past_what_was_forgiven() {
    let mut hold = policy(Strategy::Rolling, 1);
    hold.on_failure = OnFailure::Hold;
    let mut fleet = Fleet::new(plan(hold, 2));
    fleet.says(1, sick("it died"));
    assert!(fleet.take().contains(&"held: h1: it died".to_owned()));
    assert_eq!(fleet.rollout.view().waits[0].what, "a person: h1: it died");
    fleet.tell(Event::ResumeAsked);
    assert_eq!(fleet.target(2), Some(SERVING));
}

#[test]
fn a_paused_rollout_goes_no_further_and_says_so() {
    let mut fleet = Fleet::new(rolling(2));
    fleet.tell(Event::PauseAsked);
    fleet.serves(1);
    assert_eq!(fleet.target(1), Some(SERVING));
    assert_eq!(fleet.rollout.view().waits[0].what, "a person: it is paused");
    fleet.tell(Event::ResumeAsked);
    assert_eq!(fleet.target(1), Some(Target::Committed));
}

#[test]
fn p9_an_older_rollout_falls_silent_only_once_it_is_closed() {
    let mut fleet = Fleet::new(rolling(1));
    fleet.take();
    fleet.tell(Event::SupersedeAsked);
    fleet.told(&[]);
    fleet.tell(Event::AbortAsked("a newer one".to_owned()));
    fleet.says(1, is(Target::Reverted));
    fleet.tell(Event::SupersedeAsked);
    assert_eq!(fleet.take().last().map(String::as_str), Some("Superseded"));
    assert!(fleet.rollout.orders(fleet.moment()).is_empty());
}

#[test]
fn p12_a_report_of_another_generation_says_nothing() {
    let mut fleet = Fleet::new(rolling(1));
    fleet.take();
    fleet.says_of(1, generation(0), is(Target::Committed));
    assert_eq!(fleet.rollout.view().hosts[0].reached, None);
}

#[test]
fn p12_an_older_report_says_nothing() {
    let mut fleet = Fleet::new(rolling(1));
    fleet.now += 1_000;
    fleet.serves(1);
    fleet.now -= 20_000;
    fleet.take();
    fleet.says(
        1,
        Says {
            healthy: false,
            ..sick("long ago")
        },
    );
    fleet.told(&[]);
}

#[test]
fn p12_a_host_that_never_opened_its_swap_is_back_once_it_says_so() {
    let mut fleet = Fleet::new(rolling(1));
    fleet.tell(Event::AbortAsked("no".to_owned()));
    fleet.take();
    let report = fleet.report(1, generation(1), None, Some(1));
    fleet.tell(Event::Reported(host(1), Box::new(report)));
    fleet.told(&["h1 is reverted", "closed Aborted"]);
}

#[test]
fn nothing_to_do_is_done() {
    let mut fleet = Fleet::new(rolling(0));
    fleet.tell(Event::Ticked);
    fleet.told(&["closed Committed"]);
}

#[test]
fn a_restarted_coordinator_stands_where_it_stood() {
    let mut fleet = Fleet::new(rolling(2));
    fleet.serves(1);
    let again = Rollout::replay(fleet.rollout.plan().clone(), fleet.moment(), &fleet.facts);
    let (old, new) = (fleet.rollout.view(), again.view());
    assert_eq!(old.stage, new.stage);
    assert_eq!(old.hosts[0].target, new.hosts[0].target);
    assert!(
        again.orders(fleet.moment()).is_empty(),
        "no clock is known yet"
    );
}

#[test]
fn p6_a_host_that_was_given_up_and_serves_all_the_same_is_waited_for_again() {
    let mut fleet = Fleet::new(rolling(4));
    for n in 1..=3 {
        fleet.serves(n);
        fleet.says(n, is(Target::Committed));
    }
    fleet.says(4, sick("it died"));
    fleet.take();
    let on_its_way = Says {
        reached: None,
        healthy: false,
        ..is(SERVING)
    };
    fleet.says(1, on_its_way);
    fleet.pass_time(90_000);
    fleet.told(&["h2 ordered serving in 1.2, counter"]);
    // Its own window begins now: it took too long, and is not late because of that.
    fleet.pass_time(20_000);
    fleet.says(1, is(SERVING));
    fleet.serves(2);
    fleet.says(2, is(Target::Committed));
    let told = fleet.take();
    assert!(!told.iter().any(|line| line.starts_with("h3")), "{told:?}");
    fleet.says(1, watched());
    fleet.says(1, is(Target::Committed));
    let told = fleet.take();
    assert!(told.iter().any(|line| line.starts_with("h3")), "{told:?}");
}

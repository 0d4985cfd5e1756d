//! This host's own verdicts: reflexes, excuses, attempts, holds.

use cutover_core::swap::{Action, Event, Failure, Phase, SwapPlan, Target};
use cutover_core::{Route, Slot};

use crate::bench::{Bench, SERVING, at, change, plan, side};

fn one_to_two() -> SwapPlan {
    plan(1, change(side(1), side(2)))
}

#[test]
fn p2_a_candidate_that_dies_gives_its_traffic_back_at_once() {
    let mut bench = Bench::serving(&one_to_two());
    bench.obliging = false;
    let before = bench.now;
    bench.exits(Slot::Green, 2, 137);
    bench.told(&[
        "Sickened: replica 1 of @2 exited with code 137",
        "CutOver blue",
    ]);
    assert_eq!(bench.now, before);
    assert!(bench.berth.flips_first());
}

#[test]
fn p1_nothing_is_sent_to_a_process_that_is_gone_and_its_exit_code_is_waited_for() {
    let mut bench = Bench::serving(&one_to_two());
    bench.obliging = false;
    bench.vanishes(Slot::Green, 2);
    bench.told(&["CutOver blue"]);
    assert_eq!(bench.phase(), Some(Phase::Serving));
    bench.exits(Slot::Green, 2, 137);
    bench.told(&["Sickened: replica 1 of @2 exited with code 137"]);
}

#[test]
fn p1_an_incumbent_whose_process_is_gone_is_no_backup() {
    let mut bench = Bench::serving(&one_to_two());
    bench.vanishes(Slot::Blue, 1);
    assert_eq!(bench.route(), Route::Alone(Slot::Green));
    assert_eq!(bench.phase(), Some(Phase::Serving));
}

#[test]
fn a_candidate_whose_death_nobody_told_is_found_by_its_probes() {
    let mut bench = Bench::serving(&one_to_two());
    bench.sample(Slot::Green, false);
    bench.sample(Slot::Green, false);
    bench.told(&[]);
    bench.sample(Slot::Green, false);
    assert_eq!(bench.route(), Route::Alone(Slot::Blue));
}

#[test]
fn a_candidate_that_ends_before_anybody_sees_it_run_uses_up_its_restarts_one_by_one() {
    // It was started again without a pause and without end: none of its restarts was counted.
    let mut bench = Bench::running(&side(1));
    bench.stillborn = true;
    bench.order(&one_to_two(), SERVING);
    bench.order(&one_to_two(), SERVING);
    assert_eq!(bench.phase(), Some(Phase::Proving));
    bench.take();
    bench.pass_time(1_000);
    bench.told(&["> start green @2"]);
    bench.pass_time(1_999);
    bench.told(&[]);
    bench.pass_time(1);
    let told = bench.take();
    assert_eq!(
        told[..2],
        [
            "> start green @2",
            "Sickened: replica 1 of @2 exited with code 1"
        ]
    );
}

#[test]
fn a_candidate_that_never_lives_long_enough_to_be_asked_says_how_it_ended() {
    let mut candidate = side(2);
    candidate.restart.max_attempts = None;
    let plan = plan(1, change(side(1), candidate));
    let mut bench = Bench::running(&side(1));
    bench.stillborn = true;
    bench.order(&plan, SERVING);
    bench.order(&plan, SERVING);
    bench.pass_time(10_000);
    let told = bench.take();
    let why = "Sickened: @2 was not healthy within 10 s; replica 1 of @2 exited with code 1; restarted 3 times";
    assert!(told.iter().any(|line| line == why), "{told:#?}");
}

#[test]
fn p1_traffic_never_goes_back_onto_an_incumbent_that_is_not_healthy() {
    let mut bench = Bench::serving(&one_to_two());
    bench.obliging = false;
    bench.exits(Slot::Blue, 1, 1);
    bench.told(&["CutOver green"]);
    bench.exits(Slot::Green, 2, 1);
    assert_eq!(bench.phase(), Some(Phase::Returning));
    assert_eq!(bench.route(), Route::Alone(Slot::Green));
    bench.obliging = true;
    bench.pass_time(1_000);
    bench.pass(Slot::Blue);
    assert_eq!(bench.route(), Route::Alone(Slot::Blue));
}

#[test]
fn p1_an_incumbent_that_restarts_is_no_backup_until_it_has_passed() {
    let mut bench = Bench::serving(&one_to_two());
    bench.exits(Slot::Blue, 1, 1);
    assert_eq!(bench.route(), Route::Alone(Slot::Green));
    bench.pass_time(1_000);
    bench.sample(Slot::Blue, true);
    assert_eq!(bench.route(), Route::Alone(Slot::Green));
    bench.sample(Slot::Blue, true);
    assert_eq!(bench.route(), Route::Warm(Slot::Green));
}

#[test]
fn p7_deaths_with_the_engine_judge_nobody() {
    let mut bench = Bench::serving(&one_to_two());
    bench.restart_engine();
    assert_eq!(bench.phase(), Some(Phase::Serving));
    for _ in 0..5 {
        bench.sample(Slot::Green, false);
    }
    // Failed samples of what must pass again do not condemn it before its deadline.
    assert_eq!(bench.phase(), Some(Phase::Serving));
    bench.pass(Slot::Blue);
    bench.pass(Slot::Green);
    assert_eq!(bench.route(), Route::Warm(Slot::Green));
}

#[test]
fn p1_what_must_pass_again_gets_nothing_while_the_incumbent_can_serve() {
    // The candidate was started again in a slot that got requests.
    let mut bench = Bench::serving(&one_to_two());
    bench.restart_engine();
    bench.pass(Slot::Blue);
    assert_eq!(bench.route(), Route::Alone(Slot::Blue));
    bench.pass(Slot::Green);
    assert_eq!(bench.route(), Route::Warm(Slot::Green));
}

#[test]
fn what_is_not_healthy_again_in_time_goes_back() {
    let mut bench = Bench::serving(&one_to_two());
    bench.restart_engine();
    bench.pass(Slot::Blue);
    bench.take();
    bench.pass_time(10_000);
    assert_eq!(
        bench.take()[0],
        "Sickened: @2 was not healthy again within 10 s"
    );
}

#[test]
fn an_engine_that_stays_away_is_waited_for_so_long_and_no_longer() {
    let mut bench = Bench::serving(&one_to_two());
    bench.tell(Event::EngineLost);
    bench.pass_time(119_999);
    assert_eq!(bench.phase(), Some(Phase::Serving));
    bench.pass_time(1);
    assert!(
        bench
            .take()
            .contains(&"Sickened: the container engine stayed away".to_owned())
    );
}

#[test]
fn before_prepared_the_restart_policy_decides_how_often_it_is_tried() {
    let mut bench = Bench::running(&side(1));
    bench.order(&one_to_two(), Target::Prepared);
    for _ in 0..2 {
        bench.exits(Slot::Green, 2, 1);
        assert_eq!(bench.phase(), Some(Phase::Proving));
        bench.pass_time(2_500);
    }
    bench.take();
    bench.exits(Slot::Green, 2, 1);
    assert_eq!(
        bench.take()[0],
        "Sickened: replica 1 of @2 exited with code 1"
    );
}

#[test]
fn what_is_never_ready_goes_back_at_its_deadline_and_says_what_the_probe_said() {
    let mut bench = Bench::running(&side(1));
    bench.order(&one_to_two(), Target::Prepared);
    bench.sample(Slot::Green, false);
    bench.take();
    bench.pass_time(10_000);
    assert_eq!(
        bench.take()[0],
        "Sickened: @2 was not healthy within 10 s; the last probe said: 503"
    );
}

#[test]
fn a_failed_smoke_check_goes_back() {
    let mut two = side(2);
    two.smoke = true;
    let mut bench = Bench::running(&side(1));
    bench.order(&plan(1, change(side(1), two)), Target::Prepared);
    bench.obliging = false;
    bench.pass(Slot::Green);
    bench.fails(true, "connection refused");
    assert_eq!(bench.phase(), Some(Phase::Smoking));
    bench.now += 250;
    bench.fails(false, "/login answered 500");
    assert!(
        bench
            .take()
            .contains(&"Sickened: /login answered 500".to_owned())
    );
}

/// Serves, and its smoke checks are asked for through the listener.
fn checking() -> Bench {
    let mut two = side(2);
    two.smoke = true;
    let plan = plan(1, change(side(1), two));
    let mut bench = Bench::running(&side(1));
    bench.order(&plan, Target::Prepared);
    bench.pass(Slot::Green);
    assert_eq!(bench.phase(), Some(Phase::Prepared));
    bench.obliging = false;
    bench.order(&plan, SERVING);
    let prove = bench.step().expect("a proof");
    bench.tell(Event::Did(prove));
    assert_eq!(bench.phase(), Some(Phase::Checking));
    bench
}

#[test]
fn p7_a_smoke_check_that_fails_while_the_engine_is_away_judges_nobody() {
    // Found on real parts: dockerd restarted while a candidate was being checked, nginx answered
    // the check with 504, and a healthy release went back.
    let mut bench = checking();
    let asked = bench.step().expect("a smoke check");
    bench.tell(Event::EngineLost);
    assert_eq!(bench.step(), None);
    let failure = Failure {
        transient: false,
        reason: "/login answered 504".to_owned(),
    };
    bench.tell(Event::Failed(asked, failure));
    assert_eq!(bench.phase(), Some(Phase::Checking));
    bench.restart_engine();
    assert_ne!(
        bench.step(),
        Some(asked),
        "what must pass again is not asked"
    );
    bench.obliging = true;
    bench.look();
    bench.pass(Slot::Blue);
    bench.pass(Slot::Green);
    assert_eq!(bench.phase(), Some(Phase::Serving));
}

#[test]
fn until_it_is_prepared_a_candidate_that_dies_is_restarted_by_its_policy() {
    let mut two = side(2);
    two.smoke = true;
    let mut bench = Bench::running(&side(1));
    bench.order(&plan(1, change(side(1), two)), Target::Prepared);
    bench.obliging = false;
    bench.pass(Slot::Green);
    assert_eq!(bench.phase(), Some(Phase::Smoking));
    bench.exits(Slot::Green, 2, 137);
    assert_eq!(bench.phase(), Some(Phase::Smoking));
    bench.obliging = true;
    bench.pass_time(1_000);
    bench.pass(Slot::Green);
    assert_eq!(bench.phase(), Some(Phase::Prepared));
    // From here on its death is a verdict.
    bench.exits(Slot::Green, 2, 137);
    assert!(
        bench
            .take()
            .contains(&"Sickened: replica 1 of @2 exited with code 137".to_owned())
    );
}

#[test]
fn a_proxy_that_does_not_follow_takes_the_swap_back() {
    let plan = one_to_two();
    let mut bench = Bench::running(&side(1));
    bench.order(&plan, Target::Prepared);
    bench.pass(Slot::Green);
    bench.obliging = false;
    bench.order(&plan, SERVING);
    bench.fails(true, "the listener shows blue");
    bench.take();
    bench.pass_time(15_000);
    assert_eq!(
        bench.take()[0],
        "Sickened: nginx did not follow the changed route within 15 s: the listener shows blue"
    );
    assert_eq!(bench.route(), Route::Alone(Slot::Blue));
}

#[test]
fn held_by_hand_nothing_goes_back_by_itself() {
    let mut bench = Bench::serving(&one_to_two());
    bench.tell(Event::HoldAsked(true));
    bench.exits(Slot::Green, 2, 1);
    assert_eq!(bench.phase(), Some(Phase::Serving));
    bench.tell(Event::HoldAsked(false));
    assert_eq!(bench.route(), Route::Alone(Slot::Blue));
}

#[test]
fn a_revert_by_hand_needs_no_coordinator() {
    let mut bench = Bench::serving(&one_to_two());
    bench.tell(Event::RevertAsked);
    assert_eq!(bench.take()[0], "Sickened: reverted by hand on the host");
    assert_eq!(bench.route(), Route::Alone(Slot::Blue));
}

#[test]
fn p2_a_candidate_that_is_sick_at_the_word_to_commit_keeps_its_incumbent_warm() {
    let plan = one_to_two();
    let mut bench = Bench::serving(&plan);
    bench.pass_time(30_000);
    bench.tell(Event::EngineLost);
    bench.take();
    bench.order(&plan, Target::Committed);
    bench.told(&["Targeted committed"]);
    assert_eq!(bench.route(), Route::Warm(Slot::Green));
    bench.look();
    assert_eq!(bench.route(), Route::Alone(Slot::Green));
}

#[test]
fn a_late_answer_means_nothing() {
    let mut bench = Bench::serving(&one_to_two());
    bench.tell(Event::Did(cutover_core::swap::Action::Stop {
        slot: Slot::Blue,
        revision: crate::bench::revision(1),
    }));
    bench.told(&[]);
    assert_eq!(bench.step(), None);
}

#[test]
fn p7_an_incumbent_that_hangs_on_the_way_back_is_started_again_until_it_is_well() {
    // Nobody touched it: what had died kept the route, and nobody served.
    let mut bench = Bench::serving(&plan(1, change(side(1), side(2))));
    for _ in 0..3 {
        bench.sample(Slot::Blue, false);
    }
    bench.exits(Slot::Green, 2, 1);
    bench.told(&[
        "CutOver green",
        "Sickened: replica 1 of @2 exited with code 1",
        "Hung blue 1: it failed 3 checks in a row: 503",
        "> halt blue @1 1",
    ]);
    let waits = bench.berth.waits_for(at(bench.now)).unwrap();
    assert_eq!(
        (waits.at, waits.what),
        (
            at(bench.now + 1_000),
            "the incumbent to be healthy: it is started again until it is"
        )
    );
    bench.pass_time(1_000);
    bench.told(&["> start blue @1"]);
    // It does not pass in time: again, after a longer wait.
    bench.pass_time(10_000);
    bench.told(&[
        "Hung blue 1: it was not healthy within 10 s",
        "> halt blue @1 1",
    ]);
    bench.pass_time(1_999);
    bench.told(&[]);
    bench.pass_time(1);
    bench.told(&["> start blue @1"]);
    bench.pass(Slot::Blue);
    assert_eq!(bench.take()[..2], ["Passed blue 1", "CutOver blue"]);
}

#[test]
fn an_incumbent_that_hangs_is_left_alone_while_the_candidate_serves() {
    let mut bench = Bench::serving(&plan(1, change(side(1), side(2))));
    for _ in 0..3 {
        bench.sample(Slot::Blue, false);
    }
    bench.take();
    bench.tell(Event::RevertAsked);
    bench.pass_time(60_000);
    bench.told(&["Sickened: reverted by hand on the host"]);
    assert_eq!(bench.route(), Route::Alone(Slot::Green));
    // Until that ceases to.
    for _ in 0..3 {
        bench.sample(Slot::Green, false);
    }
    bench.told(&[
        "Hung blue 1: it failed 3 checks in a row: 503",
        "> halt blue @1 1",
    ]);
    let watched = bench.berth.want(at(bench.now)).watch;
    assert_eq!(watched.len(), 2);
}

#[test]
fn a_halt_that_fails_keeps_no_proof_waiting() {
    let mut bench = Bench::serving(&one_to_two());
    bench.obliging = false;
    bench.exits(Slot::Green, 2, 1);
    let proof = Action::Prove(Route::Alone(Slot::Blue));
    assert_eq!(bench.step(), Some(proof));
    bench.tell(Event::Began(proof));
    // Nothing else serves: what traffic came back to is to be started again.
    bench.sample_one(Slot::Blue, 1, false, 3);
    let halt = bench.restart().expect("it hangs");
    bench.tell(Event::Began(halt));
    bench.take();
    bench.failed(halt, true, "no answer in time");
    bench.told(&[]);
    assert_eq!(bench.restart(), None, "it is asked again after a while");
    bench.tell(Event::Did(proof));
    bench.told(&["TrafficBack", "Emptied 0"]);
}

//! Stop-first: what must never run twice.

use cutover_core::spec::Order;
use cutover_core::swap::{Event, Incarnation, Kind, Phase, SeenState, SwapPlan, Target};
use cutover_core::{Route, Slot};

use crate::bench::{Bench, SERVING, at, change, plan, side};

fn recreate() -> SwapPlan {
    SwapPlan {
        order: Order::StopFirst,
        ..plan(1, change(side(1), side(2)))
    }
}

#[test]
fn recreate_stops_before_it_starts() {
    let plan = recreate();
    let mut bench = Bench::running(&side(1));
    bench.order(&plan, SERVING);
    bench.order(&plan, SERVING);
    bench.pass(Slot::Green);
    bench.told(&[
        "Opened in green",
        "Targeted serving",
        "> fetch @2",
        "Fetched",
        "> make green @2",
        "Made",
        "Advanced",
        "CutOver nobody",
        "> stop blue @1",
        "Stopped",
        "> start green @2",
        "Started",
        "Passed green 1",
        "Proved",
        "CutOver green",
        "> prove green",
        "RouteProved",
        "Confirmed",
    ]);
}

#[test]
fn a_candidate_that_dies_gives_its_place_back() {
    let plan = recreate();
    let mut bench = Bench::serving(&plan);
    bench.exits(Slot::Green, 2, 1);
    bench.told(&[
        "Sickened: replica 1 of @2 exited with code 1",
        "CutOver nobody",
        "> stop green @2",
        "Withdrawn",
        "> start blue @1",
    ]);
    bench.pass(Slot::Blue);
    bench.told(&[
        "Passed blue 1",
        "Revived",
        "CutOver blue",
        "> prove blue",
        "TrafficBack",
        "Emptied 0",
        "> remove green @2",
        "Reverted",
    ]);
}

#[test]
fn p2_a_half_done_stop_is_undone_as_if_it_were_done() {
    // A revert found the incumbent still running, took it for revived, and then the
    // stop that was under way ended it.
    let plan = recreate();
    let mut bench = Bench::running(&side(1));
    bench.order(&plan, Target::Prepared);
    bench.obliging = false;
    bench.order(&plan, SERVING);
    assert_eq!(bench.phase(), Some(Phase::Stopping));
    bench.order(&plan, Target::Reverted);
    bench.take();
    bench.obliging = true;
    bench
        .containers
        .insert((Slot::Blue, 1, 1), SeenState::Down(0));
    bench.look();
    assert!(bench.take().contains(&"> start blue @1".to_owned()));
    assert_eq!(bench.route(), Route::Nobody);
    bench.pass(Slot::Blue);
    assert_eq!(bench.route(), Route::Alone(Slot::Blue));
}

#[test]
fn p1_what_was_asked_to_stop_is_stopped_before_it_is_started_again() {
    // The agent died while the incumbent had its grace time. To start what still ran changed nothing;
    // it passed, got requests, and went with them.
    let plan = recreate();
    let mut bench = Bench::running(&side(1));
    bench.order(&plan, Target::Prepared);
    bench.obliging = false;
    bench.order(&plan, SERVING);
    assert_eq!(bench.phase(), Some(Phase::Stopping));
    bench.restart_agent(false);
    bench.look();
    bench.order(&plan, Target::Reverted);
    bench.pass(Slot::Blue);
    bench.take();
    bench.obliging = true;
    bench.look();
    bench.told(&[
        "> stop green @2",
        "Withdrawn",
        "> stop blue @1",
        "Stopped",
        "> start blue @1",
    ]);
    assert_eq!(bench.route(), Route::Nobody);
    // Once is enough: another agent finds it stopped.
    bench.restart_agent(false);
    bench.look();
    bench.told(&["> start blue @1"]);
    bench.pass(Slot::Blue);
    assert_eq!(bench.route(), Route::Alone(Slot::Blue));
}

#[test]
fn an_incumbent_that_will_not_start_is_tried_again_and_again() {
    let plan = recreate();
    let mut bench = Bench::serving(&plan);
    bench.obliging = false;
    bench.order(&plan, Target::Reverted);
    let stop = bench.step().unwrap();
    bench.perform(stop);
    bench.tell(Event::Did(stop));
    assert_eq!(bench.phase(), Some(Phase::Reviving));
    for _ in 0..10 {
        bench.fails(true, "no space left on device");
        assert_eq!(bench.step(), None);
        while bench.step().is_none() {
            let again = bench.berth.deadline(at(bench.now)).unwrap();
            bench.now = again.at.as_nanos() / 1_000_000;
        }
    }
    assert_eq!(bench.phase(), Some(Phase::Reviving));
    assert_eq!(bench.route(), Route::Nobody);
    let report = bench.berth.report(1, at(bench.now)).swap.unwrap();
    assert_eq!(report.trouble.as_deref(), Some("no space left on device"));
}

#[test]
fn a_lease_that_ends_while_nothing_runs_stops_nothing() {
    let plan = recreate();
    let mut bench = Bench::running(&side(1));
    bench.order_for(&plan, SERVING, 5_000);
    bench.order_for(&plan, SERVING, 5_000);
    assert_eq!(bench.phase(), Some(Phase::Proving));
    bench.pass_time(6_000);
    assert_eq!(bench.phase(), Some(Phase::Proving));
    bench.pass(Slot::Green);
    assert_eq!(bench.route(), Route::Alone(Slot::Green));
}

#[test]
fn an_incumbent_that_starts_and_never_passes_is_started_again() {
    let plan = recreate();
    let mut bench = Bench::serving(&plan);
    bench.exits(Slot::Green, 2, 1);
    bench.take();
    bench.pass_time(10_000);
    bench.told(&[
        "Hung blue 1: it was not healthy within 10 s",
        "> halt blue @1 1",
    ]);
    bench.pass_time(2_000);
    bench.told(&["> start blue @1"]);
    bench.pass(Slot::Blue);
    assert_eq!(bench.route(), Route::Alone(Slot::Blue));
}

#[test]
fn p9_a_candidate_that_comes_up_late_is_stopped_beside_the_incumbent() {
    // An engine did what an agent had asked for that was gone. It ran on until the end of the way back.
    let plan = recreate();
    let mut bench = Bench::serving(&plan);
    bench.order(&plan, Target::Reverted);
    assert_eq!(bench.phase(), Some(Phase::Reviving));
    bench.take();
    let late = SeenState::Up(Incarnation(99));
    bench.containers.insert((Slot::Green, 2, 1), late);
    bench.look();
    bench.told(&["> stop green @2"]);
    bench.pass(Slot::Blue);
    assert_eq!(bench.route(), Route::Alone(Slot::Blue));
}

#[test]
fn p7_what_ran_against_orders_has_its_time_to_pass() {
    // Nobody had probed it: it was said to hang as soon as it was awaited, and was stopped.
    let plan = recreate();
    let mut bench = Bench::serving(&plan);
    bench.obliging = false;
    let late = SeenState::Up(Incarnation(99));
    bench.containers.insert((Slot::Blue, 1, 1), late);
    bench.look();
    bench.pass_time(20_000);
    bench.order(&plan, Target::Reverted);
    bench.take();
    bench.obliging = true;
    bench.look();
    bench.told(&["> stop green @2", "Withdrawn", "> start blue @1"]);
    bench.pass_time(9_999);
    bench.told(&[]);
    bench.pass(Slot::Blue);
    assert_eq!(bench.route(), Route::Alone(Slot::Blue));
}

#[test]
fn p5_an_incumbent_that_can_not_be_stopped_takes_its_traffic_back() {
    let plan = recreate();
    let mut bench = Bench::running(&side(1));
    bench.order(&plan, Target::Prepared);
    bench.obliging = false;
    bench.order(&plan, SERVING);
    bench.fails(false, "permission denied");
    bench.order(&plan, Target::Reverted);
    let stop = bench.step().unwrap();
    bench.tell(Event::Did(stop));
    assert_eq!(bench.phase(), Some(Phase::Reviving));
    bench.pass(Slot::Blue);
    let waited = bench.berth.waits_for(at(bench.now)).unwrap();
    assert_eq!(waited.what, "the incumbent to stop");
    let end = waited.at.as_nanos() / 1_000_000;
    while bench.now < end {
        if bench.step().is_some() {
            bench.fails(false, "permission denied");
        }
        let next = bench.berth.deadline(at(bench.now)).unwrap();
        bench.now = next.at.as_nanos() / 1_000_000;
        bench.tell(Event::Ticked);
    }
    assert_eq!(bench.route(), Route::Nobody);
    bench.obliging = true;
    bench.pass_time(30_000);
    assert_eq!(bench.route(), Route::Alone(Slot::Blue));
}

#[test]
fn a_first_one_that_goes_back_is_not_stopped_before_its_route_was_proved() {
    let plan = SwapPlan {
        order: Order::StopFirst,
        ..plan(1, Kind::First { candidate: side(1) })
    };
    let mut bench = Bench::empty();
    bench.order(&plan, SERVING);
    bench.order(&plan, SERVING);
    bench.pass(Slot::Blue);
    assert_eq!(bench.phase(), Some(Phase::Serving));
    bench.take();
    bench.order(&plan, Target::Reverted);
    assert_eq!(bench.take()[1..3], ["CutOver nobody", "> prove nobody"]);
}

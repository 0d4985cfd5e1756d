//! Stop-first: what must never run twice.

use cutover_core::spec::Order;
use cutover_core::swap::{Event, Phase, SwapPlan, Target};
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
        .insert((Slot::Blue, 1, 1), cutover_core::swap::SeenState::Down(0));
    bench.look();
    assert!(bench.take().contains(&"> start blue @1".to_owned()));
    assert_eq!(bench.route(), Route::Nobody);
    bench.pass(Slot::Blue);
    assert_eq!(bench.route(), Route::Alone(Slot::Blue));
}

#[test]
fn an_incumbent_that_will_not_start_is_tried_again_and_again() {
    let plan = recreate();
    let mut bench = Bench::serving(&plan);
    bench.obliging = false;
    bench.order(&plan, Target::Reverted);
    let stop = bench.berth.want(at(bench.now)).act.unwrap();
    bench.perform(stop);
    bench.tell(Event::Did(stop));
    assert_eq!(bench.phase(), Some(Phase::Reviving));
    for _ in 0..10 {
        bench.fails(true, "no space left on device");
        assert_eq!(bench.berth.want(at(bench.now)).act, None);
        while bench.berth.want(at(bench.now)).act.is_none() {
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

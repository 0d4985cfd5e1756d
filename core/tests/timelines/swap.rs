//! The way forward: first, change, retire, a worker, weights, retention; orders and leases.

use std::time::Duration;

use cutover_core::spec::Order;
use cutover_core::swap::{Event, Kind, Phase, SwapOrder, SwapPlan, Target};
use cutover_core::{Route, Slot, Weight};

use crate::bench::{Bench, SERVING, at, change, generation, plan, side};

fn one_to_two() -> SwapPlan {
    plan(1, change(side(1), side(2)))
}

#[test]
fn a_change_goes_its_whole_way() {
    let plan = one_to_two();
    let mut bench = Bench::running(&side(1));
    bench.order(&plan, Target::Prepared);
    bench.told(&[
        "Opened in green",
        "> fetch @2",
        "Fetched",
        "> make green @2",
        "Made",
        "> start green @2",
        "Started",
    ]);
    bench.pass(Slot::Green);
    bench.told(&["Passed green 1", "Proved"]);
    bench.order(&plan, SERVING);
    bench.told(&[
        "Targeted serving",
        "Advanced",
        "CutOver green, blue warm",
        "> prove green, blue warm",
        "RouteProved",
        "Confirmed",
    ]);
    bench.pass_time(30_000);
    bench.told(&["Watched"]);
    bench.order(&plan, Target::Committed);
    bench.told(&[
        "Targeted committed",
        "Advanced",
        "CutOver green",
        "> prove green",
        "Cooled",
    ]);
    bench.pass_time(30_000);
    bench.told(&["Drained 0", "> stop blue @1", "Committed"]);
    assert_eq!(
        bench.berth.current().map(|now| now.side.revision.get()),
        Some(2)
    );
    assert_eq!(bench.berth.parked().len(), 1);
}

#[test]
fn p1_no_request_reaches_a_candidate_before_every_replica_has_passed() {
    let mut two = side(2);
    two.replicas = 2;
    let plan = plan(1, change(side(1), two));
    let mut bench = Bench::running(&side(1));
    bench.order(&plan, SERVING);
    bench.order(&plan, SERVING);
    bench.sample(Slot::Green, true);
    assert_eq!(bench.route(), Route::Alone(Slot::Blue));
    bench.sample(Slot::Green, true);
    assert_eq!(bench.route(), Route::Warm(Slot::Green));
}

#[test]
fn p1_a_replica_that_started_again_must_pass_again() {
    let plan = one_to_two();
    let mut bench = Bench::running(&side(1));
    bench.order(&plan, Target::Prepared);
    bench.sample(Slot::Green, true);
    bench.exits(Slot::Green, 2, 1);
    bench.pass_time(1_500);
    bench.take();
    bench.sample(Slot::Green, true);
    bench.told(&[]);
    bench.sample(Slot::Green, true);
    bench.told(&["Passed green 1", "Proved"]);
}

#[test]
fn p1_a_sample_of_an_older_life_proves_nothing() {
    let plan = one_to_two();
    let mut bench = Bench::running(&side(1));
    bench.order(&plan, Target::Prepared);
    for _ in 0..5 {
        bench.tell(Event::Sampled {
            slot: Slot::Green,
            replica: 1,
            incarnation: cutover_core::swap::Incarnation(999),
            healthy: true,
            evidence: String::new(),
        });
    }
    assert_eq!(bench.phase(), Some(Phase::Proving));
}

#[test]
fn p2_the_incumbent_is_not_stopped_before_its_drain_is_over() {
    let plan = one_to_two();
    let mut bench = Bench::serving(&plan);
    bench.pass_time(30_000);
    bench.order(&plan, Target::Committed);
    bench.take();
    bench.pass_time(10_000);
    bench.tell(Event::Counted {
        slot: Slot::Blue,
        open: 3,
    });
    bench.pass_time(19_999);
    bench.told(&[]);
    bench.pass_time(1);
    bench.told(&["Drained 3", "> stop blue @1", "Committed"]);
}

#[test]
fn p2_an_early_count_of_no_connections_is_not_believed() {
    let plan = one_to_two();
    let mut bench = Bench::serving(&plan);
    bench.pass_time(30_000);
    bench.order(&plan, Target::Committed);
    bench.take();
    bench.now += 499;
    bench.tell(Event::Counted {
        slot: Slot::Blue,
        open: 0,
    });
    bench.told(&[]);
    bench.now += 1;
    bench.tell(Event::Counted {
        slot: Slot::Blue,
        open: 0,
    });
    bench.told(&["Drained 0", "> stop blue @1", "Committed"]);
}

#[test]
fn p2_no_count_is_believed_while_the_candidate_does_not_answer() {
    // Sent before the route changed, a request found both of the candidate's replicas dead, and came to
    // an incumbent that was being stopped.
    let plan = one_to_two();
    let mut bench = Bench::serving(&plan);
    bench.pass_time(30_000);
    bench.order(&plan, Target::Committed);
    bench.exits(Slot::Green, 2, 1);
    bench.pass_time(1_000);
    bench.take();
    let none = Event::Counted {
        slot: Slot::Blue,
        open: 0,
    };
    bench.tell(none.clone());
    bench.told(&[]);
    bench.pass(Slot::Green);
    bench.take();
    bench.tell(none);
    bench.told(&["Drained 0", "> stop blue @1", "Committed"]);
}

#[test]
fn a_first_swap_begins_at_nobody_and_goes_back_to_nobody() {
    let plan = plan(1, Kind::First { candidate: side(1) });
    let mut bench = Bench::empty();
    bench.order(&plan, SERVING);
    bench.order(&plan, SERVING);
    bench.pass(Slot::Blue);
    assert_eq!(bench.route(), Route::Alone(Slot::Blue));
    bench.take();
    bench.order(&plan, Target::Reverted);
    bench.told(&[
        "Targeted reverted",
        "CutOver nobody",
        "> prove nobody",
        "TrafficBack",
    ]);
    bench.pass_time(30_000);
    bench.told(&["Emptied 0", "> remove blue @1", "Reverted"]);
    assert!(bench.berth.is_empty());
}

#[test]
fn a_retired_service_drains_before_it_stops() {
    let plan = plan(1, Kind::Retire { incumbent: side(1) });
    let mut bench = Bench::running(&side(1));
    bench.order(&plan, SERVING);
    bench.order(&plan, SERVING);
    bench.told(&[
        "Opened in green",
        "Targeted serving",
        "Advanced",
        "CutOver nobody",
        "> prove nobody",
        "RouteProved",
        "Confirmed",
    ]);
    bench.pass_time(30_000);
    bench.order(&plan, Target::Committed);
    bench.pass_time(30_000);
    bench.told(&[
        "Watched",
        "Targeted committed",
        "Advanced",
        "> prove nobody",
        "Cooled",
        "Drained 0",
        "> stop blue @1",
        "Committed",
    ]);
    assert_eq!(bench.berth.current(), None);
}

#[test]
fn a_worker_needs_no_proxy() {
    let worker = |n| {
        let mut side = side(n);
        side.traffic = false;
        side
    };
    let plan = SwapPlan {
        order: Order::StopFirst,
        ..plan(1, change(worker(1), worker(2)))
    };
    let mut bench = Bench::running(&worker(1));
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
        "> stop blue @1",
        "Stopped",
        "> start green @2",
        "Started",
        "Passed green 1",
        "Proved",
        "RouteProved",
        "Confirmed",
    ]);
    assert_eq!(bench.route(), Route::Nobody);
}

#[test]
fn a_canary_grows_step_by_step_and_commits_in_full() {
    let plan = one_to_two();
    let some = Target::Serving(Weight::new(20).unwrap());
    let mut bench = Bench::running(&side(1));
    bench.order(&plan, some);
    bench.order(&plan, some);
    bench.pass(Slot::Green);
    assert_eq!(bench.route().to_string(), "green 20 %, blue the rest");
    bench.pass_time(30_000);
    bench.take();
    bench.order(&plan, Target::Committed);
    bench.told(&[
        "Targeted committed",
        "Advanced",
        "CutOver green, blue warm",
        "> prove green, blue warm",
        "RouteProved",
        "Confirmed",
        "Advanced",
        "CutOver green",
        "> prove green",
        "Cooled",
    ]);
}

#[test]
fn what_retention_does_not_keep_is_removed_once_the_swap_is_over() {
    let mut bench = Bench::running(&side(1));
    for n in 1..=2 {
        let plan = plan(n, change(side(n), side(n + 1)));
        bench.order(&plan, SERVING);
        bench.order(&plan, SERVING);
        bench.pass(if n == 1 { Slot::Green } else { Slot::Blue });
        bench.pass_time(30_000);
        bench.order(&plan, Target::Committed);
        bench.pass_time(30_000);
    }
    let told = bench.take();
    assert_eq!(told[told.len() - 2..], ["> remove blue @1", "Discarded @1"]);
    assert_eq!(bench.berth.parked().len(), 1);
}

#[test]
fn p5_what_the_engine_makes_after_the_swap_is_over_is_removed() {
    // An engine answered too late: the container came after its removal, and stayed.
    let plan = one_to_two();
    let mut bench = Bench::running(&side(1));
    bench.order(&plan, Target::Prepared);
    bench.order(&plan, Target::Reverted);
    bench.take();
    bench
        .containers
        .insert((Slot::Green, 2, 1), cutover_core::swap::SeenState::Created);
    bench.look();
    bench.told(&["> remove green @2"]);
    bench
        .containers
        .insert((Slot::Green, 7, 1), cutover_core::swap::SeenState::Created);
    bench.look();
    bench.told(&[]);
}

#[test]
fn p4_an_order_counts_once_and_only_above_the_fence() {
    let plan = one_to_two();
    let mut bench = Bench::running(&side(1));
    bench.order(&plan, Target::Prepared);
    bench.take();
    bench.order(&plan, Target::Prepared);
    bench.told(&[]);
    bench.order(&plan, Target::Reverted);
    bench.take();
    bench.order(&plan, SERVING);
    bench.told(&[]);
    assert_eq!(bench.berth.fence(), generation(1));
}

#[test]
fn p4_an_order_without_a_plan_takes_back_whatever_is_open_below_it() {
    let mut bench = Bench::serving(&plan(3, change(side(1), side(2))));
    let revert = |number| {
        Event::Ordered(SwapOrder {
            plan: None,
            generation: generation(number),
            target: Target::Reverted,
            lease_until: at(0),
        })
    };
    bench.tell(revert(2));
    bench.told(&[]);
    bench.tell(revert(5));
    bench.told(&[
        "Fenced 1.5",
        "Targeted reverted",
        "CutOver blue",
        "> prove blue",
        "TrafficBack",
    ]);
    bench.tell(revert(4));
    bench.told(&[]);
}

#[test]
fn p4_an_order_that_may_never_open_is_answered_by_the_fence() {
    let mut bench = Bench::running(&side(1));
    bench.order(&plan(4, change(side(1), side(2))), Target::Reverted);
    bench.told(&["Fenced 1.4"]);
    bench.order(&plan(4, change(side(1), side(2))), Target::Prepared);
    bench.told(&[]);
}

#[test]
fn p7_what_is_prepared_goes_back_when_the_lease_ends() {
    let plan = one_to_two();
    let mut bench = Bench::running(&side(1));
    bench.order_for(&plan, Target::Prepared, 20_000);
    bench.pass(Slot::Green);
    bench.take();
    bench.pass_time(19_999);
    bench.told(&[]);
    bench.pass_time(1);
    bench.told(&[
        "Sickened: the coordinator was away for longer than the lease",
        "TrafficBack",
        "Emptied 0",
        "> remove green @2",
        "Reverted",
    ]);
}

#[test]
fn p7_what_serves_stays_when_the_lease_ends() {
    let plan = one_to_two();
    let mut bench = Bench::serving(&plan);
    bench.pass_time(3_600_000);
    bench.told(&["Watched"]);
    assert_eq!(bench.route(), Route::Warm(Slot::Green));
}

#[test]
fn p7_a_lease_that_ended_lets_nothing_be_cut_over() {
    let plan = one_to_two();
    let mut bench = Bench::running(&side(1));
    bench.order_for(&plan, Target::Prepared, 20_000);
    bench.pass(Slot::Green);
    bench.take();
    bench.now += 20_000;
    bench.order_for(&plan, SERVING, 0);
    assert_eq!(bench.route(), Route::Alone(Slot::Blue));
}

#[test]
fn p7_a_started_agent_waits_for_its_coordinator_before_it_gives_up() {
    // The lease is not stored: every restart of the agent reverted what was prepared.
    let plan = one_to_two();
    let mut bench = Bench::running(&side(1));
    bench.order(&plan, Target::Prepared);
    bench.pass(Slot::Green);
    bench.restart_agent(false);
    bench.look();
    bench.take();
    bench.pass_time(5_000);
    bench.told(&[]);
    bench.pass_time(6_000);
    assert_eq!(bench.phase(), None);
}

#[test]
fn p1_a_started_agent_moves_no_route_before_it_has_looked() {
    // It cut over to a candidate that a power cut had ended.
    let plan = one_to_two();
    let mut bench = Bench::serving(&plan);
    bench.restart_agent(true);
    bench.told(&["Rebooted"]);
    assert_eq!(bench.route(), Route::Warm(Slot::Green));
}

#[test]
fn a_plan_that_expects_another_revision_is_refused() {
    let mut bench = Bench::running(&side(1));
    bench.order(&plan(1, change(side(5), side(6))), Target::Prepared);
    bench.told(&[]);
    let report = bench.berth.report(1, at(bench.now));
    assert_eq!(report.refusal.unwrap().why, "@1 runs here, not @5");
}

#[test]
fn a_wait_names_its_end() {
    let plan = SwapPlan {
        observe: Duration::from_secs(9),
        ..one_to_two()
    };
    let bench = Bench::serving(&plan);
    let waits = bench.berth.waits_for(at(bench.now)).unwrap();
    assert_eq!((waits.what, waits.at), ("the observe window", at(9_000)));
}

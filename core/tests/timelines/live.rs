//! After commit: replicas that hang, crash or must pass again in a slot that serves.

use std::time::Duration;

use cutover_core::spec::{Order, RestartCondition, RestartPolicy};
use cutover_core::swap::{Action, Event, Incarnation, Phase, SeenState, Side, SwapPlan, Target};
use cutover_core::{Route, Slot};

use crate::bench::{Bench, SERVING, at, change, plan, revision, side};

/// Two replicas, watched after commit.
fn watched() -> Side {
    Side {
        replicas: 2,
        hangs_after: Some(3),
        ..side(1)
    }
}

fn alone() -> Side {
    Side {
        replicas: 1,
        ..watched()
    }
}

#[test]
fn p1_a_committed_replica_that_hangs_is_out_before_it_is_halted_and_until_it_passed() {
    let mut bench = Bench::running(&watched());
    bench.obliging = false;
    bench.sample_one(Slot::Blue, 2, false, 2);
    bench.told(&[]);
    assert_eq!(bench.out(), []);
    bench.sample_one(Slot::Blue, 2, false, 1);
    bench.told(&["Hung blue 2: it failed 3 checks in a row: 503"]);
    let want = bench.berth.want(at(bench.now));
    assert_eq!(bench.out(), [(Slot::Blue, 2)]);
    let halt = Action::Halt {
        slot: Slot::Blue,
        revision: revision(1),
        replica: 2,
    };
    assert_eq!(want.upkeep, [halt]);
    bench.obliging = true;
    bench.oblige();
    bench.told(&["> halt blue @1 2"]);
    bench.pass_time(999);
    bench.told(&[]);
    bench.pass_time(1);
    bench.told(&["> start blue @1"]);
    bench.sample_one(Slot::Blue, 2, true, 1);
    assert_eq!(bench.out(), [(Slot::Blue, 2)]);
    assert_eq!(
        bench.warnings(),
        ["replica 2 of @1 hangs and is started again: it failed 3 checks in a row: 503"]
    );
    bench.sample_one(Slot::Blue, 2, true, 1);
    bench.told(&["Passed blue 2"]);
    assert_eq!(bench.out(), []);
    assert_eq!(bench.warnings(), Vec::<String>::new());
    assert_eq!(bench.route(), Route::Alone(Slot::Blue));
}

#[test]
fn p1_a_sole_replica_that_was_started_again_is_said_to_answer_unproved() {
    let mut bench = Bench::running(&alone());
    bench.sample_one(Slot::Blue, 1, false, 3);
    bench.pass_time(1_000);
    bench.told(&[
        "Hung blue 1: it failed 3 checks in a row: 503",
        "> halt blue @1 1",
        "> start blue @1",
    ]);
    assert_eq!(bench.out(), []);
    assert!(bench.warnings().contains(
        &"replica 1 of @1 answers unproved: it was started again, and no other can take its requests"
            .to_owned()
    ));
    bench.pass(Slot::Blue);
    assert_eq!(bench.warnings(), Vec::<String>::new());
}

#[test]
fn what_hangs_again_waits_longer_each_time_and_no_more_often_than_its_policy_says() {
    let mut bench = Bench::running(&alone());
    for wait in [1_000, 2_000] {
        bench.sample_one(Slot::Blue, 1, false, 3);
        bench.pass_time(wait - 1);
        assert_eq!(bench.take().last().unwrap(), "> halt blue @1 1");
        bench.pass_time(1);
        assert_eq!(bench.take(), ["> start blue @1"]);
        bench.pass(Slot::Blue);
        bench.take();
    }
    bench.sample_one(Slot::Blue, 1, false, 9);
    bench.pass_time(30_000);
    bench.told(&[]);
    assert_eq!(
        bench.warnings(),
        ["replica 1 of @1 hangs, and its restarts are used up: 503"]
    );
    // Once it ran for the policy's window, it may be tried again.
    bench.pass_time(60_000);
    bench.sample_one(Slot::Blue, 1, false, 1);
    assert_eq!(bench.take().last().unwrap(), "> halt blue @1 1");
}

#[test]
fn p5_what_was_halted_is_started_again_though_the_agent_died_and_the_policy_says_no() {
    let mut hung = alone();
    hung.restart.condition = cutover_core::spec::RestartCondition::No;
    let mut bench = Bench::running(&hung);
    bench.obliging = false;
    bench.sample_one(Slot::Blue, 1, false, 3);
    bench.perform(bench.restart().unwrap());
    // Nobody heard that it was done.
    bench.restart_agent(false);
    bench.obliging = true;
    bench.take();
    bench.look();
    bench.pass_time(1_000);
    bench.told(&["> start blue @1"]);
}

#[test]
fn p5_that_something_hung_outlives_the_condensing_of_the_journal() {
    let mut bench = Bench::running(&alone());
    bench.obliging = false;
    bench.sample_one(Slot::Blue, 1, false, 3);
    let summary = bench.berth.summary().unwrap();
    let again = cutover_core::swap::Berth::resume(summary.clone());
    assert_eq!(again.summary(), Some(summary));
    assert_eq!(bench.berth.summary().unwrap().hung.len(), 1);
}

#[test]
fn p11_two_that_hang_are_halted_one_after_the_other() {
    let mut bench = Bench::running(&watched());
    bench.obliging = false;
    for replica in [1, 2] {
        bench.sample_one(Slot::Blue, replica, false, 3);
    }
    assert_eq!(bench.out(), []);
    bench.take();
    bench.obliging = true;
    bench.oblige();
    bench.told(&["> halt blue @1 1"]);
    bench.pass_time(1_000);
    bench.told(&["> start blue @1", "> halt blue @1 2"]);
}

#[test]
fn p1_one_that_crashed_is_out_until_it_passed_and_nobody_is_where_nobody_can_serve() {
    let mut bench = Bench::running(&watched());
    bench.exits_one(Slot::Blue, 1, 2, 1);
    assert_eq!(bench.out(), [(Slot::Blue, 2)]);
    bench.pass_time(1_000);
    bench.take();
    assert_eq!(bench.out(), [(Slot::Blue, 2)]);
    bench.exits_one(Slot::Blue, 1, 1, 1);
    assert_eq!(bench.out(), []);
    bench.sample_one(Slot::Blue, 2, true, 2);
    assert_eq!(bench.out(), [(Slot::Blue, 1)]);
}

#[test]
fn p7_nothing_is_halted_while_the_engine_is_away_a_person_holds_or_a_swap_is_open() {
    let mut bench = Bench::running(&watched());
    bench.tell(Event::EngineLost);
    bench.sample_one(Slot::Blue, 1, false, 5);
    bench.told(&[]);
    let mut bench = Bench::running(&watched());
    bench.tell(Event::HoldAsked(true));
    bench.take();
    bench.sample_one(Slot::Blue, 1, false, 5);
    bench.told(&[]);
    let mut bench = Bench::running(&watched());
    let mut next = watched();
    next.revision = revision(2);
    bench.order(&plan(1, change(watched(), next)), Target::Prepared);
    bench.take();
    bench.sample_one(Slot::Blue, 1, false, 5);
    bench.told(&[]);
    assert_eq!(bench.out(), [(Slot::Blue, 1)]);
}

#[test]
fn what_failed_readiness_before_the_commit_does_not_hang_by_it_after() {
    let mut next = alone();
    next.revision = revision(2);
    let mut bench = Bench::serving(&plan(1, change(alone(), next)));
    bench.pass_time(30_000);
    bench.order(&plan(1, change(alone(), bench_side())), Target::Committed);
    bench.sample_one(Slot::Green, 1, false, 2);
    bench.pass_time(35_000);
    assert_eq!(bench.phase(), None);
    bench.take();
    bench.sample_one(Slot::Green, 1, false, 2);
    bench.told(&[]);
    bench.sample_one(Slot::Green, 1, false, 1);
    assert_eq!(
        bench.take()[0],
        "Hung green 1: it failed 3 checks in a row: 503"
    );
}

fn bench_side() -> Side {
    Side {
        revision: revision(2),
        ..alone()
    }
}

#[test]
fn p1_what_is_out_stays_out_until_the_route_has_really_changed() {
    // A flip that failed left the old route, with the replica that had to pass again taken in.
    let mut next = watched();
    next.revision = revision(2);
    let order = plan(1, change(watched(), next));
    let mut bench = Bench::running(&watched());
    bench.order(&order, crate::bench::SERVING);
    bench.exits_one(Slot::Blue, 1, 1, 1);
    bench.sample_one(Slot::Green, 1, true, 2);
    bench.sample_one(Slot::Green, 2, true, 1);
    assert_eq!(bench.out(), [(Slot::Blue, 1)]);
    let SeenState::Up(incarnation) = bench.containers[&(Slot::Green, 2, 2)] else {
        panic!("it does not run")
    };
    let passes = Event::Sampled {
        slot: Slot::Green,
        replica: 2,
        incarnation,
        healthy: true,
        evidence: String::new(),
    };
    let _ = bench.berth.handle(at(bench.now), passes);
    let want = bench.berth.want(at(bench.now));
    assert_eq!(want.flip, Some(Route::Alone(Slot::Green)));
    assert_eq!(bench.out(), [(Slot::Blue, 1)]);
    bench.oblige();
    assert_eq!(bench.out(), []);
}

fn next_of(side: Side) -> Side {
    Side {
        revision: revision(2),
        ..side
    }
}

#[test]
fn p7_what_serves_is_started_again_while_its_successor_is_being_had() {
    // A sole replica died in the four minutes of a pull, and nobody served until it was over.
    let order = plan(1, change(alone(), next_of(alone())));
    let (fetch, start) = (
        Action::Fetch {
            revision: revision(2),
        },
        Action::Start {
            slot: Slot::Blue,
            revision: revision(1),
        },
    );
    let mut bench = Bench::running(&alone());
    bench.obliging = false;
    bench.order(&order, Target::Prepared);
    assert_eq!(bench.step(), Some(fetch));
    bench.exits(Slot::Blue, 1, 1);
    bench.pass_time(1_000);
    assert_eq!(bench.restart(), Some(start));
    assert_eq!(bench.step(), Some(fetch), "neither waits for the other");
    bench.take();
    // What was under way has come to its end all the same.
    bench.tell(Event::Did(fetch));
    bench.told(&["Fetched"]);
    assert_eq!(bench.restart(), Some(start));
}

#[test]
fn a_restart_that_fails_keeps_no_swap_waiting_and_condemns_no_candidate() {
    let order = plan(1, change(alone(), next_of(alone())));
    let mut bench = Bench::running(&alone());
    bench.obliging = false;
    bench.order(&order, Target::Prepared);
    bench.exits(Slot::Blue, 1, 1);
    bench.pass_time(1_000);
    bench.take();
    let start = bench.restart().expect("a restart");
    bench.failed(start, false, "no such image");
    bench.told(&[]);
    bench.obliging = true;
    bench.oblige();
    let told = bench.take();
    assert!(told.contains(&"> start green @2".to_owned()), "{told:?}");
}

#[test]
fn p7_a_committed_candidate_is_started_again_before_its_incumbent_is_parked() {
    let order = plan(1, change(alone(), next_of(alone())));
    let mut bench = Bench::serving(&order);
    bench.pass_time(30_000);
    bench.order(&order, Target::Committed);
    bench.pass_time(20_000);
    bench.obliging = false;
    bench.pass_time(10_000);
    assert_eq!(bench.phase(), Some(Phase::Parking));
    bench.exits(Slot::Green, 2, 1);
    bench.pass_time(1_000);
    let start = Action::Start {
        slot: Slot::Green,
        revision: revision(2),
    };
    assert_eq!(bench.restart(), Some(start));
}

#[test]
fn p7_what_serves_is_started_again_while_its_successor_starts() {
    // Found on real parts: a start took the engine two seconds, and what alone answered was killed meanwhile.
    let order = plan(1, change(alone(), next_of(alone())));
    let mut bench = Bench::running(&alone());
    bench.obliging = false;
    bench.order(&order, Target::Prepared);
    while bench.phase() != Some(Phase::Starting) {
        let step = bench.step().expect("a step");
        bench.perform(step);
        bench.look();
        bench.tell(Event::Did(step));
    }
    let next = bench.step().expect("its start");
    bench.tell(Event::Began(next));
    bench.exits(Slot::Blue, 1, 1);
    bench.pass_time(1_000);
    let start = bench.restart().expect("a restart");
    bench.tell(Event::Began(start));
    // Neither answer is taken for the other's, whatever was read meanwhile.
    bench.take();
    bench.tell(Event::Did(start));
    bench.told(&[]);
    bench.perform(start);
    bench.perform(next);
    bench.look();
    bench.tell(Event::Did(next));
    bench.told(&["Started"]);
}

#[test]
fn a_changed_route_is_proved_while_an_incumbent_is_started_again() {
    // A start may be slow, and nginx has fifteen seconds to follow: a healthy candidate was called sick.
    let order = plan(1, change(alone(), next_of(alone())));
    let mut bench = Bench::running(&alone());
    bench.order(&order, Target::Prepared);
    bench.pass(Slot::Green);
    bench.pass(Slot::Green);
    assert_eq!(bench.phase(), Some(Phase::Prepared));
    bench.obliging = false;
    bench.exits(Slot::Blue, 1, 1);
    bench.pass_time(1_000);
    let start = bench.restart().expect("a restart");
    bench.tell(Event::Began(start));
    bench.order(&order, SERVING);
    assert_eq!(bench.phase(), Some(Phase::Cutting));
    let prove = Action::Prove(bench.berth.route());
    assert_eq!(bench.step(), Some(prove));
    // That start excuses nothing.
    bench.tell(Event::Began(prove));
    bench.fails(true, "the listener shows blue");
    bench.pass_time(14_999);
    assert_eq!(bench.phase(), Some(Phase::Cutting));
    bench.pass_time(1);
    assert_eq!(bench.phase(), Some(Phase::Returning));
}

#[test]
fn p7_what_keeps_the_step_from_beginning_is_not_held_against_the_candidate() {
    // What is being started can't be stopped yet.
    let order = SwapPlan {
        order: Order::StopFirst,
        ..plan(1, change(alone(), next_of(alone())))
    };
    let mut bench = Bench::running(&alone());
    bench.order(&order, Target::Prepared);
    bench.obliging = false;
    bench.exits(Slot::Blue, 1, 1);
    bench.pass_time(1_000);
    let start = bench.restart().expect("a restart");
    bench.tell(Event::Began(start));
    bench.order(&order, SERVING);
    bench.pass_time(50_000);
    bench.perform(start);
    bench.look();
    bench.tell(Event::Did(start));
    // From now on it has its time, and no more.
    bench.order(&order, SERVING);
    bench.pass_time(64_999);
    assert_eq!(bench.phase(), Some(Phase::Stopping));
    bench.take();
    bench.pass_time(1);
    let told = bench.take();
    assert_eq!(told[0], "Sickened: the incumbent did not stop within 65 s");

    // So is what is tidied up first: what came back of an ended candidate has the slot.
    let mut bench = Bench::serving(&order);
    bench.order(&order, Target::Reverted);
    bench.pass(Slot::Blue);
    assert_eq!(bench.phase(), None);
    bench.obliging = false;
    let three = Side {
        revision: revision(3),
        ..alone()
    };
    let order = plan(2, change(alone(), three));
    bench.order_for(&order, Target::Prepared, 600_000);
    let fetch = bench.step().expect("a step");
    bench.tell(Event::Did(fetch));
    assert_eq!(bench.phase(), Some(Phase::Making));
    let life = SeenState::Up(Incarnation(99));
    bench.containers.insert((Slot::Green, 2, 1), life);
    bench.look();
    let remove = bench.step().expect("it is removed");
    bench.tell(Event::Began(remove));
    bench.pass_time(30_000);
    bench.perform(remove);
    bench.look();
    bench.tell(Event::Did(remove));
    bench.pass_time(119_999);
    assert_eq!(bench.phase(), Some(Phase::Making));
    bench.take();
    bench.pass_time(1);
    let told = bench.take();
    assert_eq!(
        told[0],
        "Sickened: the containers could not be made within 120 s"
    );
}

#[test]
fn p7_one_sides_restart_keeps_the_other_side_waiting_neither_by_its_time_nor_by_failing() {
    let stubborn = Side {
        within: Duration::from_secs(600),
        restart: RestartPolicy {
            max_attempts: None,
            ..alone().restart
        },
        ..next_of(alone())
    };
    let order = plan(1, change(alone(), stubborn));
    let mut bench = Bench::running(&alone());
    bench.order_for(&order, Target::Prepared, 600_000);
    assert_eq!(bench.phase(), Some(Phase::Proving));
    bench.obliging = false;
    bench.exits(Slot::Green, 2, 1);
    let next = Action::Start {
        slot: Slot::Green,
        revision: revision(2),
    };
    for _ in 0..6 {
        bench.pass_time(30_000);
        bench.failed(next, true, "no space left on device");
    }
    bench.exits(Slot::Blue, 1, 1);
    bench.pass_time(1_000);
    let start = Action::Start {
        slot: Slot::Blue,
        revision: revision(1),
    };
    assert_eq!(bench.restart(), Some(start), "the other one has failed");
    bench.pass_time(30_000);
    assert_eq!(bench.upkeep(), [start, next]);
}

/// Two replicas, never started again by their policy; the second one hangs, and is about to be halted.
fn hanging() -> (Bench, Side, Action) {
    let side = Side {
        restart: RestartPolicy {
            condition: RestartCondition::No,
            ..watched().restart
        },
        ..watched()
    };
    let mut bench = Bench::running(&side);
    bench.obliging = false;
    bench.sample_one(Slot::Blue, 2, false, 3);
    bench.take();
    let halt = bench.restart();
    (bench, side, halt.expect("it is to be halted"))
}

#[test]
fn p1_a_replica_that_is_being_halted_gets_no_requests_again_however_it_answers() {
    // A server that was told to stop may answer well until it is gone; requests went there again.
    let (mut bench, side, halt) = hanging();
    bench.tell(Event::Began(halt));
    // Not even where a swap began meanwhile, which has nothing halted by itself.
    let order = plan(1, change(side.clone(), next_of(side)));
    bench.order(&order, Target::Prepared);
    bench.pass_time(60_000);
    bench.take();
    bench.sample_one(Slot::Blue, 2, true, 5);
    bench.told(&[]);
    assert_eq!(bench.out(), [(Slot::Blue, 2)]);
    bench.exits_one(Slot::Blue, 1, 2, 0);
    bench.tell(Event::Did(halt));
    bench.pass_time(1_000);
    let start = Action::Start {
        slot: Slot::Blue,
        revision: revision(1),
    };
    let wanted = bench.restart();
    assert_eq!(wanted, Some(start), "whatever its policy says");
}

#[test]
fn what_comes_round_before_it_is_halted_is_let_be() {
    let (mut bench, _, _) = hanging();
    bench.sample_one(Slot::Blue, 2, true, 2);
    bench.told(&["Passed blue 2"]);
    assert_eq!(bench.out(), []);
}

#[test]
fn what_comes_round_after_a_halt_that_failed_is_not_halted_again_and_passes_in_time() {
    // An engine that failed may have asked it to stop, or may yet: for its grace time and three seconds.
    let (mut bench, _, halt) = hanging();
    bench.tell(Event::Began(halt));
    bench.failed(halt, true, "no answer in time");
    bench.sample_one(Slot::Blue, 2, true, 5);
    bench.pass_time(7_999);
    bench.told(&[]);
    let want = bench.berth.want(at(bench.now));
    assert_eq!(want.upkeep, [], "it answers well");
    bench.pass_time(1);
    bench.told(&["Passed blue 2"]);

    // One that vanished meanwhile has not.
    let (mut bench, _, halt) = hanging();
    bench.tell(Event::Began(halt));
    bench.failed(halt, true, "no answer in time");
    bench.sample_one(Slot::Blue, 2, true, 5);
    bench.vanishes_one(Slot::Blue, 1, 2);
    bench.pass_time(8_000);
    bench.told(&[]);
}

#[test]
fn p11_nothing_is_halted_beside_what_may_be_stopped_already() {
    let (mut bench, _, halt) = hanging();
    bench.tell(Event::Began(halt));
    bench.failed(halt, true, "no answer in time");
    // The second one answers again, the first one hangs: each slot keeps one that is left alone.
    bench.sample_one(Slot::Blue, 2, true, 5);
    bench.sample_one(Slot::Blue, 1, false, 3);
    let halts = Bench::restart;
    bench.pass_time(7_999);
    assert_eq!(halts(&bench), None);
    bench.pass_time(1);
    let first = Action::Halt {
        slot: Slot::Blue,
        revision: revision(1),
        replica: 1,
    };
    assert_eq!(halts(&bench), Some(first));

    // Where neither answers, the one comes first that was not tried yet.
    let mut bench = Bench::running(&watched());
    bench.obliging = false;
    bench.sample_one(Slot::Blue, 1, false, 3);
    assert_eq!(halts(&bench), Some(first));
    bench.tell(Event::Began(first));
    bench.failed(first, true, "no answer in time");
    bench.sample_one(Slot::Blue, 2, false, 3);
    bench.pass_time(8_000);
    assert_eq!(halts(&bench), Some(halt));
}

#[test]
fn p1_a_started_agent_believes_that_what_hung_is_being_stopped() {
    let (mut bench, _, _) = hanging();
    bench.restart_agent(false);
    bench.look();
    let want = bench.berth.want(at(bench.now));
    assert_eq!(want.upkeep, [], "it is asked first");
    bench.pass(Slot::Blue);
    bench.take();
    bench.sample_one(Slot::Blue, 2, true, 5);
    assert_eq!(bench.out(), [(Slot::Blue, 2)]);
    let deadline = bench.berth.deadline(at(bench.now)).map(|next| next.at);
    assert_eq!(deadline, Some(at(8_000)));
    bench.pass_time(7_999);
    bench.told(&[]);
    bench.pass_time(1);
    bench.told(&["Passed blue 2"]);
}

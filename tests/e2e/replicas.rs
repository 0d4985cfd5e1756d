//! After the commit: replicas that die, hang or are frozen, under load.

use std::time::{Duration, Instant};

use bollard::query_parameters::KillContainerOptions;
use cutover_tests::fleet::Fleet;
use cutover_tests::load::{FailureKind, Load, Running};
use cutover_tests::{image, root_or_skip, wait};
use serde_json::Value;

use crate::compose::{SHORT, web};

/// Requests a second at the door.
const RATE: f64 = 100.0;
/// For a replica to be started again and to pass.
const AGAIN: Duration = Duration::from_secs(40);
/// A container that is ready only so long after its start.
const READY_AFTER: &str = "4000";

/// Asked often, so that a hang is seen soon.
const LIVE: &str =
    "live: {http: /healthz, every: 300ms, timeout: 300ms, failures: 3, action: restart}\n";

async fn deployed(replicas: u32, tag: &str, environment: &[(&str, &str)], live: &str) -> Fleet {
    let fleet = Fleet::start(1).await;
    let image = image::custom(&fleet.engine, tag, environment).await;
    let text = web(&image, &format!("{SHORT}{live}"), "")
        .replace("replicas: 1", &format!("replicas: {replicas}"));
    fleet.ok(&["deploy", "-f", &fleet.compose("compose.yaml", &text)]);
    fleet
}

/// What `cutover ps` says of the container of this replica.
fn replica(fleet: &Fleet, number: u64) -> Value {
    let said = fleet.ok(&["ps", "-o", "json"]);
    let all: Vec<Value> = serde_json::from_str(&said).expect("ps prints an array");
    all.into_iter()
        .find(|one| one["replica"] == number && one["state"] != "exited 0")
        .unwrap_or_else(|| panic!("no replica {number} in {said}"))
}

async fn signal(fleet: &Fleet, number: u64, signal: &str) -> String {
    let name = replica(fleet, number)["name"]
        .as_str()
        .expect("a name")
        .to_owned();
    let options = KillContainerOptions {
        signal: signal.to_owned(),
    };
    fleet
        .engine
        .client()
        .kill_container(&name, Some(options))
        .await
        .expect("the container runs");
    name
}

fn proved(fleet: &Fleet) -> (u64, u64) {
    let said = fleet.ok(&["status", "-o", "json"]);
    let status: Value = serde_json::from_str(&said).expect("status prints an object");
    let host = &status["services"][0]["hosts"][0];
    let number = |name: &str| host[name].as_u64().expect("a number");
    (number("replicas_proved"), number("replicas_wanted"))
}

fn events(fleet: &Fleet) -> String {
    fleet.ok(&["events"])
}

async fn until_all_proved(fleet: &Fleet) {
    wait::until(AGAIN, "every replica to have passed", || {
        let (proved, wanted) = proved(fleet);
        async move { proved == wanted }
    })
    .await;
}

async fn until_event(fleet: &Fleet, words: &str) {
    wait::until(AGAIN, &format!("an event that says {words:?}"), || {
        let said = events(fleet);
        async move { said.contains(words).then_some(()).ok_or(said) }
    })
    .await;
}

fn health_load(fleet: &Fleet) -> Running {
    // What reaches a replica that is not ready yet is answered 503, and nginx passes that on.
    Load::new(fleet.hosts[0].door(), "shop.example")
        .path("/healthz")
        .keep_alive(8, RATE)
        .one_shot(RATE / 4.0)
        .start()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p1_a_killed_replica_gets_no_request_before_it_has_passed_again() {
    if !root_or_skip("p1_a_killed_replica_gets_no_request_before_it_has_passed_again") {
        return;
    }
    let environment = [("VERSION", "1"), ("READY_AFTER_MS", READY_AFTER)];
    let fleet = deployed(2, "late", &environment, "").await;
    let load = health_load(&fleet);
    let began = Instant::now();
    signal(&fleet, 2, "KILL").await;
    wait::until(AGAIN, "the death to be seen", || {
        let seen = proved(&fleet);
        async move { seen.0 == 1 }
    })
    .await;
    until_all_proved(&fleet).await;
    let took = began.elapsed();
    let tally = load.stop().await;
    println!("one of two killed, ready again after {took:?}: {tally}");
    assert!(
        took >= Duration::from_secs(4),
        "it can't have passed before it was ready"
    );
    assert_eq!(tally.failed_by(FailureKind::Status(503)), 0, "{tally}");
    // The answers that it was about to give were given by the other one.
    tally.assert_nothing_failed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p1_a_replica_that_hangs_after_the_commit_is_out_then_started_again() {
    if !root_or_skip("p1_a_replica_that_hangs_after_the_commit_is_out_then_started_again") {
        return;
    }
    let environment = [("VERSION", "1"), ("READY_AFTER_MS", READY_AFTER)];
    let fleet = deployed(2, "late", &environment, LIVE).await;
    let load = health_load(&fleet);
    // It still accepts, and answers nothing.
    signal(&fleet, 1, "STOP").await;
    until_event(&fleet, "hangs and is started again").await;
    until_all_proved(&fleet).await;
    let tally = load.stop().await;
    println!(
        "one of two hung: {tally}; 99 % within {:?}",
        tally.within(0.99)
    );
    assert_eq!(tally.failed_by(FailureKind::Status(503)), 0, "{tally}");
    tally.assert_nothing_failed();
    let warned = replica(&fleet, 1)["warnings"].clone();
    assert_eq!(warned, Value::Array(Vec::new()), "it is over");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p1_a_sole_replica_that_hangs_is_started_again_and_said_to_answer_unproved() {
    if !root_or_skip("p1_a_sole_replica_that_hangs_is_started_again_and_said_to_answer_unproved") {
        return;
    }
    let environment = [("VERSION", "1"), ("READY_AFTER_MS", READY_AFTER)];
    let fleet = deployed(1, "late", &environment, LIVE).await;
    signal(&fleet, 1, "STOP").await;
    until_event(&fleet, "answers unproved").await;
    until_all_proved(&fleet).await;
    let said = events(&fleet);
    println!("{said}");
    assert!(said.contains("failed 3 checks in a row"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_container_is_warned_of_in_ps_and_events_until_it_is_thawed() {
    if !root_or_skip("a_frozen_container_is_warned_of_in_ps_and_events_until_it_is_thawed") {
        return;
    }
    let fleet = deployed(1, "1", &[("VERSION", "1")], "").await;
    let name = replica(&fleet, 1)["name"]
        .as_str()
        .expect("a name")
        .to_owned();
    let client = fleet.engine.client();
    client.pause_container(&name).await.expect("it runs");
    let words = format!("{name} is frozen: what reaches it waits until the health deadline");
    until_event(&fleet, &words).await;
    let (_, said, _) = fleet.run(&["ps"]);
    assert!(said.contains(&words), "{said}");
    client.unpause_container(&name).await.expect("it is paused");
    wait::until(AGAIN, "ps to warn no more", || {
        let (_, said, _) = fleet.run(&["ps"]);
        async move { !said.contains("frozen") }
    })
    .await;
}

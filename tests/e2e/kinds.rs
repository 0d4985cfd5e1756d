//! Services that are not HTTP beside its successor: workers, recreate, raw TCP.

use std::time::Duration;

use bollard::query_parameters::InspectContainerOptions;
use cutover_tests::fleet::{Fleet, PORT};
use cutover_tests::load::{Kind, Load, Running, Tally};
use cutover_tests::{image, root_or_skip, wait};

use crate::compose::{SHORT, web};
use crate::look::{SOON, assert_all_answer, container, newest_rollout, wait_for_running};

/// TCP connections that stay.
const HELD: u64 = 4;
/// So long after the cutover they live at least: the observe window and the drain time, 2 s each, less what a client
/// needs to see the cutover.
const STAYS: Duration = Duration::from_millis(3500);

/// A lone worker: no ports, so that nothing of nginx is concerned.
fn worker(image: &str, environment: &str) -> String {
    format!(
        "name: shop\nservices:\n  web:\n    image: {image}\n    restart: unless-stopped\n    stop_grace_period: 2s\n\
         \x20   environment: {{MODE: worker{environment}}}\n\
         \x20   x-cutover:\n      ready: {{settle: 1s, every: 100ms, within: 15s}}\n      observe: 5s\n"
    )
}

pub(crate) fn tcp(image: &str, observe: &str) -> String {
    format!(
        "name: shop\nservices:\n  web:\n    image: {image}\n    restart: unless-stopped\n    stop_grace_period: 5s\n\
         \x20   environment: {{MODE: tcp}}\n\
         \x20   x-cutover:\n      traffic: [{{listen: {PORT}, port: 8080, protocol: tcp}}]\n\
         \x20     ready: {{every: 100ms, within: 15s, settle: 1s}}\n      drain: 2s\n      observe: {observe}\n"
    )
}

/// On each host: the old one ended cleanly before the new one began, and only the right one runs.
async fn assert_one_at_a_time(fleet: &Fleet, old: u64, new: u64) {
    for host in &fleet.hosts {
        let name = &host.name;
        let (old, new) = (
            container(fleet, name, old).await.expect("it is parked"),
            container(fleet, name, new).await.expect("it runs"),
        );
        assert!(new.runs() && !old.runs(), "{name}: {old:?} {new:?}");
        assert_eq!(
            old.state.exit_code,
            Some(0),
            "{name}: not by its stop signal"
        );
        assert!(
            old.finished() < new.started(),
            "{name}: two at once: {old:?} {new:?}"
        );
    }
}

/// On each host: the old one was started again, and nothing is left of the new one.
async fn assert_old_one_back(fleet: &Fleet, old: u64, new: u64) {
    for host in &fleet.hosts {
        let old = container(fleet, &host.name, old).await;
        assert!(old.as_ref().is_some_and(|it| it.runs()), "{old:?}");
        // Traffic was back before: this is tidied up beside it.
        wait::until(SOON, "nothing to be left of the new one", async || {
            container(fleet, &host.name, new).await.is_none()
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p2_a_worker_stops_before_its_successor_starts_and_starts_again_when_that_one_dies() {
    if !root_or_skip(
        "p2_a_worker_stops_before_its_successor_starts_and_starts_again_when_that_one_dies",
    ) {
        return;
    }
    let fleet = Fleet::start_light(2).await;
    let (one, two) = (
        image::web(&fleet.engine, "1").await,
        image::web(&fleet.engine, "2").await,
    );
    let file =
        |image: &str, environment: &str| fleet.compose("compose.yaml", &worker(image, environment));
    fleet.ok(&["deploy", "-f", &file(&one, "")]);
    fleet.ok(&["deploy", "-f", &file(&two, "")]);
    assert_one_at_a_time(&fleet, 1, 2).await;
    let before = wait_for_running(&fleet, "h1", 2).await;
    // Long enough to be proved, too short to be kept.
    let (code, out, err) = fleet.run(&["deploy", "-f", &file(&one, ", EXIT_AFTER_MS: \"3000\"")]);
    println!("{out}{err}");
    assert_eq!(code, 3, "{out}{err}");
    assert!(out.contains("exited with code 1"), "{out}{err}");
    assert_old_one_back(&fleet, 2, 3).await;
    let after = wait_for_running(&fleet, "h1", 2).await;
    assert_eq!(before.id, after.id, "another container than the parked one");
    assert!(before.started() < after.started(), "it was never stopped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p2_recreate_never_runs_two_at_once_and_a_bad_release_brings_the_old_one_back() {
    if !root_or_skip("p2_recreate_never_runs_two_at_once_and_a_bad_release_brings_the_old_one_back")
    {
        return;
    }
    let fleet = Fleet::start_light(2).await;
    let images = [
        image::web(&fleet.engine, "1").await,
        image::web(&fleet.engine, "2").await,
        image::web(&fleet.engine, "never-ready").await,
    ];
    let file = |image: &str| {
        let text = web(image, &format!("strategy: recreate\n{SHORT}"), "");
        fleet.compose("compose.yaml", &text.replace("within: 15s", "within: 4s"))
    };
    fleet.ok(&["deploy", "-f", &file(&images[0])]);
    fleet.ok(&["deploy", "-f", &file(&images[1])]);
    assert_one_at_a_time(&fleet, 1, 2).await;
    assert_all_answer(&fleet, "2");
    let (code, out, err) = fleet.run(&["deploy", "-f", &file(&images[2])]);
    println!("{out}{err}");
    assert_eq!(code, 3, "{out}{err}");
    assert!(out.contains("not healthy within 4 s"), "{out}{err}");
    assert_old_one_back(&fleet, 2, 3).await;
    assert_all_answer(&fleet, "2");
}

/// Its successor is made while it runs, and can't have the name yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p2_a_service_with_a_fixed_container_name_is_recreated_and_keeps_its_name() {
    if !root_or_skip("p2_a_service_with_a_fixed_container_name_is_recreated_and_keeps_its_name") {
        return;
    }
    let fleet = Fleet::start_light(1).await;
    let images = [
        image::web(&fleet.engine, "1").await,
        image::web(&fleet.engine, "2").await,
        image::web(&fleet.engine, "never-ready").await,
    ];
    let file = |image: &str| {
        let text = web(image, SHORT, "    container_name: the-web\n");
        fleet.compose("compose.yaml", &text.replace("within: 15s", "within: 4s"))
    };
    let named = async || {
        let client = fleet.engine.client();
        let found = client.inspect_container("the-web", None::<InspectContainerOptions>);
        found.await.ok()?.id
    };
    let id = async |revision| Some(container(&fleet, "h1", revision).await?.id);
    fleet.ok(&["deploy", "-f", &file(&images[0])]);
    assert_eq!(named().await, id(1).await);
    fleet.ok(&["deploy", "-f", &file(&images[1])]);
    assert_one_at_a_time(&fleet, 1, 2).await;
    assert_eq!(named().await, id(2).await);
    let (code, out, err) = fleet.run(&["deploy", "-f", &file(&images[2])]);
    assert_eq!(code, 3, "{out}{err}");
    assert!(out.contains("not healthy within 4 s"), "{out}{err}");
    assert_old_one_back(&fleet, 2, 3).await;
    assert_eq!(named().await, id(2).await);
}

/// Connections that come and go, and some that stay.
fn tcp_load(fleet: &Fleet) -> Vec<Running> {
    let doors = fleet.hosts.iter().map(|host| host.door());
    doors
        .map(|door| {
            Load::new(door, "")
                .tcp(20.0)
                .tcp_held(HELD as usize)
                .start()
        })
        .collect()
}

async fn stopped(loads: Vec<Running>) -> Vec<Tally> {
    let mut tallies = Vec::new();
    for load in loads {
        tallies.push(load.stop().await);
    }
    tallies
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p11_a_tcp_service_moves_without_losing_a_connection_and_comes_back_from_one_that_dies() {
    if !root_or_skip(
        "p11_a_tcp_service_moves_without_losing_a_connection_and_comes_back_from_one_that_dies",
    ) {
        return;
    }
    let fleet = Fleet::start(2).await;
    let images = [
        image::web(&fleet.engine, "1").await,
        image::web(&fleet.engine, "2").await,
        image::web(&fleet.engine, "dies").await,
    ];
    let file = |image: &str, observe: &str| fleet.compose("compose.yaml", &tcp(image, observe));
    fleet.ok(&["deploy", "-f", &file(&images[0], "2s")]);
    let loads = tcp_load(&fleet);
    fleet.ok(&["deploy", "-f", &file(&images[1], "2s")]);
    for (host, tally) in (1..).zip(stopped(loads).await) {
        println!("good, h{host}: {tally}");
        let (one, two) = (tally.versions["1"], tally.versions["2"]);
        assert!(one.times > 0 && two.times > 0, "h{host}: {tally}");
        // What stays for ever is cut when the drain time is over, each at most once, and not before.
        assert_eq!(tally.of(Kind::Tcp).failed, 0, "h{host}: {tally}");
        assert!(tally.failed_in_all() <= HELD, "h{host}: {tally}");
        for failure in &tally.failures {
            let stayed = failure.at.saturating_sub(two.first);
            assert!(stayed >= STAYS, "h{host}: {failure}: {tally}");
        }
        assert!(tally.echoes > 0, "h{host} held no connection: {tally}");
    }
    let loads = tcp_load(&fleet);
    let (code, out, err) = fleet.run(&["deploy", "-f", &file(&images[2], "10s")]);
    println!("{out}{err}");
    assert_eq!(code, 3, "{out}{err}");
    // Whichever hears of it first: the engine's events or the probes.
    let why = newest_rollout(&fleet)["why"].to_string();
    let known = ["exited with code 1", "probes in a row"].map(|how| why.contains(how));
    assert!(why.contains("h1: ") && known.contains(&true), "{why}");
    for (host, tally) in (1..).zip(stopped(loads).await) {
        println!("bad, h{host}: {tally}");
        // Those that the dead one held, and one that was coming or going.
        assert!(tally.failed_in_all() <= HELD + 1, "h{host}: {tally}");
        assert!(tally.of(Kind::Tcp).answered > 0, "h{host}: {tally}");
        let last = &tally.versions["2"].last;
        let dead = tally.versions.get("dies").map(|seen| seen.last);
        assert!(dead.is_none_or(|dead| dead < *last), "h{host}: {tally}");
    }
    assert_old_one_back(&fleet, 2, 3).await;
}

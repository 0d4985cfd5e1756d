//! The coordinator is gone for longer than its word counts.

use std::time::Duration;

use cutover_tests::fleet::Fleet;
use cutover_tests::load::Load;
use cutover_tests::{image, root_or_skip, wait};
use nix::sys::signal::Signal;

use crate::compose::web;
use crate::look::{
    SOON, answer_at, assert_all_answer, container, newest_rollout, status, wait_for_phase,
    wait_for_running,
};

/// The shortest that the coordinator's configuration takes.
const LEASE: Duration = Duration::from_secs(3);
const SHORT_LEASE: &str = "lease_seconds = 3\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p7_past_the_lease_a_swap_that_is_merely_prepared_goes_back_by_itself() {
    if !root_or_skip("p7_past_the_lease_a_swap_that_is_merely_prepared_goes_back_by_itself") {
        return;
    }
    let mut fleet = Fleet::start_with(2, SHORT_LEASE).await;
    let (one, late) = (
        image::web(&fleet.engine, "1").await,
        image::web(&fleet.engine, "slow-start").await,
    );
    let x_cutover = "strategy: blue-green\ndrain: 2s\nobserve: 2s\n";
    let file = |image: &str| {
        let text = web(image, x_cutover, "").replace("within: 15s", "within: 50s");
        fleet.compose("compose.yaml", &text)
    };
    fleet.ok(&["deploy", "-f", &file(&one)]);
    let load = Load::new(fleet.hosts[0].door(), "shop.example")
        .keep_alive(4, 50.0)
        .start();
    let deploy = fleet.run_beside(&["deploy", "-f", &file(&late)]);
    // h2 never gets there, so h1 waits at the barrier for as long as the coordinator says so.
    wait_for_running(&fleet, "h2", 2)
        .await
        .signal(Signal::SIGSTOP);
    wait_for_phase(&fleet.hosts[0], "prepared").await;
    wait::throughout(LEASE * 2, "h1 to wait, prepared", async || {
        status(&fleet.hosts[0]).is_some_and(|status| status["phase"] == "prepared")
    })
    .await;
    fleet.coordinator.kill().await;
    wait_for_phase(&fleet.hosts[0], "").await;
    let said = status(&fleet.hosts[0]).expect("the agent lives");
    assert_eq!(said["revision"], 1, "{said}");
    assert!(said["why"].to_string().contains("lease"), "{said}");
    let left = container(&fleet, "h1", 2).await;
    assert!(left.is_none(), "an orphan: {left:?}");
    fleet.coordinator.start_again();
    let (code, out, err) = tokio::time::timeout(SOON, deploy)
        .await
        .expect("the deploy ends")
        .expect("it ran");
    assert_eq!(code, 3, "{out}{err}");
    assert_all_answer(&fleet, "1");
    let tally = load.stop().await;
    tally.assert_nothing_failed();
    assert_eq!(tally.answered_by("slow-start"), 0, "{tally}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p7_past_the_lease_a_candidate_that_serves_stays_and_the_warm_one_still_takes_traffic_back()
{
    if !root_or_skip(
        "p7_past_the_lease_a_candidate_that_serves_stays_and_the_warm_one_still_takes_traffic_back",
    ) {
        return;
    }
    let mut fleet = Fleet::start_with(1, SHORT_LEASE).await;
    let (one, two) = (
        image::web(&fleet.engine, "1").await,
        image::web(&fleet.engine, "2").await,
    );
    let x_cutover = "drain: 2s\nobserve: 2s\n";
    let file = |image: &str, observe: &str| {
        let text = web(image, x_cutover, "").replace("observe: 2s", observe);
        fleet.compose("compose.yaml", &text)
    };
    fleet.ok(&["deploy", "-f", &file(&one, "observe: 2s")]);
    let deploy = fleet.run_beside(&["deploy", "-f", &file(&two, "observe: 50s")]);
    wait_for_phase(&fleet.hosts[0], "serving").await;
    fleet.coordinator.kill().await;
    let load = Load::new(fleet.hosts[0].door(), "shop.example")
        .keep_alive(4, 50.0)
        .start();
    wait::throughout(LEASE * 3, "version 2 to serve, 1 being warm", async || {
        let warm = container(&fleet, "h1", 1).await.is_some_and(|it| it.runs());
        let route = status(&fleet.hosts[0]).map(|status| status["route"].to_string());
        let seen = (answer_at(&fleet, 0), warm, route);
        (seen.0.contains("version 2 ") && seen.1)
            .then_some(())
            .ok_or_else(|| format!("{seen:?}"))
    })
    .await;
    let served = load.stop().await;
    served.assert_nothing_failed();
    assert_eq!(served.answered_by("1"), 0, "{served}");
    // A is not there for show: nobody is asked when B dies now.
    wait_for_running(&fleet, "h1", 2)
        .await
        .signal(Signal::SIGKILL);
    wait::until(SOON, "version 1 to take the traffic back", async || {
        let answer = answer_at(&fleet, 0);
        answer.contains("version 1 ").then_some(()).ok_or(answer)
    })
    .await;
    fleet.coordinator.start_again();
    let (code, out, err) = tokio::time::timeout(SOON, deploy)
        .await
        .expect("the deploy ends")
        .expect("it ran");
    assert_eq!(code, 3, "{out}{err}");
    let why = newest_rollout(&fleet)["why"].to_string();
    let known = ["exited with code 137", "probes in a row"].map(|how| why.contains(how));
    assert!(known.contains(&true), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p5_a_host_that_was_quiet_for_longer_than_a_lease_obeys_a_coordinator_that_came_back() {
    if !root_or_skip(
        "p5_a_host_that_was_quiet_for_longer_than_a_lease_obeys_a_coordinator_that_came_back",
    ) {
        return;
    }
    let mut fleet = Fleet::start_with(2, SHORT_LEASE).await;
    let (one, two) = (
        image::web(&fleet.engine, "1").await,
        image::web(&fleet.engine, "2").await,
    );
    let file = |image: &str, observe: &str| {
        let text = web(image, &format!("drain: 2s\nobserve: {observe}\n"), "");
        fleet.compose("compose.yaml", &text)
    };
    fleet.ok(&["deploy", "-f", &file(&one, "1s")]);
    // h2's turn comes when h1 was observed; until then it has nothing new to say.
    let deploy = fleet.run_beside(&["deploy", "-f", &file(&two, "10s")]);
    wait_for_phase(&fleet.hosts[0], "serving").await;
    wait::throughout(LEASE * 2, "h1 to be observed", async || {
        status(&fleet.hosts[0]).is_some_and(|status| status["phase"] == "serving")
    })
    .await;
    fleet.coordinator.kill().await;
    fleet.coordinator.start_again();
    let (code, out, err) = tokio::time::timeout(SOON, deploy)
        .await
        .expect("the deploy ends")
        .expect("it ran");
    // Its lease was counted from its last report, which was older than that: it refused every order.
    assert_eq!(code, 0, "{out}{err}");
    assert_all_answer(&fleet, "2");
}

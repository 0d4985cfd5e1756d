//! The coordinator dies, the agent dies: nothing is lost, and the rollout goes on.

use std::time::Duration;

use cutover_tests::fleet::Fleet;
use cutover_tests::load::Load;
use cutover_tests::{image, root_or_skip, wait};

use crate::compose::{SHORT, web};

/// A whole rolling rollout over two hosts, with outages.
const ROLLOUT: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p5_a_rollout_goes_on_after_kill_9_of_coordinator_and_agent() {
    if !root_or_skip("p5_a_rollout_goes_on_after_kill_9_of_coordinator_and_agent") {
        return;
    }
    let mut fleet = Fleet::start(2).await;
    let (one, two) = (
        image::web(&fleet.engine, "1").await,
        image::web(&fleet.engine, "2").await,
    );
    fleet.ok(&[
        "deploy",
        "-f",
        &fleet.compose("one.yaml", &web(&one, SHORT, "")),
    ]);
    let load = Load::new(fleet.hosts[0].door(), "shop.example")
        .keep_alive(8, 100.0)
        .start();
    fleet.ok(&[
        "deploy",
        "--detach",
        "-f",
        &fleet.compose("two.yaml", &web(&two, SHORT, "")),
    ]);
    fleet.coordinator.kill().await;
    fleet.coordinator.start_again();
    fleet.hosts[0].agent.kill().await;
    fleet.hosts[0].agent.start_again();
    fleet.wait_for_coordinator().await;
    wait::until(ROLLOUT, "the rollout to end committed", || {
        let (code, out, _) = fleet.run(&["rollout", "ls", "-o", "json"]);
        async move { code == 0 && !out.contains("\"forward\"") && out.matches("committed").count() >= 2 }
    })
    .await;
    load.stop().await.assert_nothing_failed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p7_a_host_without_its_coordinator_serves_and_reverts_by_hand_in_a_second() {
    if !root_or_skip("p7_a_host_without_its_coordinator_serves_and_reverts_by_hand_in_a_second") {
        return;
    }
    let mut fleet = Fleet::start(1).await;
    let (one, two) = (
        image::web(&fleet.engine, "1").await,
        image::web(&fleet.engine, "2").await,
    );
    for (name, image) in [("one.yaml", &one), ("two.yaml", &two)] {
        fleet.ok(&["deploy", "-f", &fleet.compose(name, &web(image, SHORT, ""))]);
    }
    fleet.coordinator.kill().await;
    let said = fleet.hosts[0].agent_says(&["revert", "shop/web"]);
    assert!(
        said.status.success(),
        "{}",
        String::from_utf8_lossy(&said.stderr)
    );
    let door = fleet.hosts[0].door();
    wait::until(Duration::from_secs(20), "version 1 to answer", || {
        let answer = std::process::Command::new("curl")
            .args(["-s", "-m", "2", &format!("http://{door}/")])
            .output();
        async move {
            answer.is_ok_and(|answer| String::from_utf8_lossy(&answer.stdout).contains("version 1"))
        }
    })
    .await;
}

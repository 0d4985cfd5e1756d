//! The coordinator dies, the agent dies: nothing is lost, and the rollout goes on. What an agent can't know for a
//! while, or can't mend, it says, and knows again by itself.

use std::time::Duration;

use cutover_tests::fleet::Fleet;
use cutover_tests::load::Load;
use cutover_tests::{image, root_or_skip, skipped, swarm, wait};

use crate::compose::{SHORT, web};
use crate::look::{SOON, answer_at, assert_all_answer, container, status};

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
    for stranger in ["shop/api", "api"] {
        let said = fleet.hosts[0].agent_says(&["revert", stranger]);
        let words = String::from_utf8_lossy(&said.stderr);
        assert_eq!(said.status.code(), Some(2), "{words}");
        assert!(words.contains(stranger), "{words}");
    }
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

// It was listed once, after the start; that failed, and nobody looked again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listing_that_failed_at_the_agents_start_is_made_up_for() {
    if !root_or_skip("a_listing_that_failed_at_the_agents_start_is_made_up_for") {
        return;
    }
    let mut fleet = Fleet::start_behind_proxies(1).await;
    let one = image::web(&fleet.engine, "1").await;
    let file = fleet.compose("one.yaml", &web(&one, SHORT, ""));
    fleet.ok(&["deploy", "-f", &file]);
    let id = container(&fleet, "h1", 1).await.expect("it was made").id;
    fleet.hosts[0].agent.kill().await;
    let hang = |fleet: &Fleet, hangs: bool| {
        let proxy = fleet.hosts[0].proxy.as_ref();
        proxy
            .expect("it was started behind one")
            .hang_on(&id, hangs);
    };
    hang(&fleet, true);
    fleet.hosts[0].agent.start_again();
    wait::until(SOON, "the agent to say what it can't know", async || {
        let log = fleet.hosts[0].agent.whole_log();
        log.contains("not all containers could be read")
            .then_some(())
    })
    .await;
    // Not known is not gone: it is neither judged nor made again.
    assert_all_answer(&fleet, "1");
    hang(&fleet, false);
    wait::until(SOON, "the container to be known again", async || {
        let status = status(&fleet.hosts[0]).ok_or("no service yet".to_owned())?;
        (status["containers"][0]["state"] == "running" && status["replicas_proved"] == 1)
            .then_some(())
            .ok_or_else(|| status.to_string())
    })
    .await;
    let same = container(&fleet, "h1", 1).await.expect("it is there");
    assert_eq!(same.id, id);
    assert_all_answer(&fleet, "1");
}

const IN_A_SWARM: &str = "its networks, in a swarm";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p7_what_went_while_its_agent_was_away_is_made_again_and_started() {
    let name = "p7_what_went_while_its_agent_was_away_is_made_again_and_started";
    if !root_or_skip(name) {
        return;
    }
    let mut fleet = Fleet::start(1).await;
    let one = image::web(&fleet.engine, "1").await;
    let file = fleet.compose("one.yaml", &web(&one, SHORT, ""));
    fleet.ok(&["deploy", "-f", &file]);
    let docker = |words: &[&str]| {
        let mut docker = std::process::Command::new("docker");
        let docker = docker.env("DOCKER_HOST", fleet.engine.host()).args(words);
        let output = docker.output().expect("docker is installed");
        assert!(output.status.success(), "docker {words:?}: {output:?}");
    };
    let networks = ["network", "prune", "--force"].as_slice();
    for (gone, commands) in [
        ("its networks", [networks].as_slice()),
        ("all of it", &[networks, &["container", "prune", "--force"]]),
        // Whose engine has other words for it.
        (IN_A_SWARM, &[networks]),
    ] {
        if gone == IN_A_SWARM && !swarm::init(&fleet.engine) {
            return skipped(name, "its last part: Swarm can't be had here");
        }
        fleet.hosts[0].agent.kill().await;
        let before = container(&fleet, "h1", 1).await.expect("it was made").id;
        docker(&["stop", "--time=1", &before]);
        commands.iter().copied().for_each(docker);
        fleet.hosts[0].agent.start_again();
        wait::until(SOON, &format!("{gone} to be there again"), async || {
            answer_at(&fleet, 0).contains("version 1 ")
        })
        .await;
        let now = container(&fleet, "h1", 1).await.expect("it answers").id;
        assert_ne!(now, before, "{gone}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_that_cannot_be_read_is_an_alarm_until_it_is_mended() {
    if !root_or_skip("a_route_that_cannot_be_read_is_an_alarm_until_it_is_mended") {
        return;
    }
    let mut fleet = Fleet::start(1).await;
    let one = image::web(&fleet.engine, "1").await;
    let file = fleet.compose("one.yaml", &web(&one, SHORT, ""));
    fleet.ok(&["deploy", "-f", &file]);
    let link = fleet.hosts[0].state.join("routes/shop/web/current");
    let route = std::fs::read_link(&link).expect("it is a link");
    let alarm = async |fleet: &Fleet, stands: bool| {
        let what = format!("the alarm to stand: {stands}");
        wait::until(SOON, &what, async || {
            let status = status(&fleet.hosts[0]).ok_or("no service yet".to_owned())?;
            let said = status["warnings"]
                .to_string()
                .contains("the route can't be read");
            (said == stands)
                .then_some(())
                .ok_or_else(|| status.to_string())
        })
        .await;
    };
    let break_it = || {
        std::fs::remove_file(&link).expect("the agent does nothing to it now");
        std::os::unix::fs::symlink("states/nowhere", &link).expect("the folder is writable");
    };
    let mend_it = || {
        std::fs::remove_file(&link).expect("it was broken");
        std::os::unix::fs::symlink(&route, &link).expect("the folder is writable");
    };

    // A request finds out.
    break_it();
    assert!(!answer_at(&fleet, 0).contains("version 1"));
    alarm(&fleet, true).await;
    mend_it();
    assert_all_answer(&fleet, "1");
    alarm(&fleet, false).await;

    // So does the agent's start, without any request.
    fleet.hosts[0].agent.kill().await;
    break_it();
    fleet.hosts[0].agent.start_again();
    alarm(&fleet, true).await;
}

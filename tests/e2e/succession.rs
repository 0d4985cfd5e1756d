//! One CA takes over from another under a fleet that deploys and serves: no request is lost.

use std::process::Command;
use std::time::Duration;

use cutover_tests::fleet::Fleet;
use cutover_tests::load::Load;
use cutover_tests::process::built;
use cutover_tests::{image, root_or_skip, wait};

use crate::compose::{SHORT, web};

/// For the host to come back and renew, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn coordinator(fleet: &Fleet, words: &[&str]) -> (bool, String) {
    let ran = Command::new(built("cutover-coordinator"))
        .args(words)
        .arg("--config")
        .arg(fleet.path().join("coordinator/coordinator.toml"))
        .output()
        .expect("the coordinator's program starts");
    let said = [ran.stdout.as_slice(), ran.stderr.as_slice()].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    (ran.status.success(), said)
}

/// Takes the step, as soon as it may be taken, and restarts the coordinator.
async fn step(fleet: &mut Fleet, name: &str) {
    wait::until(PATIENCE, name, || {
        let (taken, said) = coordinator(fleet, &["ca", name]);
        println!("{said}");
        async move { taken }
    })
    .await;
    fleet.coordinator.kill().await;
    fleet.coordinator.start_again();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p11_a_new_ca_takes_over_while_a_fleet_deploys_and_no_request_is_lost() {
    if !root_or_skip("p11_a_new_ca_takes_over_while_a_fleet_deploys_and_no_request_is_lost") {
        return;
    }
    let mut fleet = Fleet::start(1).await;
    let mut images = Vec::new();
    for version in ["1", "2", "3"] {
        images.push(image::web(&fleet.engine, version).await);
    }
    let deploy = |fleet: &Fleet, number: usize| {
        let file = fleet.compose(&format!("{number}.yaml"), &web(&images[number], SHORT, ""));
        fleet.ok(&["deploy", "-f", &file])
    };
    deploy(&fleet, 0);
    let load = Load::new(fleet.hosts[0].door(), "shop.example")
        .keep_alive(8, 100.0)
        .start();
    step(&mut fleet, "begin").await;
    fleet.wait_for_coordinator().await;
    step(&mut fleet, "switch").await;
    fleet.wait_for_coordinator().await; // as an operator of the old CA
    deploy(&fleet, 1);
    let context = fleet.path().join("config/cutover");
    let context = context.to_string_lossy();
    let (renewed, said) = coordinator(&fleet, &["operator", "admin", "--context-dir", &context]);
    assert!(renewed, "{said}");
    step(&mut fleet, "end").await;
    fleet.wait_for_coordinator().await; // as one of the new CA
    deploy(&fleet, 2);
    wait::until(PATIENCE, "the old CA to be forgotten", || {
        let (_, said) = coordinator(&fleet, &["ca", "status"]);
        async move { said.contains("1 of 1 have its certificate and believe no other") }
    })
    .await;
    load.stop().await.assert_nothing_failed();
}

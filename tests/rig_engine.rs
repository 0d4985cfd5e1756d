//! The rig's own tests with an engine, and of what is left after a test process: nothing.
#![allow(
    clippy::print_stderr,
    reason = "a test's words for whoever reads its output"
)]

use std::net::SocketAddr;
use std::time::Duration;

use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, InspectContainerOptions, StartContainerOptions,
};
use cutover_tests::engine::{Engine, Options};
use cutover_tests::load::{FailureKind, Load};
use cutover_tests::process::Recipe;
use cutover_tests::proxy::Nginx;
use cutover_tests::scratch::{Loopback, Scratch};
use cutover_tests::{image, root_or_skip, service, wait};

const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn an_engine_of_our_own_runs_the_service_and_outlives_kill_9() {
    if !root_or_skip("an_engine_of_our_own_runs_the_service_and_outlives_kill_9") {
        return;
    }
    let engine = Engine::private().await;
    run_container(&engine, "rig-itself", "2").await;
    let address = address_of(&engine, "rig-itself").await;
    let load = Load::new(address, "any").one_shot(50.0).start();
    wait::until(SOON, "answers of version 2", async || {
        load.so_far().answered_by("2") > 10
    })
    .await;
    let before = load.stop().await;
    assert_eq!(before.failed_by(FailureKind::ClosedInAnswer), 0, "{before}");

    engine.kill().await;
    engine.start().await;
    // Without live-restore, a new dockerd ends what the old one left.
    let state = engine
        .client()
        .inspect_container("rig-itself", None::<InspectContainerOptions>)
        .await
        .expect("it is still known")
        .state;
    assert_eq!(state.and_then(|state| state.running), Some(false));
}

#[tokio::test]
async fn with_live_restore_the_death_of_dockerd_costs_no_request() {
    if !root_or_skip("with_live_restore_the_death_of_dockerd_costs_no_request") {
        return;
    }
    let engine = Engine::start_with(Options {
        live_restore: true,
        ..Options::default()
    })
    .await;
    run_container(&engine, "survivor", "1").await;
    let address = address_of(&engine, "survivor").await;
    wait::until(SOON, "the service to accept", async || {
        tokio::net::TcpStream::connect(address).await
    })
    .await;
    let load = Load::new(address, "any").keep_alive(4, 200.0).start();
    engine.kill().await;
    engine.start().await;
    engine.freeze().await;
    // A stop signal takes a moment to reach all threads; then a call hangs.
    wait::until(SOON, "the frozen dockerd to fall silent", async || {
        let brief = Duration::from_millis(300);
        tokio::time::timeout(brief, engine.client().ping())
            .await
            .is_err()
    })
    .await;
    engine.thaw().await;
    wait::until(SOON, "the thawed dockerd to answer", async || {
        engine.client().ping().await
    })
    .await;
    engine.restart().await;
    let tally = load.stop().await;
    eprintln!("{tally}");
    tally.assert_nothing_failed();
}

#[tokio::test]
async fn an_engine_with_firewall_rules_takes_them_with_it() {
    if !root_or_skip("an_engine_with_firewall_rules_takes_them_with_it") {
        return;
    }
    let rules = || {
        let saved = std::process::Command::new("iptables-save")
            .output()
            .expect("iptables must be there: run tests/setup");
        String::from_utf8_lossy(&saved.stdout).into_owned()
    };
    let engine = Engine::start_with(Options {
        iptables: true,
        ..Options::default()
    })
    .await;
    let ours = engine.prefix();
    assert!(rules().contains(&ours), "it has written rules");
    drop(engine);
    let left = rules();
    assert!(!left.contains(&ours), "{left}");
}

/// Not a test when run with the others: what the next one runs and kills.
#[tokio::test]
async fn victim() {
    let Some(told) = std::env::var_os("CUTOVER_RIG_VICTIM") else {
        return;
    };
    let (scratch, loopback) = (Scratch::new("victim"), Loopback::claim());
    let _app = service::start(&scratch, loopback.free_port(1), &[("VERSION", "victim")]).await;
    let _nginx = Nginx::start(&scratch.folder("nginx"), loopback.address(2)).await;
    let mut words = scratch.path().display().to_string();
    if root_or_skip("victim's engine") {
        let engine = Engine::private().await;
        run_container(&engine, "victim", "1").await;
        words = format!(
            "{words}\n{}",
            engine
                .socket()
                .parent()
                .expect("it is in a folder")
                .display()
        );
    }
    std::fs::write(&told, words).expect("the killer reads it");
    wait::throughout(Duration::from_secs(120), "being left alone", async || true).await;
}

#[tokio::test]
async fn nothing_outlives_a_test_process_that_is_killed() {
    let scratch = Scratch::new("killer");
    let told = scratch.join("told");
    let itself = std::env::current_exe().expect("a running program has a path");
    let mut victim = Recipe::new(itself, scratch.join("victim.log"))
        .args(["--exact", "victim", "--nocapture"])
        .env("CUTOVER_RIG_VICTIM", &told)
        .env("CUTOVER_TEST_APP", service::app_path())
        .start();
    let folders = wait::until(
        Duration::from_secs(60),
        "the victim to have everything running",
        async || {
            std::fs::read_to_string(&told)
                .ok()
                .filter(|words| !words.is_empty())
        },
    )
    .await;
    // Its folders, and the cgroup of its containers.
    let cgroup = format!("/cutover-rig-{}-", victim.pid());
    let folders: Vec<&str> = folders.lines().collect();
    let marks: Vec<&str> = folders
        .iter()
        .copied()
        .chain((folders.len() > 1).then_some(cgroup.as_str()))
        .collect();
    assert!(
        marks.iter().all(|mark| !left_of(mark).is_empty()),
        "the victim runs: {marks:?}"
    );
    victim.kill().await;
    wait::until(SOON, "everything of the victim's to be gone", async || {
        let left: Vec<String> = marks.iter().flat_map(|mark| left_of(mark)).collect();
        if left.is_empty() {
            Ok(())
        } else {
            Err(left.join(", "))
        }
    })
    .await;
}

/// Processes, mounts and files that have this folder, or this cgroup, to do with them.
fn left_of(folder: &str) -> Vec<String> {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    let mut left: Vec<String> = mounts
        .lines()
        .filter(|line| line.contains(folder))
        .map(str::to_owned)
        .collect();
    let processes = std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    left.extend(processes.filter_map(|path| {
        let command = std::fs::read(path.join("cmdline")).ok()?;
        // The service has no argument that tells; its log is open.
        let log = std::fs::read_link(path.join("fd/1")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let group = std::fs::read_to_string(path.join("cgroup")).unwrap_or_default();
        (command.contains(folder) || log.starts_with(folder) || group.contains(folder))
            .then_some(format!("{}: {command}", path.display()))
    }));
    if std::path::Path::new(folder).exists() {
        left.push(folder.to_owned());
    }
    left
}

async fn run_container(engine: &Engine, name: &str, tag: &str) {
    let reference = image::web(engine, tag).await;
    let body = ContainerCreateBody {
        image: Some(reference),
        ..ContainerCreateBody::default()
    };
    let options = CreateContainerOptionsBuilder::default().name(name).build();
    let client = engine.client();
    client
        .create_container(Some(options), body)
        .await
        .expect("creating the container");
    client
        .start_container(name, None::<StartContainerOptions>)
        .await
        .expect("starting the container");
}

async fn address_of(engine: &Engine, container: &str) -> SocketAddr {
    let inspected = engine
        .client()
        .inspect_container(container, None::<InspectContainerOptions>)
        .await
        .expect("a known container");
    let networks = inspected
        .network_settings
        .and_then(|settings| settings.networks)
        .expect("it has networks");
    let ip = networks
        .into_values()
        .find_map(|endpoint| endpoint.ip_address.filter(|ip| !ip.is_empty()))
        .expect("it has an address");
    SocketAddr::new(ip.parse().expect("an address"), 8080)
}

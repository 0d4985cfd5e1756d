//! A reflex that has only its probes: the engine's events do not arrive.

use cutover_tests::fleet::Fleet;
use cutover_tests::load::Load;
use cutover_tests::{image, root_or_skip};
use nix::sys::signal::Signal;

use crate::compose::web;
use crate::look::{
    SOON, assert_all_answer, newest_rollout, status, wait_for_phase, wait_for_running,
};

/// Kept connections of the load: so many requests are under way at most.
const CONNECTIONS: u64 = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p7_p11_without_docker_s_events_probes_alone_take_traffic_back_from_a_dead_candidate() {
    if !root_or_skip(
        "p7_p11_without_docker_s_events_probes_alone_take_traffic_back_from_a_dead_candidate",
    ) {
        return;
    }
    let fleet = Fleet::start_behind_proxies(2).await;
    let (one, two) = (
        image::web(&fleet.engine, "1").await,
        image::web(&fleet.engine, "2").await,
    );
    let file = |image: &str, observe: &str| {
        let text = web(image, &format!("drain: 2s\nobserve: {observe}\n"), "");
        fleet.compose("compose.yaml", &text)
    };
    fleet.ok(&["deploy", "-f", &file(&one, "1s")]);
    let deaf = &fleet.hosts[0];
    let proxy = deaf.proxy.as_ref().expect("it was started behind one");
    proxy.withhold_events();
    let load = Load::new(deaf.door(), "shop.example")
        .keep_alive(CONNECTIONS as usize, 100.0)
        .start();
    let deploy = fleet.run_beside(&["deploy", "-f", &file(&two, "50s")]);
    wait_for_phase(deaf, "serving").await;
    wait_for_running(&fleet, "h1", 2)
        .await
        .signal(Signal::SIGKILL);
    let (code, out, err) = tokio::time::timeout(SOON, deploy)
        .await
        .expect("the deploy ends")
        .expect("it ran");
    let tally = load.stop().await;
    println!("exit {code}; {tally}\n{out}{err}");
    assert_eq!(code, 3, "{out}{err}");
    assert!(proxy.withheld() > 0, "there was no event to miss");
    let why = newest_rollout(&fleet)["why"].to_string();
    assert!(
        why.contains("h1: ") && !why.contains("exited"),
        "not by its probes: {why}"
    );
    assert_all_answer(&fleet, "1");
    assert!(
        tally.failed_in_all() <= CONNECTIONS,
        "more than those in flight: {tally}"
    );
    assert_eq!(tally.unsent, 0, "{tally}");
    assert!(tally.answered_by("2") > 0, "it never served: {tally}");
    let status = status(deaf).expect("the agent lives");
    assert_eq!(status["revision"], 1, "{status}");
}

//! The barrier of blue-green: nobody serves before everybody is prepared.

use cutover_tests::fleet::Fleet;
use cutover_tests::load::{Load, Running};
use cutover_tests::{image, root_or_skip};
use nix::sys::signal::Signal;

use crate::compose::web;
use crate::look::{
    SOON, assert_all_answer, newest_rollout, swaps, wait_for_phase, wait_for_running,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p1_when_one_of_three_candidates_is_never_healthy_no_host_s_clients_ever_see_a_new_one() {
    if !root_or_skip(
        "p1_when_one_of_three_candidates_is_never_healthy_no_host_s_clients_ever_see_a_new_one",
    ) {
        return;
    }
    let fleet = Fleet::start(3).await;
    let (one, late) = (
        image::web(&fleet.engine, "1").await,
        // Healthy after 3 s, which gives the time to freeze one of them before.
        image::web(&fleet.engine, "slow-start").await,
    );
    let x_cutover = "strategy: blue-green\ndrain: 2s\nobserve: 2s\n";
    let file = |image: &str| {
        let text = web(image, x_cutover, "").replace("within: 15s", "within: 10s");
        fleet.compose("compose.yaml", &text)
    };
    fleet.ok(&["deploy", "-f", &file(&one)]);
    let loads: Vec<Running> = fleet
        .hosts
        .iter()
        .map(|host| {
            let load = Load::new(host.door(), "shop.example").keep_alive(4, 40.0);
            load.one_shot(10.0).start()
        })
        .collect();
    let deploy = fleet.run_beside(&["deploy", "-f", &file(&late)]);
    wait_for_running(&fleet, "h2", 2)
        .await
        .signal(Signal::SIGSTOP);
    // The others get as far as the barrier, and no further.
    wait_for_phase(&fleet.hosts[0], "prepared").await;
    wait_for_phase(&fleet.hosts[2], "prepared").await;
    let (code, out, err) = tokio::time::timeout(SOON, deploy)
        .await
        .expect("the deploy ends")
        .expect("it ran");
    assert_eq!(code, 3, "{out}{err}");
    let rollout = newest_rollout(&fleet);
    let why = rollout["why"].as_str().unwrap_or_default();
    assert!(
        why.starts_with("h2: ") && why.contains("not healthy within 10 s"),
        "{why}"
    );
    for (host, load) in fleet.hosts.iter().zip(loads) {
        let tally = load.stop().await;
        println!("{}: {tally}", host.name);
        tally.assert_nothing_failed();
        let seen: Vec<&str> = tally.versions.keys().map(String::as_str).collect();
        assert_eq!(seen, ["1"], "{}: {tally}", host.name);
        assert_eq!(swaps(host).len(), 2, "{} took no part", host.name);
    }
    assert_all_answer(&fleet, "1");
}

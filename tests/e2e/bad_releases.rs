//! Bad releases: the fleet goes back by itself, and the exit code says so.

use cutover_tests::fleet::Fleet;
use cutover_tests::load::Load;
use cutover_tests::{image, root_or_skip};

use crate::compose::{SHORT, web};
use crate::look::assert_all_answer;

/// Deploys version 1 on `hosts` hosts, then `tag`; gives the exit code and all that was said.
async fn after_a_good_one(hosts: u8, tag: &str, x_cutover: &str) -> (Fleet, i32, String) {
    let fleet = Fleet::start(hosts).await;
    let (good, bad) = (
        image::web(&fleet.engine, "1").await,
        image::web(&fleet.engine, tag).await,
    );
    let x_cutover = format!("drain: 6s\n{x_cutover}");
    fleet.ok(&[
        "deploy",
        "-f",
        &fleet.compose("good.yaml", &web(&good, &x_cutover, "")),
    ]);
    let door = fleet.hosts[0].door();
    let load = Load::new(door, "shop.example").keep_alive(8, 100.0).start();
    let (code, out, err) = fleet.run(&[
        "deploy",
        "-f",
        &fleet.compose("bad.yaml", &web(&bad, &x_cutover, "")),
    ]);
    let tally = load.stop().await;
    println!("{tag}: exit {code}; {tally}\n{out}{err}");
    (fleet, code, format!("{out}{err}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p12_a_candidate_that_is_never_healthy_ends_with_3_and_the_old_one_serves() {
    if !root_or_skip("p12_a_candidate_that_is_never_healthy_ends_with_3_and_the_old_one_serves") {
        return;
    }
    let fleet = Fleet::start(2).await;
    let (good, bad) = (
        image::web(&fleet.engine, "1").await,
        image::web(&fleet.engine, "never-ready").await,
    );
    let file = |image: &str| web(image, SHORT, "").replace("within: 15s", "within: 3s");
    fleet.ok(&["deploy", "-f", &fleet.compose("good.yaml", &file(&good))]);
    let (code, out, err) = fleet.run(&["deploy", "-f", &fleet.compose("bad.yaml", &file(&bad))]);
    println!("{out}{err}");
    assert_eq!(code, 3, "{out}{err}");
    assert!(
        format!("{out}{err}").contains("not healthy within 3 s"),
        "{out}{err}"
    );
    let log = out.split_once("last lines on h1:").expect("its log").1;
    assert!(log.contains("version never-ready"), "{out}{err}");
    assert_all_answer(&fleet, "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p12_a_candidate_that_exits_at_once_ends_with_3_and_says_its_exit_code() {
    if root_or_skip("p12_a_candidate_that_exits_at_once_ends_with_3_and_says_its_exit_code") {
        let (_fleet, code, said) = after_a_good_one(2, "dies-at-start", "observe: 2s\n").await;
        assert_eq!(code, 3, "{said}");
        assert!(said.contains("exited with code 1"), "{said}");
        let log = said.split_once("last lines on h1:").expect("its log").1;
        assert!(log.contains("exiting at start, as told"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p7_a_candidate_that_dies_while_it_serves_is_taken_back_by_reflex() {
    if root_or_skip("p7_a_candidate_that_dies_while_it_serves_is_taken_back_by_reflex") {
        let (fleet, code, said) = after_a_good_one(3, "dies", "observe: 8s\n").await;
        assert_eq!(code, 3, "{said}");
        // Whichever hears of it first: the engine's events or the probes.
        let known = ["exited with code", "probes in a row"].map(|how| said.contains(how));
        assert!(known.contains(&true), "{said}");
        assert_all_answer(&fleet, "1");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p12_a_failed_smoke_check_ends_with_3_before_any_request_reaches_the_candidate() {
    if root_or_skip("p12_a_failed_smoke_check_ends_with_3_before_any_request_reaches_the_candidate")
    {
        let (_fleet, code, said) =
            after_a_good_one(1, "bad-smoke", "observe: 2s\nsmoke: [/smoke]\n").await;
        assert_eq!(code, 3, "{said}");
        assert!(said.contains("smoke check"), "{said}");
    }
}

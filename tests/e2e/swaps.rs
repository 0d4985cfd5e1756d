//! Good releases under load: nothing is lost.

use std::time::Duration;

use cutover_tests::fleet::Fleet;
use cutover_tests::load::{Load, Running, Tally};
use cutover_tests::{image, root_or_skip, wait};

use crate::compose::{SHORT, web};
use crate::look::{SOON, newest_rollout, status};

/// Requests a second at each host's door; the fleet's sum is what the README says.
const RATE: f64 = 140.0;

/// Load of every kind on one host.
fn mixed(fleet: &Fleet, host: usize) -> Running {
    Load::of_every_kind(fleet.hosts[host].door(), "shop.example", RATE)
        .longest(Duration::from_secs(300))
        .start()
}

/// What nginx counted of one host's swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counted {
    requests: u64,
    /// Of those: answered by the new version.
    candidate: u64,
    lost: u64,
}

/// What nginx counted in the newest rollout, host by host.
fn counted(fleet: &Fleet) -> Vec<Counted> {
    let rollout = newest_rollout(fleet);
    let hosts = rollout["hosts"].as_array().expect("hosts");
    let number = |value: &serde_json::Value| value.as_u64().expect("a number");
    hosts
        .iter()
        .map(|host| Counted {
            requests: number(&host["traffic"]["requests"]),
            candidate: number(&host["traffic"]["candidate_requests"]),
            lost: number(&host["traffic"]["lost"]),
        })
        .collect()
}

/// How many requests nginx can have ended between two looks at a client: those sent in between, and those that were
/// under way at the first.
fn at_most(before: &Tally, after: &Tally) -> u64 {
    after.sent_in_all() - before.answered_in_all() - before.failed_in_all()
}

async fn nothing_is_lost(strategy: &str, swaps: usize) {
    let fleet = Fleet::start(3).await;
    let images = [
        image::web(&fleet.engine, "1").await,
        image::web(&fleet.engine, "2").await,
    ];
    let file = |n: usize| {
        fleet.compose(
            "compose.yaml",
            &web(
                &images[n % 2],
                &format!("strategy: {strategy}\n{SHORT}"),
                "",
            ),
        )
    };
    fleet.ok(&["deploy", "-f", &file(0)]);
    let loads: Vec<Running> = (0..3).map(|host| mixed(&fleet, host)).collect();
    for n in 1..=swaps {
        let before: Vec<Tally> = loads.iter().map(Running::so_far).collect();
        let out = fleet.ok(&["deploy", "-f", &file(n)]);
        let after: Vec<Tally> = loads.iter().map(Running::so_far).collect();
        println!("{strategy} {n}: {}", out.lines().last().unwrap_or_default());
        for (host, counted) in counted(&fleet).into_iter().enumerate() {
            let most = at_most(&before[host], &after[host]);
            assert_eq!(counted.lost, 0, "h{}", host + 1);
            assert!(
                (1..=most).contains(&counted.requests),
                "h{}: nginx counted {}, the client sent {most}",
                host + 1,
                counted.requests
            );
        }
    }
    for (host, load) in loads.into_iter().enumerate() {
        let tally = load.stop().await;
        println!("{strategy} h{}: {tally}", host + 1);
        tally.assert_nothing_failed();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p11_rolling_over_three_hosts_loses_no_request() {
    if root_or_skip("p11_rolling_over_three_hosts_loses_no_request") {
        nothing_is_lost("rolling", 3).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p11_blue_green_over_three_hosts_loses_no_request() {
    if root_or_skip("p11_blue_green_over_three_hosts_loses_no_request") {
        nothing_is_lost("blue-green", 3).await;
    }
}

/// A swap's window at nginx lies within the deploy: what nginx counted is no more than what the client sent meanwhile,
/// and no less than what the new version had answered when the swap was still open.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p11_what_nginx_counted_of_a_swap_agrees_with_what_its_clients_counted_and_is_kept() {
    if !root_or_skip(
        "p11_what_nginx_counted_of_a_swap_agrees_with_what_its_clients_counted_and_is_kept",
    ) {
        return;
    }
    let fleet = Fleet::start(1).await;
    let (one, two) = (
        image::web(&fleet.engine, "1").await,
        image::web(&fleet.engine, "2").await,
    );
    let file = |image: &str| fleet.compose("compose.yaml", &web(image, SHORT, ""));
    fleet.ok(&["deploy", "-f", &file(&one)]);
    let load = Load::new(fleet.hosts[0].door(), "shop.example")
        .keep_alive(8, 100.0)
        .one_shot(20.0)
        .start();
    wait::until(SOON, "requests to be answered", async || {
        load.so_far().answered_in_all() > 20
    })
    .await;
    let before = load.so_far();
    let deploy = fleet.run_beside(&["deploy", "-f", &file(&two)]);
    let mut least = 0;
    wait::until(SOON, "the deploy to end", async || {
        let answered = load.so_far().answered_by("2");
        // Asked after the count was taken: all of it was within the swap.
        if status(&fleet.hosts[0]).is_some_and(|status| status["phase"] != "") {
            least = answered;
        }
        deploy.is_finished()
    })
    .await;
    let (code, out, err) = deploy.await.expect("it ran");
    assert_eq!(code, 0, "{out}{err}");
    let most = at_most(&before, &load.so_far());
    let at_nginx = counted(&fleet)[0];
    println!("at least {least}, at most {most}: {at_nginx:?}");
    assert!(least > 0, "it was never seen to serve");
    assert!((least..=most).contains(&at_nginx.requests), "{at_nginx:?}");
    assert!(
        (least..=at_nginx.requests).contains(&at_nginx.candidate),
        "{at_nginx:?}"
    );
    assert_eq!(at_nginx.lost, 0);
    assert_eq!(at_nginx.lost, load.so_far().lost());

    // It is the swap's own count: neither later requests nor a later swap change it, and people see it, too.
    let id = newest_rollout(&fleet)["id"].as_str().unwrap().to_owned();
    fleet.ok(&["deploy", "-f", &file(&one)]);
    let shown = fleet.ok(&["rollout", "show", &id, "-o", "json"]);
    let traffic = &crate::look::json(&shown)["hosts"][0]["traffic"];
    assert_eq!(traffic["requests"], at_nginx.requests, "{traffic}");
    assert_eq!(traffic["lost"], at_nginx.lost, "{traffic}");
    let text = fleet.ok(&["rollout", "show", &id]);
    // HOST, WAVE, FATE, RUNS, (no) PHASE, REQUESTS, LOST, (no) NOTE
    let row = text.lines().find(|line| line.starts_with("h1 "));
    let words: Vec<&str> = row.expect("its row").split_whitespace().collect();
    assert!(
        words.ends_with(&[&at_nginx.requests.to_string(), "0"]),
        "{text}"
    );
    load.stop().await.assert_nothing_failed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_revision_again_is_already_there_and_ends_with_0() {
    if !root_or_skip("the_same_revision_again_is_already_there_and_ends_with_0") {
        return;
    }
    let fleet = Fleet::start_light(1).await;
    let image = image::web(&fleet.engine, "1").await;
    let file = fleet.compose("compose.yaml", &web(&image, SHORT, ""));
    fleet.ok(&["deploy", "-f", &file]);
    let (code, out, err) = fleet.run(&["deploy", "-f", &file]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(format!("{out}{err}").contains("already"), "{out}{err}");
}

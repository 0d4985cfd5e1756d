//! Good releases under load: nothing is lost.

use std::time::Duration;

use cutover_tests::fleet::Fleet;
use cutover_tests::load::{Load, Running};
use cutover_tests::{image, root_or_skip};

use crate::compose::{SHORT, web};

/// Requests a second at each host's door; the fleet's sum is what the README says.
const RATE: f64 = 140.0;

/// Load of every kind on one host.
fn mixed(fleet: &Fleet, host: usize) -> Running {
    Load::of_every_kind(fleet.hosts[host].door(), "shop.example", RATE)
        .longest(Duration::from_secs(300))
        .start()
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
        let out = fleet.ok(&["deploy", "-f", &file(n)]);
        println!("{strategy} {n}: {}", out.lines().last().unwrap_or_default());
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_revision_again_is_already_there_and_ends_with_0() {
    if !root_or_skip("the_same_revision_again_is_already_there_and_ends_with_0") {
        return;
    }
    let fleet = Fleet::start(1).await;
    let image = image::web(&fleet.engine, "1").await;
    let file = fleet.compose("compose.yaml", &web(&image, SHORT, ""));
    fleet.ok(&["deploy", "-f", &file]);
    let (code, out, err) = fleet.run(&["deploy", "-f", &file]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(format!("{out}{err}").contains("already"), "{out}{err}");
}

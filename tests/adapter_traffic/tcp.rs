//! TCP: the same switch for connections.

use std::fs;

use cutover_agent::traffic::{Site, remove_stale_sockets};
use cutover_core::{Route, Slot};
use cutover_tests::load::Load;
use cutover_tests::wait::until;

use crate::bed::*;

async fn tcp_bed() -> (Bed, Site, Vec<cutover_tests::process::Daemon>) {
    let bed = Bed::new().await;
    let site = Site {
        listeners: vec![tcp(5432)],
        ..bed.site("shop/db")
    };
    let mode = [("MODE", "tcp")];
    let apps = vec![
        bed.app(Slot::Blue, 0, &mode).await,
        bed.app(Slot::Green, 0, &mode).await,
    ];
    bed.serve(std::slice::from_ref(&site)).await;
    (bed, site, apps)
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_tcp_switches_lose_no_connection_and_every_route_is_proved() {
    let (bed, site, _apps) = tcp_bed().await;
    let load = Load::new((bed.loopback.address(1), 5432).into(), "")
        .tcp(200.0)
        .tcp_held(5)
        .start();
    for turn in 0..20 {
        let answered = load.so_far().answered_in_all();
        until(SOON, "60 more answers", async || {
            load.so_far().answered_in_all() > answered + 60
        })
        .await;
        bed.switch(&site, if turn % 2 == 0 { GREEN_WARM } else { BLUE })
            .await;
        assert!(
            bed.traffic
                .prove(&site, if turn % 2 == 0 { BLUE } else { GREEN })
                .await
                .is_err()
        );
    }
    let tally = load.stop().await;
    eprintln!("{tally}");
    tally.assert_nothing_failed();
    assert!(
        tally.answered_by("blue") > 300 && tally.answered_by("green") > 300,
        "{tally}"
    );
    let sent = tally.sent_in_all();
    let all = |counts: &cutover_agent::signals::Counts| {
        counts
            .slots
            .values()
            .map(|tally| tally.requests)
            .sum::<u64>()
    };
    assert_eq!(
        all(&bed.counts(|counts| all(counts) >= sent).await),
        sent,
        "proofs are not counted"
    );
    bed.switch(&site, Route::Nobody).await;
    bed.switch(&site, split(Slot::Green, 25)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_weight_of_25_percent_holds_for_connections() {
    let (bed, site, _apps) = tcp_bed().await;
    bed.switch(&site, split(Slot::Green, 25)).await;
    let load = Load::new((bed.loopback.address(1), 5432).into(), "")
        .tcp(500.0)
        .most(1_500)
        .start();
    until(SOON, "all answers", async || {
        load.so_far().answered_in_all() >= 1_500
    })
    .await;
    let tally = load.stop().await;
    let (green, all) = (
        tally.answered_by("green") as f64,
        tally.answered_in_all() as f64,
    );
    assert!(
        (green - all * 0.25).abs() < 5.0 * (all * 0.25 * 0.75).sqrt(),
        "{green} of {all}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_that_dies_leaves_new_connections_to_the_warm_slot() {
    let (bed, site, mut apps) = tcp_bed().await;
    bed.switch(&site, GREEN_WARM).await;
    apps[1].kill().await;
    let load = Load::new((bed.loopback.address(1), 5432).into(), "")
        .tcp(200.0)
        .most(400)
        .start();
    until(SOON, "all answers", async || {
        load.so_far().answered_in_all() >= 400
    })
    .await;
    load.stop().await.assert_nothing_failed();
}

#[tokio::test(flavor = "multi_thread")]
async fn p5_sockets_left_by_a_killed_nginx_are_removed_before_it_starts_and_live_ones_never() {
    let (mut bed, site, _apps) = tcp_bed().await;
    bed.switch(&site, GREEN).await;
    assert_eq!(
        remove_stale_sockets(&bed.paths.runtime).unwrap(),
        0,
        "all are in use"
    );
    bed.traffic.prove(&site, GREEN).await.unwrap();
    bed.nginx.kill_all().await;
    bed.nginx.start_again();
    until(SOON, "nginx to give up", async || {
        bed.nginx.master().is_none()
    })
    .await;
    assert!(
        bed.nginx.error_log().contains("Address already in use"),
        "without help they block its start"
    );
    let sockets = || {
        fs::read_dir(&bed.paths.runtime)
            .unwrap()
            .filter(|entry| {
                entry
                    .as_ref()
                    .unwrap()
                    .path()
                    .extension()
                    .is_some_and(|e| e == "sock")
            })
            .count()
    };
    let (before, removed) = (sockets(), remove_stale_sockets(&bed.paths.runtime).unwrap());
    assert_eq!((removed, sockets()), (before, 0));
    bed.nginx.start_again();
    bed.nginx.wait_until_it_serves().await;
    bed.traffic.prove(&site, GREEN).await.unwrap();
}

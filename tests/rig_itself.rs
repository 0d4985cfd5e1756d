//! The rig's own tests, without Docker: the load generator counts what is lost and nothing else.
#![allow(
    clippy::print_stderr,
    reason = "a test's words for whoever reads its output"
)]

use std::net::SocketAddr;
use std::time::Duration;

use cutover_tests::load::{FailureKind, Kind, Load};
use cutover_tests::proxy::Nginx;
use cutover_tests::scratch::{Loopback, Scratch};
use cutover_tests::{service, wait};

const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_healthy_service_loses_nothing_of_any_kind() {
    let (scratch, loopback) = (Scratch::new("healthy"), Loopback::claim());
    let address = loopback.free_port(1);
    let _app = service::start(&scratch, address, &[("VERSION", "7")]).await;
    let load = Load::new(address, "any")
        .keep_alive(8, 300.0)
        .one_shot(50.0)
        .slow(5.0, Duration::from_millis(300))
        .uploads(5.0, 100_000, Duration::from_millis(200))
        .downloads(5.0, 5, Duration::from_millis(20))
        .websockets(3)
        .start();
    wait::until(SOON, "600 answers", async || {
        load.so_far().answered_in_all() > 600
    })
    .await;
    let tally = load.stop().await;
    eprintln!("{tally}");
    tally.assert_nothing_failed();
    assert_eq!(tally.sent_in_all(), tally.answered_in_all());
    assert!(tally.echoes > 0);
    assert_eq!(tally.versions.keys().collect::<Vec<_>>(), ["7"]);
}

#[tokio::test]
async fn a_killed_service_costs_exactly_what_was_under_way_and_every_later_request() {
    let (scratch, loopback) = (Scratch::new("killed"), Loopback::claim());
    let address = loopback.free_port(1);
    let mut service = service::start(&scratch, address, &[]).await;
    let load = Load::new(address, "any")
        .keep_alive(4, 100.0)
        .slow(10.0, Duration::from_secs(30))
        .websockets(2)
        .start();
    wait::until(
        SOON,
        "100 answers and 3 slow requests under way",
        async || {
            let tally = load.so_far();
            tally.of(Kind::KeepAlive).answered > 100 && tally.of(Kind::Slow).sent >= 3
        },
    )
    .await;
    service.kill().await;
    wait::until(SOON, "refused connections", async || {
        load.so_far().failed_by(FailureKind::NotConnected) > 50
    })
    .await;
    let tally = load.stop().await;
    eprintln!("{tally}");
    assert_eq!(
        tally.of(Kind::Slow).answered,
        0,
        "no slow request can have ended"
    );
    assert!(
        tally.failed_by(FailureKind::ClosedBeforeAnswer) >= 3,
        "those under way"
    );
    assert!(
        tally.failed_by(FailureKind::CutOff) == 2,
        "both WebSockets were cut off"
    );
    assert_eq!(
        tally.sent_in_all(),
        tally.answered_in_all() + tally.failed_in_all()
    );
    assert_eq!(tally.lost(), tally.failed_in_all());
}

#[tokio::test]
async fn answers_that_are_no_success_are_failures_but_not_losses() {
    let (scratch, loopback) = (Scratch::new("failing"), Loopback::claim());
    let address = loopback.free_port(1);
    let _app = service::start(&scratch, address, &[("FAIL_RATE", "20")]).await;
    let load = Load::new(address, "any").one_shot(500.0).most(200).start();
    wait::until(SOON, "200 ended", async || {
        load.so_far().answered_in_all() + load.so_far().failed_in_all() == 200
    })
    .await;
    let tally = load.stop().await;
    assert_eq!(
        (tally.failed_by(FailureKind::Status(500)), tally.lost()),
        (40, 0),
        "{tally}"
    );
}

#[tokio::test]
async fn a_kept_connection_that_the_server_closes_while_idle_is_a_loss() {
    let (scratch, loopback) = (Scratch::new("idle"), Loopback::claim());
    let address = loopback.free_port(1);
    let _app = service::start(&scratch, address, &[("IDLE_CLOSE_MS", "50")]).await;
    // Two connections used in turn, each idle for 200 ms between two requests.
    let load = Load::new(address, "any")
        .keep_alive(2, 10.0)
        .most(8)
        .start();
    wait::until(SOON, "8 ended", async || {
        load.so_far().answered_in_all() + load.so_far().failed_in_all() == 8
    })
    .await;
    let tally = load.stop().await;
    assert!(
        tally.failed_by(FailureKind::ClosedBeforeAnswer) >= 2,
        "{tally}"
    );
    assert_eq!(tally.lost(), tally.failed_in_all());
}

#[tokio::test]
async fn a_service_told_to_stop_finishes_what_it_has_begun() {
    let (scratch, loopback) = (Scratch::new("term"), Loopback::claim());
    let address = loopback.free_port(1);
    let mut service = service::start(&scratch, address, &[]).await;
    let load = Load::new(address, "any")
        .slow(50.0, Duration::from_millis(500))
        .most(20)
        .websockets(2)
        .start();
    wait::until(SOON, "all to be under way", async || {
        load.so_far().of(Kind::Slow).sent == 20 && load.so_far().echoes > 2
    })
    .await;
    // The last of them shall have arrived, not only been sent.
    wait::until(SOON, "the first answer", async || {
        load.so_far().of(Kind::Slow).answered > 0
    })
    .await;
    assert_eq!(service.terminate(SOON).await, 0);
    let tally = load.stop().await;
    assert_eq!(tally.of(Kind::Slow).answered, 20, "{tally}");
    assert_eq!(
        tally.failed_by(FailureKind::CutOff),
        0,
        "the close frame came first: {tally}"
    );
}

#[tokio::test]
async fn raw_tcp_is_counted_by_version_too() {
    let (scratch, loopback) = (Scratch::new("tcp"), Loopback::claim());
    let address = loopback.free_port(1);
    let _app = service::start(&scratch, address, &[("MODE", "tcp"), ("VERSION", "5")]).await;
    let load = Load::new(address, "any").tcp(100.0).tcp_held(2).start();
    wait::until(SOON, "50 answers", async || {
        load.so_far().of(Kind::Tcp).answered > 50 && load.so_far().echoes > 4
    })
    .await;
    let tally = load.stop().await;
    tally.assert_nothing_failed();
    assert!(tally.answered_by("5") > 50, "{tally}");
}

#[tokio::test]
async fn a_healthy_service_behind_nginx_loses_nothing_and_both_count_the_same() {
    let (scratch, loopback) = (Scratch::new("nginx"), Loopback::claim());
    let (service, front) = (loopback.free_port(1), loopback.free_port(2));
    let _app = service::start(&scratch, service, &[]).await;
    let nginx = Nginx::start(&scratch.folder("nginx"), loopback.address(2)).await;
    nginx.write_http("web.conf", &front_of(front, service));
    nginx.reload().await;
    nginx.wait_for_old_workers(SOON).await;
    let load = Load::new(front, "any")
        .keep_alive(16, 400.0)
        .one_shot(100.0)
        .uploads(5.0, 50_000, Duration::from_millis(100))
        .websockets(2)
        .start();
    wait::until(SOON, "1000 answers", async || {
        load.so_far().answered_in_all() > 1000
    })
    .await;
    let tally = load.stop().await;
    eprintln!("{tally}");
    tally.assert_nothing_failed();
    assert_eq!(nginx.requests().await, tally.sent_in_all());
}

#[tokio::test]
async fn workers_of_a_killed_nginx_master_go_on_serving_until_all_are_killed() {
    let (scratch, loopback) = (Scratch::new("orphans"), Loopback::claim());
    let (service, front) = (loopback.free_port(1), loopback.free_port(2));
    let _app = service::start(&scratch, service, &[]).await;
    let mut nginx = Nginx::start(&scratch.folder("nginx"), loopback.address(2)).await;
    nginx.write_http("web.conf", &front_of(front, service));
    nginx.reload().await;
    let load = Load::new(front, "any").one_shot(100.0).start();
    wait::until(SOON, "10 answers", async || {
        load.so_far().answered_in_all() > 10
    })
    .await;
    nginx.kill_master().await;
    assert!(nginx.master().is_none() && nginx.workers().len() >= 2);
    let before = load.so_far().answered_in_all();
    wait::until(SOON, "answers without a master", async || {
        load.so_far().answered_in_all() > before + 20
    })
    .await;
    load.so_far().assert_nothing_failed();
    nginx.kill_all().await;
    wait::until(SOON, "failures", async || load.so_far().failed_in_all() > 5).await;
    nginx.start_again();
    nginx.wait_until_it_serves().await;
    let before = load.so_far().answered_in_all();
    wait::until(SOON, "answers again", async || {
        load.so_far().answered_in_all() > before + 5
    })
    .await;
    assert!(load.stop().await.failed_by(FailureKind::NotConnected) > 5);
}

#[tokio::test]
async fn nginx_passes_raw_tcp_on_too() {
    let (scratch, loopback) = (Scratch::new("stream"), Loopback::claim());
    let (service, front) = (loopback.free_port(1), loopback.free_port(2));
    let _app = service::start(&scratch, service, &[("MODE", "tcp"), ("VERSION", "4")]).await;
    let nginx = Nginx::start(&scratch.folder("nginx"), loopback.address(2)).await;
    nginx.write_stream(
        "tcp.conf",
        &format!("server {{ listen {front}; proxy_pass {service}; }}"),
    );
    assert!(nginx.test().status.success());
    nginx.reload().await;
    let load = Load::new(front, "any").tcp(100.0).tcp_held(2).start();
    wait::until(SOON, "50 answers", async || {
        load.so_far().of(Kind::Tcp).answered > 50 && load.so_far().echoes > 4
    })
    .await;
    let tally = load.stop().await;
    tally.assert_nothing_failed();
    assert!(tally.answered_by("4") > 50, "{tally}");
}

fn front_of(front: SocketAddr, service: SocketAddr) -> String {
    format!(
        "map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}\n\
         upstream app {{ server {service} max_fails=0; keepalive 32; keepalive_timeout 2s; }}\n\
         server {{ listen {front}; location / {{ proxy_pass http://app; proxy_http_version 1.1; proxy_request_buffering off;\n\
         proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade; }} }}\n"
    )
}

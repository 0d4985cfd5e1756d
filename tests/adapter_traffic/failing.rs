//! Requests to services that die, or close what is idle.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use cutover_agent::traffic::Site;
use cutover_core::Slot;
use cutover_tests::wait::until;
use futures::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant as Moment, interval_at};

use crate::bed::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_post_to_an_app_that_closes_idle_connections_after_two_seconds_is_never_lost() {
    let bed = Bed::new().await;
    let _apps = [
        bed.app(Slot::Blue, 0, &[("IDLE_CLOSE_MS", "2000")]).await,
        bed.app(Slot::Green, 0, &[]).await,
    ];
    // Each service has connections of its own to the app, each left idle for a time of its own: around the two
    // seconds after which the app closes them, and around the one after which nginx does.
    let pauses: Vec<u64> = (1_984..2_016)
        .step_by(2)
        .chain((996..1_012).step_by(2))
        .collect();
    let site = |index: usize| Site {
        listeners: vec![http(100 + index as u16, None, "/")],
        ..bed.site(&format!("shop/s{index}"))
    };
    bed.serve(&(0..pauses.len()).map(site).collect::<Vec<_>>())
        .await;
    // One service after the other: all at once they would fill the app's queue of new connections.
    let begin = Moment::now();
    let services = pauses.iter().enumerate().map(|(index, pause)| {
        let address = (bed.loopback.address(1), 100 + index as u16).into();
        let first = begin + Duration::from_millis(83 * index as u64);
        let mut bursts = interval_at(first, Duration::from_millis(*pause));
        tokio::spawn(async move {
            let mut statuses = Vec::new();
            for _ in 0..4 {
                bursts.tick().await;
                let answers = join_all((0..10).map(|_| post(address))).await;
                statuses.extend(
                    answers
                        .into_iter()
                        .map(|answer| answer.chars().take(12).collect::<String>()),
                );
            }
            statuses
        })
    });
    let mut statuses = BTreeMap::new();
    for service in join_all(services.collect::<Vec<_>>()).await {
        for status in service.unwrap() {
            *statuses.entry(status).or_insert(0_usize) += 1;
        }
    }
    // A 502 is a POST on a connection that the app was closing. (A 504 is a machine too busy to accept in 250 ms.)
    eprintln!("POSTs: {statuses:?}");
    let answered = statuses.get("HTTP/1.1 200").copied().unwrap_or(0);
    let busy = statuses.get("HTTP/1.1 504").copied().unwrap_or(0);
    assert_eq!(answered + busy, pauses.len() * 40, "{statuses:?}");
}

async fn post(address: SocketAddr) -> String {
    let Ok(mut stream) = TcpStream::connect(address).await else {
        return String::new();
    };
    let request = "POST /upload HTTP/1.1\r\nHost: any.example\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let _reset = stream.read_to_string(&mut answer).await;
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn p11_a_candidate_that_dies_while_the_incumbent_is_warm_loses_at_most_what_it_was_answering()
{
    let bed = Bed::new().await;
    let mut apps = bed.both().await;
    let site = bed.site("shop/web");
    bed.serve(std::slice::from_ref(&site)).await;
    bed.switch(&site, GREEN_WARM).await;
    let load = bed
        .load()
        .keep_alive(16, 300.0)
        .one_shot(100.0)
        .uploads(5.0, 200_000, Duration::from_millis(200))
        .start();
    until(SOON, "200 answers", async || {
        load.so_far().answered_in_all() > 200
    })
    .await;
    apps[1].kill().await;
    let answered = load.so_far().answered_in_all();
    until(SOON, "300 answers by the incumbent", async || {
        load.so_far().answered_in_all() > answered + 300
    })
    .await;
    bed.switch(&site, BLUE).await;
    let tally = load.stop().await;
    eprintln!("{tally}");
    // Uploads under way are a handful; a request that takes a millisecond is hardly ever one of them.
    assert!(tally.failed_in_all() <= 4, "{tally}");
    let counts = bed
        .counts(|counts| counts.slots[&(site.service.clone(), Slot::Green)].passed_on > 0)
        .await;
    assert!(counts.slots[&(site.service, Slot::Green)].lost <= 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_the_service_may_have_acted_on_is_never_sent_again_and_an_error_of_its_own_never_passed_on()
 {
    let bed = Bed::new().await;
    let mut apps = bed.both().await;
    let site = bed.site("shop/web");
    bed.serve(std::slice::from_ref(&site)).await;
    bed.switch(&site, GREEN_WARM).await;
    assert!(
        bed.get("any.example", "/status/503")
            .await
            .starts_with("HTTP/1.1 503")
    );
    let counts = bed
        .counts(|counts| counts.slots[&(site.service.clone(), Slot::Green)].by_class[4] == 1)
        .await;
    assert_eq!(
        (
            counts.slots[&(site.service.clone(), Slot::Green)].lost,
            counts.slots[&(site.service.clone(), Slot::Blue)].requests
        ),
        (0, 0)
    );

    let address = bed.address();
    let slow = tokio::spawn(async move {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = "POST /slow?ms=5000 HTTP/1.1\r\nHost: any.example\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let _reset = stream.read_to_string(&mut answer).await;
        answer
    });
    until(SOON, "the POST to be at the candidate", async || {
        connections_to(bed.replica(Slot::Green, 0)) > 0
    })
    .await;
    let began = Instant::now();
    apps[1].kill().await;
    let answer = slow.await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 502") && began.elapsed() < Duration::from_secs(2),
        "{answer}"
    );
    let counts = bed
        .counts(|counts| counts.slots[&(site.service.clone(), Slot::Green)].lost == 1)
        .await;
    assert_eq!(counts.slots[&(site.service, Slot::Blue)].requests, 0);
}

fn connections_to(address: std::net::Ipv4Addr) -> usize {
    let hex = format!("{:08X}:{PORT:04X}", u32::from_le_bytes(address.octets()));
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    table
        .lines()
        .filter(|line| {
            line.split_whitespace().nth(2) == Some(&hex)
                && line.split_whitespace().nth(3) == Some("01")
        })
        .count()
}

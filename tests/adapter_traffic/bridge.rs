//! What a Docker bridge does to the dead and the frozen.
//!
//! The address of a container that is gone answers nothing at all; one that is
//! frozen takes connections and never answers.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bollard::models::{
    ContainerCreateBody, EndpointIpamConfig, EndpointSettings, HostConfig, Ipam, IpamConfig,
    NetworkCreateRequest, NetworkingConfig,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, KillContainerOptions, StartContainerOptions,
};
use cutover_agent::traffic::Site;
use cutover_core::Slot;
use cutover_tests::engine::Engine;
use cutover_tests::wait::until;
use cutover_tests::{image, root_or_skip};
use tokio::net::TcpStream;

use crate::bed::*;

/// A network of ours with a container for each slot at its fixed address.
async fn containers(network: &str) -> (Arc<Engine>, [Ipv4Addr; 2]) {
    let engine = Engine::private().await;
    let (client, subnet) = (engine.client(), engine.free_subnet());
    let config = IpamConfig {
        subnet: Some(subnet.cidr()),
        ..IpamConfig::default()
    };
    let request = NetworkCreateRequest {
        name: network.to_owned(),
        ipam: Some(Ipam {
            config: Some(vec![config]),
            ..Ipam::default()
        }),
        ..NetworkCreateRequest::default()
    };
    client.create_network(request).await.unwrap();
    let addresses = [subnet.address(10), subnet.address(20)];
    for (slot, address) in Slot::ALL.into_iter().zip(addresses) {
        let reference = image::custom(&engine, slot.as_str(), &[("VERSION", slot.as_str())]).await;
        let ipam = EndpointIpamConfig {
            ipv4_address: Some(address.to_string()),
            ..EndpointIpamConfig::default()
        };
        let endpoint = EndpointSettings {
            ipam_config: Some(ipam),
            ..EndpointSettings::default()
        };
        let body = ContainerCreateBody {
            image: Some(reference),
            host_config: Some(HostConfig {
                network_mode: Some(network.to_owned()),
                ..HostConfig::default()
            }),
            networking_config: Some(NetworkingConfig {
                endpoints_config: Some(HashMap::from([(network.to_owned(), endpoint)])),
            }),
            ..ContainerCreateBody::default()
        };
        let name = format!("{network}-{slot}");
        let options = CreateContainerOptionsBuilder::default().name(&name).build();
        client.create_container(Some(options), body).await.unwrap();
        client
            .start_container(&name, None::<StartContainerOptions>)
            .await
            .unwrap();
        until(SOON, "the container to accept", async || {
            TcpStream::connect((address, PORT)).await.map(drop)
        })
        .await;
    }
    (engine, addresses)
}

fn on_bridge(bed: &Bed, [blue, green]: [Ipv4Addr; 2]) -> Site {
    Site {
        blue: vec![blue],
        green: vec![green],
        ..bed.site("shop/web")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p11_a_candidate_container_killed_under_load_loses_at_most_what_it_was_answering_and_the_gap_is_300_ms()
 {
    if !root_or_skip("a killed container") {
        return;
    }
    let (engine, addresses) = containers("killed").await;
    let bed = Bed::new().await;
    let site = on_bridge(&bed, addresses);
    bed.serve(std::slice::from_ref(&site)).await;
    bed.switch(&site, GREEN_WARM).await;
    let load = bed.load().keep_alive(16, 300.0).one_shot(100.0).start();
    until(SOON, "200 answers", async || {
        load.so_far().answered_in_all() > 200
    })
    .await;
    engine
        .client()
        .kill_container("killed-green", None::<KillContainerOptions>)
        .await
        .unwrap();
    let answered = load.so_far().answered_in_all();
    until(SOON, "400 answers by the incumbent", async || {
        load.so_far().answered_in_all() > answered + 400
    })
    .await;
    // Now that nothing but a dead address is left of it, the worst that one request waits.
    let (mut fastest, mut slowest) = (Duration::MAX, Duration::ZERO);
    for _ in 0..5 {
        let began = Instant::now();
        assert!(bed.get("any.example", "/").await.contains("version blue"));
        fastest = fastest.min(began.elapsed());
        slowest = slowest.max(began.elapsed());
    }
    bed.switch(&site, BLUE).await;
    let tally = load.stop().await;
    eprintln!("killed: {tally}; in the gap {fastest:?} to {slowest:?}");
    assert!(tally.failed_in_all() <= 1, "{tally}");
    // 250 ms to give up, and 50. A machine that does other things meanwhile delays one of them, not all.
    assert!(fastest < Duration::from_millis(300), "{fastest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_candidate_holds_what_reaches_it_until_the_route_is_switched_back() {
    if !root_or_skip("a frozen container") {
        return;
    }
    let (engine, addresses) = containers("frozen").await;
    let bed = Bed::new().await;
    let site = on_bridge(&bed, addresses);
    bed.serve(std::slice::from_ref(&site)).await;
    bed.switch(&site, GREEN_WARM).await;
    engine
        .client()
        .pause_container("frozen-green")
        .await
        .unwrap();
    let load = bed.load().one_shot(50.0).start();
    until(SOON, "requests to be held", async || {
        load.so_far().sent_in_all() > 50
    })
    .await;
    assert_eq!(
        load.so_far().answered_in_all(),
        0,
        "nothing refuses, so nothing is passed on"
    );
    bed.traffic.switch(&site.service, BLUE).unwrap();
    until(SOON, "the incumbent to answer", async || {
        load.so_far().answered_by("blue") > 50
    })
    .await;
    assert_eq!(load.so_far().answered_by("green"), 0);
    engine
        .client()
        .unpause_container("frozen-green")
        .await
        .unwrap();
    let tally = load.stop().await;
    eprintln!("frozen: {tally}");
    tally.assert_nothing_failed();
    assert!(
        tally.answered_by("green") > 40,
        "what was held is answered when it thaws: {tally}"
    );
}

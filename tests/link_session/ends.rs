//! How a session ends when the coordinator wants it to: soon, whoever reads or does not.

use std::time::{Duration, Instant, SystemTime};

use cutover_agent::session::Reason;
use cutover_coordinator::roster::{Farewell, NotSent, RosterEvent};
use cutover_proto::identity::Identity;
use cutover_proto::v1::enrolment_client::EnrolmentClient;
use cutover_proto::v1::{EnrollRequest, RefusedReason, to_agent};

use crate::link::{Coordinator, LONG, Puppet, hello, host, within};
use crate::{Agent, order};

#[tokio::test]
async fn removing_a_host_ends_its_session_within_a_second_and_it_is_told_why() {
    let mut coordinator = Coordinator::start();
    let folder = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(coordinator.enrolled(folder.path(), "web-1").await);
    agent.connected().await;
    coordinator.event().await;
    let serials = coordinator.registry.remove("web-1");
    let from = Instant::now();
    coordinator
        .gates
        .expel(&Identity::Agent(host("web-1")), serials)
        .await;
    assert!(matches!(agent.disconnected().await, Reason::Removed(_)));
    it_is_gone_within_a_second(&mut coordinator, from).await;
}

#[tokio::test]
async fn a_removed_host_that_does_not_read_loses_its_connection_within_a_second() {
    let mut coordinator = Coordinator::start();
    let credentials = coordinator.known_host("web-1", SystemTime::now());
    let mut puppet = Puppet::open(coordinator.connect(&credentials).await, hello("web-1"))
        .await
        .unwrap()
        .welcomed();
    coordinator.event().await;
    for _ in 0..100 {
        coordinator
            .roster
            .send(&host("web-1"), order(64 * 1024))
            .unwrap(); // far more than a window holds
    }
    let from = Instant::now();
    coordinator
        .roster
        .end(&host("web-1"), Farewell::removed(&host("web-1")));
    it_is_gone_within_a_second(&mut coordinator, from).await;
    let end = async { while let Ok(Some(_)) = puppet.incoming.message().await {} };
    tokio::time::timeout(LONG, end)
        .await
        .expect("the client sees the end");
}

#[tokio::test]
async fn closing_the_gates_ends_every_stream_within_a_second() {
    let mut coordinator = Coordinator::start();
    let mut puppets = Vec::new();
    for number in 0..20 {
        let name = format!("web-{number}");
        let credentials = coordinator.known_host(&name, SystemTime::now());
        puppets.push(
            Puppet::open(coordinator.connect(&credentials).await, hello(&name))
                .await
                .unwrap()
                .welcomed(),
        );
        coordinator.event().await;
    }
    let operator = coordinator.dial(&coordinator.operator("alice")).lazy();
    EnrolmentClient::new(operator)
        .enroll(EnrollRequest::default())
        .await
        .unwrap();
    let took = coordinator.stop().await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    for puppet in puppets {
        let Some(to_agent::What::Refused(refused)) = puppet.rest().await.pop() else {
            panic!("not told")
        };
        assert_eq!(refused.reason(), RefusedReason::ShuttingDown);
    }
}

#[tokio::test]
async fn an_agent_that_does_not_read_loses_its_session_and_nobody_waits_for_it() {
    let mut coordinator = Coordinator::start();
    let credentials = coordinator.known_host("web-1", SystemTime::now());
    let puppet = Puppet::open(coordinator.connect(&credentials).await, hello("web-1"))
        .await
        .unwrap()
        .welcomed();
    coordinator.event().await;
    let mut sent = 0;
    let refused = loop {
        match coordinator.roster.send(&host("web-1"), order(16 * 1024)) {
            Ok(()) => sent += 1,
            Err(reason) => break reason,
        }
        assert!(sent < 10_000, "there is no bound");
    };
    assert_eq!(refused, NotSent::Overflow);
    assert_eq!(
        coordinator.roster.send(&host("web-1"), order(1)),
        Err(NotSent::Away)
    );
    let RosterEvent::Disconnected { why, .. } = coordinator.event().await else {
        panic!("ended")
    };
    assert!(why.contains("does not read"), "{why}");
    within(
        || coordinator.gates.connections() == 0,
        "its connection to end",
    )
    .await;
    drop(puppet);
}

/// The loop hears of it, and nothing of the connection is left.
async fn it_is_gone_within_a_second(coordinator: &mut Coordinator, from: Instant) {
    assert!(matches!(
        coordinator.event().await,
        RosterEvent::Disconnected { .. }
    ));
    within(
        || coordinator.gates.connections() == 0,
        "its connection to end",
    )
    .await;
    assert!(
        from.elapsed() < Duration::from_secs(1),
        "{:?}",
        from.elapsed()
    );
}

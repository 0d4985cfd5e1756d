//! The one stream: how it opens, ends, comes back, and what it never loses.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "in a test a panic is the report"
)]
#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "whatever else came is the failure"
)]

mod ends;
#[path = "../link/mod.rs"]
mod link;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cutover_agent::enroll::Membership;
use cutover_agent::session::{LinkEvent, Reason};
use cutover_coordinator::pki::Lives;
use cutover_coordinator::roster::RosterEvent;
use cutover_proto::tls::{ClientTls, Dial, Serial};
use cutover_proto::v1::enrolment_client::EnrolmentClient;
use cutover_proto::v1::{
    EnrollRequest, FromAgent, Hello, Order, RefusedReason, Report, from_agent, to_agent,
};
use link::agent::Agent;
use link::{Coordinator, LONG, Puppet, hello, host, within};
use tokio_util::sync::CancellationToken;

fn report(number: u64) -> FromAgent {
    let report = Report {
        report: number.to_be_bytes().to_vec(),
        clock_nanos: number,
    };
    FromAgent {
        what: Some(from_agent::What::Report(report)),
    }
}

fn order(size: usize) -> to_agent::What {
    to_agent::What::Order(Order {
        order: vec![7; size],
    })
}

#[tokio::test]
async fn a_session_carries_both_ways_in_order_and_ends_with_a_bye() {
    let mut coordinator = Coordinator::start();
    let folder = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(coordinator.enrolled(folder.path(), "web-1").await);
    agent.connected().await;
    let RosterEvent::Connected {
        host: who, hello, ..
    } = coordinator.event().await
    else {
        panic!("connected")
    };
    assert_eq!(
        (
            who.as_str(),
            hello.boot_id.as_str(),
            hello.machine_id.as_str()
        ),
        ("web-1", "boot", "machine-of-web-1")
    );
    for number in 0..100 {
        agent.outgoing.send(report(number)).await.unwrap();
        coordinator
            .roster
            .send(&who, order(usize::try_from(number).unwrap()))
            .unwrap();
    }
    for number in 0..100 {
        let RosterEvent::Said { what, .. } = coordinator.event().await else {
            panic!("said")
        };
        assert_eq!(*what, report(number).what.unwrap());
        let LinkEvent::Said(what) = agent.event().await else {
            panic!("said")
        };
        assert_eq!(*what, order(usize::try_from(number).unwrap()));
    }
    agent.stop.cancel();
    agent.task.await.unwrap();
    let RosterEvent::Said { what, .. } = coordinator.event().await else {
        panic!("bye")
    };
    assert!(matches!(*what, from_agent::What::Bye(_)));
    let RosterEvent::Disconnected { why, .. } = coordinator.event().await else {
        panic!("gone")
    };
    assert!(why.contains("the agent stops"), "{why}");
}

#[tokio::test]
async fn a_loop_that_speaks_without_listening_is_not_held_up() {
    let mut coordinator = Coordinator::start();
    let folder = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(coordinator.enrolled(folder.path(), "web-1").await);
    agent.connected().await;
    coordinator.event().await;
    for _ in 0..200 {
        coordinator.roster.send(&host("web-1"), order(1)).unwrap(); // more than the loop's queue holds
    }
    within(
        || agent.events.len() == agent.events.max_capacity(),
        "the loop's queue to be full",
    )
    .await;
    for number in 0..200 {
        let said = agent.outgoing.send(report(number));
        tokio::time::timeout(LONG, said)
            .await
            .expect("taken")
            .unwrap();
    }
    for number in 0..200 {
        let RosterEvent::Said { what, .. } = coordinator.event().await else {
            panic!("said")
        };
        assert_eq!(*what, report(number).what.unwrap());
    }
    for _ in 0..200 {
        assert!(matches!(agent.event().await, LinkEvent::Said(_)));
    }
}

#[tokio::test]
async fn the_newest_session_of_a_host_replaces_the_older_which_loses_nothing_that_was_sent() {
    let mut coordinator = Coordinator::start();
    let credentials = coordinator.known_host("web-1", SystemTime::now());
    let first = Puppet::open(coordinator.connect(&credentials).await, hello("web-1"))
        .await
        .unwrap()
        .welcomed();
    let RosterEvent::Connected { session: older, .. } = coordinator.event().await else {
        panic!("connected")
    };
    for _ in 0..5 {
        coordinator.roster.send(&host("web-1"), order(1)).unwrap();
    }
    let second = Puppet::open(coordinator.connect(&credentials).await, hello("web-1"))
        .await
        .unwrap()
        .welcomed();
    let rest = first.rest().await;
    assert_eq!(rest[..5], vec![order(1); 5]);
    let Some(to_agent::What::Refused(refused)) = rest.get(5) else {
        panic!("{rest:?}")
    };
    assert_eq!((refused.reason(), rest.len()), (RefusedReason::Replaced, 6));
    let mut newer = None;
    let mut gone = None;
    for _ in 0..2 {
        match coordinator.event().await {
            RosterEvent::Connected { session, .. } => newer = Some(session),
            RosterEvent::Disconnected { session, why, .. } => gone = Some((session, why)),
            other => panic!("{other:?}"),
        }
    }
    let (gone, why) = gone.unwrap();
    assert!(
        gone == older && newer > Some(older) && why.contains("newer session"),
        "{why}"
    );
    assert_eq!(
        coordinator
            .roster
            .host(&host("web-1"))
            .map(|present| present.session),
        newer
    );
    second.outgoing.send(report(1)).await.unwrap();
    assert!(
        matches!(coordinator.event().await, RosterEvent::Said { session, .. } if Some(session) == newer)
    );
}

#[tokio::test]
async fn p4_two_machines_of_one_host_id_are_both_refused_and_named_until_a_person_decides() {
    let mut coordinator = Coordinator::start();
    let credentials = coordinator.known_host("web-1", SystemTime::now());
    let first = Puppet::open(coordinator.connect(&credentials).await, hello("web-1"))
        .await
        .unwrap()
        .welcomed();
    coordinator.event().await;
    let clone = || Hello {
        machine_id: "machine-clone".to_owned(),
        ..hello("web-1")
    };
    let second = Puppet::open(coordinator.connect(&credentials).await, clone())
        .await
        .unwrap()
        .refused();
    let Some(to_agent::What::Refused(ended)) = first.rest().await.pop() else {
        panic!("the first must end, too")
    };
    for refused in [&second, &ended] {
        assert_eq!(refused.reason(), RefusedReason::Quarantined);
        assert!(
            refused.text.contains("machine-of-web-1") && refused.text.contains("machine-clone"),
            "{refused:?}"
        );
    }
    assert!(coordinator.roster.present().is_empty());
    for machine in [hello("web-1"), clone()] {
        let again = Puppet::open(coordinator.connect(&credentials).await, machine)
            .await
            .unwrap()
            .refused();
        assert_eq!(again.reason(), RefusedReason::Quarantined);
    }
    let record = coordinator.registry.host("web-1").unwrap();
    coordinator.registry.put(record.readmitted("machine-clone"));
    Puppet::open(coordinator.connect(&credentials).await, clone())
        .await
        .unwrap()
        .welcomed();
    assert_eq!(coordinator.refusals.recent().len(), 3);
}

#[tokio::test]
async fn an_agent_of_a_protocol_that_is_not_understood_is_told_who_must_be_upgraded() {
    let mut coordinator = Coordinator::start();
    let credentials = coordinator.known_host("web-1", SystemTime::now());
    let before = coordinator.registry.snapshot();
    for (newest, oldest, reason, upgrade) in [
        (0, 0, RefusedReason::AgentTooOld, "upgrade the agent"),
        (
            99,
            98,
            RefusedReason::CoordinatorTooOld,
            "upgrade the coordinator",
        ),
    ] {
        let strange = Hello {
            protocol: newest,
            oldest_protocol: oldest,
            ..hello("web-1")
        };
        let refused = Puppet::open(coordinator.connect(&credentials).await, strange)
            .await
            .unwrap()
            .refused();
        assert_eq!(refused.reason(), reason);
        assert!(refused.text.contains(upgrade), "{refused:?}");
    }
    coordinator.assert_untouched(&before);
    let newer = Hello {
        protocol: 99,
        ..hello("web-1")
    }; // but it still speaks ours
    Puppet::open(coordinator.connect(&credentials).await, newer)
        .await
        .unwrap()
        .welcomed();
}

#[tokio::test]
async fn a_session_that_begins_without_hello_or_says_it_twice_ends() {
    let mut coordinator = Coordinator::start();
    let credentials = coordinator.known_host("web-1", SystemTime::now());
    let puppet = Puppet::open(coordinator.connect(&credentials).await, hello("web-1"))
        .await
        .unwrap()
        .welcomed();
    coordinator.event().await;
    let again = FromAgent {
        what: Some(from_agent::What::Hello(hello("web-1"))),
    };
    puppet.outgoing.send(again).await.unwrap();
    let RosterEvent::Disconnected { why, .. } = coordinator.event().await else {
        panic!("ended")
    };
    assert!(why.contains("second Hello"), "{why}");
    let connection = coordinator.connect(&credentials).await;
    let mut client =
        cutover_proto::v1::agent_link_client::AgentLinkClient::new(connection.channel.clone());
    let mut answer = client
        .session(tokio_stream::iter([report(1)]))
        .await
        .unwrap()
        .into_inner();
    let Some(to_agent::What::Refused(refused)) = answer.message().await.unwrap().unwrap().what
    else {
        panic!("not refused")
    };
    assert_eq!(refused.reason(), RefusedReason::BadHello);
}

#[tokio::test]
async fn an_agent_comes_back_after_the_coordinator_restarted_and_says_hello_again() {
    let mut coordinator = Coordinator::start();
    let folder = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(coordinator.enrolled(folder.path(), "web-1").await);
    agent.connected().await;
    coordinator.event().await;
    let mut coordinator = coordinator.restart().await;
    assert_eq!(agent.disconnected().await, Reason::ShuttingDown);
    agent.outgoing.send(report(7)).await.unwrap(); // said to nobody, or in the new stream: never lost half-way
    loop {
        match agent.event().await {
            LinkEvent::Connected(_) => break,
            LinkEvent::Disconnected(Reason::Unreachable(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(
        coordinator.event().await,
        RosterEvent::Connected { .. }
    ));
    agent.outgoing.send(report(8)).await.unwrap();
    loop {
        let RosterEvent::Said { what, .. } = coordinator.event().await else {
            panic!("said")
        };
        if *what == report(8).what.unwrap() {
            break;
        }
    }
}

#[tokio::test]
async fn an_agent_says_in_words_why_it_has_no_session() {
    let coordinator = Coordinator::start();
    let folder = tempfile::tempdir().unwrap();
    let membership = coordinator.enrolled(folder.path(), "web-1").await;
    coordinator
        .denied
        .deny(coordinator.registry.remove("web-1"));
    let mut agent = Agent::start(membership.clone());
    assert_eq!(agent.disconnected().await, Reason::Revoked);
    agent.stop.cancel();
    coordinator.stop().await;
    let mut agent = Agent::start(membership);
    let reason = agent.disconnected().await;
    assert!(
        matches!(&reason, Reason::Unreachable(text) if text.contains("refused")),
        "{reason:?}"
    );
}

#[tokio::test]
async fn certificates_of_both_sides_are_rotated_without_losing_a_session_or_a_request() {
    let lives = Lives {
        agent: Duration::from_secs(4),
        ..Lives::default()
    };
    let mut coordinator = Coordinator::start_with(lives);
    let folder = tempfile::tempdir().unwrap();
    let membership = coordinator.enrolled(folder.path(), "web-1").await;
    let serial = |folder: &std::path::Path| {
        let credentials = Membership::load(folder).unwrap().credentials().unwrap();
        Serial::of_certificate(credentials.certificate()).unwrap()
    };
    let before = serial(folder.path());
    let mut agent = Agent::start(membership);
    agent.connected().await;
    coordinator.event().await;

    // Requests all the while, on connections that are made anew, and one that stays.
    let operator = coordinator.operator("alice");
    let tls = Arc::new(ClientTls::mutual(&operator, &coordinator.trust()).unwrap());
    let dial = Dial::new(coordinator.main(), Arc::clone(&tls));
    let done = CancellationToken::new();
    let requests = tokio::spawn({
        let done = done.clone();
        async move {
            let mut stays = EnrolmentClient::new(dial.lazy());
            let mut answered = 0_u32;
            while !done.is_cancelled() {
                stays
                    .enroll(EnrollRequest::default())
                    .await
                    .expect("the live connection goes on");
                let mut fresh =
                    EnrolmentClient::new(dial.connect().await.expect("connected").channel.clone());
                fresh
                    .enroll(EnrollRequest::default())
                    .await
                    .expect("answered");
                answered += 2;
            }
            answered
        }
    });
    let old = coordinator
        .authority
        .own(
            coordinator.folder.path(),
            &link::addresses(),
            SystemTime::now(),
            1.0,
        )
        .unwrap();
    let new = coordinator
        .authority
        .issue_own(
            coordinator.folder.path(),
            &link::addresses(),
            SystemTime::now(),
        )
        .unwrap();
    assert_ne!(old.0.certificate(), new.certificate());
    coordinator
        .gates
        .replace(&new, &coordinator.trust())
        .unwrap();
    tls.replace(&coordinator.operator("alice"), &coordinator.trust())
        .unwrap();

    // The agent renews by itself at 50 to 80 % of four seconds; its session stays.
    assert!(matches!(agent.event().await, LinkEvent::Renewed));
    assert_ne!(before, serial(folder.path()));
    assert_eq!(coordinator.roster.present().len(), 1);
    agent.outgoing.send(report(1)).await.unwrap();
    assert!(matches!(
        coordinator.event().await,
        RosterEvent::Said { .. }
    ));

    // When the old certificate ends, so does the session that was opened with it; the new one goes on at once.
    loop {
        match agent.event().await {
            LinkEvent::Disconnected(reason) => assert_eq!(reason, Reason::CertificateExpired),
            LinkEvent::Connected(_) => break,
            LinkEvent::Renewed => {}
            LinkEvent::Said(what) => panic!("{what:?}"),
        }
    }
    done.cancel();
    let answered = requests.await.unwrap();
    assert!(answered > 20, "{answered}");
}

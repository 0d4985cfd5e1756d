//! One CA takes over from another, while hosts and operators are connected.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "in a test a panic is the report"
)]

mod link;

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use cutover_agent::enroll::{EnrollError, Enrolled, Membership, enroll, renew};
use cutover_coordinator::pki::succession::{self, Stage};
use cutover_proto::tls::{
    ClientTls, Credentials, DenyList, Dial, DialError, Fingerprint, PRIVATE, PUBLIC, Trust,
    check_peer, write_file,
};
use cutover_proto::v1::EnrollRequest;
use cutover_proto::v1::enrolment_client::EnrolmentClient;
use link::agent::Agent;
use link::{Coordinator, LONG, Puppet, hello, within};

/// A coordinator whose folder is at this stage, and that has taken it.
async fn at(coordinator: Coordinator, stage: Stage) -> Coordinator {
    let folder = coordinator.folder.path();
    let taken = match stage {
        Stage::Begun => succession::begin(folder, SystemTime::now()),
        Stage::Switched => succession::switch(folder),
        Stage::Settled => succession::end(folder),
    };
    assert_eq!(taken.unwrap().stage, stage);
    coordinator.restart_anew().await
}

fn trusts(folder: &Path) -> Vec<Fingerprint> {
    let trust = Membership::load(folder).unwrap().trust().unwrap();
    trust.fingerprints().to_vec()
}

/// Whether the certificate that a host keeps is of the CA of this trust.
fn is_of(folder: &Path, trust: &Trust) -> bool {
    let kept = Membership::load(folder).unwrap().credentials().unwrap();
    let denied = Arc::<DenyList>::default();
    check_peer(kept.certificate(), trust, &denied, SystemTime::now()).is_ok()
}

fn names(hosts: &[&cutover_coordinator::pki::holding::HostHolding]) -> Vec<String> {
    hosts.iter().map(|host| host.host.clone()).collect()
}

async fn asks(dial: &Dial) -> Result<(), DialError> {
    let connection = dial.connect().await?;
    let mut client = EnrolmentClient::new(connection.channel.clone());
    client.enroll(EnrollRequest::default()).await.unwrap();
    Ok(())
}

#[tokio::test]
async fn a_whole_succession_under_a_live_session_with_a_host_that_is_away_and_one_that_is_removed()
{
    let coordinator = Coordinator::start();
    let [here, away, gone, late] = [(); 4].map(|()| tempfile::tempdir().unwrap());
    let old = coordinator.authority.fingerprint();
    let old_trust = coordinator.trust();
    let mut agent = Agent::start(coordinator.enrolled(here.path(), "here").await);
    agent.connected().await;
    let sleeper = coordinator.enrolled(away.path(), "away").await;
    let removed = coordinator.enrolled(gone.path(), "gone").await;
    // An operator who knows the old CA alone, and one of its certificates, until the end.
    let operator = coordinator.operator("alice");
    let tls = ClientTls::mutual(&operator, &old_trust).unwrap();
    let alice = Dial::new(coordinator.main(), Arc::new(tls));
    asks(&alice).await.unwrap();

    let coordinator = at(coordinator, Stage::Begun).await;
    let next = coordinator.authority.next().unwrap();
    agent.back().await;
    let next_words = next.to_string();
    let behind = |c: &Coordinator| names(&c.holdings().unbelieving(&next_words));
    within(|| behind(&coordinator) == ["away", "gone"], "the bundle").await;
    assert_eq!(trusts(here.path()), [old, next]);
    assert!(is_of(here.path(), &old_trust), "the old CA issues still");
    assert_eq!(coordinator.roster.present().len(), 1, "its session stays");
    asks(&alice).await.unwrap();

    // Who was removed is not waited for; who was away is asked when it is back.
    let serials = coordinator.registry.remove("gone");
    coordinator.denied.deny(serials);
    assert_eq!(behind(&coordinator), ["away"]);
    let mut other = Agent::start(sleeper);
    other.connected().await;
    within(
        || behind(&coordinator).is_empty(),
        "the bundle of the other",
    )
    .await;
    other.stop.cancel();
    other.task.await.unwrap();

    let coordinator = at(coordinator, Stage::Switched).await;
    agent.back().await;
    let uncertified = |c: &Coordinator| names(&c.holdings().uncertified(&next_words));
    within(|| uncertified(&coordinator) == ["away"], "a new one").await;
    let next_trust = Trust::from_pem(&only_next(coordinator.folder.path())).unwrap();
    assert!(is_of(here.path(), &next_trust) && !is_of(away.path(), &next_trust));
    asks(&alice)
        .await
        .expect("the coordinator shows the old CA's certificate still");
    // A token of this time names the CA that the machine will see, and lets it have the next one.
    let token = coordinator.token(2, LONG);
    assert_eq!(token.ca, old);
    let wish = coordinator.wish("late", token.clone());
    let enrolled = enroll(late.path(), wish).await.unwrap();
    assert!(matches!(enrolled, Enrolled::New(_)) && is_of(late.path(), &next_trust));
    let mut third = Agent::start(Membership::load(late.path()).unwrap());
    third.connected().await;
    let mut other = Agent::start(Membership::load(away.path()).unwrap());
    other.connected().await;
    within(|| uncertified(&coordinator).is_empty(), "all").await;

    let coordinator = at(coordinator, Stage::Settled).await;
    assert_eq!(coordinator.authority.fingerprint(), next);
    for agent in [&mut agent, &mut other, &mut third] {
        agent.back().await;
    }
    within(
        || coordinator.holdings().behind().is_empty(),
        "nobody to believe the old CA",
    )
    .await;
    for folder in [&here, &away, &late] {
        assert_eq!(trusts(folder.path()), [next]);
    }
    // What the old CA made opens nothing any more.
    let error = asks(&alice)
        .await
        .expect_err("the operator was not renewed");
    assert!(matches!(error, DialError::UnknownCa { .. }), "{error:?}");
    let tls = ClientTls::mutual(&operator, &next_trust).unwrap();
    let refused = Dial::new(coordinator.main(), Arc::new(tls)).connect().await;
    let refused = match refused {
        Err(error) => error.to_string(),
        Ok(connection) => {
            let mut client = EnrolmentClient::new(connection.channel.clone());
            let asked = client.enroll(EnrollRequest::default()).await;
            assert!(asked.is_err(), "an old certificate was let in");
            connection
                .refusal()
                .map_or_else(String::new, |why| why.to_string())
        }
    };
    assert!(refused.contains("not from its CA"), "{refused}");
    let error = renew(&removed, "machine-of-gone")
        .await
        .expect_err("removed");
    assert!(matches!(error, EnrollError::Dial(_)), "{error:?}");
    let stale = tempfile::tempdir().unwrap();
    let error = enroll(stale.path(), coordinator.wish("stale", token)).await;
    assert!(
        matches!(
            error,
            Err(EnrollError::Dial(DialError::WrongFingerprint { .. }))
        ),
        "{error:?}"
    );
}

/// The next CA's certificate, from the folder.
fn only_next(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("next-ca.pem")).unwrap()
}

#[tokio::test]
async fn p5_a_coordinator_that_starts_between_two_files_of_a_step_has_every_host_back() {
    let coordinator = Coordinator::start();
    let folder = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(coordinator.enrolled(folder.path(), "web-1").await);
    agent.connected().await;
    // A key without its certificate: nothing has begun.
    let stray = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let put = |coordinator: &Coordinator, file: &str, text: &str, mode| {
        write_file(&coordinator.folder.path().join(file), text.as_bytes(), mode).unwrap();
    };
    put(&coordinator, "next-ca.key", &stray, PRIVATE);
    let coordinator = coordinator.restart_anew().await;
    agent.back().await;
    assert_eq!(coordinator.authority.stage(), Stage::Settled);

    let coordinator = at(coordinator, Stage::Begun).await;
    agent.back().await;
    let next = coordinator.authority.next().unwrap();
    let text = next.to_string();
    let holds = |c: &Coordinator| c.holdings().unbelieving(&text).is_empty();
    within(|| holds(&coordinator), "the bundle").await;
    let coordinator = at(coordinator, Stage::Switched).await;
    agent.back().await;
    let holds = |c: &Coordinator| c.holdings().uncertified(&text).is_empty();
    within(|| holds(&coordinator), "the certificate").await;

    // The end has been said, `ca.key` is the next one's, and `ca.pem` is the old one's still.
    let read = |file: &str| std::fs::read_to_string(coordinator.folder.path().join(file)).unwrap();
    let key = read("next-ca.key");
    assert_ne!(read("ca.pem"), read("next-ca.pem"));
    put(
        &coordinator,
        "next-ca.turn",
        &format!("alone {next}\n"),
        PUBLIC,
    );
    put(&coordinator, "ca.key", &key, PRIVATE);
    let coordinator = coordinator.restart_anew().await;
    agent.back().await;
    assert_eq!(coordinator.authority.fingerprint(), next);
    within(|| coordinator.holdings().behind().is_empty(), "the end").await;
    let coordinator = at(coordinator, Stage::Settled).await;
    agent.back().await;
    assert_eq!(coordinator.authority.fingerprint(), next);
}

#[tokio::test]
async fn a_host_whose_answer_was_lost_is_not_counted_and_is_asked_again() {
    let coordinator = at(Coordinator::start(), Stage::Begun).await;
    let folder = tempfile::tempdir().unwrap();
    let membership = coordinator.enrolled(folder.path(), "web-1").await;
    let coordinator = at(coordinator, Stage::Switched).await;
    let next = coordinator.authority.next().unwrap().to_string();
    let old = membership.credentials().unwrap();
    // It was given one of the next CA, and does not have it: as if the answer had never come.
    renew(&membership, "machine-of-web-1").await.unwrap();
    assert_eq!(names(&coordinator.holdings().uncertified(&next)), ["web-1"]);
    let asked = |puppet: &Puppet| match &puppet.first {
        Some(cutover_proto::v1::to_agent::What::Welcome(welcome)) => welcome.renew_certificate,
        other => panic!("not welcomed: {other:?}"),
    };
    let open = async |credentials: &Credentials| {
        let connection = coordinator.connect(credentials).await;
        Puppet::open(connection, hello("web-1")).await.unwrap()
    };
    assert!(asked(&open(&old).await), "it shows the old one");
    assert_eq!(names(&coordinator.holdings().uncertified(&next)), ["web-1"]);
    let new = Membership::load(folder.path())
        .unwrap()
        .credentials()
        .unwrap();
    assert!(!asked(&open(&new).await), "it shows the new one");
    assert!(coordinator.holdings().uncertified(&next).is_empty());
    assert!(
        asked(&open(&old).await),
        "and again the old one: a disk was put back"
    );
    assert_eq!(names(&coordinator.holdings().uncertified(&next)), ["web-1"]);
}

#[tokio::test]
async fn a_host_that_was_left_behind_is_refused_and_comes_back_with_a_new_token() {
    let coordinator = Coordinator::start();
    let folder = tempfile::tempdir().unwrap();
    let left = coordinator.enrolled(folder.path(), "web-1").await;
    let coordinator = at(coordinator, Stage::Begun).await;
    let coordinator = at(coordinator, Stage::Switched).await;
    let coordinator = at(coordinator, Stage::Settled).await;
    let mut agent = Agent::start(left.clone());
    let reason = agent.disconnected().await;
    agent.stop.cancel();
    assert!(reason.to_string().contains("unknown CA"), "{reason}");
    assert!(coordinator.roster.present().is_empty());
    assert!(renew(&left, "machine-of-web-1").await.is_err());
    let token = coordinator.token(1, LONG);
    let wish = || coordinator.wish("web-1", token.clone());
    let stays = enroll(folder.path(), wish()).await;
    assert!(
        matches!(stays, Err(EnrollError::AnotherCoordinator { .. })),
        "it says what to remove: {stays:?}"
    );
    // As the message says; and `cutover host rm`, because the key is a new one.
    for file in ["link.key", "link.json"] {
        std::fs::remove_file(folder.path().join(file)).unwrap();
    }
    assert!(
        enroll(folder.path(), wish()).await.is_err(),
        "the name is taken"
    );
    coordinator.registry.remove("web-1");
    let Enrolled::New(membership) = enroll(folder.path(), wish()).await.unwrap() else {
        panic!("enrolled already")
    };
    let mut agent = Agent::start(membership);
    agent.connected().await;
}

//! Who gets through the main gate, and who does not: each refused, with a reason, and nothing changed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "in a test a panic is the report"
)]

mod link;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use cutover_coordinator::pki::Authority;
use cutover_proto::identity::Identity;
use cutover_proto::tls::{CertificateRefusal, ClientTls, Dial, DialError, ServerTls};
use cutover_proto::v1::enrolment_client::EnrolmentClient;
use cutover_proto::v1::{EnrollRequest, RefusedReason};
use link::{Coordinator, Puppet, address, addresses, certificate, hello, within};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tonic::Code;

/// Asks something with whatever `dial` shows; it must fail, and the client must learn why.
async fn refusal(dial: Dial) -> CertificateRefusal {
    let connection = match dial.connect().await {
        Err(DialError::Refused { reason, .. }) => return reason,
        Err(other) => panic!("another failure: {other:?}"),
        Ok(connection) => connection,
    };
    let mut client = EnrolmentClient::new(connection.channel.clone());
    let status = client
        .enroll(EnrollRequest::default())
        .await
        .expect_err("refused");
    connection
        .refusal()
        .unwrap_or_else(|| panic!("no reason: {status:?}"))
}

#[tokio::test]
async fn a_peer_with_another_cas_certificate_is_refused() {
    let mut coordinator = Coordinator::start();
    let before = coordinator.registry.snapshot();
    let folder = tempfile::tempdir().unwrap();
    let other = Authority::init(folder.path(), &addresses(), SystemTime::now()).unwrap();
    let (stranger, _) = certificate(&other, "web-1", SystemTime::now());
    let refused = refusal(coordinator.dial(&stranger)).await;
    assert_eq!(refused, CertificateRefusal::UnknownCa);
    assert!(coordinator.refused(1).await[0].contains("UnknownIssuer"));
    coordinator.assert_untouched(&before);
}

#[tokio::test]
async fn a_peer_without_a_certificate_is_refused() {
    let mut coordinator = Coordinator::start();
    let before = coordinator.registry.snapshot();
    let tls = Arc::new(ClientTls::trusting(&coordinator.trust()).unwrap());
    let refused = refusal(Dial::new(coordinator.main(), tls)).await;
    assert_eq!(refused, CertificateRefusal::Missing);
    assert!(
        coordinator.refused(1).await[0].contains("no certificates"),
        "{:?}",
        coordinator.refused(1).await
    );
    coordinator.assert_untouched(&before);
}

#[tokio::test]
async fn an_expired_certificate_is_refused() {
    let mut coordinator = Coordinator::start();
    let expired = coordinator.known_host(
        "web-1",
        SystemTime::now() - Duration::from_secs(91 * 24 * 3600),
    );
    let before = coordinator.registry.snapshot();
    assert_eq!(
        refusal(coordinator.dial(&expired)).await,
        CertificateRefusal::Expired
    );
    let reasons = coordinator.refused(1).await;
    assert!(reasons[0].contains("expired"), "{reasons:?}");
    coordinator.assert_untouched(&before);
}

#[tokio::test]
async fn a_revoked_certificate_is_refused() {
    let mut coordinator = Coordinator::start();
    let credentials = coordinator.known_host("web-1", SystemTime::now());
    coordinator
        .denied
        .deny(coordinator.registry.remove("web-1"));
    let before = coordinator.registry.snapshot();
    assert_eq!(
        refusal(coordinator.dial(&credentials)).await,
        CertificateRefusal::Revoked
    );
    let reasons = coordinator.refused(1).await;
    assert!(reasons[0].contains("Revoked"), "{reasons:?}");
    coordinator.assert_untouched(&before);
}

#[tokio::test]
async fn a_hosts_certificate_does_not_speak_for_another_host() {
    let mut coordinator = Coordinator::start();
    let credentials = coordinator.known_host("web-1", SystemTime::now());
    coordinator.known_host("web-2", SystemTime::now());
    let before = coordinator.registry.snapshot();
    let connection = coordinator.connect(&credentials).await;
    let refused = Puppet::open(connection, hello("web-2"))
        .await
        .unwrap()
        .refused();
    assert_eq!(refused.reason(), RefusedReason::BadHello);
    let reasons = coordinator.refused(1).await;
    assert!(
        reasons[0].contains("web-1") && reasons[0].contains("web-2"),
        "{reasons:?}"
    );
    coordinator.assert_untouched(&before);
}

#[tokio::test]
async fn an_agent_is_no_operator() {
    let mut coordinator = Coordinator::start();
    let credentials = coordinator.known_host("web-1", SystemTime::now());
    let before = coordinator.registry.snapshot();
    let connection = coordinator.connect(&credentials).await;
    let mut client = EnrolmentClient::new(connection.channel.clone());
    let status = client
        .enroll(EnrollRequest::default())
        .await
        .expect_err("refused");
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(
        status.message().contains("for operators alone"),
        "{status:?}"
    );
    let refusal = &coordinator.refusals.recent()[0];
    assert_eq!(refusal.who, "cutover://agent/web-1");
    coordinator.assert_untouched(&before);
}

#[tokio::test]
async fn an_operator_opens_no_session() {
    let mut coordinator = Coordinator::start();
    coordinator.known_host("web-1", SystemTime::now());
    let before = coordinator.registry.snapshot();
    let connection = coordinator.connect(&coordinator.operator("alice")).await;
    let Err(status) = Puppet::open(connection, hello("web-1")).await else {
        panic!("a session was opened")
    };
    assert_eq!(status.code(), Code::PermissionDenied);
    assert_eq!(
        coordinator.refusals.recent()[0].who,
        "cutover://operator/alice"
    );
    coordinator.assert_untouched(&before);
}

#[tokio::test]
async fn an_operator_is_known_to_the_service_by_its_certificate_and_a_revoked_one_loses_its_live_connection()
 {
    let coordinator = Coordinator::start();
    let credentials = coordinator.operator("alice");
    let connection = coordinator.connect(&credentials).await;
    let mut client = EnrolmentClient::new(connection.channel.clone());
    let answer = client
        .enroll(EnrollRequest::default())
        .await
        .expect("an operator may")
        .into_inner();
    assert_eq!(answer.host_id, "cutover://operator/alice");
    let serial = cutover_proto::tls::Serial::of_certificate(credentials.certificate()).unwrap();
    coordinator.denied.deny([serial]);
    let status = client
        .enroll(EnrollRequest::default())
        .await
        .expect_err("revoked");
    assert_eq!(status.code(), Code::Unauthenticated);
    assert_eq!(coordinator.operators.0.lock().unwrap().len(), 1);
    coordinator
        .gates
        .expel(&Identity::Operator("alice".parse().unwrap()), [])
        .await;
    within(
        || coordinator.gates.connections() == 0,
        "its connection to end",
    )
    .await;
}

#[tokio::test]
async fn a_client_that_resumes_tls_sessions_does_not_outlive_the_removal_of_its_host() {
    let coordinator = Coordinator::start();
    let (pem, key, serial) = {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let issued = coordinator
            .authority
            .agent(
                &link::host("web-1"),
                &link::request(&key),
                SystemTime::now(),
            )
            .unwrap();
        (issued.certificate_pem, key.serialize_pem(), issued.serial)
    };
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(coordinator.authority.bundle_pem().as_bytes()).unwrap())
        .unwrap();
    let chain = vec![CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()];
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(
            chain,
            PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
        )
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = rustls::client::Resumption::in_memory_sessions(16); // as by default
    let dial = Dial::new(coordinator.main(), Arc::new(ClientTls::of(config)));
    for _ in 0..3 {
        let connection = dial.connect().await.expect("believed");
        let mut client = EnrolmentClient::new(connection.channel.clone());
        let status = client
            .enroll(EnrollRequest::default())
            .await
            .expect_err("an agent is no operator");
        assert_eq!(status.code(), Code::PermissionDenied); // past TLS, and any ticket would have come
    }
    coordinator.denied.deny([serial]);
    assert_eq!(refusal(dial).await, CertificateRefusal::Revoked);
}

#[tokio::test]
async fn stalled_handshakes_hold_up_nobody() {
    let coordinator = Coordinator::start();
    let credentials = coordinator.known_host("web-1", SystemTime::now());
    let mut stalled = Vec::new();
    for _ in 0..200 {
        stalled.push(
            tokio::net::TcpStream::connect(coordinator.gates.main)
                .await
                .unwrap(),
        );
    }
    let from = Instant::now();
    let connection = coordinator.connect(&credentials).await;
    Puppet::open(connection, hello("web-1"))
        .await
        .unwrap()
        .welcomed();
    assert!(
        from.elapsed() < Duration::from_secs(2),
        "{:?}",
        from.elapsed()
    );
    within(
        || coordinator.refusals.recent().len() == 200,
        "the stalled ones to be given up",
    )
    .await;
    assert!(
        coordinator.refusals.recent()[0]
            .reason
            .contains("not finished within")
    );
}

#[tokio::test]
async fn a_caller_believes_its_coordinator_and_nobody_else() {
    let coordinator = Coordinator::start();
    let credentials = coordinator.known_host("web-1", SystemTime::now());
    let folder = tempfile::tempdir().unwrap();
    let other = Authority::init(folder.path(), &addresses(), SystemTime::now()).unwrap();
    let mutual = |trust| Arc::new(ClientTls::mutual(&credentials, &trust).unwrap());

    let stranger = Dial::new(coordinator.main(), mutual(other.trust().unwrap()))
        .connect()
        .await;
    assert!(
        matches!(stranger, Err(DialError::UnknownCa { .. })),
        "{:?}",
        stranger.err()
    );

    // An agent's certificate is not one that a server may have.
    let impostor = ServerTls::open(&credentials).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = address(listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let _ = tokio_rustls::TlsAcceptor::from(impostor.current())
                .accept(tcp)
                .await;
        }
    });
    let fooled = Dial::new(at, mutual(coordinator.trust())).connect().await;
    assert!(fooled.is_err());

    let nobody = Dial::new("127.0.0.1:1".parse().unwrap(), mutual(coordinator.trust()))
        .connect()
        .await;
    assert!(
        matches!(nobody, Err(DialError::Unreachable { .. })),
        "{:?}",
        nobody.err()
    );
}

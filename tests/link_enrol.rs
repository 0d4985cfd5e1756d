//! How a machine becomes a host, and how it does not.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "in a test a panic is the report"
)]

mod link;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cutover_agent::enroll::{EnrollError, Enrolled, Membership, enroll, renew};
use cutover_coordinator::pki::Lives;
use cutover_coordinator::pki::admission::AdmissionRefusal;
use cutover_proto::tls::{ClientTls, Dial, DialError, Fingerprint, PRIVATE, Serial, write_file};
use cutover_proto::token::{Token, TokenError};
use cutover_proto::v1::RenewRequest;
use cutover_proto::v1::enrolment_client::EnrolmentClient;
use link::{Coordinator, LONG, Puppet, certificate, hello, host, request, says};

fn empty(folder: &Path) -> bool {
    !folder.join("link.json").exists()
}

#[tokio::test]
async fn a_machine_with_a_token_becomes_a_host_and_a_second_run_changes_nothing() {
    let coordinator = Coordinator::start();
    let folder = tempfile::tempdir().unwrap();
    let membership = coordinator.enrolled(folder.path(), "web-1").await;
    assert_eq!(
        (membership.host(), membership.coordinator()),
        (&host("web-1"), &coordinator.main())
    );
    let mode = |file| {
        std::fs::metadata(folder.path().join(file))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!((mode("link.key"), mode("link.json")), (0o600, 0o644));
    let record = coordinator.registry.host("web-1").unwrap();
    assert_eq!(record.labels["role"], "web");
    assert_eq!(
        record.key,
        Fingerprint::of_key(membership.credentials().unwrap().certificate()).unwrap()
    );

    let before = (
        coordinator.registry.snapshot(),
        std::fs::read(folder.path().join("link.json")).unwrap(),
    );
    let again = enroll(
        folder.path(),
        coordinator.wish("web-1", coordinator.token(0, LONG)),
    )
    .await
    .unwrap();
    assert!(matches!(again, Enrolled::Already(_)));
    assert_eq!(
        before.1,
        std::fs::read(folder.path().join("link.json")).unwrap()
    );
    assert_eq!(coordinator.registry.host("web-1").unwrap(), record);

    let connection = coordinator
        .connect(&membership.credentials().unwrap())
        .await;
    Puppet::open(connection, hello("web-1"))
        .await
        .unwrap()
        .welcomed();
}

#[tokio::test]
async fn a_used_an_expired_and_an_unknown_token_are_refused_and_nothing_changes() {
    let coordinator = Coordinator::start();
    let folder = tempfile::tempdir().unwrap();
    let used = coordinator.token(1, LONG);
    let first = tempfile::tempdir().unwrap();
    enroll(first.path(), coordinator.wish("web-1", used.clone()))
        .await
        .unwrap();
    let expired = coordinator.token(1, Duration::ZERO);
    let mut unknown = coordinator.token(1, LONG);
    unknown.secret = cutover_proto::token::TokenSecret::from_bytes([1; 32]);
    let before = coordinator.registry.snapshot();
    for (token, refusal) in [
        (used, AdmissionRefusal::UsedToken),
        (expired, AdmissionRefusal::ExpiredToken),
        (unknown, AdmissionRefusal::UnknownToken),
    ] {
        let error = enroll(folder.path(), coordinator.wish("web-2", token))
            .await
            .expect_err("refused");
        says(&error, &refusal);
        assert_eq!(
            coordinator.refusals.recent().last().unwrap().reason,
            refusal.to_string()
        );
        assert!(empty(folder.path()));
        assert_eq!(coordinator.registry.snapshot(), before);
    }
}

#[tokio::test]
async fn a_truncated_token_and_one_of_another_coordinator_never_reach_the_coordinator() {
    let coordinator = Coordinator::start();
    let before = coordinator.registry.snapshot();
    let folder = tempfile::tempdir().unwrap();
    let line = coordinator.token(1, LONG).to_line();
    assert!(matches!(
        Token::from_line(&line[..line.len() - 1]),
        Err(TokenError::CutOff { .. })
    ));
    let mut wrong = Token::from_line(&line).unwrap();
    wrong.ca = Fingerprint::of(b"another CA");
    let error = enroll(folder.path(), coordinator.wish("web-1", wrong))
        .await
        .expect_err("refused");
    assert!(
        matches!(error, EnrollError::Dial(DialError::WrongFingerprint { .. })),
        "{error:?}"
    );
    assert!(empty(folder.path()) && coordinator.registry.host("web-1").is_none());
    assert!(before.len() < coordinator.registry.snapshot().len()); // the token alone
}

#[tokio::test]
async fn a_host_does_not_become_another_one_nor_another_coordinators_by_mistake() {
    let coordinator = Coordinator::start();
    let other = Coordinator::start();
    let folder = tempfile::tempdir().unwrap();
    coordinator.enrolled(folder.path(), "web-1").await;
    let renamed = enroll(
        folder.path(),
        coordinator.wish("web-9", coordinator.token(1, LONG)),
    )
    .await;
    assert!(
        matches!(renamed, Err(EnrollError::AnotherName { .. })),
        "{renamed:?}"
    );
    let moved = enroll(folder.path(), other.wish("web-1", other.token(1, LONG))).await;
    assert!(
        matches!(moved, Err(EnrollError::AnotherCoordinator { .. })),
        "{moved:?}"
    );
    assert!(coordinator.registry.host("web-9").is_none() && other.registry.host("web-1").is_none());

    // Nor does another machine become this host.
    let elsewhere = tempfile::tempdir().unwrap();
    let error = enroll(
        elsewhere.path(),
        coordinator.wish("web-1", coordinator.token(1, LONG)),
    )
    .await;
    says(
        &error.expect_err("taken"),
        &AdmissionRefusal::NameTaken(host("web-1")),
    );
}

#[tokio::test]
async fn a_machine_whose_answer_was_lost_enrols_again_with_the_same_token() {
    let coordinator = Coordinator::start();
    let folder = tempfile::tempdir().unwrap();
    let token = coordinator.token(1, LONG);
    enroll(folder.path(), coordinator.wish("web-1", token.clone()))
        .await
        .unwrap();
    std::fs::remove_file(folder.path().join("link.json")).unwrap(); // as if it had never come
    let again = enroll(folder.path(), coordinator.wish("web-1", token))
        .await
        .unwrap();
    assert!(matches!(again, Enrolled::New(_)));
    assert_eq!(coordinator.registry.host("web-1").unwrap().given.len(), 2);
}

#[tokio::test]
async fn an_expired_certificate_is_renewed_with_its_known_key_for_thirty_days_and_a_removed_hosts_is_not()
 {
    let day = Duration::from_secs(24 * 3600);
    let lives = Lives {
        agent: Duration::from_secs(60),
        ..Lives::default()
    };
    let coordinator = Coordinator::start_with(lives);
    let folder = tempfile::tempdir().unwrap();
    let membership = coordinator.enrolled(folder.path(), "web-1").await;
    let key =
        rcgen::KeyPair::from_pem(&std::fs::read_to_string(folder.path().join("link.key")).unwrap())
            .unwrap();
    let ask = async |certificate: Vec<u8>, csr: Vec<u8>| {
        let tls = Arc::new(ClientTls::trusting(&coordinator.trust()).unwrap());
        let connection = Dial::new(coordinator.enrolment(), tls)
            .connect()
            .await
            .unwrap();
        let mut client = EnrolmentClient::new(connection.channel.clone());
        let machine_id = "machine-of-web-1".to_owned();
        client
            .renew(RenewRequest {
                certificate_der: certificate,
                csr_der: csr,
                machine_id,
            })
            .await
    };
    let issued_ago = |ago| {
        let issued = coordinator
            .authority
            .agent(&host("web-1"), &request(&key), SystemTime::now() - ago)
            .unwrap();
        issued.certificate_der
    };
    ask(issued_ago(29 * day), request(&key))
        .await
        .expect("within thirty days");
    let late = ask(issued_ago(31 * day), request(&key))
        .await
        .expect_err("too late");
    assert!(late.message().contains("more than 30 days ago"), "{late:?}");

    // The key must be the certificate's, and the host's.
    let (other, other_csr) = certificate(&coordinator.authority, "web-1", SystemTime::now());
    let held = membership.credentials().unwrap().certificate().to_vec();
    let mixed = ask(held.clone(), other_csr.clone())
        .await
        .expect_err("another key in the request");
    assert!(
        mixed.message().contains("another key than the certificate"),
        "{mixed:?}"
    );
    let stolen = ask(other.certificate().to_vec(), other_csr)
        .await
        .expect_err("another key altogether");
    assert!(stolen.message().contains("not the key"), "{stolen:?}");
    let operator = coordinator.operator("alice").certificate().to_vec();
    assert!(ask(operator, request(&key)).await.is_err());

    let renewed = renew(&membership, "machine-of-web-1").await.unwrap();
    assert_eq!(
        Membership::load(folder.path()).unwrap().life().unwrap(),
        renewed.life().unwrap()
    );

    let serials = coordinator.registry.remove("web-1");
    let unknown = renew(&renewed, "machine-of-web-1")
        .await
        .expect_err("removed");
    says(&unknown, &AdmissionRefusal::UnknownHost(host("web-1")));
    coordinator.denied.deny(serials);
    let revoked = renew(&renewed, "machine-of-web-1")
        .await
        .expect_err("revoked");
    assert!(revoked.to_string().contains("Revoked"), "{revoked}");
}

#[tokio::test]
async fn nothing_of_a_request_but_its_key_gets_into_a_certificate() {
    let coordinator = Coordinator::start();
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let mut wish = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    wish.subject_alt_names.push(rcgen::SanType::URI(
        "cutover://operator/root".try_into().unwrap(),
    ));
    wish.extended_key_usages
        .push(rcgen::ExtendedKeyUsagePurpose::ServerAuth);
    wish.distinguished_name
        .push(rcgen::DnType::CommonName, "cutover://coordinator");
    let csr = wish.serialize_request(&key).unwrap();
    let before = SystemTime::now();
    let issued = coordinator
        .authority
        .agent(&host("web-1"), csr.der(), before)
        .unwrap();
    let checked = cutover_proto::tls::CheckedCertificate::read(&issued.certificate_der).unwrap();
    assert_eq!(checked.identity.to_string(), "cutover://agent/web-1");
    let life = checked
        .life
        .until
        .duration_since(checked.life.from)
        .unwrap();
    assert_eq!(life, Duration::from_secs(90 * 24 * 3600 + 300));
    assert_eq!(checked.serial.as_bytes().len(), 16);
    let text = String::from_utf8_lossy(&issued.certificate_der).into_owned();
    assert!(
        !text.contains("operator/root") && !text.contains("cutover://coordinator"),
        "{text}"
    );
    let mut broken = csr.der().to_vec();
    *broken.last_mut().unwrap() ^= 1;
    assert!(
        coordinator
            .authority
            .agent(&host("web-1"), &broken, before)
            .is_err()
    );
}

#[tokio::test]
async fn the_ca_is_made_once_its_key_is_private_and_its_own_certificate_is_renewed_when_due() {
    use cutover_coordinator::pki::{Authority, PkiError};
    let coordinator = Coordinator::start();
    let folder = coordinator.folder.path();
    let twice = Authority::init(folder, &link::addresses(), SystemTime::now());
    assert!(matches!(twice, Err(PkiError::Exists(_))));
    for key in ["ca.key", "coordinator.key"] {
        let mode = std::fs::metadata(folder.join(key))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{key}");
    }
    let loaded = Authority::load(folder).unwrap();
    assert_eq!(loaded.fingerprint(), coordinator.authority.fingerprint());
    let own = |at| loaded.own(folder, &link::addresses(), at, 0.5).unwrap();
    let serial = |at| Serial::of_certificate(own(at).0.certificate()).unwrap();
    let now = SystemTime::now();
    let kept = serial(now);
    assert_eq!(kept, serial(now + Duration::from_secs(50 * 24 * 3600)));
    assert_ne!(
        kept,
        serial(now + Duration::from_secs(60 * 24 * 3600)),
        "due at 65 % of 90 days"
    );
    // A crash between the two files leaves a pair that does not fit: it is made anew.
    write_file(
        &folder.join("coordinator.key"),
        &std::fs::read(folder.join("ca.key")).unwrap(),
        PRIVATE,
    )
    .unwrap();
    assert!(own(now).0.fits());
    let nothing = tempfile::tempdir().unwrap();
    assert!(matches!(
        Authority::load(nothing.path()),
        Err(PkiError::Missing(_))
    ));
    assert!(matches!(
        loaded.coordinator(&["not a name".to_owned()], now),
        Err(PkiError::Address(_))
    ));
}

#[tokio::test]
async fn p8_no_key_and_no_secret_shows_where_people_look() {
    let coordinator = Coordinator::start();
    let folder = tempfile::tempdir().unwrap();
    let token = coordinator.token(1, LONG);
    let wish = coordinator.wish("web-1", token.clone());
    let shown = format!("{wish:?}");
    let Enrolled::New(membership) = enroll(folder.path(), wish).await.unwrap() else {
        panic!("new")
    };
    let operator = coordinator
        .authority
        .operator(&"alice".parse().unwrap(), SystemTime::now())
        .unwrap();
    let key = std::fs::read_to_string(folder.path().join("link.key")).unwrap();
    let refusals = format!("{:?}", coordinator.refusals.recent());
    let shown = format!(
        "{shown} {membership:?} {:?} {operator:?} {:?} {:?} {refusals} {}",
        membership.credentials().unwrap(),
        operator.key_pem,
        coordinator.authority,
        coordinator.registry.snapshot(),
    );
    let code = token.to_line();
    let secret = format!("{:?}", token.secret.expose());
    for hidden in [key.lines().nth(1).unwrap(), &code, &secret, "PRIVATE KEY"] {
        assert!(!shown.contains(hidden), "{hidden} in {shown}");
    }
}

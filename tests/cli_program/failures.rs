//! Exit codes 2, 5 and 7: what was typed, what cannot be reached, what is refused.

use tonic::Status;

use super::network::Wire;
use super::peer::{Peer, Script};
use super::run::{cutover, run};

#[tokio::test]
async fn what_makes_no_sense_is_exit_code_2() {
    let peer = Peer::start(Script::default()).await;
    for arguments in [
        &["deplyo"][..],
        &["deploy", "--timeout", "90"],
        &["deploy", "--strategy", "sideways"],
        &["deploy", "--image", "web"],
        &["deploy", "--prune", "--only", "web"],
        &["deploy", "-e", "prod"],
        &["deploy", "--from", "stage"],
        &["deploy", "--stateful", "db"],
        &["deploy", "--strategy", "canary"],
        &["rollback", "Shop/Web"],
        &["rollback", "shop/web", "--to", "0"],
        &["why"],
        &["host", "label", "h1", "zone"],
        &[],
    ] {
        let ran = peer.run(arguments).await;
        assert_eq!(ran.code, 2, "{arguments:?} {ran:?}");
        assert!(
            ran.out.is_empty() && !ran.err.is_empty(),
            "{arguments:?} {ran:?}"
        );
    }
    assert!(peer.script().asked.is_empty(), "nobody was asked");
    let ran = peer.run(&["deplyo"]).await;
    assert!(
        ran.err.contains("'deploy'"),
        "a mistyped verb gets a suggestion: {ran:?}"
    );
    let ran = peer.run(&["deploy", "-e", "prod"]).await;
    assert!(ran.err.contains("not supported yet"), "{ran:?}");
    assert!(ran.err.contains("leave it out"), "{ran:?}");
    let ran = peer.run(&["stop", "shop/web"]).await;
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(
        ran.err.contains("the verb stop is not there yet") && !ran.err.contains("history"),
        "no other verb is suggested: {ran:?}"
    );
    let ran = peer.run(&["-o", "json", "deplyo"]).await;
    assert_eq!(ran.json()["error"]["code"], "usage");
}

#[tokio::test]
async fn an_invalid_file_is_exit_code_2_with_file_line_and_column() {
    let peer = Peer::start(Script::default()).await;
    let mut command = peer.command(&["deploy", "-f", "bad.yaml", "-o", "json"]);
    std::fs::write(
        peer.scratch.join("bad.yaml"),
        "name: shop\nservices:\n  web:\n    image: web:1\n    restart: sometimes\n",
    )
    .expect("writable");
    let ran = run(command).await;
    assert_eq!(ran.code, 2, "{ran:?}");
    let error = &ran.json()["error"];
    assert_eq!(error["code"], "invalid_file");
    let problems = error["problems"].as_array().expect("a list");
    let wrong = problems
        .iter()
        .find(|problem| problem["severity"] == "error")
        .expect("an error");
    assert_eq!(
        (wrong["file"].as_str(), wrong["line"].as_u64()),
        (Some("bad.yaml"), Some(5))
    );
    assert!(ran.err.contains("bad.yaml:5:"), "{ran:?}");
    command = peer.command(&["plan", "-f", "missing.yaml"]);
    assert_eq!(run(command).await.code, 2);
}

#[tokio::test]
async fn what_cannot_be_reached_is_exit_code_5() {
    let peer = Peer::start(Script::default()).await;
    peer.wire.dead(true);
    for arguments in [&["status"][..], &["deploy"], &["host", "ls"]] {
        let ran = peer.run(arguments).await;
        assert_eq!(ran.code, 5, "{arguments:?} {ran:?}");
        assert!(ran.err.contains("next: "), "it says what to do: {ran:?}");
    }
    let mut command = peer.command(&["status", "-o", "json"]);
    command.env("CUTOVER_ADDRESS", "127.0.0.1:1");
    let ran = run(command).await;
    assert_eq!(
        (ran.code, &ran.json()["error"]["code"]),
        (5, &"unreachable".into())
    );
    assert!(ran.err.contains("127.0.0.1:1"), "it says where: {ran:?}");
}

#[tokio::test]
async fn a_certificate_that_is_not_believed_is_exit_code_5() {
    let peer = Peer::start(Script::default()).await;
    let other = Peer::start(Script::default()).await;
    // Ours is of another CA than the coordinator's.
    let mut command = peer.command(&["status", "-o", "json"]);
    command
        .env("CUTOVER_CERT", other.scratch.join("cert.pem"))
        .env("CUTOVER_KEY", other.scratch.join("key.pem"));
    // This stand-in closes at once and may cut off the alert that says why; the real gate does not,
    // and the end-to-end tests ask it for the code.
    assert_eq!(run(command).await.code, 5);
    // The coordinator's is of another CA than the one we trust.
    let mut command = peer.command(&["status", "-o", "json"]);
    command.env("CUTOVER_CA", other.scratch.join("ca.pem"));
    let ran = run(command).await;
    assert_eq!(
        (ran.code, &ran.json()["error"]["code"]),
        (5, &"certificate_refused".into()),
        "{ran:?}"
    );
    // A wire to somebody who does not speak TLS.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("free ports");
    let wire = Wire::to(listener.local_addr().expect("bound")).await;
    tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    let mut command = peer.command(&["status"]);
    command.env("CUTOVER_ADDRESS", wire.address().to_string());
    assert_eq!(run(command).await.code, 5);
}

#[tokio::test]
async fn a_refusal_says_why_and_has_the_code_of_its_kind() {
    for (refusal, code, name) in [
        (
            Status::permission_denied("test may not deploy"),
            7,
            "permission_denied",
        ),
        (Status::failed_precondition("no host matches"), 7, "refused"),
        (Status::aborted("it changed meanwhile"), 7, "refused"),
        (Status::invalid_argument("replicas is 0"), 2, "usage"),
        (Status::not_found("no such rollout"), 2, "not_found"),
        (Status::unavailable("starting"), 5, "unreachable"),
        (Status::internal("a bug"), 1, "unexpected"),
    ] {
        let said = refusal.message().to_owned();
        let peer = Peer::start(Script {
            refusal: Some(refusal),
            ..Script::default()
        })
        .await;
        let ran = peer.run(&["rollout", "show", "r-1", "-o", "json"]).await;
        let error = &ran.json()["error"];
        assert_eq!(
            (ran.code, error["code"].as_str()),
            (code, Some(name)),
            "{ran:?}"
        );
        assert_eq!(error["message"], format!("showing r-1: {said}"));
    }
}

#[tokio::test]
async fn help_is_no_mistake() {
    let peer = Peer::start(Script::default()).await;
    let folder = peer.scratch.path();
    let ran = run(cutover(folder, &["--help"])).await;
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    for later in ["freeze", "migration", "audit", "secret"] {
        assert!(!ran.out.contains(later), "{later} is not there yet");
    }
    let ran = run(cutover(folder, &["help", "exit-codes"])).await;
    assert_eq!(ran.code, 0);
    assert!(
        ran.out.contains("  9  ended mixed") && ran.out.contains("certificate_refused"),
        "{ran:?}"
    );
    let ran = run(cutover(folder, &["exit-codes", "-o", "json"])).await;
    assert_eq!(
        (&ran.json()[9]["code"], &ran.json()[9]["name"]),
        (&9.into(), &"mixed".into())
    );
    let ran = run(cutover(folder, &["completions", "bash"])).await;
    assert!(
        ran.code == 0 && ran.out.contains("cutover__subcmd__deploy"),
        "{}",
        ran.out.len()
    );
    let man = peer.scratch.folder("man");
    let ran = run(cutover(folder, &["man", man.to_str().expect("UTF-8")])).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(man.join("cutover-deploy.1").is_file() && man.join("cutover.1").is_file());
}

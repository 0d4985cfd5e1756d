//! Which coordinator is meant: contexts in the file, variables, and who wins.

use super::peer::{Peer, Script};
use super::run::{Ran, cutover, run};

/// The program with nothing in its environment but a home.
async fn at_home(peer: &Peer, arguments: &[&str]) -> Ran {
    run(cutover(peer.scratch.path(), arguments)).await
}

async fn add(peer: &Peer, name: &str, more: &[&str]) -> Ran {
    let address = peer.wire.address().to_string();
    let fixed = [
        "context",
        "add",
        name,
        "--address",
        &address,
        "--ca",
        "ca.pem",
        "--cert",
        "cert.pem",
        "--key",
        "key.pem",
    ];
    at_home(peer, &[&fixed, more].concat()).await
}

#[tokio::test]
async fn a_context_is_added_once_and_used_from_then_on() {
    let peer = Peer::start(Script::default()).await;
    let ran = at_home(&peer, &["status"]).await;
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.err.contains("cutover context add"), "{ran:?}");
    let ran = add(&peer, "prod", &[]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(at_home(&peer, &["status"]).await.code, 0);
    assert_eq!(add(&peer, "test", &[]).await.code, 0);
    let listed = at_home(&peer, &["context", "ls", "-o", "json"])
        .await
        .json();
    assert_eq!(
        (&listed[0]["name"], &listed[0]["current"]),
        (&"prod".into(), &true.into())
    );
    assert_eq!(
        (&listed[1]["name"], &listed[1]["current"]),
        (&"test".into(), &false.into())
    );
    assert_eq!(at_home(&peer, &["context", "use", "test"]).await.code, 0);
    let shown = at_home(&peer, &["context", "show", "-o", "json"])
        .await
        .json();
    assert_eq!(
        (&shown["name"], &shown["who"]),
        (&"test".into(), &"cutover://operator/test".into())
    );
    let ran = at_home(&peer, &["status", "--context", "stage"]).await;
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.err.contains("there are: prod, test"), "{ran:?}");
}

#[tokio::test]
async fn what_cannot_be_used_is_not_added() {
    let peer = Peer::start(Script::default()).await;
    let ran = at_home(
        &peer,
        &[
            "context",
            "add",
            "x",
            "--address",
            "a:1",
            "--ca",
            "ca.pem",
            "--cert",
            "cert.pem",
            "--key",
            "ca.pem",
        ],
    )
    .await;
    assert_eq!(ran.code, 2, "{ran:?}");
    assert_eq!(
        at_home(&peer, &["context", "ls", "-o", "json"])
            .await
            .json(),
        serde_json::json!([])
    );
}

#[tokio::test]
async fn variables_hold_paths_or_contents_and_win_over_the_file() {
    let peer = Peer::start(Script::default()).await;
    let dead = Peer::start(Script::default()).await;
    assert_eq!(add(&dead, "prod", &[]).await.code, 0);
    let text =
        |name: &str| std::fs::read_to_string(peer.scratch.join(name)).expect("it was written");
    let with = |arguments: &[&str]| {
        let mut command = cutover(dead.scratch.path(), arguments);
        command
            .env("CUTOVER_ADDRESS", peer.wire.address().to_string())
            .env("CUTOVER_CA", text("ca.pem"))
            .env("CUTOVER_CERT", text("cert.pem"))
            .env("CUTOVER_KEY", text("key.pem"));
        command
    };
    assert_eq!(run(with(&["status"])).await.code, 0);
    assert_eq!(
        (peer.script().asked.len(), dead.script().asked.len()),
        (1, 0)
    );
    // --context means the file alone.
    assert_eq!(run(with(&["status", "--context", "prod"])).await.code, 0);
    assert_eq!(
        (peer.script().asked.len(), dead.script().asked.len()),
        (1, 1)
    );
}

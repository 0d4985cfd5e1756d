//! The images that the tests deploy: the test service, linked statically, with one fault or none baked in.
//!
//! Built by the engine itself from a context in memory, since no registry can be asked. An image that is there with the
//! same content is left alone.

use std::fs;
use std::process::Command;

use bollard::Docker;
use bollard::query_parameters::BuildImageOptionsBuilder;
use futures::StreamExt;
use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;

use crate::engine::Engine;
use crate::scratch::Scratch;
use crate::service;

/// Without a tag: `cutover-test/web`.
pub const REPOSITORY: &str = "cutover-test/web";
const LABEL: &str = "cutover-test.content";

/// The usual tags, each with what makes it so.
const TAGS: &[(&str, &[(&str, &str)])] = &[
    ("1", &[("VERSION", "1")]),
    ("2", &[("VERSION", "2")]),
    ("3", &[("VERSION", "3")]),
    // Healthy by its own account, and half of its real requests fail.
    ("bad-500", &[("VERSION", "bad-500"), ("FAIL_RATE", "50")]),
    // Good at first, so that it passes every check, and bad when it serves.
    (
        "turns-bad",
        &[("VERSION", "turns-bad"), ("FAIL_AFTER_MS", "5000")],
    ),
    ("dies", &[("VERSION", "dies"), ("EXIT_AFTER_MS", "3000")]),
    (
        "dies-at-start",
        &[("VERSION", "dies-at-start"), ("EXIT_AT_START", "1")],
    ),
    (
        "port-taken",
        &[("VERSION", "port-taken"), ("PORT_TAKEN", "1")],
    ),
    (
        "never-ready",
        &[("VERSION", "never-ready"), ("NEVER_READY", "1")],
    ),
    (
        "bad-smoke",
        &[("VERSION", "bad-smoke"), ("SMOKE_STATUS", "500")],
    ),
    ("slow", &[("VERSION", "slow"), ("LATENCY_MS", "300")]),
    (
        "slow-start",
        &[("VERSION", "slow-start"), ("READY_AFTER_MS", "3000")],
    ),
    ("hangs", &[("VERSION", "hangs"), ("HANG_AFTER_MS", "5000")]),
    (
        "ignores-term",
        &[("VERSION", "ignores-term"), ("IGNORE_TERM", "1")],
    ),
];

/// Makes sure that the engine has `cutover-test/web:TAG` for one of the usual tags; gives the reference.
///
/// # Panics
/// When there is no such tag, or the engine cannot build it.
pub async fn web(engine: &Engine, tag: &str) -> String {
    let (_, environment) = TAGS
        .iter()
        .find(|(known, _)| *known == tag)
        .unwrap_or_else(|| {
            let known: Vec<&str> = TAGS.iter().map(|(known, _)| *known).collect();
            panic!("no image {tag:?} among {known:?}; image::custom makes any other")
        });
    custom(engine, tag, environment).await
}

/// Makes sure that the engine has `cutover-test/web:TAG` with this environment; gives the reference. A tag that exists
/// with another content is moved.
///
/// # Panics
/// When the engine cannot build it.
pub async fn custom(engine: &Engine, tag: &str, environment: &[(&str, &str)]) -> String {
    let reference = format!("{REPOSITORY}:{tag}");
    let app = app().await;
    let mut dockerfile =
        "FROM scratch\nCOPY app /app\nENTRYPOINT [\"/app\"]\nEXPOSE 8080\n".to_owned();
    for (name, value) in environment {
        dockerfile.push_str(&format!("ENV {name}={value:?}\n"));
    }
    let digest = Sha256::new()
        .chain_update(app)
        .chain_update(&dockerfile)
        .finalize();
    let content: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let client = engine.client();
    if content_of(&client, &reference).await.as_ref() == Some(&content) {
        return reference;
    }
    dockerfile.push_str(&format!("LABEL {LABEL}={content}\n"));
    build(&client, &reference, &dockerfile, app).await;
    reference
}

async fn app() -> &'static [u8] {
    static APP: OnceCell<Vec<u8>> = OnceCell::const_new();
    APP.get_or_init(async || {
        let path = tokio::task::spawn_blocking(service::app_path)
            .await
            .expect("building the test service");
        fs::read(&path).unwrap_or_else(|problem| panic!("{}: {problem}", path.display()))
    })
    .await
}

async fn content_of(client: &Docker, reference: &str) -> Option<String> {
    client
        .inspect_image(reference)
        .await
        .ok()?
        .config?
        .labels?
        .remove(LABEL)
}

async fn build(client: &Docker, reference: &str, dockerfile: &str, app: &[u8]) {
    let context = {
        let scratch = Scratch::new("image");
        fs::write(scratch.join("Dockerfile"), dockerfile).expect("a scratch folder is writable");
        fs::write(scratch.join("app"), app).expect("a scratch folder is writable");
        let tar = Command::new("tar")
            // Times and owners out of it, so that the engine's cache knows the layer again.
            .args([
                "--create",
                "--mtime=@0",
                "--owner=0",
                "--group=0",
                "--mode=755",
                "--directory",
            ])
            .arg(scratch.path())
            .args(["Dockerfile", "app"])
            .output()
            .expect("tar must be startable");
        assert!(
            tar.status.success(),
            "tar: {}",
            String::from_utf8_lossy(&tar.stderr)
        );
        tar.stdout
    };
    let options = BuildImageOptionsBuilder::default()
        .t(reference)
        .rm(true)
        .forcerm(true)
        .build();
    let mut steps =
        std::pin::pin!(client.build_image(options, None, Some(bollard::body_full(context.into()))));
    while let Some(step) = steps.next().await {
        let step = step.unwrap_or_else(|problem| panic!("building {reference}: {problem}"));
        if let Some(problem) = step.error_detail {
            panic!(
                "building {reference}: {}",
                problem.message.unwrap_or_default()
            );
        }
    }
}

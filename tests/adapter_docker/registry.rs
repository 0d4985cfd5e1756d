//! Resolving and pulling, against a registry of the least kind: one image, one user.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use cutover_agent::docker::{Class, Registry, Resolved};
use cutover_core::Slot;
use cutover_core::spec::ContainerSpec;
use cutover_tests::root_or_skip;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::world::{SECOND, World, chain, identity};

/// Bytes that ordinary base64 writes with `+` and `/`, which the engine does not read.
const PASSWORD: &str = "a>?b~~~>>>???ü";
const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

fn sha(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256:{hex}")
}

struct Hub {
    address: SocketAddr,
    digest: String,
    serving: JoinHandle<()>,
}

/// Serves `shop/web:1` on a loopback port, which the engine takes for a registry without TLS.
async fn hub() -> Hub {
    let layer = vec![0_u8; 1024]; // An empty tar.
    let config = format!(
        r#"{{"architecture":"{}","os":"linux","config":{{"Cmd":["/nothing"],"ExposedPorts":{{"80/tcp":{{}}}}}},"rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
        if cfg!(target_arch = "aarch64") {
            "arm64"
        } else {
            "amd64"
        },
        sha(&layer)
    );
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{{"mediaType":"application/vnd.docker.container.image.v1+json","size":{},"digest":"{}"}},"layers":[{{"mediaType":"application/vnd.docker.image.rootfs.diff.tar","size":{},"digest":"{}"}}]}}"#,
        config.len(),
        sha(config.as_bytes()),
        layer.len(),
        sha(&layer)
    );
    let digest = sha(manifest.as_bytes());
    let mut files: HashMap<String, (&str, Vec<u8>)> = HashMap::new();
    files.insert("/v2/".to_owned(), ("application/json", b"{}".to_vec()));
    for (what, content) in [
        (sha(&layer), layer),
        (sha(config.as_bytes()), config.into_bytes()),
    ] {
        files.insert(
            format!("/v2/shop/web/blobs/{what}"),
            ("application/octet-stream", content),
        );
    }
    for reference in ["1", &digest] {
        files.insert(
            format!("/v2/shop/web/manifests/{reference}"),
            (MANIFEST, manifest.clone().into_bytes()),
        );
    }
    let files = Arc::new(files);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let files = files.clone();
            let service = service_fn(move |request| {
                let answer = answer(&files, &request);
                async { Ok::<_, Infallible>(answer) }
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    Hub {
        address,
        digest,
        serving,
    }
}

fn answer(
    files: &HashMap<String, (&str, Vec<u8>)>,
    request: &Request<Incoming>,
) -> Response<Full<Bytes>> {
    let error = |status: StatusCode, code: &str| {
        Response::builder()
            .status(status)
            .header("WWW-Authenticate", "Basic realm=\"hub\"")
            .header("Docker-Distribution-Api-Version", "registry/2.0")
            .header("Content-Type", "application/json")
            .body(
                format!(
                    r#"{{"errors":[{{"code":"{code}","message":"{}"}}]}}"#,
                    code.to_lowercase().replace('_', " ")
                )
                .into(),
            )
            .unwrap()
    };
    let given = request
        .headers()
        .get("authorization")
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    if given != format!("Basic {}", base64(format!("ci:{PASSWORD}").as_bytes())) {
        return error(StatusCode::UNAUTHORIZED, "UNAUTHORIZED");
    }
    let Some((kind, content)) = files.get(request.uri().path()) else {
        return error(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN");
    };
    Response::builder()
        .header("Content-Type", *kind)
        .header("Docker-Content-Digest", sha(content))
        .header("Docker-Distribution-Api-Version", "registry/2.0")
        .body(content.clone().into())
        .unwrap()
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let number = (0..3).fold(0, |number, i| {
            number << 8 | u32::from(chunk.get(i).copied().unwrap_or(0))
        });
        for i in 0..4 {
            let sign = ALPHABET[(number >> (18 - 6 * i) & 63) as usize] as char;
            text.push(if i <= chunk.len() { sign } else { '=' });
        }
    }
    text
}

#[tokio::test]
async fn an_image_is_resolved_once_and_pulled_by_digest() {
    if !root_or_skip("an_image_is_resolved_once_and_pulled_by_digest") {
        return;
    }
    let (world, hub) = (World::new("hub").await, hub().await);
    let name = format!("{}/shop/web", hub.address);
    let tagged = format!("{name}:1");
    let login = Registry {
        server: hub.address.to_string(),
        username: "ci".to_owned(),
        password: PASSWORD.to_owned(),
    };

    for credentials in [
        None,
        Some(&Registry {
            password: "wrong".to_owned(),
            ..login.clone()
        }),
    ] {
        let error = world
            .docker
            .resolve_image(&tagged, credentials)
            .await
            .unwrap_err();
        assert_eq!(error.class(), Class::Unauthorized, "{}", chain(&error));
        let error = world
            .docker
            .pull(&tagged, credentials, |_| {})
            .await
            .unwrap_err();
        assert_eq!(error.class(), Class::Unauthorized, "{}", chain(&error));
        assert!(!chain(&error).contains("wrong"), "{}", chain(&error));
    }
    let resolved = world
        .docker
        .resolve_image(&tagged, Some(&login))
        .await
        .unwrap();
    assert_eq!(resolved, Resolved::Digest(format!("{name}@{}", hub.digest)));
    for wrong in [
        format!("{name}:2"),
        format!("{name}@sha256:{}", "0".repeat(64)),
    ] {
        let error = world
            .docker
            .pull(&wrong, Some(&login), |_| {})
            .await
            .unwrap_err();
        assert_eq!(error.class(), Class::NoSuchImage, "{}", chain(&error));
    }
    let error = world
        .docker
        .resolve_image(&format!("{name}:2"), Some(&login))
        .await
        .unwrap_err();
    assert_eq!(error.class(), Class::NoSuchImage, "{}", chain(&error));

    assert!(!world.docker.image_present(resolved.as_str()).await.unwrap());
    let mut told = Vec::new();
    world
        .docker
        .pull(resolved.as_str(), Some(&login), |line| {
            told.push(line.to_owned())
        })
        .await
        .unwrap();
    assert!(
        told.iter().any(|line| line.contains("Pull complete")),
        "{told:?}"
    );
    let facts = world
        .docker
        .image_facts(resolved.as_str())
        .await
        .unwrap()
        .unwrap();
    assert!(
        facts.repo_digests.contains(&resolved.as_str().to_owned()) && facts.ports.contains(&80),
        "{facts:?}"
    );
    world
        .docker
        .pull(&tagged, Some(&login), |_| {})
        .await
        .unwrap();

    // The registry goes away: what is here is still known, pulled and made into containers.
    hub.serving.abort();
    assert!(hub.serving.await.unwrap_err().is_cancelled());
    assert_eq!(
        world.docker.resolve_image(&tagged, None).await.unwrap(),
        resolved
    );
    world
        .docker
        .pull(resolved.as_str(), None, |_| {})
        .await
        .unwrap();
    let error = world
        .docker
        .resolve_image(&format!("{name}:3"), None)
        .await
        .unwrap_err();
    assert_eq!(
        error.class(),
        Class::RegistryUnreachable,
        "{}",
        chain(&error)
    );
    let spec = ContainerSpec {
        resolved_image: resolved.as_str().to_owned(),
        ..world.spec()
    };
    assert!(
        world
            .create(&identity("shop/hub", 1, Slot::Blue), &spec, 10)
            .await
            .unwrap()
            .made
    );
}

#[tokio::test]
async fn an_image_that_was_made_here_is_known_by_its_id() {
    if !root_or_skip("an_image_that_was_made_here_is_known_by_its_id") {
        return;
    }
    let world = World::new("local").await;
    // Nobody listens there: the engine is quick to say so.
    let tagged = "127.0.0.1:1/shop/local:1";
    world.docker_command(&["tag", &world.image, tagged]);
    let id = world
        .docker
        .image_facts(&world.image)
        .await
        .unwrap()
        .unwrap()
        .id;
    assert_eq!(
        world.docker.resolve_image(tagged, None).await.unwrap(),
        Resolved::Id(id.clone())
    );
    assert_eq!(
        world.docker.resolve_image(&id, None).await.unwrap(),
        Resolved::Id(id.clone())
    );
    world.docker.pull(&id, None, |_| {}).await.unwrap();
    let unknown = format!("sha256:{}", "0".repeat(64));
    for missing in [
        world.docker.resolve_image(&unknown, None).await.map(drop),
        world.docker.pull(&unknown, None, |_| {}).await,
    ] {
        assert_eq!(missing.unwrap_err().class(), Class::NoSuchImage);
    }
}

#[tokio::test]
async fn a_registry_that_hangs_is_not_taken_for_the_engine() {
    if !root_or_skip("a_registry_that_hangs_is_not_taken_for_the_engine") {
        return;
    }
    let world = World::new("hangs").await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let name = format!("{}/shop/web", silent.local_addr().unwrap());
    let docker = world.impatient("hangs", SECOND);
    for hung in [
        docker.resolve_image(&name, None).await.map(drop),
        docker.pull(&name, None, |_| {}).await,
    ] {
        let error = hung.unwrap_err();
        assert_eq!(
            error.class(),
            Class::RegistryUnreachable,
            "{}",
            chain(&error)
        );
    }
}

//! One sample each, of every kind of check, and what it says.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use cutover_agent::probe::{Replica, Sample, sample, smoke};
use cutover_core::Slot;
use cutover_core::spec::{Check, ContainerSpec, Healthcheck, SmokeCheck};
use cutover_tests::{root_or_skip, wait};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::world::{SECOND, SOON, World, identity, shell_image, words};

fn http(path: &str, port: u16) -> Check {
    Check::Http {
        path: path.to_owned(),
        port,
    }
}

#[tokio::test]
async fn a_replica_is_asked_in_every_way() {
    if !root_or_skip("a_replica_is_asked_in_every_way") {
        return;
    }
    let world = World::new("probe").await;
    let mut spec = world.spec();
    spec.environment
        .insert("SMOKE_STATUS".to_owned(), "503".to_owned());
    let name = world
        .run(&identity("shop/web", 1, Slot::Blue), &spec, 10)
        .await;
    let replica = Replica {
        address: world.address(10),
        container: &name,
    };
    let ask = async |check: Check| sample(&world.docker, &check, replica, SECOND).await;
    let says = |sample: &Sample, healthy: bool, evidence: &str| {
        assert_eq!(
            (sample.healthy, sample.evidence.as_str()),
            (healthy, evidence),
            "{sample:?}"
        );
    };
    wait::until(SOON, "a healthy sample", async || {
        ask(http("/healthz", 8080)).await.healthy
    })
    .await;

    says(
        &ask(http("/healthz", 8080)).await,
        true,
        "GET /healthz: 200 OK",
    );
    says(
        &ask(http("/smoke", 8080)).await,
        false,
        "GET /smoke: 503 Service Unavailable",
    );
    says(
        &ask(http("/status/302", 8080)).await,
        true,
        "GET /status/302: 302 Found",
    );
    let address = world.address(10);
    says(
        &ask(http("/", 8081)).await,
        false,
        &format!("connect to {address}:8081: refused"),
    );
    says(
        &ask(http("/slow?ms=3000", 8080)).await,
        false,
        "GET /slow?ms=3000: no answer within 1 s",
    );
    says(
        &ask(Check::Tcp { port: 8080 }).await,
        true,
        &format!("connect to {address}:8080: ok"),
    );
    says(
        &ask(Check::Tcp { port: 8081 }).await,
        false,
        &format!("connect to {address}:8081: refused"),
    );
    says(&ask(Check::Running).await, true, "running");
    says(
        &ask(Check::Docker).await,
        false,
        "HEALTHCHECK: neither the service nor its image has one",
    );
    let exec = ask(Check::Exec {
        command: words(&["/app"]),
    })
    .await;
    says(&exec, false, "exec check ended with 1");

    world.docker_command(&["pause", &name]);
    says(&ask(Check::Running).await, false, "paused");
    says(
        &ask(http("/healthz", 8080)).await,
        false,
        "GET /healthz: no answer within 1 s",
    );
    world.docker.stop(&name, SECOND).await.unwrap();
    says(&ask(Check::Running).await, false, "exited with 0");
    let gone = ask(Check::Tcp { port: 8080 }).await;
    assert!(!gone.healthy && gone.took < SECOND * 2, "{gone:?}");
    eprintln!(
        "an address that nobody has: {} after {:.1?}",
        gone.evidence, gone.took
    );
    let nobody = Replica {
        container: "shop-nobody-1-1",
        ..replica
    };
    says(
        &sample(&world.docker, &Check::Running, nobody, SECOND).await,
        false,
        "no such container",
    );
}

#[tokio::test]
async fn a_healthcheck_is_run_as_the_engine_would() {
    if !root_or_skip("a_healthcheck_is_run_as_the_engine_would") {
        return;
    }
    let world = World::new("hcprobe").await;
    let test = words(&["CMD-SHELL", "echo the password is hunter2; exit 1"]);
    let hour = Duration::from_secs(3600);
    let healthcheck = Healthcheck {
        test,
        interval: hour,
        timeout: SECOND,
        retries: 1,
        start_period: Duration::ZERO,
    };
    let spec = ContainerSpec {
        resolved_image: shell_image(&world.engine).await,
        command: Some(words(&["sleep", "600"])),
        healthcheck: Some(healthcheck),
        ..world.spec()
    };
    let name = world
        .run(&identity("shop/hc", 1, Slot::Blue), &spec, 10)
        .await;
    let replica = Replica {
        address: world.address(10),
        container: &name,
    };
    let asked = sample(&world.docker, &Check::Docker, replica, SOON).await;
    // P8: neither what is asked nor what it printed.
    assert_eq!(
        (asked.healthy, asked.evidence.as_str()),
        (false, "HEALTHCHECK ended with 1")
    );
    let hangs = Check::Exec {
        command: words(&["sleep", "100"]),
    };
    let late = sample(&world.docker, &hangs, replica, SECOND).await;
    assert_eq!(
        (late.healthy, late.evidence.as_str()),
        (false, "exec check: not done within 1 s")
    );
    let good = Check::Exec {
        command: words(&["sh", "-c", "true"]),
    };
    let asked = sample(&world.docker, &good, replica, SOON).await;
    assert!(asked.healthy, "{asked:?}");
    eprintln!("exec probe: {:.1?}", asked.took);
    world.docker.stop(&name, Duration::ZERO).await.unwrap();
}

/// A server that gives every connection the same bytes, in pieces.
async fn canned(pieces: &'static [&'static str]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut asked = vec![0; 4096];
            let _ = stream.read(&mut asked).await;
            for piece in pieces {
                let _ = stream.write_all(piece.as_bytes()).await;
                let _ = stream.flush().await;
                tokio::task::yield_now().await;
            }
        }
    });
    address
}

#[tokio::test]
async fn a_smoke_check_wants_its_status_and_its_text() {
    let check = |status, contains: Option<&str>| SmokeCheck {
        path: "/login".to_owned(),
        status,
        contains: contains.map(str::to_owned),
    };
    let ask = async |check: SmokeCheck, target| {
        smoke(&check, target, Some("shop.example.com"), SECOND).await
    };
    // The text lies across two chunks.
    let page = canned(&[
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\n<h1>Sig\r\n",
        "9\r\nn in</h1>\r\n0\r\n\r\n",
    ])
    .await;
    for (check, healthy, evidence) in [
        (check(None, None), true, "GET /login: 200 OK"),
        (
            check(Some(200), Some("Sign in")),
            true,
            "GET /login: 200 OK, contains \"Sign in\"",
        ),
        (
            check(None, Some("Sign out")),
            false,
            "GET /login: 200 OK, but does not contain \"Sign out\"",
        ),
        (check(Some(204), None), false, "GET /login: 200 OK, not 204"),
    ] {
        let sample = ask(check, page).await;
        assert_eq!(
            (sample.healthy, sample.evidence.as_str()),
            (healthy, evidence)
        );
    }
    for (pieces, evidence) in [
        (
            &["HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nSig"] as &[&str],
            "GET /login: 200 OK, but its body ended early",
        ),
        (&[""], "GET /login: closed without an answer"),
        (&["SSH-2.0-OpenSSH_9.2\r\n"], "GET /login: no HTTP answer"),
    ] {
        let sample = ask(check(None, Some("Sign in")), canned(pieces).await).await;
        assert!(
            !sample.healthy && sample.evidence.starts_with(evidence),
            "{sample:?}"
        );
    }
}

#[tokio::test]
async fn an_idle_hosts_probes_cost_nothing_to_speak_of() {
    let page = canned(&["HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"]).await;
    let check = SmokeCheck {
        path: "/".to_owned(),
        status: None,
        contains: None,
    };
    let cpu = || nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap();
    let (before, began) = (Duration::from(cpu()), Instant::now());
    const SAMPLES: u32 = 500;
    for _ in 0..SAMPLES {
        assert!(smoke(&check, page, None, SECOND).await.healthy);
    }
    let each = (Duration::from(cpu()) - before) / SAMPLES;
    eprintln!(
        "one HTTP sample: {each:.1?} of CPU (server included), {:.1?} in all",
        began.elapsed() / SAMPLES
    );
    // Twenty in ten seconds at 0.1 % of a core leave 500 µs for each; this is a debug build, and its server runs on the same thread.
    assert!(each < Duration::from_millis(2), "{each:?}");
}

//! Commands in containers, their HEALTHCHECK, and what they log.

use std::time::{Duration, Instant};

use cutover_agent::docker::{Class, Execution, Health, LogQuery, Output};
use cutover_core::Slot;
use cutover_core::spec::{ContainerSpec, Healthcheck};
use cutover_tests::{root_or_skip, wait};
use futures::StreamExt;

use crate::world::{SECOND, SOON, World, chain, identity, shell_image, words};

async fn shell(world: &World, script: &str) -> ContainerSpec {
    let command = Some(words(&["sh", "-c", script]));
    ContainerSpec {
        resolved_image: shell_image(&world.engine).await,
        command,
        init: true,
        ..world.spec()
    }
}

#[tokio::test]
async fn a_command_ends_with_its_code_and_its_words() {
    if !root_or_skip("a_command_ends_with_its_code_and_its_words") {
        return;
    }
    let world = World::new("exec").await;
    let spec = shell(&world, "exec sleep 600").await;
    let name = world
        .run(&identity("shop/shell", 1, Slot::Blue), &spec, 10)
        .await;
    let within = async |script: &str, timeout: Duration| {
        let command = words(&["sh", "-c", script]);
        world.docker.exec(&name, &command, timeout).await
    };
    let exec = async |script: &str| within(script, SOON).await;
    let ended = |code, output: &str| Execution::Ended {
        code,
        output: output.to_owned(),
    };

    let began = Instant::now();
    assert_eq!(exec("echo hello").await.unwrap(), ended(0, "hello"));
    eprintln!("exec: {:.1?}", began.elapsed());
    assert_eq!(
        exec("echo sorry >&2; exit 3").await.unwrap(),
        ended(3, "sorry")
    );
    assert_eq!(exec("exit 3").await.unwrap(), ended(3, ""));
    let no_such = world
        .docker
        .exec(&name, &words(&["/no/such/thing"]), SOON)
        .await
        .unwrap();
    assert!(
        matches!(
            &no_such,
            Execution::Ended {
                code: 126 | 127,
                ..
            }
        ),
        "{no_such:?}"
    );
    let Execution::Ended { code: 0, output } =
        exec("i=0; while [ $i -lt 5000 ]; do echo 0123456789; i=$((i+1)); done")
            .await
            .unwrap()
    else {
        panic!("ended");
    };
    assert_eq!(
        output.len().div_ceil(11) * 11,
        cutover_agent::docker::MAX_OUTPUT.div_ceil(11) * 11,
        "the beginning is kept"
    );

    // What takes too long is killed, its children too.
    let processes = || {
        world
            .docker_command(&["top", &name])
            .lines()
            .filter(|line| line.contains("sleep 54321"))
            .count()
    };
    let began = Instant::now();
    let late = within("echo waiting; sleep 54321; echo done", SECOND)
        .await
        .unwrap();
    assert_eq!(
        late,
        Execution::TooLong {
            output: "waiting".to_owned()
        }
    );
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    wait::until(SOON, "the command to be gone", async || processes() == 0).await;

    world.docker.stop(&name, Duration::ZERO).await.unwrap();
    assert_eq!(exec("true").await.unwrap_err().class(), Class::NotRunning);
    world.docker.remove(&name).await.unwrap();
    assert_eq!(exec("true").await.unwrap_err().class(), Class::NotFound);
}

#[tokio::test]
async fn a_healthcheck_can_be_run_before_the_engine_gets_to_it() {
    if !root_or_skip("a_healthcheck_can_be_run_before_the_engine_gets_to_it") {
        return;
    }
    let world = World::new("health").await;
    let healthcheck = Healthcheck {
        test: words(&["CMD-SHELL", "test -e /tmp/ready || exit 1"]),
        interval: Duration::from_secs(3600),
        timeout: SECOND,
        retries: 1,
        start_period: Duration::ZERO,
    };
    let spec = ContainerSpec {
        healthcheck: Some(healthcheck),
        tmpfs: words(&["/tmp"]),
        ..shell(&world, "sleep 1; echo > /tmp/ready; exec sleep 600").await
    };
    let name = world
        .run(&identity("shop/health", 1, Slot::Blue), &spec, 10)
        .await;
    let command = world.docker.healthcheck_of(&name).await.unwrap().unwrap();
    assert_eq!(
        command,
        words(&["/bin/sh", "-c", "test -e /tmp/ready || exit 1"])
    );
    let began = Instant::now();
    wait::until(SOON, "the check to pass", async || {
        matches!(
            world.docker.exec(&name, &command, SECOND).await.unwrap(),
            Execution::Ended { code: 0, .. }
        )
    })
    .await;
    eprintln!(
        "healthy after {:.1?}, while the engine waits an hour",
        began.elapsed()
    );
    assert_eq!(world.docker.health(&name).await.unwrap(), Health::Starting);

    let none = world
        .run(&identity("shop/none", 1, Slot::Blue), &world.spec(), 11)
        .await;
    assert_eq!(world.docker.healthcheck_of(&none).await.unwrap(), None);
    assert_eq!(world.docker.health(&none).await.unwrap(), Health::None);
}

#[tokio::test]
async fn the_end_of_a_log_is_bounded_in_order_and_readable() {
    if !root_or_skip("the_end_of_a_log_is_bounded_in_order_and_readable") {
        return;
    }
    let world = World::new("logs").await;
    let script = r"echo first; sleep 1; echo second >&2; sleep 1; printf 'bad \377 byte\n'; i=0; while [ $i -lt 300 ]; do echo line $i; i=$((i+1)); done; sleep 1; echo last >&2";
    let name = world
        .run(
            &identity("shop/logs", 1, Slot::Blue),
            &shell(&world, script).await,
            10,
        )
        .await;
    wait::until(SOON, "it to end", async || {
        !world
            .docker
            .look(&name)
            .await
            .unwrap()
            .unwrap()
            .state
            .is_up()
    })
    .await;
    let all = world.docker.logs_tail(&name, 1000, 100_000).await.unwrap();
    assert!(
        all.starts_with("first\nsecond\nbad \u{fffd} byte\nline 0\n")
            && all.ends_with("line 299\nlast"),
        "{all}"
    );
    let few = world.docker.logs_tail(&name, 2, 100_000).await.unwrap();
    assert!(few.ends_with("last") && few.lines().count() <= 4, "{few}");
    let short = world.docker.logs_tail(&name, 1000, 20).await.unwrap();
    assert!(short.len() <= 20 && short.ends_with("last"), "{short}");

    let remains = world.docker.remove(&name).await.unwrap().unwrap();
    assert!(remains.logs.ends_with("last"), "{}", remains.logs);
    let Err(error) = world.docker.logs(&name, &LogQuery::default()).await else {
        panic!("it is gone")
    };
    assert_eq!(error.class(), Class::NotFound, "{}", chain(&error));
}

#[tokio::test]
async fn a_log_can_be_followed_until_its_container_ends() {
    if !root_or_skip("a_log_can_be_followed_until_its_container_ends") {
        return;
    }
    let world = World::new("follow").await;
    let script = "echo out; sleep 1; echo err >&2";
    let name = world
        .run(
            &identity("shop/follow", 1, Slot::Blue),
            &shell(&world, script).await,
            10,
        )
        .await;
    let query = LogQuery {
        follow: true,
        ..LogQuery::default()
    };
    let lines = world.docker.logs(&name, &query).await.unwrap();
    let lines: Vec<_> = tokio::time::timeout(SOON, lines.collect()).await.unwrap();
    let lines: Vec<_> = lines
        .into_iter()
        .map(Result::unwrap)
        .map(|line| (line.output, line.text))
        .collect();
    assert_eq!(
        lines,
        [
            (Output::Out, "out".to_owned()),
            (Output::Err, "err".to_owned())
        ]
    );
}

#[tokio::test]
async fn a_log_that_the_driver_keeps_from_us_does_not_keep_a_container() {
    if !root_or_skip("a_log_that_the_driver_keeps_from_us_does_not_keep_a_container") {
        return;
    }
    let world = World::new("nolog").await;
    let logging = cutover_core::spec::Logging {
        driver: "none".to_owned(),
        options: Default::default(),
    };
    let spec = ContainerSpec {
        logging: Some(logging),
        ..world.spec()
    };
    let name = world
        .run(&identity("shop/nolog", 1, Slot::Blue), &spec, 10)
        .await;
    world.docker.stop(&name, SECOND).await.unwrap();
    let remains = world.docker.remove(&name).await.unwrap().unwrap();
    assert!(
        remains
            .logs
            .starts_with("(no logs: reading the log of container"),
        "{}",
        remains.logs
    );
}

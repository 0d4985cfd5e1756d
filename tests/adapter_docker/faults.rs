//! What the adapter tells when containers and engines die, hang and come back.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cutover_agent::docker::{Class, Deadlines, Docker, Event, Health, Settings, State};
use cutover_core::Slot;
use cutover_core::spec::{ContainerSpec, Healthcheck, Resources};
use cutover_tests::engine::{Engine, Options};
use cutover_tests::engine_proxy::EngineProxy;
use cutover_tests::root_or_skip;
use futures::{Stream, StreamExt};

use crate::world::{SECOND, SOON, World, chain, identity, shell_image, words};

type Events = Pin<Box<dyn Stream<Item = Event> + Send>>;

/// A stream that has said its first word.
async fn listening(docker: &Docker) -> Events {
    let mut events: Events = Box::pin(docker.events());
    assert!(matches!(next(&mut events).await, Event::Gap));
    events
}

async fn next(events: &mut Events) -> Event {
    tokio::time::timeout(SOON, events.next())
        .await
        .expect("an event")
        .expect("the stream never ends")
}

async fn own_engine(options: Options, host: &str) -> World {
    World::on(Arc::new(Engine::start_with(options).await), host).await
}

#[tokio::test]
async fn deaths_are_told_with_their_codes() {
    if !root_or_skip("deaths_are_told_with_their_codes") {
        return;
    }
    let world = World::new("deaths").await;
    let mut events = listening(&world.docker).await;
    let mut dies = world.spec();
    dies.environment.extend(
        [("EXIT_AFTER_MS", "200"), ("EXIT_CODE", "7")].map(|(k, v)| (k.to_owned(), v.to_owned())),
    );
    let one = identity("shop/dies", 1, Slot::Blue);
    let name = world.run(&one, &dies, 10).await;
    let Event::Started(who) = next(&mut events).await else {
        panic!("started")
    };
    assert_eq!((who.name, who.identity), (name.clone(), Ok(one)));
    let Event::Died(death) = next(&mut events).await else {
        panic!("died")
    };
    assert_eq!(
        (death.who.name.as_str(), death.code, death.signal),
        (name.as_str(), Some(7), None)
    );
    assert!(death.engine_stays);

    let web = world
        .run(&identity("shop/web", 1, Slot::Blue), &world.spec(), 11)
        .await;
    let Event::Started(_) = next(&mut events).await else {
        panic!("started")
    };
    let pid: i32 = world
        .docker_command(&["inspect", "-f", "{{.State.Pid}}", &web])
        .parse()
        .unwrap();
    let began = Instant::now();
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(pid),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
    let Event::Died(death) = next(&mut events).await else {
        panic!("died")
    };
    eprintln!("kill -9 of the process to event: {:.1?}", began.elapsed());
    assert_eq!((death.code, death.signal), (Some(137), Some(9)));

    world.docker_command(&["start", &web]);
    let Event::Started(_) = next(&mut events).await else {
        panic!("started")
    };
    world.docker_command(&["pause", &web]);
    let Event::Paused(_) = next(&mut events).await else {
        panic!("paused")
    };
    // "Make it run" thaws it.
    assert!(matches!(
        world.docker.start(&web).await.unwrap(),
        State::Running(_)
    ));
    let Event::Unpaused(_) = next(&mut events).await else {
        panic!("unpaused")
    };
    world.docker.stop(&web, SECOND).await.unwrap();
    let Event::Died(_) = next(&mut events).await else {
        panic!("died")
    };
    world.docker.remove(&web).await.unwrap();
    let Event::Removed(who) = next(&mut events).await else {
        panic!("removed")
    };
    assert_eq!(who.name, web);
}

#[tokio::test]
async fn health_memory_and_networks_are_told_too() {
    if !root_or_skip("health_memory_and_networks_are_told_too") {
        return;
    }
    let world = World::new("told").await;
    let image = shell_image(&world.engine).await;
    let mut events = listening(&world.docker).await;
    let healthcheck = Healthcheck {
        test: words(&["CMD", "/bin/sh", "-c", "test -e /tmp/well"]),
        interval: Duration::from_millis(100),
        timeout: SECOND,
        retries: 1,
        start_period: Duration::ZERO,
    };
    let spec = ContainerSpec {
        resolved_image: image.clone(),
        command: Some(words(&["sh", "-c", "exec sleep 600"])),
        tmpfs: words(&["/tmp"]),
        healthcheck: Some(healthcheck),
        init: true,
        ..world.spec()
    };
    let name = world
        .run(&identity("told/health", 1, Slot::Blue), &spec, 10)
        .await;
    for wanted in [Health::Unhealthy, Health::Healthy] {
        let changed = wait_for(&mut events, |event| {
            matches!(event, Event::HealthChanged(..))
        })
        .await;
        assert!(
            matches!(&changed, Event::HealthChanged(who, health) if who.name == name && *health == wanted),
            "{changed:?}"
        );
        assert_eq!(world.docker.health(&name).await.unwrap(), wanted);
        let mend = words(&["sh", "-c", "echo > /tmp/well"]);
        world.docker.exec(&name, &mend, SOON).await.unwrap();
    }
    world.docker.stop(&name, Duration::ZERO).await.unwrap();

    let greedy = ContainerSpec {
        resolved_image: image,
        command: Some(words(&[
            "sh",
            "-c",
            "x=xxxxxxxxxxxxxxxx; while :; do x=$x$x; done",
        ])),
        resources: Resources {
            memory: Some(16 << 20),
            ..Default::default()
        },
        ..world.spec()
    };
    let name = world
        .run(&identity("told/greedy", 1, Slot::Blue), &greedy, 11)
        .await;
    wait_for(
        &mut events,
        |event| matches!(event, Event::OutOfMemory(who) if who.name == name),
    )
    .await;
    wait_for(&mut events, |event| matches!(event, Event::Died(death) if death.who.name == name && death.signal == Some(9))).await;
    let state = world.docker.look(&name).await.unwrap().unwrap().state;
    assert!(
        matches!(&state, State::Exited(exit) if exit.out_of_memory),
        "{state:?}"
    );

    world
        .docker
        .remove_network(&world.network.name)
        .await
        .unwrap();
    wait_for(
        &mut events,
        |event| matches!(event, Event::NetworkRemoved(gone) if *gone == world.network.name),
    )
    .await;
}

#[tokio::test]
async fn an_engine_that_was_killed_leaves_a_gap_and_its_containers_are_listed_again() {
    if !root_or_skip("an_engine_that_was_killed_leaves_a_gap_and_its_containers_are_listed_again") {
        return;
    }
    let world = own_engine(
        Options {
            live_restore: true,
            ..Default::default()
        },
        "killed",
    )
    .await;
    assert!(world.docker.engine().await.unwrap().live_restore);
    let name = world
        .run(&identity("shop/web", 1, Slot::Blue), &world.spec(), 10)
        .await;
    let pid: i32 = world
        .docker_command(&["inspect", "-f", "{{.State.Pid}}", &name])
        .parse()
        .unwrap();
    let mut events = listening(&world.docker).await;

    let began = Instant::now();
    world.engine.kill().await;
    let Event::Away(error) = next(&mut events).await else {
        panic!("away")
    };
    eprintln!("kill -9 of dockerd to Away: {:.1?}", began.elapsed());
    assert_eq!(error.class(), Class::Unreachable, "{}", chain(&error));
    for down in [
        world.docker.ping().await,
        world.docker.list().await.map(drop),
        world.docker.start(&name).await.map(drop),
    ] {
        assert_eq!(down.unwrap_err().class(), Class::Unreachable);
    }
    // Nobody sees it die.
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(pid),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
    world.engine.start().await;
    let began = Instant::now();
    let Event::Gap = next(&mut events).await else {
        panic!("gap")
    };
    eprintln!("dockerd answers to Gap: {:.1?}", began.elapsed());
    let state = cutover_tests::wait::until(SOON, "the death to be found", async || {
        let listed = world.docker.list().await.unwrap().found;
        (!listed[0].state.is_up()).then(|| listed[0].state.clone())
    })
    .await;
    assert!(
        matches!(&state, State::Exited(exit) if exit.code == 137),
        "{state:?}"
    );
    // And the stream is alive again.
    world.docker.start(&name).await.unwrap();
    wait_for(&mut events, |event| matches!(event, Event::Started(_))).await;
}

async fn wait_for(events: &mut Events, wanted: impl Fn(&Event) -> bool) -> Event {
    loop {
        let event = next(events).await;
        if wanted(&event) {
            return event;
        }
    }
}

#[tokio::test]
async fn deaths_while_the_engine_shuts_down_say_that_it_leaves() {
    if !root_or_skip("deaths_while_the_engine_shuts_down_say_that_it_leaves") {
        return;
    }
    let world = own_engine(Options::default(), "leaves").await;
    let name = world
        .run(&identity("shop/web", 1, Slot::Blue), &world.spec(), 10)
        .await;
    let mut events = listening(&world.docker).await;
    let (died, ()) = tokio::join!(
        wait_for(&mut events, |event| matches!(
            event,
            Event::Died(_) | Event::Away(_)
        )),
        world.engine.stop()
    );
    // Either the death is told with the engine's leave, or the engine left before it could be told.
    if let Event::Died(death) = died {
        assert!(!death.engine_stays, "{death:?}");
        assert!(matches!(next(&mut events).await, Event::Away(_)));
    }
    world.engine.start().await;
    wait_for(&mut events, |event| matches!(event, Event::Gap)).await;
    let state = world.docker.look(&name).await.unwrap().unwrap().state;
    assert!(
        !state.is_up(),
        "only the agent starts containers: {state:?}"
    );
    assert!(matches!(
        world.docker.start(&name).await.unwrap(),
        State::Running(_)
    ));
}

/// Between the adapter and the engine: new connections are taken and not served while it is `shut`, as systemd's
/// docker.socket does it for an engine that shuts down; those that are open stay.
fn doorman(engine: &Engine, at: &std::path::Path) -> Arc<AtomicBool> {
    let (shut, listener) = (
        Arc::new(AtomicBool::new(false)),
        tokio::net::UnixListener::bind(at).unwrap(),
    );
    let (closed, engine) = (shut.clone(), engine.socket().to_owned());
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            if closed.load(Ordering::Relaxed) {
                held.push(stream);
                continue;
            }
            let mut to = tokio::net::UnixStream::connect(&engine).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut stream, &mut to).await });
        }
    });
    shut
}

#[tokio::test]
async fn a_death_beside_a_silent_engine_is_in_doubt_until_it_answers_or_is_away() {
    if !root_or_skip("a_death_beside_a_silent_engine_is_in_doubt_until_it_answers_or_is_away") {
        return;
    }
    let world = World::new("doubt").await;
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("docker.sock");
    let shut = doorman(&world.engine, &socket);
    let docker = Docker::with(Settings {
        socket,
        host: "doubt".parse().unwrap(),
        files: folder.path().to_owned(),
        shared_engine: true,
        deadlines: Deadlines::at_most(SECOND),
    });
    let mut events = listening(&docker).await;
    let name = world
        .run(&identity("shop/web", 1, Slot::Blue), &world.spec(), 10)
        .await;
    wait_for(&mut events, |event| matches!(event, Event::Started(_))).await;
    let die_behind_the_door = async |events: &mut Events| {
        shut.store(true, Ordering::Relaxed);
        world.docker.kill(&name, "SIGKILL").await.unwrap();
        let Event::Died(death) = wait_for(events, |event| matches!(event, Event::Died(_))).await
        else {
            unreachable!()
        };
        assert!(!death.engine_stays, "{death:?}");
    };
    die_behind_the_door(&mut events).await;
    let Event::Away(error) = next(&mut events).await else {
        panic!("away")
    };
    assert_eq!(error.class(), Class::Timeout, "{}", chain(&error));
    shut.store(false, Ordering::Relaxed);
    assert!(matches!(next(&mut events).await, Event::Gap));

    // An engine that was only slow.
    world.docker.start(&name).await.unwrap();
    wait_for(&mut events, |event| matches!(event, Event::Started(_))).await;
    die_behind_the_door(&mut events).await;
    shut.store(false, Ordering::Relaxed);
    assert!(matches!(next(&mut events).await, Event::Gap));
    world.docker.start(&name).await.unwrap();
    wait_for(&mut events, |event| matches!(event, Event::Started(_))).await;
    world.docker.kill(&name, "SIGKILL").await.unwrap();
    let Event::Died(death) = next(&mut events).await else {
        panic!("died")
    };
    assert!(death.engine_stays, "{death:?}");
}

#[tokio::test]
async fn a_hung_engine_is_an_error_and_never_a_hang() {
    if !root_or_skip("a_hung_engine_is_an_error_and_never_a_hang") {
        return;
    }
    let world = own_engine(Options::default(), "hung").await;
    let web = identity("shop/web", 1, Slot::Blue);
    let name = world.run(&web, &world.spec(), 10).await;
    let impatient = world.impatient("hung", Duration::from_millis(300));
    let fresh = identity("shop/web", 2, Slot::Green);
    let spec: ContainerSpec = world.spec();
    let plan = cutover_agent::docker::ContainerPlan {
        identity: &fresh,
        address: world.address(11),
        network: &world.network.name,
        spec: &spec,
    };
    world.engine.freeze().await;
    let began = Instant::now();
    let mut calls = 0;
    for (what, hung) in [
        ("ping", impatient.ping().await),
        ("engine", impatient.engine().await.map(drop)),
        ("list", impatient.list().await.map(drop)),
        ("look", impatient.look(&name).await.map(drop)),
        ("create", impatient.create(&plan).await.map(drop)),
        ("start", impatient.start(&name).await.map(drop)),
        (
            "stop",
            impatient.stop(&name, Duration::ZERO).await.map(drop),
        ),
        ("kill", impatient.kill(&name, "SIGKILL").await),
        ("remove", impatient.remove(&name).await.map(drop)),
        (
            "network",
            impatient.ensure_network(&world.network).await.map(drop),
        ),
        (
            "owner",
            impatient.owner_of(world.address(10)).await.map(drop),
        ),
        (
            "image",
            impatient.image_present(&world.image).await.map(drop),
        ),
        (
            "resolve",
            impatient.resolve_image(&world.image, None).await.map(drop),
        ),
        ("pull", impatient.pull(&world.image, None, |_| {}).await),
        ("logs", impatient.logs_tail(&name, 10, 1000).await.map(drop)),
        (
            "exec",
            impatient
                .exec(&name, &["/app".to_owned()], SECOND)
                .await
                .map(drop),
        ),
    ] {
        let error = hung.expect_err(what);
        assert_eq!(error.class(), Class::Timeout, "{what}: {}", chain(&error));
        assert!(
            chain(&error).contains("deadline"),
            "{what}: {}",
            chain(&error)
        );
        calls += 1;
    }
    let took = began.elapsed();
    assert!(
        took < Duration::from_millis(600) * calls,
        "{calls} calls took {took:?}"
    );
    let mut events: Events = Box::pin(impatient.events());
    assert!(
        matches!(next(&mut events).await, Event::Away(error) if error.class() == Class::Timeout)
    );
    world.engine.thaw().await;
    assert!(matches!(next(&mut events).await, Event::Gap));
    assert!(
        world
            .docker
            .look(&name)
            .await
            .unwrap()
            .unwrap()
            .state
            .is_up()
    );
}

#[tokio::test]
async fn an_engine_that_hangs_in_quiet_times_is_noticed() {
    if !root_or_skip("an_engine_that_hangs_in_quiet_times_is_noticed") {
        return;
    }
    let world = own_engine(Options::default(), "quiet").await;
    let mut events = listening(&world.impatient("quiet", SECOND)).await;
    world.engine.freeze().await;
    let began = Instant::now();
    let Event::Away(error) = next(&mut events).await else {
        panic!("away")
    };
    eprintln!(
        "SIGSTOP of dockerd in quiet times to Away: {:.1?}",
        began.elapsed()
    );
    assert_eq!(error.class(), Class::Timeout, "{}", chain(&error));
    world.engine.thaw().await;
    assert!(matches!(next(&mut events).await, Event::Gap));
}

#[tokio::test]
async fn a_handle_may_be_made_before_its_engine_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("docker.sock");
    let docker = Docker::connect(&socket, "early".parse().unwrap(), folder.path());
    let error = docker.ping().await.unwrap_err();
    assert_eq!(error.class(), Class::Unreachable, "{}", chain(&error));
    // A socket that nobody listens on, as after kill -9.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    assert_eq!(docker.ping().await.unwrap_err().class(), Class::Unreachable);
    if !root_or_skip("a_handle_may_be_made_before_its_engine_is_there") {
        return;
    }
    std::fs::remove_file(&socket).unwrap();
    std::os::unix::fs::symlink(Engine::private().await.socket(), &socket).unwrap();
    docker.ping().await.unwrap();
}

// The whole list failed for one of them, and with it every service of the host was unseen.
#[tokio::test]
async fn a_container_on_which_the_engine_hangs_hides_no_other() {
    if !root_or_skip("a_container_on_which_the_engine_hangs_hides_no_other") {
        return;
    }
    let world = World::new("blurred").await;
    let (hung, well) = (
        identity("blurred/hung", 1, Slot::Blue),
        identity("blurred/well", 1, Slot::Blue),
    );
    world.run(&hung, &world.spec(), 10).await;
    let name = world.run(&well, &world.spec(), 11).await;
    let listed = world.docker.list_of(&hung.service).await.unwrap().found;
    let folder = tempfile::tempdir().unwrap();
    let proxy = EngineProxy::start(folder.path().join("docker.sock"), &world.engine);
    let docker = Docker::with(Settings {
        socket: proxy.socket().to_owned(),
        host: "blurred".parse().unwrap(),
        files: world.files(),
        shared_engine: true,
        deadlines: Deadlines::at_most(SECOND),
    });
    proxy.hang_on(&listed[0].id, true);

    let listing = docker.list().await.unwrap();
    let names: Vec<&str> = listing.found.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, [name.as_str()]);
    let [unknown] = listing.unknown.as_slice() else {
        panic!("{listing:?}")
    };
    assert_eq!(unknown.identity.as_ref(), Ok(&hung));
    assert_eq!(
        unknown.why.class(),
        Class::Timeout,
        "{}",
        chain(&unknown.why)
    );
    // Who looks for one service alone does not even wait for it.
    let listing = docker.list_of(&well.service).await.unwrap();
    assert_eq!((listing.found.len(), listing.unknown.len()), (1, 0));

    proxy.hang_on(&listed[0].id, false);
    let listing = docker.list().await.unwrap();
    assert_eq!((listing.found.len(), listing.unknown.len()), (2, 0));
}

//! Make, start, park, remove: each may be asked for twice.

use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use cutover_agent::docker::{Class, Identity, State};
use cutover_core::Slot;
use cutover_core::spec::{ContainerSpec, Mount, MountSource, Network, Resources};
use cutover_tests::{root_or_skip, wait};

use crate::world::{SECOND, SOON, World, chain, identity, shell_image, words};

#[tokio::test]
async fn the_engine_says_what_it_is() {
    if !root_or_skip("the_engine_says_what_it_is") {
        return;
    }
    let world = World::new("what").await;
    let engine = world.docker.engine().await.unwrap();
    assert!(
        !engine.version.is_empty() && engine.api.starts_with("1.") && !engine.id.is_empty(),
        "{engine:?}"
    );
    assert!(!engine.live_restore && !engine.snap, "{engine:?}");
    world.docker.ping().await.unwrap();
}

#[tokio::test]
async fn asked_twice_is_done_once() {
    if !root_or_skip("asked_twice_is_done_once") {
        return;
    }
    let world = World::new("twice").await;
    let (docker, web, spec) = (
        &world.docker,
        identity("shop/web", 7, Slot::Blue),
        world.spec(),
    );
    let name = docker.name_of(&web);
    assert!(name.starts_with("shop-web-7-1-"), "{name}");

    let timed = async |what: &str, began: Instant| eprintln!("{what}: {:.1?}", began.elapsed());
    let began = Instant::now();
    let first = world.create(&web, &spec, 10).await.unwrap();
    timed("create", began).await;
    let began = Instant::now();
    let second = world.create(&web, &spec, 10).await.unwrap();
    timed("create again", began).await;
    assert!(first.made && !second.made);
    assert_eq!(first.id, second.id);
    assert_eq!(second.state, State::Created(String::new()));

    let began = Instant::now();
    let running = docker.start(&name).await.unwrap();
    timed("start", began).await;
    assert_eq!(docker.start(&name).await.unwrap(), running);
    assert!(matches!(running, State::Running(_)));
    // A later swap finds it running.
    let mut later = web.clone();
    later.generation.number += 1;
    assert!(!world.create(&later, &spec, 10).await.unwrap().made);

    let began = Instant::now();
    let owner = docker.owner_of(world.address(10)).await.unwrap().unwrap();
    timed("owner_of", began).await;
    assert_eq!(
        (owner.id.as_str(), owner.identity.as_ref()),
        (first.id.as_str(), Some(&web))
    );
    let began = Instant::now();
    let listed = docker.list().await.unwrap().found;
    timed("list of one", began).await;
    assert_eq!(listed.len(), 1);
    assert_eq!(
        (&listed[0].name, &listed[0].identity),
        (&name, &Ok(web.clone()))
    );
    assert_eq!(
        (listed[0].address, &listed[0].state),
        (Some(world.address(10)), &running)
    );

    let refused = docker.remove(&name).await.unwrap_err();
    assert_eq!(refused.class(), Class::Conflict, "what runs is not removed");

    let began = Instant::now();
    let parked = docker.stop(&name, spec.stop_grace).await.unwrap().unwrap();
    timed("stop", began).await;
    assert!(
        matches!(&parked, State::Exited(exit) if exit.code == 0 && !exit.out_of_memory),
        "{parked:?}"
    );
    assert_eq!(
        docker.stop(&name, spec.stop_grace).await.unwrap(),
        Some(parked.clone())
    );
    docker.kill(&name, "SIGKILL").await.unwrap();
    assert_eq!(docker.owner_of(world.address(10)).await.unwrap(), None);

    // Parked containers serve a counter-swap.
    assert!(!world.create(&web, &spec, 10).await.unwrap().made);
    docker.start(&name).await.unwrap();
    docker.kill(&name, "SIGKILL").await.unwrap();
    let dead = docker.stop(&name, spec.stop_grace).await.unwrap().unwrap();
    assert!(
        matches!(&dead, State::Exited(exit) if exit.code == 137),
        "{dead:?}"
    );

    let began = Instant::now();
    let remains = docker.remove(&name).await.unwrap().unwrap();
    timed("remove", began).await;
    assert!(remains.logs.contains("version 1"), "{}", remains.logs);
    assert_eq!(docker.remove(&name).await.unwrap(), None);
    assert_eq!(docker.stop(&name, SECOND).await.unwrap(), None);
    assert_eq!(
        docker.start(&name).await.unwrap_err().class(),
        Class::NotFound
    );
    docker.kill(&name, "SIGKILL").await.unwrap();
    assert!(docker.list().await.unwrap().found.is_empty());
}

#[tokio::test]
async fn what_was_made_otherwise_is_made_anew_unless_it_runs() {
    if !root_or_skip("what_was_made_otherwise_is_made_anew_unless_it_runs") {
        return;
    }
    let world = World::new("otherwise").await;
    let web = identity("shop/web", 1, Slot::Blue);
    let name = world.run(&web, &world.spec(), 10).await;
    let mut changed = world.spec();
    changed.environment.insert("A".to_owned(), "1".to_owned());
    let refused = world.create(&web, &changed, 10).await.unwrap_err();
    assert_eq!(refused.class(), Class::Conflict, "{}", chain(&refused));
    let before = world.docker.look(&name).await.unwrap().unwrap();
    assert!(before.state.is_up(), "a running one is left alone");
    world.docker.stop(&name, SECOND).await.unwrap();
    let made = world.create(&web, &changed, 10).await.unwrap();
    assert!(made.made && made.id != before.id);
}

#[tokio::test]
async fn what_is_not_as_it_would_be_made_is_known_before_it_is_started() {
    if !root_or_skip("what_is_not_as_it_would_be_made_is_known_before_it_is_started") {
        return;
    }
    let world = World::new("made").await;
    let web = identity("shop/web", 1, Slot::Blue);
    let mut spec = world.spec();
    spec.networks.push(Network {
        name: "made_default".to_owned(),
        external: false,
        aliases: Vec::new(),
    });
    spec.mounts.push(Mount {
        target: "/etc/motd".to_owned(),
        source: MountSource::Content {
            name: "motd".to_owned(),
            content: b"hello".to_vec(),
            mode: 0o444,
        },
        read_only: true,
    });
    let made = async |identity: &Identity, spec: &ContainerSpec| {
        let plan = world.plan(identity, spec, 10);
        world.docker.is_made(&plan).await.unwrap()
    };
    assert!(!made(&web, &spec).await, "nothing was made");
    let id = world.create(&web, &spec, 10).await.unwrap().id;
    assert!(made(&web, &spec).await);

    let mut changed = spec.clone();
    changed.environment.insert("A".to_owned(), "1".to_owned());
    assert!(!made(&web, &changed).await, "made of other words");
    let other_slot = identity("shop/web", 1, Slot::Green);
    assert!(!made(&other_slot, &spec).await, "made for the other slot");

    world.docker_command(&["network", "disconnect", "made_default", &id]);
    assert!(!made(&web, &spec).await, "not on its network");
    assert!(!world.create(&web, &spec, 10).await.unwrap().made);
    assert!(made(&web, &spec).await);

    let folder = world.files().join(world.docker.name_of(&web));
    for file in std::fs::read_dir(folder).unwrap() {
        std::fs::write(file.unwrap().path(), "").unwrap();
    }
    assert!(!made(&web, &spec).await, "its file is empty");
    world.create(&web, &spec, 10).await.unwrap();
    assert!(made(&web, &spec).await);
}

#[tokio::test]
async fn a_container_is_as_its_spec_says() {
    if !root_or_skip("a_container_is_as_its_spec_says") {
        return;
    }
    let world = World::new("spec").await;
    let text = |text: &str| text.to_owned();
    let content = MountSource::Content {
        name: text("motd"),
        content: b"hello\n".to_vec(),
        mode: 0o444,
    };
    let spec = ContainerSpec {
        resolved_image: shell_image(&world.engine).await,
        command: Some(words(&[
            "sh",
            "-c",
            "cat /etc/motd; echo $GREETING; stat -c %a /etc/motd; echo kept >> /data/file; exec sleep 60",
        ])),
        environment: [(text("GREETING"), text("with = and $"))].into(),
        networks: vec![Network {
            name: text("spec_backend"),
            external: false,
            aliases: vec![text("db")],
        }],
        mounts: vec![
            Mount {
                source: MountSource::Volume {
                    name: text("spec_data"),
                    external: false,
                },
                target: text("/data"),
                read_only: false,
            },
            Mount {
                source: content,
                target: text("/etc/motd"),
                read_only: true,
            },
        ],
        hostname: Some(text("greeter")),
        init: true,
        read_only: true,
        tmpfs: vec![text("/tmp:size=1m"), text("/run")],
        cap_drop: vec![text("ALL")],
        security_opt: vec![text("no-new-privileges:true")],
        ulimits: [(text("nofile"), (1024, 2048))].into(),
        extra_hosts: vec![(text("api"), text("10.9.9.9"))],
        shm_size: Some(1 << 20),
        resources: Resources {
            nano_cpus: Some(500_000_000),
            memory: Some(64 << 20),
            pids: Some(50),
            ..Default::default()
        },
        stop_signal: Some(text("SIGINT")),
        ..world.spec()
    };
    let job = identity("spec/greeter", 1, Slot::Green);
    let name = world.run(&job, &spec, 10).await;
    assert!(
        !world.create(&job, &spec, 10).await.unwrap().made,
        "the same spec gives the same hash"
    );

    let inspect = |format: &str| world.docker_command(&["inspect", "-f", format, &name]);
    assert_eq!(inspect("{{.HostConfig.RestartPolicy.Name}}"), "no");
    assert_eq!(
        inspect("{{.HostConfig.NanoCpus}} {{.HostConfig.Memory}} {{.HostConfig.PidsLimit}}"),
        "500000000 67108864 50"
    );
    assert_eq!(
        inspect("{{.Config.Hostname}} {{.Config.StopSignal}} {{.HostConfig.Init}}"),
        "greeter SIGINT true"
    );
    assert_eq!(inspect("{{len .HostConfig.PortBindings}}"), "0");
    assert!(inspect("{{.NetworkSettings.Networks.spec_backend.Aliases}}").contains("db"));
    assert_eq!(
        inspect("{{index .Config.Labels \"dev.cutover.slot\"}}"),
        "green"
    );
    let logs = cutover_tests::wait::until(crate::world::SOON, "three lines", async || {
        let logs = world.docker.logs_tail(&name, 10, 1000).await.unwrap();
        (logs.lines().count() == 3).then_some(logs)
    })
    .await;
    assert_eq!(logs, "hello\nwith = and $\n444");

    let folder = world.files().join(&name);
    assert_eq!(
        folder.metadata().unwrap().permissions().mode() & 0o777,
        0o700
    );
    world.docker.stop(&name, SECOND).await.unwrap();
    world.docker.remove(&name).await.unwrap();
    assert!(!folder.exists());
    assert!(
        world
            .docker_command(&["volume", "ls", "-q"])
            .contains("spec_data"),
        "volumes outlive their containers"
    );
}

#[tokio::test]
async fn an_empty_command_is_not_the_images() {
    if !root_or_skip("an_empty_command_is_not_the_images") {
        return;
    }
    let world = World::new("empty").await;
    let spec = ContainerSpec {
        command: Some(Vec::new()),
        ..world.spec()
    };
    let name = world
        .run(&identity("empty/web", 1, Slot::Blue), &spec, 10)
        .await;
    assert_eq!(
        world.docker_command(&[
            "inspect",
            "-f",
            "{{.Config.Entrypoint}} {{len .Config.Cmd}}",
            &name
        ]),
        "[/app] 0"
    );
}

#[tokio::test]
async fn a_fixed_name_goes_from_revision_to_revision_and_back() {
    if !root_or_skip("a_fixed_name_goes_from_revision_to_revision_and_back") {
        return;
    }
    let world = World::new("fixed").await;
    let spec = ContainerSpec {
        container_name: Some("the-database".to_owned()),
        ..world.spec()
    };
    let (one, two) = (
        identity("shop/db", 1, Slot::Blue),
        identity("shop/db", 2, Slot::Green),
    );
    let first = world.run(&one, &spec, 10).await;
    let named = || {
        world.docker_command(&[
            "inspect",
            "-f",
            "{{index .Config.Labels \"dev.cutover.name\"}}",
            "the-database",
        ])
    };
    assert_eq!(named(), first);
    // Its successor is made before it is stopped, and started after.
    assert!(world.create(&two, &spec, 11).await.unwrap().made);
    assert_eq!(named(), first, "it runs");
    world.docker.stop(&first, SECOND).await.unwrap();
    let second = world.run(&two, &spec, 11).await;
    assert_eq!(named(), second);
    assert!(
        world.docker.look(&first).await.unwrap().is_some(),
        "parked under its own name"
    );

    // And back: the revert of a recreate.
    world.docker.stop(&second, SECOND).await.unwrap();
    assert!(!world.create(&one, &spec, 10).await.unwrap().made);
    world.docker.start(&first).await.unwrap();
    assert_eq!(named(), first);
    assert_eq!(world.docker.list().await.unwrap().found.len(), 2);

    // Where both run, as with `order: start-first`, it goes on when the first one stops.
    world.docker.start(&second).await.unwrap();
    assert_eq!(named(), first);
    world.docker.stop(&first, SECOND).await.unwrap();
    assert_eq!(named(), second);

    // One that ended by itself keeps it, unless another one starts.
    world.docker.kill(&second, "SIGKILL").await.unwrap();
    wait::until(SOON, "it to be dead", async || {
        let found = world.docker.look(&second).await.unwrap();
        !found.is_some_and(|found| found.state.is_up())
    })
    .await;
    assert_eq!(named(), second);
    world.docker.start(&first).await.unwrap();
    assert_eq!(named(), first);
    world.docker.start(&second).await.unwrap();
    assert_eq!(named(), first);
    world.docker.stop(&second, SECOND).await.unwrap();
    assert!(world.docker.remove(&second).await.unwrap().is_some());
}

#[tokio::test]
async fn a_fixed_name_that_a_stranger_bears_is_refused_before_anything_is_made() {
    if !root_or_skip("a_fixed_name_that_a_stranger_bears_is_refused_before_anything_is_made") {
        return;
    }
    let world = World::new("fixed-stranger").await;
    let spec = ContainerSpec {
        container_name: Some("the-cache".to_owned()),
        ..world.spec()
    };
    world.stranger("the-cache", 30).await;
    let refused = world
        .create(&identity("shop/cache", 1, Slot::Blue), &spec, 12)
        .await
        .unwrap_err();
    assert_eq!(refused.class(), Class::Conflict);
    let said = chain(&refused);
    assert!(said.contains("the name the-cache is taken"), "{said}");
    assert_eq!(world.docker.list().await.unwrap().found.len(), 0);
}

#[tokio::test]
async fn a_missing_image_is_said_to_be_missing() {
    if !root_or_skip("a_missing_image_is_said_to_be_missing") {
        return;
    }
    let world = World::new("missing").await;
    let spec = ContainerSpec {
        resolved_image: "cutover-test/nothing:1".to_owned(),
        ..world.spec()
    };
    let error = world
        .create(&identity("shop/web", 1, Slot::Blue), &spec, 10)
        .await
        .unwrap_err();
    assert_eq!(error.class(), Class::NoSuchImage, "{}", chain(&error));
    assert!(
        !world
            .docker
            .image_present("cutover-test/nothing:1")
            .await
            .unwrap()
    );

    let facts = world
        .docker
        .image_facts(&world.image)
        .await
        .unwrap()
        .unwrap();
    assert!(
        facts.ports.contains(&8080) && facts.entrypoint == ["/app"] && facts.healthcheck.is_none(),
        "{facts:?}"
    );
    assert!(world.docker.image_present(&facts.id).await.unwrap());
}

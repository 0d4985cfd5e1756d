//! What is not ours is left alone, and named.

use bollard::models::ContainerCreateBody;
use bollard::query_parameters::CreateContainerOptionsBuilder;
use cutover_agent::docker::Class;
use cutover_core::Slot;
use cutover_core::spec::{Mount, MountSource};
use cutover_tests::root_or_skip;

use crate::world::{SECOND, World, chain, identity};

#[tokio::test]
async fn an_address_held_by_a_stranger_names_the_stranger() {
    if !root_or_skip("an_address_held_by_a_stranger_names_the_stranger") {
        return;
    }
    let world = World::new("held").await;
    let web = identity("shop/web", 1, Slot::Blue);
    let name = world.run(&web, &world.spec(), 10).await;
    world.docker.stop(&name, SECOND).await.unwrap();
    // Parked: its address is free for anybody who asks for it.
    world.stranger("held-by-me", 10).await;
    let owner = world
        .docker
        .owner_of(world.address(10))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (owner.container.as_str(), owner.identity),
        ("held-by-me", None)
    );

    let error = world.docker.start(&name).await.unwrap_err();
    assert_eq!(error.class(), Class::Conflict);
    assert!(
        chain(&error).contains("held by container held-by-me"),
        "{}",
        chain(&error)
    );

    let error = world
        .create(&identity("shop/web", 2, Slot::Blue), &world.spec(), 10)
        .await
        .unwrap_err();
    assert_eq!(error.class(), Class::Conflict);
    assert!(
        chain(&error).contains("held by container held-by-me"),
        "{}",
        chain(&error)
    );
}

#[tokio::test]
async fn strangers_are_given_addresses_outside_of_the_slots() {
    if !root_or_skip("strangers_are_given_addresses_outside_of_the_slots") {
        return;
    }
    let world = World::new("range").await;
    let run = [
        "run",
        "-d",
        "--name",
        "range-stranger",
        "--network",
        &world.network.name,
        &world.image,
    ];
    world.docker_command(&run);
    let format = format!(
        "{{{{(index .NetworkSettings.Networks {:?}).IPAddress}}}}",
        world.network.name
    );
    let address = world.docker_command(&["inspect", "-f", &format, "range-stranger"]);
    assert!(
        world.network.ip_range.holds(address.parse().unwrap()),
        "{address}"
    );
}

#[tokio::test]
async fn ports_that_strangers_publish_are_known() {
    if !root_or_skip("ports_that_strangers_publish_are_known") {
        return;
    }
    let world = World::new("ports").await;
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let publish = format!("127.0.0.1:{port}:8080");
    world.docker_command(&[
        "run",
        "-d",
        "--name",
        "ports-stranger",
        "--network",
        &world.network.name,
        "-p",
        &publish,
        &world.image,
    ]);
    let found = world
        .docker
        .published()
        .await
        .unwrap()
        .into_iter()
        .find(|found| found.port == port)
        .unwrap();
    assert_eq!(
        (found.container.as_str(), found.address.as_str()),
        ("ports-stranger", "127.0.0.1")
    );
}

#[tokio::test]
async fn a_container_of_another_host_is_not_touched() {
    if !root_or_skip("a_container_of_another_host_is_not_touched") {
        return;
    }
    let world = World::new("mine").await;
    let other = world.other("theirs");
    let web = identity("shop/web", 1, Slot::Blue);
    let name = world.run(&web, &world.spec(), 10).await;
    for refused in [
        other.remove(&name).await.map(drop),
        other.stop(&name, SECOND).await.map(drop),
        other.kill(&name, "SIGKILL").await,
        other.start(&name).await.map(drop),
        other.look(&name).await.map(drop),
        other
            .exec(&name, &["/app".to_owned()], SECOND)
            .await
            .map(drop),
    ] {
        let error = refused.unwrap_err();
        assert_eq!(error.class(), Class::Conflict);
        assert!(
            chain(&error).contains("belongs to host mine"),
            "{}",
            chain(&error)
        );
    }
    assert!(other.list().await.unwrap().found.is_empty());
    assert_eq!(
        other
            .owner_of(world.address(10))
            .await
            .unwrap()
            .unwrap()
            .identity,
        None
    );
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
async fn a_name_taken_by_a_stranger_names_the_stranger() {
    if !root_or_skip("a_name_taken_by_a_stranger_names_the_stranger") {
        return;
    }
    let world = World::new("taken").await;
    let web = identity("shop/web", 1, Slot::Blue);
    let name = world.docker.name_of(&web);
    world.stranger(&name, 20).await;
    let error = world.create(&web, &world.spec(), 10).await.unwrap_err();
    assert_eq!(error.class(), Class::Conflict);
    assert!(
        chain(&error).contains("was not made by Cutover"),
        "{}",
        chain(&error)
    );

    // Two services whose names read alike joined together.
    let (one, two) = (
        identity("a-b/c", 1, Slot::Blue),
        identity("a/b-c", 1, Slot::Blue),
    );
    assert_eq!(world.docker.name_of(&one), world.docker.name_of(&two));
    world.create(&one, &world.spec(), 11).await.unwrap();
    let error = world.create(&two, &world.spec(), 12).await.unwrap_err();
    assert!(
        chain(&error).contains("belongs to a-b/c@1"),
        "{}",
        chain(&error)
    );
}

#[tokio::test]
async fn p5_a_replica_of_the_other_slot_bears_the_name_and_is_neither_stopped_nor_removed() {
    if !root_or_skip(
        "p5_a_replica_of_the_other_slot_bears_the_name_and_is_neither_stopped_nor_removed",
    ) {
        return;
    }
    let world = World::new("slots").await;
    let serving = identity("shop/web", 7, Slot::Green);
    let mut spec = world.spec();
    spec.mounts.push(Mount {
        source: MountSource::Content {
            name: "motd".to_owned(),
            content: b"kept".to_vec(),
            mode: 0o444,
        },
        target: "/etc/motd".to_owned(),
        read_only: true,
    });
    let name = world.run(&serving, &spec, 10).await;
    // The candidate of a swap that could not be made: its name is taken.
    let candidate = identity("shop/web", 7, Slot::Blue);
    assert_eq!(world.docker.name_of(&candidate), name);
    let error = world.create(&candidate, &spec, 11).await.unwrap_err();
    assert_eq!(error.class(), Class::Conflict);
    let stopped = world.docker.stop_replica(&candidate, SECOND).await;
    assert_eq!(stopped.unwrap(), None);
    assert_eq!(world.docker.remove_replica(&candidate).await.unwrap(), None);
    let found = world.docker.look(&name).await.unwrap();
    assert!(found.is_some_and(|found| found.state.is_up()), "it serves");
    assert!(world.files().join(&name).exists(), "with its files");

    let stopped = world.docker.stop_replica(&serving, SECOND).await;
    assert!(stopped.unwrap().is_some_and(|state| !state.is_up()));
    let removed = world.docker.remove_replica(&serving).await.unwrap();
    assert!(removed.is_some() && !world.files().join(&name).exists());
}

#[tokio::test]
async fn labels_that_make_no_sense_are_listed_as_such() {
    if !root_or_skip("labels_that_make_no_sense_are_listed_as_such") {
        return;
    }
    let world = World::new("nonsense").await;
    let labels = [
        ("dev.cutover.host", "nonsense"),
        ("dev.cutover.app", "shop"),
        ("dev.cutover.service", "a b"),
    ];
    let body = ContainerCreateBody {
        image: Some(world.image.clone()),
        labels: Some(
            labels
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
        ),
        ..Default::default()
    };
    let options = CreateContainerOptionsBuilder::default()
        .name("nonsense-1")
        .build();
    world
        .engine
        .client()
        .create_container(Some(options), body)
        .await
        .unwrap();
    let listed = world.docker.list().await.unwrap().found;
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].name, "nonsense-1");
    assert_eq!(
        listed[0].identity,
        Err("label dev.cutover.service is \"a b\"".to_owned())
    );
    // Nothing says what it is: nobody removes it.
    let error = world.docker.remove("nonsense-1").await.unwrap_err();
    assert_eq!(error.class(), Class::Conflict);
    assert!(
        chain(&error).contains("nothing says what container nonsense-1"),
        "{}",
        chain(&error)
    );
}

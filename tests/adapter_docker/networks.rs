//! Cutover's network: there, in the right shape, or a clear error.

use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use bollard::models::NetworkCreateRequest;
use cutover_agent::docker::{Class, NetworkPlan, State};
use cutover_core::Slot;
use cutover_core::spec::{ContainerSpec, Network};
use cutover_tests::{root_or_skip, skipped};

use crate::world::{SECOND, World, chain, identity, network};

#[tokio::test]
async fn what_a_prune_took_is_made_again() {
    if !root_or_skip("what_a_prune_took_is_made_again") {
        return;
    }
    // It prunes: an engine of its own.
    let engine = cutover_tests::engine::Engine::start_with(Default::default()).await;
    let world = World::on(std::sync::Arc::new(engine), "pruned").await;
    let web = identity("shop/web", 1, Slot::Blue);
    let name = world.run(&web, &world.spec(), 10).await;
    world.docker.stop(&name, SECOND).await.unwrap();

    // The network alone: the parked container can't start any more, and is made anew.
    world.docker_command(&["network", "prune", "-f"]);
    let gone = world.docker.start(&name).await.unwrap_err();
    assert_eq!(gone.class(), Class::NotFound, "{}", chain(&gone));
    let no_network = world.create(&web, &world.spec(), 10).await.unwrap_err();
    assert_eq!(
        no_network.class(),
        Class::NotFound,
        "{}",
        chain(&no_network)
    );
    assert!(world.docker.ensure_network(&world.network).await.unwrap());
    assert!(!world.docker.ensure_network(&world.network).await.unwrap());
    assert!(world.create(&web, &world.spec(), 10).await.unwrap().made);
    assert!(matches!(
        world.docker.start(&name).await.unwrap(),
        State::Running(_)
    ));
    world.docker.stop(&name, SECOND).await.unwrap();

    // Everything: container, network, image.
    world.docker_command(&["system", "prune", "-af"]);
    assert!(world.docker.list().await.unwrap().found.is_empty());
    assert!(!world.docker.image_present(&world.image).await.unwrap());
    assert!(world.docker.ensure_network(&world.network).await.unwrap());
    let no_image = world.create(&web, &world.spec(), 10).await.unwrap_err();
    assert_eq!(no_image.class(), Class::NoSuchImage, "{}", chain(&no_image));
    cutover_tests::image::web(&world.engine, "1").await;
    assert!(world.create(&web, &world.spec(), 10).await.unwrap().made);
    world.docker.start(&name).await.unwrap();
}

#[tokio::test]
async fn a_network_of_another_shape_or_owner_is_refused() {
    if !root_or_skip("a_network_of_another_shape_or_owner_is_refused") {
        return;
    }
    let world = World::new("shape").await;
    let refused = async |plan: &NetworkPlan, wanted: &str| {
        let error = world.docker.ensure_network(plan).await.unwrap_err();
        assert_eq!(error.class(), Class::Conflict);
        assert!(chain(&error).contains(wanted), "{}", chain(&error));
    };
    let other = world.engine.free_subnet();
    let moved = NetworkPlan {
        name: world.network.name.clone(),
        ..network("shape", &other)
    };
    refused(
        &moved,
        &format!(
            "its subnet is {}, not {}",
            world.subnet.cidr(),
            other.cidr()
        ),
    )
    .await;
    let named = NetworkPlan {
        bridge_name: Some("cutx".to_owned()),
        ..world.network.clone()
    };
    refused(&named, "its interface is none, not cutx").await;

    let theirs = world.other("their");
    let error = theirs.ensure_network(&world.network).await.unwrap_err();
    assert!(
        chain(&error).contains("it belongs to host shape"),
        "{}",
        chain(&error)
    );
    assert_eq!(
        theirs
            .remove_network(&world.network.name)
            .await
            .unwrap_err()
            .class(),
        Class::Conflict
    );

    let clash = NetworkPlan {
        name: "cutover-clash".to_owned(),
        ..world.network.clone()
    };
    refused(
        &clash,
        &format!(
            "docker network {} has {}",
            world.network.name,
            world.subnet.cidr()
        ),
    )
    .await;

    world
        .docker
        .remove_network(&world.network.name)
        .await
        .unwrap();
    world
        .docker
        .remove_network(&world.network.name)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_subnet_that_the_host_has_a_route_to_is_refused() {
    if !root_or_skip("a_subnet_that_the_host_has_a_route_to_is_refused") {
        return;
    }
    let world = World::new("route").await;
    let subnet = world.engine.free_subnet();
    let ip = |args: &[&str]| {
        let output = Command::new("ip").args(args).output().unwrap();
        assert!(
            output.status.success(),
            "ip {args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    let link = format!("cutvpn{}", std::process::id() % 10_000);
    ip(&["link", "add", &link, "type", "bridge"]);
    ip(&[
        "addr",
        "add",
        &format!("{}/25", subnet.address(2)),
        "dev",
        &link,
    ]);
    ip(&["link", "set", &link, "up"]);
    let plan = network("vpn", &subnet);
    let error = world.docker.ensure_network(&plan).await;
    ip(&["link", "del", &link]);
    let error = error.unwrap_err();
    assert_eq!(error.class(), Class::Conflict);
    assert!(
        chain(&error).contains(&format!("through {link}")),
        "{}",
        chain(&error)
    );
    assert!(
        world.docker.ensure_network(&plan).await.unwrap(),
        "and made once the route is gone"
    );
    world.docker.remove_network(&plan.name).await.unwrap();
}

/// On the app's own network, too.
fn joining(world: &World, network: &str) -> ContainerSpec {
    let network = Network {
        name: network.to_owned(),
        aliases: Vec::new(),
        external: false,
    };
    ContainerSpec {
        networks: vec![network],
        ..world.spec()
    }
}

// Each made a network of its own; until the others were removed, no container on that name could start.
#[tokio::test]
async fn one_agent_makes_a_network_of_several_services_once() {
    if !root_or_skip("one_agent_makes_a_network_of_several_services_once") {
        return;
    }
    // An engine remembers its last 256 events, whoever caused them: one of its own.
    let engine = cutover_tests::engine::Engine::start_with(Default::default()).await;
    let world = World::on(std::sync::Arc::new(engine), "once").await;
    let spec = joining(&world, "once_default");
    let ids = ["once/a", "once/b", "once/c", "once/d"].map(|name| identity(name, 1, Slot::Blue));
    tokio::join!(
        world.run(&ids[0], &spec, 10),
        world.run(&ids[1], &spec, 11),
        world.run(&ids[2], &spec, 12),
        world.run(&ids[3], &spec, 13),
    );
    // A clock that was set back meanwhile would put what has happened into the future.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let until = format!("--until={}", now.as_secs() + 2);
    let mut told = vec!["events", "--since=2m", &until, "--filter=type=network"];
    told.extend(["--filter=event=create", "--filter=network=once_default"]);
    let made = world.docker_command(&told);
    assert_eq!(made.lines().count(), 1, "{made}");
}

#[tokio::test]
async fn a_start_beside_a_twin_of_its_network_may_be_tried_again() {
    let name = "a_start_beside_a_twin_of_its_network_may_be_tried_again";
    if !root_or_skip(name) {
        return;
    }
    let world = World::new("twin").await;
    let spec = joining(&world, "twin_default");
    let web = identity("twin/web", 1, Slot::Blue);
    world.create(&web, &spec, 10).await.unwrap();
    let client = world.engine.client();
    let twin = async |labels: &[(&str, &str)]| {
        let labels = labels
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let request = NetworkCreateRequest {
            name: "twin_default".to_owned(),
            labels: Some(labels.collect()),
            ..Default::default()
        };
        client.create_network(request).await
    };
    // Another agent's, before it gives way.
    let Ok(theirs) = twin(&[]).await else {
        return skipped(name, "this engine makes no second network of a name");
    };
    let container = world.docker.name_of(&web);
    let error = world.docker.start(&container).await.unwrap_err();
    assert_eq!(error.class(), Class::Ambiguous, "{}", chain(&error));
    assert!(error.class().may_pass());
    // Nobody else's is touched.
    assert!(!world.create(&web, &spec, 10).await.unwrap().made);
    client.remove_network(&theirs.id).await.unwrap();
    world.docker.start(&container).await.unwrap();
    world.docker.stop(&container, SECOND).await.unwrap();

    // Our own, left by an agent that died in between.
    twin(&[("dev.cutover.host", "twin")]).await.unwrap();
    assert!(!world.create(&web, &spec, 10).await.unwrap().made);
    world.docker.start(&container).await.unwrap();
}

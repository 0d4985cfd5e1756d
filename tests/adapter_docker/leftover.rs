//! A container that runs without the engine's knowledge: it was killed before it noted the start.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use cutover_agent::docker::{Class, State};
use cutover_core::Slot;
use cutover_tests::engine::{Engine, Options};
use cutover_tests::root_or_skip;

use crate::world::{SECOND, World, chain, identity};

/// Puts the engine back to a moment when it had not yet noted that the container was started.
async fn forget(world: &World, id: &str, notes: &[u8]) {
    world.engine.kill().await;
    fs::write(world.engine.notes_of(id), notes).unwrap();
    world.engine.start().await;
}

#[tokio::test]
async fn what_a_killed_engine_forgot_is_ended_before_its_container_starts_parks_or_goes() {
    if !root_or_skip(
        "what_a_killed_engine_forgot_is_ended_before_its_container_starts_parks_or_goes",
    ) {
        return;
    }
    let options = Options {
        live_restore: true,
        ..Default::default()
    };
    let world = World::on(Arc::new(Engine::start_with(options).await), "forgot").await;
    let docker = &world.docker;
    let web = identity("shop/web", 1, Slot::Blue);
    let (name, id) = (
        docker.name_of(&web),
        world.create(&web, &world.spec(), 10).await.unwrap().id,
    );
    let notes = fs::read(world.engine.notes_of(&id)).unwrap();
    let runs = async || {
        docker.start(&name).await.unwrap();
        let pid = world.docker_command(&["inspect", "-f", "{{.State.Pid}}", &name]);
        forget(&world, &id, &notes).await;
        let state = docker.look(&name).await.unwrap().unwrap().state;
        assert_eq!(state, State::Created(String::new()), "the engine forgot it");
        let process = PathBuf::from(format!("/proc/{pid}/cgroup"));
        assert!(
            fs::read_to_string(&process).unwrap().contains(&id),
            "and it runs"
        );
        process
    };

    let forgotten = runs().await;
    let busy = docker.start(&name).await.unwrap_err();
    assert_eq!(busy.class(), Class::LeftOver, "{}", chain(&busy));
    assert!(!forgotten.exists(), "two would run");
    let again = docker.start(&name).await.unwrap();
    assert!(matches!(again, State::Running(_)), "{again:?}");
    docker.stop(&name, SECOND).await.unwrap();

    let forgotten = runs().await;
    docker.stop(&name, SECOND).await.unwrap();
    assert!(!forgotten.exists(), "what is parked does not run");

    let forgotten = runs().await;
    docker.remove(&name).await.unwrap().unwrap();
    assert!(!forgotten.exists(), "nobody would ever find it again");
    assert!(docker.list().await.unwrap().found.is_empty());
}

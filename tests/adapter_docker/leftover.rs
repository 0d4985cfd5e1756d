//! A container that runs without the engine's knowledge: it was killed before it noted the start.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cutover_agent::docker::{Class, State};
use cutover_core::Slot;
use cutover_core::spec::{ContainerSpec, Mount, MountSource};
use cutover_tests::engine::{Engine, Options};
use cutover_tests::root_or_skip;
use cutover_tests::wait::until;

use crate::world::{SECOND, SOON, World, chain, identity, shell_image, words};

/// Writes that it was asked to stop, and does unless it is stubborn.
const SAYS_WHEN_ASKED: &str = "trap 'echo asked > /out/asked; [ -e /out/stubborn ] || exit 0' TERM; echo up > /out/up; \
                               while :; do sleep 0.1; done";

/// Puts the engine back to a moment when it had not yet noted that the container was started.
async fn forget(world: &World, id: &str, notes: &[u8]) {
    world.engine.kill().await;
    fs::write(world.engine.notes_of(id), notes).unwrap();
    world.engine.start().await;
}

/// A process that has ended is there until its parent has looked.
fn ended(process: &Path) {
    let state = process.with_file_name("stat");
    let gone = || fs::read_to_string(&state).map_or(true, |stat| stat.contains(") Z "));
    assert!(gone(), "it runs on");
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
    let out = world.folder("out");
    let (asked, stubborn) = (out.join("asked"), out.join("stubborn"));
    let spec = ContainerSpec {
        resolved_image: shell_image(&world.engine).await,
        command: Some(words(&["sh", "-c", SAYS_WHEN_ASKED])),
        mounts: vec![Mount {
            source: MountSource::Bind(out.display().to_string()),
            target: "/out".to_owned(),
            read_only: false,
        }],
        ..world.spec()
    };
    let (name, id) = (
        docker.name_of(&web),
        world.create(&web, &spec, 10).await.unwrap().id,
    );
    let notes = fs::read(world.engine.notes_of(&id)).unwrap();
    let runs = async || {
        docker.start(&name).await.unwrap();
        until(SOON, "it to hear signals", async || out.join("up").exists()).await;
        fs::remove_file(out.join("up")).unwrap();
        let _ = fs::remove_file(&asked);
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
    ended(&forgotten); // else two would run
    assert!(asked.exists(), "it was asked to stop");
    // Its end is news to the engine until its parent has looked: a start would be taken for ended, too.
    let again = until(SOON, "it to be started again", async || {
        let answer = docker.start(&name).await;
        if let Err(error) = &answer {
            assert_eq!(error.class(), Class::LeftOver, "{}", chain(error));
        }
        answer.ok()
    });
    let again = again.await;
    assert!(matches!(again, State::Running(_)), "{again:?}");
    docker.stop(&name, SECOND).await.unwrap();

    let forgotten = runs().await;
    fs::write(&stubborn, "").unwrap();
    docker.stop(&name, SECOND).await.unwrap();
    assert!(asked.exists(), "it was asked to stop");
    ended(&forgotten); // what is parked does not run
    fs::remove_file(&stubborn).unwrap();

    let forgotten = runs().await;
    docker.remove(&name).await.unwrap().unwrap();
    ended(&forgotten); // nobody would ever find it again
    assert!(docker.list().await.unwrap().found.is_empty());
}

//! The coordinator dies at every write of a rollout, before it and after it, and
//! what comes back goes on to an end that the promises allow.

use std::os::unix::process::ExitStatusExt;

use cutover_core::Generation;
use cutover_proto::v1;
use cutover_tests::wait;

use crate::bed::{Bed, deploying, spec, until};

const WEB: &str = "shop/web";

/// A release that drains nothing: what is waited for here is the coordinator.
fn hasty(tag: &str) -> v1::ServiceSpec {
    let mut spec = spec(WEB, tag);
    if let Some(policy) = &mut spec.policy {
        policy.drain = 0;
    }
    spec
}

/// Dies once at this write, then lives; gives whether it died at all.
async fn die_at(bed: &mut Bed, at: &str, tag: &str) -> bool {
    bed.coordinator.signal(nix::sys::signal::Signal::SIGTERM);
    until("the coordinator to end", async || bed.coordinator.ended()).await;
    bed.coordinator
        .change(|recipe| recipe.env("CUTOVER_TEST_DIE_AT", at));
    bed.coordinator.start_again();
    let mut request = deploying(hasty(tag));
    request.request_id = format!("deploy {tag}");
    // The answer may be lost with the process: the request id finds what was begun.
    let asked = request.clone();
    let first = async {
        if let Some(mut api) = bed.try_api(std::time::Duration::from_secs(20)).await {
            let _ = api.deploy(asked).await;
        }
    };
    first.await;
    let died = until("the deploy to end, or the coordinator", async || {
        if let Some(status) = bed.coordinator.ended() {
            return Some(Some(status));
        }
        let mut api = bed.try_api(std::time::Duration::from_millis(200)).await?;
        let list = api.list_rollouts(v1::ListRolloutsRequest::default()).await;
        let newest = list.ok()?.into_inner().rollouts.into_iter().next()?;
        let over = newest.outcome() != v1::Outcome::Unspecified
            && newest.kind == "deploy"
            && newest.to_revision.to_string() == tag;
        over.then_some(None)
    })
    .await;
    if let Some(status) = died {
        assert_eq!(status.signal(), Some(6), "{}", bed.coordinator.tail());
        bed.coordinator
            .change(|recipe| recipe.env("CUTOVER_TEST_DIE_AT", ""));
        bed.coordinator.start_again();
    }
    let mut api = bed.api().await;
    let answer = api.deploy(request).await.expect("accepted").into_inner();
    let decision = &answer.services[0];
    if !decision.rollout.is_empty() {
        let view = bed.ended(&decision.rollout).await;
        assert_eq!(view.outcome(), v1::Outcome::Committed, "{at}: {view:#?}");
    }
    died.is_some()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p3_p5_p6_killed_at_every_write_of_a_rollout_it_goes_on_to_the_end() {
    let mut bed = Bed::new(&["h1", "h2", "h3"]).await;
    assert_eq!(
        bed.deploy(spec(WEB, "1")).await.outcome(),
        v1::Outcome::Committed
    );
    let mut tag = 1;
    let mut deaths = 0;
    for write in 1..200 {
        let mut any = false;
        for when in ["before", "after"] {
            tag += 1;
            let died = die_at(&mut bed, &format!("{when}:{write}"), &tag.to_string()).await;
            any |= died;
            deaths += usize::from(died);
            for host in &bed.hosts {
                assert_eq!(host.current(WEB), tag, "{when}:{write}");
            }
            bed.assert_sound();
            assert_eq!(bed.watcher.lock().expect("whole").most, 1, "{when}:{write}");
        }
        if !any {
            break; // the rollout has fewer writes
        }
    }
    assert!(deaths > 20, "only {deaths}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p4_a_coordinator_from_an_old_backup_raises_its_epoch_and_learns_what_runs() {
    let mut bed = Bed::new(&["h1", "h2"]).await;
    bed.deploy(spec(WEB, "1")).await;
    stop(&mut bed).await;
    let backup = bed.scratch.join("backup");
    run(&bed, &["backup", &backup.display().to_string()]);
    bed.coordinator.start_again();
    bed.connected(2).await;
    bed.deploy(spec(WEB, "2")).await;
    bed.deploy(spec(WEB, "3")).await;
    stop(&mut bed).await;
    run(&bed, &["restore", &backup.display().to_string()]);
    bed.coordinator.start_again();
    bed.connected(2).await;
    let mut api = bed.api().await;
    let status = api
        .status(v1::StatusRequest::default())
        .await
        .expect("answered")
        .into_inner();
    assert!(status.epoch > 1, "{status:#?}");
    assert!(
        status
            .alarms
            .iter()
            .any(|alarm| alarm.contains("newer than anything known")),
        "{status:#?}"
    );
    // Nothing is taken back by itself.
    let second = std::time::Duration::from_secs(1);
    wait::throughout(second, "revision 3", async || {
        bed.host("h1").current(WEB) == 3
    })
    .await;
    let view = bed.deploy(spec(WEB, "4")).await;
    assert_eq!(view.outcome(), v1::Outcome::Committed, "{view:#?}");
    assert!(view.to_revision > 3);
    bed.assert_sound();
}

/// It once began before any host was back, found all of them away, and was never begun: 4, though nobody aborted it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollout_that_waited_for_a_host_waits_on_after_a_restart() {
    let mut bed = Bed::new(&["h1"]).await;
    bed.deploy(spec(WEB, "1")).await;
    bed.host("h1").temper(|temper| temper.keeps_open = true);
    let mut slow = spec(WEB, "2");
    let policy = slow.policy.as_mut().expect("there");
    (policy.observe, policy.drain) = (3_600_000_000_000, 3_600_000_000_000);
    let mut api = bed.api().await;
    let open = api.deploy(deploying(slow)).await.expect("accepted");
    let open = open.into_inner().services[0].rollout.clone();
    until("it to serve", async || {
        let view = api.show_rollout(show(&open)).await.ok()?.into_inner();
        let serves = |entry: &v1::TimelineEntry| entry.text.contains("serving");
        view.timeline.iter().any(serves).then_some(())
    })
    .await;
    let back = v1::RollbackRequest {
        service: "web".to_owned(),
        ..Default::default()
    };
    api.rollback(back).await.expect("accepted");
    bed.ended(&open).await;
    // The old version serves; connections to the new one have an hour to end.
    let mut waiting = deploying(spec(WEB, "3"));
    waiting.set_if_busy(v1::IfBusy::Wait);
    let waits = api.deploy(waiting).await.expect("accepted").into_inner();
    let waits = waits.services[0].rollout.clone();
    let queued = api.show_rollout(show(&waits)).await.expect("there");
    assert_eq!(queued.into_inner().stage, "queued");
    stop(&mut bed).await;
    bed.coordinator.start_again();
    bed.connected(1).await;
    bed.host("h1").temper(|temper| temper.keeps_open = false);
    let view = bed.ended(&waits).await;
    assert_eq!(view.outcome(), v1::Outcome::Committed, "{view:#?}");
    assert_eq!(bed.host("h1").current(WEB), 3);
    bed.assert_sound();
}

fn show(id: &str) -> v1::RolloutRequest {
    v1::RolloutRequest {
        id: id.to_owned(),
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p4_of_two_coordinators_the_lower_epoch_says_so_and_stops() {
    let mut bed = Bed::new(&["h1"]).await;
    bed.deploy(spec(WEB, "1")).await;
    bed.host("h1").obey(
        WEB,
        Generation {
            epoch: 99,
            number: 1,
        },
    );
    let ended = until("the coordinator to stop", async || bed.coordinator.ended()).await;
    assert_eq!(ended.code(), Some(78));
    assert!(
        bed.coordinator
            .whole_log()
            .contains("another coordinator is alive")
    );
    bed.coordinator.start_again();
    bed.connected(1).await;
    let status = bed.api().await.status(v1::StatusRequest::default()).await;
    assert!(status.expect("answered").into_inner().epoch > 99);
    let view = bed.deploy(spec(WEB, "2")).await;
    assert_eq!(view.outcome(), v1::Outcome::Committed, "{view:#?}");
}

async fn stop(bed: &mut Bed) {
    bed.coordinator.signal(nix::sys::signal::Signal::SIGTERM);
    let ended = until("the coordinator to end", async || bed.coordinator.ended()).await;
    assert!(ended.success(), "{ended}: {}", bed.coordinator.tail());
}

fn run(bed: &Bed, args: &[&str]) {
    let done = std::process::Command::new(cutover_tests::process::built("cutover-coordinator"))
        .args(args)
        .arg("--config")
        .arg(bed.scratch.join("coordinator.toml"))
        .output()
        .expect("it starts");
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
}

//! Partitions, and a coordinator that is gone when it is needed.

use std::time::{Duration, Instant};

use cutover_tests::wait;

use super::fleet::{Fleet, LEASE, PATIENCE, Release};
use super::servers::end;
use super::table::Found;

/// Longer than an order holds.
const PARTED: Duration = Duration::from_secs(LEASE + 2);

/// What a host says does not arrive.
pub(crate) async fn unheard(fleet: &mut Fleet) -> Found {
    parted(fleet, true).await
}

/// What the coordinator says does not arrive.
pub(crate) async fn deaf(fleet: &mut Fleet) -> Found {
    parted(fleet, false).await
}

async fn parted(fleet: &mut Fleet, unheard: bool) -> Found {
    let watch = fleet.under_load();
    let release = Release {
        observe: 6,
        ..Release::default()
    };
    let deploy = fleet.release_until(release, 1, "serving").await;
    let cut = if unheard {
        fleet.bed.cut(&fleet.hosts[1], &fleet.coordinator)
    } else {
        fleet.bed.cut(&fleet.coordinator, &fleet.hosts[1])
    };
    let serves = || {
        fleet.hosts[1]
            .sh("curl -sf -m 2 -o /dev/null http://127.0.0.1/")
            .code
            == 0
    };
    wait::throughout(PARTED, "the host to serve", async || serves()).await;
    drop(cut);
    let said = fleet.ends(deploy, &[0, 3, 9]).await;
    let (spared, struck) = watch.end(&[]).await;
    Found {
        outcome: format!(
            "it serves meanwhile; healed after {} s: {}",
            PARTED.as_secs(),
            end(said.code)
        ),
        spared,
        struck,
    }
}

/// With the coordinator dead, somebody on the host brings the old version back.
pub(crate) async fn break_glass(fleet: &mut Fleet) -> Found {
    let watch = fleet.under_load();
    let release = Release {
        observe: 20,
        ..Release::default()
    };
    let deploy = fleet.release_until(release, 0, "serving").await;
    fleet
        .coordinator
        .ok("systemctl kill -s KILL cutover-coordinator; systemctl stop cutover-coordinator");
    drop(deploy);
    let old = format!("v{}", fleet.before());
    let mut slowest = Duration::ZERO;
    for host in &fleet.hosts {
        let began = Instant::now();
        host.ok("cutover-agent revert shop/web");
        let answers = format!(
            "curl -s -m 1 -o /dev/null -D - http://127.0.0.1/ | grep -qix 'x-version: {old}.'"
        );
        wait::until(PATIENCE, "the old version to answer", async || {
            host.sh(&answers).code == 0
        })
        .await;
        slowest = slowest.max(began.elapsed());
    }
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    fleet.coordinator.ok("systemctl start cutover-coordinator");
    // It takes what was done as a fact: the rollout is closed as taken back, and the old version is current.
    wait::until(PATIENCE, "the rollout to be over", async || {
        let said = fleet.try_cutover("rollout ls --open -o json");
        (said.code == 0 && said.out.trim() == "[]").then_some(())
    })
    .await;
    fleet.was_taken_back();
    fleet.is_well().await;
    let newest = fleet.json("rollout ls --limit 1");
    let (spared, struck) = watch.end(&[]).await;
    Found {
        outcome: format!(
            "the old version answers after {} ms at most; the coordinator agrees when it is back ({})",
            slowest.as_millis(),
            newest[0]["outcome"].as_str().unwrap_or("open")
        ),
        spared,
        struck,
    }
}

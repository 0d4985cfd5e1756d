//! Good and bad releases on installed hosts, and agents that die in the midst of one.

use super::fleet::{Fleet, Release};
use super::packages::SERVING;
use super::table::Found;
use cutover_tests::wait;

use super::fleet::PATIENCE;

/// A good release, host by host.
pub(crate) async fn good(fleet: &mut Fleet) -> Found {
    let watch = fleet.under_load();
    let release = Release {
        wave: 1,
        ..Release::default()
    };
    let deploy = fleet.release_until(release, 0, "serving").await;
    fleet.ends(deploy, &[0]).await;
    let (spared, struck) = watch.end(&[]).await;
    Found {
        outcome: "committed on every host".to_owned(),
        spared,
        struck,
    }
}

/// One that crashes three seconds after its start.
pub(crate) async fn bad(fleet: &mut Fleet) -> Found {
    let watch = fleet.under_load();
    let release = Release {
        tag: "dies",
        observe: 6,
        ..Release::default()
    };
    let deploy = fleet.release_until(release, 0, "serving").await;
    let said = fleet.ends(deploy, &[3]).await;
    assert!(said.out.contains("exited with code"), "{}", said.out);
    // What it was answering when it died is lost, and nothing else.
    let (spared, struck) = watch.end(&["h1", "h2", "h3"]).await;
    assert!(struck.lost <= 60, "{struck:?}");
    Found {
        outcome: "back on the old version everywhere, exit code 3".to_owned(),
        spared,
        struck,
    }
}

/// kill -9 of an agent.
pub(crate) async fn agent_killed(fleet: &mut Fleet) -> Found {
    disturbed(fleet, "systemctl kill -s KILL cutover-agent").await
}

/// A restart by systemd.
pub(crate) async fn agent_restarted(fleet: &mut Fleet) -> Found {
    disturbed(fleet, "systemctl restart cutover-agent").await
}

/// One that hangs: systemd's watchdog, 3 s instead of 30 here, replaces it.
pub(crate) async fn agent_hung(fleet: &mut Fleet) -> Found {
    fleet.hosts[0].put(
        "/etc/systemd/system/cutover-agent.service.d/watchdog.conf",
        "[Service]\nWatchdogSec=3s\n",
    );
    fleet.hosts[0].ok("systemctl daemon-reload && systemctl restart cutover-agent");
    fleet.is_well().await;
    disturbed(fleet, "systemctl kill -s STOP cutover-agent").await
}

async fn disturbed(fleet: &mut Fleet, script: &str) -> Found {
    let watch = fleet.under_load();
    let release = Release {
        observe: 8,
        ..Release::default()
    };
    let deploy = fleet.release_until(release, 0, "serving").await;
    let host = &fleet.hosts[0];
    let (pid, route, serving) = (host.ok(MAIN_PID), host.ok(ROUTE), host.ok(SERVING));
    host.ok(script);
    wait::until(PATIENCE, "systemd to have another agent", async || {
        let now = host.sh(MAIN_PID).out;
        let active = host.sh("systemctl is-active cutover-agent").out == "active";
        (active && now != pid && now != "0").then_some(())
    })
    .await;
    assert_eq!(host.ok(ROUTE), route, "the route was not touched");
    assert_eq!(host.ok(SERVING), serving, "nor were the containers");
    fleet.ends(deploy, &[0]).await;
    let (spared, struck) = watch.end(&[]).await;
    Found {
        outcome: "another one goes on with the swap; route and containers untouched; committed"
            .to_owned(),
        spared,
        struck,
    }
}

const MAIN_PID: &str = "systemctl show -p MainPID --value cutover-agent";
/// What nginx is told.
const ROUTE: &str = "readlink /var/lib/cutover-agent/routes/shop/web/current";

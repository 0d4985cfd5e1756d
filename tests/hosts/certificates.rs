//! Certificates over the years: renewed in time, too late, and by another CA.

use cutover_tests::wait;

use super::clocks::{movable, pass};
use super::fleet::{Fleet, PATIENCE, Release};
use super::table::Found;

/// When the host's certificate ends.
const UNTIL: &str = "sed -n 's/.*\"certificate\": \"//p' /var/lib/cutover-agent/membership/link.json | sed 's/\\\\n/\\n/g' | \
                     openssl x509 -noout -enddate";

/// Another CA takes over, with releases between the steps.
pub(crate) async fn succession(fleet: &mut Fleet) -> Found {
    let before = ends(fleet);
    let watch = fleet.under_load();
    for step in ["begin", "switch", "end"] {
        if step == "end" {
            renew_operator(fleet);
        }
        wait::until(PATIENCE, step, async || {
            // Refused until every host has followed.
            let taken = fleet
                .coordinator
                .sh(&format!("{}cutover-coordinator ca {step}", fleet.moved));
            if taken.code == 0 {
                Ok(())
            } else {
                Err(taken.err)
            }
        })
        .await;
        fleet
            .coordinator
            .ok("systemctl restart cutover-coordinator");
        let file = fleet.next(Release::default());
        fleet.cutover("host wait --count 3 --for ready --timeout 60s");
        fleet.cutover(&format!("deploy -f {file}"));
    }
    renewed(fleet, &before).await;
    let (spared, struck) = watch.end(&[]).await;
    Found {
        outcome: "each step waits for every host; three releases meanwhile; no host and no operator is lost".to_owned(),
        spared,
        struck,
    }
}

/// Most of a certificate's life passes: all are renewed under load.
pub(crate) async fn renewal(fleet: &mut Fleet) -> Found {
    movable(fleet).await;
    let before = ends(fleet);
    let watch = fleet.under_load();
    pass(fleet, 75, true);
    renewed(fleet, &before).await;
    let file = fleet.next(Release::default());
    fleet.cutover(&format!("deploy -f {file}"));
    let (spared, struck) = watch.end(&[]).await;
    Found {
        outcome: "75 days later every certificate is a new one, and releases go on".to_owned(),
        spared,
        struck,
    }
}

/// Nobody renews from Friday to Monday.
pub(crate) async fn weekend(fleet: &mut Fleet) -> Found {
    movable(fleet).await;
    let before = ends(fleet);
    let watch = fleet.under_load();
    fleet.coordinator.ok("systemctl stop cutover-coordinator");
    pass(fleet, 75 + 75, false);
    for host in &fleet.hosts {
        host.ok("systemctl restart cutover-agent");
        host.ok("curl -sf -m 2 -o /dev/null http://127.0.0.1/");
    }
    pass(fleet, 75 + 75 + 3, false);
    renew_operator(fleet);
    fleet.coordinator.ok("systemctl start cutover-coordinator");
    renewed(fleet, &before).await;
    let (spared, struck) = watch.end(&[]).await;
    Found {
        outcome: "hosts serve without it; when it is back they renew and connect".to_owned(),
        spared,
        struck,
    }
}

/// A host is away until after its certificate's end.
pub(crate) async fn expired(fleet: &mut Fleet) -> Found {
    movable(fleet).await;
    let watch = fleet.under_load();
    fleet.hosts[0].ok("systemctl stop cutover-agent");
    for days in [75 * 2 + 3 + 60, 75 * 2 + 3 + 95] {
        pass(fleet, days, false);
        renew_operator(fleet);
        fleet
            .coordinator
            .ok("systemctl restart cutover-coordinator");
        for host in &fleet.hosts[1..] {
            host.ok("systemctl restart cutover-agent");
        }
        fleet.cutover("host wait --count 2 --for ready --timeout 60s");
    }
    let before = fleet.hosts[0].ok(UNTIL);
    fleet.hosts[0].ok("systemctl start cutover-agent");
    fleet.is_well().await;
    assert_ne!(fleet.hosts[0].ok(UNTIL), before);
    let (spared, struck) = watch.end(&[]).await;
    Found {
        outcome: "five days past its certificate's end it renews with its known key, and is back"
            .to_owned(),
        spared,
        struck,
    }
}

/// Nobody's certificate is renewed by itself but the daemons': an operator is given another one.
fn renew_operator(fleet: &Fleet) {
    let (moved, c) = (&fleet.moved, &fleet.coordinator);
    c.ok(&format!("{moved}cutover-coordinator operator admin"));
}

fn ends(fleet: &Fleet) -> Vec<String> {
    fleet.hosts.iter().map(|host| host.ok(UNTIL)).collect()
}

async fn renewed(fleet: &Fleet, before: &[String]) {
    wait::until(
        PATIENCE,
        "every host to have a new certificate",
        async || {
            let now = ends(fleet);
            let all = now.iter().zip(before).all(|(now, before)| now != before);
            if all { Ok(()) } else { Err(now.join(", ")) }
        },
    )
    .await;
    fleet.is_well().await;
}

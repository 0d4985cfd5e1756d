//! Clocks that jump, and certificates that grow old. Time is moved for our programs alone, by a library that is loaded
//! before them: the machines share one kernel.

use cutover_tests::bed::Machine;
use cutover_tests::wait;

use super::fleet::{Fleet, PATIENCE, Release};
use super::table::Found;

/// Where a machine's programs read by how much their clock is off.
const OFF_BY: &str = "/etc/off-by";
/// Reads it at each look at the wall clock; clocks that only go forward are left alone.
const MOVED: &str = "LD_PRELOAD=/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1 FAKETIME_TIMESTAMP_FILE=/etc/off-by \
                     FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1";
/// Whichever of the two runs there.
const RESTART: &str = "for unit in cutover-agent cutover-coordinator; do ! systemctl -q is-active $unit || systemctl restart $unit; done";
/// When the host's certificate ends.
const UNTIL: &str = "sed -n 's/.*\"certificate\": \"//p' /var/lib/cutover-agent/membership/link.json | sed 's/\\\\n/\\n/g' | \
                     openssl x509 -noout -enddate";

/// A host's clock jumps an hour ahead during a swap, and back; then the coordinator's.
pub(crate) async fn jump(fleet: &mut Fleet) -> Found {
    movable(fleet).await;
    let watch = fleet.under_load();
    for which in [true, false] {
        let release = Release {
            observe: 6,
            ..Release::default()
        };
        let deploy = fleet.release_until(release, 0, "serving").await;
        let machine = if which {
            &fleet.hosts[0]
        } else {
            &fleet.coordinator
        };
        set(machine, "+1h");
        fleet.ends(deploy, &[0]).await;
        let release = Release {
            observe: 6,
            ..Release::default()
        };
        let deploy = fleet.release_until(release, 0, "serving").await;
        let machine = if which {
            &fleet.hosts[0]
        } else {
            &fleet.coordinator
        };
        set(machine, "+0");
        fleet.ends(deploy, &[0]).await;
    }
    let (spared, struck) = watch.end(&[]).await;
    Found {
        outcome: "no decision depends on it: committed each time".to_owned(),
        spared,
        struck,
    }
}

/// Sixty days pass: certificates are renewed under load.
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

/// All of our programs look at a clock that can be moved.
async fn movable(fleet: &mut Fleet) {
    if fleet.moved.is_empty() {
        let words = MOVED.split(' ').map(|word| format!("Environment={word}\n"));
        let unit = format!("[Service]\n{}", words.collect::<String>());
        for machine in fleet.machines() {
            machine.put(OFF_BY, "+0\n");
            for daemon in ["cutover-agent", "cutover-coordinator"] {
                machine.put(
                    &format!("/etc/systemd/system/{daemon}.service.d/clock.conf"),
                    &unit,
                );
            }
            machine.ok(&format!("systemctl daemon-reload; {RESTART}"));
        }
        fleet.moved = format!("{MOVED} ");
    }
    fleet.is_well().await;
}

fn set(machine: &Machine, off_by: &str) {
    // In one step: a program must not read half of it.
    machine.ok_with(
        &format!("cat > {OFF_BY}.new && mv {OFF_BY}.new {OFF_BY}"),
        &format!("{off_by}\n"),
    );
}

/// So many days after the beginning, everywhere; the daemons look at once only if they are restarted.
fn pass(fleet: &Fleet, days: u32, restart: bool) {
    for machine in fleet.machines() {
        set(machine, &format!("+{days}d"));
    }
    if restart {
        for machine in fleet.machines() {
            machine.ok(RESTART);
        }
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

//! Clocks that jump. Time is moved for our programs alone, by a library that is loaded before them: the machines share one
//! kernel.

use cutover_tests::bed::Machine;

use super::fleet::{Fleet, Release};
use super::table::Found;

/// Where a machine's programs read by how much their clock is off.
const OFF_BY: &str = "/etc/off-by";
/// Reads it at each look at the wall clock; clocks that only go forward are left alone.
const MOVED: &str = "LD_PRELOAD=/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1 FAKETIME_TIMESTAMP_FILE=/etc/off-by \
                     FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1";
/// Whichever of the two runs there.
const RESTART: &str = "for unit in cutover-agent cutover-coordinator; do ! systemctl -q is-active $unit || systemctl restart $unit; done";

/// A host's clock jumps an hour ahead during a swap, and back; then the coordinator's.
pub(crate) async fn jump(fleet: &mut Fleet) -> Found {
    movable(fleet).await;
    let watch = fleet.under_load();
    for (coordinators, off_by) in [(false, "+1h"), (false, "+0"), (true, "+1h"), (true, "+0")] {
        let release = Release {
            observe: 6,
            ..Release::default()
        };
        let deploy = fleet.release_until(release, 0, "serving").await;
        let machine = if coordinators {
            &fleet.coordinator
        } else {
            &fleet.hosts[0]
        };
        set(machine, off_by);
        fleet.ends(deploy, &[0]).await;
    }
    let (spared, struck) = watch.end(&[]).await;
    Found {
        outcome: "no decision depends on it: committed each time".to_owned(),
        spared,
        struck,
    }
}

/// All of our programs look at a clock that can be moved.
pub(crate) async fn movable(fleet: &mut Fleet) {
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
pub(crate) fn pass(fleet: &Fleet, days: u32, restart: bool) {
    for machine in fleet.machines() {
        set(machine, &format!("+{days}d"));
    }
    if restart {
        for machine in fleet.machines() {
            machine.ok(RESTART);
        }
    }
}

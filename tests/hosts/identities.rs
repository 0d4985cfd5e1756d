//! Machines that are not who they were, and coordinators that are not alone.

use cutover_tests::bed::Machine;
use cutover_tests::wait;

use super::fleet::{COORDINATOR, Fleet, PATIENCE, Release, boot};
use super::packages::SERVING;
use super::table::Found;

/// A host's disk is copied, and the copy is started beside it.
pub(crate) async fn cloned(fleet: &mut Fleet) -> Found {
    let clone = boot(&fleet.bed, "clone", None, 20, &[]).await;
    let watch = fleet.under_load();
    fleet.bring(&clone, &["cutover-agent"]);
    let membership = fleet.hosts[0].ok("tar -C /var/lib/cutover-agent -c membership | base64 -w0");
    clone.ok("apt-get install -qq -y /srv/debs/*.deb </dev/null");
    clone.ok_with("base64 -d | tar -C /var/lib/cutover-agent -x", &membership);
    clone.ok("systemctl start --no-block cutover-agent");
    let (first, second) = (
        fleet.hosts[0].ok("cat /etc/machine-id"),
        clone.ok("cat /etc/machine-id"),
    );
    wait::until(
        PATIENCE,
        "the host to be quarantined, both machines named",
        async || {
            let shown = fleet.try_cutover("host show h1").out;
            let named = shown.contains(&first[..8]) && shown.contains(&second[..8]);
            if shown.contains("quarantined") && named {
                Ok(())
            } else {
                Err(shown)
            }
        },
    )
    .await;
    let serves = "curl -sf -m 2 -o /dev/null http://127.0.0.1/";
    fleet.hosts[0].ok(serves);
    drop(clone);
    // The right one enrols anew; what runs there goes on.
    let serving = fleet.hosts[0].ok(SERVING);
    fleet.cutover("host rm h1 --force --reason cloned");
    fleet.hosts[0].ok("systemctl stop cutover-agent && rm -r /var/lib/cutover-agent/membership");
    enrol_again(fleet, 0);
    fleet.is_well().await;
    assert_eq!(fleet.hosts[0].ok(SERVING), serving);
    let (spared, struck) = watch.end(&[]).await;
    Found {
        outcome: "quarantined, both machines named; the right one serves on and enrols anew"
            .to_owned(),
        spared,
        struck,
    }
}

/// A host is made anew from nothing, and gets its old name.
pub(crate) async fn rebuilt(fleet: &mut Fleet) -> Found {
    let old = fleet.hosts.remove(1);
    drop(old);
    let machine = boot(&fleet.bed, "h2", None, 12, &[]).await;
    fleet.hosts.insert(1, machine);
    let watch = fleet.under_load();
    let token = fleet.cutover("host token --uses 2 --expires 1h --label role=web");
    let host = &fleet.hosts[1];
    fleet.prepare(host);
    let enrol = format!("cutover-agent enroll --coordinator {COORDINATOR}:7444 --token-file -");
    let refused = host.sh_with(&enrol, &token);
    assert_ne!(
        refused.code, 0,
        "its name is another machine's: {refused:?}"
    );
    assert!(
        refused.err.contains("cutover host rm h2"),
        "{}",
        refused.err
    );
    fleet.cutover("host rm h2 --force --reason rebuilt");
    host.ok_with(&enrol, &token);
    fleet.is_well().await;
    let (spared, struck) = watch.end(&["h2"]).await;
    Found {
        outcome: "refused until `cutover host rm`, which it names; then it gets what runs"
            .to_owned(),
        spared,
        struck,
    }
}

/// The coordinator begins anew from an old backup.
pub(crate) async fn restored(fleet: &mut Fleet) -> Found {
    let c = &fleet.coordinator;
    c.ok("systemctl stop cutover-coordinator");
    c.ok("cutover-coordinator backup /srv/old");
    c.ok("systemctl start cutover-coordinator");
    let watch = fleet.under_load();
    let file = fleet.next(Release::default());
    fleet.cutover(&format!("deploy -f {file}"));
    let c = &fleet.coordinator;
    c.ok("systemctl stop cutover-coordinator");
    c.ok("cutover-coordinator restore /srv/old");
    c.ok("systemctl start cutover-coordinator");
    fleet.cutover("host wait --count 3 --for ready --timeout 60s");
    wait::until(
        PATIENCE,
        "the coordinator to say that it is behind",
        async || {
            let said = fleet.try_cutover("status").out;
            said.contains("newer than anything known").then_some(())
        },
    )
    .await;
    // Nothing is taken back by itself, and the next release wins.
    fleet.is_well().await;
    let file = fleet.next(Release::default());
    fleet.cutover(&format!("deploy -f {file}"));
    let (spared, struck) = watch.end(&[]).await;
    Found {
        outcome: "it says what it does not know, raises its epoch, takes nothing back; the next release wins".to_owned(),
        spared,
        struck,
    }
}

/// A copy of the coordinator is started on another machine, and hosts find that one.
pub(crate) async fn second_coordinator(fleet: &mut Fleet) -> Found {
    let copy = boot(&fleet.bed, "c2", None, 21, &[]).await;
    fleet.bring(&copy, &["cutover-coordinator", "cutover"]);
    copy.ok("apt-get install -qq -y /srv/debs/*.deb </dev/null");
    fleet.coordinator.ok("systemctl stop cutover-coordinator");
    let state = fleet
        .coordinator
        .ok("tar -C / -c var/lib/cutover-coordinator .$HOME/.config/cutover | base64 -w0");
    fleet.coordinator.ok("systemctl start cutover-coordinator");
    copy.ok_with("base64 -d | tar -C / -x", &state);
    resolve(&copy, Some(&copy));
    let watch = fleet.under_load();
    copy.ok("systemctl start cutover-coordinator");

    // All hosts find the copy, and a release goes through it.
    for host in &fleet.hosts {
        resolve(host, Some(&copy));
        host.ok("systemctl restart cutover-agent");
    }
    copy.ok("cutover host wait --count 3 --for ready --timeout 60s");
    let file = fleet.next(Release::default());
    let text = fleet.coordinator.ok(&format!("cat {file}"));
    copy.put(&file, &text);
    copy.ok(&format!("cutover deploy -f {file}"));

    // They find the first one again: it is behind, says so, and raises its epoch.
    for host in &fleet.hosts {
        resolve(host, None);
        host.ok("systemctl restart cutover-agent");
    }
    fleet.cutover("host wait --count 3 --for ready --timeout 60s");
    fleet.is_well().await;
    let file = fleet.next(Release::default());
    fleet.cutover(&format!("deploy -f {file}"));
    // And the copy, as soon as one of them looks in, ends for good.
    resolve(&fleet.hosts[0], Some(&copy));
    fleet.hosts[0].ok("systemctl restart cutover-agent");
    wait::until(PATIENCE, "the copy to stop by itself", async || {
        let state = copy
            .sh("systemctl show -p ExecMainStatus -p ActiveState --value cutover-coordinator")
            .out;
        if state.contains("78") && state.contains("failed") {
            Ok(())
        } else {
            Err(state)
        }
    })
    .await;
    let log = copy.ok("journalctl -u cutover-coordinator --no-pager");
    assert!(log.contains("another coordinator is alive"), "{log}");
    resolve(&fleet.hosts[0], None);
    fleet.hosts[0].ok("systemctl restart cutover-agent");
    fleet.is_well().await;
    let (spared, struck) = watch.end(&[]).await;
    Found {
        outcome: "hosts obey the higher epoch; the other one says so and stops for good (78)"
            .to_owned(),
        spared,
        struck,
    }
}

fn enrol_again(fleet: &Fleet, host: usize) {
    let token = fleet.cutover("host token --uses 1 --expires 1h --label role=web");
    fleet.hosts[host].ok_with(
        &format!("cutover-agent enroll --coordinator {COORDINATOR}:7444 --token-file -"),
        &token,
    );
    fleet.cutover("host wait --count 3 --for ready --timeout 60s");
}

/// Where a machine finds the coordinator, besides asking the network.
fn resolve(machine: &Machine, at: Option<&Machine>) {
    let line = at.map_or(String::new(), |at| {
        format!("{} {COORDINATOR}\n", at.address())
    });
    // The file is a mount: it can be written, not replaced.
    machine.ok_with(
        &format!("sed '/ {COORDINATOR}$/d' /etc/hosts > /run/hosts; cat >> /run/hosts; cat /run/hosts > /etc/hosts"),
        &line,
    );
}

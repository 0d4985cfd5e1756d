//! What packages do to a fleet that serves: upgrades, removal, and coming back.

use std::path::PathBuf;
use std::process::Command;

use cutover_tests::scratch::Scratch;

use super::fleet::{Fleet, PATIENCE, Release, package};
use super::table::{Count, Found};
use cutover_tests::bed::Machine;
use cutover_tests::wait;

/// Where the admin's own words are, in a conffile of the agent's.
const CONFFILE: &str = "/etc/cutover/agent.toml";

/// The agent's package is upgraded on every host while a release is under way.
pub(crate) async fn agent_is_upgraded(fleet: &mut Fleet) -> Found {
    let (scratch, newer) = next_version(fleet, "cutover-agent");
    for host in &fleet.hosts {
        host.ok(&format!("echo '# ours' >> {CONFFILE}"));
        host.copy(&newer, "/srv/newer.deb");
    }
    let before: Vec<String> = fleet.hosts.iter().map(|host| host.ok(SERVING)).collect();
    let watch = fleet.under_load();
    let release = Release {
        observe: 6,
        ..Release::default()
    };
    let deploy = fleet.release_until(release, 0, "serving").await;
    for host in &fleet.hosts {
        host.ok("apt-get install -qq -y /srv/newer.deb </dev/null");
        assert_eq!(host.sh("systemctl is-active cutover-agent").out, "active");
        assert!(host.ok(&format!("cat {CONFFILE}")).contains("# ours"));
    }
    fleet.ends(deploy, &[0]).await;
    let after: Vec<String> = fleet.hosts.iter().map(|host| host.ok(SERVING)).collect();
    assert_ne!(before, after, "the release went on");
    // A unit that the admin has disabled stays so.
    let last = &fleet.hosts[2];
    last.ok("systemctl disable -q cutover-agent && apt-get install -qq -y --reinstall /srv/newer.deb </dev/null");
    assert_eq!(
        last.sh("systemctl is-enabled cutover-agent").out,
        "disabled"
    );
    last.ok("systemctl enable -q cutover-agent");
    let (spared, struck) = watch.end(&[]).await;
    drop(scratch);
    Found {
        outcome: "the release goes on; conffiles and a disabled unit stay".to_owned(),
        spared,
        struck,
    }
}

/// The coordinator's package is upgraded while a release is under way.
pub(crate) async fn coordinator_is_upgraded(fleet: &mut Fleet) -> Found {
    let (scratch, newer) = next_version(fleet, "cutover-coordinator");
    fleet.coordinator.copy(&newer, "/srv/newer.deb");
    let watch = fleet.under_load();
    let release = Release {
        observe: 6,
        ..Release::default()
    };
    let deploy = fleet.release_until(release, 0, "serving").await;
    fleet
        .coordinator
        .ok("apt-get install -qq -y /srv/newer.deb </dev/null");
    fleet.ends(deploy, &[0]).await;
    let (spared, struck) = watch.end(&[]).await;
    drop(scratch);
    Found {
        outcome: "who waits for the deploy waits on; committed everywhere".to_owned(),
        spared,
        struck,
    }
}

/// The agent is removed and purged under load, nginx reloads and restarts, and the agent is installed again.
pub(crate) async fn purged_and_installed_again(fleet: &mut Fleet) -> Found {
    let watch = fleet.under_load();
    let host = &fleet.hosts[2];
    let containers = host.ok(SERVING);
    host.ok("apt-get remove -qq -y cutover-agent </dev/null");
    assert_eq!(host.ok(SERVING), containers, "removal touches no container");
    let said = host.ok("apt-get purge -qq -y cutover-agent </dev/null");
    assert!(said.contains("/var/lib/cutover-agent"), "{said}");
    assert_eq!(host.ok(SERVING), containers, "nor does purging");
    assert_eq!(host.sh("test -e /var/lib/cutover-agent/membership").code, 1);
    host.ok("test ! -e /etc/cutover/agent.toml");
    let (mut spared, _) = watch.end(&[]).await;
    // By the admin, for whatever reason: the site is still there.
    host.ok("nginx -t -q && systemctl reload nginx && curl -sf -o /dev/null http://127.0.0.1/");
    host.ok("systemctl restart nginx && curl -sf -o /dev/null http://127.0.0.1/");

    let watch = fleet.under_load();
    fleet.cutover("host rm h3 --force --reason rebuilt");
    let token = fleet.cutover("host token --uses 1 --expires 1h --label role=web");
    fleet.enrol(&fleet.hosts[2], &token);
    fleet.cutover("host wait --count 3 --for ready --timeout 60s");
    let host = &fleet.hosts[2];
    wait::until(PATIENCE, "the container to be taken over", async || {
        let taken = fleet
            .on(2)
            .is_ok_and(|status| status["revision"].as_u64() > Some(0));
        taken.then_some(())
    })
    .await;
    assert_eq!(host.ok(SERVING), containers, "it was taken over as it runs");
    // A host that is new has a rollout of its own, which finds that everything is there.
    fleet.is_well().await;
    let file = fleet.next(Release::default());
    fleet.cutover(&format!("deploy -f {file}"));
    let (again, struck) = watch.end(&[]).await;
    spared.sent += again.sent;
    Found {
        outcome: "containers and site stay, nginx's reload and restart included; installed again, it takes them over".to_owned(),
        spared,
        struck,
    }
}

/// What systemd thinks of the units as they run.
#[allow(clippy::unused_async, reason = "a scenario like the others")]
pub(crate) async fn exposure(fleet: &mut Fleet) -> Found {
    let of = |machine: &Machine, unit: &str| {
        let said = machine.ok(&format!("systemd-analyze security --no-pager {unit}"));
        let line = said.lines().last().unwrap_or_default().to_owned();
        let figure = line
            .split(": ")
            .nth(1)
            .and_then(|rest| rest.split(' ').next());
        let figure: Option<f64> = figure.and_then(|figure| figure.parse().ok());
        figure.unwrap_or_else(|| panic!("no figure in {line:?}"))
    };
    let coordinator = of(&fleet.coordinator, "cutover-coordinator");
    let agent = of(&fleet.hosts[0], "cutover-agent");
    assert!(
        coordinator <= 2.0,
        "the coordinator's exposure is {coordinator}"
    );
    assert!(agent <= 3.0, "the agent's exposure is {agent}");
    Found {
        outcome: format!("exposure of the coordinator {coordinator:.1}, of the agent {agent:.1}"),
        spared: Count::default(),
        struck: Count::default(),
    }
}

/// Which containers run, since when.
pub(crate) const SERVING: &str = "docker ps -q --no-trunc | sort | xargs -r docker inspect --format '{{.Id}} {{.State.StartedAt}}'";

/// A package as the next release will bring it.
fn next_version(fleet: &Fleet, name: &str) -> (Scratch, PathBuf) {
    let scratch = Scratch::new("newer");
    let (tree, newer) = (scratch.join("tree"), scratch.join("newer.deb"));
    let script = "dpkg-deb -R \"$1\" \"$2\" && sed -i 's/^Version: .*/&+next/' \"$2/DEBIAN/control\" && \
                  dpkg-deb -Znone -b \"$2\" \"$3\" >/dev/null";
    let made = Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(package(&fleet.debs, name))
        .args([&tree, &newer])
        .output()
        .expect("sh starts");
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    (scratch, newer)
}

//! What happens to servers: reboots, power cuts, upgrades and crashes of what Cutover stands on, disks, clocks.

use std::time::Instant;

use cutover_tests::wait;

use super::fleet::{Fleet, PATIENCE, Release};
use super::packages::SERVING;
use super::table::Found;

/// A host reboots in good order.
pub(crate) async fn reboot(fleet: &mut Fleet) -> Found {
    let watch = fleet.under_load();
    fleet.hosts[0].shut_down();
    let began = Instant::now();
    fleet.hosts[0].start().await;
    fleet.is_well().await;
    let took = began.elapsed();
    let (spared, struck) = watch.end(&["h1"]).await;
    Found {
        outcome: format!("serves again {:.1} s after power on", took.as_secs_f64()),
        spared,
        struck,
    }
}

/// A host loses its power in the midst of a swap.
pub(crate) async fn power_cut(fleet: &mut Fleet) -> Found {
    let watch = fleet.under_load();
    let release = Release {
        observe: 6,
        ..Release::default()
    };
    let deploy = fleet.release_until(release, 0, "serving").await;
    fleet.hosts[0].cut_power();
    fleet.hosts[0].start().await;
    let said = fleet.ends(deploy, &[0, 3, 9]).await;
    let (spared, struck) = watch.end(&["h1"]).await;
    Found {
        outcome: format!("the host comes back and converges; {}", end(said.code)),
        spared,
        struck,
    }
}

/// The coordinator's machine loses its power in the midst of a release.
pub(crate) async fn coordinator_power_cut(fleet: &mut Fleet) -> Found {
    let watch = fleet.under_load();
    let release = Release {
        observe: 6,
        ..Release::default()
    };
    let deploy = fleet.release_until(release, 0, "serving").await;
    fleet.coordinator.cut_power();
    drop(deploy);
    fleet.coordinator.start().await;
    let said = fleet.try_cutover("rollout watch");
    assert!([0, 3].contains(&said.code), "{said:?}");
    let newest = fleet.json("rollout ls --limit 1");
    if newest[0]["outcome"] != "committed" {
        fleet.was_taken_back();
    }
    fleet.is_well().await;
    let (spared, struck) = watch.end(&[]).await;
    Found {
        outcome: format!("it goes on where it stood: {}", newest[0]["outcome"]),
        spared,
        struck,
    }
}

/// docker.io is installed again; Debian leaves its restart to the admin.
pub(crate) async fn docker_upgrade(fleet: &mut Fleet) -> Found {
    let watch = fleet.under_load();
    let serving = fleet.hosts[0].ok(SERVING);
    let pid = fleet.hosts[0].ok(DOCKERD);
    fleet.hosts[0].ok("apt-get install -qq -y --no-download --reinstall docker.io </dev/null && systemctl restart docker");
    fleet.is_well().await;
    assert_ne!(fleet.hosts[0].ok(DOCKERD), pid, "dockerd was replaced");
    assert_eq!(
        fleet.hosts[0].ok(SERVING),
        serving,
        "the containers were not"
    );
    let (spared, struck) = watch.end(&[]).await;
    Found {
        outcome: "with live-restore the containers go on, and the agent re-reads them".to_owned(),
        spared,
        struck,
    }
}

/// nginx is installed again, which replaces its program while it runs.
pub(crate) async fn nginx_upgrade(fleet: &mut Fleet) -> Found {
    let watch = fleet.under_load();
    let pid = fleet.hosts[0].ok(NGINX);
    fleet.hosts[0].ok("apt-get install -qq -y --no-download --reinstall nginx </dev/null");
    wait::until(PATIENCE, "nginx to be replaced", async || {
        let now = fleet.hosts[0].sh(NGINX);
        (now.code == 0 && now.out != pid).then_some(())
    })
    .await;
    fleet.is_well().await;
    // Distributions restart or replace it by its own means: what that costs is nginx's.
    let (spared, struck) = watch.end(&["h1"]).await;
    Found {
        outcome: "nginx's own replacement; the route is as it was".to_owned(),
        spared,
        struck,
    }
}

/// The C library is replaced, and needrestart restarts whatever runs with the old one, without asking.
pub(crate) async fn needrestart(fleet: &mut Fleet) -> Found {
    let host = &fleet.hosts[1];
    let apt = "DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-download --no-install-recommends";
    host.ok(&format!("{apt} needrestart </dev/null"));
    let watch = fleet.under_load();
    let release = Release {
        observe: 8,
        ..Release::default()
    };
    let deploy = fleet.release_until(release, 1, "serving").await;
    let host = &fleet.hosts[1];
    let (agent, nginx) = (host.ok("pidof cutover-agent"), host.ok(NGINX));
    let dockerd = host.ok(DOCKERD);
    // As dpkg replaces a library: a new file takes the name, and who runs has the old one.
    host.ok(
        "lib=$(readlink -f /lib/*-linux-gnu/libc.so.6) && cp -a $lib $lib.new && mv $lib.new $lib",
    );
    let said = host.ok("NEEDRESTART_MODE=a needrestart -r a -l </dev/null 2>&1");
    let host = &fleet.hosts[1];
    assert_ne!(host.ok("pidof cutover-agent"), agent, "{said}");
    assert_ne!(host.ok(NGINX), nginx, "{said}");
    // Not by Debian's own list; somebody does it by hand, now.
    assert_eq!(host.ok(DOCKERD), dockerd, "{said}");
    host.ok("systemctl restart docker");
    fleet.ends(deploy, &[0]).await;
    let (spared, struck) = watch.end(&["h2"]).await;
    Found {
        outcome: "it restarts agent and nginx, and leaves Docker, which is then restarted by hand; the swap goes on; committed"
            .to_owned(),
        spared,
        struck,
    }
}

/// apt's night shift upgrades the agent, nginx and Docker, in the midst of a swap.
pub(crate) async fn unattended_upgrades(fleet: &mut Fleet) -> Found {
    let host = &fleet.hosts[1];
    host.ok("DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-download --no-install-recommends unattended-upgrades </dev/null");
    fleet.bring(host, &["cutover-agent"]);
    host.ok(NEXT_NIGHT);
    let versions = "dpkg-query -W -f '${Version}\n' cutover-agent nginx docker.io";
    let watch = fleet.under_load();
    let release = Release {
        observe: 12,
        ..Release::default()
    };
    let deploy = fleet.release_until(release, 1, "serving").await;
    let host = &fleet.hosts[1];
    let (agent, dockerd) = (host.ok("pidof cutover-agent"), host.ok(DOCKERD));
    let serving = host.ok(SERVING);
    let said = host.ok("APT_CONFIG=/srv/repo/apt.conf unattended-upgrade --verbose");
    let upgraded = host.ok(versions);
    assert!(
        upgraded.lines().count() == 3 && upgraded.lines().all(|line| line.ends_with("+night")),
        "{upgraded}\n{said}"
    );
    assert_ne!(host.ok("pidof cutover-agent"), agent);
    assert_eq!(host.ok(SERVING), serving, "no container was touched");
    let engine = if host.ok(DOCKERD) == dockerd {
        "the engine waits for its next restart"
    } else {
        "the engine was restarted"
    };
    fleet.ends(deploy, &[0]).await;
    let (spared, struck) = watch.end(&["h2"]).await;
    Found {
        outcome: format!("agent and nginx are replaced, {engine}; the swap goes on; committed"),
        spared,
        struck,
    }
}

/// A repository with the next version of each, from the packages that the machine has, and apt told of it alone. It is newer
/// than what an earlier scenario upgraded to (`+next`).
const NEXT_NIGHT: &str = r#"set -e
rm -rf /srv/repo && mkdir -p /srv/repo/lists/partial && cd /srv/repo
cp /srv/debs/cutover-agent_*.deb /var/cache/apt/archives/nginx_*.deb /var/cache/apt/archives/docker.io_*.deb .
for deb in *.deb; do
  dpkg-deb -R "$deb" tree && rm "$deb"
  sed -i 's/^Version: .*/&+night/' tree/DEBIAN/control
  dpkg-deb -Znone -b tree "$deb" >/dev/null && rm -r tree
  { dpkg-deb -f "$deb"; echo "Filename: ./$deb"; stat -c 'Size: %s' "$deb"
    sha256sum "$deb" | sed 's/ .*//; s/^/SHA256: /'; echo; } >> Packages
done
{ echo "Origin: Next"; echo "Date: $(date -Ru)"; echo "SHA256:"
  echo " $(sha256sum Packages | cut -d ' ' -f 1) $(stat -c %s Packages) Packages"; } > Release
echo 'deb [trusted=yes] file:/srv/repo ./' > sources.list
cat > apt.conf <<'CONF'
Dir::Etc::sourcelist "/srv/repo/sources.list";
Dir::Etc::sourceparts "-";
Dir::State::lists "/srv/repo/lists";
Unattended-Upgrade::Origins-Pattern { "origin=Next"; };
CONF
APT_CONFIG=/srv/repo/apt.conf apt-get update -qq
"#;

/// dockerd dies three times in a minute: systemd gives up on it.
pub(crate) async fn three_dockerd_crashes(fleet: &mut Fleet) -> Found {
    let watch = fleet.under_load();
    let host = &fleet.hosts[0];
    let serving = host.ok(SERVING);
    let mut crashes = 0;
    while host.sh("systemctl is-failed docker").out != "failed" {
        wait::until(PATIENCE, "dockerd to run, or to be given up", async || {
            host.sh("pidof dockerd").code == 0
                || host.sh("systemctl is-failed docker").out == "failed"
        })
        .await;
        crashes += i32::from(host.sh("kill -9 $(pidof dockerd)").code == 0);
    }
    let doctor = host.sh("cutover-agent doctor");
    assert_eq!(doctor.code, 8, "{doctor:?}");
    assert!(
        doctor.out.contains("systemctl reset-failed docker"),
        "{}",
        doctor.out
    );
    host.ok("systemctl reset-failed docker && systemctl start docker");
    fleet.is_well().await;
    assert_eq!(
        fleet.hosts[0].ok(SERVING),
        serving,
        "the containers went on"
    );
    let (spared, struck) = watch.end(&[]).await;
    Found {
        outcome: format!(
            "given up after {crashes}; requests are served all the while; doctor says `systemctl reset-failed docker`"
        ),
        spared,
        struck,
    }
}

/// nginx's master is killed; what distributions ship would leave it dead.
pub(crate) async fn nginx_killed(fleet: &mut Fleet) -> Found {
    let watch = fleet.under_load();
    let began = Instant::now();
    fleet.hosts[0].ok("kill -9 $(cat /run/nginx.pid)");
    wait::until(PATIENCE, "nginx to be active again", async || {
        fleet.hosts[0]
            .sh("curl -sf -m 1 -o /dev/null http://127.0.0.1/ && systemctl is-active nginx")
            .code
            == 0
    })
    .await;
    let took = began.elapsed();
    fleet.is_well().await;
    let (spared, struck) = watch.end(&["h1"]).await;
    Found {
        outcome: format!(
            "its unit starts it again within {:.1} s",
            took.as_secs_f64()
        ),
        spared,
        struck,
    }
}

/// The agent's file system has no byte left while a sick candidate serves.
pub(crate) async fn disk_full(fleet: &mut Fleet) -> Found {
    let watch = fleet.under_load();
    let release = Release {
        tag: "dies",
        observe: 8,
        ..Release::default()
    };
    let deploy = fleet.release_until(release, 2, "serving").await;
    let host = &fleet.hosts[2];
    host.sh("cat /dev/zero > /var/lib/cutover-agent/filler");
    let back = format!("grep -qi 'x-version: v{}'", fleet.before());
    wait::until(PATIENCE, "the old version to answer", async || {
        host.sh(&format!(
            "curl -s -m 1 -o /dev/null -D - http://127.0.0.1/ | {back}"
        ))
        .code
            == 0
    })
    .await;
    host.ok("rm /var/lib/cutover-agent/filler");
    fleet.ends(deploy, &[3]).await;
    let (spared, struck) = watch.end(&["h1", "h2", "h3"]).await;
    assert!(struck.lost <= 60, "{struck:?}");
    Found {
        outcome: "traffic goes back all the same; the rest when there is room; exit code 3"
            .to_owned(),
        spared,
        struck,
    }
}

/// The agent's disk breaks during a swap: its file system is read-only until somebody repairs it.
pub(crate) async fn read_only(fleet: &mut Fleet) -> Found {
    let watch = fleet.under_load();
    let release = Release {
        observe: 6,
        ..Release::default()
    };
    let deploy = fleet.release_until(release, 2, "serving").await;
    fleet.state.break_it();
    wait::until(PATIENCE, "the host to say what is wrong", async || {
        let said = fleet.hosts[2].sh("cutover-agent status").out;
        said.to_lowercase().contains("read-only").then_some(())
    })
    .await;
    let serves = "curl -sf -m 2 -o /dev/null http://127.0.0.1/";
    fleet.hosts[2].ok(serves);
    // As an admin does: down, repaired, up.
    fleet.hosts[2].shut_down();
    fleet.state.repair();
    fleet.hosts[2].start().await;
    let said = fleet.ends(deploy, &[0, 3, 9]).await;
    let (spared, struck) = watch.end(&["h3"]).await;
    Found {
        outcome: format!(
            "it says so and serves on; repaired and rebooted: {}",
            end(said.code)
        ),
        spared,
        struck,
    }
}

/// Docker's file system has no room for a file when a candidate shall start.
pub(crate) async fn docker_disk_full(fleet: &mut Fleet) -> Found {
    let watch = fleet.under_load();
    // No room for one file more; whatever is freed meanwhile is taken, too.
    let fill = "mkdir -p /var/lib/docker/filler && cd /var/lib/docker/filler && seq 1 9000 | xargs touch 2>/dev/null";
    let greed = "touch /run/greed; i=0; while [ -e /run/greed ]; do \
                 i=$((i+1)); touch /var/lib/docker/filler/more$i 2>/dev/null; sleep 0.01; done";
    fleet.hosts[2].sh(fill);
    let greedy = fleet.hosts[2].beside(greed);
    let file = fleet.next(Release::default());
    let deploy = fleet
        .coordinator
        .beside(&format!("cutover deploy -f {file}"));
    let said = deploy.end().await;
    fleet.hosts[2].ok("rm /run/greed");
    greedy.end().await;
    fleet.hosts[2].ok("rm -r /var/lib/docker/filler");
    assert_eq!(said.code, 3, "{said:?}");
    assert!(said.out.contains("no space left"), "{}", said.out);
    fleet.was_taken_back();
    let (spared, struck) = watch.end(&[]).await;
    Found {
        outcome: "the candidate does not start; back everywhere, exit code 3, \"no space left\""
            .to_owned(),
        spared,
        struck,
    }
}

/// How a deploy ended, in words.
pub(crate) fn end(code: i32) -> &'static str {
    match code {
        0 => "committed, exit code 0",
        3 => "back on the old version, exit code 3",
        9 => "committed, that host owing until it was back, exit code 9",
        _ => "?",
    }
}

const DOCKERD: &str = "systemctl show -p MainPID --value docker";
const NGINX: &str = "cat /run/nginx.pid";

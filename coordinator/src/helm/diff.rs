//! What changes between two specs, for people.
//!
//! Keeps true (P8): of environment and configs the names are said, never the values.

use std::collections::BTreeMap;
use std::fmt::Debug;

use cutover_core::ServiceId;
use cutover_core::spec::{MountSource, ServiceSpec, Strategy};
use cutover_proto::v1;

use super::wake::Refusal;
use crate::planner::Planned;

/// One service of a plan that is shown.
pub(super) struct Shown<'a> {
    pub(super) service: &'a ServiceId,
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) spec: Option<&'a ServiceSpec>,
    pub(super) planned: &'a Result<Planned, Refusal>,
}

pub(super) fn show(before: Option<&ServiceSpec>, shown: Shown<'_>) -> v1::ServicePlanView {
    let mut view = v1::ServicePlanView {
        service: shown.service.to_string(),
        from_revision: shown.from,
        to_revision: shown.to,
        removed: shown.spec.is_none(),
        ..v1::ServicePlanView::default()
    };
    if let Some(spec) = shown.spec {
        strategy(spec).clone_into(&mut view.strategy);
        view.changes = before.map_or_else(
            || vec![format!("new: {}", spec.container.image)],
            |before| changes(before, spec),
        );
    }
    match shown.planned {
        Ok(Planned::AlreadyThere) => view.already_there = true,
        Ok(Planned::Plan(plan)) => {
            view.skipped = plan.skipped.iter().map(ToString::to_string).collect();
            let mut waves = vec![v1::WaveView::default(); plan.waves()];
            for (index, host) in plan.hosts.iter().enumerate() {
                if let Some(wave) = waves.get_mut(plan.wave_of(index)) {
                    wave.hosts.push(host.host.to_string());
                }
            }
            view.waves = waves;
        }
        Err(refusal) => view.refused = refusal.to_string(),
    }
    view
}

pub(super) fn strategy(spec: &ServiceSpec) -> &'static str {
    strategy_name(spec.policy.strategy)
}

pub(super) fn strategy_name(strategy: Strategy) -> &'static str {
    match strategy {
        Strategy::Rolling => "rolling",
        Strategy::BlueGreen => "blue-green",
        Strategy::Recreate => "recreate",
    }
}

fn changes(before: &ServiceSpec, after: &ServiceSpec) -> Vec<String> {
    let mut lines = Vec::new();
    let (a, b) = (&before.container, &after.container);
    if a.image != b.image {
        lines.push(format!("image: {} → {}", a.image, b.image));
    } else if a.resolved_image != b.resolved_image && !b.resolved_image.is_empty() {
        lines.push(format!("image: {} now means {}", b.image, b.resolved_image));
    }
    if before.replicas != after.replicas {
        lines.push(format!(
            "replicas: {} → {}",
            before.replicas, after.replicas
        ));
    }
    named(&mut lines, "environment", &a.environment, &b.environment);
    named(&mut lines, "label", &a.labels, &b.labels);
    let mut field = |name: &str, changed: bool| {
        if changed {
            lines.push(format!("{name} changed"));
        }
    };
    field(
        "command",
        a.command != b.command || a.entrypoint != b.entrypoint,
    );
    field("mounts", a.mounts != b.mounts);
    field("networks", a.networks != b.networks);
    field("resources", a.resources != b.resources);
    field("logging", a.logging != b.logging);
    field("healthcheck", a.healthcheck != b.healthcheck);
    field(
        "stop behaviour",
        a.stop_grace != b.stop_grace || a.stop_signal != b.stop_signal,
    );
    field("user", a.user != b.user);
    field("working_dir", a.working_dir != b.working_dir);
    field("hostname", a.hostname != b.hostname);
    field("container_name", a.container_name != b.container_name);
    field("init", a.init != b.init);
    field("read_only", a.read_only != b.read_only);
    field("tmpfs", a.tmpfs != b.tmpfs);
    field("cap_add", a.cap_add != b.cap_add);
    field("cap_drop", a.cap_drop != b.cap_drop);
    field("security_opt", a.security_opt != b.security_opt);
    field("sysctls", a.sysctls != b.sysctls);
    field("ulimits", a.ulimits != b.ulimits);
    field("extra_hosts", a.extra_hosts != b.extra_hosts);
    field("dns", a.dns != b.dns);
    field("shm_size", a.shm_size != b.shm_size);
    field("expose", a.expose != b.expose);
    field("traffic", before.traffic != after.traffic);
    field("placement", before.placement != after.placement);
    field("ready", before.ready != after.ready);
    field("live", before.live != after.live);
    field("smoke", before.smoke != after.smoke);
    field("restart", before.restart != after.restart);
    field("rollout policy", before.policy != after.policy);
    for mount in &b.mounts {
        if let MountSource::Content { name, .. } = &mount.source
            && !a.mounts.contains(mount)
        {
            lines.push(format!("config {name}: new content or place"));
        }
    }
    lines
}

fn named<V: PartialEq + Debug>(
    lines: &mut Vec<String>,
    what: &str,
    before: &BTreeMap<String, V>,
    after: &BTreeMap<String, V>,
) {
    for (name, value) in after {
        match before.get(name) {
            None => lines.push(format!("{what} {name}: new")),
            Some(old) if old != value => lines.push(format!("{what} {name}: changed")),
            Some(_) => {}
        }
    }
    let gone = before.keys().filter(|name| !after.contains_key(*name));
    lines.extend(gone.map(|name| format!("{what} {name}: removed")));
}

#[cfg(test)]
mod tests {
    use cutover_core::spec::{Check, Listener, Liveness, Mount, Network, Protocol, SmokeCheck};

    use super::*;
    use crate::planner::tests::spec;

    type Change = (&'static str, fn(&mut ServiceSpec));

    /// One of each kind; no value may be shown.
    const CHANGES: [Change; 37] = [
        ("image: ", |s| s.container.image = "web:2".to_owned()),
        ("replicas: 1 → 2", |s| s.replicas = 2),
        ("environment TOKEN: new", |s| {
            insert(&mut s.container.environment, "TOKEN");
        }),
        ("label TOKEN: new", |s| {
            insert(&mut s.container.labels, "TOKEN");
        }),
        ("command changed", |s| s.container.command = one()),
        ("command changed", |s| s.container.entrypoint = one()),
        ("mounts changed", |s| {
            s.container.mounts.push(Mount {
                source: MountSource::Volume {
                    name: SECRET.to_owned(),
                    external: false,
                },
                target: SECRET.to_owned(),
                read_only: false,
            });
        }),
        ("networks changed", |s| {
            s.container.networks.push(Network {
                name: SECRET.to_owned(),
                external: false,
                aliases: Vec::new(),
            });
        }),
        ("resources changed", |s| {
            s.container.resources.memory = Some(1);
        }),
        ("logging changed", |s| {
            s.container.logging = Some(cutover_core::spec::Logging {
                driver: SECRET.to_owned(),
                options: BTreeMap::new(),
            });
        }),
        ("healthcheck changed", |s| {
            s.container.healthcheck = Some(cutover_core::spec::Healthcheck {
                test: vec![SECRET.to_owned()],
                interval: SECOND,
                timeout: SECOND,
                retries: 1,
                start_period: SECOND,
            });
        }),
        ("stop behaviour changed", |s| {
            s.container.stop_grace = SECOND
        }),
        ("stop behaviour changed", |s| {
            s.container.stop_signal = text()
        }),
        ("user changed", |s| s.container.user = text()),
        ("working_dir changed", |s| s.container.working_dir = text()),
        ("hostname changed", |s| s.container.hostname = text()),
        ("container_name changed", |s| {
            s.container.container_name = text();
        }),
        ("init changed", |s| s.container.init = true),
        ("read_only changed", |s| s.container.read_only = true),
        ("tmpfs changed", |s| {
            s.container.tmpfs.push(SECRET.to_owned())
        }),
        ("cap_add changed", |s| {
            s.container.cap_add.push(SECRET.to_owned());
        }),
        ("cap_drop changed", |s| {
            s.container.cap_drop.push(SECRET.to_owned());
        }),
        ("security_opt changed", |s| {
            s.container.security_opt.push(SECRET.to_owned());
        }),
        ("sysctls changed", |s| insert(&mut s.container.sysctls, "a")),
        ("ulimits changed", |s| {
            s.container.ulimits.insert("nofile".to_owned(), (1, 1));
        }),
        ("extra_hosts changed", |s| {
            s.container
                .extra_hosts
                .push((SECRET.to_owned(), SECRET.to_owned()));
        }),
        ("dns changed", |s| s.container.dns.push(SECRET.to_owned())),
        ("shm_size changed", |s| s.container.shm_size = Some(1)),
        ("expose changed", |s| {
            s.container.expose.insert(80);
        }),
        ("traffic changed", |s| {
            s.traffic.push(Listener {
                address: None,
                listen: 80,
                host: text(),
                path: "/".to_owned(),
                port: 8080,
                protocol: Protocol::Http,
            });
        }),
        ("placement changed", |s| s.placement.clear()),
        ("ready changed", |s| s.ready.check = Check::Docker),
        ("live changed", |s| {
            s.live = Some(Liveness {
                check: Check::Docker,
                every: SECOND,
                timeout: SECOND,
                failures: 1,
                restart: false,
            });
        }),
        ("smoke changed", |s| {
            s.smoke.push(SmokeCheck {
                path: SECRET.to_owned(),
                status: None,
                contains: None,
            });
        }),
        ("restart changed", |s| s.restart.delay = SECOND),
        ("rollout policy changed", |s| s.policy.wave = 7),
        ("image: web:1 now means", |s| {
            s.container.resolved_image = "web@sha256:2".to_owned();
        }),
    ];
    const SECRET: &str = "hunter2";
    const SECOND: std::time::Duration = std::time::Duration::from_secs(1);

    fn text() -> Option<String> {
        Some(SECRET.to_owned())
    }

    fn one() -> Option<Vec<String>> {
        Some(vec![SECRET.to_owned()])
    }

    fn insert(map: &mut BTreeMap<String, String>, name: &str) {
        map.insert(name.to_owned(), SECRET.to_owned());
    }

    #[test]
    fn p8_each_change_is_named_and_no_value_is_shown() {
        let mut before = spec();
        before.container.image = "web:1".to_owned();
        assert_eq!(changes(&before, &before), Vec::<String>::new());
        for (named, change) in CHANGES {
            let mut after = before.clone();
            change(&mut after);
            let said = changes(&before, &after);
            assert_eq!(said.len(), 1, "{named}: {said:?}");
            assert!(said[0].starts_with(named), "{named}: {said:?}");
            assert!(!said[0].contains(SECRET), "{said:?}");
        }
    }

    #[test]
    fn what_is_gone_is_named_too() {
        let mut before = spec();
        insert(&mut before.container.environment, "TOKEN");
        let said = changes(&before, &spec());
        assert_eq!(said, ["environment TOKEN: removed"]);
        let mut after = before.clone();
        after
            .container
            .environment
            .insert("TOKEN".to_owned(), "another".to_owned());
        assert_eq!(changes(&before, &after), ["environment TOKEN: changed"]);
    }
}

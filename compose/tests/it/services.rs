//! What is understood of a service.

use std::time::Duration;

use cutover_compose::normalized;
use cutover_core::spec::{Check, MountSource, Network, Protocol, RestartCondition, Subject};

use crate::workshop::{Workshop, spec, web};

/// Listen, container port and protocol of each listener.
fn listeners(lines: &str) -> Vec<(Option<String>, u16, u16, Protocol)> {
    let spec = spec(&format!("image: x\n{lines}"));
    spec.traffic
        .iter()
        .map(|l| {
            (
                l.address.map(|a| a.to_string()),
                l.listen,
                l.port,
                l.protocol,
            )
        })
        .collect()
}

#[test]
fn a_published_port_is_a_listener_in_every_syntax() {
    use Protocol::{Grpc, Http, Tcp};
    let local = Some("127.0.0.1".to_owned());
    for (ports, expected) in [
        ("\"80:8080\"", vec![(None, 80, 8080, Http)]),
        ("80:8080/tcp", vec![(None, 80, 8080, Http)]),
        ("127.0.0.1:80:8080", vec![(local.clone(), 80, 8080, Http)]),
        (
            "8000-8001:9000-9001",
            vec![(None, 8000, 9000, Http), (None, 8001, 9001, Http)],
        ),
        ("8080", vec![]),
        ("127.0.0.1::8080", vec![]),
        (
            "{target: 8080, published: \"80\", host_ip: 127.0.0.1}",
            vec![(local, 80, 8080, Http)],
        ),
        (
            "{target: 50051, published: 50051, app_protocol: grpc, name: rpc}",
            vec![(None, 50051, 50051, Grpc)],
        ),
        (
            "{target: 5432, published: 5432, app_protocol: postgres}",
            vec![(None, 5432, 5432, Tcp)],
        ),
    ] {
        assert_eq!(
            listeners(&format!("ports:\n  - {ports}")),
            expected,
            "{ports}"
        );
    }
    assert_eq!(
        spec("image: x\nports: [\"8080\"]\nexpose: [9000, \"9001-9002\"]")
            .container
            .expose
            .len(),
        4
    );
}

#[test]
fn traffic_says_in_full_what_ports_say_in_short() {
    let spec = spec(
        "image: x\nexpose: [8080]\nx-cutover:\n  traffic:\n    - {listen: 80, host: Shop.example.com, path: /a}\n    - {listen: 25, port: 2525, protocol: tcp}",
    );
    let first = &spec.traffic[0];
    assert_eq!(
        (first.host.as_deref(), first.path.as_str(), first.port),
        (Some("shop.example.com"), "/a", 8080)
    );
    assert_eq!(
        (spec.traffic[1].protocol, spec.traffic[1].path.as_str()),
        (Protocol::Tcp, "/")
    );
}

#[test]
fn commands_and_environment_come_in_two_notations() {
    let list = spec("image: x\ncommand: [serve, --port, \"80\"]\nenvironment: [A=1, B=x=y, C=]");
    let text = spec("image: x\ncommand: serve --port '80'\nenvironment: {A: 1, B: x=y, C: \"\"}");
    assert_eq!(list.container.command, text.container.command);
    assert_eq!(list.container.environment, text.container.environment);
    assert_eq!(list.container.environment["B"], "x=y");
    assert_eq!(
        spec("image: x\nentrypoint: []").container.entrypoint,
        Some(Vec::new())
    );
    assert_eq!(spec("image: x\nentrypoint:").container.entrypoint, None);
}

#[test]
fn the_environment_wins_over_env_files_and_the_later_file_over_the_earlier() {
    let text = web(
        "image: x\nenv_file:\n  - a.env\n  - {path: b.env, format: raw}\n  - {path: none.env, required: false}\nenvironment:\n  D: web\n  FROM_SHELL:",
    );
    let workshop = Workshop::new(&[
        ("compose.yaml", &text),
        ("a.env", "A='1'\nB=${X}\nC=a\nD=a\n"),
        ("b.env", "C=\"raw\"\n"),
    ]);
    let loaded = workshop.with("X", "x").with("FROM_SHELL", "s").loaded();
    let environment: Vec<String> = loaded.release.services[0]
        .container
        .environment
        .iter()
        .map(|(k, v)| format!("{k}={v}"))
        .collect();
    assert_eq!(
        environment,
        ["A=1", "B=x", "C=\"raw\"", "D=web", "FROM_SHELL=s"]
    );
}

#[test]
fn networks_and_volumes_have_composes_names() {
    let text = "
services:
  web:
    image: x
    networks: {default: , back: {aliases: [www]}, outer: }
    volumes:
      - data:/data
      - cache:/cache:ro
      - {type: volume, source: ext, target: /ext, read_only: true}
      - /srv/host:/host:ro
      - {type: tmpfs, target: /tmp, tmpfs: {size: 1k, mode: 0700}}
    tmpfs: /run
    configs: [plain, {source: text, target: /etc/text, mode: 0400}]
  bare: {image: y}
networks: {back: , outer: {external: true, name: real}}
volumes: {data: , cache: {name: named}, ext: {external: true}}
configs: {plain: {file: ./plain.conf}, text: {content: \"v=${V}\"}}
";
    let workshop =
        Workshop::new(&[("compose.yaml", text), ("plain.conf", "hello\n")]).with("V", "1");
    let services = workshop.loaded().release.services;
    let network = |name: &str, external: bool, aliases: &[&str]| Network {
        name: name.to_owned(),
        external,
        aliases: aliases.iter().map(|alias| (*alias).to_owned()).collect(),
    };
    assert_eq!(
        services[0].container.networks,
        [
            network("real", true, &[]),
            network("shop_back", false, &["www"]),
            network("shop_default", false, &[])
        ]
    );
    assert_eq!(
        services[1].container.networks,
        [network("shop_default", false, &[])]
    );
    let volume = |name: &str, external| MountSource::Volume {
        name: name.to_owned(),
        external,
    };
    let content = |name: &str, content: &str, mode| MountSource::Content {
        name: name.to_owned(),
        content: content.as_bytes().to_vec(),
        mode,
    };
    let mounts: Vec<_> = services[0]
        .container
        .mounts
        .iter()
        .map(|m| (m.target.as_str(), m.source.clone(), m.read_only))
        .collect();
    assert_eq!(
        mounts,
        [
            ("/cache", volume("named", false), true),
            ("/data", volume("shop_data", false), false),
            ("/etc/text", content("text", "v=1", 0o400), true),
            ("/ext", volume("ext", true), true),
            ("/host", MountSource::Bind("/srv/host".to_owned()), true),
            ("/plain", content("plain", "hello\n", 0o444), true),
        ]
    );
    assert_eq!(
        services[0].container.tmpfs,
        ["/tmp:size=1024,mode=700", "/run"]
    );
}

#[test]
fn limits_and_the_rest_go_to_the_container() {
    let spec = spec(
        "image: x\nuser: \"1000:1000\"\nworking_dir: /app\nhostname: h\ninit: true\nread_only: yes\ncap_add: [NET_ADMIN]\ncap_drop: [all]
security_opt: [no-new-privileges:true]\nsysctls: {net.core.somaxconn: 1024}\nulimits: {nproc: 5, nofile: {soft: 1, hard: 2}}
extra_hosts: [\"a:10.0.0.1\", \"b=host-gateway\", \"c=::1\"]\ndns: 1.1.1.1\nshm_size: 64m\nmem_limit: 1g\ncpus: 0.5\npids_limit: 10
stop_signal: SIGQUIT\nstop_grace_period: 1m30s\nlogging: {options: {max-size: 10m}}\nlabels: [a=b, c]
deploy: {resources: {limits: {cpus: \"0.5\"}, reservations: {memory: 64m}}}",
    );
    let c = &spec.container;
    assert_eq!(
        (c.user.as_deref(), c.init, c.read_only),
        (Some("1000:1000"), true, true)
    );
    assert_eq!(
        (c.cap_add.as_slice(), c.cap_drop.as_slice()),
        (
            ["NET_ADMIN".to_owned()].as_slice(),
            ["ALL".to_owned()].as_slice()
        )
    );
    assert_eq!((c.ulimits["nproc"], c.ulimits["nofile"]), ((5, 5), (1, 2)));
    let hosts: Vec<String> = c
        .extra_hosts
        .iter()
        .map(|(name, address)| format!("{name} {address}"))
        .collect();
    assert_eq!(hosts, ["a 10.0.0.1", "b host-gateway", "c ::1"]);
    assert_eq!(
        (c.shm_size, c.resources.memory, c.resources.nano_cpus),
        (Some(64 << 20), Some(1 << 30), Some(500_000_000))
    );
    assert_eq!(
        (c.resources.memory_reservation, c.resources.pids),
        (Some(64 << 20), Some(10))
    );
    assert_eq!(
        (c.stop_signal.as_deref(), c.stop_grace),
        (Some("SIGQUIT"), Duration::from_secs(90))
    );
    assert_eq!(c.labels["c"], "");
    assert_eq!(
        c.logging.as_ref().map(|logging| logging.driver.as_str()),
        Some("")
    );
}

#[test]
fn constraints_look_at_labels_and_host_names() {
    let spec = spec(
        "image: x\ndeploy: {placement: {constraints: [node.labels.zone == eu, node.hostname!=db1]}}",
    );
    assert_eq!(spec.placement.len(), 2);
    assert_eq!(
        (&spec.placement[0].subject, spec.placement[0].equal),
        (&Subject::Label("zone".to_owned()), true)
    );
    assert_eq!(
        (&spec.placement[1].subject, spec.placement[1].equal),
        (&Subject::Hostname, false)
    );
    assert_eq!(spec.placement[1].value, "db1");
}

#[test]
fn restart_is_said_in_two_places() {
    for (lines, condition, attempts) in [
        ("restart: always", RestartCondition::Any, None),
        ("restart: unless-stopped", RestartCondition::Any, None),
        ("restart: no", RestartCondition::No, None),
        (
            "restart: on-failure:3",
            RestartCondition::OnFailure,
            Some(3),
        ),
        (
            "restart: \"no\"\ndeploy: {restart_policy: {max_attempts: 2}}",
            RestartCondition::Any,
            Some(2),
        ),
        ("stop_signal: TERM", RestartCondition::No, None),
    ] {
        let restart = spec(&format!("image: x\n{lines}")).restart;
        assert_eq!(
            (restart.condition, restart.max_attempts),
            (condition, attempts),
            "{lines}"
        );
        assert!(
            restart.delay > Duration::ZERO,
            "a container that fails at once would spin"
        );
    }
}

#[test]
fn checks_of_every_kind_are_read() {
    let spec = spec(
        "image: x\nports: [\"80:8080\"]\nx-cutover:\n  ready: {http: /healthz, every: 1s, within: 2m}\n  live: {exec: [check], action: report}\n  smoke: [/a, {path: /b, status: 201, contains: hi}]",
    );
    assert_eq!(
        spec.ready.check,
        Check::Http {
            path: "/healthz".to_owned(),
            port: 8080
        }
    );
    assert_eq!(
        (spec.ready.every, spec.ready.successes, spec.ready.settle),
        (Duration::from_secs(1), 2, Duration::ZERO)
    );
    let live = spec.live.expect("it is there");
    assert_eq!(
        (live.check, live.restart),
        (
            Check::Exec {
                command: vec!["check".to_owned()]
            },
            false
        )
    );
    assert_eq!(
        (spec.smoke[0].status, spec.smoke[1].status),
        (None, Some(201))
    );
}

#[test]
fn the_normal_form_is_stable_and_shows_no_secret() {
    let text = "
name: shop
services:
  worker: {image: \"shop/worker:${TAG}\", depends_on: [web], restart: always}
  web:
    image: \"shop/web:${TAG}\"
    ports: [\"80:8080\"]
    environment: {PASSWORD: \"${PASSWORD}\", B: plain}
    configs: [c]
    logging: {driver: splunk, options: {splunk-token: hunter2}}
    healthcheck: {test: curl -f localhost}
configs: {c: {content: \"key=${PASSWORD}\"}}
";
    let workshop = Workshop::new(&[("compose.yaml", text)])
        .with("TAG", "7")
        .with("PASSWORD", "hunter2");
    let normal = normalized(&workshop.loaded().release);
    assert_eq!(normal, normalized(&workshop.loaded().release));
    assert!(!normal.contains("hunter2"), "{normal}");
    assert_eq!(normal, include_str!("normalized.yaml"), "\n{normal}");
}

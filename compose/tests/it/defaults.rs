//! What holds when nothing is said, and what is said of it.

use std::time::Duration;

use cutover_compose::Severity;
use cutover_core::spec::{Check, CommitRule, OnFailure, Order, Strategy};

use crate::workshop::{Workshop, errors, spec, warnings, web};

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_web_service_rolls_start_first_one_host_at_a_time() {
    let policy = spec("image: x\nports: [\"80:80\"]").policy;
    assert_eq!(
        (policy.strategy, policy.order, policy.commit),
        (Strategy::Rolling, Order::StartFirst, CommitRule::PerWave)
    );
    assert_eq!(
        (policy.wave, policy.failure_budget, policy.on_failure),
        (1, 0, OnFailure::Rollback)
    );
    assert_eq!(
        (policy.drain, policy.observe, policy.delay),
        (secs(30), secs(30), secs(0))
    );
    let spec = spec("image: x");
    assert_eq!(
        (spec.replicas, spec.container.stop_grace, spec.live),
        (1, secs(10), None)
    );
}

#[test]
fn update_config_is_mapped() {
    let deploy = |inner: &str| {
        spec(&format!(
            "image: x\nports: [\"80:80\"]\ndeploy: {{update_config: {{{inner}}}}}"
        ))
        .policy
    };
    let policy = deploy("parallelism: 0, delay: 10s, monitor: 1m, failure_action: pause");
    assert_eq!(
        (policy.wave, policy.delay, policy.observe, policy.on_failure),
        (0, secs(10), secs(60), OnFailure::Hold)
    );
    assert_eq!(deploy("failure_action: continue").failure_budget, u32::MAX);
    assert_eq!(
        deploy("failure_action: rollback, max_failure_ratio: 0").failure_budget,
        0
    );
    assert_eq!(deploy("max_failure_ratio: 1.0").failure_budget, u32::MAX);
    assert_eq!(
        deploy("max_failure_ratio: 0.3").failure_budget,
        0,
        "the stricter"
    );
    let both = "image: x\nports: [\"80:80\"]\nx-cutover: {observe: 5s, drain: 7s}\ndeploy: {update_config: {monitor: 1m}}";
    assert_eq!(
        (spec(both).policy.observe, spec(both).policy.drain),
        (secs(5), secs(7))
    );
    let notes = Workshop::new(&[("compose.yaml", &web(both))]).notes(Severity::Note);
    assert!(
        notes
            .iter()
            .any(|note| note.contains("gives way to 'services.web.x-cutover.observe'")),
        "{notes:?}"
    );
}

#[test]
fn what_must_not_run_twice_is_recreated_and_it_is_said_why() {
    for (lines, reason) in [
        (
            "ports: [\"80:80\"]\nvolumes: [\"/srv:/data\"]",
            "it writes to a directory of the host",
        ),
        (
            "ports: [\"80:80\"]\ncontainer_name: web",
            "its container has a fixed name",
        ),
        ("restart: always", "it is one replica without ports"),
    ] {
        let lines = format!("image: x\n{lines}");
        let policy = spec(&lines).policy;
        assert_eq!(
            (policy.strategy, policy.order),
            (Strategy::Recreate, Order::StopFirst),
            "{lines}"
        );
        let notes = Workshop::new(&[("compose.yaml", &web(&lines))]).notes(Severity::Note);
        assert!(notes.iter().any(|note| note.contains(reason)), "{notes:?}");
    }
    for lines in [
        "ports: [\"80:80\"]\nvolumes: [\"/srv:/data:ro\"]",
        "deploy: {replicas: 2}",
        "ports: [\"80:80\"]\ntmpfs: /run",
    ] {
        assert_eq!(
            spec(&format!("image: x\n{lines}")).policy.strategy,
            Strategy::Rolling,
            "{lines}"
        );
    }
}

#[test]
fn start_first_overrides_and_stop_first_recreates() {
    let order = |order: &str, rest: &str| {
        format!(
            "image: x\nports: [\"80:80\"]\nvolumes: [\"/srv:/data\"]\n{rest}\ndeploy: {{update_config: {{order: {order}}}}}"
        )
    };
    let lines = order("start-first", "");
    assert_eq!(
        (spec(&lines).policy.strategy, spec(&lines).policy.order),
        (Strategy::Rolling, Order::StartFirst)
    );
    assert!(
        warnings(&lines)[0].contains(
            "lets two versions run at once, although it writes to a directory of the host"
        )
    );
    assert_eq!(
        spec(&order("stop-first", "")).policy.strategy,
        Strategy::Recreate
    );
    let blue_green = errors(&order("stop-first", "x-cutover: {strategy: blue-green}"));
    assert_eq!(
        blue_green,
        [
            "compose.yaml:7:30: error: 'services.web.deploy.update_config.order' cannot be had with blue-green, where both \
             versions run until all are ready; write 'order: start-first', or 'x-cutover: {strategy: recreate}'"
        ]
    );
    let policy = spec("image: x\nports: [\"80:80\"]\nx-cutover: {strategy: blue-green}").policy;
    assert_eq!(
        (policy.strategy, policy.commit),
        (Strategy::BlueGreen, CommitRule::AtEnd)
    );
}

#[test]
fn readiness_is_what_is_said_else_the_healthcheck_else_the_port_else_running() {
    let ready = |lines: &str| spec(&format!("image: x\n{lines}")).ready;
    let http = ready("ports: [\"80:81\"]\nhealthcheck: {test: a}\nx-cutover: {ready: {http: /h}}");
    assert_eq!(
        http.check,
        Check::Http {
            path: "/h".to_owned(),
            port: 81
        }
    );
    assert_eq!(
        (http.every, http.timeout, http.within),
        (Duration::from_millis(500), secs(1), secs(60))
    );
    assert_eq!(
        (http.successes, http.failures, http.settle),
        (2, 3, secs(0))
    );

    let docker = ready(
        "ports: [\"80:81\"]\nhealthcheck: {test: a, timeout: 3s, retries: 5, start_period: 40s}",
    );
    assert_eq!(
        (docker.check, docker.every, docker.timeout),
        (Check::Docker, secs(1), secs(3))
    );
    assert_eq!(
        (docker.successes, docker.failures, docker.within),
        (1, 5, secs(100))
    );

    let unsaid = ready("healthcheck: {test: a, timeout: 0s}");
    assert_eq!(unsaid.timeout, secs(30), "to the engine 0 means: not said");

    let tcp = ready("ports: [\"80:81\"]\nhealthcheck: {disable: true}");
    assert_eq!(
        (tcp.check, tcp.successes, tcp.settle),
        (Check::Tcp { port: 81 }, 2, secs(5))
    );

    let running = ready("x-cutover: {ready: {within: 2m}}");
    assert_eq!(
        (running.check, running.settle, running.within),
        (Check::Running, secs(10), secs(120))
    );
}

#[test]
fn a_weak_readiness_is_warned_about() {
    let said = |lines: &str| {
        Workshop::new(&[("compose.yaml", &web(lines))])
            .notes(Severity::Warning)
            .join("\n")
    };
    assert_eq!(
        said("image: x\nrestart: always\nports: [\"80:81\"]"),
        "compose.yaml:2:3: warning: 'services.web' has no health check: a candidate counts as ready when port 81 takes 2 \
         connections and it ran 5s; say 'x-cutover: {ready: {http: /PATH}}', or 'healthcheck'"
    );
    assert!(said("image: x\nrestart: always").contains("when it ran 10s without a restart"));
    assert_eq!(
        said("image: x\nrestart: always\nhealthcheck: {test: a}"),
        ""
    );
}

#[test]
fn a_service_that_others_call_past_the_proxy_is_warned_about() {
    let said = |lines: &str| {
        Workshop::new(&[("compose.yaml", &web(lines))])
            .notes(Severity::Warning)
            .join("\n")
    };
    let checked = "image: x\nrestart: always\nhealthcheck: {test: a}\ndeploy: {replicas: 2}\n";
    assert_eq!(
        said(&format!("{checked}expose: [8080]")),
        "compose.yaml:2:3: warning: 'services.web' is called by other containers by its name, past nginx: they may reach \
         a candidate before it is proved, and its switch can lose requests; publish a port and let them call that, or \
         say 'strategy: recreate'"
    );
    assert_eq!(said(checked), "");
    assert_eq!(
        said(&format!(
            "{checked}expose: [8080]\nx-cutover: {{strategy: recreate}}"
        )),
        ""
    );
    let two = "services:\n  api: {image: x, restart: always, healthcheck: {test: a}, deploy: {replicas: 2}}\n  web: \
               {image: x, restart: always, healthcheck: {test: a}, ports: [\"80:80\"], depends_on: [api]}\n";
    let notes = Workshop::new(&[("compose.yaml", two)]).notes(Severity::Warning);
    assert!(
        notes.len() == 1 && notes[0].contains("'services.api' is called"),
        "{notes:?}"
    );
}

#[test]
fn the_files_settings_are_the_default_and_a_services_key_takes_the_whole_key() {
    let text = "
x-cutover: {strategy: blue-green, drain: 9s, ready: {http: /all, within: 90s}, smoke: [/s]}
services:
  web: {image: x, restart: always, ports: [\"80:80\"]}
  own: {image: x, restart: always, ports: [\"81:80\"], x-cutover: {strategy: rolling, ready: {tcp: 99}}}
  worker: {image: x, restart: always, healthcheck: {test: a}}
";
    let services = Workshop::new(&[("compose.yaml", text)])
        .loaded()
        .release
        .services;
    assert_eq!(
        services[0].ready.check,
        Check::Http {
            path: "/all".to_owned(),
            port: 80
        }
    );
    assert_eq!(
        (services[0].policy.strategy, services[0].smoke.len()),
        (Strategy::BlueGreen, 1)
    );
    assert_eq!(
        (services[1].ready.check.clone(), services[1].ready.within),
        (Check::Tcp { port: 99 }, secs(60))
    );
    assert_eq!(
        (services[1].policy.strategy, services[1].policy.drain),
        (Strategy::Rolling, secs(9))
    );
    assert_eq!(
        (services[2].ready.check.clone(), services[2].smoke.len()),
        (Check::Docker, 0)
    );
    assert_eq!(
        services[2].policy.strategy,
        Strategy::Recreate,
        "blue-green for all is not for a lone worker"
    );
}

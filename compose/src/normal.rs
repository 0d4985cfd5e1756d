//! `plan --normalized`: what was understood of the files, written out.
//!
//! Keeps true: the same release is the same text; every default is spelled
//! out; no value of the environment, of a log driver's option or of a config
//! is in it, as any of them may be a secret.

use std::collections::BTreeMap;

use cutover_core::spec::{
    Check, CommitRule, Constraint, ContainerSpec, Healthcheck, Listener, Liveness, Mount,
    MountSource, Network, OnFailure, Order, Protocol, Readiness, Resources, RestartCondition,
    RestartPolicy, RolloutPolicy, ServiceSpec, SmokeCheck, Strategy, Subject,
};

use crate::canonical::{self, Fields, Value};
use crate::release::Release;
use crate::units::in_words;

/// What stands for a value that is not shown.
const HIDDEN: &str = "(not shown)";

/// The release as canonical YAML, free of secrets.
#[must_use]
pub fn normalized(release: &Release) -> String {
    let services = release.services.iter().map(|spec| {
        let after = release.depends_on.get(&spec.service).into_iter().flatten();
        (spec.service.to_string(), service(spec, Value::texts(after)))
    });
    canonical::write(
        &Fields::default()
            .with("name", Value::text(&release.app))
            .with("services", Value::Map(services.collect()))
            .done(),
    )
}

fn service(spec: &ServiceSpec, after: Value) -> Value {
    container(&spec.container)
        .some("depends_on", after)
        .with("replicas", Value::bare(spec.replicas))
        .some(
            "constraints",
            Value::texts(spec.placement.iter().map(constraint)),
        )
        .with("restart", restart(&spec.restart))
        .some(
            "traffic",
            Value::List(spec.traffic.iter().map(listener).collect()),
        )
        .with("ready", readiness(&spec.ready))
        .maybe("live", spec.live.as_ref().map(liveness))
        .some("smoke", Value::List(spec.smoke.iter().map(smoke).collect()))
        .with("rollout", policy(&spec.policy))
        .done()
}

fn container(spec: &ContainerSpec) -> Fields {
    let text = |text: &Option<String>| text.as_ref().map(Value::text);
    let words = |words: &Option<Vec<String>>| words.as_ref().map(Value::texts);
    let flag = |flag: bool| flag.then(|| Value::bare(true));
    Fields::default()
        .with("image", Value::text(&spec.image))
        .maybe(
            "resolved_image",
            Some(&spec.resolved_image)
                .filter(|image| !image.is_empty())
                .map(Value::text),
        )
        .maybe("entrypoint", words(&spec.entrypoint))
        .maybe("command", words(&spec.command))
        .some("environment", hidden(&spec.environment))
        .some("labels", shown(&spec.labels))
        .some(
            "expose",
            Value::List(spec.expose.iter().map(Value::bare).collect()),
        )
        .some(
            "networks",
            Value::List(spec.networks.iter().map(network).collect()),
        )
        .some(
            "mounts",
            Value::List(spec.mounts.iter().map(mount).collect()),
        )
        .some("tmpfs", Value::texts(&spec.tmpfs))
        .maybe("user", text(&spec.user))
        .maybe("working_dir", text(&spec.working_dir))
        .maybe("hostname", text(&spec.hostname))
        .maybe("container_name", text(&spec.container_name))
        .maybe("init", flag(spec.init))
        .maybe("read_only", flag(spec.read_only))
        .some("cap_add", Value::texts(&spec.cap_add))
        .some("cap_drop", Value::texts(&spec.cap_drop))
        .some("security_opt", Value::texts(&spec.security_opt))
        .some("sysctls", shown(&spec.sysctls))
        .some(
            "ulimits",
            Value::Map(
                spec.ulimits
                    .iter()
                    .map(|(name, limits)| (name.clone(), pair(*limits)))
                    .collect(),
            ),
        )
        .some(
            "extra_hosts",
            Value::texts(
                spec.extra_hosts
                    .iter()
                    .map(|(name, address)| format!("{name}={address}")),
            ),
        )
        .some("dns", Value::texts(&spec.dns))
        .maybe("shm_size", spec.shm_size.map(Value::bare))
        .some("resources", resources(&spec.resources))
        .maybe(
            "logging",
            spec.logging.as_ref().map(|logging| {
                let driver = Some(&logging.driver)
                    .filter(|driver| !driver.is_empty())
                    .map(Value::text);
                Fields::default()
                    .maybe("driver", driver)
                    .some("options", hidden(&logging.options))
                    .done()
            }),
        )
        .maybe("stop_signal", text(&spec.stop_signal))
        .with("stop_grace_period", Value::bare(in_words(spec.stop_grace)))
        .maybe("healthcheck", spec.healthcheck.as_ref().map(healthcheck))
}

fn shown(pairs: &BTreeMap<String, String>) -> Value {
    Value::Map(
        pairs
            .iter()
            .map(|(name, value)| (name.clone(), Value::text(value)))
            .collect(),
    )
}

fn hidden(pairs: &BTreeMap<String, String>) -> Value {
    Value::Map(
        pairs
            .keys()
            .map(|name| (name.clone(), Value::bare(HIDDEN)))
            .collect(),
    )
}

fn pair((soft, hard): (i64, i64)) -> Value {
    Fields::default()
        .with("soft", Value::bare(soft))
        .with("hard", Value::bare(hard))
        .done()
}

fn network(network: &Network) -> Value {
    Fields::default()
        .with("name", Value::text(&network.name))
        .maybe("external", network.external.then(|| Value::bare(true)))
        .some("aliases", Value::texts(&network.aliases))
        .done()
}

fn mount(mount: &Mount) -> Value {
    let fields = match &mount.source {
        MountSource::Volume { name, external } => Fields::default()
            .with("volume", Value::text(name))
            .maybe("external", external.then(|| Value::bare(true))),
        MountSource::Bind(path) => Fields::default().with("bind", Value::text(path)),
        MountSource::Content { name, mode, .. } => Fields::default()
            .with("config", Value::text(name))
            .with("content", Value::bare(HIDDEN))
            .with("mode", Value::text(format!("{mode:04o}"))),
    };
    fields
        .with("target", Value::text(&mount.target))
        .maybe("read_only", mount.read_only.then(|| Value::bare(true)))
        .done()
}

fn resources(resources: &Resources) -> Value {
    let number = |number: Option<i64>| number.map(Value::bare);
    Fields::default()
        .maybe("nano_cpus", number(resources.nano_cpus))
        .maybe("memory", number(resources.memory))
        .maybe("memory_reservation", number(resources.memory_reservation))
        .maybe("pids", number(resources.pids))
        .done()
}

fn healthcheck(check: &Healthcheck) -> Value {
    Fields::default()
        .with("test", Value::texts(&check.test))
        .with("interval", Value::bare(in_words(check.interval)))
        .with("timeout", Value::bare(in_words(check.timeout)))
        .with("retries", Value::bare(check.retries))
        .with("start_period", Value::bare(in_words(check.start_period)))
        .done()
}

fn listener(listener: &Listener) -> Value {
    Fields::default()
        .maybe("address", listener.address.map(Value::text))
        .with("listen", Value::bare(listener.listen))
        .maybe("host", listener.host.as_ref().map(Value::text))
        .with("path", Value::text(&listener.path))
        .with("port", Value::bare(listener.port))
        .with(
            "protocol",
            Value::bare(match listener.protocol {
                Protocol::Http => "http",
                Protocol::Grpc => "grpc",
                Protocol::Tcp => "tcp",
            }),
        )
        .done()
}

fn constraint(constraint: &Constraint) -> String {
    let subject = match &constraint.subject {
        Subject::Hostname => "node.hostname".to_owned(),
        Subject::Label(key) => format!("node.labels.{key}"),
    };
    format!(
        "{subject} {} {}",
        if constraint.equal { "==" } else { "!=" },
        constraint.value
    )
}

fn check(check: &Check) -> Fields {
    let fields = Fields::default();
    match check {
        Check::Http { path, port } => fields
            .with("http", Value::text(path))
            .with("port", Value::bare(port)),
        Check::Tcp { port } => fields.with("tcp", Value::bare(port)),
        Check::Exec { command } => fields.with("exec", Value::texts(command)),
        Check::Docker => fields.with("check", Value::bare("healthcheck")),
        Check::Running => fields.with("check", Value::bare("running")),
    }
}

fn readiness(ready: &Readiness) -> Value {
    check(&ready.check)
        .with("every", Value::bare(in_words(ready.every)))
        .with("timeout", Value::bare(in_words(ready.timeout)))
        .with("successes", Value::bare(ready.successes))
        .with("failures", Value::bare(ready.failures))
        .with("within", Value::bare(in_words(ready.within)))
        .with("settle", Value::bare(in_words(ready.settle)))
        .done()
}

fn liveness(live: &Liveness) -> Value {
    check(&live.check)
        .with("every", Value::bare(in_words(live.every)))
        .with("timeout", Value::bare(in_words(live.timeout)))
        .with("failures", Value::bare(live.failures))
        .with(
            "action",
            Value::bare(if live.restart { "restart" } else { "report" }),
        )
        .done()
}

fn smoke(smoke: &SmokeCheck) -> Value {
    Fields::default()
        .with("path", Value::text(&smoke.path))
        .maybe("status", smoke.status.map(Value::bare))
        .maybe("contains", smoke.contains.as_ref().map(Value::text))
        .done()
}

fn restart(restart: &RestartPolicy) -> Value {
    let condition = match restart.condition {
        RestartCondition::No => "none",
        RestartCondition::OnFailure => "on-failure",
        RestartCondition::Any => "any",
    };
    Fields::default()
        .with("condition", Value::bare(condition))
        .with("delay", Value::bare(in_words(restart.delay)))
        .maybe("max_attempts", restart.max_attempts.map(Value::bare))
        .with("window", Value::bare(in_words(restart.window)))
        .done()
}

fn policy(policy: &RolloutPolicy) -> Value {
    let all = |number: u32| {
        if number == u32::MAX {
            Value::bare("all")
        } else {
            Value::bare(number)
        }
    };
    let strategy = match policy.strategy {
        Strategy::Rolling => "rolling",
        Strategy::BlueGreen => "blue-green",
        Strategy::Recreate => "recreate",
    };
    let order = match policy.order {
        Order::StartFirst => "start-first",
        Order::StopFirst => "stop-first",
    };
    let on_failure = match policy.on_failure {
        OnFailure::Rollback => "rollback",
        OnFailure::Hold => "hold",
    };
    let commit = match policy.commit {
        CommitRule::PerWave => "per-wave",
        CommitRule::AtEnd => "at-end",
    };
    Fields::default()
        .with("strategy", Value::bare(strategy))
        .with("order", Value::bare(order))
        .with(
            "wave",
            if policy.wave == 0 {
                Value::bare("all")
            } else {
                all(policy.wave)
            },
        )
        .with("delay", Value::bare(in_words(policy.delay)))
        .with("failure_budget", all(policy.failure_budget))
        .with("on_failure", Value::bare(on_failure))
        .with("observe", Value::bare(in_words(policy.observe)))
        .with("drain", Value::bare(in_words(policy.drain)))
        .with("commit", Value::bare(commit))
        .done()
}

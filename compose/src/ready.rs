//! How a candidate shows that it is ready, how a replica is watched, and what
//! it must answer: `x-cutover.ready`, `live`, `smoke`, and what is done without.
//!
//! Readiness is what is said in `x-cutover`; else the file's `healthcheck`;
//! else a TCP connection to its port; else that it runs. The last two are
//! weak, and said to be.

use std::time::Duration;

use cutover_core::spec::{Check, Healthcheck, Liveness, Protocol, Readiness, SmokeCheck};

use crate::container;
use crate::health;
use crate::reader::{Field, Fields};
use crate::settings::Settings;
use crate::traffic::Ports;

const EVERY: Duration = Duration::from_millis(500);
/// Docker's check may be dear: not more often than this.
const EVERY_DOCKER: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(1);
const SUCCESSES: u32 = 2;
const FAILURES: u32 = 3;
const WITHIN: Duration = Duration::from_secs(60);
const SETTLE_TCP: Duration = Duration::from_secs(5);
const SETTLE_RUNNING: Duration = Duration::from_secs(10);
const EVERY_LIVE: Duration = Duration::from_secs(10);
/// Between two samples, at least: a check is no load test.
const LEAST_EVERY: Duration = Duration::from_millis(50);
/// Most samples that a proof or a verdict can ask for.
const MAX_SAMPLES: u32 = 1000;

pub(crate) fn readiness(
    service: &Fields<'_>,
    settings: &Settings<'_>,
    ports: &Ports,
    healthcheck: Option<&Healthcheck>,
) -> Readiness {
    let setting = settings.take("ready");
    let fields = setting.as_ref().and_then(|setting| setting.field.fields());
    let own = setting.as_ref().is_some_and(|setting| setting.own);
    let explicit = fields.as_ref().and_then(|fields| check(fields, ports, own));
    let docker = healthcheck.filter(|healthcheck| health::checks(healthcheck));
    let mut ready = Readiness {
        check: Check::Running,
        every: EVERY,
        timeout: TIMEOUT,
        successes: SUCCESSES,
        failures: FAILURES,
        within: WITHIN,
        settle: Duration::ZERO,
    };
    let said = explicit.is_some();
    match (explicit, docker, ports.first()) {
        (Some(check), _, _) => ready.check = check,
        (None, Some(docker), _) => {
            ready = Readiness {
                check: Check::Docker,
                every: EVERY_DOCKER,
                timeout: docker.timeout,
                successes: 1,
                failures: docker.retries,
                within: WITHIN + docker.start_period,
                ..ready
            };
        }
        (None, None, Some(port)) => {
            ready = Readiness {
                check: Check::Tcp { port },
                settle: SETTLE_TCP,
                ..ready
            }
        }
        (None, None, None) => {
            ready = Readiness {
                settle: SETTLE_RUNNING,
                ..ready
            }
        }
    }
    if let Some(fields) = &fields {
        let time = |name: &str, default: Duration| {
            fields
                .take(name)
                .and_then(|field| field.wait())
                .unwrap_or(default)
        };
        let number = |name: &str, default: u32| {
            fields
                .take(name)
                .and_then(|field| field.count(1, MAX_SAMPLES))
                .unwrap_or(default)
        };
        ready = Readiness {
            every: time("every", ready.every),
            timeout: time("timeout", ready.timeout),
            successes: number("successes", ready.successes),
            failures: number("failures", ready.failures),
            within: time("within", ready.within),
            settle: time("settle", ready.settle),
            check: ready.check,
        };
        pace(&fields.of, ready.every, ready.timeout);
        let proof = ready
            .every
            .saturating_mul(ready.successes - 1)
            .max(ready.settle);
        if proof >= ready.within {
            fields.of.error(
                format!(
                    "can never be proved: 'within' is {}",
                    crate::units::in_words(ready.within)
                ),
                "make 'within' longer than 'settle', and than 'every' times 'successes'",
            );
        }
        fields.finish(&[]);
    }
    if !said {
        weak(service, &ready);
    }
    ready
}

/// Says aloud that nothing much is asked.
fn weak(service: &Fields<'_>, ready: &Readiness) {
    let what = match &ready.check {
        Check::Tcp { port } => format!(
            "has no health check: a candidate counts as ready when port {port} takes {} connections and it ran {}",
            ready.successes,
            crate::units::in_words(ready.settle)
        ),
        Check::Running => format!(
            "has no health check and no port: a candidate counts as ready when it ran {} without a restart",
            crate::units::in_words(ready.settle)
        ),
        Check::Http { .. } | Check::Exec { .. } | Check::Docker => return,
    };
    let advice = match &ready.check {
        Check::Tcp { .. } => "say 'x-cutover: {ready: {http: /PATH}}', or 'healthcheck'",
        Check::Running | Check::Http { .. } | Check::Exec { .. } | Check::Docker => {
            "say 'healthcheck', or 'x-cutover: {ready: {exec: [COMMAND]}}'"
        }
    };
    service.of.warn(what, advice);
}

/// The check that is written, if one is.
fn check(fields: &Fields<'_>, ports: &Ports, own: bool) -> Option<Check> {
    let port = fields.take("port");
    let (http, tcp, exec) = (fields.take("http"), fields.take("tcp"), fields.take("exec"));
    match (http, tcp, exec) {
        (None, None, None) => {
            if let Some(port) = port {
                port.error(
                    "is the port of no check",
                    "add 'http: /PATH', or write 'tcp: PORT'",
                );
            }
            None
        }
        (Some(http), None, None) => {
            let path = path(&http)?;
            let known = ports
                .listeners
                .iter()
                .find(|l| l.protocol == Protocol::Http)
                .map(|l| l.port);
            let port = match port {
                Some(port) => Some(port.port()?),
                None => known.or(ports.first()),
            };
            if port.is_none() && own {
                http.error("has no port to ask", "add 'port: PORT'");
            }
            Some(Check::Http { path, port: port? })
        }
        (None, Some(tcp), None) => {
            if let Some(port) = port {
                port.error("is one port too many", "write 'tcp: PORT' alone");
            }
            Some(Check::Tcp { port: tcp.port()? })
        }
        (None, None, Some(exec)) => {
            if let Some(port) = port {
                port.error("means nothing to a command", "remove it");
            }
            let command = if exec.node.scalar().is_some() {
                vec![
                    "/bin/sh".to_owned(),
                    "-c".to_owned(),
                    exec.word()?.to_owned(),
                ]
            } else {
                exec.texts()
            };
            if command.is_empty() {
                exec.error("is empty", "");
                return None;
            }
            Some(Check::Exec { command })
        }
        _ => {
            fields.of.error(
                "has more than one check",
                "choose one of http, tcp and exec",
            );
            None
        }
    }
}

pub(crate) fn liveness(
    settings: &Settings<'_>,
    ports: &Ports,
    ready: &Readiness,
) -> Option<Liveness> {
    let setting = settings.take("live")?;
    let fields = setting.field.fields()?;
    let written = check(&fields, ports, setting.own);
    let time = |name: &str, default: Duration| {
        fields
            .take(name)
            .map_or(Some(default), |field| field.wait())
    };
    let every = time("every", EVERY_LIVE);
    let timeout = time("timeout", TIMEOUT);
    let failures = fields
        .take("failures")
        .map_or(Some(FAILURES), |field| field.count(1, MAX_SAMPLES));
    let restart = fields.take("action").map_or(Some(true), |field| {
        field.choice(&[("restart", true), ("report", false)])
    });
    fields.finish(&[]);
    let check = written.unwrap_or_else(|| ready.check.clone());
    if check == Check::Running {
        if setting.own {
            setting.field.error(
                "has nothing to ask",
                "add 'http: /PATH', 'tcp: PORT' or 'exec: [COMMAND]'",
            );
        }
        return None;
    }
    pace(&setting.field, every?, timeout?);
    Some(Liveness {
        check,
        every: every?,
        timeout: timeout?,
        failures: failures?,
        restart: restart?,
    })
}

pub(crate) fn smoke(settings: &Settings<'_>, ports: &Ports) -> Vec<SmokeCheck> {
    let Some(setting) = settings.take("smoke") else {
        return Vec::new();
    };
    if !ports
        .listeners
        .iter()
        .any(|listener| listener.protocol == Protocol::Http)
    {
        if setting.own {
            setting.field.error(
                "needs a port that nginx listens on for HTTP",
                "publish one under 'ports'",
            );
        }
        return Vec::new();
    }
    setting.field.items().iter().filter_map(one_smoke).collect()
}

fn one_smoke(item: &Field<'_>) -> Option<SmokeCheck> {
    if item.node.scalar().is_some() {
        return Some(SmokeCheck {
            path: path(item)?,
            status: None,
            contains: None,
        });
    }
    let fields = item.fields()?;
    let path = fields.must("path").and_then(|field| path(&field));
    let status = fields
        .take("status")
        .and_then(|field| field.count(100, 599));
    let contains = fields
        .take("contains")
        .and_then(|field| field.word().map(str::to_owned));
    fields.finish(&[]);
    let status = status.and_then(|status| u16::try_from(status).ok());
    Some(SmokeCheck {
        path: path?,
        status,
        contains,
    })
}

/// A path with query, as it goes into a request.
fn path(field: &Field<'_>) -> Option<String> {
    let text = field.word()?;
    if text.starts_with('/')
        && text.chars().all(|c| c.is_ascii_graphic())
        && text.len() <= container::MAX_TEXT
    {
        return Some(text.to_owned());
    }
    field.error(
        format!("is {}, but must be a path", field.shown()),
        "begin it with '/', without spaces",
    );
    None
}

fn pace(field: &Field<'_>, every: Duration, timeout: Duration) {
    if every < LEAST_EVERY || timeout.is_zero() {
        field.error(
            "asks too often, or gives no time to answer",
            "let 'every' be 50ms or more, 'timeout' above 0",
        );
    }
}

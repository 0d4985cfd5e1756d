//! How a rollout of a service goes: strategy, order, waves, budget; where it
//! runs; what happens to a container that stops by itself.
//!
//! Keeps true: what must stop before its successor starts is a recreate, and
//! nothing else is; what Cutover chose by itself is said in a note. `x-cutover`
//! wins over `deploy.update_config`, said aloud.

use std::time::Duration;

use cutover_core::spec::{
    CommitRule, Constraint, OnFailure, Order, RestartCondition, RestartPolicy, RolloutPolicy,
    Strategy, Subject,
};

use crate::fields;
use crate::reader::{Field, Fields};
use crate::settings::Settings;
use crate::units;

const DRAIN: Duration = Duration::from_secs(30);
const OBSERVE: Duration = Duration::from_secs(30);
const WAVE: u32 = 1;
/// A budget or wave that no fleet exceeds.
const ALL: u32 = u32::MAX;
/// Docker's own first delay; without one a container that fails at once would spin.
const RESTART_DELAY: Duration = Duration::from_millis(100);
/// Docker's own: after it ran so long, it has recovered.
const RESTART_WINDOW: Duration = Duration::from_secs(10);

/// What of a service speaks for recreate.
pub(crate) struct Nature {
    /// Something writable that outlives the container, in words.
    pub(crate) writable: Option<&'static str>,
    /// A fixed container name.
    pub(crate) fixed_name: bool,
    /// One replica, nothing listens for it.
    pub(crate) lone_worker: bool,
}

impl Nature {
    /// Why two of it should not run at once.
    fn reason(&self) -> Option<String> {
        if let Some(writable) = self.writable {
            return Some(format!("it writes to {writable}"));
        }
        if self.fixed_name {
            return Some("its container has a fixed name".to_owned());
        }
        self.lone_worker
            .then(|| "it is one replica without ports".to_owned())
    }
}

pub(crate) fn rollout(
    service: &Fields<'_>,
    deploy: Option<&Fields<'_>>,
    settings: &Settings<'_>,
    nature: &Nature,
) -> RolloutPolicy {
    let update = deploy
        .and_then(|deploy| deploy.take("update_config"))
        .and_then(|field| field.fields());
    let field = |name: &str| update.as_ref().and_then(|update| update.take(name));
    let wave = field("parallelism")
        .and_then(|field| field.count(0, ALL))
        .unwrap_or(WAVE);
    let delay = field("delay")
        .and_then(|field| field.wait())
        .unwrap_or_default();
    let order = field("order");
    let action = field("failure_action").and_then(|field| {
        field.choice(&[
            ("rollback", (OnFailure::Rollback, 0)),
            ("pause", (OnFailure::Hold, 0)),
            ("continue", (OnFailure::Rollback, ALL)),
        ])
    });
    let monitor = field("monitor");
    let ratio = field("max_failure_ratio");
    if let Some(update) = &update {
        update.finish(&[]);
    }
    let (on_failure, budget) = action.unwrap_or((OnFailure::Rollback, 0));
    let budget = ratio.map_or(budget, |field| budget.max(self::budget(&field)));
    let observe = match (settings.take("observe"), monitor) {
        (Some(setting), Some(monitor)) => {
            monitor.note(format!("gives way to '{}'", setting.field.path), "");
            setting.field.wait()
        }
        (None, Some(monitor)) => monitor.wait(),
        (Some(setting), None) => setting.field.wait(),
        (None, None) => None,
    };
    let drain = settings
        .take("drain")
        .and_then(|setting| setting.field.wait());
    let (strategy, order) = strategy(service, settings, order, nature);
    RolloutPolicy {
        strategy,
        order,
        wave,
        delay,
        failure_budget: budget,
        on_failure,
        observe: observe.unwrap_or(OBSERVE),
        drain: drain.unwrap_or(DRAIN),
        commit: match strategy {
            Strategy::BlueGreen => CommitRule::AtEnd,
            Strategy::Rolling | Strategy::Recreate => CommitRule::PerWave,
        },
    }
}

fn strategy(
    service: &Fields<'_>,
    settings: &Settings<'_>,
    order: Option<Field<'_>>,
    nature: &Nature,
) -> (Strategy, Order) {
    let setting = settings.take("strategy");
    let choices = [
        ("rolling", Some(Strategy::Rolling)),
        ("blue-green", Some(Strategy::BlueGreen)),
        ("recreate", Some(Strategy::Recreate)),
        ("canary", None),
    ];
    let wanted = setting.as_ref().and_then(|setting| {
        let choice = setting.field.choice(&choices)?;
        if choice.is_none() {
            setting.field.error(
                "cannot be honoured: not supported yet: canary",
                "use rolling or blue-green",
            );
        }
        choice
    });
    let order = order.and_then(|field| {
        let value = field.choice(&[
            ("start-first", Order::StartFirst),
            ("stop-first", Order::StopFirst),
        ])?;
        Some((field, value))
    });
    let own = setting.as_ref().is_some_and(|setting| setting.own);
    match (wanted, order) {
        (Some(Strategy::Recreate), Some((field, Order::StartFirst))) => {
            field.warn(
                "gives way to 'x-cutover.strategy: recreate', which stops first",
                "remove one of them",
            );
            (Strategy::Recreate, Order::StopFirst)
        }
        (Some(Strategy::Recreate), _) => (Strategy::Recreate, Order::StopFirst),
        (Some(Strategy::BlueGreen), Some((field, Order::StopFirst))) => {
            field.error(
                "cannot be had with blue-green, where both versions run until all are ready",
                "write 'order: start-first', or 'x-cutover: {strategy: recreate}'",
            );
            (Strategy::BlueGreen, Order::StartFirst)
        }
        (_, Some((field, Order::StopFirst))) => {
            field.note(
                "makes this a recreate: the service is away while its new version starts",
                "",
            );
            (Strategy::Recreate, Order::StopFirst)
        }
        (wanted, Some((field, Order::StartFirst))) => {
            overlap(&field, nature);
            (wanted.unwrap_or(Strategy::Rolling), Order::StartFirst)
        }
        (Some(wanted), None) if own || nature.reason().is_none() => {
            if let Some(setting) = &setting {
                overlap(&setting.field, nature);
            }
            (wanted, Order::StartFirst)
        }
        (wanted, None) => match nature.reason() {
            Some(reason) => {
                service.of.note(
                    format!("is recreated, not switched, because {reason}: it is away while its new version starts"),
                    "'deploy: {update_config: {order: start-first}}' lets both run at once",
                );
                (Strategy::Recreate, Order::StopFirst)
            }
            None => {
                service.of.note("starts its new version before the old one stops; Compose's own order is stop-first", "");
                (wanted.unwrap_or(Strategy::Rolling), Order::StartFirst)
            }
        },
    }
}

/// Says what two versions at once mean for what should run once.
fn overlap(field: &Field<'_>, nature: &Nature) {
    if let Some(reason) = nature.reason() {
        field.warn(
            format!("lets two versions run at once, although {reason}"),
            "be sure that it can bear that",
        );
    }
}

/// `max_failure_ratio`: the number of hosts is not known here, so between none
/// and all only the stricter can be promised.
fn budget(field: &Field<'_>) -> u32 {
    match field.text().map(units::millionths) {
        Some(Some(0)) => 0,
        Some(Some(1_000_000)) => ALL,
        Some(Some(ratio)) if ratio < 1_000_000 => {
            field.warn(
                "is not acted on: not supported yet: a share of the hosts; none may fail, which is stricter",
                "write 0, or 'failure_action: continue' for all",
            );
            0
        }
        Some(_) => {
            field.error(
                format!("is {}, but must be a number from 0 to 1", field.shown()),
                "",
            );
            0
        }
        None => 0,
    }
}

/// `deploy.placement`: all constraints must hold.
pub(crate) fn placement(deploy: Option<&Fields<'_>>) -> Vec<Constraint> {
    let Some(fields) = deploy
        .and_then(|deploy| deploy.take("placement"))
        .and_then(|field| field.fields())
    else {
        return Vec::new();
    };
    let constraints = fields.take("constraints");
    fields.finish(fields::PLACEMENT);
    constraints
        .iter()
        .flat_map(Field::items)
        .filter_map(|field| constraint(&field))
        .collect()
}

fn constraint(field: &Field<'_>) -> Option<Constraint> {
    let text = field.text()?;
    let parts = text.split_once("==").map(|parts| (parts, true));
    let parts = parts.or_else(|| text.split_once("!=").map(|parts| (parts, false)));
    let subject = |name: &str| match name {
        "node.hostname" => Some(Subject::Hostname),
        _ => name
            .strip_prefix("node.labels.")
            .filter(|key| !key.is_empty())
            .map(|key| Subject::Label(key.to_owned())),
    };
    let constraint = parts.and_then(|((name, value), equal)| {
        let value = value.trim().to_owned();
        let good = !value.contains(['=', '!']) && !value.chars().any(char::is_whitespace);
        subject(name.trim())
            .filter(|_| good)
            .map(|subject| Constraint {
                subject,
                equal,
                value,
            })
    });
    if constraint.is_none() {
        field.error(
            format!("is {}, which Cutover cannot check", field.shown()),
            "write 'node.labels.KEY == VALUE' or 'node.hostname != NAME'",
        );
    }
    constraint
}

/// `deploy.restart_policy`, else `restart`, else never (as Compose has it).
pub(crate) fn restart(service: &Fields<'_>, deploy: Option<&Fields<'_>>) -> RestartPolicy {
    let mut policy = RestartPolicy {
        condition: RestartCondition::No,
        delay: RESTART_DELAY,
        max_attempts: None,
        window: RESTART_WINDOW,
    };
    let old = service.take("restart");
    let new = deploy.and_then(|deploy| deploy.take("restart_policy"));
    if let (Some(old), Some(_)) = (&old, &new) {
        old.note("gives way to 'deploy.restart_policy'", "");
    }
    match (old, new) {
        (_, Some(new)) => {
            let Some(fields) = new.fields() else { return policy };
            let choices =
                [("any", RestartCondition::Any), ("on-failure", RestartCondition::OnFailure), ("none", RestartCondition::No)];
            let condition = fields.take("condition").and_then(|field| field.choice(&choices));
            policy.condition = condition.unwrap_or(RestartCondition::Any);
            policy.max_attempts = fields.take("max_attempts").and_then(|field| field.count(0, ALL));
            let delay = fields.take("delay").and_then(|field| field.wait());
            policy.delay = delay.unwrap_or(RESTART_DELAY).max(RESTART_DELAY);
            policy.window = fields.take("window").and_then(|field| field.wait()).unwrap_or(RESTART_WINDOW);
            fields.finish(&[]);
        }
        (Some(field), None) => {
            let Some(text) = field.text() else { return policy };
            match text.split_once(':').unwrap_or((text, "")) {
                ("no" | "false", "") => {}
                ("always" | "unless-stopped", "") => policy.condition = RestartCondition::Any,
                ("on-failure", attempts) if attempts.is_empty() || attempts.parse::<u32>().is_ok() => {
                    policy.condition = RestartCondition::OnFailure;
                    policy.max_attempts = attempts.parse().ok().filter(|attempts| *attempts > 0);
                }
                _ => field.error(
                    format!("is {}, which is no restart policy", field.shown()),
                    "there are no, always, unless-stopped, on-failure and on-failure:ATTEMPTS",
                ),
            }
        }
        (None, None) => service.of.warn(
            "has no restart policy: a container that stops by itself stays stopped, as Compose has it",
            "write 'restart: unless-stopped', or 'restart: \"no\"' if that is meant",
        ),
    }
    policy
}

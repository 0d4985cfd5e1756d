//! What happened in a rollout, in sentences for people.

use cutover_core::rollout::{Fact, Outcome};
use cutover_core::swap::Target;
use cutover_proto::v1;

use super::live::Live;

/// The host that a fact is about (empty: none), and the sentence.
pub(super) fn of_fact(fact: &Fact, live: &Live) -> (String, String) {
    let to = live.record.to_revision;
    let from = live.record.from_revision;
    let name = live.service.service.as_str();
    let candidate = revision(name, to);
    let incumbent = revision(name, from);
    let sides = |counter: bool| {
        if counter {
            (&incumbent, &candidate)
        } else {
            (&candidate, &incumbent)
        }
    };
    match fact {
        Fact::WaveBegan { wave } => (String::new(), format!("wave {} began", wave + 1)),
        Fact::Ordered {
            host,
            target,
            counter,
            ..
        } => {
            let (new, old) = sides(*counter);
            let text = match target {
                Target::Prepared => format!("shall prepare {new}"),
                Target::Serving(_) if *counter => format!("shall go back to {new}"),
                Target::Serving(_) => format!("shall serve {new}"),
                Target::Committed => format!("shall commit {new}"),
                Target::Reverted => format!("shall go back to {old}"),
            };
            (host.to_string(), text)
        }
        Fact::Reached { host, target } => {
            let counter = live.machine.as_ref().is_some_and(|machine| {
                let view = machine.view();
                let seat = view.hosts.iter().find(|seat| seat.host == *host);
                seat.is_some_and(|seat| {
                    matches!(
                        seat.fate,
                        cutover_core::rollout::Fate::Back | cutover_core::rollout::Fate::Stuck
                    ) && *target == Target::Committed
                })
            });
            let (new, old) = sides(counter);
            let text = match target {
                Target::Prepared => format!("prepared {new}"),
                Target::Serving(_) => format!("serving {new}"),
                Target::Committed => format!("committed {new}"),
                Target::Reverted => format!("back on {old}"),
            };
            (host.to_string(), text)
        }
        Fact::WasThere { host } => {
            let (new, _) = sides(false);
            (host.to_string(), format!("ran {new} already"))
        }
        Fact::Fell { host, why } => (host.to_string(), why.clone()),
        Fact::BarrierPassed => (
            String::new(),
            "every host is prepared: all may serve".to_owned(),
        ),
        Fact::CommitDecided { hosts } => {
            let hosts: Vec<&str> = hosts.iter().map(|host| host.as_str()).collect();
            (
                String::new(),
                format!("commit decided for {}", hosts.join(", ")),
            )
        }
        Fact::WaveEnded { wave } => (String::new(), format!("wave {} ended", wave + 1)),
        Fact::Paused => (String::new(), "paused".to_owned()),
        Fact::Resumed => (String::new(), "resumed".to_owned()),
        Fact::Held { why } => (String::new(), format!("held: {why}")),
        Fact::RollbackDecided { why, .. } => {
            (String::new(), format!("every host goes back: {why}"))
        }
        Fact::Closed(outcome) => (String::new(), outcome_text(*outcome).to_owned()),
        Fact::Superseded => (
            String::new(),
            "a newer rollout speaks for its hosts".to_owned(),
        ),
        Fact::Rebooted => (String::new(), "the coordinator's machine booted".to_owned()),
    }
}

fn revision(name: &str, number: u64) -> String {
    if number == 0 {
        "nothing".to_owned()
    } else {
        format!("{name}@{number}")
    }
}

fn outcome_text(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Committed => "committed on every host",
        Outcome::RolledBack => "rolled back: every host is back",
        Outcome::Aborted => "aborted: every host is back",
        Outcome::Mixed => "ended mixed: some hosts are left behind, owing or stuck",
    }
}

/// As it stands in a rollout's timeline.
pub(super) fn entry(fact: &v1::RolloutFact) -> v1::TimelineEntry {
    v1::TimelineEntry {
        unix_millis: fact.unix_millis,
        host: fact.host.clone(),
        text: fact.text.clone(),
    }
}

/// Worth a line among all that happens; the rest stands in the rollout's own timeline.
pub(super) fn is_news(fact: &Fact) -> bool {
    !matches!(
        fact,
        Fact::Ordered { .. } | Fact::WaveEnded { .. } | Fact::Superseded | Fact::Rebooted
    )
}

/// Who must act on it.
pub(super) fn level(fact: &Fact) -> &'static str {
    match fact {
        Fact::Fell { .. } | Fact::RollbackDecided { .. } => "warn",
        Fact::Held { .. } | Fact::Closed(Outcome::Mixed) => "error",
        Fact::WaveBegan { .. }
        | Fact::Ordered { .. }
        | Fact::Reached { .. }
        | Fact::WasThere { .. }
        | Fact::BarrierPassed
        | Fact::CommitDecided { .. }
        | Fact::WaveEnded { .. }
        | Fact::Paused
        | Fact::Resumed
        | Fact::Closed(Outcome::Committed | Outcome::RolledBack | Outcome::Aborted)
        | Fact::Superseded
        | Fact::Rebooted => "info",
    }
}

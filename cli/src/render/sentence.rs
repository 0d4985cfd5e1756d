//! At the end one sentence that says what is so now.

use std::collections::BTreeMap;

use cutover_proto::v1::{HostProgress, Outcome, RolloutView, ServiceDecision};
use jiff::Timestamp;

use super::words::{between, hosts, length, list, number, revision};

/// Lines of a dead candidate's log that are shown; `rollout show` and `logs` have more.
const LAST_LINES: usize = 10;

/// What is so, now that nobody waits for the rollout any more.
pub(crate) fn of_rollout(view: &RolloutView, now: Timestamp) -> String {
    let ended = match view.ended_unix_millis {
        0 => now.as_millisecond(),
        ended => ended,
    };
    let after = format!("after {}", length(between(view.begun_unix_millis, ended)));
    let service = &view.service;
    let sentence = match view.stage.as_str() {
        "closed" => match view.outcome() {
            Outcome::Committed => committed(view, &after),
            Outcome::RolledBack | Outcome::Aborted if view.hosts.is_empty() => {
                because(view, &format!("{service} was not touched"))
            }
            Outcome::RolledBack => because(view, &back(view, &after)),
            Outcome::Aborted => because(view, &format!("aborted; {}", back(view, &after))),
            Outcome::Mixed => because(view, &format!("{service} is mixed {after}")) + &spread(view),
            Outcome::Unspecified => {
                format!("{service} ended {after}, nobody said how") + &spread(view)
            }
        },
        "holding" => {
            because(view, &format!("{service} holds and waits for a person")) + &spread(view)
        }
        stage => {
            let paused = if view.paused { "paused" } else { stage };
            format!("{} goes on without us ({paused})", view.id) + &spread(view)
        }
    };
    sentence + &left_out(view) + &losses(view) + &evidence(view)
}

/// What a person can do about a rollout that is not over.
pub(crate) fn next(view: &RolloutView) -> String {
    let id = &view.id;
    match view.stage.as_str() {
        "closed" => String::new(),
        "holding" => format!(
            "go on with `cutover rollout resume {id}`, or back with `cutover rollout abort {id}`"
        ),
        _ if view.paused => {
            format!(
                "go on with `cutover rollout resume {id}`, or back with `cutover rollout abort {id}`"
            )
        }
        _ => format!(
            "watch it with `cutover rollout watch {id}`, take it back with `cutover rollout abort {id}`"
        ),
    }
}

/// What was decided for a service without a rollout to wait for.
pub(crate) fn of_decision(decision: &ServiceDecision) -> String {
    let service = &decision.service;
    let to = decision.to_revision;
    let mut text = if !decision.rollout.is_empty() {
        match to {
            0 => format!("{service} is being removed by {}", decision.rollout),
            _ => format!("{service}@{to} is on its way by {}", decision.rollout),
        }
    } else if decision.removed {
        format!("{service} is gone already")
    } else if decision.already_there {
        let there = decision.hosts.len();
        format!("{service}@{to} runs on {} already", hosts(there))
    } else {
        format!("{service}: nothing was begun, and the coordinator did not say why")
    };
    if !decision.skipped.is_empty() {
        let away = list(decision.skipped.iter().map(String::as_str));
        text.push_str(&format!("; owing, as they are away: {away}"));
    }
    text
}

fn committed(view: &RolloutView, after: &str) -> String {
    let service = &view.service;
    let there = view
        .hosts
        .iter()
        .filter(|h| h.fate == "committed" && !h.owing)
        .count();
    match view.to_revision {
        0 => format!("{service} is gone from {} {after}", hosts(there)),
        to => format!("{service}@{to} on {} {after}", hosts(there)),
    }
}

fn back(view: &RolloutView, after: &str) -> String {
    match view.from_revision {
        0 => format!("{} is not there, as before, {after}", view.service),
        from => format!("back on {}@{from} {after}", view.service),
    }
}

/// The reason's first line, in the sentence.
fn because(view: &RolloutView, sentence: &str) -> String {
    match view.why.lines().next() {
        None | Some("") => sentence.to_owned(),
        Some(first) => format!("{sentence}: {first}"),
    }
}

/// What follows the reason's first line, and the last lines of the log of the host that it is
/// about, beneath the sentence.
fn evidence(view: &RolloutView) -> String {
    if view.stage == "closed" && view.outcome() == Outcome::Committed {
        return String::new();
    }
    let beneath = |lines: &mut dyn Iterator<Item = &str>| -> String {
        lines.map(|line| format!("\n    {line}")).collect()
    };
    let mut text = beneath(&mut view.why.lines().skip(1));
    let speaks = |host: &&HostProgress| !host.last_log.trim().is_empty();
    let about = |host: &&HostProgress| view.why.starts_with(&format!("{}: ", host.host));
    let speaking = view.hosts.iter().filter(speaks);
    if let Some(host) = speaking
        .clone()
        .find(about)
        .or_else(|| speaking.clone().next())
    {
        let lines: Vec<&str> = host.last_log.trim_end().lines().collect();
        let last = lines
            .get(lines.len().saturating_sub(LAST_LINES)..)
            .unwrap_or(&lines);
        text.push_str(&format!("\n  last lines on {}:", host.host));
        text.push_str(&beneath(&mut last.iter().copied()));
    }
    text
}

/// Which host runs what, when they differ or may differ.
fn spread(view: &RolloutView) -> String {
    let mut runs: BTreeMap<u64, Vec<&str>> = BTreeMap::new();
    let mut odd = String::new();
    for host in &view.hosts {
        if host.fate == "stuck" {
            odd.push_str(&format!("; {} is stuck: {}", host.host, trouble(host)));
        } else if !host.owing {
            runs.entry(host.current).or_default().push(&host.host);
        }
    }
    let mut text = String::new();
    for (current, names) in runs.into_iter().rev() {
        text.push_str(&format!("; {} on {}", revision(current), list(names)));
    }
    text + &odd
}

fn trouble(host: &HostProgress) -> &str {
    let said = [&host.trouble, &host.why]
        .into_iter()
        .find(|text| !text.is_empty());
    said.map_or("it did not say why", |text| {
        text.lines().next().unwrap_or("")
    })
}

/// Hosts that have not got where they shall go, though the rollout is over.
fn left_out(view: &RolloutView) -> String {
    let mut text = String::new();
    let owing: Vec<&str> = view
        .hosts
        .iter()
        .filter(|h| h.owing)
        .map(|h| h.host.as_str())
        .collect();
    let skipped: Vec<&str> = view.skipped.iter().map(String::as_str).collect();
    let away: Vec<&str> = owing.into_iter().chain(skipped).collect();
    if !away.is_empty() {
        text.push_str(&format!("; owing until they are back: {}", list(away)));
    }
    if view.stage == "closed" && view.outcome() != Outcome::Mixed {
        for host in view.hosts.iter().filter(|host| host.fate == "stuck") {
            text.push_str(&format!("; {} is stuck: {}", host.host, trouble(host)));
        }
    }
    text
}

/// `; 0 of 12,044 requests lost`, when nginx counted any.
pub(crate) fn losses(view: &RolloutView) -> String {
    let counts = view.hosts.iter().filter_map(|host| host.traffic.as_ref());
    let (lost, failed, all) = counts.fold((0, 0, 0), |(lost, failed, all), counted| {
        (
            lost + counted.lost,
            failed + counted.failed,
            all + counted.requests,
        )
    });
    if all == 0 {
        return String::new();
    }
    let mut text = format!("; {} of {} requests lost", number(lost), number(all));
    if failed > 0 {
        text.push_str(&format!(", {} failed", number(failed)));
    }
    text
}

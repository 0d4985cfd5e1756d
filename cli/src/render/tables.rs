//! Lists as columns, for people. What scripts read is JSON.

use cutover_proto::v1::{
    ContainersResponse, EventRecord, HistoryResponse, HostProgress, HostView, LogLine, Outcome,
    RolloutView, ServiceStatus, StatusResponse, TrafficReport,
};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::render::words::{ago, date, length, list, number, revision};

/// Clocks that differ by more are worth a word.
const SKEW_WARN: std::time::Duration = std::time::Duration::from_secs(5);

/// Columns of equal width, two spaces apart.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let head: Vec<String> = head.iter().map(|title| (*title).to_owned()).collect();
    let all: Vec<&Vec<String>> = std::iter::once(&head).chain(rows).collect();
    let width = |column: usize| {
        let cells = all.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    for row in all {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:width$}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// `cutover status`
pub(crate) fn status(status: &StatusResponse) -> String {
    let mut text = format!(
        "coordinator {}, version {}: {} of {} hosts ready\n",
        status.coordinator_id, status.version, status.hosts_ready, status.hosts
    );
    for alarm in &status.alarms {
        text.push_str(&format!("ALARM: {alarm}\n"));
    }
    if status.services.is_empty() {
        return text + "no services: `cutover deploy` brings some\n";
    }
    let rows: Vec<Vec<String>> = status.services.iter().map(service_row).collect();
    text.push('\n');
    text.push_str(&table(
        &["SERVICE", "CURRENT", "HOSTS", "STATE", "IMAGE"],
        &rows,
    ));
    for service in &status.services {
        for host in &service.hosts {
            let odd = [
                (host.away, "away".to_owned()),
                (host.hold, "held by hand".to_owned()),
                (
                    host.replicas_proved < host.replicas_wanted,
                    format!(
                        "{} of {} replicas healthy",
                        host.replicas_proved, host.replicas_wanted
                    ),
                ),
                (
                    host.current != service.current,
                    format!("runs {}", revision(host.current)),
                ),
                (!host.phase.is_empty(), host.phase.clone()),
                (!host.why.is_empty(), host.why.clone()),
            ];
            let odd: Vec<String> = odd
                .into_iter()
                .filter(|(is, _)| *is)
                .map(|(_, text)| text)
                .collect();
            if !odd.is_empty() {
                text.push_str(&format!(
                    "  {} {}: {}\n",
                    service.service,
                    host.host,
                    odd.join(", ")
                ));
            }
        }
    }
    text
}

fn service_row(service: &ServiceStatus) -> Vec<String> {
    let state = match service.stage.as_str() {
        _ if service.open_rollout.is_empty() && service.hosts_there < service.hosts_wanted => {
            "not everywhere".to_owned()
        }
        _ if service.open_rollout.is_empty() => "steady".to_owned(),
        stage => format!("{} {stage}", service.open_rollout),
    };
    vec![
        service.service.clone(),
        revision(service.current),
        format!("{}/{}", service.hosts_there, service.hosts_wanted),
        state,
        service.image.clone(),
    ]
}

/// `cutover ps`
pub(crate) fn containers(answer: &ContainersResponse) -> String {
    let mut rows = Vec::new();
    for host in &answer.hosts {
        for container in &host.containers {
            let up = match container.up_seconds {
                0 => String::new(),
                seconds => length(std::time::Duration::from_secs(seconds)),
            };
            let away = if host.away {
                " (away: as last heard)"
            } else {
                ""
            };
            rows.push(vec![
                host.host.clone(),
                container.name.clone(),
                revision(container.revision),
                format!("{}{away}", container.state),
                up,
                container.image.clone(),
            ]);
        }
    }
    let mut text = table(
        &["HOST", "CONTAINER", "REVISION", "STATE", "UP", "IMAGE"],
        &rows,
    );
    for host in &answer.hosts {
        for warning in &host.warnings {
            text.push_str(&format!(
                "warning: {} on {}: {warning}\n",
                host.service, host.host
            ));
        }
    }
    text
}

/// `cutover history`
pub(crate) fn history(answer: &HistoryResponse, zone: &TimeZone) -> String {
    let rows = answer.revisions.iter().map(|made| {
        let mark = if made.number == answer.current {
            "*"
        } else {
            ""
        };
        vec![
            format!("{}{mark}", revision(made.number)),
            date(made.made_unix_millis, zone),
            made.who.clone(),
            made.image.clone(),
            made.reason.clone(),
        ]
    });
    table(
        &["REVISION", "MADE", "BY", "IMAGE", "WHY"],
        &rows.collect::<Vec<_>>(),
    )
}

/// `cutover rollout ls`
pub(crate) fn rollouts(rollouts: &[RolloutView], zone: &TimeZone) -> String {
    let rows = rollouts.iter().map(|view| {
        vec![
            view.id.clone(),
            view.service.clone(),
            format!(
                "{} → {}",
                revision(view.from_revision),
                revision(view.to_revision)
            ),
            standing(view),
            date(view.begun_unix_millis, zone),
            view.who.clone(),
            view.reason.clone(),
        ]
    });
    let head = [
        "ROLLOUT", "SERVICE", "REVISION", "STATE", "BEGUN", "BY", "WHY",
    ];
    table(&head, &rows.collect::<Vec<_>>())
}

/// Where a rollout is, in a word or two.
fn standing(view: &RolloutView) -> String {
    let word = match (view.stage.as_str(), view.outcome()) {
        ("closed", Outcome::Committed) if view.hosts.iter().any(|host| host.owing) => {
            "committed, owing"
        }
        ("closed", Outcome::Committed) => "committed",
        ("closed", Outcome::RolledBack) => "rolled back",
        ("closed", Outcome::Aborted) => "aborted",
        ("closed", Outcome::Mixed) => "mixed",
        (_, _) if view.paused => "paused",
        (stage, _) => stage,
    };
    word.to_owned()
}

/// `cutover rollout show`
pub(crate) fn rollout(view: &RolloutView, zone: &TimeZone) -> String {
    let mut text = format!(
        "{} {}: {} {} → {}, {}\n",
        view.id,
        standing(view),
        view.service,
        revision(view.from_revision),
        revision(view.to_revision),
        view.strategy
    );
    let by = [
        ("by", &view.who),
        ("because", &view.reason),
        ("why so", &view.why),
    ];
    for (word, said) in by {
        if !said.is_empty() {
            text.push_str(&format!("{word}: {said}\n"));
        }
    }
    if view.mixed {
        text.push_str("MIXED: hosts run two revisions now\n");
    }
    if !view.skipped.is_empty() {
        text.push_str(&format!(
            "skipped: {}\n",
            list(view.skipped.iter().map(String::as_str))
        ));
    }
    let rows = view.hosts.iter().map(|host| {
        let note = [&host.trouble, &host.why].map(|said| said.lines().next().unwrap_or(""));
        let flags = [(host.away, "away"), (host.owing, "owing")];
        let flags = flags.iter().filter(|(is, _)| *is).map(|(_, word)| *word);
        let notes: Vec<&str> = flags.chain(note).filter(|note| !note.is_empty()).collect();
        vec![
            host.host.clone(),
            host.wave.to_string(),
            host.fate.clone(),
            revision(host.current),
            host.phase.clone(),
            counted(host, |traffic| traffic.requests),
            counted(host, |traffic| traffic.lost),
            notes.join("; "),
        ]
    });
    text.push('\n');
    text.push_str(&table(
        &[
            "HOST", "WAVE", "FATE", "RUNS", "PHASE", "REQUESTS", "LOST", "NOTE",
        ],
        &rows.collect::<Vec<_>>(),
    ));
    for host in view.hosts.iter().filter(|host| !host.last_log.is_empty()) {
        text.push_str(&format!("last lines on {}:\n", host.host));
        for line in host.last_log.lines() {
            text.push_str(&format!("    {line}\n"));
        }
    }
    for wait in &view.waits {
        let host = if wait.host.is_empty() {
            String::new()
        } else {
            format!("{} ", wait.host)
        };
        let until = match wait.until_unix_millis {
            0 => "until a person decides".to_owned(),
            until => format!("until {}", date(until, zone)),
        };
        text.push_str(&format!("waits: {host}for {}, {until}\n", wait.what));
    }
    if !view.timeline.is_empty() {
        text.push('\n');
    }
    for entry in &view.timeline {
        let host = if entry.host.is_empty() {
            String::new()
        } else {
            format!("{}: ", entry.host)
        };
        text.push_str(&format!(
            "{}  {host}{}\n",
            date(entry.unix_millis, zone),
            entry.text
        ));
    }
    text
}

/// What nginx counted of a host's swap; nothing, where it counted nothing.
fn counted(host: &HostProgress, which: impl Fn(&TrafficReport) -> u64) -> String {
    let counted = host.traffic.as_ref().map(which);
    counted.map_or_else(String::new, number)
}

/// `cutover host ls`
pub(crate) fn hosts(hosts: &[HostView], now: Timestamp) -> String {
    let rows = hosts.iter().map(|host| {
        let labels: Vec<String> = sorted(&host.labels)
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let state = if host.why.is_empty() {
            host.state.clone()
        } else {
            format!("{}: {}", host.state, host.why)
        };
        vec![
            host.host.clone(),
            state,
            ago(host.last_seen_unix_millis, now),
            host.agent_version.clone(),
            host.services.len().to_string(),
            labels.join(","),
        ]
    });
    table(
        &["HOST", "STATE", "SEEN", "AGENT", "SERVICES", "LABELS"],
        &rows.collect::<Vec<_>>(),
    )
}

/// `cutover host show`
pub(crate) fn host(host: &HostView, zone: &TimeZone) -> String {
    let mut rows = vec![
        ("state", host.state.clone()),
        ("why", host.why.clone()),
        ("enrolled", date(host.enrolled_unix_millis, zone)),
        ("seen", date(host.last_seen_unix_millis, zone)),
        ("agent", host.agent_version.clone()),
        ("services", host.services.join(", ")),
        ("clock", skew(host.clock_skew_millis)),
    ];
    let labels: Vec<String> = sorted(&host.labels)
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    rows.push(("labels", labels.join(", ")));
    let mut text = format!("{}\n", host.host);
    for (word, value) in rows.iter().filter(|(_, value)| !value.is_empty()) {
        text.push_str(&format!("  {word:10} {value}\n"));
    }
    for (key, value) in sorted(&host.facts) {
        text.push_str(&format!("  {key:10} {value}\n"));
    }
    text
}

/// How far a clock is off, and what mends it; nothing, where that is within the usual.
fn skew(millis: i64) -> String {
    let by = std::time::Duration::from_millis(millis.unsigned_abs());
    if by <= SKEW_WARN {
        return String::new();
    }
    let side = if millis < 0 { "behind" } else { "ahead of" };
    format!(
        "{} {side} the coordinator's when it connected; mend: timedatectl set-ntp true, there",
        length(by)
    )
}

fn sorted(
    pairs: &std::collections::HashMap<String, String>,
) -> impl Iterator<Item = (&String, &String)> {
    let sorted: std::collections::BTreeMap<_, _> = pairs.iter().collect();
    sorted.into_iter()
}

/// A line of `cutover events`.
pub(crate) fn event(event: &EventRecord, zone: &TimeZone) -> String {
    let level = match event.level.as_str() {
        "info" | "" => String::new(),
        level => format!("{}: ", level.to_uppercase()),
    };
    let about = [&event.service, &event.host, &event.rollout];
    let about: Vec<&str> = about
        .into_iter()
        .filter(|a| !a.is_empty())
        .map(String::as_str)
        .collect();
    let about = if about.is_empty() {
        event.kind.clone()
    } else {
        about.join(" ")
    };
    format!(
        "{}  {level}{about}: {}",
        date(event.unix_millis, zone),
        event.text
    )
}

/// A line of `cutover logs`.
pub(crate) fn log(line: &LogLine) -> String {
    format!("{} {} | {}", line.host, line.container, line.text)
}

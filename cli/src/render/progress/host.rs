//! One host of a rollout, in words that both faces share.

use std::time::Duration;

use cutover_proto::v1::{HostProgress, RolloutView};

use crate::render::words::{length, revision};

/// Whether nothing more is to come from this host.
pub(super) fn is_settled(host: &HostProgress) -> bool {
    matches!(host.fate.as_str(), "committed" | "back") && !host.owing
}

/// Whether there is nothing to say of it yet.
pub(super) fn is_untouched(host: &HostProgress) -> bool {
    host.fate == "untouched" && !host.away && host.trouble.is_empty()
}

/// Where it is, and why; changes exactly when a person should hear of it.
pub(super) fn standing(view: &RolloutView, host: &HostProgress) -> String {
    let mut text = match host.fate.as_str() {
        "committed" if view.to_revision == 0 => "gone".to_owned(),
        "committed" => "committed".to_owned(),
        "back" if host.current == 0 => "back, without the service".to_owned(),
        "back" => format!("back on {}", revision(host.current)),
        "stuck" => "stuck".to_owned(),
        _ if !host.phase.is_empty() => host.phase.clone(),
        _ if !host.reached.is_empty() => host.reached.clone(),
        _ => "waiting".to_owned(),
    };
    if host.away {
        text.push_str(", away");
    }
    if host.owing {
        text.push_str(", owing");
    }
    if !host.trouble.is_empty() {
        text.push_str(&format!(", in trouble: {}", host.trouble));
    }
    for warning in &host.warnings {
        text.push_str(&format!(", warning: {warning}"));
    }
    let why = host.why.lines().next().unwrap_or("");
    if !why.is_empty() && view.to_revision != host.current {
        text.push_str(&format!(": {why}"));
    }
    text
}

/// ` (waits for 2 healthy answers, at most 57 s)`
pub(super) fn wait(host: &HostProgress) -> String {
    if host.waits_for.is_empty() || is_settled(host) {
        return String::new();
    }
    match host.waits_at_most_millis {
        0 => format!(" (waits for {})", host.waits_for),
        millis => {
            let most = length(Duration::from_millis(millis));
            format!(" (waits for {}, at most {most})", host.waits_for)
        }
    }
}

/// `shop/web@2`, or `removing shop/web`.
pub(super) fn title(view: &RolloutView) -> String {
    match view.to_revision {
        0 => format!("removing {}", view.service),
        to => format!("{}@{to}", view.service),
    }
}

//! A line for each change, with the time: for pipes, logs and CI.
//!
//! Kept true: what was said is not said again, whatever comes twice or after a
//! lost connection.

use std::collections::BTreeMap;

use cutover_proto::v1::RolloutView;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::host;
use crate::render::words::{clock, hosts, list, revision};

/// Remembers what was said.
pub(super) struct Plain {
    zone: TimeZone,
    said: BTreeMap<String, Said>,
}

/// What was last said of one rollout.
#[derive(Default)]
struct Said {
    headline: bool,
    stage: String,
    hosts: BTreeMap<String, String>,
}

impl Plain {
    pub(super) fn new(zone: TimeZone) -> Self {
        Self {
            zone,
            said: BTreeMap::new(),
        }
    }

    /// What is new in this view.
    pub(super) fn lines(&mut self, view: &RolloutView, now: Timestamp) -> Vec<String> {
        let mut lines = Vec::new();
        let said = self.said.entry(view.id.clone()).or_default();
        if !said.headline && view.stage != "queued" && !view.hosts.is_empty() {
            said.headline = true;
            lines.push(headline(view));
        }
        let stage = stage(view);
        if said.stage != stage {
            if !stage.is_empty() {
                lines.push(format!("{}: {stage}", view.service));
            }
            said.stage = stage;
        }
        for host in view.hosts.iter().filter(|host| !host::is_untouched(host)) {
            let standing = host::standing(view, host);
            if said.hosts.get(&host.host) != Some(&standing) {
                lines.push(format!(
                    "{} {}: {standing}{}",
                    view.service,
                    host.host,
                    host::wait(host)
                ));
                said.hosts.insert(host.host.clone(), standing);
            }
        }
        lines.iter().map(|line| self.stamped(line, now)).collect()
    }

    pub(super) fn stamped(&self, words: &str, now: Timestamp) -> String {
        format!("{} {words}", clock(now, &self.zone))
    }
}

fn headline(view: &RolloutView) -> String {
    let over = hosts(view.hosts.len());
    let waves = match view.waves {
        0 | 1 => String::new(),
        waves => format!(" in {waves} waves"),
    };
    let from = match view.from_revision {
        0 => "new".to_owned(),
        from => format!("from {}", revision(from)),
    };
    let mut text = format!(
        "{}: {} {}, {over}{waves}, {from}",
        host::title(view),
        view.strategy,
        view.id
    );
    if !view.skipped.is_empty() {
        let away = list(view.skipped.iter().map(String::as_str));
        text.push_str(&format!("; skipped, as they are away: {away}"));
    }
    text
}

/// Where the rollout is, where that is not said by its hosts; nothing at its plain beginning and end.
fn stage(view: &RolloutView) -> String {
    let why = view.why.lines().next().unwrap_or("");
    match view.stage.as_str() {
        "queued" => format!("{} is queued", view.id),
        "holding" => format!("HOLDS: {why}"),
        "back" => format!("every host goes back: {why}"),
        "forward" if view.paused => format!("paused in wave {} of {}", view.wave, view.waves),
        "forward" if view.waves > 1 => format!("wave {} of {}", view.wave, view.waves),
        _ => String::new(),
    }
}

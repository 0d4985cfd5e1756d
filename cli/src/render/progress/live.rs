//! A picture of the rollouts that is redrawn in place, on a terminal.
//!
//! [`Frame`] is what the picture says, as lines; [`Screen`] puts it there. Hosts
//! that are done collapse into a count; of very many open ones the first are shown.

use std::collections::BTreeMap;

use cutover_proto::v1::{HostProgress, RolloutView};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;

use super::host;
use crate::render::sentence;
use crate::render::words::{between, length, list, revision};

/// Lines for the hosts of one rollout; more do not fit a terminal beside other things.
const MOST_HOSTS: usize = 15;
/// Pictures in a second.
const PICTURES: u8 = 10;

/// What the picture says.
pub(super) struct Frame {
    color: bool,
    rollouts: Vec<RolloutView>,
    /// Since when each host stands as it stands: rollout and host to standing and time.
    since: BTreeMap<(String, String), (String, Timestamp)>,
    note: String,
}

impl Frame {
    pub(super) fn new(color: bool) -> Self {
        Self {
            color,
            rollouts: Vec::new(),
            since: BTreeMap::new(),
            note: String::new(),
        }
    }

    pub(super) fn update(&mut self, view: &RolloutView, now: Timestamp) {
        self.note.clear();
        for host in &view.hosts {
            let standing = host::standing(view, host);
            let key = (view.id.clone(), host.host.clone());
            let since = self
                .since
                .entry(key)
                .or_insert_with(|| (standing.clone(), now));
            if since.0 != standing {
                *since = (standing, now);
            }
        }
        match self.rollouts.iter_mut().find(|old| old.id == view.id) {
            Some(old) => old.clone_from(view),
            None => self.rollouts.push(view.clone()),
        }
    }

    pub(super) fn note(&mut self, words: &str) {
        words.clone_into(&mut self.note);
    }

    /// The picture at this moment.
    pub(super) fn lines(&self, now: Timestamp) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        for view in &self.rollouts {
            lines.push(self.headline(view, now));
            if view.stage != "closed" {
                self.hosts(view, now, &mut lines);
            }
        }
        if !self.note.is_empty() {
            lines.push(self.paint(YELLOW, &self.note));
        }
        lines
    }

    fn headline(&self, view: &RolloutView, now: Timestamp) -> String {
        if view.stage == "closed" {
            let mark = match view.outcome() {
                cutover_proto::v1::Outcome::Committed => self.paint(GREEN, "✓"),
                cutover_proto::v1::Outcome::Unspecified
                | cutover_proto::v1::Outcome::RolledBack
                | cutover_proto::v1::Outcome::Aborted
                | cutover_proto::v1::Outcome::Mixed => self.paint(RED, "✗"),
            };
            let sentence = sentence::of_rollout(view, now);
            return format!("{mark} {}", sentence.lines().next().unwrap_or(""));
        }
        let done = view
            .hosts
            .iter()
            .filter(|host| host::is_settled(host))
            .count();
        let mut parts = vec![stage(view)];
        if !view.hosts.is_empty() {
            parts.push(format!("{done}/{} hosts", view.hosts.len()));
        }
        parts.push(length(between(
            view.begun_unix_millis,
            now.as_millisecond(),
        )));
        let from = revision(view.from_revision);
        let title = format!("{} {from} → {}", view.service, revision(view.to_revision));
        let losses = sentence::losses(view);
        let losses = losses.trim_start_matches("; ");
        if !losses.is_empty() {
            parts.push(losses.to_owned());
        }
        format!("{}  {}", self.paint(BOLD, &title), parts.join(" · "))
    }

    fn hosts(&self, view: &RolloutView, now: Timestamp, lines: &mut Vec<String>) {
        let open: Vec<&HostProgress> = view
            .hosts
            .iter()
            .filter(|host| !host::is_untouched(host) && !host::is_settled(host))
            .collect();
        let width = open
            .iter()
            .map(|host| host.host.chars().count())
            .max()
            .unwrap_or(0);
        for host in open.iter().take(MOST_HOSTS) {
            let standing = host::standing(view, host);
            let key = (view.id.clone(), host.host.clone());
            let since = self.since.get(&key).map_or(now, |(_, since)| *since);
            let time = length(between(since.as_millisecond(), now.as_millisecond()));
            let standing = if host.why.is_empty() && host.trouble.is_empty() && host.fate != "stuck"
            {
                standing
            } else {
                self.paint(RED, &standing)
            };
            let wait = host::wait(host);
            lines.push(format!(
                "  {:width$}  {time:>7}  {standing}{wait}",
                host.host
            ));
        }
        if open.len() > MOST_HOSTS {
            let rest = open.iter().skip(MOST_HOSTS).map(|host| host.host.as_str());
            lines.push(format!("  and {}", list(rest)));
        }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.color {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

const BOLD: &str = "1";
const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";

fn stage(view: &RolloutView) -> String {
    let why = view.why.lines().next().unwrap_or("");
    match view.stage.as_str() {
        "queued" => "queued".to_owned(),
        "holding" => format!("HOLDS: {why}"),
        "back" => format!("goes back: {why}"),
        "forward" if view.paused => "paused".to_owned(),
        "forward" if view.waves > 1 => {
            format!("{}, wave {} of {}", view.strategy, view.wave, view.waves)
        }
        _ => view.strategy.clone(),
    }
}

/// Where the picture is: a line of the terminal for each of its own.
pub(super) struct Screen {
    lines: Vec<ProgressBar>,
    screen: MultiProgress,
    style: ProgressStyle,
}

impl Screen {
    /// On standard output, or on standard error where the other is not for words.
    pub(super) fn new(on_stderr: bool) -> Self {
        let target = if on_stderr {
            ProgressDrawTarget::stderr_with_hz(PICTURES)
        } else {
            ProgressDrawTarget::stdout_with_hz(PICTURES)
        };
        Self {
            lines: Vec::new(),
            screen: MultiProgress::with_draw_target(target),
            // Longer lines than the terminal has are cut off.
            style: ProgressStyle::with_template("{wide_msg}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner()),
        }
    }

    pub(super) fn draw(&mut self, lines: &[String]) {
        while self.lines.len() > lines.len() {
            if let Some(line) = self.lines.pop() {
                line.finish_and_clear();
                self.screen.remove(&line);
            }
        }
        for (place, text) in lines.iter().enumerate() {
            match self.lines.get(place) {
                Some(line) => line.set_message(text.clone()),
                None => {
                    let line = ProgressBar::new_spinner().with_style(self.style.clone());
                    let line = self.screen.add(line);
                    line.set_message(text.clone());
                    self.lines.push(line);
                }
            }
        }
    }

    pub(super) fn close(self) {
        for line in &self.lines {
            line.finish_and_clear();
        }
        let _ = self.screen.clear(); // the terminal is gone: nobody looks
    }
}

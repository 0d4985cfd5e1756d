//! What an agent's log says, with the times that it gives: the facts of its swaps, as they happen.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cutover_tests::fleet::{Fleet, Host};
use serde_json::Value;

/// A place in an agent's log; what was there before is passed over.
pub(crate) struct AgentLog {
    path: PathBuf,
    from: usize,
}

/// A fact of a swap, as the agent names it (`RouteProved`).
#[derive(Clone, Debug)]
pub(crate) struct Fact {
    pub(crate) at: Duration,
    pub(crate) name: String,
}

impl AgentLog {
    /// What this host's agent will say from now on.
    pub(crate) fn from_now(fleet: &Fleet, host: &Host) -> Self {
        let path = fleet.path().join(format!("{}.log", host.name));
        let from = fs::read(&path).map_or(0, |text| text.len());
        Self { path, from }
    }

    /// The facts since then. Their times are of the wall clock, since its epoch.
    pub(crate) fn facts(&self) -> Vec<Fact> {
        let text = fs::read(&self.path).unwrap_or_default();
        let new = String::from_utf8_lossy(text.get(self.from..).unwrap_or_default()).into_owned();
        new.lines().filter_map(fact).collect()
    }

    /// When this fact was first told.
    pub(crate) fn when(&self, name: &str) -> Option<Duration> {
        let found = self.facts().into_iter().find(|fact| fact.name == name);
        found.map(|fact| fact.at)
    }
}

/// The wall clock, as the log's lines give it.
pub(crate) fn now() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

fn fact(line: &str) -> Option<Fact> {
    let line: Value = serde_json::from_str(line).ok()?;
    let name = match line.get("message")?.as_str()? {
        "a fact" => line.get("fact")?.as_str()?,
        "a swap began" => "Opened",
        "the route changed" => "CutOver",
        "the candidate may not stay: going back" => "Sickened",
        "the swap is committed" => "Committed",
        "the swap is reverted" => "Reverted",
        _ => return None,
    };
    // `CutOver(Warm(Green))`, `Drained { open: 0 }`
    let name = name.split(['(', ' ']).next()?.to_owned();
    let at = line
        .get("timestamp")?
        .as_str()?
        .parse::<jiff::Timestamp>()
        .ok()?;
    Some(Fact {
        at: Duration::try_from(at.as_duration()).ok()?,
        name,
    })
}

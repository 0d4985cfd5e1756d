//! The map of both machines: every phase, every way from one to the next, every fact.
//!
//! A way that no world goes is a way that nothing here has tried.

use cutover_core::rollout::Fact as RolloutFact;
use cutover_core::swap::{Fact, Phase};

use crate::tally::Tally;

/// No swap is open.
const OVER: &str = "over";

/// Every way of a swap from phase to phase.
const WAYS: &[(&str, &str)] = &[
    (OVER, "fetching"),
    (OVER, "prepared"),
    ("fetching", "making"),
    ("making", "starting"),
    ("making", "prepared"),
    ("starting", "proving"),
    ("proving", "smoking"),
    ("proving", "prepared"),
    ("proving", "cutting"),
    ("smoking", "prepared"),
    ("smoking", "cutting"),
    ("prepared", "cutting"),
    ("prepared", "stopping"),
    ("stopping", "starting"),
    ("stopping", "cutting"),
    ("cutting", "checking"),
    ("checking", "serving"),
    ("serving", "cutting"),
    ("serving", "cooling"),
    ("cooling", "draining"),
    ("draining", "parking"),
    ("parking", OVER),
    ("fetching", "returning"),
    ("making", "returning"),
    ("starting", "returning"),
    ("proving", "returning"),
    ("smoking", "returning"),
    ("prepared", "returning"),
    ("cutting", "returning"),
    ("checking", "returning"),
    ("serving", "returning"),
    ("starting", "withdrawing"),
    ("proving", "withdrawing"),
    ("smoking", "withdrawing"),
    ("stopping", "withdrawing"),
    ("cutting", "withdrawing"),
    ("checking", "withdrawing"),
    ("serving", "withdrawing"),
    ("withdrawing", "reviving"),
    ("reviving", "returning"),
    ("returning", "emptying"),
    ("emptying", "removing"),
    ("removing", OVER),
];

/// Every fact of a swap.
const FACTS: &[&str] = &[
    "Adopted",
    "Opened",
    "Targeted",
    "Advanced",
    "Fenced",
    "Fetched",
    "Made",
    "Started",
    "Proved",
    "Smoked",
    "Stopped",
    "CutOver",
    "RouteProved",
    "Confirmed",
    "Watched",
    "Cooled",
    "Drained",
    "Committed",
    "Sickened",
    "Withdrawn",
    "Revived",
    "TrafficBack",
    "Emptied",
    "Reverted",
    "Passed",
    "Hung",
    "Discarded",
    "HeldByHand",
    "Rebooted",
];

/// Every fact of a rollout.
const ROLLOUT_FACTS: &[&str] = &[
    "WaveBegan",
    "Ordered",
    "Reached",
    "Fell",
    "WasThere",
    "BarrierPassed",
    "CommitDecided",
    "WaveEnded",
    "Paused",
    "Resumed",
    "Held",
    "RollbackDecided",
    "Closed",
    "Superseded",
    "Rebooted",
];

/// A phase by name.
pub(crate) fn place(phase: Option<Phase>) -> &'static str {
    phase.map_or(OVER, Phase::as_str)
}

/// What none of the worlds has visited.
pub(crate) fn unvisited(tally: &Tally) -> Vec<String> {
    let ways = WAYS
        .iter()
        .filter(|way| !tally.ways.contains_key(*way))
        .map(|(from, to)| format!("the way from {from} to {to}"));
    let facts = FACTS
        .iter()
        .filter(|fact| tally.of("swap facts", fact) == 0)
        .map(|fact| format!("the swap's fact {fact}"));
    let rollout = ROLLOUT_FACTS
        .iter()
        .filter(|fact| tally.of("rollout facts", fact) == 0)
        .map(|fact| format!("the rollout's fact {fact}"));
    ways.chain(facts).chain(rollout).collect()
}

/// Ways that were gone and are not on the map.
pub(crate) fn unmapped(tally: &Tally) -> Vec<String> {
    let gone = tally.ways.keys().filter(|(from, to)| from != to);
    gone.filter(|way| !WAYS.contains(way))
        .map(|(from, to)| format!("the way from {from} to {to}"))
        .collect()
}

/// A fact's name.
pub(crate) fn fact(fact: &Fact) -> &'static str {
    match fact {
        Fact::Adopted { .. } => "Adopted",
        Fact::Opened { .. } => "Opened",
        Fact::Targeted(_) => "Targeted",
        Fact::Advanced => "Advanced",
        Fact::Fenced(_) => "Fenced",
        Fact::Fetched => "Fetched",
        Fact::Made => "Made",
        Fact::Started => "Started",
        Fact::Proved => "Proved",
        Fact::Smoked => "Smoked",
        Fact::Stopped => "Stopped",
        Fact::CutOver(_) => "CutOver",
        Fact::RouteProved => "RouteProved",
        Fact::Confirmed => "Confirmed",
        Fact::Watched => "Watched",
        Fact::Cooled => "Cooled",
        Fact::Drained { .. } => "Drained",
        Fact::Committed => "Committed",
        Fact::Sickened { .. } => "Sickened",
        Fact::Withdrawn => "Withdrawn",
        Fact::Revived => "Revived",
        Fact::TrafficBack => "TrafficBack",
        Fact::Emptied { .. } => "Emptied",
        Fact::Reverted => "Reverted",
        Fact::Passed { .. } => "Passed",
        Fact::Hung { .. } => "Hung",
        Fact::Discarded { .. } => "Discarded",
        Fact::HeldByHand(_) => "HeldByHand",
        Fact::Rebooted => "Rebooted",
    }
}

/// A rollout fact's name.
pub(crate) fn rollout_fact(fact: &RolloutFact) -> &'static str {
    match fact {
        RolloutFact::WaveBegan { .. } => "WaveBegan",
        RolloutFact::Ordered { .. } => "Ordered",
        RolloutFact::Reached { .. } => "Reached",
        RolloutFact::WasThere { .. } => "WasThere",
        RolloutFact::Fell { .. } => "Fell",
        RolloutFact::BarrierPassed => "BarrierPassed",
        RolloutFact::CommitDecided { .. } => "CommitDecided",
        RolloutFact::WaveEnded { .. } => "WaveEnded",
        RolloutFact::Paused => "Paused",
        RolloutFact::Resumed => "Resumed",
        RolloutFact::Held { .. } => "Held",
        RolloutFact::RollbackDecided { .. } => "RollbackDecided",
        RolloutFact::Closed(_) => "Closed",
        RolloutFact::Superseded => "Superseded",
        RolloutFact::Rebooted => "Rebooted",
    }
}

//! A look at a store that opens nothing and mends nothing, for a doctor.

use std::path::Path;

use super::lock::{Lock, NoLock};
use super::open::Paths;
use super::probe::{Finding, Probe};

/// How a store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// There is none yet.
    Absent,
    /// A process has it open; who, where that is known.
    InUse(Option<String>),
    /// It can be read from end to end.
    Whole,
    /// It can't; a start sets it aside and makes it anew from the newest snapshot.
    Damaged(String),
    /// It could not be found out.
    Unknown(String),
}

/// Looks at the store in a state directory.
#[must_use]
pub fn examine(state: &Path, probe: &Probe) -> Condition {
    let paths = Paths::of(state);
    if !paths.store.is_dir() {
        return Condition::Absent;
    }
    // Held during the look, so that no coordinator begins to write under it.
    let _lock = match Lock::take(&state.join("store.lock")) {
        Ok(lock) => lock,
        Err(NoLock::Held(holder)) => return Condition::InUse(holder),
        Err(NoLock::Files(problem)) => return Condition::Unknown(problem.to_string()),
    };
    match probe.look(&paths.store) {
        Finding::Whole => Condition::Whole,
        Finding::Damaged(why) => Condition::Damaged(why),
        Finding::Unknown(why) => Condition::Unknown(why),
    }
}

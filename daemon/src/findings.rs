//! What a doctor finds: how bad it is, what it is, and the command that mends it;
//! and the checks of a machine that both daemons share.
//!
//! Kept true: a look changes nothing, and one that can't be made says so.

use std::path::Path;

use nix::sys::resource::{Resource, getrlimit};
use nix::sys::statvfs::statvfs;
use serde::Serialize;

/// The exit code when something does not work and a person must mend it; that of `cutover doctor`, too.
pub const NEEDS_PERSON: u8 = 8;

/// Less free space than this is worth a word: an image or a snapshot may need more.
const ROOM_WARN: u64 = 1 << 30;
/// With less, facts may not be kept, and next to nothing is done any more.
const ROOM_ERROR: u64 = 64 << 20;
/// Fewer open files than this are used up by a few hundred streams.
const FILES_LEAST: u64 = 4096;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works, and will not always.
    Warn,
    /// Something does not work.
    Error,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// In a sentence.
    pub what: String,
    /// The command or change that mends it.
    pub mend: Option<String>,
}

impl Finding {
    /// As it should be.
    pub fn ok(what: impl Into<String>) -> Self {
        Self {
            level: Level::Ok,
            what: what.into(),
            mend: None,
        }
    }

    /// It works, and will not always.
    pub fn warn(what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            level: Level::Warn,
            what: what.into(),
            mend: Some(mend.into()),
        }
    }

    /// Something does not work.
    pub fn error(what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            level: Level::Error,
            ..Self::warn(what, mend)
        }
    }
}

/// Whether something does not work.
#[must_use]
pub fn sick(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| finding.level == Level::Error)
}

/// As people read them.
#[must_use]
pub fn words(findings: &[Finding]) -> String {
    let mut lines = Vec::new();
    for finding in findings {
        let level = match finding.level {
            Level::Ok => "ok",
            Level::Warn => "warn",
            Level::Error => "error",
        };
        lines.push(format!("{level:5}  {}", finding.what));
        if let Some(mend) = &finding.mend {
            lines.push(format!("       mend: {mend}"));
        }
    }
    lines.join("\n")
}

/// What is left on the disk of a directory.
#[must_use]
pub fn room(place: &Path, mend: &str) -> Finding {
    match statvfs(place) {
        Ok(disk) => {
            let free = disk.blocks_available().saturating_mul(disk.fragment_size());
            judged(place, free, mend)
        }
        Err(problem) => Finding::warn(
            format!("{}: {problem}", place.display()),
            "the package makes this directory; --state-dir names another one",
        ),
    }
}

fn judged(place: &Path, free: u64, mend: &str) -> Finding {
    let what = format!("{} has {} MiB free", place.display(), free >> 20);
    if free < ROOM_ERROR {
        Finding::error(what, mend)
    } else if free < ROOM_WARN {
        Finding::warn(what, mend)
    } else {
        Finding::ok(what)
    }
}

/// How many files the processes of this machine may open, as far as this one may.
#[must_use]
pub fn open_files(unit: &str) -> Finding {
    let mend = format!("LimitNOFILE=65536 below [Service]: systemctl edit {unit}");
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((_, most)) if most < FILES_LEAST => {
            Finding::warn(format!("no more than {most} files may be open"), mend)
        }
        Ok((_, most)) => Finding::ok(format!("{most} files may be open")),
        Err(problem) => Finding::warn(
            format!("the limit of open files can't be read: {problem}"),
            mend,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_judged_by_what_is_left() {
        let level = |free| judged(Path::new("/x"), free, "tidy up").level;
        assert_eq!(level(2 << 30), Level::Ok);
        assert_eq!(level(512 << 20), Level::Warn);
        assert_eq!(level(1 << 20), Level::Error);
        assert_eq!(room(Path::new("/none/such"), "").level, Level::Warn);
    }

    #[test]
    fn only_what_does_not_work_needs_a_person_and_every_problem_says_what_mends_it() {
        let findings = [Finding::ok("a"), Finding::warn("b", "c")];
        assert!(!sick(&findings));
        assert!(sick(&[Finding::error("d", "e")]));
        assert_eq!(words(&findings), "ok     a\nwarn   b\n       mend: c");
    }
}

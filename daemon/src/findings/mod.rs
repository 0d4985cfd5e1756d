//! What a doctor finds: how bad it is, what it is, and the command that mends it;
//! and the checks of a machine that both daemons share.
//!
//! Kept true: a look changes nothing, and one that can't be made says so.

mod clock;
mod machine;

use serde::Serialize;

pub use clock::clock;
pub use machine::{certificate, files_of, open_files, room};

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_does_not_work_needs_a_person_and_every_problem_says_what_mends_it() {
        let findings = [Finding::ok("a"), Finding::warn("b", "c")];
        assert!(!sick(&findings));
        assert!(sick(&[Finding::error("d", "e")]));
        assert_eq!(words(&findings), "ok     a\nwarn   b\n       mend: c");
    }
}

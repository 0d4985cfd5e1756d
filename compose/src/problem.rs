//! What is wrong with a file, where, and what to do about it.
//!
//! Every stage adds to one [`Log`] and goes on, so that one run tells all. At
//! the end the problems are sorted by place and said once each. A problem never
//! shows what a variable was replaced by: it may be a secret.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// A place in a file; lines and columns count from 1.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The file, as it was named.
    pub file: Arc<str>,
    /// Line.
    pub line: u32,
    /// Column, in characters.
    pub column: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// There is no release until this is put right.
    Error,
    /// Something that was written is not acted on, or is likely not meant.
    Warning,
    /// A choice that Cutover made and a reader should know.
    Note,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        })
    }
}

/// One thing that a person should know about the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where; `None` when no file is to blame (an option, a missing file).
    pub at: Option<Position>,
    /// How bad.
    pub severity: Severity,
    /// The field (`services.web.ports[0]`); empty when it is the file as a whole.
    pub path: String,
    /// What is wrong; reads on from the path.
    pub what: String,
    /// What to do about it; may be empty.
    pub advice: String,
    /// The line of the file with a mark under the place (bad YAML only).
    pub snippet: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(at) = &self.at {
            write!(f, "{at}: ")?;
        }
        write!(f, "{}: ", self.severity)?;
        if !self.path.is_empty() {
            write!(f, "'{}' ", self.path)?;
        }
        f.write_str(&self.what)?;
        if !self.advice.is_empty() {
            write!(f, "; {}", self.advice)?;
        }
        if let Some(snippet) = &self.snippet {
            write!(f, "\n{snippet}")?;
        }
        Ok(())
    }
}

/// All that is to be said about an input that gives no release: at least one
/// error, and the warnings and notes beside it, sorted by place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problems(Vec<Problem>);

impl Problems {
    pub(crate) fn new(problems: Vec<Problem>) -> Self {
        Self(problems)
    }

    /// All of them, in order.
    #[must_use]
    pub fn all(&self) -> &[Problem] {
        &self.0
    }

    /// The errors alone, in order.
    pub fn errors(&self) -> impl Iterator<Item = &Problem> {
        self.0
            .iter()
            .filter(|problem| problem.severity == Severity::Error)
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

/// Where the stages write down what they find.
#[derive(Debug, Default)]
pub(crate) struct Log {
    problems: RefCell<Vec<Problem>>,
    files: RefCell<Vec<Arc<str>>>,
}

impl Log {
    /// Remembers a file, so that problems come in the order of the files.
    pub(crate) fn file(&self, file: &Arc<str>) {
        self.files.borrow_mut().push(file.clone());
    }

    pub(crate) fn add(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    /// Says something about the field `path` at `at`.
    pub(crate) fn say(
        &self,
        severity: Severity,
        at: Option<&Position>,
        path: &str,
        what: impl Into<String>,
        advice: impl Into<String>,
    ) {
        self.add(Problem {
            at: at.cloned(),
            severity,
            path: path.to_owned(),
            what: what.into(),
            advice: advice.into(),
            snippet: None,
        });
    }

    /// An error at a place.
    pub(crate) fn error(
        &self,
        at: &Position,
        path: &str,
        what: impl Into<String>,
        advice: impl Into<String>,
    ) {
        self.say(Severity::Error, Some(at), path, what, advice);
    }

    /// An error that no file is to blame for.
    pub(crate) fn refuse(&self, what: impl Into<String>, advice: impl Into<String>) {
        self.say(Severity::Error, None, "", what, advice);
    }

    pub(crate) fn failed(&self) -> bool {
        self.problems
            .borrow()
            .iter()
            .any(|problem| problem.severity == Severity::Error)
    }

    /// Whether there was an error, and everything that was said: sorted, each once.
    pub(crate) fn finish(self) -> (bool, Vec<Problem>) {
        let failed = self.failed();
        let files = self.files.into_inner();
        let place = |problem: &Problem| {
            problem.at.as_ref().map(|at| {
                let file = files
                    .iter()
                    .position(|file| *file == at.file)
                    .unwrap_or(files.len());
                (file, at.clone())
            })
        };
        let mut problems = self.problems.into_inner();
        problems.sort_by_cached_key(|problem| (place(problem), problem.severity));
        let mut seen = BTreeSet::new();
        problems.retain(|problem| {
            problem.at.is_none()
                || seen.insert((
                    problem.at.clone(),
                    problem.severity,
                    problem.what.clone(),
                    problem.advice.clone(),
                ))
        });
        (failed, problems)
    }
}

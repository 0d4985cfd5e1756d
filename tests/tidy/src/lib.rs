//! The rules of the house, as tests: where a word may be said, who may see whom,
//! what a file begins with, how long it gets, what a dependency is for.
//!
//! Each rule is a function from a [`Tree`] to what it found, so that it is tried
//! on made-up trees beside it; `tests/workspace.rs` runs them all on this one.
//! An exception is a line with its reason, and one that is no longer needed is
//! a finding too.
//!
//! Not known here: whether the code is right. clippy and the tests know more.

use std::fmt;

pub mod crates;
pub mod examples;
pub mod files;
pub mod licences;
pub mod manifests;
pub mod places;
pub mod promises;
pub mod source;
pub mod tree;
pub mod walls;
pub mod words;

pub use tree::Tree;

/// One break of a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// In which file.
    pub path: String,
    /// In which line, from 1; 0: the file as a whole.
    pub line: usize,
    /// What is wrong, and what to do instead.
    pub what: String,
}

impl Finding {
    pub(crate) fn new(path: &str, line: usize, what: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            line,
            what: what.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.what),
            line => write!(f, "{}:{line}: {}", self.path, self.what),
        }
    }
}

/// An exception from a rule.
#[derive(Clone, Copy, Debug)]
pub struct Except {
    /// Path of a file, or the beginning of one that ends with `/`.
    pub path: &'static str,
    /// Why it may.
    pub why: &'static str,
}

impl Except {
    /// Whether this speaks of `path`.
    #[must_use]
    pub fn covers(&self, path: &str) -> bool {
        path == self.path || self.path.ends_with('/') && path.starts_with(self.path)
    }
}

/// The findings that no exception covers, and the exceptions that cover none.
pub(crate) fn except(found: Vec<Finding>, exceptions: &[Except], rule: &str) -> Vec<Finding> {
    let covered = |path: &str| exceptions.iter().any(|except| except.covers(path));
    let mut left: Vec<Finding> = exceptions
        .iter()
        .filter(|except| !found.iter().any(|finding| except.covers(&finding.path)))
        .map(|except| {
            Finding::new(
                except.path,
                0,
                format!(
                    "needs no exception from {rule} any more ({:?}): remove it",
                    except.why
                ),
            )
        })
        .collect();
    left.extend(found.into_iter().filter(|finding| !covered(&finding.path)));
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exception_covers_its_place_and_is_found_when_unneeded() {
        const MAY: [Except; 2] = [
            Except {
                path: "a/",
                why: "old",
            },
            Except {
                path: "b.rs",
                why: "gone",
            },
        ];
        let found = vec![
            Finding::new("a/x.rs", 1, "bad"),
            Finding::new("c.rs", 2, "bad"),
        ];
        let left = except(found, &MAY, "a rule");
        assert_eq!(
            left.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [
                "b.rs: needs no exception from a rule any more (\"gone\"): remove it",
                "c.rs:2: bad"
            ]
        );
    }
}

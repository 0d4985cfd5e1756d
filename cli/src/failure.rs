//! Why a command did not do what it was asked: what was being done, why not, what to do next.
//!
//! A failure is no outcome: a rollout that was rolled back is a result, and is
//! said by [`crate::exit`]. The chain of causes is printed once, at the edge.

use std::error::Error;

use cutover_compose::Problem;

use crate::exit::Exit;

/// What kind of failure; its name is stable in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// What was typed makes no sense, or is not supported yet.
    Usage,
    /// A Compose file is invalid.
    InvalidFile,
    /// It is not known which coordinator is meant.
    NoContext,
    /// There is no such service, host, rollout or revision.
    NotFound,
    /// A name means more than one.
    Ambiguous,
    /// The coordinator could not be reached.
    Unreachable,
    /// One side did not believe the other's certificate.
    CertificateRefused,
    /// The coordinator said no: busy, policy, preflight.
    Refused,
    /// The certificate's holder may not do that.
    PermissionDenied,
    /// Sent, but the answer did not come: it may have been accepted.
    LostAnswer,
    /// What was waited for did not come in time.
    TimedOut,
    /// The person said stop.
    Interrupted,
    /// Anything else.
    Unexpected,
}

impl Kind {
    /// Its name in JSON.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::InvalidFile => "invalid_file",
            Self::NoContext => "no_context",
            Self::NotFound => "not_found",
            Self::Ambiguous => "ambiguous",
            Self::Unreachable => "unreachable",
            Self::CertificateRefused => "certificate_refused",
            Self::Refused => "refused",
            Self::PermissionDenied => "permission_denied",
            Self::LostAnswer => "lost_answer",
            Self::TimedOut => "timed_out",
            Self::Interrupted => "interrupted",
            Self::Unexpected => "unexpected",
        }
    }

    /// The exit code that says it.
    pub(crate) const fn exit(self) -> Exit {
        match self {
            Self::Usage
            | Self::InvalidFile
            | Self::NoContext
            | Self::NotFound
            | Self::Ambiguous => Exit::Usage,
            Self::Unreachable | Self::CertificateRefused => Exit::Unaccepted,
            Self::Refused | Self::PermissionDenied => Exit::Refused,
            Self::TimedOut => Exit::TimedOut,
            Self::Interrupted => Exit::Interrupted,
            Self::LostAnswer | Self::Unexpected => Exit::Unexpected,
        }
    }
}

/// A command that did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub(crate) struct Failure {
    /// What kind.
    pub(crate) kind: Kind,
    /// What was being done, to what, or what is wrong.
    pub(crate) what: String,
    /// What to do next; empty: nothing is known to help.
    pub(crate) next: String,
    /// What is wrong with the files, place by place.
    pub(crate) problems: Vec<Problem>,
    #[source]
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl Failure {
    /// One whose cause is in its own words.
    pub(crate) fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self {
            kind,
            what: what.into(),
            next: String::new(),
            problems: Vec::new(),
            source: None,
        }
    }

    /// One with a cause beneath.
    pub(crate) fn because(
        kind: Kind,
        what: impl Into<String>,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        let mut failure = Self::new(kind, what);
        failure.source = Some(source.into());
        failure
    }

    /// Says what to do next.
    pub(crate) fn next(mut self, next: impl Into<String>) -> Self {
        self.next = next.into();
        self
    }

    /// Says what is wrong where.
    pub(crate) fn with_problems(mut self, problems: &[Problem]) -> Self {
        self.problems = problems.to_vec();
        self
    }

    /// The whole chain in a line, each cause once.
    pub(crate) fn chain(&self) -> String {
        let mut text = self.what.clone();
        let mut next = self.source();
        while let Some(cause) = next {
            let said = cause.to_string();
            if !said.is_empty() && !text.contains(&said) {
                text.push_str(": ");
                text.push_str(&said);
            }
            next = cause.source();
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_says_each_cause_once() {
        let inner = Failure::because(Kind::Unexpected, "connecting", "connection refused");
        let outer = Failure::because(Kind::Unreachable, "listing hosts", inner);
        assert_eq!(
            outer.chain(),
            "listing hosts: connecting: connection refused"
        );
        let twice = Failure::because(Kind::Unexpected, "it failed: no space", "no space");
        assert_eq!(twice.chain(), "it failed: no space");
    }
}

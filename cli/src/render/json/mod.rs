//! What scripts read: names that stay, moments in RFC 3339, `null` for what is not there.
//!
//! Kept true: a name, once printed, keeps its meaning; names are only added.

pub(crate) mod deploy;
pub(crate) mod host;
pub(crate) mod look;
pub(crate) mod rollout;

use cutover_compose::Problem;
use jiff::Timestamp;
use serde::Serialize;

use crate::exit::Exit;
use crate::failure::{Failure, Kind};

/// Why a command failed, as the last object.
#[derive(Serialize)]
pub(crate) struct ErrorLine {
    error: ErrorJson,
}

#[derive(Serialize)]
struct ErrorJson {
    code: &'static str,
    exit: u8,
    message: String,
    next: Option<String>,
    problems: Vec<ProblemJson>,
}

/// A problem of a file.
#[derive(Serialize)]
pub(crate) struct ProblemJson {
    severity: String,
    file: Option<String>,
    line: Option<u32>,
    column: Option<u32>,
    path: String,
    message: String,
    advice: String,
}

pub(crate) fn error(failure: &Failure) -> ErrorLine {
    ErrorLine {
        error: ErrorJson {
            code: failure.kind.name(),
            exit: failure.kind.exit().code(),
            message: failure.chain(),
            next: said(&failure.next),
            problems: problems(&failure.problems),
        },
    }
}

pub(crate) fn usage_error(words: &str) -> ErrorLine {
    let message = words.trim().trim_start_matches("error: ");
    ErrorLine {
        error: ErrorJson {
            code: Kind::Usage.name(),
            exit: Exit::Usage.code(),
            message: message.lines().next().unwrap_or("").to_owned(),
            next: Some("cutover --help".to_owned()),
            problems: Vec::new(),
        },
    }
}

/// An exit code and what it says.
#[derive(Debug, Serialize)]
pub(crate) struct ExitJson {
    code: u8,
    name: &'static str,
    meaning: &'static str,
}

pub(crate) fn exit_codes() -> Vec<ExitJson> {
    let one = |exit: Exit| ExitJson {
        code: exit.code(),
        name: exit.name(),
        meaning: exit.meaning(),
    };
    Exit::ALL.into_iter().map(one).collect()
}

pub(crate) fn problems(problems: &[Problem]) -> Vec<ProblemJson> {
    let one = |problem: &Problem| ProblemJson {
        severity: problem.severity.to_string(),
        file: problem.at.as_ref().map(|at| at.file.to_string()),
        line: problem.at.as_ref().map(|at| at.line),
        column: problem.at.as_ref().map(|at| at.column),
        path: problem.path.clone(),
        message: problem.what.clone(),
        advice: problem.advice.clone(),
    };
    problems.iter().map(one).collect()
}

/// A text that was said.
fn said(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// A revision that there is.
fn revision(number: u64) -> Option<u64> {
    (number != 0).then_some(number)
}

/// A moment that is known.
fn moment(unix_millis: i64) -> Option<Timestamp> {
    (unix_millis != 0)
        .then(|| Timestamp::from_millisecond(unix_millis).ok())
        .flatten()
}

/// Seconds, with their fraction.
#[allow(
    clippy::cast_precision_loss,
    reason = "2^53 milliseconds are 285,000 years"
)]
fn seconds(millis: u64) -> f64 {
    millis as f64 / 1000.0
}

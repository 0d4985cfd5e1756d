//! One question to a replica, one answer: is it healthy right now?
//!
//! Nothing here repeats, waits between samples or draws conclusions; the loop
//! owns the schedule and the machine the verdict. Every sample ends within its
//! timeout. An idle host asks twenty replicas every ten seconds with no
//! measurable load, so there is no pool and no connection between two samples.

mod http;
mod smoke;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use cutover_core::spec::Check;
use tokio::net::TcpStream;

use crate::docker::{Docker, Error, Execution, State};

pub use smoke::smoke;

/// A listener of this host accepts within this, or it is not there.
const ACCEPTED_WITHIN: Duration = Duration::from_secs(2);

/// What one probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Answered as wanted.
    pub healthy: bool,
    /// In a few words, for people: `GET /healthz: 503 Service Unavailable`.
    pub evidence: String,
    /// From the question to the answer.
    pub took: Duration,
}

/// The replica that is asked.
#[derive(Clone, Copy, Debug)]
pub struct Replica<'a> {
    /// Its address on Cutover's network.
    pub address: Ipv4Addr,
    /// The name by which [`Docker`] knows it.
    pub container: &'a str,
}

/// Asks `replica` once. An engine that fails is an unhealthy sample that says so.
pub async fn sample(
    docker: &Docker,
    check: &Check,
    replica: Replica<'_>,
    timeout: Duration,
) -> Sample {
    let began = Instant::now();
    let asked = async {
        match check {
            Check::Http { path, port } => {
                http::probe(SocketAddr::from((replica.address, *port)), path).await
            }
            Check::Tcp { port } => tcp(SocketAddr::from((replica.address, *port))).await,
            Check::Exec { command } => {
                execute(docker, "exec check", replica.container, command, timeout).await
            }
            Check::Docker => healthcheck(docker, replica.container, timeout).await,
            Check::Running => running(docker, replica.container).await,
        }
    };
    // The engine is given a little longer than the command, so that it can say how that ended.
    let limit = match check {
        Check::Exec { .. } | Check::Docker => timeout + ENGINE_MARGIN,
        Check::Http { .. } | Check::Tcp { .. } | Check::Running => timeout,
    };
    let answer = match tokio::time::timeout(limit, asked).await {
        Ok(answer) => answer,
        Err(_elapsed) => Answer::no(format!(
            "{}: no answer within {}",
            Asked(check, replica),
            Short(timeout)
        )),
    };
    answer.after(began.elapsed())
}

/// Beyond the check's own timeout, for the engine's bookkeeping around a command.
const ENGINE_MARGIN: Duration = Duration::from_secs(2);

/// A sample before it is known how long it took.
struct Answer {
    healthy: bool,
    evidence: String,
}

impl Answer {
    fn yes(evidence: String) -> Self {
        Self {
            healthy: true,
            evidence,
        }
    }

    fn no(evidence: String) -> Self {
        Self {
            healthy: false,
            evidence,
        }
    }

    fn after(self, took: Duration) -> Sample {
        Sample {
            healthy: self.healthy,
            evidence: self.evidence,
            took,
        }
    }
}

async fn tcp(target: SocketAddr) -> Answer {
    match connect(target).await {
        Ok(_stream) => Answer::yes(format!("connect to {target}: ok")),
        Err(evidence) => Answer::no(evidence),
    }
}

/// A connection, or the evidence that there is none.
/// Whether anything accepts connections there.
pub async fn accepts(target: SocketAddr) -> bool {
    tokio::time::timeout(ACCEPTED_WITHIN, connect(target))
        .await
        .is_ok_and(|connected| connected.is_ok())
}

async fn connect(target: SocketAddr) -> Result<TcpStream, String> {
    let error = match TcpStream::connect(target).await {
        Ok(stream) => return Ok(stream),
        Err(error) => error,
    };
    use std::io::ErrorKind;
    let why = if error.kind() == ErrorKind::ConnectionRefused {
        "refused".to_owned()
    } else if matches!(
        error.kind(),
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable
    ) {
        "nobody has this address".to_owned()
    } else {
        error.to_string()
    };
    Err(format!("connect to {target}: {why}"))
}

/// Neither the command nor what it printed is evidence: a password may stand in both.
async fn execute(
    docker: &Docker,
    what: &str,
    container: &str,
    command: &[String],
    timeout: Duration,
) -> Answer {
    match docker.exec(container, command, timeout).await {
        Ok(Execution::Ended { code: 0, .. }) => Answer::yes(format!("{what} ended with 0")),
        Ok(Execution::Ended { code, .. }) => Answer::no(format!("{what} ended with {code}")),
        Ok(Execution::TooLong { .. }) => {
            Answer::no(format!("{what}: not done within {}", Short(timeout)))
        }
        Err(error) => Answer::no(format!("{what}: {}", last_cause(&error))),
    }
}

async fn healthcheck(docker: &Docker, container: &str, timeout: Duration) -> Answer {
    match docker.healthcheck_of(container).await {
        Ok(Some(command)) => execute(docker, "HEALTHCHECK", container, &command, timeout).await,
        Ok(None) => Answer::no("HEALTHCHECK: neither the service nor its image has one".to_owned()),
        Err(error) => Answer::no(format!("HEALTHCHECK: {}", last_cause(&error))),
    }
}

async fn running(docker: &Docker, container: &str) -> Answer {
    match docker.look(container).await {
        Ok(Some(found)) => match found.state {
            State::Running(_) => Answer::yes("running".to_owned()),
            State::Paused(_) => Answer::no("paused".to_owned()),
            State::Created(_) => Answer::no("not started".to_owned()),
            State::Exited(exit) if exit.out_of_memory => {
                Answer::no(format!("exited with {}, out of memory", exit.code))
            }
            State::Exited(exit) => Answer::no(format!("exited with {}", exit.code)),
            State::Dying => Answer::no("being removed".to_owned()),
        },
        Ok(None) => Answer::no("no such container".to_owned()),
        Err(error) => Answer::no(last_cause(&error)),
    }
}

/// What was asked, for an answer that never came.
struct Asked<'a>(&'a Check, Replica<'a>);

impl fmt::Display for Asked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Check::Http { path, .. } => write!(f, "GET {path}"),
            Check::Tcp { port } => write!(f, "connect to {}:{port}", self.1.address),
            Check::Exec { .. } => f.write_str("exec check"),
            Check::Docker => f.write_str("HEALTHCHECK"),
            Check::Running => f.write_str("asking the engine"),
        }
    }
}

/// A duration in the largest unit that tells it.
struct Short(Duration);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_millis() {
            millis if millis % 1000 == 0 => write!(f, "{} s", millis / 1000),
            millis => write!(f, "{millis} ms"),
        }
    }
}

/// At most `characters` of `text`, without what would garble a terminal.
fn shortened(text: &str, characters: usize) -> String {
    let mut short: String = text
        .chars()
        .filter(|c| !c.is_control())
        .take(characters)
        .collect();
    if text.chars().count() > characters {
        short.push('…');
    }
    short
}

fn last_cause(error: &Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

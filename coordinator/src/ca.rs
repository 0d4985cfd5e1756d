//! `ca status | begin | switch | end`: one CA takes over from another, a step at a time.
//!
//! A step changes files ([`succession`]); the coordinator takes it at its next start, when
//! every host connects anew and is asked to renew. What hosts hold is asked of the running
//! coordinator, by its page for this machine alone.
//!
//! Kept true: unless it is forced, no step leaves a host behind that the coordinator knows,
//! nor an operator whose certificate is recorded; a step that was taken is not taken twice.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use cutover_daemon::findings::Finding;
use cutover_proto::tls::{Fingerprint, Life};

use crate::config::Config;
use crate::owner::{self, Assumed};
use crate::pki::PkiError;
use crate::pki::holding::{Holdings, HostHolding};
use crate::pki::operators::{self, OperatorCertificate};
use crate::pki::succession::{self, Course, Stage};

/// The coordinator answers at once, or says that it can't.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// More than this is no answer.
const ANSWER_MOST: u64 = 64 << 20;
/// With less left, it is time for the next one: a fleet may have hosts that are away for long.
pub(crate) const LEFT_LEAST: Duration = Duration::from_secs(730 * DAY);
const DAY: u64 = 24 * 3600;
/// How a step is taken.
const RESTART: &str = "systemctl restart cutover-coordinator";

/// Why a step was not taken.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The CA's files.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The folder's owner.
    #[error("changing the CA in {}: taking the rights of the folder's owner; run this as root", folder.display())]
    Owner {
        /// Which folder.
        folder: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// There is nothing to switch to, or to end.
    #[error("no CA takes over: `cutover-coordinator ca begin` makes the next one")]
    NotBegun,
    /// It was not switched yet.
    #[error("the next CA makes no certificates yet: `cutover-coordinator ca switch` comes before")]
    NotSwitched,
    /// Nobody knows what hosts hold.
    #[error("could not ask the coordinator at {at} what hosts hold (start it, or use --force)")]
    Silent {
        /// Where.
        at: SocketAddr,
        /// What happened.
        #[source]
        source: io::Error,
    },
    /// The coordinator runs as it was before the last step.
    #[error("the coordinator that runs has not taken the step before: {RESTART}")]
    NotTaken,
    /// Somebody would be left behind.
    #[error("{0}")]
    Behind(String),
}

impl CaError {
    /// Well said, but not now.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Pki(_) | Self::Owner { .. } => false,
            Self::NotBegun
            | Self::NotSwitched
            | Self::Silent { .. }
            | Self::NotTaken
            | Self::Behind(_) => true,
        }
    }
}

/// Makes the next CA.
///
/// # Errors
/// When a file cannot be written; it can be repeated.
pub fn begin(config: &Config) -> Result<Vec<String>, CaError> {
    let now = SystemTime::now();
    there_is_one(config)?;
    let _owner = assume(config)?;
    let before = succession::course(&config.pki())?;
    let course = succession::begin(&config.pki(), now)?;
    let did = match before.stage {
        Stage::Settled => "the next CA is made, and will be believed beside the old one",
        Stage::Begun | Stage::Switched => "nothing was changed: that has begun",
    };
    let mut lines = vec![did.to_owned()];
    lines.extend(states(&course, now));
    if course.stage == Stage::Begun {
        lines.push(copy_again(config));
        lines.push(format!(
            "next: {RESTART}; hosts then fetch it by themselves"
        ));
        lines.push("then: cutover-coordinator ca switch, once every host has it".to_owned());
    }
    Ok(lines)
}

/// Lets the next CA make the certificates.
///
/// # Errors
/// When hosts do not believe it yet, or a file cannot be written; it can be repeated.
pub fn switch(config: &Config, force: bool) -> Result<Vec<String>, CaError> {
    let now = SystemTime::now();
    there_is_one(config)?;
    let _owner = assume(config)?;
    let before = succession::course(&config.pki())?;
    let (next, _) = before.next.ok_or(CaError::NotBegun)?;
    if before.stage == Stage::Begun && !force {
        may_switch(&ask(config.http())?, &next.to_string())?;
    }
    let course = succession::switch(&config.pki())?;
    let did = match before.stage {
        Stage::Begun => "the next CA makes the certificates of hosts and operators",
        Stage::Settled | Stage::Switched => "nothing was changed: it makes them already",
    };
    let mut lines = vec![did.to_owned()];
    lines.extend(states(&course, now));
    lines.push(format!("next: {RESTART}; hosts then renew by themselves"));
    lines.extend(operators_behind(config, &next.to_string(), now)?);
    lines.push("then: cutover-coordinator ca end, once everybody has a new one".to_owned());
    Ok(lines)
}

/// Lets the next CA be the only one.
///
/// # Errors
/// When somebody has no certificate of it yet, or a file cannot be written; it can be repeated.
pub fn end(config: &Config, force: bool) -> Result<Vec<String>, CaError> {
    let now = SystemTime::now();
    there_is_one(config)?;
    let _owner = assume(config)?;
    let before = succession::course(&config.pki())?;
    match (before.stage, before.next) {
        (Stage::Begun, _) => return Err(CaError::NotSwitched),
        (Stage::Switched, Some((next, _))) if !force => {
            let next = next.to_string();
            may_end(
                &ask(config.http())?,
                &next,
                &operators_behind(config, &next, now)?,
            )?;
        }
        (Stage::Settled | Stage::Switched, _) => {}
    }
    // Settled: perhaps the files of one that died are left.
    let course = succession::end(&config.pki())?;
    if before.stage == Stage::Settled {
        let mut lines = vec!["nothing was changed: there is one CA".to_owned()];
        lines.extend(status(config)?);
        return Ok(lines);
    }
    let mut lines = vec!["the old CA is over, and its key is gone".to_owned()];
    lines.extend(states(&course, now));
    lines.push(copy_again(config));
    lines.push(format!(
        "next: {RESTART}; hosts then forget the old one by themselves"
    ));
    lines.push("tokens that were made before open no more: make new ones".to_owned());
    Ok(lines)
}

/// Says what `ca status` says where there is no CA, before anything else fails for that.
fn there_is_one(config: &Config) -> Result<(), CaError> {
    if config.has_ca() {
        return Ok(());
    }
    succession::course(&config.pki())
        .map(drop)
        .map_err(CaError::from)
}

fn assume(config: &Config) -> Result<Option<Assumed>, CaError> {
    owner::assume(&config.state_dir).map_err(|source| CaError::Owner {
        folder: config.state_dir.clone(),
        source,
    })
}

/// How far it is.
///
/// # Errors
/// When the CA's files cannot be read.
pub fn status(config: &Config) -> Result<Vec<String>, CaError> {
    let now = SystemTime::now();
    let course = succession::course(&config.pki())?;
    let mut lines = states(&course, now);
    let holdings = match ask(config.http()) {
        Ok(holdings) => holdings,
        Err(CaError::Silent { at, source }) => {
            lines.push(format!(
                "hosts: not known; no coordinator answers at {at} ({source})"
            ));
            return Ok(lines);
        }
        Err(error) => return Err(error),
    };
    let count = holdings.hosts.len();
    let progress = |behind: &[&HostHolding], so: &str| {
        let so_far = count - behind.len();
        let mut text = format!("hosts: {so_far} of {count} {so}");
        if !behind.is_empty() {
            text.push_str(&format!("; not yet: {}", names(behind)));
        }
        text
    };
    let Some((next, _)) = course.next else {
        let behind = holdings.behind();
        lines.push(progress(
            &behind,
            "have its certificate and believe no other",
        ));
        if holdings.issuer != course.ca.0.to_string() || holdings.trusts.len() > 1 {
            lines.push(format!(
                "next: {RESTART}, where CAs were believed that are not any more"
            ));
        }
        return Ok(lines);
    };
    let next = next.to_string();
    let (step, behind, may) = if course.stage == Stage::Begun {
        let behind = holdings.unbelieving(&next);
        lines.push(progress(&behind, "believe the next CA"));
        ("switch", behind, may_switch(&holdings, &next))
    } else {
        let behind = holdings.uncertified(&next);
        lines.push(progress(&behind, "have a certificate of the next CA"));
        let operators = operators_behind(config, &next, now)?;
        lines.extend(operators.clone());
        ("end", behind, may_end(&holdings, &next, &operators))
    };
    lines.push(match may {
        Ok(()) => format!("next: cutover-coordinator ca {step}"),
        Err(CaError::NotTaken) => format!("next: {RESTART}"),
        Err(_) if behind.is_empty() => "next: the operators' certificates".to_owned(),
        Err(_) => {
            "next: wait for these hosts; `cutover host rm` takes out one that stays away".to_owned()
        }
    });
    Ok(lines)
}

/// The same, for programs.
///
/// # Errors
/// When the CA's files cannot be read.
pub fn json(config: &Config) -> Result<String, CaError> {
    let course = succession::course(&config.pki())?;
    let seconds = |at: SystemTime| {
        let since = at.duration_since(SystemTime::UNIX_EPOCH);
        since.unwrap_or_default().as_secs()
    };
    let ca = |(ca, life): (Fingerprint, Life)| serde_json::json!({"sha256": ca.to_string(), "until_unix_seconds": seconds(life.until)});
    let stage = match course.stage {
        Stage::Settled => "settled",
        Stage::Begun => "begun",
        Stage::Switched => "switched",
    };
    let operators = operators::newest(&config.pki(), SystemTime::now())?;
    let report = serde_json::json!({
        "stage": stage,
        "ca": ca(course.ca),
        "next": course.next.map(ca),
        // null: no coordinator answers.
        "coordinator": ask(config.http()).ok(),
        "operators": operators.into_values().collect::<Vec<_>>(),
    });
    Ok(report.to_string())
}

/// What a doctor says of it.
#[must_use]
pub fn findings(config: &Config, now: SystemTime) -> Vec<Finding> {
    let Ok(course) = succession::course(&config.pki()) else {
        return Vec::new(); // said elsewhere
    };
    let last = course.next.map_or(course.ca.1, |(_, life)| life);
    let mut found = vec![match left(&last, now) {
        _ if now < last.from => Finding::error(
            "its CA begins in the future: the clock here is wrong",
            "timedatectl set-ntp true",
        ),
        Some(left) if left >= LEFT_LEAST => {
            Finding::ok(format!("its CA holds for {} days", days(left)))
        }
        Some(left) => Finding::warn(
            format!(
                "its CA holds for {} days; after that, nobody believes anybody",
                days(left)
            ),
            "cutover-coordinator ca begin; /usr/share/doc/cutover-coordinator/operating.md.gz has the steps (\"A new CA\")",
        ),
        None => Finding::error(
            "its CA has expired, or the clock here is wrong",
            "timedatectl set-ntp true; else cutover-coordinator init in a new folder, and every host enrols anew",
        ),
    }];
    if course.next.is_some() {
        let lines = status(config).unwrap_or_default();
        let hosts = lines.iter().find(|line| line.starts_with("hosts: "));
        let next = lines.iter().find_map(|line| line.strip_prefix("next: "));
        found.push(Finding::warn(
            format!(
                "one CA takes over from another; {}",
                hosts.map_or("", String::as_str)
            ),
            next.unwrap_or("cutover-coordinator ca status"),
        ));
    }
    found
}

fn may_switch(holdings: &Holdings, next: &str) -> Result<(), CaError> {
    if !holdings.trusts.contains(next) {
        return Err(CaError::NotTaken);
    }
    let behind = holdings.unbelieving(next);
    if behind.is_empty() {
        return Ok(());
    }
    Err(CaError::Behind(format!(
        "these hosts do not believe the next CA yet: {}; wait for them, `cutover host rm` those that stay away, or use --force",
        names(&behind)
    )))
}

fn may_end(holdings: &Holdings, next: &str, operators: &[String]) -> Result<(), CaError> {
    if holdings.issuer != next {
        return Err(CaError::NotTaken);
    }
    let behind = holdings.uncertified(next);
    if !behind.is_empty() {
        return Err(CaError::Behind(format!(
            "these hosts have no certificate of the next CA yet: {}; wait for them, `cutover host rm` those that stay away, or use --force: they must enrol anew then",
            names(&behind)
        )));
    }
    if !operators.is_empty() {
        return Err(CaError::Behind(format!(
            "{}; or use --force",
            operators.join("; ")
        )));
    }
    Ok(())
}

/// Operators whose newest certificate ends with the old CA, a line each.
fn operators_behind(config: &Config, next: &str, now: SystemTime) -> Result<Vec<String>, CaError> {
    let newest = operators::newest(&config.pki(), now)?;
    let old = newest.into_values().filter(|line| line.ca != next);
    let words = |line: OperatorCertificate| {
        let name = line.operator;
        format!(
            "the operator {name} has a certificate of the old CA: cutover-coordinator operator {name}"
        )
    };
    Ok(old.map(words).collect())
}

fn copy_again(config: &Config) -> String {
    format!(
        "make a new copy of {} for a safe place: an older one does not have this CA",
        config.pki().display()
    )
}

fn names(hosts: &[&HostHolding]) -> String {
    let name = |host: &&HostHolding| match host.state.as_str() {
        "" | "ready" => host.host.clone(),
        state => format!("{} ({state})", host.host),
    };
    let names: Vec<String> = hosts.iter().map(name).collect();
    names.join(", ")
}

fn states(course: &Course, now: SystemTime) -> Vec<String> {
    let holds = |life: &Life| match left(life, now) {
        Some(left) => format!("holds for {} days", days(left)),
        None => "has expired".to_owned(),
    };
    let (ca, life) = &course.ca;
    let Some((next, next_life)) = &course.next else {
        return vec![format!("CA {ca}: {}", holds(life))];
    };
    let (old, new) = if course.stage == Stage::Begun {
        ("makes the certificates", "is believed beside it")
    } else {
        ("is believed still", "makes the certificates")
    };
    vec![
        format!("old CA {ca}: {}, {old}", holds(life)),
        format!("next CA {next}: {}, {new}", holds(next_life)),
    ]
}

fn left(life: &Life, now: SystemTime) -> Option<Duration> {
    life.until.duration_since(now).ok()
}

fn days(left: Duration) -> u64 {
    left.as_secs() / DAY
}

/// What the running coordinator says that hosts hold.
fn ask(at: SocketAddr) -> Result<Holdings, CaError> {
    let asked = || -> io::Result<Holdings> {
        let mut stream = TcpStream::connect_timeout(&at, ANSWER_WITHIN)?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        stream.set_write_timeout(Some(ANSWER_WITHIN))?;
        stream.write_all(b"GET /ca HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
        let mut answer = String::new();
        stream.take(ANSWER_MOST).read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.lines().next().unwrap_or("");
        if status.split(' ').nth(1) != Some("200") {
            return Err(io::Error::other(format!("it said {status:?}")));
        }
        Ok(serde_json::from_str(body)?)
    };
    asked().map_err(|source| CaError::Silent { at, source })
}

//! The socket for people on this host: a line of JSON in, a line of JSON out.
//!
//! It works without a coordinator (3 a.m.). Its folder is root's alone; who may
//! open it may do everything that it offers.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use cutover_core::ServiceId;
use cutover_proto::v1;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::helm::Wake;

/// A question is one line of at most so many bytes.
const MAX_LINE: u64 = 4096;
/// A question must be asked, and its answer taken, within this.
const WITHIN: Duration = Duration::from_secs(5);

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// Where every service stands.
    Status,
    /// Bring the old revision back.
    Revert(ServiceId),
    /// Nothing of it moves by itself, or again may.
    Hold(ServiceId, bool),
}

/// A question as it is written.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Line {
    Status {},
    Revert { service: String },
    Hold { service: String, hold: bool },
}

/// The answer to everything but a status.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum Said {
    Done(String),
    Refused(String),
    NotHere(String),
}

/// Why something is not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Not {
    /// No such service runs here.
    Here(ServiceId),
    /// It is refused, in words.
    Allowed(String),
}

impl From<String> for Not {
    fn from(why: String) -> Self {
        Self::Allowed(why)
    }
}

/// Where this host stands, as JSON; names are stable.
#[derive(Debug, Deserialize, Serialize)]
pub struct Status {
    /// There is a stream to the coordinator.
    pub connected: bool,
    /// Every service.
    pub services: Vec<ServiceStatus>,
}

/// Where one service stands on this host.
#[derive(Debug, Deserialize, Serialize)]
pub struct ServiceStatus {
    /// `APP/SERVICE`.
    pub service: String,
    /// The current revision; 0: none.
    pub revision: u64,
    /// What nginx sends where.
    pub route: String,
    /// Replicas that should run, and that are proved.
    pub replicas_wanted: u32,
    /// See `replicas_wanted`.
    pub replicas_proved: u32,
    /// Nothing moves by itself.
    pub hold: bool,
    /// The open swap's phase; empty: none is open.
    pub phase: String,
    /// The open swap's candidate; 0: none.
    pub candidate: u64,
    /// Why the last swap went back, or goes back.
    pub why: Option<String>,
    /// What goes wrong, and is tried again.
    pub trouble: Option<String>,
    /// What a person should know of it.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Earlier revisions that can come back at once.
    pub parked: Vec<u64>,
    /// Its containers.
    pub containers: Vec<ContainerStatus>,
}

/// One container.
#[derive(Debug, Deserialize, Serialize)]
pub struct ContainerStatus {
    /// Its name.
    pub name: String,
    /// Of which revision.
    pub revision: u64,
    /// blue or green.
    pub slot: String,
    /// running, created, exited CODE, …
    pub state: String,
    /// Its address.
    pub address: String,
    /// Seconds since it was started; 0: it does not run.
    pub up_seconds: u64,
}

/// Serves the socket until the loop is gone.
pub(crate) async fn serve(path: &Path, wakes: mpsc::Sender<Wake>) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        tokio::fs::create_dir_all(folder).await?;
    }
    match tokio::fs::remove_file(path).await {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(path)?;
    tokio::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let wakes = wakes.clone();
        tokio::spawn(async move {
            if let Ok(Err(error)) = timeout(WITHIN, answer(stream, wakes)).await {
                tracing::debug!(%error, "a question on the local socket was not answered");
            }
        });
    }
}

async fn answer(stream: UnixStream, wakes: mpsc::Sender<Wake>) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    BufReader::new(read.take(MAX_LINE))
        .read_line(&mut line)
        .await?;
    let text = match parse(&line) {
        Ok(ask) => {
            let (send, answer) = oneshot::channel();
            let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
            wakes
                .send(Wake::Asked(ask, send))
                .await
                .map_err(|_| gone())?;
            answer.await.map_err(|_| gone())?
        }
        Err(why) => said(Err(why.into())),
    };
    write.write_all(text.as_bytes()).await?;
    write.write_all(b"\n").await?;
    write.shutdown().await
}

fn parse(line: &str) -> Result<Ask, String> {
    let service = |text: String| text.parse::<ServiceId>().map_err(|error| error.to_string());
    Ok(
        match serde_json::from_str(line).map_err(|error| format!("not understood: {error}"))? {
            Line::Status {} => Ask::Status,
            Line::Revert { service: name } => Ask::Revert(service(name)?),
            Line::Hold {
                service: name,
                hold,
            } => Ask::Hold(service(name)?, hold),
        },
    )
}

/// The answer to something that was asked to be done.
pub(crate) fn said(result: Result<String, Not>) -> String {
    let said = match result {
        Ok(done) => Said::Done(done),
        Err(Not::Allowed(why)) => Said::Refused(why),
        Err(Not::Here(service)) => Said::NotHere(format!("{service} is not on this host")),
    };
    serde_json::to_string(&said).unwrap_or_default()
}

/// Where every service stands.
pub(crate) fn status(connected: bool, accounts: &[(ServiceId, v1::BerthReport)]) -> String {
    let services = accounts
        .iter()
        .map(|(service, report)| one(service, report))
        .collect();
    serde_json::to_string(&Status {
        connected,
        services,
    })
    .unwrap_or_default()
}

fn one(service: &ServiceId, report: &v1::BerthReport) -> ServiceStatus {
    let route = report
        .route
        .and_then(|route| cutover_core::Route::try_from(route).ok());
    let swap = report.swap.as_ref();
    let open = swap.filter(|swap| !swap.phase.is_empty());
    ServiceStatus {
        service: service.to_string(),
        revision: report.current,
        route: route.map_or_else(String::new, |route| route.to_string()),
        replicas_wanted: report.replicas_wanted,
        replicas_proved: report.replicas_proved,
        hold: report.hold,
        phase: open.map_or_else(String::new, |swap| swap.phase.clone()),
        candidate: open.map_or(0, |swap| swap.candidate),
        why: swap.and_then(|swap| swap.why.clone()),
        trouble: open.and_then(|swap| swap.trouble.clone()),
        warnings: report.warnings.clone(),
        parked: report.parked.clone(),
        containers: report.containers.iter().map(container).collect(),
    }
}

fn container(container: &v1::ContainerReport) -> ContainerStatus {
    ContainerStatus {
        name: container.name.clone(),
        revision: container.revision,
        slot: if container.green { "green" } else { "blue" }.to_owned(),
        state: container.state.clone(),
        address: container.address.clone(),
        up_seconds: container.up_seconds,
    }
}

/// Why the agent could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody answers.
    #[error(
        "could not ask the agent at {path} (as root; `systemctl start cutover-agent` if it does not run)"
    )]
    Unreachable {
        /// The socket.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// It was asked, and what came of it is not known.
    #[error(
        "asked the agent at {path}, and no answer came: it may have been done; `cutover-agent status` says"
    )]
    Unanswered {
        /// The socket.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// There is no such service here.
    #[error("{0}")]
    NotHere(String),
    /// It answered something else.
    #[error("the agent's answer makes no sense; is it another version than this program?")]
    Nonsense(#[source] serde_json::Error),
    /// It will not.
    #[error("refused: {0}")]
    Refused(String),
}

/// Asks the agent where everything stands.
///
/// # Errors
/// When it does not answer.
pub async fn ask_status(socket: &Path) -> Result<Status, AskError> {
    let text = exchange(socket, &Line::Status {}).await?;
    serde_json::from_str(&text).map_err(AskError::Nonsense)
}

/// Asks the agent to bring the old revision back; what it says of it.
///
/// # Errors
/// When it does not answer, or refuses.
pub async fn ask_revert(socket: &Path, service: &ServiceId) -> Result<String, AskError> {
    done(
        &exchange(
            socket,
            &Line::Revert {
                service: service.to_string(),
            },
        )
        .await?,
    )
}

/// Asks the agent to hold a service, or to let it go; what it says of it.
///
/// # Errors
/// When it does not answer, or refuses.
pub async fn ask_hold(socket: &Path, service: &ServiceId, hold: bool) -> Result<String, AskError> {
    done(
        &exchange(
            socket,
            &Line::Hold {
                service: service.to_string(),
                hold,
            },
        )
        .await?,
    )
}

fn done(text: &str) -> Result<String, AskError> {
    match serde_json::from_str(text).map_err(AskError::Nonsense)? {
        Said::Done(done) => Ok(done),
        Said::Refused(why) => Err(AskError::Refused(why)),
        Said::NotHere(why) => Err(AskError::NotHere(why)),
    }
}

async fn exchange(socket: &Path, line: &Line) -> Result<String, AskError> {
    let path = || socket.display().to_string();
    let ask = async {
        let mut stream = UnixStream::connect(socket).await?;
        let line = serde_json::to_string(line).map_err(io::Error::from)?;
        stream.write_all(format!("{line}\n").as_bytes()).await?;
        Ok(stream)
    };
    let mut stream = in_time(ask).await.map_err(|source| AskError::Unreachable {
        path: path(),
        source,
    })?;
    let answer = async {
        let mut text = String::new();
        match stream.read_to_string(&mut text).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(text),
        }
    };
    in_time(answer)
        .await
        .map_err(|source| AskError::Unanswered {
            path: path(),
            source,
        })
}

async fn in_time<T>(step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(WITHIN, step)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

//! Everything that can wake the loop, and what a question may be answered with.
//!
//! Keeps true: each question carries the one place where its answer goes; who
//! stops waiting takes nothing back.

use std::collections::BTreeSet;
use std::time::SystemTime;

use cutover_core::{HostId, RolloutId};
use cutover_proto::tls::{Fingerprint, Serial};
use cutover_proto::v1;
use tokio::sync::{mpsc, oneshot, watch};

use crate::pki::holding::Holdings;
use crate::pki::{Ask, Given, HostRecord, RegistryError};
use crate::roster::RosterEvent;

/// So many questions may wait for the loop; more wait for a place.
pub const QUESTIONS: usize = 256;
/// So many lines of a log may wait for the operator who reads them.
pub const LOG_LINES: usize = 4096;

/// What can wake the loop.
#[derive(Debug)]
pub enum Wake {
    /// A host came, spoke or left.
    Roster(RosterEvent),
    /// An operator asks.
    Asked(Question),
    /// A gate asks who a machine may be.
    Door(DoorAsk),
    /// Nothing but time passed.
    Ticked,
    /// The process is asked to end.
    Stop,
}

/// Where an answer goes.
pub type Reply<T> = oneshot::Sender<Result<T, Refusal>>;

/// What operators ask. `who` is the name in the operator's certificate.
#[derive(Debug)]
#[allow(missing_docs)] // each is the method of `operator.proto` by its name
pub enum Question {
    Deploy(String, Box<v1::DeployRequest>, Reply<v1::DeployResponse>),
    Plan(String, Box<v1::DeployRequest>, Reply<v1::PlanResponse>),
    Rollback(String, v1::RollbackRequest, Reply<v1::DeployResponse>),
    Remove(String, v1::RemoveRequest, Reply<v1::DeployResponse>),
    DrainHost(String, v1::HostRequest, Reply<v1::DeployResponse>),
    Watch(Vec<String>, Reply<Vec<Watched>>),
    ListRollouts(v1::ListRolloutsRequest, Reply<v1::ListRolloutsResponse>),
    ShowRollout(String, Reply<v1::RolloutView>),
    Steer(String, Steer, v1::RolloutRequest, Reply<v1::RolloutView>),
    Status(v1::StatusRequest, Reply<v1::StatusResponse>),
    Containers(v1::ServiceSelector, Reply<v1::ContainersResponse>),
    History(v1::ServiceSelector, Reply<v1::HistoryResponse>),
    Events(Reply<watch::Receiver<u64>>),
    Logs(v1::LogsQuery, Reply<mpsc::Receiver<v1::LogLine>>),
    MakeToken(String, v1::MakeTokenRequest, Reply<v1::MakeTokenResponse>),
    ListHosts(v1::ListHostsRequest, Reply<v1::ListHostsResponse>),
    LabelHost(String, v1::LabelHostRequest, Reply<v1::HostView>),
    CordonHost(String, v1::CordonHostRequest, Reply<v1::HostView>),
    RemoveHost(String, v1::HostRequest, Reply<v1::HostView>),
    Doctor(Reply<v1::DoctorResponse>),
    /// Which CAs hosts hold; asked by this machine alone.
    Holdings(Reply<Holdings>),
}

/// What a person may say to an open rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steer {
    /// Not further.
    Pause,
    /// Go on.
    Resume,
    /// Back.
    Abort,
}

/// A rollout that somebody watches.
#[derive(Debug)]
pub enum Watched {
    /// It goes on; the newest view supersedes.
    Open(watch::Receiver<v1::RolloutView>),
    /// It is over.
    Over(Box<v1::RolloutView>),
}

/// What the gates ask; see [`crate::pki::Registry`].
#[derive(Debug)]
pub enum DoorAsk {
    /// A machine wants to become a host.
    Admit {
        /// What it says.
        ask: Box<Ask>,
        /// When it asked.
        now: SystemTime,
        /// Where the decision goes.
        reply: oneshot::Sender<Result<HostRecord, RegistryError>>,
    },
    /// A host wants a new certificate.
    Renew {
        /// Which.
        host: HostId,
        /// Of its public key.
        key: Fingerprint,
        /// The certificate that it will get.
        given: Given,
        /// When it asked.
        now: SystemTime,
        /// Where the decision goes.
        reply: oneshot::Sender<Result<HostRecord, RegistryError>>,
    },
    /// A machine speaks for a host.
    Speak {
        /// Which.
        host: HostId,
        /// The machine.
        machine_id: String,
        /// The certificate that it holds.
        shown: Serial,
        /// Where the decision goes.
        reply: oneshot::Sender<Result<HostRecord, RegistryError>>,
    },
}

/// Why an operator does not get what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// What was asked makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// Well-formed, but not now, or never.
    #[error("{0}")]
    Refused(String),
    /// Another rollout of the service is open.
    #[error("{service}: the rollout {open} is open; wait for it, or use --if-busy wait|supersede")]
    Busy {
        /// Which service.
        service: String,
        /// Which rollout.
        open: RolloutId,
    },
    /// The store cannot be read.
    #[error("reading the store: {0}")]
    Store(String),
    /// The coordinator stops.
    #[error("the coordinator stops")]
    Stopping,
}

impl Refusal {
    /// Named things that do not exist.
    pub(super) fn unknown(what: &str, name: &str, known: &BTreeSet<String>) -> Self {
        if known.is_empty() {
            return Self::NotFound(format!("there is no {what} {name:?}"));
        }
        let some: Vec<&str> = known.iter().map(String::as_str).take(10).collect();
        Self::NotFound(format!(
            "there is no {what} {name:?}; known: {}",
            some.join(", ")
        ))
    }
}

//! Why a session is not opened, or ends: the last that an agent hears.

use std::net::SocketAddr;

use cutover_core::HostId;
use cutover_proto::v1::{Refused, RefusedReason, ToAgent, to_agent};
use cutover_proto::{OLDEST_PROTOCOL, PROTOCOL};

/// A reason and its words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Farewell {
    reason: RefusedReason,
    text: String,
}

impl Farewell {
    fn new(reason: RefusedReason, text: impl Into<String>) -> Self {
        Self {
            reason,
            text: text.into(),
        }
    }

    /// The host is no more.
    #[must_use]
    pub fn removed(host: &HostId) -> Self {
        Self::new(
            RefusedReason::Removed,
            format!("the host {host} was removed"),
        )
    }

    /// Two machines; `why` names them.
    #[must_use]
    pub fn quarantined(why: impl Into<String>) -> Self {
        Self::new(RefusedReason::Quarantined, why)
    }

    pub(super) fn unknown(why: String) -> Self {
        Self::new(RefusedReason::Removed, why)
    }

    pub(super) fn replaced(by: SocketAddr) -> Self {
        Self::new(
            RefusedReason::Replaced,
            format!("a newer session of this host, from {by}, took its place"),
        )
    }

    pub(super) fn overflow(waiting: usize) -> Self {
        Self::new(
            RefusedReason::Overflow,
            format!("the agent does not read: {waiting} messages wait for it"),
        )
    }

    pub(super) fn shutting_down() -> Self {
        Self::new(RefusedReason::ShuttingDown, "the coordinator stops")
    }

    pub(super) fn certificate_expired() -> Self {
        Self::new(
            RefusedReason::CertificateExpired,
            "the certificate of this connection has expired",
        )
    }

    pub(super) fn unavailable() -> Self {
        Self::new(
            RefusedReason::Unavailable,
            "the coordinator cannot read what it knows of this host; come back",
        )
    }

    pub(super) fn bad_hello(text: impl Into<String>) -> Self {
        Self::new(RefusedReason::BadHello, text)
    }

    /// Refuses protocols that have nothing in common with ours.
    pub(super) fn of_protocol(newest: u32, oldest: u32, version: &str) -> Option<Self> {
        let ours = format!(
            "this coordinator ({}) speaks {OLDEST_PROTOCOL} to {PROTOCOL}",
            env!("CARGO_PKG_VERSION")
        );
        if newest < OLDEST_PROTOCOL {
            let text = format!(
                "the agent ({version:?}) speaks protocol {oldest} to {newest}, {ours}: upgrade the agent"
            );
            Some(Self::new(RefusedReason::AgentTooOld, text))
        } else if oldest > PROTOCOL {
            let text = format!(
                "the agent ({version:?}) speaks protocol {oldest} to {newest}, {ours}: upgrade the coordinator"
            );
            Some(Self::new(RefusedReason::CoordinatorTooOld, text))
        } else {
            None
        }
    }

    /// The agent went by itself; it is not told.
    pub(super) fn left(text: impl Into<String>) -> Self {
        Self::new(RefusedReason::Unspecified, text)
    }

    /// Whether the peer may not stay connected, whatever it does.
    pub(super) fn is_final(&self) -> bool {
        match self.reason {
            RefusedReason::Removed | RefusedReason::Quarantined | RefusedReason::Overflow => true,
            RefusedReason::Unspecified
            | RefusedReason::Replaced
            | RefusedReason::AgentTooOld
            | RefusedReason::CoordinatorTooOld
            | RefusedReason::BadHello
            | RefusedReason::ShuttingDown
            | RefusedReason::CertificateExpired
            | RefusedReason::Unavailable => false,
        }
    }

    /// Why.
    #[must_use]
    pub fn reason(&self) -> RefusedReason {
        self.reason
    }

    pub(super) fn message(&self) -> ToAgent {
        let refused = Refused {
            reason: self.reason.into(),
            text: self.text.clone(),
        };
        ToAgent {
            what: Some(to_agent::What::Refused(refused)),
        }
    }
}

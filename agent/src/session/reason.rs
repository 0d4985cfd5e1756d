//! Why there is no session, in words that a person can act on.

use std::error::Error;
use std::time::Duration;

use cutover_proto::tls::{CertificateRefusal, DialError, refusal_in};
use cutover_proto::v1::{Refused, RefusedReason};
use tonic::Code;

/// Why there is no session.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// Nobody answers there.
    #[error("the coordinator cannot be reached: {0}")]
    Unreachable(String),
    /// Whoever answers there has a certificate of a CA that is not ours.
    #[error("this is not our coordinator: {0}")]
    UnknownCa(String),
    /// Our certificate has expired (it is being renewed), or a clock is wrong.
    #[error(
        "the coordinator says that our certificate has expired; is the clock right? It is renewed for 30 days after its end"
    )]
    CertificateExpired,
    /// Our certificate was taken back: the host was removed.
    #[error(
        "the coordinator says that our certificate was revoked: this host was removed; to enrol it again, remove the agent's \
         `membership` folder, then `cutover-agent enroll` with a new token"
    )]
    Revoked,
    /// The coordinator does not like our certificate for another reason.
    #[error("the coordinator refused our certificate: {0}")]
    CertificateRefused(String),
    /// The agent and the coordinator have no protocol in common.
    #[error("agent and coordinator do not understand each other: {0}")]
    Protocol(String),
    /// The host was removed.
    #[error("the coordinator does not know this host any more: {0}")]
    Removed(String),
    /// Two machines are this host.
    #[error("two machines speak for this host, a person must decide: {0}")]
    Quarantined(String),
    /// A newer session of this host took our place.
    #[error("another agent runs as this host: {0}")]
    Replaced(String),
    /// The coordinator refused for a reason of its own.
    #[error("the coordinator refused: {0}")]
    Refused(String),
    /// The coordinator was stopped; it comes back.
    #[error("the coordinator stops")]
    ShuttingDown,
    /// It took the connection, and said nothing.
    #[error("the coordinator did not answer within {} s", .0.as_secs())]
    Silent(Duration),
    /// The stream broke.
    #[error("the connection was lost: {0}")]
    Lost(String),
}

impl Reason {
    pub(super) fn of_dial(error: &DialError) -> Self {
        match error {
            DialError::Refused { reason, .. } => Self::of_refusal(reason),
            DialError::UnknownCa { .. }
            | DialError::WrongFingerprint { .. }
            | DialError::WrongName { .. }
            | DialError::ServerExpired { .. }
            | DialError::NotCoordinator { .. }
            | DialError::Nobody { .. } => Self::UnknownCa(chain(error)),
            DialError::Unreachable { .. }
            | DialError::TimedOut { .. }
            | DialError::Tls { .. }
            | DialError::Http { .. } => Self::Unreachable(chain(error)),
        }
    }

    pub(super) fn of_refusal(refusal: &CertificateRefusal) -> Self {
        match refusal {
            CertificateRefusal::Expired => Self::CertificateExpired,
            CertificateRefusal::Revoked => Self::Revoked,
            CertificateRefusal::Missing
            | CertificateRefusal::UnknownCa
            | CertificateRefusal::Other(_) => Self::CertificateRefused(refusal.to_string()),
        }
    }

    pub(super) fn of_status(status: &tonic::Status) -> Self {
        if let Some(refusal) = status.source().and_then(refusal_in) {
            return Self::of_refusal(&refusal);
        }
        #[allow(clippy::wildcard_enum_match_arm)]
        // all others tell nothing: a broken stream is Unknown
        match status.code() {
            Code::PermissionDenied | Code::Unauthenticated => {
                Self::Refused(status.message().to_owned())
            }
            Code::Unimplemented => {
                Self::Protocol("the coordinator does not know sessions".to_owned())
            }
            _ => Self::Lost(status.message().to_owned()),
        }
    }

    pub(super) fn of_refused(refused: Refused) -> Self {
        let reason = refused.reason();
        let text = refused.text;
        match reason {
            RefusedReason::Replaced => Self::Replaced(text),
            RefusedReason::Removed => Self::Removed(text),
            RefusedReason::Quarantined => Self::Quarantined(text),
            RefusedReason::AgentTooOld | RefusedReason::CoordinatorTooOld => Self::Protocol(text),
            RefusedReason::ShuttingDown => Self::ShuttingDown,
            RefusedReason::CertificateExpired => Self::CertificateExpired,
            RefusedReason::Unspecified
            | RefusedReason::BadHello
            | RefusedReason::Overflow
            | RefusedReason::Unavailable => Self::Refused(text),
        }
    }

    /// Whether only a person can change it: then there is no hurry to try again.
    #[must_use]
    pub fn needs_a_person(&self) -> bool {
        match self {
            Self::UnknownCa(_)
            | Self::Revoked
            | Self::CertificateRefused(_)
            | Self::Protocol(_)
            | Self::Removed(_)
            | Self::Quarantined(_)
            | Self::Replaced(_) => true,
            Self::Unreachable(_)
            | Self::CertificateExpired
            | Self::Refused(_)
            | Self::ShuttingDown
            | Self::Silent(_)
            | Self::Lost(_) => false,
        }
    }
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

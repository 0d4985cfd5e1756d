//! Why there is no connection, in words; and what a TLS alert means.

use std::error::Error;
use std::io;

use rustls::{AlertDescription, CertificateError};

use super::dial::CONNECT_WITHIN;
use super::pin::WrongFingerprint;
use super::{Address, Fingerprint};
use crate::identity::{Identity, IdentityError};

/// Why a server does not believe our certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateRefusal {
    /// None was shown.
    #[error("it wants a certificate, and none was shown")]
    Missing,
    /// Its time is over, or has not begun.
    #[error("our certificate has expired, or one of the two clocks is wrong")]
    Expired,
    /// It was taken back.
    #[error("our certificate was revoked")]
    Revoked,
    /// Another CA made it.
    #[error("our certificate is not from its CA")]
    UnknownCa,
    /// Anything else.
    #[error("it refused our certificate ({0})")]
    Other(String),
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// No name, no route, nobody listening.
    #[error("connecting to {address}")]
    Unreachable {
        /// Where to.
        address: Address,
        /// What the network said.
        #[source]
        source: io::Error,
    },
    /// Nothing came back in time.
    #[error("connecting to {address}: no answer within {} s", CONNECT_WITHIN.as_secs())]
    TimedOut {
        /// Where to.
        address: Address,
    },
    /// The server's certificate is from a CA that is not ours.
    #[error("{address} is not our coordinator: its certificate is from an unknown CA")]
    UnknownCa {
        /// Where to.
        address: Address,
    },
    /// The token names another CA.
    #[error(
        "{address} is not the coordinator that made the token: its CA does not have the fingerprint {fingerprint}"
    )]
    WrongFingerprint {
        /// Where to.
        address: Address,
        /// What the token says.
        fingerprint: Fingerprint,
    },
    /// The server's certificate is made for other names.
    #[error("the certificate of {address} was not made for this address")]
    WrongName {
        /// Where to.
        address: Address,
    },
    /// The server's certificate is over.
    #[error("the certificate of {address} has expired, or one of the two clocks is wrong")]
    ServerExpired {
        /// Where to.
        address: Address,
    },
    /// A certificate of our CA, but not the coordinator's.
    #[error("{address} is not a coordinator but {who}")]
    NotCoordinator {
        /// Where to.
        address: Address,
        /// Who answered.
        who: Identity,
    },
    /// A certificate of our CA that names nobody.
    #[error("reading who {address} is")]
    Nobody {
        /// Where to.
        address: Address,
        /// What is wrong with it.
        #[source]
        source: IdentityError,
    },
    /// The server refused us.
    #[error("{address} refused us: {reason}")]
    Refused {
        /// Where to.
        address: Address,
        /// Why.
        reason: CertificateRefusal,
    },
    /// The handshake failed in another way.
    #[error("speaking TLS with {address}")]
    Tls {
        /// Where to.
        address: Address,
        /// What happened.
        #[source]
        source: io::Error,
    },
    /// HTTP/2 did not come up.
    #[error("speaking HTTP/2 with {address}")]
    Http {
        /// Where to.
        address: Address,
        /// What happened.
        #[source]
        source: tonic::transport::Error,
    },
}

impl DialError {
    /// What a failed handshake means.
    pub(super) fn of_handshake(address: Address, error: io::Error) -> Self {
        let Some(tls) = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>())
        else {
            return Self::Tls {
                address,
                source: error,
            };
        };
        if let Some(reason) = refusal_of(tls) {
            return Self::Refused { address, reason };
        }
        let rustls::Error::InvalidCertificate(certificate) = tls else {
            return Self::Tls {
                address,
                source: error,
            };
        };
        if let CertificateError::Other(other) = certificate
            && let Some(WrongFingerprint(fingerprint)) = other.0.downcast_ref()
        {
            return Self::WrongFingerprint {
                address,
                fingerprint: *fingerprint,
            };
        }
        #[allow(clippy::wildcard_enum_match_arm)] // theirs, and it grows
        match certificate {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                Self::UnknownCa { address }
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Self::WrongName { address }
            }
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => Self::ServerExpired { address },
            _ => Self::Tls {
                address,
                source: error,
            },
        }
    }
}

/// The refusal of a certificate anywhere in an error's chain, if that is what it is about.
#[must_use]
pub fn refusal_in(error: &(dyn Error + 'static)) -> Option<CertificateRefusal> {
    let mut next = Some(error);
    while let Some(error) = next {
        let inner = match error.downcast_ref::<io::Error>() {
            Some(io) => io
                .get_ref()
                .and_then(|inner| inner.downcast_ref::<rustls::Error>()),
            None => error.downcast_ref::<rustls::Error>(),
        };
        if let Some(reason) = inner.and_then(refusal_of) {
            return Some(reason);
        }
        if let Some(DialError::Refused { reason, .. }) = error.downcast_ref() {
            return Some(reason.clone());
        }
        next = error.source();
    }
    None
}

#[allow(clippy::wildcard_enum_match_arm)] // theirs, and they grow
fn refusal_of(error: &rustls::Error) -> Option<CertificateRefusal> {
    let rustls::Error::AlertReceived(alert) = error else {
        return None;
    };
    match alert {
        AlertDescription::CertificateRequired => Some(CertificateRefusal::Missing),
        AlertDescription::CertificateExpired => Some(CertificateRefusal::Expired),
        AlertDescription::CertificateRevoked => Some(CertificateRefusal::Revoked),
        AlertDescription::UnknownCA => Some(CertificateRefusal::UnknownCa),
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::AccessDenied
        | AlertDescription::DecryptError => Some(CertificateRefusal::Other(format!("{alert:?}"))),
        _ => None,
    }
}

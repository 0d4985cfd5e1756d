//! Becoming a host, once, with a token.
//!
//! The key is made here and never leaves. It is written before the coordinator
//! is asked, so that a machine whose answer was lost asks again as the same one.
//!
//! Kept true: a second run changes nothing; a machine that is a host already
//! does not become another one, or another coordinator's, by mistake.

mod membership;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cutover_core::{HostId, NameError};
use cutover_proto::tls::{
    Address, AddressError, ClientTls, Dial, DialError, Fingerprint, PRIVATE, TlsError, Trust,
    write_file,
};
use cutover_proto::token::Token;
use cutover_proto::v1::EnrollRequest;
use cutover_proto::v1::enrolment_client::EnrolmentClient;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use tonic::Code;

pub use membership::Membership;

/// The coordinator answers at once, or something is wrong.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// What a machine says of itself when it wants to become a host.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The coordinator's enrolment gate.
    pub coordinator: Address,
    /// The token.
    pub token: Token,
    /// The name that the host shall have.
    pub host: HostId,
    /// /etc/machine-id.
    pub machine_id: String,
    /// Labels, besides the token's.
    pub labels: BTreeMap<String, String>,
}

/// What came of it.
#[derive(Debug)]
pub enum Enrolled {
    /// The machine is a host now.
    New(Membership),
    /// It was one, of this coordinator and by this name; nothing changed.
    Already(Membership),
}

/// Why a machine did not become a host, or cannot speak as one.
#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    /// A file could not be read or written.
    #[error("{doing} {path}")]
    File {
        /// Reading or writing.
        doing: &'static str,
        /// Which.
        path: PathBuf,
        /// What the file system said.
        #[source]
        source: io::Error,
    },
    /// The machine is a host by another name.
    #[error(
        "this machine is enrolled as the host {is}, not {wanted}; to rename it: `cutover host rm {is}`, `rm -r {folder}` here, then enrol with a new token (`cutover host token`)"
    )]
    AnotherName {
        /// What it is.
        is: HostId,
        /// What was wanted.
        wanted: HostId,
        /// Where that is kept.
        folder: PathBuf,
    },
    /// The machine is another coordinator's.
    #[error(
        "this machine is enrolled as the host {host} of another coordinator ({address}, CA {ca}); to enrol it here: `cutover host rm {host}` there, `rm -r {folder}` here, then this again"
    )]
    AnotherCoordinator {
        /// What it is.
        host: HostId,
        /// Whose.
        address: Address,
        /// Whose.
        ca: String,
        /// Where that is kept.
        folder: PathBuf,
    },
    /// It is no host yet.
    #[error("{0} holds no enrolment: run `cutover-agent enroll` first")]
    NotEnrolled(PathBuf),
    /// What is kept cannot be understood.
    #[error("reading {path}: remove it and enrol the machine anew")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The key could not be made or read.
    #[error("the host's key in {path}")]
    Key {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: rcgen::Error,
    },
    /// TLS could not be set up.
    #[error("setting up TLS")]
    Tls(#[from] TlsError),
    /// The coordinator was not reached, or is not the token's.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The coordinator said no.
    #[error("the coordinator refused: {0}")]
    Refused(String),
    /// The coordinator did not answer.
    #[error("waiting for the coordinator's answer: {0}")]
    NoAnswer(String),
    /// The coordinator's answer has a host name that is none.
    #[error("the host name in the coordinator's answer")]
    AnswerName(#[source] NameError),
    /// The coordinator's answer has an address that is none.
    #[error("the address in the coordinator's answer")]
    AnswerAddress(#[source] AddressError),
    /// The coordinator's answer does not fit what was asked.
    #[error("the coordinator's answer does not fit: {0}")]
    Answer(&'static str),
}

impl EnrollError {
    /// Well said, but not here, or not now.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::Refused(_) | Self::AnotherName { .. } | Self::AnotherCoordinator { .. }
        )
    }
}

/// Makes this machine a host, if it is none; keeps everything in `folder`.
///
/// # Errors
/// Why not; then nothing but perhaps a new key was written.
pub async fn enroll(folder: &Path, wish: Wish) -> Result<Enrolled, EnrollError> {
    if let Some(already) = already(folder, &wish)? {
        return Ok(Enrolled::Already(already));
    }
    let key = key(folder)?;
    let dial = Dial::new(
        wish.coordinator.clone(),
        Arc::new(ClientTls::pinned(wish.token.ca)?),
    );
    let connection = dial.connect().await?;
    let mut request = tonic::Request::new(EnrollRequest {
        token_secret: wish.token.secret.expose().to_vec(),
        csr_der: request_for(&key, folder)?,
        host_name: wish.host.to_string(),
        machine_id: wish.machine_id,
        labels: wish.labels.into_iter().collect(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
    });
    request.set_timeout(ANSWER_WITHIN);
    let answer = EnrolmentClient::new(connection.channel)
        .enroll(request)
        .await
        .map_err(|status| refused(&status))?;
    let answer = answer.into_inner();
    let trust = Trust::from_pem(&answer.ca_pem)?;
    if !trust.fingerprints().contains(&wish.token.ca) {
        return Err(EnrollError::Answer("its CA is not the token's"));
    }
    let host: HostId = answer.host_id.parse().map_err(EnrollError::AnswerName)?;
    if host != wish.host {
        return Err(EnrollError::Answer("it is about another host"));
    }
    let membership = Membership::new(
        folder,
        host,
        answer
            .coordinator_address
            .parse()
            .map_err(EnrollError::AnswerAddress)?,
        wish.coordinator,
        answer.certificate_pem,
        answer.ca_pem,
    )?;
    membership.keep()?;
    Ok(Enrolled::New(membership))
}

/// What this machine is already, if that is what is wished.
fn already(folder: &Path, wish: &Wish) -> Result<Option<Membership>, EnrollError> {
    let known = match Membership::load(folder) {
        Ok(known) => known,
        Err(EnrollError::NotEnrolled(_)) => return Ok(None),
        Err(error) => return Err(error),
    };
    if !known.trust()?.fingerprints().contains(&wish.token.ca) {
        let ca = known
            .trust()?
            .fingerprints()
            .first()
            .map(Fingerprint::to_string);
        return Err(EnrollError::AnotherCoordinator {
            host: known.host().clone(),
            address: known.coordinator().clone(),
            ca: ca.unwrap_or_default(),
            folder: folder.to_owned(),
        });
    }
    if *known.host() != wish.host {
        return Err(EnrollError::AnotherName {
            is: known.host().clone(),
            wanted: wish.host.clone(),
            folder: folder.to_owned(),
        });
    }
    Ok(Some(known))
}

/// The host's key: the one that is there, or a new one.
fn key(folder: &Path) -> Result<KeyPair, EnrollError> {
    let path = membership::key_path(folder);
    let failed = |source| EnrollError::Key {
        path: path.clone(),
        source,
    };
    match std::fs::read_to_string(&path) {
        Ok(pem) => KeyPair::from_pem(&pem).map_err(failed),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
            write_file(&path, key.serialize_pem().as_bytes(), PRIVATE).map_err(|source| {
                EnrollError::File {
                    doing: "writing",
                    path: path.clone(),
                    source,
                }
            })?;
            Ok(key)
        }
        Err(source) => Err(EnrollError::File {
            doing: "reading",
            path,
            source,
        }),
    }
}

/// A signing request for `key`; it says nothing else, because nothing else counts.
fn request_for(key: &KeyPair, folder: &Path) -> Result<Vec<u8>, EnrollError> {
    CertificateParams::default()
        .serialize_request(key)
        .map(|request| request.der().to_vec())
        .map_err(|source| EnrollError::Key {
            path: membership::key_path(folder),
            source,
        })
}

/// Whether the coordinator said no, or did not say anything.
fn refused(status: &tonic::Status) -> EnrollError {
    match status.code() {
        Code::InvalidArgument
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::AlreadyExists
        | Code::NotFound
        | Code::FailedPrecondition => EnrollError::Refused(status.message().to_owned()),
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => EnrollError::NoAnswer(status.message().to_owned()),
    }
}

/// A new certificate for the key that the host has, over the enrolment gate; kept, and returned.
///
/// # Errors
/// Why there is none; what is kept stays as it is.
pub async fn renew(membership: &Membership, machine_id: &str) -> Result<Membership, EnrollError> {
    let folder = membership.folder();
    let request = request_for(&key(folder)?, folder)?;
    let tls = ClientTls::trusting(&membership.trust()?)?;
    let connection = Dial::new(membership.enrolment().clone(), Arc::new(tls))
        .connect()
        .await?;
    let mut request = tonic::Request::new(cutover_proto::v1::RenewRequest {
        certificate_der: membership.credentials()?.certificate().to_vec(),
        csr_der: request,
        machine_id: machine_id.to_owned(),
    });
    request.set_timeout(ANSWER_WITHIN);
    let answer = EnrolmentClient::new(connection.channel)
        .renew(request)
        .await
        .map_err(|status| refused(&status))?;
    let answer = answer.into_inner();
    let renewed = Membership::new(
        folder,
        membership.host().clone(),
        answer
            .coordinator_address
            .parse()
            .map_err(EnrollError::AnswerAddress)?,
        membership.enrolment().clone(),
        answer.certificate_pem,
        answer.ca_pem,
    )?;
    if renewed.life()?.until <= SystemTime::now() {
        return Err(EnrollError::Answer(
            "the new certificate has expired already, or our clock is wrong",
        ));
    }
    renewed.keep()?;
    Ok(renewed)
}

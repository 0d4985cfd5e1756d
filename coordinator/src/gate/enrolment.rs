//! The enrolment gate's service: machines without a certificate, or with an expired one.
//!
//! Kept true: a certificate leaves only after the registry has kept to whom it
//! was given; nothing of a request but its key gets into it; a refused machine
//! has changed nothing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use cutover_core::{HostId, NameError};
use cutover_proto::identity::{Identity, IdentityError};
use cutover_proto::tls::{Address, DenyList, Fingerprint, Life, TlsError, check_peer};
use cutover_proto::token::TokenSecret;
use cutover_proto::v1::enrolment_server::Enrolment;
use cutover_proto::v1::{EnrollRequest, EnrollResponse, RenewRequest, RenewResponse};
use tonic::{Request, Response, Status};
use tracing::info;

use super::refusals::{Refusals, chain};
use crate::pki::admission::AdmissionRefusal;
use crate::pki::{
    Ask, Authority, Issued, PkiError, RENEWABLE_AFTER_EXPIRY, Registry, RegistryError,
    key_of_request,
};
use crate::reached::Reached;

/// Labels that a machine may bring, and how long each may be: it is not an operator.
const LABELS: usize = 64;
const LABEL_BYTES: usize = 256;
/// A machine-id has 32 characters; some systems have longer ones.
const MACHINE_ID_BYTES: usize = 128;

/// From where a request to this gate came.
#[derive(Clone, Copy, Debug)]
pub(super) struct From(pub(super) SocketAddr);

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
enum NotEnrolled {
    #[error("the host name")]
    Name(#[from] NameError),
    #[error("the token's secret has the wrong length")]
    Secret,
    #[error("the machine-id is empty or too long")]
    MachineId,
    #[error("more than {LABELS} labels, or one longer than {LABEL_BYTES} bytes")]
    Labels,
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Pki(#[from] PkiError),
    #[error("the certificate that was shown")]
    Shown(#[source] TlsError),
    #[error("the certificate that was shown")]
    Whose(#[from] IdentityError),
    #[error("{0} is no host's certificate")]
    NoHost(Identity),
    #[error("the certificate of {0} expired more than {days} days ago: enrol the host again with a new token", days = RENEWABLE_AFTER_EXPIRY.as_secs() / 86400)]
    TooLate(HostId),
    #[error("the request was made with another key than the certificate of {0}")]
    AnotherKey(HostId),
}

/// Gives certificates to machines that may be hosts.
pub struct EnrolmentService {
    /// Makes the certificates.
    pub authority: Arc<Authority>,
    /// Keeps who got one.
    pub registry: Arc<dyn Registry>,
    /// What is not renewed.
    pub denied: Arc<DenyList>,
    /// The names and IP addresses by which hosts find the main gate; in the coordinator's certificate.
    pub reached: Reached,
    /// And its port; none: the one at which it listens.
    pub port: Option<u16>,
    /// Where refusals are noted.
    pub refusals: Arc<Refusals>,
}

#[tonic::async_trait]
impl Enrolment for EnrolmentService {
    async fn enroll(
        &self,
        request: Request<EnrollRequest>,
    ) -> Result<Response<EnrollResponse>, Status> {
        let from = request.extensions().get::<From>().map(|from| from.0);
        let request = request.into_inner();
        let who = format!(
            "a machine that asks to be {:?}",
            shorten(&request.host_name)
        );
        match self.admit(request).await {
            Ok((host, issued)) => {
                info!(%host, serial = %issued.serial, from = ?from, "enrolled a host");
                Ok(Response::new(EnrollResponse {
                    host_id: host.to_string(),
                    expires_unix_seconds: unix_seconds(issued.until),
                    certificate_pem: issued.certificate_pem,
                    ca_pem: self.authority.bundle_pem(),
                    coordinator_address: self.address(from),
                }))
            }
            Err(reason) => Err(self.refuse(from, &who, &reason)),
        }
    }

    async fn renew(
        &self,
        request: Request<RenewRequest>,
    ) -> Result<Response<RenewResponse>, Status> {
        let from = request.extensions().get::<From>().map(|from| from.0);
        let request = request.into_inner();
        let who = Identity::of_certificate(&request.certificate_der).map_or_else(
            |_| "unknown".to_owned(),
            |who| format!("{who} (not proved)"),
        );
        match self.again(&request).await {
            Ok((host, issued)) => {
                info!(%host, serial = %issued.serial, from = ?from, "renewed a host's certificate");
                Ok(Response::new(RenewResponse {
                    expires_unix_seconds: unix_seconds(issued.until),
                    certificate_pem: issued.certificate_pem,
                    ca_pem: self.authority.bundle_pem(),
                    coordinator_address: self.address(from),
                }))
            }
            Err(reason) => Err(self.refuse(from, &who, &reason)),
        }
    }
}

impl EnrolmentService {
    fn address(&self, from: Option<SocketAddr>) -> String {
        let host = self.reached.told(from.map(|from| from.ip()));
        // An address that is none was refused when the certificate was made for it.
        Address::new(host, self.port.unwrap_or_default())
            .map_or_else(|error| error.to_string(), |at| at.to_string())
    }

    async fn admit(&self, request: EnrollRequest) -> Result<(HostId, Issued), NotEnrolled> {
        let now = SystemTime::now();
        let host: HostId = request.host_name.parse()?;
        let secret = TokenSecret::from_slice(&request.token_secret).ok_or(NotEnrolled::Secret)?;
        if request.machine_id.is_empty() || request.machine_id.len() > MACHINE_ID_BYTES {
            return Err(NotEnrolled::MachineId);
        }
        let long = |text: &String| text.len() > LABEL_BYTES;
        if request.labels.len() > LABELS
            || request
                .labels
                .iter()
                .any(|(key, value)| long(key) || long(value))
        {
            return Err(NotEnrolled::Labels);
        }
        let key = key_of_request(&host, &request.csr_der)?;
        let issued = self.authority.agent(&host, &request.csr_der, now)?;
        let ask = Ask {
            token: secret.hash(),
            host: host.clone(),
            machine_id: request.machine_id,
            key,
            labels: request.labels.into_iter().collect(),
            given: self.authority.given(&issued),
        };
        self.registry.admit(ask, now).await?;
        Ok((host, issued))
    }

    async fn again(&self, request: &RenewRequest) -> Result<(HostId, Issued), NotEnrolled> {
        let now = SystemTime::now();
        let life = Life::of_certificate(&request.certificate_der).map_err(NotEnrolled::Shown)?;
        // As it stood while it was valid: that it has expired is what it comes for.
        let trust = self.authority.trust()?;
        check_peer(
            &request.certificate_der,
            &trust,
            &self.denied,
            now.min(life.until),
        )
        .map_err(NotEnrolled::Shown)?;
        let host = match Identity::of_certificate(&request.certificate_der)? {
            Identity::Agent(host) => host,
            who @ (Identity::Coordinator | Identity::Operator(_)) => {
                return Err(NotEnrolled::NoHost(who));
            }
        };
        if now > life.until + RENEWABLE_AFTER_EXPIRY {
            return Err(NotEnrolled::TooLate(host));
        }
        let key = key_of_request(&host, &request.csr_der)?;
        if key != Fingerprint::of_key(&request.certificate_der).map_err(NotEnrolled::Shown)? {
            return Err(NotEnrolled::AnotherKey(host));
        }
        let issued = self.authority.agent(&host, &request.csr_der, now)?;
        self.registry
            .renew(&host, key, self.authority.given(&issued), now)
            .await?;
        Ok((host, issued))
    }

    fn refuse(&self, from: Option<SocketAddr>, who: &str, reason: &NotEnrolled) -> Status {
        if let Some(peer) = from {
            self.refusals.note("enrolment", peer, who, reason);
        }
        let text = chain(reason);
        match reason {
            NotEnrolled::Registry(RegistryError::Store { .. }) => {
                Status::unavailable("the coordinator could not keep its decision; try again")
            }
            NotEnrolled::Registry(RegistryError::Refused(refusal)) => match refusal {
                AdmissionRefusal::NameTaken(_) => Status::already_exists(text),
                AdmissionRefusal::UnknownHost(_) => Status::not_found(text),
                AdmissionRefusal::UnknownToken
                | AdmissionRefusal::ExpiredToken
                | AdmissionRefusal::UsedToken
                | AdmissionRefusal::AnotherKey(_)
                | AdmissionRefusal::Quarantined { .. } => Status::permission_denied(text),
            },
            NotEnrolled::Shown(_)
            | NotEnrolled::Whose(_)
            | NotEnrolled::NoHost(_)
            | NotEnrolled::TooLate(_)
            | NotEnrolled::AnotherKey(_) => Status::permission_denied(text),
            NotEnrolled::Name(_)
            | NotEnrolled::Secret
            | NotEnrolled::MachineId
            | NotEnrolled::Labels
            | NotEnrolled::Pki(_) => Status::invalid_argument(text),
        }
    }
}

fn unix_seconds(at: SystemTime) -> i64 {
    let since = at
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// A stranger's text, for a log line.
fn shorten(text: &str) -> String {
    text.chars().take(cutover_core::name::MAX_NAME).collect()
}

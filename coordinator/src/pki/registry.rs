//! What of the admission must outlive the process; the store keeps it.

use std::error::Error;
use std::time::SystemTime;

use cutover_core::HostId;
use cutover_proto::tls::{Fingerprint, Serial};

use super::admission::{AdmissionRefusal, Ask, Given, HostRecord};

/// Why the registry gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// It answered: no.
    #[error(transparent)]
    Refused(#[from] AdmissionRefusal),
    /// It could not: the store failed. Nothing changed.
    #[error("keeping the decision about {host}")]
    Store {
        /// Of which host.
        host: HostId,
        /// What happened.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

/// Keeps tokens and hosts. Every method is one durable step (P3): it reads what is known, asks
/// the function of [`super::admission`] that it is named after, keeps the result, and only then
/// answers. Of two at once, one sees what the other kept.
#[tonic::async_trait]
pub trait Registry: Send + Sync + 'static {
    /// [`super::admission::admit`].
    async fn admit(&self, ask: Ask, now: SystemTime) -> Result<HostRecord, RegistryError>;

    /// [`super::admission::renew`].
    async fn renew(
        &self,
        host: &HostId,
        key: Fingerprint,
        given: Given,
        now: SystemTime,
    ) -> Result<HostRecord, RegistryError>;

    /// [`super::admission::speak`]; when a quarantine begins, it is kept, and the answer is what
    /// [`HostRecord::refuse_quarantined`] says. `shown` is the certificate that the host holds.
    async fn speak(
        &self,
        host: &HostId,
        machine_id: &str,
        shown: &Serial,
    ) -> Result<HostRecord, RegistryError>;
}

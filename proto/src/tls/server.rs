//! What a gate presents, and what it demands of a peer.
//!
//! The whole set-up is one value behind one pointer: a new certificate, a new
//! CA and a new deny-list each hold from the next handshake on.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, ServerConfig,
    SignatureScheme, version,
};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::{ALPN, Credentials, DenyList, Life, Serial, TlsError, Trust, provider};
use crate::identity::{Identity, IdentityError};

/// One gate's TLS, replaceable while it listens.
pub struct ServerTls {
    config: ArcSwap<ServerConfig>,
    denied: Option<Arc<DenyList>>,
}

impl ServerTls {
    /// A gate that admits holders of a certificate of `trust` alone, unless `denied`.
    ///
    /// # Errors
    /// When key and certificate do not fit or the trust is empty.
    pub fn mutual(
        credentials: &Credentials,
        trust: &Trust,
        denied: Arc<DenyList>,
    ) -> Result<Self, TlsError> {
        let verifier = verifier(trust, &denied)?;
        let config = config(credentials, Some(verifier))?;
        Ok(Self {
            config: ArcSwap::from_pointee(config),
            denied: Some(denied),
        })
    }

    /// A gate that asks for no certificate: enrolment.
    ///
    /// # Errors
    /// When key and certificate do not fit.
    pub fn open(credentials: &Credentials) -> Result<Self, TlsError> {
        Ok(Self {
            config: ArcSwap::from_pointee(config(credentials, None)?),
            denied: None,
        })
    }

    /// Presents and believes this from the next handshake on; live connections stay.
    ///
    /// # Errors
    /// When it cannot be used; then what was before stays.
    pub fn replace(&self, credentials: &Credentials, trust: &Trust) -> Result<(), TlsError> {
        let verifier = self
            .denied
            .as_ref()
            .map(|denied| verifier(trust, denied))
            .transpose()?;
        self.config.store(Arc::new(config(credentials, verifier)?));
        Ok(())
    }

    /// For the next handshake.
    #[must_use]
    pub fn current(&self) -> Arc<ServerConfig> {
        self.config.load_full()
    }
}

fn config(
    credentials: &Credentials,
    verifier: Option<Arc<NotDenied>>,
) -> Result<ServerConfig, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS13])
        .map_err(TlsError::Credentials)?;
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder
        .with_single_cert(credentials.chain.clone(), credentials.key.clone_key())
        .map_err(TlsError::Credentials)?;
    config.session_storage = Arc::new(NoServerSessionStorage {}); // a resumed session is not verified again
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(config)
}

fn verifier(trust: &Trust, denied: &Arc<DenyList>) -> Result<Arc<NotDenied>, TlsError> {
    let inner = WebPkiClientVerifier::builder_with_provider(Arc::clone(&trust.roots), provider())
        .build()
        .map_err(TlsError::Verifier)?;
    Ok(Arc::new(NotDenied {
        inner,
        denied: Arc::clone(denied),
    }))
}

/// The usual verification, and then the deny-list.
#[derive(Debug)]
struct NotDenied {
    inner: Arc<dyn ClientCertVerifier>,
    denied: Arc<DenyList>,
}

impl ClientCertVerifier for NotDenied {
    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self
            .inner
            .verify_client_cert(end_entity, intermediates, now)?;
        let serial = Serial::of_certificate(end_entity)
            .map_err(|_| Error::from(CertificateError::BadEncoding))?;
        if self.denied.denies(&serial) {
            Err(CertificateError::Revoked.into())
        } else {
            Ok(verified)
        }
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// What a certificate says, after it was believed.
#[derive(Clone, Debug)]
pub struct CheckedCertificate {
    /// Its holder.
    pub identity: Identity,
    /// Its number.
    pub serial: Serial,
    /// From when until when it holds.
    pub life: Life,
}

impl CheckedCertificate {
    /// Reads a certificate that a handshake verified.
    ///
    /// # Errors
    /// When it names nobody.
    pub fn read(der: &[u8]) -> Result<Self, IdentityError> {
        let identity = Identity::of_certificate(der)?;
        let unreadable = |_| IdentityError::NoUri; // never: the line above parsed it
        Ok(Self {
            identity,
            serial: Serial::of_certificate(der).map_err(unreadable)?,
            life: Life::of_certificate(der).map_err(unreadable)?,
        })
    }
}

/// Verifies a certificate that came in a message instead of a handshake, as it stood at `at`.
///
/// # Errors
/// When it would be refused in a handshake at that time.
pub fn check_peer(
    der: &[u8],
    trust: &Trust,
    denied: &Arc<DenyList>,
    at: std::time::SystemTime,
) -> Result<(), TlsError> {
    let since_epoch = at
        .duration_since(std::time::SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    verifier(trust, denied)?
        .verify_client_cert(
            &CertificateDer::from(der),
            &[],
            UnixTime::since_unix_epoch(since_epoch),
        )
        .map(|_| ())
        .map_err(TlsError::Credentials)
}

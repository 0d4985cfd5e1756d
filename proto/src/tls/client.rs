//! What a caller presents, and which servers it believes.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::Resumption;
use rustls::{ClientConfig, version};

use super::pin::PinnedCa;
use super::{ALPN, Credentials, Fingerprint, TlsError, Trust, provider};

/// A caller's TLS, replaceable while it is connected; the next connection uses the new one.
pub struct ClientTls(ArcSwap<ClientConfig>);

impl ClientTls {
    /// Shows `credentials`, believes servers of `trust`.
    ///
    /// # Errors
    /// When key and certificate do not fit.
    pub fn mutual(credentials: &Credentials, trust: &Trust) -> Result<Self, TlsError> {
        Ok(Self(ArcSwap::from_pointee(mutual(credentials, trust)?)))
    }

    /// Shows nothing, believes servers of `trust`: to renew an expired certificate.
    ///
    /// # Errors
    /// Never but when TLS 1.3 is not there.
    pub fn trusting(trust: &Trust) -> Result<Self, TlsError> {
        let config = builder()?
            .with_root_certificates(Arc::clone(&trust.roots))
            .with_no_client_auth();
        Ok(Self(ArcSwap::from_pointee(finish(config))))
    }

    /// Shows nothing, believes the one CA with this fingerprint: to enrol.
    ///
    /// # Errors
    /// Never but when TLS 1.3 is not there.
    pub fn pinned(pin: Fingerprint) -> Result<Self, TlsError> {
        let verifier = Arc::new(PinnedCa {
            pin,
            provider: provider(),
        });
        let config = builder()?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        Ok(Self(ArcSwap::from_pointee(finish(config))))
    }

    /// Whatever the caller made; for tests of what others may try.
    #[must_use]
    pub fn of(config: ClientConfig) -> Self {
        Self(ArcSwap::from_pointee(config))
    }

    /// Shows and believes this from the next connection on.
    ///
    /// # Errors
    /// When it cannot be used; then what was before stays.
    pub fn replace(&self, credentials: &Credentials, trust: &Trust) -> Result<(), TlsError> {
        self.0.store(Arc::new(mutual(credentials, trust)?));
        Ok(())
    }

    pub(super) fn current(&self) -> Arc<ClientConfig> {
        self.0.load_full()
    }
}

fn mutual(credentials: &Credentials, trust: &Trust) -> Result<ClientConfig, TlsError> {
    builder()?
        .with_root_certificates(Arc::clone(&trust.roots))
        .with_client_auth_cert(credentials.chain.clone(), credentials.key.clone_key())
        .map(finish)
        .map_err(TlsError::Credentials)
}

fn builder() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, TlsError> {
    ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS13])
        .map_err(TlsError::Credentials)
}

fn finish(mut config: ClientConfig) -> ClientConfig {
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![ALPN.to_vec()];
    config
}

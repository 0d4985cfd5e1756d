//! How both ends of a connection set up TLS: 1.3 alone, our own CA alone.
//!
//! [`ServerTls`] is what a gate presents and demands, [`ClientTls`] what a
//! caller does; both can be replaced while connections live, and the next
//! handshake uses the new one. [`Dial`] makes a connection and says in words
//! why there is none.
//!
//! Kept true: no session is ever resumed, because a resumed session skips the
//! check of the certificate, so that a revoked peer would live on.

mod address;
mod client;
mod credentials;
mod dial;
mod failure;
mod files;
mod life;
mod names;
mod pin;
mod serial;
mod server;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

pub use address::{Address, AddressError};
pub use client::ClientTls;
pub use credentials::{Credentials, Fingerprint, Trust};
pub use dial::{Connection, Dial};
pub use failure::{CertificateRefusal, DialError, refusal_in};
pub use files::{PRIVATE, PUBLIC, write_file, write_file_of_folder};
pub use life::{BACKDATING, Life};
pub use names::names_of_certificate;
pub use serial::{DenyList, Serial};
pub use server::{CheckedCertificate, ServerTls, check_peer};

/// Why TLS could not be set up; never says what a key holds.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM text was broken.
    #[error("reading the {0} (PEM)")]
    Pem(&'static str, #[source] rustls_pki_types::pem::Error),
    /// A PEM text held nothing of the kind.
    #[error("the PEM text holds no {0}")]
    Nothing(&'static str),
    /// A CA certificate that cannot be one.
    #[error("trusting the CA certificate")]
    Trust(#[source] rustls::Error),
    /// Certificate and key do not fit, or are of a kind that is not spoken.
    #[error("using the certificate and its key")]
    Credentials(#[source] rustls::Error),
    /// The verifier could not be built from the trusted CAs.
    #[error("preparing to verify peers")]
    Verifier(#[source] rustls::client::VerifierBuilderError),
    /// A certificate could not be read.
    #[error("reading the certificate")]
    Certificate(#[source] x509_parser::error::X509Error),
    /// The machine gave no random bytes.
    #[error("drawing random bytes")]
    Random,
}

/// The one provider of cryptography; never the process-wide default, so that nothing depends on who installed it first.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// `N` bytes that nobody can guess.
///
/// # Errors
/// When the machine gives none.
pub fn random<const N: usize>() -> Result<[u8; N], TlsError> {
    let mut bytes = [0; N];
    provider()
        .secure_random
        .fill(&mut bytes)
        .map_err(|_| TlsError::Random)?;
    Ok(bytes)
}

/// A number from 0 up to, not including, 1.
///
/// # Errors
/// When the machine gives no random bytes.
pub fn chance() -> Result<f64, TlsError> {
    let bits = u32::from_be_bytes(random()?);
    Ok(f64::from(bits) / (f64::from(u32::MAX) + 1.0))
}

/// What speaks HTTP/2, as TLS names it.
const ALPN: &[u8] = b"h2";

//! What one shows (a certificate chain and its key) and whom one believes.
//!
//! Kept true (P8): a key never shows in a log line or an error; its `Debug` is
//! a word, not its bytes.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::RootCertStore;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};

use super::{Life, TlsError, provider};

/// A certificate chain, the holder's first, and the key of the first.
pub struct Credentials {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

impl Credentials {
    /// From two PEM texts.
    ///
    /// # Errors
    /// When one is broken or holds nothing of the kind.
    pub fn from_pem(chain: &str, key: &str) -> Result<Self, TlsError> {
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
            .map_err(|error| TlsError::Pem("key", error))?;
        Ok(Self {
            chain: certificates(chain)?,
            key,
        })
    }

    /// Whether the key is the certificate's.
    #[must_use]
    pub fn fits(&self) -> bool {
        CertifiedKey::from_der(self.chain.clone(), self.key.clone_key(), &provider()).is_ok()
    }

    /// The holder's certificate, DER.
    #[must_use]
    pub fn certificate(&self) -> &[u8] {
        self.chain
            .first()
            .map_or(&[], |certificate| certificate.as_ref())
    }

    /// The certificate behind the holder's, DER: its CA's, where the chain has it.
    #[must_use]
    pub fn issuer(&self) -> Option<&[u8]> {
        self.chain.get(1).map(AsRef::as_ref)
    }
}

impl Clone for Credentials {
    fn clone(&self) -> Self {
        Self {
            chain: self.chain.clone(),
            key: self.key.clone_key(),
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Credentials({}, key hidden)",
            Fingerprint::of(self.certificate())
        )
    }
}

/// The CAs whose word counts; several while one takes over from another.
#[derive(Clone)]
pub struct Trust {
    pub(super) roots: Arc<RootCertStore>,
    fingerprints: Vec<Fingerprint>,
    until: Option<SystemTime>,
}

impl Trust {
    /// From one or more certificates in PEM.
    ///
    /// # Errors
    /// When the text is broken, holds none, or one that cannot be a CA.
    pub fn from_pem(text: &str) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        let mut fingerprints = Vec::new();
        let mut until = None;
        for certificate in certificates(text)? {
            fingerprints.push(Fingerprint::of(&certificate));
            until = until.max(Some(Life::of_certificate(&certificate)?.until));
            roots.add(certificate).map_err(TlsError::Trust)?;
        }
        Ok(Self {
            roots: Arc::new(roots),
            fingerprints,
            until,
        })
    }

    /// From when until when the first one holds.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn life_of(text: &str) -> Result<Life, TlsError> {
        let first = certificates(text)?;
        Life::of_certificate(first.first().map_or(&[], AsRef::as_ref))
    }

    /// Until when at least one of them holds.
    #[must_use]
    pub fn until(&self) -> Option<SystemTime> {
        self.until
    }

    /// Which they are.
    #[must_use]
    pub fn fingerprints(&self) -> &[Fingerprint] {
        &self.fingerprints
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Trust").field(&self.fingerprints).finish()
    }
}

fn certificates(text: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = CertificateDer::pem_slice_iter(text.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| TlsError::Pem("certificate", error))?;
    if found.is_empty() {
        Err(TlsError::Nothing("certificate"))
    } else {
        Ok(found)
    }
}

/// The SHA-256 of a certificate or of a public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Of these bytes.
    #[must_use]
    pub fn of(der: &[u8]) -> Self {
        Self(Sha256::digest(der).into())
    }

    /// Of the public key in this certificate.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn of_key(certificate: &[u8]) -> Result<Self, TlsError> {
        Ok(Self::of(
            super::serial::parse(certificate)?.public_key().raw,
        ))
    }

    /// One that was kept.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

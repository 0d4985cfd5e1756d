//! One CA: its certificate, and its key in use.

use std::time::{Duration, SystemTime};

use cutover_proto::tls::{Credentials, Fingerprint, Life, TlsError, Trust, random};
use rcgen::{BasicConstraints, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use super::authority::{PkiError, Secret, new_key, params};

/// It lives so long: longer than a fleet goes without anybody looking.
const LIFE: Duration = Duration::from_secs(3650 * 24 * 3600);

/// A CA whose key is here.
pub(super) struct Ca {
    pub(super) issuer: Issuer<'static, KeyPair>,
    pub(super) pem: String,
    pub(super) fingerprint: Fingerprint,
}

impl Ca {
    /// A new one, in memory; gives its key as PEM, too.
    pub(super) fn make(now: SystemTime) -> Result<(Self, Secret), PkiError> {
        let sign = |source| PkiError::Sign {
            who: "the CA".to_owned(),
            source,
        };
        // A name of its own: verifiers look for a CA by its name, and two of one name only confuse them.
        let name = format!("Cutover CA {:08x}", u32::from_be_bytes(random()?));
        let key = new_key().map_err(sign)?;
        let key_pem = Secret::of(key.serialize_pem());
        let (mut params, _) = params(&name, now, LIFE)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key).map_err(sign)?.pem();
        Ok((Self::from_pem(pem, key_pem.expose())?, key_pem))
    }

    pub(super) fn from_pem(pem: String, key_pem: &str) -> Result<Self, PkiError> {
        let key = KeyPair::from_pem(key_pem).map_err(PkiError::Ca)?;
        Credentials::from_pem(&pem, key_pem)?;
        let trust = Trust::from_pem(&pem)?;
        let fingerprint = *trust
            .fingerprints()
            .first()
            .ok_or(TlsError::Nothing("certificate"))?;
        let issuer = Issuer::from_ca_cert_pem(&pem, key).map_err(PkiError::Ca)?;
        Ok(Self {
            issuer,
            pem,
            fingerprint,
        })
    }

    /// From when until when it holds.
    pub(super) fn life(&self) -> Result<Life, PkiError> {
        Ok(Trust::life_of(&self.pem)?)
    }
}

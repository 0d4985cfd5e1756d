//! Our certificate authority: makes certificates, and decides nothing.
//!
//! Kept true: every certificate has a random serial number, a bounded life that
//! begins five minutes early (clocks differ), one URI that names its holder,
//! and exactly the usage that its holder needs. An agent's certificate cannot
//! serve as the coordinator's, whatever its request asked for.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use cutover_core::HostId;
use cutover_proto::identity::{Identity, OperatorName};
use cutover_proto::tls::{BACKDATING, Credentials, Fingerprint, Serial, TlsError, Trust, random};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber,
};
use rustls_pki_types::CertificateSigningRequestDer;

/// A CA lives so long: longer than a fleet goes without anybody looking.
const CA_LIFE: Duration = Duration::from_secs(3650 * 24 * 3600);
/// Everybody else: a stolen key is of use for so long at most.
const LEAF_LIFE: Duration = Duration::from_secs(90 * 24 * 3600);
/// An expired certificate of an agent may still be renewed for so long.
pub const RENEWABLE_AFTER_EXPIRY: Duration = Duration::from_secs(30 * 24 * 3600);

/// How long certificates live; 90 days unless a test says otherwise.
#[derive(Clone, Copy, Debug)]
pub struct Lives {
    /// Of hosts.
    pub agent: Duration,
    /// Of operators.
    pub operator: Duration,
    /// Of the coordinator itself.
    pub coordinator: Duration,
}

impl Default for Lives {
    fn default() -> Self {
        Self {
            agent: LEAF_LIFE,
            operator: LEAF_LIFE,
            coordinator: LEAF_LIFE,
        }
    }
}

/// Why the CA could not do it.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file could not be read or written.
    #[error("{doing} {path}")]
    File {
        /// Reading or writing.
        doing: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the file system said.
        #[source]
        source: io::Error,
    },
    /// There is a CA where a new one was wanted.
    #[error("{0} holds a CA already: hosts believe that one; remove the folder to begin anew")]
    Exists(PathBuf),
    /// There is no CA.
    #[error("{0} holds no CA: run `cutover-coordinator init --address HOST` first")]
    Missing(PathBuf),
    /// A certificate could not be made.
    #[error("making the certificate of {who}")]
    Sign {
        /// Whose.
        who: String,
        /// What rcgen said.
        #[source]
        source: rcgen::Error,
    },
    /// The CA's files do not hold a CA.
    #[error("reading the CA")]
    Ca(#[source] rcgen::Error),
    /// A certificate signing request that is none, or is not signed by its own key.
    #[error("reading the certificate signing request of {host}")]
    Request {
        /// Whose.
        host: HostId,
        /// What rcgen said.
        #[source]
        source: rcgen::Error,
    },
    /// A request with a kind of key that we do not take.
    #[error("the key of {0} is not ECDSA P-256")]
    KeyKind(HostId),
    /// An address that a certificate cannot hold.
    #[error("{0:?} is no DNS name and no IP address")]
    Address(String),
    /// TLS does not like what we made or read.
    #[error("using the coordinator's certificates")]
    Tls(#[from] TlsError),
}

/// A certificate that was just made.
pub struct Issued {
    /// PEM: the certificate, and for the coordinator its CA's behind it.
    pub certificate_pem: String,
    /// DER of the certificate alone.
    pub certificate_der: Vec<u8>,
    /// Its key, PEM, if it was made here.
    pub key_pem: Option<Secret>,
    /// Its number.
    pub serial: Serial,
    /// Until when it holds.
    pub until: SystemTime,
}

/// A text that does not show in logs.
pub struct Secret(String);

impl Secret {
    /// The text.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Issued({}, key hidden)", self.serial)
    }
}

/// Our CA.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(super) ca_pem: String,
    fingerprint: Fingerprint,
    /// The CAs that are believed besides: one that is taken over from.
    pub(super) also_trusted: String,
    lives: Lives,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Authority({}, key hidden)", self.fingerprint)
    }
}

impl Authority {
    /// A new CA, in memory; gives its key as PEM, too.
    pub(super) fn make(name: &str, now: SystemTime) -> Result<(Self, Secret), PkiError> {
        let sign = |source| PkiError::Sign {
            who: "the CA".to_owned(),
            source,
        };
        let key = new_key().map_err(sign)?;
        let key_pem = Secret(key.serialize_pem());
        let (mut params, _) = params(name, now, CA_LIFE)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca_pem = params.self_signed(&key).map_err(sign)?.pem();
        Ok((Self::from_pem(ca_pem, &key_pem.0, String::new())?, key_pem))
    }

    pub(super) fn from_pem(
        ca_pem: String,
        key_pem: &str,
        also_trusted: String,
    ) -> Result<Self, PkiError> {
        let key = KeyPair::from_pem(key_pem).map_err(PkiError::Ca)?;
        Credentials::from_pem(&ca_pem, key_pem)?;
        let trust = Trust::from_pem(&ca_pem)?;
        let fingerprint = *trust
            .fingerprints()
            .first()
            .ok_or(TlsError::Nothing("certificate"))?;
        let issuer = Issuer::from_ca_cert_pem(&ca_pem, key).map_err(PkiError::Ca)?;
        Ok(Self {
            issuer,
            ca_pem,
            fingerprint,
            also_trusted,
            lives: Lives::default(),
        })
    }

    /// The same CA, making certificates of other lives.
    #[must_use]
    pub fn with_lives(self, lives: Lives) -> Self {
        Self { lives, ..self }
    }

    /// Of the CA's certificate; tokens carry it.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Of the CA whose certificates hosts and operators are given.
    #[must_use]
    pub fn issuer(&self) -> Fingerprint {
        self.fingerprint
    }

    /// All CAs that are to be believed, PEM.
    #[must_use]
    pub fn bundle_pem(&self) -> String {
        format!("{}{}", self.ca_pem, self.also_trusted)
    }

    /// All CAs that are to be believed.
    ///
    /// # Errors
    /// When one is broken.
    pub fn trust(&self) -> Result<Trust, PkiError> {
        Ok(Trust::from_pem(&self.bundle_pem())?)
    }

    /// The coordinator's certificate for these DNS names and IP addresses, with a new key.
    ///
    /// # Errors
    /// When an address is neither, or signing fails.
    pub fn coordinator(&self, addresses: &[String], now: SystemTime) -> Result<Issued, PkiError> {
        let (mut params, serial) = leaf(&Identity::Coordinator, now, self.lives.coordinator)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        for address in addresses {
            let bad = |_| PkiError::Address(address.clone());
            params
                .subject_alt_names
                .push(match address.parse::<IpAddr>() {
                    Ok(ip) => SanType::IpAddress(ip),
                    Err(_) => {
                        rustls_pki_types::DnsName::try_from(address.as_str())
                            .map_err(|_| PkiError::Address(address.clone()))?;
                        SanType::DnsName(address.as_str().try_into().map_err(bad)?)
                    }
                });
        }
        let mut issued = self.with_new_key(
            &Identity::Coordinator,
            params,
            serial,
            now + self.lives.coordinator,
        )?;
        // A machine that enrols knows the CA's fingerprint alone: it needs the CA in the chain.
        issued.certificate_pem.push_str(&self.ca_pem);
        Ok(issued)
    }

    /// An operator's certificate, with a new key.
    ///
    /// # Errors
    /// When signing fails.
    pub fn operator(&self, name: &OperatorName, now: SystemTime) -> Result<Issued, PkiError> {
        let who = Identity::Operator(name.clone());
        let (mut params, serial) = leaf(&who, now, self.lives.operator)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.with_new_key(&who, params, serial, now + self.lives.operator)
    }

    /// A host's certificate for the key in a request; all else in the request is ignored.
    ///
    /// # Errors
    /// When the request is broken, not signed by its key, or its key is of another kind.
    pub fn agent(&self, host: &HostId, csr: &[u8], now: SystemTime) -> Result<Issued, PkiError> {
        let mut request = read_request(host, csr)?;
        let who = Identity::Agent(host.clone());
        let (mut params, serial) = leaf(&who, now, self.lives.agent)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        request.params = params;
        let sign = |source| PkiError::Sign {
            who: who.to_string(),
            source,
        };
        let certificate = request.signed_by(&self.issuer).map_err(sign)?;
        Ok(Issued {
            certificate_pem: certificate.pem(),
            certificate_der: certificate.der().to_vec(),
            key_pem: None,
            serial,
            until: now + self.lives.agent,
        })
    }

    fn with_new_key(
        &self,
        who: &Identity,
        params: CertificateParams,
        serial: Serial,
        until: SystemTime,
    ) -> Result<Issued, PkiError> {
        let sign = |source| PkiError::Sign {
            who: who.to_string(),
            source,
        };
        let key = new_key().map_err(sign)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(sign)?;
        Ok(Issued {
            certificate_pem: certificate.pem(),
            certificate_der: certificate.der().to_vec(),
            key_pem: Some(Secret(key.serialize_pem())),
            serial,
            until,
        })
    }
}

/// The SHA-256 of the key that a request proves to hold.
///
/// # Errors
/// When the request is broken or not signed by its key.
pub fn key_of_request(host: &HostId, csr: &[u8]) -> Result<Fingerprint, PkiError> {
    Ok(Fingerprint::of(
        &read_request(host, csr)?
            .public_key
            .subject_public_key_info(),
    ))
}

fn read_request(host: &HostId, csr: &[u8]) -> Result<CertificateSigningRequestParams, PkiError> {
    let request =
        CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(csr))
            .map_err(|source| PkiError::Request {
                host: host.clone(),
                source,
            })?;
    if request.public_key.algorithm() != &PKCS_ECDSA_P256_SHA256 {
        return Err(PkiError::KeyKind(host.clone()));
    }
    Ok(request)
}

fn new_key() -> Result<KeyPair, rcgen::Error> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
}

fn leaf(
    who: &Identity,
    now: SystemTime,
    life: Duration,
) -> Result<(CertificateParams, Serial), PkiError> {
    let (mut params, serial) = params(&who.to_string(), now, life)?;
    let uri = who.uri().try_into().map_err(|source| PkiError::Sign {
        who: who.to_string(),
        source,
    })?;
    params.subject_alt_names = vec![SanType::URI(uri)];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    Ok((params, serial))
}

fn params(
    name: &str,
    now: SystemTime,
    life: Duration,
) -> Result<(CertificateParams, Serial), PkiError> {
    let mut number: [u8; 16] = random()?;
    number[0] = number[0] & 0x7F | 0x40; // positive, and always 16 bytes long
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.serial_number = Some(SerialNumber::from_slice(&number));
    params.not_before = (now - BACKDATING).into();
    params.not_after = (now + life).into();
    Ok((params, Serial::from_bytes(&number)))
}

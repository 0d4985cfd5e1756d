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
use cutover_proto::tls::{BACKDATING, Fingerprint, Serial, TlsError, Trust, random};
use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData,
    SanType, SerialNumber,
};
use rustls_pki_types::CertificateSigningRequestDer;

use super::admission::Given;
use super::ca::Ca;
use super::holding::Holding;

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
    #[error(
        "{0} holds a CA already, which hosts believe: `systemctl start cutover-coordinator` starts the coordinator, \
         `cutover-coordinator operator NAME` makes an operator's certificate anew; remove the folder only to begin anew"
    )]
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
    pub(super) fn of(text: String) -> Self {
        Self(text)
    }

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

/// Our CA; two of them while one takes over from the other.
pub struct Authority {
    /// Behind the coordinator's own certificate.
    ca: Ca,
    /// The one that takes over, and whether it makes the certificates of all others already.
    next: Option<(Ca, bool)>,
    /// All that are believed, PEM.
    bundle: String,
    holding: Holding,
    lives: Lives,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Authority({}, key hidden)", self.fingerprint())
    }
}

impl Authority {
    /// Of these CAs, believing `also_trusted` (PEM) besides.
    pub(super) fn of(
        ca: Ca,
        next: Option<(Ca, bool)>,
        also_trusted: &str,
    ) -> Result<Self, PkiError> {
        let next_pem = next.as_ref().map_or("", |(next, _)| &next.pem);
        let bundle = format!("{}{next_pem}{also_trusted}", ca.pem);
        let issuer = match &next {
            Some((next, true)) => next.fingerprint,
            Some((_, false)) | None => ca.fingerprint,
        };
        let trusts = Trust::from_pem(&bundle)?;
        let trusts = trusts.fingerprints().iter().copied().collect();
        Ok(Self {
            ca,
            next,
            bundle,
            holding: Holding { issuer, trusts },
            lives: Lives::default(),
        })
    }

    /// Makes the certificates of hosts and operators.
    fn signer(&self) -> &Ca {
        match &self.next {
            Some((next, true)) => next,
            Some((_, false)) | None => &self.ca,
        }
    }

    /// The CA that takes over, if one does.
    #[must_use]
    pub fn next(&self) -> Option<Fingerprint> {
        self.next.as_ref().map(|(next, _)| next.fingerprint)
    }

    /// Until when the CA holds; the next one, if there is one.
    ///
    /// # Errors
    /// When its certificate cannot be read.
    pub fn until(&self) -> Result<SystemTime, PkiError> {
        let last = self.next.as_ref().map_or(&self.ca, |(next, _)| next);
        Ok(last.life()?.until)
    }

    /// Who is given a certificate now is given this with it.
    #[must_use]
    pub fn holding(&self) -> &Holding {
        &self.holding
    }

    /// What the registry keeps of a certificate that was just made.
    #[must_use]
    pub fn given(&self, issued: &Issued) -> Given {
        Given {
            serial: issued.serial.clone(),
            until: issued.until,
            holding: Some(self.holding.clone()),
        }
    }

    /// The same CA, making certificates of other lives.
    #[must_use]
    pub fn with_lives(self, lives: Lives) -> Self {
        Self { lives, ..self }
    }

    /// Of the CA behind the coordinator's own certificate; tokens carry it.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        self.ca.fingerprint
    }

    /// Of the CA whose certificates hosts and operators are given.
    #[must_use]
    pub fn issuer(&self) -> Fingerprint {
        self.holding.issuer
    }

    /// All CAs that are to be believed, PEM.
    #[must_use]
    pub fn bundle_pem(&self) -> String {
        self.bundle.clone()
    }

    /// All CAs that are to be believed.
    ///
    /// # Errors
    /// When one is broken.
    pub fn trust(&self) -> Result<Trust, PkiError> {
        Ok(Trust::from_pem(&self.bundle)?)
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
        let until = now + self.lives.coordinator;
        let mut issued = with_new_key(&self.ca, &Identity::Coordinator, params, serial, until)?;
        // A machine that enrols knows the CA's fingerprint alone: it needs the CA in the chain.
        issued.certificate_pem.push_str(&self.ca.pem);
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
        let until = now + self.lives.operator;
        with_new_key(self.signer(), &who, params, serial, until)
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
        let certificate = request.signed_by(&self.signer().issuer).map_err(sign)?;
        Ok(Issued {
            certificate_pem: certificate.pem(),
            certificate_der: certificate.der().to_vec(),
            key_pem: None,
            serial,
            until: now + self.lives.agent,
        })
    }
}

fn with_new_key(
    ca: &Ca,
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
    let certificate = params.signed_by(&key, &ca.issuer).map_err(sign)?;
    Ok(Issued {
        certificate_pem: certificate.pem(),
        certificate_der: certificate.der().to_vec(),
        key_pem: Some(Secret(key.serialize_pem())),
        serial,
        until,
    })
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

pub(super) fn new_key() -> Result<KeyPair, rcgen::Error> {
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

pub(super) fn params(
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

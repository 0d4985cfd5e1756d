//! What makes this machine a host: two files in the state folder.
//!
//! `link.key` (0600) is made once and never changes. `link.json` holds the rest
//! (name, addresses, certificate, CAs) in one file, so that a renewal replaces
//! all of it or nothing.

use std::io;
use std::path::{Path, PathBuf};

use cutover_core::HostId;
use cutover_proto::identity::Identity;
use cutover_proto::tls::{Address, Credentials, Life, PUBLIC, Trust, write_file};
use serde::{Deserialize, Serialize};

use super::EnrollError;

const KEY: &str = "link.key";
const LINK: &str = "link.json";

/// Where the host's key lies.
pub(super) fn key_path(folder: &Path) -> PathBuf {
    folder.join(KEY)
}

/// Who this machine is, to whom, and how it proves it.
#[derive(Clone, Debug)]
pub struct Membership {
    folder: PathBuf,
    host: HostId,
    coordinator: Address,
    enrolment: Address,
    certificate_pem: String,
    ca_pem: String,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    host: String,
    coordinator: String,
    enrolment: String,
    certificate: String,
    ca: String,
}

impl Membership {
    /// Checked: the certificate is this host's, fits the key in `folder`, and the CAs can be read.
    pub(super) fn new(
        folder: &Path,
        host: HostId,
        coordinator: Address,
        enrolment: Address,
        certificate_pem: String,
        ca_pem: String,
    ) -> Result<Self, EnrollError> {
        let new = Self {
            folder: folder.to_owned(),
            host,
            coordinator,
            enrolment,
            certificate_pem,
            ca_pem,
        };
        new.trust()?;
        let credentials = new.credentials()?;
        if !credentials.fits() {
            return Err(EnrollError::Answer("the certificate is for another key"));
        }
        match Identity::of_certificate(credentials.certificate()) {
            Ok(Identity::Agent(host)) if host == new.host => Ok(new),
            Ok(Identity::Agent(_) | Identity::Operator(_) | Identity::Coordinator) | Err(_) => {
                Err(EnrollError::Answer("the certificate is not this host's"))
            }
        }
    }

    /// What is kept in `folder`.
    ///
    /// # Errors
    /// When the machine is no host, or a file is damaged.
    pub fn load(folder: &Path) -> Result<Self, EnrollError> {
        let path = folder.join(LINK);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(EnrollError::NotEnrolled(folder.to_owned()));
            }
            Err(source) => {
                return Err(EnrollError::File {
                    doing: "reading",
                    path,
                    source,
                });
            }
        };
        let read = || -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
            let kept: Kept = serde_json::from_str(&text)?;
            Ok(Self::new(
                folder,
                kept.host.parse()?,
                kept.coordinator.parse()?,
                kept.enrolment.parse()?,
                kept.certificate,
                kept.ca,
            )?)
        };
        read().map_err(|source| EnrollError::Damaged { path, source })
    }

    /// Writes it, whole or not at all.
    pub(super) fn keep(&self) -> Result<(), EnrollError> {
        let path = self.folder.join(LINK);
        let kept = Kept {
            host: self.host.to_string(),
            coordinator: self.coordinator.to_string(),
            enrolment: self.enrolment.to_string(),
            certificate: self.certificate_pem.clone(),
            ca: self.ca_pem.clone(),
        };
        let failed = |source| EnrollError::File {
            doing: "writing",
            path: path.clone(),
            source,
        };
        let text = serde_json::to_string_pretty(&kept).map_err(|error| failed(error.into()))?;
        write_file(&path, text.as_bytes(), PUBLIC).map_err(failed)
    }

    /// Its name.
    #[must_use]
    pub fn host(&self) -> &HostId {
        &self.host
    }

    /// The coordinator's main gate.
    #[must_use]
    pub fn coordinator(&self) -> &Address {
        &self.coordinator
    }

    /// The coordinator's enrolment gate.
    #[must_use]
    pub fn enrolment(&self) -> &Address {
        &self.enrolment
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whom to believe.
    ///
    /// # Errors
    /// When the CAs cannot be read.
    pub fn trust(&self) -> Result<Trust, EnrollError> {
        Ok(Trust::from_pem(&self.ca_pem)?)
    }

    /// What to show.
    ///
    /// # Errors
    /// When the key cannot be read.
    pub fn credentials(&self) -> Result<Credentials, EnrollError> {
        let path = key_path(&self.folder);
        let key = std::fs::read_to_string(&path).map_err(|source| EnrollError::File {
            doing: "reading",
            path,
            source,
        })?;
        Ok(Credentials::from_pem(&self.certificate_pem, &key)?)
    }

    /// From when until when the certificate holds.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn life(&self) -> Result<Life, EnrollError> {
        Ok(Life::of_certificate(self.credentials()?.certificate())?)
    }
}

//! Where the CA and the coordinator's certificate lie: one folder.
//!
//! `ca.pem`, `ca.key` (0600), `coordinator.pem`, `coordinator.key` (0600), and
//! `also-trusted.pem`, if there: the CAs that are believed besides, while one
//! takes over from another.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::SystemTime;

use cutover_proto::tls::{Credentials, Life, PRIVATE, PUBLIC, random, write_file_of_folder};

use super::authority::{Authority, PkiError};

const CA: &str = "ca.pem";
const CA_KEY: &str = "ca.key";
const CERTIFICATE: &str = "coordinator.pem";
const KEY: &str = "coordinator.key";
const ALSO_TRUSTED: &str = "also-trusted.pem";

impl Authority {
    /// Makes a new CA and the coordinator's first certificate, and keeps them in `folder`.
    ///
    /// # Errors
    /// When there is one already, or a file cannot be written.
    pub fn init(folder: &Path, addresses: &[String], now: SystemTime) -> Result<Self, PkiError> {
        if folder.join(CA).exists() {
            return Err(PkiError::Exists(folder.to_owned()));
        }
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|source| PkiError::File {
                doing: "making the folder",
                path: folder.to_owned(),
                source,
            })?;
        // A name of its own: verifiers look for a CA by its name, and two of one name only confuse them.
        let name = format!("Cutover CA {:08x}", u32::from_be_bytes(random()?));
        let (authority, key) = Self::make(&name, now)?;
        // The certificate comes last: where it is, everything is.
        write(&folder.join(CA_KEY), key.expose(), PRIVATE)?;
        authority.issue_own(folder, addresses, now)?;
        write(&folder.join(CA), &authority.ca_pem, PUBLIC)?;
        Ok(authority)
    }

    /// The CA that is kept in `folder`.
    ///
    /// # Errors
    /// When there is none, or it is broken.
    pub fn load(folder: &Path) -> Result<Self, PkiError> {
        if !folder.join(CA).exists() {
            return Err(PkiError::Missing(folder.to_owned()));
        }
        let also = folder.join(ALSO_TRUSTED);
        let also_trusted = if also.exists() {
            read(&also)?
        } else {
            String::new()
        };
        Self::from_pem(
            read(&folder.join(CA))?,
            &read(&folder.join(CA_KEY))?,
            also_trusted,
        )
    }

    /// The coordinator's certificate from `folder`; a new one, with a new key, when its renewal is
    /// due (`chance`, 0 to 1, as in [`Life::renewal`]), when it is broken or is not there.
    /// Says besides when the next is due.
    ///
    /// # Errors
    /// When a new one cannot be made or kept.
    pub fn own(
        &self,
        folder: &Path,
        addresses: &[String],
        now: SystemTime,
        chance: f64,
    ) -> Result<(Credentials, SystemTime), PkiError> {
        if let Some(kept) = kept(folder)
            && let Ok(life) = Life::of_certificate(kept.certificate())
            && life.renewal(chance) > now
        {
            return Ok((kept, life.renewal(chance)));
        }
        let fresh = self.issue_own(folder, addresses, now)?;
        let due = Life::of_certificate(fresh.certificate())?.renewal(chance);
        Ok((fresh, due))
    }

    /// From when until when the coordinator's kept certificate holds; `None`: there is none that can
    /// be used, and a start makes one.
    #[must_use]
    pub fn own_life(folder: &Path) -> Option<Life> {
        Life::of_certificate(kept(folder)?.certificate()).ok()
    }

    /// A new certificate for the coordinator, kept in `folder`.
    ///
    /// # Errors
    /// When it cannot be made or kept.
    pub fn issue_own(
        &self,
        folder: &Path,
        addresses: &[String],
        now: SystemTime,
    ) -> Result<Credentials, PkiError> {
        let issued = self.coordinator(addresses, now)?;
        let key = issued.key_pem.as_ref().map_or("", |key| key.expose());
        // Two files cannot change at once; a pair that does not fit is found by `kept` and made anew.
        write(&folder.join(KEY), key, PRIVATE)?;
        write(&folder.join(CERTIFICATE), &issued.certificate_pem, PUBLIC)?;
        Ok(Credentials::from_pem(&issued.certificate_pem, key)?)
    }
}

fn kept(folder: &Path) -> Option<Credentials> {
    let certificate = read(&folder.join(CERTIFICATE)).ok()?;
    let kept = Credentials::from_pem(&certificate, &read(&folder.join(KEY)).ok()?).ok()?;
    kept.fits().then_some(kept)
}

fn read(path: &Path) -> Result<String, PkiError> {
    fs::read_to_string(path).map_err(|source| failed("reading", path, source))
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), PkiError> {
    write_file_of_folder(path, text.as_bytes(), mode)
        .map_err(|source| failed("writing", path, source))
}

fn failed(doing: &'static str, path: &Path, source: io::Error) -> PkiError {
    PkiError::File {
        doing,
        path: path.to_owned(),
        source,
    }
}

//! Where the CA and the coordinator's certificate lie: one folder.
//!
//! `ca.pem`, `ca.key` (0600), `coordinator.pem`, `coordinator.key` (0600), and
//! `also-trusted.pem`, if there: CAs that are believed besides, put there by hand.
//! While one CA takes over from another, the files of [`super::succession`], too.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::SystemTime;

use cutover_proto::tls::{
    Credentials, Fingerprint, Life, PRIVATE, PUBLIC, names_of_certificate, write_file_of_folder,
};

use super::authority::{Authority, PkiError};
use super::ca::Ca;
use super::succession::Cas;

pub(super) const CA: &str = "ca.pem";
pub(super) const CA_KEY: &str = "ca.key";
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
        let (ca, key) = Ca::make(now)?;
        let authority = Self::of(ca, None, "")?;
        // The certificate comes last: where it is, everything is.
        write(&folder.join(CA_KEY), key.expose(), PRIVATE)?;
        authority.issue_own(folder, addresses, now)?;
        write(&folder.join(CA), &authority.bundle_pem(), PUBLIC)?;
        Ok(authority)
    }

    /// The CA that is kept in `folder`.
    ///
    /// # Errors
    /// When there is none, or it is broken.
    pub fn load(folder: &Path) -> Result<Self, PkiError> {
        let Cas { ca, next, .. } = Cas::read(folder)?;
        let also = folder.join(ALSO_TRUSTED);
        let also_trusted = if also.exists() {
            read(&also)?
        } else {
            String::new()
        };
        Self::of(ca, next, &also_trusted)
    }

    /// The coordinator's certificate from `folder`; a new one, with a new key, when its renewal is
    /// due (`chance`, 0 to 1, as in [`Life::renewal`]), when it is broken, is not there, is another
    /// CA's, or leaves out one of `addresses`.
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
        if let Some((kept, ca)) = kept(folder)
            && ca == Some(self.fingerprint())
            && let Ok(life) = Life::of_certificate(kept.certificate())
            && life.renewal(chance) > now
            && holds_for(&kept, addresses)
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
        Life::of_certificate(kept(folder)?.0.certificate()).ok()
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

/// What is kept, and the CA in its chain.
fn kept(folder: &Path) -> Option<(Credentials, Option<Fingerprint>)> {
    let certificate = read(&folder.join(CERTIFICATE)).ok()?;
    let kept = Credentials::from_pem(&certificate, &read(&folder.join(KEY)).ok()?).ok()?;
    let ca = kept.issuer().map(Fingerprint::of);
    kept.fits().then_some((kept, ca))
}

/// Whether it is for all of these names and addresses.
fn holds_for(kept: &Credentials, addresses: &[String]) -> bool {
    let written = |address: &String| match address.parse::<IpAddr>() {
        Ok(ip) => ip.to_string(),
        Err(_) => address.clone(),
    };
    names_of_certificate(kept.certificate()).is_ok_and(|names| {
        addresses
            .iter()
            .all(|address| names.contains(&written(address)))
    })
}

pub(super) fn read(path: &Path) -> Result<String, PkiError> {
    fs::read_to_string(path).map_err(|source| failed("reading", path, source))
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), PkiError> {
    write_file_of_folder(path, text.as_bytes(), mode)
        .map_err(|source| failed("writing", path, source))
}

pub(super) fn failed(doing: &'static str, path: &Path, source: io::Error) -> PkiError {
    PkiError::File {
        doing,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_kept_until_an_address_is_added_that_it_leaves_out() {
        let folder = tempfile::tempdir().expect("a folder");
        let addresses = ["127.0.0.1", "::1", "deploy.example.com"].map(str::to_owned);
        let now = SystemTime::now();
        let authority = Authority::init(folder.path(), &addresses[..2], now).expect("a CA");
        let own = |addresses: &[String]| {
            let (own, _) = authority
                .own(folder.path(), addresses, now, 1.0)
                .expect("one");
            own.certificate().to_owned()
        };
        let first = own(&addresses[..2]);
        assert_eq!(own(&addresses[..1]), first);
        let second = own(&addresses);
        assert_ne!(second, first);
        assert_eq!(own(&addresses), second);
    }
}

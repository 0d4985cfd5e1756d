//! The revisions that this host was told of, a file each, immutable.
//!
//! A parked container that somebody pruned, or a whole host after its disk
//! survived, is made again from these. Files hold environment values and are
//! readable by root alone.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use cutover_core::spec::ServiceSpec;
use cutover_core::{RevisionNumber, ServiceId};
use cutover_proto::convert::Malformed;
use cutover_proto::v1;
use prost::Message;

/// Why a revision can't be had.
#[derive(Debug, thiserror::Error)]
pub enum RevisionError {
    /// The file system failed.
    #[error("could not {doing} revision {service}@{revision} ({})", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// Which service.
        service: ServiceId,
        /// Which revision.
        revision: RevisionNumber,
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It makes no sense to this version.
    #[error("revision {service}@{revision} makes no sense to this version of the agent")]
    Malformed {
        /// Which service.
        service: ServiceId,
        /// Which revision.
        revision: RevisionNumber,
        /// Which part.
        source: Malformed,
    },
}

/// The folder of revisions.
#[derive(Clone, Debug)]
pub struct Revisions {
    folder: PathBuf,
}

impl Revisions {
    /// Revisions below `folder`.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    fn path(&self, service: &ServiceId, revision: RevisionNumber) -> PathBuf {
        self.folder
            .join(service.app.as_str())
            .join(service.service.as_str())
            .join(format!("{revision}.pb"))
    }

    /// Keeps a revision; one that is there already is left as it is.
    ///
    /// # Errors
    /// When it is not on the disk, or makes no sense.
    pub fn keep(&self, service: &ServiceId, wire: &v1::Revision) -> Result<(), RevisionError> {
        let malformed = |source, revision| RevisionError::Malformed {
            service: service.clone(),
            revision,
            source,
        };
        let Some(revision) = RevisionNumber::new(wire.number) else {
            return Err(malformed(
                Malformed("a revision number"),
                RevisionNumber::FIRST,
            ));
        };
        parse(wire.clone()).map_err(|source| malformed(source, revision))?;
        let path = self.path(service, revision);
        if path.exists() {
            return Ok(());
        }
        write(&path, &wire.encode_to_vec()).map_err(|source| RevisionError::Io {
            doing: "keep",
            service: service.clone(),
            revision,
            path,
            source,
        })
    }

    /// A revision as it was told.
    ///
    /// # Errors
    /// When it is not here, or makes no sense.
    pub fn wire(
        &self,
        service: &ServiceId,
        revision: RevisionNumber,
    ) -> Result<v1::Revision, RevisionError> {
        let path = self.path(service, revision);
        let bytes = fs::read(&path).map_err(|source| RevisionError::Io {
            doing: "read",
            service: service.clone(),
            revision,
            path,
            source,
        })?;
        v1::Revision::decode(bytes.as_slice()).map_err(|_| {
            let source = Malformed("a revision");
            RevisionError::Malformed {
                service: service.clone(),
                revision,
                source,
            }
        })
    }

    /// What a revision is made of.
    ///
    /// # Errors
    /// When it is not here, or makes no sense.
    pub fn spec(
        &self,
        service: &ServiceId,
        revision: RevisionNumber,
    ) -> Result<ServiceSpec, RevisionError> {
        let wire = self.wire(service, revision)?;
        parse(wire).map_err(|source| RevisionError::Malformed {
            service: service.clone(),
            revision,
            source,
        })
    }
}

fn parse(wire: v1::Revision) -> Result<ServiceSpec, Malformed> {
    wire.spec.ok_or(Malformed("a service's spec"))?.try_into()
}

/// Writes a file that is there as a whole, or not at all.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path
        .parent()
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    fs::create_dir_all(folder)?;
    let draft = path.with_extension("new");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    fs::File::open(folder)?.sync_all()
}

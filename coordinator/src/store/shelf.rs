//! Where snapshots lie, and which of them are kept: `snapshots/snapshot-N`, N
//! being the commit after which it was taken; the last three.
//!
//! Keeps true: a new one is on disk before an old one goes.
//!
//! Does not know what is in them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::error::SnapshotError;
use super::files;
use super::snapshot::{self, Export};

/// How many snapshots are kept.
const KEPT: usize = 3;
const PREFIX: &str = "snapshot-";

#[derive(Clone, Debug)]
pub(super) struct Shelf(PathBuf);

/// What was found on the shelf.
#[derive(Debug)]
pub(super) struct Newest {
    pub(super) good: Option<(PathBuf, Export)>,
    /// What is wrong with those newer than it.
    pub(super) bad: Vec<SnapshotError>,
}

impl Shelf {
    pub(super) fn of(state: &Path) -> Self {
        Self(state.join("snapshots"))
    }

    /// Adds one; returns where it lies.
    pub(super) fn add(&self, export: &Export) -> Result<PathBuf, SnapshotError> {
        files::make_dir(&self.0).map_err(self.failed("make the directory"))?;
        let path = self
            .0
            .join(format!("{PREFIX}{:020}", export.header.sequence));
        export.write(&path)?;
        for (_, old) in self.list()?.into_iter().skip(KEPT) {
            match fs::remove_file(&old) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(SnapshotError::Files {
                        doing: "remove the old snapshot",
                        path: old,
                        source,
                    });
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(path)
    }

    /// The highest number that any snapshot bears, good or not.
    pub(super) fn highest(&self) -> Result<u64, SnapshotError> {
        Ok(self.list()?.first().map_or(0, |(number, _)| *number))
    }

    /// The last commit of which a snapshot tells.
    pub(super) fn last_commit(&self) -> Result<Option<u64>, SnapshotError> {
        let headers = self
            .list()?
            .into_iter()
            .filter_map(|(_, path)| snapshot::peek(&path).ok());
        Ok(headers.map(|header| header.sequence).max())
    }

    /// The newest that is whole, and what is wrong with those that are newer.
    pub(super) fn newest_good(&self) -> Result<Newest, SnapshotError> {
        let mut newest = Newest {
            good: None,
            bad: Vec::new(),
        };
        for (_, path) in self.list()? {
            match Export::read(&path) {
                Ok(export) => {
                    newest.good = Some((path, export));
                    break;
                }
                Err(error) => newest.bad.push(error),
            }
        }
        Ok(newest)
    }

    /// All, newest first.
    fn list(&self) -> Result<Vec<(u64, PathBuf)>, SnapshotError> {
        let entries = match fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(self.failed("list")(source)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let path = entry.map_err(self.failed("list"))?.path();
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            if let Some(number) = name
                .strip_prefix(PREFIX)
                .and_then(|number| number.parse().ok())
            {
                found.push((number, path));
            }
        }
        found.sort_by(|one, other| other.cmp(one));
        Ok(found)
    }

    fn failed(&self, doing: &'static str) -> impl Fn(io::Error) -> SnapshotError + use<> {
        let path = self.0.clone();
        move |source| SnapshotError::Files {
            doing,
            path: path.clone(),
            source,
        }
    }
}

//! What must be known about a store even when its database is not to be
//! trusted: two small files beside it.
//!
//! Keeps true: `epoch` never lies below an epoch that the store has used, so that
//! a store made anew begins in one that no agent has seen from this coordinator
//! (P4); its being there says that a store was once complete here. `committed`
//! never lies above the last durable commit; where it lies above what the
//! database holds, the database lost commits without noticing. It is written
//! without waiting for the disk: a power cut may leave it behind, never ahead.
//!
//! Does not know what an epoch or a commit is for.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::files;

#[derive(Clone, Debug)]
pub(super) struct EpochMark(PathBuf);

impl EpochMark {
    pub(super) fn of(state: &Path) -> Self {
        Self(state.join("epoch"))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// The epoch; none where no store was ever complete. A file that says no
    /// number counts as an epoch of 0: there was a store.
    pub(super) fn read(&self) -> io::Result<Option<u64>> {
        Ok(read(&self.0)?.map(|bytes| parse(&bytes).unwrap_or(0)))
    }

    pub(super) fn write(&self, epoch: u64) -> io::Result<()> {
        files::replace(&self.0, line(epoch).as_bytes())
    }
}

#[derive(Debug)]
pub(super) struct CommitMark(File);

impl CommitMark {
    fn path(state: &Path) -> PathBuf {
        state.join("committed")
    }

    /// The last commit noted; 0 where that is not known.
    pub(super) fn read(state: &Path) -> io::Result<u64> {
        let bytes = read(&Self::path(state))?;
        Ok(bytes.and_then(|bytes| parse(&bytes)).unwrap_or(0))
    }

    /// Opens the file, so that noting needs no more disk space.
    pub(super) fn open(state: &Path) -> io::Result<Self> {
        let path = Self::path(state);
        let mut options = OpenOptions::new();
        let file = options
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        Ok(Self(file))
    }

    pub(super) fn note(&self, commit: u64) -> io::Result<()> {
        self.0.write_all_at(line(commit).as_bytes(), 0)
    }
}

fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Always of the same length, so that one takes the place of another.
fn line(number: u64) -> String {
    let number = format!("{number:020}");
    let sum = crc32fast::hash(number.as_bytes());
    format!("{number} {sum:08x}\n")
}

fn parse(bytes: &[u8]) -> Option<u64> {
    let (number, sum) = std::str::from_utf8(bytes)
        .ok()?
        .trim_end()
        .split_once(' ')?;
    let sum = u32::from_str_radix(sum, 16).ok()?;
    (crc32fast::hash(number.as_bytes()) == sum).then(|| number.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_epoch_still_says_that_there_was_a_store() {
        let dir = tempfile::tempdir().expect("a directory");
        let mark = EpochMark::of(dir.path());
        assert_eq!(mark.read().expect("reads"), None);
        mark.write(41).expect("writes");
        assert_eq!(mark.read().expect("reads"), Some(41));
        std::fs::write(mark.path(), "47 00000000\n").expect("writes");
        assert_eq!(mark.read().expect("reads"), Some(0));
    }

    #[test]
    fn a_commit_that_was_noted_in_half_says_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(CommitMark::read(dir.path()).expect("reads"), 0);
        let mark = CommitMark::open(dir.path()).expect("opens");
        mark.note(99).expect("notes");
        mark.note(100).expect("notes");
        assert_eq!(CommitMark::read(dir.path()).expect("reads"), 100);
        mark.0
            .write_all_at(b"00000000000000000201", 0)
            .expect("writes");
        assert_eq!(CommitMark::read(dir.path()).expect("reads"), 0);
    }
}

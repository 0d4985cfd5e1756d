//! The only file that says sled: ordered bytes under ordered bytes, changed
//! many at once, and durable when [`Engine::make_durable`] says so.
//!
//! Keeps true: one `apply` is found whole or not at all after a crash; what was
//! applied before a `make_durable` survives a power cut. sled's own flush does
//! not (it ends in `sync_file_range`), hence the second handle on its file.
//! Values beyond a few KiB are kept in pieces: sled would otherwise put them
//! into files of their own, which it never syncs.
//!
//! Does not know what the bytes mean, nor who may change them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::files;

/// The largest part of a value that is kept in one piece. A leaf of sled holds
/// up to 17 of them, and must stay below 128 KiB.
const PIECE: usize = 4 * 1024;
/// The first byte of a value kept whole, and of one kept in pieces.
const WHOLE: u8 = 0;
const PIECES: u8 = 1;
/// The first byte of the keys of pieces; above every table.
const PIECE_KEYS: u8 = 0xFF;
/// How long a former handle may take to let go of a file: sled's threads drop theirs in
/// their own time and tell nobody, and a killed process' child needs a moment to die.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
const LOCK_RETRY: Duration = Duration::from_millis(20);
/// How often sled writes what it moved while tidying its file, in milliseconds.
const TIDY_EVERY_MS: u64 = 500;

/// What kind of failure it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Another process has the file.
    Locked,
    /// The files do not hold what they should.
    Damaged,
    /// The disk, its space or its permissions: the files may well be whole.
    Environment,
}

/// A failure of the database below.
#[derive(Debug, thiserror::Error)]
#[error("the database failed ({})", match trouble {
    Trouble::Locked => "its file is in use",
    Trouble::Damaged => "its files are damaged",
    Trouble::Environment => "its disk or its files cannot be used",
})]
pub struct EngineError {
    /// What kind.
    pub trouble: Trouble,
    /// What it said.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

impl EngineError {
    fn damaged(why: &'static str) -> Self {
        Self {
            trouble: Trouble::Damaged,
            source: why.into(),
        }
    }

    fn environment(error: io::Error) -> Self {
        Self {
            trouble: Trouble::Environment,
            source: error.into(),
        }
    }
}

impl From<sled::Error> for EngineError {
    fn from(error: sled::Error) -> Self {
        let trouble = match &error {
            sled::Error::Io(io) if io.to_string().contains("could not acquire lock") => {
                Trouble::Locked
            }
            sled::Error::Io(io) if is_environment(io) => Trouble::Environment,
            sled::Error::Io(_)
            | sled::Error::CollectionNotFound(_)
            | sled::Error::Unsupported(_)
            | sled::Error::ReportableBug(_)
            | sled::Error::Corruption { .. } => Trouble::Damaged,
        };
        Self {
            trouble,
            source: error.into(),
        }
    }
}

/// A file that ends early or is missing is damage; so is what sled makes up
/// itself. What the system reports is not. sled copies errors as text, so that
/// the number may be found in words only.
fn is_environment(error: &io::Error) -> bool {
    const FILES: [io::ErrorKind; 3] = [
        io::ErrorKind::UnexpectedEof,
        io::ErrorKind::NotFound,
        io::ErrorKind::InvalidData,
    ];
    const SYSTEM: [io::ErrorKind; 4] = [
        io::ErrorKind::PermissionDenied,
        io::ErrorKind::StorageFull,
        io::ErrorKind::QuotaExceeded,
        io::ErrorKind::ReadOnlyFilesystem,
    ];
    let numbered = error.raw_os_error().is_some() || error.to_string().contains("code: ");
    !FILES.contains(&error.kind()) && (numbered || SYSTEM.contains(&error.kind()))
}

/// A database, open.
#[derive(Debug)]
pub(super) struct Engine {
    db: sled::Db,
    file: File,
    blobs: PathBuf,
    file_sync: bool,
}

/// A key and its value.
pub(super) type Record = (Vec<u8>, Vec<u8>);
/// What records shall become; one without value is removed.
pub(super) type Changes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Tries again for [`LOCK_PATIENCE`] while the failure is that somebody else still holds a lock: a handle of
/// this process that is being dropped, or a child that a killed coordinator was just starting.
pub(super) fn patiently<T, E>(
    mut take: impl FnMut() -> Result<T, E>,
    is_held: impl Fn(&E) -> bool,
) -> Result<T, E> {
    let began = Instant::now();
    loop {
        match take() {
            Err(error) if is_held(&error) && began.elapsed() < LOCK_PATIENCE => {
                std::thread::sleep(LOCK_RETRY);
            }
            taken => return taken,
        }
    }
}

impl Engine {
    /// Opens the database in `dir`, or makes one. `file_sync` is off only where a
    /// test shows what is lost without it.
    pub(super) fn open(dir: &Path, cache: u64, file_sync: bool) -> Result<Self, EngineError> {
        files::make_dir(dir).map_err(EngineError::environment)?;
        let open = || {
            let config = sled::Config::new()
                .path(dir)
                .cache_capacity(cache)
                .flush_every_ms(Some(TIDY_EVERY_MS));
            config.open().map_err(EngineError::from)
        };
        let db = patiently(open, |error| error.trouble == Trouble::Locked)?;
        let file = File::options()
            .write(true)
            .open(dir.join("db"))
            .map_err(EngineError::environment)?;
        let engine = Self {
            db,
            file,
            blobs: dir.join("blobs"),
            file_sync,
        };
        if file_sync {
            engine.make_durable()?;
            files::sync_tree(dir).map_err(EngineError::environment)?;
        }
        Ok(engine)
    }

    /// The value under `key`.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        match self.db.get(key)? {
            Some(stored) => self.join(key, &stored).map(Some),
            None => Ok(None),
        }
    }

    /// What is kept between two keys, in order from either end.
    pub(super) fn range(
        &self,
        range: (Bound<Vec<u8>>, Bound<Vec<u8>>),
    ) -> impl DoubleEndedIterator<Item = Result<Record, EngineError>> + '_ {
        self.db.range(range).map(|item| {
            let (key, stored) = item?;
            let value = self.join(&key, &stored)?;
            Ok((key.to_vec(), value))
        })
    }

    /// Everything, in order.
    pub(super) fn all(&self) -> impl Iterator<Item = Result<Record, EngineError>> + '_ {
        self.range((Bound::Unbounded, Bound::Excluded(vec![PIECE_KEYS])))
    }

    /// Changes records, all or none; a key without value is removed. Not durable yet.
    pub(super) fn apply(&self, changes: &Changes) -> Result<(), EngineError> {
        let mut batch = sled::Batch::default();
        for (key, value) in changes {
            let before = match self.db.get(key)? {
                Some(stored) => pieces_of(&stored)?,
                None => 0,
            };
            let now = match value {
                None => {
                    batch.remove(key.as_slice());
                    0
                }
                Some(value) if value.len() <= PIECE => {
                    batch.insert(key.as_slice(), [&[WHOLE], value.as_slice()].concat());
                    0
                }
                Some(value) => {
                    let mut count = 0_u32;
                    for piece in value.chunks(PIECE) {
                        batch.insert(piece_key(key, count), piece);
                        count += 1;
                    }
                    batch.insert(
                        key.as_slice(),
                        [&[PIECES], count.to_be_bytes().as_slice()].concat(),
                    );
                    count
                }
            };
            for left_over in now..before {
                batch.remove(piece_key(key, left_over));
            }
        }
        Ok(self.db.apply_batch(batch)?)
    }

    /// Puts everything applied so far on disk, so that a power cut leaves it there.
    pub(super) fn make_durable(&self) -> Result<(), EngineError> {
        self.db.flush()?;
        if !self.file_sync {
            return Ok(());
        }
        // None are written, see PIECE; were it otherwise, they would be needed.
        let mut blobs = fs::read_dir(&self.blobs).map_err(EngineError::environment)?;
        if blobs.next().is_some() {
            files::sync_tree(&self.blobs).map_err(EngineError::environment)?;
        }
        self.file.sync_data().map_err(EngineError::environment)
    }

    fn join(&self, key: &[u8], stored: &[u8]) -> Result<Vec<u8>, EngineError> {
        let count = pieces_of(stored)?;
        if count == 0 {
            return Ok(stored[1..].to_vec());
        }
        let mut value = Vec::new();
        for number in 0..count {
            match self.db.get(piece_key(key, number))? {
                Some(piece) => value.extend_from_slice(&piece),
                None => return Err(EngineError::damaged("a piece of a large record is missing")),
            }
        }
        Ok(value)
    }
}

/// In how many pieces of its own a value is kept; 0 if it is whole.
fn pieces_of(stored: &[u8]) -> Result<u32, EngineError> {
    match stored {
        [WHOLE, ..] => Ok(0),
        [PIECES, count @ ..] => match count.try_into() {
            Ok(count) => Ok(u32::from_be_bytes(count)),
            Err(_) => Err(EngineError::damaged(
                "the head of a large record has the wrong size",
            )),
        },
        _ => Err(EngineError::damaged("a record begins with an unknown byte")),
    }
}

fn piece_key(key: &[u8], number: u32) -> Vec<u8> {
    [&[PIECE_KEYS], key, number.to_be_bytes().as_slice()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(key: &str, value: Option<Vec<u8>>) -> Changes {
        BTreeMap::from([(key.as_bytes().to_vec(), value)])
    }

    #[test]
    fn a_large_value_comes_back_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().expect("a directory");
        let engine = Engine::open(dir.path(), 1 << 20, true).expect("opens");
        let large: Vec<u8> = (0..300_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        engine
            .apply(&one("k", Some(large.clone())))
            .expect("applies");
        engine.make_durable().expect("durable");
        assert_eq!(engine.get(b"k").expect("reads"), Some(large));
        assert_eq!(engine.all().count(), 1);
        assert_eq!(
            fs::read_dir(dir.path().join("blobs"))
                .expect("is there")
                .count(),
            0,
            "no unsynced files"
        );
        engine
            .apply(&one("k", Some(vec![7; PIECE + 1])))
            .expect("applies");
        assert_eq!(engine.db.iter().count(), 3, "a head and two pieces");
        engine.apply(&one("k", None)).expect("applies");
        assert_eq!(engine.db.iter().count(), 0);
    }

    #[test]
    fn many_large_values_side_by_side_make_no_files_of_their_own() {
        let dir = tempfile::tempdir().expect("a directory");
        let engine = Engine::open(dir.path(), 1 << 20, true).expect("opens");
        for round in 0..3_u8 {
            for n in 0..60_u8 {
                engine
                    .apply(&one(&format!("{n:03}"), Some(vec![round; PIECE * 5])))
                    .expect("applies");
            }
            engine.make_durable().expect("durable");
            assert_eq!(
                fs::read_dir(dir.path().join("blobs"))
                    .expect("is there")
                    .count(),
                0
            );
        }
    }

    #[test]
    fn a_full_disk_is_no_damage_and_a_file_that_ends_early_is() {
        let full = EngineError::from(sled::Error::Io(io::Error::from_raw_os_error(28)));
        assert_eq!(full.trouble, Trouble::Environment);
        let short = EngineError::from(sled::Error::Io(io::ErrorKind::UnexpectedEof.into()));
        assert_eq!(short.trouble, Trouble::Damaged);
    }
}

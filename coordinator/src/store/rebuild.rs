//! A store made anew from a snapshot, a backup, or what was left of it.
//!
//! Keeps true: nothing is deleted, what was there is set aside under a name of
//! its own. The new store begins a higher epoch than any known here, and its
//! counters stand [`COUNTER_GAP`] further, so that no revision number, event
//! number or generation that was given out after the snapshot is given out a
//! second time. It remembers what it was made from. Killed at any instant, it
//! leaves the old store or the new one in place; where the file system cannot
//! exchange two names at once, it may leave none, and the next start does it again.
//!
//! Does not know whether the old store was damaged: it does as it is told.

use std::io;
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use super::batch::meta;
use super::engine::{Changes, Engine, EngineError};
use super::error::{OpenError, SnapshotError};
use super::files;
use super::key::Table;
use super::mark::CommitMark;
use super::open::Paths;
use super::schema;
use super::shelf::Newest;
use super::snapshot::Export;
use super::stage::{Stage, Standing};
use super::value::{self, Number, Recovery};

/// How far counters jump when a store is made anew: more than are given out
/// between two snapshots.
pub const COUNTER_GAP: u64 = 1000;
/// How many records are put into the new store at a time.
const PORTION: usize = 500;

/// Makes the store of `paths` anew from `export`, which came from `source`.
pub(super) fn rebuild(
    paths: &Paths,
    export: &Export,
    source: &str,
    reason: &str,
) -> Result<Recovery, OpenError> {
    if export.header.schema > schema::CURRENT {
        let (found, known) = (export.header.schema, schema::CURRENT);
        return Err(OpenError::Newer {
            path: PathBuf::from(source),
            found,
            known,
        });
    }
    let mark = paths
        .mark
        .read()
        .map_err(paths.failed("read the epoch in"))?;
    let epoch = mark.unwrap_or(0).max(export.header.epoch).saturating_add(1);
    let building = files::with_suffix(&paths.store, ".building");
    if building.exists() {
        set_aside(paths, &building)?;
    }
    let aside = paths.free_place_aside();
    let recovery = Recovery {
        recovered_from: source.to_owned(),
        reason: reason.to_owned(),
        set_aside: if paths.store.exists() {
            aside.display().to_string()
        } else {
            String::new()
        },
        epoch,
        up_to: export.header.sequence,
    };

    let noted = CommitMark::read(&paths.state).map_err(paths.failed("read the last commit in"))?;
    let standing = Standing {
        tally: value::Tally {
            sequence: paths
                .shelf
                .highest()?
                .max(export.header.sequence)
                .max(noted)
                .saturating_add(COUNTER_GAP),
            ..value::Tally::default()
        },
        ..Standing::default()
    };
    fill(&building, export, standing, &recovery).map_err(|source| OpenError::Engine {
        path: building.clone(),
        source,
    })?;

    paths
        .mark
        .write(epoch)
        .map_err(paths.failed("record the epoch in"))?;
    put_in_place(&building, &paths.store, &aside)
        .map_err(paths.failed("put the new store in place in"))?;
    tracing::warn!(
        from = recovery.recovered_from,
        reason,
        set_aside = recovery.set_aside,
        epoch,
        "the store was made anew"
    );
    Ok(recovery)
}

/// The records first, then, in one last change, what makes them a store.
fn fill(
    dir: &Path,
    export: &Export,
    standing: Standing,
    recovery: &Recovery,
) -> Result<(), EngineError> {
    let engine = Engine::open(dir, 4 << 20, true)?;
    let counters = Table::Meta.full(&meta::counters());
    let mut tally = standing.tally;
    for portion in export.records.chunks(PORTION) {
        let mut changes = Changes::new();
        for (key, value) in portion {
            let value = if key.starts_with(&counters) {
                further(value)
            } else {
                value.clone()
            };
            tally.add(key, &value);
            changes.insert(key.clone(), Some(value));
        }
        engine.apply(&changes)?;
    }
    let mut stage = Stage::new(&engine, Standing { tally, ..standing });
    stage.raise(&meta::epoch(), recovery.epoch)?;
    stage.remember(recovery)?;
    stage.seal();
    engine.apply(&stage.changes)?;
    engine.make_durable()
}

fn further(counter: &[u8]) -> Vec<u8> {
    match value::decode::<Number>(counter) {
        Ok(Number { value }) => value::encode(&Number {
            value: value.saturating_add(COUNTER_GAP),
        }),
        Err(_) => counter.to_vec(),
    }
}

/// Makes the store anew from the newest good snapshot, if there is one.
pub(super) fn from_newest(
    paths: &Paths,
    reason: &str,
) -> Result<Result<Recovery, NoSnapshot>, OpenError> {
    let Newest { good, bad } = paths.shelf.newest_good()?;
    for error in &bad {
        tracing::warn!(
            error = error as &dyn std::error::Error,
            "a snapshot is passed over"
        );
    }
    match good {
        Some((path, export)) => {
            rebuild(paths, &export, &path.display().to_string(), reason).map(Ok)
        }
        None => Ok(Err(NoSnapshot { damaged: bad })),
    }
}

/// That there is no good snapshot.
#[derive(Debug)]
pub(super) struct NoSnapshot {
    pub(super) damaged: Vec<SnapshotError>,
}

/// Gives what lies at `place` a name of its own among the damaged.
pub(super) fn set_aside(paths: &Paths, place: &Path) -> Result<PathBuf, OpenError> {
    let aside = paths.free_place_aside();
    files::rename(place, &aside).map_err(paths.failed("set an unusable store aside in"))?;
    Ok(aside)
}

/// The new store takes the place of the old one, which goes aside.
fn put_in_place(new: &Path, place: &Path, aside: &Path) -> io::Result<()> {
    if !place.exists() {
        return files::rename(new, place);
    }
    match renameat2(AT_FDCWD, new, AT_FDCWD, place, RenameFlags::RENAME_EXCHANGE) {
        Ok(()) => files::rename(new, aside),
        Err(_) => {
            files::rename(place, aside)?;
            files::rename(new, place)
        }
    }
}

//! What can go wrong with the store: what was being done, to what, why (as the
//! source), and what to do next.
//!
//! Keeps true: no message is about a cause that the source already tells.

use std::path::PathBuf;
use std::sync::Arc;

use super::engine::EngineError;
use super::key::Table;
use super::value::ValueError;

/// Why the store did not open. Nothing was changed unless the message says so.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A directory or file beside the store could not be made or read.
    #[error("cannot {doing} {}; check that the path, its owner and its disk are as they should be", path.display())]
    Files {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Another process has it.
    #[error(
        "the store in {} is in use by {}; stop that coordinator first, or give this one another --state-dir",
        path.display(),
        holder.as_deref().unwrap_or("another process, which did not say its pid")
    )]
    Locked {
        /// The state directory.
        path: PathBuf,
        /// Who, where that is known: `pid 123 (cutover-coordinator)`.
        holder: Option<String>,
    },
    /// A later program wrote it.
    #[error(
        "the store in {} has schema {found}, this program knows up to {known}; \
         start the version that wrote it or a later one, or `restore` a backup made before the upgrade",
        path.display()
    )]
    Newer {
        /// The store.
        path: PathBuf,
        /// Its schema.
        found: u32,
        /// The newest that this program knows.
        known: u32,
    },
    /// An earlier program wrote it, and there is no way from there to here.
    #[error(
        "the store in {} has schema {found}, and this program has no migration from it to {known}; \
         start a version between the two first",
        path.display()
    )]
    Older {
        /// The store.
        path: PathBuf,
        /// Its schema.
        found: u32,
        /// The schema that this program needs.
        known: u32,
    },
    /// It is damaged, and there is nothing to make it anew from, or that was forbidden.
    #[error(
        "the store in {} is damaged ({damage}) and was left as it is: {why_not}; \
         run `cutover-coordinator restore FILE` with a backup: the damaged store is kept beside it",
        path.display()
    )]
    Damaged {
        /// The store.
        path: PathBuf,
        /// What was found.
        damage: String,
        /// Why it was not rebuilt.
        why_not: String,
    },
    /// Looking at the store failed for a reason that is no damage.
    #[error("cannot look at the store in {}: {why}; nothing was set aside, repair the cause and start again", path.display())]
    Probe {
        /// The store.
        path: PathBuf,
        /// What happened.
        why: String,
    },
    /// The engine below refused.
    #[error("cannot open the store in {}; nothing was lost, repair the cause and start again", path.display())]
    Engine {
        /// The store.
        path: PathBuf,
        /// Why.
        source: EngineError,
    },
    /// One of the store's own records cannot be understood.
    #[error("cannot read the store's own record {record:?} in {}; `restore` a backup if it stays so", path.display())]
    Record {
        /// The store.
        path: PathBuf,
        /// Which.
        record: &'static str,
        /// Why.
        source: ReadError,
    },
    /// A snapshot or backup could not be written or read.
    #[error("cannot use a snapshot while opening the store")]
    Snapshot(#[from] SnapshotError),
    /// The thread that writes could not be started.
    #[error(
        "cannot start the thread that writes the store; check the limits on processes and memory"
    )]
    Thread(#[source] std::io::Error),
}

/// Why a record could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The engine below refused.
    #[error(
        "cannot read from {table:?}; restart the coordinator, which checks the whole store as it opens"
    )]
    Engine {
        /// Where.
        table: Table,
        /// Why.
        source: EngineError,
    },
    /// Found, but not understood.
    #[error("cannot understand a record of {table:?}")]
    Value {
        /// Where.
        table: Table,
        /// Why.
        source: ValueError,
    },
}

/// Why a batch did not become durable.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WriteError {
    /// An expectation was not met. Nothing was changed; read again and decide anew.
    #[error("a record of {table:?} is not as expected; nothing was written")]
    Conflict {
        /// Where.
        table: Table,
    },
    /// Only the store's own operations write there.
    #[error("{table:?} is written by the store alone; nothing was written")]
    Reserved {
        /// Where.
        table: Table,
    },
    /// A record beyond the bound.
    #[error("a record of {table:?} has {size} bytes, the most is {most}; nothing was written")]
    TooLarge {
        /// Where.
        table: Table,
        /// Its size.
        size: usize,
        /// The bound.
        most: usize,
    },
    /// Less disk is free than is held in reserve. Writing goes on by itself once there is room.
    #[error(
        "{} has {free} bytes free and {reserve} are held in reserve; nothing was written: \
         free some space, and the next write goes through",
        path.display()
    )]
    DiskFull {
        /// The store.
        path: PathBuf,
        /// What is free.
        free: u64,
        /// What must be.
        reserve: u64,
    },
    /// A write failed, this one or an earlier: the store takes no more until it is opened again.
    #[error(
        "the store in {} stopped writing after an error; whether this change was kept is known after a restart: \
         check disk space and the kernel's log, then restart the coordinator",
        path.display()
    )]
    Stopped {
        /// The store.
        path: PathBuf,
        /// The first error.
        source: Arc<StopCause>,
    },
    /// The store is being closed, or its writer came to an unplanned end.
    #[error(
        "the store takes no more writes, and did not say whether this one was kept; restart the coordinator"
    )]
    Closed,
}

/// What made the store stop writing.
#[derive(Debug, thiserror::Error)]
pub enum StopCause {
    /// The engine failed.
    #[error("cannot {doing}")]
    Engine {
        /// What was being done.
        doing: &'static str,
        /// Why.
        source: EngineError,
    },
    /// The file that remembers the epoch.
    #[error("cannot record the epoch in {}", path.display())]
    Epoch {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Why a snapshot or backup could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// A file.
    #[error("cannot {doing} {}; check free space and permissions", path.display())]
    Files {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not whole.
    #[error("{} is damaged or no snapshot: {why}; use another one", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: &'static str,
    },
    /// A later program wrote it.
    #[error("{} has format {found}, this program knows {known}; use the version that wrote it", path.display())]
    Newer {
        /// Which.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// The engine below refused.
    #[error("cannot {doing} the store's records")]
    Engine {
        /// What was being done.
        doing: &'static str,
        /// Why.
        source: EngineError,
    },
    /// The store is being closed.
    #[error("cannot copy the records out: the store is closed")]
    Closed,
}

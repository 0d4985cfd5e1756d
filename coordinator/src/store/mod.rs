//! What the coordinator remembers, durably: tables of versioned protobuf
//! messages under ordered keys.
//!
//! Operations are those of the domain, so that another engine, a replicated
//! one for instance, may take the place of sled, which only `engine.rs` names.
//!
//! What holds:
//! - [`Store::write`] answers after the change is on disk: a power cut the next
//!   instant does not take it back (P3). A batch is kept whole or not at all.
//! - Readers see durable records only, in one place and in ranges.
//! - After a failed write nothing more is written until the store is opened
//!   again; reading goes on as far as sled allows: after an error of its own it may
//!   refuse that, too, but shows nothing that is not durable. Less free space than the reserve only refuses the
//!   batch at hand.
//! - A damaged store is noticed when it opens, set aside, and made anew from the
//!   newest good snapshot, with a higher epoch.
//!
//! In the state directory: `store/` (the database), `snapshots/`, `epoch`,
//! `committed`, `store.lock`, and `store.damaged-N/` where a damaged one was set aside.
//!
//! Does not know what the messages mean, nor when a rollout is closed.

mod batch;
mod engine;
mod error;
mod examine;
mod files;
mod key;
mod lock;
mod mark;
mod open;
mod options;
mod probe;
mod rebuild;
mod resume;
mod schema;
mod shelf;
mod snapshot;
mod stage;
mod value;
mod view;
mod writer;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use prost::Message;
use tokio::sync::{Semaphore, oneshot};

use crate::owner;

pub use batch::Batch;
pub use engine::{EngineError, Trouble};
pub use error::{OpenError, ReadError, SnapshotError, StopCause, WriteError};
pub use examine::{Condition, examine};
pub use key::{Key, Parts, Table};
pub use options::Options;
pub use probe::{Probe, probe_main};
pub use rebuild::COUNTER_GAP;
pub use snapshot::Header;
pub use value::{Recovery, ValueError};
pub use writer::Durable;

use lock::Lock;
use mark::CommitMark;
use open::Paths;
use resume::Ready;
use schema::Layouts;
use shelf::Shelf;
use snapshot::Export;
use view::{Order, View};
use writer::{Ask, Queue, Request, Writer};

/// The most bytes of one record.
pub const MAX_RECORD: usize = 4 << 20;
/// How many requests may wait for the writer; more wait for a place.
const QUEUE: usize = 1024;

/// A store, and what there is to say about its opening.
#[derive(Debug)]
pub struct Opened {
    /// The store.
    pub store: Store,
    /// It was made anew, now or earlier, and nobody was told yet.
    pub recovery: Option<Recovery>,
    /// It did not exist before.
    pub created: bool,
    /// It had this older layout before.
    pub migrated_from: Option<u32>,
}

/// The open store. Clones share it; it is closed with the last of them.
#[derive(Clone, Debug)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    view: Arc<View>,
    queue: Option<Queue>,
    places: Arc<Semaphore>,
    writer: Option<JoinHandle<()>>,
    epoch: Arc<AtomicU64>,
    id: String,
    shelf: Shelf,
    /// Last, so that it falls after the writer and the database are gone.
    _lock: Lock,
}

impl Drop for Inner {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(writer) = self.writer.take() {
            // It panicked, and said so, or it is done.
            let _ = writer.join();
        }
    }
}

impl Store {
    /// Opens the store in the state directory, or makes one. Blocks.
    ///
    /// # Errors
    /// If it is in use, damaged beyond its snapshots, of a later version, or the
    /// disk does not allow it. What to do is in the message.
    pub fn open(state: &Path, options: &Options) -> Result<Opened, OpenError> {
        Self::open_layouts(state, options, Layouts::OURS)
    }

    fn open_layouts(
        state: &Path,
        options: &Options,
        layouts: Layouts,
    ) -> Result<Opened, OpenError> {
        let paths = Paths::of(state);
        let lock = paths.lock()?;
        let Ready {
            engine,
            standing,
            epoch,
            id,
            recovery,
            created,
            migrated_from,
        } = open::ready(&paths, options, layouts)?;
        let committed = CommitMark::open(state).map_err(paths.failed("note the last commit in"))?;
        let view = Arc::new(View::new(engine));
        let epoch = Arc::new(AtomicU64::new(epoch));
        let writer = Writer {
            view: Arc::clone(&view),
            standing,
            epoch: Arc::clone(&epoch),
            mark: paths.mark,
            committed,
            dir: paths.store,
            reserve: options.reserve,
            stopped: None,
        };
        let (queue, requests) = mpsc::channel();
        let thread = std::thread::Builder::new().name("store-writer".to_owned());
        let writer = thread
            .spawn(move || writer.run(&requests))
            .map_err(OpenError::Thread)?;
        let inner = Inner {
            view,
            queue: Some(queue),
            places: Arc::new(Semaphore::new(QUEUE)),
            writer: Some(writer),
            epoch,
            id,
            shelf: paths.shelf,
            _lock: lock,
        };
        Ok(Opened {
            store: Self(Arc::new(inner)),
            recovery,
            created,
            migrated_from,
        })
    }

    /// Makes the store in the state directory anew from a backup or snapshot: for
    /// `restore FILE`, with the coordinator stopped. Blocks.
    ///
    /// # Errors
    /// If the store is in use, or the file is not a whole backup that this program
    /// understands; then nothing was changed.
    pub fn restore(state: &Path, file: &Path) -> Result<Recovery, OpenError> {
        let paths = Paths::of(state);
        // As whoever asks: the file may be theirs alone.
        let export = Export::read(file)?;
        let _owner = owner::assume(state).map_err(paths.failed("act as the owner of"))?;
        let _lock = paths.lock()?;
        rebuild::rebuild(
            &paths,
            &export,
            &file.display().to_string(),
            "restored by an operator",
        )
    }

    /// The message under `key`, if there is one and it is durable.
    ///
    /// # Errors
    /// If the database fails or the record is not such a message.
    pub fn read<M: Message + Default>(
        &self,
        table: Table,
        key: &Key,
    ) -> Result<Option<M>, ReadError> {
        let found = self
            .0
            .view
            .get(&table.full(key))
            .map_err(|source| ReadError::Engine { table, source })?;
        found
            .map(|value| value::decode(&value))
            .transpose()
            .map_err(|source| ReadError::Value { table, source })
    }

    /// Up to `limit` messages whose keys begin with `prefix`, in the order of their
    /// keys, the first being `from` or what follows it.
    ///
    /// # Errors
    /// If the database fails or a record is not such a message.
    pub fn scan<M: Message + Default>(
        &self,
        table: Table,
        prefix: &Key,
        from: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<(Key, M)>, ReadError> {
        self.range(table, prefix, from, Order::Ascending, limit)
    }

    /// As [`Store::scan`], from the end backwards, the first being `from` or what
    /// lies before it.
    ///
    /// # Errors
    /// If the database fails or a record is not such a message.
    pub fn scan_back<M: Message + Default>(
        &self,
        table: Table,
        prefix: &Key,
        from: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<(Key, M)>, ReadError> {
        self.range(table, prefix, from, Order::Descending, limit)
    }

    fn range<M: Message + Default>(
        &self,
        table: Table,
        prefix: &Key,
        from: Option<&Key>,
        order: Order,
        limit: usize,
    ) -> Result<Vec<(Key, M)>, ReadError> {
        let from = from.map(|from| table.full(from));
        let found = self
            .0
            .view
            .scan(&table.full(prefix), from.as_deref(), order, limit);
        found
            .map_err(|source| ReadError::Engine { table, source })?
            .into_iter()
            .map(|(key, value)| match value::decode(&value) {
                Ok(message) => Ok((Key::from_bytes(&key[1..]), message)),
                Err(source) => Err(ReadError::Value { table, source }),
            })
            .collect()
    }

    /// Where the counter `name` stands; 0 before it was first raised.
    ///
    /// # Errors
    /// If the database fails.
    pub fn counter(&self, name: &Key) -> Result<u64, ReadError> {
        let number: Option<value::Number> = self.read(Table::Meta, &batch::meta::counter(name))?;
        Ok(number.unwrap_or_default().value)
    }

    /// Which life of the store this is.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.0.epoch.load(Ordering::Acquire)
    }

    /// What this store is called; snapshots and backups of it bear the same name.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// Writes a batch, and answers when it is on disk. Who stops waiting does not
    /// take the batch back.
    ///
    /// # Errors
    /// If an expectation is not met, the disk is nearly full, or the store stopped
    /// writing; the error says which.
    pub async fn write(&self, batch: Batch) -> Result<Durable, WriteError> {
        self.ask(|answer| Ask::Write { batch, answer })
            .await
            .unwrap_or(Err(WriteError::Closed))
    }

    /// [`Store::write`] for callers that are not async. Blocks.
    ///
    /// # Errors
    /// As [`Store::write`].
    pub fn write_blocking(&self, batch: Batch) -> Result<Durable, WriteError> {
        self.ask_blocking(|answer| Ask::Write { batch, answer })
            .unwrap_or(Err(WriteError::Closed))
    }

    /// Begins an epoch higher than this one, and at least `at_least`; durable when
    /// answered.
    ///
    /// # Errors
    /// If the disk is nearly full or the store stopped writing.
    pub async fn raise_epoch(&self, at_least: u64) -> Result<u64, WriteError> {
        self.ask(|answer| Ask::RaiseEpoch { at_least, answer })
            .await
            .unwrap_or(Err(WriteError::Closed))
    }

    /// Writes a snapshot next to the store, from which it can be made anew, and
    /// lets the oldest go. Writing waits only while the records are copied.
    ///
    /// # Errors
    /// If the disk does not allow it; the snapshots before are as they were.
    pub async fn snapshot(&self) -> Result<PathBuf, SnapshotError> {
        let export = self.export().await?;
        let shelf = self.0.shelf.clone();
        apart(move || shelf.add(&export)).await
    }

    /// Writes everything to `file`: for `backup`. Returns what is in it.
    ///
    /// # Errors
    /// If the disk does not allow it.
    pub async fn backup(&self, file: &Path) -> Result<Header, SnapshotError> {
        let export = self.export().await?;
        let file = file.to_owned();
        apart(move || export.write(&file).map(|()| export.header)).await
    }

    async fn export(&self) -> Result<Export, SnapshotError> {
        self.ask(|answer| Ask::Export { answer })
            .await
            .unwrap_or(Err(SnapshotError::Closed))
    }

    async fn ask<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Option<T> {
        let place = Arc::clone(&self.0.places).acquire_owned().await.ok()?;
        let (answer, answered) = oneshot::channel();
        self.0
            .queue
            .as_ref()?
            .send(Request {
                ask: ask(answer),
                _permit: Some(place),
            })
            .ok()?;
        answered.await.ok()
    }

    fn ask_blocking<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        self.0
            .queue
            .as_ref()?
            .send(Request {
                ask: ask(answer),
                _permit: None,
            })
            .ok()?;
        answered.blocking_recv().ok()
    }
}

/// Waits for slow work on files without holding up other tasks.
async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SnapshotError> + Send + 'static,
) -> Result<T, SnapshotError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        // The runtime ends; a bug in `work` has been reported by its own panic.
        Err(_) => Err(SnapshotError::Closed),
    }
}

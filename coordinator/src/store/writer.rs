//! The one write path: one thread takes what waits, applies it as one change,
//! makes it durable, and only then answers everybody (P3).
//!
//! Keeps true: an answer `Durable` means that a power cut the next instant takes
//! nothing of the batch back. After the first error of the engine or the disk
//! nothing is written any more until the store is opened again: a failed sync
//! may have dropped pages that a later, successful one does not bring back, so
//! only reading the disk anew tells what is there. Too little free space is
//! noticed before anything is written, and stops nothing for good.
//!
//! Does not know what is written, nor who asks.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::sync::{Arc, atomic::AtomicU64, atomic::Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::batch::{Batch, meta};
use super::engine::EngineError;
use super::error::{SnapshotError, StopCause, WriteError};
use super::mark::{CommitMark, EpochMark};
use super::snapshot::Export;
use super::stage::{Refusal, Stage, Standing};
use super::view::View;

/// The most requests that are made durable together.
const MAX_GROUP: usize = 128;
/// After the last write, how long until what the engine moved meanwhile is made durable too.
const SETTLE: Duration = Duration::from_millis(750);

/// That a change is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Durable {
    /// Which commit of the store it was; rises by one each.
    pub sequence: u64,
}

/// What the writer is asked. The permit keeps the queue within its bound, and
/// goes back when the answer goes out.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) ask: Ask,
    pub(super) _permit: Option<OwnedSemaphorePermit>,
}

#[derive(Debug)]
pub(super) enum Ask {
    Write {
        batch: Batch,
        answer: oneshot::Sender<Result<Durable, WriteError>>,
    },
    RaiseEpoch {
        at_least: u64,
        answer: oneshot::Sender<Result<u64, WriteError>>,
    },
    Export {
        answer: oneshot::Sender<Result<Export, SnapshotError>>,
    },
}

pub(super) type Queue = Sender<Request>;

/// The writer's side of the store.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) view: Arc<View>,
    pub(super) standing: Standing,
    pub(super) epoch: Arc<AtomicU64>,
    pub(super) mark: EpochMark,
    pub(super) committed: CommitMark,
    pub(super) dir: PathBuf,
    pub(super) reserve: u64,
    pub(super) stopped: Option<Arc<StopCause>>,
}

impl Writer {
    /// Serves until every sender is gone.
    pub(super) fn run(mut self, queue: &Receiver<Request>) {
        let mut unsettled = false;
        loop {
            let first = if unsettled {
                match queue.recv_timeout(SETTLE) {
                    Ok(first) => first,
                    Err(RecvTimeoutError::Timeout) => {
                        unsettled = false;
                        self.settle();
                        continue;
                    }
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            } else {
                match queue.recv() {
                    Ok(first) => first,
                    Err(_) => return,
                }
            };
            let mut group = vec![first];
            while group.len() < MAX_GROUP {
                match queue.try_recv() {
                    Ok(next) => group.push(next),
                    Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
                }
            }
            self.serve(group);
            unsettled = self.stopped.is_none();
        }
    }

    /// Writes of one group together; the rare others one by one, in their turn.
    fn serve(&mut self, group: Vec<Request>) {
        let mut writes = Vec::new();
        for Request { ask, _permit } in group {
            match ask {
                Ask::Write { batch, answer } => writes.push((batch, answer, _permit)),
                Ask::RaiseEpoch { at_least, answer } => {
                    self.write(std::mem::take(&mut writes));
                    // Whoever asked may be gone; the epoch stands all the same.
                    let _ = answer.send(self.raise_epoch(at_least));
                }
                Ask::Export { answer } => {
                    self.write(std::mem::take(&mut writes));
                    let _ =
                        answer.send(Export::take(&self.view, self.standing.tally, self.epoch()));
                }
            }
        }
        self.write(writes);
    }

    fn write(&mut self, writes: Vec<Waiting>) {
        if writes.is_empty() {
            return;
        }
        let mut answers = Vec::with_capacity(writes.len());
        let mut failed = self.may_write().err();
        let view = Arc::clone(&self.view);
        let mut stage = Stage::new(&view.engine, self.standing.clone());
        for (batch, answer, permit) in writes {
            let outcome = match &failed {
                Some(error) => Err(error.clone()),
                None => match stage.admit(batch) {
                    Ok(sequence) => Ok(Durable { sequence }),
                    Err(Refusal::Batch(why)) => Err(why),
                    Err(Refusal::Engine(source)) => {
                        let error = self.stop(StopCause::Engine {
                            doing: "read before a write",
                            source,
                        });
                        failed = Some(error.clone());
                        Err(error)
                    }
                },
            };
            answers.push((answer, outcome, permit));
        }
        if failed.is_none() {
            failed = self.commit(stage).err();
        }
        for (answer, outcome, _permit) in answers {
            let outcome = match &failed {
                Some(error) => Err(error.clone()),
                None => outcome,
            };
            // Whoever asked may have stopped waiting; what was written stays.
            let _ = answer.send(outcome);
        }
    }

    fn commit(&mut self, stage: Stage<'_>) -> Result<(), WriteError> {
        let Stage {
            changes,
            former,
            standing,
            ..
        } = stage;
        if changes.is_empty() {
            return Ok(());
        }
        let stop = |doing| move |source: EngineError| StopCause::Engine { doing, source };
        self.view
            .apply(&changes, former)
            .map_err(stop("apply a change"))
            .and_then(|()| {
                self.view
                    .engine
                    .make_durable()
                    .map_err(stop("put a change on disk"))
            })
            .map_err(|cause| self.stop(cause))?;
        self.standing = standing;
        self.view.uncover();
        if let Err(error) = self.committed.note(self.standing.tally.sequence) {
            // It only helps to notice damage later.
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "cannot note the last commit"
            );
        }
        Ok(())
    }

    /// The file first: were the power cut between the two, the store follows it
    /// when it opens.
    fn raise_epoch(&mut self, at_least: u64) -> Result<u64, WriteError> {
        self.may_write()?;
        let epoch = at_least.max(self.epoch().saturating_add(1));
        if let Err(source) = self.mark.write(epoch) {
            return Err(self.stop(StopCause::Epoch {
                path: self.mark.path().to_owned(),
                source,
            }));
        }
        let view = Arc::clone(&self.view);
        let mut stage = Stage::new(&view.engine, self.standing.clone());
        if let Err(source) = stage.raise(&meta::epoch(), epoch) {
            return Err(self.stop(StopCause::Engine {
                doing: "read before a write",
                source,
            }));
        }
        stage.standing.tally.sequence += 1;
        stage.seal();
        self.commit(stage)?;
        self.epoch.store(epoch, Ordering::Release);
        Ok(epoch)
    }

    fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Whether writing goes on, and there is room.
    fn may_write(&self) -> Result<(), WriteError> {
        if let Some(cause) = &self.stopped {
            return Err(WriteError::Stopped {
                path: self.dir.clone(),
                source: Arc::clone(cause),
            });
        }
        // A file system that cannot say how much is free will say so when written to.
        let Ok(disk) = nix::sys::statvfs::statvfs(&self.dir) else {
            return Ok(());
        };
        let free = disk.blocks_available().saturating_mul(disk.fragment_size());
        if free < self.reserve {
            return Err(WriteError::DiskFull {
                path: self.dir.clone(),
                free,
                reserve: self.reserve,
            });
        }
        Ok(())
    }

    /// The engine moves old records while it tidies up; those must not be less
    /// durable than they were.
    fn settle(&mut self) {
        if self.stopped.is_none()
            && let Err(source) = self.view.engine.make_durable()
        {
            self.stop(StopCause::Engine {
                doing: "put moved records on disk",
                source,
            });
        }
    }

    fn stop(&mut self, cause: StopCause) -> WriteError {
        tracing::error!(
            error = &cause as &dyn std::error::Error,
            "the store stopped writing"
        );
        let cause = Arc::clone(self.stopped.insert(Arc::new(cause)));
        WriteError::Stopped {
            path: self.dir.clone(),
            source: cause,
        }
    }
}

type Waiting = (
    Batch,
    oneshot::Sender<Result<Durable, WriteError>>,
    Option<OwnedSemaphorePermit>,
);

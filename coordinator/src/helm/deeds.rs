//! What one turn of the loop leads to: first what is stored, then what is said.
//!
//! Keeps true (P3): nothing of `after` happens before the batch is durable; and
//! this is the only place where the loop's answers and orders come from.

use std::collections::{BTreeMap, BTreeSet};

use cutover_core::{HostId, Moment, ServiceId};
use cutover_proto::v1;
use prost::Message;

use super::wake::{Refusal, Reply};
use crate::store::{Batch, Key, Table};

/// One turn: when it is, what is to be stored, and what follows.
pub(super) struct Deeds {
    pub(super) now: Moment,
    pub(super) unix_millis: i64,
    pub(super) batch: Batch,
    pub(super) writes: usize,
    pub(super) events: u64,
    after: Vec<Box<dyn FnOnce() + Send>>,
    /// Rollouts whose view or orders may have changed.
    pub(super) touched: BTreeSet<u64>,
    /// Where something arrived or was ordered outside of any rollout.
    pub(super) strays: BTreeSet<(HostId, ServiceId)>,
    /// A rollout closed: a snapshot is due.
    pub(super) snapshot: bool,
    /// What this turn answers to requests that change something, by their ids.
    pub(super) answers: BTreeMap<String, v1::DeployResponse>,
}

impl Deeds {
    pub(super) fn new(now: Moment, unix_millis: i64) -> Self {
        Self {
            now,
            unix_millis,
            batch: Batch::new(),
            writes: 0,
            events: 0,
            after: Vec::new(),
            touched: BTreeSet::new(),
            strays: BTreeSet::new(),
            snapshot: false,
            answers: BTreeMap::new(),
        }
    }

    pub(super) fn put<M: Message>(&mut self, table: Table, key: Key, message: &M) {
        self.change(|batch| batch.put(table, key, message));
    }

    pub(super) fn change(&mut self, change: impl FnOnce(Batch) -> Batch) {
        self.batch = change(std::mem::take(&mut self.batch));
        self.writes += 1;
    }

    /// Appends what people read in `cutover events`.
    pub(super) fn event(&mut self, mut event: v1::EventRecord) {
        event.unix_millis = self.unix_millis;
        if event.level.is_empty() {
            "info".clone_into(&mut event.level);
        }
        tracing::info!(
            kind = event.kind,
            event_service = event.service,
            host = event.host,
            rollout = event.rollout,
            "{}",
            event.text
        );
        self.events += 1;
        self.change(|batch| batch.event(&event));
    }

    /// Does this once the batch is durable.
    pub(super) fn after(&mut self, act: impl FnOnce() + Send + 'static) {
        self.after.push(Box::new(act));
    }

    /// Answers once the batch is durable.
    pub(super) fn answer<T: Send + 'static>(
        &mut self,
        reply: Reply<T>,
        answer: Result<T, Refusal>,
    ) {
        self.after(move || drop(reply.send(answer))); // who stopped waiting need not be told
    }

    pub(super) fn done(self) -> Vec<Box<dyn FnOnce() + Send>> {
        self.after
    }
}

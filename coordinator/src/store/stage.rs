//! The changes of one group of batches, put together before anything is written.
//!
//! Keeps true: batches see what those before them in the group changed; one that
//! is refused leaves no trace; the tally always matches the records.
//!
//! Does not know the disk: it reads through the engine and writes nothing.

use std::collections::VecDeque;
use std::ops::Bound;

use super::batch::{Batch, Change, Expectation, meta};
use super::engine::{Changes, Engine, EngineError};
use super::key::{Key, Table, after_prefix};
use super::value::{self, Number, Recovery, Tally};
use super::{MAX_RECORD, WriteError};

/// What the writer knows about the durable store without reading it.
#[derive(Clone, Debug, Default)]
pub(super) struct Standing {
    pub(super) tally: Tally,
    /// The numbers of the events that are kept, oldest first.
    pub(super) events: VecDeque<u64>,
    pub(super) last_event: u64,
    pub(super) events_kept: usize,
}

/// Changes on top of a standing.
#[derive(Debug)]
pub(super) struct Stage<'a> {
    engine: &'a Engine,
    pub(super) standing: Standing,
    pub(super) changes: Changes,
    /// What each changed record was before.
    pub(super) former: Changes,
}

/// Why a batch did not get onto the stage.
#[derive(Debug)]
pub(super) enum Refusal {
    /// This batch alone, for this reason.
    Batch(WriteError),
    /// The engine failed; nobody can go on.
    Engine(EngineError),
}

impl From<EngineError> for Refusal {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

impl<'a> Stage<'a> {
    pub(super) fn new(engine: &'a Engine, standing: Standing) -> Self {
        Self {
            engine,
            standing,
            changes: Changes::new(),
            former: Changes::new(),
        }
    }

    /// Adds a whole batch, or nothing of it.
    pub(super) fn admit(&mut self, batch: Batch) -> Result<u64, Refusal> {
        for Expectation { table, key, value } in &batch.expectations {
            if self.get(&table.full(key))? != *value {
                return Err(Refusal::Batch(WriteError::Conflict { table: *table }));
            }
        }
        batch
            .changes
            .iter()
            .try_for_each(permitted)
            .map_err(Refusal::Batch)?;
        for change in batch.changes {
            match change {
                Change::Put { table, key, value } => self.set(table.full(&key), Some(value))?,
                Change::Remove { table, key } => self.set(table.full(&key), None)?,
                Change::RemoveAll { table, prefix } => self.remove_all(&table.full(&prefix))?,
                Change::Event { value } => self.append_event(value)?,
                Change::RaiseCounter { name, to } => self.raise(&meta::counter(&name), to)?,
                Change::RecoveryTold => self.set(Table::Meta.full(&meta::recovery()), None)?,
            }
        }
        self.standing.tally.sequence += 1;
        self.seal();
        Ok(self.standing.tally.sequence)
    }

    /// Changes one record, and the tally with it.
    pub(super) fn set(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) -> Result<(), EngineError> {
        let before = self.get(&key)?;
        if let Some(before) = &before {
            self.standing.tally.remove(&key, before);
        }
        if let Some(value) = &value {
            self.standing.tally.add(&key, value);
        }
        self.former.entry(key.clone()).or_insert(before);
        self.changes.insert(key, value);
        Ok(())
    }

    /// Raises a number of the store's own to at least `to`.
    pub(super) fn raise(&mut self, key: &Key, to: u64) -> Result<(), EngineError> {
        let key = Table::Meta.full(key);
        if to > self.number(&key)? {
            self.set(key, Some(value::encode(&Number { value: to })))?;
        }
        Ok(())
    }

    /// Keeps that the store was made anew.
    pub(super) fn remember(&mut self, recovery: &Recovery) -> Result<(), EngineError> {
        let (key, value) = meta::recovery_entry(recovery);
        self.set(key, Some(value))
    }

    /// Puts the tally among the changes. It counts everything but itself.
    pub(super) fn seal(&mut self) {
        let (key, value) = meta::entry(&meta::tally(), &self.standing.tally);
        self.changes.insert(key, Some(value));
    }

    fn number(&self, key: &[u8]) -> Result<u64, EngineError> {
        let value = self.get(key)?;
        Ok(value
            .and_then(|value| value::decode::<Number>(&value).ok())
            .map_or(0, |number| number.value))
    }

    fn append_event(&mut self, value: Vec<u8>) -> Result<(), EngineError> {
        let number = self.standing.last_event + 1;
        self.raise(&meta::last_event(), number)?;
        self.set(Table::Events.full(&Key::at(number)), Some(value))?;
        self.standing.last_event = number;
        self.standing.events.push_back(number);
        while self.standing.events.len() > self.standing.events_kept {
            if let Some(oldest) = self.standing.events.pop_front() {
                self.set(Table::Events.full(&Key::at(oldest)), None)?;
            }
        }
        Ok(())
    }

    fn remove_all(&mut self, prefix: &[u8]) -> Result<(), EngineError> {
        let end = after_prefix(prefix).map_or(Bound::Unbounded, Bound::Excluded);
        let range = (Bound::Included(prefix.to_vec()), end);
        let mut keys: Vec<Vec<u8>> = self
            .changes
            .range(range.clone())
            .map(|(key, _)| key.clone())
            .collect();
        for found in self.engine.range(range) {
            keys.push(found?.0);
        }
        keys.into_iter().try_for_each(|key| self.set(key, None))
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, EngineError> {
        match self.changes.get(key) {
            Some(value) => Ok(value.clone()),
            None => self.engine.get(key),
        }
    }
}

fn permitted(change: &Change) -> Result<(), WriteError> {
    let (table, size) = match change {
        Change::Put { table, value, .. } => (*table, value.len()),
        Change::Remove { table, .. } | Change::RemoveAll { table, .. } => (*table, 0),
        Change::Event { value } if value.len() > MAX_RECORD => (Table::Events, value.len()),
        Change::Event { .. } | Change::RaiseCounter { .. } | Change::RecoveryTold => return Ok(()),
    };
    if size > MAX_RECORD {
        return Err(WriteError::TooLarge {
            table,
            size,
            most: MAX_RECORD,
        });
    }
    if table.is_reserved() {
        return Err(WriteError::Reserved { table });
    }
    Ok(())
}

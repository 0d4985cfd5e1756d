//! A database that was found whole becomes one that may be served: its first
//! commit, its migrations, and the epoch that it goes on in.
//!
//! Keeps true: each step is one durable commit, in an order in which any of them
//! may be the last before a crash.
//!
//! Does not know damage: that was looked for before.

use std::collections::VecDeque;
use std::io;
use std::ops::Bound;

use prost::Message;

use super::Options;
use super::batch::meta;
use super::engine::{Engine, EngineError};
use super::error::{OpenError, ReadError};
use super::key::{Key, Table};
use super::open::Paths;
use super::schema::Layouts;
use super::snapshot::Export;
use super::stage::{Stage, Standing};
use super::value::{self, Identity, Number, Recovery, Schema, Tally};

/// A database that may be served.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) engine: Engine,
    pub(super) standing: Standing,
    pub(super) epoch: u64,
    pub(super) id: String,
    pub(super) recovery: Option<Recovery>,
    pub(super) created: bool,
    pub(super) migrated_from: Option<u32>,
}

/// An engine whose own records are being read.
#[derive(Debug)]
pub(super) struct Own<'a> {
    pub(super) paths: &'a Paths,
    pub(super) engine: Engine,
}

impl Own<'_> {
    pub(super) fn read<M: Message + Default>(
        &self,
        record: &'static str,
        key: &Key,
    ) -> Result<Option<M>, OpenError> {
        let table = Table::Meta;
        let path = || self.paths.store.clone();
        let found = self
            .engine
            .get(&table.full(key))
            .map_err(|source| self.failed(source))?;
        let Some(value) = found else { return Ok(None) };
        value::decode(&value)
            .map(Some)
            .map_err(|source| OpenError::Record {
                path: path(),
                record,
                source: ReadError::Value { table, source },
            })
    }

    fn failed(&self, source: EngineError) -> OpenError {
        OpenError::Engine {
            path: self.paths.store.clone(),
            source,
        }
    }

    fn commit(&self, mut stage: Stage<'_>) -> Result<Standing, OpenError> {
        stage.standing.tally.sequence += 1;
        stage.seal();
        self.engine
            .apply(&stage.changes)
            .map_err(|source| self.failed(source))?;
        self.engine
            .make_durable()
            .map_err(|source| self.failed(source))?;
        Ok(stage.standing)
    }

    /// The first commit makes a store of it; the mark then says that it is complete.
    pub(super) fn create(self, options: &Options, layouts: Layouts) -> Result<Ready, OpenError> {
        let id = new_id().map_err(self.paths.failed("make an id for the store in"))?;
        let epoch = 1;
        let mut stage = Stage::new(
            &self.engine,
            Standing {
                events_kept: options.events_kept,
                ..Standing::default()
            },
        );
        let records = [
            meta::entry(
                &meta::schema(),
                &Schema {
                    version: layouts.current,
                },
            ),
            meta::entry(&meta::identity(), &Identity { id: id.clone() }),
            meta::entry(&meta::epoch(), &Number { value: epoch }),
        ];
        for (key, value) in records {
            stage
                .set(key, Some(value))
                .map_err(|source| self.failed(source))?;
        }
        let standing = self.commit(stage)?;
        self.paths
            .mark
            .write(epoch)
            .map_err(self.paths.failed("record the epoch in"))?;
        Ok(Ready {
            engine: self.engine,
            standing,
            epoch,
            id,
            recovery: None,
            created: true,
            migrated_from: None,
        })
    }

    pub(super) fn resume(
        self,
        options: &Options,
        layouts: Layouts,
        mark: Option<u64>,
        version: u32,
        tally: Tally,
    ) -> Result<Ready, OpenError> {
        let Identity { id } = self.read("id", &meta::identity())?.unwrap_or_default();
        let Number { value: known } = self.read("epoch", &meta::epoch())?.unwrap_or_default();
        let Number { value: last_event } = self
            .read("event counter", &meta::last_event())?
            .unwrap_or_default();
        let mut standing = Standing {
            tally,
            events: self.events()?,
            last_event,
            events_kept: options.events_kept.max(1),
        };
        standing = self.migrate(standing, layouts, version, known)?;

        // A mark that is ahead is a raise that was cut short; one behind is damaged.
        let epoch = known.max(mark.unwrap_or(0));
        if known < epoch {
            let mut stage = Stage::new(&self.engine, standing);
            stage
                .raise(&meta::epoch(), epoch)
                .map_err(|source| self.failed(source))?;
            standing = self.commit(stage)?;
        }
        if mark != Some(epoch) {
            self.paths
                .mark
                .write(epoch)
                .map_err(self.paths.failed("record the epoch in"))?;
        }
        let recovery = self.read("recovery", &meta::recovery())?;
        let migrated_from = (version < layouts.current).then_some(version);
        Ok(Ready {
            engine: self.engine,
            standing,
            epoch,
            id,
            recovery,
            created: false,
            migrated_from,
        })
    }

    fn events(&self) -> Result<VecDeque<u64>, OpenError> {
        let first = Bound::Included(vec![Table::Events as u8]);
        let last = Bound::Excluded(vec![Table::Events as u8 + 1]);
        self.engine
            .range((first, last))
            .filter_map(|found| match found {
                Ok((key, _)) => Key::from_bytes(&key[1..]).parts().number().map(Ok),
                Err(source) => Some(Err(self.failed(source))),
            })
            .collect()
    }

    /// Step by step up to the current layout, after a snapshot of the old one.
    fn migrate(
        &self,
        mut standing: Standing,
        layouts: Layouts,
        version: u32,
        epoch: u64,
    ) -> Result<Standing, OpenError> {
        for version in version..layouts.current {
            let Some(step) = layouts.step_from(version) else {
                let (path, known) = (self.paths.store.clone(), layouts.current);
                return Err(OpenError::Older {
                    path,
                    found: version,
                    known,
                });
            };
            tracing::info!(from = version, what = step.what, "migrating the store");
            let export = Export::of_engine(&self.engine, standing.tally, epoch)?;
            self.paths.shelf.add(&export)?;
            let mut stage = Stage::new(&self.engine, standing);
            let schema = meta::entry(
                &meta::schema(),
                &Schema {
                    version: version + 1,
                },
            );
            let changes = (step.plan)(&export.records).into_iter();
            for (key, value) in changes.chain([(schema.0, Some(schema.1))]) {
                stage
                    .set(key, value)
                    .map_err(|source| self.failed(source))?;
            }
            standing = self.commit(stage)?;
        }
        Ok(standing)
    }
}

/// The one thing that the store draws by itself: a name for a store that is new.
fn new_id() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/uuid")?
        .trim()
        .to_owned())
}
